"""Published rows on many distinct photographs, which may not be shipped; their rows may.

`python -m tools.publish_rows --data FOLDER --set photographs --scale 4` finds the pictures of
`data/manifests/evidence.csv` below FOLDER by name (archives are looked into), compares each with its SHA-256, cuts the
centre of each to a PNG in `results/evidence/pictures`, scores what is missing and writes
`data/results/evidence_photographs_x4.csv.gz`. Stop it at any time; the next call goes on. `data/manifests/README.md`
says where the pictures come from. With `--upscalers` it draws once with each of the other upscalers instead, and writes
`evidence_photographs_x4_upscalers.csv.gz`. With `--rescalers irn sain` it draws of the LR images of these learned
rescalers, with the flow, with their own decoders and by bicubic enlargement, and writes
`evidence_photographs_x4_rescalers.csv.gz`; at x2 those of some filters are in that file, too.
With `--twins` it draws with the four twin upscalers (x4; five draws of the stochastic two) and writes
`evidence_photographs_x4_twins.csv.gz`; `--only embedded_l1` takes one of them and publishes nothing.
With `--flows` it measures the embedded flow of the scale beside its first generation on the same pictures and on the
library crops (`helpers.training.cards.draws`), and writes `data/weights/compact_flow_draws.csv`, from which the card's
table is made.
"""

import argparse
import hashlib
import io
import itertools
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from helpers import datasets, files, results, runs, upscalers
from helpers.datasets import photographs
from helpers.images import from_uint8, read_rgb, write_rgb
from helpers.training import cards

ROOT = Path(__file__).parents[1]
MANIFEST = ROOT / "data" / "manifests" / "evidence.csv"
METHODS = ["nearest", "bilinear", "bicubic", "lanczos", "dpid", "perceptual", "l0", "box"]  # the paper's and box
DISTORTIONS = ("lpips", "lpips_embedded", "1-ms_ssim", "mse", "mse_of_mean")
OF_LR = ("lr_mse", "consistency_mse")  # how near draws are to their LR image
DRAWS = ROOT / "data" / "weights" / "compact_flow_draws.csv"
MOST = 12  # pictures of a collection that flows are measured on
OTHERS = {  # the other upscalers, name and heat, at each scale: one draw each
    2: [("embedded_flow", 0.0), ("bicubic", 0.0)],
    4: [("embedded_flow", 0.0), ("bicubic", 0.0), ("embedded_flow_mixed", 1.0)],
    8: [("embedded_flow", 0.0), ("bicubic", 0.0)],
}

TWINS = ("embedded_l1", "embedded_l1_blind", "embedded_resshift", "embedded_resshift_blind")  # one network each two
FILTERS = {2: ["nearest", "bilinear", "bicubic", "lanczos"], 4: []}  # beside rescalers, where no other file has them


def manifest(part: str, path: Path = MANIFEST) -> pd.DataFrame:
    """The lines of one set: file, sha256, collection, side (of the crop, pixels).

    Raises:
        ValueError: no such set.
    """
    table = pd.read_csv(path, dtype={"side": int})
    if part not in set(table["set"]):
        raise ValueError(f"--set: expected one of {', '.join(table['set'].unique())}, got {part!r}")
    return table[table["set"] == part]


def contents(folder: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file below a folder, and in the archives there, whose name is wanted."""
    for path in sorted(folder.rglob("*")):
        if path.name in wanted and path.is_file():
            yield path.name, path.read_bytes()
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if (name := Path(member).name) in wanted:
                        yield name, archive.read(member)


def cut(content: bytes, side: int) -> torch.Tensor:
    """The centre of a picture, (1, 3, side, side) in [0, 1].

    Raises:
        ValueError: the picture is smaller.
    """
    levels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    if min(levels.shape[:2]) < side:
        raise ValueError(
            f"expected a picture of at least {side}x{side} pixels, got {levels.shape[1]}x{levels.shape[0]}"
        )
    top, left = ((length - side) // 2 for length in levels.shape[:2])
    crop = np.ascontiguousarray(levels[top : top + side, left : left + side])
    return from_uint8(torch.from_numpy(crop).permute(2, 0, 1)[None])


def prepare(table: pd.DataFrame, folder: Path, output: Path) -> list[str]:
    """Cut the pictures of a set into a folder of PNGs; what is there already stays.

    Args:
        table: of `manifest`.
        folder: the pictures are somewhere below it.
        output: gets them as collection_stem.png.

    Returns:
        The names of the images.

    Raises:
        ValueError: a picture is not there, or no file of its name has its SHA-256.
    """
    names = {line.file: f"{line.collection}_{Path(line.file).stem}" for line in table.itertuples()}
    todo = {line.file: line for line in table.itertuples() if not (output / f"{names[line.file]}.png").exists()}
    output.mkdir(parents=True, exist_ok=True)
    for file, content in contents(folder, set(todo)) if todo else ():
        if file in todo and hashlib.sha256(content).hexdigest() == todo[file].sha256:
            write_rgb(cut(content, todo.pop(file).side), output / f"{names[file]}.png")
    if todo:
        missing = ", ".join(sorted(todo)[:5])
        raise ValueError(f"{folder}: expected the pictures of the manifest with their SHA-256, lacks {len(todo)}: "
                         f"{missing}; data/manifests/README.md says where they come from")  # fmt: skip
    return sorted(names.values())


def experiments(
    dataset: tuple[str, str],
    images: Sequence[str],
    scale: int,
    *,
    others: bool = False,
    distortions: Sequence[str] = DISTORTIONS,
) -> list[runs.Experiment]:
    """What is published of one set at one scale.

    Args:
        dataset: what rows call it, and its folder.
        images: names of its images.
        scale: s.
        others: the other upscalers instead of the embedded flow at heat 1.0 with five draws.
        distortions: D of the rows, all of the same draws.

    Raises:
        ValueError: as `runs.Experiment`.
    """
    common = {"dataset": dataset, "images": images, "downscalers": METHODS, "scale": scale, "device": "cpu"}
    if not others:
        flow = {"upscaler": "embedded_flow", "heat": 1.0, "n_samples": 5}
        return [runs.Experiment(**common, **flow, distortion=list(distortions))]
    plain = [each for each in distortions if not each.endswith("_of_mean")]
    return [
        runs.Experiment(**common, upscaler=name, heat=heat, n_samples=1, distortion=plain)
        for name, heat in OTHERS[scale]
    ]


def of_twins(
    dataset: tuple[str, str],
    images: Sequence[str],
    names: Sequence[str] = TWINS,
    *,
    distortions: Sequence[str] = DISTORTIONS,
    n_samples: int = 5,
) -> list[runs.Experiment]:
    """What is published of the twin upscalers, x4: several draws of those that draw, and one image of the others.

    Args:
        dataset, images, distortions: as `experiments`.
        names: of upscalers.
        n_samples: how many draws; the first ones are the same for any number.

    Raises:
        ValueError: as `runs.Experiment`.
    """
    common = {"dataset": dataset, "images": images, "downscalers": METHODS, "scale": 4, "device": "cpu"}
    how = {"n_samples": n_samples, "distortion": [*distortions, *OF_LR]}
    return [runs.Experiment(**common, upscaler=name, **how) for name in names]


def of_rescalers(
    dataset: tuple[str, str],
    images: Sequence[str],
    scale: int,
    names: Sequence[str],
    *,
    distortions: Sequence[str] = DISTORTIONS,
) -> list[runs.Experiment]:
    """What is published of learned rescalers: who reads their LR images, and how well.

    Args:
        dataset, images, scale, distortions: as `experiments`.
        names: of rescalers.

    Returns:
        The flow and bicubic enlargement for all, and the own decoder of each; five draws where there is chance.

    Raises:
        ValueError: as `runs.Experiment`.
    """
    common = {"dataset": dataset, "images": images, "scale": scale, "device": "cpu"}
    plain = [each for each in distortions if not each.endswith("_of_mean")]
    everyone = [*FILTERS[scale], *names]
    flow = {"upscaler": "embedded_flow", "heat": 1.0, "n_samples": 5, "distortion": list(distortions)}
    found = [
        runs.Experiment(**common, downscalers=everyone, **flow),
        runs.Experiment(**common, downscalers=everyone, upscaler="bicubic", heat=0.0, n_samples=1, distortion=plain),
    ]
    for name in names:
        own = runs.Experiment(**common, downscalers=[name], upscaler=name, n_samples=5, distortion=plain)
        found.append(replace(own, distortion=list(distortions)) if own.n_samples > 1 else own)
    return found


def flow_draws(scale: int, pictures: Path, images: Sequence[str], path: Path) -> pd.DataFrame:
    """Measure both generations of a flow on the first pictures of each collection and on library crops, resumably.

    Args:
        scale: s, 4 or 8.
        pictures, images: folder of `prepare`, and the names there, collection_stem.
        path: gets a line after each picture.

    Returns:
        A line for each flow and picture: flow, weights, set, photograph, image, and the numbers of `cards.draws`.
    """
    crops, known = datasets.names("library", len(photographs.SETS["library"])), {}  # one of each photograph
    for _, some in itertools.groupby(sorted(images), key=lambda name: name.split("_")[0]):
        known |= {name: (name.split("_")[0], name) for name in itertools.islice(some, MOST)}
    known |= {name: ("library", photograph) for name, photograph in datasets.groups("library", crops).items()}
    done = pd.read_csv(path, dtype={"weights": str}) if path.exists() else pd.DataFrame()
    flows = {f"x{scale}{variant}": variant.strip("_") for variant in ("_first", "")}
    networks = {flow: upscalers.load_compact_flow(scale, variant=variant) for flow, variant in flows.items()}
    hashes = {flow: upscalers.weights_hash(f"embedded_flow{flow[2:]}", scale) for flow in flows}
    there = set(done[["flow", "weights", "image"]].itertuples(index=False, name=None)) if len(done) else set()
    for (name, (collection, photograph)), flow in itertools.product(known.items(), flows):
        if (flow, hashes[flow], name) in there:
            continue
        hr = read_rgb(pictures / f"{name}.png") if name in images else datasets.load("library", name)
        facts = {"flow": flow, "weights": hashes[flow], "set": collection, "photograph": photograph, "image": name}
        measured = cards.draws(networks[flow], name, hr)
        line = facts | {key: round(value, 6) for key, value in measured.items()}
        done = pd.concat([done, pd.DataFrame([line])], ignore_index=True)
        files.replace(path, done.to_csv(index=False))
    return done


def main(arguments: Sequence[str] | None = None) -> None:
    """Score what is missing of one set at one scale, and publish its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the pictures, at any depth")
    parser.add_argument("--set", default="photographs", help="photographs, faces or ffhq")
    parser.add_argument("--scale", type=int, choices=sorted(OTHERS), default=4)
    parser.add_argument("--upscalers", action="store_true", help="one draw with each of the other upscalers")
    parser.add_argument("--rescalers", nargs="+", default=[], help="LR images of these instead")
    parser.add_argument("--twins", action="store_true", help="the four twin upscalers instead, x4")
    parser.add_argument("--only", nargs="+", default=TWINS, choices=TWINS, help="of the twins; publish only all")
    parser.add_argument("--draws", type=int, default=5, help="of the twins that draw; a later call with more adds them")
    parser.add_argument("--every", type=int, default=1, help="only one image in so many")
    parser.add_argument("--flows", action="store_true", help="both generations of the embedded flow, for the card")
    parser.add_argument("--distortions", nargs="+", default=DISTORTIONS, help="D; all by default")
    parser.add_argument("--images", type=int, help="only the first so many, and publish nothing")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "evidence", help="pictures and rows")
    parser.add_argument("--manifest", type=Path, default=MANIFEST, help="set, collection, file, sha256, side")
    given = parser.parse_args(arguments)
    pictures = given.output / "pictures" / given.set
    names = prepare(manifest(given.set, given.manifest), given.data, pictures)[:: given.every][: given.images]
    stem = (
        f"evidence_{given.set}_x{given.scale}"
        + "_upscalers" * given.upscalers
        + "_rescalers" * bool(given.rescalers)
        + "_twins" * given.twins
    )
    dataset = f"evidence_{given.set}", str(pictures)
    if given.flows:
        found = flow_draws(given.scale, pictures, names, given.output / f"flow_draws_x{given.scale}.csv")
        print(f"x{given.scale}: {len(found)} lines of {found.photograph.nunique()} photographs")
        if given.images is None:
            others = pd.read_csv(DRAWS) if DRAWS.exists() else found[:0]
            others = others[~others.flow.isin(found.flow)]
            files.replace(DRAWS, pd.concat([others, found]).sort_values("flow", kind="stable").to_csv(index=False))
        return
    if given.rescalers:
        wanted = of_rescalers(dataset, names, given.scale, given.rescalers, distortions=given.distortions)
    elif given.twins:
        wanted = of_twins(dataset, names, given.only, distortions=given.distortions, n_samples=given.draws)
    else:
        wanted = experiments(dataset, names, given.scale, others=given.upscalers, distortions=given.distortions)
    rows = runs.run(wanted, given.output / stem, trust=sorted({"hcd"} & set(given.rescalers)))
    print(f"{stem}: {len(rows)} rows of {rows.image.nunique()} images, {rows.value.isna().sum()} NaN")
    whole = set(given.distortions) == set(DISTORTIONS) and set(given.only) == set(TWINS)
    if given.images is None and whole:
        results.publish(given.output / stem, ROOT / "data" / "results" / f"{stem}.csv.gz")


if __name__ == "__main__":
    main()
