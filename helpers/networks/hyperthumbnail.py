"""HyperThumbnail: an encoder whose LR image is a JPEG file with predicted tables, and decoders that read the file.

Qi, Yang et al., "Real-time 6K Image Rescaling with Rate-distortion Optimization", CVPR 2023, arXiv 2304.01064
(AbnerVictor/HyperThumbnail, revision 4bbaba6: src/archs/HyperThumbnail_arch.py, src/ops/RDBUnet_0812.py,
compression_modules.py, coeff_edsr.py, options/train/4x/HyperThumbnail_4x.yml). Parameter names are those of the
released x4 file, which were CompressAI 1.2.4's; `released_names` renames those of later versions.

A *stream* holds the cosine coefficients of the blocks of a plane, row by row, in the order of a JPEG file: (N, blocks,
64) of luma, (N, 2 blocks, 64) of chroma, Cb first.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from helpers.networks import jpeg
from helpers.networks.entropy import EntropyBottleneck, uniform
from helpers.networks.rrdb import DenseBlock, conv3

MEAN = (0.4488, 0.4371, 0.4040)  # RGB of DIV2K
SLOPE = 0.1  # of the LeakyReLUs outside the dense blocks
PADDED = 64  # HR sides are padded to multiples of it (HyperThumbnail_model.py:358-367)
BASE = 1.49  # under every entry of a table, so that it rounds to 1 or more
FREQUENCIES = jpeg.SIDE**2


class DoubleConv(nn.Module):
    """Two 3x3 convolutions without bias, a LeakyReLU after each."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.c2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, h, w) to (N, channels_out, h / stride, w / stride)."""
        return F.leaky_relu(self.c2(F.leaky_relu(self.c1(x), SLOPE)), SLOPE)


class Down(nn.Module):
    """Half the size, twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down_double_conv1 = DoubleConv(width, 2 * width, stride=2)
        self.rdb = DenseBlock(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, h, w) to (N, 2 width, h / 2, w / 2)."""
        return self.rdb(self.down_double_conv1(x))


class _Enlarge(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(conv3(2 * width, 4 * width), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.convblock(x)


class Up(nn.Module):
    """Twice the size, half the width, with the features of that size from the way down."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up1 = _Enlarge(width)
        self.double_conv1 = DoubleConv(2 * width, width)
        self.rdb = DenseBlock(width, width)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """Map (N, width, h, w) and (N, 2 width, h / 2, w / 2) to (N, width, h, w)."""
        return self.rdb(self.double_conv1(torch.cat([skip, self.up1(x)], 1)))


class Encoder(nn.Module):
    """A U-Net of dense blocks from HR images to LR images."""

    def __init__(self, scale: int, width: int, depth: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv_first = conv3(3 * scale**2, width)
        self.rdb_first = DenseBlock(width, width // 2)
        self.down_list = nn.ModuleList(Down(width * 2**level) for level in range(depth))
        self.up_list = nn.ModuleList(Up(width * 2**level) for level in range(depth))
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1, bias=False)

    def forward(self, hr: Tensor) -> Tensor:
        """Map (N, 3, H, W), sides multiples of s 2^depth, to LR images (N, 3, H / s, W / s), not clipped."""
        x = F.pixel_unshuffle(hr - _mean(hr), self.scale)
        x, skips = self.rdb_first(F.leaky_relu(self.conv_first(x), SLOPE)), []
        for down in self.down_list:
            skips.append(x)
            x = down(x)
        for up in reversed(self.up_list):
            x = up(skips.pop(), x)
        return self.conv_last(x) + _mean(hr)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv3(width, width), conv3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class EDSR(nn.Module):
    """Residual blocks at the size of the input, then sub-pixel convolutions by `scale`, a power of 2."""

    def __init__(self, channels_in: int, channels_out: int, width: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.conv_first = conv3(channels_in, width)
        self.body = nn.Sequential(*(_Residual(width) for _ in range(blocks)))
        self.conv_after_body = conv3(width, width)
        ups = [(conv3(width, 4 * width), nn.PixelShuffle(2)) for _ in range(scale.bit_length() - 1)]
        self.upsample = nn.Sequential(*(layer for pair in ups for layer in pair))
        self.conv_last = conv3(width, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, h, w) to (N, channels_out, scale h, scale w)."""
        x = self.conv_first(x)
        return self.conv_last(self.upsample(x + self.conv_after_body(self.body(x))))


class _Perceptron(nn.Module):
    """64 coefficients of a block to 64 numbers of at least 0."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first_linear = nn.Sequential(nn.Linear(FREQUENCIES, hidden), nn.LeakyReLU())
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(hidden, hidden), nn.LeakyReLU()) for _ in range(2)))
        self.final_linear = nn.Linear(hidden, FREQUENCIES)

    def forward(self, stream: Tensor) -> Tensor:
        return F.relu(self.final_linear(self.layers(self.first_linear(stream))))


class TablePredictor(nn.Module):
    """Quantisation tables of luma and chroma for each image: the mean over its blocks of what a small network says."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.MLPs = nn.ModuleList(_Perceptron(hidden) for _ in range(2))

    def forward(self, streams: tuple[Tensor, Tensor], factor: float = 1.0) -> Tensor:
        """Map streams to tables before rounding, (N, 2, 64), each entry at least 1.49 times `factor`."""
        means = [mlp(stream).mean(1) for mlp, stream in zip(self.MLPs, streams, strict=True)]
        return (torch.stack(means, 1) + BASE) * factor


class _Bottlenecks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bottlenecks = nn.ModuleList(EntropyBottleneck(FREQUENCIES) for _ in range(2))


class _Unused(nn.Module):
    """Tables of ones that the released file carries."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("Y_TABLE", "C_TABLE"):
            self.register_parameter(name, nn.Parameter(torch.ones(jpeg.SIDE, jpeg.SIDE), requires_grad=False))


class HyperThumbnail(nn.Module):
    """Encoder, table predictor, entropy model, and two decoders.

    Args:
        scale: s, a power of 2; 4 is released.
        width, depth: of the encoder's first level; number of its levels below that.
        features, blocks: width and residual blocks of each decoder.
        hidden: width of the table predictor.
        factor: of the predicted tables ("inference_scalar").

    Raises:
        ValueError: another scale, or an encoder whose lowest level does not divide the padded sides.
    """

    def __init__(
        self,
        scale: int = 4,
        width: int = 64,
        depth: int = 2,
        features: int = 24,
        blocks: int = 16,
        hidden: int = 192,
        factor: float = 1.0,
    ) -> None:
        super().__init__()
        if scale not in (2, 4, 8):
            raise ValueError(f"scale: expected 2, 4 or 8, got {scale!r}")
        if depth < 0 or PADDED % (scale * 2**depth):
            raise ValueError(f"depth: expected s * 2^depth to divide {PADDED}, got {scale} * 2^{depth}")
        self.config = {
            "scale": scale, "width": width, "depth": depth, "features": features, "blocks": blocks, "hidden": hidden,
            "factor": factor,
        }  # fmt: skip
        self.scale, self.factor = scale, factor
        self.encoder = Encoder(scale, width, depth)
        self.coefficient_decoder = EDSR(3 * FREQUENCIES, features, features, blocks, jpeg.SIDE)
        self.decoder = EDSR(3 + features, 3, features, blocks, scale)
        self.losslessJPEG = _Unused()
        self.entropy_bottleneck = _Bottlenecks()
        self.table_predictor = TablePredictor(hidden)

    def forward(self, hr: Tensor, generator: Generator | None = None) -> dict[str, Tensor]:
        """Encode and decode; without a generator as at inference, with one as in training.

        Args:
            hr: (N, 3, H, W) in [0, 1], H and W multiples of s; padded by reflection to multiples of 64.
            generator: of the noise that stands for rounding, of streams and of tables.

        Returns:
            `emb`, the encoder's LR image, and `rgb`, as the coefficients have it, (N, 3, H / s, W / s), neither clipped
            nor rounded; `out`, the HR image, (N, 3, H, W), not clipped; of the padded image with h x w blocks
            `stream_y`, `stream_c`, the coefficients; `tables`, (N, 2, 8, 8), rows are vertical frequencies; `quant_y`,
            (N, 64, h, w), and `quant_c`, (2 N, 64, h, w), the coefficients over the tables, rounded; `ccm`, the
            coefficient decoder's output, (N, features, 8 h, 8 w); `bits` of all images together, and `bpp`, bits per
            HR pixel.

        Raises:
            ValueError: an image whose sides s does not divide.
        """
        padded, (height, width) = self.pad(hr), hr.shape[-2:]
        emb = self.encoder(padded).to(hr.dtype)
        rows, bottlenecks = emb.shape[2] // jpeg.SIDE, self.entropy_bottleneck.bottlenecks
        quantized, bits, dequantized = [], 0, []
        with torch.autocast(hr.device.type, enabled=False):  # levels and probabilities keep their precision
            streams = self.streams(emb.clamp(0, 1))
            tables = self.tables(streams, generator)
            for plane, (stream, bottleneck) in enumerate(zip(streams, bottlenecks, strict=True)):
                step = tables[:, plane : plane + 1]
                maps = _maps(stream / step, rows, 1 + plane).flatten(0, 1)  # Cb and Cr: two images, one distribution
                maps = bottleneck.quantize(maps, generator)
                bits = bits - bottleneck.likelihood(maps).log2().sum()
                quantized.append(maps)
                dequantized.append(_unmap(maps.unflatten(0, (len(hr), -1))) * step)
        rgb, ccm, out = self.expand(dequantized, rows)
        low = (height // self.scale, width // self.scale)
        return {
            "emb": emb[..., : low[0], : low[1]],
            "stream_y": streams[0],
            "stream_c": streams[1],
            "tables": jpeg.from_zigzag(tables.detach()),
            "quant_y": quantized[0],
            "quant_c": quantized[1],
            "rgb": rgb[..., : low[0], : low[1]],
            "ccm": ccm,
            "out": out[..., :height, :width],
            "bits": bits,
            "bpp": bits / (len(hr) * height * width),
        }

    def pad(self, hr: Tensor) -> Tensor:
        """Pad at the bottom and right by reflection to multiples of 64, small images several times, as NumPy does.

        Raises:
            ValueError: as `forward`.
        """
        height, width = hr.shape[-2:]
        if height % self.scale or width % self.scale:
            raise ValueError(f"hr: expected sides that are multiples of {self.scale}, got {height}x{width}")
        while (down := -hr.shape[2] % PADDED) or -hr.shape[3] % PADDED:
            right = min(-hr.shape[3] % PADDED, hr.shape[3] - 1)
            hr = F.pad(hr, (0, right, 0, min(down, hr.shape[2] - 1)), mode="reflect")
        return hr

    def streams(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of luma and chroma.

        Args:
            lr: in [0, 1], (N, 3, h, w), sides multiples of 8.
        """
        ycbcr = jpeg.to_ycbcr(lr * 255)
        planes = torch.cat([ycbcr[:, :1] - 128, ycbcr[:, 1:]], 1)
        stream = jpeg.to_zigzag(jpeg.to_blocks(planes)).flatten(2, 3)  # (N, 3, blocks, 64)
        return stream[:, 0], stream[:, 1:].flatten(1, 2)

    def tables(self, streams: tuple[Tensor, Tensor], generator: Generator | None = None) -> Tensor:
        """Predicted tables of luma and chroma, (N, 2, 64) in the order of the streams: integers, or noise added."""
        tables = self.table_predictor(streams, self.factor)
        return tables.round() if generator is None else tables + uniform(tables, generator)

    def integers(self, hr: Tensor) -> tuple[Tensor, Tensor]:
        """What a JPEG file holds of HR images: coefficients over tables, rounded to integers, and tables.

        A file has no room for the medians to which `forward` rounds (HyperThumbnail_model.py:136-140).

        Args:
            hr: as for `forward`.

        Returns:
            Coefficients (N, 3, h, w, 64) of h x w blocks, those that only padding fills left out; tables (N, 2, 64).
        """
        emb = self.encoder(self.pad(hr)).clamp(0, 1)
        streams = self.streams(emb)
        tables = self.tables(streams)
        blocks = [stream.unflatten(1, (-1, emb.shape[2] // 8, emb.shape[3] // 8)) for stream in streams]
        steps = tables[:, [0, 1, 1], None, None]
        rows, columns = (-(-side // (self.scale * jpeg.SIDE)) for side in hr.shape[-2:])
        return (torch.cat(blocks, 1) / steps).round()[:, :, :rows, :columns], tables

    def from_integers(self, coefficients: Tensor, tables: Tensor) -> tuple[Tensor, Tensor]:
        """LR images (N, 3, 8 h, 8 w), neither clipped nor rounded, and HR images (N, 3, 8 s h, 8 s w) of a file.

        Args:
            coefficients, tables: as `integers` returns them.
        """
        blocks = coefficients * tables[:, [0, 1, 1], None, None]
        rgb, _, out = self.expand([blocks[:, 0].flatten(1, 2), blocks[:, 1:].flatten(1, 3)], blocks.shape[2])
        return rgb, out

    def expand(self, streams: list[Tensor] | tuple[Tensor, Tensor], rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Decode coefficients.

        Args:
            streams: of luma and chroma, times the tables.
            rows: of blocks.

        Returns:
            LR images (N, 3, h, w), the coefficient decoder's output (N, features, h, w), HR images (N, 3, s h, s w).
        """
        luma, chroma = _maps(streams[0], rows, 1), _maps(streams[1], rows, 2)
        maps = torch.cat([luma, chroma], 1)  # (N, 3, 64, h / 8, w / 8)
        planes = jpeg.from_blocks(jpeg.from_zigzag(maps.movedim(2, -1)))
        rgb = jpeg.to_rgb(torch.cat([planes[:, :1] + 128, planes[:, 1:]], 1)) / 255
        ccm = self.coefficient_decoder(maps.flatten(1, 2)) / 10
        return rgb, ccm, self.decoder(torch.cat([rgb, ccm], 1)) + _mean(rgb)

    def auxiliary(self) -> Tensor:
        """The loss of the quantiles, which an optimizer of their own minimises."""
        return sum(bottleneck.auxiliary() for bottleneck in self.entropy_bottleneck.bottlenecks)


def _mean(images: Tensor) -> Tensor:
    return images.new_tensor(MEAN).view(3, 1, 1)


def _maps(stream: Tensor, rows: int, planes: int) -> Tensor:
    """(N, planes * blocks, 64) to (N, planes, 64, rows, columns)."""
    return stream.unflatten(1, (planes, rows, -1)).movedim(-1, 2)


def _unmap(maps: Tensor) -> Tensor:
    """Undo `_maps`."""
    return maps.movedim(2, -1).flatten(1, 3)


LATER = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}


def released_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with the names of the released file, whichever version of CompressAI wrote it.

    The tables of its range coder, which are there once it has been used, become empty: they follow from the rest.
    """
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"\.(matrices|biases|factors)\.(\d)$", lambda found: f".{LATER[found[1]]}{found[2]}", name)
        coder = name.endswith(("._offset", "._quantized_cdf", "._cdf_length"))
        renamed[name] = tensor.new_empty(0) if coder else tensor
    return renamed


def build(**config) -> HyperThumbnail:
    """The released x4 configuration with fresh weights.

    Args:
        config: what differs from it, such as `width=16, features=8`.

    Raises:
        ValueError: see `HyperThumbnail`.
    """
    return HyperThumbnail(**config)
