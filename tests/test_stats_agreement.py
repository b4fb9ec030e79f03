"""Agreement of rankings against SciPy, hand-made cases and simulations with known answers."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.stats import agreement, rankings


def make_rows(values: dict, distortion: str = "mse", **columns) -> pd.DataFrame:
    """Rows from {condition: (images, draws)}."""
    lines = [
        {"image": f"i{i:03d}", "downscaler": name, "seed": 0, "sample": q, "distortion": distortion, "value": x}
        for name, table in values.items()
        for i, draws in enumerate(np.asarray(table, dtype=float))
        for q, x in enumerate(draws)
    ]
    return pd.DataFrame(lines).assign(**columns)


def simulated(rng, gaps, n=40, draws=2, images=0.05, method=0.02, noise=0.01, distortion="mse") -> pd.DataFrame:
    """Image effect, image x condition effect, draw noise that the conditions share in part."""
    base, latent = images * rng.standard_normal((n, 1)), noise * rng.standard_normal((n, draws))
    return make_rows(
        {
            name: 0.3 + gap + base + method * rng.standard_normal((n, 1)) + latent
            for name, gap in zip("abcdefgh", gaps, strict=False)
        },
        distortion,
    )


# kendall -------------------------------------------------------------------------------------------


def test_identical_rows_agree_for_sure():
    rows = simulated(np.random.default_rng(0), np.zeros(6))
    same = agreement.kendall(rows, rows.sample(frac=1, random_state=1))
    assert (same.tau, same.low, same.high) == (1, 1, 1) and same.holds and not same.pairs.swaps.any()
    assert (same.n_a, same.n_b, same.shared, same.interval) == (40, 40, "all", "signs left open")
    assert same.pairs.difference_a.equals(same.pairs.difference_b) and len(same.pairs) == 15


def test_a_reversed_ranking_is_minus_one_and_names_every_pair():
    rows = simulated(np.random.default_rng(1), [0, 0.1, 0.2, 0.3])
    turned = agreement.kendall(rows, rows.assign(value=1 - rows.value))
    assert (turned.tau, turned.low, turned.high) == (-1, -1, -1)
    assert turned.pairs.swaps.all() and turned.pairs.significant.all() and not turned.holds


def test_a_metric_where_higher_is_better_is_turned_round():
    rows = simulated(np.random.default_rng(2), [0, 0.1, 0.2])
    assert agreement.kendall(rows, rows.assign(value=-rows.value, distortion="psnr")).tau == 1


def test_tau_is_scipys_tau_b_with_ties():
    rng = np.random.default_rng(3)
    for _ in range(8):
        levels = rng.integers(0, 4, size=(2, 6)) / 8  # few levels, exact in binary: ties in both
        sets = [
            make_rows({name: [[x, x], [x + 1, x + 1]] for name, x in zip("abcdef", k, strict=True)}) for k in levels
        ]
        expected = stats.kendalltau(*levels, variant="b").statistic
        assert agreement.kendall(*sets).tau == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_equal_conditions_are_tied_for_sure():
    rng = np.random.default_rng(4)
    table = rng.random((9, 3))
    rows = make_rows({"a": table, "b": table, "c": table + 1})
    other = make_rows({"a": table, "b": table + 0.5, "c": table + 1})
    result = agreement.kendall(rows, other)
    assert result.tau == result.low == result.high == pytest.approx(2 / math.sqrt(2 * 3))
    tied = result.pairs.set_index(["f", "g"]).loc[("a", "b")]
    assert tied.swaps and not tied.significant and result.holds
    nothing = agreement.kendall(rows[rows.downscaler != "c"], other[other.downscaler != "c"])
    assert math.isnan(nothing.tau) and math.isnan(nothing.low) and nothing.interval == "no interval (ties only)"


@pytest.mark.parametrize(("n", "known"), [(2, False), (4, False), (8, True)])
def test_a_difference_without_spread_is_known_from_enough_photographs_only(n, known):
    """After Holm over six pairs: 6 * 2^(1 - n)."""
    base = np.random.default_rng(0).integers(1, 9, (n, 1)) / 8.0  # exact in binary
    rows = make_rows({"a": base, "b": base + 1, "c": base + 2})
    result = agreement.kendall(rows, rows.assign(value=2 * rows.value))
    assert result.tau == 1 and (result.low, result.high) == ((1, 1) if known else (-1, 1))
    assert result.pairs.p_holm_a.tolist() == [min(1, 3 * 2.0 ** (1 - n))] * 3
    same = agreement.kendall(rows, rows)
    assert same.low == (1 if known else -1)
    a, b = (rankings.per_photograph(each) for each in (rows, rows.assign(value=-rows.value)))
    assert agreement.rank_agreement(a, b)[["low", "high"]].tolist() == ([-1, -1] if known else [-1, 1])


def test_photographs_of_two_data_sets_are_not_paired_by_name():
    rows = simulated(np.random.default_rng(0), np.zeros(4), n=6)
    one, other = (rankings.per_photograph(rows.assign(dataset=name)) for name in "xy")
    assert agreement.rank_agreement(one, one).value == 1
    with pytest.raises(ValueError, match=r"expected photographs of one data set, got those of \['x'\] and \['y'\]"):
        agreement.rank_agreement(one, other)


def test_p_values_are_those_of_the_paired_table():
    rows = simulated(np.random.default_rng(5), [0, 0.004, 0.01, 0.03], n=31)
    ours = agreement.kendall(rows, rows).pairs
    theirs = rankings.paired(rows)
    theirs = {frozenset((line.f, line.g)): (abs(line.difference), line.p_holm) for line in theirs.itertuples()}
    for line in ours.itertuples():
        expected = theirs[frozenset((line.f, line.g))]
        assert (abs(line.difference_a), line.p_holm_a) == pytest.approx(expected)
        assert line.significant == (line.p_holm_a < 0.05)


def test_the_interval_runs_over_the_signs_left_open():
    rng = np.random.default_rng(6)
    rows = simulated(rng, [0, 0.001, 0.1, 0.2])  # a and b are not told apart, the other five pairs are
    other = simulated(rng, [0, 0.1, 0.101, 0.2], distortion="1-ssim")  # nor are b and c here
    result = agreement.kendall(rows, other)
    assert result.pairs.p_holm_a.gt(0.05).sum() == result.pairs.p_holm_b.gt(0.05).sum() == 1
    assert (result.low, result.high) == pytest.approx((2 / 6, 1)) and result.low <= result.tau <= result.high
    clear = agreement.kendall(simulated(rng, [0, 0.1, 0.2, 0.3]), simulated(rng, [0, 0.1, 0.3, 0.2]))
    assert clear.tau == clear.low == clear.high == pytest.approx(4 / 6)


def test_shared_photographs_are_named_and_crops_are_not_counted():
    rows = simulated(np.random.default_rng(6), np.linspace(0, 0.01, 6))
    apart = agreement.kendall(rows, rows.assign(image="other " + rows.image))
    assert apart.shared == "none" and apart.tau == 1 and apart.low < 0.9
    assert agreement.kendall(rows.assign(dataset="x"), rows.assign(dataset="y")).shared == "none"
    part = agreement.kendall(rows, rows[rows.image < "i030"])
    assert (part.n_a, part.n_b, part.shared) == (40, 30, "some")
    crops = rows.assign(group=rows.image.str[:3])
    few = agreement.kendall(crops, crops.assign(value=crops.value**1.01))
    assert (few.n_a, few.n_b, few.shared) == (4, 4, "all") and not few.pairs.significant.any()
    theirs = rankings.paired(crops).set_index(["f", "g"]).p_holm
    assert sorted(few.pairs.p_holm_a) == pytest.approx(sorted(theirs))


def test_several_columns_make_a_condition():
    rows = simulated(np.random.default_rng(7), [0, 0.1]).assign(degradation="", level=math.nan)
    blurred = rows.assign(degradation="blur", level=1.0, value=rows.value + 0.3)
    by = ["downscaler", "degradation", "level"]
    result = agreement.kendall(pd.concat([rows, blurred]), pd.concat([blurred, rows]), by)
    assert result.tau == 1 and {"a + none + none", "b + blur + 1.0"} <= {*result.pairs.f, *result.pairs.g}


def test_coverage_of_the_interval_in_a_simulation():
    """Two metrics order six conditions by known population means; the interval should hold their tau-b."""
    gaps, other = np.array([0, 1, 2, 3, 4, 5]) * 0.01, np.array([0, 2, 1, 3, 5, 4]) * 0.01
    truth = stats.kendalltau(gaps, other).statistic
    inside = 0
    for key in range(60):
        rng = np.random.default_rng([8, key])
        a = simulated(rng, gaps, n=40, method=0.03)
        b = simulated(rng, other, n=40, method=0.03, distortion="1-ssim")
        result = agreement.kendall(a, b)
        inside += result.low - 1e-9 <= truth <= result.high + 1e-9
    assert inside >= 0.95 * 60  # it is wider than it need be


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.replace({"downscaler": {"a": "z"}}), "same conditions in both"),
        (lambda rows: rows[rows.downscaler == "a"], "two conditions or more"),
        (lambda rows: rows[(rows.downscaler == "a") == (rows.image < "i020")], "0 such images"),
        (lambda rows: rows.drop(columns="image"), "expected rows with image"),
        (lambda rows: rows.assign(distortion=["mse", "1-ssim"] * (len(rows) // 2)), "one distortion"),
    ],
)
def test_bad_rows_are_refused(change, message):
    rows = simulated(np.random.default_rng(9), [0, 0.1])
    with pytest.raises(ValueError, match=message):
        agreement.kendall(rows, change(rows))


def test_one_image_has_no_interval():
    rows = make_rows({"a": [[1, 2]], "b": [[3, 4]]})
    result = agreement.kendall(rows, rows)
    assert result.tau == 1 and math.isnan(result.low) and result.interval == "no interval (n<2)"


# rank_agreement ------------------------------------------------------------------------------------


def test_rank_agreement_of_equal_reversed_and_noisy_rankings():
    rng = np.random.default_rng(0)
    gaps = np.arange(6) / 10
    a = pd.DataFrame(rng.random((30, 1)) + gaps, columns=list("abcdef"))
    same, turned = agreement.rank_agreement(a, a), agreement.rank_agreement(a, -a)
    assert same.value == same.low == same.high == pytest.approx(1) and turned.value == pytest.approx(-1)
    noisy_table = a + 0.5 * rng.standard_normal(a.shape)
    noisy = agreement.rank_agreement(a, noisy_table)
    assert noisy.low < noisy.high and noisy.low <= noisy.value <= noisy.high
    assert noisy.n == 30 and noisy.conditions == 6
    tied = a.round(1)
    one = agreement.rank_agreement(tied, noisy_table)
    assert one.value == pytest.approx(stats.kendalltau(tied.mean(), noisy_table.mean()).statistic)
    with pytest.raises(ValueError, match="two conditions in common, got 30 and 1"):
        agreement.rank_agreement(a, a[["b"]])
