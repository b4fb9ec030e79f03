"""Draw faces that may be shown: samples of the embedded generator, with their latents, and one portrait.

Photographs of faces cannot come with the repository. A sample lies exactly on the manifold of its generator, so the
best score a search can reach is known: zero. The portrait is Eileen Collins by NASA, from scikit-image.
"""

import math
from copy import deepcopy
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from helpers import generators
from helpers.datasets import photographs
from helpers.images import read_rgb
from helpers.networks import stylegan
from helpers.runtime import seeded

COUNT = 256  # of the samples that have a name
PORTRAIT = "astronaut"
PORTRAIT_POINTS = ((203.2, 101.5), (246.5, 104.2), (223.5, 140.0))  # eyes and mouth, by dlib; see `alignment`


class Known(NamedTuple):
    """A sample and what made it."""

    image: Tensor  # (1, 3, R, R) in [0, 1], 8-bit levels
    latent: Tensor  # input of the mapping network, (1, D)
    style: Tensor  # w, the same for all layers, (1, D)
    noise: list[Tensor]  # one map per layer, (1, 1, r, r)


def generated() -> list[str]:
    """Names of the generator's own samples: generated_000, generated_001, ..."""
    return [f"generated_{number:03d}" for number in range(COUNT)]


@torch.no_grad()
def known(name: str) -> Known:
    """Draw one of the named samples with its latents: the same levels on every machine, as they come from float64.

    Version 0.5 took them from float32, where single levels depended on the processor; before it, the random keys were
    others.

    Args:
        name: one of `generated()`.

    Raises:
        ValueError: another name.
    """
    if name not in generated():
        raise ValueError(f"expected generated_000 to generated_{COUNT - 1:03d}, got {name!r}")
    (mapping, synthesis), generator = _exact(), seeded("generated", int(name.removeprefix("generated_")))
    latent = _normal(1, mapping.latent_size, generator=generator)
    noise = [_normal(1, *shape, generator=generator) for shape in synthesis.noise_shapes()]
    style = mapping(latent)
    image = synthesis(style[:, None].expand(-1, synthesis.layers, -1), noise)
    levels = ((image + 1) / 2 * 255).round().clamp(0, 255).float()
    return Known(levels / 255, latent.float(), style.float(), [each.float() for each in noise])


def _normal(*shape: int, generator: torch.Generator) -> Tensor:
    """The numbers of `torch.randn`, which are float32 and differ by processor, with the digits of float64.

    Both take 16 uniform numbers at a time, and the first eight of them with the last eight (Box and Muller).
    """
    first, second = torch.rand(math.prod(shape), generator=generator).double().view(-1, 2, 8).unbind(1)
    radius, angle = (-2 * (1 - first).log()).sqrt(), 2 * math.pi * second
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1).view(shape)


@lru_cache(maxsize=1)
def _exact() -> tuple[stylegan.Mapping, stylegan.Synthesis]:
    """Both parts of the embedded generator in float64."""
    parts = generators.networks()
    return deepcopy(parts.mapping).double(), deepcopy(parts.synthesis).double()


@torch.no_grad()
def samples(count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` samples, each with one style for all layers: (count, 3, R, R) in [0, 1].

    Args:
        count: number of samples.
        generator: CPU generator.
    """
    network, parts = generators.networks(), []
    for size in [100] * (count // 100) + [count % 100] * (count % 100 > 0):
        latents = torch.randn(size, network.mapping.latent_size, generator=generator)
        noise = [torch.randn(size, *shape, generator=generator) for shape in network.synthesis.noise_shapes()]
        styles = network.mapping(latents)[:, None].expand(-1, network.synthesis.layers, -1)
        parts.append(((network.synthesis(styles, noise) + 1) / 2).clamp(0, 1))
    return torch.cat(parts)


@lru_cache(maxsize=1)
def portrait() -> Tensor:
    """The astronaut's face, cut as the generator knows faces, (1, 3, R, R), 8-bit levels."""
    from helpers.datasets import alignment  # a command of its own, `python -m`: not loaded with every data set

    photograph = read_rgb(photographs.path_of(PORTRAIT))
    side = generators.networks().synthesis.resolution
    return alignment.align(photograph, PORTRAIT_POINTS, side, crop="embedded")
