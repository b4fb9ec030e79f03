"""Rows of an experiment by D, damage by name, steps of damage, and how exactly a score is known."""

import numpy as np
import pandas as pd
import pytest

from helpers import runs
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
