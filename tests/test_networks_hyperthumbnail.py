"""HyperThumbnail: the official function (names, shapes, numbers), tables, bits, padding, files, batches, errors."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.networks import entropy, hyperthumbnail, jpeg
from helpers.networks.entropy import EntropyBottleneck
from helpers.networks.hyperthumbnail import released_names
from helpers.runtime import seeded
from tests import pretend
from tests.pictures import waves
from tests.rescaling import differ, draw, read

SMALL = {"width": 8, "depth": 1, "features": 4, "blocks": 1, "hidden": 8}
FILTERS = (1, 3, 3, 3, 3, 1)


@torch.no_grad()
def fill(network):
    """Weights by name and shape, as the vectors' README has them."""
    for name, tensor in network.state_dict().items():
        leaf, shape = name.split(".")[-1], tuple(tensor.shape)
        if leaf in ("bound", "target", "Y_TABLE", "C_TABLE") or not tensor.numel():
            continue
        a = draw(name, shape)
        if leaf.startswith("_matrix"):
            a = np.log(np.expm1(10**-0.2 / FILTERS[int(leaf[-1]) + 1])) + 0.1 * a
        elif leaf.startswith("_bias"):
            a = 0.3 * a
        elif leaf.startswith("_factor"):
            a = 0.1 * a
        elif leaf == "quantiles":
            a = np.array([-10, 0, 10]) + 0.1 * a
        elif len(shape) > 1:
            a = a * (1.2 if name.startswith(("encoder.", "table_predictor.")) else 0.5) / np.sqrt(np.prod(shape[1:]))
        else:
            a = 0.02 * a
        tensor.copy_(torch.from_numpy(np.float32(a)))
    return network


def small(**config):
    return fill(hyperthumbnail.build(**{**SMALL, **config}))


# ---- the official function


def test_parameters_of_the_released_file():
    network = hyperthumbnail.build()
    parts = {name: sum(each.numel() for each in part.parameters()) for name, part in network.named_children()}
    assert parts == {
        "encoder": 10962688, "coefficient_decoder": 281064, "decoder": 220035, "losslessJPEG": 128,
        "entropy_bottleneck": 7808, "table_predictor": 197888,
    }  # fmt: skip


def test_official_names_and_shapes(shared):
    listed = json.loads((shared / "golden/rescaling/keys_hyperthumbnail_x4.json").read_text())
    assert {key: list(value.shape) for key, value in hyperthumbnail.build().state_dict().items()} == listed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_official_vectors(dtype, shared):
    golden = read(shared, "hyperthumbnail_x4")
    network, hr = fill(hyperthumbnail.build()).to(dtype), golden["x"].to(dtype)
    found, exact = network(hr), dtype == torch.float64
    assert differ(found["emb"], golden["emb"]) < (1e-6 if exact else 1e-5)
    for name in ("stream_y", "stream_c"):
        assert differ(found[name], golden[name]) < (1e-4 if exact else 5e-3)
    assert torch.equal(found["tables"], golden["tables"].to(dtype))
    for name in ("quant_y", "quant_c"):  # whole steps from the medians, which are no integers
        assert found[name].shape == golden[name].shape and differ(found[name], golden[name]) < 2e-5
    assert differ(found["rgb"], golden["rgb"]) < (1e-6 if exact else 1e-5)
    assert differ(found["ccm"], golden["ccm"]) < (1e-6 if exact else 1e-5)
    assert differ(found["out"], golden["out"]) < (1e-6 if exact else 1e-4)
    assert found["bits"].item() == pytest.approx(golden["bits"].item(), rel=1e-7 if exact else 1e-4)
    assert found["bpp"].item() == pytest.approx(golden["bpp"].item(), rel=1e-7 if exact else 1e-4)
    assert network.auxiliary().item() == pytest.approx(golden["l_aux"].item(), rel=1e-6 if exact else 1e-4)


def test_names_of_later_versions_and_of_a_file_that_has_coded():
    network = small()
    later = {}
    for name, tensor in network.state_dict().items():
        for old, new in (("_matrix", "matrices."), ("_bias", "biases."), ("_factor", "factors.")):
            name = name.replace(f".{old}", f".{new}")
        later[name] = torch.ones(64, 21, dtype=torch.int32) if name.endswith("_quantized_cdf") else tensor
    assert "entropy_bottleneck.bottlenecks.1.matrices.4" in later
    renamed = released_names(later)
    assert renamed.keys() == network.state_dict().keys()
    hyperthumbnail.build(**SMALL).load_state_dict(renamed, strict=True)
    assert released_names(network.state_dict()).keys() == network.state_dict().keys()


# ---- streams, tables, bits


def test_streams_are_blocks_row_by_row_and_chroma_is_cb_then_cr():
    network, lr = small(), waves(2, 16, 24)
    luma, chroma = network.streams(lr)
    planes = jpeg.to_ycbcr(lr * 255)
    assert luma.shape == (2, 6, 64) and chroma.shape == (2, 12, 64)
    block = jpeg.to_zigzag(jpeg.to_blocks(planes[1:, :1, 8:, 16:] - 128)).flatten()
    torch.testing.assert_close(luma[1, 5], block, rtol=0, atol=1e-3)
    torch.testing.assert_close(chroma[1, 6 + 1], jpeg.to_zigzag(jpeg.to_blocks(planes[1:, 2:, :8, 8:16])).flatten())
    assert luma[0, 0, 0] == pytest.approx(8 * (planes[0, 0, :8, :8].mean() - 128).item(), abs=1e-2)


def test_tables_are_integers_from_1_on_and_noisy_in_training():
    network, streams = small(), small().streams(waves(2, 32, 32))
    tables = network.tables(streams)
    assert tables.shape == (2, 2, 64) and torch.equal(tables, tables.round()) and tables.min() >= 1
    raw = network.table_predictor(streams)
    assert torch.equal(tables, raw.round()) and raw.min() >= 1.49 - 1e-6
    noisy = network.tables(streams, seeded("tables"))
    assert (noisy - raw).abs().max() <= 0.5 and (noisy - raw).std() > 0.25
    assert torch.equal(noisy, network.tables(streams, seeded("tables")))
    twice = small(factor=2.0).tables(streams)
    assert torch.equal(twice, (2 * raw).round())


def test_likelihoods_are_a_distribution_over_integers():
    bottleneck = EntropyBottleneck(4).double()
    values = torch.arange(-400.0, 401).double().expand(1, 4, -1)
    mass = bottleneck.likelihood(values)
    assert mass.shape == values.shape and mass.min() > 0.999e-9
    torch.testing.assert_close(mass.sum(-1), torch.ones(1, 4).double(), rtol=0, atol=1e-5)
    middle = mass[0, 0, 400]
    assert 0.005 < middle < 0.2 and mass[0, 0, 400 + 60] < middle / 10  # a spread of about ten at the start


def test_a_likelihood_at_its_floor_still_pulls():
    bottleneck = EntropyBottleneck(1)
    far = torch.full((1, 1, 1), 1e4, requires_grad=True)
    likelihood = bottleneck.likelihood(far)
    assert likelihood.item() == pytest.approx(1e-9)
    (-likelihood.log()).sum().backward()
    pulled = EntropyBottleneck(1)
    near = torch.full((1, 1, 1), 30.0, requires_grad=True)
    (-pulled.likelihood(near).log()).sum().backward()
    assert near.grad.item() > 0 and pulled._matrix0.grad.abs().sum() > 0
    x = torch.tensor([1e-12], requires_grad=True)
    entropy.Floor.apply(x, torch.tensor([1e-9])).log().neg().sum().backward()
    assert x.grad.item() < 0  # it would be 0 through a maximum


def test_the_auxiliary_loss_moves_quantiles_alone():
    network = small()
    network.auxiliary().backward()
    moved = [name for name, each in network.named_parameters() if each.grad is not None and each.grad.any()]
    assert moved == [f"entropy_bottleneck.bottlenecks.{k}.quantiles" for k in (0, 1)]
    bottleneck = EntropyBottleneck(2)
    optimizer = torch.optim.Adam([bottleneck.quantiles], lr=0.3)
    for _ in range(400):
        optimizer.zero_grad()
        bottleneck.auxiliary().backward()
        optimizer.step()
    tails = torch.sigmoid(bottleneck._logits(bottleneck.quantiles))[:, 0].detach()
    assert tails[:, 1].tolist() == pytest.approx([0.5, 0.5], abs=0.02) and tails[:, 0].max() < 1e-5


def test_rounding_is_to_the_median_and_noise_instead_in_training():
    bottleneck = EntropyBottleneck(2)
    bottleneck.quantiles.data[:, 0, 1] = torch.tensor([0.25, -0.4])
    values = 5 * torch.randn(3, 2, 4, 5, generator=seeded("values"))
    rounded = bottleneck.quantize(values)
    torch.testing.assert_close(rounded[:, 0], (values[:, 0] - 0.25).round() + 0.25)
    torch.testing.assert_close(rounded[:, 1], (values[:, 1] + 0.4).round() - 0.4)
    noisy = bottleneck.quantize(values, seeded("noise"))
    assert (noisy - values).abs().max() <= 0.5 and not torch.equal(noisy, rounded)


def test_bits_are_those_of_the_quantized_values():
    network, hr = small(), waves(2, 64, 64)
    found = network(hr)
    bits = 0
    for name, bottleneck in zip(("quant_y", "quant_c"), network.entropy_bottleneck.bottlenecks, strict=True):
        bits -= bottleneck.likelihood(found[name]).log2().sum()
    torch.testing.assert_close(found["bits"], bits)
    assert found["bpp"].item() == pytest.approx(found["bits"].item() / (2 * 64 * 64))


# ---- whole images


def test_a_small_image_is_reflected_several_times():
    hr = waves(1, 12, 72)
    expected = np.pad(hr.numpy(), ((0, 0), (0, 0), (0, 52), (0, 56)), mode="reflect")
    assert np.array_equal(small().pad(hr).numpy(), expected)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 72), (68, 132)])
@torch.no_grad()
def test_other_sides_are_padded_by_reflection_and_cropped(height, width):
    network, hr = small(), waves(1, height, width)
    found = network(hr)
    padded = F.pad(hr, (0, -width % 64, 0, -height % 64), mode="reflect")
    whole = network(padded)
    assert found["out"].shape == hr.shape and found["rgb"].shape == found["emb"].shape == (
        1,
        3,
        height // 4,
        width // 4,
    )
    assert torch.equal(found["out"], whole["out"][..., :height, :width])
    assert torch.equal(found["stream_y"], whole["stream_y"])
    assert found["bpp"].item() == pytest.approx(whole["bits"].item() / (height * width))


@torch.no_grad()
def test_a_batch_is_its_images():
    network, hr = small().double(), waves(3, 64, 128).double()
    whole, parts = network(hr), [network(one) for one in hr.split(1)]
    for name in ("emb", "stream_y", "stream_c", "tables", "quant_y", "rgb", "ccm", "out"):
        torch.testing.assert_close(whole[name], torch.cat([part[name] for part in parts]), rtol=0, atol=1e-8)
    assert whole["bits"].item() == pytest.approx(sum(part["bits"].item() for part in parts), rel=1e-9)
    chroma = torch.cat([part["quant_c"] for part in parts])  # Cb and Cr of the first image, then of the second
    torch.testing.assert_close(whole["quant_c"], chroma, rtol=0, atol=1e-8)


def test_in_training_every_parameter_but_quantiles_has_its_share():
    network, hr = small(), waves(2, 64, 64)
    found = network(hr, seeded("noise"))
    (found["out"].square().mean() + found["rgb"].square().mean() + found["bpp"]).backward()
    still = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()]
    assert still == [
        "losslessJPEG.Y_TABLE", "losslessJPEG.C_TABLE",
        *(f"entropy_bottleneck.bottlenecks.{k}.quantiles" for k in (0, 1)),
    ]  # fmt: skip
    again, other = network(hr, seeded("noise")), network(hr, seeded("other"))
    assert torch.equal(again["out"], found["out"]) and not torch.equal(other["out"], found["out"])


@torch.no_grad()
def test_integers_are_what_a_file_holds_and_come_back():
    network, hr = small(), waves(1, 96, 72)
    coefficients, tables = network.integers(hr)
    assert coefficients.shape == (1, 3, 3, 3, 64)  # 24 x 18 pixels; the blocks that only padding fills are not there
    assert torch.equal(coefficients, coefficients.round()) and torch.equal(tables, tables.round())
    found = network(hr)
    luma = found["stream_y"].unflatten(1, (4, 4))[:, :3, :3]
    torch.testing.assert_close(coefficients[:, 0], (luma / tables[:, :1, None]).round())
    rgb, out = network.from_integers(coefficients, tables)
    assert rgb.shape == (1, 3, 24, 24) and out.shape == (1, 3, 96, 96)
    quantiles = [bottleneck.quantiles for bottleneck in network.entropy_bottleneck.bottlenecks]
    for each in quantiles:
        each[:, 0, 1] = 0  # `forward` rounds to integers, too, where the medians are 0
    whole = waves(1, 64, 128)
    rgb, out = network.from_integers(*network.integers(whole))
    expected = network(whole)
    torch.testing.assert_close(rgb, expected["rgb"], rtol=0, atol=1e-5)
    torch.testing.assert_close(out, expected["out"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_bfloat16_spares_levels_and_probabilities():
    network, hr = small(), waves(1, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(hr)
    assert {found[name].dtype for name in ("emb", "stream_y", "quant_y", "rgb", "out", "bits")} == {torch.float32}
    expected = network.streams(found["emb"].clamp(0, 1))
    assert torch.equal(found["stream_y"], expected[0])


@pytest.mark.parametrize("kind", pretend.DEVICES)
@torch.no_grad()
def test_other_devices_give_the_numbers_of_the_cpu(kind, monkeypatch):
    network, hr = small(), waves(1, 64, 64)
    expected = network(hr), network(hr, seeded("noise"))
    with pretend.pretend(monkeypatch, kind) as there:
        network.to(there)
        found = network(hr.to(there)), network(hr.to(there), seeded("noise"))
        for name in expected[0]:
            for one, two in zip(found, expected, strict=True):
                assert torch.equal(pretend.back(one[name]), two[name]), name


# ---- errors


def test_images_that_do_not_fit_are_refused():
    for shape, what in (((1, 3, 66, 64), "66x64"), ((1, 3, 64, 30), "64x30")):
        with pytest.raises(ValueError, match=f"hr: expected sides that are multiples of 4, got {what}"):
            small()(torch.rand(shape))


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="scale: expected 2, 4 or 8, got 3"):
        hyperthumbnail.build(scale=3)
    with pytest.raises(ValueError, match=r"depth: expected s \* 2\^depth to divide 64, got 4 \* 2\^5"):
        hyperthumbnail.build(depth=5)


@pytest.mark.parametrize("scale", [2, 8])
@torch.no_grad()
def test_other_scales(scale):
    network, hr = small(scale=scale), waves(1, 64, 64)
    found = network(hr)
    assert found["rgb"].shape == (1, 3, 64 // scale, 64 // scale) and found["out"].shape == hr.shape
