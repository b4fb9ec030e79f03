"""Training of invertible rescalers (IRN, T-IRN, DLV-style): losses, one step, and the run of a small one that ships.

The losses are those of IRN (Xiao et al., ECCV 2020; github.com/pkuxmq/Invertible-Image-Rescaling, 0ebe8f9,
IRN_model.py:89-145): the LR image near MATLAB's bicubic one, z near zero, and the HR image again from the LR image
rounded to 8 bits and a latent that is drawn. T-IRN takes no prior and no noise; DLV-style has a second latent that
moves the LR image between the kernels of users. Sums go over channels and pixels, means over the batch alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from helpers.distortions.luma import psnr_y
from helpers.networks.invertible_layers import quantize_through
from helpers.training.flow import Pair, pairs_of, sample_patches
from helpers.training.loop import train_averaged

LOSSES = ("fit", "prior", "back")
KERNELS = (
    "matlab_bicubic",
    "lanczos",
    "matlab_bilinear",
)  # of LR references; the second latent lies between the last two


def summed_l1(found: Tensor, wanted: Tensor) -> Tensor:
    """Charbonnier loss sqrt(d^2 + 1e-6), summed over an image, mean over the batch (loss.py:5-19)."""
    return ((found - wanted).square() + 1e-6).sqrt().sum() / len(found)


def summed_l2(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared error, summed over an image, mean over the batch."""
    return (found - wanted).square().sum() / len(found)


def losses(
    network: nn.Module,
    hr: Tensor,
    reference: Tensor,
    z: Tensor,
    *,
    v: Tensor | None = None,
    prior: float = 1.0,
    fit: Callable[[Tensor, Tensor], Tensor] = summed_l2,
    damage: Tensor | None = None,
) -> Tensor:
    """The three losses of one batch; their sum is minimised.

    Args:
        network: of `helpers.networks.invertible`.
        hr: HR images in [0, 1], (N, 3, H, W).
        reference: what the LR images should look like, (N, 3, H / s, W / s).
        z: upscaling latents of the way back, (N, c, H / s, W / s).
        v: downscaling latents, where the network has them.
        prior: weight of sum(z^2); 0 for T-IRN.
        fit: of the LR image; `summed_l1` where IRN is tuned for compression (`train_IRN_x2_finetune.yml`).
        damage: what is added to the rounded LR image, of its shape.

    Returns:
        s^2 times `fit` of the unrounded LR image ("l_forw_fit"), the prior ("l_forw_ce") and `summed_l1` of the HR
        image from the rounded one ("l_back_rec"), (3,).
    """
    lr, channels = network.encode(hr) if v is None else network.encode(hr, v)
    near = network.scale**2 * fit(lr, reference)
    ce = prior * network.latent(channels).square().sum() / len(hr)
    levels = quantize_through(lr) if damage is None else quantize_through(lr) + damage
    back = network.decode(torch.cat([levels, z.to(lr)], 1))
    return torch.stack([near, ce, summed_l1(hr, back)])


def update(optimizer: torch.optim.Optimizer, network: nn.Module, parts: Tensor, clip: float = 10.0) -> Tensor:
    """One step down the sum of `parts`, the norm of the gradient clipped; returns that norm before clipping."""
    optimizer.zero_grad()
    parts.sum().backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimizer.step()
    return norm


def adam(network: nn.Module, rate: float = 2e-4, decay: float = 1e-5) -> torch.optim.Adam:
    """IRN's optimizer: betas (0.9, 0.999), L2 penalty `decay` in the gradient; Haar constants stay."""
    free = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.Adam(free, lr=rate, betas=(0.9, 0.999), weight_decay=decay)


def references(photograph: Tensor, scale: int, generator: Generator) -> list[Pair]:
    """Training pairs of one photograph as `flow.pairs_of`, each with the LR images of all `KERNELS`.

    Args:
        photograph: HR image in [0, 1], (1, 3, H, W).
        scale: s.
        generator: draws the second grid.

    Returns:
        HR levels (3, H, W) and LR levels (9, H / s, W / s), uint8: those of MATLAB's bicubic first.
    """
    pairs = pairs_of(photograph, scale, generator, KERNELS)
    count = len(KERNELS)
    grids = [pairs[at : at + count] for at in range(0, len(pairs), count)]
    return [(grid[0][0], torch.cat([lr for _, lr in grid])) for grid in grids]


def between(lrs: Tensor, v: Tensor) -> Tensor:
    """LR reference of a downscaling latent: bicubic at 0, moved by v (Lanczos - bilinear) / 2.

    So v = 1 is about as sharp as Lanczos, v = -1 about as soft as bilinear.

    Args:
        lrs: LR images of `KERNELS`, (N, 9, h, w).
        v: one number an image, (N,).
    """
    bicubic, sharp, soft = lrs.chunk(3, 1)
    return bicubic + v.view(-1, 1, 1, 1) * (sharp - soft) / 2


@torch.no_grad()
def quality(network: nn.Module, hr: Tensor, reference: Tensor) -> dict[str, float]:
    """What a pair does on HR crops with latents of zero.

    Args:
        network: in eval mode.
        hr: HR crops in [0, 1], (N, 3, H, W).
        reference: their bicubic LR images, (N, 3, H / s, W / s).

    Returns:
        psnr_y: mean PSNR of the luma of the HR image decoded from 8 bits, border s, dB. lr_psnr: mean PSNR of the
        8-bit LR image to the reference, RGB, dB. spread: root mean square between LR images at v = -1 and 1, 8-bit
        levels (0 for networks without v).
    """
    found = {"psnr_y": [], "lr_psnr": [], "spread": []}
    for one, wanted in zip(hr.split(1), reference.split(1), strict=True):
        lr, channels = network.encode(one)
        lr = quantize_through(lr)
        back = network.decode(torch.cat([lr, 0 * network.latent(channels)], 1))
        found["psnr_y"].append(psnr_y(back, one, network.scale))
        found["lr_psnr"].append(-10 * (lr - wanted).square().mean().log10())
        ends = torch.zeros_like(lr), torch.zeros_like(lr)
        if extra := getattr(network, "extra", 0):
            ends = [network.encode(one, v * torch.ones_like(lr[:, :1]).expand(-1, extra, -1, -1))[0] for v in (-1, 1)]
        found["spread"].append(255 * (ends[1] - ends[0]).square().mean().sqrt())
    return {name: torch.stack([each.flatten()[0] for each in values]).mean().item() for name, values in found.items()}


def train_rescaler(
    network: nn.Module,
    pairs: Sequence[Pair],
    validation: tuple[Tensor, Tensor],
    checkpoint: str | Path,
    *,
    batch: int = 16,
    crop: int = 48,
    clip: float = 10.0,
    weight_decay: float = 1e-5,
    noise: float = 0.0,
    prior: float = 1.0,
    fit: Callable[[Tensor, Tensor], Tensor] = summed_l2,
    damage: float = 0.0,
    **pace,
) -> nn.Module:
    """Train a pair of downscaler and upscaler; resume from `checkpoint`.

    The defaults are for networks of a few blocks on a CPU. IRN itself: batch 16 of crops of 144, peak 2e-4 halved four
    times in 500,000 iterations, noise 1 (`train_IRN_x2.yml`); n blocks shrink z by exp(-n) at most, so that noise 1
    costs networks of less than eight blocks their detail. T-IRN: noise 0, prior 0.

    Args:
        network: of `helpers.networks.invertible`, moved to its device by the caller.
        pairs: of `references`.
        validation: HR crops never trained on and their bicubic LR images, (N, 3, ., .) in [0, 1].
        checkpoint, pace: file, iterations, peak and whatever else `loop.train_averaged` takes.
        batch, crop: patches of a step, and their HR side, a multiple of s.
        clip: largest norm of a gradient.
        weight_decay: see `adam`.
        noise: standard deviation of z on the way back ("gaussian_scale").
        prior, fit: see `losses`.
        damage: standard deviation of noise that half of the steps add to the rounded LR image; IRN is tuned for
            compression with 0.01, `fit=summed_l1`, peak 1e-5, in 100,000 iterations.

    Returns:
        The averaged network with the highest validation PSNR so far, in eval mode.

    Raises:
        FloatingPointError: a loss is not finite.
        ValueError: `crop` is no multiple of s.
    """
    if crop % network.scale:
        raise ValueError(f"crop: expected a multiple of scale {network.scale}, got {crop}")
    device, extra = next(network.parameters()).device, getattr(network, "extra", 0)
    optimizer = adam(network, decay=weight_decay)
    held_out = tuple(images.to(device) for images in validation)

    def drawn(generator: Generator) -> Tensor:
        hr, lrs = sample_patches(pairs, batch, crop, generator)
        hr = hr.to(device, memory_format=torch.channels_last)
        [shape] = network.latent_shapes(*lrs.shape[-2:])
        z = noise * torch.randn(batch, *shape, generator=generator) if noise else torch.zeros(batch, *shape)
        v, reference = None, lrs[:, :3]
        if extra:
            value = torch.randn(batch, generator=generator)
            v, reference = value.view(-1, 1, 1, 1).expand(-1, extra, *shape[1:]).to(device), between(lrs, value)
        noisy = damage and torch.rand((), generator=generator) < 0.5
        more = damage * torch.randn(reference.shape, generator=generator) if noisy else None
        how = {"v": v, "prior": prior, "fit": fit, "damage": None if more is None else more.to(device)}
        return losses(network, hr, reference.to(device), z.to(device), **how)

    def validate(average: nn.Module) -> tuple[dict[str, float], float]:
        columns = quality(average, *held_out)
        return columns, -columns["psnr_y"]

    return train_averaged(
        network, drawn, lambda parts: update(optimizer, network, parts, clip), validate, checkpoint,
        optimizers={"optimizer": optimizer}, facts={"noise": noise, "prior": prior, "damage": damage}, names=LOSSES,
        **pace,
    )  # fmt: skip
