"""What it costs a stranger to learn to read an LR image: a small decoder, trained on n pairs of LR and HR image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import datasets, distortions, runs
from helpers.images import quantize
from helpers.runs import adapters, pairs
from helpers.runtime import one_thread, seeded
from helpers.stats import bootstrap, rankings
from helpers.stats.findings import Quantity
from helpers.studies import own_rows

if TYPE_CHECKING:
    from distributed import Client

FEATURES, BLOCKS, BATCH, CROP, PEAK = 16, 4, 8, 64, 2e-3
NAME = "student"


class Student(nn.Module):
    """Bicubic enlargement plus a small residual network; untrained it is bicubic enlargement exactly."""

    def __init__(self, scale: int):
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, FEATURES, 3, padding=1)
        three = {"kernel_size": 3, "padding": 1}
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(FEATURES, FEATURES, **three), nn.ReLU(), nn.Conv2d(FEATURES, FEATURES, **three))
            for _ in range(BLOCKS)
        )
        self.tail = nn.Conv2d(FEATURES, 3 * scale**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)

    def forward(self, lr: Tensor) -> Tensor:
        """LR images (N, 3, h, w) to SR images (N, 3, s h, s w), not clipped."""
        x = self.head(lr - 0.5)
        for block in self.blocks:
            x = x + block(x)
        plain = F.interpolate(lr, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return plain + F.pixel_shuffle(self.tail(x), self.scale)


def called(n: int) -> str:
    """What rows call the decoder that learned from n pairs."""
    return f"{NAME}({n})"


def count(experiment: runs.Experiment, images: Sequence[str], crop: int = CROP) -> int:
    """How many pairs, crops of `crop` x `crop` HR pixels without overlap, the images hold."""
    return len(_pairs(_source(experiment), tuple(images), "bicubic", crop)[0])


def _source(experiment: runs.Experiment) -> tuple[str, int, int]:
    return experiment.source, experiment.size, experiment.scale


def train(lr: Tensor, hr: Tensor, scale: int, *, steps: int, seed: int) -> Student:
    """Train a decoder on pairs by the mean absolute error; Adam, its rate falling to 0 along a cosine.

    Args:
        lr: (n, 3, h, w) in [0, 1].
        hr: (n, 3, s h, s w).
        scale: s.
        steps: of `BATCH` pairs, drawn with replacement, flipped and turned.
        seed: of the first weights and of the batches.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seeded(seed, NAME).initial_seed())
        network, draw = Student(scale), seeded(seed, NAME, "batches")
        adam = torch.optim.Adam(network.parameters(), PEAK)
        for step in range(steps):
            adam.param_groups[0]["lr"] = PEAK * (1 + math.cos(math.pi * step / steps)) / 2
            picked = torch.randint(len(lr), (BATCH,), generator=draw)
            turn, flip = torch.randint(4, (), generator=draw).item(), torch.randint(2, (), generator=draw).item()
            pair = [torch.rot90(each[picked], turn, (2, 3)) for each in (lr, hr)]
            pair = [each.flip(3) if flip else each for each in pair]
            adam.zero_grad()
            (network(pair[0]) - pair[1]).abs().mean().backward()
            adam.step()
    return network.eval().requires_grad_(False)


def rows(
    experiment: runs.Experiment,
    learnt_from: Sequence[str],
    counts: Sequence[int],
    seeds: Sequence[int],
    rows_dir: str | Path,
    client: "Client | None" = None,
    *,
    steps: int = 300,
    crop: int = CROP,
) -> pd.DataFrame:
    """Train a decoder for each downscaler, number of pairs and seed, and score it on the images of the experiment.

    Args:
        experiment: held-out images, downscalers, scale and D.
        learnt_from: other images of its data set, which the pairs are cut from.
        counts: numbers of pairs; the n are the first n of a list in an order that does not depend on the seed.
        seeds: of the trainings.
        rows_dir, client: as `runs.run`.
        steps, crop: of `train`, and side of the HR crops.

    Returns:
        Rows as `results.read` gives them; `called` names the decoder in the column "upscaler", "seed" the training.

    Raises:
        ValueError: an image is both learnt from and held out, or there are fewer pairs than asked for.
    """
    if both := set(learnt_from) & set(experiment.images):
        raise ValueError(
            f"expected other images to learn from than those held out, got both: {', '.join(sorted(both))}"
        )
    if max(counts) > (most := count(experiment, learnt_from, crop)):
        raise ValueError(f"counts: expected at most {most} pairs of {crop}x{crop} pixels, got {max(counts)}")
    source, specs = _source(experiment), experiment.specs.values()
    lrs, hrs = zip(*(_pairs(source, tuple(learnt_from), f, crop) for f in specs), strict=True)
    learnt = " ".join(pairs.hash_of(each) for each in (torch.cat(lrs), hrs[0]))  # another pixel, another student
    recipe = f"{FEATURES}x{BLOCKS}, {steps} steps of {BATCH} crops of {crop} among {learnt}"
    tasks = {}
    for f in experiment.specs:
        for n in counts:
            for seed in seeds:
                keys = [key for image in experiment.images for key in _keys(experiment, image, f, n, seed)]
                tasks[f"{f} {n} {seed}"] = keys, (experiment, tuple(learnt_from), f, n, seed, steps, crop)
    now = {}

    def holds(image: str, downscaler: str) -> dict[str, str]:
        if (image, downscaler) not in now:
            hr, lr = runs.pair(experiment, image, downscaler)
            now[image, downscaler] = {"hr": pairs.hash_of(hr), "lr": pairs.hash_of(lr)}
        return now[image, downscaler]

    return own_rows.fill(tasks, _learn, {called(n): recipe for n in counts}, holds, rows_dir, client)


def _keys(experiment: runs.Experiment, image: str, f: str, n: int, seed: int) -> list[tuple]:
    how = {"dataset": experiment.dataset_name, "image": image, "downscaler": f, "scale": experiment.scale}
    return [own_rows.key_of(**how, upscaler=called(n), seed=seed, distortion=metric) for metric in experiment.metrics]


@lru_cache(maxsize=8)
def _pairs(experiment_of: tuple, images: tuple[str, ...], f: str, crop: int) -> tuple[Tensor, Tensor]:
    """LR and HR crops of the photographs, without overlap, in an order at random that is always the same."""
    dataset, size, scale = experiment_of
    downscale, lr, hr = adapters.resolve(f), [], []
    for image in images:
        whole = datasets.load(dataset, image, size=size, multiple_of=crop)
        with torch.no_grad():
            lr.append(_crops(quantize(downscale(whole, scale)), crop // scale))
        hr.append(_crops(whole, crop))
    order = torch.randperm(sum(map(len, hr)), generator=seeded(NAME, "order"))
    return torch.cat(lr)[order], torch.cat(hr)[order]


def _crops(image: Tensor, side: int) -> Tensor:
    patches = image.unfold(2, side, side).unfold(3, side, side)
    return patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, side, side)


def _learn(experiment, images, f, n, seed, steps, crop) -> dict[tuple, dict]:
    found = {}
    with one_thread():
        lr, hr = _pairs(_source(experiment), images, experiment.specs[f], crop)
        network = train(lr[:n], hr[:n], experiment.scale, steps=steps, seed=seed)
        for image in experiment.images:
            hr, lr = runs.pair(replace(experiment, device="cpu"), image, f)
            with torch.no_grad():
                sr = quantize(network(lr))
            facts = pairs.proof(experiment, image, hr, lr) | {"device": "cpu"}
            for key in _keys(experiment, image, f, n, seed):
                found[key] = facts | {"value": distortions.against(key[-1], hr)(sr).item()}
    return found


def share(
    students: pd.DataFrame, start: pd.Series, end: pd.Series, counts: Sequence[int]
) -> tuple[dict[int, Quantity], Quantity]:
    """How much of the way from bicubic enlargement to the own decoder students have gone, and the pairs for half of it.

    With mean squared errors E over photographs: (E_start - E_n) / (E_start - E_end), and n_1/2 by interpolation in
    log n between the numbers tried; infinite where the most pairs do not reach half. Intervals are percentiles of 2000
    resamples of photographs; those of the share are the ratio's.

    Args:
        students: photographs x n, the mean over seeds.
        start, end: of each photograph by bicubic enlargement and by the own decoder, of the same LR image.
        counts: n.

    Returns:
        n -> share; and n_1/2.
    """
    table = pd.concat({"start": start, "end": end, **{n: students[n] for n in counts}}, axis=1).dropna()
    means = bootstrap.resample_means(table, 2000, bootstrap.generator(0, "unlocking"))
    whole = table.mean().to_numpy()[None]
    ends = []
    for each in (whole, means):
        shares = (each[:, :1] - each[:, 2:]) / (each[:, :1] - each[:, 1:2])
        ends.append((shares, half_way(shares, counts)))
    (value, half), (shares, halves) = ends
    found = {
        n: Quantity(float(value[0, k]), *map(float, np.percentile(shares[:, k], (2.5, 97.5))), len(table))
        for k, n in enumerate(counts)
    }
    low, high = np.quantile(halves, (0.025, 0.975), method="nearest")
    return found, Quantity(float(half[0]), float(low), float(high), len(table))


def half_way(shares: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Where each line of shares first reaches one half, by linear interpolation in log n.

    Args:
        shares: (lines, numbers of pairs).
        counts: n, growing.

    Returns:
        (lines,): the first n where it is there at once, infinity where it is never.
    """
    logs, found = np.log(np.asarray(counts, float)), np.full(len(shares), np.inf)
    for line, values in enumerate(shares):
        above = np.flatnonzero(values >= 0.5)
        if len(above):
            k = above[0]
            found[line] = counts[0] if k == 0 else np.exp(
                np.interp(0.5, [values[k - 1], values[k]], [logs[k - 1], logs[k]])
            )  # fmt: skip
    return found


def by_photograph(rows: pd.DataFrame, f: str, distortion: str) -> pd.DataFrame:
    """Photographs x numbers of pairs, the mean over the seeds, of one downscaler and D."""
    part = rows[(rows.downscaler == f) & (rows.distortion == distortion)]
    numbers = part.upscaler.str.extract(rf"{NAME}\((\d+)\)")[0].astype(int)
    tables: Mapping = {}
    for n, own in part.groupby(numbers):
        each = [rankings.per_photograph(one)[f] for _, one in own.groupby("seed")]
        tables[n] = sum(each) / len(each)
    return pd.DataFrame(tables)
