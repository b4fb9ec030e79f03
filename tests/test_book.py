"""The web book without Sphinx: every notebook is a page, the leaderboard is that of the rows."""

import itertools
import json
import math
import re

import nbformat
import pandas as pd
import pytest

from helpers import results
from helpers.rescalers import multi_realism
from helpers.stats import leaderboard, rankings
from tests.test_networks_elic import tiny
from tests.test_results import row
from tools import book


def rows_of(values, **more):
    found = [
        dict(
            row(),
            lr_bits=math.nan,
            image=f"{image}",
            group=f"{image}",
            downscaler=name,
            sample=q,
            value=value + 0.01 * q,
            **more,
        )
        for name, each in values.items()
        for image, value in enumerate(each)
        for q in range(2)
    ]
    return pd.DataFrame(found)


def test_every_notebook_is_a_page_in_reading_order():
    text = book.contents()
    places = [text.index(str(path.relative_to(book.ROOT).with_suffix(""))) for path in book.notebooks()]
    assert places[0] < places[1] and len(places) >= 12
    for path in book.notebooks():
        page = nbformat.reads(book.cleaned(path), as_version=4)
        assert "papermill" not in page.metadata and not any("papermill" in cell.metadata for cell in page.cells)


def test_the_leaderboard_has_the_scores_and_ranks_of_the_rows():
    rows = rows_of({"good": [0.1, 0.12, 0.11, 0.1], "bad": [0.3, 0.33, 0.31, 0.29]}, distortion="lpips")
    other = rows_of({"good": [30.0, 31.0, 32.0, 33.0], "bad": [20.0, 20.5, 21.0, 22.0]}, distortion="psnr")
    found = leaderboard.table(pd.concat([rows, other], ignore_index=True))
    assert list(found.columns) == list(leaderboard.COLUMNS) and len(found) == 4
    expected = rankings.scores(rows).set_index("downscaler")
    for line in found[found.distortion == "lpips"].itertuples():
        assert (line.score, line.low, line.high) == tuple(expected.loc[line.downscaler, ["mean", "low", "high"]])
    for _, part in found.groupby("distortion"):
        assert part.downscaler.tolist() == ["good", "bad"] and part["rank"].tolist() == [1, 2]
    assert found.lower_is_better.tolist() == [True, True, False, False]


def test_the_command_writes_json_that_says_what_it_holds(tmp_path, capsys):
    results.append([dict(row(), image=str(n), group=str(n), value=0.1 * n) for n in range(1, 4)], tmp_path / "rows")
    leaderboard.main([str(tmp_path / "rows"), "--json", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found["columns"]) == set(found["rows"][0]) and found["rows"][0]["score"] == pytest.approx(0.2)
    leaderboard.main([str(tmp_path / "rows")])
    assert json.loads(capsys.readouterr().out) == found
    with pytest.raises(SystemExit, match="found nothing at"):
        leaderboard.main([str(tmp_path / "none")])


def test_the_page_lists_every_setting_of_the_published_rows():
    table = leaderboard.table(book.published())
    page = book.leaderboard_page(table)
    settings = table.groupby(["dataset", "upscaler", "heat", "scale", "distortion"]).ngroups
    assert page.count("\n## ") == page.count("<table") == settings
    assert page.index("Photographs x4: LPIPS, embedded_flow at heat 1") < page.index("Faces x4")


def test_a_slider_page_has_a_picture_and_words_for_every_choice(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "CROPS", {"kodim03": (180, 330)})
    said = book.read_at_betas(multi_realism.prepare(tiny()), tmp_path)
    page = book.realism_page(said)
    answer = re.search('id="shown-value" data-key="(.*?)"', page).group(1)
    choices = {name: re.findall(r'value="(.*?)"', each) for name, each in re.findall(
        r'id="pick-(\w+)">(.*?)</select>', page)}  # fmt: skip
    assert list(choices) == ["image", "level", "beta"] and choices["beta"][-1] == f"{multi_realism.HIGHEST:g}"
    keys = [answer.format(**dict(zip(choices, each, strict=True))) for each in itertools.product(*choices.values())]
    assert sorted(keys) == sorted(said) == sorted(path.stem for path in tmp_path.glob("*_*.png"))
    assert json.loads(re.search(r"application/json\">(.*?)</script>", page).group(1)) == said
    assert f"_static/explore/{keys[0]}.png" in page and (tmp_path / "kodim03.png").is_file()
    one, other = (said[f"kodim03_level0_beta{beta}"].split(" bytes, ") for beta in ("0", "2.56"))
    assert one[0] == other[0] and one[1] != other[1]
