"""Rooms: keep the modules of a user's folder to the files of that folder.

While a room is entered, its modules stand in `sys.modules`, and others that are loaded under the same names do not; its
folders are on `sys.path`, and a finder of its own reads its sources anew. Behind the block all is as it was.
"""

import builtins
import contextlib
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import itertools
import os
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from helpers.files import cache_by_stat


class Room(NamedTuple):
    """What belongs to the files of one folder."""

    folder: Path
    number: str  # part of the names of modules that are not called by their own
    modules: dict[str, ModuleType]
    sources: dict[str, str]  # files that were read -> hashes of what stood there
    missed: set[str]  # modules that were looked for and not found here
    front: list[str]  # folders that they put on `sys.path`, before and after all others
    back: list[str]


OURS = __name__.partition(".")[0]
STANDARD = tuple({os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
_numbers = itertools.count()
_importing = threading.RLock()
_holder: list[tuple[int, set[int | None]]] = []  # the thread that has it, and all that there were then


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other thread loads or calls what a user's file holds.

    Raises:
        RuntimeError: that thread has started this one, and waits for it.
    """
    held = None
    while not _importing.acquire(timeout=1):
        before, held = held, (_holder or [None])[0]  # somebody may just take or leave it
        me = threading.get_ident()
        if held and held is before and me not in held[1] and _is_waiting(held[0]):
            raise RuntimeError(
                "a user's function waits for a thread of its own, which loads or calls another user's file: "
                "do so in the function itself"
            )
    _holder.append((threading.get_ident(), {thread.ident for thread in threading.enumerate()}))
    try:
        yield
    finally:
        _holder.pop()
        _importing.release()


def new(folder: Path) -> Room:
    """An empty room."""
    return Room(folder, f"{next(_numbers)}", {}, {}, set(), [], [])


def _is_waiting(ident: int) -> bool:
    """Whether a thread waits for another one."""
    frame = sys._current_frames().get(ident)
    return frame is not None and frame.f_code.co_filename == threading.__file__


def run_file(path: Path, room: Room) -> ModuleType:
    """Run a file of a room that was entered, as a module of a name of its own; a package under its outermost one.

    Raises:
        ValueError: it is no Python, or raises an error that does not say itself where it comes from.
        ImportError, OSError, MemoryError: as the file raises them.
    """
    try:
        if path.name == "__init__.py":
            return _import_package(room)
        name = f"downscaler_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
        compiled = importlib.machinery.SourcelessFileLoader(name, str(path))
        loader = compiled if path.suffix == ".pyc" else _Loader(name, str(path), room)
        spec = _Spec(name, loader, origin=str(path))
        spec.has_location, spec.room = True, room
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module
    except (ImportError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{path.name} cannot be loaded: {type(error).__name__}: {error}") from error


def _import_package(room: Room) -> ModuleType:
    for name in [name for name in sys.modules if name.partition(".")[0] == _around(room)]:  # of a first try
        del sys.modules[name]
    return importlib.import_module(_package_of(room))


def has_changed(room: Room) -> bool:
    """Whether what was read for a room is no longer what stands there, or what was looked for has come."""
    there = set().union(*map(_names_in, [str(room.folder), *room.front, *room.back]))
    return bool(room.missed & there) or any(hash_at(path) != seen for path, seen in list(room.sources.items()))


def hash_at(path: str) -> str:
    """Hash of the file that stands at a path; "" where there is none."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if os.path.isfile(path) else ""


def _is_active(room: Room) -> bool:
    """Whether a function of a room is called, or a file of it loaded, in whatever thread."""
    return any(isinstance(each, _Finder) and each.room is room for each in list(sys.meta_path))


@contextlib.contextmanager
def enter(room: Room) -> Iterator[None]:
    """Have the modules of a room in `sys.modules`, and out of it others that are loaded under the same names."""
    with alone():
        folder, path, tables = room.folder, list(sys.path), (sys.modules, sys.path, sys.meta_path)
        within = _is_active(room)  # another such block
        own = [str(folder), *room.front, *room.back]
        names = {name.partition(".")[0] for name in room.modules}.union(*map(hiding, own)) | _loaded_around(folder)
        hidden = _take_out(names)
        others = dict(sys.modules)
        sys.modules.update(room.modules)
        sys.path[:] = [*room.front, str(folder), *path, *room.back]
        finder, finders = _Finder(room, own), list(sys.meta_path)
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            later, more = list(sys.path), [each for each in sys.meta_path if each not in (finder, *finders)]
            sys.modules, sys.path, sys.meta_path = tables  # the objects that Python itself holds
            sys.meta_path[:] = [*finders, *more]  # a library's new finder stays, behind all others
            cut = next((place for place, each in enumerate(later) if each in path), len(later))
            new = [[each for each in part if each not in (str(folder), *path)] for part in (later[:cut], later[cut:])]
            room.front[:], room.back[:] = dict.fromkeys(new[0] + room.front), dict.fromkeys(room.back + new[1])
            sys.path[:] = path
            new = {name.partition(".")[0] for name, module in sys.modules.items() if others.get(name) is not module}
            around = _loaded_around(folder)
            private = {name for name in new if name in names | around or not _is_everybodys(name, others)}
            room.modules.update(_take_out(private))
            sys.modules.update(others | hidden | (room.modules if within else {}))


def _take_out(names: Iterable[str]) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}


def hiding(folder: str) -> set[str]:
    """Names of the modules in a folder, without libraries that are loaded from there and the standard library's."""
    here = os.path.realpath(folder)
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in _names_in(folder)}
    loaded = {name: Path(os.path.realpath(file)) for name, file in files.items() if file}
    from_here = {name for name, file in loaded.items() if str(file.parents[file.stem == "__init__"]) == here}
    from_here = {name for name in from_here if _is_library(name)}
    return files.keys() - from_here - sys.stdlib_module_names


def _loaded_around(folder: Path) -> set[str]:
    """Names of the modules that are loaded from a folder, or below it, or as the package that contains it."""
    modules = {name: module for name, module in list(sys.modules.items()) if "." not in name}
    specs = {name: getattr(module, "__dict__", {}).get("__spec__") for name, module in modules.items()}
    names = {name for name, spec in specs.items() if isinstance(spec, importlib.machinery.ModuleSpec)}
    around = {name for name in names if not name.startswith("downscaler_") and _is_around(folder, specs[name])}
    return {name for name in around - sys.stdlib_module_names if not _is_library(name)}


def _is_around(folder: Path, spec: importlib.machinery.ModuleSpec) -> bool:
    """Whether a module lies in a folder, or below it, or is the package that contains it; none that is installed."""
    places = [real(each) for each in where(spec) if os.path.isabs(each)]
    around = [place for place in places if _is_below(place, str(folder)) or _is_below(str(folder), place)]
    return any(not is_installed(place) for place in around)


def is_installed(place: str) -> bool:
    """Whether a file or folder is part of an installation, not of the user's own code."""
    parts = {"site-packages", "dist-packages"} & {*Path(place).parts}
    return bool(parts) or any(_is_below(place, each) for each in STANDARD)


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


real = functools.cache(os.path.realpath)


def _is_library(name: str) -> bool:
    """Whether a loaded module cannot be loaded a second time: ours, the main one, or one with compiled parts."""
    parts = [module for each, module in list(sys.modules.items()) if each.partition(".")[0] == name]
    files = [str(getattr(module, "__dict__", {}).get("__file__")) for module in parts]
    return name in (OURS, "__main__") or any(
        file.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)) for file in files
    )


def _is_everybodys(name: str, others: dict[str, ModuleType]) -> bool:
    """Whether anybody's import would find this very module; also if it was there before, or comes from no file."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if module is None or module is others.get(name) or name.startswith("downscaler_"):
        return True
    found = (each.find_spec(name, None) for each in sys.meta_path if hasattr(each, "find_spec"))
    found, file = next(filter(None, found), None), getattr(module, "__file__", None)
    if found is None:
        return spec is None and file is None
    if spec is None:
        return file == found.origin
    return spec.origin == found.origin and (spec.origin is not None or {*where(spec)} <= {*where(found)})


def where(spec: importlib.machinery.ModuleSpec) -> list[str]:
    """The file of a module, or the folders of a package."""
    places = spec.submodule_search_locations
    return [str(spec.origin)] if places is None else list(places)


@cache_by_stat
def _names_in(folder: str) -> set[str]:
    """List the modules that Python would import from a folder in place of others; none from an installation.

    A folder without `__init__.py` loses to any package of its name.
    """
    if not os.path.isdir(folder):
        return set()
    endings, names, entries = tuple(importlib.machinery.all_suffixes()), set(), list(os.scandir(folder))
    if any(entry.name.endswith(".dist-info") for entry in entries):
        return set()
    for entry in entries:
        if entry.is_dir() and entry.name.isidentifier():
            found = importlib.machinery.PathFinder.find_spec(entry.name)
            if found is None or found.origin is None or os.path.isfile(os.path.join(entry.path, "__init__.py")):
                names.add(entry.name)
        elif entry.name.endswith(endings):
            names.add(entry.name.partition(".")[0])
    return names


class _Spec(importlib.machinery.ModuleSpec):
    """Says of a file that runs under a name of its own which package its relative imports start from."""

    room: Room

    @property
    def parent(self) -> str:
        return _package_of(self.room)


def _around(room: Room) -> str:
    """What the outermost package around a room is called in `sys.modules`, whatever else has its name."""
    return f"around_{room.number}"


def _package_of(room: Room) -> str:
    return ".".join([_around(room), *room.folder.relative_to(_root_of(room.folder)).parts])


def _root_of(folder: Path) -> Path:
    """The outermost package that a folder belongs to; a folder without `__init__.py` is one by itself."""
    while (folder / "__init__.py").is_file() and (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return folder


class _Finder:
    """Finds the source files of a room for its own loader; everything else is left to Python."""

    def __init__(self, room: Room, own: list[str]):
        self.room, self.own = room, own

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        top, finder = name.partition(".")[0], importlib.machinery.PathFinder
        if name == _around(self.room):
            return self._find_package(name)
        if path is None and name.startswith(_beside_name(self.room)):
            return self._find_other(name)
        if top in sys.stdlib_module_names:  # a library asks for it
            outside = [each for each in sys.path if each not in self.own] if path is None else path
            return finder.find_spec(name, outside)
        spec = finder.find_spec(name, path)
        package = spec if path is None else getattr(sys.modules.get(top), "__spec__", None)
        places = {os.path.dirname(os.path.realpath(each)) for each in where(package)} if spec and package else set()
        beside = places & {*map(os.path.realpath, self.own)}
        if not beside and not (spec and package and _is_around(self.room.folder, package)):
            self.room.missed.add(top)
            return None
        if type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = _Loader(name, spec.origin, self.room)
        elif type(spec.loader) is importlib.machinery.SourcelessFileLoader:
            self.room.sources[spec.origin] = hash_at(spec.origin)
        return spec

    def _find_package(self, name: str) -> object:
        root = _root_of(self.room.folder)
        if (file := root / "__init__.py").is_file():
            return self._make_spec(name, str(file), [str(root)])
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(root)]
        return spec

    def _find_other(self, name: str) -> object:
        """A neighbour that is named like a module of the standard library."""
        folder, own = str(self.room.folder), name.removeprefix(_beside_name(self.room))
        spec = importlib.machinery.PathFinder.find_spec(own, [folder])
        return spec and self._make_spec(name, spec.origin, spec.submodule_search_locations)

    def _make_spec(self, name: str, file: str, folders: list[str] | None) -> object:
        source = file.endswith(tuple(importlib.machinery.SOURCE_SUFFIXES))
        loader = _Loader(name, file, self.room) if source else None
        return importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=folders)


class _Loader(importlib.machinery.SourceFileLoader):
    """Reads the source anew, no cached bytecode that is a second old; lets it import neighbours named `random`."""

    def __init__(self, name: str, path: str, room: Room):
        super().__init__(name, path)
        self.room = room

    def get_code(self, fullname: str) -> object:
        data = self.get_data(self.path)
        self.room.sources[self.path] = hashlib.sha256(data).hexdigest()
        return self.source_to_code(data, self.path)

    def exec_module(self, module: ModuleType) -> None:
        if _standard_in(self.room.folder):
            module.__builtins__ = vars(builtins) | {"__import__": functools.partial(_import, self.room)}
        super().exec_module(module)


def _standard_in(folder: Path) -> set[str]:
    """Modules in a folder that are named like one of the standard library, but for those that Python has built in."""
    names = _names_in(str(folder)) & sys.stdlib_module_names - {*sys.builtin_module_names}
    return {name for name in names if importlib.machinery.FrozenImporter.find_spec(name) is None}


def _beside_name(room: Room) -> str:
    return f"beside_{room.number}_"


def _import(room: Room, name: str, *args, **options) -> ModuleType:
    """`__import__` of a user's module: a neighbour comes before the standard library, under a name of its own.

    A thread that the user's function has started does not wait for that function.
    """
    level = options.get("level", args[3] if len(args) > 3 else 0)
    if level or name.partition(".")[0] not in _standard_in(room.folder):
        return builtins.__import__(name, *args, **options)
    with contextlib.nullcontext() if _is_active(room) else enter(room):
        return builtins.__import__(_beside_name(room) + name, *args, **options)
