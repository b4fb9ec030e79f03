"""The comparisons of the notebook on ablations: which rows each sentence is of, and what decides it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers.stats import budget, findings
from helpers.studies import ablation_plots, ablations, evidence
from tests.test_studies_evidence import NAMES, rows


def several(n_samples=3, noise=0.01, order=NAMES, distortion="mse", images=8, seed=0, **other) -> pd.DataFrame:
    """A few draws an image, each downscaler a tenth worse than the one before; `noise` is that of a draw."""
    rng = np.random.default_rng(seed)
    parts = []
    for q in range(n_samples):
        part = rows(order, distortion=distortion, images=images, **other).assign(sample=q, seed=0)
        parts.append(part.assign(value=part.value + noise * rng.standard_normal(len(part))))
    return pd.concat(parts, ignore_index=True)


def test_the_reference_is_split_from_the_others_and_another_scale_is_named():
    table = pd.concat([rows(), rows(heat=0.0), rows(upscaler="bicubic", heat=0.0).assign(scale=8)])
    mine, others = ablations.reference_and_others(table, "embedded_flow", 1.0, 4)
    assert set(mine.heat) == {1.0} and len(mine) == len(rows())
    assert list(others) == ["bicubic, heat 0, x8", "embedded_flow, heat 0"]
    with pytest.raises(KeyError):
        ablations.reference_and_others(table, "embedded_flow", 0.5, 4)


def test_the_furthest_comparison_is_told_with_its_swaps():
    by_two = pd.concat([rows(distortion="lpips"), rows(NAMES[::-1], distortion="mse")])
    parts = {"photographs x4": by_two, "photographs x8": by_two}
    drawn = ablations.by_line(evidence.agreements(parts, {}))
    assert list(drawn) == ["D", "scale"] and list(drawn["scale"].line) == 2 * ["x8 for x4, photographs"]
    assert set(drawn["D"].line) == {"photographs x4", "photographs x8"}
    facts = ablations.furthest(drawn["D"], "D", "lpips", 0.8)
    assert facts["verdict"] == 2 * [findings.CONTRADICTED] and (facts["so"], facts["all"]) == (0, 2)
    assert facts["source"] == "P 4.5" and facts["by"] == "" and facts["swaps"] == facts["pairs"] == 21
    facts = ablations.furthest(drawn["scale"], "scale", "lpips", 0.8)
    assert facts["verdict"] == [findings.SUPPORTED] and facts["by"] == " by lpips" and facts["source"] == ""
    assert (facts["what"], facts["swapped"], facts["lowest"].value) == ("comparison", "", 1)
    assert ablations.furthest(drawn["scale"], "scale", "1-ssim", 0.8) is None


def test_the_first_d_decides_about_the_papers_order_and_the_nearest_line_is_on_top():
    swapped = ["bicubic", "bilinear", *NAMES[2:]]
    by_two = pd.concat([rows(swapped, distortion="lpips"), rows(distortion="mse")])
    changes = evidence.agreements({"faces x8": by_two, "faces x4": rows(distortion="lpips")}, {})
    table = ablations.paper_lines(changes["paper"], ["lpips", "mse"])
    assert list(table.line) == ["faces x4, the flow", "faces x8, the flow", "faces x8, the flow"]
    assert list(table["D"]) == ["lpips", "lpips", "mse"]
    facts = ablations.against_paper(table, "faces x8", ["lpips", "mse"])
    assert facts["verdict"] == findings.CONTRADICTED and facts["swapped"] == "bicubic before bilinear"
    assert facts["beside"].startswith("mse 15, tau 1.00 [") and facts["beside"].endswith("against it none")


def test_randomness_is_asked_of_heat_zero_the_search_and_the_bias():
    def line(what, value, low, high):
        return {"setting": "faces x8", "what": what, "value": value, "low": low, "high": high, "n": 8}

    still, search = "embedded_flow, heat 0 against the flow", "PULSE against embedded_flow"
    table = pd.DataFrame([line(still, 0.1, 0.0, 0.3), line("bicubic, heat 0 against the flow", 1, 1, 1)])
    facts = ablations.randomness(table, 0.8)
    assert facts["verdict"] == [findings.SUPPORTED] and facts["tested"] == "heat 0 orders otherwise"
    assert facts["left"] == " (by this D there are no rows of PULSE and the bias)"
    table = pd.DataFrame([line(still, 0.9, 0.85, 1), line(search, 0.9, 0.85, 1), line("bias against score", 0.8, 0, 1)])
    facts = ablations.randomness(table, 0.8)
    assert facts["verdict"] == [findings.CONTRADICTED, findings.SUPPORTED, findings.NOT_SHOWN] and facts["left"] == ""
    assert facts["facts"].startswith(f"faces x8, {still}: 0.90 [0.85, 1.00] (8); ")
    assert ablations.randomness(table.assign(what="other"), 0.8)["verdict"] == []


def test_orders_without_spread_are_compared_by_each_d_and_the_bias_by_the_squared_error():
    flow = pd.concat([several(), several(distortion="mse_of_mean", noise=0), several(distortion="lpips")])
    still = rows(NAMES[::-1], upscaler="bicubic", heat=0.0)
    found = pd.DataFrame(ablations.without_spread("faces x4", flow, {"bicubic, heat 0": still}, ["lpips", "mse"]))
    assert list(zip(found.what, found["D"], strict=True)) == [
        ("bicubic, heat 0 against the flow", "mse"), ("bias against score", "mse")]  # fmt: skip
    assert found.value[0] == -1 and found.n[1] == 8


def test_a_search_is_compared_with_the_flow_on_its_complete_images(monkeypatch):
    search = rows(upscaler="embedded_pulse(steps=1)", dataset="made@2").assign(residual=0.1)
    search = search.drop(search[(search.image == "made@20") & (search.downscaler == "l0")].index)
    table = pd.concat([search, rows(dataset="made@2").assign(residual=np.nan), rows(images=1).assign(residual=0.1)])
    monkeypatch.setattr(ablations.results, "read", lambda path: table)
    found, missing = ablations.searches([__file__, "nowhere.csv.gz"])
    assert missing == ["nowhere.csv.gz"] and list(found) == [("made@2", "mse")]
    part, flow = found["made@2", "mse"]
    assert set(part.image) == set(flow.image) == {f"made@2{k}" for k in range(1, 8)}
    (line,) = ablations.with_searches(found)
    assert (line["setting"], line["what"], line["value"]) == ("made x8", "PULSE against embedded_flow", 1)
    assert ablations.with_searches({("a", "mse"): (part, flow[:0])}) == []


def test_shares_of_draws_grow_with_their_noise_and_one_clear_draw_is_enough():
    calm, rough = several(noise=0.002, seed=1), several(noise=0.02, seed=1)
    splits = {(name, "mse"): budget.samples_or_images(part) for name, part in (("faces x4", calm), ("faces x8", rough))}
    facts = ablations.share_grows(splits["faces x4", "mse"], splits["faces x8", "mse"])
    assert facts["pairs"] == 21 and facts["more"] > 15 and facts["before"] < facts["after"]
    assert ablations.share_grows(*2 * [splits["faces x4", "mse"]])["verdict"] == findings.CONTRADICTED
    shares = ablations.median_shares(splits)
    assert shares.loc["mse", ("faces", "x4")] == pytest.approx(100 * facts["before"])
    told = ablations.one_draw(calm, ["mse"], {"mse": splits["faces x4", "mse"]}, 0.8)
    assert told["verdict"] == findings.SUPPORTED and told["q"] == 2 and told["beside"] == ""
    hardest = ablations.hardest({"faces x8": splits["faces x8", "mse"]})
    ((name, line),) = hardest.items()
    assert name == f"faces x8: {line['name']}" and line.share_samples == told_most(splits["faces x8", "mse"])
    assert line.unit == pytest.approx(rough.value.mean())
    best = ablations.best_draws(rough, ["mse"], 10.0)["mse"]
    assert len(best) == 21 and best.max() > 1
    for fig in (
        ablation_plots.shares_of_draws(splits, ["faces x4", "faces x8"], ["mse"], 3),
        ablation_plots.budgets(hardest, 3),
    ):
        assert fig.axes[0].lines
        plt.close(fig)


def told_most(table: pd.DataFrame) -> float:
    return ablations.differences(table).share_samples.max()


def test_half_of_the_photographs_is_the_limit_and_pairs_are_counted():
    part = several(images=20)
    needed = budget.images_for_ranking(part, n_subsamples=20)
    facts = ablations.fewer_photographs(part, needed)
    assert (
        facts["verdict"] == findings.SUPPORTED
        and f"{needed.n_signs} photographs, fewer than half of the 20," in (facts["who"])
    )
    assert facts["low"] <= facts["high"] and facts["pairs"] == 21
    many = ablations.fewer_photographs(part, needed._replace(n_signs=11))
    assert many["verdict"] == findings.NOT_SHOWN and many["who"] == "fewer than half of the 20 photographs"
    assert ablations.told_apart(part) == {"verdict": findings.SUPPORTED, "apart": 21, "pairs": 21}
    fig = ablation_plots.subsamples({"faces x4": {"mse": needed.table}}, {"faces x4": part})
    assert fig.axes[0].get_title() == "faces x4, 20 photographs"
    plt.close(fig)


def test_changes_have_a_panel_each_and_taus_a_line_where_orders_are_alike():
    parts = {"photographs x4": pd.concat([rows(), rows(distortion="lpips")]), "faces x4": rows(dataset="faces")}
    changes = evidence.agreements(parts, {})
    fig = ablation_plots.changes(ablations.by_line(changes), ["lpips", "mse"], 0.8)
    assert [ax.get_title(loc="left") for ax in fig.axes] == [ablations.TITLES[each] for each in ("D", "content")]
    plt.close(fig)
    table = ablations.paper_lines(changes["paper"], ["mse"])
    fig = ablation_plots.taus(table, ["lpips", "mse"], 0.8, height=(0.1, 0.03), xlabel="tau", drawn=["mse"])
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["MSE"]
    assert 0.8 in [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_linestyle() == "--"]
    plt.close(fig)
