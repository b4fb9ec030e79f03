"""Fit the kernel of a downscaler between HR and LR pixels, and find the one of those that programs have."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from helpers.downscalers.filters import FILTERS

REACH = 4  # LR pixels that a kernel may reach beyond its own, on each side
ROUNDS = 5  # of fitting one axis with the kernel of the other, at most
SETTLED = 1e-3  # change of a weight, below which another round changes nothing
SMOOTH = 1e-6  # weight of the second differences: what a picture cannot tell is smooth
ROUNDING = 0.4  # rms in levels that roundings explain, of luma


class Axis(NamedTuple):
    """Least squares for the weights of one axis: what is left for weights c is yy - 2 c b + c G c, over n values."""

    gram: np.ndarray
    product: np.ndarray
    square: float
    n: int

    def rms(self, taps: np.ndarray) -> float:
        """What is left for these weights times the best gain, 8-bit levels."""
        follows, own = taps @ self.product, taps @ self.gram @ taps
        left = self.square - (follows**2 / own if own > 0 else 0)
        return 255 * math.sqrt(max(left, 0) / self.n)

    def solve(self) -> np.ndarray:
        """The weights that leave least."""
        bend = np.diff(np.eye(len(self.product)), 2, axis=0)
        weight = SMOOTH * np.trace(self.gram)
        return np.linalg.solve(self.gram + weight * bend.T @ bend + 1e-12 * weight * np.eye(len(bend.T)), self.product)


class Found(NamedTuple):
    """A kernel by name."""

    name: str
    rms: float  # what it leaves, 8-bit levels
    least: float  # what the best fixed filter leaves
    taps: tuple[np.ndarray, np.ndarray]  # down the height, along the width; see `offsets`
    shift: tuple[float, float]  # (down, right) in HR pixels: of the fitted weights
    point: bool  # whether it takes single pixels


def offsets(scale: int) -> np.ndarray:
    """HR pixels of a window, counted from the first one of the LR pixel's block."""
    return np.arange(-REACH * scale, (REACH + 1) * scale)


def find(pairs: Iterable[tuple[Tensor, Tensor]], scale: int) -> Found:
    """Fit a separable kernel, with an offset for each channel, and name the one that leaves least.

    Args:
        pairs: HR (C, H, W) and LR (C, H / s, W / s), float64; LR pixels nearer to the border than `REACH` are left out,
            and values that are NaN.
        scale: s.

    Returns:
        The name; where both axes can have the same one, they do.
    """
    pairs, k = list(pairs), offsets(scale)
    taps = [np.where((k >= 0) & (k < scale), 1 / scale, 0.0)] * 2
    axes = [None, None]
    for _ in range(ROUNDS):
        before = list(taps)
        for axis in (0, 1):
            axes[axis] = _equations(pairs, scale, axis, taps[1 - axis])
            found = axes[axis].solve()
            taps[axis] = found / found.sum() if abs(found.sum()) > 1e-6 else taps[axis]
        if max(np.abs(now - old).max() for now, old in zip(taps, before, strict=True)) < SETTLED:
            break
    first = _name((_equations(pairs, scale, 0, taps[1]), axes[1]), scale)
    # a name for one axis makes the other clearer
    again = _name(tuple(_equations(pairs, scale, axis, first.taps[1 - axis]) for axis in (0, 1)), scale)
    return again if again.rms < first.rms else first


def filtered(hr: Tensor, taps: Sequence[np.ndarray], scale: int) -> Tensor:
    """Filter (C, H, W) with weights for height and width; LR pixels whose window leaves the image are left out."""
    for weights, axis in zip(taps, (1, 2), strict=True):
        hr = hr.unfold(axis, len(weights), scale) @ torch.from_numpy(weights)
    return hr


def _name(axes: tuple[Axis, Axis], scale: int) -> Found:
    own = [axis.solve() for axis in axes]
    own = [taps / taps.sum() for taps in own]
    shift = tuple(float(taps @ offsets(scale) - (scale - 1) / 2) for taps in own)
    least = _mean([axis.rms(taps) for axis, taps in zip(axes, own, strict=True)])
    ranked = [_rank(axis, scale, moved, taps) for axis, moved, taps in zip(axes, shift, own, strict=True)]
    both = {name: _mean([ranks[name][0] for ranks in ranked]) for name in ranked[0].keys() & ranked[1].keys()}
    name = min(both, key=both.get)
    apart = [min(ranks, key=lambda each: ranks[each][0]) for ranks in ranked]
    left = _mean([ranks[each][0] for ranks, each in zip(ranked, apart, strict=True)])
    names = [name, name] if both[name] <= max(1.3 * left, ROUNDING) else apart
    taps = tuple(ranks[each][1] for ranks, each in zip(ranked, names, strict=True))
    same = names[0] == names[1]
    text = _text(names[0], scale, taps[0]) if same else f"down {names[0]}, along {names[1]}"
    rms = both[name] if same else left
    return Found(text, rms, least, taps, shift, all(each.startswith("pixel") for each in names))


def _mean(values: list[float]) -> float:
    return math.sqrt(np.mean(np.square(values)))


def _rank(axis: Axis, scale: int, shift: float, own: np.ndarray) -> dict[str, tuple[float, np.ndarray]]:
    """Name -> what it leaves, and its weights, shifted or not, whichever leaves less."""
    k, found = offsets(scale), {}
    for name, shape in KERNELS.items():
        tries = [shape(k - (scale - 1) / 2 - moved, scale) for moved in dict.fromkeys((0.0, shift))]
        tries = [taps / taps.sum() for taps in tries if taps.sum() > 0.5]
        found[name] = min(((axis.rms(taps), taps) for taps in tries), key=lambda each: each[0])
    for pixel in range(scale):
        taps = (k == pixel).astype(float)
        found[f"pixel {pixel}"] = axis.rms(taps), taps
    spread = own @ (k - (scale - 1) / 2 - shift) ** 2
    if spread > 0.1:  # one with a free width has to leave clearly less than those without
        taps = np.exp(-((k - (scale - 1) / 2 - shift) ** 2) / (2 * spread))
        taps = taps / taps.sum()
        found[f"Gaussian of sigma {math.sqrt(spread):.1f} HR pixels"] = 1.2 * axis.rms(taps) + 0.02, taps
    return found


def _text(name: str, scale: int, taps: np.ndarray) -> str:
    """The name, and others that have the same weights at this scale, with the programs that have them."""
    shapes = {f"pixel {pixel}": (offsets(scale) == pixel) * 1.0 for pixel in range(scale)}
    shapes |= {other: shape(offsets(scale) - (scale - 1) / 2, scale) for other, shape in KERNELS.items()}
    same = [other for other, shape in shapes.items() if np.abs(shape / shape.sum() - taps).max() < 1e-6]
    words = []
    for other in same or [name]:
        if other.startswith("pixel"):
            pixel = int(other.split()[1])
            by = [by for at, by in ((scale // 2, "Pillow NEAREST"), (0, "torch and OpenCV nearest")) if at == pixel]
            words.append(f"nearest, {other} of 0 to {scale - 1}" + (f" ({', '.join(by)})" if by else ""))
        else:
            words.append(f"{other} ({PROGRAMS[other]})" if other in PROGRAMS else other)
    return " or ".join(words)


def _equations(pairs: list, scale: int, axis: int, other: np.ndarray) -> Axis:
    """Equations for the weights of `axis` (0 down the height), where the other axis is filtered with `other`."""
    size = len(other)
    gram, product, square, n = np.zeros((size, size)), np.zeros(size), 0.0, 0
    for hr, lr in pairs:
        x, y = (hr, lr) if axis == 0 else (hr.transpose(1, 2), lr.transpose(1, 2))
        x = x.unfold(2, size, scale) @ torch.from_numpy(other)  # (C, H, w - 2 REACH)
        x = x.unfold(1, size, scale).flatten(1, 2)  # (C, pixels, size)
        y = y[:, REACH:-REACH, REACH:-REACH].flatten(1)
        known = y.isfinite()
        x, y = (x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)) if known.all() else _centred(x, y, known)
        gram += (x.transpose(1, 2) @ x).sum(0).numpy()
        product += (x.transpose(1, 2) @ y[..., None]).sum((0, 2)).numpy()
        square, n = square + y.square().sum().item(), n + known.sum().item()
    return Axis(gram, product, square, n)


def _centred(x: Tensor, y: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Both less their means over the pixels that are known, 0 at the others."""
    n = known.sum(1, keepdim=True).clamp_min(1)
    y = y.where(known, 0.0)
    mean = (x * known[..., None]).sum(1, keepdim=True) / n[..., None]
    return (x - mean) * known[..., None], (y - y.sum(1, keepdim=True) / n) * known


def _cubic(x: np.ndarray, b: float, c: float) -> np.ndarray:
    """Mitchell and Netravali (SIGGRAPH 1988), Eq. 8."""
    x = np.abs(x)
    inner = ((12 - 9 * b - 6 * c) * x**3 + (-18 + 12 * b + 6 * c) * x**2 + 6 - 2 * b) / 6
    outer = ((-b - 6 * c) * x**3 + (6 * b + 30 * c) * x**2 + (-12 * b - 48 * c) * x + 8 * b + 24 * c) / 6
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def _lanczos4(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 4, np.sinc(x) * np.sinc(x / 4), 0.0)


def _shapes() -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
    wide = {
        "box": FILTERS["box"][0],
        "triangle, antialiased": FILTERS["bilinear"][0],
        "Hamming": FILTERS["hamming"][0],
        "cubic a = -0.5, antialiased": FILTERS["bicubic"][0],
        "cubic a = -0.75, antialiased": lambda x: _cubic(x, 0, 0.75),
        "cubic a = -1, antialiased": lambda x: _cubic(x, 0, 1),
        "cubic B = C = 1/3, antialiased": lambda x: _cubic(x, 1 / 3, 1 / 3),
        "cubic B-spline, antialiased": lambda x: _cubic(x, 1, 0),
        "Lanczos 2, antialiased": FILTERS["lanczos2"][0],
        "Lanczos 3, antialiased": FILTERS["lanczos"][0],
    }
    short = {
        "triangle, not antialiased": FILTERS["bilinear"][0],
        "cubic a = -0.5, not antialiased": FILTERS["bicubic"][0],
        "cubic a = -0.75, not antialiased": lambda x: _cubic(x, 0, 0.75),
        "Lanczos 3, not antialiased": FILTERS["lanczos"][0],
        "Lanczos 4, not antialiased": _lanczos4,
    }
    found = {name: lambda x, scale, f=f: f(x / scale) for name, f in wide.items()}
    return found | {name: lambda x, scale, f=f: f(x) for name, f in short.items()}


KERNELS = _shapes()
PROGRAMS = {
    "box": "Pillow BOX, OpenCV INTER_AREA, torch avg_pool2d",
    "triangle, antialiased": "Pillow BILINEAR, MATLAB imresize bilinear, torch bilinear antialias=True",
    "Hamming": "Pillow HAMMING",
    "cubic a = -0.5, antialiased": "Pillow BICUBIC, MATLAB imresize bicubic, torch bicubic antialias=True",
    "cubic B = C = 1/3, antialiased": "Mitchell, ImageMagick",
    "Lanczos 2, antialiased": "MATLAB imresize lanczos2",
    "Lanczos 3, antialiased": "Pillow LANCZOS, MATLAB imresize lanczos3",
    "triangle, not antialiased": "torch bilinear, OpenCV INTER_LINEAR",
    "cubic a = -0.75, not antialiased": "torch bicubic, OpenCV INTER_CUBIC",
    "Lanczos 4, not antialiased": "OpenCV INTER_LANCZOS4",
}
