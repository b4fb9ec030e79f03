import math

import pytest
import torch

from helpers.networks.compact_flow import CompactFlow, Mix, bounded

SMALL = {
    2: {"steps": (2,), "hidden": (8,)},
    4: {"steps": (2, 1), "hidden": (8, 8)},
    8: {"steps": (1, 2, 1), "hidden": (8, 8, 8)},
}


def small(scale: int) -> CompactFlow:
    """A small flow in float64 with every parameter away from its start."""
    torch.manual_seed(scale)
    network = CompactFlow(scale=scale, width=8, blocks=1, head=6, **SMALL[scale]).double()
    network.train().encode(torch.rand(2, 3, 6 * scale, 5 * scale).double(), torch.rand(2, 3, 6, 5).double())
    for parameter in network.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_flow_inverts_and_logdets_cancel(scale):
    network = small(scale)
    hr, lr = torch.rand(2, 3, 6 * scale, 5 * scale).double(), torch.rand(2, 3, 6, 5).double()
    with torch.no_grad():
        latents, _, logdet = network.encode(hr, lr)
        again, back = network.decode(lr, latents)
    assert [tuple(e.shape[1:]) for e in latents] == network.latent_shapes(6, 5)
    assert sum(math.prod(s) for s in network.latent_shapes(6, 5)) == hr[0].numel()
    assert (again - hr).abs().max() < 1e-12
    assert (logdet + back).abs().max() < 1e-9


def test_mixing_channels_is_undone_exactly_under_autocast():
    mix = Mix(12).eval()
    z = torch.randn(2, 12, 5, 4)
    expected = mix.decode(z)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert torch.equal(mix.decode(z), expected)
        assert (mix.decode(mix.encode(z)) - z).abs().max() < 1e-5


def test_logdet_is_that_of_the_jacobian():
    network = small(4)
    hr, lr = torch.rand(1, 3, 8, 8).double(), torch.rand(1, 3, 2, 2).double()

    def flat(x):
        return torch.cat([e.flatten() for e in network.encode(x.reshape(hr.shape), lr)[0]])

    jacobian = torch.autograd.functional.jacobian(flat, hr.flatten())
    expected = torch.linalg.slogdet(jacobian)[1]
    assert network.encode(hr, lr)[2].item() == pytest.approx(expected.item(), abs=1e-8)


def test_nll_is_bits_per_dimension():
    network = small(2)
    hr, lr = torch.rand(2, 3, 8, 8).double(), torch.rand(2, 3, 4, 4).double()
    latents, nll, logdet = network.encode(hr, lr)
    normal = torch.distributions.Normal(0, 1)
    log_density = sum(normal.log_prob(e).sum((1, 2, 3)) for e in latents) + logdet
    assert torch.allclose(nll, -log_density / (hr[0].numel() * math.log(2)) + 6)  # noise of width 2 ** -6


def test_one_lr_image_serves_all_samples():
    network = small(4)
    lr = torch.rand(1, 3, 4, 6).double()
    latents = [torch.randn(5, *shape).double() for shape in network.latent_shapes(4, 6)]
    with torch.no_grad():
        together = network.decode(lr, latents)[0]
        alone = torch.cat([network.decode(lr, [e[q : q + 1] for e in latents])[0] for q in range(5)])
    assert torch.allclose(together, alone, atol=1e-12)


def test_cached_inverse_follows_the_weights():
    network = small(2)
    lr, latents = (
        torch.rand(1, 3, 4, 4).double(),
        [torch.randn(1, *s).double() for s in network.latent_shapes(4, 4)],
    )
    with torch.no_grad():
        before = network.decode(lr, latents)[0]
        network.transitions[0].weight.mul_(1.1)
        after = network.decode(lr, latents)[0]
        assert not torch.allclose(before, after)
        assert torch.allclose(network.encode(after, lr)[0][-1], latents[-1], atol=1e-10)


def test_actnorm_starts_from_the_first_batch():
    torch.manual_seed(0)
    network = CompactFlow(scale=2, width=8, blocks=1, head=6, steps=(1,), hidden=(8,)).train()
    network.encode(torch.rand(4, 3, 16, 16), torch.rand(4, 3, 8, 8))
    assert network.transitions[0].initialized and network.transitions[0].logs.abs().min() > 0
    kept = network.transitions[0].logs.clone()
    network.encode(torch.rand(4, 3, 16, 16) * 0.1, torch.rand(4, 3, 8, 8))
    assert torch.equal(kept, network.transitions[0].logs)


def test_log_scales_are_bounded():
    raw = torch.linspace(-100, 100, 1001)
    assert bounded(raw, 0.8).abs().max() <= 0.8
    assert bounded(torch.tensor(1e-3), 0.8).item() == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("bad", [{"scale": 3}, {"scale": 1, "steps": (), "hidden": ()}, {"scale": 8}, {"hidden": (8,)}])
def test_bad_configurations_are_refused(bad):
    with pytest.raises(ValueError, match="power of two"):
        CompactFlow(**bad)
