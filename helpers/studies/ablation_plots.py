"""Plot what the notebook on ablations asks: taus by line, subsamples, the draws' share, what a budget buys."""

from collections.abc import Collection, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers.figures.style import WIDTHS, size
from helpers.stats import conditions
from helpers.studies import ablations, evidence_plots

DASHED = "dashed: much the same from here on"


def changes(tables: Mapping[str, pd.DataFrame], kinds: Sequence[str], alike: float) -> Figure:
    """Tau of every comparison, a panel for each thing that is changed.

    Args:
        tables: of `ablations.by_line`.
        kinds: D in the order of their colours.
        alike: two orders are much the same where tau is above.
    """
    lines = [table.line.nunique() for table in tables.values()]
    height = 0.6 + 0.2 * sum(lines) + 0.3 * len(lines)
    how = {"figsize": (WIDTHS["cvpr"][1], height), "layout": "constrained", "sharex": True, "squeeze": False}
    fig, axes = plt.subplots(len(lines), 1, height_ratios=lines, **how)
    for ax, (change, table) in zip(axes[:, 0], tables.items(), strict=True):
        _taus(ax, table, kinds, alike)
        ax.set_title(ablations.TITLES[change], loc="left")
    axes[-1, 0].set(xlim=(-1.03, 1.05), xlabel=f"Kendall's tau-b (95 % interval); {DASHED}")
    evidence_plots.legend(axes[0, 0], list(map(evidence_plots.name_of, kinds)))
    return fig


def taus(
    table: pd.DataFrame,
    kinds: Sequence[str],
    alike: float,
    *,
    height: tuple[float, float],
    xlabel: str,
    drawn: Collection[str] | None = None,
) -> Figure:
    """Tau of each line of a table, one mark for each D.

    Args:
        table: line, D, value, low, high.
        kinds: D in the order of their colours.
        alike: two orders are much the same where tau is above.
        height: of the figure without lines and of one line, both as a share of its width.
        xlabel: what tau compares.
        drawn: the D to explain; None explains all of `kinds`.
    """
    aspect = height[0] + height[1] * table.line.nunique()
    fig, ax = plt.subplots(figsize=size(2, aspect), layout="constrained")
    _taus(ax, table, kinds, alike)
    ax.set(xlabel=f"{xlabel}\n{DASHED}", xlim=(-1.03, 1.05))
    named = None if drawn is None else set(map(evidence_plots.name_of, drawn))
    evidence_plots.legend(ax, list(map(evidence_plots.name_of, kinds)), drawn=named)
    return fig


def _taus(ax: plt.Axes, table: pd.DataFrame, kinds: Sequence[str], alike: float) -> None:
    evidence_plots.dots(ax, table, "line", "D", of_series=kinds, at=1.0)
    ax.axvline(alike, color="0.7", lw=0.8, ls="--", zorder=0.5)


def subsamples(tables: Mapping[str, Mapping[str, pd.DataFrame]], parts: Mapping[str, pd.DataFrame]) -> Figure:
    """Share of subsamples of photographs that keep all significant signs, a panel for each setting.

    Args:
        tables: setting -> D -> table of `budget.images_for_ranking`.
        parts: setting -> its rows, whose photographs are counted.
    """
    main = list(tables)
    fig, axes = evidence_plots.panels(main, size(2, 0.4 if len(main) < 3 else 0.75), sharex=True, sharey=True)
    for name, ax in axes.items():
        named = {evidence_plots.name_of(d): table for d, table in tables[name].items()}
        evidence_plots.subsamples(ax, named, "share_signs")
        ax.set_title(f"{name}, {conditions.photographs(parts[name]).nunique()} photographs")
        ax.label_outer()
    fig.supylabel("subsamples that keep all significant signs (%)", fontsize="medium")
    axes[main[-1]].legend(frameon=False)
    return fig


def shares_of_draws(
    splits: Mapping[tuple[str, str], pd.DataFrame], main: Sequence[str], kinds: Sequence[str], n_samples: int
) -> Figure:
    """The draws' share in the variance of a difference, one mark for each pair of downscalers.

    Args:
        splits: (setting, D) -> `budget.samples_or_images`.
        main: settings in the order of their colours.
        kinds: D from top to bottom.
        n_samples: draws of an image.
    """
    fig, ax = plt.subplots(figsize=size(2, 0.34), layout="constrained")
    for k, d in enumerate(kinds):
        for j, name in enumerate(name for name in main if (name, d) in splits):
            shares = 100 * ablations.differences(splits[name, d]).share_samples
            at = k + 0.5 * ((j + 0.5) / len(main) - 0.5) + np.linspace(-0.07, 0.07, len(shares))
            ax.plot(shares, at, "oDs^"[j % 4], color=f"C{j}", ms=3, label=name if k == 0 else None)
    ax.set_yticks(range(len(kinds)), list(map(evidence_plots.name_of, kinds)))
    ax.set(xscale="log", xlabel=f"share of the draws in the variance of a difference (%), {n_samples} draws an image")
    ax.invert_yaxis()
    ax.legend(frameon=False)
    return fig


def budgets(lines: Mapping[str, pd.Series], n_samples: int, image_costs: Sequence[float] = (0, 1, 10)) -> Figure:
    """Left the standard error against photographs, right the price of drawing more at equal cost.

    Args:
        lines: of `ablations.hardest`.
        n_samples: draws of an image, beside one.
        image_costs: cost of an image besides its draws, in draws.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=size(2, 0.5), layout="constrained")
    evidence_plots.errors(left, lines, draws=(1, n_samples))
    left.set(xlabel="photographs", ylabel="standard error of the difference\n(% of the mean score)")
    evidence_plots.costs(right, lines, image_costs)
    right.set(xlabel="draws per image", ylabel="standard error at equal cost,\nrelative to the best")
    pairs = left.get_legend_handles_labels()[0]
    (many,) = left.plot([], [], color="0.3", label=f"{n_samples} draws an image")
    hollow = {"ls": "none", "marker": "o", "mfc": "white", "ms": 4.5}
    (one,) = left.plot([], [], color="0.3", label="1 draw an image", **hollow)
    left.legend(handles=[many, one], frameon=False)
    right.legend(frameon=False)
    fig.legend(handles=pairs, loc="outside lower center", ncols=2, frameon=False)
    return fig
