"""The README's code runs, its files exist and its numbers are those of the committed rows and cards."""

import re
from pathlib import Path

import pytest

from tools.fill_tables import BLOCKS, filled

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_ten_lines_run():
    block = re.search(r"```python\n(.*?)```", README, re.S).group(1)
    assert len(block.strip().splitlines()) <= 12
    space = {}
    exec(block.replace('"photographs", 8)', '"photographs", 2)'), space)
    assert space["values"].shape == (2, 2) and 0 < space["score"] < 1


def test_own_upscaler_and_distance_as_written(tmp_path, monkeypatch):
    """The two blocks of the section: the file, then the experiment that names it."""
    section = README.split("## Score with your own upscaler or distance")[1].split("\n## ")[0]
    code, use = re.findall(r"```python\n(.*?)```", section, re.S)
    (tmp_path / "my_file.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    space = {}
    exec(use.replace('"photographs", 2)', '"photographs", 1)'), space)
    rows = space["rows"]
    assert len(rows) == 8 and set(rows["sample"]) == {0, 1} and rows.value.gt(0).all()
    assert re.fullmatch("upscale@[0-9a-f]{8}", rows.upscaler.unique().item())
    assert {name.partition("@")[0] for name in rows.distortion} == {"distance", "mse"}


def test_own_pair_as_written(tmp_path, monkeypatch):
    section = README.split("## Score a rescaler")[1].split("\n## ")[0]
    code, use = re.findall(r"```python\n(.*?)```", section, re.S)
    (tmp_path / "my_pair.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    space = {}
    exec(use.replace('"library", 2)', '"library", 1)').replace("n_samples=2", "n_samples=1"), space)
    rows = space["rows"]
    assert len(rows) == 4 and rows.value.gt(0).all()
    assert {name.partition("@")[0] for name in rows.downscaler} == {"bicubic", "downscale"}
    assert {name.partition("@")[0] for name in rows.upscaler} == {"upscale", "embedded_flow"}


@pytest.mark.parametrize("path", BLOCKS)
def test_tables_are_those_of_the_published_rows_and_cards(path):
    assert filled(path) == (ROOT / path).read_text(), "python -m tools.fill_tables"


def test_every_link_leads_somewhere():
    prose = re.sub(r"```.*?```", "", README, flags=re.S)
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", prose)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z]+)", README)) | {"quickstart", "test"} <= targets


def test_every_notebook_is_in_the_table():
    for path in (ROOT / "notebooks").rglob("[!.]*.ipynb"):
        assert f"({path.relative_to(ROOT)})" in README
