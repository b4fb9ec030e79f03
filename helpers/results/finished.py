"""Finished rows as columns, in files that are written once: NumPy's .npz, which anybody can read, and their list.

`finished.csv.gz` lists the files with the SHA-256 of each; what it does not list is not there. Its name and first line
are such that versions that know CSV alone refuse the folder instead of missing its rows. Besides, the zip of an .npz
has a CRC-32 for each column, so that a few columns can be read and are still vouched for.

A column of numbers is an array of its name; one of texts is `name.codes`, the number of each row's text, and
`name.texts`, all texts in UTF-8 with a 0 byte behind each.
"""

import gzip
import io
import json
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers import files
from helpers.columns import Coded, Table, length, spell, unspell

LIST = "finished.csv.gz"
NOTE = "finished rows lie in the files finished-*.npz beside this one: a later version of ida-rd reads them"
ROWS = 2**18  # of one file: what is read to look up one image


class Part(NamedTuple):
    """One file of finished rows."""

    name: str
    rows: int
    sha256: str
    first: str  # the least text of the column by which parts are found, and the greatest
    last: str


def listed(folder: Path) -> list[Part]:
    """The files of a folder, oldest first; none where nothing is finished.

    Raises:
        ValueError: the list is damaged.
    """
    path = folder / LIST
    if not path.exists():
        return []
    try:
        note, *lines = gzip.decompress(path.read_bytes()).decode("utf-8", "surrogateescape").splitlines()
        if note != NOTE:
            raise ValueError(f"expected {NOTE!r}, got {note[:80]!r}")
        return [Part(*json.loads(line)) for line in lines]
    except (OSError, EOFError, ValueError, TypeError, zlib.error) as error:
        raise ValueError(
            f"{path}: damaged ({error}); restore it from a copy, or delete it and the files finished-*.npz beside it: "
            "their rows are computed anew"
        ) from error


def write(folder: Path, tables: Iterable[tuple[Table, str, str]]) -> list[Part]:
    """Add files to the list, which counts in one step; a process that is killed before has added none.

    Args:
        folder: whose lock the caller holds.
        tables: of each file its columns, texts as they are spelled, and the least and greatest text in it.

    Returns:
        The files added.

    Raises:
        OSError: the disk is full; the folder is as it was.
    """
    before = [part for part in listed(folder) if (folder / part.name).exists()]
    for path in set(folder.glob("finished-*.npz")) - {folder / part.name for part in before}:
        path.unlink()  # of a process that was killed
    number, added = max((int(part.name[9:15]) for part in before), default=0), []
    for table, first, last in tables:
        name, data = f"finished-{number + len(added) + 1:06d}.npz", as_bytes(table)
        files.replace(folder / name, data)
        added.append(Part(name, length(table), files.sha256_of(folder / name), first, last))
    text = "".join(f"{line}\n" for line in [NOTE, *map(json.dumps, [*before, *added])])
    files.replace(folder / LIST, gzip.compress(text.encode("utf-8", "surrogateescape"), mtime=0))
    return added


def as_bytes(table: Table) -> bytes:
    """The .npz of a table; equal tables, equal bytes."""
    arrays = {}
    for name, column in table.items():
        if isinstance(column, Coded):
            arrays |= {f"{name}.codes": column.codes, f"{name}.texts": spell(column.values)}
        else:
            arrays[name] = column
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            how = zipfile.ZIP_DEFLATED, 1  # a level that is fast, a date that is always the same
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getbuffer(), *how)
    return out.getvalue()


def read(folder: Path, part: Part, columns: Collection[str]) -> Table | None:
    """Some columns of one file, texts as they are spelled; None, with a warning, where somebody has deleted it.

    Raises:
        ValueError: the file is not the one that was written; says what to do.
    """
    path = folder / part.name
    if not path.exists():
        said = f"{path}: not there, although {LIST} has it; its {part.rows} rows count as missing"
        warnings.warn(said, stacklevel=6)
        return None
    try:
        if (now := files.sha256_of(path)) != part.sha256:
            raise ValueError(f"expected SHA-256 {part.sha256[:12]}..., got {now[:12]}...")
        with np.load(path, allow_pickle=False) as found:
            return {name: _column(found, name) for name in columns}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: damaged or replaced ({error}); restore it from a copy, or delete it: its {part.rows} rows count "
            "as missing then and are computed anew"
        ) from error


def _column(found, name: str) -> np.ndarray | Coded:
    if name in found.files:
        return found[name]
    return Coded(found[f"{name}.codes"], unspell(found[f"{name}.texts"]))
