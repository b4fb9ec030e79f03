"""Numbers of the rescalers' cards, on pairs whose answer is known."""

import pytest
import torch
import torch.nn.functional as F

from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize
from helpers.rescalers import registry
from helpers.training import rescaler_report as report
from tests.pictures import waves
from tests.test_rescalers_irn import embedded, small
from tests.test_rescalers_sain import small as small_sain
from tests.test_upscalers_rescalers import here_fixture  # noqa: F401


def test_a_pair_that_is_bicubic_both_ways_is_bicubic_in_the_table():
    hr = quantize(waves(1, 48, 64))
    plain = DOWNSCALERS["matlab_bicubic"]
    row = report.round_trip((lambda hr: plain(hr, 2), lambda lr, generators: report.enlarged(lr, hr)), hr, 2, "a")
    assert row["psnr_y"] == row["bicubic"] == row["stranger"] and row["ssim_y"] == row["bicubic_ssim"]
    assert row["lr_psnr"] == float("inf")
    off = report.round_trip((lambda hr: plain(hr, 2), lambda lr, generators: hr.clone()), hr, 2, "a")
    assert off["psnr_y"] == float("inf") and off["bicubic"] == row["bicubic"]
    box = report.round_trip((lambda hr: quantize(F.avg_pool2d(hr, 2)), lambda lr, generators: hr), hr, 2, "a")
    assert 20 < box["lr_psnr"] < 60 and box["stranger"] != row["stranger"]


def test_the_other_file_has_no_fewer_bits(here):
    from helpers.rescalers import hyperthumbnail

    network = hyperthumbnail.load("hyperthumbnail_x4")
    hr = quantize(waves(1, 64, 128))
    row = report.at_equal_bits(network, hr)
    assert row["bpp"] == pytest.approx(8 * len(hyperthumbnail.compress(network, hr)) / (64 * 128))
    assert row["jpeg_bpp"] >= row["bpp"] or row["jpeg"] > 35  # quality 100 may be smaller still
    lr = DOWNSCALERS["matlab_bicubic"](hr, 4)
    sizes = [len(report._jpeg(lr, quality, "4:4:4")) for quality in range(1, 101)]
    assert 8 * min(sizes) / (64 * 128) <= row["jpeg_bpp"] <= 8 * max(sizes) / (64 * 128)


def test_tables_have_the_columns_of_their_family(here):
    images = [("a", quantize(waves(1, 64, 64)))]
    plain = {"psnr_y", "ssim_y", "lr_psnr", "stranger", "bicubic", "bicubic_ssim"}
    assert set(report.table("irn_x2", images)) == plain
    codecs = {f"{f} q{q}" for f in ("sain", "irn", "bicubic") for q in report.QUALITIES}
    assert set(report.table("sain_x2", images)) == plain | codecs
    files = {f"file {key}" for key in ("psnr_y", "bpp", "lr_psnr", "jpeg", "jpeg_bpp")}
    assert set(report.table("hyperthumbnail_x4", images)) == plain | files
    with pytest.raises(KeyError):
        report.table("nothing_x2", images)


def test_a_worse_file_costs_a_rescaler_its_detail(tmp_path, monkeypatch):
    embedded(monkeypatch, tmp_path, irn_x2=small(), sain_x2=small_sain())
    registry.made.cache_clear()
    pairs = {"bicubic pair": (lambda hr: DOWNSCALERS["matlab_bicubic"](hr, 2), lambda lr, g: report.enlarged(lr, hr))}
    hr = quantize(waves(1, 64, 64))
    row = report.through_codec(pairs, hr, 2, "a")
    assert all(row[f"bicubic pair q{q}"] == row[f"bicubic q{q}"] for q in report.QUALITIES)
    assert row["bicubic q90"] > row["bicubic q30"]


def test_published_numbers_are_of_whole_sets():
    assert report.PUBLISHED["irn_official", 2]["bsd100"] == (41.32, 0.9876)
    assert all(set(values) == set(report.SETS) for values in report.PUBLISHED.values())


def test_the_seeds_of_draws_are_the_images(here):
    hr = quantize(waves(1, 32, 32))
    one, two, again = (report.table("sain_x2", [(name, hr)]).psnr_y.item() for name in ("a", "b", "a"))
    assert one == again != two and torch.isfinite(torch.tensor([one, two])).all()
