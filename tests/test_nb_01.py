"""The notebook on the balanced set of faces: drawn people by default, real labels and rows by parameters."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import results
from helpers.datasets import sources
from helpers.datasets.balancing import LEVELS
from tests.notebook import printed, run, up_to

NAME = "01_dataset_balancing"
ROWS = Path(__file__).parents[1] / "data" / "results" / "evidence_faces_x8.csv.gz"
TINY = {"n_images": 100, "n_seeds": 2, "n_simulated": 3}
FIGURES = {"01_groups", "01_joint_entropy", "01_poststratification", "01_group_scores", "01_composition"}


def files(folder):
    return {path.name for path in folder.iterdir()}


def test_drawn_people_give_a_marked_manifest_and_all_figures(tmp_path):
    notebook = run(NAME, tmp_path, TINY)
    text = printed(notebook)
    assert "69471 people (DRAWN, they do not exist" in text and "100 of 100 images wanted, shortfall 0" in text
    assert files(tmp_path / "figures") == {f"{name}.{kind}" for name in FIGURES for kind in ("pdf", "png")}
    assert files(tmp_path / "rows") == {
        "drawn_manifest.csv", "joint_entropy.csv", "simulation.csv", "group_scores.csv"
    }  # fmt: skip
    rows = sources.read_manifest(tmp_path / "rows" / "drawn_manifest.csv")
    assert len(rows) == 100 and all(name.startswith("drawn_") for name in rows)
    counts = pd.DataFrame(rows.values()).groupby(list(LEVELS)).size()
    assert len(counts) == 24 and set(counts) == {4, 5}
    bits = pd.read_csv(tmp_path / "rows" / "joint_entropy.csv", index_col="method")["mean"]
    assert bits["stratified"] == bits["K-means, one-hot"] == bits["best possible, n = 100"] < bits["log2 24"]
    assert bits["random"] < bits["K-means, age and codes"] < bits["stratified"]


def test_labels_images_and_rows_of_the_reader(tmp_path):
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"image_id": [f"{k:05d}" for k in range(300)], "age": rng.integers(0, 73, 300)})
    people["gender"] = rng.choice(LEVELS["gender"], 300)
    people.loc[7, ["age", "gender"]] = np.nan
    people.to_csv(tmp_path / "features.csv", index=False)
    races = rng.choice([*LEVELS["ethnicity"], "indian"], 300, p=[0.2, 0.1, 0.6, 0.1])
    pd.DataFrame({"id": range(300), "race": races}).to_csv(tmp_path / "races.csv", index=False)
    (tmp_path / "images").mkdir()
    for name in people.image_id[:250]:
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"{name}.png")
    rows = results.read(ROWS).query("distortion == 'mse' and sample == 0")
    faces = list(rows.image.unique())
    labels = "file,age_group,gender\n" + "".join(
        f"{name}.png,{('minor', 'senior')[k % 2]},{('female', 'male')[k % 3 == 0]}\n" for k, name in enumerate(faces)
    )
    (tmp_path / "labels.csv").write_text(labels)
    _, text = up_to(
        NAME, "", tmp_path, TINY, n_images=2000, features=str(tmp_path / "features.csv"),
        ethnicity=str(tmp_path / "races.csv"), ethnicity_id_column="id", ethnicity_column="race",
        images=str(tmp_path / "images"), labels=str(tmp_path / "labels.csv"), group_by=["age_group", "gender"],
        rows_distortion="mse", rows_query="sample == 0",
    )  # fmt: skip
    assert "real labels" in text and "shortfall" in text and "set aside: 1 images, no age and gender" in text
    assert (
        "images, ethnicity 'indian'" in text and "images, no image file" in text and "groups that cannot give" in text
    )
    assert "DRAWN" not in text
    manifest = tmp_path / "rows" / "manifest.csv"
    rows = sources.read_manifest(manifest)
    assert sources.load(manifest, next(iter(rows))).shape == (1, 3, 8, 8)
    assert len(rows) == sum(race != "indian" for k, race in enumerate(races[:250]) if k != 7)
    scores = pd.read_csv(tmp_path / "rows" / "group_scores.csv")
    assert set(scores.group) == {"minor female", "minor male", "senior female", "senior male"}


def test_json_files_without_a_table_of_ethnicity_give_eight_groups(tmp_path):
    folder = tmp_path / "ffhq-features-dataset" / "json"
    folder.mkdir(parents=True)
    box = {"top": 32, "left": 32, "width": 64, "height": 64}
    for k in range(160):
        labels = {"age": float(k % 73), "gender": ("female", "male")[k // 2 % 2]}
        content = [] if k == 3 else [{"faceRectangle": box, "faceAttributes": labels}]
        (folder / f"{k:05d}.json").write_text(json.dumps(content))
    _, text = up_to(NAME, "write_manifest(", tmp_path, TINY, n_images=24, features=str(folder.parent))
    assert "159 people (real labels); labels: age_group, gender" in text
    table = pd.DataFrame(sources.read_manifest(tmp_path / "rows" / "manifest.csv").values())
    assert (table.groupby(["age_group", "gender"]).size() == 3).all() and "ethnicity" not in table


def test_drawn_people_have_no_real_ethnicity(tmp_path):
    (tmp_path / "races.csv").write_text("image_id,ethnicity\n00001,asian\n")
    with pytest.raises(ValueError, match="expected labels of"):
        up_to(NAME, "with_ethnicity", tmp_path, TINY, ethnicity=str(tmp_path / "races.csv"))


def test_groups_that_the_people_do_not_have_are_refused(tmp_path):
    with pytest.raises(ValueError, match="group_by: expected labels of ethnicity, gender, age_group, got city"):
        up_to(NAME, "group_by) - set(known)", tmp_path, TINY, group_by=["city"])
