"""The official way to sample and score: one pass of the whole network per sample, nothing shared.

What SRFlow's `get_sr` and the IDA-RD notebook's loop do (andreas128/SRFlow commit 5a007ad5,
Byronliang8/IDA-RD commit 01f335f9), written plainly over the same modules: `tools/bench.py` and the tests
compare `Sampler` with it. And the rule that fills a network with reproducible weights.
"""

import re
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.networks.srflow import SRFlow


@torch.no_grad()
def plain_sample(network: SRFlow, lr: Tensor, latents: list[Tensor]) -> Tensor:
    """One SR image, batch 1.

    The encoder computes its own SR image and every enlargement up to full size, the stack of taps is resized
    and concatenated to each of them, both nets of every coupling run on those maps, inverses of the 1x1
    convolutions are taken in float64 and log-determinants kept: all as the official code does on every call.

    Args:
        lr: (1, 3, h, w).
        latents: each with 1 in front.

    Returns:
        SR image (1, 3, s h, s w), not clipped.
    """
    return network.flowUpsamplerNet.decode(latents, plain_features(network, lr))[0]


def plain_features(network: SRFlow, lr: Tensor) -> list[Tensor]:
    """The encoder's part of `plain_sample`: concatenated maps; the largest is made and never read."""
    rrdb = network.RRDB
    trunk, taps = rrdb.trunk(lr, network.taps)
    up = rrdb.up(trunk, network.scale)
    rrdb.conv_last(F.leaky_relu(rrdb.HRconv(up[-1]), 0.2))
    sizes = [trunk, *up]
    if network.multiple == 2:
        sizes.insert(0, F.interpolate(trunk, scale_factor=0.5, mode="bilinear", recompute_scale_factor=True))
    stack = torch.cat(taps, 1)
    features = [torch.cat([size, F.interpolate(stack, size.shape[2:])], 1) for size in sizes]
    return features[::-1][1:]


def fill(network: SRFlow) -> SRFlow:
    """Fill every parameter from a hash of its name, in place: gains small enough that the flow stays finite.

    The rule of the project's reference vectors, so that a network filled here gives their numbers.
    """
    state = {name: torch.from_numpy(_values(name, tensor.shape)) for name, tensor in network.state_dict().items()}
    network.load_state_dict(state)
    return network.eval()


def _values(name: str, shape: torch.Size) -> np.ndarray:
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    flow_layer = r"flowUpsamplerNet\.layers\.\d+\."
    if name.endswith(".invconv.weight"):  # a cyclic shift and noise: transposing or a wrong sign would show
        x = np.roll(np.eye(len(x)), 1, axis=1) + 0.05 / np.sqrt(len(x)) * x
    elif name.endswith(".actnorm.bias"):
        x = 0.1 * x
    elif name.endswith(".logs"):
        x = 0.05 * x if name.endswith(".actnorm.logs") else 0.1 * x
        x = x + 0.18 if re.fullmatch(flow_layer + r"actnorm\.logs", name) else x
    elif name.endswith(".bias"):
        x = 0.05 * x
    else:
        gains = {
            r".*\.f(Affine|Features)\.0\.weight": 0.5,
            r".*\.f(Affine|Features)\.4\.weight": 0.3,
            flow_layer + r"conv\.weight": 0.1,
            r"RRDB\.conv_first\.weight": 0.05,
        }
        gain = next((gain for pattern, gain in gains.items() if re.fullmatch(pattern, name)), 1.0)
        x = gain / np.sqrt(np.prod(x.shape[1:])) * x
    return x.astype(np.float32)
