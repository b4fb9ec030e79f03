"""Hold an LR image against the HR image it should come from: where its pixels lie."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.downscalers.filters import resize

SIGMA = 1.5  # of the smoothing before slopes are compared, LR pixels
ROUNDS = 3  # of the fit: a slope reaches about half a pixel


class Drift(NamedTuple):
    """Where the content of an LR image lies along one axis, against an LR image of the same HR image; LR pixels."""

    start: float  # at the first pixel, positive: further down or right
    end: float  # at the last pixel
    error: float  # standard error of end - start


def drift(lr: Tensor, fixed: Tensor) -> tuple[Drift, Drift]:
    """Fit shift and stretch of each axis between two LR images by least squares on slopes (Lucas and Kanade 1981).

    Gain and offset are fitted along, so that neither counts as a shift. For less than a pixel or two.

    Args:
        lr, fixed: images of one shape (1, 3, h, w), at least 8x8.

    Returns:
        Down the height and along the width; the error is infinite where a picture has no slopes to go by.
    """
    height, width = fixed.shape[2:]
    one, two = (_smooth(x.double().cpu()) for x in (lr, fixed))
    v = torch.linspace(-1, 1, height, dtype=torch.float64)[:, None].expand(height, width)
    u = torch.linspace(-1, 1, width, dtype=torch.float64).expand(height, width)
    found, error = np.zeros(4), np.full(2, math.inf)
    rim = min(4, height // 4, width // 4)
    inside = (..., slice(rim, height - rim), slice(rim, width - rim))
    for _ in range(ROUNDS):
        down, right = found[0] + found[1] * v, found[2] + found[3] * u
        grid = torch.stack([u - right * 2 / (width - 1), v - down * 2 / (height - 1)], dim=-1)[None]
        moved = F.grid_sample(two, grid, mode="bicubic", padding_mode="border", align_corners=True)
        slope_v, slope_u = torch.gradient((moved + one) / 2, dim=(2, 3))
        terms = [-slope_v, -slope_v * v, -slope_u, -slope_u * u, moved, torch.ones_like(moved)]
        terms = np.stack([term[inside].numpy().ravel() for term in terms], axis=1)
        norms = np.linalg.norm(terms, axis=0)
        if norms.min() < 1e-9 or np.linalg.cond(terms / norms) > 1e6:
            return tuple(Drift(0.0, 0.0, math.inf) for _ in range(2))
        target = (one - moved)[inside].numpy().ravel()
        step = np.linalg.lstsq(terms / norms, target, rcond=None)[0] / norms
        left = target - terms @ step
        weight = 4 * math.pi * SIGMA**2  # neighbours are smoothed alike: so many pixels count as one
        spread = np.linalg.inv((terms / norms).T @ (terms / norms)).diagonal() ** 0.5 / norms
        error = 2 * spread[[1, 3]] * math.sqrt(weight * (left**2).mean())
        found = np.clip(found + step[:4], -3, 3)
    ends = [(found[k] - found[k + 1], found[k] + found[k + 1]) for k in (0, 2)]
    return tuple(Drift(float(a), float(b), float(e)) for (a, b), e in zip(ends, error, strict=True))


def made_from_whole(hr: Tensor, lr: Tensor, scale: int) -> bool | None:
    """Tell whether an LR image was made from a whole HR image, or from its largest part that divides by `scale`.

    Where a side is no multiple of s, floor(H / s) LR pixels may cover all of it, a little more than s each, or the top
    left part of whole blocks, s each. Against LR pixels of s each the content of the former drifts, up to
    (H mod s) / s LR pixels at the end.

    Args:
        hr: the whole HR image, (1, 3, H, W).
        lr: an LR image, (1, 3, H // s, W // s).
        scale: s.

    Returns:
        None where the pictures cannot tell: too small, too flat, or unlike each other. Only grey counts.
    """
    height, width = size = lr.shape[2:]
    hr, lr = (x.mean(1, keepdim=True).expand_as(x) for x in (hr, lr))  # whatever the order of the channels
    crop, votes = hr[..., : height * scale, : width * scale], []
    of_crop, of_whole = (min((f(x, size) - lr).square().mean().item() for f in _PLAIN) for x in (crop, hr))
    if min(of_crop, of_whole) < min((2 / 255) ** 2, max(of_crop, of_whole) / 10):
        return of_whole < of_crop  # a plain filter made it
    if min(size) < 8:
        return None
    plain = resize(crop, size, "bicubic", rounded=False)
    for side, fit in zip(hr.shape[2:], drift(lr, plain), strict=True):
        if expected := side % scale / scale:
            part, error = (fit.start - fit.end) / expected, fit.error / expected
            if max(0.2, 2 * error) < abs(part - 0.5) < 1.5:
                votes.append(part > 0.5)
    if len(set(votes)) != 1:
        return None
    return votes[0] if votes[0] == (of_whole < of_crop) else None  # aliases may drift; both have to agree


_PLAIN = [partial(resize, filter=filter, rounded=False) for filter in ("box", "bicubic", "lanczos", "nearest")]
_PLAIN += [partial(F.interpolate, mode=mode) for mode in ("nearest", "bilinear", "bicubic")]


def _smooth(x: Tensor) -> Tensor:
    reach = math.ceil(3 * SIGMA)
    taps = torch.exp(-torch.arange(-reach, reach + 1, dtype=torch.float64).square() / (2 * SIGMA**2))
    kernel = (taps / taps.sum()).view(1, 1, -1, 1)
    x = F.pad(x.transpose(0, 1), (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(x, kernel), kernel.transpose(2, 3)).transpose(0, 1)
