"""Training of HyperThumbnail: the official losses; two optimizers; it resumes to the same weights and learns."""

import csv

import pytest
import torch
import torch.nn.functional as F

from helpers.downscalers import DOWNSCALERS
from helpers.images import from_uint8, to_uint8
from helpers.networks import hyperthumbnail as networks
from helpers.runtime import seeded
from helpers.training import hyperthumbnail as training
from helpers.training.flow import sample_patches
from tests import pretend
from tests.rescaling import read
from tests.test_networks_hyperthumbnail import fill, small

FAST = {"iterations": 6, "batch": 2, "crop": 64, "every": 3, "progress": False}
SMALL = {"width": 8, "depth": 1, "features": 4, "blocks": 1, "hidden": 8}


def network_of_tests(**config):
    torch.manual_seed(0)
    return networks.build(**{**SMALL, **config})


def pairs_of_tests():
    pairs = []
    for number in range(2):
        coarse = torch.rand(1, 3, 12, 12, generator=seeded("photograph", number))
        hr = F.interpolate(coarse, size=(96, 96), mode="bicubic").clamp(0, 1)
        pairs.append((to_uint8(hr)[0], to_uint8(DOWNSCALERS["matlab_bicubic"](hr, 4))[0]))
    return pairs


def validation(pairs):
    return from_uint8(pairs[0][0][None, :, :64, :64]), from_uint8(pairs[0][1][None, :, :16, :16])


# ---- the official numbers


@torch.no_grad()
def test_official_losses(shared):
    golden, network = read(shared, "hyperthumbnail_x4"), fill(networks.build())
    hr = golden["x"].float()
    found = training.losses(network(hr), hr, golden["lr_ref"])
    expected = [golden[name].item() for name in ("l_pix", "l_pix_degrade_lr", "l_bpp")]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_weights_of_the_losses():
    found = {"out": torch.zeros(2, 3, 8, 8), "rgb": torch.ones(2, 3, 2, 2), "bpp": torch.tensor(3.0)}
    parts = training.losses(found, torch.full((2, 3, 8, 8), 0.25), torch.full((2, 3, 2, 2), 0.5), fit=2.0, rate=0.1)
    assert parts.tolist() == pytest.approx([0.25, 2 * 0.25, 0.3])


def test_weights_and_quantiles_have_optimizers_of_their_own():
    network, hr = small(), torch.rand(1, 3, 64, 64, generator=seeded("hr"))
    main, auxiliary = chosen = training.optimizers(network, 2e-4)
    names = {id(each): name for name, each in network.named_parameters()}
    quantiles = [names[id(each)] for each in auxiliary.param_groups[0]["params"]]
    assert quantiles == [f"entropy_bottleneck.bottlenecks.{k}.quantiles" for k in (0, 1)]
    rest = {names[id(each)] for each in main.param_groups[0]["params"]}
    assert rest == set(names.values()) - set(quantiles) - {"losslessJPEG.Y_TABLE", "losslessJPEG.C_TABLE"}
    assert (auxiliary.defaults["lr"], main.defaults["lr"], main.defaults["betas"]) == (2e-3, 2e-4, (0.9, 0.99))
    before = {name: each.detach().clone() for name, each in network.named_parameters()}
    parts = training.losses(network(hr, seeded("noise")), hr, F.avg_pool2d(hr, 4))
    norm = training.update(chosen, network, parts, clip=1e-3)
    assert norm > 1e-3 and not network.losslessJPEG.Y_TABLE.requires_grad
    gradients = [each.grad for each in main.param_groups[0]["params"]]
    assert torch.stack([each.norm() for each in gradients]).norm().item() == pytest.approx(1e-3, rel=1e-2)
    assert network.entropy_bottleneck.bottlenecks[0].quantiles.grad.abs().max() > 0.1  # not clipped along
    after = dict(network.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert set(quantiles) <= moved and "encoder.conv_first.weight" in moved


# ---- the run


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path):
    pairs = pairs_of_tests()
    held_out = validation(pairs)
    whole = training.train_hyperthumbnail(network_of_tests(), pairs, held_out, tmp_path / "whole.pt", **FAST)
    for _ in range(2):
        training.train_hyperthumbnail(network_of_tests(), pairs, held_out, tmp_path / "cut.pt", seconds=0, **FAST)
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["iteration"] == 2
    training.train_hyperthumbnail(network_of_tests(), pairs, held_out, tmp_path / "cut.pt", **FAST)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "cut.pt"))
    assert one["iteration"] == two["iteration"] == 6
    for part in ("network", "average"):
        assert all(torch.equal(one[part][key], two[part][key]) for key in one[part])
    assert whole.training is False
    with pytest.raises(ValueError, match="rate: expected 0.02, as in"):
        training.train_hyperthumbnail(network_of_tests(), pairs, held_out, tmp_path / "cut.pt", rate=0.1, **FAST)


def test_training_learns_and_the_best_is_kept(tmp_path):
    pairs = pairs_of_tests()
    held_out = validation(pairs)
    start = training.quality(network_of_tests(), *held_out)
    options = {**FAST, "iterations": 60, "every": 20, "decay": 0.5, "peak": 1e-2}
    result = training.train_hyperthumbnail(network_of_tests(), pairs, held_out, tmp_path / "run.pt", **options)
    with open(tmp_path / "run.csv") as file:
        curve = list(csv.DictReader(file))
    assert list(curve[0]) == ["iteration", "seconds", *training.LOSSES, "psnr_y", "lr_psnr", "bpp", "loss"]
    values = [float(row["loss"]) for row in curve]
    assert values[-1] < 0.8 * start["loss"] and float(curve[-1]["psnr_y"]) > start["psnr_y"] + 2
    found = training.quality(result, *held_out)
    assert found["loss"] == pytest.approx(min(values), rel=1e-3) and found["bpp"] > 0


def test_bfloat16_changes_little(tmp_path):
    pairs, found = pairs_of_tests(), {}
    for bfloat16 in (False, True):
        options = {**FAST, "iterations": 3, "bfloat16": bfloat16}
        file = tmp_path / f"{bfloat16}.pt"
        result = training.train_hyperthumbnail(network_of_tests(), pairs, validation(pairs), file, **options)
        assert {each.dtype for each in result.parameters()} == {torch.float32}
        with open(file.with_suffix(".csv")) as curve:
            found[bfloat16] = [float(row["rate"]) for row in csv.DictReader(curve)]
    assert found[True] != found[False] and found[True] == pytest.approx(found[False], rel=0.02)


def test_a_larger_price_buys_fewer_bits():
    pairs, bits = pairs_of_tests(), []
    for rate in (1e-3, 1.0):
        network, generator = network_of_tests(), seeded("run")
        chosen = training.optimizers(network, 1e-2)
        for _ in range(30):
            hr, reference = sample_patches(pairs, 2, 64, generator)
            training.update(chosen, network, training.losses(network(hr, generator), hr, reference, rate=rate))
        bits.append(training.quality(network, *validation(pairs))["bpp"])
    assert bits[1] < 0.6 * bits[0]


def test_training_on_a_device(tmp_path, monkeypatch):
    pairs = pairs_of_tests()
    with pretend.pretend(monkeypatch, "cuda") as there:
        network, options = network_of_tests().to(there), {**FAST, "iterations": 2}
        trained = training.train_hyperthumbnail(network, pairs, validation(pairs), tmp_path / "run.pt", **options)
        assert next(trained.parameters()).device == there


def test_what_cannot_work_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="crop: expected a multiple of 64, got 96"):
        training.train_hyperthumbnail(
            network_of_tests(), [], (torch.ones(1),) * 2, tmp_path / "x.pt", **{**FAST, "crop": 96}
        )
    network, pairs = network_of_tests(), pairs_of_tests()
    network.encoder.conv_first.bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="loss is .*nan.* at iteration 0"):
        training.train_hyperthumbnail(network, pairs, validation(pairs), tmp_path / "bad.pt", **FAST)
