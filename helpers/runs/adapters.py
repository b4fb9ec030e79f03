"""Turn what a user names into a downscaler: a function, a command, or a folder of LR images."""

import contextlib
import difflib
import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import Tensor

from helpers.datasets import sources
from helpers.datasets.checks import pair_problems
from helpers.downscalers import DOWNSCALERS, form
from helpers.images import read_picture
from helpers.listing import composed, list_folder, same_stems, stem_of
from helpers.promises import Checked, check_arguments, check_downscaler
from helpers.rescalers.registry import RESCALERS, downscaler
from helpers.runs import programs, user_files
from helpers.runs.user_files import forget
from helpers.runtime import Stopped, on_cpu

__all__ = ["Checked", "Own", "card_of", "check_downscaler", "check_folder", "check_pair", "forget", "load", "resolve"]

OURS = {*DOWNSCALERS, *RESCALERS}  # names of downscalers that come with the package
ARGUMENTS = {"downscaler": ("hr", "scale"), "upscaler": ("lr", "generators"), "distortion": ("sr", "hr")}


def resolve(
    spec: str | Callable,
    *,
    names: Iterable[str] | None = None,
    timeout: float = 120.0,
    allow_lossy: bool = False,
) -> Callable[..., Tensor]:
    """A downscaler from what a user can write in one line.

    Args:
        spec: a name in `DOWNSCALERS` or `RESCALERS`; "module:function"; "path/to/file.py:function"; "package:function";
            "command: mytool {input} {output} --scale {scale}"; "folder: path/to/LR"; or a function itself.
        names: names of all HR images; a folder is then checked at once, see `check_folder`.
        timeout: seconds that a command may take per image.
        allow_lossy: take LR images from a command or folder whose format is not in `images.LOSSLESS`.

    Returns:
        f_ds, called as `f(hr, scale)`. If `f.needs_name` (a folder) it is called `f(hr, scale, name=image)`. A function
        gets images on the CPU, unless it asks for others, see `runtime.on_cpu`.

    Raises:
        ValueError: says what cannot be found and, for a name, which ones there are.
    """
    if callable(spec):
        check_arguments(f"downscaler {getattr(spec, '__name__', 'the function')!r}", spec, ARGUMENTS["downscaler"])
        return on_cpu(spec)
    if not isinstance(spec, str | os.PathLike):
        raise ValueError(f"downscaler: expected a name, a specification or a function, got {spec!r}")
    spec = user_files.spelled(spec)
    if spec in DOWNSCALERS:
        return DOWNSCALERS[spec]
    if spec in RESCALERS:
        return downscaler(spec)
    kind, colon, rest = spec.partition(":")
    if kind == "command":
        return programs.downscaler(rest.strip(), timeout, allow_lossy)
    if kind == "folder":
        return _folder(Path(rest.strip()).expanduser(), names, allow_lossy)
    if colon:
        return load(spec, "downscaler").function
    if spec.endswith(user_files.SUFFIXES):
        raise ValueError(f"downscaler: expected '{Path(spec).name}:function', which of its functions, got {spec!r}")
    close = difflib.get_close_matches(spec, [*DOWNSCALERS, *RESCALERS], 1)
    raise ValueError(
        f"downscaler: expected one of {', '.join([*DOWNSCALERS, *RESCALERS])}; 'module:function', 'file.py:function', "
        f"'command: ...' or 'folder: ...', got {spec!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    )


class Own(NamedTuple):
    """A function of the reader's, as its file had it when it was loaded."""

    kind: str  # one of `ARGUMENTS`
    spec: str  # "file.py:function", "module:function"
    function: Callable  # gets tensors on the CPU unless it asks for others; what it sets for the process is put back
    loaded: user_files.Loaded


def load(spec: str, kind: str, *, alone: bool = False) -> Own:
    """Load a function of the reader's, of whatever kind.

    Args:
        spec: as `user_files.spelled` returns it.
        kind: one of `ARGUMENTS`, for its errors and its arguments.
        alone: as in `user_files.load`.

    Raises:
        ValueError: there is no such file, module or function, it cannot be loaded or takes other arguments.
        RuntimeError: the file ends the process.
    """
    where, _, attribute = spec.rpartition(":")  # the last colon: C:\mine.py:f
    path, who = Path(where) if where.endswith(user_files.SUFFIXES) else None, f"{kind} {spec!r}"
    if path is not None and not path.is_file():
        raise ValueError(f"{who}: expected a Python file, found none at {path}")
    if where == "__main__":
        raise ValueError(f"{who}: expected a function that others can load, put it into a file")
    if path is None and not all(map(str.isidentifier, where.split("."))):
        found = "a folder without __init__.py" if Path(where).is_dir() else f"{where!r}"
        found += f"; is {Path(where).name}.py meant?" if Path(f"{where}.py").is_file() else ""
        raise ValueError(f"{who}: expected a file ending in .py, a package or a module, got {found}")
    try:
        with _staying(who):
            loaded = user_files.load(path, alone=alone) if path else user_files.import_(where)
    except ImportError as error:
        if path and "bad magic number" in str(error):
            raise ValueError(f"{who}: {error}: it is of another Python; name the source") from error
        if path:
            raise
        raise ValueError(f"{who}: expected a module {where!r}, got: {error}") from error
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from error
    function = getattr(loaded.module, attribute, None)
    if function is None or isinstance(function, type) or not callable(function):
        found = f"found {_functions_of(loaded.module)}" if function is None else f"got {function!r}"
        found = "got a class; call it in the file, and name what it makes" if isinstance(function, type) else found
        raise ValueError(f"{who}: expected a function {attribute!r}, {found}")
    if kind != "downscaler" or function not in DOWNSCALERS.values():
        check_arguments(who, function, ARGUMENTS[kind])
        function = on_cpu(_staying(who)(user_files.inside(loaded, function)))
    return Own(kind, spec, function, loaded)


def code_of(own: Own) -> list[tuple[str, str]]:
    """`user_files.code_of` of a function."""
    return user_files.code_of(own.loaded)


def _functions_of(module: ModuleType) -> str:
    names = [name for name, _ in inspect.getmembers(module, inspect.isfunction) if name[0] != "_"]
    return ", ".join(name for name in names if getattr(module, name).__module__ == module.__name__) or "none"


@contextlib.contextmanager
def _staying(who: str) -> Iterator[None]:
    """Turn what a reader's code raises to end the process, such as `sys.exit()`, into an error of its own."""
    try:
        yield
    except (Exception, KeyboardInterrupt, Stopped):
        raise
    except BaseException as error:
        raise RuntimeError(f"{who} raised {type(error).__name__}: {error}") from error


# A folder of LR images


def check_folder(
    folder: str | Path,
    names: Iterable[str],
    *,
    lr_sizes: Mapping[str, tuple[int, int]] | None = None,
    allow_lossy: bool = False,
) -> dict[str, Path]:
    """Pair LR files with HR images by stem and decode each before any compute; all problems in one error.

    Args:
        folder: LR images, one per HR image. Hidden files, folders and what is no picture are passed over.
        names: names of all HR images.
        lr_sizes: height and width that each LR image must have; sizes are not looked at without it.
        allow_lossy: take lossy files: their loss is part of the score.

    Returns:
        The file of each name.

    Raises:
        ValueError: lists each stem that is missing, extra or there twice (a.png and a.jpg, or A.png), and
            each file that is no 8-bit lossless picture of the right size.
    """
    files, names = _pictures(Path(folder)), dict.fromkeys(map(composed, names))
    stems = {stem_of(file): file for file in files}
    problems = [f"no file for {name!r}" for name in names if name not in stems]
    problems += [f"no HR image for {stems[stem].name!r}" for stem in stems if stem not in names]
    problems += [f"more than one file: {twice}" for twice in same_stems(file.name for file in files)]
    for name in names:
        if name in stems:
            try:
                programs.read_levels(stems[name], (lr_sizes or {}).get(name), allow_lossy)
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError(f"folder {folder}: {len(problems)} problems: " + "; ".join(problems))
    return {name: stems[name] for name in names}


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"folder: expected a folder of LR images, found none at {str(folder)!r}")
    files = [file for file in list_folder(folder)[0] if file.is_file()]  # no broken links
    if not files:
        raise ValueError(f"folder {folder}: expected PNG images, found no picture")
    return files


def _folder(folder: Path, names: Iterable[str] | None, allow_lossy: bool) -> Callable[..., Tensor]:
    files: dict[str, list[Path]] = {}
    for file in _pictures(folder):
        files.setdefault(stem_of(file), []).append(file)
    if names is not None:
        check_folder(folder, names, allow_lossy=allow_lossy)

    def downscale(hr: Tensor, scale: int, *, name: str) -> Tensor:
        if len(hr) != 1:
            raise ValueError(f"folder {folder}: expected one image at a time, got {len(hr)}")
        if len(found := files.get(composed(name), [])) != 1:
            listed = ", ".join(file.name for file in found) or "none"
            raise ValueError(f"folder {folder}: expected one file for {name!r}, got {listed}")
        return programs.read_levels(found[0], (hr.shape[2] // scale, hr.shape[3] // scale), allow_lossy).to(hr)

    downscale.needs_name, downscale.files, downscale.allow_lossy = True, files, allow_lossy
    return downscale


def check_pair(downscale: Callable, dataset: str | Path, name: str, scale: int, *, size: int = 256) -> None:
    """Hold the LR file of an image against the whole HR image, which the downscaler itself does not see.

    Warns of what cannot be told.

    Args:
        downscale: as `resolve` returns it; all but a folder of LR images pass.
        dataset, name, size: as in `datasets.load`.
        scale: s.

    Raises:
        ValueError: what `datasets.checks.pair_problems` finds.
    """
    name = composed(name)
    for file in getattr(downscale, "files", {}).get(name, []):
        hr = sources.look(dataset, name, sources.list_images(dataset, size)[0][name], size)
        found, notes = pair_problems(hr, read_picture(file), scale, allow_lossy_lr=downscale.allow_lossy)
        for note in notes:
            warnings.warn(f"LR files in {file.parent}: {note}, in one image or more", stacklevel=2)
        if found:
            raise ValueError(f"{file.name}: {'; '.join(found)}")


def profile_note(dataset: str | Path, name: str, size: int = 256) -> str:
    """Say that an HR image has a colour profile, which is reported and not applied, or "".

    Args:
        dataset, name, size: as in `datasets.load`.
    """
    name = composed(name)
    profile = sources.look(dataset, name, sources.list_images(dataset, size)[0][name], size).profile
    why = "its numbers are taken as sRGB; convert the files to sRGB if they are meant otherwise"
    return (
        f"HR images in {dataset}: colour profile {profile!r} not applied, in one image or more: {why}"
        if profile
        else ""
    )


def card_of(
    downscale: Callable, dataset: str | Path, names: Sequence[str], scale: int, *, size: int = 256
) -> form.Card | None:
    """Tell what a downscaler is: of a folder from its first images, of all others from a test chart.

    Args:
        downscale: as `resolve` returns it.
        dataset, size: as in `datasets.load`.
        names: images of the data set that a folder has.
        scale: s.

    Returns:
        The card; None where the images of a folder are too small or too flat to tell.

    Raises:
        ValueError: as `downscalers.form.card` and `card_of_pairs`.
    """
    if not getattr(downscale, "needs_name", False):
        return form.card(downscale, scale)
    hrs = {name: sources.load(dataset, name, size=size, multiple_of=scale) for name in names[: form.PICTURES]}
    pairs = [(hr, downscale(hr, scale, name=name)) for name, hr in hrs.items()]
    pairs = [(hr, lr) for hr, lr in pairs if min(lr.shape[2:]) >= form.LEAST and hr.std() > form.FLAT]
    return form.card_of_pairs(pairs, scale) if pairs else None
