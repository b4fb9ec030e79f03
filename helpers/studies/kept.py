"""Ask what notebook 02 asks of an LR image, without any upscaler: what passes, what is foreign, what it costs.

Tables have a line per image and downscaler; findings decide over photographs (`units`), several statements at once at
Holm's level.
"""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from helpers.downscalers import DOWNSCALERS, adaptive, resize, spectra
from helpers.images import quantize, to_uint8
from helpers.stats import findings, rankings
from helpers.stats.findings import Finding, Quantity

Downscalers = Mapping[str, Callable[[Tensor, int], Tensor]]
FREQUENCIES = (np.arange(48) + 0.5) / 96  # cycles per HR pixel, 0 to 0.5
LINEAR = 0.5, 0.05  # most grey levels off a mixture, most change of |H|: what rounding to 8 bits explains
CONVENTIONS = {  # word -> versions of it: names in `DOWNSCALERS`, or torch's with antialiasing
    "bicubic": ["bicubic_float", "torch, antialiased", "matlab_bicubic", "torch_bicubic"],
    "bilinear": ["torch, antialiased", "matlab_bilinear", "torch_bilinear"],
    "nearest": ["nearest_topleft"],
}
TOLD = {  # columns of `facts` that are held against the score
    "power_db": "power in the upper half of the LR band (dB)",
    "foreign": "foreign share of that power",
    "bits": "PNG bits per LR pixel",
    "difference": "mean |difference| to bicubic (levels)",
    "enlarged": "PSNR after bicubic enlargement (dB)",
}


class Passes(NamedTuple):
    """What comes through of gratings and of mixtures."""

    curves: dict[str, list[np.ndarray]]  # |H| at `FREQUENCIES` for each amplitude
    table: pd.DataFrame  # by downscaler: passband_loss, alias_share, amplitude_spread
    mixtures: pd.DataFrame  # images x downscalers: how far the LR image of a mixture is off the mixture, grey levels


def png_bits(lr: Tensor) -> float:
    """Bits per LR pixel of the smallest PNG that Pillow writes."""
    Image.fromarray(to_uint8(lr)[0].permute(1, 2, 0).numpy()).save(stream := BytesIO(), "PNG", optimize=True)
    return 8 * len(stream.getvalue()) / lr[0, 0].numel()


def enlarged_psnr(lr: Tensor, hr: Tensor) -> float:
    """PSNR after bicubic enlargement, a deterministic upscaler, in dB."""
    sr = resize(lr, hr.shape[2:], "bicubic", rounded=False).clamp(0, 1)
    return -10 * (sr - hr).square().mean().log10().item()


def passes(functions: Downscalers, images: Mapping[str, Tensor], scale: int, amplitudes: Sequence[float]) -> Passes:
    """Send gratings through each downscaler, and half-half mixtures of each image and its mirror image."""
    curves, lines, mixtures = {}, {}, {}
    keeps = 1 / (2 * scale) > FREQUENCIES
    for name, downscale in functions.items():
        curves[name] = [np.abs(spectra.response(downscale, scale, FREQUENCIES, amplitude=x)) for x in amplitudes]
        power = curves[name][len(amplitudes) // 2] ** 2
        lines[name] = {"passband_loss": 1 - power[keeps].mean(), "alias_share": power[~keeps].sum() / power.sum()}
        lines[name]["amplitude_spread"] = np.ptp(curves[name], axis=0).max()
        for image, hr in images.items():
            mirror = hr.flip(3)
            apart = (downscale(hr, scale) + downscale(mirror, scale)) / 2
            error = 255 * (downscale((hr + mirror) / 2, scale) - apart).abs().mean().item()
            mixtures.setdefault(name, {})[image] = error
    return Passes(curves, pd.DataFrame(lines).T, pd.DataFrame(mixtures))


def linear(found: Passes) -> pd.Series:
    """Whether each downscaler is a filter: mixtures come out as mixtures, |H| is the same at each amplitude."""
    most, spread = LINEAR
    return (found.mixtures.mean() < most) & (found.table.amplitude_spread < spread)


def facts(
    functions: Downscalers, images: Mapping[str, Tensor], scale: int, most_bands: int = 12
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure the LR image of each photograph by each downscaler against the band-limited one (`spectra.ideal`).

    Returns:
        A line per image and downscaler: power_db, gain and foreign of the upper half of the LR band; down and right,
        the displacement in HR pixels; difference to bicubic in grey levels; bits per LR pixel; enlarged, see
        `enlarged_psnr`. And the same by ring of frequency: frequency, ratio, power, foreign.
    """
    lines, rings = [], []
    for image, hr in images.items():
        ideal, plain = spectra.ideal(hr, scale), quantize(DOWNSCALERS["bicubic"](hr, scale))
        bands = min(most_bands, min(hr.shape[2:]) // scale // 4)
        for name, downscale in functions.items():
            lr = quantize(downscale(hr, scale))
            fine, halves = spectra.transfer(lr, ideal, bands), spectra.transfer(lr, ideal, 2)
            down, right = (scale * x for x in spectra.displacement(lr, ideal))
            line = {"image": image, "downscaler": name, "power_db": 10 * np.log10(halves.ratio[1])}
            line |= {"gain": halves.gain[1], "foreign": halves.foreign[1], "down": down, "right": right}
            line |= {"difference": 255 * (lr - plain).abs().mean().item(), "bits": png_bits(lr)}
            lines.append(line | {"enlarged": enlarged_psnr(lr, hr)})
            rings.append(pd.DataFrame(fine._asdict()).assign(image=image, downscaler=name))
    return pd.DataFrame(lines), pd.concat(rings, ignore_index=True)


def parity(images: Mapping[str, Tensor], scale: int) -> pd.DataFrame:
    """Compare versions of one word with Pillow's: a line per image, word and version, differences in grey levels."""
    lines = []
    for image, hr in images.items():
        for word, versions in CONVENTIONS.items():
            pillow = quantize(DOWNSCALERS[word](hr, scale))
            for version in versions:
                lr = quantize(DOWNSCALERS.get(version, _torch(word))(hr, scale))
                levels = (255 * (lr - pillow)).round()
                line = {"image": image, "word": word, "version": version, "largest": levels.abs().max().item()}
                line |= {"inside": levels[..., 3:-3, 3:-3].abs().max().item(), "mean": levels.abs().mean().item()}
                line |= {"differ": 100 * (levels != 0).float().mean().item()}
                lines.append(line | {"db": enlarged_psnr(lr, hr) - enlarged_psnr(pillow, hr)})
    return pd.DataFrame(lines)


def _torch(mode: str) -> Callable[[Tensor, int], Tensor]:
    def antialiased(hr, scale):
        size = hr.shape[2] // scale, hr.shape[3] // scale
        return F.interpolate(hr, size, mode=mode, antialias=True, align_corners=False)

    return antialiased


def shifts(
    images: Mapping[str, Tensor], scales: Sequence[int], lams: Sequence[float] = (0.0, 0.5, 1.0)
) -> pd.DataFrame:
    """How far the picture moves by the script of DPID's authors: a line per image, scale and lambda.

    Returns:
        down and right in HR pixels, levels (mean difference), db (change of PSNR after bicubic enlargement).
    """
    lines = []
    for image, hr in images.items():
        for s in (s for s in scales if min(hr.shape[2:]) // s >= 32):
            for lam in lams:
                formula, script = (adaptive.dpid(hr, s, lam=lam, matlab_bug=bug) for bug in (False, True))
                down, right = (s * x for x in spectra.displacement(script, formula))
                loss = enlarged_psnr(quantize(script), hr) - enlarged_psnr(quantize(formula), hr)
                line = {"image": image, "scale": s, "lam": lam, "down": down, "right": right, "db": loss}
                lines.append(line | {"levels": 255 * (script - formula).abs().mean().item()})
    return pd.DataFrame(lines)


def units(table: pd.DataFrame, column: str, photograph: Mapping[str, str], by: str = "downscaler") -> pd.DataFrame:
    """Means of photographs (lines) x conditions (columns) of a table with a line per image."""
    found = table.pivot(index="image", columns=by, values=column)[list(dict.fromkeys(table[by]))]
    return found.groupby(found.index.map(photograph).rename("photograph"), sort=False).mean()


def quantities(values: pd.DataFrame) -> dict[str, Quantity]:
    """Column -> its mean with its interval."""
    return {name: findings.mean(values[name]) for name in values}


def not_filters(found: Passes, photograph: Mapping[str, str], names: Sequence[str]) -> Finding:
    """The downscalers that adapt to the picture are no filters."""
    errors = found.mixtures.groupby(found.mixtures.index.map(photograph)).mean()
    parts = findings.decided(errors[list(names)] - LINEAR[0])
    told = ", ".join(f"{name} {findings.mean(errors[name])}" for name in names)
    said = (
        f"{', '.join(names)} are no filters: the LR image of a mixture of two pictures is off the mixture of their LR "
    )
    said += f"images by more than the {LINEAR[0]} grey levels of rounding ({told})"
    return Finding(said + findings.exceptions(parts), findings.together([each.verdict for each in parts.values()]))


def too_much(values: pd.DataFrame, soft: Sequence[str], sharp: Sequence[str]) -> Finding:
    """Soft downscalers have less power in the upper half band than the picture, the others more.

    Args:
        values: photographs x downscalers, power_db.
        soft, sharp: names among them.
    """
    signed = pd.DataFrame({name: values[name] * (1 if name in sharp else -1) for name in [*soft, *sharp]})
    parts = findings.decided(signed)
    told = ", ".join(f"{name} {findings.mean(values[name]):+.1f}" for name in [*soft, *sharp])
    said = f"{', '.join(soft)} leave the upper half of the band with less power than the picture has there, "
    said += f"{', '.join(sharp)} with more (dB: {told})"
    return Finding(said + findings.exceptions(parts), findings.together([each.verdict for each in parts.values()]))


def dearer(values: pd.DataFrame, names: Sequence[str], base: str = "bicubic") -> Finding:
    """Sharper LR images are larger files.

    Args:
        values: photographs x downscalers, bits.
        names: the sharper ones among them.
        base: what they are compared with.
    """
    relative = values[list(names)].div(values[base], axis=0) - 1
    parts = findings.decided(relative)
    told = ", ".join(f"{name} {each.quantity:+.0%}" for name, each in parts.items())
    said = f"what is sharper than {base} is a larger file ({told})"
    return Finding(said + findings.exceptions(parts), findings.together([each.verdict for each in parts.values()]))


def another(values: pd.DataFrame, name: str, than: Sequence[str]) -> Finding:
    """A version is further from Pillow's bicubic than Pillow's other filters are.

    Args:
        values: photographs x downscalers, difference to bicubic in grey levels.
        name: the version.
        than: the other filters.
    """
    parts = findings.decided(pd.DataFrame({f"than {other}": values[name] - values[other] for other in than}))
    told = ", ".join(f"{other} {findings.mean(values[other])}" for other in [name, *than])
    said = (
        f"{name} is further from Pillow's bicubic than Pillow's {' or '.join(than)} (mean difference in grey levels: "
    )
    said += f"{told})"
    return Finding(said + findings.exceptions(parts), findings.together([each.verdict for each in parts.values()]))


def moved(table: pd.DataFrame, photograph: Mapping[str, str], scale: int, lam: float = 1.0) -> Finding:
    """The script of DPID's authors moves the picture down, and enlargement pays for it."""
    part = table[(table.scale == scale) & (table.lam == lam)]
    down, db = (units(part, column, photograph, "lam")[lam] for column in ("down", "db"))
    parts = findings.decided(pd.DataFrame({"down": down, "dB lost": -db}))
    said = (
        f"the DPID script moves the picture down, by {parts['down'].quantity} HR pixels at x{scale}, lambda {lam:g}, "
    )
    said += f"and that costs {parts['dB lost'].quantity} dB of PSNR after enlargement"
    return Finding(said, findings.together([each.verdict for each in parts.values()]))


def rhos(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation, over the downscalers, of a property of the LR image and the score: photographs x `TOLD`.

    Args:
        table: of `facts`.
        rows: rows of one D of the same images, one upscaler, without damage.
    """
    scores = rankings.per_photograph(rows)
    groups = dict(zip(rows.image, rows.group.replace("", pd.NA).fillna(rows.image), strict=True))
    table = table[table.image.isin(groups) & table.downscaler.isin(list(scores))]
    found = {}
    for column in TOLD:
        values = units(table, column, groups).reindex(scores.index)[list(scores)]
        found[column] = values.rank(axis=1).T.corrwith(scores.rank(axis=1).T)
    return pd.DataFrame(found)


def _rho(values: pd.Series) -> Quantity:
    """The mean of rank correlations; its interval ends at 1."""
    found = findings.mean(values.dropna())
    return found._replace(low=max(found.low, -1.0), high=min(found.high, 1.0)) if found.low == found.low else found


def predicts(rho: pd.DataFrame, column: str = "power_db") -> Finding:
    """A property of the LR image orders the downscalers as the score does."""
    found = _rho(rho[column])
    said = "the more power in the upper half of the band, the worse the score: within a photograph Spearman's rho is "
    said += f"{found:.2f} in the mean"
    return Finding(said, findings.verdict(found, above=0.5))


def instead(rho: pd.DataFrame, column: str = "difference", of: str = "power_db") -> Finding:
    """Another property orders them no better."""
    gap = findings.mean((rho[of] - rho[column]).dropna())
    said = "power says more about the score than mere distance to bicubic, which an upscaler trained on bicubic LR "
    said += f"images might punish: rho is {_rho(rho[column]):.2f} for that, difference {gap:+.2f}"
    return Finding(said, findings.verdict(gap, above=0))


def interpolated(rho: pd.DataFrame) -> Finding:
    """PSNR after interpolation judges an LR image as the score does."""
    found = _rho(-rho.enlarged)
    said = (
        f"PSNR after bicubic enlargement judges the downscalers as the score does: rho is {found:.2f}, 1 where it does"
    )
    return Finding(said, findings.verdict(found, above=0.5))
