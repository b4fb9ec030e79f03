"""Scores, paired differences and ranks of downscalers, with intervals over photographs.

All downscalers see the same images, so the design is paired and clustered: the finite draws of an image are averaged,
then the images (crops) of a photograph; photographs are the units of every interval, test and rank. A 95 % interval
over draws or crops as if they were independent covers far less (`python -m tools.simulate`). `rows` is always a
DataFrame with columns of `helpers.results`: at least image, sample, distortion, value and those in `by`, the columns
that are compared; `group` names the photograph, and an image without one is a photograph of its own. All other settings
must be constant, so scales, data sets or metrics are never averaged together. Equal rows give equal tables, whatever
their order.
"""

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from helpers.stats import bootstrap, conditions
from helpers.stats.conditions import by_photograph
from helpers.stats.inference import holm, interval, known_signs, rank_ends, t_test, unanimous, varies

RESAMPLES = 9999
COUNTS = ["draws", "nan_draws", "inf_draws"]


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


def per_photograph(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """Means of photographs (index) x conditions: over draws, then over the images that all conditions have.

    The attribute `attrs` of the table names the data sets.

    Raises:
        ValueError: as `per_image`; the conditions have no image in common.
    """
    table = by_photograph(_common(per_image(rows, by)["mean"]), rows)
    table.attrs["dataset"] = sorted(set(map(str, rows.dataset))) if "dataset" in rows else []
    return table


def scores(
    rows: pd.DataFrame, by: str | Sequence[str] = "downscaler", *, lower_is_better: bool | None = None
) -> pd.DataFrame:
    """Score S of each condition, best first: Eq. 2 of Liang et al. (CVPR 2024), with an interval over photographs.

    Every photograph counts alike, however many of its crops are scored.

    Args:
        rows: one row per draw.
        by: columns that are compared.
        lower_is_better: direction of the values; None looks it up by the name of the distortion.

    Returns:
        One line per condition: its name, distortion, lower_is_better, mean (of the means of photographs), sd (over
        photographs), se (sd / sqrt n), sd_draws (over all draws, images ignored: the spread papers print, no error of
        the mean), low, high and interval (95 %, t), n (photographs), images, draws, nan_draws, inf_draws, images_lost,
        clipped (mean share of the LR image's values that were clipped; NaN where rows do not say), mean_common (over
        the images that every condition has) and its rank.

    Raises:
        ValueError: as `per_image`; or the direction is unknown.
    """
    lower = conditions.direction(rows, lower_is_better)
    found = per_image(rows, by)
    table = {name: found[name] for name in ("mean", "variance", *COUNTS, "lost")}
    clipped = conditions.check(rows, by).groupby("condition").clipped.mean() if "clipped" in rows else pd.Series()
    units = by_photograph(table["mean"], rows)
    common = by_photograph(table["mean"].dropna(), rows)
    lines = []
    for name in table["mean"]:
        kept, photos = table["mean"][name].notna(), units[name].dropna()
        means, draws = table["mean"][name][kept], table["draws"][name][kept]
        total = draws.sum()
        within = (table["variance"][name] * (draws - 1)).sum()  # an image with one draw has none
        between = (draws * (means - (draws * means).sum() / max(total, 1)) ** 2).sum()
        low, high, kind = interval(photos)
        line = {conditions.label(by): name, "distortion": rows.distortion.iloc[0], "lower_is_better": lower}
        line |= {"mean": photos.mean(), "sd": photos.std(ddof=1), "se": photos.sem()}
        line |= {"sd_draws": math.sqrt((within + between) / (total - 1)) if total > 1 else math.nan}
        line |= {"low": low, "high": high, "interval": kind, "n": len(photos), "images": len(means)}
        line |= {count: table[count][name].sum() for count in COUNTS}
        line |= {"images_lost": table["lost"][name].sum(), "clipped": clipped.get(name, math.nan)}
        lines.append(line | {"mean_common": common[name].mean()})
    result = pd.DataFrame(lines)
    result["rank"] = result.mean_common.rank(ascending=lower)  # ties share their mean rank; NaN has none
    return result.sort_values(["rank", conditions.label(by)], ignore_index=True)


def paired(
    rows: pd.DataFrame,
    baseline: str | None = None,
    by: str | Sequence[str] = "downscaler",
    *,
    lower_is_better: bool | None = None,
) -> pd.DataFrame:
    """Differences f - g, image by image on the common images of each pair: all pairs, or all against one.

    Differences are averaged over the images of a photograph. The Holm adjustment is over exactly the pairs of the
    returned table: state them, and alpha, beforehand.

    Args:
        rows: one row per draw.
        baseline: g of every pair; None compares all pairs, the better one as f.
        by, lower_is_better: as in `scores`.

    Returns:
        One line per pair: f, g, distortion, lower_is_better, difference (mean, in units of D), low, high, interval
        (95 %, t), p (paired t test, see `t_test`), p_holm, p_wilcoxon (signed rank, Pratt's zeros) and wilcoxon_holm
        beside it, d_z (mean / sd of the differences), wins and ties (shares of photographs where f is better, and
        equal), n (common photographs), images (common ones), left_out (images that only one of the two has), note,
        family (p-values adjusted together), p_missing (pairs without a p, taken out before). Differences that are all
        zero are noted as "identical", others without spread as "constant difference"; the p of the former is 1, both
        tests of the latter are the sign test (see `inference.unanimous`).

    Raises:
        ValueError: as `scores`; unknown baseline; fewer than two conditions.
    """
    lower = conditions.direction(rows, lower_is_better)
    means = per_image(rows, by)["mean"]
    best = by_photograph(means, rows).mean().rank(ascending=lower)
    names = list(best.sort_values(kind="stable").index)
    if len(names) < 2 or (baseline is not None and baseline not in names):
        raise ValueError(f"expected two conditions or more and baseline={baseline!r} among them, got {names}")
    against_one = [(f, baseline) for f in names if f != baseline]
    pairs = list(itertools.combinations(names, 2)) if baseline is None else against_one
    differences, images, left_out = _differences(means, pairs, rows)
    lines = []
    for k, (f, g) in enumerate(pairs):
        d = differences[k].dropna().to_numpy()
        if baseline is None and _mean(d if lower else -d) > 0:  # on the common images g is the better one
            f, g, d = g, f, -d
        n, identical = len(d), len(d) > 0 and not d.any()
        low, high, kind = interval(d)
        p = float(t_test(d))
        spread = n > 1 and varies(d)
        wilcoxon = stats.wilcoxon(d, zero_method="pratt").pvalue if spread else p
        line = {"f": f, "g": g, "distortion": rows.distortion.iloc[0], "lower_is_better": lower}
        line |= {"difference": _mean(d), "low": low, "high": high, "interval": kind, "p": p, "p_holm": math.nan}
        line |= {"p_wilcoxon": wilcoxon, "wilcoxon_holm": math.nan, "d_z": _mean(d) / _sd(d)}
        line |= {"wins": _mean(d < 0 if lower else d > 0), "ties": _mean(d == 0)}
        why = "no common image" if not n else "no test (n<2)" if n < 2 else "" if spread else "constant difference"
        note = "identical" if identical else why
        lines.append(line | {"n": n, "images": images[k], "left_out": left_out[k], "note": note})
    result = pd.DataFrame(lines)
    tested = result.p.notna()
    for raw, adjusted in (("p", "p_holm"), ("p_wilcoxon", "wilcoxon_holm")):
        result.loc[tested, adjusted] = holm(result[raw][tested])  # one NaN inside Holm would move all the others
    return result.assign(family=tested.sum(), p_missing=(~tested).sum())


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
        both tests reject), margin, p, equivalent, n (photographs), images, left_out, note. Constant differences have
        the p of one-sided sign tests, 2^-n within the margin: at 0.05 they are equivalent from five photographs on.

    Raises:
        ValueError: as `per_image`; unknown names; margin not above 0; alpha not in (0, 0.5).
    """
    means = per_image(rows, by)["mean"]
    if not {f, g} <= set(means) or f == g or not 0 < margin < math.inf or not 0 < alpha < 0.5:
        got = f"{f!r}, {g!r}, margin={margin!r}, alpha={alpha!r}"
        raise ValueError(f"expected two of {list(means)}, margin > 0 and alpha in (0, 0.5), got {got}")
    differences, images, left_out = _differences(means, [(f, g)], rows)
    d = differences[0].dropna().to_numpy()
    low = high = p = math.nan
    if len(d) < 2:
        equivalent, note = False, "no test (n<2)"
    elif not varies(d):
        p, note = (
            unanimous(len(d)) / 2 if abs(d[0]) < margin else 1.0,
            "constant difference" if d.any() else "identical",
        )
        equivalent = p < alpha
    else:
        low, high = stats.t.interval(1 - 2 * alpha, len(d) - 1, d.mean(), stats.sem(d))
        p = ttost_paired(d, np.zeros(len(d)), -margin, margin)[0]
        equivalent, note = p < alpha, ""
    line = {"f": f, "g": g, "distortion": rows.distortion.iloc[0], "difference": _mean(d), "low": low}
    line |= {"high": high, "margin": margin, "p": p, "equivalent": bool(equivalent), "n": len(d)}
    return pd.DataFrame([line | {"images": images[0], "left_out": left_out[0], "note": note}])


def ranks(
    rows: pd.DataFrame,
    by: str | Sequence[str] = "downscaler",
    *,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
    lower_is_better: bool | None = None,
) -> pd.DataFrame:
    """Rank the conditions, with the ranks that the photographs leave open.

    A rank lies between 1 + the number of conditions shown to be better and the number not shown to be worse (t tests,
    Holm over all pairs: Klein, Wright and Wieczorek 2020, with Holm), so all intervals hold *together* with 95 %.
    Percentiles of resampled ranks hold one by one at best: together 30 % at 5 photographs and 86 % at 100 with seven
    near ties, where these hold in 99 % (`python -m tools.simulate`).

    Args:
        rows, by, lower_is_better: as in `scores`; only images that all conditions have are used.
        n_resamples, seed: of the bootstrap over photographs behind p_best.

    Returns:
        One line per condition, best first: its name, distortion, mean, rank, rank_low and rank_high (95 %, for all
        conditions together), p_best (share of resamples where it is first, ties shared; a resample has only what was
        photographed, so that 1 is nothing certain at few photographs), n (photographs), images, note.

    Raises:
        ValueError: as `scores`; the conditions have no image in common.
    """
    lower = conditions.direction(rows, lower_is_better)
    common = _common(per_image(rows, by)["mean"])
    units = by_photograph(common, rows)
    n, mean = len(units), units.mean()
    values = (1 if lower else -1) * units.to_numpy()
    places = stats.rankdata(bootstrap.resample_means(values, n_resamples, bootstrap.generator(seed, "images")), axis=1)
    first = places == places.min(axis=1, keepdims=True)
    p_best = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    low, high = rank_ends(values)
    if n < 2:
        low = high = p_best = math.nan
    result = pd.DataFrame({"distortion": rows.distortion.iloc[0], "mean": mean, "rank": mean.rank(ascending=lower)})
    result = result.assign(rank_low=low, rank_high=high, p_best=p_best, n=n, images=len(common), note=_note(n))
    return _best_first(result, by)


def monotonicity(
    rows: pd.DataFrame,
    degradation: str,
    by: str | Sequence[str] = "downscaler",
    *,
    levels: Iterable[float] | None = None,
) -> pd.DataFrame:
    """Correlate the level of a degradation with the score (Tables 1 and 2 of the paper): Spearman's rho.

    The scores are means over the images that have all levels. rho is a weighted sum of the signs of the differences
    between levels, so its interval runs over the signs that photographs leave open (`known_signs`). Chance alone gives
    rho = 1 with probability 1 / L! for L levels, one in six for the paper's three.

    Args:
        rows: one row per draw; those of other degradations are ignored.
        degradation: its name.
        by: columns; one line for each of their values.
        levels: those to use (contrast above and below 1 are two questions); None takes all there are.

    Returns:
        One line per condition: its name, distortion, degradation, levels (how many), spearman, low and high (95 %),
        chance, increasing and decreasing (shares of photographs whose means strictly rise, or strictly fall, through
        all levels), n (photographs), images, note.

    Raises:
        ValueError: as `per_image`; fewer than two levels, or not those asked for; no image has all levels.
    """
    missing = {"degradation", "level", *conditions.columns(by)} - set(rows)
    if missing or "level" in conditions.label(by):
        raise ValueError(f"expected rows with degradation and level, not by level, got none of {sorted(missing)}")
    rows = rows[rows.degradation == degradation]
    rows = rows.assign(level=pd.to_numeric(rows.level), condition=conditions.name(rows, by))
    rows = rows[rows.level.isin(rows.level if levels is None else levels)]
    wanted = sorted(rows.level.unique() if levels is None else levels)
    lines = []
    for name, part in rows.groupby("condition"):
        if len(wanted) < 2 or sorted(part.level.unique()) != wanted:
            got = sorted(part.level.unique())
            raise ValueError(f"{degradation}, {name}: expected two or more levels, {wanted}, got {got}")
        images = _common(per_image(part, "level")["mean"])  # (images, levels), levels rising
        units = by_photograph(images, part).to_numpy()
        n, steps = len(units), np.diff(units, axis=1)
        low, high = _open_rhos(units) if n > 1 else (math.nan, math.nan)
        rho = bootstrap.spearman(units.mean(axis=0, keepdims=True), np.arange(len(wanted))[None])[0]
        line = {conditions.label(by): name, "distortion": rows.distortion.iloc[0], "degradation": degradation}
        line |= {"levels": len(wanted), "spearman": rho, "low": low, "high": high}
        line |= {"chance": 1 / math.factorial(len(wanted)), "increasing": (steps > 0).all(axis=1).mean()}
        line |= {"decreasing": (steps < 0).all(axis=1).mean(), "n": n, "images": len(images)}
        lines.append(line | {"note": _note(n)})
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
    mean, mean_worst = by_photograph(table["mean"].dropna(), rows).mean(), per_photograph(filled, by).mean()
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


def _differences(means: pd.DataFrame, pairs: Sequence[tuple], rows: pd.DataFrame) -> tuple[pd.DataFrame, list, list]:
    """f - g by photograph over the common images of a pair; how many they are, and how many only one of the two has."""
    gaps = pd.concat([means[f] - means[g] for f, g in pairs], axis=1, keys=range(len(pairs)))
    left_out = [int((means[f].isna() != means[g].isna()).sum()) for f, g in pairs]
    return by_photograph(gaps, rows), gaps.count().tolist(), left_out


def _open_rhos(units: np.ndarray) -> tuple[float, float]:
    """Least and greatest Spearman's rho of level and mean, over the signs of differences that are not known.

    For ranks r_1 ... r_L without ties, sum_i i (r_i - (L + 1) / 2) = 1/2 sum_{i < j} (j - i) sign(r_j - r_i).
    """
    count = units.shape[1]
    lower, upper = np.triu_indices(count, 1)
    signs = known_signs(units[:, upper] - units[:, lower])[0]
    weights = (upper - lower) / 2
    tied = [1 + (signs[(lower == k)] == 0).sum() for k in range(count) if not (signs[upper == k] == 0).any()]
    square = (count**3 - count) / 12
    norm = math.sqrt(square * (square - sum(t**3 - t for t in tied) / 12))
    if not norm:
        return math.nan, math.nan
    known, free = np.nansum(weights * signs), weights[np.isnan(signs)].sum()
    return max(-1.0, (known - free) / norm), min(1.0, (known + free) / norm)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 and varies(values) else math.nan


def _note(n: int) -> str:
    return "no interval (n<2)" if n < 2 else ""
