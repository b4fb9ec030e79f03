"""Captions, sentences and LaTeX tables say what the numbers say."""

import numpy as np
import pandas as pd
import pytest

from helpers.stats import budget, tables
from helpers.stats import rankings as st
from tests.test_stats_rankings import HAND, nested


def test_caption_without_failures_and_with_a_lost_image():
    assert "NaN above" not in tables.caption(nested(40, 2, {"a": 0, "b": 1})) and "ranks" not in tables.caption(
        nested(40, 2, {"a": 0, "b": 1})
    )
    text = tables.caption(HAND)
    assert text.startswith("3 images, 2 of them scored everywhere") and "1 times an image without" in text
    with pytest.raises(ValueError, match="finite value"):
        st.ranking_with_failures(HAND.assign(value=np.nan))


# text ----------------------------------------------------------------------------------------------


def test_sentence_carries_difference_interval_p_size_and_n():
    rows = nested(40, 3, {"a": 0.0, "b": 0.02})
    line = st.paired(rows, baseline="b").iloc[0]
    text = tables.sentence(line)
    for part in (
        f"{line.difference:+.4g}",
        f"{line.low:+.4g} to {line.high:+.4g}",
        "BCa",
        "p < 0.001",
        "1 pair,",
    ):
        assert part in text, part
    assert (
        f"d_z = {line.d_z:+.2f}" in text and f"{100 * line.wins:.0f} % of 40 images" in text and "equality" not in text
    )
    close = tables.sentence(st.paired(nested(20, 3, {"a": 0.0, "b": 0.0001}), baseline="a").iloc[0])
    assert "not equality" in close and "indicative" in close
    same = pd.concat([rows, rows[rows.downscaler == "a"].assign(downscaler="same")])
    assert tables.sentence(st.paired(same, baseline="same").iloc[0]) == "a and same: identical (40 images)."


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
    assert lines[2] == r"name\_x & mean & p & n & ok \\"
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


def test_every_table_prints():
    rows = nested(12, 2, {"a": 0.0, "b": 0.01})
    for table in (st.scores(rows), st.paired(rows), st.ranks(rows), budget.variance_split(rows)):
        assert tables.latex(table).count(r"\\") == len(table) + 1
