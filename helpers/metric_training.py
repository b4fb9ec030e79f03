"""Training of the embedded distance to the distances of its teacher, in a loop that can be stopped at any time."""

import math
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers import distortions
from helpers.images import from_uint8
from helpers.metric_groups import N_VARIANTS
from helpers.networks.compact_lpips import FLOOR, CompactLPIPS
from helpers.runtime import write_checkpoint
from helpers.training import learning_rate


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
        write_checkpoint(checkpoint, state, curve)

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
