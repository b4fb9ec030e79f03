import math

import numpy as np
import pytest
import torch
from torch import nn

from helpers import distortions
from helpers.downscalers import bicubic
from helpers.networks.compact_flow import EDGE, CompactFlow, into_range
from helpers.runtime import seeded
from helpers.training import energy, flow
from tests.test_training_flow import FAST, photographs, validation


def network(**config):
    torch.manual_seed(0)
    return CompactFlow(**{"scale": 2, "width": 8, "blocks": 1, "head": 6, "steps": (2,), "hidden": (8,)} | config)


def features():
    torch.manual_seed(1)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2)).requires_grad_(False)
    return energy.unit_features(trunk, (1, 2), torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25))


def test_samples_are_pressed_into_the_margin_and_images_stay():
    x = torch.linspace(-59.5, 60.5, 4001, dtype=torch.float64)
    y = into_range(x, 0.25)
    inside = (x >= -EDGE) & (x <= 1 + EDGE)
    assert torch.equal(y[inside], x[inside]) and y.min() >= -0.25 and y.max() <= 1.25
    assert (y.diff() >= 0).all() and torch.allclose(
        y + y.flip(0), torch.ones_like(y)
    )  # monotone, the same at both ends
    near = torch.linspace(-0.3, 1.3, 1601, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(into_range(near, 0.25).sum(), near)
    assert slope.min() > 0.2 and (slope.diff().abs() < 0.01).all()  # smooth: no jump where the pressing begins
    room, y = 0.25 - EDGE, into_range(near, 0.25).detach()
    back = (y - 0.5).abs() - 0.5 - EDGE
    back = torch.where(back > 0, 0.5 + torch.sign(y - 0.5) * (0.5 + EDGE - room * torch.log1p(-back / room)), y)
    assert torch.allclose(back, near, atol=1e-12)  # invertible


def test_a_margin_leaves_the_density_of_images_and_bounds_every_sample():
    plain, bounded = network(), network(margin=0.25)
    bounded.load_state_dict(plain.state_dict())
    lr, hr = torch.rand(2, 3, 8, 8, generator=seeded("lr")), torch.rand(2, 3, 16, 16, generator=seeded("hr"))
    latents, bits, _ = bounded.encode(hr, lr)
    assert torch.equal(bits, plain.encode(hr, lr)[1])
    assert torch.allclose(bounded.decode(lr, latents)[0], hr, atol=1e-5)
    wild = bounded.sample(lr, [100 * z for z in latents])
    assert plain.sample(lr, [100 * z for z in latents]).abs().max() > 2 and -0.25 <= wild.min() < wild.max() <= 1.25


def test_a_larger_encoder_starts_as_the_same_function():
    small = network()
    nn.init.normal_(small.encoder.blocks[0][2].weight, std=0.1)
    large = energy.grow(small, blocks=3)
    lr = torch.rand(1, 3, 8, 8, generator=seeded("grow"))
    assert len(large.encoder.blocks) == 3 and large.config == small.config | {"blocks": 3}
    latents = [torch.randn(2, *shape, generator=seeded("z")) for shape in small.latent_shapes(8, 8)]
    assert torch.equal(large.sample(lr, latents), small.sample(lr, latents))


def test_the_energy_score_is_least_for_the_true_spread():
    """Of normal draws around 0 with truths around 0 of spread 1: repulsion 0.5 finds spread 1, none finds 0."""
    true, one, two = (torch.randn(256, 12, 8, 8, generator=seeded("energy", k)) for k in range(3))

    def score(spread, repulsion):
        a, b = [spread * one], [spread * two]
        value = energy.distance(a, [true]) + energy.distance(b, [true])
        return (0.5 * value - repulsion * energy.distance(a, b)).mean().item()

    spreads = (0.0, 0.5, 0.9, 1.0, 1.1, 1.5, 2.0)
    assert min(spreads, key=lambda each: score(each, 0.5)) == 1.0
    assert min(spreads, key=lambda each: score(each, 0.0)) == 0.0


def test_lr_consistency_and_error_at_heat_0_are_what_they_say():
    """A network that returns the bicubic upscaling whatever its latents: two draws and the middle agree."""

    class Fixed(CompactFlow):
        def draw(self, features, mean, latents, wanted=True):
            return mean, None

    fixed = Fixed(scale=2, width=8, blocks=1, head=6, steps=(2,), hidden=(8,))
    hr = torch.rand(2, 3, 16, 16, generator=seeded("fixed"))
    lr = bicubic(hr, 2)
    loss = energy.Energy(features(), bicubic, middle=1.0, consistency=1.0, repulsion=0.5)
    found = loss.validate(fixed, hr, lr)
    mean = fixed.encoder(lr)[1]
    assert found["middle"] == pytest.approx((mean - hr).square().mean().sqrt().item(), rel=1e-5)
    error = (bicubic(mean.clamp(0, 1), 2) - lr)[..., 2:-2, 2:-2].square().mean().sqrt().item()
    assert found["consistency"] == pytest.approx(error, rel=1e-4)
    seen, true = features()(mean), features()(hr)
    # 1e-3 is sqrt(1e-6), the distance of equal draws
    expected = energy.distance(seen, true) + energy.distance([mean], [hr]) - 1e-3 * (0.5 + 0.5 * 2)
    assert found["score"] == pytest.approx(expected.mean().item(), abs=1e-4)


def test_the_second_stage_trains_resumes_and_keeps_the_best_score(tmp_path):
    pairs, options = photographs(), FAST | {"mean_iterations": 0, "energy": energy.Energy(features(), bicubic)}
    start = network(margin=0.25)
    flow.train_flow(start, pairs, validation(pairs), tmp_path / "whole.pt", **options)
    for _ in range(3):
        flow.train_flow(network(margin=0.25), pairs, validation(pairs), tmp_path / "cut.pt", seconds=0, **options)
    flow.train_flow(network(margin=0.25), pairs, validation(pairs), tmp_path / "cut.pt", **options)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "cut.pt"))
    assert one["iteration"] == two["iteration"] == 6
    assert all(torch.equal(one["average"][k], two["average"][k]) for k in one["average"])
    lines = (tmp_path / "whole.csv").read_text().splitlines()
    assert lines[0] == "iteration,seconds,train,validation,score,middle,consistency"
    assert all(math.isfinite(float(x)) for line in lines[1:] for x in line.split(","))


def test_features_of_squeezenet_are_those_of_lpips(shared, monkeypatch):
    """With the published heads they give the LPIPS-Squeeze that torchmetrics' documentation prints: 0.1008."""
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data" / "weights"))
    one, two = torch.rand(2, 10, 3, 100, 100, generator=torch.Generator().manual_seed(123))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # LPIPS's, on [-1, 1]:
    assert torch.equal(energy.IMAGENET.flatten(1), torch.stack((mean, deviation)))  # shift -.03, .458 as on [0, 1]
    see = energy.unit_features(distortions.squeezenet(), energy.TAPS, *energy.IMAGENET)
    heads = np.load(shared / "data" / "weights" / "lpips_heads_v0.1.npz")
    value = sum(
        (torch.from_numpy(heads[f"squeeze.lin{k}.weight"]) * (a - b).square()).sum(1).mean((1, 2))
        for k, (a, b) in enumerate(zip(see(one), see(two), strict=True))
    )
    assert value.mean().item() == pytest.approx(0.1008, abs=5e-5)
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(sum(f.sum() for f in see(images)), images)
    assert gradient.abs().max() > 0
