"""Upscaler f_us: ResShift (Yue et al., NeurIPS 2023; the 4-step models of its journal version), x4, official files.

All draws of an image are one batch; the LR image is encoded once for them. Float32 throughout, where the authors'
program computes in half precision on a GPU.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from helpers import weights
from helpers.images import check_draws
from helpers.networks import resshift, vq_autoencoder
from helpers.runtime import pick_device
from helpers.upscalers import diffusion

AUTOENCODER = "autoencoder_vq_f4"
TILE, STRIDE = 512, 448  # LR pixels; inference_resshift.py


def load(file: str, device: str | torch.device = "cpu") -> tuple[resshift.ResShiftUNet, vq_autoencoder.VQAutoencoder]:
    """Load U-Net and autoencoder with their official weights, every name and shape matching, in eval mode.

    Args:
        file: weights of the U-Net, a key of `weights.WEIGHTS`.
        device: where to put them.

    Raises:
        ValueError: a file is not there, which says where to put it, or it holds another network.
    """
    networks = []
    for name, make in ((file, resshift.ResShiftUNet), (AUTOENCODER, vq_autoencoder.VQAutoencoder)):
        path = weights.fetch(name)
        network = weights.load_into(make(), resshift.strip_buffers(weights.load_state(path)), path)
        networks.append(network.to(device))
    return tuple(networks)


def upscaler(
    *, file: str, steps: int, lowest: float, scale: int = 4, heat: float = 1.0, device: str = "cpu"
) -> Callable:
    """f_us: one ResShift model.

    LR sides are padded by reflection at the bottom and right to multiples of 64, and an LR image with a side above 512
    is cut into tiles whose overlaps are averaged, as the authors' program does.

    Args:
        file: see `load`.
        steps, lowest: of the schedule, see `diffusion.residual_schedule`.
        scale, heat: 4 and 1, the only ones it has: its noise is part of the chain.
        device: name of a device, see `runtime.pick_device`.

    Returns:
        `upscale(lr, generators)`, see `flows.embedded_flow`. Each generator gives, tile by tile, the noise of the
        start and then that of each step.

    Raises:
        ValueError: no such device; or as `load`.
    """
    return upscaler_by(*load(file, pick_device(device)), steps=steps, lowest=lowest, device=device)


def upscaler_by(unet, autoencoder, *, steps: int, lowest: float, device: str = "cpu") -> Callable:
    """f_us: `upscaler` by networks that are loaded, or of fresh weights, in eval mode on `device`."""
    return partial(_upscale, unet, autoencoder, diffusion.residual_schedule(steps, lowest=lowest), pick_device(device))


def starts(length: int) -> list[int]:
    """Where tiles begin along a side of `length` LR pixels."""
    return sorted({max(0, min(start, length - TILE)) for start in range(0, length, STRIDE)}) if length > TILE else [0]


@torch.no_grad()
def _upscale(unet, autoencoder, schedule, device, lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
    generators, scale = check_draws(lr, generators), autoencoder.factor
    height, width = lr.shape[-2:]
    total = torch.zeros(len(generators), 3, scale * height, scale * width, device=device)
    count = torch.zeros(scale * height, scale * width, device=device)
    for top in starts(height):
        for left in starts(width):
            tile = lr[..., top : top + TILE, left : left + TILE].to(device)
            sr = _draw(unet, autoencoder, schedule, tile, generators)
            rows = slice(scale * top, scale * top + sr.shape[-2])
            columns = slice(scale * left, scale * left + sr.shape[-1])
            total[..., rows, columns] += sr
            count[rows, columns] += 1
    return (total / count).to(lr.device)


def _draw(unet, autoencoder, schedule, lr: Tensor, generators: list[Generator]) -> Tensor:
    height, width = lr.shape[-2:]
    scale, n = autoencoder.factor, len(generators)
    lr = diffusion.pad_to_multiple(2 * lr - 1, unet.multiple)
    y = autoencoder.encode(F.interpolate(lr, scale_factor=scale, mode="bicubic", align_corners=False))
    lr, y = (each.expand(n, -1, -1, -1) for each in (lr, y))

    def predict(x: Tensor, t: int) -> Tensor:
        steps = torch.full((n,), t, device=x.device)
        return unet(diffusion.residual_input(schedule, x, t), steps, lr)

    draw = diffusion.noise_source(y.shape[1:], generators, y.device)
    sr = autoencoder.decode(diffusion.residual_sample(predict, y, schedule, draw))
    return (sr[..., : scale * height, : scale * width] + 1) / 2
