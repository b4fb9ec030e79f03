"""Chains and calibration, on draws whose calibration is known."""

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.images import quantize
from helpers.runtime import seeded
from helpers.studies import chains
from helpers.upscalers import residual_shift
from tests.pictures import waves
from tests.test_residual_shift import lr_image, network
from tests.test_studies_twins import LOSSES, rows


def sampler(spread):
    """Draws around a centre that the photograph is one draw of."""

    def upscale(lr, generators):
        noise = torch.stack([torch.randn(3, 32, 32, generator=g) for g in generators])
        return 0.5 + spread * noise

    return upscale


def photographs(n=6):
    return {f"p{k}": 0.5 + 0.05 * torch.randn(1, 3, 32, 32, generator=seeded("truth", k)) for k in range(n)}


def test_calibrated_draws_have_flat_ranks_and_others_do_not():
    samplers = {"right": sampler(0.05), "narrow": sampler(0.02), "wide": sampler(0.1)}
    table = chains.calibrate(samplers, photographs(), 4, 15)
    by = dict(list(table.groupby("sampler")))
    assert np.allclose(chains.histogram(by["right"]), 1 / 16, atol=0.006)
    narrow, wide = (chains.histogram(by[name]) for name in ("narrow", "wide"))
    assert narrow[0] > 2 / 16 < narrow[-1] and narrow[8] < 0.8 / 16 and wide[0] < 0.5 / 16 > wide[-1]
    for stated, found in chains.inside(by["right"]).items():
        assert found.value == pytest.approx(stated, abs=0.02) and found.n == 6
    assert all(found.value < stated for stated, found in chains.inside(by["narrow"]).items())
    ratios = {name: chains.dispersion(each) for name, each in by.items()}
    assert ratios["right"].value == pytest.approx(1, abs=0.03) and ratios["narrow"].value == pytest.approx(
        0.16, abs=0.03
    )
    assert ratios["wide"].value > 2.5 and ratios["right"].low < ratios["right"].value < ratios["right"].high


def test_draws_are_those_of_their_keys_whatever_the_batch():
    one = chains.calibrate({"a": sampler(0.05)}, photographs(1), 4, 9)
    again = chains.calibrate({"a": sampler(0.05)}, photographs(1), 4, 9)
    other = chains.calibrate({"a": sampler(0.05)}, photographs(1), 4, 9, seed=1)
    assert one.equals(again) and not one.equals(other)


def test_equal_values_are_spread_over_the_ranks_they_may_have():
    draws = torch.tensor([0.0, 0.5, 0.5]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    assert np.allclose(chains.ranks_of(draws, torch.full((1, 3, 2, 2), 0.5)), [0, 1 / 3, 1 / 3, 1 / 3])
    assert np.allclose(chains.ranks_of(draws, torch.full((1, 3, 2, 2), 0.7)), [0, 0, 0, 1])
    assert np.allclose(chains.ranks_of(draws, torch.full((1, 3, 2, 2), 0.2)), [0, 1, 0, 0])


def test_a_walk_begins_at_the_mean_image_and_ends_at_the_draw():
    net, lr = network(), lr_image()
    found = chains.walk(net, lr, seeded(0), 3)
    assert list(found) == ["mean image", *(f"step {t}, {kind}" for t in (3, 2, 1) for kind in ("noisy", "guess"))]
    draw = residual_shift.sample(net, lr, [seeded(0)], 3)
    assert torch.equal(found["step 1, guess"], draw.clamp(0, 1))
    with torch.no_grad():
        assert torch.equal(found["mean image"], net.encode(lr)[0].clamp(0, 1))
    assert (found["step 3, noisy"] - found["mean image"]).std() > (found["step 1, noisy"] - found["mean image"]).std()


def test_the_lr_image_is_the_bicubic_one_in_8_bits():
    seen = []

    def upscale(lr, generators):
        seen.append(lr)
        return torch.zeros(len(generators), 3, 32, 32)

    hr = quantize(waves(1, 32, 32))
    chains.calibrate({"a": upscale}, {"p": hr}, 4, 3)
    assert seen[0].shape == (1, 3, 8, 8) and torch.equal(seen[0], quantize(seen[0]))


def test_the_nearest_ratio_is_the_smallest_factor_away():
    ratios = {"half": (0.5, 0.4, 0.6, 6), "more": (1.9, 1.8, 2.0, 6), "third": (0.3, 0.2, 0.4, 6)}
    assert chains.nearest({name: chains.Quantity(*each) for name, each in ratios.items()}) == "more"


def test_orders_are_to_the_most_steps_to_the_flow_and_to_the_paper():
    turned = {f: 3 - value for f, value in LOSSES.items()}
    both = [pd.concat([rows("a", losses), rows("a", losses, distortion="mse")]) for losses in (turned, LOSSES)]
    table = chains.orders({2: both[0], 4: both[1]}, both[0], ["lpips", "mse"])
    said = ["2 steps to 4 steps", "2 steps to the flow", "2 steps to the paper", "4 steps to the flow"]
    assert table.what.tolist() == 2 * [*said, "4 steps to the paper"]
    assert table["D"].tolist() == 5 * ["lpips"] + 5 * ["mse"]
    assert table.value.tolist() == 2 * [-1, 1, -1, -1, 1]


def test_a_draw_is_worth_its_error_its_spread_and_what_it_keeps_of_its_lr_image():
    values = {"mse": 0.01, "mse_of_mean": 0.0075, "lr_mse": 0.0, "consistency_mse": 0.001}
    parts = [rows("a", {"bicubic": 1.0, "l0": 2.0}, d, heat=1.0, draws=2, noise=0).assign(value=value)
             for d, value in values.items()]  # fmt: skip
    table = chains.of_draws({"a": pd.concat(parts), "b": rows("b")})
    found = table.loc["a"].to_numpy()
    assert found == pytest.approx([20, 0.0707, 0.5, 30], rel=1e-3) and list(table.index) == ["a"]
