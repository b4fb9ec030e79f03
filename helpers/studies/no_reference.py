"""Judge LR images without a reference, as the paper's supplement does in its Table 12, and beside IDA-RD.

Tables have the columns that `stats` reads: image, group (the photograph), distortion (the measure), degradation,
level, downscaler, sample, value. A score of which more is better is negated, so that less is better in all of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers import datasets, iqa
from helpers.datasets import photographs
from helpers.degradations import DEGRADATIONS
from helpers.downscalers import resize
from helpers.images import quantize, read_rgb, write_rgb
from helpers.runs import adapters
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


def lr_image(dataset: str, name: str, downscaler: str, scale: int, *, size: int) -> Tensor:
    """The LR image of a crop, in [0, 1] and rounded to 8 bits, (1, 3, h, w).

    Args:
        dataset, name, size: as `datasets.load`.
        downscaler: as `adapters.resolve`.
        scale: s.
    """
    return quantize(adapters.resolve(downscaler)(datasets.load(dataset, name, size=size, multiple_of=scale), scale))


def of_the_one_before(
    lrs: Mapping[tuple[str, str], Tensor], names: Sequence[str], folder: str
) -> dict[tuple[str, str], Tensor]:
    """Give each image the bicubic LR image of the one before it, the first that of the last; write them as PNG files.

    Args:
        lrs: (image, downscaler) -> LR image.
        names: of the images.
        folder: where the files go; made if it is not there.

    Returns:
        (image, `OTHER`) -> LR image.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    found = {(name, OTHER): lrs[names[place - 1], "bicubic"] for place, name in enumerate(names)}
    for (name, _), lr in found.items():
        write_rgb(lr, Path(folder, f"{name}.png"))
    return found


def taps(sigmas: Sequence[float]) -> dict[tuple[str, float], np.ndarray]:
    """The kernel of each blur along one axis: (degradation, sigma) -> 65 weights, their centre in the middle."""
    line = torch.zeros(1, 3, 65, 65)
    line[..., 32] = 1  # blurred across, it is the kernel
    return {
        (kind, sigma): DEGRADATIONS[kind](line, sigma)[0, 0, 32].double().numpy()
        for kind in KERNELS for sigma in sigmas
    }  # fmt: skip


def width(kernel: np.ndarray) -> float:
    """Standard deviation of a kernel of `taps`, in pixels."""
    places = np.arange(len(kernel)) - len(kernel) // 2
    return float(np.sqrt((places**2 * kernel).sum()))


def blurred(lr: Tensor, sigmas: Sequence[float]) -> dict[str, Tensor]:
    """An LR image, and it under each kernel and level, rounded to 8 bits, by what they are: "3x3, 2"."""
    shown = {
        f"{words.removesuffix(' kernel')}, {sigma:g}": quantize(DEGRADATIONS[kind](lr, sigma))
        for kind, words in KERNELS.items() for sigma in sigmas
    }  # fmt: skip
    return {"LR image": lr} | shown


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


def at_every_side(table: pd.DataFrame) -> dict:
    """Does a measure get worse with the blur at every LR side? Values of a sentence, for `notebook.finding`.

    Args:
        table: of `follows` by size, of one measure.
    """
    rhos = {line.size: quantity(line) for line in table.itertuples(name="Line")}
    said = "; ".join(f"{rho:.2f} at {side} px" for side, rho in rhos.items())
    return {"verdict": [findings.verdict(rho, above=0) for rho in rhos.values()], "rho": said}


def over_the_last_step(rows: pd.DataFrame, before: float, after: float) -> dict:
    """Does a measure get worse from one level of a blur to the next at every LR side? Values of a sentence, as above.

    Args:
        rows: of one measure and one blur, with the column size.
        before, after: two levels.
    """
    steps = {side: change(part, "level", before, after) for side, part in rows.groupby("size")}
    said = "; ".join(f"{step} at {side} px" for side, step in steps.items())
    seen = sum(step.low > 0 for step in steps.values())
    verdicts = [findings.verdict(step, above=0) for step in steps.values()]
    return {"verdict": verdicts, "seen": seen, "all": len(steps), "steps": said}


def rises(rows: pd.DataFrame, kind: str, levels: Sequence[float]) -> dict:
    """Does a score rise with a blur, in all and over the last step? Values of a sentence, as above.

    Args:
        rows: of one D, of `under_blur`.
        kind: of the blur; without any the 3x3 kernel is not asked, because its least level is another filter already.
        levels: in ascending order, without 0.
    """
    (line,) = follows(rows, kind, "downscaler", least=levels[0] if kind == "blur" else 0.0).itertuples()
    rho, last = quantity(line), change(rows[rows.degradation == kind], "level", *levels[-2:])
    return {"verdict": [findings.verdict(each, above=0) for each in (rho, last)], "rho": rho, "last": last}


def same_scores(rows: pd.DataFrame) -> bool:
    """Whether bicubic LR images and those of another picture have the same scores, in whatever order.

    Args:
        rows: of one measure.
    """
    table = rows.pivot(index="image", columns="downscaler", values="value")
    return np.array_equal(np.sort(table.bicubic), np.sort(table[OTHER]))


def summary(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Means over photographs for each value of a column, with 95 % intervals: columns mean, low, high."""
    units = conditions.by_photograph(_means(rows, by), rows)
    ends = {value: rankings.interval(units[value].dropna()) for value in units}
    lines = {value: (units[value].mean(), end.low, end.high) for value, end in ends.items()}
    return pd.DataFrame.from_dict(lines, orient="index", columns=["mean", "low", "high"]).rename_axis(by)


def _means(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means of images (index) x values of a column."""
    return rows.groupby(["image", column]).value.mean().unstack(column)
