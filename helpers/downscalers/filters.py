"""Downscale with fixed filters; the same filter of Pillow, MATLAB and torch has three names, for they differ."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.colour import to_linear, to_srgb
from helpers.images import check_hr, in_float64

PRECISION = 22  # bits of Pillow's integer filter weights for 8-bit images
BLOCK = 32  # output pixels per matrix product: enough to fill it, few enough to skip most zeros


def _box(x: np.ndarray) -> np.ndarray:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _sinc(x: np.ndarray) -> np.ndarray:
    # sin(y) / y with y = pi x, the order of operations of Pillow: its weights are matched to the last bit
    y = x * math.pi
    return np.divide(np.sin(y), y, out=np.ones_like(y), where=y != 0)


def _hamming(x: np.ndarray) -> np.ndarray:
    low, high = float(np.float32(0.54)), float(np.float32(0.46))  # single precision in Pillow's source
    return np.where(np.abs(x) < 1, _sinc(x) * (low + high * np.cos(x * math.pi)), 0.0)


def _cubic(x: np.ndarray, a: float = -0.5) -> np.ndarray:
    x = np.abs(x)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def _lanczos2(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 2, _sinc(x) * _sinc(x / 2), 0.0)


def _lanczos3(x: np.ndarray) -> np.ndarray:
    return np.where((x >= -3) & (x < 3), _sinc(x) * _sinc(x / 3), 0.0)


FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {  # kernel, half its width in LR pixels
    "box": (_box, 0.5),
    "bilinear": (_triangle, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos3, 3.0),
    "lanczos2": (_lanczos2, 2.0),
}


def _taps(n_in: int, n_out: int, filter: str, convention: str) -> tuple[np.ndarray, np.ndarray]:
    """Input positions and weights of every output pixel of one axis, both (n_out, taps)."""
    kernel, radius = FILTERS[filter]
    stretch = max(n_in / n_out, 1.0)  # antialiasing: the kernel is as wide as an output pixel
    output = np.arange(n_out)[:, None]
    if convention != "matlab":  # pillow: the window is cut at the border and its weights are normalised again
        centre = (output + 0.5) * (n_in / n_out)
        first = np.maximum(np.trunc(centre - radius * stretch + 0.5), 0).astype(int)
        last = np.minimum(np.trunc(centre + radius * stretch + 0.5), n_in).astype(int)
        index = first + np.arange((last - first).max())
        weight = np.where(index < last, kernel((index - centre + 0.5) * (1 / stretch)), 0.0)
        index = np.minimum(index, n_in - 1)
    else:  # the window is mirrored at the border, the edge pixel repeated
        centre = (output + 0.5) * (n_in / n_out) - 0.5
        first = np.floor(centre - radius * stretch).astype(int)
        index = first + np.arange(math.ceil(2 * radius * stretch) + 2)
        weight = kernel((index - centre) / stretch)
        index = index % (2 * n_in)
        index = np.minimum(index, 2 * n_in - 1 - index)
    return index, weight / weight.cumsum(1)[:, -1:]  # cumsum adds from left to right, as Pillow does


@lru_cache(maxsize=64)
def _blocks(n_in: int, n_out: int, filter: str, convention: str, integer: bool) -> list[tuple[int, int, np.ndarray]]:
    """The banded matrix of one axis, as dense blocks (first input, last input + 1, weights)."""
    index, weight = _taps(n_in, n_out, filter, convention)
    if integer:  # rounded half away from zero
        weight = np.trunc(weight * 2**PRECISION + np.copysign(0.5, weight)) / 2**PRECISION
    blocks = []
    for row in range(0, n_out, BLOCK):
        columns, values = index[row : row + BLOCK], weight[row : row + BLOCK]
        first, last = columns.min(), columns.max() + 1
        matrix = np.zeros((len(columns), last - first))
        np.add.at(matrix, (np.arange(len(columns))[:, None], columns - first), values)
        blocks.append((int(first), int(last), matrix))
    return blocks


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _matrices(dtype: torch.dtype, device: torch.device, *axis) -> list[tuple[int, int, Tensor]]:
    """`_blocks(*axis)` where the images are."""
    return [(first, last, torch.from_numpy(matrix).to(device, dtype)) for first, last, matrix in _blocks(*axis)]


def _multiply(x: Tensor, dim: int, *axis) -> Tensor:
    """Banded matrix, `_blocks(*axis)`, times one axis (1 = height, 2 = width) of x, (B, H, W)."""
    parts = []
    for first, last, weights in _matrices(x.dtype, x.device, *axis):
        window = x.narrow(dim, first, last - first)
        parts.append(weights @ window if dim == 1 else window @ weights.T)
    return torch.cat(parts, dim)


def _nearest_index(n_in: int, n_out: int, device: torch.device) -> Tensor:
    # Pillow adds the step again and again; its rounding decides non-integer ties
    position = np.full(n_out, n_in / n_out)
    position[0] *= 0.5
    return torch.from_numpy(position.cumsum().astype(np.int64)).to(device)


def resize(
    images: Tensor,
    size: tuple[int, int],
    filter: str = "bicubic",
    *,
    convention: str = "pillow",
    rounded: bool = True,
) -> Tensor:
    """Resample to any size, smaller or larger, with the filters of Pillow or of MATLAB's imresize.

    Two products with banded matrices, one per axis. With `rounded` both passes work on 8-bit levels as the
    two programs do on 8-bit files: Pillow with 22-bit integer weights (`src/libImaging/Resample.c`), MATLAB
    with real ones; the order of the axes then matters. Pillow takes the width first; since 13.0 the height if
    it loses more than twice as many pixels as the width (python-pillow/Pillow#9549), so pictures more than
    twice as tall as wide depend on Pillow's version. MATLAB takes the axis that shrinks more, height on ties.

    Args:
        images: images in [0, 1], shape (N, 3, H, W).
        size: height and width of the output.
        filter: "nearest", or a key of `FILTERS`: "box", "bilinear", "hamming", "bicubic" (a = -0.5),
            "lanczos" (3 lobes), "lanczos2". All but "nearest" are antialiased when shrinking.
        convention: "pillow" (windows cut at the border; order of Pillow 13), "pillow12" (order of Pillow up
            to 12) or "matlab" (mirrored border).
        rounded: 8-bit levels in, between the passes and out: the output equals Pillow's byte for byte. If
            not, real numbers throughout, differentiable, any range of values accepted, overshoot kept.

    Returns:
        Images of shape (N, 3, *size), same dtype; values k / 255 if `rounded`.

    Raises:
        ValueError: `images` is no such batch, unknown filter or convention, or a size below 1.
    """
    if filter not in ("nearest", *FILTERS):
        raise ValueError(f"filter: expected one of nearest, {', '.join(FILTERS)}, got {filter!r}")
    if convention not in ("pillow", "pillow12", "matlab") or (filter == "nearest" and convention == "matlab"):
        raise ValueError(f"convention: expected pillow, pillow12 or (not for nearest) matlab, got {convention!r}")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: expected (height, width) of at least 1x1, got {size}")
    check_hr(images, 1, in_range=rounded)
    batch, channels, height, width = images.shape
    if rounded and images.device.type == "mps":  # has no float64, in which the sums below are exact
        return resize(images.cpu(), size, filter, convention=convention).to(images.device)
    x = images.flatten(0, 1)
    if rounded:
        x = torch.floor(x * 255 + 0.5).double()
    if filter == "nearest":
        rows = _nearest_index(height, size[0], x.device)
        x = x.index_select(1, rows).index_select(2, _nearest_index(width, size[1], x.device))
    else:
        axes = [(1, height, size[0]), (2, width, size[1])]
        height_first = {
            "pillow": height - size[0] > max(2 * (width - size[1]), 0),
            "pillow12": False,
            "matlab": size[0] * width <= size[1] * height,
        }
        for dim, n_in, n_out in axes if height_first[convention] else reversed(axes):
            integer = rounded and convention != "matlab"
            x = _multiply(x, dim, n_in, n_out, filter, convention, integer)
            if rounded:  # the integer weights: sums below 2^31 times 2^-22, so no rounding error before this one
                x = x.add_(0.5).floor_().clamp_(0, 255)
    x = x.to(images.dtype)
    return (x / 255 if rounded else x).unflatten(0, (batch, channels))


def _shrink(hr: Tensor, scale: int, filter: str, **options) -> Tensor:
    check_hr(hr, scale)
    return resize(hr, (hr.shape[2] // scale, hr.shape[3] // scale), filter, **options)


def nearest(hr: Tensor, scale: int) -> Tensor:
    """Pillow's NEAREST: the pixel at the centre of each block (index s // 2 of 0 .. s - 1).

    Args:
        hr: HR images in [0, 1], shape (N, 3, H, W), H and W multiples of `scale`. They are rounded to
            8-bit levels first.
        scale: scaling factor s, at least 1.

    Returns:
        LR images of 8-bit levels k / 255, shape (N, 3, H / s, W / s), equal to Pillow's in every byte. It is
        "N.N." of the paper: the LR files of the official repository are reproduced exactly.

    Raises:
        ValueError: `hr` or `scale` is not as described.
    """
    return _shrink(hr, scale, "nearest")


def bilinear(hr: Tensor, scale: int) -> Tensor:
    """Pillow's BILINEAR, antialiased: the paper's "Bilinear". See `nearest` for the rest."""
    return _shrink(hr, scale, "bilinear")


def bicubic(hr: Tensor, scale: int) -> Tensor:
    """Pillow's BICUBIC (a = -0.5), antialiased: "Bicubic" of the paper. See `nearest` for the rest."""
    return _shrink(hr, scale, "bicubic")


def bicubic_float(hr: Tensor, scale: int) -> Tensor:
    """Pillow's BICUBIC in real numbers: no rounding, differentiable, for training.

    Args:
        hr: HR images in [0, 1], shape (N, 3, H, W), H and W multiples of `scale`.
        scale: scaling factor s, at least 1.

    Returns:
        LR images, shape (N, 3, H / s, W / s), not rounded; over- and undershoot at edges may leave [0, 1].

    Raises:
        ValueError: `hr` or `scale` is not as described.
    """
    return _shrink(hr, scale, "bicubic", rounded=False)


def lanczos(hr: Tensor, scale: int) -> Tensor:
    """Pillow's LANCZOS, three lobes. See `nearest` for the rest."""
    return _shrink(hr, scale, "lanczos")


def box(hr: Tensor, scale: int) -> Tensor:
    """Pillow's BOX: the mean of each block, rounded. See `nearest` for the rest."""
    return _shrink(hr, scale, "box")


def hamming(hr: Tensor, scale: int) -> Tensor:
    """Pillow's HAMMING, sharper than bilinear, as cheap. See `nearest` for the rest."""
    return _shrink(hr, scale, "hamming")


def matlab_bicubic(hr: Tensor, scale: int, *, rounded: bool = True) -> Tensor:
    """MATLAB's imresize(hr, 1 / s, "bicubic"): Pillow's weights inside, another border (mirrored).

    Args:
        hr: HR images in [0, 1], shape (N, 3, H, W), H and W multiples of `scale`.
        scale: scaling factor s, at least 1.
        rounded: as for a uint8 image in MATLAB, rounded after each axis; if not, as for a double image.

    Returns:
        LR images, shape (N, 3, H / s, W / s); not rounded they may leave [0, 1]. Halves are rounded up, so
        one level may differ from ports that round them to even.

    Raises:
        ValueError: `hr` or `scale` is not as described.
    """
    return _shrink(hr, scale, "bicubic", convention="matlab", rounded=rounded)


def matlab_bilinear(hr: Tensor, scale: int, *, rounded: bool = True) -> Tensor:
    """MATLAB's imresize(hr, 1 / s, "bilinear"). See `matlab_bicubic` for Args, Returns, Raises."""
    return _shrink(hr, scale, "bilinear", convention="matlab", rounded=rounded)


def _in_linear_light(filter: str) -> Callable[[Tensor, int], Tensor]:
    def downscale(hr: Tensor, scale: int) -> Tensor:
        check_hr(hr, scale)
        size = (hr.shape[2] // scale, hr.shape[3] // scale)
        return to_srgb(resize(to_linear(in_float64(hr)), size, filter, rounded=False)).to(hr)

    downscale.__name__ = downscale.__qualname__ = f"{filter}_linear"
    downscale.__doc__ = f"""Pillow's {filter.upper()} on light: sRGB decoded, filtered in real numbers, encoded again.

    Light adds up and sRGB values do not: a checkerboard of black and white seen from afar is grey 188, not 128.

    Args:
        hr: HR images in sRGB, [0, 1], shape (N, 3, H, W), H and W multiples of `scale`.
        scale: scaling factor s, at least 1.

    Returns:
        LR images in sRGB, shape (N, 3, H / s, W / s), not rounded; over- and undershoot may leave [0, 1].

    Raises:
        ValueError: `hr` or `scale` is not as described.
    """
    return downscale


box_linear, bilinear_linear, hamming_linear, bicubic_linear, lanczos_linear = map(
    _in_linear_light, ("box", "bilinear", "hamming", "bicubic", "lanczos")
)


def torch_bicubic(hr: Tensor, scale: int) -> Tensor:
    """torch's (and OpenCV's) bicubic: a = -0.75, no low-pass filter, so it aliases strongly.

    Args:
        hr: HR images in [0, 1], shape (N, 3, H, W), H and W multiples of `scale`.
        scale: scaling factor s, at least 1.

    Returns:
        LR images, shape (N, 3, H / s, W / s), not rounded; bicubic may leave [0, 1].

    Raises:
        ValueError: `hr` or `scale` is not as described.
    """
    check_hr(hr, scale)
    size = (hr.shape[2] // scale, hr.shape[3] // scale)
    return F.interpolate(hr, size, mode="bicubic", align_corners=False)


def torch_bilinear(hr: Tensor, scale: int) -> Tensor:
    """torch's (and OpenCV's) bilinear, no low-pass filter. See `torch_bicubic` for Args, Returns, Raises."""
    check_hr(hr, scale)
    size = (hr.shape[2] // scale, hr.shape[3] // scale)
    return F.interpolate(hr, size, mode="bilinear", align_corners=False)


def nearest_topleft(hr: Tensor, scale: int) -> Tensor:
    """The top-left pixel of each block: torch's "nearest", OpenCV's INTER_NEAREST, `hr[::s, ::s]`.

    See `torch_bicubic` for Args, Returns, Raises; never outside [0, 1]. Half a block away from `nearest`.
    """
    check_hr(hr, scale)
    return hr[:, :, ::scale, ::scale].contiguous()
