"""Does a ranking hold? Kendall's tau-b between two sets of rows, and how many images and draws it needs.

The units are images, as in `helpers.statistics`: draws are averaged first, images are resampled. A pair of
conditions "swaps" if its mean difference over the images that have every condition changes sign. Lower is
better, but for the metrics that `helpers.distortions` knows as higher is better.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from helpers import results
from helpers.runtime import seeded
from helpers.stats import rankings

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


class Needed(NamedTuple):
    """`table`: one line per size; the smallest sizes from which on a criterion is met (None: none)."""

    table: pd.DataFrame
    n_tau: int | None
    n_signs: int | None


def kendall(
    a: pd.DataFrame,
    b: pd.DataFrame,
    by: str | Sequence[str] = "downscaler",
    *,
    n_resamples: int = rankings.RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Kendall's tau-b between the rankings of two sets of rows, with a 95 % percentile interval over images.

    Images that both sets have (same data set, same name) are resampled jointly, the others independently.
    Resampling adds noise to that of the sample: with near ties the interval reaches too low, not too high.

    Args:
        a: rows of the reference, one per draw, as `rankings.per_image` takes them.
        b: rows to compare; another distortion, upscaler or data set, but the same conditions.
        by: the column, or columns, whose values are the conditions.
        n_resamples, seed: of the bootstrap.

    Returns:
        An `Agreement`. A pair swaps, too, if its difference is exactly 0 in one set only.

    Raises:
        ValueError: as `rankings.per_image`; other conditions in `a` than in `b`, fewer than two, or no
            image that has all of them.
    """
    means_a, means_b = _means(a, by), _means(b, by)
    if set(means_a) != set(means_b):
        raise ValueError(f"expected the same conditions in both, got {list(means_a)} and {list(means_b)}")
    means_b = means_b[means_a.columns]
    one_set = pd.concat([rows.get("dataset", pd.Series("")) for rows in (a, b)]).nunique() == 1
    both = means_a.index.intersection(means_b.index) if one_set else means_a.index[:0]
    d_a, d_b = _differences(means_a), _differences(means_b)
    tau = _tau(d_a.mean(axis=0, keepdims=True), d_b.mean(axis=0, keepdims=True))[0]
    low, high, kind = math.nan, math.nan, "no interval (n<2)" if math.isfinite(tau) else "no interval (ties only)"
    if (n := min(len(d_a), len(d_b))) > 1 and math.isfinite(tau):
        sums = _resampled(means_a.index, means_b.index, both, d_a, d_b, n_resamples, seed)
        low, high = np.nanquantile(_tau(*sums), [0.025, 0.975])
        kind = "percentile" if n >= rankings.SMALL else "percentile, indicative"
    pairs = _pairs(means_a, d_a).merge(_pairs(means_b, d_b), on=["f", "g"], suffixes=("_a", "_b"))
    swaps = np.sign(pairs.difference_a) != np.sign(pairs.difference_b)
    pairs = pairs.assign(swaps=swaps, significant=pairs.p_holm_a < ALPHA)
    how = "paired" if len(both) == len(d_a) == len(d_b) else "partly paired" if len(both) else "independent"
    holds = not (pairs.swaps & pairs.significant).any()
    return Agreement(float(tau), float(low), float(high), kind, len(d_a), len(d_b), how, pairs, holds)


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
    """How many images give the ranking of all of them? Subsamples without replacement, each against the full run.

    A subsample is part of what it is compared with: n of N images differ from the full run as much as
    `fresh` = n N / (N - n) new images differ from the population; n = N tests nothing.

    Args:
        rows, by: as in `kendall`; only images with all conditions are used.
        sizes: n to try, 1 to N; None for all from 2, or 40 of them.
        n_subsamples: for each n.
        tau, share: wanted is tau-b above `tau` in at least `share` of the subsamples.
        seed: part of the random key.

    Returns:
        `Needed`; its table has n, fresh, tau_mean, tau_low (the 1 - `share` quantile), share_tau (of
        subsamples above `tau`), share_signs (in which all pairs significant in the full run keep their
        sign), pairs (how many those are).

    Raises:
        ValueError: as `kendall`; a size out of range.
    """
    means = _means(rows, by)
    d, n_all = _differences(means), len(means)
    some = np.geomspace(2, n_all, 40).round().astype(int)  # small steps where it matters
    sizes = sorted(sizes if sizes is not None else range(2, n_all + 1) if n_all <= 40 else set(some.tolist()))
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= n_all:
        raise ValueError(f"expected sizes from 1 to {n_all}, the images there are, got {sizes}")
    full, significant = d.sum(axis=0, keepdims=True), (_pairs(means, d).p_holm < ALPHA).to_numpy()
    lines = []
    for n in sizes:
        places = _generator("subsamples", seed, n).random((n_subsamples, n_all)).argsort(axis=1).argsort(axis=1)
        subsample = (places < n) @ d
        taus = np.nan_to_num(_tau(full, subsample))  # what ranks nothing agrees with nothing
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
    """Where should the next decoder call go? Var = s_b^2 / N_X + s_w^2 / (N_X N_Q), for scores and differences.

    A difference f - g is split draw by draw: draw q of an image has the same latents for all downscalers, so
    part of its noise cancels. At a fixed budget N_X (image_cost + N_Q) the best N_Q minimises (s_b^2 + s_w^2 /
    N_Q) (image_cost + N_Q), near sqrt(image_cost s_w^2 / s_b^2); without an image cost it is always 1.

    Args:
        rows, by: as in `kendall`, two draws or more of each image.
        pairs: (f, g) whose difference is split; None for all pairs, the better one as f.
        image_cost: of one more image (find, read, downscale), in decoder calls.
        most: largest N_Q to consider.

    Returns:
        One line per condition, then per pair: kind ("score", "difference"), name, mean, se (of the mean), and
        n, n_samples, s_b2, s_w2, share_samples, note of `rankings.variance_split`; best_n_samples, and
        efficiency (variance with the best N_Q over variance with this one, at equal cost; 1 is best).

    Raises:
        ValueError: as `rankings.per_image`; unknown pairs, a negative cost, or `most` below 1.
    """
    means = _means(rows, by)
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


def _means(rows: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Images (index) x conditions: per-image means, lower is better, of the images that have all conditions."""
    means = rankings.per_image(rows, by)["mean"].dropna()
    means = -means if results.lower_is_better(rows.distortion.iloc[0]) is False else means
    if means.shape[1] < 2 or means.empty:
        got = f"{list(means)} and {len(means)} such images"
        raise ValueError(f"expected two conditions or more and an image that has all, got {got}")
    return means


def _differences(means: pd.DataFrame) -> np.ndarray:
    """f - g of every pair, image by image: (images, pairs). Equal conditions stay exactly equal in any mean."""
    values = means.to_numpy()
    return np.stack([values[:, f] - values[:, g] for f, g in itertools.combinations(range(values.shape[1]), 2)], axis=1)


def _tau(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Tau-b of each line of mean differences (or sums), shape (lines, pairs); NaN where one has ties only."""
    a, b = np.sign(a), np.sign(b)
    untied = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), untied, out=np.full(len(untied), np.nan), where=untied > 0)


def _resampled(names_a, names_b, both, d_a, d_b, n_resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the differences over resampled images; those in `both` sets are drawn once for the two."""
    rng = _generator("resamples", seed)

    def drawn(n: int) -> np.ndarray:
        return rng.multinomial(n, np.full(n, 1 / n), n_resamples).astype(np.float64) if n else np.zeros((1, 0))

    of_a, of_b, counts = ~names_a.isin(both), ~names_b.isin(both), drawn(len(both))
    sums_a = counts @ d_a[~of_a] + drawn(of_a.sum()) @ d_a[of_a]
    return sums_a, counts @ d_b[~of_b] + drawn(of_b.sum()) @ d_b[of_b]


def _pairs(means: pd.DataFrame, d: np.ndarray) -> pd.DataFrame:
    """f, g, mean difference, and Wilcoxon's p after Holm over all pairs, as `rankings.paired` has it."""
    p = np.array([stats.wilcoxon(column, zero_method="pratt").pvalue if column.any() else 1.0 for column in d.T])
    table = pd.DataFrame(itertools.combinations(means, 2), columns=["f", "g"])
    return table.assign(difference=d.mean(axis=0), p_holm=multipletests(p, method="holm")[1])


def _from_here(sizes: pd.Series, enough: pd.Series) -> int | None:
    """Smallest size from which on all are enough."""
    failed = sizes[~enough]
    left = sizes if failed.empty else sizes[sizes > failed.max()]
    return None if left.empty else int(left.min())


def _split(rows: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """`rankings.variance_split` by condition, with the mean and its standard error."""
    split = rankings.variance_split(rows, by)
    split = split.set_index(split.columns[0]).assign(mean=rankings.per_image(rows, by)["mean"].mean())
    return split.assign(se=np.sqrt(split.var_images + split.var_samples))


def _draws(rows: pd.DataFrame, by: str | Sequence[str]) -> dict[str, pd.Series]:
    """The draws of each condition by image and sample; NaN where not finite."""
    keys = ["image", *(["seed"] if "seed" in rows else []), "sample"]
    parts = [part for _, part in rows.groupby(by if isinstance(by, str) else list(by), dropna=False)]
    names = [rankings.per_image(part, by)["mean"].columns[0] for part in parts]
    finite = [part.set_index(keys).value.replace([math.inf, -math.inf], math.nan) for part in parts]
    return dict(zip(names, finite, strict=True))


def _generator(*key: str | int) -> np.random.Generator:
    return np.random.default_rng(seeded(*key).initial_seed())
