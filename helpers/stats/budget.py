"""Plan a run: how many images and how many draws an effect, a score or a ranking needs."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from helpers.stats import agreement, bootstrap, conditions, rankings

WILCOXON_EFFICIENCY = 3 / math.pi  # 0.955 of the t test's, under normal differences


class Needed(NamedTuple):
    """`table`: one line per size; the smallest sizes from which on a criterion is met (None: none)."""

    table: pd.DataFrame
    n_tau: int | None
    n_signs: int | None


def variance_split(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """Split the variance of a score into images and samples: Var(S) = s_b^2 / N_X + s_w^2 / (N_X N_Q).

    Moment estimators of the one-way random-effects model; N_Q is the harmonic mean of the images' finite draws.

    Args:
        rows, by: as in `rankings.per_image`.

    Returns:
        One line per condition: its name, distortion, n (images), n_samples (N_Q), s_b2 (between images; 0 where its
        estimate is below), s_w2 (within an image), icc (s_b2 / (s_b2 + s_w2)), var_images and var_samples (the two
        terms of the sum), share_samples (share of the second), note.

    Raises:
        ValueError: as `rankings.per_image`.
    """
    table = rankings.per_image(rows, by)
    s_w2 = table["variance"].mean()  # over the images with two finite draws or more
    n = table["mean"].count()
    n_samples = n / (1 / table["draws"].where(table["draws"] > 0)).sum()
    estimate = table["mean"].var(ddof=1) - s_w2 / n_samples
    s_b2 = estimate.clip(lower=0)
    result = pd.DataFrame({"distortion": rows.distortion.iloc[0], "n": n, "n_samples": n_samples})
    result = result.assign(s_b2=s_b2, s_w2=s_w2, icc=s_b2 / (s_b2 + s_w2))
    result = result.assign(var_images=s_b2 / n, var_samples=s_w2 / (n * n_samples))
    result["share_samples"] = result.var_samples / (result.var_images + result.var_samples)
    notes = np.where(estimate < 0, "estimate of s_b2 below 0", "")
    result["note"] = np.where(estimate.isna(), "no split (one image or one draw)", notes)
    return result.rename_axis(conditions.label(by)).reset_index()


def images_for(d_z: float, *, alpha: float = 0.05, power: float = 0.8, pairs: int = 1) -> int:
    """Number of images that show a paired difference with a two-sided Wilcoxon test.

    n = ((z_{1 - alpha / 2} + z_power) / d_z)^2, divided by 3 / pi, the test's efficiency under normal differences.

    Args:
        d_z: the effect, mean / sd of the differences.
        alpha: level, before it is divided by `pairs`.
        power: wanted probability of finding the effect.
        pairs: number of comparisons; alpha / pairs is Holm's worst step.

    Returns:
        The number, rounded up, at least 2.

    Raises:
        ValueError: `d_z` is 0 or not finite, or another argument is out of range.
    """
    if not (math.isfinite(d_z) and d_z and 0 < alpha < 1 and 0 < power < 1 and pairs >= 1):
        got = f"{d_z!r}, {alpha}, {power}, {pairs}"
        raise ValueError(f"expected a finite d_z other than 0, alpha and power in (0, 1), pairs >= 1, got {got}")
    quantiles = float(stats.norm.ppf(1 - alpha / pairs / 2) + stats.norm.ppf(power))
    return max(2, math.ceil((quantiles / d_z) ** 2 / WILCOXON_EFFICIENCY))


def images_for_ranking(
    rows: pd.DataFrame,
    by: str | Sequence[str] = "downscaler",
    *,
    sizes: Sequence[int] | None = None,
    n_subsamples: int = 1000,
    tau: float = 0.95,
    share: float = 0.95,
    seed: int = 0,
) -> Needed:
    """Find how many images give the ranking of all images, from subsamples without replacement.

    A subsample is part of the run that it is compared with: n of N images differ from the full run as much as
    `fresh` = n N / (N - n) new images differ from the population; n = N tests nothing.

    Args:
        rows, by: as in `agreement.kendall`; only images with all conditions are used.
        sizes: n to try, 1 to N; None for all from 2, or 40 of them.
        n_subsamples: number of subsamples for each n.
        tau, share: a size is enough if tau-b is above `tau` in at least `share` of its subsamples.
        seed: seed of the subsamples.

    Returns:
        `Needed`; its table has n, fresh, tau_mean, tau_low (the 1 - `share` quantile), share_tau (of subsamples above
        `tau`), share_signs (in which all pairs significant in the full run keep their sign), pairs (how many those
        are).

    Raises:
        ValueError: as `agreement.kendall`; a size out of range.
    """
    means = agreement.common_means(rows, by)
    d, n_all = agreement.differences(means), len(means)
    some = np.geomspace(2, n_all, 40).round().astype(int)  # small steps where it matters
    sizes = sorted(sizes if sizes is not None else range(2, n_all + 1) if n_all <= 40 else set(some.tolist()))
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= n_all:
        raise ValueError(f"expected sizes from 1 to {n_all}, the images there are, got {sizes}")
    full = d.sum(axis=0, keepdims=True)
    significant = (agreement.compare_pairs(means, d).p_holm < agreement.ALPHA).to_numpy()
    lines = []
    for n in sizes:
        order = bootstrap.generator("subsamples", seed, n).random((n_subsamples, n_all)).argsort(axis=1)
        subsample = (order.argsort(axis=1) < n) @ d
        taus = np.nan_to_num(bootstrap.tau(full, subsample))  # what ranks nothing agrees with nothing
        kept = (np.sign(subsample) == np.sign(full))[:, significant].all(axis=1)
        line = {"n": n, "fresh": n * n_all / (n_all - n) if n < n_all else math.inf, "tau_mean": taus.mean()}
        line |= {"tau_low": np.quantile(taus, 1 - share), "share_tau": (taus > tau).mean()}
        lines.append(line | {"share_signs": kept.mean(), "pairs": significant.sum()})
    table = pd.DataFrame(lines)
    return Needed(table, _from_here(table.n, table.share_tau >= share), _from_here(table.n, table.share_signs >= share))


def samples_or_images(
    rows: pd.DataFrame,
    by: str | Sequence[str] = "downscaler",
    *,
    pairs: Sequence[tuple] | None = None,
    image_cost: float = 1.0,
    most: int = 100,
) -> pd.DataFrame:
    """Find the best number of samples per image, N_Q, at a fixed cost: for each score and each difference.

    Var = s_b^2 / N_X + s_w^2 / (N_X N_Q). A difference f - g is split draw by draw: draw q of an image has the same
    latents for all downscalers, so part of its noise cancels. At a fixed budget N_X (image_cost + N_Q) the best N_Q
    minimises (s_b^2 + s_w^2 / N_Q) (image_cost + N_Q), near sqrt(image_cost s_w^2 / s_b^2); without an image cost it
    is always 1.

    Args:
        rows, by: as in `agreement.kendall`, two draws or more of each image.
        pairs: (f, g) whose difference is split; None for all pairs, the better one as f.
        image_cost: cost of one more image (find, read, downscale), in decoder calls.
        most: largest N_Q to consider.

    Returns:
        One line per condition, then per pair: kind ("score", "difference"), name, mean, se (of the mean), and n,
        n_samples, s_b2, s_w2, share_samples, note of `variance_split`; best_n_samples, and efficiency (variance with
        the best N_Q over variance with this one, at equal cost; 1 is best).

    Raises:
        ValueError: as `rankings.per_image`; unknown pairs, a negative cost, or `most` below 1.
    """
    means = agreement.common_means(rows, by)
    means = means[means.mean().sort_values(kind="stable").index]
    pairs = list(itertools.combinations(means, 2)) if pairs is None else [tuple(pair) for pair in pairs]
    if wrong := [pair for pair in pairs if len(set(pair)) != 2 or not set(pair) <= set(means)]:
        raise ValueError(f"pairs: expected two of {list(means)} each, got {wrong}")
    if not 0 <= image_cost < math.inf or most < 1:
        raise ValueError(f"expected image_cost >= 0 and most >= 1, got {image_cost!r} and {most!r}")
    draws = _draws(rows, by)
    gaps = pd.concat({f"{f} - {g}": draws[f] - draws[g] for f, g in pairs}, names=["pair"]).dropna()
    gaps = gaps.reset_index(name="value").assign(distortion=rows.distortion.iloc[0])
    lines = pd.concat([_split(rows, by).loc[list(means)], _split(gaps, "pair").loc[gaps.pair.unique()]])
    lines["kind"] = np.where(lines.index.isin(means.columns), "score", "difference")
    q = np.arange(1, most + 1)
    total = (lines.s_b2.to_numpy()[:, None] + lines.s_w2.to_numpy()[:, None] / q) * (image_cost + q)
    here = (lines.s_b2 + lines.s_w2 / lines.n_samples) * (image_cost + lines.n_samples)
    lines = lines.assign(best_n_samples=q[total.argmin(axis=1)], efficiency=total.min(axis=1) / here)
    shown = ["kind", "name", "mean", "n", "n_samples", "s_b2", "s_w2", "se", "share_samples"]
    return lines.reset_index(names="name")[[*shown, "best_n_samples", "efficiency", "note"]]


def _from_here(sizes: pd.Series, enough: pd.Series) -> int | None:
    """The smallest size from which on all sizes are enough; None if the largest is not."""
    failed = sizes[~enough]
    left = sizes if failed.empty else sizes[sizes > failed.max()]
    return None if left.empty else int(left.min())


def _split(rows: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """`variance_split` by condition, with the mean and its standard error."""
    split = variance_split(rows, by)
    split = split.set_index(split.columns[0]).assign(mean=rankings.per_image(rows, by)["mean"].mean())
    return split.assign(se=np.sqrt(split.var_images + split.var_samples))


def _draws(rows: pd.DataFrame, by: str | Sequence[str]) -> dict[str, pd.Series]:
    """The values of each condition, indexed by image and sample; NaN where not finite."""
    keys = ["image", *(["seed"] if "seed" in rows else []), "sample"]
    parts = [part for _, part in rows.groupby(conditions.columns(by), dropna=False)]
    names = [rankings.per_image(part, by)["mean"].columns[0] for part in parts]
    finite = [part.set_index(keys).value.replace([math.inf, -math.inf], math.nan) for part in parts]
    return dict(zip(names, finite, strict=True))
