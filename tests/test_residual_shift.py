"""Compact residual shifting: exact where the answer is known, one generator a draw, and a training that resumes."""

import csv

import pytest
import torch
import torch.nn.functional as F

from helpers import weights
from helpers.networks.residual_shift import GAIN, KAPPA, VARIANCE, ResidualShift, eta_at
from helpers.runtime import seeded
from helpers.training import loop, recipes
from helpers.training import residual_shift as training
from helpers.upscalers import registry, residual_shift
from helpers.upscalers.diffusion import residual_schedule
from helpers.upscalers.residual_shift import sample

SMALL = {"scale": 4, "width": 8, "blocks": 1, "head": 8, "channels": 12, "depth": 1}
FAST = {"mean_iterations": 3, "iterations": 4, "batch": 2, "crop": 32, "every": 2, "progress": False}


def network(trained=True):
    torch.manual_seed(0)
    net = ResidualShift(**SMALL).eval()
    if trained:
        torch.nn.init.normal_(net.last.weight, std=0.05)
        torch.nn.init.normal_(net.encoder.last.weight, std=0.02)
        for block in net.trunk:
            torch.nn.init.normal_(block.level.weight, std=0.2)
    return net


def lr_image(side=9, more=4):
    coarse = torch.rand(1, 3, 3, 3, generator=seeded("lr"))
    return F.interpolate(coarse, size=(side, side + more), mode="bilinear")


def pairs_of_tests():
    hr = F.interpolate(torch.rand(1, 3, 12, 16, generator=seeded("hr")), scale_factor=4, mode="bicubic").clamp(0, 1)
    lr = F.avg_pool2d(hr, 4)
    return [((255 * hr[0]).round().byte(), (255 * lr[0]).round().byte())]


def test_the_schedule_is_resshifts():
    for steps in (4, 15):
        schedule = residual_schedule(steps, kappa=KAPPA)
        found = eta_at(torch.linspace(0, 1, steps, dtype=torch.float64))
        assert torch.allclose(found, torch.from_numpy(schedule["etas"]), rtol=1e-9)


def test_an_untrained_denoiser_is_exact_for_gaussian_residuals():
    """Its last layer is zero; what is left is E(r | r_t) of r ~ N(0, VARIANCE), and its deviation is the error's."""
    net, r = network(trained=False), VARIANCE**0.5 * torch.randn(1, 3, 256, 256, generator=seeded("r"))
    condition = torch.zeros(1, SMALL["channels"], 64, 64)
    for u in (0.0, 0.3, 0.7, 1.0):
        eta = eta_at(torch.tensor([u]))
        with torch.no_grad():
            found, deviation = net.denoise(
                net.noisy(r, eta, torch.randn(r.shape, generator=seeded(round(10 * u)))), eta, condition
            )
        assert (found - r).std().item() == pytest.approx(deviation.item(), rel=0.02)
        assert ((found - r) * found).mean().item() == pytest.approx(0, abs=0.01 * VARIANCE)


@pytest.mark.parametrize(("steps", "share", "expected"), [(4, 0, 0.36), (15, 0, 0.74), (4, 1, 0.99), (15, 1, 0.99)])
def test_draws_spread_as_gaussian_residuals_do(steps, share, expected):
    net, lr = network(trained=False), lr_image(40)
    sr = sample(net, lr, [seeded(q) for q in range(4)], steps, share)
    with torch.no_grad():
        mean = net.encode(lr)[0]
    spread = (GAIN * (sr - mean)).var().item() / VARIANCE
    assert spread == pytest.approx(expected, abs=0.015) and (sr.mean(0) - mean[0]).abs().mean() < 0.1


def test_a_draw_depends_on_its_generator_alone():
    net, lr = network(), lr_image()
    three = sample(net, lr, [seeded(0, q) for q in range(3)], 4)
    assert three.shape == (3, 3, 36, 52) and three.isfinite().all()
    assert torch.allclose(sample(net, lr, [seeded(0, 1)], 4), three[1:2], atol=1e-5)
    each = sample(net, lr.expand(3, -1, -1, -1), [seeded(0, q) for q in range(3)], 4)
    assert torch.allclose(each, three, atol=1e-5) and (three[0] - three[1]).abs().max() > 1e-2
    with pytest.raises(ValueError, match="steps: expected a whole number of at least 2, got 1"):
        sample(net, lr, [seeded(0)], 1)
    with pytest.raises(ValueError, match="share: expected a number from 0 to 1, got 2"):
        sample(net, lr, [seeded(0)], 4, 2)


def test_the_lr_image_and_the_noise_level_matter():
    net, x = network(), torch.randn(1, 3, 36, 52, generator=seeded("x"))
    with torch.no_grad():
        here, there = (net.encode(lr)[1] for lr in (lr_image(), lr_image().flip(3)))
        eta = eta_at(torch.tensor([0.5]))
        assert (net.denoise(x, eta, here)[0] - net.denoise(x, eta, there)[0]).abs().max() > 1e-3
        embedded = [net.embed(torch.zeros(1, 12)), net.embed(torch.ones(1, 12))]
    assert not torch.allclose(*embedded)


def test_damage_is_random_by_its_generator_and_leaves_levels():
    lr = lr_image(12, 0).expand(6, -1, -1, -1)
    one, two = (training.damage(lr, seeded("damage")) for _ in range(2))
    assert torch.equal(one, two) and not torch.equal(one, training.damage(lr, seeded("other")))
    assert torch.equal((255 * one).round() / 255, one) and one.shape == lr.shape
    differences = (one - lr).abs().mean((1, 2, 3))
    assert differences.max() > 0.01 and differences.unique().numel() == 6


@pytest.mark.parametrize("blind", [False, True])
def test_a_stopped_training_resumes_to_the_same_weights(tmp_path, blind):
    pairs = pairs_of_tests()
    held_out = tuple(each[None] / 255 for each in pairs[0])

    def run(name, **more):
        path = tmp_path / name
        return training.train_residual_shift(network(False).train(), pairs, held_out, path, blind=blind, **FAST | more)

    whole = run("whole.pt")
    for _ in range(3):
        run("cut.pt", seconds=0)
    run("cut.pt")
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "cut.pt"))
    assert one["iteration"] == two["iteration"] == 7 and whole.training is False
    assert all(torch.equal(one[part][key], two[part][key]) for part in ("network", "average") for key in one[part])
    with pytest.raises(ValueError, match="blind: expected"):
        training.train_residual_shift(network(False), pairs, held_out, tmp_path / "cut.pt", blind=not blind, **FAST)


def test_training_learns_the_mean_then_the_noise_and_freezes_the_mean(tmp_path):
    pairs = pairs_of_tests()
    held_out = tuple(each[None] / 255 for each in pairs[0])
    how = FAST | {"mean_iterations": 20, "iterations": 40, "every": 10, "peak": 3e-3, "decay": 0.5}
    training.train_residual_shift(network(False).train(), pairs, held_out, tmp_path / "run.pt", **how)
    with open(tmp_path / "run.csv") as file:
        curve = list(csv.DictReader(file))
    psnr, loss = ([float(line[name]) for line in curve] for name in ("psnr_mean", "validation"))
    assert psnr[1] > psnr[0] and len(set(psnr[2:])) == 1  # the encoder stands still once the denoiser is trained
    assert loss[-1] < loss[2] < 1.3 and all(value != value for value in loss[:2])


# ---- upscalers by name, from a file


@pytest.fixture(name="files_of_tests")
def files_fixture(tmp_path, monkeypatch):
    """Small networks in place of the two that ship."""
    for k, name in enumerate(recipes.TWINS):
        net = network()
        net.encoder.last.bias.data.fill_(0.01 * k)
        recipes.export(net, tmp_path / f"{name}.safetensors", photographs=3)
    monkeypatch.setattr(weights, "embedded", lambda name: tmp_path / f"{name}.safetensors")
    return tmp_path


def test_one_file_serves_the_mean_image_and_the_draws_around_it(files_of_tests):
    lr, keys = lr_image(), lambda: [seeded(0, q) for q in range(2)]
    for end in ("", "_blind"):
        means, draws = (registry.build(f"embedded_{kind}{end}", scale=4)(lr, keys()) for kind in ("l1", "resshift"))
        net = residual_shift.load(files_of_tests / f"residual_shift_x4{end}.safetensors")
        assert torch.equal(means[:1], net.encoder(lr)[1]) and torch.equal(means[0], means[1])
        assert torch.equal(draws, sample(net, lr, keys(), residual_shift.STEPS))
        assert (draws[0] - draws[1]).abs().max() > 1e-2
        one, two = (registry.UPSCALERS[f"embedded_{kind}{end}"] for kind in ("l1", "resshift"))
        assert one.files == two.files and (one.heat, two.heat) == (0.0, 1.0)
        assert one.blind is two.blind is bool(end) and not one.stochastic
        several = registry.build(f"embedded_l1{end}", scale=4)(lr.repeat(2, 1, 1, 1), keys())
        assert torch.allclose(several, means, atol=1e-6)


def test_another_number_of_steps_is_an_option_and_another_image(files_of_tests):
    lr = lr_image()
    usual, few = (registry.build(f"embedded_resshift{o}", scale=4)(lr, seeded(0)) for o in ("", "(steps=3)"))
    assert (usual - few).abs().max() > 1e-3 and registry.normalise("embedded_resshift( steps = 3 )").endswith(
        "(steps=3)"
    )
    for wrong, said in (("(steps=1)", "steps: expected a whole number of at least 2, got 1"), ("(depth=2)", "depth")):
        with pytest.raises(ValueError, match=said):
            registry.build(f"embedded_resshift{wrong}", scale=4)
    for name, heat in (("embedded_l1", 1.0), ("embedded_resshift", 0.5)):
        with pytest.raises(ValueError, match=f"{name}: expected heat"):
            registry.stages(name, 4, heat)
    with pytest.raises(ValueError, match="expected scale 4, got 2"):
        registry.build("embedded_resshift", scale=2)


def test_half_precision_in_the_file_is_far_below_a_grey_level(files_of_tests):
    net, lr = network(), lr_image()
    sr = registry.build("embedded_l1", scale=4)(lr, seeded(0))
    with torch.no_grad():
        assert (sr - net.encoder(lr)[1]).abs().max() < 0.2 / 255
    assert (files_of_tests / "residual_shift_x4.safetensors").stat().st_size < 2.5 * sum(
        each.numel() for each in net.parameters()
    ) + 20_000


def test_a_file_of_another_network_or_scale_is_refused(files_of_tests):
    net = ResidualShift(**SMALL | {"scale": 2})
    recipes.export(net, files_of_tests / "two.safetensors")
    with pytest.raises(ValueError, match="two.safetensors: expected scale 4, got scale 2"):
        residual_shift.load(files_of_tests / "two.safetensors")
    state = network().state_dict()
    loop.export(state, files_of_tests / "none.safetensors", config='{"scale": 4, "depth": 3}')
    with pytest.raises(ValueError, match="none.safetensors: expected the"):
        residual_shift.load(files_of_tests / "none.safetensors")


def test_what_an_untrained_denoiser_leaves_is_all_of_it_and_the_shares_reach_the_draws(files_of_tests):
    r = VARIANCE**0.5 / GAIN * torch.randn(4, 3, 64, 64, generator=seeded("r"))
    net, lr = network(trained=False), torch.full((4, 3, 16, 16), 0.5)
    with torch.no_grad():
        hr = net.encode(lr)[0] + r
    found = training.errors_left(net, hr, lr, points=5)
    assert len(found) == 5 and all(value == pytest.approx(1, abs=0.03) for value in found)
    half = ResidualShift(**SMALL, shares=[1.0, 0.0, 0.5])
    assert [half.left(u) for u in (0, 0.25, 0.5, 0.75, 1)] == [1, 0.5, 0, 0.25, 0.5] and net.left(0.3) == 1
    none = ResidualShift(**SMALL, shares=[0.0])
    none.load_state_dict(net.state_dict())
    keys = lambda: [seeded(0, q) for q in range(2)]  # noqa: E731
    assert torch.equal(sample(none, lr[:1], keys(), 4), sample(net, lr[:1], keys(), 4, 0))
    assert "shares" not in net.config and half.config["shares"] == [1.0, 0.0, 0.5]
    recipes.export(half, files_of_tests / "half.safetensors")
    assert residual_shift.load(files_of_tests / "half.safetensors").shares == [1.0, 0.0, 0.5]
