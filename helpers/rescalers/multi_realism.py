"""The Multi-Realism codec as files: one stream of bits, from which the receiver chooses how real the image looks.

Agustsson et al., CVPR 2023, arXiv 2212.13824; see `helpers.networks.multi_realism` for what was taken from where.

A file holds, in little-endian order, MAGIC, version (1 byte), rate level in 32nds (1), height and width (2 each), the
first 8 bytes of the model's hash, CRC-32 of the integers that the file stands for (4), CRC-32 of everything else in the
file (4), and the words of the range coder: the hyper-latent channel by channel, then the slices of the latent.

What binds a file to a model: all of its weights; the hash says which. What binds it to a machine: nothing in the bits.
Means and scales come from `Prior.exact`, sums of which float64 loses no digit, and the coder's tables are integers,
which the hash covers. The image is then computed in float32 like any other network's output: from one machine, device
or number of threads to the next it differs by rounding noise. The analysis may round a latent otherwise elsewhere, so
another machine may write another file of the same image, but it reads both.
"""

import hashlib
import json
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from helpers import weights
from helpers.images import check_images
from helpers.networks.entropy import gaussian_counts
from helpers.networks.multi_realism import MULTIPLE, MultiRealism, Prior
from helpers.rescalers import checkpoints
from helpers.rescalers.range_coding import FAR, Reader, Table, Writer, table
from helpers.runtime import pick_device
from helpers.weights import store

EMBEDDED = "multi_realism"  # the checkpoint that comes with the package
MAGIC, VERSION = b"IDMR", 1
HEADER = struct.Struct("<4sBBHH8sII")  # the last number is over all the others and the words
STEPS = 32  # of a rate level
HIGHEST = 2.56  # beta: high realism; 0 is low distortion


def shipped() -> bool:
    """Whether the checkpoint is in this package."""
    return (store.EMBEDDED / f"{EMBEDDED}.safetensors").is_file()


class Codec(NamedTuple):
    """A network, and what reading and writing take besides."""

    network: MultiRealism
    prior: Prior  # its twin in exact arithmetic, on the CPU
    normal: list[Table]  # by place in the scale table
    hyper: list[Table]  # by channel
    digest: bytes  # of weights, configuration and tables


def prepare(network: MultiRealism) -> Codec:
    """Make a codec of a network in eval mode.

    Raises:
        ValueError: weights so large that sums would lose digits.
    """
    prior = network.prior.exact()
    normal = gaussian_counts()
    hyper = prior.bottleneck.counts()
    digest = hashlib.sha256(json.dumps(network.config, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    for counts in (*normal, *(counts for _, counts in hyper)):
        digest.update(counts.numpy().astype("<i8").tobytes())
    tables = [table(-(len(counts) // 2), counts) for counts in normal]
    return Codec(network, prior, tables, [table(*each) for each in hyper], digest.digest()[:8])


def load(file: str | Path = EMBEDDED, *, device: str = "cpu") -> Codec:
    """Load a codec.

    Args:
        file: name of an embedded checkpoint, or a path to one of `training.recipes.export`.
        device: name of a device for the transforms, see `runtime.pick_device`.

    Raises:
        ValueError: the file is missing or is no codec of this kind; no such device.
    """
    state, config, path = checkpoints.read(file)
    try:
        network = MultiRealism(**config)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the configuration of a Multi-Realism codec, got {config}: {error}"
        ) from error
    return prepare(weights.load_into(network, state, path).to(pick_device(device)))


@torch.no_grad()
def encode(codec: Codec, hr: Tensor, level: float = 0.0) -> bytes:
    """Write one image as a file.

    Args:
        codec: of `load` or `prepare`.
        hr: (1, 3, H, W) in [0, 1], any sides up to 65535; padded by its last pixels to multiples of 64.
        level: rate, from 0 for the fewest bits to L - 1 for the most; taken to the nearest 32nd.

    Returns:
        The content of the file; its length is the rate.

    Raises:
        ValueError: `hr` is no such image, or there is no such level.
    """
    padded, rate = _padded(codec, hr, level)
    y, z = (_within(latent.double().cpu()) for latent in codec.network.encode(padded, rate))
    writer, sums, parts = Writer(), _Sum(), y.chunk(codec.prior.slices, 1)

    def put(integers: Tensor, places: np.ndarray, tables: list[Table]) -> None:
        values = sums.add(integers)
        writer.put(values, places, tables)

    def take(number: int, mean: Tensor, place: Tensor) -> Tensor:
        integers = (parts[number] - mean).round()
        put(integers, _flat(place.round()), codec.normal)
        return integers + mean

    put(z := z.round(), _channels(z.shape), codec.hyper)
    codec.prior.walk(z, rate.double().cpu(), y.shape, take)
    words = writer.content()
    head = (MAGIC, VERSION, round(rate.item() * STEPS), *hr.shape[-2:], codec.digest, sums.value)
    return HEADER.pack(*head, zlib.crc32(words, zlib.crc32(HEADER.pack(*head, 0)))) + words


@torch.no_grad()
def estimated_bits(codec: Codec, hr: Tensor, level: float = 0.0) -> float:
    """Bits of an image by the entropy model, without writing a file. Args, Raises: see `encode`."""
    padded, rate = _padded(codec, hr, level)
    return codec.network.compress(padded, rate)[1].item() * padded.shape[2] * padded.shape[3]


@torch.no_grad()
def decode(codec: Codec, content: bytes, beta: float = 0.0, generator: Generator | None = None) -> Tensor:
    """Read the image of a file that `encode` wrote.

    Args:
        codec: the one that wrote it, on any machine.
        content: of the file.
        beta: from 0, low distortion, to 2.56, high realism. The bits are the same.
        generator: not used: the decoder draws nothing, and one file and beta give one image.

    Returns:
        The image in [0, 1], (1, 3, H, W), not rounded to 8 bits.

    Raises:
        ValueError: not such a file, cut or changed, of another model or version; another beta.
    """
    if not isinstance(beta, int | float) or not 0 <= beta <= HIGHEST:
        raise ValueError(f"beta: expected a number from 0 to {HIGHEST}, got {beta!r}")
    network, (step, height, width, expected, words) = codec.network, _opened(codec, content)
    own = next(network.parameters())
    rate = torch.tensor([step / STEPS], dtype=torch.float64)
    rows, columns = (-(-side // MULTIPLE) for side in (height, width))
    reader, sums = Reader(words), _Sum()

    def get(places: np.ndarray, tables: list[Table], shape: torch.Size) -> Tensor:
        integers = torch.from_numpy(reader.take(places, tables)).view(shape).double()
        sums.add(integers)
        return integers

    def take(number: int, mean: Tensor, place: Tensor) -> Tensor:
        return get(_flat(place.round()), codec.normal, mean.shape) + mean

    shape = torch.Size([1, len(codec.hyper), rows, columns])
    sides = [rows * MULTIPLE // 16, columns * MULTIPLE // 16]
    y = codec.prior.walk(get(_channels(shape), codec.hyper, shape), rate, sides, take)
    if sums.value != expected:
        raise ValueError(f"expected integers with checksum {expected:#010x}, as written, found {sums.value:#010x}")
    rate = rate.to(own)
    sr = network.decode(y.to(own), rate, torch.full_like(rate, beta)).clamp(0, 1)
    return sr[..., :height, :width].cpu()


def codec(file: str | Path = EMBEDDED, *, level: float = 0.0, device: str = "cpu") -> tuple[Callable, Callable]:
    """Make the two halves of a codec: `encode(hr)` to bytes, `decode(content, beta, generator)` to an image.

    Args, Raises: see `load`, `encode` and `decode`.
    """
    loaded = load(file, device=device)

    def write(hr: Tensor) -> bytes:
        return encode(loaded, hr, level)

    def read(content: bytes, beta: float = 0.0, generator: Generator | None = None) -> Tensor:
        return decode(loaded, content, beta, generator)

    return write, read


def _padded(codec: Codec, hr: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """The image with sides that are multiples of 64, and its level as the network takes it."""
    check_images(hr)
    height, width = hr.shape[-2:]
    if len(hr) != 1 or max(height, width) >= 1 << 16:
        raise ValueError(f"hr: expected one image with sides below 65536, got {tuple(hr.shape)}")
    highest = codec.network.levels - 1
    if not isinstance(level, int | float) or not 0 <= level <= highest:
        raise ValueError(f"level: expected a number from 0 to {highest}, got {level!r}")
    own = next(codec.network.parameters())
    rate = torch.tensor([round(level * STEPS) / STEPS], dtype=own.dtype, device=own.device)
    return F.pad(hr.to(own), (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate"), rate


def _opened(codec: Codec, content: bytes) -> tuple[int, int, int, int, bytes]:
    """Level in steps, height, width, checksum of the integers, and words of a file that is whole and of this model."""
    if len(content) < HEADER.size:
        raise ValueError(f"expected a file of at least {HEADER.size} bytes, found {len(content)}")
    magic, version, step, height, width, digest, integers, whole = HEADER.unpack_from(content)
    if magic != MAGIC:
        raise ValueError(f"expected a file that begins with {MAGIC!r}, found {magic!r}")
    if version != VERSION:
        raise ValueError(f"expected version {VERSION} of the format, found {version}")
    words = content[HEADER.size :]
    head = HEADER.pack(magic, version, step, height, width, digest, integers, 0)
    if (found := zlib.crc32(words, zlib.crc32(head))) != whole:
        raise ValueError(f"expected checksum {whole:#010x}, found {found:#010x}: the file was cut or changed")
    if digest != codec.digest:
        raise ValueError(f"expected a file of model {codec.digest.hex()}, found one of model {digest.hex()}")
    if min(height, width) < 1 or step > STEPS * (codec.network.levels - 1):
        raise ValueError(
            f"expected sides of at least 1 and a known level, found {height} x {width}, level {step}/{STEPS}"
        )
    return step, height, width, integers, words


class _Sum:
    """CRC-32 of integers in the order in which they are written."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, integers: Tensor) -> np.ndarray:
        values = integers.long().numpy().ravel()
        self.value = zlib.crc32(values.astype("<i4").tobytes(), self.value)
        return values


def _within(latent: Tensor) -> Tensor:
    """Latents that the coder has numbers for, whatever the image is."""
    return latent.clamp(1 - FAR // 2, FAR // 2 - 1)


def _flat(places: Tensor) -> np.ndarray:
    return places.long().numpy().ravel()


def _channels(shape: torch.Size) -> np.ndarray:
    """The channel of each entry of a hyper-latent, flat."""
    return np.repeat(np.arange(shape[1]), math.prod(shape[2:]))
