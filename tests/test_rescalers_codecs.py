"""Codecs between downscaler and upscaler: what Pillow makes of a picture, and errors before any picture."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, features

from helpers import degradations
from helpers.images import from_uint8
from helpers.rescalers import codecs
from tests.pictures import noise, waves

HERE = [name for name in codecs.FORMATS if features.check({"jpeg": "jpg"}.get(name, name))]


@pytest.mark.parametrize("name", HERE)
def test_images_come_back_as_from_the_default_of_pillow(name):
    images = waves(2, 32, 48)
    found = codecs.codec(name, 60)(images)
    for one, image in zip(found, images, strict=True):
        levels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(file := io.BytesIO(), format=name, quality=60)  # default sub-sampling
        expected = from_uint8(torch.from_numpy(np.array(Image.open(file)))).permute(2, 0, 1)
        assert torch.equal(one, expected)
        assert codecs.size(image[None], name, 60) == [len(file.getvalue())]
    assert not torch.equal(found, images) and torch.equal((found * 255).round() / 255, found)


def test_jpeg_is_that_of_the_degradations():
    images = noise(2, 32, 48)
    assert torch.equal(codecs.codec("jpeg", 40)(images), degradations.jpeg(images, 40))


@pytest.mark.parametrize("name", HERE)
def test_quality_and_size_grow_together(name):
    images = waves(1, 64, 96)
    sizes = [codecs.size(images, name, quality)[0] for quality in (10, 50, 90)]
    apart = [(codecs.codec(name, quality)(images) - images).abs().mean().item() for quality in (10, 50, 90)]
    assert sizes == sorted(sizes) and apart == sorted(apart, reverse=True)


def test_a_codec_that_is_missing_is_said_at_once(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(ValueError, match="codec: expected webp in Pillow, this one was built without"):
        codecs.codec("webp")


def test_other_names_and_qualities_are_refused():
    with pytest.raises(ValueError, match="codec: expected one of jpeg, webp, got 'avif'"):
        codecs.codec("avif")
    for quality in (0, 101, 75.0, True):
        with pytest.raises(ValueError, match="quality: expected an integer from 1 to 100, got"):
            codecs.codec("jpeg", quality)
    with pytest.raises(ValueError, match=r"lr: expected finite values in \[0, 1\]"):
        codecs.codec("jpeg")(2 * torch.ones(1, 3, 8, 8))
