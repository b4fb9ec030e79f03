"""The notebook on PULSE, run small: rows, figures and findings; a rerun adds only what is new."""

from pathlib import Path

import pytest

from helpers import results
from helpers.datasets import sources
from helpers.images import write_rgb
from helpers.studies import manifold
from tests.notebook import missing, printed, run, told, up_to

NAME = "05_pulse"
RESULTS = Path(__file__).parents[1] / "data" / "results"
TINY = {
    "n_images": 3, "n_other": 3, "downscalers": ["nearest", "bicubic", "dpid"], "options": {"steps": 4},
    "tight": {"steps": 4, "eps": 0.0}, "variants": [{"steps": 4, "tile_latent": True}], "device": "cpu",
    "degradations": [["noise", 0.1], ["noise", 0.2]], "with_gradient": ["dpid"], "distortion": "1-ssim",
    "face_rows": "", "lpips_rows": "", "search_rows": "", "workers": 0,
}  # fmt: skip
FIGURES = ("samples", "path", "trace", "ranking", "portrait", "inversion", "damage", "levels", "in_loss", "images")


def test_it_leaves_rows_figures_and_findings_and_a_rerun_adds_only_what_is_new(tmp_path):
    done = run(NAME, tmp_path, TINY)
    text = printed(done)
    assert "off the sphere by" in text and "at the truth, at x8" in text and "no faces, and no published rows" in text
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {f"05_{name}.{kind}" for name in FIGURES for kind in ("pdf", "png")}
    rows = results.read(tmp_path / "rows")
    # draws with 2 distortions: search, flow and control; tight; damage twice; in the loss; the other search
    draws = 3 * 3 * 3 + 3 + 2 * 3 * 2 + 3 * 3 + 3 + 3
    mine = rows[rows.upscaler != manifold.OTHER_NOISE]
    assert len(mine) == 2 * draws and len(rows) == len(mine) + 2 * 3 and rows.value.notna().all()
    search = mine.upscaler.str.startswith("embedded_pulse")
    assert mine.residual[search].gt(0).all() and mine.converged[search].isin([0, 1]).all()
    assert mine[~search][["residual", "converged"]].isna().all(axis=None)
    plain, true = (
        mine[(mine.upscaler == f"embedded_pulse({options})") & (mine.downscaler == "dpid")]
        for options in ("steps=4", "f_ds=true,steps=4")
    )
    both = plain.merge(true, on=["dataset", "image", "distortion"])
    assert len(both) == 2 * 3 and (both.residual_x != both.residual_y).all()  # another operator in the loss

    said = told(done)
    assert {each["source"] for each in said} >= {"P 4.5, S 5", "P 4.2", "P Table 1", "P Table 4", "S Table 1"}
    assert "0 of 3 answers agree to 45 dB" in text  # so there is no budget, and nothing is said of it
    assert not [each for each in said if "frozen noise" in each["statement"]]
    new = missing(NAME, tmp_path, TINY, n_images=4)
    assert len(new) == 2 * 3 * 3 and len({key[1] for key in new}) == 1  # one more image


def test_a_search_that_is_none_or_a_portrait_of_another_size_stops_it_before_any_row(tmp_path):
    with pytest.raises(ValueError, match="expected a search.*got 'embedded_flow'"):
        up_to(NAME, "runs.plan(", tmp_path, TINY, upscaler="embedded_flow")
    folder = tmp_path / "large"
    folder.mkdir()
    write_rgb(sources.load("library", sources.names("library")[0])[..., :128, :128], folder / "a.png")
    with pytest.raises(ValueError, match="portrait: expected 64x64 pixels"):
        up_to(NAME, "runs.plan(", tmp_path, TINY, portrait=str(folder))
    assert not list(tmp_path.glob("rows/*.csv"))


def test_published_faces_are_read_in_five_classes_beside_their_controls():
    rows = results.read(RESULTS / "05_pulse_faces.csv.gz")
    read = rows[rows.distortion.str.startswith("seen_as race=")]
    assert {each.partition("=")[2] for each in read.distortion} == {"White", "Black", "Asian", "Indian", "Others"}
    assert read.groupby(["image", "upscaler"]).value.sum().eq(1).all()
    assert {"none", "face, contrast 0.7", "samples", "starts", "bicubic", "embedded_flow"} < set(read.upscaler)
