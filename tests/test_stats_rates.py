"""Curves over rate: closed forms, a published implementation, intervals over photographs, bad points."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers.stats import rates
from helpers.stats.inference import interval

R = [0.1, 0.2, 0.4, 0.8, 1.6]


def test_a_constant_gap_is_itself():
    values = [0.5, 0.4, 0.3, 0.25, 0.2]
    assert rates.bd_distortion(R, values, R, [v - 0.07 for v in values]) == pytest.approx(-0.07)
    assert rates.bd_distortion(R[::-1], values[::-1], R, values) == 0


def test_the_closed_form_of_two_lines_over_the_common_interval():
    """Lines over log rate are kept by PCHIP: the mean gap is the one at the middle of the common interval."""
    x, y = np.log10(R), np.log10([0.2, 0.3, 0.5, 0.9, 3.2])
    found = rates.bd_distortion(10**x, 1 - 0.5 * x, 10**y, 0.8 - 0.1 * y)
    middle = (max(x[0], y[0]) + min(x[-1], y[-1])) / 2
    assert found == pytest.approx((0.8 - 0.1 * middle) - (1 - 0.5 * middle))


def test_as_a_published_implementation():
    published = pytest.importorskip("bjontegaard", reason="pip install -e '.[dev]'")
    generator = np.random.default_rng(0)
    for _ in range(20):
        one, two = (np.sort(generator.uniform(0.05, 2, 6)) for _ in range(2))
        psnr = [30 + 5 * np.log2(1 + each) + generator.uniform(0, 0.05, 6) for each in (one, two)]
        expected = published.bd_psnr(one, psnr[0], two, psnr[1], method="pchip", min_overlap=0)
        if not math.isnan(found := rates.bd_distortion(one, psnr[0], two, psnr[1])):
            assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "other", [[2.0, 3.0, 4.0, 5.0, 6.0], [1.5, 2.0, 3.0, 4.0, 5.0], [0.01, 0.02, 0.03, 0.04, 0.11]]
)
def test_nothing_is_extrapolated(other):
    assert math.isnan(rates.bd_distortion(R, range(5), other, range(5)))


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([0.1, 0.2, 0.2, 0.3], range(4), "expected each once, got 0.2 twice"),
        ([0.0, 0.2, 0.3, 0.4], range(4), "expected numbers above 0, got 0.0"),
        ([math.nan, 0.2, 0.3, 0.4], range(4), "expected numbers above 0, got nan"),
        (R, [0, 1, math.inf, 2, 3], "values: expected finite numbers, got 1 that are not"),
        (R, range(4), r"got shapes \(5,\) and \(4,\)"),
        ([1.0], [1.0], "two at least"),
    ],
)
def test_points_that_are_no_curve(x, y, words):
    with pytest.raises(ValueError, match=words):
        rates.bd_distortion(x, list(y), R, range(5))


def points(gaps, name="ours"):
    lines = []
    for group, gap in enumerate(gaps):
        for rate in R:
            lines.append({"group": f"p{group}", "downscaler": "bicubic", "rate": rate, "value": 1 - math.log10(rate)})
            lines.append({"group": f"p{group}", "downscaler": name, "rate": rate, "value": 1 - math.log10(rate) + gap})
    return pd.DataFrame(lines)


def test_intervals_are_over_photographs():
    gaps = [-0.1, -0.12, -0.07, -0.11, -0.09]
    [line] = rates.compare(points(gaps), "bicubic").itertuples()
    low, high, _ = interval(gaps)
    assert (line.downscaler, line.n, line.without) == ("ours", 5, 0)
    assert (line.bd, line.low, line.high) == pytest.approx((np.mean(gaps), low, high)) and line.p_holm == line.p < 0.01


def test_photographs_without_a_common_interval_are_counted():
    table = points([-0.1, -0.12, -0.07])
    table.loc[(table.group == "p1") & (table.downscaler == "ours"), "rate"] *= 1000
    [line] = rates.compare(table, "bicubic").itertuples()
    assert (line.n, line.without) == (2, 1) and line.bd == pytest.approx(-0.085)
    table.loc[table.downscaler == "ours", "rate"] *= 1000000
    [line] = rates.compare(table, "bicubic").itertuples()
    assert (line.n, line.without) == (0, 3) and math.isnan(line.bd) and math.isnan(line.p_holm)


def test_the_other_methods_share_one_family_of_tests():
    one, two = points([-0.1, -0.12, -0.07]), points([0.2, -0.1, 0.05], "worse")
    table = rates.compare(pd.concat([one, two[two.downscaler == "worse"]]), "bicubic")
    assert table.downscaler.tolist() == ["ours", "worse"] and table.p_holm[0] == pytest.approx(2 * table.p[0])
    with pytest.raises(ValueError, match="reference: expected one of bicubic, ours, got 'lanczos'"):
        rates.compare(one, "lanczos")
    with pytest.raises(ValueError, match="missing columns group, rate"):
        rates.compare(one[["downscaler", "value"]], "bicubic")
