"""What an image costs: CPU seconds and memory of every upscaler by size, and what is spent on what.

One thread; of several repeats the least CPU seconds count, which other programs on the machine disturb least. A
network whose file is not here is timed with fresh weights: as many operations, and pictures that nobody should see.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from helpers import datasets, distortions, results, upscalers
from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize
from helpers.networks import resshift as resshift_network
from helpers.networks import srflow as srflow_network
from helpers.networks.vq_autoencoder import VQAutoencoder
from helpers.runs import cluster, driver
from helpers.runs.experiment import Experiment
from helpers.runtime import one_thread, seeded
from helpers.stats import rankings
from helpers.stats.findings import Quantity
from helpers.studies import growth
from helpers.upscalers import flows, resshift
from helpers.upscalers.registry import UPSCALERS

FRESH = {"resshift_bicsr": {"steps": 4, "lowest": 0.2}, "resshift": {"steps": 15, "lowest": 0.04}}


def build(name: str, scale: int, device: str) -> tuple[Callable, str]:
    """An upscaler by name, and where its weights are from: "here", or "fresh" of SRFlow and ResShift without a file.

    Raises:
        ValueError: another upscaler has no file here, or no such scale.
    """
    if upscalers.are_here(name, scale):
        return upscalers.build(name, scale=scale, device=device), "here"
    record = UPSCALERS[name]
    if record.scales and scale not in record.scales:
        raise ValueError(f"upscaler: expected scale {', '.join(map(str, record.scales))} of {name!r}, got {scale}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name.startswith("srflow_"):
            network = srflow_network.build(name.removeprefix("srflow_")).to(device).eval()
            return flows.srflow_by(network, scale=scale, device=device), "fresh"
        if name in FRESH:
            networks = resshift_network.ResShiftUNet(), VQAutoencoder()
            networks = [network.to(device).eval() for network in networks]
            return resshift.upscaler_by(*networks, **FRESH[name], device=device), "fresh"
    raise ValueError(f"upscaler: no weights of {name!r} here, and fresh ones only of SRFlow and ResShift")


ENOUGH = 5.0  # CPU seconds after which nothing is repeated


def least(function: Callable, repeats: int) -> dict[str, float]:
    """The least CPU seconds and wall seconds of several calls, and the most memory of one, MB.

    Args:
        function: what is timed.
        repeats: calls; fewer once they have taken `ENOUGH` together.
    """
    taken: list[dict[str, float]] = []
    with one_thread():
        while len(taken) < repeats and sum(each["cpu"] for each in taken) < ENOUGH:
            taken.append(growth.cost(function)[1])
    found = {name: min(each[name] for each in taken) for name in ("cpu", "wall")}
    return found | {"megabytes": max(each["megabytes"] for each in taken), "calls": len(taken)}


def by_size(
    systems: Iterable[tuple[str, int]], sides: Iterable[int], n_samples: int, repeats: int, budget: float, device: str
) -> pd.DataFrame:
    """Seconds of N_Q draws of one image, by upscaler and size.

    Args:
        systems: name and scale of each; of a search the generator's side alone is timed.
        sides: of the HR image, pixels, from small to large.
        n_samples: N_Q.
        repeats: of which the least counts.
        budget: CPU seconds; a size at which a call would take longer, by the size before it, is left out.
        device: as `runtime.pick_device` takes it.

    Returns:
        One line a system and size: upscaler, scale, weights ("here" or "fresh"), side, draws, cpu and wall seconds of
        all draws, cpu of one, megabytes; `attrs["left_out"]` says which were not timed.
    """
    lines, left_out = [], []
    for name, scale in systems:
        if name not in UPSCALERS:
            raise ValueError(f"systems: expected names among {', '.join(UPSCALERS)}, got {name!r}")
        upscale, weights = build(name, scale, device)
        own = [generator_side(name, scale)] if UPSCALERS[name].search else sorted(sides)
        before = None
        for side in own:
            if before and (expected := before[1] * (side / before[0]) ** 2) > budget:
                left_out.append(f"{name} x{scale} at {side} (about {expected:.0f} s)")
                continue
            lr = torch.rand(1, 3, side // scale, side // scale, generator=seeded("lr", side)).to(device)
            count = n_samples if UPSCALERS[name].stochastic else 1
            starts = [("time", side, q) for q in range(count)]

            def draw(upscale=upscale, lr=lr, starts=starts) -> Tensor:
                return upscale(lr, [seeded(*key) for key in starts])

            taken = least(draw, repeats)
            line = {"upscaler": name, "scale": scale, "weights": weights, "side": side, "draws": count}
            lines.append(line | taken | {"cpu_per_draw": taken["cpu"] / count})
            before = side, taken["cpu"]
    table = pd.DataFrame(lines)
    table.attrs["left_out"] = left_out
    return table


def generator_side(name: str, scale: int) -> int:
    """The only HR side that a search by a generator has."""
    from helpers.upscalers import pulse

    return pulse.GENERATORS[name]("cpu").noise_shapes[-1][-1]


def parts(
    name: str, dataset: str, image: str, size: int, scale: int, downscaler: str, distortion: str, n_samples: int,
    repeats: int,
) -> pd.Series:  # fmt: skip
    """CPU seconds of one image under one downscaler by what they are spent on, for an embedded flow on the CPU.

    Args:
        name: an upscaler with an encoder of its own, "embedded_flow".
        dataset, image, size: of the picture, as `datasets.load` takes them.
        scale, downscaler, distortion, n_samples: as an experiment's.
        repeats: of which the least counts.

    Returns:
        Seconds by part: read, downscale, encoder, couplings (all draws), distortion (all draws), rows (written and
        waited for), statistics (share of one image in the scores of 100).
    """
    network, distance = flows.load_compact_flow(scale), distortions.DISTORTIONS[distortion]
    upscale = upscalers.build(name, scale=scale)
    hr = datasets.load(dataset, image, size=size, multiple_of=scale)
    lr = quantize(DOWNSCALERS[downscaler](hr, scale))
    sr = quantize(upscale(lr, [seeded(q) for q in range(n_samples)]))
    one = growth.experiment(100, n_samples)
    now = {"weights": "w", "metric": dict.fromkeys(one.metrics, "m")}
    rows, lines = growth.results_frame(one, now), growth.log_rows(growth.experiment(1, n_samples), now)[: 2 * n_samples]
    rows = rows[rows.distortion == one.metrics[0]]

    def written() -> None:
        with tempfile.TemporaryDirectory() as folder:
            results.append(lines, Path(folder))

    calls: dict[str, Callable] = {
        "read": lambda: datasets.load(dataset, image, size=size, multiple_of=scale),
        "downscale": lambda: quantize(DOWNSCALERS[downscaler](hr, scale)),
        "encoder": torch.no_grad()(lambda: network.encoder(lr)),
        "all draws": lambda: upscale(lr, [seeded(q) for q in range(n_samples)]),
        "distortion": lambda: distance(sr, hr),
        "rows": written,
        "statistics": lambda: rankings.scores(rows),
    }
    taken = {part: least(call, repeats)["cpu"] for part, call in calls.items()}
    taken["couplings"] = max(0.0, taken.pop("all draws") - taken["encoder"])
    taken["statistics"] /= 100 * len(growth.DOWNSCALERS)
    order = ["read", "downscale", "encoder", "couplings", "distortion", "rows", "statistics"]
    return pd.Series({part: taken[part] for part in order})


def exponent(x: Iterable[float], y: Iterable[float]) -> Quantity:
    """The p of y = c x^p, by least squares of the logarithms, with Student's t interval over the points."""
    x, y = np.log(np.asarray(list(x), float)), np.log(np.asarray(list(y), float))
    if len(x) < 3:
        return Quantity(
            float(np.polyfit(x, y, 1)[0]) if len(x) == 2 else float("nan"), float("nan"), float("nan"), len(x)
        )
    fit = stats.linregress(x, y)
    half = stats.t.ppf(0.975, len(x) - 2) * fit.stderr
    return Quantity(float(fit.slope), float(fit.slope - half), float(fit.slope + half), len(x))


def with_workers(experiment: Experiment, folder: Path, counts: Iterable[int]) -> tuple[pd.DataFrame, dict[int, bytes]]:
    """Compute the same rows in this process and by local workers, on the wall clock.

    Args:
        experiment: what is computed.
        folder: of rows; one inside for each number of workers, emptied first.
        counts: numbers of workers, 0 for this process.

    Returns:
        One line a number: workers, seconds until they had started, seconds of the run, rows; and the bytes of each once
        published.
    """
    lines, published = [], {}
    for count in counts:
        own = Path(folder, f"with_{count}_workers")
        shutil.rmtree(own, ignore_errors=True)
        start = time.perf_counter()
        with cluster.local(count) as client:
            ready = time.perf_counter()
            rows = driver.run(experiment, own, client, progress=False)
            done = time.perf_counter()
        results.publish(own, own.with_suffix(".csv.gz"))
        published[count] = own.with_suffix(".csv.gz").read_bytes()
        line = {"workers": count, "started (s)": ready - start, "computed (s)": done - ready, "rows": len(rows)}
        lines.append(line)
    return pd.DataFrame(lines).set_index("workers"), published


def limits(per_image: Mapping[str, float], budget: Mapping[str, float], sizes: Iterable[int]) -> pd.DataFrame:
    """How many images each budget allows, the fewest first, and what sizes take of it.

    Args:
        per_image: what one image takes of each, in the unit of `budget`.
        budget: what there is.
        sizes: numbers of images.
    """
    lines = []
    for what, most in budget.items():
        taken = {f"{size:.0e} images".replace("e+0", "e"): per_image[what] * size for size in sizes}
        lines.append({"what": what, "there is": most} | taken | {"ends at images": most / per_image[what]})
    return pd.DataFrame(lines).set_index("what").sort_values("ends at images")


def published(folder: str, name: str, like: pd.DataFrame) -> pd.DataFrame:
    """A table of larger sizes that `python -m tools.scale` has left in a folder; no line if none.

    Args:
        folder: with files `scale_speed.csv` and `scale_store.csv`; "" for none.
        name: "speed" or "store".
        like: what this run has measured.
    """
    path = Path(folder, f"scale_{name}.csv")
    return pd.read_csv(path) if folder and path.exists() else like.iloc[:0]
