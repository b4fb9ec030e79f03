"""Schedules and samplers of diffusion upscalers: residual shifting (ResShift) and SR3. Pure functions of tensors.

A schedule is a dict of float64 arrays with one value a step; steps count from 0, so step t of an array is t + 1 of the
papers. A sampler takes the network as `predict(x, t)` and its noise from `draw()`, which is called once for the start
and then once a step, the last step first.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

Schedule = dict[str, np.ndarray]


def noise_source(shape: tuple[int, ...], generators: Sequence[Generator], device: torch.device | str) -> Callable:
    """`draw()` of standard normal noise, (Q, *shape): row q comes from CPU generator q alone, call after call."""

    def draw() -> Tensor:
        return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)

    return draw


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Reflect images, (N, c, h, w), at the bottom and right up to sides that are multiples; as often as it takes."""
    height, width = (
        torch.from_numpy(np.pad(np.arange(side), (0, -side % multiple), mode="reflect")).to(images.device)
        for side in images.shape[-2:]
    )
    return images[..., height, :][..., width]


def _at(values: np.ndarray, t: int | Tensor) -> float | Tensor:
    """One value for all, or one for each sample of a batch, (N, 1, 1, 1)."""
    if isinstance(t, Tensor):
        return torch.from_numpy(values).to(t.device, torch.float32)[t].view(-1, 1, 1, 1)
    return float(values[t])


def _check(name: str, steps: int, low: float, high: float) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps: expected a whole number of at least 2, got {steps!r}")
    if not 0 < low < high < 1:
        raise ValueError(f"{name}: expected 0 < first < last < 1, got {low!r} and {high!r}")


# ---- residual shifting


def residual_schedule(
    steps: int = 15, *, kappa: float = 2.0, power: float = 0.3, lowest: float = 0.04, highest: float = 0.99
) -> Schedule:
    """How far x_t has moved from the HR to the LR image, and what follows from it.

    sqrt(eta_t) = s b^(((t - 1) / (T - 1))^p (T - 1)), s = min(m / kappa, m), b = (e / s)^(1 / (T - 1)), t = 1..T
    (Yue et al., ResShift, NeurIPS 2023; zsyOAOA/ResShift 3ce1d81, models/gaussian_diffusion.py:52-58, 149-161).

    Args:
        steps: T; 15 of the NeurIPS version, with `lowest` 0.04; 4 of the journal's and of bicsr, with 0.2.
        kappa: standard deviation of the noise where x_t is the LR image.
        power: p.
        lowest: m; of the last step's noise.
        highest: e; sqrt(eta_T).

    Returns:
        "kappa" (one value), "sqrt_etas", "etas", "alpha" (eta_t - eta_{t-1}), those of q(x_{t-1} | x_t, x_0):
        "posterior_mean_coef1" of x_t, "posterior_mean_coef2" of x_0, "posterior_variance",
        "posterior_variance_clipped" (step 0 has that of step 1) and its log, "posterior_log_variance_clipped";
        "input_std" and "input_std_pixels", by which the network's input is divided in latent and in pixel space.

    Raises:
        ValueError: no schedule has these values.
    """
    if not kappa > 0 or not power > 0:
        raise ValueError(f"kappa, power: expected numbers above 0, got {kappa!r} and {power!r}")
    start = min(lowest / kappa, lowest)
    _check("lowest, highest", steps, start, highest)
    base = math.exp(math.log(highest / start) / (steps - 1))
    sqrt_etas = start * base ** (np.linspace(0, 1, steps) ** power * (steps - 1))
    etas = sqrt_etas**2
    before = np.append(0.0, etas[:-1])
    alpha = etas - before
    variance = kappa**2 * before / etas * alpha
    clipped = np.append(variance[1], variance[1:])
    return {
        "kappa": np.array([kappa]),
        "sqrt_etas": sqrt_etas,
        "etas": etas,
        "alpha": alpha,
        "posterior_mean_coef1": before / etas,
        "posterior_mean_coef2": alpha / etas,
        "posterior_variance": variance,
        "posterior_variance_clipped": clipped,
        "posterior_log_variance_clipped": np.log(clipped),
        "input_std": np.sqrt(kappa**2 * etas + 1),
        "input_std_pixels": 3 * kappa * sqrt_etas + 1,
    }


def residual_mix(schedule: Schedule, x0: Tensor, y: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
    """x_t, drawn from N(x_0 + eta_t (y - x_0), kappa^2 eta_t); t is one step, or one a sample, (N,)."""
    kappa = float(schedule["kappa"][0])
    return x0 + _at(schedule["etas"], t) * (y - x0) + kappa * _at(schedule["sqrt_etas"], t) * noise


def residual_start(schedule: Schedule, y: Tensor, noise: Tensor) -> Tensor:
    """x_T = y + kappa sqrt(eta_T) noise: where the chain begins."""
    return y + float(schedule["kappa"][0] * schedule["sqrt_etas"][-1]) * noise


def residual_input(schedule: Schedule, x: Tensor, t: int | Tensor, *, latent: bool = True) -> Tensor:
    """x_t as ResShift's network is given it: divided by a bound of its spread, which differs in pixel space."""
    return x / _at(schedule["input_std" if latent else "input_std_pixels"], t)


def residual_step(schedule: Schedule, x: Tensor, x0: Tensor, t: int, noise: Tensor) -> Tensor:
    """x_{t-1}, drawn from q(x_{t-1} | x_t, x_0); step 0 returns x_0 itself."""
    mean = _at(schedule["posterior_mean_coef1"], t) * x + _at(schedule["posterior_mean_coef2"], t) * x0
    spread = math.exp(0.5 * _at(schedule["posterior_log_variance_clipped"], t)) if t else 0.0
    return mean + spread * noise


def residual_sample(
    predict: Callable[[Tensor, int], Tensor], y: Tensor, schedule: Schedule, draw: Callable, *, clip: bool = False
) -> Tensor:
    """Walk from the LR to the HR image.

    Args:
        predict: `predict(x_t, t)` is x_0; it scales its input itself, see `residual_input`.
        y: LR image at HR size, or its latent, (Q, c, h, w).
        schedule: see `residual_schedule`.
        draw: `draw()` is noise of the shape of y. Called T + 1 times: the noise of step 0 is drawn and not used.
        clip: x_0 to [-1, 1] at each step, as ResShift does in pixel space and not with an autoencoder.

    Returns:
        x_0, shape of y.
    """
    x = residual_start(schedule, y, draw())
    for t in reversed(range(len(schedule["etas"]))):
        x0 = predict(x, t)
        x = residual_step(schedule, x, x0.clamp(-1, 1) if clip else x0, t, draw())
    return x


# ---- SR3


def sr3_schedule(steps: int = 2000, *, first: float = 1e-6, last: float = 1e-2) -> Schedule:
    """Linear variances of the noise that each step adds, and what follows from them.

    Source: Janspiry/Image-Super-Resolution-via-Iterative-Refinement 01d27a7, model/sr3_modules/diffusion.py:92-139.

    Args:
        steps: T.
        first, last: beta of the first and the last step.

    Returns:
        "betas", "alphas_cumprod" (alphabar_t), "posterior_variance", "posterior_log_variance_clipped" (of at least
        1e-20), "posterior_mean_coef1" of x_0 and "posterior_mean_coef2" of x_t, "sqrt_recip_alphas_cumprod" and
        "sqrt_recipm1_alphas_cumprod" (sqrt(1 / alphabar_t - 1)), all of length T; "sqrt_alphas_cumprod_prev" of
        length T + 1, which begins with 1: value t + 1 is the noise level that the network is told at step t.

    Raises:
        ValueError: no schedule has these values.
    """
    _check("first, last", steps, first, last)
    betas = np.linspace(first, last, steps)
    cumprod = np.cumprod(1 - betas)
    before = np.append(1.0, cumprod[:-1])
    variance = betas * (1 - before) / (1 - cumprod)
    return {
        "betas": betas,
        "alphas_cumprod": cumprod,
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(before) / (1 - cumprod),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - cumprod),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / cumprod),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / cumprod - 1),
        "sqrt_alphas_cumprod_prev": np.sqrt(np.append(1.0, cumprod)),
    }


def sr3_mix(x0: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """x_t at noise level sqrt(alphabar), (N,): what the network is trained on."""
    level = level.view(-1, 1, 1, 1)
    return level * x0 + (1 - level**2).sqrt() * noise


def sr3_level(schedule: Schedule, t: int) -> float:
    """The noise level sqrt(alphabar_t) of step t."""
    return float(schedule["sqrt_alphas_cumprod_prev"][t + 1])


def sr3_step(schedule: Schedule, x: Tensor, predicted: Tensor, t: int, noise: Tensor | None) -> Tensor:
    """x_{t-1} from x_t and the noise predicted in it; x_0 is clipped to [-1, 1]; step 0 adds no noise."""
    x0 = _at(schedule["sqrt_recip_alphas_cumprod"], t) * x - _at(schedule["sqrt_recipm1_alphas_cumprod"], t) * predicted
    x0 = x0.clamp(-1, 1)
    mean = _at(schedule["posterior_mean_coef1"], t) * x0 + _at(schedule["posterior_mean_coef2"], t) * x
    return mean + math.exp(0.5 * _at(schedule["posterior_log_variance_clipped"], t)) * noise if t else mean


def sr3_sample(predict: Callable[[Tensor, float], Tensor], schedule: Schedule, draw: Callable) -> Tensor:
    """Walk from noise to an image in [-1, 1].

    Args:
        predict: `predict(x_t, level)` is the noise in x_t, see `sr3_level`.
        schedule: see `sr3_schedule`.
        draw: `draw()` is noise, (Q, 3, H, W). Called T times: for the start, then for every step but step 0.

    Returns:
        x_0, shape of the noise.
    """
    x = draw()
    for t in reversed(range(len(schedule["betas"]))):
        x = sr3_step(schedule, x, predict(x, sr3_level(schedule, t)), t, draw() if t else None)
    return x
