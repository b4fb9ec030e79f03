"""An experiment as plain values: which of its rows are missing, how long they take, and who computes them.

A task is one image with all its draws and all its downscalers, so the HR image is read once and its latents
are shared; it carries names, never tensors. It may run anywhere and more than once: the key of a row decides.
"""

import contextlib
import hashlib
import importlib.util
import math
import multiprocessing
import os
import signal
import statistics
import sys
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from helpers import __version__, datasets, degradations, distortions, files, results, upscalers
from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize
from helpers.measure import score_image
from helpers.runs import adapters
from helpers.runtime import check_seed, pick_device, seeded

DEATHS = 4  # times that an image may kill its worker, or hang it
IN_A_ROW = 3  # images that fail one after the other: the set-up is broken, not the images


@dataclass(frozen=True)
class Experiment:
    """What is computed, in plain values that any process understands.

    Args:
        dataset: X: "library", "generated" or "portrait" (see `embedded_faces`), a folder, or a manifest (.csv); rows
            name it without its path ("library256": with the size; "generated@" and a hash of the generator). A pair
            (name, one of these) gives another name.
        images: names of the images in it.
        downscalers: f_ds, each as `adapters.resolve` takes it. Rows name a user's function with a hash of its
            code; a pair (name, one of these) gives another name, and the rows under it are taken as they are.
        scale: s.
        upscaler: f_us, key of `UPSCALERS`, with options or not, or a cascade, as `upscalers.stages`; it is kept, and
            named in the rows, as `upscalers.normalised`.
        heat: standard deviation of the latents, as `upscalers.stages`; 1.0 for a search.
        n_samples: N_Q, draws per image.
        seed: first part of every random key.
        distortion: D, or several that look at the same draws (names as `distortions.against`); a metric where
            higher is better is taken in its lower-is-better form.
        degradations: pairs (name, level), each applied by itself; ("", None) is none.
        where: the degradation comes "after" the downscaler or "before" it.
        device: as `runtime.pick_device`.
        size: side of the library's crops in pixels.

    Raises:
        ValueError: lists everything that cannot be computed; only names are looked at, no image is read.
    """

    dataset: str | tuple[str, str]
    images: Sequence[str]
    downscalers: Sequence[str | tuple[str, str]]
    scale: int
    upscaler: str
    heat: float | str = 1.0
    n_samples: int = 5
    seed: int = 0
    distortion: str | Sequence[str] = "lpips"
    degradations: Sequence[tuple[str, float | None]] = (("", None),)
    where: str = "after"
    device: str = "auto"
    size: int = 256

    def __post_init__(self):
        problems = []
        for name, check in (
            ("upscaler", lambda: upscalers.stages(self.upscaler, self.scale, self.heat)),
            ("distortion", lambda: _metrics(self)),
        ):
            try:
                check()
            except ValueError as error:
                problems.append(f"{name}: {str(error).removeprefix(f'{name}: ')}")
        problems += [
            f"{name}: expected one of {', '.join(filter(None, known))}, got {value!r}"
            for name, value, known in (
                ("where", self.where, ("after", "before")),
                *(("degradation", name, ("", *degradations.DEGRADATIONS)) for name, _ in self.degradations),
            )
            if value not in known
        ]
        for name in ("scale", "n_samples", "size"):
            if type(value := getattr(self, name)) is not int or value < 1:
                problems.append(f"{name}: expected an integer >= 1, got {value!r}")
        for name, level in self.degradations:
            if not isinstance(level, int | float) if name else level is not None:
                problems.append(f"level of {name!r}: expected {'a number' if name else None}, got {level!r}")
        for name in ("images", "downscalers", "degradations", "distortion"):
            values = getattr(self, name)
            values = [values] if name == "distortion" and isinstance(values, str) else values
            if not values or isinstance(values, str):
                problems.append(f"{name}: expected at least one, in a list, got {values!r}")
            values = values if name != "downscalers" else [v if isinstance(v, str) else v[0] for v in values]
            if twice := [str(value) for value, n in Counter(values).items() if n > 1]:
                problems.append(f"{name}: expected each once, got more of {', '.join(twice)}")
        try:
            check_seed(self.seed)
        except ValueError as error:
            problems.append(f"seed: {error}")
        if problems:
            raise ValueError("experiment: " + "; ".join(problems))
        object.__setattr__(self, "upscaler", upscalers.normalised(self.upscaler))  # frozen


class Plan(NamedTuple):
    """What a run would do: keys without a row, images to compute, seconds (NaN: unknown), all in words."""

    missing: list[tuple]
    images: list[str]
    seconds: float
    summary: str


def keys(experiment: Experiment) -> list[tuple]:
    """The key of every row of an experiment, values in the order of `results.KEY`."""
    key, names = _keys(experiment), list(_downscalers(experiment))
    return [
        key(image, name, degradation, level, sample, metric)
        for image in experiment.images
        for name in names
        for degradation, level in experiment.degradations
        for sample in range(experiment.n_samples)
        for metric in _metrics(experiment)
    ]


def plan(
    experiment: Experiment | Sequence[Experiment],
    rows_dir: str | Path,
    executor: Executor | Callable[[], Executor] | None = None,
    *,
    calibrate: bool = True,
    mixed: Sequence[str] = (),
    retry_aside: bool = False,
) -> Plan:
    """How many rows are missing and about how long they will take, from the median seconds of earlier rows.

    Where there are none to go by (of the same upscaler and scale), the first missing image is computed and its rows
    are kept.

    Args:
        experiment, rows_dir, executor, mixed, retry_aside: as `run`.
        calibrate: False leaves the seconds unknown instead of computing an image.

    Raises:
        ValueError: as `run`.
    """
    experiments = [experiment] if isinstance(experiment, Experiment) else list(experiment)
    workers, wanted, todo, images, left = _workers(executor), {}, {}, {}, set()
    seconds = 0.0
    with _kept(executor) as kept:
        for each in experiments:
            its, rows, tasks = _todo(each, rows_dir, mixed, retry_aside)
            needs = [key for key in results.missing(its, rows) if key not in todo]
            more = _seconds(needs, each, rows_dir) / workers if needs else 0.0
            if calibrate and math.isnan(more):
                run(each, rows_dir, kept, progress=False, mixed=mixed, retry_aside=retry_aside, limit=1)
                its, rows, tasks = _todo(each, rows_dir, mixed, retry_aside)
                needs = [key for key in results.missing(its, rows) if key not in todo]
                more = _seconds(needs, each, rows_dir) / workers if needs else 0.0
            seconds += more
            wanted |= dict.fromkeys(its)
            todo |= dict.fromkeys(needs)
            images |= dict.fromkeys(tasks)
            left |= set(each.images) - {key[1] for key in its}
    words = f"all {len(wanted)} rows are there"
    if todo:
        device = experiments[0].device
        local = executor is None or device == "auto"  # a worker may have what is not here
        device = pick_device(device) if local else device
        many = f" with {workers} workers" if workers > 1 else ""
        words = f"{len(todo)} of {len(wanted)} rows missing, {_about(seconds)} on {device}{many}"
    return Plan(list(todo), list(images), seconds, words + (f"; {len(left)} images set aside" if left else ""))


def run(
    experiment: Experiment | Sequence[Experiment],
    rows_dir: str | Path,
    executor: Executor | Callable[[], Executor] | None = None,
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

    Only this process writes, each image as soon as it is done; stop it at any time, call it again to go on.
    An image gets a second try after an error of memory or of input and output, four where its worker dies;
    then it is set aside with its reason (`results.aside`) and left out, until `retry_aside`.

    Args:
        experiment: what is computed; of several, one after the other, the rows are returned together, each once.
        rows_dir: folder of rows, not inside the data set's folder; not touched if no row is missing.
        executor: None computes here, one image after the other; any `concurrent.futures` executor, which the
            caller closes; or a function that makes one, such as `processes(2)`: its pool is replaced when a
            worker is killed or hangs, while a process pool handed over ends with its first dead worker.
        progress: show a bar.
        batch: samples drawn together; halved where memory runs out, and it changes no draw.
        mixed: see `results.read`.
        retry_aside: try the images again that were set aside.
        strict: raise the error of an image instead of setting it aside.
        deadline: seconds without a finished image after which those at work are started anew; None is ten
            times the median image, at least a minute. It doubles with each try.
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
        with _kept(executor) as kept:
            parts = [run(each, rows_dir, kept, progress, **options) for each in experiment]
        return pd.concat(parts, ignore_index=True).drop_duplicates(list(results.KEY), ignore_index=True)
    _, rows, tasks = _todo(experiment, rows_dir, mixed, retry_aside)
    if not tasks:
        return rows
    if executor is None:
        pick_device(experiment.device)
    files.check_output(rows_dir, _dataset(experiment)[1])
    with results.writer(rows_dir) as write, _sigterm_raises():
        state = _todo(experiment, rows_dir, mixed, retry_aside)  # again: now nobody else writes
        tasks = dict(list(state[2].items())[: limit and limit + IN_A_ROW])
        with contextlib.closing(_outcomes(experiment, tasks, batch, executor, deadline)) as outcomes:
            _compute(experiment, rows_dir, state, outcomes, write, progress, mixed, strict, limit)
    return _todo(experiment, rows_dir, mixed, False)[1]


def processes(n_workers: int) -> Callable[[], ProcessPoolExecutor]:
    """A function that starts `n_workers` processes of one thread each: `run(..., executor=processes(2))`.

    They are spawned: a script that calls this needs the guard `if __name__ == "__main__":`.
    """
    context = multiprocessing.get_context("spawn")
    return partial(ProcessPoolExecutor, n_workers, mp_context=context, initializer=start_worker)


class _Kept:
    """A maker of pools that hands out its last one again while that lives: one start for many experiments."""

    def __init__(self, make: Callable[[], Executor]):
        self.make, self.pool = make, None

    def __call__(self) -> Executor:
        self.pool = self.pool or self.make()
        return self.pool


@contextlib.contextmanager
def _kept(executor) -> Iterator:
    """`executor`, its pools kept if it makes them, and closed at the end."""
    if executor is None or hasattr(executor, "submit") or isinstance(executor, _Kept):
        yield executor
        return
    kept = _Kept(executor)
    try:
        yield kept
    finally:
        if kept.pool:
            _close(kept.pool, kill=sys.exc_info()[0] is not None)


def start_worker() -> None:
    """Make this process a worker: one thread, deaf to Ctrl-C, and it ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver stops its workers
    torch.set_num_threads(1)
    _end_with_parent()


# ---- what is missing, and how long it takes


def _dataset(experiment: Experiment) -> tuple[str, str]:
    """Name in the rows, and what `datasets` takes."""
    if not isinstance(experiment.dataset, str):
        return tuple(experiment.dataset)
    path = Path(experiment.dataset)
    if experiment.dataset == "library":
        return f"library{experiment.size}", experiment.dataset
    if experiment.dataset == "generated":  # another generator makes other images of the same name
        return f"generated@{upscalers.weights_hash('embedded_pulse', experiment.scale)[:8]}", experiment.dataset
    return path.stem if path.suffix == ".csv" else path.resolve().name, experiment.dataset


def _downscalers(experiment: Experiment) -> dict[str, str]:
    """Name in the rows -> what `adapters.resolve` takes."""
    return dict((_named(spec), spec) if isinstance(spec, str) else spec for spec in experiment.downscalers)


def _named(spec: str) -> str:
    """A user's function is named with the hash of its file: edited code makes new rows, not the old again."""
    where, _, function = spec.rpartition(":")
    if not where or not function.isidentifier() or where.split(":")[0] in ("command", "folder"):
        return spec
    return f"{function}@{_hash(where) if where.endswith('.py') else _module_hash(where)}"


def _hash(path: str) -> str:
    path = Path(path).expanduser()
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8] if path.is_file() else "missing"


@cache  # like the import itself: an edited module is seen by the next process
def _module_hash(module: str) -> str:
    try:
        found = importlib.util.find_spec(module)
    except ImportError:  # of a package above it; `adapters.resolve` says so
        found = None
    return _hash(found.origin if found and found.origin else "")


def _metrics(experiment: Experiment) -> list[str]:
    """The distortions of the rows."""
    names = [experiment.distortion] if isinstance(experiment.distortion, str) else experiment.distortion
    return list(dict.fromkeys(map(distortions.as_distortion, names)))


def _keys(experiment: Experiment) -> Callable[..., tuple]:
    """key(image, name, degradation, level, sample, metric) -> values in the order of `results.KEY`."""
    dataset = _dataset(experiment)[0]
    how = experiment.upscaler, experiment.heat, experiment.seed

    def key(image: str, name: str, degradation: str, level: float | None, sample: int, metric: str) -> tuple:
        where = experiment.where if degradation else ""
        return (dataset, image, name, experiment.scale, degradation, level, where, *how, sample, metric)

    return key


def _todo(experiment: Experiment, rows_dir, mixed, retry_aside) -> tuple[list, pd.DataFrame, dict]:
    """Keys of images not set aside; the rows there are; image -> {(name, degradation, level): (sample, metric)s}."""
    wanted, out = keys(experiment), results.aside(rows_dir)
    if not retry_aside and len(out):
        same = (out.dataset == _dataset(experiment)[0]) & (out.scale == experiment.scale)
        left = set(out.image[same & (out.upscaler == experiment.upscaler)])
        wanted = [key for key in wanted if key[1] not in left]
    rows = results.read(rows_dir, keys=wanted, mixed=mixed)
    tasks = {}
    for key in results.missing(wanted, rows):
        named = dict(zip(results.KEY, key, strict=True))
        cell = named["downscaler"], named["degradation"], named["level"]
        tasks.setdefault(named["image"], {}).setdefault(cell, []).append((named["sample"], named["distortion"]))
    return wanted, rows, tasks


def _seconds(todo: list[tuple], experiment: Experiment, rows_dir: str | Path) -> float:
    """Seconds for the missing rows on one worker: the median of each downscaler, else of all; or NaN."""
    rows = results.read(rows_dir, mixed=tuple(results.ONE_OF))
    same = (rows.upscaler == experiment.upscaler) & (rows.scale == experiment.scale)
    rows = rows[same & rows.distortion.isin(_metrics(experiment))]
    medians, overall = rows.groupby("downscaler").seconds.median(), rows.seconds.median()
    return sum(medians.get(key[2], overall) for key in todo)


def _about(seconds: float) -> str:
    if math.isnan(seconds):
        return "time unknown"
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {math.ceil(seconds)} seconds"


def _workers(executor) -> int:
    if executor is None or hasattr(executor, "submit"):
        return getattr(executor, "_max_workers", 1)
    if isinstance(executor, _Kept):
        return _workers(executor())
    with executor() as pool:  # a process pool starts nobody before its first task
        return _workers(pool)


# ---- one task


@lru_cache(maxsize=1)
def _loaded(upscaler: str, scale: int, heat: float | str, device: str, metrics: tuple) -> tuple[Callable, dict]:
    """f_us, and what the rows say about how they were made ("metric" of each D): loaded once a process."""
    upscale = upscalers.build(upscaler, scale=scale, heat=heat, device=device)
    where = pick_device(device)
    for metric in set(metrics) - set(distortions.OF_LR):
        side = distortions.MINIMUM_SIDE[metric]
        distortions.against(metric, torch.zeros(1, 3, side, side, device=where))  # its weights too are loaded now
    return upscale, {
        "weights": upscalers.weights_hash(upscaler, scale),
        "metric": {metric: distortions.describe(metric) for metric in metrics},
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        "version": __version__,
    }


def _load(experiment: Experiment) -> tuple[Callable, dict]:
    metrics = tuple(_metrics(experiment))
    return _loaded(experiment.upscaler, experiment.scale, experiment.heat, experiment.device, metrics)


def _facts(experiment: Experiment) -> dict:
    """What can fail before the first image fails here: names, weights, and the user's own downscalers."""
    source = _dataset(experiment)[1]
    known = datasets.names(source, size=experiment.size)
    if unknown := [image for image in experiment.images if image not in set(known)]:
        raise ValueError(f"images: expected names among the {len(known)} of {source}, got {', '.join(unknown)}")
    for name, spec in _downscalers(experiment).items():
        _resolve(spec, name)
        if spec.startswith("folder:"):  # LR images of this data set that are not asked for are no mistake
            folder = Path(spec.removeprefix("folder:").strip()).expanduser()
            others = {path.stem for path in folder.iterdir()} & set(known) - set(experiment.images)
            adapters.resolve(spec, names=[*experiment.images, *sorted(others)])
    return _load(experiment)[1]


@torch.no_grad()
def _score(experiment: Experiment, image: str, cells: dict, batch: int, twice: bool, attempt: int) -> tuple:
    """Rows of one image in the given cells {(name, degradation, level): (sample, metric)s}, and remarks.

    `twice` calls the user's own downscalers again and compares. `attempt` makes a second try another call:
    Dask hands out the result of the first for an equal one.
    """
    upscale, facts = _load(experiment)
    source = _dataset(experiment)[1]
    hr = datasets.load(source, image, size=experiment.size, multiple_of=experiment.scale)
    hr = hr.to(pick_device(experiment.device))
    metrics = _metrics(experiment)
    bases = {metric.removesuffix(distortions.OF_MEAN) for metric in metrics} - set(distortions.OF_LR)
    plain = {base: distortions.against(base, hr) for base in bases}

    searches, answers = upscalers.searches(experiment.upscaler), []  # residual and converged of each sample

    def note(result) -> None:
        answers.extend(zip(result.residual.tolist(), result.converged.double().tolist(), strict=True))

    def draw(lr: Tensor, downscale: Callable, **options) -> Tensor:
        answers.clear()  # of a first try that ran out of memory
        more = [metric for metric in metrics if metric not in plain]
        fresh = plain | {metric: distortions.against(metric, hr, lr, plain=plain) for metric in more}  # keep a mean
        several = {metric: lambda sr, _, f=fresh[metric]: f(sr) for metric in metrics}
        f_us = partial(upscale, downscale=downscale, on_result=note) if searches else upscale
        return score_image(hr, lambda _: lr, f_us, several, key=(experiment.seed, image), **options)

    what = f"{image} ({hr.shape[2]}x{hr.shape[3]}, x{experiment.scale})"
    key, rows, remarks = _keys(experiment), [], []
    for cell, wanted in cells.items():
        start = time.perf_counter()
        lr, clipped = _downscaled(experiment, image, hr, *cell, twice, remarks)
        draw_cell = partial(draw, downscale=_for_search(experiment, image, *cell))
        values, batch = _draw(draw_cell, quantize(lr), max(sample for sample, _ in wanted) + 1, batch, what, remarks)
        row = facts | {"height": hr.shape[2], "width": hr.shape[3], "clipped": clipped, "lr_bits": None}
        row["seconds"] = (time.perf_counter() - start) / len(values) / len(metrics)
        for sample, metric in wanted:
            named = dict(zip(results.KEY, key(image, *cell, sample, metric), strict=True))
            found = answers[sample] if searches else (None, None)
            made = dict(zip(("value", *results.SEARCH), (values[sample][metrics.index(metric)], *found), strict=True))
            rows.append(named | row | made | {"metric": facts["metric"][metric]})
    return rows, remarks


def _downscaled(experiment, image, hr, name, degradation, level, twice, remarks) -> tuple[Tensor, float]:
    """The LR image of one cell, and the share of the downscaler's values that lie outside [0, 1]."""
    spec = _downscalers(experiment)[name]
    if degradation and experiment.where == "before":
        hr = quantize(_degraded(experiment, image, hr, degradation, level))
    own = twice and spec not in DOWNSCALERS
    lr, clipped, same = adapters.check_downscaler(
        _resolve(spec, name), name, hr, experiment.scale, image=image, twice=own
    )
    if own and not same:
        remarks.append(f"downscaler {name!r} is not deterministic: two calls differ on {image}")
    if degradation and experiment.where == "after":
        lr = _degraded(experiment, image, quantize(lr), degradation, level)
    return lr, clipped


def _degraded(experiment, image, images, degradation, level) -> Tensor:
    """Images with the noise that belongs to the image: the same at every level, and for each of several images."""
    noises = [seeded(experiment.seed, image, "degradation") for _ in images]
    noise = noises[0] if len(noises) == 1 else noises
    return degradations.DEGRADATIONS[degradation](images, level, generator=noise)


def _for_search(experiment, image, name, degradation, level) -> Callable[[Tensor, int], Tensor]:
    """f_ds of Eq. 4: what made the LR image of one cell, for a batch of samples; rounding passes the gradient on."""
    function = _resolve(_downscalers(experiment)[name], name)

    def as_a_file(lr: Tensor) -> Tensor:
        return quantize(lr.detach()) + (lr - lr.detach())  # plus zero

    def downscale(hr: Tensor, scale: int) -> Tensor:
        if getattr(function, "needs_name", False):
            raise ValueError(
                f"downscaler {name!r}: expected one that can be called on samples, got LR files; f_ds=bicubic"
            )
        lr = as_a_file(function(hr, scale))
        if degradation and experiment.where == "after":
            lr = as_a_file(_degraded(experiment, image, lr, degradation, level))
        return lr

    downscale.__name__ = " ".join(filter(None, (name, degradation)))  # for its errors
    return downscale


def _draw(draw: Callable, lr: Tensor, n_samples: int, batch: int, what: str, remarks: list) -> tuple[list, int]:
    """Distortions of the samples, in smaller batches where memory runs out, and the batch that went."""
    while True:
        try:
            return draw(lr, n_samples=n_samples, batch=batch).tolist(), batch
        except Exception as error:
            if not _out_of_memory(error):
                raise
            if batch == 1:
                raise MemoryError(f"{what}, one sample at a time: {error}") from error
        batch = min(batch, n_samples) // 2 or 1
        remarks.append(f"{what}: out of memory, went on with {batch} samples at a time")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@cache
def _resolve(spec: str, name: str) -> Callable:  # the name changes with the code
    return adapters.resolve(spec)


def _out_of_memory(error: BaseException) -> bool:
    words = ("can't allocate memory", "not enough memory", "out of memory")
    says = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return says or isinstance(error, MemoryError | torch.OutOfMemoryError)


# ---- all tasks


def _compute(experiment, rows_dir, state, outcomes, write, progress, mixed, strict, limit) -> None:
    """Bring every image to its end: its rows written, or set aside."""
    wanted, rows, tasks = state
    facts = next(outcomes)[1]
    for column in set(results.ONE_OF) - set(mixed):
        if (other := rows[column] != _expected(rows, facts, column)).any():
            raise ValueError(
                f"{rows_dir}: {column} of the rows there is {', '.join(rows[column][other].unique())}, of new rows "
                f"{facts[column]}; allow it by mixed=({column!r},) or use another rows_dir"
            )
    total = len({key[1] for key in wanted})
    done, failed, aside = 0, [], {}
    same = {"dataset": _dataset(experiment)[0], "scale": experiment.scale, "upscaler": experiment.upscaler}

    def note() -> None:
        results.set_aside(rows_dir, [same | {"image": image, "reason": why} for image, why in aside.items()])
        aside.clear()

    try:
        with _bar(progress, total, total - len(tasks)) as bar:
            for image, outcome in outcomes:
                bar.update()
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
    except (KeyboardInterrupt, SystemExit) as stop:
        written = results.read(rows_dir, keys=wanted, mixed=tuple(results.ONE_OF))  # perhaps even the last one
        left = {key[1] for key in results.missing(wanted, written)}
        raise type(stop)(f"{total - len(left)} of {total} images done; run again to go on") from None


def _expected(rows: pd.DataFrame, facts: dict, column: str) -> pd.Series:
    """What `column` of these rows would be if they were made now."""
    return rows.distortion.map(facts[column]) if column == "metric" else pd.Series(facts[column], rows.index)


def _outcomes(experiment, tasks, batch, executor, deadline) -> Iterator[tuple[str, object]]:
    """First ("", facts); then each image as it ends, with its rows and remarks or the error that ended it.

    A broken or hanging pool of our own is replaced, and the images that were in it go one by one, so that the
    guilty one is found; what hangs in a borrowed executor is handed out again, and the first result counts.
    """
    ours = executor is not None and not hasattr(executor, "submit")
    pool = executor() if ours else executor
    width = getattr(pool, "_max_workers", len(tasks)) if pool else 1
    waiting, ended, suspects, again, strikes = deque(tasks), set(), set(), set(), Counter()
    running, late, seconds = {}, {}, []  # future -> image; those given up; of the images done
    tidy = False

    def submit(function: Callable, *args) -> Future:
        return pool.submit(_in_worker, function, *args) if pool else _here(function, *args)

    try:
        yield "", submit(_facts, experiment).result()
        last = time.monotonic()
        while len(ended) < len(tasks):
            broken = False
            try:
                while waiting and len(running) < (1 if suspects else width):
                    if (image := waiting[0]) not in ended:
                        one = replace(experiment, images=[image])  # not the names of all the others
                        twice = image in experiment.images[:2]
                        future = submit(_score, one, image, tasks[image], batch, twice, strikes[image])
                        running[future] = image
                    waiting.popleft()
            except BrokenExecutor:  # an idle worker was killed
                broken = True
            done = wait([*running, *late], timeout=1, return_when=FIRST_COMPLETED).done
            if broken := broken or any(isinstance(future.exception(), BrokenExecutor) for future in done):
                done = wait([*running, *late], timeout=10).done  # it takes all others with it
            lost = []
            for future in done:
                given_up = future in late
                image = (late if given_up else running).pop(future)
                error = future.exception()
                if image in ended or (given_up and error):
                    continue
                if isinstance(error, BrokenExecutor):
                    lost.append(image)
                elif image not in again and (isinstance(error, OSError) or _out_of_memory(error)):
                    again.add(image)
                    waiting.append(image)
                elif error is not None and not isinstance(error, Exception):
                    raise error
                else:
                    ended.add(image)
                    suspects.discard(image)
                    for copy in [copy for copy, other in running.items() if other == image]:
                        late[copy] = running.pop(copy)
                    seconds += [sum(row["seconds"] for row in future.result()[0])] if error is None else []
                    yield image, future.result() if error is None else error
            patience = deadline or (max(60, 10 * statistics.median(seconds)) if seconds else math.inf)
            patience *= 2 ** max((strikes[image] for image in running.values()), default=0)
            hung = not done and time.monotonic() - last > patience
            last = time.monotonic() if done or hung else last
            if broken and not ours:
                raise RuntimeError(
                    f"a worker died at one of {', '.join(lost)}, and its pool with it; run again to go on; "
                    "executor=processes(2), or another function that makes a pool, lets it be replaced"
                )
            if not broken and not hung:
                continue
            lost += running.values()
            if ours:
                _drop(executor, pool)
                pool = executor()
                suspects.update(lost)
            else:
                late |= running
            running = {}
            for image in lost:
                strikes[image] += 1
                if strikes[image] < DEATHS:
                    waiting.appendleft(image)
                    continue
                ended.add(image)
                suspects.discard(image)
                yield image, RuntimeError(f"{'hung' if hung else 'killed'} its worker {DEATHS} times")
        tidy = True
    except (KeyboardInterrupt, SystemExit):
        for future, image in running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield image, future.result()
        raise
    finally:
        for future in [*running, *late]:
            future.cancel()
        if ours and (not tidy or late):
            _drop(executor, pool)
        elif ours and not isinstance(executor, _Kept):
            _close(pool, kill=False)


def _here(function: Callable, *args) -> Future:
    future = Future()
    try:
        future.set_result(function(*args))
    except Exception as error:
        future.set_exception(error)
    return future


def _in_worker(function: Callable, *args) -> object:
    _end_with_parent()
    return function(*args)


@lru_cache(maxsize=1)
def _end_with_parent() -> None:
    """A worker whose driver was killed waits for work for ever: end it."""
    if parent := multiprocessing.parent_process():

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _drop(executor: Callable, pool: Executor) -> None:
    """End a pool of our own at once; its maker makes a new one."""
    if isinstance(executor, _Kept):
        executor.pool = None
    _close(pool, kill=True)


def _close(pool: Executor, kill: bool) -> None:
    workers = list((getattr(pool, "_processes", None) or {}).values())  # there is no public way before 3.14
    pool.shutdown(wait=not kill, cancel_futures=True)
    for worker in workers if kill else ():
        worker.kill()  # also reaches one that is stopped
        worker.join()


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
    if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
        options |= {"mininterval": 30, "maxinterval": math.inf, "miniters": max(1, total // 20)}
        options["bar_format"] = "{percentage:3.0f} % {n_fmt}/{total_fmt} images [{elapsed}<{remaining}]\n"
    return tqdm(**options)
