"""Look inside a conditional flow: how likely it finds an image, what its latents are, which step amplifies.

Works with both networks, the compact flow and SRFlow: each encodes (HR, LR) to latents and decodes them back.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch
from torch import Generator, Tensor, nn

from helpers import datasets, results, runs, upscalers
from helpers.networks import srflow
from helpers.networks.compact_flow import CompactFlow
from helpers.networks.srflow_layers import FlowStep
from helpers.runs import cell, checks, cluster, pairs
from helpers.runtime import pick_device, seeded
from helpers.upscalers import draw_latents

if TYPE_CHECKING:
    from distributed import Client


class Encoded(NamedTuple):
    """Latents of an image given its LR image, and how likely it is."""

    latents: list[Tensor]  # finest level first, each (N, c, h, w)
    bits: Tensor  # bits per dimension on the scale of the noise, (N,)


def load(upscaler: str, scale: int, device: str | torch.device = "cpu") -> nn.Module:
    """Load the network of an upscaler that is a flow, in eval mode.

    Args:
        upscaler: key of `UPSCALERS`, no cascade.
        scale: s.
        device: as `runtime.pick_device`.

    Raises:
        ValueError: an upscaler without latents, another scale, or weights that are not there.
    """
    (key, factor, _, _, to), *more = upscalers.stages(upscaler, scale)
    more = more or to
    device = pick_device(str(device))
    if key.startswith("embedded_flow") and not more:
        return upscalers.load_compact_flow(factor, device, key.removeprefix("embedded_flow").lstrip("_"))
    if not key.startswith("srflow") or more:
        raise ValueError(f"expected a flow, and no cascade, got {upscaler!r}")
    return upscalers.load_srflow(upscalers.UPSCALERS[key].files[0], device)


@torch.no_grad()
def round_trip(network: nn.Module, hr: Tensor, lr: Tensor) -> tuple[float, float]:
    """Encode an image and decode it again.

    Args:
        network: of `load`.
        hr, lr: one HR image (1, 3, H, W) and its LR image, of a size that the network takes.

    Returns:
        The largest error of a value, and what the two log-determinants leave of each other, relative to the first.
    """
    latents, _, there = network.encode(hr, lr)
    again, back = network.decode(lr, latents)
    return (again - hr).abs().max().item(), abs((there + back) / there).item()


@torch.no_grad()
def encode(network: nn.Module, hr: Tensor, lr: Tensor, generator: Generator) -> Encoded:
    """Encode HR images, dequantized by uniform noise of the network's own width, to latents and their likelihood.

    -log2 p(x + u | lr) / (3 H W) - log2(width of u): what one colour value of x costs in bits, at the resolution of
    the noise (1/64 for the compact flow, 1/32 for SRFlow), if the flow is the code book. Where SRFlow needs even LR
    sides, LR and HR are padded by reflection as its sampler pads LR, and the bits are those of the padded image.

    Args:
        network: of `load`.
        hr: HR images in [0, 1], (N, 3, H, W).
        lr: LR images in [0, 1], (N, 3, H / s, W / s).
        generator: CPU generator of the noise u.

    Raises:
        ValueError: sizes do not belong together.
    """
    if hr.shape[-2:] != tuple(network.scale * side for side in lr.shape[-2:]) or len(hr) != len(lr):
        raise ValueError(f"expected hr {network.scale} times as large as lr, got {tuple(hr.shape)}, {tuple(lr.shape)}")
    width = network.noise if isinstance(network, CompactFlow) else 1 / network.quant
    hr, lr = _pad(network, hr, network.scale), _pad(network, lr)
    noisy = hr + (torch.rand(hr.shape, generator=generator).to(hr) - 0.5) * width
    latents, nll, _ = network.encode(noisy, lr)
    if isinstance(network, CompactFlow):
        return Encoded(latents, nll)
    return Encoded(latents, nll / 3 - math.log2(width))  # SRFlow counts bits per pixel, and the noise once a pixel


def _pad(network: nn.Module, images: Tensor, scale: int = 1) -> Tensor:
    """Images at the size that the network takes; those of the right size as they are."""
    return srflow.pad_to_multiple(images, scale * network.multiple) if hasattr(network, "multiple") else images


@cell.one_thread()
def likelihood(experiment: runs.Experiment, rows_dir: str | Path, client: "Client | None" = None) -> pd.DataFrame:
    """Compute how likely each HR image is given its LR image by each downscaler, where the rows are missing.

    Args:
        experiment: images, downscalers, scale, upscaler (whose network) and seed; draws, heat, distortion and
            degradations do not matter.
        rows_dir: folder of rows.
        client: as `runs.run`.

    Returns:
        Rows as `results.read` gives them, one per image, downscaler and quantity, named in the column "distortion":
        "bits" (bits per dimension, see `encode`) and "z2_1", "z2_2", ... (mean square of the latents, 1 under the
        prior, from the finest level on). Their heat is 1.0, the one that has a likelihood.

    Raises:
        ValueError: as `load`, `datasets.load` and `adapters.resolve`; the rows there come from other weights.
    """
    plain = replace(experiment, heat=1.0, n_samples=1, distortion="mse", degradations=[("", None)])
    network = load(plain.upscaler, plain.scale)
    side = 8 * network.scale
    quantities = ["bits", *(f"z2_{level + 1}" for level in range(len(network.latent_shapes(side, side))))]
    keys = [(*key[:-1], quantity) for key in runs.keys(plain) for quantity in quantities]
    rows = checks.held(plain, keys, rows_dir, client)
    facts = {"weights": upscalers.weights_hash(plain.upscaler, plain.scale), "version": results.VERSION}
    if (rows.weights != facts["weights"]).any():
        raise ValueError(f"{rows_dir}: expected rows of weights {facts['weights']}, got {list(rows.weights.unique())}")
    facts |= dict.fromkeys(("residual", "converged", "clipped", "seconds", "lr_bits"))
    todo = dict.fromkeys(key[1:3] for key in results.missing(keys, rows))
    for where, outcome in cluster.compute(_encode_cell, {each: (plain, *each) for each in todo}, client):
        if isinstance(outcome, Exception):
            raise outcome
        values, made = outcome
        named = [dict(zip(results.KEY, key, strict=True)) for key in keys if key[1:3] == where]
        results.append([key | facts | made | {"value": x} for key, x in zip(named, values, strict=True)], rows_dir)
    return results.read(rows_dir, keys=keys)


def _encode_cell(experiment: runs.Experiment, image: str, name: str) -> tuple[list[float], dict]:
    """Values of one image and downscaler in the order of the quantities, and what its rows say besides."""
    torch.set_num_threads(1)  # as `cell.score`
    network = _network(experiment.upscaler, experiment.scale, experiment.device)
    hr, lr = runs.pair(experiment, image, name)
    latents, bits = encode(network, hr, lr, seeded(experiment.seed, image, "dequantize"))
    made = pairs.proof(experiment, image, hr, lr) | {"device": hr.device.type}
    made["metric"] = "likelihood (helpers.probes)"  # as in the published rows
    return [bits.item(), *(latent.square().mean().item() for latent in latents)], made


_network = lru_cache(maxsize=1)(load)  # once a worker


@torch.no_grad()
def decode_trace(network: nn.Module, lr: Tensor, generators: Sequence[Generator], heat: float = 1.0) -> pd.DataFrame:
    """Measure how large the tensor is after each flow step, from the latents to the image.

    Args:
        network: of `load`.
        lr: one LR image, (1, 3, h, w).
        generators: one a sample.
        heat: standard deviation of the latents.

    Returns:
        One line per step in the order of decoding: step (0 for the last latent as drawn), level (1 is the finest),
        rms (over all samples, channels and pixels) and largest absolute value; the last line, level 0, is the SR
        image before clipping, and before a compact flow presses it into its range.
    """
    lr = _pad(network, lr)
    latents = [z.to(lr) for z in draw_latents(network.latent_shapes(*lr.shape[-2:]), generators, heat)]
    steps = list(_steps(network))
    tensors = [(steps[-1][0], latents[-1])]

    def record(level: int, decode: Callable) -> Callable:
        def recorded(*args):
            out = decode(*args)
            tensors.append((level, out[0]))
            return out

        return recorded

    try:
        for level, step in steps:
            step.decode = record(level, step.decode)
        with _unlimited(network):
            sr = network.decode(lr.expand(len(generators), -1, -1, -1), latents)[0]
    finally:
        for _, step in steps:
            del step.decode  # the method of its class is back
    lines = [
        {"step": k, "level": level, "rms": z.square().mean().sqrt().item(), "largest": z.abs().max().item()}
        for k, (level, z) in enumerate([*tensors, (0, sr)])
    ]
    return pd.DataFrame(lines)


def traces(network: nn.Module, lr: Tensor, heats: Sequence[float], key: tuple) -> pd.DataFrame:
    """`decode_trace` of one draw at several heats, with the column heat; all draws share their random numbers.

    Args:
        network, lr: as there.
        heats: standard deviations of the latents.
        key: of the draw.
    """
    return pd.concat([decode_trace(network, lr, [seeded(*key)], heat).assign(heat=heat) for heat in heats])


def strain(
    networks: Mapping[str, nn.Module],
    experiment: runs.Experiment,
    names: Sequence[str],
    conditions: Sequence[tuple],
    heats: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """Measure `extremes` of several flows on LR images of several kinds, image by image.

    Args:
        networks: of `load`, by name.
        experiment: gives data set, size, scale and device.
        names: of images.
        conditions: downscaler, and a degradation with its level or nothing, of each kind of LR image.
        heats: standard deviations of the latents.
        seed: first part of the key of each draw.

    Returns:
        As `extremes`, with the columns flow, image and photograph; the condition is in words.
    """
    of, lines = datasets.groups(experiment.source, names, size=experiment.size), []
    for image in names:
        hr = pairs.load(experiment, image)
        lrs = {" ".join(map(str, how)): runs.pair(experiment, image, *how, hr=hr)[1] for how in conditions}
        for flow, network in networks.items():
            table = extremes(network, lrs, heats, (seed, image, 0))
            lines.append(table.assign(flow=flow, image=image, photograph=of[image]))
    return pd.concat(lines, ignore_index=True)


@contextlib.contextmanager
def _unlimited(network: nn.Module) -> Iterator[None]:
    """Until the end of the block a compact flow does not press its samples into a range."""
    margin = getattr(network, "margin", None)
    if margin is None:
        yield
        return
    network.margin = 0
    try:
        yield
    finally:
        network.margin = margin


def _steps(network: nn.Module) -> Iterator[tuple[int, nn.Module]]:
    """The flow steps with their levels."""
    if isinstance(network, CompactFlow):
        return ((level + 1, step) for level, steps in enumerate(network.levels) for step in steps)
    flow = network.flowUpsamplerNet
    pairs = zip(flow.levels, flow.layers, strict=True)
    return ((level, layer) for level, layer in pairs if isinstance(layer, FlowStep))


@torch.no_grad()
def extremes(network: nn.Module, lrs: Mapping[str, Tensor], heats: Sequence[float], key: tuple) -> pd.DataFrame:
    """Measure how far samples leave [0, 1] before they are clipped, or pressed into the range of a compact flow.

    Args:
        network: of `load`.
        lrs: LR images by the name of their condition, (1, 3, h, w) each.
        heats: standard deviations of the latents.
        key: of the one draw, shared by all conditions and heats.

    Returns:
        One line per condition and heat: condition, heat, largest (absolute value among the finite ones), outside
        (share of values outside [-0.25, 1.25]; what is not finite counts) and finite (is the sample?).
    """
    lines = []
    for name, lr in lrs.items():
        lr = _pad(network, lr)
        unit = draw_latents(network.latent_shapes(*lr.shape[-2:]), [seeded(*key)], 1.0)
        latents = [torch.cat([heat * z for heat in heats]).to(lr) for z in unit]
        with _unlimited(network):
            decoded = network.decode(lr.expand(len(heats), -1, -1, -1), latents)[0]
        for heat, sr in zip(heats, decoded, strict=True):
            finite = sr.isfinite()
            outside = ~((sr >= -0.25) & (sr <= 1.25))
            largest = sr.where(finite, 0).abs().max().item()
            line = {"condition": name, "heat": heat, "largest": largest, "outside": outside.float().mean().item()}
            lines.append(line | {"finite": bool(finite.all())})
    return pd.DataFrame(lines)
