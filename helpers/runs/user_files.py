"""Run a user's Python file with the modules beside it, and keep those to files of the same folder.

The file may stand beside a `helpers.py`, `utils.py` or `random.py` of the user's and may put further folders on
`sys.path`: what it imports from there, at once or in a later call, reaches neither our code, nor a library, nor the
user's files in other folders. Files of one folder share their neighbours, which are copies of their own also where
the session has imported the same files, or the package that contains the folder. They are read anew after `forget()`,
and as soon as one of them has changed, when a file of the folder is loaded again; so are modules that are named
"module:function", unless they are installed. What they set for the process is put back, see `process_state`.
Only packages with compiled parts, installed ones, and ours are shared with the session. A neighbour named like a module
of the standard library is meant only by an `import` statement in the user's own modules; there it has another
`__name__`. Two limits are Python's: one of a name that is built in (`time`) is never found; and started in a folder
that has a `helpers.py`, Python takes that file for this package: start it elsewhere, or rename the file.
"""

import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from helpers.process_state import put_back
from helpers.runs import rooms
from helpers.runs.rooms import Room


class Loaded(NamedTuple):
    """A user's module, and what its functions need in each call."""

    module: ModuleType
    room: Room | None  # None: it is installed
    own: dict[str, dict]  # what it has set for the process


SUFFIXES = (".py", ".pyc")
_rooms: dict[Path, Room] = {}
_installed: dict[str, dict] = {}  # what installed modules have set when they were imported


def forget() -> None:
    """Import what stands beside users' files anew when they are loaded again."""
    with rooms.alone():
        _rooms.clear()


def spelled(spec: str | os.PathLike) -> str:
    """The one spelling of a user's function: "/folder/file.py:function"; all other specifications as they are.

    Args:
        spec: "file.py:function" with any path to the file, "folder:function" with a package's folder, or
            "module:function", which is taken for its file unless it is installed.

    Raises:
        ValueError: it is no text.
    """
    if not isinstance(spec, str | os.PathLike):
        raise ValueError(f"downscaler: expected a text such as 'file.py:function', got {spec!r}")
    spec = os.fspath(spec)
    where, colon, function = spec.rpartition(":")
    if not colon or not where or where.split(":")[0] in ("command", "folder"):
        return spec
    path = Path(os.path.expanduser(where))
    if (path / "__init__.py").is_file():
        path = path / "__init__.py"
    elif path.suffix not in SUFFIXES:
        path = _file_of(where)
    return spec if path is None else f"{_canonical(path)}:{function}"


def _canonical(path: Path) -> Path:
    real = Path(os.path.realpath(path))
    return real if real.suffix == path.suffix else Path(os.path.realpath(path.parent), path.name)


def _file_of(module: str) -> Path | None:
    """The source file of a module that is the user's own, neither installed nor part of this package; nothing runs."""
    top, *rest = module.split(".")
    if not all(map(str.isidentifier, (top, *rest))) or top == rooms.OURS or top in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # one that has no source, such as a session's own
        return None
    for place in map(rooms.real, filter(os.path.isabs, rooms.where(spec) if spec else ())):
        found = Path(place, *rest)
        for path in (found / "__init__.py", found.with_name(f"{found.name}.py")) if rest else (found,):
            path = path / "__init__.py" if path.is_dir() else path
            if path.is_file() and path.suffix == ".py" and not rooms.is_installed(place):
                return path
    return None


def load(path: Path, *, alone: bool = False) -> Loaded:
    """Run a file as a module of a name of its own: dataclasses and pickle look their module up.

    Args:
        path: of the file.
        alone: with neighbours that no other file shares, so that `code_of` tells what this one has read.

    Raises:
        ValueError: it is no Python, or raises an error that does not say itself where it comes from.
        ImportError, OSError, MemoryError: as the file raises them.
    """
    importlib.invalidate_caches()  # its neighbours may be younger than the last look at the folder
    own: dict[str, dict] = {}
    with rooms.alone():
        room = None if alone else _rooms.get(path.parent)
        if room is None or rooms.has_changed(room) or path.name == "__init__.py":
            room = rooms.new(path.parent)
        if not alone:
            _rooms[path.parent] = room
        with put_back(own, loading=True):
            for _ in range(2):
                before = {*room.front, *room.back}
                with rooms.enter(room):
                    module = rooms.run_file(path, room)
                added = {*room.front, *room.back} - before
                if not any(each in sys.modules for folder in added for each in rooms.hiding(folder)):
                    break  # else it met another's module, before its folder was known: once more, now that it is
        if own:  # a neighbour may have set it, which is not imported twice
            _rooms.pop(path.parent, None)
    return Loaded(module, room, own)


def code_of(loaded: Loaded) -> list[tuple[str, str]]:
    """Each file that a user's module has read as code until now, from its folder on, and a hash of what stood there."""
    if loaded.room is None:
        origin = getattr(loaded.module, "__file__", None) or ""
        return [(os.path.basename(origin), rooms.hash_at(origin))]
    return sorted((os.path.relpath(path, loaded.room.folder), seen) for path, seen in loaded.room.sources.items())


def import_(name: str) -> Loaded:
    """Import an installed module.

    Raises:
        ImportError: as usual.
    """
    own: dict[str, dict] = {}
    with rooms.alone(), put_back(own, loading=True):
        module = importlib.import_module(name)
    own = _installed.setdefault(name, own)
    return Loaded(module, None, own)


def inside(loaded: Loaded, function: Callable) -> Callable:
    """Let a function of a user's file import its neighbours whenever it is called, and put back what it sets."""

    named = [name for name in ("__module__", "__name__", "__doc__") if isinstance(getattr(function, name, 0), str)]

    @functools.wraps(function, assigned=named)
    def call(*args, **options):
        with rooms.alone(), put_back(loaded.own), rooms.enter(loaded.room) if loaded.room else contextlib.nullcontext():
            return function(*args, **options)

    call.puts_back = True
    return call
