"""Why a row would not come out again: its pixels, weights or metric are other ones now. No picture is read here."""

from collections import defaultdict
from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from helpers import columns, results
from helpers.runs import methods, words
from helpers.runs.experiment import Experiment

MIXED = "LR pixels differ between rows of one cell"


def reasons(rows, cells, of_cell, experiment, now, seen, trust, mixed) -> tuple[np.ndarray, np.ndarray]:
    """Why rows would not come out again, "" where they would, once for many rows; and which is that of each row."""
    facts = [columns.coded(rows[name]) for name in ("weights", "distortion", "metric")]
    starts = columns.runs_of([of_cell, rows.hr.to_numpy(), rows.lr.to_numpy()])
    same = np.repeat(np.arange(len(starts)), np.diff([*starts, len(rows)]))
    number = columns.numbered([columns.Coded(same, starts), *facts])
    _, first, which = np.unique(number, return_index=True, return_inverse=True)
    place_of, places = placing(experiment), {}
    names = ["downscaler", "hr", "lr", "weights", "distortion", "metric"]
    found, lrs = [], defaultdict(set)
    for number, row in zip(of_cell[first].tolist(), rows[names].iloc[first].itertuples(index=False), strict=True):
        place = places.get(number) or places.setdefault(number, place_of(cells[number]))
        found.append(why_not(place, row, now, seen, trust, mixed))
        if not found[-1] and row.downscaler in trust:
            lrs[number].add(row.lr.removesuffix(results.TRUSTED))
    several = {number for number, own in lrs.items() if len(own) > 1}
    why = np.empty(len(found), object)
    why[:] = [
        wrong or MIXED * (number in several) for number, wrong in zip(of_cell[first].tolist(), found, strict=True)
    ]
    return why, which


def placing(experiment: Experiment) -> Callable[[tuple], tuple]:
    """A function of a cell: what its LR image, and what a search sees through its downscaler, depend on, in words."""
    specs, searches, seed = experiment.specs, methods.is_search(experiment.f_us), experiment.seed
    source, size, device = experiment.source, experiment.size, experiment.device

    def place(each: tuple) -> tuple:
        _, image, name, scale, degradation, level, where, upscaler, *_ = each
        damage = (degradation, level, where, seed) if degradation else ()
        return source, size, scale, image, device, specs.get(name, name), damage, upscaler if searches else ""

    return place


def why_not(place, row, now, seen, trust, mixed) -> str:
    """Why a row would not come out again, or ""."""
    if not row.hr:
        return "made before rows had hashes"
    hr, no_hr = seen[place[:5]]
    lr, no_lr = (row.lr, "") if row.downscaler in trust else seen[place]
    if no_hr:
        return f"no HR image: {words.short(no_hr)}"
    if hr != row.hr:
        return "HR pixels changed"
    if no_lr.startswith(words.NOT_LOOKED_AT):
        return no_lr
    if no_lr:
        return f"no LR image: {words.short(no_lr)}"
    if lr.removesuffix(results.TRUSTED) != (before := row.lr.removesuffix(results.TRUSTED)):
        same = lr.partition("/")[0] == before.partition("/")[0]
        return "LR images or gradients inside the search changed" if same else "LR pixels changed"
    if "weights" not in mixed and now["weights"] not in (None, row.weights):
        return "weights changed"
    return "" if "metric" in mixed or now["metric"][row.distortion] == row.metric else "metric changed"


def mark(rows: pd.DataFrame, trust: Collection[str]) -> pd.DataFrame:
    """Say in the column `lr` which LR images were trusted and which were made again."""
    lr = columns.coded(rows.lr)
    plain = np.array([text.removesuffix(results.TRUSTED) for text in lr.values], object)
    marked = plain + results.TRUSTED if len(plain) else plain
    codes, trusted = lr.codes, rows.downscaler.isin(list(trust)).to_numpy()
    found = plain[codes] if not trusted.any() else np.where(trusted, marked[codes], plain[codes])
    return rows.assign(lr=pd.Series(found, rows.index, dtype=object))
