"""A leaderboard of rows: score, interval and rank of every downscaler, for each setting apart.

`python -m helpers.stats.leaderboard ROWS --json FILE` writes that of a folder of rows, or of one published file.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from helpers import files, results
from helpers.stats.rankings import ranks, scores

SETTING = ("dataset", "scale", "degradation", "level", "where", "upscaler", "heat", "distortion")
COLUMNS = {  # of the table: what each holds
    **dict.fromkeys(SETTING, "as in the rows"),
    "downscaler": "as in the rows",
    "score": "S(f_ds): mean over photographs of the mean over draws",
    "low": "lower end of its 95 % interval (Student's t over photographs)",
    "high": "upper end of it",
    "rank": "1 is the best; of the images that every downscaler of the setting has",
    "rank_low": "best rank that the photographs leave open, 95 % for all downscalers of the setting together",
    "rank_high": "worst such rank",
    "photographs": "number of photographs",
    "draws": "number of finite draws",
    "lost": "draws that are not finite",
    "bits_per_pixel": "mean bits per LR pixel of its file: PNG, or the codec it went through; null: not in the rows",
    "lower_is_better": "direction of the distortion",
}


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Rank the downscalers of each setting.

    Args:
        rows: as `results.read` returns them.

    Returns:
        One line for each setting and downscaler with `COLUMNS`, settings sorted, the best downscaler first. A setting
        with one downscaler has ranks of 1.

    Raises:
        ValueError: the direction of a distortion is unknown, or a setting has no image that all its downscalers have.
    """
    parts = []
    keys = [rows[name].astype(object).where(rows[name].notna(), "").astype(str) for name in SETTING]
    for _, part in rows.groupby(keys, sort=True):
        placed = scores(part).set_index("downscaler")
        order = ranks(part, n_resamples=1).set_index("downscaler")
        pixels = part.height * part.width / part.scale**2
        bits = (part.lr_bits / pixels).groupby(part.downscaler).mean()
        for name in order.index:
            line = {key: part[key].iloc[0] for key in SETTING} | {"downscaler": name}
            line |= {"score": placed["mean"][name], "low": placed.low[name], "high": placed.high[name]}
            line |= {key: order[key][name] for key in ("rank", "rank_low", "rank_high")}
            line |= {"photographs": int(placed.n[name]), "draws": int(placed.draws[name])}
            line |= {"lost": int(placed.nan_draws[name] + placed.inf_draws[name]), "bits_per_pixel": bits[name]}
            parts.append(line | {"lower_is_better": bool(placed.lower_is_better[name])})
    return pd.DataFrame(parts, columns=list(COLUMNS))


def as_json(found: pd.DataFrame) -> str:
    """The table as JSON: {"columns": {name: what it holds}, "rows": [...]}; NaN is null, numbers have six digits."""

    def plain(value: object) -> object:
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, float):
            return None if math.isnan(value) else float(f"{value:.6g}")
        return value

    lines = [{name: plain(value) for name, value in line.items()} for line in found.to_dict("records")]
    return json.dumps({"columns": COLUMNS, "rows": lines}, indent=1) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command of this file; SystemExit with a sentence where the rows cannot be read or ranked."""
    parser = argparse.ArgumentParser(prog="python -m helpers.stats.leaderboard", description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, help="folder of rows, or a published .csv.gz file")
    parser.add_argument("--json", type=Path, help="write the table there; without it, it is printed")
    asked = parser.parse_args(arguments)
    if not asked.rows.exists():
        raise SystemExit(f"rows: expected a folder or file of rows, found nothing at {asked.rows}")
    try:
        text = as_json(table(results.read(asked.rows, mixed=tuple(results.ONE_OF))))
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if asked.json:
        files.replace(asked.json, text.encode())
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
