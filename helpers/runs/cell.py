"""The cell, one HR image under one f_ds and one degradation: its LR image, its SR draws, its rows.

Nowhere else do HR, LR, draws and D meet. A task is one image with all its cells, so the HR image is read once and all
downscalers share its latents; it may run anywhere and more than once, with the same bytes as its result.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from helpers import datasets, distortions, results
from helpers.datasets.sources import shorten
from helpers.downscalers.form import LEAST
from helpers.images import quantize
from helpers.listing import stem_of
from helpers.measure import score_lr
from helpers.rescalers import registry as rescalers
from helpers.runs import adapters, apart, methods, pairs
from helpers.runs.experiment import Experiment, is_function
from helpers.runtime import full_precision, one_thread, pick_device, seeded, shielded  # noqa: F401

UNKNOWN = "?"  # in place of a hash in `results.aside`: nobody knows, or it does not matter


class Scored(NamedTuple):
    """What became of the cells of one image."""

    rows: list[dict]  # as `results.append` takes them
    remarks: list[str]  # to be shown to the user
    failed: list[dict]  # downscaler, degradation, level, hr, lr and reason of each cell without rows
    clipped: Mapping[str, tuple[float, str]] = {}  # downscaler -> share and remark, where more than 1 % are


@shielded()
def draw(
    experiment: Experiment, image: str, downscaler: str, degradation: str = "", level: float | None = None
) -> Tensor:
    """The SR draws of one cell, rounded to 8 bits as the distortion sees them; arguments as `pairs.pair`.

    Returns:
        (N_Q, 3, H, W) in [0, 1], sample q from the latents of sample q; NaN stays NaN.

    Raises:
        ValueError: as `pairs.pair` and `upscalers.build`.
    """
    upscale, starts = _load(experiment), [seeded(experiment.seed, image, q) for q in range(experiment.n_samples)]
    lr = pairs.pair(experiment, image, downscaler, degradation, level)[1]  # begins
    if methods.is_search(experiment.f_us):  # one by one, as in `score`
        f_ds = pairs.f_ds_of(experiment, image, downscaler, degradation, level)
        return quantize(torch.cat([upscale(lr, [start], downscale=f_ds) for start in starts]))
    with full_precision(lr.device):
        return quantize(upscale(lr, starts))


def facts(experiment: Experiment, run: str = "") -> dict:
    """Describe how the rows will be made: weights, metric of each D, device, version.

    Whatever can fail before the first image is computed fails here.

    Args:
        experiment: says what is computed.
        run: as in `pairs.begin`.

    Raises:
        ValueError: an image, downscaler or folder of LR images is not there, or weights or the device are missing.
    """
    pairs.begin(run)
    known = dict.fromkeys(datasets.names(experiment.source, size=experiment.size))
    if unknown := [image for image in experiment.images if image not in known]:
        where = f"{experiment.source} ({experiment.dataset_name}): {shorten(list(known))}"
        raise ValueError(f"images: expected names among the {len(known)} of {where}; got {shorten(unknown)}")
    for spec in experiment.specs.values():
        apart.resolve(spec)
        if spec in rescalers.RESCALERS:
            rescalers.made(spec, experiment.scale, "cpu")  # its checkpoint
        if spec.startswith("folder:"):  # LR images of this data set that are not asked for are no mistake
            entries = Path(spec.removeprefix("folder:").strip()).expanduser().iterdir()
            others = set(map(stem_of, entries)) & set(known) - set(experiment.images)
            adapters.resolve(spec, names=[*experiment.images, *sorted(others)])
    _load(experiment)
    found = _made_by(experiment)
    methods.check(experiment, partial(_first, experiment))
    return found


def _first(experiment: Experiment) -> Tensor:
    """The first HR image that can be read."""
    for image in experiment.images[:-1]:
        with contextlib.suppress(ValueError):  # the run sets it aside, and says so
            return pairs.load(experiment, image)
    return pairs.load(experiment, experiment.images[-1])


def remarks(experiment: Experiment, names: Collection[str], run: str = "") -> list[str]:
    """What looks like a mistake in downscalers and f_us of the user, one sentence each (see `downscalers.form`).

    Args:
        experiment: names data set, images and downscalers.
        names: of downscalers in the rows; those of the library are passed over.
        run: as in `pairs.begin`.
    """
    pairs.begin(run)
    found = []
    for name, spec in experiment.specs.items():
        if name in names and spec not in adapters.OURS:
            where = experiment.source, experiment.images, experiment.scale
            try:
                with apart.at_work(spec):
                    card = adapters.card_of(apart.resolve(spec), *where, size=experiment.size)
                few = f"expected LR files of {LEAST}x{LEAST} pixels or more that are not flat, got none"
                warnings = [f"downscaler {name!r}: {warning}" for warning in (card.warnings if card else ())]
                found += warnings if card else [f"downscaler {name!r} could not be looked at: {few}"]
            except Exception as error:  # it may be made for other pictures than a test chart; those will tell
                found.append(f"downscaler {name!r} could not be looked at: {type(error).__name__}: {error}")
    return found + methods.remarks(experiment, partial(_first, experiment))


@shielded()
def score(
    experiment: Experiment,
    image: str,
    keys: Sequence[tuple],
    batch: int = 8,
    twice: bool = False,
    strict: bool = False,
    run: str = "",
) -> Scored:
    """Compute rows of one image, cell by cell: what fails in one costs the others nothing.

    A cell gets a second try, after the others, where an error of memory or of input and output stopped it.

    Args:
        experiment: as for `run`; its list of images is not looked at.
        image: name of the image.
        keys: of the rows, all of this image, as `Experiment.keys` gives them.
        batch: samples drawn together; halved where memory runs out; a search takes one by one.
        twice: call the user's own downscalers again and compare.
        strict: raise the error of a cell.
        run: as in `pairs.begin`.

    Raises:
        ValueError: there is no HR image; with `strict` also as `pairs.pair`, or the upscaler refuses the image.
        MemoryError: with `strict`: not even one sample fits.
    """
    torch.set_num_threads(1)  # of a worker, for good; the driver has its threads back after the run
    pairs.begin(run)
    upscale, made_by = _load(experiment), _made_by(experiment)
    hr, own, metrics = pairs.load(experiment, image), experiment.distances, experiment.metrics
    bases, plain = {metric.removesuffix(distortions.OF_MEAN) for metric in metrics} - set(distortions.OF_LR), {}
    searches, answers = methods.is_search(experiment.f_us), []  # residual and converged of each sample
    batch = 1 if searches else batch  # it amplifies rounding, which companions change

    def note(result) -> None:
        answers.extend(zip(result.residual.tolist(), result.converged.float().tolist(), strict=True))

    def distort(lr: Tensor, f_ds: Callable, **options) -> Tensor:
        answers.clear()  # of a first try that ran out of memory
        for base in bases - set(plain):  # once an image
            plain[base] = methods.against(own.get(base, base), hr)
        more = [metric for metric in metrics if metric not in plain]
        fresh = plain | {metric: methods.against(metric, hr, lr, plain=plain) for metric in more}  # keep a mean
        several = {metric: lambda sr, _, f=fresh[metric]: f(sr) for metric in metrics}
        f_us = partial(upscale, downscale=f_ds, on_result=note) if searches else upscale
        return score_lr(hr, lr, f_us, several, key=(experiment.seed, image), **options)

    cells: dict[tuple, list[dict]] = {}
    for key in keys:
        named = dict(zip(results.KEY, key, strict=True))
        cells.setdefault((named["downscaler"], named["degradation"], named["level"]), []).append(named)
    what = f"{image} ({hr.shape[2]}x{hr.shape[3]}, x{experiment.scale})"
    remarks = list(filter(None, [adapters.profile_note(experiment.source, image, experiment.size)]))
    rows, failed, clipped = [], [], {}

    def compute(cell: tuple, wanted: list[dict], seen: dict) -> list[dict]:
        nonlocal batch
        start = time.perf_counter()
        checked, stored = pairs.checked_and_stored(experiment, image, hr, *cell, twice=twice, bits=True)
        if checked.deterministic is False:
            remarks.append(f"downscaler {cell[0]!r} is not deterministic: two calls differ on {image}")
        if checked.remark:
            clipped[cell[0]] = max(clipped.get(cell[0], (0.0, "")), (checked.clipped, checked.remark))
        lr = quantize(checked.lr)
        seen["lr"] = pairs.hash_of_lr(experiment, image, hr, lr, *cell)
        once = partial(distort, lr, pairs.f_ds_of(experiment, image, *cell))
        n_samples = max(named["sample"] for named in wanted) + 1
        values, batch = _in_batches(once, n_samples, batch, what, remarks)
        row = made_by | pairs.proof(experiment, image, hr, lr) | seen
        row |= {"clipped": checked.clipped, "lr_bits": stored}
        row["seconds"] = (time.perf_counter() - start) / len(values) / len(metrics)
        made = []
        for named in wanted:
            sample, metric = named["sample"], named["distortion"]
            found = answers[sample] if searches else (None, None)
            value = dict(zip(("value", *results.SEARCH), (values[sample][metrics.index(metric)], *found), strict=True))
            made.append(named | row | value | {"metric": made_by["metric"][metric]})
        return made

    waiting, again = list(cells), set()
    for cell in waiting:  # it may grow
        seen = {"lr": ""}
        try:
            rows += compute(cell, cells[cell], seen)
        except Exception as error:
            if strict:
                raise
            if may_pass(error) and cell not in again:
                again.add(cell)
                waiting.append(cell)
                continue
            of_cell = dict(zip(("downscaler", "degradation", "level"), cell, strict=True))
            lost = isinstance(error, apart.Lost)  # not to be asked again
            reason = f"{'RuntimeError' if lost else type(error).__name__}: {error}"
            failed.append(of_cell | ({"lr": UNKNOWN} if lost else seen) | {"hr": pairs.hash_of(hr), "reason": reason})
    return Scored(rows, remarks, failed, clipped)


def may_pass(error: BaseException) -> bool:
    """Whether an error, of memory or of input and output, may be gone at a second try."""
    return isinstance(error, OSError) or out_of_memory(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    says = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return says or isinstance(error, MemoryError | torch.OutOfMemoryError)


def _load(experiment: Experiment) -> Callable:
    """f_us; D of ours are loaded, too."""
    how = experiment.f_us, experiment.scale, experiment.heat, experiment.device
    return _loaded(
        experiment.upscaler_name, *how, tuple(spec for spec in experiment.distances.values() if not is_function(spec))
    )


@lru_cache(maxsize=1)  # once a process
def _loaded(name: str, upscaler: str, scale: int, heat: float | str, device: str, metrics: tuple) -> Callable:
    """`name` changes with the code or the checkpoint of a reader's own."""
    for metric in {*metrics} - {*distortions.OF_LR}:
        side = distortions.MINIMUM_SIDE[metric]
        distortions.against(metric, torch.zeros(1, 3, side, side, device=pick_device(device)))  # its weights, now
    return methods.upscaler(upscaler, scale=scale, heat=heat, device=device)


def _made_by(experiment: Experiment) -> dict:
    """What `facts` returns."""
    where = pick_device(experiment.device)
    return {
        "weights": methods.weights_hash(experiment.f_us, experiment.scale, experiment.device),
        "metric": {metric: methods.describe(spec) for metric, spec in experiment.distances.items()},
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        "version": results.VERSION,
    }


def _in_batches(distort: Callable, n_samples: int, batch: int, what: str, remarks: list) -> tuple[list, int]:
    """Distortions of the samples, in smaller batches where memory runs out, and the batch that went."""
    while True:
        try:
            return distort(n_samples=n_samples, batch=batch).tolist(), batch
        except Exception as error:
            if not out_of_memory(error):
                raise
            if batch == 1:
                raise MemoryError(f"{what}, one sample at a time: {error}") from error
        batch = min(batch, n_samples) // 2 or 1
        remarks.append(f"{what}: out of memory, went on with {batch} samples at a time")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
