"""Plan a run: how many photographs and how many draws an effect, a score or a ranking needs."""

import bisect
import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from helpers.stats import agreement, bootstrap, conditions, rankings


class Needed(NamedTuple):
    """`table`: one line per size; the smallest sizes from which on a criterion is met (None: none)."""

    table: pd.DataFrame
    n_tau: int | None
    n_signs: int | None


def variance_split(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler") -> pd.DataFrame:
    """Split the variance of a score into photographs and draws: Var(S) = s_b^2 / n + s_w^2 / (n c N_Q).

    n photographs, c images (crops) of each, N_Q draws of each image; where an image is a photograph, n = N_X and c = 1.
    Moment estimators of the one-way random-effects model; c and N_Q are harmonic means. Several crops of a photograph
    are part of s_b^2.

    Args:
        rows, by: as in `rankings.per_image`.

    Returns:
        One line per condition: its name, distortion, n, images, crops (c), n_samples (N_Q, of finite draws), s_b2
        (between photographs; 0 where its estimate is below), s_w2 (within an image), icc (s_b2 / (s_b2 + s_w2)),
        var_images and var_samples (the two terms of the sum), share_samples (share of the second), note.

    Raises:
        ValueError: as `rankings.per_image`.
    """
    table = rankings.per_image(rows, by)
    s_w2 = table["variance"].mean()  # over the images with two finite draws or more
    units = conditions.by_photograph(table["mean"], rows)
    n, images = units.count(), table["mean"].count()
    draws = table["draws"].where(table["draws"] > 0)
    n_samples = images / (1 / draws).sum()
    crops = n / (1 / draws.groupby(conditions.photographs(rows)).count().where(units.notna())).sum()
    estimate = units.var(ddof=1) - s_w2 / (crops * n_samples)
    s_b2 = estimate.clip(lower=0)
    result = pd.DataFrame({"distortion": rows.distortion.iloc[0], "n": n, "images": images, "crops": crops})
    result = result.assign(n_samples=n_samples, s_b2=s_b2, s_w2=s_w2, icc=s_b2 / (s_b2 + s_w2))
    result = result.assign(var_images=s_b2 / n, var_samples=s_w2 / (n * crops * n_samples))
    result["share_samples"] = result.var_samples / (result.var_images + result.var_samples)
    notes = np.where(estimate < 0, "estimate of s_b2 below 0", "")
    result["note"] = np.where(estimate.isna(), "no split (one photograph or one draw)", notes)
    return result.rename_axis(conditions.label(by)).reset_index()


def images_for(
    d_z: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    pairs: int = 1,
    pilot: int | None = None,
    chosen: bool = False,
) -> int:
    """Number of photographs that show a paired difference with the two-sided t test.

    A plan that takes the d_z of a pilot for the truth mostly reaches less than it promises: 53 to 82 % for 80 %,
    because small spreads and large differences are found by chance. With `pilot` the plan has its power on average
    over what the truth may be given the pilot, and where d_z is the truth: 81 to 88 % are reached, but 76 % of a
    small effect (d_z 0.3) from five photographs; with `chosen` 80 to 86 % (pilots of 5 to 24,
    `python -m tools.simulate`).

    Args:
        d_z: the effect, mean / sd of the differences between photographs.
        alpha: level, before it is divided by `pairs`.
        power: wanted probability of finding the effect.
        pairs: number of comparisons; alpha / pairs is Holm's worst step.
        pilot: number of photographs that d_z comes from; None takes it as known exactly.
        chosen: the difference was chosen beforehand, and the pilot gave its sd alone.

    Returns:
        The smallest such number at which Wilcoxon's test, too, could reach alpha / pairs: its least p is 2 / 2^n.

    Raises:
        ValueError: `d_z` is 0 or not finite, or another argument is out of range.
    """
    if not (
        math.isfinite(d_z) and d_z and 0 < alpha < 1 and 0 < power < 1 and pairs >= 1 and (pilot is None or pilot > 1)
    ):
        got = f"{d_z!r}, {alpha}, {power}, {pairs}, {pilot}"
        wanted = "a finite d_z other than 0, alpha and power in (0, 1), pairs >= 1, a pilot of 2 or more"
        raise ValueError(f"expected {wanted}, got {got}")

    def enough(n: int) -> bool:
        ways = {True, chosen or pilot is None}
        return all(power_of(n, d_z, alpha=alpha / pairs, pilot=pilot, chosen=way) >= power for way in ways)

    least = max(2, math.ceil(math.log2(2 * pairs / alpha)))
    most = least
    while not enough(most):
        most *= 2
    return bisect.bisect_left(range(most + 1), True, lo=max(least, most // 2), key=enough)


def plan(pairs: pd.DataFrame, *, margin: float | None = None, alpha: float = 0.05, power: float = 0.8) -> str:
    """Say how many photographs show the closest pair of a table, the table being the pilot.

    Args:
        pairs: of `rankings.paired`.
        margin: a difference, in units of D, that would matter: the number that shows it is said, too.
        alpha, power: as in `images_for`.

    Returns:
        A sentence; it says so where no pair has a spread.
    """
    found = pairs[np.isfinite(pairs.d_z) & (pairs.d_z != 0)]
    if found.empty:
        return "How many photographs are needed cannot be said: no pair has a difference that varies."
    line = found.loc[found.difference.abs().idxmin()]
    options = {"alpha": alpha, "power": power, "pairs": line.family, "pilot": line.n}
    text = (
        f"To show {line.f} - {line.g} = {line.difference:+.4g}, the closest pair, in {100 * power:.0f} % of runs "
        f"(t test, alpha {alpha:g}, Holm over {line.family}): {images_for(line.d_z, **options)} photographs, "
        f"planned from {line.n} (d_z = {line.d_z:+.2f})"
    )
    if margin is not None:
        needed = images_for(margin * line.d_z / line.difference, chosen=True, **options)
        text += f"; to show a difference of {margin:.4g} between these two: {needed}"
    return text + "."


def power_of(n: int, d_z: float, *, alpha: float = 0.05, pilot: int | None = None, chosen: bool = False) -> float:
    """Probability that the paired t test of n photographs rejects, averaged over what d_z may be given a pilot.

    T = (Z + sqrt(n) d) / s with s^2 ~ chi^2_{n-1} / (n - 1), and d = d_z u [+ N(0, 1 / pilot)] with
    u^2 ~ chi^2_{pilot-1} / (pilot - 1); u and s by Gauss-Legendre over their quantiles, the normal parts exactly
    (SciPy's noncentral t is NaN for small alpha).

    Args:
        n, alpha: of the test, two-sided.
        d_z, pilot, chosen: as in `images_for`.
    """
    points, weights = _quantiles()

    def spread(df: int) -> np.ndarray:
        return np.sqrt(2 * special.gammaincinv(df / 2, (points + 1) / 2) / df)  # chi2.ppf, without its checks

    u = np.ones_like(points) if pilot is None else spread(pilot - 1)
    width = 1.0 if pilot is None or chosen else math.sqrt(1 + n / pilot)
    shift, limit = math.sqrt(n) * d_z * u[:, None], stats.t.isf(alpha / 2, n - 1) * spread(n - 1)
    found = special.ndtr((shift - limit) / width) + special.ndtr((-shift - limit) / width)
    return float(weights @ found @ weights / 4)


def images_for_ranking(
    rows: pd.DataFrame,
    by: str | Sequence[str] = "downscaler",
    *,
    sizes: Sequence[int] | None = None,
    n_subsamples: int = 1000,
    tau: float = 0.95,
    share: float = 0.95,
    seed: int = 0,
) -> Needed:
    """Find how many photographs give the ranking of all of them, from subsamples without replacement.

    A subsample is part of the run that it is compared with: n of N photographs differ from the full run as much as
    `fresh` = n N / (N - n) new ones differ from the population; n = N tests nothing.

    Args:
        rows, by: as in `agreement.kendall`; only images with all conditions are used.
        sizes: n to try, 1 to N; None for all from 2, or 40 of them.
        n_subsamples: number of subsamples for each n.
        tau, share: a size is enough if tau-b is above `tau` in at least `share` of its subsamples.
        seed: seed of the subsamples.

    Returns:
        `Needed`; its table has n, fresh, tau_mean, tau_low (the 1 - `share` quantile), share_tau (of subsamples above
        `tau`), share_signs (in which all pairs significant in the full run keep their sign), pairs (how many those
        are).

    Raises:
        ValueError: as `agreement.kendall`; fewer than two photographs, or a size out of range.
    """
    means = agreement.common_means(rows, by)
    d, n_all = agreement.differences(means), len(means)
    if n_all < 2:
        raise ValueError(f"expected two photographs or more that have all of {list(means)}, got {n_all}")
    some = np.geomspace(2, n_all, 40).round().astype(int)  # small steps where it matters
    sizes = sorted(sizes if sizes is not None else range(2, n_all + 1) if n_all <= 40 else set(some.tolist()))
    if not sizes or not 1 <= sizes[0] <= sizes[-1] <= n_all:
        raise ValueError(f"expected sizes from 1 to {n_all}, the photographs there are, got {sizes}")
    full = d.sum(axis=0, keepdims=True)
    significant = (agreement.compare_pairs(means, d).p_holm < agreement.ALPHA).to_numpy()
    lines = []
    for n in sizes:
        order = bootstrap.generator("subsamples", seed, n).random((n_subsamples, n_all)).argsort(axis=1)
        subsample = (order.argsort(axis=1) < n) @ d
        taus = np.nan_to_num(bootstrap.tau(full, subsample))  # what ranks nothing agrees with nothing
        kept = (np.sign(subsample) == np.sign(full))[:, significant].all(axis=1)
        line = {"n": n, "fresh": n * n_all / (n_all - n) if n < n_all else math.inf, "tau_mean": taus.mean()}
        line |= {"tau_low": np.quantile(taus, 1 - share), "share_tau": (taus > tau).mean()}
        lines.append(line | {"share_signs": kept.mean(), "pairs": significant.sum()})
    table = pd.DataFrame(lines)
    return Needed(table, _from_here(table.n, table.share_tau >= share), _from_here(table.n, table.share_signs >= share))


def samples_or_images(
    rows: pd.DataFrame,
    by: str | Sequence[str] = "downscaler",
    *,
    pairs: Sequence[tuple] | None = None,
    image_cost: float = 1.0,
    most: int = 100,
) -> pd.DataFrame:
    """Find the best number of samples per image, N_Q, at a fixed cost: for each score and each difference.

    Var = s_b^2 / n + s_w^2 / (n c N_Q), see `variance_split`. A difference f - g is split draw by draw: draw q of an
    image has the same latents for all downscalers, so part of its noise cancels. At a fixed budget n c (image_cost +
    N_Q) the best N_Q minimises (s_b^2 + s_w^2 / (c N_Q)) (image_cost + N_Q), near sqrt(image_cost s_w^2 / (c s_b^2));
    without an image cost it is always 1.

    Args:
        rows, by: as in `agreement.kendall`, two draws or more of each image.
        pairs: (f, g) whose difference is split; None for all pairs, the better one as f.
        image_cost: cost of one more image (find, read, downscale), in decoder calls.
        most: largest N_Q to consider.

    Returns:
        One line per condition, then per pair: kind ("score", "difference"), name, mean, se (of the mean), and n,
        images, crops, n_samples, s_b2, s_w2, share_samples, note of `variance_split`; best_n_samples, and efficiency
        (variance with the best N_Q over variance with this one, at equal cost; 1 is best).

    Raises:
        ValueError: as `rankings.per_image`; unknown pairs, a negative cost, or `most` below 1.
    """
    means = agreement.common_means(rows, by)
    means = means[means.mean().sort_values(kind="stable").index]
    pairs = list(itertools.combinations(means, 2)) if pairs is None else [tuple(pair) for pair in pairs]
    if wrong := [pair for pair in pairs if len(set(pair)) != 2 or not set(pair) <= set(means)]:
        raise ValueError(f"pairs: expected two of {list(means)} each, got {wrong}")
    if not 0 <= image_cost < math.inf or most < 1:
        raise ValueError(f"expected image_cost >= 0 and most >= 1, got {image_cost!r} and {most!r}")
    draws = _draws(rows, by)
    gaps = pd.concat({f"{f} - {g}": draws[f] - draws[g] for f, g in pairs}, names=["pair"]).dropna()
    gaps = gaps.reset_index(name="value").assign(distortion=rows.distortion.iloc[0])
    gaps["group"] = gaps.image.map(conditions.photographs(rows))
    lines = pd.concat([_split(rows, by).loc[list(means)], _split(gaps, "pair").loc[gaps.pair.unique()]])
    lines["kind"] = np.where(lines.index.isin(means.columns), "score", "difference")
    q = np.arange(1, most + 1)
    s_w2 = lines.s_w2 / lines.crops  # of a mean over the images of a photograph
    total = (lines.s_b2.to_numpy()[:, None] + s_w2.to_numpy()[:, None] / q) * (image_cost + q)
    here = (lines.s_b2 + s_w2 / lines.n_samples) * (image_cost + lines.n_samples)
    lines = lines.assign(best_n_samples=q[total.argmin(axis=1)], efficiency=total.min(axis=1) / here)
    shown = ["kind", "name", "mean", "n", "images", "crops", "n_samples", "s_b2", "s_w2", "se", "share_samples"]
    return lines.reset_index(names="name")[[*shown, "best_n_samples", "efficiency", "note"]]


@functools.cache
def _quantiles() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(48)


def _from_here(sizes: pd.Series, enough: pd.Series) -> int | None:
    """The smallest size from which on all sizes are enough; None if the largest is not."""
    failed = sizes[~enough]
    left = sizes if failed.empty else sizes[sizes > failed.max()]
    return None if left.empty else int(left.min())


def _split(rows: pd.DataFrame, by: str | Sequence[str]) -> pd.DataFrame:
    """`variance_split` by condition, with the mean and its standard error."""
    split = variance_split(rows, by)
    means = conditions.by_photograph(rankings.per_image(rows, by)["mean"], rows)
    split = split.set_index(split.columns[0]).assign(mean=means.mean())
    return split.assign(se=np.sqrt(split.var_images + split.var_samples))


def _draws(rows: pd.DataFrame, by: str | Sequence[str]) -> dict[str, pd.Series]:
    """The values of each condition, indexed by image and sample; NaN where not finite."""
    keys = ["image", *(["seed"] if "seed" in rows else []), "sample"]
    parts = [part for _, part in rows.groupby(conditions.columns(by), dropna=False)]
    names = [rankings.per_image(part, by)["mean"].columns[0] for part in parts]
    finite = [part.set_index(keys).value.replace([math.inf, -math.inf], math.nan) for part in parts]
    return dict(zip(names, finite, strict=True))
