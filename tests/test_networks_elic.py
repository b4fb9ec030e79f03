"""Transforms and prior of the Multi-Realism codec: conditions, blocks, first weights, exact sums, causality, cost."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from helpers.networks import elic, entropy
from helpers.networks.elic import Analysis, ConditionalBlock, FourierCond, Synthesis, TableCond
from helpers.networks.multi_realism import LEVELS, Discriminator, MultiRealism, round_through
from helpers.runtime import seeded
from tests.pictures import waves
from tests.rescaling import draw

TINY = {
    "widths": [4, 4, 6], "blocks": [1, 1, 1], "latent": 8, "hyper": 4, "slices": 2, "hidden": 8, "condition": 6,
    "levels": 3, "octaves": 3,
}  # fmt: skip


@torch.no_grad()
def tiny(**config):
    """A network with weights by name and shape, whose latents are some units wide."""
    network = MultiRealism(**TINY | config).eval()
    for name, parameter in network.named_parameters():
        shape = tuple(parameter.shape)
        if not parameter.requires_grad or "gain" in name:
            continue
        if "bottleneck" in name:
            values = 0.3 * draw(name, shape) if "_bias" in name else parameter.numpy()
        else:
            width = 1.2 * math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1
            values = width * draw(name, shape)
            if "context" in name and "convolutions.2" in name:  # scales of about 1
                values = 0.3 * values + (0.34 if "bias" in name else 0)
            if name.startswith("synthesis.layers.6"):  # few pixels outside [0, 1]
                values = 0.1 * values
        parameter.copy_(torch.from_numpy(np.float32(values)))
    return network


def vector(width=6, batch=2):
    return torch.randn(batch, width, generator=seeded("vector"))


# ---- conditions


def test_a_table_is_interpolated_between_its_rows():
    table = TableCond(3, 5)
    rows = table.table.detach()
    assert torch.equal(table(torch.tensor([0.0, 1.0, 2.0])), rows)
    assert torch.allclose(table(torch.tensor([0.25]))[0], 0.75 * rows[0] + 0.25 * rows[1])
    assert torch.allclose(table(torch.tensor([1.5]))[0], (rows[1] + rows[2]) / 2)
    assert torch.equal(TableCond(3, 2, (0.5, 2.0)).table, torch.tensor([[0.5, 0.5], [2.5, 2.5], [4.5, 4.5]]))


def test_features_of_beta():
    cond = FourierCond(4, octaves=2)
    beta, more = torch.tensor([0.7]), torch.randn(1, 4, generator=seeded("more"))
    features = torch.tensor([[0.7, math.sin(0.7), math.sin(1.4), math.cos(0.7), math.cos(1.4)]])
    hidden = (features @ cond.first.weight.T + cond.first.bias + more).relu()
    assert torch.allclose(cond(beta, more), (hidden @ cond.last.weight.T + cond.last.bias).relu(), atol=1e-6)
    assert FourierCond(4).first.in_features == 21  # beta, and ten sines and cosines


@torch.no_grad()
def test_a_block_adds_a_projection_after_each_convolution():
    block, x = ConditionalBlock(4, 3), torch.randn(2, 4, 5, 6, generator=seeded("x"))
    assert not any(projection.weight.any() for projection in block.projections)  # at the start no condition speaks
    for projection in block.projections:
        nn.init.normal_(projection.weight)
    one, two, three = (p(given := vector(3))[:, :, None, None] for p in block.projections)
    first, second, third = block.convolutions
    by_hand = x + third(second(first(x).relu() + one).relu() + two) + three
    assert torch.allclose(block(x, given), by_hand, atol=1e-6)
    assert [tuple(c.kernel_size) for c in block.convolutions] == [(1, 1), (3, 3), (1, 1)]
    assert second.in_channels == second.out_channels == 2


@pytest.mark.parametrize(
    "make, wrong",
    [
        (Analysis, {"widths": (4, 4)}), (Synthesis, {"widths": (4, 5, 6)}), (Analysis, {"blocks": (1, 1)}),
        (Synthesis, {"blocks": (1, -1, 0)}),
    ],
)  # fmt: skip
def test_transforms_refuse_other_widths_and_blocks(make, wrong):
    with pytest.raises(ValueError, match="expected 3"):
        make(**{"widths": (4, 4, 6), "latent": 8, "blocks": (1, 1, 1), "condition": 6, **wrong})


@pytest.mark.parametrize("wrong", [{"slices": 3}, {"slices": 0}, {"levels": 1}])
def test_the_codec_refuses_other_slices_and_levels(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MultiRealism(**TINY | wrong)


# ---- the first weights


def test_variances_of_wavelet_bands():
    assert elic.variance([]) == pytest.approx(1)
    assert elic.variance([0]) == pytest.approx(1 + elic.CORRELATION)
    assert elic.variance([1]) == pytest.approx(1 - elic.CORRELATION)
    bands = [elic.variance([i, j, k]) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    assert sum(bands) == pytest.approx(8, rel=1e-5)  # an orthonormal transform keeps the energy


@torch.no_grad()
def test_an_untrained_codec_keeps_most_of_a_picture():
    """Its transforms begin as Haar's, with as many bands as there is room for."""
    torch.manual_seed(0)
    network = MultiRealism(widths=(12, 24, 48), blocks=(1, 1, 1), latent=96, hyper=4, slices=2, hidden=8)
    hr, level = waves(1, 128, 128), torch.zeros(1)
    y, _ = network.encode(hr, level)
    back = network.decode(y, level, level)
    assert (back - hr).square().mean() < 0.05 * (hr - hr.mean()).square().mean()
    assert y[:, 0].abs().mean() > 3 * y[:, 48:].abs().mean()  # the sums of grey come first


# ---- the prior


def test_exact_sums_do_not_depend_on_order_or_threads():
    twin = tiny().prior.exact()
    context = twin.context[1]
    x = torch.randn(1, 8, 9, 7, generator=seeded("exact")).double() * 20
    level = torch.tensor([0.75], dtype=torch.float64)
    expected, order = context(x, level), torch.randperm(8, generator=seeded("order"))
    first = context.convolutions[0]
    first.weight.data = first.weight[:, order]
    assert torch.equal(context(x[:, order], level), expected)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(context(x[:, order].contiguous(memory_format=torch.channels_last), level), expected)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(expected * 1024, (expected * 1024).round()) and expected.abs().max() <= 512


def test_the_twin_says_nearly_what_the_network_says():
    network = tiny()
    z, level = torch.randn(1, 4, 2, 2, generator=seeded("z")).mul(3).round(), torch.tensor([1.0])
    found = {}
    for name, prior, kind in (("float", network.prior, torch.float32), ("exact", network.prior.exact(), torch.float64)):
        places = found.setdefault(name, [])

        def take(number, mean, place, places=places):
            places += [mean.detach(), place.detach()]
            return mean.round()

        prior.walk(z.to(kind), level.to(kind), (8, 8), take)
    for one, two in zip(found["float"][:2], found["exact"][:2], strict=True):
        assert (one - two).abs().max() < 0.2 and one.std() > 0.1  # places are multiples of a sixteenth


def test_weights_too_large_for_exact_sums_are_refused():
    network = tiny()
    network.prior.up.convolutions[0].weight.data[0] = 1e6
    with pytest.raises(ValueError, match="up.convolutions.0.weight: expected weights"):
        network.prior.exact()


@torch.no_grad()
def test_a_slice_sees_only_those_before_it():
    network = tiny(latent=9, slices=3)
    seen = []

    def walk(changed):
        def take(number, mean, place):
            seen.append((mean, place))
            return torch.full_like(mean, 5.0 if number == changed else 1.0)

        seen.clear()
        return network.prior.walk(torch.zeros(1, 4, 1, 1), torch.zeros(1), (4, 4), take), list(seen)

    (y, plain), (_, other) = walk(None), walk(1)
    assert y.shape == (1, 9, 4, 4) and y.eq(1).all()
    assert [torch.equal(a[0], b[0]) for a, b in zip(plain, other, strict=True)] == [True, True, False]
    assert all((place >= 0).all() and (place <= LEVELS - 1).all() for _, place in plain)


# ---- probabilities


@pytest.mark.parametrize("place", [0, 20, 40, 63])
def test_the_normal_distribution_of_integers(place):
    scale = entropy.scale_of(torch.tensor(float(place), dtype=torch.float64))
    values = torch.arange(-800, 801, dtype=torch.float64)
    mass = entropy.gaussian_likelihood(values, scale.expand_as(values))
    assert (mass - 1e-9).clamp(min=0).sum() == pytest.approx(1, abs=1e-6)
    if place >= 40:  # wide: its entropy is that of the density
        inside = mass[mass > 2e-9]
        assert -(inside * inside.log2()).sum() == pytest.approx(
            0.5 * math.log2(2 * math.pi * math.e * scale**2), rel=0.01
        )
    counts = entropy.gaussian_counts()[place]
    assert counts.sum() == entropy.COUNTS and counts.min() >= 1 and torch.equal(counts, counts.flip(0))
    assert scale == pytest.approx({0: 0.11, 63: 64}.get(place, scale.item()), rel=1e-5)


def test_likelihood_keeps_its_digits_in_the_tail_and_its_gradient_below_the_floor():
    scale = torch.tensor([1.0, 1.0, 1.0], requires_grad=True)
    mass = entropy.gaussian_likelihood(torch.tensor([0.0, 5.0, 50.0]), scale)
    assert mass.detach()[:2].tolist() == pytest.approx([0.3829249, 3.3787e-6], rel=1e-3)
    assert mass[2].item() == pytest.approx(1e-9)
    (-mass.log2().sum()).backward()
    assert scale.grad.isfinite().all() and scale.grad[1] < 0  # a wider one would make 5 cheaper


def test_counts_of_a_learned_distribution():
    torch.manual_seed(0)
    bottleneck = entropy.EntropyBottleneck(2)
    for (low, counts), channel in zip(bottleneck.counts(), range(2), strict=True):
        assert counts.sum() == entropy.COUNTS and counts.min() >= 1
        values = torch.arange(low, low + len(counts)).float().expand(1, 2, -1)
        mass = bottleneck.likelihood(values)[0, channel]
        assert (counts / entropy.COUNTS - mass).abs().max() < 1e-4  # the most probable takes what rounding left


# ---- the whole


@torch.no_grad()
def test_shapes_bits_and_what_each_argument_changes():
    network, hr = tiny(), waves(2, 64, 128)
    level, beta = torch.tensor([0.0, 2.0]), torch.tensor([0.0, 2.56])
    sr, bpp = network(hr, level, beta)
    assert sr.shape == hr.shape and bpp.shape == (2,) and (bpp > 0).all()
    y, again = network.compress(hr, level)
    assert torch.equal(bpp, again) and y.shape == (2, 8, 4, 8)
    assert not torch.equal(network.decode(y, level, beta), network.decode(y, level, beta.flip(0)))
    assert not torch.equal(network.decode(y, level, beta), network.decode(y, level.flip(0), beta))
    assert (network.compress(hr, level.flip(0))[1] - bpp).abs().min() > 0
    noisy, other = (network.compress(hr, level, seeded(key)) for key in (1, 2))
    assert not torch.equal(noisy[1], other[1]) and torch.equal(noisy[0], other[0])


@torch.no_grad()
def test_a_batch_is_its_images_one_by_one():
    network, hr = tiny(), waves(2, 64, 64)
    level, beta = torch.tensor([0.5, 2.0]), torch.tensor([1.0, 0.0])
    sr, bpp = network(hr, level, beta)
    for number in range(2):
        one = slice(number, number + 1)
        found = network(hr[one], level[one], beta[one])
        assert torch.allclose(found[0][0], sr[number], atol=1e-5) and found[1][0] == pytest.approx(
            bpp[number].item(), rel=1e-4
        )


def test_gradients_reach_every_trained_weight():
    network = MultiRealism(**TINY)
    for name, parameter in network.named_parameters():
        if "projections" in name:
            nn.init.normal_(parameter)
    sr, bpp = network(waves(2, 64, 64), torch.tensor([0.5, 1.5]), torch.tensor([0.0, 1.0]), seeded("noise"))
    (sr.square().mean() + bpp.mean()).backward()
    without = {n for n, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())}
    assert not without
    x = torch.tensor([0.4, 1.6], requires_grad=True)
    round_through(x).sum().backward()
    assert round_through(x).tolist() == [0.0, 2.0] and x.grad.tolist() == [1.0, 1.0]


def test_the_discriminator_looks_at_image_and_latent():
    torch.manual_seed(0)
    critic, hr, y = Discriminator(8, (4, 8, 8, 8)), waves(2, 64, 64), torch.randn(2, 8, 4, 4, generator=seeded("y"))
    logits = critic(hr, y)
    assert logits.shape == (2, 36)  # 64 / 2 / 2 / 2 - 1 - 1 = 6 patches a side
    assert not torch.allclose(critic(hr.flip(0), y), logits, atol=1e-4)
    assert not torch.allclose(critic(hr, y.flip(0)), logits, atol=1e-4)
    assert [layer.stride[0] for layer in critic.layers] == [2, 2, 2, 1, 1]
    for layer in (critic.from_latent, *critic.layers):
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.2)
