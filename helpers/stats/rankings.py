"""Scores, paired differences and ranks of downscalers, with intervals over images.

All downscalers see the same images, so the design is paired and clustered: the finite draws of an image are averaged
first, then images are resampled. Intervals over draws would be far too narrow (the tests simulate it). `rows` is always
a DataFrame with columns of `helpers.results`: at least image, sample, distortion, value and those in `by`, the columns
that are compared. All other settings must be constant, so scales, data sets or metrics are never averaged together.
Equal rows give equal tables, whatever their order.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from helpers.stats import bootstrap, conditions

RESAMPLES = 9999
SMALL = 30  # below this many images the bootstrap covers too rarely: t interval, called indicative
COUNTS = ["draws", "nan_draws", "inf_draws"]


class Interval(NamedTuple):
    """Ends of an interval and how it was made; both ends are NaN where there is none."""

    low: float
    high: float
    kind: str


def per_image(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """Average the finite draws of each image, for each condition.

    Args:
        rows: one row per draw.
        by: the column, or columns, whose values are the conditions; several are joined by " + ".

    Returns:
        Images (index) x conditions, under six names: `table["mean"]` (NaN without a finite draw), "variance" (unbiased,
        over draws), "draws" (finite ones), "nan_draws", "inf_draws" (kept apart: the PSNR of equal images is no
        failure) and "lost" (draws were made, none is finite).

    Raises:
        ValueError: a column is missing, a draw occurs twice, a value is no number, a setting outside `by` varies.
    """
    rows = conditions.check(rows, by)
    rows = rows.assign(finite=rows.value.where(np.isfinite(rows.value)), inf=np.isinf(rows.value))
    cells = rows.assign(nan=rows.value.isna()).groupby(["image", "condition"])
    table = pd.DataFrame({"mean": cells.finite.mean(), "variance": cells.finite.var(ddof=1)})
    table = table.assign(draws=cells.finite.count(), nan_draws=cells.nan.sum(), inf_draws=cells.inf.sum())
    table = table.unstack("condition")
    counts = table[COUNTS].fillna(0).astype(int)  # 0 where a condition has no row for an image
    lost = (counts["draws"] == 0) & (counts["nan_draws"] + counts["inf_draws"] > 0)
    return pd.concat([table[["mean", "variance"]], counts, pd.concat({"lost": lost}, axis=1)], axis=1)


def interval(
    values: Sequence[float], *, confidence: float = 0.95, n_resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """95 % interval of the mean of `values`, one value per image.

    BCa bootstrap (Efron 1987) from 30 images on; below, Student's t, marked as indicative. Which images are resampled
    depends on `seed` and their number alone, so conditions with equally many images share the resamples.

    Raises:
        ValueError: a value is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite values, got {(~np.isfinite(values)).sum()} that are not")
    n = len(values)
    if n < 2 or not _varies(values):
        return Interval(math.nan, math.nan, "no interval (n<2)" if n < 2 else "no interval (constant)")
    if n < SMALL:
        low, high = stats.t.interval(confidence, n - 1, values.mean(), stats.sem(values))
        return Interval(float(low), float(high), "t, indicative")
    options = {"method": "BCa", "batch": 500, "rng": bootstrap.generator(seed, "images")}  # batch bounds the memory
    result = stats.bootstrap((values,), np.mean, confidence_level=confidence, n_resamples=n_resamples, **options)
    low, high = result.confidence_interval
    return Interval(float(low), float(high), "BCa")


def scores(
    rows: pd.DataFrame,
    by: str | Sequence[str] = "downscaler",
    *,
    lower_is_better: bool | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Score S of each condition, best first: Eq. 2 of Liang et al. (CVPR 2024), with an interval over images.

    Args:
        rows: one row per draw.
        by: columns that are compared.
        lower_is_better: direction of the values; None looks it up by the name of the distortion.
        n_resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One line per condition: its name, distortion, lower_is_better, mean (of the per-image means), sd (over images),
        se (sd / sqrt n), sd_draws (over all draws, images ignored: the spread papers print, no error of the mean),
        low, high and interval (95 %), n (images), draws, nan_draws, inf_draws, images_lost, mean_common (over the
        images that every condition has) and its rank.

    Raises:
        ValueError: as `per_image`; or the direction is unknown.
    """
    lower = conditions.direction(rows, lower_is_better)
    table = per_image(rows, by)
    common = table["mean"].dropna()
    lines = []
    for name in table["mean"]:
        kept = table["mean"][name].notna()
        means, draws = table["mean"][name][kept], table["draws"][name][kept]
        n, total = len(means), draws.sum()
        within = (table["variance"][name] * (draws - 1)).sum()  # an image with one draw has none
        between = (draws * (means - (draws * means).sum() / max(total, 1)) ** 2).sum()
        low, high, kind = interval(means, n_resamples=n_resamples, seed=seed)
        line = {conditions.label(by): name, "distortion": rows.distortion.iloc[0], "lower_is_better": lower}
        line |= {"mean": means.mean(), "sd": means.std(ddof=1), "se": means.sem()}
        line |= {"sd_draws": math.sqrt((within + between) / (total - 1)) if total > 1 else math.nan}
        line |= {"low": low, "high": high, "interval": kind, "n": n}
        line |= {count: table[count][name].sum() for count in COUNTS}
        lines.append(line | {"images_lost": table["lost"][name].sum(), "mean_common": common[name].mean()})
    result = pd.DataFrame(lines)
    result["rank"] = result.mean_common.rank(ascending=lower)  # ties share their mean rank; NaN has none
    return result.sort_values(["rank", conditions.label(by)], ignore_index=True)


def paired(
    rows: pd.DataFrame,
    baseline: str | None = None,
    by: str | Sequence[str] = "downscaler",
    *,
    lower_is_better: bool | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences f - g, image by image on the common images of each pair: all pairs, or all against one.

    The Holm adjustment is over exactly the pairs of the returned table: state them, and alpha, beforehand.

    Args:
        rows: one row per draw.
        baseline: g of every pair; None compares all pairs, the better one as f.
        by, lower_is_better, n_resamples, seed: as in `scores`.

    Returns:
        One line per pair: f, g, distortion, lower_is_better, difference (mean, in units of D), low, high, interval
        (95 %), p (Wilcoxon signed rank, Pratt's zeros), p_holm, d_z (mean / sd of the differences), wins and ties
        (shares of images where f is better, and equal), n (common images), left_out (images that only one of the two
        has), note, family (p-values adjusted together), p_missing (pairs without a p, taken out before). Differences
        that are all zero are noted as "identical"; their p is 1 and stays in the family.

    Raises:
        ValueError: as `scores`; unknown baseline; fewer than two conditions.
    """
    lower = conditions.direction(rows, lower_is_better)
    means = per_image(rows, by)["mean"]
    names = list(means.mean().rank(ascending=lower).sort_values(kind="stable").index)
    if len(names) < 2 or (baseline is not None and baseline not in names):
        raise ValueError(f"expected two conditions or more and baseline={baseline!r} among them, got {names}")
    against_one = [(f, baseline) for f in names if f != baseline]
    lines = []
    for f, g in itertools.combinations(names, 2) if baseline is None else against_one:
        d, left_out = _differences(means, f, g)
        n, identical = len(d), len(d) > 0 and not d.any()
        low, high, kind = interval(d, n_resamples=n_resamples, seed=seed)
        p = 1.0 if identical else stats.wilcoxon(d, zero_method="pratt").pvalue if n else math.nan
        line = {"f": f, "g": g, "distortion": rows.distortion.iloc[0], "lower_is_better": lower}
        line |= {"difference": _mean(d), "low": low, "high": high, "interval": kind, "p": p}
        line |= {"p_holm": math.nan, "d_z": _mean(d) / _sd(d), "wins": _mean(d < 0 if lower else d > 0)}
        line |= {"ties": _mean(d == 0), "n": n, "left_out": left_out}
        lines.append(line | {"note": "identical" if identical else "" if n else "no common image"})
    result = pd.DataFrame(lines)
    tested = result.p.notna()
    if tested.any():  # one NaN inside Holm would move all the others
        result.loc[tested, "p_holm"] = holm(result.p[tested])
    return result.assign(family=tested.sum(), p_missing=(~tested).sum())


def holm(p: Sequence[float]) -> np.ndarray:  # statsmodels collects garbage in each call: 0.3 s beside torch
    """Adjust p values for their number (Holm 1979)."""
    p = np.asarray(p, dtype=np.float64)
    order = p.argsort()
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted


def equivalence(
    rows: pd.DataFrame, f: str, g: str, margin: float, by: str | Sequence[str] = "downscaler", *, alpha: float = 0.05
) -> pd.DataFrame:
    """Test whether f and g are equal up to a margin: two one-sided paired t tests (Schuirmann 1987).

    Args:
        rows: one row per draw.
        f, g: two conditions.
        margin: largest difference that still counts as equal, in units of D; choose it before looking.
        by: columns that are compared.
        alpha: level of each one-sided test.

    Returns:
        One line: f, g, distortion, difference, low, high (the 1 - 2 alpha t interval: inside the margins exactly when
        both tests reject), margin, p, equivalent, n, left_out, note. Constant differences have no p.

    Raises:
        ValueError: as `per_image`; unknown names; margin not above 0; alpha not in (0, 0.5).
    """
    means = per_image(rows, by)["mean"]
    if not {f, g} <= set(means) or f == g or not 0 < margin < math.inf or not 0 < alpha < 0.5:
        got = f"{f!r}, {g!r}, margin={margin!r}, alpha={alpha!r}"
        raise ValueError(f"expected two of {list(means)}, margin > 0 and alpha in (0, 0.5), got {got}")
    d, left_out = _differences(means, f, g)
    low = high = p = math.nan
    if len(d) < 2:
        equivalent, note = False, "no test (n<2)"
    elif not _varies(d):
        equivalent, note = abs(d[0]) < margin, "constant difference" if d.any() else "identical"
    else:
        low, high = stats.t.interval(1 - 2 * alpha, len(d) - 1, d.mean(), stats.sem(d))
        p = ttost_paired(d, np.zeros(len(d)), -margin, margin)[0]
        equivalent, note = p < alpha, ""
    line = {"f": f, "g": g, "distortion": rows.distortion.iloc[0], "difference": _mean(d), "low": low}
    line |= {"high": high, "margin": margin, "p": p, "equivalent": bool(equivalent), "n": len(d)}
    return pd.DataFrame([line | {"left_out": left_out, "note": note}])


def ranks(
    rows: pd.DataFrame,
    by: str | Sequence[str] = "downscaler",
    *,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
    lower_is_better: bool | None = None,
) -> pd.DataFrame:
    """Rank the conditions on resampled images, to see how sure each rank is.

    Args:
        rows, by, lower_is_better, n_resamples, seed: as in `scores`; only images that all conditions have are used.

    Returns:
        One line per condition, best first: its name, distortion, mean, rank, rank_low and rank_high (95 %,
        percentile), p_best (share of resamples where it is first, ties shared), n (images), note.

    Raises:
        ValueError: as `scores`; the conditions have no image in common.
    """
    lower = conditions.direction(rows, lower_is_better)
    common = _common(per_image(rows, by)["mean"])
    places = stats.rankdata(_resample(common, n_resamples, seed) * (1 if lower else -1), axis=1)
    first = places == places.min(axis=1, keepdims=True)
    low, high = np.quantile(places, [0.025, 0.975], axis=0, method="inverted_cdf")
    p_best = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    n = len(common)
    if n < 2:  # every resample is the same image
        low = high = p_best = math.nan
    mean = common.mean()
    result = pd.DataFrame({"distortion": rows.distortion.iloc[0], "mean": mean, "rank": mean.rank(ascending=lower)})
    result = result.assign(rank_low=low, rank_high=high, p_best=p_best, n=n, note=_small(n))
    return _best_first(result, by)


def monotonicity(
    rows: pd.DataFrame,
    degradation: str,
    by: str | Sequence[str] = "downscaler",
    *,
    levels: Iterable[float] | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlate the level of a degradation with the score (Tables 1 and 2 of the paper): Spearman's rho.

    The scores are means over the images that have all levels; images are resampled. Chance alone gives rho = 1 with
    probability 1 / L! for L levels, one in six for the paper's three.

    Args:
        rows: one row per draw; those of other degradations are ignored.
        degradation: its name.
        by: columns; one line for each of their values.
        levels: those to use (contrast above and below 1 are two questions); None takes all there are.
        n_resamples, seed: as in `scores`.

    Returns:
        One line per condition: its name, distortion, degradation, levels (how many), spearman, low and high (95 %,
        percentile), chance, increasing and decreasing (shares of images whose means strictly rise, or strictly fall,
        through all levels), n (images), note.

    Raises:
        ValueError: as `per_image`; fewer than two levels, or not those asked for; no image has all levels.
    """
    missing = {"degradation", "level", *conditions.columns(by)} - set(rows)
    if missing or "level" in conditions.label(by):
        raise ValueError(f"expected rows with degradation and level, not by level, got none of {sorted(missing)}")
    rows = rows[rows.degradation == degradation]
    rows = rows.assign(level=pd.to_numeric(rows.level), group=conditions.name(rows, by))
    rows = rows[rows.level.isin(rows.level if levels is None else levels)]
    wanted = sorted(rows.level.unique() if levels is None else levels)
    lines = []
    for name, group in rows.groupby("group"):
        if len(wanted) < 2 or sorted(group.level.unique()) != wanted:
            got = sorted(group.level.unique())
            raise ValueError(f"{degradation}, {name}: expected two or more levels, {wanted}, got {got}")
        means = _common(per_image(group, "level")["mean"]).to_numpy()  # (images, levels), levels rising
        n, steps, order = len(means), np.diff(means, axis=1), np.arange(len(wanted))[None]
        low, high = np.quantile(bootstrap.spearman(_resample(means, n_resamples, seed), order), [0.025, 0.975])
        if n < 2:  # every resample is the same image
            low = high = math.nan
        line = {conditions.label(by): name, "distortion": rows.distortion.iloc[0], "degradation": degradation}
        line |= {"levels": len(wanted), "spearman": bootstrap.spearman(means.mean(axis=0, keepdims=True), order)[0]}
        line |= {"low": low, "high": high, "chance": 1 / math.factorial(len(wanted))}
        line |= {"increasing": (steps > 0).all(axis=1).mean(), "decreasing": (steps < 0).all(axis=1).mean()}
        lines.append(line | {"n": n, "note": _small(n)})
    if not lines:
        raise ValueError(f"expected rows of degradation {degradation!r} at levels {levels}, got none")
    return pd.DataFrame(lines)


def ranking_with_failures(
    rows: pd.DataFrame, by: str | Sequence[str] = "downscaler", *, lower_is_better: bool | None = None
) -> pd.DataFrame:
    """Rank the conditions again with each NaN draw replaced by the worst finite D of all rows.

    Without it, a downscaler whose hard images break the upscaler looks better than it is.

    Args:
        rows, by, lower_is_better: as in `scores`.

    Returns:
        One line per condition, best first: its name, distortion, mean and rank (common images, finite draws),
        mean_worst and rank_worst (NaN replaced), nan_draws, nan_share (of all draws made), images_lost and
        holds (same rank).

    Raises:
        ValueError: as `scores`; there is no finite value.
    """
    lower = conditions.direction(rows, lower_is_better)
    table = per_image(rows, by)
    finite = rows.value[np.isfinite(rows.value)]
    if finite.empty:
        raise ValueError("expected a finite value, got none")
    filled = rows.assign(value=rows.value.fillna(finite.max() if lower else finite.min()))
    mean, mean_worst = table["mean"].dropna().mean(), _common(per_image(filled, by)["mean"]).mean()
    result = pd.DataFrame({"distortion": rows.distortion.iloc[0], "mean": mean, "rank": mean.rank(ascending=lower)})
    made, nan_draws = sum(table[count].sum() for count in COUNTS), table["nan_draws"].sum()
    result = result.assign(mean_worst=mean_worst, rank_worst=mean_worst.rank(ascending=lower), nan_draws=nan_draws)
    result = result.assign(nan_share=nan_draws / made, images_lost=table["lost"].sum())
    return _best_first(result.assign(holds=result["rank"] == result.rank_worst), by)


def _best_first(table: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Sort by rank, then name; the index becomes the first column."""
    name = conditions.label(by)
    return table.rename_axis(name).reset_index().sort_values(["rank", name], ignore_index=True)


def _common(means: pd.DataFrame) -> pd.DataFrame:
    """Images with a mean everywhere."""
    common = means.dropna()
    if common.empty:
        raise ValueError(f"expected an image with a finite draw in all of {list(means)}, got none")
    return common


def _differences(means: pd.DataFrame, f: str, g: str) -> tuple[np.ndarray, int]:
    """f - g on the common images, and how many images only one of them has."""
    both = means[[f, g]].dropna(how="all")
    d = (both[f] - both[g]).dropna().to_numpy()
    return d, len(both) - len(d)


def _varies(values: np.ndarray) -> bool:
    return bool(np.ptp(values) > 1e-12 * np.abs(values).max())  # more than rounding


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 and _varies(values) else math.nan


def _small(n: int) -> str:
    return "no interval (n<2)" if n < 2 else "indicative" if n < SMALL else ""


def _resample(values: np.ndarray | pd.DataFrame, n_resamples: int, seed: int) -> np.ndarray:
    return bootstrap.resample_means(values, n_resamples, bootstrap.generator(seed, "images"))
