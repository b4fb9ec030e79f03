"""What the cards of the small rescalers decide, after JPEG and beside published tables too."""

from collections.abc import Mapping

import pandas as pd

from helpers import datasets
from helpers.rescalers import registry
from helpers.stats import findings
from helpers.training import rescaler_report

OWN, NEAR, ABOVE = 37.0, 34.0, 3.0  # dB: IRN x2 by its own decoder, its LR images to bicubic ones; IRN x4 over bicubic
AFTER = (75, 50, 30)  # JPEG qualities at which SAIN is to be above others


def after_jpeg(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean psnr_y in dB of sain, irn and bicubic at each of `rescaler_report.QUALITIES`, from the card of SAIN."""
    qualities = rescaler_report.QUALITIES
    means = {f: [rows[f"{f} q{quality}"].mean() for quality in qualities] for f in ("sain", "irn", "bicubic")}
    return pd.DataFrame(means, qualities)


def aims(bsd: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, object]]:
    """What the photographs of BSD100 decide about the statements that were written before the trainings.

    Args:
        bsd: by name of the checkpoint, the table of its card.

    Returns:
        Statement -> its verdict, of each part (t tests against 0, Holm over the parts), and the values of its sentence:
        quantities in dB with intervals over photographs, bits per HR pixel, n. "own" and "lr" of IRN x2, "above
        bicubic" of IRN x4, "dlv" and "tirn" beside IRN of their scale, "jpeg" and "jpeg, bicubic" of SAIN x2, "file" of
        HyperThumbnail x4; those without a card are left out.
    """
    found = {}
    if "irn_x2" in bsd:
        rows = bsd["irn_x2"]
        values = {key: findings.mean(rows[key]) for key in ("psnr_y", "lr_psnr", "bicubic")} | {"n": len(rows)}
        found["own"] = values | _decided(above=rows.psnr_y - OWN)
        found["lr"] = values | _decided(above=rows.lr_psnr - NEAR)
    if "irn_x4" in bsd:
        rows, gain = bsd["irn_x4"], bsd["irn_x4"].psnr_y - bsd["irn_x4"].bicubic
        values = {"gain": findings.mean(gain), "psnr_y": findings.mean(rows.psnr_y), "n": len(gain)}
        found["above bicubic"] = values | _decided(above=gain - ABOVE)
    for key, one, two in (("dlv", "dlv_style_x4", "irn_x4"), ("tirn", "tirn_x2", "irn_x2")):
        if one in bsd and two in bsd:
            found[key] = _decided(gap=bsd[one].psnr_y - bsd[two].psnr_y)
    if "sain_x2" in bsd:
        rows = bsd["sain_x2"]
        for key, other in (("jpeg", "irn"), ("jpeg, bicubic", "bicubic")):
            found[key] = _decided(**{f"q{q}": rows[f"sain q{q}"] - rows[f"{other} q{q}"] for q in AFTER})
    if "hyperthumbnail_x4" in bsd:
        rows = bsd["hyperthumbnail_x4"]
        values = {key: rows[f"file {key}"].mean() for key in ("bpp", "jpeg_bpp", "psnr_y", "jpeg")}
        found["file"] = values | _decided(gap=rows["file psnr_y"] - rows["file jpeg"])
    return found


def beside(cards: Mapping[str, tuple[dict, Mapping[str, pd.DataFrame]]], sets: Mapping[str, str]) -> pd.DataFrame:
    """`rescaler_report.PUBLISHED` beside what is measured here.

    Args:
        cards: of `rescaler_report.read_cards`.
        sets: name -> folder of its photographs; the authors' files are measured on these where they are here.

    Returns:
        By f, s and set: PSNR in dB and SSIM as published; "here", of bicubic (on BSD100 and `sets`) and of the authors'
        files; "the small one", PSNR of the IRN that ships. NaN where it is not known.
    """
    lines = []
    for (key, scale), values in rescaler_report.PUBLISHED.items():
        tables = {own: found for own, (card, found) in cards.items() if card["config"]["scale"] == scale}
        for each, (psnr, ssim) in values.items():
            line = {"f": key, "s": scale, "set": each, "published": psnr, "published, SSIM": ssim}
            at_hand = each in sets or each == "bsd100"
            known = {own: found[each] for own, found in tables.items() if at_hand and each in found}
            if key == "bicubic" and known:
                rows = next(iter(known.values()))
                line |= {"here": rows.bicubic.mean(), "here, SSIM": rows.bicubic_ssim.mean()}
            if key == "irn_official" and f"irn_x{scale}" in known:
                line["the small one"] = known[f"irn_x{scale}"].psnr_y.mean()
            if key == "irn_official" and each in sets and not registry.lacking(key, scale):
                named = [
                    (name, datasets.load(sets[each], name, multiple_of=scale)) for name in datasets.names(sets[each])
                ]
                rows = rescaler_report.table(f"{key}_x{scale}", named)
                line |= {"here": rows.psnr_y.mean(), "here, SSIM": rows.ssim_y.mean()}
            lines.append(line)
    return pd.DataFrame(lines).set_index(["f", "s", "set"])


def _decided(**parts: pd.Series) -> dict[str, object]:
    """Each part above 0: its verdict, and its mean with its interval under its own name."""
    decided = findings.decided(pd.DataFrame(parts))
    return {"verdict": [each.verdict for each in decided.values()]} | {k: v.quantity for k, v in decided.items()}
