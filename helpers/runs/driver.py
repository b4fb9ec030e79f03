"""Plan and run experiments: count missing rows, estimate their time, compute them; only this process writes."""

import contextlib
import math
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from helpers import files, results
from helpers.runs import cell, cluster
from helpers.runs.experiment import Experiment
from helpers.runtime import pick_device, tqdm

if TYPE_CHECKING:
    from distributed import Client

IN_A_ROW = 3  # images that fail one after the other: the set-up is broken, not the images


class Plan(NamedTuple):
    """What a run would do: keys without a row, images to compute, seconds (NaN: unknown), all in words."""

    missing: list[tuple]
    images: list[str]
    seconds: float
    summary: str


def plan(
    experiment: Experiment | Sequence[Experiment],
    rows_dir: str | Path,
    client: "Client | None" = None,
    *,
    calibrate: bool = True,
    mixed: Sequence[str] = (),
    retry_aside: bool = False,
) -> Plan:
    """Count the missing rows and estimate their seconds from the median of earlier rows.

    Where there are none to go by (of the same upscaler and scale), the first missing image is computed and its rows
    are kept.

    Args:
        experiment, rows_dir, client, mixed, retry_aside: as `run`.
        calibrate: False leaves the seconds unknown instead of computing an image.

    Raises:
        ValueError: as `run`.
    """
    experiments = [experiment] if isinstance(experiment, Experiment) else list(experiment)
    n_workers = max(1, sum(client.nthreads().values())) if client else 1
    wanted, todo, images, left, seconds = {}, {}, {}, set(), 0.0

    def look(each: Experiment) -> tuple[list, list, dict, float]:
        its, rows, tasks = _todo(each, rows_dir, mixed, retry_aside)
        needs = [key for key in results.missing(its, rows) if key not in todo]
        return its, needs, tasks, _seconds(needs, each, rows_dir) / n_workers if needs else 0.0

    for each in experiments:
        its, needs, tasks, more = look(each)
        if calibrate and math.isnan(more):
            run(each, rows_dir, client, progress=False, mixed=mixed, retry_aside=retry_aside, limit=1)
            its, needs, tasks, more = look(each)
        seconds += more
        wanted |= dict.fromkeys(its)
        todo |= dict.fromkeys(needs)
        images |= dict.fromkeys(tasks)
        left |= set(each.images) - {key[1] for key in its}
    words = f"all {len(wanted)} rows are there"
    if todo:
        device = experiments[0].device
        device = pick_device(device) if client is None or device == "auto" else device  # a worker may have another
        many = f" with {n_workers} workers" if n_workers > 1 else ""
        words = f"{len(todo)} of {len(wanted)} rows missing, {_about(seconds)} on {device}{many}"
    return Plan(list(todo), list(images), seconds, words + (f"; {len(left)} images set aside" if left else ""))


def run(
    experiment: Experiment | Sequence[Experiment],
    rows_dir: str | Path,
    client: "Client | None" = None,
    progress: bool = True,
    *,
    batch: int = 8,
    mixed: Sequence[str] = (),
    retry_aside: bool = False,
    strict: bool = False,
    deadline: float | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """Compute the rows that are missing, and return all rows of the experiment.

    Only this process writes, each image as soon as it is done; stop it at any time, call it again to go on. An image
    gets a second try after an error of memory or of input and output, or where its worker dies; then it is set aside
    with its reason (`results.aside`) and left out, until `retry_aside`. Rows are computed with one thread each, so
    that they are the same bytes on any number of workers.

    Args:
        experiment: what is computed; of several, one after the other, the rows are returned together, each once.
        rows_dir: folder of rows, not inside the data set's folder; not touched if no row is missing.
        client: None computes here, one image after the other; a `dask.distributed.Client` sends the images to its
            cluster, as `local` and `slurm` make them.
        progress: show a bar.
        batch: samples drawn together; halved where memory runs out, and it changes no draw.
        mixed: as `results.read`.
        retry_aside: try the images again that were set aside.
        strict: raise the error of an image instead of setting it aside.
        deadline: seconds after which the worker of an image is restarted; None is ten times the median image, at
            least a minute. Only with a client.
        limit: stop after this many images.

    Returns:
        The rows, sorted by key, without those of images set aside; NaN draws are among them.

    Raises:
        ValueError: the folder cannot be used, rows would mix, or what is asked for does not exist.
        RuntimeError: three images in a row failed, or all of them did: the set-up is at fault.
        KeyboardInterrupt, SystemExit: it was stopped (the latter by SIGTERM); finished images are written.
    """
    if not isinstance(experiment, Experiment):
        options = {"batch": batch, "mixed": mixed, "retry_aside": retry_aside, "strict": strict}
        options |= {"deadline": deadline, "limit": limit}
        parts = [run(each, rows_dir, client, progress, **options) for each in experiment]
        return pd.concat(parts, ignore_index=True).drop_duplicates(list(results.KEY), ignore_index=True)
    _, rows, tasks = _todo(experiment, rows_dir, mixed, retry_aside)
    if not tasks:
        return rows
    if client is None:
        pick_device(experiment.device)
    files.check_output(rows_dir, experiment.source)
    with results.writer(rows_dir) as write, _sigterm_raises(), cell.one_thread():
        wanted, rows, tasks = _todo(experiment, rows_dir, mixed, retry_aside)  # again: now nobody else writes
        facts = client.submit(cell.facts, experiment, pure=False).result() if client else cell.facts(experiment)
        for column in set(results.ONE_OF) - set(mixed):
            if (other := rows[column] != _expected(rows, facts, column)).any():
                raise ValueError(
                    f"{rows_dir}: {column} of the rows there is {', '.join(rows[column][other].unique())}, of new rows "
                    f"{facts[column]}; use another folder (results_dir of a "
                    f"notebook), or helpers.runs.run(..., mixed=({column!r},))"
                )
        plain = {
            image: (replace(experiment, images=[image]), image, keys, batch, image in experiment.images[:2])
            for image, keys in list(tasks.items())[: limit and limit + IN_A_ROW]
        }
        outcomes = cluster.compute(cell.score, plain, client, deadline)
        total = len({key[1] for key in wanted})
        try:
            with _bar(progress, total, total - len(tasks)) as bar, contextlib.closing(outcomes):
                _write(experiment, rows_dir, _counted(outcomes, bar), facts, write, total, strict, limit)
        except (KeyboardInterrupt, SystemExit) as stop:
            written = results.read(rows_dir, keys=wanted, mixed=tuple(results.ONE_OF))  # perhaps even the last one
            left = {key[1] for key in results.missing(wanted, written)}
            raise type(stop)(f"{total - len(left)} of {total} images done; run again to go on") from None
    return _todo(experiment, rows_dir, mixed, False)[1]


def _counted(outcomes: Iterator, bar: tqdm) -> Iterator:
    for outcome in outcomes:
        bar.update()
        yield outcome


def _write(experiment, rows_dir, outcomes, facts, write, total, strict, limit) -> None:
    """Bring every image to its end: its rows written, or set aside."""
    done, failed, aside = 0, [], {}
    same = {"dataset": experiment.dataset_name, "scale": experiment.scale, "upscaler": experiment.upscaler}

    def note() -> None:
        results.set_aside(rows_dir, [same | {"image": image, "reason": why} for image, why in aside.items()])
        aside.clear()

    for image, outcome in outcomes:
        if isinstance(outcome, Exception):
            if strict:
                raise outcome
            failed.append(image)
            aside[image] = f"{type(outcome).__name__}: {outcome}"
            if len(failed) == min(IN_A_ROW, total):
                raise RuntimeError(f"{', '.join(failed)} all failed, the last: {outcome}") from outcome
            continue
        new, remarks = outcome
        made = pd.DataFrame(new)
        if any((made[column] != _expected(made, facts, column)).any() for column in results.ONE_OF):
            raise RuntimeError(f"{image}: expected a worker with {facts}, got {new[0]}")
        write(new)
        done, failed, aside[image] = done + 1, [], ""  # an empty reason: no longer set aside
        note()
        for remark in remarks:
            warnings.warn(remark, stacklevel=3)
        if done == limit:
            return
    note()


def _expected(rows: pd.DataFrame, facts: dict, column: str) -> pd.Series:
    """What `column` of these rows would be if they were made now."""
    return rows.distortion.map(facts[column]) if column == "metric" else pd.Series(facts[column], rows.index)


def _todo(experiment: Experiment, rows_dir, mixed, retry_aside) -> tuple[list, pd.DataFrame, dict]:
    """Keys of images not set aside; the rows there are; image -> its keys without a row."""
    wanted, out = experiment.keys(), results.aside(rows_dir)
    if not retry_aside and len(out):
        same = (out.dataset == experiment.dataset_name) & (out.scale == experiment.scale)
        left = set(out.image[same & (out.upscaler == experiment.upscaler)])
        wanted = [key for key in wanted if key[1] not in left]
    rows = results.read(rows_dir, keys=wanted, mixed=mixed)
    tasks = {}
    for key in results.missing(wanted, rows):
        tasks.setdefault(key[1], []).append(key)
    return wanted, rows, tasks


def _seconds(todo: list[tuple], experiment: Experiment, rows_dir: str | Path) -> float:
    """Seconds for the missing rows on one worker: the median of each downscaler, else of all; or NaN."""
    rows = results.read(rows_dir, mixed=tuple(results.ONE_OF))
    same = (rows.upscaler == experiment.upscaler) & (rows.scale == experiment.scale)
    rows = rows[same & rows.distortion.isin(experiment.metrics)]
    medians, overall = rows.groupby("downscaler").seconds.median(), rows.seconds.median()
    return sum(medians.get(key[2], overall) for key in todo)


def _about(seconds: float) -> str:
    if math.isnan(seconds):
        return "time unknown"
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {math.ceil(seconds)} seconds"


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM, the warning before a walltime ends, becomes SystemExit while rows are written."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit("stopped by SIGTERM; run again to go on")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _bar(progress: bool, total: int, done: int) -> tqdm:
    """The bar; few whole lines instead where it would not be redrawn in place, as in a log file."""
    options = {"total": total, "initial": done, "unit": "image", "disable": not progress}
    if not sys.stderr.isatty() and not type(sys.stderr).__module__.startswith("ipykernel"):
        options |= {"mininterval": 30, "maxinterval": math.inf, "miniters": max(1, total // 20)}
        options["bar_format"] = "{percentage:3.0f} % {n_fmt}/{total_fmt} images [{elapsed}<{remaining}]\n"
    return tqdm(**options)
