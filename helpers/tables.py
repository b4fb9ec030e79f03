"""Lines of CSV with checksums: write one, read many at once, and put their keys in order, column by column."""

import csv
import gzip
import io
import itertools
import re
import warnings
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.columns import Coded, Table, coded, length, recoded

# Floats come back bit for bit: by pandas' parser from 3.1 on (which warns of the option), before on demand.
_EXACT = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}


def line(fields: Sequence[str], header: str) -> str:
    """One line with its checksum, which starts from that of the header: a line also vouches for its columns."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(fields)
    body = out.getvalue()
    return f"{body},{zlib.crc32(as_bytes(body), zlib.crc32(header.encode())):08x}\n"


def as_bytes(text: str) -> bytes:
    """UTF-8; file names may hold bytes that are no text."""
    return text.encode("utf-8", "surrogateescape")


def intact_lines(path: Path, layouts: Sequence[str], loss: str) -> tuple[str, list[bytes]]:
    """The layout and the undamaged lines of one file, none of no file; the others are reported.

    Args:
        path: a file of such lines below a header; only of `local.csv` the last one may be torn.
        layouts: the headers that it may have, the newest first; that counts under which the most lines are intact.
        loss: what it means that lines are damaged, for the warning.

    Raises:
        ValueError: no gzip file, or other columns.
    """
    if not path.exists():
        return layouts[0], []
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
    header = next((each for each in layouts if each.encode() == first), layouts[0])
    fine = {header: _are_right(lines, header)}
    if not all(fine[header]):
        fine |= {each: _are_right(lines, each) for each in layouts if each != header}
        header = max(layouts, key=lambda each: (sum(fine[each]), each.encode() == first))
    intact, whole = fine[header], header.encode() == first
    if not whole and not any(intact):
        names, expected = first.decode("utf-8", "replace").split(","), layouts[0].split(",")
        absent, unknown = [name for name in expected if name not in names], set(names) - set(expected)
        older = "an older version wrote it: " if absent and not unknown else ""
        raise ValueError(
            f"{path}: expected the columns {layouts[0]}; missing {absent}, unknown {sorted(unknown)}; "
            f"{older}lines of another layout do not mix: delete the file, or use another rows_dir"
        )
    if damaged := [number for number, good in enumerate([whole, *intact], start=1) if not good]:
        numbers = ", ".join(map(str, damaged[:10])) + (" ..." if len(damaged) > 10 else "")
        warnings.warn(f"{path}: {len(damaged)} damaged lines ({numbers}); {loss}", stacklevel=5)
        lines = list(itertools.compress(lines, intact))
    return header, lines


def _are_right(lines: Sequence[bytes], header: str) -> list[bool]:
    start, crc = zlib.crc32(header.encode()), zlib.crc32
    return [b",%08x" % crc(line[:-9], start) == line[-9:] for line in lines]


def read_lines(
    lines: Sequence[bytes], columns: Sequence[str], integers: Collection[str], floats: Collection[str], parse: Callable
) -> Table:
    """Parse lines of CSV, UTF-8 with bytes that are no text as `surrogateescape` has them.

    Args:
        lines: without line ends; all fields of all lines are right.
        columns: the name of each field.
        integers, floats: columns of numbers; an empty float is NaN.
        parse: `parse(column, text)` is the value of a field of another column; called once for each text.

    Returns:
        Columns of int64, of float64, and the others coded.
    """
    numbers = {name: "int64" if name in integers else "float64" for name in columns if name in {*integers, *floats}}
    if not lines:
        return {name: np.empty(0, numbers[name]) if name in numbers else coded([]) for name in columns}
    found = pd.read_csv(  # no categories: "007" would become 7
        io.BytesIO(b"\n".join(lines)), names=list(columns), dtype=dict.fromkeys(columns, object) | numbers,
        keep_default_na=False, na_values={name: ["", "nan"] for name in floats}, encoding_errors="surrogateescape",
        skip_blank_lines=False, **_EXACT,
    )  # fmt: skip
    return {
        name: found.pop(name).to_numpy() if name in numbers else _parsed(name, coded(found.pop(name)), parse)
        for name in columns
    }


def places(tables: Iterable[Sequence[Sequence]], columns: Sequence[str], text: Callable, order: Callable) -> list:
    """Number the keys of several tables by their order among all of them; equal keys, equal numbers.

    Args:
        tables: of each the values of its keys, column by column, coded or not.
        columns: names of these.
        text: `text(column, value)` spells a value; values of one spelling are equal.
        order: `order(column, text)` by which spellings are sorted.

    Returns:
        One int64 array a table.
    """
    tables = [list(table) for table in tables]
    found, top = [np.zeros(length({"": table[0]}), np.int64) for table in tables], 1
    for k, column in enumerate(columns):
        ours = [coded(table[k]) for table in tables]
        spelt = [[text(column, value) for value in each.values] for each in ours]
        ranks = {each: n for n, each in enumerate(sorted({*itertools.chain(*spelt)}, key=lambda t: order(column, t)))}
        if top * len(ranks) >= 2**62:
            joined = np.unique(np.concatenate(found), return_inverse=True)[1]
            found, top = np.split(joined, np.cumsum([len(each) for each in found])[:-1]), int(joined.max()) + 1
        for n, (each, texts) in enumerate(zip(ours, spelt, strict=True)) if len(ranks) > 1 else ():
            own = np.array([ranks[text] for text in texts], np.int64)
            found[n] *= len(ranks)
            found[n] += own[each.codes] if len(texts) else 0
        top *= max(1, len(ranks))
    return found


def _parsed(name: str, texts: Coded, parse: Callable) -> Coded:
    """A column of spelled texts as its values."""
    return recoded(texts, [parse(name, text) for text in texts.values])
