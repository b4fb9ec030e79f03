"""Write results for a paper: captions, comparisons in a sentence, LaTeX tables (booktabs)."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.promises import WARN
from helpers.stats import conditions
from helpers.stats.conditions import photographs
from helpers.stats.rankings import paired, per_image, ranking_with_failures

HEADS = {  # columns of the tables of `stats` -> what LaTeX tables call them, in words; a quantity with its unit
    "downscaler": "downscaler", "mean": "mean D", "low": "95 % interval, from", "high": "to",
    "sd": "SD over photographs",
    "rank_low": "ranks (95 %, all together), from", "rank_high": "to rank", "p_best": "P(best), share",
    "n": "photographs", "images": "images", "wilcoxon_holm": "p of Wilcoxon (Holm)",
    "nan_draws": "NaN draws", "images_lost": "images lost", "p_holm": "p (Holm)", "d_z": "d_z (SD)",
    "wins": "wins, share",
    "clipped": "clipped values, share", "passband_loss": "passband loss, share",
    "alias_share": "aliases, share of power",
    "power_db": "power, upper band (dB)", "gain": "gain, upper band", "foreign": "foreign power, share",
    "difference": "difference", "down": "shift down (HR px)", "right": "shift right (HR px)", "bits": "PNG (bits/px)",
    "enlarged": "enlarged (PSNR, dB)", "ms_per_megapixel": "time (ms/megapixel)",
}  # fmt: skip


def shown(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a ranking for a reader, and the share of clipped values where it is above 1 % for any downscaler.

    Args:
        table: of `rankings.scores`.
        columns: names of columns.
    """
    return table[[*columns, *(["clipped"] if (table.clipped > WARN).any() else [])]]


def setting(rows: pd.DataFrame) -> str:
    """State for a caption what the rows measured, and how: D, scale, upscaler, images, seed, version.

    Args:
        rows: as `results.read` returns them.
    """

    def all_of(column: str) -> str:
        return ", ".join(str(value) for value in dict.fromkeys(rows[column]))

    return (
        f"D = {all_of('metric')}, lower is better; x{all_of('scale')}; upscaler {all_of('upscaler')}, heat "
        f"{all_of('heat')}; images of {all_of('dataset')}; seed {all_of('seed')}; helpers {all_of('version')}."
    )


def caption(rows: pd.DataFrame, by: str | Sequence[str] = "downscaler", *, lower_is_better: bool | None = None) -> str:
    """State photographs, images, draws and failures for a caption, and whether the ranks hold when failures count.

    It also names the pairs on which the t test and Wilcoxon's decide otherwise, after Holm over all pairs.

    Args:
        rows, by, lower_is_better: as in `rankings.scores`.

    Raises:
        ValueError: as `rankings.ranking_with_failures`.
    """
    table = per_image(rows, by)
    made = table["draws"] + table["nan_draws"] + table["inf_draws"]
    few, many = made[made > 0].min().min(), made.max().max()
    failures = ranking_with_failures(rows, by, lower_is_better=lower_is_better).set_index(conditions.label(by))
    text = (
        f"{counted(photographs(rows).nunique(), len(table))}, {len(table['mean'].dropna())} images scored everywhere; "
        f"{f'{few:.0f} to ' if few != many else ''}{many:.0f} draws each; "
        f"{failures.nan_draws.sum()} NaN draws, {table['inf_draws'].sum().sum()} infinite; "
        f"{failures.images_lost.sum()} times an image without a finite draw."
    )
    if failures.nan_draws.any():
        holds = "hold" if failures.holds.all() else "DO NOT hold"
        text += f" The ranks {holds} with NaN set to the worst value seen."
    often = [f"{name} {100 * share:.1f} %" for name, share in failures.nan_share.items() if share > 0.01]
    text += f" NaN above 1 % of the draws: {', '.join(often)}." if often else ""
    return text + (disagreements(paired(rows, by=by, lower_is_better=lower_is_better)) if len(failures) > 1 else "")


def disagreements(pairs: pd.DataFrame, alpha: float = 0.05) -> str:
    """Name the pairs on which Wilcoxon's test, after Holm, decides otherwise than the t test.

    Args:
        pairs: of `rankings.paired`.
        alpha: level of the tests.

    Returns:
        A sentence with a blank before it; "" where the tests agree.
    """
    other = [line for line in pairs.itertuples() if (line.p_holm < alpha) != (line.wilcoxon_holm < alpha)]
    names = [f"{line.f} - {line.g} ({_p_wilcoxon(line, alpha)})" for line in other]
    words = f"decides otherwise than the t test on {len(names)} of {len(pairs)} pairs: {', '.join(names)}."
    return f" Wilcoxon's test {words}" if names else ""


def sentence(row: pd.Series, alpha: float = 0.05) -> str:
    """Write one line of `rankings.paired` or `rankings.equivalence` as a sentence; p above `alpha` is not equality.

    Where Wilcoxon's test, after Holm as well, decides otherwise than the t test at `alpha`, the sentence says so.

    Args:
        row: the line, for example `rankings.paired(rows).iloc[0]`.
        alpha: level of the tests.
    """
    over = counted(row.n, row.images)
    gap = f"{row.f} - {row.g} = {row.difference:+.4g} in {row.distortion}"
    if "margin" not in row and row.note == "constant difference":
        pairs = f"{row.family} pair{'s' if row.family > 1 else ''}"
        verdict = "" if row.p_holm < alpha else " No difference is shown, which is not equality."
        return f"{gap} on each of {over}, p {format_p(row.p_holm)} (sign test) after Holm over {pairs}.{verdict}"
    if "margin" not in row and row.note:
        same = row.note in ("identical", "no common image")
        return f"{f'{row.f} and {row.g}' if same else gap}: {row.note}, {over}."
    if "margin" in row:
        verdict = "equivalent" if row.equivalent else "equivalence is not shown"
        ends = row.note or f"interval {row.low:+.4g} to {row.high:+.4g}"
        test = ends if np.isnan(row.p) else f"{ends}, TOST p {format_p(row.p)}"
        return f"{gap} ({test}), {over}: {verdict} within a margin of {row.margin:.4g}."
    family = f"{row.family} pair{'s' if row.family > 1 else ''}"
    size = f"d_z = {row.d_z:+.2f}, {row.f} better on {100 * row.wins:.0f} % of {over}"
    verdict = "" if row.p_holm < alpha else " No difference is shown, which is not equality."
    if (row.p_holm < alpha) != (row.wilcoxon_holm < alpha):
        verdict += f" Wilcoxon's test decides otherwise: {_p_wilcoxon(row, alpha)} after Holm."
    ends = f"95 % interval {row.low:+.4g} to {row.high:+.4g}, {row.interval}"
    return f"{gap} ({ends}), p {format_p(row.p_holm)} after Holm over {family}, {size}.{verdict}"


def counted(n: int, images: int) -> str:
    """Units and images in words: "24 photographs", or "10 photographs (24 images)" where these are crops."""
    return f"{n} photograph{'' if n == 1 else 's'}" + (f" ({images} images)" if images != n else "")


def format_p(p: float) -> str:
    """A p value with its relation, to be written after "p": "= 0.012" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def latex(
    table: pd.DataFrame,
    *,
    columns: dict[str, str] | None = None,
    digits: int = 4,
    caption: str = "",
    label: str = "",
) -> str:
    """Write a table of results in LaTeX; it needs `\\usepackage{booktabs}` and nothing else.

    Args:
        table: the lines; the index is not printed.
        columns: columns to print and their headers, in LaTeX; None prints all, under the words of `HEADS` or their
            own names without underscores.
        digits: decimals of a number that is no count; a column of p values or named chance gets three.
        caption: plain text, for example that of `setting` and `caption`, so that the table says what it shows by
            itself; with it the tabular is put into a table environment.
        label: label of that environment.

    Raises:
        ValueError: `columns` names one that the table lacks.
    """
    words = {name: HEADS.get(name, str(name).replace("_", " ")) for name in table}
    columns = {name: _escape(word) for name, word in words.items()} if columns is None else columns
    if missing := set(columns) - set(table):
        raise ValueError(f"expected columns among {list(table)}, got {sorted(missing)}")
    sides = "".join("r" if pd.api.types.is_numeric_dtype(table[name]) else "l" for name in columns)
    cells = [[_cell(value, name, digits) for value in table[name]] for name in columns]
    body = [" & ".join(line) + r" \\" for line in zip(*cells, strict=True)]
    body = [f"{{}}{line}" if line[0] in "[*" else line for line in body]  # after a line break these mean something else
    head = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", " & ".join(columns.values()) + r" \\", r"\midrule"]
    lines = [*head, *body, r"\bottomrule", r"\end{tabular}"]
    if caption:
        names = [rf"\caption{{{_escape(caption)}}}", *([rf"\label{{{label}}}"] if label else [])]
        lines = [r"\begin{table}", r"\centering", *names, *lines, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _p_wilcoxon(line, alpha: float) -> str:
    least = line.family * 2.0 ** (1 - line.n)
    cannot = f", of {line.n} it cannot be below {min(least, 1):.3f}" if least >= alpha else ""
    return f"p {format_p(line.wilcoxon_holm)}{cannot}"


def _cell(value: object, name: str, digits: int) -> str:
    if isinstance(value, str):
        return _escape(value)
    if pd.isna(value):
        return "--"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if name in ("p", "p_holm", "p_wilcoxon", "wilcoxon_holm", "chance"):
        return format_p(value).removeprefix("= ").replace("< ", "$<$")
    if name.startswith("rank"):  # whole but for ties, which share a half
        return f"{value:g}"
    text = str(value) if isinstance(value, int | np.integer) else f"{value:.{digits}f}"
    return text.replace("-", "$-$")


def _escape(text: str) -> str:
    words = {
        "\\": "textbackslash",
        "~": "textasciitilde",
        "^": "textasciicircum",
        "<": "textless",
        ">": "textgreater",
    }
    signs = {"\N{MULTIPLICATION SIGN}": r"$\times$", "\N{MINUS SIGN}": "$-$", "\N{PLUS-MINUS SIGN}": r"$\pm$"}

    def one(c: str) -> str:
        greek = unicodedata.name(c, "").partition("GREEK SMALL LETTER ")[2].lower().replace("lamda", "lambda")
        if greek and " " not in greek:
            return rf"$\{greek}$"
        return signs.get(c) or (rf"\{words[c]}{{}}" if c in words else rf"\{c}" if c in "&%$#_{}" else c)

    return "".join(map(one, text))
