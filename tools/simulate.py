"""How often the intervals cover, the tests reject and the plans succeed, on data whose truth is known.

`python -m tools.simulate` prints, in a quarter of an hour, what `helpers.stats` was chosen by: first what it does,
beside it what it did before 0.5.0 or could have done. The docstrings quote it; `tests/test_stats_simulated.py` holds
both to it, on fewer sets.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from helpers import results
from helpers.stats import agreement, bootstrap, budget, inference, rankings

QUICKSTART = Path(__file__).parents[1] / "data" / "results" / "00_quickstart.csv.gz"
CROPS = np.array([4, 1, 2, 2, 2, 3, 3, 2, 3, 2])  # 24 of ten photographs: "library", X before 0.6
ICC = 0.83  # share of the variance of a difference that is between photographs, median over its pairs of downscalers
RESAMPLES = 999


def percentile(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """95 % percentile interval of the mean of one set."""
    return np.quantile(bootstrap.resample_means(x[:, None], RESAMPLES, rng)[:, 0], [0.025, 0.975])


def bca(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """95 % BCa interval of the mean of one set (Efron 1987)."""
    means, d = bootstrap.resample_means(x[:, None], RESAMPLES, rng)[:, 0], x - x.mean()
    z_0 = stats.norm.ppf(((means < x.mean()).mean() + (means <= x.mean()).mean()) / 2)
    acceleration = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    z = z_0 + stats.norm.ppf([0.025, 0.975])
    return np.quantile(means, stats.norm.cdf(z_0 + z / (1 - acceleration * z)))


def crops(rng: np.random.Generator, icc: float = ICC) -> tuple[np.ndarray, np.ndarray]:
    """Values of the crops of ten photographs, mean 0, and the photograph of each."""
    member = np.repeat(np.arange(len(CROPS)), CROPS)
    between, within = math.sqrt(icc) * rng.standard_normal(len(CROPS)), math.sqrt(1 - icc)
    return between[member] + within * rng.standard_normal(len(member)), member


def coverage(draw: Callable, truth: float, sets: int, seed: int = 0, ways: tuple = (percentile, bca)) -> dict:
    """Share of sets whose 95 % interval holds the mean: t, then `ways`."""
    rng, hits = np.random.default_rng([seed, 1]), {"t": 0} | {way.__name__: 0 for way in ways}
    for _ in range(sets):
        x = draw(rng)
        ends = {"t": inference.interval(x)[:2]} | {way.__name__: way(x, rng) for way in ways}
        for name, (low, high) in ends.items():
            hits[name] += low <= truth <= high
    return {name: count / sets for name, count in hits.items()}


def cluster_coverage(sets: int, seed: int = 0, icc: float = ICC) -> dict:
    """The same for crops of ten photographs: t over photographs, t over crops, and the cluster bootstrap."""
    rng, hits = np.random.default_rng([seed, 2]), {"t": 0, "crops as units": 0, "cluster bootstrap": 0}
    for _ in range(sets):
        x, member = crops(rng, icc)
        sums = np.bincount(member, x)
        counts = bootstrap.draw_counts(rng, len(CROPS), RESAMPLES)
        ends = {"t": inference.interval(sums / CROPS)[:2], "crops as units": inference.interval(x)[:2]}
        ends["cluster bootstrap"] = np.quantile((counts @ sums) / (counts @ CROPS), [0.025, 0.975])
        for name, (low, high) in ends.items():
            hits[name] += low <= 0 <= high
    return {name: count / sets for name, count in hits.items()}


def ratio_coverage(n: int, sets: int, seed: int = 0) -> dict:
    """Share of sets whose interval holds a ratio of two means (1.6, of gamma values): jackknife t, percentile."""
    rng, hits = np.random.default_rng([seed, 3]), {"jackknife t": 0, "percentile": 0}
    for _ in range(sets):
        common = rng.gamma(6, size=(n, 1))
        parts = {"a": 1.6 * common * rng.gamma(30, 1 / 30, (n, 1)), "b": common * rng.gamma(30, 1 / 30, (n, 1))}
        low, high = inference.jackknife(lambda part: part["a"] / part["b"], parts)
        hits["jackknife t"] += low[0] <= 1.6 <= high[0]
        means = bootstrap.resample_means(np.hstack([parts["a"], parts["b"]]), RESAMPLES, rng)
        low, high = np.quantile(means[:, 0] / means[:, 1], [0.025, 0.975])
        hits["percentile"] += low <= 1.6 <= high
    return {name: count / sets for name, count in hits.items()}


def failures(n: int, share: float, size: float, rng: np.random.Generator) -> np.ndarray:
    """Differences with mean 0: a small gain, and rarely a large loss that makes up for it."""
    return rng.standard_normal(n) + size * ((rng.random(n) < share) - share)


def rejections(draw: Callable, sets: int, seed: int = 0, alpha: float = 0.05) -> dict:
    """Share of sets with mean difference 0 that are called different: t, Wilcoxon, random signs."""
    rng, found = np.random.default_rng([seed, 4]), {"t": 0, "Wilcoxon": 0, "sign flips": 0}
    for _ in range(sets):
        d = draw(rng)
        flipped = np.abs(rng.choice([-1.0, 1.0], (RESAMPLES, len(d))) @ d)
        p = {"t": inference.t_test(d), "Wilcoxon": stats.wilcoxon(d, zero_method="pratt").pvalue}
        p["sign flips"] = ((flipped >= abs(d.sum()) * (1 - 1e-12)).sum() + 1) / (RESAMPLES + 1)
        for name, value in p.items():
            found[name] += value < alpha
    return {name: count / sets for name, count in found.items()}


def in_steps(n: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Differences with mean 0 of a D that has steps: normal, of a spread in steps."""
    return np.round(spread * rng.standard_normal(n))


def few_rejections(draw: Callable, sets: int, seed: int = 0, alpha: float = 0.05) -> dict:
    """Share of small sets with mean difference 0 that are called different: t, and t with constants taken for sure."""
    rng = np.random.default_rng([seed, 8])
    d = np.stack([draw(rng) for _ in range(sets)], axis=1)  # (photographs, sets)
    constant = ~inference.varies(d) & d.any(axis=0)
    low = inference.t_test(d) < alpha
    return {"t": low.mean(), "constants are sure": (low | constant).mean()}


def planned_power(d_z: float, pilot: int, sets: int, *, pairs: int = 1, chosen: bool = False, seed: int = 0) -> dict:
    """Mean power of plans for 80 % that are made from pilots: ours, d_z taken for the truth, and the formula before."""
    rng, reached = np.random.default_rng([seed, 5]), {"ours": 0.0, "d_z for the truth": 0.0, "before": 0.0}
    for _ in range(sets):
        x = d_z + rng.standard_normal(pilot)
        seen = (d_z if chosen else x.mean()) / x.std(ddof=1)
        z = stats.norm.ppf(1 - 0.025 / pairs) + stats.norm.ppf(0.8)
        n = {"ours": budget.images_for(seen, pairs=pairs, pilot=pilot, chosen=chosen)}
        n |= {"d_z for the truth": budget.images_for(seen, pairs=pairs)}
        n["before"] = max(2, math.ceil((z / seen) ** 2 * math.pi / 3))
        for name, size in n.items():
            reached[name] += budget.power_of(size, d_z, alpha=0.05 / pairs) / sets
    return reached


def rank_coverage(means: np.ndarray, covariance: np.ndarray, n: int, sets: int, seed: int = 0) -> dict:
    """Share of sets in which all rank intervals hold at once, and their mean width: ours, percentiles of resamples."""
    rng, truth = np.random.default_rng([seed, 6]), stats.rankdata(means)
    found = dict.fromkeys(("ours", "ours, width", "percentile", "percentile, width", "percentile, one by one"), 0.0)
    for _ in range(sets):
        x = rng.multivariate_normal(means, covariance, n)
        places = stats.rankdata(bootstrap.resample_means(x, RESAMPLES, rng), axis=1)
        both = {"ours": inference.rank_ends(x)}
        both["percentile"] = np.quantile(places, [0.025, 0.975], axis=0, method="inverted_cdf")
        for name, (low, high) in both.items():
            hold = (low <= truth) & (truth <= high)
            found[name] += hold.all() / sets
            found[f"{name}, width"] += (high - low).mean() / sets
        found["percentile, one by one"] += hold.mean() / sets
    return found


def tau_coverage(k: int, n: int, spread: float, sets: int, seed: int = 0) -> dict:
    """Share of sets whose interval holds Kendall's tau of two metrics of the same photographs, and its mean width."""
    rng, found = np.random.default_rng([seed, 7]), dict.fromkeys(("ours", "ours, width", "percentile"), 0.0)
    first, second = np.array(list(itertools.combinations(range(k), 2))).T
    for _ in range(sets):
        mean_a = spread * rng.standard_normal(k)
        mean_b = 0.9 * mean_a + math.sqrt(0.19) * spread * rng.standard_normal(k)
        truth = stats.kendalltau(mean_a, mean_b).statistic
        noise = rng.standard_normal((n, k))
        a, b = mean_a + noise, mean_b + 0.5 * noise + math.sqrt(0.75) * rng.standard_normal((n, k))
        d_a, d_b = a[:, first] - a[:, second], b[:, first] - b[:, second]
        line = agreement.rank_agreement(pd.DataFrame(a), pd.DataFrame(b))
        counts = bootstrap.draw_counts(rng, n, RESAMPLES)
        ends = np.nanquantile(bootstrap.tau(counts @ d_a, counts @ d_b), [0.025, 0.975])
        found["ours"] += (line.low - 1e-9 <= truth <= line.high + 1e-9) / sets
        found["ours, width"] += (line.high - line.low) / sets
        found["percentile"] += (ends[0] - 1e-9 <= truth <= ends[1] + 1e-9) / sets
    return found


def quickstart() -> tuple[np.ndarray, np.ndarray]:
    """Means and covariance of the quickstart's downscalers over its photographs."""
    units = rankings.per_photograph(results.read(QUICKSTART))
    return units.mean().to_numpy(), np.cov(units.T)


def everything(sets: int = 2000) -> Iterator[tuple[str, dict[str, dict]]]:
    """Title and lines of each table; `sets` simulated sets a line, a tenth to a quarter where one takes long."""
    normal, skewed, few = np.random.Generator.standard_normal, np.random.Generator.lognormal, sets // 4
    covered = {f"normal, {n}": coverage(partial(normal, size=n), 0, sets) for n in (5, 10, 30, 100)}
    for n in (5, 10, 30, 100, 300):
        covered[f"lognormal, {n}"] = coverage(partial(skewed, size=n), math.exp(0.5), sets)
    yield "coverage of 95 % intervals of a mean (kind of values, photographs)", covered

    shares = {f"{icc:g}": cluster_coverage(sets, icc=icc) for icc in (0.5, ICC)}
    yield "the same, 24 crops of ten photographs (share of variance between photographs)", shares
    yield "coverage of a ratio of means (photographs)", {f"{n}": ratio_coverage(n, sets) for n in (5, 10, 30)}

    wrong = {"10, normal": rejections(partial(normal, size=10), sets)}
    for n, share, size in itertools.product((10, 30, 100, 900), (0.02, 0.05), (8, 20)):
        draw = partial(failures, n, share, size)
        wrong[f"{n}, a loss of {size} sd in {100 * share:g} %"] = rejections(draw, few)
    yield "share of sets called different at 0.05 where the mean difference is 0 (photographs)", wrong

    steps = {f"{n}, spread {spread} steps": few_rejections(partial(in_steps, n, spread), 50 * sets)
             for n, spread in itertools.product((2, 3, 4, 6), (0.5, 1, 2, 4, 1000))}  # fmt: skip
    yield "the same at few photographs and a D in steps (photographs)", steps

    plans = {}
    for chosen, d_z, pilot, pairs in itertools.product((False, True), (0.3, 0.6, 1.2), (5, 10, 24), (1, 21)):
        name = f"{'margin chosen' if chosen else 'd_z seen'}, d_z {d_z}, pilot of {pilot}, {pairs} pairs"
        plans[name] = planned_power(d_z, pilot, sets // 10, pairs=pairs, chosen=chosen)
    yield "power reached by plans for 0.80", plans

    ladder = 0.2 + 0.001 * np.arange(7)
    ranked = {f"quickstart, {n}": rank_coverage(*quickstart(), n, few) for n in (5, 10, 24, 100)}
    ranked |= {f"near ties, {n}": rank_coverage(ladder, quickstart()[1], n, few) for n in (5, 10, 24, 100)}
    yield "sets in which all ranks of seven conditions lie in their intervals (photographs)", ranked

    taus = {}
    for k, spread, n in itertools.product((4, 7, 10, 20), (0.3, 1.0), (5, 10, 24, 100)):
        taus[f"{k} conditions, gaps of {spread} sd, {n}"] = tau_coverage(k, n, spread, few)
    yield "coverage of 95 % intervals of Kendall's tau (photographs)", taus


if __name__ == "__main__":
    for title, lines in everything():
        print(f"{title}\n{pd.DataFrame(lines).T.round(3).to_string()}\n", flush=True)
