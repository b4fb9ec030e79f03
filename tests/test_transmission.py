"""What happens to an LR image on its way, in cases that are known exactly."""

import pytest
import torch
from PIL import Image, features

from helpers import transmission
from helpers.images import quantize, to_uint8
from helpers.runtime import seeded

NOISE = quantize(torch.rand(2, 3, 24, 32, generator=seeded(0)))


def levels(images):
    return (255 * images).round().int()


def test_lost_bits_are_the_lowest():
    assert torch.equal(levels(transmission.lost_bits(NOISE, 3)), levels(NOISE) // 8 * 8)
    assert torch.equal(transmission.lost_bits(NOISE, 0), NOISE)


@pytest.mark.parametrize("bits", [1, 4, 7])
def test_dithering_has_that_many_levels_and_keeps_the_mean(bits):
    ramp = torch.linspace(0, 1, 64).repeat_interleave(64).view(1, 1, 64, 64).expand(1, 3, -1, -1)
    found = transmission.dithered(ramp, bits)
    assert len(found.unique()) == 2**bits if bits < 7 else len(found.unique()) <= 128
    assert (found.mean() - ramp.mean()).abs() < 0.01
    grey = transmission.dithered(torch.full((1, 3, 8, 8), 0.37), bits)  # one whole matrix: to its 64th part exact
    assert abs(grey.mean().item() - 0.37) < 1 / 128 / (2**bits - 1) + 1 / 510
    assert torch.equal(transmission.dithered(NOISE, 8), NOISE)


def test_srgb_red_in_display_p3_is_the_known_colour(monkeypatch):
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    seen, before = [], transmission.to_uint8
    monkeypatch.setattr(transmission, "to_uint8", lambda images: seen.append(before(images)) or seen[-1])
    assert torch.equal(transmission.wide_gamut(red, 1), red)
    assert seen[0].flatten().tolist() == [234, 51, 35]  # CSS Color 4: color(display-p3 0.9175 0.2003 0.1387)
    grey = torch.full((1, 3, 1, 1), 100 / 255)
    assert torch.equal(transmission.wide_gamut(grey, 1), grey)


def test_chroma_survives_444_better_than_420():
    chroma = NOISE - NOISE.mean(1, keepdim=True) + 0.5
    errors = [(way(chroma.clamp(0, 1), 90) - chroma.clamp(0, 1)).square().mean()
              for way in (transmission.jpeg_444, transmission.jpeg)]  # fmt: skip
    assert errors[0] < 0.5 * errors[1]


def test_a_resize_by_one_changes_nothing_and_by_less_blurs():
    assert torch.equal(transmission.resized(NOISE, 1), NOISE)
    assert transmission.resized(NOISE, 0.9).shape == NOISE.shape
    assert transmission.resized(NOISE, 0.9).std() < NOISE.std()


def test_a_missing_codec_is_said(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(ValueError, match="webp: expected a Pillow with WebP"):
        transmission.webp(NOISE, 90)


def test_bits_are_those_of_the_file_that_pillow_writes(tmp_path):
    lr = quantize(torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0)))
    picture = Image.fromarray(to_uint8(lr)[0].permute(1, 2, 0).numpy())
    for codec, level, name, options in (
        ("png", None, "a.png", {"optimize": True}),
        ("webp_lossless", None, "a.webp", {"lossless": True, "method": 6}),
        ("jpeg", 75.0, "a.jpg", {"quality": 75, "subsampling": "4:2:0", "optimize": True}),
        ("webp", 50, "b.webp", {"quality": 50}),
    ):
        picture.save(tmp_path / name, **options)
        assert transmission.file_bits(lr, codec, level) == 8 * (tmp_path / name).stat().st_size
    assert transmission.file_bits(lr, "jpeg", 10) < transmission.file_bits(lr, "jpeg", 90)
    with pytest.raises(ValueError, match="codec: expected one of jpeg, .*, got 'tiff'"):
        transmission.file_bits(lr, "tiff")
    with pytest.raises(ValueError, match="image: expected one, got 2"):
        transmission.file_bits(lr.expand(2, -1, -1, -1))
