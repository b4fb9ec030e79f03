"""What the tests of all notebooks share: a tiny run through papermill, a part of one in this process, its cells."""

import contextlib
import io
import json
import os
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import papermill
from IPython.display import display

from helpers import figures, notebook, runs

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
OWN = """import torch

def upscale(lr, generators):
    big = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return torch.cat([big + 0.02 * torch.randn(big.shape, generator=g) for g in generators])

def distance(sr, hr):
    return (sr - hr).abs().mean((1, 2, 3))
"""


def run(name: str, tmp_path: Path, tiny: dict, shown: bool = False, **parameters):
    """Execute with tiny parameters; rows, figures and checkpoint go below `tmp_path`.

    Figures are written, but not drawn once more below their cells unless `shown`: a third of the time of a notebook.
    """
    path, given = NOTEBOOKS / f"{name}.ipynb", settings(name, tmp_path, tiny | parameters)
    with mock.patch.dict(os.environ, {} if shown else {"MPLBACKEND": "agg"}):
        return papermill.execute_notebook(
            path, tmp_path / "out.ipynb", given, cwd=path.parent, progress_bar=False, execution_timeout=300
        )


def settings(name: str, tmp_path: Path, given: dict) -> dict:
    """`given`, and folders below `tmp_path` where the notebook has a parameter for them."""
    known = notebook.literals("".join(cells(name)[0]["source"]))
    own = {"figures_dir": "figures", "results_dir": "rows", "checkpoint": "training/state.pt"}
    return {key: str(tmp_path / value) for key, value in own.items() if key in known} | given


def up_to(name: str, call: str, tmp_path: Path, tiny: dict, **parameters) -> tuple[dict, str]:
    """Execute the cells up to the first with the text `call` in this process: its names, and what it printed.

    Several times faster than `run`: no kernel starts, no figure is written. "" executes all cells.
    """
    source, *others = ("".join(cell["source"]) for cell in cells(name))
    given = settings(name, tmp_path, tiny | parameters)
    injected = "\n".join(["# Parameters", *(f"{key} = {value!r}" for key, value in given.items())])
    space, said, before = {"In": [], "display": display}, io.StringIO(), Path.cwd()
    os.chdir((NOTEBOOKS / name).parent)
    try:
        with plt.rc_context(), mock.patch.object(figures, "save"), contextlib.redirect_stdout(said):
            for cell in (source, injected, *others):
                space["In"].append(cell)
                exec(compile(cell, f"{name}, cell {len(space['In'])}", "exec"), space)
                plt.close("all")
                if call and call in cell:
                    break
            else:
                assert not call, f"{name}: no cell with {call!r}"
    finally:
        os.chdir(before)
    return space, said.getvalue()


def missing(name: str, tmp_path: Path, tiny: dict, **parameters) -> list[tuple]:
    """The keys of the rows that a run with these parameters would compute."""
    space, _ = up_to(name, "runs.plan(", tmp_path, tiny, **parameters)
    wanted = space["experiments"] if "experiments" in space else space["experiment"]
    return runs.plan(wanted, space["results_dir"], calibrate=False).missing


def own(folder: Path) -> dict[str, str]:
    """The parameters that name an upscaler and a distance of the reader's own, in a file that is written here."""
    (path := folder / "mine.py").write_text(OWN)
    return {"upscaler": f"{path}:upscale", "distortion": f"{path}:distance"}


def up_to_rows_of_own(name: str, tmp_path: Path, tiny: dict, call: str = "runs.run(") -> tuple[dict, str]:
    """`up_to` with an upscaler and a distance of the reader's own, both of which have rows, and all of them a value."""
    space, said = up_to(name, call, tmp_path, tiny, **own(tmp_path))
    rows = space["rows"]
    assert rows.upscaler.str.startswith("upscale@").any() and rows.distortion.str.startswith("distance@").any()
    assert rows.value.notna().all()
    return space, said


def printed(executed) -> str:
    """All text that an executed notebook shows."""
    outputs = [out for cell in executed.cells if cell.cell_type == "code" for out in cell.outputs]
    return "\n".join(out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in outputs)


def told(executed) -> list[dict]:
    """What `notebook.finding` has left in an executed notebook: statement, verdict, source, rows of each."""
    outputs = [out for cell in executed.cells if cell.cell_type == "code" for out in cell.outputs]
    return [out.metadata["finding"] for out in outputs if "finding" in out.get("metadata", {})]


def cells(name: str, kind: str = "code") -> list[dict]:
    """The committed cells of one kind."""
    return [c for c in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"] if c["cell_type"] == kind]
