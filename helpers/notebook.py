"""Does what every notebook repeats: checks its parameters, picks D and the images, reads published rows, signs the run.

Here, unlike elsewhere in `helpers`, functions print: their lines stand below the cell that calls them.
"""

import ast
import time
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

import pandas as pd
import torch

from helpers import datasets, distortions, results
from helpers.runtime import record

STARTED = time.perf_counter()  # notebooks import this module first
INJECTED = "# Parameters"  # first line of the cell that papermill adds after the parameters cell
DRAW = [*results.KEY[:-1], "weights"]  # what a draw is made of: all of a row's key but D, and the networks


def literals(source: str) -> dict[str, object]:
    """Read a cell that holds assignments of literals and nothing else: name -> value; {} for any other cell."""
    try:
        body = ast.parse(source).body
        return {line.targets[0].id: ast.literal_eval(line.value) for line in body}
    except (SyntaxError, ValueError, AttributeError):  # a magic, a call, no assignment to a name
        return {}


def check(namespace: Mapping[str, object], defaults: Mapping[str, object] | None = None) -> None:
    """Stop a notebook whose parameters are mistyped, with all problems in one message: `notebook.check(globals())`.

    The parameters cell says which names there are and of which type each is. Papermill only warns about a name that
    this cell does not have, and hands on `-p flag true` as the text "true". A kernel keeps the text of its cells in
    `In`: the parameters cell is the one with the most literals, of equals the first, so an edit in the session is held
    against the cell as it was; papermill's cell is the last that begins with "# Parameters".

    Args:
        namespace: the notebook's `globals()`, or parameters by name.
        defaults: what the parameters cell assigns; needed where `namespace` has no `In`, that is outside a kernel.

    Raises:
        ValueError: an unknown name in papermill's cell; a parameter that is missing or of another type than its
            default (an int passes for a float, a bool for no number); or no parameters cell was found.
    """
    cells = list(namespace.get("In", ()))
    injected = [source for source in cells if source.startswith(INJECTED)]
    if defaults is None:
        defaults = max((literals(source) for source in cells if source not in injected), key=len, default={})
    if not defaults:
        raise ValueError("parameters: expected a cell of literals, run before this one, or `defaults`; found neither")
    problems = []
    for name in _assigned(injected[-1]) if injected else ():
        if name not in defaults:
            near = get_close_matches(name, defaults, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(defaults)}"
            problems.append(f"unknown parameter {name!r}; {hint}")
    for name, default in defaults.items():
        value = namespace.get(name)
        accepted = (int, float) if type(default) is float else type(default)
        if not isinstance(value, accepted) or (isinstance(value, bool) and not isinstance(default, bool)):
            a_list = isinstance(value, str) and isinstance(default, list)
            hint = f"; papermill takes it by -y '{name}: ...'" * a_list
            problems.append(f"{name}: expected {type(default).__name__}, got {type(value).__name__} {value!r}{hint}")
    if problems:
        raise ValueError("parameters: " + "; ".join(problems))


def _assigned(source: str) -> list[str]:
    nodes = ast.walk(ast.parse(source))
    return [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def distortion(name: str, offline: str = "1-ms_ssim") -> str:
    """Choose D, and print which it is and why.

    Args:
        name: a key of `DISTORTIONS`, or "auto": LPIPS, the paper's D, where its backbone is on this machine.
        offline: what "auto" takes where it is not.

    Raises:
        ValueError: unknown name.
    """
    why = "asked for by the parameter"
    if name == "auto":
        missing = distortions.available("lpips")
        name = offline if missing else "lpips"
        why = f"not the paper's, {missing}" if missing else "the paper's, its backbone is on this machine"
    print(f"D = {name} [{distortions.describe(name)}]: {why}")
    return name


def images(dataset: str, scale: int, metrics: str | Iterable[str] = (), **how) -> list[str]:
    """Decode the images of a data set before anything is computed; print what is set aside, why, and what to note.

    Args:
        dataset, scale: as in `datasets.preflight`.
        metrics: names of D; an image must be as large as each of them needs.
        how: options of `datasets.preflight`.

    Returns:
        The names of the images to use.

    Raises:
        ValueError: as `datasets.preflight`, every problem of the set in one message.
    """
    metrics = [metrics] if isinstance(metrics, str) else metrics
    least = max([how.pop("minimum_side", 1), *(distortions.MINIMUM_SIDE[each] for each in metrics)])
    checked = datasets.preflight(dataset, scale, minimum_side=least, **how)
    for line in [*(f"set aside: {name}, {reason}" for name, reason in checked.aside), *checked.notes]:
        print(line)
    return checked.names


def published(path: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Read the published rows of the draws that `rows` has, under another D (LPIPS); print how many there are.

    Args:
        path: one published file, or "" for none.
        rows: rows of this run, as `runs.run` returns them.

    Returns:
        The rows of the file whose draw (every part of its key but D) and weights are those of a row of `rows`.

    Raises:
        ValueError: no such file, or as `results.read`.
    """
    if not path:
        return rows.iloc[:0]
    if not Path(path).is_file():
        raise ValueError(f"expected a file of published rows or '', got {path!r}")
    found, draws = results.read(path), set(_draws(rows))
    found = found[[draw in draws for draw in _draws(found)]]
    what = ", ".join(found.metric.unique())
    print(f"{Path(path).name}: {len(set(_draws(found)))} of {len(draws)} draws of this run" + f"; {what}" * bool(what))
    return found


def _draws(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    return list(map(tuple, rows[DRAW].astype(str).to_numpy()))


def by_photograph(rows: pd.DataFrame, photograph: Mapping[str, str]) -> pd.DataFrame:
    """Take the draws of all crops of a photograph for draws of one image, so that photographs are the units.

    Args:
        rows: of one D, degradation and upscaler.
        photograph: image -> photograph, as `datasets.groups` returns it.
    """
    rows = rows.assign(image=rows.image.map(photograph))
    return rows.assign(sample=rows.groupby(["downscaler", "image"]).cumcount())


def this_run(device: str | torch.device = "cpu", **facts: object) -> pd.DataFrame:
    """Sign a run: versions, revision and device, then `facts`, then the seconds since this module was imported."""
    seconds = {"seconds": f"about {round(time.perf_counter() - STARTED, -1):.0f}"}
    return pd.Series(record(device) | facts | seconds, name="this run").to_frame()
