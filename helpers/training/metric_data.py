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
FLOWS = (  # scale and variant; drawn evenly
    (2, ""), (4, "first"), (4, ""), (4, ""), (8, "first"), (8, ""), (8, "")
)  # fmt: skip
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


def stripe(images: Tensor, generator: Generator) -> Tensor:
    """Add stripes or a grid of one period to images, (N, 3, S, S): 2 to 16 pixels, amplitude 0.02 to 0.3.

    Horizontal, vertical, or both; a sine, or bars from one pixel to half a period wide; grey, or of a random colour.
    """
    period = choose(generator, range(2, 17))
    width = choose(generator, (0, 1, max(1, period // 4), max(1, period // 2)))  # 0: a sine
    amplitude = math.exp(between(generator, math.log(0.02), math.log(0.3)))
    ways, phase = choose(generator, ("rows", "columns", "both")), between(generator, 0, period)
    along = (torch.arange(images.shape[-1]) + int(phase)) % period  # pixels into the period
    wave = torch.sin(2 * math.pi * (along + 0.5) / period) if width == 0 else (along < width).float()
    rows, columns = wave.view(-1, 1).expand(*images.shape[-2:]), wave.expand(*images.shape[-2:])
    pattern = {"rows": rows, "columns": columns, "both": torch.maximum(rows, columns)}[ways]
    sign, colour = choose(generator, (-1, 1)), torch.ones(3)
    if choose(generator, (True, False, False)):
        colour = torch.tensor([between(generator, -1, 1) for _ in range(3)])
        colour = colour / colour.abs().max()
    return quantize(images + sign * amplitude * colour.view(3, 1, 1) * pattern)


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
    """Make what this project compares with a photograph: draws of flows, resampling, damage, stripes, moves, mixtures.

    All images of the batch get the same 24 kinds of variants, drawn by `key`. Fifteen are draws: six downscalers under
    one flow, heat and latent, as a run compares them, two of them with two more latents each; four downscalers under a
    second flow; one draw of a damaged LR image by a third. The others are two interpolated round trips; two
    degradations of the image itself; stripes on it, and on another variant; a move; a change of colours; a mixture of
    the image with one of these.

    Args:
        images: HR patches in [0, 1], (N, 3, S, S), S a multiple of 8.
        flow: `flow(scale=..., heat=..., variant=...)`, as `upscalers.embedded_flow`.
        key: of all choices and draws.

    Returns:
        8-bit levels, uint8, (N, 24, 3, S, S).
    """
    generator = seeded(*key, "variants")

    def draw_flow() -> tuple[Callable, int]:
        scale, variant = choose(generator, FLOWS)
        return flow(scale=scale, heat=choose(generator, HEATS), variant=variant), scale

    upscale, scale = draw_flow()
    names = choose_different(generator, SEEN, 6)
    draws = [(name, 0) for name in names] + [(name, latent) for name in names[:2] for latent in (1, 2)]
    found = [sample_flow(images, upscale, scale, name, (*key, latent)) for name, latent in draws]
    upscale, scale = draw_flow()
    found += [sample_flow(images, upscale, scale, name, (*key, 3)) for name in choose_different(generator, SEEN, 4)]
    upscale, scale = draw_flow()
    found.append(sample_flow(images, upscale, scale, choose(generator, SEEN), (*key, 4), generator))
    found += [resample(images, generator) for _ in range(2)]
    found += [damage(images, generator) for _ in range(2)]
    found += [stripe(images, generator), stripe(choose(generator, found), generator)]
    found += [move(images, generator), recolour(images, generator)]
    found.append(quantize(images + between(generator, 0.1, 0.7) * (choose(generator, found) - images)))
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
