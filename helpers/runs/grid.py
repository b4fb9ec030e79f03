"""The keys of an experiment as a grid: images x downscalers x damages x draws x distortions, none written out.

A key has a number, its place in `Experiment.keys()`, so that a million images are planned without a billion texts.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING, overload

import numpy as np

from helpers.columns import Coded, repeated, runs_of

if TYPE_CHECKING:
    from helpers.runs.experiment import Experiment

IMAGES = 4096  # looked at in one go


def axes(experiment: "Experiment") -> list[list]:
    """What a key is made of, in the order in which keys come: the last axis changes first."""
    names, metrics = list(experiment.specs), experiment.metrics
    return [list(experiment.images), names, list(experiment.degradations), list(range(experiment.n_samples)), metrics]


def _how(experiment: "Experiment") -> tuple:
    return experiment.upscaler_name, experiment.heat, experiment.seed


def shape(experiment: "Experiment") -> tuple[int, ...]:
    """How long each axis is."""
    return tuple(map(len, axes(experiment)))


def columns(experiment: "Experiment") -> dict[str, Coded]:
    """The keys column by column, as `results.read` takes them."""
    images, names, damages, samples, metrics = its = axes(experiment)
    sizes = [len(each) for each in its]
    total = math.prod(sizes)

    def along(axis: int, values: Sequence) -> Coded:
        each = math.prod(sizes[axis + 1 :])
        return repeated(values, each, total // max(1, each * len(values)))

    def fixed(value: object) -> Coded:
        return repeated([value], total, 1)

    where = [experiment.where if damage else "" for damage, _ in damages]
    return {
        "dataset": fixed(experiment.dataset_name),
        "image": along(0, images),
        "downscaler": along(1, names),
        "scale": fixed(experiment.scale),
        "degradation": along(2, [damage for damage, _ in damages]),
        "level": along(2, [level for _, level in damages]),
        "where": along(2, where),
        "upscaler": fixed(experiment.upscaler_name),
        "heat": fixed(experiment.heat),
        "seed": fixed(experiment.seed),
        "sample": along(3, samples),
        "distortion": along(4, metrics),
    }


def keys_at(experiment: "Experiment", numbers: Sequence[int]) -> list[tuple]:
    """The keys of some numbers, values in the order of `results.KEY`."""
    images, names, damages, samples, metrics = its = axes(experiment)
    dataset, scale, where = experiment.dataset_name, experiment.scale, experiment.where
    how = _how(experiment)
    places = np.unravel_index(np.asarray(numbers, np.int64), tuple(map(len, its)))
    return [
        (dataset, images[i], names[n], scale, *damages[d], where if damages[d][0] else "", *how, samples[q], metrics[m])
        for i, n, d, q, m in zip(*(place.tolist() for place in places), strict=True)
    ]


def number_of(experiment: "Experiment", cell: tuple) -> int | None:
    """The number of the first key of a cell, values in the order of `results.CELL`; None: it is of no such cell."""
    dataset, image, name, scale, damage, level, where, *how = cell
    same = (dataset, scale, *how) == (experiment.dataset_name, experiment.scale, *_how(experiment))
    if not same or where != (experiment.where if damage else ""):
        return None
    places = [
        _numbers(tuple(axis)).get(value)
        for axis, value in zip(axes(experiment), (image, name, (damage, level)), strict=False)
    ]
    sizes = shape(experiment)
    return None if None in places else int(np.ravel_multi_index((*places, 0, 0), sizes))


@lru_cache(maxsize=8)
def _numbers(values: tuple) -> dict:
    return {value: k for k, value in enumerate(values)}


def by_image(experiment: "Experiment", numbers: np.ndarray) -> dict[str, "Missing"]:
    """Image -> its keys among those of some numbers, which are in order."""
    images, each = experiment.images, math.prod(shape(experiment)[1:])
    starts = [*runs_of([numbers // max(1, each)]), len(numbers)]
    return {
        images[int(numbers[a]) // each]: Missing([(experiment, numbers[a:b])])
        for a, b in zip(starts, starts[1:], strict=False)
    }


def chunks(experiments: Sequence["Experiment"]) -> Iterator[list["Experiment"]]:
    """The experiments on `IMAGES` images of a data set at a time; all of them that have an image have it at once."""
    known = dict.fromkeys((each.dataset_name, image) for each in experiments for image in each.images)
    if len(known) <= IMAGES:
        yield list(experiments)
        return
    numbers = {pair: k // IMAGES for k, pair in enumerate(known)}
    del known
    parts: list[list[list[str]]] = [[[] for _ in experiments] for _ in range(max(numbers.values()) + 1)]
    for k, each in enumerate(experiments):
        for image in each.images:
            parts[numbers[each.dataset_name, image]][k].append(image)
    del numbers
    for part in parts:
        yield [on(each, images) for each, images in zip(experiments, part, strict=True)]


def on(experiment: "Experiment", images: Sequence[str]) -> "Experiment":
    """The experiment on some of its images; what was checked is not checked again."""
    found = copy(experiment)
    object.__setattr__(found, "images", list(images))  # frozen
    return found


class Missing(Sequence):
    """Keys without a row, by number: a tuple is made when it is asked for."""

    def __init__(self, parts: Collection[tuple["Experiment", np.ndarray]] = ()):
        self._parts = [part for part in parts if len(part[1])]
        self._ends = np.cumsum([len(numbers) for _, numbers in self._parts])

    @property
    def parts(self) -> list[tuple["Experiment", np.ndarray]]:
        """Experiments and the numbers of their keys, as given."""
        return self._parts

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, place: int) -> tuple: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple]: ...
    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"expected a place below {len(self)}, got {place}")
        place %= len(self)
        part = int(np.searchsorted(self._ends, place, "right"))
        experiment, numbers = self._parts[part]
        return keys_at(experiment, numbers[place - self._ends[part]][None])[0]

    def __iter__(self) -> Iterator[tuple]:
        for experiment, numbers in self._parts:
            yield from keys_at(experiment, numbers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(ours == theirs for ours, theirs in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return f"{len(self)} keys: {self[:3]}{' and more' * (len(self) > 3)}"
