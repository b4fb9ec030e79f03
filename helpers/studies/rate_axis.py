"""Bits of the stored image as the axis that pixels stand for: D over rate, equal bits, where shrinking pays.

A rate is that of the file of the LR image in bits for each *HR* pixel, so that downscaled images and whole ones stand
on one axis. "no downscaling" is the HR image itself through the same codec: scale 1 in the rows, read as it is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from helpers.distortions import against
from helpers.images import read_rgb
from helpers.stats import bootstrap, findings, rates
from helpers.stats.findings import Quantity

WHOLE = "no downscaling"
LOSSLESS = "PNG"
GRID = 25  # rates of a comparison of two curves, equally spaced in the logarithm


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """One point a photograph, reader, downscaler, codec and quality: the mean over its images and draws.

    Args:
        rows: as `results.read` returns them, with the bits of the LR images' files.

    Returns:
        Columns reader (the upscaler, with its heat where it draws), downscaler (`WHOLE` at scale 1), codec ("PNG" or
        the degradation), quality, distortion, group, rate (bits per HR pixel) and value.

    Raises:
        ValueError: a row does not say its bits, as rows before 0.6 do not.
    """
    if rows.lr_bits.isna().any():
        raise ValueError(f"expected rows that know the bits of their LR image, got {rows.lr_bits.isna().sum()} without")
    named = rows.assign(
        rate=rows.lr_bits / (rows.height * rows.width),
        reader=[u if heat == 0 else f"{u}, heat {heat:g}" for u, heat in zip(rows.upscaler, rows.heat, strict=True)],
        codec=rows.degradation.replace("", LOSSLESS),
        quality=rows.level.fillna(100),
    )
    whole = named.scale == 1
    named.loc[whole, "downscaler"] = WHOLE
    named.loc[whole, "reader"] = WHOLE
    by = ["reader", "downscaler", "codec", "quality", "distortion", "group"]
    return named.groupby(by, as_index=False)[["rate", "value"]].mean()


def coded(
    folder: str | Path, pictures: Mapping[str, Tensor], groups: Mapping[str, str], metrics: Sequence[str]
) -> pd.DataFrame:
    """Points of other codecs, whose answers `tools/compressai_files.py` or the like has left in a folder.

    Args:
        folder: CODEC/QUALITY/NAME.png, and bits.csv with columns codec, quality, image, bits.
        pictures: HR images by name, in [0, 1], (1, 3, H, W).
        groups: image -> photograph.
        metrics: D.

    Returns:
        As `points`, of the images that are in both; the codec is named as in the table.

    Raises:
        ValueError: there is no such table, it has other columns, or an answer is missing or of another size.
    """
    table = Path(folder) / "bits.csv"
    if not table.is_file():
        raise ValueError(f"other_codecs: expected {table}, which is not there; see tools/compressai_files.py")
    listed = pd.read_csv(table, dtype={"image": str, "codec": str})
    if not {"codec", "quality", "image", "bits"} <= set(listed):
        raise ValueError(f"{table}: expected columns codec, quality, image, bits, got {', '.join(listed)}")
    lines = []
    for codec, quality, image, bits in listed[["codec", "quality", "image", "bits"]].itertuples(index=False):
        if image not in pictures:
            continue
        hr, path = pictures[image], Path(folder, codec, str(quality), f"{image}.png")
        answer = read_rgb(path)
        if answer.shape != hr.shape:
            raise ValueError(f"{path}: expected {tuple(hr.shape[2:])} pixels, got {tuple(answer.shape[2:])}")
        point = {"reader": WHOLE, "downscaler": WHOLE, "codec": codec, "quality": quality, "group": groups[image],
                 "rate": bits / hr[0, 0].numel()}  # fmt: skip
        lines += [point | {"distortion": d, "value": against(d, hr)(answer).item()} for d in metrics]
    by = ["reader", "downscaler", "codec", "quality", "distortion", "group"]
    return pd.DataFrame(lines, columns=[*by, "rate", "value"]).groupby(by, as_index=False)[["rate", "value"]].mean()


def bits(found: pd.DataFrame, reference: str = "bicubic", codec: str = LOSSLESS) -> dict[str, Quantity]:
    """Bits of each downscaler's files as multiples of those of another one's, over photographs."""
    part = found[(found.codec == codec) & (found.downscaler != WHOLE)].drop_duplicates(["downscaler", "group"])
    table = part.pivot(index="group", columns="downscaler", values="rate")
    return {f: findings.mean_ratio(table[f], table[reference]) for f in table}


def at_rate(found: pd.DataFrame, by: str, rate: float) -> pd.DataFrame:
    """D of each photograph at one rate, on the monotone cubic through its points over the logarithm of the rate.

    Args:
        found: points of one codec, reader and D each, or of one codec and D where `by` is the reader.
        by: what the curves are of, a column.
        rate: bits per HR pixel.

    Returns:
        Photographs x curves; NaN where the curve of a photograph does not reach the rate: nothing is extrapolated.
    """
    values: dict[str, dict[str, float]] = {}
    for (name, group), part in found.groupby([by, "group"], sort=False):
        x, y = _sorted(part)
        reached = x[0] <= np.log10(rate) <= x[-1]
        values.setdefault(name, {})[group] = float(PchipInterpolator(x, y)(np.log10(rate))) if reached else np.nan
    return pd.DataFrame(values)


def common_rates(found: pd.DataFrame, by: str, share: float = 0.9) -> tuple[float, float]:
    """The lowest and the highest rate that the curves of at least a share of the photographs all reach."""
    ends = found.groupby([by, "group"]).rate.agg(["min", "max"]).groupby("group").agg({"min": "max", "max": "min"})
    return float(ends["min"].quantile(share)), float(ends["max"].quantile(1 - share))


def gain(one: pd.DataFrame, other: pd.DataFrame, low: float, high: float) -> pd.DataFrame:
    """D of one curve minus that of another at equal rates, mean over photographs, with 95 % intervals.

    Args:
        one, other: points of one curve each, of one D.
        low, high: of the rates, bits per HR pixel.

    Returns:
        A line for each of `GRID` rates: rate, value, low, high, n: photographs both of whose curves reach it.
    """
    lines = []
    for rate in np.geomspace(low, high, GRID):
        pair = [at_rate(each.assign(of="x"), "of", rate)["x"] for each in (one, other)]
        difference = (pair[0] - pair[1]).dropna()
        if len(difference) > 1:
            lines.append({"rate": rate, **findings.mean(difference)._asdict()})
    return pd.DataFrame(lines)


def crossing(one: pd.DataFrame, other: pd.DataFrame, low: float, high: float) -> Quantity:
    """The rate below which one curve of D lies under another: where the mean difference first becomes positive.

    Args:
        one, other, low, high: see `gain`.

    Returns:
        In bits per HR pixel, with the percentiles of 2000 resamples of photographs; `low` where the first curve is
        nowhere under the other, infinity where it is everywhere.
    """
    grid = np.geomspace(low, high, GRID)
    table = np.stack(
        [at_rate(one.assign(of="x"), "of", r)["x"] - at_rate(other.assign(of="x"), "of", r)["x"] for r in grid], 1
    )
    table = table[np.isfinite(table).all(1)]
    if len(table) < 2:
        return Quantity(np.nan, np.nan, np.nan, len(table))
    means = bootstrap.resample_means(table, 2000, bootstrap.generator(0, "crossing"))
    value, resampled = (_first_above(each, grid) for each in (table.mean(0)[None], means))
    ends = np.quantile(resampled, (0.025, 0.975), method="nearest")
    return Quantity(float(value[0]), *map(float, ends), len(table))


def _first_above(means: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Where each line first becomes positive, interpolated in the logarithm; infinity where it never does."""
    logs, found = np.log10(grid), np.full(len(means), np.inf)
    for line, values in enumerate(means):
        above = np.flatnonzero(values > 0)
        if len(above):
            k = above[0]
            between = np.interp(0, values[k - 1 : k + 1], logs[k - 1 : k + 1]) if k else logs[0]
            found[line] = 10**between
    return found


def bd(found: pd.DataFrame, reference: str = "bicubic", by: str = "downscaler") -> pd.DataFrame:
    """`rates.compare`, with the mean D of the reference over its own points to measure differences by."""
    table = rates.compare(found, reference, by=by)
    return table.assign(share=table.bd / found[found[by] == reference].value.mean())


def rows_at(rows: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Rows for a ranking, with other values: one a photograph and downscaler.

    Args:
        rows: of one D and reader; one of each photograph and downscaler gives its other columns.
        values: photographs x downscalers, of `at_rate`; photographs that lack one are left out.
    """
    values = values.dropna()
    long = values.rename_axis("group").reset_index().melt("group", var_name="downscaler", value_name="value")
    first = rows.drop(columns="value").drop_duplicates(["group", "downscaler"])
    return first.merge(long, on=["group", "downscaler"]).assign(degradation="", level=np.nan, sample=0)


def _sorted(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    part = part.sort_values("rate").drop_duplicates("rate")
    return np.log10(part.rate.to_numpy()), part.value.to_numpy()


def best_heats(units: Mapping[float, pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """The heat with the least mean D of each downscaler, and how sure that is.

    Args:
        units: heat -> photographs x downscalers.
        names: downscalers.

    Returns:
        A line each (index downscaler): heat; share, of 2000 resamples of photographs in which it is the same; and low,
        high, the middle 95 % of theirs.
    """
    heats, lines = np.array(sorted(units)), []
    for name in names:
        table = pd.concat({tau: units[tau][name] for tau in heats}, axis=1).dropna()
        means = bootstrap.resample_means(table, 2000, bootstrap.generator(0, "heats"))
        best, again = heats[table.mean().to_numpy().argmin()], heats[means.argmin(1)]
        low, high = np.quantile(again, (0.025, 0.975), method="nearest")
        lines.append({"downscaler": name, "heat": best, "share": (again == best).mean(), "low": low, "high": high})
    return pd.DataFrame(lines).set_index("downscaler")


def apart(best: pd.DataFrame) -> bool:
    """Whether two lines of `best_heats` have intervals that do not meet."""
    return bool(best.low.max() > best.high.min())
