"""The flows beside their first generation: the committed table is of the published rows, and is read as it says."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from helpers import results
from helpers.studies import generations
from helpers.training import cards

PUBLISHED = Path(__file__).parents[1] / "data" / "results"


def toy() -> pd.DataFrame:
    """Eight photographs, the first in two crops, by both generations of x4."""
    lines = []
    for flow, level in (("x4_first", 1.0), ("x4", 0.5)):
        for k in range(9):
            off = 0.01 * (k * level % 3)
            values = {f"lpips_{heat:g}": level * (1 + abs(heat - 0.8) + 0.1 * k) + off for heat in cards.HEATS}
            values |= {"lpips_bicubic": 2.0, "psnr_0": 26 - level + off, "psnr_bicubic": 24.0, "lr_psnr": 51.0 + off}
            values |= {"speckle": 0.02 * level + 0.1 * off, "speckle_hr": 0.01}
            lines.append({"flow": flow, "set": "kodak", "photograph": f"p{max(k, 1)}", "image": f"i{k}"} | values)
    return pd.DataFrame(lines)


def test_crops_of_one_photograph_count_once_and_the_best_heat_is_the_flows_own():
    table = toy()
    means = generations.per_photograph(table, "x4", "kodak")
    crops = table[(table.flow == "x4") & (table.photograph == "p1")]
    assert len(crops) == 2 and len(means) == 8 and means.lpips_1["p1"] == pytest.approx(crops.lpips_1.mean())
    assert generations.best_heat(table, "x4") == 0.8 and (means.best == means["lpips_0.8"]).all()
    found = generations.numbers(table, "x4", "kodak")["speckle"]
    assert found.n == 8 and found.value == pytest.approx(100 * means.speckle.mean())
    with pytest.raises(ValueError, match="got 'x2', ''"):
        generations.per_photograph(table, "x2")


def test_aims_are_decided_by_their_intervals():
    found = [aim["verdict"] for aim in generations.aims(toy(), 4)]
    assert found == ["supported"] * 4 + ["not shown"]  # the speckle share is halved, but for what varies
    worse = toy().replace({"flow": {"x4": "x4_first", "x4_first": "x4"}})
    assert [aim["verdict"] for aim in generations.aims(worse, 4)] == ["contradicted"] * 3 + [
        "supported",
        "contradicted",
    ]
    assert len(generations.aims(toy().replace({"flow": {"x4": "x8", "x4_first": "x8_first"}}), 8)) == 4


@pytest.mark.parametrize("scale", generations.SCALES)
def test_the_table_is_of_the_published_draws(scale):
    """LPIPS at heat 1.0 of the present flow is the mean of the five draws that are published of the same picture."""
    table = generations.read()
    mine = table[(table.flow == f"x{scale}") & (table["set"] != "library")].set_index("image")
    rows = results.read(PUBLISHED / f"evidence_photographs_x{scale}.csv.gz")
    rows = rows[(rows.distortion == "lpips") & (rows.downscaler == "bicubic") & rows.image.isin(mine.index)]
    assert set(rows.weights) == set(mine.weights) and rows.groupby("image")["sample"].nunique().eq(5).all()
    published = rows.groupby("image").value.mean()
    assert (mine.lpips_1 - published[mine.index]).abs().max() < 1e-3 and len(mine) >= 36


def test_both_generations_are_measured_on_the_same_pictures():
    table = generations.read()
    pictures = table.groupby("flow").image.agg(lambda images: tuple(sorted(images)))
    assert list(pictures.index) == ["x4", "x4_first", "x8", "x8_first"] and pictures.nunique() == 1
    assert set(table["set"]) == set(generations.SETS)
    shown = generations.side_by_side(table)
    assert len(shown) == len(generations.MEASURES) * len(generations.SETS) + 1


def test_pictures_are_the_same_squares_of_each():
    (images,) = generations.pictures(8, {"astronaut_y000_x000": (8, 128)}, side=64).values()
    assert [image.shape for image in images] == [(1, 3, 64, 64)] * len(generations.COLUMNS)
    hr, *others = images
    assert all((image - hr).abs().mean() < 0.1 for image in others) and not torch.equal(others[1], others[2])
