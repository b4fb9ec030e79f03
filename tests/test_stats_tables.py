"""Captions, sentences and LaTeX tables say what the numbers say."""

import re

import numpy as np
import pandas as pd
import pytest

from helpers.stats import budget, tables
from helpers.stats import rankings as st
from tests.test_stats_rankings import HAND, make_rows, nested


def test_caption_without_failures_and_with_a_lost_image():
    assert "NaN above" not in tables.caption(nested(40, 2, {"a": 0, "b": 1})) and "ranks" not in tables.caption(
        nested(40, 2, {"a": 0, "b": 1})
    )
    text = tables.caption(HAND)
    assert text.startswith("3 photographs, 2 images scored everywhere") and "1 times an image without" in text
    with pytest.raises(ValueError, match="finite value"):
        st.ranking_with_failures(HAND.assign(value=np.nan))


def test_crops_are_counted_beside_photographs():
    rows = nested(12, 2, {"a": 0.0, "b": 0.05})
    crops = rows.assign(group=rows.image.str[:3])  # i00 to i009, i010 and i011
    assert tables.caption(crops).startswith("2 photographs (12 images), 12 images scored everywhere")
    assert "% of 2 photographs (12 images)" in tables.sentence(st.paired(crops).iloc[0])
    one = tables.sentence(st.paired(crops.assign(group="x")).iloc[0])
    assert one.endswith("no test (n<2), 1 photograph (12 images).") and "a - b = -0.0" in one


def test_captions_name_the_pairs_on_which_the_two_tests_decide_otherwise():
    d = np.append(-np.linspace(0.5, 1.5, 95), np.full(5, 19.0))[:, None]  # rare failures: the mean difference is 0
    rows = make_rows({"f": d, "g": np.zeros((100, 1)), "h": np.ones((100, 1)) + np.arange(100)[:, None] / 1000})
    assert tables.caption(rows).endswith(
        " Wilcoxon's test decides otherwise than the t test on 1 of 3 pairs: f - g (p < 0.001)."
    )
    calm = make_rows({"g": np.zeros((100, 1)), "h": np.ones((100, 1)) + np.arange(100)[:, None] / 1000})
    assert "Wilcoxon" not in tables.caption(calm)
    few = make_rows({"f": np.array([[1.0], [1.1], [1.2], [1.1]]), "g": np.zeros((4, 1))})  # least p 2 / 2^4
    said = "p = 0.125, of 4 it cannot be below 0.125"
    assert said in tables.caption(few) and said in tables.sentence(st.paired(few).iloc[0])


# text ----------------------------------------------------------------------------------------------


def test_sentence_carries_difference_interval_p_size_and_n():
    rows = nested(40, 3, {"a": 0.0, "b": 0.02})
    line = st.paired(rows, baseline="b").iloc[0]
    text = tables.sentence(line)
    for part in (
        f"{line.difference:+.4g}",
        f"{line.low:+.4g} to {line.high:+.4g}",
        "95 % interval",
        "p < 0.001",
        "1 pair,",
    ):
        assert part in text, part
    assert (
        f"d_z = {line.d_z:+.2f}" in text
        and f"{100 * line.wins:.0f} % of 40 photographs" in text
        and "equality" not in text
    )
    close = tables.sentence(st.paired(nested(20, 3, {"a": 0.0, "b": 0.0001}), baseline="a").iloc[0])
    assert "not equality" in close
    same = pd.concat([rows, rows[rows.downscaler == "a"].assign(downscaler="same")])
    assert tables.sentence(st.paired(same, baseline="same").iloc[0]) == "a and same: identical, 40 photographs."


def test_sentence_of_an_equivalence_test():
    rows = nested(60, 5, {"a": 0.0, "b": 0.001})
    assert "equivalent within a margin of 0.02." in tables.sentence(st.equivalence(rows, "a", "b", 0.02).iloc[0])
    assert "equivalence is not shown" in tables.sentence(st.equivalence(rows, "a", "b", 0.0005).iloc[0])


def test_latex_escapes_and_formats():
    table = pd.DataFrame(
        {
            "name_x": ["l0_smooth & co", "b"],
            "mean": [-0.12345, np.nan],
            "p": [1e-5, 0.5],
            "n": [24, 3],
            "ok": [True, False],
        }
    )
    lines = tables.latex(table, digits=3).splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrr}"
    assert lines[2] == r"name x & mean D & p & photographs & ok \\"
    assert lines[4] == r"l0\_smooth \& co & $-$0.123 & $<$0.001 & 24 & yes \\"
    assert lines[5] == r"b & -- & 0.500 & 3 & no \\"
    assert lines[6:] == [r"\bottomrule", r"\end{tabular}"]
    whole = tables.latex(table, caption="5 % of 100", label="tab:x").splitlines()
    assert whole[:4] == [r"\begin{table}", r"\centering", r"\caption{5 \% of 100}", r"\label{tab:x}"]
    assert whole[-1] == r"\end{table}"
    short = tables.latex(table, columns={"mean": "$S$"}).splitlines()
    assert short[2] == r"$S$ \\" and short[0] == r"\begin{tabular}{r}"
    assert tables._escape("a\\b~<^") == r"a\textbackslash{}b\textasciitilde{}\textless{}\textasciicircum{}"
    with pytest.raises(ValueError, match="expected columns among"):
        tables.latex(table, columns={"nope": "x"})


def test_a_latex_table_says_what_it_shows_and_compiles_by_the_rules():
    rows = nested(12, 2, {"a_b": 0.0, "[b]": 0.01, "*c": 0.02}).assign(
        metric="lpips-alex v0.1",
        scale=4,
        upscaler="embedded_flow",
        heat=1.0,
        dataset="my_photos",
        seed=3,
        version="0.5.0",
    )
    said = tables.setting(rows)
    for part in (
        "D = lpips-alex v0.1, lower is better",
        "x4",
        "embedded_flow, heat 1.0",
        "my_photos",
        "seed 3",
        "0.5.0",
    ):
        assert part in said
    table = st.scores(rows).merge(st.ranks(rows)[["downscaler", "rank_low", "rank_high", "p_best"]], on="downscaler")
    text = tables.latex(table.assign(note="\N{GREEK SMALL LETTER SIGMA} \N{MINUS SIGN}1"), caption=said)
    assert r"embedded\_flow" in text and r"my\_photos" in text and r"$\sigma$ $-$1" in text and text.isascii()
    assert not re.search(r"(?<!\\)[_%#&](?<! &)", re.sub(r" & ", " ", text))  # nothing special without its backslash
    head, *body = (line for line in text.splitlines() if line.endswith(r"\\"))
    assert "_" not in head and "95 \\% interval, from" in head
    assert len(body) == 3 and {line.count(" & ") for line in [head, *body]} == {head.count(" & ")}
    assert not [line for line in body if line.startswith(("[", "*"))]  # that would be an argument of the line break
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}", r"\end{tabular}", r"\end{table}"):
        assert text.count(rule) == 1
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}") and "|" not in text


def test_every_table_prints():
    rows = nested(12, 2, {"a": 0.0, "b": 0.01})
    for table in (st.scores(rows), st.paired(rows), st.ranks(rows), budget.variance_split(rows)):
        assert tables.latex(table).count(r"\\") == len(table) + 1
