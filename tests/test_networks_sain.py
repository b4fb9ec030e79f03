"""SAIN: the official function (names, shapes, numbers, latent), inverse, Jacobian, both LR images, batches, errors."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

from helpers.networks import invertible
from helpers.networks.invertible_layers import quantize_through
from helpers.networks.sain import SAIN, Mixture
from helpers.runtime import seeded
from tests import pretend
from tests.pictures import waves
from tests.rescaling import differ, fill, levels_differ, noise, read

NAMES = ("sain_x2", "sain_x4")
SIZES = {"sain_x2": (292, 2015485), "sain_x4": (583, 6494003)}  # tensors, parameters with Haar constants


def small(name, dtype=torch.float64, gain=0.5):
    return fill(invertible.build(name, e_blocks=2, v_blocks=1, growth=4), gain).to(dtype)


# ---- the official function


@pytest.mark.parametrize("name", NAMES)
def test_tensors_and_parameters_of_the_official_files(name):
    state = invertible.build(name).state_dict()
    assert (len(state), sum(value.numel() for value in state.values())) == SIZES[name]


@pytest.mark.parametrize("name", NAMES)
def test_official_names_and_shapes(name, shared):
    listed = json.loads((shared / f"golden/rescaling/keys_{name}.json").read_text())
    found = {key: list(value.shape) for key, value in invertible.build(name).state_dict().items()}
    assert list(found.items()) == list(listed.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_official_vectors(dtype, shared):
    network, golden = fill(invertible.build("sain_x2")).to(dtype), read(shared, "sain_x2")
    lr_side, hr_side = (1e-5, 1e-4) if dtype == torch.float32 else (1e-6, 1e-6)  # stored as float32
    hr = golden["x"].to(dtype)
    lr, channels = network.encode(hr)
    assert lr.dtype == channels.dtype == dtype
    assert differ(lr, golden["lr"]) < lr_side and differ(channels, golden["y"]) < lr_side
    share, most = levels_differ(quantize_through(lr), golden["lr_u8"])
    assert share <= (0.005 if dtype == torch.float32 else 0) and most <= 1
    assert network.logdet(hr).mean().item() == pytest.approx(golden["jacobian"].item(), rel=1e-4)
    z = noise("sain_x2.z", network.latent(channels).shape, 0.1).to(dtype)
    after_codec = torch.cat([golden["lr_jpeg75_u8"].to(dtype) / 255, z], 1)
    again, lr_again, _ = network.inverse(after_codec)
    assert differ(again, golden["hr_z"]) < hr_side and differ(lr_again, golden["lr_recon"]) < lr_side
    assert torch.equal(network.decode(after_codec), again)


def test_official_latent(shared):
    golden, mixture = read(shared, "sain_x2"), fill(invertible.build("sain_x2")).gmm
    assert torch.equal(mixture.gmm_para, golden["gmm_para"])
    assert differ(mixture.sample(golden["gmm_gumbel"], golden["gmm_eps"]), golden["gmm_sample"]) < 1e-6


# ---- what follows from the formulas


@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_network_gives_block_means(name):
    network, hr = invertible.build(name, e_blocks=1, v_blocks=1, growth=4), waves(2, 24, 48)
    lr, channels = network.encode(hr)
    torch.testing.assert_close(lr, F.avg_pool2d(hr, network.scale), rtol=0, atol=1e-5)
    torch.testing.assert_close(channels[:, :3], lr, rtol=0, atol=1e-5)
    [latent] = network.latent_shapes(24 // network.scale, 48 // network.scale)
    assert network.latent(channels).shape[1:] == latent


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_inverse_undoes_transform_and_finds_the_lr_image_again(name):
    network, hr = small(name), waves(2, 24, 48).double()
    lr, channels, logdet = network.transform(hr)
    again, lr_again, back = network.inverse(channels)
    assert differ(again, hr) < 1e-12 and differ(lr_again, lr) < 1e-12
    torch.testing.assert_close(back, -logdet)
    assert differ(lr, channels[:, :3]) > 0.01  # one for viewers, one as a codec leaves it
    _, lr_other, _ = network.inverse(torch.cat([channels[:, :3] + 0.1, channels[:, 3:]], 1))
    assert differ(lr_other, lr) > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_the_log_determinant_is_that_of_the_jacobian(name):
    network, side = small(name), {"sain_x2": 4, "sain_x4": 8}[name]
    hr = 0.5 + 0.05 * torch.randn(1, 3, side, side, generator=seeded("hr"), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: network.encode(x)[1], hr, vectorize=True)
    expected = torch.linalg.slogdet(jacobian.reshape(hr.numel(), hr.numel()))[1].item()
    assert network.logdet(hr).item() == pytest.approx(expected, abs=1e-8)


def test_the_lr_image_is_that_of_the_last_e_block():
    network, hr = small("sain_x2"), waves(1, 16, 24).double()
    x, _ = network.haar_operations[0].encode(hr)
    x = network.down_operations[0].encode(x)[0]
    last = network.down_operations[1]
    expected = x[:, :3] + last.E(x[:, 3:])
    torch.testing.assert_close(network.encode(hr)[0], expected, rtol=0, atol=1e-12)
    low = expected - last.F(x[:, 3:])
    high = x[:, 3:] * torch.tanh(last.H(low) / 2).exp() + last.G(low)
    torch.testing.assert_close(last.encode(x)[0], torch.cat([low, high], 1), rtol=0, atol=1e-12)


@torch.no_grad()
def test_a_batch_is_its_images():
    network, hr = small("sain_x4"), waves(3, 16, 24).double()
    parts = [torch.cat(part) for part in zip(*(network.transform(one) for one in hr.split(1)), strict=True)]
    for whole, part in zip(network.transform(hr), parts, strict=True):
        torch.testing.assert_close(whole, part, rtol=0, atol=1e-10)
    torch.testing.assert_close(network.decode(parts[1]), hr, rtol=0, atol=1e-12)


def test_every_parameter_has_its_share():
    network, hr = small("sain_x2"), waves(1, 16, 24).double()
    lr, channels = network.encode(hr)
    z = network.gmm.draw(network.latent(channels).shape[1:], [seeded("z")])
    (network.decode(torch.cat([quantize_through(lr), z], 1)) - hr).square().sum().backward()
    still = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()]
    assert still == ["haar_operations.0.haar_weights"]


# ---- the latent


def test_draws_have_the_moments_of_the_mixture():
    mixture = Mixture(3)
    mixture.gmm_para.data.copy_(torch.tensor([[0.0, 1.0, -1.0], [-1.0, 0.5, 3.0], [-2.0, -6.0, -1.0]]))
    drawn = mixture.draw((20000,), [seeded("mixture"), seeded("other")]).detach()
    weights, means, variances = torch.softmax(mixture.gmm_para[0], 0), mixture.gmm_para[1], mixture.gmm_para[2].exp()
    mean = (weights * means).sum()
    variance = (weights * (variances + means**2)).sum() - mean**2
    spread = math.sqrt(variance.item() / drawn.numel())
    assert drawn.mean().item() == pytest.approx(mean.item(), abs=5 * spread)
    assert drawn.var().item() == pytest.approx(variance.item(), rel=0.05)


def test_draws_depend_on_their_own_generator_alone():
    mixture = Mixture(5)
    together = mixture.draw((2, 3, 4), [seeded(0), seeded(1)])
    assert torch.equal(together[1:], mixture.draw((2, 3, 4), [seeded(1)])) and not torch.equal(*together)
    before = torch.get_rng_state()
    mixture.draw((2,), [seeded(0)])
    assert torch.equal(before, torch.get_rng_state())


def test_log_variances_are_clamped():
    mixture, gumbel, unit = Mixture(1), torch.zeros(1, 1), torch.ones(1, 1)
    for given, used in ((50.0, 20), (-50.0, -20), (2.0, 2)):
        mixture.gmm_para.data.copy_(torch.tensor([[0.0], [0.5], [given]]))
        assert mixture.sample(gumbel, unit).item() == pytest.approx(0.5 + math.exp(used / 2), rel=1e-6)


def test_the_choice_of_a_component_is_hard_and_has_the_gradient_of_a_soft_one():
    mixture, gumbel, unit = Mixture(2).double(), torch.tensor([[0.3, 0.1]]).double(), torch.zeros(1, 2).double()
    mixture.gmm_para.data.copy_(torch.tensor([[0.0, 0.0], [1.0, 5.0], [0.0, 0.0]]))
    assert mixture.sample(gumbel, unit).item() == pytest.approx(1.0, abs=1e-12)
    mixture.sample(gumbel, unit).sum().backward()
    p = torch.softmax(gumbel[0], 0)
    assert mixture.gmm_para.grad[0, 1].item() == pytest.approx((p[0] * p[1] * 4).item(), rel=1e-9)
    assert mixture.gmm_para.grad[1].tolist() == pytest.approx([1, 0], abs=1e-12)


@pytest.mark.parametrize("kind", pretend.DEVICES)
@torch.no_grad()
def test_other_devices_give_the_numbers_of_the_cpu(kind, monkeypatch):
    network, hr = small("sain_x2", torch.float32), waves(1, 16, 24)
    expected = [*network.transform(hr), network.gmm.draw((2, 3), [seeded(0)])]
    with pretend.pretend(monkeypatch, kind) as there:
        network.to(there)
        found = [*network.transform(hr.to(there)), network.gmm.draw((2, 3), [seeded(0)])]
        assert all(torch.equal(pretend.back(one), two) for one, two in zip(found, expected, strict=True))


# ---- errors


def test_networks_that_do_not_fit_are_refused():
    for scale in (1, 3, 6, 2.0):
        with pytest.raises(ValueError, match=f"scale: expected a power of 2 from 2 on, got {scale}"):
            SAIN(scale=scale)
    with pytest.raises(ValueError, match="e_blocks: expected at least 1, .* got 0"):
        SAIN(e_blocks=0)


def test_shapes_that_do_not_fit_are_refused():
    network = small("sain_x4")
    for shape in ((1, 3, 10, 8), (1, 1, 8, 8), (3, 8, 8)):
        with pytest.raises(ValueError, match="hr: expected shape .* multiples of 4, got"):
            network.encode(torch.rand(shape))
    with pytest.raises(ValueError, match=r"channels: expected shape \(N, 48, h, w\), got \(1, 3, 4, 4\)"):
        network.decode(torch.rand(1, 3, 4, 4))
