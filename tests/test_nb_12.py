"""Notebook 12, run small: rows that know their bits, curves, findings of each question, figures."""

import pytest

from helpers import results
from helpers.rescalers import multi_realism
from tests.notebook import run, told, up_to

NAME = "12_rates_and_realism"
TINY = {
    "n_images": 3, "size": 128, "downscalers": ["bicubic", "lanczos", "nearest"], "qualities": [95, 80, 50, 20],
    "whole": ["jpeg"], "of_whole": [60, 30, 10, 4], "heats": [0.0, 0.5, 1.0], "n_samples": 2, "shares": [0.5],
    "rate_levels": [0.0, 1.5, 3.0], "betas": [0.0, 2.56],
    "distortion": "1-ssim", "also": ["mse"], "device": "cpu", "workers": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def leaves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nb12")
    return folder, run(NAME, folder, TINY)


def test_rows_know_their_bits_and_whole_pictures_have_scale_1(leaves):
    rows = results.read(leaves[0] / "rows")
    assert rows.lr_bits.gt(0).all() and set(rows.scale) == {1, 4}
    of_flow = rows[(rows.upscaler == "embedded_flow") & (rows.heat == 1) & (rows.distortion == "mse")]
    one = of_flow[(of_flow.downscaler == "bicubic") & (of_flow["sample"] == 0)].set_index(["image", "level"]).lr_bits
    for image in of_flow.image.unique():
        assert one[image, 20.0] < one[image, 50.0] < one[image, 95.0]
    whole = rows[(rows.scale == 1) & (rows.degradation == "") & (rows.distortion == "mse")]
    assert len(whole) == 3 and whole.value.eq(0).all()


def test_each_question_has_its_findings_and_figures_are_there(leaves):
    folder, notebook = leaves
    said = [each["statement"] for each in told(notebook)]
    for start in ("R1, x4, lanczos", "R2, x4", "R3, x4, 1-ssim, bicubic enlargement", "R4, x4", "R5, x4"):
        assert any(each.startswith(start) for each in said), start
    files = {path.name for path in (folder / "figures").iterdir()}
    assert any(each.startswith("R6, mse: at equal bits") for each in said) == multi_realism.shipped()
    wanted = ("bits_and_score", "curves", "when_to_shrink", "whole_pictures", "realism", "surface")
    assert files == {f"12_{name}.{kind}" for name in wanted for kind in ("pdf", "png")}


def test_parameters_that_cannot_work_are_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="0 and 1 among the heats"):
        up_to(NAME, "", tmp_path, TINY, heats=[0.5, 1.0])
