"""Plot scores, paired differences, ranks and degradation curves."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from helpers.figures.style import LEVELS, STRENGTHS, look, metric_label, shorten
from helpers.stats import rankings
from helpers.stats.tables import format_p


def plot_ranking(
    ax: Axes, scores_table: pd.DataFrame, paired_table: pd.DataFrame | None = None, alpha: float = 0.05
) -> None:
    """Plot scores as dots with 95 % intervals, the best on top, the value beside each.

    Args:
        ax: where to draw.
        scores_table: of `rankings.scores`.
        paired_table: of `rankings.paired`. All pairs: bars on the right join neighbours between which no
            difference was shown. Against a baseline: a hollow dot shows none to the baseline.
        alpha: level for the Holm-adjusted p.
    """
    table = scores_table.sort_values("rank", kind="stable")
    names, places = list(table.iloc[:, 0]), np.arange(len(table))
    apart = {}
    if paired_table is not None:
        apart = {frozenset(pair): p < alpha for *pair, p in paired_table[["f", "g", "p_holm"]].to_numpy()}
    all_pairs = len(apart) == len(names) * (len(names) - 1) // 2 > len(names) - 1
    baseline = paired_table.g.iloc[0] if apart and not all_pairs else None
    for place, name, line in zip(places, names, table.itertuples(), strict=True):
        hollow = baseline is not None and name != baseline and not apart.get(frozenset((name, baseline)), False)
        _dot(ax, name, line.mean, line.low, line.high, place, hollow)
    lanes = _lanes(_groups(names, apart)) if all_pairs else []
    to_axes = ax.get_yaxis_transform()
    for lane, (first, last) in ((k, run) for k, runs in enumerate(lanes) for run in runs):
        x = 1.02 + 0.025 * lane
        ax.plot([x, x], [first - 0.25, last + 0.25], color="0.35", lw=1.6, transform=to_axes, clip_on=False)
    for place, mean in zip(places, table["mean"], strict=True):
        _beside(ax, 1.03 + 0.025 * len(lanes), place, f"{mean:.3f}")
    what = [f"IDA-RD, {metric_label(table)}, {_direction(table)} is better", _interval(table)]
    if lanes:
        what.append(f"bars: Holm p \N{GREATER-THAN OR EQUAL TO} {alpha:g} for each pair")
    elif baseline is not None:
        what.append(f"hollow: Holm p \N{GREATER-THAN OR EQUAL TO} {alpha:g} against {shorten(baseline, 12)}")
    ax.set_xlabel("\n".join(what))
    _rows(ax, names)


def plot_paired(ax: Axes, paired_table: pd.DataFrame, alpha: float = 0.05) -> None:
    """Plot paired differences with 95 % intervals (a forest plot); a hollow dot means that no difference was shown.

    Args:
        ax: where to draw.
        paired_table: of `rankings.paired`, best read with a baseline.
        alpha: level for the Holm-adjusted p.
    """
    better = paired_table.difference * np.where(paired_table.lower_is_better, 1, -1)
    table = paired_table.loc[better.sort_values(kind="stable").index]
    one = table.g.nunique() == 1
    for place, line in enumerate(table.itertuples()):
        _dot(ax, line.f, line.difference, line.low, line.high, place, not line.p_holm < alpha)
        text = f"{line.difference:+.3f}, p {format_p(line.p_holm)}".replace("-", "\N{MINUS SIGN}")
        _beside(ax, 1.03, place, line.note or text)
    ax.axvline(0, color="0.35", lw=0.8, zorder=1.5)
    versus = f" to {shorten(table.g.iloc[0], 12)}" if one else ""
    what = [f"difference{versus}", f"{metric_label(table)}, {_direction(table)} is better", _interval(table)]
    what.append(f"p: t test, Holm over {table.family.iloc[0]}")
    if (~(table.p_holm < alpha)).any():
        what[-1] += f"; hollow: p \N{GREATER-THAN OR EQUAL TO} {alpha:g}"
    ax.set_xlabel("\n".join(what))
    pairs = [f"{shorten(f, 12)} \N{MINUS SIGN} {shorten(g, 12)}" for f, g in zip(table.f, table.g, strict=True)]
    _rows(ax, list(table.f) if one else pairs)


def plot_ranks(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> None:
    """Plot the rank of each method under several conditions, such as scales or image sets.

    A vertical bar is a rank interval; those of one condition hold together with 95 %. Lines
    only lead the eye from one condition to the next; the names are in the order of the last one.

    Args:
        ax: where to draw.
        tables: of `rankings.ranks` by the name of the condition, left to right, all with the same methods.

    Raises:
        ValueError: no table, or tables of different methods.
    """
    places = {title: table.set_index(table.columns[0]) for title, table in tables.items()}
    if not places or len({frozenset(table.index) for table in places.values()}) != 1:
        raise ValueError(f"expected tables of the same methods, got {[list(table.index) for table in places.values()]}")
    order = list(list(places.values())[-1].sort_values("rank", kind="stable").index)
    aside = 0.6 * (np.arange(len(order)) / max(len(order) - 1, 1) - 0.5)  # so that intervals do not hide
    for k, name in enumerate(order):
        style, x = look(name), np.arange(len(places)) + aside[k]
        lines = [table.loc[name] for table in places.values()]
        for at, line in zip(x, lines, strict=True):
            ax.plot([at, at], [line.rank_low, line.rank_high], color=style["color"], lw=2, solid_capstyle="butt")
        ax.plot(x, [line["rank"] for line in lines], **style, lw=0.5)
        ax.text(
            1.02,
            k + 1,
            shorten(name),
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=7,
            color=style["color"],
        )
    labels = [f"{title}\n{table.n.iloc[0]} photographs" for title, table in places.items()]
    ax.set_xticks(range(len(places)), labels)
    ax.set_yticks(range(1, len(order) + 1))
    ax.set(
        xlim=(-0.5, len(places) - 0.5),
        ylim=(len(order) + 0.4, 0.6),
        ylabel="rank, 1 is best\n(bars: 95 %, all together)",
    )
    ax.grid(axis="y", color="0.9")
    ax.set_axisbelow(True)


def plot_monotonicity(axes: Axes | Sequence[Axes], rows: pd.DataFrame, by: str = "downscaler") -> None:
    """Plot scores against the level of a degradation with 95 % intervals: one panel each, one line per downscaler.

    Contrast above and below 1 has two panels. The title of a panel carries Spearman's rho.

    Args:
        axes: as many as there are panels, in order of name (`degradation_panels(rows)` counts them).
        rows: one row per draw; those without a degradation are ignored.
        by: what the lines are.

    Raises:
        ValueError: another number of axes than of panels.
    """
    panels_of, axes = degradation_panels(rows), np.ravel(axes)
    if len(axes) != len(panels_of):
        raise ValueError(f"expected {len(panels_of)} axes for {list(panels_of)}, got {len(axes)}")
    for ax, (title, part) in zip(axes, panels_of.items(), strict=True):
        rho = rankings.monotonicity(part, part.degradation.iloc[0], by).spearman
        for k, (name, lines) in enumerate(part.groupby(by)):
            table = rankings.scores(lines, "level").sort_values("level")
            ends = np.nan_to_num(np.abs(table[["low", "high"]].to_numpy().T - table["mean"].to_numpy()))
            aside = 0.02 * np.ptp(table.level) * (k - (part[by].nunique() - 1) / 2)  # so that intervals do not hide
            ax.errorbar(table.level + aside, table["mean"], ends, **look(name), label=shorten(name), capsize=1.5)
        span = f"{rho.min():.2g}" if rho.min() == rho.max() else f"{rho.min():.2g} to {rho.max():.2g}"
        ax.set_title(f"{title}\n$\\rho$ = {span}".replace("-", "\N{MINUS SIGN}"))
        ax.margins(x=0.12)
        ax.set_xlabel(LEVELS.get(part.degradation.iloc[0], "level"))
        ax.set_xticks(sorted(part.level.unique()))
        ax.set_xticklabels([f"{level:g}" for level in sorted(part.level.unique())])
        if ax.get_subplotspec() is None or ax.get_subplotspec().is_first_col():
            ax.set_ylabel(f"IDA-RD, {metric_label(table)},\n{_direction(table)} is better")
    if rows[by].nunique() > 1:
        handles, labels = max((ax.get_legend_handles_labels() for ax in axes), key=lambda pair: len(pair[1]))
        columns = max(1, int(axes[0].figure.get_figwidth() / 0.9))
        axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def degradation_panels(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split rows into the panels of `plot_monotonicity`, by title; contrast is split at 1.

    Raises:
        ValueError: no row has a degradation with two or more levels on one side.
    """
    panels_of = {}
    for name, part in rows[rows.degradation.fillna("") != ""].groupby("degradation"):
        sides = {f"{name} decrease": part.level < 1, f"{name} increase": part.level > 1}
        for title, chosen in sides.items() if name == "contrast" else [(name, part.level.notna())]:
            if part.level[chosen].nunique() > 1:
                panels_of[title] = part[chosen]
    if not panels_of:
        raise ValueError("expected rows with two or more levels of a degradation, got none")
    return panels_of


def interval_arms(table: pd.DataFrame, value: str = "difference") -> np.ndarray:
    """Lengths of intervals below and above a value, for Matplotlib's error bars; 0 where there is no interval.

    Args:
        table: lines with the columns `value`, low and high.
        value: name of the column that the intervals are around.

    Returns:
        Lengths, shape (2, lines of the table).
    """
    return np.nan_to_num([table[value] - table.low, table.high - table[value]])


def plot_detection(ax: Axes, table: pd.DataFrame, by: str, looks: Mapping[str, dict], *, percent: bool = False) -> None:
    """Plot the rise of a score against the strength of a degradation with 95 % intervals, one line per value of `by`.

    A hollow marker means not noticed: the interval reaches 0 or lies on the better side.

    Args:
        ax: where to draw.
        table: lines of `detection.differences` for one type of degradation, with the column `by`.
        by: column whose values are the lines.
        looks: Matplotlib's "color" and "marker" for each line.
        percent: draw the rise in percent of the score without damage instead of units of D, on an axis that is linear
            up to 1 % and logarithmic above.

    Raises:
        ValueError: another number of types than one.
    """
    if table.degradation.nunique() != 1:
        raise ValueError(f"expected lines of one degradation, got {sorted(set(table.degradation))}")
    kind = table.degradation.iloc[0]
    ax.axhline(0, color="0.6", lw=0.8, zorder=0)
    for name, part in table.groupby(by, sort=False):
        unit = part.undamaged / 100 if percent else 1.0
        mean, ends = part.difference / unit, interval_arms(part) / np.asarray(unit)
        ax.errorbar(part.strength, mean, ends, color=looks[name]["color"], lw=1, capsize=1.5)
        for noticed in (True, False):
            fill = looks[name]["color"] if noticed else "white"
            chosen = (part.side == "worse") == noticed
            ax.plot(part.strength[chosen], mean[chosen], **looks[name], ls="none", markerfacecolor=fill, label=name)
    if percent:
        ax.set_yscale("symlog", linthresh=1, linscale=1)
        ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xscale="log", xlabel=STRENGTHS[kind])
    decades = math.log10(table.strength.max() / table.strength.min())
    steps = (1, 2, 5) if decades < 1 else (1, 3) if decades < 2 else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=steps, numticks=10))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def plot_side_by_side(ax: Axes, tables: Mapping[str, pd.DataFrame], names: Sequence[str]) -> None:
    """Plot means with intervals of the same conditions in several tables: the first filled, the others hollow.

    Args:
        ax: where to draw.
        tables: index condition, columns mean, low, high.
        names: conditions in the order of the lines; one that a table lacks is left out there.
    """
    for k, table in enumerate(tables.values()):
        for place, name in enumerate(names):
            if name in table.index:
                line, style = table.loc[name], look(name)
                at = place + 0.28 * (k - (len(tables) - 1) / 2)
                ax.plot([line.low, line.high], [at, at], color=style["color"], lw=0.9)
                ax.plot(line["mean"], at, **style, ls="none", ms=4, markerfacecolor="white" if k else style["color"])
    set_names(ax, names)
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)


def _dot(ax: Axes, name: str, mean: float, low: float, high: float, place: int, hollow: bool) -> None:
    style = look(name)
    ax.plot([low, high], [place, place], color=style["color"])  # NaN ends draw nothing
    ax.plot(mean, place, **style, markerfacecolor="white" if hollow else style["color"], linestyle="none")


def set_names(ax: Axes, names: Sequence[str]) -> None:
    """Give each name a line of the plot, the first on top."""
    ax.set_yticks(range(len(names)), list(names))
    ax.set_ylim(len(names) - 0.5, -0.5)


def _rows(ax: Axes, names: Sequence[str]) -> None:
    """`set_names` with short names, no ticks and a vertical grid."""
    set_names(ax, [shorten(name) for name in names])
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="0.85")
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)


def _beside(ax: Axes, x: float, place: int, text: str) -> None:
    """Small text right of the axes, on one line of the plot."""
    ax.text(x, place, text, transform=ax.get_yaxis_transform(), va="center_baseline", ha="left", fontsize=7)


def _groups(names: Sequence[str], apart: Mapping[frozenset, bool]) -> list[tuple[int, int]]:
    """Longest runs of neighbours in which no pair is told apart; runs of one are left out."""
    runs = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and not any(
            apart[frozenset((f, names[last + 1]))] for f in names[first : last + 1]
        ):
            last += 1
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def _lanes(runs: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Runs side by side only where they overlap."""
    lanes = []
    for run in runs:
        free = next((lane for lane in lanes if lane[-1][1] < run[0]), None)
        if free is None:
            lanes.append(free := [])
        free.append(run)
    return lanes


def _direction(table: pd.DataFrame) -> str:
    return "lower" if table.lower_is_better.iloc[0] else "higher"


def _interval(table: pd.DataFrame) -> str:
    n, images = (f"{x.min()}" if x.nunique() == 1 else f"{x.min()} to {x.max()}" for x in (table.n, table.images))
    return f"95 % interval, {n} photographs" + f" ({images} images)" * (images != n)
