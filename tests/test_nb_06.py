"""Notebook 06, run small: rows, published rows beside them, LR files, verdicts, figures; a rerun adds what is new."""

import pandas as pd
import pytest
import torch.nn.functional as F

from helpers import results
from helpers.datasets import sources
from helpers.images import write_rgb
from helpers.stats import claims
from tests.notebook import missing, printed, run, told, up_to, up_to_rows_of_own

NAME = "06_real_downscalers"
TINY = {
    "n_images": 2, "n_samples": 2, "size": 96, "scales": [4], "downscalers": ["nearest", "bicubic"],
    "distortion": "1-ssim", "also": ["mse"], "evidence": "", "device": "cpu", "workers": 0, "rescalers": [],
}  # fmt: skip
METRICS = 3


@pytest.fixture(scope="module")
def leaves(tmp_path_factory):
    """One run with a further image set and ready LR images, and what it left; its own rows serve as published ones."""
    folder = tmp_path_factory.mktemp("nb06")
    for name in sources.names("photographs", 2, size=96):
        hr = sources.load("photographs", name, size=96)
        for kind, image in {"hr": hr, "lr": F.avg_pool2d(hr, 4)}.items():
            (folder / kind).mkdir(exist_ok=True)
            write_rgb(image, folder / kind / f"{name}.png")
    ready = {"sets": {"mine": f"{folder}/hr"}, "camera": {"shop": [f"{folder}/hr", f"{folder}/lr"]}}
    with pytest.warns(UserWarning, match=r"'bicubic_shifted': the content is shifted by"):
        space, _ = up_to(NAME, "runs.run(", folder, TINY, **ready)
    rows = space["rows"][space["rows"].dataset == "photographs96"].drop(columns="checksum").assign(dataset="evidence")
    results.append(rows[rows.downscaler.isin(TINY["downscalers"])].to_dict("records"), folder / "made")
    (folder / "evidence").mkdir()
    results.publish(folder / "made", folder / "evidence" / "evidence_photographs_x4.csv.gz")
    return folder, ready, run(NAME, folder, TINY, evidence=str(folder / "evidence"), **ready)


def test_rows_of_every_experiment_are_there(leaves):
    folder, _, _ = leaves
    rows = results.read(folder / "rows")
    main, ready = 2 * 2 * 2 * METRICS, 2 * 3 * 2 * METRICS  # images x downscalers x draws
    assert rows.groupby("dataset").size().to_dict() == {
        "photographs96": main + ready, "mine": main, "shop": 2 * 3 * 2 * METRICS
    }  # fmt: skip
    assert set(rows[rows.dataset == "shop"].downscaler) == {"nearest", "bicubic", "camera"}
    more = {"unknown", "bicubic_shifted", "l0_smooth"}
    assert set(rows[rows.dataset == "photographs96"].downscaler) == {"nearest", "bicubic"} | more
    for name in ("unknown", "bicubic_shifted"):
        assert len(list((folder / "rows" / f"lr_{name}_x4").glob("*.png"))) == 2
    same = rows[(rows.downscaler == "bicubic") & (rows.distortion == "mse")].set_index(["image", "sample", "dataset"])
    assert same.value.unstack("dataset").nunique(axis=1).eq(1).all()  # a set from a folder: the same pictures


def test_verdicts_tables_findings_and_figures_are_there(leaves):
    folder, _, notebook = leaves
    table = pd.read_csv(folder / "rows" / "verdicts.csv")
    assert {"setting", "D", "statement", "source", "verdict", "evidence", "n", "images"} <= set(table)
    assert set(table.verdict) <= {"supported", "contradicted", "not shown", "no rows"}
    assert set(table.setting) == {"photographs x4", "this run x4", "mine x4", "shop x4"}
    one = table[(table.setting == "this run x4") & (table.D == "1-ssim")]
    assert list(one.statement) == [claim.statement for claim in claims.EVERY_READING]
    assert r"\toprule" in (folder / "rows" / "ranking.tex").read_text()
    wanted = ("ranks", "bilinear", "contents", "parts", "camera", "draws", "paired")
    files = {path.name for path in (folder / "figures").iterdir()}
    assert files == {f"06_{name}.{kind}" for name in wanted for kind in ("pdf", "png")}
    found = told(notebook)
    said = " ".join(each["statement"] for each in found)
    assert "camera LR images lose less" in said and "NOT tested" not in printed(notebook)
    again = next(
        each for each in found if "orders the downscalers much as the published photographs do" in each["statement"]
    )
    assert "tau 1.00" in again["statement"] and [each["dataset"] for each in again["rows"]] == [
        ["photographs96"],
        ["evidence"],
    ]


def test_a_rerun_computes_only_what_is_new(leaves):
    folder, _, _ = leaves
    new = missing(NAME, folder, TINY, downscalers=["nearest", "bicubic", "box"])
    assert len(new) == 2 * 2 * METRICS and {key[2] for key in new} == {"box"}


def test_an_own_upscaler_and_an_own_distortion(tmp_path):
    up_to_rows_of_own(NAME, tmp_path, TINY)
