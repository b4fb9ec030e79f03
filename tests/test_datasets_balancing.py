"""Groups, joint entropy, even selection, K-means readings, label sources and the manifest of a balanced X."""

import http.server
import itertools
import json
import threading
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import files
from helpers.datasets import balancing, demographics, sources
from helpers.datasets.balancing import allocate, clusters, joint_entropy, select, with_groups, write_manifest
from helpers.weights import store

SHARES = [0.25, 0.07, 0.68]
PUBLISHED = {  # images of FFHQ, (female, male) by age group, counted for each reading of the shared ages
    "younger": [(8448, 5473), (22105, 12899), (6669, 8561), (1166, 4150)],
    "older": [(8448, 5473), (21463, 12051), (7186, 9029), (1291, 4530)],
}


@pytest.fixture(scope="module")
def drawn():
    return with_groups(demographics.drawn_population(SHARES, seed=0))


def entropy_of(people):
    return joint_entropy(people.group.value_counts())


# ---- entropy and allocation


def test_joint_entropy_of_known_cases():
    assert joint_entropy([37] * 24) == pytest.approx(np.log2(24), abs=1e-12)
    assert joint_entropy([37] * 12 + [38] * 12) == pytest.approx(4.584834257362005, abs=1e-12)
    assert joint_entropy([5, 0, 0]) == 0 and joint_entropy([1, 1, 2]) == 1.5


@pytest.mark.parametrize("counts", [[], [0, 0], [1, -1]])
def test_joint_entropy_needs_counts(counts):
    with pytest.raises(ValueError, match="expected counts"):
        joint_entropy(counts)


def test_allocation_is_that_of_the_reference_vectors(shared):
    golden = json.loads((shared / "golden" / "classic" / "balance.json").read_text())
    assert len(golden["cases"]) > 5 and np.log2(24) == pytest.approx(golden["log2_24"])
    for case in golden["cases"]:
        taken = allocate(case["counts"], case["n"])
        assert sorted(taken) == case["allocation_sorted"] and taken.sum() == case["n_selected"]
        assert (taken <= case["counts"]).all()
        assert joint_entropy(taken) == pytest.approx(case["entropy_bits"], abs=1e-9)


def test_no_other_allocation_has_more_entropy():
    rng = np.random.default_rng(0)
    for _ in range(100):
        counts = rng.integers(0, 6, rng.integers(1, 5))
        n = int(rng.integers(1, max(counts.sum(), 1) + 1))
        taken = allocate(counts, n)
        assert taken.sum() == min(n, counts.sum()) and (taken <= counts).all()
        if taken.sum():
            every = itertools.product(*(range(count + 1) for count in counts))
            best = max(joint_entropy(choice) for choice in every if sum(choice) == taken.sum())
            assert joint_entropy(taken) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("n", [0, -3, 2.5, True])
def test_allocation_needs_at_least_one(n):
    with pytest.raises(ValueError, match="expected n of at least 1"):
        allocate([3, 4], n)


@pytest.mark.parametrize("counts", [[1, -1], [0.5, 2.0], [[1, 2]]])
def test_allocation_needs_counts(counts):
    with pytest.raises(ValueError, match="expected a list of counts"):
        allocate(counts, 2)


# ---- groups


def test_both_readings_of_the_shared_ages():
    people = pd.DataFrame({"age": [18, 18.9, 19, 35, 36, 37, 53, 54, 55, 90], "gender": "female"})
    names = {"younger": "m m y y y i i i s s", "older": "m m y y i i i s s s"}
    for reading, letters in names.items():
        found = with_groups(people, reading).age_group
        assert " ".join({"minor": "m", "youth": "y", "middle": "i", "senior": "s"}[name] for name in found) == letters
    assert with_groups(people).group.cat.categories.size == 8


def test_the_groups_are_24_in_a_fixed_order_and_empty_ones_count_zero(drawn):
    names = drawn.group.cat.categories
    assert len(names) == 24 and names[0] == "minor asian female" and names[-1] == "senior white male"
    counts = drawn[drawn.ethnicity != "black"].group.value_counts(sort=False)
    assert len(counts) == 24 and (counts == 0).sum() == 8


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ({"age": [np.nan, 3], "gender": ["male", "male"]}, "expected an age for everyone, got none for 1 of 2"),
        ({"age": [4, 3], "gender": ["male", "m"]}, r"gender: expected one of .* got \['m'\]"),
        ({"age": [4], "gender": ["male"], "ethnicity": ["indian"]}, r"ethnicity: .* got \['indian'\]"),
    ],
)
def test_labels_outside_the_groups_stop(people, message):
    with pytest.raises(ValueError, match=message):
        with_groups(pd.DataFrame(people))
    with pytest.raises(ValueError, match="shared_ages: expected one of"):
        with_groups(pd.DataFrame({"age": [3], "gender": ["male"]}), "both")


# ---- the drawn population


def test_drawn_population_has_the_published_counts(drawn):
    for reading, counts in PUBLISHED.items():
        table = with_groups(drawn.drop(columns="group"), reading)
        table = pd.crosstab(table.age_group, table.gender).loc[list(balancing.LEVELS["age_group"])]
        assert [tuple(line) for line in table.to_numpy()] == counts
    assert len(drawn) == 69471 and drawn.id.str.startswith("drawn_").all() and drawn.id.is_unique
    assert drawn.ethnicity.value_counts(normalize=True).loc[["asian", "black", "white"]].tolist() == pytest.approx(
        SHARES, abs=0.01
    )


def test_drawn_population_depends_on_seed_and_shares_alone():
    same, other = (demographics.drawn_population(SHARES, seed) for seed in (0, 1))
    assert same.equals(demographics.drawn_population(SHARES, 0)) and not same.equals(other)
    assert set(demographics.drawn_population([1, 0, 0]).ethnicity) == {"asian"}


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.5, 0.6, -0.1], [0.5, 0.3, 0.3]])
def test_drawn_population_needs_shares(shares):
    with pytest.raises(ValueError, match="expected three shares"):
        demographics.drawn_population(shares)


# ---- selection


def test_stratified_900_reach_the_bound_and_are_drawn_without_replacement(drawn):
    chosen = select(drawn, drawn.group, 900)
    assert len(chosen) == 900 and chosen.id.is_unique and chosen.id.is_monotonic_increasing
    assert entropy_of(chosen) == pytest.approx(4.584834257362005, abs=1e-12)


def test_selection_ignores_the_order_of_the_table_and_grows_with_n(drawn):
    chosen = select(drawn, drawn.group, 900, seed=3)
    mixed = drawn.sample(frac=1, random_state=1)
    assert list(select(mixed, mixed.group, 900, seed=3).id) == list(chosen.id)
    assert set(select(drawn, drawn.group, 100, seed=3).id) < set(chosen.id)
    assert set(select(drawn, drawn.group, 900, seed=4).id) != set(chosen.id)


def test_more_wanted_than_there_are_takes_everyone(drawn):
    few = drawn.iloc[:50]
    assert set(select(few, few.group, 900).id) == set(few.id)
    with pytest.raises(ValueError, match="expected n of at least 1"):
        select(few, few.group, 0)


def test_every_member_of_a_group_is_equally_likely():
    people = pd.DataFrame({"id": [f"{k:05d}" for k in range(10)]})
    hits = pd.Series(0, index=people.id)
    for seed in range(1000):
        hits[select(people, np.zeros(10), 3, seed).id] += 1
    assert abs(hits - 300).max() < 5 * np.sqrt(1000 * 0.3 * 0.7)


def test_one_hot_k_means_is_stratified_sampling_and_the_other_readings_are_worse(drawn):
    member = clusters(drawn, "one-hot", seed=1)
    pairs = set(zip(member, drawn.group, strict=True))
    assert len(pairs) == 24 == len(set(member))  # each group one cluster, each cluster one group
    bits = {name: entropy_of(select(drawn, clusters(drawn, name, seed=1), 900)) for name in balancing.READINGS}
    assert bits["one-hot"] == pytest.approx(4.584834257362005, abs=1e-12)
    assert 3.9 < bits["age and codes"] < 4.15
    assert 4.3 < bits["z-age, one-hot"] < 4.5 and 4.3 < bits["all z-scores"] < 4.5
    assert entropy_of(drawn) == pytest.approx(3.82, abs=0.02)


def test_clusters_repeat_and_need_a_known_reading(drawn):
    few = drawn.iloc[:500]
    assert (clusters(few, "all z-scores", 5, 2) == clusters(few, "all z-scores", 5, 2)).all()
    assert len(set(clusters(few, "one-hot", 24))) <= 24  # fewer points than clusters
    with pytest.raises(ValueError, match="reading: expected one of"):
        clusters(few, "deep features")


# ---- tables and the JSON files


def face(age, gender, left=32, top=32):
    box = {"top": top, "left": left, "width": 64, "height": 64}
    return {"faceRectangle": box, "faceAttributes": {"age": age, "gender": gender, "smile": 0.1}}


@pytest.fixture
def folder(tmp_path):
    """Made-up files in the layout of the ffhq-features-dataset."""
    files = {
        "00000": [face(3.0, "female")],
        "00001": [],
        "00002": [face(80.0, "male", left=0), face(30.0, "female", left=31)],  # the second is in the middle
        "00003": [face(54.0, "Male")],
    }
    path = tmp_path / "ffhq-features-dataset-abc" / "json"
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path.parent


def archived(folder):
    path = folder.parent / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ffhq-features-dataset-abc/package.json", "{}")
        for file in (folder / "json").iterdir():
            archive.write(file, file.relative_to(folder.parent))
    return path


def test_folder_and_archive_of_json_files_read_alike(folder):
    for source in (folder, folder / "json", archived(folder)):
        people, aside = demographics.read_features(source)
        assert people.to_numpy().tolist() == [["00000", 3, "female"], ["00002", 30, "female"], ["00003", 54, "male"]]
        assert aside == [("00001", "no age and gender (no face was found)")]


def test_json_of_another_layout_stops_with_its_name(folder):
    (folder / "json" / "00004.json").write_text('[{"age": 3}]')
    with pytest.raises(ValueError, match="00004.json: expected a list of faces"):
        demographics.read_features(folder)
    (folder / "json" / "00004.json").write_text("[")
    with pytest.raises(ValueError, match="00004.json: expected a list of faces"):
        demographics.read_features(folder)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.csv", "empty", "text.zip"])
def test_no_such_features(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(ValueError, match="expected"):
        demographics.read_features(tmp_path / name)


def test_table_with_missing_labels_and_numbers_for_names(tmp_path):
    table = "number,age,gender\n0,3,female\n1,,\n2,30, Male \n3,4,\n"
    (tmp_path / "a.csv").write_text(table)
    people, aside = demographics.read_features(tmp_path / "a.csv", "number")
    assert people.id.tolist() == ["00000", "00002"] and people.gender.tolist() == ["female", "male"]
    assert [name for name, _ in aside] == ["00001", "00003"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image_id,gender\n1,male\n", r"expected the columns \['age'\]"),
        ("name,age,gender\n1,2,male\n", r"expected the columns \['image_id'\]"),
        ("image_id,age,gender\n1,2,M\n", r"genders \['m'\]"),
        ("image_id,age,gender\n1,old,male\n", r"ages \['old'\]"),
        ("image_id,age,gender\n1,-2,male\n", "ages .*-2"),
        ("image_id,age,gender\n1,2,male\n00001.png,2,male\n", r"expected each id once, got twice: \['00001'\]"),
    ],
)
def test_bad_tables_stop_with_the_reason(tmp_path, table, message):
    (tmp_path / "a.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        demographics.read_features(tmp_path / "a.csv")


def test_ethnicity_comes_from_any_table_and_every_image_without_is_listed(folder, tmp_path):
    people, _ = demographics.read_features(folder)
    (tmp_path / "e.csv").write_text("path,dominant_race\nx/00000.png,Asian\n3,latino hispanic\n9,black\n")
    found, aside = demographics.with_ethnicity(people, tmp_path / "e.csv", "path", "dominant_race")
    assert found[["id", "ethnicity"]].to_numpy().tolist() == [["00000", "asian"]]
    assert aside == [("00002", "no ethnicity label"), ("00003", "ethnicity 'latino hispanic'")]
    with pytest.raises(ValueError, match=r"expected the columns \['race'\]"):
        demographics.with_ethnicity(people, tmp_path / "e.csv", "path", "race")
    (tmp_path / "e.csv").write_text("path,dominant_race\n7,asian\n")
    with pytest.raises(ValueError, match="expected labels of .* got none; .*00000"):
        demographics.with_ethnicity(people, tmp_path / "e.csv", "path", "dominant_race")


# ---- the download


def test_features_are_downloaded_once_and_their_hash_is_recorded(folder, tmp_path, monkeypatch):
    content, asked = archived(folder).read_bytes(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)
    monkeypatch.delenv("IDA_RD_OFFLINE", raising=False)
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    entry = store.WEIGHTS["ffhq_features"]._replace(urls=(f"http://127.0.0.1:{running.server_port}/a.zip",))
    monkeypatch.setitem(store.WEIGHTS, "ffhq_features", entry)
    try:
        path = demographics.fetch_features()
        assert demographics.fetch_features() == path and asked == ["/a.zip"]
    finally:
        running.shutdown()
        running.server_close()
    assert len(demographics.read_features(path)[0]) == 3
    assert (path.parent / f"{path.name}.sha256").read_text() == files.sha256_of(path)


def test_offline_the_message_says_where_to_put_the_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path))
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)
    with pytest.raises(ValueError, match="(?s)9c4c7ef5132d.zip is missing: put it into .*github.com.*switched off"):
        demographics.fetch_features()


# ---- the manifest


def test_manifest_with_images_is_read_back_by_the_data_sets(folder, tmp_path):
    people, _ = demographics.read_features(folder)
    for number, name in enumerate(people.id[:2]):
        (tmp_path / "images" / "00000").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 99, 3)).save(tmp_path / "images" / "00000" / f"{name}.png")
    people, aside = demographics.with_files(people, tmp_path / "images")
    assert aside == [("00003", "no image file")]
    chosen = select(with_groups(people), with_groups(people).group, 900)
    path = write_manifest(with_groups(chosen), tmp_path / "out" / "manifest.csv")
    rows = sources.read_manifest(path)
    assert sources.names(path) == ["00000", "00002"] and set(rows["00002"]) == {
        "file", "sha256", "age_group", "gender", "weight"
    }  # fmt: skip
    assert rows["00002"]["age_group"] == "youth" and len(rows["00002"]["sha256"]) == 64
    assert sources.load(path, "00002").shape == (1, 3, 16, 16)
    (tmp_path / "images" / "00000" / "00002.png").write_bytes(
        (tmp_path / "images" / "00000" / "00000.png").read_bytes()
    )
    with pytest.raises(ValueError, match="expected SHA-256"):
        sources.load(path, "00002")


def test_ids_stay_text(folder, tmp_path):
    """A table read without a type has 1 for "00001", and would name 1.png."""
    chosen = select(
        with_groups(demographics.read_features(folder)[0]), with_groups(demographics.read_features(folder)[0]).group, 9
    )
    path = write_manifest(with_groups(chosen), tmp_path / "manifest.csv")
    assert sources.names(path) == list(chosen.id) and all(len(name) == 5 for name in chosen.id)
    read = with_groups(chosen).assign(id=chosen.id.astype(int))
    with pytest.raises(ValueError, match=r"id: expected text, the name of a file, got \d+ such as \d+;.*dtype"):
        write_manifest(read, tmp_path / "manifest.csv")


def test_images_that_do_not_fit_stop(folder, tmp_path):
    people, _ = demographics.read_features(folder)
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / place / "00000.png")
    for wrong in (tmp_path, folder):
        with pytest.raises(ValueError, match="expected one image for each id"):
            demographics.with_files(people, wrong)


def test_weights_of_the_manifest_let_every_group_count_alike(drawn, tmp_path):
    few = drawn[drawn.ethnicity == "white"].iloc[:400]
    chosen = select(few, few.group, 300)
    rows = sources.read_manifest(write_manifest(chosen, tmp_path / "m.csv"))
    table = pd.DataFrame(rows.values()).astype({"weight": float})
    assert table.weight.mean() == pytest.approx(1, abs=1e-5)
    sums = table.groupby(["age_group", "ethnicity", "gender"]).weight.sum()
    assert len(sums) == chosen.group.nunique() and np.ptp(sums) < 1e-3 and sums.index.is_unique
    assert all(row["file"].startswith("drawn_") and row["sha256"] == "" for row in rows.values())


# ---- real tables


def test_real_ffhq_labels(shared):
    people, aside = demographics.read_features(shared / "data" / "ffhq_features" / "ffhq_features.csv.gz")
    assert len(people) == 69471 and len(aside) == 529
    for reading, counts in PUBLISHED.items():
        grouped = with_groups(people, reading)
        table = pd.crosstab(grouped.age_group, grouped.gender).loc[list(balancing.LEVELS["age_group"])]
        assert [tuple(line) for line in table.to_numpy()] == counts
    grouped = with_groups(people)
    chosen = select(grouped, grouped.group, 900)  # 8 groups of age x gender: ethnicity is not published
    assert sorted(chosen.group.value_counts()) == [112] * 4 + [113] * 4
    # the embedded table of facts is this very table
    facts = pd.read_csv(demographics.COUNTS).set_index("age")
    assert facts.equals(pd.crosstab(people.age.astype(int), people.gender).rename_axis(columns=None)[list(facts)])


def test_real_ffhq_with_a_table_of_ethnicity(shared, tmp_path):
    source = shared / "data" / "ffhq_features" / "ffhq_features.csv.gz"
    people, _ = demographics.read_features(source)
    rng = np.random.default_rng(0)
    races = rng.choice(["asian", "white", "black", "indian"], len(people), p=[0.25, 0.6, 0.07, 0.08])
    pd.DataFrame({"id": people.id, "race": races}).to_csv(tmp_path / "race.csv", index=False)
    found, aside = demographics.with_ethnicity(people, tmp_path / "race.csv", "id", "race")
    assert len(aside) == (races == "indian").sum()
    grouped = with_groups(found)
    assert entropy_of(select(grouped, grouped.group, 888)) == pytest.approx(np.log2(24), abs=1e-12)


def test_real_utkface_evaluation_set_is_balanced_and_the_rest_can_be(shared):
    path = shared / "data" / "faces_utkface" / "labels.csv"
    labels = pd.read_csv(path)
    people, _ = demographics.read_features(path, "file")
    people, aside = demographics.with_ethnicity(people, path, "file", "race")
    assert {reason for _, reason in aside} == {"ethnicity 'indian'", "ethnicity 'others'"}
    grouped = with_groups(people)
    stems = labels.file.map(lambda file: file.rsplit(".", 1)[0])
    assert grouped.set_index("id").age_group.equals(labels.set_index(stems).age_group.loc[grouped.id].rename_axis("id"))
    evaluation = grouped[grouped.id.isin(stems[labels.split == "eval"])]
    assert (evaluation.group.value_counts() == 40).all() and len(evaluation) == 960
    assert entropy_of(select(grouped, grouped.group, 900)) == pytest.approx(4.584834257362005, abs=1e-12)
    assert entropy_of(grouped) < 4.4
