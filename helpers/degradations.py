"""Degrade LR images by a known amount: blur, noise, contrast, quantisation, mixtures, and what `transmission` has."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from helpers.images import to_uint8
from helpers.listing import Named
from helpers.transmission import WAYS, check_level, jpeg

LUMA = (0.2989, 0.587, 0.114)  # of R, G, B, as torchvision has them
CONTRASTS = ("tv", "pil8", "mid", "chmean", "scale")
LEVEL_MODES = ("gray_mean", "pooled_mean", "midpoint", "uniform", "matlab_doc")
BSRGAN = {  # supplement, Sec. 3: position in the range of noise levels, blur sigma in pixels, JPEG quality
    1: (0.667, 0.026, 48),
    2: (0.824, 1.233, 75),
    3: (0.283, 1.719, 49),
    4: (0.404, 0.233, 35),
    5: (0.771, 1.902, 50),
}


def _check_option(name: str, value: object, known: Sequence) -> None:
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(str, known))}, got {value!r}")


def blur(lr: Tensor, level: float, generator=None, *, kernel_size: int | None = 3) -> Tensor:
    """Gaussian blur, border mirrored without repeating the edge pixel.

    With the paper's 3 x 3 kernel the levels 2 and 4 are nearly the same filter, and below about 0.026 pixels
    it is the identity exactly (the outer taps underflow); `kernel_size=None` cuts nothing off.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w).
        level: sigma in pixels; 0 is the identity. The paper has 1, 2, 4 (Sec. 4.2).
        generator: not used; it is there because all degradations have the same arguments.
        kernel_size: taps per axis, odd; None for 2 ceil(3 sigma) + 1.

    Returns:
        Images in [0, 1], same shape, not rounded.

    Raises:
        ValueError: `lr` is no such batch or smaller than half a kernel, or an argument is impossible.
    """
    check_level(lr, level, 0, math.inf, "sigma in pixels")
    size = 2 * math.ceil(3 * level) + 1 if kernel_size is None else kernel_size
    if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise ValueError(f"kernel_size: expected an odd integer of at least 1 or None, got {kernel_size!r}")
    radius = size // 2
    if min(lr.shape[2:]) <= radius:
        raise ValueError(f"expected images above {radius}x{radius} pixels for this blur, got {tuple(lr.shape[2:])}")
    if level == 0:
        return lr.clone()
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (x / level) ** 2)
    taps = (taps / taps.sum()).tolist()
    for dim, sides in ((3, (radius, radius, 0, 0)), (2, (0, 0, radius, radius))):
        padded = F.pad(lr, sides, mode="reflect")
        lr = sum(tap * padded.narrow(dim, k, lr.shape[dim]) for k, tap in enumerate(taps))
    return lr.clamp(0, 1)


def blur_full(lr: Tensor, level: float, generator=None) -> Tensor:
    """Gaussian blur with an un-truncated kernel: `blur` with `kernel_size=None`. See `blur` for the rest."""
    return blur(lr, level, kernel_size=None)


def noise(
    lr: Tensor,
    level: float,
    generator: Generator | Sequence[Generator] | None = None,
    *,
    unit_noise: Tensor | None = None,
) -> Tensor:
    """Gaussian noise, independent in every pixel and channel: clip(X + sigma n, 0, 1).

    Args:
        lr: images in [0, 1], shape (N, 3, h, w).
        level: sigma on the scale [0, 1]; 0 is the identity. The paper has 0.05, 0.1, 0.2 (Sec. 4.2).
        generator: CPU generator, or one per image. It draws n, never sigma n: a generator seeded alike gives
            the same n at every level, so levels are paired. One for all images is drawn from image by image.
        unit_noise: n itself, shape of `lr`, instead of a generator.

    Returns:
        Images in [0, 1], same shape, not rounded.

    Raises:
        ValueError: `lr` is no such batch, `level` is impossible, or not exactly one source of noise is given.
    """
    check_level(lr, level, 0, math.inf, "sigma on the scale [0, 1]")
    if (generator is None) == (unit_noise is None):
        raise ValueError("noise: expected a generator or unit_noise, got both or neither")
    if unit_noise is None:
        generators = [generator] * len(lr) if isinstance(generator, Generator) else list(generator)
        if len(generators) != len(lr):
            raise ValueError(f"generator: expected one or {len(lr)}, got {len(generators)}")
        unit_noise = torch.stack([torch.randn(lr.shape[1:], generator=each) for each in generators])
    if unit_noise.shape != lr.shape:
        raise ValueError(f"unit_noise: expected shape {tuple(lr.shape)}, got {tuple(unit_noise.shape)}")
    return (lr + level * unit_noise.to(lr)).clamp(0, 1)


def contrast(lr: Tensor, level: float, generator=None, *, mode: str = "tv") -> Tensor:
    """Contrast about a pivot: clip(pivot + f (X - pivot), 0, 1). Above 1 it clips; below 1 it is affine.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w).
        level: the factor f, at least 0. The paper has 1.5, 2, 2.5 and 0.25, 0.5, 0.75 (Sec. 4.2), no formula.
        generator: not used.
        mode: the pivot. "tv": mean luma of the image, as torchvision; "mid": 0.5; "chmean": mean of each
            channel; "scale": 0; "pil8": rounded mean luma, all in 8 bits, as Pillow's ImageEnhance.Contrast.

    Returns:
        Images in [0, 1], same shape, not rounded but for "pil8".

    Raises:
        ValueError: `lr` is no such batch, or `level` or `mode` is unknown.
    """
    check_level(lr, level, 0, math.inf, "a factor")
    _check_option("mode", mode, CONTRASTS)
    if mode == "pil8":
        levels = to_uint8(lr).float()
        area, total = lr.shape[2] * lr.shape[3], _luma(lr).flatten(1).to(torch.int64).sum(1)
        pivot = torch.div(2 * total + area, 2 * area, rounding_mode="floor").view(-1, 1, 1, 1)  # half up
        return (pivot + level * (levels - pivot)).clamp(0, 255).floor() / 255
    if mode == "tv":
        weights = torch.tensor(LUMA).to(lr).view(1, 3, 1, 1)
        pivot = (lr * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    else:
        pivot = {"mid": 0.5, "chmean": lr.mean((2, 3), keepdim=True), "scale": 0.0}[mode]
    return (pivot + level * (lr - pivot)).clamp(0, 1)


def _luma(lr: Tensor) -> Tensor:
    """8-bit grey levels as Pillow's convert("L"), (N, h, w), int32."""
    red, green, blue = to_uint8(lr).to(torch.int32).unbind(1)
    return torch.div(19595 * red + 38470 * green + 7471 * blue + 0x8000, 1 << 16, rounding_mode="floor")


def _histograms(levels: Tensor) -> Tensor:
    """Counts of the 256 levels of each image, (N, 256), float64 on the CPU; `levels` (N, ...) integers."""
    n = len(levels)
    first = 256 * torch.arange(n, device=levels.device).view(-1, *[1] * (levels.ndim - 1))
    return torch.bincount((levels.to(torch.int64) + first).flatten(), minlength=256 * n).view(n, 256).cpu().double()


def otsu_thresholds(lr: Tensor, n_thresholds: int) -> Tensor:
    """Multi-level Otsu: the thresholds of greatest between-class variance, exactly, by dynamic programming.

    The best k classes of the levels 0..b are the best k - 1 of 0..a - 1 and the class a..b, over all a: one
    256 x 256 maximum per class instead of a search over all sets of thresholds.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w); their 8-bit luma is looked at.
        n_thresholds: K, 1 to 255.

    Returns:
        Ascending 8-bit thresholds, (N, K), int64 on the CPU; a value equal to a threshold is in the class
        below. Where levels are empty several sets are best: the lowest thresholds are taken.

    Raises:
        ValueError: `lr` is no such batch, or K is out of range.
    """
    n_thresholds = check_level(lr, n_thresholds, 1, 255, "the number of thresholds", whole=True)
    counts = _histograms(_luma(lr))
    below = F.pad(counts.cumsum(1), (1, 0))  # pixels in levels < b
    mass = F.pad((counts * torch.arange(256)).cumsum(1), (1, 0))
    pixels = below[:, None, 1:] - below[:, :-1, None]  # of the class a..b: rows a, columns b
    value = (mass[:, None, 1:] - mass[:, :-1, None]).square() / pixels.clamp_min(1)
    value.masked_fill_(torch.ones(256, 256, dtype=torch.bool).tril(-1), -torch.inf)  # needs a <= b
    best, starts = value[:, 0], []
    for _ in range(n_thresholds):
        before = F.pad(best[:, :-1], (1, 0), value=-torch.inf)  # of the levels below a
        best, start = (before[:, :, None] + value).max(1)  # the first of equals
        starts.append(start)
    last = torch.full((len(lr), 1), 255)
    thresholds = []
    for start in reversed(starts):
        last = start.gather(1, last) - 1
        thresholds.append(last)
    return torch.cat(thresholds[::-1], 1)


def otsu(lr: Tensor, level: int, generator=None, *, mode: str = "gray_mean") -> Tensor:
    """Quantisation to few levels: multi-level Otsu thresholds of the luma, applied to each channel.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w); rounded to 8-bit levels first.
        level: number of thresholds K, 1 to 255, for K + 1 levels. The paper has 5, 10, 15 (Sec. 4.2) and does
            not say how a class becomes a value.
        generator: not used.
        mode: value of a class. "gray_mean": its mean luma; "pooled_mean": the mean of its R, G and B values,
            the least squared error; "midpoint" of its interval; "uniform": 255 j / K; "matlab_doc": 0, t_2,
            ..., t_K, 255. A class without pixels takes its midpoint.

    Returns:
        Images of 8-bit levels k / 255, same shape.

    Raises:
        ValueError: `lr` is no such batch, or `level` or `mode` is unknown.
    """
    _check_option("mode", mode, LEVEL_MODES)
    thresholds = otsu_thresholds(lr, level)
    level = thresholds.shape[1]
    classes = torch.searchsorted(thresholds, torch.arange(256).expand(len(lr), 256).contiguous())  # t_j < v <= t_j+1
    ends = F.pad(thresholds.double(), (1, 1), value=-1.0)
    ends[:, -1] = 255
    values = (ends[:, :-1] + 1 + ends[:, 1:]) / 2
    if mode == "uniform":
        values = (255 / level * torch.arange(level + 1, dtype=torch.float64)).expand_as(values)
    elif mode == "matlab_doc":
        values = torch.cat([torch.zeros_like(ends[:, :1]), ends[:, 2:]], 1)
    elif mode != "midpoint":
        counts = _histograms(_luma(lr) if mode == "gray_mean" else to_uint8(lr))
        total = torch.zeros_like(values).scatter_add_(1, classes, counts)
        mass = torch.zeros_like(values).scatter_add_(1, classes, counts * torch.arange(256))
        values = torch.where(total > 0, mass / total.clamp_min(1), values)
    table = torch.floor(values + 0.5).gather(1, classes).to(lr) / 255  # (N, 256): level -> value
    return table.gather(1, to_uint8(lr).flatten(1).to(torch.int64)).view_as(lr)


def mixed(
    lr: Tensor,
    level: int,
    generator: Generator | Sequence[Generator] | None = None,
    *,
    factor: float = 0.75,
    sigma_blur: float = 1.0,
    sigma_noise: float = 0.05,
    n_thresholds: int = 10,
    unit_noise: Tensor | None = None,
) -> Tensor:
    """Mixed degradations: less contrast and blur; then noise; then quantisation.

    Factor, blur and noise are those of the paper's ablation setting DG3; the order and the number of
    thresholds are ours: the paper shows the stages and does not state them.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w).
        level: how many stages: 1 contrast and blur, 2 with noise, 3 with quantisation.
        generator, unit_noise: as in `noise`; needed from level 2 on.
        factor: contrast factor, mode "tv".
        sigma_blur: of the 3 x 3 blur, pixels.
        sigma_noise: of the noise, scale [0, 1].
        n_thresholds: of the quantisation.

    Returns:
        Images in [0, 1], same shape; 8-bit levels at level 3, else not rounded.

    Raises:
        ValueError: `lr` is no such batch, `level` is not 1, 2 or 3, or an option is impossible.
    """
    level = check_level(lr, level, 1, 3, "the number of stages", whole=True)
    lr = blur(contrast(lr, factor), sigma_blur)
    if level >= 2:
        lr = noise(lr, sigma_noise, generator, unit_noise=unit_noise)
    if level == 3:
        lr = otsu(lr, n_thresholds)  # rounds to 8 bits first
    return lr


def bsrgan(
    lr: Tensor,
    level: int,
    generator: Generator | Sequence[Generator] | None = None,
    *,
    unit_noise: Tensor | None = None,
) -> Tensor:
    """The five blind degradations R1 to R5 of the supplement (Sec. 3): blur, noise, JPEG.

    What the supplement's noise number u means is not stated, and BSRGAN has noise levels from 2 to 25 of 255.
    Read here as a position in that range, sigma = (2 + 23 u) / 255: its Table 2 cannot be repeated exactly.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w), at least 7 x 7.
        level: 1 to 5 for R1 to R5, in the supplement's order, which is none of strength.
        generator, unit_noise: as in `noise`.

    Returns:
        Images of 8-bit levels k / 255, same shape.

    Raises:
        ValueError: `lr` is no such batch, or `level` is not 1 to 5.
    """
    level = check_level(lr, level, 1, 5, "R1 to R5", whole=True)
    position, sigma, quality = BSRGAN[level]
    lr = blur_full(lr, sigma)
    lr = noise(lr, (2 + 23 * position) / 255, generator, unit_noise=unit_noise)
    return jpeg(lr, quality)


DEGRADATIONS: dict[str, Callable[..., Tensor]] = Named(
    {
        "blur": blur,
        "blur_full": blur_full,
        "noise": noise,
        "contrast": contrast,
        "otsu": otsu,
        "mixed": mixed,
        "bsrgan": bsrgan,
    }
    | WAYS
)
