import csv
import math

import pytest
import torch
import torch.nn.functional as F

from helpers.downscalers import DOWNSCALERS
from helpers.images import from_uint8, to_uint8
from helpers.networks.compact_flow import CompactFlow
from helpers.runtime import seeded
from helpers.training import flow

FAST = {"mean_iterations": 3, "iterations": 6, "batch": 4, "crop": 16, "every": 3, "progress": False}


def photographs(count=3, side=48, scale=2):
    """Smooth random pictures and their block means, as 8-bit levels."""
    pairs = []
    for index in range(count):
        coarse = torch.rand(1, 3, 6, 6, generator=seeded("photograph", index))
        hr = F.interpolate(coarse, size=(side, side + 8), mode="bicubic").clamp(0, 1)
        pairs.append(tuple((255 * x[0]).round().byte() for x in (hr, F.avg_pool2d(hr, scale))))
    return pairs


def network_of_tests():
    torch.manual_seed(0)
    return CompactFlow(scale=2, width=8, blocks=1, head=6, steps=(2,), hidden=(8,))


def validation(pairs):
    return from_uint8(pairs[0][0][None, :, :16, :16]), from_uint8(pairs[0][1][None, :, :8, :8])


def test_patches_stay_aligned_under_flips_and_transposes():
    hr, lr = flow.sample_patches(photographs(), 64, 16, seeded("patches"))
    assert hr.shape == (64, 3, 16, 16) and lr.shape == (64, 3, 8, 8)
    assert (F.avg_pool2d(hr, 2) - lr).abs().max() < 1.5 / 255
    assert len({tuple(patch.flatten().tolist()) for patch in hr}) > 60


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path):
    pairs = photographs()
    whole = flow.train_flow(network_of_tests(), pairs, validation(pairs), tmp_path / "whole.pt", **FAST)
    for _ in range(3):  # no time at all: each call stops at its first iteration, with a checkpoint
        flow.train_flow(network_of_tests(), pairs, validation(pairs), tmp_path / "cut.pt", seconds=0, **FAST)
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["iteration"] == 3
    flow.train_flow(network_of_tests(), pairs, validation(pairs), tmp_path / "cut.pt", **FAST)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "cut.pt"))
    assert one["iteration"] == two["iteration"] == 9
    assert all(torch.equal(one["network"][k], two["network"][k]) for k in one["network"])
    assert all(torch.equal(one["average"][k], two["average"][k]) for k in one["average"])
    assert whole.training is False


def test_training_learns_and_the_best_is_kept(tmp_path):
    pairs = photographs()
    options = FAST | {"mean_iterations": 10, "iterations": 40, "every": 10}
    result = flow.train_flow(network_of_tests(), pairs, validation(pairs), tmp_path / "run.pt", **options)
    with open(tmp_path / "run.csv") as file:
        curve = [float(row["validation"]) for row in csv.DictReader(file)]
    assert math.isnan(curve[0]) and curve[-1] < curve[1] - 0.01
    assert flow.bits_per_dimension(result, *validation(pairs)) == pytest.approx(min(curve[1:]), abs=1e-5)


def test_a_loss_that_is_not_finite_stops(tmp_path):
    network = network_of_tests()
    network.encoder.first.weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="loss is nan"):
        flow.train_flow(network, photographs(), validation(photographs()), tmp_path / "bad.pt", **FAST)


def test_pairs_of_several_downscalers_share_the_grids_and_the_hr_tensor():
    names = ("nearest", "bicubic", "dpid")
    photograph = torch.rand(1, 3, 96, 80, generator=seeded("photograph"))
    pairs = flow.pairs_of(photograph, 4, seeded("grids"), names)
    alone = flow.pairs_of(photograph, 4, seeded("grids"))
    assert len(pairs) == 3 * len(alone) == 6
    for grid, (hr, lr) in enumerate(alone):
        own = pairs[3 * grid : 3 * grid + 3]
        assert all(pair[0] is own[0][0] for pair in own) and torch.equal(own[0][0], hr)
        assert torch.equal(own[1][1], lr) and not torch.equal(own[0][1], lr)


def test_every_sixteenth_photograph_is_held_out_by_each_downscaler_in_turn():
    names = ("bicubic", "box")
    reads = [lambda k=k: torch.full((1, 3, 64, 64), k / 255) for k in range(24)]
    pairs, held_out = flow.split(reads, 4, names)
    assert [hr.max().item() for hr, _ in held_out] == [7, 23] and len(pairs) == 22 * 2 * len(names)
    assert not {7, 23} & {hr.max().item() for hr, _ in pairs}
    photograph = torch.rand(1, 3, 64, 64, generator=seeded(0))
    _, mixed = flow.split(24 * [lambda: photograph], 4, names)
    for (hr, lr), name in zip(mixed, names, strict=True):
        assert torch.equal(hr[None], to_uint8(photograph))
        assert torch.equal(lr[None], to_uint8(DOWNSCALERS[name](photograph, 4)))
    hr, lr = flow.corners(mixed, 4, side=32)
    assert hr.shape == (2, 3, 32, 32) and lr.shape == (2, 3, 8, 8)
    assert torch.allclose(hr[0], photograph[0, :, 32:, 32:], atol=0.5 / 255)
    with pytest.raises(ValueError, match="at least 8"):
        flow.split(reads[:7], 4)
