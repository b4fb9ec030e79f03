"""Ask what notebook 03 asks of rows with damage of known strength: does the score follow, and who else would pass?

`rows` hold one row per draw of one D and, but in `by_factor`, of one scale, with the columns that `named` adds. Each
function that returns a `Finding` decides over photographs; several statements at once share Holm's level.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from helpers.figures.style import metric_label
from helpers.stats import agreement, detection, findings, rankings
from helpers.stats.findings import Decided, Finding, Quantity

NONE = "none"  # the LR image as it was made
FLOW, STILL, CONTROL = "flow", "flow, heat 0", "interpolation"
PAPER = {  # its levels (P 4.2.1) of the types of this study
    "blur, 3x3": [1, 2, 4],
    "noise": [0.05, 0.1, 0.2],
    "contrast up": [1.5, 2, 2.5],
    "contrast down": [0.75, 0.5, 0.25],
    "Otsu": [15, 10, 5],
}
ORDER = ["nearest", "perceptual", "l0", "dpid", "bicubic", "bilinear"]  # most lost first (P 4.5, S 5)
ALIKE = (0.8, 1.25)  # ratios of two rises that count as similar


def named(rows: pd.DataFrame, kinds: Mapping[str, tuple], f_us: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """Add the columns f_us, type ("noise") and damage ("noise 0.1"); rows of other upscalers are left out.

    Args:
        rows: as `runs.run` returns them.
        kinds: title of each type -> its name in `DEGRADATIONS` and its levels.
        f_us: (upscaler, heat as text) -> what it is called here.
    """
    types = {(kind, float(level)): title for title, (kind, levels) in kinds.items() for level in levels}
    prefix = {"mixed": "mix", "bsrgan": "R"}
    rows = rows.assign(f_us=[f_us.get((u, str(h)), "") for u, h in zip(rows.upscaler, rows.heat, strict=True)])
    damaged = [*zip(rows.degradation.fillna(""), rows.level, strict=True)]
    rows["type"] = [types.get(each, prefix.get(each[0], each[0])) or NONE for each in damaged]
    texts = [
        title if title == NONE else f"{title} {level:g}" for title, (_, level) in zip(rows.type, damaged, strict=True)
    ]
    return rows.assign(damage=[text.replace("R ", "R") for text in texts])[rows.f_us != ""]


def level_of(title: str, level: float) -> str:
    """What `named` calls a level of a type."""
    return f"{title} {level:g}"


def label(rows: pd.DataFrame) -> str:
    """What the D of the rows is called in a text."""
    return metric_label(rows)


def strongest(kind: str, levels: Sequence[float], count: int) -> list[float]:
    """The strongest levels of a degradation, ending with the strongest of all."""
    return sorted(levels, key=partial(detection.strength, kind))[-count:]


def of_the_paper(kinds: Mapping[str, tuple]) -> dict[str, list[float]]:
    """The paper's levels of each type that are among those computed, the weakest first; types with two or more."""
    own = {title: [level for level in PAPER.get(title, ()) if level in levels] for title, (_, levels) in kinds.items()}
    return {title: levels for title, levels in own.items() if len(levels) > 1}


def kinds_in(rows: pd.DataFrame) -> dict[str, tuple]:
    """The types of the paper with the levels that the rows have: title -> (name in `DEGRADATIONS`, levels)."""
    found = {}
    for title in PAPER:
        side = {"contrast up": rows.level > 1, "contrast down": rows.level < 1}.get(title, rows.level.notna())
        kind = title.split(",")[0].split()[0].lower()
        levels = sorted(rows.level[(rows.degradation == kind) & side & (rows["where"] == "after")].unique())
        found |= {title: (kind, levels)} if levels else {}
    return found


def after(rows: pd.DataFrame, f_us: str = "") -> pd.DataFrame:
    """Rows of the bicubic LR image and its damage after downscaling, first seed; all upscalers, or one."""
    chosen = (rows["where"] != "before") & (rows.downscaler == "bicubic") & (rows.seed == rows.seed.min())
    return rows[chosen & ((rows.f_us == f_us) | (f_us == ""))]


def rises(rows: pd.DataFrame, kinds: Mapping[str, tuple]) -> pd.DataFrame:
    """How much each level raises the score over no damage, draw by draw: lines of `detection.differences`.

    Returns:
        A line per upscaler, type and level that have rows, with the columns f_us and type.
    """
    found = []
    for f_us, part in after(rows).groupby("f_us", sort=False):
        for title, (kind, levels) in kinds.items():
            there = set(levels) & set(part.level[part.type == title])
            if there:
                one = part[part.type.isin([title, NONE])]
                found.append(detection.differences(one, kind, levels=there).assign(f_us=f_us, type=title))
    return pd.concat(found, ignore_index=True)


def trends(rows: pd.DataFrame, levels: Mapping[str, Sequence[float]]) -> dict[tuple[str, str], Decided]:
    """Spearman's rho between the strength of a damage and the score, and whether it is 1.

    Args:
        rows: see above.
        levels: type -> its levels.

    Returns:
        (f_us, type) -> rho with its interval over the signs that photographs leave open, and the verdict on rho = 1.
    """
    found = {}
    for f_us, part in after(rows).groupby("f_us", sort=False):
        for title, own in levels.items():
            chosen = part[part.type == title]
            if set(own) <= set(chosen.level):
                kind = chosen.degradation.iloc[0]
                line = rankings.monotonicity(chosen, kind, levels=own).iloc[0]
                weak, strong = sorted(own, key=partial(detection.strength, kind))[:: len(own) - 1]
                sign = 1 if strong > weak else -1
                rho = Quantity(sign * line.spearman, *sorted([sign * line.low, sign * line.high]), int(line.n))
                found[f_us, title] = Decided(rho, findings.verdict(rho, above=0.999))
    return found


def follows(rows: pd.DataFrame, kinds: Mapping[str, tuple]) -> Finding:
    """With the flow the score rises with the strength of each type of damage."""
    rho = {title: each for (f_us, title), each in trends(rows, of_the_paper(kinds)).items() if f_us == FLOW}
    first = next(iter(rho.values())).quantity
    said = f"with the flow, more damage of one type means a higher score, for all {len(rho)} types and through the "
    said += f"paper's levels: Spearman's rho is 1 in each (D = {metric_label(rows)}, {first.n} photographs)"
    as_stated = [title for title, each in rho.items() if each.verdict == findings.SUPPORTED]
    said += f"; as stated: {', '.join(as_stated)}" * (0 < len(as_stated) < len(rho))
    return Finding(said + findings.exceptions(rho), findings.together([x.verdict for x in rho.values()]), "P Table 1")


def strictly(rows: pd.DataFrame, levels: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Share of the types through whose levels the score of a photograph strictly rises: photographs x upscalers."""
    found = {}
    for (f_us, title), part in after(rows).groupby(["f_us", "type"], sort=False):
        if title in levels and set(levels[title]) <= set(part.level):
            kind = part.degradation.iloc[0]
            units = rankings.per_photograph(part, "level")[sorted(levels[title], key=partial(detection.strength, kind))]
            found[f_us, title] = (units.diff(axis=1).iloc[:, 1:] > 0).all(axis=1).astype(float)
    table = pd.DataFrame(found).dropna()
    return table.T.groupby(level=0, sort=False).mean().T


def control(rows: pd.DataFrame, kinds: Mapping[str, tuple]) -> Finding:
    """It takes a generative upscaler to pass the test."""
    own = of_the_paper(kinds)
    alone = {title: findings.mean(strictly(rows, {title: levels})[CONTROL]) for title, levels in own.items()}
    both = {title: findings.mean(strictly(rows, {title: levels})[FLOW]) for title, levels in own.items()}
    share = strictly(rows, own)
    gap = findings.mean(100 * (share[FLOW] - share[CONTROL]))
    said = "a generative upscaler follows the damage better than bicubic interpolation: a photograph's score rises "
    said += f"through all levels of a type in {share[FLOW].mean():.0%} of cases with the flow, in "
    said += f"{share[CONTROL].mean():.0%} with interpolation, a difference of {gap:+.0f} percentage points; by type "
    said += ", ".join(f"{both[title].value:.0%} and {alone[title].value:.0%} ({title})" for title in own)
    return Finding(said, findings.verdict(gap, above=0))


def places(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Rank of each downscaler (1 loses least) under each upscaler: names x upscalers."""
    chosen = rows[(rows.type == NONE) & (rows.seed == rows.seed.min()) & rows.downscaler.isin(names)]
    parts = chosen.groupby("f_us", sort=False)
    return pd.DataFrame({f_us: rankings.per_photograph(part).mean().rank() for f_us, part in parts}).reindex(names)


def _six(rows: pd.DataFrame, f_us: str) -> agreement.Agreement:
    """The order that the paper states, the same in each image, against that of the rows."""
    chosen = (rows.type == NONE) & (rows.seed == rows.seed.min()) & (rows.f_us == f_us) & rows.downscaler.isin(ORDER)
    six = rows[chosen]
    return agreement.kendall(six.assign(value=-1.0 * six.downscaler.map(ORDER.index)), six)


def tau(rows: pd.DataFrame, f_us: str) -> float:
    """Kendall's tau between the ranking of the downscalers and the paper's order."""
    return _six(rows, f_us).tau


def ranking(rows: pd.DataFrame, kinds: object = None, f_us: str = FLOW) -> Finding:
    """An upscaler orders the downscalers as the paper has them, pair by pair."""
    found = _six(rows, f_us)
    verdicts = findings.pair_by_pair(found, fixed=True)
    against = found.pairs[verdicts == findings.CONTRADICTED]
    lost = [(r.f, r.g) if r.difference_b > 0 else (r.g, r.f) for r in against.itertuples()]
    tau = Quantity(found.tau, found.low, found.high, found.n_b)
    what = {FLOW: "the flow", STILL: "the flow at heat 0", CONTROL: "bicubic interpolation"}[f_us]
    stated = (verdicts == findings.SUPPORTED).sum()
    said = f"{what} puts the downscalers in the paper's order: {stated} of {len(verdicts)} "
    said += f"pairs as stated, {len(lost)} the other way round, the rest open; Kendall's tau {tau:.2f}"
    worse = "; ".join(f"{f} loses more than {g}" for f, g in lost[:6]) + "; ..." * (len(lost) > 6)
    return Finding(said + f" ({worse})" * bool(lost), findings.together(list(verdicts)), "P 4.5, S 5")


def twice(rows: pd.DataFrame, kinds: Mapping[str, tuple]) -> dict[str, tuple[pd.Series, pd.Series]]:
    """Rise of the score by the paper's levels before and after downscaling, by photograph, from the first draws.

    Returns:
        damage -> (before, after), in the order of the types, the weakest level first.
    """
    first = rows[
        (rows.f_us == FLOW) & (rows.downscaler == "bicubic") & (rows.seed == rows.seed.min()) & (rows["sample"] == 0)
    ]
    wanted = [level_of(title, level) for title, own in of_the_paper(kinds).items() for level in own]
    first = first[first.damage.isin([NONE, *wanted])].drop(columns=["degradation", "level"])
    units = rankings.per_photograph(first, ["damage", "where"])
    plain = units[f"{NONE} + {NONE}"]
    return {each: tuple(units[f"{each} + {place}"] - plain for place in ("before", "after")) for each in wanted}


def before_too(rows: pd.DataFrame, kinds: Mapping[str, tuple]) -> Finding:
    """Damage of the HR image raises the score."""
    pairs, strongest = twice(rows, kinds), {title: own[-1] for title, own in of_the_paper(kinds).items()}
    rises = {f"{title} at {level:g}": pairs[level_of(title, level)][0] for title, level in strongest.items()}
    parts = findings.decided(pd.DataFrame(rises))
    said = (
        f"damage before downscaling raises the score as well, at the paper's strongest level of all {len(parts)} types"
    )
    return Finding(said + findings.exceptions(parts), findings.together([each.verdict for each in parts.values()]))


def before_alike(rows: pd.DataFrame, kinds: Mapping[str, tuple]) -> Finding:
    """Damage before downscaling raises the score about as much as after it."""
    pairs, least, most = twice(rows, kinds), *ALIKE
    parts = {}
    for title, own in of_the_paper(kinds).items():
        share = findings.mean_ratio(*pairs[level_of(title, own[-1])])
        parts[f"{title} at {own[-1]:g}"] = Decided(share, findings.verdict(share, above=least, below=most))
    alike = [name for name, each in parts.items() if each.verdict == findings.SUPPORTED]
    said = "it does not matter whether damage comes before or after downscaling: the ratio of the two rises, before to "
    said += f"after, is within [{least:g}, {most:g}] for " + (", ".join(alike) or "none of them")
    verdict = findings.together([each.verdict for each in parts.values()])
    return Finding(said + findings.exceptions(parts), verdict, "S 9")


def conditions(rows: pd.DataFrame, f_us: str = FLOW) -> pd.DataFrame:
    """Means of photographs x damage: none, the stages of the mix and BSRGAN's settings."""
    part = after(rows, f_us)
    part = part[part.type.isin([NONE, "mix", "R"])].drop(columns=["degradation", "level", "where"])
    units = rankings.per_photograph(part, "damage")
    return units[sorted(units, key=lambda name: (name != NONE, not name.startswith("mix"), name))]


def stages(rows: pd.DataFrame) -> Finding:
    """Each stage of the mix raises the score."""
    units = conditions(rows)
    mixes = [name for name in units if name.startswith("mix")]
    steps = pd.DataFrame({g: units[g] - units[f] for f, g in zip([NONE, *mixes], mixes, strict=False)})
    steps.columns = ["contrast and blur", "then noise", "then quantisation"][: len(mixes)]
    parts = findings.decided(steps)
    said = f"each of the {len(parts)} stages of the mix raises the score"
    return Finding(said + findings.exceptions(parts), findings.together([x.verdict for x in parts.values()]), "P 4.2")


def settings(rows: pd.DataFrame) -> Finding:
    """The flow and interpolation call the same of BSRGAN's settings worse."""
    chosen = after(rows[rows.type == "R"]).drop(columns=["degradation", "level", "where"])
    found = agreement.kendall(*(chosen[chosen.f_us == f_us] for f_us in (FLOW, CONTROL)), by="damage")
    tau = Quantity(found.tau, found.low, found.high, found.n_b)
    worst = [chosen[chosen.f_us == f_us].groupby("damage").value.mean().idxmax() for f_us in (FLOW, CONTROL)]
    said = (
        "which of BSRGAN's settings is worse does not depend on the upscaler: Kendall's tau between the flow's order "
    )
    said += f"and interpolation's is {tau:.2f}; the worst is {worst[0]} for the flow, {worst[1]} for interpolation"
    return Finding(said, findings.verdict(tau, above=0.999))


def by_factor(rows: pd.DataFrame, f_us: str = FLOW) -> pd.DataFrame:
    """Means of photographs x (damage, factor), of rows at several scales."""
    units = rankings.per_photograph(
        after(rows, f_us).drop(columns=["upscaler", "heat", "degradation", "level", "where"]), ["damage", "scale"]
    )
    units.columns = pd.MultiIndex.from_tuples([(d, int(s)) for d, s in (name.rsplit(" + ", 1) for name in units)])
    return units.sort_index(axis=1)


def factors(rows: pd.DataFrame, f_us: str = FLOW) -> Finding:
    """A larger scaling factor raises the score, with each damage."""
    units = by_factor(rows, f_us)
    scales = sorted(set(units.columns.get_level_values(1)))
    steps = {
        f"{damage}, x{low} to x{high}": units[damage, high] - units[damage, low]
        for damage in dict.fromkeys(units.columns.get_level_values(0))
        for low, high in zip(scales, scales[1:], strict=False)
    }  # fmt: skip
    parts = findings.decided(pd.DataFrame(steps))
    what = {FLOW: "the flow", CONTROL: "bicubic interpolation"}[f_us]
    said = (
        f"with {what} the score rises with the factor, in all {len(parts)} steps from x{scales[0]} to x{scales[-1]}, "
    )
    said += "without damage and with it"
    return Finding(
        said + findings.exceptions(parts), findings.together([x.verdict for x in parts.values()]), "P Table 2"
    )


def identity(rows: pd.DataFrame) -> Finding:
    """The weakest blur raises the score; beside it what other latents do to it."""
    blurs = rows[rows.type == "blur, 3x3"]
    name = level_of("blur, 3x3", blurs.level.min())
    units = rankings.per_photograph(
        after(rows[rows.type.isin([NONE, "blur, 3x3"])], FLOW).drop(columns=["degradation", "level", "where"]), "damage"
    )
    (step,) = findings.decided(pd.DataFrame({name: units[name] - units[NONE]})).values()
    said = f"blur of {blurs.level.min():g} pixels raises the score, as in the supplement (by 0.001 and 0.002 at 0.0001 "
    said += f"and 0.0005 pixels): here the change is {step.quantity}"
    again = rows[(rows.type == NONE) & (rows.f_us == FLOW) & (rows.downscaler == "bicubic")]
    if again.seed.nunique() > 1:
        seeds = rankings.per_photograph(again, "seed")
        latents = findings.mean((seeds.iloc[:, 1] - seeds.iloc[:, 0]).rename("latents"))
        said += f"; other latents alone change it by {latents:+.4f}"
    return Finding(said, step.verdict, "S 10")


def faint(rows: pd.DataFrame, below: float = 1.0) -> Finding:
    """A little blur lowers the score."""
    part = after(rows[rows.type.isin([NONE, "blur, 3x3"])], FLOW)
    part = part[~(part.level >= below)].drop(columns=["degradation", "level", "where"])
    units = rankings.per_photograph(part, "damage")
    falls = findings.decided(pd.DataFrame({name: units[NONE] - units[name] for name in units if name != NONE}))
    rises = {name: findings.mean(units[name] - units[NONE]) for name in falls}
    said = "a little blur lowers the score, so that it is no measure of damage there: the score changes by "
    said += ", ".join(f"{each:+.4f} at {name.split()[-1]} pixels" for name, each in rises.items())
    return Finding(said, findings.one_of([each.verdict for each in falls.values()]))


def minima(table: pd.DataFrame) -> pd.DataFrame:
    """The weakest level of each type that each upscaler notices: `detection.minimum` of `rises`."""
    lines = [
        {"type": title, "f_us": f_us} | detection.minimum(part)._asdict()
        for (f_us, title), part in table.groupby(["f_us", "type"], sort=False)
    ]
    return pd.DataFrame(lines).set_index(["type", "f_us"])[["level", "estimate", "difference", "note"]]


QUESTIONS = {  # in short: what `overview` asks
    "the score follows the damage": follows,
    "interpolation follows it worse": control,
    "the flow ranks the downscalers like the paper": ranking,
    "so does interpolation": lambda rows, kinds: ranking(rows, f_us=CONTROL),
    "damage before downscaling is seen": before_too,
    "... and as much": before_alike,
    "each stage of the mix adds": lambda rows, kinds: stages(rows),
    "the upscaler does not decide what is worse": lambda rows, kinds: settings(rows),
    "the weakest blur is seen": lambda rows, kinds: identity(rows),
    "a little blur lowers the score": lambda rows, kinds: faint(rows),
}


def overview(rows: pd.DataFrame) -> dict[int, dict[str, Finding]]:
    """Ask all questions of the rows of each scale at which all damage was computed.

    Args:
        rows: of one D, with what `named` adds, at any scales.

    Returns:
        scale -> question in short -> finding.
    """
    found = {}
    for scale in sorted(rows.scale[rows.type == "R"].unique()):
        part = rows[rows.scale == scale]
        kinds = kinds_in(part)
        part = named(
            part, kinds, {(u, str(h)): f_us for u, h, f_us in zip(part.upscaler, part.heat, part.f_us, strict=True)}
        )
        found[int(scale)] = {short: ask(part, kinds) for short, ask in QUESTIONS.items()}
    return found
