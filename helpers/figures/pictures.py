"""Draw images: panels at one crop and one range, and maps of the error of each method."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from helpers.figures.style import WIDTHS, shorten
from helpers.images import check_images, to_uint8


def panels(
    images: Sequence[Tensor],
    titles: Sequence[str],
    *,
    scores: Sequence[float | str | None] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    overview: bool = True,
    columns: int = 4,
    width: float = WIDTHS["cvpr"][1],
) -> Figure:
    """Show images side by side: one crop, one range, nearest neighbour (pixels stay squares).

    Args:
        images: (1, 3, H, W) in [0, 1] each; other sizes (LR) are shown at the size of the first.
        titles: text above each image.
        scores: text in the corner of each image; numbers get three decimals, None leaves it empty.
        crop: (top, left, height, width) in pixels of the first image; None shows all of it.
        overview: with a crop, first show the whole first image with the crop marked.
        columns: panels in a line.
        width: of the figure, in inches.

    Raises:
        ValueError: no such images; as many titles and scores are expected; the crop leaves the image.
    """
    scores = [None] * len(images) if scores is None else scores
    if not len(images) == len(titles) == len(scores) or not images:
        raise ValueError(
            f"expected as many titles and scores as images, got {len(images)}, {len(titles)}, {len(scores)}"
        )
    for title, image in zip(titles, images, strict=True):
        check_images(image, name=title)
    height, breadth = images[0].shape[-2:]
    top, left, tall, wide = box = (0, 0, height, breadth) if crop is None else crop
    if min(box) < 0 or min(tall, wide) < 1 or top + tall > height or left + wide > breadth:
        raise ValueError(f"expected a crop (top, left, height, width) inside {height}x{breadth}, got {crop}")
    shown = [(image, title, score, box) for image, title, score in zip(images, titles, scores, strict=True)]
    if crop is not None and overview:
        shown.insert(0, (images[0], f"{titles[0]}, whole", None, (0, 0, height, breadth)))
    fig, axes = _grid(len(shown), columns, width, tall / wide)
    for ax, (image, title, score, (y, x, h, w)) in zip(axes, shown, strict=True):
        ax.imshow(to_pixels(image), extent=(0, breadth, height, 0))
        ax.set(xlim=(x, x + w), ylim=(y + h, y))
        _title(ax, title)
        _corner(ax, score)
    if crop is not None and overview:
        axes[0].add_patch(Rectangle((left, top), wide, tall, fill=False, edgecolor="yellow", linewidth=1))
    return fig


def sheet(
    lines: Mapping[str, Sequence[Tensor]],
    *,
    heads: Sequence[str] = (),
    scores: Mapping[str, Sequence[float | str | None]] | None = None,
    width: float = WIDTHS["cvpr"][1],
) -> Figure:
    """Show images as a table: what a line is stands on its left, what a column is above the first line.

    Args:
        lines: images of each line, (1, 3, H, W) in [0, 1], all of one size; as many in each.
        heads: above the columns; () leaves them without.
        scores: what stands in the corner of each image of a line; numbers get three decimals, None leaves it empty.
        width: of the figure, in inches.

    Raises:
        ValueError: no such images, another size or number of them, or of heads or scores.
    """
    shapes = {tuple(image.shape) for images in lines.values() for image in images}
    counts = {len(images) for images in lines.values()} | ({len(heads)} if heads else set())
    given = {name: len(values) for name, values in (scores or {}).items()}
    if len(shapes) != 1 or len(counts) != 1 or not all(given.get(name, n) == n for name in lines for n in counts):
        raise ValueError(f"expected lines of as many images of one size, with as many heads and scores; got "
                         f"{ {name: len(images) for name, images in lines.items()} } images of sizes {sorted(shapes)}, "
                         f"{len(heads)} heads, scores {given}")  # fmt: skip
    (shape,), (columns,) = shapes, counts
    fig, axes = _grid(len(lines) * columns, columns, width, shape[-2] / shape[-1], lines_of_title=0)
    for line, (name, images) in zip(axes.reshape(-1, columns), lines.items(), strict=True):
        line[0].set_ylabel(name)
        for ax, image, score in zip(line, images, (scores or {}).get(name, [None] * columns), strict=True):
            check_images(image, name=name)
            ax.imshow(to_pixels(image))
            _corner(ax, score)
    for ax, head in zip(axes, heads, strict=False):
        _title(ax, head)
    return fig


def to_pixels(image: Tensor) -> np.ndarray:
    """An image (1, 3, H, W) in [0, 1] for `imshow`: 8-bit levels, shape (H, W, 3)."""
    return to_uint8(image.detach())[0].permute(1, 2, 0).cpu().numpy()


def difference_maps(
    hr: Tensor,
    sr: Mapping[str, Tensor],
    *,
    scores: Mapping[str, float | str] | None = None,
    columns: int = 4,
    width: float = WIDTHS["cvpr"][1],
) -> Figure:
    """Map the error of each method: |x^ - x| averaged over draws and channels, in 8-bit levels, one scale for all.

    The scale ends at the 99.5th percentile over all maps, so that one bright pixel does not darken the rest. Titles
    carry the mean of each map.

    Args:
        hr: the HR image, (1, 3, H, W) in [0, 1].
        sr: draws of the same height and width for each name, (Q, 3, H, W).
        scores: what stands in the corner of a map, by name; numbers get three decimals.
        columns: panels in a line.
        width: of the figure, in inches.

    Raises:
        ValueError: no such images, another height or width, or scores of other names.
    """
    check_images(hr)
    for name, image in sr.items():
        check_images(image, name=name)
        if image.shape[1:] != hr.shape[1:]:
            raise ValueError(f"{name}: expected shape (Q, *{tuple(hr.shape[1:])}), got {tuple(image.shape)}")
    if not sr:
        raise ValueError("expected one SR image or more, got none")
    if scores is not None and set(scores) != set(sr):
        raise ValueError(f"expected a score for each of {list(sr)}, got {list(scores)}")
    maps = {name: 255 * (draws.cpu() - hr.cpu()).abs().mean((0, 1)).numpy() for name, draws in sr.items()}
    top = max(float(np.quantile(list(maps.values()), 0.995)), 1e-3)
    fig, axes = _grid(len(maps), columns, width, hr.shape[-2] / hr.shape[-1], beside=0.55, lines_of_title=2)
    for ax, (name, values) in zip(axes, maps.items(), strict=True):
        shown = ax.imshow(values, cmap="magma", vmin=0, vmax=top)
        _title(ax, name, f"mean {values.mean():.1f}")
        _corner(ax, scores[name] if scores else None)
    bar = fig.colorbar(shown, ax=axes, extend="max", fraction=0.04, aspect=30, pad=0.01)
    bar.set_label("|SR \N{MINUS SIGN} HR| (of 255)", fontsize=7)
    return fig


def _grid(
    n: int, columns: int, width: float, aspect: float, *, beside: float = 0, lines_of_title: int = 1
) -> tuple[Figure, np.ndarray]:
    """n axes without ticks, at most `columns` in a line; `beside` inches stay free on the right."""
    lines = -(-n // columns)
    columns = -(-n // lines)
    height = lines * ((width - beside) / columns * aspect + 0.08 + 0.14 * lines_of_title)
    fig = plt.figure(figsize=(width, height), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = np.array([fig.add_subplot(lines, columns, k + 1) for k in range(n)])
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return fig, axes


def _title(ax: Axes, name: str, second: str = "") -> None:
    """A title no wider than its panel."""
    longest = int(ax.figure.get_figwidth() / ax.get_subplotspec().get_gridspec().ncols * 12)
    ax.set_title(f"{shorten(name, longest)}\n{second}" if second else shorten(name, longest), pad=3)


def _corner(ax: Axes, score: float | str | None) -> None:
    """A score in the lower left corner of a panel, three decimals unless it is text; None leaves it empty."""
    if score is None:
        return
    where = {"xy": (0, 0), "xycoords": "axes fraction", "xytext": (3, 3.5), "textcoords": "offset points"}
    back = {"facecolor": "black", "alpha": 0.7, "pad": 1.5, "linewidth": 0}
    ax.annotate(score if isinstance(score, str) else f"{score:.3f}", **where, color="white", fontsize=7, bbox=back)
