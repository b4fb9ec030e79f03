"""HyperThumbnail as a rescaler: the LR image is a JPEG file, whose coefficients its upscaler reads.

Qi, Yang et al., CVPR 2023, arXiv 2304.01064; see `helpers.networks.hyperthumbnail`. The file is JPEG 4:4:4 with the
predicted tables. Pillow cannot write given coefficients, it would compute them anew from 8-bit pixels; so
`jpeg_files` writes them.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from helpers.images import check_draws, check_hr, from_uint8
from helpers.networks.hyperthumbnail import HyperThumbnail, released_names
from helpers.rescalers import checkpoints, jpeg_files
from helpers.runtime import pick_device

FILE = "HyperThumbnail_4x"  # the official checkpoint


def configuration(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Scale, widths and depths of the HyperThumbnail that has these tensors.

    Raises:
        ValueError: they are none of HyperThumbnail's.
    """
    names = ("encoder.conv_first.weight", "decoder.conv_first.weight", "table_predictor.MLPs.0.final_linear.weight")
    if any(name not in state for name in names):
        raise ValueError(
            f"expected the tensors of HyperThumbnail, got others, such as {next(iter(state), 'none at all')}"
        )
    places = {name.rsplit(".", 1)[0] for name in state}
    encoder, decoder, predictor = (state[name].shape for name in names)
    return {
        "scale": 2 ** sum(place.startswith("decoder.upsample.") for place in places),
        "width": encoder[0],
        "depth": sum(place.startswith("encoder.up_list.") and place.endswith(".rdb.conv1") for place in places),
        "features": decoder[0],
        "blocks": sum(place.startswith("decoder.body.") and place.endswith(".conv1") for place in places),
        "hidden": predictor[1],
    }


def load(file: str | Path = FILE, *, scale: int | None = None, device: str | torch.device = "cpu") -> HyperThumbnail:
    """Load a HyperThumbnail of any width, in eval mode.

    Args:
        file: `FILE`, the name of an embedded checkpoint, or a path.
        scale: that it must have; None takes any.
        device: where to put it.

    Raises:
        ValueError: the file is missing, is no HyperThumbnail, or one of another scale.
    """
    wanted = {} if scale is None else {"scale": scale}
    return checkpoints.load(file, HyperThumbnail, configuration, rename=released_names, device=device, **wanted)


@torch.no_grad()
def compress(network: HyperThumbnail, hr: Tensor) -> bytes:
    """Write the LR image of one HR image as a JPEG file.

    Args:
        network: in eval mode.
        hr: (1, 3, H, W) in [0, 1], sides multiples of s; see `HyperThumbnail.pad` for what is too small.

    Returns:
        The content of the file; the picture in it has H / s x W / s pixels.

    Raises:
        ValueError: `hr` is no such image.
    """
    check_hr(hr, network.scale)
    if len(hr) != 1:
        raise ValueError(f"hr: expected one image, got {len(hr)}")
    coefficients, tables = network.integers(hr.to(next(network.parameters())))
    height, width = (side // network.scale for side in hr.shape[-2:])
    return jpeg_files.write(coefficients[0].cpu().numpy(), tables[0].cpu().numpy(), height, width)


@torch.no_grad()
def decompress(network: HyperThumbnail, content: bytes) -> Tensor:
    """The HR image, (1, 3, s h, s w), not clipped, of a file that `compress` wrote.

    Raises:
        ValueError: another kind of file.
    """
    coefficients, tables, height, width = jpeg_files.read(content)
    own = next(network.parameters())
    coefficients, tables = (torch.from_numpy(array)[None].to(own) for array in (coefficients, tables))
    return network.from_integers(coefficients, tables)[1][..., : network.scale * height, : network.scale * width]


def shown(content: bytes) -> Tensor:
    """What a viewer shows of a file, by Pillow: 8-bit levels, (1, 3, h, w)."""
    return from_uint8(torch.from_numpy(np.array(Image.open(io.BytesIO(content)))).permute(2, 0, 1)[None])


def rescaler(
    file: str | Path = FILE, *, scale: int | None = None, device: str = "cpu"
) -> tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]:
    """Make the pair of a checkpoint.

    Args:
        file, scale: see `load`.
        device: name of a device, see `runtime.pick_device`.

    Returns:
        `downscale(hr)`: (N, 3, H, W) in [0, 1], sides multiples of s, to 8-bit levels (N, 3, H / s, W / s): what
        Pillow shows of the JPEG file.
        `upscale(lr, generators)`: one LR image, or one for each of Q generators, which are not used: it draws nothing.
        Returns (Q, 3, s h, s w), not clipped. Pixels are all it gets, so it computes the coefficients from them; what
        the file has beyond, fractions of a level and colours out of gamut, only `decompress` reads.

    Raises:
        ValueError: see `load`; no such device.
    """
    return pair(load(file, scale=scale, device=pick_device(device)))


def pair(network: HyperThumbnail) -> tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]:
    """The two halves of a network. Returns: see `rescaler`."""
    own, encoder = next(network.parameters()), checkpoints.exact(network)

    def downscale(hr: Tensor) -> Tensor:
        check_hr(hr, network.scale)
        return torch.cat([shown(compress(encoder, image)) for image in hr.split(1)]).to(hr)

    @torch.no_grad()
    def upscale(lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
        count = len(check_draws(lr, generators))
        height, width = lr.shape[-2:]
        padded = F.pad(lr.to(own), (0, -width % 8, 0, -height % 8), mode="replicate")
        streams = network.streams(padded)
        sr = network.expand(streams, padded.shape[2] // 8)[2][..., : network.scale * height, : network.scale * width]
        return sr.expand(count, -1, -1, -1).to(lr.device)

    return downscale, upscale
