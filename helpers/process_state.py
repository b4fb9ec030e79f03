"""Put back what a user's code sets for the whole process, so that it reaches nobody else.

That is: torch's threads, default dtype and device, grad and inference mode, autocast, deterministic algorithms,
backends, global hooks and treatment of denormal numbers; NumPy's errors, the warnings filters and the locale; the
working folder, umask, environment and `sys.path`; standard streams, the recursion limit, garbage collection, signal
handlers and timers; Matplotlib's parameters; names that are replaced in torch, NumPy, Pillow, Python's common modules
and here, and entries of our registries; and the three global random generators. A function finds in each call what its
file has set when it was loaded, but for threads, grad and inference mode, autocast, streams, figures and the handlers
of SIGINT, SIGTERM and SIGHUP, the run's own. The generators start at the same numbers when a file is loaded, and at
others in each call: a function that draws from them without a seed has two answers, and a run says so.

Not put back: what a thread does that goes on after the call, a gradient's own code, settings of other libraries, files.
"""

import builtins
import contextlib
import gc
import locale
import math
import operator
import os
import random
import secrets
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch

from helpers.runtime import full_precision

OURS = __name__.partition(".")[0]
GONE = object()  # in place of the value of a name that is not there
_NAMES = ("INT", "TERM", "HUP", "ALRM", "USR1", "USR2", "CHLD", "PIPE", "QUIT", "ABRT", "VTALRM", "PROF", "TSTP")
SIGNALS = [getattr(signal, f"SIG{name}") for name in _NAMES if hasattr(signal, f"SIG{name}")]


class Part(NamedTuple):
    """One kind of state: its settings by name, and how some of them are set."""

    get: Callable[[], dict]
    put: Callable[[dict], None]
    again: bool = True  # whether a function finds in its calls what its file has set


def _one(get: Callable[[], object], put: Callable[[object], None], again: bool = True) -> Part:
    return Part(lambda: {"": get()}, lambda values: put(values[""]), again)


def _put_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # a device slows each call, even the CPU


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _autocast() -> dict[str, object]:
    """Of each kind of device whether it is on, and with which dtype; whether it caches, and how many are open."""
    kinds = filter(torch.amp.is_autocast_available, ("cpu", "cuda", "mps"))
    found = {kind: (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds}
    torch.autocast_increment_nesting()
    return found | {"caches": torch.is_autocast_cache_enabled(), "open": torch.autocast_decrement_nesting()}


def _put_autocast(values: dict[str, object]) -> None:
    for kind, value in values.items():
        if kind == "caches":
            torch.set_autocast_cache_enabled(value)
        elif kind == "open":  # while one is, what it has cast is kept: a training would go on with old weights
            while (now := _autocast()["open"]) != value:
                (torch.autocast_increment_nesting if now < value else torch.autocast_decrement_nesting)()
            torch.clear_autocast_cache()
        else:
            torch.set_autocast_enabled(kind, value[0])
            torch.set_autocast_dtype(kind, value[1])


def _put_deterministic(mode: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])


def _put_filters(filters: list) -> None:
    warnings.filters[:] = filters
    with warnings.catch_warnings():  # makes Python notice
        pass


def _put_environment(values: dict[str, object]) -> None:
    for name, value in values.items():
        if value is GONE:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if "TZ" in values and hasattr(time, "tzset"):
        time.tzset()


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it is gone
        return ""


def _put_folder(folder: str) -> None:
    if folder:
        os.chdir(folder)


def _handlers() -> dict[int, object]:
    if threading.current_thread() is not threading.main_thread():
        return {}  # only the main thread can set any
    found = {number: signal.getsignal(number) for number in SIGNALS}
    return {number: handler for number, handler in found.items() if handler is not None}


def _put_handlers(handlers: dict[int, object]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _is_the_runs(number: int) -> bool:
    return number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None))


def _timer() -> bool:
    return hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _put_timer(running: bool) -> None:
    if not running:  # what the function has started; one of the caller's goes on
        signal.setitimer(signal.ITIMER_REAL, 0)


def _ours() -> list[ModuleType]:
    return [module for name, module in list(sys.modules.items()) if name == OURS or name.startswith(f"{OURS}.")]


def _names() -> dict[object, dict]:
    """What everybody looks up in modules and classes: place -> name -> object."""
    python = [builtins, math, os, random, time, warnings]
    python += [sys.modules[name] for name in ("PIL.Image", "PIL.ImageFile") if name in sys.modules]  # what they decode
    places = [*python, np, torch, torch.nn.functional, torch.Tensor, torch.nn.Module, *_ours()]
    return {place: vars(place).copy() for place in places}


def _registries() -> dict[tuple[str, str], dict]:
    """Dictionaries that others look something up in, not our memories: ours in capitals, and torch's global hooks."""
    tables = [(module, name) for module in _ours() for name in vars(module) if name.isupper() and name[0] != "_"]
    hooks = torch.nn.modules.module
    tables += [(hooks, name) for name in vars(hooks) if name.startswith("_global_")]
    found = {(module.__name__, name): getattr(module, name) for module, name in tables}
    return {place: dict(table) for place, table in found.items() if isinstance(table, dict)}


def _put_registries(values: dict[tuple[str, str], dict]) -> None:
    for (module, name), entries in values.items():
        table = getattr(sys.modules[module], name)
        for each, value in entries.items() if entries is not GONE else ():
            if value is GONE:
                table.pop(each, None)
            else:
                table[each] = value


def _backends() -> dict[str, bool]:
    cudnn = torch.backends.cudnn
    sdp = ("flash", "mem_efficient", "math")  # kinds of attention, also on the CPU
    on = {f"cuda.enable_{name}_sdp": getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in sdp}
    on |= {f"cudnn.{name}": getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    return on | {"mkldnn.enabled": torch.backends.mkldnn.enabled}


def _put_backends(values: dict[str, bool]) -> None:
    for name, on in values.items():
        backend, _, flag = name.partition(".")
        where = getattr(torch.backends, backend)
        getattr(where, flag)(on) if flag.endswith("_sdp") else setattr(where, flag, on)


def _umask() -> int:
    mask = os.umask(0o77)
    os.umask(mask)
    return mask


def _figures() -> dict[str, object]:
    matplotlib = sys.modules.get("matplotlib")
    return dict.copy(matplotlib.rcParams) if hasattr(matplotlib, "rcParams") else {}


def _put_figures(values: dict[str, object]) -> None:
    known = {name: value for name, value in values.items() if value is not GONE}  # else it was loaded meanwhile
    dict.update(sys.modules["matplotlib"].rcParams, known)


def _put_names(values: dict[object, dict]) -> None:
    for place, names in values.items():
        for name, value in names.items() if names is not GONE else ():  # a module of ours that was loaded meanwhile
            if name[:2] == "__" and name != "__import__" and not isinstance(place, type):
                continue
            if value is not GONE:
                setattr(place, name, value)
            elif isinstance(place, type) and hasattr(super(place, place), name):  # it hides an inherited one
                delattr(place, name)


PARTS: dict[str, Part] = {
    "threads": _one(torch.get_num_threads, torch.set_num_threads, again=False),
    "grad": _one(torch.is_grad_enabled, torch.set_grad_enabled, again=False),
    "autocast": Part(_autocast, _put_autocast, again=False),
    "dtype": _one(torch.get_default_dtype, torch.set_default_dtype),
    "device": _one(torch.get_default_device, _put_device),
    "deterministic": _one(_deterministic, _put_deterministic),
    "denormal": _one(lambda: bool(np.float32(1e-42) * np.float32(1) == 0), torch.set_flush_denormal),
    "numpy": Part(np.geterr, lambda values: np.seterr(**values)),
    "warnings": _one(lambda: list(warnings.filters), _put_filters),
    "locale": _one(lambda: locale.setlocale(locale.LC_ALL), lambda text: locale.setlocale(locale.LC_ALL, text)),
    "environment": Part(lambda: dict(os.environ), _put_environment),
    "folder": _one(_folder, _put_folder),
    "path": _one(lambda: list(sys.path), lambda path: sys.path.__setitem__(slice(None), path)),
    "streams": Part(
        lambda: {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")},
        lambda values: [setattr(sys, *pair) for pair in values.items()],
        again=False,
    ),
    "recursion": _one(sys.getrecursionlimit, sys.setrecursionlimit),
    "garbage": _one(gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    "anomalies": _one(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "backends": Part(_backends, _put_backends),
    "umask": _one(_umask, os.umask),
    "figures": Part(_figures, _put_figures, again=False),
    "timer": _one(_timer, _put_timer, again=False),
    "signals": Part(_handlers, _put_handlers),
    "registries": Part(_registries, _put_registries),
    "names": Part(_names, _put_names),
}


@contextlib.contextmanager
def put_back(own: dict[str, dict], *, loading: bool = False) -> Iterator[None]:
    """Let a user's code set what it likes in the block, and put it back behind it.

    Args:
        own: what the file has set when it was loaded; set by a block that is `loading`, found again in all others.
        loading: the block loads the file.
    """
    draws = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    before = {name: part.get() for name, part in PARTS.items()}
    guard = torch.inference_mode(torch.is_inference_mode_enabled())  # its end ends those that were begun in it
    guard.__enter__()
    torch.set_grad_enabled(before["grad"][""])
    try:
        for name, values in own.items():
            PARTS[name].put(values)
        seed = 0 if loading else secrets.randbits(32)
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        with full_precision(torch.device("cpu")) if loading else contextlib.nullcontext():
            yield
    finally:
        for name, part in reversed(PARTS.items()):
            now = part.get()
            if loading and part.again and (new := _changed(before[name], now)):
                own[name] = {each: value for each, value in new.items() if name != "signals" or not _is_the_runs(each)}
            if old := _changed(now, before[name]):
                part.put(old)
        torch.default_generator.set_state(draws[0])
        np.random.set_state(draws[1])
        random.setstate(draws[2])
        guard.__exit__(None, None, None)


def _changed(before: dict, now: dict) -> dict:
    """The settings of `now` that are others than before; GONE for those that are not there any more."""
    new = {name: now.get(name, GONE) for name in {**before, **now}}
    pairs = {name: (before.get(name, GONE), value) for name, value in new.items()}
    return {name: _new(*pair) for name, pair in pairs.items() if not _equal(*pair)}


def _new(before: object, now: object) -> object:
    """Of the names of a module or class those that are others."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return now
    names = {name: now.get(name, GONE) for name in {**before, **now}}
    return {name: value for name, value in names.items() if before.get(name, GONE) is not value}


def _equal(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(map(operator.is_, one.values(), map(other.get, one)))
    plain = (bool, int, str, list, tuple, torch.dtype, torch.device)
    return one is other or (type(one) is type(other) and isinstance(one, plain) and one == other)
