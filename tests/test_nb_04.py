"""The notebook on the flow, run small: rows, likelihoods and figures; a rerun adds only what is new."""

import pandas as pd
import papermill
import pytest

from helpers import results
from tests.notebook import printed, run

NAME = "04_srflow"
TINY = {
    "n_images": 2, "n_samples": 2, "sweep_samples": 1, "size": 192, "downscalers": ["nearest", "bilinear", "bicubic"],
    "flows": ["embedded_flow"], "heats": [0.0, 1.0], "degradations": [["noise", 0.1]], "device": "cpu",
    "distortion": "1-ms_ssim", "lpips_rows": "", "workers": 0,
}  # fmt: skip
FIGURES = (
    "latents",
    "likelihood",
    "heat_panels",
    "heat",
    "ranks",
    "top_pair",
    "bias_spread",
    "floor",
    "blind",
    "blow_up",
)


def test_it_leaves_rows_and_figures_and_a_rerun_adds_only_what_is_new(tmp_path):
    text = printed(run(NAME, tmp_path, TINY))
    assert "round trip" in text and "the inequality holds for every draw" in text
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {f"04_{name}.{kind}" for name in FIGURES for kind in ("pdf", "png")} <= names
    lines = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    metrics, at_heat, likelihoods = 6, 2 * 3 * 2, 2 * 3 * 3  # at the main heat one metric more, of the mean image
    assert len(lines) == 1 + at_heat * (metrics + 1) + (2 * 3 + 2) * metrics + likelihoods
    rows = results.read(tmp_path / "rows")
    assert rows.value.notna().all() and set(rows.heat) == {0.0, 1.0}
    same = rows[(rows.distortion == "lr_mse") & (rows.degradation == "")].groupby(["image", "downscaler"]).value
    assert (same.nunique() == 1).all()  # it knows no draw and no heat

    # one heat more adds its rows and nothing else
    run(NAME, tmp_path, TINY, heats=[0.0, 0.8, 1.0])
    again = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    assert again[: len(lines)] == lines and len(again) == len(lines) + 2 * 3 * metrics
    assert set(pd.Series(again[len(lines) :]).str.split(",").str[8]) == {"0.8"}


def test_an_unknown_flow_stops_it_before_any_row(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="embedded_flwo"):
        run(NAME, tmp_path, TINY, upscaler="embedded_flwo")
    assert not (tmp_path / "rows").exists()
