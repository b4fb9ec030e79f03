"""Keep rows, one line a draw, in a folder that survives killed runs: append, read, check and publish them.

A folder holds published files (`*.csv.gz`, sorted, never appended to), `local.csv` with the rows computed here since
(one of an older layout is written anew before a row is added), `aside.csv` with the images left out and why,
`local.lock`, empty when nobody writes, and perhaps `at_work.*`, see `helpers.runs.apart`.
"""

import contextlib
import csv
import gzip
import itertools
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import files, tables

# fmt: off
KEY = ("dataset", "image", "downscaler", "scale", "degradation", "level", "where", "upscaler", "heat", "seed",
       "sample", "distortion")
SEARCH = ("residual", "converged")  # of each sample of an upscaler that searches; else empty
PROOF = ("group", "hr", "lr")  # the photograph, and hashes of the 8-bit pixels scored; "" if unknown, before 0.5.0
COLUMNS = (*KEY, "value", *SEARCH, *PROOF, "height", "width", "clipped", "seconds", "lr_bits", "weights", "metric",
           "device", "version", "checksum")
# fmt: on
CELL = tuple(name for name in KEY if name not in ("sample", "distortion"))  # what fails or succeeds as one
ASIDE = (*CELL, "distortion", "tried", "hr", "lr", "weights", "version", "reason")
INTEGERS = {"scale", "seed", "sample", "height", "width"}
FLOATS = {"level", "value", *SEARCH, "clipped", "seconds", "lr_bits"}  # NaN is an empty field, but for `value`: "nan"
ONE_OF = {"weights": ["upscaler", "scale"], "metric": ["distortion"], "version": [], "device": []}  # one within these
TRUSTED = " trusted"  # after the hash of an LR image that a run took as it was, see `runs.run`
HIGHER_IS_BETTER = ("psnr", "ssim", "ssim_piq_downsampled", "ms_ssim")  # and their "_of_mean"
LOWER_IS_BETTER = ("lpips", "lpips_embedded", "dists", "mse", "lr_mse", "consistency_mse")  # and "1-ssim" etc.

_HEADER = ",".join(COLUMNS)
_OLDER = ",".join(name for name in COLUMNS if name not in PROOF)  # still read, never written
_ASIDE = ",".join((*ASIDE, "checksum"))
_OLDER_ASIDE = "dataset,image,scale,upscaler,reason"  # without checksums or what failed: its images are tried again


def lower_is_better(distortion: str) -> bool | None:
    """Direction of a distortion's values, from its name alone: True where less means closer to the HR image.

    Args:
        distortion: the name in the row: "lpips", "1-ssim", "psnr_of_mean".

    Returns:
        True or False; None for a name that is not the project's: its direction is the caller's to state.
    """
    name = distortion.removesuffix("_of_mean")
    if re.fullmatch(r"\w+@[0-9a-f]{8}", name):  # a reader's own D, which `runs.methods` has checked
        return True
    if name in LOWER_IS_BETTER or (name.startswith("1-") and name[2:] in HIGHER_IS_BETTER[1:]):  # no "1-psnr"
        return True
    return False if name in HIGHER_IS_BETTER else None


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
    path = folder / "local.csv"
    with files.only_writer(folder) as hold, contextlib.ExitStack() as stack:
        (layout, there), header = _lines(path), f"{_HEADER}\n".encode()  # refuses rows with other columns
        if path.exists() and not path.read_bytes().startswith(header):  # an older layout, or Windows' line ends
            there = [tables.line(line[:-1], _HEADER) for line in _parsed(layout, there)]
            files.replace(path, header + tables.as_bytes("".join(there)))
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
            nonlocal size
            data = tables.as_bytes("".join(tables.line(_fields(row), _HEADER) for row in rows))
            check()
            data = data if size else header + data
            files.append(file, data)
            size += len(data)  # not what is there: it may be cut meanwhile

        yield write
        check()


def read(rows_dir: str | Path, *, keys: Iterable[Sequence] | None = None, mixed: Sequence[str] = ()) -> pd.DataFrame:
    """All rows of a folder, published and local, or those of `keys`.

    A torn last line is dropped; any other damaged line is reported by its number and counts as missing. Of rows with
    the same key the newest counts: a local one before a published one, one with hashes before one without.

    Args:
        rows_dir: folder of rows, or one published file.
        keys: only rows with these keys (values in the order of `KEY`).
        mixed: names among `ONE_OF` that may differ between rows that would be averaged.

    Returns:
        One line per draw, sorted by key, with the columns `COLUMNS`: integers, floats (NaN if empty), text;
        `heat` is a float where it is one number, else text ("1.0+0.1").

    Raises:
        ValueError: a file has other columns; two rows of one key, with the same hashes, weights and metric, differ in
            value; or weights, metric, version or device are mixed.
    """
    rows, paths = _load(Path(rows_dir))
    wanted = None if keys is None else list(zip(*keys, strict=True)) or [()] * len(KEY)
    place, *asked = _places(rows, *([wanted] if keys is not None else []))
    if keys is not None:
        there = np.isin(place, asked[0])
        rows, place, paths = rows[there], place[there], paths[there]
    rows = rows.take(_newest(rows, place, paths)).reset_index(drop=True)
    if all(isinstance(value, float) for value in rows.heat.unique()):
        rows["heat"] = rows.heat.astype("float64")
    check_mixed(rows, mixed)
    return rows


def check_mixed(rows: pd.DataFrame, mixed: Sequence[str] = ()) -> None:
    """Refuse rows that would be averaged although other weights, metric, version or device made them.

    Args:
        rows: as `read` returns them.
        mixed: names among `ONE_OF` that may differ.

    Raises:
        ValueError: names the column and how many rows have which value.
    """
    if unknown := set(mixed) - set(ONE_OF):
        raise ValueError(f"mixed: expected names of {', '.join(ONE_OF)}, got {', '.join(sorted(unknown))}")
    for column, within in ONE_OF.items():
        groups = rows.groupby(within) if within else [((), rows)]
        for name, group in groups if column not in mixed and len(rows) else ():
            counts = group[column].value_counts()
            if len(counts) > 1:
                counts = ", ".join(f"{value!r} ({n} rows)" for value, n in counts.items())
                raise ValueError(
                    f"rows of {' '.join(map(str, name)) or 'this folder'}: column {column!r} holds {counts}, "
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
    place, asked = _places(rows, list(zip(*keys, strict=True)) or [()] * len(KEY))
    return list(itertools.compress(keys, ~np.isin(asked, place)))


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
    lines = [tables.line(_fields(row), _HEADER) for row in rows.to_dict("records")]
    files.replace(path, gzip.compress(tables.as_bytes("".join([f"{_HEADER}\n", *lines])), mtime=0))
    return len(lines)


def set_aside(rows_dir: str | Path, cells: Iterable[dict]) -> None:
    """Note in `aside.csv` which cells are left out and why; a newer line of a cell counts in place of an older one.

    Args:
        rows_dir: folder of rows.
        cells: dicts with the columns `ASIDE`: a cell under one distortion, all distortions that were tried at once,
            hashes of the HR and LR pixels that failed ("" where there were none, "?" where nobody knows), weights,
            version and the reason; an empty reason takes the cell back.
    """
    path = Path(rows_dir) / "aside.csv"
    news = [tables.line(_texts(ASIDE, [cell[name] for name in ASIDE]), _ASIDE) for cell in cells]
    news = tables.as_bytes("".join(news))
    if news and (not path.exists() or not path.stat().st_size or _is_older_aside(path)):
        files.replace(path, tables.as_bytes(f"{_ASIDE}\n") + news)
    elif news:  # behind the older lines: an image costs the same, however many were set aside before
        with open(path, "r+b", buffering=0) as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # torn
                file.truncate(path.read_bytes().rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            files.append(file, news)


def aside(rows_dir: str | Path) -> pd.DataFrame:
    """The cells left out, with the columns `ASIDE`; empty if there are none.

    A damaged line is reported; its cell counts as not set aside, so it is tried again. So is all that a version before
    0.5.0 set aside.
    """
    path = Path(rows_dir) / "aside.csv"
    if _is_older_aside(path):
        warnings.warn(f"{path}: an older version wrote it; what it set aside is tried again", stacklevel=2)
        return pd.DataFrame(columns=list(ASIDE))
    lines = _parsed(*tables.intact_lines(path, (_ASIDE,), "what they set aside is tried again"))
    newest = {tuple(line[: len(CELL) + 1]): line for line in lines}
    noted = [newest[key] for key in sorted(newest) if newest[key][len(ASIDE) - 1]]
    values = [[_parse(*pair) for pair in zip(ASIDE, line, strict=False)] for line in noted]
    return pd.DataFrame(values, columns=list(ASIDE))


# ---- one line


def _text(column: str, value: object) -> str:
    """`value` as the file spells it: equal values, equal text; floats come back bit for bit."""
    if column in INTEGERS:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(f"{column}: expected an integer, got {value!r}")
        return str(int(value))
    if column in FLOATS:
        number = math.nan if value is None or value == "" else float(value)
        return "" if math.isnan(number) and column != "value" else repr(number)
    if column == "heat":
        value = heat(value)
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0")


def heat(value: float | str) -> float | str:
    """One spelling of a heat: a float where it is one number, else "1.0+0.1", the heats of a cascade."""
    with contextlib.suppress(ValueError):
        return float(value)
    with contextlib.suppress(ValueError):
        return "+".join(repr(float(each)) for each in str(value).split("+"))
    return value


def _parse(column: str, text: str) -> object:
    """The inverse of `_text`."""
    if column in INTEGERS:
        return int(text)
    if column in FLOATS:
        return float(text or "nan")
    if column == "heat" and isinstance(heat(text), float):
        return float(text)
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\r", "\r").replace("\\0", "\0") for part in parts)


def _texts(columns: Sequence[str], values: Sequence) -> tuple[str, ...]:
    return tuple(_text(*pair) for pair in zip(columns, values, strict=True))


def _fields(row: dict) -> tuple[str, ...]:
    expected = COLUMNS[:-1]
    if row.keys() != set(expected):
        absent, unknown = set(expected) - set(row), set(row) - set(expected)
        raise ValueError(f"row: missing columns {sorted(absent)}, unknown columns {sorted(unknown)}")
    return _texts(expected, [row[name] for name in expected])


def _order(column: str, text: str) -> tuple:
    """Sorts numbers as numbers, after empty fields and before texts."""
    value = _parse(column, text) if text else -math.inf
    return isinstance(value, str), value


def _places(rows: pd.DataFrame, *keys: Sequence[Sequence]) -> list[np.ndarray]:
    """The place of each row, and of keys given column by column, in the order of all of them."""
    return tables.places([[rows[name] for name in KEY], *keys], KEY, _text, _order)


# ---- files


def _lines(path: Path) -> tuple[str, list[bytes]]:
    """The layout and the undamaged lines of a file of rows; ValueError: it has other columns."""
    return tables.intact_lines(path, (_HEADER, _OLDER), "their rows count as missing")


def _parsed(header: str, lines: Iterable[bytes]) -> list[list[str]]:
    """The fields of lines, of the older layout with the later columns empty."""
    found = list(csv.reader(line.decode("utf-8", "surrogateescape") for line in lines))
    if header == _OLDER:
        place = COLUMNS.index(PROOF[0])
        at, more = KEY.index("image"), [""] * (len(PROOF) - 1)
        found = [[*line[:place], _photograph(line[0], line[at]), *more, *line[place:]] for line in found]
    return found


def _photograph(dataset: str, image: str) -> str:
    """The photograph of a crop of the library, which its name tells; of other images older rows do not know it: ""."""
    crop = re.fullmatch(r"(.+)_y\d+_x\d+", image)
    return crop[1] if crop and re.fullmatch(r"library\d+", dataset) else ""


def _table(path: Path) -> pd.DataFrame:
    """The rows of one file, as `read` returns them, but in the order of the file."""
    header, lines = _lines(path)
    rows = tables.read_lines([line[:-9] for line in lines], header.split(",")[:-1], INTEGERS, FLOATS, _parse)
    if header == _OLDER:
        pairs = list(zip(rows.dataset, rows.image, strict=True))
        known = {pair: _photograph(*pair) for pair in set(pairs)}
        for name in PROOF:
            values = [known[pair] for pair in pairs] if name == "group" else ""
            rows[name] = pd.Series(values, rows.index, dtype=object)
    rows["checksum"] = pd.Series([line[-8:].decode() for line in lines], dtype=object)
    return rows


def _load(rows_dir: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Every row of all files, older ones first, and the file of each."""
    parts = [rows_dir] if rows_dir.is_file() else [*sorted(rows_dir.glob("*.csv.gz")), rows_dir / "local.csv"]
    found = list(map(_table, parts))
    paths = np.repeat(np.array(parts, object), [len(table) for table in found])
    found = [table for table in found if len(table)] or found[:1]
    return pd.concat(found, ignore_index=True)[list(COLUMNS)], paths


def _newest(rows: pd.DataFrame, place: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """Which rows count, in order of their keys: the newest of each, one with hashes before one without."""
    order = np.argsort(place, kind="stable")
    again = np.flatnonzero(np.diff(place[order], prepend=-1) == 0)
    several = np.unique(np.concatenate([again - 1, again]))  # all rows of keys with more than one, older first
    part = rows.take(order[several])
    lrs = [lr.removesuffix(TRUSTED) for lr in part.lr]
    made = dict(zip(several, zip(part.hr, lrs, part.weights, part.metric, strict=True), strict=True))
    groups = dict(zip(several, part.group, strict=True))
    values = dict(zip(several, map(repr, part.value), strict=True))
    keep, last = np.ones(len(order), bool), {}
    for at in again:
        before = last.get(at - 1, at - 1)
        if made[before] == made[at]:
            if values[before] != values[at]:
                raise ValueError(
                    f"{paths[order[at]]}: two rows of one key differ, {rows.value.iat[order[before]]} and "
                    f"{rows.value.iat[order[at]]} for {rows[list(KEY)].iloc[order[at]].to_dict()}; find out which is "
                    "right and delete the other"
                )
            newer = before if groups[before] == groups[at] else at  # the photograph alone was corrected
        else:  # one without hashes is older than one with them
            newer = at if made[at][0] or not made[before][0] else before
        keep[before if newer == at else at] = False
        last[at] = newer
    return order[keep]


def _is_older_aside(path: Path) -> bool:
    return path.exists() and path.read_bytes().partition(b"\n")[0].rstrip(b"\r") == _OLDER_ASIDE.encode()
