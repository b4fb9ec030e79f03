"""Training of HyperThumbnail: its losses, and the run of a small one that ships.

Qi, Yang et al., CVPR 2023 (AbnerVictor/HyperThumbnail, revision 4bbaba6, src/models/HyperThumbnail_model.py:233-352,
options/train/4x/HyperThumbnail_4x.yml:79-118): distortion of the HR image, distortion of the LR image that a viewer
sees, and the bits of its coefficients; the quantiles of the entropy model have a loss and an optimizer of their own.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from helpers.distortions.luma import psnr_y
from helpers.images import quantize
from helpers.networks.hyperthumbnail import PADDED, HyperThumbnail
from helpers.training.flow import Pair, sample_patches
from helpers.training.loop import train_averaged

LOSSES = ("back", "fit", "rate")
BORDER = 2  # pixels that the official metrics leave out on each side


def losses(found: dict[str, Tensor], hr: Tensor, reference: Tensor, *, fit: float = 0.6, rate: float = 2e-2) -> Tensor:
    """The three losses of one batch; their sum is minimised.

    Args:
        found: what the network returned for `hr`.
        hr: HR images in [0, 1], (N, 3, H, W).
        reference: bicubic LR images, (N, 3, H / s, W / s).
        fit: weight of the LR image's squared error.
        rate: weight of a bit per HR pixel.

    Returns:
        Mean absolute error of the HR image, `fit` times the mean squared error of the LR image that the coefficients
        give, `rate` times bits per HR pixel; (3,).
    """
    back = F.l1_loss(found["out"], hr)
    return torch.stack([back, fit * F.mse_loss(found["rgb"], reference), rate * found["bpp"]])


def optimizers(network: HyperThumbnail, peak: float = 2e-4) -> tuple[torch.optim.Adam, torch.optim.Adam]:
    """Those of the weights and, at 2e-3, of the quantiles."""
    named = [(name.endswith(".quantiles"), each) for name, each in network.named_parameters() if each.requires_grad]
    weights, quantiles = ([each for last, each in named if last == kind] for kind in (False, True))
    return torch.optim.Adam(weights, peak, (0.9, 0.99)), torch.optim.Adam(quantiles, 2e-3, (0.9, 0.99))


def update(
    chosen: tuple[torch.optim.Adam, torch.optim.Adam], network: HyperThumbnail, parts: Tensor, clip: float = 5.0
) -> Tensor:
    """One step of both optimizers; returns the norm of the weights' gradient before it was clipped.

    The official code counts the quantiles' gradient in that norm, which shortens the steps of all others while the
    quantiles are far from their places; here they are kept apart.
    """
    main, auxiliary = chosen
    for each in chosen:
        each.zero_grad()
    parts.sum().backward()
    network.auxiliary().backward()
    norm = nn.utils.clip_grad_norm_(main.param_groups[0]["params"], clip)
    main.step()
    auxiliary.step()
    return norm


@torch.no_grad()
def quality(network: HyperThumbnail, hr: Tensor, reference: Tensor, **weights: float) -> dict[str, float]:
    """What a pair does on HR crops, coefficients and tables rounded.

    Args:
        network: in eval mode.
        hr: HR crops in [0, 1], (N, 3, H, W).
        reference: their bicubic LR images, (N, 3, H / s, W / s).
        weights: of `losses`.

    Returns:
        psnr_y: mean PSNR of the luma of the HR image, border 2, dB. lr_psnr: mean PSNR of the LR image in 8 bits to the
        reference, RGB, dB. bpp: bits per HR pixel by the entropy model. loss: the sum of the losses.
    """
    found = network(hr)
    lr_psnr = -10 * (quantize(found["rgb"]) - reference).square().mean((1, 2, 3)).log10()
    values = {"psnr_y": psnr_y(found["out"], hr, BORDER).mean(), "lr_psnr": lr_psnr.mean(), "bpp": found["bpp"]}
    values["loss"] = losses(found, hr, reference, **weights).sum()
    return {name: value.item() for name, value in values.items()}


def train_hyperthumbnail(
    network: HyperThumbnail,
    pairs: Sequence[Pair],
    validation: tuple[Tensor, Tensor],
    checkpoint: str | Path,
    *,
    fit: float = 0.6,
    rate: float = 2e-2,
    batch: int = 8,
    crop: int = 128,
    clip: float = 5.0,
    **pace,
) -> HyperThumbnail:
    """Train encoder, tables, entropy model and decoders together; resume from `checkpoint`.

    The defaults are for narrow networks on a CPU. HyperThumbnail itself: batch 16 of crops of 256, peak 2e-4 times 0.75
    every 100,000 of 1.8 million iterations.

    Args:
        network: moved to its device by the caller.
        pairs: of `rescaler.references`, of which the bicubic LR images are taken, or of `flow.pairs_of`.
        validation: HR crops never trained on and their bicubic LR images, (N, 3, ., .) in [0, 1].
        checkpoint, pace: file, iterations, peak and whatever else `loop.train_averaged` takes.
        fit, rate: see `losses`.
        batch, crop: patches of a step, and their HR side, a multiple of 64.
        clip: largest norm of a gradient.

    Returns:
        The averaged network with the lowest validation loss so far, in eval mode.

    Raises:
        FloatingPointError: a loss is not finite.
        ValueError: `crop` is no multiple of 64.
    """
    if crop % PADDED:
        raise ValueError(f"crop: expected a multiple of {PADDED}, got {crop}")
    device = next(network.parameters()).device
    chosen = optimizers(network)
    held_out = tuple(images.to(device) for images in validation)

    def drawn(generator: Generator) -> Tensor:
        hr, lrs = sample_patches(pairs, batch, crop, generator)
        hr, reference = hr.to(device, memory_format=torch.channels_last), lrs[:, :3].to(device)
        return losses(network(hr, generator), hr, reference, fit=fit, rate=rate)

    def validate(average: HyperThumbnail) -> tuple[dict[str, float], float]:
        columns = quality(average, *held_out, fit=fit, rate=rate)
        return columns, columns["loss"]

    return train_averaged(
        network, drawn, lambda parts: update(chosen, network, parts, clip), validate, checkpoint,
        optimizers={"optimizer": chosen[0], "auxiliary": chosen[1]}, facts={"fit": fit, "rate": rate}, names=LOSSES,
        **pace,
    )  # fmt: skip
