"""What is said of upscalers side by side, on rows and tables whose answer is known."""

import numpy as np
import pandas as pd

from helpers.stats import findings
from helpers.stats.findings import Quantity
from helpers.studies import twin_findings, twins
from tests.test_studies_twins import LOSSES, N, rows

TURNED = {f: 3 - value for f, value in LOSSES.items()}


def test_an_upscaler_in_words_is_what_its_record_says():
    said = [twin_findings.in_words(name) for name in twins.SQUARE]
    assert said == ["draws nothing, not blind", "draws nothing, blind", "stochastic, not blind", "stochastic, blind"]


def test_every_ranking_is_held_against_the_paper_by_every_d_that_it_has():
    both = pd.concat([rows("b", TURNED), rows("b", TURNED, distortion="mse")])
    parts = {"p x4": {"a": rows("a"), "b": both}, "one": {"c": rows("c", {"l0": 1.0})}}
    table = twin_findings.to_paper(parts, {"p x4": ["lpips", "mse"], "one": ["lpips"]})
    assert table[["setting", "upscaler", "D"]].to_numpy().tolist() == [
        ["p x4", "a", "lpips"], ["p x4", "b", "lpips"], ["p x4", "b", "mse"], ["one", "c", "lpips"],
    ]  # fmt: skip
    assert table.value[:3].tolist() == [1, -1, -1] and np.isnan(table.value[3])
    assert table.verdict[:2].tolist() == [findings.SUPPORTED, findings.CONTRADICTED]


def test_searches_are_read_where_they_are_each_data_set_for_itself(monkeypatch):
    found = pd.concat([
        rows("search").assign(dataset="faces@1"), rows("search, f_ds", TURNED).assign(dataset="faces@1"),
        rows("search", distortion="1-ssim").assign(dataset="faces@1"),
        rows("search").query("image == 'p0'").assign(dataset="portrait@1"),
    ])  # fmt: skip
    monkeypatch.setattr(twin_findings.results, "read", lambda path: found)
    table = twin_findings.searches([__file__, "nowhere.csv.gz", __file__])
    assert table.index.tolist() == [("faces", "search", "lpips")]
    assert table["tau to the paper"].iloc[0].startswith("1.00 [") and table["against it"].iloc[0] == "none"
    assert table.photographs.tolist() == [N]
    assert not len(twin_findings.searches(["nowhere.csv.gz"]))


def test_intervals_that_do_not_overlap_decide_which_twin_agrees_less():
    floors = pd.DataFrame([
        {"upscaler": f_us, "downscaler": f, "consistency": value, "consistency_low": value - 1,
         "consistency_high": value + 1, "n": N}
        for f_us, values in {"plain": (50, 40, 30), "blind": (40, 41, 35)}.items()
        for f, value in zip("fgh", values, strict=True)
    ])  # fmt: skip
    facts = twin_findings.agrees_less(floors, "plain", "blind")
    assert facts["verdict"] == [findings.SUPPORTED, findings.NOT_SHOWN, findings.CONTRADICTED]
    assert facts["told"].startswith("f 40.0 instead of 50.0, g 41.0") and facts["n"] == N


def test_rises_are_compared_at_the_strongest_level_of_each_damage():
    values = {("blur", 1.0): (1, 9), ("blur", 2.0): (4, 2), ("noise", 0.1): (2, 4)}
    rises = pd.DataFrame([
        {"upscaler": f_us, "degradation": damage, "level": level, "rise": Quantity(value, value - 0.5, value + 0.5, N)}
        for (damage, level), both in values.items() for f_us, value in zip(("plain", "blind"), both, strict=True)
    ])  # fmt: skip
    facts = twin_findings.rises_less(rises, "plain", "blind")
    assert facts["verdict"] == [findings.SUPPORTED, findings.CONTRADICTED]
    assert facts["told"].startswith("blur 2.00 [1.50, 2.50] instead of 4.00 [")


def test_the_summary_has_a_line_for_each_upscaler():
    parts = {"embedded_l1_blind": rows("embedded_l1_blind"), "other, heat 1": rows("other", {"bicubic": 1.0})}
    table = twin_findings.summary(parts)
    assert table.kind.tolist() == ["draws nothing, blind", "differs in more"]
    assert table["pairs told apart"].iloc[0] == "15 of 15" and table["pairs told apart"].isna().iloc[1]
    assert table["the paper's order"].tolist() == [findings.SUPPORTED, findings.NOT_SHOWN]
    assert table["loss of bicubic"].str.contains("[", regex=False).all()
