"""What is read of a folder of rows: its CSV files as a whole, its finished rows when they are asked for, by column."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import columns, tables
from helpers.columns import Table
from helpers.results import finished
from helpers.results.row import (
    COLUMNS,
    FLOATS,
    HEADER,
    INTEGERS,
    KEY,
    OLDER,
    PROOF,
    TRUSTED,
    order_of,
    parse,
    parsed_texts,
    photograph,
    text_of,
)  # fmt: skip


class Snapshot(NamedTuple):
    """The rows of a folder at one time: those of its CSV files, and the list of those that are read when asked for."""

    path: Path
    tables: list[tuple[Path, Table]]  # of published and local files
    finished: list[finished.Part]


def snapshot(rows_dir: str | Path) -> Snapshot:
    """Read what is read as a whole, once for several calls of `read`.

    Args:
        rows_dir: folder of rows, or one published file.
    """
    path = Path(rows_dir)
    if path.is_file():
        return Snapshot(path, [(path, table_of(path))], [])
    local = path / "local.csv"
    found = [(local, table_of(local))]  # before the list: what moves meanwhile is read twice, which does no harm
    gz = [each for each in sorted(path.glob("*.csv.gz")) if each.name != finished.LIST]
    return Snapshot(path, [*((each, table_of(each)) for each in gz), *found], finished.listed(path))


def latest(there: Snapshot, names: Sequence[str], most: int = 2**21) -> pd.DataFrame:
    """Some columns of the newest files of rows, at least `most` rows if there are as many, in no order.

    Rows that newer ones have replaced are among them: for estimates alone.
    """
    found, number = [], 0
    kinds: list[Path | finished.Part] = [*there.finished, *range(len(there.tables))]
    for each in reversed(kinds):
        if number >= most:
            break
        table = there.tables[each][1] if isinstance(each, int) else _part(there, each, names)[0]
        if table is not None:
            found.append({name: table[name] for name in names})
            number += columns.length(table)
    return columns.frame(columns.join(found), names)


def places(rows: pd.DataFrame | Table, *keys: Sequence[Sequence]) -> list[np.ndarray]:
    """The place of each row, and of keys given column by column, in the order of all of them."""
    return tables.places([[rows[name] for name in KEY], *keys], KEY, text_of, order_of)


def lines(path: Path) -> tuple[str, list[bytes]]:
    """The layout and the undamaged lines of a file of rows; ValueError: it has other columns."""
    return tables.intact_lines(path, (HEADER, OLDER), "their rows count as missing")


def table_of(path: Path) -> Table:
    """The rows of one file, in the order of the file, checksums as numbers."""
    header, intact = lines(path)
    rows = tables.read_lines([line[:-9] for line in intact], header.split(",")[:-1], INTEGERS, FLOATS, parse)
    if header == OLDER:
        named = [[each.values[code] for code in each.codes] for each in (rows["dataset"], rows["image"])]
        rows["group"] = columns.coded([photograph(*pair) for pair in zip(*named, strict=True)])
        rows["hr"] = rows["lr"] = columns.coded([""] * len(intact))
    rows["checksum"] = np.array([int(line[-8:], 16) for line in intact], np.uint32)
    return {name: rows[name] for name in COLUMNS}


def _part(there: Snapshot, part: finished.Part, names: Sequence[str]) -> tuple[Table | None, list[str]]:
    """Some columns of a file of finished rows, and the names of its images as they are spelled."""
    table = finished.read(there.path, part, names)
    if table is None:
        return None, []
    texts = table["image"].values if "image" in table else []
    return {name: parsed_texts(name, column) for name, column in table.items()}, texts


def load(
    there: Snapshot, wanted: list[Sequence] | None, names: Collection[str]
) -> tuple[Table, np.ndarray, list[Path]]:
    """Some columns of every row that may be wanted, older files first; the number of each row's file, and the files."""
    images, found, paths = None, [], []
    if wanted is not None:
        images = {text_of("image", value) for value in columns.coded(wanted[KEY.index("image")]).values}
        least, most = min(images, default=""), max(images, default="")

    def add(path: Path, table: Table, given: Sequence[str]) -> None:
        if images is not None:
            asked = np.array([text in images for text in given], bool)
            kept = asked[table["image"].codes] if len(asked) else np.zeros(0, bool)
            table = table if kept.all() else columns.take(table, kept)
        paths.append((path, columns.length(table)))
        found.append(table)

    def add_finished() -> None:
        for part in there.finished:
            if images is not None and (not images or part.last < least or most < part.first):
                continue
            table, texts = _part(there, part, [name for name in COLUMNS if name in names])
            if table is not None:
                add(there.path / part.name, table, texts)

    for path, table in there.tables:
        if path.name == "local.csv":
            add_finished()  # they are older
        texts = [text_of("image", value) for value in table["image"].values] if images is not None else ()
        add(path, {name: column for name, column in table.items() if name in names}, texts)
    source = np.repeat(np.arange(len(paths), dtype=np.int32), [number for _, number in paths])
    full = [table for table in found if columns.length(table)] or found[:1]
    return columns.join(full), source, [path for path, _ in paths]


def newest(rows: Table, place: np.ndarray, source: np.ndarray, paths: Sequence[Path]) -> np.ndarray | None:
    """Which rows count, in order of their keys: the newest of each, one with hashes before one without; None: all."""
    if (place[1:] > place[:-1]).all():
        return None
    order = np.argsort(place, kind="stable")
    again = np.flatnonzero(np.diff(place[order], prepend=-1) == 0)
    if not len(again):
        return order
    several = np.unique(np.concatenate([again - 1, again]))  # all rows of keys with more than one, older first
    names = (*KEY, "value", "weights", "metric", *PROOF)
    part = columns.frame(columns.take({name: rows[name] for name in names}, order[several]), names)
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
                    f"{paths[source[order[at]]]}: two rows of one key differ, {values[before]} and {values[at]} for "
                    f"{part[list(KEY)].iloc[np.searchsorted(several, at)].to_dict()}; find out which is right and "
                    "delete the other"
                )
            newer = before if groups[before] == groups[at] else at  # the photograph alone was corrected
        else:  # one without hashes is older than one with them
            newer = at if made[at][0] or not made[before][0] else before
        keep[before if newer == at else at] = False
        last[at] = newer
    return order[keep]
