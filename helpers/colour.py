"""What the numbers of a file mean: its colour space against sRGB, and sRGB against linear light."""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms
from torch import Tensor

SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290))  # x, y of red, green, blue, white
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290))  # Adobe RGB (1998)
PRIMARIES = {  # ITU-T H.273, table 2: the numbers of a PNG's cICP chunk
    1: SRGB,
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), (0.3127, 0.3290)),
    6: ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07), (0.3127, 0.3290)),
    9: ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046), (0.3127, 0.3290)),
    12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.3127, 0.3290)),
}
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 13: 0.0}  # table 3; 0 stands for the curve of sRGB
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
TOLERANCE = 3  # of Lab in 8 bits: what two programs make of one profile
GREYS = (8, 16, 32, 64, 128, 192, 255)  # probes: a curve shows in the dark ones, primaries in the colours
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 60, 60), (60, 200, 60), (60, 60, 200))
PROBES = np.array([(grey, grey, grey) for grey in GREYS] + list(COLOURS), np.uint8)[None]

Look = tuple[int, ...]  # Lab (D50) of the probes in 8 bits; of a grey space, of the greys only


def to_linear(images: Tensor) -> Tensor:
    """Decode sRGB values to linear light, both in [0, 1] (IEC 61966-2-1); values outside go on along the curve."""
    curved = ((images.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(images <= 0.04045, images / 12.92, curved)


def to_srgb(images: Tensor) -> Tensor:
    """Encode linear light as sRGB values, the inverse of `to_linear`; its derivative is finite everywhere."""
    curved = 1.055 * images.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(images <= 0.0031308, 12.92 * images, curved)


def space_of(opened: Image.Image, content: bytes) -> tuple[str, Look]:
    """Name the colour space of an opened file where it is not sRGB, by its primaries and curve, whatever it is called.

    What comes first counts: the cICP chunk of a PNG, an ICC profile, the sRGB chunk, the chunks cHRM and gAMA, the EXIF
    tags of a camera. A file that says nothing is sRGB.

    Returns:
        The name, "" for sRGB; and what it makes of some probes, () where that is not known.
    """
    if cicp := _chunk(content, b"cICP"):
        name = "PNG cICP " + "/".join(map(str, cicp))
        primaries, gamma = PRIMARIES.get(cicp[0]), GAMMAS.get(cicp[1])
        known = len(cicp) == 4 and primaries and gamma is not None and cicp[2:] == b"\0\1"
        return _judge(name, _look(primaries, gamma) if known else ())
    if icc := opened.info.get("icc_profile"):
        return _of_profile(bytes(icc))
    if "srgb" in opened.info:
        return "", ()
    gamma, corners = opened.info.get("gamma"), opened.info.get("chromaticity")
    if opened.format == "PNG" and (gamma or corners):
        plain = not gamma or abs(gamma * 2.2 - 1) < 0.05  # 1 / 2.2 is what PNG files say for sRGB
        white, *others = np.reshape(corners, (4, 2)).tolist() if corners else (SRGB[3], *SRGB[:3])
        name = f"PNG gamma {gamma or 1 / 2.2:.3g}" + (f", primaries {np.round(others, 3).tolist()}" if corners else "")
        try:
            look = _look((*others, white), 0 if plain else 1 / gamma)
        except (np.linalg.LinAlgError, ZeroDivisionError):
            look = ()  # no colours at all
        return _judge(name, look)
    exif = opened.getexif()
    adobe = exif.get_ifd(ExifTags.IFD.Interop).get(1) == "R03"
    if adobe or exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace) == 2:
        return "Adobe RGB (EXIF)", _look(ADOBE, 563 / 256)
    return "", ()


def alike(name: str, look: Look, other_name: str, other: Look) -> bool:
    """Whether two spaces, as `space_of` gives them, are one: the same primaries and curve, or else the same name."""
    if look and other:
        return _near(look, other)
    return name == other_name


def _judge(name: str, look: Look) -> tuple[str, Look]:
    return ("", ()) if look and _near(look, _look(SRGB, 0)) else (name, look)


def _near(one: Look, other: Look) -> bool:
    both = min(len(one), len(other))  # a grey space tells nothing of colours
    return np.abs(np.subtract(one[:both], other[:both])).max() <= TOLERANCE


@lru_cache(maxsize=64)
def _of_profile(icc: bytes) -> tuple[str, Look]:
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        name = ImageCms.getProfileDescription(profile).strip() or "unnamed"
    except (OSError, ImageCms.PyCMSError):
        return "unreadable", ()
    kind = {"RGB": "RGB", "GRAY": "L"}.get(profile.profile.xcolor_space.strip())
    if kind is None:
        return name, ()
    probes = Image.fromarray(PROBES if kind == "RGB" else np.array([GREYS], np.uint8))
    try:
        lab = ImageCms.createProfile("LAB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        made = ImageCms.profileToProfile(probes, profile, lab, renderingIntent=intent, outputMode="LAB")
    except ImageCms.PyCMSError:
        return name, ()
    found = np.asarray(made)[0].astype(int)
    found[:, 1:] = (found[:, 1:] + 128) % 256 - 128  # a and b have a sign
    return _judge(name, tuple(found.ravel().tolist()))


def _look(primaries: Sequence[tuple[float, float]], gamma: float) -> Look:
    """Lab of the probes in a space of these primaries, its white adapted to D50 (Bradford); gamma 0 is sRGB's curve."""
    levels = torch.from_numpy(PROBES[0] / 255)
    light = (levels**gamma if gamma else to_linear(levels)).numpy()
    *corners, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in primaries)
    corners = np.stack(corners, axis=1)
    xyz = light @ (corners * np.linalg.solve(corners, white)).T
    cones = (BRADFORD @ D50) / (BRADFORD @ white)
    xyz = xyz @ (np.linalg.inv(BRADFORD) @ (cones[:, None] * BRADFORD)).T / D50
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = np.stack([(116 * f[:, 1] - 16) * 2.55, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    return tuple(np.clip(np.rint(lab), -128, 255).astype(int).ravel().tolist())


def _chunk(content: bytes, kind: bytes) -> bytes:
    """The data of a PNG's chunk before its pixels, b"" where it has none."""
    if not content.startswith(b"\x89PNG"):
        return b""
    at = 8
    while at + 8 <= len(content) and content[at + 4 : at + 8] != b"IDAT":
        length = int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] == kind:
            return content[at + 8 : at + 8 + length]
        at += 12 + length
    return b""
