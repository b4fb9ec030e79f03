"""Notebook 13, run small: times, rows by workers, synthetic rows, a forecast, figures."""

import pytest

from tests.notebook import printed, run, told, up_to

NAME = "13_time_and_scale"
TINY = {
    "sides": [16, 32, 64], "systems": ["embedded_flow:4", "bicubic:4"], "n_samples": 1, "repeats": 1, "n_images": 2,
    "size": 64, "downscalers": ["bicubic"], "distortion": "mse", "workers": [1], "store": [10, 30], "published": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def leaves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nb13")
    return folder, run(NAME, folder, TINY)


def test_rows_of_workers_are_the_bytes_of_this_process(leaves):
    folder, notebook = leaves
    here, there = ((folder / "rows" / f"with_{count}_workers.csv.gz").read_bytes() for count in (0, 1))
    assert here == there and len(here) > 200
    (said,) = [each for each in told(notebook) if "worker processes" in each["statement"]]
    assert said["verdict"] == "supported" and f"the same {len(here)} bytes" in said["statement"]


def test_the_forecast_names_what_breaks_first_and_figures_are_there(leaves):
    folder, notebook = leaves
    text = printed(notebook)
    assert "what breaks first is: " in text and "one core scores about" in text and "planned in" in text
    files = {path.name for path in (folder / "figures").iterdir()}
    assert files == {f"13_{name}.{kind}" for name in ("seconds", "shares", "store") for kind in ("pdf", "png")}


def test_an_unknown_upscaler_is_refused_before_anything_is_timed(tmp_path):
    with pytest.raises(ValueError, match="systems: expected names among .*, got 'none'"):
        up_to(NAME, "speed.by_size", tmp_path, TINY, systems=["none:4"])
