"""Keys by number: the same as those written out."""

import numpy as np
import pytest

from helpers import results
from helpers.runs import Experiment, grid, words


@pytest.fixture
def one():
    return Experiment(
        dataset=("some", "library"), images=["b", "a", "c"], downscalers=["box", ("mine", "nearest")], scale=4,
        upscaler="embedded_flow", n_samples=2, distortion=["mse", "1-ssim"], device="cpu",
        degradations=[("", None), ("noise", 0.1)], where="before",
    )  # fmt: skip


def test_columns_and_numbers_are_the_keys(one):
    keys = one.keys()
    assert len(keys) == np.prod(grid.shape(one)) and grid.keys_at(one, range(len(keys))) == keys
    table = grid.columns(one)
    assert list(table) == list(results.KEY) and results.count(table) == len(keys) == results.count(keys)
    by_row = zip(*([each.values[code] for code in each.codes] for each in table.values()), strict=True)
    assert list(by_row) == keys
    empty = results.read("no folder")
    assert results.missing_at(table, empty).tolist() == list(range(len(keys)))


def test_a_cell_is_found_by_its_number(one):
    keys, per_cell = one.keys(), 4
    for number in range(0, len(keys), per_cell):
        assert grid.number_of(one, words.cell_of(keys[number])) == number
    cell = words.cell_of(keys[0])
    for place, other in enumerate(("x", "x", "x", 2, "blur", 0.3, "after", "bicubic", 0.5, 9)):
        assert grid.number_of(one, cell[:place] + (other,) + cell[place + 1 :]) is None


def test_missing_keys_are_a_sequence(one):
    keys, numbers = one.keys(), np.array([0, 5, 16, 47])
    missing = grid.Missing([(one, numbers[:2]), (one, numbers[:0]), (one, numbers[2:])])
    wanted = [keys[k] for k in numbers]
    assert missing == wanted and list(missing) == wanted and len(missing) == 4 and missing != wanted[:3]
    assert missing[-1] == wanted[-1] and missing[1:3] == wanted[1:3] and wanted[2] in missing
    assert grid.Missing() == [] and not grid.Missing() and "4 keys" in repr(missing)
    with pytest.raises(IndexError, match="expected a place below 4, got 4"):
        missing[4]
    by_image = grid.by_image(one, numbers)
    assert {image: list(each) for image, each in by_image.items()} == {
        "b": wanted[:2], "a": [wanted[2]], "c": [wanted[3]]
    }  # fmt: skip


def test_experiments_that_share_images_have_them_at_once(one, monkeypatch):
    monkeypatch.setattr(grid, "IMAGES", 2)
    other = grid.on(one, ["c", "b", "d"])
    parts = list(grid.chunks([one, other]))
    assert [[each.images for each in part] for part in parts] == [[["b", "a"], ["b"]], [["c"], ["c", "d"]]]
    assert one.images == ["b", "a", "c"] and parts[0][0].specs == one.specs
