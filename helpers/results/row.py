"""The row, one line a draw: its columns, what they hold, and how a file spells it."""

import contextlib
import csv
import math
import re
from collections.abc import Iterable, Sequence

from helpers import columns
from helpers.columns import Coded, Column

# fmt: off
KEY = ("dataset", "image", "downscaler", "scale", "degradation", "level", "where", "upscaler", "heat", "seed",
       "sample", "distortion")
SEARCH = ("residual", "converged")  # of each sample of an upscaler that searches; else empty
PROOF = ("group", "hr", "lr")  # the photograph, and hashes of the 8-bit pixels scored; "" if unknown, before 0.5.0
COLUMNS = (*KEY, "value", *SEARCH, *PROOF, "height", "width", "clipped", "seconds", "lr_bits", "weights", "metric",
           "device", "version", "checksum")
# fmt: on
VERSION = "0.5.0"  # of what a row is, its column `version`: that of the package since which rows can be averaged
CELL = tuple(name for name in KEY if name not in ("sample", "distortion"))  # what fails or succeeds as one
ASIDE = (*CELL, "distortion", "tried", "hr", "lr", "weights", "version", "reason")
INTEGERS = {"scale", "seed", "sample", "height", "width"}
FLOATS = {"level", "value", *SEARCH, "clipped", "seconds", "lr_bits"}  # NaN is an empty field, but for `value`: "nan"
ONE_OF = {"weights": ["upscaler", "scale"], "metric": ["distortion"], "version": [], "device": []}  # one within these
TRUSTED = " trusted"  # after the hash of an LR image that a run took as it was, see `runs.run`
HIGHER_IS_BETTER = ("psnr", "ssim", "ssim_piq_downsampled", "ms_ssim")  # and their "_of_mean"
LOWER_IS_BETTER = ("lpips", "lpips_embedded", "dists", "mse", "lr_mse", "consistency_mse")  # and "1-ssim" etc.

HEADER = ",".join(COLUMNS)
OLDER = ",".join(name for name in COLUMNS if name not in PROOF)  # still read, never written


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


# ---- one line


def text_of(column: str, value: object) -> str:
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


def parse(column: str, text: str) -> object:
    """The inverse of `text_of`."""
    if column in INTEGERS:
        return int(text)
    if column in FLOATS:
        return float(text or "nan")
    if column == "heat" and isinstance(heat(text), float):
        return float(text)
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\r", "\r").replace("\\0", "\0") for part in parts)


def texts_of(columns: Sequence[str], values: Sequence) -> tuple[str, ...]:
    """Spell the values of a row as a file has them, see `text_of`."""
    return tuple(text_of(*pair) for pair in zip(columns, values, strict=True))


def fields(row: dict) -> tuple[str, ...]:
    """The texts of a row in the order of `COLUMNS`, without the checksum; ValueError: it has other columns."""
    expected = COLUMNS[:-1]
    if row.keys() != set(expected):
        absent, unknown = set(expected) - set(row), set(row) - set(expected)
        raise ValueError(f"row: missing columns {sorted(absent)}, unknown columns {sorted(unknown)}")
    return texts_of(expected, [row[name] for name in expected])


def order_of(column: str, text: str) -> tuple:
    """Sorts numbers as numbers, after empty fields and before texts."""
    value = parse(column, text) if text else -math.inf
    return isinstance(value, str), value


def parsed_texts(name: str, column: Column) -> Column:
    """The inverse of `spelled`."""
    if not isinstance(column, Coded) or (name != "heat" and "\\" not in "".join(column.values)):
        return column
    return columns.recoded(column, [parse(name, text) for text in column.values])


def spelled(name: str, column: Column) -> Column:
    """A column of texts as `text_of` spells them."""
    if not isinstance(column, Coded):
        return column
    return columns.recoded(column, [text_of(name, value) for value in column.values])


def parsed(header: str, lines: Iterable[bytes]) -> list[list[str]]:
    """The fields of lines, of the older layout with the later columns empty."""
    found = list(csv.reader(line.decode("utf-8", "surrogateescape") for line in lines))
    if header == OLDER:
        place = COLUMNS.index(PROOF[0])
        at, more = KEY.index("image"), [""] * (len(PROOF) - 1)
        found = [[*line[:place], photograph(line[0], line[at]), *more, *line[place:]] for line in found]
    return found


def photograph(dataset: str, image: str) -> str:
    """The photograph of a crop of the library, which its name tells; of other images older rows do not know it: ""."""
    crop = re.fullmatch(r"(.+)_y\d+_x\d+", image)
    return crop[1] if crop and re.fullmatch(r"library\d+", dataset) else ""
