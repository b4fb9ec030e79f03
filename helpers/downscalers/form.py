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

from helpers.colour import to_linear, to_srgb
from helpers.downscalers import levels
from helpers.downscalers.chart import NOISE, STRIP, chart, patch_levels
from helpers.downscalers.filters import resize
from helpers.downscalers.kernels import REACH, ROUNDING, filtered, find
from helpers.downscalers.pairs import drift
from helpers.runtime import is_whole, shielded

EXPLAINED = 0.22  # rms in levels that rounding leaves of a filter of sRGB values: no other light leaves clearly less
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
        ValueError: it is no function, `scale` is none, or what it returns is no finite image of floats of that size.
    """
    if not callable(downscale):
        raise ValueError(f"downscale: expected a function of (hr, scale), got {downscale!r}; DOWNSCALERS has ours")
    _check_scale(scale)
    hr = chart(scale)
    with shielded():
        lr = downscale(hr.clone(), scale)
    shape = (1, 3, NOISE + STRIP, NOISE + STRIP)
    if not isinstance(lr, Tensor) or lr.shape != shape or not lr.is_floating_point() or not lr.isfinite().all():
        got = f"{tuple(lr.shape)}, {lr.dtype}" if isinstance(lr, Tensor) else type(lr).__name__
        raise ValueError(f"expected a finite LR image of floats in [0, 1], shape {shape}, got {got}")
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
    middle, pairs = [], list(pairs)
    _check_scale(scale)
    for pair in pairs:
        if len(pair) != 2 or not all(map(_is_image, pair)):
            shown = [f"{each.dtype} {tuple(each.shape)}" if isinstance(each, Tensor) else repr(each) for each in pair]
            wanted = "an HR and an LR image of floats in [0, 1], shape (1, 3, H, W)"
            raise ValueError(f"pairs: expected {wanted}, got ({', '.join(shown)})")
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


def _is_image(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and x.ndim == 4 and x.shape[:2] == (1, 3)


def _check_scale(scale: object) -> None:
    if not is_whole(scale):
        raise ValueError(f"scale: expected an integer of at least 1, got {scale!r}")


def _describe(pairs, scale: int, parts, on_chart: bool = False) -> Card:
    pairs = [(hr.double(), lr.double()) for hr, lr in pairs]
    found, around = levels.wrapped(pairs, scale) if all(_upright(*pair, scale) for pair in pairs) else (None, "")
    if around and not found:
        return _nothing(f"levels {around}")
    open_ = [each for _, each in found] if around else [torch.zeros_like(lr, dtype=bool) for _, lr in pairs]
    pairs = [(hr, lr) for (hr, _), (lr, _) in zip(pairs, found, strict=True)] if around else pairs
    turned, follows = _turned(pairs, scale)
    if any(not _upright(hr, TURNS[turned](lr), scale) for hr, lr in pairs):
        raise ValueError("expected an LR image of the shape of HR, got one with height and width exchanged")
    pairs = [(hr, TURNS[turned](lr)) for hr, lr in pairs]
    patches = patch_levels(*pairs[0], scale) if on_chart else None
    if abs(follows) < 0.4:
        words = levels.read(pairs, scale, patches).words
        hardly = f"the LR image hardly follows the HR image: correlation {follows:.2f} with block means"
        return _nothing(f"levels {words}" if words else hardly)
    channels = _channels(pairs, scale)
    order = [0, 1, 2] if channels == "grey" else [channels.index(name) for name in "RGB"]
    pairs = [((_luma(hr).expand_as(hr) if channels == "grey" else hr), lr[:, order]) for hr, lr in pairs]
    read = levels.read(pairs, scale, patch_levels(*pairs[0], scale) if on_chart else None)
    open_ = [TURNS[turned](each)[:, order] for each in open_]
    open_ = [each | levels.cut_off(lr, read.ends) for each, (_, lr) in zip(open_, pairs, strict=True)]
    if torch.cat([each.flatten() for each in open_]).double().mean() > 0.9 or _few(pairs):
        return _nothing(f"levels {read.words or 'of the LR image are a few alone'}")
    level = [(hr, read.undo(lr).where(~each, math.nan)) for (hr, lr), each in zip(pairs, open_, strict=True)]
    cut = [_cut(*pair, scale, part) for pair, part in zip(level, parts, strict=True)]
    lights = {"sRGB values": lambda x: x, "linear light": to_linear}
    # where values are open, channel by channel: all three of a pixel are rarely known
    planes = (lambda x: x[0]) if any(each.isnan().any() for _, each in cut) else _luma

    def fit(light: str):
        return find([tuple(planes(lights[light](each)) for each in pair) for pair in cut], scale)

    kernel, light = fit("sRGB values"), "sRGB values"
    # an error in light is one in sRGB values times the slope of the curve, 1 in the mean
    if kernel.least > EXPLAINED and (linear := fit("linear light")).least < 0.6 * kernel.least:
        kernel, light = linear, "linear light"
    fixed = kernel.rms < (0.45 if on_chart else 2) * (2 if read.words else 1)
    name = kernel.name if kernel.rms < max(1.3 * kernel.least, ROUNDING) else f"unknown, nearest to {kernel.name}"
    corners = "" if fixed else _corners(level, kernel.rms)
    described = Card(
        kernel=corners or name,
        misfit=kernel.rms,
        fixed=fixed,
        shift=kernel.shift,
        stretch=(1 / scale - 1,) * 2 if corners else _stretch(cut),
        border=_border(*map(lights[light], level[0]), scale, kernel) if on_chart and fixed else "",
        gain=read.gain,
        offset=tuple(255 * each for each in read.offset),
        channels=channels,
        turned=turned,
        light=light,
        warnings=(),
    )
    flat = NOISE if on_chart else None  # the patches of the chart have edges on the grid of JPEG
    others = [] if turned else _jpeg([lr[..., :flat, :flat] for _, lr in pairs])
    if fixed and not read.words and levels.named(read.gain, described.offset) == "":
        lr = torch.cat([_cut(*pair, scale, part)[1][0, :, REACH:-REACH, REACH:-REACH].flatten()
                        for pair, part in zip(pairs, parts, strict=True)])  # fmt: skip
        encode = to_srgb if light == "linear light" else lights[light]
        exact = [encode(filtered(lights[light](hr[0]), kernel.taps, scale)).flatten() for hr, _ in cut]
        down = "levels are cut down to 8 bits (floor, as a cast to uint8 does) instead of rounded: half a level darker"
        others += [down] * levels.cut_down(lr, torch.cat(exact))
    aliased = kernel.point or "not antialiased" in kernel.name
    words = [f"levels {each}" for each in (around, read.words) if each]
    return described._replace(warnings=(*words, *_warnings(described, scale, read, aliased), *others))


def _nothing(said: str) -> Card:
    """The card of an LR image that tells no more than this."""
    return Card("none", math.nan, False, (0.0, 0.0), (0.0, 0.0), "", (), (), "", "", "", (said,))


def _upright(hr: Tensor, lr: Tensor, scale: int) -> bool:
    return lr.shape[2] * scale == hr.shape[2]


def _few(pairs) -> bool:
    """Whether LR values have next to no levels."""
    return len(torch.cat([lr.flatten() for _, lr in pairs]).mul(1000).round().unique()) < 4


def _luma(x: Tensor) -> Tensor:
    """(1, 3, H, W) -> (1, H, W): all channels are filtered alike, and JPEG halves the resolution of colours."""
    return (x[0] * torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype).view(3, 1, 1)).sum(0, keepdim=True)


def _cut(hr: Tensor, lr: Tensor, scale: int, part: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
    large = tuple(slice(each.start * scale, each.stop * scale) for each in part)
    return hr[(..., *large)], lr[(..., *part)]


def _turned(pairs, scale: int) -> tuple[str, float]:
    """What was done to the LR images, by their correlation with block means, and it; below 0 of negatives."""
    scores = dict.fromkeys(TURNS, 0.0)
    for hr, lr in pairs:
        grey = F.avg_pool2d(hr, scale).mean(1, keepdim=True)
        for name, undo in TURNS.items():
            back = undo(lr.mean(1, keepdim=True))
            fits = back.shape == grey.shape and min(back.std(), grey.std()) > 1e-4
            scores[name] += np.corrcoef(back.ravel(), grey.ravel())[0, 1] / len(pairs) if fits else 0.0
    best = max(scores, key=lambda name: abs(scores[name]))
    best = best if abs(scores[best]) > max(0.6, abs(scores[""]) + 0.1) else ""
    return best, scores[best]


def _channels(pairs, scale: int) -> str:
    hr, lr = (each.T for each in levels.smoothed(pairs, scale))
    if (lr - lr.mean(0)).abs().max() < 1.5 / 255 and (hr - hr.mean(0)).square().mean().sqrt() > 4 / 255:
        return "grey"
    left = [[levels.straight(hr[i], lr[k])[2] for i in range(3)] for k in range(3)]
    total = {order: sum(left[k][i] for k, i in enumerate(order)) for order in permutations(range(3))}
    order = min(total, key=total.get)
    order = order if total[order] < 0.7 * total[0, 1, 2] - 1e-9 else (0, 1, 2)
    return "".join("RGB"[i] for i in order)


def _stretch(pairs) -> tuple[float, float]:
    """How much further the content reaches than it should, from the first LR pixel to the last, down and right."""
    found = []
    for hr, lr in pairs:
        plain = resize(hr.float(), lr.shape[2:], "bicubic", rounded=False)
        found.append(drift(torch.where(lr.isnan(), plain, lr.float()), plain))
    ends = [[each[axis] for each in found if each[axis].error < 0.1] for axis in (0, 1)]
    return tuple(float(np.median([each.end - each.start for each in axis])) if axis else 0.0 for axis in ends)


def _corners(pairs, rms: float) -> str:
    """Name the interpolation that aligns the corners of both images, where that leaves far less than any kernel."""
    left = {}
    for mode, name in (("bilinear", "triangle"), ("bicubic", "cubic a = -0.75")):
        made = [F.interpolate(hr, lr.shape[2:], mode=mode, align_corners=True) - lr for hr, lr in pairs]
        left[name] = 255 * math.sqrt(np.mean([_luma(each).square().nanmean().item() for each in made]))
    best = min(left, key=left.get)
    return f"{best}, not antialiased (align_corners=True)" if left[best] < min(0.5 * rms, 2) else ""


def _border(hr: Tensor, lr: Tensor, scale: int, kernel) -> str:
    """How pixels beyond the border were made up, from the first two rows and columns of LR pixels."""
    width = REACH * scale

    def padded(x: Tensor, mode: str) -> Tensor:
        x = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (width, width), (width, width)), mode=mode))
        return filtered(x, kernel.taps, scale)

    modes = ("constant", "symmetric", "edge", "reflect", "constant", "wrap")
    made = {name: padded(hr[0], mode) for name, mode in zip(BORDERS, modes, strict=True)}
    made["renormalised"] = made["black"] / padded(torch.ones_like(hr[0]), "constant")
    rim = torch.zeros(lr.shape[2:], dtype=bool)
    rim[:2, :NOISE] = rim[:NOISE, :2] = True
    left = {name: 255 * (one - lr[0])[:, rim].square().nanmean().sqrt().item() for name, one in made.items()}
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


def _warnings(card: Card, scale: int, read: levels.Levels, aliased: bool) -> Iterator[str]:
    """What looks like a mistake. Where aliases are many, or light is filtered, slopes and means say less."""
    if card.turned:
        yield f"the LR image is {card.turned}"
    if card.channels == "grey":
        yield "the LR image is grey, the HR image is not"
    elif card.channels != "RGB":
        yield f"the channels come in the order {card.channels}" + ", as OpenCV has them" * (card.channels == "BGR")
    known = levels.named(card.gain, card.offset, wide=2 if card.light == "linear light" else 1)
    if not read.words and read.left > CURVED:
        yield f"levels follow a curve, as of another gamma: {read.left:.1f} levels off a straight line"
    elif not read.words and known != "":
        how = f"gain {_join(card.gain, '.3f')}, offset {_join(card.offset, '+.1f')}"
        yield f"levels {known}; {how}" if known else f"levels are scaled: {how}"
    shift, half = max(map(abs, card.shift)), (scale - 1) / 2
    if "align_corners" in card.kernel or (max(map(abs, card.stretch)) > 0.25 and not (aliased and card.fixed)):
        yield (
            f"the content is stretched by {_join(card.stretch, '+.2f')} LR pixels (down, right) over the picture: "
            "corners of the images aligned instead of their borders (align_corners), or another crop"
        )
    elif (
        shift > (0.4 if card.fixed else max(0.6, 0.2 * scale))
        and "nearest, pixel" not in card.kernel
        and read.left < CURVED
    ):
        why = all(abs(abs(each) - half) < 0.1 for each in card.shift) and scale > 1
        yield f"the content is shifted by {_join(card.shift, '+.2f')} HR pixels (down, right)" + (
            ": corners of pixels aligned instead of their centres" * why
        )
    if card.border.startswith(("black", "wrapped")):
        yield f"beyond the border the picture counts as {card.border}"


def _join(values: Sequence[float], how: str) -> str:
    return " ".join(re.sub("^-(?=[0.]+$)", "+", format(value, how)) for value in values)
