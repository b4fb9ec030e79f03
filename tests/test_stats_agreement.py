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


def test_identical_rows_agree_in_every_resample():
    rows = simulated(np.random.default_rng(0), np.zeros(6))
    same = agreement.kendall(rows, rows.sample(frac=1, random_state=1))
    assert (same.tau, same.low, same.high) == (1, 1, 1) and same.holds and not same.pairs.swaps.any()
    assert (same.n_a, same.n_b, same.resampling, same.interval) == (40, 40, "paired", "percentile")
    assert same.pairs.difference_a.equals(same.pairs.difference_b) and len(same.pairs) == 15


def test_a_reversed_ranking_is_minus_one_and_names_every_pair():
    rows = simulated(np.random.default_rng(1), [0, 0.1, 0.2, 0.3])
    turned = agreement.kendall(rows, rows.assign(value=1 - rows.value), n_resamples=199)
    assert (turned.tau, turned.low, turned.high) == (-1, -1, -1)
    assert turned.pairs.swaps.all() and turned.pairs.significant.all() and not turned.holds


def test_a_metric_where_higher_is_better_is_turned_round():
    rows = simulated(np.random.default_rng(2), [0, 0.1, 0.2])
    assert agreement.kendall(rows, rows.assign(value=-rows.value, distortion="psnr"), n_resamples=9).tau == 1


def test_tau_is_scipys_tau_b_with_ties():
    rng = np.random.default_rng(3)
    for _ in range(30):
        levels = rng.integers(0, 4, size=(2, 6)) / 8  # few levels, exact in binary: ties in both
        sets = [
            make_rows({name: [[x, x], [x + 1, x + 1]] for name, x in zip("abcdef", k, strict=True)}) for k in levels
        ]
        expected = stats.kendalltau(*levels, variant="b").statistic
        assert agreement.kendall(*sets, n_resamples=9).tau == pytest.approx(expected, nan_ok=True, abs=1e-12)


def test_equal_conditions_stay_tied_in_every_resample():
    rng = np.random.default_rng(4)
    table = rng.random((7, 3))
    rows = make_rows({"a": table, "b": table, "c": table + 1})
    other = make_rows({"a": table, "b": table + 0.5, "c": table + 1})
    result = agreement.kendall(rows, other)
    assert result.tau == result.low == result.high == pytest.approx(2 / math.sqrt(2 * 3))
    assert result.interval == "percentile, indicative"
    tied = result.pairs.set_index(["f", "g"]).loc[("a", "b")]
    assert tied.swaps and not tied.significant and result.holds
    nothing = agreement.kendall(rows[rows.downscaler != "c"], other[other.downscaler != "c"])
    assert math.isnan(nothing.tau) and math.isnan(nothing.low) and nothing.interval == "no interval (ties only)"


def test_p_values_are_those_of_the_paired_table():
    rows = simulated(np.random.default_rng(5), [0, 0.004, 0.01, 0.03], n=31)
    ours = agreement.kendall(rows, rows, n_resamples=9).pairs
    theirs = rankings.paired(rows, n_resamples=99)
    theirs = {frozenset((line.f, line.g)): (abs(line.difference), line.p_holm) for line in theirs.itertuples()}
    for line in ours.itertuples():
        expected = theirs[frozenset((line.f, line.g))]
        assert (abs(line.difference_a), line.p_holm_a) == pytest.approx(expected)
        assert line.significant == (line.p_holm_a < 0.05)


def test_images_in_both_sets_are_drawn_once_for_the_two():
    rng = np.random.default_rng(6)
    rows = simulated(rng, np.linspace(0, 0.01, 6))
    twin = rows.assign(value=rows.value * 2)  # the same ranking in any resample of the same images
    joint = agreement.kendall(rows, twin)
    assert joint.resampling == "paired" and joint.low == 1
    apart = agreement.kendall(rows, twin.assign(image="other " + twin.image))
    assert apart.resampling == "independent" and apart.tau == 1 and apart.low < 0.9
    sets = agreement.kendall(rows.assign(dataset="x"), twin.assign(dataset="y"))
    assert sets.resampling == "independent" and sets.low == pytest.approx(apart.low, abs=0.15)
    part = agreement.kendall(rows, twin[twin.image < "i030"])
    assert (part.n_a, part.n_b, part.resampling) == (40, 30, "partly paired")
    assert apart.low <= part.low < 1


def test_several_columns_make_a_condition():
    rows = simulated(np.random.default_rng(7), [0, 0.1]).assign(degradation="", level=math.nan)
    blurred = rows.assign(degradation="blur", level=1.0, value=rows.value + 0.3)
    by = ["downscaler", "degradation", "level"]
    result = agreement.kendall(pd.concat([rows, blurred]), pd.concat([blurred, rows]), by, n_resamples=9)
    assert result.tau == 1 and {"a + none + none", "b + blur + 1.0"} <= {*result.pairs.f, *result.pairs.g}


def test_coverage_of_the_interval_in_a_simulation():
    """Two metrics order six conditions by known population means; the interval should hold their tau-b."""
    gaps, other = np.array([0, 1, 2, 3, 4, 5]) * 0.01, np.array([0, 2, 1, 3, 5, 4]) * 0.01
    truth = stats.kendalltau(gaps, other).statistic
    inside = 0
    for key in range(120):
        rng = np.random.default_rng([8, key])
        a = simulated(rng, gaps, n=40, method=0.03)
        b = simulated(rng, other, n=40, method=0.03, distortion="1-ssim")
        result = agreement.kendall(a, b, n_resamples=399)
        inside += result.low - 1e-9 <= truth <= result.high + 1e-9
    assert inside >= 0.93 * 120  # tau takes few values, so the interval covers more often than 95 %


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


# images_for_ranking --------------------------------------------------------------------------------


def test_a_few_odd_images_give_the_shares_that_counting_gives():
    """a is better by 1 on 21 images and worse by 6 on 3: a subsample of n with k of those is right if n > 7 k."""
    d = np.array([-1.0] * 21 + [6.0] * 3)
    rows = make_rows({"a": np.repeat(d[:, None], 2, axis=1), "b": np.zeros((24, 2))})
    needed = agreement.images_for_ranking(rows, n_subsamples=4000)
    right = {n: stats.hypergeom(24, 3, n).cdf((n - 1) // 7) for n in needed.table.n}
    for line in needed.table.itertuples():
        assert line.share_tau == pytest.approx(right[line.n], abs=0.03)
        assert line.pairs == 1 and line.share_signs == line.share_tau  # the pair is significant in the full run
    enough = [n for n in right if all(right[more] >= 0.95 for more in right if more >= n)]
    assert needed.n_tau == needed.n_signs == min(enough) and 2 < needed.n_tau < 24
    assert needed.table.fresh.tolist()[:2] == [48 / 22, 72 / 21] and needed.table.fresh.iloc[-1] == math.inf


def test_clear_gaps_need_two_images_and_equal_ones_all():
    rng = np.random.default_rng(10)
    clear = agreement.images_for_ranking(simulated(rng, [0, 1, 2, 3]), n_subsamples=200)
    assert (clear.n_tau, clear.n_signs) == (2, 2) and (clear.table.tau_low == 1).all()
    equal = agreement.images_for_ranking(simulated(rng, np.zeros(5)), n_subsamples=200, sizes=[5, 20, 40])
    assert equal.n_tau == 40 and equal.n_signs == 5  # no pair is significant, so none can turn
    assert equal.table.pairs.eq(0).all() and equal.table.tau_mean.is_monotonic_increasing
    never = agreement.images_for_ranking(simulated(rng, np.zeros(5)), n_subsamples=200, sizes=[3, 5])
    assert never.n_tau is None


def test_sizes_are_checked_and_chosen():
    rows = simulated(np.random.default_rng(11), [0, 0.1], n=60)
    sizes = agreement.images_for_ranking(rows, n_subsamples=10).table.n
    assert sizes.iloc[0] == 2 and sizes.iloc[-1] == 60 and len(sizes) <= 40
    for wrong in ([], [0], [61]):
        with pytest.raises(ValueError, match="expected sizes from 1 to 60"):
            agreement.images_for_ranking(rows, sizes=wrong)


# samples_or_images ---------------------------------------------------------------------------------


def test_the_budget_is_that_of_a_brute_force_simulation():
    """Spread of simulated means for many (N_X, N_Q) of equal cost, against the formula and its best N_Q."""
    rng, s_b, s_w, cost, budget = np.random.default_rng(12), 0.02, 0.06, 4.0, 240
    pilot = make_rows({"a": rng.normal(0, s_b, (4000, 1)) + rng.normal(0, s_w, (4000, 4)), "b": np.zeros((4000, 4))})
    line = agreement.samples_or_images(pilot, image_cost=cost).set_index("name").loc["a"]
    assert line.s_b2 == pytest.approx(s_b**2, rel=0.2) and line.s_w2 == pytest.approx(s_w**2, rel=0.05)
    spread = {}
    for q in (1, 2, 4, 6, 8, 12, 20):
        n = int(budget / (cost + q))
        means = rng.normal(0, s_b, (4000, n)) + rng.normal(0, s_w / math.sqrt(q), (4000, n))
        spread[q] = means.mean(axis=1).var() * n * (cost + q) / budget  # n is a whole number: to the same cost
        assert spread[q] * budget / (n * (cost + q)) == pytest.approx((line.s_b2 + line.s_w2 / q) / n, rel=0.12)
    assert line.best_n_samples == 6 and min(spread, key=spread.get) in (4, 6, 8)  # sqrt(4 * 9) = 6
    assert line.efficiency == pytest.approx(spread[6] / spread[4], rel=0.1)
    assert line.se == pytest.approx(math.sqrt((line.s_b2 + line.s_w2 / 4) / 4000))


def test_scores_are_the_variance_split_and_shared_latents_leave_the_difference():
    rows = simulated(np.random.default_rng(13), [0.02, 0, 0.01], n=30, draws=4)
    table = agreement.samples_or_images(rows).set_index("name")
    split = rankings.variance_split(rows).set_index("downscaler")
    assert list(table.index) == ["b", "c", "a", "b - c", "b - a", "c - a"]
    for name, line in split.iterrows():
        assert table.s_b2[name] == line.s_b2 and table.share_samples[name] == line.share_samples
        assert table["mean"][name] == pytest.approx(rows[rows.downscaler == name].value.mean())
    gap = table.loc["b - c"]  # the draws' noise is shared in full: it cancels
    assert gap.s_w2 < 1e-20 < table.s_w2["b"] and gap.best_n_samples == 1 and gap["mean"] < 0
    means = rankings.per_image(rows)["mean"]
    assert gap.se == pytest.approx((means["b"] - means["c"]).sem())


def test_without_an_image_cost_one_draw_is_best_and_failed_draws_are_left_out():
    rng = np.random.default_rng(14)
    table = rng.normal(0, 1, (30, 5))
    table[3, 2], table[4, 1] = math.nan, math.inf
    rows = make_rows({"a": table, "b": rng.normal(1, 1, (30, 5))})
    free = agreement.samples_or_images(rows, image_cost=0, pairs=[("b", "a")])
    assert (free.best_n_samples == 1).all() and list(free.kind) == ["score", "score", "difference"]
    assert np.isfinite(free[["mean", "se", "s_b2", "s_w2"]]).all(axis=None)
    costly = agreement.samples_or_images(rows, image_cost=10, most=7)
    assert costly.best_n_samples.max() <= 7 and (costly.efficiency <= 1 + 1e-12).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": [("a", "z")]}, r"expected two of \['a', 'b'\] each, got \[\('a', 'z'\)\]"),
        ({"pairs": [("a", "a")]}, "expected two of"),
        ({"image_cost": -1}, "image_cost >= 0"),
        ({"most": 0}, "most >= 1"),
    ],
)
def test_bad_budgets_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        agreement.samples_or_images(simulated(np.random.default_rng(15), [0, 0.1]), **options)
