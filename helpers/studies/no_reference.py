"""Judge LR images without a reference, as the paper's supplement does in its Table 12, and beside IDA-RD.

Tables have the columns that `stats` reads: image, group (the photograph), distortion (the measure), degradation,
level, downscaler, sample, value. A score of which more is better is negated, so that less is better in all of them.
"""

from collections.abc import Iterable, Sequence

import pandas as pd
from torch import Tensor

from helpers import datasets, iqa
from helpers.datasets import photographs
from helpers.degradations import DEGRADATIONS
from helpers.downscalers import resize
from helpers.images import quantize, read_rgb
from helpers.stats import conditions, findings, rankings

KERNELS = {"blur_full": "whole kernel", "blur": "3x3 kernel"}
OTHER = "another picture"  # "downscaler" that returns the LR image of another photograph


def available(names: Sequence[str]) -> tuple[list[str], pd.DataFrame]:
    """The measures on this machine, and a table of all that were asked for, with the reason where one is missing."""
    reasons = {name: iqa.available(name) for name in names}
    lines = [
        {
            "measure": name, "better": "lower" if iqa.LOWER_IS_BETTER[name] else "higher",
            "smallest side": iqa.MINIMUM_SIDE[name],
            "parameters": f"NOT HERE: {reasons[name]}" if reasons[name] else iqa.describe(name),
        }
        for name in names
    ]  # fmt: skip
    return [name for name in names if reasons[name] is None], pd.DataFrame(lines)


def whole(dataset: str, name: str) -> Tensor:
    """One uncut photograph, (1, 3, H, W) in [0, 1]: of a set that comes along, or an image of a folder or manifest."""
    return read_rgb(photographs.path_of(name)) if dataset in photographs.SETS else datasets.load(dataset, name)


def at_size(photograph: Tensor, side: int) -> Tensor | None:
    """An LR image of side^2 pixels by Pillow's bicubic filter, or None where the photograph has fewer.

    The central square where that is large enough, else all of it with its own aspect: so the content is nearly the same
    at every side, as in the paper, which reduces faces of 1024x1024.
    """
    height, width = photograph.shape[2:]
    if (least := min(height, width)) >= side:
        top, left = (height - least) // 2, (width - least) // 2
        return resize(photograph[:, :, top : top + least, left : left + least], (side, side))
    factor = side / (height * width) ** 0.5
    return resize(photograph, (round(height * factor), round(width * factor))) if factor <= 1 else None


def centre(image: Tensor, side: int) -> Tensor:
    """The central square of an image."""
    top, left = ((length - side) // 2 for length in image.shape[2:])
    return image[:, :, top : top + side, left : left + side]


def judge(lr: Tensor, measures: Iterable[str], device: str = "cpu", **facts) -> list[dict]:
    """Score an LR image by every measure that takes its size: one row each, with `facts` as further columns."""
    fit = [name for name in measures if min(lr.shape[2:]) >= iqa.MINIMUM_SIDE[name]]
    sign = {name: 1 if iqa.LOWER_IS_BETTER[name] else -1 for name in fit}
    return [
        facts | {"sample": 0, "distortion": name, "value": sign[name] * iqa.IQA[name](lr.to(device)).item()}
        for name in fit
    ]


def judge_blurs(lr: Tensor, blurs: Iterable[tuple[str, float]], measures: Iterable[str], device: str, **facts):
    """`judge` an LR image under each blur, (degradation, level), rounded to 8 bits; level 0 is no blur."""
    rows = []
    for kind, level in blurs:
        blurred = quantize(DEGRADATIONS[kind](lr, level))
        rows += judge(blurred, measures, device, degradation=kind, level=level, **facts)
    return rows


def under_blur(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of bicubic LR images under blur, with those without damage as level 0 of both families."""
    rows = rows[rows.downscaler == "bicubic"]
    rows = rows[rows.degradation.isin(["", *KERNELS])]
    clear = [rows[rows.degradation == ""].assign(degradation=kind, level=0.0, where="after") for kind in KERNELS]
    return pd.concat([rows[rows.degradation != ""], *clear], ignore_index=True)


def follows(rows: pd.DataFrame, kind: str, by: str, *, least: float = 0.0) -> pd.DataFrame:
    """`rankings.monotonicity` of each measure over the levels of a blur: rho, interval, share of photographs in order.

    Args:
        rows: of several measures.
        kind: of the blur.
        by: a column of which each value gets a line.
        least: leave out lower levels.
    """
    rows = rows[(rows.degradation == kind) & (pd.to_numeric(rows.level) >= least)]
    tables = [
        rankings.monotonicity(part, kind, by=by).rename(columns={"distortion": "measure"})
        for _, part in rows.groupby("distortion", sort=False)
    ]
    columns = ["measure", by, "levels", "spearman", "low", "high", "increasing", "n"]
    return pd.concat(tables, ignore_index=True)[columns].rename(columns={"increasing": "photographs in order"})


def quantity(line) -> findings.Quantity:
    """rho of a line of `follows`."""
    return findings.Quantity(line.spearman, line.low, line.high, line.n)


def change(rows: pd.DataFrame, column: str, before: object, after: object) -> findings.Quantity:
    """Mean change over photographs of the same images between two values of a column; above 0 is worse."""
    means = _means(rows, column)[[before, after]].dropna()
    units = conditions.by_photograph(means, rows)
    return findings.mean(units[after] - units[before])


def summary(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Means over photographs for each value of a column, with 95 % intervals: columns mean, low, high."""
    units = conditions.by_photograph(_means(rows, by), rows)
    ends = {value: rankings.interval(units[value].dropna()) for value in units}
    lines = {value: (units[value].mean(), end.low, end.high) for value, end in ends.items()}
    return pd.DataFrame.from_dict(lines, orient="index", columns=["mean", "low", "high"]).rename_axis(by)


def _means(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means of images (index) x values of a column."""
    return rows.groupby(["image", column]).value.mean().unstack(column)
