"""What notebook 09 says of upscalers side by side: the paper's order, LR images, damage, and all of it in one table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from helpers import results
from helpers.stats import conditions, findings, rankings
from helpers.stats.findings import Quantity
from helpers.studies import evidence, twins

ALPHA = 0.05  # of the t tests, Holm over the pairs of downscalers


def in_words(name: str) -> str:
    """What an upscaler's record says of it: "stochastic, not blind"."""
    stochastic, blind = twins.kind(name)
    return f"{'stochastic' if stochastic else 'draws nothing'}, {'blind' if blind else 'not blind'}"


def to_paper(parts: Mapping[str, twins.Columns], distances: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Hold every ranking against the paper's order of six.

    Args:
        parts: setting -> upscaler -> rows.
        distances: setting -> its D.

    Returns:
        One line each: setting, upscaler, D, and what `evidence.to_the_paper` says, on the images that all upscalers of
        the setting have by that D; value is NaN where there are fewer than two of the six.
    """
    return pd.DataFrame([
        {"setting": setting, "upscaler": f_us, "D": d} | twins.paper(own)[1]
        for setting, part in parts.items() for d in distances[setting] for f_us, own in twins.common(part, d).items()
    ])  # fmt: skip


def searches(paths: Sequence[str]) -> pd.DataFrame:
    """How published searches, and the flows among their rows, put the six of the paper.

    Args:
        paths: of published rows; those that are not there are left out.

    Returns:
        By X, f_us and D: tau to the paper with its interval, in words; which pairs are against it; and how many
        photographs there are. Rows of one image, and those that know f_ds, are left out.

    Raises:
        ValueError: as `results.read`.
    """
    keys, lines = ["X", "f_us", "D"], []
    for path in (each for each in paths if Path(each).is_file()):
        rows = results.read(path)
        several = rows.groupby("dataset").image.transform("nunique") > 1
        rows = rows[rows.distortion.isin(evidence.D) & ~rows.upscaler.str.contains("f_ds") & several]
        for (dataset, f_us, d), part in rows.groupby(["dataset", "upscaler", "distortion"]):
            tau, line = twins.paper(part)
            lines.append({
                "X": dataset.split("@")[0], "f_us": f_us, "D": d, "tau to the paper": f"{tau:.2f}",
                "against it": line["swapped"], "photographs": conditions.photographs(part).nunique(),
            })  # fmt: skip
    columns = [*keys, "tau to the paper", "against it", "photographs"]
    return pd.DataFrame(lines, columns=columns).drop_duplicates().set_index(keys)


def agrees_less(floors: pd.DataFrame, plain: str, blind: str) -> dict[str, object]:
    """Whether the draws of one upscaler agree less with their LR images than those of another.

    Args:
        floors: of `twins.floors`, with a line for each downscaler under both.
        plain, blind: the upscaler to compare with, and the one that is said to agree less.

    Returns:
        What a finding takes: the verdict for each downscaler, told in words, and n, the photographs.
    """
    one, two = (_consistency(floors[floors.upscaler == f_us]) for f_us in (plain, blind))
    told = ", ".join(f"{f} {two[f].value:.1f} instead of {one[f].value:.1f}" for f in one)
    return {"verdict": [_below(two[f], one[f]) for f in one], "told": told, "n": min(each.n for each in one.values())}


def rises_less(rises: pd.DataFrame, plain: str, blind: str) -> dict[str, object]:
    """Whether the score rises less under one upscaler than under another, at the strongest level of each damage.

    Args:
        rises: of `twins.rises`.
        plain, blind: the upscaler to compare with, and the one that is said to rise less.

    Returns:
        What a finding takes: the verdict for each damage, and told in words.
    """
    strongest = rises[rises["level"] == rises.groupby("degradation")["level"].transform("max")]
    found = {damage: part.set_index("upscaler").rise for damage, part in strongest.groupby("degradation")}
    told = ", ".join(f"{damage} {rise[blind]:.2f} instead of {rise[plain]:.2f}" for damage, rise in found.items())
    return {"verdict": [_below(rise[blind], rise[plain]) for rise in found.values()], "told": told}


def summary(parts: twins.Columns, square: Sequence[str] = twins.SQUARE) -> pd.DataFrame:
    """What each upscaler is, and what it makes of the downscalers.

    Args:
        parts: rows of one D by upscaler.
        square: the four twins; the others differ in more.

    Returns:
        A line an upscaler, in words: its kind, tau to the paper, the verdict on the paper's order, how many pairs of
        downscalers are told apart (t tests, Holm), and the loss of bicubic with its interval.
    """
    tables = {f_us: rankings.paired(own) for f_us, own in parts.items() if own.downscaler.nunique() > 1}
    orders = {f_us: twins.paper(own) for f_us, own in parts.items()}
    losses = {f_us: findings.mean(rankings.per_photograph(own).bicubic) for f_us, own in parts.items()}
    return pd.DataFrame({
        "kind": {f_us: in_words(f_us) if f_us in square else "differs in more" for f_us in parts},
        "tau to the paper": {f_us: f"{tau:.2f}" for f_us, (tau, _) in orders.items()},
        "the paper's order": {f_us: line["verdict"] for f_us, (_, line) in orders.items()},
        "pairs told apart": {f: f"{(table.p_holm < ALPHA).sum()} of {len(table)}" for f, table in tables.items()},
        "loss of bicubic": {f_us: f"{loss}" for f_us, loss in losses.items()},
    })  # fmt: skip


def _consistency(floors: pd.DataFrame) -> dict[str, Quantity]:
    columns = ["downscaler", "consistency", "consistency_low", "consistency_high", "n"]
    return {f: Quantity(value, low, high, int(n)) for f, value, low, high, n in floors[columns].to_numpy()}


def _below(less: Quantity, more: Quantity) -> str:
    """The verdict on one being below the other: intervals that do not overlap."""
    if less.high < more.low:
        return findings.SUPPORTED
    return findings.CONTRADICTED if less.low > more.high else findings.NOT_SHOWN
