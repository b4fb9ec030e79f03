"""Plot what only the notebook on balance shows: group sizes, joint entropies, errors of weighted scores, scores."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.figures.rankings import set_names
from helpers.figures.style import look, size


def group_sizes(sets: Mapping[str, pd.Series], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """One table a set: images of each group as numbers, coloured by how many times the equal share they are.

    Args:
        sets: title -> images by group; the first label of a group gives its line, the others its column.
        rows: the first labels, top to bottom.
        columns: the others, left to right.
    """
    fig, axes = plt.subplots(
        1, len(sets), figsize=size(2, 0.36), width_ratios=[1.18, *[1] * (len(sets) - 1)], layout="constrained"
    )
    for ax, (title, counts) in zip(axes, sets.items(), strict=True):
        table = counts.to_numpy().reshape(len(rows), len(columns))
        shares = np.log2(np.maximum(table, 0.5) * table.size / table.sum())
        image = ax.imshow(shares, cmap="vlag", vmin=-4, vmax=4, aspect="auto")
        for (y, x), strength in np.ndenumerate(shares):
            ax.text(
                x, y, table[y, x], ha="center", va="center", fontsize=7, color="white" if abs(strength) > 2.4 else "k"
            )
        ax.set_xticks(range(len(columns)), columns, rotation=90)
        ax.set_yticks(range(len(rows)), rows if ax is axes[0] else [""] * len(rows))
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(title)
    bar = fig.colorbar(image, ax=axes, ticks=[-4, -2, 0, 2, 4], pad=0.01, label="times the equal share")
    bar.set_ticklabels(["1/16", "1/4", "1", "4", "16"])
    return fig


def entropies(ax: Axes, runs: pd.DataFrame, *, bound: float, whole: float) -> None:
    """Joint entropies of repeated selections: a dot a run, the mean beside the frame.

    Args:
        ax: where to draw.
        runs: columns method and bits, a line a run.
        bound: log2 of the groups, a solid line.
        whole: of everybody, a dashed line.
    """
    by_method = runs.groupby("method", sort=False).bits
    for place, (_, bits) in enumerate(by_method):
        ax.plot(bits, np.full(len(bits), place), "o", color="C0", markersize=3, alpha=0.4, markeredgewidth=0)
        ax.text(1.02, place, f"{bits.mean():.4f}", transform=ax.get_yaxis_transform(), va="center", fontsize=7)
    ax.axvline(bound, color="C3", lw=0.8)
    ax.axvline(whole, color="0.4", lw=0.8, ls="--")
    set_names(ax, list(by_method.groups))
    ax.set_xlabel("joint entropy (bits)\nsolid: the bound; dashed: everybody")


def errors(ax: Axes, simulated: pd.DataFrame) -> None:
    """Errors of a score over repeats: the mean, the middle 95 %, and the coverage of its interval beside the frame.

    Args:
        ax: where to draw.
        simulated: columns images, how, error, covers, a line a repeat.
    """
    parts = simulated.groupby(["images", "how"], sort=False)
    for place, ((_, how), part) in enumerate(parts):
        style = {"color": "C0", "marker": "o"} if how == "by group" else {"color": "C1", "marker": "s"}
        ax.plot(1000 * part.error.quantile([0.025, 0.975]), [place, place], **style | {"marker": ""})
        ax.plot(1000 * part.error.mean(), place, **style)
        ax.text(1.02, place, f"{part.covers.mean():.0%}", transform=ax.get_yaxis_transform(), va="center", fontsize=7)
    ax.axvline(0, color="0.4", lw=0.8)
    set_names(ax, [f"{images}, {how}" for images, how in parts.groups])
    ax.set_xlabel("error of S in thousandths, 95 % of the repeats\nat the right: coverage of the 95 % interval")


def standard_errors(ax: Axes, sizes: np.ndarray, curves: Mapping[str, np.ndarray], points: Sequence[tuple]) -> None:
    """Standard error of a score of groups against the number of images, both on log axes.

    Args:
        ax: where to draw.
        sizes: numbers of images.
        curves: label -> standard errors at these sizes in units of s; infinite where a group has no image: left out.
        points: number of images, standard error, marker, label: selections that exist.
    """
    for (label, error), style in zip(curves.items(), ("-", "--"), strict=True):
        ax.loglog(sizes, np.where(np.isfinite(error), error, np.nan), style, label=label)
    for number, (n, error, marker, label) in enumerate(points):
        ax.plot(n, error, marker, color=f"C{2 * number}", label=label)
    ax.minorticks_off()
    ax.set_ylabel("standard error of S (units of s)\nlower is better")
    ax.legend(fontsize=7, loc="lower left", frameon=False, handlelength=1.4)


def levels(ax: Axes, tables: Mapping[str, pd.DataFrame], condition: str) -> None:
    """Scores of one condition by group with 95 % intervals, label by label.

    Args:
        ax: where to draw.
        tables: label -> table of `strata.group_scores`.
        condition: whose scores.
    """
    names, place = [], 0
    for number, table in enumerate(tables.values()):
        for line in table[table.condition == condition].itertuples():
            ax.plot([line.low, line.high], [place, place], color=f"C{number}")
            ax.plot(line.mean, place, "o", color=f"C{number}")
            names.append(f"{line.group} ({line.n})")
            place += 1
    set_names(ax, names)


def two_weightings(ax: Axes, one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Scores under two weightings of the same images: filled and hollow, best of the first on top.

    Args:
        ax: where to draw.
        one, other: tables of `strata.poststratify`.
    """
    order = one.sort_values("score").condition
    for shift, table, hollow in ((-0.14, one, False), (0.14, other, True)):
        for place, name in enumerate(order):
            line, style = table.set_index("condition").loc[name], look(name)
            ax.plot([line.low, line.high], [place + shift] * 2, color=style["color"], alpha=0.5 if hollow else 1)
            ax.plot(line.score, place + shift, **style, ls="none", **({"markerfacecolor": "white"} if hollow else {}))
    set_names(ax, order)
