"""D over bits, on curves whose answers are known."""

import sys
import types

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from helpers.images import quantize, write_rgb
from helpers.iqa import kid
from helpers.rescalers import multi_realism
from helpers.runtime import seeded
from helpers.studies import rate_axis, rate_plots, realism
from tests.pictures import noise, waves
from tests.test_networks_elic import tiny
from tools import compressai_files

RATES = (0.1, 0.2, 0.4, 0.8, 1.6)


def curve(name, value, *, rates=RATES, n=6, reader="flow, heat 1", codec="jpeg"):
    """Points of n photographs, value(rate, photograph)."""
    lines = [
        {"reader": reader, "downscaler": name, "codec": codec, "quality": q, "distortion": "mse", "group": f"p{k}",
         "rate": rate, "value": value(rate, k)}
        for k in range(n) for q, rate in enumerate(rates)
    ]  # fmt: skip
    return pd.DataFrame(lines)


def rows(**columns):
    plain = {"upscaler": "flow", "heat": 1.0, "downscaler": "bicubic", "scale": 4, "degradation": "", "level": np.nan,
             "lr_bits": 400.0, "height": 20, "width": 40, "distortion": "mse", "group": "p", "value": 1.0}  # fmt: skip
    return pd.DataFrame([plain | dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)])


def test_a_point_is_the_mean_of_a_photograph_in_bits_per_hr_pixel():
    found = rate_axis.points(rows(value=[1.0, 3.0, 5.0], scale=[4, 4, 1], heat=[1.0, 1.0, 0.0]))
    first, whole = found[found.downscaler == "bicubic"], found[found.downscaler == rate_axis.WHOLE]
    assert first.value.tolist() == [2.0] and first.rate.tolist() == [0.5] and first.codec.tolist() == ["PNG"]
    assert first.reader.tolist() == ["flow, heat 1"] and whole.reader.tolist() == [rate_axis.WHOLE]
    with pytest.raises(ValueError, match="rows that know the bits of their LR image, got 1 without"):
        rate_axis.points(rows(lr_bits=[1.0, np.nan]))


def test_bits_are_multiples_of_those_of_bicubic():
    found = pd.concat([curve("bicubic", lambda r, k: 1, rates=(2.0,), codec="PNG"),
                       curve("nearest", lambda r, k: 1, rates=(2.4,), codec="PNG")])  # fmt: skip
    assert rate_axis.bits(found)["nearest"].value == pytest.approx(1.2) and rate_axis.bits(found)["bicubic"].value == 1


def test_a_curve_is_read_between_its_points_and_not_beyond_them():
    found = pd.concat([curve("a", lambda r, k: k - np.log10(r)), curve("b", lambda r, k: 0, rates=RATES[1:])])
    values = rate_axis.at_rate(found, "downscaler", 0.3)
    assert values["a"].to_numpy() == pytest.approx(np.arange(6) - np.log10(0.3)) and values["b"].eq(0).all()
    assert rate_axis.at_rate(found, "downscaler", 0.15)["b"].isna().all()
    low, high = rate_axis.common_rates(found, "downscaler")
    assert (low, high) == (0.2, 1.6)


def test_curves_cross_where_they_do():
    one = curve("lr", lambda r, k: 1 + 0.01 * k)
    other = curve(rate_axis.WHOLE, lambda r, k: 1 - np.log10(r / 0.5) + 0.01 * k)  # equal at 0.5
    at = rate_axis.crossing(one, other, 0.1, 1.6)
    assert at.value == pytest.approx(0.5, rel=0.02) and at.low <= at.value <= at.high and at.n == 6
    assert rate_axis.crossing(one, curve("x", lambda r, k: 9), 0.1, 1.6).value == np.inf
    assert rate_axis.crossing(curve("x", lambda r, k: 9), one, 0.1, 1.6).value == pytest.approx(0.1)
    gain = rate_axis.gain(one, other, 0.1, 1.6)
    assert gain.value.iloc[0] == pytest.approx(-0.699, abs=0.01) and gain.value.iloc[-1] > 0 and gain.n.eq(6).all()


def test_differences_are_shares_of_the_reference():
    found = pd.concat([curve("bicubic", lambda r, k: 2 + 0.1 * k), curve("a", lambda r, k: 1.5 + 0.1 * k)])
    table = rate_axis.bd(found).set_index("downscaler")
    assert table.bd["a"] == pytest.approx(-0.5) and table.share["a"] == pytest.approx(-0.5 / 2.25)


def test_equal_bits_make_rows_for_a_ranking():
    values = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, np.nan]}, index=["p0", "p1"])
    own = rows(group=["p0", "p0", "p1"], downscaler=["a", "b", "a"], value=[9.0, 9.0, 9.0])
    found = rate_axis.rows_at(own, values)
    assert found.group.tolist() == ["p0", "p0"] and found.set_index("downscaler").value.to_dict() == {"a": 1, "b": 3}


def test_the_best_heat_is_known_or_open():
    steps = np.arange(8) * 0.001
    sure = {0.0: pd.DataFrame({"f": 2 + steps, "g": 1 + steps}), 1.0: pd.DataFrame({"f": 1 + steps, "g": 2 + steps})}
    best = rate_axis.best_heats(sure, ["f", "g"])
    assert best.heat.to_dict() == {"f": 1.0, "g": 0.0} and best.share.eq(1).all() and rate_axis.apart(best)
    noise = np.random.default_rng(0).normal(0, 1, (2, 8))
    open_ones = {tau: pd.DataFrame({"f": each, "g": each}) for tau, each in zip((0.0, 1.0), noise, strict=True)}
    assert not rate_axis.apart(rate_axis.best_heats(open_ones, ["f", "g"]))


def test_answers_like_photographs_have_less_kid_and_more_error():
    torch.manual_seed(0)
    photographs = {f"p{k}": torch.rand(1, 3, 128, 128, generator=seeded(k)) for k in range(5)}
    like = {name: torch.rand(1, 3, 128, 128, generator=seeded(name)) for name in photographs}
    flat = {name: torch.full((1, 3, 128, 128), 0.5) for name in photographs}
    table = realism.kid_table(photographs, {"like": like, "flat": flat}, embedded=True).set_index("kind")
    assert table.value["like"] < table.value["flat"] and (table.low <= table.value).all() and table.n.eq(5).all()
    half = realism.between(flat, like, 0.5)
    errors = realism.distances(photographs, {"flat": flat, "half": half, "like": like}, ["mse"]).mse
    assert errors["flat"] < errors["half"] < errors["like"] == pytest.approx(1 / 6, rel=0.05)
    assert realism.patches(photographs["p0"]).shape == (4, 3, 64, 64)


def test_features_of_the_embedded_network_need_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)
    assert kid.features(torch.rand(2, 3, 64, 64), embedded=True).shape == (2, 256)


def test_the_codec_is_a_curve_of_the_whole_picture_that_branches_with_beta(figure_style):
    codec, photographs = multi_realism.prepare(tiny()), {f"p{k}_crop": waves(1, 64, 64 + 16 * k) for k in range(2)}
    levels = {level: realism.written(codec, photographs, level, (0.0, 2.56)) for level in (0.0, 2.0)}
    content = multi_realism.encode(codec, photographs["p1_crop"], 2)
    assert levels[2.0].rates["p1_crop"] == 8 * len(content) / (64 * 80)
    sr = quantize(multi_realism.decode(codec, content, 2.56))
    assert torch.equal(levels[2.0].read[2.56]["p1_crop"], sr)
    found = realism.points(levels, photographs, {f"p{k}_crop": f"p{k}" for k in range(2)}, ["mse"])
    line = found[(found.codec == "beta 2.56") & (found.quality == 2) & (found.group == "p1")]
    assert line.rate.item() == levels[2.0].rates["p1_crop"] and len(found) == 8
    assert line.value.item() == pytest.approx((sr - photographs["p1_crop"]).square().mean().item(), rel=1e-5)
    assert set(found.downscaler) == set(found.reader) == {rate_axis.WHOLE}
    mean = np.mean(list(levels[0.0].rates.values()))
    assert [realism.nearest_rate(levels, rate) for rate in (0.9 * mean, 100.0)] == [0.0, 2.0]
    ax = plt.figure().add_subplot()
    rate_plots.codecs(ax, pd.concat([curve("x", lambda rate, k: 1 / rate), found]), decibels=True)
    assert ax.get_legend_handles_labels()[1] == ["jpeg", "beta 0", "beta 2.56"]


def test_a_way_through_answers_has_its_ends_named(figure_style):
    ax = plt.figure().add_subplot()
    kinds = [0.0, "half", 1.0]
    table = pd.DataFrame({"mse": [1.0, 2, 3], "value": [3.0, 2, 1], "low": [2.0, 1, 0], "high": [4.0, 3, 2]}, kinds)
    rate_plots.realism(ax, table, "mse", "o-", "heat")
    rate_plots.realism(ax, table.iloc[:0], "mse", "s-", "nothing")
    assert [text.get_text() for text in ax.texts] == ["heat 0", "heat 1"]
    assert ax.get_legend_handles_labels()[1] == ["heat"] and len(ax.lines) == 1


class Halver(torch.nn.Module):
    """Has the methods of CompressAI; it keeps every second level, and a stream is as long as the picture is high."""

    def update(self):
        self.updated = True

    def compress(self, x):
        assert self.updated and not self.training and x.shape[2] % 64 == x.shape[3] % 64 == 0
        self.kept = (x * 255 / 2).round() * 2 / 255
        return {"strings": [[b"a" * x.shape[2]], [b"b"]], "shape": x.shape[2:]}

    def decompress(self, strings, shape):
        return {"x_hat": self.kept}


def test_another_codec_leaves_files_that_become_points(tmp_path, monkeypatch, capsys):
    asked, zoo = [], types.ModuleType("compressai.zoo")
    zoo.image_models = {"halver": lambda quality, pretrained: asked.append((quality, pretrained)) or Halver()}
    monkeypatch.setitem(sys.modules, "compressai", types.ModuleType("compressai"))
    monkeypatch.setitem(sys.modules, "compressai.zoo", zoo)
    pictures = {name: quantize(noise(1, 48, 72, seed=k)) for k, name in enumerate(("a_1", "a_2", "b_1"))}
    (tmp_path / "images").mkdir()
    for name, hr in pictures.items():
        write_rgb(hr, tmp_path / "images" / f"{name}.png")
    how = ["--images", str(tmp_path / "images"), "--models", "halver", "--output", str(tmp_path / "coded")]
    compressai_files.main([*how, "--qualities", "1"])
    compressai_files.main([*how, "--qualities", "1", "2"])  # goes on
    assert asked == [(1, True), (2, True)] and "quality 2: 3 pictures" in capsys.readouterr().out
    groups = {name: name[0] for name in pictures}
    found = rate_axis.coded(tmp_path / "coded", pictures, groups, ["mse", "1-ssim"])
    assert len(found) == 2 * 2 * 2 and set(found.codec) == {"halver"} and set(found.reader) == {rate_axis.WHOLE}
    assert found.rate.tolist() == pytest.approx([8 * (64 + 1) / (48 * 72)] * 8)
    first = found[(found.group == "b") & (found.distortion == "mse") & (found.quality == 1)].value.item()
    kept = (pictures["b_1"] * 255 / 2).round() * 2 / 255
    assert first == pytest.approx((kept.clamp(0, 1) - pictures["b_1"]).square().mean().item(), rel=1e-3)
    assert len(rate_axis.coded(tmp_path / "coded", {"c": noise()}, {}, ["mse"])) == 0
    with pytest.raises(ValueError, match="expected .48, 48. pixels, got .48, 72."):
        rate_axis.coded(tmp_path / "coded", {"a_1": noise(1, 48, 48)}, groups, ["mse"])
    (tmp_path / "coded" / "bits.csv").write_text("codec,quality,image\n")
    with pytest.raises(ValueError, match="expected columns codec, quality, image, bits, got codec, quality, image"):
        rate_axis.coded(tmp_path / "coded", pictures, groups, ["mse"])
    with pytest.raises(ValueError, match="which is not there"):
        rate_axis.coded(tmp_path, pictures, groups, ["mse"])
    with pytest.raises(SystemExit):
        compressai_files.main(["--images", str(tmp_path), "--output", str(tmp_path)])
    assert "expected a folder with PNGs" in capsys.readouterr().err
