"""Does what every notebook repeats: checks its parameters, picks D and the images, reads published rows, signs the run.

Here, unlike elsewhere in `helpers`, functions print: their lines stand below the cell that calls them.
"""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from helpers import datasets, distortions, files, results, runs
from helpers.parameters import check, check_upscalers, literals, outputs, own, spelled, start_of
from helpers.runs import methods
from helpers.runs.experiment import adopted, is_function, own_upscaler
from helpers.runtime import record

if TYPE_CHECKING:
    import nbformat

__all__ = [
    "check", "check_upscalers", "distortion", "execute", "finding", "images", "left_out", "literals", "outputs",
    "own", "own_upscaler", "published", "seen", "spelled", "this_run", "with_published", "write_ranking",
]  # fmt: skip
STARTED = time.perf_counter()  # notebooks import this module first
LEFT_OUT = "set_aside.txt"  # a line beside the rows that names what was set aside, while there is any
_aside: dict[str, str] = {}  # image -> why `images` set it aside
_in_runs: dict[str, str] = {}  # folder of rows -> what its run set aside, in words
DRAW = [*results.KEY[:-1], "weights", "hr", "lr", "version"]  # what a draw is: a row's key but D, and what it saw


def distortion(name: str, offline: str = "lpips_embedded") -> str:
    """Choose D, and print which it is and why.

    Args:
        name: a key of `DISTORTIONS`; the reader's own, "file.py:function"; or "auto": LPIPS, the paper's D, where its
            backbone is on this machine.
        offline: what "auto" takes where it is not.

    Returns:
        The name of D as rows have it, and `distortions.against` takes it; where more is better of the metric asked for,
        of its lower-is-better form.

    Raises:
        ValueError: unknown name.
    """
    why = "asked for by the parameter"
    if name == "auto":
        missing = distortions.available("lpips")
        name = offline if missing else "lpips"
        why = f"not the paper's, {missing}" if missing else "the paper's, its backbone is on this machine"
    if is_function(name):
        name = methods.adopt(name, "distortion")
        print(f"D = {name} [{methods.describe(adopted[name])}]: asked for by the parameter")
        return name
    if (lower := distortions.as_distortion(name)) != name:
        name, why = lower, f"the lower-is-better form of {name}, asked for by the parameter"
    print(f"D = {name} [{distortions.describe(name)}]: {why}")
    return name


def images(
    dataset: str, scale: int, metrics: str | Iterable[str] = (), *, own: Iterable[str | tuple] = (), **how
) -> list[str]:
    """Decode the images of a data set before anything is computed; print what is set aside, why, and what to note.

    Args:
        dataset, scale: as in `datasets.preflight`.
        metrics: names of D; an image must be as large as each of them needs.
        own: the reader's downscalers; folders of LR images among them are decoded too.
        how: options of `datasets.preflight`.

    Returns:
        The names of the images to use.

    Raises:
        ValueError: as `datasets.preflight`, every problem of the set in one message.
    """
    metrics = [metrics] if isinstance(metrics, str) else metrics
    least = max([how.pop("minimum_side", 1), *(distortions.MINIMUM_SIDE[each] for each in metrics)])
    specs = [each if isinstance(each, str) else each[1] for each in own]
    folders = [Path(spec.removeprefix("folder:").strip()).expanduser() for spec in specs if spec[:7] == "folder:"]
    checked = []
    for folder in folders or [how.pop("lr_folder", None)]:
        checked.append(datasets.preflight(dataset, scale, minimum_side=least, lr_folder=folder, **how))
    lines = [[*(f"set aside: {name}, {why}" for name, why in each.aside), *each.notes] for each in checked]
    for line in dict.fromkeys(sum(lines, [])):
        print(line)
    _aside.update({name: why for each in checked for name, why in each.aside})
    _below_tables()
    names = [name for name in checked[0].names if all(name in each.names for each in checked)]
    if not names:
        raise ValueError(f"{dataset}: expected an image with an LR image in every folder, found none")
    return names


def left_out(experiments: runs.Experiment | Sequence[runs.Experiment], results_dir: str) -> str:
    """Name what no table of a run has: images that `images` set aside, and what the run itself set aside; print it.

    From here on the words stand below every table that the notebook shows, `this_run` at its end among them.

    Args:
        experiments: of the run; an empty list in a notebook without one.
        results_dir: its folder of rows; the words are left there too, as `LEFT_OUT`, for the last line of a command.

    Returns:
        A sentence to put behind a caption, with a blank before it; "" where nothing was set aside.
    """
    _in_runs[results_dir] = runs.left_out(experiments, results_dir)
    said = "; ".join(filter(None, [_before(), _in_runs[results_dir]]))
    _below_tables()
    path = Path(results_dir, LEFT_OUT)
    if said:
        print(said)
        files.replace(path, said + "\n")
    else:
        path.unlink(missing_ok=True)
    return f" {said[:1].upper()}{said[1:]}." if said else ""


def _before() -> str:
    """What `images` set aside, in words."""
    named = "; ".join(f"{name} ({why})" for name, why in _aside.items())
    return f"set aside before the run: {named}" * bool(named)


def _below_tables() -> None:
    """Let a notebook show below every table what was set aside; outside of a notebook there is nothing to do."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    said = "; ".join(filter(None, dict.fromkeys([_before(), *_in_runs.values()])))
    said = f"{said[:1].upper()}{said[1:]}."
    html, plain = (shell.display_formatter.formatters[kind] for kind in ("text/html", "text/plain"))
    for kind in (pd.DataFrame, pd.Series):
        html.pop(kind, None)
        plain.pop(kind, None)
        if len(said) > 1:
            plain.for_type(kind, lambda table, printer, cycle: printer.text(f"{table!r}\n{said}"))
    if len(said) > 1:
        html.for_type(pd.DataFrame, lambda table: f"{table._repr_html_() or ''}<p>{escape(said)}</p>")


def published(path: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Read the published rows of the draws that `rows` has, under another D (LPIPS); print how many there are.

    Args:
        path: one published file, or "" for none.
        rows: rows of this run, as `runs.run` returns them.

    Returns:
        The rows of the file whose draw (every part of its key but D), weights, pixels and version are those of a row
        of `rows`.

    Raises:
        ValueError: no such file, or as `results.read`.
    """
    if not path:
        return rows.iloc[:0]
    if not Path(path).is_file():
        raise ValueError(f"expected a file of published rows or '', found none at {path!r}{start_of(path)}")
    found, draws = results.read(path), set(_draws(rows))
    found = found[[draw in draws for draw in _draws(found)]]
    what = ", ".join(found.metric.unique())
    print(f"{Path(path).name}: {len(set(_draws(found)))} of {len(draws)} draws of this run" + f"; {what}" * bool(what))
    return found


def with_published(rows: pd.DataFrame, found: pd.DataFrame, metrics: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Put the published rows of a run beside its own, where they cover every draw; else leave them out and say so.

    Args:
        rows: rows of this run, as `runs.run` returns them.
        found: of `published`.
        metrics: D of the run, the first decides.

    Returns:
        Both sets of rows, each once; and all D, the published ones first: LPIPS, the paper's D, decides where it can.
    """
    missing = len(set(_draws(rows)) - set(_draws(found)))
    if missing:
        if len(found):
            print(f"published rows are left out: {missing} draws of this run have none")
        return rows, list(metrics)
    both = pd.concat([rows, found], ignore_index=True).drop_duplicates(list(results.KEY))
    return both, list(dict.fromkeys([*found.distortion.unique(), *metrics]))


def _draws(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    rows = rows.assign(lr=rows.lr.map(lambda lr: lr.removesuffix(results.TRUSTED)))
    return list(map(tuple, rows[DRAW].astype(str).to_numpy()))


def finding(
    statement: str,
    verdict: str | Sequence[str],
    source: str = "",
    *,
    of: pd.DataFrame | Sequence[pd.DataFrame] = (),
    **values: object,
) -> None:
    """Show a finding as a sentence that the rows decide: its verdict, then the statement with its numbers.

    Args:
        statement: what is said to hold, with "{name}" where a value stands.
        verdict: of `findings.verdict`, `claims.verdicts` or `rankings`' tests; of a statement of several parts, each.
        source: where the paper states it, such as "P 4.5"; "" where it does not. The verdict is then on the paper.
        of: the rows that the verdict was taken from, one table or several; what `seen` says of each is kept beside the
            finding, so that a test can hold the committed text against the published rows.
        values: numbers, texts and quantities with intervals (`findings.Quantity`).

    The output carries the finding in its metadata too, which `tools.fill_tables` reads.

    Raises:
        ValueError: no verdict, or an unknown one.
        KeyError: the statement names a value that is not given.
    """
    from IPython.display import Markdown, display

    from helpers.stats import findings  # loads SciPy, which `python -m helpers.paper` does without

    decided = findings.together([verdict] if isinstance(verdict, str) else list(verdict))
    said = statement.format_map(values)
    facts = {"statement": said, "verdict": decided, "source": source}
    facts["rows"] = [seen(rows) for rows in ([of] if isinstance(of, pd.DataFrame) else of)]
    display(Markdown(f"**{decided.capitalize()}**{f' [{source}]' * bool(source)}: {said}"), metadata={"finding": facts})


def seen(rows: pd.DataFrame) -> dict:
    """What rows are of, in words and numbers that a test can find again: their data set, D, f_us, scale, weights, n.

    Args:
        rows: as `results.read` returns them.

    Returns:
        The values of each of dataset, distortion, metric, upscaler, heat, scale and weights, in a list; n, how many
        photographs; and images.
    """
    from helpers.stats import conditions  # loads SciPy, too

    columns = ["dataset", "distortion", "metric", "upscaler", "heat", "scale", "weights"]
    values = {column: sorted(map(str, rows[column].unique())) for column in columns}
    return values | {"n": int(conditions.photographs(rows).nunique()), "images": int(rows.image.nunique())}


def write_ranking(rows: pd.DataFrame, results_dir: str, set_aside: str = "") -> pd.DataFrame:
    """Rank downscalers, with the ranks that the rows allow; write `ranking.csv`, `.txt` and `.tex` beside the rows.

    Args:
        rows: one row per draw, of one D.
        results_dir: folder of the three files.
        set_aside: the sentence of `left_out`, which stands below the table.

    Returns:
        The table for a reader, best first.
    """
    from helpers.stats import rankings, tables  # load SciPy, which `python -m helpers.paper` does without

    found = rankings.ranks(rows)[["downscaler", "rank_low", "rank_high", "p_best"]]
    ranking = rankings.scores(rows).merge(found, on="downscaler")
    files.replace(Path(results_dir, "ranking.csv"), ranking.to_csv(index=False))
    columns = ["rank", "downscaler", "mean", "low", "high", "sd", "rank_low", "rank_high", "p_best", "n", "images"]
    shown = tables.shown(ranking, [*columns, "nan_draws", "images_lost"])
    whole = dict.fromkeys(("rank", "rank_low", "rank_high"), "{:g}".format)
    text = shown.to_string(index=False, formatters=whole, float_format="%.4f")
    files.replace(Path(results_dir, "ranking.txt"), "\n".join(filter(None, [text, set_aside.strip()])) + "\n")
    caption = f"{tables.setting(rows)} {tables.caption(rows)}{set_aside}"
    files.replace(Path(results_dir, "ranking.tex"), tables.latex(shown, caption=caption))
    return shown


def this_run(device: str | torch.device = "cpu", **facts: object) -> pd.DataFrame:
    """Sign a run: versions, revision and device, then `facts`, then the seconds since this module was imported."""
    seconds = {"seconds": f"about {round(time.perf_counter() - STARTED, -1):.0f}"}
    return pd.Series(record(device) | facts | seconds, name="this run").to_frame()


def execute(path: Path, output: str | None, parameters: Mapping[str, object], **how) -> "nbformat.NotebookNode":
    """Execute a notebook in its own folder, without papermill's bar and the kernel's remarks on its transport.

    Args:
        path: the notebook.
        output: where to write the executed one; None writes nothing.
        parameters: name -> value.
        how: options of `papermill.execute_notebook`, such as `stderr_file`, which shows the notebook's own bars.

    Raises:
        papermill.PapermillExecutionError: a cell raised an error; `output` shows it.
    """
    import papermill  # a notebook itself does not need it

    papermill.iorw.papermill_io.get_handler("local").write = lambda text, path: files.replace(
        path, text
    )  # whole or not
    output = output and str(Path(output).absolute())  # papermill saves it on the way too, from the notebook's folder
    return papermill.execute_notebook(
        str(path), output, dict(parameters), cwd=path.parent, kernel_name="python3", progress_bar=False,
        extra_arguments=["--log-level=ERROR"], **how,
    )  # fmt: skip
