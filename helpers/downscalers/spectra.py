"""Measure downscalers: test pictures, response to gratings, spectra of LR images, displacement."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dctn, idctn
from torch import Tensor

from helpers.images import check_hr

CELL = 4  # DCT coefficients along the side of a cell in `transfer`
LINES = 8  # LR pixels across the wave in `response`


def grating(
    height: int, width: int, frequency: float, *, amplitude: float = 0.25, phase: float = 0.0, axis: str = "x"
) -> Tensor:
    """Grey cosine grating 0.5 + amplitude cos(2 pi frequency (u - centre) + phase), u pixels along one axis.

    Args:
        height, width: in pixels.
        frequency: cycles per pixel, 0 to 0.5.
        amplitude: above 0, at most 0.5.
        phase: in radians, at the centre of the picture.
        axis: "x" (the wave runs along the width) or "y".

    Returns:
        Image in [0, 1], shape (1, 3, height, width).

    Raises:
        ValueError: an argument is not as described.
    """
    if min(height, width) < 1 or not (0 <= frequency <= 0.5 and 0 < amplitude <= 0.5) or axis not in ("x", "y"):
        got = f"{height}x{width}, frequency={frequency}, amplitude={amplitude}, axis={axis!r}"
        raise ValueError(f"expected pixels, frequency in [0, 0.5], amplitude in (0, 0.5], axis x or y, got {got}")
    n = width if axis == "x" else height
    u = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
    wave = (0.5 + amplitude * torch.cos(2 * math.pi * frequency * u + phase)).clamp(0, 1).float()
    return (wave if axis == "x" else wave[:, None]).expand(1, 3, height, width).contiguous()


def response(
    downscale: Callable[[Tensor, int], Tensor],
    scale: int,
    frequencies: Sequence[float],
    *,
    amplitude: float = 0.25,
    axis: str = "x",
    phases: int = 8,
    length: int = 64,
) -> np.ndarray:
    """Complex frequency response along one axis, measured with gratings.

    The LR image of a grating is demodulated with the same wave, sampled at the centres of the LR pixels. For a linear
    filter this gives the transfer function H(f), below the LR Nyquist frequency 1 / (2 s) (kept) and above (folded
    back). For any other filter it gives the part of the LR image that is this wave, and depends on the amplitude.

    Args:
        downscale: f_ds, called as `downscale(hr, scale)`.
        scale: scaling factor s.
        frequencies, amplitude: of the gratings; cycles per HR pixel, 0 < f <= 0.5.
        axis: "x" or "y", the direction in which the wave runs.
        phases: number of phases, evenly spread over a turn, at least 3.
        length: length of the LR image along the wave; the outer eighth on each side is left out.

    Returns:
        H, complex, shape (len(frequencies),). |H| is the amplitude that remains, -angle(H) / (2 pi f) the
        shift of the content in HR pixels (positive: right or down).

    Raises:
        ValueError: as `grating`; phases below 3, length below 16, no frequency.
    """
    if phases < 3 or length < 16 or not len(frequencies) or min(frequencies) <= 0:
        raise ValueError(f"expected phases >= 3, length >= 16, frequencies > 0, got {phases}, {length}, {frequencies}")
    turns = 2 * math.pi * np.arange(phases) / phases
    size = (LINES * scale, length * scale) if axis == "x" else (length * scale, LINES * scale)
    # one grey level across the wave, so that 8-bit rounding is at another place in every line and averages out
    ramp = (torch.linspace(-0.5, 0.5, LINES * scale) / 255).view((-1, 1) if axis == "x" else (1, -1))
    centres = (np.arange(length) - (length - 1) / 2) * scale
    inside = slice(length // 8, length - length // 8)
    found = []
    for frequency in frequencies:
        waves = [grating(*size, frequency, amplitude=amplitude, phase=turn, axis=axis) for turn in turns]
        lr = downscale((torch.cat(waves) + ramp).clamp(0, 1), scale)
        profile = lr.cpu().double().mean(1).mean(1 if axis == "x" else 2).numpy()  # (phases, length)
        wave = np.exp(-1j * (2 * math.pi * frequency * centres + turns[:, None]))
        found.append(2 * (profile * wave)[:, inside].mean() / amplitude)
    return np.array(found)


def ideal(hr: Tensor, scale: int) -> Tensor:
    """The band-limited LR image: everything below the LR Nyquist frequency kept, everything above removed.

    The lowest coefficients of the DCT-II: a brick-wall filter of the mirrored picture. A yardstick; it rings.

    Args:
        hr: HR images in [0, 1], shape (N, 3, H, W), H and W multiples of `scale`.
        scale: scaling factor s.

    Returns:
        LR images, shape (N, 3, H / s, W / s), not rounded; may leave [0, 1].

    Raises:
        ValueError: `hr` or `scale` is not as described.
    """
    check_hr(hr, scale)
    height, width = hr.shape[2] // scale, hr.shape[3] // scale
    waves = dctn(hr.cpu().double().numpy(), axes=(2, 3), norm="ortho")[:, :, :height, :width]
    return torch.from_numpy(idctn(waves, axes=(2, 3), norm="ortho") / scale).to(hr)


class Transfer(NamedTuple):
    """One LR image against the ideal one, in rings of equal width; arrays of shape (bands,)."""

    frequency: np.ndarray  # middle of each ring, cycles per LR pixel
    power: np.ndarray  # mean power of a coefficient of the LR image, levels of [0, 1] squared
    ratio: np.ndarray  # that power / the ideal one's: above 1 sharper, below 1 softer
    gain: np.ndarray  # amplitude of the part that follows the ideal image
    foreign: np.ndarray  # share of the power that does not follow it: aliases, displacement, rounding


def transfer(lr: Tensor, reference: Tensor, bands: int = 12) -> Transfer:
    """Radially averaged power spectrum of an LR image, and how it relates to the ideal LR image of the same HR.

    In each cell of 4 x 4 coefficients of the DCT-II (mirrored borders, so no window is needed) the LR image is
    split into gain x reference and a rest uncorrelated with it. For a symmetric linear filter the gain is its
    transfer function and the rest is what folded back. The mean brightness is left out.

    Args:
        lr: LR image, shape (1, 3, h, w).
        reference: `ideal` of the same HR image, same shape.
        bands: rings up to 0.5 cycles per LR pixel; the corners beyond are left out.

    Raises:
        ValueError: shapes differ, or more bands than a quarter of the shorter side.
    """
    if lr.shape != reference.shape or lr.ndim != 4 or len(lr) != 1 or not 1 <= bands <= min(lr.shape[2:]) // 4:
        got = f"{tuple(lr.shape)}, {tuple(reference.shape)}, bands={bands}"
        raise ValueError(f"expected two LR images (1, 3, h, w), 1 <= bands <= h / 4 and w / 4, got {got}")
    height, width = lr.shape[2:]
    got, wanted = (dctn(x.cpu().double().numpy()[0], axes=(1, 2), norm="ortho") for x in (lr, reference))
    got[:, 0, 0] = wanted[:, 0, 0] = 0
    v, u = np.arange(height)[:, None], np.arange(width)
    ring = np.minimum(np.hypot(v / height, u / width) * bands, bands).astype(int).ravel()
    cell = (v // CELL * width + u // CELL).ravel()

    def sums(index: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.bincount(index, values.sum(0).ravel(), index.max() + 1)

    follows, theirs = sums(cell, got * wanted), sums(cell, wanted**2)
    gain = np.divide(follows, theirs, out=np.zeros_like(theirs), where=theirs > 0)[cell].reshape(height, width)
    free = sums(cell, np.ones_like(got))  # one gain is fitted to a cell, so its rest comes out a little too small
    rest = (got - gain * wanted) ** 2 * (free / np.maximum(free - 1, 1))[cell].reshape(height, width)
    own, theirs, cross, rest, count = (
        sums(ring, x)[:bands] for x in (got**2, wanted**2, got * wanted, rest, np.ones_like(got))
    )
    middle = (np.arange(bands) + 0.5) / (2 * bands)
    return Transfer(middle, own / count, own / theirs, cross / theirs, np.minimum(rest / own, 1))


def displacement(moved: Tensor, fixed: Tensor) -> tuple[float, float]:
    """Translation between two nearly equal pictures, from least squares on gradients (Lucas and Kanade 1981).

    Both are smoothed (Gaussian, sigma 1.5), the outer eighth is left out. For shifts well below a pixel.

    Args:
        moved, fixed: images of one shape (1, 3, h, w).

    Returns:
        (down, right) in pixels: moved(v, u) = fixed(v - down, u - right).

    Raises:
        ValueError: shapes differ, fewer than 16 pixels a side, or a picture without gradients in two directions.
    """
    if moved.shape != fixed.shape or moved.ndim != 4 or len(moved) != 1 or min(moved.shape[2:]) < 16:
        got = f"{tuple(moved.shape)} and {tuple(fixed.shape)}"
        raise ValueError(f"expected two images (1, 3, h, w) of at least 16x16, got {got}")
    taps = torch.exp(-torch.arange(-5.0, 6).double().square() / (2 * 1.5**2))
    kernel = (taps / taps.sum()).view(1, 1, -1, 1)

    def smooth(x: Tensor) -> Tensor:
        x = F.pad(x.cpu().double().transpose(0, 1), (5, 5, 5, 5), mode="reflect")
        return F.conv2d(F.conv2d(x, kernel), kernel.transpose(2, 3))

    a, b = smooth(moved), smooth(fixed)
    v, u = (n // 8 for n in a.shape[2:])
    middle = (..., slice(v, -v), slice(u, -u))
    half = (a + b) / 2
    slopes = np.stack([g.numpy()[middle].ravel() for g in torch.gradient(half, dim=(2, 3))], axis=1)
    if np.linalg.cond(slopes.T @ slopes) > 1e8:
        raise ValueError("expected pictures with gradients in two directions, got none in one of them")
    found = np.linalg.lstsq(slopes, (b - a).numpy()[middle].ravel(), rcond=None)[0]
    return float(found[0]), float(found[1])
