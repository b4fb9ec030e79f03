"""The training notebook of the rescalers, run small: it trains, writes a checkpoint and reads the cards."""

from helpers import datasets
from helpers.images import write_rgb
from helpers.rescalers import checkpoints
from tests.notebook import up_to

NAME = "training/rescalers"
TINY = {"iterations": 2, "batch": 1, "every": 1, "device": "cpu"}


def test_it_trains_and_reads_the_cards(tmp_path):
    for name in datasets.names("photographs", 8, size=192):
        write_rgb(datasets.load("photographs", name, size=192), tmp_path / "hr" / f"{name}.png")
    own = {"photographs": str(tmp_path / "hr"), "output": str(tmp_path / "mine.safetensors")}
    space, said = up_to(NAME, "", tmp_path, TINY, **own)
    assert checkpoints.read(tmp_path / "mine.safetensors")[1]["scale"] == 2
    assert (tmp_path / "training" / "state.csv").read_text().count("\n") == 3
    assert "7 photographs" in said and "1 held out" in said
    assert {"irn_x2", "hyperthumbnail_x4"} <= set(space["cards"])
