"""What the tests of all notebooks share: a tiny run through papermill, and what holds for every notebook."""

import ast
import json
import re
from pathlib import Path

import papermill
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run(name: str, tmp_path: Path, tiny: dict, **parameters):
    """Execute with tiny parameters; rows, figures and checkpoint go below `tmp_path`."""
    path = NOTEBOOKS / f"{name}.ipynb"
    known = papermill.inspect_notebook(path).keys()
    own = {"figures_dir": "figures", "results_dir": "rows", "checkpoint": "training/state.pt"}
    own = {key: str(tmp_path / value) for key, value in own.items() if key in known}
    assert tiny.keys() <= known
    return papermill.execute_notebook(
        path, tmp_path / "out.ipynb", own | tiny | parameters, cwd=path.parent, progress_bar=False,
        execution_timeout=300,
    )  # fmt: skip


def printed(notebook) -> str:
    """All text that an executed notebook shows."""
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    return "\n".join(out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in outputs)


def cells(name: str, kind: str = "code") -> list[dict]:
    """The committed cells of one kind."""
    return [c for c in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"] if c["cell_type"] == kind]


def check_static(name: str) -> None:
    """One tagged cell of literals; executed top to bottom without errors; prose first; no class; not too big."""
    code = [c for c in cells(name) if "".join(c["source"]).strip()]
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1 and tagged[0] is code[0]
    for statement in ast.parse("".join(tagged[0]["source"])).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
    assigned = [statement.targets[0].id for statement in ast.parse("".join(tagged[0]["source"])).body]
    known = papermill.inspect_notebook(NOTEBOOKS / f"{name}.ipynb")
    assert list(known) == assigned  # papermill overlooks a parameter whose comment it cannot read
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    outputs = [out for c in code for out in c["outputs"]]
    assert outputs and not [out for out in outputs if out["output_type"] == "error"]
    assert not [c for c in code if "\nclass " in "".join(c["source"])]
    trees = [ast.parse("".join(c["source"])) for c in code]
    texts = [n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is str]
    assert not [text for text in texts if re.search("[\t\r\a\b\v\f]", text)]  # "$\tau$" without its backslash
    path = NOTEBOOKS / f"{name}.ipynb"
    whole = json.loads(path.read_text())
    assert "papermill" not in whole["metadata"]
    first = whole["cells"][0]
    assert first["cell_type"] == "markdown" and "".join(first["source"]).startswith("# ")
    assert path.stat().st_size < 2.5e6


def check_mistyped(name: str, tmp_path: Path, tiny: dict) -> None:
    """An unknown parameter stops the notebook before it leaves anything."""
    with pytest.raises(papermill.PapermillExecutionError, match="unknown parameter 'n_imagse'"):
        run(name, tmp_path, tiny, n_imagse=3)
    assert not (tmp_path / "rows").exists() and not (tmp_path / "figures").exists()
