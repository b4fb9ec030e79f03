"""Training of the embedded distance: variants of photographs, the teacher's distances, a loop that can be stopped."""

import csv
import math
import os
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers import distortions, upscalers
from helpers.degradations import DEGRADATIONS
from helpers.downscalers import DOWNSCALERS, lanczos, resize
from helpers.images import from_uint8, quantize, read_rgb, to_uint8
from helpers.networks.compact_lpips import FLOOR, CompactLPIPS
from helpers.runtime import seeded
from helpers.training import learning_rate

# What the variants are made of. Left out for the test: l0 and l0_smooth, the mixed flow, otsu.
SEEN = tuple(name for name in DOWNSCALERS if not name.startswith("l0"))
HEATS = (0.0, 0.5, 0.8, 1.0, 1.0, 1.1)
SCALES = (2, 4, 4, 4, 8)
INTERPOLATIONS = ("bicubic", "bilinear", "nearest", "lanczos")
LEVELS = {  # degradation -> lowest and highest level, drawn evenly in the logarithm
    "blur": (0.3, 3.0),
    "blur_full": (0.3, 4.0),
    "noise": (0.01, 0.25),
    "contrast": (0.25, 2.5),
    "jpeg": (5, 95),
    "mixed": (1, 2),
    "bsrgan": (1, 5),
}
N_VARIANTS = 24


class Draw:
    """Choices by one generator."""

    def __init__(self, *key: int | str):
        self.generator = seeded(*key)

    def between(self, low: float, high: float) -> float:
        """Evenly between two numbers."""
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def one(self, options: Sequence):
        """One of several."""
        return options[torch.randint(len(options), (), generator=self.generator).item()]

    def some(self, options: Sequence, n: int) -> list:
        """Several different ones."""
        return [options[i] for i in torch.randperm(len(options), generator=self.generator)[:n].tolist()]


def damaged(images: Tensor, draw: Draw) -> Tensor:
    """One of the degradations of `LEVELS` at a level drawn for all images; 8-bit levels."""
    name = draw.one(list(LEVELS))
    low, high = LEVELS[name]
    level = math.exp(draw.between(math.log(low), math.log(high)))
    if isinstance(low, int):
        level = round(level)
    elif name == "blur_full":  # the kernel reaches 3 sigma and must stay inside the image
        level = min(level, (min(images.shape[-2:]) - 1) / 3)
    return quantize(DEGRADATIONS[name](images, level, draw.generator))


def moved(images: Tensor, draw: Draw) -> Tensor:
    """Shifted by up to four pixels, half of the time by whole ones, or turned by up to three degrees."""
    side = images.shape[-1]
    if draw.one((True, False)):
        right, down = (draw.one((-4, -3, -2, -1, 1, 2, 3, 4)) * draw.one((1.0, 0.37)) for _ in range(2))
        angle = 0.0
    else:
        right = down = 0.0
        angle = math.radians(draw.between(-3, 3))
    c, s = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[c, -s, 2 * right / side], [s, c, 2 * down / side]]).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return quantize(F.grid_sample(images, grid, "bilinear", "border", align_corners=False))


def recoloured(images: Tensor, draw: Draw) -> Tensor:
    """Another brightness, gamma, or gain of each channel."""
    kind = draw.one(("brightness", "gamma", "channels"))
    if kind == "brightness":
        return quantize(images + draw.between(-0.2, 0.2))
    if kind == "gamma":
        return quantize(images ** math.exp(draw.between(-0.7, 0.7)))
    return quantize(images * torch.tensor([draw.between(0.7, 1.3) for _ in range(3)]).view(1, 3, 1, 1))


def round_trip(images: Tensor, draw: Draw) -> Tensor:
    """Downscaled, sometimes damaged, and interpolated back."""
    scale = draw.one((2, 4, 8))
    lr = quantize(DOWNSCALERS[draw.one(SEEN)](images, scale))
    if draw.between(0, 1) < 0.3:
        lr = damaged(lr, draw)
    return resize(lr, tuple(images.shape[-2:]), draw.one(INTERPOLATIONS))


def drawn(
    images: Tensor, flow: Callable, scale: int, downscaler: str, key: tuple, damage: Draw | None = None
) -> Tensor:
    """One draw of a flow for each image, 8-bit levels."""
    lr = quantize(DOWNSCALERS[downscaler](images, scale))
    if damage is not None:
        lr = damaged(lr, damage)
    with torch.autocast(lr.device.type, torch.bfloat16):  # twice as fast; only the teacher has to be exact
        sr = flow(lr, [seeded(*key, i) for i in range(len(images))])
    return quantize(sr.float().nan_to_num(0, 0, 0))


@torch.no_grad()
def variants(images: Tensor, flow: Callable[..., Callable], *key: int | str) -> Tensor:
    """What this project compares with a photograph: draws of the flows, round trips, damage, small moves, mixtures.

    All images of the batch get the same 24 kinds of variants, drawn by `key`: six downscalers under one flow, heat
    and latent, as a run compares them; four draws of other flows, most of damaged LR images; five interpolated
    round trips; five degradations, a move and a change of colours of the image itself; two mixtures of the image with
    one of these.

    Args:
        images: HR patches in [0, 1], (N, 3, S, S), S a multiple of 8.
        flow: `flow(scale=..., heat=...)`, as `upscalers.embedded_flow`.
        key: of all choices and draws.

    Returns:
        8-bit levels, uint8, (N, 24, 3, S, S).
    """
    draw = Draw(*key, "variants")
    scale, heat = draw.one(SCALES), draw.one(HEATS)
    first = flow(scale=scale, heat=heat)
    found = [drawn(images, first, scale, name, (*key, 0)) for name in draw.some(SEEN, 6)]
    for number in range(1, 5):
        scale, heat = draw.one(SCALES), draw.one(HEATS)
        damage = draw if number > 1 else None
        found.append(drawn(images, flow(scale=scale, heat=heat), scale, draw.one(SEEN), (*key, number), damage))
    found += [round_trip(images, draw) for _ in range(5)]
    found += [damaged(images, draw) for _ in range(5)]
    found += [moved(images, draw), recoloured(images, draw)]
    for other in draw.some(found, 2):
        share = draw.between(0.1, 0.7)
        found.append(quantize(images + share * (other - images)))
    return to_uint8(torch.stack(found, 1).flatten(0, 1)).unflatten(0, (len(images), len(found)))


def patches(photographs: Sequence[Tensor], n: int, side: int, *key: int | str) -> Tensor:
    """Random square patches, of whole photographs or of their halves; photographs in equal parts.

    Args:
        photographs: uint8 levels, each (3, H, W), sides at least `side`.
        n, side: how many, and how large.
        key: of the choices.

    Returns:
        Patches in [0, 1], (n, 3, side, side).
    """
    draw, found = Draw(*key, "patches"), []
    for _ in range(n):
        image = draw.one(photographs)
        if draw.one((True, False)) and min(image.shape[1:]) >= 2 * side:
            down, right = (int(draw.between(0, size - 2 * side + 1)) for size in image.shape[1:])
            large = from_uint8(image[None, :, down : down + 2 * side, right : right + 2 * side])
            found.append(lanczos(large, 2))
        else:
            down, right = (int(draw.between(0, size - side + 1)) for size in image.shape[1:])
            found.append(from_uint8(image[None, :, down : down + side, right : right + side]))
    return quantize(torch.cat(found))


def groups(
    photographs: Sequence[Tensor], n: int, side: int, *key: int | str, path: str | Path | None = None, batch: int = 16
) -> np.ndarray:
    """Groups of one patch and its variants, all a training needs to know of the photographs.

    Args:
        photographs, side: as `patches`.
        n: number of groups, a multiple of `batch`.
        key: of all choices.
        path: `.npy` file that keeps them; a finished one is read, an unfinished one is begun again.
        batch: patches that share their kinds of variants.

    Returns:
        8-bit levels, uint8, (n, 25, 3, side, side), the patch first; a memory map where there is a `path`.

    Raises:
        ValueError: `n` is no multiple of `batch`, or the file has another shape.
    """
    shape = (n, 1 + N_VARIANTS, 3, side, side)
    if n % batch:
        raise ValueError(f"n: expected a multiple of {batch}, got {n}")
    if path is not None and Path(path).exists():
        found = np.load(path, mmap_mode="r")
        if found.shape != shape:
            raise ValueError(f"{path}: expected groups of shape {shape}, got {found.shape}")
        return found
    part = None if path is None else Path(path).with_suffix(".part")
    levels = np.empty(shape, np.uint8) if part is None else np.lib.format.open_memmap(part, "w+", np.uint8, shape)
    flow = lru_cache(None)(upscalers.embedded_flow)
    for first in range(0, n, batch):
        hr = patches(photographs, batch, side, *key, first)
        levels[first : first + batch, 0] = to_uint8(hr)
        levels[first : first + batch, 1:] = variants(hr, flow, *key, first)
    if part is not None:
        levels.flush()
        os.replace(part, path)
    return levels


def pairwise(
    taps: Sequence[Tensor], weights: Sequence[Tensor], size: int, corner: tuple[int, int] | None = None
) -> list[Tensor]:
    """Distances of all pairs within each group at each position, tap by tap.

    |x/|x| - y/|y||^2 with weights, from inner products: a group of 12 has 66 pairs and only 12 feature maps.

    Args:
        taps: features before they are normalised, (groups x size, C, h, w).
        weights: w_c of each tap, (C,).
        size: images per group.
        corner: in the first tap look at every second row and column only, from this one on; it has most positions.

    Returns:
        One tensor (groups, h w, size, size) per tap, float32, not below 0.
    """
    maps = []
    for number, (features, weight) in enumerate(zip(taps, weights, strict=True)):
        if number == 0 and corner is not None:
            features = features[:, :, corner[0] :: 2, corner[1] :: 2]
        x = features.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, (-1, size)).transpose(1, 2).float()  # (G, P, V, C)
        scale = (torch.linalg.vector_norm(x, dim=-1).square() + FLOOR).rsqrt()
        inner = (x * weight) @ x.mT * scale[..., :, None] * scale[..., None, :]
        own = inner.diagonal(dim1=-2, dim2=-1)
        maps.append((own[..., :, None] + own[..., None, :] - 2 * inner).clamp_min(0))
    return maps


def disagreement(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
    """What is minimised: how far two networks are apart on all pairs of each group.

    Args:
        student, teacher: maps of `pairwise`.

    Returns:
        "maps": mean |root - root| over positions as a share of the teacher's mean root, mean over taps; "taps": mean
        difference of the logarithms of the means over positions, mean over taps; "total": the same of D; "order":
        difference of the differences D(x, y1) - D(x, y2), as a share of the teacher's. Pairs with the patch itself
        weigh four times as much as those of two variants.
    """
    size = student[0].shape[-1]
    a, b = torch.triu_indices(size, size, 1)
    weight = torch.where(a == 0, 4.0, 1.0)
    weight = weight / weight.sum()
    maps, taps, totals = [], [], [0.0, 0.0]
    for own, target in zip(student, teacher, strict=True):
        own, target = own[..., a, b], target[..., a, b]  # (G, P, pairs)
        roots = (target + 1e-4).sqrt()
        error = ((own + 1e-4).sqrt() - roots).abs().mean((0, 1)) @ weight
        maps.append(error / (roots.mean((0, 1)) @ weight))
        means = [own.mean(1), target.mean(1)]
        taps.append(((means[0] + 1e-3).log() - (means[1] + 1e-3).log()).abs().mean(0) @ weight)
        totals = [total + mean for total, mean in zip(totals, means, strict=True)]
    ours, theirs = totals
    total = _apart(ours, theirs) @ weight
    order = _out_of_order(ours[:, : size - 1], theirs[:, : size - 1])  # triu_indices: the first row comes first
    return {"maps": sum(maps) / len(maps), "taps": sum(taps) / len(taps), "total": total, "order": order}


def _apart(ours: Tensor, theirs: Tensor) -> Tensor:
    """Difference of the logarithms of distances (groups, pairs), mean over groups."""
    return ((ours + 5e-3).log() - (theirs + 5e-3).log()).abs().mean(0)


def _out_of_order(ours: Tensor, theirs: Tensor) -> Tensor:
    """Difference of the gaps between the distances of one group, (groups, variants), as a share of the teacher's."""
    gaps = [d[:, :, None] - d[:, None, :] for d in (ours, theirs)]
    return ((gaps[0] - gaps[1]).abs() / (gaps[1].abs() + 0.02)).mean()


def lpips_teacher(device: str | torch.device = "cpu") -> nn.Module:
    """LPIPS v0.1 with the AlexNet trunk, `distortions.lpips` as a network.

    Raises:
        ValueError: the trunk is missing, see `distortions.available`.
    """
    return distortions._network("lpips", torch.device(device))


def lpips_activations(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The taps of LPIPS before they are normalised, as `CompactLPIPS.activations` has its own."""
    return list(network.net(network.scaling_layer(2 * images - 1)))


def lpips_weights(network: nn.Module) -> list[Tensor]:
    """The heads w_c of LPIPS."""
    return [head.model[-1].weight.flatten() for head in network.lins]


def _bridges(network: CompactLPIPS, target_weights: Sequence[Tensor], seed: int) -> nn.ModuleList:
    """Linear maps from the features of each tap to the teacher's, for the training alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = zip(network.config["widths"], target_weights, strict=True)
        return nn.ModuleList(nn.Conv2d(own, len(target), 1) for own, target in widths)


def _regression(bridges: nn.ModuleList, ours: list[Tensor], theirs: list[Tensor], corner: tuple, low: bool) -> Tensor:
    """How badly the teacher's features are a linear function of ours, as a share of their square; sum over taps.

    A group's distances are few numbers a position, its features are many: early on this is what teaches.
    """
    total = 0.0
    for number, (bridge, own, target) in enumerate(zip(bridges, ours, theirs, strict=True)):
        if number < 2:
            own, target = (tap[:, :, corner[0] :: 2, corner[1] :: 2] for tap in (own, target))
        with torch.autocast(own.device.type, torch.bfloat16, enabled=low):
            found = bridge(own)
        target = target.float()
        total = total + (found.float() - target).square().mean() / target.square().mean()
    return total


def turned(images: Tensor, turn: int) -> Tensor:
    """One of the eight flips and transpositions of a square, `turn` from 0 to 7."""
    images = images.transpose(-1, -2) if turn & 1 else images
    return images.flip([d for d, bit in ((-2, 2), (-1, 4)) if turn & bit])


def train_metric(
    network: CompactLPIPS,
    teacher: nn.Module,
    data: Sequence[np.ndarray],
    validation: Sequence[np.ndarray],
    checkpoint: str | Path,
    *,
    iterations: int = 20000,
    pixels: int = 4 * 128 * 128,
    size: int = 12,
    peak: float = 2e-3,
    cooldown: float = 0.5,
    decay: float = 0.999,
    seed: int = 0,
    every: int = 250,
    seconds: float = math.inf,
    bfloat16: bool = True,
    progress: bool = True,
) -> CompactLPIPS:
    """Train the network to the teacher's distances; resumes from `checkpoint`.

    Args:
        network: moved to its device by the caller.
        teacher: LPIPS, `lpips_teacher(device)`.
        data: arrays of `groups`, drawn from in proportion to their pixels.
        validation: the same of photographs never trained on.
        checkpoint: file of the resumable state, replaced atomically; its `.csv` neighbour holds the curve.
        iterations: steps.
        pixels: of the patches of a step; it has pixels / side^2 groups.
        size: images of a group that a step looks at, the patch among them.
        peak, cooldown: see `training.learning_rate`.
        decay: of the exponential moving average of the weights, which is what validation sees and is returned.
        seed: of all choices.
        every: steps between validations, each followed by a checkpoint.
        seconds: stop (resumably) after this time.
        bfloat16: run convolutions in bfloat16; distances stay float32.
        progress: show a bar.

    Returns:
        The averaged network with the lowest validation loss so far, in eval mode.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    device = next(network.parameters()).device
    checkpoint = Path(checkpoint)
    generator = torch.Generator().manual_seed(seed)
    network.to(memory_format=torch.channels_last)
    teacher = deepcopy(teacher).to(memory_format=torch.channels_last)
    target_weights = lpips_weights(teacher)
    bridges = _bridges(network, target_weights, seed).to(device)
    heads = {"params": list(network.heads.parameters()), "share": 10.0}  # a factor for each channel, far from its start
    rest = {"params": [*network.convolutions.parameters(), *bridges.parameters()], "share": 1.0}
    optimizer = torch.optim.Adam([heads, rest], lr=peak, betas=(0.9, 0.99))
    average = deepcopy(network).eval()
    best, start, curve, spent = {"loss": math.inf, "state": None}, 0, [], 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        bridges.load_state_dict(state["bridges"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"].cpu())
        start, curve, spent, best = state["iteration"], state["curve"], state["seconds"], state["best"]

    def save(iteration: int) -> None:
        state = {
            "network": network.state_dict(), "bridges": bridges.state_dict(), "average": average.state_dict(),
            "optimizer": optimizer.state_dict(), "generator": generator.get_state(), "iteration": iteration,
            "curve": curve, "best": best, "seconds": spent + time.perf_counter() - began, "config": network.config,
        }  # fmt: skip
        temporary = checkpoint.with_suffix(".part")
        torch.save(state, temporary)
        os.replace(temporary, checkpoint)
        with open(checkpoint.with_suffix(".csv"), "w", newline="") as file:
            writer = csv.DictWriter(file, list(curve[0]))
            writer.writeheader()
            writer.writerows(curve)

    def losses(model: CompactLPIPS, levels: Tensor, low: bool, corner=None) -> dict[str, Tensor]:
        images = from_uint8(levels.flatten(0, 1).to(device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            ours = model.activations(images)
            with torch.no_grad():
                theirs = lpips_activations(teacher, images)
        n = levels.shape[1]
        with torch.no_grad():
            target = pairwise(theirs, target_weights, n, corner)
        parts = disagreement(pairwise(ours, model.weights(), n, corner), target)
        return parts | ({} if corner is None else {"features": _regression(bridges, ours, theirs, corner, low)})

    shares = torch.tensor([float(array.size) for array in data])
    began, recent = time.perf_counter(), []
    for iteration in tqdm(range(start, iterations), initial=start, total=iterations, unit="it", disable=not progress):
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * learning_rate(iteration, iterations, peak=peak, cooldown=cooldown)
        array = data[torch.multinomial(shares, 1, generator=generator).item()]
        count = max(1, pixels // array.shape[-1] ** 2)
        chosen = torch.randint(len(array), (count,), generator=generator).tolist()
        own = [[0, *(1 + torch.randperm(N_VARIANTS, generator=generator)[: size - 1])] for _ in chosen]
        levels = torch.stack([torch.from_numpy(array[index][kept]) for index, kept in zip(chosen, own, strict=True)])
        levels = turned(levels, torch.randint(8, (), generator=generator).item())
        corner = tuple(torch.randint(2, (2,), generator=generator).tolist())
        parts = losses(network, levels, bfloat16, corner)
        loss = sum(parts.values())
        if not loss.isfinite():
            raise FloatingPointError(f"loss is {loss.item()} at iteration {iteration}; the last checkpoint is whole")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        recent.append(loss.detach())
        with torch.no_grad():
            weight = max(1 - decay, 10 / (iteration + 11))
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), weight)
        late = time.perf_counter() - began >= seconds
        if (iteration + 1) % every and iteration + 1 < iterations and not late:
            continue
        with torch.no_grad():
            found = [losses(average, torch.from_numpy(g[None].copy()), bfloat16) for array in validation for g in array]
        means = {key: torch.stack([each[key] for each in found]).mean().item() for key in found[0]}
        entry = {
            "iteration": iteration + 1, "seconds": round(spent + time.perf_counter() - began, 1),
            "train": torch.stack(recent).mean().item(), "validation": sum(means.values()), **means,
        }  # fmt: skip
        recent.clear()
        if entry["validation"] < best["loss"]:
            best = {"loss": entry["validation"], "iteration": iteration + 1}
            best["state"] = {key: value.clone() for key, value in average.state_dict().items()}
        curve.append(entry)
        save(iteration + 1)
        if late:
            break
    result = deepcopy(network).eval()
    if best["state"] is not None:
        result.load_state_dict(best["state"])
    return result


def fit_heads(
    network: CompactLPIPS,
    teacher: nn.Module,
    data: Sequence[np.ndarray],
    validation: Sequence[np.ndarray],
    *,
    steps: int = 400,
    rate: float = 0.02,
) -> dict[str, float]:
    """Fit the weights w_c once more to all pairs of a patch and a variant, with the features as they are.

    D is linear in w_c, so all groups fit into one batch, which the training never sees. The fit is kept where it
    lowers the same loss (of D and of the gaps within a group) on the held-out photographs.

    Args:
        network: the trained network; its heads are changed in place, or left alone.
        teacher, data, validation: as `train_metric`.
        steps, rate: of Adam.

    Returns:
        Loss on the held-out photographs "before" and "after" the fit; the smaller one is that of the network now.
    """
    device = next(network.parameters()).device
    widths = network.config["widths"]

    @torch.no_grad()
    def squares(arrays: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Squared differences of each channel, mean over positions, (groups, variants, C), and the teacher's D."""
        ours, theirs = [], []
        for levels in (group for array in arrays for group in array):
            images = from_uint8(torch.from_numpy(levels.copy()).to(device))
            ours.append(torch.cat([(tap[1:] - tap[:1]).square().mean((2, 3)) for tap in network(images)], 1))
            taps = [F.normalize(tap, dim=1) for tap in lpips_activations(teacher, images)]
            layers = zip(lpips_weights(teacher), taps, strict=True)
            theirs.append(sum((tap[1:] - tap[:1]).square().mean((2, 3)) @ w for w, tap in layers))
        return torch.stack(ours), torch.stack(theirs)

    def loss(raw: Tensor, ours: Tensor, theirs: Tensor) -> Tensor:
        found = ours @ F.softplus(raw)
        return _apart(found, theirs).mean() + _out_of_order(found, theirs)

    pairs, held_out = squares(data), squares(validation)
    raw = torch.cat([head.detach() for head in network.heads]).clone().requires_grad_()
    before = loss(raw, *held_out).item()
    optimizer = torch.optim.Adam([raw], lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, peak=rate, warmup=1, cooldown=0.7)
        optimizer.zero_grad()
        loss(raw, *pairs).backward()
        optimizer.step()
    after = loss(raw, *held_out).item()
    if after < before:
        for head, fitted in zip(network.heads, raw.detach().split(widths), strict=True):
            head.data.copy_(fitted)
    return {"before": before, "after": after}


def export(network: CompactLPIPS, path: str | Path, **facts: str | float) -> None:
    """Write the weights (float16) with the widths and `facts` (data, recipe) in the header of a safetensors file."""
    tensors = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, str(path), metadata={key: str(value) for key, value in {**network.config, **facts}.items()})


# ---- agreement with the teacher

CALIBRATED = ("lpips", "lpips_embedded", "ssim", "ms_ssim", "dists", "psnr")
TESTED = ("nearest", "bilinear", "bicubic", "lanczos", "dpid", "perceptual", "l0")
TEST_LEVELS = (  # otsu was never trained on
    *(("otsu", level) for level in (5, 15)),
    *(("jpeg", level) for level in (10, 40)),
    *(("noise", level) for level in (0.03, 0.1)),
    *(("blur_full", level) for level in (0.7, 2.0)),
    *(("contrast", level) for level in (0.5, 1.5)),
)


@torch.no_grad()
def fixed_variants(image: Tensor, seed: int, name: str, flow: Callable[..., Callable]) -> dict[tuple[str, str], Tensor]:
    """Variants at fixed levels, by which the agreement is measured: the same for every image.

    Args:
        image: HR image in [0, 1], (1, 3, H, W), sides multiples of 4.
        seed, name: key of draws and noise.
        flow: `flow(scale=..., variant=...)`, as `upscalers.embedded_flow`.

    Returns:
        8-bit levels in [0, 1] by (kind, what): "flow", one draw at x4 and heat 1 for each of `TESTED`; "mixed flow",
        the same of the flow that the training never saw; "bicubic", interpolated LR images; "damage", `TEST_LEVELS`
        on the image itself.
    """
    found = {}
    lrs = {downscaler: quantize(DOWNSCALERS[downscaler](image, 4)) for downscaler in TESTED}
    for kind, variant in (("flow", ""), ("mixed flow", "mixed")):
        upscale = flow(scale=4, variant=variant)
        for downscaler, lr in lrs.items():
            found[kind, downscaler] = quantize(upscale(lr, [seeded(seed, name, 0)]))
    for downscaler, lr in lrs.items():
        found["bicubic", downscaler] = resize(lr, tuple(image.shape[-2:]), "bicubic")
    for kind, level in TEST_LEVELS:
        found["damage", f"{kind} {level:g}"] = quantize(DEGRADATIONS[kind](image, level, seeded(seed, name, kind)))
    return found


def compared(
    images: Sequence[tuple[str, Tensor]], metrics: Sequence[str], *, seed: int = 0
) -> list[dict[str, str | float]]:
    """Distances of each image to its `fixed_variants`.

    Args:
        images: names and HR images, (1, 3, H, W).
        metrics: names as `distortions.against`.
        seed: of the draws.

    Returns:
        One dict per pair: image, kind, variant, and each metric's distance.
    """
    flow, rows = lru_cache(None)(upscalers.embedded_flow), []
    for name, image in images:
        found = fixed_variants(image, seed, name, flow)
        values = {metric: distortions.against(metric, image)(torch.cat(list(found.values()))) for metric in metrics}
        for place, (kind, variant) in enumerate(found):
            each = {metric: value[place].item() for metric, value in values.items()}
            rows.append({"image": name, "kind": kind, "variant": variant, **each})
    return rows


def agreement(table: pd.DataFrame, ours: str = "lpips_embedded", target: str = "lpips") -> dict[str, float]:
    """How well one metric follows another.

    Args:
        table: a row per pair with columns image, `ours` and `target`.

    Returns:
        "spearman" over all pairs; "within", Spearman's rho over the pairs of one image, mean over images; "error", mean
        absolute difference; "relative", the same as a share of the target; "bias", mean difference.
    """
    a, b = table[ours], table[target]
    within = [one[[ours, target]].corr("spearman").iloc[0, 1] for _, one in table.groupby("image")]
    return {
        "n": len(table), "images": table.image.nunique(), "spearman": float(a.corr(b, "spearman")),
        "within": float(np.mean(within)), "error": float((a - b).abs().mean()),
        "relative": float(((a - b).abs() / b).mean()), "bias": float((a - b).mean()),
    }  # fmt: skip


def by_kind(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """`agreement` of all pairs of `compared`, of each kind, and of what the training never saw."""
    kinds = dict(list(table.groupby("kind", sort=False)))
    unseen = {f"never seen: {name}": table[table.variant.str.match(name)] for name in ("l0", "otsu")}
    return {name: agreement(some) for name, some in ({"all": table} | kinds | unseen).items()}


def middle(image: Tensor, side: int) -> Tensor:
    """The square in the middle of an image, (1, 3, H, W), of `side` pixels or as large as the image allows."""
    side = min(side, *image.shape[-2:])
    top, left = ((length - side) // 2 for length in image.shape[-2:])
    return image[..., top : top + side, left : left + side]


def calibrated(folder: str | Path, metrics: Sequence[str] = CALIBRATED) -> list[dict[str, str | float | None]]:
    """Distances of image pairs beside published ones.

    Args:
        folder: `<pair>_ref.png` and `<pair>_dist.png`, and `reference_scores.csv` with the columns metric, source and
            one per pair; rows whose source begins with "published" are compared.
        metrics: keys of `distortions.DISTORTIONS`; one whose weights are missing here has None for its own values.

    Returns:
        Two dicts per metric, "... here" and "... published", where something was published: a value per pair.
    """
    table = pd.read_csv(Path(folder) / "reference_scores.csv")
    published = table[table.source.str.startswith("published")].set_index("metric")
    pairs = sorted(path.name.removesuffix("_ref.png") for path in Path(folder).glob("*_ref.png"))
    images = {pair: [read_rgb(Path(folder) / f"{pair}_{kind}.png") for kind in ("dist", "ref")] for pair in pairs}
    rows = []
    for metric in metrics:
        there = distortions.available(metric) is None
        own = {pair: distortions.DISTORTIONS[metric](*both).item() if there else None for pair, both in images.items()}
        rows.append({"metric": f"{metric} here"} | own)
        if metric in published.index:
            rows.append({"metric": f"{metric} published"} | published.loc[metric, pairs].astype(float).to_dict())
    return rows
