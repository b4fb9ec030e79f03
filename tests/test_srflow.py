"""SRFlow: the official function (names, shapes, numbers, training); a flow (inverse, Jacobian); sampling."""

import functools
import hashlib
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.networks import srflow, srflow_layers
from helpers.networks.rrdb import RRDBNet
from helpers.networks.srflow import Sampler, SRFlow, build
from helpers.runtime import seeded
from tests.plain_srflow import fill, plain_sample
from tools import bench

TINY = {
    "tiny_4x": {"scale": 4, "nf": 16, "gc": 32, "nb": 2, "taps": (0, 1), "K": 2, "L": 3},
    "tiny_8x": {"scale": 8, "nf": 16, "gc": 32, "nb": 3, "taps": (0, 2), "K": 2, "L": 4},
    "tiny_4x_L2": {"scale": 4, "nf": 16, "gc": 32, "nb": 2, "taps": (0, 1), "K": 2, "L": 2},
}
OFFICIAL = {"SRFlow_DF2K_4X": "df2k_4x", "SRFlow_DF2K_8X": "df2k_8x", "SRFlow_CelebA_8X": "celeba_8x"}
# Tensors and parameters of the official state dicts, and SHA-256 over the float32 bytes of all tensors in
# order, filled by `plain_srflow.fill` from names and shapes: one wrong name, shape or place changes it.
STATES = {
    "SRFlow_DF2K_4X": (1733, 39541811, "7fd1531be5798eea2be75c02edd088e5a066104796abf1313360dcb8d7a1f4c6"),
    "SRFlow_DF2K_8X": (2080, 50821891, "8aaacc0a4a6fea80b7f1739706f0b21bb356b369cf5627ea3df2da98a0f3be68"),
    "SRFlow_CelebA_8X": (1630, 40030531, "d10217377785e007abd87462b124f2870d3ed1f1823c4a183d2466f41db1905a"),
    "tiny_4x": (221, 1578659, "e1cf89cee37737641a5dee29017258cf4301b41f2098d1e294cfb43349e46c5f"),
    "tiny_8x": (304, 2698739, "4abffd6eea5ed915744b7909c6fc9c1017a14880382a79c7266b25b0629c88d5"),
    "tiny_4x_L2": (170, 1128291, "ddce8c76b6afb0ff689e007572adb4d597a515c5599106b996759820fa4c8435"),
}
FULL, SMALL = {"sr": 2e-4, "latents": 5e-4, "logdet": 0.05}, {"sr": 2e-5, "latents": 2e-4, "logdet": 5e-3}


def network(name: str) -> SRFlow:
    return build(OFFICIAL[name]) if name in OFFICIAL else SRFlow(**TINY[name])


@pytest.fixture(scope="module")
def nets() -> dict[str, SRFlow]:
    """Networks filled by rule, built once; tests must not change them."""
    return {name: fill(network(name)) for name in TINY}


def draw(net: SRFlow, h: int, w: int, n: int = 1, dtype=torch.float32, heat: float = 0.8) -> tuple:
    """Random HR, LR and latents of one size."""
    hr = torch.rand(n, 3, net.scale * h, net.scale * w, generator=seeded("hr"), dtype=dtype)
    lr = torch.rand(n, 3, h, w, generator=seeded("lr"), dtype=dtype)
    shapes = net.latent_shapes(h, w)
    return hr, lr, [heat * torch.randn(n, *s, generator=seeded("z", *s), dtype=dtype) for s in shapes]


def differ(a, b) -> float:
    return (a - b).abs().max().item()


# ---- the official function


@functools.cache
def state(name: str) -> tuple[list[tuple[str, list[int]]], tuple[int, int, str]]:
    """Names and shapes of the filled network, and its line of `STATES`."""
    net = fill(network(name))
    assert not list(net.buffers())
    tensors = net.state_dict()
    digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors.values())).hexdigest()
    shapes = [(key, list(t.shape)) for key, t in tensors.items()]
    return shapes, (len(tensors), sum(t.numel() for t in tensors.values()), digest)


@pytest.mark.parametrize("name", STATES)
def test_official_state_dict(name):
    assert state(name)[1] == STATES[name]


@pytest.mark.parametrize("name", STATES)
def test_official_names(name, shared):
    listing = json.loads((shared / f"golden/srflow/keys/{name}.json").read_text())
    assert state(name)[0] == list(listing["tensors"].items())


@pytest.mark.parametrize("name", [*TINY, "SRFlow_DF2K_4X"])
@torch.no_grad()
def test_official_vectors(name, shared, nets):
    net = nets[name] if name in nets else fill(network(name))
    tolerance = SMALL if name in nets else FULL
    with np.load(shared / f"golden/srflow/{name}.npz") as file:
        golden = {key: torch.from_numpy(file[key]) for key in file.files}
    lr, hr = golden["lr"], golden["hr"]

    latents, nll, logdet = net.encode(hr, lr)
    for i, latent in enumerate(latents):
        assert differ(latent, golden[f"eps_enc_{i}"]) < tolerance["latents"]
    assert f"eps_enc_{len(latents)}" not in golden
    assert torch.allclose(nll, golden["nll"], rtol=2e-5, atol=0)
    assert differ(logdet, golden["logdet_enc"]) < tolerance["logdet"]
    _, nll, logdet = net.encode(hr, lr, golden["u"])
    assert torch.allclose(nll, golden["nll_noise"], rtol=2e-5, atol=0)
    assert differ(logdet, golden["logdet_enc_noise"]) < tolerance["logdet"]

    given = [golden[f"eps_in_{i}"] for i in range(len(latents))]
    kept = [latent.clone() for latent in given]
    sr, logdet = net.decode(lr, given)
    assert differ(sr, golden["sr_given"]) < tolerance["sr"]
    assert differ(logdet, golden["logdet_dec"]) < tolerance["logdet"]
    assert differ(net.decode(lr, [0 * z for z in given])[0], golden["sr_heat0"]) < tolerance["sr"]

    torch.manual_seed(1234)  # official order of draws: z, deepest split, ..., first split
    hot = [torch.normal(0.0, 0.9, z.shape) for z in given[::-1]][::-1]
    assert differ(net.decode(lr, hot)[0], golden["sr_seed1234_heat09"]) < tolerance["sr"]

    assert differ(net.RRDB(lr), golden["rrdb_out"]) < tolerance["sr"]
    maps = {f"fea_up{m.shape[2] // lr.shape[2]}": m for m in net.features(lr)}
    assert maps.keys() == {key for key in golden if key.startswith("fea_up")}
    for key, values in maps.items():
        assert differ(values[:, : golden[key].shape[1]], golden[key]) < tolerance["sr"]

    sampler = Sampler(net)
    for i in range(len(lr)):  # the sampler meets the official numbers by itself
        sr = sampler(lr[i : i + 1], [z[i : i + 1] for z in given])
        assert differ(sr, golden["sr_given"][i : i + 1]) < tolerance["sr"]
        assert differ(plain_sample(net, lr[i : i + 1], [z[i : i + 1] for z in given]), sr) < tolerance["sr"]
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))


def test_official_training(shared):
    with np.load(shared / "golden/srflow/tiny_4x.npz") as file:
        lr, hr = torch.from_numpy(file["lr"]), torch.from_numpy(file["hr"])
    with np.load(shared / "golden/srflow/tiny_4x_train.npz") as file:
        golden = {key: torch.from_numpy(file[key]) for key in file.files}

    net = fill(network("tiny_4x")).train()
    actnorms = {key: p for key, p in net.named_parameters() if ".actnorm." in key}
    with torch.no_grad():
        for parameter in actnorms.values():
            parameter.zero_()
        nll = net.encode(hr, lr)[1]
    assert torch.allclose(nll, golden["init_nll"], rtol=2e-5, atol=0)
    for kind in ("bias", "logs"):
        values = torch.cat([p.detach().flatten() for key, p in actnorms.items() if key.endswith(kind)])
        assert differ(values, golden[f"init_actnorm_{kind}"]) < 1e-4

    net = fill(network("tiny_4x")).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=2.5e-4, betas=(0.9, 0.999), eps=1e-8)
    for step, expected in enumerate(golden["adam_losses"]):
        loss = net.encode(hr, lr)[1].mean()
        assert math.isclose(loss.item(), expected.item(), rel_tol=2e-5), step
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert math.isclose(loss.item(), golden["loss"].item(), rel_tol=2e-5)
            norms = [-1.0 if p.grad is None else p.grad.norm().item() for p in net.parameters()]
            assert np.allclose(norms, golden["grad_norm"], rtol=1e-3, atol=1e-6)
            parameters = dict(net.named_parameters())
            full = [key for key in golden if key.startswith("grad:")]
            assert len(full) == 5
            for key in full:
                gradient, value = parameters[key.removeprefix("grad:")].grad, golden[key]
                assert differ(gradient, value) < 1e-4 * value.abs().max(), key
        optimizer.step()


# Own record of the networks that meet the official vectors, for machines without these: nll, logdet and mean
# square of z when encoding; mean square and one value of the decoded image. In float64.
RECORD = {
    "tiny_4x": (6.33811120851, 112.850226600, 4.41162255051, 0.184621144253, 0.116431450551),
    "tiny_8x": (7.52261040368, -1613.33147768, 9.26593674066, 0.185923039056, 0.0661935392332),
    "tiny_4x_L2": (4.50646444753, 750.265194375, 1.54709542456, 0.157322807867, -0.0646221148438),
}


def formula(net: SRFlow, h: int, w: int) -> tuple:
    """HR image and latents from sines, LR as the mean of blocks; the same on every machine."""

    def wave(n: int, k: float) -> torch.Tensor:
        return torch.sin(k * torch.arange(n, dtype=torch.float64))

    size = (1, 3, h * net.scale, w * net.scale)
    hr = 0.5 + 0.4 * wave(math.prod(size), 0.37).view(size)
    shapes = net.latent_shapes(h, w)
    latents = [0.8 * wave(math.prod(s), 0.73).view(1, *s) for s in shapes]
    return hr, F.avg_pool2d(hr, net.scale), latents


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_recorded_values(name):
    net = fill(network(name)).double()
    hr, lr, latents = formula(net, 6, 4)
    (*_, z), nll, logdet = net.encode(hr, lr)
    sr, _ = net.decode(lr, latents)
    got = [
        nll.item(),
        logdet.item(),
        z.square().mean().item(),
        sr.square().mean().item(),
        sr[0, 1, 7, 5].item(),
    ]
    assert np.allclose(got, RECORD[name], rtol=1e-9, atol=0), got


# ---- a flow


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_decode_inverts_encode(name):
    net = fill(network(name)).double()
    hr, lr, latents = draw(net, 4, 6, n=2, dtype=torch.float64)
    encoded, _, logdet = net.encode(hr, lr)
    sr, back = net.decode(lr, encoded)
    assert differ(sr, hr) < 1e-10
    assert differ(logdet, -back) < 1e-8
    sr, logdet = net.decode(lr, latents)
    again, _, back = net.encode(sr, lr)
    assert max(map(differ, again, latents)) < 1e-10
    assert differ(logdet, -back) < 1e-8
    assert [tuple(z.shape[1:]) for z in encoded] == net.latent_shapes(4, 6)
    assert sum(z[0].numel() for z in encoded) == hr[0].numel()


def test_logdet_is_the_jacobian():
    net = fill(SRFlow(scale=4, nf=4, gc=4, nb=1, taps=(0,), K=1, L=3, hidden=8, plain_steps=1)).double()
    hr, lr, _ = draw(net, 2, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: torch.cat([z.flatten() for z in net.encode(x, lr)[0]]), hr, vectorize=True
    )
    expected = torch.linalg.slogdet(jacobian.reshape(hr.numel(), -1))[1]
    latents, nll, logdet = net.encode(hr, lr)
    *splits, z = (torch.distributions.Normal(0, 1).log_prob(latent).sum() for latent in latents)
    assert differ(logdet, expected + sum(splits)) < 1e-8  # the official logdet holds the splits' densities
    bits = -(expected + sum(splits) + z) / math.log(2) / (hr.shape[2] * hr.shape[3])
    assert differ(nll, bits) < 1e-10  # per pixel: of three values


@torch.no_grad()
def test_noise_costs_log_quant_per_pixel(nets):
    net = nets["tiny_4x"]
    hr, lr, _ = draw(net, 4, 4)
    plain, middle = net.encode(hr, lr), net.encode(hr, lr, torch.full_like(hr, 0.5))
    assert differ(middle[0][-1], plain[0][-1]) == 0
    assert torch.allclose(middle[1] - plain[1], torch.tensor(5.0), atol=1e-5)  # log2(32) bits per pixel
    noise = torch.rand(hr.shape, generator=seeded("noise"))
    assert torch.allclose(net.encode(hr, lr, noise)[0][0], net.encode(hr + (noise - 0.5) / 32, lr)[0][0], atol=1e-5)


@torch.no_grad()
def test_batch_is_its_images(nets):
    net = nets["tiny_8x"]
    hr, lr, latents = draw(net, 4, 2, n=4)
    encoded, nll, _ = net.encode(hr, lr)
    sr, _ = net.decode(lr, latents)
    for i in range(4):
        one = slice(i, i + 1)
        alone, nll_alone, _ = net.encode(hr[one], lr[one])
        assert max(differ(a, b[one]) for a, b in zip(alone, encoded, strict=True)) < 1e-4
        assert torch.allclose(nll_alone, nll[one], rtol=1e-5)
        assert differ(net.decode(lr[one], [z[one] for z in latents])[0], sr[one]) < 1e-5


def test_actnorms_set_themselves_once():
    torch.manual_seed(0)
    net = network("tiny_4x")
    hr, lr, latents = draw(net, 4, 4, n=2)
    first = net.flowUpsamplerNet.layers[1].actnorm
    net.eval().encode(hr, lr)
    assert not first.bias.any()  # untouched in eval mode
    net.train().encode(hr, lr)
    squeezed = F.pixel_unshuffle(hr, 2)
    out = first(squeezed)
    assert torch.allclose(out.mean((0, 2, 3)), torch.zeros(12), atol=1e-5)
    assert torch.allclose(out.var((0, 2, 3), correction=0), torch.ones(12), atol=1e-3)
    kept = first.bias.clone()
    net.encode(0.5 * hr, lr)
    assert torch.equal(first.bias, kept)
    loaded = fill(network("tiny_4x")).train()  # a checkpoint counts as set
    kept = loaded.flowUpsamplerNet.layers[1].actnorm.bias.clone()
    loaded.encode(hr, lr)
    assert torch.equal(loaded.flowUpsamplerNet.layers[1].actnorm.bias, kept)


def test_fresh_network_is_near_the_identity():
    torch.manual_seed(0)
    net = network("tiny_4x")
    couplings = [m for m in net.modules() if isinstance(m, srflow_layers.Coupling)]
    assert len(couplings) == 6
    for module in net.modules():
        if isinstance(module, srflow_layers.InvertibleConv):
            assert torch.allclose(module.weight @ module.weight.T, torch.eye(len(module.weight)), atol=1e-5)
        if isinstance(module, srflow_layers.ZeroConv):
            assert not module.weight.any() and not module.bias.any() and not module.logs.any()
    assert abs(couplings[0].fAffine[0].weight.std().item() - 0.05) < 0.002


@torch.no_grad()
def test_prefix_of_a_parallel_wrapper(nets):
    state = {f"module.{key}": value for key, value in nets["tiny_4x"].state_dict().items()}
    net = network("tiny_4x")
    assert not any(net.load_state_dict(state, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), nets["tiny_4x"].parameters(), strict=True))
    state["module.more"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match="more"):
        net.load_state_dict(state, strict=True)


def test_padding_reflects():
    lr = torch.arange(15.0).view(1, 1, 3, 5)
    padded = srflow.pad_to_multiple(lr)
    expected = np.pad(lr.numpy(), ((0, 0), (0, 0), (0, 1), (0, 1)), mode="reflect")
    assert np.array_equal(padded.numpy(), expected)
    assert srflow.pad_to_multiple(padded).shape == (1, 1, 4, 6)
    with pytest.raises(ValueError, match="1x5"):
        srflow.pad_to_multiple(lr[:, :, :1])


def test_bad_input_is_refused(nets):
    net = nets["tiny_4x"]
    hr, lr, latents = draw(net, 4, 6, n=2)
    for bad in (lr[..., :5], lr[..., :3, :], lr[:, :2], lr[0], lr[:, :, :0]):
        for call in (lambda bad=bad: net.decode(bad, latents), lambda bad=bad: net.encode(hr, bad)):
            with pytest.raises(ValueError, match="expected"):
                call()
    with pytest.raises(ValueError, match="pad_to_multiple"):
        net.latent_shapes(5, 6)
    for bad in ([], latents[:1], latents[::-1], [z[:1] for z in latents], [z[..., :1] for z in latents]):
        with pytest.raises(ValueError, match="latents: expected shapes"):
            net.decode(lr, bad)
    for bad in ([], latents[:1], latents[::-1], [z[:0] for z in latents], [latents[0], latents[1][:1]]):
        with pytest.raises(ValueError, match="latents: expected shapes"):
            Sampler(net)(lr[:1], bad)
    for bad in (lr, lr[0], lr[:1, :, :3]):
        with pytest.raises(ValueError, match="expected"):
            Sampler(net)(bad, latents)
    for bad in (hr[..., :8], hr[:1], hr[:, :1]):
        with pytest.raises(ValueError, match="hr: expected"):
            net.encode(bad, lr)
    with pytest.raises(ValueError, match="noise"):
        net.encode(hr, lr, hr[:1])
    for options in ({"scale": 2}, {"taps": (2,), "nb": 2}, {"L": 4}, {"L": 0}, {"scale": 8, "L": 5}):
        with torch.device("meta"), pytest.raises(ValueError, match="expected"):
            SRFlow(**{"nf": 4, "nb": 1, "taps": (0,), "K": 1} | options)
    with pytest.raises(ValueError, match="df2k_4x"):
        build("df2k_2x")
    with pytest.raises(ValueError, match="scale"):
        RRDBNet(3)


# ---- the sampler


@pytest.mark.parametrize(
    ("name", "h", "w"),
    [("tiny_4x", 10, 6), ("tiny_4x", 2, 2), ("tiny_4x_L2", 5, 7), ("tiny_4x_L2", 1, 3), ("tiny_8x", 6, 2)],
)
@torch.no_grad()
def test_sampler_is_decode(name, h, w):
    net = fill(network(name)).double()
    _, lr, latents = draw(net, h, w, n=3, dtype=torch.float64)
    lr = lr[:1]
    kept = [z.clone() for z in latents]
    sr = Sampler(net)(lr, latents)
    assert differ(sr, net.decode(lr.expand(3, -1, -1, -1), latents)[0]) < 1e-12
    for q in range(3):
        assert differ(sr[q], plain_sample(net, lr, [z[q : q + 1] for z in latents])[0]) < 1e-12
    assert all(torch.equal(a, b) for a, b in zip(latents, kept, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 8, "L": 2},
        {"scale": 8, "L": 3, "K": 2},
        {"scale": 4, "L": 1, "taps": (1, 0)},
        {"plain_steps": 0, "hidden": 24},
        {"K": 0},
        {"nb": 3, "taps": (2, 0, 1), "gc": 5, "nf": 6},
    ],
)
@torch.no_grad()
def test_sampler_of_other_configurations(options):
    net = fill(SRFlow(**{"scale": 4, "nf": 8, "gc": 8, "nb": 2, "taps": (0, 1), "K": 1, "L": 3} | options)).double()
    _, lr, latents = draw(net, 4, 6, n=2, dtype=torch.float64)
    assert differ(Sampler(net)(lr[:1], latents), net.decode(lr[:1].expand_as(lr), latents)[0]) < 1e-12


@torch.no_grad()
def test_sampler_at_full_width(device):
    net = fill(SRFlow(scale=8, nb=4, taps=(0, 1, 3), K=3, L=4))
    _, lr, latents = draw(net, 4, 6, n=2)
    expected = net.decode(lr[:1].expand_as(lr), latents)[0]
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    sr = Sampler(net.to(device))(lr[:1].to(device), [z.to(device) for z in latents]).cpu()
    torch.backends.cudnn.allow_tf32 = tf32
    assert differ(sr, expected) < 2e-4


@torch.no_grad()
def test_samples_do_not_depend_on_their_number(nets):
    net = nets["tiny_4x"]
    _, lr, latents = draw(net, 8, 6, n=5)
    five = Sampler(net)(lr[:1], latents)
    assert differ(Sampler(net)(lr[:1], [z[:2] for z in latents]), five[:2]) < 2e-6
    assert differ(Sampler(net, pixels=1)(lr[:1], latents), five) < 2e-6
    assert differ(five[0], five[1]) > 0.1
    assert differ(Sampler(net)(lr[1:2], latents), five) > 1e-3


@torch.no_grad()
def test_memory_does_not_grow_with_samples(nets, monkeypatch):
    net, largest = nets["tiny_4x"], []
    sampler, linear = Sampler(net, pixels=2 * 16 * 12), F.linear

    def watched(x, *args):
        largest.append(x.numel())
        return linear(x, *args)

    monkeypatch.setattr(F, "linear", watched)
    peaks = []
    for n in (2, 9):
        _, lr, latents = draw(net, 8, 6, n=n)
        largest.clear()
        sampler(lr[:1], latents)
        peaks.append(max(largest))
    assert peaks[0] == peaks[1] == 2 * 16 * 12 * 64


@torch.no_grad()
def test_changed_weights_are_noticed():
    net = fill(network("tiny_4x"))
    _, lr, latents = draw(net, 4, 4)
    sampler, before = Sampler(net), net.decode(lr, latents)[0]

    def follows() -> bool:
        dtype = next(net.parameters()).dtype
        args = lr.to(dtype), [z.to(dtype) for z in latents]
        expected = net.decode(*args)[0]
        assert differ(expected, before) > 1e-4
        return differ(sampler(*args), expected) < 1e-5

    assert differ(sampler(lr, latents), before) < 1e-5
    weight = net.flowUpsamplerNet.layers[3].affine.fAffine[0].weight
    weight.mul_(1.5)
    assert follows()
    net.load_state_dict({key: 0.99 * value for key, value in net.state_dict().items()})
    assert follows()
    with torch.enable_grad():
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        net.decode(lr, latents)[0].square().mean().backward()
        optimizer.step()
    assert follows()
    weight.data.mul_(2)  # PyTorch does not count this change
    assert not follows()
    sampler.rebuild()
    assert follows()
    kept = sampler.levels
    assert follows() and sampler.levels is kept  # unchanged weights are not folded again
    net.double()
    assert follows() and sampler(lr.double(), [z.double() for z in latents]).dtype == torch.float64


@torch.no_grad()
def test_overflow_passes_through(nets):
    net = nets["tiny_4x"]
    _, lr, latents = draw(net, 8, 8, n=2)
    latents[-1][1, 0, 0, 0] = math.inf
    sr = Sampler(net)(lr[:1], latents)
    assert sr[0].isfinite().all() and not sr[1].isfinite().all()


def test_bench_compares_outputs(nets, capsys, monkeypatch):
    net = nets["tiny_4x_L2"]
    hr, lr, latents = draw(net, 8, 8, n=2)
    args = net, lr[:1], hr[:1], latents
    assert bench.compare("tiny", *args, repeats=1) > 0
    assert "features" in capsys.readouterr().out
    right = srflow_layers.ActNorm.inverse  # of the plain loop alone
    monkeypatch.setattr(srflow_layers.ActNorm, "inverse", lambda self, x: right(self, x) + 1e-3)
    with pytest.raises(SystemExit, match="differ"):
        bench.compare("tiny", *args, repeats=1)
