"""Compare two rankings of the same conditions by rank correlation, with intervals over images.

Draws are averaged first, then images are resampled, as in `rankings`. A pair of conditions "swaps" if its mean
difference, over the images that have every condition, has another sign in the second set. Lower is better unless
`results.lower_is_better` knows that higher is.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from helpers import results
from helpers.stats import bootstrap, rankings

ALPHA = 0.05  # a pair is significant where Wilcoxon's p (Pratt's zeros), after Holm over all pairs, is below


class Agreement(NamedTuple):
    """Two rankings of the same conditions."""

    tau: float  # tau-b of the mean scores, -1 to 1; NaN where one set ranks nothing
    low: float
    high: float
    interval: str  # how it was made
    n_a: int  # images
    n_b: int
    resampling: str  # "paired": the same images; "independent": none in common; "partly paired"
    pairs: pd.DataFrame  # f, g, difference and p_holm in each (_a, _b), swaps, significant (in a)
    holds: bool  # every pair that is significant in the first set keeps its sign


def kendall(
    a: pd.DataFrame,
    b: pd.DataFrame,
    by: str | Sequence[str] = "downscaler",
    *,
    n_resamples: int = rankings.RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Kendall's tau-b between the rankings of two sets of rows, with a 95 % percentile interval over images.

    Images that both sets have (same data set, same name) are resampled jointly, the others independently. With near
    ties the interval reaches too low, not too high, because resampling adds noise to that of the sample.

    Args:
        a: rows of the reference, one per draw, as `rankings.per_image` takes them.
        b: rows to compare; another distortion, upscaler or data set, but the same conditions.
        by: the column, or columns, whose values are the conditions.
        n_resamples, seed: number of bootstrap resamples and their seed.

    Returns:
        An `Agreement`. A pair swaps, too, if its difference is exactly 0 in one set only.

    Raises:
        ValueError: as `rankings.per_image`; other conditions in `a` than in `b`, fewer than two, or no image that has
            all of them.
    """
    means_a, means_b = common_means(a, by), common_means(b, by)
    if set(means_a) != set(means_b):
        raise ValueError(f"expected the same conditions in both, got {list(means_a)} and {list(means_b)}")
    means_b = means_b[means_a.columns]
    one_set = pd.concat([rows.get("dataset", pd.Series("")) for rows in (a, b)]).nunique() == 1
    both = means_a.index.intersection(means_b.index) if one_set else means_a.index[:0]
    d_a, d_b = differences(means_a), differences(means_b)
    tau = bootstrap.tau(d_a.mean(axis=0, keepdims=True), d_b.mean(axis=0, keepdims=True))[0]
    low, high, kind = math.nan, math.nan, "no interval (n<2)" if math.isfinite(tau) else "no interval (ties only)"
    if (n := min(len(d_a), len(d_b))) > 1 and math.isfinite(tau):
        sums = _resample_sums(means_a.index, means_b.index, both, d_a, d_b, n_resamples, seed)
        low, high = np.nanquantile(bootstrap.tau(*sums), [0.025, 0.975])
        kind = "percentile" if n >= rankings.SMALL else "percentile, indicative"
    pairs = compare_pairs(means_a, d_a).merge(compare_pairs(means_b, d_b), on=["f", "g"], suffixes=("_a", "_b"))
    swaps = np.sign(pairs.difference_a) != np.sign(pairs.difference_b)
    pairs = pairs.assign(swaps=swaps, significant=pairs.p_holm_a < ALPHA)
    how = "paired" if len(both) == len(d_a) == len(d_b) else "partly paired" if len(both) else "independent"
    holds = not (pairs.swaps & pairs.significant).any()
    return Agreement(float(tau), float(low), float(high), kind, len(d_a), len(d_b), how, pairs, holds)


def rank_agreement(a: pd.DataFrame, b: pd.DataFrame, *, method: str = "kendall", n_resamples: int = 2000) -> pd.Series:
    """Rank correlation of two quantities over the conditions, with a 95 % percentile interval over images.

    Args:
        a, b: images (index) x conditions: `rankings.per_image(...)["mean"]`, or one name of the tables of
            `decomposition`. Images and conditions that both have are used; the same images are resampled in both.
        method: "kendall" (tau-b) or "spearman" (rho).
        n_resamples: number of bootstrap resamples.

    Returns:
        value, low, high (95 %, percentile), n (images) and conditions.

    Raises:
        ValueError: fewer than two images or two conditions in common; unknown method.
    """
    if method not in ("kendall", "spearman"):
        raise ValueError(f"expected method 'kendall' or 'spearman', got {method!r}")
    names = [name for name in a if name in b]
    both = pd.concat({"a": a[names], "b": b[names]}, axis=1).dropna()
    if len(both) < 2 or len(names) < 2:
        raise ValueError(f"expected two images and two conditions in common, got {len(both)} and {len(names)}")
    means = np.vstack([both.mean(), bootstrap.resample_means(both, n_resamples, np.random.default_rng(0))])
    sides = np.split(means, 2, axis=1)
    correlate, sides = (bootstrap.spearman, sides) if method == "spearman" else (bootstrap.tau, map(differences, sides))
    value, *resampled = correlate(*sides)
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return pd.Series({"value": value, "low": low, "high": high, "n": len(both), "conditions": len(names)})


def common_means(rows: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Per-image means of the images that have all conditions, images (index) x conditions; negated if higher is better.

    Raises:
        ValueError: as `rankings.per_image`; fewer than two conditions, or no such image.
    """
    means = rankings.per_image(rows, by)["mean"].dropna()
    means = -means if results.lower_is_better(rows.distortion.iloc[0]) is False else means
    if means.shape[1] < 2 or means.empty:
        got = f"{list(means)} and {len(means)} such images"
        raise ValueError(f"expected two conditions or more and an image that has all, got {got}")
    return means


def differences(means: pd.DataFrame | np.ndarray) -> np.ndarray:
    """f - g of every pair of columns, line by line: (lines, pairs). Equal conditions stay exactly equal in any mean."""
    values = np.asarray(means)
    return np.stack([values[:, f] - values[:, g] for f, g in itertools.combinations(range(values.shape[1]), 2)], axis=1)


def _resample_sums(names_a, names_b, both, d_a, d_b, n_resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the differences over resampled images; those in `both` sets are drawn once for the two."""
    rng = bootstrap.generator("resamples", seed)

    def drawn(n: int) -> np.ndarray:
        return bootstrap.draw_counts(rng, n, n_resamples) if n else np.zeros((1, 0))

    of_a, of_b, counts = ~names_a.isin(both), ~names_b.isin(both), drawn(len(both))
    sums_a = counts @ d_a[~of_a] + drawn(of_a.sum()) @ d_a[of_a]
    return sums_a, counts @ d_b[~of_b] + drawn(of_b.sum()) @ d_b[of_b]


def compare_pairs(means: pd.DataFrame, d: np.ndarray) -> pd.DataFrame:
    """One line per pair: f, g, mean difference and p_holm (Wilcoxon, Holm over all pairs), as in `rankings.paired`."""
    p = np.array([stats.wilcoxon(column, zero_method="pratt").pvalue if column.any() else 1.0 for column in d.T])
    table = pd.DataFrame(itertools.combinations(means, 2), columns=["f", "g"])
    return table.assign(difference=d.mean(axis=0), p_holm=rankings.holm(p))
