"""One unit everywhere: four equal crops of each photograph tell no function of `helpers.stats` more than one does."""

import numpy as np
import pandas as pd
import pytest

from helpers.stats import agreement, budget, claims, conditions, coverage, decomposition, detection, rankings, strata
from tests.test_stats_agreement import simulated
from tests.test_stats_coverage import rows as searched
from tests.test_stats_decomposition import CHANNEL
from tests.test_stats_decomposition import rows_of as squared
from tests.test_stats_detection import make_rows as damaged

CROPS = 4
PLAIN = simulated(np.random.default_rng(3), [0.0, 0.004, 0.005, 0.06], n=10, draws=2)
LEVELS = damaged({0.5: 0.001, 1.0: 0.01, 2.0: 0.02}, noise=0.01)
LABELS = {f"{image}{crop}": "uv"[k % 2] for k, image in enumerate(sorted(set(PLAIN.image))) for crop in ["", *"0123"]}
FLOOR = squared({
    name: {f: scale * np.random.default_rng(k).random((8, 2)) for k, f in enumerate("ab", 5)}
    for name, scale in (("mse", 1), ("lr_mse", 0.1), ("consistency_mse", 0.01))
})  # fmt: skip
ORDER = [claims.Claim("d loses more", "", (("d", "a"), ("d", "b"))), claims.Claim("b more", "", (("b", "a"),))]


def turned(rows: pd.DataFrame) -> pd.DataFrame:
    """The same photographs under another metric, in another order."""
    return rows.assign(value=rows.value * rows.downscaler.map({"a": 1.1, "b": 1, "c": 0.99, "d": 1.2}))


@pytest.mark.parametrize(
    ("function", "rows"),
    [
        (rankings.scores, PLAIN),
        (rankings.paired, PLAIN),
        (rankings.ranks, PLAIN),
        (lambda rows: rankings.equivalence(rows, "a", "b", 0.01), PLAIN),
        (rankings.ranking_with_failures, PLAIN),
        (lambda rows: rankings.monotonicity(rows[rows.level.notna()], "blur"), LEVELS),
        (lambda rows: claims.verdicts(rows, ORDER), PLAIN),
        (lambda rows: pd.DataFrame([agreement.kendall(rows, turned(rows))[:6]]), PLAIN),
        (lambda rows: agreement.rank_agreement(*map(rankings.per_photograph, (rows, turned(rows)))).to_frame(), PLAIN),
        (lambda rows: budget.images_for_ranking(rows, n_subsamples=50).table, PLAIN),
        (lambda rows: pd.DataFrame([budget.plan(rankings.paired(rows), margin=0.01)]), PLAIN),
        (lambda rows: strata.group_scores(rows, LABELS), PLAIN),
        (lambda rows: strata.poststratify(rows, LABELS, baseline="a"), PLAIN),
        (lambda rows: detection.differences(rows, "blur"), LEVELS),
        (decomposition.split, CHANNEL[CHANNEL.image < "i020"]),
        (decomposition.floor, FLOOR),
        (coverage.scores, searched()),
    ],
)
def test_copies_of_a_crop_tell_nothing_new(function, rows):
    crops = [rows.assign(image=rows.image + str(crop), group=rows.image) for crop in range(CROPS)]
    one, many = function(rows), function(pd.concat(crops, ignore_index=True))
    counted = {
        "images",
        "draws",
        "pairs",
        "converged",
        "nan_draws",
        "images_lost",
        "images_converged",
        "left_out",
        "lost",
    }
    spread = {"sd_draws"}  # over all draws, photographs ignored
    columns = [name for name in one if name not in counted | spread]
    pd.testing.assert_frame_equal(one[columns], many[columns], rtol=1e-9, check_dtype=False)
    for name in {"images", "draws", "converged"} & set(one):
        assert list(many[name]) in (list(CROPS * one[name]), list(one[name])), name
    if "images" in one and "n" in one:
        assert list(many.images) == list(CROPS * one.images) and list(many.n) == list(one.n)


def test_a_variance_between_crops_is_not_one_between_photographs():
    line = budget.variance_split(pd.concat([PLAIN.assign(image=PLAIN.image + c, group=PLAIN.image) for c in "xy"]))
    assert (line.n == 10).all() and (line.images == 20).all() and (line.crops == 2).all()


def test_every_mean_over_photographs_is_made_in_one_place():
    values = pd.Series([1.0, 3.0, 5.0], index=["x0", "x1", "y0"])
    rows = pd.DataFrame({"image": values.index, "group": ["x", "x", ""]})
    assert conditions.by_photograph(values, rows).to_dict() == {"x": 2.0, "y0": 5.0}
