"""The preflight: rows B01, B07, B09, B16, B17, B19 to B22, B25 to B29 and B42."""

import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin

from helpers import colour, images
from helpers.datasets import load, names, preflight
from helpers.downscalers import DOWNSCALERS, pairs
from tests.test_colour import gama, profile
from tests.test_datasets_sources import picture, three
from tests.test_images import png16


@pytest.fixture
def hr(tmp_path):
    return three(tmp_path / "hr", 32)


@pytest.fixture
def lr(tmp_path):
    return three(tmp_path / "lr", 8)


def stops(*args, **options):
    """The message with which the preflight refuses."""
    with pytest.raises(ValueError) as caught:
        preflight(*args, **options)
    return str(caught.value)


def test_preflight_reports_everything_at_once(hr, lr):
    (hr / "empty.png").touch()
    (hr / "page.png").write_text("<html>")
    whole = (hr / "a.png").read_bytes()
    (hr / "cut.png").write_bytes(whole[: len(whole) // 2])
    picture(hr / "small.png", 20, 40, seed=7)
    report = preflight(hr, 4, minimum_side=31)
    assert report.names == ["a", "b", "c"]
    assert [name for name, _ in report.aside] == ["cut", "empty", "page", "small"]
    message = stops(hr, 4, minimum_side=31, strict=True)
    for expected in (
        "4 problems",
        "cut: cannot be",
        "empty: empty file",
        "page: looks like a web",
        "small: 20x40",
    ):
        assert expected in message
    picture(lr / "a.png", 9, 9)
    message = stops(hr, 3, minimum_side=31, scales=(2, 4), lr_folder=lr)
    for expected in (
        "scale: expected one with an upscaler, 2, 4, got 3",
        "no LR image for 4",
        "a: expected an LR",
        "page",
    ):
        assert expected in message


def test_b01_missing_or_empty_folder_or_wrong_extension(tmp_path):
    assert "expected a folder of images (.bmp .gif .jpeg .jpg" in stops(tmp_path / "none", 4)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty}: expected images" in stops(empty, 4)
    (empty / "a.txt").write_text("text")
    assert "got 1 other entries" in stops(empty, 4)
    (empty / "a.png").touch()
    assert "no image of 1 is left" in stops(empty, 4) and "zero bytes" in stops(empty, 4)


def test_b07_lossy_lr(hr, lr):
    picture(lr / "b.png", 8, 8, format="JPEG")
    message = stops(hr, 4, lr_folder=lr)
    assert "1 problem before" in message and "b: expected a lossless LR file (PNG, BMP, TIFF, PPM), got JPEG" in message
    report = preflight(hr, 4, lr_folder=lr, allow_lossy_lr=True)
    assert report.names == ["a", "b", "c"] and "LR content is JPEG, the name says .png: b" in report.notes


def test_b09_b10_sixteen_bits_are_set_aside_grey_or_not_or_taken_on_request(hr, lr):
    ramp = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64
    Image.fromarray(ramp).save(hr / "b.png")
    png16(hr / "c.png", np.stack([ramp] * 3, 2))
    report = preflight(hr, 4)
    assert report.names == ["a"]
    assert [(name, why[:18]) for name, why in report.aside] == [
        ("b", "16-bit grey: expec"),
        ("c", "16-bit colour: exp"),
    ]
    assert "helpers.images.read_rgb(path, allow=['16-bit'])" in report.aside[0][1]  # where a reader can say it
    assert preflight(hr, 4, allow={"16-bit"}).names == ["a", "b", "c"]
    assert "b: 16-bit grey" in stops(hr, 4, strict=True)


def test_a_tiff_is_a_lossless_lr_file_at_both_doors(hr, lr):
    picture(lr / "b.tif", 8, 8)
    (lr / "b.png").unlink()
    assert preflight(hr, 4, lr_folder=lr).names == ["a", "b", "c"]


def test_b16_exif_orientation_of_hr_and_lr_alike(hr, lr):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(hr / "b.png", 32, 64, exif=exif)
    picture(lr / "b.png", 8, 16, exif=exif)
    report = preflight(hr, 4, lr_folder=lr)
    assert report.names == ["a", "b", "c"]
    assert load(hr, "b").shape == (1, 3, 64, 32)
    picture(lr / "b.png", 8, 16)
    assert "b: expected an LR image of 16x8" in stops(hr, 4, lr_folder=lr)


def test_b17_profiles_of_hr_and_lr_agree(hr, lr):
    other = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    picture(hr / "b.png", icc_profile=other)
    assert any("XYZ" in note and note.endswith("not applied: b") for note in preflight(hr, 4).notes)
    assert "b: expected one colour profile, got 'XYZ" in stops(hr, 4, lr_folder=lr)
    picture(lr / "b.png", 8, 8, icc_profile=other)
    assert preflight(hr, 4, lr_folder=lr).names == ["a", "b", "c"]


def test_b17_a_linear_lr_of_an_srgb_hr_is_refused_whatever_it_is_called(hr, lr):
    for icc, chunks, taken in (
        (profile("Linear sRGB", colour.SRGB[:3], 1.0), [], False),
        (None, [gama(1.0)], False),
        (None, [gama(0.45455)], True),
        (profile("sRGB of a scanner", colour.SRGB[:3]), [], True),
    ):
        info = PngImagePlugin.PngInfo()
        for chunk in chunks:
            info.add(*chunk)
        picture(lr / "b.png", 8, 8, icc_profile=icc, pnginfo=info)
        if taken:
            assert preflight(hr, 4, lr_folder=lr).names == ["a", "b", "c"]
        else:
            assert "b: expected one colour profile, got 'sRGB' for HR" in stops(hr, 4, lr_folder=lr)


def test_b19_size_not_a_multiple_of_the_scale(hr, lr):
    picture(hr / "b.png", 35, 34)
    report = preflight(hr, 4, lr_folder=lr)  # LR is 8x8, that of the 32x32 crop
    assert report.names == ["a", "b", "c"] and "cropped to a multiple of 4: b" in report.notes


def photograph(height, width, seed=0):
    """Soft spots, lines and noise: enough to see where a pixel lies. Levels (height, width, 3)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    levels = np.zeros((height, width, 3)) + 120
    for _ in range(40):
        place, size = random.uniform(0, (height, width)), random.uniform(2, 14)
        spot = np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / (2 * size**2))
        levels += spot[..., None] * random.uniform(-90, 90, 3)
    return np.clip(levels + random.normal(0, 3, levels.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "height, width, scale", [(127, 190, 4), (131, 192, 4), (185, 189, 3), (191, 199, 8), (130, 255, 8)]
)
@pytest.mark.parametrize("filter", [Image.BICUBIC, Image.BOX, Image.BILINEAR])
def test_lr_made_of_the_whole_picture_is_refused_and_of_the_crop_taken(tmp_path, height, width, scale, filter):
    """Both have floor(H / s) pixels; the content of the former drifts by up to (H mod s) HR pixels."""
    whole = Image.fromarray(photograph(height, width))
    cropped = whole.crop((0, 0, width - width % scale, height - height % scale))
    size = width // scale, height // scale
    for folder, image in (("hr", whole), ("crop", cropped.resize(size, filter)), ("all", whole.resize(size, filter))):
        (tmp_path / folder).mkdir()
        image.save(tmp_path / folder / "a.png")
    report = preflight(tmp_path / "hr", scale, lr_folder=tmp_path / "crop")
    assert report.names == ["a"] and not any("cannot" in note or "tell" in note for note in report.notes)
    message = stops(tmp_path / "hr", scale, lr_folder=tmp_path / "all")
    assert f"got {size[1]}x{size[0]} made of all {height}x{width}" in message and "crop_to_multiple" in message
    hr, lr = (images.read_rgb(tmp_path / folder / "a.png") for folder in ("hr", "all"))
    assert pairs.made_from_whole(hr, lr, scale) is True


@pytest.mark.parametrize("height, width", [(29, 30), (33, 34), (66, 67)])
@pytest.mark.parametrize("filter", [Image.BICUBIC, Image.BOX, Image.LANCZOS])
def test_lr_of_a_small_whole_picture_is_known_where_a_plain_filter_made_it(height, width, filter):
    levels = np.random.default_rng(height).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    whole = Image.fromarray(levels).resize((width, height), Image.BICUBIC)
    cropped = whole.crop((0, 0, width // 4 * 4, height // 4 * 4))
    hr = images.from_uint8(torch.from_numpy(np.asarray(whole).copy())).permute(2, 0, 1)[None]
    for image, expected in ((whole, True), (cropped, False)):
        lr = np.asarray(image.resize((width // 4, height // 4), filter)).copy()
        assert pairs.made_from_whole(hr, images.from_uint8(torch.from_numpy(lr)).permute(2, 0, 1)[None], 4) is expected


def test_lr_of_a_rounded_up_size_is_refused_with_both_sizes(tmp_path):
    """As MATLAB's imresize(hr, 1 / s) makes it of a whole picture."""
    whole = Image.fromarray(photograph(35, 34))
    for folder, image in (("hr", whole), ("lr", whole.resize((9, 9), Image.BICUBIC))):
        (tmp_path / folder).mkdir()
        image.save(tmp_path / folder / "b.png")
    message = stops(tmp_path / "hr", 4, lr_folder=tmp_path / "lr")
    assert "expected an LR image of 8x8 for scale 4, got 9x9" in message
    assert "HR is 35x34 and counts as cropped to 32x32: make it of that crop" in message


def test_a_flat_picture_cannot_tell_where_it_lies_and_the_note_says_so(tmp_path):
    for folder, side in (("hr", 99), ("lr", 24)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (side, side), (90, 120, 30)).save(tmp_path / folder / "flat.png")
    report = preflight(tmp_path / "hr", 4, lr_folder=tmp_path / "lr")
    assert report.names == ["flat"] and any(note.startswith("too little detail to tell") for note in report.notes)


@pytest.mark.parametrize("name", ["bicubic", "nearest", "nearest_topleft", "dpid", "perceptual", "l0", "torch_bicubic"])
@pytest.mark.parametrize("seed", range(3))
def test_no_downscaler_of_ours_looks_like_made_of_the_whole(name, seed):
    hr = images.from_uint8(torch.from_numpy(photograph(159, 187, seed))).permute(2, 0, 1)[None]
    lr = images.quantize(DOWNSCALERS[name](images.crop_to_multiple(hr, 4), 4))
    assert pairs.made_from_whole(hr, lr, 4) is not True


def test_b20_too_small(hr):
    picture(hr / "b.png", 31, 40)
    [(name, reason)] = preflight(hr, 4, minimum_side=31).aside  # 28 pixels after cropping to the multiple
    assert name == "b" and "31x40 is too small at scale 4: expected sides of at least 31" in reason
    assert preflight(hr, 1, minimum_side=31).aside == []
    [(_, reason)] = preflight(hr, 4, minimum_lr_side=8).aside
    assert "8 after downscaling" in reason
    assert len(preflight(hr, 4, minimum_lr_side=7).names) == 3


def test_b21_not_square_odd_or_very_wide(hr):
    picture(hr / "d.png", 179, 32)
    picture(hr / "e.png", 1, 4096)
    report = preflight(hr, 4, minimum_side=31)
    assert report.names == ["a", "b", "c", "d"] and report.aside[0][0] == "e"
    assert load(hr, "d", multiple_of=4).shape == (1, 3, 176, 32)


def test_b22_ratio_is_not_the_scale_or_has_no_upscaler(hr, lr):
    picture(lr / "b.png", 8, 11)
    message = stops(hr, 4, lr_folder=lr, scales=(2, 4, 8))
    assert "b: expected an LR image of 8x8 for scale 4, got 8x11, a ratio of 4 by 2.91" in message
    assert "scales with an upscaler: 2, 4, 8" in message
    assert "expected one with an upscaler, 2, 4, 8, got 5" in stops(hr, 5, scales=(2, 4, 8))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        preflight(hr, 0)


def test_b25_pairs_by_stem(hr, lr):
    (lr / "a.png").rename(lr / "z.png")
    message = stops(hr, 4, lr_folder=lr)
    assert "no LR image for 1: a" in message and "no HR image for 1 LR images: z" in message
    (lr / "z.png").rename(lr / "a.png")
    picture(lr / "a.jpg", 8, 8)
    picture(lr / "B.png", 8, 8)
    message = stops(hr, 4, lr_folder=lr)
    assert "each stem once" in message and "a.jpg, a.png" in message and "B.png, b.png" in message
    picture(hr / "c.bmp")
    with pytest.raises(ValueError, match="c.bmp, c.png"):
        names(hr)


def test_b25_accents_composed_or_not_are_one_stem(hr, lr):
    picture(hr / "caf\u00e9.png")
    picture(lr / "cafe\u0301.png", 8, 8)  # as macOS writes it
    assert "caf\u00e9" in preflight(hr, 4, lr_folder=lr).names
    assert load(lr, "caf\u00e9").shape == load(lr, "cafe\u0301").shape == (1, 3, 8, 8)


def test_b26_hidden_files_and_folders_are_ignored_and_counted(hr):
    for name in (".DS_Store", "Thumbs.db", "._a.png", "notes.txt"):
        (hr / name).write_bytes(b"x")
    (hr / "folder.png").mkdir()
    report = preflight(hr, 4)
    assert report.names == ["a", "b", "c"] and report.aside == []
    [note] = report.notes
    assert all(name in note for name in (".DS_Store", "Thumbs.db", "._a.png", "notes.txt", "folder.png"))


@pytest.mark.skipif(os.name == "nt", reason="no links and pipes")
def test_b27_unreadable_files_and_links(hr):
    (hr / "loop.png").symlink_to(hr / "loop.png")
    (hr / "gone.png").symlink_to(hr / "nowhere.png")
    os.mkfifo(hr / "pipe.png")
    report = preflight(hr, 4)
    assert report.names == ["a", "b", "c"]
    assert [name for name, _ in report.aside] == ["gone", "loop", "pipe"]


def test_b28_odd_names(tmp_path):
    odd = ["with space", "{x}", "new\nline", "\u00e4\u6f22", "n" * 251, "'\"$x;", "a.b", "-flag"]
    if os.name == "nt":
        odd = [name for name in odd if not set(name) & set('\n"')]
    for seed, name in enumerate(odd):
        picture(tmp_path / "odd" / f"{name}.png", seed=seed)
    assert sorted(preflight(tmp_path / "odd", 4).names) == sorted(odd)
    assert all(load(tmp_path / "odd", name).shape == (1, 3, 32, 32) for name in odd)
    if sys.platform == "linux":  # elsewhere such a name cannot exist
        path = os.fsencode(tmp_path / "odd") + b"/bad\xff.png"
        with open(path, "wb") as stream:
            stream.write((tmp_path / "odd" / "{x}.png").read_bytes())
        assert "file names in UTF-8" in stops(tmp_path / "odd", 4)


def test_b29_same_picture_twice(hr):
    Image.open(hr / "a.png").save(hr / "d.bmp")  # other bytes, same pixels
    report = preflight(hr, 4)
    assert len(report.names) == 4
    assert "the same picture twice, 3 distinct ones: a = d" in report.notes


def test_b42_more_images_than_exist(hr):
    assert names(hr, 3) == ["a", "b", "c"] and preflight(hr, 4, n_images=2).names == ["a", "b"]
    for wrong in (0, -1, 4):
        with pytest.raises(ValueError, match=f"expected 1 to 3, .* got {wrong}"):
            names(hr, wrong)
        assert f"got {wrong}" in stops(hr, 4, n_images=wrong)
    with pytest.raises(ValueError, match="expected 1 to 27"):
        names("library", 28)
