"""What cards of rescalers decide, on tables whose answer is known."""

import pandas as pd
import pytest
import torch

from helpers.images import write_rgb
from helpers.stats import findings
from helpers.training import rescaler_findings, rescaler_report
from tests.pictures import waves

YES, NO, UNKNOWN = findings.SUPPORTED, findings.CONTRADICTED, findings.NOT_SHOWN


def table(**means):
    """Eight photographs; each column has its own small noise."""
    noise = 0.1 * torch.randn(8, len(means), generator=torch.Generator().manual_seed(0)).numpy()
    return pd.DataFrame(noise, columns=list(means)) + pd.Series(means)


def test_aims_are_decided_by_the_tables_that_are_there():
    assert rescaler_findings.aims({}) == {}
    bsd = {
        "irn_x2": table(psnr_y=38, lr_psnr=30, bicubic=29),
        "tirn_x2": table(psnr_y=39),
        "irn_x4": table(psnr_y=30, bicubic=27),
    }
    found = rescaler_findings.aims(bsd)
    assert {what: facts["verdict"] for what, facts in found.items()} == {
        "own": [YES], "lr": [NO], "above bicubic": [UNKNOWN], "tirn": [YES],
    }  # fmt: skip
    assert found["own"]["psnr_y"].value == pytest.approx(38, abs=0.2) and found["own"]["n"] == 8
    assert found["above bicubic"]["gain"].value == pytest.approx(3, abs=0.2)
    assert found["tirn"]["gap"].value == pytest.approx(1, abs=0.2)


def test_jpeg_is_decided_at_three_qualities_and_tabled_at_all():
    means = {f"{f} q{q}": at for f, at in (("sain", 30), ("irn", 28), ("bicubic", 31)) for q in (90, 75, 50, 30)}
    rows = table(**means)
    found = rescaler_findings.aims({"sain_x2": rows})
    assert found["jpeg"]["verdict"] == 3 * [YES] and found["jpeg, bicubic"]["verdict"] == 3 * [NO]
    assert found["jpeg"]["q50"].value == pytest.approx(2, abs=0.2)
    means = rescaler_findings.after_jpeg(rows)
    assert list(means) == ["sain", "irn", "bicubic"] and tuple(means.index) == rescaler_report.QUALITIES
    assert means.sain[50] == rows["sain q50"].mean()


def test_a_file_is_held_against_one_of_no_fewer_bits():
    rows = table(**{"file psnr_y": 30, "file jpeg": 28, "file bpp": 0.3, "file jpeg_bpp": 0.4})
    facts = rescaler_findings.aims({"hyperthumbnail_x4": rows})["file"]
    assert facts["verdict"] == [YES] and facts["jpeg_bpp"] == rows["file jpeg_bpp"].mean()


def test_published_tables_stand_beside_what_is_measured(tmp_path, monkeypatch):
    own = {"bicubic": 26.0, "bicubic_ssim": 0.7, "psnr_y": 30.0}
    cards = {"irn_x4": ({"config": {"scale": 4}}, {"bsd100": table(**own), "set5": table(**own)})}
    beside = rescaler_findings.beside(cards, {})
    assert len(beside) == 4 * len(rescaler_report.SETS)
    assert beside.here["bicubic", 4, "bsd100"] == pytest.approx(26, abs=0.2)
    assert beside["the small one"]["irn_official", 4, "bsd100"] == pytest.approx(30, abs=0.2)
    assert beside.here.notna().sum() == beside["the small one"].notna().sum() == 1  # set5 was not asked for
    write_rgb(waves(1, 32, 32), tmp_path / "one.png")
    monkeypatch.setattr(rescaler_findings.registry, "lacking", lambda key, scale: scale != 4)
    monkeypatch.setattr(rescaler_report, "table", lambda name, images: table(psnr_y=len(images), ssim_y=0.9))
    beside = rescaler_findings.beside(cards, {"set5": str(tmp_path)})
    assert beside.here["irn_official", 4, "set5"] == pytest.approx(1, abs=0.2)
    assert beside["the small one"].notna().sum() == 2 == beside.here.notna().sum() - 1
