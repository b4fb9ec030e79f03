"""What notebook 13 measures: times of draws, synthetic rows, exponents and limits."""

import math
from dataclasses import replace

import numpy as np
import pytest

from helpers import results, runs
from helpers.runs import checks, driver
from helpers.studies import growth, speed
from tests.fakes import write_images


def test_synthetic_rows_are_what_an_experiment_asks_for(tmp_path):
    one, now = growth.experiment(7), checks.made_by(growth.experiment(1))
    growth.fill(tmp_path / "finished", one, now)
    results.append(growth.log_rows(one, now), tmp_path / "log")
    found, log = (results.read(tmp_path / name) for name in ("finished", "log"))
    assert len(found) == 7 * 70 and found.drop(columns="checksum").equals(log.drop(columns="checksum"))
    assert not results.missing(one.keys(), found) and found.value.nunique() > 400
    assert growth.plan(tmp_path / "finished", one, now) == growth.plan(tmp_path / "log", one, now) == 0
    assert growth.plan(tmp_path / "finished", growth.experiment(9), now) == 2 * 70
    assert growth.plan(tmp_path / "finished", one, now | {"weights": "other"}) == 7 * 70
    assert set(growth.score(tmp_path / "finished").downscaler) == set(growth.DOWNSCALERS)


def test_a_plan_in_several_parts_is_the_plan_of_the_whole(tmp_path, monkeypatch):
    one, now = growth.experiment(11), checks.made_by(growth.experiment(1))
    growth.fill(tmp_path, growth.experiment(6), now)
    whole = growth.plan(tmp_path, one, now)
    monkeypatch.setattr("helpers.runs.grid.IMAGES", 4)
    assert growth.plan(tmp_path, one, now) == whole == 5 * 70


def test_what_is_timed_grows_with_the_work_and_a_size_beyond_the_budget_is_left_out():
    table = speed.by_size([("embedded_flow", 4), ("bicubic", 4)], [64, 192], 1, 2, 60.0, "cpu")
    flow = table[table.upscaler == "embedded_flow"].set_index("side")
    assert flow.cpu[192] > 2 * flow.cpu[64] > 0 and (flow.weights == "here").all() and table.attrs["left_out"] == []
    assert flow.cpu[192] > table[table.upscaler == "bicubic"].cpu.max()
    short = speed.by_size([("embedded_flow", 4)], [64, 6400], 1, 1, 0.5, "cpu")
    assert list(short.side) == [64] and short.attrs["left_out"][0].startswith("embedded_flow x4 at 6400 (about ")
    with pytest.raises(ValueError, match="no weights of 'sr3' here, and fresh ones only of SRFlow and ResShift"):
        speed.build("sr3", 8, "cpu")


def test_exponents_come_back_and_have_an_interval_from_three_points_on():
    x = np.array([1, 2, 4, 8, 16])
    power = speed.exponent(x, 3 * x**1.5)
    assert power.value == pytest.approx(1.5) and power.low == pytest.approx(1.5) == power.high and power.n == 5
    noisy = speed.exponent(x, x**2.0 * np.exp([0.1, -0.1, 0.05, -0.1, 0.1]))
    assert noisy.low < 2 < noisy.high and noisy.high - noisy.low > 0.05
    assert math.isnan(speed.exponent([1, 2], [1, 4]).low) and speed.exponent([1, 2], [1, 4]).value == pytest.approx(2)


def test_what_ends_first_comes_first():
    table = speed.limits({"hours": 0.1, "GB": 2.0}, {"hours": 100.0, "GB": 50.0}, [10, 1000])
    assert list(table.index) == ["GB", "hours"] and table["ends at images"].tolist() == [25.0, 1000.0]
    assert table.loc["GB", "1e1 images"] == 20.0 and table.loc["hours", "1e3 images"] == 100.0


def test_parts_of_a_plan_are_held_against_each_other(tmp_path, monkeypatch):
    """Rows of two versions may lie in two parts, each of which has but one."""
    folder = write_images(tmp_path / "images", 4)
    one = runs.Experiment(dataset=folder, images=["00", "01", "02", "03"], downscalers=["box"], scale=4,
                          upscaler="bicubic", distortion="mse", device="cpu")  # fmt: skip
    rows = driver.run(one, tmp_path / "rows", progress=False)
    plan = driver.plan(one, tmp_path / "rows")
    monkeypatch.setattr("helpers.runs.grid.IMAGES", 2)
    assert driver.plan(one, tmp_path / "rows").summary == plan.summary == "all 4 rows are there"
    more = replace(one, images=["00", "01", "02", "03"], downscalers=["box", "nearest"])
    both = driver.plan([one, more], tmp_path / "rows", calibrate=False)
    assert len(both.missing) == 4 and both.missing[:1] == [more.keys()[1]] and both.images == one.images
    changed = rows.drop(columns="checksum").assign(version="0.0.1")
    results.append(changed[changed.image == "03"].to_dict("records"), tmp_path / "other")
    results.append(rows[rows.image != "03"].drop(columns="checksum").to_dict("records"), tmp_path / "other")
    with pytest.raises(ValueError, match="column 'version' holds"):
        driver.plan(one, tmp_path / "other")
