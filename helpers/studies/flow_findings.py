"""Compute what the notebook on the flow states: signs and best heats along the heat, gaps under two flows, strains."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from helpers.stats import claims, conditions, decomposition, findings, inference, rankings
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


# What follows returns the values of one sentence each, as keywords of `notebook.finding`, the verdict among them.


def coarse_order(
    parts: Mapping[str, pd.DataFrame], sharp: Sequence[str], plain: Sequence[str], heat: float, names: Mapping[str, str]
) -> dict:
    """Does each sharp downscaler lose more than each plain one at one heat? Told of the other heats and D, too.

    Args:
        parts: D -> rows of one upscaler at several heats; the first D decides.
        sharp, plain: downscalers.
        heat: the one that decides.
        names: D -> its name for a reader.
    """
    claim = claims.Claim("coarse order", "P 4.5, S 7", tuple((f, g) for f in sharp for g in plain))

    def judged(d: str, tau: float) -> str:
        return claims.verdicts(parts[d][parts[d].heat == tau], [claim]).verdict.iloc[0]

    first, *more = parts
    heats = [tau for tau in sorted(parts[first].heat.unique()) if tau != heat]
    others = ", ".join(f"{judged(first, tau)} at {tau:g}" for tau in heats) or "none was run"
    beside = ", ".join(f"{names[d]} {judged(d, heat)}" for d in more)
    named = {"heat": heat, "sharp": ", ".join(sharp), "plain": ", ".join(plain)}
    return {"verdict": judged(first, heat), "source": claim.source, "others": others, "beside": beside} | named


def d_decides(ratios: Sequence[Quantity]) -> str:
    """The verdict of "one D puts the one downscaler first, another D the other".

    Args:
        ratios: the loss of the one as a multiple of that of the other, by each D.
    """
    sides = {findings.verdict(ratio, below=1) for ratio in ratios}
    if {findings.SUPPORTED, findings.CONTRADICTED} <= sides:
        return findings.SUPPORTED
    return findings.NOT_SHOWN if findings.NOT_SHOWN in sides else findings.CONTRADICTED


def heat_decides(table: pd.DataFrame) -> dict:
    """Does the heat decide which of two downscalers loses less, and at which heats is it the one, and the other?

    Args:
        table: of `pair_along`.
    """
    less, more = (", ".join(f"{tau:g}" for tau in table.heat[table.sign == sign]) or "no heat" for sign in (-1, 1))
    settled = findings.CONTRADICTED if table.sign.notna().all() else findings.NOT_SHOWN
    verdict = findings.SUPPORTED if {-1, 1} <= set(table.sign) else settled
    return {"verdict": verdict, "less": less, "more": more}


def listed(best: pd.DataFrame) -> str:
    """The best heat of each downscaler and those that may be it: "bicubic 1 (0.9, 1); nearest 0.6 (0.6)".

    Args:
        best: of `best_heats`.
    """
    return "; ".join(
        f"{name} {line.best:g} ({', '.join(f'{tau:g}' for tau in line.open)})" for name, line in best.iterrows()
    )


def at_best_heat(rows: pd.DataFrame, best: pd.Series, heat: float) -> pd.DataFrame:
    """The rows of each downscaler at its own best heat, all called those of one heat so that they can be compared.

    Args:
        rows: of one D and one upscaler at several heats.
        best: downscaler -> heat.
        heat: what to call it.
    """
    parts = [rows[(rows.downscaler == name) & (rows.heat == tau)] for name, tau in best.items()]
    return pd.concat(parts).assign(heat=heat)


def gaps_shrink(
    parts: Mapping[str, pd.DataFrame], downscalers: Sequence[str], flows: Sequence[str], names: Mapping[str, str]
) -> dict:
    """Do the gaps to bicubic shrink under the second flow, each of them by the first D? The other D are told.

    Args:
        parts: D -> rows of both flows at one heat.
        downscalers: whose gaps.
        flows: two upscalers.
        names: D -> its name for a reader.
    """
    kept = {d: {name: gap_kept(part, name, flows) for name in downscalers} for d, part in parts.items()}
    said = {d: ", ".join(f"{name} {each:.0%}" for name, each in those.items()) for d, those in kept.items()}
    first, *more = parts
    verdicts = [findings.verdict(each, above=-1, below=1) for each in kept[first].values()]  # of its size
    return {"verdict": verdicts, "kept": said[first], "beside": "; ".join(f"{names[d]}: {said[d]}" for d in more)}


def strained_by(extremes: pd.DataFrame, condition: str, heat: float, than: str = "bicubic") -> dict:
    """Are the largest values more than twice as large under one condition, already at heat 0?

    Args:
        extremes: of `probes.strain`, of one flow at heat 0 and at `heat`.
        condition: the LR image.
        heat: what is told beside heat 0.
        than: the LR image it is compared with.
    """
    still, hot = (times_larger(extremes[extremes.heat == tau], condition, than) for tau in (0.0, heat))
    return {"verdict": findings.verdict(still, above=2), "still": still, "hot": hot, "n": still.n}
