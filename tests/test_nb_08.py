"""Notebook 08 at its smallest: its rows, its summary, and rows of other upscalers and of LPIPS read from files."""

import pandas as pd

from helpers import results
from helpers.paper import profiles
from tests import notebook

NAME = "08_ablations"
TINY = {
    "n_images": 2, "n_samples": 2, "size": 192, "downscalers": ["bicubic", "nearest"],
    "degradations": [["noise", 0.05]], "distortion": "1-ms_ssim", "more_distortions": ["mse"],
    "other_upscalers": [["bicubic", 0.0, 4]], "lpips_rows": "",
    "other_rows": ["nowhere.csv.gz"], "scientific": ["chelsea"], "n_subsamples": 20, "device": "cpu", "workers": 0,
}  # fmt: skip


def test_rows_summary_and_figures_and_a_rerun_reads_published_rows(tmp_path):
    first = notebook.printed(notebook.run(NAME, tmp_path, TINY))
    assert "nowhere.csv.gz does not exist yet" in first
    lines = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    per_draw = 2 * 3 * 2  # images, conditions, distortions
    assert len(lines) == 1 + per_draw * (2 + 1)  # two draws of the flow, one of the control
    summary = pd.read_csv(tmp_path / "rows" / "summary.csv")
    assert set(summary.ablation) == {"D", "N_Q", "N_X", "X", "f_us"}
    assert summary.tau.between(-1, 1).all() and summary.paper.notna().all()
    drawn = (
        "reference",
        "distortions",
        "share_of_draws",
        "images",
        "groups",
        "upscalers",
        "budget",
        "draws",
        "summary",
    )
    assert {f"08_{what}.pdf" for what in drawn} <= {path.name for path in (tmp_path / "figures").iterdir()}

    # rows of another upscaler and of LPIPS come from published files; one more condition adds only its rows
    made = results.read(tmp_path / "rows")
    made = made[(made.upscaler == "embedded_flow") & (made.distortion == "mse")].drop(columns="checksum")
    for what, change in (
        ("lpips", {"distortion": "lpips"}),
        ("pulse", {"upscaler": "pulse", "residual": 0.001, "converged": 1.0}),
    ):
        results.append(made.assign(**change).to_dict("records"), tmp_path / what)
        results.publish(tmp_path / what, tmp_path / f"{what}.csv.gz")
    files = {"lpips_rows": str(tmp_path / "lpips.csv.gz"), "other_rows": [str(tmp_path / "pulse.csv.gz")]}
    more = {"degradations": [["noise", 0.05], ["contrast", 0.75]], "lpips_rows": ""}
    second = notebook.printed(notebook.run(NAME, tmp_path, TINY, **files))
    assert "all 36 rows are there" in second and "LPIPS: 12 of 12 rows" in second
    assert (tmp_path / "rows" / "local.csv").read_text().splitlines() == lines
    summary = pd.read_csv(tmp_path / "rows" / "summary.csv")
    assert summary.what.str.startswith("pulse, x4, library192, mse").any()
    assert summary[summary.what == "lpips against 1-ms_ssim"].tau.notna().all()

    notebook.run(NAME, tmp_path, TINY, **files | more)
    again = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    assert again[: len(lines)] == lines and len(again) == len(lines) + 2 * 2 * (2 + 1)


def test_the_papers_profile_has_the_papers_numbers():
    profile = profiles.read_profile(NAME)  # refuses names that are no parameters
    assert profile["n_images"] == 900 and profile["n_samples_other"] == 5 and profile["distortion"] == "lpips"
