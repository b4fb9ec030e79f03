"""Score groups of images, and weigh the groups to one score (post-stratification).

S = sum_g w_g mean_g, Var S = sum_g w_g^2 s_g^2 / n_g, with n_g units, mean mean_g and variance s_g^2 over units in
group g (Cochran, Sampling Techniques, 3rd ed. 1977, Sec. 5 and 5A.9). Photographs are the units, as in `rankings`: n_g
counts them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from helpers.stats import conditions, inference, rankings


class Combined(NamedTuple):
    """A weighted score over groups, its standard error and t interval; NaN where no group has two units."""

    score: float
    se: float
    low: float
    high: float
    df: float  # effective degrees of freedom (Satterthwaite)
    n: int
    groups: int
    alone: int  # groups of one unit: their variance is taken from the other groups


def combine(
    values: Sequence[float], groups: Sequence, weights: Mapping | None = None, *, confidence: float = 0.95
) -> Combined:
    """Post-stratified mean of `values`, one value per unit (photograph).

    A group of one unit has no variance of its own: it gets the pooled variance within the other groups, and `alone`
    counts such groups. The weights are taken as exact.

    Args:
        values: finite numbers.
        groups: the group of each value.
        weights: w_g by group, scaled here to the sum 1; None weighs all groups that occur alike.
        confidence: of the interval.

    Raises:
        ValueError: a value is not finite, the lengths differ, a weight is below 0, a group has no weight, or a
            group with a weight has no unit.
    """
    values = np.asarray(values, dtype=np.float64)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if values.ndim != 1 or values.shape != member.shape or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"expected as many finite values as groups, got {values.shape} and {member.shape}")
    w = np.ones(len(names)) if weights is None else np.array([weights.get(name, np.nan) for name in names.tolist()])
    empty = [] if weights is None else [name for name, weight in weights.items() if weight and name not in names]
    if empty or not (w >= 0).all() or w.sum() <= 0:
        raise ValueError(f"expected a weight >= 0 for each group, images in each; no images: {empty}, weights: {w}")
    w = w / w.sum()
    n = np.bincount(member)
    means = np.bincount(member, values) / n
    squares = np.bincount(member, (values - means[member]) ** 2)
    score, spare = float(w @ means), int((n - 1).sum())
    alone = n == 1
    if spare == 0:
        return Combined(score, np.nan, np.nan, np.nan, np.nan, len(values), len(n), int(alone.sum()))
    variance = np.where(alone, squares.sum() / spare, squares / np.maximum(n - 1, 1))
    parts = w**2 * variance / n
    df_parts = (parts[~alone] ** 2 / (n[~alone] - 1)).sum() + parts[alone].sum() ** 2 / spare
    se = float(np.sqrt(parts.sum()))
    df = float(parts.sum() ** 2 / df_parts) if df_parts > 0 else np.nan
    half = stats.t.ppf(0.5 + confidence / 2, df) * se
    return Combined(score, se, score - half, score + half, df, len(values), len(n), int(alone.sum()))


def group_scores(rows: pd.DataFrame, labels: Mapping[str, str], by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """Score each group of images, with a t interval over the photographs of the group.

    Args:
        rows: one row per draw.
        labels: image -> group.
        by: columns that are compared.

    Returns:
        One line per condition and group: its name, group, mean, sd, se, low, high, interval, n (photographs), images,
        lost (images without a finite draw).

    Raises:
        ValueError: as `rankings.per_image`; an image has no label.
    """
    means, groups = _means(rows, labels, by)
    lines = []
    for name in means:
        for group, column in means[name].groupby(groups):
            kept = column.dropna()
            units = conditions.by_photograph(kept, rows)
            low, high, kind = rankings.interval(units)
            line = {"condition": name, "group": group, "mean": units.mean(), "sd": units.std(), "se": units.sem()}
            line |= {"low": low, "high": high, "interval": kind, "n": len(units), "images": len(kept)}
            lines.append(line | {"lost": len(column) - len(kept)})
    return pd.DataFrame(lines)


def poststratify(
    rows: pd.DataFrame,
    labels: Mapping[str, str],
    weights: Mapping[str, float] | None = None,
    by: str | Sequence[str] = "downscaler",
    *,
    baseline: str | None = None,
) -> pd.DataFrame:
    """Weigh the groups of images to one score of each condition, beside its plain mean over photographs.

    Args:
        rows, labels, by: as in `group_scores`.
        weights: as in `combine`.
        baseline: take the differences to this condition, image by image, instead of the scores.

    Returns:
        One line per condition: condition, plain and se_plain (every photograph counts alike), then the fields of
        `Combined`, and images.

    Raises:
        ValueError: as `group_scores` and `combine`; unknown baseline; a photograph has images in several groups, which
            are then not independent.
    """
    means, groups = _means(rows, labels, by)
    photographs = conditions.photographs(rows)[means.index]
    if (several := groups.groupby(photographs).nunique() > 1).any():
        raise ValueError(f"expected one label for all images of a photograph, got several for {several.idxmax()!r}")
    if baseline is not None:
        if baseline not in means:
            raise ValueError(f"baseline: expected one of {list(means)}, got {baseline!r}")
        means = means.drop(columns=baseline).sub(means[baseline], axis=0)
    lines = []
    for name in means:
        kept = means[name].dropna()
        units, label = conditions.by_photograph(kept, rows), groups.groupby(photographs).first()
        result = combine(units, label[units.index], weights)._asdict()
        lines.append(
            {"condition": name, "plain": units.mean(), "se_plain": units.sem()} | result | {"images": len(kept)}
        )
    return pd.DataFrame(lines)


def _means(rows: pd.DataFrame, labels: Mapping[str, str], by) -> tuple[pd.DataFrame, pd.Series]:
    """Means of the images by condition, and the group of each image."""
    means = rankings.per_image(rows, by)["mean"]
    if unknown := [image for image in means.index if image not in labels]:
        raise ValueError(f"expected a label for each image, got none for {len(unknown)}: {unknown[:5]}")
    return means, pd.Series([labels[image] for image in means.index], index=means.index)


def level_gaps(scores: pd.Series, labels: pd.DataFrame) -> pd.DataFrame:
    """Compare each level of each label with the rest of its label: Welch's t test, Holm over all levels.

    Args:
        scores: one per unit (photograph, face).
        labels: one line per unit, a column per label.

    Returns:
        One line per label and level: label, level, n, difference (mean of the level minus that of the rest), low, high
        (95 %), p, p_holm. A label of two levels has one line; a level of one unit, or all units, has none.
    """
    lines = []
    for label in labels:
        levels = list(labels[label].unique())
        for level in levels if len(levels) > 2 else levels[:1]:
            chosen = (labels[label] == level).to_numpy()
            if 1 < chosen.sum() < len(chosen) - 1:
                test = stats.ttest_ind(scores[chosen], scores[~chosen], equal_var=False)
                ends = test.confidence_interval(0.95)
                difference = scores[chosen].mean() - scores[~chosen].mean()
                lines.append([label, level, int(chosen.sum()), difference, ends.low, ends.high, test.pvalue])
    found = pd.DataFrame(lines, columns=["label", "level", "n", "difference", "low", "high", "p"])
    return found.assign(p_holm=inference.holm(found.p) if len(found) else [])
