"""Tell what a downscaler is from what it returns: a card with kernel, shift, border, gain, channels, orientation.

A kernel is fitted between HR and LR pixels by least squares, one axis at a time, and held against those that programs
have. A function or command is asked for the LR image of one test chart; of a folder the pictures themselves serve.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.colour import to_linear
from helpers.downscalers.filters import resize
from helpers.downscalers.kernels import REACH, ROUNDING, find
from helpers.downscalers.pairs import drift
from helpers.images import quantize

NOISE, STRIP = 48, 12  # LR pixels of the chart: a square of noise, beside and below it patches of one colour
WEAK = 0.1  # contrast of a third of the noise: some downscalers leave out weak detail
GREYS = (0.0, 0.25, 0.5, 0.75, 1.0)
PATCHES = [*((grey,) * 3 for grey in GREYS), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.25,) * 3]
CURVED = 2  # levels that greys lie off a straight line, where it is none
SIDE = 96  # LR pixels of a picture that are looked at, from its middle
LEAST = 24  # LR pixels that a side of a picture must have
PICTURES = 3  # of a folder
FLAT = 0.02  # standard deviation of a picture below which it tells nothing
TURNS = {  # what was done to the LR image -> how it is undone
    "": lambda x: x,
    "flipped left to right": lambda x: x.flip(3),
    "flipped top to bottom": lambda x: x.flip(2),
    "turned by 180 degrees": lambda x: x.flip(2, 3),
    "turned left by 90 degrees": lambda x: x.rot90(-1, (2, 3)),
    "turned right by 90 degrees": lambda x: x.rot90(1, (2, 3)),
    "transposed": lambda x: x.transpose(2, 3),
    "transposed along the other diagonal": lambda x: x.rot90(2, (2, 3)).transpose(2, 3),
}
BORDERS = {  # how pixels beyond the border are made up -> who does so
    "renormalised": "Pillow, torch",
    "mirrored, the edge pixel twice": "MATLAB imresize",
    "the edge pixel repeated": "OpenCV BORDER_REPLICATE, torch without antialiasing",
    "mirrored, the edge pixel once": "OpenCV BORDER_REFLECT_101",
    "black": "zero padding",
    "wrapped around": "FFT",
}


class Card(NamedTuple):
    """What a downscaler, or the LR images of a folder, look like."""

    kernel: str  # its name and the programs that have it; or what it is near to
    misfit: float  # rms of the LR image against that kernel, 8-bit levels; rounding explains 0.3 to 0.5
    fixed: bool  # whether any fixed filter explains the LR image
    shift: tuple[float, float]  # of the content, (down, right), HR pixels
    stretch: tuple[float, float]  # of the content from the first LR pixel to the last, LR pixels
    border: str  # how pixels beyond it are made up; "" where it was not looked at
    gain: tuple[float, ...]  # of each channel
    offset: tuple[float, ...]  # of each channel, 8-bit levels
    channels: str  # "RGB", another order, or "grey"
    turned: str  # as in `TURNS`
    light: str  # what is filtered: "sRGB values" or "linear light"
    warnings: tuple[str, ...]  # what looks like a mistake

    def __str__(self) -> str:
        lines = {
            "kernel": self.kernel + ("" if self.fixed else "; not a fixed filter"),
            "misfit": f"{self.misfit:.2f} levels",
            "shift": _join(self.shift, "+.2f") + " HR pixels (down, right)",
            "stretch": _join(self.stretch, "+.2f") + " LR pixels (down, right)"
            if max(map(abs, self.stretch)) > 0.1
            else "",
            "border": self.border,
            "gain": _join(self.gain, ".3f"),
            "offset": _join(self.offset, "+.1f") + " levels" if self.offset else "",
            "channels": self.channels,
            "turned": self.turned,
            "filters": self.light,
        }
        return "\n".join(
            [f"{name:8} {text}" for name, text in lines.items() if text] + [f"! {w}" for w in self.warnings]
        )


def card(downscale: Callable[[Tensor, int], Tensor], scale: int) -> Card:
    """Ask a downscaler for the LR image of a test chart and tell from it what it is.

    Args:
        downscale: f_ds, called once as `downscale(hr, scale)`, with an image of 60 s x 60 s pixels.
        scale: scaling factor s.

    Returns:
        The card. A filter that depends on the picture has the kernel that is nearest on noise.

    Raises:
        ValueError: what it returns is no finite tensor of that size.
    """
    hr = chart(scale)
    with torch.no_grad():
        lr = downscale(hr.clone(), scale)
    shape = (1, 3, NOISE + STRIP, NOISE + STRIP)
    if not isinstance(lr, Tensor) or lr.shape != shape or not lr.isfinite().all():
        got = f"{tuple(lr.shape)}, {lr.dtype}" if isinstance(lr, Tensor) else type(lr).__name__
        raise ValueError(f"expected a finite LR image of shape {shape}, got {got}")
    return _describe([(hr, lr.detach().cpu())], scale, parts=[(slice(0, NOISE),) * 2], on_chart=True)


def card_of_pairs(pairs: Sequence[tuple[Tensor, Tensor]], scale: int) -> Card:
    """Tell from HR images and their LR images how the latter were made.

    Args:
        pairs: HR (1, 3, H, W), H and W multiples of `scale`, and LR (1, 3, H / s, W / s), in [0, 1]. The middle of the
            first few is looked at.
        scale: scaling factor s.

    Raises:
        ValueError: no pair that is not flat, shapes that are not as described, or an LR image below `LEAST`.
    """
    middle = []
    for hr, lr in [pair for pair in pairs if pair[0].std() > FLAT][:PICTURES]:
        height, width = (side // scale for side in hr.shape[2:])
        fits = lr.shape[2:] in ((height, width), (width, height)) and hr.shape[2:] == (height * scale, width * scale)
        if not fits or min(height, width) < LEAST:
            got = f"{tuple(hr.shape)} and {tuple(lr.shape)}"
            raise ValueError(
                f"expected HR {scale} times as large as LR, and LR of {LEAST}x{LEAST} pixels or more, got {got}"
            )
        top, left = max(0, (height - SIDE) // 2), max(0, (width - SIDE) // 2)
        middle.append((hr, lr, (slice(top, top + SIDE), slice(left, left + SIDE))))
    if not middle:
        raise ValueError(f"expected at least one HR image that is not flat, got none of {len(pairs)}")
    return _describe([(hr.cpu(), lr.cpu()) for hr, lr, _ in middle], scale, [part for *_, part in middle])


def chart(scale: int) -> Tensor:
    """The test chart, (1, 3, 60 s, 60 s) in 8-bit levels: two grains of noise, in two contrasts; plain patches."""
    random = torch.Generator().manual_seed(0)
    fine = torch.rand(1, 3, NOISE * scale, NOISE * scale, generator=random) - 0.5
    coarse = torch.rand(1, 3, NOISE // 3, NOISE // 3, generator=random) - 0.5
    noise = 0.3 * fine + 0.4 * F.interpolate(coarse, scale_factor=3 * scale, mode="bilinear")
    noise[..., NOISE * scale * 2 // 3 :] *= WEAK
    hr = torch.zeros(1, 3, (NOISE + STRIP) * scale, (NOISE + STRIP) * scale)
    hr[..., : NOISE * scale, : NOISE * scale] = 0.5 + noise
    for (top, left), patch in zip(_places(), PATCHES, strict=True):
        hr[..., top * scale : (top + STRIP) * scale, left * scale : (left + STRIP) * scale] = torch.tensor(patch).view(
            3, 1, 1
        )
    return quantize(hr)


def _places() -> list[tuple[int, int]]:
    """Top left corners of the patches, LR pixels."""
    return [(at, NOISE) for at in range(0, NOISE + 1, STRIP)] + [(NOISE, at) for at in range(0, NOISE, STRIP)]


def _describe(pairs, scale: int, parts, on_chart: bool = False) -> Card:
    pairs = [(hr.double(), lr.double()) for hr, lr in pairs]
    turned, follows = _turned(pairs, scale)
    if any(TURNS[turned](lr).shape[2] * scale != hr.shape[2] for hr, lr in pairs):
        raise ValueError("expected an LR image of the shape of HR, got one with height and width exchanged")
    if follows < 0.4:
        said = f"the LR image hardly follows the HR image: correlation {follows:.2f} with block means"
        said = "the LR image is a negative: bright where the HR image is dark" if follows < -0.6 else said
        return Card("none", math.nan, False, (0.0, 0.0), (0.0, 0.0), "", (), (), "", "", "", (said,))
    pairs = [(hr, TURNS[turned](lr)) for hr, lr in pairs]
    channels = _channels(pairs, scale)
    if channels == "grey":
        pairs = [(_luma(hr).expand_as(hr), lr) for hr, lr in pairs]
    else:
        pairs = [(hr, lr[:, [channels.index(name) for name in "RGB"]]) for hr, lr in pairs]
    gain, offset, tone = _levels(pairs, scale, on_chart)
    scaled = torch.tensor([gain, offset], dtype=torch.float64).view(2, 1, 3, 1, 1)
    level = [(hr, (lr - scaled[1]) / scaled[0]) for hr, lr in pairs]
    cut = [_cut(*pair, scale, part) for pair, part in zip(level, parts, strict=True)]
    lights = {"sRGB values": lambda x: x, "linear light": to_linear}
    found = {
        light: find([(_luma(decode(hr)), _luma(decode(lr))) for hr, lr in cut], scale)
        for light, decode in lights.items()
    }
    plain, linear = found.values()
    # an error in light is one in sRGB values times the slope of the curve, 1 in the mean
    light = "linear light" if linear.least < 0.6 * plain.least else "sRGB values"
    kernel = found[light]
    fixed = kernel.rms < (0.45 if on_chart else 2)
    name = kernel.name if kernel.rms < max(1.3 * kernel.least, ROUNDING) else f"unknown, nearest to {kernel.name}"
    corners = "" if fixed else _corners(level, kernel.rms)
    described = Card(
        kernel=corners or name,
        misfit=kernel.rms,
        fixed=fixed,
        shift=kernel.shift,
        stretch=(1 / scale - 1,) * 2 if corners else _stretch(cut),
        border=_border(*map(lights[light], level[0]), scale, kernel) if on_chart and fixed else "",
        gain=gain,
        offset=tuple(255 * each for each in offset),
        channels=channels,
        turned=turned,
        light=light,
        warnings=(),
    )
    flat = NOISE if on_chart else None  # the patches of the chart have edges on the grid of JPEG
    jpeg = [] if turned else _jpeg([lr[..., :flat, :flat] for _, lr in pairs])
    aliased = kernel.point or "not antialiased" in kernel.name
    return described._replace(warnings=(*_warnings(described, scale, tone, aliased), *jpeg))


def _luma(x: Tensor) -> Tensor:
    """(1, 3, H, W) -> (1, H, W): all channels are filtered alike, and JPEG halves the resolution of colours."""
    return (x[0] * torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype).view(3, 1, 1)).sum(0, keepdim=True)


def _cut(hr: Tensor, lr: Tensor, scale: int, part: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
    large = tuple(slice(each.start * scale, each.stop * scale) for each in part)
    return hr[(..., *large)], lr[(..., *part)]


def _turned(pairs, scale: int) -> tuple[str, float]:
    """What was done to the LR images, by their correlation with block means, and that correlation."""
    scores = dict.fromkeys(TURNS, 0.0)
    for hr, lr in pairs:
        grey = F.avg_pool2d(hr, scale).mean(1, keepdim=True)
        for name, undo in TURNS.items():
            back = undo(lr.mean(1, keepdim=True))
            fits = back.shape == grey.shape and min(back.std(), grey.std()) > 1e-4
            scores[name] += np.corrcoef(back.ravel(), grey.ravel())[0, 1] / len(pairs) if fits else 0.0
    best = max(scores, key=scores.get)
    best = best if scores[best] > max(0.6, abs(scores[""]) + 0.1) else ""
    return best, scores[best]


def _smoothed(pairs, scale: int) -> tuple[Tensor, Tensor]:
    """Block means of HR and LR over some LR pixels, (3, n): no kernel matters there."""
    small = [(F.avg_pool2d(F.avg_pool2d(hr, scale), 4), F.avg_pool2d(lr, 4)) for hr, lr in pairs]
    return tuple(torch.cat([pair[i][0].flatten(1) for pair in small], 1) for i in (0, 1))


def _line(x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """y = gain x + offset; gain, offset, and the sum of squares that is left."""
    dx, dy = x - x.mean(), y - y.mean()
    gain = (dx @ dy / (dx @ dx).clamp_min(1e-12)).item()
    return gain, (y.mean() - gain * x.mean()).item(), (dy - gain * dx).square().sum().item()


def _channels(pairs, scale: int) -> str:
    hr, lr = _smoothed(pairs, scale)
    if (lr - lr.mean(0)).abs().max() < 1.5 / 255 and (hr - hr.mean(0)).square().mean().sqrt() > 4 / 255:
        return "grey"
    left = [[_line(hr[i], lr[k])[2] for i in range(3)] for k in range(3)]
    total = {order: sum(left[k][i] for k, i in enumerate(order)) for order in permutations(range(3))}
    order = min(total, key=total.get)
    order = order if total[order] < 0.7 * total[0, 1, 2] - 1e-9 else (0, 1, 2)
    return "".join("RGB"[i] for i in order)


def _levels(pairs, scale: int, on_chart: bool) -> tuple[tuple, tuple, float]:
    """Gain and offset of each channel, and what a straight line leaves of greys (rms in levels)."""
    if not on_chart:
        fits = [_line(x, y) for x, y in zip(*_smoothed(pairs, scale), strict=True)]
        return tuple(fit[0] or 1.0 for fit in fits), tuple(fit[1] for fit in fits), 0.0
    middle = slice(STRIP // 2 - 2, STRIP // 2 + 2)
    [(hr, lr)] = pairs
    x, y = (
        torch.stack(
            [
                image[0, :, top * k : (top + STRIP) * k, left * k : (left + STRIP) * k][:, m, m].mean((1, 2))
                for top, left in _places()
            ]
        )
        for image, k, m in ((hr, scale, slice(None)), (lr, 1, middle))
    )
    whole = [(y[:, c] > 0.01) & (y[:, c] < 0.99) for c in range(3)]  # neither black nor white may be cut off
    fits = [_line(x[keep, c], y[keep, c]) for c, keep in enumerate(whole)]
    tone = 255 * math.sqrt(sum(fit[2] for fit in fits) / sum(keep.sum().item() for keep in whole))
    return tuple(fit[0] or 1.0 for fit in fits), tuple(fit[1] for fit in fits), tone


def _stretch(pairs) -> tuple[float, float]:
    """How much further the content reaches than it should, from the first LR pixel to the last, down and right."""
    found = []
    for hr, lr in pairs:
        plain = resize(hr.float(), lr.shape[2:], "bicubic", rounded=False)
        found.append(drift(lr.float(), plain))
    ends = [[each[axis] for each in found if each[axis].error < 0.1] for axis in (0, 1)]
    return tuple(float(np.median([each.end - each.start for each in axis])) if axis else 0.0 for axis in ends)


def _corners(pairs, rms: float) -> str:
    """Name the interpolation that aligns the corners of both images, where that leaves far less than any kernel."""
    left = {}
    for mode, name in (("bilinear", "triangle"), ("bicubic", "cubic a = -0.75")):
        made = [F.interpolate(hr, lr.shape[2:], mode=mode, align_corners=True) - lr for hr, lr in pairs]
        left[name] = 255 * math.sqrt(np.mean([_luma(each).square().mean().item() for each in made]))
    best = min(left, key=left.get)
    return f"{best}, not antialiased (align_corners=True)" if left[best] < min(0.5 * rms, 2) else ""


def _border(hr: Tensor, lr: Tensor, scale: int, kernel) -> str:
    """How pixels beyond the border were made up, from the first two rows and columns of LR pixels."""
    width = REACH * scale

    def filtered(x: Tensor, mode: str) -> Tensor:
        x = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (width, width), (width, width)), mode=mode))
        for taps, axis in zip(kernel.taps, (1, 2), strict=True):
            x = x.unfold(axis, len(taps), scale) @ torch.from_numpy(taps)
        return x

    modes = ("constant", "symmetric", "edge", "reflect", "constant", "wrap")
    made = {name: filtered(hr[0], mode) for name, mode in zip(BORDERS, modes, strict=True)}
    made["renormalised"] = made["black"] / filtered(torch.ones_like(hr[0]), "constant")
    rim = torch.zeros(lr.shape[2:], dtype=bool)
    rim[:2, :NOISE] = rim[:NOISE, :2] = True
    left = {name: 255 * (one - lr[0])[:, rim].square().mean().sqrt().item() for name, one in made.items()}
    best = min(left, key=left.get)
    if max(left.values()) < 1.1 * left[best] + 0.1:
        return "not reached by the kernel"
    return f"{best} ({BORDERS[best]})" if left[best] < 2 * kernel.rms + 0.5 else "none of those known"


def _jpeg(images: list[Tensor]) -> list[str]:
    """Say so where DCT coefficients of blocks of 8x8 are zero more often than those of blocks 4 pixels away."""
    from scipy.fft import dctn  # a second; `python -m helpers.paper` lists what is missing without it

    zeros, n, v = np.zeros(2), 0, np.arange(8)
    high = v[:, None] + v >= 3
    for lr in images:
        luma = 255 * _luma(lr)[0].numpy()
        rows, columns = ((side - 4) // 8 * 8 for side in luma.shape)
        if min(rows, columns) < 8:
            continue
        for grid, at in enumerate((0, 4)):
            blocks = luma[at : at + rows, at : at + columns].reshape(rows // 8, 8, columns // 8, 8)
            found = dctn(blocks, axes=(1, 3), norm="ortho").transpose(0, 2, 1, 3)[..., high]
            zeros[grid] += (np.abs(found) < 0.6).sum()
        n += found.size
    if n > 500 and (zeros[0] - zeros[1]) / n > 0.08:  # pictures without: at most 0.05; JPEG of quality 95: 0.1 and more
        return ["blocks of 8x8 pixels as JPEG leaves them: the LR image was compressed with loss on the way"]
    return []


def _warnings(card: Card, scale: int, tone: float, aliased: bool) -> Iterator[str]:
    """What looks like a mistake. Where aliases are many, or light is filtered, slopes and means say less."""
    if card.turned:
        yield f"the LR image is {card.turned}"
    if card.channels == "grey":
        yield "the LR image is grey, the HR image is not"
    elif card.channels != "RGB":
        yield f"the channels come in the order {card.channels}" + ", as OpenCV has them" * (card.channels == "BGR")
    wide = 2 if card.light == "linear light" else 1

    def near(gain: float, offset: float) -> bool:
        levels = zip(card.gain, card.offset, strict=True)
        return all(abs(a - gain) < 0.03 * wide and abs(b - offset) < 5 * wide for a, b in levels)

    if tone > CURVED:
        yield f"levels follow a curve, as of another gamma: {tone:.1f} levels off a straight line"
    elif not near(1, 0):
        what = ", as in video (16 to 235 for black to white)" if near(219 / 255, 16) else ""
        what = ", as if 16 to 235 were black to white" if near(255 / 219, -16 * 255 / 219) else what
        yield f"levels are scaled{what}: gain {_join(card.gain, '.3f')}, offset {_join(card.offset, '+.1f')}"
    shift, half = max(map(abs, card.shift)), (scale - 1) / 2
    if "align_corners" in card.kernel or (max(map(abs, card.stretch)) > 0.25 and not (aliased and card.fixed)):
        yield (
            f"the content is stretched by {_join(card.stretch, '+.2f')} LR pixels (down, right) over the picture: "
            "corners of the images aligned instead of their borders (align_corners), or another crop"
        )
    elif (
        shift > (0.4 if card.fixed else max(0.6, 0.2 * scale)) and "nearest, pixel" not in card.kernel and tone < CURVED
    ):
        why = all(abs(abs(each) - half) < 0.1 for each in card.shift) and scale > 1
        yield f"the content is shifted by {_join(card.shift, '+.2f')} HR pixels (down, right)" + (
            ": corners of pixels aligned instead of their centres" * why
        )
    if card.border.startswith(("black", "wrapped")):
        yield f"beyond the border the picture counts as {card.border}"


def _join(values: Sequence[float], how: str) -> str:
    return " ".join(re.sub("^-(?=[0.]+$)", "+", format(value, how)) for value in values)
