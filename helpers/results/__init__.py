"""Keep rows, one line a draw, in a folder that survives killed runs: append, read, check and publish them.

A folder holds published files (`*.csv.gz`, sorted, never appended to), `local.csv` with the rows computed here since
(one of an older layout is written anew before a row is added), `aside.csv` with the images left out and why,
`local.lock`, empty when nobody writes, and perhaps `at_work.*`, see `helpers.runs.apart`. Where `local.csv` has grown
beyond `LOG` bytes its rows move to files that are read column by column, see `helpers.results.finished`.
"""

import contextlib
import gzip
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import columns, files, tables
from helpers.columns import Column, Table
from helpers.results import finished
from helpers.results.failures import aside, set_aside
from helpers.results.row import (
    ASIDE,
    CELL,
    COLUMNS,
    FLOATS,
    HEADER,
    HIGHER_IS_BETTER,
    INTEGERS,
    KEY,
    LOWER_IS_BETTER,
    ONE_OF,
    PROOF,
    SEARCH,
    TRUSTED,
    VERSION,
    fields,
    heat,
    lower_is_better,
    parsed,
    spelled,
)  # fmt: skip
from helpers.results.snapshots import Snapshot, latest, lines, load, newest, places, snapshot, table_of

__all__ = [
    "ASIDE", "CELL", "COLUMNS", "FLOATS", "HIGHER_IS_BETTER", "INTEGERS", "KEY", "LOWER_IS_BETTER", "ONE_OF", "PROOF",
    "SEARCH", "TRUSTED", "VERSION", "Snapshot", "append", "aside", "check_mixed", "finish", "heat", "lower_is_better",
    "count", "latest", "missing", "missing_at", "publish", "read", "set_aside", "snapshot", "writer",
]  # fmt: skip
LOG = 64 * 2**20  # bytes of `local.csv` from which on its rows move to `finished`


def append(rows: Iterable[dict], rows_dir: str | Path) -> None:
    """Append rows to the local part of `rows_dir` and return once they are on the disk.

    Args:
        rows: dicts with every column of `COLUMNS` but the checksum.
        rows_dir: folder of rows; made if it is not there.

    Raises:
        ValueError: a row has other columns, or the folder cannot be used or is in use (see `writer`).
        OSError: the disk is full; the folder and the bytes are named, and the file is left as it was.
    """
    with writer(rows_dir) as write:
        write(rows)


@contextlib.contextmanager
def writer(rows_dir: str | Path) -> Iterator[Callable[[Iterable[dict]], None]]:
    """Hold the folder's lock and give out `write(rows)`: it appends rows and waits for the disk.

    A torn last line, left by a killed run, is cut off first: a row appended to it would be lost with it.

    Args:
        rows_dir: folder of rows; made if it is not there.

    Raises:
        ValueError: the folder cannot be written, another run holds it, or its rows have other columns; later: somebody
            else has removed or changed `local.csv`, or removed `local.lock` and holds it now.
        OSError: as `append`.
    """
    folder = files.check_output(rows_dir)
    path, header = folder / "local.csv", f"{HEADER}\n".encode()
    with files.only_writer(folder) as hold, contextlib.ExitStack() as stack:
        (layout, there) = lines(path)  # refuses rows with other columns
        if path.exists() and not path.read_bytes().startswith(header):  # an older layout, or Windows' line ends
            there = [tables.line(line[:-1], HEADER) for line in parsed(layout, there)]
            files.replace(path, header + tables.as_bytes("".join(there)))
        del there
        if path.exists() and path.stat().st_size > LOG:
            _finish(folder)
        file = stack.enter_context(open(path, "ab", buffering=0))
        size = file.truncate(path.read_bytes().rfind(b"\n") + 1)

        def check() -> None:
            if not files.is_at(file, path) or os.fstat(file.fileno()).st_size != size:
                raise ValueError(
                    f"{path}: expected the file as this run left it, found it removed, replaced or changed by "
                    "somebody else; what is missing there now is computed by the next run"
                )
            hold()

        def write(rows: Iterable[dict]) -> None:
            nonlocal size, file
            data = tables.as_bytes("".join(tables.line(fields(row), HEADER) for row in rows))
            check()
            if size > LOG:
                file.close()  # Windows replaces no file that is open
                _finish(folder)
                file = stack.enter_context(open(path, "ab", buffering=0))
                size = os.fstat(file.fileno()).st_size
            data = data if size else header + data
            files.append(file, data)
            size += len(data)  # not what is there: it may be cut meanwhile

        yield write
        check()


def finish(rows_dir: str | Path) -> int:
    """Move the rows of `local.csv` to files that are read column by column; they are read as before.

    A run does so by itself where `local.csv` is beyond `LOG` bytes. Whenever this is stopped or killed, all rows are
    there. Versions that do not know such files refuse the folder.

    Args:
        rows_dir: folder of rows.

    Returns:
        Number of rows moved.

    Raises:
        ValueError: as `writer`, or `helpers.results.finished.listed`.
        OSError: the disk is full; the folder is as it was.
    """
    with writer(rows_dir):
        pass  # an older layout is written anew
    folder = files.check_output(rows_dir)
    with files.only_writer(folder):
        return _finish(folder)


def _finish(folder: Path) -> int:
    """`finish`, by the holder of the lock."""
    path = folder / "local.csv"
    table = table_of(path)
    if not (number := columns.length(table)):
        return 0
    (place,) = places(table)
    order = np.argsort(place, kind="stable")
    del place
    spelt = {name: spelled(name, column) for name, column in table.items()}

    def parts() -> Iterator[tuple[Table, str, str]]:
        for start in range(0, number, finished.ROWS):
            part = columns.take(spelt, order[start : start + finished.ROWS])
            part = {name: columns.dense(column, str) for name, column in part.items()}
            yield part, part["image"].values[0], part["image"].values[-1]

    finished.write(folder, parts())
    files.replace(path, f"{HEADER}\n")  # a process that is killed before leaves the rows in both: they count once
    return number


Keys = Iterable[Sequence] | Mapping[str, Column]


def read(
    rows_dir: str | Path | Snapshot,
    *,
    keys: Keys | None = None,
    mixed: Sequence[str] = (),
    names: Sequence[str] = COLUMNS,
) -> pd.DataFrame:
    """All rows of a folder, published and local, or those of `keys`.

    A torn last line is dropped; any other damaged line is reported by its number and counts as missing. Of rows with
    the same key the newest counts: a local one before a published one, one with hashes before one without.

    Args:
        rows_dir: folder of rows, one published file, or what `snapshot` has read of one.
        keys: only rows with these keys: values in the order of `KEY`, or a column of each name in `KEY`. Of rows that
            are finished no others are read.
        mixed: names among `ONE_OF` that may differ between rows that would be averaged.
        names: columns to return; fewer take less memory.

    Returns:
        One line per draw, sorted by key, with the columns `COLUMNS`: integers, floats (NaN if empty), text;
        `heat` is a float where it is one number, else text ("1.0+0.1").

    Raises:
        ValueError: a file has other columns; two rows of one key, with the same hashes, weights and metric, differ in
            value; or weights, metric, version or device are mixed.
    """
    if unknown := [name for name in names if name not in COLUMNS]:
        raise ValueError(f"names: expected columns among {', '.join(COLUMNS)}, got {', '.join(unknown)}")
    there = rows_dir if isinstance(rows_dir, Snapshot) else snapshot(rows_dir)
    wanted = None if keys is None else _by_column(keys)
    rows, source, paths = load(there, wanted, {*names, *KEY, *PROOF, *ONE_OF, "value"})
    place, *asked = places(rows, *([wanted] if keys is not None else []))
    if keys is not None:
        kept = np.isin(place, asked[0])
        rows, place, source = columns.take(rows, kept), place[kept], source[kept]
    if (order := newest(rows, place, source, paths)) is not None:
        rows = columns.take(rows, order)
    del place, source, order
    _check_mixed(rows, mixed)
    checksums = rows.pop("checksum", None)
    found = columns.frame(rows, [name for name in names if name != "checksum"])
    if checksums is not None and "checksum" in names:
        texts = pd.Series([f"{each:08x}" for each in checksums.tolist()], dtype=object)
        found.insert(list(names).index("checksum"), "checksum", texts)
    return found


def count(keys: Keys) -> int:
    """How many keys there are, however they are given."""
    return columns.length(keys) if isinstance(keys, Mapping) else len(keys)


def _by_column(keys: Keys) -> list[Sequence]:
    if isinstance(keys, Mapping):
        return [keys[name] for name in KEY]
    return list(map(list, zip(*keys, strict=True))) or [[]] * len(KEY)


def check_mixed(rows: pd.DataFrame, mixed: Sequence[str] = ()) -> None:
    """Refuse rows that would be averaged although other weights, metric, version or device made them.

    Args:
        rows: as `read` returns them.
        mixed: names among `ONE_OF` that may differ.

    Raises:
        ValueError: names the column and how many rows have which value.
    """
    _check_mixed({name: columns.coded(rows[name]) for name in {*ONE_OF, *itertools.chain(*ONE_OF.values())}}, mixed)


def _check_mixed(rows: Table, mixed: Sequence[str]) -> None:
    if unknown := set(mixed) - set(ONE_OF):
        raise ValueError(f"mixed: expected names of {', '.join(ONE_OF)}, got {', '.join(sorted(unknown))}")
    for column, within in ONE_OF.items():
        used = np.bincount(rows[column].codes, minlength=1)
        if column in mixed or np.count_nonzero(used) < 2:
            continue
        together = [columns.coded(rows[name]) for name in (*within, column)]
        number = columns.numbered(together)
        combined, first, counts = np.unique(number, return_index=True, return_counts=True)
        group = combined // len(together[-1].values)
        for each in np.unique(group[:-1][np.diff(group) == 0]):
            its = sorted(np.flatnonzero(group == each), key=lambda k: (-counts[k], first[k]))
            said = ", ".join(f"{together[-1].values[rows[column].codes[first[k]]]!r} ({counts[k]} rows)" for k in its)
            name = [each.values[each.codes[first[its[0]]]] for each in together[:-1]]
            raise ValueError(
                f"rows of {' '.join(map(str, name)) or 'this folder'}: column {column!r} holds {said}, "
                f"not to be averaged together; use another folder (results_dir of a notebook), or "
                f"helpers.runs.run(..., mixed=({column!r},))"
            )


def missing(keys: Iterable[Sequence], rows: pd.DataFrame) -> list[tuple]:
    """The keys without a row; a NaN row counts as there: its draw has been made.

    Args:
        keys: values in the order of `KEY`.
        rows: as `read` returns them.
    """
    keys = list(map(tuple, keys))
    return [keys[k] for k in missing_at(keys, rows)]


def missing_at(keys: Keys, rows: pd.DataFrame) -> np.ndarray:
    """The places of keys without a row, as `missing`; keys as `read` takes them."""
    place, asked = places(rows, _by_column(keys))
    return np.flatnonzero(~np.isin(asked, place))


def publish(rows_dir: str | Path, path: str | Path, *, keys: Iterable[Sequence] | None = None) -> int:
    """Write rows sorted by key to one `.csv.gz`; the same rows are the same bytes, however they came about.

    `seconds` is left empty: it alone differs between two runs of the same rows. The file replaces an older
    one in a single step, or not at all.

    Args:
        rows_dir: folder of rows.
        path: file to write, its name ending in .csv.gz.
        keys: only rows with these keys, for one experiment out of a shared folder.

    Returns:
        Number of rows written.

    Raises:
        ValueError: `path` has another ending, or as `read`.
        OSError: the disk is full; an older file is left as it was.
    """
    path = Path(path)
    if not path.name.endswith(".csv.gz"):
        raise ValueError(f"expected a path ending in .csv.gz, got {str(path)!r}")
    rows = read(rows_dir, keys=keys, mixed=tuple(ONE_OF)).drop(columns="checksum").assign(seconds=math.nan)
    lines = [tables.line(fields(row), HEADER) for row in rows.to_dict("records")]
    files.replace(path, gzip.compress(tables.as_bytes("".join([f"{HEADER}\n", *lines])), mtime=0))
    return len(lines)
