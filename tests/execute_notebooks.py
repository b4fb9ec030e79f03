"""Execute notebooks with their defaults: `make notebooks` and `make figures`.

Run from the repository root as `python -m tests.execute_notebooks [--figures] notebooks/00_quickstart.ipynb ...`.
Without the flag each notebook is executed in place and only what is stable is kept: times, progress bars and
papermill's metadata are dropped, so an unchanged run is an unchanged file; the rows in results/<its name> are published
to data/results/. With it the published rows are put into results/figures/<its name> and the notebook reads them from
there: only figures and tables are made anew, the notebook stays as it is.
"""

import shutil
import sys
import time
from pathlib import Path

import nbformat
import papermill

from helpers import results

PUBLISHED = Path("data/results")


def execute(path: Path, parameters: dict | None = None) -> nbformat.NotebookNode:
    """Execute one notebook from its own folder; an error in a cell is raised."""
    return papermill.execute_notebook(
        path, None, parameters, cwd=path.parent, kernel_name="python3", progress_bar=False
    )


def stable(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop execution times, progress bars and papermill's metadata."""
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec", "language_info")}
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    return notebook


def in_place(path: Path) -> None:
    """Execute, clean and write back a notebook; publish the rows it left in results/<its name>."""
    nbformat.write(stable(execute(path)), path)
    if (rows_dir := Path("results", path.stem)).joinpath("local.csv").exists():
        PUBLISHED.mkdir(exist_ok=True)
        results.publish(rows_dir, PUBLISHED / f"{path.stem}.csv.gz")


def redraw(path: Path) -> None:
    """Execute a notebook on its published rows, for its figures alone."""
    rows_dir, rows = Path("results", "figures", path.stem), PUBLISHED / f"{path.stem}.csv.gz"
    shutil.rmtree(rows_dir, ignore_errors=True)
    rows_dir.mkdir(parents=True)
    if rows.exists():
        shutil.copy(rows, rows_dir)
    execute(path, {"results_dir": f"../{rows_dir.as_posix()}"})


def main(arguments: list[str]) -> None:
    """Execute each notebook that is named, and say how long each took."""
    work = redraw if "--figures" in arguments else in_place
    for path in (Path(argument) for argument in arguments if argument != "--figures"):
        start = time.perf_counter()
        work(path)
        print(f"{path}: {time.perf_counter() - start:.0f} seconds", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
