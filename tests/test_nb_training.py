"""The training notebook, run small: it trains, writes a checkpoint and reports on the shipped flow."""

import copy

import pandas as pd
from safetensors import safe_open

from helpers import upscalers
from helpers.networks.compact_flow import CompactFlow
from tests.notebook import run, up_to

NAME = "training/compact_flow"
TINY = {
    "scale": 8, "steps": [1, 1, 1], "hidden": [8, 8, 8], "width": 8, "blocks": 1, "head": 6, "mean_iterations": 4,
    "iterations": 4, "n_images": 1, "n_checked": 1, "size": 168, "device": "cpu", "seconds": 300.0,
}  # fmt: skip


def test_it_trains_and_reports_on_the_shipped_flow(tmp_path):
    own = {"results_dir": str(tmp_path / "rows"), "output": str(tmp_path / "mine.safetensors")}
    run(NAME, tmp_path, TINY, **own)
    assert (tmp_path / "mine.safetensors").stat().st_size > 1000
    assert (tmp_path / "training" / "state.csv").read_text().count("\n") >= 2
    assert list((tmp_path / "figures").glob("*.pdf"))


def test_its_second_stage_goes_on_from_the_first(tmp_path, shared, monkeypatch):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data" / "weights"))
    own = {"output": str(tmp_path / "mine.safetensors"), "second_blocks": 2, "second_iterations": 2}
    up_to(NAME, "if second_iterations:", tmp_path, TINY, **own)
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        assert file.metadata()["blocks"] == "2" and file.metadata()["margin"] == "0.25"
    assert (tmp_path / "training" / "state_second.csv").read_text().count("\n") == 2
    assert list((tmp_path / "training" / "state_second").glob("*.png"))  # the sheet of this stage


def test_the_recipe_of_the_mixed_flow_goes_on_from_the_shipped_one_without_lr_consistency(
    tmp_path, shared, monkeypatch
):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data" / "weights"))
    small = CompactFlow(scale=8, width=8, blocks=3, head=6, steps=[1, 1, 1], hidden=[8, 8, 8], margin=0.25)
    monkeypatch.setattr(upscalers, "load_compact_flow", lambda *which: copy.deepcopy(small).eval())
    recipe = {"start": "shipped", "mean_iterations": 0, "iterations": 0, "second_iterations": 1, "consistency": 0.0}
    space, _ = up_to(NAME, "if second_iterations:", tmp_path, TINY | recipe, lr_downscalers=["nearest", "bicubic"])
    curve = pd.read_csv(tmp_path / "training" / "state_second.csv")
    assert curve.consistency.eq(0).all() and curve.score.gt(0).all() and len(curve) == 1
    assert space["trained"].config == small.config | {"blocks": 16}
    assert not (tmp_path / "training" / "state.csv").exists()  # no iteration of the first stage
    assert len(space["pairs"]) == 2 * 2 * (len(space["sources"]) - len(space["middles"]))  # two grids, two downscalers
