"""Select people evenly over groups of age x ethnicity x gender, and write the selection as a manifest.

Liang et al. (CVPR 2024), supplement Sec. 4. The labels are guesses of machines: they balance a benchmark and describe
nobody. People are rows of a table with the columns `id`, `age`, `gender` and, where it is known, `ethnicity`.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans

from helpers.files import replace, sha256_of
from helpers.runtime import seeded

LEVELS = {
    "age_group": ("minor", "youth", "middle", "senior"),
    "ethnicity": ("asian", "black", "white"),
    "gender": ("female", "male"),
}
# First age of youth, middle and senior. The paper writes 0-18, 19-36, 36-54, 54+: 36 and 54 are in two groups.
FIRST_AGES = {"younger": (19, 37, 55), "older": (19, 36, 54)}
READINGS = ("one-hot", "age and codes", "z-age, one-hot", "all z-scores")  # of "K-means with 24 clusters"


def with_groups(people: pd.DataFrame, shared_ages: str = "younger") -> pd.DataFrame:
    """Add two columns: `age_group`, and `group`, which names the cell of age group x ethnicity x gender.

    Args:
        people: at least `age` (years) and `gender`; `ethnicity` if known.
        shared_ages: which group takes 36 and 54, ages that the paper puts into two: "younger" or "older".

    Returns:
        A copy; `group` is a categorical of all cells, 24 with ethnicity and 8 without, empty ones included.

    Raises:
        ValueError: unknown `shared_ages`, an age is missing, or a label is outside `LEVELS`.
    """
    if shared_ages not in FIRST_AGES:
        raise ValueError(f"shared_ages: expected one of {list(FIRST_AGES)}, got {shared_ages!r}")
    if people.age.isna().any():
        raise ValueError(f"expected an age for everyone, got none for {people.age.isna().sum()} of {len(people)}")
    place = np.searchsorted(FIRST_AGES[shared_ages], people.age, side="right")
    people = people.assign(age_group=np.array(LEVELS["age_group"])[place])
    names = pd.MultiIndex.from_product([LEVELS[label] for label in labels_of(people)]).map(" ".join)
    for label in labels_of(people):
        if unknown := set(people[label]) - set(LEVELS[label]):
            raise ValueError(f"{label}: expected one of {LEVELS[label]}, got {sorted(map(str, unknown))}")
    texts = [people[label] for label in labels_of(people)]
    return people.assign(group=pd.Categorical(texts[0].str.cat(texts[1:], sep=" "), categories=names))


def labels_of(people: pd.DataFrame) -> list[str]:
    """The columns of `LEVELS` that the table has, in that order."""
    return [label for label in LEVELS if label in people]


def joint_entropy(counts: Sequence[int]) -> float:
    """H = - sum_g p_g log2 p_g with p_g = counts_g / sum, in bits; empty groups add nothing.

    Raises:
        ValueError: a count below 0, or all are 0.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if (counts < 0).any() or counts.sum() <= 0:
        raise ValueError(f"expected counts of at least 0, not all 0, got {counts.tolist()}")
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # no minus zero


def allocate(counts: Sequence[int], n: int) -> np.ndarray:
    """Divide `n` over the groups so that the joint entropy is as large as their sizes allow.

    Water-filling: min(count, t) with the largest t whose sum is at most n, then one more from the first groups
    that still have some. Entropy is Schur-concave, so no other choice of n has more.

    Args:
        counts: members of each group.
        n: number wanted.

    Returns:
        Integers, shape of `counts`; all of `counts` where they are no more than n.

    Raises:
        ValueError: n below 1, or counts that are no integers of at least 0.
    """
    counts = np.asarray(counts)
    if isinstance(n, bool) or n != int(n) or n < 1:
        raise ValueError(f"expected n of at least 1, got {n!r}")
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError(f"expected a list of counts of at least 0, got {counts.tolist()}")
    low, high = 0, int(n)
    while low < high:  # t by bisection
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(counts, middle).sum() <= n else (low, middle - 1)
    taken = np.minimum(counts, low)
    taken[np.flatnonzero(counts > low)[: int(n) - taken.sum()]] += 1
    return taken


def select(people: pd.DataFrame, groups: Sequence, n: int, seed: int = 0) -> pd.DataFrame:
    """Draw `n` people as evenly over `groups` as their sizes allow, without replacement.

    The draw of a group depends on `seed`, its name and its sorted ids alone, and its first members stay when n
    grows: the 100 of n = 100 are among the 900 of n = 900.

    Args:
        people: with `id`.
        groups: one for each person: the cells of `with_groups`, or the numbers of `clusters`.
        n: number wanted; everyone is taken where there are no more.
        seed: part of the random key.

    Returns:
        The chosen rows, sorted by id.

    Raises:
        ValueError: as `allocate`.
    """
    people = people.assign(_group=np.asarray(groups).astype(str)).sort_values("id")
    places = dict(sorted(people.groupby("_group").indices.items()))
    wanted = allocate([len(place) for place in places.values()], n)
    chosen = []
    for (name, place), count in zip(places.items(), wanted, strict=True):
        order = torch.randperm(len(place), generator=seeded(seed, "select", name))
        chosen.append(place[order[:count].numpy()])
    return people.drop(columns="_group").iloc[np.sort(np.concatenate(chosen))]


def clusters(people: pd.DataFrame, reading: str, k: int = 24, seed: int = 0) -> np.ndarray:
    """Cluster people by K-means; the supplement leaves open what the coordinates are, so there are four readings.

    Equal people are one weighted point (the same objective, and fast). Codes number the levels in the order of
    `LEVELS`; z-scores have mean 0 and standard deviation 1 over the people.

    Args:
        people: of `with_groups`.
        reading: one of `READINGS`: what the coordinates are.
        k: clusters; distinct points, where there are fewer.
        seed: of the starts (10 k-means++ starts, the best is kept).

    Returns:
        Number of the cluster of each person.

    Raises:
        ValueError: unknown reading.
    """
    if reading not in READINGS:
        raise ValueError(f"reading: expected one of {READINGS}, got {reading!r}")
    labels = labels_of(people)
    points = people.groupby(["age", *labels], observed=True)
    table, count = points.size().index.to_frame(index=False), points.size().to_numpy()
    codes = np.stack([table[label].map(LEVELS[label].index) for label in labels[1:]], axis=1).astype(float)
    age = table[["age"]].to_numpy(dtype=float)
    if reading == "one-hot":
        x = pd.get_dummies(table[labels]).to_numpy(dtype=float)
    elif reading == "age and codes":
        x = np.hstack([age, codes])
    elif reading == "z-age, one-hot":
        x = np.hstack([_z(age, count), pd.get_dummies(table[labels[1:]]).to_numpy(dtype=float)])
    else:
        x = _z(np.hstack([age, codes]), count)
    start = seeded(seed, "clusters", reading).initial_seed() % 2**32
    fitted = KMeans(min(k, len(np.unique(x, axis=0))), n_init=10, random_state=start).fit(x, sample_weight=count)
    return fitted.labels_[points.ngroup().to_numpy()]


def write_manifest(chosen: pd.DataFrame, path: str | Path) -> Path:
    """Write a manifest for `datasets.read_manifest`: file, sha256, the labels and the post-stratification weight.

    Args:
        chosen: of `select`, with the columns of `with_groups`; with `path` of `with_files`, the images are hashed
            and named relative to the manifest, else `file` is <id>.png beside it and the hash is empty.
        path: to write to.

    Returns:
        `path`. The weight of an image is n / (G n_g), G groups that have images: mean 1, and every group counts alike.

    Raises:
        ValueError: an id without a `path` is a number: a table that was read without its zeros names other files.
    """
    path = Path(path)
    sizes = chosen.group.astype(str).map(chosen.group.astype(str).value_counts())
    table = chosen[labels_of(chosen)].assign(weight=len(chosen) / (chosen.group.nunique() * sizes))
    if "path" in chosen:
        names = [Path(os.path.relpath(file, path.parent)).as_posix() for file in chosen.path]
        hashes = [sha256_of(file) for file in chosen.path]
    else:
        if numbers := [name for name in chosen.id if not isinstance(name, str)]:
            hint = "pandas.read_csv(..., dtype={'id': str}) keeps the zeros in front"
            raise ValueError(
                f"id: expected text, the name of a file, got {len(numbers)} such as {numbers[0]!r}; {hint}"
            )
        names, hashes = [f"{name}.png" for name in chosen.id], ""
    table.insert(0, "file", names)
    table.insert(1, "sha256", hashes)
    text = table.to_csv(index=False, float_format="%.6f", lineterminator="\n")
    replace(path, text.encode())
    return path


def _z(x: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and standard deviation 1, each row counted `count` times."""
    mean = np.average(x, axis=0, weights=count)
    sd = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=count))
    return (x - mean) / np.where(sd > 0, sd, 1)
