"""The tool behind the rows of photographs that are not shipped: it finds, checks, cuts, scores and goes on."""

import hashlib
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import results
from helpers.images import write_rgb
from tools import publish_rows

SIDE = 32


@pytest.fixture
def pictures(tmp_path):
    """Three pictures, one in a folder below, one in an archive, one under the name of another; and their manifest."""
    (tmp_path / "in" / "below").mkdir(parents=True)
    levels = np.random.default_rng(0).integers(0, 256, (3, SIDE + 6, SIDE + 10, 3), dtype=np.uint8)
    for each, name in zip(levels, "abc", strict=True):
        Image.fromarray(each).save(tmp_path / f"{name}.png")
    lines = [("some", "zoo", f"{name}.png", hashlib.sha256((tmp_path / f"{name}.png").read_bytes()).hexdigest(), SIDE)
             for name in "abc"]  # fmt: skip
    table = pd.DataFrame(lines, columns=["set", "collection", "file", "sha256", "side"])
    table.to_csv(tmp_path / "list.csv", index=False)
    (tmp_path / "a.png").rename(tmp_path / "in" / "below" / "a.png")
    with zipfile.ZipFile(tmp_path / "in" / "more.zip", "w") as archive:
        archive.write(tmp_path / "b.png", "faces/b.png")
    (tmp_path / "in" / "c.png").write_bytes((tmp_path / "b.png").read_bytes())
    return tmp_path, table, levels


def test_pictures_are_found_at_any_depth_checked_and_cut_at_the_centre(pictures):
    folder, table, levels = pictures
    with pytest.raises(ValueError, match=r"lacks 1: c.png"):
        publish_rows.prepare(table, folder / "in", folder / "out")
    (folder / "c.png").rename(folder / "in" / "c.png")
    assert publish_rows.prepare(table, folder / "in", folder / "out") == ["zoo_a", "zoo_b", "zoo_c"]
    for each, name in zip(levels, "abc", strict=True):
        cut = np.asarray(Image.open(folder / "out" / f"zoo_{name}.png"))
        assert (cut == each[3 : 3 + SIDE, 5 : 5 + SIDE]).all()
    assert publish_rows.prepare(table, folder / "nowhere", folder / "out") == ["zoo_a", "zoo_b", "zoo_c"]  # all there


def test_a_picture_smaller_than_its_crop_and_an_unknown_set_are_refused(pictures):
    folder, table, _ = pictures
    with pytest.raises(ValueError, match="at least 64x64 pixels, got 42x38"):
        publish_rows.prepare(table.assign(side=64), folder / "in", folder / "out")
    with pytest.raises(ValueError, match="expected one of some, got 'others'"):
        publish_rows.manifest("others", folder / "list.csv")


def test_rows_are_those_of_the_set_and_a_second_call_computes_none(pictures, capsys):
    folder, _, _ = pictures
    (folder / "c.png").rename(folder / "in" / "c.png")
    asked = ["--data", f"{folder}/in", "--manifest", f"{folder}/list.csv", "--set", "some", "--output", f"{folder}/o"]
    asked += ["--images", "1", "--distortions", "mse", "mse_of_mean"]
    publish_rows.main(asked)
    local = folder / "o" / "evidence_some_x4" / "local.csv"
    before = local.read_bytes()
    publish_rows.main(asked)
    assert local.read_bytes() == before and "80 rows of 1 images" in capsys.readouterr().out
    rows = results.read(local.parent)
    assert set(rows.downscaler) == set(publish_rows.METHODS) and set(rows.dataset) == {"evidence_some"}
    publish_rows.main([*asked, "--upscalers"])
    rows = results.read(folder / "o" / "evidence_some_x4_upscalers")
    assert set(zip(rows.upscaler, rows.heat, strict=True)) == set(publish_rows.OTHERS[4])
    assert set(rows.distortion) == {"mse"} and set(rows["sample"]) == {0}


def test_rescalers_are_read_by_the_public_by_their_own_decoder_and_by_nobody():
    found = publish_rows.of_rescalers(("evidence_some", "folder"), ["a"], 2, ["irn", "sain"])
    readers = {each.upscaler: each for each in found}
    assert list(readers) == ["embedded_flow", "bicubic", "irn", "sain"]
    everyone = [*publish_rows.FILTERS[2], "irn", "sain"]
    assert readers["embedded_flow"].downscalers == readers["bicubic"].downscalers == everyone
    assert (readers["irn"].downscalers, readers["irn"].n_samples, readers["sain"].n_samples) == (["irn"], 1, 5)
    assert "mse_of_mean" in readers["sain"].metrics and "mse_of_mean" not in readers["irn"].metrics


def test_twins_draw_where_they_are_stochastic_and_answer_once_where_not():
    found = publish_rows.of_twins(("evidence_some", "folder"), ["a"])
    assert [each.upscaler for each in found] == list(publish_rows.TWINS)
    assert [each.n_samples for each in found] == [1, 1, 5, 5] and {each.scale for each in found} == {4}
    assert all(each.downscalers == publish_rows.METHODS and "mse_of_mean" in each.metrics for each in found)


def test_the_manifest_holds_as_many_distinct_photographs_as_it_says():
    table = pd.read_csv(publish_rows.MANIFEST)
    counts = {
        "photographs": {"bsd100": 100, "kodak": 12, "urban100": 24},
        "faces": {"utkface": 96},
        "ffhq": {"ffhq": 12},
    }
    assert {name: part.collection.value_counts().to_dict() for name, part in table.groupby("set")} == counts
    assert table.sha256.is_unique and table.sha256.str.fullmatch("[0-9a-f]{64}").all()


def test_flows_are_measured_side_by_side_and_a_stopped_call_goes_on(tmp_path, monkeypatch):
    def draws(network, name, hr):
        asked.append((network, name, hr.shape[-1]))
        if len(asked) == stop:
            raise KeyboardInterrupt
        return {"lpips_1": len(asked) + 0.12345678, "speckle": 0.5}

    monkeypatch.setattr(publish_rows.cards, "draws", draws)
    monkeypatch.setattr(publish_rows.upscalers, "load_compact_flow", lambda scale, variant: f"x{scale} {variant}")
    names = [f"{part}_{k:02d}" for part in ("kodak", "bsd100") for k in range(publish_rows.MOST + 1)]
    for name in names:
        write_rgb(torch.zeros(1, 3, 8, 8), tmp_path / f"{name}.png")
    asked, stop = [], 4
    with pytest.raises(KeyboardInterrupt):
        publish_rows.flow_draws(8, tmp_path, names, tmp_path / "flows.csv")
    assert asked[:3] == [("x8 first", "bsd100_00", 8), ("x8 ", "bsd100_00", 8), ("x8 first", "bsd100_01", 8)]
    stop = 0
    found = publish_rows.flow_draws(8, tmp_path, names, tmp_path / "flows.csv")
    assert len(found) == 2 * (2 * publish_rows.MOST + 10) == len(asked) - 1  # that which was interrupted, once more
    assert found.groupby("flow")["set"].value_counts()["x8_first"].to_dict() == {
        "kodak": 12,
        "bsd100": 12,
        "library": 10,
    }
    assert found.photograph[found["set"] == "library"].nunique() == 10 and found.lpips_1[0] == 1.123457
    again = publish_rows.flow_draws(8, tmp_path, names, tmp_path / "flows.csv")
    assert again.equals(found) and len(asked) == len(found) + 1
