"""Faces are cut as FFHQ's recipe cuts them; a photograph without a face is reported, never passed over."""

import re
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import ExifTags, Image
from skimage import data

from helpers.datasets import alignment
from helpers.datasets.alignment import EMBEDDED, Face, align, quad
from helpers.images import from_uint8, read_rgb

MISSING = alignment.package_missing()
with_detector = pytest.mark.skipif(MISSING is not None, reason=f"the detector is optional: {MISSING}")
THREE = np.array([[203.2, 101.5], [246.5, 104.2], [223.5, 140.0]])  # eyes and mouth of the astronaut, in pixels
INSTALL = re.escape("pip install -e '.[align]'")


def tensor(levels: np.ndarray) -> torch.Tensor:
    return from_uint8(torch.from_numpy(levels).permute(2, 0, 1)[None])


def pixels(image: torch.Tensor) -> np.ndarray:
    return (image[0].permute(1, 2, 0) * 255).round().numpy()


def waves(places: np.ndarray) -> torch.Tensor:
    """A smooth picture that is known between its pixels: its colours at complex places, (H, W) to (1, 3, H, W)."""
    x, y = torch.from_numpy(places.real) / 30, torch.from_numpy(places.imag) / 30
    planes = [torch.sin(x + 0.3 * y), torch.cos(y - 0.2 * x), torch.sin(0.5 * x) * torch.cos(0.6 * y)]
    return (torch.stack(planes)[None].float() + 1) / 2


def grid(height: int, width: int) -> np.ndarray:
    """x + iy of all pixels."""
    return np.arange(width)[None, :] + 1j * np.arange(height)[:, None]


def points_for(corners: np.ndarray, crop: str) -> np.ndarray:
    """Three points whose square has these corners: those of the astronaut, moved with their square."""
    own, wanted, points = (each @ (1, 1j) for each in (quad(THREE, crop), corners, THREE))
    moved = wanted[0] + (points - own[0]) * (wanted[3] - wanted[0]) / (own[3] - own[0])
    return np.stack([moved.real, moved.imag], 1)


def upright(left: float, top: float, side: float) -> np.ndarray:
    """Corners of the square of whole pixels: half a pixel outside the outer pixel centres."""
    x, y = left - 0.5, top - 0.5
    return np.array([(x, y), (x, y + side), (x + side, y + side), (x + side, y)])


def difference(a: torch.Tensor, b: torch.Tensor, margin: int = 0) -> float:
    """Largest difference in levels of 255, `margin` pixels away from the border."""
    inside = (..., slice(margin, a.shape[-2] - margin), slice(margin, a.shape[-1] - margin))
    return ((a - b)[inside].abs().max() * 255).item()


# ---- the recipe


@pytest.mark.parametrize("case", ["inside", "border_pad", "shrink"])
def test_recipe_is_the_official_one(shared, case, monkeypatch):
    golden = np.load(shared / "golden" / "pulse" / "align.npz")
    photograph = golden.get(f"{case}_image")
    if photograph is None:
        photograph = golden[f"{case}_image_twentieth"].repeat(20, 0).repeat(20, 1)
    assert photograph.shape[1::-1] == tuple(golden[f"{case}_size"])
    prepare, seen = alignment._surroundings, []
    monkeypatch.setattr(alignment, "_surroundings", lambda *given: seen.append(prepare(*given)) or seen[0])
    result = pixels(align(tensor(photograph), golden[f"{case}_landmarks"]))
    prepared, corners = seen[0]
    assert prepared.size == tuple(golden[f"{case}_prequad_image_size"])
    assert (corners + 0.5).ravel() == pytest.approx(golden[f"{case}_quad_passed"], abs=1e-6, rel=0)
    pooled = result.reshape(64, 16, 64, 16, 3).mean((1, 3))
    assert np.abs(pooled - golden[f"{case}_out_pool64"]).max() < 0.1  # 8-bit levels; the reference's tolerance is 1
    assert np.abs(result[496:528, 496:528] - golden[f"{case}_out_crop32"]).max() <= 1


@pytest.mark.parametrize("crop", alignment.CROPS)
def test_a_face_that_is_aligned_already_comes_back(crop):
    picture = waves(grid(1024, 1024))
    points = points_for(upright(0, 0, 1024), crop)
    again = align(picture, points, crop=crop)
    assert again.shape == picture.shape
    assert difference(again, picture, margin=160) < 2  # nearer to the edge the recipe blurs
    small = align(picture, points, 64, crop=crop)
    assert difference(small, waves(16 * grid(64, 64) + 7.5 * (1 + 1j)), margin=10) < 2


@pytest.mark.parametrize("crop", alignment.CROPS)
@pytest.mark.parametrize("turn", [0.8 * np.exp(0.6j), 1.3 * np.exp(-2.0j)])
def test_a_turned_and_enlarged_photograph_gives_the_same_face(crop, turn):
    corners = upright(250, 250, 100)
    points = points_for(corners, crop)
    face = align(waves(grid(600, 600)), points, 128, crop=crop)
    centre = 300 + 300j
    turned = waves((grid(600, 600) - centre) / turn + centre)
    moved = (points @ (1, 1j) - centre) * turn + centre
    again = align(turned, np.stack([moved.real, moved.imag], 1), 128, crop=crop)
    assert difference(face, again) < 2
    assert face.std() > 0.05
    wrong = align(turned, points, 128, crop=crop)
    assert difference(face, wrong) > 20


def test_eyes_and_mouth_come_where_the_training_faces_have_them():
    places = np.array([0.62 + 0.35j]) * (EMBEDDED @ (1, 1j)) * 240 + (150 + 40j)  # the mean face, turned and scaled
    dots = [np.exp(-(np.abs(grid(400, 400) - place) ** 2) / 50) for place in places]
    photograph = torch.from_numpy(np.stack(dots)[None]).float()
    face = align(photograph, np.stack([places.real, places.imag], 1), 256, crop="embedded")[0].double().numpy()
    weights = face / face.sum((1, 2), keepdims=True)
    ticks = (np.arange(256) + 0.5) / 256
    found = np.stack([(weights.sum(1) * ticks).sum(1), (weights.sum(2) * ticks).sum(1)], 1)
    assert found == pytest.approx(EMBEDDED, abs=0.003)


def test_embedded_crop_is_tighter_than_that_of_ffhq():
    wide, tight = (np.hypot(*np.diff(quad(THREE, crop)[[0, 3]], axis=0)[0]) for crop in alignment.CROPS)
    assert 1.5 < wide / tight < 2.5


@pytest.mark.parametrize("crop", alignment.CROPS)
def test_three_points_say_what_68_landmarks_say(crop):
    marks = np.full((68, 2), 7.0)  # the others are not used
    marks[36:42] = THREE[0] + np.arange(6)[:, None] - 2.5
    marks[42:48] = THREE[1] - np.arange(6)[:, None] + 2.5
    marks[48], marks[54] = THREE[2] - (9, 1), THREE[2] + (9, 1)
    assert quad(marks, crop) == pytest.approx(quad(THREE, crop), abs=1e-9)


def test_a_face_at_the_edge_is_continued_without_a_rim():
    grey = torch.full((1, 3, 200, 300), 100 / 255)
    face = align(grey, THREE - (190, 90), 64)
    assert quad(THREE - (190, 90)).min() < -50
    assert difference(face, torch.full((1, 3, 64, 64), 100 / 255)) < 0.01


@pytest.mark.parametrize(
    "marks, options, message",
    [
        (THREE[:2], {}, r"expected finite \(68, 2\) or \(3, 2\), one face, got \(2, 2\)"),
        (THREE[None], {}, r"one face, got \(1, 3, 2\)"),
        (THREE * np.nan, {}, "expected finite"),
        (THREE * 0 + 50, {}, "expected a face of 8 pixels or more, got 0"),
        (THREE * 0 + 50, {"crop": "embedded"}, "expected a face of 8 pixels or more, got 0"),
        (THREE / 100, {}, "expected a face of 8 pixels or more, got 1"),
        (THREE + 5000, {}, "expected a face in the 512x512 pixels, got one outside"),
        (THREE, {"crop": "celeba"}, "crop: expected one of ffhq, embedded, got 'celeba'"),
        (THREE, {"side": 2048}, "side: expected 1 to 1024, got 2048"),
        (THREE, {"side": 0}, "side: expected 1 to 1024, got 0"),
    ],
)
def test_landmarks_that_are_no_face_are_refused(marks, options, message):
    with pytest.raises(ValueError, match=message):
        align(tensor(data.astronaut()), marks, **options)


def test_only_one_photograph_at_a_time():
    with pytest.raises(ValueError, match="expected one photograph"):
        align(torch.zeros(2, 3, 64, 64), THREE)


# ---- without the extra, or with a detector that is told what to see


def nothing_installed(name: str) -> None:
    return None


def test_missing_packages_are_named_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(alignment, "find_spec", nothing_installed)
    alignment._dlib.cache_clear()
    with pytest.raises(ValueError, match=f"missing package dlib and face_recognition_models: {INSTALL}"):
        alignment.landmarks(torch.zeros(1, 3, 64, 64))
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match=INSTALL):
        alignment.align_folder(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_extra_holds_what_is_asked_for():
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    extra = re.search(r"^align = \[(.*)\]", project, re.M).group(1)
    assert re.findall(r'"([A-Za-z_-]+)', extra) == ["dlib-bin", "face_recognition_models"]


def test_another_predictor_is_not_opened(monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / alignment.PREDICTOR).write_bytes(b"something else")
    opened = []
    monkeypatch.setitem(sys.modules, "dlib", SimpleNamespace(shape_predictor=opened.append))
    monkeypatch.setattr(alignment, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[tmp_path]))
    alignment._dlib.cache_clear()
    with pytest.raises(ValueError, match=f"expected SHA-256 {alignment.PREDICTOR_SHA256}, got SHA-256 "):
        alignment.detect(torch.zeros(1, 3, 64, 64))
    (tmp_path / alignment.PREDICTOR).unlink()
    with pytest.raises(ValueError, match="got no such file"):
        alignment.detect(torch.zeros(1, 3, 64, 64))
    assert not opened


@pytest.fixture
def told(monkeypatch):
    """A detector that sees a face where it is told to: width of the photograph -> faces."""
    answers = {}
    monkeypatch.setattr(alignment, "package_missing", lambda: None)
    monkeypatch.setattr(alignment, "detect", lambda image: answers.get(image.shape[-1], []))
    return answers


@pytest.fixture
def folder(tmp_path):
    """Two photographs with faces, the second lying on its side by EXIF, and three entries without one."""
    source = tmp_path / "photographs"
    source.mkdir()
    picture = Image.fromarray(data.astronaut())
    picture.save(source / "pair.png")
    sideways, exif = picture.crop((0, 0, 400, 512)).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # turn clockwise to see it upright
    sideways.save(source / "turned.png", exif=exif)
    Image.fromarray(data.chelsea()).save(source / "cat.png")
    (source / "broken.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    (source / "notes.txt").write_text("about them")
    (source / ".hidden").write_text("of the system")
    return source


def test_every_entry_of_a_folder_has_a_row(told, folder, tmp_path):
    told[512] = [Face(THREE, 1.5), Face(THREE + (20, 200), 0.1)]
    told[400] = [Face(THREE, 1.2)]
    table = alignment.align_folder(folder, tmp_path / "faces", 64, crop="embedded")
    found = table[table.face.notna()]
    assert list(zip(found.file, found.face, found.score, strict=True)) == [
        ("pair.png", 0, 1.5),
        ("pair.png", 1, 0.1),
        ("turned.png", 0, 1.2),
    ]
    corners = quad(THREE, "embedded")
    assert found.quad.tolist() == pytest.approx([np.hypot(*(corners[3] - corners[0]))] * 3)
    notes = table[table.face.isna()].set_index("file").note
    assert set(notes.index) == {"cat.png", "broken.jpg", "notes.txt"}
    assert notes["cat.png"].startswith("no face found in 451x300 pixels: expected a frontal, upright face")
    assert "cannot be decoded" in notes["broken.jpg"] and notes["notes.txt"].startswith("not read: expected")
    written = {path.name for path in (tmp_path / "faces").iterdir()}
    assert written == {"pair_0.png", "pair_1.png", "turned_0.png"}
    face = align(tensor(data.astronaut()), THREE, 64, crop="embedded")
    assert torch.equal(read_rgb(tmp_path / "faces" / "pair_0.png"), face)


def test_photographs_are_turned_upright_first(told, folder, tmp_path):
    told[400] = [Face(THREE, 1.2)]  # of the upright photograph, 400 wide
    table = alignment.align_folder(folder, tmp_path / "faces", 64)
    assert table.set_index("file").note["turned.png"] == "turned upright (EXIF orientation 6)"
    upright_face = align(tensor(np.ascontiguousarray(data.astronaut()[:, :400])), THREE, 64)
    assert torch.equal(read_rgb(tmp_path / "faces" / "turned_0.png"), upright_face)


def test_enlarged_faces_are_said_to_be(told, folder, tmp_path):
    told[512] = [Face(THREE, 1.5)]
    table = alignment.align_folder(folder, tmp_path / "faces", 1024).set_index("file")
    assert table.note["pair.png"] == f"enlarged {1024 / table.quad['pair.png']:.2f} times"


def test_a_folder_without_any_face_is_an_error(told, folder, tmp_path):
    with pytest.raises(ValueError, match="expected a face in one of 5 entries, found none: broken.jpg: cannot be deco"):
        alignment.align_folder(folder, tmp_path / "faces")


def test_faces_are_not_mixed_with_other_images(told, folder, tmp_path):
    told[512] = [Face(THREE, 1.5)]
    with pytest.raises(ValueError, match="expected an output folder outside the input folder"):
        alignment.align_folder(folder, folder)
    with pytest.raises(ValueError, match="expected an output folder outside the input folder"):
        alignment.align_folder(folder, folder / "faces")
    (tmp_path / "old").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "old" / "of_before.png")
    with pytest.raises(ValueError, match="expected a folder without images, got 1, such as of_before.png"):
        alignment.align_folder(folder, tmp_path / "old")
    Image.new("RGB", (8, 8)).save(folder / "pair.jpg")
    with pytest.raises(ValueError, match="expected each stem once"):
        alignment.align_folder(folder, tmp_path / "faces")


@pytest.mark.parametrize(
    "source, options, message",
    [
        ("nowhere", {}, "expected a folder of photographs, found no such folder"),
        (".", {"side": 0}, "expected a side of 1 to 1024"),
        (".", {"crop": "wide"}, "crop ffhq or embedded, got 1024 and 'wide'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_work(told, folder, tmp_path, source, options, message):
    with pytest.raises(ValueError, match=message):
        alignment.align_folder(folder / source, tmp_path / "faces", **options)
    assert not (tmp_path / "faces").exists()


def test_command_line_writes_the_table(told, folder, tmp_path, capsys):
    told[512] = [Face(THREE, 1.5)]
    given = [str(folder), str(tmp_path / "faces"), "--side", "64", "--crop", "embedded"]
    assert alignment.main(given) == 0
    said = capsys.readouterr()
    rows = pd.read_csv(StringIO(said.out)).set_index("file")
    assert rows.face.dropna().to_dict() == {"pair.png": 0} and rows.quad["pair.png"] == pytest.approx(102, abs=1)
    assert len(rows) == 5 and rows.note["cat.png"].startswith("no face found in 451x300 pixels")
    assert said.err == f"1 faces in {tmp_path / 'faces'}, 4 entries without a face\n"
    assert alignment.main(given) == 2
    assert "expected a folder without images" in capsys.readouterr().err


def test_no_face_is_an_error_that_says_what_was_expected(monkeypatch):
    monkeypatch.setattr(alignment, "detect", lambda image: [])
    with pytest.raises(ValueError, match="no face found in 90x80 pixels: expected a frontal, upright face of at least"):
        alignment.landmarks(torch.zeros(1, 3, 80, 90))


# ---- with the extra


@with_detector
def test_detector_finds_the_astronaut_and_no_face_in_a_cat():
    found = alignment.landmarks(tensor(data.astronaut()))
    assert found.shape[1:] == (68, 2)
    eyes_and_mouth = np.stack([found[0, 36:42].mean(0), found[0, 42:48].mean(0), found[0, [48, 54]].mean(0)])
    assert np.abs(eyes_and_mouth - THREE).max() < 2
    scores = [face.score for face in alignment.detect(tensor(data.astronaut()))]
    assert scores == sorted(scores, reverse=True) and scores[0] > 1
    with pytest.raises(ValueError, match="no face found in 451x300 pixels"):
        alignment.landmarks(tensor(data.chelsea()))


@with_detector
@pytest.mark.parametrize("crop", alignment.CROPS)
def test_an_aligned_face_is_found_where_it_was_put(crop):
    points = alignment.landmarks(tensor(data.astronaut()))[0]
    face = align(tensor(data.astronaut()), points, 256, crop=crop)
    again = quad(alignment.landmarks(face)[0], crop)
    assert np.abs(again - upright(0, 0, 256)).max() < 12  # landmarks are whole pixels, and the predictor's error


@with_detector
def test_folder_with_the_real_detector(folder, tmp_path):
    table = alignment.align_folder(folder, tmp_path / "faces", 64, crop="embedded").set_index("file")
    assert (table[table.face == 0].score > 1).to_dict() == {"pair.png": True, "turned.png": True}
    assert table.note["cat.png"].startswith("no face found")
    faces = [read_rgb(tmp_path / "faces" / f"{stem}_0.png") for stem in ("pair", "turned")]
    assert (faces[0] - faces[1]).abs().mean() < 0.05
