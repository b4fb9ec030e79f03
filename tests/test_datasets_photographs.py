"""The library: crops of photographs that come with installed packages."""

import numpy as np
import pytest
import torch

from helpers.datasets import load, photographs
from helpers.datasets.photographs import LIBRARY, library


def test_library_has_whole_crops_of_many_photographs():
    found = library()
    assert len(found) == 27 and len(set(found)) == 27
    assert found[:10] == [name for name in found if name.rsplit("_", 2)[0] not in seen_before(found, name)]
    assert {name.rsplit("_", 2)[0] for name in found[:10]} == set(LIBRARY)
    images = torch.cat([load("library", name) for name in found])
    assert images.shape == (27, 3, 256, 256) and images.dtype == torch.float32
    assert (images.flatten(1).std(1) > 0.02).all()
    assert len({image.numpy().tobytes() for image in images}) == 27


def seen_before(found, name):
    return {other.rsplit("_", 2)[0] for other in found[: found.index(name)]}


def test_library_crops_do_not_overlap():
    corners = {}
    for name in library(192):
        photograph, y, x = name.rsplit("_", 2)
        corners.setdefault(photograph, []).append((int(y[1:]), int(x[1:])))
    for own in corners.values():
        assert len(own) <= photographs.CROPS
        assert all(max(abs(y - v), abs(x - w)) >= 192 for y, x in own for v, w in own if (y, x) != (v, w))


def test_library_names_say_where_the_pixels_are():
    import skimage.data

    name = "chelsea_y022_x097"
    assert name in library()
    expected = skimage.data.chelsea()[22:278, 97:353]
    np.testing.assert_array_equal((load("library", name)[0].permute(1, 2, 0) * 255).numpy(), expected)
    load("library", name).zero_()  # a copy: the next reader sees the photograph
    np.testing.assert_array_equal((load("library", name)[0].permute(1, 2, 0) * 255).numpy(), expected)


def test_library_leaves_out_flat_crops(monkeypatch):
    everything = len(library(128))
    photographs._crops.cache_clear()
    monkeypatch.setattr(photographs, "DETAIL", 0.03)
    assert 0 < len(library(128)) < everything
    photographs._crops.cache_clear()


def test_library_needs_no_download(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    photographs._levels.cache_clear()
    photographs._crops.cache_clear()
    assert len(library(256)) == 27


def test_library_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(LIBRARY, "moon", ("skimage", "data/no_such.png", "", ""))
    with pytest.raises(ValueError, match="expected data/no_such.png inside the installed package skimage"):
        library(64)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        library(0)
