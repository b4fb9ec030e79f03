"""The notebook on PULSE, run small: rows, figures and what it prints; a rerun adds only what is new."""

from pathlib import Path

import pandas as pd
import pytest

from helpers import results
from helpers.datasets import sources
from helpers.images import write_rgb
from helpers.studies import face_groups
from tests.notebook import cells, missing, printed, run, up_to

NAME = "05_pulse"
RESULTS = Path(__file__).parents[1] / "data" / "results"
TINY = {
    "n_images": 2, "n_samples": 2, "n_other": 2, "downscalers": ["nearest", "bicubic", "dpid"], "options": {"steps": 4},
    "variants": [{"steps": 4, "tile_latent": True}], "scales": [8], "degradations": [["noise", 0.1], ["noise", 0.2]],
    "with_gradient": ["dpid"], "device": "cpu", "distortion": "1-ssim", "face_rows": "", "lpips_rows": "", "workers": 0,
}  # fmt: skip
FIGURES = ("samples", "path", "trace", "answers", "inversion", "damage", "levels", "in_loss", "ranking", "paired",
           "portrait", "images")  # fmt: skip


def test_it_leaves_rows_and_figures_and_a_rerun_adds_only_what_is_new(tmp_path):
    text = printed(run(NAME, tmp_path, TINY))
    assert "off the sphere by" in text and "at the truth, clipped" in text and "no real faces" in text
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {f"05_{name}.{kind}" for name in FIGURES for kind in ("pdf", "png")}
    rows = results.read(tmp_path / "rows")
    # draws with 4 distortions: ranking, flow, control, the portrait twice, the other search (W) on three images,
    # damage twice, downscalers in the loss
    draws = 2 * 3 * 2 * 2 + 2 * 3 + 3 * 2 * 2 + 3 + 2 * 2 * 2 + 2 * 3 + 2
    assert len(rows) == 4 * draws and rows.value.notna().all()
    search = rows.upscaler.str.startswith("embedded_pulse")
    assert rows.residual[search].gt(0).all() and rows.converged[search].isin([0, 1]).all()
    assert rows[~search][["residual", "converged"]].isna().all(axis=None)
    plain, true = (
        rows[(rows.upscaler == f"embedded_pulse({options})") & (rows.downscaler == "dpid")].query("sample == 0")
        for options in ("steps=4", "f_ds=true,steps=4")
    )
    both = plain.merge(true, on=["dataset", "image", "distortion"])
    assert len(both) == 2 * 4 and (both.residual_x != both.residual_y).all()  # another operator in the loss

    new = missing(NAME, tmp_path, TINY, n_images=3)
    assert len(new) == 4 * (2 * 3 * 2 + 3) and len({key[1] for key in new}) == 1  # one more image


def test_a_search_that_is_none_or_a_portrait_of_another_size_stops_it_before_any_row(tmp_path):
    with pytest.raises(ValueError, match="expected a search.*got 'embedded_flow'"):
        up_to(NAME, "runs.plan(", tmp_path, TINY, upscaler="embedded_flow")
    folder = tmp_path / "large"
    folder.mkdir()
    write_rgb(sources.load("library", sources.names("library")[0])[..., :128, :128], folder / "a.png")
    with pytest.raises(ValueError, match="expected images of"):
        up_to(NAME, "runs.plan(", tmp_path, TINY, portrait=str(folder))
    assert not list(tmp_path.glob("rows/*.csv"))


@pytest.mark.parametrize("scale, steps, there", [(8, 100, True), (4, 100, False), (8, 12, False)])
def test_published_faces_are_those_of_this_runs_search_and_scale(capsys, scale, steps, there):
    [source] = ["".join(cell["source"]) for cell in cells(NAME) if "elif face_rows and" in "".join(cell["source"])]
    rows = results.read(RESULTS / "05_pulse.csv.gz")
    space = {"pd": pd, "Path": Path, "results": results, "face_groups": face_groups, "rows": rows, "scale": scale}
    space |= {"upscaler": f"embedded_pulse(steps={steps})", "flow": "embedded_flow_first", "distortion": "1-ssim"}
    space |= {"faces": "", "face_labels": "", "face_rows": str(RESULTS / "05_pulse_faces.csv.gz")}
    exec(source, space)
    said = capsys.readouterr().out
    assert bool(len(space["face_set"])) == said.startswith("published rows") == there
    assert there or f"and not both embedded_pulse(steps={steps}) and embedded_flow_first at x{scale}" in said
