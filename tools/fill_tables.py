"""The tables of README.md and data/weights/README.md, written from published rows and card files.

`python -m tools.fill_tables` (the end of `make notebooks`) rewrites what stands between `<!-- name -->` and
`<!-- /name -->`, and between `<!-- finding 00_quickstart 1 -->` and `<!-- /finding -->`; a test compares.
"""

import json
import re
from pathlib import Path

import pandas as pd

from helpers import files, results
from helpers.stats import claims as paper
from helpers.stats import findings, rankings
from helpers.studies import generations as flows
from helpers.studies import twins as twin_studies
from helpers.training import multi_realism_report, recipes, rescaler_report, twin_report
from tools.links import browser

ROOT = Path(__file__).parents[1]
CARDS = ROOT / "data" / "weights"
FLOWS = {
    "x2": "x2", "x4": "x4", "x8": "x8", "x4 mixed": "x4_mixed", "x4 first": "x4_first", "x8 first": "x8_first",
}  # fmt: skip
EVIDENCE = ("photographs_x4", "photographs_x8", "faces_x4", "faces_x8")  # of tools.publish_rows


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def _card(flow: str) -> dict:
    return json.loads((CARDS / f"compact_flow_{FLOWS[flow]}.json").read_text())


def ranking() -> str:
    """The quickstart's ranking with paired differences to bicubic."""
    rows = results.read(ROOT / "data" / "results" / "00_quickstart.csv.gz")
    pairs = rankings.paired(rows, baseline="bicubic").set_index("f")
    lines = []
    for row in rankings.scores(rows).itertuples():
        gap = pairs.loc[row.downscaler] if row.downscaler in pairs.index else None
        against = "" if gap is None else f"{gap.difference:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
        ends = f"[{row.low:.4f}, {row.high:.4f}]"
        lines.append([f"{row.rank:g}", row.downscaler, f"{row.mean:.4f}", ends, against])
    return _table(["rank", "downscaler", "IDA-RD", "95 % interval", "difference to bicubic"], lines)


def claims() -> str:
    """What the paper states about the order of downscalers, held against the published rows on distinct pictures."""
    tables = {}
    for name in EVIDENCE:
        rows = results.read(ROOT / "data" / "results" / f"evidence_{name}.csv.gz")
        table = paper.verdicts(rows[rows.distortion == "lpips"], paper.EVERY_READING)
        tables[f"{name.replace('_', ' ')} ({table.n.max()})"] = table.set_index("statement")
    first, *_ = tables.values()
    lines = []
    for statement, line in first[first.n > 0].iterrows():
        cells = []
        for table in tables.values():
            found = table.loc[statement]
            number = f"{found.pair} = {found.gap:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
            cells.append(f"**{found.verdict}**: {number}")
        lines.append([f"{statement} ({line.source})", *cells])
    return _table(["the paper says", *tables], lines)


def card() -> str:
    """What each embedded flow does on crops that it was not trained on."""
    names = {
        "bits per dimension": (["bits_per_dimension"], 3),
        "LR consistency, dB": (["lr_psnr"], 2),
        "PSNR at heat 0 / 1.0 / bicubic interpolation, dB": (["psnr_0", "psnr_heat", "psnr_bicubic"], 2),
        "SSIM at heat 0 / 1.0": (["ssim_0", "ssim_heat"], 3),
        "MS-SSIM at heat 0 / 1.0 / bicubic interpolation": (["ms_ssim_0", "ms_ssim_heat", "ms_ssim_bicubic"], 3),
        "LPIPS-Alex at heat 0 / 1.0 / bicubic interpolation": (["lpips_0", "lpips_heat", "lpips_bicubic"], 3),
    }
    summaries = {flow: _card(flow)["summary"] for flow in FLOWS}
    lines = [
        [label, *(" / ".join(f"{summary[key]:.{digits}f}" for key in keys) for summary in summaries.values())]
        for label, (keys, digits) in names.items()
    ]
    lines.append(["samples that are not finite", *(f"{summary['non_finite']:g}" for summary in summaries.values())])
    largest = [f"{summary['largest']:.1f}" for summary in summaries.values()]
    head = f"on {summaries['x4']['n_images']} library crops, none of them trained on"
    return _table([head, *FLOWS], [*lines, ["largest absolute value before clipping", *largest]])


def generations() -> str:
    """Both generations of the flows of x4 and x8 on the same pictures, and whether the aims were reached."""
    table = flows.side_by_side(measured := flows.read())
    reached = [
        [f"x{scale}", aim["statement"].format(change=aim["change"]), f"**{aim['verdict']}**"]
        for scale in flows.SCALES
        for aim in flows.aims(measured, scale)
    ]
    n = measured.photograph.nunique()
    return "\n\n".join([
        _table(list(table.columns), table.astype(str).to_numpy().tolist()),
        _table(["scale", f"aim, over all {n} photographs", "reached"], reached),
    ])  # fmt: skip


def agreement() -> str:
    """How the embedded distance follows LPIPS over draws of one flow alone, in a sentence."""
    facts = json.loads((CARDS / "compact_lpips.json").read_text())
    sets = [facts["library"], *facts["collections"].values()]

    def ends(key: str, kind: str) -> str:
        values = sorted(each[kind][key] for each in sets if kind in each)
        return f"{values[0]:.2f} to {values[-1]:.2f}"

    images, (x4, x8) = sum(each["all"]["images"] for each in sets), ("draws x4", "draws x8")
    return (
        f"On {images} photographs and faces of {len(sets)} sets that it has not seen Spearman's rho to LPIPS-Alex is "
        f"{ends('spearman', 'all')} over pairs of all kinds. Over draws of one flow alone it is {ends('spearman', x4)} "
        f"at x4 and {ends('spearman', x8)} at x8; within an image {ends('within', x4)} and {ends('within', x8)}."
    )


def check() -> str:
    """How each embedded flow ranks downscalers and answers to damage."""
    cards = [_card(flow) for flow in FLOWS]
    lines = [[name, *(f"{each['ranking'][name]:.4f}" for each in cards)] for name in _card("x4")["ranking"]]
    for name in cards[0]["degradations"]:
        levels = [", ".join(f"{value:.3f}" for value in each["degradations"][name]) for each in cards]
        lines.append([f"bicubic, then {name}: none, weak, middle, strong", *levels])
    return _table(["1 - MS-SSIM, 8 crops, 2 draws each", *FLOWS], lines)


def generator() -> str:
    """How near the embedded generator's samples are to faces, and how well a search inverts it."""
    facts = json.loads((CARDS / "style_generator_64.json").read_text())
    names = list(facts["inversion"])
    sets = [
        [name, *(f"{values[key]:.3f}" for key in ("kid", "fid", "spread"))] for name, values in facts["sets"].items()
    ]
    columns = {"median residual": ("residual", 4), "LR-PSNR, dB": ("lr_psnr", 1), "PSNR to the face, dB": ("psnr", 2),
               "PSNR of bicubic interpolation, dB": ("psnr_bicubic", 2),
               "spread between answers": ("spread", 3)}  # fmt: skip
    inverted = [
        [name, *(f"{facts['inversion'][name][key]:.{digits}f}" for key, digits in columns.values())] for name in names
    ]
    near = ", ".join(f"{name} {value:.4f}" for name, value in facts["nearest"].items())
    scores = {**facts["ranking"], **facts["damage"]}
    ranked = [[name, f"{mean:.4f}", f"[{low:.4f}, {high:.4f}]"] for name, (mean, low, high) in scores.items()]
    images = f"{facts['n_images']} images, {facts['n_samples']} answers each, {facts['steps']} steps"
    return "\n\n".join([
        _table(["set of images", "KID", "FID", "spread"], sets),
        f"Features: {facts['features']}. Distance to the nearest training face: {near}.",
        _table([f"search, {images}", *columns], inverted),
        _table([f"x8, S by {facts['ranking_distortion']}", "S", "95 % interval"], ranked),
    ])  # fmt: skip


def lpips_embedded() -> str:
    """How far the embedded distance is from LPIPS, its ranking, and distances beside published scores."""
    facts = json.loads((CARDS / "compact_lpips.json").read_text())
    agreement = [
        [name, kind, f"{row['n']} of {row['images']}", *(f"{row[key]:.3f}" for key in ("spearman", "within", "error"))]
        + [f"{100 * row['relative']:.0f} %", f"{row['bias']:+.3f}"]
        for name, kinds in ({"library crops": facts["library"]} | facts["collections"]).items()
        for kind, row in kinds.items()
    ]
    head = ["photographs", "variants", "pairs of images", "Spearman", "within an image", "error", "relative", "bias"]
    ours, theirs = (pd.DataFrame(facts["ranking"][name]).T for name in ("lpips_embedded", "lpips"))
    ranked = [
        [name, f"{theirs[name].mean():.4f}", f"{ours[name].mean():.4f}"]
        + [f"{(each[name] - each.bicubic).mean():+.4f}" for each in (theirs, ours)]
        for name in theirs.mean().sort_values().index
    ]
    names = ["LPIPS-Alex", "lpips_embedded", "to bicubic, LPIPS-Alex", "to bicubic, lpips_embedded"]
    pairs = [name for name in facts["calibration"][0] if name != "metric"]
    scores = [
        [row["metric"], *("-" if row[pair] is None else f"{row[pair]:.4f}" for pair in pairs)]
        for row in facts["calibration"]
    ]
    return "\n\n".join([
        _table(head, agreement),
        _table([f"quickstart's ranking, {len(ours)} crops", *names], ranked),
        _table(["TID2013 pair", *pairs], scores),
    ])  # fmt: skip


def rescalers() -> str:
    """What each small rescaler does on photographs that none of them was trained on, and what it cost."""
    lines, others = [], []
    for name in recipes.RECIPES:
        if not (CARDS / f"{name}.json").is_file():
            continue
        facts, tables = rescaler_report.read_card(CARDS / f"{name}.json")
        cost = [f"{facts['parameters']:,}", f"{facts['iterations']:,}", f"{facts['minutes']:.0f}"]
        for key, rows in tables.items():
            own = [f"{findings.mean(rows[column]):.2f}" for column in ("psnr_y", "bicubic", "stranger", "lr_psnr")]
            lines.append([name, *cost, f"{key}, {len(rows)}", *own])
            if name.startswith("sain") and key == "bsd100":
                for quality in rescaler_report.QUALITIES:
                    found = [f"{findings.mean(rows[f'{f} q{quality}']):.2f}" for f in ("sain", "irn", "bicubic")]
                    others.append([f"x2, JPEG 4:2:0 of quality {quality}", *found])
            if name.startswith("hyperthumbnail"):
                bits = [f"{findings.mean(rows[column]):.3f}" for column in ("file bpp", "file jpeg_bpp")]
                found = [f"{findings.mean(rows[column]):.2f}" for column in ("file psnr_y", "file jpeg")]
                others.append([f"{name}, {key}: {bits[0]} bits per HR pixel", found[0], "", f"{found[1]} at {bits[1]}"])
    head = ["rescaler", "parameters", "steps", "minutes", "photographs", "own", "bicubic", "stranger", "LR image"]
    codecs = ["through a codec (of SAIN's on BSD100)", "own", "IRN's own", "bicubic"]
    return _table(head, lines) + ("\n\n" + _table(codecs, others) if others else "")


_TWINS = {  # label -> columns of a card for the mean image, a draw, the flow at heat 1, bicubic; and their format
    "PSNR, dB": (("psnr_mean", "psnr_draw", "psnr_flow", "psnr_bicubic"), ".2f"),
    "LPIPS-Alex": (("lpips_mean", "lpips_draw", "lpips_flow 1", "lpips_bicubic"), ".3f"),
    "LR consistency, dB": (("lr_psnr_mean", "lr_psnr", None, None), ".1f"),
    "detail above the LR band, of the photograph's": (("detail_mean", "detail_draw", "detail_flow", None), ".0%"),
    "deviation between draws": ((None, "spread", None, None), ".3f"),
    "speckle, share of pixels": ((None, "speckle", "speckle_flow", None), ".2%"),
    "LPIPS-Alex at 8 steps; of the flow at heat 0.9": ((None, "lpips_steps 8", "lpips_flow 0.9", None), ".3f"),
    "LPIPS-Alex at 15 steps; of the flow at heat 0.8": ((None, "lpips_steps 15", "lpips_flow 0.8", None), ".3f"),
    "PSNR after blur, noise and JPEG at random, dB": (("damaged_psnr", None, None, None), ".2f"),
    "LPIPS-Alex after them": (("damaged_lpips", None, None, None), ".3f"),
}


def twins() -> str:
    """What the twin upscalers do on photographs that none was trained on, whether they are accepted, what they cost."""
    lines, checks, costs = [], [], []
    for name in recipes.TWINS:
        if not (CARDS / f"{name}.json").is_file():
            continue
        facts, tables = rescaler_report.read_card(CARDS / f"{name}.json")
        costs.append([name, f"{facts['iterations']:,}", f"{facts['minutes']:.0f}", f"{facts['parameters']:,}"]
                     + [f"{facts['seconds'][key]:.3f}" for key in ("mean", "4 steps", "8 steps", "15 steps", "flow")]
                     + [f"{facts['kid'][key]:.2f}" for key in ("mean", "draw", "flow", "bicubic")])  # fmt: skip
        for key, rows in tables.items():
            for label, (columns, form) in _TWINS.items():
                found = [f"{findings.mean(rows[each]):{form}}" if each else "" for each in columns]
                lines.append([f"{name}, {key}, {len(rows)}", label, *found])
        for aim, column, form, above, below in (
            ("(2) draws differ, deviation above 0.01", "spread", ".3f", twin_report.SPREAD, None),
            ("(3) LR consistency above 45 dB", "lr_psnr", ".1f", twin_report.CONSISTENT, None),
            ("(5) detail within a fifth of the photographs'", "detail_draw", ".0%", 1 - twin_report.DETAIL,
             1 + twin_report.DETAIL),
        ):  # fmt: skip
            value = findings.mean(tables["photographs"][column])
            checks.append([name, aim, f"{value:{form}}", f"**{findings.verdict(value, above=above, below=below)}**"])
    evidence = twin_studies.read(str(ROOT / "data" / "results"), ("photographs",)).get("photographs x4", {})
    for name in (each for each in twin_studies.SQUARE[2:] if each in evidence):
        flow, own = (part[part.distortion == "lpips"] for part in (evidence["embedded_flow, heat 1"], evidence[name]))
        tau = findings.tau(flow, own)
        verdict = findings.verdict(tau, above=findings.ALIKE)
        checks.append([name, "(4) the flow's order of downscalers, tau by LPIPS", f"{tau:.2f}", f"**{verdict}**"])
    head = ["steps", "minutes", "parameters", "mean, s", "4 steps, s a draw", "8", "15", "flow", "KID: mean", "draw",
            "flow", "bicubic"]  # fmt: skip
    values = ["mean image", "draw", "flow, heat 1", "bicubic interpolation"]
    return "\n\n".join([
        _table(["checkpoint", *head], costs),
        _table(["on bicubic LR images", "", *values], lines),
        _table(["checkpoint", "accepted where", "found", ""], checks),
    ])  # fmt: skip


def multi_realism() -> str:
    """What the codec does at each rate level and beta beside JPEG and WebP of no fewer bits, and what was aimed at."""
    if not (CARDS / "multi_realism.json").is_file():
        return "No checkpoint comes with the package yet."
    facts, tables = multi_realism_report.read_card(CARDS / "multi_realism.json")
    stages = [[stage, *(f"{facts[stage][key]:,}" for key in ("iterations", "chosen", "minutes"))]
              for stage in ("rates", "realism")]  # fmt: skip
    betas = multi_realism_report.betas_of(next(iter(tables.values())))
    head = ["photographs", "", "level", "bits per pixel", *(f"beta {beta:g}" for beta in betas), "JPEG", "WebP"]
    lines, reached = [], []
    for key, rows in tables.items():
        for measure in multi_realism_report.measures_of(rows):
            columns = [f"{measure} {beta:g}" for beta in betas] + [f"jpeg {measure}", f"webp {measure}"]
            form, name = ".2f" if measure == "psnr" else ".3f", multi_realism_report.NAMES[measure]
            for level, part in rows.groupby("level"):
                found = [f"{part[column].mean():{form}}" for column in columns]
                lines.append([f"{key}, {len(part)}", name, f"{level}", f"{part.bpp.mean():.3f}", *found])
        reached += [[each.statement, f"**{each.verdict}**"] for each in multi_realism_report.aims(key, rows)]
    return "\n\n".join([
        f"{facts['parameters']:,} parameters, {facts['bytes']:,} bytes, {facts['photographs']} photographs.",
        _table(["stage", "steps", "shipped: that of step", "minutes"], stages),
        _table(head, lines),
        _table(["aimed at", "reached"], reached),
    ])  # fmt: skip


BLOCKS = {
    "README.md": (ranking, claims, card, agreement, browser),
    "data/weights/README.md": (card, generations, check, generator, lpips_embedded, rescalers, twins, multi_realism),
}


def filled(path: str) -> str:
    """The text of a file with its blocks written anew."""
    text = (ROOT / path).read_text()
    for block in BLOCKS[path]:
        name = block.__name__
        new = f"<!-- {name} -->\n{block()}\n<!-- /{name} -->"
        text, count = re.subn(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, new=new: new, text, flags=re.S)
        if count != 1:
            raise ValueError(f"{path}: expected one block {name!r}, got {count}")
    return re.sub(r"<!-- finding (\S+) (\d+) -->.*?<!-- /finding -->", lambda found: _finding(*found.groups()), text)


def _finding(notebook: str, number: str) -> str:
    """A finding of a committed notebook, counted from 1, between its two marks."""
    whole = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())
    outputs = [out for cell in whole["cells"] for out in cell.get("outputs", ())]
    told = [out["metadata"]["finding"] for out in outputs if "finding" in out.get("metadata", {})]
    if not 0 < int(number) <= len(told):
        raise ValueError(f"README.md: expected one of the {len(told)} findings of {notebook}, got {number}")
    each = told[int(number) - 1]
    said = f"*{each['verdict']}:* {each['statement'].replace('|', '/')}"
    return f"<!-- finding {notebook} {number} -->{said}<!-- /finding -->"


if __name__ == "__main__":
    for file in BLOCKS:
        files.replace(ROOT / file, filled(file))
