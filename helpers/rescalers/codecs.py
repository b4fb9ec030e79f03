"""Image codecs between a downscaler and its upscaler: what a picture is once it has been a file."""

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from helpers.images import check_images, from_uint8, to_uint8

FORMATS = {"jpeg": ("JPEG", {"subsampling": "4:2:0"}), "webp": ("WEBP", {})}  # Pillow's names, options; webp is lossy


def codec(name: str, quality: int = 75) -> Callable[[Tensor], Tensor]:
    """Make a function that compresses and decompresses each image by Pillow, as SAIN's training and tests do.

    Args:
        name: a key of `FORMATS`.
        quality: from 1 to 100.

    Returns:
        `f(images)`: (N, 3, h, w) in [0, 1], rounded to 8 bits first, to 8-bit levels of the same shape; no gradient.

    Raises:
        ValueError: another name or quality, or this Pillow was built without the codec.
    """
    if name not in FORMATS:
        raise ValueError(f"codec: expected one of {', '.join(FORMATS)}, got {name!r}")
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
        raise ValueError(f"quality: expected an integer from 1 to 100, got {quality!r}")
    if not features.check({"jpeg": "jpg"}.get(name, name)):
        raise ValueError(f"codec: expected {name} in Pillow, this one was built without; install a wheel from PyPI")
    kind, options = FORMATS[name]
    return partial(_through, format=kind, quality=quality, **options)


def size(images: Tensor, name: str, quality: int = 75) -> list[int]:
    """Bytes of each image as a file of a codec. Args and Raises: see `codec`."""
    options = codec(name, quality).keywords
    return [len(_file(levels, options)) for levels in _levels(images)]


@torch.no_grad()
def _through(images: Tensor, **options) -> Tensor:
    decoded = [np.array(Image.open(io.BytesIO(_file(levels, options))).convert("RGB")) for levels in _levels(images)]
    return from_uint8(torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)).to(images)


def _levels(images: Tensor) -> np.ndarray:
    check_images(images, name="lr")
    return to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()


def _file(levels: np.ndarray, options: dict) -> bytes:
    Image.fromarray(levels).save(file := io.BytesIO(), **options)
    return file.getvalue()
