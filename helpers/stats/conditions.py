"""Check rows; name what is compared in them, one column or several joined by " + "; find the photographs, the units."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers import results

SETTINGS = [name for name in results.KEY if name not in ("image", "seed", "sample")]  # constant unless compared


def columns(by: str | Sequence[str]) -> list[str]:
    """`by` as a list of column names."""
    return [by] if isinstance(by, str) else list(by)


def label(by: str | Sequence[str]) -> str:
    """Name of the conditions in a table: the column, or the columns joined by " + "."""
    return " + ".join(columns(by))


def name(rows: pd.DataFrame, by: str | Sequence[str]) -> pd.Series:
    """The condition of each row: the value of `by`, or the values of several columns joined by " + ".

    Raises:
        ValueError: a numeric column has a missing value.
    """
    keys = columns(by)
    if len(keys) == 1 and pd.api.types.is_numeric_dtype(rows[keys[0]]):
        if rows[keys[0]].isna().any():
            raise ValueError(f"expected a number in every row of {keys[0]!r}, got missing ones")
        return rows[keys[0]]
    texts = [rows[key].astype(object).where(rows[key].notna(), "").astype(str).replace("", "none") for key in keys]
    return texts[0].str.cat(texts[1:], sep=" + ") if len(texts) > 1 else texts[0]


def _check_table(rows: object) -> None:
    if not isinstance(rows, pd.DataFrame) or rows.empty:
        got = "none" if isinstance(rows, pd.DataFrame) else type(rows).__name__
        raise ValueError(f"expected rows in a table, as runs.run returns them, got {got}")


def check(rows: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """Copy of the rows, sorted by draw, with the column `condition` and `value` in float64.

    Raises:
        ValueError: a column is missing, a draw occurs twice, a value is no number, an image has no name, a setting
            outside `by` varies, or data sets that are compared have images of one name: other photographs, so far as
            anybody knows, that would be paired.
    """
    _check_table(rows)
    keys = columns(by)
    missing = [column for column in ("image", "sample", "distortion", "value", *keys) if column not in rows]
    if missing or "distortion" in keys:
        need = f"image, sample, distortion, value, {', '.join(keys)}, compared by any but distortion"
        raise ValueError(f"expected rows with {need}; got {len(rows)} rows without {missing}")
    if not pd.api.types.is_numeric_dtype(rows.value) or rows.image.isna().any():
        got = f"dtype {rows.value.dtype}, {rows.image.isna().sum()} images without a name"
        raise ValueError(f"expected numbers as values and a name for each image, got {got}")
    for setting in SETTINGS:
        if setting in rows and setting not in keys and rows[setting].nunique(dropna=False) > 1:
            got = list(rows[setting].unique())
            raise ValueError(f"expected one {setting}, got {got}: select one, or add it to by")
    if "dataset" in keys and (several := rows.groupby("image").dataset.nunique() > 1).any():
        image = several.idxmax()
        got = f"{several.sum()}, such as {image!r} in {sorted(set(map(str, rows.dataset[rows.image == image])))}"
        raise ValueError(
            f"expected each image in one of the data sets that are compared, got {got}: photographs are paired by "
            "name; compare within one data set, or put its name before theirs: rows.assign(image=rows.dataset + '/' + "
            "rows.image)"
        )
    rows = rows.assign(condition=name(rows, by), value=rows.value.astype(np.float64))
    draw = ["image", "condition", *(column for column in ("seed", "sample") if column in rows)]
    if (twice := rows.duplicated(draw)).any():
        raise ValueError(f"expected every draw once, got twice: {rows.loc[twice, draw].iloc[0].to_dict()}")
    return rows.sort_values(draw)  # so that the order of the rows does not change the last bit of a sum


def direction(rows: pd.DataFrame, lower_is_better: bool | None = None) -> bool:
    """True where lower values are better: as stated, or else by the name of the distortion.

    Raises:
        ValueError: no table with rows; or nothing is stated and a distortion is not the project's.
    """
    _check_table(rows)
    if lower_is_better is not None:
        return lower_is_better
    unknown = [distortion for distortion in rows.distortion.unique() if results.lower_is_better(distortion) is None]
    if unknown:
        raise ValueError(f"expected distortions of known direction, got {unknown}: pass lower_is_better")
    return results.lower_is_better(rows.distortion.iloc[0])


def photographs(rows: pd.DataFrame) -> pd.Series:
    """Name the photograph of each image: its `group` in the rows, or, where that is empty or missing, the image itself.

    Raises:
        ValueError: an image belongs to two photographs.
    """
    named = rows.get("group", pd.Series("", rows.index)).astype(object)  # without a single name it may be of floats
    named = named.where(named.notna() & (named != ""), None)
    pairs = pd.DataFrame({"image": rows.image, "photograph": named}).drop_duplicates()
    groups = pairs.groupby("image").photograph
    if (several := groups.nunique() > 1).any():
        raise ValueError(f"expected one photograph (column group) for each image, got several for {several.idxmax()!r}")
    first = groups.first()
    return first.where(first.notna(), first.index.to_series())


def by_photograph(values: pd.DataFrame | pd.Series, rows: pd.DataFrame) -> pd.DataFrame | pd.Series:
    """Average the images of each photograph; missing values are left out.

    Args:
        values: indexed by image, such as `per_image(rows)["mean"].dropna()`.
        rows: name the photographs, see `photographs`.

    Returns:
        The same columns, indexed by photograph.
    """
    return values.groupby(photographs(rows).reindex(values.index).rename("photograph")).mean()
