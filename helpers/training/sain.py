"""Training of SAIN: its losses, and the run of a small one that ships.

Yang et al., AAAI 2023 (yang-jin-hai/SAIN, revision e361d7a, codes/models/model.py:107-142). Beside the HR image, four
LR images are compared: the one of high quality with bicubic, the channels that stand for it after a codec with the
codec's bicubic and with the codec's own one, and the one found on the way back. The way back starts at the surrogate
of the codec, whatever codec the other two went through. Sums and steps are those of `helpers.training.rescaler`.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from helpers.distortions.luma import psnr_y
from helpers.networks.invertible_layers import quantize_through
from helpers.networks.jpeg import DiffJPEG
from helpers.networks.sain import SAIN
from helpers.rescalers.codecs import codec as make_codec
from helpers.runtime import seeded
from helpers.training.flow import Pair, sample_patches
from helpers.training.loop import train_averaged
from helpers.training.rescaler import adam, summed_l1, summed_l2, update

LOSSES = ("fit", "fit_codec", "again", "own_codec", "back")
WEIGHTS = (0.25, 0.25, 0.25, 0.25, 1.0)


def losses(
    network: SAIN,
    hr: Tensor,
    reference: Tensor,
    z: Tensor,
    surrogate: Callable[[Tensor], Tensor],
    codec: Callable[[Tensor], Tensor],
) -> Tensor:
    """The five losses of one batch; their sum with `WEIGHTS` is minimised.

    Args:
        network: a SAIN.
        hr: HR images in [0, 1], (N, 3, H, W).
        reference: bicubic LR images, (N, 3, H / s, W / s).
        z: latents of the way back, (N, 3 s^2 - 3, H / s, W / s).
        surrogate: the codec that a gradient passes, `networks.jpeg.DiffJPEG`.
        codec: the codec of users, called with the references, then with the network's LR images; see `codecs.codec`.

    Returns:
        s^2 times `summed_l2` of LR image and reference (l1 of the paper's code), codec channels and codec of the
        reference (l2), rounded LR image and the one of the way back (l3), codec channels and codec of the rounded LR
        image (l4); `summed_l1` of the HR image; (5,).
    """
    lr, channels, _ = network.transform(hr)
    levels = quantize_through(lr)
    back, again, _ = network.inverse(torch.cat([surrogate(levels), z], 1))
    coded = channels[:, :3]
    fits = [(lr, reference), (coded, codec(reference)), (levels, again), (coded, codec(levels.detach()))]
    return torch.stack([*(network.scale**2 * summed_l2(*each) for each in fits), summed_l1(hr, back)])


@torch.no_grad()
def quality(network: SAIN, hr: Tensor, reference: Tensor, codec: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """What a pair does on HR crops through a codec, with the same latents each time.

    Args:
        network: in eval mode.
        hr: HR crops in [0, 1], (N, 3, H, W).
        reference: their bicubic LR images, (N, 3, H / s, W / s).
        codec: see `codecs.codec`.

    Returns:
        psnr_y: mean PSNR of the luma of the HR image from the compressed LR image, border s, dB. lr_psnr: mean PSNR of
        the 8-bit LR image to the reference, RGB, dB. latent: standard deviation of a latent.
    """
    lr = quantize_through(network.encode(hr)[0])
    z = network.gmm.draw(network.latent_shapes(*lr.shape[-2:])[0], [seeded("quality", n) for n in range(len(hr))])
    back = network.decode(torch.cat([codec(lr), z], 1))
    lr_psnr = -10 * (lr - reference).square().mean((1, 2, 3)).log10()
    values = {"psnr_y": psnr_y(back, hr, network.scale).mean(), "lr_psnr": lr_psnr.mean(), "latent": z.std()}
    return {name: value.item() for name, value in values.items()}


def train_sain(
    network: SAIN,
    pairs: Sequence[Pair],
    validation: tuple[Tensor, Tensor],
    checkpoint: str | Path,
    *,
    codec: str = "jpeg",
    compression: int = 75,
    spread: float = 0.01,
    batch: int = 8,
    crop: int = 64,
    clip: float = 10.0,
    weight_decay: float = 1e-5,
    **pace,
) -> SAIN:
    """Train a pair for a codec; resume from `checkpoint`.

    The defaults are for networks of a few blocks on a CPU. SAIN itself: batch 16 of crops of 128, peak 2e-4 halved four
    times in 500,000 iterations, a spread of 1. Latents of that size cost a few blocks their detail, which cannot shrink
    them fast enough (see `rescaler.train_rescaler`).

    Args:
        network: moved to its device by the caller.
        pairs: of `rescaler.references`, of which the bicubic LR images are taken, or of `flow.pairs_of`.
        validation: HR crops never trained on and their bicubic LR images, (N, 3, ., .) in [0, 1].
        checkpoint, pace: file, iterations, peak and whatever else `loop.train_averaged` takes.
        codec: of users, see `codecs.codec`; the surrogate is that of JPEG.
        compression: quality of both, from 1 to 99.
        spread: standard deviation of each component of the latents at the start; it is learned.
        batch, crop: patches of a step, and their HR side, a multiple of 16 s.
        clip: largest norm of a gradient.
        weight_decay: see `rescaler.adam`.

    Returns:
        The averaged network with the highest validation PSNR so far, in eval mode.

    Raises:
        FloatingPointError: a loss is not finite.
        ValueError: no such codec or quality, or `crop` is no multiple of 16 s.
    """
    if crop % (16 * network.scale):
        raise ValueError(f"crop: expected a multiple of {16 * network.scale}, got {crop}")
    device, real = next(network.parameters()).device, make_codec(codec, compression)
    surrogate = DiffJPEG(compression).to(device)
    with torch.no_grad():
        network.gmm.gmm_para[2] += 2 * math.log(spread)
    optimizer = adam(network, decay=weight_decay)
    held_out = tuple(images.to(device) for images in validation)
    factors = torch.tensor(WEIGHTS, device=device)

    def drawn(generator: Generator) -> Tensor:
        hr, lrs = sample_patches(pairs, batch, crop, generator)
        hr, reference = hr.to(device, memory_format=torch.channels_last), lrs[:, :3].to(device)
        z = network.gmm.draw(network.latent_shapes(*lrs.shape[-2:])[0], [generator] * batch)
        return losses(network, hr, reference, z, surrogate, real)

    def validate(average: SAIN) -> tuple[dict[str, float], float]:
        columns = quality(average, *held_out, real)
        return columns, -columns["psnr_y"]

    return train_averaged(
        network, drawn, lambda parts: update(optimizer, network, parts * factors, clip), validate, checkpoint,
        optimizers={"optimizer": optimizer}, facts={"codec": codec, "compression": compression, "spread": spread},
        names=LOSSES, **pace,
    )  # fmt: skip
