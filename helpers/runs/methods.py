"""f_us and D of a run: ours by name, or a reader's own function in a file, loaded and checked as downscalers are.

`upscale(lr, generators) -> sr` gets one LR image, (1, 3, h, w) in [0, 1] on the CPU, and Q generators, and returns Q
samples, (Q, 3, s h, s w): sample q depends on `lr` and `generators[q]` alone. `distance(sr, hr) -> (Q,)` gets Q SR
images and one HR image, on the CPU, and returns less for a nearer one. Rows call them by name and a hash of the file,
so edited code makes new rows; a checkpoint or a module that the file loads is not in that hash.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from helpers import distortions, upscalers
from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize
from helpers.measure import score_lr
from helpers.runs import apart
from helpers.runs.experiment import SPANDREL, Experiment, is_function, own_upscaler, row_name, upscaler_name
from helpers.runtime import seeded
from helpers.upscalers import by_spandrel

NEAR = 1e-3  # mean difference of a sample drawn alone from the same one drawn in a batch: convolutions round otherwise


def upscaler(name: str, *, scale: int, heat: float | str, device: str = "cpu") -> Callable:
    """f_us as `upscalers.build` returns it, by a name as `Experiment` has it.

    Raises:
        ValueError: as `upscalers.build`; or the reader's function is not there, or takes other arguments.
    """
    own = own_upscaler(name)
    if own is None:
        return upscalers.build(name, scale=scale, heat=heat, device=device)
    if name.startswith(SPANDREL):
        return by_spandrel.upscaler(name.removeprefix(SPANDREL).strip(), scale=scale, device=device)
    _load(own[0], "upscaler", "(lr, generators)")

    def upscale(lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
        generators = [generators] if isinstance(generators, Generator) else list(generators)
        return _load(own[0], "upscaler", "(lr, generators)")(lr, generators)

    upscale.__name__ = own[0]
    return upscale


def is_search(name: str) -> bool:
    """`upscalers.is_search`; a reader's own f_us is none."""
    return own_upscaler(name) is None and upscalers.is_search(name)


def weights_hash(name: str, scale: int) -> str:
    """`upscalers.weights_hash` of f_us; of a reader's own the hash of its code."""
    return upscaler_name(name).rpartition("@")[2] if own_upscaler(name) else upscalers.weights_hash(name, scale)


def are_here(name: str, scale: int) -> bool:
    """`upscalers.are_here`; a reader's own f_us says itself what it lacks."""
    return own_upscaler(name) is not None or upscalers.are_here(name, scale)


def describe(name: str) -> str:
    """`distortions.describe`, of one as `Experiment.distances` has it."""
    return f"{row_name(name)}: a function of the reader's" if is_function(name) else distortions.describe(name)


def against(name: str, hr: Tensor, lr: Tensor | None = None, **how) -> Callable[[Tensor], Tensor]:
    """`distortions.against`, of one as `Experiment.distances` has it; it computes a reader's own on the CPU."""
    if not is_function(name):
        return distortions.against(name, hr, lr, **how)
    function = _load(name, "distortion", "(sr, hr)")

    def distortion(sr: Tensor) -> Tensor:
        values = function(sr.cpu().clone(), hr.cpu().clone())
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        if got != (len(sr),):
            raise ValueError(
                f"distortion {name!r}: expected a tensor with a value for each SR image, shape ({len(sr)},), got {got}"
            )
        if values.is_complex() or not values.isfinite().all():
            raise ValueError(f"distortion {name!r}: expected finite real numbers, got {values.tolist()}")
        return values.detach().to(hr.device)

    return distortion


def check(experiment: Experiment, load: Callable[[], Tensor]) -> None:
    """Hold a reader's own f_us and D against what they promise, on one image; ours pass.

    f_us draws six samples of the bicubic LR image. Equal generators have to give equal samples, others other ones, and
    a sample has to be the same alone and in a batch. With "(stochastic=false)" all samples are equal.

    Args:
        experiment: names them.
        load: called for an HR image, (1, 3, H, W), sides multiples of s, where there is something to check.

    Raises:
        ValueError: says which promise is broken, with the values, and what to do.
    """
    names, own = list(filter(is_function, experiment.distances.values())), own_upscaler(experiment.upscaler)
    hr = load() if names or own else None
    for name in names:
        _check_distortion(name, hr)
    if own:
        upscale = upscaler(experiment.upscaler, scale=experiment.scale, heat=experiment.heat)
        _check_upscaler(upscale, *own, quantize(DOWNSCALERS["bicubic"](hr, experiment.scale)), hr)


def _check_distortion(name: str, hr: Tensor) -> None:
    distance, noise = against(name, hr), torch.rand(hr.shape, generator=seeded("noise that no image is")).to(hr)
    both = torch.cat([hr, noise])
    values, again = distance(both), distance(both)
    if not torch.equal(values, again):
        _refuse("distortion", name, "the same value at each call", f"{values.tolist()}, then {again.tolist()}")
    same, far = values.tolist()
    if not same < far:
        help = "return the negative, or 1 - it, where more is better; a constant ranks nothing"
        _refuse("distortion", name, "less for the image itself than for noise", f"{same:g} and {far:g}", help)
    alone = distance(noise)
    if not torch.allclose(alone, values[1:], rtol=1e-4):
        _refuse("distortion", name, "one value an SR image, whatever stands beside it", f"{alone.item():g} and {far:g}")


def _check_upscaler(upscale: Callable, spec: str, stochastic: bool, lr: Tensor, hr: Tensor) -> None:
    def draw(*numbers: int) -> Tensor:
        drawn = []

        def noted(lr: Tensor, _: object) -> Tensor:
            drawn.append(upscale(lr, [seeded("check", each) for each in numbers]))
            return drawn[0]

        noted.__name__ = spec
        score_lr(hr, lr, noted, distortions.mse, n_samples=len(numbers))  # refuses what is no SR image
        if not drawn[0].isfinite().all():
            _refuse("upscaler", spec, "finite values", f"{(~drawn[0].isfinite()).sum().item()} that are not")
        return drawn[0]

    def differ(one: Tensor, other: Tensor) -> float:
        return (one.float() - other.float()).abs().mean().item()

    alone, other, again = draw(0), draw(1), draw(0)
    if not torch.equal(alone, again):
        help = "draw everything with generator=generators[q], nothing from the global generators"
        got = f"two that differ by {differ(alone, again):g} in the mean"
        _refuse("upscaler", spec, "one SR image of one generator", got, help)
    if torch.equal(alone, other) == stochastic:
        if not stochastic:
            help = f"without (stochastic=false), {spec!r} is drawn N_Q times"
            _refuse("upscaler", spec, "one SR image whatever the generator is", "two", help)
        help = f"use them, or, where f_us is deterministic, say {spec}(stochastic=false): it is drawn once then"
        _refuse("upscaler", spec, "two SR images of two generators", "one twice", help)
    if stochastic and max(far := [differ(*pair) for pair in zip(draw(0, 1), (alone[0], other[0]), strict=True)]) > NEAR:
        help = "sample q may depend on generators[q] alone, not on its place or its companions"
        got = f"samples that differ by {max(far):g} in the mean from those drawn alone"
        _refuse("upscaler", spec, "the same samples in a batch", got, help)


def _refuse(kind: str, name: str, expected: str, got: str, help: str = "") -> None:
    raise ValueError(f"{kind} {name!r}: expected {expected}, got {got}" + (f"; {help}" if help else ""))


def _load(spec: str, kind: str, arguments: str) -> Callable:
    """A reader's function, anew where its code has changed; what is wrong is said of a `kind`, not of a downscaler."""
    try:
        return apart.resolve(spec)
    except (ValueError, RuntimeError) as error:
        said = str(error).replace("downscaler ", f"{kind} ", 1).replace("(hr, scale)", arguments)
        raise type(error)(said) from error
