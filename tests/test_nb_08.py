"""Notebook 08 at its smallest: its rows, its summary, and published rows of many photographs and of searches."""

import pandas as pd

from helpers import results
from tests.notebook import missing, printed, run, told, up_to, up_to_rows_of_own

NAME = "08_ablations"
TINY = {
    "n_images": 2, "n_samples": 2, "size": 96, "downscalers": ["bicubic", "nearest"], "distortion": "1-ssim",
    "more_distortions": ["mse"], "other_upscalers": [["bicubic", 0.0, 4]], "evidence": "",
    "other_rows": ["nowhere.csv.gz"], "n_subsamples": 20, "device": "cpu", "workers": 0,
}  # fmt: skip


def test_rows_summary_findings_and_figures_and_a_rerun_adds_only_what_is_new(tmp_path):
    # published rows, of two contents and of a search, are made here of its own rows
    made = up_to(NAME, "runs.run(", tmp_path, TINY)[0]["rows"].drop(columns="checksum")
    lines = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * (
        2 * 3 + 2
    )  # images, downscalers; two draws under three D, one of the control under two
    flow, control = made[made.upscaler == "embedded_flow"], made[made.upscaler == "bicubic"]
    search = {"upscaler": "embedded_pulse(steps=1)", "residual": 0.001, "converged": 1.0, "dataset": "made"}
    parts = {
        "evidence_photographs_x4": flow.assign(dataset="p"), "evidence_faces_x4": flow.assign(dataset="f"),
        "evidence_photographs_x4_upscalers": control.assign(dataset="p"),
        "pulse": pd.concat([flow.assign(dataset="made"), flow.assign(**search)]),
    }  # fmt: skip
    for name, part in parts.items():
        results.append(part.to_dict("records"), tmp_path / "made" / name)
        (tmp_path / "evidence").mkdir(exist_ok=True)
        results.publish(tmp_path / "made" / name, tmp_path / "evidence" / f"{name}.csv.gz")
    files = {"other_rows": ["nowhere.csv.gz", f"{tmp_path}/evidence/pulse.csv.gz"], "evidence": f"{tmp_path}/evidence"}
    notebook = run(NAME, tmp_path, TINY, **files)
    text = printed(notebook)
    assert "nowhere.csv.gz not there" in text and "all 32 rows are there" in text
    assert (tmp_path / "rows" / "local.csv").read_text().splitlines() == lines
    summary = pd.read_csv(tmp_path / "rows" / "summary.csv")
    assert set(summary.change) == {"D", "content", "photographs", "upscaler", "paper", "random part"}
    of = summary.groupby("change").what.agg(set)  # the run's own photographs are no other content than published ones
    assert of["photographs"] == {"this run for photographs"} and "this run for photographs" not in of["content"]
    assert summary.value.dropna().between(-1, 1).all() and set(summary.alike) <= {
        "supported",
        "contradicted",
        "not shown",
    }
    pulse = summary[summary.what == "PULSE against embedded_flow"]
    assert set(pulse.setting) == {"made x8"} and (pulse.value == 1).all()  # the same rows under another name
    found = told(notebook)
    random = [each["statement"] for each in found if "randomness makes the order" in each["statement"]]
    assert random and all(
        "no rows of heat 0" in each and "heat 0 orders" not in each for each in random
    )  # none was run
    assert all(each["rows"] for each in found)
    wanted = ("changes", "paper", "random_part", "images", "share_of_draws", "budget")
    assert {f"08_{what}.pdf" for what in wanted} <= {path.name for path in (tmp_path / "figures").iterdir()}

    new = missing(NAME, tmp_path, TINY, downscalers=["bicubic", "nearest", "box"])
    assert len(new) == 2 * (2 * 3 + 2) and {key[2] for key in new} == {"box"}


def test_an_own_upscaler_and_an_own_distortion(tmp_path):
    up_to_rows_of_own(NAME, tmp_path, TINY)
