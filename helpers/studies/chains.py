"""Ask how a residual-shifting upscaler answers: its chain step by step, and whether its draws are calibrated."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from helpers.downscalers import bicubic
from helpers.images import quantize
from helpers.networks.residual_shift import ResidualShift
from helpers.runtime import seeded
from helpers.stats import findings, rankings
from helpers.stats.findings import Quantity
from helpers.studies import evidence, twins
from helpers.upscalers import residual_shift

Sampler = Callable[[Tensor, Sequence[Generator]], Tensor]


def walk(network: ResidualShift, lr: Tensor, generator: Generator, steps: int) -> dict[str, Tensor]:
    """The images along one draw's chain.

    Args:
        network: in eval mode.
        lr: one LR image, (1, 3, h, w) in [0, 1].
        generator: of the draw.
        steps: T.

    Returns:
        "mean image", then at each step "step T, noisy" and "step T, guess", T down to 1, (1, 3, s h, s w) in [0, 1].
        The last guess is the draw.
    """
    with torch.no_grad():
        mean = network.encode(lr)[0]
    found = {"mean image": mean.clamp(0, 1)}

    def watch(step: int, x: Tensor, guess: Tensor) -> None:
        found[f"step {step}, noisy"] = network.image(x, mean).clamp(0, 1)
        found[f"step {step}, guess"] = network.image(guess, mean).clamp(0, 1)

    residual_shift.sample(network, lr, [generator], steps, watch=watch)
    return found


def ranks_of(draws: Tensor, hr: Tensor) -> np.ndarray:
    """Shares of the ranks 0 to Q that the true values have among Q draws, over pixels and channels; they sum to 1.

    Calibrated draws give every rank the same share. What equals some draws is spread over the ranks that it may have.

    Args:
        draws: (Q, 3, H, W).
        hr: (1, 3, H, W).
    """
    below, equal = (draws < hr).sum(0).flatten(), (draws == hr).sum(0).flatten()
    counts = torch.zeros(len(draws) + 1, dtype=torch.float64)
    for tie in equal.unique().tolist():
        first = below[equal == tie]
        for more in range(tie + 1):
            counts += torch.bincount(first + more, minlength=len(counts)).double() / (tie + 1)
    return (counts / counts.sum()).numpy()


@torch.no_grad()
def calibrate(
    samplers: Mapping[str, Sampler], images: Mapping[str, Tensor], scale: int, n_draws: int, seed: int = 0
) -> pd.DataFrame:
    """Draw many answers to the bicubic LR image of each photograph, and see where the photograph lies among them.

    Args:
        samplers: name -> `upscale(lr, generators)`.
        images: HR images in [0, 1], (1, 3, H, W), by photograph.
        scale: s.
        n_draws: Q.
        seed: with the photograph and the draw, the key.

    Returns:
        A line per sampler and photograph: error (squared, of the mean of the draws), spread (variance between draws,
        unbiased) and "0" to "Q", the shares of `ranks_of`.
    """
    lines = []
    for name, hr in images.items():
        lr = quantize(bicubic(hr, scale))
        for sampler, upscale in samplers.items():
            keys = [seeded(seed, name, q) for q in range(n_draws)]
            draws = torch.cat([upscale(lr, keys[at : at + 8]) for at in range(0, n_draws, 8)])
            spread, error = draws.var(0).mean().item(), (draws.mean(0) - hr[0]).square().mean().item()
            line = {"sampler": sampler, "photograph": name, "error": error, "spread": spread}
            lines.append(line | dict(enumerate(ranks_of(draws, hr))))
    return pd.DataFrame(lines)


def histogram(table: pd.DataFrame) -> np.ndarray:
    """Mean shares of the ranks of one sampler over photographs."""
    return table[_ranks(table)].mean().to_numpy()


def inside(table: pd.DataFrame) -> dict[float, Quantity]:
    """How often the true value lies within the central intervals of the draws of one sampler.

    With Q draws the interval from the k-th smallest to the k-th largest should hold a share of (Q + 1 - 2 k) / (Q + 1).

    Args:
        table: lines of `calibrate` of one sampler.

    Returns:
        Stated share -> the share of pixels inside, over photographs, for some k.
    """
    ranks = _ranks(table)
    q = len(ranks) - 1
    found = {}
    for k in sorted({max(1, round((q + 1) * tail)) for tail in (0.025, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4)}, reverse=True):
        if 2 * k < q + 1:
            found[(q + 1 - 2 * k) / (q + 1)] = findings.mean(table[ranks[k : q + 1 - k]].sum(axis=1))
    return found


def dispersion(table: pd.DataFrame) -> Quantity:
    """Variance of the draws over the squared error of their mean, which calibrated draws have at Q / (Q + 1) of it.

    Args:
        table: lines of `calibrate` of one sampler.

    Returns:
        The ratio times (Q + 1) / Q: 1 where the draws spread as they should, below where they spread too little.
    """
    q = len(_ranks(table)) - 1
    lines = table.set_index("photograph")
    ratio = findings.mean_ratio(lines.spread, lines.error)
    return ratio._replace(**{name: (q + 1) / q * getattr(ratio, name) for name in ("value", "low", "high")})


def nearest(ratios: Mapping[str, Quantity]) -> str:
    """The sampler whose `dispersion` is the smallest factor away from 1."""
    return min(ratios, key=lambda name: abs(math.log(ratios[name].value)))


def _ranks(table: pd.DataFrame) -> list[int]:
    return [name for name in table if isinstance(name, int)]


def by_steps(rows: pd.DataFrame, names: Mapping[str, float], distortion: str) -> pd.DataFrame:
    """The mean of a D over photographs for each number of steps.

    Args:
        rows: of bicubic LR images, of several upscalers.
        names: upscaler as rows call it -> its number of steps.
        distortion: D.

    Returns:
        One line each: steps, D and loss, a `Quantity`.
    """
    part = rows[(rows.distortion == distortion) & (rows.downscaler == "bicubic")]
    return pd.DataFrame([
        {"steps": steps, "D": distortion, "loss": findings.mean(rankings.per_photograph(own).bicubic)}
        for name, steps in names.items() if len(own := part[part.upscaler == name])
    ])  # fmt: skip


def against(rows: pd.DataFrame, others: pd.DataFrame) -> Quantity:
    """D of one upscaler minus D of another on bicubic LR images, paired by photograph; below 0 where the first wins."""
    one, two = (rankings.per_photograph(part[part.downscaler == "bicubic"]).bicubic for part in (rows, others))
    both = pd.concat({"one": one, "two": two}, axis=1).dropna()
    return findings.mean(both.one - both.two)


def of_draws(parts: twins.Columns, base: str = "bicubic") -> pd.DataFrame:
    """What a draw is worth by the squared error, on the LR images of one downscaler.

    Args:
        parts: rows by upscaler; those without the rows that `twins.split` and `twins.floors` need are left out.
        base: the downscaler.

    Returns:
        A line an upscaler: PSNR of a draw in dB, the deviation between draws (intensities in [0, 1]), the spread's
        share of the score, and how well draws agree with their LR image in dB.
    """
    tables = (twins.split(parts), twins.floors(parts))
    split, floors = (table[table.downscaler == base].set_index("upscaler") for table in tables)
    return pd.DataFrame({
        "PSNR of a draw (dB)": -10 * np.log10(split.score), "spread (deviation)": split.spread ** 0.5,
        "spread / score": split.spread / split.score, "agrees with its LR image (dB)": floors.consistency,
    })  # fmt: skip


def orders(parts: Mapping[int, pd.DataFrame], flow: pd.DataFrame, distances: Sequence[str]) -> pd.DataFrame:
    """Kendall's tau of the ranking of each number of steps to the one of the most, to the flow's and to the paper's.

    Args:
        parts: rows by number of steps, of two downscalers or more.
        flow: rows of another upscaler.
        distances: names of D, each taken by itself.

    Returns:
        One line each: what ("2 steps to the flow"), D, value, low, high, n; value is NaN where there are fewer than
        two of the paper's six.
    """
    most, lines = max(parts), []
    for d in distances:
        ends = {f"{most} steps": evidence.of(parts[most], d), "the flow": evidence.of(flow, d)}
        for n, rows in parts.items():
            own = evidence.of(rows, d)
            found = {what: evidence.tau(own, other) for what, other in ends.items() if what != f"{n} steps"}
            found["the paper"] = twins.paper(own)[0]
            lines += [{"what": f"{n} steps to {what}", "D": d} | tau._asdict() for what, tau in found.items()]
    return pd.DataFrame(lines)
