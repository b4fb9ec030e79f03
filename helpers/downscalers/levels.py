"""Tell what became of the levels of an LR image: ranges and curves that programs mix up, cut off or wrapped around."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.colour import to_linear, to_srgb

HALF = 0.5 / 255  # half a level
CLOSE = 1.5  # levels that a range or curve may be off the patches of a chart
CLEARER = 0.6  # of pictures: what a curve, or a range that is cut off, may leave of what a straight line leaves
GROUPS = 32  # of pixels of like brightness
MOST = 20000  # pixels of a picture that are looked at
FLAT = 0.15  # range of HR block means side by side
AROUND = 256 / 255  # what 8 bits wrap around


class Way(NamedTuple):
    """A way from levels of the HR image to LR values, and back."""

    words: str  # what looks like a mistake
    make: Callable[[Tensor], Tensor]
    undo: Callable[[Tensor], Tensor]
    gain: float = 1.0
    offset: float | None = None  # None: no straight line


class Levels(NamedTuple):
    """What became of the levels of LR images."""

    gain: tuple[float, ...]  # of each channel; 1 of a curve
    offset: tuple[float, ...]  # in [0, 1]
    undo: Callable[[Tensor], Tensor]  # LR images, (1, 3, h, w), to levels of the HR image
    ends: tuple[float, float]  # LR values where they are cut off, so that nothing leads back; infinite: nowhere
    words: str = ""  # what a curve, or a range that is cut off, looks like
    left: float = 0.0  # by a straight line, of the patches of a chart: rms in levels


def _straight(gain: float, offset: float, words: str) -> Way:
    return Way(words, lambda x: gain * x + offset, lambda y: (y - offset) / gain, gain, offset)


def _power(words: str, exponent: float) -> Way:
    def power(x: Tensor, by: float) -> Tensor:
        return x.sign() * x.abs() ** by

    return Way(words, lambda x: power(x, exponent), lambda y: power(y, 1 / exponent))


_DECODED = "follow a curve, as of another gamma: light, about x^2.2, that was not encoded as sRGB again"
_TWICE = "follow a curve, as of another gamma: sRGB values that were encoded twice, about x^(1 / 2.2)"
WAYS = (
    _straight(1, 0, ""),
    _straight(-1, 1, "are a negative: bright where the HR image is dark"),
    _straight(2, -1, "are those of [-1, 1]: return (x + 1) / 2"),
    _straight(1, -0.5, "are those of [-0.5, 0.5]: return x + 0.5"),
    _straight(255, 0, "are those of 0..255: divide 8-bit levels by 255"),
    _straight(219 / 255, 16 / 255, "are scaled, as in video (16 to 235 for black to white)"),
    _straight(255 / 219, -16 / 219, "are scaled, as if 16 to 235 were black to white"),
    Way(_DECODED, to_linear, to_srgb),
    Way(_TWICE, to_srgb, to_linear),
)


def read(pairs: Sequence[tuple[Tensor, Tensor]], scale: int, patches: tuple[Tensor, Tensor] | None = None) -> Levels:
    """Find the curve or the range, cut off, that LR images have; or else gain and offset of each channel.

    Args:
        pairs: HR and LR images, upright and in the right order of channels, float64.
        scale: s.
        patches: of a chart: levels of its plain patches in HR and LR, (patches, 3).
    """
    x, y = patches or (torch.cat(each) for each in zip(*(_pixels(*pair, scale) for pair in pairs), strict=True))
    low, high = (value.item() for value in torch.cat([lr.flatten() for _, lr in pairs]).aminmax())
    ends = (0.0 if low > -HALF else -math.inf, 1.0 if high < 1 + HALF else math.inf)

    def left(made: Tensor) -> float:
        off = 255 * (made - y) / max(1.0, (made.max() - made.min()).item())
        off = off if patches else _in_groups(off, x)
        return off.square().mean().sqrt().item()

    line = _line(*(patches or smoothed(pairs, scale)), ends if patches else (-math.inf, math.inf))
    line = line if patches else line._replace(left=0.0)
    fits = x * y.new_tensor(line.gain) + y.new_tensor(line.offset)
    found = [(left(way.make(x).clamp(*ends)), way) for way in (*WAYS, *_fitted(x, y))]
    least, best = min(found, key=lambda each: each[0])
    other = min(found[0][0], left(fits) if max(map(abs, line.gain)) > 0.01 else math.inf)  # else it follows nothing
    clear = least < CLOSE if patches else least < min(CLEARER * other, other - 0.5)
    if clear and (best.offset is None or _leaves(best.make(x), ends)):
        ends = ends if _leaves(best.make(x), ends) else (-math.inf, math.inf)
        after = "" if math.isinf(sum(ends)) else ", before they are cut off" if ":" in best.words else ", and cut off"
        return Levels((best.gain,) * 3, (best.offset or 0.0,) * 3, best.undo, ends, best.words + after)
    return line._replace(ends=ends) if _leaves(fits, ends, 0.02) else line


def named(gain: Sequence[float], offset: Sequence[float], wide: float = 1.0) -> str | None:
    """What a straight line looks like, "" where levels are as they were; None where it is none that is known.

    Args:
        gain, offset: of each channel, the latter in 8-bit levels.
        wide: how much more than 3 % of the range and 5 levels they may be off.
    """
    for way in WAYS:
        if way.offset is not None:
            more = wide * max(1.0, abs(way.gain))
            near = all(abs(each - way.gain) < 0.03 * more for each in gain)
            if near and all(abs(each - 255 * way.offset) < 5 * more for each in offset):
                return way.words
    return None


def wrapped(pairs: Sequence[tuple[Tensor, Tensor]], scale: int) -> tuple[list[tuple[Tensor, Tensor]], str]:
    """Find LR values that went around the end of 8 bits, by those of flat regions.

    Returns:
        LR images as they were before, and where that is open, both of one shape; and what it looks like, "" where
        nothing wrapped. No image where nothing leads back: of a sum over blocks that wrapped, or of black ones.
    """
    x, y = (torch.cat(each) for each in zip(*(_pixels(*pair, scale) for pair in pairs), strict=True))
    nothing = [(lr, torch.zeros_like(lr, dtype=bool)) for _, lr in pairs], ""
    if y.min() < -HALF or y.max() > 1 + HALF:
        return nothing
    if y.max() < 3 * HALF < x.max() / 10:
        return [], "are nearly black, as if they were divided by 255 twice"
    if y.max() * scale**2 < AROUND and x.max() * scale**2 > 1.5 and _together((y - x) * scale**2)[0] > 0.8:
        return [], "are those of a sum over blocks that went around the end of 8 bits: add in more bits, then divide"
    means = [F.avg_pool2d(hr, scale) for hr, _ in pairs]
    even = [F.max_pool2d(each, 3, 1, 1) + F.max_pool2d(-each, 3, 1, 1) < FLAT for each in means]
    # and grey, where channels in another order are no other
    even = [flat & (each.amax(1, True) - each.amin(1, True) < FLAT) for flat, each in zip(even, means, strict=True)]
    x, y = (torch.cat([each[flat] for each, flat in zip(images, even, strict=True)])
            for images in (means, [lr for _, lr in pairs]))  # fmt: skip
    alike, offset, gain = max((*_together(y - gain * x), gain) for gain in (1, 2))
    off = (y - gain * x - offset) / AROUND
    if alike < 0.8 or (off.round() != 0).sum() < 3 or ((off - off.round()).abs() > 0.25).double().mean() > 0.01:
        return nothing
    off = [(lr - gain * each - offset) / AROUND for (_, lr), each in zip(pairs, means, strict=True)]
    # of 2 x + c one turn more: such values are mostly those of [-1, 1]
    back = [lr - AROUND * (each.round() + gain - 1) for (_, lr), each in zip(pairs, off, strict=True)]
    before, after = (_follow(means, images) for images in ([lr for _, lr in pairs], back))
    if not after > max(0.8, abs(before)):  # a negative, for example, is no better for it
        return nothing
    made = [(lr, (each - each.round()).abs() > 0.25) for lr, each in zip(back, off, strict=True)]
    return made, "go around the end of 8 bits, white becomes black or black white: cut them off before the cast"


def cut_off(lr: Tensor, ends: tuple[float, float]) -> Tensor:
    """Where LR values are at an end, so that what was beyond is lost."""
    return (lr < ends[0] + HALF) | (lr > ends[1] - HALF)


def cut_down(lr: Tensor, exact: Tensor) -> bool:
    """Whether 8-bit levels are those below what a filter gives, on average by half a level, and not the nearest.

    Above it there may be as much without a mistake: Pillow rounds after each axis, halves upwards.

    Args:
        lr, exact: LR values, and those that the filter gives before they are rounded.
    """
    levels = 255 * lr
    off = levels - 255 * exact
    off = off[off.abs() < 2].mean().item()  # without what wrapped around
    return (levels - levels.round()).abs().max().item() < 0.01 and -0.7 < off < -0.3


def _pixels(hr: Tensor, lr: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Block means of HR, and LR, (pixels, 3)."""
    x, y = (image[0].flatten(1).T for image in (F.avg_pool2d(hr, scale), lr))
    step = 1 + len(x) // MOST
    return x[::step], y[::step]


def _in_groups(off: Tensor, x: Tensor) -> Tensor:
    """Means over pixels of like brightness: no kernel matters there."""
    return torch.stack([group.mean() for group in off.flatten()[x.flatten().argsort()].tensor_split(GROUPS)])


def smoothed(pairs, scale: int) -> tuple[Tensor, Tensor]:
    """Block means of HR and LR over some LR pixels, (n, 3): no kernel matters there."""
    small = [(F.avg_pool2d(F.avg_pool2d(hr, scale), 4), F.avg_pool2d(lr, 4)) for hr, lr in pairs]
    return tuple(torch.cat([pair[i][0].flatten(1).T for pair in small]) for i in (0, 1))


def _leaves(made: Tensor, ends: tuple[float, float], by: float = HALF) -> bool:
    return bool(made.min() < ends[0] - by or made.max() > ends[1] + by)


def _line(x: Tensor, y: Tensor, ends: tuple[float, float]) -> Levels:
    """Gain and offset of each channel, without values that may be cut off, and what they leave."""
    rim = 0.01 * min(1.0, (y.max() - y.min()).item())
    fits, left, n = [], 0.0, 0
    for a, b in zip(x.T, y.T, strict=True):
        whole = (b > ends[0] + rim) & (b < ends[1] - rim)
        a, b = (a[whole], b[whole]) if whole.sum() > 1 else (a, b)
        fit = straight(a, b)
        fits, left, n = [*fits, fit], left + fit[2], n + len(a)
    gain, offset = tuple(fit[0] or 1.0 for fit in fits), tuple(fit[1] for fit in fits)
    back = torch.tensor([gain, offset], dtype=torch.float64).view(2, 3, 1, 1)
    return Levels(gain, offset, lambda z: (z - back[1]) / back[0], (-math.inf, math.inf), "", 255 * math.sqrt(left / n))


def straight(x: Tensor, y: Tensor) -> tuple[float, float, float]:
    """y = gain x + offset; gain, offset, and the sum of squares that is left."""
    dx, dy = x - x.mean(), y - y.mean()
    gain = (dx @ dy / (dx @ dx).clamp_min(1e-12)).item()
    return gain, (y.mean() - gain * x.mean()).item(), (dy - gain * dx).square().sum().item()


def _fitted(x: Tensor, y: Tensor) -> list[Way]:
    """The power that fits best, if that is no straight line."""
    inside = (x > 0.02) & (x < 0.98) & (y > 0.005) & (y < 0.995)
    exponent = (y[inside].log() / x[inside].log()).median().item() if inside.any() else 1.0
    if not 0.1 < exponent < 10 or 0.9 < exponent < 1.1:
        return []
    words = _DECODED if 1.9 < exponent < 2.6 else _TWICE if 1.9 < 1 / exponent < 2.6 else ""
    return [_power(words or f"follow a curve, as of another gamma: about x^{exponent:.2g}", exponent)]


def _follow(means: Sequence[Tensor], images: Sequence[Tensor]) -> float:
    """Correlation over all images."""
    both = torch.stack([torch.cat([each.flatten() for each in some]) for some in (means, images)])
    return torch.corrcoef(both)[0, 1].item()


def _together(off: Tensor) -> tuple[float, float]:
    """How much numbers agree but for whole turns, 0 to 1, and on what."""
    mean = torch.exp(2j * math.pi * off / AROUND).mean()
    return mean.abs().item(), mean.angle().item() / (2 * math.pi) * AROUND
