"""The small rescalers and twin upscalers that ship: what each is, and how it is trained, by the name of its checkpoint.

`notebooks/training/rescalers.ipynb` and `twins.ipynb` run one of them; `rescaler_report` and `twin_report` say what has
come of it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from helpers import datasets
from helpers.downscalers import bicubic
from helpers.images import crop_to_multiple, from_uint8, to_uint8
from helpers.listing import Named
from helpers.networks.hyperthumbnail import HyperThumbnail
from helpers.networks.irn import IRN
from helpers.networks.residual_shift import ResidualShift
from helpers.networks.sain import SAIN
from helpers.networks.tirn import TIRN
from helpers.runtime import seeded
from helpers.training import loop
from helpers.training.flow import Pair, pairs_of
from helpers.training.hyperthumbnail import train_hyperthumbnail
from helpers.training.rescaler import references, train_rescaler
from helpers.training.residual_shift import KERNELS, train_residual_shift
from helpers.training.sain import train_sain

HELD_OUT = slice(7, None, 25)  # photographs that choose the best state
SIDE = 192  # of their crops, a multiple of 64, which HyperThumbnail needs


class Recipe(NamedTuple):
    """One of them."""

    make: Callable[..., nn.Module]
    config: Mapping[str, object]  # of the network
    train: Callable[..., nn.Module]
    how: Mapping[str, object]  # options of `train`


_SMALL = {"bfloat16": True, "every": 250}
_X2 = {"crop": 48, "batch": 16, **_SMALL}
_X4 = {"crop": 64, "batch": 8, **_SMALL}
_IRN_X4 = {"scale": 4, "blocks": [4, 4], "growth": 8}
_SAIN = {"scale": 2, "e_blocks": 3, "v_blocks": 1, "growth": 8}
_THUMBNAIL = {"scale": 4, "width": 12, "depth": 2, "features": 16, "blocks": 4, "hidden": 48}

RECIPES: dict[str, Recipe] = Named(
    {
        "irn_x2": Recipe(IRN, {"scale": 2, "blocks": [4], "growth": 8}, train_rescaler, _X2 | {"iterations": 4000}),
        "irn_x4": Recipe(IRN, _IRN_X4, train_rescaler, _X4 | {"iterations": 4000}),
        "dlv_style_x4": Recipe(IRN, _IRN_X4 | {"extra": 1}, train_rescaler, _X4 | {"iterations": 4000}),
        "tirn_x2": Recipe(
            TIRN, {"scale": 2, "blocks": [4], "growth": 8}, train_rescaler, _X2 | {"iterations": 2500, "prior": 0.0}
        ),
        "sain_x2": Recipe(SAIN, _SAIN, train_sain, _X4 | {"iterations": 3000, "spread": 0.01}),
        "hyperthumbnail_x4": Recipe(
            HyperThumbnail, _THUMBNAIL, train_hyperthumbnail,
            {"crop": 128, "batch": 8, "iterations": 5000, "peak": 2e-3, **_SMALL},
        ),
    }
)  # fmt: skip

_TWIN = {"mean_iterations": 4000, "iterations": 8000, "batch": 16, "crop": 64}
_SHIFT = {"scale": 4, "width": 48, "blocks": 8, "head": 32, "channels": 96, "depth": 5}

TWINS: dict[str, Recipe] = Named(
    {
        "residual_shift_x4": Recipe(ResidualShift, _SHIFT, train_residual_shift, _TWIN | {"blind": False}),
        "residual_shift_x4_blind": Recipe(ResidualShift, _SHIFT, train_residual_shift, _TWIN | {"blind": True}),
    }
)


def sources_of(photographs: str) -> list[Callable[[], Tensor]]:
    """Functions that read one photograph each, whole.

    Args:
        photographs: names of data sets or folders, separated by ":".

    Returns:
        In the order of the folders; each returns an HR image in [0, 1], (1, 3, H, W).

    Raises:
        ValueError: as `datasets.names`.
    """
    named = [(folder, name) for folder in photographs.split(":") for name in datasets.names(folder)]
    return [lambda folder=folder, name=name: datasets.load(folder, name) for folder, name in named]


def pairs_of_all(
    photographs: Sequence[Callable[[], Tensor]], scale: int, seed: int = 0, side: int = SIDE
) -> tuple[list[Pair], tuple[Tensor, Tensor]]:
    """Training pairs of photographs, and crops of the `HELD_OUT` ones with their bicubic LR images.

    Args:
        photographs: functions that read one each, HR images in [0, 1], (1, 3, H, W), sides of at least `side`.
        scale: s.
        seed: of the second grid of each photograph.
        side: of the held-out crops, which are the bottom right of the photographs.

    Returns:
        Pairs of `rescaler.references`; HR and LR crops, (N, 3, side, side) and (N, 3, side / s, side / s).

    Raises:
        ValueError: fewer than eight photographs, of which none is held out.
    """
    held_out, grids, pairs, crops = _held_out(photographs), seeded(seed, "grids"), [], []
    for number, read in enumerate(photographs):
        found = references(read(), scale, grids)
        if number in held_out:
            crops.append(found[0])
        else:
            pairs += found
    hr = torch.stack([hr[:, -side:, -side:] for hr, _ in crops])
    lr = torch.stack([lrs[:3, -side // scale :, -side // scale :] for _, lrs in crops])
    return pairs, (from_uint8(hr), from_uint8(lr))


def pairs_of_twins(
    photographs: Sequence[Callable[[], Tensor]], name: str, seed: int = 0, side: int = SIDE
) -> tuple[list[Pair], tuple[Tensor, Tensor]]:
    """As `pairs_of_all`, of a twin: bicubic LR images, for a blind one those of `residual_shift.KERNELS` as well.

    Args:
        photographs, seed, side: see `pairs_of_all`.
        name: a key of `TWINS`.

    Returns:
        Pairs of `flow.pairs_of`; HR and LR crops, (N, 3, side, side) and (N, 3, side / s, side / s), bicubic ones,
        which `residual_shift.train_residual_shift` damages itself.

    Raises:
        ValueError: as `pairs_of_all`.
    """
    recipe, grids, pairs = TWINS[name], seeded(seed, "grids"), []
    held_out = _held_out(photographs)
    for number, read in enumerate(photographs):
        kernels = KERNELS if recipe.how["blind"] and number not in held_out else ("bicubic",)
        found = pairs_of(read(), recipe.config["scale"], grids, kernels)
        pairs += [] if number in held_out else found
    return pairs, crops_of_twins(photographs, recipe.config["scale"], side)


def crops_of_twins(
    photographs: Sequence[Callable[[], Tensor]], scale: int = 4, side: int = SIDE
) -> tuple[Tensor, Tensor]:
    """The second result of `pairs_of_twins` alone; only the photographs that are held out are read."""
    found = [crop_to_multiple(photographs[number](), scale) for number in sorted(_held_out(photographs))]
    pairs = [(to_uint8(hr), to_uint8(bicubic(hr, scale))) for hr in found]
    hr = torch.cat([hr[..., -side:, -side:] for hr, _ in pairs])
    lr = torch.cat([lr[..., -side // scale :, -side // scale :] for _, lr in pairs])
    return from_uint8(hr), from_uint8(lr)


def _held_out(photographs: Sequence) -> set[int]:
    found = set(range(len(photographs))[HELD_OUT])
    if not found:
        raise ValueError(f"photographs: expected at least {HELD_OUT.start + 1}, got {len(photographs)}")
    return found


def train(
    name: str,
    pairs: Sequence[Pair],
    validation: tuple[Tensor, Tensor],
    checkpoint: str | Path,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    **other,
) -> nn.Module:
    """Train one of `RECIPES` or `TWINS`; resume from `checkpoint`.

    Args:
        name: a key of one of them.
        pairs, validation: of `pairs_of_all` or `pairs_of_twins`, at the scale of the recipe.
        checkpoint: of `loop.train`.
        seed: of the first weights, patches and latents.
        device: where to compute.
        other: options in place of the recipe's.

    Returns:
        The network, in eval mode.

    Raises:
        KeyError: unknown name.
        FloatingPointError, ValueError: as the function of the recipe.
    """
    recipe = (TWINS if name in TWINS else RECIPES)[name]
    torch.manual_seed(seed)
    network = recipe.make(**recipe.config).to(device)
    return recipe.train(network, pairs, validation, checkpoint, **{**recipe.how, "seed": seed, **other})


def export(network: nn.Module, path: str | Path, *, dtype: torch.dtype | None = None, **facts) -> None:
    """Write a trained network with its configuration, which `rescalers.checkpoints` reads, and facts in the header.

    Twins are written in float16: half the bytes for rounding errors far below a grey level. `dtype` says otherwise.
    """
    dtype = dtype or (torch.float16 if isinstance(network, ResidualShift) else torch.float32)
    loop.export(network.state_dict(), path, dtype=dtype, config=json.dumps(network.config), **facts)
