"""How long the paper's setting takes here: experiments of notebooks 03, 06 and 08, draws without rows, seconds each."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch

from helpers import datasets, degradations, distortions, results, runs, upscalers
from helpers.paper import profiles
from helpers.runtime import pick_device, seeded

NOTEBOOKS = ("03_synthetic_degradations", "06_real_downscalers", "08_ablations")
SECONDS = 10  # of calibration


def experiments(notebook: str, values: dict) -> list[runs.Experiment]:
    """What a notebook will compute, as its own cell of experiments says it; images are only named, none is read.

    Args:
        notebook: one of `NOTEBOOKS`.
        values: all its parameters.

    Raises:
        ValueError: a folder of images cannot be used, or as `runs.Experiment`.
    """
    return EXPERIMENTS[notebook](values, partial(_experiment, values))


def _experiment(values: dict, more: list[str], *, further: tuple[str, str] | None = None, **how) -> runs.Experiment:
    """An experiment on the notebook's images, or on a further set (name, folder), which may be smaller."""
    name, given = further or ("", values["dataset"])
    source = given if given in profiles.BUILT_IN else str(profiles.NOTEBOOKS / given)
    most = min(values["n_images"], len(datasets.names(source))) if further else values["n_images"]
    auto = "lpips" if distortions.available("lpips") is None else "1-ms_ssim"  # as the notebooks choose
    first = auto if values["distortion"] == "auto" else values["distortion"]
    own = {name: values[name] for name in ("seed", "device", "size")}
    own |= {
        "images": datasets.names(source, most, size=values["size"]),
        "distortion": list(dict.fromkeys([first, *more])),
    }
    return runs.Experiment(dataset=(name, source) if further else source, **own | how)


def _degradations(values: dict, run: Callable) -> list[runs.Experiment]:
    """Notebook 03."""
    kinds = [
        *(("blur", values["blur"], values["faint_blur"]), ("blur_full", values["blur"], [])),
        ("noise", values["noise"], values["faint_noise"]),
        ("contrast", values["contrast_up"], values["faint_contrast_up"]),
        ("contrast", values["contrast_down"], values["faint_contrast_down"]),
        *(("otsu", values["otsu"], values["faint_otsu"]), ("jpeg", values["jpeg"], values["faint_jpeg"])),
    ]
    kinds = [kind for kind in kinds if kind[1]]
    paper = {"blur": [1, 2, 4], "noise": [0.05, 0.1, 0.2], "otsu": [15, 10, 5]}
    paper["contrast"] = [1.5, 2, 2.5, 0.75, 0.5, 0.25]
    levels = [(kind, level) for kind, own, _ in kinds for level in own]
    faint = [(kind, level) for kind, _, own in kinds for level in own]
    mixes = [("mixed", stage) for stage in (1, 2, 3)] + [("bsrgan", setting) for setting in degradations.BSRGAN]
    early = [cell for cell in levels if cell[1] in paper.get(cell[0], ())]
    every = list(dict.fromkeys([("", None), *levels, *faint, *mixes]))
    a_run = partial(run, values["also"])
    bicubic = partial(a_run, downscalers=["bicubic"], scale=values["scale"])
    flow = {"upscaler": values["upscaler"], "heat": values["heat"], "n_samples": values["n_samples"]}
    still = flow | {"heat": 0.0, "n_samples": 1}
    plain = still | {"upscaler": values["control"]}
    of_factor = zip(values["factors"], values["upscaler_of_factor"], values["heat_of_factor"], strict=True)
    at_factors = [(s, own) for s, u, h in of_factor for own in (flow | {"upscaler": u, "heat": h}, plain)]
    three = [("", None), ("blur", 2.0), ("noise", 0.1)]
    return [
        *(bicubic(degradations=every, **each) for each in (flow, plain)),
        bicubic(degradations=[cell for cell in levels if cell[0] != "blur_full"], **still),
        *(a_run(downscalers=values["downscalers"], scale=values["scale"], **each) for each in (flow, still, plain)),
        *(bicubic(degradations=early, where="before", **each | {"n_samples": 1}) for each in (flow, plain)),
        *(a_run(downscalers=["bicubic"], scale=s, degradations=three, **own) for s, own in at_factors),
        *(bicubic(seed=other, **flow) for other in values["other_seeds"]),
    ]


def _downscalers(values: dict, run: Callable) -> list[runs.Experiment]:
    """Notebook 06."""
    metrics = ["mse", "mse_of_mean", "lr_mse", "consistency_mse"]

    def at(scale: int, methods: Sequence, **which) -> runs.Experiment:
        upscaler, heat = values["upscaler_at"].get(str(scale), (values["upscaler"], values["heat"]))
        how = {"upscaler": upscaler, "heat": heat, "n_samples": values["n_samples"]}
        return run(metrics, downscalers=methods, scale=scale, **how, **which)

    own, scale = values["downscalers"], values["scale"]
    ready = [(name, "folder: made by the notebook") for name in ("unknown", "bicubic_shifted")]
    return [
        *(at(each, own) for each in values["scales"]),
        at(scale, [*ready, "l0_smooth"]),
        *(at(scale, own, further=(name, folder)) for name, folder in values["sets"].items()),
        *(at(scale, [*own, ("camera", lr)], further=(name, hr)) for name, (hr, lr) in values["camera"].items()),
    ]


def _ablations(values: dict, run: Callable) -> list[runs.Experiment]:
    """Notebook 08."""
    damaged = [tuple(pair) for pair in values["degradations"]]
    reference = values["upscaler"], values["heat"], values["scale"], values["n_samples"]
    others = [(*other, values["n_samples_other"]) for other in values["other_upscalers"]]
    found = []
    for upscaler, heat, scale, n_samples in [reference, *others]:
        how = {"upscaler": upscaler, "heat": heat, "scale": scale, "n_samples": n_samples}
        found.append(run(values["more_distortions"], downscalers=values["downscalers"], **how))
        found += [replace(found[-1], downscalers=["bicubic"], degradations=damaged)] if damaged else []
    return found


EXPERIMENTS = dict(zip(NOTEBOOKS, (_degradations, _downscalers, _ablations), strict=True))


def draws_left(wanted: Sequence[runs.Experiment], rows_dir: str | Path) -> list[tuple[int, int]]:
    """For each experiment its draws without a row, and its draws; what an experiment before it makes is not counted.

    The keys of one image are held against the number of images that have a row of them, so a million rows are counted
    in seconds. A draw is there if it has a row of the first metric; images that were set aside count as left.

    Args:
        wanted: as `experiments` returns them.
        rows_dir: folder of rows, perhaps not there yet.
    """
    images, keys = {}, []
    for each in wanted:
        one = runs.keys(replace(each, images=each.images[:1], distortion=each.distortion[:1]))
        images[one[0][0]] = set(each.images)
        keys.append([(dataset, *rest) for dataset, _, *rest in one])
    rows = results.read(rows_dir, mixed=tuple(results.ONE_OF))
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
    """Seconds of one draw and its distances, for each experiment, on its device.

    Every stage of an upscaler and every set of distances is timed on noise, with as many draws at once as a run makes:
    first small, then on twice the side while the time lasts. From there to the size of the first image of the data set
    it is taken in proportion to pixels. Loading weights and the first call of each size are not counted.

    Args:
        wanted: as `experiments` returns them; all on one device.
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
    source = experiment.dataset if isinstance(experiment.dataset, str) else experiment.dataset[1]
    return tuple(datasets.load(source, experiment.images[0], size=experiment.size).shape[-2:])


def _stages(experiment: runs.Experiment) -> list[tuple[str, int, int, float]]:
    """Name, scale, draws at once and share of the final pixels of each stage; none of a search.

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
    """Seconds a pixel of `prepare(side)()`, and the side, doubled while `most` and the patience allow."""
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
    """One line a notebook: draws that have no row yet and about how many hours they take; then what that includes.

    Args:
        chosen: notebook -> all its parameters.
    """
    counts, todo = {}, []
    for notebook, values in chosen.items():
        wanted = experiments(notebook, values)
        counts[notebook] = draws_left(wanted, profiles.NOTEBOOKS / values["results_dir"])
        todo += [(notebook, each, left) for each, (left, _) in zip(wanted, counts[notebook], strict=True) if left]
    seconds, side, threads = defaultdict(float), 0, torch.get_num_threads()
    if todo:
        torch.set_num_threads(1 if any(values["workers"] for values in chosen.values()) else threads)  # as workers do
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
