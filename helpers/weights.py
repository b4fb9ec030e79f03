"""Checkpoints: where each is found, that it is the right file, and how it is opened without running code.

`weights_table.WEIGHTS` says what they are; `python -m helpers.weights` lists, fetches, verifies and names them.
"""

import contextlib
import hashlib
import os
import runpy
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
import torch
from torch import Tensor, nn

from helpers import downloads
from helpers.weights_table import WEIGHTS, Entry

EMBEDDED = Path(__file__).parent.parent / "data" / "weights"
BY_HAND = "IDA_RD_WEIGHTS"  # names a folder, as the next one does
SHARED = "IDA_RD_SHARED_CACHE"


def cache_folder() -> Path:
    """Where downloads are kept: `IDA_RD_CACHE`, else ~/.cache/ida-rd."""
    return Path(os.environ.get("IDA_RD_CACHE") or Path.home() / ".cache" / "ida-rd")


def cache_folders() -> list[Path]:
    """The folder `IDA_RD_SHARED_CACHE`, never written to, where one is named; then `cache_folder()`."""
    shared = os.environ.get(SHARED)
    return [Path(shared), cache_folder()] if shared else [cache_folder()]


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, 64 hex digits; hashed once a process for each size and time of change."""
    stat = os.stat(path)
    return _hash(str(path), stat.st_size, stat.st_mtime_ns, False)


def git_hash_of(path: str | Path) -> str:
    """What `git hash-object` prints for a file, 40 hex digits: SHA-1 of its size and content."""
    stat = os.stat(path)
    return _hash(str(path), stat.st_size, stat.st_mtime_ns, True)


def forget_hashes() -> None:
    """Hash every file anew from now on, even one of the same size and time of change."""
    _hash.cache_clear()


def places(name: str) -> Iterator[tuple[str, Path]]:
    """Files of `name` on this machine, in the order in which they are taken, right or wrong.

    Yields:
        "IDA_RD_WEIGHTS" (put there by hand), "shared folder" (`IDA_RD_SHARED_CACHE`), "cache" (`cache_folder`) or
        "torch.hub", and the path. Only the cache is ever written to. Each file may have its own name or that of
        another program's cache (`Entry.also`).

    Raises:
        ValueError: unknown name.
    """
    entry = _entry(name)
    folders = (
        (BY_HAND, os.environ.get(BY_HAND)),
        ("shared folder", os.environ.get(SHARED)),
        ("cache", cache_folder()),
        ("torch.hub", _hub_folder()),
    )
    for where, folder in folders:
        for file in (entry.file, *entry.also) if folder else ():
            if (path := Path(folder) / file).is_file():
                yield where, path


def problem(path: Path, entry: Entry) -> str | None:
    """Why `path` is not the file of `entry`, or None; records the hash where none is known yet.

    Raises:
        ValueError: there is no hash to compare with, and the cache cannot be written.
    """
    if wrong := _not_a_checkpoint(path):
        return f"{path}: {wrong}"
    found = sha256_of(path)
    if (entry.sha256 and found.startswith(entry.sha256)) or (entry.git and git_hash_of(path) == entry.git):
        return None
    size = f", {path.stat().st_size} of {entry.bytes} bytes" if entry.bytes else ""
    if entry.sha256:
        return f"{path}: SHA-256 expected {entry.sha256}, found {found}{size}"
    if entry.git:
        return f"{path}: git hash expected {entry.git}, found {git_hash_of(path)}{size}"
    note = cache_folder() / f"{entry.file}.sha256"
    beside = path.with_name(note.name)  # who filled a shared folder has recorded it there
    if not note.is_file() and not beside.is_file():
        try:
            _write(note, found)
        except OSError as error:
            raise ValueError(f"{note}: expected a writable cache to record the hash of {path}") from error
    note = note if note.is_file() else beside
    if (recorded := note.read_text().strip()) == found:
        return None
    return (
        f"{path}: SHA-256 recorded at first use (delete {note} if the change is meant) {recorded}, found {found}{size}"
    )


def locate(name: str) -> Path | None:
    """The verified file of `name` on this machine, or None; never downloads.

    The first right one of `places`; then the same for the entry that will do `instead`.

    Raises:
        ValueError: unknown name, or the file in `IDA_RD_WEIGHTS` is not the right one. A wrong file in a
            cache counts as missing: `fetch` replaces that of `cache_folder()`.
    """
    entry = _entry(name)
    for where, path in places(name):
        wrong = problem(path, entry)
        if wrong is None:
            return path
        if where == BY_HAND:
            raise ValueError(wrong)
    return locate(entry.instead) if entry.instead else None


def fetch(name: str, *, offline: bool = False, patience: float = 0.9) -> Path:
    """Path of the verified file of `name`; downloads it into `cache_folder()` when it is nowhere here.

    A wrong file in the cache is renamed to *.broken and fetched again. A download goes to a temporary name,
    is checked, and only then takes the final name, so a cut never leaves a file that looks whole. The next address,
    and the next call, take up a cut download where a hash proves the result, else they start again. Of several
    processes one downloads and the others wait for it. Where no address serves, the entry `instead` is fetched.

    Args:
        name: a key of `WEIGHTS`.
        offline: never use the network; so does a non-empty `IDA_RD_OFFLINE`.
        patience: seconds within which a server has to accept the connection, so that a machine without
            network says so at once.

    Returns:
        Path to a file whose hash was compared in this process.

    Raises:
        ValueError: names the file, where it may be put, its address, and what went wrong.
    """
    if (path := locate(name)) is not None:
        return path
    entry = _entry(name)
    problems = [str(problem(path, entry)) for _, path in places(name)]
    target = cache_folder() / entry.file
    offline = offline or bool(os.environ.get("IDA_RD_OFFLINE"))
    if entry.urls and not offline:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with downloads.alone(target.with_name(f"{entry.file}.lock")):
                if (path := locate(name)) is not None:  # another process was faster
                    return path
                if target.is_file():
                    problems.append(f"renamed to {target.name}.broken")
                    os.replace(target, target.with_name(target.name + ".broken"))
                if _download(entry, target, patience, problems):
                    return target
        except OSError as error:
            problems.append(f"expected a cache that can be written, got {error}; IDA_RD_CACHE may name another")
    if offline:
        problems.append("the network is switched off")
    elif entry.instead:
        try:
            return fetch(entry.instead, patience=patience)
        except ValueError as error:
            problems.append(f"nor is what would do instead: {error}")
    raise ValueError("; ".join([missing(name), *dict.fromkeys(problems)]))


def missing(name: str) -> str:
    """One line for the reader: which file is missing, where it may be put, where it comes from."""
    entry = _entry(name)
    shared = f"{os.environ[SHARED]}, " if os.environ.get(SHARED) else ""
    places = f"the folder named by {BY_HAND}, {shared}{cache_folder()}, or {_hub_folder()}"
    places = places.replace(str(Path.home()), "~")  # committed notebooks print this
    source = " or ".join(entry.urls) or "no address"
    known = f"SHA-256 {entry.sha256}" if entry.sha256 else f"git hash {entry.git}" if entry.git else "no published hash"
    return f"{entry.file} is missing: put it into {places} (source: {source}; {known}); {entry.note}"


def needed_by(notebook: str) -> list[str]:
    """Names in `WEIGHTS` that a notebook opens in the paper's setting.

    Args:
        notebook: its stem or number, for example "03_synthetic_degradations" or "03".
    """
    return [name for name, entry in WEIGHTS.items() if notebook[:2] in entry.needed]


def load_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint, on the CPU wherever they were saved; code in a pickle is never run.

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
    if wrong := _not_a_checkpoint(path):
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
    """`load_state`, but of a pickle only once: from then on its copy in safetensors is opened.

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
    copies = [folder / "converted" / f"{path.stem}-{sha256_of(path)[:16]}.safetensors" for folder in cache_folders()]
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
    return copy.is_file() and record.is_file() and record.read_text() == sha256_of(copy)


def embedded(name: str) -> Path:
    """A checkpoint that comes with this repository, `data/weights/<name>.safetensors`, hash compared.

    Raises:
        ValueError: no such file; or it is not the one that `data/weights/SHA256SUMS` lists (written with
            `sha256sum *.safetensors > SHA256SUMS` in that folder).
    """
    path = EMBEDDED / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in EMBEDDED.glob("*.safetensors"))) or "none"
        raise ValueError(f"no embedded checkpoint {name!r}: expected one of {known} in {EMBEDDED}")
    sums = EMBEDDED / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.is_file() else []
    listed = {file.lstrip("*"): digest for digest, file in (line.split(maxsplit=1) for line in lines if line.strip())}
    if listed.get(path.name) != sha256_of(path):
        raise ValueError(f"{path}: expected SHA-256 {listed.get(path.name, 'in ' + str(sums))}, got {sha256_of(path)}")
    return path


def _entry(name: str) -> Entry:
    if name not in WEIGHTS:
        raise ValueError(f"expected a checkpoint of {', '.join(WEIGHTS)}, got {name!r}")
    return WEIGHTS[name]


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


@lru_cache(maxsize=256)
def _hash(path: str, size: int, modified: int, git: bool) -> str:
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False) if git else hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _not_a_checkpoint(path: Path) -> str | None:
    if path.stat().st_size == 0:
        return "expected a checkpoint, got an empty file (zero bytes)"
    if page := downloads.web_page(path):
        return f"expected a checkpoint, got {page}"
    with open(path, "rb") as stream:
        packed = stream.read(4) == b"PK\3\4"
    return "truncated, no checkpoint: a zip archive without its end" if packed and not is_zipfile(path) else None


def _part(path: Path) -> Path:
    """A name beside `path` that no other process or thread writes to; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")


def _write(path: Path, text: str) -> None:
    part = _part(path)
    part.write_text(text)
    os.replace(part, path)


def _download(entry: Entry, target: Path, patience: float, problems: list[str]) -> bool:
    """Bring the file of `entry` to `target` from the first address that serves it; adds what went wrong."""
    part = target.with_name(f"{target.name}.part")
    proven = bool(entry.sha256 or entry.git)  # else nothing would notice halves of two versions put together
    sources = [*entry.urls, *entry.urls]  # each once more
    try:
        while sources:
            url, before = sources.pop(0), part.stat().st_size if part.is_file() else 0
            try:
                downloads.download(url, part, resume=proven, size=entry.bytes, patience=patience, label=entry.file)
                if wrong := problem(part, entry):
                    part.unlink()
                    raise ValueError(wrong.replace(str(part), "the answer"))
                os.replace(part, target)
                return True
            except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
                problems.append(f"{url}: {error}")
                if isinstance(error, downloads.Cut) and proven and part.stat().st_size > before:
                    sources.insert(0, url)  # as long as it goes on
                if isinstance(error, TimeoutError):
                    sources = [each for each in sources if each != url]
        return False
    finally:
        if not proven:
            part.unlink(missing_ok=True)


def _convert(state: dict[str, Tensor], source: Path, copy: Path) -> None:
    """Write `state` as safetensors to `copy`, read it back, and record its hash.

    Raises:
        ValueError: what was read differs in a name, a shape, a type or a value.
    """
    from safetensors.torch import load_file, save_file

    part = _part(copy)
    try:
        tensors = {key: value.detach().clone().contiguous() for key, value in state.items()}
        save_file(tensors, part, {"sha256": sha256_of(source)})  # one item: two have no fixed order
        again = load_file(part)
        if again.keys() != state.keys() or not all(_same(again[key], state[key]) for key in state):
            raise ValueError(f"{copy}: expected the tensors of {source}, got others")
        _write(copy.with_name(f"{copy.name}.sha256"), sha256_of(part))
        os.replace(part, copy)
    finally:
        part.unlink(missing_ok=True)


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal bit by bit, NaN included."""
    bits = [each.contiguous().reshape(-1).view(torch.uint8) for each in (a, b)]
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(*bits)


if __name__ == "__main__":
    runpy.run_module("helpers.weights_cli", run_name="__main__")  # which imports this module, not the other way round
