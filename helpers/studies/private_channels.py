"""Whose information is in the LR image of a learned rescaler: what the public reads, what its own decoder reads.

Rows say who reads by the upscaler: a blind one is the public, the rescaler's own name is its decoder, "bicubic" is
plain enlargement. For a downscaler without a decoder the private side is the public one.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from helpers import results
from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize
from helpers.stats import bootstrap, findings, inference, rankings
from helpers.stats.decomposition import decibels
from helpers.stats.findings import Quantity

PLAIN = "bicubic"
RINGS = 12  # of a spectrum, from 0 to the Nyquist frequency of the LR image


class Sides(NamedTuple):
    """Rows of one scale by who reads the LR image."""

    public: pd.DataFrame
    private: pd.DataFrame
    reference: pd.DataFrame


def published(folder: str, scales: Sequence[int]) -> dict[str, pd.DataFrame]:
    """Read the published rows of rescalers, with those of filters on the same photographs.

    Args:
        folder: with `evidence_photographs_x4_rescalers.csv.gz` and so on; "" for none.
        scales: s.

    Returns:
        "photographs x4" and so on -> rows, of the scales that have such a file.
    """
    found = {}
    for scale in scales if folder else ():
        stem = Path(folder, f"evidence_photographs_x{scale}")
        if not Path(f"{stem}_rescalers.csv.gz").is_file():
            continue
        rows = results.read(f"{stem}_rescalers.csv.gz")
        others = (Path(f"{stem}{end}.csv.gz") for end in ("", "_upscalers"))
        others = [results.read(path) for path in others if path.is_file()]
        both = pd.concat([rows, *others], ignore_index=True).drop_duplicates(list(results.KEY))
        there = set(zip(rows.upscaler, rows.heat, strict=True))
        same = np.array([pair in there for pair in zip(both.upscaler, both.heat, strict=True)])
        found[f"photographs x{scale}"] = both[both.image.isin(set(rows.image)) & same]
    return found


def sides(rows: pd.DataFrame, public: str) -> Sides:
    """Split rows by their upscaler.

    Args:
        rows: of one scale.
        public: the blind upscaler, as rows call it.

    Raises:
        ValueError: there are no rows of the public.
    """
    if not (rows.upscaler == public).any():
        raise ValueError(f"expected rows of the upscaler {public!r}, got those of {', '.join(rows.upscaler.unique())}")
    plain = rows.upscaler == PLAIN  # bicubic enlargement of bicubic LR images is nobody's own decoder
    own = (rows.upscaler == rows.downscaler) & ~plain
    return Sides(rows[rows.upscaler == public], rows[own], rows[plain])


def losses(rows: pd.DataFrame, distortion: str) -> pd.DataFrame:
    """D of each photograph (lines) and downscaler (columns), the mean over draws; each may have another upscaler."""
    part = rows[rows.distortion == distortion]
    found = {f: rankings.per_photograph(own)[f] for f, own in part.groupby("downscaler")}
    return pd.DataFrame(found).dropna()


def gaps(of: Sides, distortion: str) -> pd.DataFrame:
    """What the public and the own decoder lose, and the gap between them, for each downscaler.

    Returns:
        One line each, the smallest public loss first: downscaler, own (whether it has a decoder), then public, private,
        gap (public - private, paired) and to_bicubic (public loss as a multiple of bicubic's), each a `Quantity`; and
        g, the gap over the public's loss of bicubic LR images.
    """
    public, private = losses(of.public, distortion), losses(of.private, distortion)
    lines = []
    for f in public:
        own = f in private
        both = pd.concat({"public": public[f], "private": private[f] if own else public[f]}, axis=1).dropna()
        base, gap = public[PLAIN].reindex(both.index), both.public - both.private
        lines.append({
            "downscaler": f, "own": own, "public": findings.mean(both.public), "private": findings.mean(both.private),
            "gap": findings.mean(gap), "g": findings.mean_ratio(gap, base),
            "to_bicubic": findings.mean_ratio(both.public, base),
        })  # fmt: skip
    return pd.DataFrame(lines).sort_values("public", key=lambda column: [each.value for each in column])


def flat(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `gaps` for a reader: each `Quantity` as text, "-" where there is no decoder."""
    text = table.map(lambda cell: f"{cell}" if isinstance(cell, Quantity) else cell)
    text.loc[~table.own, ["private", "gap", "g"]] = "-"
    return text.rename(columns={"to_bicubic": "public / public of bicubic"}).drop(columns="own")


def beside(part: Sides, distortions: Sequence[str]) -> pd.DataFrame:
    """Private loss over public loss, and public loss over that of bicubic LR images, by each of several D.

    Returns:
        As text, a line each downscaler with a decoder; columns: what, then D, of those that the rows have.
    """
    found = {}
    for d in distortions:
        if (part.public.distortion == d).any():
            table = gaps(part, d).set_index("downscaler")
            table = table[table.own]
            found["own decoder / public", d] = [
                f"{1 - g.value / p.value:.2f}" for g, p in zip(table.gap, table.public, strict=True)
            ]
            found["public / public of bicubic", d] = [f"{each:.3f}" for each in table.to_bicubic]
    return pd.DataFrame(found, index=table.index)


def ratio(above: pd.Series, below: pd.Series) -> Quantity:
    """`findings.mean_ratio` on the photographs that both have."""
    both = pd.concat({"above": above, "below": below}, axis=1).dropna()
    return findings.mean_ratio(both.above, both.below)


def advantage(private: pd.Series, reference: pd.Series) -> Quantity:
    """How many dB a mean squared error lies below another, both means over the photographs that both have.

    Args:
        private, reference: squared errors of photographs; positive where `private` is the smaller one.
    """
    both = pd.concat({"private": private, "reference": reference}, axis=1).dropna()
    parts = {name: both[[name]].to_numpy() for name in both}
    low, high = inference.jackknife(lambda m: decibels(m["private"]) - decibels(m["reference"]), parts)
    means = both.mean()
    return Quantity(
        float(decibels(means.private) - decibels(means.reference)), float(low[0]), float(high[0]), len(both)
    )


def psnr(errors: pd.Series) -> Quantity:
    """PSNR in dB of the mean of the squared errors of photographs, with its jackknife interval."""
    return advantage(errors, pd.Series(1.0, errors.index))


def by_damage(rows: pd.DataFrame, distortion: str, downscaler: str) -> pd.DataFrame:
    """D of each photograph (lines) and damage (columns: name, level; ("", 0.0) is none) of one downscaler."""
    part = rows[(rows.distortion == distortion) & (rows.downscaler == downscaler)]
    found = {
        (name, level): rankings.per_photograph(own)[downscaler]
        for (name, level), own in part.assign(level=part.level.fillna(0.0)).groupby(["degradation", "level"])
    }
    return pd.DataFrame(found)


def advantages(of: Sides, f: str) -> pd.DataFrame:
    """The private advantage of a rescaler under each damage: PSNR of its decoder minus that of bicubic & bicubic.

    Both LR images go through the same damage.

    Returns:
        One line each: degradation, level, advantage (dB, a `Quantity`) and kept, its share of that without damage.
    """
    private, reference = by_damage(of.private, "mse", f), by_damage(of.reference, "mse", PLAIN)
    whole = (private["", 0.0], reference["", 0.0])
    lines = []
    for name, level in private:
        pair = (private[name, level], reference[name, level])
        lines.append({"degradation": name, "level": level, "advantage": advantage(*pair), "kept": _kept(pair, whole)})
    return pd.DataFrame(lines)


def _kept(pair: tuple[pd.Series, pd.Series], whole: tuple[pd.Series, pd.Series]) -> Quantity:
    table = pd.concat(dict(zip("abcd", (*pair, *whole), strict=True)), axis=1).dropna()

    def share(m: Mapping) -> np.ndarray:
        return (decibels(m["a"]) - decibels(m["b"])) / (decibels(m["c"]) - decibels(m["d"]))

    low, high = inference.jackknife(share, {name: table[[name]].to_numpy() for name in table})
    return Quantity(float(share(table.mean())), float(low[0]), float(high[0]), len(table))


def by_way(table: pd.DataFrame, ways: Mapping[str, tuple[str, float]]) -> dict[str, str]:
    """The private advantage after each of some ways, in dB with its interval, as text.

    Args:
        table: of `advantages`.
        ways: label -> name and level of a degradation, ("", 0.0) is none.
    """
    left = table.set_index(["degradation", "level"]).advantage
    return {label: f"{left[way]:.2f}" for label, way in ways.items()}


def called(damage: str, level: float) -> str:
    """A damage in words for a sentence; noise in grey levels."""
    return f"{damage} {255 * level if damage == 'noise' else level:g}"


def half_life(of: Sides, f: str, damage: str = "noise", *, factor: float = 1.0) -> Quantity:
    """The level of a damage at which half of the private advantage is gone, by linear interpolation in its logarithm.

    Args:
        of: sides of rows with that damage, levels growing with the harm.
        f: the rescaler.
        damage: name of a degradation.
        factor: of the unit that is wanted; 255 says noise in grey levels.

    Returns:
        In units of the level times `factor`; infinity where the advantage outlives the highest level, the lowest level
        where it is gone before. The interval is that of 2000 resamples of photographs, percentiles.
    """
    private, reference = by_damage(of.private, "mse", f), by_damage(of.reference, "mse", PLAIN)
    levels = sorted(level for name, level in private if name == damage)
    columns = [("", 0.0), *((damage, level) for level in levels)]
    table = pd.concat([private[columns], reference[columns]], axis=1).dropna()
    means = bootstrap.resample_means(table.to_numpy(), 2000, bootstrap.generator(0, "half-life"))
    values = [_half(each, levels) for each in (table.mean().to_numpy()[None], means)]
    low, high = np.quantile(values[1], (0.025, 0.975), method="nearest")
    return Quantity(*(factor * float(each) for each in (values[0][0], low, high)), len(table))


def _half(means: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    half = means.shape[1] // 2
    left = decibels(means[:, :half]) - decibels(means[:, half:])
    left = left / left[:, :1]
    logs, found = np.log2(levels), np.full(len(left), np.inf)
    for line, values in enumerate(left[:, 1:]):
        below = np.flatnonzero(values <= 0.5)
        if len(below):
            k = below[0]
            found[line] = levels[0] if k == 0 else 2 ** np.interp(-0.5, -values[k - 1 : k + 1], logs[k - 1 : k + 1])
    return found


def noticed(of: Sides, f: str, distortion: str) -> pd.DataFrame:
    """How much the public's score of a rescaler rises under each damage, beside bicubic's rise under the same.

    Returns:
        One line each damage: degradation, level, rise and control (ratios to the score without damage), and excess,
        rise over control.
    """
    mine, plain = (by_damage(of.public, distortion, each) for each in (f, PLAIN))
    lines = []
    for name, level in (column for column in mine if column[0]):
        table = pd.concat({"a": mine[name, level], "b": mine["", 0.0], "c": plain[name, level], "d": plain["", 0.0]},
                          axis=1).dropna()  # fmt: skip
        parts = {each: table[[each]].to_numpy() for each in table}
        low, high = inference.jackknife(lambda m: m["a"] / m["b"] / (m["c"] / m["d"]), parts)
        m = table.mean()
        lines.append({
            "degradation": name, "level": level, "rise": findings.mean_ratio(table.a, table.b),
            "control": findings.mean_ratio(table.c, table.d),
            "excess": Quantity(float(m.a / m.b / (m.c / m.d)), float(low[0]), float(high[0]), len(table)),
        })  # fmt: skip
    return pd.DataFrame(lines)


def hidden(
    images: Mapping[str, Tensor], functions: Mapping[str, Callable[[Tensor, int], Tensor]], scale: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Look at the difference between an LR image and the bicubic one: how large, how coloured, how fine.

    Args:
        images: HR images by photograph.
        functions: downscalers by name.
        scale: s.

    Returns:
        A line per photograph and downscaler: mse (squared difference, intensities in [0, 1]), chroma (share of its
        energy off the grey axis; two thirds if the channels differ independently) and fine (share above half the
        Nyquist frequency; about four fifths of white noise). And its spectrum: photograph, downscaler, frequency
        (cycles per LR pixel), power, and bicubic, the power of the bicubic LR image itself.
    """
    lines, rings = [], []
    for image, hr in images.items():
        plain = quantize(DOWNSCALERS[PLAIN](hr, scale))
        edges, ring = _rings(*plain.shape[-2:])
        of_plain = _power(plain, ring)
        for name, downscale in functions.items():
            difference = (quantize(downscale(hr, scale)) - plain).double()
            grey = difference.mean(1, keepdim=True)
            energy = difference.square().mean().item()
            power = _power(difference, ring)
            whole, count = (power * np.bincount(ring, minlength=RINGS + 1)[:RINGS]), edges[:-1]
            line = {"photograph": image, "downscaler": name, "mse": energy}
            line["chroma"] = 1 - (grey.square().mean().item() / energy if energy else np.nan)
            line["fine"] = whole[count >= 0.25].sum() / whole.sum() if whole.sum() else np.nan
            lines.append(line)
            middle = (edges[:-1] + edges[1:]) / 2
            rings.append(pd.DataFrame({"photograph": image, "downscaler": name, "frequency": middle, "power": power,
                                       "bicubic": of_plain}))  # fmt: skip
    return pd.DataFrame(lines), pd.concat(rings, ignore_index=True)


def _rings(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of rings of frequency, and the ring of each place of a 2-D spectrum; beyond the last is `RINGS`."""
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij"))
    edges = np.linspace(0, 0.5, RINGS + 1)
    return edges, np.minimum(np.floor(radius / 0.5 * RINGS).astype(int), RINGS).ravel()


def _power(image: Tensor, ring: np.ndarray) -> np.ndarray:
    """Mean power of the three channels in each ring; the mean of each channel is left out."""
    centred = image - image.mean((2, 3), keepdim=True)
    power = (np.abs(np.fft.fft2(centred[0].double().numpy())) ** 2).mean(0).ravel() / image[0, 0].numel()
    counts = np.maximum(np.bincount(ring, minlength=RINGS + 1), 1)
    return (np.bincount(ring, power, RINGS + 1) / counts)[:RINGS]


def word(quantity: Quantity, at: float = 0.0, *, higher: bool = True) -> str:
    """ "better", "worse" or "open", as the interval says, with the number.

    Args:
        quantity: with its interval.
        at: where neither is better.
        higher: whether more is better.
    """
    above, below = quantity.low > at, quantity.high < at
    said = "open" if not (above or below) else "better" if above == higher else "worse"
    return f"{said} {quantity}"
