"""The experiment: what is computed, in plain values that any process understands, and the keys of its rows."""

import hashlib
import importlib.util
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from helpers import degradations, distortions, upscalers
from helpers.datasets import SETS
from helpers.downscalers import DOWNSCALERS
from helpers.rescalers.registry import RESCALERS
from helpers.runs import kinds
from helpers.runs.user_files import SUFFIXES, spelled

COMMAND, SEED = "command:", "{seed}"  # before the arguments of a program; what makes one draw
SPANDREL = "spandrel:"  # before the path of a checkpoint that `upscalers.by_spandrel` reads
STILL = "(stochastic=false)"  # after the name of a reader's own f_us that draws nothing

adopted: dict[str, str] = {}  # name in the rows -> specification of a reader's own f_us or D, see `methods.adopt`


@dataclass(frozen=True)
class Experiment:
    """What is computed; it names images and methods and holds no tensor.

    Paths become texts, and numbers of NumPy plain ones.

    Args:
        dataset: X, as `datasets.load` takes it: "photographs", "generated", "portrait", a folder, or a manifest (.csv).
            Rows call it `dataset_name`; a pair (name, one of these) gives another name.
        images: names of the images in it.
        downscalers: f_ds, each as `adapters.resolve` takes it. Rows call a user's function by its name and a hash of
            its code; a pair (name, one of these) gives another name. A user's file is kept in one spelling, see
            `user_files.spelled`.
        scale: s.
        upscaler: f_us, as `upscalers.stages` takes it; kept as `upscalers.normalise` writes it. Or a reader's own,
            "file.py:function" or "module:function", see `runs.methods`, with "(stochastic=false)" behind it where it is
            deterministic; rows call it by its name and a hash of its file. Or "spandrel: path", a checkpoint of a
            deterministic network that spandrel knows. A pair (name, one of these two) gives another name, before the
            hash. A rescaler's name is its own decoder, which reads any LR image and expects that of its downscaler.
        heat: standard deviation of the latents, as `upscalers.stages` takes it; None is the upscaler's own: 1.0 of a
            flow or search, 0.0 of what draws nothing. Kept in one spelling: a number, or several that differ joined by
            "+", "1.0+0.1".
        n_samples: N_Q, draws per image; becomes 1 where the heat is 0, because all draws are the same image then.
        seed: first part of every random key.
        distortion: D, or several that look at the same draws (names as in `distortions.against`); a metric of which
            more is better is taken in its lower-is-better form. Or a reader's own, "file.py:function", as f_us; in a
            list also a pair (name, "file.py:function").
        degradations: pairs (name, level), each applied by itself; ("", None) is none.
        where: the degradation comes "after" the downscaler or "before" it.
        device: as `runtime.pick_device` takes it.
        size: side of the crops of photographs in pixels.
        precision: "float32", or "bf16", which is faster where the processor has units for it (see
            `upscalers.embedded_flow`); "" is what the upscaler's name says, else float32. Kept as a part of that name,
            "embedded_flow(precision=bf16)", which all its rows carry: they are others than those in float32. D is
            always computed in float32.

    Raises:
        ValueError: lists every field that is of the wrong kind or cannot be computed, with its value and what it takes;
            only names are checked, no image is read.
    """

    dataset: str | tuple[str, str]
    images: Sequence[str]
    downscalers: Sequence[str | tuple[str, str]]
    scale: int
    upscaler: str | tuple[str, str]
    heat: float | str | None = None
    n_samples: int = 5
    seed: int = 0
    distortion: str | Sequence[str | tuple[str, str]] = "lpips"
    degradations: Sequence[tuple[str, float | None]] = (("", None),)
    where: str = "after"
    device: str = "auto"
    size: int = 256
    precision: str = ""

    def __post_init__(self):
        right, problems = kinds.read(self)
        for name in {"upscaler", "distortion"} & right.keys():
            value = right[name]
            known = [adopted.get(each, each) if isinstance(each, str) else each for each in value]
            right[name] = adopted.get(value, value) if isinstance(value, str) else type(value)(known)
        for name, value in right.items():
            object.__setattr__(self, name, value)  # frozen
        for name, needs, check in (
            ("upscaler", {"upscaler", "scale", "heat"}, self._heats),
            ("distortion", {"distortion"}, self._one_a_name),
            ("precision", {"upscaler", "precision"}, self._at_precision),
        ):
            try:
                check() if needs <= right.keys() else None
            except ValueError as error:
                field, _, said = str(error).partition(": ")
                problems[field if field in kinds.KINDS else name].append(said if field in kinds.KINDS else str(error))
        if right.get("where", "after") not in ("after", "before"):
            problems["where"].append(f"expected one of after, before, got {self.where!r}")
        for name, level in right.get("degradations", ()):
            if name and name not in degradations.DEGRADATIONS:
                known = ", ".join(degradations.DEGRADATIONS)
                problems["degradation"].append(f"expected one of {known}, got {name!r}")
            if (level is None) == bool(name):
                wanted = "a number" if name else None
                problems[f"level of {name!r}"].append(f"expected {wanted}, got {level!r}")
        for name in {"images", "downscalers", "degradations", "distortion"} & right.keys():
            values = [right[name]] if isinstance(right[name], str) else right[name]
            if name == "downscalers":
                values = [each if isinstance(each, str) else each[0] for each in values]
            if twice := [str(value) for value, n in Counter(values).items() if n > 1]:
                problems[name].append(f"expected each once, got more of {', '.join(twice)}")
        named = [(row_name(each), each) if isinstance(each, str) else each for each in right.get("downscalers", ())]
        for k, (name, spec) in enumerate(named):
            if others := {other for own, other in named[:k] if own == name} - {spec}:
                same = ", ".join(map(repr, [*others, spec]))
                why = f"rows would call {same} all {name!r}; name one by a pair, ('mine', spec)"
                problems["downscalers"].append(why)
            if name in {*DOWNSCALERS, *RESCALERS} and spec != name:
                problems["downscalers"].append(f"expected another name than {name!r}, which is ours, for {spec!r}")
        if problems:
            order = sorted(problems, key=[*kinds.KINDS, *problems].index)
            raise ValueError("experiment: " + "; ".join(f"{name}: {why}" for name in order for why in problems[name]))
        upscaler, precision = self._at_precision()
        object.__setattr__(self, "upscaler", _named(lambda spec: upscaler, self.upscaler))
        object.__setattr__(self, "precision", precision)
        heats = self._heats()
        object.__setattr__(self, "heat", heats[0] if len(set(heats)) == 1 else "+".join(map(repr, heats)))
        names = [_named(lambda spec: spelled(spec) if is_function(spec) else spec, each) for each in self._distortions]
        object.__setattr__(self, "distortion", names[0] if isinstance(self.distortion, str) else names)
        if not any(heats):
            object.__setattr__(self, "n_samples", 1)

    def _heats(self) -> list[float]:
        """The heat of each stage of f_us; of a reader's own 1, or 0 where it is deterministic."""
        own = own_upscaler(self.f_us)
        if not isinstance(self.upscaler, str) and (own is None or not self.upscaler[0].isidentifier()):
            wanted = "a pair of a plain name and a function or checkpoint of your own"
            raise ValueError(f"upscaler: expected {wanted}, got {self.upscaler!r}")
        if own is None:
            return [each.heat for each in upscalers.stages(self.f_us, self.scale, self.heat)]
        heat, why = (1.0, "its noise is its own") if own[1] else (0.0, "it has no noise")
        if self.heat not in (None, heat):
            raise ValueError(f"heat: expected {heat} for {self.f_us!r}, {why}, got {self.heat!r}")
        return [heat]

    def _at_precision(self) -> tuple[str, str]:
        """`upscalers.at_precision` of f_us; a reader's own is called in float32."""
        name = self.f_us
        if own_upscaler(name) is None:
            return upscalers.at_precision(name, self.precision)
        if self.precision not in ("", "float32"):
            raise ValueError(f"precision: expected float32 for {name!r}, got {self.precision!r}")
        if name.startswith(SPANDREL):
            return f"{SPANDREL} {Path(name.removeprefix(SPANDREL).strip()).expanduser().resolve()}", "float32"
        if name.startswith(COMMAND):
            return f"{COMMAND} {name.removeprefix(COMMAND).strip()}", "float32"
        spec = name.removesuffix(STILL)
        return spelled(spec) + name[len(spec) :], "float32"

    def _one_a_name(self) -> None:
        """Refuse distortions that rows would call by one name, and pairs that name none of the reader's own."""
        found: dict[str, str] = {}
        for each in self._distortions:
            if not isinstance(each, str) and not (each[0].isidentifier() and is_function(each[1])):
                raise ValueError(f"expected a pair of a plain name and a function of your own, got {each!r}")
            ((name, spec),) = _distance(each).items()
            if (other := found.setdefault(name, spec)) != spec:
                why = f"rows would call {other!r} and {spec!r} both {name!r}"
                raise ValueError(f"{why}; name one by a pair, ('mine', {spec!r})")

    @property
    def _distortions(self) -> list[str | tuple[str, str]]:
        return [self.distortion] if isinstance(self.distortion, str) else self.distortion

    @property
    def f_us(self) -> str:
        """The upscaler without the name that the user gave it."""
        return self.upscaler if isinstance(self.upscaler, str) else self.upscaler[1]

    @property
    def source(self) -> str:
        """The data set without the name that the user gave it: what `datasets.load` takes."""
        return self.dataset if isinstance(self.dataset, str) else self.dataset[1]

    @property
    def dataset_name(self) -> str:
        """What rows call the data set: its last name; crops with their size, generated faces with a hash."""
        if not isinstance(self.dataset, str):
            return self.dataset[0]
        if self.dataset in SETS:
            return f"{self.dataset}{self.size}"
        if self.dataset == "generated":  # another generator makes other images of the same name
            return f"generated@{upscalers.weights_hash('embedded_pulse', self.scale)[:8]}"
        path = Path(self.dataset)
        return path.stem if path.suffix == ".csv" else path.resolve().name

    @property
    def specs(self) -> dict[str, str]:
        """Name of each downscaler in the rows -> what `adapters.resolve` takes."""
        return dict((row_name(spec), spec) if isinstance(spec, str) else spec for spec in self.downscalers)

    @property
    def upscaler_name(self) -> str:
        """What rows call f_us."""
        name = upscaler_name(self.f_us)
        if isinstance(self.upscaler, str):
            return name
        own = hashlib.sha256(name.encode()).hexdigest()[:8] if name.startswith(COMMAND) else name.rpartition("@")[2]
        return f"{self.upscaler[0]}@{own}"

    @property
    def distances(self) -> dict[str, str]:
        """Name of each distortion in the rows -> the name of ours in its lower-is-better form, or a reader's own."""
        return {name: spec for each in self._distortions for name, spec in _distance(each).items()}

    @property
    def metrics(self) -> list[str]:
        """The distortions of the rows, see `distances`."""
        return list(self.distances)

    def keys(self) -> list[tuple]:
        """The key of every row, values in the order of `results.KEY`."""
        how = self.upscaler_name, self.heat, self.seed
        dataset, names, metrics = self.dataset_name, list(self.specs), self.metrics
        return [
            (dataset, image, name, self.scale, damage, level, self.where if damage else "", *how, sample, metric)
            for image in self.images
            for name in names
            for damage, level in self.degradations
            for sample in range(self.n_samples)
            for metric in metrics
        ]


def _named(change: Callable[[str], str], each: str | tuple[str, str]) -> str | tuple[str, str]:
    """A specification changed, with or without the name that the user gave it."""
    return change(each) if isinstance(each, str) else (each[0], change(each[1]))


def _distance(each: str | tuple[str, str]) -> dict[str, str]:
    """A distortion under its name in the rows; a reader's own keeps the hash behind the name that a pair gives it."""
    spec = each if isinstance(each, str) else each[1]
    if not is_function(spec):
        return {distortions.as_distortion(spec): distortions.as_distortion(spec)}
    spec = spelled(spec)
    name = row_name(spec)
    return {name if isinstance(each, str) else f"{each[0]}@{name.rpartition('@')[2]}": spec}


def own_upscaler(name: str) -> tuple[str, bool] | None:
    """Specification of a reader's own f_us, and whether it is stochastic; None where it is one of `UPSCALERS`."""
    if name.startswith(SPANDREL):
        return name, False
    if name.startswith(COMMAND):
        return name, SEED in name
    spec = name.removesuffix(STILL)
    return (spec, spec == name) if is_function(spec) else None


def upscaler_name(name: str) -> str:
    """What rows call an f_us: ours by its name, a reader's function or checkpoint with the hash of its file."""
    if name.startswith(SPANDREL):
        path = name.removeprefix(SPANDREL).strip()
        return f"{Path(path).stem}@{_hash(path)}"
    if name.startswith(COMMAND):
        return name
    own = own_upscaler(name)
    return row_name(own[0]) if own else name


def row_name(spec: str) -> str:
    """What rows call a downscaler: a user's function with the hash of its file, so that edited code makes new rows."""
    if not is_function(spec):
        return spec
    where, _, function = spelled(spec).rpartition(":")
    return f"{function}@{_hash(where) if where.endswith(SUFFIXES) else _module_hash(where)}"


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
    except (ImportError, ValueError):  # of a package above it, or it is no module; `adapters.resolve` says so
        found = None
    return _hash(found.origin if found and found.origin else "")
