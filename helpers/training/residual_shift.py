"""Training of compact residual-shifting upscalers: the mean image by L1, then the denoiser around it.

One network trained on bicubic LR images and one on damaged ones differ in nothing else, and so do an upscaler that
returns the mean image and one that draws around it: the four corners of "blind" and "stochastic".
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.degradations import blur_full, jpeg, noise
from helpers.networks.residual_shift import ResidualShift, eta_at
from helpers.runtime import seeded
from helpers.training.flow import Pair, sample_patches
from helpers.training.loop import follow, learning_rate, train

BLURS = 0.2, 1.6  # standard deviations, LR pixels
NOISES = 2 / 255, 25 / 255  # standard deviations: BSRGAN's range
QUALITIES = 30, 95  # of JPEG: BSRGAN's range
KERNELS = ("nearest", "bilinear", "bicubic", "lanczos", "box")  # that a blind network sees


def damage(lr: Tensor, generator: torch.Generator) -> Tensor:
    """Damage each LR image of a batch at random: blur, noise, JPEG, each in three of four images.

    Args:
        lr: in [0, 1], (N, 3, h, w), at least 7x7.
        generator: CPU generator.

    Returns:
        Images of 8-bit levels, same shape.
    """
    found = []
    for image in lr.split(1):
        blurred, noisy, packed, *where = torch.rand(6, generator=generator).tolist()
        low, high = BLURS
        image = blur_full(image, low + where[0] * (high - low)) if blurred < 0.75 else image
        low, high = NOISES
        image = noise(image, low + where[1] * (high - low), generator) if noisy < 0.75 else image
        low, high = QUALITIES
        image = jpeg(image, round(low + where[2] * (high - low))) if packed < 0.75 else image
        found.append(image)
    return (255 * torch.cat(found).clamp(0, 1)).round() / 255


@torch.no_grad()
def errors_left(
    network: ResidualShift, hr: Tensor, lr: Tensor, *, blind: bool = False, points: int = 9, draws: int = 2
) -> list[float]:
    """The `shares` of a trained network: squared errors of its predictions over those of an untrained one's.

    Args:
        network: in eval mode, on the device of the images.
        hr, lr: crops never trained on, (N, 3, ., .) in [0, 1].
        blind: damage the LR images, as in training.
        points: how many values of u.
        draws: of the noise.

    Returns:
        A number at each u.
    """
    lr = damage(lr, seeded("validation")) if blind else lr
    found = []
    for k in range(points):
        eta, parts = eta_at(torch.tensor([k / (points - 1)])), []
        for large, small in zip(hr.split(4), lr.split(4), strict=True):
            mean, condition = network.encode(small)
            r = network.residual(large, mean)
            for q in range(draws):
                noise = torch.randn(r.shape, generator=seeded("left", k, q))
                guess, deviation = network.denoise(network.noisy(r, eta, noise), eta, condition)
                parts.append(((guess - r) / deviation).square().mean((1, 2, 3)))
        found.append(round(torch.cat(parts).mean().item(), 4))
    return found


def train_residual_shift(
    network: ResidualShift,
    pairs: Sequence[Pair],
    validation: tuple[Tensor, Tensor],
    checkpoint: str | Path,
    *,
    blind: bool = False,
    mean_iterations: int = 5000,
    iterations: int = 8000,
    batch: int = 16,
    crop: int = 64,
    peak: float = 1e-3,
    cooldown: float = 0.7,
    decay: float = 0.999,
    seed: int = 0,
    every: int = 500,
    seconds: float = math.inf,
    bfloat16: bool = False,
    progress: bool = True,
) -> ResidualShift:
    """Train encoder and mean image with L1, freeze them, then train the denoiser; resume from `checkpoint`.

    Args:
        network: moved to its device by the caller.
        pairs: of `flow.pairs_of`; for a blind network those of `KERNELS`.
        validation: HR and LR crops never trained on, (N, 3, ., .) in [0, 1].
        checkpoint, every, seconds, progress: file and pace of `loop.train`; it validates every so many iterations.
        blind: damage the LR images, see `damage`, those of the validation too.
        mean_iterations, iterations: steps of the mean image, then of the denoiser.
        batch, crop: patches of a step and their HR side.
        peak, cooldown: see `learning_rate`, for each of the two parts.
        decay: of the exponential moving average of the weights, which is what validation sees and is returned.
        seed: of patches, damage and noise.
        bfloat16: run the convolutions in bfloat16; the rest stays float32.

    Returns:
        The averaged network with the lowest validation loss of the denoiser so far, in eval mode.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    device, total = next(network.parameters()).device, mean_iterations + iterations
    generator = torch.Generator().manual_seed(seed)
    encoder = list(network.encoder.parameters())
    rest = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam([{"params": encoder}, {"params": rest}], lr=peak, betas=(0.9, 0.99))
    average = deepcopy(network).eval()
    hr_seen, lr_seen = validation
    lr_seen = damage(lr_seen, seeded("validation")) if blind else lr_seen
    hr_seen, lr_seen = hr_seen.to(device), lr_seen.to(device)

    def losses(net: ResidualShift, hr: Tensor, lr: Tensor, source: torch.Generator) -> Tensor:
        u = (torch.arange(len(hr)) + torch.rand(1, generator=source)) / len(hr)  # all noise levels in each batch
        unit = torch.randn(hr.shape, generator=source).to(hr)
        eta = eta_at(u).to(hr)
        with torch.no_grad():
            features, mean = net.encoder(lr)
            mean = mean.float()
        r = net.residual(hr, mean)
        condition = net.condition(features[-1][:, : net.config["width"]], mean)
        found, deviation = net.denoise(net.noisy(r, eta, unit), eta, condition)
        return ((found - r) / deviation).square().mean()

    def step(iteration: int) -> Tensor:
        warming = iteration < mean_iterations
        local, span = (iteration, mean_iterations) if warming else (iteration - mean_iterations, iterations)
        rate = learning_rate(local, span, peak=peak, cooldown=cooldown)
        for group, share in zip(optimizer.param_groups, (warming, not warming), strict=True):
            group["lr"] = rate * share
        hr, lr = sample_patches(pairs, batch, crop, generator)
        lr = damage(lr, generator) if blind else lr
        hr, lr = (each.to(device, memory_format=torch.channels_last) for each in (hr, lr))
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = F.l1_loss(network.encoder(lr)[1].float(), hr) if warming else losses(network, hr, lr, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if not warming and local == 0:
            network.encoder.load_state_dict(average.encoder.state_dict())  # the averaged mean image is the one kept
        follow(average, network, max(1 - decay, 1 / (local + 2)))
        return loss.detach()

    @torch.no_grad()
    def validate(done: int) -> tuple[dict[str, float], float]:
        mean = torch.cat([average.encoder(lr)[1] for lr in lr_seen.split(4)])
        psnr = -10 * (mean.clamp(0, 1) - hr_seen).square().mean((1, 2, 3)).log10().mean()
        columns = {"psnr_mean": psnr.item(), "validation": math.nan}
        if done > mean_iterations:
            source = seeded("validation", "noise")
            parts = [losses(average, *each, source) for each in zip(hr_seen.split(4), lr_seen.split(4), strict=True)]
            columns["validation"] = torch.stack(parts).mean().item()
        return columns, columns["validation"]

    state = {"network": network, "optimizer": optimizer, "generator": generator, "average": average}
    best = train(
        step, validate, state, checkpoint, iterations=total, saves=range(every, total, every),
        facts={"config": network.config, "blind": blind}, seconds=seconds, progress=progress,
    )  # fmt: skip
    result = deepcopy(network).eval()
    result.load_state_dict(best or network.state_dict())
    return result
