"""Measure a small rescaler, or a twin upscaler, on folders of photographs, and write its card.

`python -m tools.rescaler_card irn_x2 --sets bsd100=FOLDER`; of `residual_shift_x4` sides of 192 pixels are enough.

With `--state` it ships a finished training first: the best weights of a resumable checkpoint, its curve and the hash go
to `data/weights`. Of a twin, `--trained-on` names the folders of its photographs: those held out say what its denoiser
leaves, which the draws need to spread as they should.
"""

import argparse
import shutil
from pathlib import Path

import torch
from torch import Tensor

from helpers import datasets, files
from helpers.training import recipes, rescaler_report, twin_report
from helpers.training.residual_shift import errors_left
from helpers.weights import store

ALL = {**recipes.RECIPES, **recipes.TWINS}


def ship(name: str, state: Path, photographs: int, folder: Path, crops: tuple[Tensor, Tensor] | None = None) -> Path:
    """Write the best weights of a resumable checkpoint, its curve, and the hash of the file; return its path.

    Args:
        name: of the recipe.
        state: the checkpoint.
        photographs: how many it was trained on.
        folder: gets the files.
        crops: of a twin, those of `recipes.crops_of_twins`: what the denoiser leaves is measured on them.

    Raises:
        ValueError: the training has no best state yet, or the file is larger than `rescaler_report.LIMIT`.
    """
    saved, recipe = torch.load(state, map_location="cpu", weights_only=True), ALL[name]
    if saved["best"]["state"] is None:
        raise ValueError(f"{state}: expected a best state, found none after {saved['iteration']} iterations")
    network, path = recipe.make(**recipe.config), folder / f"{name}.safetensors"
    network.load_state_dict(saved["best"]["state"])
    if crops:
        shares = errors_left(network.eval(), *crops, blind=recipe.how["blind"])
        network = recipe.make(**recipe.config, shares=shares)
        network.load_state_dict(saved["best"]["state"])
    recipes.export(network, path, photographs=photographs, iterations=saved["iteration"], seed=0)
    if path.stat().st_size > rescaler_report.LIMIT:
        raise ValueError(f"{path}: expected at most {rescaler_report.LIMIT} bytes, got {path.stat().st_size}")
    shutil.copyfile(state.with_suffix(".csv"), path.with_suffix(".csv"))
    lines = [f"{files.sha256_of(each)}  {each.name}\n" for each in sorted(folder.glob("*.safetensors"))]
    files.replace(folder / "SHA256SUMS", "".join(lines))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(ALL))
    parser.add_argument("--sets", nargs="+", default=[], metavar="NAME=FOLDER", help="photographs to measure on")
    parser.add_argument("--state", type=Path, help="resumable checkpoint (.pt) of a finished training, to ship")
    parser.add_argument("--photographs", type=int, default=0, help="how many it was trained on, for the card")
    parser.add_argument(
        "--trained-on", nargs="+", default=[], help="of a twin: the folders it was trained on, in order"
    )
    parser.add_argument("--every", type=int, default=1, help="only one image of each set in so many")
    how = parser.parse_args()
    torch.set_num_threads(1)
    path = store.EMBEDDED / f"{how.name}.safetensors"
    if how.state:
        read = [lambda f=f, name=name: datasets.load(f, name) for f in how.trained_on for name in datasets.names(f)]
        crops = recipes.crops_of_twins(read) if read else None
        path = ship(how.name, how.state, how.photographs, store.EMBEDDED, crops)
    scale, sets = ALL[how.name].config["scale"], {}
    for each in how.sets:
        key, _, folder = each.partition("=")
        chosen = datasets.names(folder)[:: how.every]
        sets[key] = [(image, datasets.load(folder, image, multiple_of=scale)) for image in chosen]
    tables, options = twin_report.Tables(), {}
    if how.name in recipes.TWINS:
        options = {
            "measure": tables,
            "more": lambda: {"kid": tables.over_all(), "seconds": twin_report.seconds(path)},
        }
    card = rescaler_report.write_card(how.name, sets, path, **options)
    for key, rows in rescaler_report.read_card(path.with_suffix(".json"))[1].items():
        print(f"{key}, {len(rows)} photographs: {rows.mean().round(3).to_dict()}")
    print({key: value for key, value in card.items() if key != "images"})


if __name__ == "__main__":
    main()
