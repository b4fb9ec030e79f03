"""Tables of scores without a reference: the units of every mean are photographs."""

import math

import pandas as pd
import pytest
import torch

from helpers import datasets
from helpers.images import read_rgb
from helpers.stats import inference
from helpers.studies import no_reference

CROPS = pd.DataFrame(
    [("a1", "a", 32, 1.0), ("a1", "a", 64, 2.0), ("a2", "a", 32, 3.0), ("a2", "a", 64, 8.0), ("b", "", 32, 5.0),
     ("b", "", 64, 6.0), ("c", "", 32, 7.0)],
    columns=["image", "group", "size", "value"],
)  # fmt: skip


@pytest.mark.parametrize("none", ["", None, math.nan])
def test_crops_count_as_their_photograph_and_an_image_without_one_as_itself(none):
    rows = CROPS.assign(group=CROPS.group.replace("", none))
    found = no_reference.change(rows, "size", 32, 64)  # (1 + 5) / 2 of a and 1 of b; c has no 64
    assert (found.value, found.n) == (2.0, 2) and (found.low, found.high) == inference.interval([3.0, 1.0])[:2]
    table = no_reference.summary(rows, "size")
    assert table["mean"].to_dict() == {32: (2 + 5 + 7) / 3, 64: (5 + 6) / 2}
    assert table.loc[32, ["low", "high"]].tolist() == list(inference.interval([2.0, 5.0, 7.0])[:2])
    whole = no_reference.change(rows.drop(columns="group"), "size", 32, 64)
    assert (whole.value, whole.n) == (pytest.approx(7 / 3), 3)


def test_a_crop_with_one_of_both_values_does_not_move_its_photograph():
    more = pd.concat([CROPS, pd.DataFrame([("a3", "a", 64, 100.0)], columns=CROPS.columns)])
    assert no_reference.change(more, "size", 32, 64).value == 2.0
    with pytest.raises(ValueError, match="one photograph .column group. for each image, got several for 'b'"):
        no_reference.change(CROPS.assign(group=list("aaaaxyc")), "size", 32, 64)


def blurs(sides=(64, 256), kind="blur", turned=False) -> pd.DataFrame:
    """NIQE of eight photographs rises with the level; `turned`, it falls over the last step at the largest side."""
    lines = []
    for k in range(8):
        for level in (0.0, 1.0, 2.0, 4.0):
            for side in sides:
                value = 1.5 if turned and side == max(sides) and level == 4 else level
                lines.append({"image": f"i{k}", "level": level, "size": side, "value": value + 0.01 * k * (level + 1)})
    fixed = {"group": "", "distortion": "niqe", "sample": 0, "downscaler": "bicubic", "degradation": kind}
    return pd.DataFrame(lines).assign(**fixed)


def test_a_measure_is_asked_at_every_side_and_over_the_last_step():
    table = no_reference.follows(blurs(kind="blur_full"), "blur_full", "size")
    facts = no_reference.at_every_side(table)
    assert facts["verdict"] == 2 * ["supported"]
    assert facts["rho"] == "1.00 [1.00, 1.00] at 64 px; 1.00 [1.00, 1.00] at 256 px"
    facts = no_reference.over_the_last_step(blurs(turned=True), 2.0, 4.0)
    assert facts["verdict"] == ["supported", "contradicted"] and (facts["seen"], facts["all"]) == (1, 2)
    assert facts["steps"].endswith("at 256 px")


def test_ida_rd_rises_with_a_blur_in_all_and_over_the_last_step():
    part = pd.concat([blurs(sides=(64,), kind=kind, turned=kind == "blur") for kind in no_reference.KERNELS])
    assert no_reference.rises(part, "blur_full", [1.0, 2.0, 4.0])["verdict"] == 2 * ["supported"]
    facts = no_reference.rises(part, "blur", [1.0, 2.0, 4.0])
    assert facts["verdict"][1] == "contradicted" and facts["rho"].value == pytest.approx(0.5)  # of three levels


def test_kernels_are_as_wide_as_they_say_and_the_small_one_is_not():
    taps = no_reference.taps([1.0, 4.0])
    assert set(taps) == {(kind, sigma) for kind in no_reference.KERNELS for sigma in (1.0, 4.0)}
    assert all(kernel.shape == (65,) and kernel.sum() == pytest.approx(1, abs=1e-5) for kernel in taps.values())
    assert no_reference.width(taps["blur_full", 4.0]) == pytest.approx(4, rel=0.02)
    assert no_reference.width(taps["blur", 4.0]) < (2 / 3) ** 0.5


def test_lr_images_of_another_picture_are_files_and_have_the_same_scores(tmp_path):
    names = datasets.names("photographs", 2, size=64)
    lrs = {(name, "bicubic"): no_reference.lr_image("photographs", name, "bicubic", 4, size=64) for name in names}
    found = no_reference.of_the_one_before(lrs, names, str(tmp_path / "other"))
    assert list(found) == [(name, no_reference.OTHER) for name in names]
    assert torch.equal(found[names[0], no_reference.OTHER], lrs[names[1], "bicubic"])
    assert torch.equal(read_rgb(tmp_path / "other" / f"{names[0]}.png"), lrs[names[1], "bicubic"])
    shown = no_reference.blurred(lrs[names[0], "bicubic"], [1.0, 2.0])
    assert list(shown) == ["LR image", "whole, 1", "whole, 2", "3x3, 1", "3x3, 2"]
    assert torch.equal(shown["LR image"], lrs[names[0], "bicubic"])
    table = pd.DataFrame([
        {"image": name, "downscaler": downscaler, "value": value}
        for name, pair in zip("ab", ((1.0, 2.0), (2.0, 1.0)), strict=True)
        for downscaler, value in zip(("bicubic", no_reference.OTHER), pair, strict=True)
    ])  # fmt: skip
    assert no_reference.same_scores(table)
    assert not no_reference.same_scores(table.assign(value=[1.0, 2.0, 2.0, 1.5]))
