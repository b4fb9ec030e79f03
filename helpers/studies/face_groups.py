"""Break results down by groups of faces: labels, balanced choices, and the group that an SR face looks like.

The labels are estimates made by third parties. They serve to break down results, and say nothing about a person.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import __version__, datasets, results, runs, upscalers
from helpers.images import quantize
from helpers.iqa import kid
from helpers.runs import cell, checks
from helpers.runtime import seeded

ATTRIBUTES = ("race", "gender", "age_group")
RACES = ("White", "Black", "Asian", "Indian", "Others")  # codes of UTKFace, as its page lists them
GENDERS = ("male", "female")
AGES = {"minor": 0, "youth": 19, "middle": 37, "senior": 55}  # from; the groups of the paper's supplement
SEEN = "seen_as"  # distortion of a row: "seen_as race=White"
METHOD = f"ridge readout, leaving the face's fold out: {kid.FEATURES}"


def labels(names: Sequence[str], table: str = "") -> pd.DataFrame:
    """Read race, gender and age group of faces from their names or from a table.

    Args:
        names: of the images.
        table: a CSV file with the columns file (or image), race, gender and age_group; or "" for names like those of
            UTKFace, age_gender_race_date, with or without "utkface_" before them.

    Returns:
        One line per name (index), columns `ATTRIBUTES`.

    Raises:
        ValueError: the table has other columns or lacks a name, or a name is no such name.
    """
    if table:
        known = pd.read_csv(table, dtype=str).rename(columns={"file": "image"})
        if missing := {"image", *ATTRIBUTES} - set(known):
            raise ValueError(
                f"{table}: expected columns file, {', '.join(ATTRIBUTES)}, got none named {sorted(missing)}"
            )
        known = known.assign(image=known.image.str.rsplit(".", n=1).str[0]).set_index("image")
        if unknown := [name for name in names if name not in known.index]:
            raise ValueError(f"{table}: expected a line for each image, got none for {len(unknown)}: {unknown[:3]}")
        return known.loc[list(names), list(ATTRIBUTES)]
    lines = []
    for name in names:
        try:
            age, gender, race = map(int, name.removeprefix("utkface_").split("_")[:3])
            lines.append((RACES[race], GENDERS[gender], [group for group, start in AGES.items() if age >= start][-1]))
        except (ValueError, IndexError):
            raise ValueError(f"expected names like age_gender_race_date, or a table of labels, got {name!r}") from None
    return pd.DataFrame(lines, index=list(names), columns=ATTRIBUTES)


def balance(table: pd.DataFrame, n: int) -> list[str]:
    """Choose n faces so that groups take turns: of 24 groups, each stands once in every 24 faces.

    Args:
        table: of `labels`.
        n: how many.

    Raises:
        ValueError: there are fewer faces.
    """
    if not 0 < n <= len(table):
        raise ValueError(f"expected 1 to {len(table)} faces, got {n}")
    turn = table.groupby(list(ATTRIBUTES)).cumcount()
    return list(table.assign(turn=turn).sort_values(["turn", *ATTRIBUTES], kind="stable").index[:n])


class Readouts(NamedTuple):
    """Linear classifiers of features, one set per fold of faces, each fitted without its fold."""

    mean: Tensor  # of the features, (256,)
    std: Tensor
    fold: dict[str, int]  # of each face
    weights: dict[str, list[Tensor]]  # attribute -> one (257, classes) for each fold
    classes: dict[str, list[str]]

    def read(self, names: Sequence[str], features: Tensor) -> pd.DataFrame:
        """Tell which class each image looks like, by the classifier that was fitted without its face.

        Args:
            names: the face that each image shows.
            features: (N, 256).

        Returns:
            One line per image (index: the name), columns `ATTRIBUTES`.
        """
        scaled = F.pad((features - self.mean) / self.std, (0, 1), value=1.0)
        found = {}
        for attribute, each in self.weights.items():
            chosen = [int((row @ each[self.fold[name]]).argmax()) for name, row in zip(names, scaled, strict=True)]
            found[attribute] = [self.classes[attribute][k] for k in chosen]
        return pd.DataFrame(found, index=list(names))


def readouts(names: Sequence[str], features: Tensor, table: pd.DataFrame, *, folds: int = 10, ridge: float = 300.0):
    """Fit `Readouts` by ridge regression of the classes on the features.

    Args:
        names: of the faces.
        features: theirs, (N, 256).
        table: their labels, as `labels` returns them.
        folds: the faces are split into so many parts, each read by what was fitted to the others.
        ridge: weight of the penalty, in faces.

    Raises:
        ValueError: fewer faces than folds.
    """
    if len(names) < folds:
        raise ValueError(f"expected at least {folds} faces, one a fold, got {len(names)}")
    mean, std = features.mean(0), features.std(0).clamp(min=1e-6)
    scaled = F.pad((features - mean) / std, (0, 1), value=1.0)
    order = torch.randperm(len(names), generator=seeded("folds"))
    fold = torch.empty_like(order).scatter_(0, order, torch.arange(len(names)) % folds)
    penalty = torch.diag(torch.full((scaled.shape[1],), ridge).index_fill(0, torch.tensor([scaled.shape[1] - 1]), 0.0))
    weights, classes = {}, {}
    for attribute in ATTRIBUTES:
        values = table.loc[list(names), attribute]
        classes[attribute] = sorted(values.unique())
        wanted = F.one_hot(torch.tensor(values.map(classes[attribute].index).to_numpy())).to(scaled)
        weights[attribute] = []
        for k in range(folds):
            x, y = scaled[fold != k], wanted[fold != k]
            weights[attribute].append(torch.linalg.solve(x.T @ x + penalty.to(x), x.T @ y))
    return Readouts(mean, std, dict(zip(names, fold.tolist(), strict=True)), weights, classes)


@cell.one_thread()
@torch.no_grad()
def seen_as(
    experiment: runs.Experiment,
    f_us: Sequence[tuple[str, float]],
    table: pd.DataFrame,
    rows_dir: str,
    *,
    batch: int = 16,
) -> pd.DataFrame:
    """Tell which group the faces of an experiment and the SR images of their LR images look like, and keep the rows.

    Args:
        experiment: images, seed, scale, device; its first downscaler makes the LR images.
        f_us: names and heats of upscalers; one draw each.
        table: labels of all faces of the data set, which the readouts are fitted to.
        rows_dir: folder of rows; without AlexNet they must be there.
        batch: images upscaled together; one by one by a search, whose answers depend on their companions.

    Returns:
        Rows as `results.read` has them: distortion "seen_as race=White" and so on, value 1 or 0; upscaler "none" is the
        face itself.

    Raises:
        ValueError: as `datasets.load` and `distortions.alexnet`.
    """
    every = {f"{SEEN} {attribute}={each}" for attribute in ATTRIBUTES for each in sorted(table[attribute].unique())}
    whole = [("none", 0.0), *((upscalers.normalise(name), heat) for name, heat in f_us)]
    plain = replace(experiment, downscalers=experiment.downscalers[:1], n_samples=1, distortion="mse",
                         upscaler="bicubic", heat=0.0, degradations=[("", None)])  # fmt: skip
    named = [dict(zip(results.KEY, key, strict=True)) for key in runs.keys(plain)]
    keys = [
        tuple((each | {"upscaler": name, "heat": heat, "distortion": what})[column] for column in results.KEY)
        for each in named for name, heat in whole for what in sorted(every)
    ]  # fmt: skip
    rows = checks.held(plain, keys, rows_dir)
    if not results.missing(keys, rows):
        return rows
    faces = list(table.index)
    of_faces = torch.cat([kid.features(datasets.load(experiment.source, name)) for name in faces])
    fitted = readouts(faces, of_faces, table)
    images = list(experiment.images)
    pairs = [runs.pair(plain, image, next(iter(plain.specs))) for image in images]
    hr, lr = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    for name, heat in whole:
        sr = hr
        if name != "none":
            upscale = upscalers.build(name, scale=plain.scale, heat=heat, device=plain.device)
            step = 1 if upscalers.is_search(name) else batch
            parts = [range(first, min(first + step, len(images))) for first in range(0, len(images), step)]
            starts = [[seeded(plain.seed, images[k], 0) for k in part] for part in parts]
            sr = torch.cat([quantize(upscale(lr[list(p)], s)) for p, s in zip(parts, starts, strict=True)])
        found = fitted.read(images, kid.features(sr.cpu()))
        facts = {"weights": "" if name == "none" else upscalers.weights_hash(name, plain.scale), "version": __version__}
        facts |= {"metric": METHOD, "device": hr.device.type}
        facts |= dict.fromkeys((*results.SEARCH, "clipped", "seconds", "lr_bits"))
        new = []
        for each, seen, (_, line) in zip(named, pairs, found.iterrows(), strict=True):
            shown = runs.proof(plain, each["image"], *seen)
            for what in sorted(every):
                attribute, value = what.removeprefix(f"{SEEN} ").split("=", 1)
                key = each | {"upscaler": name, "heat": heat, "distortion": what}
                new.append(key | facts | shown | {"value": float(line[attribute] == value)})
        results.append(new, rows_dir)
    return results.read(rows_dir, keys=keys)


def confusion(rows: pd.DataFrame, table: pd.DataFrame, attribute: str) -> dict[str, pd.DataFrame]:
    """Count for each upscaler how faces of each label (index) look after it (columns), as shares of each line.

    Args:
        rows: of `seen_as`.
        table: labels of the faces.
        attribute: one of `ATTRIBUTES`.
    """
    part = rows[rows.distortion.str.startswith(f"{SEEN} {attribute}=")]
    part = part.assign(of=part.image.map(table[attribute]), seen=part.distortion.str.split("=").str[1])
    by = part.groupby(["upscaler", "of", "seen"]).value.mean().unstack()
    return {name: each.droplevel(0) for name, each in by.groupby(level=0)}
