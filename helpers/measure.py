"""Compute IDA-RD (Eq. 2 of the paper) from a downscaler, an upscaler and a distortion, given as functions.

Whatever a user's function returns is checked here, by whichever door it comes (`ida_rd`, `score_image`, `runs`), and
it works on copies.
"""

import inspect
import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.images import check_hr, check_images, quantize
from helpers.runtime import check_seed, full_precision, is_whole, on_cpu, seeded

HALF_A_LEVEL = 0.5 / 255  # further outside [0, 1] a value is clipped; nearer it is rounded to 0 or 255 anyway
WARN, STOP = 0.01, 0.2  # shares of clipped values, for `check_downscaler`


class Checked(NamedTuple):
    """One call of a downscaler that passed its checks."""

    lr: Tensor  # as returned, (N, 3, H / s, W / s), neither clipped nor rounded
    clipped: float  # share of its values that an 8-bit file would clip: beyond [0, 1] by more than half a level
    deterministic: bool | None  # whether a second call gave the same values; None: not asked
    remark: str = ""  # a warning for the user, if more than 1 % are clipped


@torch.no_grad()
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
        _check_arguments(f"downscaler {name!r}", f, ("hr", "scale")[: 1 + len(arguments)], help)
    f = on_cpu(f)

    @torch.no_grad()
    def call() -> object:
        with full_precision(hr.device):
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


@torch.no_grad()  # not inference_mode: optimizing downscalers and PULSE need enable_grad inside
def score_image(
    hr: Tensor,
    downscale: Callable[[Tensor], Tensor],
    upscale: Callable,
    distortion: Callable[[Tensor, Tensor], Tensor] | Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    *,
    n_samples: int = 5,
    key: tuple[int | str, ...] = (0,),
    batch: int = 8,
) -> Tensor:
    """Distortions D(x, x^) of one HR image: the inner expectation of IDA-RD.

    S(f_ds) = E_x E_{x^|x}[ D(x, x^) ]  (Liang et al., CVPR 2024, Eq. 2).

    Args:
        hr: one HR image x in [0, 1], shape (1, 3, H, W).
        downscale: f_ds, maps `hr` to the LR image (any degradation included), see `check_downscaler`.
        upscale: f_us; `upscale(lr, generators)` draws one SR image per generator, shape (Q, 3, H, W).
        distortion: D; `distortion(sr, hr)` of shape (Q,), finite, `hr` broadcast over the samples, less for a nearer
            image; or several, by name, of the same draws. Each is first asked for D of `hr` itself and of another
            image.
        n_samples: N_Q, number of SR images.
        key: seed and image name; sample q draws from `seeded(*key, q)`, so the first two of five samples
            are the two samples, and all downscalers share the same latents.
        batch: samples drawn together; bounds the memory, changes a draw by rounding only (which a search amplifies).

    Returns:
        Distortions, shape (n_samples,), float64 on the CPU, or (n_samples, K) for K of them; NaN where the SR image
        is not finite. It is looked at in float, before any clipping: the official code casts such samples to pixels.

    Raises:
        ValueError: `hr` is no such image, `n_samples` is below 1, `key` is no key; f_ds, f_us or D returns what it
            should not, or D is constant, or more of it is better. The message says what to do.
    """
    hr = _one_image(hr, n_samples, batch, key)
    _check_functions(downscale, upscale, distortion, hr)
    distortions, checked = _score(hr, downscale, upscale, distortion, n_samples, key, batch)
    if checked.remark:
        warnings.warn(checked.remark, stacklevel=3)  # beyond the decorator
    return distortions


def _score(hr, downscale, upscale, distortion, n_samples, key, batch) -> tuple[Tensor, Checked]:
    checked = check_downscaler(downscale, _name_of(downscale), hr, image=_image_of(key))
    lr = quantize(checked.lr)  # what an 8-bit file would keep
    return score_lr(hr, lr, upscale, distortion, n_samples=n_samples, key=key, batch=batch), checked


@torch.no_grad()
def score_lr(
    hr: Tensor,
    lr: Tensor,
    upscale: Callable,
    distortion: Callable[[Tensor, Tensor], Tensor] | Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    *,
    n_samples: int = 5,
    key: tuple[int | str, ...] = (0,),
    batch: int = 8,
) -> Tensor:
    """Score an LR image that is there already: `score_image` after its first step.

    Args:
        hr, upscale, n_samples, key, batch: as in `score_image`.
        lr: the LR image in [0, 1], shape (1, 3, h, w).
        distortion: as in `score_image`, but taken as it is; the samples are handed over in their order, each once.

    Returns:
        As `score_image`.

    Raises:
        ValueError: as `score_image`, for what f_us and D return.
    """
    hr = _one_image(hr, n_samples, batch, key)
    check_images(lr, name="lr")
    several = _named(distortion)
    distortions = torch.full((n_samples, len(several)), torch.nan, dtype=torch.float64)
    for first in range(0, n_samples, batch):
        samples = range(first, min(first + batch, n_samples))
        sr = upscale(lr.clone(), [seeded(*key, q) for q in samples])
        sr, finite = _check_sr(sr, lr, (len(samples), *hr.shape[1:]), _name_of(upscale))
        if finite.any():
            sr = quantize(sr[finite].to(hr.dtype))
            values = torch.stack([_distances(each, name, sr, hr) for name, each in several.items()], 1)
            distortions[first : first + len(samples)][finite.cpu()] = values
    return distortions if isinstance(distortion, Mapping) else distortions[:, 0]


@torch.no_grad()
def ida_rd(
    images: Iterable[tuple[str, Tensor]],
    downscale: Callable[[Tensor], Tensor],
    upscale: Callable,
    distortion: Callable[[Tensor, Tensor], Tensor],
    *,
    n_samples: int = 5,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> tuple[float, Tensor]:
    """The score S(f_ds) of one downscaler over a set of images (Eq. 2).

    Args:
        images: pairs of name and HR image, each (1, 3, H, W) in [0, 1]; the name is part of the random key.
        downscale, upscale, distortion, n_samples: as in `score_image`; D is looked at on the first image alone.
        seed: first part of every random key, from 0 on.
        groups: name of an image -> its photograph, as `datasets.groups` returns it: each photograph counts once, with
            the mean of its images. "" names the image itself; without `groups` each image counts once.

    Returns:
        The score, the mean over images (or photographs) of the mean over an image's finite samples (NaN if no image has
        any), and all distortions, shape (n_images, n_samples).

    Raises:
        ValueError: as `score_image`; no image was given, one name twice, or one that is not in `groups`; `seed` is no
            seed.
    """
    rows, clipped = {}, []
    if groups is not None and not isinstance(groups, Mapping):
        raise ValueError(f"groups: expected name -> photograph, as datasets.groups has it, got {type(groups).__name__}")
    for name, hr in _pairs(images):
        if name in rows:
            raise ValueError(f"images: expected each name once, got {name!r} twice; its draws would be the same")
        if groups is not None and not isinstance(groups.get(name), str):
            raise ValueError(f"groups: expected the photograph of each image, got {groups.get(name)} for {name!r}")
        key = check_seed(seed), name
        hr = _one_image(hr, n_samples, 1, key)
        if not rows:
            _check_functions(downscale, upscale, distortion, hr)
        rows[name], checked = _score(hr, downscale, upscale, distortion, n_samples, key, 8)
        clipped += [(checked.clipped, checked.remark)] if checked.remark else []
    if not rows:
        raise ValueError("images: expected at least one image, got none")
    if clipped:
        warnings.warn(worst_of(clipped), stacklevel=3)  # beyond the decorator
    distortions = torch.stack(list(rows.values()))
    means, photographs = distortions.nanmean(1), [(groups or {}).get(name) or name for name in rows]
    units = [means[[each == unit for each in photographs]].nanmean() for unit in dict.fromkeys(photographs)]
    return torch.stack(units).nanmean().item(), distortions


def _pairs(images: object) -> Iterator[tuple[str, Tensor]]:
    """The pairs of `ida_rd`, one after the other, or what is wrong with one of them."""
    wanted = "images: expected pairs of a name and an HR image, such as [('lake', hr)]"
    if isinstance(images, Mapping) or not isinstance(images, Iterable):
        help = "; hand over its items()" if isinstance(images, Mapping) else ""
        raise ValueError(f"{wanted}, got {type(images).__name__}{help}")
    for each in images:
        pair = isinstance(each, tuple | list) and len(each) == 2
        if not pair or not isinstance(each[0], str | numbers.Integral):
            kinds = [type(part).__name__ for part in each] if isinstance(each, tuple | list) else []
            got = f"({', '.join(kinds[:5])})" if kinds else type(each).__name__
            raise ValueError(f"{wanted}, got {got} in {type(images).__name__}")
        yield tuple(each)


def worst_of(clipped: Sequence[tuple[float, str]]) -> str:
    """One line on a downscaler that clips more than 1 % on some images: on how many, and what it does on the worst.

    Args:
        clipped: share and remark of each such image, as in `Checked`; at least one.
    """
    remark = max(clipped, key=lambda each: each[0])[1]
    return f"{remark} (so on {len(clipped)} images; this one is the worst)" if len(clipped) > 1 else remark


def _one_image(hr: Tensor, n_samples: int, batch: int, key: tuple) -> Tensor:
    """Check the arguments of a score; half precision becomes float32."""
    check_images(hr)
    for name, value in (("n_samples", n_samples), ("batch", batch)):
        if not is_whole(value):
            raise ValueError(f"{name}: expected an integer of at least 1, got {value!r}")
    if len(hr) != 1:
        raise ValueError(f"hr: expected one image, got {len(hr)}; call it once for each")
    if not isinstance(key, tuple | list):
        raise ValueError(f"key: expected a tuple such as (seed, name), got {key!r}")
    seeded(*key)
    for part in key:
        if not isinstance(part, str):
            check_seed(part)
    return hr.detach().to(torch.promote_types(hr.dtype, torch.float32))


def _named(distortion: Callable | Mapping[str, Callable]) -> Mapping[str, Callable]:
    if isinstance(distortion, Mapping) and not distortion:
        raise ValueError("distortion: expected at least one, got none")
    return distortion if isinstance(distortion, Mapping) else {_name_of(distortion): distortion}


def _name_of(function: Callable) -> str:
    function = getattr(function, "func", function)  # of a partial
    return getattr(function, "__name__", type(function).__name__)


def _image_of(key: tuple) -> str:
    return " ".join(part for part in key if isinstance(part, str))


def _check_functions(downscale: object, upscale: object, distortion: object, hr: Tensor) -> None:
    """Refuse what are no f_ds, f_us and D, before any image is scored."""
    several = _named(distortion)
    for name, each in {"downscale": downscale, "upscale": upscale, **several}.items():
        if not callable(each):
            raise ValueError(f"{name}: expected a function, got {each!r}; see DOWNSCALERS, UPSCALERS, DISTORTIONS")
    made = "UPSCALERS['embedded_flow'](scale=4) makes one"
    _check_arguments(f"upscale {_name_of(upscale)!r}", upscale, ("lr", "generators"), made)
    for name, each in several.items():
        _check_arguments(f"distortion {name!r}", each, ("sr", "hr"), "DISTORTIONS['mse'] is one")
        _check_distortion(each, name, hr)


def _check_arguments(who: str, function: Callable, names: Sequence[str], help: str = "") -> None:
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


def _check_distortion(distortion: Callable, name: str, hr: Tensor) -> None:
    """Refuse a D that is larger for `hr` itself than for noise, which no offset or gain brings nearer to it.

    Neither can one be averaged that is infinite, but for an image itself, nor one that is the same for all images.
    """
    noise = torch.rand(hr.shape, generator=seeded("noise that no image is")).to(hr)
    same, far = _distances(distortion, name, torch.cat([hr, noise]), hr, infinite=True).tolist()
    if same - far > 1e-6 * max(1.0, abs(far)):
        raise ValueError(
            f"distortion {name!r}: expected less for a nearer image, got {same:g} for the image itself and {far:g} for "
            "another: more is better; hand over mse in place of PSNR, lambda sr, hr: 1 - ssim(sr, hr) in place of SSIM"
        )
    if math.inf in (same, abs(far)):
        raise ValueError(
            f"distortion {name!r}: expected finite numbers, got {same:g} for the image itself and {far:g} for another"
        )
    if same == far == _distances(distortion, name, 1 - hr, hr, infinite=True).item():
        raise ValueError(
            f"distortion {name!r}: expected less for a nearer image, got {same:g} for the image itself, its negative "
            "and noise: a constant ranks nothing"
        )


def _distances(distortion: Callable, name: str, sr: Tensor, hr: Tensor, infinite: bool = False) -> Tensor:
    """D of each sample, computed without autocast or TF32, float64 on the CPU; D works on copies."""
    with full_precision(hr.device):
        values = distortion(sr.clone(), hr.clone())
    got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if got != (len(sr),):
        help = "values.flatten()" if isinstance(values, Tensor) and values.numel() == len(sr) else "reduction='none'"
        raise ValueError(
            f"distortion {name!r}: expected a tensor with one value for each SR image, shape ({len(sr)},), got {got}; "
            f"try {help}"
        )
    if values.is_complex() or values.isnan().any() or (values.isinf().any() and not infinite):
        help = "; of equal images PSNR is infinite: hand over mse in its place" * bool(values.isinf().any())
        raise ValueError(f"distortion {name!r}: expected real numbers for finite images, got {values.tolist()}{help}")
    return values.detach().cpu().double()


def _check_sr(sr: object, lr: Tensor, shape: tuple, name: str) -> tuple[Tensor, Tensor]:
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
