"""Blind upscalers f_us: `upscale(lr, generator) -> sr`; a list of generators draws one sample each, in one batch.

The stochastic ones are conditional flows (the embedded compact flow, and SRFlow with its official weights) and searches
in a generator of faces (PULSE with the embedded generator, or with the official one). `bicubic` is the deterministic
control: it passes every monotonicity test and yet misranks downscalers. A name such as
"embedded_flow_x8+embedded_flow_x4" is a cascade: each stage upscales the draws of the one before; a name such as
"embedded_pulse(f_ds=true,steps=100)" has options.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Generator, Tensor

from helpers import files, generators, weights
from helpers.images import check_images, quantize
from helpers.networks import srflow as srflow_network
from helpers.networks.compact_flow import CompactFlow
from helpers.runtime import pick_device
from helpers.upscalers import pulse, pulse_options

SRFLOW = {  # configuration, scale, weights
    "srflow_df2k_4x": ("df2k_4x", 4, "SRFlow_DF2K_4X"),
    "srflow_df2k_8x": ("df2k_8x", 8, "SRFlow_DF2K_8X"),
    "srflow_celeba_8x": ("celeba_8x", 8, "SRFlow_CelebA_8X"),
}


def draw_latents(shapes: Sequence[tuple[int, ...]], generators: Sequence[Generator], heat: float) -> list[Tensor]:
    """Latents of a batch of samples, each from its own CPU generator.

    Args:
        shapes: of one sample's latents, as `network.latent_shapes(h, w)`.
        generators: one a sample; sample q depends on generator q alone.
        heat: standard deviation of every latent (SRFlow's word; 0 is deterministic).

    Returns:
        One tensor (Q, *shape) per shape, on the CPU.
    """
    samples = [[torch.randn(shape, generator=g) for shape in shapes] for g in generators]
    return [heat * torch.stack(latent) for latent in zip(*samples, strict=True)]


def load_compact_flow(scale: int, device: str | torch.device = "cpu", variant: str = "") -> CompactFlow:
    """The embedded flow for `scale`, in eval mode; its configuration is read from the file itself.

    Args:
        scale: s.
        device: where to put it.
        variant: "" was trained on bicubic LR images, "mixed" on those of several downscalers (x4 alone).

    Raises:
        ValueError: no such flow is embedded for this scale.
    """
    path = weights.embedded(_compact_flow(scale, variant))
    with safe_open(path, "pt") as file:
        config = {key: _parse(value) for key, value in file.metadata().items() if key in CompactFlow.CONFIG}
    network = CompactFlow(**config)
    network.load_state_dict(weights.load_state(path))
    return network.to(device, memory_format=torch.channels_last).eval()


def _compact_flow(scale: int, variant: str) -> str:
    return f"compact_flow_x{scale}" + (f"_{variant}" if variant else "")


def _parse(text: str) -> float | int | list[int]:
    if text.startswith("["):
        return [int(part) for part in text.strip("[]").split(",")]
    return int(text) if text.isdigit() else float(text)


def embedded_flow(*, scale: int, heat: float = 1.0, device: str = "cpu", variant: str = "") -> Callable:
    """f_us: the compact flow that comes with the repository (x2, x4, x8), trained on bicubic LR photographs.

    Args:
        scale: s.
        heat: standard deviation of the latents.
        device: as `runtime.pick_device`.
        variant: as `load_compact_flow`.

    Returns:
        `upscale(lr, generators)`: lr (1, 3, h, w) in [0, 1], or one LR image per generator, (Q, 3, h, w), and Q
        generators to (Q, 3, s h, s w), not clipped.

    Raises:
        ValueError: no flow is embedded for this scale, or no such device.
    """
    device = pick_device(device)
    network = load_compact_flow(scale, device, variant)
    return partial(_sample, lambda lr, latents: network.decode(lr, latents)[0], network.latent_shapes, heat, device)


def srflow(*, name: str, scale: int, heat: float = 1.0, device: str = "cpu") -> Callable:
    """f_us: SRFlow with the official weights, which are fetched or found by `helpers.weights`.

    LR sides are padded to even sizes by reflection at the bottom and right and the SR image cropped, as SRFlow's
    own test script does. The IDA-RD notebook samples DF2K_4X at heat 1.1 and CelebA_8X at heat 1.0.

    Args:
        name: "srflow_df2k_4x", "srflow_df2k_8x" or "srflow_celeba_8x".
        scale, heat, device: as `embedded_flow`.

    Returns:
        As `embedded_flow`.

    Raises:
        ValueError: the network has another scale, or no such device.
        ValueError: the weights are not there; says where to put them.
    """
    config, its_scale, file = SRFLOW[name]
    if scale != its_scale:
        raise ValueError(f"{name}: expected scale {its_scale}, got {scale}")
    device = pick_device(device)
    network = srflow_network.build(config)
    network.load_state_dict(srflow_network.strip_prefix(weights.load_once(weights.fetch(file))), strict=True)
    sampler = srflow_network.Sampler(network.to(device).eval())

    def even(lr: Tensor, latents: list[Tensor]) -> Tensor:
        if len(lr) > 1:  # the sampler shares what one LR image needs between its samples
            each = [[latent[q : q + 1] for latent in latents] for q in range(len(lr))]
            return torch.cat([even(one, own) for one, own in zip(lr.split(1), each, strict=True)])
        return sampler(srflow_network.pad_to_multiple(lr), latents)

    def shapes(height: int, width: int) -> list[tuple[int, ...]]:
        return network.latent_shapes(height + height % 2, width + width % 2)

    return partial(_sample, even, shapes, heat, device, scale=scale)


def bicubic(*, scale: int, heat: float = 0.0, device: str = "cpu") -> Callable:
    """Control: bicubic interpolation (a = -0.75), the same image for every generator.

    Raises:
        ValueError: a heat other than 0 is asked of a deterministic upscaler, or no such device.
    """
    if heat:
        raise ValueError(f"bicubic interpolation has no latents: expected heat 0, got {heat}")
    device = pick_device(device)

    def interpolate(lr: Tensor, latents: list[Tensor]) -> Tensor:
        sr = F.interpolate(lr, scale_factor=scale, mode="bicubic", align_corners=False)
        return sr if len(lr) > 1 else sr.expand(len(latents[0]), -1, -1, -1)

    return partial(_sample, interpolate, lambda height, width: [(0,)], heat, device)


@torch.no_grad()
def _sample(decode, shapes, heat, device, lr, generators, *, scale=None) -> Tensor:
    check_images(lr, name="lr")
    generators = [generators] if isinstance(generators, Generator) else list(generators)
    if len(lr) not in (1, len(generators)):
        raise ValueError(f"lr: expected one LR image, or one for each of {len(generators)} draws, got {len(lr)}")
    height, width = lr.shape[-2:]
    latents = draw_latents(shapes(height, width), generators, heat)
    sr = decode(lr.to(device), [latent.to(device) for latent in latents])
    return sr if scale is None else sr[..., : scale * height, : scale * width]


def search(
    *, name: str, scale: int, heat: float = 1.0, device: str = "cpu", f_ds: str = "bicubic", **options
) -> Callable:
    """f_us: PULSE, Eq. 4 of Liang et al. (CVPR 2024); images of faces alone, of the size that the generator draws.

    Args:
        name: "embedded_pulse" or "pulse".
        scale: s.
        heat: the starts lie on a sphere of fixed radius; 1.
        device: as `runtime.pick_device`.
        f_ds: what the samples must agree with the LR image through, as `pulse_options.F_DS`: "bicubic" (PULSE's
            proxy, whatever made the LR image), "true" (what made it, which needs a gradient) or "straight-through"
            (what made it, with the gradient of the proxy).
        options: as `pulse_options.parse_options`.

    Returns:
        `upscale(lr, generators, downscale=None, on_result=None)`: as `pulse.upscaler`. `downscale(hr, scale)` made the
        LR image; `on_result` is called with the `pulse.Result` of each call.

    Raises:
        ValueError: another heat, a scale that does not divide the generator's size, no such device, an official file
            is not there; and when it is called: images of another size, or no `downscale` where f_ds needs it.
    """
    _check_radius(name, heat)
    network = SEARCHES[name](device)
    settings = pulse_options.settings(options)
    pulse.upscaler(network, scale=scale)  # refuses the scale

    def upscale(
        lr: Tensor,
        generators: Generator | Sequence[Generator],
        *,
        downscale: Callable | None = None,
        on_result: Callable[[pulse.Result], None] | None = None,
    ) -> Tensor:
        if f_ds != "bicubic" and downscale is None:
            raise ValueError(f"{name}: f_ds={f_ds} needs the downscaler: upscale(lr, generators, downscale=f)")
        inside = pulse_options.F_DS[f_ds](downscale)
        return pulse.upscaler(network, scale=scale, on_result=on_result, f_ds=inside, **settings)(lr, generators)

    return upscale


SEARCHES: dict[str, Callable] = {
    "embedded_pulse": generators.embedded_generator,
    "pulse": generators.official_generator,
}
UPSCALERS: dict[str, Callable] = {
    "embedded_flow": embedded_flow,
    "embedded_flow_mixed": partial(embedded_flow, variant="mixed"),
    **{name: partial(srflow, name=name) for name in SRFLOW},
    "bicubic": bicubic,
    **{name: partial(search, name=name) for name in SEARCHES},
}


def split(name: str) -> tuple[str, dict]:
    """The key of `UPSCALERS` and its options; a name without options, or that of a cascade, is returned whole.

    Raises:
        ValueError: options of an upscaler that has none, of a stage of a cascade, or impossible ones.
    """
    key, opened, text = "".join(name.split()).partition("(")
    if not opened:
        return name, {}
    if key not in SEARCHES or not text.endswith(")") or "(" in text:
        raise ValueError(f"upscaler: expected options as in embedded_pulse(steps=100), alone, got {name!r}")
    return key, pulse_options.parse_options(text[:-1])


def normalised(name: str) -> str:
    """The name that the rows have: options sorted, without spaces, equal values written alike."""
    key, options = split(name)
    return f"{key}({pulse_options.format_options(options)})" if options else key


def searches(name: str) -> bool:
    """Whether an upscaler is a search, whose samples have a residual and may have converged."""
    return split(name)[0] in SEARCHES


def stages(name: str, scale: int, heat: float | str = 1.0) -> list[tuple[str, int, float]]:
    """What an upscaler's name means: (key of `UPSCALERS`, its scale, its heat) for each stage; see `split` for options.

    Args:
        name: a key of `UPSCALERS`, perhaps with options, or a cascade of those without: keys joined by "+", each
            followed by "_x" and its scale where the key does not fix it ("embedded_flow_x8+embedded_flow_x4",
            "srflow_celeba_8x+srflow_df2k_4x").
        scale: s, of all stages together.
        heat: one for all stages, or one each, "1.0+0.1" (the official notebook's for x32).

    Raises:
        ValueError: an unknown stage, scales whose product is not `scale`, or another number of heats.
    """
    parts = _parts(name, scale)
    try:
        heats = [float(each) for each in str(heat).split("+")]
    except ValueError:
        heats = []
    heats = heats * len(parts) if len(heats) == 1 else heats
    if len(heats) != len(parts):
        raise ValueError(f"heat: expected a number, or {len(parts)} joined by '+' for {name}, got {heat!r}")
    if parts[0][0] in SEARCHES:
        _check_radius(name, heats[0])
    return [(key, factor, each) for (key, factor), each in zip(parts, heats, strict=True)]


def _parts(name: str, scale: int) -> list[tuple[str, int]]:
    """The key and the scale of each stage."""
    whole, _ = split(name)
    parts = [whole] if whole in UPSCALERS else whole.split("+")
    found = []
    for part in parts:
        key, factor = part, SRFLOW[part][1] if part in SRFLOW else scale
        if part not in UPSCALERS and (match := re.fullmatch(r"(\w+)_x(\d+)", part)):
            key, factor = match[1], int(match[2])
        if len(parts) > 1 and key in SEARCHES:
            raise ValueError(f"upscaler: expected {key} alone, not as a stage of a cascade, got {name!r}")
        if key not in UPSCALERS or (len(parts) > 1 and part == key and part not in SRFLOW):
            known = f"{', '.join(UPSCALERS)}, or several of them as in embedded_flow_x8+embedded_flow_x4"
            raise ValueError(f"upscaler: expected one of {known}, got {name!r}")
        found.append((key, factor))
    if math.prod(factor for _, factor in found) != scale:
        raise ValueError(f"{name}: expected scale {math.prod(factor for _, factor in found)}, got {scale}")
    return found


def _check_radius(name: str, heat: float) -> None:
    if heat != 1:
        raise ValueError(f"{name}: heat is the radius of the sphere of starts: expected 1.0, got {heat}")


def build(name: str, *, scale: int, heat: float | str = 1.0, device: str = "cpu") -> Callable:
    """Any upscaler by its name: one of `UPSCALERS`, with its options, or a cascade of them.

    Between two stages the draws are rounded to 8 bits, as the official notebook does at x32. A draw that is not
    finite goes on as black and comes out as NaN. Draw q takes all its latents from generator q.

    Args:
        name, scale, heat: as `stages`.
        device: as `runtime.pick_device`.

    Returns:
        As `embedded_flow`; a search as `search`.

    Raises:
        ValueError: as `stages`, or as the stage's own function.
    """
    found, options = stages(name, scale, heat), split(name)[1]
    built = [UPSCALERS[key](scale=factor, heat=each, device=device, **options) for key, factor, each in found]
    return built[0] if len(built) == 1 else partial(_cascade, built)


def _cascade(built: list[Callable], lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
    generators = [generators] if isinstance(generators, Generator) else list(generators)
    sr, finite = lr, torch.ones(len(generators), dtype=torch.bool, device=lr.device)
    for number, upscale in enumerate(built):
        sr = upscale(sr if number == 0 else quantize(sr.nan_to_num(0, 0, 0)), generators)
        finite = finite.to(sr.device) & sr.isfinite().flatten(1).all(1)
    return torch.where(finite.view(-1, 1, 1, 1), sr, torch.nan)


def weights_hash(name: str, scale: int) -> str:
    """First 12 hex digits of the SHA-256 of each weights file behind an upscaler, joined by "+".

    Raises:
        ValueError: as `stages`; or the file is not there.
    """
    return "+".join(_weights_hash(key, factor) for key, factor in _parts(name, scale))


def _weights_hash(key: str, scale: int) -> str:
    if key.startswith("embedded_flow"):
        paths = [weights.embedded(_compact_flow(scale, key.removeprefix("embedded_flow").lstrip("_")))]
    elif key in SRFLOW:
        paths = [weights.fetch(SRFLOW[key][2])]
    elif key == "embedded_pulse":
        paths = [weights.embedded(generators.NAME)]
    else:
        paths = generators.official_files() if key == "pulse" else []
    return "+".join(files.sha256_of(path)[:12] for path in paths)
