"""Transforms of ELIC's form, narrow: analysis and synthesis of residual bottleneck blocks, with two kinds of condition.

He et al., "ELIC: Efficient Learned Image Compression", CVPR 2022; with the conditions of Multi-Realism compression
(Agustsson et al., CVPR 2023, arXiv 2212.13824), as the public re-implementation Nikolai10/MRIC reads it (revision
db250de, Apache-2.0; "variant A"): a vector is projected and added inside every block. The features of beta and the
places of the projections are variant A's; iwa-shi/CRDR maps beta to [-1, 1] and gives the projections a bias.
What differs here: widths and blocks are the caller's, the attention blocks are left out, and the vector also knows
the rate (a table with a row for each rate level; CRDR does the like), so that one network serves all rates.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = 4  # convolutions of stride 2 each way
OCTAVES = 10  # sin(2^k beta) and cos(2^k beta) for k from 0 to 9


class TableCond(nn.Module):
    """A learned vector for each rate level, interpolated linearly between them.

    Args:
        levels: number of levels L, at least 2.
        width: length of a vector.
        start: all entries of the lowest level before training, and by how much they grow from a level to the next;
            without it all are random.
    """

    def __init__(self, levels: int, width: int, start: tuple[float, float] | None = None) -> None:
        super().__init__()
        if start is None:
            rows = 0.3 * torch.randn(levels, width)
        else:
            rows = start[0] + start[1] * torch.arange(levels)[:, None].expand(-1, width)
        self.table = nn.Parameter(rows)

    def forward(self, level: Tensor) -> Tensor:
        """Map levels in [0, L - 1], (N,), to vectors, (N, width)."""
        low = level.floor().clamp(0, len(self.table) - 2).long()
        share = (level - low).to(self.table)[:, None]
        return self.table[low] * (1 - share) + self.table[low + 1] * share


class FourierCond(nn.Module):
    """A vector that follows beta: sines and cosines of it at rising frequencies, and two linear layers.

    Args:
        width: length of the vector.
        octaves: number of frequencies 2^k; few make it vary slowly with beta.
    """

    def __init__(self, width: int, octaves: int = OCTAVES) -> None:
        super().__init__()
        self.octaves = octaves
        self.first = nn.Linear(2 * octaves + 1, width)
        self.last = nn.Linear(width, width)

    def forward(self, beta: Tensor, more: Tensor | float = 0.0) -> Tensor:
        """Map beta, (N,), to (N, width); `more` is added before the first nonlinearity, (N, width)."""
        angles = beta[:, None] * 2.0 ** torch.arange(self.octaves, device=beta.device)
        features = torch.cat([beta[:, None], angles.sin(), angles.cos()], 1)
        return F.relu(self.last(F.relu(self.first(features) + more)))


class ConditionalBlock(nn.Module):
    """Residual bottleneck: 1x1 to half the width, 3x3, 1x1 back; a projected vector is added after each.

    Args:
        width: channels, even.
        condition: length of the vector.
    """

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        half = width // 2
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(width, half, 1), nn.Conv2d(half, half, 3, padding=1), nn.Conv2d(half, width, 1)]
        )
        self.projections = nn.ModuleList(nn.Linear(condition, each, bias=False) for each in (half, half, width))
        for projection in self.projections:
            nn.init.zeros_(projection.weight)
        self.convolutions[-1].weight.data.mul_(0.1)
        nn.init.zeros_(self.convolutions[-1].bias)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Shape (N, width, h, w) kept; the vector is (N, condition)."""
        first, second, third = self.convolutions
        one, two, three = (projection(vector)[:, :, None, None] for projection in self.projections)
        hidden = F.relu(second(F.relu(first(x)) + one)) + two
        return x + third(hidden) + three


class _Stack(nn.Module):
    """Strided layers with blocks after (analysis) or before (synthesis) each but the last, as `layers` has them."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, vector) if isinstance(layer, ConditionalBlock) else layer(x)
        return x

    def strided(self) -> list[nn.Module]:
        """Its layers but the blocks."""
        return [layer for layer in self.layers if not isinstance(layer, ConditionalBlock)]


def keep_variance(convolution: nn.Conv2d | nn.ConvTranspose2d, gain: float = 1.0) -> nn.Conv2d | nn.ConvTranspose2d:
    """Draw the weights of a convolution so that its output varies `gain` times as much as its input; returns it.

    PyTorch's own draw divides the variance by 3 in each layer: a latent would begin far below its rounding noise.
    """
    terms = convolution.in_channels * convolution.kernel_size[0] ** 2
    if convolution.transposed:
        terms /= convolution.stride[0] ** 2
    nn.init.normal_(convolution.weight, std=gain * terms**-0.5)
    nn.init.zeros_(convolution.bias)
    return convolution


CORRELATION = 0.95  # of neighbouring pixels, in the model that ranks the bands of an image
COLOURS = ((3**-0.5,) * 3, (2**-0.5, 0.0, -(2**-0.5)), (-(6**-0.5), 2 * 6**-0.5, -(6**-0.5)))  # grey, then two others
SHARES = (1.0, 0.06, 0.03)  # of their variances


def variance(band: Sequence[int]) -> float:
    """Variance of a band of Haar's wavelet packet in a row of pixels; `band`: 0 for sums and 1 for differences."""
    basis = torch.ones(1)
    for bit in band:
        basis = torch.kron(torch.tensor([1.0, -1.0 if bit else 1.0]) / 2**0.5, basis)
    places = torch.arange(len(basis))
    return (basis @ CORRELATION ** (places[:, None] - places).abs().float() @ basis).item()


@torch.no_grad()
def start_as_wavelets(forth: Sequence[nn.Conv2d], back: Sequence[nn.ConvTranspose2d]) -> None:
    """Let the strided convolutions of both transforms begin as an orthonormal Haar transform and its inverse.

    Each keeps as many bands as it has channels, those of most energy in natural images: a codec from the first step.
    Small random weights are added, and blocks of `ConditionalBlock` begin near the identity.

    Args:
        forth, back: those of `Analysis` and of `Synthesis`, each in its own order.
    """
    kept = [(colour, (), ()) for colour in range(3)]
    for number, (down, up) in enumerate(zip(forth, reversed(back), strict=True)):
        bands = [
            (
                SHARES[colour] * variance((*rows, i)) * variance((*columns, j)),
                parent,
                (colour, (*rows, i), (*columns, j)),
            )
            for parent, (colour, rows, columns) in enumerate(kept)
            for i in (0, 1)
            for j in (0, 1)
        ]
        bands = sorted(bands, key=lambda band: -band[0])[: down.out_channels]
        for convolution in (down, up):
            keep_variance(convolution, 0.03)
        for channel, (_, parent, (colour, rows, columns)) in enumerate(bands):
            signs = torch.tensor(
                [[1.0, (-1.0) ** columns[-1]], [(-1.0) ** rows[-1], (-1.0) ** (rows[-1] + columns[-1])]]
            )
            sources = enumerate(COLOURS[colour]) if number == 0 else [(parent, 1.0)]
            for source, share in sources:
                down.weight[channel, source, 2:4, 2:4] += signs / 2 * share
                up.weight[channel, source, 2:4, 2:4] += signs / 2 * share
        kept = [band for _, _, band in bands]


def _check(widths: Sequence[int], blocks: Sequence[int]) -> None:
    if len(widths) != STRIDES - 1 or min(widths) < 2 or any(width % 2 for width in widths):
        raise ValueError(f"widths: expected {STRIDES - 1} even numbers of at least 2, got {list(widths)}")
    if len(blocks) != STRIDES - 1 or min(blocks) < 0:
        raise ValueError(f"blocks: expected {STRIDES - 1} numbers of at least 0, got {list(blocks)}")


class Analysis(_Stack):
    """An image to its latent, at a sixteenth of its sides: g_a.

    Args:
        widths: channels at a half, a quarter and an eighth of the sides.
        latent: channels of the latent.
        blocks: number of conditional blocks at each of these sizes.
        condition: length of the vector.

    Raises:
        ValueError: other numbers of widths or blocks.
    """

    def __init__(self, widths: Sequence[int], latent: int, blocks: Sequence[int], condition: int) -> None:
        _check(widths, blocks)
        layers, before = [], 3
        for width, count in zip(widths, blocks, strict=True):
            layers.append(nn.Conv2d(before, width, 5, 2, 2))
            layers += [ConditionalBlock(width, condition) for _ in range(count)]
            before = width
        super().__init__([*layers, nn.Conv2d(before, latent, 5, 2, 2)])

    def forward(self, hr: Tensor, vector: Tensor) -> Tensor:
        """Map images in [0, 1], (N, 3, H, W), sides multiples of 16, to (N, latent, H / 16, W / 16)."""
        return super().forward(hr - 0.5, vector)


class Synthesis(_Stack):
    """A latent to its image, mirrored `Analysis`: g_s. Args, Raises: as `Analysis`."""

    def __init__(self, widths: Sequence[int], latent: int, blocks: Sequence[int], condition: int) -> None:
        _check(widths, blocks)
        layers, before = [], latent
        for width, count in zip(reversed(widths), reversed(blocks), strict=True):
            layers.append(nn.ConvTranspose2d(before, width, 5, 2, 2, 1))
            layers += [ConditionalBlock(width, condition) for _ in range(count)]
            before = width
        super().__init__([*layers, nn.ConvTranspose2d(before, 3, 5, 2, 2, 1)])

    def forward(self, y: Tensor, vector: Tensor) -> Tensor:
        """Map (N, latent, h, w) to images, (N, 3, 16 h, 16 w), not clipped."""
        return super().forward(y, vector) + 0.5
