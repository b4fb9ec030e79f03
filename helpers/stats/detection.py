"""Find the weakest degradation that raises a score, from paired differences to the undegraded LR image at each level.

The draws of both sides share their latents, so each draw is compared with its twin and much of the upscaler's noise
cancels; intervals are over photographs. Levels are tested from the strongest down, and the first that is not noticed
ends the search: such a fixed sequence of tests needs no adjustment for their number.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.stats import conditions, rankings

DRAW = ["image", "seed", "sample"]
ORDERED = ("blur", "blur_full", "noise", "contrast", "otsu", "jpeg", "mixed")


class Minimum(NamedTuple):
    """The weakest level that is noticed; NaN where there is none."""

    level: float  # at it and at all stronger levels the whole interval is on the worse side of 0
    below: float  # next weaker level tested, not noticed
    estimate: float  # strength between the two where the near end of the interval reaches 0
    difference: float  # paired difference at `level`, in units of D
    isolated: int  # number of weaker levels that are noticed, beyond a gap
    note: str


def strength(degradation: str, level: float) -> float:
    """Convert a level to a number that grows with the damage, so that the levels of all types are ordered alike.

    Args:
        degradation: one of `ORDERED`.
        level: the level, in the unit of that degradation (`helpers.degradations`).

    Returns:
        blur, noise: sigma; contrast: |f - 1|; otsu: 256 / (K + 1), the mean width of a class in grey levels; jpeg:
        101 - quality; mixed: the number of stages.

    Raises:
        ValueError: a type whose levels have no order of strength ("bsrgan"), or an unknown one.
    """
    if degradation not in ORDERED:
        raise ValueError(f"expected a degradation with an order of strength, {', '.join(ORDERED)}, got {degradation!r}")
    if degradation == "otsu":
        return 256 / (level + 1)
    if degradation == "jpeg":
        return 101 - level
    return abs(level - 1) if degradation == "contrast" else float(level)


def differences(
    rows: pd.DataFrame,
    degradation: str,
    *,
    levels: Iterable[float] | None = None,
    lower_is_better: bool | None = None,
) -> pd.DataFrame:
    """Subtract D without the degradation from D with it, draw by draw with the same latents, and average by photograph.

    Args:
        rows: one row per draw of one condition (one downscaler, one upscaler, one D); rows with degradation "" are
            the undegraded side, rows of other degradations are ignored.
        degradation: its name, one of `ORDERED`.
        levels: levels to use; contrast needs them on one side of 1. None takes all there are.
        lower_is_better: direction of the values; None looks it up by the name of the distortion.

    Returns:
        One line per level, the weakest first: degradation, distortion, level, strength, difference (mean over
        photographs, positive where the degraded side is worse), undamaged (mean score of the undegraded side), low,
        high, interval (95 %), side ("worse" or "better" where the interval excludes 0, else ""), share_worse (of
        photographs), identical (every pair of draws is equal), n (photographs), images, pairs (of draws), left_out
        (draws without a finite twin).

    Raises:
        ValueError: no row with or without the degradation, not all levels asked for, contrast on both sides of 1,
            a setting that is not compared varies, or the direction is unknown.
    """
    if missing := {"degradation", "level", "value", "distortion", *DRAW} - set(rows):
        raise ValueError(f"expected rows with the columns {sorted(missing)}, got {list(rows)}")
    named = rows.degradation.fillna("")
    plain, damaged = rows[named == ""], rows[named == degradation]
    damaged = damaged[damaged.level.isin(damaged.level if levels is None else list(levels))]
    wanted = sorted(damaged.level.unique() if levels is None else set(levels))
    if plain.empty or damaged.empty or sorted(damaged.level.unique()) != wanted:
        got = f"{len(plain)} rows without and levels {sorted(damaged.level.unique())}"
        raise ValueError(f"expected rows with {degradation} at {wanted} and rows without a degradation, got {got}")
    if degradation == "contrast" and min(wanted) < 1 < max(wanted):
        raise ValueError(f"expected contrast factors on one side of 1, got {wanted}")
    kinds = ["degradation", "level"]
    whole = pd.concat([plain, damaged]), [*kinds, *(["where"] if "where" in rows else [])]  # twins, too, are of one set
    for part, by in ((plain, kinds[:1]), (damaged, kinds), whole):
        rankings.per_image(part.assign(degradation=part.degradation.fillna("")), by)  # refuses what is mixed
    metric = rows.distortion.iloc[0]
    sign = 1 if conditions.direction(rows, lower_is_better) else -1
    twin, lines = plain.set_index(DRAW).value, []
    images = rankings.per_image(plain.assign(degradation=""), "degradation")["mean"].iloc[:, 0]
    undamaged = conditions.by_photograph(images, plain).mean()
    for level, group in damaged.groupby("level"):
        gaps = sign * (group.set_index(DRAW).value - twin)
        gaps = gaps.where(np.isfinite(gaps))
        images = gaps.dropna().groupby("image").mean()
        means = conditions.by_photograph(images, rows).to_numpy()
        low, high, kind = rankings.interval(means)
        line = {"degradation": degradation, "distortion": metric, "level": level}
        line |= {"strength": strength(degradation, level), "difference": means.mean() if len(means) else math.nan}
        line |= {"undamaged": undamaged, "low": low, "high": high, "interval": kind}
        line |= {"side": "worse" if low > 0 else "better" if high < 0 else ""}
        line |= {"share_worse": (means > 0).mean() if len(means) else math.nan}
        line |= {"identical": bool(len(means)) and not gaps.dropna().any(), "n": len(means)}
        line["images"] = len(images)
        lines.append(line | {"pairs": gaps.count(), "left_out": gaps.isna().sum()})
    return pd.DataFrame(lines).sort_values("strength", ignore_index=True)


def minimum(table: pd.DataFrame) -> Minimum:
    """Find the weakest level that is noticed together with all stronger ones.

    A level is noticed if the 95 % interval of its paired difference lies on the worse side of 0; a level that lowers
    the score is not. For the estimate between that level and the next weaker one, the end of the interval that faces 0
    is taken as linear in the logarithm of the strength; identical images count as 0.

    Args:
        table: result of `differences`, lines of one degradation.

    Returns:
        A `Minimum`; its estimate is in units of `strength`, NaN without a weaker level or without a detection.

    Raises:
        ValueError: the table has no line, or more than one type of degradation.
    """
    if table.empty or table.degradation.nunique() != 1:
        raise ValueError(f"expected lines of one degradation, got {sorted(set(table.degradation))}")
    table = table.sort_values("strength", ignore_index=True)
    worse = (table.side == "worse").to_numpy()
    first = len(worse) - int(np.cumprod(worse[::-1]).sum())  # start of the unbroken run at the strong end
    isolated = int(worse[:first].sum())
    if first == len(worse):
        return Minimum(math.nan, table.level.iloc[-1], math.nan, math.nan, isolated, "not noticed at the strongest")
    found = table.iloc[first]
    if first == 0:
        return Minimum(found.level, math.nan, math.nan, found.difference, 0, "noticed at the weakest level already")
    below = table.iloc[first - 1]
    start = 0.0 if below.identical or math.isnan(below.low) else min(below.low, 0.0)
    share = -start / (found.low - start)
    estimate = math.exp(math.log(below.strength) + share * math.log(found.strength / below.strength))
    note = "noticed at weaker levels too, with a gap" if isolated else ""
    return Minimum(found.level, below.level, estimate, found.difference, isolated, note)
