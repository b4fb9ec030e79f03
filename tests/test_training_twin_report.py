"""Numbers of the twins' cards, on images and networks whose answer is known."""

import math

import pandas as pd
import pytest
import torch

from helpers import distortions
from helpers.downscalers import bicubic
from helpers.images import quantize
from helpers.networks.residual_shift import GAIN, VARIANCE, ResidualShift
from helpers.stats import findings
from helpers.training import recipes, twin_report
from helpers.upscalers import flows
from tests.pictures import waves
from tests.test_residual_shift import SMALL

FEW = {"n_samples": 3, "n_others": 1, "distortion": "mse", "steps": (4,), "heats": (1.0,)}


def untrained():
    torch.manual_seed(0)
    return ResidualShift(**SMALL).eval()


def test_detail_is_the_power_above_the_nyquist_frequency_of_the_lr_image():
    x = torch.arange(64) / 64 * 2 * math.pi
    for cycles, kept in ((4, 0), (8, 0), (12, 1), (24, 1)):  # of 64 pixels; 64 / (2 s) = 8
        image = (0.5 + 0.2 * torch.sin(cycles * x)).expand(1, 3, 64, 64)
        for turned in (image, image.transpose(2, 3)):
            found = twin_report.detail(turned.repeat(2, 1, 1, 1), 4)
            assert found.shape == (2,) and torch.allclose(found, torch.tensor(kept * 0.02), atol=1e-6)


def test_a_line_has_the_numbers_of_an_untrained_twin():
    hr, net = quantize(waves(1, 64, 64)), untrained()
    flow = {1.0: flows.bicubic(scale=4)}
    row, images = twin_report.measure(net, "a", hr, flow, **FEW)
    assert row["spread"] == pytest.approx(VARIANCE**0.5 / GAIN, rel=0.05)  # its draws are Gaussian around the mean
    assert row["mse_flow 1"] == row["mse_bicubic"] and row["speckle_flow"] == row["speckle"] == 0
    assert row["mse_mean"] < row["mse_draw"] and row["psnr_mean"] > row["psnr_average"] > row["psnr_draw"]
    assert row["lr_psnr_mean"] > row["lr_psnr"] and row["damaged_mse"] > row["mse_mean"]
    lr = quantize(bicubic(hr, 4))
    with torch.no_grad():
        mean = quantize(net.encoder(lr)[1])
    assert row["psnr_mean"] == pytest.approx(distortions.psnr(mean, hr).item(), abs=1e-3)
    assert set(images) == {"hr", "mean", "draw", "flow", "bicubic"} and torch.equal(images["mean"], mean)
    assert row["detail_mean"] < 1 < row["detail_draw"]
    again = twin_report.measure(net, "a", hr, flow, **FEW)[0]
    other = twin_report.measure(net, "b", hr, flow, **FEW)[0]
    assert again == row and other["mse_draw"] != row["mse_draw"] and other["mse_mean"] == row["mse_mean"]


def test_speckle_is_counted_where_a_draw_leaves_the_mean_of_all():
    draws = torch.full((4, 3, 8, 8), 0.5)
    draws[0, 1, 2, :4] = 1.0
    assert twin_report._speckle(draws) == pytest.approx(4 / (4 * 64))


def test_tables_and_seconds_read_the_file(tmp_path):
    path = tmp_path / "residual_shift_x4.safetensors"
    recipes.export(untrained(), path)
    tables = twin_report.Tables(**FEW)
    found = tables("residual_shift_x4", [(name, quantize(waves(1, 64, 128))) for name in "ab"], path)
    assert list(found.index) == ["a", "b"] and found.notna().all(axis=None)
    assert tables.kinds["hr"][0].shape == (2, 3, 64, 64)
    patch = quantize(waves(1, 64, 128))[..., 64:]
    assert torch.equal(tables.kinds["hr"][0][1:], patch)
    spent = twin_report.seconds(path, side=32, draws=2, times=1)
    assert set(spent) == {"4 steps", "8 steps", "15 steps", "flow", "mean"} and min(spent.values()) >= 0


def card(spread=0.02, lr_psnr=50.0, detail=1.0, gap=-0.1, speckle=0.0):
    """Tables of a card whose photographs differ a little."""
    rows = pd.DataFrame({"spread": spread, "lr_psnr": lr_psnr, "detail_draw": detail, "detail_flow": 0.5}, range(8))
    for steps, heat in zip(twin_report.STEPS, twin_report.HEATS, strict=True):
        rows[f"lpips_steps {steps}"] = 0.5 + gap + (steps != 8)
        rows[f"lpips_flow {heat:g}"] = 0.5 + (heat != 0.9)
    faces = pd.DataFrame({"speckle": 0.01 + speckle, "speckle_flow": 0.01}, range(8))
    noise = 1e-3 * torch.randn(8, 1, generator=torch.Generator().manual_seed(0)).numpy()
    return {"photographs": rows * (1 + noise), "faces": faces + noise * [[1, 2]]}


def test_aims_are_decided_by_the_photographs_of_a_card():
    yes, no, unknown = findings.SUPPORTED, findings.CONTRADICTED, findings.NOT_SHOWN
    found = twin_report.aims(card(speckle=-0.01))
    assert {what: facts["verdict"] for what, facts in found.items()} == {
        "draws": [yes, yes], "detail": yes, "lpips": yes, "speckle": yes,
    }  # fmt: skip
    assert (found["lpips"]["heat"], found["lpips"]["steps"], found["lpips"]["n"]) == (0.9, 8, 8)
    assert found["lpips"]["gap"].value == pytest.approx(-0.1, abs=0.01)
    other = twin_report.aims(card(spread=0.005, detail=0.5, gap=0.1))
    assert other["draws"]["verdict"] == [no, yes] and other["detail"]["verdict"] == other["lpips"]["verdict"] == no
    assert other["speckle"]["verdict"] == unknown
    assert "speckle" not in twin_report.aims({"photographs": card()["photographs"]})


def test_blindness_gains_under_damage_and_costs_without():
    plain = pd.DataFrame({"damaged_psnr": [20.0, 21, 22], "psnr_mean": [30.0, 31, 32]})
    blind = plain + pd.DataFrame({"damaged_psnr": [2.0, 2.1, 1.9], "psnr_mean": [0.5, 0.4, 0.6]})
    facts = twin_report.blindness(plain, blind)
    assert facts["verdict"] == [findings.SUPPORTED, findings.CONTRADICTED] and facts["n"] == 3
    assert facts["gain"].value == pytest.approx(2) and facts["price"].value == pytest.approx(0.5)
