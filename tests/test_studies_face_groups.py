"""Groups of faces: labels from names and tables, turns, and readouts that have not seen what they read."""

import itertools

import pandas as pd
import pytest
import torch

from helpers import distortions, results, runs
from helpers.images import write_rgb
from helpers.iqa import kid
from helpers.runtime import seeded
from helpers.studies import face_groups


def test_labels_come_from_names_as_utkface_has_them():
    table = face_groups.labels(["18_0_0_1", "19_1_1_2", "36_0_2_3", "37_0_3_4", "54_1_4_5", "55_1_0_6"])
    assert list(table.age_group) == ["minor", "youth", "youth", "middle", "middle", "senior"]
    assert list(table.gender) == ["male", "female", "male", "male", "female", "female"]
    assert list(table.race) == ["White", "Black", "Asian", "Indian", "Others", "White"]
    assert face_groups.labels(["utkface_18_0_0_1"]).to_numpy().tolist() == table.iloc[:1].to_numpy().tolist()
    with pytest.raises(ValueError, match="age_gender_race_date.*got 'portrait'"):
        face_groups.labels(["portrait"])
    with pytest.raises(ValueError, match="got '20_1_9_1'"):
        face_groups.labels(["20_1_9_1"])


def test_labels_come_from_a_table(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file,race,gender,age_group\nb.jpg,Black,male,minor\na.v1.png,White,female,senior\n")
    table = face_groups.labels(["a.v1", "b"], str(path))
    assert table.to_numpy().tolist() == [["White", "female", "senior"], ["Black", "male", "minor"]]
    with pytest.raises(ValueError, match="got none for 1: .'c'"):
        face_groups.labels(["a.v1", "c"], str(path))
    path.write_text("file,race\na,White\n")
    with pytest.raises(ValueError, match="none named .'age_group', 'gender'"):
        face_groups.labels(["a"], str(path))


def test_groups_take_turns():
    groups = list(itertools.product((10, 20, 40, 60), (0, 1), (0, 1, 2)))
    names = [f"{age}_{gender}_{race}_{k}" for age, gender, race in groups for k in range(3)]
    table = face_groups.labels(names)
    chosen = face_groups.balance(table, 48)
    assert len(set(chosen)) == 48
    for part in (chosen[:24], chosen[24:]):
        assert (table.loc[part].groupby(list(face_groups.ATTRIBUTES)).size() == 1).all()
    with pytest.raises(ValueError, match="expected 1 to 72 faces, got 73"):
        face_groups.balance(table, 73)


def faces(count: int) -> tuple[list[str], torch.Tensor, pd.DataFrame]:
    """Names, and features of which the first says the race and the second the gender; the rest is noise."""
    names = [f"{20 + k % 40}_{k % 2}_{k % 3}_{k}" for k in range(count)]
    table = face_groups.labels(names)
    features = torch.randn(count, 256, generator=seeded("faces"), dtype=torch.float64)
    features[:, 0] = torch.tensor(table.race.map({"White": -10.0, "Black": 0.0, "Asian": 10.0}).to_numpy())
    features[:, 1] = torch.tensor(table.gender.map({"male": -10.0, "female": 10.0}).to_numpy())
    return names, features, table


def test_readouts_read_what_the_features_say_and_nothing_that_they_do_not():
    names, features, table = faces(600)
    fitted = face_groups.readouts(names, features, table)
    found = fitted.read(names, features)
    assert (found.gender == table.gender).mean() > 0.95
    far = table.race != "Black"  # the middle one of three on a line is no linear readout's
    assert (found.race == table.race)[far].mean() > 0.75
    other = features.clone()
    other[:, 1] = -other[:, 1]
    assert (fitted.read(names, other).gender != table.gender).mean() > 0.95
    noise = table.assign(
        gender=[["male", "female"][int(torch.randint(2, (), generator=seeded(k)))] for k in range(600)]
    )
    chance = face_groups.readouts(names, features, noise).read(names, features).gender
    assert 0.35 < (chance == noise.gender).mean() < 0.65  # it has not seen the face that it reads


def test_readouts_need_a_face_for_each_fold():
    names, features, table = faces(6)
    with pytest.raises(ValueError, match="at least 10 faces, one a fold, got 6"):
        face_groups.readouts(names, features, table)


def test_what_faces_and_answers_look_like_is_kept_as_rows(tmp_path, monkeypatch):
    folder, generator = tmp_path / "faces", seeded("pictures")
    folder.mkdir()
    for k in range(24):
        write_rgb(torch.rand(1, 3, 32, 32, generator=generator), folder / f"{10 + 2 * k}_{k % 2}_{k % 3}_{k}.png")
    table = face_groups.labels(sorted(path.stem for path in folder.iterdir()))
    monkeypatch.setattr(kid, "features", lambda images: images[:, :, ::4, ::4].flatten(1).double()[:, :192])
    chosen = face_groups.balance(table, 5)
    experiment = runs.Experiment(str(folder), chosen, ["nearest", "bicubic"], 8, "bicubic", heat=0.0, device="cpu")
    rows = face_groups.seen_as(experiment, [("bicubic", 0.0), ("embedded_flow", 1.0)], table, str(tmp_path / "rows"))
    groups = sum(table[each].nunique() for each in face_groups.ATTRIBUTES)
    assert len(rows) == 5 * 3 * groups and set(rows.upscaler) == {"none", "bicubic", "embedded_flow"}
    assert set(rows.downscaler) == {"nearest"} and set(rows.metric) == {face_groups.METHOD}
    part = rows[rows.distortion.str.startswith("seen_as race=")].groupby(["image", "upscaler"]).value.sum()
    assert (part == 1).all()  # each is seen as one of them
    shares = face_groups.confusion(rows, table, "race")
    assert set(shares) == {"none", "bicubic", "embedded_flow"}
    assert all(each.sum(axis=1).to_numpy() == pytest.approx(1) for each in shares.values())

    # the rows are there now: nothing is computed, and no weights are needed
    monkeypatch.setattr(kid, "features", lambda images: 1 / 0)
    again = face_groups.seen_as(experiment, [("bicubic", 0.0), ("embedded_flow", 1.0)], table, str(tmp_path / "rows"))
    assert again.equals(rows) and len(results.read(tmp_path / "rows")) == len(rows)


def test_controls_are_read_by_what_was_fitted_to_other_faces(tmp_path, monkeypatch):
    folders, generator = {}, seeded("pictures")
    for name, races in (("read", 2), ("fitted", 5)):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        for k in range(20):
            picture = torch.rand(1, 3, 64, 64, generator=generator)
            write_rgb(picture, folders[name] / f"{10 + 2 * k}_{k % 2}_{k % races}_{k}.png")
    read, other = (face_groups.labels(sorted(path.stem for path in each.iterdir())) for each in folders.values())
    monkeypatch.setattr(kid, "features", lambda images: images[:, :, ::8, ::8].flatten(1).double())
    chosen = face_groups.balance(read, 4)
    experiment = runs.Experiment(str(folders["read"]), chosen, ["bicubic"], 8, "bicubic", heat=0.0, device="cpu")
    f_us = [("bicubic", 0.0), (f"bicubic + {face_groups.LIKE_FACE}", 0.0), (face_groups.FLAT, 0.0)]
    f_us += [(face_groups.SAMPLES, 1.0), (face_groups.STARTS, 1.0)]
    rows = face_groups.seen_as(experiment, f_us, read, str(tmp_path / "rows"), others=(str(folders["fitted"]), other))
    assert set(rows.upscaler) == {"none", *(name for name, _ in f_us)}
    assert "20 other faces" in rows.metric.iloc[0]
    every = face_groups.classes(rows, "race")
    assert list(every) == sorted(face_groups.RACES) and every.sum(axis=1).to_numpy() == pytest.approx(1)
    table = face_groups.share_table(rows, "race=White", {"all": chosen})
    assert len(table) == 6 and set(table.n) == {4}
    right = face_groups.read_right(rows, read, "race")
    assert list(right.index) == sorted(chosen) and right.isin([0, 1]).all()


def test_an_answer_takes_the_mean_and_the_spread_of_the_face():
    images, faces_ = torch.rand(2, 3, 8, 8, generator=seeded("a")), 0.3 + 0.4 * torch.rand(2, 3, 8, 8)
    like = face_groups.like_contrast(images, faces_)
    torch.testing.assert_close(like.mean((2, 3)), faces_.mean((2, 3)), atol=0.01, rtol=0)
    torch.testing.assert_close(like.std((2, 3)), faces_.std((2, 3)), atol=0.01, rtol=0)


def test_the_readout_names_the_features_it_reads(monkeypatch):
    assert kid.FEATURES in face_groups.METHOD
    if distortions.available("lpips"):
        pytest.skip("needs the AlexNet trunk")
    images = torch.rand(12, 3, 32, 32, generator=seeded("images"))
    names = [f"20_{k % 2}_{k % 3}_{k}" for k in range(12)]
    table = face_groups.labels(names)
    found = face_groups.readouts(names, kid.features(images), table, folds=3).read(names, kid.features(images))
    assert list(found.index) == names and set(found.gender) <= {"male", "female"}
