"""Minimum detectable degradation on rows with a known effect and known noise."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers.stats import detection


def make_rows(effects: dict, *, n=12, draws=2, noise=0.001, degradation="blur", key=0, distortion="mse"):
    """Image effect + latent effect shared by all levels + `effects[level]` + noise of its own; None is undegraded."""
    rng = np.random.default_rng(key)
    base = 0.3 + 0.1 * rng.standard_normal((n, 1)) + 0.02 * rng.standard_normal((n, draws))
    lines = []
    for level, effect in ({None: 0.0} | effects).items():
        values = base + effect + (noise * rng.standard_normal((n, draws)) if level is not None else 0)
        lines += [
            {"image": f"i{i:02d}", "downscaler": "bicubic", "upscaler": "flow", "heat": 1.0, "scale": 4, "seed": 0,
             "sample": q, "degradation": "" if level is None else degradation, "level": level,
             "where": "" if level is None else "after", "distortion": distortion, "value": values[i, q]}
            for i in range(n) for q in range(draws)
        ]  # fmt: skip
    return pd.DataFrame(lines).astype({"level": float})


def test_a_known_effect_is_found_at_its_level_and_by_its_size():
    effects = {0.25: 0.0, 0.5: 0.0, 1.0: 0.01, 2.0: 0.02, 4.0: 0.04}
    table = detection.differences(make_rows(effects), "blur")
    assert table.level.tolist() == sorted(effects)
    assert table.difference.to_numpy() == pytest.approx(list(effects.values()), abs=0.001)
    assert (table.low <= table.difference).all() and (table.difference <= table.high).all()
    assert table.side.tolist()[2:] == ["worse"] * 3 and (table.share_worse[2:] == 1).all()
    assert (table.n == 12).all() and (table.pairs == 24).all() and (table.left_out == 0).all()
    found = detection.minimum(table)
    assert (found.level, found.below) == (1.0, 0.5) and found.difference == pytest.approx(0.01, abs=0.001)
    assert 0.5 < found.estimate < 1.0


def test_pairing_finds_what_images_and_latents_would_hide():
    rows = make_rows({1.0: 0.002}, noise=0.0005)
    assert detection.minimum(detection.differences(rows, "blur")).level == 1.0
    assert rows.value.std() > 30 * 0.002


def test_identical_rows_are_never_detected():
    table = detection.differences(make_rows({0.1: 0.0, 0.2: 0.0}, noise=0.0), "blur")
    assert table.identical.all() and (table.difference == 0).all() and (table.side == "").all()
    found = detection.minimum(table)
    assert math.isnan(found.level) and math.isnan(found.estimate) and found.note == "not noticed at the strongest"


def test_a_gap_ends_the_search_and_is_told():
    table = detection.differences(make_rows({0.3: 0.01, 0.5: 0.0, 1.0: 0.01, 2.0: 0.01}, key=1), "blur")
    assert table.side.tolist() == ["worse", "", "worse", "worse"]
    found = detection.minimum(table)
    assert (found.level, found.below, found.isolated) == (1.0, 0.5, 1) and "gap" in found.note


def test_a_level_that_lowers_the_score_is_no_detection():
    table = detection.differences(make_rows({0.5: -0.01, 1.0: 0.01}), "blur")
    assert table.side.tolist() == ["better", "worse"]
    found = detection.minimum(table)
    assert (found.level, found.below) == (1.0, 0.5) and 0.5 < found.estimate < 1


def test_noticed_at_every_level_has_no_estimate():
    found = detection.minimum(detection.differences(make_rows({0.5: 0.01, 1.0: 0.01}), "blur"))
    assert found.level == 0.5 and math.isnan(found.below) and math.isnan(found.estimate) and "already" in found.note


def test_the_interpolation_by_hand():
    line = {"degradation": "noise", "identical": False, "side": ""}
    table = pd.DataFrame(
        [line | {"level": x, "strength": x, "low": low, "difference": 0.1} for x, low in ((0.01, -1.0), (0.1, 1.0))]
    )
    table["side"] = ["", "worse"]
    assert detection.minimum(table).estimate == pytest.approx(math.sqrt(0.01 * 0.1))
    table["identical"] = [True, False]  # the weaker images are the same: it begins there
    assert detection.minimum(table).estimate == pytest.approx(0.01)


def test_higher_is_better_turns_the_sign():
    table = detection.differences(make_rows({1.0: -0.01}, distortion="ssim"), "blur")
    assert table.difference[0] == pytest.approx(0.01, abs=0.001) and table.side[0] == "worse"


@pytest.mark.parametrize(
    ("degradation", "levels"),
    [("otsu", [255, 64, 5]), ("jpeg", [95, 50, 10]), ("contrast", [0.9, 0.5, 0.25]), ("contrast", [1.1, 2.0])],
)
def test_every_type_is_ordered_by_strength(degradation, levels):
    strengths = [detection.strength(degradation, level) for level in levels]
    assert strengths == sorted(strengths) and min(strengths) > 0
    rows = make_rows(dict.fromkeys(levels, 0.01), degradation=degradation)
    assert detection.differences(rows, degradation).level.tolist() == levels


def test_contrast_is_asked_on_one_side():
    rows = make_rows({0.5: 0.01, 1.5: 0.01, 2.0: 0.02}, degradation="contrast")
    with pytest.raises(ValueError, match="one side of 1"):
        detection.differences(rows, "contrast")
    assert detection.differences(rows, "contrast", levels=[1.5, 2.0]).level.tolist() == [1.5, 2.0]


def test_draws_without_a_twin_are_left_out_and_counted():
    rows = make_rows({1.0: 0.01}, n=3, noise=0)
    rows.loc[(rows.level == 1.0) & (rows.image == "i00") & (rows["sample"] == 0), "value"] = np.nan
    table = detection.differences(rows, "blur")
    assert table.left_out[0] == 1 and table.pairs[0] == 5 and table.n[0] == 3
    assert table.difference[0] == pytest.approx(0.01)  # the other draw of that image still has its twin


@pytest.mark.parametrize("bad", ["no level", "no plain", "two scales", "bsrgan", "column"])
def test_bad_input_says_so(bad):
    rows, name, levels = make_rows({1.0: 0.01}), "blur", None
    if bad == "no level":
        levels = [1.0, 2.0]
    elif bad == "no plain":
        rows = rows[rows.degradation != ""]
    elif bad == "two scales":
        rows = pd.concat([rows, rows.assign(scale=8)])
    elif bad == "bsrgan":
        rows, name = make_rows({1.0: 0.01}, degradation="bsrgan"), "bsrgan"
    else:
        rows = rows.drop(columns="level")
    with pytest.raises(ValueError, match="expected"):
        detection.differences(rows, name, levels=levels)


def test_minimum_refuses_two_types_at_once():
    table = detection.differences(make_rows({1.0: 0.01}), "blur")
    with pytest.raises(ValueError, match="one degradation"):
        detection.minimum(pd.concat([table, table.assign(degradation="noise")]))


def test_an_undegraded_side_of_another_data_set_or_downscaler_is_refused():
    rows = make_rows({1.0: 0.01})
    for column in ("dataset", "downscaler", "scale"):
        mixed = rows.assign(**{column: np.where(rows.degradation == "", "one", "two")})
        with pytest.raises(ValueError, match=f"expected one {column}, got"):
            detection.differences(mixed, "blur")
    assert detection.differences(rows.assign(where=np.where(rows.degradation == "", "", "lr")), "blur").n[0] > 0
