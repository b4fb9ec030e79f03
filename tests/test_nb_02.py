"""Notebook 02, run small: its tables and figures, a downscaler of the reader's own, what stops it."""

import pandas as pd
import pytest
import torch

from helpers import datasets
from helpers.downscalers import DOWNSCALERS
from helpers.images import write_rgb
from tests import notebook

NAME = "02_downscalers"
TINY = {
    "n_images": 2, "size": 192, "downscalers": ["nearest", "bicubic", "dpid"], "amplitudes": [0.1, 0.4], "large": 256,
    "window": [32, 32, 64], "shifted": [2, 4], "rescalers": [],
}  # fmt: skip


def test_every_downscaler_has_its_sentence():
    text = "".join("".join(cell["source"]) for cell in notebook.cells(NAME, "markdown"))
    assert not [name for name in DOWNSCALERS if f"| `{name}` |" not in text]


def test_tables_and_figures(tmp_path):
    own = tmp_path / "mine.py"
    own.write_text("import torch.nn.functional as F\n\ndef mean(hr, scale):\n    return F.avg_pool2d(hr, scale)\n")
    folder = tmp_path / "set"
    for name in datasets.names("photographs", 2, size=192):
        write_rgb(datasets.load("photographs", name, size=192), folder / f"{name}.png")
    (folder / "zero.png").write_bytes(b"")
    done = notebook.run(NAME, tmp_path, TINY, downscaler=f"{own}:mean", dataset=str(folder), n_images=3)
    names = ["nearest", "bicubic", "dpid", "mean"]
    table = pd.read_csv(tmp_path / "rows" / "downscalers.csv")
    assert list(table.downscaler) == names and list(table.linear) == ["yes", "yes", "no", "yes"]
    facts = pd.read_csv(tmp_path / "rows" / "per_image.csv")
    assert len(facts) == 2 * len(names) and facts.notna().all(axis=None)
    means = facts.groupby("downscaler").mean(numeric_only=True)
    assert means.foreign.idxmax() == "nearest" and means.power_db.idxmin() == "bicubic"
    assert len(told := notebook.told(done)) == 4 and told[0]["statement"].startswith("dpid are no filters")
    passes = pd.read_csv(tmp_path / "rows" / "gratings.csv").set_index("downscaler")
    assert passes.alias_share["nearest"] == pytest.approx(0.75, abs=0.01)
    parity = pd.read_csv(tmp_path / "rows" / "parity.csv")
    assert len(parity) == 8 and parity.set_index("version").largest["torch, antialiased"].max() < 8
    shift = pd.read_csv(tmp_path / "rows" / "dpid_shift.csv").query("lam == 0 and scale == 4")
    assert shift.down.mean() == pytest.approx(0.5, abs=0.1)
    assert r"\toprule" in (tmp_path / "rows" / "downscalers.tex").read_text()
    assert r"\toprule" in (tmp_path / "rows" / "parity.tex").read_text()
    wanted = ("gallery", "response", "spectra", "bits", "dpid_shift")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"02_{name}.{kind}" for name in wanted for kind in ("pdf", "png")
    }
    text, words = notebook.printed(done), "et aside before the run: zero (empty file (zero bytes))"
    outputs = [out.get("data", {}) for cell in done.cells for out in cell.get("outputs", ())]
    shown = [data["text/html"] for data in outputs if "<table" in data.get("text/html", "")]
    assert len(shown) >= 3 and all(f"<p>S{words}.</p>" in each for each in shown)
    for table in ("downscalers.tex", "parity.tex"):
        assert f"S{words}." in (tmp_path / "rows" / table).read_text()
    assert (tmp_path / "rows" / "set_aside.txt").read_text() == f"s{words}\n"
    assert "0 of 41472 bytes differ" in text and "0 images and 0 downscalers have a published score" in text


def test_what_stops_it(tmp_path):
    write_rgb(torch.zeros(1, 3, 8, 8), tmp_path / "lr" / "a.png")
    for downscaler in (f"folder: {tmp_path / 'lr'}", {"theirs": f"folder: {tmp_path / 'lr'}"}):
        with pytest.raises(ValueError, match="expected a function or a command, got a folder"):
            notebook.up_to(NAME, "notebook.check", tmp_path, TINY, downscaler=downscaler)
    with pytest.raises(ValueError, match="window: expected top, left and side of a part of 256x256 pixels"):
        notebook.up_to(NAME, "= window", tmp_path, TINY, window=[600, 0, 64])
