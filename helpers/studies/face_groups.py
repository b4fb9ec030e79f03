"""Break results down by groups of faces: labels, balanced choices, and the group that an SR face looks like.

The labels are estimates made by third parties. They serve to break down results, and say nothing about a person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import datasets, degradations, results, runs, upscalers
from helpers.datasets import generated
from helpers.images import quantize
from helpers.iqa import kid
from helpers.runs import cell, checks
from helpers.runtime import seeded
from helpers.stats import findings
from helpers.studies import manifold
from helpers.upscalers import pulse

ATTRIBUTES = ("race", "gender", "age_group")
RACES = ("White", "Black", "Asian", "Indian", "Others")  # codes of UTKFace, as its page lists them
GENDERS = ("male", "female")
AGES = {"minor": 0, "youth": 19, "middle": 37, "senior": 55}  # from; the groups of the paper's supplement
SEEN = "seen_as"  # distortion of a row: "seen_as race=White"
METHOD = f"ridge readout, leaving the face's fold out: {kid.FEATURES}"
FACE, FLAT, SAMPLES, STARTS = "none", "face, contrast 0.7", "samples", "starts"  # what is read beside answers
LIKE_FACE = "contrast of the face"  # after the name of an upscaler: its answers with the face's mean and spread


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

        A face that is in no fold is read by the first.

        Args:
            names: the face that each image shows.
            features: (N, 256).

        Returns:
            One line per image (index: the name), columns `ATTRIBUTES`.
        """
        scaled = F.pad((features - self.mean) / self.std, (0, 1), value=1.0)
        found = {}
        for attribute, each in self.weights.items():
            chosen = [
                int((row @ each[self.fold.get(name, 0)]).argmax()) for name, row in zip(names, scaled, strict=True)
            ]
            found[attribute] = [self.classes[attribute][k] for k in chosen]
        return pd.DataFrame(found, index=list(names))


def readouts(names: Sequence[str], features: Tensor, table: pd.DataFrame, *, folds: int = 10, ridge: float = 300.0):
    """Fit `Readouts` by ridge regression of the classes on the features.

    Args:
        names: of the faces.
        features: theirs, (N, 256).
        table: their labels, as `labels` returns them.
        folds: the faces are split into so many parts, each read by what was fitted to the others; 1 fits to all, to
            read others.
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
            x, y = (scaled, wanted) if folds == 1 else (scaled[fold != k], wanted[fold != k])
            weights[attribute].append(torch.linalg.solve(x.T @ x + penalty.to(x), x.T @ y))
    return Readouts(mean, std, dict(zip(names, fold.tolist(), strict=True)), weights, classes)


def fitted_to(dataset: str, table: pd.DataFrame) -> Readouts:
    """Fit the readouts to all faces of a table, one fold: for faces that are not among them.

    Args:
        dataset: their folder or manifest.
        table: their labels, as `labels` returns them.

    Raises:
        ValueError: as `datasets.load` and `distortions.alexnet`.
    """
    features = kid.features(torch.cat([datasets.load(dataset, name) for name in table.index]))  # one by one is slow
    fitted = readouts(list(table.index), features, table, folds=1)
    return fitted._replace(fold={})


@cell.one_thread()
@torch.no_grad()
def seen_as(
    experiment: runs.Experiment,
    f_us: Sequence[tuple[str, float]],
    table: pd.DataFrame,
    rows_dir: str,
    *,
    others: tuple[str, pd.DataFrame] | None = None,
    batch: int = 16,
) -> pd.DataFrame:
    """Tell which group the faces of an experiment and the SR images of their LR images look like, and keep the rows.

    Args:
        experiment: images, seed, scale, device; its first downscaler makes the LR images.
        f_us: names and heats of upscalers; one draw each. Among them may be the controls `FLAT` (the face with less
            contrast), `SAMPLES` (a sample of the embedded generator in place of each face), `STARTS` (what the first
            step of the embedded search shows), and an upscaler with " + " and `LIKE_FACE` behind its name.
        table: labels of all faces of the data set; the readouts are fitted to them where there are no `others`.
        rows_dir: folder of rows; without AlexNet they must be there.
        others: data set and labels of other faces, which the readouts are fitted to; what they see are its classes.
        batch: images upscaled together; one by one by a search, whose answers depend on their companions.

    Returns:
        Rows as `results.read` has them: distortion "seen_as race=White" and so on, value 1 or 0; upscaler "none" is the
        face itself.

    Raises:
        ValueError: as `datasets.load` and `distortions.alexnet`.
    """
    known = table if others is None else others[1]
    every = {f"{SEEN} {attribute}={each}" for attribute in ATTRIBUTES for each in sorted(known[attribute].unique())}
    whole = [(FACE, 0.0), *((_normalised(name), heat) for name, heat in f_us)]
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
    if others is None:
        faces = list(table.index)
        of_faces = kid.features(torch.cat([datasets.load(experiment.source, name) for name in faces]))
        fitted, method = readouts(faces, of_faces, table), METHOD
    else:
        fitted = fitted_to(*others)
        method = f"ridge readout of {len(known)} other faces: {kid.FEATURES}"
    images = list(experiment.images)
    pairs = [runs.pair(plain, image, next(iter(plain.specs))) for image in images]
    lacking, drawn = {key[results.KEY.index("upscaler")] for key in results.missing(keys, rows)}, {}
    for name, heat in whole:
        if name not in lacking:
            continue
        shown = pictures(plain, name, heat, pairs, drawn, batch)
        found = fitted.read(images, kid.features(shown.cpu()))
        made = {SAMPLES: "embedded_pulse", STARTS: "embedded_pulse", FACE: "", FLAT: ""}
        made = made.get(name, name.removesuffix(f" + {LIKE_FACE}"))
        facts = {"weights": upscalers.weights_hash(made, plain.scale) if made else "", "version": results.VERSION}
        facts |= {"metric": method, "device": shown.device.type}
        facts |= dict.fromkeys((*results.SEARCH, "clipped", "seconds", "lr_bits"))
        new = []
        for each, seen, (_, line) in zip(named, pairs, found.iterrows(), strict=True):
            proof = runs.proof(plain, each["image"], *seen)
            for what in sorted(every):
                attribute, value = what.removeprefix(f"{SEEN} ").split("=", 1)
                key = each | {"upscaler": name, "heat": heat, "distortion": what}
                new.append(key | facts | proof | {"value": float(line[attribute] == value)})
        results.append(new, rows_dir)
    return results.read(rows_dir, keys=keys)


def _normalised(name: str) -> str:
    upscaler, plus, end = name.partition(f" + {LIKE_FACE}")
    return name if name in (FACE, FLAT, SAMPLES, STARTS) else upscalers.normalise(upscaler) + plus + end


def pictures(
    experiment: runs.Experiment,
    name: str,
    heat: float,
    pairs: Sequence[tuple],
    drawn: dict[str, Tensor],
    batch: int = 16,
) -> Tensor:
    """The pictures that `seen_as` reads: faces, controls or SR images, (N, 3, R, R) in 8-bit levels.

    Args:
        experiment: its images, seed, scale and device.
        name, heat: of an upscaler or a control, see `seen_as`.
        pairs: HR and LR image of each image.
        drawn: SR images by upscaler, kept here for a second reading.
        batch: images upscaled together.
    """
    hr, lr = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    if name == FACE:
        return hr
    if name == FLAT:
        return quantize(degradations.contrast(hr, 0.7))
    keys = [(experiment.seed, image) for image in experiment.images]
    if name == SAMPLES:
        return torch.cat([quantize(generated.samples(1, seeded(*key, SAMPLES))) for key in keys])
    if name == STARTS:
        network = pulse.GENERATORS["embedded_pulse"](experiment.device)
        latents, noise = pulse.draw_starts(network, [seeded(*key, 0) for key in keys])
        return quantize(manifold.drawn(network, latents, noise))
    upscaler = name.removesuffix(f" + {LIKE_FACE}")
    if upscaler not in drawn:
        drawn[upscaler] = _upscaled(experiment, upscaler, heat, lr, batch)
    sr = drawn[upscaler]
    return quantize(like_contrast(sr, hr)) if name.endswith(LIKE_FACE) else sr


def _upscaled(experiment: runs.Experiment, upscaler: str, heat: float, lr: Tensor, batch: int) -> Tensor:
    """One draw from each LR image, in 8-bit levels."""
    upscale = upscalers.build(upscaler, scale=experiment.scale, heat=heat, device=experiment.device)
    keys = [(experiment.seed, image) for image in experiment.images]
    step = 1 if upscalers.is_search(upscaler) else batch
    parts = [range(first, min(first + step, len(keys))) for first in range(0, len(keys), step)]
    starts = [[seeded(*keys[k], 0) for k in part] for part in parts]
    return torch.cat([quantize(upscale(lr[list(p)], s)) for p, s in zip(parts, starts, strict=True)])


def like_contrast(images: Tensor, to: Tensor) -> Tensor:
    """Give images the mean and the standard deviation of others, channel by channel, clipped to [0, 1].

    Args:
        images, to: (N, 3, H, W) in [0, 1].
    """
    (mean, std), (wanted, width) = (
        (each.mean((2, 3), keepdim=True), each.std((2, 3), keepdim=True).clamp(min=1e-6)) for each in (images, to)
    )
    return ((images - mean) / std * width + wanted).clamp(0, 1)


def reads(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Whether each picture was read as something: 1 or 0, faces x upscalers and controls.

    Args:
        rows: of `seen_as`.
        what: "race=White" and so on.
    """
    part = rows[rows.distortion == f"{SEEN} {what}"]
    return part.pivot_table(index="image", columns="upscaler", values="value")


def share_table(rows: pd.DataFrame, what: str, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """How often pictures of each group of faces were read as something.

    Args:
        rows, what: as in `reads`.
        groups: name of a group -> its faces.

    Returns:
        One line per group and upscaler or control: group, picture, value, low, high (t over faces), n.
    """
    table = reads(rows, what)
    return pd.DataFrame([
        {"group": group, "picture": picture} | findings.mean(table.loc[list(faces), picture])._asdict()
        for group, faces in groups.items() for picture in table
    ])  # fmt: skip


def classes(rows: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """Share of all faces that is read as each class: upscalers and controls x classes.

    Args:
        rows: of `seen_as`.
        attribute: one of `ATTRIBUTES`.
    """
    part = rows[rows.distortion.str.startswith(f"{SEEN} {attribute}=")]
    part = part.assign(seen=part.distortion.str.split("=").str[1])
    return part.pivot_table(index="upscaler", columns="seen", values="value")


def read_right(rows: pd.DataFrame, table: pd.DataFrame, attribute: str) -> pd.Series:
    """Whether the readout reads each face itself as it is labelled: 1 or 0 by face.

    Args:
        rows: of `seen_as`.
        table: labels of the faces.
        attribute: one of `ATTRIBUTES`.
    """
    part = rows[rows.distortion.str.startswith(f"{SEEN} {attribute}=") & (rows.upscaler == FACE)]
    part = part[part.distortion.str.split("=").str[1] == part.image.map(table[attribute])]
    return part.set_index("image").value


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
