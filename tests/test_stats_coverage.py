"""Coverage and scores over converged draws, against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers.stats import coverage, rankings

# image, downscaler, (value, converged) of each draw
DRAWS = {
    ("1", "a"): [(0.1, 1), (0.3, 0)],
    ("2", "a"): [(0.2, 1), (0.4, 1)],
    ("3", "a"): [(0.6, 0), (0.8, 0)],
    ("1", "b"): [(0.5, 1), (0.1, 0)],
    ("2", "b"): [(0.7, 1), (math.nan, 0)],
    ("3", "b"): [(0.1, 0), (0.1, 1)],
}


def rows(draws=DRAWS):
    lines = [
        {"image": image, "downscaler": name, "sample": q, "distortion": "mse", "value": value, "converged": float(done)}
        for (image, name), each in draws.items()
        for q, (value, done) in enumerate(each)
    ]
    return pd.DataFrame(lines).assign(residual=lambda all: np.where(all.converged == 1, 0.001, 0.003))


def by_name(table):
    return table.set_index("downscaler")


def test_numbers_worked_out_by_hand():
    table = by_name(coverage.scores(rows()))
    a, b = table.loc["a"], table.loc["b"]
    assert (a.draws, a.nan_draws, a.converged, a.coverage) == (6, 0, 3, 0.5)
    assert (b.draws, b.nan_draws, b.converged, b.coverage) == (6, 1, 3, 0.5)
    assert (a["mean"], b["mean"]) == pytest.approx(((0.2 + 0.3 + 0.7) / 3, (0.3 + 0.7 + 0.1) / 3))
    assert (a.mean_converged, b.mean_converged) == pytest.approx(((0.1 + 0.3) / 2, (0.5 + 0.7 + 0.1) / 3))
    assert (a.n, a.n_converged, b.n, b.n_converged) == (3, 2, 3, 3)
    assert (a["rank"], b["rank"]) == (2, 1)
    assert (a.rank_converged, b.rank_converged) == (1, 2)  # images 1 and 2: 0.2 and 0.6
    assert a.residual == pytest.approx(0.002)


def test_both_intervals_are_those_of_statistics():
    table = coverage.scores(rows())
    for line in rankings.scores(rows()).itertuples():
        assert by_name(table).loc[line.downscaler, ["low", "high"]].tolist() == [line.low, line.high]
    kept = rows()[lambda all: all.converged == 1]
    for line in rankings.scores(kept).itertuples():
        found = by_name(table).loc[line.downscaler]
        assert [found.low_converged, found.high_converged] == [line.low, line.high]
        assert found.interval_converged == line.interval


def test_the_sentence_says_whether_the_ranking_changes():
    changed = coverage.scores(rows())
    assert coverage.sentence(changed) == "Over the draws that converged the ranking is another: a, b instead of b, a."
    all_done = {key: [(value, 1) for value, _ in each] for key, each in DRAWS.items()}
    same = coverage.scores(rows(all_done))
    assert coverage.sentence(same) == "Over the draws that converged the ranking is the same: b, a."
    assert same.coverage.tolist() == [1, 1] and (same["mean"] == same.mean_converged).all()


def test_a_downscaler_without_a_converged_draw_is_named_and_has_no_score():
    never = {(image, "c"): [(0.05, 0), (0.05, 0)] for image in "123"}
    table = coverage.scores(rows(DRAWS | never))
    c = by_name(table).loc["c"]
    assert (c.coverage, c.converged, c.n_converged) == (0, 0, 0) and c["mean"] == pytest.approx(0.05)
    assert math.isnan(c.mean_converged) and math.isnan(c.rank_converged) and math.isnan(c.low_converged)
    assert by_name(table).loc["a", "rank_converged"] == 1
    sentence = coverage.sentence(table)
    assert "a, b instead of b, a" in sentence and sentence.endswith(
        "No finite draw of c converged: no score over converged draws."
    )


def test_nothing_converged_and_nothing_in_common_are_said():
    none = {key: [(value, 0) for value, _ in each] for key, each in DRAWS.items()}
    table = coverage.scores(rows(none))
    assert table.n_converged.tolist() == [0, 0] and table.mean_converged.isna().all()
    assert coverage.sentence(table).startswith("Rankings cannot be compared")
    assert coverage.sentence(table).endswith("No finite draw of b, a converged: no score over converged draws.")
    apart = {("1", "a"): [(0.1, 1)], ("2", "a"): [(0.1, 0)], ("1", "b"): [(0.2, 0)], ("2", "b"): [(0.3, 1)]}
    table = coverage.scores(rows(apart))
    assert by_name(table).loc["b", "mean_converged"] == 0.3 and table.rank_converged.isna().all()
    assert coverage.sentence(table).startswith("Rankings cannot be compared")


def test_conditions_of_several_columns():
    both = pd.concat([rows().assign(scale=4), rows().assign(scale=8, value=lambda all: 2 * all.value)])
    table = coverage.scores(both, ["downscaler", "scale"]).set_index("downscaler + scale")
    assert table.loc["a + 8", "mean_converged"] == pytest.approx(2 * table.loc["a + 4", "mean_converged"])
    assert table.draws.tolist() == [6] * 4


def test_rows_of_what_does_not_search_are_refused():
    with pytest.raises(ValueError, match="expected rows of a search, .* got 12 without"):
        coverage.scores(rows().assign(converged=math.nan))
    with pytest.raises(ValueError, match="got 12 without"):
        coverage.scores(rows().drop(columns="converged"))
