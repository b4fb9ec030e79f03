"""Re-execute notebooks in place with their defaults, and keep only what is stable: `make notebooks`.

Run from the repository root as `python -m tests.execute_notebooks notebooks/00_quickstart.ipynb ...`. Times, progress
bars and papermill's metadata are dropped, so an unchanged run is an unchanged file; the rows of each notebook are
published to data/results/.
"""

import sys
from pathlib import Path

import nbformat
import papermill

from helpers import results


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


def main(paths: list[str]) -> None:
    """Execute, clean and write back each notebook; publish the rows it left in results/<its name>."""
    for path in map(Path, paths):
        notebook = stable(execute(path))
        nbformat.write(notebook, path)
        rows_dir = Path("results", path.stem)
        if (rows_dir / "local.csv").exists():
            Path("data/results").mkdir(exist_ok=True)
            results.publish(rows_dir, Path("data/results", f"{path.stem}.csv.gz"))


if __name__ == "__main__":
    main(sys.argv[1:])
