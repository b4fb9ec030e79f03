"""Notebook 11, run small: rows of every reader, tuned LR images, students, findings with their hypotheses, figures."""

import pytest

from helpers import results
from tests.notebook import missing, run, told, up_to

NAME = "11_rescalers"
TINY = {
    "n_images": 2, "size": 96, "n_samples": 2, "rescalers": {"2": ["irn"]}, "learnt": {"2": ["bicubic", "irn"]},
    "filters": ["bicubic", "lanczos"], "distortion": "1-ssim", "also": ["mse"], "evidence": "", "device": "cpu",
    "noise_levels": [1.0, 4.0], "qualities": [95, 75, 50], "n_tuned": 0, "counts": [2], "n_seeds": 1,
    "steps_learnt": 2, "workers": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def leaves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nb11")
    return folder, run(NAME, folder, TINY)


def test_rows_of_every_reader_are_there(leaves):
    folder, _ = leaves
    rows = results.read(folder / "rows")
    readers = set(rows.upscaler)
    assert {"embedded_flow", "irn", "bicubic"} <= readers and {"student(2)"} < {each for each in readers if "(" in each}
    own = rows[(rows.upscaler == "irn") & (rows.downscaler == "irn") & (rows.distortion == "mse")]
    assert len(own.drop_duplicates(["degradation", "level"])) == 1 + 2 + 3 * 3 + 4 and own["sample"].eq(0).all()


def test_findings_name_their_hypotheses_and_figures_are_there(leaves):
    folder, notebook = leaves
    said = [each["statement"] for each in told(notebook)]
    for start in ("H1, this run x2", "H6, x2, irn"):  # H4 needs an advantage that so few photographs show
        assert any(each.startswith(start) for each in said), start
    files = {path.name for path in (folder / "figures").iterdir()}
    wanted = ("private_public", "parts", "hidden", "lr_x2", "fragility", "unlocking")
    assert files == {f"11_{name}.{kind}" for name in wanted for kind in ("pdf", "png")}


def test_a_rerun_computes_only_what_is_new(leaves):
    folder, _ = leaves
    new = missing(NAME, folder, TINY, filters=["bicubic", "lanczos", "box"])
    assert {key[2] for key in new} == {"box"} and {key[7] for key in new} == {"embedded_flow", "bicubic"}


def test_parameters_that_cannot_work_are_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="bicubic and lanczos among the filters"):
        up_to(NAME, "", tmp_path, TINY, filters=["bicubic", "box"])
    with pytest.raises(ValueError, match="expected scale 2 or 4, got 8"):
        up_to(NAME, "", tmp_path, TINY, rescalers={"8": ["irn"]}, learnt={"8": ["irn"]})
