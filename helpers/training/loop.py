"""One resumable loop for every training, one learning rate, one export of a checkpoint."""

import csv
import io
import math
import time
from collections.abc import Callable, Container, Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Generator, Tensor, nn

from helpers import files
from helpers.runtime import tqdm


def train(
    step: Callable[[int], Tensor],
    validate: Callable[[int], tuple[dict[str, float], float]],
    state: dict,
    checkpoint: str | Path,
    *,
    iterations: int,
    saves: Container[int],
    prepare: Callable[[int], None] = lambda iteration: None,
    facts: Mapping[str, object] | None = None,
    losses: Sequence[str] = ("train",),
    seconds: float = math.inf,
    progress: bool = True,
) -> dict[str, Tensor] | None:
    """Call `step` for each iteration; validate, keep the best weights and write a checkpoint now and then.

    A run that was stopped, or killed, goes on from its last checkpoint and ends with the weights of an unbroken one.

    Args:
        step: one update, given the iteration's number from 0; returns its loss, shape (), or losses, (K,), detached.
        validate: given the number of iterations done, returns columns of the curve and the criterion: a number of which
            the lowest so far is the best, or NaN where this state is no candidate.
        state: what changes in training, by name: networks, optimizers, CPU generators; in place, `step` and `prepare`
            may also put another object under a name. The weights of `state["average"]` are those that are kept.
        checkpoint: file of the resumable state, replaced atomically; its `.csv` neighbour holds the curve.
        iterations: number of all iterations, those of earlier calls included.
        saves: numbers of iterations done after which to validate and write; the last one always is.
        prepare: builds the part of `state` that an iteration needs and does not have yet; called before each `step`,
            and before a checkpoint is loaded with the number of the last iteration that it has seen.
        facts: plain values that a run cannot change on its way; written to the checkpoint and compared on resuming.
        losses: names of what `step` returns; the curve holds means since the entry before.
        seconds: stop after this time, resumably.
        progress: show a bar.

    Returns:
        The best weights so far, on the CPU, or None where no state was a candidate.

    Raises:
        FloatingPointError: a loss is not finite; names the iteration.
        ValueError: the checkpoint was written with other facts.
    """
    checkpoint, facts = Path(checkpoint), dict(facts or {})
    done, spent, curve, best = 0, 0.0, [], {"value": math.inf, "iteration": 0, "state": None}
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        for name, value in facts.items():
            if saved[name] != value:
                raise ValueError(f"{name}: expected {saved[name]}, as in {checkpoint}, got {value}")
        done, spent, curve, best = (saved[name] for name in ("iteration", "seconds", "curve", "best"))
        prepare(done - 1)
        for name, part in state.items():
            (part.set_state if isinstance(part, Generator) else part.load_state_dict)(saved[name])
    began, recent = time.perf_counter(), []
    for iteration in tqdm(range(done, iterations), initial=done, total=iterations, unit="it", disable=not progress):
        prepare(iteration)
        recent.append(step(iteration))
        if not recent[-1].isfinite().all():
            value = recent[-1].tolist()
            raise FloatingPointError(f"loss is {value} at iteration {iteration}; the last checkpoint is whole")
        done = iteration + 1
        late = time.perf_counter() - began >= seconds
        if done not in saves and done < iterations and not late:
            continue
        means = torch.stack(recent).mean(0).view(-1).tolist()
        recent.clear()
        entry = {"iteration": done, "seconds": round(spent + time.perf_counter() - began, 1)}
        columns, value = validate(done)
        curve.append(entry | dict(zip(losses, means, strict=True)) | columns)
        if value < best["value"]:
            weights = {name: each.cpu().clone() for name, each in state["average"].state_dict().items()}
            best = {"value": value, "iteration": done, "state": weights}
        elapsed = spent + time.perf_counter() - began
        _write(checkpoint, state, facts | {"iteration": done, "seconds": elapsed, "curve": curve, "best": best})
        if late:
            break
    return best["state"]


def train_averaged(
    network: nn.Module,
    losses: Callable[[Generator], Tensor],
    update: Callable[[Tensor], object],
    validate: Callable[[nn.Module], tuple[dict[str, float], float]],
    checkpoint: str | Path,
    *,
    optimizers: Mapping[str, torch.optim.Optimizer],
    facts: Mapping[str, object],
    names: Sequence[str],
    iterations: int = 18_000,
    peak: float = 1e-3,
    cooldown: float = 1.0,
    decay: float = 0.999,
    seed: int = 0,
    every: int = 500,
    seconds: float = math.inf,
    bfloat16: bool = False,
    progress: bool = True,
) -> nn.Module:
    """Train a network and follow it by an average of its weights, which is what is validated, kept and returned.

    Args:
        network: on its device.
        losses: given the generator of all random numbers, the losses of a fresh batch, (K,), with gradients.
        update: takes one step down them.
        validate: given the averaged network, as `validate` of `train`.
        checkpoint, every, seconds, progress: file and pace of `train`; it validates every so many iterations.
        optimizers: what `update` steps, by its name in the checkpoint; the rate of "optimizer" follows `learning_rate`.
        facts: see `train`; the configuration of the network is one besides.
        names: of the losses.
        iterations: number of steps.
        peak, cooldown: see `learning_rate`.
        decay: of the average.
        seed: of the generator.
        bfloat16: compute the losses under autocast to bfloat16; the weights stay float32.

    Returns:
        The average with the lowest criterion so far, in eval mode; without one the network as it is.

    Raises:
        FloatingPointError, ValueError: see `train`.
    """
    device, generator = next(network.parameters()).device, torch.Generator().manual_seed(seed)
    average = deepcopy(network.to(memory_format=torch.channels_last)).eval()

    def step(iteration: int) -> Tensor:
        for group in optimizers["optimizer"].param_groups:
            group["lr"] = learning_rate(iteration, iterations, peak=peak, cooldown=cooldown)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            parts = losses(generator)
        update(parts)
        follow(average, network, max(1 - decay, 1 / (iteration + 2)))
        return parts.detach()

    best = train(
        step, lambda done: validate(average),
        {"network": network, **optimizers, "generator": generator, "average": average}, checkpoint,
        iterations=iterations, saves=range(every, iterations, every), facts={"config": network.config, **facts},
        losses=names, seconds=seconds, progress=progress,
    )  # fmt: skip
    result = deepcopy(network).eval()
    result.load_state_dict(best or network.state_dict())
    return result


def _write(checkpoint: Path, state: dict, progress: dict) -> None:
    parts = {n: part.get_state() if isinstance(part, Generator) else part.state_dict() for n, part in state.items()}
    torch.save(parts | progress, whole := io.BytesIO())  # to a file on a full disk it raises no OSError
    files.replace(checkpoint, whole.getvalue())
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(progress["curve"][0]))
    writer.writeheader()
    writer.writerows(progress["curve"])
    files.replace(checkpoint.with_suffix(".csv"), text.getvalue().encode())


def learning_rate(iteration: int, total: int, *, peak: float, warmup: int = 100, cooldown: float = 0.3) -> float:
    """Rise linearly to `peak`, stay, and fall along a cosine to peak / 100 over the last `cooldown` share.

    The plateau is why a finished run can be lengthened: resume it with a larger total from before the fall.
    """
    rise = min(1.0, (iteration + 1) / warmup)
    into = max(0.0, (iteration - total * (1 - cooldown)) / (total * cooldown))
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, into))))


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, share: float) -> None:
    """Move the parameters of `average` towards those of `network` by `share` of the way."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)


def export(tensors: Mapping[str, Tensor], path: str | Path, *, dtype: torch.dtype = torch.float32, **facts) -> None:
    """Write a trained network as a safetensors file.

    Args:
        tensors: its `state_dict()`, or more.
        path: of the file.
        dtype: of the floating-point tensors in the file.
        facts: configuration, data, recipe; the header holds them as text.
    """
    kept = {name: value.detach().cpu() for name, value in tensors.items()}
    kept = {name: (v.to(dtype) if v.is_floating_point() else v).contiguous() for name, v in kept.items()}
    files.replace(path, save(kept, metadata={name: str(value) for name, value in facts.items()}))
