"""Names of pictures and their order: the same on every system."""

import os
import unicodedata
from pathlib import Path

import pytest

from helpers import listing

NAMES = ["a", "a b", "B", "Z", "ae", "a-1", "a.b", "\u00e4", "\u00e9t\u00e9", "y", "10", "2", "_", "\uac00", "a\u0301b"]
ORDER = ["10", "2", "B", "Z", "_", "a", "a b", "a-1", "a.b", "ae", "y", "\u00e1b", "\u00e4", "\u00e9t\u00e9", "\uac00"]


def fill(folder, names, suffix=".png"):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}{suffix}").write_bytes(b"")
    return folder


def test_stems_are_in_the_order_of_their_code_points(tmp_path):
    """Paths would be in another order: "a b.png", "a-1.png" and "a.b.png" before "a.png"; on Windows "y" before "Z"."""
    folder = fill(tmp_path / "x", NAMES)
    assert list(listing.list_pictures(folder)[0]) == ORDER
    assert [listing.stem_of(file) for file in listing.list_folder(folder)[0]] == ORDER


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_order_is_that_of_composed_names_whatever_the_disk_has(tmp_path, form):
    folder = fill(tmp_path / "x", [unicodedata.normalize(form, name) for name in ("z", "\u00e4", "\u00e9", "e\u0323")])
    assert list(listing.list_pictures(folder)[0]) == ["z", "\u00e4", "\u00e9", "\u1eb9"]


def test_the_order_does_not_ask_how_this_system_compares_paths(tmp_path, monkeypatch):
    """Windows compares paths without letter case."""
    folder = fill(tmp_path / "x", ["b", "C", "A", "d"])
    monkeypatch.setattr(Path, "__lt__", lambda one, other: str(one).lower() < str(other).lower())
    assert list(listing.list_pictures(folder)[0]) == ["A", "C", "b", "d"]
    fill(folder / "Sub", ["b2", "A2"])
    found = [file.name for file in listing.list_folder(folder, below=True)[0]]
    assert found == ["A.png", "C.png", "A2.png", "b2.png", "b.png", "d.png"]


@pytest.mark.skipif(os.name != "posix", reason="needs file names that differ by composition")
def test_names_equal_once_composed_are_refused(tmp_path):
    fill(tmp_path / "x", ["caf\u00e9", "cafe\u0301"])
    if len(os.listdir(tmp_path / "x")) == 2:  # not on macOS, whose disk takes them as one
        with pytest.raises(ValueError, match="expected each stem once"):
            listing.list_pictures(tmp_path / "x")
    assert listing.same_stems(["\u00c9.png", "e\u0301.jpg", "e.png"]) == ["\u00c9.png, e\u0301.jpg"]


@pytest.mark.parametrize("form, other", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_path_is_found_however_its_accents_are_written(tmp_path, form, other):
    folder = tmp_path / unicodedata.normalize(form, "\u00e9t\u00e9")
    file = fill(folder, [unicodedata.normalize(form, "caf\u00e9")]) / unicodedata.normalize(form, "caf\u00e9.png")
    asked = tmp_path / unicodedata.normalize(other, "\u00e9t\u00e9/caf\u00e9.png")
    assert listing.on_disk(asked).samefile(file) and listing.on_disk(file) == file
    assert listing.on_disk(tmp_path / "none" / "x.png") == tmp_path / "none" / "x.png"


def test_a_name_that_is_not_there_says_which_are_and_which_is_near():
    named = listing.Named({"bicubic": 1, "DPID": 2})
    assert named["bicubic"] == 1 and named.get("x") is None and "x" not in named
    for wrong, near in (
        ("bicubik", "; did you mean 'bicubic'?"),
        ("dpid", "; did you mean 'DPID'?"),
        (3, ""),
        ("zz", ""),
    ):
        with pytest.raises(KeyError) as error:
            named[wrong]
        assert error.value.args == (f"expected one of bicubic, DPID, got {wrong!r}{near}",)
