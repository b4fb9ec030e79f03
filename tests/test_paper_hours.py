"""The hours of `make paper`: draws that have no row, and what a draw costs."""

from pathlib import Path

import pytest
import torch

from helpers import distortions, results, runs
from helpers.paper import hours, notebooks, profiles

ROOT = Path(__file__).parents[1]


def test_hours_grow_with_images_and_shrink_with_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(hours, "calibrate", lambda wanted, seconds=10: ([60.0] * len(wanted), 64))
    values = profiles.defaults("08_ablations") | {"distortion": "1-ms_ssim", "results_dir": str(tmp_path)}
    values |= {"other_upscalers": [], "n_samples": 2, "downscalers": ["bicubic", "nearest"]}  # 2 x 2 an image

    def line(n_images, rows_dir=tmp_path):
        return hours.estimate({"08_ablations": values | {"n_images": n_images, "results_dir": str(rows_dir)}})[0]

    assert line(5) == "08_ablations: 20 of 20 draws left, about 20.0 minutes of one process, 2 share them"
    assert line(19) == "08_ablations: 76 of 76 draws left, about 1.3 hours of one process, 2 share them"
    rows = results.read(ROOT / "data" / "results" / "08_ablations.csv.gz", mixed=tuple(results.ONE_OF))
    rows = rows[(rows.upscaler == "embedded_flow") & (rows.heat == 1.0) & (rows.scale == 4) & (rows["sample"] < 2)]
    three = rows[rows.image.isin(rows.image.unique()[:3]) & (rows.downscaler == "nearest")]
    one = notebooks.experiments("08_ablations", values | {"n_images": 19})[0]
    asked = set(one.images)
    now = {"weights": runs.checks.made_by(one)["weights"]}
    rows["metric"] = rows.distortion.map(distortions.describe)
    part = 76 - 2 * len(set(three.image) & asked)
    for some, changes, left in (
        (three, {"hr": "", "lr": ""}, 76),  # as before rows had hashes
        (three, {"hr": "00", "lr": "00"}, part),
        (three, {"hr": "00", "lr": "00", "weights": "others"}, 76),
        (three, {"hr": "00", "lr": "00", "metric": "another"}, 76),
        (rows, {"hr": "00", "lr": "00"}, 0),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        results.append(some.drop(columns="checksum").assign(**now | changes).to_dict("records"), folder)
        assert f"{left} of 76 draws left" in line(19, folder)
    assert hours.estimate({"08_ablations": values | {"n_images": 19, "results_dir": str(folder)}}) == [
        "08_ablations: 0 of 76 draws left, nothing to draw",
        "(rows that are there count as done; whether their pictures have changed, a notebook looks when it runs)",
    ]


def experiment(**changes) -> runs.Experiment:
    how = {
        "dataset": "library",
        "images": ["astronaut_y000_x000"],
        "downscalers": ["bicubic"],
        "scale": 4,
        "n_samples": 2,
    }
    how |= {"upscaler": "embedded_flow", "distortion": ["mse", "lr_mse"], "device": "cpu"}
    return runs.Experiment(**how | changes)


def test_the_cost_is_taken_in_proportion_to_pixels(monkeypatch):
    monkeypatch.setattr(hours, "_timed", lambda work: work() and 1.0)
    monkeypatch.setattr(hours, "_size", lambda each: (64, 128) if each.scale == 4 else (512, 512))
    costs, side = hours.calibrate([experiment()], 0)
    assert side == 64  # no time for more, nor are the images larger
    assert costs == [pytest.approx(64 * 128 * (1 / 64**2 + 1 / 192**2) / 2)]  # two draws at once
    cascade = experiment(scale=16, upscaler="embedded_flow_x8+embedded_flow_x2", n_samples=4)
    costs, _ = hours.calibrate([cascade], 0)
    stages = 1 / 128**2 / 4 / 4 + 1 / 32**2  # a quarter of the pixels, four draws at once; then one by one
    assert costs == [pytest.approx(512**2 * (stages + 1 / 192**2 / 4))]


def test_more_time_is_spent_on_larger_sides_until_the_images_size(monkeypatch):
    sides = []
    monkeypatch.setattr(hours, "_timed", lambda work: work() or 0.0)
    assert hours._per_pixel(lambda side: lambda: sides.append(side), 32, 300, 5) == (0, 256)
    assert sides == [32, 64, 128, 256]

    def full(side):
        return lambda: None if side < 128 else (_ for _ in ()).throw(torch.OutOfMemoryError("full"))

    assert hours._per_pixel(full, 32, 300, 5)[1] == 64


def test_a_calibration_measures_something_and_a_search_has_no_cost():
    flow, bicubic = experiment(), experiment(upscaler="bicubic", heat=0.0)
    search = experiment(dataset="portrait", images=["astronaut"], upscaler="embedded_pulse", scale=8)
    (slow, quick, unknown), side = hours.calibrate([flow, bicubic, search], 0.5)
    assert slow > quick > 0 and unknown != unknown and side >= 64
