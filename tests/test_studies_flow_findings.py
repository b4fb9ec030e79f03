"""What the notebook on the flow states, on rows made by hand: signs, best heats, gaps, strains."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.stats import findings
from helpers.studies import flow_findings as ff

N = 12
NOISE = np.random.default_rng(0).normal(0, 0.01, N)


def rows(means, **fixed):
    """Rows of one draw per photograph: mean by (heat, downscaler, upscaler), with noise that differs by condition."""
    lines = []
    for k, ((heat, downscaler, upscaler), mean) in enumerate(means.items()):
        for image, noise in enumerate(np.roll(NOISE, k)):
            lines.append(
                {"image": f"i{image:02d}", "sample": 0, "distortion": "lpips", "value": mean + noise, "seed": 0}
                | {"dataset": "x", "heat": heat, "downscaler": downscaler, "upscaler": upscaler, "group": ""} | fixed
            )  # fmt: skip
    return pd.DataFrame(lines)


def test_a_sign_is_known_only_where_the_photographs_settle_it():
    means = {(heat, f, "u"): value for heat, pair in {0.0: (1, 2), 0.5: (1.5, 1.5), 1.0: (2, 1)}.items()
             for f, value in zip(("f", "g"), pair, strict=True)}  # fmt: skip
    table = ff.pair_along(rows(means), "f", "g")
    assert table.heat.tolist() == [0, 0.5, 1] and table.n.eq(N).all()
    assert table.sign[0] == -1 and np.isnan(table.sign[1]) and table.sign[2] == 1
    assert table.value.tolist() == pytest.approx([0.5, 1, 2], abs=0.02) and (table.low < table.value).all()


@pytest.mark.parametrize(
    "g, expected",
    [((3, 1, 2), findings.SUPPORTED), ((1, 2, 3), findings.CONTRADICTED), ((1, 1, 3), findings.NOT_SHOWN)],
)
def test_best_heats_and_whether_one_serves_all(g, expected):
    curves = {"f": (1, 2, 3), "g": g}
    means = {(heat, name, "u"): curves[name][k] for name in curves for k, heat in enumerate((0.0, 0.5, 1.0))}
    best = ff.best_heats(rows(means))
    assert best.best["f"] == 0 and best.open["f"] == (0.0,) and ff.one_heat_for_all(best) == expected
    assert best.open["g"] == {3: (0.5,), 1: (0.0,)}[g[0]] if g[1] != 1 or g[0] == 3 else (0.0, 0.5)


def test_what_a_second_flow_leaves_of_a_gap_is_a_ratio_of_means():
    means = {(1.0, f, u): value for (u, f), value in
             {("a", "f"): 3, ("a", "bicubic"): 1, ("b", "f"): 2.5, ("b", "bicubic"): 1.5}.items()}  # fmt: skip
    kept = ff.gap_kept(rows(means), "f", ["a", "b"])
    assert kept.value == pytest.approx(0.5, abs=0.02) and kept.low < kept.value < kept.high < 1 and kept.n == N
    only = rows(means).query("upscaler == 'a'")
    values = only.pivot_table(index="image", columns="downscaler", values="value")
    gap = ff.difference(only, "f", "bicubic")
    assert gap == pytest.approx(findings.mean(values.f - values.bicubic))


def test_the_gap_of_a_score_is_that_of_bias_and_spread_together():
    names, images = ["f", "g"], [f"i{k}" for k in range(5)]
    values = np.random.default_rng(1).random((5, 2, 2))
    parts = {"bias": values[..., 0], "spread": values[..., 1], "score": values.sum(-1)}
    table = pd.concat({name: pd.DataFrame(x, images, names) for name, x in parts.items()}, axis=1)
    gap = ff.split_gap(table, pd.DataFrame({"image": images, "group": ""}), "f", "g")
    assert gap["score"].value == pytest.approx(gap["bias"].value + gap["spread"].value)
    assert gap["bias"].value == pytest.approx(1000 * (values[:, 0, 0] - values[:, 1, 0]).mean())


def floor_rows():
    values = {"mse": 0.02, "lr_mse": 0.01, "consistency_mse": 0.001}
    parts = [rows({(1.0, "f", "u"): 0}).assign(distortion=d, value=v * (1 + NOISE)) for d, v in values.items()]
    return pd.concat(parts, ignore_index=True)


def test_draws_ten_times_nearer_to_their_lr_image_are_10_dB_nearer():
    near = ff.beyond_bicubic(floor_rows())["f"]
    assert near.value == pytest.approx(10, abs=1e-6) and near.n == N


def test_a_column_of_a_table_as_quantities():
    table = pd.DataFrame({"x": [0.5], "x_low": 0.4, "x_high": 0.6, "n": 7}, index=["f"])
    assert ff.quantities(table, "x") == {"f": findings.Quantity(0.5, 0.4, 0.6, 7)}


def extremes(sizes):
    lines = [{"photograph": f"p{k}", "condition": c, "heat": 1.0, "largest": x, "outside": 0.5, "finite": True}
             for c, values in sizes.items() for k, x in enumerate(values)]  # fmt: skip
    return pd.DataFrame(lines)


def test_strain_is_a_geometric_mean_and_compared_photograph_by_photograph():
    table = extremes({"bicubic": [1, 2, 4], "noise": [10, 20, 41]})
    lines = ff.strain(table, ["condition", "heat"])
    assert lines.value.tolist() == pytest.approx([2, 8200 ** (1 / 3)]) and lines.outside.eq(0.5).all()
    times = ff.times_larger(table, "noise", "bicubic")
    assert times.value == pytest.approx((10 * 10 * 10.25) ** (1 / 3)) and times.n == 3 and times.high < 11
    assert ff.geometric(pd.Series([1.0, 4.0])).value == pytest.approx(2)


def test_sets_that_share_no_photograph_are_compared_by_welch():
    a, b = pd.Series([2.0, 4.0, 8.0, 3.0]), pd.Series([1.0, 2.0, 1.5])
    found = ff.unpaired(a, b)
    low, high = stats.ttest_ind(np.log(a), np.log(b), equal_var=False).confidence_interval()
    assert found[1:] == (pytest.approx(np.exp(low)), pytest.approx(np.exp(high)), 3)
    assert found.value == pytest.approx(np.exp(np.log(a).mean() - np.log(b).mean()))
    assert np.isnan(ff.unpaired(a, b[:1]).low)


def test_scores_and_diversity_along_the_heat():
    means = {(heat, f, "u"): heat + 1 for heat, f in itertools.product((0.0, 1.0), ("f", "g"))}
    table = ff.along_heat(rows(means))
    assert list(table.index) == [(0, "f"), (0, "g"), (1, "f"), (1, "g")] and list(table) == ["value", "low", "high"]
    assert table.value.tolist() == pytest.approx([1, 1, 2, 2], abs=0.02)
    one = rows({(1.0, "f", "u"): 0.0})
    values = {"mse": 0.03, "mse_of_mean": 0.02}
    two = pd.concat([one.assign(sample=q, distortion=d, value=v) for q in (0, 1) for d, v in values.items()])
    found = ff.diversity(pd.concat([two, two[two["sample"] == 0].assign(heat=0.5)]))
    assert list(found.index) == [(1.0, "f")] and found.value.iloc[0] == pytest.approx(0.02**0.5)


NAMES = {"lpips": "LPIPS", "mse": "MSE"}


def test_the_coarse_order_is_decided_by_the_first_d_at_one_heat_and_the_rest_is_told():
    means = {(0.0, "bicubic", "u"): 2, (0.0, "l0", "u"): 1, (1.0, "bicubic", "u"): 1, (1.0, "l0", "u"): 2}
    parts = {"lpips": rows(means), "mse": rows(means).assign(distortion="mse", value=lambda t: 3 - t.value)}
    facts = ff.coarse_order(parts, ["l0"], ["bicubic"], 1.0, NAMES)
    assert (facts["verdict"], facts["others"]) == (findings.SUPPORTED, "contradicted at 0")
    assert (facts["beside"], facts["sharp"], facts["plain"]) == ("MSE contradicted", "l0", "bicubic")
    one = {"lpips": parts["lpips"].query("heat == 1")}
    assert ff.coarse_order(one, ["l0"], ["bicubic"], 1.0, NAMES)["others"] == "none was run"


def test_what_decides_between_two_downscalers():
    less, more, either = (findings.Quantity(1, *ends, N) for ends in ((0.8, 0.9), (1.1, 1.2), (0.9, 1.1)))
    assert ff.d_decides([less, more, either]) == findings.SUPPORTED
    assert ff.d_decides([less, either]) == findings.NOT_SHOWN and ff.d_decides([less, less]) == findings.CONTRADICTED
    table = pd.DataFrame({"heat": [0.0, 0.5, 1.0], "sign": [1, np.nan, -1]})
    assert ff.heat_decides(table) == {"verdict": findings.SUPPORTED, "less": "1", "more": "0"}
    assert ff.heat_decides(table[:2]) == {"verdict": findings.NOT_SHOWN, "less": "no heat", "more": "0"}
    assert ff.heat_decides(table[:1])["verdict"] == findings.CONTRADICTED


def test_each_downscaler_is_taken_at_its_own_best_heat():
    curves = {"f": (1, 2), "bicubic": (2, 1)}
    table = rows({(heat, name, "u"): curves[name][k] for name in curves for k, heat in enumerate((0.0, 1.0))})
    best = ff.best_heats(table)
    assert ff.listed(best) == "f 0 (0); bicubic 1 (1)"
    own = ff.at_best_heat(table, best.best, 1.0)
    assert set(own.heat) == {1.0} and len(own) == 2 * N
    assert own.groupby("downscaler").value.mean().to_dict() == pytest.approx({"f": 1, "bicubic": 1}, abs=0.01)


def test_gaps_that_shrink_by_the_first_d_are_told_for_the_others():
    means = {(1.0, f, u): value for (u, f), value in
             {("a", "f"): 3, ("a", "bicubic"): 1, ("b", "f"): 2.5, ("b", "bicubic"): 1.5}.items()}  # fmt: skip
    wider = {key: 2 * value if key[1] == "f" and key[2] == "b" else value for key, value in means.items()}
    parts = {"lpips": rows(means), "mse": rows(wider)}
    facts = ff.gaps_shrink(parts, ["f"], ["a", "b"], NAMES)
    assert facts["verdict"] == [findings.SUPPORTED] and facts["kept"].startswith("f 50% [")
    assert facts["beside"].startswith("MSE: f 175% [")
    assert ff.gaps_shrink(dict(list(parts.items())[::-1]), ["f"], ["a", "b"], NAMES)["verdict"] == ["contradicted"]


def test_a_strain_counts_at_heat_0():
    lines = [
        {"condition": condition, "heat": heat, "largest": largest * (1 + 0.01 * k * largest), "photograph": f"p{k}"}
        for heat, worse in ((0.0, 3.0), (1.0, 9.0)) for condition, largest in (("bicubic", 1.0), ("noise", worse))
        for k in range(4)
    ]  # fmt: skip
    facts = ff.strained_by(pd.DataFrame(lines), "noise", 1.0)
    assert facts["verdict"] == findings.SUPPORTED and facts["n"] == 4
    assert (facts["still"].value, facts["hot"].value) == pytest.approx((3, 9), rel=0.15)
