"""What functions of a user promise, held against what they return: f_ds, f_us and D, by whichever door they come.

The doors are `measure.ida_rd`, `measure.score_image` and `runs`. A user's functions work on copies, in float32 whatever
the caller has switched on, and what they set for the process is put back.
"""

import contextlib
import inspect
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.images import check_hr
from helpers.process_state import put_back
from helpers.runtime import full_precision, on_cpu, seeded, shielded

HALF_A_LEVEL = 0.5 / 255  # further outside [0, 1] a value is clipped; nearer it is rounded to 0 or 255 anyway
WARN, STOP = 0.01, 0.2  # shares of clipped values, for `check_downscaler`
NEAR = 1e-3  # mean difference of a sample drawn alone from the same one drawn in a batch: convolutions round otherwise
OURS = __name__.partition(".")[0]
_passed: weakref.WeakSet = weakref.WeakSet()  # f_us that have kept what they promise


def is_ours(function: Callable) -> bool:
    """Whether a function is one of this package, which its tests hold to what it promises."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__module__", "")).partition(".")[0] == OURS


def keeping(function: Callable) -> contextlib.AbstractContextManager:
    """Put back behind a call what a user's function sets for the process; of a user's file `runs` does so itself."""
    done = is_ours(function) or getattr(function, "puts_back", False)
    return contextlib.nullcontext() if done else put_back({})


class Checked(NamedTuple):
    """One call of a downscaler that passed its checks."""

    lr: Tensor  # as returned, (N, 3, H / s, W / s), neither clipped nor rounded
    clipped: float  # share of its values that an 8-bit file would clip: beyond [0, 1] by more than half a level
    deterministic: bool | None  # whether a second call gave the same values; None: not asked
    remark: str = ""  # a warning for the user, if more than 1 % are clipped


@shielded()
def check_downscaler(
    f: Callable,
    name: str,
    hr: Tensor,
    scale: int | None = None,
    *,
    image: str = "",
    twice: bool = False,
    overshoots: bool = False,
) -> Checked:
    """Call a downscaler on a copy of `hr`, without gradients or autocast, and refuse what is no LR image.

    Filters with negative lobes overshoot at edges if nobody rounds them: `bicubic_float` at x4 leaves [0, 1] in 0.2 to
    1.0 % of the values of photographs (Kodak, the library, Urban100), in 9.3 % of the worst one; in 1.2 % of a page of
    text, in 29 % of a checkerboard. So above 1 % there is a warning, and above 20 % an error.

    Args:
        f: f_ds, called as `f(hr, scale)`; as `f(hr)` if `scale` is None. It gets images on the CPU, wherever `hr` is,
            unless its attribute `device` is true.
        name: what errors and rows call it.
        hr: HR images in [0, 1], shape (N, 3, H, W), H and W multiples of `scale`.
        scale: scaling factor s; None takes the one that the result has.
        image: name of the image, for errors and for a folder of LR images.
        twice: call it again and compare.
        overshoots: it is known to, as some of `DOWNSCALERS` do: count what is clipped, and say nothing.

    Returns:
        The LR images, the share of their values that is clipped, whether the second call agreed, and the warning.

    Raises:
        ValueError: `hr` is no such batch; `f` takes other arguments; or the result is no tensor, or has another shape,
            dtype or device, a value that is not finite, or too many values outside [0, 1].
    """
    check_hr(hr, 1 if scale is None else scale)
    arguments, options = () if scale is None else (scale,), {"name": image} if getattr(f, "needs_name", False) else {}
    if not options:  # the reader's own
        help = "" if arguments else "hand over lambda hr: mine(hr, 4), with your function and scale"
        check_arguments(f"downscaler {name!r}", f, ("hr", "scale")[: 1 + len(arguments)], help)
    f, own = on_cpu(f), f

    @torch.no_grad()
    def call() -> object:
        with full_precision(hr.device), keeping(own):
            return f(hr.clone(), *arguments, **options)

    lr = call()
    _check_lr(lr, hr, scale, f"downscaler {name!r}, image {image!r}")
    lr = lr.detach().clone()  # it may be a buffer that the next call fills again
    clipped = ((lr < -HALF_A_LEVEL) | (lr > 1 + HALF_A_LEVEL)).sum().item() / lr.numel()
    remark = ""
    if clipped > WARN and not overshoots:
        expected = f"downscaler {name!r}, image {image!r}: expected values in [0, 1] up to some overshoot"
        low, high = (value.item() for value in lr.aminmax())
        remark = f"{expected}, got {clipped:.1%} of the values outside, range [{low:g}, {high:g}]" + _form(lr, hr)
        if clipped > STOP:
            raise ValueError(f"{remark}; up to {STOP:.0%} are clipped, return lr.clamp(0, 1) if all this is meant")
        remark += "; they are clipped, as in an 8-bit file"
    if not twice:
        return Checked(lr, clipped, None, remark)
    again = call()
    return Checked(lr, clipped, isinstance(again, Tensor) and torch.equal(lr, again), remark)


def _check_lr(lr: object, hr: Tensor, scale: int | None, who: str) -> None:
    """Refuse what is no finite LR batch of `hr`, and say how it becomes one."""

    def refuse(expected: object, got: object, help: str = "") -> None:
        raise ValueError(f"{who}: expected {expected}, got {got}" + (f"; {help}" if help else ""))

    if not isinstance(lr, Tensor):
        array = type(lr).__module__ == "numpy"
        refuse("a torch.Tensor", type(lr).__name__, "return torch.from_numpy(lr)" if array else "")
    n, _, height, width = hr.shape
    if scale is None:
        fits = lr.ndim == 4 and lr.shape[:2] == (n, 3) and 0 not in lr.shape and height % lr.shape[2] == 0
        fits = fits and width % lr.shape[3] == 0 and height // lr.shape[2] == width // lr.shape[3]
        shape = f"({n}, 3, {height} / s, {width} / s) with a whole s"
    else:
        shape = (n, 3, height // scale, width // scale)
        fits = lr.shape == shape
    if not fits:
        swapped = lr.ndim == 4 and lr.shape[3] == 3 and lr.shape[1] != 3
        help = "move the channels: lr.permute(0, 3, 1, 2)" if swapped else ""
        refuse(f"shape {shape}", tuple(lr.shape), "keep the batch: lr[None]" if lr.ndim == 3 else help)
    if lr.dtype != hr.dtype:
        help = "lr.to(hr.dtype)" if lr.is_floating_point() else "lr.to(hr.dtype), 8-bit levels divided by 255"
        refuse(f"dtype {hr.dtype}", lr.dtype, f"return {help}")
    if lr.layout != torch.strided:
        refuse("a dense tensor", lr.layout, "return lr.to_dense()")
    if lr.device != hr.device:
        refuse(f"device {hr.device}", lr.device, "return lr.to(hr.device)")
    if not lr.isfinite().all():
        refuse("finite values", f"{(~lr.isfinite()).sum().item()} values that are NaN or infinite")


def _form(images: Tensor, like: Tensor) -> str:
    """Guess in which form images are that should be like others of another size, "" where they are in [0, 1].

    An image of another form lies, pixel by pixel, near what that form makes of `like`. A wild draw of a flow lies about
    `like` itself, however far; nearer to another form it is only by chance, and never by half of the way there. Levels
    betray themselves also where nothing is alike: many are above 2, next to none below -1; a wild draw goes both ways.
    """
    low, high = (value.item() for value in images.aminmax())
    levels = "; it looks like 0..255: divide 8-bit levels by 255"
    forms = (  # that they may be, and factor and offset that lead back to [0, 1]
        (levels, low > -64 and 2 < high < 320, 1 / 255, 0),
        ("; it looks like [-1, 1]: return (x + 1) / 2", -1.3 < low < -0.05 and high < 1.3, 0.5, 0.5),
        ("; it looks like [-0.5, 0.5]: return x + 0.5", -0.7 < low < -0.05 and high < 0.7, 1, 0.5),
        ("; it looks like ImageNet's normalisation: return x * std + mean", -3 < low < -0.3 and high < 3, 0.226, 0.449),
    )
    above, below = (far.float().mean() for far in (images > 2, images < -1))
    if high < 320 and above > 0.25 and below < above / 50:
        return levels
    size = min(images.shape[2], like.shape[2]), min(images.shape[3], like.shape[3])
    images, like = (F.adaptive_avg_pool2d(each.float(), size) for each in (images, like))
    far, gaps = (images - like).abs().mean(), {}
    for form, possible, factor, offset in forms:
        expected = (like - offset) / factor
        gap = (images - expected).abs().mean()
        if possible and gap < far - (expected - like).abs().mean() / 2:
            gaps[form] = gap.item()
    return min(gaps, key=gaps.get, default="")


def named(distortion: Callable | Mapping[str, Callable]) -> Mapping[str, Callable]:
    """One D, or several, by name; ValueError: none."""
    if isinstance(distortion, Mapping) and not distortion:
        raise ValueError("distortion: expected at least one, got none")
    return distortion if isinstance(distortion, Mapping) else {name_of(distortion): distortion}


def name_of(function: Callable) -> str:
    """What errors call a function."""
    function = getattr(function, "func", function)  # of a partial
    return getattr(function, "__name__", type(function).__name__)


def check_functions(downscale: object, upscale: object, distortion: object, hr: Tensor) -> None:
    """Refuse what are no f_ds, f_us and D, before any image is scored."""
    several = named(distortion)
    for name, each in {"downscale": downscale, "upscale": upscale, **several}.items():
        if not callable(each):
            raise ValueError(f"{name}: expected a function, got {each!r}; see DOWNSCALERS, UPSCALERS, DISTORTIONS")
    made = "UPSCALERS['embedded_flow'](scale=4) makes one"
    check_arguments(f"upscale {name_of(upscale)!r}", upscale, ("lr", "generators"), made)
    for name, each in several.items():
        check_arguments(f"distortion {name!r}", each, ("sr", "hr"), "DISTORTIONS['mse'] is one")
        check_distortion(each, name, hr)


def check_arguments(who: str, function: Callable, names: Sequence[str], help: str = "") -> None:
    """Refuse a function that cannot be called with these arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function written in C has none; the first call will tell
        return
    try:
        signature.bind(*names)
    except TypeError as error:
        got = f"got one of {signature}" + (f"; {help}" if help else "")
        raise ValueError(f"{who}: expected a function of ({', '.join(names)}), {got}") from error


def check_distortion(distortion: Callable, name: str, hr: Tensor) -> None:
    """Refuse a D that is larger for `hr` itself than for noise, which no offset or gain brings nearer to it.

    Neither can one be averaged that is infinite, but for an image itself, nor one that is the same for all images, has
    another value at each call, looks at what stands beside an image, or does not look at the HR image.

    Args:
        distortion: `distortion(sr, hr)` of shape (Q,).
        name: for errors.
        hr: an HR image, (1, 3, H, W).
    """
    noise = torch.rand(hr.shape, generator=seeded("noise that no image is")).to(hr)
    both = torch.cat([hr, noise])
    values = distances(distortion, name, both, hr, infinite=True)
    same, far = values.tolist()
    if not is_ours(distortion):
        again = distances(distortion, name, both, hr, infinite=True)
        if not torch.equal(values, again):
            help = "it draws without a seed, or keeps something from call to call"
            _refuse(
                "distortion", name, "the same value at each call", f"{values.tolist()}, then {again.tolist()}", help
            )
    if same - far > 1e-6 * max(1.0, abs(far)):
        raise ValueError(
            f"distortion {name!r}: expected less for a nearer image, got {same:g} for the image itself and {far:g} for "
            "another: more is better; hand over mse in place of PSNR, lambda sr, hr: 1 - ssim(sr, hr) in place of SSIM"
        )
    if math.inf in (same, abs(far)):
        raise ValueError(
            f"distortion {name!r}: expected finite numbers, got {same:g} for the image itself and {far:g} for another"
        )
    if same == far == distances(distortion, name, 1 - hr, hr, infinite=True).item():
        raise ValueError(
            f"distortion {name!r}: expected less for a nearer image, got {same:g} for the image itself, its negative "
            "and noise: a constant ranks nothing"
        )
    if not is_ours(distortion):
        other = 1 - hr
        if not torch.equal(other, hr) and torch.equal(values, distances(distortion, name, both, other, infinite=True)):
            help = "it judges an image by itself, or keeps something of the first HR image"
            _refuse("distortion", name, "a distance to the HR image", f"{values.tolist()} whatever that is", help)
        near = distances(distortion, name, torch.cat([0.98 * hr, 0.98 * hr + 0.02]), hr, infinite=True).max().item()
        if near - far > 1e-6 * max(1.0, abs(far)):
            got = f"{near:g} for a little darker or brighter image and {far:g} for noise"
            _refuse("distortion", name, "less for a nearer image", got, "8-bit levels that are subtracted wrap around")
        alone = distances(distortion, name, noise, hr)
        if not torch.allclose(alone, values[1:], rtol=1e-4):
            got = f"{alone.item():g} alone and {far:g} beside another"
            _refuse("distortion", name, "one value an SR image, whatever stands beside it", got)


def distances(distortion: Callable, name: str, sr: Tensor, hr: Tensor, infinite: bool = False) -> Tensor:
    """D of each sample, computed without autocast or TF32, float64 on the CPU; D works on copies."""
    with full_precision(hr.device), keeping(distortion):
        values = distortion(sr.clone(), hr.clone())
    got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if got != (len(sr),):
        number = values.numel() if isinstance(values, Tensor) else np.size(values)
        help = "values.flatten()" if number == len(sr) else "reduction='none'"
        help = help if isinstance(values, Tensor) or number != len(sr) else "torch.as_tensor(values)"
        raise ValueError(
            f"distortion {name!r}: expected a tensor with one value for each SR image, shape ({len(sr)},), got {got}; "
            f"try {help}"
        )
    if not values.is_floating_point() and not values.is_complex():
        _refuse("distortion", name, "floats", values.dtype, "integers are rounded, or wrap around")
    if values.is_complex() or values.isnan().any() or (values.isinf().any() and not infinite):
        help = "; of equal images PSNR is infinite: hand over mse in its place" * bool(values.isinf().any())
        raise ValueError(f"distortion {name!r}: expected real numbers for finite images, got {values.tolist()}{help}")
    return values.detach().cpu().double()


def draw(upscale: Callable, lr: Tensor, generators: Sequence[torch.Generator]) -> object:
    """What f_us returns for a copy of an LR image, without autocast or TF32."""
    with full_precision(lr.device), keeping(upscale):
        return upscale(lr.clone(), list(generators))


def check_upscaler(upscale: Callable, name: str, hr: Tensor, lr: Tensor, stochastic: bool | None = None) -> None:
    """Hold f_us against what it promises: it draws five samples of one LR image.

    Equal generators have to give equal samples, others other ones, and a sample has to be the same alone and in a
    batch.

    Args:
        upscale: `upscale(lr, generators)`.
        name: for errors.
        hr, lr: an HR image, (1, 3, H, W), and an LR image of it.
        stochastic: whether two generators have to give two samples (or one); None: either is fine.
    """

    def samples(*numbers: int) -> Tensor:
        sr = draw(upscale, lr, [seeded("check", each) for each in numbers])
        sr, finite = check_sr(sr, lr, (len(numbers), *hr.shape[1:]), name)
        if not finite.all():
            _refuse("upscaler", name, "finite values", f"{(~sr.isfinite()).sum().item()} that are not")
        return sr.float().clone()  # it may be a buffer that the next call fills again

    def differ(one: Tensor, other: Tensor) -> float:
        return (one - other).abs().mean().item()

    alone, other, again = samples(0), samples(1), samples(0)
    if not torch.equal(alone, again):
        help = "draw everything with generator=generators[q], nothing from the global generators"
        got = f"two that differ by {differ(alone, again):g} in the mean"
        _refuse("upscaler", name, "one SR image of one generator", got, help)
    if stochastic is not None and torch.equal(alone, other) == stochastic:
        if not stochastic:
            help = f"without (stochastic=false), {name!r} is drawn N_Q times"
            _refuse("upscaler", name, "one SR image whatever the generator is", "two", help)
        help = f"use them, or, where f_us is deterministic, say {name}(stochastic=false): it is drawn once then"
        _refuse("upscaler", name, "two SR images of two generators", "one twice", help)
    if max(far := [differ(*pair) for pair in zip(samples(0, 1), (alone[0], other[0]), strict=True)]) > NEAR:
        help = "sample q may depend on generators[q] alone, not on its place or its companions"
        got = f"samples that differ by {max(far):g} in the mean from those drawn alone"
        _refuse("upscaler", name, "the same samples in a batch", got, help)


def remark_on_upscaler(upscale: Callable, name: str, lr: Tensor) -> str:
    """A warning where f_us gives one SR image for an LR image and its negative, as no conditional one does; or "".

    Raises:
        ValueError: what it makes of the negative is no SR image: a bright one alone does not betray [-1, 1].
    """
    try:
        one, other = (draw(upscale, each, [seeded("check", 0)]) for each in (lr, 1 - lr))
    except Exception as error:  # it may be made for photographs alone; those will tell
        return f"upscaler {name!r} could not be looked at: {type(error).__name__}: {error}"
    check_sr(other, 1 - lr, tuple(one.shape), name)
    if not torch.equal(one, other):
        return ""
    why = "it does not look at the LR image, or keeps something of the first one"
    return f"upscaler {name!r}: expected another SR image of another LR image, got the same; {why}"


def check_once(upscale: Callable, hr: Tensor, lr: Tensor) -> str:
    """`check_upscaler`, unless it is ours or has passed before; one that cannot be remembered is checked each time.

    Returns:
        `remark_on_upscaler`, of one that is checked.
    """
    known = False
    with contextlib.suppress(TypeError):
        known = upscale in _passed
    if known or is_ours(upscale):
        return ""
    check_upscaler(upscale, name_of(upscale), hr, lr)
    with contextlib.suppress(TypeError):
        _passed.add(upscale)
    return remark_on_upscaler(upscale, name_of(upscale), lr)


def _refuse(kind: str, name: str, expected: str, got: object, help: str = "") -> None:
    raise ValueError(f"{kind} {name!r}: expected {expected}, got {got}" + (f"; {help}" if help else ""))


def check_sr(sr: object, lr: Tensor, shape: tuple, name: str) -> tuple[Tensor, Tensor]:
    """Return SR images and which of them are finite, unless they are no SR images of `lr`."""

    def refuse(expected: str, got: object) -> None:
        raise ValueError(f"upscaler: expected {expected}, got {got} from {name!r}")

    if not isinstance(sr, Tensor):
        refuse("a torch.Tensor", type(sr).__name__)
    if sr.shape != shape:
        refuse(f"shape {shape}, one SR image a generator", tuple(sr.shape))
    if not sr.is_floating_point():
        refuse("floats in [0, 1], 8-bit levels divided by 255", sr.dtype)
    if sr.device != lr.device:
        refuse(f"SR images on {lr.device}, where the LR image is", sr.device)
    sr = sr.detach()
    finite = sr.isfinite().flatten(1).all(1)
    if len(seen := sr[finite].float()) and (form := _form(seen, lr)):
        low, high = (value.item() for value in seen.aminmax())
        refuse("values in [0, 1]", f"[{low:g}, {high:g}]{form},")
    return sr, finite
