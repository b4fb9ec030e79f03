"""Plot what only the notebook on PULSE shows: sheets of images in named lines, searches along their steps, shares."""

import time
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from helpers.figures.pictures import to_pixels
from helpers.figures.style import WIDTHS, size
from helpers.images import check_images
from helpers.runtime import seeded
from helpers.stats import findings, rankings
from helpers.stats.findings import Decided, Quantity
from helpers.studies import evidence_plots, search_findings
from helpers.upscalers import pulse


def sheet(
    lines: Sequence[tuple[str, Sequence[Tensor | None]]],
    titles: Sequence[str] = (),
    *,
    notes: Sequence[Sequence[str]] = (),
    width: float = WIDTHS["cvpr"][1],
    margin: float = 0.9,
) -> Figure:
    """Images in lines, each line with its name at the left; pixels stay squares.

    Args:
        lines: name and images of each line, (1, 3, H, W) in [0, 1]; None leaves a place empty. All lines are as long.
            LR images are shown at the size of the others.
        titles: one above each column, or none.
        notes: a short text below each image, line by line, or none; "" leaves it out.
        width: of the figure, in inches.
        margin: of it, for the names.

    Raises:
        ValueError: no such images, or lines of different lengths.
    """
    lengths = {len(images) for _, images in lines}
    if len(lengths) != 1 or 0 in lengths or (titles and len(titles) not in lengths):
        got = f"{[len(images) for _, images in lines]} images and {len(titles)} titles"
        raise ValueError(f"expected lines of equal length, and a title for each column or none, got {got}")
    if notes and [len(line) for line in notes] != [len(images) for _, images in lines]:
        raise ValueError(f"expected a note for each image or none, got {[len(line) for line in notes]}")
    columns = lengths.pop()
    each, title, below = (width - margin) / columns, 0.3 if titles else 0.04, 0.14 if notes else 0.0
    height = len(lines) * (each + below) + title
    fig = plt.figure(figsize=(width, height))
    fig.set_layout_engine("none")  # places are computed here
    for row, (name, images) in enumerate(lines):
        bottom = height - title - (row + 1) * (each + below) + below
        fig.text((margin - 0.06) / width, (bottom + each / 2) / height, name, ha="right", va="center", fontsize=7)
        for column, image in enumerate(images):
            if image is None:
                continue
            check_images(image, name=name)
            left, side = margin + column * each, 0.96 * each
            ax = fig.add_axes((left / width, (bottom + 0.02 * each) / height, side / width, side / height))
            ax.imshow(to_pixels(image))
            ax.set_axis_off()
            if titles and row == 0:
                ax.set_title(titles[column], fontsize=7, pad=2)
            if notes and notes[row][column]:
                ax.text(0.5, -0.03, notes[row][column], transform=ax.transAxes, ha="center", va="top", fontsize=6)
    return fig


def along_steps(ax: Axes, values: Sequence[Sequence[float]], *, label: str = "", color: str = "C0") -> None:
    """One thin line for each sample of a search against its steps, and their median as a thick one.

    Args:
        ax: where to draw.
        values: (steps, samples).
        label: of the median.
        color: of all lines.
    """
    table = np.asarray(values, dtype=float)
    ax.plot(table, color=color, lw=0.5, alpha=0.5)
    ax.plot(np.median(table, axis=1), color=color, lw=1.6, label=label or None)


def shares(ax: Axes, groups: Mapping[str, Mapping[str, float]], *, chance: float) -> None:
    """Stacked bars of shares that add up to 1: one bar for each group, one part for each class.

    Args:
        ax: where to draw.
        groups: group -> class -> share, all with the same classes.
        chance: the share that each class would have without any relation; drawn as lines.
    """
    classes = list(next(iter(groups.values())))
    left = np.zeros(len(groups))
    for k, name in enumerate(classes):
        values = np.array([part[name] for part in groups.values()])
        ax.barh(range(len(groups)), values, left=left, color=f"C{k}", label=name, height=0.7, linewidth=0)
        for at, (start, value) in enumerate(zip(left, values, strict=True)):
            if value < 0.08:  # no room for the number
                continue
            ax.text(start + value / 2, at, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color="white")
        left = left + values
    for k in range(1, len(classes)):
        ax.axvline(k * chance, color="0.2", lw=0.6, ls=":")
    ax.set_yticks(range(len(groups)), list(groups))
    ax.set(xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5))


def point(state: pulse.State, starts: Tensor) -> dict[str, list[float] | float]:
    """What `trace` shows of one state of a search.

    Args:
        state: of `pulse.path`, of two samples or more.
        starts: its latents at the start.
    """
    flat = F.normalize(state.latents.flatten(1), dim=1)
    apart = torch.rad2deg((flat @ flat.T).clamp(-1, 1).acos())[~torch.eye(len(flat), dtype=bool)].mean()
    cosine = F.cosine_similarity(state.latents, starts.to(state.latents), dim=2).clamp(-1, 1)
    values = {
        "residual": state.residual,
        "geocross": state.terms["GEOCROSS"],
        "angle": torch.rad2deg(cosine.acos()).mean(1),
    }
    return {what: value.tolist() for what, value in values.items()} | {"between": apart.item()}


def seconds(f_us: Mapping[str, Callable], lrs: Sequence[Tensor]) -> pd.DataFrame:
    """Time one draw from each LR image: LR images x upscalers, in seconds; a first draw of each is not counted.

    Args:
        f_us: name -> upscaler, as `upscalers.build` returns it.
        lrs: LR images, (1, 3, h, w) each.
    """
    found = {name: [] for name in f_us}
    for name, upscale in f_us.items():
        for k, lr in enumerate([lrs[0], *lrs]):
            start = time.perf_counter()
            upscale(lr, [seeded("seconds", k)])
            found[name].append(time.perf_counter() - start)
    return pd.DataFrame(found).iloc[1:]


def trace(axes: Sequence[Axes], traces: Sequence[Mapping], eps: float) -> None:
    """A search along its steps: residual, GEOCROSS, and angles on the sphere.

    Args:
        axes: three panels.
        traces: for each step residual, geocross and angle (to the start, degrees) of each sample, and between, the mean
            angle of two samples.
        eps: residual from which on the search is content.
    """
    for ax, what in zip(axes, ("residual", "geocross", "angle"), strict=True):
        along_steps(ax, [line[what] for line in traces], label="to its own start")
        ax.set_xlabel("step")
        ax.minorticks_off()
    axes[0].axhline(eps, color="C3", ls="--", lw=1)
    axes[0].set(yscale="log", title="residual", ylabel="mean squared difference\nof the LR images")
    axes[0].text(0.98, eps, "converged below", color="C3", fontsize=7, ha="right", va="bottom",
                 transform=axes[0].get_yaxis_transform())  # fmt: skip
    axes[1].set(yscale="log", title="GEOCROSS", ylabel="squared angle\nbetween the layers' styles")
    axes[2].plot([line["between"] for line in traces], color="C1", lw=1.6, ls="-.", label="between two samples")
    axes[2].set(title="angle on the sphere", ylabel="degrees", ylim=(0, 100))
    axes[2].legend(frameon=False, loc="lower right")


def bars(ax: Axes, parts: Mapping[str, Decided]) -> None:
    """Horizontal bars with 95 % intervals, the value beside each; hollow where its sign is open.

    Args:
        ax: where to draw.
        parts: of `findings.decided`, the first on top.
    """
    for place, (quantity, verdict) in enumerate(parts.values()):
        look = {"color": f"C{place}"} if verdict != "not shown" else {"color": "white", "edgecolor": f"C{place}"}
        ax.barh(place, quantity.value, height=0.6, **look)
        ax.plot([quantity.low, quantity.high], [place, place], color="0.15", lw=1.2, marker="|", ms=6)
        ax.text(1.02, place, f"{quantity.value:.3f}", transform=ax.get_yaxis_transform(), va="center", fontsize=7)
    ax.axvline(0, color="0.35", lw=0.8)
    ax.set_yticks(range(len(parts)), list(parts))
    ax.set_ylim(len(parts) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)


def widths(ax: Axes, values: Mapping[str, tuple[float, int]], *, most: int = 900) -> None:
    """Half the 95 % interval of scores, in per cent of them, against the number of photographs.

    Args:
        ax: where to draw.
        values: name -> share at one photograph (1.96 sd / mean), and how many photographs it was taken from; beyond
            these the line is dashed.
        most: the largest number.
    """
    for k, (name, (share, n)) in enumerate(values.items()):
        for places, style in ((np.geomspace(2, n, 9), "-"), (np.geomspace(n, most, 5), "--")):
            ax.plot(places, 100 * share / np.sqrt(places), style, color=f"C{k}", marker="osD^vP"[k % 6], ms=3,
                    markevery=[-1], label=name if style == "-" else None)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="photographs")
    for axis, ticks in ((ax.xaxis, (2, 5, 10, 20, 50, 100, 200, 500, 900)), (ax.yaxis, (1, 2, 5, 10, 20, 50))):
        low, high = axis.get_view_interval()
        axis.set_ticks([tick for tick in ticks if low <= tick <= high])
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(plt.NullLocator())


def along_the_search(traces: Sequence[Mapping], eps: float) -> Figure:
    """The three panels of `trace`."""
    fig, axes = plt.subplots(1, 3, figsize=size(2, 0.33))
    trace(axes, traces, eps)
    return fig


def multiples(
    parts: Mapping[str, Mapping[str, pd.DataFrame]],
    kinds: Sequence[str],
    to: str,
    by: str,
    *,
    order: Sequence[str],
    xlabel: str,
    aspect: float,
    columns: int,
) -> Figure:
    """Losses as multiples of that of one condition, a panel for each D and a mark for each upscaler.

    Args:
        parts: upscaler -> D -> rows.
        kinds: the D.
        to: the condition that is 1.
        by: the column that has the conditions.
        order: conditions from top to bottom.
        xlabel: what the multiples are of.
        aspect: height of the figure as a share of its width.
        columns: places for panels.
    """
    fig, axes = plt.subplots(1, columns, figsize=size(2, aspect), sharey=True, squeeze=False)
    for ax, d in zip(axes[0], kinds, strict=False):
        table = search_findings.ratios({name: each[d] for name, each in parts.items()}, to, by)
        evidence_plots.dots(ax, table, "condition", "what", order=order, at=1, ratio=True)
        ax.set(title=f"D = {evidence_plots.name_of(d)}", xlabel=xlabel)
    evidence_plots.legend(axes[0, 0], list(parts))
    return fig


def budgets(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """The parts of a search's score, a panel for each D.

    Args:
        tables: D -> `manifold.budget`.
    """
    fig, axes = plt.subplots(1, len(tables), figsize=size(2, 0.3), sharey=True, squeeze=False)
    for ax, (d, table) in zip(axes[0], tables.items(), strict=True):
        bars(ax, findings.decided(table))
        ax.set_xlabel(f"part of the loss, {evidence_plots.name_of(d)}")
    return fig


def in_the_loss(parts: Mapping[str, pd.DataFrame], downscalers: Sequence[str], xlabel: str) -> Figure:
    """Scores of the downscalers, a mark for each thing that stands in the loss.

    Args:
        parts: what stands there -> rows of one D.
        downscalers: from top to bottom.
        xlabel: what the scores are.
    """
    table = pd.concat([rankings.scores(part).assign(what=name) for name, part in parts.items()])
    fig, ax = plt.subplots(figsize=size(1, 0.85))
    evidence_plots.dots(ax, table.assign(value=table["mean"]), "downscaler", "what", order=downscalers)
    ax.set_xlabel(xlabel)
    evidence_plots.legend(ax, list(parts))
    return fig


def how_many_images(
    half: Mapping[str, Quantity], tables: Mapping[str, pd.DataFrame], titles: Sequence[str], n: int = 900
) -> Figure:
    """Left how exactly scores are known, right how often a ranking keeps its signs, by the number of images.

    Args:
        half: damage -> half width at `n` images, of `search_findings.half_widths`; {} leaves the left panel empty.
        tables: upscaler -> table of `budget.images_for_ranking`.
        titles: of the two panels.
        n: images.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=size(2, 0.42))
    if half:
        widths(left, {name: (q.value * np.sqrt(n), q.n) for name, q in half.items()})
        left.legend(frameon=False)
    left.set(title=titles[0], ylabel="half width of S, % of it")
    evidence_plots.subsamples(right, tables, "share_signs")
    right.set(title=titles[1], ylabel="subsamples with all signs, %")
    right.legend(frameon=False, loc="lower right")
    return fig


def read_as(table: pd.DataFrame, everyone: pd.DataFrame) -> Figure:
    """Left how often each picture is read as White, by group of faces; right as each class, of all faces.

    Args:
        table: of `face_groups.share_table`.
        everyone: pictures x classes, of `face_groups.classes`; their order is that of the lines.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=size(2, 0.5), sharey=True)
    evidence_plots.dots(left, table, "picture", "group", order=list(everyone.index))
    evidence_plots.legend(left, list(table.group.unique()), loc="outside lower left")
    left.set(xlabel="share read as White (95 %)", xlim=(-0.1, 1.15))
    shares(right, everyone.T.to_dict(), chance=1 / everyone.shape[1])
    right.set_xlabel("all faces: share read as each class")
    how = {"loc": "outside lower right", "ncols": 5, "frameon": False, "columnspacing": 0.8, "handlelength": 1}
    fig.legend(*right.get_legend_handles_labels(), **how)
    return fig
