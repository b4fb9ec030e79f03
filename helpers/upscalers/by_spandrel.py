"""f_us: a checkpoint of any network that spandrel knows (SwinIR, HAT, DAT, Compact, ...): deterministic."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from helpers import weights
from helpers.runtime import pick_device


def upscaler(path: str | Path, *, scale: int, device: str = "cpu") -> Callable:
    """f_us: what spandrel (extra `upscalers`) makes of a file, which `weights.load_state` reads: no code in it is run.

    Args:
        path: checkpoint of a network for RGB images.
        scale: s, which must be that of the network.
        device: name of a device, see `runtime.pick_device`.

    Returns:
        `upscale(lr, generators)`, the same image for every generator, computed once, clipped to [0, 1] by spandrel.

    Raises:
        ValueError: spandrel is not installed; the file is missing, or is no network that it knows, or one of another
            scale or of other channels.
    """
    try:
        import spandrel  # an extra, and slow to import
    except ImportError as error:
        raise ValueError(f"spandrel: {path}: expected spandrel, got {error}; pip install -e '.[upscalers]'") from error
    state, device = spandrel.canonicalize_state_dict(weights.load_state(path)), pick_device(device)
    try:
        network = spandrel.ModelLoader().load_from_state_dict(state).to(device).eval()
    except spandrel.UnsupportedModelError as error:
        raise ValueError(f"spandrel: {path}: expected a network that spandrel knows, got another: {error}") from error
    kind = network.scale, network.input_channels, network.output_channels
    if kind != (scale, 3, 3) or not isinstance(network, spandrel.ImageModelDescriptor):
        raise ValueError(f"spandrel: {path}: expected scale, channels in and out of {(scale, 3, 3)}, got {kind}")

    @torch.no_grad()
    def upscale(lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
        draws = 1 if isinstance(generators, Generator) else len(generators)
        sr = torch.cat([network(each.to(device)) for each in lr.split(1)]).to(lr.device)
        return sr if len(lr) > 1 else sr.expand(draws, -1, -1, -1)

    return upscale
