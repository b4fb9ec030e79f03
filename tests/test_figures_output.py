"""Files of figures: unchanged bytes, embedded fonts, and images as small as they can be without loss."""

import io
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import figures
from helpers.figures import output
from helpers.images import to_uint8
from tests.fakes import CONTEXT
from tests.test_figures_pictures import crops, picture
from tests.test_figures_rankings import ranking

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.backends.backend_pdf import PdfFile

pytestmark = pytest.mark.usefixtures("figure_style")

ALL = {"ranking_groups": lambda: ranking("all"), "panels": crops}


def test_files_have_the_venue_width_embedded_fonts_and_no_date(tmp_path):
    pdf, png = figures.save(ranking("all"), "00_ranking", tmp_path / "new")
    assert (pdf.name, png.name) == ("00_ranking.pdf", "00_ranking.png")
    with Image.open(png) as image:
        assert image.width == int(3.25 * 300) and "Software" not in image.info
        assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)
    data = pdf.read_bytes()
    assert b"/MediaBox [ 0 0 234" in data  # 3.25 in = 234 pt
    assert b"CIDFontType2" in data and b"/Type3" not in data  # TrueType, as venues ask (fonttype 42)
    assert b"CreationDate" not in data and b"atplotlib" not in data
    for bad in ("a/b", "a.pdf", "", "a b"):
        with pytest.raises(ValueError, match="expected a name"):
            figures.save(plt.figure(), bad, tmp_path)


SCRIPT = """
import sys
sys.path[:0] = [".", "tests"]
import test_figures_output as t
t.figures.use_style()
for name in ("ranking_groups", "panels"):
    t.figures.save(t.ALL[name](), name, sys.argv[1])
"""


def test_an_unchanged_figure_is_an_unchanged_file(tmp_path, monkeypatch):
    """Another process, another hash seed, another day: the same bytes."""
    root = Path(__file__).parent.parent
    there = {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": "86400", "MPLBACKEND": "Agg"}
    subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "a"], check=True, cwd=root, env=os.environ | there)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    for name in ("ranking_groups", "panels"):
        for path in figures.save(ALL[name](), name, tmp_path / "b"):
            assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes(), path.name


def embedded(pdf: Path) -> list[np.ndarray]:
    """The RGB images in a PDF, which Matplotlib keeps as the data of a PNG, the last row first."""
    found = re.findall(
        rb"/Subtype /Image /Width (\d+) /Height (\d+)\s+/ColorSpace /DeviceRGB.*?stream\r?\n(.*?)\r?\nendstream",
        pdf.read_bytes(), re.S,
    )  # fmt: skip

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + name + data + struct.pack("!I", zlib.crc32(name + data))

    images = []
    for width, height, data in found:
        start = chunk(b"IHDR", struct.pack("!IIBBBBB", int(width), int(height), 8, 2, 0, 0, 0))
        file = io.BytesIO(b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", data) + chunk(b"IEND", b""))
        images.append(np.asarray(Image.open(file))[::-1])
    return images


def levels(image: torch.Tensor) -> np.ndarray:
    return to_uint8(image)[0].permute(1, 2, 0).numpy()


def test_a_pdf_holds_the_pixels_of_an_image_and_those_of_a_coarse_one_as_squares(tmp_path):
    hr, lr = picture(200, 200), picture(20, 20, key=1)
    fig = figures.panels([hr, lr, hr], ["HR", "LR", "HR again"], width=3.25, columns=2)
    pdf, _ = figures.save(fig, "x", tmp_path)
    first, coarse, last = embedded(pdf)
    np.testing.assert_array_equal(first, levels(hr))
    np.testing.assert_array_equal(last, levels(hr))
    times = len(coarse) // 20
    assert 20 <= times <= 1.625 * 300 / 20  # 20 pixels on 1.6 in
    np.testing.assert_array_equal(coarse, levels(lr).repeat(times, 0).repeat(times, 1))
    assert b"/SMask" not in pdf.read_bytes()


def test_a_pdf_holds_what_a_crop_shows_and_no_more_dots_than_the_page(tmp_path):
    hr = picture(240, 240)
    crop = figures.panels([hr], ["HR"], crop=(20, 30, 100, 90), overview=False, columns=1, width=1)
    np.testing.assert_array_equal(embedded(figures.save(crop, "crop", tmp_path)[0])[0], levels(hr)[20:120, 30:120])
    small = figures.panels([picture(800, 800)], ["HR"], columns=1, width=1)
    assert embedded(figures.save(small, "small", tmp_path)[0])[0].shape[0] <= 300


@pytest.mark.parametrize("origin", ["upper", "lower"])
def test_saving_shows_the_same_and_leaves_the_figure_as_it_was(origin):
    fig, (left, right) = plt.subplots(1, 2, figsize=(3, 1.5))
    left.imshow(levels(picture(30, 20)), origin=origin, extent=(0, 40, 0, 60))
    left.set(xlim=(7, 33), ylim=(11, 50))
    right.imshow(np.arange(12.0).reshape(3, 4), origin=origin)
    right.images[0].set_clim(2, 9)
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # it moves by parts of a dot from drawing to drawing

    def draw() -> np.ndarray:
        fig.savefig(file := io.BytesIO(), dpi=300)
        return np.asarray(Image.open(file))

    before = draw(), [(ax.get_xlim(), ax.get_ylim(), ax.images[0].get_extent()) for ax in fig.axes]
    with output._own_pixels(fig):
        assert [ax.images[0].get_array().dtype for ax in fig.axes] == [np.uint8] * 2
        assert (draw() != before[0]).any(-1).mean() < 0.01  # half a dot at the edges of pixels
    np.testing.assert_array_equal(draw(), before[0])
    assert [(ax.get_xlim(), ax.get_ylim(), ax.images[0].get_extent()) for ax in fig.axes] == before[1]


def test_places_without_a_value_stay_empty(tmp_path):
    fig, ax = plt.subplots()
    ax.imshow([[0.0, np.nan], [1.0, 0.5]])
    assert b"/SMask" in figures.save(fig, "x", tmp_path)[0].read_bytes()


def save_and_end(folder: str, end: str) -> None:
    """Save in this process, which may write 3,000 bytes, or is killed while it writes."""
    import resource

    figures.use_style()
    fig, plain = crops(), output.Figure.savefig

    def kill(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if end == "disk full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    elif end == "killed between the two":
        fig.savefig = lambda path, **how: plain(fig, path, **how) if str(path).endswith(".pdf") else kill()
    else:
        PdfFile.writeImages = lambda self: (self.fh.flush(), kill())
    figures.save(fig, "00_ranking", folder)


@pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")
@pytest.mark.parametrize("end", ["disk full", "killed in the middle", "killed between the two"])
def test_a_good_figure_stays_until_the_new_one_is_whole(tmp_path, end):
    saved = figures.save(ranking("all"), "00_ranking", tmp_path)
    before = [path.read_bytes() for path in saved]
    other = CONTEXT.Process(target=save_and_end, args=(str(tmp_path), end))
    other.start()
    other.join(120)
    assert other.exitcode == (1 if end == "disk full" else -signal.SIGKILL)
    assert [path.read_bytes() for path in saved] == before
    if end == "disk full":
        assert sorted(path.name for path in tmp_path.iterdir()) == ["00_ranking.pdf", "00_ranking.png"]
