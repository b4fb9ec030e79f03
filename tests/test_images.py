"""Reading and writing pictures, 8-bit levels, rows B02 to B18, B24, B27 and B28 of the bad-input matrix."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from helpers import images
from helpers.images import (
    check_images,
    crop_to_multiple,
    from_uint8,
    quantize,
    read_picture,
    read_rgb,
    write_rgb,
)

RAMP = np.add.outer(np.arange(24) * 5, np.arange(32) * 4).astype(np.uint8)[..., None] + np.array([0, 9, 18], np.uint8)


def saved(path, array=RAMP, **options):
    Image.fromarray(array).save(path, **options)
    return path


def levels_of(path, **options):
    """8-bit levels as read, (H, W, 3)."""
    return images.to_uint8(read_rgb(path, **options))[0].permute(1, 2, 0).numpy()


def png16(path, array, depth=16):
    """A 16-bit PNG by hand: grey (H, W), colour (H, W, 3) or colour with alpha (H, W, 4)."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    colour = {2: 0, 3: {3: 2, 4: 6}.get(array.shape[-1])}[array.ndim]
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], depth, colour, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in array)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


# ---- pixels


def test_read_is_exact_and_write_inverts_it(tmp_path):
    image = read_rgb(saved(tmp_path / "a.png"))
    assert image.shape == (1, 3, 24, 32) and image.dtype == torch.float32
    np.testing.assert_array_equal((image[0].permute(1, 2, 0) * 255).numpy(), RAMP)
    write_rgb(image, tmp_path / "b.png")
    assert torch.equal(read_rgb(tmp_path / "b.png"), image)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]  # no temporary file is left


def test_write_refuses_what_would_change_the_pixels(tmp_path):
    image = torch.rand(1, 3, 4, 4)
    for wrong, name in ((image, "a.jpg"), (image[0], "a.png"), (image.repeat(2, 1, 1, 1), "a.png")):
        with pytest.raises(ValueError, match="expected one image"):
            write_rgb(wrong, tmp_path / name)
    with pytest.raises(ValueError, match="finite"):
        write_rgb(image * torch.nan, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_quantize_rounds_to_nearest_and_keeps_nan():
    values = torch.tensor([-1.0, 0.49 / 255, 0.51 / 255, 2.0, torch.nan])
    torch.testing.assert_close(quantize(values), torch.tensor([0, 0, 1 / 255, 1, torch.nan]), equal_nan=True)
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(images.to_uint8(from_uint8(levels)), levels)
    assert torch.equal(quantize(from_uint8(levels)), from_uint8(levels))
    with pytest.raises(ValueError, match="NaN"):
        images.to_uint8(values)


def test_crop_to_multiple():
    batch = torch.arange(2 * 3 * 7 * 9).reshape(2, 3, 7, 9)
    assert torch.equal(crop_to_multiple(batch, 4), batch[..., :4, :8])
    with pytest.raises(ValueError, match="at least 8x8 pixels, got 7x9"):
        crop_to_multiple(batch, 8)


def test_b24_check_images_refuses_other_ranges_and_shapes():
    good = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    check_images(good, multiple_of=4)
    bad = {
        "torch.Tensor": good.numpy(),
        "divide 8-bit images by 255": (good * 255).to(torch.uint8),
        r"\(N, 3, H, W\), got \(3, 8, 8\)": good[0],
        r"\(N, 3, H, W\), got \(0, 3, 8, 8\)": good[:0],
        "got .*, 2": good.clamp(max=0.5) + 2 * (good == good.max()),
        r"\[-1, ": torch.cat([good[:1], -torch.ones_like(good[:1])]),
        "nan": torch.where(good == good.max(), torch.nan, good),
        "multiples of 4, got 8x6": good[..., :6],
    }
    for message, wrong in bad.items():
        with pytest.raises(ValueError, match=message):
            check_images(wrong, multiple_of=4)


# ---- files that are refused, with the reason


def problem(path, **options):
    picture = read_picture(path, **options)
    assert picture.image is None
    with pytest.raises(ValueError) as caught:
        read_rgb(path, **options)
    assert str(path) in str(caught.value) and picture.problem in str(caught.value)
    return picture.problem


def test_b02_zero_bytes(tmp_path):
    (tmp_path / "a.png").touch()
    assert "zero bytes" in problem(tmp_path / "a.png")


def test_b03_web_page(tmp_path):
    (tmp_path / "a.png").write_text("\n<!DOCTYPE html><html><body>Quota exceeded</body></html>")
    assert "looks like a web page: failed download?" in problem(tmp_path / "a.png")


def test_b04_truncated_jpeg(tmp_path, monkeypatch):
    whole = saved(tmp_path / "a.jpg").read_bytes()
    for kept in (len(whole) // 2, len(whole) * 9 // 10):
        (tmp_path / "a.jpg").write_bytes(whole[:kept])
        assert "truncated" in problem(tmp_path / "a.jpg").lower()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # some other library may have done it
    with pytest.raises(ValueError, match="LOAD_TRUNCATED_IMAGES"):
        read_rgb(tmp_path / "a.jpg")


def test_b05_truncated_png(tmp_path):
    whole = saved(tmp_path / "a.png").read_bytes()
    for kept in (20, 60, len(whole) // 2, len(whole) - 20):
        (tmp_path / "a.png").write_bytes(whole[:kept])
        assert "cannot be decoded" in problem(tmp_path / "a.png")


def test_b06_flipped_byte_in_png(tmp_path):
    whole = saved(tmp_path / "a.png").read_bytes()
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0x10
        (tmp_path / "a.png").write_bytes(broken)
        picture = read_picture(tmp_path / "a.png")
        same = picture.image is not None and np.array_equal(levels_of(tmp_path / "a.png"), RAMP)
        assert picture.problem or same, f"byte {place} of {len(whole)} changes pixels in silence"
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0x10
    (tmp_path / "a.png").write_bytes(broken)
    assert "cannot be decoded" in problem(tmp_path / "a.png")


def test_b07_jpeg_named_png(tmp_path):
    picture = read_picture(saved(tmp_path / "a.png", format="JPEG"))
    assert picture.format == "JPEG" and picture.notes == ("content is JPEG, the name says .png",)
    assert read_picture(saved(tmp_path / "b.jpg")).notes == ()


def test_b08_too_many_pixels(tmp_path):
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    small = saved(tmp_path / "a.png").read_bytes()
    start = small.index(b"IHDR")
    patched = b"IHDR" + header
    (tmp_path / "a.png").write_bytes(
        small[:start] + patched + struct.pack(">I", zlib.crc32(patched)) + small[start + 21 :]
    )
    limit = Image.MAX_IMAGE_PIXELS
    assert "20000x20000 pixels are above max_pixels=89478485" in problem(tmp_path / "a.png")
    path = saved(tmp_path / "b.png")
    assert "32x24 pixels are above max_pixels=767" in problem(path, max_pixels=767)
    assert read_rgb(path, max_pixels=768).shape == (1, 3, 24, 32)
    assert limit == Image.MAX_IMAGE_PIXELS  # the global of Pillow is as before


def test_b09_sixteen_bit_grey(tmp_path):
    ramp = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 85
    for path in (png16(tmp_path / "a.png", ramp), saved(tmp_path / "a.tif", ramp)):
        assert "16-bit grey" in problem(path)
        image = read_rgb(path, allow={"16-bit"})
        np.testing.assert_allclose(image[0, 0].numpy() * 255, ramp / 257, atol=1e-4)
        assert torch.equal(image[0, 0], image[0, 2])
        assert "16-bit grey divided by 65535" in read_picture(path, allow={"16-bit"}).notes


def test_b10_sixteen_bit_colour(tmp_path):
    from skimage.io import imsave

    colours = (np.arange(24 * 32 * 3, dtype=np.uint16) * 28).reshape(24, 32, 3)
    png16(tmp_path / "a.png", colours)
    imsave(tmp_path / "a.tif", colours, check_contrast=False)
    for path in (tmp_path / "a.png", tmp_path / "a.tif"):
        assert "16-bit colour" in problem(path)
        image = read_rgb(path, allow={"16-bit"})
        np.testing.assert_allclose(image[0].permute(1, 2, 0).numpy(), colours / 65535, atol=1e-7)
    header = b"P6\n# a comment\n32 24\n65535\n"
    (tmp_path / "a.ppm").write_bytes(header + colours.astype(">u2").tobytes())
    assert "deeper than 8 bits: expected PNG or TIFF" in problem(tmp_path / "a.ppm", allow={"16-bit"})
    with_alpha = np.concatenate([colours, colours[..., :1]], 2)
    assert "transparency" in problem(png16(tmp_path / "b.png", with_alpha), allow={"16-bit"})


def test_b11_float_tiff(tmp_path):
    from skimage.io import imsave

    grey = np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
    picture = read_picture(saved(tmp_path / "a.tif", grey))
    np.testing.assert_array_equal(picture.image[0, 1].numpy(), grey)
    assert "floats in [0, 1] taken as they are" in picture.notes
    colours = np.stack([grey, grey / 2, grey / 4], 2)
    imsave(tmp_path / "b.tif", colours, check_contrast=False)
    np.testing.assert_array_equal(read_rgb(tmp_path / "b.tif")[0].permute(1, 2, 0).numpy(), colours)
    assert "got 0 to 255" in problem(saved(tmp_path / "c.tif", grey * 255))
    assert "got 0 to 1.01" in problem(saved(tmp_path / "c.tif", grey * np.float32(1.01)))
    assert "got -0.01 to 0.99" in problem(saved(tmp_path / "c.tif", grey - np.float32(0.01)))
    holes = np.where(grey > 0.9, np.float32(np.nan), grey)
    assert "not finite" in problem(saved(tmp_path / "d.tif", holes))


def test_b12_transparency(tmp_path):
    half = np.concatenate([RAMP, np.where(RAMP[..., :1] > 100, 255, 0).astype(np.uint8)], 2)
    opaque = np.concatenate([RAMP, np.full((24, 32, 1), 255, np.uint8)], 2)
    picture = read_picture(saved(tmp_path / "a.png", opaque))
    np.testing.assert_array_equal(levels_of(tmp_path / "a.png"), RAMP)
    assert picture.notes == ("opaque alpha channel dropped",)
    palette = Image.fromarray(RAMP).quantize(8)
    palette.save(tmp_path / "c.png", transparency=0)
    Image.fromarray(half[..., [0, 3]]).save(tmp_path / "d.png")  # LA
    for path in (saved(tmp_path / "b.png", half), tmp_path / "c.png", tmp_path / "d.png"):
        assert "transparent pixels" in problem(path)
        assert read_rgb(path, background=(0, 255, 0)).shape == (1, 3, 24, 32)
    over = levels_of(tmp_path / "b.png", background=(0, 255, 0))
    hidden = half[..., 3] == 0
    assert hidden.any() and (over[hidden] == [0, 255, 0]).all() and (over[~hidden] == RAMP[~hidden]).all()
    assert read_picture(tmp_path / "b.png", background=(0, 255, 0)).notes == ("transparent pixels over (0, 255, 0)",)


def test_b13_palette(tmp_path):
    palette = Image.fromarray(RAMP).quantize(8)
    palette.save(tmp_path / "a.png")
    np.testing.assert_array_equal(levels_of(tmp_path / "a.png"), np.asarray(palette.convert("RGB")))
    assert read_picture(tmp_path / "a.png").notes == ("P converted to RGB",)


def test_b14_one_bit_and_grey(tmp_path):
    for array in (RAMP[..., 0] > 100, RAMP[..., 0]):
        picture = read_picture(saved(tmp_path / "a.png", array))
        expected = array * 255 if array.dtype == bool else array
        for channel in range(3):
            np.testing.assert_array_equal(images.to_uint8(picture.image)[0, channel].numpy(), expected)
        assert picture.notes == ("grey: three equal channels",)


def cmyk_profile():
    """A four-colour ICC profile by hand: one corner of the lookup table for each ink on or off."""
    inks = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    table = b"".join(
        struct.pack(">3B", int(255 * (1 - k) * (3 - c - m - y) / 3), 128 + 60 * m - 60 * c, 128 + 60 * y - 30 * c)
        for c, m, y, k in inks
    )
    straight = bytes(range(256))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + straight * 4 + table + straight * 3
    text = b"four inks\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"A2B0": lut,
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"cprt": b"text\0\0\0\0none\0",
    }
    offset, index, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        index += name + struct.pack(">II", offset + len(body), len(content))
        body += content
    size = offset + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return header + struct.pack(">I", len(tags)) + index + body


def test_b15_cmyk(tmp_path):
    cmyk = Image.merge("CMYK", [Image.fromarray(RAMP[..., 0] * (i == 3)) for i in range(4)])
    cmyk.save(tmp_path / "a.jpg")
    assert "CMYK without a profile" in problem(tmp_path / "a.jpg", allow={"cmyk"})
    cmyk.save(tmp_path / "b.jpg", icc_profile=cmyk_profile())
    assert "CMYK with a profile" in problem(tmp_path / "b.jpg")
    picture = read_picture(tmp_path / "b.jpg", allow={"cmyk"})
    assert picture.notes == ("CMYK converted to sRGB by its profile",) and picture.profile == ""
    grey = picture.image.mean(1)[0]
    assert grey[0, 0] > 0.9 and grey[-1, -1] < 0.5  # more black ink, darker
    expected = ImageCms.profileToProfile(
        Image.open(tmp_path / "b.jpg"),
        ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile())),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
    )
    np.testing.assert_array_equal(levels_of(tmp_path / "b.jpg", allow={"cmyk"}), np.asarray(expected))


@pytest.mark.parametrize("turn", range(1, 9))
def test_b16_exif_orientation(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    path = saved(tmp_path / "a.png", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(levels_of(path), upright)
    assert upright.shape[:2] == ((24, 32) if turn < 5 else (32, 24))
    assert any("upright" in note for note in read_picture(path).notes) == (turn > 1)


def test_b17_colour_profile(tmp_path):
    srgb, other = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes() for name in ("sRGB", "XYZ"))
    assert read_picture(saved(tmp_path / "a.png", icc_profile=srgb)).profile == ""
    picture = read_picture(saved(tmp_path / "b.png", icc_profile=other))
    assert "XYZ" in picture.profile and picture.notes == (f"colour profile {picture.profile!r} not applied",)
    np.testing.assert_array_equal(levels_of(tmp_path / "b.png"), RAMP)  # pixels untouched
    assert read_picture(saved(tmp_path / "c.png", icc_profile=b"no profile")).profile == "unreadable"


def test_b18_animated_or_multi_page(tmp_path):
    frames = [
        Image.fromarray(RAMP),
        Image.fromarray(RAMP[::-1].copy()),
        Image.fromarray(RAMP[:, ::-1].copy()),
    ]
    for name in ("a.gif", "a.tif", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert "3 frames or pages" in problem(tmp_path / name)


def test_b18_of_a_phones_several_pictures_the_main_one_is_taken(tmp_path):
    frames = [Image.fromarray(RAMP), Image.fromarray(RAMP[::-1, :16].copy())]
    exif = Image.Exif()
    exif[0x0112] = 3
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:], quality=100, exif=exif)
    frames[0].save(tmp_path / "b.jpg", quality=100, exif=exif)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.problem == "" and picture.format == "MPO"
    assert torch.equal(picture.image, read_rgb(tmp_path / "b.jpg"))
    assert picture.notes == ("turned upright (EXIF orientation 3)", "the main one of several pictures in an MPO")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[:200])
    assert "cannot be decoded" in problem(tmp_path / "cut.jpg")


@pytest.mark.skipif(os.name == "nt", reason="no links and pipes")
def test_b27_unreadable(tmp_path, monkeypatch):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    assert "cannot be read" in problem(tmp_path / "loop.png")
    assert "cannot be read: No such file" in problem(tmp_path / "gone.png")
    assert "expected a file" in problem(tmp_path / "pipe.png")
    path = saved(tmp_path / "locked.png")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything: let the system call refuse

        def refuse(self):
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    assert "cannot be read: Permission denied" in problem(path)


def test_b28_odd_names(tmp_path):
    odd = ["with space", "{x}", "zeile\num", "bild-\u00e4\u6f22", "a" * 251, "'\"$x;"]
    if os.name == "nt":
        odd = [name for name in odd if not set(name) & set('\n"')]
    for name in odd:
        path = saved(tmp_path / f"{name}.png")
        image = read_rgb(path)
        write_rgb(image.flip(-1), path)
        assert torch.equal(read_rgb(path), image.flip(-1))


def test_other_modes_and_options(tmp_path):
    Image.fromarray(RAMP).convert("LAB").save(tmp_path / "a.tif")
    assert "colour mode LAB" in problem(tmp_path / "a.tif")
    (tmp_path / "b.png").write_bytes(b"GIF89a? no")
    assert "cannot be decoded" in problem(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"allow: expected some of \['16-bit', 'cmyk'\], got \['16bit'\]"):
        read_rgb(saved(tmp_path / "c.png"), allow={"16bit"})


def test_metadata_chunks_do_not_matter(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 100)
    path = saved(tmp_path / "a.png", pnginfo=text)
    np.testing.assert_array_equal(levels_of(path), RAMP)
    assert read_picture(path).sha256 != read_picture(saved(tmp_path / "b.png")).sha256


@pytest.mark.parametrize("multiple", [0, -1, "4", 2.5, None, True])
def test_a_multiple_is_an_integer_of_at_least_1(multiple):
    with pytest.raises(ValueError, match="multiple: expected an integer of at least 1, got "):
        crop_to_multiple(torch.rand(1, 3, 8, 9), multiple)
    assert crop_to_multiple(torch.rand(1, 3, 8, 9), np.int64(4)).shape == (1, 3, 8, 8)


def test_tensors_without_dense_values_are_refused():
    image = torch.rand(1, 3, 8, 8)
    for wrong, got in (
        (image.to_sparse(), r"torch.sparse_coo; to_dense\(\) makes one"),
        (image.to("meta"), "one on meta"),
    ):
        with pytest.raises(ValueError, match=f"lr: expected a dense tensor with values, got {got}"):
            check_images(wrong, name="lr")
