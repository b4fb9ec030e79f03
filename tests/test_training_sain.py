"""Training of SAIN: the official losses and steps; it resumes to the same weights, learns, and says what it refuses."""

import csv

import pytest
import torch
import torch.nn.functional as F

from helpers.networks import invertible
from helpers.networks.jpeg import DiffJPEG
from helpers.rescalers.codecs import codec
from helpers.runtime import seeded
from helpers.training import rescaler, sain
from tests import pretend
from tests.rescaling import fill, noise, read
from tests.test_training_rescaler import pairs_of_tests, validation

FAST = {"iterations": 6, "batch": 2, "crop": 32, "every": 3, "progress": False}


def network_of_tests(name="sain_x2", **config):
    torch.manual_seed(0)
    return invertible.build(name, **{"e_blocks": 1, "v_blocks": 1, "growth": 4} | config)


def held_out_of(pairs):
    return validation(pairs, 32)


# ---- the official numbers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_official_steps(dtype, shared):
    golden = read(shared, "sain_x2")
    network = fill(invertible.build("sain_x2")).to(dtype)
    network.gmm.gmm_para.requires_grad_(False)  # the latents are given, so nothing is learned of them
    optimizer, weights = rescaler.adam(network), torch.tensor(sain.WEIGHTS, dtype=dtype)
    hr, reference = golden["x"].to(dtype), golden["lr_ref"].to(dtype)
    coded = iter(golden["train_realcomp_u8"].to(dtype) / 255)  # of the reference and the LR image, step by step
    for step in range(2):
        z = noise(f"sain_x2.train.z.{step}", (1, 9, 32, 48), 0.1).to(dtype)
        parts = sain.losses(network, hr, reference, z, DiffJPEG(75).to(dtype), lambda images: next(coded))
        tolerance = 1e-3 if dtype == torch.float32 and step else 1e-5
        assert parts.tolist() == pytest.approx(golden["train_losses"][step].tolist(), rel=tolerance)
        rescaler.update(optimizer, network, parts * weights)


def test_losses_by_hand():
    """A fresh network is Haar: all of it is known."""
    network, hr = network_of_tests().double(), torch.rand(2, 3, 32, 64, generator=seeded("hr"), dtype=torch.float64)
    lr = F.avg_pool2d(hr, 2)
    z, asked = torch.zeros(2, 9, 16, 32).double(), []

    def half(images):
        asked.append(images)
        return images / 2

    found = sain.losses(network, hr, lr + 0.1, z, lambda levels: levels - 0.05, half).tolist()
    levels, size = (lr * 255).round() / 255, lr.numel() / 2
    assert torch.equal(asked[0], lr + 0.1) and torch.allclose(asked[1], levels)
    assert found[0] == pytest.approx(4 * 0.01 * size, rel=1e-6)
    assert found[1] == pytest.approx(4 * (lr - (lr + 0.1) / 2).square().sum().item() / 2, rel=1e-6)
    assert found[2] == pytest.approx(4 * 0.05**2 * size, rel=1e-6)
    assert found[3] == pytest.approx(4 * (lr - levels / 2).square().sum().item() / 2, rel=1e-6)
    back = (levels - 0.05).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert found[4] == pytest.approx(((hr - back).square() + 1e-6).sqrt().sum().item() / 2, rel=1e-6)


def test_a_gradient_passes_the_codec_of_the_way_back_but_not_the_real_one():
    network, hr = fill(network_of_tests()), torch.rand(1, 3, 32, 32, generator=seeded("hr"))
    reference = F.avg_pool2d(hr, 2)
    z = network.gmm.draw((9, 16, 16), [seeded("z")])
    parts = sain.losses(network, hr, reference, z, DiffJPEG(75), codec("jpeg", 75))
    for number in (4, 2):  # the HR image and the LR image found on the way: through the surrogate
        network.zero_grad()
        parts[number].backward(retain_graph=True)
        assert network.down_operations[0].E.conv5.weight.grad.abs().sum() > 0
        assert network.gmm.gmm_para.grad.abs().sum() > 0
    network.zero_grad()
    parts[0].backward()  # the LR image itself: neither F nor the blocks after it
    assert (
        network.down_operations[0].F.conv5.weight.grad is None
        or not network.down_operations[0].F.conv5.weight.grad.any()
    )


# ---- the run


@pytest.mark.parametrize("name", ["sain_x2", "sain_x4"])
def test_a_stopped_run_resumes_to_the_same_weights(tmp_path, name):
    scale = invertible.NETWORKS[name].keywords["scale"]
    pairs, how = pairs_of_tests(scale), {**FAST, "crop": 32 if scale == 2 else 64}
    if scale == 4:
        pairs = [(F.pad(hr, (0, 32, 0, 32)), F.pad(lr, (0, 8, 0, 8))) for hr, lr in pairs]
    held_out = held_out_of(pairs)
    whole = sain.train_sain(network_of_tests(name), pairs, held_out, tmp_path / "whole.pt", **how)
    for _ in range(2):
        sain.train_sain(network_of_tests(name), pairs, held_out, tmp_path / "cut.pt", seconds=0, **how)
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["iteration"] == 2
    sain.train_sain(network_of_tests(name), pairs, held_out, tmp_path / "cut.pt", **how)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "cut.pt"))
    assert one["iteration"] == two["iteration"] == 6
    for part in ("network", "average"):
        assert all(torch.equal(one[part][key], two[part][key]) for key in one[part])
    assert whole.training is False
    with pytest.raises(ValueError, match="compression: expected 75, as in"):
        sain.train_sain(network_of_tests(name), pairs, held_out, tmp_path / "cut.pt", **{**how, "compression": 60})


def test_training_learns_and_the_best_is_kept(tmp_path):
    pairs = pairs_of_tests()
    held_out, real = held_out_of(pairs), codec("jpeg", 75)
    options = {**FAST, "iterations": 40, "every": 20, "decay": 0.5, "peak": 3e-3}
    start = sain.quality(network_of_tests(), *held_out, real)
    result = sain.train_sain(network_of_tests(), pairs, held_out, tmp_path / "run.pt", **options)
    with open(tmp_path / "run.csv") as file:
        curve = list(csv.DictReader(file))
    assert list(curve[0]) == ["iteration", "seconds", *sain.LOSSES, "psnr_y", "lr_psnr", "latent"]
    values = [float(row["psnr_y"]) for row in curve]
    assert start["latent"] == pytest.approx(1, abs=0.1) and float(curve[0]["latent"]) == pytest.approx(0.01, abs=0.005)
    assert values[-1] > start["psnr_y"] + 5 and values[-1] > values[0] and float(curve[-1]["lr_psnr"]) > 30
    assert sain.quality(result, *held_out, real)["psnr_y"] == pytest.approx(max(values), abs=1e-3)


def test_bfloat16_changes_little(tmp_path):
    pairs, found = pairs_of_tests(), {}
    for bfloat16 in (False, True):
        options = {**FAST, "iterations": 3, "bfloat16": bfloat16}
        result = sain.train_sain(network_of_tests(), pairs, held_out_of(pairs), tmp_path / f"{bfloat16}.pt", **options)
        assert {each.dtype for each in result.parameters()} == {torch.float32}
        with open(tmp_path / f"{bfloat16}.csv") as file:
            found[bfloat16] = [float(row["back"]) for row in csv.DictReader(file)]
    assert found[True] != found[False] and found[True] == pytest.approx(found[False], rel=0.02)


def test_training_on_a_device(tmp_path, monkeypatch):
    pairs = pairs_of_tests()
    with pretend.pretend(monkeypatch, "cuda") as there:
        network = network_of_tests().to(there)
        trained = sain.train_sain(network, pairs, held_out_of(pairs), tmp_path / "run.pt", **{**FAST, "iterations": 2})
        assert next(trained.parameters()).device == there


def test_what_cannot_work_is_refused_at_once(tmp_path):
    for how, message in (
        ({"crop": 48}, "crop: expected a multiple of 32, got 48"),
        ({"codec": "avif"}, "codec: expected one of"),
        ({"compression": 100}, "quality: expected a number from 1 to 99, got 100"),
    ):
        with pytest.raises(ValueError, match=message):
            sain.train_sain(network_of_tests(), [], (torch.ones(1),) * 2, tmp_path / "x.pt", **{**FAST, **how})


def test_a_loss_that_is_not_finite_stops(tmp_path):
    network, pairs = network_of_tests(), pairs_of_tests()
    network.gmm.gmm_para.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="loss is .*nan.* at iteration 0"):
        sain.train_sain(network, pairs, held_out_of(pairs), tmp_path / "bad.pt", **FAST)
