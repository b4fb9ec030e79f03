"""Say in words which rows were stale and why, and what was set aside."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from helpers import measure, results
from helpers.runs import grid
from helpers.runs.experiment import Experiment

NOT_LOOKED_AT = "not looked at:"  # how the reason begins of a row whose downscaler failed on others for too long


def several(experiments: object) -> list[Experiment]:
    """One experiment, or several, as a list; empty where anything else is among them."""
    found = [experiments] if isinstance(experiments, Experiment) else experiments
    found = list(found) if isinstance(found, Iterable) and not isinstance(found, str | bytes | Mapping) else []
    return found if all(isinstance(each, Experiment) for each in found) else []


def cell_of(values: Sequence) -> tuple:
    """The cell of a key, or of a line of rows: its values in the order of `results.CELL`, no level as None."""
    return tuple(None if value != value else value for value in values[: len(results.CELL)])


def say_redrawn(number: int, rows_dir: str | Path) -> str:
    """What a reader is told of rows that nobody has held against the pictures."""
    return (
        f"{rows_dir}: {number} rows were published before rows had hashes of the pixels; they are returned as they "
        "are, nothing was held against the pictures"
    )


def say_stale(stale: pd.DataFrame) -> str:
    """ "12 rows stale: 7 LR pixels changed (dpid on 3 images), 5 HR pixels changed (2 images)", or "" for none.

    Rows that nobody has looked at are named by themselves: "3 rows not looked at: ValueError: dark (mine on 1 images)".
    """
    said, number, unseen = [], 0, []
    for why, part in stale.groupby("why", sort=False):
        images = part.groupby("downscaler").image.nunique()
        where = f"{part.image.nunique()} images"
        if why.startswith(("LR", "no LR", NOT_LOOKED_AT)):
            where = ", ".join(f"{name} on {n} images" for name, n in images.items())
        if why.startswith(NOT_LOOKED_AT):
            unseen.append(f"{len(part)} rows {why} ({where})")
        else:
            said.append(f"{len(part)} {why} ({where})")
            number += len(part)
    return ", ".join([f"{number} rows stale: {', '.join(said)}"] * bool(said) + unseen)


def say_twins(rows: pd.DataFrame, own: Iterable[str]) -> list[str]:
    """`measure.say_twins` of each of the reader's downscalers that has one LR image for several HR images."""
    rows = rows[rows.downscaler.isin(list(own)) & (rows.degradation == "") & (rows.hr != "")]
    lr, said = rows.lr.map(lambda lr: lr.removesuffix(results.TRUSTED).partition("/")[0]), {}
    for (name, _), part in rows.groupby([rows.downscaler, lr]):
        if part.hr.nunique() > 1:
            said.setdefault(name, measure.say_twins(name, sorted(set(part.image))))
    return list(said.values())


def left_out(experiments: Experiment | Sequence[Experiment], rows_dir: str | Path, back: Sequence[dict] = ()) -> str:
    """Say for a caption what of experiments was set aside: "set aside, 1 of 4 images: 01 for mine (ValueError: dark)".

    Args:
        experiments: what is captioned; an empty list stands for all that was ever run in the folder.
        rows_dir: folder of rows.
        back: cells to pass over, as lines of `results.aside` or of rows begin.

    Returns:
        "" where nothing was.

    Raises:
        ValueError: no experiments, or no folder.
    """
    known, none = several(experiments), isinstance(experiments, list | tuple) and not experiments
    if not isinstance(rows_dir, str | os.PathLike) or not (known or none):
        got = f"{experiments!r} and {rows_dir!r}"
        raise ValueError(f"expected an Experiment, or several in a list, and a folder of rows, got {got}")
    experiments = known
    lines, asked = results.aside(rows_dir).to_dict("records"), defaultdict(lambda: defaultdict(set))
    noted = {_key(line): line for line in lines}
    for line in back:
        noted.pop(_key(line), None)
    if not noted:
        return ""
    ours = {each[1] for each in noted}  # of a million images not all keys
    near = [grid.on(each, [image for image in each.images if image in ours]) for each in experiments]
    wanted = {(*cell_of(key), key[-1]) for each in near for key in each.keys()} if experiments else set(noted)  # noqa: SIM118
    settings = defaultdict(lambda: defaultdict(set))
    images = {image for each in experiments for image in each.images} or ours
    for each in wanted:
        asked[_setting(each)][each[1]].add(each[2:6:2] + each[5:6])
    several_asked = len({(each.scale, each.upscaler_name, each.heat) for each in experiments} or asked) > 1
    reasons = {}
    for each in sorted(set(noted) & wanted, key=repr):
        settings[_setting(each)][each[1]].add(each[2:6:2] + each[5:6])
        reasons.setdefault((_setting(each), each[1]), noted[each]["reason"])
    said, gone = [], set()
    for setting, of_images in settings.items():
        words = defaultdict(list)
        for image, cells in of_images.items():
            for_what = (
                ""
                if experiments and cells == asked[setting][image]
                else f" for {_listed(cells, asked[setting][image])}"
            )
            words[for_what, short(reasons[setting, image])].append(image)
            gone.add(image)
        where = "x{}, {}, heat {}: ".format(*setting) if several_asked else ""
        said += [f"{where}{_few(names)}{what} ({why})" for (what, why), names in words.items()]
    return f"set aside, {len(gone)} of {len(images)} images: {'; '.join(said)}" if said else ""


def _key(line: dict) -> tuple:
    return *cell_of(tuple(line.values())), line["distortion"]


def _setting(each: tuple) -> tuple:
    return each[3], each[7], each[8]  # scale, upscaler, heat


def _listed(cells: set, asked: set) -> str:
    """Downscalers, with the degradation where it is not all of them."""
    names = []
    for name in sorted({each[0] for each in cells}):
        own = {each for each in cells if each[0] == name}
        damages = sorted(" ".join(map(str, each[1:])) if each[1] else "none" for each in own)
        names.append(name if own == {each for each in asked if each[0] == name} else f"{name} after {_few(damages)}")
    return ", ".join(names)


def _few(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def short(reason: str, most: int = 100) -> str:
    """Put a reason on one line, and cut it after `most` characters."""
    line = " ".join(reason.split())
    return line if len(line) <= most else f"{line[:most]} ..."
