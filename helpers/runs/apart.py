"""Get past a reader's downscaler that ends its process or never returns, in runs without workers.

Such a function is called in this process, which is fastest; meanwhile a file `at_work.*` in the folder of rows names
it. A run that finds such a file of a process that is gone (or was interrupted) calls that downscaler in a process of
its own, which has a time limit: what kills or hangs that one is set aside like any other failure.
"""

import contextlib
import json
import os
import pickle
import secrets
import signal
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from helpers import files, results
from helpers.runs import adapters, programs
from helpers.runs.experiment import Experiment, is_function, row_name

FIRST = 600  # seconds for the first call that a downscaler gets in a process of its own
_watch: ContextVar[SimpleNamespace | None] = ContextVar("watch", default=None)


class Lost(RuntimeError):
    """What costs the process that computes it: nobody knows more of it."""


@contextlib.contextmanager
def watching(
    experiments: Iterable[Experiment], rows_dir: str | Path, deadline: float | None = None
) -> Iterator[Callable[[], None]]:
    """Note what readers' functions compute while the block runs, and keep those apart at which a run has ended.

    Args:
        experiments: name the downscalers.
        rows_dir: folder of rows; where it is not there or cannot be written, nothing is noted.
        deadline: seconds that a call may take; keeps all readers' functions apart. None: see `_patience`.

    Yields:
        A function that forgets the notes of earlier runs: this one got past them.
    """
    specs = {name: spec for each in experiments for name, spec in each.specs.items() if is_function(spec)}
    folder, old = Path(rows_dir), {}
    for path in folder.glob("at_work.*") if specs else ():
        with contextlib.suppress(OSError, ValueError), open(path, "r+b") as file:  # one that is half written is none
            if files.lock(file, wait=False):
                old[path] = json.loads(file.read() or b"[null, null]")
    aside = results.aside(folder) if specs and folder.is_dir() else ()
    lost = {line.downscaler for line in aside.itertuples() if " its process" in line.reason} if len(aside) else set()
    ended = {spec: image for spec, image in old.values() if spec in specs.values()}
    kept = set(specs.values()) if deadline else {*ended, *(specs[name] for name in lost & specs.keys())}
    for spec, image in ended.items():
        where = f"image {image}" if image else "its test chart"
        warnings.warn(
            f"{rows_dir}: a run ended while downscaler {spec!r} computed {where}; it has a process of its own now, and "
            "there ten times the time of its other images, at least a minute; `deadline` sets another limit",
            stacklevel=5,
        )
    watch = SimpleNamespace(folder=folder, noted=set(specs.values()) - kept, apart=kept, images={*ended.values()})
    watch.deadline, watch.note, watch.child, watch.seconds = deadline, None, None, {}
    token = _watch.set(watch)
    try:
        yield lambda: [path.unlink(missing_ok=True) for path in old]
    finally:
        _watch.reset(token)
        _end(watch)
        if watch.note:
            with watch.note as file:
                left = os.fstat(file.fileno()).st_size  # it was interrupted
            if not left:
                Path(file.name).unlink(missing_ok=True)


def suspects() -> set[str]:
    """Images at which an earlier run has ended; they come last, when it is known how long the others take."""
    watch = _watch.get()
    return watch.images if watch else set()


@contextlib.contextmanager
def at_work(spec: str, image: str = "") -> Iterator[None]:
    """Note that a downscaler is called for an image; what ends the process in the block leaves the note."""
    watch = _watch.get()
    if watch is None or spec not in watch.noted or not watch.folder.is_dir():
        yield
        return
    if watch.note is None:
        try:
            watch.note = open(watch.folder / f"at_work.{secrets.token_hex(4)}", "xb", buffering=0)  # noqa: SIM115
        except OSError:  # no run goes on in a folder that cannot be written
            yield
            return
        files.lock(watch.note, wait=False)
    watch.note.write(json.dumps([spec, image]).encode())
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        _clear(watch.note)
        raise
    _clear(watch.note)


def _clear(note) -> None:
    note.seek(0)
    note.truncate()


def resolve(spec: str) -> Callable[..., Tensor]:
    """`adapters.resolve`, of a downscaler that is kept apart a function that calls it in the other process."""
    watch = _watch.get()
    return _apart(spec) if watch and spec in watch.apart else _here(spec, row_name(spec))


def begin() -> None:
    """Load the reader's own downscalers anew."""
    _here.cache_clear()
    adapters.forget()


@cache
def _here(spec: str, name: str) -> Callable[..., Tensor]:  # the name changes with the code
    return adapters.resolve(spec)


def _apart(spec: str) -> Callable[..., Tensor]:
    def downscale(hr: Tensor, scale: int) -> Tensor:
        if hr.requires_grad:  # of a search, which no other process can follow
            return _here(spec, row_name(spec))(hr, scale)
        return _ask(spec, hr.detach(), scale)

    _ask(spec)  # what cannot be loaded says so before any image
    return downscale


def _ask(spec: str, *arguments) -> object:
    """Send a call to the other process, started where there is none, and wait for what it returns or raises."""
    watch = _watch.get()
    watch.child = watch.child or _start()
    child, late, before = watch.child, threading.Event(), watch.seconds.setdefault(spec, [])
    limit = watch.deadline or (max(60, 10 * statistics.median(before)) if before else FIRST)
    timer = threading.Timer(limit, lambda: (late.set(), programs.kill(child)))
    timer.start()
    start = time.monotonic()
    try:
        pickle.dump((spec, *arguments), child.stdin)
        child.stdin.flush()
        fine, answer = pickle.load(child.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        code = child.wait()
        _end(watch)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise Lost(f"hung its process for {limit:g} s" if late.is_set() else f"killed its process ({how})") from None
    except BaseException:
        _end(watch)
        raise
    finally:
        timer.cancel()
    if arguments:
        before.append(time.monotonic() - start)
    if not fine:
        raise answer
    return answer


def _start() -> subprocess.Popen:
    code = f"import sys; sys.path[:] = {sys.path!r}; from helpers.runs import apart; apart.serve()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **pipes)  # Ctrl-C is for us
    if child.stdout.read(1) != b"+":
        raise RuntimeError(f"a process for a downscaler did not start: exit code {child.wait()}")
    return child


def _end(watch: SimpleNamespace) -> None:
    child, watch.child = watch.child, None
    if child:
        programs.kill(child)
        for pipe in (child.stdin, child.stdout):
            with contextlib.suppress(BrokenPipeError):  # what it no longer reads
                pipe.close()


def serve() -> None:
    """Load and call downscalers for the process that started this one, until it is gone."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a downscaler prints is no answer
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    answers.write(b"+")
    answers.flush()
    while True:
        try:
            spec, *arguments = pickle.load(questions)
        except EOFError:
            return
        try:
            with torch.no_grad():
                function = _here(spec, row_name(spec))
                answer = pickle.dumps((True, function(*arguments) if arguments else None))
        except Exception as error:
            builtin = type(error).__module__ == "builtins"  # others may be unknown there
            answer = pickle.dumps((False, error if builtin else RuntimeError(f"{type(error).__name__}: {error}")))
        answers.write(answer)
        answers.flush()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
