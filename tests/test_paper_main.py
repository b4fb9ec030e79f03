"""`make paper`: what is missing is said, what is there is run, nothing stands in for anything, and the hours add up."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import papermill
import pytest
import yaml

from helpers import weights
from helpers.paper import __main__ as paper
from helpers.paper import hours, profiles
from tests.test_nb_08 import TINY

ROOT = Path(__file__).parents[1]
SRFLOW = {"SRFlow_DF2K_4X", "SRFlow_DF2K_8X", "SRFlow_CelebA_8X"}


@pytest.fixture
def here(monkeypatch):
    """`here(names)`: these weights files are on this machine, no others."""
    return lambda names: monkeypatch.setattr(weights, "locate", lambda name: Path(name) if name in names else None)


def setting(notebook: str, **changes) -> dict:
    return profiles.parameters(notebook) | {"dataset": "library", "n_images": 3, "sets": {}, "camera": {}} | changes


def test_a_machine_with_nothing_gets_the_list_at_once(tmp_path):
    code = """
import runpy, sys
sys.argv = ["paper"]
try:
    runpy.run_module("helpers.paper", run_name="__main__")
finally:
    print(*sys.modules)
"""
    env = {"HOME": str(tmp_path), "PATH": os.defpath, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 2, done.stderr
    *lines, modules = done.stdout.splitlines()
    assert not {"papermill", "nbclient", "matplotlib", "scipy", "lpips", "piq"} & set(modules.split())
    for number, piece in (
        ("03    06 08", "SRFlow_DF2K_4X.pth"),
        ("03 05 06 08", "SRFlow_CelebA_8X.pth"),
        ("         08", "SRFlow_DF2K_8X.pth"),
        ("   05      ", "synthesis.pt"),
        ("03 05 06 08", "AlexNet (for LPIPS)"),
    ):
        assert f"  missing {number}  {piece}" in lines
    for folder in ("ffhq1024", "div2k", "realsr/HR"):
        assert any(line.endswith(f"data/local/{folder}") for line in lines)
    skipped = [line for line in lines if "skipped, it cannot do without" in line]
    assert [line.split(":")[0] for line in skipped] == list(paper.NOTEBOOKS)
    assert "Nothing can run" in lines[-1] and "draws left" not in done.stdout
    assert not list(tmp_path.rglob("*.*"))  # nothing written either


def test_a_notebook_may_be_chosen(here, capsys):
    here(())
    assert paper.main(["08_ablations"]) == 2
    said = capsys.readouterr().out
    assert "08_ablations: skipped" in said and "06_real" not in said


def test_a_dry_run_lists_every_notebook_and_runs_none(monkeypatch, here, capsys):
    here(())
    monkeypatch.setattr(paper, "run", None)
    assert paper.main(["--dry-run"]) == 2
    first, *lines = capsys.readouterr().out.splitlines()
    numbers = [path.stem[:2] for path in sorted((profiles.NOTEBOOKS / "paper").glob("*.yaml"))]
    assert f"of notebooks {', '.join(numbers)} needs" in first
    assert any(line.startswith("  missing") and line.endswith("SRFlow_CelebA_8X.pth") for line in lines)
    assert any("is missing: put it into" in " ".join(pair) for pair in zip(lines, lines[1:], strict=False))
    assert not any("skipped" in line for line in lines)


def test_a_dry_run_ends_with_0_where_nothing_is_missing(monkeypatch):
    monkeypatch.setattr(profiles, "pieces", lambda values: [profiles.Piece("a.pth", "")])
    assert paper.main(["--dry-run", "04_srflow"]) == 0


# ---- what is left out


def test_a_factor_goes_with_its_upscaler_and_its_heat(here):
    here({"SRFlow_CelebA_8X", "alexnet"})
    part = paper.narrow(setting("03_synthetic_degradations"))
    values = part.values
    assert (values["factors"], values["upscaler_of_factor"], values["heat_of_factor"]) == (
        [8],
        ["srflow_celeba_8x"],
        [1.0],
    )
    assert part.left_out == [
        "factor 4: srflow_df2k_4x (needs SRFlow_DF2K_4X.pth)",
        "factor 32: srflow_celeba_8x+srflow_df2k_4x (needs SRFlow_DF2K_4X.pth)",
    ]
    assert part.stops == []


def test_a_scale_goes_with_its_upscaler_and_no_other_takes_its_place(here):
    here({"SRFlow_DF2K_4X", "alexnet"})
    values = setting("06_real_downscalers")
    part = paper.narrow(values)
    assert part.values["scales"] == [4] and part.values["upscaler_at"] == {} and part.stops == []
    assert [line.split(":")[0] for line in part.left_out] == ["scale 8", "scale 32"]
    part = paper.narrow(values | {"scale": 8})  # the other sections need that one
    assert [piece.name for piece in part.stops] == ["SRFlow_CelebA_8X.pth"]


def test_entries_of_lists_and_mappings_are_left_out_by_name(here, tmp_path):
    here({"SRFlow_CelebA_8X", "SRFlow_DF2K_4X", "alexnet"})
    (tmp_path / "empty").mkdir()
    part = paper.narrow(setting("08_ablations"))
    assert part.values["other_upscalers"] == [
        ["srflow_df2k_4x", 1.1, 4],
        ["srflow_celeba_8x", 0.0, 8],
        ["bicubic", 0.0, 8],
    ]
    assert part.left_out == ["other_upscalers: srflow_df2k_8x, 1.0, 8 (needs SRFlow_DF2K_8X.pth)"]
    folders = {"sets": {"a": "library", "b": str(tmp_path / "no"), "c": str(tmp_path / "empty")}}
    folders["camera"] = {"d": ["library", str(tmp_path / "no")]}
    part = paper.narrow(setting("06_real_downscalers", **folders))
    assert part.values["sets"] == {"a": "library"} and part.values["camera"] == {}
    assert [line.split(" (")[0] for line in part.left_out] == ["sets: b", "sets: c", "camera: d"]


@pytest.mark.parametrize("notebook", paper.NOTEBOOKS)
@pytest.mark.parametrize("gone", ["SRFlow_CelebA_8X", "SRFlow_DF2K_4X", "alexnet"])
def test_what_has_one_value_alone_is_essential_and_never_replaced(here, notebook, gone):
    here((SRFLOW | {"alexnet"}) - {gone})
    values = setting(notebook)
    part = paper.narrow(values)
    single = {name: value for name, value in values.items() if not isinstance(value, list | dict)}
    assert single.items() <= part.values.items()
    essential = {"alexnet"} | ({"SRFlow_DF2K_4X"} if notebook.startswith("06") else {"SRFlow_CelebA_8X"})
    assert bool(part.stops) == (gone in essential)
    assert bool(part.left_out) == (gone != "alexnet")


def test_nothing_is_left_out_where_all_is_there(here):
    here(SRFLOW | {"alexnet"})
    for notebook in paper.NOTEBOOKS:
        values = setting(notebook)
        assert paper.narrow(values) == (values, [], [])


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder of notebooks, up to their rows, with profiles that this machine can run but for one part."""
    folder = tmp_path / "notebooks"
    (folder / "paper").mkdir(parents=True)
    own = {"08_ablations": TINY | {"other_upscalers": [["bicubic", 0.0, 4], ["srflow_df2k_4x", 1.1, 4]]}}
    own |= dict.fromkeys(paper.NOTEBOOKS[:2], {"distortion": "mse", "n_images": 1, "device": "cpu", "workers": 0})
    for name, profile in own.items():
        notebook = json.loads((profiles.NOTEBOOKS / f"{name}.ipynb").read_text())
        computes = ["runs.run(" in "".join(cell["source"]) for cell in notebook["cells"]].index(True)
        notebook["cells"] = notebook["cells"][: computes + 1]  # what reads the rows is tested with the notebook
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook))
        (folder / "paper" / f"{name}.yaml").write_text(yaml.dump(profile))
    monkeypatch.setattr(profiles, "NOTEBOOKS", folder)
    monkeypatch.setattr(paper, "OUT", tmp_path / "results" / "paper")
    monkeypatch.setattr(paper, "LISTED", ())
    monkeypatch.setattr(hours, "SECONDS", 0.1)
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)
    monkeypatch.delenv("IDA_RD_SHARED_CACHE", raising=False)
    return tmp_path


def test_a_small_run_leaves_rows_and_parameters_and_goes_on(small, capfd):
    assert paper.main(["08_ablations"]) == 3
    said, out = capfd.readouterr().out, small / "results" / "paper"
    assert "other_upscalers: srflow_df2k_4x, 1.1, 4 (needs SRFlow_DF2K_4X.pth)" in said
    assert "08_ablations: 12 of 12 draws left, about " in said and "08_ablations: ran in part" in said
    assert said.rstrip().endswith(str(out))
    rows = (out / "08_ablations" / "local.csv").read_text()
    assert len(rows.splitlines()) == 1 + 8 * 3 + 4 * 2  # of the reference three D, of the control two
    cells = json.loads((out / "08_ablations.ipynb").read_text())["cells"]
    used = next("".join(c["source"]) for c in cells if "injected-parameters" in c["metadata"].get("tags", []))
    assert 'other_upscalers = [["bicubic", 0.0, 4]]' in used and "n_images = 2" in used
    assert 'figures_dir = "../results/paper/figures"' in used and (out / "figures").is_dir()
    summary = (out / "summary.txt").read_text()
    assert "needs SRFlow_DF2K_4X.pth" in summary and "ran in part" in summary

    assert (
        paper.main(["08_ablations", "-p", "other_upscalers", "[[bicubic, 0.0, 4]]"]) == 0
    )  # nothing of that is missing
    said = capfd.readouterr().out
    assert "0 of 12 draws left" in said and "08_ablations: ran in full" in said
    assert (out / "08_ablations" / "local.csv").read_text() == rows


@pytest.mark.parametrize(
    "answers, code",
    [
        (["", "ValueError: broken", ""], 1),
        (["", "", ""], 3),
        ([KeyboardInterrupt], 130),
    ],
)
def test_what_happened_to_each_notebook_is_reported(small, monkeypatch, capsys, answers, code):
    ran, answers = [], iter(answers)

    def run(notebook, values):
        ran.append(notebook)
        if (answer := next(answers)) is KeyboardInterrupt:
            raise KeyboardInterrupt
        return answer

    paper.OUT.mkdir(parents=True)
    monkeypatch.setattr(paper, "run", run)
    monkeypatch.setattr(paper, "estimate", lambda chosen: ["hours"])
    assert paper.main([]) == code
    said = capsys.readouterr().out
    if code == 130:
        assert ran == [paper.NOTEBOOKS[0]] and "run again to go on" in said
        return
    assert ran == list(paper.NOTEBOOKS)
    assert "03_synthetic_degradations: ran in full" in said and "08_ablations: ran in part" in said
    assert ("06_real_downscalers: failed, ValueError: broken" in said) == (code == 1)


def test_a_notebook_that_cannot_run_is_skipped_and_the_others_run(small, monkeypatch, capsys):
    (small / "notebooks" / "paper" / f"{paper.NOTEBOOKS[1]}.yaml").write_text(
        "upscaler: srflow_df2k_4x\ndistortion: mse"
    )
    ran = []
    paper.OUT.mkdir(parents=True)
    monkeypatch.setattr(paper, "run", lambda notebook, values: ran.append(notebook) or "")
    monkeypatch.setattr(paper, "estimate", lambda chosen: list(chosen))
    assert paper.main([]) == 3
    assert ran == [paper.NOTEBOOKS[0], paper.NOTEBOOKS[2]]
    assert f"{paper.NOTEBOOKS[1]}: skipped, it cannot do without SRFlow_DF2K_4X.pth" in capsys.readouterr().out


@pytest.mark.parametrize(
    "source, why",
    [("raise ValueError('three draws')", "ValueError: three draws"), ("import os; os._exit(1)", "Kernel died")],
)
def test_a_failure_says_why(small, source, why):
    path = profiles.NOTEBOOKS / "08_ablations.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"] = notebook["cells"][:3]
    notebook["cells"][2]["source"] = source
    path.write_text(json.dumps(notebook))
    assert why in paper.run("08_ablations", {})
    assert (paper.OUT / "08_ablations.ipynb").exists()


def test_a_parameter_reaches_the_notebooks_that_have_it():
    given = {"n_images": 7, "n_samples_other": 2}
    for notebook in paper.NOTEBOOKS:
        values = paper.settings(notebook, given)
        assert values["n_images"] == 7 and values.get("n_samples_other", 2) == 2
        assert set(values) == set(profiles.defaults(notebook))
        assert (profiles.NOTEBOOKS / values["results_dir"]).resolve() == paper.OUT / notebook


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["-p", "n_imagse", "3"], "expected parameters among .*n_images.*got n_imagse"),
        (["-p", "n_images", "many"], "n_images: expected int, got str 'many'"),
        (["09_none"], "expected notebooks of 03_.*got 09_none"),
        (["06_real_downscalers", "-p", "n_samples_other", "2"], "got n_samples_other"),
    ],
)
def test_a_wrong_call_stops(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        paper.main(arguments)
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err, re.S)


def test_defaults_are_those_that_papermill_sees():
    for notebook in paper.NOTEBOOKS:
        assert list(profiles.defaults(notebook)) == list(
            papermill.inspect_notebook(profiles.NOTEBOOKS / f"{notebook}.ipynb")
        )
