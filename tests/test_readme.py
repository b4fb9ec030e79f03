"""The README's code runs, its files exist and its numbers are those of the committed rows and cards."""

import re
from pathlib import Path

import pytest

from helpers import results, statistics

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_ten_lines_run():
    block = re.search(r"```python\n(.*?)```", README, re.S).group(1)
    assert len(block.strip().splitlines()) <= 12
    space = {}
    exec(block.replace('"library", 8)', '"library", 2)'), space)
    assert space["values"].shape == (2, 2) and 0 < space["score"] < 1


def test_the_ranking_is_that_of_the_published_rows():
    rows = results.read(ROOT / "data" / "results" / "00_quickstart.csv.gz")
    lines = re.findall(r"^\| ([\d.]+) \| (\w+) \| ([\d.]+) \| \[([\d.]+), ([\d.]+)\] \|", README, re.M)
    table = statistics.scores(rows)
    assert [line[1] for line in lines] == list(table.downscaler) and len(lines) == 7
    for line, row in zip(lines, table.itertuples(), strict=True):
        assert [float(x) for x in (line[0], *line[2:])] == pytest.approx(
            [row.rank, row.mean, row.low, row.high], abs=5.1e-5
        )


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
