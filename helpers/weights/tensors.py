"""Read the tensors of a checkpoint without running code in it, and load them into a network they fit.

The files of `torch.save` are read here and not by `torch.load`: the pickle in them may name five things, which say
where in the file the values of each tensor are. Memory is asked for only where that fits the file.
"""

import io
import math
import pickle
import pickletools
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from helpers.weights import downloads

UNPACKED = 16  # the arrays of a compressed .npz are at most so many times as large as it is; those of BRISQUE are 5
WRAPPERS = ("params_ema", "params", "state_dict")  # names of the tensors in files of BasicSR and Lightning, best first
ALIASED = 2  # the tensors of a .pth together: they may share values in pairs
TUPLES = 50_000  # in one pickle; a tensor has four or five
LEGACY = 0x1950A86A20F9469CFC6C  # before PyTorch 1.6 a file of `torch.save` began with this number
DTYPES = {
    f"{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
        "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}  # fmt: skip


def load_state(path: str | Path) -> dict[str, Tensor]:
    """Load the tensors of a checkpoint to the CPU; code in a pickle is never run.

    Args:
        path: .safetensors, .npz (without pickles), or .pth / .pt / .tar as `torch.save` writes a dict of tensors, which
            may lie in another one under a name of `WRAPPERS`.

    Returns:
        name -> tensor, in the order of the file.

    Raises:
        ValueError: missing, empty, a web page, truncated, holds anything but tensors, or would fill more memory than
            the file accounts for.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: expected a checkpoint, found no such file")
    return _open(path, path.suffix, read=True)


def check(path: Path, name: str) -> None:
    """Make sure, without reading a value, that a file is what its `name` says: tensors, a pickle (.save) or a .zip.

    Raises:
        ValueError: it is not; as `load_state`.
    """
    _open(path, Path(name).suffix, read=False)


def load_into(network: nn.Module, state: dict[str, Tensor], source: str | Path) -> nn.Module:
    """Copy `state` into `network`, every name and shape matching; returns `network` in eval mode, frozen.

    Raises:
        ValueError: another architecture; says how many names are missing, unexpected or of another shape.
    """
    own = network.state_dict()
    missing_names, unexpected = [k for k in own if k not in state], [k for k in state if k not in own]
    shapes = [
        f"{k}: {list(own[k].shape)} expected, {list(state[k].shape)} found"
        for k in own
        if k in state and own[k].shape != state[k].shape
    ]
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


def _open(path: Path, suffix: str, *, read: bool) -> dict[str, Tensor]:
    """Read or only check a file by its suffix; every failure is one kind of error."""
    if wrong := downloads.not_a_checkpoint(path):
        raise ValueError(f"{path}: {wrong}")
    kinds = {".safetensors": _safetensors, ".npz": _arrays, ".zip": _archive, ".save": _one_pickle}
    try:
        return kinds.get(suffix, _saved)(path, read)
    except Exception as error:  # each library and version raises its own; the cause stays attached
        what = "truncated, no checkpoint, or holding code, which is refused"
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: expected tensors, got a file {what} ({reason})") from error


def _safetensors(path: Path, read: bool) -> dict[str, Tensor]:
    from safetensors import safe_open  # only here: .pth users need no safetensors
    from safetensors.torch import load_file

    if read:
        return load_file(path)
    with safe_open(path, "pt"):  # compares every size in the header with the file
        return {}


def _arrays(path: Path, read: bool) -> dict[str, Tensor]:
    """.npz: each array has the size its header says, before it is unpacked."""
    with zipfile.ZipFile(path) as archive:
        for member in _members(archive, UNPACKED * path.stat().st_size).values():
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = header[version](stream)
                if dtype.hasobject or stream.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
                    raise ValueError(f"{member.filename}: {shape} {dtype} in {member.file_size} bytes")
    with np.load(path, allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files} if read else {}


def _archive(path: Path, read: bool) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive:
        _members(archive, UNPACKED * path.stat().st_size)
    return {}


def _one_pickle(path: Path, read: bool) -> dict[str, Tensor]:
    """A file of nothing but one whole pickle; whoever opens it says which names it may hold."""
    with _Reader(io.FileIO(path)) as file:
        if file.read(1) != pickle.PROTO:
            raise ValueError("no pickle")
        file.seek(0)
        _scan(file)
        if file.read(1):
            raise ValueError("bytes after the pickle")
    return {}


class _Reader(io.BufferedReader):
    """A file that gives at most 64 MB at once: memory is made before a length in a pickle turns out to be a lie."""

    def read(self, size: int = -1) -> bytes:
        return super().read(min(size, 1 << 26))


class _Storage(NamedTuple):
    """Values in a row somewhere in the file."""

    key: str
    dtype: torch.dtype
    size: int


class _View(NamedTuple):
    """A tensor: which values of a storage it has."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Views(pickle.Unpickler):
    """Rebuilds dicts and plain values, and a `_View` for each tensor; any other name in the pickle is refused."""

    def find_class(self, module: str, name: str) -> object:
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return lambda *arguments: _view(*arguments[:4])  # new each time: a pickle may set attributes
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda view, *_: view
        raise pickle.UnpicklingError(f"the name {module}.{name}")

    def persistent_load(self, pid: object) -> _Storage:
        kind, dtype, key, _, size, *views = pid
        right = kind == "storage" and type(dtype) is torch.dtype and type(key) is str and _whole(size)
        if not right or any(view is not None for view in views):
            raise pickle.UnpicklingError("expected a storage")
        return _Storage(key, dtype, size)


def _view(storage: object, offset: object, shape: tuple, strides: tuple) -> _View:
    view = _View(storage, offset, tuple(shape), tuple(strides))
    if type(storage) is not _Storage or not all(map(_whole, (offset, *view.shape, *view.strides))):
        raise pickle.UnpicklingError("expected a tensor")
    return view


def _whole(number: object) -> bool:
    return type(number) is int and number >= 0


def _saved(path: Path, read: bool) -> dict[str, Tensor]:
    """What `torch.save` wrote, the archive of today or the row of pickles and values of before."""
    size = path.stat().st_size
    with _Reader(io.FileIO(path)) as file:
        state, places = _zipped(file, size) if file.read(4) == b"PK\3\4" else _legacy(file)
        state = _unwrapped(state)
        if not isinstance(state, dict) or not all(type(view) is _View for view in state.values()):
            raise ValueError(f"expected a flat dict of tensors, got {type(state).__name__} with other values")
        for name, view in state.items():
            _check_view(name, view, places, size)
        total = sum(math.prod(view.shape) * view.storage.dtype.itemsize for view in state.values())
        if total > ALIASED * size:
            raise ValueError(f"expected at most {ALIASED} x {size} bytes of tensors, got {total}")
        buffers = {}
        return {name: _tensor(file, view, places, buffers) for name, view in state.items()} if read else {}


def _unwrapped(state: object) -> object:
    """The dict of tensors in a dict that holds one by a name of `WRAPPERS`, perhaps beside others; else `state`."""
    found = [name for name in WRAPPERS if isinstance(state, dict) and isinstance(state.get(name), dict)]
    return state[found[0]] if found else state


def _check_view(name: object, view: _View, places: dict[str, tuple[int, int]], size: int) -> None:
    storage = view.storage
    start, length = places[storage.key]
    if type(name) is not str or length != storage.size * storage.dtype.itemsize or start + length > size:
        raise ValueError(f"{name}: {storage.size} values of {storage.dtype} in {length} bytes")
    pairs = list(zip(view.shape, view.strides, strict=True))
    n = math.prod(view.shape)
    end = view.offset + (1 + sum((length - 1) * stride for length, stride in pairs) if n else 0)
    if n > storage.size or end > storage.size:
        raise ValueError(
            f"{name}: shape {view.shape}, strides {view.strides} from {view.offset} in {storage.size} values"
        )


def _tensor(file: io.BufferedReader, view: _View, places: dict, buffers: dict[str, Tensor]) -> Tensor:
    key = view.storage.key
    if key not in buffers:
        start, length = places[key]
        buffers[key] = torch.empty(length, dtype=torch.uint8)
        file.seek(start)
        if file.readinto(buffers[key].numpy()) != length:
            raise ValueError(f"cut after {file.tell()} bytes")
    return buffers[key].view(view.storage.dtype).as_strided(view.shape, view.strides, view.offset)


def _zipped(file: io.BufferedReader, size: int) -> tuple[object, dict[str, tuple[int, int]]]:
    """The pickle of an archive, and where the values of each storage begin and how many bytes they are."""
    with zipfile.ZipFile(file) as archive:
        members = _members(archive, size)
    places = {}
    for name, member in members.items():
        file.seek(member.header_offset)
        header = file.read(30)
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 or header[:4] != b"PK\3\4":
            raise ValueError(f"{name}: expected values that are neither compressed nor encrypted")
        start = member.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
        places[name.partition("/")[2]] = start, member.file_size
    if len(places) != len(members):
        raise ValueError("expected one folder in the archive")

    def content(name: str) -> io.BytesIO:
        file.seek(places[name][0])
        return io.BytesIO(file.read(places[name][1]))

    if "byteorder" in places and content("byteorder").read() != sys.byteorder.encode():
        raise ValueError(f"expected values of byte order {sys.byteorder}")
    return _unpickle(content("data.pkl")), {
        name.removeprefix("data/"): place for name, place in places.items() if name.startswith("data/")
    }


def _legacy(file: io.BufferedReader) -> tuple[object, dict[str, tuple[int, int]]]:
    """As `_zipped`, of a file that is no archive."""
    file.seek(0)
    number, version, system = (_unpickle(file) for _ in range(3))
    if (number, version, system["little_endian"]) != (LEGACY, 1001, sys.byteorder == "little"):
        raise ValueError(f"expected a file of torch.save with values of byte order {sys.byteorder}")
    state, keys = _unpickle(file), _unpickle(file)
    views = state.values() if isinstance(state, dict) else ()
    views = [*views, *(view for each in views if isinstance(each, dict) for view in each.values())]
    sizes = {view.storage.key: view.storage.dtype.itemsize for view in views if type(view) is _View}
    places = {}
    for key in keys:
        length = int.from_bytes(file.read(8), sys.byteorder) * sizes[key]
        places[key] = file.tell(), length
        file.seek(length, io.SEEK_CUR)
    return state, places


def _unpickle(file: io.BufferedIOBase) -> object:
    start = file.tell()
    _scan(file)
    file.seek(start)
    return _Views(file, encoding="utf-8").load()


def _scan(file: io.BufferedIOBase) -> None:
    """Go over one pickle without building anything, and refuse what would end the process."""
    start, tuples = file.tell(), 0
    for operation, argument, position in pickletools.genops(file):
        tuples += "TUPLE" in operation.name
        if tuples > TUPLES:  # one inside the other, to be hashed
            raise pickle.UnpicklingError(f"more than {TUPLES} tuples")
        if "PUT" in operation.name and int(argument) > position - start:  # Python would make all places up to this one
            raise pickle.UnpicklingError(f"place {argument} of its memory after {position - start} bytes")


def _members(archive: zipfile.ZipFile, most: int) -> dict[str, zipfile.ZipInfo]:
    """The files in an archive by name; each name once, and together at most so many bytes."""
    found = archive.infolist()
    members, total = {member.filename: member for member in found}, sum(member.file_size for member in found)
    if len(members) != len(found) or total > most:
        raise ValueError(f"expected {len(found)} names and at most {most} bytes, got {len(members)} and {total}")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in found):
        raise ValueError("expected no compression but that of .zip")  # others may ask for memory of their own
    return members
