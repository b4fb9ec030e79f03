"""Compare two rankings of the same conditions by rank correlation, with intervals over photographs.

Draws and the images of a photograph are averaged first, as in `rankings`. A pair of conditions "swaps" if its mean
difference, over the images that have every condition, has another sign in the second set. Lower is better unless
`results.lower_is_better` knows that higher is.

An interval runs over every sign that the photographs leave open: those of pairs that t tests, after Holm over all pairs
of both sets, do not tell apart (for constant ones see `inference.unanimous`). It covers its tau in 95 % of sets or more
(in all simulated ones), whatever the number of photographs and conditions, and it is wide where conditions are near
ties. Percentiles of resampled taus are narrower and cover too rarely, because resampling adds noise to that of the
sample: 68 % at seven conditions and 5 photographs, 14 % at twenty and 10 (`python -m tools.simulate`).
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import results
from helpers.stats import bootstrap, conditions, inference, rankings

ALPHA = inference.ALPHA  # a pair is significant where p of the t test, after Holm over all pairs, is below


class Agreement(NamedTuple):
    """Two rankings of the same conditions."""

    tau: float  # tau-b of the mean scores, -1 to 1; NaN where one set ranks nothing
    low: float
    high: float
    interval: str  # how it was made
    n_a: int  # photographs
    n_b: int
    shared: str  # "all" photographs are the same, "none" is, or "some" are
    pairs: pd.DataFrame  # f, g, difference and p_holm in each (_a, _b), swaps, significant (in a)
    holds: bool  # every pair that is significant in the first set keeps its sign


def kendall(a: pd.DataFrame, b: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> Agreement:
    """Kendall's tau-b between the rankings of two sets of rows, with a 95 % interval over photographs.

    Args:
        a: rows of the reference, one per draw, as `rankings.per_image` takes them.
        b: rows to compare; another distortion, upscaler or data set, but the same conditions.
        by: the column, or columns, whose values are the conditions.

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
    tau, low, high, kind = _tau(d_a, d_b, same=one_set and means_a.index.equals(means_b.index))
    pairs = compare_pairs(means_a, d_a).merge(compare_pairs(means_b, d_b), on=["f", "g"], suffixes=("_a", "_b"))
    swaps = np.sign(pairs.difference_a) != np.sign(pairs.difference_b)
    pairs = pairs.assign(swaps=swaps, significant=pairs.p_holm_a < ALPHA)
    shared = "all" if len(both) == len(d_a) == len(d_b) else "some" if len(both) else "none"
    holds = not (pairs.swaps & pairs.significant).any()
    return Agreement(tau, low, high, kind, len(d_a), len(d_b), shared, pairs, holds)


def rank_agreement(a: pd.DataFrame, b: pd.DataFrame) -> pd.Series:
    """Kendall's tau-b of two quantities over the conditions, with a 95 % interval over photographs.

    Args:
        a, b: photographs (index) x conditions: `rankings.per_photograph`, or one name of the tables of `decomposition`
            after `conditions.by_photograph`. Photographs and conditions that both have are used.

    Returns:
        value, low, high (95 %), n (photographs) and conditions.

    Raises:
        ValueError: fewer than two photographs or two conditions in common; or `per_photograph` took them from other
            data sets, whose photographs are not the same for having one name.
    """
    sets = [table.attrs.get("dataset", []) for table in (a, b)]
    if all(sets) and sets[0] != sets[1]:
        raise ValueError(f"expected photographs of one data set, got those of {sets[0]} and {sets[1]}")
    names = [name for name in a if name in b]
    both = pd.concat({"a": a[names], "b": b[names]}, axis=1).dropna()
    if len(both) < 2 or len(names) < 2:
        raise ValueError(f"expected two photographs and two conditions in common, got {len(both)} and {len(names)}")
    value, low, high, _ = _tau(differences(both["a"]), differences(both["b"]), same=True)
    return pd.Series({"value": value, "low": low, "high": high, "n": len(both), "conditions": len(names)})


def common_means(rows: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Means of photographs (index) x conditions, over the images that have all conditions; negated if higher is better.

    Raises:
        ValueError: as `rankings.per_image`; fewer than two conditions, or no such image.
    """
    means = rankings.per_image(rows, by)["mean"].dropna()
    means = -means if results.lower_is_better(rows.distortion.iloc[0]) is False else means
    if means.shape[1] < 2 or means.empty:
        got = f"{list(means)} and {len(means)} such images"
        raise ValueError(f"expected two conditions or more and an image that has all, got {got}")
    return conditions.by_photograph(means, rows)


def differences(means: pd.DataFrame | np.ndarray) -> np.ndarray:
    """f - g of every pair of columns, line by line: (lines, pairs). Equal conditions stay exactly equal in any mean."""
    values = np.asarray(means)
    return np.stack([values[:, f] - values[:, g] for f, g in itertools.combinations(range(values.shape[1]), 2)], axis=1)


def compare_pairs(means: pd.DataFrame, d: np.ndarray) -> pd.DataFrame:
    """One line per pair: f, g, mean difference and p_holm (t test, Holm over all pairs), as in `rankings.paired`."""
    p = inference.t_test(d)
    p[np.isfinite(p)] = inference.holm(p[np.isfinite(p)])
    table = pd.DataFrame(itertools.combinations(means, 2), columns=["f", "g"])
    return table.assign(difference=d.mean(axis=0), p_holm=p)


def _tau(d_a: np.ndarray, d_b: np.ndarray, *, same: bool) -> tuple[float, float, float, str]:
    """tau-b, ends of its interval and how it was made; `same`: the lines are the same photographs."""
    tau = float(bootstrap.tau(d_a.mean(axis=0, keepdims=True), d_b.mean(axis=0, keepdims=True))[0])
    if math.isnan(tau) or min(len(d_a), len(d_b)) < 2:
        return tau, math.nan, math.nan, "no interval (ties only)" if math.isnan(tau) else "no interval (n<2)"
    signs = inference.known_signs(d_a, d_b)
    product = signs[0] * signs[1]
    if same and inference.unanimous(len(d_a)) < ALPHA:  # differences equal on so many agree, whatever their sign
        product = np.where((d_a == d_b).all(axis=0) & np.isnan(product), 1, product)
    norm = math.sqrt((signs[0] != 0).sum() * (signs[1] != 0).sum())
    free = np.isnan(product).sum()
    ends = (np.nansum(product) + np.array([-free, free])) / norm
    return tau, *(float(end) for end in ends.clip(-1, 1)), "signs left open"
