"""IRN: one invertible network that downscales an image and upscales it again, and a variant with a second latent.

Xiao et al., ECCV 2020 and IJCV 2022; the same function as the official code, whose files load strictly
(github.com/pkuxmq/Invertible-Image-Rescaling, 0ebe8f9, Inv_arch.py:162-213).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from helpers.networks.invertible_layers import Coupling, DenseNet, Haar, LearnedDownsampling


class IRN(nn.Module):
    """HR image to LR image and latent z, without loss; the inverse takes any z.

    Args:
        scale: s: a power of two (Haar levels), or another integer (one learned downsampling, the official x3).
        blocks: couplings of each level, log2(s) numbers; one for another s.
        growth: width of the sub-nets.
        clamp: bound of the log-scales; n blocks shrink z by exp(-clamp n) at most.
        extra: channels of a downscaling latent v, which the last level takes beside the image: v times what one more
            sub-net (`kernel`) makes of the high bands is added to the LR channels, and v goes on beside the bands. One
            HR image has as many LR images as there are v. Ours, 0 in the official networks.

    Raises:
        ValueError: a scale, or a number of levels, that does not fit.
    """

    def __init__(
        self, scale: int = 4, blocks: Sequence[int] = (8, 8), growth: int = 32, clamp: float = 1.0, extra: int = 0
    ) -> None:
        super().__init__()
        whole = scale > 1 and scale & (scale - 1) == 0
        levels = scale.bit_length() - 1 if whole else 1
        if scale < 2 or len(blocks) != levels:
            raise ValueError(f"blocks: expected {levels} numbers at scale {scale} (at least 2), got {tuple(blocks)}")
        if extra and not blocks[-1]:
            raise ValueError("blocks: expected at least one in the last level to take v, got 0")
        self.config = {"scale": scale, "blocks": list(blocks), "growth": growth, "clamp": clamp, "extra": extra}
        self.scale, self.extra = scale, extra
        operations, channels = [], 3
        for level, count in enumerate(blocks):
            operations.append(Haar(channels) if whole else LearnedDownsampling(scale))
            channels *= 4 if whole else scale**2
            channels += extra if level == levels - 1 else 0
            operations += [Coupling(channels, growth, clamp) for _ in range(count)]
        self.operations = nn.ModuleList(operations)
        self.first_of_last = len(operations) - blocks[-1]  # v joins before it
        if extra:
            self.kernel = DenseNet(3 * scale**2 - 3, 3 * extra, growth)

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Shape (c, h, w) of z for an LR image of `height` x `width`, in a list as other networks have it."""
        return [(3 * self.scale**2 - 3 + self.extra, height, width)]

    def encode(self, hr: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Downscale.

        Args:
            hr: HR images in [0, 1], (N, 3, H, W), H and W multiples of s.
            v: downscaling latent, (N, extra, H / s, W / s); None stands for zeros.

        Returns:
            LR images (N, 3, H / s, W / s), neither clipped nor rounded; and all channels, of which they are the first
            three and z the others, (N, 3 s^2 + extra, H / s, W / s).

        Raises:
            ValueError: wrong shapes.
        """
        channels, _ = self.transform(hr, v)
        return channels[:, :3], channels

    def decode(self, channels: Tensor) -> Tensor:
        """Upscale: LR images with z behind them, (N, 3 s^2 + extra, h, w), to HR images (N, 3, s h, s w), not clipped.

        Raises:
            ValueError: wrong shape.
        """
        return self.inverse(channels)[0]

    def latent(self, channels: Tensor) -> Tensor:
        """z of what `encode` returned: with it behind the LR image, `decode` gives the HR image back."""
        return channels[:, 3:]

    def logdet(self, hr: Tensor, v: Tensor | None = None) -> Tensor:
        """Log abs. determinant of `encode`'s Jacobian in nats, (N,). The official `jacobian` is its mean over N."""
        return self.transform(hr, v)[1]

    def transform(self, hr: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The channels of `encode`, and their log-determinant in nats, (N,)."""
        check_hr(hr, self.scale)
        shape = (len(hr), self.extra, hr.shape[2] // self.scale, hr.shape[3] // self.scale)
        if v is not None and v.shape != shape:
            raise ValueError(f"v: expected shape {shape}, got {tuple(v.shape)}")
        x, logdet = hr, hr.new_zeros(len(hr))
        for number, operation in enumerate(self.operations):
            if number == self.first_of_last and self.extra:
                v = x.new_zeros(shape) if v is None else v
                x = torch.cat([x[:, :3] + self._shift(x[:, 3:], v), x[:, 3:], v], 1)
            x, change = operation.encode(x)
            logdet = logdet + change
        return x, logdet

    def inverse(self, channels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """HR images of `decode`, their downscaling latent (N, extra, h, w), and the log-determinant in nats, (N,)."""
        check_channels(channels, 3 * self.scale**2 + self.extra)
        x, v, logdet = channels, channels[:, :0], channels.new_zeros(len(channels))
        for number, operation in reversed(list(enumerate(self.operations))):
            x, change = operation.decode(x)
            logdet = logdet + change
            if number == self.first_of_last and self.extra:
                low, high, v = x.split([3, x.shape[1] - 3 - self.extra, self.extra], 1)
                x = torch.cat([low - self._shift(high, v), high], 1)
        return x, v, logdet

    def _shift(self, high: Tensor, v: Tensor) -> Tensor:
        """What v adds to the LR channels."""
        return (self.kernel(high).unflatten(1, (self.extra, 3)) * v.unsqueeze(2)).sum(1)


def check_hr(hr: Tensor, scale: int) -> None:
    """Refuse what no network downscales by `scale`, with a ValueError."""
    if hr.ndim != 4 or hr.shape[1] != 3 or 0 in hr.shape or hr.shape[2] % scale or hr.shape[3] % scale:
        raise ValueError(f"hr: expected shape (N, 3, H, W), H and W multiples of {scale}, got {tuple(hr.shape)}")


def check_channels(channels: Tensor, count: int) -> None:
    """Refuse what is no batch of LR images with their latents, (N, count, h, w), with a ValueError."""
    if channels.ndim != 4 or channels.shape[1] != count or 0 in channels.shape:
        raise ValueError(f"channels: expected shape (N, {count}, h, w), got {tuple(channels.shape)}")
