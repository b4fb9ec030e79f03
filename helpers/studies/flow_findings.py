"""Compute what the notebook on the flow states: signs and best heats along the heat, gaps under two flows, strains."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from helpers.stats import conditions, decomposition, findings, inference, rankings
from helpers.stats.decomposition import decibels, floor_per_image
from helpers.stats.findings import Quantity


def pair_along(rows: pd.DataFrame, f: str, g: str) -> pd.DataFrame:
    """Compare two downscalers at every heat: S(f) / S(g), and whose score is known to be the lower.

    Args:
        rows: one row per draw, of one D and one upscaler, at one heat or more.
        f, g: two downscalers.

    Returns:
        One line per heat: heat, value, low, high (of the ratio of means, 95 %), n, and sign: -1 where f is known to
        score lower, 1 where g is, NaN where the photographs leave it open (t tests, Holm over the heats).

    Raises:
        ValueError: as `findings.ratio`.
    """
    by_heat = {heat: part[part.downscaler.isin([f, g])] for heat, part in rows.groupby("heat")}
    units = {heat: rankings.per_photograph(part) for heat, part in by_heat.items()}
    common = sorted(set.intersection(*(set(table.index) for table in units.values())))
    gaps = np.stack([(table[f] - table[g]).loc[common].to_numpy() for table in units.values()], axis=1)
    lines = [{"heat": heat} | findings.ratio(part, f, g)._asdict() for heat, part in by_heat.items()]
    return pd.DataFrame(lines).assign(sign=inference.known_signs(gaps)[0])


def best_heats(rows: pd.DataFrame) -> pd.DataFrame:
    """Find the heat of the smallest mean D for each downscaler, and the heats that none is shown to beat.

    Args:
        rows: one row per draw, of one lower-is-better D and one upscaler, at two heats or more.

    Returns:
        Index downscaler; best (heat), mean (there), open (tuple of heats that may be the best: t tests over
        photographs, Holm over all pairs of heats of all downscalers together, so that all lines hold at once).

    Raises:
        ValueError: as `rankings.per_photograph`.
    """
    units = {name: rankings.per_photograph(part, "heat") for name, part in rows.groupby("downscaler", sort=False)}
    gaps = [np.stack([x[a] - x[b] for a, b in itertools.combinations(x, 2)], axis=1) for x in units.values()]
    lines = []
    for (name, table), signs in zip(units.items(), inference.known_signs(*gaps), strict=True):
        pairs = list(itertools.combinations(table, 2))
        beaten = {a for (a, _), sign in zip(pairs, signs, strict=True) if sign > 0}
        beaten |= {b for (_, b), sign in zip(pairs, signs, strict=True) if sign < 0}
        means = table.mean()
        left = tuple(heat for heat in table if heat not in beaten)
        lines.append({"downscaler": name, "best": means.idxmin(), "mean": means.min(), "open": left})
    return pd.DataFrame(lines).set_index("downscaler")


def one_heat_for_all(best: pd.DataFrame) -> str:
    """The verdict of "no heat is best for every downscaler".

    Args:
        best: of `best_heats`.
    """
    left = set.intersection(*map(set, best.open))
    if not left:
        return findings.SUPPORTED
    return findings.CONTRADICTED if all(len(each) == 1 for each in best.open) else findings.NOT_SHOWN


def gap_kept(rows: pd.DataFrame, f: str, flows: Sequence[str], baseline: str = "bicubic") -> Quantity:
    """How much of the gap between a downscaler and the baseline the second flow leaves: a ratio of mean gaps.

    Args:
        rows: one row per draw of both flows, of one D and one heat.
        f: a downscaler.
        flows: two upscalers; the gap of the first is the whole, 1.
        baseline: the downscaler that the gap is to.

    Raises:
        ValueError: as `rankings.per_photograph`.
    """
    chosen = {flow: rows[(rows.upscaler == flow) & rows.downscaler.isin([f, baseline])] for flow in flows}
    units = pd.concat({flow: rankings.per_photograph(part) for flow, part in chosen.items()}, axis=1).dropna()
    parts = {flow: (units[flow][f] - units[flow][baseline]).to_frame().to_numpy() for flow in flows}
    first, second = flows
    low, high = inference.jackknife(lambda means: means[second] / means[first], parts)
    value = parts[second].mean() / parts[first].mean()
    return Quantity(float(value), float(low[0]), float(high[0]), len(units))


def difference(rows: pd.DataFrame, f: str, g: str, by: str = "downscaler") -> Quantity:
    """Mean of f - g over photographs, of rows whose values have no better side, such as bits.

    Raises:
        ValueError: as `rankings.per_photograph`.
    """
    units = rankings.per_photograph(rows, by)
    return findings.mean(units[f] - units[g])


def split_gap(split: pd.DataFrame, rows: pd.DataFrame, f: str, g: str, times: float = 1000.0) -> dict[str, Quantity]:
    """The difference f - g in the score, and what bias and spread have in it.

    Args:
        split: of `decomposition.split_per_image`.
        rows: those it was made of; they name the photographs.
        f, g: two conditions.
        times: factor on all values.

    Returns:
        score, bias and spread.
    """
    units = conditions.by_photograph(split[["score", "bias", "spread"]].dropna(), rows)
    return {name: findings.mean(times * (units[name][f] - units[name][g])) for name in ("score", "bias", "spread")}


def quantities(table: pd.DataFrame, column: str) -> dict[str, Quantity]:
    """A column of a table of `decomposition`, indexed by condition, as quantities by condition."""
    columns = [column, f"{column}_low", f"{column}_high"]
    return {name: Quantity(*line[columns].astype(float), int(line.n)) for name, line in table.iterrows()}


def beyond_bicubic(rows: pd.DataFrame, by: str = "downscaler") -> dict[str, Quantity]:
    """How much nearer the draws are to their own LR image than that image is to the bicubic one.

    Args:
        rows, by: as `decomposition.floor`.

    Returns:
        dB of a ratio of mean squared errors by condition. Around 0 the draws no longer agree with the LR image that
        they were given.
    """
    units = conditions.by_photograph(floor_per_image(rows, by)[["lr", "consistency"]].dropna(), rows)
    parts = {name: units[name].to_numpy() for name in ("lr", "consistency")}
    low, high = inference.jackknife(lambda m: decibels(m["consistency"]) - decibels(m["lr"]), parts)
    value = decibels(units["consistency"].mean()) - decibels(units["lr"].mean())
    table = pd.DataFrame({"value": value, "value_low": low, "value_high": high, "n": len(units)})
    return quantities(table, "value")


def geometric(values: pd.Series) -> Quantity:
    """Geometric mean of positive values, one per photograph, with the t interval of its logarithm.

    Raises:
        ValueError: as `findings.mean`.
    """
    value, low, high, n = findings.mean(np.log(values))
    return Quantity(*map(float, np.exp([value, low, high])), n)


def strain(extremes: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Largest values of draws by condition: geometric means over photographs, with their intervals.

    Args:
        extremes: of `probes.extremes`, with the column photograph.
        by: further columns that tell the lines apart.

    Returns:
        One line per condition, heat and value of `by`: these, value, low, high, n, outside (mean share of values
        outside [-0.25, 1.25]) and finite (share of draws).
    """
    lines = []
    for key, part in extremes.groupby(list(by), sort=False):
        largest = part.groupby("photograph").largest.apply(lambda x: float(np.exp(np.log(x).mean())))
        line = dict(zip(by, key, strict=True)) | geometric(largest)._asdict()
        lines.append(line | {"outside": part.outside.mean(), "finite": part.finite.mean()})
    return pd.DataFrame(lines)


def times_larger(extremes: pd.DataFrame, f: str, g: str) -> Quantity:
    """How many times larger the largest values are under one condition than under another, photograph by photograph.

    Args:
        extremes: of `probes.extremes` at one heat, with the column photograph.
        f, g: two conditions.
    """
    logs = np.log(extremes.set_index(["photograph", "condition"]).largest).groupby(level=[0, 1]).mean().unstack()
    return geometric(np.exp(logs[f] - logs[g]))


def unpaired(a: pd.Series, b: pd.Series) -> Quantity:
    """How many times larger positive values are in one set of photographs than in another: Welch's interval of logs.

    Args:
        a, b: one value per photograph; the sets share none.

    Returns:
        The ratio of geometric means; n is that of the smaller set, and there is no interval where it is 1.
    """
    logs = [np.log(values.to_numpy(dtype=np.float64)) for values in (a, b)]
    value, n = logs[0].mean() - logs[1].mean(), min(map(len, logs))
    low = high = np.nan
    if n > 1:
        low, high = stats.ttest_ind(*logs, equal_var=False).confidence_interval()
    return Quantity(*map(float, np.exp([value, low, high])), n)


def along_heat(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores at every heat.

    Args:
        rows: one row per draw, of one D and one upscaler.

    Returns:
        Index (heat, downscaler); value, low, high (95 %).
    """
    tables = {heat: rankings.scores(part).set_index("downscaler") for heat, part in rows.groupby("heat")}
    return pd.concat(tables)[["mean", "low", "high"]].set_axis(["value", "low", "high"], axis=1)


def diversity(rows: pd.DataFrame) -> pd.DataFrame:
    """Standard deviation of a pixel over the draws of one LR image at every heat, mean over photographs.

    Args:
        rows: as `decomposition.split_per_image`, of one upscaler; heats with one draw alone are left out.

    Returns:
        As `along_heat`.
    """
    cells = {}
    for heat, part in rows.groupby("heat"):
        if part["sample"].nunique() > 1:
            units = conditions.by_photograph(decomposition.split_per_image(part)["spread"].dropna() ** 0.5, part)
            cells |= {(heat, name): (x.mean(), *inference.interval(x)[:2]) for name, x in units.items()}
    return pd.DataFrame(cells, index=["value", "low", "high"]).T
