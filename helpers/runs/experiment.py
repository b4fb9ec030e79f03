"""The experiment: what is computed, in plain values that any process understands, and the keys of its rows."""

import hashlib
import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from helpers import degradations, distortions, upscalers
from helpers.downscalers import DOWNSCALERS
from helpers.listing import composed
from helpers.runtime import check_seed


@dataclass(frozen=True)
class Experiment:
    """What is computed; it names images and methods and holds no tensor.

    Args:
        dataset: X, as `datasets.load` takes it: "library", "generated", "portrait", a folder, or a manifest (.csv).
            Rows call it `dataset_name`; a pair (name, one of these) gives another name.
        images: names of the images in it.
        downscalers: f_ds, each as `adapters.resolve` takes it. Rows call a user's function by its name and a hash of
            its code; a pair (name, one of these) gives another name, and rows of that name are trusted as they are.
        scale: s.
        upscaler: f_us, as `upscalers.stages` takes it; kept as `upscalers.normalise` writes it.
        heat: standard deviation of the latents, as `upscalers.stages` takes it; 1.0 for a search. Kept in one spelling:
            a number, or several that differ joined by "+", "1.0+0.1".
        n_samples: N_Q, draws per image.
        seed: first part of every random key.
        distortion: D, or several that look at the same draws (names as in `distortions.against`); a metric of which
            more is better is taken in its lower-is-better form.
        degradations: pairs (name, level), each applied by itself; ("", None) is none.
        where: the degradation comes "after" the downscaler or "before" it.
        device: as `runtime.pick_device` takes it.
        size: side of the library's crops in pixels.
        precision: "float32", or "bf16", which is faster where the processor has units for it (see
            `upscalers.embedded_flow`); "" is what the upscaler's name says, else float32. Kept as a part of that name,
            "embedded_flow(precision=bf16)", which all its rows carry: they are others than those in float32. D is
            always computed in float32.

    Raises:
        ValueError: lists everything that cannot be computed; only names are checked, no image is read.
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
    precision: str = ""

    def __post_init__(self):
        problems = []
        if not isinstance(self.images, str):
            object.__setattr__(self, "images", list(map(composed, self.images)))
        for name, check in (
            ("upscaler", lambda: upscalers.stages(self.upscaler, self.scale, self.heat)),
            ("distortion", lambda: self.metrics),
            ("precision", lambda: upscalers.at_precision(self.upscaler, self.precision)),
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
        named = [(row_name(each), each) if isinstance(each, str) else tuple(each) for each in self.downscalers]
        for k, (name, spec) in enumerate(named):
            if others := {other for own, other in named[:k] if own == name} - {spec}:
                same = ", ".join(map(repr, [*others, spec]))
                problems.append(f"downscalers: rows would call {same} all {name!r}; name one by a pair, ('mine', spec)")
            if name in DOWNSCALERS and spec != name:
                problems.append(f"downscalers: expected another name than {name!r}, which is ours, for {spec!r}")
        try:
            check_seed(self.seed)
        except ValueError as error:
            problems.append(f"seed: {error}")
        if problems:
            raise ValueError("experiment: " + "; ".join(problems))
        for name, value in zip(
            ("upscaler", "precision"), upscalers.at_precision(self.upscaler, self.precision), strict=True
        ):
            object.__setattr__(self, name, value)  # frozen
        heats = [each.heat for each in upscalers.stages(self.upscaler, self.scale, self.heat)]
        object.__setattr__(self, "heat", heats[0] if len(set(heats)) == 1 else "+".join(map(repr, heats)))

    @property
    def source(self) -> str:
        """The data set without the name that the user gave it: what `datasets.load` takes."""
        return self.dataset if isinstance(self.dataset, str) else self.dataset[1]

    @property
    def dataset_name(self) -> str:
        """What rows call the data set: its last name; the library with its size, generated faces with a hash."""
        if not isinstance(self.dataset, str):
            return self.dataset[0]
        if self.dataset == "library":
            return f"library{self.size}"
        if self.dataset == "generated":  # another generator makes other images of the same name
            return f"generated@{upscalers.weights_hash('embedded_pulse', self.scale)[:8]}"
        path = Path(self.dataset)
        return path.stem if path.suffix == ".csv" else path.resolve().name

    @property
    def specs(self) -> dict[str, str]:
        """Name of each downscaler in the rows -> what `adapters.resolve` takes."""
        return dict((row_name(spec), spec) if isinstance(spec, str) else spec for spec in self.downscalers)

    @property
    def metrics(self) -> list[str]:
        """The distortions of the rows, each in its lower-is-better form."""
        names = [self.distortion] if isinstance(self.distortion, str) else self.distortion
        return list(dict.fromkeys(map(distortions.as_distortion, names)))

    def keys(self) -> list[tuple]:
        """The key of every row, values in the order of `results.KEY`."""
        how = self.upscaler, self.heat, self.seed
        dataset, names, metrics = self.dataset_name, list(self.specs), self.metrics
        return [
            (dataset, image, name, self.scale, damage, level, self.where if damage else "", *how, sample, metric)
            for image in self.images
            for name in names
            for damage, level in self.degradations
            for sample in range(self.n_samples)
            for metric in metrics
        ]


def row_name(spec: str) -> str:
    """What rows call a downscaler: a user's function with the hash of its file, so that edited code makes new rows."""
    if not is_function(spec):
        return spec
    where, _, function = spec.rpartition(":")
    return f"{function}@{_hash(where) if where.endswith('.py') else _module_hash(where)}"


def is_function(spec: str) -> bool:
    """Whether a downscaler is a reader's function, "module:function" or "file.py:function"."""
    where, _, function = spec.rpartition(":")
    return bool(where) and function.isidentifier() and where.split(":")[0] not in ("command", "folder")


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
