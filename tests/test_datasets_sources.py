"""Data sets: names, images, photographs; folders and manifests."""

import csv
import hashlib
import os
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import listing
from helpers.datasets import SETS, groups, load, names, preflight, read_manifest, sources


def picture(path, height=32, width=32, seed=0, **options):
    """A file with its own pixels; 32x32 is large enough for LPIPS at x4."""
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def three(folder, side):
    """A folder of three good pictures."""
    for seed, name in enumerate("abc"):
        picture(folder / f"{name}.png", side, side, seed=seed)
    return folder


@pytest.fixture
def hr(tmp_path):
    return three(tmp_path / "hr", 32)


def test_folder_and_manifest_give_the_same_images(hr):
    hashes = {name: hashlib.sha256((hr / f"{name}.png").read_bytes()).hexdigest() for name in "abc"}
    manifest = hr / "x.csv"
    with manifest.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "sha256", "gender"])
        writer.writerows([[f"{name}.png", hashes[name], "f"] for name in "cab"])
    assert names(hr) == ["a", "b", "c"] and names(manifest) == ["c", "a", "b"]
    assert names(manifest, 2) == ["c", "a"]
    assert all(torch.equal(load(hr, name), load(manifest, name)) for name in "abc")
    assert read_manifest(manifest)["a"]["gender"] == "f"
    assert preflight(manifest, 4).names == ["c", "a", "b"]
    picture(hr / "a.png", seed=9)  # another picture under the same name
    with pytest.raises(ValueError, match=f"expected SHA-256 {hashes['a']}"):
        load(manifest, "a")
    [(name, reason)] = preflight(manifest, 4).aside
    assert name == "a" and hashes["a"] in reason


def test_manifest_refusals(tmp_path, hr):
    path = hr / "x.csv"
    for content, message in (
        ("name\na.png\n", "column 'file', got"),
        ("file\n", "no rows"),
        ("file\na.png\nsub/a.jpg\n", "each stem once, got a.png, sub/a.jpg"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            names(path)
    path.write_text("file\na.png\ngone.png\n")
    assert [name for name, _ in preflight(path, 4).aside] == ["gone"]
    with pytest.raises(ValueError, match="found no such file"):
        names(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "content, message",
    [
        ("file,sha256\na.png,\nb.png\n", "line 3: expected 2 values.*got 1: b.png"),  # a TypeError before
        ("file,sha256\na.png,,x\n", "line 2: expected 2 values.*got 3"),
        ("file,sha256\n,abc\n", "line 2: expected the name of a file, got ''"),
        ("file\n\n\na.png,b\n", "line 4: expected 1 values"),
        ("file\tsha256\na.png\t\n", "column 'file', got"),
        ("file;sha256\na.png;\n", "column 'file', got"),
        ("file,file\na.png,b.png\n", "different names"),
        ("", "column 'file', got"),
        ("\n\n", "column 'file', got"),
        ("file\n\n,,\n", "no rows"),
        ('file\n"a.png\n', "a table in UTF-8"),
        ('file\n"a".png\n', "a table in UTF-8"),
        ("file\na.png\nA.jpg\n", "each stem once, got a.png, A.jpg"),
        ("file\ncaf\u00e9.png\ncafe\u0301.jpg\n", "each stem once"),
        ("file\na.png\0\n", "the name of a file|a table in UTF-8"),
    ],
)
def test_a_broken_manifest_names_its_line(hr, content, message):
    (hr / "x.csv").write_text(content, encoding="utf-8", newline="")
    with pytest.raises(ValueError, match=message) as caught:
        names(hr / "x.csv")
    assert str(hr / "x.csv") in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_manifest_of_any_program_reads(hr, encoding, end):
    """Byte order mark, line ends, blank lines, quotes, blanks around names of columns, empty columns at the end."""
    picture(hr / "0001.png", seed=5)
    picture(hr / "one, two.png", seed=6)
    lines = ["file, group ,sha256,", '"0001.png",7,,', "", ",,,", '"one, two.png",lake, ,', "a.png,007,,"]
    (hr / "x.csv").write_bytes((end.join(lines) + end).encode(encoding))
    assert names(hr / "x.csv") == ["0001", "one, two", "a"]
    assert groups(hr / "x.csv", ["0001", "one, two", "a"]) == {"0001": "7", "one, two": "lake", "a": "007"}
    assert load(hr / "x.csv", "0001").shape == (1, 3, 32, 32)
    assert preflight(hr / "x.csv", 4).names == ["0001", "one, two", "a"]


def test_a_manifest_in_another_encoding_is_refused(hr):
    for encoding in ("utf-16", "latin-1"):
        (hr / "x.csv").write_bytes("file\ncaf\u00e9.png\n".encode(encoding))
        with pytest.raises(ValueError, match="x.csv: expected a table in UTF-8"):
            names(hr / "x.csv")


@pytest.mark.parametrize("form, other", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_mean_the_same_however_their_accents_are_written(tmp_path, form, other):
    """The disk, a manifest and the caller may each write them in another way."""
    stem, asked = (unicodedata.normalize(which, "caf\u00e9") for which in (form, other))
    picture(tmp_path / "x" / f"{stem}.png")
    (tmp_path / "x" / "m.csv").write_text(f"file,group\n{asked}.png,lake\n", encoding="utf-8")
    for dataset in (tmp_path / "x", tmp_path / "x" / "m.csv"):
        assert names(dataset) == ["caf\u00e9"] and preflight(dataset, 4).names == ["caf\u00e9"]
        assert torch.equal(load(dataset, asked), load(dataset, stem))
        assert list(groups(dataset, [asked])) == list(groups(dataset, [stem])) == ["caf\u00e9"]


def test_load_crops_and_names_what_exists(hr):
    picture(hr / "d.png", 35, 38)
    assert load(hr, "d").shape == (1, 3, 35, 38)
    assert load(hr, "d", multiple_of=4).shape == (1, 3, 32, 36)
    with pytest.raises(ValueError, match="one of its 4 images, got 'e'"):
        load(hr, "e")
    (hr / "d.png").write_bytes(b"")
    with pytest.raises(ValueError, match="d.png: empty file"):
        load(hr, "d")


def test_names_of_groups(hr):
    manifest = hr / "g.csv"
    manifest.write_text("file,group\na.png, cafe\u0301 \nb.png,caf\u00e9\nc.png, \n", encoding="utf-8")
    assert groups(manifest, list("abc")) == {"a": "caf\u00e9", "b": "caf\u00e9", "c": "c"}
    manifest.write_text("file,group\na.png,a\nb.png,a\nc.png,\n")
    assert groups(manifest, list("abc")) == {"a": "a", "b": "a", "c": "c"}
    manifest.write_text("file,group\na.png,c\nb.png,c\nc.png, \n")
    with pytest.raises(ValueError, match="expected other names of groups than of images without a group, got c for"):
        groups(manifest, list("abc"))
    for column in ("Group", "GROUP"):
        manifest.write_text(f"file,{column}\na.png,x\nb.png,x\nc.png,y\n")
        with pytest.raises(ValueError, match=f"expected 'group' in small letters .*, got '{column}'"):
            names(manifest)


def test_groups_are_photographs(tmp_path, hr):
    found = groups("library", names("library"))
    assert list(found) == names("library") and set(found.values()) == set(SETS["library"])
    assert found["chelsea_y022_x097"] == "chelsea"
    assert groups("generated", ["generated_003"]) == {"generated_003": "generated_003"}
    assert groups("portrait", ["astronaut"]) == {"astronaut": "astronaut"}
    for seed, name in enumerate(("IMG_0001", "IMG_0002", "lake_y000_x000", "lake_y000_x256")):
        picture(tmp_path / "roll" / f"{name}.png", seed=seed)
    roll = names(tmp_path / "roll")  # the names of a folder mean nothing
    assert groups(tmp_path / "roll", iter(roll)) == {name: name for name in roll} and len(roll) == 4
    (hr / "x.csv").write_text("file,group\na.png,lake\nb.png,lake\nc.png,\n")
    assert groups(hr / "x.csv", ["c", "b", "a"]) == {"c": "c", "b": "lake", "a": "lake"}
    (hr / "x.csv").write_text("file,gender\na.png,f\nb.png,f\n")
    assert groups(str(hr / "x.csv"), ["a", "b"]) == {"a": "a", "b": "b"}
    for dataset in ("library", hr, hr / "x.csv"):
        with pytest.raises(ValueError, match="images, got astronaut_y000"):
            groups(dataset, ["astronaut_y000"])


def test_a_folder_is_listed_again_only_when_it_has_changed(hr, monkeypatch):
    listed = []
    monkeypatch.setattr(
        sources, "list_pictures", lambda path, call=sources.list_pictures: listed.append(path) or call(path)
    )
    assert names(hr) == names(hr) and len(listed) == 2  # a new folder may change within the same tick of the clock
    later = os.stat(hr).st_ctime_ns + 3_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: later)
    for name in "abcab":
        load(hr, name)
    assert len(listed) == 3
    picture(hr / "d.png", seed=3)
    assert load(hr, "d").shape == (1, 3, 32, 32) and names(hr) == ["a", "b", "c", "d"]


def test_a_manifest_is_read_once_and_not_for_each_image(hr, monkeypatch):
    path = hr / "x.csv"
    path.write_text("file,group\na.png,lake\n")
    os.utime(path, (1e9, 1e9))
    time.sleep(2.1)  # the time at which its entry changed cannot be set
    opened, whole = [], Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *args, **options: opened.append(self) or whole(self, *args, **options)
    )
    for _ in range(9):
        assert groups(path, ["a"]) == {"a": "lake"} and load(path, "a").shape == (1, 3, 32, 32)
    assert opened.count(path) == 1
    path.write_text("file,group\na.png,hill\n")
    assert groups(path, ["a"]) == {"a": "hill"}


def test_names_spelt_another_way_than_on_the_disk_list_the_folder_once(tmp_path, monkeypatch):
    plain = [f"cafe\u0301{number}" for number in range(9)]
    for name in plain:
        (tmp_path / f"{name}.png").write_bytes(b"")
    time.sleep(2.1)
    listed, whole = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or whole(folder))
    found = [listing.on_disk(tmp_path / f"caf\u00e9{number}.png") for number in range(9)]
    assert found == [tmp_path / f"{name}.png" for name in plain] and len(listed) == 1


NO_DATASET = [None, 3, True, "", " ", ["library"], b"library", {"a": 1}, lambda: 0]


@pytest.mark.parametrize("wrong", NO_DATASET)
def test_what_is_no_data_set_says_what_is(wrong):
    for door in (names, lambda x: load(x, "a"), lambda x: groups(x, ["a"]), lambda x: preflight(x, 4)):
        with pytest.raises(ValueError, match="dataset: expected photographs, .*, a folder or a manifest, got"):
            door(wrong)


@pytest.mark.parametrize("wrong", ["8", 2.5, True, [1], 0, -1, 28, float("nan")])
def test_a_number_of_images_is_an_integer_that_the_set_has(wrong):
    with pytest.raises(ValueError, match="n_images: expected 1 to 27, all that library has, got "):
        names("library", wrong)
    assert names("library", np.int64(2)) == names("library", 2)


@pytest.mark.parametrize("wrong", ["256", 2.5, None, True, 0, -3, 10**6])
def test_a_size_of_crops_is_an_integer_for_which_there_is_room(wrong):
    for door in (lambda: names("library", size=wrong), lambda: load("library", names("library")[0], size=wrong)):
        with pytest.raises(ValueError, match="expected a crop size"):
            door()


def test_a_name_that_is_none_of_the_set_says_which_is_near():
    first = names("library", 1)[0]
    for wrong in (None, 3, b"x", [first], Path(first), "", "nothing like it"):
        with pytest.raises(ValueError, match="library: expected the name of one of its 27 images, got "):
            load("library", wrong)
    for near in (f"{first}.png", first.upper(), first[:-1]):
        with pytest.raises(ValueError, match=f"got '{near}'; did you mean '{first}'"):
            load("library", near)
    with pytest.raises(ValueError, match="found no such folder; did you mean 'library'"):
        names("libary")
    for wrong in (None, 3, first, b"x"):
        with pytest.raises(ValueError, match="names: expected several in a list, got "):
            groups("library", wrong)
    with pytest.raises(ValueError, match="expected names of its 27 images, got 7"):
        groups("library", [7])
