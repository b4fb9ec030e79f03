"""Invertible networks: the official function (names, shapes, numbers), inverse, Jacobian, batches, devices, errors."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from helpers.networks import invertible
from helpers.networks.invertible_layers import DenseNet, LearnedDownsampling, quantize_through, to_rgb, to_ycbcr
from helpers.networks.irn import IRN
from helpers.runtime import seeded
from tests import pretend
from tests.pictures import noise as pixels
from tests.pictures import waves
from tests.rescaling import differ, fill, levels_differ, noise, read

OURS = ("irn_x2", "irn_x3", "irn_x4", "irn_x8", "tirn_x2", "tirn_x4")
SMALL = {name: {"blocks": (1,) * len(invertible.NETWORKS[name].keywords["blocks"]), "growth": 4} for name in OURS}
SIZES = {  # tensors and parameters of the official state dicts, Haar constants included
    "irn_x2": (241, 1668000), "irn_x3": (361, 3139029), "irn_x4": (482, 4355376), "irn_x8": (723, 11120256),
    "tirn_x2": (241, 1571109), "tirn_x4": (562, 4673617),
}  # fmt: skip


def small(name, gain=0.5, dtype=torch.float64):
    return fill(invertible.build(name, **SMALL[name]), gain).to(dtype)


def again(network, hr):
    lr, channels = network.encode(hr)
    return network.decode(torch.cat([lr, network.latent(channels)], 1))


# ---- the official function


@pytest.mark.parametrize("name", OURS)
def test_tensors_and_parameters_of_the_official_files(name):
    state = invertible.build(name).state_dict()
    assert (len(state), sum(value.numel() for value in state.values())) == SIZES[name]


def test_names_of_the_files_that_have_no_reference():
    three, eight = (list(invertible.build(name).state_dict()) for name in ("irn_x3", "irn_x8"))
    assert three[:2] == ["operations.0.conv_weights", "operations.1.F.conv1.weight"]
    assert three[-1] == "operations.12.H.conv5.bias"
    haar = [name for name in eight if "haar" in name]
    assert haar == [f"operations.{k}.haar_weights" for k in (0, 9, 18)] and eight[-1] == "operations.26.H.conv5.bias"


@pytest.mark.parametrize("name", ["irn_x2", "irn_x4", "tirn_x2", "tirn_x4"])
def test_official_names_and_shapes(name, shared):
    listed = json.loads((shared / f"golden/rescaling/keys_{name}.json").read_text())
    assert [(key, list(value.shape)) for key, value in invertible.build(name).state_dict().items()] == list(
        listed.items()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["irn_x4", "tirn_x2", "tirn_x4"])
@torch.no_grad()
def test_official_vectors(name, dtype, shared):
    network, golden = fill(invertible.build(name)).to(dtype), read(shared, name)
    lr_side, hr_side = (1e-5, 1e-4) if dtype == torch.float32 else (1e-6, 1e-6)  # stored as float32
    hr = golden["x"].to(dtype)
    lr, channels = network.encode(hr)
    assert lr.dtype == channels.dtype == dtype and differ(channels, golden["y"]) < lr_side
    assert differ(lr, golden["lr"] if "lr" in golden else golden["y"][:, :3]) < lr_side
    share, most = levels_differ(quantize_through(lr), golden["lr_u8"])
    assert share <= (0.005 if dtype == torch.float32 else 0) and most <= 1
    levels = golden["lr_u8"].to(dtype) / 255
    z = noise(f"{name}.z", network.latent(channels).shape, 0.1).to(dtype)
    assert differ(network.decode(torch.cat([levels, z], 1)), golden["hr_z"]) < hr_side
    assert differ(network.decode(torch.cat([levels, 0 * z], 1)), golden["hr_z0"]) < hr_side
    if "jacobian" in golden:
        assert network.logdet(hr).mean().item() == pytest.approx(golden["jacobian"].item(), rel=1e-4)
        assert differ(network.operations[0].encode(hr)[0], golden["haar1"]) < lr_side
        assert differ(again(network, hr), hr) < (1e-5 if dtype == torch.float32 else 1e-13)


# ---- what follows from the formulas


@pytest.mark.parametrize("name", OURS)
def test_a_fresh_network_gives_block_means(name):
    network, hr = invertible.build(name, **SMALL[name]), waves(2, 24, 48)
    lr, channels = network.encode(hr)
    torch.testing.assert_close(lr, F.avg_pool2d(hr, network.scale), rtol=0, atol=1e-5)
    torch.testing.assert_close(again(network, hr), hr, rtol=0, atol=1e-5)
    assert channels.shape == (2, 3 * network.scale**2, 24 // network.scale, 48 // network.scale)
    [latent] = network.latent_shapes(24 // network.scale, 48 // network.scale)
    assert network.latent(channels).shape[1:] == latent


def test_haar_bands_follow_each_other():
    hr = torch.tensor([[1.0, 2.0], [4.0, 8.0]]).view(1, 1, 2, 2) * torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1)
    bands = invertible.build("irn_x2", blocks=(0,)).encode(hr)[1].flatten()
    a, b, c, d = 1, 2, 4, 8
    four = [(a + b + c + d) / 4, (a - b + c - d) / 4, (a + b - c - d) / 4, (a - b - c + d) / 4]
    assert bands.tolist() == [value * channel for value in four for channel in (1, 10, 100)]


def test_the_learned_downsampling_is_a_matrix_on_blocks():
    layer = LearnedDownsampling(3)
    layer.conv_weights.data.copy_(torch.randn(9, 9, generator=seeded("matrix")))
    hr = torch.rand(2, 3, 6, 9, generator=seeded("hr"))
    y, _ = layer.encode(hr)
    block = hr[1, 2, 3:6, 6:9].flatten()  # along rows
    torch.testing.assert_close(y[1, 2::3, 1, 2], layer.conv_weights.detach() @ block)
    torch.testing.assert_close(layer.decode(y)[0], hr, rtol=1e-4, atol=1e-4)
    assert layer.conv_weights.requires_grad


@pytest.mark.parametrize("name", OURS)
def test_decode_inverts_encode(name):
    network = small(name, 0.2 if name == "tirn_x4" else 0.5)  # so that nothing is clipped
    hr = 0.5 + 0.2 * (waves(2, 24, 48).double() - 0.5)
    assert differ(again(network, hr), hr) < (1e-5 if name.startswith("tirn") else 1e-12)  # constants of six decimals
    assert network.logdet(hr).isfinite().all()


@pytest.mark.parametrize("name", OURS)
def test_the_log_determinant_is_that_of_the_jacobian(name):
    network, side = small(name), {2: 4, 3: 6, 4: 8, 8: 8}[invertible.NETWORKS[name].keywords["scale"]]
    if name == "tirn_x4":
        fill(network, 0.2)
    hr = 0.5 + 0.05 * torch.randn(1, 3, side, side, generator=seeded("hr"), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: network.encode(x)[1], hr, vectorize=True)
    expected = torch.linalg.slogdet(jacobian.reshape(hr.numel(), hr.numel()))[1].item()
    assert network.logdet(hr).item() == pytest.approx(expected, abs=1e-8)
    fresh = invertible.build(name, **SMALL[name]).double()
    assert abs(network.logdet(hr).item() - fresh.logdet(hr).item()) > 0.01  # the couplings have their share


def test_log_determinants_of_both_directions_cancel():
    network, hr = small("irn_x4"), waves(3, 16, 24).double()
    channels, there = network.transform(hr)
    back = network.inverse(channels)[2]
    assert there.shape == (3,) and differ(there, -back) < 1e-9 and differ(there[:1], there[1:2]) > 1e-6


def test_clipped_colours_have_no_log_determinant():
    network, hr = small("tirn_x4", 2.0), torch.stack([torch.ones(3, 8, 8), 0.5 * torch.ones(3, 8, 8)]).double()
    assert network.logdet(hr).tolist()[0] == -math.inf
    lr, channels = network.encode(hr)
    assert lr.min() >= 0 and lr.max() <= 1 and differ(again(network, hr), hr) > 0.01


def test_colours_there_and_back():
    rgb = torch.rand(2, 3, 5, 7, generator=seeded("rgb"), dtype=torch.float64)
    assert differ(to_rgb(to_ycbcr(rgb)), rgb) < 3e-6
    red = to_ycbcr(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(red, torch.tensor([0.299, 0.331264, 1.0]))


@pytest.mark.parametrize("name", OURS)
def test_a_batch_is_its_images(name):
    network, hr = small(name), pixels(3, 24, 24, dtype=torch.float64)
    lr, channels = network.encode(hr)
    logdet = network.logdet(hr)
    for n in range(3):
        one = hr[n : n + 1]
        assert differ(network.encode(one)[1], channels[n : n + 1]) < 1e-12
        assert logdet[n].isinf() or differ(network.logdet(one), logdet[n : n + 1]) < 1e-9
        together = torch.cat([lr, network.latent(channels)], 1)
        assert differ(network.decode(together[n : n + 1]), network.decode(together)[n : n + 1]) < 1e-12


def test_a_block_shrinks_the_latent_by_no_more_than_the_clamp():
    """Why a small network takes its own noise badly: one unit of z is still exp(-clamp n) after n blocks."""
    for clamp in (1.0, 3.0):
        network = invertible.build("irn_x2", blocks=(2,), growth=4, clamp=clamp).double()
        for block in network.operations[1:]:
            block.H.conv5.bias.data.fill_(1e3)
        lr = torch.full((1, 3, 4, 4), 0.5).double()
        z = torch.ones(1, 9, 4, 4).double()
        bands = network.operations[0].encode(network.decode(torch.cat([lr, z], 1)))[0][:, 3:]
        torch.testing.assert_close(bands, torch.full_like(bands, math.exp(-2 * clamp)))


def test_levels_are_rounded_half_to_even_and_pass_the_gradient():
    values = torch.tensor([-0.2, 0.5 / 255, 1.5 / 255, 0.3, 1.7], dtype=torch.float64).requires_grad_()
    levels = quantize_through(values)
    assert (levels * 255).round().tolist() == [0, 0, 2, 76, 255] and torch.equal(levels, (levels * 255).round() / 255)
    (levels * torch.arange(1.0, 6)).sum().backward()
    assert values.grad.tolist() == [1, 2, 3, 4, 5]  # outside [0, 1] too


def test_a_fresh_subnet_returns_zero_and_its_convolutions_are_small():
    network = DenseNet(9, 3, 32)
    assert not network(torch.randn(1, 9, 8, 8)).any()
    for number, width in enumerate((9, 41, 73, 105), 1):
        conv = getattr(network, f"conv{number}")
        expected = 0.1 * math.sqrt(2 / (9 * (width + 32)))
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.1) and not conv.bias.any()


# ---- the downscaling latent


def test_one_image_has_an_lr_image_for_each_downscaling_latent():
    network = fill(invertible.build("irn_x4", blocks=(1, 2), growth=4, extra=2)).double()
    hr = waves(2, 16, 24).double()
    v = torch.randn(2, 2, 4, 6, generator=seeded("v"), dtype=torch.float64)
    lr, channels = network.encode(hr, v)
    assert channels.shape == (2, 50, 4, 6) and torch.equal(network.encode(hr, v)[0], lr)
    assert differ(network.encode(hr)[0], lr) > 1e-3  # None is zeros
    assert torch.equal(network.encode(hr)[0], network.encode(hr, 0 * v)[0])
    back, found, logdet = network.inverse(channels)
    assert differ(back, hr) < 1e-12 and differ(found, v) < 1e-12
    assert differ(network.logdet(hr, v), -logdet) < 1e-9
    assert network.latent_shapes(4, 6) == [(47, 4, 6)]


# ---- devices


@pytest.mark.parametrize("kind", pretend.DEVICES)
@pytest.mark.parametrize("name", OURS)
def test_networks_give_the_numbers_of_the_cpu_on_a_device(name, kind, monkeypatch):
    network, hr = small(name, dtype=torch.float32), waves(1, 24, 24)
    with torch.no_grad():
        expected = network.encode(hr)[1], again(network, hr), network.logdet(hr)
        with pretend.pretend(monkeypatch, kind) as there:
            network.to(there)
            found = network.encode(hr.to(there))[1], again(network, hr.to(there)), network.logdet(hr.to(there))
            assert all(torch.equal(pretend.back(one), two) for one, two in zip(found, expected, strict=True))


# ---- errors


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected one of irn_x2, irn_x3, .*, got 'irn_x5'"):
        invertible.build("irn_x5")
    for scale, blocks in ((4, (8,)), (1, (8,)), (3, (8, 8)), (6, (1, 1))):
        with pytest.raises(ValueError, match=f"at scale {scale} "):
            IRN(scale=scale, blocks=blocks)
    with pytest.raises(ValueError, match="at least one in the last level to take v"):
        IRN(scale=2, blocks=(0,), extra=1)
    with pytest.raises(ValueError, match=r"2 with one number of blocks or 4 with two, got 4, \(3,\)"):
        invertible.build("tirn_x4", blocks=(3,))


@pytest.mark.parametrize("name", ["irn_x4", "tirn_x4"])
def test_shapes_that_do_not_fit_are_refused(name):
    network = invertible.build(name, **SMALL[name])
    for shape in ((1, 3, 10, 8), (1, 3, 8, 7), (1, 1, 8, 8), (3, 8, 8), (0, 3, 8, 8)):
        with pytest.raises(ValueError, match="hr: expected shape .* multiples of 4, got"):
            network.encode(torch.rand(shape))
    for shape in ((1, 3, 4, 4), (1, 47, 4, 4), (48, 4, 4)):
        with pytest.raises(ValueError, match=r"channels: expected shape \(N, 48, h, w\), got"):
            network.decode(torch.rand(shape))


def test_a_downscaling_latent_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"v: expected shape \(1, 0, 4, 4\), got \(1, 1, 4, 4\)"):
        invertible.build("irn_x4", **SMALL["irn_x4"]).encode(torch.rand(1, 3, 16, 16), torch.rand(1, 1, 4, 4))
