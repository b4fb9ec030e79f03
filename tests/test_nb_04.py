"""The notebook on the flow, run small: rows, likelihoods, figures and findings; a rerun adds only what is new."""

import pytest

from helpers import results
from tests.notebook import missing, run, up_to

NAME = "04_srflow"
TINY = {
    "n_images": 2, "n_samples": 2, "sweep_samples": 1, "size": 64, "downscalers": ["nearest", "bilinear", "bicubic"],
    "flows": ["embedded_flow"], "heats": [0.0, 1.0], "degradations": [["noise", 0.1]], "device": "cpu",
    "distortion": "lpips_embedded", "also": [], "lpips_rows": "", "strained": 2, "workers": 0,
}  # fmt: skip
FIGURES = {"heat_panels", "ranks", "top_pair", "heat", "bias_spread", "blind", "floor", "blow_up", "blow_up_large"}


def test_it_leaves_rows_figures_and_findings_and_a_rerun_adds_only_what_is_new(tmp_path):
    executed = run(NAME, tmp_path, TINY)
    said = [out for cell in executed.cells if cell.cell_type == "code" for out in cell.outputs]
    text = "\n".join(out.get("text", "") for out in said)
    assert "comes back off by" in text and "the inequality holds for every draw" in text
    assert "one flow: nothing is said about blindness" in text and "SRFlow itself was not run here" in text
    facts = [out.metadata["finding"] for out in said if "finding" in out.get("metadata", {})]
    assert len(facts) >= 12 and {each["verdict"] for each in facts} <= {"supported", "contradicted", "not shown"}
    assert not [each for each in facts if "LPIPS" in each["statement"]]  # not a row of it here
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {f"04_{name}.{kind}" for name in FIGURES for kind in ("pdf", "png")} == names

    lines = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    metrics, at_heat, likelihoods = 5, 2 * 3 * 2, 2 * 3 * 3  # at the main heat one metric more, of the mean image
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
