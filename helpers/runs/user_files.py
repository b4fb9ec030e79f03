"""Run a user's Python file with the modules beside it, and keep those to files of the same folder.

The file may stand beside a `helpers.py`, `utils.py` or `random.py` of the user's and may put further folders on
`sys.path`: what it imports from there, at once or in a later call, reaches neither our code, nor a library, nor the
user's files in other folders. Files of one folder share their neighbours, which are copies of their own also where
the session has imported the same files, or the package that contains the folder: they are read anew after `forget()`.
Only packages with compiled parts, installed ones, and ours are shared with the session. A neighbour named like a module
of the standard library is meant only by an `import` statement in the user's own modules. Two limits are Python's: one
of a name that is built in (`time`) is never found; and started in a folder that has a `helpers.py`, Python takes that
file for this package: start it elsewhere, or rename the file.
"""

import builtins
import contextlib
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from helpers.files import cache_by_stat


class Room(NamedTuple):
    """What belongs to the files of one folder."""

    modules: dict[str, ModuleType]
    standard: dict[str, ModuleType]  # those named like a module of the standard library
    front: list[str]  # folders that they put on `sys.path`, before and after all others
    back: list[str]


OURS = __name__.partition(".")[0]
STANDARD = tuple({os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
_rooms: dict[Path, Room] = {}
_importing = threading.RLock()


def forget() -> None:
    """Import what stands beside users' files anew when they are loaded again."""
    with _importing:
        _rooms.clear()


def load(path: Path) -> ModuleType:
    """Run a file as a module of a name of its own: dataclasses and pickle look their module up."""
    name = f"downscaler_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    importlib.invalidate_caches()  # its neighbours may be younger than the last look at the folder
    for _ in range(2):
        with _inside(path.parent) as room:
            before = {*room.front, *room.back}
            source = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path), path.parent))
            module = sys.modules[name] = importlib.util.module_from_spec(source)
            source.loader.exec_module(module)
        added = {*room.front, *room.back} - before
        if not any(each in sys.modules for folder in added for each in _hiding(folder)):
            break  # else it met another's module, before its folder was known: once more, now that it is
    return module


def inside(folder: Path, function: Callable) -> Callable:
    """Let a function of a user's file import its neighbours whenever it is called."""

    @functools.wraps(function)
    def call(*args, **options):
        with _inside(folder):
            return function(*args, **options)

    return call


@contextlib.contextmanager
def _inside(folder: Path, standard: str = "") -> Iterator[Room]:
    """Have the modules of a folder in `sys.modules`, and out of it others that are loaded under the same names.

    A neighbour named like a module of the standard library is not among them, but for the one named `standard`.
    """
    with _importing:
        room, path = _rooms.setdefault(folder, Room({}, {}, [], [])), list(sys.path)
        within = any(
            isinstance(each, _Finder) and each.folder == folder for each in sys.meta_path
        )  # another such block
        own = [str(folder), *room.front, *room.back]
        names = {name.partition(".")[0] for name in room.modules}.union(*map(_hiding, own)) | _loaded_around(folder)
        hidden = _take_out(names)
        others = dict(sys.modules)
        sys.modules.update(room.modules)
        sys.path[:] = [*room.front, str(folder), *path, *room.back]
        finder = _Finder(folder, own, standard)
        sys.meta_path.insert(0, finder)
        try:
            yield room
        finally:
            sys.meta_path.remove(finder)
            cut = next((place for place, each in enumerate(sys.path) if each in path), len(sys.path))
            new = [
                [each for each in part if each not in (str(folder), *path)] for part in (sys.path[:cut], sys.path[cut:])
            ]
            room.front[:], room.back[:] = dict.fromkeys(new[0] + room.front), dict.fromkeys(room.back + new[1])
            sys.path[:] = path
            new = {name.partition(".")[0] for name, module in sys.modules.items() if others.get(name) is not module}
            around = _loaded_around(folder)
            private = {name for name in new if name in names | around or not _is_everybodys(name, others)}
            room.modules.update(_take_out(private))
            sys.modules.update({name: module for name, module in others.items() if name.partition(".")[0] in private})
            sys.modules.update(hidden | (room.modules if within else {}))


def _take_out(names: Iterable[str]) -> dict[str, ModuleType]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}


def _hiding(folder: str) -> set[str]:
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
    places = [_real(each) for each in _where(spec) if os.path.isabs(each)]
    around = [place for place in places if _is_below(place, str(folder)) or _is_below(str(folder), place)]
    return any(not _is_installed(place) for place in around)


def _is_installed(place: str) -> bool:
    parts = {"site-packages", "dist-packages"} & {*Path(place).parts}
    return bool(parts) or any(_is_below(place, each) for each in STANDARD)


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


_real = functools.cache(os.path.realpath)


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
    return spec.origin == found.origin and (spec.origin is not None or {*_where(spec)} <= {*_where(found)})


def _where(spec: importlib.machinery.ModuleSpec) -> list[str]:
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


class _Finder:
    """Finds the source files of a room for its own loader; everything else is left to Python."""

    def __init__(self, folder: Path, own: list[str], standard: str):
        self.folder, self.own, self.standard = folder, own, standard

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        top, finder = name.partition(".")[0], importlib.machinery.PathFinder
        if top in sys.stdlib_module_names and top != self.standard:  # a library asks for it
            outside = [each for each in sys.path if each not in self.own] if path is None else path
            return finder.find_spec(name, outside)
        spec = finder.find_spec(name, path)
        package = spec if path is None else getattr(sys.modules.get(top), "__spec__", None)
        places = {os.path.dirname(os.path.realpath(each)) for each in _where(package)} if spec and package else set()
        beside = places & {*map(os.path.realpath, self.own)}
        if not beside and not (spec and package and _is_around(self.folder, package)):
            return None
        if type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = _Loader(name, spec.origin, self.folder)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Reads the source anew, no cached bytecode that is a second old; lets it import neighbours named `random`."""

    def __init__(self, name: str, path: str, folder: Path):
        super().__init__(name, path)
        self.folder = folder

    def get_code(self, fullname: str) -> object:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        if _standard_in(self.folder):
            module.__builtins__ = vars(builtins) | {"__import__": functools.partial(_import, self.folder)}
        super().exec_module(module)


def _standard_in(folder: Path) -> set[str]:
    """Modules in a folder that are named like one of the standard library, but for those that Python has built in."""
    names = _names_in(str(folder)) & sys.stdlib_module_names - {*sys.builtin_module_names}
    return {name for name in names if importlib.machinery.FrozenImporter.find_spec(name) is None}


def _import(folder: Path, name: str, *args, **options) -> ModuleType:
    """`__import__` of a user's module: a neighbour comes before the standard library."""
    top, level = name.partition(".")[0], options.get("level", args[3] if len(args) > 3 else 0)
    if level or top not in _standard_in(folder):
        return builtins.__import__(name, *args, **options)
    with _inside(folder, top) as room:
        hidden = _take_out({top})
        sys.modules.update({each: module for each, module in room.standard.items() if each.partition(".")[0] == top})
        try:
            return builtins.__import__(name, *args, **options)
        finally:
            room.standard.update(_take_out({top}))
            sys.modules.update(hidden)
