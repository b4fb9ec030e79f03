"""Execute notebooks with their defaults: `make notebooks` and `make figures`.

Run from the repository root as `python -m tools.execute_notebooks [--figures] notebooks/00_quickstart.ipynb ...`.
Without the flag each notebook is executed in place and only what is stable is kept: times, progress bars and
papermill's metadata are dropped, so an unchanged run is an unchanged file, and pictures are stored small; the rows in
results/<its name> are published to data/results/. With it the published rows are put into results/figures/<its name>
and the notebook reads them from there: only figures and tables are made anew, the notebook stays as it is.
"""

import base64
import io
import os
import shutil
import sys
import time
from pathlib import Path

import nbformat
from PIL import Image

from helpers import files, notebook, results

PUBLISHED = Path("data/results")
PLOT_COLOURS = 20_000  # a picture with more colours holds photographs


def execute(path: Path, parameters: dict | None = None) -> nbformat.NotebookNode:
    """Execute one notebook from its own folder, its figures go to `figures/`; an error in a cell is raised."""
    return notebook.execute(path, None, {"figures_dir": os.path.relpath("figures", path.parent)} | (parameters or {}))


def stable(executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop execution times, progress bars, papermill's metadata and the cell of its parameters."""
    executed.cells = [cell for cell in executed.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for count, cell in enumerate((cell for cell in executed.cells if cell.get("execution_count")), 1):
        cell.execution_count = count
    executed.metadata = {key: executed.metadata[key] for key in ("kernelspec", "language_info")}
    executed.metadata.language_info = {"name": "python"}
    for cell in executed.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            for out in (out for out in cell.outputs if "execution_count" in out):
                out.execution_count = cell.execution_count
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for data in (out["data"] for out in cell.outputs if "image/png" in out.get("data", {})):
                shrink(data)
    return executed


def shrink(data: dict) -> None:
    """Store an inline picture as 256 colours (a plot) or as JPEG (photographs), whichever is smaller than the PNG."""
    png = base64.b64decode(data["image/png"])
    image = Image.open(io.BytesIO(png)).convert("RGB")
    colours = image.getcolors(PLOT_COLOURS)
    reduced = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) if colours else image
    kind, options = ("png", {"optimize": True}) if colours else ("jpeg", {"quality": 88, "optimize": True})
    file = io.BytesIO()
    reduced.save(file, kind, **options)
    if len(file.getvalue()) < 0.9 * len(png):  # a second call leaves it as it is
        del data["image/png"]
        data[f"image/{kind}"] = base64.b64encode(file.getvalue()).decode() + "\n" * (kind == "png")


def in_place(path: Path) -> None:
    """Execute, clean and write back a notebook; publish the rows it left in results/<its name>."""
    files.replace(path, nbformat.writes(stable(execute(path))).rstrip("\n") + "\n")
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
