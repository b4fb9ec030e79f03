"""Plot what only the notebook on no-reference measures shows: kernels, scores under blur, scores by size, ranks."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers.figures.style import look, size
from helpers.studies.no_reference import KERNELS, summary

SHORT = {"brisque_opencv": "BRISQUE (OpenCV)", "brisque": "BRISQUE", "niqe": "NIQE", "niqe_official": "NIQE (official)"}
SHORT |= {"niqe_small": "NIQE, 32 px blocks", "niqe_tiny": "NIQE, 16 px blocks"}
SHORT |= {"maniqa": "MANIQA", "contrique": "CONTRIQUE", "lpips": "LPIPS", "1-ms_ssim": "1 - MS-SSIM"}


def title(measure: str) -> str:
    """A measure as a title has it; D is that of IDA-RD."""
    return SHORT.get(measure, measure)


def kernels(taps: Mapping[tuple[str, float], np.ndarray]) -> Figure:
    """Share of contrast that each blur keeps, by frequency.

    Args:
        taps: (degradation, sigma) -> kernel of odd length, its centre in the middle.
    """
    fig, ax = plt.subplots(figsize=size(1, 0.62), layout="constrained")
    sigmas, frequency = sorted({sigma for _, sigma in taps}), np.linspace(0, 0.5, 200)
    colours = dict(zip(sigmas, plt.cm.viridis(np.linspace(0, 0.85, len(sigmas))), strict=True))
    for (kind, sigma), kernel in taps.items():
        waves = np.exp(-2j * np.pi * frequency[:, None] * (np.arange(len(kernel)) - len(kernel) // 2))
        style, label = "-" if kind == "blur" else ":", f"{KERNELS[kind]}, $\\sigma$ = {sigma:g}"
        ax.plot(frequency, np.abs(waves @ kernel), style, color=colours[sigma], label=label)
    ax.set(xlabel="frequency (cycles per LR pixel)", ylabel="share of contrast kept", ylim=(0, 1.02), xlim=(0, 0.5))
    ax.legend(frameon=False, fontsize=6.5)
    return fig


def _band(ax, table: pd.DataFrame, **style) -> None:
    ax.plot(table.index, table["mean"], "o-", markersize=3, **style)
    ax.fill_between(table.index, table.low, table.high, alpha=0.15, linewidth=0, color=style["color"])


def blur_by_size(rows: pd.DataFrame, sides: Sequence[int]) -> Figure:
    """Scores under blur with a whole kernel, a panel for each measure, a line with its interval for each LR side."""
    rows = rows[rows.degradation == "blur_full"]
    measures = list(dict.fromkeys(rows.distortion))
    colour = dict(zip(sides, plt.cm.viridis(np.linspace(0, 0.9, len(sides))), strict=True))
    fig, axes = plt.subplots(1, len(measures), figsize=size(2, 0.36), layout="constrained", squeeze=False)
    handles = {}
    for ax, name in zip(axes[0], measures, strict=True):
        for side, part in rows[rows.distortion == name].groupby("size"):
            _band(ax, summary(part, "level"), color=colour[side])
            handles[side] = ax.lines[-1]
        ax.set(title=title(name), xlabel="blur $\\sigma$ (LR pixels)")
    axes[0, 0].set_ylabel("score, lower is better")
    fig.legend(
        [handles[side] for side in sorted(handles)], [f"{side} px" for side in sorted(handles)], title="LR side",
        loc="outside right center", frameon=False,
    )  # fmt: skip
    return fig


def by_size(whole: pd.DataFrame, crops: pd.DataFrame, sides: Sequence[int]) -> Figure:
    """Scores without blur by LR side: filled, the whole picture; hollow, crops of its largest LR image."""
    measures = list(dict.fromkeys(whole.distortion))
    fig, axes = plt.subplots(1, len(measures), figsize=size(2, 0.34), layout="constrained", squeeze=False)
    for ax, name in zip(axes[0], measures, strict=True):
        for rows, style, label in ((whole, {}, "whole picture"), (crops, {"markerfacecolor": "white"}, "crop")):
            table = summary(rows[rows.distortion == name], "size")
            shift = 1.0 if rows is whole else 1.08
            ends = [table["mean"] - table.low, table.high - table["mean"]]
            colour = "C0" if rows is whole else "C1"
            ax.errorbar(
                table.index * shift, table["mean"], ends, fmt="o-", ms=4, lw=1, color=colour, label=label, **style
            )
        ax.set(title=title(name), xlabel="LR side (pixels)", xscale="log", xticks=sides, xticklabels=sides)
        ax.minorticks_off()
    axes[0, 0].set_ylabel("score without blur, lower is better")
    axes[0, 0].legend(frameon=False, loc="upper right")
    return fig


def same_images(rows: pd.DataFrame) -> Figure:
    """Change of each measure from the photograph's own score without blur, both kernels; above 0 is worse."""
    keys = ["image", "group", "distortion", "degradation"]
    zero = rows[rows.level == 0].groupby(keys).value.mean().rename("zero")
    rows = rows.groupby([*keys, "level"], as_index=False, sort=False).value.mean().join(zero, on=keys)
    rows = rows.assign(value=rows.value - rows.zero)
    measures = list(dict.fromkeys(rows.distortion))
    fig, axes = plt.subplots(1, len(measures), figsize=size(2, 0.34), layout="constrained", squeeze=False)
    for ax, name in zip(axes[0], measures, strict=True):
        for (kind, words), colour in zip(KERNELS.items(), ("C0", "C1"), strict=True):
            part = rows[(rows.distortion == name) & (rows.degradation == kind)]
            _band(ax, summary(part, "level"), color=colour, label=words)
        ax.axhline(0, color="0.6", linewidth=0.6)
        ax.set(title=title(name), xlabel="blur $\\sigma$ (LR pixels)")
    axes[0, 0].set_ylabel("change of the score, above 0 is worse")
    axes[0, 0].legend(frameon=False)
    return fig


def ranks(means: Mapping[str, pd.DataFrame]) -> Figure:
    """Ranks of downscalers by several measures, side by side; a panel a scale.

    Args:
        means: title of the panel -> mean scores, a line a measure, a column a downscaler; lower is better.
    """
    fig, axes = plt.subplots(1, len(means), figsize=size(2, 0.4), layout="constrained", squeeze=False)
    for ax, (words, table) in zip(axes[0], means.items(), strict=True):
        places = table.rank(axis=1)
        for name in places:
            ax.plot(range(len(places)), places[name], linewidth=1, **look(name), label=name)
        names = [title(each).replace(" blocks", "").replace(", ", ",\n").replace("_", "_\n") for each in places.index]
        ax.set_xticks(range(len(places)), [name.replace(" - ", " -\n") for name in names], fontsize=6.5)
        ax.set(title=words, ylim=(len(places.columns) + 0.5, 0.5))
    axes[0, 0].set_ylabel("rank of the mean, 1 is best")
    axes[0, -1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig
