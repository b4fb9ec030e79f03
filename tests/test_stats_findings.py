"""Findings: quantities with intervals as text, and what an interval decides."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers import notebook
from helpers.stats import findings
from helpers.stats.findings import CONTRADICTED, NOT_SHOWN, SUPPORTED, Quantity


@pytest.mark.parametrize(
    "numbers, form, expected",
    [
        ((0.02134, 0.017, 0.0257, 33), "", "0.0213 [0.0170, 0.0257]"),
        ((2.74, -1.1, 6.5, 9), "", "2.7 [-1.1, 6.5]"),
        ((41.6, 12.0, 71.2, 9), "", "42 [12, 71]"),
        ((0.161, 0.15, 0.17, 9), ".0%", "16% [15%, 17%]"),
        ((0.161, math.nan, math.nan, 1), ".2f", "0.16 [no interval]"),
        ((0.161, math.nan, math.nan, 1), "", "0.16 [no interval]"),
        ((0.0, 0.0, 0.0, 3), "", "0.000 [0.000, 0.000]"),
    ],
)
def test_a_quantity_is_written_with_its_interval(numbers, form, expected):
    assert format(Quantity(*numbers), form) == expected


def test_the_mean_has_a_t_interval():
    values = pd.Series([0.1, 0.4, 0.3, 0.2])
    found = findings.mean(values)
    low, high = stats.t.interval(0.95, 3, 0.25, stats.sem(values))
    assert found.n == 4 and np.allclose(found[:3], (0.25, low, high))
    assert math.isnan(findings.mean(values[:1]).low)
    with pytest.raises(ValueError, match="got none"):
        findings.mean(values[:0])


@pytest.mark.parametrize(
    "ends, where, expected",
    [
        ((0.1, 0.3), {"above": 0}, SUPPORTED),
        ((-0.3, -0.1), {"above": 0}, CONTRADICTED),
        ((-0.1, 0.3), {"above": 0}, NOT_SHOWN),
        ((0.0, 0.3), {"above": 0}, NOT_SHOWN),
        ((-0.3, 0.0), {"above": 0}, CONTRADICTED),
        ((-0.3, -0.1), {"below": 0}, SUPPORTED),
        ((-0.01, 0.01), {"above": -0.02, "below": 0.02}, SUPPORTED),
        ((-0.03, 0.01), {"above": -0.02, "below": 0.02}, NOT_SHOWN),
        ((0.03, 0.05), {"above": -0.02, "below": 0.02}, CONTRADICTED),
        ((math.nan, math.nan), {"above": 0}, NOT_SHOWN),
    ],
)
def test_the_interval_decides(ends, where, expected):
    assert findings.verdict(Quantity(sum(ends) / 2, *ends, 9), **where) == expected


def test_a_verdict_needs_a_question():
    with pytest.raises(ValueError, match="expected above, below or both"):
        findings.verdict(Quantity(1, 0, 2, 9))
    with pytest.raises(ValueError, match="above=2, below=1"):
        findings.verdict(Quantity(1, 0, 2, 9), above=2, below=1)


def test_several_verdicts_together():
    assert findings.together([SUPPORTED, SUPPORTED]) == SUPPORTED
    assert findings.together([SUPPORTED, NOT_SHOWN]) == NOT_SHOWN
    assert findings.together([SUPPORTED, NOT_SHOWN, CONTRADICTED]) == CONTRADICTED
    for wrong, said in (([], "got none"), (["yes"], "got .'yes'")):
        with pytest.raises(ValueError, match=said):
            findings.together(wrong)


def rows(distortion: str, worse: float) -> pd.DataFrame:
    lines = []
    for image in range(6):
        for name, value in (("nearest", 1 + worse + 0.01 * image), ("bicubic", 1.0), ("box", 3.0)):
            lines.append({"dataset": "d", "image": f"i{image}", "group": "", "downscaler": name, "sample": 0})
            lines[-1] |= {"distortion": distortion, "value": value}
    return pd.DataFrame(lines)


@pytest.mark.parametrize("distortion, sign", [("mse", 1), ("psnr", -1)])
def test_a_gap_is_positive_where_more_is_lost(distortion, sign):
    found = findings.gap(rows(distortion, sign * 0.5), "nearest", "bicubic")
    assert found.value == pytest.approx(sign * (sign * 0.5 + 0.025)) and found.n == 6
    assert found.low < found.value < found.high
    assert findings.verdict(found, above=0) == SUPPORTED
    back = findings.gap(rows(distortion, sign * 0.5), "bicubic", "nearest")
    assert back[:3] == pytest.approx((-found.value, -found.high, -found.low))


def test_a_ratio_is_one_of_means_and_its_interval_has_no_unit():
    table = rows("mse", 0.5)
    found = findings.ratio(table, "nearest", "bicubic")
    assert found.value == pytest.approx(1.525) and found.low < 1.525 < found.high and found.n == 6
    assert findings.ratio(table.assign(value=10 * table.value), "nearest", "bicubic") == pytest.approx(found)
    with pytest.raises(ValueError, match="got .'l0'"):
        findings.ratio(table, "l0", "bicubic")


def test_tau_is_that_of_the_agreement():
    a, b = rows("mse", 0.5), rows("mse", 3.0)  # box is the last in one, nearest in the other
    assert findings.tau(a, a)[0] == 1 and findings.tau(a, a).n == 6
    assert findings.tau(a, b).value == pytest.approx(1 / 3)


def test_a_finding_keeps_what_its_rows_are_of(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda text, metadata: shown.append(metadata["finding"]))
    of = rows("mse", 0.5).assign(metric="mse (own)", upscaler="u", heat=1.0, scale=4, weights="w", group="one")
    notebook.finding("it holds", SUPPORTED, of=of)
    assert shown[0]["rows"] == [
        {"dataset": ["d"], "distortion": ["mse"], "metric": ["mse (own)"], "upscaler": ["u"], "heat": ["1.0"]}
        | {"scale": ["4"], "weights": ["w"], "n": 1, "images": 6}
    ]
    notebook.finding("it holds", SUPPORTED, of=[of, of[of.image != "i0"]])
    assert [each["images"] for each in shown[1]["rows"]] == [6, 5]


def test_a_notebook_shows_a_finding_and_leaves_it_in_its_output(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda text, metadata: shown.append((text.data, metadata)))
    gap = Quantity(0.02134, 0.017, 0.0257, 33)
    notebook.finding("{f} leads by {gap}", findings.verdict(gap, above=0), source="P 4.5", f="bicubic", gap=gap)
    notebook.finding("two things hold", [SUPPORTED, CONTRADICTED])
    said = "bicubic leads by 0.0213 [0.0170, 0.0257]"
    facts = {"statement": said, "verdict": "supported", "source": "P 4.5", "rows": []}
    assert shown[0] == (f"**Supported** [P 4.5]: {said}", {"finding": facts})
    assert shown[1][0] == "**Contradicted**: two things hold"
    with pytest.raises(KeyError, match="gap"):
        notebook.finding("by {gap}", SUPPORTED)


def test_a_ratio_of_two_series_is_one_of_means():
    above, below = pd.Series([1.0, 3.0, 2.0], ["a", "b", "c"]), pd.Series([2.0, 2.0, 5.0], ["a", "b", "c"])
    found = findings.mean_ratio(above, below)
    assert found.value == pytest.approx(2 / 3) and found.low < 2 / 3 < found.high and found.n == 3
    with pytest.raises(ValueError, match="same photographs"):
        findings.mean_ratio(above, below.rename({"a": "d"}))


def test_several_differences_share_the_level_and_those_that_are_not_above_0_are_named():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"up": 1 + 0.1 * rng.standard_normal(9), "down": -1 + 0.1 * rng.standard_normal(9)})
    table = table.assign(open=rng.standard_normal(9), zero=0.0)
    found = findings.decided(table)
    assert [each.verdict for each in found.values()] == [SUPPORTED, CONTRADICTED, NOT_SHOWN, CONTRADICTED]
    assert found["zero"].quantity == (0, 0, 0, 9) and found["up"].quantity == findings.mean(table.up)
    said = findings.exceptions(found)
    assert said.startswith("; not so: down -1") and "zero 0.000 [0.000, 0.000]; open: open " in said
    assert findings.exceptions({"up": found["up"]}) == ""
    assert findings.exceptions(found, most=1).count(" and 1 more") == 1
    borderline = pd.DataFrame(
        {"one": [0.1, 0.5, 0.9, 0.2, 1.1, 0.4]} | {f"x{k}": rng.standard_normal(6) for k in range(40)}
    )
    assert findings.mean(borderline.one).low > 0 and findings.decided(borderline)["one"].verdict == NOT_SHOWN


@pytest.mark.parametrize(
    "verdicts, expected",
    [
        ([SUPPORTED, CONTRADICTED], SUPPORTED),
        ([CONTRADICTED, CONTRADICTED], CONTRADICTED),
        ([CONTRADICTED, NOT_SHOWN], NOT_SHOWN),
    ],
)
def test_one_of_several_is_enough(verdicts, expected):
    assert findings.one_of(verdicts) == expected


def test_the_change_of_a_ratio_pairs_photographs_that_both_have_and_adds_the_intervals_of_others():
    rng = np.random.default_rng(3)
    base = 1 + 0.3 * rng.random(30)

    def rows(gain: float, dataset: str) -> pd.DataFrame:
        lines = [
            {"dataset": dataset, "image": f"i{i}", "group": "", "sample": 0, "distortion": "mse"}
            | {"downscaler": name, "value": base[i] * (gain if name == "f" else 1) + 0.3 * base[i] ** 2 * (name == "f")}
            for i in range(30) for name in "fg"
        ]  # fmt: skip
        return pd.DataFrame(lines)

    before, after, elsewhere = rows(1.2, "one"), rows(1.1, "one"), rows(1.1, "two")
    same, other = findings.ratio_change(before, after, "f", "g"), findings.ratio_change(before, elsewhere, "f", "g")
    assert same.value == pytest.approx(-0.1) == other.value and same.n == 30
    assert same.high - same.low < 1e-9 < other.high - other.low  # each photograph changes by as much
    ends = [findings.ratio(each, "f", "g") for each in (before, elsewhere)]
    half = math.hypot(*((each.high - each.low) / 2 for each in ends))
    assert (other.low, other.high) == pytest.approx((other.value - half, other.value + half))
