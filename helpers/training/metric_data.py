"""Training data of the embedded distance: patches of photographs, each in a group with variants of itself."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from helpers import files, upscalers
from helpers.degradations import DEGRADATIONS
from helpers.downscalers import DOWNSCALERS, lanczos, resize
from helpers.images import from_uint8, quantize, to_uint8
from helpers.runtime import seeded

# What the variants are made of. Left out for the test: l0 and l0_smooth, the mixed flow, otsu.
SEEN = (  # written out: a downscaler that is added later changes no draw
    "nearest", "bilinear", "bicubic", "lanczos", "box", "hamming", "dpid", "perceptual", "bicubic_float",
    "matlab_bicubic", "matlab_bilinear", "torch_bicubic", "torch_bilinear", "nearest_topleft",
)  # fmt: skip
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


def between(generator: Generator, low: float, high: float) -> float:
    """Draw a number evenly between two."""
    return low + (high - low) * torch.rand((), generator=generator).item()


def choose(generator: Generator, options: Sequence):
    """Draw one of several options."""
    return options[torch.randint(len(options), (), generator=generator).item()]


def choose_different(generator: Generator, options: Sequence, n: int) -> list:
    """Draw n different ones of several options."""
    return [options[i] for i in torch.randperm(len(options), generator=generator)[:n].tolist()]


def damage(images: Tensor, generator: Generator) -> Tensor:
    """Degrade images, (N, 3, H, W), by one of `LEVELS` at one level for all; 8-bit levels."""
    name = choose(generator, list(LEVELS))
    low, high = LEVELS[name]
    level = math.exp(between(generator, math.log(low), math.log(high)))
    if isinstance(low, int):
        level = round(level)
    elif name == "blur_full":  # the kernel reaches 3 sigma and must stay inside the image
        level = min(level, (min(images.shape[-2:]) - 1) / 3)
    return quantize(DEGRADATIONS[name](images, level, generator))


def move(images: Tensor, generator: Generator) -> Tensor:
    """Shift images, (N, 3, S, S), by up to four pixels, often whole ones, or rotate them by up to three degrees."""
    side = images.shape[-1]
    if choose(generator, (True, False)):
        steps = (-4, -3, -2, -1, 1, 2, 3, 4)
        right, down = (choose(generator, steps) * choose(generator, (1.0, 0.37)) for _ in range(2))
        angle = 0.0
    else:
        right = down = 0.0
        angle = math.radians(between(generator, -3, 3))
    c, s = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[c, -s, 2 * right / side], [s, c, 2 * down / side]]).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return quantize(F.grid_sample(images, grid, "bilinear", "border", align_corners=False))


def recolour(images: Tensor, generator: Generator) -> Tensor:
    """Change the brightness, the gamma, or the gain of each channel of images, (N, 3, H, W)."""
    kind = choose(generator, ("brightness", "gamma", "channels"))
    if kind == "brightness":
        return quantize(images + between(generator, -0.2, 0.2))
    if kind == "gamma":
        return quantize(images ** math.exp(between(generator, -0.7, 0.7)))
    return quantize(images * torch.tensor([between(generator, 0.7, 1.3) for _ in range(3)]).view(1, 3, 1, 1))


def resample(images: Tensor, generator: Generator) -> Tensor:
    """Downscale images, (N, 3, S, S), degrade the LR images three times in ten, and interpolate back."""
    scale = choose(generator, (2, 4, 8))
    lr = quantize(DOWNSCALERS[choose(generator, SEEN)](images, scale))
    if between(generator, 0, 1) < 0.3:
        lr = damage(lr, generator)
    return resize(lr, tuple(images.shape[-2:]), choose(generator, INTERPOLATIONS))


def sample_flow(
    images: Tensor, flow: Callable, scale: int, downscaler: str, key: tuple, generator: Generator | None = None
) -> Tensor:
    """Downscale images and draw one SR image of each by a flow.

    Args:
        images: HR images in [0, 1], (N, 3, S, S).
        flow: `upscale(lr, generators)` at `scale`.
        scale, downscaler: what makes the LR images.
        key: with an image's number, the key of its draw.
        generator: draws a degradation of the LR images (None: no degradation).

    Returns:
        SR images of 8-bit levels in [0, 1], (N, 3, S, S).
    """
    lr = quantize(DOWNSCALERS[downscaler](images, scale))
    if generator is not None:
        lr = damage(lr, generator)
    with torch.autocast(lr.device.type, torch.bfloat16):  # twice as fast; only the teacher has to be exact
        sr = flow(lr, [seeded(*key, i) for i in range(len(images))])
    return quantize(sr.float().nan_to_num(0, 0, 0))


@torch.no_grad()
def make_variants(images: Tensor, flow: Callable[..., Callable], *key: int | str) -> Tensor:
    """Make what this project compares with a photograph: draws of flows, resampling, damage, small moves, mixtures.

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
    generator = seeded(*key, "variants")
    scale, heat = choose(generator, SCALES), choose(generator, HEATS)
    first = flow(scale=scale, heat=heat)
    found = [sample_flow(images, first, scale, name, (*key, 0)) for name in choose_different(generator, SEEN, 6)]
    for number in range(1, 5):
        scale, heat = choose(generator, SCALES), choose(generator, HEATS)
        upscale, downscaler = flow(scale=scale, heat=heat), choose(generator, SEEN)
        damaging = generator if number > 1 else None
        found.append(sample_flow(images, upscale, scale, downscaler, (*key, number), damaging))
    found += [resample(images, generator) for _ in range(5)]
    found += [damage(images, generator) for _ in range(5)]
    found += [move(images, generator), recolour(images, generator)]
    for other in choose_different(generator, found, 2):
        share = between(generator, 0.1, 0.7)
        found.append(quantize(images + share * (other - images)))
    return to_uint8(torch.stack(found, 1).flatten(0, 1)).unflatten(0, (len(images), len(found)))


def cut_patches(photographs: Sequence[Tensor], n: int, side: int, *key: int | str) -> Tensor:
    """Cut random square patches from photographs at full or half size; every photograph is equally likely.

    Args:
        photographs: uint8 levels, each (3, H, W), sides at least `side`.
        n, side: how many, and how large.
        key: of the choices.

    Returns:
        Patches in [0, 1], (n, 3, side, side).
    """
    generator, found = seeded(*key, "patches"), []
    for _ in range(n):
        image = choose(generator, photographs)
        if choose(generator, (True, False)) and min(image.shape[1:]) >= 2 * side:
            down, right = (int(between(generator, 0, size - 2 * side + 1)) for size in image.shape[1:])
            large = from_uint8(image[None, :, down : down + 2 * side, right : right + 2 * side])
            found.append(lanczos(large, 2))
        else:
            down, right = (int(between(generator, 0, size - side + 1)) for size in image.shape[1:])
            found.append(from_uint8(image[None, :, down : down + side, right : right + side]))
    return quantize(torch.cat(found))


def make_groups(
    photographs: Sequence[Tensor], n: int, side: int, *key: int | str, path: str | Path | None = None, batch: int = 16
) -> np.ndarray:
    """Make groups of one patch and its variants: the training data of the embedded distance.

    Args:
        photographs, side: as `cut_patches`.
        n: number of groups, a multiple of `batch`.
        key: of all choices.
        path: `.npy` file that keeps them; if it is there, it is read and nothing is made.
        batch: patches that share their kinds of variants.

    Returns:
        8-bit levels, uint8, (n, 25, 3, side, side), the patch first; a memory map where there is a `path`.

    Raises:
        ValueError: `n` is no multiple of `batch`, or the file has another shape.
    """
    shape = (n, 1 + N_VARIANTS, 3, side, side)
    if n % batch:
        raise ValueError(f"n: expected a multiple of {batch}, got {n}")
    if path is None:
        return _fill(np.empty(shape, np.uint8), photographs, side, key, batch)
    if not Path(path).exists():
        with files.replacing(path) as part:
            levels = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
            files.reserve(part)
            _fill(levels, photographs, side, key, batch).flush()
    levels = np.load(path, mmap_mode="r")
    if levels.shape != shape:
        raise ValueError(f"{path}: expected groups of shape {shape}, got {levels.shape}")
    return levels


def _fill(levels: np.ndarray, photographs: Sequence[Tensor], side: int, key: tuple, batch: int) -> np.ndarray:
    flow = lru_cache(None)(upscalers.embedded_flow)
    for first in range(0, len(levels), batch):
        hr = cut_patches(photographs, batch, side, *key, first)
        levels[first : first + batch, 0] = to_uint8(hr)
        levels[first : first + batch, 1:] = make_variants(hr, flow, *key, first)
    return levels
