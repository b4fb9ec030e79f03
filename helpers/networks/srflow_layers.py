"""Layers of SRFlow: activation norm, invertible convolution, conditional coupling, split, and the flow they form.

Each is the same function as in the official code (see `srflow`); encoding returns the log-determinant of the layer in
nats, shape (N,), decoding that of the inverse.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks.rrdb import conv3


def log_normal(x: Tensor, mean: Tensor | float = 0.0, log_std: Tensor | float = 0.0) -> Tensor:
    """Sum of log N(x; mean, exp(log_std)^2) over each image, (N,)."""
    log_std = torch.as_tensor(log_std, dtype=x.dtype, device=x.device)
    density = -0.5 * (2 * log_std + (x - mean) ** 2 / torch.exp(2 * log_std) + math.log(2 * math.pi))
    return density.sum((1, 2, 3))


class Squeeze(nn.Module):
    """Each 2x2 block of pixels becomes four channels; volume is kept."""

    def encode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor | float]:
        """(N, C, H, W) to (N, 4 C, H / 2, W / 2)."""
        return F.pixel_unshuffle(x, 2), 0.0

    def decode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor | float]:
        """(N, 4 C, H / 2, W / 2) to (N, C, H, W)."""
        return F.pixel_shuffle(x, 2), 0.0


class ActNorm(nn.Module):
    """Shift and scale per channel; the first training batch sets them to zero mean and unit variance.

    A bias that is not all zero counts as set (a loaded checkpoint), as in FlowActNorms.py:45-59.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.logs = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.initialised = False

    def forward(self, x: Tensor) -> Tensor:
        """(x + bias) * exp(logs); in train mode the first call initialises."""
        if self.training and not self.initialised:
            self.initialised = True
            if not self.bias.any():
                with torch.no_grad():
                    self.bias.copy_(-x.mean((0, 2, 3), keepdim=True))
                    std = ((x + self.bias) ** 2).mean((0, 2, 3), keepdim=True).sqrt()
                    self.logs.copy_(-torch.log(std + 1e-6))
        return (x + self.bias) * torch.exp(self.logs)

    def inverse(self, x: Tensor) -> Tensor:
        """x * exp(-logs) - bias."""
        return x * torch.exp(-self.logs) - self.bias


class InvertibleConv(nn.Module):
    """1x1 convolution with a square matrix; its inverse is taken in float64."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])

    def forward(self, x: Tensor) -> Tensor:
        """W x at each pixel."""
        return F.conv2d(x, self.weight[:, :, None, None])

    def inverse(self, x: Tensor) -> Tensor:
        """W^-1 x at each pixel."""
        where = "cpu" if self.weight.device.type == "mps" else self.weight.device  # MPS has no float64
        inverse = torch.linalg.inv(self.weight.to(where).double()).to(self.weight)
        return F.conv2d(x, inverse[:, :, None, None])

    def logdet(self) -> Tensor:
        """log |det W| of one pixel, a scalar."""
        return torch.linalg.slogdet(self.weight)[1]


class NormConv(nn.Conv2d):
    """Convolution without bias, then ActNorm."""

    def __init__(self, channels_in: int, channels_out: int, size: int) -> None:
        super().__init__(channels_in, channels_out, size, padding=size // 2, bias=False)
        nn.init.normal_(self.weight, 0, 0.05)
        self.actnorm = ActNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.actnorm(super().forward(x))


class ZeroConv(nn.Conv2d):
    """3x3 convolution times exp(3 logs) per channel; starts as zero."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)
        self.logs = nn.Parameter(torch.zeros(channels_out, 1, 1))
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.exp(3 * self.logs)


class Coupling(nn.Module):
    """Affine injector, which depends on the features alone; affine coupling, which also depends on half of x.

    Args:
        channels: of x.
        condition: channels of the features.
        hidden: width of the two nets.
    """

    eps = 1e-4  # smallest scale; decoding divides by it

    def __init__(self, channels: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.half = channels // 2

        def net(channels_in: int, channels_out: int) -> nn.Sequential:
            first, second = NormConv(channels_in, hidden, 3), NormConv(hidden, hidden, 1)
            return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), ZeroConv(hidden, channels_out))

        self.fAffine = net(self.half + condition, 2 * (channels - self.half))
        self.fFeatures = net(condition, 2 * channels)

    def shift_scale(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Even channels of a net's output shift, odd ones scale, in (eps, 1 + eps)."""
        return h[:, 0::2], torch.sigmoid(h[:, 1::2] + 2) + self.eps

    def encode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Shift is added before the scale multiplies, in both parts."""
        shift, scale = self.shift_scale(self.fFeatures(features))
        x = (x + shift) * scale
        x1, x2 = x[:, : self.half], x[:, self.half :]
        shift2, scale2 = self.shift_scale(self.fAffine(torch.cat([x1, features], 1)))
        logdet = scale.log().sum((1, 2, 3)) + scale2.log().sum((1, 2, 3))
        return torch.cat([x1, (x2 + shift2) * scale2], 1), logdet

    def decode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of `encode`."""
        x1, x2 = x[:, : self.half], x[:, self.half :]
        shift2, scale2 = self.shift_scale(self.fAffine(torch.cat([x1, features], 1)))
        x = torch.cat([x1, x2 / scale2 - shift2], 1)
        shift, scale = self.shift_scale(self.fFeatures(features))
        return x / scale - shift, -scale2.log().sum((1, 2, 3)) - scale.log().sum((1, 2, 3))


class FlowStep(nn.Module):
    """ActNorm, invertible 1x1 convolution and, unless `condition` is 0, a conditional coupling."""

    def __init__(self, channels: int, condition: int = 0, hidden: int = 64) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.invconv = InvertibleConv(channels)
        self.affine = Coupling(channels, condition, hidden) if condition else None

    def logdet(self, x: Tensor) -> Tensor:
        """Of ActNorm and 1x1 convolution, which act alike on every pixel; a scalar."""
        return x.shape[2] * x.shape[3] * (self.actnorm.logs.sum() + self.invconv.logdet())

    def encode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to the same shape."""
        x = self.invconv(self.actnorm(x))
        logdet = self.logdet(x)  # after ActNorm has set itself
        if self.affine is None:
            return x, logdet
        x, more = self.affine.encode(x, features)
        return x, logdet + more

    def decode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of `encode`."""
        logdet = -self.logdet(x)
        if self.affine is not None:
            x, more = self.affine.decode(x, features)
            logdet = logdet + more
        return self.actnorm.inverse(self.invconv.inverse(x)), logdet


class Split(nn.Module):
    """Half of the channels leaves as a latent, standardised by what the other half predicts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.conv = ZeroConv(channels - self.half, 2 * self.half)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What goes on, the latent, and the log-density of the half that left (not a log-determinant)."""
        x1, x2 = x[:, : -self.half], x[:, -self.half :]
        h = self.conv(x1)
        mean, log_std = h[:, 0::2], h[:, 1::2]
        return x1, (x2 - mean) * torch.exp(-log_std), log_normal(x2, mean, log_std)

    def decode(self, x1: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of `encode`, and minus the same log-density."""
        h = self.conv(x1)
        mean, log_std = h[:, 0::2], h[:, 1::2]
        x2 = mean + torch.exp(log_std) * latent
        return torch.cat([x1, x2], 1), -log_normal(x2, mean, log_std)


class FlowUpsampler(nn.Module):
    """The layers in the direction of `encode`: per level squeeze, plain steps, conditional steps, split.

    Args:
        condition: channels of the features that every level receives.
        K, L, plain_steps, hidden: as in `SRFlow`.
    """

    def __init__(self, condition: int, K: int, L: int, plain_steps: int, hidden: int) -> None:
        super().__init__()
        self.layers, self.levels = nn.ModuleList(), []
        channels = 3
        for level in range(1, L + 1):
            channels *= 4
            layers = [Squeeze(), *(FlowStep(channels) for _ in range(plain_steps))]
            layers += [FlowStep(channels, condition, hidden) for _ in range(K)]
            if level < L - 1:  # so one split with 3 levels, two with 4 (FlowUpsamplerNet.py:149-152)
                layers.append(Split(channels))
                channels //= 2
            self.layers.extend(layers)
            self.levels += [level] * len(layers)
        self.f = nn.Sequential(conv3(condition, 96))  # nothing reads it, but the released files hold it

    def encode(self, x: Tensor, features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """HR to latents (first split first, z last) and log-determinant, with the splits' log-densities."""
        latents, logdet = [], x.new_zeros(len(x))
        for level, layer in zip(self.levels, self.layers, strict=True):
            if isinstance(layer, Split):
                x, latent, more = layer.encode(x)
                latents.append(latent)
            else:
                x, more = layer.encode(x, features[level - 1])
            logdet = logdet + more
        return [*latents, x], logdet

    def decode(self, latents: list[Tensor], features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Inverse of `encode`."""
        *latents, x = latents
        logdet = x.new_zeros(len(x))
        for level, layer in zip(reversed(self.levels), reversed(self.layers), strict=True):
            if isinstance(layer, Split):
                x, more = layer.decode(x, latents.pop())
            else:
                x, more = layer.decode(x, features[level - 1])
            logdet = logdet + more
        return x, logdet
