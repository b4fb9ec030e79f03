"""The VQ autoencoder of latent diffusion (CompVis VQModel), in whose latent space ResShift works.

Names of layers are those of its files. Source: zsyOAOA/ResShift 3ce1d81, ldm/models/autoencoder.py:12-45 and
ldm/modules/diffusionmodules/model.py.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class Residual(nn.Module):
    """Twice norm, SiLU, 3x3 convolution, beside a shortcut that is a 1x1 convolution where the widths differ."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.norm1, self.conv1 = _norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = _norm(out), nn.Conv2d(out, out, 3, padding=1)
        if channels != out:
            self.nin_shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) to (N, out, h, w)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    """Every pixel attends to every pixel, one head."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) kept."""
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v).squeeze(1)  # (N, h w, channels)
        return x + self.proj_out(h.transpose(1, 2).unflatten(2, x.shape[-2:]))


class Middle(nn.Module):
    """Residual block, attention, residual block at the coarsest level."""

    def __init__(self, channels: int):
        super().__init__()
        self.block_1, self.attn_1 = Residual(channels, channels), Attention(channels)
        self.block_2 = Residual(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) kept."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Resample(nn.Module):
    """The 3x3 convolution behind a doubling of the size (nearest), or the one of stride 2 that halves it."""

    def __init__(self, channels: int, up: bool):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if up else nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) to twice or half the size."""
        if self.up:
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # zeros at the right and the bottom alone


class Level(nn.Module):
    """The residual blocks of one resolution, and the way to the next one, None at the last."""

    def __init__(self, widths: Sequence[int], resample: str | None):
        super().__init__()
        self.block = nn.ModuleList(Residual(a, b) for a, b in zip(widths, widths[1:], strict=False))
        if resample:
            self.add_module(resample, Resample(widths[-1], resample == "upsample"))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, widths[0], h, w) to (N, widths[-1], h', w')."""
        for layer in (*self.block, *(child for name, child in self.named_children() if name != "block")):
            x = layer(x)
        return x


class Encoder(nn.Module):
    """Image to latent before its last 1x1 convolution, smaller by 2 to the number of levels less 1."""

    def __init__(self, ch: int, multipliers: Sequence[int], blocks: int, z_channels: int):
        super().__init__()
        widths, last = [ch, *(ch * each for each in multipliers)], len(multipliers) - 1
        self.conv_in = nn.Conv2d(3, ch, 3, padding=1)
        self.down = nn.ModuleList(
            Level([widths[i], *[widths[i + 1]] * blocks], "downsample" if i < last else None) for i in range(last + 1)
        )
        self.mid = Middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], z_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Shape (N, 3, h, w) to (N, z_channels, h / f, w / f)."""
        x = self.conv_in(image)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Mirror of the encoder, with one residual block more at each level; `up.0` is the finest."""

    def __init__(self, ch: int, multipliers: Sequence[int], blocks: int, z_channels: int):
        super().__init__()
        widths = [ch * each for each in (*multipliers, multipliers[-1])]
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList(
            Level([widths[i + 1], *[widths[i]] * (blocks + 1)], "upsample" if i else None)
            for i in range(len(multipliers))
        )
        self.norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Shape (N, z_channels, h, w) to (N, 3, f h, f w)."""
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Codebook(nn.Module):
    """The vectors that a quantised latent consists of."""

    def __init__(self, n_embed: int, embed_dim: int):
        super().__init__()
        self.embedding = nn.Embedding(n_embed, embed_dim)

    def forward(self, z: Tensor) -> Tensor:
        """Replace every pixel of z, (N, embed_dim, h, w), by the nearest vector of the book."""
        book, flat = self.embedding.weight, z.movedim(1, -1).flatten(0, -2)
        nearest = torch.cat([self._nearest(part, book) for part in flat.split(1 << 14)])  # 0.5 GB at 8192 vectors
        return book[nearest].view(*z.movedim(1, -1).shape).movedim(-1, 1).contiguous()

    @staticmethod
    def _nearest(points: Tensor, book: Tensor) -> Tensor:
        return (book.square().sum(1) - 2 * points @ book.T).argmin(1)  # the square of the point itself is the same


class VQAutoencoder(nn.Module):
    """Autoencoder whose decoder reads a latent quantised to a codebook.

    Args:
        ch: channels of the finest level.
        multipliers: channels of each level in units of `ch`; every level but the last halves the size.
        blocks: residual blocks a level of the encoder; the decoder has one more.
        z_channels, embed_dim: channels of the latent before and after the 1x1 convolution.
        n_embed: vectors of the codebook.
    """

    def __init__(
        self,
        ch: int = 128,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        z_channels: int = 3,
        embed_dim: int = 3,
        n_embed: int = 8192,
    ):
        super().__init__()
        self.factor = 2 ** (len(multipliers) - 1)  # f, image size over latent size
        self.encoder = Encoder(ch, multipliers, blocks, z_channels)
        self.decoder = Decoder(ch, multipliers, blocks, z_channels)
        self.quantize = Codebook(n_embed, embed_dim)
        self.quant_conv = nn.Conv2d(z_channels, embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1)

    def encode(self, image: Tensor) -> Tensor:
        """Image in [-1, 1], (N, 3, h, w), h and w multiples of f, to its latent (N, embed_dim, h / f, w / f).

        Raises:
            ValueError: sides that are no multiples of f.
        """
        if image.ndim != 4 or image.shape[-2] % self.factor or image.shape[-1] % self.factor:
            raise ValueError(f"image: expected sides that are multiples of {self.factor}, got {tuple(image.shape)}")
        return self.quant_conv(self.encoder(image))

    def decode(self, z: Tensor, quantise: bool = True) -> Tensor:
        """Latent (N, embed_dim, h, w) to the image (N, 3, f h, f w), not clipped.

        Args:
            z: latent as `encode` returns it.
            quantise: first replace each pixel of z by its nearest code.
        """
        return self.decoder(self.post_quant_conv(self.quantize(z) if quantise else z))

    forward = decode
