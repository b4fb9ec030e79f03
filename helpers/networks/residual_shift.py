"""A compact upscaler that shifts residuals: an LR encoder with its mean image, and a chain of a few steps around it.

Residual shifting (Yue et al., ResShift, NeurIPS 2023, Eq. 1 to 8) walks from the LR to the HR image. Here it starts at
a mean image that was trained with L1 in place of the interpolated LR image, in pixel space and without an autoencoder:
r_t = (1 - eta_t) r + kappa sqrt(eta_t) n is the noisy residual r = GAIN (hr - mean), which the network denoises. Its
input and output are scaled as in Karras et al. (EDM, NeurIPS 2022, Table 1), so one network serves any number of
steps. No layer looks at a whole image: any size, and a crop is upscaled as the image is, but for its borders.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks.compact_flow import GAIN, Encoder

VARIANCE = 0.25  # of a residual r, over pixels of photographs
KAPPA = 1.0  # standard deviation of the noise where r has gone
FREQUENCIES = 6  # of the embedding of a noise level


class Block(nn.Module):
    """Two 3x3 convolutions with a gain and an offset for each channel between them, which the noise level sets."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, width, 3, padding=1)
        self.level = nn.Linear(embedding, 2 * width)
        nn.init.zeros_(self.level.weight)
        nn.init.zeros_(self.level.bias)
        self.last.weight.data.mul_(0.1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Shape (N, width, h, w) kept; the embedding is (N, C), or (1, C) for all."""
        gain, offset = self.level(embedding)[:, :, None, None].chunk(2, 1)
        return x + self.last(F.silu(self.first(x) * (1 + gain) + offset))


class ResidualShift(nn.Module):
    """Encoder, mean image and denoiser of a compact upscaler.

    Args:
        scale: s, a power of two from 2 on.
        width, blocks, head: of the LR encoder, see `compact_flow.Encoder`.
        channels, depth: width and blocks of the denoiser, which works at LR size.
        shares: what is left of the variance of the predictions' errors after training, as a share of what an untrained
            denoiser leaves of Gaussian residuals, at equal steps of u in [0, 1], see `eta_at`; () is all of it.
    """

    CONFIG = ("scale", "width", "blocks", "head", "channels", "depth")

    def __init__(
        self, *, scale=4, width=48, blocks=8, head=32, channels=96, depth=5, shares: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.config = {
            "scale": scale, "width": width, "blocks": blocks, "head": head, "channels": channels, "depth": depth,
        }  # fmt: skip
        self.config |= {"shares": list(shares)} if len(shares) else {}
        self.shares = list(shares) or [1.0]
        self.scale, pixels = scale, 3 * scale**2
        self.encoder = Encoder(scale, width, blocks, head)
        self.embed = nn.Sequential(nn.Linear(2 * FREQUENCIES, channels), nn.SiLU())
        self.first = nn.Conv2d(pixels, channels, 3, padding=1)
        self.from_lr = nn.Conv2d(width + pixels, channels, 1)
        self.trunk = nn.ModuleList(Block(channels, channels) for _ in range(depth))
        self.last = nn.Conv2d(channels, pixels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def encode(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """What all draws of an LR image share.

        Args:
            lr: in [0, 1], (N, 3, h, w).

        Returns:
            The mean image, (N, 3, s h, s w), and what the denoiser knows of the LR image, (N, channels, h, w).
        """
        features, mean = self.encoder(lr)
        return mean, self.condition(features[-1][:, : self.config["width"]], mean)

    def condition(self, features: Tensor, mean: Tensor) -> Tensor:
        """`encode`'s second result, from the coarsest features and the mean image."""
        return self.from_lr(torch.cat([features, 2 * F.pixel_unshuffle(mean, self.scale) - 1], 1))

    def denoise(self, x: Tensor, eta: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the residual behind a noisy one.

        Args:
            x: r_t, (N, 3, s h, s w).
            eta: eta_t in (0, 1), (N,) or (1,).
            condition: of `encode`, (N, channels, h, w) or (1, channels, h, w).

        Returns:
            The residual, (N, 3, s h, s w), and the deviation by which its error is divided in training, (N, 1, 1, 1).
        """
        eta = eta.view(-1, 1, 1, 1)
        noise, kept = KAPPA**2 * eta, 1 - eta
        total = kept**2 * VARIANCE + noise
        angle = 0.5 * eta.log().view(-1, 1) * torch.pi / 4 * 2 ** torch.arange(FREQUENCIES, device=x.device) / 4
        embedding = self.embed(torch.cat([angle.sin(), angle.cos()], 1))
        hidden = self.first(F.pixel_unshuffle(x / total.sqrt(), self.scale)) + condition
        for block in self.trunk:
            hidden = block(hidden, embedding)
        change = F.pixel_shuffle(self.last(F.silu(hidden)), self.scale).to(x.dtype)
        deviation = (VARIANCE * noise / total).sqrt()
        return kept * VARIANCE / total * x + deviation * change, deviation

    def left(self, u: float) -> float:
        """The share at u in [0, 1], linear between the `shares`."""
        place = u * (len(self.shares) - 1)
        below = min(int(place), max(len(self.shares) - 2, 0))
        above = min(below + 1, len(self.shares) - 1)
        return self.shares[below] + (place - below) * (self.shares[above] - self.shares[below])

    def noisy(self, r: Tensor, eta: Tensor, noise: Tensor) -> Tensor:
        """r_t of residuals r, (N, 3, H, W), at eta, (N,), with N(0, 1) noise of the same shape."""
        eta = eta.view(-1, 1, 1, 1)
        return (1 - eta) * r + KAPPA * eta.sqrt() * noise

    def residual(self, hr: Tensor, mean: Tensor) -> Tensor:
        """r of an HR image, (N, 3, H, W)."""
        return GAIN * (hr - mean)

    def image(self, r: Tensor, mean: Tensor) -> Tensor:
        """The HR image of a residual, not clipped."""
        return mean + r / GAIN


def eta_at(u: Tensor, lowest: float = 0.04, highest: float = 0.99, power: float = 0.3) -> Tensor:
    """eta at u in [0, 1] of the chain, ResShift's schedule with a step at every u: sqrt(eta) = lowest b^(u^power)."""
    return (lowest * math.exp(math.log(highest / lowest)) ** (u**power)).square()
