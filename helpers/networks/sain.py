"""SAIN: an invertible rescaler with two LR images, one of high quality and one as a codec leaves it.

Yang et al., "Self-Asymmetric Invertible Network for Compression-Aware Image Rescaling", AAAI 2023, arXiv 2303.02353
(yang-jin-hai/SAIN, revision e361d7a, codes/models/modules/inv_arch.py:44-72 and 120-185, guassian_mixture.py).
Parameter names are those of the released files.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from helpers.networks.invertible_layers import Coupling, DenseNet, Haar, bounded
from helpers.networks.irn import check_channels, check_hr

VARIANCES = (-20.0, 20.0)  # to which the logarithms of the variances are clamped


class EnhancedCoupling(nn.Module):
    """A `Coupling` that adds E before it subtracts F: the image between the two is the LR image of high quality.

    Args:
        channels, growth, clamp, first: see `Coupling`.
    """

    def __init__(self, channels: int, growth: int = 32, clamp: float = 1.0, first: int = 3) -> None:
        super().__init__()
        self.sizes, self.clamp = (first, channels - first), clamp
        self.E = DenseNet(channels - first, first, growth)
        self.F = DenseNet(channels - first, first, growth)
        self.G = DenseNet(first, channels - first, growth)
        self.H = DenseNet(first, channels - first, growth)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shape (N, channels, h, w) kept; the LR image, (N, first, h, w), comes before logdet."""
        low, high = x.split(self.sizes, 1)
        lr = low + self.E(high)
        low = lr - self.F(high)
        logs = bounded(self.H(low), self.clamp)
        return torch.cat([low, high * logs.exp() + self.G(low)], 1), lr, logs.sum((1, 2, 3))

    def decode(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Undo `encode`; the LR image is the one found on the way back."""
        low, high = y.split(self.sizes, 1)
        logs = bounded(self.H(low), self.clamp)
        high = (high - self.G(low)) * (-logs).exp()
        lr = low + self.F(high)
        return torch.cat([lr - self.E(high), high], 1), lr, -logs.sum((1, 2, 3))


class Mixture(nn.Module):
    """One mixture of Gaussians for every entry of the latent, each drawn on its own.

    Args:
        components: K; the rows of `gmm_para`, (3, K), are logits of the weights, means, logarithms of the variances.
    """

    def __init__(self, components: int) -> None:
        super().__init__()
        self.gmm_para = nn.Parameter(1e-4 * torch.randn(3, components))

    def sample(self, gumbel: Tensor, noise: Tensor) -> Tensor:
        """Pick a component for each entry, differentiably (straight-through Gumbel-softmax, temperature 1), and draw.

        Args:
            gumbel: Gumbel noise, (..., K).
            noise: N(0, 1), (..., K).

        Returns:
            (...,)
        """
        logits, means, logs = self.gmm_para
        soft = (F.log_softmax(logits, 0) + gumbel).softmax(-1)
        hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
        drawn = means + (0.5 * logs.clamp(*VARIANCES)).exp() * noise
        return ((hard - soft).detach() + soft).mul(drawn).sum(-1)

    def draw(self, shape: Sequence[int], generators: Sequence[Generator]) -> Tensor:
        """Draw latents, one image for each CPU generator.

        Args:
            shape: of the latent of one image.
            generators: Q of them; image q depends on generator q alone.

        Returns:
            (Q, *shape)
        """
        size = (*shape, self.gmm_para.shape[1])
        gumbel = torch.stack([-torch.empty(size).exponential_(generator=g).log() for g in generators])
        noise = torch.stack([torch.randn(size, generator=g) for g in generators])
        return self.sample(gumbel.to(self.gmm_para), noise.to(self.gmm_para))


class SAIN(nn.Module):
    """Haar levels, then E-blocks, then blocks that model what a codec does to the LR image.

    Args:
        scale: scaling factor s, a power of 2 from 2 on.
        e_blocks, v_blocks: numbers of `EnhancedCoupling` and `Coupling`; 5 and 3 at x2, 10 and 6 at x4 as released.
        growth: width of the sub-nets.
        components: of the latent's mixture.
        clamp: bound of the log-scales.

    Raises:
        ValueError: another scale, or no E-block.
    """

    def __init__(
        self,
        scale: int = 2,
        e_blocks: int = 5,
        v_blocks: int = 3,
        growth: int = 32,
        components: int = 5,
        clamp: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(scale, int) or scale < 2 or scale & (scale - 1):
            raise ValueError(f"scale: expected a power of 2 from 2 on, got {scale!r}")
        if e_blocks < 1:
            raise ValueError(f"e_blocks: expected at least 1, whose image is the LR image, got {e_blocks}")
        self.scale, channels = scale, 3 * scale**2
        self.config = {
            "scale": scale, "e_blocks": e_blocks, "v_blocks": v_blocks, "growth": growth, "components": components,
            "clamp": clamp,
        }  # fmt: skip
        self.haar_operations = nn.ModuleList(Haar(3 * 4**level) for level in range(scale.bit_length() - 1))
        self.down_operations = nn.ModuleList(EnhancedCoupling(channels, growth, clamp) for _ in range(e_blocks))
        self.comp_operations = nn.ModuleList(Coupling(channels, growth, clamp) for _ in range(v_blocks))
        self.gmm = Mixture(components)

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Shape (c, h, w) of z for an LR image of `height` x `width`, in a list as other networks have it."""
        return [(3 * self.scale**2 - 3, height, width)]

    def encode(self, hr: Tensor) -> tuple[Tensor, Tensor]:
        """Downscale: the LR image of high quality and all channels of `hr`, see `transform`."""
        return self.transform(hr)[:2]

    def decode(self, channels: Tensor) -> Tensor:
        """Upscale: LR images with z behind them to HR images, see `inverse`."""
        return self.inverse(channels)[0]

    def latent(self, channels: Tensor) -> Tensor:
        """z of what `encode` returned."""
        return channels[:, 3:]

    def logdet(self, hr: Tensor) -> Tensor:
        """Log abs. determinant of the Jacobian of `channels` in nats, (N,). The official `jacobian` is its mean."""
        return self.transform(hr)[2]

    def transform(self, hr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map HR images to channels.

        Args:
            hr: (N, 3, H, W) in [0, 1]; H and W multiples of s.

        Returns:
            The LR image of high quality, (N, 3, H / s, W / s), not rounded; the channels, (N, 3 s^2, H / s, W / s), of
            which the first three are the LR image as after a codec; logdet, (N,).

        Raises:
            ValueError: wrong shape.
        """
        check_hr(hr, self.scale)
        channels, logdet = hr, hr.new_zeros(len(hr))
        for layer in self.haar_operations:
            channels, change = layer.encode(channels)
            logdet = logdet + change
        for layer in self.down_operations:
            channels, lr, change = layer.encode(channels)
            logdet = logdet + change
        for layer in self.comp_operations:
            channels, change = layer.encode(channels)
            logdet = logdet + change
        return lr, channels, logdet

    def inverse(self, channels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Undo `transform`.

        Args:
            channels: (N, 3 s^2, h, w).

        Returns:
            HR images (N, 3, s h, s w), not clipped; the LR image of high quality that was found on the way, (N, 3, h,
            w); logdet, (N,).

        Raises:
            ValueError: wrong shape.
        """
        check_channels(channels, 3 * self.scale**2)
        logdet = channels.new_zeros(len(channels))
        for layer in reversed(self.comp_operations):
            channels, change = layer.decode(channels)
            logdet = logdet + change
        images = []
        for layer in reversed(self.down_operations):
            channels, image, change = layer.decode(channels)
            images.append(image)
            logdet = logdet + change
        for layer in reversed(self.haar_operations):
            channels, change = layer.decode(channels)
            logdet = logdet + change
        return channels, images[0], logdet
