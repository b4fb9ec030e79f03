"""Read the labels of faces: age and gender of FFHQ, ethnicity from a table; or draw people from FFHQ's true counts."""

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helpers import weights
from helpers.datasets.balancing import LEVELS
from helpers.files import packaged
from helpers.listing import list_folder
from helpers.runtime import seeded

COUNTS = packaged("manifests") / "ffhq_age_gender.csv"


def drawn_population(shares: Sequence[float], seed: int = 0) -> pd.DataFrame:
    """Make up people with FFHQ's true counts of age and gender, and an ethnicity drawn at random.

    FFHQ has no published ethnicity labels. It is drawn here independently of age and gender, which is an
    assumption. Ids start with "drawn_", so that no file of FFHQ is ever taken for one of them.

    Args:
        shares: of asian, black and white; they add up to 1.
        seed: part of the random key.

    Returns:
        69,471 rows: id, age, gender, ethnicity.

    Raises:
        ValueError: no such shares.
    """
    shares = torch.tensor(shares, dtype=torch.float64)
    if len(shares) != 3 or shares.min() < 0 or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"expected three shares of at least 0 that add up to 1, got {shares.tolist()}")
    table = pd.read_csv(COUNTS).melt("age", var_name="gender", value_name="count")
    people = table.loc[table.index.repeat(table["count"]), ["age", "gender"]]
    generator = seeded(seed, "population")
    people = people.iloc[torch.randperm(len(people), generator=generator).numpy()]
    drawn = torch.multinomial(shares, len(people), replacement=True, generator=generator)
    ids = [f"drawn_{number:05d}" for number in range(len(people))]
    return people.assign(id=ids, ethnicity=np.array(LEVELS["ethnicity"])[drawn.numpy()]).reset_index(drop=True)


def fetch_features() -> Path:
    """Download the archive of the ffhq-features-dataset once, into the cache of `weights`, and compare its hash.

    Raises:
        ValueError: it is not here and cannot be downloaded; says where to put it by hand.
    """
    return weights.fetch("ffhq_features")


def read_features(path: str | Path, id_column: str = "image_id") -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Read ages and genders from a table or from the ffhq-features-dataset.

    Args:
        path: a .csv or .csv.gz with `id_column`, age and gender; the .zip archive of the data set; or its folder
            of JSON files. Of several faces in a file the one nearest to the centre of the picture is taken.
        id_column: name of the file or number of the image, in a table.

    Returns:
        id (the file's stem, numbers with five digits), age and gender of everyone who has both; and the others
        with the reason.

    Raises:
        ValueError: no such file or layout, an id twice, an age that is no number of at least 0, or a gender
            other than female and male.
    """
    path = Path(path)
    if path.name.endswith((".csv", ".csv.gz")):
        people = _table(path, id_column, "age", "gender")
    else:
        people = pd.DataFrame(_faces(path), columns=["id", "age", "gender"])
    gender = people.gender.where(people.gender.notna(), "").astype(str).str.strip().str.lower()
    age = pd.to_numeric(people.age, errors="coerce")
    bad = (age.isna() & people.age.notna() & (people.age != "")) | (age < 0)
    if bad.any() or not set(gender) <= {*LEVELS["gender"], ""}:
        got = f"ages {list(people.age[bad].unique()[:5])}, genders {sorted(set(gender))}"
        raise ValueError(f"{path}: expected ages of at least 0 and genders of {LEVELS['gender']}, got {got}")
    known = age.notna() & (gender != "")
    aside = [(name, "no age and gender (no face was found)") for name in people.id[~known]]
    return people.assign(age=age, gender=gender)[known].reset_index(drop=True), aside


def with_ethnicity(
    people: pd.DataFrame, path: str | Path, id_column: str = "image_id", column: str = "ethnicity"
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Add ethnicity from any table, for example the `dominant_race` of DeepFace.

    Returns:
        Those whose label is one of the three of `LEVELS` (letter case aside); the others with the reason. The
        paper does not say what it did with the other classes of DeepFace; here they are left out.

    Raises:
        ValueError: no such file or column, an id twice, or nobody is left.
    """
    table = _table(Path(path), id_column, column).set_index("id")[column]
    found = people.id.map(table.astype(str).where(table.notna(), "").str.strip().str.lower()).fillna("")
    kept = found.isin(LEVELS["ethnicity"])
    reasons = ("no ethnicity label" if not label else f"ethnicity {label!r}" for label in found[~kept])
    aside = list(zip(people.id[~kept], reasons, strict=True))
    if not kept.any():
        raise ValueError(f"{path}: expected labels of {LEVELS['ethnicity']} for these ids, got none; {aside[:3]} ...")
    return people.assign(ethnicity=found)[kept].reset_index(drop=True), aside


def with_files(people: pd.DataFrame, folder: str | Path) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Add `path`, the image of each person anywhere below `folder`, by stem; those without one are set aside.

    Raises:
        ValueError: two images of one stem, or none for any of these people.
    """
    files = list_folder(folder, below=True)[0]
    found = pd.Series(files, index=[_id(file) for file in files], dtype=object)
    if found.index.has_duplicates or not set(found.index) & set(people.id):
        twice = list(found.index[found.index.duplicated()][:3])
        raise ValueError(f"{folder}: expected one image for each id, got {len(files)} images, twice: {twice}")
    kept = people.id.isin(found.index)
    aside = [(name, "no image file") for name in people.id[~kept]]
    return people[kept].assign(path=people.id[kept].map(found)).reset_index(drop=True), aside


def _id(file: object) -> str:
    stem = Path(str(file).strip()).stem
    return stem.zfill(5) if stem.isdigit() else stem  # tables written by pandas lose the leading zeros


def _table(path: Path, id_column: str, *columns: str) -> pd.DataFrame:
    """The columns of a CSV, the first as `id`."""
    if not path.is_file():
        raise ValueError(f"{path}: expected a table (.csv, .csv.gz), found no such file")
    table = pd.read_csv(path, dtype={id_column: str}, low_memory=False)
    if absent := [name for name in (id_column, *columns) if name not in table]:
        raise ValueError(f"{path}: expected the columns {absent}, got {list(table)}")
    table = table.assign(id=table[id_column].map(_id))[["id", *columns]]
    if table.id.duplicated().any():
        raise ValueError(f"{path}: expected each id once, got twice: {list(table.id[table.id.duplicated()][:3])}")
    return table


def _faces(path: Path) -> Iterator[tuple[str, float | None, str | None]]:
    """Id, age and gender of each JSON file of the ffhq-features-dataset."""
    empty = True
    for name, text in _texts(path):
        empty = False
        try:
            faces = json.loads(text)
            face = min(faces, key=_off_centre)["faceAttributes"] if faces else {"age": None, "gender": None}
            yield _id(name), face["age"], face["gender"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: {name}: expected a list of faces, got {type(error).__name__}") from error
    if empty:
        raise ValueError(f"{path}: expected JSON files, found none")


def _texts(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted((path / "json" if (path / "json").is_dir() else path).glob("*.json")):
            yield file.name, file.read_bytes()
    elif path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if Path(name).suffix == ".json" and Path(name).parent.name == "json":
                    yield Path(name).name, archive.read(name)
    else:
        raise ValueError(f"{path}: expected a .csv, .csv.gz, .zip or a folder of JSON files, found none of them")


def _off_centre(face: dict) -> float:
    """Squared distance of the rectangle's centre to that of the 128x128 thumbnail."""
    box = face["faceRectangle"]
    return (box["left"] + box["width"] / 2 - 64) ** 2 + (box["top"] + box["height"] / 2 - 64) ** 2
