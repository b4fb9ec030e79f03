"""Agreement of the embedded distance with LPIPS: pairs at fixed levels, rank correlation, published scores."""

import math
from collections.abc import Callable, Collection, Sequence
from functools import cache, lru_cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from helpers import distortions, upscalers
from helpers.degradations import DEGRADATIONS
from helpers.downscalers import DOWNSCALERS, resize
from helpers.images import quantize, read_rgb
from helpers.runtime import seeded

WITHIN = 0.95  # least mean rho within an image that was aimed at, over draws of one flow alone
CALIBRATED = ("lpips", "lpips_embedded", "ssim", "ms_ssim", "dists", "psnr")
TESTED = ("nearest", "bilinear", "bicubic", "lanczos", "dpid", "perceptual", "l0")
TEST_LEVELS = (  # otsu was never trained on
    *(("otsu", level) for level in (5, 15)),
    *(("jpeg", level) for level in (10, 40)),
    *(("noise", level) for level in (0.03, 0.1)),
    *(("blur_full", level) for level in (0.7, 2.0)),
    *(("contrast", level) for level in (0.5, 1.5)),
)
DRAWS = (("draws x4", 4, ""), ("draws x8", 8, ""), ("first x4", 4, "first"), ("first x8", 8, "first"))
UNSEEN_DRAWS = (("mixed flow", 4, "mixed"),)
STRIPES = {"lines": (8, 0.1), "lines wide": (8, 0.3), "grid": (8, 0.1), "sine": (6, 0.1)}  # period, amplitude


def striped(image: Tensor, kind: str) -> Tensor:
    """Add one of `STRIPES` to an image, (1, 3, H, W): dark lines one pixel wide, a grid of them, or a sine along x."""
    period, amplitude = STRIPES[kind]
    rows, columns = (torch.arange(length, device=image.device) % period for length in image.shape[-2:])
    lines, across = (columns == 0).float(), (rows == 0).float()[:, None]
    sine = torch.sin(2 * math.pi * columns / period)
    wave = {"grid": torch.maximum(lines, across), "sine": sine}.get(kind, lines)
    return quantize(image - amplitude * wave)


@torch.no_grad()
def fixed_variants(
    image: Tensor,
    seed: int,
    name: str,
    flow: Callable[..., Callable],
    wanted: Collection[tuple[str, str]] | None = None,
) -> dict[tuple[str, str], Tensor]:
    """Make the variants of an image on which agreement is measured: the same kinds and levels for every image.

    Args:
        image: HR image in [0, 1], (1, 3, H, W), sides multiples of 8.
        seed, name: key of draws and noise.
        flow: `flow(scale=..., variant=...)`, as `upscalers.embedded_flow`.
        wanted: only these, each as (kind, what); None makes all.

    Returns:
        8-bit levels in [0, 1] by (kind, what). `DRAWS`: one draw at heat 1 for each of `TESTED`, of the flows at x4
        and x8 and of their first generation; "mixed flow": the same of the flow that the training never saw; "bicubic":
        LR images at x4, interpolated; "damage": `TEST_LEVELS` on the image itself; "stripes": `STRIPES` on it.
    """
    lr = cache(lambda scale, downscaler: quantize(DOWNSCALERS[downscaler](image, scale)))

    def draw(scale: int, variant: str, downscaler: str) -> Tensor:
        return quantize(flow(scale=scale, variant=variant)(lr(scale, downscaler), [seeded(seed, name, 0)]))

    made: dict[tuple[str, str], Callable[[], Tensor]] = {}
    for (kind, scale, variant), downscaler in product((*DRAWS, *UNSEEN_DRAWS), TESTED):
        made[kind, downscaler] = partial(draw, scale, variant, downscaler)
    for downscaler in TESTED:
        made["bicubic", downscaler] = lambda of=downscaler: resize(lr(4, of), tuple(image.shape[-2:]), "bicubic")
    for kind, level in TEST_LEVELS:
        noise = partial(seeded, seed, name, kind)
        made["damage", f"{kind} {level:g}"] = lambda k=kind, v=level, n=noise: quantize(DEGRADATIONS[k](image, v, n()))
    made |= {("stripes", kind): partial(striped, image, kind) for kind in STRIPES}
    return {key: make() for key, make in made.items() if wanted is None or key in wanted}


def compare(
    images: Sequence[tuple[str, Tensor]], metrics: Sequence[str], *, seed: int = 0
) -> list[dict[str, str | float]]:
    """Compute distances of each image to its `fixed_variants`.

    Args:
        images: names and HR images, (1, 3, H, W).
        metrics: names in `distortions.DISTORTIONS`.
        seed: of the draws.

    Returns:
        A dict per pair: image, kind, variant, and each metric's distance.
    """
    flow, rows = lru_cache(None)(upscalers.embedded_flow), []
    for name, image in images:
        found = fixed_variants(image, seed, name, flow)
        values = {metric: distortions.against(metric, image)(torch.cat(list(found.values()))) for metric in metrics}
        for place, (kind, variant) in enumerate(found):
            each = {metric: value[place].item() for metric, value in values.items()}
            rows.append({"image": name, "kind": kind, "variant": variant, **each})
    return rows


def agreement(table: pd.DataFrame, ours: str = "lpips_embedded", target: str = "lpips") -> dict[str, float]:
    """Measure how well one metric follows another.

    Args:
        table: a row per pair with columns image, `ours` and `target`.

    Returns:
        "spearman" over all pairs; "within", Spearman's rho over the pairs of one image, mean over images; "error", mean
        absolute difference; "relative", the same as a share of the target; "bias", mean difference.
    """
    a, b = table[ours], table[target]
    within = [one[[ours, target]].corr("spearman").iloc[0, 1] for _, one in table.groupby("image")]
    return {
        "n": len(table), "images": table.image.nunique(), "spearman": float(a.corr(b, "spearman")),
        "within": float(np.mean(within)), "error": float((a - b).abs().mean()),
        "relative": float(((a - b).abs() / b).mean()), "bias": float((a - b).mean()),
    }  # fmt: skip


def within(table: pd.DataFrame, ours: str = "lpips_embedded", target: str = "lpips") -> pd.DataFrame:
    """Spearman's rho over the pairs of one image: images (index) x kinds.

    Args:
        table: as `agreement`, with a column kind.
    """
    found = table.groupby(["image", "kind"], sort=False)[[ours, target]].apply(
        lambda one: one.corr("spearman").iloc[0, 1]
    )
    return found.unstack()


def by_picture(theirs: pd.DataFrame, ours: pd.DataFrame) -> pd.Series:
    """Spearman's rho between two D over the downscalers of one picture, a value for each picture that both have.

    Args:
        theirs, ours: rows of one D each, of the same pictures and downscalers.
    """
    both = pd.concat(
        [each.groupby(["image", "downscaler"]).value.mean() for each in (theirs, ours)], axis=1, join="inner"
    )
    both.columns = ["lpips", "lpips_embedded"]
    return within(both.reset_index().assign(kind="downscalers"))["downscalers"]


def ranking(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Rank downscalers by two distances of the same draws.

    Args:
        ours, theirs: distances of one D each, images x downscalers, bicubic among them.

    Returns:
        A line a downscaler, the smallest LPIPS first: lpips and lpips_embedded, means over images; rank and
        rank_embedded; difference and difference_embedded, to bicubic; error, the mean of ours minus theirs of these;
        images, the correlation of the differences over images (NaN of bicubic).
    """
    gaps = [each.drop(columns="bicubic").sub(each.bicubic, axis=0) for each in (ours, theirs)]
    return pd.DataFrame({
        "lpips": theirs.mean(), "lpips_embedded": ours.mean(), "rank": theirs.mean().rank(),
        "rank_embedded": ours.mean().rank(), "difference": gaps[1].mean(), "difference_embedded": gaps[0].mean(),
        "error": (gaps[0] - gaps[1]).mean(), "images": gaps[0].corrwith(gaps[1]),
    }).sort_values("lpips")  # fmt: skip


def by_kind(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Compute `agreement` over all pairs of `compare`, over each kind, and over what the training never saw."""
    kinds = dict(list(table.groupby("kind", sort=False)))
    unseen = {f"never seen: {name}": table[table.variant.str.match(name)] for name in ("l0", "otsu")}
    return {name: agreement(some) for name, some in ({"all": table} | kinds | unseen).items()}


def crop_middle(image: Tensor, side: int) -> Tensor:
    """Crop the middle of an image, (1, 3, H, W), to `side` pixels each way, or as many as it has."""
    side = min(side, *image.shape[-2:])
    top, left = ((length - side) // 2 for length in image.shape[-2:])
    return image[..., top : top + side, left : left + side]


def calibrate(folder: str | Path, metrics: Sequence[str] = CALIBRATED) -> list[dict[str, str | float | None]]:
    """Compute distances of image pairs, beside published ones.

    Args:
        folder: `<pair>_ref.png` and `<pair>_dist.png`, and `reference_scores.csv` with the columns metric, source and
            one per pair; rows whose source begins with "published" are compared.
        metrics: keys of `distortions.DISTORTIONS`; one whose weights are missing here has None for its own values.

    Returns:
        Two dicts per metric, "... here" and "... published", where something was published: a value per pair.
    """
    table = pd.read_csv(Path(folder) / "reference_scores.csv")
    published = table[table.source.str.startswith("published")].set_index("metric")
    pairs = sorted(path.name.removesuffix("_ref.png") for path in Path(folder).glob("*_ref.png"))
    images = {pair: [read_rgb(Path(folder) / f"{pair}_{kind}.png") for kind in ("dist", "ref")] for pair in pairs}
    rows = []
    for metric in metrics:
        there = distortions.available(metric) is None
        own = {pair: distortions.DISTORTIONS[metric](*both).item() if there else None for pair, both in images.items()}
        rows.append({"metric": f"{metric} here"} | own)
        if metric in published.index:
            rows.append({"metric": f"{metric} published"} | published.loc[metric, pairs].astype(float).to_dict())
    return rows
