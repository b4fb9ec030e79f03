"""How the store of rows grows: synthetic rows of many images, and what it costs to write, read, plan and score them.

Nothing is downscaled or drawn: a plan here is told the hashes of the pixels, which in a real one costs the pixels.
"""

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import columns, files, results
from helpers.columns import Coded, Table
from helpers.results import finished
from helpers.runs import checks, grid
from helpers.runs.experiment import Experiment
from helpers.stats import rankings

DOWNSCALERS = ("bicubic", "bilinear", "dpid", "l0", "lanczos", "nearest", "perceptual")
SCORED = ("image", "downscaler", "group", "sample", "distortion", "value")  # what a score is made of


def experiment(n_images: int, n_samples: int = 5) -> Experiment:
    """Seven downscalers, N_Q draws and two D, of images that exist in name only: 70 rows an image.

    Args:
        n_images: N_X.
        n_samples: N_Q.
    """
    return Experiment(
        dataset=("synthetic", "library"),
        images=[f"{k:09d}" for k in range(n_images)],
        downscalers=list(DOWNSCALERS),
        scale=4,
        upscaler="embedded_flow",
        n_samples=n_samples,
        distortion=["lpips_embedded", "mse"],
        device="cpu",
    )


class Known(dict):
    """The hashes that a plan would get from the pixels; it holds none and answers for any image."""

    def __contains__(self, place: object) -> bool:
        return True

    def __missing__(self, place: tuple) -> tuple[str, str]:
        return (_hash("hr", place[3]) if len(place) == 5 else _hash("lr", place[3], place[5])), ""


@lru_cache(maxsize=2**16)
def _hash(*what: str) -> str:
    return hashlib.blake2b(" ".join(what).encode(), digest_size=6).hexdigest()


def table(one: Experiment, now: dict, seed: int = 0) -> Table:
    """Rows of some images, column by column, sorted by key, as `finished` keeps them.

    Args:
        one: the experiment on these images.
        now: what `checks.made_by` says of weights and metrics.
        seed: of the values, which are exponential, with an image's and a downscaler's part.
    """
    n_images, n_names, _, n_samples, n_metrics = shape = grid.shape(one)
    number = int(np.prod(shape))
    random = np.random.default_rng((seed, int(one.images[0])))
    image = np.repeat(np.arange(n_images), number // n_images)
    names = np.tile(np.repeat(np.arange(n_names), n_samples * n_metrics), n_images)
    level = random.gamma(4.0, 0.05, n_images)[image] * (1 + 0.1 * names)
    lrs = [_hash("lr", each, name) for each in one.images for name in one.specs]
    texts: dict[str, Sequence] = {
        "group": columns.repeated(one.images, number // n_images, 1),
        "hr": columns.repeated([_hash("hr", each) for each in one.images], number // n_images, 1),
        "lr": columns.repeated(lrs, n_samples * n_metrics, 1),
        "weights": columns.repeated([now["weights"]], number, 1),
        "metric": columns.repeated([now["metric"][name] for name in one.metrics], 1, number // n_metrics),
        "device": columns.repeated(["cpu"], number, 1),
        "version": columns.repeated([results.VERSION], number, 1),
    }
    empty, numbers = np.full(number, np.nan), grid.columns(one)
    made = {name: numbers[name] for name in results.KEY} | texts
    made |= {name: np.array(made[name].values)[made[name].codes] for name in ("scale", "seed", "sample")}
    made |= dict.fromkeys(("level", "residual", "converged", "lr_bits"), empty)
    made |= {"value": level * (1 + 0.2 * random.standard_normal(number)), "seconds": np.full(number, 0.25)}
    made |= {"clipped": np.zeros(number), "height": np.full(number, 256), "width": np.full(number, 256)}
    made["checksum"] = random.integers(0, 2**32, number, dtype=np.uint32)
    return {name: made[name] for name in results.COLUMNS}


def fill(folder: Path, one: Experiment, now: dict) -> None:
    """Write the rows of an experiment as finished ones, a file of some thousand images after the other."""

    def parts() -> Iterator[tuple[Table, str, str]]:
        step = max(1, finished.ROWS // int(np.prod(grid.shape(one)[1:])))
        for start in range(0, len(one.images), step):
            images = one.images[start : start + step]
            made = table(grid.on(one, images), now)
            made["heat"] = Coded(made["heat"].codes, [repr(value) for value in made["heat"].values])
            yield made, images[0], images[-1]

    with files.only_writer(files.check_output(folder)):
        finished.write(folder, parts())


def results_frame(one: Experiment, now: dict) -> pd.DataFrame:
    """The same rows as `results.read` returns them, but for their checksums."""
    return columns.frame(table(one, now), results.COLUMNS[:-1])


def log_rows(one: Experiment, now: dict) -> list[dict]:
    """The same rows as `results.append` takes them, for the log."""
    return results_frame(one, now).to_dict("records")


def plan(folder: Path, one: Experiment, now: dict) -> int:
    """What `runs.plan` does but for the pixels: hold each row against what it would be now; how many are missing."""
    there, missing = results.snapshot(folder), 0
    for (part,) in grid.chunks([one]):
        todo = checks.todo(part, folder, seen=Known(), there=there, now=now | {"group": {}})
        missing += sum(map(len, todo.tasks.values()))
    return missing


def score(folder: Path) -> pd.DataFrame:
    """Read what a score needs, and the scores with their intervals."""
    rows = results.read(folder, names=[*results.KEY, "value", "group"])
    return rankings.scores(rows[rows.distortion == "lpips_embedded"])


def memory() -> tuple[float, float]:
    """Memory that this process has, and the most that it had since the last call of `cost`, MB; NaN but on Linux."""
    path = Path("/proc/self/status")
    if not path.exists():
        return math.nan, math.nan
    sizes = dict(line.split(":", 1) for line in path.read_text().splitlines() if line.startswith("Vm"))
    return tuple(int(sizes[name].split()[0]) / 2**10 for name in ("VmRSS", "VmHWM"))


def cost(function: Callable, *given) -> tuple[object, dict[str, float]]:
    """Call a function, and say what it took: CPU seconds, wall seconds, and the memory beyond that before, MB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, wall, cpu = memory()[0], time.perf_counter(), time.process_time()
    answer = function(*given)
    taken = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    return answer, taken | {"megabytes": memory()[1] - before}


def measured(sizes: Sequence[int], folder: Path) -> pd.DataFrame:
    """What `fill`, reading, `plan` of finished and of missing rows, and `score` take at several numbers of images.

    Args:
        sizes: numbers of images.
        folder: empty; filled once for each size.

    Returns:
        One line a size and step: step, images, rows, cpu and wall seconds, megabytes, bytes_on_disk.
    """
    now, lines = checks.made_by(experiment(1)), []
    for number in sizes:
        one, own = experiment(number), Path(folder, str(number))
        for step, call in STEPS.items():
            taken = cost(call, own, one, now)[1]
            disk = sum(path.stat().st_size for path in own.glob("finished-*"))
            rows = int(np.prod(grid.shape(one)))
            lines.append({"step": step, "images": number, "rows": rows, **taken, "bytes_on_disk": disk})
    return pd.DataFrame(lines)


STEPS: dict[str, Callable] = {  # step -> what is measured, of a folder, an experiment and `checks.made_by`
    "fill": fill,
    "read": lambda folder, one, now: len(results.read(folder, names=SCORED)),
    "plan": plan,
    "plan_new": lambda folder, one, now: plan(folder / "nothing", one, now),
    "score": lambda folder, one, now: len(score(folder)),
}
