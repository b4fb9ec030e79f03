"""Reference vectors of the diffusion networks: weights by name, tiny networks, and the files themselves."""

import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from helpers.networks.resshift import ResShiftUNet
from helpers.networks.sr3 import SR3UNet
from helpers.networks.vq_autoencoder import VQAutoencoder


@cache
def value(name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight by its name and shape; the rule is that of the reference vectors."""
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("relative_position_bias_table"):
        x = 0.2 * x
    elif name.endswith("quantize.embedding.weight"):
        pass
    elif name.endswith(".bias"):
        x = 0.05 * x
    elif len(shape) == 1:
        x = 1 + 0.1 * x
    else:
        x = x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(x.astype(np.float32))


def fill(network: nn.Module, prefix: str = "") -> nn.Module:
    """Fill every parameter, in eval mode and frozen; `prefix` stands before its name in the file."""
    network.load_state_dict({name: value(prefix + name, tuple(x.shape)) for name, x in network.state_dict().items()})
    return network.eval().requires_grad_(False)


def tiny_unet() -> ResShiftUNet:
    how = {"resolution": 16, "width": 32, "multipliers": (1, 2), "attention": (16, 8)}
    return fill(ResShiftUNet(**how, swin_width=32, head_channels=16))


def tiny_autoencoder() -> VQAutoencoder:
    return fill(VQAutoencoder(32, n_embed=64))


def tiny_sr3() -> SR3UNet:
    how = {"width": 16, "multipliers": (1, 2, 2), "groups": 8, "attention": (4,), "blocks": 1}
    return fill(SR3UNet(**how, dropout=0.0, resolution=16), "denoise_fn.")


def read(shared: Path, name: str) -> dict[str, Tensor]:
    with np.load(shared / "golden" / "upscalers" / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def names(shared: Path, network: str) -> list[tuple[str, list[int]]]:
    listed = json.loads((shared / "golden" / "upscalers" / "keys" / f"{network}.json").read_text())
    return list(listed["tensors"].items())


def differ(found: Tensor, expected: Tensor) -> float:
    return (found.double() - expected.double()).abs().max().item()


def relative(found: np.ndarray, expected: Tensor) -> float:
    """Largest relative difference; where 0 is expected, the difference itself."""
    expected = expected.numpy().astype(np.float64)
    scale = np.where(expected == 0, 1, np.abs(expected))
    return (np.abs(found - expected) / scale).max()
