"""Bring every image of a run to its end: write its rows, set aside what failed, and give up what fails on and on.

Nobody else decides what a failure costs: a downscaler that fails on image after image is no longer tried, and where
nothing works the run stops.
"""

import contextlib
import itertools
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence

from helpers import results
from helpers.runs import cell, checks, cluster, words
from helpers.runs.experiment import Experiment


def settle(experiment, rows_dir, outcomes, tasks, facts, write, there_before, limit, how, made) -> set[tuple]:
    """Bring every image to its end: its rows written, what failed set aside; returns the cells that failed.

    Adds the keys of the rows that it has written to `made`, and takes what a downscaler that fails on image after image
    has left to do out of `tasks`.
    """
    asked = {image: _by_cell(task[2]) for image, task in tasks.items()}
    done, in_a_row, streak, news, failed, said = 0, [], defaultdict(list), {}, set(), set()
    lines = results.aside(rows_dir).to_dict("records")
    noted = {(*words.cell_of(tuple(line.values())), line["distortion"]): line["reason"] for line in lines}
    total, others = len({*there_before.image, *tasks}), there_before.groupby("image").downscaler.agg(set).to_dict()

    def note(keys: list[tuple], hr: str = "", lr: str = "", reason: str = "") -> None:
        for key in keys:
            before = noted.get(key[:-2] + key[-1:], "")
            if (not before) if not reason else (before and reason.startswith(checks.NOT_TRIED)):
                continue  # why it failed when it was tried says more
            line = dict(zip(results.KEY, key, strict=True)) | {"tried": checks.tried_of(keys), "hr": hr, "lr": lr}
            line |= {"weights": facts["weights"], "version": facts["version"], "reason": reason}
            news[key[:-2] + key[-1:]] = {name: line[name] for name in results.ASIDE}
        noted.update({each: line["reason"] for each, line in news.items()})
        (failed.add if reason else failed.discard)(words.cell_of(keys[0]))

    def flush() -> None:
        results.set_aside(rows_dir, news.values())
        news.clear()

    for image, outcome in outcomes:
        cells, strict = asked.pop(image), tasks[image][5]
        failure = outcome if isinstance(outcome, Exception) else None
        if strict and failure:
            raise failure
        new, remarks, gone, _ = _nothing(experiment, cells, failure, how) if failure else outcome
        bad = {(each.pop("downscaler"), each.pop("degradation"), each.pop("level")): each for each in gone}
        there = {words.cell_of([row[name] for name in results.CELL]) for row in new}
        for each, keys in cells.items():
            if each in there or (each[2], each[4], each[5]) in bad:
                note(keys, **({} if each in there else bad[each[2], each[4], each[5]]))
        working = new or others.get(image, set()) - {each[0] for each in bad}
        if bad and not working:
            in_a_row.append(image)
            if len(in_a_row) == min(checks.IN_A_ROW, total):
                last = list(bad.values())[-1]["reason"].partition(": ")[2]
                raise RuntimeError(f"{', '.join(in_a_row)} all failed, the last: {last}") from failure
        if not working:
            continue
        _check(image, new, facts, how["mixed"])
        write([row | {"lr": row["lr"] + results.TRUSTED * (row["downscaler"] in how["trust"])} for row in new])
        made.update(plain(row[name] for name in results.KEY) for row in new)
        done, in_a_row = done + bool(new), []
        for name in dict.fromkeys(each[2] for each in cells):
            reasons = [why["reason"] for each, why in bad.items() if each[0] == name]
            streak[name] = [*streak[name], image] if reasons and not any(each[2] == name for each in there) else []
            if len(streak[name]) == checks.IN_A_ROW:
                why = f"{checks.NOT_TRIED} {', '.join(streak[name])}: {reasons[-1]}"
                hint = "once it works, or with helpers.runs.run(retry_aside=True), a run tries the other images first"
                warnings.warn(f"downscaler {name!r}: {why}; {hint}", stacklevel=4)
                for other, theirs in asked.items():
                    tasks[other] = (*tasks[other][:2], [k for k in tasks[other][2] if k[2] != name], *tasks[other][3:])
                    for each, keys in theirs.items():
                        if each[2] == name:
                            note(keys, checks.UNKNOWN, "", why)
        flush()
        for remark in dict.fromkeys(remarks):
            if remark not in said:
                warnings.warn(remark, stacklevel=4)
        said.update(remarks)
        if limit and done == limit:
            return failed
    flush()
    return failed


def _by_cell(keys: Iterable[tuple]) -> dict[tuple, list[tuple]]:
    cells = {}
    for key in keys:
        cells.setdefault(words.cell_of(key), []).append(key)
    return cells


def _nothing(experiment: Experiment, cells: Iterable[tuple], error: Exception, how: dict) -> cell.Scored:
    """The outcome of an image that has none: every cell failed."""
    hr, lr, kind = "", "", type(error).__name__
    if isinstance(error, cluster.Lost):
        hr, lr, kind = checks.UNKNOWN, checks.UNKNOWN, "RuntimeError"
        with contextlib.suppress(ValueError):
            hr = checks.look(experiment, next(iter(cells))[1], [], how["run"])[0]
    same = {"hr": hr, "lr": lr, "reason": f"{kind}: {error}"}
    names = ("downscaler", "degradation", "level")
    return cell.Scored([], [], [dict(zip(names, (c[2], c[4], c[5]), strict=True)) | same for c in cells])


def _check(image: str, made: list[dict], facts: dict, mixed: Sequence[str]) -> None:
    """Refuse rows of a worker that differs from the first one."""
    for column, row in itertools.product(sorted(set(results.ONE_OF) - set(mixed)), made):
        expected = facts[column][row["distortion"]] if column == "metric" else facts[column]
        if row[column] != expected:
            floats = (
                " (of a function of yours it stands for the answer to a test image, float by float, which machines of "
                "another kind round otherwise)"
            )
            raise RuntimeError(
                f"{image}: expected {column} {expected!r} as of the first worker, got {row[column]!r} from another"
                f"{floats * (column in ('weights', 'metric'))}; finished images are kept: go on with workers of one "
                f"kind, or with helpers.runs.run(..., mixed=({column!r},)), where each row says what made it"
            )


def plain(key: Iterable) -> tuple:
    """The key of a row that can be compared: no level as None."""
    return tuple(None if value != value else value for value in key)
