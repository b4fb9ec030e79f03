"""Plot what notebooks ask of many settings at once: dots with intervals, taus, subsamples, what a draw buys."""

from collections.abc import Collection, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from helpers.figures.rankings import set_names
from helpers.figures.style import metric_label

_COLOURS = ["C0", "C1", "C2", "C3", "C4", "C5"]
_MARKERS = "osD^vP"


def name_of(distortion: str) -> str:
    """A D for a legend: "LPIPS", "1 - MS-SSIM"."""
    return metric_label(pd.DataFrame({"distortion": [distortion]}))


def panels(settings: Sequence[str], size: tuple[float, float], **options) -> tuple[Figure, dict[str, Axes]]:
    """A panel for each setting: a row for each scale, a column for each content, so that neighbours differ in one.

    Args:
        settings: "content xN".
        size: of the figure, inches.
        options: of `plt.subplots`.

    Returns:
        The figure, and setting -> its panel, with the setting as its title; the places of settings that are missing
        stay empty.
    """
    contents, scales = (list(dict.fromkeys(name.rsplit(" ", 1)[k] for name in settings)) for k in (0, 1))
    how = {"figsize": size, "layout": "constrained", "squeeze": False} | options
    fig, axes = plt.subplots(len(scales), len(contents), **how)
    places = {f"{content} {scale}": axes[row][column]
              for row, scale in enumerate(scales) for column, content in enumerate(contents)}  # fmt: skip
    for name, ax in places.items():
        ax.set_title(name)
        ax.set_visible(name in settings)
    return fig, {name: places[name] for name in settings}


def dots(
    ax: Axes,
    table: pd.DataFrame,
    lines: str,
    series: str,
    *,
    order: Sequence[str] = (),
    of_series: Sequence[str] = (),
    at: float | None = None,
    ratio: bool = False,
) -> None:
    """Values with 95 % intervals: a line for each value of one column, marks of their own for each of another.

    Args:
        ax: where to draw.
        table: columns `lines`, `series`, value, low, high.
        lines, series: names of columns.
        order: values of `lines` from top to bottom; () is the order of the table.
        of_series: values of `series` in the order of their colours; () is the order of the table.
        at: where a vertical line marks no difference.
        ratio: draw a logarithmic axis of multiples.
    """
    names, kinds = list(order) or list(table[lines].unique()), list(of_series) or list(table[series].unique())
    for place, name in enumerate(names):
        for k, kind in enumerate(kinds):
            for line in table[(table[lines] == name) & (table[series] == kind)].itertuples():
                y = place + 0.7 * ((k + 0.5) / len(kinds) - 0.5)
                colour, marker = _COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)]
                ax.plot([line.low, line.high], [y, y], color=colour, lw=1)
                ax.plot(line.value, y, marker, color=colour, ms=3.5)
    if at is not None:
        ax.axvline(at, color="0.35", lw=0.8, zorder=0.5)
    if ratio:
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        fine = (0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4)
        every = (0.5, 0.7, 1, 1.5, 2, 3, 5, 10) if high / low > 2 else fine
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks([tick for tick in every if low <= tick <= high])
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    set_names(ax, names)
    ax.tick_params(axis="y", length=0)
    for edge in np.arange(len(names) - 1) + 0.5:
        ax.axhline(edge, color="0.92", lw=0.6, zorder=0)


def legend(ax: Axes, kinds: Sequence[str], *, drawn: Collection[str] | None = None, **how) -> None:
    """The marks of `dots`, one for each series, in the order of their colours; what is not `drawn` is left out."""
    marks = [
        ax.plot([], [], _MARKERS[k % len(_MARKERS)], color=_COLOURS[k % len(_COLOURS)], ms=3.5, label=kind)[0]
        for k, kind in enumerate(kinds)
        if drawn is None or kind in drawn
    ]
    how = {"loc": "outside lower center", "ncols": len(marks), "frameon": False} | how
    ax.figure.legend(handles=marks, **how)


def taus(ax: Axes, table: pd.DataFrame, lines: str, kinds: Sequence[str], alike: float, words: str) -> None:
    """`dots` of Kendall's tau, a series for each D, with a legend and a dashed line for orders that are much the same.

    Args:
        ax: where to draw.
        table: columns `lines`, D, value, low, high.
        lines: name of a column.
        kinds: D, in the order of their colours.
        alike: tau of the dashed line.
        words: behind "Kendall's tau-b", up to what the line is.
    """
    dots(ax, table, lines, "D", of_series=kinds, at=1.0)
    ax.axvline(alike, color="0.7", lw=0.8, ls="--", zorder=0.5)
    ax.set(xlabel=f"Kendall's tau-b {words}: much the same from here on", xlim=(-1.03, 1.05))
    legend(ax, list(map(name_of, kinds)))


def subsamples(ax: Axes, tables: Mapping[str, pd.DataFrame], column: str) -> None:
    """Share of subsamples that rank as all photographs do, against their size.

    Args:
        ax: where to draw.
        tables: of `budget.images_for_ranking`, by what their lines are called.
        column: share_signs or share_tau.
    """
    for k, (name, table) in enumerate(tables.items()):
        ax.plot(table.n, 100 * table[column], f"{_MARKERS[k]}-", color=_COLOURS[k], ms=3, lw=0.9, label=name)
    ax.axhline(95, color="0.5", lw=0.8, ls="--")
    most = max(table.n.max() for table in tables.values())
    ax.set(xscale="log", xlabel="photographs in the subsample", ylim=(None, 102))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks([tick for tick in (2, 5, 10, 20, 50, 100, 200, 500) if tick <= most])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def errors(ax: Axes, lines: Mapping[str, pd.Series], *, draws: Sequence[int] = (1, 5), most: int = 2000) -> None:
    """Standard error against the number of photographs, one mark style for each number of draws.

    Args:
        ax: where to draw.
        lines: of `budget.samples_or_images` by what they are called: mean, s_b2, s_w2, crops, n.
        draws: N_Q; the last is drawn as a line, the others as hollow marks over it, because they nearly coincide.
        most: the largest number of photographs.
    """
    n_x = np.geomspace(2, most, 60)
    for k, (name, line) in enumerate(lines.items()):
        for q in draws:
            se = 100 * np.sqrt(line.s_b2 / n_x + line.s_w2 / (n_x * line.crops * q)) / line.unit
            hollow = {"marker": _MARKERS[k], "ms": 4.5, "markevery": (2 * k, 8), "mfc": "white", "zorder": 3}
            style = {"lw": 1.2, "label": name} if q == draws[-1] else {"ls": "none"} | hollow
            ax.plot(n_x, se, color=_COLOURS[k], **style)
    ax.axvspan(max(line.n for line in lines.values()), most, color="0.94", zorder=0)
    ax.axvline(900, color="0.5", lw=0.8)
    ax.set(xscale="log", yscale="log", xlim=(2, most))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def costs(ax: Axes, lines: Mapping[str, pd.Series], image_costs: Sequence[float], *, most: int = 20) -> None:
    """Standard error at equal cost against the draws of each image, relative to the best number of draws.

    Args:
        ax: where to draw.
        lines: as in `errors`.
        image_costs: cost of an image besides its draws, in draws.
        most: the largest number of draws.
    """
    q = np.arange(1, most + 1)
    for k, line in enumerate(lines.values()):
        for cost, style in zip(image_costs, ("-", "--", ":"), strict=False):
            se = np.sqrt((line.s_b2 + line.s_w2 / line.crops / q) * (cost + q))
            ax.plot(q, se / se.min(), style, color=_COLOURS[k])
    for cost, style in zip(image_costs, ("-", "--", ":"), strict=False):
        ax.plot([], [], style, color="0.3", label=f"an image costs {cost:g} draw{'s' * (cost != 1)}")
    ax.set(xscale="log", ylim=(0.95, 3))
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50) if tick <= most]
    ax.set_xticks(ticks, [f"{tick}" for tick in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
