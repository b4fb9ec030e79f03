"""Flows and the control: one draw a generator, any LR image, files that are checked, samples that agree with it."""

from functools import partial

import pytest
import torch

from helpers import distortions, files, weights
from helpers.datasets import load, names
from helpers.downscalers import DOWNSCALERS
from helpers.downscalers.filters import bicubic
from helpers.measure import score_image
from helpers.networks import srflow
from helpers.networks.compact_flow import CompactFlow
from helpers.runtime import seeded
from helpers.training.loop import export
from helpers.upscalers import flows, registry


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """What a test caches stays out of the reader's cache."""
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))


def lr_image(height=8, width=6):
    coarse = torch.rand(1, 3, 3, 3, generator=seeded("lr", height, width))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


@pytest.mark.parametrize("scale", registry.UPSCALERS["embedded_flow"].scales)
def test_embedded_flow_draws_the_same_sample_for_the_same_key(scale):
    upscale = registry.UPSCALERS["embedded_flow"](scale=scale)
    lr = lr_image()
    three = upscale(lr, [seeded(0, "a", q) for q in range(3)])
    assert three.shape == (3, 3, 8 * scale, 6 * scale) and three.isfinite().all()
    assert torch.allclose(upscale(lr, seeded(0, "a", 1)), three[1:2], atol=1e-4)
    assert not torch.allclose(three[0], three[1], atol=1e-3)
    cold = registry.UPSCALERS["embedded_flow"](scale=scale, heat=0.0)
    assert torch.allclose(cold(lr, seeded(0)), cold(lr, seeded(1)), atol=1e-6)


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (9, 4)])
def test_embedded_flow_takes_any_lr_size(size):
    upscale = registry.UPSCALERS["embedded_flow"](scale=4)
    assert upscale(lr_image(*size), seeded(0)).shape == (1, 3, 4 * size[0], 4 * size[1])


def test_latents_are_scaled_by_the_heat():
    one, two = (flows.draw_latents([(4, 2, 2)], [seeded("z")], heat)[0] for heat in (1.0, 0.5))
    assert torch.equal(one * 0.5, two) and one.shape == (1, 4, 2, 2)


def test_bicubic_is_deterministic_and_takes_no_heat():
    upscale = registry.UPSCALERS["bicubic"](scale=4)
    sr = upscale(lr_image(), [seeded(0), seeded(1)])
    assert sr.shape == (2, 3, 32, 24) and torch.equal(sr[0], sr[1])
    with pytest.raises(ValueError, match="heat 0"):
        registry.UPSCALERS["bicubic"](scale=4, heat=1.0)


def test_another_scale_than_the_embedded_ones_stops():
    with pytest.raises(ValueError, match="expected scale 2 or 4 or 8, got 16"):
        registry.UPSCALERS["embedded_flow"](scale=16)
    with pytest.raises(ValueError, match="compact_flow_x4"):  # names what is there
        flows.load_compact_flow(16)


@pytest.mark.parametrize("bad", [torch.rand(2, 3, 4, 4), torch.rand(1, 1, 4, 4), torch.full((1, 3, 4, 4), 2.0)])
def test_bad_lr_is_refused(bad):
    with pytest.raises(ValueError, match="lr"):
        registry.UPSCALERS["bicubic"](scale=2)(bad, seeded(0))


def test_official_srflow_without_its_weights_says_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path))
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")
    with pytest.raises(ValueError, match="SRFlow_DF2K_4X.pth is missing"):
        registry.UPSCALERS["srflow_df2k_4x"](scale=4)
    with pytest.raises(ValueError, match="expected scale 4"):
        registry.UPSCALERS["srflow_df2k_4x"](scale=8)


def test_official_srflow_runs_from_a_file_put_by_hand(tmp_path, monkeypatch):
    """A small SRFlow stands in for the official network; odd LR sides are padded and cropped again."""
    torch.manual_seed(0)
    small = srflow.SRFlow(scale=4, nf=16, nb=2, taps=(0, 1), K=1, L=3)
    monkeypatch.setattr(srflow, "build", lambda name: srflow.SRFlow(scale=4, nf=16, nb=2, taps=(0, 1), K=1, L=3))
    monkeypatch.setattr(weights, "fetch", lambda name: tmp_path / "small.pth")
    torch.save({f"module.{k}": v for k, v in small.state_dict().items()}, tmp_path / "small.pth")
    upscale = registry.UPSCALERS["srflow_df2k_4x"](scale=4, heat=0.5)
    sr = upscale(lr_image(5, 7), [seeded(0), seeded(1)])
    assert sr.shape == (2, 3, 20, 28)
    assert registry.weights_hash("srflow_df2k_4x", 4) == files.sha256_of(tmp_path / "small.pth")[:12]


def test_configuration_travels_in_the_checkpoint(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = CompactFlow(scale=2, width=8, blocks=1, head=6, steps=(3,), hidden=(12,), clamp=0.7, noise=1 / 32)
    export(network.eval().state_dict(), tmp_path / "compact_flow_x2.safetensors", **network.config, photographs=3)
    monkeypatch.setattr(weights, "embedded", lambda name: tmp_path / f"{name}.safetensors")
    loaded = flows.load_compact_flow(2)
    assert loaded.config == network.config
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))


def test_samples_agree_with_their_lr_image():
    upscale = registry.UPSCALERS["embedded_flow"](scale=4)
    hr = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=seeded("smooth")), size=64, mode="bicubic")
    lr = bicubic(hr.clamp(0, 1), 4)
    again = bicubic(upscale(lr, seeded(0)).clamp(0, 1), 4)
    assert (again - lr).square().mean() < 10**-3.8  # 38 dB


@pytest.mark.parametrize("scale", [4, 8])
def test_bf16_changes_no_order_of_downscalers_and_no_distortion_by_more_than_two_thousandths(scale):
    """Crops of 128 pixels; D of smaller ones averages less (0.0021 at 64). At x8 an order of gaps above 0.002."""
    upscale = {name: registry.UPSCALERS["embedded_flow"](scale=scale, precision=name) for name in ("float32", "bf16")}
    seen = []

    def distort(sr, hr):
        seen.append((sr.dtype, torch.is_autocast_enabled("cpu")))
        return distortions.DISTORTIONS["lpips_embedded"](sr, hr)

    for image in names("library", 2, size=128):
        hr = load("library", image, size=128)
        rows = {
            precision: torch.stack(
                [
                    score_image(hr, partial(f, scale=scale), f_us, distort, n_samples=2, key=(0, image))
                    for f in (DOWNSCALERS["bicubic"], DOWNSCALERS["nearest"], DOWNSCALERS["box"])
                ]
            )
            for precision, f_us in upscale.items()
        }
        gap = (rows["bf16"] - rows["float32"]).abs()
        assert 0 < gap.max() <= 2e-3  # zero: nothing was computed in bf16
        plain, fast = (rows[name].mean(1) for name in ("float32", "bf16"))
        apart = (plain[:, None] - plain).abs() > (2e-3 if scale == 8 else 0)
        assert torch.equal(((plain[:, None] - plain) > 0)[apart], ((fast[:, None] - fast) > 0)[apart])
    assert set(seen) == {(torch.float32, False)}


def test_a_precision_is_a_part_of_the_name_and_refused_where_there_is_none():
    at = registry.at_precision
    assert at("embedded_flow") == at("embedded_flow", "float32") == ("embedded_flow", "float32")
    assert (
        at("embedded_flow", "bf16") == at("embedded_flow(precision=bf16)") == ("embedded_flow(precision=bf16)", "bf16")
    )
    cascade = "embedded_flow_x8+embedded_flow_x4"
    assert at(cascade, "bf16")[0] == "embedded_flow_x8(precision=bf16)+embedded_flow_x4(precision=bf16)"
    assert at("embedded_flow_x8(precision=bf16)+embedded_flow_x4")[1] == ""
    for name in ("srflow_df2k_4x", "embedded_pulse", "bicubic"):
        with pytest.raises(ValueError, match=f"expected float32 for {name}, got 'bf16'; of embedded_flow, "):
            at(name, "bf16")
        assert at(name, "float32") == (name, "float32")
    with pytest.raises(ValueError, match="expected that of the upscaler, .*, or '', got 'float32'"):
        at("embedded_flow(precision=bf16)", "float32")
    with pytest.raises(ValueError, match="expected one of float32, bf16, got 'half'"):
        at("embedded_flow", "half")


@pytest.mark.parametrize("name", ["embedded_flow", "bicubic", "embedded_flow_x2+embedded_flow_x2"])
def test_what_are_no_generators_says_what_is_expected(name):
    upscale, lr = registry.build(name, scale=4), lr_image(4, 4)
    for wrong in (None, 5, [], [0, 1], ["cpu"], torch.Generator, {seeded(0)}):
        with pytest.raises(ValueError, match="generators: expected one torch.Generator for each draw, .*seeded"):
            upscale(lr, wrong)
    assert torch.equal(upscale(lr, seeded(0)), upscale(lr, (seeded(0),)))


@pytest.mark.parametrize("name", ["embedded_flow", "bicubic"])
def test_images_in_double_precision_are_upscaled_in_float32(name):
    upscale, hr = registry.build(name, scale=4), lr_image(32, 32)
    lr = lr_image(8, 8)
    assert torch.equal(upscale(lr.double(), seeded(0)), upscale(lr, seeded(0)))
    box = partial(DOWNSCALERS["box"], scale=4)
    values = [score_image(each, box, upscale, distortions.mse, n_samples=1) for each in (hr, hr.double())]
    assert torch.allclose(*values, rtol=1e-4)


def test_an_option_that_an_upscaler_has_not_says_which_it_has():
    with pytest.raises(ValueError, match="upscaler: expected options among precision, got 'temperature'"):
        registry.UPSCALERS["embedded_flow"](scale=4, temperature=0.8)
    with pytest.raises(ValueError, match="upscaler: expected options among none, got 'a'"):
        registry.UPSCALERS["bicubic"](scale=4, a=-0.5)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_tiles_are_the_whole_image(scale):
    network, (height, width) = flows.load_compact_flow(scale), (60, 12)
    lr = lr_image(height, width)
    latents = flows.draw_latents(network.latent_shapes(height, width), [seeded(0, q) for q in range(2)], 1.0)
    with torch.no_grad():
        whole = network.sample(lr, latents)
        tiles = flows.in_tiles(network, lr, latents, tile=20 * scale)
        narrow = flows.in_tiles(network, lr, latents, tile=20 * scale, margin=2)
    assert tiles.shape == whole.shape and (tiles - whole).abs().max() < 2e-6
    assert (narrow - whole).abs().max() > 1e-3  # what a smaller margin would cost


def test_a_large_image_is_drawn_in_tiles(monkeypatch):
    lr, key = lr_image(24, 30), [seeded(0, q) for q in range(2)]
    whole = registry.UPSCALERS["embedded_flow"](scale=4)(lr, key)
    calls, plain = [], flows.in_tiles
    monkeypatch.setattr(flows, "TILE", 80)
    monkeypatch.setattr(flows, "in_tiles", lambda *how: calls.append(1) or plain(*how, tile=80))
    key = [seeded(0, q) for q in range(2)]
    upscale = registry.UPSCALERS["embedded_flow"](scale=4)
    assert (upscale(lr, key) - whole).abs().max() < 2e-6 and len(calls) == 1
    key = [seeded(0, q) for q in range(2)]
    assert (upscale(lr.expand(2, -1, -1, -1), key) - whole).abs().max() < 2e-6 and len(calls) == 2
