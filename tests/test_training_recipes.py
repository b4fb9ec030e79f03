"""Recipes of the small rescalers: their pairs, a short training of each family, and the file that ships."""

import json

import pytest
import torch

from helpers import files, weights
from helpers.images import write_rgb
from helpers.rescalers import checkpoints
from helpers.rescalers.registry import RESCALERS
from helpers.training import recipes, rescaler_report
from helpers.training.residual_shift import KERNELS
from tests.test_training_rescaler import photograph
from tools import rescaler_card


def photographs(side=96):
    return [lambda n=n: photograph(n, side) for n in range(9)]


def test_one_photograph_in_25_is_held_out_and_the_others_are_pairs():
    pairs, (hr, lr) = recipes.pairs_of_all(photographs(), 4, side=64)
    assert len(pairs) >= 8 * 2 and hr.shape == (1, 3, 64, 64) and lr.shape == (1, 3, 16, 16)
    whole = photograph(7, 96)
    assert (hr - whole[..., -64:, -64:]).abs().max() < 1 / 255
    assert not any(torch.equal(each[0][:, -64:, -64:], (hr[0] * 255).round().byte()) for each in pairs)
    with pytest.raises(ValueError, match="photographs: expected at least 8, got 3"):
        recipes.pairs_of_all(photographs()[:3], 4, side=64)


def test_sources_are_the_photographs_of_every_folder_read_when_they_are_asked_for(tmp_path):
    for folder, names in {"a": ("1", "2"), "b": ("3",)}.items():
        for name in names:
            write_rgb(torch.full((1, 3, 16, 16), int(name) / 5), tmp_path / folder / f"{name}.png")
    found = recipes.sources_of(f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert [round(5 * read().mean().item()) for read in found] == [1, 2, 3]
    (tmp_path / "b" / "3.png").unlink()
    with pytest.raises(ValueError):
        found[2]()


def test_every_recipe_is_of_a_rescaler_and_small_enough():
    for name, recipe in recipes.RECIPES.items():
        family, _, scale = name.rpartition("_x")
        assert recipe.config["scale"] == int(scale) in RESCALERS[family].scales
        size = 4 * sum(each.numel() for each in recipe.make(**recipe.config).parameters())
        assert size < rescaler_report.LIMIT, name


@pytest.mark.parametrize("name", ["dlv_style_x4", "sain_x2", "hyperthumbnail_x4", "residual_shift_x4"])
def test_a_training_ends_in_a_file_that_ships(tmp_path, name):
    how = {"iterations": 1, "batch": 1, "crop": 64, "progress": False}
    if name in recipes.TWINS:
        pairs, validation = recipes.pairs_of_twins(photographs(160), name, side=64)
        how["mean_iterations"] = 1
    else:
        pairs, validation = recipes.pairs_of_all(photographs(160), recipes.RECIPES[name].config["scale"], side=64)
    trained = recipes.train(name, pairs, validation, tmp_path / "run.pt", **how)
    crops = validation if name in recipes.TWINS else None
    path = rescaler_card.ship(name, tmp_path / "run.pt", 8, tmp_path, crops)
    state, config, _ = checkpoints.read(path)
    if crops:
        assert len(shares := config.pop("shares")) == 9 and all(value > 0 for value in shares)
    assert config == trained.config and len((tmp_path / f"{name}.csv").read_text().splitlines()) == 2
    assert all(torch.equal(state[key], value.to(state[key])) for key, value in trained.state_dict().items())
    assert (tmp_path / "SHA256SUMS").read_text() == f"{files.sha256_of(path)}  {name}.safetensors\n"


def test_twins_differ_in_nothing_but_the_lr_images_they_are_trained_on():
    plain, blind = recipes.TWINS.values()
    assert plain.config == blind.config and {**plain.how, "blind": True} == blind.how
    sizes = [2 * sum(part.numel() for part in each.make(**each.config).parameters()) for each in (plain, blind)]
    assert max(sizes) < rescaler_report.LIMIT  # in float16
    (one, held), (several, same) = (recipes.pairs_of_twins(photographs(), name, side=64) for name in recipes.TWINS)
    assert len(several) == len(KERNELS) * len(one) and all(map(torch.equal, held, same))
    assert torch.equal(one[0][0], several[0][0]) and torch.equal(one[0][1], several[KERNELS.index("bicubic")][1])
    whole = photograph(7, 96)
    assert (held[0] - whole[..., -64:, -64:]).abs().max() < 1 / 255 and held[1].shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match="photographs: expected at least 8, got 3"):
        recipes.pairs_of_twins(photographs()[:3], "residual_shift_x4", side=64)


CARDS = [path for name in rescaler_card.ALL if (path := weights.store.EMBEDDED / f"{name}.json").is_file()]


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_cards_are_of_the_file_beside_them(path):
    facts, tables = rescaler_report.read_card(path)
    file = weights.embedded(path.stem)
    config = checkpoints.read(file)[1]
    assert facts["bytes"] == file.stat().st_size < rescaler_report.LIMIT and facts["config"] == config
    recipe = rescaler_card.ALL[path.stem]
    assert facts["parameters"] == sum(each.numel() for each in recipe.make(**config).parameters())
    assert path.stem not in recipes.TWINS or all(0 < each < 2 for each in config["shares"])
    assert {**config, **json.loads(json.dumps(recipe.config))} == config
    if path.stem in recipes.TWINS:
        assert len(tables["photographs"]) >= 30 and facts["kid"]["patches"] >= 9 * 30
    else:
        assert len(tables["bsd100"]) == 100
    assert all(table.notna().all(axis=None) for table in tables.values())
