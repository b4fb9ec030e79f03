"""The quickstart, run small with a reader's own downscaler: rows, ranking, figures; a rerun adds only what is new."""

import pandas as pd
import pytest

from helpers.datasets import sources
from helpers.images import write_rgb
from tests.notebook import missing, own, printed, run, up_to, up_to_rows_of_own

NAME = "00_quickstart"
TINY = {
    "n_images": 2, "n_samples": 2, "size": 96, "downscalers": ["bicubic", "nearest"], "device": "cpu",
    "distortion": "1-ssim",
}  # fmt: skip


def test_it_leaves_rows_ranking_and_figures_and_a_rerun_adds_only_what_is_new(tmp_path):
    own = tmp_path / "mine.py"
    own.write_text("import torch.nn.functional as F\n\ndef mean(hr, scale):\n    return F.avg_pool2d(hr, scale)\n")
    tiny = TINY | {"downscaler": f"{own}:mean"}
    executed = run(NAME, tmp_path, tiny, shown=True)
    drawn = [out for cell in executed.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(drawn) == 5
    text = printed(executed)
    assert "D = 1-ssim [1-ssim downsample=False" in text and "asked for by the parameter" in text
    ranking = pd.read_csv(tmp_path / "rows" / "ranking.csv")
    (mine,) = set(ranking.downscaler) - {"bicubic", "nearest"}
    assert mine.startswith("mean@") and (ranking.n == 2).all() and len(ranking) == 3
    assert "bicubic" in (tmp_path / "rows" / "ranking.txt").read_text()
    assert r"\toprule" in (tmp_path / "rows" / "ranking.tex").read_text()
    wanted = ("walkthrough", "ranking", "paired", "differences", "draws")
    assert {f"00_{name}.{kind}" for name in wanted for kind in ("pdf", "png")} == {
        path.name for path in (tmp_path / "figures").iterdir()
    }
    lines = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3 * 2
    new = missing(NAME, tmp_path, tiny, downscalers=["bicubic", "nearest", "box"])
    assert len(new) == 2 * 2 and {key[2] for key in new} == {"box"}


def test_several_own_downscalers_a_cascade_and_photographs_of_odd_sides(tmp_path):
    (own := tmp_path / "it's mine.py").write_text("def every(hr, scale):\n    return hr[..., ::scale, ::scale]\n")
    for name in sources.names("library", 2, size=101):
        write_rgb(sources.load("library", name, size=101)[..., :98], tmp_path / "odd sides" / f"{name}.png")
    how = {"upscaler": "embedded_flow_x2 + embedded_flow_x2", "heat": "1+0.1", "dataset": str(tmp_path / "odd sides")}
    several = {"ours": f"{own}:every", "theirs": "box"}
    space, said = up_to(NAME, "runs.run(", tmp_path, TINY, downscaler=several, n_samples=1, **how)
    rows = space["rows"]
    assert list(space["experiment"].specs) == ["bicubic", "nearest", "ours", "theirs"]
    assert set(rows.downscaler) == {"bicubic", "nearest", "ours", "theirs"} and len(rows) == 2 * 4
    assert set(rows.height) == {100} and set(rows.width) == {96} and "cropped to a multiple of 4" in said
    assert set(rows.upscaler) == {"embedded_flow_x2+embedded_flow_x2"} and set(rows.heat) == {"1.0+0.1"}


def test_what_an_own_downscaler_fails_on_is_left_out_of_the_pictures_too(tmp_path):
    name = sources.names("library", 1, size=96)[0]
    lines = ["import sys", "import torch", "def mine(hr, scale):"]
    lines += [
        f"    if hr.shape[2] == 96 and abs(hr.mean() - {sources.load('library', name, size=96).mean():.6f}) < 1e-5:"
    ]
    lines += ["        sys.exit(3)", "    return torch.nn.functional.avg_pool2d(hr, scale)", ""]
    (own := tmp_path / "mine.py").write_text("\n".join(lines))
    space, said = up_to(NAME, "", tmp_path, TINY, downscaler=f"{own}:mine", size=96, n_images=2)
    (mine,) = space["yours"]
    counts = space["rows"].downscaler.value_counts()
    assert counts[mine] == counts["bicubic"] / 2
    assert set(space["draws"]) == {"bicubic", "nearest"} and f"{mine}\nkernel   box" in said
    assert f"{name} for {mine} (RuntimeError: downscaler '" in said


def test_an_own_upscaler_and_an_own_distortion(tmp_path):
    space, said = up_to_rows_of_own(NAME, tmp_path, TINY, "")
    how, rows, experiment = own(tmp_path), space["rows"], space["experiment"]
    assert set(rows.upscaler) == {space["upscaler"]} == {experiment.upscaler_name}
    assert set(rows.distortion) == {space["distortion"]} == set(experiment.metrics)
    assert experiment.upscaler == how["upscaler"] and experiment.distortion == how["distortion"]
    assert f"D = {space['distortion']} [{space['distortion']}: a function of the reader's" in said and len(rows) == 8
    hr, name = space["hr"], space["names"][0]
    nearest = (space["lr"].repeat_interleave(4, 2).repeat_interleave(4, 3) - hr).abs().mean()
    assert rows[(rows.image == name) & (rows.downscaler == "bicubic")].value.mean() == pytest.approx(nearest, rel=0.5)
