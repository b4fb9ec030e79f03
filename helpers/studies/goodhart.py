"""Tune LR images to a score within one grey level, and ask what the gain is worth to anybody else."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers import distortions, runs, upscalers
from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize
from helpers.measure import score_lr
from helpers.rescalers import hcd
from helpers.runs import pairs
from helpers.runtime import one_thread, seeded
from helpers.stats import bootstrap, findings, rankings
from helpers.stats.findings import Quantity
from helpers.studies import own_rows

if TYPE_CHECKING:
    from distributed import Client

LEVEL = 1 / 255
STEP = 0.25 * LEVEL
ENDS = ("value", "low", "high")


def name_of(tuned_to: Sequence[str], distortion: str) -> str:
    """What rows call an LR image that was tuned: "tuned(embedded_flow,mse)"."""
    return f"tuned({'+'.join(tuned_to)},{distortion})"


def differentiable(upscaler: str, scale: int, heat: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    """`upscale(lr, generator)`, one draw through which gradients pass to the LR image.

    Args:
        upscaler: "bicubic", or an embedded flow of `upscalers.UPSCALERS`.
        scale: s.
        heat: of the flow.

    Raises:
        ValueError: another upscaler.
    """
    if upscaler == "bicubic":
        how = {"scale_factor": scale, "mode": "bicubic", "align_corners": False}
        return lambda lr, generator: torch.nn.functional.interpolate(lr, **how)
    if not upscaler.startswith("embedded_flow"):
        raise ValueError(f"expected 'bicubic' or an embedded flow to pass gradients, got {upscaler!r}")
    network = upscalers.load_compact_flow(scale, variant=upscaler.removeprefix("embedded_flow").lstrip("_"))
    network.requires_grad_(False)

    def upscale(lr: Tensor, generator: torch.Generator) -> Tensor:
        shapes = network.latent_shapes(*lr.shape[-2:])
        return network.sample(lr, upscalers.draw_latents(shapes, [generator], heat))

    return upscale


def tune(
    hr: Tensor, scale: int, tuned_to: Sequence[str], distortion: str, *, heat: float, steps: int, key: tuple
) -> Tensor:
    """Move the bicubic LR image by at most one grey level a value so that D of its draws falls: signed gradient steps.

    Each step sees a fresh draw of each upscaler. Their D are divided by those of the bicubic LR image, and averaged.

    Args:
        hr: one HR image, (1, 3, H, W) in [0, 1].
        scale: s.
        tuned_to: upscalers, see `differentiable`.
        distortion: D.
        heat: of flows.
        steps: of a quarter of a grey level.
        key: of the draws.

    Returns:
        8-bit levels, (1, 3, H / s, W / s), each within one of the bicubic LR image's.
    """
    start = quantize(DOWNSCALERS["bicubic"](hr, scale))
    away = distortions.against(distortion, hr)
    upscale = {name: differentiable(name, scale, heat) for name in tuned_to}
    with torch.no_grad():
        plain = {name: _draw(each, start, seeded(*key, name, "start")) for name, each in upscale.items()}
        plain = {name: away(sr).mean() for name, sr in plain.items()}
    count = iter(range(2 * steps + 2))

    def loss(lr: Tensor) -> Tensor:
        step = next(count)
        parts = [away(_draw(each, lr, seeded(*key, name, step))) / plain[name] for name, each in upscale.items()]
        return torch.stack(parts).mean(0)

    moved = hcd.descend(
        start, loss, lambda what, shape: torch.zeros(1, *shape), eps=LEVEL, alpha=STEP, steps=steps, norm="linf"
    )
    return quantize(moved)


def _draw(upscale: Callable, lr: Tensor, generator: torch.Generator) -> Tensor:
    return upscale(lr, generator).clamp(0, 1)


def rows(
    experiments: Sequence[runs.Experiment],
    targets: Sequence[tuple[Sequence[str], str]],
    rows_dir: str | Path,
    client: "Client | None" = None,
    *,
    steps: int = 12,
) -> pd.DataFrame:
    """Score tuned LR images by every upscaler and D of some experiments.

    The draws that judge are those of the experiments; none of them was seen in tuning.

    Args:
        experiments: with the images, scale and seed of all; upscaler, heat, draws and D of each.
        targets: upscalers and D that an LR image is tuned to.
        rows_dir, client: as `runs.run`.
        steps: of `tune`.

    Returns:
        Rows as `results.read` gives them, called by `name_of` in the column "downscaler".
    """
    first = experiments[0]
    tasks, weights = {}, {e.upscaler_name: upscalers.weights_hash(e.f_us, e.scale) for e in experiments}
    for image in first.images:
        for tuned_to, distortion in targets:
            keys = [key for each in experiments for key in _keys(each, image, name_of(tuned_to, distortion))]
            arguments = (list(experiments), image, tuple(tuned_to), distortion, steps)
            tasks[f"{image} {name_of(tuned_to, distortion)}"] = keys, arguments

    def holds(image: str, downscaler: str) -> dict[str, str]:
        return {"hr": pairs.hash_of(pairs.load(first, image))}

    return own_rows.fill(tasks, _score, weights, holds, rows_dir, client)


def _keys(experiment: runs.Experiment, image: str, downscaler: str) -> list[tuple]:
    how = {"dataset": experiment.dataset_name, "image": image, "downscaler": downscaler, "scale": experiment.scale}
    how |= {"upscaler": experiment.upscaler_name, "heat": experiment.heat, "seed": experiment.seed}
    return [
        own_rows.key_of(**how, sample=sample, distortion=metric)
        for sample in range(experiment.n_samples)
        for metric in experiment.metrics
    ]


def _score(experiments, image, tuned_to, distortion, steps) -> dict[tuple, dict]:
    first, name, found = experiments[0], name_of(tuned_to, distortion), {}
    with one_thread():
        hr = pairs.load(first, image).cpu()
        heat = max(each.heat for each in experiments)
        key = (first.seed, image, "tune")
        lr = tune(hr, first.scale, tuned_to, distortion, heat=heat, steps=steps, key=key)
        facts = pairs.proof(first, image, hr, lr) | {"device": "cpu"}
        for each in experiments:
            upscale = upscalers.build(each.f_us, scale=each.scale, heat=each.heat)
            several = {d: _alone(distortions.against(d, hr)) for d in each.metrics}
            values = score_lr(hr, lr, upscale, several, n_samples=each.n_samples, key=(each.seed, image))
            of_draws = [value for line in values.tolist() for value in line]
            for at, value in zip(_keys(each, image, name), of_draws, strict=True):
                found[at] = facts | {"value": value}
    return found


def _alone(away: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """D to an HR image that it knows already, as `score_lr` calls it."""
    return lambda sr, hr: away(sr)


def gain(rows: pd.DataFrame, name: str, distortion: str, judges: Sequence[str]) -> Quantity:
    """What an LR image gains over the bicubic one by some judges, as a share of the bicubic one's loss.

    (S(bicubic) - S(name)) / S(bicubic), a ratio of means with a jackknife interval over photographs; of several judges
    the mean, the scores of each divided by its score of bicubic LR images first.

    Args:
        rows: of bicubic and other LR images, by several upscalers.
        name: a downscaler, or one of `name_of`.
        distortion: D.
        judges: upscalers.
    """
    table = _scores(rows, distortion, judges)
    return findings.mean_ratio(table.bicubic - table[name], table.bicubic)


def beyond(rows: pd.DataFrame, name: str, distortion: str, judges: Sequence[str], share: float = 0.5) -> Quantity:
    """`gain` minus a share of the gap between bicubic and Lanczos LR images, whichever of the two is ahead."""
    table = _scores(rows, distortion, judges)
    gap = table.bicubic - table.lanczos
    gap = gap if gap.mean() > 0 else -gap
    return findings.mean_ratio(table.bicubic - table[name] - share * gap, table.bicubic)


def table(rows: pd.DataFrame, names: Sequence[str], distortions: Sequence[str], panels: Mapping[str, Sequence[str]]):
    """`gain` of several LR images by several panels of judges and D, in percent.

    Args:
        rows: see `gain`.
        names: of LR images.
        distortions: D.
        panels: what a panel is called -> its upscalers.

    Returns:
        A line each: LR image, judge ("embedded_flow, lpips"), value, low, high.
    """
    found = []
    for name, (called, judges), d in itertools.product(names, panels.items(), distortions):
        of = gain(rows, name, d, judges)
        found.append({"LR image": name, "judge": f"{called}, {d}", **{k: 100 * getattr(of, k) for k in ENDS}})
    return pd.DataFrame(found)


def seen_by_all(rows: pd.DataFrame, name: str, distortion: str, judges: Sequence[str]) -> Quantity:
    """The smallest of the gains by each judge: what is left where a gain counts only if all upscalers see it.

    The interval is that of 2000 resamples of photographs, percentiles; each resample has its own smallest.
    """
    found = pd.concat(
        {judge: _scores(rows, distortion, [judge])[["bicubic", name]] for judge in judges}, axis=1
    ).dropna()

    def least(means: np.ndarray) -> np.ndarray:
        plain, tuned = means[:, ::2], means[:, 1::2]
        return ((plain - tuned) / plain).min(1)

    means = bootstrap.resample_means(found.to_numpy(), 2000, bootstrap.generator(0, "seen by all"))
    low, high = np.percentile(least(means), (2.5, 97.5))
    return Quantity(float(least(found.mean().to_numpy()[None])[0]), float(low), float(high), len(found))


def transfer(rows: pd.DataFrame, name: str, distortion: str, own: str, other: str) -> Quantity:
    """The gain by another upscaler as a share of the gain by the one that was tuned to."""
    scaled = {judge: _scores(rows, distortion, [judge]) for judge in (own, other)}
    gains = {judge: table.bicubic - table[name] for judge, table in scaled.items()}
    return findings.mean_ratio(gains[other], gains[own])


def _scores(rows: pd.DataFrame, distortion: str, judges: Sequence[str]) -> pd.DataFrame:
    """Photographs x downscalers, the mean over judges, each of whose mean loss of bicubic LR images is 1."""
    parts = []
    for judge in judges:
        table = rankings.per_photograph(rows[(rows.distortion == distortion) & (rows.upscaler == judge)])
        parts.append(table / table.bicubic.mean())
    return sum(parts) / len(parts)
