"""Panels and difference maps show the pixels they are given."""

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import figures

matplotlib.use("Agg")
import matplotlib.pyplot as plt

pytestmark = pytest.mark.usefixtures("figure_style")

NAMES = ["bicubic", "lanczos", "dpid", "l0", "nearest", "a/path/to/my_tool.py:down"]


def picture(height: int = 32, width: int = 32, key: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(key))


def crops() -> plt.Figure:
    images = [picture(), picture(8, 8), picture(key=1)]
    titles = ["HR", "LR", "a very long name of some method that never fits"]
    return figures.panels(images, titles, scores=[None, 0.41234, "LPIPS 0.3"], crop=(4, 8, 16, 16))


def maps() -> plt.Figure:
    return figures.difference_maps(picture(), {name: picture(key=k) for k, name in enumerate(NAMES)}, columns=3)


def scored_maps() -> plt.Figure:
    draws = {name: picture(key=k) for k, name in enumerate(NAMES)}
    return figures.difference_maps(picture(), draws, scores=dict.fromkeys(NAMES, 0.1234), columns=3)


def test_panels_show_pixels_as_squares_over_the_same_crop(tmp_path):
    """Two by two LR pixels under a crop: four flat quarters in the file, each in its colour."""
    hr = torch.zeros(1, 3, 8, 8)
    lr = torch.tensor([[0.0, 1.0], [0.5, 0.25]])[None, None].expand(1, 3, 2, 2)
    fig = figures.panels([hr, lr], ["HR", "LR"], crop=(2, 2, 4, 4), overview=False, columns=2, width=3.25)
    _, png = figures.save(fig, "x", tmp_path)
    with Image.open(png) as image:
        pixels = np.asarray(image.convert("L")).astype(int)
    box = fig.axes[1].get_window_extent()
    x = [round(300 / fig.dpi * (box.x0 + share * box.width)) for share in (0.1, 0.4, 0.6, 0.9)]
    y = [pixels.shape[0] - round(300 / fig.dpi * (box.y1 - share * box.height)) for share in (0.1, 0.4, 0.6, 0.9)]
    drawn = pixels[np.ix_(y, x)]
    np.testing.assert_allclose(drawn, np.kron([[0, 255], [128, 64]], np.ones((2, 2))), atol=1)


def test_panels_overview_marks_the_crop_and_scores_stand_in_the_corner():
    fig = crops()
    assert [ax.get_title() for ax in fig.axes][:3] == ["HR, whole", "HR", "LR"] and len(fig.axes) == 4
    (mark,) = fig.axes[0].patches
    assert (mark.get_xy(), mark.get_width(), mark.get_height()) == ((8, 4), 16, 16)
    for ax in fig.axes[1:]:
        assert (ax.get_xlim(), ax.get_ylim()) == ((8, 24), (20, 4))
    assert [[text.get_text() for text in ax.texts] for ax in fig.axes] == [[], [], ["0.412"], ["LPIPS 0.3"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titles": ["HR"]}, "as many titles"),
        ({"scores": [1.0]}, "as many titles"),
        ({"crop": (20, 0, 16, 16)}, "inside 32x32"),
        ({"crop": (0, 0, 0, 4)}, "inside 32x32"),
        ({"images": [picture(), 2 * picture()]}, "SR: expected finite values"),
        ({"images": [], "titles": []}, "as many titles"),
    ],
)
def test_panels_refuse(change, message):
    with pytest.raises(ValueError, match=message):
        figures.panels(**({"images": [picture(), picture()], "titles": ["HR", "SR"]} | change))


def test_difference_maps_share_one_scale_in_levels():
    hr = torch.full((1, 3, 8, 8), 0.5)
    sr = {"off by 10": hr + 10 / 255, "off by 2": hr - 2 / 255}
    fig = figures.difference_maps(hr, sr)
    shown = [ax.images[0] for ax in fig.axes[:2]]
    np.testing.assert_allclose(shown[0].get_array(), 10, atol=1e-4)
    assert shown[0].get_clim() == shown[1].get_clim() == (0, pytest.approx(10, abs=1e-4))
    assert [ax.get_title() for ax in fig.axes[:2]] == ["off by 10\nmean 10.0", "off by 2\nmean 2.0"]
    assert len(fig.axes) == 3 and "255" in fig.axes[2].get_ylabel()
    scored = figures.difference_maps(hr, sr, scores={"off by 2": 0.25, "off by 10": "D = 1"})
    assert [[text.get_text() for text in ax.texts] for ax in scored.axes[:2]] == [["D = 1"], ["0.250"]]
    assert not fig.axes[0].texts
    with pytest.raises(ValueError, match="a score for each"):
        figures.difference_maps(hr, sr, scores={"off by 2": 0.25})
    with pytest.raises(ValueError, match="small: expected shape"):
        figures.difference_maps(hr, {"small": hr[..., :4]})
    with pytest.raises(ValueError, match="one SR image or more"):
        figures.difference_maps(hr, {})


def test_a_sheet_has_a_line_each_with_its_name_and_heads_above_the_first():
    lines = {"one": [picture(key=0), picture(key=1)], "two": [picture(key=2), picture(key=3)]}
    fig = figures.sheet(lines, heads=["left", "right"], scores={"two": [0.25, None]})
    assert [ax.get_ylabel() for ax in fig.axes] == ["one", "", "two", ""]
    assert [ax.get_title() for ax in fig.axes] == ["left", "right", "", ""]
    assert [[text.get_text() for text in ax.texts] for ax in fig.axes] == [[], [], ["0.250"], []]
    for ax, image in zip(fig.axes, sum(lines.values(), []), strict=True):
        assert (ax.images[0].get_array() == figures.to_pixels(image)).all()
    for wrong in ({"one": [picture()], "two": []}, {"one": [picture(), picture(8, 8)]}, {}):
        with pytest.raises(ValueError, match="lines of as many images of one size"):
            figures.sheet(wrong)
    with pytest.raises(ValueError, match="3 heads"):
        figures.sheet(lines, heads="abc")
