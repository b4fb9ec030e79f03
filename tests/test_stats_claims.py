"""Statements against rows: every verdict on rows made for it."""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers.downscalers import DOWNSCALERS
from helpers.stats import claims, rankings
from helpers.stats.claims import Claim


def make_rows(gaps: dict, n: int = 24, noise: float = 0.002) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    base = 0.3 + 0.05 * rng.standard_normal(n)
    lines = [
        {"image": f"i{i}", "downscaler": name, "sample": q, "value": base[i] + gap + noise * rng.standard_normal()}
        for (name, gap), i, q in itertools.product(gaps.items(), range(n), range(2))
    ]
    return pd.DataFrame(lines).assign(distortion="lpips")


PAPER = {"bilinear": 0.0, "bicubic": 0.001, "lanczos": 0.01, "dpid": 0.05, "l0": 0.06, "perceptual": 0.08}
PAPER["nearest"] = 0.2


def verdict(rows: pd.DataFrame, *pairs, equal: bool = False, **options) -> pd.Series:
    return claims.verdicts(rows, [Claim("it", "here", pairs, equal)], **options).iloc[0]


def test_rows_in_the_order_of_the_paper_support_it_but_for_the_slip_and_the_camera():
    rows = make_rows(PAPER, noise=0.001)
    table = claims.verdicts(rows).set_index("statement")
    assert (table.verdict[table.source == "S 13"] == "contradicted").all()
    assert (table.verdict[table.index.str.contains("camera")] == "no rows").all()
    rest = table[(table.source != "S 13") & ~table.index.str.contains("camera")]
    assert (rest.verdict == "supported").all() and (rest.n == 24).all() and len(rest) == 10
    assert rest.evidence["N.N. is the worst"] == "5 of 5 pairs as stated"


def test_verdicts_agree_with_the_paired_table():
    rows = make_rows({"a": 0.0, "b": 0.05, "c": 0.0})
    assert verdict(rows, ("b", "a")).verdict == "supported"
    assert verdict(rows, ("a", "b")).verdict == "contradicted"
    assert verdict(rows, ("a", "c")).verdict == verdict(rows, ("c", "a")).verdict == "not shown"
    mixed = verdict(rows, ("b", "a"), ("a", "c"), ("c", "b"))  # one pair against it is enough
    assert mixed.verdict == "contradicted" and mixed.evidence.startswith("1 of 3 pairs as stated; a - c = ")
    assert verdict(rows, ("b", "a"), ("a", "c")).verdict == "not shown"
    line = rankings.paired(rows).set_index(["f", "g"]).loc[("a", "b")]
    assert verdict(rows, ("b", "a")).evidence == f"b - a = {-line.difference:+.3g}, p < 0.001" and line.p_holm < 0.001


def test_a_difference_needs_its_interval_too_and_names_wilcoxon_where_it_decides_otherwise():
    odd = make_rows({"a": 0.0, "b": 0.0}, noise=0)
    of_b = (odd.downscaler == "b") * (0.0004 + 0.002 * (odd.image.str[1:].astype(int) % 2 * 2 - 1))
    rows = odd.assign(value=odd.value + of_b)
    line = rankings.paired(rows).iloc[0]
    assert 0.3 < line.p_holm < 0.4 and line.low < 0 < line.high  # at this alpha the p alone would do
    assert verdict(rows, ("b", "a"), alpha=0.5).verdict == "not shown"
    assert "Wilcoxon" not in verdict(make_rows({"a": 0.0, "b": 0.05}), ("b", "a")).evidence
    few = make_rows({"a": 0.0, "b": 0.05}, n=4)  # of 4 Wilcoxon's p cannot be below 0.125
    assert verdict(few, ("b", "a")).verdict == "supported" and "(Wilcoxon = 0.125)" in verdict(few, ("b", "a")).evidence


def test_crops_of_one_photograph_support_nothing_that_the_photographs_do_not():
    rows = make_rows({"a": 0.0, "b": 0.0})
    odd = rows.image.str[1:].astype(int) % 2  # b loses in every second image
    rows = rows.assign(value=rows.value + 0.02 * odd * (rows.downscaler == "b"))
    assert verdict(rows, ("b", "a")).verdict == "supported"
    two = verdict(rows.assign(group=odd.map({0: "x", 1: "y"})), ("b", "a"))
    assert (two.verdict, two.n, two.images) == ("not shown", 2, 24)


def test_higher_is_better_turns_the_order():
    rows = make_rows({"a": 0.0, "b": 0.05}).assign(distortion="psnr")
    assert verdict(rows, ("a", "b")).verdict == "supported"  # a loses more: its PSNR is lower
    assert verdict(rows.assign(distortion="bias"), ("b", "a"), lower_is_better=True).verdict == "supported"


def test_equality_needs_the_equivalence_test():
    near, apart = make_rows({"a": 0.0, "b": 0.0}), make_rows({"a": 0.0, "b": 0.05})
    assert verdict(near, ("a", "b"), equal=True).verdict == "supported"
    assert verdict(apart, ("a", "b"), equal=True).verdict == "contradicted"
    wide = make_rows({"a": 0.0, "b": 0.0}, n=6, noise=0.05)
    unsure = verdict(wide, ("a", "b"), equal=True)
    assert unsure.verdict == "not shown" and "TOST p = " in unsure.evidence  # a large p is no equality
    assert verdict(wide, ("a", "b"), equal=True, margin=1.0).verdict == "supported"
    line = verdict(apart, ("a", "b"))
    assert line.pair == "a - b" and line.low < line.gap < line.high < 0 and line.gap == pytest.approx(-0.05, abs=0.01)
    margin = -line.gap / apart[apart.downscaler == "b"].value.mean()  # they differ, and perhaps by less than that
    assert verdict(apart, ("a", "b"), equal=True, margin=margin).verdict == "not shown"


def test_overview_leaves_out_what_no_table_has():
    tables = {name: claims.verdicts(make_rows(gaps)) for name, gaps in (("few", {"l0": 0, "dpid": 1}), ("all", PAPER))}
    table = claims.overview(tables)
    assert list(table) == ["few", "all"] and len(table) == len(claims.CLAIMS) - 1
    assert set(np.ravel(table.to_numpy())) <= {"supported", "contradicted", "not shown", "no rows"}
    assert (table.few != "no rows").sum() == 1
    assert list(table.index) == [claim.statement for claim in claims.CLAIMS[:-1]]


def test_statements_are_about_downscalers_that_exist():
    named = {name for claim in claims.CLAIMS for pair in claim.pairs for name in pair}
    assert named <= set(DOWNSCALERS) | {"camera"}
    assert len({claim.statement for claim in claims.CLAIMS}) == len(claims.CLAIMS)


def test_scales_can_be_compared_too():
    rows = make_rows({2: 0.0, 4: 0.1, 8: 0.2}).rename(columns={"downscaler": "scale"})
    assert verdict(rows, (4, 2), (8, 4), by="scale").verdict == "supported"


def test_refuses_what_the_tests_refuse():
    with pytest.raises(ValueError, match="margin"):
        verdict(make_rows({"a": 0.0, "b": 0.0}), ("a", "b"), equal=True, margin=0.0)


def test_nearest_is_judged_once_more_without_the_l0_that_is_our_own():
    table = claims.verdicts(make_rows(PAPER | {"l0": 0.4}), claims.EVERY_READING).set_index("statement")
    assert (
        table.verdict["N.N. is the worst"] == "contradicted" and "nearest - l0" in table.evidence["N.N. is the worst"]
    )
    line = table.loc[claims.WITHOUT_L0.statement]
    assert line.verdict == "supported" and line.evidence == "4 of 4 pairs as stated"
