"""Values of the sentences of the notebook on real downscalers, and a sheet of what the upscaler makes of each.

A function whose name is a claim returns the values of one sentence as keywords of `notebook.finding`, `verdict` among
them. In all of them the first of `distortions` decides, and the other D are told.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from helpers.stats import claims, decomposition, findings
from helpers.studies import evidence, search_plots

NONE_BEATS = "DPID, L0, Perceptual: none beats bilinear"
Verdicts = Mapping[str, Mapping[str, pd.DataFrame]]  # D -> setting -> `claims.verdicts`, indexed by statement


def judged(name: str, verdicts: Verdicts, distortions: Sequence[str], statement: str) -> dict:
    """What the rows of a setting say about a statement of the paper.

    Args:
        name: the setting.
        verdicts: of `evidence.verdicts` for each D.
        distortions: D of the setting.
        statement: one of `claims`.
    """
    first, *others = distortions
    line = verdicts[first][name].loc[statement]
    beside = ", ".join(f"{d} {verdicts[d][name].verdict[statement]}" for d in others)
    facts = {"name": name, "first": first, "evidence": line.evidence, "beside": beside}
    return {"verdict": line.verdict, "source": line.source} | facts


def none_beats_bilinear(name: str, rows: pd.DataFrame, verdicts: Verdicts, distortions: Sequence[str]) -> dict | None:
    """Does none of the three adaptive downscalers beat bilinear? None without their rows.

    Args:
        name, verdicts, distortions: as in `judged`.
        rows: of the setting.
    """
    facts = judged(name, verdicts, distortions, NONE_BEATS)
    if facts["verdict"] == "no rows":
        return None
    part = evidence.of(rows, facts["first"])
    ratios = {f: findings.ratio(part, f, "bilinear") for f in ("dpid", "perceptual", "l0")}
    least = min(ratios, key=lambda f: ratios[f].value)
    return facts | {"n": part.image.nunique(), "least": least, "ratio": ratios[least]}


def loses_more(
    name: str, rows: pd.DataFrame, verdicts: Verdicts, distortions: Sequence[str], statement: str, downscaler: str
) -> dict:
    """What the rows say about a statement on one downscaler and bicubic, with the ratio of the two losses.

    Args:
        name, rows, verdicts, distortions, statement: as in `judged` and `none_beats_bilinear`.
        downscaler: the one that is compared with bicubic.
    """
    ratios = {d: findings.ratio(evidence.of(rows, d), downscaler, "bicubic") for d in distortions}
    said = [f"{d} {ratio:.3f}, {verdicts[d][name].verdict[statement]}" for d, ratio in ratios.items()]
    facts = judged(name, verdicts, distortions, statement)
    return facts | {"ratio": ratios[distortions[0]], "beside": "; ".join(said[1:])}


def comes_nearer(before: pd.DataFrame, after: pd.DataFrame, downscaler: str) -> dict:
    """Does a downscaler come nearer to bicubic, or get further ahead of it, from one setting to another?

    Args:
        before, after: rows of one D.
        downscaler: the one that is compared with bicubic.
    """
    change = findings.ratio_change(before, after, downscaler, "bicubic")
    one, two = (findings.ratio(part, downscaler, "bicubic").value for part in (before, after))
    return {"verdict": findings.verdict(change, below=0), "before": one, "after": two, "change": change}


def by_content(parts: Mapping[str, pd.DataFrame]) -> dict[str, dict[int, pd.DataFrame]]:
    """Contents that have rows at several scales -> scale -> rows.

    Args:
        parts: rows by setting, "content xN".
    """
    found = {content: {} for content in sorted({name.rsplit(" ", 1)[0] for name in parts})}
    for name, part in parts.items():
        content, scale = name.rsplit(" x", 1)
        found[content][int(scale)] = part
    return {content: several for content, several in found.items() if len(several) > 1}


def larger_factor_loses_more(several: Mapping[int, pd.DataFrame], distortion: str, **options) -> dict:
    """Does each downscaler lose more at each larger factor?

    Args:
        several: scale -> rows, of `by_content`.
        distortion: D.
        options: of `claims.verdicts`.
    """
    both = pd.concat([evidence.of(part, distortion) for part in several.values()]).drop(columns=["upscaler", "heat"])
    steps = tuple((t, s) for s, t in zip(sorted(several), sorted(several)[1:], strict=False))
    factor = claims.Claim("a larger factor loses more", "P 4.2", steps)
    lines = [claims.verdicts(part, [factor], "scale", **options).iloc[0] for _, part in both.groupby("downscaler")]
    return {"verdict": [line.verdict for line in lines], "source": factor.source, "k": len(lines),
            "n": min(line.n for line in lines), "factors": ", ".join(f"x{s}" for s in sorted(several))}  # fmt: skip


def owes_to_spread(rows: pd.DataFrame) -> dict:
    """Is bilinear ahead of bicubic in the squared error, though behind in the bias?

    Args:
        rows: of one setting, several draws an image.

    Returns:
        Bilinear minus bicubic, times 1000, in score, bias and spread.
    """
    split = decomposition.split_per_image(rows)
    gap = {
        what: findings.mean(1000 * (split[what]["bilinear"] - split[what]["bicubic"]).dropna())
        for what in ("score", "bias", "spread")
    }
    return {"verdict": [findings.verdict(gap["score"], below=0), findings.verdict(gap["bias"], above=0)]} | gap


def same_order(a: pd.DataFrame, b: pd.DataFrame) -> dict:
    """Is the order of the downscalers by two sets of rows much the same?"""
    tau = findings.tau(a, b)
    return {"verdict": findings.verdict(tau, above=findings.ALIKE), "tau": tau, "n": tau.n}


def camera_loses_less(rows: pd.DataFrame, **options) -> dict:
    """Do camera LR images lose less than those of all downscalers?

    Args:
        rows: of one D, with the downscaler "camera".
        options: of `claims.verdicts`.
    """
    line = claims.verdicts(rows, **options).set_index("statement").loc["camera LR images lose less"]
    verdict = line.verdict if line.n else findings.NOT_SHOWN
    return {"verdict": verdict, "source": line.source, "evidence": line.evidence}


def both_readings_of_l0(own: pd.DataFrame, smooth: pd.DataFrame, **options) -> pd.DataFrame:
    """Every statement about L0, judged with each of our two readings of it.

    Args:
        own: rows with `l0`.
        smooth: rows of `l0_smooth`, which takes its place.
        options: of `claims.verdicts`.
    """
    other = pd.concat([own[own.downscaler != "l0"], smooth.assign(downscaler="l0")])
    readings = {"l0": own, "l0_smooth": other}
    table = claims.overview({name: claims.verdicts(part, **options) for name, part in readings.items()})
    about = [claim.statement for claim in claims.CLAIMS if "l0" in str(claim.pairs)]
    return table[table.index.isin(about) & (table != "no rows").all(axis=1)]


def counted(listed: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """How many D give each verdict: statements in lines, settings in columns.

    Args:
        listed: statement, setting and verdict, one line for each D.
        settings: the columns; one without rows is left out.
    """
    both = listed[listed.setting.isin(settings) & (listed.verdict != "no rows")]
    words = both.groupby(["statement", "setting"]).verdict.agg(
        lambda each: ", ".join(f"{word} {count}" for word, count in each.value_counts().items())
    )
    statements = [claim.statement for claim in claims.EVERY_READING if claim.statement in set(both.statement)]
    return words.unstack().reindex(index=statements, columns=[each for each in settings if each in set(both.setting)])


def sheet(
    hr: Tensor, lrs: Mapping[str, Tensor], draws: Mapping[str, Tensor], values: Mapping[str, float], scale: int
) -> Figure:
    """The same part of a picture for each downscaler: its LR image and two draws.

    Args:
        hr: the picture in [0, 1], (1, 3, H, W).
        lrs: downscaler -> LR image in [0, 1], (1, 3, H / s, W / s).
        draws: downscaler -> two draws or more in [0, 1], (N, 3, H, W).
        values: downscaler -> its D, which stands above it.
        scale: s.
    """
    half = hr.shape[-1] // 2 // scale * scale
    top, left = hr.shape[-2] // 4 // scale * scale, hr.shape[-1] // 4 // scale * scale
    part = {s: (..., slice(top // s, (top + half) // s), slice(left // s, (left + half) // s)) for s in (1, scale)}
    lines = [("LR", [hr[part[1]], *(lr[part[scale]].cpu() for lr in lrs.values())])]
    for k in (0, 1):
        lines.append((f"draw {k + 1}", [None, *(each[k : k + 1][part[1]].cpu() for each in draws.values())]))
    titles = ["original", *(f"{name}\nD {values[name]:.3f}" for name in draws)]
    return search_plots.sheet(lines, titles, margin=0.5)
