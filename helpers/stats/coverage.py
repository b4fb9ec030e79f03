"""Score an upscaler that searches, over all its draws and over those that converged.

A draw that did not converge is not an answer to its LR image. Leaving such draws out compares downscalers on the images
that are easy for them; keeping them in compares answers that do not agree with the LR image. So both scores are given,
with the coverage: the share of draws that converged.
"""

from collections.abc import Sequence

import pandas as pd

from helpers.results import SEARCH
from helpers.stats import conditions, rankings

KEPT = ["mean", "low", "high", "interval", "n", "images", "rank"]  # of `rankings.scores`, for both sets of draws


def scores(
    rows: pd.DataFrame,
    by: str | Sequence[str] = "downscaler",
    *,
    lower_is_better: bool | None = None,
) -> pd.DataFrame:
    """Score each condition over all its draws and over those that converged; the best over all draws first.

    Args:
        rows: one row per draw of an upscaler that searches.
        by, lower_is_better: as in `rankings.scores`.

    Returns:
        One line per condition: its name, distortion, lower_is_better, draws (all that were made), nan_draws (of these),
        converged (how many), coverage (their share), residual (median); mean, low, high, interval, n (photographs),
        images and rank over all finite draws; the same with "_converged" over the finite ones that converged,
        n_converged being the photographs that keep one: 0 where none did, and then the rest of them is missing. Ranks
        are over the images that all conditions have, of which conditions without a converged draw are none.

    Raises:
        ValueError: as `rankings.scores`; or rows without `converged`: their upscaler does not search.
    """
    if not set(SEARCH) <= set(rows) or rows.converged.isna().any():
        without = rows.converged.isna().sum() if "converged" in rows else len(rows)
        raise ValueError(f"expected rows of a search, each with residual and converged, got {without} without")
    every = rankings.scores(rows, by, lower_is_better=lower_is_better)
    name = every.columns[0]
    table = every[[name, "distortion", "lower_is_better"]]
    groups = rows.groupby(conditions.name(rows, by))
    counts = pd.DataFrame({"draws": groups.size(), "nan_draws": groups.value.agg(lambda values: values.isna().sum())})
    counts = counts.assign(converged=groups.converged.sum().astype(int), coverage=groups.converged.mean())
    table = table.join(counts.assign(residual=groups.residual.median()), on=name).join(every[KEPT])
    kept = rows[rows.converged == 1]
    over = rankings.scores(kept, by, lower_is_better=lower_is_better) if len(kept) else every[:0]
    table = table.join(over.set_index(name)[KEPT].add_suffix("_converged"), on=name)
    return table.fillna({"n_converged": 0, "images_converged": 0}).astype({"n_converged": int, "images_converged": int})


def sentence(table: pd.DataFrame) -> str:
    """Say whether the two rankings agree, and which conditions have no converged draw.

    Args:
        table: result of `scores`.
    """
    name = table.columns[0]
    none = table[name][table.n_converged == 0].map(str)
    words = f" No finite draw of {', '.join(none)} converged: no score over converged draws." if len(none) else ""
    both = table[table["rank"].notna() & table.rank_converged.notna()]
    if len(both) < 2:
        return "Rankings cannot be compared: fewer than two have converged draws of the same images." + words
    before, after = both["rank"].rank(), both.rank_converged.rank()
    orders = [both.assign(place=place).sort_values(["place", name])[name] for place in (after, before)]
    now, then = (", ".join(map(str, names)) for names in orders)
    if (before == after).all():
        return f"Over the draws that converged the ranking is the same: {now}." + words
    return f"Over the draws that converged the ranking is another: {now} instead of {then}." + words
