"""What each plot shows: names in order, values where they belong, intervals, nothing hidden."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers import figures
from helpers.studies import flow_plots as ff

NAMES = ["bicubic", "nearest", "mine"]
figures.use_style()


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def test_parts_add_up_to_the_score_and_the_first_name_is_on_top(ax):
    table = pd.DataFrame({"downscaler": NAMES, "bias": [1, 2, 3.0], "spread": [0.5, 1, 1.5]})
    table = table.assign(score=table.bias + table.spread, score_low=1.0, score_high=5.0)
    ff.parts(ax, table, {"bias": "red", "spread": "blue"}, times=10)
    ends = [bar.get_x() + bar.get_width() for bar in ax.containers[1]]
    assert ends == pytest.approx([15, 30, 45])
    assert [label.get_text() for label in ax.get_yticklabels()] == NAMES
    assert ax.get_ylim() == (2.5, -0.5)


def test_intervals_stand_at_their_values(ax):
    ff.intervals(ax, pd.DataFrame({"f": NAMES, "rho": [1, 2, 3], "rho_low": 0.5, "rho_high": 4}), "rho")
    assert [line.get_xdata()[0] for line in ax.lines[1::2]] == [1, 2, 3]
    assert all(list(line.get_xdata()) == [0.5, 4] for line in ax.lines[::2])


def test_along_sorts_the_heats_and_draws_only_the_bands_asked_for(ax):
    index = pd.MultiIndex.from_product([[1.0, 0.0], NAMES])
    table = pd.DataFrame({"a": np.arange(6.0), "b": -1.0, "c": 9.0}, index=index)
    ff.along(ax, table, NAMES, bands=["nearest"])
    assert list(ax.lines[0].get_xdata()) == [0, 1] and list(ax.lines[0].get_ydata()) == [3, 0]
    assert len(ax.collections) == 1 and len(ax.lines) == 3


def test_rank_paths_have_a_bar_for_each_rank_and_one_is_on_top(ax):
    ranks = pd.DataFrame({"f": NAMES, "rank": [1.0, 2, 3], "rank_low": [1, 1, 3], "rank_high": [2, 2, 3]})
    ff.rank_paths(ax, {0.0: ranks, 1.0: ranks[::-1]}, NAMES)
    assert list(ax.lines[1].get_ydata()) == [2, 2] and ax.get_ylim()[0] > ax.get_ylim()[1]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1"]
    with pytest.raises(KeyError):
        ff.rank_paths(ax, {0.0: ranks}, ["absent"])


def test_a_pair_along_the_heat_is_hollow_where_the_sign_is_open(ax):
    table = pd.DataFrame({"heat": [0.0, 1.0], "value": [0.9, 1.1], "low": 0.8, "high": 1.2, "sign": [-1, np.nan]})
    ff.pair_paths(ax, {"lpips": table, "1-ms_ssim": table})
    first, hollow = ax.lines[:2]
    assert list(first.get_ydata()) == [0.9, 1.1] and list(hollow.get_ydata()) == [1.1]
    assert hollow.get_markerfacecolor() == "white" and first.get_label() == "LPIPS"


def test_a_trace_leaves_latents_of_heat_0_out_and_marks_the_levels(ax):
    table = pd.DataFrame({"step": [0, 1, 2], "level": [2, 2, 1], "largest": [0.0, 1, 2]})
    both = pd.concat([table.assign(heat=0.0), table.assign(heat=1.0, largest=3.0)])
    ff.trace(ax, {"bicubic": both}, {"bicubic": "C0"}, {0.0: "--", 1.0: "-"})
    assert np.isnan(ax.lines[0].get_ydata()[0]) and list(ax.lines[1].get_ydata()) == [3, 3, 3]
    assert [line.get_label() for line in ax.lines] == ["bicubic, heat 0", "bicubic, heat 1"]
    assert ax.collections[0].get_segments()[0][0][0] == 1.5


def test_floor_lines_have_shares_in_percent_and_a_rule_above_the_damage():
    fig, axes = plt.subplots(1, 2, sharey=True)
    columns = {"floor_share": 0.1, "p_lr": 30.0, "consistency": 40.0}
    table = pd.DataFrame(
        {name + end: x for name, x in columns.items() for end in ("", "_low", "_high")}, index=range(3)
    )
    ff.floor_lines(axes, table.assign(condition=NAMES), first_damage=2)
    assert list(axes[0].lines[0].get_xdata()) == [10, 10, 10] and axes[0].lines[1].get_ydata()[0] == 1.5
    assert [line.get_xdata()[0] for line in axes[1].lines[:2]] == [30, 40]
    plt.close(fig)


def test_the_first_of_a_legend_is_filled():
    assert [mark.get_markerfacecolor() for mark in ff.filled_and_hollow(["a", "b"])] == ["0.3", "white"]


def test_strains_have_a_mark_for_each_flow_and_each_content():
    lines = [
        {"flow": flow, "condition": condition, "heat": heat, "largest": 1.0 + k / 9, "photograph": f"p{k}",
         "content": content, "outside": 0.0, "finite": True}
        for flow, content in (("a", "natural"), ("b", "faces")) for condition in ("bicubic", "bicubic noise 0.2")
        for heat in (0.0, 1.0) for k in range(3)
    ]  # fmt: skip
    extremes = pd.DataFrame(lines)
    steps = pd.DataFrame({"step": [0, 1, 2], "largest": [1.0, 2.0, 3.0], "level": [1, 1, 0]})
    trace = pd.concat([steps.assign(heat=heat) for heat in (0.0, 1.0)])
    fig = ff.blow_up(extremes, {"bicubic": trace, "bicubic, noise 0.2": trace}, 1.0)
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["bicubic", "bicubic noise 0.2"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a", "b"]
    assert "over 3 photographs" in fig.axes[0].get_xlabel() and fig.axes[1].get_yscale() == "log"
    fig = ff.strain_by_content(extremes[extremes.heat == 1], 8)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["natural", "faces"]
    assert "at x8, heat 1" in fig.axes[0].get_xlabel()
    plt.close("all")
