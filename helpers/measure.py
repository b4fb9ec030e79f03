"""Compute IDA-RD (Eq. 2 of the paper) from a downscaler, an upscaler and a distortion, given as functions.

Whatever a user's function returns is checked (`promises`), and it works on copies.
"""

import hashlib
import numbers
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from helpers.images import check_images, quantize
from helpers.promises import (
    Checked,
    check_downscaler,
    check_functions,
    check_once,
    check_sr,
    distances,
    draw,
    is_ours,
    name_of,
    named,
)
from helpers.runtime import check_seed, is_whole, seeded, shielded


@shielded()
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
            image; or several, by name, of the same draws.
        n_samples: N_Q, number of SR images.
        key: seed and image name; sample q draws from `seeded(*key, q)`, so the first two of five samples
            are the two samples, and all downscalers share the same latents.
        batch: samples drawn together; bounds the memory, changes a draw by rounding only (which a search amplifies).

    f_us and D of your own are first held against what they promise, see `promises.check_upscaler` and
    `check_distortion`: f_us once, D in each call.

    Returns:
        Distortions, shape (n_samples,), float64 on the CPU, or (n_samples, K) for K of them; NaN where the SR image
        is not finite. It is looked at in float, before any clipping: the official code casts such samples to pixels.

    Raises:
        ValueError: `hr` is no such image, `n_samples` is below 1, `key` is no key; f_ds, f_us or D returns what it
            should not; f_us or D has two answers to one question, or mixes a batch; D is constant, or more of it is
            better. The message says what to do.
    """
    hr = _one_image(hr, n_samples, batch, key)
    check_functions(downscale, upscale, distortion, hr)
    distortions, checked, remark = _score(hr, downscale, upscale, distortion, n_samples, key, batch)
    for said in filter(None, [checked.remark, remark]):
        warnings.warn(said, stacklevel=3)  # beyond the decorator
    return distortions


def _score(hr, downscale, upscale, distortion, n_samples, key, batch, twice=False) -> tuple[Tensor, Checked, str]:
    twice = twice and not is_ours(downscale)
    checked = check_downscaler(downscale, name_of(downscale), hr, image=_image_of(key), twice=twice)
    lr = quantize(checked.lr)  # what an 8-bit file would keep
    remark = check_once(upscale, hr, lr)
    return score_lr(hr, lr, upscale, distortion, n_samples=n_samples, key=key, batch=batch), checked, remark


@shielded()
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
    several = named(distortion)
    distortions = torch.full((n_samples, len(several)), torch.nan, dtype=torch.float64)
    for first in range(0, n_samples, batch):
        samples = range(first, min(first + batch, n_samples))
        sr = draw(upscale, lr, [seeded(*key, q) for q in samples])
        sr, finite = check_sr(sr, lr, (len(samples), *hr.shape[1:]), name_of(upscale))
        if finite.any():
            sr = quantize(sr[finite].to(hr.dtype))
            values = torch.stack([distances(each, name, sr, hr) for name, each in several.items()], 1)
            distortions[first : first + len(samples)][finite.cpu()] = values
    return distortions if isinstance(distortion, Mapping) else distortions[:, 0]


@shielded()
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
        any), and all distortions, shape (n_images, n_samples). Warnings say how many draws are not finite, and that two
        calls of f_ds differ.

    Raises:
        ValueError: as `score_image`; no image was given, one name twice, or one that is not in `groups`; `seed` is no
            seed.
    """
    rows, clipped, lrs = {}, [], {}
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
            check_functions(downscale, upscale, distortion, hr)
        rows[name], checked, remark = _score(hr, downscale, upscale, distortion, n_samples, key, 8, twice=not rows)
        if checked.deterministic is False:
            said = f"downscaler {name_of(downscale)!r} is not deterministic: two calls differ on {name!r}"
            warnings.warn(said, stacklevel=3)
        twin = lrs.setdefault(_digest(checked.lr), (name, _digest(hr)))
        if not is_ours(downscale) and twin[1] != _digest(hr):
            warnings.warn(say_twins(name_of(downscale), [twin[0], name]), stacklevel=3)
        if remark:
            warnings.warn(remark, stacklevel=3)
        clipped += [(checked.clipped, checked.remark)] if checked.remark else []
    if not rows:
        raise ValueError("images: expected at least one image, got none")
    if clipped:
        warnings.warn(worst_of(clipped), stacklevel=3)  # beyond the decorator
    distortions = torch.stack(list(rows.values()))
    if lost := {name: n for name, row in rows.items() if (n := row.isnan().sum().item())}:
        where = ", ".join(f"{n} of {name!r}" for name, n in list(lost.items())[:5]) + ", ..." * (len(lost) > 5)
        said = f"{sum(lost.values())} of {distortions.numel()} draws are not finite ({where})"
        warnings.warn(f"{said}; the score is the mean of the others", stacklevel=3)
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


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(repr(image.shape).encode() + image.cpu().numpy().tobytes(), digest_size=16).digest()


def say_twins(name: str, images: Sequence[str]) -> str:
    """A warning of a downscaler that makes one LR image of several HR images."""
    listed = ", ".join(map(str, images[:5])) + ", ..." * (len(images) > 5)
    why = "it does not look at them, or keeps something of the first one"
    return f"downscaler {name!r}: expected another LR image of another HR image, got one for {listed}; {why}"


def worst_of(clipped: Sequence[tuple[float, str]]) -> str:
    """One line on a downscaler that clips more than 1 % on some images: on how many, and what it does on the worst.

    Args:
        clipped: share and remark of each such image, as in `Checked`; at least one.
    """
    remark = max(clipped, key=lambda each: each[0])[1]
    return f"{remark} (so on {len(clipped)} images; this one is the worst)" if len(clipped) > 1 else remark


def _one_image(hr: Tensor, n_samples: int, batch: int, key: tuple) -> Tensor:
    """Check the arguments of a score; every precision becomes float32."""
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
    return hr.detach().to(torch.float32, copy=hr.is_inference())


def _image_of(key: tuple) -> str:
    return " ".join(part for part in key if isinstance(part, str))
