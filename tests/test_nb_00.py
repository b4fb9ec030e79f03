"""The quickstart, run small: rows, ranking and figures, a reader's own downscaler, and bad parameters."""

import pandas as pd
import papermill
import pytest

from tests.notebook import run

NAME = "00_quickstart"
TINY = {
    "n_images": 2, "n_samples": 2, "size": 192, "downscalers": ["bicubic", "nearest"], "device": "cpu",
    "distortion": "1-ms_ssim",
}  # fmt: skip


def test_it_leaves_rows_ranking_and_figures(tmp_path):
    run(NAME, tmp_path, TINY)
    ranking = pd.read_csv(tmp_path / "rows" / "ranking.csv")
    assert set(ranking.downscaler) == {"bicubic", "nearest"} and (ranking.n == 2).all()
    assert "bicubic" in (tmp_path / "rows" / "ranking.txt").read_text()
    assert r"\toprule" in (tmp_path / "rows" / "ranking.tex").read_text()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    wanted = ("walkthrough", "ranking", "paired", "differences", "draws")
    assert {f"00_{name}.{kind}" for name in wanted for kind in ("pdf", "png")} <= names
    lines = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 2 * 2

    # a rerun with one more downscaler, the reader's own, computes its rows only
    own = tmp_path / "mine.py"
    own.write_text("import torch.nn.functional as F\n\ndef mean(hr, scale):\n    return F.avg_pool2d(hr, scale)\n")
    run(NAME, tmp_path, TINY, downscaler=f"{own}:mean")
    again = (tmp_path / "rows" / "local.csv").read_text().splitlines()
    assert again[: len(lines)] == lines and len(again) == len(lines) + 2 * 2
    assert len(pd.read_csv(tmp_path / "rows" / "ranking.csv")) == 3


def test_b40_a_flag_that_came_as_text_stops_it(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="n_images: expected int, got str"):
        run(NAME, tmp_path, TINY, n_images="2")
