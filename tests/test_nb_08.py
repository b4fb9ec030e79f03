"""Notebook 08 at its smallest: its rows, its summary, and rows of other upscalers and of LPIPS read from files."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from helpers import results
from helpers.images import write_rgb
from tests.notebook import OWN, missing, printed, run, up_to

NAME = "08_ablations"
RESULTS = Path(__file__).parents[1] / "data" / "results"
TINY = {
    "n_images": 2, "n_samples": 2, "size": 96, "downscalers": ["bicubic", "nearest"],
    "degradations": [["noise", 0.05]], "distortion": "1-ssim", "more_distortions": ["mse"],
    "other_upscalers": [["bicubic", 0.0, 4]], "lpips_rows": "",
    "other_rows": ["nowhere.csv.gz"], "scientific": ["chelsea"], "n_subsamples": 20, "device": "cpu", "workers": 0,
}  # fmt: skip


def test_rows_summary_and_figures_with_published_rows_and_a_rerun_adds_only_what_is_new(tmp_path):
    # rows of another upscaler and with LPIPS come from published files, made here of its own rows
    made = up_to(NAME, "runs.run(", tmp_path, TINY)[0]["rows"].drop(columns="checksum")
    lines = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    per_draw = 2 * 3 * 2  # images, conditions, distortions
    assert len(lines) == 1 + per_draw * (2 + 1)  # two draws of the flow, one of the control
    made = made[(made.upscaler == "embedded_flow") & (made.distortion == "mse")]
    search = {"upscaler": "pulse", "residual": 0.001, "converged": 1.0}
    for what, change in (("lpips", {"distortion": "lpips"}), ("pulse", search)):
        results.append(made.assign(**change).to_dict("records"), tmp_path / what)
        results.publish(tmp_path / what, tmp_path / f"{what}.csv.gz")
    files = {"lpips_rows": str(tmp_path / "lpips.csv.gz"), "other_rows": ["nowhere.csv.gz", f"{tmp_path}/pulse.csv.gz"]}
    text = printed(run(NAME, tmp_path, TINY, **files))
    assert "nowhere.csv.gz does not exist yet" in text
    assert "all 36 rows are there" in text and "lpips.csv.gz: 12 of 12 draws" in text
    assert (tmp_path / "rows" / "local.csv").read_text().splitlines() == lines
    summary = pd.read_csv(tmp_path / "rows" / "summary.csv")
    assert set(summary.ablation) == {"D", "N_Q", "N_X", "X", "f_us"}
    assert summary.tau.between(-1, 1).all() and summary.paper.notna().all()
    assert summary.what.str.startswith("pulse, x4, library96, mse").any()
    assert summary[summary.what == "lpips against 1-ssim"].tau.notna().all()
    wanted = ("reference", "distortions", "share_of_draws", "images", "groups", "upscalers", "budget", "draws")
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {f"08_{what}.pdf" for what in (*wanted, "summary")} <= figures

    new = missing(NAME, tmp_path, TINY, degradations=[["noise", 0.05], ["contrast", 0.75]])
    assert len(new) == 2 * 2 * (2 + 1) and {key[4] for key in new} == {"contrast"}


def test_lpips_is_left_out_where_a_draw_has_no_published_row(tmp_path):
    space, text = up_to(NAME, "notebook.published(", tmp_path, TINY, lpips_rows=f"{RESULTS}/08_ablations_lpips.csv.gz")
    assert "0 of 12 draws" in text and "lpips" not in space["by_metric"]


def test_a_manifest_without_the_column_of_kinds_stops_before_anything_is_computed(tmp_path):
    for name in "ab":
        write_rgb(torch.zeros(1, 3, 96, 96), tmp_path / f"{name}.png")
    (tmp_path / "faces.csv").write_text(
        "file,group\na.png,p\nb.png,p\n"
    )  # `group` is the photograph, no kind of picture
    with pytest.raises(
        ValueError, match="group_column: expected a column of .*faces.csv, which has file, group; got 'age_gr"
    ):
        up_to(NAME, "notebook.images(", tmp_path, TINY, dataset=str(tmp_path / "faces.csv"))


def test_an_own_upscaler_and_an_own_distortion(tmp_path):
    (own := tmp_path / "mine.py").write_text(OWN)
    how = {"upscaler": f"{own}:upscale", "distortion": f"{own}:distance"}
    rows = up_to(NAME, "runs.run(", tmp_path, TINY, **how)[0]["rows"]
    assert rows.upscaler.str.startswith("upscale@").any() and rows.distortion.str.startswith("distance@").any()
    assert rows.value.notna().all()
