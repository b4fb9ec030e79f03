"""Numbers of the cards, on networks whose answer is known."""

import math

import pytest
import torch

from helpers import generators
from helpers.distortions import psnr
from helpers.downscalers import DOWNSCALERS, bicubic
from helpers.networks import stylegan
from helpers.networks.compact_flow import CompactFlow
from helpers.runtime import seeded
from helpers.training import cards


def untrained_flow() -> CompactFlow:
    torch.manual_seed(0)
    return CompactFlow(scale=2, width=8, blocks=1, head=6, steps=(2,), hidden=(8,)).eval()


def test_quality_of_an_untrained_flow():
    network, hr = untrained_flow(), torch.rand(1, 3, 32, 32, generator=seeded("hr"))
    row, same = cards.quality(network, [("a", hr), ("a", hr)], metrics=["psnr", "mse"], n_samples=3)
    assert row == same
    assert list(row) == ["image", "bits_per_dimension", "psnr_0", "mse_0", "psnr_heat", "mse_heat",
                         "psnr_bicubic", "mse_bicubic", "lr_psnr"]  # fmt: skip
    assert row["mse_0"] < row["mse_heat"]  # draws scatter
    plain = torch.nn.functional.interpolate(bicubic(hr, 2), scale_factor=2, mode="bicubic").clamp(0, 1)
    assert abs(row["psnr_bicubic"] - psnr(plain, hr).item()) < 0.02  # one is rounded to 8 bits


def test_stability_has_a_row_for_every_condition_and_sees_what_is_not_finite():
    network, images = untrained_flow(), [("a", torch.rand(1, 3, 32, 32, generator=seeded("hr")))]
    rows = cards.stability(network, images, degradations=[("noise", 0.1)])
    assert [row["condition"] for row in rows] == [*DOWNSCALERS, "noise 0.1"]
    assert all(row["non_finite"] == 0 and row["largest"] > 0.5 for row in rows)
    network.encoder.first.weight.data.fill_(torch.nan)
    assert all(row["non_finite"] == 1 for row in cards.stability(network, images))


def test_a_perfect_search_is_told_as_such():
    torch.manual_seed(0)
    synthesis = stylegan.Synthesis(16, 16, 8, 8)
    network = generators.style_generator(synthesis, torch.zeros(8), torch.ones(8))
    flat = [("grey", torch.full((1, 3, 16, 16), 0.5))]
    table = cards.inversion(network, flat, 4, n_samples=2, steps=3, eps=10.0)
    row = table.iloc[0]
    assert row.converged == 1 and row.psnr_bicubic > 40 > row.psnr
    assert row.lr_psnr == pytest.approx(-10 * math.log10(row.residual), abs=3)
