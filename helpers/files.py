"""Files on the disk: output folders, writes that are whole or never happen, locks between processes, hashes.

Also what comes with the package (`packaged`), and answers kept while a file does not change (`cache_by_stat`).
"""

import contextlib
import errno
import hashlib
import io
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, wraps
from pathlib import Path
from stat import S_ISREG

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FULL = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG")}  # errors of a disk without room
_threads = threading.Lock()
KEPT = "What was there is kept"
_held: set[Path] = set()  # folders locked by this process


def packaged(name: str) -> Path:
    """A folder of data that comes with the package: `helpers/data/<name>` once installed, `data/<name>` in a checkout.

    Args:
        name: "weights", "manifests" or "images/kodak".
    """
    installed = Path(__file__).parent / "data" / name
    return installed if installed.is_dir() else Path(__file__).parents[1] / "data" / name


def check_output(folder: str | Path, *inputs: str | Path) -> Path:
    """Make sure that results can be written, before anything is computed for them.

    Args:
        folder: created if missing.
        inputs: folders of images; the results must not lie inside one.

    Raises:
        ValueError: inside an input folder, or not writable; names the folder and the reason.
    """
    folder = Path(folder).resolve()
    for given in inputs:
        if Path(given).is_dir() and folder.is_relative_to(Path(given).resolve()):
            raise ValueError(f"{folder}: expected an output folder outside the input folder {given}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
    except OSError as error:
        raise ValueError(f"{folder}: expected a folder to write into, got {error.strerror}") from error
    return folder


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what was written there takes its place in one step, or never.

    Args:
        path: the file to write; its folder is made. An older file stays as it is until the end of the block, and
            for good if the block raises.

    Yields:
        A short name that no other process, thread or machine writes to, with the suffix of `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def open_own(path: Path, *, new: bool = False) -> io.BufferedRandom:
    """Open an ordinary file with one name to read and write, and never what a link or a device there leads to.

    Args:
        path: in a folder where others may write as well; opened at its beginning, and made if it is not there.
        new: put an empty file in the place of what is there, which is not written to.

    Raises:
        OSError: a link (also a hard one), a pipe, a device or a folder is there; names it.
    """
    if new:
        path.unlink(missing_ok=True)
    other = FileExistsError(errno.EEXIST, "expected an ordinary file with one name, found a link or no file", str(path))
    with contextlib.suppress(FileNotFoundError):
        if not is_own(os.lstat(path)):  # to open a device may do something
            raise other
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))  # what the system knows
    number = os.open(path, os.O_RDWR | os.O_CREAT | flags | (os.O_EXCL if new else 0), 0o666)
    file = os.fdopen(number, "r+b")
    if not is_own(os.fstat(number)):  # put there meanwhile
        file.close()
        raise other
    return file


def is_own(found: os.stat_result) -> bool:
    """Whether `os.lstat` found an ordinary file with at most one name: no link, pipe, device or folder."""
    return S_ISREG(found.st_mode) and found.st_nlink <= 1


def replace(path: str | Path, data: bytes | str) -> None:
    """Write `data`, text as UTF-8, to `path`, on the disk before an older file is replaced in one step.

    Raises:
        OSError: the disk is full; the folder and the bytes are named, and an older file is left as it was.
    """
    replace_all({path: data.encode() if isinstance(data, str) else data})


def replace_all(contents: Mapping[str | Path, bytes]) -> None:
    """`replace` several files, none before all are on the disk."""
    with contextlib.ExitStack() as stack:
        for path, data in contents.items():
            try:
                part = stack.enter_context(replacing(path))
                with open(part, "xb", buffering=0) as file:
                    append(file, data)
            except OSError as error:
                raise error if KEPT in str(error) else _unwritten(error, len(data), Path(path).parent) from error


def reserve(path: Path) -> None:
    """Claim the room that a file will fill, if the system can: a page of memory that finds none ends the process.

    Raises:
        OSError: there is not enough; the folder and the bytes are named.
    """
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            getattr(os, "posix_fallocate", lambda *given: None)(file.fileno(), 0, size)
        except OSError as error:
            raise _unwritten(error, size, path.parent) from error


def append(file: io.FileIO, data: bytes) -> None:
    """Append all of `data` to an open, unbuffered file and wait for the disk, or leave the file as it was.

    Raises:
        OSError: as `replace`.
    """
    size, view = os.fstat(file.fileno()).st_size, memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())
    except BaseException as error:
        if view or isinstance(error, OSError):  # Ctrl-C while waiting for the disk spoils nothing
            file.truncate(size)
        if not isinstance(error, OSError):
            raise
        raise _unwritten(error, len(data), Path(str(file.name)).parent) from error


def _unwritten(error: OSError, size: int, folder: Path) -> OSError:
    said = f"could not write {size} bytes to {folder}: {error.strerror}. {KEPT}"
    return OSError(error.errno, f"{said}: make room and run again" if error.errno in FULL else said)


def lock(file: io.IOBase, *, wait: bool) -> bool:
    """Lock an open file against other processes; the system frees the lock when its holder dies.

    Args:
        file: open for writing; closing it frees the lock.
        wait: wait for the holder instead of returning False.

    Returns:
        Whether the lock is ours.

    Raises:
        OSError: the file system knows no locks.
    """
    if sys.platform != "win32":
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))  # not flock: a fork would inherit it
        except (BlockingIOError, PermissionError):
            return False
        return True
    file.seek(2**30)  # a locked byte cannot be read there: lock one far beyond the content
    while True:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            return True
        except OSError:  # waiting gives up after ten seconds
            if not wait:
                return False


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other thread or process is inside with the same `path`, an empty file that is removed again.

    Raises:
        OSError: `path` cannot be written or locked, or is a link, which is not followed.
    """
    with _threads:
        while True:
            with open_own(path) as file:
                lock(file, wait=True)
                if not is_at(file, path):  # whoever had it before has removed it, and a third may hold a new one
                    continue
                try:
                    yield
                finally:
                    with contextlib.suppress(PermissionError):  # Windows keeps what is open elsewhere
                        path.unlink(missing_ok=True)
                return


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[Callable[[], None]]:
    """Lock a folder by its file `local.lock`, in which the holder signs; the system frees the lock when he dies.

    Yields:
        A function that makes sure that the lock still holds; it takes it anew where somebody has removed the file.

    Raises:
        ValueError: somebody else holds it, or a run on another machine left its name in the file; at once, or later
            from the function.
    """
    path = folder / "local.lock"
    if path in _held:  # the system's locks are between processes only
        raise ValueError(f"{folder}: this process is already writing here")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_sign(path))

        def hold() -> None:
            nonlocal file
            if not is_at(file, path):
                file = stack.enter_context(_sign(path))

        _held.add(path)
        try:
            yield hold
        finally:
            _held.remove(path)
            file.truncate(0)


def _sign(path: Path) -> io.FileIO:
    """Open a lock file, lock it, and write into it who holds it."""
    folder, host = path.parent, socket.gethostname()
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(open(path, "a+b", buffering=0))
            free = lock(file, wait=False)
            if is_at(file, path) or not free:
                break
        file.seek(0)
        owner = file.read().decode()
        if not free:
            raise ValueError(f"{folder}: {owner or 'somebody'} is writing here; wait, or use another rows_dir")
        if owner and f" on {host} since " not in owner:
            raise ValueError(
                f"{folder}: {owner} has not signed off, and locks do not reach from machine to machine "
                f"on every network file system; if that run is over, delete {path} and run again"
            )
        if owner:
            warnings.warn(f"{folder}: {owner} was killed; the rows it finished are kept", stacklevel=7)
        file.truncate(0)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        append(file, f"process {os.getpid()} on {host} since {now}".encode())
        stack.pop_all()
        return file


def is_at(file: io.IOBase, path: Path) -> bool:
    """Whether an open file is the one that its path leads to; not so once somebody has removed or replaced that."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, 64 hex digits; hashed once a process for each file, size and time of change."""
    return _hash(str(path), False, *_stamp(os.stat(path)))


def git_hash_of(path: str | Path) -> str:
    """What `git hash-object` prints for a file, 40 hex digits: SHA-1 of its size and content."""
    return _hash(str(path), True, *_stamp(os.stat(path)))


def forget_hashes() -> None:
    """Hash every file anew from now on, even one of the same size and time of change."""
    _hash.cache_clear()


def cache_by_stat(function: Callable) -> Callable:
    """Decorate a function of one path: call it again only after the file or folder there has changed.

    What has changed within the last two seconds is read each time: a clock may be too coarse to show the next change.
    """
    remembered = lru_cache(maxsize=64)(lambda path, *stamp: function(path))

    @wraps(function)
    def call(path: Path):
        try:
            stat = os.stat(path)
        except OSError:
            return function(path)
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) < 2_000_000_000:
            return function(path)
        return remembered(path, *_stamp(stat))

    return call


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """What changes with a file: which one it is, its size, and both times, of which only one can be set at will."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=256)
def _hash(path: str, git: bool, device: int, inode: int, size: int, *times: int) -> str:
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False) if git else hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
