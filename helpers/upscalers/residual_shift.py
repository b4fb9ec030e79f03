"""Draws of a compact residual-shifting network: the mean image once for all draws, then a few steps around it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from helpers.images import check_draws
from helpers.networks.residual_shift import KAPPA, ResidualShift
from helpers.rescalers import checkpoints
from helpers.runtime import pick_device
from helpers.upscalers.diffusion import noise_source, residual_schedule

STEPS = 4  # of the chain


@torch.no_grad()
def sample(
    network: ResidualShift, lr: Tensor, generators: Sequence[Generator], steps: int = STEPS, share: float = 1.0,
    *, watch: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Tensor:  # fmt: skip
    """Draw SR images.

    ResShift puts the predicted residual in place of the true one at every step, as if it were certain. With few steps
    the draws then spread too little: of Gaussian residuals, 36 % of their variance at 4 steps and 74 % at 15. The
    variance of the prediction's error, which was measured after training (`ResidualShift.left`), makes up for it (Bao
    et al., Analytic-DPM, ICLR 2022, Theorem 1): exact at any number of steps where residuals are Gaussian.

    Args:
        network: in eval mode.
        lr: one LR image, (1, 3, h, w) in [0, 1], or one a draw, (Q, 3, h, w), on the network's device.
        generators: one CPU generator a draw; draw q depends on generator q alone.
        steps: T of the chain, from 2 on; one network serves any number.
        share: of the variance of that error that is added to each step but the last, which returns the prediction; 0 is
            ResShift's rule.
        watch: given each step, from T down to 1, the noisy residual there and what is predicted behind it.

    Returns:
        (Q, 3, s h, s w), not clipped.

    Raises:
        ValueError: fewer than two steps, or a share outside [0, 1].
    """
    schedule = residual_schedule(steps, kappa=KAPPA)
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number from 0 to 1, got {share!r}")
    mean, condition = network.encode(lr)
    draw = noise_source(tuple(mean.shape[1:]), generators, lr.device)
    x = KAPPA * float(schedule["sqrt_etas"][-1]) * draw()

    def predict(t: int) -> tuple[Tensor, Tensor]:
        eta = torch.tensor([schedule["etas"][t]], dtype=x.dtype, device=x.device)
        found, deviation = network.denoise(x, eta, condition)
        if watch:
            watch(t + 1, x, found)
        return found, deviation

    for t in reversed(range(1, steps)):
        found, deviation = predict(t)
        old, new = (float(schedule[f"posterior_mean_coef{k}"][t]) for k in (1, 2))
        more = share * network.left(t / (steps - 1)) * (new * deviation).square()
        variance = float(schedule["posterior_variance"][t]) + more
        x = old * x + new * found + variance.sqrt() * draw()
    return network.image(predict(0)[0], mean)


def load(file: str | Path, device: str | torch.device = "cpu", scale: int = 4) -> ResidualShift:
    """Load a network from its checkpoint, whose header holds the configuration, in eval mode and in float32.

    Raises:
        ValueError: the file is missing, or holds another network or one of another scale.
    """
    network = checkpoints.load(file, ResidualShift, lambda tensors: {}, device=device, scale=scale)
    return network.to(memory_format=torch.channels_last)


def check_steps(steps: int = STEPS) -> None:
    """Refuse a number of steps that no chain has, with a ValueError."""
    residual_schedule(steps, kappa=KAPPA)


def upscaler(
    *, file: str | Path, scale: int = 4, heat: float = 1.0, device: str = "cpu", steps: int = STEPS
) -> Callable:
    """f_us: draws of a compact residual-shifting network, which all share one mean image.

    Args:
        file: name of an embedded checkpoint, or a path.
        scale: s, which must be that of the file.
        heat: 1, the only one it has: its noise is part of the chain.
        device: name of a device, see `runtime.pick_device`.
        steps: T of the chain, from 2 on.

    Returns:
        `upscale(lr, generators)`, see `flows.embedded_flow`. Each generator gives the start and then the noise of each
        step but the last one's.

    Raises:
        ValueError: no such device or number of steps; or as `load`.
    """
    check_steps(steps)
    device = pick_device(device)
    network = load(file, device, scale)

    def upscale(lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
        generators = check_draws(lr, generators)
        return sample(network, lr.to(device, torch.float32), generators, steps).to(lr.device)

    return upscale


def mean_upscaler(*, file: str | Path, scale: int = 4, heat: float = 0.0, device: str = "cpu") -> Callable:
    """f_us: the mean image alone, trained with L1: what is left of `upscaler` without its chain.

    Args:
        file, scale, device: see `upscaler`.
        heat: 0, there is nothing to draw.

    Returns:
        `upscale(lr, generators)`, see `flows.embedded_flow`: the same image for every generator, computed once.

    Raises:
        ValueError: no such device; or as `load`.
    """
    device = pick_device(device)
    network = load(file, device, scale)

    @torch.no_grad()
    def upscale(lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
        draws = len(check_draws(lr, generators))
        sr = network.encoder(lr.to(device, torch.float32))[1].to(lr.device)
        return sr if len(lr) > 1 else sr.expand(draws, -1, -1, -1)

    return upscale
