"""List the pictures of a folder by name, in one order on every system.

An image is called by its file stem in composed form (NFC: macOS splits accents off). The order is that of the code
points of these names: it knows no language and no letter case, and is not that of the paths, in which "a b.png" comes
before "a.png", and on Windows "b.png" before "C.png".
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from helpers.files import cache_by_stat

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")


class Named(dict):
    """Things by name; a name that is not there says which ones are, and which of them may be meant."""

    def __missing__(self, name: object) -> None:
        raise KeyError(f"expected one of {', '.join(self)}, got {name!r}{did_you_mean(name, self)}")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Ask for the nearest of the known names, letter case aside; "" where none is near."""
    lower = {each.lower(): each for each in known}
    close = get_close_matches(str(name).lower(), lower, 1)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""


def list_folder(folder: str | Path, *, below: bool = False) -> tuple[list[Path], list[Path]]:
    """Pictures of a folder by their suffix, and its other entries (hidden ones, folders, other files), both in order.

    A link that leads nowhere counts by its name: reading it says what is wrong. `below` adds those in subfolders.
    """
    folder, pictures, others = Path(folder), [], []

    def place(entry: Path) -> tuple:
        *folders, file = entry.relative_to(folder).parts
        return *map(composed, folders), stem_of(file), composed(file), file

    for entry in sorted(folder.rglob("*") if below else folder.iterdir(), key=place):
        is_picture = entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
        (pictures if is_picture and not os.path.isdir(entry) else others).append(entry)
    return pictures, others


def list_pictures(folder: str | Path) -> tuple[dict[str, Path], list[str]]:
    """The pictures of a folder by their stem, in order, and the names of its other entries.

    Raises:
        ValueError: no picture in it, a stem twice, or a file name that is no text.
    """
    files, others = list_folder(folder)
    if not files:
        raise ValueError(f"{folder}: expected images ({' '.join(SUFFIXES)}), got {len(others)} other entries")
    if twice := same_stems(file.name for file in files):
        raise ValueError(f"{folder}: expected each stem once, got {'; '.join(twice)}")
    if bad := [repr(file.name) for file in files if re.search("[\ud800-\udfff]", file.name)]:
        raise ValueError(f"{folder}: expected file names in UTF-8, got {', '.join(bad)}")
    return {stem_of(file): file for file in files}, [entry.name for entry in others]


def composed(name: str) -> str:
    """A name with its accents composed, as every list of images here has it."""
    return unicodedata.normalize("NFC", name)


def stem_of(file: str | Path) -> str:
    """Name of an image: its file stem, composed."""
    return composed(Path(file).stem)


def same_stems(files: Iterable[str]) -> list[str]:
    """File names that share a stem, letter case and composition aside: "a.jpg, A.png" for each such stem."""
    groups = defaultdict(list)
    for file in files:
        groups[composed(stem_of(file).casefold())].append(file)
    return [", ".join(group) for group in groups.values() if len(group) > 1]


def on_disk(path: Path) -> Path:
    """The path as the disk spells it, whether it or the disk has its accents composed; itself where there is none."""
    if os.path.lexists(path) or path.parent == path:
        return path
    folder = on_disk(path.parent)
    found = _entries(folder).get(composed(path.name), [])
    return folder / (found[0] if len(found) == 1 else path.name)


@cache_by_stat
def _entries(folder: Path) -> dict[str, list[str]]:
    """Composed name -> the names on the disk."""
    entries = defaultdict(list)
    for name in os.listdir(folder) if folder.is_dir() else ():
        entries[composed(name)].append(name)
    return entries
