"""Training of the embedded compact flow: photographs to patches, and a loop that can be stopped at any time."""

import math
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from helpers.degradations import DEGRADATIONS
from helpers.distortions import DISTORTIONS
from helpers.downscalers import DOWNSCALERS, bicubic, lanczos
from helpers.images import crop_to_multiple, from_uint8, quantize, to_uint8
from helpers.networks.compact_flow import CompactFlow
from helpers.runtime import seeded, write_checkpoint
from helpers.upscalers.registry import draw_latents

Pair = tuple[Tensor, Tensor]  # HR and LR levels of one photograph, uint8, (3, H, W) and (3, H / s, W / s)


def sample_patches(pairs: Sequence[Pair], batch: int, crop: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random aligned crops, flipped and transposed; photographs are drawn in proportion to their area.

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
    """Training pairs of one photograph: whole and at half size, each on two pixel grids, by each downscaler.

    The second grid starts a few pixels further down and right, so that the LR pixels fall differently; at half
    size the traces of the camera and of JPEG are gone.

    Args:
        photograph: (1, 3, H, W) in [0, 1].
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


def learning_rate(iteration: int, total: int, *, peak: float, warmup: int = 100, cooldown: float = 0.3) -> float:
    """Linear warm-up, a plateau, and a cosine fall to peak / 100 over the last `cooldown` share.

    The plateau is why a finished run can be lengthened: resume it with a larger total from before the fall.
    """
    rise = min(1.0, (iteration + 1) / warmup)
    into = max(0.0, (iteration - total * (1 - cooldown)) / (total * cooldown))
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, into))))


def dequantize(hr: Tensor, width: float, generator: torch.Generator) -> Tensor:
    """Add uniform noise of `width` around zero, drawn on the CPU."""
    return hr + ((torch.rand(hr.shape, generator=generator) - 0.5) * width).to(hr)


@torch.no_grad()
def bits_per_dimension(network: CompactFlow, hr: Tensor, lr: Tensor, seed: int = 0) -> float:
    """Mean negative log-likelihood of dequantized images, see `CompactFlow.encode` for the unit."""
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
    """Train the mean image with L1, then the whole flow by maximum likelihood; resumes from `checkpoint`.

    Args:
        network: the flow, moved to its device by the caller.
        pairs: training photographs.
        validation: HR and LR crops never trained on, (N, 3, ., .) in [0, 1].
        checkpoint: file of the resumable state, replaced atomically; its `.csv` neighbour holds the curve.
        mean_iterations: L1 iterations of encoder and mean image before the flow.
        iterations: iterations of the flow.
        batch, crop: patches and their HR side.
        peak, cooldown: see `learning_rate`; the encoder is trained along at 0.7 of the rate.
        decay: of the exponential moving average of the weights, which is what validation sees and is returned.
        seed: of patches and noise.
        every: iterations between validations, each followed by a checkpoint.
        seconds: stop (resumably) after this time.
        bfloat16: run convolutions of the nets in bfloat16; likelihood and 1x1 maps stay float32.
        progress: show a bar.

    Returns:
        The averaged network with the lowest validation bits per dimension so far, in eval mode.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    device = next(network.parameters()).device
    checkpoint = Path(checkpoint)
    generator = torch.Generator().manual_seed(seed)
    encoder = list(network.encoder.parameters())
    rest = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
    optimizer = torch.optim.Adam(
        [{"params": rest, "share": 1.0}, {"params": encoder, "share": 0.7}], lr=peak, betas=(0.9, 0.99)
    )
    network.to(memory_format=torch.channels_last)
    average, best, start, curve, spent = None, {"bits": math.inf, "state": None}, 0, [], 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"].cpu())
        start, curve, spent, best = state["iteration"], state["curve"], state["seconds"], state["best"]
        if state["average"] is not None:
            average = deepcopy(network)
            average.load_state_dict(state["average"])

    def save(iteration: int) -> None:
        state = {
            "network": network.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state(),
            "iteration": iteration, "curve": curve, "seconds": spent + time.perf_counter() - began, "best": best,
            "average": average and average.state_dict(), "config": network.config,
        }  # fmt: skip
        write_checkpoint(checkpoint, state, curve)

    began, recent = time.perf_counter(), []
    total = mean_iterations + iterations
    for iteration in tqdm(range(start, total), initial=start, total=total, unit="it", disable=not progress):
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
            else:
                loss = network.encode(dequantize(hr, network.noise, generator), lr)[1].mean()
        if not loss.isfinite():
            raise FloatingPointError(f"loss is {loss.item()} at iteration {iteration}; the last checkpoint is whole")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        recent.append(loss.detach())
        if not warming:
            if average is None:  # only now: the first flow batch has just set the actnorms
                average = deepcopy(network).eval()
            with torch.no_grad():
                weight = max(1 - decay, 1 / (local + 2))
                torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), weight)
        if (iteration + 1) % every and iteration + 1 < total and time.perf_counter() - began < seconds:
            continue
        entry = {
            "iteration": iteration + 1, "seconds": round(spent + time.perf_counter() - began, 1),
            "train": torch.stack(recent).mean().item(), "validation": math.nan,
        }  # fmt: skip
        recent.clear()
        if average is not None:
            entry["validation"] = bits_per_dimension(average.eval(), *(v.to(device) for v in validation))
            if entry["validation"] < best["bits"]:
                best = {"bits": entry["validation"], "iteration": iteration + 1}
                best["state"] = {k: v.clone() for k, v in average.state_dict().items()}
        curve.append(entry)
        save(iteration + 1)
        if time.perf_counter() - began >= seconds:
            break
    result = deepcopy(network).eval()
    if best["state"] is not None:
        result.load_state_dict(best["state"])
    return result


def export(network: CompactFlow, path: str | Path, **facts: str | float) -> None:
    """Write weights (float32) with configuration and `facts` (data, recipe) in the header of a safetensors file."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    header = {key: str(value) for key, value in {**network.config, **facts}.items()}
    save_file(tensors, str(path), metadata=header)


@torch.no_grad()
def quality(
    network: CompactFlow,
    images: Sequence[tuple[str, Tensor]],
    *,
    heat: float = 1.0,
    n_samples: int = 2,
    metrics: Sequence[str] = ("psnr", "ssim", "ms_ssim"),
    seed: int = 0,
) -> list[dict]:
    """What a card states about a flow, one dict per image, on bicubic LR images.

    Args:
        network: the flow, in eval mode.
        images: names and HR images, (1, 3, H, W), not seen in training.
        heat: standard deviation of the latents of the "heat" columns.
        n_samples: draws per image; the columns hold their mean.
        metrics: names in `DISTORTIONS`.
        seed: with the image's name, the key of noise and draws.

    Returns:
        Per image: bits_per_dimension (of the dequantized image), lr_psnr (dB, of the samples downscaled again
        against the LR image), and each metric at heat 0 ("psnr_0") and at `heat` ("psnr_heat"), and of bicubic
        interpolation ("psnr_bicubic").
    """
    rows = []
    for name, hr in images:
        hr = hr.to(next(network.parameters()))
        lr = bicubic(hr, network.scale)
        noisy = dequantize(hr, network.noise, seeded(seed, name, "dequantize"))
        row = {"image": name, "bits_per_dimension": network.encode(noisy, lr)[1].item()}
        shapes = network.latent_shapes(*lr.shape[-2:])
        generators = [seeded(seed, name, q) for q in range(n_samples)]
        drawn = {
            "0": network.decode(lr, draw_latents(shapes, generators[:1], 0.0))[0],
            "heat": network.decode(lr, [z.to(lr) for z in draw_latents(shapes, generators, heat)])[0],
            "bicubic": F.interpolate(lr, scale_factor=network.scale, mode="bicubic", align_corners=False),
        }
        for label, sr in drawn.items():
            row |= {f"{metric}_{label}": DISTORTIONS[metric](quantize(sr), hr).mean().item() for metric in metrics}
        again = bicubic(quantize(drawn["heat"]), network.scale)
        rows.append(row | {"lr_psnr": DISTORTIONS["psnr"](again, lr).mean().item()})
    return rows


@torch.no_grad()
def stability(
    network: CompactFlow,
    images: Sequence[tuple[str, Tensor]],
    *,
    heat: float = 1.0,
    n_samples: int = 2,
    degradations: Sequence[tuple[str, float]] = (),
    seed: int = 0,
) -> list[dict]:
    """How a flow bears LR images unlike its training data: every downscaler, and bicubic with each degradation.

    Args:
        network, images, heat, n_samples, seed: as in `quality`.
        degradations: pairs of name and level.

    Returns:
        Per condition: non_finite (share of samples with a NaN or an infinity) and largest (absolute value
        before clipping, over all samples).
    """
    conditions = {name: (function, None, None) for name, function in DOWNSCALERS.items()}
    conditions |= {f"{name} {level:g}": (bicubic, DEGRADATIONS[name], level) for name, level in degradations}
    rows = []
    for label, (downscale, degrade, level) in conditions.items():
        bad, largest = [], 0.0
        for name, hr in images:
            lr = quantize(downscale(hr.to(next(network.parameters())), network.scale))
            if degrade is not None:
                lr = quantize(degrade(lr, level, seeded(seed, name, "degradation")))
            generators = [seeded(seed, name, q) for q in range(n_samples)]
            latents = draw_latents(network.latent_shapes(*lr.shape[-2:]), generators, heat)
            sr = network.decode(lr, [z.to(lr) for z in latents])[0]
            bad += (~sr.isfinite().flatten(1).all(1)).tolist()
            largest = max(largest, sr.nan_to_num().abs().max().item())
        rows.append({"condition": label, "non_finite": sum(bad) / len(bad), "largest": largest})
    return rows
