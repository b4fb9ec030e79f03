"""HCD: the official search, stage by stage; a batch is its images; balls, targets, windows, restarts, errors."""

import zlib
from collections import Counter

import numpy as np
import pytest
import torch

from helpers.networks import invertible
from helpers.networks.invertible_layers import quantize_through
from helpers.rescalers import hcd, irn, registry
from helpers.runtime import seeded
from tests import pretend
from tests.pictures import noise as pixels
from tests.pictures import waves
from tests.rescaling import differ, fill, levels_differ, noise, read
from tests.test_rescalers_irn import embedded, small


def official_draws():
    """The numbers of the reference vectors, by stage and place in its sequence."""
    calls = Counter()

    def draw(stage, what, shape):
        if what == "z":
            calls[stage] += 1
            return noise(f"hcd_x4.{stage}.z.{calls[stage] - 1}", (1, *shape), 0.1)
        if what == "r":
            return torch.tensor([np.random.default_rng(zlib.crc32(f"hcd_x4.{stage}.r".encode())).random()])
        return noise(f"hcd_x4.{stage}.delta", (1, *shape), 1.0)

    return draw


def draws(*keys, heat=0.5):
    return hcd.drawing([seeded(key) for key in keys], heat)


def stage(draw):
    """Of a search by `descend` alone."""
    return lambda what, shape: draw("", what, shape)


def mse(one, two):
    return (one - two).square().mean((1, 2, 3))


@pytest.fixture(scope="module", name="network")
def network_fixture():
    return small("irn_x2", 0.5)


# ---- the official search


@pytest.mark.parametrize("steps", [1, 3])
def test_official_search(steps, shared):
    golden, network = read(shared, "hcd_irn_x4"), fill(invertible.build("irn_x4")).eval().requires_grad_(False)
    hr = golden["x"].float()
    how = {"hr_steps": steps, "lr_steps": steps, "lr_target": "perturbed"}
    found = hcd.search(network, hr, official_draws(), **how)
    assert differ(found.hr - hr, golden[f"hr_delta_{steps}"]) < 1e-5
    share, most = levels_differ(found.lr, golden[f"lr_u8_{steps}"])
    assert share <= 0.005 and most <= 1
    apart = (found.searched - golden[f"lr_{steps}"]).abs()
    assert (apart > 1e-4).double().mean() <= 0.005 and apart.max() < 1.1 / 255  # a flip of the level it starts from


# ---- what follows from the formulas


def test_the_search_improves_the_round_trip_within_its_balls(network):
    hr = waves(2, 24, 32)
    found = hcd.search(network, hr, draws(0, 1, heat=0.0))
    own = quantize_through(network.encode(found.hr)[0])
    upscale = irn.pair(network)[1]
    z = [seeded(0), seeded(1)]
    plain = irn.pair(network)[0](hr)
    assert (mse(upscale(found.lr, z), hr) < mse(upscale(plain, z), hr)).all()
    for moved, start in ((found.hr, hr), (found.searched, own)):
        assert (moved - start).flatten(1).norm(dim=1).max() < hcd.EPS + 1e-4
        assert moved.min() >= 0 and moved.max() <= 1
    assert torch.equal(found.lr, quantize_through(found.searched))
    torch.testing.assert_close(found.changed, (found.lr != own).flatten(1).float().mean(1))
    assert (found.changed > 0.05).all()


def test_one_step_by_hand():
    """A loss whose gradient is known: half the square of the distance to a target, whose slope is images - target."""
    images, target = torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.9)
    draw = hcd.drawing([seeded(3)])
    direction, radius = draw("", "delta", (3, 4, 4)), draw("", "r", ()).item()
    start = radius * 0.3 * direction / direction.norm()
    slope = images + start - target
    step = start - 0.0784 * slope / slope.norm()
    expected = step * min(1.0, 0.3 / (step.norm().item() + 1e-7))
    again = hcd.drawing([seeded(3)])
    found = hcd.descend(images, lambda x: 0.5 * (x - target).square().sum((1, 2, 3)), stage(again),
                        eps=0.3, alpha=0.0784, steps=1)  # fmt: skip
    torch.testing.assert_close(found - images, expected, rtol=0, atol=1e-6)


def test_the_ball_is_met_exactly_and_the_edges_of_the_range_too():
    images, target = torch.full((2, 3, 4, 4), 0.95), torch.ones(2, 3, 4, 4)
    target[1] = 0.0
    draw = hcd.drawing([seeded(0), seeded(1)])
    loss = lambda x: (x - target).square().sum((1, 2, 3))  # noqa: E731
    near = hcd.descend(images, loss, stage(draw), eps=0.3, alpha=0.1, steps=40)
    length = (near - images).flatten(1).norm(dim=1)
    assert length[1].item() == pytest.approx(0.3, abs=1e-4) and near.max() <= 1
    far = hcd.descend(images, loss, stage(draw), eps=9.0, alpha=0.5, steps=60)
    torch.testing.assert_close(far[0], target[0], rtol=0, atol=0.2)
    assert far.min() >= 0


def test_the_other_norm_bounds_each_entry():
    images, target = torch.full((1, 3, 4, 4), 0.5), torch.ones(1, 3, 4, 4)
    draw = hcd.drawing([seeded(0)])
    loss = lambda x: (x - target).square().sum((1, 2, 3))  # noqa: E731
    how = {"eps": 1 / 255, "alpha": 0.25 / 255, "norm": "linf"}
    start = hcd.descend(images, loss, stage(draw), **how, steps=0)
    assert 0 < differ(start, images) <= 1 / 255 and (start < 0.5).any() and (start > 0.5).any()
    found = hcd.descend(images, loss, stage(draw), **how, steps=20)
    torch.testing.assert_close(found, images + 1 / 255)


def test_of_several_starts_the_best_end_of_each_image_is_kept():
    images = torch.full((2, 3, 2, 2), 0.5)
    ends = iter([[3.0, 1.0], [2.0, 5.0], [4.0, 4.0]])
    starts = []

    def loss(x):
        starts.append(x)
        return torch.tensor(next(ends))

    draw = hcd.drawing([seeded(0), seeded(1)])
    found = hcd.descend(images, loss, stage(draw), steps=0, restarts=3)
    assert torch.equal(found[0], starts[1][0]) and torch.equal(found[1], starts[0][1])
    worse = hcd.descend(images, lambda x: torch.tensor([101.0, torch.nan]), stage(draw), steps=0)
    assert torch.equal(worse, images)


def test_the_second_stage_aims_at_one_image_or_the_other():
    network, hr = small("irn_x2", 0.2), waves(1, 24, 32)
    how = {"eps": 1.0, "alpha": 0.05}  # so that the two HR images lie well apart
    found = {target: hcd.search(network, hr, draws(0, heat=0.0), lr_target=target, **how) for target in hcd.TARGETS}
    assert torch.equal(found["original"].hr, found["perturbed"].hr)
    assert not torch.equal(found["original"].searched, found["perturbed"].searched)
    upscale, z = irn.pair(network)[1], seeded(0)
    ends = {target: upscale(each.searched, z) for target, each in found.items()}
    moved = found["original"].hr
    assert mse(ends["original"], hr) < mse(ends["perturbed"], hr)
    assert mse(ends["perturbed"], moved) < mse(ends["original"], moved)


def test_a_batch_is_its_images_with_norms_of_their_own(network):
    hr = torch.cat([waves(1, 24, 32), pixels(1, 24, 32), torch.full((1, 3, 24, 32), 0.3)])
    network = network.double()
    together = hcd.search(network, hr.double(), draws(0, 1, 2), hr_steps=4, lr_steps=4)
    for n in range(3):
        one = hcd.search(network, hr[n : n + 1].double(), draws(n), hr_steps=4, lr_steps=4)
        assert differ(together.searched[n : n + 1], one.searched) < 1e-9
        assert torch.equal(together.lr[n : n + 1], one.lr) and together.changed[n] == one.changed
    network.float()


def test_the_pair_gives_the_same_lr_image_in_any_batch_and_another_for_another_seed(network):
    hr = torch.cat([pixels(1, 16, 16), waves(1, 16, 16)])
    how = {"hr_steps": 2, "lr_steps": 2, "heat": 0.5}
    with torch.no_grad():  # as the measure calls it
        lr = hcd.pair(network, **how)[0](hr)
        assert levels_differ(hcd.pair(network, **how)[0](hr[1:]), (lr[1:] * 255).round())[0] <= 0.005
        other = hcd.pair(network, seed=1, **how)[0](hr)
    assert torch.equal(lr, (lr * 255).round() / 255) and not torch.equal(other, lr) and not lr.requires_grad
    plain = irn.pair(network, heat=0.5)
    upscale = hcd.pair(network, **how)[1]
    assert torch.equal(upscale(lr, [seeded(0), seeded(1)]), plain[1](lr, [seeded(0), seeded(1)]))


def test_windows_are_searched_one_by_one_and_the_rest_is_the_networks_own(network):
    hr, how = waves(1, 24, 36), {"hr_steps": 2, "lr_steps": 2}
    lr = hcd.pair(network, window=8, **how)[0](hr)
    plain = irn.pair(network)[0](hr)
    assert torch.equal(lr[..., 8:, :], plain[..., 8:, :]) and torch.equal(lr[..., 16:], plain[..., 16:])
    assert torch.equal(lr[..., :8, 8:16], hcd.pair(network, **how)[0](hr[..., :16, 16:32]))


@pytest.mark.parametrize("kind", pretend.DEVICES)
def test_the_search_on_a_device(kind, monkeypatch):
    network, hr = small("irn_x2", 0.5), waves(1, 16, 16)
    how = {"hr_steps": 2, "lr_steps": 2, "heat": 0.5}
    expected = hcd.pair(network, **how)[0](hr)
    with pretend.pretend(monkeypatch, kind) as there:
        downscale, _ = hcd.pair(network.to(there), **how)
        assert torch.equal(pretend.back(downscale(hr.to(there))), expected) and torch.equal(downscale(hr), expected)


# ---- by name, and errors


def test_hcd_by_name(tmp_path, monkeypatch, network):
    embedded(monkeypatch, tmp_path, irn_x2=network)
    hr = waves(1, 16, 16)
    downscale, _ = registry.build("hcd", scale=2, hr_steps=2, lr_steps=2, lr_target="perturbed")
    assert torch.equal(downscale(hr), hcd.pair(network, hr_steps=2, lr_steps=2, lr_target="perturbed")[0](hr))


def test_what_cannot_be_searched_is_refused(network):
    with pytest.raises(ValueError, match="lr_target: expected one of original, perturbed, got 'hr'"):
        hcd.pair(network, lr_target="hr")
    with pytest.raises(ValueError, match="lr_target: expected one of"):
        hcd.search(network, waves(1, 16, 16), draws(0), lr_target="hr")
    with pytest.raises(ValueError, match="norm 'l2' or 'linf' and at least one restart, got 'l1' and 1"):
        hcd.search(network, waves(1, 16, 16), draws(0), norm="l1")
    with pytest.raises(ValueError, match="got 'l2' and 0"):
        hcd.search(network, waves(1, 16, 16), draws(0), restarts=0)
    with pytest.raises(ValueError, match="hr: .*multiples of 2"):
        hcd.pair(network)[0](waves(1, 16, 17))
    with pytest.raises(ValueError, match=r"draw: expected numbers of shape \(2, 3, 16, 16\), got \(1, 3, 16, 16\)"):
        hcd.search(network, waves(2, 16, 16), draws(0))
