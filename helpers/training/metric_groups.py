"""Photographs to groups: patches and the variants of them that the embedded distance is trained on."""

import math
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import upscalers
from helpers.degradations import DEGRADATIONS
from helpers.downscalers import DOWNSCALERS, lanczos, resize
from helpers.images import from_uint8, quantize, to_uint8
from helpers.runtime import seeded

# What the variants are made of. Left out for the test: l0 and l0_smooth, the mixed flow, otsu.
SEEN = tuple(name for name in DOWNSCALERS if not name.startswith("l0"))
HEATS = (0.0, 0.5, 0.8, 1.0, 1.0, 1.1)
SCALES = (2, 4, 4, 4, 8)
INTERPOLATIONS = ("bicubic", "bilinear", "nearest", "lanczos")
LEVELS = {  # degradation -> lowest and highest level, drawn evenly in the logarithm
    "blur": (0.3, 3.0),
    "blur_full": (0.3, 4.0),
    "noise": (0.01, 0.25),
    "contrast": (0.25, 2.5),
    "jpeg": (5, 95),
    "mixed": (1, 2),
    "bsrgan": (1, 5),
}
N_VARIANTS = 24


class Draw:
    """Choices by one generator."""

    def __init__(self, *key: int | str):
        self.generator = seeded(*key)

    def between(self, low: float, high: float) -> float:
        """Evenly between two numbers."""
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def one(self, options: Sequence):
        """One of several."""
        return options[torch.randint(len(options), (), generator=self.generator).item()]

    def some(self, options: Sequence, n: int) -> list:
        """Several different ones."""
        return [options[i] for i in torch.randperm(len(options), generator=self.generator)[:n].tolist()]


def damaged(images: Tensor, draw: Draw) -> Tensor:
    """One of the degradations of `LEVELS` at a level drawn for all images; 8-bit levels."""
    name = draw.one(list(LEVELS))
    low, high = LEVELS[name]
    level = math.exp(draw.between(math.log(low), math.log(high)))
    if isinstance(low, int):
        level = round(level)
    elif name == "blur_full":  # the kernel reaches 3 sigma and must stay inside the image
        level = min(level, (min(images.shape[-2:]) - 1) / 3)
    return quantize(DEGRADATIONS[name](images, level, draw.generator))


def moved(images: Tensor, draw: Draw) -> Tensor:
    """Shifted by up to four pixels, half of the time by whole ones, or turned by up to three degrees."""
    side = images.shape[-1]
    if draw.one((True, False)):
        right, down = (draw.one((-4, -3, -2, -1, 1, 2, 3, 4)) * draw.one((1.0, 0.37)) for _ in range(2))
        angle = 0.0
    else:
        right = down = 0.0
        angle = math.radians(draw.between(-3, 3))
    c, s = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[c, -s, 2 * right / side], [s, c, 2 * down / side]]).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return quantize(F.grid_sample(images, grid, "bilinear", "border", align_corners=False))


def recoloured(images: Tensor, draw: Draw) -> Tensor:
    """Another brightness, gamma, or gain of each channel."""
    kind = draw.one(("brightness", "gamma", "channels"))
    if kind == "brightness":
        return quantize(images + draw.between(-0.2, 0.2))
    if kind == "gamma":
        return quantize(images ** math.exp(draw.between(-0.7, 0.7)))
    return quantize(images * torch.tensor([draw.between(0.7, 1.3) for _ in range(3)]).view(1, 3, 1, 1))


def round_trip(images: Tensor, draw: Draw) -> Tensor:
    """Downscaled, sometimes damaged, and interpolated back."""
    scale = draw.one((2, 4, 8))
    lr = quantize(DOWNSCALERS[draw.one(SEEN)](images, scale))
    if draw.between(0, 1) < 0.3:
        lr = damaged(lr, draw)
    return resize(lr, tuple(images.shape[-2:]), draw.one(INTERPOLATIONS))


def drawn(
    images: Tensor, flow: Callable, scale: int, downscaler: str, key: tuple, damage: Draw | None = None
) -> Tensor:
    """One draw of a flow for each image, 8-bit levels."""
    lr = quantize(DOWNSCALERS[downscaler](images, scale))
    if damage is not None:
        lr = damaged(lr, damage)
    with torch.autocast(lr.device.type, torch.bfloat16):  # twice as fast; only the teacher has to be exact
        sr = flow(lr, [seeded(*key, i) for i in range(len(images))])
    return quantize(sr.float().nan_to_num(0, 0, 0))


@torch.no_grad()
def variants(images: Tensor, flow: Callable[..., Callable], *key: int | str) -> Tensor:
    """What this project compares with a photograph: draws of the flows, round trips, damage, small moves, mixtures.

    All images of the batch get the same 24 kinds of variants, drawn by `key`: six downscalers under one flow, heat
    and latent, as a run compares them; four draws of other flows, most of damaged LR images; five interpolated
    round trips; five degradations, a move and a change of colours of the image itself; two mixtures of the image with
    one of these.

    Args:
        images: HR patches in [0, 1], (N, 3, S, S), S a multiple of 8.
        flow: `flow(scale=..., heat=...)`, as `upscalers.embedded_flow`.
        key: of all choices and draws.

    Returns:
        8-bit levels, uint8, (N, 24, 3, S, S).
    """
    draw = Draw(*key, "variants")
    scale, heat = draw.one(SCALES), draw.one(HEATS)
    first = flow(scale=scale, heat=heat)
    found = [drawn(images, first, scale, name, (*key, 0)) for name in draw.some(SEEN, 6)]
    for number in range(1, 5):
        scale, heat = draw.one(SCALES), draw.one(HEATS)
        damage = draw if number > 1 else None
        found.append(drawn(images, flow(scale=scale, heat=heat), scale, draw.one(SEEN), (*key, number), damage))
    found += [round_trip(images, draw) for _ in range(5)]
    found += [damaged(images, draw) for _ in range(5)]
    found += [moved(images, draw), recoloured(images, draw)]
    for other in draw.some(found, 2):
        share = draw.between(0.1, 0.7)
        found.append(quantize(images + share * (other - images)))
    return to_uint8(torch.stack(found, 1).flatten(0, 1)).unflatten(0, (len(images), len(found)))


def patches(photographs: Sequence[Tensor], n: int, side: int, *key: int | str) -> Tensor:
    """Random square patches, of whole photographs or of their halves; photographs in equal parts.

    Args:
        photographs: uint8 levels, each (3, H, W), sides at least `side`.
        n, side: how many, and how large.
        key: of the choices.

    Returns:
        Patches in [0, 1], (n, 3, side, side).
    """
    draw, found = Draw(*key, "patches"), []
    for _ in range(n):
        image = draw.one(photographs)
        if draw.one((True, False)) and min(image.shape[1:]) >= 2 * side:
            down, right = (int(draw.between(0, size - 2 * side + 1)) for size in image.shape[1:])
            large = from_uint8(image[None, :, down : down + 2 * side, right : right + 2 * side])
            found.append(lanczos(large, 2))
        else:
            down, right = (int(draw.between(0, size - side + 1)) for size in image.shape[1:])
            found.append(from_uint8(image[None, :, down : down + side, right : right + side]))
    return quantize(torch.cat(found))


def groups(
    photographs: Sequence[Tensor], n: int, side: int, *key: int | str, path: str | Path | None = None, batch: int = 16
) -> np.ndarray:
    """Groups of one patch and its variants, all a training needs to know of the photographs.

    Args:
        photographs, side: as `patches`.
        n: number of groups, a multiple of `batch`.
        key: of all choices.
        path: `.npy` file that keeps them; a finished one is read, an unfinished one is begun again.
        batch: patches that share their kinds of variants.

    Returns:
        8-bit levels, uint8, (n, 25, 3, side, side), the patch first; a memory map where there is a `path`.

    Raises:
        ValueError: `n` is no multiple of `batch`, or the file has another shape.
    """
    shape = (n, 1 + N_VARIANTS, 3, side, side)
    if n % batch:
        raise ValueError(f"n: expected a multiple of {batch}, got {n}")
    if path is not None and Path(path).exists():
        found = np.load(path, mmap_mode="r")
        if found.shape != shape:
            raise ValueError(f"{path}: expected groups of shape {shape}, got {found.shape}")
        return found
    part = None if path is None else Path(path).with_suffix(".part")
    levels = np.empty(shape, np.uint8) if part is None else np.lib.format.open_memmap(part, "w+", np.uint8, shape)
    flow = lru_cache(None)(upscalers.embedded_flow)
    for first in range(0, n, batch):
        hr = patches(photographs, batch, side, *key, first)
        levels[first : first + batch, 0] = to_uint8(hr)
        levels[first : first + batch, 1:] = variants(hr, flow, *key, first)
    if part is not None:
        levels.flush()
        os.replace(part, path)
    return levels
