"""Notebook 03, run small: rows of the flow and of the controls, figures, findings, resuming."""

import math

import pytest

from helpers import results
from tests import notebook

NAME = "03_synthetic_degradations"
TINY = {
    "n_images": 2, "n_samples": 1, "size": 64, "downscalers": ["bicubic", "nearest"], "device": "cpu", "workers": 0,
    "distortion": "1-ssim", "also": ["mse"], "blur": [0.0005, 1.0, 4.0], "blur_full": [], "noise": [0.1, 0.2],
    "contrast_up": [], "contrast_down": [0.75, 0.25], "otsu": [15, 5], "factors": [4, 8],
    "upscaler_of_factor": ["embedded_flow", "embedded_flow"], "heat_of_factor": [1.0, 1.0], "other_seeds": [1],
    "lpips_rows": "",
}  # fmt: skip
FIGURES = ("damage", "levels", "rankings", "before_after", "mixed", "factors", "minimum")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """One tiny run for all tests of this file: the executed notebook, and the folder that it left.

    Its published rows with LPIPS are its own, computed beforehand, under the name of another D.
    """
    folder = tmp_path_factory.mktemp("nb03")
    space, _ = notebook.up_to(NAME, "runs.run(", folder, TINY)
    rows = space["rows"][space["rows"].distortion == "mse"].drop(columns="checksum")
    results.append(rows.assign(distortion="lpips", seconds=math.nan).to_dict("records"), folder / "lpips")
    results.publish(folder / "lpips", published := folder / "lpips.csv.gz")
    return notebook.run(NAME, folder, TINY, lpips_rows=str(published)), folder


def test_rows_of_the_flow_and_of_the_controls(first):
    done, folder = first
    rows = results.read(folder / "rows")
    usual = rows[(rows.scale == 4) & (rows.seed == 0) & (rows["where"] != "before") & (rows.distortion == "1-ssim")]
    flow, still, control = (
        set(usual.degradation[(usual.upscaler == f_us) & (usual.heat == heat)])
        for f_us, heat in (("embedded_flow", 1.0), ("embedded_flow", 0.0), ("bicubic", 0.0))
    )
    assert flow == control == {"", "blur", "noise", "contrast", "otsu", "mixed", "bsrgan"} and still == {""}
    assert set(rows.degradation[rows["where"] == "before"]) == {"blur", "noise", "contrast", "otsu"}
    assert set(rows.degradation[rows.scale == 8]) == {"", "blur", "noise"}
    assert set(rows.seed) == {0, 1} and rows.value.notna().all() and rows.image.nunique() == 2
    text = notebook.printed(done)
    assert "the identity on all 2 LR images" in text and "D: lpips, 1-ssim, mse; the first decides" in text


def test_lpips_decides_and_the_other_d_do_where_it_has_no_rows(first):
    told = notebook.told(first[0])
    assert len(told) == 12 and {row["distortion"][0] for each in told for row in each["rows"]} == {"lpips"}
    assert "(D = LPIPS, 2 photographs)" in told[0]["statement"] and "P Table 1" in told[0]["source"]
    space, text = notebook.up_to(NAME, "with_published(", first[1], TINY)
    assert space["metrics"] == ["1-ssim", "mse"] and set(space["one"].distortion) == {"1-ssim"}


def test_a_blur_that_is_the_identity_changes_no_row(first):
    rows = results.read(first[1] / "rows").query("scale == 4 and seed == 0 and downscaler == 'bicubic'")
    keys = ["image", "upscaler", "heat", "sample", "distortion"]
    nothing = rows[rows.degradation == ""].set_index(keys).value
    same = rows[(rows.degradation == "blur") & (rows.level == 0.0005)].set_index(keys).value
    assert len(same) and (same == nothing.loc[same.index]).all()


def test_all_figures_are_there(first):
    names = {path.name for path in (first[1] / "figures").iterdir()}
    assert names == {f"03_{name}.{kind}" for name in FIGURES for kind in ("pdf", "png")}


def test_one_more_level_adds_its_rows_only(first):
    new = notebook.missing(NAME, first[1], TINY, noise=[0.05, 0.1, 0.2])
    assert {key[4:6] for key in new} == {("noise", 0.05)}
    assert len(new) == 2 * 2 * (2 + 2)  # images, D; flow and control, after downscaling and before it


def test_an_own_upscaler_and_an_own_distortion(tmp_path):
    """The own one has no heat 0; all else is asked of it."""
    few = {"also": [], "blur": [1.0, 4.0], "noise": [], "contrast_down": [], "otsu": [], "factors": [4]}
    few |= {"upscaler_of_factor": ["embedded_flow"], "heat_of_factor": [1.0]}
    space, said = notebook.up_to_rows_of_own(NAME, tmp_path, TINY | few, "")
    rows = space["rows"]
    own = rows[rows.upscaler == space["upscaler"]]
    assert own.heat.eq(1).all() and set(own.downscaler) == {"bicubic", "nearest"} and set(own.seed) == {0, 1}
    assert set(own.degradation) == {"", "blur", "mixed", "bsrgan"} and set(own["where"]) == {"", "after", "before"}
    assert list(space["places"][space["distortion"]]) == ["flow", "interpolation"]
    with pytest.raises(ValueError, match="heat: expected 1.0 for .*:upscale', its noise is its own, got 0.5"):
        notebook.up_to(NAME, "notebook.check(", tmp_path, TINY, **notebook.own(tmp_path), heat=0.5)
