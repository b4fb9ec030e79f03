"""Upscalers f_us that draw from a conditional flow, and the deterministic control.

`upscale(lr, generators) -> sr`: one LR image and Q generators give Q samples, drawn in one batch. `embedded_flow` comes
with the repository, `srflow` needs the official weights; `bicubic` passes every test of monotonicity and yet misranks
downscalers.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Generator, Tensor

from helpers import weights
from helpers.images import check_draws
from helpers.networks import srflow as srflow_network
from helpers.networks.compact_flow import CompactFlow
from helpers.runtime import pick_device

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}
TILE, MARGIN = 1024, 16  # HR pixels of a tile's side, and LR pixels around it that its middle may depend on


def draw_latents(shapes: Sequence[tuple[int, ...]], generators: Sequence[Generator], heat: float) -> list[Tensor]:
    """Draw the latents of a batch of samples, each from its own CPU generator.

    Args:
        shapes: of one sample's latents, as `network.latent_shapes(h, w)` returns them.
        generators: one a sample; sample q depends on generator q alone.
        heat: standard deviation of every latent (SRFlow's word; 0 is deterministic).

    Returns:
        One tensor (Q, *shape) per shape, on the CPU.
    """
    samples = [[torch.randn(shape, generator=g) for shape in shapes] for g in generators]
    return [heat * torch.stack(latent) for latent in zip(*samples, strict=True)]


def load_compact_flow(scale: int, device: str | torch.device = "cpu", variant: str = "") -> CompactFlow:
    """Load the embedded flow for `scale`, in eval mode; its configuration is read from the file itself.

    Args:
        scale: s.
        device: where to put it.
        variant: "" is the default, trained on bicubic LR images, at x4 and x8 with a score of its draws at the end
            (`helpers.training.energy`); "first" is what these two were before that, by likelihood alone; "mixed" went
            on from the default with LR images of several downscalers (x4).

    Raises:
        ValueError: no such flow is embedded for this scale.
    """
    path = weights.embedded(f"compact_flow_x{scale}" + (f"_{variant}" if variant else ""))
    with safe_open(path, "pt") as file:
        config = {key: _parse(value) for key, value in file.metadata().items() if key in CompactFlow.CONFIG}
    network = CompactFlow(**config)
    network.load_state_dict(weights.load_state(path))
    return network.to(device, memory_format=torch.channels_last).eval()


def _parse(text: str) -> float | int | list[int]:
    if text.startswith("["):
        return [int(part) for part in text.strip("[]").split(",")]
    return int(text) if text.isdigit() else float(text)


def load_srflow(file: str, device: str | torch.device = "cpu") -> srflow_network.SRFlow:
    """Load SRFlow with its official weights, in eval mode.

    Args:
        file: the weights, "SRFlow_DF2K_4X", "SRFlow_DF2K_8X" or "SRFlow_CelebA_8X" of `weights.WEIGHTS`.
        device: where to put it.

    Raises:
        ValueError: the weights are not there; says where to put them.
    """
    network = srflow_network.build(file.removeprefix("SRFlow_").lower())
    network.load_state_dict(srflow_network.strip_prefix(weights.load_state(weights.fetch(file))), strict=True)
    return network.to(device).eval()


def check_precision(precision: str = "float32") -> None:
    """Refuse a precision that is none of `PRECISIONS`, with a ValueError."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")


def embedded_flow(
    *, scale: int, heat: float = 1.0, device: str = "cpu", variant: str = "", precision: str = "float32"
) -> Callable:
    """f_us: the compact flow that comes with the repository (x2, x4, x8), trained on bicubic LR photographs.

    Args:
        scale: s.
        heat: standard deviation of the latents.
        device: name of a device, see `runtime.pick_device`.
        variant: of the flow, see `load_compact_flow`.
        precision: "bf16" computes the convolutions of encoder and coupling nets with 8 bits of mantissa, which is
            faster where the processor has units for it (AMX, AVX512-BF16, a GPU) and slower elsewhere. Latents, flow
            and SR images stay float32. Draws differ a little, also between processors.

    Returns:
        `upscale(lr, generators)`: lr (1, 3, h, w) in [0, 1], or one LR image per generator, (Q, 3, h, w), and Q
        generators to (Q, 3, s h, s w), not clipped, on the device of `lr`. An HR side above `TILE` is drawn in tiles,
        see `in_tiles`: memory is bounded, whatever the size.

    Raises:
        ValueError: no flow is embedded for this scale, or no such device or precision.
    """
    check_precision(precision)
    device = pick_device(device)
    network = load_compact_flow(scale, device, variant)

    def decode(lr: Tensor, latents: list[Tensor]) -> Tensor:
        with torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "float32"):
            return network.sample(lr, latents) if max(lr.shape[-2:]) * scale <= TILE else in_tiles(network, lr, latents)

    return partial(_sample, decode, network.latent_shapes, heat, device)


def in_tiles(network: CompactFlow, lr: Tensor, latents: list[Tensor], tile: int = TILE, margin: int = MARGIN) -> Tensor:
    """`network.sample`, one tile and one draw at a time: the same images up to float rounding, in bounded memory.

    The latents are those of the whole image. A tile is computed with `margin` LR pixels more on each side, beyond which
    nothing that matters reaches into it.

    Args:
        network: a compact flow.
        lr: one LR image, (1, 3, h, w), or one a draw, (Q, 3, h, w).
        latents: of the whole image, see `CompactFlow.decode`.
        tile: HR pixels of a tile's side, a multiple of s.
        margin: LR pixels.

    Returns:
        SR images, (Q, 3, s h, s w), not clipped.
    """
    scale, (height, width), count = network.scale, lr.shape[-2:], len(latents[0])
    step = tile // scale
    sr = lr.new_empty(count, 3, scale * height, scale * width, dtype=torch.float32)
    for top in range(0, height, step):
        for left in range(0, width, step):
            ends = min(top + step, height), min(left + step, width)
            (up, first), (down, last) = (max(0, at - margin) for at in (top, left)), (end + margin for end in ends)
            shared = network.encoder(lr[..., up:down, first:last]) if len(lr) == 1 else None
            for q in range(count):
                features, mean = shared or network.encoder(lr[q : q + 1, :, up:down, first:last])
                near = []
                for latent in latents:
                    f = latent.shape[-2] // height
                    near.append(latent[q : q + 1, :, f * up : f * down, f * first : f * last])
                found, _ = network.draw(features, mean, near, wanted=False)
                inner = found[..., scale * (top - up) :, scale * (left - first) :]
                place = sr[q, :, scale * top : scale * ends[0], scale * left : scale * ends[1]]
                place.copy_(inner[0, :, : place.shape[1], : place.shape[2]])
    return sr


def srflow(*, file: str, scale: int, heat: float = 1.0, device: str = "cpu") -> Callable:
    """f_us: SRFlow with its official weights.

    LR sides are padded to even sizes by reflection at the bottom and right and the SR image cropped, as SRFlow's
    own test script does. The IDA-RD notebook samples DF2K_4X at heat 1.1 and CelebA_8X at heat 1.0.

    Args:
        file: the weights, see `load_srflow`.
        scale, heat, device: see `embedded_flow`; the scale is the network's own.

    Returns:
        The same as `embedded_flow`.

    Raises:
        ValueError: no such device; or the weights are not there, then it says where to put them.
    """
    return srflow_by(load_srflow(file, pick_device(device)), scale=scale, heat=heat, device=device)


def srflow_by(network: srflow_network.SRFlow, *, scale: int, heat: float = 1.0, device: str = "cpu") -> Callable:
    """f_us: `srflow` by a network that is loaded, or of fresh weights, in eval mode on `device`."""
    device = pick_device(device)
    sampler = srflow_network.Sampler(network)

    def even(lr: Tensor, latents: list[Tensor]) -> Tensor:
        if len(lr) > 1:  # the sampler shares what one LR image needs between its samples
            each = [[latent[q : q + 1] for latent in latents] for q in range(len(lr))]
            return torch.cat([even(one, own) for one, own in zip(lr.split(1), each, strict=True)])
        return sampler(srflow_network.pad_to_multiple(lr), latents)

    def shapes(height: int, width: int) -> list[tuple[int, ...]]:
        return network.latent_shapes(height + height % 2, width + width % 2)

    return partial(_sample, even, shapes, heat, device, scale=scale)


def bicubic(*, scale: int, heat: float = 0.0, device: str = "cpu") -> Callable:
    """Control: bicubic interpolation (a = -0.75), the same image for every generator; it has no latents to heat.

    Raises:
        ValueError: no such device.
    """
    device = pick_device(device)

    def interpolate(lr: Tensor, latents: list[Tensor]) -> Tensor:
        sr = F.interpolate(lr, scale_factor=scale, mode="bicubic", align_corners=False)
        return sr if len(lr) > 1 else sr.expand(len(latents[0]), -1, -1, -1)

    return partial(_sample, interpolate, lambda height, width: [(0,)], heat, device)


@torch.no_grad()
def _sample(decode, shapes, heat, device, lr, generators, *, scale=None) -> Tensor:
    generators = check_draws(lr, generators)
    height, width = lr.shape[-2:]
    latents = draw_latents(shapes(height, width), generators, heat)
    sr = decode(lr.to(device, torch.float32), [latent.to(device) for latent in latents])
    sr = sr if scale is None else sr[..., : scale * height, : scale * width]
    return sr.to(lr.device)
