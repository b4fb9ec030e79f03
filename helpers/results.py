"""Keep rows, one line a draw, in a folder that survives killed runs: append, read, check and publish them.

A folder holds published files (`*.csv.gz`, sorted, never appended to), `local.csv` with the rows computed here since
(one of an older layout is written anew before a row is added), `aside.csv` with the images left out and why,
`local.lock`, empty when nobody writes, and perhaps `at_work.*`, see `helpers.runs.apart`.
"""

import contextlib
import csv
import gzip
import io
import math
import os
import re
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
        there, header = _lines(path), f"{_HEADER}\n".encode()  # refuses rows with other columns
        if path.exists() and not path.read_bytes().startswith(header):  # an older layout, or Windows' line ends
            files.replace(path, _bytes("".join([f"{_HEADER}\n", *(_line(line[:-1]) for line in there)])))
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
            data = "".join(_line(_fields(row)) for row in rows)
            check()
            files.append(file, _bytes(data) if size else header + _bytes(data))
            size = os.fstat(file.fileno()).st_size

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
    found = _load(Path(rows_dir))
    if keys is not None:
        found = {key: found[key] for key in {_texts(KEY, key) for key in keys} & found.keys()}
    lines = sorted(found.values(), key=_order)
    data = {name: [_parse(name, line[i]) for line in lines] for i, name in enumerate(COLUMNS)}
    rows = pd.DataFrame({name: pd.Series(values, dtype=_dtype(name, values)) for name, values in data.items()})
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


def set_aside(rows_dir: str | Path, cells: Iterable[dict]) -> None:
    """Note in `aside.csv` which cells are left out and why; a newer reason replaces the older one.

    Args:
        rows_dir: folder of rows.
        cells: dicts with the columns `ASIDE`: a cell under one distortion, all distortions that were tried at once,
            hashes of the HR and LR pixels that failed ("" where there were none, "?" where nobody knows), weights,
            version and the reason; an empty reason takes the cell back.
    """
    path = Path(rows_dir) / "aside.csv"
    before = [] if _is_older_aside(path) else _lines(path, (_ASIDE,))
    news = [list(_texts(ASIDE, [cell[name] for name in ASIDE])) for cell in cells]
    noted = {tuple(line[: len(CELL) + 1]): line[: len(ASIDE)] for line in [*before, *news]}
    after = [noted[key] for key in sorted(noted) if noted[key][-1]]
    if after != [line[:-1] for line in before]:
        files.replace(path, _bytes("".join([f"{_ASIDE}\n", *(_line(line, _ASIDE) for line in after)])))


def aside(rows_dir: str | Path) -> pd.DataFrame:
    """The cells left out, with the columns `ASIDE`; empty if there are none.

    A damaged line is reported; its cell counts as not set aside, so it is tried again. So is all that a version before
    0.5.0 set aside.
    """
    path = Path(rows_dir) / "aside.csv"
    if _is_older_aside(path):
        warnings.warn(f"{path}: an older version wrote it; what it set aside is tried again", stacklevel=2)
        return pd.DataFrame(columns=list(ASIDE))
    values = [[_parse(*pair) for pair in zip(ASIDE, line, strict=False)] for line in _lines(path, (_ASIDE,))]
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
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


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


def _line(fields: Sequence[str], header: str = _HEADER) -> str:
    body = _csv(fields)
    return f"{body},{_checksum(_bytes(body), header).decode()}\n"


def _order(fields: Sequence[str]) -> list[tuple]:
    """Sorts numbers as numbers, after empty fields and before texts."""
    values = [_parse(column, text) if text else -math.inf for column, text in zip(KEY, fields, strict=False)]
    return [(isinstance(value, str), value) for value in values]


# ---- files


def _lines(path: Path, layouts: Sequence[str] = (_HEADER, _OLDER)) -> list[list[str]]:
    """The fields of every undamaged line of one file, of an older layout with the later columns empty; none of no file.

    The others are reported. The layout is that under which the most lines are intact.

    Raises:
        ValueError: no gzip file, or other columns.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged ({error}); fetch it again, or delete it") from error
    data = re.sub(rb"\r+\n", b"\n", data) if b"\r" in data else data  # Windows and git write it so; no field has one
    first, *lines = data.split(b"\n")[:-1] or [layouts[0].encode()]  # what follows the last newline is torn
    if path.name != "local.csv":  # written in one step: nothing is torn
        lines += list(filter(None, data.split(b"\n")[-1:]))
    bodies = [line.rpartition(b",") for line in lines]
    fine = {header: [_checksum(body, header) == checksum for body, _, checksum in bodies] for header in layouts}
    header = max(layouts, key=lambda each: (sum(fine[each]), each.encode() == first))
    intact, whole = fine[header], header.encode() == first
    if not whole and not any(intact):
        names, expected = first.decode("utf-8", "replace").split(","), layouts[0].split(",")
        absent, unknown = [name for name in expected if name not in names], set(names) - set(expected)
        older = "an older version wrote it: " if set(SEARCH) <= set(absent) and not unknown else ""
        raise ValueError(
            f"{path}: expected the columns {layouts[0]}; missing {absent}, unknown {sorted(unknown)}; "
            f"{older}lines of another layout do not mix: delete the file, or use another rows_dir"
        )
    if damaged := [number for number, good in enumerate([whole, *intact], start=1) if not good]:
        numbers = ", ".join(map(str, damaged[:10])) + (" ..." if len(damaged) > 10 else "")
        loss = "their rows count as missing" if _HEADER in layouts else "what they set aside is tried again"
        warnings.warn(f"{path}: {len(damaged)} damaged lines ({numbers}); {loss}", stacklevel=4)
    kept = (line.decode("utf-8", "surrogateescape") for line, good in zip(lines, intact, strict=True) if good)
    found = list(csv.reader(kept))
    if header == _OLDER:
        place = COLUMNS.index(PROOF[0])
        found = [[*line[:place], _photograph(line), *[""] * (len(PROOF) - 1), *line[place:]] for line in found]
    return found


def _photograph(line: list[str]) -> str:
    """The photograph of a crop of the library, which its name tells; of other images older rows do not know it: ""."""
    dataset, image = (line[KEY.index(name)] for name in ("dataset", "image"))
    crop = re.fullmatch(r"(.+)_y\d+_x\d+", image)
    return crop[1] if crop and re.fullmatch(r"library\d+", dataset) else ""


def _load(rows_dir: Path) -> dict[tuple[str, ...], list[str]]:
    """Every row by its key, as text, the newest of several."""
    parts = [rows_dir] if rows_dir.is_file() else [*sorted(rows_dir.glob("*.csv.gz")), rows_dir / "local.csv"]
    found, value = {}, len(KEY)
    proofs = [COLUMNS.index(name) for name in ("hr", "lr", "weights", "metric")]

    def proof(fields: list[str]) -> list[str]:
        return [fields[place].removesuffix(TRUSTED) for place in proofs]

    for path in parts:
        for fields in _lines(path):
            before = found.setdefault(tuple(fields[:value]), fields)
            if proof(before) == proof(fields):
                if before[value] != fields[value]:
                    raise ValueError(
                        f"{path}: two rows of one key differ, {before[value]} and {fields[value]} "
                        f"for {dict(zip(KEY, fields, strict=False))}; find out which is right and delete the other"
                    )
            elif fields[proofs[0]] or not before[proofs[0]]:  # one without hashes is older than one with them
                found[tuple(fields[:value])] = fields
    return found


def _is_older_aside(path: Path) -> bool:
    return path.exists() and path.read_bytes().partition(b"\n")[0].rstrip(b"\r") == _OLDER_ASIDE.encode()
