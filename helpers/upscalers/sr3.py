"""Upscaler f_us: SR3 in the common unofficial implementation, faces, x8, with the files of that repository.

2000 steps a draw: minutes on a GPU for 128 pixels, days for the 900 x 5 images of 512 pixels.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from helpers import weights
from helpers.images import check_draws, from_uint8, to_uint8
from helpers.networks import sr3
from helpers.runtime import pick_device
from helpers.upscalers import diffusion

BUFFERS = (  # of the schedule, which the files hold beside the network
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
)  # fmt: skip


def load(file: str, config: str, device: str | torch.device = "cpu") -> tuple[sr3.SR3UNet, diffusion.Schedule]:
    """Load the network with its official weights, every name and shape matching, in eval mode; and its schedule.

    Args:
        file: the weights, a key of `weights.WEIGHTS`.
        config: a key of `sr3.CONFIGS`.
        device: where to put it.

    Raises:
        ValueError: the file is not there, which says where to put it; or it holds another network or schedule.
    """
    path, schedule = weights.fetch(file), diffusion.sr3_schedule()
    state = weights.load_state(path)
    buffers = {name for name in state if not name.startswith(sr3.PREFIX)}
    if buffers != set(BUFFERS):
        raise ValueError(f"{path}: expected the schedule's {', '.join(BUFFERS)}, got {', '.join(sorted(buffers))}")
    betas, own = state["betas"].double(), torch.from_numpy(schedule["betas"])
    if betas.shape != own.shape or not torch.allclose(betas, own, rtol=1e-5, atol=0):
        ends = f"from {own[0]:g} to {own[-1]:g}"
        found = f"{betas.numel()}, the largest {betas.amax().item():g}" if betas.numel() else "none"
        raise ValueError(f"{path}: expected the {len(own)} betas of its schedule, {ends}, got {found}")
    network = weights.load_into(sr3.SR3UNet(**sr3.CONFIGS[config]), sr3.strip_prefix(state), path)
    return network.to(device), schedule


def upscaler(*, file: str, config: str, scale: int = 8, heat: float = 1.0, device: str = "cpu") -> Callable:
    """f_us: one SR3 model.

    HR sides are padded by reflection at the bottom and right to what the network can halve; its authors feed squares
    of the size that it was trained on.

    Args:
        file, config: see `load`.
        scale, heat: 8 and 1, the only ones it has: its noise is part of the chain.
        device: name of a device, see `runtime.pick_device`.

    Returns:
        `upscale(lr, generators)`, see `flows.embedded_flow`. Each generator gives the start and then the noise of each
        step but the last one's.

    Raises:
        ValueError: no such device; or as `load`.
    """
    device = pick_device(device)
    return partial(_upscale, *load(file, config, device), scale, device)


def enlarge(lr: Tensor, scale: int) -> Tensor:
    """Pillow's bicubic interpolation of 8-bit LR images, rounded to 8 bits: what SR3 is conditioned on.

    Args:
        lr: LR images in [0, 1], (N, 3, h, w).
        scale: s.

    Returns:
        Images in [0, 1], (N, 3, s h, s w), on the CPU.
    """
    size = scale * lr.shape[-1], scale * lr.shape[-2]
    levels = to_uint8(lr).cpu().permute(0, 2, 3, 1).contiguous().numpy()
    images = [np.array(Image.fromarray(each).resize(size, Image.Resampling.BICUBIC)) for each in levels]
    return from_uint8(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))


@torch.no_grad()
def _upscale(network, schedule, scale, device, lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
    generators = check_draws(lr, generators)
    height, width = (scale * side for side in lr.shape[-2:])
    condition = diffusion.pad_to_multiple(2 * enlarge(lr, scale).to(device) - 1, network.multiple)
    condition = condition.expand(len(generators), -1, -1, -1)

    def predict(x: Tensor, level: float) -> Tensor:
        return network(condition, x, torch.full((len(x),), level, device=x.device))

    draw = diffusion.noise_source(condition.shape[1:], generators, device)
    sr = diffusion.sr3_sample(predict, schedule, draw)
    return ((sr[..., :height, :width] + 1) / 2).to(lr.device)
