"""Curves of distortion over rate: Bjontegaard's mean difference of two, and its interval over photographs.

Bjontegaard (VCEG-M33, 2001) averages the difference of two curves over the logarithm of the rate; curves are
interpolated by monotone cubics (PCHIP), which neither overshoot nor need four points to be a cubic (BJM of 2020).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator

from helpers.stats.inference import holm, interval, t_test

FEWEST = 4  # points of a curve within the common interval of rates, its ends counted


def bd_distortion(
    rates: Sequence[float], values: Sequence[float], of_rates: Sequence[float], of_values: Sequence[float]
) -> float:
    """Mean difference of a distortion at equal rate: of the second curve minus the first.

    Args:
        rates, values: points of the reference, in any order: rates above 0, such as bits a pixel, all different.
        of_rates, of_values: points of the other curve.

    Returns:
        Mean of the difference over log rate, on the interval that both curves cover: nothing is extrapolated. NaN where
        they cover none, or one of them has fewer than `FEWEST` points there (the ends, interpolated, count).

    Raises:
        ValueError: a rate is not above 0 or occurs twice, a value is not finite, or there are other numbers of both.
    """
    curves = [_curve(*each) for each in ((rates, values), (of_rates, of_values))]
    low = max(x[0] for x, _ in curves)
    high = min(x[-1] for x, _ in curves)
    if low >= high or any(2 + ((low < x) & (x < high)).sum() < FEWEST for x, _ in curves):
        return float("nan")
    areas = [PchipInterpolator(x, y).integrate(low, high) for x, y in curves]
    return float((areas[1] - areas[0]) / (high - low))


def _curve(rates: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Points of one curve, sorted, over log10 of the rate."""
    rates, values = np.asarray(rates, np.float64), np.asarray(values, np.float64)
    if rates.shape != values.shape or rates.ndim != 1 or len(rates) < 2:
        raise ValueError(f"expected as many rates as values, two at least, got shapes {rates.shape} and {values.shape}")
    if not (np.isfinite(rates) & (rates > 0)).all():
        raise ValueError(f"rates: expected numbers above 0, got {rates[~(np.isfinite(rates) & (rates > 0))][0]}")
    if not np.isfinite(values).all():
        raise ValueError(f"values: expected finite numbers, got {(~np.isfinite(values)).sum()} that are not")
    order = np.argsort(rates)
    twice = np.diff(rates[order]) == 0
    if twice.any():
        raise ValueError(f"rates: expected each once, got {rates[order][1:][twice][0]} twice")
    return np.log10(rates[order]), values[order]


def compare(
    points: pd.DataFrame, reference: str, *, by: str = "downscaler", rate: str = "rate", value: str = "value"
) -> pd.DataFrame:
    """Compare the curves of several methods with one of them, photograph by photograph.

    Args:
        points: one line a photograph, method and rate: columns `group`, `by`, `rate` and `value`.
        reference: the method that the others are compared with.

    Returns:
        One line a method but the reference: its name, bd (mean over photographs of `bd_distortion`, negative is
        better where less is), low, high (95 %, t), p (paired t), p_holm (over all lines), n (photographs), without
        (photographs whose curves share too little).

    Raises:
        ValueError: no such reference, a column is missing, or as `bd_distortion`.
    """
    if absent := [name for name in ("group", by, rate, value) if name not in points]:
        raise ValueError(f"points: missing columns {', '.join(absent)}")
    if reference not in set(points[by]):
        raise ValueError(f"reference: expected one of {', '.join(sorted(set(points[by])))}, got {reference!r}")
    curves = {key: (part[rate], part[value]) for key, part in points.groupby([by, "group"])}
    groups = sorted(set(points.group))
    lines = []
    for method in sorted(set(points[by]) - {reference}):
        pairs = [
            (curves[reference, g], curves[method, g]) for g in groups if {(reference, g), (method, g)} <= set(curves)
        ]
        found = np.array([bd_distortion(*one, *two) for one, two in pairs])
        kept = found[np.isfinite(found)]
        line = {by: method, "bd": kept.mean() if len(kept) else np.nan, "low": np.nan, "high": np.nan, "p": np.nan}
        if len(kept) > 1:
            ends = interval(kept)
            line |= {"low": ends.low, "high": ends.high, "p": float(t_test(kept))}
        lines.append(line | {"n": len(kept), "without": len(groups) - len(kept)})
    table = pd.DataFrame(lines, columns=[by, "bd", "low", "high", "p", "n", "without"]).assign(p_holm=np.nan)
    known = table.p.notna()
    table.loc[known, "p_holm"] = holm(table.p[known].to_numpy())
    return table.sort_values("bd", ignore_index=True)
