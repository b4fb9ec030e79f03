"""The plots of the notebook on PULSE, looked at through their axes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from helpers.images import to_uint8
from helpers.studies import search_plots


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
