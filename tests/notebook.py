"""What the tests of all notebooks share: a tiny run through papermill, and a look at the cells."""

import json
from pathlib import Path

import papermill

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
