"""The experiments of a notebook are read from its own cells, and nothing else of it is run."""

import ast
import json
import os
from pathlib import Path

import pytest

from helpers import datasets, results, runs
from helpers.paper import hours, notebooks, profiles
from helpers.paper.__main__ import NOTEBOOKS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_experiments_are_those_of_the_published_rows(notebook):
    """Held against the rows that the notebook made with its defaults: each of them, and no other."""
    published = ROOT / "data" / "results" / f"{notebook}.csv.gz"
    rows = results.read(published, mixed=tuple(results.ONE_OF))
    offline = "lpips_embedded" if "lpips_embedded" in set(rows.distortion) else "1-ms_ssim"
    wanted = notebooks.experiments(notebook, profiles.defaults(notebook) | {"distortion": offline})
    keys = {key for each in wanted for key in runs.keys(each)}
    assert len(keys) == len(rows) and not results.missing(keys, rows)
    left, total = map(sum, zip(*hours.draws_left(wanted, published), strict=True))
    ours = rows[rows.distortion == offline]
    assert (left, total) == ((ours.hr == "").sum(), len(ours))  # rows without hashes prove nothing: they are left


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_no_weights_file_and_no_figure_is_needed(notebook, tmp_path, monkeypatch, capfd):
    """In the paper's setting, on pictures that are here; its networks are not."""
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path))
    for name in ("IDA_RD_WEIGHTS", "IDA_RD_SHARED_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")
    values = profiles.parameters(notebook) | {"dataset": "library", "n_images": 2, "sets": {}, "camera": {}}
    before = os.getcwd()
    found = notebooks.experiments(notebook, values | {"results_dir": str(tmp_path / "rows")})
    assert any(each.upscaler.startswith("srflow") for each in found)
    assert {each.n_samples for each in found} <= {1, 5} and all(len(each.images) == 2 for each in found)
    assert not (tmp_path / "rows").exists() and os.getcwd() == before and capfd.readouterr().out == ""


SOURCE = """
import math, pathlib
from json import dumps, loads
print("heard")
some, unused = [n], 1 / 0 if n < 0 else 0
for name in range(3):
    picture = 1 / 0
def both(values):
    scratch = [name for name in values]
    return scratch + other
other = [math.pi]
table = {"a": some}
table["b"] = both(some)
for name, entry in table.items():
    some.append(name)
total = [name for name in some]
total += loads("[5]")
"""


def kept(name: str, source: str = SOURCE) -> str:
    return ast.unparse(ast.Module(notebooks._needed(name, ast.parse(source).body), []))


def test_only_what_the_name_is_made_of_is_run():
    source = kept("total")
    values = {"n": 2}
    exec(source, values)
    assert values["total"] == [2, "a", "b", 5]
    assert "picture" not in source and "heard" not in source and "pathlib" not in source and "dumps" not in source
    assert kept("other") == "import math\nother = [math.pi]"


def small_notebook(folder: Path, *cells: str) -> None:
    first = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["scale = 4\n"]}
    more = [{"cell_type": "code", "metadata": {}, "source": cell.splitlines(keepends=True)} for cell in cells]
    (folder / "98_small.ipynb").write_text(json.dumps({"cells": [first, *more]}))


def test_one_experiment_may_stand_alone_and_a_notebook_without_a_plan_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "NOTEBOOKS", tmp_path)
    how = "dataset='library', images=['a'], downscalers=['bicubic'], upscaler='embedded_flow', distortion='mse'"
    plan = "with runs.local(2) as client:\n    runs.plan(one, '.', client)\nfar = 1 / 0\n"
    small_notebook(tmp_path, "from helpers import runs\n", f"one = runs.Experiment({how}, scale=scale)\n", plan)
    [one] = notebooks.experiments("98_small", {"scale": 8})
    assert (one.scale, one.images) == (8, ["a"])
    small_notebook(tmp_path, "one = 1")
    with pytest.raises(ValueError, match="98_small: expected a cell with runs.plan"):
        notebooks.experiments("98_small", {})


def test_images_are_named_and_not_decoded(tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "broken.png").write_bytes(b"no picture")
    monkeypatch.setattr(profiles, "NOTEBOOKS", tmp_path)
    how = "downscalers=['bicubic'], upscaler='embedded_flow', distortion='mse', scale=scale"
    make = f"one = runs.Experiment(dataset='x', images=notebook.images('x', scale, n_images=1), {how})\nruns.plan(one)"
    small_notebook(tmp_path, f"from helpers import notebook, runs\n{make}")
    before = datasets.preflight
    assert notebooks.experiments("98_small", {"scale": 4})[0].images == ["broken"]
    assert datasets.preflight is before
