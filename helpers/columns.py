"""Tables of many rows, column by column: a text that many rows share is kept once, and each row keeps its number."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd


class Coded(NamedTuple):
    """A column as numbers of values: row k holds `values[codes[k]]`; no value stands twice."""

    codes: np.ndarray  # integers of the fewest bytes, (n,)
    values: list


Column = np.ndarray | Coded
Table = dict[str, Column]


def coded(values: Sequence) -> Coded:
    """Number values of any kind, in the order in which they come.

    Args:
        values: texts and numbers beside each other, none converted; NaN counts as one value.
    """
    if isinstance(values, Coded):
        return values
    if not isinstance(values, pd.Series | np.ndarray):
        found = np.empty(len(values), object)
        found[:] = values
        values = found
    codes, uniques = pd.factorize(values)
    found = list(uniques)
    if len(codes) and codes.min() < 0:  # NaN and None
        codes[codes < 0] = len(found)
        found.append(math.nan)
    return Coded(codes.astype(_kind(len(found))), found)


def _kind(number: int) -> np.dtype:
    """The integers of the fewest bytes that number so many values."""
    return np.min_scalar_type(-max(1, number))


def repeated(values: Sequence, each: int, times: int) -> Coded:
    """Each value `each` times in a row, and all of that `times` times."""
    distinct = {(type(value), value): k for k, value in reversed(list(enumerate(values)))}
    kept = sorted(distinct.values())
    place = {k: n for n, k in enumerate(kept)}
    codes = np.array([place[distinct[type(value), value]] for value in values], _kind(len(kept)))
    return Coded(np.tile(np.repeat(codes, each), times), [values[k] for k in kept])


def numbered(columns: Sequence[Coded]) -> np.ndarray:
    """One number for the values of several columns in a row, int64; equal rows, equal numbers."""
    found = np.zeros(len(columns[0].codes), np.int64)
    for column in columns:
        found *= max(1, len(column.values))
        found += column.codes
    return found


def dense(column: Column, order: Callable | None = None) -> Column:
    """A column with only the values that it uses, in the order of their numbers, or sorted by `order(value)`."""
    if not isinstance(column, Coded):
        return column
    used, codes = np.unique(column.codes, return_inverse=True)
    values = [column.values[k] for k in used]
    if order:
        places = sorted(range(len(values)), key=lambda k: order(values[k]))
        codes, values = np.argsort(np.array(places, np.int64), kind="stable")[codes], [values[k] for k in places]
    return Coded(codes.astype(_kind(len(used))), values)


def length(table: Mapping[str, Column]) -> int:
    """Number of rows."""
    column = next(iter(table.values()))
    return len(column.codes if isinstance(column, Coded) else column)


def take(table: Mapping[str, Column], rows: np.ndarray) -> Table:
    """Some rows, by number or by a mask."""
    return {
        name: Coded(column.codes[rows], column.values) if isinstance(column, Coded) else column[rows]
        for name, column in table.items()
    }


def join(tables: Sequence[Table]) -> Table:
    """The rows of several tables of the same columns; takes the columns out of them, so that none is held twice."""
    if len(tables) == 1:
        return tables[0]
    return {name: _join([table.pop(name) for table in tables]) for name in list(tables[0])}


def _join(columns: list[Column]) -> Column:
    if not isinstance(columns[0], Coded):
        return np.concatenate(columns)
    known: dict[tuple, int] = {}
    new = [[known.setdefault((type(value), value), len(known)) for value in column.values] for column in columns]
    kind = _kind(len(known))
    codes = [np.array(own, kind)[column.codes] for own, column in zip(new, columns, strict=True) if len(column.codes)]
    return Coded(np.concatenate(codes or [np.empty(0, kind)]), [value for _, value in known])


def recoded(column: Coded, values: Sequence) -> Coded:
    """A column whose values are called otherwise; those that become equal are counted as one."""
    known: dict[tuple, int] = {}
    new = [known.setdefault((type(value), value), len(known)) for value in values]
    codes = column.codes if len(known) == len(values) else np.array(new, _kind(len(known)))[column.codes]
    return Coded(codes, [value for _, value in known])


def frame(table: Table, names: Iterable[str]) -> pd.DataFrame:
    """A DataFrame of some columns, numbers as they are and other values as objects; takes the columns out of `table`.

    A column in which every value is a float becomes one of float64.
    """
    made = {}
    for name in names:
        column = table.pop(name)
        if isinstance(column, Coded):
            column = dense(column) if any(isinstance(value, float) for value in column.values) else column
            floats = bool(column.values) and all(isinstance(value, float) for value in column.values)
            values = np.empty(len(column.values), "float64" if floats else object)
            values[:] = column.values
            column = values[column.codes]
        made[name] = pd.Series(column, dtype=column.dtype, copy=False)
    return pd.DataFrame(made, copy=False)


def runs_of(columns: Iterable[Column]) -> np.ndarray:
    """Where a row differs from the one before it in any of the columns: the numbers of such rows, 0 first."""
    parts = [column.codes if isinstance(column, Coded) else column for column in columns]
    differs = np.ones(len(parts[0]), bool)
    if len(differs):
        differs[1:] = False
    for part in parts:
        other = part[1:] != part[:-1]
        if part.dtype.kind == "f":
            other &= ~(np.isnan(part[1:]) & np.isnan(part[:-1]))  # an empty field is like the next
        differs[1:] |= other.astype(bool)
    return np.flatnonzero(differs)


def spell(values: Iterable[str]) -> np.ndarray:
    """Texts as bytes that `NumPy` keeps without pickle: UTF-8 (names of files may be no text), a 0 byte behind each."""
    text = "".join(itertools.chain.from_iterable((value, "\0") for value in values))
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)


def unspell(data: np.ndarray) -> list[str]:
    """The inverse of `spell`."""
    return data.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
