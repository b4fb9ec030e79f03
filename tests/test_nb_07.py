"""Notebook 07, tiny: which rows and figures it leaves, what it says about measures that are not here, resuming."""

import pandas as pd

from tests import notebook

NAME = "07_nr_iqa"
TINY = {
    "n_images": 2, "size": 128, "n_samples": 1, "also": [], "n_images_large": 0, "downscalers": ["bicubic", "nearest"],
    "n_photographs": 2, "lr_sizes": [32, 64], "sigmas": [1.0, 2.0], "sigmas_3x3": [1.0, 2.0], "workers": 0,
    "distortion": "1-ssim", "lpips_rows": "",
}  # fmt: skip


def test_runs_and_a_rerun_computes_only_what_is_missing(tmp_path):
    executed = notebook.run(NAME, tmp_path, TINY)
    text = notebook.printed(executed)
    rows = pd.read_csv(tmp_path / "rows" / "local.csv")
    # per image: bicubic under none, 2 + 2 blurs; nearest and another picture without
    assert len(rows) == 2 * (5 + 2) and rows.value.notna().all()
    assert set(rows.downscaler) == {"bicubic", "nearest", "another picture"}
    figures = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert figures == {f"07_{name}" for name in ("kernels", "blur", "size", "lr", "same_images", "ranks")}
    assert figures == {path.stem for path in (tmp_path / "figures").glob("*.pdf")}
    for name in ("maniqa", "contrique", "brisque", "niqe_official"):
        assert f"NOT HERE: {name}: " in text, name
    found = [
        out.metadata["finding"]
        for cell in executed.cells
        for out in cell.get("outputs", ())
        if "finding" in out.get("metadata", {})
    ]
    assert {each["verdict"] for each in found} <= {"supported", "contradicted", "not shown"} and len(found) > 8
    blind = [each for each in found if each["statement"].startswith("NIQE, 16 px blocks cannot tell")]
    assert [each["verdict"] for each in blind] == ["supported"]
    new = notebook.missing(NAME, tmp_path, TINY, downscalers=["bicubic", "nearest", "box"])
    assert len(new) == 2 and {key[2] for key in new} == {"box"}
