"""Take a search's score apart on faces whose latents are known: frozen noise, other answers, what it misses.

The samples of the embedded generator lie on the manifold that is searched, so every part of the loss can be set to zero
but one. Rows of the part that needs no search, the known style with other noise, are kept beside those of the searches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import distortions, results, runs, upscalers
from helpers.datasets import generated
from helpers.images import quantize
from helpers.runs import cell, checks
from helpers.runtime import seeded
from helpers.stats import conditions, findings, rankings
from helpers.stats.decomposition import decibels
from helpers.upscalers import pulse

OTHER_NOISE = "known style, other noise"  # upscaler of a row
AGREE = 45.0  # dB of LR-PSNR from which on an answer is called one of the LR image
PARTS = ("frozen noise", "other answers", "search shortfall", "downscaler")


@torch.no_grad()
def drawn(network, latents: Tensor, noise: Sequence[Tensor | None]) -> Tensor:
    """The faces at points of the sphere, without a search, (N, 3, R, R) in [0, 1].

    Args:
        network: of `pulse.GENERATORS`.
        latents, noise: as `pulse.draw_starts` returns them.
    """
    styles = F.leaky_relu(latents * network.std + network.mean, network.slope)
    return ((network.synthesis(styles.expand(-1, len(network.noise_shapes), -1), noise) + 1) / 2).clamp(0, 1)


def truths(network, names: Sequence[str]) -> tuple[Tensor, list[Tensor], Tensor]:
    """Where a search would have to end.

    Args:
        network: the embedded generator, as the search has it.
        names: of generated images.

    Returns:
        Latents (N, 1, D) and noise maps on which the search has the images themselves, and the images.
    """
    each = [generated.known(name) for name in names]
    style = torch.cat([one.style for one in each]).to(network.mean)
    latents = (F.leaky_relu(style, 1 / network.slope) - network.mean) / network.std
    noise = [torch.cat(maps).to(network.mean) for maps in zip(*(one.noise for one in each), strict=True)]
    return latents[:, None], noise, torch.cat([one.image for one in each]).to(network.mean)


@cell.one_thread()
@torch.no_grad()
def other_noise(experiment: runs.Experiment, rows_dir: str) -> pd.DataFrame:
    """Score faces of the known style with the noise that a search would have frozen, and keep the rows.

    Args:
        experiment: of generated images; its first downscaler, scale, seed, D and device. The noise of a draw is that
            with which the search starts it.
        rows_dir: folder of rows.

    Returns:
        Rows as `results.read` has them, one draw each; `residual` is that to the LR image.

    Raises:
        ValueError: as `generated.known` and `runs.keys`.
    """
    asked = experiment.distortion
    wanted = [each for each in ([asked] if isinstance(asked, str) else asked) if not each.endswith("_of_mean")]
    plain = replace(experiment, downscalers=experiment.downscalers[:1], upscaler="bicubic", heat=0.0, n_samples=1,
                    distortion=wanted, degradations=[("", None)])  # fmt: skip
    named = [
        dict(zip(results.KEY, key, strict=True)) | {"upscaler": OTHER_NOISE, "heat": 1.0} for key in runs.keys(plain)
    ]
    keys = [tuple(each[column] for column in results.KEY) for each in named]
    rows = checks.held(plain, keys, rows_dir)
    if not (missing := set(results.missing(keys, rows))):
        return rows
    network = pulse.GENERATORS["embedded_pulse"](experiment.device)
    of = {each["image"]: [] for each in named}
    for each, key in zip(named, keys, strict=True):
        if key in missing:
            of[each["image"]].append(each)
    facts = {"weights": upscalers.weights_hash("embedded_pulse", plain.scale), "version": results.VERSION}
    for image, lines in of.items():
        hr, lr = runs.pair(plain, image, next(iter(plain.specs)))
        latents, _, _ = truths(network, [image])
        _, noise = pulse.draw_starts(network, [seeded(plain.seed, image, 0)])
        sr = quantize(drawn(network, latents, noise))
        residual = (pulse.bicubic_proxy(sr, plain.scale) - lr).square().mean().item()
        shown = runs.proof(plain, image, hr, lr) | {"residual": residual, "converged": float(residual <= 2e-3)}
        shown |= dict.fromkeys(("clipped", "seconds", "lr_bits")) | {"device": hr.device.type}
        results.append(
            [each | facts | shown | {"metric": distortions.describe(each["distortion"]),
                                     "value": distortions.against(each["distortion"], hr)(sr).item()}
             for each in lines], rows_dir)  # fmt: skip
    return results.read(rows_dir, keys=keys)


def budget(
    noise: pd.DataFrame, tight: pd.DataFrame, search: pd.DataFrame, worst: str, best: str, *, agree: float = AGREE
) -> pd.DataFrame | None:
    """The parts of a search's score on bicubic LR images, and what lies between two downscalers, by photograph.

    Args:
        noise, tight, search: rows of one D: of `other_noise`; of a search that goes on until it agrees with the LR
            image; of the search in question, for all its downscalers. The first draw of each is taken.
        worst, best: two downscalers of `search`.
        agree: LR-PSNR in dB; photographs whose tight answer agrees less are left out.

    Returns:
        One line per photograph, columns `PARTS`: frozen noise (the known style with other noise); other answers (what
        the tight search adds); search shortfall (what the search in question adds to it); downscaler (loss of `worst`
        less that of `best`). None where fewer than two photographs are left.
    """
    bicubic = tight[(tight.downscaler == "bicubic") & (tight["sample"] == 0)]
    there = set(bicubic.image[decibels(bicubic.residual) >= agree])
    if len(there) < 2:
        return None
    first = search[(search["sample"] == 0) & search.image.isin(there)]
    units = {
        name: conditions.by_photograph(part[part.image.isin(there)].set_index("image").value, part)
        for name, part in (("noise", noise), ("tight", bicubic), ("search", first[first.downscaler == "bicubic"]))
    }
    gaps = rankings.per_photograph(first[first.downscaler.isin([worst, best])])
    return pd.DataFrame({
        "frozen noise": units["noise"],
        "other answers": units["tight"] - units["noise"],
        "search shortfall": units["search"] - units["tight"],
        "downscaler": gaps[worst] - gaps[best],
    })  # fmt: skip


def told_apart(rows: pd.DataFrame, away: Mapping[frozenset, float], within: float) -> tuple[list[str], list[str]]:
    """Pairs of downscalers whose LR images lie near each other: all, and those that a search tells apart.

    Args:
        rows: one row per draw, of one D and one search.
        away: pair of downscalers -> mean squared difference of their LR images.
        within: pairs nearer than this are looked at; Holm is over all pairs of the rows.
    """
    pairs = rankings.paired(rows)
    near = pairs[[away[frozenset((f, g))] < within for f, g in zip(pairs.f, pairs.g, strict=True)]]
    names = (near.f + "/" + near.g).tolist()
    return names, [name for name, p in zip(names, near.p_holm, strict=True) if p < 0.05]


def lr_distances(experiment: runs.Experiment) -> dict[frozenset, float]:
    """Mean squared difference between the LR images of each pair of downscalers of an experiment, over its images."""
    lrs = {
        name: torch.cat([runs.pair(experiment, image, name)[1] for image in experiment.images])
        for name in experiment.specs
    }
    return {frozenset((f, g)): (lrs[f] - lrs[g]).square().mean().item() for f in lrs for g in lrs if f != g}


def budgets(
    noise: pd.DataFrame,
    tight: Mapping[str, pd.DataFrame],
    search: Mapping[str, pd.DataFrame],
    worst: str,
    best: str,
    images: Sequence[str],
) -> dict[str, pd.DataFrame]:
    """`budget` by each D of which all rows are there.

    Args:
        noise: rows of `other_noise`, all D.
        tight, search: D -> rows.
        worst, best: as in `budget`.
        images: those that `noise` must have.
    """
    whole = {d: part for d, part in noise.groupby("distortion") if len(part) == len(images)}
    both = [d for d in tight if d in search and d in whole]
    found = {d: budget(whole[d], tight[d], search[d], worst, best) for d in both}
    return {d: table for d, table in found.items() if table is not None}


def each_part_is_there(table: pd.DataFrame, worst: str, best: str) -> dict:
    """Is each part of a budget above 0? Values of a sentence, as keywords of `notebook.finding`.

    Args:
        table: of `budget`.
        worst, best: as there.
    """
    found = findings.decided(table)
    said = ", ".join(f"{part} {each.quantity}" for part, each in found.items())
    facts = {"n": len(table), "said": said, "worst": worst, "best": best}
    return {"verdict": [each.verdict for each in found.values()]} | facts


def half_is_its_own(table: pd.DataFrame) -> dict:
    """Is more than half of a search's score frozen noise and shortfall? Values of a sentence, as above.

    Args:
        table: of `budget`.
    """
    total = table[list(PARTS[:3])].sum(axis=1)
    own = findings.mean_ratio(table["frozen noise"] + table["search shortfall"], total)
    return {"verdict": findings.verdict(own, above=0.5), "own": own, "n": own.n}
