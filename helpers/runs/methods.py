"""f_us and D of a run: ours by name, or a reader's own function or program, loaded and checked as downscalers are.

`upscale(lr, generators) -> sr` gets one LR image, (1, 3, h, w) in [0, 1] on the CPU, and Q generators, and returns Q
samples, (Q, 3, s h, s w): sample q depends on `lr` and `generators[q]` alone. `distance(sr, hr) -> (Q,)` gets Q SR
images and one HR image, on the CPU, and returns less for a nearer one. Rows call them by name and a hash of the file,
so edited code makes new rows. The columns `weights` and `metric` have a hash of all code that the file has read, its
neighbours too, and of what the function answers for a test chart: where a module or a checkpoint that the file loads
has changed, the rows are stale.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Generator, Tensor

from helpers import distortions, promises, upscalers
from helpers.downscalers import DOWNSCALERS
from helpers.downscalers.chart import chart
from helpers.images import quantize, to_uint8
from helpers.rescalers.registry import RESCALERS
from helpers.runs import adapters, programs
from helpers.runs.experiment import (
    COMMAND,
    SPANDREL,
    STILL,
    Experiment,
    adopted,
    is_function,
    own_upscaler,
    row_name,
    upscaler_name,
)
from helpers.runs.user_files import spelled
from helpers.runtime import one_thread, pick_device, seeded
from helpers.upscalers import by_spandrel

PROBES = {"upscaler": (32, 64), "distortion": (192, 256)}  # sides of a test image, the larger where one is refused


def upscaler(name: str, *, scale: int, heat: float | str, device: str = "cpu") -> Callable:
    """f_us as `upscalers.build` returns it, by a name as `Experiment` has it.

    Raises:
        ValueError: as `upscalers.build`; or the reader's function is not there, or takes other arguments.
    """
    own = own_upscaler(name)
    if own is None:
        return upscalers.build(name, scale=scale, heat=heat, device=device)
    if name.startswith(COMMAND):
        return programs.upscaler(name, scale=scale)
    if name.startswith(SPANDREL):
        return by_spandrel.upscaler(name.removeprefix(SPANDREL).strip(), scale=scale, device=device)
    _load(own[0], "upscaler")

    def upscale(lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
        generators = [generators] if isinstance(generators, Generator) else list(generators)
        return _load(own[0], "upscaler").function(lr, generators)

    upscale.__name__ = own[0]
    return upscale


def rescaler(name: str) -> tuple[str, str]:
    """The downscaler and the upscaler of a pair, each as `Experiment` takes it.

    Args:
        name: a key of `RESCALERS`; or a reader's own pair, "file.py:downscale,upscale" or "module:downscale,upscale",
            with "(stochastic=false)" behind it where the upscaler draws nothing.

    Raises:
        ValueError: neither; or a function is not there, or takes other arguments.
    """
    if name in RESCALERS:
        return name, name
    where, colon, functions = name.removesuffix(STILL).rpartition(":")
    parts = functions.split(",")
    if not colon or len(parts) != 2:
        known = ", ".join(RESCALERS)
        raise ValueError(f"rescaler: expected one of {known}, or 'my_file.py:downscale,upscale', got {name!r}")
    found = [spelled(f"{where}:{part.strip()}") for part in parts]
    for spec, kind in zip(found, ("downscaler", "upscaler"), strict=True):
        adapters.load(spec, kind)
    return found[0], found[1] + (STILL if name.endswith(STILL) else "")


def is_search(name: str) -> bool:
    """`upscalers.is_search`; a reader's own f_us is none."""
    return own_upscaler(name) is None and upscalers.is_search(name)


def weights_hash(name: str, scale: int, device: str = "cpu") -> str:
    """`upscalers.weights_hash` of f_us; of a reader's own a hash of its code and of its answer to a test image.

    Args:
        name, scale: as `upscaler`.
        device: where a reader's own is asked, if it computes there.
    """
    if (own := own_upscaler(name)) is None:
        return upscalers.weights_hash(name, scale)
    if name.startswith(COMMAND):
        return _proof_of_program(name, scale)
    return upscaler_name(name).rpartition("@")[2] if name.startswith(SPANDREL) else _proof(own[0], "upscaler", device)


def are_here(name: str, scale: int) -> bool:
    """`upscalers.are_here`; a reader's own f_us says itself what it lacks."""
    return own_upscaler(name) is not None or upscalers.are_here(name, scale)


def describe(name: str) -> str:
    """`distortions.describe`, of one as `Experiment.distances` has it; of a reader's own as in `weights_hash`."""
    if not is_function(name):
        return distortions.describe(name)
    return f"{row_name(name)}: a function of the reader's, {_proof(name, 'distortion')}"


def against(name: str, hr: Tensor, lr: Tensor | None = None, **how) -> Callable[[Tensor], Tensor]:
    """`distortions.against`, of one as `Experiment.distances` has it; it computes a reader's own on the CPU."""
    if not is_function(name):
        return distortions.against(name, hr, lr, **how)
    function = _load(name, "distortion").function

    def distortion(sr: Tensor) -> Tensor:
        return promises.distances(function, name, sr.cpu(), hr.cpu()).to(hr.device)

    return distortion


def check(experiment: Experiment, load: Callable[[], Tensor]) -> None:
    """Hold a reader's own f_us and D against what they promise, on one image; ours pass.

    f_us draws five samples of the bicubic LR image. Equal generators have to give equal samples, others other ones, and
    a sample has to be the same alone and in a batch. With "(stochastic=false)" all samples are equal.

    Args:
        experiment: names them.
        load: called for an HR image, (1, 3, H, W), sides multiples of s, where there is something to check.

    Raises:
        ValueError: says which promise is broken, with the values, and what to do.
    """
    names, own = list(filter(is_function, experiment.distances.values())), own_upscaler(experiment.f_us)
    hr = load() if names or own else None
    for name in names:
        promises.check_distortion(_load(name, "distortion").function, name, hr.cpu())
    if own:
        how = {"scale": experiment.scale, "heat": experiment.heat, "device": experiment.device}
        lr = quantize(DOWNSCALERS["bicubic"](hr, experiment.scale))
        promises.check_upscaler(upscaler(experiment.f_us, **how), own[0], hr, lr, own[1])


def remarks(experiment: Experiment, load: Callable[[], Tensor]) -> list[str]:
    """`promises.remark_on_upscaler` of a reader's own f_us; arguments as `check`."""
    own = own_upscaler(experiment.f_us)
    if own is None or experiment.f_us.startswith((SPANDREL, COMMAND)):
        return []
    how = {"scale": experiment.scale, "heat": experiment.heat, "device": experiment.device}
    lr = quantize(DOWNSCALERS["bicubic"](load(), experiment.scale))
    return list(filter(None, [promises.remark_on_upscaler(upscaler(experiment.f_us, **how), own[0], lr)]))


def adopt(spec: str, kind: str) -> str:
    """Enter a reader's own f_us or D in our tables, for this process, under the name that rows have.

    A notebook then has one name for it: for `upscalers.build`, for `distortions.against`, and for an experiment.

    Args:
        spec: as `Experiment` takes it.
        kind: "upscaler" or "distortion".

    Returns:
        The name.

    Raises:
        ValueError: the function is not there, or takes other arguments.
    """
    if kind == "distortion":
        spec = spelled(spec)
        name, function = row_name(spec), _load(spec, kind).function
        distortions.DISTORTIONS[name] = lambda sr, hr: promises.distances(function, spec, sr, hr).to(hr.device)
        distortions.MINIMUM_SIDE[name], distortions.LOWER_IS_BETTER[name] = 1, True
    else:
        own, stochastic = own_upscaler(spec)
        if not spec.startswith((SPANDREL, COMMAND)):
            spec = spelled(own) + spec[len(own) :]
            _load(spelled(own), kind)
        name = upscaler_name(spec)
        record = upscalers.registry.Upscaler(partial(upscaler, spec), heat=1.0 if stochastic else 0.0)
        upscalers.UPSCALERS[name] = record
    adopted[name] = spec
    return name


def begin() -> None:
    """Load the reader's own functions anew when they are asked for."""
    for each in (_load, _proof, _proof_of_program):
        each.cache_clear()


@cache
def _load(spec: str, kind: str) -> adapters.Own:
    return adapters.load(spec, kind, alone=True)


@cache
def _proof(spec: str, kind: str, device: str = "cpu") -> str:
    """12 hex digits of the code that a function has read, and of what it answers a test image, float by float.

    On another kind of machine floats are others, as in the rows.
    """
    own, answer = _load(spec, kind), ""
    with one_thread(), torch.no_grad():
        for side in PROBES[kind]:
            try:
                answer = _answer(own, side, device)
                break
            except (OSError, MemoryError):  # these may pass, and say nothing of the function
                raise
            except Exception as error:  # it takes no such image, which is an answer too
                answer = type(error).__name__
    found = repr((adapters.code_of(own), answer)).encode()
    return hashlib.blake2b(found, digest_size=6).hexdigest()


@cache
def _proof_of_program(spec: str, scale: int) -> str:
    """12 hex digits of the files that a program's arguments name, and of its draw of a test image.

    What those files read in their turn is known by that draw alone.
    """
    lr = chart(1)[..., : PROBES["upscaler"][1], : PROBES["upscaler"][1]]
    sr = programs.upscaler(spec, scale=scale)(lr, [seeded("probe")])
    found = repr((programs.hash_of(spec), to_uint8(sr).numpy().tobytes())).encode()
    return hashlib.blake2b(found, digest_size=6).hexdigest()


def _answer(own: adapters.Own, side: int, device: str) -> object:
    """What a function returns for the noise of the test chart: an SR image, or distances of three changed images."""
    if own.kind == "upscaler":
        found = own.function(chart(1)[..., :side, :side].to(pick_device(device)), [seeded("probe")])
    else:
        hr = chart(6)[..., :side, :side]
        found = own.function(torch.cat([hr.roll(1, 3), 1 - hr, quantize(0.9 * hr + 0.05)]), hr.clone())
    if not isinstance(found, Tensor):
        return type(found).__name__
    return tuple(found.shape), str(found.dtype), found.detach().cpu().double().numpy().tobytes()
