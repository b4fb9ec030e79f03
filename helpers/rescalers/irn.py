"""IRN, T-IRN and a variant of IRN with a second latent ("DLV-style") as rescalers.

IRN: Xiao et al., ECCV 2020, IJCV 2022; T-IRN: Bao et al., AAAI 2025; see `helpers.networks.irn` and `tirn`. DLV-style
is ours, after the abstract of arXiv 2207.11844, of which no code is public: a latent v beside the upscaling one moves
the LR image between a soft and a sharp kernel, so that one HR image has many LR images, and the upscaler, which is not
told v, reads them all.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from helpers.images import check_draws, check_hr
from helpers.networks.invertible_layers import quantize_through
from helpers.networks.irn import IRN
from helpers.networks.tirn import TIRN
from helpers.rescalers import checkpoints
from helpers.runtime import as_generators, pick_device

Pair = tuple[Callable[..., Tensor], Callable[..., Tensor]]


def configuration(state: Mapping[str, Tensor]) -> dict:
    """Scale, blocks, width and second latent of the IRN that has these tensors; the clamp leaves no trace in them.

    Raises:
        ValueError: they are none of IRN's.
    """
    if "operations.1.F.conv1.bias" not in state:
        raise ValueError(f"expected the tensors of IRN, got others, such as {next(iter(state), 'none at all')}")
    places = sorted({int(name.split(".")[1]) for name in state if name.startswith("operations.")})
    starts = [k for k in places if f"operations.{k}.F.conv1.bias" not in state]  # Haar, or the learned downsampling
    learned = state.get("operations.0.conv_weights")
    kernel = state.get("kernel.conv5.bias")
    return {
        "scale": 2 ** len(starts) if learned is None else round(len(learned) ** 0.5),
        "blocks": [end - start - 1 for start, end in zip(starts, [*starts[1:], places[-1] + 1], strict=True)],
        "growth": len(state["operations.1.F.conv1.bias"]),
        "extra": 0 if kernel is None else len(kernel) // 3,
    }


def configuration_tirn(state: Mapping[str, Tensor]) -> dict:
    """Scale, blocks and width of the T-IRN that has these tensors.

    Raises:
        ValueError: they are none of T-IRN's.
    """
    if "down_operations.0.L.conv1.bias" not in state:
        raise ValueError(f"expected the tensors of T-IRN, got others, such as {next(iter(state), 'none at all')}")
    levels = [level for level in ("down_operations", "down_operations_2") if f"{level}.0.L.conv1.bias" in state]
    return {
        "scale": 2 ** len(levels),
        "blocks": [len({name.split(".")[1] for name in state if name.split(".")[0] == level}) for level in levels],
        "growth": len(state["down_operations.0.L.conv1.bias"]),
    }


def load(file: str | Path, *, family: str = "irn", device: str | torch.device = "cpu", **expected) -> nn.Module:
    """Load an IRN or T-IRN of any width, in eval mode.

    Args:
        file: a key of `weights.WEIGHTS`, the name of an embedded checkpoint, or a path.
        family: "irn" or "tirn".
        device: where to put it.
        expected: what its configuration must have, such as `scale=4, blocks=[8, 8], growth=32`.

    Raises:
        ValueError: the file is missing, is another network, or one of another configuration; names both.
    """
    make, read = {"irn": (IRN, configuration), "tirn": (TIRN, configuration_tirn)}[family]
    return checkpoints.load(file, make, read, device=device, **expected)


def rescaler(
    file: str | Path,
    *,
    family: str = "irn",
    scale: int | None = None,
    heat: float = 0.0,
    v: float = 0.0,
    device: str = "cpu",
    **expected,
) -> Pair:
    """Make the pair of a checkpoint.

    Args:
        file, family, expected: see `load`.
        scale: that it must have; None takes any.
        heat: standard deviation of the upscaling latent; IRN's authors take 1, T-IRN and our small networks 0.
        v: the downscaling latent of a DLV-style network, -1 soft to 1 sharp.
        device: name of a device, see `runtime.pick_device`.

    Returns:
        `downscale(hr)`: (N, 3, H, W) in [0, 1], sides multiples of s, to 8-bit levels (N, 3, H / s, W / s);
        `downscale(hr, generators)` draws v from N(0, 1), one number an image, if the network has it.
        `upscale(lr, generators)`: one LR image, or one for each of Q CPU generators, to (Q, 3, s h, s w), not clipped;
        sample q depends on generator q alone.

    Raises:
        ValueError: see `load`; no such device.
    """
    if scale is not None:
        expected["scale"] = scale
    return pair(load(file, family=family, device=pick_device(device), **expected), heat=heat, v=v)


def pair(network: nn.Module, *, heat: float = 0.0, v: float = 0.0) -> Pair:
    """The two halves of a network. Args and Returns: see `rescaler`.

    Raises:
        ValueError: a `v` for a network that has none.
    """
    device, extra = next(network.parameters()).device, getattr(network, "extra", 0)
    if v and not extra:
        raise ValueError(f"v: expected 0 for a network without downscaling latent, got {v}")
    encoder = checkpoints.exact(network)

    @torch.no_grad()
    def downscale(hr: Tensor, generators: Generator | Sequence[Generator] | None = None) -> Tensor:
        check_hr(hr, network.scale)
        own = hr.to(next(encoder.parameters()))
        if not extra and generators is None:
            return quantize_through(encoder.encode(own)[0]).to(hr)
        if not extra:
            raise ValueError("generators: expected none for a network without downscaling latent")
        values = torch.full((len(hr),), float(v)) if generators is None else normal((), generators, len(hr))
        sizes = [side // network.scale for side in hr.shape[-2:]]
        latent = values.view(-1, 1, 1, 1).expand(-1, extra, *sizes).to(own)
        return quantize_through(encoder.encode(own, latent)[0]).to(hr)

    @torch.no_grad()
    def upscale(lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
        count = len(check_draws(lr, generators))
        [shape] = network.latent_shapes(*lr.shape[-2:])
        z = heat * normal(shape, generators, count) if heat else torch.zeros(count, *shape)
        channels = torch.cat([lr.to(device).expand(count, -1, -1, -1), z.to(device, lr.dtype)], 1)
        return network.decode(channels).to(lr.device)

    return downscale, upscale


def normal(shape: Sequence[int], generators: Generator | Sequence[Generator], count: int) -> Tensor:
    """Draw N(0, 1) numbers (count, *shape) on the CPU, entry n from generator n.

    Raises:
        ValueError: another number of generators.
    """
    generators = as_generators(generators)
    if len(generators) != count:
        raise ValueError(f"generators: expected {count}, one an image, got {len(generators)}")
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])
