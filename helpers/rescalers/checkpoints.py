"""Open the checkpoint of a rescaler, ours or an official one, and put it into the network that it was made for."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from helpers import weights


def exact(network: nn.Module) -> nn.Module:
    """The network that makes LR images: on the CPU a copy in float64, elsewhere the network itself.

    LR images are rounded to 8 bits. In float32 a sum that ends near a half is rounded otherwise on another processor,
    and rows of one machine would be stale on the next; in float64 that hardly happens.
    """
    return deepcopy(network).double() if next(network.parameters()).device.type == "cpu" else network


def read(file: str | Path) -> tuple[dict[str, Tensor], dict, Path]:
    """Read a checkpoint.

    Args:
        file: a key of `weights.WEIGHTS`, the name of an embedded checkpoint, or a path.

    Returns:
        Its tensors, the prefix "module." of a network on several GPUs taken off; the configuration in the header of a
        .safetensors file (`config`, as JSON), else {}; its path.

    Raises:
        ValueError: the file is missing or holds no tensors.
    """
    if str(file) in weights.WEIGHTS:
        path = weights.fetch(str(file))
    else:
        path = Path(file) if Path(file).suffix else weights.embedded(str(file))
    state = {name.removeprefix("module."): tensor for name, tensor in weights.load_state(path).items()}
    config = {}
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as opened:
            config = json.loads((opened.metadata() or {}).get("config", "{}"))
    return state, config, path


def load(
    file: str | Path,
    make: Callable[..., nn.Module],
    configuration: Callable[[Mapping[str, Tensor]], dict],
    *,
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict,
    device: str | torch.device = "cpu",
    **expected,
) -> nn.Module:
    """Load a checkpoint into a network of its own configuration.

    Args:
        file: see `read`.
        make: network of a configuration.
        configuration: that of a network with such tensors.
        rename: tensors of the file to those of the network.
        device: where to put it.
        expected: what the configuration must have, such as `scale=4`.

    Returns:
        The network in float32, in eval mode, frozen.

    Raises:
        ValueError: as `read`; another network, or one of another configuration than expected.
    """
    state, config, path = read(file)
    try:
        config = configuration(state := rename(state)) | config
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    wrong = {name: value for name, value in expected.items() if config.get(name) != value}
    if wrong:
        found = ", ".join(f"{name} {config.get(name)}" for name in wrong)
        raise ValueError(f"{path}: expected {', '.join(f'{name} {wrong[name]}' for name in wrong)}, got {found}")
    return weights.load_into(make(**config), state, path).to(device)
