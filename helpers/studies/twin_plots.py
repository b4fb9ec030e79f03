"""Plot what notebooks 09 and 10 ask: gaps under each twin, bias and spread, what steps buy, calibration of draws."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from helpers.figures import look
from helpers.figures.rankings import set_names
from helpers.stats.findings import Quantity

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


def along(ax: Axes, table: pd.DataFrame, column: str, lines: str, x: str = "steps") -> None:
    """A quantity against a number, a line for each value of a column, with intervals.

    Args:
        ax: where to draw; the horizontal axis is logarithmic.
        table: columns x, lines, and `column` of `Quantity`.
        column, lines, x: names of columns.
    """
    for k, (name, part) in enumerate(table.sort_values(x).groupby(lines, sort=False)):
        values = part[column]
        ax.plot(
            part[x], [each.value for each in values], "osD^v"[k % 5] + "-", color=f"C{k}", ms=3.5, lw=0.9, label=name
        )
        ax.fill_between(
            part[x], [each.low for each in values], [each.high for each in values], color=f"C{k}", alpha=0.15, lw=0
        )
    ticks = sorted(table[x].unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{each:g}" for each in ticks])
    ax.minorticks_off()
    ax.set_xlabel(x)


def histogram(ax: Axes, counts: Mapping[str, np.ndarray]) -> None:
    """Rank histograms: where the true value lies among the draws, as a multiple of the share that it should have.

    Args:
        ax: where to draw.
        counts: sampler -> shares of the ranks 0 to Q, which sum to 1.
    """
    for k, (name, shares) in enumerate(counts.items()):
        place = np.arange(len(shares)) / (len(shares) - 1)
        ax.step(place, shares * len(shares), where="mid", color=f"C{k}", lw=1.1, label=name)
    ax.axhline(1, color="0.6", lw=0.8, ls=":")
    ax.set(xlabel="rank of the true value among the draws", ylabel="share, multiple of a calibrated one", xlim=(0, 1))


def coverage(ax: Axes, tables: Mapping[str, Mapping[float, Quantity]]) -> None:
    """Share of pixels inside the central interval of the draws, against the share that should be inside."""
    ax.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls=":")
    for k, (name, table) in enumerate(tables.items()):
        stated = list(table)
        ax.plot(
            stated,
            [table[each].value for each in stated],
            "osD^v"[k % 5] + "-",
            color=f"C{k}",
            ms=3.5,
            lw=0.9,
            label=name,
        )
        ax.vlines(
            stated, [each.low for each in table.values()], [each.high for each in table.values()], color=f"C{k}", lw=0.8
        )
    ax.set(xlabel="stated share", ylabel="share of pixels inside", xlim=(0, 1), ylim=(0, 1), aspect="equal")


def dots(ax: Axes, table: Mapping[str, Quantity]) -> None:
    """A quantity of each downscaler with its interval in the downscaler's own look, the first on top."""
    for place, (name, found) in enumerate(table.items()):
        style = look(name)
        ax.plot([found.low, found.high], [place, place], color=style["color"], lw=0.9)
        ax.plot(found.value, place, **style, ls="none", ms=4)
    set_names(ax, list(table))
