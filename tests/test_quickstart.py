"""`make quickstart`: what a reader writes after DOWNSCALER= reaches the notebook as it was written."""

import os
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from tools import execute_notebooks, quickstart

ROOT = Path(__file__).parents[1]
AWKWARD = [
    "/a b/it's mine.py:f", "folder: /a b/LR", "command: sh -c 'cp \"$1\" \"$2\"' x {input} {output}", "a,b#c$d.py:f",
    "{ours: '/a b/c.py:f', theirs: 'folder: /x'}", "",
]  # fmt: skip


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("text", AWKWARD)
def test_make_hands_on_every_character(tmp_path, text):
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s|" "$IDA_RD_DOWNSCALER" "$@" > "$(dirname "$0")/said"\n')
    python.chmod(0o755)
    (tmp_path / "venv" / ".installed").touch()
    subprocess.run(
        ["make", "quickstart", f"VENV={tmp_path / 'venv'}", f"DOWNSCALER={text}", "PARAMETERS=-p n_images 2"],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    assert (python.parent / "said").read_text() == f"{text}|-m|tools.quickstart|-p|n_images|2|"


def test_paths_in_it_are_seen_from_where_make_was_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my tool").touch()
    for text, wanted in (
        ("it's mine.py:f", f"{tmp_path}/it's mine.py:f"), ("/x/a.py:f", "/x/a.py:f"), ("module:f", "module:f"),
        ("folder:my LR", f"folder: {tmp_path}/my LR"), ("folder: /x y", "folder: /x y"), ("bicubic", "bicubic"),
        ("command: './my tool' {input} {output}", f"command: '{tmp_path}/my tool' {{input}} {{output}}"),
        ("command: sh 'my tool' {input} {output}", f"command: sh '{tmp_path}/my tool' {{input}} {{output}}"),
        ("command: tool {input} {output}", "command: tool {input} {output}"),
        ("[a.py:f, box]", [f"{tmp_path}/a.py:f", "box"]),
        ("{ours: a.py:f, theirs: 'folder: LR'}", {"ours": f"{tmp_path}/a.py:f", "theirs": f"folder: {tmp_path}/LR"}),
    ):  # fmt: skip
        assert quickstart.own(text) == wanted
    with pytest.raises(ValueError, match="DOWNSCALER: expected a list or mapping as YAML, got '{a'"):
        quickstart.own("{a")


def test_options_are_those_of_papermill(tmp_path):
    (tmp_path / "p.yaml").write_text("scale: 8\nheat: 1.1\n")
    given = [*("-p", "n_images", "2", "-p", "heat", "1.0+0.1", "-p", "flag", "True", "-p", "upscaler", "bicubic")]
    given += ["-r", "scale", "4"]
    found = quickstart.parameters([*given, "-y", "downscalers: [bicubic, box]", "-f", str(tmp_path / "p.yaml")])
    assert found == {
        "scale": "4", "heat": "1.0+0.1", "downscalers": ["bicubic", "box"], "n_images": 2, "flag": True,
        "upscaler": "bicubic",
    }  # fmt: skip


def test_a_refused_parameter_is_said_in_a_line_and_ends_with_1(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(quickstart, "OUT", tmp_path / "out")
    monkeypatch.setenv("IDA_RD_DOWNSCALER", "my own.py:f")
    assert quickstart.main(["-p", "n_samples", "0"]) == 1
    said = capfd.readouterr().err
    assert f"found none at {ROOT / 'my own.py'}" in said and "n_samples: expected at least 1, got 0" in said
    assert "Traceback" not in said and "TCP" not in said and "TqdmWarning" not in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"00_quickstart.ipynb"}


def test_a_process_that_dies_is_said_in_two_lines_and_ends_with_1(tmp_path, monkeypatch, capfd):
    cells = [nbformat.v4.new_code_cell("results_dir = ''", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell("import os; os.abort()")]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "dies.ipynb")
    monkeypatch.setattr(quickstart, "NOTEBOOK", tmp_path / "dies.ipynb")
    monkeypatch.setattr(quickstart, "OUT", tmp_path / "out")
    monkeypatch.delenv("IDA_RD_DOWNSCALER", raising=False)
    assert quickstart.main([]) == 1
    said = capfd.readouterr().err
    assert "the process that computed was ended" in said and "run again" in said and "Traceback" not in said


def test_a_notebook_executed_in_place_keeps_no_cell_of_parameters_and_counts_its_cells():
    def cell(count, **more):
        return {"cell_type": "code", "metadata": {}, "source": "x", "execution_count": count, "outputs": []} | more

    result = {"output_type": "execute_result", "execution_count": 3, "data": {"text/plain": "1"}, "metadata": {}}
    injected = cell(2, metadata={"tags": ["injected-parameters"]})
    cells = [cell(1, metadata={"tags": ["parameters"]}), injected, cell(3, outputs=[result])]
    whole = {"cells": cells, "metadata": {"kernelspec": {}, "language_info": {}}, "nbformat": 4, "nbformat_minor": 5}
    left = execute_notebooks.stable(execute_notebooks.nbformat.from_dict(whole)).cells
    assert [(each.execution_count, each.metadata) for each in left] == [(1, {"tags": ["parameters"]}), (2, {})]
    assert left[1].outputs[0].execution_count == 2


def test_the_repositorys_own_figures_are_asked_for_by_its_tools_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(execute_notebooks.notebook, "execute", lambda *given: asked.append(given))
    for path in (Path("notebooks/00_quickstart.ipynb"), Path("notebooks/training/compact_flow.ipynb")):
        execute_notebooks.execute(path, {"results_dir": "x"})
        assert asked[-1][2]["results_dir"] == "x"
        assert os.path.normpath(path.parent / asked[-1][2]["figures_dir"]) == "figures"
