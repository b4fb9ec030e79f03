"""Read the published rows on distinct photographs and faces, and compare rankings between settings, D and upscalers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from helpers import results
from helpers.stats import agreement, claims, conditions, findings

CONTENTS = ("photographs", "faces", "ffhq")  # in this order; `tools.publish_rows` makes their rows
D = ("lpips", "lpips_embedded", "1-ms_ssim", "mse")  # the paper's first
MAIN = (
    "photographs x4",
    "photographs x8",
    "faces x4",
    "faces x8",
)  # both contents at both scales: neither for the other
PAPER = ("bilinear", "bicubic", "dpid", "l0", "perceptual", "nearest")  # least loss first (P 4.5, S 5)


def read(folder: str, *, upscalers: bool = False) -> dict[str, pd.DataFrame]:
    """Read the rows of every setting.

    Args:
        folder: with files `evidence_photographs_x4.csv.gz` and so on; "" for none.
        upscalers: those of the other upscalers, one draw each, in place of the embedded flow's; there may be none.

    Returns:
        "photographs x4" and so on -> rows, contents in the order of `CONTENTS`, then by scale; {} of no folder.

    Raises:
        ValueError: the folder has no such file; or as `results.read`.
    """
    if not folder:
        return {}
    end, found = "_upscalers" * upscalers, {}
    for content in CONTENTS:
        for scale in (2, 4, 8):
            path = Path(folder, f"evidence_{content}_x{scale}{end}.csv.gz")
            if path.is_file():
                found[f"{content} x{scale}"] = results.read(path)
    if not found and not upscalers:
        raise ValueError(f"{folder}: expected files such as evidence_photographs_x4.csv.gz, found none")
    return found


def of(rows: pd.DataFrame, distortion: str) -> pd.DataFrame:
    """The rows of one D."""
    return rows[rows.distortion == distortion]


def distances(rows: pd.DataFrame, first: str = "") -> list[str]:
    """The D of the rows that rank by themselves: `first` where it is among them, then the paper's, then the others."""
    there = [each for each in rows.distortion.unique() if not each.endswith("_of_mean")]
    there = [each for each in there if each not in ("lr_mse", "consistency_mse")]
    return sorted(there, key=lambda each: (each != first, D.index(each) if each in D else len(D), each))


def overview(parts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What the rows of each setting are of: photographs, side, draws, D, upscaler, weights.

    Args:
        parts: rows by setting.
    """
    lines = {}
    for name, rows in parts.items():
        sides = sorted({f"{h}x{w}" for h, w in zip(rows.height, rows.width, strict=True)})
        lines[name] = {
            "photographs": conditions.photographs(rows).nunique(),
            "HR pixels": sides[0] if len(sides) == 1 else f"{sides[0]} to {sides[-1]}",
            "draws": rows["sample"].nunique(),
            "D": ", ".join(distances(rows)),
            "upscaler": ", ".join(rows.upscaler.unique()),
            "heat": ", ".join(f"{heat:g}" for heat in rows.heat.unique()),
            "weights": ", ".join(rows.weights.unique()),
            "not finite": int(rows.value.isna().sum()),
        }
    return pd.DataFrame(lines).T.rename_axis("rows")


def ratios(parts: Mapping[str, pd.DataFrame], names: Iterable[str], to: str = "bicubic") -> pd.DataFrame:
    """Loss of downscalers as a multiple of another's, for each setting and D.

    Args:
        parts: rows by setting.
        names: downscalers; those that a setting lacks are left out there.
        to: the one that is 1.

    Returns:
        One line each: setting, D, downscaler, value, low, high, n.
    """
    lines = []
    for setting, rows in parts.items():
        for distortion in distances(rows):
            part = of(rows, distortion)
            there = set(part.downscaler)
            for name in (each for each in names if each != to and {each, to} <= there):
                found = findings.ratio(part, name, to)
                lines.append({"setting": setting, "D": distortion, "downscaler": name} | found._asdict())
    return pd.DataFrame(lines, columns=["setting", "D", "downscaler", "value", "low", "high", "n"])


def verdicts(parts: Mapping[str, pd.DataFrame], distortion: str | None = None, **options) -> dict[str, pd.DataFrame]:
    """The paper's statements, judged by the rows of each setting.

    Args:
        parts: rows by setting.
        distortion: D; None takes the first of `distances` in each.
        options: of `claims.verdicts`.

    Returns:
        Setting -> `claims.verdicts`, indexed by statement; a setting without that D, or with one downscaler, is left
        out.
    """
    found = {}
    for setting, rows in parts.items():
        part = of(rows, distances(rows)[0] if distortion is None else distortion)
        if part.downscaler.nunique() > 1:
            found[setting] = claims.verdicts(part, **options).set_index("statement", drop=False)
    return found


def to_the_paper(rows: pd.DataFrame) -> dict | None:
    """Compare a ranking with the paper's order of six, which is held fixed: `compare`.

    Args:
        rows: of one D and one upscaler.
    """
    six = rows[rows.downscaler.isin(PAPER)]
    said = {name: float(place) for place, name in enumerate(PAPER)}
    return compare(six.assign(value=six.downscaler.map(said)), six, fixed=True)


def agreements(
    parts: Mapping[str, pd.DataFrame],
    others: Mapping[str, Mapping[str, pd.DataFrame]],
    shows: Mapping[str, str] | None = None,
) -> dict[str, pd.DataFrame]:
    """Compare rankings where one thing is changed: D, scale, content, photographs, upscaler; and with the paper.

    Args:
        parts: rows of the reference upscaler by setting, "content xN".
        others: setting -> name of another upscaler -> its rows.
        shows: what a content is of that has another name, {"this run": "photographs"}: beside these only the
            photographs are others, not the content.

    Returns:
        What is changed -> lines of what, setting, D and the fields of `compare`. Both rankings of a line have one D,
        but where D itself is changed: then both look at the same draws, and one of them is by the first D.
    """
    lines = {what: [] for what in ("D", "scale", "content", "photographs", "upscaler", "paper")}
    shows = shows or {}

    def add(change: str, what: str, setting: str, distortion: str, found: dict | None) -> None:
        if found is not None:
            lines[change].append({"what": what, "setting": setting, "D": distortion} | found)

    for setting, rows in parts.items():
        first, *more = distances(rows)
        for distortion in more:
            add("D", f"{distortion} for {first}", setting, distortion, compare(of(rows, first), of(rows, distortion)))
        for distortion in [first, *more]:
            mine = of(rows, distortion)
            add("paper", "the flow", setting, distortion, to_the_paper(mine))
            for name, other in others.get(setting, {}).items():
                if len(same := of(other, distortion)):
                    add("upscaler", name, setting, distortion, compare(mine, same))
                    add("paper", name, setting, distortion, to_the_paper(same))
    for a, b in pairs_of_settings(parts):
        (content, scale), (other, larger) = a.rsplit(" ", 1), b.rsplit(" ", 1)
        change, what, setting = ("scale", f"{larger} for {scale}", content) if content == other else (
            "content", f"{other} for {content}", scale)  # fmt: skip
        if change == "content" and shows.get(content, content) == shows.get(other, other):
            change = "photographs"
        for distortion in distances(parts[a]):
            if len(same := of(parts[b], distortion)):
                add(change, what, setting, distortion, compare(of(parts[a], distortion), same))
    columns = ["what", "setting", "D", "value", "low", "high", "n", "pairs", "swaps", "swapped", "stated", "verdict"]
    return {change: pd.DataFrame(found, columns=columns) for change, found in lines.items()}


def pairs_of_settings(parts: Iterable[str]) -> list[tuple[str, str]]:
    """Settings that differ in scale alone or in content alone."""
    named = [name.rsplit(" ", 1) for name in parts]
    return [
        (" ".join(a), " ".join(b))
        for k, a in enumerate(named) for b in named[k + 1 :] if (a[0] == b[0]) != (a[1] == b[1])
    ]  # fmt: skip


def tau(a: pd.DataFrame, b: pd.DataFrame) -> findings.Quantity | None:
    """`findings.tau` over the downscalers that both have; None with fewer than two. Scales and D may differ."""
    both = set(a.downscaler) & set(b.downscaler)
    if len(both) < 2:
        return None
    return findings.tau(a[a.downscaler.isin(both)], b[b.downscaler.isin(both)])


def compare(a: pd.DataFrame, b: pd.DataFrame, *, fixed: bool = False) -> dict | None:
    """Compare two rankings of the downscalers that both have, as numbers and by name; None with fewer than two.

    Args:
        a, b: rows of one D each; scales, photographs and D may differ.
        fixed: `a` is an order that is stated, not measured.

    Returns:
        value, low, high and n of Kendall's tau; pairs, how many there are; swaps, how many have another order in `b`;
        swapped, which: "bilinear before bicubic (open), nearest before l0", the one that loses less in `b` first,
        "open" where the t tests of one of the two leave its sign open; stated, how many are known to have the order of
        `a`; and the verdict on all having it (`findings.pair_by_pair`).
    """
    both = set(a.downscaler) & set(b.downscaler)
    if len(both) < 2:
        return None
    found = agreement.kendall(a[a.downscaler.isin(both)], b[b.downscaler.isin(both)])
    decided, names = findings.pair_by_pair(found, fixed=fixed), []
    for line in found.pairs.assign(decided=decided)[found.pairs.swaps].itertuples():
        first, second = (line.f, line.g) if line.difference_a < 0 else (line.g, line.f)
        names.append(f"{second} before {first}" + " (open)" * (line.decided == findings.NOT_SHOWN))
    tau_of = {"value": found.tau, "low": found.low, "high": found.high, "n": min(found.n_a, found.n_b)}
    return tau_of | {"pairs": len(found.pairs), "swaps": len(names), "swapped": ", ".join(names) or "none"} | {
        "stated": int((decided == findings.SUPPORTED).sum()), "verdict": findings.together(list(decided))}  # fmt: skip


def by_upscaler(rows: pd.DataFrame, names: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Rows of other upscalers by "name, heat".

    Args:
        rows: of several upscalers.
        names: those to take; () takes all.
    """
    parts = {f"{name}, heat {heat:g}": part for (name, heat), part in rows.groupby(["upscaler", "heat"])}
    return {name: part for name, part in parts.items() if not names or name in names}
