"""Variance split, sizes and budgets against hand computations, counting and simulations."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from helpers.stats import budget, rankings
from tests.test_stats_agreement import make_rows, simulated
from tests.test_stats_rankings import nested

# variance_split ------------------------------------------------------------------------------------


def test_variance_split_by_hand_and_recovers_the_model():
    line = budget.variance_split(make_rows({"a": [[1, 3], [5, 7], [9, 11]]})).iloc[0]
    assert (line.s_w2, line.s_b2) == (2, 16 - 1) and line.icc == pytest.approx(15 / 17)
    assert line.var_images + line.var_samples == pytest.approx(16 / 3)  # variance of the means / n
    line = budget.variance_split(nested(3000, 5, {"a": 0.0}, images=0.05, method=0, noise=0.1)).iloc[0]
    assert line.s_b2 == pytest.approx(0.05**2, rel=0.1) and line.s_w2 == pytest.approx(0.1**2, rel=0.05)
    assert line.share_samples == pytest.approx(0.01 / (5 * 0.0025 + 0.01), rel=0.1)


def test_crops_are_part_of_their_photograph():
    rng = np.random.default_rng(8)
    photos, crops, draws, s_b, s_c, s_w = 3000, 4, 3, 0.05, 0.02, 0.1
    means = rng.normal(0, s_b, (photos, 1)) + rng.normal(0, s_c, (photos, crops))
    values = means.reshape(-1, 1) + rng.normal(0, s_w, (photos * crops, draws))
    rows = make_rows({"a": values}).assign(group=lambda rows: "p" + (rows.index // (crops * draws)).astype(str))
    line = budget.variance_split(rows).iloc[0]
    assert (line.n, line.images, line.crops, line.n_samples) == (photos, photos * crops, crops, draws)
    assert line.s_w2 == pytest.approx(s_w**2, rel=0.05) and line.s_b2 == pytest.approx(s_b**2 + s_c**2 / crops, rel=0.1)
    assert line.var_images + line.var_samples == pytest.approx(rankings.scores(rows).se[0] ** 2)
    uneven = rows[rows.image < "i6000"].drop(rows.index[rows.image.isin(["i000", "i001", "i005"])])
    split = budget.variance_split(uneven).iloc[0]
    assert split.var_images + split.var_samples == pytest.approx(rankings.scores(uneven).se[0] ** 2)
    counts = uneven.groupby("group").image.nunique()
    assert split.crops == pytest.approx(len(counts) / (1 / counts).sum())


def test_variance_split_says_when_it_cannot():
    one_draw = budget.variance_split(make_rows({"a": [[1], [2]]})).iloc[0]
    assert one_draw.note.startswith("no split") and math.isnan(one_draw.s_b2)
    below = budget.variance_split(make_rows({"a": [[1, 5], [5, 1], [3, 3.1]]})).iloc[0]
    assert (below.s_b2, below.note) == (0, "estimate of s_b2 below 0")


# images_for ----------------------------------------------------------------------------------------


def test_images_for_a_known_effect_are_those_of_statsmodels():
    for d_z, pairs in itertools.product((0.1, 0.2, 0.5, 0.8), (1, 3, 45)):
        n = TTestPower().solve_power(d_z, alpha=0.05 / pairs, power=0.8)
        assert budget.images_for(d_z, pairs=pairs) == math.ceil(n) == budget.images_for(-d_z, pairs=pairs)
    for n, d_z, alpha in itertools.product((2, 3, 10, 50), (0.1, 1.0), (0.05, 0.01)):
        assert budget.power_of(n, d_z, alpha=alpha) == pytest.approx(TTestPower().power(d_z, n, alpha), abs=1e-4)
    for wrong in ({"d_z": 0}, {"d_z": math.nan}, {"alpha": 0}, {"power": 1}, {"pairs": 0}, {"pilot": 1}):
        with pytest.raises(ValueError, match="d_z other than 0, alpha and power in"):
            budget.images_for(**({"d_z": 0.2} | wrong))


@pytest.mark.parametrize("pairs", [1, 6, 21, 45])
def test_no_plan_is_below_what_any_test_can_show(pairs):
    n = budget.images_for(100, pairs=pairs)
    least = {k: stats.wilcoxon(np.arange(1.0, k + 1)).pvalue * pairs for k in (n - 1, n)}
    assert least[n] <= 0.05 < least[n - 1]
    assert budget.images_for(100, pairs=pairs, pilot=5) == n


def test_a_pilot_is_not_taken_for_the_truth():
    exact, chosen, seen = (budget.images_for(0.5, **how) for how in ({}, {"pilot": 10, "chosen": True}, {"pilot": 10}))
    assert exact < chosen < seen
    assert budget.images_for(0.5, pilot=100_000) == pytest.approx(exact, abs=1)
    assert [budget.images_for(0.5, pilot=n) for n in (5, 10, 40)] == sorted(
        [budget.images_for(0.5, pilot=n) for n in (5, 10, 40)], reverse=True
    )
    rng = np.random.default_rng(4)  # power_of averages over what d_z may be, as drawing it does
    u = np.sqrt(rng.chisquare(9, 20000) / 9)
    for extra, how in ((0, {"chosen": True}), (1, {})):
        d = 0.5 * u + extra * rng.standard_normal(20000) / math.sqrt(10)
        drawn = np.mean([budget.power_of(40, each) for each in d[:2000]])
        assert budget.power_of(40, 0.5, pilot=10, **how) == pytest.approx(drawn, abs=0.02)


def test_the_plan_names_the_closest_pair_and_its_numbers():
    rows = simulated(np.random.default_rng(5), [0, 0.004, 0.1], n=30).assign(group=lambda rows: rows.image.str[:3])
    rows = pd.concat([rows, rows.assign(image=rows.image + "x", group=rows.group + "x")])
    pairs = rankings.paired(rows)
    line = pairs.set_index(["f", "g"]).loc[("a", "b")]
    n = budget.images_for(line.d_z, pairs=3, pilot=6)
    text = budget.plan(pairs, margin=0.002)
    assert line.n == 6 and f"To show a - b = {line.difference:+.4g}, the closest pair, in 80 % of runs" in text
    assert f"Holm over 3): {n} photographs, planned from 6 (d_z = {line.d_z:+.2f})" in text
    sd = line.difference / line.d_z
    assert text.endswith(f"{budget.images_for(0.002 / sd, pairs=3, pilot=6, chosen=True)}.")
    same = make_rows({"a": [[1], [2]], "b": [[2], [3]], "c": [[1], [2]]})
    assert "cannot be said" in budget.plan(rankings.paired(same))


# images_for_ranking --------------------------------------------------------------------------------


def test_a_few_odd_images_give_the_shares_that_counting_gives():
    """a is better by 1 on 21 images and worse by 2 on 3: a subsample of n with k of those is right if n > 3 k."""
    d = np.array([-1.0] * 21 + [2.0] * 3)
    rows = make_rows({"a": np.repeat(d[:, None], 2, axis=1), "b": np.zeros((24, 2))})
    needed = budget.images_for_ranking(rows, n_subsamples=4000)
    right = {n: stats.hypergeom(24, 3, n).cdf((n - 1) // 3) for n in needed.table.n}
    for line in needed.table.itertuples():
        assert line.share_tau == pytest.approx(right[line.n], abs=0.03)
        assert line.pairs == 1 and line.share_signs == line.share_tau  # the pair is significant in the full run
    enough = [n for n in right if all(right[more] >= 0.95 for more in right if more >= n)]
    assert needed.n_tau == needed.n_signs == min(enough) and 2 < needed.n_tau < 24
    assert needed.table.fresh.tolist()[:2] == [48 / 22, 72 / 21] and needed.table.fresh.iloc[-1] == math.inf


def test_clear_gaps_need_two_images_and_equal_ones_all():
    rng = np.random.default_rng(10)
    clear = budget.images_for_ranking(simulated(rng, [0, 1, 2, 3]), n_subsamples=200)
    assert (clear.n_tau, clear.n_signs) == (2, 2) and (clear.table.tau_low == 1).all()
    equal = budget.images_for_ranking(simulated(rng, np.zeros(5)), n_subsamples=200, sizes=[5, 20, 40])
    assert equal.n_tau == 40 and equal.n_signs == 5  # no pair is significant, so none can turn
    assert equal.table.pairs.eq(0).all() and equal.table.tau_mean.is_monotonic_increasing
    never = budget.images_for_ranking(simulated(rng, np.zeros(5)), n_subsamples=200, sizes=[3, 5])
    assert never.n_tau is None


def test_sizes_are_checked_and_chosen():
    rows = simulated(np.random.default_rng(11), [0, 0.1], n=60)
    sizes = budget.images_for_ranking(rows, n_subsamples=10).table.n
    assert sizes.iloc[0] == 2 and sizes.iloc[-1] == 60 and len(sizes) <= 40
    for wrong in ([], [0], [61]):
        with pytest.raises(ValueError, match="expected sizes from 1 to 60"):
            budget.images_for_ranking(rows, sizes=wrong)


def test_one_photograph_ranks_nothing_that_could_be_subsampled():
    rows = simulated(np.random.default_rng(11), [0, 0.1], n=3)
    for one in (rows[rows.image == rows.image.iloc[0]], rows.assign(group="P")):
        with pytest.raises(ValueError, match=r"two photographs or more that have all of \['a', 'b'\], got 1"):
            budget.images_for_ranking(one)


@pytest.mark.parametrize("rows", [None, {"image": [1]}, "rows", pd.DataFrame(), make_rows({"a": [[1.0]]}).iloc[:0]])
def test_what_is_no_table_of_rows_says_so(rows):
    for function in (rankings.scores, rankings.paired, rankings.per_image, budget.images_for_ranking):
        with pytest.raises(ValueError, match="expected rows in a table, as runs.run returns them, got "):
            function(rows)


# samples_or_images ---------------------------------------------------------------------------------


def test_the_budget_is_that_of_a_brute_force_simulation():
    """Spread of simulated means for many (N_X, N_Q) of equal cost, against the formula and its best N_Q."""
    rng, s_b, s_w, cost, total = np.random.default_rng(12), 0.02, 0.06, 4.0, 240
    pilot = make_rows({"a": rng.normal(0, s_b, (4000, 1)) + rng.normal(0, s_w, (4000, 4)), "b": np.zeros((4000, 4))})
    line = budget.samples_or_images(pilot, image_cost=cost).set_index("name").loc["a"]
    assert line.s_b2 == pytest.approx(s_b**2, rel=0.2) and line.s_w2 == pytest.approx(s_w**2, rel=0.05)
    spread = {}
    for q in (1, 2, 4, 6, 8, 12, 20):
        n = int(total / (cost + q))
        means = rng.normal(0, s_b, (4000, n)) + rng.normal(0, s_w / math.sqrt(q), (4000, n))
        spread[q] = means.mean(axis=1).var() * n * (cost + q) / total  # n is a whole number: to the same cost
        assert spread[q] * total / (n * (cost + q)) == pytest.approx((line.s_b2 + line.s_w2 / q) / n, rel=0.12)
    assert line.best_n_samples == 6 and min(spread, key=spread.get) in (4, 6, 8)  # sqrt(4 * 9) = 6
    assert line.efficiency == pytest.approx(spread[6] / spread[4], rel=0.1)
    assert line.se == pytest.approx(math.sqrt((line.s_b2 + line.s_w2 / 4) / 4000))


def test_scores_are_the_variance_split_and_shared_latents_leave_the_difference():
    rows = simulated(np.random.default_rng(13), [0.02, 0, 0.01], n=30, draws=4)
    table = budget.samples_or_images(rows).set_index("name")
    split = budget.variance_split(rows).set_index("downscaler")
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
    free = budget.samples_or_images(rows, image_cost=0, pairs=[("b", "a")])
    assert (free.best_n_samples == 1).all() and list(free.kind) == ["score", "score", "difference"]
    assert np.isfinite(free[["mean", "se", "s_b2", "s_w2"]]).all(axis=None)
    costly = budget.samples_or_images(rows, image_cost=10, most=7)
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
        budget.samples_or_images(simulated(np.random.default_rng(15), [0, 0.1]), **options)
