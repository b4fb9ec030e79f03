"""Reference vectors of the rescaling networks: how weights and noise follow from names, and the files themselves."""

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FIXED = ("haar_weights",)  # constants of the networks, which the rule leaves alone


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)


@torch.no_grad()
def fill(network: nn.Module, gain: float = 0.5) -> nn.Module:
    """Weights by name and shape, in float32 whatever the network computes in."""
    for name, tensor in network.state_dict().items():
        if not name.endswith(FIXED):
            shape = tuple(tensor.shape)
            width = gain / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.02
            tensor.copy_(torch.from_numpy(np.float32(width * draw(name, shape))))
    return network


def noise(name: str, shape: tuple[int, ...], size: float) -> Tensor:
    return torch.from_numpy(np.float32(size * draw(name, tuple(shape))))


def read(shared: Path, name: str) -> dict[str, Tensor]:
    """The arrays of one file of vectors, and its input `x` in [0, 1], float64."""
    with np.load(shared / "golden" / "rescaling" / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    return arrays | {"x": arrays["x_u8"].double() / 255}


def differ(found: Tensor, expected: Tensor) -> float:
    return (found.double() - expected.double()).abs().max().item()


def levels_differ(images: Tensor, levels: Tensor) -> tuple[float, float]:
    """Share of 8-bit values that are not `levels`, and by how much at most."""
    apart = ((images.double() * 255).round() - levels.double()).abs()
    return (apart > 0).double().mean().item(), apart.max().item()
