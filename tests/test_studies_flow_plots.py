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


def test_crosses_stand_at_their_values_with_names(ax):
    table = pd.DataFrame({"x": [1, 2, 3], "x_low": 0, "x_high": 4, "y": 5, "y_low": 4, "y_high": 6}, index=NAMES)
    ff.crosses(ax, table, labels=True)
    assert [text.get_text() for text in ax.texts] == NAMES and len(ax.lines) == 9


def test_densities_keep_what_lies_beyond_in_the_end_bins(ax):
    ff.densities(ax, {"bicubic": np.array([-20.0, 0.1, 0.1, 30.0])})
    values = ax.lines[0].get_ydata()
    assert values[0] == values[-1] == pytest.approx(1.0) and values.sum() * 0.25 == pytest.approx(1)
    assert ax.get_yscale() == "log" and "sd" in ax.lines[0].get_label() and ax.lines[1].get_label() == "N(0, 1)"
