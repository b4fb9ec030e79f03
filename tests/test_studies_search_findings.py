"""Rows of an experiment by D, damage by name, steps of damage, and how exactly a score is known."""

import numpy as np
import pandas as pd
import pytest

from helpers import runs
from helpers.stats import findings
from helpers.studies import search_findings as asks


def rows(damage=(("", np.nan),), values=(0.1, 0.2, 0.3), **more) -> pd.DataFrame:
    plain = {"downscaler": "bicubic", "scale": 8, "where": "after", "upscaler": "embedded_pulse(steps=4)", "heat": 1.0}
    lines = [
        plain | {"image": f"generated_00{k}", "sample": 0, "distortion": d, "value": value + 0.01 * place, "seed": 0}
        | {"degradation": name, "level": level} | more
        for place, (name, level) in enumerate(damage) for k, value in enumerate(values) for d in ("mse", "1-ssim")
    ]  # fmt: skip
    return pd.DataFrame(lines)


def test_rows_of_an_experiment_are_found_by_d_and_an_incomplete_d_is_left_out():
    names = [f"generated_00{k}" for k in range(3)]
    asked = runs.Experiment("generated", names, ["bicubic"], 8, "embedded_pulse(steps=4)", n_samples=1, device="cpu",
                            size=64, degradations=[("", None), ("noise", 0.1)])  # fmt: skip
    table = rows([("", np.nan), ("noise", 0.1), ("noise", 0.2)])
    table = pd.concat([table, table[:1].assign(distortion="lpips"), table.assign(upscaler="embedded_flow")])
    found = asks.of(table, asked)
    assert list(found) == ["1-ssim", "mse"] and {len(each) for each in found.values()} == {6}
    assert list(asks.of(table, asked, "mse")) == ["mse", "1-ssim"]
    assert asks.common(found, {"mse": 0}) == ["mse"]


def test_damage_has_a_name_for_a_reader_and_the_papers_beside_it():
    called = [asks.called(*each) for each in (("", 0.0), ("noise", 0.05), ("contrast", 0.5), ("mixed", 2.0))]
    assert called == ["none", "noise 0.05 (DG2)", "contrast 0.5", "blur, contrast, noise (DG3)"]
    both = asks.damaged(rows(), rows([("noise", 0.2)], values=(0.1, 0.2)))
    assert set(both.damage) == {"none", "noise 0.2"} and both.image.nunique() == 2
    assert not {"degradation", "level", "where"} & set(both)


def test_steps_lie_between_neighbouring_levels_of_one_kind():
    names = ["noise 0.2", "noise 0.05 (DG2)", "contrast 0.75 (DG1)", "contrast 0.5", "contrast 1.5", "none",
             "blur, contrast, noise (DG3)"]  # fmt: skip
    assert asks.harder(names) == [("noise 0.2", "noise 0.05 (DG2)"), ("contrast 0.5", "contrast 0.75 (DG1)")]


def test_gaps_and_ratios_are_to_what_is_named():
    both = asks.damaged(rows(), rows([("noise", 0.2)], values=(0.2, 0.4, 0.6)))
    one = both[both.distortion == "mse"]
    (gap,) = asks.gaps(one, [("noise 0.2", "none")], "damage").values()
    assert gap.quantity.value == pytest.approx(0.2)
    table = asks.ratios({"a": one}, "none", "damage")
    assert list(table.condition) == ["noise 0.2"] and table.value[0] == pytest.approx(2)


def test_the_half_width_falls_with_the_root_of_n_and_needs_three():
    values = pd.Series(np.random.default_rng(0).normal(1.0, 0.3, 400))
    at = {n: asks.half_width(values, n) for n in (100, 900)}
    assert at[100].value == pytest.approx(3 * at[900].value)
    assert at[900].value == pytest.approx(1.96 * 0.3 / 30, rel=0.1) and at[900].low < 1.96 * 0.3 / 30 < at[900].high
    with pytest.raises(ValueError, match="three photographs or more, got 2"):
        asks.half_width(values[:2], 900)


def ranking(order, upscaler="embedded_pulse(steps=4)", images=8) -> pd.DataFrame:
    """One draw an image, each downscaler a tenth worse than the one before in `order`."""
    noise = np.random.default_rng(0).random((images, len(order)))
    lines = [
        {"image": f"i{k}", "group": "", "downscaler": name, "upscaler": upscaler, "sample": 0, "distortion": "mse",
         "value": 1 + place / 10 + 0.01 * noise[k, place], "residual": 2e-3 * (1 - 0.2 * noise[k, place])}
        for k in range(images) for place, name in enumerate(order)
    ]  # fmt: skip
    return pd.DataFrame(lines)


PAPER = ["bilinear", "bicubic", "dpid", "l0", "perceptual", "nearest"]


def test_a_search_rests_within_three_decibels_of_what_contents_it():
    facts = asks.rests_where_content(ranking(["bicubic", "box"]), 2e-3)
    assert facts["verdict"] == findings.SUPPORTED and facts["floor"] == pytest.approx(26.99, abs=0.01)
    assert asks.rests_where_content(ranking(["bicubic", "box"]), 2e-2)["verdict"] == findings.CONTRADICTED


def test_the_papers_order_is_asked_of_each_upscaler():
    facts = asks.nearest_is_worst(ranking(PAPER), PAPER[::-1])
    assert (facts["verdict"], facts["count"], facts["pair"]) == (findings.SUPPORTED, 6, "nearest - perceptual")
    assert f"{facts['gap']:+.3f}".startswith("+0.099 [+0.096") and facts["source"] == "P 4.5, S 5"
    assert asks.nearest_is_worst(ranking(PAPER), PAPER) is None
    assert asks.in_the_papers_order(ranking(PAPER))["verdict"] == findings.SUPPORTED
    swapped = asks.in_the_papers_order(ranking(["bicubic", "bilinear", *PAPER[2:]]))
    assert swapped["verdict"] == findings.CONTRADICTED and swapped["swapped"] == "bicubic before bilinear"
    assert asks.in_the_papers_order(ranking(["bicubic", "box"])) is None
    assert asks.much_alike(ranking(PAPER), ranking(PAPER, "flow"))["verdict"] == findings.SUPPORTED
    kept = asks.order_kept(ranking(PAPER), ranking(PAPER[::-1]))
    assert kept["verdict"] == findings.CONTRADICTED and kept["tau"].value == -1


def test_spaces_and_what_stands_in_the_loss_are_compared_on_the_same_images():
    mine = {"default": ranking(["bicubic", "box"]), "W": ranking(["bicubic"], "embedded_pulse(tile_latent=true)")}
    table = asks.by_space(mine, ["i0", "i1"])
    assert list(table.space) == 2 * ["default"] + 2 * ["W"] and set(table.downscaler) == {"bicubic"}
    proxy, own = ranking(["bicubic", "box"]), ranking(["bicubic", "box"]).assign(value=lambda t: 0.5 * t.value)
    facts = asks.loses_less(proxy, own)
    assert facts["verdict"] == 2 * [findings.SUPPORTED] and facts["there"] == "bicubic, box"
    assert facts["said"].startswith("bicubic 0.50")


def test_damage_raises_a_score_and_the_stronger_level_more():
    harm = [rows([("noise", 0.2)], values=(0.21, 0.4, 0.6)), rows([("noise", 0.5)], values=(0.5, 0.72, 0.9))]
    both = asks.damaged(rows(values=(0.1, 0.29, 0.5)), *harm)
    one = both[both.distortion == "mse"]
    facts = asks.raised(one, ["noise 0.2", "noise 0.5"])
    assert facts["verdict"] == 2 * [findings.SUPPORTED] and (facts["count"], facts["but"]) == (2, "")
    facts = asks.stronger_loses_more(one, asks.harder(["noise 0.2", "noise 0.5"]))
    assert facts["verdict"] == [findings.SUPPORTED] and facts["said"].startswith("noise 0.5 \N{MINUS SIGN} noise 0.2")
    units = {"PULSE": asks.per_damage(one.assign(damage=one.damage.replace("noise 0.2", "noise 0.05 (DG2)"))),
             "few": asks.per_damage(one[one.image != "generated_000"])}  # fmt: skip
    half = asks.half_widths(units, ["noise 0.05 (DG2)", "noise 0.5"], 900)
    assert list(half) == ["PULSE"] and list(half["PULSE"]) == ["none", "noise 0.05 (DG2)"]
    facts = asks.known_well_enough(half["PULSE"], 10.0)
    assert facts["verdict"] == 2 * [findings.SUPPORTED] and facts["said"].startswith("none ")
