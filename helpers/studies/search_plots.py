"""Plot what only the notebook on PULSE shows: sheets of images in named lines, searches along their steps, shares."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from helpers.figures.pictures import to_pixels
from helpers.figures.style import WIDTHS
from helpers.images import check_images


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
            if value < 0.1:  # no room for the number
                continue
            ax.text(start + value / 2, at, f"{100 * value:.0f}", ha="center", va="center", fontsize=6, color="white")
        left = left + values
    for k in range(1, len(classes)):
        ax.axvline(k * chance, color="0.2", lw=0.6, ls=":")
    ax.set_yticks(range(len(groups)), list(groups))
    ax.set(xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5))
