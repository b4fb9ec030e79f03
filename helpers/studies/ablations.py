"""What one change does to a ranking: the comparisons of the notebook on ablations, and the values of its sentences.

A function whose name is a claim returns the values of one sentence as keywords of `notebook.finding`, `verdict` among
them.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from helpers import results
from helpers.stats import agreement, budget, conditions, decomposition, findings, rankings
from helpers.studies import evidence

TITLES = {  # what is changed, for a reader
    "D": "another D (same draws)",
    "scale": "another scale",
    "content": "another content",
    "photographs": "other photographs",
    "upscaler": "another upscaler",
}
SAID = {"D": "P 4.5", "content": "P 4.5"}  # where the paper says that this change leaves the order
WOULD = {  # what follows if randomness makes the order -> does that mean the same order?
    "heat 0": ("heat 0 orders otherwise", False),
    "PULSE": ("PULSE orders much the same", True),
    "bias": ("the bias orders otherwise", False),
}


def reference_and_others(
    rows: pd.DataFrame, upscaler: str, heat: float | str, scale: int
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The rows of one upscaler at one heat and scale, and those of all others by "name, heat 0" or "name, heat 0, x8".

    Raises:
        KeyError: there are no rows of the first.
    """
    parts = dict(list(rows.groupby(["upscaler", "heat", "scale"])))
    reference, others = parts.pop((upscaler, heat, scale)), {}
    for (name, h, s), part in parts.items():
        others[f"{name}, heat {h if isinstance(h, str) else f'{h:g}'}" + f", x{s}" * (s != scale)] = part
    return reference, others


def by_line(changes: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables of `evidence.agreements` that have lines, in the order of `TITLES`, with a name for each line."""
    found = {}
    for change in TITLES:
        table = changes[change]
        line = table.setting if change == "D" else table.what + ", " + table.setting
        found |= {change: table.assign(line=line)} if len(table) else {}
    return found


def quantity(line: object) -> findings.Quantity:
    """The tau of a line that has value, low, high and n."""
    return findings.Quantity(line.value, line.low, line.high, int(line.n))


def furthest(table: pd.DataFrame, change: str, first: str, alike: float) -> dict | None:
    """Does a change leave the order much the same? Of the comparisons by `first`; where D is changed, of those with it.

    Args:
        table: of `by_line`.
        change: a key of `TITLES`.
        first: the D that comes first in its rows.
        alike: two orders are much the same where tau is above.

    Returns:
        How many comparisons there are and in how many it does, and the one furthest from it; None without any.
    """
    same = table[table.what.str.endswith(f"for {first}")] if change == "D" else table[table["D"] == first]
    if not len(same):
        return None
    taus = [quantity(line) for line in same.itertuples()]
    judged = [findings.verdict(tau, above=alike) for tau in taus]
    k = int(same.value.to_numpy().argmin())
    worst = same.iloc[k]
    return {
        "verdict": judged, "source": SAID.get(change, ""), "title": TITLES[change],
        "by": f" by {first}" * (change != "D"), "so": judged.count(findings.SUPPORTED), "all": len(judged),
        "what": "comparison" + "s" * (len(judged) > 1), "worst": f"{worst.what}, {worst.setting}", "lowest": taus[k],
        "swaps": worst.swaps, "pairs": worst.pairs, "swapped": f" ({worst.swapped})" * bool(worst.swaps),
    }  # fmt: skip


def paper_lines(table: pd.DataFrame, kinds: Sequence[str]) -> pd.DataFrame:
    """Comparisons with the paper's order, named, those by the first of `kinds` on top and the nearest first."""
    place = table["D"].map(lambda d: kinds.index(d) if d in kinds else len(kinds))
    named = table.assign(line=table.setting + ", " + table.what, key=place + (1 - table.value) / 10)
    return named.sort_values("key", kind="stable")


def against_paper(table: pd.DataFrame, name: str, distortions: Sequence[str]) -> dict:
    """Does the flow put the six downscalers in the paper's order?

    Args:
        table: of `paper_lines`.
        name: a setting.
        distortions: its D; the first decides, the others are told.
    """
    flow = table[(table.setting == name) & (table.what == "the flow")].set_index("D")
    taus = {d: quantity(flow.loc[d]) for d in distortions}
    first, *more = distortions
    beside = "; ".join(f"{d} {flow.stated[d]}, tau {taus[d]:.2f}, against it {flow.swapped[d]}" for d in more)
    return {"verdict": flow.verdict[first], "tau": taus[first], "stated": flow.stated[first],
            "pairs": flow.pairs[first], "swapped": flow.swapped[first], "beside": beside}  # fmt: skip


def searches(paths: Iterable[str]) -> tuple[dict[tuple[str, str], tuple[pd.DataFrame, pd.DataFrame]], list[str]]:
    """Read published rows of searches, and of the flow on the same images.

    Args:
        paths: published files; a data set of a single image is left out, and an image that some downscaler lacks.

    Returns:
        (data set, D) -> rows of the search, rows of the flow; and the paths where there is no file.
    """
    found, missing = {}, [each for each in paths if not Path(each).is_file()]
    for path in (each for each in paths if each not in missing):
        rows = results.read(path)
        rows = rows[rows.distortion.isin(evidence.D) & (rows.groupby("dataset").image.transform("nunique") > 1)]
        searched = rows[rows.residual.notna() & ~rows.upscaler.str.contains("f_ds")]
        for (data, d), part in searched.groupby(["dataset", "distortion"]):
            flow = evidence.of(rows[(rows.dataset == data) & rows.upscaler.str.startswith("embedded_flow")], d)
            complete = part.groupby("image").downscaler.transform("nunique") == part.downscaler.nunique()
            found[data, d] = part[complete], flow[flow.image.isin(set(part[complete].image))]
    return found, missing


def without_spread(
    name: str, rows: pd.DataFrame, others: Mapping[str, pd.DataFrame], distortions: Iterable[str]
) -> list[dict]:
    """Compare the flow's order with that of upscalers that draw nothing, and with that of its own bias.

    Args:
        name: a setting.
        rows: of the flow, all D.
        others: of the upscalers that draw nothing, by their names.
        distortions: the D to compare by; the bias is that of the squared error.

    Returns:
        A line for each: setting, what, D, value, low, high, n.
    """
    lines = []
    for d in distortions:
        for other, part in others.items():
            tau = evidence.tau(evidence.of(rows, d), evidence.of(part, d)) if d in set(part.distortion) else None
            lines += [{"setting": name, "what": f"{other} against the flow", "D": d} | tau._asdict()] if tau else []
    split = decomposition.split_per_image(rows)
    score, bias = (conditions.by_photograph(split[what].dropna(), rows) for what in ("score", "bias"))
    tau = agreement.rank_agreement(score, bias)[["value", "low", "high", "n"]]
    return [*lines, {"setting": name, "what": "bias against score", "D": "mse"} | dict(tau)]


def with_searches(found: Mapping[tuple[str, str], tuple[pd.DataFrame, pd.DataFrame]]) -> list[dict]:
    """Compare the order of each search with the flow's on the same images: lines as of `without_spread`.

    Args:
        found: of `searches`.
    """
    lines = []
    for (data, d), (part, flow) in found.items():
        tau = evidence.tau(flow, part) if len(flow) else None
        what = f"PULSE against {', '.join(flow.upscaler.unique())}"
        lines += [{"setting": f"{data.split('@')[0]} x8", "what": what, "D": d} | tau._asdict()] if tau else []
    return lines


def randomness(table: pd.DataFrame, alike: float) -> dict:
    """Does randomness make the order? Each line that `WOULD` speaks of is asked for what would follow.

    Args:
        table: lines of `without_spread` and `with_searches`, of one D.
        alike: two orders are much the same where tau is above, other ones where it is below.

    Returns:
        The verdicts, [] without any line; what was tested, what has no rows, and each tau.
    """
    decided, told, tested, left = [], [], [], []
    for what, (text, same) in WOULD.items():
        lines = table[table.what.str.contains(what) & ~table.what.str.startswith("bicubic")]
        (tested.append(text) if len(lines) else left.append("the " * (what == "bias") + what))
        for line in lines.itertuples():
            tau = quantity(line)
            decided.append(findings.verdict(tau, above=alike) if same else findings.verdict(tau, below=alike))
            told.append(f"{line.setting}, {line.what}: {tau:.2f} ({tau.n})")
    missing = f" (by this D there are no rows of {' and '.join(left)})" * bool(left)
    return {"verdict": decided, "tested": ", ".join(tested), "left": missing, "facts": "; ".join(told)}


def fewer_photographs(rows: pd.DataFrame, needed: budget.Needed) -> dict:
    """Would fewer than half of the photographs keep the signs of all significant pairs?

    Args:
        rows: of one D.
        needed: of `budget.images_for_ranking`.
    """
    means, n_all = rankings.per_photograph(rows), conditions.photographs(rows).nunique()
    errors = [100 * means[f].std() / means[f].mean() / 900**0.5 for f in means]
    few = needed.n_signs and needed.n_signs < n_all / 2
    half = f"fewer than half of the {n_all}"
    return {
        "verdict": findings.SUPPORTED if few else findings.NOT_SHOWN,
        "who": f"{needed.n_signs} photographs, {half}," if few else f"{half} photographs",
        "pairs": int(needed.table.pairs.iloc[0]), "low": min(errors), "high": max(errors),
    }  # fmt: skip


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of `budget.samples_or_images` that are of differences, not of scores."""
    return table[table.kind == "difference"]


def median_shares(splits: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """The draws' share in the variance of a difference, in %, median pair: D in lines, content and scale in columns.

    Args:
        splits: (setting, D) -> `budget.samples_or_images`.
    """
    lines = []
    for (name, d), table in splits.items():
        content, scale = name.rsplit(" ", 1)
        share = 100 * differences(table).share_samples.median()
        lines.append({"D": d, "content": content, "scale": scale, "share": share})
    return pd.DataFrame(lines).pivot(index="D", columns=["content", "scale"], values="share")


def one_draw(rows: pd.DataFrame, distortions: Sequence[str], splits: Mapping[str, pd.DataFrame], alike: float) -> dict:
    """Does one draw order the downscalers much as the others do?

    Args:
        rows: of one setting, all D.
        distortions: the D; the first decides, the others are told.
        splits: D -> `budget.samples_or_images`.
        alike: two orders are much the same where tau is above.
    """
    first, *more = distortions
    taus = {}
    for d in distortions:
        part = evidence.of(rows, d)
        taus[d] = findings.tau(part[part["sample"] > 0], part[part["sample"] == 0])
    shares = differences(splits[first]).share_samples
    return {
        "verdict": findings.verdict(taus[first], above=alike), "q": rows["sample"].nunique() - 1, "tau": taus[first],
        "middle": shares.median(), "most": shares.max(), "beside": ", ".join(f"{d} {taus[d]:.2f}" for d in more),
    }  # fmt: skip


def share_grows(before: pd.DataFrame, after: pd.DataFrame) -> dict:
    """Does the draws' share grow from one setting to another in every pair of downscalers?

    Args:
        before, after: of `budget.samples_or_images`, by one D.
    """
    shares = []
    for table in map(differences, (before, after)):
        shares.append(table.assign(pair=table.name.str.split(" - ").map(frozenset)).set_index("pair").share_samples)
    one, two = shares
    more = int((two > one.reindex(two.index)).sum())
    verdict = findings.SUPPORTED if more == len(two) else findings.NOT_SHOWN if more else findings.CONTRADICTED
    return {"verdict": verdict, "before": one.median(), "after": two.median(), "more": more, "pairs": len(two)}


def hardest(splits: Mapping[str, pd.DataFrame]) -> dict[str, pd.Series]:
    """The pair of downscalers with the largest share of draws at each setting.

    Args:
        splits: setting -> `budget.samples_or_images`.

    Returns:
        "setting: f - g" -> its line, with the mean score of all downscalers as `unit`.
    """
    found = {}
    for name, table in splits.items():
        line = differences(table).sort_values("share_samples").iloc[-1].copy()
        line["unit"] = table[table.kind == "score"]["mean"].mean()
        found[f"{name}: {line['name']}"] = line
    return found


def best_draws(rows: pd.DataFrame, distortions: Iterable[str], image_cost: float) -> dict[str, pd.Series]:
    """The best number of draws for each difference, by each D, where one more image costs `image_cost` draws."""
    tables = {d: budget.samples_or_images(evidence.of(rows, d), image_cost=image_cost) for d in distortions}
    return {d: differences(table).best_n_samples for d, table in tables.items()}


def told_apart(rows: pd.DataFrame) -> dict:
    """Does an upscaler tell downscalers apart, and how many pairs of them (t tests, Holm over all)?

    Args:
        rows: of one D and one upscaler.
    """
    tests = rankings.paired(rows)
    apart, n = int((tests.p_holm < agreement.ALPHA).sum()), rows.downscaler.nunique()
    verdict = findings.SUPPORTED if apart else findings.NOT_SHOWN
    return {"verdict": verdict, "apart": apart, "pairs": n * (n - 1) // 2}
