"""The HR image and the LR image of a cell, and the hashes by which rows know them again.

There is one way from an experiment to the pixels that its rows score; `pair`, a run and the check of old rows go it.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from helpers import datasets, degradations, transmission, upscalers
from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize, to_uint8
from helpers.promises import Checked, check_downscaler
from helpers.rescalers.registry import RESCALERS
from helpers.runs import adapters, apart, methods
from helpers.runs.experiment import Experiment
from helpers.runtime import pick_device, seeded, shielded

REMEMBERED = 8  # LR images of rescalers, which are slow: each is damaged in many ways, one after the other
_run = [""]  # the run for which the reader's own downscalers were loaded
_made: dict[tuple, Checked] = {}  # the last LR images, by rescaler, scale and HR pixels


def begin(run: str = "") -> None:
    """Load the reader's own functions anew, once for each name of a run: files that they read may have changed."""
    if not run or run != _run[0]:
        _run[0] = run
        apart.begin()
        methods.begin()


def load(experiment: Experiment, image: str) -> Tensor:
    """The HR image of a cell, (1, 3, H, W), cropped to a multiple of s, on the experiment's device."""
    hr = datasets.load(experiment.source, image, size=experiment.size, multiple_of=experiment.scale)
    return hr.to(pick_device(experiment.device))


@shielded()
def pair(
    experiment: Experiment,
    image: str,
    downscaler: str,
    degradation: str = "",
    level: float | None = None,
    hr: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The HR image and the 8-bit LR image of one cell, as `run` sees them; a user's file is read anew.

    Args:
        experiment: gives data set, size, scale, seed, device and where the degradation comes.
        image: name of the image.
        downscaler: name of one in its rows, or anything that `adapters.resolve` takes.
        degradation, level: damage with the noise that belongs to the image; "" is none.
        hr: the HR image, where the caller has it already.

    Returns:
        hr (1, 3, H, W), cropped to a multiple of s, and lr (1, 3, H / s, W / s), both in [0, 1] on the experiment's
        device.

    Raises:
        ValueError: as `datasets.load`, `adapters.resolve`, `adapters.check_pair` and `check_downscaler`.
    """
    begin()
    hr = load(experiment, image) if hr is None else hr
    return hr, lr_of(experiment, image, hr, downscaler, degradation, level)


def lr_of(experiment: Experiment, image: str, hr: Tensor, *cell) -> Tensor:
    """The LR image of `pair`, from the files of a user as the last `begin` found them; `cell` as there."""
    return quantize(checked_lr(experiment, image, hr, *cell).lr)


def proof(experiment: Experiment, image: str, hr: Tensor, lr: Tensor) -> dict:
    """What a row says of the pixels that it scored: the photograph, hashes of HR and LR image, height and width.

    Args:
        experiment: gives the data set.
        image: name of the image.
        hr, lr: as `pair` returns them.
    """
    group = datasets.groups(experiment.source, [image], size=experiment.size)[image]
    return {"group": group, "hr": hash_of(hr), "lr": hash_of(lr), "height": hr.shape[2], "width": hr.shape[3]}


def hash_of_lr(experiment: Experiment, image: str, hr: Tensor, lr: Tensor, *cell) -> str:
    """What a row says of its LR image: `hash_of`, and where a search looks through a user's downscaler, a second hash.

    Such a search depends on more than the LR image of the row. The second hash, after a slash, stands for the values
    and, with f_ds=true, the gradients of the downscaler at two images: the photograph and noise. They are compared
    float by float: on another kind of machine they differ, as the rows of a search do.

    Args:
        experiment, image: of the row.
        hr, lr: as `pair` returns them.
        cell: downscaler, degradation and level.
    """
    spec = experiment.specs.get(cell[0], cell[0])
    if not methods.is_search(experiment.f_us) or spec in DOWNSCALERS:
        return hash_of(lr)
    how = upscalers.stages(experiment.f_us, experiment.scale)[0].options.get("f_ds", "bicubic")
    if how == "bicubic":
        return hash_of(lr)
    f_ds, seen = f_ds_of(experiment, image, *cell), []
    for at in (hr.cpu(), torch.rand(hr.shape, generator=seeded("probe"))):
        at = at.clone().requires_grad_(how == "true")
        try:
            with apart.at_work(spec, image), torch.set_grad_enabled(how == "true"):
                made = f_ds(at, experiment.scale)
                along = torch.randn(made.shape, generator=seeded("probe", "along"))
                slope = torch.autograd.grad(made, at, along, allow_unused=True)[0] if made.requires_grad else None
        except Exception as error:
            if not seen:
                raise
            seen.append(f"{type(error).__name__}: {error}")  # it takes no noise, which is an answer too
        else:
            seen += [each if each is None else each.detach().numpy().tobytes() for each in (made, slope)]
    return f"{hash_of(lr)}/{hashlib.blake2b(repr(seen).encode(), digest_size=6).hexdigest()}"


def hash_of(image: Tensor) -> str:
    """12 hex digits that stand for the shape and the 8-bit levels of an image."""
    levels = to_uint8(image).cpu().numpy()
    return hashlib.blake2b(repr(levels.shape).encode() + levels.tobytes(), digest_size=6).hexdigest()


def checked_lr(experiment, image, hr, downscaler, degradation, level, twice=False) -> Checked:
    """`checked_and_stored`, the LR image alone."""
    return checked_and_stored(experiment, image, hr, downscaler, degradation, level, twice)[0]


def checked_and_stored(
    experiment, image, hr, downscaler, degradation, level, twice=False, bits=False
) -> tuple[Checked, int | None]:
    """The LR image before it is rounded, and with `bits` how large its file is; clipped and deterministic are those of
    the downscaler alone.

    The file is of the codec that it went through, else a PNG. The LR image is made on the CPU: the same pixels, and the
    same hash, whatever the device of the upscaler.
    """
    spec, device, hr = experiment.specs.get(downscaler, downscaler), hr.device, hr.cpu()
    if degradation and experiment.where == "before":
        hr = quantize(_degrade(experiment, image, hr, degradation, level))
    checked = _undamaged(experiment, image, hr, downscaler, spec, twice)
    damaged, stored = degradation if experiment.where == "after" else "", None
    if bits and damaged in transmission.CODECS:
        stored = transmission.file_bits(quantize(checked.lr), damaged, level)
    if damaged:
        checked = checked._replace(lr=_degrade(experiment, image, quantize(checked.lr), degradation, level))
    if bits and stored is None:
        stored = transmission.file_bits(quantize(checked.lr))
    return checked._replace(lr=checked.lr.to(device)), stored


def _undamaged(experiment, image, hr, downscaler, spec, twice) -> Checked:
    """What a downscaler makes of an HR image; that of a rescaler is made once for all damages of it."""
    known = None
    if spec in RESCALERS:
        known = spec, experiment.scale, tuple(hr.shape), hashlib.blake2b(hr.contiguous().numpy()).digest()
        if known in _made:
            return _made[known]
    function = apart.resolve(spec)
    adapters.check_pair(function, experiment.source, image, experiment.scale, size=experiment.size)
    with apart.at_work(spec, image):
        checked = check_downscaler(
            function, downscaler, hr, experiment.scale, image=image,
            twice=twice and spec not in adapters.OURS, overshoots=spec in DOWNSCALERS,
        )  # fmt: skip
    if known:
        while len(_made) >= REMEMBERED:
            del _made[next(iter(_made))]
        _made[known] = checked
    return checked


def f_ds_of(experiment, image, downscaler, degradation, level) -> Callable[[Tensor, int], Tensor]:
    """Return f_ds of Eq. 4 for one cell: it downscales a batch of samples to 8-bit levels, and gradients pass."""
    spec = experiment.specs.get(downscaler, downscaler)
    function = apart.resolve(spec)

    def as_a_file(lr: Tensor) -> Tensor:
        return quantize(lr.detach()) + (lr - lr.detach())  # plus zero

    def downscale(hr: Tensor, scale: int) -> Tensor:
        if getattr(function, "needs_name", False):
            raise ValueError(
                f"downscaler {downscaler!r}: expected one that can be called on samples, got LR files; f_ds=bicubic"
            )
        lr = as_a_file(function(hr, scale))
        if degradation and experiment.where == "after":
            lr = as_a_file(_degrade(experiment, image, lr, degradation, level))
        return lr

    downscale.__name__ = " ".join(filter(None, (downscaler, degradation)))  # for its errors
    return downscale


def _degrade(experiment, image, images, degradation, level) -> Tensor:
    """Damage images with the noise that belongs to the image: the same at every level, and for each of several."""
    noises = [seeded(experiment.seed, image, "degradation") for _ in images]
    noise = noises[0] if len(noises) == 1 else noises
    return degradations.DEGRADATIONS[degradation](images, level, generator=noise)
