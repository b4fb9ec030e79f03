"""Figures: nothing cut off or overlapping, and what is drawn is what the tables say."""

import itertools
import math

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from helpers import figures
from helpers.figures import rankings as plots
from helpers.stats import detection, rankings
from tests.test_figures_pictures import crops, maps, scored_maps
from tests.test_stats_detection import make_rows as shifted_rows

matplotlib.use("Agg")
import matplotlib.pyplot as plt

pytestmark = pytest.mark.usefixtures("figure_style")

GAPS = {
    "bicubic": 0.0,
    "lanczos": 0.001,
    "dpid": 0.03,
    "l0": 0.07,
    "nearest": 0.15,
    "a/path/to/my_tool.py:down": 0.012,
}


def make_rows(n: int = 36, gaps: dict = GAPS, key: int = 0, **columns) -> pd.DataFrame:
    rng = np.random.default_rng(key)
    base = 0.3 + 0.05 * rng.standard_normal(n)
    lines = [
        {
            "image": f"i{i}",
            "downscaler": name,
            "sample": q,
            "value": base[i] + gap + 0.02 * rng.standard_normal(),
        }
        for (name, gap), i, q in itertools.product(gaps.items(), range(n), range(2))
    ]
    return pd.DataFrame(lines).assign(distortion="lpips", seed=0, **columns)


def degraded() -> pd.DataFrame:
    levels = {"blur": (1, 2, 4), "contrast": (0.25, 0.5, 0.75, 1.5, 2, 2.5), "otsu": (5, 10, 15)}
    return pd.concat(
        make_rows(12, {name: gap + 0.05 * k for name, gap in GAPS.items()}, degradation=name, level=float(level))
        for name, all_levels in levels.items()
        for k, level in enumerate(all_levels)
    )


def ranking(paired_with: str | None, n: int = 36) -> plt.Figure:
    fig, ax = plt.subplots(figsize=figures.size(1, 0.85))
    rows = make_rows(n)
    pairs = {"all": rankings.paired(rows), "one": rankings.paired(rows, "bicubic"), None: None}[paired_with]
    figures.plot_ranking(ax, rankings.scores(rows), pairs)
    return fig


def forest(baseline: str | None) -> plt.Figure:
    fig, ax = plt.subplots(figsize=figures.size(1, 1.2))
    figures.plot_paired(ax, rankings.paired(make_rows(), baseline))
    return fig


def monotonicity() -> plt.Figure:
    fig, axes = plt.subplots(1, 4, figsize=figures.size(2, 0.32), sharey=True)
    figures.plot_monotonicity(axes, degraded())
    return fig


def rank_ranges() -> plt.Figure:
    fig, ax = plt.subplots(figsize=figures.size(1, 0.8))
    figures.plot_ranks(ax, {f"x{s}": rankings.ranks(make_rows(12 * s, key=s)) for s in (2, 4)})
    return fig


ALL = {
    "ranking": lambda: ranking(None),
    "ranking_groups": lambda: ranking("all"),
    "ranking_baseline": lambda: ranking("one"),
    "ranking_few": lambda: ranking("one", 24),
    "forest": lambda: forest("bicubic"),
    "forest_all": lambda: forest(None),
    "monotonicity": monotonicity,
    "panels": crops,
    "maps": maps,
    "maps_scored": scored_maps,
    "ranks": rank_ranges,
}


# all figures


@pytest.mark.parametrize("name", ALL)
def test_text_is_inside_readable_and_does_not_overlap(name):
    fig = ALL[name]()
    fig.draw_without_rendering()
    whole = fig.bbox
    axis_of = [axis for ax in fig.axes for axis in (ax.xaxis, ax.yaxis)]
    ticks = [(tick, *sorted(axis.get_view_interval())) for axis in axis_of for tick in axis.get_major_ticks()]
    hidden = {tick.label1 for tick, low, high in ticks if not low <= tick.get_loc() <= high}  # never drawn
    boxes = []
    for text in set(fig.findobj(Text)) - hidden:
        if not text.get_visible() or not text.get_text().strip():
            continue
        box = text.get_window_extent()
        assert text.get_fontsize() >= 7, text
        assert box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1, text
        assert box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1, text
        boxes.append((text.get_text(), box.padded(-0.1 * box.height)))
    assert len(boxes) > 3
    for (a, box), (b, other) in itertools.combinations(boxes, 2):
        assert not box.overlaps(other), f"{a!r} overlaps {b!r}"


# what is drawn


def points(ax: plt.Axes) -> list:
    return [line for line in ax.lines if line.get_marker() not in ("None", None, "") and len(line.get_xdata()) == 1]


def test_ranking_draws_the_table_best_on_top():
    rows = make_rows()
    table = rankings.scores(rows)
    fig, ax = plt.subplots()
    figures.plot_ranking(ax, table)
    np.testing.assert_allclose([line.get_xdata()[0] for line in points(ax)], table["mean"])
    bars = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(bars, table[["low", "high"]])
    bottom, top = ax.get_ylim()
    assert bottom > top and [line.get_ydata()[0] for line in points(ax)] == list(range(6))
    assert {text.get_text() for text in ax.texts} == {f"{mean:.3f}" for mean in table["mean"]}
    assert "LPIPS, lower is better" in ax.get_xlabel() and "36 photographs" in ax.get_xlabel()
    assert to_rgb(points(ax)[0].get_color()) == to_rgb(figures.look(table.downscaler[0])["color"])


def test_ranking_says_higher_where_higher_is_better():
    rows = make_rows(12).assign(distortion="psnr")
    fig, ax = plt.subplots()
    figures.plot_ranking(ax, rankings.scores(rows))
    assert "PSNR (dB), higher is better" in ax.get_xlabel() and "12 photographs" in ax.get_xlabel()
    assert ax.get_yticklabels()[0].get_text() == "nearest"
    figures.plot_ranking(ax, rankings.scores(rows.assign(distortion="1-ms_ssim")))
    assert "1 \N{MINUS SIGN} MS-SSIM, lower is better" in ax.get_xlabel()
    figures.plot_ranking(ax, rankings.scores(rows.assign(distortion="lpips_embedded")))
    assert "lpips_embedded, lower is better" in ax.get_xlabel()  # never called LPIPS


def test_hollow_dots_are_those_that_the_test_does_not_separate():
    rows = make_rows()
    pairs = rankings.paired(rows, "bicubic").set_index("f")
    assert pairs.p_holm["lanczos"] > 0.05 > pairs.p_holm["dpid"]  # both kinds occur
    for draw in (ranking("one"), forest("bicubic")):
        ax = draw.axes[0]
        names = [text.get_text() for text in ax.get_yticklabels()]
        assert len(names) == len(points(ax))
        for name, line in zip(names, points(ax), strict=True):
            hollow = name != "bicubic" and name in pairs.index and pairs.p_holm[name] >= 0.05
            assert (line.get_markerfacecolor() == "white") == hollow, name


def test_bars_of_the_groups_stand_between_axes_and_values():
    fig = ranking("all")
    fig.draw_without_rendering()
    ax = fig.axes[0]
    bars = [line.get_window_extent() for line in ax.lines if not line.get_clip_on()]
    assert bars  # bicubic and lanczos are not told apart
    assert all(ax.bbox.x1 < bar.x0 and bar.x1 < ax.texts[0].get_window_extent().x0 for bar in bars)


def test_groups_are_the_longest_runs_without_a_difference():
    names = ["a", "b", "c", "d", "e"]
    same = {("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "e")}
    apart = {frozenset(pair): pair not in same for pair in itertools.combinations(names, 2)}
    assert plots._groups(names, apart) == [(0, 2), (2, 3), (3, 4)]
    assert plots._lanes([(0, 2), (2, 3), (3, 4)]) == [[(0, 2), (3, 4)], [(2, 3)]]
    assert plots._groups(names, dict.fromkeys(apart, True)) == []
    assert plots._groups(names, dict.fromkeys(apart, False)) == [(0, 4)]


def test_forest_is_sorted_and_marks_identical_pairs():
    rows = make_rows(30, {"bicubic": 0.0, "dpid": -0.05, "box": 0.1})
    rows = pd.concat([rows, rows[rows.downscaler == "bicubic"].assign(downscaler="same")])
    fig, ax = plt.subplots()
    figures.plot_paired(ax, rankings.paired(rows, "bicubic"))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["dpid", "same", "box"]
    notes = [text.get_text() for text in ax.texts]
    assert notes[1] == "identical" and notes[0].startswith("\N{MINUS SIGN}0.05") and "p < 0.001" in notes[0]
    assert "difference to bicubic" in ax.get_xlabel() and "Holm over 3" in ax.get_xlabel()


def test_ranks_draws_every_rank_with_its_interval_and_names_in_the_last_order():
    rows = {f"x{s}": make_rows(12 * s, key=s) for s in (2, 4)}
    tables = {title: rankings.ranks(part) for title, part in rows.items()}
    fig, ax = plt.subplots()
    figures.plot_ranks(ax, tables)
    last = tables["x4"].set_index("downscaler")
    assert [text.get_text()[-8:] for text in ax.texts] == [name[-8:] for name in last.index]
    lines = [line for line in ax.lines if line.get_marker() not in ("None", None, "")]
    np.testing.assert_allclose([line.get_ydata()[-1] for line in lines], last["rank"])
    first = tables["x2"].set_index("downscaler").loc[last.index]
    np.testing.assert_allclose([line.get_ydata()[0] for line in lines], first["rank"])
    bars = [tuple(line.get_ydata()) for line in ax.lines if line not in lines]
    ends = [[tuple(table.loc[name, ["rank_low", "rank_high"]]) for table in (first, last)] for name in last.index]
    assert bars == [pair for both in ends for pair in both]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["x2\n24 photographs", "x4\n48 photographs"]
    bottom, top = ax.get_ylim()
    assert bottom > top  # the best on top
    for bad in ({}, {"a": tables["x2"], "b": tables["x4"].iloc[1:]}):
        with pytest.raises(ValueError, match="the same methods"):
            figures.plot_ranks(ax, bad)


def test_monotonicity_draws_the_scores_and_splits_contrast():
    rows = degraded()
    assert list(figures.degradation_panels(rows)) == [
        "blur",
        "contrast decrease",
        "contrast increase",
        "otsu",
    ]
    fig = monotonicity()
    titles = [ax.get_title() for ax in fig.axes]
    assert titles[0] == "blur\n$\\rho$ = 1" and titles[1].startswith("contrast decrease")
    blur = rows[(rows.degradation == "blur") & (rows.downscaler == "dpid")]
    want = rankings.scores(blur, "level").sort_values("level")
    drawn = next(box for box in fig.axes[0].containers if box.get_label() == "dpid")
    np.testing.assert_allclose(drawn.lines[0].get_ydata().astype(float), want["mean"])
    middle = [box.lines[0].get_xdata().astype(float) for box in fig.axes[0].containers]
    np.testing.assert_allclose(np.mean(middle, axis=0), [1, 2, 4])  # moved aside, evenly
    with pytest.raises(ValueError, match="expected 4 axes"):
        figures.plot_monotonicity(plt.figure().add_subplot(), rows)
    with pytest.raises(ValueError, match="two or more levels"):
        figures.degradation_panels(make_rows(degradation="", level=np.nan))


@pytest.mark.parametrize("percent", [False, True])
def test_detection_marks_what_is_not_noticed_hollow(percent):
    table = detection.differences(shifted_rows({0.5: 0.0, 1.0: 0.01, 2.0: 0.02}, key=1), "blur").assign(f_us="flow")
    ax = plt.figure().subplots()
    figures.plot_detection(ax, table, "f_us", {"flow": {"color": "#0173b2", "marker": "o"}}, percent=percent)
    filled, hollow = (line for line in ax.lines if line.get_marker() == "o")
    assert filled.get_xdata().tolist() == [1.0, 2.0] and hollow.get_xdata().tolist() == [0.5]
    unit = table.undamaged[0] / 100 if percent else 1
    assert filled.get_ydata() == pytest.approx(table.difference[1:] / unit)
    assert hollow.get_markerfacecolor() == "white" and ax.get_xlabel() == "sigma (pixels)"
    with pytest.raises(ValueError, match="one degradation"):
        figures.plot_detection(ax, pd.concat([table, table.assign(degradation="noise")]), "f_us", {})


def test_the_arms_of_an_interval_by_hand():
    table = pd.DataFrame({"mean": [1.0, 2.0], "low": [0.5, math.nan], "high": [3.0, math.nan]})
    assert figures.interval_arms(table, "mean").tolist() == [[0.5, 0.0], [2.0, 0.0]]


def test_side_by_side_draws_the_first_table_filled_and_the_others_hollow():
    means = pd.DataFrame({"mean": [1.0, 2, 3], "low": 0.0, "high": 4.0}, index=["bicubic", "nearest", "mine"])
    _, ax = plt.subplots()
    figures.plot_side_by_side(ax, {"a": means, "b": means.iloc[:1]}, list(means.index))
    hollow = [line.get_markerfacecolor() == "white" for line in points(ax)]
    assert hollow == [False, False, False, True] and points(ax)[-1].get_xdata()[0] == 1
    assert [text.get_text() for text in ax.get_yticklabels()] == list(means.index) and ax.get_ylim() == (2.5, -0.5)
