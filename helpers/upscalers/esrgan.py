"""f_us: ESRGAN, BSRGAN, Real-ESRGAN and RSR, one deterministic network with the weights of each (S-Table 11)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from helpers.images import check_draws
from helpers.networks import esrgan
from helpers.rescalers import checkpoints
from helpers.runtime import pick_device


def upscaler(*, file: str | Path, scale: int, heat: float = 0.0, device: str = "cpu") -> Callable:
    """f_us: an official file of the family, whatever its names, width and number of blocks are.

    A network that begins with pixel-unshuffle needs LR sides that are multiples of 2 (x2) or 4 (x1). Other images are
    extended at the bottom and right by reflection, and the SR image is cropped, as Real-ESRGAN does (its
    realesrgan/utils.py, `pre_process` with --pre_pad 0). spandrel extends to multiples of 4 at x2 as well, so its
    border is another one.

    Args:
        file: a key of `weights.WEIGHTS`, or a path.
        scale: s, which must be that of the file.
        heat: 0, there are no latents.
        device: name of a device, see `runtime.pick_device`.

    Returns:
        `upscale(lr, generators)`, see `flows.embedded_flow`: the same image for every generator, computed once. Each LR
        side must be longer than what is added to it.

    Raises:
        ValueError: no such device; or the weights are not there, or those of another network or scale.
    """
    device = pick_device(device)
    network = checkpoints.load(
        file, esrgan.ESRGAN, esrgan.configuration, rename=esrgan.rename, device=device, scale=scale
    )

    @torch.no_grad()
    def upscale(lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
        draws = len(check_draws(lr, generators))
        height, width = lr.shape[-2:]
        more = (0, -width % network.unshuffle, 0, -height % network.unshuffle)
        sr = network(F.pad(lr.to(device), more, "reflect"))[..., : scale * height, : scale * width].to(lr.device)
        return sr if len(lr) > 1 else sr.expand(draws, -1, -1, -1)

    return upscale
