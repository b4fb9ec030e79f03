"""Training of the embedded distance to follow LPIPS: first its features, then its distances; its losses."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from helpers import distortions
from helpers.images import from_uint8
from helpers.networks.compact_lpips import FLOOR, CompactLPIPS
from helpers.training.loop import follow, learning_rate, train
from helpers.training.metric_data import N_VARIANTS


def pairwise(
    taps: Sequence[Tensor], weights: Sequence[Tensor], size: int, corner: tuple[int, int] | None = None
) -> list[Tensor]:
    """Compute the distances of all pairs within each group at each position, tap by tap.

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
    """Compute the losses of the second part: how far two networks are apart on all pairs of each group.

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
    """Load the network of `distortions.lpips`: LPIPS v0.1 with the AlexNet trunk.

    Raises:
        ValueError: the trunk is missing, see `distortions.available`.
    """
    return distortions.network("lpips", torch.device(device))


def lpips_activations(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Compute the taps of LPIPS before they are normalised, those of `CompactLPIPS.activations`."""
    return list(network.net(network.scaling_layer(2 * images - 1)))


def lpips_weights(network: nn.Module) -> list[Tensor]:
    """Return the weights w_c of each tap of LPIPS, (C,)."""
    return [head.model[-1].weight.flatten() for head in network.lins]


def _regression(ours: list[Tensor], theirs: list[Tensor], corner: tuple[int, int]) -> Tensor:
    """Squared difference of two networks' features as a share of the second's square; sum over taps.

    A group's distances are few numbers a position, its features are many: this is what teaches.
    """
    total = 0.0
    for number, (own, target) in enumerate(zip(ours, theirs, strict=True)):
        if number < 2:  # most positions are there
            own, target = (tap[:, :, corner[0] :: 2, corner[1] :: 2] for tap in (own, target))
        target = target.float()
        total = total + (own.float() - target).square().mean() / target.square().mean()
    return total


def _optimizers(modules: Sequence[nn.Module], peak: float) -> dict[str, torch.optim.Optimizer]:
    """Muon for the kernels of all convolutions, Adam, at a tenth of its rate, for the rest.

    Muon (Jordan et al. 2024) makes every direction of an update equally large. Features of photographs are dominated by
    a few smooth ones, and Adam is slower to learn the others.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"this training needs torch 2.9 or newer (torch.optim.Muon), got {torch.__version__}")
    parameters = [p for module in modules for p in module.parameters()]
    kernels = [p for p in parameters if p.ndim == 4]
    matrices = [nn.Parameter(_matrix(p.data)) for p in kernels]  # what Muon takes: views that share the memory
    if any(matrix.data_ptr() != p.data_ptr() for matrix, p in zip(matrices, kernels, strict=True)):
        raise RuntimeError("expected kernels in channels_last memory format")
    muon = torch.optim.Muon(matrices, lr=peak, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    rest = [p for p in parameters if p.ndim != 4]
    return {"muon": muon, "adam": torch.optim.Adam(rest, lr=peak / 10, betas=(0.9, 0.99))}


def _matrix(kernel: Tensor) -> Tensor:
    return kernel.permute(0, 2, 3, 1).flatten(1)


def _update(modules: Sequence[nn.Module], optimizers: dict, loss: Tensor, rate: float) -> None:
    """Make one step of both `optimizers` of the `modules`, gradients clipped."""
    parameters = [p for module in modules for p in module.parameters()]
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 5.0)
    kernels = [p for p in parameters if p.ndim == 4]
    for matrix, kernel in zip(optimizers["muon"].param_groups[0]["params"], kernels, strict=True):
        matrix.grad = _matrix(kernel.grad)
    for name, share in (("muon", 1.0), ("adam", 0.1)):
        optimizers[name].param_groups[0]["lr"] = rate * share
        optimizers[name].step()


def _fold(network: CompactLPIPS, norms: nn.ModuleList) -> None:
    """Put the norms, with their running statistics, into the convolutions before them."""
    for convolution, norm in zip(network.convolutions, norms, strict=True):
        folded = fuse_conv_bn_eval(convolution.eval(), norm.eval())
        convolution.weight.data.copy_(folded.weight)
        convolution.bias.data.copy_(folded.bias)


def _start_heads(network: CompactLPIPS, weights: Sequence[Tensor]) -> None:
    """Set the heads to the teacher's weights w_c, by the inverse of softplus."""
    for head, weight in zip(network.heads, weights, strict=True):
        if head.shape != weight.shape:
            raise ValueError(f"features: expected {len(weight)} channels of a tap, got {len(head)}")
        head.data.copy_(weight.clamp_min(1e-5).expm1().log())


def turn(images: Tensor, number: int) -> Tensor:
    """Flip or transpose square images, (..., S, S), in one of eight ways: `number` from 0 to 7."""
    images = images.transpose(-1, -2) if number & 1 else images
    return images.flip([d for d, bit in ((-2, 2), (-1, 4)) if number & bit])


def train_metric(
    network: CompactLPIPS,
    teacher: nn.Module,
    data: Sequence[np.ndarray],
    validation: Sequence[np.ndarray],
    checkpoint: str | Path,
    *,
    feature_iterations: int = 9000,
    iterations: int = 2200,
    pixels: int = 2 * 128 * 128,
    size: int = 12,
    peak: float = 3e-2,
    pair_peak: float = 5e-4,
    shares: Mapping[str, float] | None = None,
    cooldown: float = 0.65,
    decay: float = 0.995,
    seed: int = 0,
    every: int = 250,
    seconds: float = math.inf,
    bfloat16: bool = True,
    progress: bool = True,
) -> CompactLPIPS:
    """Train a network to the teacher's features, then to its distances; resume from `checkpoint`.

    The first part looks at single images and has a batch norm after each convolution, which is then folded into it.
    The second looks at all pairs of a group, see `disagreement`, and keeps the loss of the features.

    Args:
        network: moved to its device by the caller, with as many features as the teacher.
        teacher: LPIPS, `lpips_teacher(device)`.
        data: arrays of `metric_data.make_groups`, drawn from in proportion to their pixels.
        validation: the same of photographs never trained on.
        checkpoint, every, seconds, progress: file and pace of `loop.train`; it validates every so many steps.
        feature_iterations, iterations: steps of the two parts. Without the first part the network is one that was
            trained before, and its heads are not reset to the teacher's.
        pixels: of the patches of a step; it has pixels / side^2 groups.
        size: images of a group that a step looks at, the patch among them; the first part takes as many images.
        peak, pair_peak: learning rates of Muon in the two parts; Adam, for biases and heads, has a tenth.
        shares: weights in the second part of the losses "features", "maps", "taps", "total" and "order"; 1 where none
            is given. Validation has no weights.
        cooldown: see `loop.learning_rate`.
        decay: of the exponential moving average of the weights in the second part, which is what validation sees then
            and is returned.
        seed: of all choices.
        bfloat16: run convolutions in bfloat16; distances stay float32.

    Returns:
        The averaged network with the lowest validation loss of the second part so far, or the network as the first part
        left it, in eval mode.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: other features than the teacher's, a share of no loss, or torch before 2.9.
    """
    weights = dict.fromkeys(("features", "maps", "taps", "total", "order"), 1.0)
    if unknown := set(shares or {}) - set(weights):
        raise ValueError(f"shares: expected some of {', '.join(weights)}, got {', '.join(sorted(unknown))}")
    weights |= shares or {}
    device, total = next(network.parameters()).device, feature_iterations + iterations
    generator = torch.Generator().manual_seed(seed)
    teacher = deepcopy(teacher).to(memory_format=torch.channels_last)
    target_weights = lpips_weights(teacher)
    if feature_iterations:
        _start_heads(network, target_weights)
    network.to(memory_format=torch.channels_last)
    norms = nn.ModuleList(nn.BatchNorm2d(width) for width in network.config["widths"]).to(device)
    average = deepcopy(network).eval()
    shares = torch.tensor([float(array.size) for array in data])
    state = {"network": network, "norms": norms, "average": average, "generator": generator}
    part = 0  # of the training, 1 or 2

    def prepare(iteration: int) -> None:
        nonlocal part
        wanted = 1 if iteration < feature_iterations else 2
        if part == wanted:
            return
        part = wanted
        if part == 2 and feature_iterations:
            _fold(network, norms)
        average.load_state_dict(network.state_dict())
        state.update(_optimizers([network, norms], peak) if part == 1 else _optimizers([network], pair_peak))

    def losses(
        model: CompactLPIPS, levels: Tensor, low: bool, norms=(), corner=(0, 0), pairs=True
    ) -> dict[str, Tensor]:
        images = from_uint8(levels.flatten(0, 1).to(device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            ours = model.activations(images, norms)
            with torch.no_grad():
                theirs = lpips_activations(teacher, images)
        features = {"features": _regression(ours, theirs, corner)}
        if not pairs:
            return features
        with torch.no_grad():
            target = pairwise(theirs, target_weights, levels.shape[1], corner)
        return features | disagreement(pairwise(ours, model.weights(), levels.shape[1], corner), target)

    def step(iteration: int) -> Tensor:
        first = iteration < feature_iterations
        place, span, height = (
            (iteration, feature_iterations, peak) if first else (iteration - feature_iterations, iterations, pair_peak)
        )
        array = data[torch.multinomial(shares, 1, generator=generator).item()]
        levels = _levels(array, max(1, pixels // array.shape[-1] ** 2), size, generator, whole=not first)
        levels = turn(levels, torch.randint(8, (), generator=generator).item())
        corner = tuple(torch.randint(2, (2,), generator=generator).tolist())
        found = losses(network, levels, bfloat16, norms if first else (), corner, pairs=not first)
        loss = sum(value if first else weights[name] * value for name, value in found.items())
        rate = learning_rate(place, span, peak=height, cooldown=cooldown)
        _update([network, norms] if first else [network], state, loss, rate)
        if not first:
            follow(average, network, max(1 - decay, 1 / (place + 2)))
        return loss.detach()

    @torch.no_grad()
    def validate(done: int) -> tuple[dict[str, float], float]:
        seen, used = (network, norms.eval()) if done <= feature_iterations else (average, ())
        groups = [torch.from_numpy(group[None].copy()) for array in validation for group in array]
        found = [losses(seen, group, bfloat16, used) for group in groups]
        norms.train()
        means = {key: torch.stack([each[key] for each in found]).mean().item() for key in found[0]}
        loss = sum(value for key, value in means.items() if key != "features")
        return {"validation": loss} | means, loss if done > feature_iterations else math.nan

    best = train(
        step, validate, state, checkpoint, iterations=total, prepare=prepare,
        saves={feature_iterations, *range(every, total, every)}, facts={"config": network.config}, seconds=seconds,
        progress=progress,
    )  # fmt: skip
    result = deepcopy(network).eval()
    if best is not None:
        result.load_state_dict(best)
    elif part == 1:
        _fold(result, norms)
    return result


def _levels(array: np.ndarray, count: int, size: int, generator: torch.Generator, *, whole: bool) -> Tensor:
    """Draw images of one array of groups, (count, size, 3, S, S): of one group each, or all from different ones."""
    if whole:
        chosen = torch.randint(len(array), (count,), generator=generator).tolist()
        own = [[0, *(1 + torch.randperm(N_VARIANTS, generator=generator)[: size - 1])] for _ in chosen]
        return torch.stack([torch.from_numpy(array[index][kept]) for index, kept in zip(chosen, own, strict=True)])
    chosen = torch.randint(len(array), (count * size,), generator=generator).tolist()
    kept = torch.randint(1 + N_VARIANTS, (count * size,), generator=generator).tolist()
    images = np.stack([array[index][number] for index, number in zip(chosen, kept, strict=True)])
    return torch.from_numpy(images).unflatten(0, (count, size))


def fit_heads(
    network: CompactLPIPS,
    teacher: nn.Module,
    data: Sequence[np.ndarray],
    validation: Sequence[np.ndarray],
    *,
    steps: int = 400,
    rate: float = 0.02,
) -> dict[str, float]:
    """Fit the weights w_c once more to all pairs of a patch and a variant; the features stay.

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
    features = network.config["features"]

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
        for head, fitted in zip(network.heads, raw.detach().split(features), strict=True):
            head.data.copy_(fitted)
    return {"before": before, "after": after}
