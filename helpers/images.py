"""Check, round, read and write RGB images, float32 in [0, 1], shape (N, 3, H, W)."""

import hashlib
import os
import re
import stat
import threading
from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError
from torch import Generator, Tensor

from helpers import colour
from helpers.files import replace
from helpers.runtime import as_generators, is_whole

MAX_PIXELS = 89_478_485  # Pillow warns of a decompression bomb from here on
ON_REQUEST = {"16-bit", "cmyk"}
TIFF = (b"II*\0", b"MM\0*")
LOSSLESS = ("PNG", "BMP", "TIFF", "PPM")  # formats whose pixels are those that were saved
_OPENING = threading.Lock()


def check_images(images: Tensor, *, multiple_of: int = 1, name: str = "hr") -> None:
    """Refuse anything that is not a batch of RGB images in [0, 1].

    Args:
        images: candidate batch.
        multiple_of: height and width must be multiples of this integer.
        name: what the error calls the batch.

    Raises:
        ValueError: wrong type, dtype, layout, shape, range, a non-finite value, or a size that does not divide.
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"{name}: expected a torch.Tensor, got {type(images).__name__}")
    if not images.is_floating_point():
        raise ValueError(f"{name}: expected floats in [0, 1], got dtype {images.dtype}; divide 8-bit images by 255")
    if images.layout != torch.strided or images.device.type == "meta":
        got = f"one on {images.device}" if images.layout == torch.strided else f"{images.layout}; to_dense() makes one"
        raise ValueError(f"{name}: expected a dense tensor with values, got {got}")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(f"{name}: expected shape (N, 3, H, W), got {tuple(images.shape)}")
    low, high = torch.stack(images.detach().aminmax()).tolist()  # one wait for the device
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise ValueError(f"{name}: expected finite values in [0, 1], got [{low:g}, {high:g}]")
    height, width = images.shape[-2:]
    if height % multiple_of or width % multiple_of:
        raise ValueError(
            f"{name}: expected height and width to be multiples of {multiple_of}, got {height}x{width}; "
            f"crop first with images.crop_to_multiple(images, {multiple_of})"
        )


def check_hr(hr: Tensor, scale: int, *, in_range: bool = True) -> None:
    """Refuse what no downscaler takes.

    Args:
        hr: candidate HR batch, floats of shape (N, 3, H, W).
        scale: scaling factor; H and W must be multiples of it.
        in_range: values must lie in [0, 1].

    Raises:
        ValueError: `scale` is no integer of at least 1, or `hr` is no such batch.
    """
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
        raise ValueError(f"scale: expected an integer of at least 1, got {scale!r}")
    check_images(hr if in_range or not isinstance(hr, Tensor) else hr.detach().clamp(0, 1), multiple_of=scale)


def check_draws(lr: Tensor, generators: Generator | Sequence[Generator]) -> list[Generator]:
    """The generators as a list; ValueError: `lr` is neither one LR image in [0, 1] nor one for each of them."""
    check_images(lr, name="lr")
    generators = as_generators(generators)
    if len(lr) not in (1, len(generators)):
        raise ValueError(f"lr: expected one LR image, or one for each of {len(generators)} draws, got {len(lr)}")
    return generators


def in_float64(images: Tensor) -> Tensor:
    """Images in float64, on the CPU where their device has none, as MPS.

    What decides on pixels is computed so: in float32 a sum that ends near a threshold, or near the half of an 8-bit
    level, falls on the other side of it on another processor.
    """
    return (images.cpu() if images.device.type == "mps" else images).double()


def quantize(images: Tensor) -> Tensor:
    """Clip to [0, 1] and round to the nearest of the 256 levels of an 8-bit file; NaN stays NaN.

    Args:
        images: any float tensor; values outside [0, 1] are clipped.

    Returns:
        Same shape, every finite value k / 255.
    """
    return torch.floor(images.clamp(0, 1) * 255 + 0.5) / 255


def to_uint8(images: Tensor) -> Tensor:
    """8-bit levels of `images`, dtype uint8, rounded to nearest.

    Raises:
        ValueError: a value is not finite (a cast would turn it into an arbitrary level).
    """
    if not images.isfinite().all():
        raise ValueError("expected finite values, got NaN or infinity: they have no 8-bit level")
    return torch.floor(images.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def from_uint8(levels: Tensor) -> Tensor:
    """Float32 images in [0, 1] of 8-bit levels 0..255."""
    return levels.to(torch.float32) / 255


def crop_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Crop at the bottom and right so that height and width are multiples of `multiple`.

    Raises:
        ValueError: the image is smaller than `multiple`, or that is no integer of at least 1.
    """
    if not is_whole(multiple):
        raise ValueError(f"multiple: expected an integer of at least 1, got {multiple!r}")
    height, width = images.shape[-2:]
    if min(height, width) < multiple:
        raise ValueError(f"expected at least {multiple}x{multiple} pixels, got {height}x{width}")
    return images[..., : height - height % multiple, : width - width % multiple]


class Picture(NamedTuple):
    """What `read_picture` found: an image, or why the file is refused."""

    image: Tensor | None = None  # (1, 3, H, W) in [0, 1]
    problem: str = ""
    notes: tuple[str, ...] = ()  # conversions that were needed
    format: str = ""  # by content, as Pillow names it; "" where it is not known
    profile: str = ""  # colour space, "" for sRGB or where the file says nothing
    look: colour.Look = ()  # what that space makes of some probes, see `colour.alike`
    sha256: str = ""  # of the file


def read_rgb(path: str | Path, **options) -> Tensor:
    """Read one image file.

    Args:
        path: any file that Pillow reads, and 16-bit or float TIFF.
        options: as `read_picture`.

    Returns:
        Image in [0, 1], shape (1, 3, H, W).

    Raises:
        ValueError: the file is refused; names it and the reason.
    """
    picture = read_picture(path, **options)
    if picture.image is None:
        raise ValueError(f"{path}: {picture.problem}")
    return picture.image


def read_picture(
    path: str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    allow: Collection[str] = (),
    background: tuple[int, int, int] | None = None,
) -> Picture:
    """Read one image file in full, with what had to be converted, or the reason why it cannot be used.

    Pixels are those of the file, turned upright by its EXIF tag. A colour profile is reported, not applied.

    Args:
        path: the file; its content decides what it is, not its name.
        max_pixels: larger images are refused before they are decoded.
        allow: "16-bit" to divide 16-bit levels by 65535, "cmyk" to convert CMYK through its own ICC profile.
        background: 8-bit RGB that shows through transparent pixels; without it such an image is refused.

    Raises:
        ValueError: unknown name in `allow`, or another library made Pillow fill truncated images with grey.
    """
    if unknown := set(allow) - ON_REQUEST:
        raise ValueError(f"allow: expected some of {sorted(ON_REQUEST)}, got {sorted(unknown)}")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError("expected PIL.ImageFile.LOAD_TRUNCATED_IMAGES to be False: grey blocks would be scored")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return Picture(problem="expected a file, got a folder or device")
        content = Path(path).read_bytes()
    except OSError as error:
        return Picture(problem=f"cannot be read: {error.strerror}")
    digest = hashlib.sha256(content).hexdigest()
    if not content:
        return Picture(problem="empty file (zero bytes)", sha256=digest)
    if content[:256].lstrip().startswith(b"<"):
        return Picture(problem="looks like a web page: failed download?", sha256=digest)
    try:
        picture = _decode(Path(path), content, max_pixels, allow, background)
    except UnidentifiedImageError:
        return Picture(problem="cannot be decoded: not a picture that Pillow knows", sha256=digest)
    except Exception as error:  # Pillow raises a dozen kinds on broken files; the reason is reported
        reason = str(error) or "no reason given"
        return Picture(problem=f"cannot be decoded: {reason} ({type(error).__name__})", sha256=digest)
    return picture._replace(sha256=digest)


def write_rgb(image: Tensor, path: str | Path) -> None:
    """Write one image as 8-bit PNG, whole or not at all.

    Args:
        image: shape (1, 3, H, W); clipped to [0, 1] and rounded to nearest.
        path: ends in .png; its folder is made.

    Raises:
        ValueError: several images, a non-finite value, or another file type (a lossy LR would change scores).
    """
    if image.ndim != 4 or image.shape[:2] != (1, 3) or Path(path).suffix.lower() != ".png":
        raise ValueError(f"expected one image (1, 3, H, W) and a .png, got {tuple(image.shape)} and {path}")
    levels = to_uint8(image)[0].permute(1, 2, 0).cpu().numpy()
    Image.fromarray(levels).save(png := BytesIO(), format="PNG")
    replace(path, png.getvalue())


def _decode(path: Path, content: bytes, max_pixels: int, allow: Collection[str], background) -> Picture:
    try:
        opened = _open(content)
    except UnidentifiedImageError:
        if content[:4] not in TIFF:
            raise
        return _from_array(_deep_colours(path, content), "TIFF", allow)  # Pillow knows no float colours
    return _convert(opened, path, content, max_pixels, allow, background)._replace(format=_format(opened))


def _format(opened: Image.Image) -> str:
    """Format as Pillow names it; of a TIFF whose compression loses something, with that compression."""
    compression = str(opened.info.get("compression", ""))
    lossy = opened.format == "TIFF" and ("jpeg" in compression or "webp" in compression)
    return f"TIFF with {compression}" if lossy else opened.format or ""


def _convert(opened: Image.Image, path: Path, content: bytes, max_pixels: int, allow, background) -> Picture:
    kind, (width, height) = opened.format or "", opened.size
    if width * height > max_pixels:
        return Picture(problem=f"{width}x{height} pixels are above max_pixels={max_pixels}")
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and kind != "MPO":
        return Picture(problem=f"{frames} frames or pages: expected one picture")
    opened.load()  # of an MPO, the JPEG of phones and stereo cameras, the first: by its standard the main picture
    bits = _bits(opened, content)
    if bits > 8 and (opened.mode.endswith("A") or "transparency" in opened.info):
        return Picture(problem=f"{bits} bits with transparency")
    if bits not in (1, 2, 4, 8, 16, 32):
        return Picture(problem=f"{bits} bits: expected 8")
    if bits > 8:
        one_channel = opened.mode == "F" or opened.mode.startswith("I")
        array = np.asarray(opened) if one_channel else _deep_colours(path, content)
        picture = _from_array(array.astype(np.uint16) if bits == 16 else array, kind, allow)
    else:
        picture = _from_modes(opened, allow, background)
    if picture.image is None:
        return picture
    image, notes = picture.image, list(picture.notes)
    if (turn := opened.getexif().get(ExifTags.Base.Orientation, 1)) in range(2, 9):
        image = _upright(image, turn)
        notes.append(f"turned upright (EXIF orientation {turn})")
    if kind == "MPO" and frames > 1:
        notes.append("the main one of several pictures in an MPO")
    profile, look = ("", ()) if opened.mode == "CMYK" else colour.space_of(opened, content)
    if profile:
        notes.append(f"colour profile {profile!r} not applied")
    if path.suffix and Image.registered_extensions().get(path.suffix.lower(), kind) not in (
        kind,
        "JPEG" if kind == "MPO" else kind,
    ):
        notes.append(f"content is {kind}, the name says {path.suffix}")
    return picture._replace(image=image.contiguous(), notes=tuple(notes), profile=profile, look=look)


def _open(content: bytes) -> Image.Image:
    """Read the header, and the checksums where the format has any (PNG: a flipped byte is found)."""
    with _OPENING:  # Pillow's limit is global; ours is checked by the caller, before the pixels are decoded
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            Image.open(BytesIO(content)).verify()
            return Image.open(BytesIO(content))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _bits(opened: Image.Image, content: bytes) -> int:
    """Bits of a channel in the file; Pillow opens deeper colours than 8 bits as 8 bits without a word."""
    if opened.format == "PNG":
        return content[24]
    if opened.format == "TIFF":
        return max(opened.tag_v2.get(258, (1,)))
    if opened.format == "PPM" and (header := re.match(rb"P[56]\s+(?:#.*\s+)*\d+\s+\d+\s+(\d+)\s", content)):
        return int(header[1]).bit_length()
    return 8


def _deep_colours(path: Path, content: bytes) -> np.ndarray:
    """Colours of more than 8 bits from PNG or TIFF, shape (H, W, C)."""
    if content.startswith(b"\x89PNG"):
        from torchvision.io import decode_png

        return decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8)).permute(1, 2, 0).numpy()
    if content[:4] not in TIFF:
        raise ValueError("deeper than 8 bits: expected PNG or TIFF")
    from skimage.io import imread

    return np.asarray(imread(path))


def _from_modes(opened: Image.Image, allow: Collection[str], background) -> Picture:
    """8-bit modes of Pillow -> three channels."""
    mode, notes, rgb = opened.mode, [], opened
    if mode == "CMYK":
        profile = opened.info.get("icc_profile")
        if "cmyk" not in allow or not profile:
            return Picture(problem=f"CMYK {'with' if profile else 'without'} a profile: convert it to RGB first")
        own = ImageCms.ImageCmsProfile(BytesIO(profile))
        rgb = ImageCms.profileToProfile(opened, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
        notes.append("CMYK converted to sRGB by its profile")
    elif opened.has_transparency_data:
        rgba = opened.convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] == 255:
            notes.append("opaque alpha channel dropped")
        elif background is None:
            way = "helpers.images.read_rgb(path, background=(255, 255, 255)) puts them over white"
            return Picture(problem=f"has transparent pixels: make it opaque first; {way}")
        else:
            rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, (*background, 255)), rgba)
            notes.append(f"transparent pixels over {background}")
        rgb = rgba.convert("RGB")
    elif mode in ("1", "L"):
        rgb = opened.convert("RGB")
        notes.append("grey: three equal channels")
    elif mode in ("P", "RGBA", "LA", "PA", "YCbCr", "RGBX"):
        rgb = opened.convert("RGB")
        notes.append(f"{mode} converted to RGB")
    elif mode != "RGB":
        return Picture(problem=f"colour mode {mode}: convert it to RGB first")
    levels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None]
    return Picture(from_uint8(levels), notes=tuple(notes))


def _from_array(array: np.ndarray, kind: str, allow: Collection[str]) -> Picture:
    """16-bit integers or floats, (H, W) or (H, W, 3)."""
    grey = array.ndim == 2
    if not grey and (array.ndim != 3 or array.shape[2] != 3):
        return Picture(problem=f"expected one grey or RGB picture, got an array of shape {array.shape}")
    notes = ("grey: three equal channels",) if grey else ()
    if array.dtype.kind in "iu":
        what = f"{'16' if array.dtype.itemsize == 2 else '32'}-bit {'grey' if grey else 'colour'}"
        if "16-bit" not in allow or not 0 <= array.min() <= array.max() <= 65535:
            low, high = array.min(), array.max()
            way = "convert it first; helpers.images.read_rgb(path, allow=['16-bit']) divides by 65535"
            hint = way if array.dtype.itemsize == 2 else f"range {low} to {high}"
            return Picture(problem=f"{what}: expected 8 bits; {hint}")
        array, notes = array / 65535, (*notes, f"{what} divided by 65535")
    elif not (array.min() >= 0 and array.max() <= 1):  # also true for NaN
        finite = array[np.isfinite(array)]
        span = f"{finite.min():g} to {finite.max():g}" if finite.size else "nothing finite"
        lost = f", {array.size - finite.size} not finite" if finite.size < array.size else ""
        return Picture(problem=f"floats: expected values in [0, 1], got {span}{lost}")
    else:
        notes = (*notes, "floats in [0, 1] taken as they are")
    planes = torch.from_numpy(array.astype(np.float32)).reshape(*array.shape[:2], -1).permute(2, 0, 1)
    return Picture(planes.expand(3, -1, -1)[None], notes=notes, format=kind)


def _upright(image: Tensor, turn: int) -> Tensor:
    """Undo EXIF orientations 2 to 8."""
    if turn >= 5:
        image = image.transpose(-1, -2)
    return image.flip({2: [-1], 3: [-1, -2], 4: [-2], 5: [], 6: [-1], 7: [-1, -2], 8: [-2]}[turn])
