"""State a finding: a number with its interval, and what the interval decides about a statement."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.stats import agreement, inference, rankings

SUPPORTED, CONTRADICTED, NOT_SHOWN = "supported", "contradicted", "not shown"
ALIKE = 0.8  # two orders are much the same where tau is above: of six one swap of neighbours keeps it, of 7 or 8 two do


class Quantity(NamedTuple):
    """A number with the ends of its 95 % interval over n photographs.

    In a text, "{gap}" writes it as "0.021 [0.017, 0.026]", two digits of the half width kept; a format such as
    "{gap:+.1f}" or "{gap:.0%}" is that of each of the three numbers.
    """

    value: float
    low: float
    high: float
    n: int

    def __format__(self, form: str) -> str:
        if not form:
            half = (self.high - self.low) / 2
            least = half if half > 0 else abs(self.value)  # NaN where there is no interval
            digits = 1 - math.floor(math.log10(least)) if math.isfinite(least) and least > 0 else 3
            form = f".{min(max(digits, 0), 6)}f"
        ends = "no interval" if math.isnan(self.low) else f"{self.low:{form}}, {self.high:{form}}"
        return f"{self.value:{form}} [{ends}]"


class Finding(NamedTuple):
    """A sentence that rows decided, in the order of the arguments of `notebook.finding`."""

    statement: str
    verdict: str
    source: str = ""  # where the paper states it


class Decided(NamedTuple):
    """A number and what it decides about the statement that it is above 0."""

    quantity: Quantity
    verdict: str


def mean(values: pd.Series) -> Quantity:
    """The mean of one value per photograph, with Student's t interval; a ratio of means is not a mean of ratios.

    Raises:
        ValueError: a value is not finite, or there is none.
    """
    if not len(values):
        raise ValueError("expected one value per photograph, got none")
    return Quantity(float(values.mean()), *inference.interval(values)[:2], len(values))


def mean_ratio(above: pd.Series, below: pd.Series) -> Quantity:
    """The mean of one series over that of another on the same photographs, with its interval (`inference.jackknife`).

    Raises:
        ValueError: the two have other photographs, or none.
    """
    if not len(above) or not above.index.equals(below.index):
        raise ValueError(f"expected the same photographs above and below, got {list(above.index)}, {list(below.index)}")
    parts = {"above": above.to_numpy()[:, None], "below": below.to_numpy()[:, None]}
    low, high = inference.jackknife(lambda means: means["above"] / means["below"], parts)
    return Quantity(float(above.mean() / below.mean()), float(low[0]), float(high[0]), len(above))


def decided(differences: pd.DataFrame) -> dict[str, Decided]:
    """Decide for several differences at once which are above 0: t tests over photographs, Holm over all of them.

    Args:
        differences: one line per photograph, one column per statement.

    Returns:
        Name of the column -> its mean with its own 95 % interval, and the verdict on "above 0": where Holm leaves the
        sign open it is `NOT_SHOWN`, whatever the single interval says; differences that are 0 on each of many
        photographs contradict it (`inference.known_signs`).

    Raises:
        ValueError: as `mean`.
    """
    found = {}
    for name, sign in zip(differences, inference.known_signs(differences.to_numpy())[0], strict=True):
        quantity = mean(differences[name])
        quantity = quantity._replace(low=0.0, high=0.0) if sign == 0 else quantity
        verdict = NOT_SHOWN if np.isnan(sign) else SUPPORTED if sign > 0 else CONTRADICTED
        found[name] = Decided(quantity, verdict)
    return found


def one_of(verdicts: Sequence[str]) -> str:
    """The verdict of a statement that one of several things holds: supported by one, contradicted by all.

    Raises:
        ValueError: as `together`.
    """
    turned = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED}
    both = together([turned.get(each, each) for each in verdicts])
    return turned.get(both, both)


def exceptions(parts: Mapping[str, Decided], *, most: int = 6) -> str:
    """Name the parts of a statement that are not supported, with their numbers, to stand behind it.

    Returns:
        "", or "; not so: noise -0.02 [-0.03, -0.01]; open: blur 0.01 [-0.01, 0.03] and 2 more".
    """
    said = []
    for word, kind in (("not so", CONTRADICTED), ("open", NOT_SHOWN)):
        named = [f"{name} {each.quantity}" for name, each in parts.items() if each.verdict == kind]
        more = f" and {len(named) - most} more" * (len(named) > most)
        said += [f"; {word}: {', '.join(named[:most])}{more}"] if named else []
    return "".join(said)


def gap(rows: pd.DataFrame, worse: str, better: str, by: str | Sequence[str] = "downscaler") -> Quantity:
    """How much more `worse` loses than `better`, on the photographs that both have; above 0 where it does.

    Args:
        rows: one row per draw, of one D.
        worse, better: values of `by`.

    Raises:
        ValueError: as `rankings.paired`.
    """
    line = rankings.paired(rows, better, by).set_index("f").loc[worse]
    ends = (line.low, line.high) if line.lower_is_better else (-line.high, -line.low)
    return Quantity(line.difference if line.lower_is_better else -line.difference, *ends, int(line.n))


def ratio(rows: pd.DataFrame, f: str, g: str, by: str | Sequence[str] = "downscaler") -> Quantity:
    """S(f) / S(g), a ratio of means, with a jackknife interval over the photographs that all of `rows` have.

    Unlike a difference it has no unit, so that several D can stand on one axis.

    Args:
        rows: one row per draw, of one D.
        f, g: values of `by`.

    Raises:
        ValueError: as `rankings.per_photograph`; `f` or `g` is not in the rows.
    """
    units = rankings.per_photograph(rows, by)
    if missing := {f, g} - set(units):
        raise ValueError(f"expected two of {list(units)}, got {sorted(missing)}")
    parts = {name: units[[one]].to_numpy() for name, one in (("f", f), ("g", g))}
    low, high = inference.jackknife(lambda means: means["f"] / means["g"], parts)
    return Quantity(float(units[f].mean() / units[g].mean()), float(low[0]), float(high[0]), len(units))


def ratio_change(before: pd.DataFrame, after: pd.DataFrame, f: str, g: str) -> Quantity:
    """S(f) / S(g) by one set of rows minus that by another: another scale, or another content.

    Of the same photographs it is one jackknife over both sets; of others the two intervals are combined as those of
    independent estimates (method of variance estimates recovery; Zou and Donner, Statistics in Medicine 27, 2008).

    Args:
        before, after: one row per draw, of one D each.
        f, g: downscalers.

    Returns:
        The difference with its interval; n is that of the smaller set.

    Raises:
        ValueError: as `ratio`.
    """
    one, two = ratio(before, f, g), ratio(after, f, g)
    units = {"before": rankings.per_photograph(before), "after": rankings.per_photograph(after)}
    sets = [set(rows.dataset) for rows in (before, after)]
    if sets[0] == sets[1] and units["before"].index.equals(units["after"].index):
        parts = {(when, name): table[[name]].to_numpy() for when, table in units.items() for name in (f, g)}
        low, high = inference.jackknife(
            lambda m: m["after", f] / m["after", g] - m["before", f] / m["before", g], parts
        )
        return Quantity(two.value - one.value, float(low[0]), float(high[0]), one.n)
    below = math.hypot(two.value - two.low, one.high - one.value)
    above = math.hypot(two.high - two.value, one.value - one.low)
    gap = two.value - one.value
    return Quantity(gap, gap - below, gap + above, min(one.n, two.n))


def tau(a: pd.DataFrame, b: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> Quantity:
    """Kendall's tau-b between the rankings of two sets of rows; n is that of the smaller one.

    Raises:
        ValueError: as `agreement.kendall`.
    """
    found = agreement.kendall(a, b, by)
    return Quantity(found.tau, found.low, found.high, min(found.n_a, found.n_b))


def pair_by_pair(found: agreement.Agreement, *, fixed: bool = False) -> pd.Series:
    """Decide for each pair of two rankings that the second orders it as the first does.

    It is the rule for "the downscalers have the paper's order": `together` of all pairs. Where the t tests of either
    ranking, after Holm, leave the sign of a pair open, it is `NOT_SHOWN`.

    Args:
        found: of `agreement.kendall`.
        fixed: the first ranking is stated, not measured: it leaves nothing open.

    Returns:
        A verdict for each line of `found.pairs`.
    """
    known = found.pairs.p_holm_b < agreement.ALPHA
    known &= fixed | (found.pairs.p_holm_a < agreement.ALPHA)
    decided = np.where(~known, NOT_SHOWN, np.where(found.pairs.swaps, CONTRADICTED, SUPPORTED))
    return pd.Series(decided, found.pairs.index)


def verdict(quantity: Quantity, *, above: float | None = None, below: float | None = None) -> str:
    """Decide from the interval whether a quantity lies above or below a number, or between two.

    Args:
        above, below: ends of where it is stated to lie; at least one.

    Returns:
        `SUPPORTED` where the whole interval lies there, `CONTRADICTED` where all of it lies elsewhere, on one side;
        `NOT_SHOWN` for all else, also where there is no interval.

    Raises:
        ValueError: neither `above` nor `below`, or no number lies between them.
    """
    least, most = -math.inf if above is None else above, math.inf if below is None else below
    if (above is None and below is None) or not least < most:
        raise ValueError(f"expected above, below or both, above < below; got above={above}, below={below}")
    if quantity.low > least and quantity.high < most:
        return SUPPORTED
    return CONTRADICTED if quantity.high <= least or quantity.low >= most else NOT_SHOWN


def together(verdicts: Sequence[str]) -> str:
    """The verdict of a statement that says several things: contradicted by one of them, supported by all.

    Raises:
        ValueError: no verdict, or a word that is none.
    """
    if not verdicts or (unknown := set(verdicts) - {SUPPORTED, CONTRADICTED, NOT_SHOWN}):
        raise ValueError(f"expected verdicts, got {sorted(unknown) if verdicts else 'none'}")
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else NOT_SHOWN
