import pytest
import torch

from helpers import upscalers, weights
from helpers.downscalers import bicubic
from helpers.images import quantize
from helpers.networks import srflow
from helpers.networks.compact_flow import CompactFlow
from helpers.runtime import seeded
from helpers.training import export

EMBEDDED = [
    int(path.stem.removeprefix("compact_flow_x")) for path in weights.EMBEDDED.glob("compact_flow_x[0-9].safetensors")
]


def lr_image(height=8, width=6):
    coarse = torch.rand(1, 3, 3, 3, generator=seeded("lr", height, width))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


@pytest.mark.parametrize("scale", sorted(EMBEDDED))
def test_embedded_flow_draws_the_same_sample_for_the_same_key(scale):
    upscale = upscalers.UPSCALERS["embedded_flow"](scale=scale)
    lr = lr_image()
    three = upscale(lr, [seeded(0, "a", q) for q in range(3)])
    assert three.shape == (3, 3, 8 * scale, 6 * scale) and three.isfinite().all()
    assert torch.allclose(upscale(lr, seeded(0, "a", 1)), three[1:2], atol=1e-4)
    assert not torch.allclose(three[0], three[1], atol=1e-3)
    cold = upscalers.UPSCALERS["embedded_flow"](scale=scale, heat=0.0)
    assert torch.allclose(cold(lr, seeded(0)), cold(lr, seeded(1)), atol=1e-6)


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (9, 4)])
def test_embedded_flow_takes_any_lr_size(size):
    upscale = upscalers.UPSCALERS["embedded_flow"](scale=4)
    assert upscale(lr_image(*size), seeded(0)).shape == (1, 3, 4 * size[0], 4 * size[1])


def test_latents_are_scaled_by_the_heat():
    one, two = (upscalers.draw_latents([(4, 2, 2)], [seeded("z")], heat)[0] for heat in (1.0, 0.5))
    assert torch.equal(one * 0.5, two) and one.shape == (1, 4, 2, 2)


def test_bicubic_is_deterministic_and_takes_no_heat():
    upscale = upscalers.UPSCALERS["bicubic"](scale=4)
    sr = upscale(lr_image(), [seeded(0), seeded(1)])
    assert sr.shape == (2, 3, 32, 24) and torch.equal(sr[0], sr[1])
    with pytest.raises(ValueError, match="heat 0"):
        upscalers.UPSCALERS["bicubic"](scale=4, heat=1.0)


def test_unknown_scale_names_what_is_embedded():
    with pytest.raises(ValueError, match="compact_flow_x4"):
        upscalers.UPSCALERS["embedded_flow"](scale=16)


@pytest.mark.parametrize("bad", [torch.rand(2, 3, 4, 4), torch.rand(1, 1, 4, 4), torch.full((1, 3, 4, 4), 2.0)])
def test_bad_lr_is_refused(bad):
    with pytest.raises(ValueError, match="lr"):
        upscalers.UPSCALERS["bicubic"](scale=2)(bad, seeded(0))


def test_official_srflow_without_its_weights_says_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path))
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")
    with pytest.raises(ValueError, match="SRFlow_DF2K_4X.pth is missing"):
        upscalers.UPSCALERS["srflow_df2k_4x"](scale=4)
    with pytest.raises(ValueError, match="expected scale 4"):
        upscalers.UPSCALERS["srflow_df2k_4x"](scale=8)


def test_official_srflow_runs_from_a_file_put_by_hand(tmp_path, monkeypatch):
    """A small SRFlow stands in for the official network; odd LR sides are padded and cropped again."""
    torch.manual_seed(0)
    small = srflow.SRFlow(scale=4, nf=16, nb=2, taps=(0, 1), K=1, L=3)
    monkeypatch.setattr(srflow, "build", lambda name: srflow.SRFlow(scale=4, nf=16, nb=2, taps=(0, 1), K=1, L=3))
    monkeypatch.setattr(weights, "fetch", lambda name: tmp_path / "small.pth")
    torch.save({f"module.{k}": v for k, v in small.state_dict().items()}, tmp_path / "small.pth")
    upscale = upscalers.UPSCALERS["srflow_df2k_4x"](scale=4, heat=0.5)
    sr = upscale(lr_image(5, 7), [seeded(0), seeded(1)])
    assert sr.shape == (2, 3, 20, 28)
    assert upscalers.weights_hash("srflow_df2k_4x", 4) == weights.sha256_of(tmp_path / "small.pth")[:12]


def test_configuration_travels_in_the_checkpoint(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = CompactFlow(scale=2, width=8, blocks=1, head=6, steps=(3,), hidden=(12,), clamp=0.7, noise=1 / 32)
    export(network.eval(), tmp_path / "compact_flow_x2.safetensors", photographs=3)
    monkeypatch.setattr(weights, "embedded", lambda name: tmp_path / f"{name}.safetensors")
    loaded = upscalers.load_compact_flow(2)
    assert loaded.config == network.config
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))


def test_samples_agree_with_their_lr_image():
    upscale = upscalers.UPSCALERS["embedded_flow"](scale=4)
    hr = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=seeded("smooth")), size=64, mode="bicubic")
    lr = bicubic(hr.clamp(0, 1), 4)
    again = bicubic(upscale(lr, seeded(0)).clamp(0, 1), 4)
    assert (again - lr).square().mean() < 10**-3.8  # 38 dB


# ---- cascades


def test_a_cascade_is_its_stages_with_8_bits_between():
    lr, keys = lr_image(4, 6), [seeded(0, "a", q) for q in range(3)]
    sr = upscalers.build("embedded_flow_x4+embedded_flow_x2", scale=8, heat="1.0+0.5")(lr, keys)
    assert sr.shape == (3, 3, 32, 48)
    for q in range(3):
        generator = seeded(0, "a", q)
        middle = upscalers.embedded_flow(scale=4, heat=1.0)(lr, generator)
        last = upscalers.embedded_flow(scale=2, heat=0.5)(quantize(middle), generator)
        assert torch.allclose(sr[q : q + 1], last, atol=1e-4)


def test_a_cascade_passes_a_lost_draw_on_as_nan(monkeypatch):
    def loses_the_second(*, scale, heat, device):
        def upscale(lr, generators):
            sr = lr.expand(len(generators), -1, -1, -1).repeat_interleave(scale, 2).repeat_interleave(scale, 3).clone()
            sr[1, 0, 0, 0] = torch.inf
            return sr

        return upscale

    monkeypatch.setitem(upscalers.UPSCALERS, "loses", loses_the_second)
    sr = upscalers.build("loses_x2+bicubic_x2", scale=4, heat=0)(lr_image(4, 4), [seeded(q) for q in range(3)])
    assert sr.isfinite().flatten(1).all(1).tolist() == [True, False, True] and sr[1].isnan().all()


@pytest.mark.parametrize(
    "name, scale, heat, stages",
    [
        ("embedded_flow", 4, 1.0, [("embedded_flow", 4, 1.0)]),
        ("embedded_flow_x8+embedded_flow_x4", 32, "1.0+0.1", [("embedded_flow", 8, 1.0), ("embedded_flow", 4, 0.1)]),
        ("srflow_celeba_8x+srflow_df2k_4x", 32, 0.9, [("srflow_celeba_8x", 8, 0.9), ("srflow_df2k_4x", 4, 0.9)]),
        ("bicubic_x2+embedded_flow_mixed_x4", 8, "0+1", [("bicubic", 2, 0.0), ("embedded_flow_mixed", 4, 1.0)]),
    ],
)
def test_what_a_name_means(name, scale, heat, stages):
    assert upscalers.stages(name, scale, heat) == stages


@pytest.mark.parametrize(
    "name, scale, heat, message",
    [
        ("srgan", 4, 1.0, "expected one of embedded_flow, .*got 'srgan'"),
        ("embedded_flow+embedded_flow_x4", 32, 1.0, "got 'embedded_flow.embedded_flow_x4'"),
        ("embedded_flow_x8+embedded_flow_x4", 16, 1.0, "expected scale 32, got 16"),
        ("embedded_flow_x8+embedded_flow_x4", 32, "1+1+1", "expected a number, or 2 joined"),
        ("embedded_flow", 4, "warm", "expected a number"),
        ("srflow_df2k_4x", 8, 1.0, "expected scale 4, got 8"),
    ],
)
def test_names_that_mean_nothing_stop(name, scale, heat, message):
    with pytest.raises(ValueError, match=message):
        upscalers.stages(name, scale, heat)


def test_weights_of_a_cascade_are_those_of_its_stages():
    one, two = (upscalers.weights_hash("embedded_flow", scale) for scale in (8, 4))
    assert upscalers.weights_hash("embedded_flow_x8+embedded_flow_x4", 32) == f"{one}+{two}"
