"""Find a checkpoint on this machine, compare its hash, and fetch it where it is missing.

`table.WEIGHTS` says what they are; `python -m helpers.weights` lists, fetches and verifies them.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch

from helpers import files
from helpers.weights import downloads, tensors
from helpers.weights.table import WEIGHTS, Entry

EMBEDDED = files.packaged("weights")
BY_HAND = "IDA_RD_WEIGHTS"  # names a folder, as the next one does
SHARED = "IDA_RD_SHARED_CACHE"
CONNECTIONS = 16  # tries for one file in one call, those that resume a cut download among them


def cache_folder() -> Path:
    """Where downloads are kept: `IDA_RD_CACHE`, else ~/.cache/ida-rd."""
    return Path(os.environ.get("IDA_RD_CACHE") or Path.home() / ".cache" / "ida-rd")


def places(name: str) -> Iterator[tuple[str, Path]]:
    """Find every file of `name` on this machine, right or wrong, first choice first.

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
    """Say why `path` is not the file of `entry`, or None.

    Where no hash is known, the file has to be what its name says; then the first hash seen is recorded. The record of
    a file that is not (earlier versions recorded any answer of a server) is removed.

    Raises:
        ValueError: there is no hash to compare with, and the cache cannot be written.
    """
    if wrong := downloads.not_a_checkpoint(path):
        return f"{path}: {wrong}"
    found = files.sha256_of(path)
    if (entry.sha256 and found.startswith(entry.sha256.lower())) or (
        entry.git and files.git_hash_of(path) == entry.git
    ):
        return None
    size = f", {path.stat().st_size} of {entry.bytes} bytes" if entry.bytes else ""
    if entry.sha256:
        return f"{path}: SHA-256 expected {entry.sha256}, found {found}{size}"
    if entry.git:
        return f"{path}: git hash expected {entry.git}, found {files.git_hash_of(path)}{size}"
    note = cache_folder() / f"{entry.file}.sha256"
    try:
        _check(path, entry.file, found)
    except ValueError as error:
        with contextlib.suppress(OSError):  # the file is refused all the same
            if note.is_file() and _recorded(note) == found:
                note.unlink()
        return str(error)
    beside = path.with_name(note.name)  # who filled a shared folder has recorded it there
    if not note.is_file() and not beside.is_file():
        try:
            files.replace(note, found.encode())
        except OSError as error:
            raise ValueError(f"{note}: expected a writable cache to record the hash of {path}, got {error}") from error
    note = note if note.is_file() else beside
    if (recorded := _recorded(note)) == found:
        return None
    return (
        f"{path}: SHA-256 recorded at first use (delete {note} if the change is meant) {recorded}, found {found}{size}"
    )


def locate(name: str) -> Path | None:
    """Find the verified file of `name` on this machine, or None; never downloads.

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
    """Find the verified file of `name`, or download it into `cache_folder()`.

    A wrong file in the cache is renamed to *.broken and fetched again. A download goes to a temporary name, is
    checked, and only then renamed, so a cut never leaves a file that looks whole. Where a hash proves the result, the
    next address and the next call resume a cut download; else they start again. One process downloads, others wait.
    No more bytes are taken than the entry states, in at most `CONNECTIONS` tries and the time that `downloads.SLOWEST`
    allows for them. Where no address works, the entry `instead` is fetched.

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
            with files.alone(target.with_name(f"{entry.file}.lock")):
                if (path := locate(name)) is not None:  # another process was faster
                    return path
                if target.is_dir():
                    raise OSError(f"a folder where the file should be: {target}")
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
    """Say in one line which file is missing, where to put it, and where it comes from."""
    entry = _entry(name)
    shared = f"{os.environ[SHARED]}, " if os.environ.get(SHARED) else ""
    places = f"the folder named by {BY_HAND}, {shared}{cache_folder()}, or {_hub_folder()}"
    places = places.replace(str(Path.home()), "~")  # committed notebooks print this
    source = " or ".join(entry.urls) or "no address"
    known = f"SHA-256 {entry.sha256}" if entry.sha256 else f"git hash {entry.git}" if entry.git else "no published hash"
    return f"{entry.file} is missing: put it into {places} (source: {source}; {known}); {entry.note}"


def embedded(name: str) -> Path:
    """Find a checkpoint that comes with the package, `data/weights/<name>.safetensors`, and compare its hash.

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
    if listed.get(path.name) != files.sha256_of(path):
        raise ValueError(
            f"{path}: expected SHA-256 {listed.get(path.name, 'in ' + str(sums))}, got {files.sha256_of(path)}"
        )
    return path


def _entry(name: str) -> Entry:
    if name not in WEIGHTS:
        raise ValueError(f"expected a checkpoint of {', '.join(WEIGHTS)}, got {name!r}")
    return WEIGHTS[name]


@lru_cache(maxsize=64)
def _check(path: Path, name: str, sha256: str) -> None:
    """`tensors.check`, once for each content."""
    tensors.check(path, name)


def _recorded(note: Path) -> str:
    """The hash in a record, ours or as `sha256sum` writes it."""
    with open(note, encoding="utf-8", errors="replace") as file:
        return file.read(1000).strip().partition(" ")[0].lower()


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _download(entry: Entry, target: Path, patience: float, problems: list[str]) -> bool:
    """Bring the file of `entry` to `target` from the first address that serves it; adds what went wrong."""
    part = target.with_name(f"{target.name}.part")
    proven = bool(entry.sha256 or entry.git)  # else nothing would notice halves of two versions put together
    sources = [*entry.urls, *entry.urls]  # each once more
    seconds = downloads.SILENCE + (entry.bytes or entry.most) / downloads.SLOWEST
    until, tries = time.monotonic() + seconds, 0
    try:
        while sources:
            if tries == CONNECTIONS or time.monotonic() > until:
                problems.append(f"given up after {tries} tries and at most {seconds:.0f} s")
                return False
            url, before, tries = sources.pop(0), part.stat().st_size if part.is_file() else 0, tries + 1
            try:
                downloads.download(
                    url, part, resume=proven, size=entry.bytes, most=entry.most, until=until, patience=patience,
                    label=entry.file,
                )  # fmt: skip
                if wrong := problem(part, entry):
                    part.unlink()
                    raise ValueError(wrong.replace(str(part), "the answer"))
                os.replace(part, target)
                if wrong := problem(target, entry):  # somebody else wrote to it meanwhile
                    raise ValueError(wrong)
                return True
            except downloads.Unwritten:
                raise
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
