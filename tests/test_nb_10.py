"""Notebook 10 at its smallest: rows of several numbers of steps, calibration, and published rows beside them."""

from helpers import results
from tests.notebook import missing, printed, run, told, up_to

NAME = "10_diffusion_upscalers"
TINY = {
    "n_images": 2, "n_samples": 2, "size": 96, "downscalers": ["bicubic", "nearest"], "distortion": "1-ssim",
    "also": ["mse"], "steps": [2, 3], "n_calibrated": 2, "side": 32, "n_draws": 7, "evidence": "", "device": "cpu",
    "workers": 0,
}  # fmt: skip


def test_rows_figures_and_findings_of_this_run_and_of_published_rows(tmp_path):
    made = up_to(NAME, "runs.run(", tmp_path, TINY)[0]["rows"].drop(columns="checksum")
    lines = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    draws = {"embedded_resshift(steps=2)": 2, "embedded_resshift(steps=3)": 2, "embedded_flow": 1 + 3 * 2}
    assert len(lines) == 1 + 2 * 2 * 5 * sum(draws.values())  # images, downscalers, D
    (folder := tmp_path / "evidence").mkdir()
    twin = made[made.upscaler == "embedded_resshift(steps=2)"].assign(upscaler="embedded_resshift", dataset="p")
    flow = made[(made.upscaler == "embedded_flow") & (made.heat == 1)].assign(dataset="p")
    for end, part in {"_twins": twin, "": flow}.items():
        results.append(part.to_dict("records"), tmp_path / f"made{end}")
        results.publish(tmp_path / f"made{end}", folder / f"evidence_photographs_x4{end}.csv.gz")
    notebook = run(NAME, tmp_path, TINY, evidence=str(folder))
    text = printed(notebook)
    assert "rows are there" in text and "released models: none; their files are not here: resshift" in text
    assert (tmp_path / "rows" / "local.csv").read_text().splitlines() == lines
    found = told(notebook)
    said = [each["statement"] for each in found]
    assert (
        sum("the draws spread too little" in text for text in said) == 3
    )  # the chain, by ResShift's rule too, and the flow
    assert any(
        text.startswith("photographs x4, mse: embedded_resshift orders the downscalers much as") for text in said
    )
    assert any(text.startswith("photographs x4: embedded_resshift, mse: the six are in the paper's") for text in said)
    assert all(each["rows"] for each in found)
    wanted = ("chain", "schedule", "steps", "orders", "calibration")
    assert {f"10_{what}.pdf" for what in wanted} <= {path.name for path in (tmp_path / "figures").iterdir()}

    new = missing(NAME, tmp_path, TINY, steps=[2, 3, 5])
    assert {key[7] for key in new} == {"embedded_resshift(steps=5)"} and {key[2] for key in new} == {
        "bicubic",
        "nearest",
    }
