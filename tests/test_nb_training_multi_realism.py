"""The training notebook of the Multi-Realism codec, run small: both stages, one file with two answers, the card."""

import torch

from helpers import datasets
from helpers.images import write_rgb
from helpers.rescalers import multi_realism
from helpers.weights import store
from tests.notebook import up_to
from tests.pictures import waves

NAME = "training/multi_realism"
TINY = {"rate_iterations": 1, "iterations": 1, "batch": 1, "every": 1, "device": "cpu"}


def test_it_trains_both_stages_and_writes_a_codec(tmp_path):
    for name in datasets.names("photographs", 8, size=128):
        write_rgb(datasets.load("photographs", name, size=128), tmp_path / "hr" / f"{name}.png")
    own = {"photographs": str(tmp_path / "hr"), "output": str(tmp_path / "mine.safetensors")}
    space, said = up_to(NAME, "", tmp_path, TINY, **own)
    codec, hr = multi_realism.load(tmp_path / "mine.safetensors"), waves(1, 64, 64)
    assert multi_realism.decode(codec, multi_realism.encode(codec, hr, 1), 1.28).shape == hr.shape
    for stage, column in (("state", "bpp_3"), ("state_realism", "lpips_2.56")):
        head, *lines = (tmp_path / "training" / f"{stage}.csv").read_text().splitlines()
        assert len(lines) == 1 and column in head.split(",")
    assert "7 photographs" in said and "1 held out" in said and not torch.equal(*space["answers"])
    assert bool(space["tables"]) == (store.EMBEDDED / "multi_realism.json").is_file()
    assert ("no card yet" in said) != bool(space["tables"])
