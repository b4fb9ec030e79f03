"""Sentences of the notebook on real downscalers: their verdicts, numbers and rows; the sheet; an LR image in a file."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from helpers.images import quantize
from helpers.stats import claims, findings
from helpers.studies import evidence, stand_ins
from helpers.studies import real_downscalers as asks
from tests.test_studies_evidence import NAMES, rows

SETTING = "photographs x4"


def two(order=NAMES) -> tuple[pd.DataFrame, dict]:
    """Rows by two D, LPIPS as in the paper and MSE in another order, and their verdicts."""
    table = pd.concat([rows(distortion="lpips"), rows(order, distortion="mse")])
    judge = {d: evidence.verdicts({SETTING: table}, d, claims=claims.EVERY_READING) for d in ("lpips", "mse")}
    return table, judge


def test_the_first_d_decides_and_the_others_are_told():
    table, verdicts = two(["bicubic", "bilinear", *NAMES[2:]])
    facts = asks.loses_more(SETTING, table, verdicts, ["lpips", "mse"], "bicubic loses more than bilinear", "bilinear")
    assert (facts["verdict"], facts["source"]) == (findings.SUPPORTED, "P 4.5, S 5")
    assert facts["ratio"].value == pytest.approx(1 / 1.1, rel=0.01) and facts["first"] == "lpips"
    assert facts["beside"].startswith("mse 1.099 [") and facts["beside"].endswith(", contradicted")
    facts = asks.judged(SETTING, verdicts, ["lpips", "mse"], "N.N. is the worst")
    assert facts["evidence"] == "5 of 5 pairs as stated" and facts["beside"] == "mse supported"


def test_none_beats_bilinear_names_the_nearest_and_needs_rows():
    table, verdicts = two()
    facts = asks.none_beats_bilinear(SETTING, table, verdicts, ["lpips", "mse"])
    assert (facts["verdict"], facts["least"], facts["n"]) == (findings.SUPPORTED, "dpid", 8)
    assert facts["ratio"].value == pytest.approx(1.2, rel=0.01)
    few = table[table.downscaler.isin(["bicubic", "bilinear"])]
    verdicts = {d: evidence.verdicts({SETTING: few}, d) for d in ("lpips", "mse")}
    assert asks.none_beats_bilinear(SETTING, few, verdicts, ["lpips", "mse"]) is None


def test_bilinear_comes_nearer_where_its_ratio_falls():
    before, after = rows(["bicubic", "bilinear"]), rows(["bilinear", "bicubic"], dataset="faces")
    facts = asks.comes_nearer(before, after, "bilinear")
    assert facts["verdict"] == findings.SUPPORTED and facts["before"] > 1 > facts["after"]
    assert asks.comes_nearer(after, before, "bilinear")["verdict"] == findings.CONTRADICTED


def test_a_larger_factor_is_asked_of_every_downscaler_of_a_content():
    worse = rows().assign(scale=8, value=lambda t: t.value + 1 + 0.01 * t.value)
    parts = {"faces x8": worse, "faces x4": rows(), "ffhq x4": rows()}
    several = asks.by_content(parts)
    assert list(several) == ["faces"] and set(several["faces"]) == {4, 8}
    facts = asks.larger_factor_loses_more(several["faces"], "mse")
    assert facts["verdict"] == len(NAMES) * [findings.SUPPORTED] and facts["factors"] == "x4, x8"
    assert (facts["k"], facts["n"]) == (len(NAMES), 8)


def test_bilinear_owes_its_place_to_the_spread_where_it_is_behind_in_the_bias():
    lines = []
    for image in range(8):  # bilinear: bias 2, spread 0; bicubic: bias 1, spread 3, apart from a little noise
        for name, bias, spread in (("bilinear", 2.0, 0.0), ("bicubic", 1.0, 3.0)):
            bias += 0.01 * image * (name == "bicubic")
            of_mean = {"mse_of_mean": bias + spread / 2, "mse": bias + spread}
            lines += [{"image": f"i{image}", "group": "", "downscaler": name, "sample": q, "seed": 0, "scale": 4,
                       "distortion": d, "value": value} for d, value in of_mean.items() for q in (0, 1)]  # fmt: skip
    facts = asks.owes_to_spread(pd.DataFrame(lines))
    assert facts["verdict"] == 2 * [findings.SUPPORTED]
    assert facts["score"].value == pytest.approx(-2035) and facts["spread"].value == pytest.approx(-3000)
    assert facts["bias"].value == pytest.approx(965)


def test_orders_and_the_camera_are_judged():
    assert asks.same_order(rows(), rows())["verdict"] == findings.SUPPORTED
    assert asks.same_order(rows(), rows(NAMES[::-1]))["verdict"] == findings.CONTRADICTED
    six = ["camera", *NAMES[:6]]
    assert asks.camera_loses_less(rows(six))["verdict"] == findings.SUPPORTED
    assert asks.camera_loses_less(rows(six[1:]))["verdict"] == findings.NOT_SHOWN


def test_l0_is_judged_with_both_readings_and_verdicts_are_counted_over_d():
    smooth = rows(["l0_smooth"]).assign(value=lambda t: t.value + 1)
    table = asks.both_readings_of_l0(rows(), smooth)
    assert table.loc["Perceptual loses more than L0"].tolist() == ["supported", "contradicted"]
    assert "bicubic loses more than bilinear" not in table.index
    _, verdicts = two(["bicubic", "bilinear", *NAMES[2:]])
    listed = pd.concat([by[SETTING].assign(setting=SETTING, D=d) for d, by in verdicts.items()], ignore_index=True)
    counted = asks.counted(listed, [SETTING, "faces x8"])
    assert list(counted) == [SETTING] and counted[SETTING]["N.N. is the worst"] == "supported 2"
    assert counted[SETTING]["bicubic loses more than bilinear"] == "supported 1, contradicted 1"


def test_the_sheet_shows_one_part_of_the_original_of_lr_images_and_of_two_draws():
    hr = torch.rand(1, 3, 32, 32)
    lrs, draws = {"box": torch.rand(1, 3, 8, 8)}, {"box": torch.rand(3, 3, 32, 32)}
    fig = asks.sheet(hr, lrs, draws, {"box": 0.25}, 4)
    assert [ax.get_title() for ax in fig.axes if ax.get_title()] == ["original", "box\nD 0.250"]
    assert [ax.images[0].get_array().shape[:2] for ax in fig.axes] == [(16, 16), (4, 4), (16, 16), (16, 16)]
    plt.close(fig)


def test_an_lr_image_comes_back_from_a_file(tmp_path):
    hr = torch.rand(1, 3, 16, 16)
    lr = quantize(torch.rand(1, 3, 4, 4))
    assert torch.equal(stand_ins.through_a_file(lr, hr, "a", tmp_path / "new"), lr)
    assert (tmp_path / "new" / "a.png").is_file()
