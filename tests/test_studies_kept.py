"""What notebook 02 measures on LR images: known answers for a filter, an adaptive method and a shift."""

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.downscalers import DOWNSCALERS
from helpers.stats.findings import CONTRADICTED, NOT_SHOWN, SUPPORTED
from helpers.studies import kept

NAMES = ["bilinear", "bicubic", "nearest", "l0"]
PHOTOGRAPH = {f"i{k}": f"p{k}" for k in range(6)}


@pytest.fixture(scope="module")
def images() -> dict[str, torch.Tensor]:
    """Soft blobs with fine noise: something to blur and something to alias."""
    made = {}
    for k, name in enumerate(PHOTOGRAPH):
        noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(k))
        made[name] = 0.25 + 0.5 * DOWNSCALERS["bilinear_linear"](
            torch.nn.functional.interpolate(noise, scale_factor=2), 2
        )
    return made


@pytest.fixture(scope="module")
def measured(images):
    functions = {name: DOWNSCALERS[name] for name in NAMES}
    return kept.passes(functions, images, 2, [0.1, 0.4]), kept.facts(functions, images, 2)


def test_filters_and_others_are_told_apart(measured):
    found, _ = measured
    assert list(kept.linear(found)[["bilinear", "bicubic", "nearest"]]) == [True] * 3 and not kept.linear(found)["l0"]
    assert found.table.alias_share["nearest"] == pytest.approx(0.5, abs=0.02)
    assert found.table.passband_loss["bilinear"] > found.table.passband_loss["bicubic"] > 0
    assert kept.not_filters(found, PHOTOGRAPH, ["nearest"]).verdict == CONTRADICTED


def test_soft_ones_lose_power_and_nearest_has_foreign_power(measured):
    _, (facts, rings) = measured
    assert len(facts) == len(PHOTOGRAPH) * len(NAMES) and facts.notna().all(axis=None)
    power = kept.units(facts, "power_db", PHOTOGRAPH)
    assert list(power) == NAMES and list(power.index) == list(PHOTOGRAPH.values())
    assert power.mean().idxmin() == "bilinear" and kept.units(facts, "foreign", PHOTOGRAPH).mean().idxmax() == "nearest"
    assert kept.too_much(power, ["bilinear"], ["nearest"]).verdict == SUPPORTED
    assert kept.too_much(power, ["bilinear", "nearest"], []).verdict == CONTRADICTED
    assert set(rings.downscaler) == set(NAMES) and (rings.frequency <= 0.5).all()


def test_crops_of_one_photograph_are_averaged_first(measured):
    _, (facts, _) = measured
    two = kept.units(facts, "bits", dict.fromkeys(PHOTOGRAPH, "p") | {"i5": "q"})
    assert list(two.index) == ["p", "q"]
    assert two.loc["p", "l0"] == pytest.approx(facts[(facts.downscaler == "l0") & (facts.image != "i5")].bits.mean())


def test_versions_of_one_word(images):
    table = kept.parity(dict(list(images.items())[:2]), 2).groupby("version").largest.max()
    assert table["torch, antialiased"] < 8 < table["torch_bicubic"]


def test_the_script_moves_the_picture_by_what_its_weights_say(images):
    table = kept.shifts(images, [2], lams=[0.0])
    assert table.down.mean() == pytest.approx(1 / 6, abs=0.05) and abs(table.right.mean()) < 0.05
    assert kept.moved(table, PHOTOGRAPH, 2, lam=0.0).statement.startswith(
        "the DPID script moves the picture down, by 0.1"
    )


def test_a_property_that_orders_the_downscalers_as_the_score_does(measured):
    _, (facts, _) = measured
    rows = facts.assign(value=facts.power_db, sample=0, distortion="mse", group="", dataset="d", seed=0)
    rho = kept.rhos(facts, rows)
    assert np.allclose(rho.power_db, 1) and kept.predicts(rho).verdict == NOT_SHOWN  # constant: no interval
    rho.iloc[0, 0] = 0.8
    assert kept.predicts(rho).verdict == SUPPORTED
    assert kept.instead(rho.assign(difference=rho.power_db + 0.01 * np.arange(6))).verdict != SUPPORTED
    assert kept.interpolated(pd.DataFrame({"enlarged": [0.1, 0.2, 0.3]})).verdict == CONTRADICTED


def test_what_is_sharper_is_a_larger_file():
    bits = pd.DataFrame({"bicubic": [10.0, 12, 11, 10], "nearest": [12.0, 14.5, 13, 12.2], "soft": [9.0, 11, 10, 9.1]})
    assert kept.dearer(bits, ["nearest"]).verdict == SUPPORTED
    assert kept.dearer(bits, ["nearest", "soft"]).verdict == CONTRADICTED
    assert kept.another(bits, "nearest", ["soft"]).verdict == SUPPORTED
