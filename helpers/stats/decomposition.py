"""Split a squared error into bias and spread of the draws, and bound it by the LR image's distance from bicubic.

Both need rows of squared error: "mse", "mse_of_mean", "lr_mse" and "consistency_mse"; LPIPS and SSIM have no such
split. Photographs are the units: intervals are 95 % jackknife t intervals over them, see `inference.jackknife`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from helpers.stats import conditions, rankings
from helpers.stats.inference import jackknife

SPLIT = ("mse", "mse_of_mean")
FLOOR = ("mse", "lr_mse", "consistency_mse")


def split_per_image(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """Squared error of each image = bias + spread, exactly, and both parts unbiased.

    With N draws x^_q of an image x and their mean m: spread V = 1/(N-1) sum_q MSE(x^_q, m), bias = MSE(x, m) - V/N,
    and mean_q MSE(x, x^_q) = bias + V. Averaged over x, the bias is an upper bound on the least squared error at which
    x can be estimated from f_ds(x); the score adds the spread of the upscaler.

    Args:
        rows: one row per draw of "mse" and of "mse_of_mean"; other distortions are ignored.
        by: the column, or columns, whose values are the conditions, as in `rankings.per_image`.

    Returns:
        Images (index) x conditions, under five names: "score", "bias", "spread", "of_mean" (MSE of the mean image)
        and "draws" (N, the finite ones). NaN where an image has fewer than two, unless all heats are 0: one draw is all
        there is then, and its spread is 0.

    Raises:
        ValueError: other draws of the one than of the other; no image has two finite ones; or `rankings.per_image`'s.
    """
    mse, means = (_of(rows, name, SPLIT, by) for name in SPLIT)
    table = rankings.per_image(mse, by)
    least = 1 if "heat" in mse and mse.heat.eq(0).all() else 2
    draws = table["draws"].where(table["draws"] >= least)
    if draws.isna().all(axis=None):
        raise ValueError(f"expected an image with two finite draws or more, got {table['draws'].max(axis=None)}")
    last = (
        means[np.isfinite(means.value)]
        .sort_values("sample")
        .drop_duplicates(["image", *conditions.columns(by)], keep="last")
    )
    score = table["mean"].where(draws.notna())
    of_mean = rankings.per_image(last, by)["mean"].reindex_like(score).where(draws.notna())
    spread = draws / (draws - 1).where(draws > 1, 1) * (score - of_mean)
    parts = {"score": score, "bias": of_mean - spread / draws, "spread": spread, "of_mean": of_mean, "draws": draws}
    return pd.concat(parts, axis=1)


def split(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """Score, bias, spread and calibration ratio of each condition, the smallest score first.

    The calibration ratio rho = score / mean MSE(x, m) is 2N/(N+1) for draws from the true posterior p(x | f_ds(x)),
    because bias and spread are then equal; below it, most of the score is error that all draws share.

    Args:
        rows, by: as `split_per_image`.

    Returns:
        One line per condition, over the images that all conditions have: its name, then score, bias, spread, of_mean
        (squared errors) and rho, each with _low and _high (95 %), rho_ideal, rank (by score), rank_bias, draws (mean
        N), n (photographs), images and left_out (other images).

    Raises:
        ValueError: as `split_per_image`; the conditions have no image in common.
    """
    common, left_out = _common(split_per_image(rows, by))
    units = conditions.by_photograph(common, rows)
    means = {name: units[name] for name in ("score", "bias", "spread", "of_mean")}
    result = _with_intervals(means, {"rho": lambda part: part["score"] / part["of_mean"]})
    inverse = conditions.by_photograph(1 / common["draws"], rows)
    result = result.assign(rho_ideal=2 / (1 + inverse.mean()), rank=result.score.rank(), rank_bias=result.bias.rank())
    result = result.assign(draws=common["draws"].mean(), n=len(units), images=len(common), left_out=left_out)
    return result.sort_values("score").rename_axis(conditions.label(by)).reset_index()


def floor_per_image(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """Compute for each image the least squared error that its LR image's distance from bicubic forces.

    With B the bicubic downscaler and y the LR image, RMSE(x, x^) >= |RMSE(Bx, y) - RMSE(Bx^, y)| for every upscaler,
    because B never enlarges an RMSE: draws that agree with y (Bx^ = y) cannot come closer to x than y is to Bx.

    Args:
        rows: one row per draw of "mse", "lr_mse" and "consistency_mse"; other distortions are ignored.
        by: as `split_per_image`.

    Returns:
        Images (index) x conditions, under five names, means over finite draws: "score" (MSE), "lr" (MSE of y to Bx),
        "consistency" (MSE of Bx^ to y), "floor" (the bound squared) and "slack" (the smallest RMSE(x, x^) minus its
        bound, >= 0 up to rounding). NaN where an image has no finite draw.

    Raises:
        ValueError: other draws of one than of another; no draw is finite; or `rankings.per_image`'s.
    """
    mse, lr, consistency = (_of(rows, name, FLOOR, by) for name in FLOOR)
    wide = mse.assign(lr=lr.value.to_numpy(), consistency=consistency.value.to_numpy(), score=mse.value)
    if (wide := wide[np.isfinite(wide[["score", "lr", "consistency"]]).all(axis=1)]).empty:
        raise ValueError("expected a finite draw, got none")
    bound = (wide.lr**0.5 - wide.consistency**0.5).abs()
    wide = wide.assign(floor=bound**2, slack=wide.score**0.5 - bound)
    tightest = wide.sort_values("slack").drop_duplicates(["image", *conditions.columns(by)])
    parts = {name: wide for name in ("score", "lr", "consistency", "floor")} | {"slack": tightest}
    means = {name: rankings.per_image(part.assign(value=part[name]), by)["mean"] for name, part in parts.items()}
    return pd.concat(means, axis=1)


def floor(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """How much of each condition's score is distance from bicubic, the smallest score first.

    Args:
        rows, by: as `split`.

    Returns:
        One line per condition, as `split`: its name, then, each with _low and _high, score (MSE), lr (MSE), floor
        (squared bound), p_lr (dB, PSNR of the LR image to the bicubic one), consistency (dB, PSNR of the draws
        downscaled again to the LR image), floor_share (floor / score, 0 to 1) and excess (score - floor); slack (the
        smallest of any draw), n, images and left_out. Squared errors are averaged over photographs before dB are taken.

    Raises:
        ValueError: as `floor_per_image`; the conditions have no image in common.
    """
    common, left_out = _common(floor_per_image(rows, by))
    units = conditions.by_photograph(common, rows)
    means = {name: units[name] for name in ("score", "lr", "consistency", "floor")}
    quantities = {
        "p_lr": lambda part: decibels(part["lr"]),
        "consistency": lambda part: decibels(part["consistency"]),
        "floor_share": lambda part: part["floor"] / part["score"],
        "excess": lambda part: part["score"] - part["floor"],
    }
    result = _with_intervals(means, quantities)
    result = result.assign(slack=common["slack"].min(), n=len(units), images=len(common), left_out=left_out)
    return result.sort_values("score").rename_axis(conditions.label(by)).reset_index()


def decibels(mse: float | np.ndarray | pd.Series) -> float | np.ndarray | pd.Series:
    """PSNR in dB of a mean squared error of intensities in [0, 1]; infinite for 0."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse)


def _of(rows: pd.DataFrame, name: str, needed: Sequence[str], by: str | Sequence[str]) -> pd.DataFrame:
    """Rows of one distortion in a fixed order, after a check that the others have the same draws."""
    draw = ["image", "sample", *conditions.columns(by)]
    if absent := {"distortion", "value", "seed", *draw} - set(rows):
        raise ValueError(f"expected rows with distortion, value, seed, {', '.join(draw)}, got none of {sorted(absent)}")
    counts = {one: int((rows.distortion == one).sum()) for one in needed}
    if len(set(counts.values())) > 1 or not counts[name] or rows.seed.nunique() > 1:
        raise ValueError(f"expected one seed and as many rows of each of {', '.join(needed)}, got {counts}")
    first, one = (rows[rows.distortion == d].sort_values(draw, ignore_index=True) for d in (needed[0], name))
    if not first[draw].equals(one[draw]):
        raise ValueError(f"expected the same draws of {needed[0]} and {name}, got others")
    return one


def _common(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    if (common := table.dropna()).empty:
        raise ValueError("expected an image that all conditions have, got none")
    return common, len(table) - len(common)


def _with_intervals(parts: dict[str, pd.DataFrame], more: dict[str, Callable]) -> pd.DataFrame:
    """Means over photographs of each part, what `more` makes of them, and 95 % intervals (NaN for one photograph)."""
    values = {name: part.to_numpy() for name, part in parts.items()}
    means = {name: part.mean() for name, part in parts.items()}
    result = pd.DataFrame(index=parts["score"].columns)
    for name, of in ({name: lambda part, name=name: part[name] for name in parts} | more).items():
        low, high = jackknife(of, values)
        result = result.assign(**{name: of(means), f"{name}_low": low, f"{name}_high": high})
    return result
