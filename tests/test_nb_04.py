"""The notebook on the flow, run small: rows, likelihoods and figures; a rerun adds only what is new."""

import pytest

from helpers import results
from tests.notebook import missing, printed, run, up_to

NAME = "04_srflow"
TINY = {
    "n_images": 2, "n_samples": 2, "sweep_samples": 1, "size": 176, "downscalers": ["nearest", "bilinear", "bicubic"],
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

    new = missing(NAME, tmp_path, TINY, heats=[0.0, 0.8, 1.0])
    assert len(new) == 2 * 3 * metrics and {key[8] for key in new} == {0.8}


def test_an_unknown_flow_stops_it_before_any_row(tmp_path):
    with pytest.raises(ValueError, match="embedded_flwo"):
        up_to(NAME, "runs.plan(", tmp_path, TINY, upscaler="embedded_flwo")
    assert not (tmp_path / "rows").exists()
