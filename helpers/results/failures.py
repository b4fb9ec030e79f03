"""What a run has set aside: `aside.csv` in a folder of rows, one line a cell and distortion, with the reason."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from helpers import files, tables
from helpers.results.row import ASIDE, CELL, parse, parsed, texts_of

_ASIDE = ",".join((*ASIDE, "checksum"))
_OLDER_ASIDE = "dataset,image,scale,upscaler,reason"  # without checksums or what failed: its images are tried again


def set_aside(rows_dir: str | Path, cells: Iterable[dict]) -> None:
    """Note in `aside.csv` which cells are left out and why; a newer line of a cell counts in place of an older one.

    Args:
        rows_dir: folder of rows.
        cells: dicts with the columns `ASIDE`: a cell under one distortion, all distortions that were tried at once,
            hashes of the HR and LR pixels that failed ("" where there were none, "?" where nobody knows), weights,
            version and the reason; an empty reason takes the cell back.
    """
    path = Path(rows_dir) / "aside.csv"
    news = [tables.line(texts_of(ASIDE, [cell[name] for name in ASIDE]), _ASIDE) for cell in cells]
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
    lines = parsed(*tables.intact_lines(path, (_ASIDE,), "what they set aside is tried again"))
    newest = {tuple(line[: len(CELL) + 1]): line for line in lines}
    noted = [newest[key] for key in sorted(newest) if newest[key][len(ASIDE) - 1]]
    values = [[parse(*pair) for pair in zip(ASIDE, line, strict=False)] for line in noted]
    return pd.DataFrame(values, columns=list(ASIDE))


def _is_older_aside(path: Path) -> bool:
    return path.exists() and path.read_bytes().partition(b"\n")[0].rstrip(b"\r") == _OLDER_ASIDE.encode()
