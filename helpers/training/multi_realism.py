"""Training of the Multi-Realism codec in two stages: bits against squared error, then realism.

Agustsson et al., CVPR 2023, with the weights of variant A (Nikolai10/MRIC, revision db250de), errors in levels of 8
bits: MSE / 100 + beta (4.26 LPIPS + GAN) + 100 lambda bpp, beta from U(0, 5.12) for each image, one lambda a network
(0.128 or 0.032). Here one network has all rates, so lambda falls with the rate level of the image. The first stage is
the rate and the error, at beta = 0. The second trains the decoder alone, beside a discriminator: the bits of a file
stay what the first stage made of them. (Variant A trains all parts in both, 2 million iterations and 0.3 million; it
shows the discriminator other images than the decoder, here both see the same.)
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from helpers.distortions import against
from helpers.downscalers import lanczos
from helpers.images import crop_to_multiple, from_uint8, to_uint8
from helpers.networks.multi_realism import MULTIPLE, Discriminator, MultiRealism
from helpers.training.flow import sample_patches
from helpers.training.loop import follow, learning_rate, train, train_averaged
from helpers.training.recipes import HELD_OUT, SIDE

LARGEST = 5.12  # beta in training; in use it is at most half of that
PLAIN = 0.2  # share of images with beta = 0, which a draw from U(0, 5.12) never is
PERCEPTUAL = 4.26  # weight of LPIPS
MOST, RATIO = 6.4, 3.0  # weight of a bit per pixel at level 0, and by how much it falls from level to level
LOSSES = ("error", "bits")
LOSSES_OF_REALISM = ("error", "perceptual", "deceit", "discriminator")
SHIPPED = {"octaves": 2}  # of the network that comes with the package, beside the defaults; with 6, beta's steps waver
RATES = {"peak": 7e-4, "cooldown": 0.5}  # of its first stage; at 2e-3 the loss jumps
REALISMS = (0.0, 0.64, 2.56)  # where the second stage is validated


def price(level: Tensor) -> Tensor:
    """100 lambda of rate levels: the weight of a bit per pixel beside MSE / 100."""
    return MOST * RATIO**-level


def error(found: Tensor, hr: Tensor) -> Tensor:
    """MSE / 100 of images in [0, 1], in levels of 8 bits, (N,)."""
    return (255 * (found - hr)).square().mean((1, 2, 3)) / 100


def losses(found: Tensor, hr: Tensor, bpp: Tensor, level: Tensor) -> Tensor:
    """Error and price of the bits of a batch, (2,); each image over the root of its price, so that all levels count."""
    cost = price(level)
    return torch.stack([(error(found, hr) / cost.sqrt()).mean(), (bpp * cost.sqrt()).mean()])


def levels_of(count: int, levels: int, generator: Generator) -> Tensor:
    """Rate levels from U(0, L - 1), the ends a little more often, (count,)."""
    return (torch.rand(count, generator=generator) * (levels - 0.5) - 0.25).clamp(0, levels - 1)


def betas_of(count: int, generator: Generator) -> Tensor:
    """beta = 0 with probability `PLAIN`, else from U(0, 5.12), (count,)."""
    plain, betas = torch.rand(2, count, generator=generator)
    return torch.where(plain < PLAIN, 0.0, betas * LARGEST)


def grids_of(photograph: Tensor) -> list[Tensor]:
    """Training images of one photograph, uint8, (3, H, W): itself, and its half by Lanczos if that has 128 pixels."""
    sizes = [photograph]
    if min(photograph.shape[-2:]) >= 256:
        sizes.append(lanczos(crop_to_multiple(photograph, 2), 2))
    return [to_uint8(image)[0] for image in sizes]


def images_of_all(photographs: Sequence[Callable[[], Tensor]], side: int = SIDE) -> tuple[list[Tensor], Tensor]:
    """Training images of photographs, and crops of those that `recipes.HELD_OUT` names.

    Args:
        photographs: functions that read one each, HR images in [0, 1], (1, 3, H, W), sides of at least `side`.
        side: of the held-out crops, which are the bottom right of the photographs; a multiple of 64.

    Returns:
        Images of `grids_of`; HR crops in [0, 1], (N, 3, side, side).

    Raises:
        ValueError: fewer than eight photographs, of which none is held out.
    """
    held_out = set(range(len(photographs))[HELD_OUT])
    if not held_out:
        raise ValueError(f"photographs: expected at least {HELD_OUT.start + 1}, got {len(photographs)}")
    images, crops = [], []
    for number, read in enumerate(photographs):
        found = grids_of(read())
        if number in held_out:
            crops.append(found[0][:, -side:, -side:])
        else:
            images += found
    return images, from_uint8(torch.stack(crops))


@torch.no_grad()
def quality(network: MultiRealism, hr: Tensor) -> dict[str, float]:
    """What each rate level does at beta = 0, rounded as in a file.

    Args:
        network: in eval mode.
        hr: HR crops in [0, 1], (N, 3, H, W), sides multiples of 64.

    Returns:
        psnr_l and bpp_l for each level l: mean PSNR in dB, RGB, clipped; bits per pixel by the entropy model. loss: the
        mean over levels of the sum of `losses`.
    """
    found, total = {}, 0.0
    for number in range(network.levels):
        level = torch.full((len(hr),), float(number), device=hr.device)
        sr, bpp = network(hr, level, torch.zeros_like(level))
        total += losses(sr, hr, bpp, level).sum().item()
        psnr = -10 * (sr.clamp(0, 1) - hr).square().mean((1, 2, 3)).log10()
        found |= {f"psnr_{number}": psnr.mean().item(), f"bpp_{number}": bpp.mean().item()}
    return found | {"loss": total / network.levels}


@torch.no_grad()
def realism_quality(network: MultiRealism, hr: Tensor, distance: str) -> dict[str, float]:
    """What beta does, over all rate levels.

    Args:
        network, hr: as in `quality`.
        distance: the LPIPS of the losses, a key of `DISTORTIONS`.

    Returns:
        psnr_b and lpips_b at each beta b of `REALISMS`, means over levels and crops, RGB, clipped; loss: the mean of
        MSE / 100 + beta 4.26 LPIPS, in which no discriminator speaks.
    """
    perceptual, found, total = against(distance, hr), {}, 0.0
    for beta in REALISMS:
        psnr, lpips = [], []
        for number in range(network.levels):
            level = torch.full((len(hr),), float(number), device=hr.device)
            sr = network(hr, level, torch.full_like(level, beta))[0].clamp(0, 1)
            psnr.append(-10 * (sr - hr).square().mean((1, 2, 3)).log10())
            lpips.append(perceptual(sr))
            total += (error(sr, hr) + beta * PERCEPTUAL * lpips[-1]).mean().item()
        found |= {f"psnr_{beta:g}": torch.cat(psnr).mean().item(), f"lpips_{beta:g}": torch.cat(lpips).mean().item()}
    return found | {"loss": total / len(REALISMS) / network.levels}


def _check_crop(crop: int) -> None:
    if crop % MULTIPLE:
        raise ValueError(f"crop: expected a multiple of {MULTIPLE}, got {crop}")


def _patches(images: Sequence[Tensor], batch: int, crop: int, generator: Generator, device: torch.device) -> Tensor:
    hr, _ = sample_patches([(image, image) for image in images], batch, crop, generator)
    return hr.to(device, memory_format=torch.channels_last)


def train_rates(
    network: MultiRealism,
    images: Sequence[Tensor],
    validation: Tensor,
    checkpoint: str | Path,
    *,
    batch: int = 8,
    crop: int = 128,
    clip: float = 1.0,
    **pace,
) -> MultiRealism:
    """The first stage: train all parts on bits and squared error; resume from `checkpoint`.

    Args:
        network: moved to its device by the caller.
        images: of `grids_of`, all larger than `crop`.
        validation: HR crops never trained on, (N, 3, H, W) in [0, 1], sides multiples of 64.
        checkpoint, pace: file, iterations, peak and whatever else `loop.train_averaged` takes.
        batch, crop: patches of a step, and their side, a multiple of 64.
        clip: largest norm of a gradient.

    Returns:
        The averaged network with the lowest loss on `validation` so far, in eval mode.

    Raises:
        FloatingPointError: a loss is not finite.
        ValueError: `crop` is no multiple of 64.
    """
    _check_crop(crop)
    device = next(network.parameters()).device
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer, held_out = torch.optim.Adam(trained), validation.to(device)

    def drawn(generator: Generator) -> Tensor:
        hr = _patches(images, batch, crop, generator, device)
        level = levels_of(batch, network.levels, generator).to(device)
        sr, bpp = network(hr, level, torch.zeros_like(level), generator)
        return losses(sr, hr, bpp, level)

    def update(parts: Tensor) -> None:
        optimizer.zero_grad()
        parts.sum().backward()
        nn.utils.clip_grad_norm_(trained, clip)
        optimizer.step()

    def validate(average: MultiRealism) -> tuple[dict[str, float], float]:
        columns = quality(average, held_out)
        return columns, columns["loss"]

    facts = {"most": MOST, "ratio": RATIO, "batch": batch, "crop": crop}
    return train_averaged(
        network, drawn, update, validate, checkpoint, optimizers={"optimizer": optimizer}, facts=facts, names=LOSSES,
        **pace,
    )  # fmt: skip


def train_realism(
    network: MultiRealism,
    images: Sequence[Tensor],
    validation: Tensor,
    checkpoint: str | Path,
    *,
    distance: str = "lpips_embedded",
    widths: Sequence[int] = (32, 64, 128, 128),
    batch: int = 8,
    crop: int = 128,
    clip: float = 10.0,
    iterations: int = 4000,
    peak: float = 5e-4,
    peak_of_discriminator: float = 4e-4,
    cooldown: float = 0.7,
    decay: float = 0.999,
    seed: int = 0,
    every: int = 250,
    seconds: float = math.inf,
    progress: bool = True,
) -> MultiRealism:
    """The second stage: train the decoder on error, LPIPS and a discriminator, weighted by beta; resume.

    Args:
        network, images, validation, batch, crop, clip: as in `train_rates`; the network of its end.
        checkpoint, every, seconds, progress: file and pace of `loop.train`; it validates every so many iterations.
        distance: LPIPS of the losses, a key of `DISTORTIONS`: "lpips_embedded", or "lpips", which needs AlexNet.
        widths: of the discriminator.
        iterations: number of steps.
        peak, cooldown: of the decoder, see `loop.learning_rate`; the discriminator's falls along.
        peak_of_discriminator: its learning rate, Adam (0.5, 0.9).
        decay: of the average of the decoder's weights, which is validated, kept and returned.
        seed: of patches, levels and betas, and of the discriminator's weights.

    Returns:
        The averaged network of the last validation, in eval mode: no held-out number speaks for the discriminator.

    Raises:
        FloatingPointError: a loss is not finite.
        ValueError: `crop` is no multiple of 64; `distance` is not here.
    """
    _check_crop(crop)
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    network = network.to(memory_format=torch.channels_last)
    average, held_out = deepcopy(network).eval(), validation.to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Discriminator(network.config["latent"], widths).to(device, memory_format=torch.channels_last)
    decoder = network.decoder()
    optimizer = torch.optim.Adam(decoder, peak)
    critic_optimizer = torch.optim.Adam(critic.parameters(), peak_of_discriminator, (0.5, 0.9))

    def step(iteration: int) -> Tensor:
        rate = learning_rate(iteration, iterations, peak=1.0, cooldown=cooldown)
        for each, most in ((optimizer, peak), (critic_optimizer, peak_of_discriminator)):
            each.param_groups[0]["lr"] = most * rate
        hr = _patches(images, batch, crop, generator, device)
        level, beta = (levels_of(batch, network.levels, generator), betas_of(batch, generator))
        level, beta = level.to(device), beta.to(device)
        with torch.no_grad():
            y, _ = network.compress(hr, level)
        sr, seen = network.decode(y, level, beta), network.scaled(y, level).detach()
        critic.requires_grad_(False)
        parts = torch.stack(
            [
                error(sr, hr).mean(),
                (beta * PERCEPTUAL * against(distance, hr)(sr.clamp(0, 1))).mean(),
                (beta * F.softplus(-critic(sr, seen)).mean(1)).mean(),
            ]
        )
        optimizer.zero_grad()
        parts.sum().backward()
        nn.utils.clip_grad_norm_(decoder, clip)
        optimizer.step()
        critic.requires_grad_(True)
        judged = F.softplus(critic(sr.detach(), seen)).mean() + F.softplus(-critic(hr, seen)).mean()
        critic_optimizer.zero_grad()
        judged.backward()
        critic_optimizer.step()
        follow(average, network, max(1 - decay, 1 / (iteration + 2)))
        return torch.cat([parts, judged.view(1)]).detach()

    def validate(done: int) -> tuple[dict[str, float], float]:
        return realism_quality(average, held_out, distance), -done  # the later the better

    state = {
        "network": network, "critic": critic, "optimizer": optimizer, "critic_optimizer": critic_optimizer,
        "generator": generator, "average": average,
    }  # fmt: skip
    best = train(
        step, validate, state, checkpoint, iterations=iterations, saves=range(every, iterations, every),
        facts={"config": network.config, "distance": distance, "widths": list(widths), "batch": batch, "crop": crop},
        losses=LOSSES_OF_REALISM, seconds=seconds, progress=progress,
    )  # fmt: skip
    result = deepcopy(network).eval()
    result.load_state_dict(best or network.state_dict())
    return result
