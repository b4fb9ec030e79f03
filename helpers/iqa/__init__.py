"""Image quality without a reference: `IQA` scores one image by name; `iqa.kid` compares sets of images.

A name says whose parameters are used: "niqe" has a pristine model that was fitted here, "niqe_official" the released
one, and neither stands in for the other.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from helpers import weights
from helpers.iqa import natural, trained

IQA: dict[str, Callable[[Tensor], Tensor]] = {  # images (N, 3, H, W) in [0, 1] to scores (N,)
    **{name: partial(natural.niqe, model=name) for name in natural.NIQES},
    **{name: partial(natural.brisque, model=name) for name in ("brisque", "brisque_opencv")},
    "maniqa": trained.maniqa,
    "contrique": trained.contrique,
}
LOWER_IS_BETTER = {name: name.startswith(("niqe", "brisque")) for name in IQA}
MINIMUM_SIDE = {name: 2 * natural.SMALL_BLOCKS.get(name, natural.BLOCK) for name in natural.NIQES}
MINIMUM_SIDE |= {"brisque": natural.BRISQUE_SIDE, "brisque_opencv": natural.BRISQUE_SIDE, "maniqa": 1, "contrique": 2}
SOURCES = natural.SOURCES | {
    "maniqa": "trained on KonIQ-10k, network of pyiqa",
    "contrique": "checkpoint of the authors, ridge regression to CLIVE",
}
_NEEDS = {name: (name,) for name in SOURCES} | {"contrique": ("contrique", "contrique_clive")}  # entries of `weights`


def available(name: str) -> str | None:
    """Say why a score cannot be computed on this machine as it is (None: it can); never downloads.

    Raises:
        ValueError: `name` is no key of `IQA`.
    """
    _check_name(name)
    reasons = [reason for reason in [trained.package_missing()] if name == "maniqa" and reason]
    try:
        reasons += [weights.missing(file) for file in _NEEDS.get(name, ()) if weights.locate(file) is None]
    except ValueError as error:  # a wrong file in the folder that the user named
        reasons.append(str(error))
    return f"{name}: " + "; ".join(reasons) if reasons else None


def describe(name: str) -> str:
    """Name the parameters behind a score: who fitted or trained them, and on what.

    Raises:
        ValueError: `name` is no key of `IQA`.
    """
    _check_name(name)
    return f"{name}, {SOURCES[name] if name in SOURCES else natural.niqe_model(name).source}"


def _check_name(name: str) -> None:
    if name not in IQA:
        raise ValueError(f"expected a measure of {', '.join(IQA)}, got {name!r}")
