"""Keep rows, one line a draw, in a folder that survives killed runs: append, read, check and publish them.

A folder holds published files (`*.csv.gz`, sorted, never appended to), `local.csv` with the rows computed here since
(one of an older layout is written anew before a row is added), `aside.csv` with the images left out and why, and
`local.lock`, empty when nobody writes.
"""

import contextlib
import csv
import gzip
import io
import math
import os
import socket
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from helpers import files

# fmt: off
KEY = ("dataset", "image", "downscaler", "scale", "degradation", "level", "where", "upscaler", "heat", "seed",
       "sample", "distortion")
SEARCH = ("residual", "converged")  # of each sample of an upscaler that searches; else empty
PROOF = ("group", "hr", "lr")  # the photograph, and hashes of the 8-bit pixels scored; "" in rows older than 0.5.0
COLUMNS = (*KEY, "value", *SEARCH, *PROOF, "height", "width", "clipped", "seconds", "lr_bits", "weights", "metric",
           "device", "version", "checksum")
# fmt: on
ASIDE = ("dataset", "image", "scale", "upscaler", "reason")
INTEGERS = {"scale", "seed", "sample", "height", "width"}
FLOATS = {"level", "value", *SEARCH, "clipped", "seconds", "lr_bits"}  # NaN is an empty field, but for `value`: "nan"
ONE_OF = {"weights": ["upscaler", "scale"], "metric": ["distortion"], "version": []}  # one value within these
HIGHER_IS_BETTER = ("psnr", "ssim", "ssim_piq_downsampled", "ms_ssim")  # and their "_of_mean"
LOWER_IS_BETTER = ("lpips", "lpips_embedded", "dists", "mse", "lr_mse", "consistency_mse")  # and "1-ssim" etc.

_HEADER = ",".join(COLUMNS)
_OLDER = ",".join(name for name in COLUMNS if name not in PROOF)  # still read, never written
_held: set[Path] = set()  # locks of this process


def lower_is_better(distortion: str) -> bool | None:
    """Direction of a distortion's values, from its name alone: True where less means closer to the HR image.

    Args:
        distortion: the name in the row: "lpips", "1-ssim", "psnr_of_mean".

    Returns:
        True or False; None for a name that is not the project's: its direction is the caller's to state.
    """
    name = distortion.removesuffix("_of_mean")
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
        ValueError: the folder cannot be written, another run holds it, or its rows have other columns.
        OSError: as `append`.
    """
    folder = files.check_output(rows_dir)
    path = folder / "local.csv"
    with _locked(folder), contextlib.ExitStack() as stack:
        there = _lines(path) if path.exists() else []  # refuses rows with other columns
        if path.exists() and not path.read_bytes().startswith(
            f"{_HEADER}\n".encode()
        ):  # an older layout: write it anew
            files.replace(path, _bytes("".join([f"{_HEADER}\n", *(_line(line[:-1]) for line in there)])))
        file = stack.enter_context(open(path, "ab", buffering=0))
        file.truncate(path.read_bytes().rfind(b"\n") + 1)

        def write(rows: Iterable[dict]) -> None:
            data = "".join(_line(_fields(row)) for row in rows)
            start = "" if os.fstat(file.fileno()).st_size else f"{_HEADER}\n"
            files.append(file, _bytes(start + data))

        yield write


def read(rows_dir: str | Path, *, keys: Iterable[Sequence] | None = None, mixed: Sequence[str] = ()) -> pd.DataFrame:
    """All rows of a folder, published and local, or those of `keys`.

    A torn last line is dropped; any other damaged line is reported by its number and counts as missing. Of
    rows with the same key and value the first is kept.

    Args:
        rows_dir: folder of rows, or one published file.
        keys: only rows with these keys (values in the order of `KEY`).
        mixed: names among `ONE_OF` that may differ between rows that would be averaged.

    Returns:
        One line per draw, sorted by key, with the columns `COLUMNS`: integers, floats (NaN if empty), text;
        `heat` is a float where it is one number, else text ("1.0+0.1").

    Raises:
        ValueError: a file has other columns, two rows of one key differ in value, or weights, metric or
            version are mixed.
    """
    found = _load(Path(rows_dir))
    if keys is not None:
        found = {key: found[key] for key in {_texts(KEY, key) for key in keys} & found.keys()}
    lines = sorted(found.values(), key=_order)
    data = {name: [_parse(name, line[i]) for line in lines] for i, name in enumerate(COLUMNS)}
    rows = pd.DataFrame({name: pd.Series(values, dtype=_dtype(name, values)) for name, values in data.items()})
    check_mixed(rows, mixed)
    return rows


def check_mixed(rows: pd.DataFrame, mixed: Sequence[str] = ()) -> None:
    """Refuse rows that would be averaged although other weights, another metric or another version made them.

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
    there = {_texts(KEY, key) for key in rows[list(KEY)].itertuples(index=False)}
    return [tuple(key) for key in keys if _texts(KEY, key) not in there]


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
    lines = [_line(_fields(row)) for row in rows.to_dict("records")]
    files.replace(path, gzip.compress(_bytes("".join([f"{_HEADER}\n", *lines])), mtime=0))
    return len(lines)


def set_aside(rows_dir: str | Path, images: Iterable[dict]) -> None:
    """Note in `aside.csv` which images are left out and why; a newer reason replaces the older one.

    Args:
        rows_dir: folder of rows.
        images: dicts with the columns `ASIDE`; an empty reason takes the image back.
    """
    path = Path(rows_dir) / "aside.csv"
    before = _aside_lines(path)
    news = [list(_texts(ASIDE, [image[name] for name in ASIDE])) for image in images]
    noted = {tuple(line[:-1]): line for line in [*before, *news]}
    after = [noted[key] for key in sorted(noted) if noted[key][-1]]
    if after != before:
        files.replace(path, _bytes("".join(_csv(line) + "\n" for line in [ASIDE, *after])))


def aside(rows_dir: str | Path) -> pd.DataFrame:
    """The images left out, with the columns `ASIDE`; empty if there are none."""
    lines = _aside_lines(Path(rows_dir) / "aside.csv")
    values = [[_parse(*pair) for pair in zip(ASIDE, line, strict=True)] for line in lines]
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
        with contextlib.suppress(ValueError):  # "1.0+0.1", the heats of a cascade, stays as it is
            value = repr(float(value))
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _parse(column: str, text: str) -> object:
    """The inverse of `_text`."""
    if column in INTEGERS:
        return int(text)
    if column in FLOATS:
        return float(text or "nan")
    if column == "heat":
        with contextlib.suppress(ValueError):
            return float(text)
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\r", "\r") for part in parts)


def _dtype(column: str, values: list) -> str:
    numbers = column in FLOATS or (column == "heat" and all(isinstance(value, float) for value in values))
    return "int64" if column in INTEGERS else "float64" if numbers else "object"


def _texts(columns: Sequence[str], values: Sequence) -> tuple[str, ...]:
    return tuple(_text(*pair) for pair in zip(columns, values, strict=True))


def _fields(row: dict) -> tuple[str, ...]:
    expected = COLUMNS[:-1]
    if row.keys() != set(expected):
        absent, unknown = set(expected) - set(row), set(row) - set(expected)
        raise ValueError(f"row: missing columns {sorted(absent)}, unknown columns {sorted(unknown)}")
    return _texts(expected, [row[name] for name in expected])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # file names may hold bytes that are no text


def _csv(fields: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(fields)
    return out.getvalue()


def _checksum(body: bytes, header: str = _HEADER) -> bytes:
    """Each checksum starts from that of the header, so a line also vouches for its columns."""
    return b"%08x" % zlib.crc32(body, zlib.crc32(header.encode()))


def _line(fields: Sequence[str]) -> str:
    body = _csv(fields)
    return f"{body},{_checksum(_bytes(body)).decode()}\n"


def _order(fields: Sequence[str]) -> list[tuple]:
    """Sorts numbers as numbers, after empty fields and before texts."""
    values = [_parse(column, text) if text else -math.inf for column, text in zip(KEY, fields, strict=False)]
    return [(isinstance(value, str), value) for value in values]


# ---- files


def _lines(path: Path) -> list[list[str]]:
    """The fields of every undamaged line of one file; the others are reported.

    Raises:
        ValueError: no gzip file, or other columns.
    """
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged ({error}); fetch it again, or delete it") from error
    first, *lines = data.split(b"\n")[:-1] or [_HEADER.encode()]  # what follows the last newline is torn
    bodies = [line.rpartition(b",") for line in lines]
    layouts = {name: [_checksum(body, name) == checksum for body, _, checksum in bodies] for name in (_HEADER, _OLDER)}
    header = max(layouts, key=lambda name: (sum(layouts[name]), name.encode() == first))
    intact, whole = layouts[header], header.encode() == first
    damaged = [number for number, fine in enumerate([whole, *intact], start=1) if not fine]
    if not whole and not any(intact):
        names = first.decode("utf-8", "replace").split(",")
        absent, unknown = [name for name in COLUMNS if name not in names], set(names) - set(COLUMNS)
        older = "an older version wrote it: " if set(SEARCH) <= set(absent) and not unknown else ""
        raise ValueError(
            f"{path}: expected the columns {_HEADER}; missing {absent}, unknown {sorted(unknown)}; "
            f"{older}rows of another layout do not mix: delete the file, or use another rows_dir"
        )
    if damaged:
        numbers = ", ".join(map(str, damaged[:10])) + (" ..." if len(damaged) > 10 else "")
        message = f"{path}: {len(damaged)} damaged lines ({numbers}); their rows count as missing"
        warnings.warn(message, stacklevel=4)
    fine = (line.decode("utf-8", "surrogateescape") for line, fine in zip(lines, intact, strict=True) if fine)
    found = list(csv.reader(fine))
    if header == _OLDER:
        place = COLUMNS.index(PROOF[0])
        found = [[*line[:place], *[""] * len(PROOF), *line[place:]] for line in found]
    return found


def _load(rows_dir: Path) -> dict[tuple[str, ...], list[str]]:
    """Every row by its key, as text, the first of equal ones."""
    parts = [rows_dir] if rows_dir.is_file() else [*sorted(rows_dir.glob("*.csv.gz")), rows_dir / "local.csv"]
    found, value = {}, len(KEY)
    for path in parts:
        for fields in _lines(path) if path.exists() else ():
            first = found.setdefault(tuple(fields[:value]), fields)
            if first[value] != fields[value]:
                raise ValueError(
                    f"{path}: two rows of one key differ, {first[value]} and {fields[value]} for "
                    f"{dict(zip(KEY, fields, strict=False))}; find out which is right and delete the other"
                )
    return found


def _aside_lines(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    header, *lines = csv.reader(path.read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1])
    if tuple(header) != ASIDE:
        raise ValueError(f"{path}: expected the columns {','.join(ASIDE)}, got {','.join(header)}")
    return lines


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer a folder. The system frees the lock when its holder dies: a killed run blocks nobody here.

    Raises:
        ValueError: somebody else holds it, or a run on another machine left its name in the file.
    """
    path, host = folder / "local.lock", socket.gethostname()
    if path in _held:  # the system's locks are between processes only
        raise ValueError(f"{folder}: this process is already writing here")
    with open(path, "a+b", buffering=0) as file:
        free = files.lock(file, wait=False)
        file.seek(0)
        owner = file.read().decode()
        if not free:
            raise ValueError(f"{folder}: {owner or 'somebody'} is writing here; wait, or use another rows_dir")
        if owner and f" on {host} since " not in owner:
            raise ValueError(
                f"{folder}: {owner} has not signed off, and locks do not reach from machine to machine "
                f"on every network file system; if that run is over, delete {path} and run again"
            )
        if owner:
            warnings.warn(f"{folder}: {owner} was killed; the rows it finished are kept", stacklevel=5)
        file.truncate(0)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        files.append(file, f"process {os.getpid()} on {host} since {now}".encode())
        _held.add(path)
        try:
            yield
        finally:
            _held.remove(path)
            file.truncate(0)
