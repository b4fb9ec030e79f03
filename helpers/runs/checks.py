"""Hold the rows of a folder against what they would be now: a row is reused only where it would come out again.

A row keeps hashes of the HR pixels and of the LR pixels that it scored, of the weights and of the metric. Before a run
(and a plan) each image is downscaled again; a row of which one of the four has changed is stale: it counts as missing,
and the row computed in its place is the newer one of its key.
"""

import itertools
import math
import os
import secrets
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from helpers import columns, datasets, results
from helpers.datasets.sources import list_images
from helpers.downscalers import DOWNSCALERS
from helpers.runs import cluster, grid, methods, pairs, stale, words
from helpers.runs.cell import UNKNOWN
from helpers.runs.experiment import Experiment, own_upscaler

if TYPE_CHECKING:
    from distributed import Client

NOT_TRIED = "not tried after"  # how the reasons begin of what a run has not tried
IN_A_ROW = 3  # images that fail one after the other: what is tried on them is broken, not the images
PATIENCE = 60  # seconds of failures in a row, from which on a downscaler is not even asked whether its rows hold
REMEMBERED = 500_000  # hashes, about 300 MB
_hashes: dict[tuple, str] = {}  # of HR images by path and date of the file, of LR images of our own f_ds by HR image


class Todo(NamedTuple):
    """What stands between an experiment and its rows."""

    rows: pd.DataFrame  # those that would come out again
    stale: pd.DataFrame  # those that would not, with a column "why"
    tasks: dict[str, grid.Missing]  # image -> its keys to compute
    aside: list[tuple]  # cells left out, as `words.cell_of` names them
    back: list[dict]  # lines of `results.aside` of cells whose rows are all there again
    regrouped: pd.DataFrame  # rows that hold but for their photograph, with the one of now, to be written


def todo(
    experiment: Experiment,
    rows_dir: str | Path,
    client: "Client | None" = None,
    *,
    mixed: Collection[str] = (),
    retry_aside: bool = False,
    trust: Collection[str] = (),
    seen: dict | None = None,
    run: str = "",
    redrawn: bool = False,
    there: results.Snapshot | None = None,
    now: dict | None = None,
) -> Todo:
    """Read the rows of an experiment and tell which of them hold, which are stale, and what is to be computed.

    Args:
        experiment, rows_dir, client, mixed, retry_aside, trust: as `driver.run`.
        seen: hashes that an earlier call has found, and this one adds to.
        run: as `pairs.begin`.
        redrawn: take rows without hashes as they are, see `redraws`.
        there: what has been read of `rows_dir`, if it has.
        now: what `made_by` says, if it is known.

    Raises:
        ValueError: as `results.read`.
    """
    wanted, seen = grid.columns(experiment), {} if seen is None else seen
    rows = results.read(rows_dir if there is None else there, keys=wanted, mixed=tuple(results.ONE_OF))
    if redrawn:
        results.check_mixed(rows, mixed)
        return Todo(rows, rows.iloc[:0].assign(why=""), {}, [], [], rows.iloc[:0])
    starts = columns.runs_of(rows[name].to_numpy() for name in results.CELL)  # rows are sorted
    cells = list(map(words.cell_of, rows[list(results.CELL)].iloc[starts].itertuples(index=False, name=None)))
    of_cell = np.repeat(np.arange(len(cells)), np.diff([*starts, len(rows)]))
    of_before = _noted(experiment, rows_dir)
    noted = {} if retry_aside else of_before
    lost = {each for each, entries in noted.items() if all(entry["lr"] == UNKNOWN for entry in entries.values())}
    hashed = np.bincount(of_cell, rows.hr != "", len(cells)) > 0
    looked = list(itertools.compress(cells, hashed))
    bad = {each[1] for each, own in of_before.items() if not all(_is_untried(line) for line in own.values())}
    asked = dict.fromkeys(sorted([*looked, *noted], key=lambda each: each[1] in bad))  # what failed comes last
    failed = set(noted) - lost  # of a trusted downscaler its rows are trusted, not what failed
    _look(experiment, asked, client, trust, seen, run, lost.difference(looked), failed, looked)
    if now is None and (len(rows) or noted):
        asked = experiment, run
        now = client.submit(made_by, *asked, pure=False).result() if client else made_by(*asked)
    why, which = stale.reasons(rows, cells, of_cell, experiment, now, seen, trust, mixed)
    fine = (why == "")[which]
    kept = stale.mark(rows if fine.all() else rows[fine], trust)
    results.check_mixed(kept, mixed)
    was, kept = kept.group, _regroup(kept, now)
    numbers, aside, left = results.missing_at(wanted, kept), [], set()
    keep, per_cell = np.ones(len(numbers), bool), math.prod(grid.shape(experiment)[3:])
    for number, each in sorted((grid.number_of(experiment, each), each) for each in of_before):
        own = slice(*np.searchsorted(numbers, [number, number + per_cell]))
        keys = grid.keys_at(experiment, numbers[own])
        left |= {(each, key[-1]) for key in keys}
        tried, entries = tried_of(keys), noted.get(each, {})
        if keys and all(_still(entries.get(on), tried, each, experiment, now, seen) for on in tried.split()):
            aside.append(each)
            keep[own] = False
    tasks = grid.by_image(experiment, numbers if keep.all() else numbers[keep])
    back = [line for each, own in of_before.items() for on, line in own.items() if (each, on) not in left]
    gone = set(aside)
    whole = ~np.array([each in gone for each in cells], bool)[of_cell[fine]]
    return Todo(
        kept if whole.all() else kept[whole],
        rows[~fine].assign(why=why[which[~fine]]),
        dict(sorted(tasks.items(), key=lambda each: each[0] in bad)),
        aside,
        back,
        kept[kept.group != was],
    )


def tried_of(keys: Iterable[tuple]) -> str:
    """The distortions of keys, as the column `tried` of `results.aside` has them."""
    return " ".join(sorted({key[-1] for key in keys}))


def redraws(wanted: Iterable[results.Keys], rows_dir: str | Path, there: results.Snapshot | None = None) -> int:
    """Count the rows of several lists of keys, where each is a published one from before rows had hashes; else 0.

    Such rows are for drawing figures again; they are never mixed with rows that are held against the pictures.
    """
    total, local = 0, Path(rows_dir, "local.csv")
    there = results.snapshot(rows_dir) if there is None else there
    for keys in wanted:
        rows = results.read(there, keys=keys, mixed=tuple(results.ONE_OF), names=("hr",))
        if len(rows) < results.count(keys) or (rows.hr != "").any():
            return 0
        if local.is_file() and len(results.read(local, keys=keys, mixed=tuple(results.ONE_OF), names=("hr",))):
            return 0
        total += len(rows)
    return total


def held(experiment: Experiment, keys: Sequence[tuple], rows_dir: str | Path, client: "Client | None" = None):
    """Read rows of other quantities than distortions, and leave out those whose HR or LR pixels have changed.

    Args:
        experiment: says how its images are downscaled.
        keys: of the rows.
        rows_dir, client: as `driver.run`.

    Returns:
        The rows, as `results.read` gives them; those from before rows had hashes only where all are published ones.
    """
    rows, seen = results.read(rows_dir, keys=keys, mixed=tuple(results.ONE_OF)), {}
    if number := redraws([keys], rows_dir):
        warnings.warn(words.say_redrawn(number, rows_dir), stacklevel=3)
        return rows
    cells = list(map(words.cell_of, rows[list(results.CELL)].itertuples(index=False, name=None)))
    asked = dict.fromkeys(each for each, hr in zip(cells, rows.hr, strict=True) if hr)
    _look(experiment, asked, client, (), seen, secrets.token_hex(4), rows=asked)
    pairs = zip(cells, rows.itertuples(), strict=True)
    place_of = stale.placing(experiment)
    why = [stale.why_not(place_of(each), row, None, seen, (), ("weights", "metric")) for each, row in pairs]
    rows = _regroup(rows.assign(why=pd.Series(why, rows.index, dtype=object)), {"group": groups_of(experiment)})
    if len(gone := rows[rows.why != ""]):
        warnings.warn(f"{rows_dir}: {words.say_stale(gone)}; they are computed anew", stacklevel=3)
    return rows[rows.why == ""].drop(columns="why")


def check_names(experiments: Iterable[Experiment], trust: Collection[str] = ()) -> None:
    """Refuse experiments that give one name to two data sets, or, on one data set and scale, to two methods of a kind.

    Raises:
        ValueError: says which; or `trust` names a downscaler that none of them has.
    """
    known, names = {}, set()
    for each in experiments:
        source = each.source if each.source in datasets.sources.MADE else str(Path(each.source).resolve())
        names |= set(each.specs)
        own = [((f"data set {each.dataset_name!r}", each.dataset_name), source)]
        upscaler = {each.upscaler_name: each.f_us} if own_upscaler(each.f_us) else {}
        kinds = {"downscaler": each.specs, "upscaler": upscaler, "distortion": each.distances}
        own += [
            ((f"{kind} {name!r}", each.dataset_name, each.scale), spec)
            for kind, specs in kinds.items()
            for name, spec in specs.items()
        ]
        for what, meaning in own:
            if known.setdefault(what, meaning) != meaning:
                raise ValueError(
                    f"{what[0]}: expected one thing of this name in the rows, got {known[what]!r} and {meaning!r}; "
                    f"give one another name by a pair, ('other', {meaning!r})"
                )
    if unknown := set(trust) - names:
        raise ValueError(f"trust: expected names among {', '.join(sorted(names))}, got {', '.join(sorted(unknown))}")


def made_by(experiment: Experiment, run: str = "") -> dict:
    """What weights, metric and photographs of rows would be if made now; weights are None where they are not here.

    Nothing is fetched, and only the reader's own functions are loaded, as in `pairs.begin`.
    """
    pairs.begin(run)
    here = methods.are_here(experiment.f_us, experiment.scale)
    weights = methods.weights_hash(experiment.f_us, experiment.scale, experiment.device) if here else None
    metrics = {name: methods.describe(spec) for name, spec in experiment.distances.items()}
    return {"weights": weights, "metric": metrics, "group": groups_of(experiment)}


def groups_of(experiment: Experiment) -> dict[str, str]:
    """Image -> photograph, as far as the data set can be read and has the images."""
    try:
        there = list_images(experiment.source, experiment.size)[0]
        names = [image for image in experiment.images if image in there]
        return datasets.groups(experiment.source, names, size=experiment.size)
    except ValueError:  # the images will say so
        return {}


def _regroup(rows: pd.DataFrame, now: dict | None) -> pd.DataFrame:
    """Rows with the photographs of now, which no distortion depends on."""
    groups = now["group"] if now else {}
    starts = columns.runs_of([rows.image.to_numpy(), rows.group.to_numpy()])
    first = rows[["image", "group"]].iloc[starts]
    found = np.empty(len(starts), object)
    found[:] = [groups.get(*each) for each in zip(first.image, first.group, strict=True)]
    return rows.assign(group=pd.Series(found.repeat(np.diff([*starts, len(rows)])), rows.index, dtype=object))


def look(experiment: Experiment, image: str, cells: Sequence[tuple], run: str = "") -> tuple[str, dict[tuple, tuple]]:
    """Downscale one image again and hash it, for each of several cells.

    Args:
        experiment: as for `driver.run`; its list of images is not looked at.
        image: name of the image.
        cells: downscaler, degradation and level of each.
        run: as in `pairs.begin`.

    Returns:
        Hash of the HR image; cell -> hash of its LR image and "", or "" and why there is none.

    Raises:
        ValueError: there is no HR image.
    """
    torch.set_num_threads(1)  # as `cell.score`
    pairs.begin(run)
    loaded: list[Tensor] = []

    def hr() -> Tensor:
        if not loaded:
            loaded.append(pairs.load(experiment, image))
        return loaded[0]

    def hash_of(each: tuple) -> str:
        how = experiment, image, hr()
        return pairs.hash_of_lr(*how, pairs.lr_of(*how, *each), *each)

    of_hr, found = _remember(_stamp(experiment, image), lambda: pairs.hash_of(hr())), {}
    for each in cells:
        ours = DOWNSCALERS.get(experiment.specs.get(each[0], each[0]))
        key = ("lr", of_hr, ours, experiment.scale, experiment.device) if ours and not each[1] else None
        try:
            found[each] = _remember(key, lambda each=each: hash_of(each)), ""
        except Exception as error:  # the caller says so; the cell is left out, or tried again
            found[each] = "", f"{type(error).__name__}: {error}"
    return of_hr, found


def _noted(experiment: Experiment, rows_dir: str | Path) -> dict[tuple, dict[str, dict]]:
    """Cell -> distortion -> its line in `results.aside`, of cells of this experiment."""
    noted = defaultdict(dict)
    for line in results.aside(rows_dir).to_dict("records"):
        if grid.number_of(experiment, each := words.cell_of(tuple(line.values()))) is not None:
            noted[each][line["distortion"]] = line
    return noted


def _is_untried(line: dict) -> bool:
    return line["reason"].startswith(NOT_TRIED)


def _look(experiment, cells, client, trust, seen, run, lost=(), failed=(), rows=()) -> None:
    """Put hashes of HR and LR image of each cell into `seen`, or why there are none: pairs of texts, one empty.

    The downscalers of the cells in `lost` are not called, which may cost this process; trusted ones are for `failed`.
    One that fails on three images in a row is asked for the cells in `rows` alone, and after `PATIENCE` for none.
    """
    place_of = stale.placing(experiment)
    tasks, streak, since, kept = {}, Counter(), {}, {place_of(each) for each in rows}
    for each in cells:
        image, name, _, degradation, level = each[1:6]
        place = place_of(each)
        if (name not in trust or each in failed) and each not in lost and place not in seen:
            tasks.setdefault(image, {})[name, degradation, level] = place
        elif place[:5] not in seen:
            tasks.setdefault(image, {})
    places = {image: dict(own) for image, own in tasks.items()}
    how = {image: (grid.on(experiment, [image]), image, list(own), run) for image, own in tasks.items()}
    bar = tqdm(cluster.compute(look, how, client), "downscaling again", len(how), delay=3, leave=False, unit="image")
    before = time.monotonic()
    for image, outcome in bar:
        broken = isinstance(outcome, Exception)
        of_hr, found = ("", {}) if broken else outcome
        why = f"{type(outcome).__name__}: {outcome}" if broken else ""
        seen[(experiment.source, experiment.size, experiment.scale, image, experiment.device)] = of_hr, why
        seen |= {place: ("", why) for place in places.pop(image).values()}
        seen |= {tasks[image][each]: pair for each, pair in found.items()}
        for name in {each[0] for each in found}:
            worked = any(found[each][0] for each in found if each[0] == name)
            streak[name], since[name] = (0, before) if worked else (streak[name] + 1, since.get(name, before))
            if streak[name] < IN_A_ROW:
                continue
            why = next(found[each][1] for each in found if each[0] == name)
            late = time.monotonic() - since[name] > PATIENCE
            for other, theirs in places.items():
                for each in [each for each in theirs if each[0] == name and (late or theirs[each] not in kept)]:
                    place = theirs.pop(each)
                    seen[place] = "", f"{words.NOT_LOOKED_AT} {words.short(why)}" if place in kept else why
                how[other] = (*how[other][:2], list(theirs), run)
        before = time.monotonic()


def _still(entry, tried, each, experiment, now, seen) -> bool:
    """Whether what was set aside is still what it was; if in doubt it is not, and a try costs one image."""
    if entry is None or (entry["tried"], entry["version"]) != (tried, results.VERSION):
        return False
    place = stale.placing(experiment)(each)
    if entry["hr"] not in (UNKNOWN, seen[place[:5]][0]) or now["weights"] not in (None, entry["weights"]):
        return False
    return entry["lr"] == UNKNOWN or entry["hr"] == "" or entry["lr"] == seen[place][0]


def _stamp(experiment: Experiment, image: str) -> tuple | None:
    """What an HR image depends on; None where a change of its file might not show yet."""
    path, expected = list_images(experiment.source, experiment.size)[0].get(image, (None, ""))
    how = ("hr", experiment.source, image, experiment.size, experiment.scale, expected)
    if path is None:
        return how
    try:
        stat = os.stat(path)
    except OSError:
        return None
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) < 2_000_000_000:  # as `files.cache_by_stat`
        return None
    return *how, str(path), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _remember(key: tuple | None, compute: Callable[[], str]) -> str:
    """The hash under `key`, computed once a process; None is computed each time."""
    if key is None:
        return compute()
    if key not in _hashes:
        if len(_hashes) >= REMEMBERED:
            _hashes.clear()
        _hashes[key] = compute()
    return _hashes[key]
