"""Likelihood, trace and extremes of both networks against their own encode and decode."""

import math

import pytest
import torch

from helpers import runs, upscalers
from helpers.datasets import sources
from helpers.networks import srflow
from helpers.networks.compact_flow import CompactFlow
from helpers.networks.srflow import SRFlow
from helpers.runtime import seeded
from helpers.studies import probes


def compact() -> CompactFlow:
    torch.manual_seed(0)
    return shaken(CompactFlow(scale=4, width=8, blocks=1, head=8, steps=(2, 2), hidden=(8, 8)))


def official() -> SRFlow:
    torch.manual_seed(0)
    return shaken(SRFlow(scale=4, nf=4, gc=4, nb=2, taps=(0, 1), K=1, L=3, plain_steps=1, hidden=8))


def shaken(network):
    """Small random weights instead of the zeros that a flow starts with."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return network.eval()


@pytest.fixture(params=[compact, official], ids=["compact", "srflow"])
def network(request):
    return request.param()


@pytest.fixture
def images():
    hr = torch.rand(1, 3, 64, 64, generator=seeded(0))
    return hr, torch.nn.functional.avg_pool2d(hr, 4)


def test_bits_are_the_likelihood_by_hand(network, images):
    hr, lr = images
    latents, bits = probes.encode(network, hr, lr, seeded(1))
    width = getattr(network, "noise", None) or 1 / network.quant
    noisy = hr + (torch.rand(hr.shape, generator=seeded(1)) - 0.5) * width
    again, logdet = network.decode(lr, latents)
    assert (again - noisy).abs().max() < 1e-3
    if isinstance(network, CompactFlow):
        prior = sum(-0.5 * (z.square() + math.log(2 * math.pi)).sum() for z in latents)
    else:  # its log-determinant already holds the log-densities of the splits
        prior = -0.5 * (latents[-1].square() + math.log(2 * math.pi)).sum()
    expected = -(prior - logdet) / (hr.numel() * math.log(2)) - math.log2(width)
    assert bits.item() == pytest.approx(expected.item(), abs=1e-4)
    assert sum(z[0].numel() for z in latents) == hr.numel()


def test_noise_costs_bits_and_sizes_must_fit(network, images):
    hr, lr = images
    rough = (hr + 0.3 * torch.randn(hr.shape, generator=seeded(2))).clamp(0, 1)
    assert probes.encode(network, rough, lr, seeded(1)).bits > probes.encode(network, hr, lr, seeded(1)).bits - 1
    with pytest.raises(ValueError, match="expected hr 4 times as large as lr"):
        probes.encode(network, hr[..., :32], lr, seeded(1))


def test_trace_ends_in_the_decoded_image_and_leaves_the_network_as_it_was(network, images):
    _, lr = images
    generators = [seeded(0, q) for q in range(2)]
    latents = upscalers.draw_latents(network.latent_shapes(16, 16), [seeded(0, q) for q in range(2)], 0.7)
    sr = network.decode(lr.expand(2, -1, -1, -1), latents)[0]
    trace = probes.decode_trace(network, lr, generators, 0.7)
    last = trace.iloc[-1]
    assert last.level == 0 and last.largest == pytest.approx(sr.abs().max().item(), rel=1e-5)
    assert last.rms == pytest.approx(sr.square().mean().sqrt().item(), rel=1e-5)
    assert trace.rms[0] == pytest.approx(0.7, rel=0.1) and trace.level.is_monotonic_decreasing
    steps = len(list(probes._steps(network)))
    assert len(trace) == steps + 2 and trace.step.tolist() == list(range(steps + 2))
    assert all("decode" not in vars(module) for module in network.modules())


def test_a_failing_decode_also_leaves_the_network_as_it_was(network):
    with pytest.raises((ValueError, RuntimeError)):
        probes.decode_trace(network, torch.rand(1, 4, 16, 16), [seeded(0)])
    assert all("decode" not in vars(module) for module in network.modules())


def test_extremes_by_hand(network, images):
    _, lr = images
    table = probes.extremes(network, {"plain": lr, "dark": 0 * lr}, [0.0, 1.0], (0, "key"))
    assert table[["condition", "heat"]].to_numpy().tolist() == [["plain", 0], ["plain", 1], ["dark", 0], ["dark", 1]]
    latents = upscalers.draw_latents(network.latent_shapes(16, 16), [seeded(0, "key")], 1.0)
    sr = network.decode(lr, latents)[0]
    assert table.largest[1] == pytest.approx(sr.abs().max().item(), rel=1e-4) and table.finite.all()
    assert table.outside[1] == pytest.approx(((sr < -0.25) | (sr > 1.25)).float().mean().item(), abs=1e-6)
    assert table.heat.tolist() == [0.0, 1.0] * 2


def test_a_pressed_flow_is_measured_before_it_is_pressed(images):
    network, (_, lr) = compact(), images
    lr = 3 * lr - 1
    plain = probes.extremes(network, {"x": lr}, [1.0], (0,)).largest[0]
    network.margin = 0.25
    assert probes.extremes(network, {"x": lr}, [1.0], (0,)).largest[0] == plain > 1.25
    assert probes.traces(network, lr, [1.0], (0,)).largest.iloc[-1] > 1.25 and network.margin == 0.25
    latents = upscalers.draw_latents(network.latent_shapes(16, 16), [seeded(0)], 1.0)
    assert network.decode(lr, latents)[0].abs().max() <= 1.25


def test_strain_goes_through_images_conditions_flows_and_heats():
    names = sources.names("photographs", 2, size=32)
    of = runs.Experiment(
        dataset="photographs", images=names, downscalers=["bicubic"], scale=4, upscaler="embedded_flow", heat=1.0,
        distortion="mse", n_samples=1, seed=0, device="cpu", size=32,
    )  # fmt: skip
    table = probes.strain({"a": compact()}, of, names, [("nearest",), ("bicubic", "noise", 0.1)], [0.0, 1.0], 0)
    assert list(table.condition) == ["nearest", "nearest", "bicubic noise 0.1", "bicubic noise 0.1"] * 2
    assert set(table.photograph) == {name.rsplit("_", 2)[0] for name in names} and set(table.flow) == {"a"}


def test_a_round_trip_brings_the_image_back(network, images):
    error, left = probes.round_trip(network, *images)
    assert error < 1e-4 and left < 1e-4


def test_what_is_not_finite_is_counted_and_not_the_largest():
    network = compact()
    decode = network.decode

    def broken(lr, latents):
        sr, logdet = decode(lr, latents)
        sr[0, 0, 0, 0], sr[0, 0, 0, 1] = math.inf, math.nan
        return sr, logdet

    network.decode = broken
    line = probes.extremes(network, {"x": torch.rand(1, 3, 16, 16)}, [0.5], (0,)).iloc[0]
    assert not line.finite and math.isfinite(line.largest) and line.outside >= 2 / (3 * 64 * 64)


def test_likelihood_rows_are_resumed_and_equal_a_direct_call(tmp_path):
    images = sources.names("library", 1, size=64)
    experiment = runs.Experiment(
        dataset="library", images=images, downscalers=["bicubic"], scale=4, upscaler="embedded_flow", device="cpu",
        size=64, heat=0.5, n_samples=3, distortion=["mse", "1-ssim"],
    )  # fmt: skip
    rows = probes.likelihood(experiment, tmp_path)
    assert rows.distortion.tolist() == ["bits", "z2_1", "z2_2"] and set(rows.heat) == {1.0}
    hr, lr = runs.pair(experiment, images[0], "bicubic")
    network = probes.load("embedded_flow", 4)
    latents, bits = probes.encode(network, hr, lr, seeded(0, images[0], "dequantize"))
    values = rows.set_index("distortion").value
    assert values["bits"] == pytest.approx(bits.item()) and values["z2_2"] == pytest.approx(
        latents[1].square().mean().item()
    )
    before = (tmp_path / "local.csv").read_text()
    more = runs.Experiment(
        dataset="library", images=images, downscalers=["bicubic", "nearest"], scale=4, upscaler="embedded_flow",
        device="cpu", size=64,
    )  # fmt: skip
    assert len(probes.likelihood(more, tmp_path)) == 6
    after = (tmp_path / "local.csv").read_text()
    assert after.startswith(before) and len(after.splitlines()) == len(before.splitlines()) + 3
    assert probes.likelihood(experiment, tmp_path).value.tolist() == rows.value.tolist()
    assert (tmp_path / "local.csv").read_text() == after


def test_an_odd_lr_side_is_padded_for_srflow_and_cropped_for_nobody(network):
    """The condition is the LR image that a score sees, which `runs.pair` crops to s and not to 2 s."""
    hr = torch.rand(1, 3, 52, 44, generator=seeded(0))
    lr = torch.nn.functional.avg_pool2d(hr, 4)  # 13 x 11
    latents, bits = probes.encode(network, hr, lr, seeded(1))
    sides = (56, 48) if isinstance(network, SRFlow) else (52, 44)
    assert sum(z[0].numel() for z in latents) == 3 * sides[0] * sides[1] and bits.isfinite().all()
    if isinstance(network, SRFlow):
        lr, hr = srflow.pad_to_multiple(lr), srflow.pad_to_multiple(hr, 8)
        assert (hr[..., 52:, :] == hr[..., 47:51, :].flip(2)).all()  # the edge itself is not repeated
        assert bits.item() == probes.encode(network, hr, lr, seeded(1)).bits.item()
    assert probes.decode_trace(network, lr, [seeded(0)]).iloc[-1].level == 0
    assert probes.extremes(network, {"odd": lr[..., :11]}, [1.0], (0,)).finite.all()


def test_what_is_no_flow_is_refused():
    with pytest.raises(ValueError, match="expected a flow, and no cascade, got 'bicubic'"):
        probes.load("bicubic", 4)
    with pytest.raises(ValueError, match="embedded"):
        probes.load("embedded_flow", 3)
