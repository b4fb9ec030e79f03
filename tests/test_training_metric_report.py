"""Agreement of two distances: pairs, rank correlation, published scores."""

import pandas as pd
import pytest
import torch

from helpers.images import from_uint8, write_rgb
from helpers.training import metric_report
from tests.test_training_metric_data import photographs, quick_flow


def test_agreement_by_hand():
    table = pd.DataFrame(
        {
            "image": list("aaabbb"),
            "lpips": [0.1, 0.2, 0.3, 0.1, 0.2, 0.4],
            "lpips_embedded": [0.2, 0.3, 0.4, 0.2, 0.1, 0.5],
        }
    )
    found = metric_report.agreement(table)
    assert (found["n"], found["images"]) == (6, 2)
    assert found["within"] == pytest.approx((1 + 0.5) / 2)
    assert found["error"] == pytest.approx(0.1) and found["bias"] == pytest.approx(0.4 / 6)
    assert found["relative"] == pytest.approx((1 + 0.5 + 1 / 3 + 1 + 0.5 + 0.25) / 6)


def test_compare_has_a_row_for_every_variant(monkeypatch):
    monkeypatch.setattr(metric_report.upscalers, "embedded_flow", quick_flow)
    hr = from_uint8(photographs(1)[0][None, :, :64, :64])
    rows = pd.DataFrame(metric_report.compare([("a", hr)], ["mse", "1-ssim"]))
    n = len(metric_report.TESTED)
    assert rows.kind.value_counts().to_dict() == {
        "draws x4": n, "draws x8": n, "first x4": n, "first x8": n, "mixed flow": n, "bicubic": n,
        "damage": len(metric_report.TEST_LEVELS), "stripes": len(metric_report.STRIPES),
    }  # fmt: skip
    assert (rows.mse > 0).all() and rows.groupby("kind").mse.nunique().min() >= 4


def test_stripes_are_dark_and_periodic():
    image = torch.full((1, 3, 16, 24), 0.6)  # of 8 bits
    for kind, (period, amplitude) in metric_report.STRIPES.items():
        gap = metric_report.striped(image, kind) - image
        assert torch.equal(gap[..., period:], gap[..., :-period]), kind
        assert gap.min().item() == pytest.approx(-amplitude, abs=0.02)
    lines = metric_report.striped(image, "lines")
    assert (lines[..., ::8] < image[..., ::8]).all() and (lines != image).float().mean() == 1 / 8


def test_calibrate_puts_published_scores_beside_ours(tmp_path):
    write_rgb(torch.full((1, 3, 40, 40), 100 / 255), tmp_path / "A_ref.png")
    write_rgb(torch.full((1, 3, 40, 40), 125 / 255), tmp_path / "A_dist.png")
    (tmp_path / "reference_scores.csv").write_text(
        "metric,kind,source,A\npsnr,x,published: there,20.17\npsnr,x,computed: here,1\nssim,x,computed: here,1\n"
    )
    rows = metric_report.calibrate(tmp_path, ["psnr", "ssim", "dists"])
    assert [row["metric"] for row in rows] == ["psnr here", "psnr published", "ssim here", "dists here"]
    assert rows[0]["A"] == pytest.approx(20.172, abs=1e-3) and rows[1]["A"] == 20.17


def test_middle_of_an_image():
    image = torch.arange(3 * 6 * 9.0).view(1, 3, 6, 9)
    assert torch.equal(metric_report.crop_middle(image, 4), image[..., 1:5, 2:6])
    assert torch.equal(metric_report.crop_middle(image, 8), image[..., 1:7])


def test_rho_within_an_image_and_over_the_downscalers_of_a_picture():
    lines = [
        ("a", "x", 0.1, 1.0),
        ("a", "x", 0.2, 2.0),
        ("a", "x", 0.3, 3.0),
        ("b", "x", 0.1, 3.0),
        ("b", "x", 0.2, 2.0),
    ]
    table = pd.DataFrame(lines, columns=["image", "kind", "lpips_embedded", "lpips"])
    assert metric_report.within(table)["x"].round(6).to_dict() == {"a": 1.0, "b": -1.0}
    draws = [("p", f, d, level + d) for f, level in (("bicubic", 1), ("box", 4), ("l0", 9)) for d in (0, 1)]
    theirs = pd.DataFrame(draws, columns=["image", "downscaler", "sample", "value"])
    ours = theirs.assign(value=theirs.value.where(theirs.downscaler != "l0", 2.0))  # between the other two
    assert metric_report.by_picture(theirs, theirs).to_dict() == {"p": 1.0}
    assert metric_report.by_picture(theirs, ours).round(6).to_dict() == {"p": 0.5}


def test_only_the_wanted_variants_are_made_and_they_are_the_same():
    image, asked = from_uint8(photographs()[0][None, :, :64, :64]), []

    def flow(**which):
        asked.append(which)
        return quick_flow(**which)

    every = metric_report.fixed_variants(image, 0, "a", flow)
    wanted = [("draws x8", "l0"), ("bicubic", "box"), ("bicubic", "dpid"), ("damage", "noise 0.1"), ("stripes", "grid")]
    asked.clear()
    some = metric_report.fixed_variants(image, 0, "a", flow, wanted)
    assert set(some) == set(wanted) & set(every) and len(some) == 4 and len(asked) == 1
    assert all(torch.equal(some[key], every[key]) for key in some)


def test_a_ranking_by_two_distances_has_their_differences_to_bicubic():
    theirs = pd.DataFrame({"bicubic": [0.2, 0.4], "box": [0.3, 0.7], "nearest": [0.5, 0.6]}, ["a", "b"])
    found = metric_report.ranking(theirs, theirs)
    assert list(found.index) == ["bicubic", "box", "nearest"] and found["rank"].tolist() == [1, 2, 3]
    assert found.error.dropna().tolist() == [0, 0]
    twice = metric_report.ranking(2 * theirs, theirs)
    for column in (twice.difference, twice.error):
        assert column[["box", "nearest"]].tolist() == pytest.approx([0.2, 0.25]) and column.isna()["bicubic"]
    assert twice.images.dropna().tolist() == pytest.approx([1, 1])
    assert twice.lpips_embedded.equals(2 * twice.lpips) and twice.rank_embedded.equals(twice["rank"])
