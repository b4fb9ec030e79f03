"""SRFlow: the official function (names, shapes, numbers, training), a flow (inverse, Jacobian), and its sampler."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.networks import srflow
from helpers.networks.rrdb import RRDBNet
from helpers.networks.srflow import Sampler, SRFlow, build
from helpers.runtime import seeded
from tests import bench
from tests.plain_srflow import fill, plain_sample

TINY = {
    "tiny_4x": {"scale": 4, "nf": 16, "gc": 32, "nb": 2, "taps": (0, 1), "K": 2, "L": 3},
    "tiny_8x": {"scale": 8, "nf": 16, "gc": 32, "nb": 3, "taps": (0, 2), "K": 2, "L": 4},
    "tiny_4x_L2": {"scale": 4, "nf": 16, "gc": 32, "nb": 2, "taps": (0, 1), "K": 2, "L": 2},
}
OFFICIAL = {"SRFlow_DF2K_4X": "df2k_4x", "SRFlow_DF2K_8X": "df2k_8x", "SRFlow_CelebA_8X": "celeba_8x"}
# Tensors and parameters of the official state dicts; SHA-256 over the float32 bytes of all tensors in their order,
# filled by `plain_srflow.fill`, which sees names and shapes: one wrong name, shape or place changes it.
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


@pytest.mark.parametrize("name", STATES)
def test_official_state_dict(name, nets):
    net = nets[name] if name in nets else fill(network(name))
    state, (tensors, parameters, digest) = net.state_dict(), STATES[name]
    assert (len(state), sum(t.numel() for t in state.values())) == (tensors, parameters)
    assert not list(net.buffers())
    assert hashlib.sha256(b"".join(t.numpy().tobytes() for t in state.values())).hexdigest() == digest


@pytest.mark.parametrize("name", STATES)
def test_official_names(name, shared):
    with torch.device("meta"):
        state = network(name).state_dict()
    listing = json.loads((shared / f"golden/srflow/keys/{name}.json").read_text())
    assert [(key, list(t.shape)) for key, t in state.items()] == list(map(tuple, listing["tensors"].items()))


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


# Own record of the same networks, for machines without the official vectors: nll in bits per pixel of a formula
# image, and sums over decoded images. Float64, so that only a changed function changes them.
RECORD = {}


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
    got = [nll.item(), logdet.item(), z.square().mean().item(), sr.square().mean().item(), sr[0, 1, 7, 5].item()]
    assert np.allclose(got, RECORD[name], rtol=1e-9, atol=0), got
