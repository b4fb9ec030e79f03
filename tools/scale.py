"""`python -m tools.scale`: measure how the store of rows grows with the number of images, on synthetic rows.

    python -m tools.scale store 1000 10000 100000 1000000
    python -m tools.scale speed 64 128 256 512 1024 2048

`store`: each size is written, read, planned and scored by a process of its own, in a temporary folder (a million images
fill about 1 GB). `speed`: seconds of draws by HR side. Lines are added to `data/results/scale_store.csv` and
`scale_speed.csv`, with the date, the processor, its cores and the load when it began.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers import __version__
from helpers.runs import checks
from helpers.studies import growth, speed

SYSTEMS = ["embedded_flow:2", "embedded_flow:4", "embedded_flow:8", "srflow_df2k_4x:4", "srflow_celeba_8x:8",
           "embedded_pulse:8", "resshift_bicsr:4", "bicubic:4"]  # fmt: skip
OUT = Path(__file__).parents[1] / "data" / "results"
NOT_BEYOND = {"read": 300_000, "score": 30_000}  # images of which all rows at once fit into memory


def machine() -> dict:
    """What the numbers depend on."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), name
        )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "date": datetime.date.today().isoformat(), "processor": name, "cores": os.cpu_count(), "threads": 1,
        "load": round(load, 1), "version": __version__,
    }  # fmt: skip


def measure(step: str, n_images: int, folder: Path) -> dict:
    """One step, in this process."""
    one = growth.experiment(n_images)
    now = checks.made_by(growth.experiment(1))
    _, taken = growth.cost(growth.STEPS[step], folder, one, now)
    rows = n_images * len(growth.experiment(1).keys())
    files = [path.stat().st_size for path in folder.glob("finished-*")]
    return {"step": step, "images": n_images, "rows": rows, **taken, "bytes_on_disk": sum(files)} | machine()


def add(name: str, lines: list[dict]) -> None:
    """Add lines to a table in `data/results`."""
    path = OUT / name
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()} for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the sizes that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["store", "speed", "one"])
    parser.add_argument("sizes", nargs="+")
    parser.add_argument("--budget", type=float, default=60.0, help="CPU seconds that a size may take")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, help="upscaler:scale")
    asked = parser.parse_args(arguments)
    if asked.what == "one":  # step, number of images, folder: what a process of its own does
        step, number, folder = asked.sizes
        print(json.dumps(measure(step, int(number), Path(folder))))
        return
    if asked.what == "speed":
        for name, _, scale in (each.rpartition(":") for each in asked.systems):
            about, sides = machine(), sorted(map(int, asked.sizes))
            table = speed.by_size([(name, int(scale))], sides, 5 if "flow" in name else 1, 3, asked.budget, "cpu")
            print(table.round(3).to_string(), *table.attrs["left_out"], sep="\n")
            add("scale_speed.csv", [line | about for line in table.to_dict("records")])
        return
    for number in map(int, asked.sizes):
        with tempfile.TemporaryDirectory(prefix="ida-rd-") as folder:
            for step in [each for each in growth.STEPS if number <= NOT_BEYOND.get(each, number)]:
                command = [sys.executable, "-m", "tools.scale", "one", step, str(number), folder]
                line = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                print({key: round(value, 2) if isinstance(value, float) else value for key, value in line.items()})
                add("scale_store.csv", [line])


if __name__ == "__main__":
    main()
