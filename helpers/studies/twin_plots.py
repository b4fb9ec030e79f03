"""Plot what notebook 09 asks: ranks and gaps under each twin, bias and spread, the rise of the score under damage."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.figures import plot_ranks, size
from helpers.figures.rankings import set_names
from helpers.figures.style import LEVELS
from helpers.stats import rankings
from helpers.stats.findings import Quantity
from helpers.studies import evidence, evidence_plots

COLOURS = {  # blind: the second hue; stochastic: filled
    "embedded_l1": ("C0", "white"),
    "embedded_l1_blind": ("C3", "white"),
    "embedded_resshift": ("C0", "C0"),
    "embedded_resshift_blind": ("C3", "C3"),
}
_OTHERS = ("0.35", "0.35")


def _style(name: str) -> dict:
    edge, face = COLOURS.get(name, _OTHERS)
    return {"color": edge, "mfc": face, "marker": "o" if name in COLOURS else "s", "ls": "none", "ms": 4}


def gaps(ax: Axes, tables: Mapping[str, Mapping[str, Quantity]], names: Sequence[str]) -> None:
    """A quantity of each downscaler under each upscaler with its interval, upscalers side by side in a line.

    Args:
        ax: where to draw.
        tables: upscaler -> downscaler -> quantity.
        names: downscalers from top to bottom.
    """
    for k, (upscaler, table) in enumerate(tables.items()):
        style = _style(upscaler)
        for place, name in enumerate(names):
            if name in table:
                found, y = table[name], place + 0.6 * ((k + 0.5) / len(tables) - 0.5)
                ax.plot([found.low, found.high], [y, y], color=style["color"], lw=0.9)
                ax.plot(found.value, y, **style, label=upscaler if place == 0 else None)
    set_names(ax, names)
    ax.tick_params(axis="y", length=0)


def stacked(ax: Axes, table: pd.DataFrame, names: Sequence[str], upscalers: Sequence[str], times: float = 1e3) -> None:
    """Bias and, hatched, spread of the squared error, a bar for each upscaler in the group of each downscaler.

    Args:
        ax: where to draw.
        table: of `twins.split`.
        names, upscalers: groups from left to right, bars of a group.
        times: factor on the values.
    """
    width = 0.8 / len(upscalers)
    for k, upscaler in enumerate(upscalers):
        part = table[table.upscaler == upscaler].set_index("downscaler").reindex(names)
        x, (edge, face) = np.arange(len(names)) + width * (k - (len(upscalers) - 1) / 2), COLOURS.get(upscaler, _OTHERS)
        bias, how = times * part.bias, {"width": width * 0.9, "edgecolor": edge}
        ax.bar(x, bias, color=face, lw=0.9, label=upscaler, **how)
        spread = "spread" if k == len(upscalers) - 1 else None
        ax.bar(x, times * part.spread, bottom=bias, color="white", hatch="//////", lw=0.5, label=spread, **how)
        ends = times * part[["score_low", "score_high"]].to_numpy().T
        ax.vlines(x, *ends, color="0.2", lw=0.7)
    ax.set_xticks(range(len(names)), names)
    ax.tick_params(axis="x", length=0)


def levels(axes: Sequence[Axes], table: pd.DataFrame, labels: Mapping[str, str]) -> None:
    """Rise of the score against the level of a damage, a panel for each damage, a line for each upscaler.

    Args:
        axes: one for each degradation of the table, in order of name.
        table: of `twins.rises`.
        labels: degradation -> what its level is.
    """
    for ax, (damage, part) in zip(axes, table.groupby("degradation"), strict=True):
        for upscaler, own in part.sort_values("level").groupby("upscaler", sort=False):
            style = _style(upscaler) | {"ls": "-", "lw": 0.9}
            ax.plot(own.level, [each.value for each in own.rise], **style, label=upscaler)
            ends = [[each.low for each in own.rise], [each.high for each in own.rise]]
            ax.fill_between(own.level, *ends, color=style["color"], alpha=0.1, lw=0)
        ax.axhline(1, color="0.7", lw=0.7, zorder=0)
        ax.set(title=damage, xlabel=labels.get(damage, "level"))


def rank_bars(parts: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Rank intervals of the downscalers under each upscaler, those of one upscaler together.

    Args:
        parts: rows of one D by upscaler.
        title: above the axes.
    """
    fig, ax = plt.subplots(figsize=size(2, 0.45))
    names = {f_us: f_us.replace("embedded_", "").replace("_", "\n").replace(", ", "\n") for f_us in parts}
    plot_ranks(ax, {names[f_us]: rankings.ranks(own) for f_us, own in parts.items()})
    ax.set_title(title)
    return fig


def to_paper(table: pd.DataFrame, alike: float) -> Figure:
    """Tau of each upscaler to the paper's order of six, a mark for each D of the published rows.

    Args:
        table: of `twin_findings.to_paper`, of one setting, without NaN.
        alike: where a dashed line marks orders that are much the same.
    """
    kinds = [d for d in evidence.D if d in set(table["D"])]
    fig, ax = plt.subplots(figsize=size(2, 0.08 + 0.045 * table.upscaler.nunique()))
    words = "to the paper's order of six (95 % interval)\ndashed"
    evidence_plots.taus(ax, table, "upscaler", kinds, alike, words)
    return fig


def relative_gaps(tables: Mapping[str, Mapping[str, Quantity]], distortion: str, title: str) -> Figure:
    """`gaps` to bicubic over bicubic's own loss, downscalers ordered by the first upscaler.

    Args:
        tables: upscaler -> downscaler -> quantity.
        distortion: D, for the label.
        title: above the axes.
    """
    first = next(iter(tables.values()))
    fig, ax = plt.subplots(figsize=size(2, 0.55))
    gaps(ax, tables, sorted(first, key=lambda name: first[name].value))
    ax.axvline(0, color="0.6", lw=0.8)
    d = evidence_plots.name_of(distortion)
    ax.set(xlabel=f"gap to bicubic over bicubic's own loss, D = {d} (95 % interval)", title=title)
    ax.legend(frameon=False, fontsize=6, loc="upper right")
    return fig


def bias_and_spread(table: pd.DataFrame, names: Sequence[str], upscalers: Sequence[str], title: str) -> Figure:
    """`stacked` bars of the squared error in thousandths.

    Args:
        table, names, upscalers: as in `stacked`.
        title: above the axes.
    """
    fig, ax = plt.subplots(figsize=size(2, 0.4))
    stacked(ax, table, names, upscalers)
    ax.set(ylabel="squared error, thousandths", title=title)
    ax.legend(frameon=False, fontsize=6)
    return fig


def damage(table: pd.DataFrame, distortion: str) -> Figure:
    """`levels` of each damage side by side.

    Args:
        table: of `twins.rises`.
        distortion: D, for the label.
    """
    count = table.degradation.nunique()
    fig, axes = plt.subplots(1, count, figsize=size(2, 0.38), squeeze=False)
    levels(axes[0], table, LEVELS)
    axes[0][0].set_ylabel(f"score over score without damage\nD = {evidence_plots.name_of(distortion)}")
    axes[0][0].legend(frameon=False, fontsize=6)
    return fig
