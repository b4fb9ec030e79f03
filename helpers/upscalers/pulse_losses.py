"""Losses that PULSE's search descends, its own downscaler, and the schedules of its step sizes.

Menon et al., CVPR 2020; lines are those of github.com/adamian98/pulse, commit 40cacb97.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def bicubic_proxy(hr: Tensor, scale: int, *, rounded: bool = False) -> Tensor:
    """Downscale as PULSE does: antialiased bicubic (a = -0.5), mirrored at the border (bicubic.py).

    Pillow's inside the image; the outer two pixels differ. At scale 1 it blurs by half a pixel.

    Args:
        hr: images of any range, shape (N, C, H, W), H and W multiples of `scale` and above 1.5 times it.
        scale: s.
        rounded: clip and round to 8-bit levels after each axis, as PULSE prepares its LR files (clip_round).

    Returns:
        (N, C, H / s, W / s), differentiable unless `rounded`.

    Raises:
        ValueError: a size that does not divide, or too small to be mirrored.
    """
    if hr.ndim != 4 or scale < 1 or any(side % scale or side <= 3 * scale // 2 for side in hr.shape[2:]):
        wanted = f"height and width multiples of {scale} and above {3 * scale // 2}"
        raise ValueError(f"hr: expected shape (N, C, H, W), {wanted}, got {tuple(hr.shape)}")
    x = _proxy_matrix(hr.shape[2], scale, hr.dtype, hr.device) @ hr
    x = (x * 255).round().clamp(0, 255) / 255 if rounded else x
    x = x @ _proxy_matrix(hr.shape[3], scale, hr.dtype, hr.device).T
    return (x * 255).round().clamp(0, 255) / 255 if rounded else x


@lru_cache(maxsize=16)
def _proxy_matrix(side: int, scale: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One axis of `bicubic_proxy`, (side / scale, side): 4 s taps, 3 s pixels of mirrored border."""
    x = np.abs((np.arange(4 * scale) - 2 * scale + 0.5) / scale)
    taps = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
    position = np.arange(side // scale)[:, None] * scale + np.arange(4 * scale) - 3 * scale // 2
    position = np.abs(position)
    position = np.minimum(position, 2 * (side - 1) - position)
    matrix = np.zeros((side // scale, side))
    np.add.at(matrix, (np.arange(side // scale)[:, None], position), taps / taps.sum())
    with torch.inference_mode(False):
        return torch.from_numpy(matrix).to(device, dtype)


def straight_through(f_ds: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """Lend a downscaler that has no gradient (Pillow's filters, JPEG) that of the proxy; its values stay."""

    def downscale(hr: Tensor, scale: int) -> Tensor:
        proxy = bicubic_proxy(hr, scale)
        with torch.no_grad():
            true = f_ds(hr, scale)
        return true + (proxy - proxy.detach())  # plus zero

    return downscale


def through_file(sr: Tensor, f_ds: Callable, scale: int, shape: torch.Size, first: bool) -> Tensor:
    """Apply f_ds to the samples clipped to [0, 1]; the gradient passes the clip unchanged.

    A sample that is not finite goes in black and comes out NaN, so an f_ds that refuses it does not lose the others.
    Pixels where f_ds has no derivative (DPID on a flat cell) get none. In the `first` step f_ds without any gradient is
    refused.
    """
    whole = sr.isfinite().flatten(1).all(1).view(-1, 1, 1, 1)
    hr = torch.where(whole, sr.detach().clamp(0, 1) + (sr - sr.detach()), 0.0)  # plus zero
    hr.register_hook(lambda slope: slope.nan_to_num(0, 0, 0))
    down = f_ds(hr, scale)
    got = ""
    if down.shape != shape or not down.requires_grad:
        got = f"{tuple(down.shape)} {'with' if down.requires_grad else 'without'} gradient"
    elif first:
        (slope,) = torch.autograd.grad(down.sum(), hr, retain_graph=True, allow_unused=True)
        got = "" if slope is not None and slope.any() else "one that is zero everywhere, as of rounding"
    if got:
        expected = f"f_ds, {getattr(f_ds, '__name__', 'function')}: expected {tuple(shape)} with gradient"
        raise ValueError(f"{expected}, got {got}; straight_through (f_ds=straight-through) lends it the proxy's")
    return torch.where(whole, down, torch.nan)


def geocross(styles: Tensor) -> Tensor:
    """Measure how far apart the styles of one image's layers lie along the sphere (loss.py:31-44).

    Args:
        styles: w, (N, L, D).

    Returns:
        D / 8 times the mean of squared angles over all pairs of layers, (N,).
    """
    exact = {"compute_mode": "donot_use_mm_for_euclid_dist"}
    apart = (torch.cdist(styles, styles, **exact).square() + 1e-9).sqrt()
    across = (torch.cdist(styles, -styles, **exact).square() + 1e-9).sqrt()
    angle = 2 * torch.atan2(apart, across)
    return styles.shape[2] / 8 * angle.square().mean((1, 2))


def parse_loss(loss: str) -> dict[str, float]:
    """Read the weights of the terms of a loss such as "100*L2+0.05*GEOCROSS", PULSE's notation (loss.py:13).

    Raises:
        ValueError: another notation, an unknown term, the same term twice, or neither L2 nor L1.
    """
    weight_of = {}
    for part in loss.split("+"):
        weight, _, term = part.strip().partition("*")
        try:
            number = float(weight)
        except ValueError:
            number = float("nan")
        if term not in ("L2", "L1", "GEOCROSS") or not 0 <= number < float("inf") or term in weight_of:
            raise ValueError(f"loss: expected terms like 100*L2+10*L1+0.05*GEOCROSS, each once, got {loss!r}")
        weight_of[term] = number
    if weight_of.keys() == {"GEOCROSS"}:
        raise ValueError(f"loss: expected L2 or L1 among the terms, got {loss!r}")
    return weight_of


def losses(down: Tensor, lr: Tensor, styles: Tensor, terms: Iterable[str], eps: float) -> dict[str, Tensor]:
    """Compute the losses of each sample by name (loss.py:15-44); PULSE sums them over the batch.

    Args:
        down: f_ds of the samples, (N, 3, h, w).
        lr: LR images, same shape.
        styles: w, (N, L, D).
        terms: some of "L2" (mean squared difference), "L1" (ten times the mean absolute one), "GEOCROSS".
        eps: floor of both differences; at the floor they have no gradient.

    Returns:
        (N,) for each term.
    """
    each = {
        "L2": lambda: (down - lr).square().mean((1, 2, 3)).clamp(min=eps),
        "L1": lambda: 10 * (down - lr).abs().mean((1, 2, 3)).clamp(min=eps),
        "GEOCROSS": lambda: geocross(styles),
    }
    return {term: each[term]() for term in terms}


def _up_and_down(step: float, steps: float) -> float:
    return (9 * (1 - abs(2 * step / steps - 1)) + 1) / 10


def _with_drop(step: float, steps: float) -> float:
    start = 0.9 * steps
    return _up_and_down(step, start) if step < start else 0.1 + (step - start) / (0.1 * steps) * (1 / 1000 - 1 / 10)


SCHEDULES: dict[str, Callable[[int, int], float]] = {  # step, steps -> multiplier of the rate, PULSE.py:116-122
    "fixed": lambda step, steps: 1.0,
    "linear1cycle": _up_and_down,
    "linear1cycledrop": _with_drop,
}
