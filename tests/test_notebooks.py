"""Every notebook, run small through papermill: what it leaves behind, and that it stops on a bad parameter."""

import ast
import json
from pathlib import Path

import pandas as pd
import papermill
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TINY = {
    "00_quickstart": {
        "n_images": 2, "n_samples": 2, "size": 192, "downscalers": ["bicubic", "nearest"], "device": "cpu",
        "distortion": "1-ms_ssim",
    },
    "training/compact_flow": {
        "scale": 4, "steps": [1, 1], "hidden": [8, 8], "width": 8, "blocks": 1, "head": 6, "mean_iterations": 4,
        "iterations": 4, "n_images": 1, "n_checked": 1, "device": "cpu",
    },
}  # fmt: skip
ALL = sorted(str(path.relative_to(NOTEBOOKS).with_suffix("")) for path in NOTEBOOKS.rglob("[!.]*.ipynb"))


def run(name: str, tmp_path: Path, **parameters):
    path = NOTEBOOKS / f"{name}.ipynb"
    own = {"figures_dir": str(tmp_path / "figures")}
    known = papermill.inspect_notebook(path).keys()
    own |= {"results_dir": str(tmp_path / "rows")} if "results_dir" in known else {}
    own |= {"checkpoint": str(tmp_path / "training" / "state.pt")} if "checkpoint" in known else {}
    assert TINY[name].keys() <= known
    return papermill.execute_notebook(
        path, tmp_path / "out.ipynb", TINY[name] | own | parameters, cwd=path.parent, progress_bar=False,
        execution_timeout=300,
    )  # fmt: skip


def cells(name: str, kind: str = "code") -> list[dict]:
    return [c for c in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"] if c["cell_type"] == kind]


def test_every_notebook_has_its_tiny_run():
    assert set(ALL) == set(TINY)


@pytest.mark.parametrize("name", ALL)
def test_b39_one_tagged_cell_of_literals(name):
    code = cells(name)
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1 and tagged[0] is code[0]
    for statement in ast.parse("".join(tagged[0]["source"])).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)


@pytest.mark.parametrize("name", ALL)
def test_committed_executed_and_without_errors(name):
    code = [c for c in cells(name) if "".join(c["source"]).strip()]
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    outputs = [out for c in code for out in c["outputs"]]
    assert outputs and not [out for out in outputs if out["output_type"] == "error"]
    assert "papermill" not in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["metadata"]


@pytest.mark.parametrize("name", ALL)
def test_prose_before_code_and_nothing_defined_that_belongs_in_the_package(name):
    everything = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
    assert everything[0]["cell_type"] == "markdown" and "".join(everything[0]["source"]).startswith("# ")
    assert not [c for c in cells(name) if "\nclass " in "".join(c["source"])]


def test_quickstart_leaves_rows_ranking_and_figures(tmp_path):
    run("00_quickstart", tmp_path)
    ranking = pd.read_csv(tmp_path / "rows" / "ranking.csv")
    assert set(ranking.downscaler) == {"bicubic", "nearest"} and (ranking.n == 2).all()
    assert "bicubic" in (tmp_path / "rows" / "ranking.txt").read_text()
    assert r"\toprule" in (tmp_path / "rows" / "ranking.tex").read_text()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    wanted = ("walkthrough", "ranking", "paired", "differences", "draws")
    assert {f"00_{name}.{kind}" for name in wanted for kind in ("pdf", "png")} <= names
    lines = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * 2

    # a rerun with one more downscaler, the reader's own, computes its rows only
    own = tmp_path / "mine.py"
    own.write_text("import torch.nn.functional as F\n\ndef mean(hr, scale):\n    return F.avg_pool2d(hr, scale)\n")
    run("00_quickstart", tmp_path, downscaler=f"{own}:mean")
    again = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    assert again[: len(lines)] == lines and len(again) == len(lines) + 2 * 2
    assert len(pd.read_csv(tmp_path / "rows" / "ranking.csv")) == 3


def test_training_notebook_trains_and_reports_on_the_shipped_flow(tmp_path):
    run("training/compact_flow", tmp_path, output=str(tmp_path / "mine.safetensors"))
    assert (tmp_path / "mine.safetensors").stat().st_size > 1000
    assert (tmp_path / "training" / "state.csv").read_text().count("\n") >= 2
    assert list((tmp_path / "figures").glob("*.pdf"))


@pytest.mark.parametrize("name", ALL)
def test_b38_a_mistyped_parameter_stops_the_notebook_at_once(name, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="unknown parameter 'n_imagse'"):
        run(name, tmp_path, n_imagse=3)
    assert not (tmp_path / "rows").exists() and not (tmp_path / "figures").exists()


def test_b40_a_flag_that_came_as_text_stops_the_notebook(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="n_images: expected int, got str"):
        run("00_quickstart", tmp_path, n_images="2")
