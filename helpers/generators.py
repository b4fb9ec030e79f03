"""Generators of faces (StyleGAN v1), embedded or official: their networks, and a frozen form for the search."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from helpers import weights
from helpers.networks import stylegan
from helpers.runtime import pick_device, seeded

NAME = "style_generator_64"  # the embedded checkpoint
OFFICIAL = ("pulse_synthesis", "pulse_gaussian_fit")  # keys of `weights.WEIGHTS`


class Networks(NamedTuple):
    """All that the file of the embedded generator holds."""

    mapping: stylegan.Mapping  # latents (N, D) to styles (N, D)
    synthesis: stylegan.Synthesis  # styles (N, L, D) and noise to images
    mean: Tensor  # of the styles before the last activation, (D,)
    std: Tensor  # the same, (D,)
    facts: dict[str, str]  # header: data, recipe, images shown


@lru_cache(maxsize=1)
def networks() -> Networks:
    """Load the embedded generator, on the CPU, in eval mode.

    Raises:
        ValueError: the file is missing, is not the one that is listed, or holds something else.
    """
    path = weights.embedded(NAME)
    state = weights.load_state(path)
    with safe_open(path, "pt") as file:
        facts = file.metadata()
    parts = {part: _part(state, part) for part in ("mapping", "synthesis", "fit")}
    mapping, synthesis = stylegan.mapping_of(parts["mapping"]), stylegan.synthesis_of(parts["synthesis"])
    return Networks(mapping, synthesis, parts["fit"]["mean"], parts["fit"]["std"], facts)


def _part(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}


class StyleGenerator(NamedTuple):
    """A generator as the search takes it; its weights stay as they are."""

    synthesis: Callable[[Tensor, list[Tensor | None]], Tensor]  # styles (N, L, D), noise -> (N, 3, R, R) in [-1, 1]
    noise_shapes: list[tuple[int, int, int]]  # (1, r, r) for each of the L layers; the last is (1, R, R)
    mean: Tensor  # of the styles before the last activation of the mapping network, (D,)
    std: Tensor  # the same, (D,)
    slope: float = stylegan.SLOPE  # of that activation, a LeakyReLU; 1 for none


def gaussian_fit(mapping: Callable[[Tensor], Tensor], latents: Iterable[Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Compute mean and deviation of the styles before a mapping network's last activation (PULSE.py:41-46).

    Args:
        mapping: latents (n, D) to styles (n, D), ending in LeakyReLU(0.2).
        latents: batches of N(0, 1) latents; by default 100,000 of size `mapping.latent_size` (PULSE: a million).

    Returns:
        Both (D,), summed in float64, in the type of the styles.

    Raises:
        ValueError: fewer than two latents.
    """
    if latents is None:
        generator = seeded("gaussian fit")
        latents = (torch.randn(5_000, mapping.latent_size, generator=generator) for _ in range(20))
    count, first, second, shift, kind = 0, 0.0, 0.0, None, None
    for batch in latents:
        with torch.no_grad():
            styles = mapping(batch)
        kind, values = styles.dtype, F.leaky_relu(styles, 1 / stylegan.SLOPE).cpu().double()
        shift = values.mean(0) if shift is None else shift  # so that the squares below do not cancel
        count += len(values)
        first, second = first + (values - shift).sum(0), second + (values - shift).square().sum(0)
    if count < 2:
        raise ValueError(f"latents: expected at least 2, got {count}")
    variance = (second - first**2 / count) / (count - 1)
    return (shift + first / count).to(kind), variance.sqrt().to(kind)


def style_generator(
    synthesis: stylegan.Synthesis, mean: Tensor, std: Tensor, *, device: str | torch.device = "cpu"
) -> StyleGenerator:
    """Prepare a StyleGAN for the search: on its device, frozen, its weights scaled once.

    Args:
        synthesis: the network; it is copied.
        mean, std: of the Gaussian fit, (D,).
        device: as `runtime.pick_device`.

    Raises:
        ValueError: the fit belongs to styles of another size.
    """
    if mean.shape != (synthesis.style_size,) or std.shape != mean.shape:
        got = f"{tuple(mean.shape)} and {tuple(std.shape)}"
        raise ValueError(f"mean and std: expected shape ({synthesis.style_size},), got {got}")
    device = pick_device(str(device))
    network = synthesis.frozen().to(device)
    return StyleGenerator(network, network.noise_shapes(), mean.to(device), std.to(device))


def load_style_generator(
    synthesis: str | Path, fit: str | Path, *, device: str | torch.device = "cpu"
) -> StyleGenerator:
    """Load a StyleGAN of any size from files such as PULSE's `synthesis.pt` and `gaussian_fit.pt`.

    The official ones are NVIDIA's FFHQ network, CC BY-NC 4.0: non-commercial, not shipped.

    Args:
        synthesis: path of the state dict; names as PULSE's, or those of lernapparat's conversion.
        fit: path of the dict of `mean` and `std`.
        device: as `runtime.pick_device`.

    Raises:
        ValueError: a file is missing, broken, or holds something else.
    """
    network = stylegan.synthesis_of(stylegan.official_names(weights.load_state(synthesis), "synthesis"))
    statistics = weights.load_state(fit)
    if statistics.keys() != {"mean", "std"}:
        raise ValueError(f"{fit}: expected mean and std, got {', '.join(statistics)}")
    return style_generator(network, statistics["mean"], statistics["std"], device=device)


def embedded_generator(device: str | torch.device = "cpu") -> StyleGenerator:
    """Load the embedded generator for the search; `device` is one of `runtime.pick_device`."""
    parts = networks()
    return style_generator(parts.synthesis, parts.mean, parts.std, device=device)


def official_generator(device: str | torch.device = "cpu") -> StyleGenerator:
    """Load the official network of 1024x1024 faces for the search (NVIDIA's FFHQ, CC BY-NC 4.0: not shipped).

    Where only the mapping network is at hand, the fit is of our 100,000 latents instead of PULSE's million.

    Args:
        device: as `runtime.pick_device`.

    Raises:
        ValueError: as `weights.fetch` and `load_style_generator`.
    """
    synthesis, fit = map(weights.fetch, OFFICIAL)  # the mapping network stands in for the fit
    if "mean" in (state := weights.load_state(fit)):
        return load_style_generator(synthesis, fit, device=device)
    mean, std = gaussian_fit(stylegan.mapping_of(stylegan.official_names(state, "mapping")))
    network = stylegan.synthesis_of(stylegan.official_names(weights.load_state(synthesis), "synthesis"))
    return style_generator(network, mean, std, device=device)
