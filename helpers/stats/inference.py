"""One convention for every interval and test: Student's t over photographs, Holm over all comparisons of a table.

Values that are the same on every photograph have no spread, and t would be infinite: `unanimous` says what they show.
`python -m tools.simulate` prints how often these cover and reject, beside what they were chosen over.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

ALPHA = 0.05  # level at which the sign of a difference counts as known, after Holm over all pairs


class Interval(NamedTuple):
    """Ends of an interval and how it was made; both ends are NaN where there is none."""

    low: float
    high: float
    kind: str


def interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """95 % interval of the mean of `values`, one value per photograph: Student's t.

    Nominal 95 % covers 95 % at any number of normal values, where percentile and BCa bootstraps cover 83 % at 5, 91 %
    at 10 and 93 % at 30. Skew costs coverage, of the bootstraps as well: of lognormal values t covers 82 % at 5, 83 %
    at 10, 88 % at 30, 91 % at 100 and 94 % at 300, BCa 75, 82, 89, 92 and 94 % (all by `python -m tools.simulate`).

    Raises:
        ValueError: a value is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite values, got {(~np.isfinite(values)).sum()} that are not")
    n = len(values)
    if n < 2 or not varies(values):
        return Interval(math.nan, math.nan, "no interval (n<2)" if n < 2 else "no interval (constant)")
    low, high = stats.t.interval(confidence, n - 1, values.mean(), stats.sem(values))
    return Interval(float(low), float(high), "t")


def jackknife(function: Callable[[dict[str, np.ndarray]], np.ndarray], parts: dict[str, np.ndarray]) -> tuple:
    """95 % intervals of a function of several means, such as a ratio: Student's t over jackknife pseudo-values.

    Of a mean itself it is `interval`. Ratios of squared errors over 10 photographs are covered in 94 %, by percentiles
    of a bootstrap in 89 % (`python -m tools.simulate`).

    Args:
        function: from means, shape (..., conditions) by name, to values of that shape.
        parts: values by name, shape (photographs, conditions).

    Returns:
        Low and high ends, shape (conditions,); NaN for one photograph, or where a value is not finite. Where the
        photographs are too few to know that all others are like them (see `unanimous`), equal values have none.
    """
    n = len(next(iter(parts.values())))
    whole = function({name: x.mean(axis=0) for name, x in parts.items()})
    if n < 2:
        return np.full(whole.shape, math.nan), np.full(whole.shape, math.nan)
    with np.errstate(invalid="ignore"):
        without = function({name: (x.sum(axis=0) - x) / (n - 1) for name, x in parts.items()})
        half = stats.t.ppf(0.975, n - 1) * (n - 1) / math.sqrt(n) * without.std(axis=0, ddof=1)
        if unanimous(n) >= ALPHA:
            half = np.where(varies(without), half, math.nan)
    return whole - half, whole + half


def unanimous(n: int) -> float:
    """p of differences that are the same on all of `n` photographs: 2^(1 - n), that of the sign test; 1 for n = 1.

    Equal values come of a D in steps, or of equal pictures: their spread is smaller than what was measured, and not 0.
    Were gain and loss as likely, n photographs would agree so often; below `ALPHA` that is from six on. To take
    constant differences for sure calls 12 % of pairs of photographs different whose true mean difference is 0 and whose
    spread is one step of D, 6 % where it is four steps; with this p it is 0. Where values differ t is used from two
    photographs on: at 2 to 6 it rejects in 5 % or less, in steps as without (`python -m tools.simulate`).
    """
    return 2.0 ** (1 - n)


def t_test(d: np.ndarray) -> np.ndarray:
    """p of paired t tests: 1 where all differences are 0, `unanimous` where they are constant, NaN of fewer than two.

    The t test asks for the mean that the tables print and agrees with its interval. Wilcoxon's asks whether the
    differences are symmetric about 0: where rare failures make up for a small gain, so that the mean difference is 0,
    it rejects in 89 % of sets of 100 and in all of 900, and t in 14 % and 5 % (a loss of 20 sd in 2 % of photographs).
    Where failures are so rare that a set has none, no test holds its level: both reject in 16 % of sets of 10. Flipping
    signs at random does as t does, and can reach no small p at few photographs (`python -m tools.simulate`).

    Args:
        d: differences, one per photograph, shape (photographs,) or (photographs, tests).

    Returns:
        Shape () or (tests,).
    """
    n = len(d)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(d.mean(axis=0)) / stats.sem(d), n - 1) if n > 1 else np.full(d.shape[1:], math.nan)
    same = unanimous(n) if n > 1 else math.nan
    return np.where(varies(d), p, np.where(n and (d == 0).all(axis=0), 1.0, same))


def known_signs(*sets: np.ndarray) -> list[np.ndarray]:
    """Signs of mean differences that the photographs settle, all of them at once: t tests, Holm over all columns.

    Args:
        sets: differences, shape (photographs, pairs) each; Holm's family are the pairs of all sets.

    Returns:
        -1, 0 or 1 for each pair of each set, NaN where it is open at `ALPHA`. That conditions are equal (0) is known
        where they are on so many photographs that `unanimous` is below it.
    """
    p = np.concatenate([np.where((d == 0).all(axis=0), unanimous(len(d)), t_test(d)) for d in sets])
    p[np.isfinite(p)] = holm(p[np.isfinite(p)])
    means = np.concatenate([d.mean(axis=0) for d in sets])
    signs = np.where(p < ALPHA, np.sign(means), math.nan)
    return np.split(signs, np.cumsum([d.shape[1] for d in sets])[:-1])


def rank_ends(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest rank of each condition, lower values being better, that hold together with 95 %.

    Args:
        values: shape (photographs, conditions).

    Returns:
        Two arrays of shape (conditions,); conditions that are known to be equal share their ranks.
    """
    count = values.shape[1]
    f, g = np.triu_indices(count, 1)
    signs = np.full((count, count), math.nan)
    signs[f, g] = known_signs(values[:, f] - values[:, g])[0]
    signs[g, f] = -signs[f, g]
    shared = (signs == 0).sum(axis=1) / 2
    return 1 + (signs > 0).sum(axis=1) + shared, count - (signs < 0).sum(axis=1) - shared


def holm(p: Sequence[float]) -> np.ndarray:  # statsmodels collects garbage in each call: 0.3 s beside torch
    """Adjust p values for their number (Holm 1979)."""
    p = np.asarray(p, dtype=np.float64)
    order = p.argsort()
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted


def varies(values: np.ndarray) -> np.ndarray:
    """True where values differ along the first axis by more than rounding to float32 leaves; False of none."""
    if not len(values):
        return np.zeros(values.shape[1:], dtype=bool)
    return np.asarray(np.ptp(values, axis=0) > 1e-6 * np.abs(values).max(axis=0))
