"""Training of the Multi-Realism codec: weights of the losses, draws, both stages resume and learn."""

import csv

import pytest
import torch
import torch.nn.functional as F

from helpers.distortions import lpips_embedded
from helpers.images import from_uint8, to_uint8
from helpers.networks.multi_realism import MultiRealism
from helpers.runtime import seeded
from helpers.training import multi_realism as training
from tests.pictures import waves
from tests.test_networks_elic import TINY

FAST = {"iterations": 6, "batch": 2, "crop": 64, "every": 3, "progress": False}
REAL = FAST | {"widths": (4, 4, 4, 4)}


def network_of_tests(**config):
    torch.manual_seed(0)
    return MultiRealism(**TINY | config)


def images_of_tests():
    coarse = torch.rand(2, 3, 24, 24, generator=seeded("photographs"))
    return list(to_uint8(F.interpolate(coarse, size=(96, 96), mode="bicubic").clamp(0, 1)))


def validation():
    return from_uint8(torch.stack(images_of_tests()))[..., :64, :64]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def curve(path):
    return list(csv.DictReader(path.with_suffix(".csv").open()))


# ---- losses


def test_weights_of_the_losses():
    """MSE / 100 in levels of 8 bits; a bit costs 6.4 at level 0 and a third of it a level on; over the root of that."""
    hr, level = torch.zeros(2, 3, 8, 8), torch.tensor([0.0, 2.0])
    found, bpp = torch.full_like(hr, 10 / 255), torch.tensor([1.0, 3.0])
    cost = torch.tensor([6.4, 6.4 / 9])
    assert torch.allclose(training.price(level), cost)
    assert training.error(found, hr).tolist() == pytest.approx([1.0, 1.0])
    parts = training.losses(found, hr, bpp, level)
    assert parts[0].item() == pytest.approx((1 / cost.sqrt()).mean().item())
    assert parts[1].item() == pytest.approx((bpp * cost.sqrt()).mean().item())


def test_levels_and_betas_that_are_drawn():
    levels, betas = training.levels_of(5000, 4, seeded("levels")), training.betas_of(5000, seeded("betas"))
    assert levels.min() == 0 and levels.max() == 3 and levels.mean() == pytest.approx(1.5, abs=0.05)
    assert (levels == 0).float().mean() == pytest.approx(0.25 / 3.5, abs=0.02)
    assert (betas == 0).float().mean() == pytest.approx(training.PLAIN, abs=0.03)
    assert betas.max() < 5.12 and betas[betas > 0].mean() == pytest.approx(2.56, abs=0.1)


def test_a_photograph_is_seen_at_two_sizes():
    whole, half = training.grids_of(waves(1, 256, 300))
    assert whole.shape == (3, 256, 300) and half.shape == (3, 128, 150) and half.dtype == torch.uint8
    assert len(training.grids_of(waves(1, 255, 300))) == 1


def test_quality_is_that_of_each_level():
    network, hr = network_of_tests().eval(), validation()
    found = training.quality(network, hr)
    level = torch.full((2,), 1.0)
    with torch.no_grad():
        sr, bpp = network(hr, level, 0 * level)
    psnr = -10 * (sr.clamp(0, 1) - hr).square().mean((1, 2, 3)).log10()
    assert found["psnr_1"] == pytest.approx(psnr.mean().item()) and found["bpp_1"] == pytest.approx(bpp.mean().item())
    assert list(found) == ["psnr_0", "bpp_0", "psnr_1", "bpp_1", "psnr_2", "bpp_2", "loss"]


def test_quality_of_realism():
    network, hr = network_of_tests().eval(), validation()
    found = training.realism_quality(network, hr, "lpips_embedded")
    total = 0.0
    with torch.no_grad():
        for beta in training.REALISMS:
            for number in range(3):
                level = torch.full((2,), float(number))
                sr = network(hr, level, torch.full((2,), beta))[0].clamp(0, 1)
                total += (training.error(sr, hr) + beta * 4.26 * lpips_embedded(sr, hr)).mean().item()
    assert found["loss"] == pytest.approx(total / 9, rel=1e-4)
    assert {"psnr_0", "lpips_0", "psnr_2.56", "lpips_2.56"} <= set(found)


# ---- both stages


def test_the_first_stage_goes_on_where_it_stopped(tmp_path):
    whole = training.train_rates(network_of_tests(), images_of_tests(), validation(), tmp_path / "whole.pt", **FAST)
    part = tmp_path / "part.pt"
    training.train_rates(network_of_tests(), images_of_tests(), validation(), part, seconds=0, **FAST)
    assert len(curve(part)) == 1
    resumed = training.train_rates(network_of_tests(), images_of_tests(), validation(), part, **FAST)
    assert same(whole, resumed) and not whole.training
    assert [row["iteration"] for row in curve(tmp_path / "whole.pt")] == ["3", "6"]


def test_the_first_stage_learns(tmp_path):
    network = network_of_tests()
    before = training.quality(network.eval(), validation())["loss"]
    more = {"iterations": 50, "every": 50, "peak": 1e-2, "decay": 0.5}
    trained = training.train_rates(network, images_of_tests(), validation(), tmp_path / "t.pt", **FAST | more)
    assert training.quality(trained, validation())["loss"] < 0.98 * before


def test_the_second_stage_goes_on_where_it_stopped(tmp_path):
    def run(name, **other):
        network = network_of_tests()
        return training.train_realism(network, images_of_tests(), validation(), tmp_path / name, **REAL | other)

    whole = run("whole.pt")
    run("part.pt", seconds=0)
    assert same(whole, run("part.pt"))
    assert list(curve(tmp_path / "whole.pt")[0])[2:6] == ["error", "perceptual", "deceit", "discriminator"]


def test_the_second_stage_leaves_the_bits_alone(tmp_path):
    first, hr, level = network_of_tests().eval(), validation(), torch.tensor([0.0, 2.0])
    trained = training.train_realism(network_of_tests(), images_of_tests(), hr, tmp_path / "t.pt", **REAL)
    kept = first.state_dict()
    changed = {name.split(".")[0] for name, value in trained.state_dict().items() if not torch.equal(value, kept[name])}
    assert changed <= {"synthesis", "realism", "rate_of_decoder", "gain_of_decoder"} and "synthesis" in changed
    with torch.no_grad():
        assert torch.equal(first.compress(hr, level)[1], trained.compress(hr, level)[1])


def test_the_second_stage_lowers_what_beta_asks_for(tmp_path):
    network, hr = network_of_tests(), validation()
    before = training.realism_quality(network.eval(), hr, "lpips_embedded")
    more = {"iterations": 30, "every": 30, "decay": 0.5, "peak": 1e-2}
    trained = training.train_realism(network, images_of_tests(), hr, tmp_path / "t.pt", **REAL | more)
    assert training.realism_quality(trained, hr, "lpips_embedded")["loss"] < before["loss"]


def test_another_recipe_does_not_resume(tmp_path):
    training.train_realism(network_of_tests(), images_of_tests(), validation(), tmp_path / "t.pt", seconds=0, **REAL)
    with pytest.raises(ValueError, match="batch: expected 2"):
        training.train_realism(
            network_of_tests(), images_of_tests(), validation(), tmp_path / "t.pt", **REAL | {"batch": 4}
        )


@pytest.mark.parametrize("stage", [training.train_rates, training.train_realism])
def test_crops_of_other_sides_are_refused(stage, tmp_path):
    with pytest.raises(ValueError, match="crop: expected a multiple of 64, got 48"):
        stage(network_of_tests(), images_of_tests(), validation(), tmp_path / "t.pt", crop=48)
