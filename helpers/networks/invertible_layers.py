"""Layers of invertible rescaling networks (Xiao et al., ECCV 2020), names and values as in the official files.

Each layer of a flow has `encode(x) -> (y, logdet)` towards the LR image and its inverse `decode(y) -> (x, logdet)`;
log-determinants are in nats, (N,). The lines quoted are of github.com/pkuxmq/Invertible-Image-Rescaling, 0ebe8f9.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of every LeakyReLU
TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))  # of (Y, Cb - 0.5, Cr - 0.5)


class _Levels(torch.autograd.Function):
    """Nearest 8-bit level, half to even; the gradient passes as if nothing had been rounded or clipped."""

    @staticmethod
    def forward(ctx, images: Tensor) -> Tensor:
        return torch.round(images.clamp(0, 1) * 255) / 255

    @staticmethod
    def backward(ctx, slope: Tensor) -> Tensor:
        return slope


def quantize_through(images: Tensor) -> Tensor:
    """Clip to [0, 1] and round to 8-bit levels, with the gradient of the identity (Quantization.py:4-14).

    Args:
        images: of any shape. Outside [0, 1] the gradient passes too, as in the official code.
    """
    return _Levels.apply(images)


class DenseNet(nn.Module):
    """Sub-net of a coupling: five 3x3 convolutions, each fed with the input and all results before it.

    A fresh one returns zero (Subnet_constructor.py:6-29): the last convolution starts at zero, the others with a tenth
    of Xavier's normal weights.

    Args:
        channels, out: of input and output.
        growth: channels that each of the first four convolutions adds.
    """

    def __init__(self, channels: int, out: int, growth: int = 32) -> None:
        super().__init__()
        for number in range(1, 6):
            conv = nn.Conv2d(channels + (number - 1) * growth, growth if number < 5 else out, 3, padding=1)
            nn.init.xavier_normal_(conv.weight, gain=0.1) if number < 5 else nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
            self.add_module(f"conv{number}", conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, h, w) to (N, out, h, w)."""
        stack = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            stack = torch.cat([stack, F.leaky_relu(conv(stack), SLOPE)], 1)
        return self.conv5(stack)


class Haar(nn.Module):
    """Haar transform of each channel: blocks of 2x2 pixels to mean, horizontal, vertical and diagonal difference.

    The bands follow each other, all channels of one together (Inv_arch.py:44-84).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        bands = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float32)
        self.haar_weights = nn.Parameter(bands.view(4, 1, 2, 2).repeat(channels, 1, 1, 1), requires_grad=False)
        self.channels = channels

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, c, h, w) to (N, 4 c, h / 2, w / 2)."""
        with torch.autocast(x.device.type, enabled=False):  # pixels keep their precision, here and below
            y = F.conv2d(x, self.haar_weights, stride=2, groups=self.channels) / 4
        y = y.unflatten(1, (self.channels, 4)).transpose(1, 2).flatten(1, 2)
        return y, x.new_full((len(x),), -x[0].numel() / 4 * math.log(16))

    def decode(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 4 c, h, w) to (N, c, 2 h, 2 w)."""
        x = y.unflatten(1, (4, self.channels)).transpose(1, 2).flatten(1, 2)
        with torch.autocast(x.device.type, enabled=False):
            x = F.conv_transpose2d(x, self.haar_weights, stride=2, groups=self.channels)
        return x, x.new_full((len(x),), x[0].numel() / 4 * math.log(16))


class LearnedDownsampling(nn.Module):
    """Blocks of s x s pixels to s^2 values by one learned matrix, the same for each channel (the layer of x3).

    It starts as the identity with the mean in its first row; what is ordered as in `Haar`: the first values of all
    channels, then the second ones. In a block, pixels are counted along its rows.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        matrix = torch.eye(scale**2)
        matrix[0] = 1 / scale**2
        self.conv_weights = nn.Parameter(matrix)
        self.scale = scale

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, c, h, w) to (N, s^2 c, h / s, w / s)."""
        y = F.pixel_unshuffle(x, self.scale).unflatten(1, (x.shape[1], self.scale**2))
        with torch.autocast(x.device.type, enabled=False):
            y = torch.einsum("ij,ncjhw->nichw", self.conv_weights, y).flatten(1, 2)
        return y, self._logdet(x)

    def decode(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """(N, s^2 c, h, w) to (N, c, s h, s w)."""
        inverse = torch.linalg.inv(self.conv_weights.cpu().double()).to(self.conv_weights)  # MPS has no float64
        with torch.autocast(y.device.type, enabled=False):
            x = torch.einsum("ij,njchw->ncihw", inverse, y.unflatten(1, (self.scale**2, -1)))
        x = F.pixel_shuffle(x.flatten(1, 2), self.scale)
        return x, -self._logdet(x)

    def _logdet(self, x: Tensor) -> Tensor:
        one = torch.linalg.slogdet(self.conv_weights.cpu().double())[1].to(self.conv_weights)
        return (x[0].numel() / self.scale**2 * one).expand(len(x))


class Coupling(nn.Module):
    """Affine coupling of the LR channels, which come first, to the others ("InvBlockExp", Inv_arch.py:8-41).

    Args:
        channels: of input and output.
        growth: of the sub-nets.
        clamp: the log-scale lies between -clamp and clamp.
        first: LR channels.
    """

    def __init__(self, channels: int, growth: int = 32, clamp: float = 1.0, first: int = 3) -> None:
        super().__init__()
        self.sizes, self.clamp = (first, channels - first), clamp
        self.F = DenseNet(channels - first, first, growth)
        self.G = DenseNet(first, channels - first, growth)
        self.H = DenseNet(first, channels - first, growth)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (N, channels, h, w) kept."""
        low, high = x.split(self.sizes, 1)
        low = low + self.F(high)
        logs = bounded(self.H(low), self.clamp)
        return torch.cat([low, high * logs.exp() + self.G(low)], 1), logs.sum((1, 2, 3))

    def decode(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (N, channels, h, w) kept."""
        low, high = y.split(self.sizes, 1)
        logs = bounded(self.H(low), self.clamp)
        high = (high - self.G(low)) * (-logs).exp()
        return torch.cat([low - self.F(high), high], 1), -logs.sum((1, 2, 3))


class TriCoupling(nn.Module):
    """Coupling of chroma, high bands and luma in this order (T-IRN, Bao et al., AAAI 2025; inv_arch.py:119-161).

    Args:
        channels: 2 of chroma, those of the high bands, 1 of luma.
        growth, clamp: see `Coupling`.
    """

    def __init__(self, channels: int, growth: int = 32, clamp: float = 1.0) -> None:
        super().__init__()
        high = channels - 3
        self.sizes, self.clamp = (2, high, 1), clamp
        ends = {"E": (1, 2), "F": (high, 2), "G": (2, high), "H": (2, high), "I": (1, high), "J": (1, high)}
        for name, (inputs, outputs) in {**ends, "K": (2, 1), "L": (high, 1)}.items():
            self.add_module(name, DenseNet(inputs, outputs, growth))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (N, channels, h, w) kept."""
        chroma, high, luma = x.split(self.sizes, 1)
        chroma = chroma + self.E(luma) + self.F(high)
        luma = luma + self.K(chroma) + self.L(high)
        logs = self._logs(chroma, luma)
        high = high * logs.exp() + self.G(chroma) + self.I(luma)
        return torch.cat([chroma, high, luma], 1), logs.sum((1, 2, 3))

    def decode(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (N, channels, h, w) kept."""
        chroma, high, luma = y.split(self.sizes, 1)
        logs = self._logs(chroma, luma)
        high = (high - self.G(chroma) - self.I(luma)) * (-logs).exp()
        luma = luma - self.K(chroma) - self.L(high)
        chroma = chroma - self.E(luma) - self.F(high)
        return torch.cat([chroma, high, luma], 1), -logs.sum((1, 2, 3))

    def _logs(self, chroma: Tensor, luma: Tensor) -> Tensor:
        return bounded(self.H(chroma), self.clamp) + bounded(self.J(luma), self.clamp)


def bounded(raw: Tensor, clamp: float) -> Tensor:
    """Log-scale clamp * (2 sigmoid(raw) - 1), in (-clamp, clamp)."""
    return clamp * torch.tanh(raw / 2)


def to_ycbcr(rgb: Tensor) -> Tensor:
    """RGB to luma and chroma as JPEG has them, 0.5 added to the chroma: (N, 3, h, w) in [0, 1] stays in [0, 1]."""
    return to_colours(rgb, TO_YCBCR) + rgb.new_tensor([0, 0.5, 0.5]).view(3, 1, 1)


def to_rgb(ycbcr: Tensor) -> Tensor:
    """The inverse of `to_ycbcr` up to its constants' sixth decimal, not clipped."""
    return to_colours(ycbcr - ycbcr.new_tensor([0, 0.5, 0.5]).view(3, 1, 1), TO_RGB)


def to_colours(images: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """Other colours, the rows of a matrix, of (N, 3, h, w); never in fewer bits than the images have."""
    with torch.autocast(images.device.type, enabled=False):
        return torch.einsum("ij,njhw->nihw", images.new_tensor(matrix), images)
