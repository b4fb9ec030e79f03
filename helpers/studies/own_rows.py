"""Rows of what a study computes itself, kept in the folder of a run and computed only where they are missing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from helpers import distortions, results
from helpers.runs import cluster

if TYPE_CHECKING:
    from distributed import Client

EMPTY = ("residual", "converged", "clipped", "seconds", "lr_bits")
PROOF = ("group", "hr", "lr", "height", "width", "device")


def key_of(**values: object) -> tuple:
    """The key of a row, in the order of `results.KEY`; without damage, heat 0, seed and sample 0 unless given.

    Raises:
        ValueError: a part is unknown.
    """
    plain = {"degradation": "", "level": None, "where": "", "heat": 0.0, "seed": 0, "sample": 0}
    if unknown := set(values) - set(results.KEY):
        raise ValueError(f"expected parts of a key among {', '.join(results.KEY)}, got {', '.join(sorted(unknown))}")
    return tuple((plain | values)[name] for name in results.KEY)


def fill(
    tasks: Mapping[str, tuple[Sequence[tuple], tuple]],
    compute: Callable[..., Mapping[tuple, Mapping]],
    weights: Mapping[str, str],
    holds: Callable[[str, str], Mapping[str, str]],
    rows_dir: str | Path,
    client: "Client | None" = None,
) -> pd.DataFrame:
    """Read the rows of some tasks; compute those that are missing, or that other pixels or weights had made.

    Args:
        tasks: name -> the keys of its rows and the arguments of `compute`.
        compute: pure; key -> value and what `PROOF` names.
        weights: upscaler -> what its rows say of it.
        holds: image, downscaler -> the columns, among those of `PROOF`, that a row must have to be reused.
        rows_dir, client: as `runs.run`.

    Returns:
        The rows, as `results.read` gives them.

    Raises:
        ValueError: `compute` left out a key of its task; or what it raises.
    """
    keys = [key for own, _ in tasks.values() for key in own]
    rows, now = results.read(rows_dir, keys=keys, mixed=tuple(results.ONE_OF)), {}
    for pair in rows[["image", "downscaler"]].drop_duplicates().itertuples(index=False, name=None):
        now[pair] = holds(*pair)
    same = [
        row.weights == weights[row.upscaler]
        and row.metric == distortions.describe(row.distortion)
        and all(getattr(row, name) == value for name, value in now[row.image, row.downscaler].items())
        for row in rows.itertuples()
    ]
    left = set(results.missing(keys, rows[pd.Series(same, rows.index, dtype=bool)]))
    todo = {name: arguments for name, (own, arguments) in tasks.items() if left & set(own)}
    for name, made in cluster.compute(compute, todo, client):
        if isinstance(made, Exception):
            raise made
        if lacking := set(tasks[name][0]) - set(made):
            raise ValueError(f"{name}: expected a value for each key, got none for {sorted(map(str, lacking))[0]}")
        results.append([_row(key, made[key], weights) for key in tasks[name][0]], rows_dir)
    return results.read(rows_dir, keys=keys)


def _row(key: tuple, made: Mapping, weights: Mapping[str, str]) -> dict:
    row = dict(zip(results.KEY, key, strict=True)) | dict.fromkeys(EMPTY) | {"version": results.VERSION}
    row |= {"weights": weights[row["upscaler"]], "metric": distortions.describe(row["distortion"])}
    return row | {name: made[name] for name in (*PROOF, "value")}
