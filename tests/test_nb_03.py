"""Notebook 03, run small: rows of the flow and of both controls, figures, resuming, and its paper profile."""

import math

import pytest

from helpers import results
from tests import notebook

NAME = "03_synthetic_degradations"
TINY = {
    "n_images": 2, "n_samples": 1, "size": 96, "downscalers": ["bicubic", "nearest"], "device": "cpu", "workers": 0,
    "distortion": "1-ssim", "also": ["mse"], "blur": [1.0, 4.0], "noise": [0.1, 0.2], "contrast_up": [],
    "contrast_down": [0.75, 0.25], "otsu": [15, 5], "jpeg": [], "faint_blur": [0.25], "faint_noise": [],
    "faint_contrast_up": [], "faint_contrast_down": [], "faint_otsu": [255], "faint_jpeg": [], "factors": [4, 16],
    "upscaler_of_factor": ["embedded_flow", "embedded_flow_x8+embedded_flow_x2"], "heat_of_factor": [1.0, "1.0+0.1"],
    "other_seeds": [1], "lpips_rows": "",
}  # fmt: skip
FIGURES = ("damage", "answers", "levels", "controls", "rankings", "before_after", "mixed", "factors", "minimum")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The text of one tiny run for all tests of this file, and the folder that it left.

    Its published rows with LPIPS are its own, computed beforehand, under the name of another D.
    """
    folder = tmp_path_factory.mktemp("nb03")
    space, _ = notebook.up_to(NAME, "runs.run(", folder, TINY)
    rows = space["rows"][(space["rows"].distortion == "mse") & (space["rows"].seed == 0)].drop(columns="checksum")
    results.append(rows.assign(distortion="lpips", seconds=math.nan).to_dict("records"), folder / "lpips")
    results.publish(folder / "lpips", published := folder / "lpips.csv.gz")
    return notebook.printed(notebook.run(NAME, folder, TINY, lpips_rows=str(published))), folder


def test_rows_of_the_flow_and_of_both_controls(first):
    text, folder = first
    rows = results.read(folder / "rows")
    usual = rows[(rows.scale == 4) & (rows.seed == 0) & (rows["where"] != "before") & (rows.distortion == "1-ssim")]
    cells = usual.groupby(["upscaler", "heat"]).apply(lambda part: set(zip(part.degradation, part.level, strict=True)))
    assert set(usual.image) == set(rows.image) and rows.image.nunique() == 2
    flow, still, control = (
        {kind for kind, _ in cells[key]} for key in (("embedded_flow", 1.0), ("embedded_flow", 0.0), ("bicubic", 0.0))
    )
    assert flow == control == {"", "blur", "blur_full", "noise", "contrast", "otsu", "mixed", "bsrgan"}
    assert still == flow - {"blur_full", "mixed", "bsrgan"}
    assert set(rows.degradation[rows["where"] == "before"]) == {"blur", "noise", "contrast", "otsu"}
    assert set(rows.downscaler) == {"bicubic", "nearest"} and set(rows.distortion) == {"1-ssim", "mse"}
    assert set(rows.upscaler[rows.scale == 16]) == {"bicubic", "embedded_flow_x8+embedded_flow_x2"}
    assert set(rows.seed) == {0, 1} and rows.value.notna().all()
    assert "the identity on all 2 LR images" in text and "tau to the flow" in text
    assert "D in the tables below: lpips, 1-ssim, mse" in text


def test_a_blur_that_rounding_undoes_changes_no_row(first):
    rows = results.read(first[1] / "rows").query("scale == 4 and seed == 0 and downscaler == 'bicubic'")
    keys = ["image", "upscaler", "heat", "sample", "distortion"]
    nothing = rows[rows.degradation == ""].set_index(keys).value
    for kind, level in (("blur", 0.25), ("otsu", 255.0)):
        same = rows[(rows.degradation == kind) & (rows.level == level)].set_index(keys).value
        assert len(same) and (same == nothing.loc[same.index]).all()


def test_all_figures_are_there(first):
    names = {path.name for path in (first[1] / "figures").iterdir()}
    assert names == {f"03_{name}.{kind}" for name in FIGURES for kind in ("pdf", "png")}


def test_one_more_level_adds_its_rows_only(first):
    new = notebook.missing(NAME, first[1], TINY, noise=[0.05, 0.1, 0.2])
    assert {key[4:6] for key in new} == {("noise", 0.05)}
    assert len(new) == 2 * 2 * (3 + 2)  # images, D; flow and two controls after downscaling, two before it
