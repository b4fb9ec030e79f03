"""Published readings of faces, their names for a reader, and what is said of answers beside their controls."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from helpers import results
from helpers.stats import findings
from helpers.studies import face_groups

ANSWERS, FACES, LIKE_FACES = "PULSE", "the face", "PULSE, face's contrast"
CONTROLS = (face_groups.FLAT, "interpolated LR", "search starts", "samples")


def called(search: str, flow: str) -> dict[str, str]:
    """What is read, as rows name it -> in words for a reader, in the order of a figure.

    Args:
        search, flow: upscalers, as rows name them.
    """
    flat, interpolated, starts, samples = CONTROLS
    return {
        face_groups.FACE: FACES, face_groups.FLAT: flat, "bicubic": interpolated, flow: "flow", search: ANSWERS,
        f"{search} + {face_groups.LIKE_FACE}": LIKE_FACES, face_groups.STARTS: starts, face_groups.SAMPLES: samples,
    }  # fmt: skip


def published(
    path: str, upscalers: Sequence[str], scale: int, table: str = ""
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Published readings of faces with their labels: rows as of `face_groups.seen_as`, and `face_groups.labels`.

    Args:
        path: of published rows, or "" for none.
        upscalers: those that must be among them, else there are no rows.
        scale: s.
        table: as in `face_groups.labels`.

    Returns:
        No rows where there is no such file; the labels are then None.
    """
    if not path or not Path(path).exists():
        return pd.DataFrame(), None
    rows = results.read(path)
    rows = rows[rows.distortion.str.startswith(face_groups.SEEN) & (rows.scale == scale)]
    rows = rows if set(upscalers) <= set(rows.upscaler) else rows[:0]
    return rows, face_groups.labels(sorted(rows.image.unique()), table)


def more_than_controls(read: pd.DataFrame) -> dict:
    """Are the answers read as something more often than every control? Values of a sentence for `notebook.finding`.

    Args:
        read: 1 or 0, faces x pictures by the names of `called`, of `face_groups.reads`.

    Returns:
        The verdicts, Holm over the controls that there are; each share, and that of the answers minus it.
    """
    there = [name for name in read if name in CONTROLS]
    there.sort(key=CONTROLS.index)
    found = findings.decided(pd.DataFrame({name: read[ANSWERS] - read[name] for name in there}))
    said = ", ".join(f"{name} {read[name].mean():.0%} ({each.quantity:+.0%})" for name, each in found.items())
    return {"verdict": [each.verdict for each in found.values()], "said": said}
