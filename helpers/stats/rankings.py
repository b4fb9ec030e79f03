"""From rows to intervals, tests, ranks and plans. Images are the units; the samples are nested in them.

Every downscaler sees the same images, so the design is paired and clustered: average the finite draws of an
image first, then resample images. Intervals over draws claim far too much (the tests simulate it). A `rows`
argument is a DataFrame with the columns of `helpers.results`; at least image, sample, distortion, value and
those in `by`. Whatever is not compared (`by`) must be constant, so scales, data sets or metrics are never
averaged together. Random numbers come from `runtime.seeded`: equal rows give equal tables, whatever their
order.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from helpers import results
from helpers.runtime import seeded

RESAMPLES = 9999
SMALL = 30  # below this many images the bootstrap covers too rarely: t interval, called indicative
WILCOXON_EFFICIENCY = 3 / math.pi  # 0.955 of the t test's, under normal differences
SETTINGS = [name for name in results.KEY if name not in ("image", "seed", "sample")]  # constant unless compared
COUNTS = ["draws", "nan_draws", "inf_draws"]


class Interval(NamedTuple):
    """Ends of an interval and how it was made; both ends are NaN where there is none."""

    low: float
    high: float
    kind: str


def per_image(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """Mean over the finite draws of every image, for every condition.

    Args:
        rows: one row per draw.
        by: the column, or columns, whose values are the conditions; several are joined by " + ".

    Returns:
        Images (index) x conditions, under six names: `table["mean"]` (NaN where no draw is finite or none was
        made), "variance" (unbiased, over draws), "draws" (finite ones), "nan_draws", "inf_draws" (kept apart:
        the PSNR of equal images is no failure) and "lost" (draws were made, none is finite).

    Raises:
        ValueError: a column is missing, a draw occurs twice, a value is no number, a setting outside `by`
            varies.
    """
    rows = _checked(rows, by)
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
    """Interval of the mean of `values`, one value per image.

    BCa bootstrap (Efron 1987) from 30 images on; below, Student's t, marked as indicative. The resampled
    image numbers depend on `seed` and the number of images alone, so conditions with equally many images
    share them.

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
    options = {
        "method": "BCa",
        "batch": 500,
        "rng": _generator(seed),
    }  # batch bounds the memory, nothing else
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
    """S of each condition, best first: Eq. 2 of Liang et al. (CVPR 2024), with an interval over images.

    Args:
        rows: one row per draw.
        by: what is compared.
        lower_is_better: direction of the values; None looks it up by the name of the distortion.
        n_resamples: bootstrap resamples.
        seed: part of the random key.

    Returns:
        One line per condition: its name, distortion, lower_is_better, mean of the per-image means, sd over
        images, se (sd / sqrt n), sd_draws (over all draws, images ignored: the spread papers print, no
        error of the mean), low, high and interval (95 %), n (images), draws, nan_draws, inf_draws,
        images_lost, mean_common (over the images that every condition has) and its rank.

    Raises:
        ValueError: as `per_image`; or the direction is unknown.
    """
    lower = _direction(rows, lower_is_better)
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
        line = {_label(by): name, "distortion": rows.distortion.iloc[0], "lower_is_better": lower}
        line |= {"mean": means.mean(), "sd": means.std(ddof=1), "se": means.sem()}
        line |= {"sd_draws": math.sqrt((within + between) / (total - 1)) if total > 1 else math.nan}
        line |= {"low": low, "high": high, "interval": kind, "n": n}
        line |= {count: table[count][name].sum() for count in COUNTS}
        lines.append(line | {"images_lost": table["lost"][name].sum(), "mean_common": common[name].mean()})
    result = pd.DataFrame(lines)
    result["rank"] = _rank(result.mean_common, lower)
    return result.sort_values(["rank", _label(by)], ignore_index=True)


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

    The family of the Holm adjustment is exactly the pairs of the returned table: state it, and alpha,
    beforehand.

    Args:
        rows: one row per draw.
        baseline: g of every pair; None compares all pairs, the better one as f.
        by, lower_is_better, n_resamples, seed: as in `scores`.

    Returns:
        One line per pair: f, g, distortion, lower_is_better, difference (mean, in units of D), low, high,
        interval (95 %), p (Wilcoxon signed rank, Pratt's zeros), p_holm, d_z (mean / sd of the
        differences), wins and ties (shares of images where f is better, and equal), n (common images),
        left_out (images that only one of the two has), note, family (p-values adjusted together),
        p_missing (pairs without a p, taken out before). Differences that are all zero are noted as
        "identical"; their p is 1 and stays in the family.

    Raises:
        ValueError: as `scores`; unknown baseline; fewer than two conditions.
    """
    lower = _direction(rows, lower_is_better)
    means = per_image(rows, by)["mean"]
    names = list(_rank(means.mean(), lower).sort_values(kind="stable").index)
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
        result.loc[tested, "p_holm"] = multipletests(result.p[tested], method="holm")[1]
    return result.assign(family=tested.sum(), p_missing=(~tested).sum())


def equivalence(
    rows: pd.DataFrame,
    f: str,
    g: str,
    margin: float,
    by: str | Sequence[str] = "downscaler",
    *,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Are f and g equal up to a margin chosen before looking? Two one-sided paired t tests (Schuirmann 1987).

    Args:
        rows: one row per draw.
        f, g: two conditions.
        margin: the largest difference that still counts as equal, in units of D.
        by: what is compared.
        alpha: level of each one-sided test.

    Returns:
        One line: f, g, distortion, difference, low, high (the 1 - 2 alpha t interval: inside the margins
        exactly when both tests reject), margin, p, equivalent, n, left_out, note. Constant differences
        have no p.

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
    lower_is_better: bool | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """How sure is the ranking? Resample the images that all conditions have and rank the conditions anew.

    Args:
        rows, by, lower_is_better, n_resamples, seed: as in `scores`.

    Returns:
        One line per condition, best first: its name, distortion, mean over the common images, rank, rank_low
        and rank_high (95 %, percentile), p_best (share of resamples where it is first, ties shared), n,
        note.

    Raises:
        ValueError: as `scores`; the conditions have no image in common.
    """
    lower = _direction(rows, lower_is_better)
    common = _common(per_image(rows, by)["mean"])
    places = stats.rankdata(_resampled_means(common, n_resamples, seed) * (1 if lower else -1), axis=1)
    first = places == places.min(axis=1, keepdims=True)
    low, high = np.quantile(places, [0.025, 0.975], axis=0, method="inverted_cdf")
    p_best = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    n = len(common)
    if n < 2:  # every resample is the same image
        low = high = p_best = math.nan
    mean = common.mean()
    result = pd.DataFrame({"distortion": rows.distortion.iloc[0], "mean": mean, "rank": _rank(mean, lower)})
    result = result.assign(rank_low=low, rank_high=high, p_best=p_best, n=n, note=_small(n))
    return _named(result, by).sort_values(["rank", _label(by)], ignore_index=True)


def variance_split(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """What more images and what more samples would bring: Var(S) = s_b^2 / N_X + s_w^2 / (N_X N_Q).

    Moment estimators of the one-way random-effects model; N_Q is the harmonic mean of the images' finite
    draws.

    Args:
        rows, by: as in `per_image`.

    Returns:
        One line per condition: its name, distortion, n, n_samples, s_b2 (between images; 0 where its estimate
        is below), s_w2 (within an image), icc (s_b2 / (s_b2 + s_w2)), var_images and var_samples (the two
        parts of the variance of the mean), share_samples (of the second part), note.

    Raises:
        ValueError: as `per_image`.
    """
    table = per_image(rows, by)
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
    return _named(result, by)


def smallest_effect(
    n: int, alpha: float = 0.05, power: float = 0.8, pairs: int = 1, *, wilcoxon: bool = False
) -> float:
    """Smallest |d_z| that `n` images show, two-sided: (z_{1 - alpha / 2} + z_power) / sqrt(n).

    Args:
        n: images, at least 2.
        alpha: level, before it is divided by `pairs`.
        power: wanted probability of finding the effect.
        pairs: number of comparisons; alpha / pairs is Holm's worst step.
        wilcoxon: count each image as 3 / pi, the efficiency of the signed-rank test under normal differences.

    Raises:
        ValueError: an argument is out of range.
    """
    if n < 2:
        raise ValueError(f"expected n >= 2 images, got {n}")
    return _quantiles(alpha, power, pairs) / math.sqrt(n * (WILCOXON_EFFICIENCY if wilcoxon else 1))


def images_for(d_z: float, alpha: float = 0.05, power: float = 0.8, pairs: int = 1, *, wilcoxon: bool = True) -> int:
    """Images that show an effect of size |d_z| with this power: the inverse of `smallest_effect`, rounded up.

    Raises:
        ValueError: `d_z` is 0 or not finite, or an argument is out of range.
    """
    if not (math.isfinite(d_z) and d_z):
        raise ValueError(f"expected a finite d_z other than 0, got {d_z!r}")
    n = (_quantiles(alpha, power, pairs) / d_z) ** 2 / (WILCOXON_EFFICIENCY if wilcoxon else 1)
    return max(2, math.ceil(n))


def n_needed(
    rows: pd.DataFrame,
    *,
    margin: float | None = None,
    d_z: float | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
    wilcoxon: bool = True,
    by: str | Sequence[str] = "downscaler",
) -> pd.DataFrame:
    """From a pilot: how many images show a difference of `margin` (units of D), or an effect `d_z`?

    Args:
        rows: the pilot, one row per draw.
        margin, d_z: exactly one of the two, above 0.
        power, alpha, wilcoxon: as in `images_for`.
        by: what is compared.

    Returns:
        One line per pair: f, g, distortion, n_pilot (common images), sd_difference (over images), margin,
        d_z, n (for this pair alone), n_holm (Holm's worst step over all pairs of the table); the last
        four are missing where the pilot shows no spread.

    Raises:
        ValueError: as `per_image`; not exactly one of `margin` and `d_z`, or it is not above 0.
    """
    given = [value for value in (margin, d_z) if value is not None]
    if len(given) != 1 or not 0 < given[0] < math.inf:
        raise ValueError(f"expected one of margin and d_z, above 0, got margin={margin!r}, d_z={d_z!r}")
    means = per_image(rows, by)["mean"]
    pairs = list(itertools.combinations(means, 2))
    lines = []
    for f, g in pairs:
        d, _ = _differences(means, f, g)
        sd = _sd(d)
        effect = margin / sd if d_z is None else d_z + 0 * sd  # NaN if sd is
        line = {"f": f, "g": g, "distortion": rows.distortion.iloc[0], "n_pilot": len(d), "sd_difference": sd}
        line |= {"margin": effect * sd, "d_z": effect}
        for column, family in (("n", 1), ("n_holm", len(pairs))):
            line[column] = pd.NA if math.isnan(sd) else images_for(effect, alpha, power, family, wilcoxon=wilcoxon)
        lines.append(line)
    return pd.DataFrame(lines).astype({"n": "Int64", "n_holm": "Int64"})


def monotonicity(
    rows: pd.DataFrame,
    degradation: str,
    by: str | Sequence[str] = "downscaler",
    *,
    levels: Iterable[float] | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Does the score move with the level of a degradation (Tables 1 and 2 of the paper)?

    Spearman's rho between the levels and the mean scores of the images that have all levels; images are
    resampled. Chance alone gives rho = 1 with probability 1 / L! for L levels, one in six for the paper's
    three.

    Args:
        rows: one row per draw; those of other degradations are ignored.
        degradation: its name.
        by: one line for each of these.
        levels: those to use (contrast above and below 1 are two questions); None takes all there are.
        n_resamples, seed: as in `scores`.

    Returns:
        One line per condition: its name, distortion, degradation, levels (how many), spearman, low and high
        (95 %, percentile), chance, increasing and decreasing (shares of images whose means strictly rise,
        or strictly fall, through all levels), n (images), note.

    Raises:
        ValueError: as `per_image`; fewer than two levels, or not those asked for; no image has all levels.
    """
    missing = {"degradation", "level", *([by] if isinstance(by, str) else by)} - set(rows)
    if missing or "level" in _label(by):
        raise ValueError(f"expected rows with degradation and level, not by level, got none of {sorted(missing)}")
    rows = rows[rows.degradation == degradation]
    rows = rows.assign(level=pd.to_numeric(rows.level), group=conditions(rows, by))
    rows = rows[rows.level.isin(rows.level if levels is None else levels)]
    wanted = sorted(rows.level.unique() if levels is None else levels)
    lines = []
    for name, group in rows.groupby("group"):
        if len(wanted) < 2 or sorted(group.level.unique()) != wanted:
            got = sorted(group.level.unique())
            raise ValueError(f"{degradation}, {name}: expected two or more levels, {wanted}, got {got}")
        means = _common(per_image(group, "level")["mean"]).to_numpy()  # (images, levels), levels rising
        n, steps = len(means), np.diff(means, axis=1)
        low, high = np.quantile(_spearman(_resampled_means(means, n_resamples, seed)), [0.025, 0.975])
        if n < 2:  # every resample is the same image
            low = high = math.nan
        line = {_label(by): name, "distortion": rows.distortion.iloc[0], "degradation": degradation}
        line |= {"levels": len(wanted), "spearman": _spearman(means.mean(axis=0, keepdims=True))[0]}
        line |= {"low": low, "high": high, "chance": 1 / math.factorial(len(wanted))}
        line |= {"increasing": (steps > 0).all(axis=1).mean(), "decreasing": (steps < 0).all(axis=1).mean()}
        lines.append(line | {"n": n, "note": _small(n)})
    if not lines:
        raise ValueError(f"expected rows of degradation {degradation!r} at levels {levels}, got none")
    return pd.DataFrame(lines)


def ranking_with_failures(
    rows: pd.DataFrame, by: str | Sequence[str] = "downscaler", *, lower_is_better: bool | None = None
) -> pd.DataFrame:
    """Do the ranks hold when every NaN draw gets the worst finite D of all rows?

    An upscaler that breaks on the hard images of one downscaler would otherwise make that one look better.

    Args:
        rows, by, lower_is_better: as in `scores`.

    Returns:
        One line per condition, best first: its name, distortion, mean and rank (common images, finite draws),
        mean_worst and rank_worst (NaN replaced), nan_draws, nan_share (of all draws made), images_lost, holds
        (its rank is the same).

    Raises:
        ValueError: as `scores`; there is no finite value.
    """
    lower = _direction(rows, lower_is_better)
    table = per_image(rows, by)
    finite = rows.value[np.isfinite(rows.value)]
    if finite.empty:
        raise ValueError("expected a finite value, got none")
    filled = rows.assign(value=rows.value.fillna(finite.max() if lower else finite.min()))
    mean, mean_worst = table["mean"].dropna().mean(), _common(per_image(filled, by)["mean"]).mean()
    result = pd.DataFrame({"distortion": rows.distortion.iloc[0], "mean": mean, "rank": _rank(mean, lower)})
    result = result.assign(
        mean_worst=mean_worst, rank_worst=_rank(mean_worst, lower), nan_draws=table["nan_draws"].sum()
    )
    made = sum(table[count].sum() for count in COUNTS)
    result = result.assign(nan_share=result.nan_draws / made, images_lost=table["lost"].sum())
    result = result.assign(holds=result["rank"] == result.rank_worst)
    return _named(result, by).sort_values(["rank", _label(by)], ignore_index=True)


def _checked(rows: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Sorted copy with `condition` and float64 `value`, or the first thing that is wrong."""
    keys = [by] if isinstance(by, str) else list(by)
    missing = [name for name in ("image", "sample", "distortion", "value", *keys) if name not in rows]
    if missing or rows.empty or "distortion" in keys:
        need = f"image, sample, distortion, value, {', '.join(keys)}, compared by any but distortion"
        raise ValueError(f"expected rows with {need}; got {len(rows)} rows without {missing}")
    if not pd.api.types.is_numeric_dtype(rows.value) or rows.image.isna().any():
        got = f"dtype {rows.value.dtype}, {rows.image.isna().sum()} images without a name"
        raise ValueError(f"expected numbers as values and a name for each image, got {got}")
    for name in SETTINGS:
        if name in rows and name not in keys and rows[name].nunique(dropna=False) > 1:
            raise ValueError(f"expected one {name}, got {list(rows[name].unique())}: select one, or add it to by")
    rows = rows.assign(condition=conditions(rows, by), value=rows.value.astype(np.float64))
    draw = ["image", "condition", *(name for name in ("seed", "sample") if name in rows)]
    if (twice := rows.duplicated(draw)).any():
        raise ValueError(f"expected every draw once, got twice: {rows.loc[twice, draw].iloc[0].to_dict()}")
    return rows.sort_values(draw)  # so that the order of the rows does not change the last bit of a sum


def conditions(rows: pd.DataFrame, by: str | Sequence[str]) -> pd.Series:
    """What each row belongs to: the value of `by`, or the values of several joined by " + "."""
    keys = [by] if isinstance(by, str) else list(by)
    if len(keys) == 1 and pd.api.types.is_numeric_dtype(rows[keys[0]]):
        if rows[keys[0]].isna().any():
            raise ValueError(f"expected a number in every row of {keys[0]!r}, got missing ones")
        return rows[keys[0]]
    texts = [rows[key].astype(object).where(rows[key].notna(), "").astype(str).replace("", "none") for key in keys]
    return texts[0].str.cat(texts[1:], sep=" + ") if len(texts) > 1 else texts[0]


def _label(by: str | Sequence[str]) -> str:
    return by if isinstance(by, str) else " + ".join(by)


def _named(table: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """The index, conditions, as the first column."""
    return table.rename_axis(_label(by)).reset_index()


def _direction(rows: pd.DataFrame, lower_is_better: bool | None) -> bool:
    if lower_is_better is not None:
        return lower_is_better
    unknown = [name for name in rows.distortion.unique() if results.lower_is_better(name) is None]
    if unknown or rows.empty:
        raise ValueError(f"expected distortions of known direction, got {unknown}: pass lower_is_better")
    return results.lower_is_better(rows.distortion.iloc[0])


def _rank(means: pd.Series, lower: bool) -> pd.Series:
    """1 = best; ties share their mean rank; NaN has none."""
    return means.rank(ascending=lower)


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


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seeded(seed, "images").initial_seed())


def _resampled_means(values: np.ndarray | pd.DataFrame, n_resamples: int, seed: int) -> np.ndarray:
    """Means of resampled rows (images), the same ones for every column: shape (n_resamples, columns)."""
    n = len(values)
    counts = _generator(seed).multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(np.float64)
    # column by column: one matrix product gives equal columns different last bits, and ties would break
    return np.stack([counts @ np.array(column) for column in np.asarray(values).T], axis=1) / n


def _spearman(means: np.ndarray) -> np.ndarray:
    """Rank correlation of each row with the order of its columns; NaN where a row is constant."""
    places = stats.rankdata(means, axis=1)
    places -= places.mean(axis=1, keepdims=True)
    order = np.arange(means.shape[1]) - (means.shape[1] - 1) / 2
    length = np.sqrt((places**2).sum(axis=1) * (order**2).sum())
    return np.divide(places @ order, length, out=np.full(len(means), np.nan), where=length > 0)


def _quantiles(alpha: float, power: float, pairs: int) -> float:
    if not (0 < alpha < 1 and 0 < power < 1 and pairs >= 1):
        raise ValueError(f"expected alpha and power in (0, 1), pairs >= 1, got {alpha}, {power}, {pairs}")
    return float(stats.norm.ppf(1 - alpha / pairs / 2) + stats.norm.ppf(power))
