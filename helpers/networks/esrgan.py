"""ESRGAN's generator: the network behind ESRGAN, BSRGAN, Real-ESRGAN and RSR, which differ in their weights alone."""

import re
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks.rrdb import RRDB, SLOPE, conv3

_BASICSR = {"body": "RRDB_trunk", "conv_body": "trunk_conv", "conv_hr": "HRconv", "conv_up": "upconv", "rdb": "RDB"}
_OLD = re.compile(r"model\.(\d+)\.(?:sub\.(\d+)\.)?(.+)")


class ESRGAN(nn.Module):
    """RRDBNet of Wang et al. (ECCV Workshops 2018); parameters named as in their repository (RRDBNet_arch.py).

    The long skip starts at the first convolution; in SRFlow's encoder, `rrdb.RRDBNet`, at the last block.

    Args:
        scale: scaling factor s; `scale * unshuffle` is a power of 2, at least 2: 4, or 2 in BSRGAN's file for x2.
        unshuffle: side of the squares of LR pixels that become channels first: 2 in an x2 file of Real-ESRGAN, 4 at x1.
        nf: width.
        gc: growth of the dense blocks.
        nb: number of RRDBs.

    Raises:
        ValueError: such a network does not exist.
    """

    def __init__(self, scale: int = 4, unshuffle: int = 1, nf: int = 64, gc: int = 32, nb: int = 23) -> None:
        super().__init__()
        factor = scale * unshuffle
        if min(scale, unshuffle) < 1 or factor < 2 or factor & (factor - 1):
            raise ValueError(f"expected scale x unshuffle of 2, 4, 8, ..., got {scale!r} x {unshuffle!r}")
        self.conv_first = conv3(3 * unshuffle**2, nf)
        self.RRDB_trunk = nn.Sequential(*(RRDB(nf, gc) for _ in range(nb)))
        self.trunk_conv = conv3(nf, nf)
        self.enlargements = [f"upconv{number}" for number in range(1, factor.bit_length())]
        for name in self.enlargements:
            self.add_module(name, conv3(nf, nf))
        self.HRconv = conv3(nf, nf)
        self.conv_last = conv3(nf, 3)
        self.scale, self.unshuffle = scale, unshuffle

    def forward(self, lr: Tensor) -> Tensor:
        """Map (N, 3, h, w) in [0, 1], h and w multiples of `unshuffle`, to (N, 3, s h, s w), not clipped."""
        first = self.conv_first(F.pixel_unshuffle(lr, self.unshuffle))
        features = first + self.trunk_conv(self.RRDB_trunk(first))
        for name in self.enlargements:
            features = F.leaky_relu(getattr(self, name)(F.interpolate(features, scale_factor=2)), SLOPE)
        return self.conv_last(F.leaky_relu(self.HRconv(features), SLOPE))


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of any official file the names of the ESRGAN repository.

    There are three namings: that one (BSRGAN too), BasicSR's (Real-ESRGAN, RSR; rrdbnet_arch.py), and that of the first
    ESRGAN, which numbers its layers (transer_RRDB_models.py). Names of none of them stay as they are.
    """
    if "conv_first.weight" in state:
        return {_from_basicsr(name): tensor for name, tensor in state.items()}
    found = {name: match for name in state if (match := _OLD.fullmatch(name))}
    numbers = sorted({int(match[1]) for match in found.values()} - {0, 1})
    layers = {0: "conv_first", 1: "trunk_conv"}
    layers |= {number: f"upconv{place}" for place, number in enumerate(numbers[:-2], 1)}
    layers |= dict(zip(numbers[-2:], ("HRconv", "conv_last"), strict=False))
    renamed = {}
    for name, tensor in state.items():
        if match := found.get(name):
            number, block, rest = int(match[1]), match[2], match[3]
            inner = block is not None and rest.startswith("RDB")
            name = f"RRDB_trunk.{block}.{rest.replace('.0.', '.')}" if inner else f"{layers[number]}.{rest}"
        renamed[name] = tensor
    return renamed


def _from_basicsr(name: str) -> str:
    parts = name.split(".")
    for place, part in enumerate(parts):
        stem = part.rstrip("0123456789")
        parts[place] = _BASICSR.get(stem, stem) + part[len(stem) :]
    return ".".join(parts)


def configuration(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Arguments of the `ESRGAN` that has such tensors, named as `rename` leaves them.

    Raises:
        ValueError: they belong to another network.
    """
    wanted = ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight", "upconv1.weight", "conv_last.weight")
    if absent := [name for name in wanted if name not in state]:
        raise ValueError(f"expected the tensors of ESRGAN's generator, got none named {', '.join(absent)}")
    nf, inputs = state["conv_first.weight"].shape[:2]
    factor = 2 ** sum(re.fullmatch(r"upconv\d+\.weight", name) is not None for name in state)
    unshuffle = {3: 1, 12: 2, 48: 4}.get(inputs)
    if unshuffle is None or factor % unshuffle:
        raise ValueError(
            f"expected 3, 12 (x2) or 48 (x1) input channels, got {inputs} of a network that enlarges {factor} times"
        )
    blocks = {name.split(".")[1] for name in state if name.startswith("RRDB_trunk.")}
    gc = state["RRDB_trunk.0.RDB1.conv1.weight"].shape[0]
    return {"scale": factor // unshuffle, "unshuffle": unshuffle, "nf": nf, "gc": gc, "nb": len(blocks)}
