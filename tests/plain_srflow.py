"""The official way to sample and score: one pass of the whole network per sample, nothing shared.

What SRFlow's `get_sr` and the IDA-RD notebook's loop do (andreas128/SRFlow commit 5a007ad5,
Byronliang8/IDA-RD commit 01f335f9), written plainly over the same modules: `tests/bench.py` and the tests
compare `Sampler` with it.
"""

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
    rrdb = network.RRDB
    trunk, taps = rrdb.trunk(lr, network.taps)
    up = rrdb.up(trunk, network.scale)
    rrdb.conv_last(F.leaky_relu(rrdb.HRconv(up[-1]), 0.2))
    sizes = [trunk, *up]
    if network.multiple == 2:
        sizes.insert(0, F.interpolate(trunk, scale_factor=0.5, mode="bilinear", recompute_scale_factor=True))
    stack = torch.cat(taps, 1)
    features = [torch.cat([size, F.interpolate(stack, size.shape[2:])], 1) for size in sizes]
    return network.flowUpsamplerNet.decode(latents, features[::-1][1:])[0]  # full size is never read


@torch.no_grad()
def plain_loop(
    network: SRFlow, lr: Tensor, latents: list[Tensor], hr: Tensor, lpips
) -> tuple[list[Tensor], list[float]]:
    """All samples one after the other, each compared with HR by a full LPIPS call.

    Args:
        lr: (1, 3, h, w).
        latents: each with Q in front.
        hr: (1, 3, s h, s w) in [0, 1].
        lpips: an `lpips.LPIPS` network; takes images in [-1, 1].

    Returns:
        SR images and distortions, one per sample.
    """
    images, values = [], []
    for q in range(len(latents[0])):
        images.append(plain_sample(network, lr, [latent[q : q + 1] for latent in latents]))
        values.append(lpips(2 * hr - 1, 2 * images[-1].clamp(0, 1) - 1).item())
    return images, values
