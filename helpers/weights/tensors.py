"""Read the tensors of a checkpoint without running code in it, and load them into a network they fit."""

import contextlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from helpers import files
from helpers.weights import downloads
from helpers.weights.store import cache_folders


def load_state(path: str | Path) -> dict[str, Tensor]:
    """Load the tensors of a checkpoint to the CPU; code in a pickle is never run.

    Args:
        path: .safetensors, .npz (without pickles), or .pth / .pt of tensors alone.

    Returns:
        name -> tensor, in the order of the file.

    Raises:
        ValueError: missing, empty, a web page, truncated, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: expected a checkpoint, found no such file")
    if wrong := downloads.not_a_checkpoint(path):
        raise ValueError(f"{path}: {wrong}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # only here: .pth users need no safetensors

            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each library and version raises its own; the cause stays attached
        what = "truncated, no checkpoint, or holding code, which is refused"
        raise ValueError(f"{path}: expected tensors, got a file {what} ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a flat dict of tensors, got {type(state).__name__} with other values")
    return dict(state)


def load_once(path: str | Path) -> dict[str, Tensor]:
    """Load a checkpoint; a pickle is opened once, then its copy in safetensors.

    The copy lies in the folder `converted` of the shared folder or the cache; its name has the hash of the pickle and
    its own hash lies beside it, so a changed pickle or a damaged copy is converted again. Where the cache cannot be
    written, the pickle is opened each time.

    Args:
        path: as `fetch` returns it.

    Raises:
        ValueError: as `load_state`.
    """
    path = Path(path)
    if not path.is_file() or path.suffix in (".safetensors", ".npz"):
        return load_state(path)
    copies = [
        folder / "converted" / f"{path.stem}-{files.sha256_of(path)[:16]}.safetensors" for folder in cache_folders()
    ]
    for copy in copies:
        if is_sound(copy):
            return load_state(copy)
    state = load_state(path)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not correctness
        _convert(state, path, copies[-1])
    return state


def load_into(network: nn.Module, state: dict[str, Tensor], source: str | Path) -> nn.Module:
    """Copy `state` into `network`, every name and shape matching; returns `network` in eval mode, frozen.

    Raises:
        ValueError: another architecture; says how many names are missing, unexpected or of another shape.
    """
    own = network.state_dict()
    missing_names, unexpected = [k for k in own if k not in state], [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing_names or unexpected or shapes:
        found = [
            f"{len(names)} {what} ({names[0]}, ...)"
            for what, names in (
                ("missing", missing_names),
                ("unexpected", unexpected),
                ("of another shape", shapes),
            )
            if names
        ]
        raise ValueError(
            f"{source}: expected the {len(own)} tensors of {type(network).__name__}, got {', '.join(found)}"
        )
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def is_sound(copy: Path) -> bool:
    """Whether a copy of `load_once` is there and has the hash that lies beside it."""
    record = copy.with_name(f"{copy.name}.sha256")
    return copy.is_file() and record.is_file() and record.read_text() == files.sha256_of(copy)


def _convert(state: dict[str, Tensor], source: Path, copy: Path) -> None:
    """Write `state` as safetensors to `copy`, read it back, and record its hash.

    Raises:
        ValueError: what was read differs in a name, a shape, a type or a value.
    """
    from safetensors.torch import load_file, save_file

    with files.replacing(copy) as part:
        tensors = {key: value.detach().clone().contiguous() for key, value in state.items()}
        save_file(tensors, part, {"sha256": files.sha256_of(source)})  # one item: two have no fixed order
        again = load_file(part)
        if again.keys() != state.keys() or not all(_same(again[key], state[key]) for key in state):
            raise ValueError(f"{copy}: expected the tensors of {source}, got others")
        files.replace(copy.with_name(f"{copy.name}.sha256"), files.sha256_of(part).encode())


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal bit by bit, NaN included."""
    bits = [each.contiguous().reshape(-1).view(torch.uint8) for each in (a, b)]
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(*bits)
