"""JPEG as layers: colours, 8x8 cosine transform, order of the frequencies, and a codec that a gradient passes.

The surrogate is SAIN's (yang-jin-hai/SAIN, revision e361d7a, codes/models/jpeg.py, jpeg_utils.py), 4:2:0, with tables
that are neither rounded nor transposed; HyperThumbnail takes its colours and cosines without sub-sampling
(AbnerVictor/HyperThumbnail, revision 4bbaba6, src/ops/JPEG_Utils/DiffJPEG.py:51-109). Colours and tables are those of
JFIF 1.02 and of ITU-T T.81, Annex K.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks.invertible_layers import TO_RGB, TO_YCBCR, to_colours

SIDE = 8  # of a block, pixels
LUMINANCE = (  # Table K.1, rows are vertical frequencies
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (  # Table K.2
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)
TERMS = 9  # of the Fourier series of the differentiable rounding


def _diagonals() -> tuple[int, ...]:
    """Places in a block, row by row, in the order of the file: along the diagonals, first right, then down."""
    cells = [(row, column) for row in range(SIDE) for column in range(SIDE)]
    cells.sort(key=lambda cell: (sum(cell), cell[0] if sum(cell) % 2 else cell[1]))
    return tuple(SIDE * row + column for row, column in cells)


ZIGZAG = _diagonals()


def _cosines(like: Tensor) -> Tensor:
    """The orthonormal cosines, (frequency, place), where `like` is."""
    places = torch.arange(SIDE, dtype=torch.float64)
    cosines = ((2 * places + 1) * places[:, None] * math.pi / (2 * SIDE)).cos() * math.sqrt(2 / SIDE)
    cosines[0] /= math.sqrt(2)
    return cosines.to(like.dtype).to(like.device)


def _exact(like: Tensor) -> torch.autocast:
    """No autocast: 8 bits of mantissa are too few for levels of 8 bits."""
    return torch.autocast(like.device.type, enabled=False)


def to_ycbcr(rgb: Tensor) -> Tensor:
    """Levels of Y and, around 0, of Cb and Cr; shape (N, 3, H, W), both scaled 0..255 (chroma -127.5..127.5)."""
    return to_colours(rgb, TO_YCBCR)


def to_rgb(ycbcr: Tensor) -> Tensor:
    """Undo `to_ycbcr`, up to the 1e-6 by which the rounded constants of JFIF are not inverse; not clipped."""
    return to_colours(ycbcr, TO_RGB)


def to_blocks(planes: Tensor) -> Tensor:
    """Orthonormal cosine transform of each 8x8 block.

    Args:
        planes: levels around 0, (N, C, H, W), H and W multiples of 8.

    Returns:
        (N, C, H / 8, W / 8, 8, 8), the last two the vertical and the horizontal frequency.
    """
    cosines = _cosines(planes)
    blocks = planes.unflatten(3, (-1, SIDE)).unflatten(2, (-1, SIDE)).transpose(3, 4)
    with _exact(planes):
        return cosines @ blocks @ cosines.T


def from_blocks(blocks: Tensor) -> Tensor:
    """Undo `to_blocks`."""
    cosines = _cosines(blocks)
    with _exact(blocks):
        planes = cosines.T @ blocks @ cosines
    return planes.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def to_zigzag(blocks: Tensor) -> Tensor:
    """Frequencies (..., 8, 8) in the order of a JPEG file, (..., 64)."""
    return blocks.flatten(-2)[..., list(ZIGZAG)]


def from_zigzag(stream: Tensor) -> Tensor:
    """Undo `to_zigzag`."""
    inverse = sorted(range(SIDE**2), key=ZIGZAG.__getitem__)
    return stream[..., inverse].unflatten(-1, (SIDE, SIDE))


def smooth_round(x: Tensor) -> Tensor:
    """Round approximately and differentiably: x - (1 / pi) sum_n (-1)^(n + 1) / n sin(2 pi n x), n = 1..9."""
    waves = sum((-1) ** (n + 1) / n * (2 * math.pi * n * x).sin() for n in range(1, TERMS + 1))
    return x - waves / math.pi


def factor_of(quality: float) -> float:
    """What the tables of Annex K are multiplied with: 50 / q below 50, else (200 - 2 q) / 100.

    Raises:
        ValueError: a quality below 1 or above 99; at 100 the factor is 0.
    """
    if not 1 <= quality <= 99:  # also false for NaN
        raise ValueError(f"quality: expected a number from 1 to 99, got {quality!r}")
    return 50 / quality if quality < 50 else (200 - 2 * quality) / 100


class DiffJPEG(nn.Module):
    """SAIN's stand-in for JPEG 4:2:0: no entropy coding, tables of Annex K times a factor, not rounded.

    Args:
        quality: see `factor_of`.
        differentiable: `smooth_round` instead of rounding half to even.

    Raises:
        ValueError: see `factor_of`.
    """

    def __init__(self, quality: float = 75, differentiable: bool = True) -> None:
        super().__init__()
        self.factor, self.rounding = factor_of(quality), smooth_round if differentiable else torch.round
        tables = torch.tensor((LUMINANCE, CHROMINANCE), dtype=torch.get_default_dtype())
        self.register_buffer("tables", tables, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compress and decompress.

        Args:
            images: in [0, 1], (N, 3, H, W), H and W multiples of 16.

        Returns:
            Images in [0, 1], the same shape, not rounded to 8 bits.

        Raises:
            ValueError: other sides.
        """
        height, width = images.shape[-2:]
        if height % (2 * SIDE) or width % (2 * SIDE):
            raise ValueError(f"expected height and width to be multiples of {2 * SIDE}, got {height}x{width}")
        ycbcr = to_ycbcr(images * 255)
        luma = self._code(ycbcr[:, :1] - 128, self.tables[0])
        chroma = self._code(F.avg_pool2d(ycbcr[:, 1:], 2), self.tables[1])
        chroma = F.interpolate(chroma, scale_factor=2, mode="nearest")
        return to_rgb(torch.cat([luma + 128, chroma], 1)).clamp(0, 255) / 255

    def _code(self, planes: Tensor, table: Tensor) -> Tensor:
        steps = table.to(planes) * self.factor
        return from_blocks(self.rounding(to_blocks(planes) / steps) * steps)
