"""Published rows read by setting, rankings compared within one D, and stand-ins for camera images."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from helpers import datasets, notebook, results, runs
from helpers.images import read_rgb
from helpers.stats import claims, findings
from helpers.studies import evidence, evidence_plots, stand_ins
from tests.notebook import cells

NAMES = ["bilinear", "bicubic", "dpid", "l0", "perceptual", "nearest", "box"]


def rows(order=NAMES, dataset="set", distortion="mse", upscaler="embedded_flow", images=8, heat=1.0) -> pd.DataFrame:
    """One draw an image, each downscaler a tenth worse than the one before in `order`."""
    rng = np.random.default_rng(0)
    lines = [
        {"dataset": dataset, "image": f"{dataset}{image}", "group": "", "downscaler": name, "sample": 0, "heat": heat}
        | {"distortion": distortion, "value": 1 + place / 10 + 0.01 * rng.random(), "upscaler": upscaler, "scale": 4}
        for image in range(images) for place, name in enumerate(order)
    ]  # fmt: skip
    return pd.DataFrame(lines)


def test_settings_are_read_in_order_and_a_folder_without_them_is_refused(tmp_path):
    plain = {"degradation": "", "level": None, "where": "", "seed": 0, "height": 8, "width": 8, "weights": "w"}
    plain |= {"residual": None, "converged": None, "hr": "a", "lr": "b", "clipped": 0.0, "seconds": None}
    plain |= {"lr_bits": None, "metric": "m", "device": "cpu", "version": "1"}
    results.append(rows().assign(**plain).to_dict("records"), tmp_path / "rows")
    for name in ("faces_x8", "photographs_x4", "photographs_x4_upscalers"):
        results.publish(tmp_path / "rows", tmp_path / f"evidence_{name}.csv.gz")
    assert list(evidence.read(str(tmp_path))) == ["photographs x4", "faces x8"]
    assert list(evidence.read(str(tmp_path), upscalers=True)) == ["photographs x4"]
    assert evidence.read("") == {}
    with pytest.raises(ValueError, match="expected files such as evidence_photographs_x4.csv.gz"):
        evidence.read(str(tmp_path / "rows"))
    table = evidence.overview(evidence.read(str(tmp_path)))
    assert list(table.photographs) == [8, 8] and set(table["HR pixels"]) == {"8x8"} and set(table.D) == {"mse"}


def test_lpips_comes_first_and_what_ranks_nothing_by_itself_is_left_out():
    several = ["mse_of_mean", "mse", "1-ms_ssim", "lpips", "own@00000000", "lr_mse"]
    table = pd.concat([rows(distortion=d) for d in several])
    assert evidence.distances(table) == ["lpips", "1-ms_ssim", "mse", "own@00000000"]
    assert evidence.distances(table, "own@00000000") == ["own@00000000", "lpips", "1-ms_ssim", "mse"]
    assert set(evidence.of(table, "lpips").distortion) == {"lpips"}


def test_ratios_are_to_one_downscaler_in_each_setting():
    table = evidence.ratios({"a": rows(), "b": rows(["bicubic", "box"])}, ["box", "l0", "bicubic"])
    assert list(zip(table.setting, table.downscaler, strict=True)) == [("a", "box"), ("a", "l0"), ("b", "box")]
    assert table.value.tolist() == pytest.approx([1.6 / 1.1, 1.3 / 1.1, 1.1], rel=0.01)


def test_the_papers_order_gives_tau_one_and_its_reverse_minus_one():
    assert evidence.to_the_paper(rows())["value"] == 1
    reverse = evidence.to_the_paper(rows(NAMES[::-1]))
    assert reverse["value"] == -1 and reverse["swaps"] == reverse["pairs"] == 15
    assert evidence.to_the_paper(rows(["box", "nearest"])) is None


def test_each_change_is_compared_within_one_d():
    by_two = pd.concat([rows(distortion="lpips"), rows(NAMES[::-1], distortion="mse")])
    parts = {"photographs x4": by_two, "photographs x8": by_two, "faces x8": by_two.assign(dataset="faces")}
    found = evidence.agreements(parts, {"faces x8": {"still": rows(distortion="mse", dataset="faces")}})
    assert found["D"].what.unique() == ["mse for lpips"] and set(found["D"].value) == {-1}
    scale = found["scale"]
    assert list(zip(scale.what, scale.setting, scale.D, scale.value, strict=True)) == [
        ("x8 for x4", "photographs", "lpips", 1), ("x8 for x4", "photographs", "mse", 1)]  # fmt: skip
    assert list(zip(found["content"].what, found["content"].setting, strict=True)) == 2 * [
        ("faces for photographs", "x8")
    ]
    assert found["upscaler"][["what", "D", "value"]].to_numpy().tolist() == [["still", "mse", -1]]
    assert found["paper"].groupby(["what", "D"]).value.first().to_dict() == {
        ("the flow", "lpips"): 1, ("the flow", "mse"): -1, ("still", "mse"): 1}  # fmt: skip
    assert evidence.pairs_of_settings(["a x2", "a x4", "b x4"]) == [("a x2", "a x4"), ("a x4", "b x4")]


def test_swapped_pairs_are_counted_and_named_and_open_ones_said_to_be():
    other = ["bicubic", "bilinear", *NAMES[2:]]
    found = evidence.compare(rows(), rows(other))
    assert (found["swaps"], found["pairs"], found["swapped"]) == (1, 21, "bicubic before bilinear")
    assert found["value"] == pytest.approx(1 - 2 / 21) and evidence.compare(rows(), rows())["swapped"] == "none"
    near = rows(other)  # bicubic ahead of bilinear by less than its photographs vary
    near.loc[near.downscaler == "bicubic", "value"] += 0.098
    open_ones = evidence.compare(rows(), near)
    assert open_ones["swapped"] == "bicubic before bilinear (open)" and open_ones["low"] < open_ones["high"]
    assert (found["stated"], found["verdict"]) == (20, findings.CONTRADICTED)
    assert (open_ones["stated"], open_ones["verdict"]) == (20, findings.NOT_SHOWN)
    assert evidence.compare(rows(), rows())["verdict"] == findings.SUPPORTED
    assert evidence.compare(rows(["box"]), rows()) is None


def test_other_photographs_of_the_same_content_are_no_other_content():
    parts = {"photographs x4": rows(), "faces x4": rows(dataset="faces"), "this run x4": rows(dataset="own")}
    found = evidence.agreements(parts, {}, {"this run": "photographs"})
    assert list(found["photographs"].what) == ["this run for photographs"]
    assert list(found["content"].what) == ["faces for photographs", "this run for faces"]
    assert list(evidence.agreements(parts, {})["photographs"].what) == []


def test_alike_forgives_one_swap_of_six_and_two_of_seven():
    for order, swaps, so in ((NAMES[:6], 1, True), (NAMES[:6], 2, False), (NAMES, 2, True), (NAMES, 3, False)):
        other = list(order)
        for k in range(0, 2 * swaps, 2):
            other[k], other[k + 1] = other[k + 1], other[k]
        assert (evidence.compare(rows(order), rows(other))["value"] > findings.ALIKE) == so
    known = next(cell for cell in cells("08_ablations") if "parameters" in cell["metadata"].get("tags", []))
    assert notebook.literals("".join(known["source"]))["alike"] == findings.ALIKE


def test_panels_have_a_row_for_each_scale_and_a_column_for_each_content():
    fig, axes = evidence_plots.panels(["photographs x4", "photographs x8", "faces x8"], (4, 4))
    place = {
        name: (ax.get_subplotspec().rowspan.start, ax.get_subplotspec().colspan.start) for name, ax in axes.items()
    }
    assert place == {"photographs x4": (0, 0), "photographs x8": (1, 0), "faces x8": (1, 1)}
    assert [ax.get_visible() for ax in fig.axes] == [True, False, True, True]
    evidence_plots.legend(fig.axes[0], ["LPIPS", "MSE", "SSIM"], drawn={"LPIPS", "SSIM"})
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["LPIPS", "SSIM"]
    assert legend.legend_handles[1].get_marker() == evidence_plots._MARKERS[2]  # the mark that it has in all figures
    plt.close(fig)


def test_other_upscalers_are_named_with_their_heat():
    both = pd.concat([rows(heat=0.0), rows(upscaler="bicubic", heat=0.0), rows()])
    assert list(evidence.by_upscaler(both)) == ["bicubic, heat 0", "embedded_flow, heat 0", "embedded_flow, heat 1"]
    assert list(evidence.by_upscaler(both, ["bicubic, heat 0"])) == ["bicubic, heat 0"]


def test_dots_and_curves_draw_what_they_are_given():
    table = evidence.ratios({"a": rows(), "b": rows()}, ["box", "l0"])
    fig, (ax, left, right) = plt.subplots(1, 3)
    evidence_plots.dots(ax, table, "downscaler", "setting", order=["l0", "box"], at=1.0, ratio=True)
    marks = [line.get_xdata()[0] for line in ax.lines if line.get_marker() in "os"]
    assert sorted(marks) == pytest.approx(sorted(table.value)) and ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_yticklabels()] == ["l0", "box"]
    line = pd.Series({"mean": 1.0, "s_b2": 4.0, "s_w2": 100.0, "crops": 1.0, "n": 8, "unit": 1.0})
    evidence_plots.errors(left, {"pair": line}, draws=(1, 5))
    ends = [each.get_ydata()[0] for each in left.lines[:2]]
    assert [each.get_marker() for each in left.lines[:2]] == ["o", "None"] and left.lines[1].get_label() == "pair"
    assert ends == pytest.approx([100 * math.sqrt((4 + 100 / q) / 2) for q in (1, 5)])
    evidence_plots.costs(right, {"pair": line}, (0, 1))
    assert (
        all(each.get_ydata().min() == 1 for each in right.lines[:2]) and right.lines[0].get_ydata()[0] == 1
    )  # k = 0: one
    plt.close(fig)
    assert [evidence_plots.name_of(d) for d in ("lpips", "1-ms_ssim")] == ["LPIPS", "1 \N{MINUS SIGN} MS-SSIM"]


def test_stand_ins_are_files_and_a_camera_is_nearest_to_itself(tmp_path):
    folders = {name: tmp_path / name for name in stand_ins.STAND_INS}
    names = datasets.names("photographs", 2, size=64)
    stand_ins.write(folders, "photographs", names, 4, size=64)
    lr = read_rgb(folders["bicubic_shifted"] / f"{names[0]}.png")
    hr = datasets.load("photographs", names[0], size=64, multiple_of=4)
    moved = torch.roll(hr, 1, dims=3)
    assert (lr - stand_ins.bicubic_shifted(hr, 4)).abs().max() < 0.5 / 255 + 1e-6
    assert (lr - stand_ins.adapters.resolve("bicubic")(moved, 4))[..., 2:].abs().max() < 1 / 255
    methods = [
        "nearest",
        "bicubic",
        ("camera", f"folder: {folders['unknown']}"),
        ("twin", f"folder: {folders['unknown']}"),
    ]
    experiment = runs.Experiment(
        dataset="photographs", images=names, downscalers=methods, scale=4, upscaler="bicubic", heat=0.0, size=64
    )
    table = stand_ins.to_camera(experiment, "camera", "mse")
    mean = table.groupby("downscaler").value.mean()
    assert set(mean.index) == {"nearest", "bicubic", "twin"} and mean["twin"] == 0 < mean["bicubic"] < mean["nearest"]
    assert list(table.group.unique()) == [name.rsplit("_", 2)[0] for name in names]
    assert findings.gap(table, "nearest", "twin").value > 0


def test_the_papers_order_is_the_one_that_the_claims_state():
    place = {name: k for k, name in enumerate(evidence.PAPER)}
    for claim in claims.CLAIMS[:5]:
        assert all(place[worse] > place[better] for worse, better in claim.pairs), claim.statement
