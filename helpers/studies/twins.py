"""Ask what blindness and chance in an upscaler do to a ranking: four twins that differ in nothing else.

Rows of one setting ("photographs x4") are kept by upscaler: the twins by their names, the others, which differ in more,
as "embedded_flow, heat 1".
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import results, upscalers
from helpers.stats import agreement, conditions, decomposition, findings, inference, rankings
from helpers.stats.findings import Finding, Quantity
from helpers.studies import evidence

SQUARE = ("embedded_l1", "embedded_l1_blind", "embedded_resshift", "embedded_resshift_blind")
BASE = "bicubic"
Columns = Mapping[str, pd.DataFrame]


def read(folder: str, contents: Sequence[str] = ("photographs", "faces"), scale: int = 4) -> dict[str, Columns]:
    """Read the published rows of the twins, and those of other upscalers on the same pictures.

    Args:
        folder: with `evidence_photographs_x4_twins.csv.gz` and so on; "" for none.
        contents: of the pictures.
        scale: s.

    Returns:
        "photographs x4" and so on -> upscaler -> rows, of the contents that have such a file; the four twins first.

    Raises:
        ValueError: as `results.read`.
    """
    found = {}
    for content in contents if folder else ():
        stem = Path(folder, f"evidence_{content}_x{scale}")
        if Path(f"{stem}_twins.csv.gz").is_file():
            rows = results.read(f"{stem}_twins.csv.gz")
            others = [Path(f"{stem}{end}.csv.gz") for end in ("", "_upscalers")]
            others = pd.concat([results.read(path) for path in others if path.is_file()] or [rows[:0]])
            others = others[others.image.isin(set(rows.image)) & others.downscaler.isin(set(rows.downscaler))]
            found[f"{content} x{scale}"] = by_upscaler(rows, others)
    return found


def by_upscaler(rows: pd.DataFrame, others: pd.DataFrame | None = None, square: Sequence[str] = SQUARE) -> Columns:
    """Rows by upscaler: those of `square` by name and in its order, the others of both tables as "name, heat 1"."""
    named = {name: part for name in square if len(part := rows[rows.upscaler == name])}
    parts = [rows[~rows.upscaler.isin(square)], *([] if others is None else [others])]
    return named | evidence.by_upscaler(pd.concat(parts, ignore_index=True))


def square(cells: Mapping[str, object]) -> pd.DataFrame:
    """The table of two by two of what is said of each twin: lines are drawn or not, columns blind or not."""
    table = pd.DataFrame("", index=["draws nothing", "stochastic"], columns=["knows bicubic alone", "blind"])
    for name, cell in cells.items():
        table.iloc[tuple(map(int, kind(name)))] = cell
    return table


def kind(name: str) -> tuple[bool, bool]:
    """Whether an upscaler draws, and whether it is blind, as its record says."""
    record = upscalers.UPSCALERS[upscalers.parse(name)[0].key]
    return record.stochastic, record.blind


def places(rows: pd.DataFrame) -> str:
    """The downscalers from least loss to most with rank intervals: "bicubic 1-2, lanczos 1-2, bilinear 3"."""
    lines = rankings.ranks(rows).sort_values("rank", kind="stable")
    ends = [(f"{line.rank_low:g}", f"{line.rank_high:g}") for line in lines.itertuples()]
    words = ["-".join(dict.fromkeys(pair)) for pair in ends]
    return ", ".join(f"{name} {word}" for name, word in zip(lines.downscaler, words, strict=True))


def common(parts: Columns, distortion: str) -> Columns:
    """Rows of one D by upscaler, of those that have it, on the images that all of these have."""
    found = {name: part for name, rows in parts.items() if len(part := evidence.of(rows, distortion))}
    images = set.intersection(*(set(part.image) for part in found.values())) if found else set()
    return {name: part[part.image.isin(images)] for name, part in found.items()}


def taus(parts: Columns) -> pd.DataFrame:
    """Kendall's tau of every two upscalers, and of each to the paper's order: a square table of `Quantity`."""
    names = list(parts)
    table = pd.DataFrame(index=["the paper", *names], columns=names, dtype=object)
    for k, a in enumerate(names):
        table.loc["the paper", a] = paper(parts[a])[0]
        for b in names[k + 1 :]:
            table.loc[a, b] = table.loc[b, a] = evidence.tau(parts[a], parts[b])
    return table


def paper(rows: pd.DataFrame) -> tuple[Quantity, dict]:
    """Tau of a ranking to the paper's order of six, and all that `evidence.to_the_paper` says."""
    found = evidence.to_the_paper(rows)
    if found is None:
        missing = Quantity(np.nan, np.nan, np.nan, rows.image.nunique())
        return missing, {"verdict": findings.NOT_SHOWN, "stated": 0, "pairs": 0, "swapped": "not asked"}
    return Quantity(*(found[key] for key in ("value", "low", "high", "n"))), found


def gaps(before: pd.DataFrame, after: pd.DataFrame, base: str = BASE) -> pd.DataFrame:
    """How the gaps of downscalers to a base change from one upscaler to another on the same photographs.

    Args:
        before, after: rows of one D each.
        base: the downscaler that gaps are to.

    Returns:
        One line a downscaler: before and after (gaps in units of D), relative_before and relative_after (gaps over the
        loss of the base), kept (gap after over gap before) and change (of the size of the relative gap), each a
        `Quantity`; known, whether the first gap is shown to be above 0 (t tests, Holm over the downscalers).
    """
    one, two = (rankings.per_photograph(rows) for rows in (before, after))
    both = one.index.intersection(two.index)
    one, two = one.loc[both], two.loc[both]
    names = [name for name in one if name in two and name != base]
    shown = findings.decided(one[names].sub(one[base], axis=0))
    lines = {}
    for name in names:
        parts = {"a": one[name] - one[base], "b": two[name] - two[base], "c": one[base], "d": two[base]}
        lines[name] = {
            "before": findings.mean(parts["a"]), "after": findings.mean(parts["b"]),
            "relative_before": findings.mean_ratio(parts["a"], parts["c"]),
            "relative_after": findings.mean_ratio(parts["b"], parts["d"]),
            "kept": findings.mean_ratio(parts["b"], parts["a"]),
            "change": _jackknifed(parts, lambda m: abs(m["b"] / m["d"]) - abs(m["a"] / m["c"])),
            "known": shown[name].verdict == findings.SUPPORTED,
        }  # fmt: skip
    return pd.DataFrame(lines).T.rename_axis("downscaler")


def _jackknifed(parts: Mapping[str, pd.Series], of) -> Quantity:
    low, high = inference.jackknife(of, {name: part.to_numpy()[:, None] for name, part in parts.items()})
    value = of({name: part.mean() for name, part in parts.items()})
    return Quantity(float(value), float(low[0]), float(high[0]), len(next(iter(parts.values()))))


def shrinks(table: pd.DataFrame, what: str, *, column: str = "kept") -> Finding:
    """The finding that each gap known before is smaller in size after; those that turn round are named.

    Args:
        table: of `gaps`.
        what: is done between the two upscalers, "blindness (L1)".
        column: "kept", of gaps in units of D, or "change", of gaps as multiples of the base's loss.
    """
    known = table[table.known.astype(bool)]
    if known.empty:
        return Finding(f"{what} shrinks the gaps to {BASE}: none is known to be above 0 before", findings.NOT_SHOWN)
    inside, form, unit = {
        "kept": ({"above": -1.0, "below": 1.0}, ".2f", "gap after over gap before"),
        "change": ({"below": 0.0}, "+.2f", "change of its size over bicubic's own loss"),
    }[column]
    decided = {name: findings.verdict(quantity, **inside) for name, quantity in known[column].items()}
    shrunk = sum(each == findings.SUPPORTED for each in decided.values())
    turned = [name for name, quantity in known.kept.items() if quantity.high < 0]
    told = ", ".join(f"{name} {quantity:{form}}" for name, quantity in known[column].items())
    said = f"{what} shrinks each gap to {BASE} that is known to be there, {shrunk} of {len(known)} for certain"
    said += f", and turns round {', '.join(turned) or 'none'}"
    return Finding(f"{said} ({unit}: {told})", findings.together(list(decided.values())))


def split(parts: Columns) -> pd.DataFrame:
    """Bias, spread and score of the squared error of each upscaler and downscaler: `decomposition.split`, stacked."""
    tables = {name: decomposition.split(rows) for name, rows in parts.items() if set(decomposition.SPLIT) <= _d(rows)}
    return pd.concat(tables, names=["upscaler", ""]).reset_index("upscaler").reset_index(drop=True)


def floors(parts: Columns) -> pd.DataFrame:
    """How well each upscaler agrees with its LR image: `decomposition.floor` of each, stacked."""
    tables = {name: decomposition.floor(rows) for name, rows in parts.items() if set(decomposition.FLOOR) <= _d(rows)}
    return pd.concat(tables, names=["upscaler", ""]).reset_index("upscaler").reset_index(drop=True)


def _d(rows: pd.DataFrame) -> set[str]:
    return set(rows.distortion)


def bias_orders(rows: pd.DataFrame) -> Quantity:
    """Kendall's tau between the order by the bias of the squared error and the order by the whole."""
    table = decomposition.split_per_image(rows)
    bias, score = (conditions.by_photograph(table[name].dropna(), rows) for name in ("bias", "score"))
    found = agreement.rank_agreement(score, bias)
    return Quantity(*(float(found[key]) for key in ("value", "low", "high")), int(found.n))


def rises(rows: pd.DataFrame, by: str = "upscaler") -> pd.DataFrame:
    """How much the score grows under each damage, as a multiple of the score without.

    Args:
        rows: of one D and one downscaler, damaged and not; each value of `by` has one heat.
        by: what the lines are.

    Returns:
        One line each: `by`, degradation, level and rise, a `Quantity`.
    """
    lines = []
    for name, part in rows.groupby(by, sort=False):
        damage = part.assign(level=part.level.fillna(0.0)).groupby(["degradation", "level"])
        units = {key: rankings.per_photograph(own).iloc[:, 0] for key, own in damage}
        for key in (key for key in units if key[0]):
            both = pd.concat({"above": units[key], "below": units["", 0.0]}, axis=1).dropna()
            rise = findings.mean_ratio(both.above, both.below)
            lines.append({by: name, "degradation": key[0], "level": key[1], "rise": rise})
    return pd.DataFrame(lines)


def monotone(rows: pd.DataFrame, distortion: str) -> pd.DataFrame:
    """Spearman's rho of level and score of each upscaler and degradation: `rankings.monotonicity`, stacked."""
    part = evidence.of(rows, distortion)
    tables = []
    for name in sorted(set(part.degradation) - {""}):
        for upscaler, own in part.groupby("upscaler", sort=False):
            tables.append(rankings.monotonicity(own, name).assign(upscaler=upscaler))
    return pd.concat(tables, ignore_index=True)


def only(last: str, others: Sequence[str]) -> str:
    """The verdict of "this one does, and none of the others": from the verdicts on each."""
    turned = {findings.SUPPORTED: findings.CONTRADICTED, findings.CONTRADICTED: findings.SUPPORTED}
    return findings.together([last, *(turned.get(each, each) for each in others)])
