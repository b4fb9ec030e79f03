"""T-IRN: invertible rescaling in three branches, luma, chroma and high bands (Bao et al., AAAI 2025).

The same function as the official code, whose files load strictly (github.com/Jingwei-Bao/T-InvBlocks). Its latent is
zero at the inverse: the pair is deterministic. Its way back to RGB clips to [0, 1], so colours out of gamut are lost.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from helpers.networks.invertible_layers import TO_RGB, TO_YCBCR, Haar, TriCoupling, to_rgb, to_ycbcr
from helpers.networks.irn import check_channels, check_hr


class TIRN(nn.Module):
    """HR image to LR image and latent z; the inverse takes any z.

    Args:
        scale: s, 2 or 4.
        blocks: couplings of each level, log2(s) numbers.
        growth, clamp: of the couplings.

    Raises:
        ValueError: another scale or number of levels.
    """

    def __init__(self, scale: int = 4, blocks: Sequence[int] = (3, 4), growth: int = 32, clamp: float = 1.0) -> None:
        super().__init__()
        if (scale, len(blocks)) not in ((2, 1), (4, 2)):
            raise ValueError(f"expected scale 2 with one number of blocks or 4 with two, got {scale}, {tuple(blocks)}")
        self.config = {"scale": scale, "blocks": list(blocks), "growth": growth, "clamp": clamp}
        self.scale = scale
        self.haar_operations = nn.ModuleList([Haar(3)])
        self.down_operations = nn.ModuleList(TriCoupling(12, growth, clamp) for _ in range(blocks[0]))
        if scale == 4:
            self.haar_operations_2 = nn.ModuleList([Haar(12)])
            self.down_operations_2 = nn.ModuleList(TriCoupling(48, growth, clamp) for _ in range(blocks[1]))

    @property
    def levels(self) -> list[tuple[Haar, nn.ModuleList]]:
        """Haar transform and couplings of each level."""
        first = [(self.haar_operations[0], self.down_operations)]
        return first if self.scale == 2 else [*first, (self.haar_operations_2[0], self.down_operations_2)]

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Shape (c, h, w) of z for an LR image of `height` x `width`, in a list as other networks have it."""
        return [(3 * self.scale**2 - 3, height, width)]

    def encode(self, hr: Tensor) -> tuple[Tensor, Tensor]:
        """Downscale.

        Args:
            hr: HR images in [0, 1], (N, 3, H, W), H and W multiples of s.

        Returns:
            LR images (N, 3, H / s, W / s), clipped to [0, 1], not rounded; and the channels Cb, Cr, z, Y from which
            they come, (N, 3 s^2, H / s, W / s).

        Raises:
            ValueError: wrong shape.
        """
        channels, _ = self.transform(hr)
        return _to_colours(channels)[0][:, :3], channels

    def decode(self, channels: Tensor) -> Tensor:
        """Upscale: LR images (RGB) with z behind them, (N, 3 s^2, h, w), to HR images (N, 3, s h, s w), not clipped.

        So `decode(torch.cat([lr, network.latent(channels)], 1))` gives the HR image back where nothing was clipped.

        Raises:
            ValueError: wrong shape.
        """
        check_channels(channels, 3 * self.scale**2)
        x = channels
        for haar, couplings in reversed(self.levels):
            x = _to_branches(x)[0]
            for coupling in reversed(couplings):
                x = coupling.decode(x)[0]
            x = haar.decode(_to_colours(x)[0])[0]
        return x

    def latent(self, channels: Tensor) -> Tensor:
        """z of what `encode` returned."""
        return channels[:, 2:-1]

    def logdet(self, hr: Tensor) -> Tensor:
        """Log abs. determinant of the Jacobian of `encode`'s channels in nats, (N,); -inf where x4 has clipped."""
        return self.transform(hr)[1]

    def transform(self, hr: Tensor) -> tuple[Tensor, Tensor]:
        """The channels of `encode`, and their log-determinant in nats, (N,)."""
        check_hr(hr, self.scale)
        x, logdet = hr, hr.new_zeros(len(hr))
        for level, (haar, couplings) in enumerate(self.levels):
            if level:
                x, change = _to_colours(x)
                logdet = logdet + change
            x, change = haar.encode(x)
            x, more = _to_branches(x)
            logdet = logdet + change + more
            for coupling in couplings:
                x, change = coupling.encode(x)
                logdet = logdet + change
        return x, logdet


def _to_branches(x: Tensor) -> tuple[Tensor, Tensor]:
    """R, G, B, high bands to Cb, Cr, high bands, Y; and the log-determinant."""
    ycbcr = to_ycbcr(x[:, :3])
    return torch.cat([ycbcr[:, 1:], x[:, 3:], ycbcr[:, :1]], 1), _logdet(TO_YCBCR, x)


def _to_colours(x: Tensor) -> tuple[Tensor, Tensor]:
    """Cb, Cr, high bands, Y to R, G, B, clipped to [0, 1], high bands; and the log-determinant."""
    rgb = to_rgb(torch.cat([x[:, -1:], x[:, :2]], 1))
    inside = ((rgb >= 0) & (rgb <= 1)).flatten(1).all(1)
    change = torch.where(inside, _logdet(TO_RGB, x), -math.inf)
    return torch.cat([rgb.clamp(0, 1), x[:, 2:-1]], 1), change


def _logdet(matrix: tuple[tuple[float, ...], ...], x: Tensor) -> Tensor:
    one = torch.linalg.slogdet(torch.tensor(matrix, dtype=torch.float64))[1].item()
    return x.new_full((len(x),), x[0, 0].numel() * one)
