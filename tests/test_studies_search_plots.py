"""The plots of the notebook on PULSE, looked at through their axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from helpers.images import to_uint8
from helpers.stats.findings import Decided, Quantity
from helpers.studies import search_plots
from helpers.upscalers import pulse


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_sheet_shows_every_image_square_with_its_line_title_and_note():
    images = torch.rand(5, 1, 3, 8, 8)
    lines = [("HR", [images[0], images[1], images[2]]), ("LR", [images[3][..., :2, :2], None, images[4]])]
    fig = search_plots.sheet(lines, ["a", "b", "c"], notes=[["", "", ""], ["0.1", "0.2", ""]])
    assert len(fig.axes) == 5  # one place is empty
    assert [text.get_text() for text in fig.texts] == ["HR", "LR"]
    assert [ax.get_title() for ax in fig.axes[:3]] == ["a", "b", "c"]
    assert [text.get_text() for ax in fig.axes for text in ax.texts] == ["0.1"]
    for ax, image in zip(fig.axes, [*images[:3], images[3][..., :2, :2], images[4]], strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), to_uint8(image)[0].permute(1, 2, 0))
        box = ax.get_window_extent()
        assert box.width == pytest.approx(box.height, rel=1e-3)
    inside = [fig.transFigure.inverted().transform_bbox(ax.get_window_extent()) for ax in fig.axes]
    assert all(box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1 for box in inside)


def test_a_sheet_of_uneven_lines_titles_or_notes_is_refused():
    image = torch.rand(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"equal length.*got \[1, 2\] images"):
        search_plots.sheet([("a", [image]), ("b", [image, image])])
    with pytest.raises(ValueError, match="and 2 titles"):
        search_plots.sheet([("a", [image])], ["x", "y"])
    with pytest.raises(ValueError, match=r"a note for each image or none, got \[2\]"):
        search_plots.sheet([("a", [image])], notes=[["x", "y"]])
    with pytest.raises(ValueError, match="b: expected"):
        search_plots.sheet([("b", [2 + image])])


def test_one_line_a_sample_and_their_median():
    _, ax = plt.subplots()
    search_plots.along_steps(ax, [[3.0, 1.0, 2.0], [30.0, 10.0, 50.0]], label="median")
    assert [list(line.get_ydata()) for line in ax.lines] == [[3, 30], [1, 10], [2, 50], [2, 30]]
    assert ax.get_legend_handles_labels()[1] == ["median"]


def test_bars_of_shares_are_stacked_in_the_order_of_the_classes():
    _, ax = plt.subplots()
    search_plots.shares(ax, {"a": {"x": 0.25, "y": 0.75}, "b": {"x": 1.0, "y": 0.0}}, chance=0.5)
    bars = [(bar.get_x(), bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in ax.patches]
    np.testing.assert_allclose(bars, [(0, 0.25, 0), (0, 1, 1), (0.25, 0.75, 0), (1, 0, 1)], atol=1e-9)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert ax.lines[0].get_xdata()[0] == 0.5


def test_bars_show_every_part_with_its_interval_and_an_open_sign_hollow():
    _, ax = plt.subplots()
    parts = {
        "a": Decided(Quantity(0.2, 0.1, 0.3, 8), "supported"),
        "b": Decided(Quantity(0.1, -0.1, 0.3, 8), "not shown"),
    }
    search_plots.bars(ax, parts)
    assert [bar.get_width() for bar in ax.patches] == [0.2, 0.1]
    assert [bar.get_facecolor()[:3] == (1, 1, 1) for bar in ax.patches] == [False, True]
    assert [list(line.get_xdata()) for line in ax.lines[:2]] == [[0.1, 0.3], [-0.1, 0.3]]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]


def test_half_widths_are_drawn_over_the_images_at_hand_and_dashed_beyond():
    _, ax = plt.subplots()
    search_plots.widths(ax, {"none": (0.6, 9)})
    solid, dashed = ax.lines
    assert solid.get_linestyle() == "-" and solid.get_ydata()[-1] == pytest.approx(20)
    assert dashed.get_linestyle() == "--" and dashed.get_ydata()[-1] == pytest.approx(2)


def test_a_point_of_a_search_has_its_angles():
    starts = torch.eye(4)[:2, None]  # two samples, one layer: 90 degrees apart
    values = {"residual": torch.zeros(2), "terms": {"GEOCROSS": torch.ones(2)}}
    state = pulse.State(0, 0.1, starts, [], starts, starts, values["residual"], values["terms"], torch.zeros(2), [])
    found = search_plots.point(state, starts)
    assert found["between"] == pytest.approx(90) and found["angle"] == pytest.approx([0, 0], abs=0.1)
    _, axes = plt.subplots(1, 3)
    search_plots.trace(axes, [found, found], 2e-3)
    assert [ax.get_title() for ax in axes] == ["residual", "GEOCROSS", "angle on the sphere"]


def test_a_first_draw_is_not_timed():
    calls = []
    table = search_plots.seconds({"f": lambda lr, generators: calls.append(lr)}, [1, 2, 3])
    assert calls == [1, 1, 2, 3] and len(table) == 3 and (table.f >= 0).all()


def test_figures_have_a_panel_for_each_d_and_a_mark_for_each_upscaler():
    noise = np.random.default_rng(0).random(8)
    table = pd.DataFrame([
        {"image": f"i{k}", "group": "", "downscaler": name, "sample": 0, "distortion": "mse", "value": v + noise[k] / 9}
        for k in range(8) for name, v in (("bicubic", 1.0), ("box", 2.0))
    ])  # fmt: skip
    parts = {"PULSE": {"mse": table, "lpips": table}, "flow": {"mse": table, "lpips": table}}
    how = {"order": ["box"], "xlabel": "x", "aspect": 0.4, "columns": 2}
    fig = search_plots.multiples(parts, ["lpips", "mse"], "bicubic", "downscaler", **how)
    assert [ax.get_title() for ax in fig.axes] == ["D = LPIPS", "D = MSE"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["PULSE", "flow"]
    fig = search_plots.in_the_loss({"proxy": table, "true": table}, ["bicubic", "box"], "loss")
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["bicubic", "box"]
    budget = pd.DataFrame({"frozen noise": 1 + noise, "other answers": 2 + noise})
    fig = search_plots.budgets({"lpips": budget, "mse": budget})
    assert [ax.get_xlabel() for ax in fig.axes] == ["part of the loss, LPIPS", "part of the loss, MSE"]
    half = {"none": Quantity(0.02, 0.01, 0.03, 8)}
    subsamples = {"PULSE": pd.DataFrame({"n": [2, 8], "share_signs": [0.5, 1.0]})}
    fig = search_plots.how_many_images(half, subsamples, ["scores", "ranking"])
    line = fig.axes[0].lines[0]
    assert line.get_ydata()[-1] == pytest.approx(100 * 0.02 * 30 / 8**0.5)  # of eight images, not of 900
    assert not search_plots.how_many_images({}, subsamples, ["scores", "ranking"]).axes[0].lines
    shares = pd.DataFrame([{"picture": "the face", "group": "labelled White", "value": 0.5, "low": 0.4, "high": 0.6}])
    fig = search_plots.read_as(shares, pd.DataFrame({"White": [0.6], "Black": [0.4]}, index=["the face"]))
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["the face"] and len(fig.legends) == 2
    traces = 3 * [{"residual": [1e-3, 2e-3], "geocross": [1.0, 2.0], "angle": [0.0, 1.0], "between": 90.0}]
    assert len(search_plots.along_the_search(traces, 2e-3).axes) == 3
