"""Write figures to files that stay the same as long as the figure does, and that hold images in few bytes."""

import contextlib
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from helpers import files

DPI = 300
COARSE = 4  # an image pixel this many dots wide is written as so many dots: some viewers would blur it


def save(fig: Figure, name: str, figures_dir: str | Path = "../figures") -> tuple[Path, Path]:
    """Write `name`.pdf and `name`.png (300 dpi) without a date: an unchanged figure is an unchanged file.

    The PDF holds images as 8-bit RGB with the pixels they have, cut to the part in view; it is reduced to 300 dpi only
    where they have more. The pixels of a coarse image, such as an LR image, stay squares in every viewer.

    Args:
        fig: the figure; its size is kept (nothing is cropped), so text has the size it was given.
        name: for example "00_ranking": notebook number and content.
        figures_dir: folder; made if it is not there.

    Returns:
        The two paths. Older files there are replaced once both new ones are whole, or stay as they are.

    Raises:
        ValueError: `name` holds more than letters, digits, "_" and "-".
        OSError: as `files.replace`.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"expected a name of letters, digits, '_' and '-', got {name!r}")
    pdf, png = (Path(figures_dir, f"{name}.{kind}") for kind in ("pdf", "png"))
    contents = {pdf: BytesIO(), png: BytesIO()}
    with _own_pixels(fig):
        fig.savefig(
            contents[pdf], format="pdf", dpi=DPI, metadata=dict.fromkeys(["CreationDate", "Creator", "Producer"])
        )
    fig.savefig(contents[png], format="png", dpi=DPI, metadata={"Software": None})
    files.replace_all({path: content.getvalue() for path, content in contents.items()})
    return pdf, png


@contextlib.contextmanager
def _own_pixels(fig: Figure) -> Iterator[None]:
    """Until the end of the block, images are 8-bit RGB, cut to their axes, and not resampled by the PDF backend."""
    images = [image for image in fig.findobj(AxesImage) if image.get_interpolation() == "nearest"]
    if images:
        fig.draw_without_rendering()  # the layout decides how large each image is
    changed = []
    for image in images:
        pixels, extent = _in_view(image)
        if (pixels[..., 3] < 255).any():  # without a value somewhere: the page shows through
            continue
        corners = image.axes.transData.transform(np.reshape(extent, (2, 2)).T)
        dots = np.abs(np.diff(corners, axis=0))[0] * DPI / fig.dpi
        times = int((dots / pixels.shape[1::-1]).min() + 0.01)  # the layout is not exact to a dot
        if times:
            times = times if times >= COARSE else 1
            changed.append((image, image.get_array(), image.get_extent()))
            _replace(image, pixels[..., :3].repeat(times, 0).repeat(times, 1), extent, "none")
    try:
        yield
    finally:
        for image, data, extent in changed:
            _replace(image, data, extent, "nearest")


def _replace(image: AxesImage, data: np.ndarray, extent: tuple, interpolation: str) -> None:
    limits = image.axes.get_xlim(), image.axes.get_ylim()
    image.set(data=data, extent=extent, interpolation=interpolation)
    image.axes.set(xlim=limits[0], ylim=limits[1])  # a new extent moves them


def _in_view(image: AxesImage) -> tuple[np.ndarray, tuple[float, ...]]:
    """The pixels of an image within the limits of its axes, uint8 RGBA (h, w, 4), and their extent."""
    data = image.get_array()
    if data.ndim == 3 and data.dtype != np.uint8:
        data = np.round(255 * np.clip(data, 0, 1)).astype(np.uint8)
    pixels = image.to_rgba(data, bytes=True)
    left, right, bottom, top = image.get_extent()
    rows = (top, bottom) if image.origin == "upper" else (bottom, top)
    columns, (left, right) = _span((left, right), image.axes.get_xlim(), pixels.shape[1])
    lines, (first, last) = _span(rows, image.axes.get_ylim(), pixels.shape[0])
    ends = (last, first) if image.origin == "upper" else (first, last)
    return pixels[lines, columns], (left, right, *ends)


def _span(ends: tuple[float, float], limits: tuple[float, float], n: int) -> tuple[slice, tuple[float, float]]:
    """Which of `n` pixels between two ends lie within the limits, also in part, and the ends of these."""
    step = (ends[1] - ends[0]) / n
    low, high = sorted((limit - ends[0]) / step for limit in limits)
    low, high = max(int(np.floor(low + 1e-6)), 0), min(int(np.ceil(high - 1e-6)), n)
    return slice(low, high), (ends[0] + low * step, ends[0] + high * step)
