"""Whose information: who reads, what damage leaves, where the hidden signal is, tuned LR images, students."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import datasets, distortions, results, runs
from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize
from helpers.runtime import seeded
from helpers.stats.findings import Quantity
from helpers.studies import goodhart, own_rows, unlocking
from helpers.studies import private_channels as channels

PHOTOGRAPHS = "abcdef"


def rows_of(values):
    """Rows of MSE from (downscaler, upscaler, degradation, level) -> one value for each of the photographs."""
    lines = []
    for (f, f_us, damage, level), each in values.items():
        for name, value in zip(PHOTOGRAPHS, each, strict=True):
            key = own_rows.key_of(dataset="d", image=name, downscaler=f, scale=2, upscaler=f_us, distortion="mse",
                                  degradation=damage, level=level, where="after" if damage else "")  # fmt: skip
            lines.append(dict(zip(results.KEY, key, strict=True)) | {"value": value, "group": name})
    return pd.DataFrame(lines)


def around(mean):
    return mean * np.array([0.8, 1.2, 0.9, 1.1, 0.95, 1.05])


PUBLIC, OWN, REFERENCE = 0.01, 0.002, 0.008
PLAIN = {
    ("bicubic", "flow", "", None): around(PUBLIC),
    ("irn", "flow", "", None): around(PUBLIC * 1.1),
    ("irn", "irn", "", None): around(OWN),
    ("irn", "bicubic", "", None): around(REFERENCE),
    ("bicubic", "bicubic", "", None): around(REFERENCE),
}


def test_bicubic_enlargement_of_bicubic_images_is_nobodys_own_decoder():
    sides = channels.sides(rows_of(PLAIN), "flow")
    assert set(sides.private.downscaler) == {"irn"} and set(sides.reference.downscaler) == {"irn", "bicubic"}
    with pytest.raises(ValueError, match="expected rows of the upscaler 'esrgan'"):
        channels.sides(rows_of(PLAIN), "esrgan")


def test_a_filter_has_no_gap_and_a_rescaler_that_of_its_two_readers():
    table = channels.gaps(channels.sides(rows_of(PLAIN), "flow"), "mse").set_index("downscaler")
    assert list(table.index) == ["bicubic", "irn"] and list(table.own) == [False, True]
    assert table.gap["bicubic"].value == 0 and table.to_bicubic["irn"].value == pytest.approx(1.1)
    assert table.gap["irn"].value == pytest.approx(PUBLIC * 1.1 - OWN)
    assert table.g["irn"].value == pytest.approx(1.1 - OWN / PUBLIC)
    shown = channels.flat(table)
    assert shown.gap["irn"].startswith("0.009") and shown.gap["bicubic"] == "-" and "own" not in shown


def test_advantage_is_the_difference_of_psnrs():
    found = channels.advantage(pd.Series(around(0.001)), pd.Series(around(0.01)))
    assert found.value == pytest.approx(10) and found.low == pytest.approx(10) and found.n == 6
    assert channels.psnr(pd.Series(around(0.01))).value == pytest.approx(20)


def damaged(lost, level=None):
    """Rows whose private advantage, 6 dB without noise, falls by `lost` dB at each level of noise."""
    levels = {level: 6 - db for level, db in lost.items()}
    found = {}
    for f, f_us, base in (("irn", "irn", OWN), ("bicubic", "bicubic", OWN * 10**0.6)):
        found[f, f_us, "", None] = around(base)
        for at, left in levels.items():
            worse = 2.0 if f == "bicubic" else 2.0 * 10 ** ((6 - left) / 10)
            found[f, f_us, "noise", at] = around(base * worse)
    found["bicubic", "flow", "", None] = found["irn", "flow", "", None] = around(PUBLIC)
    found["bicubic", "flow", "noise", 4.0] = around(1.5 * PUBLIC)
    found["irn", "flow", "noise", 4.0] = around(1.8 * PUBLIC)
    return channels.sides(rows_of(found), "flow")


def test_half_life_is_where_half_the_decibels_are_gone():
    sides = damaged({1.0: 1, 2.0: 2, 4.0: 4})
    table = channels.advantages(sides, "irn").set_index(["degradation", "level"])
    assert [table.advantage[at].value for at in (("", 0.0), ("noise", 1.0), ("noise", 4.0))] == pytest.approx([6, 5, 2])
    assert table.kept["noise", 4.0].value == pytest.approx(1 / 3)
    assert channels.half_life(sides, "irn").value == pytest.approx(2 * 2**0.5)  # 2 dB at 2, 4 dB at 4: 3 between
    assert channels.half_life(damaged({1.0: 1, 2.0: 2}), "irn").value == math.inf
    assert channels.half_life(damaged({1.0: 4, 2.0: 5}), "irn").value == 1.0


def test_what_the_public_notices_is_held_against_bicubics_rise():
    line = channels.noticed(damaged({4.0: 4}), "irn", "mse").iloc[0]
    assert (line.rise.value, line.control.value, line.excess.value) == pytest.approx((1.8, 1.5, 1.2))


def test_the_hidden_signal_is_measured_as_it_was_made():
    def grey(hr, scale):  # a fine pattern of one grey level on all channels
        lr = DOWNSCALERS["bicubic"](hr, scale)
        checks = (torch.arange(lr.shape[2])[:, None] + torch.arange(lr.shape[3])) % 2
        return lr + (2 * checks - 1) * 4 / 255

    def red(hr, scale):
        return grey(hr, scale) * torch.tensor([1.0, 0, 0]).view(3, 1, 1) + DOWNSCALERS["bicubic"](
            hr, scale
        ) * torch.tensor([0, 1.0, 1.0]).view(3, 1, 1)

    hr = {"a": 0.2 + 0.6 * torch.rand(1, 3, 64, 64, generator=seeded(0))}
    hr = {name: torch.nn.functional.avg_pool2d(image, 5, 1, 2) for name, image in hr.items()}
    lines, rings = channels.hidden(hr, {"grey": grey, "red": red, "bicubic": DOWNSCALERS["bicubic"]}, 2)
    lines = lines.set_index("downscaler")
    assert lines.chroma["grey"] < 0.01 and lines.chroma["red"] == pytest.approx(2 / 3, abs=0.01)
    assert lines.mse["grey"] == pytest.approx((4 / 255) ** 2, rel=0.05) and lines.mse["bicubic"] == 0
    assert math.isnan(lines.fine["bicubic"]) and set(rings.downscaler) == {"grey", "red", "bicubic"}


def test_published_rows_are_those_of_the_photographs_of_the_rescalers(tmp_path):
    assert channels.published("", [2]) == {} and channels.published(str(tmp_path), [2, 4]) == {}


@pytest.mark.parametrize("low, high, said", [(1.0, 2.0, "better"), (-2.0, -1.0, "worse"), (-1.0, 1.0, "open")])
def test_a_word_is_what_the_interval_says(low, high, said):
    quantity = Quantity((low + high) / 2, low, high, 9)
    assert channels.word(quantity).startswith(said)
    turned = {"better": "worse", "worse": "better", "open": "open"}[said]
    assert channels.word(quantity, higher=False).startswith(turned)


# Rows of a study's own


def task(value, calls):
    def compute(image):
        calls.append(image)
        facts = {"group": image, "hr": "h", "lr": "l", "height": 8, "width": 8, "device": "cpu", "value": value}
        return {key: facts for key in keys(image)}

    return compute


def keys(image):
    how = {"dataset": "d", "image": image, "downscaler": "f", "scale": 2, "upscaler": "u"}
    return [own_rows.key_of(**how, distortion=d) for d in ("mse", "1-ssim")]


def test_own_rows_are_computed_once_and_again_where_the_pixels_changed(tmp_path):
    calls, tasks = [], {image: (keys(image), (image,)) for image in "ab"}
    rows = own_rows.fill(tasks, task(0.5, calls), {"u": "w"}, lambda image, f: {"hr": "h"}, tmp_path)
    assert calls == ["a", "b"] and len(rows) == 4 and set(rows.weights) == {"w"}
    own_rows.fill(tasks, task(0.5, calls), {"u": "w"}, lambda image, f: {"hr": "h"}, tmp_path)
    assert calls == ["a", "b"]
    with pytest.raises(ValueError, match="expected parts of a key"):
        own_rows.key_of(scael=2)
    own_rows.fill(
        tasks, task(0.5, calls), {"u": "w"}, lambda image, f: {"hr": "h" if image == "a" else "new"}, tmp_path
    )
    assert calls == ["a", "b", "b"]


# Goodhart


def test_a_tuned_lr_image_is_within_one_level_and_better_by_its_own_score():
    hr = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 68, 68, generator=seeded(1)), 5, 1)
    hr = quantize((hr - 0.5) * 3 + 0.5).clamp(0, 1)[..., :64, :64]
    plain = quantize(DOWNSCALERS["bicubic"](hr, 4))
    lr = goodhart.tune(hr, 4, ["bicubic"], "mse", heat=1.0, steps=8, key=(0,))
    moved = (255 * (lr - plain)).round()
    assert moved.abs().max() == 1 and torch.equal(lr, quantize(lr))
    upscale = goodhart.differentiable("bicubic", 4, 1.0)
    before, after = (distortions.mse(upscale(each, None).clamp(0, 1), hr).item() for each in (plain, lr))
    assert after < before
    with pytest.raises(ValueError, match="to pass gradients, got 'pulse'"):
        goodhart.differentiable("pulse", 4, 1.0)


def test_gradients_pass_the_flow_to_the_lr_image():
    lr = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    goodhart.differentiable("embedded_flow", 4, 1.0)(lr, seeded(0)).sum().backward()
    assert lr.grad.abs().sum() > 0


def test_gains_are_shares_of_what_bicubic_loses_and_held_against_the_gap_to_lanczos():
    means = {"bicubic": {"flow": 0.010, "bicubic": 0.020}, "lanczos": {"flow": 0.008, "bicubic": 0.016},
             "t": {"flow": 0.007, "bicubic": 0.0196}}  # fmt: skip
    values = {(f, u, "", None): around(mean) for f, by in means.items() for u, mean in by.items()}
    rows = rows_of(values)
    assert goodhart.gain(rows, "t", "mse", ["flow"]).value == pytest.approx(0.3)
    assert goodhart.gain(rows, "t", "mse", ["flow", "bicubic"]).value == pytest.approx(0.16)
    assert goodhart.beyond(rows, "t", "mse", ["flow"]).value == pytest.approx(0.3 - 0.5 * 0.2)
    turned = rows.replace({"downscaler": {"lanczos": "bicubic", "bicubic": "lanczos"}})  # bicubic is ahead
    assert goodhart.beyond(turned, "t", "mse", ["bicubic"]).value == pytest.approx(-0.225 - 0.5 * 0.25)
    assert goodhart.transfer(rows, "t", "mse", "flow", "bicubic").value == pytest.approx(0.02 / 0.3)
    least = goodhart.seen_by_all(rows, "t", "mse", ["flow", "bicubic"])
    assert least.value == pytest.approx(goodhart.gain(rows, "t", "mse", ["bicubic"]).value) and least.n == 6
    assert least.low <= least.value <= least.high < 0.3
    table = goodhart.table(rows, ["t", "lanczos"], ["mse"], {"flow": ["flow"], "two": ["flow", "bicubic"]})
    assert list(table.judge) == ["flow, mse", "two, mse"] * 2 and table.value[:2].tolist() == pytest.approx([30, 16])


# Students


def test_an_untrained_student_is_bicubic_enlargement_and_training_helps():
    lr = torch.rand(6, 3, 8, 8, generator=seeded(2))
    hr = torch.nn.functional.interpolate(lr, scale_factor=2, mode="bicubic") + 0.1
    plain = torch.nn.functional.interpolate(lr, scale_factor=2, mode="bicubic")
    assert torch.equal(unlocking.Student(2)(lr), plain)
    one, same, other = (unlocking.train(lr, hr, 2, steps=60, seed=seed)(lr) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert (one - hr).abs().mean() < 0.5 * (plain - hr).abs().mean()


def test_students_are_scored_on_other_photographs_and_kept(tmp_path):
    how = {"scale": 4, "upscaler": "bicubic", "distortion": "mse", "device": "cpu", "size": 64}
    held, *others = datasets.names("photographs", 4, size=64)
    experiment = runs.Experiment(dataset="photographs", images=[held], downscalers=["bicubic"], **how)
    with pytest.raises(ValueError, match="got both"):
        unlocking.rows(experiment, [held], [1], [0], tmp_path)
    with pytest.raises(ValueError, match="expected at most 3 pairs of 64x64 pixels, got 4"):
        unlocking.rows(experiment, others, [4], [0], tmp_path)
    rows = unlocking.rows(experiment, others, [2, 3], [0, 1], tmp_path, steps=2)
    before = (tmp_path / "local.csv").read_bytes()
    assert len(rows) == 4 and set(rows.upscaler) == {"student(2)", "student(3)"} and set(rows.seed) == {0, 1}
    assert list(unlocking.by_photograph(rows, "bicubic", "mse")) == [2, 3]
    unlocking.rows(experiment, others, [2, 3], [0, 1], tmp_path, steps=2)
    assert (tmp_path / "local.csv").read_bytes() == before
    longer = unlocking.rows(experiment, others, [2], [0], tmp_path, steps=3)  # another recipe
    assert (tmp_path / "local.csv").read_bytes() != before
    other = unlocking.rows(experiment, others[::-1], [2], [0], tmp_path, steps=3)  # other pairs, another student
    assert other.weights[0] != longer.weights[0] and other.hr[0] == longer.hr[0]


def test_half_way_is_interpolated_in_the_logarithm_of_n():
    shares = np.array([[0.6, 0.7, 0.8], [0.25, 0.75, 0.8], [0.1, 0.2, 0.3]])
    assert unlocking.half_way(shares, [4, 16, 64]) == pytest.approx([4, 8, math.inf])
    students = pd.DataFrame({n: around(x) for n, x in ((4, 0.009), (16, 0.007))})
    share, until = unlocking.share(students, pd.Series(around(0.010)), pd.Series(around(0.006)), [4, 16])
    assert (share[4].value, share[16].value) == pytest.approx((0.25, 0.75)) and until.value == pytest.approx(8)
