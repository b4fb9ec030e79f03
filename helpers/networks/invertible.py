"""Invertible rescaling networks by name.

Each has `encode(hr) -> (lr, channels)`, `decode(channels) -> hr`, which takes the LR image and a latent behind it,
`latent(channels)`, `latent_shapes(h, w)` of an LR image, `logdet(hr)`, and `config`, from which it can be made again.
`decode` undoes `encode`; of SAIN only with its own channels, whose first three are the LR image as after a codec.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from helpers.networks.irn import IRN
from helpers.networks.sain import SAIN
from helpers.networks.tirn import TIRN

NETWORKS: dict[str, Callable[..., nn.Module]] = {  # the released configurations
    "irn_x2": partial(IRN, scale=2, blocks=(8,)),
    "irn_x3": partial(IRN, scale=3, blocks=(12,)),
    "irn_x4": partial(IRN, scale=4, blocks=(8, 8)),
    "irn_x8": partial(IRN, scale=8, blocks=(8, 8, 8)),
    "tirn_x2": partial(TIRN, scale=2, blocks=(3,)),
    "tirn_x4": partial(TIRN, scale=4, blocks=(3, 4)),
    "sain_x2": partial(SAIN, scale=2, e_blocks=5, v_blocks=3),
    "sain_x4": partial(SAIN, scale=4, e_blocks=10, v_blocks=6),
}


def build(name: str, **config) -> nn.Module:
    """A network with fresh weights.

    Args:
        name: a key of `NETWORKS`.
        config: what differs from the released network, such as `blocks=(4,), growth=8`.

    Raises:
        ValueError: unknown name, or a configuration that does not fit.
    """
    if name not in NETWORKS:
        raise ValueError(f"expected one of {', '.join(NETWORKS)}, got {name!r}")
    return NETWORKS[name](**config)
