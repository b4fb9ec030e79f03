"""What happens to an LR image on its way to a reader: lost bits, codecs, a resize, another colour space, dithering.

Each is called as a degradation is, `f(lr, level, generator)`, takes what an 8-bit file holds and gives 8-bit levels;
`degradations.DEGRADATIONS` has them by name.
"""

import io
import math
import numbers
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from helpers import colour
from helpers.downscalers.filters import resize
from helpers.images import check_images, from_uint8, to_uint8

DISPLAY_P3 = colour.PRIMARIES[12]


def check_level(lr: Tensor, level: float, low: float, high: float, what: str, *, whole: bool = False) -> float:
    """The level of a damage, as an int if it must be `whole` (2.0 is: a table of numbers makes floats of integers).

    Raises:
        ValueError: `lr` is no batch of images in [0, 1], or the level is no such number.
    """
    check_images(lr, name="lr")
    number = isinstance(level, numbers.Real) and not isinstance(level, bool)
    if not number or not low <= level <= high or level == math.inf or (whole and level != int(level)):
        kind = "an integer" if whole else "a number"
        raise ValueError(f"level: expected {what}, {kind} from {low:g} to {high:g}, got {level!r}")
    return int(level) if whole else level


def through_file(lr: Tensor, format: str, **options) -> Tensor:
    """Each image through a file that Pillow writes and reads.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w); rounded to 8-bit levels first.
        format: "JPEG", "WEBP" or another that Pillow knows.
        options: of Pillow's `save`.

    Returns:
        Images of 8-bit levels k / 255, same shape; builds of a codec differ by a few levels.
    """
    decoded = []
    for image in to_uint8(lr).permute(0, 2, 3, 1).cpu().numpy():
        Image.fromarray(image).save(file := io.BytesIO(), format=format, **options)
        decoded.append(torch.from_numpy(np.array(Image.open(file).convert("RGB"))))
    return from_uint8(torch.stack(decoded).permute(0, 3, 1, 2)).to(lr)


CODECS = {  # damage that is a file format -> how Pillow writes it
    "jpeg": ("JPEG", {"subsampling": "4:2:0", "optimize": True}),
    "jpeg_444": ("JPEG", {"subsampling": "4:4:4", "optimize": True}),
    "webp": ("WEBP", {}),
    "avif": ("AVIF", {}),
}
LOSSLESS = {"png": ("PNG", {"optimize": True}), "webp_lossless": ("WEBP", {"lossless": True, "method": 6})}


def file_bits(image: Tensor, codec: str = "png", level: float | None = None) -> int:
    """Bits of the file that holds an image: 8 times its bytes, metadata left out, by this machine's Pillow.

    Args:
        image: (1, 3, h, w) in [0, 1], rounded to 8-bit levels first; of a lossy codec what goes in, not what comes out.
        codec: a key of `CODECS` or `LOSSLESS`.
        level: quality of a lossy codec.

    Raises:
        ValueError: more than one image, or an unknown codec.
        OSError, KeyError: this Pillow was built without it.
    """
    check_images(image, name="image")
    if len(image) != 1:
        raise ValueError(f"image: expected one, got {len(image)}")
    if codec not in (known := CODECS | LOSSLESS):
        raise ValueError(f"codec: expected one of {', '.join(known)}, got {codec!r}")
    format, options = known[codec]
    options = options if codec in LOSSLESS else {**options, "quality": int(level)}
    Image.fromarray(to_uint8(image)[0].permute(1, 2, 0).cpu().numpy()).save(
        file := io.BytesIO(), format=format, **options
    )
    return 8 * len(file.getvalue())


def jpeg(lr: Tensor, level: int, generator=None) -> Tensor:
    """JPEG compression by Pillow, chroma at half resolution (4:2:0), and back.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w); rounded to 8-bit levels first.
        level: quality, an integer from 1 (worst) to 100.
        generator: not used.

    Returns:
        Images of 8-bit levels k / 255, same shape; builds of libjpeg differ by up to two levels.

    Raises:
        ValueError: `lr` is no such batch, or `level` is out of range.
    """
    level = check_level(lr, level, 1, 100, "JPEG quality", whole=True)
    return through_file(lr, "JPEG", quality=level, subsampling="4:2:0")


def jpeg_444(lr: Tensor, level: int, generator=None) -> Tensor:
    """JPEG compression by Pillow with chroma at full resolution (4:4:4), and back. See `jpeg` for the rest."""
    level = check_level(lr, level, 1, 100, "JPEG quality", whole=True)
    return through_file(lr, "JPEG", quality=level, subsampling="4:4:4")


def webp(lr: Tensor, level: int, generator=None) -> Tensor:
    """Lossy WebP by Pillow, and back. See `jpeg` for the rest.

    Raises:
        ValueError: as `jpeg`; this Pillow was built without WebP.
    """
    return _optional(lr, level, "WebP", "install a wheel from PyPI")


def avif(lr: Tensor, level: int, generator=None) -> Tensor:
    """Lossy AVIF by Pillow, and back. See `jpeg` for the rest.

    Raises:
        ValueError: as `jpeg`; this Pillow was built without AVIF.
    """
    return _optional(lr, level, "AVIF", "install Pillow 11.3 or newer")


def _optional(lr: Tensor, level: int, format: str, help: str) -> Tensor:
    level = check_level(lr, level, 1, 100, f"{format} quality", whole=True)
    if not features.check(format.lower()):
        raise ValueError(f"{format.lower()}: expected a Pillow with {format}, this one was built without; {help}")
    return through_file(lr, format.upper(), quality=level)


def lost_bits(lr: Tensor, level: int, generator=None) -> Tensor:
    """Set the lowest bits of every value to 0.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w); rounded to 8-bit levels first.
        level: how many bits, an integer from 0 to 7.
        generator: not used.

    Raises:
        ValueError: `lr` is no such batch, or `level` is out of range.
    """
    level = check_level(lr, level, 0, 7, "the number of lost bits", whole=True)
    return from_uint8(to_uint8(lr) >> level << level).to(lr)


def dithered(lr: Tensor, level: int, generator=None) -> Tensor:
    """Fewer bits a value, with ordered dithering: Bayer's 8 x 8 matrix, the same in the three channels.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w).
        level: bits that stay, an integer from 1 to 8; a 7-bit panel shows 128 levels.
        generator: not used.

    Returns:
        Images of 8-bit levels k / 255, same shape.

    Raises:
        ValueError: `lr` is no such batch, or `level` is out of range.
    """
    level = check_level(lr, level, 1, 8, "the number of bits that stay", whole=True)
    if level == 8:
        return from_uint8(to_uint8(lr)).to(lr)
    height, width = lr.shape[-2:]
    threshold = ((_bayer(3) + 0.5) / 64).to(lr).repeat(math.ceil(height / 8), math.ceil(width / 8))[:height, :width]
    most = 2**level - 1
    return from_uint8(to_uint8((lr * most + threshold).floor().clamp(0, most) / most)).to(lr)


def _bayer(order: int) -> Tensor:
    """Bayer's matrix of side 2^order, integers from 0 on."""
    matrix = torch.zeros(1, 1)
    for _ in range(order):
        matrix = torch.cat([torch.cat([4 * matrix, 4 * matrix + 2], 1), torch.cat([4 * matrix + 3, 4 * matrix + 1], 1)])
    return matrix


def resized(lr: Tensor, level: float, generator=None) -> Tensor:
    """Shrink by a factor and enlarge to the size of before, both by Pillow's bicubic filter in 8 bits.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w).
        level: the factor, above 0, at most 1; the smaller size is rounded and at least one pixel.
        generator: not used.

    Returns:
        Images of 8-bit levels k / 255, same shape.

    Raises:
        ValueError: `lr` is no such batch, or `level` is out of range.
    """
    check_level(lr, level, 0.01, 1, "a factor")
    whole = tuple(lr.shape[-2:])
    return resize(resize(lr, tuple(max(1, round(level * side)) for side in whole), "bicubic"), whole, "bicubic")


def wide_gamut(lr: Tensor, level: int, generator=None) -> Tensor:
    """Convert from sRGB to Display P3 and back, both in 8 bits, as a program that manages colours does.

    Display P3 has the curve and the white of sRGB and wider primaries, so nothing is out of gamut; only rounding acts.

    Args:
        lr: images in [0, 1], shape (N, 3, h, w).
        level: how many times there and back, an integer of at least 0.
        generator: not used.

    Returns:
        Images of 8-bit levels k / 255, same shape.

    Raises:
        ValueError: `lr` is no such batch, or `level` is out of range.
    """
    level = check_level(lr, level, 0, 100, "the number of round trips", whole=True)
    there = np.linalg.inv(_to_xyz(DISPLAY_P3)) @ _to_xyz(colour.SRGB)
    for _ in range(level):
        for matrix in (there, np.linalg.inv(there)):
            mixed = torch.einsum("cd,ndhw->nchw", torch.from_numpy(matrix).to(lr), colour.to_linear(lr))
            lr = from_uint8(to_uint8(colour.to_srgb(mixed).clamp(0, 1))).to(lr)
    return lr


def _to_xyz(primaries: tuple) -> np.ndarray:
    """Linear RGB of these primaries (x, y of red, green, blue, white) to XYZ with white at Y = 1, (3, 3)."""
    x, y = np.array(primaries).T
    columns = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    return columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])


WAYS: dict[str, Callable[..., Tensor]] = {
    "jpeg": jpeg,
    "jpeg_444": jpeg_444,
    "webp": webp,
    "avif": avif,
    "lost_bits": lost_bits,
    "dithered": dithered,
    "resized": resized,
    "wide_gamut": wide_gamut,
}
