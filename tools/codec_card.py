"""Measure the Multi-Realism codec on folders of photographs, and write its card: `python -m tools.codec_card ...`.

With `--rates` and `--realism` it ships a finished training first: the last weights of the second stage in float16, the
curves of both, and the hash go to `data/weights`.
"""

import argparse
import shutil
from pathlib import Path

import torch

from helpers import datasets, files
from helpers.networks.multi_realism import MultiRealism
from helpers.rescalers.multi_realism import EMBEDDED
from helpers.training import multi_realism_report, recipes
from helpers.weights import store


def ship(rates: Path, realism: Path, folder: Path, *, photographs: int) -> Path:
    """Write the last weights of the second stage, the curves of both, and the hash of the file; return its path.

    Args:
        rates, realism: resumable checkpoints (.pt) of both stages, their curves (.csv) beside them.
        folder: where to write.
        photographs: how many were trained on, for the header.

    Raises:
        ValueError: the training has no best state yet, or the file is larger than `multi_realism_report.LIMIT`.
    """
    saved, path = torch.load(realism, map_location="cpu", weights_only=True), folder / f"{EMBEDDED}.safetensors"
    if saved["best"]["state"] is None:
        raise ValueError(f"{realism}: expected a best state, found none after {saved['iteration']} iterations")
    network = MultiRealism(**saved["config"])
    network.load_state_dict(saved["best"]["state"])
    recipes.export(network, path, dtype=torch.float16, photographs=photographs, iterations=saved["iteration"], seed=0)
    if path.stat().st_size > multi_realism_report.LIMIT:
        raise ValueError(f"{path}: expected at most {multi_realism_report.LIMIT} bytes, got {path.stat().st_size}")
    for state, ending in ((rates, ""), (realism, "_realism")):
        shutil.copyfile(state.with_suffix(".csv"), path.with_name(f"{path.stem}{ending}.csv"))
    lines = [f"{files.sha256_of(each)}  {each.name}\n" for each in sorted(folder.glob("*.safetensors"))]
    files.replace(folder / "SHA256SUMS", "".join(lines))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=[], metavar="NAME=FOLDER", help="photographs to measure on")
    parser.add_argument("--rates", type=Path, help="resumable checkpoint (.pt) of the first stage, to ship")
    parser.add_argument("--realism", type=Path, help="that of the second")
    parser.add_argument("--photographs", type=int, default=0, help="how many it was trained on, where it ships")
    how = parser.parse_args()
    torch.set_num_threads(1)
    path = store.EMBEDDED / f"{EMBEDDED}.safetensors"
    if bool(how.rates) != bool(how.realism):
        parser.error("--rates and --realism go together")
    if how.rates:
        path = ship(how.rates, how.realism, store.EMBEDDED, photographs=how.photographs)
    sets = {}
    for each in how.sets:
        key, _, folder = each.partition("=")
        sets[key] = [(image, datasets.load(folder, image)) for image in datasets.names(folder)]
    card = multi_realism_report.write_card(sets, path)
    for key, rows in multi_realism_report.read_card(path.with_suffix(".json"))[1].items():
        print(f"{key}, {rows.image.nunique()} photographs")
        print(rows.groupby("level").mean(numeric_only=True).round(4).T.to_string())
    print({key: value for key, value in card.items() if key != "images"})


if __name__ == "__main__":
    main()
