"""Training of the embedded compact flow: pairs of photographs, patches of them, likelihood."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.downscalers import DOWNSCALERS, lanczos
from helpers.images import crop_to_multiple, from_uint8, to_uint8
from helpers.networks.compact_flow import CompactFlow
from helpers.runtime import seeded
from helpers.training.energy import Energy
from helpers.training.loop import follow, learning_rate, train
from helpers.training.sheet import Sheet

Pair = tuple[Tensor, Tensor]  # HR and LR levels of one photograph, uint8, (3, H, W) and (3, H / s, W / s)


def sample_patches(pairs: Sequence[Pair], batch: int, crop: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut random aligned patches, flipped and transposed; photographs are drawn in proportion to their area.

    The LR crop is cut from the downscaled photograph: downscaling the HR crop would make other borders.

    Args:
        pairs: photographs, all larger than `crop`.
        batch: number of patches.
        crop: HR side, a multiple of the scale.
        generator: CPU generator.

    Returns:
        HR patches (batch, 3, crop, crop) and LR patches (batch, 3, crop / s, crop / s), in [0, 1].
    """
    areas = torch.tensor([float(hr[0].numel()) for hr, _ in pairs])
    chosen = torch.multinomial(areas, batch, replacement=True, generator=generator).tolist()
    turns = torch.randint(0, 8, (batch,), generator=generator).tolist()
    where = torch.rand(batch, 2, generator=generator).tolist()
    hrs, lrs = [], []
    for index, turn, (down, right) in zip(chosen, turns, where, strict=True):
        hr, lr = pairs[index]
        scale = hr.shape[1] // lr.shape[1]
        side = crop // scale
        y = int(down * (lr.shape[1] - side + 1))
        x = int(right * (lr.shape[2] - side + 1))
        for image, into, s, n in ((hr, hrs, scale, crop), (lr, lrs, 1, side)):
            patch = image[:, y * s : y * s + n, x * s : x * s + n]
            patch = patch.transpose(1, 2) if turn & 1 else patch
            into.append(patch.flip([d for d, bit in ((1, 2), (2, 4)) if turn & bit]))
    return from_uint8(torch.stack(hrs)), from_uint8(torch.stack(lrs))


def pairs_of(
    photograph: Tensor, scale: int, generator: torch.Generator, downscalers: Sequence[str] = ("bicubic",)
) -> list[Pair]:
    """Make training pairs of one photograph: whole and at half size, each on two pixel grids, by each downscaler.

    The second grid starts a few pixels further down and right, so that the LR pixels fall differently; at half
    size the traces of the camera and of JPEG are gone.

    Args:
        photograph: HR image in [0, 1], (1, 3, H, W).
        scale: s; the LR images are rounded to 8 bits.
        generator: draws the second grid.
        downscalers: keys of `DOWNSCALERS`; the shipped flows saw Pillow's bicubic alone, the "mixed" one several.

    Returns:
        Two pairs per downscaler, or four where the shorter side has 320 pixels or more; all downscalers of one
        grid stand together and share the HR tensor.
    """
    sizes = [photograph]
    if min(photograph.shape[-2:]) >= 320:
        sizes.append(lanczos(crop_to_multiple(photograph, 2), 2))
    pairs = []
    for image in sizes:
        for down, right in ((0, 0), torch.randint(1, 8, (2,), generator=generator).tolist()):
            hr = crop_to_multiple(image[..., down:, right:], scale)
            levels = to_uint8(hr)[0]
            pairs += [(levels, to_uint8(DOWNSCALERS[name](hr, scale))[0]) for name in downscalers]
    return pairs


def split(
    photographs: Sequence[Callable[[], Tensor]], scale: int, downscalers: Sequence[str] = ("bicubic",), seed: int = 0
) -> tuple[list[Pair], list[Pair]]:
    """Training pairs of photographs, and one pair of each that is held out: every sixteenth, the eighth first.

    Args:
        photographs: functions that read one each, HR images in [0, 1], (1, 3, H, W).
        scale, downscalers: as `pairs_of`.
        seed: of the second grid of each photograph.

    Returns:
        All pairs of those to train on; of the held-out ones the whole photograph on its first grid, the downscalers
        in turn.

    Raises:
        ValueError: fewer than eight photographs, of which none is held out.
    """
    if len(photographs) < 8:
        raise ValueError(f"photographs: expected at least 8, got {len(photographs)}")
    held_out, grids, pairs = range(7, len(photographs), 16), seeded(seed, "grids"), []
    for number, read in enumerate(photographs):
        if number not in held_out:
            pairs += pairs_of(read(), scale, grids, downscalers)
    found = (pairs_of(photographs[number](), scale, grids, downscalers) for number in held_out)
    return pairs, [each[k % len(downscalers)] for k, each in enumerate(found)]


def corners(pairs: Sequence[Pair], scale: int, side: int = 128) -> tuple[Tensor, Tensor]:
    """The bottom right of each pair, to validate on.

    Args:
        pairs: HR and LR images of 8 bits, HR sides of at least `side`.
        scale: s.
        side: of the HR crops, a multiple of s.

    Returns:
        HR crops, (N, 3, side, side), and LR crops, (N, 3, side / s, side / s), in [0, 1].
    """
    hr, lr = zip(*pairs, strict=True)
    sides = ((hr, side), (lr, side // scale))
    hr, lr = (torch.stack([image[:, -n:, -n:] for image in images]) / 255 for images, n in sides)
    return hr, lr


def dequantize(hr: Tensor, width: float, generator: torch.Generator) -> Tensor:
    """Add uniform noise from -width / 2 to width / 2, drawn on the CPU, to images."""
    return hr + ((torch.rand(hr.shape, generator=generator) - 0.5) * width).to(hr)


@torch.no_grad()
def bits_per_dimension(network: CompactFlow, hr: Tensor, lr: Tensor, seed: int = 0) -> float:
    """Compute the mean negative log-likelihood of dequantized images, in bits per dimension.

    Args:
        network: the flow.
        hr, lr: in [0, 1], (N, 3, H, W) and (N, 3, H / s, W / s).
        seed: of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    values = [
        network.encode(dequantize(h, network.noise, generator), low)[1]
        for h, low in zip(hr.split(4), lr.split(4), strict=True)
    ]
    return torch.cat(values).mean().item()


def train_flow(
    network: CompactFlow,
    pairs: Sequence[Pair],
    validation: tuple[Tensor, Tensor],
    checkpoint: str | Path,
    *,
    energy: Energy | None = None,
    sheet: Sheet | None = None,
    mean_iterations: int = 2000,
    iterations: int = 20000,
    batch: int = 8,
    crop: int = 64,
    peak: float = 1e-3,
    cooldown: float = 0.3,
    decay: float = 0.999,
    seed: int = 0,
    every: int = 500,
    seconds: float = math.inf,
    bfloat16: bool = True,
    progress: bool = True,
) -> CompactFlow:
    """Train the mean image with L1, then the whole flow by maximum likelihood; resume from `checkpoint`.

    Args:
        network: the flow, moved to its device by the caller.
        pairs: training photographs.
        validation: HR and LR crops never trained on, (N, 3, ., .) in [0, 1].
        checkpoint, every, seconds, progress: file and pace of `loop.train`; it validates every so many iterations.
        energy: a score of draws added to the likelihood; it is also the criterion then.
        sheet: draws of the averaged network at checkpoints, as pictures; once the flow itself is trained.
        mean_iterations: L1 iterations of encoder and mean image before the flow.
        iterations: iterations of the flow.
        batch, crop: patches and their HR side.
        peak, cooldown: see `learning_rate`; the encoder is trained along at 0.7 of the rate.
        decay: of the exponential moving average of the weights, which is what validation sees and is returned.
        seed: of patches and noise.
        bfloat16: run convolutions of the nets in bfloat16; likelihood and 1x1 maps stay float32.

    Returns:
        The averaged network with the lowest validation bits per dimension (with `energy`, score) so far, in eval mode.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    device, total = next(network.parameters()).device, mean_iterations + iterations
    generator = torch.Generator().manual_seed(seed)
    encoder = list(network.encoder.parameters())
    rest = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
    optimizer = torch.optim.Adam(
        [{"params": rest, "share": 1.0}, {"params": encoder, "share": 0.7}], lr=peak, betas=(0.9, 0.99)
    )
    network.to(memory_format=torch.channels_last)
    average = deepcopy(network).eval()

    def step(iteration: int) -> Tensor:
        warming = iteration < mean_iterations
        local, span = (iteration, mean_iterations) if warming else (iteration - mean_iterations, iterations)
        rate = learning_rate(local, span, peak=peak, cooldown=cooldown)
        for group in optimizer.param_groups:
            group["lr"] = rate if warming else rate * group["share"]
        hr, lr = (patch.to(device) for patch in sample_patches(pairs, batch, crop, generator))
        network.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            if warming:
                loss = F.l1_loss(network.encoder(lr)[1].float(), hr)
            elif energy is None:
                loss = network.encode(dequantize(hr, network.noise, generator), lr)[1].mean()
            else:
                loss = energy.loss(network, dequantize(hr, network.noise, generator), hr, lr, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        if not warming:
            if local == 0:  # only now: the first flow batch has just set the actnorms
                average.load_state_dict(network.state_dict())
            follow(average, network, max(1 - decay, 1 / (local + 2)))
        return loss.detach()

    def validate(done: int) -> tuple[dict[str, float], float]:
        bits = math.nan
        if done > mean_iterations:
            if sheet is not None:
                sheet.add(average, done)
            bits = bits_per_dimension(average, *(v.to(device) for v in validation))
        if energy is None:
            return {"validation": bits}, bits
        score = energy.validate(average, *(v.to(device) for v in validation))
        return {"validation": bits} | score, sum(score.values())

    state = {"network": network, "optimizer": optimizer, "generator": generator, "average": average}
    best = train(
        step, validate, state, checkpoint, iterations=total, saves=range(every, total, every),
        facts={"config": network.config}, seconds=seconds, progress=progress,
    )  # fmt: skip
    result = deepcopy(network).eval()
    result.load_state_dict(best or network.state_dict())
    return result
