"""What notebooks share: the check of their parameters, D, images, published rows, photographs, the record of a run."""

import pandas as pd
import pytest

from helpers import distortions, notebook, results
from helpers.images import write_rgb

CELL = """seed = 0  # first part of every random key
heat = 1.0
flag = False
names = ["a"]  # = "text"
options = {"steps": 100}
"""


def kernel(*cells, **changes):
    """The globals of a kernel that ran these cells."""
    space = {"In": ["", *cells]}
    for cell in cells:
        exec(cell, space)
    return space | changes


def test_the_parameters_cell_says_names_and_types():
    notebook.check(kernel(CELL))
    notebook.check(kernel(CELL, "# Parameters\nseed = 3\nheat = 2\nnames = []\n"))  # an int is a float, too
    notebook.check(kernel("scratch = 1", CELL, "print", "seed = 4"))  # in any order: the cell with most literals


def test_b38_unknown_names_stop_it_with_the_name_that_was_meant():
    with pytest.raises(ValueError, match="unknown parameter 'sede'; did you mean 'seed'") as error:
        notebook.check(kernel(CELL, "# Parameters\nsede = 1\nxyz = 2\n"))
    assert "unknown parameter 'xyz'; known: seed, heat, flag, names, options" in str(error.value)
    notebook.check(kernel(CELL, "# Parameters\nsede = 1\n", "# Parameters\nseed = 1\n"))  # corrected and run again


def test_b40_types_are_strict_and_all_problems_come_at_once():
    wrong = {"seed": True, "heat": "1.0", "flag": 1, "names": "a", "options": []}
    with pytest.raises(ValueError) as error:
        notebook.check(kernel(CELL, **wrong))
    for name, kind, got in (
        ("seed", "int", "bool True"), ("heat", "float", "str '1.0'"), ("flag", "bool", "int 1"),
        ("names", "list", "str 'a'"), ("options", "dict", "list []"),
    ):  # fmt: skip
        assert f"{name}: expected {kind}, got {got}" in str(error.value)
    assert "names: expected list, got str 'a'; papermill takes it by -y 'names: ...'" in str(error.value)
    with pytest.raises(ValueError, match="seed: expected int, got float 0.5"):
        notebook.check(kernel(CELL, CELL.replace("seed = 0", "seed = 0.5")))  # an edit in the session
    with pytest.raises(ValueError, match="heat: expected float, got NoneType None"):
        notebook.check({"seed": 1}, {"seed": 0, "heat": 1.0})


def test_without_a_kernel_defaults_are_needed():
    space = {"seed": 1}
    with pytest.raises(ValueError, match="expected a cell of literals.* or `defaults`"):
        notebook.check(space)
    with pytest.raises(ValueError, match="expected a cell of literals"):
        notebook.check(kernel("import math", "n = math.floor(2.5)"))
    notebook.check(space, {"seed": 0})
    notebook.check(space | {"In": [CELL]}, {"seed": 0})


def test_literals_are_read_and_nothing_is_run():
    assert notebook.literals("a = 1  # one\nb = [\n    2,\n    -3.0,\n]\n") == {"a": 1, "b": [2, -3.0]}
    for source in ("%matplotlib inline", "a = f()", "a += 1", "a.b = 1", "print(1)", ""):
        assert notebook.literals(source) == {}


@pytest.mark.parametrize(
    "name, missing, offline, chosen, why",
    [
        ("auto", None, {}, "lpips", "the paper's, its backbone"),
        ("auto", "no AlexNet", {}, "1-ms_ssim", "not the paper's, no AlexNet"),
        ("auto", "no AlexNet", {"offline": "lpips_embedded"}, "lpips_embedded", "not the paper's, no AlexNet"),
        ("mse", "no AlexNet", {}, "mse", "asked for"),
    ],
)
def test_d_is_the_papers_where_it_can_be(monkeypatch, capsys, name, missing, offline, chosen, why):
    monkeypatch.setattr(distortions, "available", lambda name: missing)
    assert notebook.distortion(name, **offline) == chosen
    said = capsys.readouterr().out
    assert said.startswith(f"D = {chosen} [{distortions.describe(chosen)}]: ") and why in said


def test_images_are_large_enough_for_every_d_and_the_others_are_named(tmp_path, capsys, picture):
    for name, side in (("a", 200), ("b", 100), ("c", 8)):
        write_rgb(picture(side), tmp_path / f"{name}.png")
    assert notebook.images(str(tmp_path), 4, ["1-ms_ssim", "mse"]) == ["a"]
    assert "set aside: b, 100x100 is too small" in capsys.readouterr().out
    assert notebook.images(str(tmp_path), 4, "1-ssim") == ["a", "b"]
    assert notebook.images(str(tmp_path), 4, "1-ssim", minimum_side=150, n_images=1) == ["a"]
    assert notebook.images(str(tmp_path), 3) == ["a", "b", "c"]
    assert "cropped to a multiple of 3: a, b, c" in capsys.readouterr().out


@pytest.fixture
def picture():
    import torch

    return lambda side: torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(side))


def row(**changes) -> dict:
    line = dict.fromkeys(results.COLUMNS[:-1], "") | {"image": "a", "downscaler": "bicubic", "scale": 4, "seed": 0}
    line |= {"sample": 0, "heat": 1.0, "distortion": "mse", "value": 0.5, "height": 8, "width": 8, "weights": "w1"}
    return line | {"metric": line["distortion"], "version": "1"} | changes


def test_published_rows_are_those_of_the_runs_draws_and_networks(tmp_path, capsys):
    draws = [row(), row(sample=1), row(degradation="noise", level=0.1, where="after"), row(heat="1.0+0.1", scale=16)]
    lpips = [one | {"distortion": "lpips", "metric": "LPIPS"} for one in draws]
    lpips += [lpips[0] | change for change in ({"image": "b"}, {"sample": 2}, {"seed": 1}, {"degradation": "blur"})]
    for name, lines in (("own", draws), ("other", lpips), ("retrained", [one | {"weights": "w2"} for one in lpips])):
        results.append(lines, tmp_path / name)
        results.publish(tmp_path / name, tmp_path / f"{name}.csv.gz")
    rows = results.read(tmp_path / "own")
    found = notebook.published(str(tmp_path / "other.csv.gz"), rows)
    assert len(found) == 4 and set(found.distortion) == {"lpips"}
    assert capsys.readouterr().out == "other.csv.gz: 4 of 4 draws of this run; LPIPS\n"
    assert notebook.published(str(tmp_path / "retrained.csv.gz"), rows).empty
    assert "retrained.csv.gz: 0 of 4 draws of this run\n" in capsys.readouterr().out
    nothing = notebook.published("", rows)
    assert nothing.empty and list(nothing) == list(rows) and not capsys.readouterr().out
    with pytest.raises(ValueError, match="expected a file of published rows or ''"):
        notebook.published(str(tmp_path / "nowhere.csv.gz"), rows)


def test_draws_of_all_crops_of_a_photograph_become_draws_of_one_image():
    lines = [(f, image, q) for f in ("bicubic", "nearest") for image in ("x_1", "x_2", "IMG_1") for q in range(2)]
    rows = pd.DataFrame(lines, columns=["downscaler", "image", "sample"]).assign(value=range(12))
    whole = notebook.by_photograph(rows, {"x_1": "x", "x_2": "x", "IMG_1": "IMG_1"})
    assert list(whole.value) == list(rows.value)
    for _, part in whole.groupby("downscaler"):
        assert part.groupby("image")["sample"].agg(list).to_dict() == {"x": [0, 1, 2, 3], "IMG_1": [0, 1]}


def test_a_run_is_signed_with_what_made_it_and_how_long_it_took():
    signed = notebook.this_run("cpu", weights="w1", **{"D of the rows": "LPIPS"})["this run"]
    assert signed["device"] == "cpu" and signed["torch"] and signed["weights"] == "w1"
    assert signed["D of the rows"] == "LPIPS" and signed.index[-1] == "seconds" and signed["seconds"][:6] == "about "
