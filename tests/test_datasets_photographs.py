"""Crops of photographs that come with the project and with installed packages."""

import hashlib

import numpy as np
import pytest
import torch

from helpers import files
from helpers.datasets import load, photographs
from helpers.datasets.photographs import PHOTOGRAPHS, SETS, crops


def test_library_has_whole_crops_of_many_photographs():
    found = crops("library")
    assert len(found) == 27 and len(set(found)) == 27
    assert found[:10] == [name for name in found if name.rsplit("_", 2)[0] not in seen_before(found, name)]
    assert {name.rsplit("_", 2)[0] for name in found[:10]} == set(SETS["library"])
    images = torch.cat([load("library", name) for name in found])
    assert images.shape == (27, 3, 256, 256) and images.dtype == torch.float32
    assert (images.flatten(1).std(1) > 0.02).all()
    assert len({image.numpy().tobytes() for image in images}) == 27


def seen_before(found, name):
    return {other.rsplit("_", 2)[0] for other in found[: found.index(name)]}


def test_library_crops_do_not_overlap():
    corners = {}
    for name in crops("library", 192):
        photograph, y, x = name.rsplit("_", 2)
        corners.setdefault(photograph, []).append((int(y[1:]), int(x[1:])))
    for own in corners.values():
        assert len(own) <= photographs.CROPS
        assert all(max(abs(y - v), abs(x - w)) >= 192 for y, x in own for v, w in own if (y, x) != (v, w))


def test_library_names_say_where_the_pixels_are():
    import skimage.data

    name = "chelsea_y022_x097"
    assert name in crops("library")
    expected = skimage.data.chelsea()[22:278, 97:353]
    np.testing.assert_array_equal((load("library", name)[0].permute(1, 2, 0) * 255).numpy(), expected)
    load("library", name).zero_()  # a copy: the next reader sees the photograph
    np.testing.assert_array_equal((load("library", name)[0].permute(1, 2, 0) * 255).numpy(), expected)


def test_library_leaves_out_flat_crops(monkeypatch):
    everything = len(crops("library", 128))
    photographs._crops.cache_clear()
    monkeypatch.setattr(photographs, "DETAIL", 0.03)
    assert 0 < len(crops("library", 128)) < everything
    photographs._crops.cache_clear()


def test_library_needs_no_download(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)
    photographs._levels.cache_clear()
    photographs._crops.cache_clear()
    assert len(crops("photographs")) == 63


def test_library_says_what_is_missing(monkeypatch):
    for cached in (photographs._levels, photographs._crops):
        cached.cache_clear()
    monkeypatch.setitem(PHOTOGRAPHS, "astronaut", ("skimage", "data/no_such.png", "", ""))
    with pytest.raises(ValueError, match="expected data/no_such.png inside the installed package skimage"):
        crops("library", 64)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        crops("library", 0)


def test_the_default_set_is_of_nineteen_everyday_photographs():
    found = crops("photographs")
    assert [len(SETS[name]) for name in ("photographs", "scientific", "library")] == [19, 3, 10]
    assert len({photographs.photograph_of(name) for name in found[:19]}) == 19
    assert not set(SETS["photographs"]) & set(SETS["scientific"])
    assert load("photographs", "kodim08_y000_x256").shape == (1, 3, 256, 256)


def test_the_projects_own_photographs_are_the_stated_files():
    folder = files.packaged("images/kodak")
    listed = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(listed) == {photographs.KODAK[name][1] for name in photographs.KODAK}
    for name, expected in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    assert "unrestricted use" in (folder / "README.md").read_text()
