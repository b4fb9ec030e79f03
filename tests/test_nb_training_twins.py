"""The training notebook of the twins, run small: it trains both parts, writes a checkpoint and reads the cards."""

from helpers import datasets
from helpers.images import write_rgb
from helpers.rescalers import checkpoints
from tests.notebook import up_to

NAME = "training/twins"
TINY = {"mean_iterations": 2, "iterations": 2, "batch": 1, "every": 1, "device": "cpu"}


def test_it_trains_and_reads_the_cards(tmp_path):
    for name in datasets.names("photographs", 8, size=128):
        write_rgb(datasets.load("photographs", name, size=128), tmp_path / "hr" / f"{name}.png")
    own = {"photographs": str(tmp_path / "hr"), "output": str(tmp_path / "mine.safetensors")}
    space, said = up_to(NAME, "", tmp_path, TINY, **own)
    assert checkpoints.read(tmp_path / "mine.safetensors")[1]["scale"] == 4
    lines = (tmp_path / "training" / "state.csv").read_text().splitlines()
    assert len(lines) == 5 and lines[1].endswith("nan") and not lines[-1].endswith("nan")  # the mean image, then draws
    assert "7 photographs" in said and "1 held out" in said
    assert set(space["cards"]) == {"residual_shift_x4", "residual_shift_x4_blind"}
