"""Training of rescalers: the official losses and steps; it resumes to the same weights, learns, and moves LR by v."""

import csv
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from helpers.downscalers import DOWNSCALERS
from helpers.images import from_uint8, to_uint8
from helpers.networks import invertible
from helpers.runtime import seeded
from helpers.training import rescaler
from tests import pretend
from tests.rescaling import differ, fill, noise, read

FAST = {"iterations": 6, "batch": 4, "crop": 16, "every": 3, "progress": False}


def photograph(number=0, side=48):
    coarse = torch.rand(1, 3, 8, 8, generator=seeded("photograph", number))
    return F.interpolate(coarse, size=(side, side + 8), mode="bicubic").clamp(0, 1)


def pairs_of_tests(scale=2):
    return [pair for n in range(3) for pair in rescaler.references(photograph(n), scale, seeded("grids", n))]


def validation(pairs, side=24):
    hr, lrs = pairs[0]
    small = side * lrs.shape[1] // hr.shape[1]
    return from_uint8(hr[None, :, :side, :side]), from_uint8(lrs[None, :3, :small, :small])


def network_of_tests(name="irn_x2", **config):
    torch.manual_seed(0)
    return invertible.build(name, **{"blocks": (1,), "growth": 4} | config)


# ---- the official numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_official_steps(dtype, shared):
    golden = read(shared, "irn_x2_train")
    network = fill(invertible.build("irn_x2", blocks=(2,), growth=8)).to(dtype)
    optimizer = rescaler.adam(network)
    hr, reference = golden["x"].to(dtype), golden["lr_ref"].to(dtype)
    for step in range(3):
        z = noise(f"irn_x2_train.train.z.{step}", (2, 9, 16, 16), 1.0).to(dtype)
        parts = rescaler.losses(network, hr, reference, z)
        norm = rescaler.update(optimizer, network, parts)
        tolerance = 1e-3 if dtype == torch.float32 and step else 1e-5
        assert parts.tolist() == pytest.approx(golden["losses"][step].tolist(), rel=tolerance)
        assert norm.item() == pytest.approx(golden["grad_norm"][step].item(), rel=tolerance)
    with torch.no_grad():
        assert differ(network.encode(hr)[1], golden["y_after"]) < 1e-5
    assert differ(network.operations[1].F.conv1.weight, golden["w_after"]) < 1e-5


@torch.no_grad()
def test_official_losses_at_x4(shared):
    golden, network = read(shared, "irn_x4"), fill(invertible.build("irn_x4"))
    z = noise("irn_x4.z", (1, 45, 16, 16), 0.1)
    found = rescaler.losses(network, golden["x"].float(), golden["lr_ref"], z)
    expected = [golden[name].item() for name in ("l_forw_fit", "l_forw_ce", "l_back_rec")]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_losses_by_hand():
    """A fresh network is Haar: all of it is known."""
    network, hr = network_of_tests(), torch.rand(3, 3, 8, 8, generator=seeded("hr"), dtype=torch.float64)
    network.double()
    lr, channels = network.encode(hr)
    z = torch.zeros(3, 9, 4, 4)
    fit, prior, back = rescaler.losses(network, hr, lr + 0.1, z, prior=2.0).tolist()
    assert fit == pytest.approx(4 * 0.01 * 48) and prior == pytest.approx(2 * channels[:, 3:].square().sum().item() / 3)
    levels = (lr * 255).round() / 255
    apart = hr - levels.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert back == pytest.approx((apart.square() + 1e-6).sqrt().sum().item() / 3)


def test_losses_of_the_tuning_for_compression_by_hand():
    network, hr = network_of_tests().double(), torch.rand(2, 3, 8, 8, generator=seeded("hr"), dtype=torch.float64)
    lr, z = network.encode(hr)[0], torch.zeros(2, 9, 4, 4)
    damage = 0.01 * torch.randn(lr.shape, generator=seeded("damage"), dtype=torch.float64)
    fit, _, back = rescaler.losses(network, hr, lr + 0.1, z, fit=rescaler.summed_l1, damage=damage).tolist()
    assert fit == pytest.approx(4 * 48 * (0.01 + 1e-6) ** 0.5)
    levels = (lr * 255).round() / 255 + damage
    apart = hr - levels.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert back == pytest.approx((apart.square() + 1e-6).sqrt().sum().item() / 2)


def test_half_of_the_steps_damage_the_lr_image(tmp_path, monkeypatch):
    seen, losses = [], rescaler.losses

    def watched(*args, **how):
        seen.append(how["damage"])
        return losses(*args, **how)

    monkeypatch.setattr(rescaler, "losses", watched)
    pairs, how = pairs_of_tests(), {**FAST, "iterations": 30, "every": 30, "damage": 0.01}
    rescaler.train_rescaler(network_of_tests(), pairs, validation(pairs), tmp_path / "run.pt", **how)
    noisy = [each for each in seen if each is not None]
    assert len(seen) == 30 and 8 < len(noisy) < 22
    assert torch.cat(noisy).std().item() == pytest.approx(0.01, rel=0.05)


def test_the_gradient_is_clipped():
    start = network_of_tests()
    moved = {}
    for clip in (1e-3, 1e9):
        network = deepcopy(start)
        optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
        hr = torch.rand(2, 3, 8, 8, generator=seeded("hr"))
        norm = rescaler.update(
            optimizer, network, rescaler.losses(network, hr, hr[..., ::2, ::2], torch.zeros(2, 9, 4, 4)), clip
        )
        pairs = zip(network.parameters(), start.parameters(), strict=True)
        moved[clip] = sum((one - two).square().sum() for one, two in pairs).sqrt().item()
    assert (
        moved[1e-3] == pytest.approx(1e-3, rel=1e-2) and moved[1e9] == pytest.approx(norm.item(), rel=1e-3) and norm > 1
    )


# ---- references


def test_references_are_lr_images_of_three_kernels_on_one_grid():
    whole = photograph()
    pairs = rescaler.references(whole, 4, seeded("grids"))
    assert len(pairs) == 2  # two grids; half the size is too small
    hr, lrs = pairs[0]
    assert torch.equal(hr, to_uint8(whole)[0]) and lrs.shape == (9, 12, 14)
    for number, name in enumerate(rescaler.KERNELS):
        assert torch.equal(lrs[3 * number : 3 * number + 3], to_uint8(DOWNSCALERS[name](whole, 4))[0])


def test_the_second_latent_goes_from_soft_to_sharp():
    lrs = torch.rand(2, 9, 4, 4, generator=seeded("lrs"))
    bicubic, sharp, soft = lrs.chunk(3, 1)
    found = rescaler.between(lrs, torch.tensor([0.0, -1.0]))
    torch.testing.assert_close(found[0], bicubic[0])
    torch.testing.assert_close(found[1], bicubic[1] - (sharp[1] - soft[1]) / 2)


# ---- the run


@pytest.mark.parametrize("extra", [0, 1])
def test_a_stopped_run_resumes_to_the_same_weights(tmp_path, extra):
    pairs, how = pairs_of_tests(), {**FAST, "noise": 0.5}
    held_out = validation(pairs)
    make = lambda: network_of_tests(extra=extra)  # noqa: E731
    whole = rescaler.train_rescaler(make(), pairs, held_out, tmp_path / "whole.pt", **how)
    for _ in range(2):
        rescaler.train_rescaler(make(), pairs, held_out, tmp_path / "cut.pt", seconds=0, **how)
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["iteration"] == 2
    rescaler.train_rescaler(make(), pairs, held_out, tmp_path / "cut.pt", **how)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "cut.pt"))
    assert one["iteration"] == two["iteration"] == 6
    for part in ("network", "average"):
        assert all(torch.equal(one[part][key], two[part][key]) for key in one[part])
    assert whole.training is False
    with pytest.raises(ValueError, match="noise: expected 0.5, as in"):
        rescaler.train_rescaler(make(), pairs, held_out, tmp_path / "cut.pt", **{**how, "noise": 1.0})


@pytest.mark.parametrize("name, how", [("irn_x2", {}), ("tirn_x2", {"prior": 0.0}), ("irn_x2", {"bfloat16": True})])
def test_training_learns_and_the_best_is_kept(tmp_path, name, how):
    pairs = pairs_of_tests()
    held_out = validation(pairs)
    start = rescaler.quality(network_of_tests(name), *held_out)
    options = {**FAST, "iterations": 60, "every": 20, "decay": 0.5, **how}
    result = rescaler.train_rescaler(network_of_tests(name), pairs, held_out, tmp_path / "run.pt", **options)
    with open(tmp_path / "run.csv") as file:
        curve = list(csv.DictReader(file))
    assert list(curve[0]) == ["iteration", "seconds", *rescaler.LOSSES, "psnr_y", "lr_psnr", "spread"]
    values = [float(row["psnr_y"]) for row in curve]
    assert values[-1] > start["psnr_y"] + 0.5 and float(curve[-1]["lr_psnr"]) > 30
    assert rescaler.quality(result, *held_out)["psnr_y"] == pytest.approx(max(values), abs=1e-4)
    assert (name == "tirn_x2") == (float(curve[0]["prior"]) == 0)


def test_the_second_latent_is_learned(tmp_path):
    pairs = pairs_of_tests()
    held_out, options = validation(pairs), {**FAST, "iterations": 60, "every": 60, "decay": 0.5, "peak": 3e-3}
    network = network_of_tests(extra=1)
    assert rescaler.quality(network, *held_out)["spread"] == 0
    result = rescaler.train_rescaler(network, pairs, held_out, tmp_path / "run.pt", **options)
    hr, lrs = from_uint8(pairs[0][0][None, :, :24, :24]), from_uint8(pairs[0][1][None, :, :12, :12])
    ends = [result.encode(hr, torch.full((1, 1, 12, 12), float(v)))[0] for v in (-1, 1)]
    wanted = lrs[:, 3:6] - lrs[:, 6:]
    moved = (ends[1] - ends[0]).detach()
    assert F.cosine_similarity(moved.flatten(), wanted.flatten(), 0) > 0.5  # towards the sharper kernel
    assert rescaler.quality(result, *held_out)["spread"] == pytest.approx(
        255 * moved.square().mean().sqrt().item(), rel=1e-3
    )


def test_quality_by_hand():
    network, pairs = network_of_tests(), pairs_of_tests()
    hr, reference = validation(pairs)
    found = rescaler.quality(network, hr, reference)
    lr = F.avg_pool2d(hr, 2)
    expected = -10 * ((255 * lr).round() / 255 - reference).square().mean().log10()
    assert found["lr_psnr"] == pytest.approx(expected.item(), abs=1e-3) and found["spread"] == 0


def test_training_on_a_device(tmp_path, monkeypatch):
    pairs = pairs_of_tests()
    with pretend.pretend(monkeypatch, "cuda") as there:
        network = network_of_tests(extra=1).to(there)
        trained = rescaler.train_rescaler(network, pairs, validation(pairs), tmp_path / "run.pt", **FAST)
        assert next(trained.parameters()).device == there


def test_a_loss_that_is_not_finite_stops(tmp_path):
    network, pairs = network_of_tests(), pairs_of_tests()
    network.operations[1].F.conv5.bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="loss is .*nan.* at iteration 0"):
        rescaler.train_rescaler(network, pairs, validation(pairs), tmp_path / "bad.pt", **FAST)


def test_crops_that_do_not_divide_are_refused(tmp_path):
    with pytest.raises(ValueError, match="crop: expected a multiple of scale 2, got 15"):
        rescaler.train_rescaler(
            network_of_tests(), [], (torch.ones(1), torch.ones(1)), tmp_path / "bad.pt", **{**FAST, "crop": 15}
        )
