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


class Scattered(torch.nn.Module):
    """Draws 0.5 plus its latents, one for each HR value."""

    scale = 2

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def latent_shapes(self, height, width):
        return [(3, 2 * height, 2 * width)]

    def sample(self, lr, latents):
        return 0.5 + latents[0]


def test_draws_are_those_of_the_rows_and_speckle_is_what_lies_far_from_their_mean():
    hr = torch.rand(1, 3, 16, 16, generator=seeded("hr"))
    row = cards.draws(Scattered(), "a", hr, heats=(0.0, 0.1, 1.0), n_samples=2, n_speckle=3, distortion="mse")
    sr = torch.stack([torch.randn(3, 16, 16, generator=seeded(0, "a", q)) for q in range(3)])
    sr = ((0.5 + sr).clamp(0, 1) * 255).round() / 255
    assert row["mse_1"] == pytest.approx((sr[:2] - hr).square().mean().item(), rel=1e-5)
    assert row["mse_0"] == pytest.approx((hr - 128 / 255).square().mean().item(), rel=1e-5)
    assert row["mse_0"] < row["mse_0.1"] < row["mse_1"]
    assert row["psnr_0"] == pytest.approx(-10 * math.log10(row["mse_0"]), abs=1e-3)
    for key, each in (("speckle", sr), ("speckle_hr", hr)):
        assert row[key] == ((each - sr.mean(0)).abs() > 0.25).any(1).double().mean().item()
    assert row["lr_psnr"] == pytest.approx(psnr(bicubic(sr[:2], 2), bicubic(hr, 2)).mean().item(), abs=1e-4)
    with pytest.raises(ValueError, match="n_samples, 5, or more, got 3"):
        cards.draws(Scattered(), "a", hr, n_speckle=3)


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
