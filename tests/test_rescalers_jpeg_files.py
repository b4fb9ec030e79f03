"""JPEG files from coefficients: they come back as they were, and Pillow reads the same picture."""

import io
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.networks import jpeg
from helpers.rescalers import jpeg_files
from tests.pictures import noise, waves


def quantized(images, tables):
    """Coefficients over tables of one image, (3, rows, columns, 64)."""
    planes = jpeg.to_ycbcr(images * 255) - torch.tensor([128.0, 0, 0]).view(3, 1, 1)
    steps = torch.tensor(tables)[[0, 1, 1]].view(3, 1, 1, 64)
    return (jpeg.to_zigzag(jpeg.to_blocks(planes)[0]) / steps).round().numpy()


def tables_of(seed, most):
    return np.random.default_rng(seed).integers(1, most, (2, 64))


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (40, 64), (33, 49), (1, 1)])
@pytest.mark.parametrize("most", [2, 30, 256, 3000])
def test_what_is_written_is_read(height, width, most):
    covered = noise(1, -(-height // 8) * 8, -(-width // 8) * 8)
    tables = tables_of(1, most)
    coefficients = quantized(covered, tables)
    content = jpeg_files.write(coefficients, tables, height, width)
    found = jpeg_files.read(content)
    assert np.array_equal(found[0], coefficients) and np.array_equal(found[1], tables) and found[2:] == (height, width)


@pytest.mark.parametrize("most", [2, 12, 3000])
def test_pillow_shows_the_picture_and_finds_the_tables(most):
    images = 0.25 + waves(1, 40, 56) / 2  # in gamut, so that nothing is clipped on the way
    tables = tables_of(2, most)
    coefficients = quantized(images, tables)
    content = jpeg_files.write(coefficients, tables, 37, 50)
    opened = Image.open(io.BytesIO(content))
    opened.load()
    assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (50, 37))
    assert opened.layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)] and opened.info["jfif_version"] == (1, 2)
    for number in (0, 1):  # natural order
        written = jpeg.from_zigzag(torch.from_numpy(tables[number])).flatten().tolist()
        assert list(opened.quantization[number]) == written
    blocks = torch.from_numpy(coefficients * tables[[0, 1, 1]][:, None, None])
    planes = jpeg.from_blocks(jpeg.from_zigzag(blocks)[None]) + torch.tensor([128.0, 0, 0]).view(3, 1, 1)
    rgb = jpeg.to_rgb(planes)[0, :, :37, :50].permute(1, 2, 0).clamp(0, 255).numpy()
    inside = (planes[:, 0] > 0) & (planes[:, 0] < 255) & (planes[:, 1:].abs() < 127).all(1)
    inside = inside[0, :37, :50].numpy()
    assert inside.mean() > 0.5 and np.abs(pixels(content) - rgb)[inside].max() <= 2.0  # integer cosines, rounded YCbCr


def test_a_file_of_pillow_is_read_and_written_again():
    levels = (noise(1, 40, 48)[0] * 255).permute(1, 2, 0).byte().numpy()
    Image.fromarray(levels).save(file := io.BytesIO(), format="JPEG", quality=80, subsampling=0)
    again = jpeg_files.write(*jpeg_files.read(file.getvalue()))
    assert np.array_equal(pixels(again), pixels(file.getvalue()))
    Image.fromarray(levels).save(best := io.BytesIO(), format="JPEG", quality=80, subsampling=0, optimize=True)
    assert abs(len(again) - len(best.getvalue())) < 20 < len(file.getvalue()) - len(again)  # codes made for the image


def test_long_runs_and_extreme_values():
    coefficients = np.zeros((3, 2, 2, 64))
    coefficients[0, 0, 0] = [1024, *[0] * 62, 1023]
    coefficients[0, 0, 1, 0], coefficients[0, 1, 0, 0] = -1023, 1024
    coefficients[1, 1, 1, [17, 40, 63]] = -1023, 1, -1
    content = jpeg_files.write(coefficients, np.ones((2, 64)), 16, 16)
    assert np.array_equal(jpeg_files.read(content)[0], coefficients)
    pixels(content)


def test_codes_have_at_most_16_bits_and_none_is_of_ones_only():
    for counts in (Counter({0: 1}), Counter({n: 2**n for n in range(30)}), Counter({n: 1 for n in range(200)})):
        lengths, symbols = jpeg_files._shortest(counts)
        assert len(lengths) == 16 and sum(lengths) == len(symbols) == len(counts) and set(symbols) == set(counts)
        kraft = sum(number / 2**length for length, number in enumerate(lengths, 1))
        assert kraft < 1  # the code of ones only stays free
        words = jpeg_files._words(lengths, symbols)
        assert not any(set(word) == {"1"} for word in words.values())
        assert len(set(words.values())) == len(words)
    frequent = jpeg_files._words(*jpeg_files._shortest(Counter({7: 1000, 8: 10, 9: 9})))
    assert len(frequent[7]) < len(frequent[8])


# ---- errors


def test_values_without_a_place_are_refused():
    good = np.zeros((3, 1, 1, 64))
    with pytest.raises(
        ValueError, match=r"expected coefficients \(3, 2, 1, 64\) .* for 9x8 pixels, got \(3, 1, 1, 64\)"
    ):
        jpeg_files.write(good, np.ones((2, 64)), 9, 8)
    with pytest.raises(ValueError, match="coefficients: expected integers, got 0.5"):
        jpeg_files.write(good + 0.5, np.ones((2, 64)), 8, 8)
    for value in (0, 65536):
        with pytest.raises(ValueError, match=r"tables: expected integers from 1 to 65535, got \[.*\]"):
            jpeg_files.write(good, np.full((2, 64), value), 8, 8)
    large = good.copy()
    large[0, 0, 0, 5] = 1024
    with pytest.raises(ValueError, match="AC coefficients: expected at most 1023 either way, got 1024"):
        jpeg_files.write(large, np.ones((2, 64)), 8, 8)
    large = np.zeros((3, 1, 2, 64))
    large[0, 0, :, 0] = 1100, -1100
    with pytest.raises(ValueError, match="DC differences: expected at most 2047 either way, got 2200"):
        jpeg_files.write(large, np.ones((2, 64)), 8, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "JPEG", "subsampling": "4:2:0"}, "without sub-sampling, got 3 of 8 bits, sampled .*2x2"),
        ({"format": "JPEG", "subsampling": 0, "progressive": True}, "baseline JPEG, got a frame of kind 0xC2"),
        ({"format": "JPEG", "subsampling": 0, "restart_marker_rows": 1}, "without restarts"),
        ({"format": "PNG"}, "expected a JPEG file, got one that begins with"),
    ],
)
def test_other_kinds_of_files_are_refused(options, message):
    levels = (noise(1, 32, 32)[0] * 255).permute(1, 2, 0).byte().numpy()
    Image.fromarray(levels).save(file := io.BytesIO(), **options)
    with pytest.raises(ValueError, match=message):
        jpeg_files.read(file.getvalue())


def test_grey_and_broken_files_are_refused():
    levels = (noise(1, 32, 32)[0] * 255).permute(1, 2, 0).byte().numpy()
    Image.fromarray(levels[..., 0]).save(file := io.BytesIO(), format="JPEG")
    with pytest.raises(ValueError, match="expected 3 components .* got 1 of 8 bits"):
        jpeg_files.read(file.getvalue())
    Image.fromarray(levels).save(file := io.BytesIO(), format="JPEG", subsampling=0)
    content = file.getvalue()
    for broken in (content[:300], content[: len(content) // 2], b""):
        with pytest.raises(ValueError, match="expected a"):
            jpeg_files.read(broken)
