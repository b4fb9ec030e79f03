"""SAIN as a rescaler: an LR image that survives a codec, and the upscaler that expects one to have been there.

Yang et al., AAAI 2023, arXiv 2303.02353; see `helpers.networks.sain`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from helpers.images import check_draws, check_hr, quantize
from helpers.networks.sain import SAIN
from helpers.rescalers import checkpoints, codecs
from helpers.runtime import pick_device

FILES = {"SAINx2_JPEG": 2, "SAINx2_WebP": 2, "SAINx4_JPEG": 4}  # official checkpoints, and their scales


def configuration(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Scale, numbers of blocks, width and components of the SAIN that has these tensors.

    Raises:
        ValueError: they are none of SAIN's.
    """
    growth, mixture = state.get("down_operations.0.E.conv1.bias"), state.get("gmm.gmm_para")
    if growth is None or mixture is None or mixture.ndim != 2:
        raise ValueError(f"expected the tensors of SAIN, got others, such as {next(iter(state), 'none at all')}")
    places = {tuple(name.split(".")[:2]) for name in state}
    haar, down, comp = (sum(kind == f"{part}_operations" for kind, *_ in places) for part in ("haar", "down", "comp"))
    sizes = {"growth": len(growth), "components": mixture.shape[1]}
    return {"scale": 2**haar, "e_blocks": down, "v_blocks": comp, **sizes}


def load(file: str | Path, *, scale: int | None = None, device: str | torch.device = "cpu") -> SAIN:
    """Load a SAIN of any width, in eval mode.

    Args:
        file: a key of `FILES`, the name of an embedded checkpoint, or a path.
        scale: that it must have; None takes any.
        device: where to put it.

    Raises:
        ValueError: the file is missing, is no SAIN, or one of another scale.
    """
    wanted = {} if scale is None else {"scale": scale}
    return checkpoints.load(file, SAIN, configuration, device=device, **wanted)


def rescaler(
    file: str | Path,
    *,
    scale: int | None = None,
    codec: str = "",
    quality: int = 75,
    heat: float = 1.0,
    device: str = "cpu",
) -> tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]:
    """Make the pair of a checkpoint; what is missing for it is said here, before any image.

    Args:
        file, scale: see `load`.
        codec: "" for an LR image in 8 bits; "jpeg" or "webp" compress it besides, see `codecs.codec`.
        quality: of the codec.
        heat: factor of the latents; 1 draws them as in training, 0 has none.
        device: name of a device, see `runtime.pick_device`.

    Returns:
        `downscale(hr)`: (N, 3, H, W) in [0, 1], sides multiples of s, to 8-bit levels (N, 3, H / s, W / s).
        `upscale(lr, generators)`: one LR image, or one for each of Q CPU generators, to (Q, 3, s h, s w), not clipped;
        sample q depends on generator q alone.

    Raises:
        ValueError: see `load`, `codecs.codec`; no such device.
    """
    compress = codecs.codec(codec, quality) if codec else None
    device = pick_device(device)
    return pair(load(file, scale=scale, device=device), compress=compress, heat=heat)


def pair(
    network: SAIN, *, compress: Callable[[Tensor], Tensor] | None = None, heat: float = 1.0
) -> tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]:
    """The two halves of a network. Args and Returns: see `rescaler`; `compress` maps 8-bit images to 8-bit images."""
    device, encoder = next(network.parameters()).device, checkpoints.exact(network)

    @torch.no_grad()
    def downscale(hr: Tensor) -> Tensor:
        check_hr(hr, network.scale)
        lr = quantize(encoder.encode(hr.to(next(encoder.parameters())))[0]).to(hr)
        return lr if compress is None else compress(lr).to(hr)

    @torch.no_grad()
    def upscale(lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
        generators = check_draws(lr, generators)
        [shape] = network.latent_shapes(*lr.shape[-2:])
        z = heat * network.gmm.draw(shape, generators)
        channels = torch.cat([lr.to(device).expand(len(generators), -1, -1, -1), z], 1)
        return network.decode(channels).to(lr.device)

    return downscale, upscale
