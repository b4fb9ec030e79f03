"""Estimate how long the paper's setting takes here: count the draws that have no row, time one of each kind."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pandas as pd
import torch

from helpers import datasets, distortions, results, runs, upscalers
from helpers.paper import notebooks, profiles
from helpers.runs import checks
from helpers.runtime import pick_device, seeded

SECONDS = 10  # of calibration


def draws_left(wanted: Sequence[runs.Experiment], rows_dir: str | Path) -> list[tuple[int, int]]:
    """Count for each experiment its draws without a row, and all; a draw shared by several counts for the first.

    The keys of one image are held against the number of images that have a row of them, so a million rows are counted
    in seconds. A draw is there if it has a row of the first metric; images that were set aside count as left. A row of
    other weights or of another metric, or from before rows had hashes, is stale and counts as left; whether its pixels
    have changed is not looked at, which would downscale all images again, as `runs.plan` and the run itself do.

    Args:
        wanted: as `notebooks.experiments` returns them.
        rows_dir: folder of rows, perhaps not there yet.
    """
    images, keys, weights, metric = {}, [], {}, {}
    for each in wanted:
        one = runs.keys(replace(each, images=each.images[:1], distortion=each.distortion[:1]))
        images[one[0][0]] = set(each.images)
        keys.append([(dataset, *rest) for dataset, _, *rest in one])
        now = checks.made_by(each)
        weights[each.upscaler, each.scale], metric = now["weights"], metric | now["metric"]
    rows = results.read(rows_dir, mixed=tuple(results.ONE_OF))
    made_by = [weights.get(of, "") for of in zip(rows.upscaler, rows.scale, strict=True)]
    same = [now in (None, was) for now, was in zip(made_by, rows.weights, strict=True)]  # None: not here to tell
    rows = rows[
        pd.Series(same, rows.index, dtype=bool) & (rows.metric == rows.distortion.map(metric)) & (rows.hr != "")
    ]
    there = Counter(
        (dataset, *(None if part != part else part for part in rest))  # NaN: no level
        for dataset, image, *rest in rows[list(results.KEY)].itertuples(index=False, name=None)
        if image in images.get(dataset, ())
    )
    left, seen = [], set()
    for each, own in zip(wanted, keys, strict=True):
        own = [key for key in own if key not in seen]
        seen.update(own)
        left.append((sum(len(each.images) - there[key] for key in own), len(each.images) * len(own)))
    return left


def calibrate(wanted: Sequence[runs.Experiment], seconds: float) -> tuple[list[float], int]:
    """Time one draw and its distances for each experiment, in seconds, on its device.

    Every stage of an upscaler and every set of distances is timed on noise, with as many draws at once as a run makes:
    first small, then on twice the side while the time lasts. From there to the size of the first image of the data set
    it is taken in proportion to pixels. Loading weights and the first call of each size are not counted.

    Args:
        wanted: as `notebooks.experiments` returns them; all on one device.
        seconds: about, for all of them together.

    Returns:
        The seconds, NaN for a search, which has no fixed cost; and the smallest of the sides that were timed last.
    """
    device, sizes = pick_device(wanted[0].device), {each.dataset: _size(each) for each in wanted}
    build = cache(partial(upscalers.build, heat=0.0, device=str(device)))  # the heat costs nothing
    todo = {}
    for each in wanted:
        todo[tuple(each.distortion), each.n_samples] = 192, partial(_comparing, each, device)
        for name, scale, n_samples, _ in _stages(each):
            todo[name, scale, n_samples] = 16 * scale, partial(_drawing, build, name, scale, n_samples, device)
    for side, prepare in todo.values():
        prepare(side)  # loads the weights before the clock starts
    most, end, timed = min(map(min, sizes.values())), time.perf_counter() + seconds, {}
    for number, (what, (side, prepare)) in enumerate(todo.items()):
        timed[what] = _per_pixel(prepare, side, most, (end - time.perf_counter()) / (len(todo) - number))
    found = []
    for each in wanted:
        own = [timed[name, scale, n][0] / n * share for name, scale, n, share in _stages(each)]
        own.append(timed[tuple(each.distortion), each.n_samples][0] / each.n_samples)
        found.append(math.nan if upscalers.is_search(each.upscaler) else math.prod(sizes[each.dataset]) * sum(own))
    return found, min(side for _, side in timed.values())


def _size(experiment: runs.Experiment) -> tuple[int, int]:
    """Height and width of the first image."""
    return tuple(datasets.load(experiment.source, experiment.images[0], size=experiment.size).shape[-2:])


def _stages(experiment: runs.Experiment) -> list[tuple[str, int, int, float]]:
    """List name, scale, draws at once and share of the final pixels of each stage; nothing for a search.

    Only the first stage of a cascade has one LR image for all draws.
    """
    if upscalers.is_search(experiment.upscaler):
        return []
    stages = upscalers.stages(experiment.upscaler, experiment.scale, experiment.heat)
    later = [math.prod(scale for _, scale, *_ in stages[place + 1 :]) for place in range(len(stages))]
    at_once = [experiment.n_samples, *[1] * len(stages)]
    return [(name, scale, n, 1 / s**2) for (name, scale, *_), n, s in zip(stages, at_once, later, strict=False)]


def _drawing(build: Callable, name: str, scale: int, n_samples: int, device: torch.device, side: int) -> Callable:
    upscale, lr = build(name, scale=scale), _noise(1, side // scale).to(device)
    return lambda: upscale(lr, [seeded(0, sample) for sample in range(n_samples)]).sum().item()  # waits for a GPU


def _comparing(experiment: runs.Experiment, device: torch.device, side: int) -> Callable:
    hr, lr, sr = (_noise(n, s).to(device) for n, s in ((1, side), (1, side // 4), (experiment.n_samples, side)))
    compare = [distortions.against(metric, hr, lr) for metric in experiment.distortion]
    return lambda: sum(each(sr).sum().item() for each in compare)


def _noise(n: int, side: int) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=seeded(0))


@torch.no_grad()
def _per_pixel(prepare: Callable, side: int, most: int, patience: float) -> tuple[float, int]:
    """Time `prepare(side)()`, seconds a pixel, on sides doubled while `most` and patience allow; and the last side."""
    end, took = time.perf_counter() + patience, _timed(prepare(side))
    while 2 * side <= most and time.perf_counter() + 8 * took < end:  # four times the pixels, twice
        try:
            took = _timed(prepare(2 * side))
        except torch.OutOfMemoryError:  # a run halves its batch; the smaller side says enough
            break
        side *= 2
    return took / side**2, side


def _timed(work: Callable) -> float:
    work()  # the first call is slower
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def estimate(chosen: dict[str, dict]) -> list[str]:
    """Write a line a notebook: draws without a row and about how many hours they take; then what that includes.

    Args:
        chosen: notebook -> all its parameters.
    """
    counts, todo = {}, []
    for notebook, values in chosen.items():
        wanted = notebooks.experiments(notebook, values)
        counts[notebook] = draws_left(wanted, profiles.NOTEBOOKS / values["results_dir"])
        todo += [(notebook, each, left) for each, (left, _) in zip(wanted, counts[notebook], strict=True) if left]
    seconds, side, threads = defaultdict(float), 0, torch.get_num_threads()
    if todo:
        torch.set_num_threads(1 if any(values["workers"] for values in chosen.values()) else threads)  # as workers do
        with notebooks.inside():
            costs, side = calibrate([each for _, each, _ in todo], SECONDS)
        torch.set_num_threads(threads)
        for (notebook, _, left), cost in zip(todo, costs, strict=True):
            seconds[notebook] += left * cost
    lines = []
    for notebook, own in counts.items():
        left, total = map(sum, zip(*own, strict=True))
        hours = f"{_hours(seconds[notebook])} of one process" if left else "nothing to draw"
        workers = f", {n} share them" if left and (n := chosen[notebook]["workers"]) > 1 else ""
        lines.append(f"{notebook}: {left} of {total} draws left, {hours}{workers}")
    if any(left < total for own in counts.values() for left, total in own):
        lines += [
            "(rows that are there count as done; whether their pictures have changed, a notebook looks when it runs)"
        ]
    if todo:
        lines += [
            f"(timed on {pick_device(todo[0][1].device)} at {side}x{side} pixels or more, then in proportion:",
            "draws and distances alone, not loading, reading, downscaling, statistics and figures)",
        ]
    return lines


def _hours(seconds: float) -> str:
    if math.isnan(seconds):
        return "time unknown (a search)"
    return f"about {seconds / 3600:,.1f} hours" if seconds >= 3600 else f"about {seconds / 60:.1f} minutes"
