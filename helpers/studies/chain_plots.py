"""Plot what notebook 10 asks: the noise of a chain, what steps buy, orders of downscalers, calibration of draws."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.figures import size
from helpers.stats.findings import Quantity
from helpers.studies import evidence_plots
from helpers.upscalers import diffusion

_MARKERS = "osD^v"


def schedule(steps: Sequence[int], shares: Sequence[float]) -> Figure:
    """Left the share of noise along chains of some lengths, right the error that is left after training.

    Args:
        steps: T of each chain.
        shares: error along the usual chain over that of an untrained guess, as the network has them.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=size(2, 0.32))
    for k, n in enumerate(steps):
        etas = diffusion.residual_schedule(n, kappa=1.0)["etas"]
        left.plot(np.linspace(0, 1, n), etas, _MARKERS[k % 5] + "-", ms=3, lw=0.9, label=f"{n} steps")
    left.set(xlabel="place in the chain, 0 is the answer", ylabel="eta, share of noise")
    left.legend(frameon=False)
    right.plot(np.linspace(0, 1, len(shares)), shares, "o-", ms=3, lw=0.9)
    label = "error left after training,\nshare of an untrained guess's"
    right.set(xlabel="place in the chain", ylabel=label, ylim=(0, 1.05))
    return fig


def steps(table: pd.DataFrame, flow: Mapping[float, Mapping[str, float]]) -> Figure:
    """The loss of a draw `along` the number of steps, a panel for each D, with the flow as horizontal lines.

    Args:
        table: of `chains.by_steps`, of several D.
        flow: heat -> D -> the flow's loss; the first heat is dashed, the second dotted.
    """
    panels = list(table.groupby("D", sort=False))
    fig, axes = plt.subplots(1, len(panels), figsize=size(2, 0.32), squeeze=False)
    for ax, (d, part) in zip(axes[0], panels, strict=True):
        along(ax, part, "loss", "D")
        for (heat, losses), style in zip(flow.items(), ("--", ":"), strict=False):
            ax.axhline(losses[d], color="0.4", lw=0.9, ls=style, label=f"flow, heat {heat:g}")
        ax.set(title=evidence_plots.name_of(d), ylabel="loss of a draw, lower is better" if ax is axes[0][0] else "")
    axes[0][0].legend(frameon=False, fontsize=6)
    return fig


def orders(table: pd.DataFrame, alike: float) -> Figure:
    """Tau of pairs of rankings, a mark for each D.

    Args:
        table: of `chains.orders`, without NaN.
        alike: where a dashed line marks orders that are much the same.
    """
    fig, ax = plt.subplots(figsize=size(2, 0.55))
    evidence_plots.taus(ax, table, "what", list(table["D"].unique()), alike, "(95 % interval); dashed")
    return fig


def calibration(ranks: Mapping[str, np.ndarray], inside: Mapping[str, Mapping[float, Quantity]]) -> Figure:
    """Left the rank `histogram` of each sampler, right the `coverage` of its intervals.

    Args:
        ranks: sampler -> of `chains.histogram`.
        inside: sampler -> of `chains.inside`.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=size(2, 0.42))
    histogram(left, ranks)
    coverage(right, inside)
    left.legend(frameon=False, fontsize=6)
    return fig


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
            part[x], [each.value for each in values], _MARKERS[k % 5] + "-", color=f"C{k}", ms=3.5, lw=0.9, label=name
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
            _MARKERS[k % 5] + "-",
            color=f"C{k}",
            ms=3.5,
            lw=0.9,
            label=name,
        )
        ax.vlines(
            stated, [each.low for each in table.values()], [each.high for each in table.values()], color=f"C{k}", lw=0.8
        )
    ax.set(xlabel="stated share", ylabel="share of pixels inside", xlim=(0, 1), ylim=(0, 1), aspect="equal")
