"""Notebook 09 at its smallest: rows of four twins and of damage, and published rows beside them."""

from helpers import results
from tests.notebook import missing, printed, run, told, up_to

NAME = "09_blind_and_stochastic"
TINY = {
    "n_images": 2, "n_samples": 2, "size": 96, "downscalers": ["bicubic", "nearest", "bilinear"],
    "distortion": "1-ssim",
    "also": ["mse"], "degradations": {"noise": [0.05, 0.2]}, "others": [["bicubic", 0.0]], "evidence": "",
    "searches": ["nowhere.csv.gz"], "device": "cpu", "workers": 0,
}  # fmt: skip


def test_rows_figures_and_findings_of_this_run_and_of_published_rows(tmp_path):
    made = up_to(NAME, "runs.run(", tmp_path, TINY)[0]["rows"].drop(columns="checksum")
    whole = made[made.degradation.fillna("") == ""].assign(dataset="p")
    lines = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    per_draw = 5  # 1-ssim, mse, of its mean, and two of the LR image
    draws = {
        "embedded_l1": 1,
        "embedded_l1_blind": 1,
        "embedded_resshift": 2,
        "embedded_resshift_blind": 2,
        "bicubic": 1,
    }
    assert len(lines) == 1 + sum(2 * n * (3 * per_draw + 2) for n in draws.values())
    (folder := tmp_path / "evidence").mkdir()
    for end, part in {
        "_twins": whole[whole.upscaler != "bicubic"],
        "_upscalers": whole[whole.upscaler == "bicubic"],
    }.items():
        results.append(part.to_dict("records"), tmp_path / "made" / end)
        results.publish(tmp_path / "made" / end, folder / f"evidence_photographs_x4{end}.csv.gz")
    notebook = run(NAME, tmp_path, TINY, evidence=str(folder))
    assert "rows are there" in printed(notebook)
    assert (tmp_path / "rows" / "local.csv").read_text().splitlines() == lines
    found = told(notebook)
    said = [each["statement"] for each in found]
    assert all(any(f_us in text for text in said) for f_us in draws if f_us != "bicubic")
    assert any("must be blind" in text for text in said) and any("none of the other three" in text for text in said)
    assert any(text.startswith("photographs x4, mse: blindness, drawing nothing shrinks") for text in said)
    assert all(each["rows"] for each in found)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {
        f"09_{what}.pdf" for what in ("paper", "gaps", "split", "damage", "ranks_photographs_x4", "ranks_this_run_x4")
    } <= names

    assert {key[2] for key in missing(NAME, tmp_path, TINY, downscalers=["bicubic", "nearest", "bilinear", "box"])} == {
        "box"
    }


def test_without_damage_and_published_rows_its_own_rows_decide(tmp_path):
    space, said = up_to(NAME, "", tmp_path, TINY, degradations={}, n_images=2, downscalers=["bicubic", "nearest"])
    assert space["main"] == ["this run x4"] and "twins" not in said.split("rows")[0]
