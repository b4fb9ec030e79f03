"""Test what the paper states about the order of downscalers: supported, contradicted or not shown by the rows.

A statement is a list of ordered pairs, each tested over photographs (`rankings.paired`: t test, Holm over all pairs of
the table), or one pair that is called equal (`rankings.equivalence`: two one-sided tests with a margin). A pair differs
where the adjusted p is below alpha *and* the 95 % interval of the difference excludes 0. Where Wilcoxon's test, after
Holm as well, decides otherwise, its p stands in the evidence.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from helpers.stats import conditions, rankings
from helpers.stats.tables import format_p


class Claim(NamedTuple):
    """One statement: in each of `pairs` the first loses more (a worse score) than the second."""

    statement: str
    source: str  # P: the paper's main text, S: its supplement (arXiv 2403.15139), by section
    pairs: tuple[tuple, ...]
    equal: bool = False  # the pair is said not to differ instead


_SIX = ("nearest", "perceptual", "l0", "dpid", "bicubic", "bilinear")
_ADAPTIVE = ("dpid", "l0", "perceptual")
CLAIMS = (
    Claim("N.N. is the worst", "P 4.5, S 5", tuple(("nearest", other) for other in _SIX[1:])),
    Claim("Perceptual loses more than L0", "P 4.5, S 5", (("perceptual", "l0"),)),
    Claim("L0 loses more than DPID", "P 4.5, S 5", (("l0", "dpid"),)),
    Claim("DPID loses more than bicubic", "P 4.5, S 5", (("dpid", "bicubic"),)),
    Claim("bicubic loses more than bilinear", "P 4.5, S 5", (("bicubic", "bilinear"),)),
    Claim("bicubic and bilinear do not differ", "P 4.3", (("bicubic", "bilinear"),), equal=True),
    Claim("DPID and L0 lose less than Perceptual", "P 4.3", (("perceptual", "dpid"), ("perceptual", "l0"))),
    Claim("DPID, L0, Perceptual: none beats bilinear", "P 4.3", tuple((f, "bilinear") for f in _ADAPTIVE)),
    Claim("Lanczos loses more than bicubic, bilinear", "S 7", (("lanczos", "bicubic"), ("lanczos", "bilinear"))),
    Claim("Lanczos loses less than DPID, L0, Perceptual", "S 7", tuple((f, "lanczos") for f in _ADAPTIVE)),
    Claim(
        "DPID, L0, Perceptual beat bicubic and bilinear",
        "S 13",
        tuple((plain, f) for f in _ADAPTIVE for plain in ("bicubic", "bilinear")),
    ),
    Claim("camera LR images lose less", "P 4.3", tuple((f, "camera") for f in _SIX)),
)
WITHOUT_L0 = Claim("N.N. is the worst, l0 left out", "P 4.5, S 5", tuple(p for p in CLAIMS[0].pairs if "l0" not in p))
EVERY_READING = (CLAIMS[0], WITHOUT_L0, *CLAIMS[1:])  # the solver of the paper's L0 is not public: `l0` is our own


def verdicts(
    rows: pd.DataFrame,
    claims: Sequence[Claim] = CLAIMS,
    by: str | Sequence[str] = "downscaler",
    *,
    margin: float = 0.02,
    alpha: float = 0.05,
    lower_is_better: bool | None = None,
) -> pd.DataFrame:
    """Test each statement on the rows.

    Args:
        rows: one row per draw.
        claims: the statements; their pairs are values of `by`.
        by: columns that are compared.
        margin: margin of an equality, as a share of the mean score of the second of its pair.
        alpha: level of the Holm-adjusted p, and of each one-sided test of an equality.
        lower_is_better: direction of the values; None looks it up by the name of the distortion.

    Returns:
        One line per claim: statement, source, verdict, evidence, pair, gap, low, high (the pair with the smallest gap
        as stated, and that gap with its 95 % interval), n (fewest common photographs of its pairs), images (fewest).
        "supported": every pair differs as stated, or the equality holds within the margin; "contradicted": a pair
        differs the other way round, or by more than the margin where equality is stated; "no rows": a method of the
        statement is not in the rows; "not shown": all else. One pair is enough to contradict a statement of several.

    Raises:
        ValueError: as `rankings.paired` and `rankings.equivalence`; margin not above 0.
    """
    pairs = rankings.paired(rows, by=by, lower_is_better=lower_is_better)
    tested = {frozenset((line.f, line.g)): line for line in pairs.itertuples()}
    lines = []
    for claim in claims:
        found = [tested.get(frozenset(pair)) for pair in claim.pairs]
        if None in found:
            verdict, evidence, n, images, weakest = "no rows", "", 0, 0, ("", math.nan, math.nan, math.nan)
        else:
            judge = _equal if claim.equal else _ordered
            verdict, evidence = judge(claim, found, rows, by, margin, alpha)
            n, images = min(line.n for line in found), min(line.images for line in found)
            weakest = min((_gap(pair, line) for pair, line in zip(claim.pairs, found, strict=True)), key=lambda g: g[1])
        line = {"statement": claim.statement, "source": claim.source, "verdict": verdict, "evidence": evidence}
        line |= dict(zip(("pair", "gap", "low", "high"), weakest, strict=True))
        lines.append(line | {"n": n, "images": images})
    return pd.DataFrame(lines)


def overview(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Put verdicts side by side: statements (index) x tables, without statements for which no table has rows.

    Args:
        tables: results of `verdicts`, by name.
    """
    columns = {name: table.set_index("statement").verdict for name, table in tables.items()}
    side_by_side = pd.DataFrame(columns).reindex(next(iter(columns.values())).index)
    return side_by_side[(side_by_side != "no rows").any(axis=1)]


def _gap(pair: tuple, line) -> tuple[str, float, float, float]:
    """How much more the first of a pair loses than the second, in the units of D, with its interval."""
    worse, better = pair
    ends = (line.low, line.high) if (line.f == worse) == line.lower_is_better else (-line.high, -line.low)
    sign = 1 if (line.f == worse) == line.lower_is_better else -1
    return f"{worse} - {better}", sign * line.difference, *ends


def _ordered(claim: Claim, found: Sequence, rows, by, margin: float, alpha: float) -> tuple[str, str]:
    """`found`: the lines of `rankings.paired` for the pairs of the claim, in either direction."""
    kinds, gaps = [], []
    for (worse, better), line in zip(claim.pairs, found, strict=True):
        gap = line.difference if line.f == worse else -line.difference
        stated = gap > 0 if line.lower_is_better else gap < 0
        kinds.append("not shown" if not _differ(line, alpha) else "supported" if stated else "contradicted")
        other = (line.p_holm < alpha) != (line.wilcoxon_holm < alpha)
        gaps.append(f"{worse} - {better} = {gap:+.3g}, p {format_p(line.p_holm)}")
        gaps[-1] += f" (Wilcoxon {format_p(line.wilcoxon_holm)})" * other
    if len(found) == 1:
        return kinds[0], gaps[0]
    others = [gap for kind, gap in zip(kinds, gaps, strict=True) if kind != "supported"]
    evidence = "; ".join([f"{kinds.count('supported')} of {len(kinds)} pairs as stated", *others])
    worst = "contradicted" if "contradicted" in kinds else "not shown"
    return "supported" if not others else worst, evidence


def _differ(line, alpha: float) -> bool:
    return line.p_holm < alpha and not line.low <= 0 <= line.high


def _equal(claim: Claim, found: Sequence, rows, by, margin: float, alpha: float) -> tuple[str, str]:
    (f, g), (line,) = claim.pairs[0], found
    width = margin * abs(conditions.by_photograph(rankings.per_image(rows, by)["mean"][g], rows).mean())
    test = rankings.equivalence(rows, f, g, width, by, alpha=alpha).iloc[0]
    beyond = line.low > width or line.high < -width
    verdict = "supported" if test.equivalent else "contradicted" if beyond else "not shown"
    evidence = f"{f} - {g} = {test.difference:+.3g}, margin {width:.2g}, TOST p {format_p(test.p)}, difference p "
    return verdict, evidence + format_p(line.p_holm)
