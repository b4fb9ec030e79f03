"""Every downscaler has its own look; sizes are those of the venues; pictures in a notebook have screen resolution."""

import io

import matplotlib.pyplot as plt
import pytest
from IPython.core.pylabtools import print_figure
from PIL import Image

from helpers import figures
from helpers.downscalers import DOWNSCALERS
from helpers.figures import style


def test_every_downscaler_has_its_own_look():
    assert set(DOWNSCALERS) <= set(style.COLOURS) == set(style.MARKERS)
    looks = [tuple(figures.look(name).values()) for name in DOWNSCALERS]
    assert len(set(looks)) == len(looks)
    plain = ["nearest", "bilinear", "bicubic", "lanczos", "dpid", "perceptual", "l0"]
    assert len({style.COLOURS[name] for name in plain}) == len(plain)
    mine = figures.look("my own")
    assert mine == figures.look("my own") and mine["color"] not in style.COLOURS.values()


def test_sizes():
    assert figures.size() == (3.25, pytest.approx(0.62 * 3.25))
    assert figures.size(2, 0.5, "ieee") == (7.16, 3.58)
    for arguments in ((3,), (1, 0.5, "nowhere")):
        with pytest.raises(ValueError, match="expected a venue"):
            figures.size(*arguments)


def test_pictures_in_a_notebook_have_screen_resolution():
    """As the inline backend prints them: 100 dots an inch, and files 300."""
    with plt.rc_context():
        figures.use_style()
        fig, _ = plt.subplots(figsize=figures.size(2))
        width, _ = Image.open(io.BytesIO(print_figure(fig, bbox_inches=None))).size
        assert width == 687 and plt.rcParams["savefig.dpi"] == 300
    plt.close(fig)
