"""What blindness and chance do to gaps, on rows whose answer is known."""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers.stats import findings
from helpers.studies import evidence, twins

LOSSES = {
    "bilinear": 0.9,
    "bicubic": 1.0,
    "dpid": 1.2,
    "l0": 1.4,
    "perceptual": 1.6,
    "nearest": 2.0,
}  # the paper's order
N = 12


def rows(upscaler, losses=LOSSES, distortion="lpips", heat=0.0, draws=1, noise=0.01, damage="", level=None, seed=0):
    rng = np.random.default_rng(seed)
    photograph = 1 + 0.2 * rng.standard_normal(N)
    return pd.DataFrame([
        {"dataset": "p", "image": f"p{k}", "group": "", "downscaler": f, "scale": 4, "degradation": damage,
         "level": level, "where": "after" if damage else "", "upscaler": upscaler, "heat": heat, "seed": 0, "sample": q,
         "distortion": distortion, "value": value * photograph[k] + noise * rng.standard_normal(), "weights": "w",
         "metric": distortion, "clipped": 0.0}
        for f, value in losses.items() for k in range(N) for q in range(draws)
    ])  # fmt: skip


def squeezed(share):
    return {f: 1 + share * (value - 1) for f, value in LOSSES.items()}


def test_upscalers_are_kept_apart_twins_first_and_stand_in_their_square():
    both = pd.concat([rows("embedded_resshift", heat=1.0), rows("embedded_l1"), rows("bicubic")])
    found = twins.by_upscaler(both, rows("embedded_flow", heat=1.0))
    assert list(found) == ["embedded_l1", "embedded_resshift", "bicubic, heat 0", "embedded_flow, heat 1"]
    table = twins.square({name: name for name in twins.SQUARE})
    assert table.to_numpy().tolist() == [list(twins.SQUARE[:2]), list(twins.SQUARE[2:])]


def test_taus_are_to_the_papers_order_and_to_each_other():
    parts = {"same": rows("a"), "turned": rows("b", {f: 3 - value for f, value in LOSSES.items()})}
    table = twins.taus(parts)
    assert table.loc["the paper", "same"].value == 1 and table.loc["the paper", "turned"].value == -1
    assert table.loc["same", "turned"].value == table.loc["turned", "same"].value == -1
    assert twins.paper(parts["same"])[1]["verdict"] == findings.SUPPORTED
    none = twins.paper(parts["same"][parts["same"].downscaler == "l0"])
    assert none[1]["verdict"] == findings.NOT_SHOWN and np.isnan(none[0].value)
    assert twins.places(parts["same"]) == "bilinear 1, bicubic 2, dpid 3, l0 4, perceptual 5, nearest 6"


def test_gaps_that_are_halved_shrink_and_those_that_are_not_there_are_not_asked():
    table = twins.gaps(rows("a"), rows("b", squeezed(0.5)))
    assert table.kept["nearest"].value == pytest.approx(0.5, abs=0.03) and not table.known["bilinear"]
    assert table.relative_before["nearest"].value == pytest.approx(1.0, abs=0.05)
    assert table.change["nearest"].value == pytest.approx(-0.5, abs=0.05)
    for column in ("kept", "change"):
        found = twins.shrinks(table, "it", column=column)
        assert found.verdict == findings.SUPPORTED and "4 of 4 for certain, and turns round none" in found.statement
        assert "bilinear" not in found.statement
    wider = twins.gaps(rows("a", squeezed(0.5)), rows("b"))
    assert twins.shrinks(wider, "it").verdict == findings.CONTRADICTED
    nothing = twins.gaps(rows("a", dict.fromkeys(LOSSES, 1.0)), rows("b"))
    assert twins.shrinks(nothing, "it").verdict == findings.NOT_SHOWN


def test_a_worse_upscaler_of_the_same_relative_gaps_shrinks_nothing_relatively():
    table = twins.gaps(rows("a"), rows("b", {f: 2 * value for f, value in LOSSES.items()}))
    assert table.kept["nearest"].value == pytest.approx(2, abs=0.05)
    assert twins.shrinks(table, "it", column="change").verdict == findings.NOT_SHOWN


def test_a_gap_that_turns_round_and_grows_does_not_shrink():
    turned = {f: 1 + factor * (value - LOSSES["bicubic"]) for factor, (f, value) in
              zip(itertools.cycle((-3.0, 0.2)), LOSSES.items())}  # fmt: skip
    table = twins.gaps(rows("a"), rows("b", turned))
    for column in ("kept", "change"):
        found = twins.shrinks(table, "it", column=column)
        away = [f for f in table.index[table.known.astype(bool)] if turned[f] < 1]
        assert away and found.verdict == findings.CONTRADICTED and f"turns round {', '.join(away)} (" in found.statement


def test_bias_and_spread_of_each_upscaler_and_the_order_of_the_bias():
    mse, mean = (rows("embedded_resshift", distortion=d, heat=1.0, draws=3) for d in ("mse", "mse_of_mean"))
    drawn = pd.concat([mse, mean.assign(value=mse.value.to_numpy() - 0.2)])
    still = pd.concat([rows("embedded_l1", distortion=d) for d in ("mse", "mse_of_mean")])
    table = twins.split({"embedded_resshift": drawn, "embedded_l1": still, "other": rows("other")})
    assert set(table.upscaler) == {"embedded_resshift", "embedded_l1"}
    by = table.set_index(["upscaler", "downscaler"])
    assert (by.spread["embedded_l1"] == 0).all() and by.spread["embedded_resshift"].between(0.28, 0.32).all()
    assert twins.bias_orders(drawn).value == 1


def test_only_says_that_one_does_and_the_others_do_not():
    yes, no, unknown = findings.SUPPORTED, findings.CONTRADICTED, findings.NOT_SHOWN
    assert twins.only(yes, [no, no]) == yes and twins.only(yes, [no, yes]) == no
    assert twins.only(no, [no, no]) == no and twins.only(yes, [no, unknown]) == unknown


def test_rises_are_ratios_to_the_score_without_damage():
    plain = rows("a", {"bicubic": 1.0})
    damaged = [rows("a", {"bicubic": value}, damage="noise", level=level) for level, value in ((0.1, 1.5), (0.2, 2.0))]
    table = twins.rises(pd.concat([plain, *damaged])).set_index("level")
    assert [table.rise[level].value for level in (0.1, 0.2)] == pytest.approx([1.5, 2.0], abs=0.03)
    assert twins.monotone(pd.concat([plain, *damaged]), "lpips").spearman.tolist() == [1.0]


def test_published_rows_are_read_beside_those_of_the_same_pictures(tmp_path, monkeypatch):
    assert twins.read("") == {} == twins.read(str(tmp_path))
    there = {"_twins": rows("embedded_l1"), "": rows("embedded_flow", heat=1.0), "_upscalers": rows("bicubic")}
    for end in there:
        (tmp_path / f"evidence_photographs_x4{end}.csv.gz").write_bytes(b"")
    some = there["_twins"][there["_twins"].image != "p0"]
    monkeypatch.setattr(twins.results, "read", lambda path: {
        "evidence_photographs_x4_twins.csv.gz": some, "evidence_photographs_x4.csv.gz": there[""],
        "evidence_photographs_x4_upscalers.csv.gz": there["_upscalers"],
    }[path.name if hasattr(path, "name") else path.rpartition("/")[2]])  # fmt: skip
    found = twins.read(str(tmp_path))["photographs x4"]
    assert list(found) == ["embedded_l1", "bicubic, heat 0", "embedded_flow, heat 1"]
    assert all("p0" not in set(part.image) for part in found.values())
    common = twins.common(found, "lpips")
    assert all(part.image.nunique() == N - 1 for part in common.values()) and evidence.tau(*list(common.values())[:2])
