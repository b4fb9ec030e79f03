"""What the numbers of a file mean: profiles, PNG chunks, EXIF tags; sRGB and linear light."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin

from helpers import colour
from helpers.images import read_picture

RAMP = np.add.outer(np.arange(24) * 5, np.arange(32) * 4).astype(np.uint8)[..., None] + np.array([0, 9, 18], np.uint8)
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))


def xyz_d50(primaries):
    """XYZ of the primaries as a profile has them: scaled to the white of D65, adapted to D50 (Bradford)."""
    to = lambda x, y: np.array([x / y, 1, (1 - x - y) / y])  # noqa: E731
    corners = np.stack([to(*xy) for xy in primaries], axis=1)
    white = to(0.3127, 0.3290)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    gain = (bradford @ [0.9642, 1, 0.8249]) / (bradford @ white)
    return np.linalg.inv(bradford) @ np.diag(gain) @ bradford @ corners * np.linalg.solve(corners, white)


def fixed(x):
    return struct.pack(">i", round(x * 65536))


def profile(name, primaries=None, curve=None):
    """A matrix profile (or a grey one) by hand: `curve` is a gamma, or None for the parametric curve of sRGB."""
    text = name.encode()
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(79)}
    tags[b"wtpt"] = b"XYZ " + bytes(4) + b"".join(map(fixed, (0.9642, 1, 0.8249)))
    if curve is None:
        values = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        trc = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + b"".join(map(fixed, values))
    else:
        trc = b"curv" + bytes(4) + struct.pack(">IH", 1, round(curve * 256)) + bytes(2)
    if primaries is None:
        tags[b"kTRC"] = trc
    else:
        for letter, column in zip(b"rgb", xyz_d50(primaries).T, strict=True):
            tags[bytes([letter]) + b"XYZ"] = b"XYZ " + bytes(4) + b"".join(map(fixed, column))
            tags[bytes([letter]) + b"TRC"] = trc
    body, table, at = b"", struct.pack(">I", len(tags)), 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        table += tag + struct.pack(">II", at + len(body), len(data))
        body += data
    kind = b"GRAY" if primaries is None else b"RGB "
    head = struct.pack(">I4sI4s4s4s", at + len(body), bytes(4), 0x02400000, b"mntr", kind, b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + b"".join(map(fixed, (0.9642, 1, 0.8249)))
    return head + bytes(128 - len(head)) + table + body


def png(path, *chunks):
    """A PNG with chunks (kind, data) before its pixels."""
    info = PngImagePlugin.PngInfo()
    for kind, data in chunks:
        info.add(kind, data)
    Image.fromarray(RAMP).save(path, pnginfo=info)
    return path


def saved(path, icc=None, array=RAMP, **options):
    Image.fromarray(array).save(path, icc_profile=icc, **options)
    return path


def space(path):
    picture = read_picture(path)
    assert picture.image is not None, picture.problem
    assert [f"colour profile {picture.profile!r} not applied"] * bool(picture.profile) == [
        note for note in picture.notes if "colour profile" in note
    ]
    return picture.profile


SRGB = colour.SRGB[:3]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_a_profile_counts_by_its_primaries_and_curve_and_not_by_its_name(tmp_path, suffix):
    for number, (name, primaries, curve, expected) in enumerate(
        [
            ("sRGB IEC61966-2.1", SRGB, None, ""),
            ("my scanner", SRGB, None, ""),
            ("Linear sRGB", SRGB, 1.0, "Linear sRGB"),
            ("sRGB gamma 1.8", SRGB, 1.8, "sRGB gamma 1.8"),
            ("not sRGB at all", P3, None, "not sRGB at all"),
            ("Adobe RGB (1998)", colour.ADOBE[:3], 563 / 256, "Adobe RGB (1998)"),
        ]
    ):
        assert space(saved(tmp_path / f"{number}{suffix}", profile(name, primaries, curve))) == expected, name
    assert (
        space(saved(tmp_path / f"pillow{suffix}", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()))
        == ""
    )


def test_a_grey_profile_has_a_curve_only(tmp_path):
    grey = RAMP[..., 0]
    assert space(saved(tmp_path / "a.png", profile("grey as sRGB"), grey)) == ""
    assert space(saved(tmp_path / "b.png", profile("Linear sRGB grey", curve=1.0), grey)) == "Linear sRGB grey"


def chrm(corners, white=(0.3127, 0.3290)):
    return b"cHRM", b"".join(struct.pack(">I", round(x * 100000)) for x in [*white, *np.ravel(corners)])


def gama(gamma):
    return b"gAMA", struct.pack(">I", round(gamma * 100000))


def test_png_chunks(tmp_path):
    for number, (chunks, expected) in enumerate(
        [
            ([], ""),
            ([(b"sRGB", b"\0")], ""),
            ([(b"sRGB", b"\0"), gama(1.0)], ""),  # sRGB counts before gAMA
            ([gama(0.45455)], ""),
            ([gama(0.45455), chrm(SRGB)], ""),
            ([gama(1.0)], "PNG gamma 1"),
            ([gama(1.0), chrm(SRGB)], "PNG gamma 1, primaries"),
            ([gama(1 / 1.8)], "PNG gamma 0.556"),
            ([chrm(P3)], "PNG gamma 0.455, primaries [[0.68, 0.32]"),
            ([gama(0.45455), chrm(colour.ADOBE[:3])], "PNG gamma 0.455, primaries"),
            ([(b"cICP", bytes([1, 13, 0, 1]))], ""),
            ([(b"cICP", bytes([1, 13, 0, 1])), gama(1.0)], ""),  # cICP counts before all
            ([(b"cICP", bytes([12, 13, 0, 1])), (b"sRGB", b"\0")], "PNG cICP 12/13/0/1"),
            ([(b"cICP", bytes([1, 8, 0, 1]))], "PNG cICP 1/8/0/1"),
            ([(b"cICP", bytes([9, 16, 0, 1]))], "PNG cICP 9/16/0/1"),  # PQ
            ([(b"cICP", bytes([1, 13, 0, 0]))], "PNG cICP 1/13/0/0"),  # limited range
            ([gama(0.0)], ""),
        ]
    ):
        found = space(png(tmp_path / f"{number}.png", *chunks))
        assert found.startswith(expected) and bool(found) == bool(expected), (chunks, found)


def test_a_camera_says_adobe_rgb_by_exif(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[40961] = 0xFFFF  # uncalibrated
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", exif=exif)
    assert space(tmp_path / "a.jpg") == ""
    exif.get_ifd(0x8769)[0xA005] = {1: "R03", 2: b"0100"}
    Image.fromarray(RAMP).save(tmp_path / "b.jpg", exif=exif)
    assert space(tmp_path / "b.jpg") == "Adobe RGB (EXIF)"


def test_alike_is_the_space_whoever_wrote_it(tmp_path):
    spaces = lambda path: (read_picture(path).profile, read_picture(path).look)  # noqa: E731
    of_chunk = lambda number: (b"cICP", bytes([number, 13, 0, 1]))  # noqa: E731
    p3 = [saved(tmp_path / "a.png", profile("Display P3", P3)), png(tmp_path / "b.png", chrm(P3))]
    p3 += [png(tmp_path / "c.png", of_chunk(12))]
    srgb = [
        saved(tmp_path / "d.png"),
        saved(tmp_path / "e.png", profile("x", SRGB)),
        png(tmp_path / "f.png", of_chunk(1)),
    ]
    adobe = [saved(tmp_path / "g.png", profile("Adobe RGB (1998)", colour.ADOBE[:3], 563 / 256))]
    linear = [saved(tmp_path / "h.png", profile("Linear sRGB", SRGB, 1.0)), png(tmp_path / "i.png", gama(1.0))]
    unknown = [png(tmp_path / "j.png", (b"cICP", bytes([9, 16, 0, 1])))]
    kinds = [p3, srgb, adobe, linear, unknown]
    for kind in kinds:
        for other in kinds:
            for one in kind:
                for two in other:
                    assert colour.alike(*spaces(one), *spaces(two)) == (kind is other), (one, two)


def test_the_curve_of_srgb():
    assert colour.to_srgb(torch.tensor([0.5])).item() * 255 == pytest.approx(187.516, abs=1e-3)  # IEC 61966-2-1
    assert colour.to_linear(torch.tensor([0.5])).item() == pytest.approx(0.2140411, abs=1e-6)
    levels = torch.linspace(-0.2, 1.3, 1501, dtype=torch.float64, requires_grad=True)
    light = colour.to_linear(levels)
    assert torch.allclose(colour.to_srgb(light), levels, atol=1e-7) and (light.diff() > 0).all()
    for function in (colour.to_srgb, colour.to_linear):
        x = torch.tensor([-0.1, 0.0, 1e-9, 0.0031308, 0.04045, 1.0], requires_grad=True)
        assert torch.autograd.grad(function(x).sum(), x)[0].isfinite().all()
    assert colour.to_srgb(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0, 1], abs=1e-6)
