"""ESRGAN's network against the official code: arithmetic, the three namings, the files for x2 and x1."""

import hashlib
import json
import zlib

import numpy as np
import pytest
import torch

from helpers.networks import esrgan
from helpers.networks.esrgan import ESRGAN

GOLDEN = (("x4", "lr", ESRGAN(4, 1, 8, 32, 2)), ("x2_bsrgan", "lr", ESRGAN(2, 1, 8, 32, 2)),
          ("x2_realesrgan", "lr_even", ESRGAN(2, 2, 8, 32, 2)))  # fmt: skip


def fill(name: str, shape: list[int]) -> torch.Tensor:
    """The tensor of the reference vectors: numbers drawn from the name."""
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    x = 0.05 * x if name.endswith(".bias") else x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(x.astype(np.float32))


def filled(folder, net: str) -> dict[str, torch.Tensor]:
    keys = json.loads((folder / "keys" / f"tiny_rrdb_{net}.json").read_text())
    state = {name: fill(name, shape) for name, shape in keys["tensors"].items()}
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in state.values())).hexdigest()
    assert digest == keys["sha256_fill"]
    return state


def namings(folder) -> list[list[str]]:
    """Rows of the three names of one tensor."""
    return json.loads((folder / "keys" / "rrdb_names_nb2.json").read_text())["rows"]


@pytest.mark.parametrize("net, lr, network", GOLDEN, ids=[each[0] for each in GOLDEN])
def test_as_the_official_code(shared, net, lr, network):
    folder = shared / "golden" / "upscalers"
    state, golden = filled(folder, net), np.load(folder / "rrdb.npz")
    renamed = esrgan.rename(state)
    assert list(renamed) == list(network.state_dict())
    network.load_state_dict(renamed, strict=True)
    with torch.no_grad():
        sr = network(torch.from_numpy(golden[lr])).numpy()
    assert sr.shape == golden[f"sr_{net}"].shape and np.abs(sr - golden[f"sr_{net}"]).max() < 1e-5


def test_the_three_namings_are_one(shared):
    rows = namings(shared / "golden" / "upscalers")
    assert len(rows) == 72 and [row[0] for row in rows] == list(GOLDEN[0][2].state_dict())
    for column in range(3):
        state = {row[column]: torch.tensor(place) for place, row in enumerate(rows)}
        assert esrgan.rename(state) == {row[0]: torch.tensor(place) for place, row in enumerate(rows)}


def test_the_full_network_has_the_official_size():
    with torch.device("meta"):
        sizes = {scale: ESRGAN(*scale).state_dict() for scale in ((4, 1), (2, 1), (2, 2))}
    assert {scale: sum(map(torch.numel, state.values())) for scale, state in sizes.items()} == {
        (4, 1): 16_697_987, (2, 1): 16_661_059, (2, 2): 16_703_171
    }  # fmt: skip
    assert len(sizes[4, 1]) == 702


@pytest.mark.parametrize("scale, unshuffle", [(4, 1), (2, 1), (2, 2), (1, 4), (8, 1)])
def test_the_tensors_tell_the_configuration(scale, unshuffle):
    config = {"scale": scale, "unshuffle": unshuffle, "nf": 6, "gc": 5, "nb": 3}
    network = ESRGAN(**config)
    assert esrgan.configuration(network.state_dict()) == config
    assert network(torch.rand(1, 3, 8, 4)).shape == (1, 3, 8 * scale, 4 * scale)


@pytest.mark.parametrize("network", [ESRGAN(2, 1, 4, 4, 1), ESRGAN(1, 4, 4, 4, 1), ESRGAN(8, 1, 4, 4, 1)])
def test_old_names_at_other_scales(network):
    """The first ESRGAN's numbers go on by three for each enlargement."""
    layers = {
        "conv_first": 0,
        "HRconv": 3 * len(network.enlargements) + 2,
        "conv_last": 3 * len(network.enlargements) + 4,
    }
    layers |= {name: 3 * place for place, name in enumerate(network.enlargements, 1)}
    old = {}
    for name, tensor in network.state_dict().items():
        stem, _, rest = name.partition(".")
        if stem == "RRDB_trunk":
            block, dense, conv, kind = rest.split(".")
            old[f"model.1.sub.{block}.{dense}.{conv}.0.{kind}"] = tensor
        else:
            old[f"model.1.sub.1.{rest}" if stem == "trunk_conv" else f"model.{layers[stem]}.{rest}"] = tensor
    assert {name: id(tensor) for name, tensor in esrgan.rename(old).items()} == {
        name: id(old_tensor) for name, old_tensor in zip(network.state_dict(), old.values(), strict=True)
    }


@pytest.mark.parametrize("scale, unshuffle", [(1, 1), (3, 1), (4, 0), (0, 4)])
def test_impossible_scales(scale, unshuffle):
    with pytest.raises(ValueError, match=f"got {scale} x {unshuffle}"):
        ESRGAN(scale, unshuffle)


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="none named conv_first.weight"):
        esrgan.configuration(esrgan.rename({"net.weight": torch.zeros(1)}))
    state = ESRGAN(4, 1, 4, 4, 1).state_dict() | {"conv_first.weight": torch.zeros(4, 1, 3, 3)}
    with pytest.raises(ValueError, match="got 1 of a network that enlarges 4 times"):
        esrgan.configuration(state)
