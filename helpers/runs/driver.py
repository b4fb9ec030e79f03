"""Plan and run experiments: count missing rows, estimate their time, compute them; only this process writes."""

import contextlib
import itertools
import math
import numbers
import os
import secrets
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from helpers import files, measure, results
from helpers.downscalers import DOWNSCALERS
from helpers.runs import apart, cell, checks, cluster, grid, outcomes, stale, words
from helpers.runs.experiment import Experiment
from helpers.runtime import Stopped, is_whole, pick_device, shielded, signals_raise, tqdm

if TYPE_CHECKING:
    from distributed import Client


class Plan(NamedTuple):
    """What a run would do: keys without a row, images to compute, seconds (NaN: unknown), all in words."""

    missing: Sequence[tuple]
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
    trust: Sequence[str] = (),
) -> Plan:
    """Count the rows that are missing or stale and estimate their seconds from the median of earlier rows.

    Each image that has rows is downscaled again, as in a run. Where there are no rows to go by (of the same upscaler
    and scale), the first missing image is computed and its rows are kept.

    Args:
        experiment, rows_dir, client, mixed, retry_aside, trust: as `run`.
        calibrate: False leaves the seconds unknown instead of computing an image.

    Raises:
        ValueError: as `run`.
    """
    experiments = _check_call(experiment, rows_dir, client, mixed=mixed, trust=trust)
    checks.check_names(experiments, trust)
    with shielded(), apart.watching(() if client else experiments, rows_dir):
        return _plan(experiments, rows_dir, client, calibrate, {"mixed": mixed, "retry_aside": retry_aside}, trust)


def _plan(experiments, rows_dir, client, calibrate, how, trust) -> Plan:
    n_workers = max(1, sum(client.nthreads().values())) if client else 1
    there, run_name = results.snapshot(rows_dir), secrets.token_hex(4)
    redrawn = checks.redraws(map(grid.columns, experiments), rows_dir, there)
    missing, outdated, back, made, images, n_wanted, seconds = [], [], [], [], {}, 0, 0.0
    medians = [_medians(each, there) for each in experiments]
    for part in grid.chunks(experiments):  # not all images at once: what is known of them may not fit
        seen, taken, wanted = {}, set(), set()

        def look(each: Experiment, there: results.Snapshot, seen=seen) -> checks.Todo:
            own = how | {"trust": set(trust) & set(each.specs), "there": there}
            with cell.one_thread():
                return checks.todo(each, rows_dir, client, seen=seen, run=run_name, redrawn=redrawn, **own)

        for k, each in enumerate(part):
            its = look(each, there)
            needs = _new(each, its, taken)
            outdated.append(its.stale[["checksum", "why", "downscaler", "image"]])
            if calibrate and len(needs) and math.isnan(sum(medians[k].values())):
                own = how | {"trust": set(trust) & set(each.specs), "run": run_name, "seen": seen, "redrawn": redrawn}
                _run(each, rows_dir, client, False, own, batch=8, strict=False, deadline=None, limit=1)
                there, calibrate = results.snapshot(rows_dir), len(experiments) > 1
                medians[k], its = _medians(each, there), look(each, there)
                needs = _new(each, its, taken)
            missing.append((each, needs))
            if len(each.images) < len(experiments[k].images):  # of all parts together
                made.append(its.rows.drop_duplicates([*results.ONE_OF, "upscaler", "scale", "distortion"]))
                results.check_mixed(pd.concat(made, ignore_index=True), how["mixed"])
            seconds += _seconds(each, needs, medians[k]) / n_workers
            back += its.back
            images |= dict.fromkeys(its.tasks)
            n_wanted += _count(each, its.aside, wanted if len(experiments) > 1 else None)
            if len(experiments) > 1:
                taken |= set(grid.keys_at(each, needs))
    todo = grid.Missing(missing)
    said = [f"all {n_wanted} rows are there"]
    if redrawn:
        said.append("published before rows had hashes and not held against the pictures")
    if len(todo):
        device = experiments[0].device
        device = pick_device(device) if client is None or device == "auto" else device  # a worker may have another
        many = f" with {n_workers} workers" if n_workers > 1 else ""
        said = [f"{len(todo)} of {n_wanted} rows missing, {_about(seconds)} on {device}{many}"]
    outdated = pd.concat(outdated, ignore_index=True).drop_duplicates("checksum") if outdated else pd.DataFrame()
    said += [words.say_stale(outdated) if len(outdated) else ""]
    said += [words.left_out(experiments, rows_dir, back)]
    return Plan(todo, list(images), seconds, "; ".join(filter(None, said)))


def _new(experiment: Experiment, its: checks.Todo, taken: set[tuple]) -> np.ndarray:
    """The numbers of the keys to compute that no earlier experiment computes."""
    numbers = [numbers for keys in its.tasks.values() for _, numbers in keys.parts]
    found = np.concatenate(numbers) if numbers else np.zeros(0, np.int64)
    if taken:
        found = found[[key not in taken for key in grid.keys_at(experiment, found)]]
    return found


def _count(experiment: Experiment, aside: list[tuple], before: set[tuple] | None) -> int:
    """How many rows are wanted, without what was set aside, and without those that are in `before`, which grows."""
    number = math.prod(grid.shape(experiment))
    if before is None:
        return number - len(aside) * math.prod(grid.shape(experiment)[3:])
    gone, n_before = set(aside), len(before)
    before |= {key for key in grid.keys_at(experiment, range(number)) if words.cell_of(key) not in gone}
    return len(before) - n_before


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
    trust: Sequence[str] = (),
) -> pd.DataFrame:
    """Compute the rows that are missing or stale, and return all rows of the experiment.

    A row is reused only where it would come out again: each image that has rows is downscaled again, and a row whose HR
    or LR pixels, weights or metric have changed is stale. Stale rows are computed anew, and a warning says how many
    there were and why. Published rows from before rows had hashes are returned as they are, with a warning, where no
    row of the call is missing; else they are stale.

    Only this process writes, each image as soon as it is done; stop it at any time, call it again to go on. What fails
    for a downscaler on an image (under one degradation) gets a second try after an error of memory or of input and
    output, or where its worker dies; then it is set aside with its reason (`results.aside`, `left_out`), and the
    other downscalers keep their rows; a warning at the end names it. Without workers a reader's function that ends or
    hangs this process does so once: the next call sees it, gives it a process of its own, and sets aside what ends or
    hangs that one. What failed is tried again once its HR pixels, its LR pixels, the weights or the version have
    changed, or with `retry_aside`. A downscaler that fails on three images in a row is not tried on the others in this
    run, and on those first in the next; where nothing at all works on three images in a row, the run stops. Rows are
    computed with one thread each, so that they are the same bytes on any number of workers.

    Args:
        experiment: what is computed; of several, one after the other, the rows are returned together, each once.
        rows_dir: folder of rows, not inside the data set's folder; not touched if no row is missing.
        client: None computes here, one image after the other; a `dask.distributed.Client` sends the images to its
            cluster, as `local` and `slurm` make them.
        progress: show a bar.
        batch: samples drawn together; halved where memory runs out. A search takes its samples one by one, so that a
            row depends on its key alone, not on how many others are asked for.
        mixed: names among `results.ONE_OF` in which rows there may differ from new ones.
        retry_aside: try again what was set aside.
        strict: raise the error of an image instead of setting it aside.
        deadline: seconds after which the worker of an image is restarted; None is ten times the median image, at
            least a minute. Without a client: keep readers' functions in a process of their own from the start, and
            end a call that takes longer.
        limit: stop after this many images.
        trust: downscalers, as rows name them, whose LR images are not made again to be compared, because that takes
            longer than the upscaling; their rows say "trusted" in the column `lr`. What failed is not
            trusted, nor are rows of one cell with several LR images: these are computed anew.

    Returns:
        The rows, sorted by key, without what was set aside; NaN draws are among them.

    Raises:
        ValueError: the folder cannot be used, rows would mix, one name stands for two things, or what is asked for does
            not exist.
        RuntimeError: nothing worked on three images in a row, or on any: the set-up is at fault.
        KeyboardInterrupt, SystemExit: it was stopped (the latter by SIGTERM or SIGHUP, its code 128 and the number of
            the signal); finished images are written.
    """
    whole = {"batch": batch, "limit": 1 if limit is None else limit}
    experiments = _check_call(experiment, rows_dir, client, whole, deadline, mixed=mixed, trust=trust)
    checks.check_names(experiments, trust)
    if redrawn := checks.redraws(map(grid.columns, experiments), rows_dir):
        warnings.warn(words.say_redrawn(redrawn, rows_dir), stacklevel=2)
    how = {"mixed": mixed, "retry_aside": retry_aside, "run": secrets.token_hex(4), "seen": {}, "redrawn": redrawn}
    parts = []
    with shielded(), apart.watching(() if client else experiments, rows_dir, deadline) as forget:
        for each in experiments:
            own = how | {"trust": set(trust) & set(each.specs)}
            options = rows_dir, client, progress, own, batch, strict, deadline, limit
            parts.append(_run(each, *options))
            if not limit and _differ(parts[-1], own["trust"]):  # new draws of another LR image than those trusted
                parts[-1] = _run(each, *options)
        if not limit:
            forget()
    rows = parts[0]
    if len(parts) > 1:
        rows = pd.concat(parts, ignore_index=True).drop_duplicates(list(results.KEY), ignore_index=True)
        results.check_mixed(rows, mixed)
    if len(results.aside(rows_dir)):
        there = rows[[*results.CELL, "distortion"]].drop_duplicates().to_dict("records")
        if said := words.left_out(experiments, rows_dir, there):
            warnings.warn(f"{rows_dir}: {said}", stacklevel=2)
    return rows


def _check_call(experiment, rows_dir, client, whole: dict | None = None, deadline=None, **names) -> list[Experiment]:
    """The experiments as a list; ValueError: an argument is of the wrong kind, the message has all of them."""
    problems, experiments = [], words.several(experiment)
    if not experiments:
        problems.append(f"experiment: expected an Experiment, or several in a list, got {experiment!r}")
    if not isinstance(rows_dir, str | os.PathLike) or not str(rows_dir).strip():
        problems.append(f"rows_dir: expected a folder as text or path, got {rows_dir!r}")
    if client is not None and not hasattr(client, "submit"):
        problems.append(f"client: expected None or a Client of Dask, as runs.local(2) makes one, got {client!r}")
    for name, value in (whole or {}).items():
        if not is_whole(value):
            problems.append(f"{name}: expected an integer of at least 1, got {value!r}")
    number = isinstance(deadline, numbers.Real) and not isinstance(deadline, bool)
    if deadline is not None and not (number and 0 < deadline < math.inf):
        problems.append(f"deadline: expected None or seconds above 0, got {deadline!r}")
    for name, value in names.items():
        if isinstance(value, str) or not isinstance(value, Iterable):
            problems.append(f"{name}: expected names in a list, got {value!r}")
    if problems:
        raise ValueError("; ".join(problems))
    return experiments


def _differ(rows: pd.DataFrame, trust: set[str]) -> bool:
    """Whether a trusted cell has rows of several LR images."""
    rows = rows[rows.downscaler.isin(trust)]
    return bool((rows.groupby(list(results.CELL), dropna=False).lr.nunique() > 1).any())


def _run(experiment, rows_dir, client, progress, how, batch, strict, deadline, limit) -> pd.DataFrame:
    """Run one experiment; `how` are the options of `checks.todo`."""
    mixed = how["mixed"]
    with cell.one_thread():
        todo = checks.todo(experiment, rows_dir, client, **how)
    if not todo.tasks:
        if todo.back or len(todo.regrouped):
            with contextlib.ExitStack() as stack:
                try:
                    write = stack.enter_context(results.writer(rows_dir))
                except (ValueError, PermissionError):  # read-only, one published file, or in use: the rows hold as well
                    return todo.rows
                _correct(checks.todo(experiment, rows_dir, client, **how), rows_dir, write)
        return todo.rows
    if client is None:
        pick_device(experiment.device)
    files.check_output(rows_dir, experiment.source)
    with results.writer(rows_dir) as write, signals_raise(), cell.one_thread():
        todo = checks.todo(experiment, rows_dir, client, **how)  # again: now nobody else writes
        asked = experiment, how["run"]
        facts = client.submit(cell.facts, *asked, pure=False).result() if client else cell.facts(*asked)
        for column in {"version", "device"} - set(mixed):
            if (other := todo.rows[column] != facts[column]).any():
                raise ValueError(
                    f"{rows_dir}: {column} of the rows there is {', '.join(todo.rows[column][other].unique())}, of new "
                    f"rows {facts[column]}; use another folder (results_dir of a notebook), or "
                    f"helpers.runs.run(..., mixed=({column!r},))"
                )
        _correct(todo, rows_dir, write)
        if len(todo.stale):
            warnings.warn(f"{rows_dir}: {words.say_stale(todo.stale)}; they are computed anew", stacklevel=4)
        asked = experiment, {key[2] for keys in todo.tasks.values() for key in keys} - set(how["trust"]), how["run"]
        for remark in client.submit(cell.remarks, *asked, pure=False).result() if client else cell.remarks(*asked):
            warnings.warn(remark, stacklevel=4)
        tasks = {
            image: (
                grid.on(experiment, [image]),
                image,
                list(keys),
                batch,
                image in experiment.images[:2],
                strict,
                how["run"],
            )
            for image, keys in sorted(todo.tasks.items(), key=lambda each: each[0] in apart.suspects())[
                : limit and limit + checks.IN_A_ROW
            ]
        }
        computed, made = cluster.compute(cell.score, tasks, client, deadline), set()
        total, clipped = len({*todo.rows.image, *todo.tasks}), defaultdict(list)
        try:
            with _bar(progress, total, total - len(todo.tasks)) as bar, contextlib.closing(computed):
                counted = _counted(computed, bar, clipped)
                failed = outcomes.settle(
                    experiment, rows_dir, counted, tasks, facts, write, todo.rows, limit, how, made
                )
        except (KeyboardInterrupt, SystemExit) as stop:
            rows = _now(experiment, rows_dir, todo, made)  # perhaps even of the last image
            left = {key[1] for key in results.missing(itertools.chain(*todo.tasks.values()), rows)}
            said = f"{total - len(left)} of {total} images done; run again to go on"
            raise Stopped(stop.number, said) if isinstance(stop, Stopped) else type(stop)(said) from None
        finally:
            for of_one in clipped.values():
                warnings.warn(measure.worst_of(of_one), stacklevel=3)
    rows, gone = _now(experiment, rows_dir, todo, made), {*todo.aside, *failed}
    if len(rows) < len(todo.rows) + len(made):
        raise ValueError(
            f"{rows_dir}: expected {len(todo.rows)} rows from before and {len(made)} new ones, found {len(rows)}: "
            "somebody has removed or changed files there; run again to compute what is missing"
        )
    if gone:
        cells = map(words.cell_of, rows[list(results.CELL)].itertuples(index=False, name=None))
        rows = rows[[each not in gone for each in cells]]
    results.check_mixed(rows, mixed)
    for twins in words.say_twins(rows, [name for name, spec in experiment.specs.items() if spec not in DOWNSCALERS]):
        warnings.warn(twins, stacklevel=3)
    return stale.mark(rows, how["trust"]).reset_index(drop=True)


def _correct(todo: checks.Todo, rows_dir, write: Callable) -> None:
    """Cross out what was set aside of cells whose rows are all there again; write rows of another photograph anew."""
    results.set_aside(rows_dir, [line | {"reason": ""} for line in todo.back])
    if len(todo.regrouped):
        write(todo.regrouped.drop(columns="checksum").to_dict("records"))
        number, images = len(todo.regrouped), todo.regrouped.image.nunique()
        said = f"{rows_dir}: photograph (column group) changed for {number} rows ({images} images); they say so now"
        warnings.warn(said, stacklevel=5)


def _now(experiment: Experiment, rows_dir, todo: checks.Todo, made: set[tuple]) -> pd.DataFrame:
    """The rows of an experiment after those of `made` were written: all but the stale ones."""
    rows = results.read(rows_dir, keys=grid.columns(experiment), mixed=tuple(results.ONE_OF))
    gone = rows.checksum.isin(todo.stale.checksum)
    kept = [outcomes.plain(key) in made for key in rows[gone][list(results.KEY)].itertuples(index=False, name=None)]
    return rows.drop(rows[gone][~pd.Series(kept, rows.index[gone], dtype=bool)].index)


def _counted(computed: Iterator, bar: tqdm, clipped: dict[str, list[tuple[float, str]]]) -> Iterator:
    """Move the bar, and note under each downscaler the images on which more than 1 % of its values are clipped."""
    for image, outcome in computed:
        bar.update()
        for name, found in outcome.clipped.items() if isinstance(outcome, cell.Scored) else ():
            clipped[name].append(found)
        yield image, outcome


def _medians(experiment: Experiment, there: results.Snapshot) -> dict[str, float]:
    """Median seconds of a row of each downscaler, of all where it has none; NaN: unknown."""
    rows = results.latest(there, ("downscaler", "upscaler", "scale", "distortion", "seconds"))
    same = (rows.upscaler == experiment.upscaler_name) & (rows.scale == experiment.scale)
    rows = rows[same & rows.distortion.isin(experiment.metrics)]
    medians, overall = rows.groupby("downscaler").seconds.median(), rows.seconds.median()
    return {name: float(medians.get(name, overall)) for name in experiment.specs}


def _seconds(experiment: Experiment, numbers: np.ndarray, medians: dict[str, float]) -> float:
    """Seconds for missing rows on one worker."""
    names, shape = list(experiment.specs), grid.shape(experiment)
    many = np.bincount(numbers // math.prod(shape[2:]) % shape[1], minlength=len(names)) if len(numbers) else ()
    return sum(float(n) * medians[name] for name, n in zip(names, many, strict=False) if n)


def _about(seconds: float) -> str:
    if math.isnan(seconds):
        return "time unknown"
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {math.ceil(seconds)} seconds"


def _bar(progress: bool, total: int, done: int) -> tqdm:
    """The bar; few whole lines instead where it would not be redrawn in place, as in a log file."""
    options = {"total": total, "initial": done, "unit": "image", "disable": not progress}
    if not sys.stderr.isatty() and not type(sys.stderr).__module__.startswith("ipykernel"):
        options |= {"mininterval": 30, "maxinterval": math.inf, "miniters": max(1, total // 20)}
        options["bar_format"] = "{percentage:3.0f} % {n_fmt}/{total_fmt} images [{elapsed}<{remaining}]\n"
    return tqdm(**options)
