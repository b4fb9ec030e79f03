"""Plot what only the notebook on the flow shows: parts of a score, quantities and ranks along the heat, the floor."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from helpers.figures.rankings import set_names
from helpers.figures.style import look, size
from helpers.studies import evidence_plots, flow_findings
from helpers.studies.evidence_plots import name_of

COLOURS = ("C0", "C1", "C2", "C3", "C4")  # of what is no downscaler: distances, flows, image sets
MARKERS = "osD^v"
FLAT = {"linewidth": 0}  # bars without an edge


def parts(ax: Axes, table: pd.DataFrame, columns: Mapping[str, str], *, times: float = 1000.0) -> None:
    """Stacked bars: what each condition's score is made of, with the 95 % interval of the score.

    Args:
        ax: where to draw.
        table: of `decomposition.split` or `decomposition.floor`: the name first, score, score_low, score_high.
        columns: parts that add up to the score, and their colours.
        times: factor on all of them, named by the caller's label.
    """
    places, left = np.arange(len(table)), np.zeros(len(table))
    for column, colour in columns.items():
        ax.barh(places, times * table[column], left=left, color=colour, label=column, height=0.7, **FLAT)
        left = left + times * table[column].to_numpy()
    ax.hlines(places, times * table.score_low, times * table.score_high, color="0.2", lw=0.8)
    set_names(ax, table.iloc[:, 0])


def intervals(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """A dot and its 95 % interval for each line of a table, the first on top.

    Args:
        ax: where to draw.
        table: the name first, and `column`, `column`_low, `column`_high.
        column: what is drawn.
    """
    for place, line in enumerate(table.to_dict("records")):
        style = look(line[table.columns[0]])
        ax.plot([line[f"{column}_low"], line[f"{column}_high"]], [place, place], color=style["color"])
        ax.plot(line[column], place, **style, ls="none")
    set_names(ax, table.iloc[:, 0])


def along(ax: Axes, table: pd.DataFrame, names: Sequence[str], *, bands: Sequence[str] = ()) -> None:
    """Lines of a quantity along the heat, one for each condition.

    Args:
        ax: where to draw.
        table: index (heat, condition), columns value, low, high (of a 95 % interval) in this order.
        names: conditions to draw.
        bands: those whose interval is drawn; bands of seven conditions would hide each other.
    """
    for name in names:
        lines = table.xs(name, level=1).sort_index()
        heats, (value, low, high) = lines.index.to_numpy(float), lines.to_numpy(float).T
        ax.plot(heats, value, **look(name), ms=3, lw=0.9, label=name)
        if name in bands:
            ax.fill_between(heats, low, high, color=look(name)["color"], alpha=0.15, linewidth=0)


def rank_paths(ax: Axes, tables: Mapping[float, pd.DataFrame], names: Sequence[str]) -> None:
    """Rank of each condition at every heat, with its 95 % rank interval as a bar.

    Args:
        ax: where to draw; the heats stand at equal steps.
        tables: of `rankings.ranks` by heat, in the order of the axis.
        names: conditions, all in every table.
    """
    for k, name in enumerate(names):
        lines = pd.DataFrame([table.set_index(table.columns[0]).loc[name] for table in tables.values()])
        x = np.arange(len(tables)) + 0.1 * (k - (len(names) - 1) / 2)  # so that bars do not hide
        low, high = lines.rank_low.astype(float), lines.rank_high.astype(float)
        ax.vlines(x, low, high, color=look(name)["color"], lw=2.2)
        ax.plot(x, lines["rank"].astype(float), **look(name), ms=3.5, lw=0.5, label=name)
    ax.set_xticks(range(len(tables)), [f"{heat:g}" for heat in tables])
    ax.set_yticks(range(1, len(names) + 1))
    ax.set(xlabel="heat", ylim=(len(names) + 0.4, 0.6))


def pair_paths(ax: Axes, tables: Mapping[str, pd.DataFrame]) -> None:
    """Ratio of two scores along the heat with 95 % intervals, a line for each D; hollow where the sign is open.

    Args:
        ax: where to draw.
        tables: of `flow_findings.pair_along` by name of D.
    """
    for k, (distortion, table) in enumerate(tables.items()):
        colour, x = COLOURS[k], table.heat + 0.008 * (k - (len(tables) - 1) / 2)  # so that intervals do not hide
        ax.vlines(x, table.low, table.high, color=colour, lw=1)
        ax.plot(x, table.value, color=colour, lw=0.8, label=name_of(distortion), marker=MARKERS[k], ms=4)
        ax.plot(x[table.sign.isna()], table.value[table.sign.isna()], MARKERS[k], color=colour, ms=4, mfc="white")
    ax.axhline(1, color="0.3", lw=0.8, zorder=0.5)
    ax.set_xlabel("heat")


def trace(
    ax: Axes, tables: Mapping[str, pd.DataFrame], colours: Mapping[str, str], styles: Mapping[float, str]
) -> None:
    """Largest absolute value after each flow step, on the way from the latents to the image.

    Args:
        ax: where to draw.
        tables: of `probes.decode_trace` with the column heat, by what the LR image is.
        colours: of the LR images.
        styles: line style of each heat.
    """
    for name, table in tables.items():
        for heat, part in table.groupby("heat"):
            sizes = part.largest.where(part.largest > 0)  # at heat 0 the latents are 0
            ax.plot(part.step, sizes, styles[heat], color=colours[name], lw=1.1, label=f"{name}, heat {heat:g}")
    edges = part.step[part.level.diff() != 0][1:] - 0.5
    ax.vlines(edges, 0, 1, transform=ax.get_xaxis_transform(), color="0.85", lw=0.7, zorder=0)
    ax.set(yscale="log", xlabel="flow step (0: latents, last: image)", ylabel="largest absolute value")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    above(ax)


def above(ax: Axes) -> None:
    """A legend of two columns above the axes, where it hides nothing."""
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=1, handlelength=1.6)


def floor_lines(axes: Sequence[Axes], table: pd.DataFrame, *, first_damage: int) -> None:
    """The floor's share of each score, and how far an LR image is from the bicubic one and from its draws.

    Args:
        axes: two that share their vertical axis.
        table: lines of `decomposition.floor` by condition, from top to bottom.
        first_damage: the line with which damage begins; a rule is drawn above it.
    """
    places, share = np.arange(len(table)), 100 * table[["floor_share_low", "floor_share", "floor_share_high"]]
    axes[0].hlines(places, share.floor_share_low, share.floor_share_high, color="C0", lw=1.2)
    axes[0].plot(share.floor_share, places, "o", color="C0", ms=4)
    for column, colour, marker, label in (
        ("p_lr", "C1", "s", "LR image to bicubic"),
        ("consistency", "C2", "o", "LR image to draws"),
    ):
        axes[1].hlines(places, table[f"{column}_low"], table[f"{column}_high"], color=colour, lw=1.2)
        axes[1].plot(table[column], places, marker, color=colour, ms=4, label=label)
    set_names(axes[0], table.condition)
    axes[0].set_xlabel("floor, % of the squared error")
    axes[1].set_xlabel("PSNR (dB)")
    above(axes[1])
    for ax in axes:
        ax.axhline(first_damage - 0.5, color="0.6", lw=0.8)
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)


def filled_and_hollow(names: Sequence[str]) -> list[Line2D]:
    """Marks for a legend beside `figures.plot_side_by_side`: the first filled, the others hollow."""
    how = {"color": "0.3", "marker": "o", "ls": "none"}
    return [Line2D([], [], **how, markerfacecolor="white" if k else "0.3") for k in range(len(names))]


def blow_up(extremes: pd.DataFrame, traces: Mapping[str, pd.DataFrame], heat: float) -> Figure:
    """Left the largest value of a draw by LR image and flow, right where it grows on the way to one image.

    Args:
        extremes: of `probes.strain`, at heat 0 and at `heat`.
        traces: of `probes.traces`, by what the LR image is: a plain one and a damaged one.
        heat: the one that the left panel shows.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=size(2, 0.42), width_ratios=[1.1, 1])
    largest = flow_findings.strain(extremes, ["flow", "condition", "heat"])
    evidence_plots.dots(left, largest[largest.heat == heat], "condition", "flow")
    left.set(xscale="log")
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_locator(NullLocator())
    count = extremes.photograph.nunique()
    left.set_xlabel(f"largest absolute value at heat {heat:g}\n(geometric mean over {count} photographs)")
    evidence_plots.legend(left, list(extremes.flow.unique()), loc="outside lower left")
    trace(right, traces, dict(zip(traces, ("C0", "C3"), strict=True)), {0.0: "--", heat: "-"})
    return fig


def strain_by_content(extremes: pd.DataFrame, scale: int) -> Figure:
    """The largest value of a draw by LR image and content.

    Args:
        extremes: of `probes.strain` at heat 1, with the column content.
        scale: s.
    """
    fig, ax = plt.subplots(figsize=size(1, 0.62))
    largest = flow_findings.strain(extremes, ["content", "condition"])
    evidence_plots.dots(ax, largest, "condition", "content", ratio=True)
    ax.set_xlabel(f"largest absolute value at x{scale}, heat 1\n(geometric mean over images, 95 %)")
    evidence_plots.legend(ax, list(extremes.content.unique()))
    return fig
