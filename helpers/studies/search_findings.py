"""Compute what the notebook on PULSE states: rows of its experiments, damage by name, how exactly a score is known."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from helpers import runs
from helpers.stats import claims, decomposition, findings, inference, rankings
from helpers.stats.findings import Decided, Quantity
from helpers.studies import evidence

NONE = "none"
OF_THE_PAPER = {("contrast", 0.75): "DG1", ("noise", 0.05): "DG2", ("mixed", 2.0): "DG3"}  # P Table 4
MIXED = {1.0: "blur and contrast", 2.0: "blur, contrast, noise", 3.0: "blur, contrast, noise, Otsu"}


def of(rows: pd.DataFrame, experiment: runs.Experiment, first: str = "") -> dict[str, pd.DataFrame]:
    """The rows of an experiment by D: those D of which all draws are there, LPIPS first, then `first`.

    Args:
        rows: of several experiments, as `runs.run` returns them.
        experiment: one of them.
        first: D of the run.
    """
    damage = {(name, float("nan" if level is None else level)) for name, level in experiment.degradations}
    damage = {(name, "" if np.isnan(level) else level) for name, level in damage}
    levels = rows.level.astype(object).where(rows.level.notna(), "")
    chosen = [pair in damage for pair in zip(rows.degradation.fillna(""), levels, strict=True)]
    part = rows[chosen]
    part = part[
        (part.upscaler == experiment.upscaler) & (part.heat == experiment.heat) & (part.scale == experiment.scale)
    ]
    part = part[part.image.isin(experiment.images) & (part["sample"] < experiment.n_samples)]
    part = part[part.downscaler.isin([key[2] for key in runs.keys(experiment)])]
    whole = part.groupby("distortion").size()
    order = ["lpips", first, "lpips_embedded", "1-ms_ssim", "1-ssim", "mse"]
    names = sorted(evidence.distances(part), key=lambda each: order.index(each) if each in order else len(order))
    names = [each for each in names if whole[each] == whole.max()]
    return {name: part[part.distortion == name] for name in names}


def common(*parts: Mapping[str, pd.DataFrame]) -> list[str]:
    """The D that all parts have, in the order of the first."""
    return [name for name in parts[0] if all(name in each for each in parts)]


def damaged(*parts: pd.DataFrame) -> pd.DataFrame:
    """Rows of LR images with damage and without, the damage in one column that has names for a reader.

    Returns:
        The rows with the column damage ("none", "noise 0.2", "contrast 0.75 (DG1)"), without degradation, level, where.
    """
    rows = pd.concat(parts, ignore_index=True)
    pairs = zip(rows.degradation.fillna(""), rows.level, strict=True)
    rows["damage"] = [called(name, level) for name, level in pairs]
    images = rows.groupby("damage").image.agg(set)
    return rows[rows.image.isin(set.intersection(*images))].drop(columns=["degradation", "level", "where"])


def called(name: str, level: float) -> str:
    """A damage for a reader."""
    if not name:
        return NONE
    plain = MIXED.get(level, f"{level:g}") if name == "mixed" else f"{name} {level:g}"
    paper = OF_THE_PAPER.get((name, level))
    return f"{plain} ({paper})" if paper else plain


def gaps(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], by: str) -> dict[str, Decided]:
    """Decide for several pairs at once whether the first loses more: "noise 0.2 - none" and so on, Holm over all.

    Args:
        rows: one row per draw, of one lower-is-better D.
        pairs: two values of `by` each.
        by: a column.
    """
    units = rankings.per_photograph(rows, by)
    return findings.decided(pd.DataFrame({f"{f} \N{MINUS SIGN} {g}": units[f] - units[g] for f, g in pairs}))


def harder(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of levels of one kind of damage that lie next to each other, the stronger first.

    Args:
        names: of `called`, such as "noise 0.2"; contrast below 1 and above 1 are two kinds.
    """
    kinds: dict[str, list[tuple[float, str]]] = {}
    for name in names:
        kind, _, level = name.partition(" (")[0].rpartition(" ")
        if kind in ("noise", "contrast", "blur"):
            strength = float(level) - (kind == "contrast")
            kinds.setdefault(f"{kind} {strength < 0}", []).append((abs(strength), name))
    ordered = [[name for _, name in sorted(each)] for each in kinds.values()]
    return [(g, f) for each in ordered for f, g in zip(each, each[1:], strict=False)]


def ratios(parts: Mapping[str, pd.DataFrame], to: str, by: str) -> pd.DataFrame:
    """Loss as a multiple of that of one condition, for several upscalers.

    Args:
        parts: name -> rows of one D.
        to: the condition that is 1.
        by: a column.

    Returns:
        One line each: what (name), condition, value, low, high, n.
    """
    lines = [
        {"what": what, "condition": name} | findings.ratio(rows[rows[by].isin([name, to])], name, to, by)._asdict()
        for what, rows in parts.items() for name in rows[by].unique() if name != to
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=["what", "condition", "value", "low", "high", "n"])


def half_width(values: pd.Series, n: int) -> Quantity:
    """Half the 95 % interval of a score of n photographs, as a share of the score, from the spread of those at hand.

    Args:
        values: one per photograph.
        n: how many photographs the score would be of.

    Returns:
        1.96 sd / (sqrt(n) mean), with a jackknife interval.

    Raises:
        ValueError: fewer than three photographs.
    """
    count = len(values)
    if count < 3:
        raise ValueError(f"expected three photographs or more, got {count}")
    factor = 1.96 / np.sqrt(n) * np.sqrt(count / (count - 1))

    def share(means: dict[str, np.ndarray]) -> np.ndarray:
        return factor * np.sqrt(np.maximum(means["squares"] - means["x"] ** 2, 0)) / means["x"]

    x = values.to_numpy()[:, None]
    low, high = inference.jackknife(share, {"x": x, "squares": x**2})
    value = 1.96 / np.sqrt(n) * values.std() / values.mean()
    return Quantity(float(value), float(low[0]), float(high[0]), count)


def per_damage(rows: pd.DataFrame) -> pd.DataFrame:
    """Means of photographs x damage, of rows of `damaged`."""
    return rankings.per_photograph(rows, "damage")


def tau_of(found: Mapping) -> Quantity:
    """Kendall's tau of what `evidence.compare` returns."""
    return Quantity(*(found[name] for name in ("value", "low", "high", "n")))


# What follows returns the values of one sentence each, as keywords of `notebook.finding`, the verdict among them.


def rests_where_content(rows: pd.DataFrame, eps: float) -> dict:
    """Does a search rest within 3 dB of the residual with which it is content?

    Args:
        rows: of the search on bicubic LR images, and other downscalers; residual and image.
        eps: that residual, a mean squared difference of LR images.
    """
    residual = rows[rows.downscaler == "bicubic"].groupby("image").residual.mean()
    agree, floor = findings.mean(decomposition.decibels(residual)), decomposition.decibels(eps)
    verdict = findings.verdict(agree, above=floor, below=floor + 3)
    return {"verdict": verdict, "floor": floor, "agree": agree, "n": agree.n}


def nearest_is_worst(rows: pd.DataFrame, order: Sequence[str]) -> dict | None:
    """Does nearest lose most of the paper's downscalers? None where there is nothing to compare it with.

    Args:
        rows: of one D and one upscaler.
        order: the paper's downscalers that the rows have, the worst first.
    """
    if order[0] != "nearest" or len(order) < 2:
        return None
    claim = claims.Claim("worst", "P 4.5, S 5", tuple((order[0], name) for name in order[1:]))
    line = claims.verdicts(rows, [claim]).iloc[0]
    gap = Quantity(line.gap, line.low, line.high, line.n)
    facts = {"count": len(order), "n": line.n, "pair": line.pair, "gap": gap}
    return {"verdict": line.verdict, "source": claim.source} | facts


def in_the_papers_order(rows: pd.DataFrame) -> dict | None:
    """Do the downscalers have the paper's order? None where there are fewer than two of them.

    Args:
        rows: of one D and one upscaler.
    """
    if not (found := evidence.to_the_paper(rows)):
        return None
    facts = {name: found[name] for name in ("verdict", "n", "stated", "pairs", "swapped")}
    return facts | {"tau": tau_of(found), "source": "P 4.5, S 5"}


def much_alike(a: pd.DataFrame, b: pd.DataFrame) -> dict:
    """Do two upscalers order the downscalers much alike?

    Args:
        a, b: rows of one D.
    """
    found = evidence.compare(a, b)
    tau = tau_of(found)
    verdict = findings.verdict(tau, above=findings.ALIKE)
    return {"verdict": verdict, "alike": findings.ALIKE, "tau": tau, "n": tau.n, "swapped": found["swapped"]}


def by_space(parts: Mapping[str, pd.DataFrame], images: Sequence[str]) -> pd.DataFrame:
    """The first draws of several searches on bicubic LR images in one table, with the column space.

    Args:
        parts: name of a space -> rows of one D.
        images: those to take.
    """
    table = pd.concat([part.assign(space=name) for name, part in parts.items()])
    table = table[(table.downscaler == "bicubic") & (table["sample"] == 0) & table.image.isin(images)]
    return table.drop(columns="upscaler")


def raised(rows: pd.DataFrame, levels: Sequence[str]) -> dict:
    """Does each damage raise the score?

    Args:
        rows: of `damaged`, of one D.
        levels: names of the damage.
    """
    found = gaps(rows, [(each, NONE) for each in levels], "damage")
    facts = {"count": len(found), "but": findings.exceptions(found)}
    return {"verdict": [each.verdict for each in found.values()]} | facts


def stronger_loses_more(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> dict:
    """Does the stronger of two levels lose more, in every pair?

    Args:
        rows: of `damaged`, of one D.
        pairs: of `harder`.
    """
    return _told(gaps(rows, pairs, "damage"))


def loses_less(proxy: pd.DataFrame, own: pd.DataFrame) -> dict:
    """Does each downscaler lose less where it stands in the loss itself than with the proxy there?

    Args:
        proxy, own: first draws of one D.
    """
    there, columns = list(own.downscaler.unique()), {}
    for f in there:
        one, two = (part[part.downscaler == f].set_index("image").value for part in (proxy, own))
        columns[f] = one - two
    return {"there": ", ".join(there)} | _told(findings.decided(pd.DataFrame(columns)))


def order_kept(a: pd.DataFrame, b: pd.DataFrame) -> dict:
    """Do two sets of rows of one D have the same order of the downscalers that both have?"""
    found = evidence.compare(a, b)
    return {"verdict": found["verdict"], "tau": tau_of(found), "swapped": found["swapped"]}


def half_widths(units: Mapping[str, pd.DataFrame], levels: Sequence[str], n: int) -> dict[str, dict[str, Quantity]]:
    """How exactly n photographs would know the scores without damage and with the paper's: upscaler -> damage -> share.

    Args:
        units: upscaler -> `per_damage`; one with fewer than three photographs is left out.
        levels: names of the damage.
        n: photographs.
    """
    wanted = [NONE, *(each for each in levels if "DG" in each)]
    return {
        name: {each: half_width(table[each], n) for each in wanted} for name, table in units.items() if len(table) > 2
    }


def known_well_enough(half: Mapping[str, Quantity], least: float) -> dict:
    """Is each score known to this share of itself?

    Args:
        half: of `half_widths`, of one upscaler.
        least: the share.
    """
    said = ", ".join(f"{what} {q:.1%}" for what, q in half.items())
    return {"verdict": [findings.verdict(q, below=least) for q in half.values()], "said": said}


def _told(found: Mapping[str, Decided]) -> dict:
    """Several differences, all said to be above 0: their verdicts and their numbers."""
    said = ", ".join(f"{name} {each.quantity}" for name, each in found.items())
    return {"verdict": [each.verdict for each in found.values()], "said": said}
