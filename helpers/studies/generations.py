"""Hold the embedded flows of x4 and x8 beside what they were before the second stage of their training, *first*.

The numbers are those of `data/weights/compact_flow_draws.csv`, a line for each flow and picture, which
`python -m tools.publish_rows --flows` measures (`training.cards.draws`); photographs are the units.
"""

from collections.abc import Mapping

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import datasets, files, upscalers
from helpers.downscalers import bicubic
from helpers.images import quantize
from helpers.runtime import seeded
from helpers.stats import findings
from helpers.stats.findings import Quantity

SCALES = (4, 8)
SETS = {"library": "library crops", "kodak": "Kodak", "bsd100": "BSD100", "urban100": "Urban100"}
HEAT = "lpips_1"  # D at heat 1.0, of draws
MEASURES = {  # column -> what it is, factor of the number shown, its digits
    HEAT: ("LPIPS-Alex, heat 1.0", 1, 3),
    "best": ("LPIPS-Alex, best heat", 1, 3),
    "lpips_bicubic": ("LPIPS-Alex, bicubic interpolation", 1, 3),
    "psnr_0": ("PSNR at heat 0, dB", 1, 2),
    "psnr_bicubic": ("PSNR of bicubic interpolation, dB", 1, 2),
    "lr_psnr": ("LR consistency, dB", 1, 2),
    "speckle": ("speckle share, %", 100, 2),
    "speckle_hr": ("the photograph's own, %", 100, 2),
}
CROPS = {  # chosen beforehand, for skin, edges and lattices: crop of the default X, place of the square shown
    "astronaut_y000_x000": (0, 128),
    "kodim04_y256_x256": (0, 0),
    "kodim08_y000_x256": (64, 64),
    "kodim19_y256_x000": (100, 40),
}
SIDE = 128  # of the square
COLUMNS = ("HR", "bicubic", "first", "present flow")  # of `pictures`


def read() -> pd.DataFrame:
    """The measured draws: flow, weights, set, photograph, image, and the numbers of `training.cards.draws`."""
    return pd.read_csv(files.packaged("weights") / "compact_flow_draws.csv", dtype={"weights": str})


def per_photograph(table: pd.DataFrame, flow: str, collection: str = "") -> pd.DataFrame:
    """A line for each photograph, the mean of its crops, with "best": D at the best heat of the flow.

    Args:
        table: of `read`.
        flow: "x4", "x4_first", "x8" or "x8_first".
        collection: a key of `SETS`; "" takes all.

    Raises:
        ValueError: the table has nothing of it.
    """
    found = table[(table.flow == flow) & (table["set"].eq(collection) | (collection == ""))]
    if not len(found):
        raise ValueError(f"expected a flow of {sorted(table.flow.unique())} and a set of "
                         f"{sorted(table['set'].unique())}, got {flow!r}, {collection!r}")  # fmt: skip
    means = found.groupby("photograph").mean(numeric_only=True)
    return means.assign(best=means[f"lpips_{best_heat(table, flow):g}"])


def best_heat(table: pd.DataFrame, flow: str) -> float:
    """The heat at which a flow's mean LPIPS over all photographs is least, one for all sets."""
    found = table[table.flow == flow].groupby("photograph").mean(numeric_only=True).mean()
    heats = found.filter(regex=r"^lpips_[\d.]+$")
    return float(heats.idxmin().removeprefix("lpips_"))


def numbers(table: pd.DataFrame, flow: str, collection: str) -> dict[str, Quantity]:
    """The mean of each of `MEASURES` over the photographs of a set, in the unit shown."""
    means = per_photograph(table, flow, collection)
    return {column: findings.mean(factor * means[column]) for column, (_, factor, _) in MEASURES.items()}


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """Both generations of both flows: a line for each measure and set, a column for each flow, with 95 % intervals."""
    flows = {f"x{scale}{variant}": f"x{scale}{label}" for scale in SCALES
             for variant, label in (("_first", " first"), ("", ""))}  # fmt: skip
    found = {(flow, part): numbers(table, flow, part) for flow in flows for part in SETS}
    lines = []
    for column, (label, _, digits) in MEASURES.items():
        for part, name in SETS.items():
            n = found["x4", part][column].n
            cells = {shown: format(found[flow, part][column], f".{digits}f") for flow, shown in flows.items()}
            lines.append({"of draws": label, "photographs": f"{name} ({n})"} | cells)
    heats = {shown: f"{best_heat(table, flow):g}" for flow, shown in flows.items()}
    return pd.DataFrame([*lines, {"of draws": "the best heat", "photographs": "all"} | heats])


def curve(name: str) -> pd.DataFrame:
    """The learning curve that is committed beside an embedded flow, such as "x4_first", from its likelihood on."""
    return pd.read_csv(files.packaged("weights") / f"compact_flow_{name}.csv").dropna()


def aims(table: pd.DataFrame, scale: int) -> list[dict]:
    """What the second stage was to reach on photographs never trained on, and whether it did, over all photographs.

    Returns:
        For each aim: statement, with "{change}" where the number stands; change, a `Quantity`; verdict.
    """
    first, now = (per_photograph(table, f"x{scale}{variant}") for variant in ("_first", ""))
    lpips = {column: findings.mean_ratio(now[column], first[column]) for column in (HEAT, "best")}
    sharper = findings.mean(now.psnr_0 - first.psnr_0)
    consistent, speckle = findings.mean(now.lr_psnr), findings.mean_ratio(now.speckle, first.speckle)
    least = {4: 50, 8: 44}[scale]
    found = [
        ("LPIPS-Alex at heat 1.0 is at least 12 % below *first*'s: {change:.3f} times", lpips[HEAT], {"below": 0.88}),
        ("LPIPS-Alex at each flow's own best heat is lower, too: {change:.3f} times", lpips["best"], {"below": 1.0}),
        (f"LR consistency is at least {least} dB: {{change:.2f}} dB", consistent, {"above": least}),
        ("the speckle share is at least halved: {change:.2f} times", speckle, {"below": 0.5}),
    ]  # fmt: skip
    if scale == 4:
        found.insert(2, ("PSNR at heat 0 is at least 0.3 dB higher: {change:+.2f} dB", sharper, {"above": 0.3}))
    return [
        {"statement": text, "change": change, "verdict": findings.verdict(change, **ends)}
        for text, change, ends in found
    ]


@torch.no_grad()
def pictures(
    scale: int, crops: Mapping[str, tuple[int, int]] = CROPS, *, side: int = SIDE, heat: float = 1.0, seed: int = 0
) -> dict[str, list[Tensor]]:
    """Draw the same crops with both generations, each from its own latents of one key.

    Args:
        scale: s, 4 or 8.
        crops: crops of the data set "photographs", all of which may be shown, and the top left corner of the square.
        side: of the square, pixels.
        heat: standard deviation of the latents.
        seed: with the name of the crop the key of the draw.

    Returns:
        Photograph -> the images of `COLUMNS`, (1, 3, side, side) each.
    """
    networks = [upscalers.load_compact_flow(scale, variant=variant) for variant in ("first", "")]
    found = {}
    for name, (top, left) in crops.items():
        hr = datasets.load("photographs", name)
        lr = quantize(bicubic(hr, scale))
        images = [hr, F.interpolate(lr, scale_factor=scale, mode="bicubic")]
        for network in networks:
            latents = upscalers.draw_latents(network.latent_shapes(*lr.shape[-2:]), [seeded(seed, name, 0)], heat)
            images.append(network.sample(lr, latents))
        found[name.split("_")[0]] = [quantize(image[..., top : top + side, left : left + side]) for image in images]
    return found
