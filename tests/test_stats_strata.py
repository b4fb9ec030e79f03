"""Scores by group and the post-stratified score: formula, interval, and coverage where the truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.stats import strata


def table(values: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    """Rows of {downscaler: {image: draws}}."""
    return pd.DataFrame(
        [
            {"downscaler": name, "image": image, "sample": sample, "distortion": "lpips", "value": value}
            for name, images in values.items()
            for image, draws in images.items()
            for sample, value in enumerate(draws)
        ]
    )


ROWS = table(
    {
        "f": {"a1": [1.0, 3.0], "a2": [4.0], "a3": [6.0], "b1": [10.0], "b2": [14.0]},
        "g": {"a1": [1.0], "a2": [1.0], "a3": [1.0], "b1": [2.0], "b2": [np.nan]},
    }
)
LABELS = {"a1": "a", "a2": "a", "a3": "a", "b1": "b", "b2": "b"}


def test_the_formula_by_hand():
    line = strata.combine([2, 4, 6, 10, 14], ["a", "a", "a", "b", "b"])
    assert line.score == pytest.approx((4 + 12) / 2) and line.n == 5 and line.groups == 2 and line.alone == 0
    parts = np.array([4 / 3 / 4, 8 / 2 / 4])  # w_g^2 s_g^2 / n_g
    assert line.se == pytest.approx(np.sqrt(parts.sum()))
    assert line.df == pytest.approx(parts.sum() ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2))
    assert line.high - line.score == pytest.approx(stats.t.ppf(0.975, line.df) * line.se)


def test_one_group_is_the_t_interval_of_the_mean():
    values = np.random.default_rng(0).normal(size=12)
    line = strata.combine(values, np.zeros(12))
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert (line.score, line.low, line.high, line.df) == pytest.approx((values.mean(), low, high, 11))


def test_weights_are_scaled_and_change_the_score():
    values, groups = [2, 4, 6, 10, 14], ["a", "a", "a", "b", "b"]
    assert strata.combine(values, groups, {"a": 30, "b": 10}).score == pytest.approx(0.75 * 4 + 0.25 * 12)
    sizes = strata.combine(values, groups, {"a": 3, "b": 2})
    assert sizes.score == pytest.approx(np.mean(values))  # weights of the sample give the plain mean


def test_a_group_of_one_takes_the_pooled_variance_and_is_counted():
    line = strata.combine([1, 3, 10, 14, 5], ["a", "a", "b", "b", "c"])
    pooled = (2 + 8) / 2
    assert line.alone == 1 and line.se == pytest.approx(np.sqrt((2 / 2 + 8 / 2 + pooled) / 9))
    nothing = strata.combine([1, 2, 3], ["a", "b", "c"])
    assert nothing.score == 2 and nothing.alone == 3 and np.isnan([nothing.se, nothing.low, nothing.high]).all()


@pytest.mark.parametrize(
    ("values", "groups", "weights"),
    [
        ([1, np.nan], ["a", "a"], None),
        ([1, 2], ["a"], None),
        ([], [], None),
        ([1, 2], ["a", "b"], {"a": 1}),
        ([1, 2], ["a", "b"], {"a": 1, "b": -1}),
        ([1, 2], ["a", "b"], {"a": 0, "b": 0}),
        ([1, 2], ["a", "b"], {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_bad_input_stops(values, groups, weights):
    with pytest.raises(ValueError, match="expected"):
        strata.combine(values, groups, weights)


def test_scores_of_groups_average_the_draws_first_and_count_what_is_lost():
    lines = strata.group_scores(ROWS, LABELS).set_index(["condition", "group"])
    assert lines.loc[("f", "a"), "mean"] == 4 and lines.loc[("f", "b"), "mean"] == 12
    assert lines.loc[("g", "b"), ["n", "lost"]].tolist() == [1, 1]
    assert lines.loc[("f", "a"), "interval"] == "t" and lines.loc[("f", "a"), "low"] < 4


def test_poststratified_scores_and_paired_differences():
    lines = strata.poststratify(ROWS, LABELS).set_index("condition")
    assert lines.score["f"] == 8 and lines.plain["f"] == pytest.approx(7.2) and lines.n["g"] == 4
    gaps = strata.poststratify(ROWS, LABELS, baseline="g").set_index("condition")
    assert list(gaps.index) == ["f"] and gaps.n["f"] == 4  # only the images that both have
    assert gaps.score["f"] == pytest.approx((3 + 8) / 2) and gaps.alone["f"] == 1
    with pytest.raises(ValueError, match="baseline: expected one of"):
        strata.poststratify(ROWS, LABELS, baseline="h")
    with pytest.raises(ValueError, match=r"got none for 2: \['b1', 'b2'\]"):
        strata.group_scores(ROWS, {name: "a" for name in ("a1", "a2", "a3")})


def test_unbiased_and_covers_where_the_plain_mean_of_unequal_groups_does_not():
    rng = np.random.default_rng(0)
    sizes, means, spreads = np.array([4, 8, 40, 150]), np.array([0.3, 0.2, 0.1, 0.1]), np.array([0.1, 0.05, 0.02, 0.04])
    member, truth, repeats = np.repeat(np.arange(4), sizes), means.mean(), 1000
    lines = []
    for _ in range(repeats):
        values = rng.normal(means[member], spreads[member])
        line = strata.combine(values, member)
        lines.append((line.score, line.se, line.low <= truth <= line.high, values.mean()))
    score, se, covers, plain = np.array(lines, dtype=float).T
    assert abs(score.mean() - truth) < 4 * score.std() / np.sqrt(repeats)
    assert np.sqrt((se**2).mean()) == pytest.approx(score.std(), rel=0.08)
    assert 0.93 < covers.mean() < 0.98
    assert abs(plain.mean() - truth) > 20 * plain.std() / np.sqrt(repeats)


def test_a_level_that_differs_is_found_and_those_that_do_not_are_not():
    rng = np.random.default_rng(0)
    labels = pd.DataFrame({"age": ["young", "middle", "old"] * 40, "kind": ["a"] * 60 + ["b"] * 60})
    scores = pd.Series(rng.normal(0, 1, 120) + 2.0 * (labels.age == "old"))
    found = strata.level_gaps(scores, labels).set_index("level")
    assert list(found.index) == ["young", "middle", "old", "a"] and (found.n == [40, 40, 40, 60]).all()
    expected = scores[labels.age == "old"].mean() - scores[labels.age != "old"].mean()
    assert found.difference["old"] == pytest.approx(expected) and found.low["old"] > 1 and found.p_holm["old"] < 1e-6
    assert found.p_holm["a"] > 0.05 and (found.p_holm >= found.p).all()
    assert found.low["a"] < found.difference["a"] < found.high["a"]


def test_levels_of_one_unit_are_left_out():
    labels = pd.DataFrame({"kind": ["a", "b", "b", "c", "c"]})
    assert list(strata.level_gaps(pd.Series([1.0, 2, 3, 4, 5]), labels).level) == ["b", "c"]
