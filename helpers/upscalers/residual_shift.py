"""Draws of a compact residual-shifting network: the mean image once for all draws, then a few steps around it."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from helpers.networks.residual_shift import KAPPA, ResidualShift
from helpers.upscalers.diffusion import noise_source, residual_schedule


@torch.no_grad()
def sample(
    network: ResidualShift, lr: Tensor, generators: Sequence[Generator], steps: int = 8, share: float = 1.0
) -> Tensor:
    """Draw SR images.

    ResShift puts the predicted residual in place of the true one at every step, as if it were certain. With few steps
    the draws then spread too little: of Gaussian residuals, 36 % of their variance at 4 steps and 74 % at 15. The
    variance of the prediction, which a trained denoiser states, makes up for it (Bao et al., Analytic-DPM, ICLR 2022,
    Theorem 1): exact at any number of steps where residuals are Gaussian.

    Args:
        network: in eval mode.
        lr: one LR image, (1, 3, h, w) in [0, 1], or one a draw, (Q, 3, h, w), on the network's device.
        generators: one CPU generator a draw; draw q depends on generator q alone.
        steps: T of the chain, from 2 on; one network serves any number.
        share: of the prediction's variance that is added to each step but the last, which returns the prediction; 0 is
            ResShift's rule.

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
        return network.denoise(x, torch.tensor([schedule["etas"][t]], dtype=x.dtype, device=x.device), condition)

    for t in reversed(range(1, steps)):
        found, deviation = predict(t)
        old, new = (float(schedule[f"posterior_mean_coef{k}"][t]) for k in (1, 2))
        variance = float(schedule["posterior_variance"][t]) + share * (new * deviation).square()
        x = old * x + new * found + variance.sqrt() * draw()
    return network.image(predict(0)[0], mean)
