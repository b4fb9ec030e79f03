"""The U-Net of SR3 in the common unofficial implementation: predicts the noise from [condition, x_t] and its level.

Names of layers are those of its files. Source: Janspiry/Image-Super-Resolution-via-Iterative-Refinement 01d27a7,
model/sr3_modules/unet.py; Saharia et al., SR3, arXiv 2104.07636.
"""

import math
from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PREFIX = "denoise_fn."  # of the network in the files, beside the buffers of the schedule


def strip_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and tensors of the network in an official file, without those of the schedule."""
    return {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}


class Level(nn.Module):
    """The noise level as sines and cosines."""

    def __init__(self, channels: int):
        super().__init__()
        self.half = channels // 2

    def forward(self, level: Tensor) -> Tensor:
        """Shape (N,) to (N, channels)."""
        places = torch.arange(self.half, dtype=level.dtype, device=level.device) / self.half
        angles = level[:, None] * torch.exp(-math.log(1e4) * places)
        return torch.cat((angles.sin(), angles.cos()), 1)


class Block(nn.Module):
    """Norm, swish, perhaps dropout, 3x3 convolution."""

    def __init__(self, channels: int, out: int, groups: int, dropout: float = 0.0):
        super().__init__()
        self.block = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(channels, out, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) to (N, out, h, w)."""
        return self.block(x)


class NoiseLevel(nn.Module):
    """One number a channel from the embedded noise level."""

    def __init__(self, embedding: int, out: int):
        super().__init__()
        self.noise_func = nn.Sequential(nn.Linear(embedding, out))

    def forward(self, embedding: Tensor) -> Tensor:
        """Shape (N, embedding) to (N, out, 1, 1)."""
        return self.noise_func(embedding)[..., None, None]


class Residual(nn.Module):
    """Two blocks, the noise level added between them."""

    def __init__(self, channels: int, out: int, embedding: int, groups: int, dropout: float):
        super().__init__()
        self.noise_func = NoiseLevel(embedding, out)
        self.block1, self.block2 = Block(channels, out, groups), Block(out, out, groups, dropout)
        self.res_conv = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Shapes (N, channels, h, w) and (N, embedding) to (N, out, h, w)."""
        return self.block2(self.block1(x) + self.noise_func(embedding)) + self.res_conv(x)


class Attention(nn.Module):
    """Every pixel attends to every pixel, one head."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1, bias=False), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) kept."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, -1)
        h = F.scaled_dot_product_attention(q, k, v).squeeze(1)  # (N, h w, channels)
        return x + self.out(h.transpose(1, 2).unflatten(2, x.shape[-2:]))


class Attended(nn.Module):
    """A residual block, perhaps followed by attention."""

    def __init__(self, channels: int, out: int, embedding: int, groups: int, dropout: float, attend: bool):
        super().__init__()
        self.res_block = Residual(channels, out, embedding, groups, dropout)
        self.attn = Attention(out, groups) if attend else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Shapes (N, channels, h, w) and (N, embedding) to (N, out, h, w)."""
        return self.attn(self.res_block(x, embedding))


class Resample(nn.Module):
    """The 3x3 convolution behind a doubling of the size (nearest), or the one of stride 2 that halves it."""

    def __init__(self, channels: int, up: bool):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, stride=1 if up else 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) to twice or half the size."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest") if self.up else x)


class SR3UNet(nn.Module):
    """Predicts the noise in x_t.

    Args:
        width: channels of the finest level at multiplier 1 (inner_channel).
        multipliers: of the channels, one a level.
        groups: of every norm.
        attention: resolutions, counted from `resolution`, whose blocks attend; the middle always does.
        blocks: residual blocks a level, one more on the way up.
        dropout: in training.
        resolution: HR side that it was trained on.
    """

    def __init__(
        self,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 4, 8, 8),
        groups: int = 32,
        attention: Collection[int] = (16,),
        blocks: int = 2,
        dropout: float = 0.2,
        resolution: int = 128,
    ):
        super().__init__()
        self.multiple = 2 ** (len(multipliers) - 1)
        self.noise_level_mlp = nn.Sequential(
            Level(width), nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )
        how = {"embedding": width, "groups": groups, "dropout": dropout}
        channels, side = width, resolution
        widths, downs = [width], [nn.Conv2d(3 + 3, width, 3, padding=1)]
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                downs.append(Attended(channels, width * multiplier, attend=side in attention, **how))
                channels = width * multiplier
                widths.append(channels)
            if level < len(multipliers) - 1:
                downs.append(Resample(channels, up=False))
                widths.append(channels)
                side //= 2
        self.downs = nn.ModuleList(downs)
        self.mid = nn.ModuleList(Attended(channels, channels, attend=attend, **how) for attend in (True, False))
        ups = []
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for _ in range(blocks + 1):
                ups.append(Attended(channels + widths.pop(), width * multiplier, attend=side in attention, **how))
                channels = width * multiplier
            if level:
                ups.append(Resample(channels, up=True))
                side *= 2
        self.ups = nn.ModuleList(ups)
        self.final_conv = Block(channels, 3, groups)

    def forward(self, condition: Tensor, x: Tensor, level: Tensor) -> Tensor:
        """Predict the noise.

        Args:
            condition: LR image at HR size, in [-1, 1], (N, 3, H, W); H and W multiples of `multiple`.
            x: x_t, (N, 3, H, W).
            level: sqrt(alphabar_t), (N,).

        Returns:
            The noise, shape of x.

        Raises:
            ValueError: other shapes.
        """
        if x.shape != condition.shape or x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            raise ValueError(
                f"condition, x: expected one shape with sides that are multiples of {self.multiple}, "
                f"got {tuple(condition.shape)} and {tuple(x.shape)}"
            )
        embedding = self.noise_level_mlp(level)
        h, skips = torch.cat((condition, x), 1), []
        for layer in self.downs:
            h = layer(h, embedding) if isinstance(layer, Attended) else layer(h)
            skips.append(h)
        for layer in self.mid:
            h = layer(h, embedding)
        for layer in self.ups:
            h = layer(torch.cat((h, skips.pop()), 1), embedding) if isinstance(layer, Attended) else layer(h)
        return self.final_conv(h)


# sr_sr3_16_128 and sr_sr3_64_512, the two published settings
CONFIGS = {
    "16_128": {},
    "64_512": {
        "multipliers": (1, 2, 4, 8, 16),
        "groups": 16,
        "attention": (),
        "blocks": 1,
        "resolution": 512,
        "dropout": 0.0,
    },
}
