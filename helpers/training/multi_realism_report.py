"""What the card of the Multi-Realism codec states, on photographs that were not trained on, image by image.

A file is written at each rate level and read at each beta; images are in 8 bits, PSNR is that of RGB. Beside it stand
JPEG and WebP of no fewer bits. KID is that of 64 x 64 patches (`iqa.kid`), never of two patches of one photograph.
Then the figures and the sentences of the notebook that reads a card.
"""

import io
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from helpers import figures, files
from helpers.distortions import against, available
from helpers.images import from_uint8, quantize, to_uint8
from helpers.iqa import kid
from helpers.rescalers import multi_realism
from helpers.rescalers.multi_realism import HIGHEST, Codec, decode, encode
from helpers.stats import findings
from helpers.stats.findings import Finding

BETAS = (0.0, 0.32, 0.64, 1.28, 2.56)
DISTANCES = ("lpips", "lpips_embedded")  # those of them that are here
RIVALS = {  # Pillow's names and options
    "jpeg": ("JPEG", {"subsampling": "4:2:0", "optimize": True}), "webp": ("WEBP", {"method": 6}),
}  # fmt: skip
LIMIT = 6_000_000  # bytes of the checkpoint that ships
PATCH = 64
RATES = (0.2, 1.0)  # bits per pixel between which it should not be below JPEG
NAMES = {"psnr": "PSNR (dB)", "lpips": "LPIPS", "lpips_embedded": "lpips_embedded", "kid": "KID"}
Images = Sequence[tuple[str, Tensor]]


def rival(hr: Tensor, name: str, size: int) -> tuple[Tensor, int]:
    """An image through the file of another format: of the lowest quality that is not smaller than `size` bytes.

    It may spend more bits, never fewer, unless quality 100 is still smaller.

    Args:
        hr: (1, 3, H, W) in [0, 1].
        name: a key of `RIVALS`.

    Returns:
        The image in 8-bit levels, and the bytes of the file.
    """
    low, high = 1, 100
    while low < high:  # sizes hardly ever fall with the quality
        middle = (low + high) // 2
        low, high = (low, middle) if len(_file(hr, name, middle)) >= size else (middle + 1, high)
    content = _file(hr, name, low)
    levels = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
    return from_uint8(torch.from_numpy(levels)).permute(2, 0, 1)[None], len(content)


def _file(hr: Tensor, name: str, quality: int) -> bytes:
    kind, options = RIVALS[name]
    levels = to_uint8(hr)[0].permute(1, 2, 0).numpy()
    Image.fromarray(levels).save(file := io.BytesIO(), format=kind, quality=quality, **options)
    return file.getvalue()


def distances_here() -> list[str]:
    """Those of `DISTANCES` whose networks are on this machine."""
    return [name for name in DISTANCES if available(name) is None]


@torch.no_grad()
def of_image(codec: Codec, hr: Tensor, level: float, betas: Sequence[float] = BETAS) -> tuple[dict, dict[str, Tensor]]:
    """All numbers of one photograph at one rate level.

    Args:
        codec: of `rescalers.multi_realism`.
        hr: (1, 3, H, W) in [0, 1].
        level, betas: see `encode`, `decode`.

    Returns:
        bpp, bits of the whole file per pixel; estimated, what the entropy model says of the padded image; for each
        beta "psnr 0.64", "lpips 0.64" and the like; for each rival "jpeg bpp", "jpeg psnr" and so on. And the images,
        by beta or name.
    """
    pixels, content = hr.shape[2] * hr.shape[3], encode(codec, hr, level)
    images = {f"{beta:g}": quantize(decode(codec, content, beta)) for beta in betas}
    found = {"bpp": 8 * len(content) / pixels, "estimated": multi_realism.estimated_bits(codec, hr, level) / pixels}
    for name in RIVALS:
        images[name], size = rival(hr, name, len(content))
        found[f"{name} bpp"] = 8 * size / pixels
    measures = {"psnr": lambda sr: -10 * (sr - hr).square().mean().log10()}
    measures |= {name: against(name, hr) for name in distances_here()}
    for each, image in images.items():
        found |= {
            f"{each} {name}" if each in RIVALS else f"{name} {each}": measure(image).item()
            for name, measure in measures.items()
        }
    return found, images


def patches(image: Tensor) -> Tensor:
    """Patches of 64 x 64 side by side, (n, 3, 64, 64), what is left over at the right and the bottom not among them."""
    cut = image.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)[0]  # (3, rows, columns, 64, 64)
    return cut.permute(1, 2, 0, 3, 4).reshape(-1, 3, PATCH, PATCH)


def table(codec: Codec, images: Images, betas: Sequence[float] = BETAS) -> pd.DataFrame:
    """`of_image` of all photographs at all integer levels: a line an image and level.

    Where AlexNet is here, there are "kid 0.64", "jpeg kid" and so on besides: one number a photograph, of which the
    mean is KID (`kid.of_pairs`); of three photographs at least.
    """
    with_kid = available("lpips") is None and len(images) > 2
    real = [kid.features(patches(hr)) for _, hr in images] if with_kid else []
    parts = []
    for level in range(codec.network.levels):
        lines, features = [], {}
        for name, hr in images:
            line, shown = of_image(codec, hr, level, betas)
            lines.append({"image": name, "level": level} | line)
            for each, image in shown.items() if with_kid else ():
                features.setdefault(each, []).append(kid.features(patches(image)))
        part = pd.DataFrame(lines)
        for each, found in features.items():
            part[f"{each} kid" if each in RIVALS else f"kid {each}"] = kid.of_pairs(kid.apart(found, real))[1]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def write_card(sets: Mapping[str, Images], file: str | Path) -> dict:
    """Measure a codec on sets of photographs and write its card beside its checkpoint.

    Args:
        sets: name -> photographs.
        file: the checkpoint (.safetensors); the curve of each stage lies beside it (.csv, _realism.csv).

    Returns:
        The card: configuration, parameters, bytes, minutes and chosen iteration of each stage, what the
        header of the checkpoint says, the tables.
    """
    path, codec = Path(file), multi_realism.load(file)
    with safe_open(path, "pt") as opened:
        facts = {key: int(value) for key, value in opened.metadata().items() if value.isdigit()}
    stages = {}
    for stage, ending in (("rates", ""), ("realism", "_realism")):
        curve = pd.read_csv(path.with_name(f"{path.stem}{ending}.csv"))
        chosen = curve.loss.idxmin() if stage == "rates" else curve.index[-1]
        stages[stage] = {
            "iterations": int(curve.iteration.iloc[-1]), "chosen": int(curve.iteration[chosen]),
            "minutes": round(float(curve.seconds.iloc[-1]) / 60, 1),
        }  # fmt: skip
    found = {
        "name": path.stem, "config": codec.network.config, "model": codec.digest.hex(),
        "parameters": sum(each.numel() for each in codec.network.parameters()), "bytes": path.stat().st_size,
        **facts, **stages, "kid": kid.FEATURES,
        "images": {name: table(codec, images).round(5).to_dict("records") for name, images in sets.items()},
    }  # fmt: skip
    files.replace(path.with_suffix(".json"), json.dumps(found).replace("}, ", "},\n") + "\n")
    return found


def read_card(path: str | Path) -> tuple[dict, dict[str, pd.DataFrame]]:
    """The facts of a card, and its tables by the name of the set, a line an image and level."""
    facts = json.loads(Path(path).read_text())
    return facts, {name: pd.DataFrame(rows) for name, rows in facts.pop("images").items()}


def measures_of(rows: pd.DataFrame) -> list[str]:
    """PSNR, the LPIPS of a card (`lpips_embedded` where LPIPS was not here), and KID where it has one."""
    perceptual = "lpips" if "lpips 0" in rows else "lpips_embedded"
    return ["psnr", perceptual, *(["kid"] if "kid 0" in rows else [])]


def betas_of(rows: pd.DataFrame) -> list[float]:
    """The betas of a table, in order."""
    return sorted(float(column.removeprefix("psnr ")) for column in rows if column.startswith("psnr "))


def differences(rows: pd.DataFrame, pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """One column of a table minus another, photograph by photograph.

    Args:
        rows: of `table`, a line an image and level.
        pairs: what the difference is called -> the two columns.

    Returns:
        A line a photograph, a column a level and pair, named by the mean rate too: "level 1 (0.51 bpp), 0 to 0.32".
    """
    found = {}
    for level, part in rows.groupby("level"):
        part = part.set_index("image")
        for name, (one, other) in pairs.items():
            found[f"level {level} ({part.bpp.mean():.2f} bpp){name}"] = part[one] - part[other]
    return pd.DataFrame(found)


def aims(name: str, rows: pd.DataFrame) -> list[Finding]:
    """Decide what was aimed at before the training, on the photographs of one set: t tests, Holm over each sentence.

    Args:
        name: of the set.
        rows: of `table`, of two photographs at least.

    Returns:
        Sentences for `notebook.finding`: what falls with beta at the same bytes; PSNR at beta = 0 beside JPEG's at
        equal bits; LPIPS at the highest beta beside JPEG's, WebP's and that at beta = 0.
    """
    measures, n = measures_of(rows), f"({rows.image.nunique()} photographs)"
    found, perceptual = [], measures[1]
    for measure in measures:
        steps = {f", {a:g} to {b:g}": (f"{measure} {a:g}", f"{measure} {b:g}") for a, b in pairwise(betas_of(rows))}
        ends = [findings.mean(rows.groupby("image")[f"{measure} {beta:g}"].mean()) for beta in (0, HIGHEST)]
        said = f"{name}: at the same bytes {NAMES[measure]} falls with every step of beta at every level, in the mean"
        found.append(_decided(differences(rows, steps), f"{said} of the levels from {ends[0]} to {ends[1]} {n}"))
    inside = rows[rows.groupby("level").bpp.transform("mean").between(*RATES)]
    if len(inside):
        gaps = differences(inside, {"": ("psnr 0", "jpeg psnr")})
        values = ", ".join(f"{level} {findings.mean(gap):+.2f} dB" for level, gap in gaps.items())
        said = f"{name}: at beta 0 PSNR is not below that of a JPEG file of no fewer bits, at the levels between"
        found.append(_decided(gaps, f"{said} {RATES[0]:g} and {RATES[1]:g} bits per pixel: {values} {n}"))
    others = {f", {kind}": (f"{kind} {perceptual}", f"{perceptual} {HIGHEST:g}") for kind in RIVALS}
    others[", beta 0"] = (f"{perceptual} 0", f"{perceptual} {HIGHEST:g}")
    said = f"{name}: at beta {HIGHEST:g} {NAMES[perceptual]} is below that of JPEG, of WebP and of its own beta 0"
    return [*found, _decided(differences(rows, others), f"{said}, at equal bits and every level {n}")]


def _decided(gaps: pd.DataFrame, said: str) -> Finding:
    parts = findings.decided(gaps)
    return Finding(said + findings.exceptions(parts), findings.together([each.verdict for each in parts.values()]))


def curves(rates: pd.DataFrame, realism: pd.DataFrame) -> Figure:
    """Held-out numbers while both stages were trained: a line a rate level, then a line a beta.

    Args:
        rates, realism: the curves of `train_rates` and `train_realism`.
    """
    fig, axes = plt.subplots(1, 4, figsize=figures.size(2, 0.28), layout="constrained")
    parts = ((rates, "psnr_", "PSNR at beta 0 (dB)"), (rates, "bpp_", "bits per pixel"),
             (realism, "psnr_", "PSNR (dB)"), (realism, "lpips_", "LPIPS of the training"))  # fmt: skip
    for number, (ax, (curve, start, label)) in enumerate(zip(axes, parts, strict=True)):
        for column in (each for each in curve if each.startswith(start)):
            kind = "level" if number < 2 else "beta"
            ax.plot(curve.iteration / 1000, curve[column], label=f"{kind} {column.removeprefix(start)}")
        ax.set(xlabel="thousand steps", ylabel=label, title=f"stage {1 if number < 2 else 2}")
    for ax in axes[[1, 2]]:
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.4 * (high - low))  # room for the legend
        ax.legend(frameon=False, fontsize=6, loc="upper right", ncols=2 if ax is axes[1] else 1)
    return fig


def rate_distortion(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """PSNR and LPIPS over bits, means over photographs: the codec at both ends of beta, JPEG and WebP of no fewer bits.

    Args:
        tables: name of a set -> its table; a line of panels each.
    """
    fig, axes = _grid(tables, 2)
    for line, rows in zip(axes, tables.values(), strict=True):
        means = rows.groupby("level").mean(numeric_only=True)
        for ax, measure in zip(line, measures_of(rows), strict=False):
            for number, beta in enumerate((0.0, HIGHEST)):
                style = {"color": "C0", "ls": "-" if number == 0 else "--", "label": f"codec, beta {beta:g}"}
                ax.plot(means.bpp, means[f"{measure} {beta:g}"], marker="o", ms=3, **style)
            for number, kind in enumerate(RIVALS, 1):
                ax.plot(means[f"{kind} bpp"], means[f"{kind} {measure}"], "s:", ms=3, color=f"C{number}", label=kind)
            ax.set(xlabel="bits per pixel", ylabel=NAMES[measure])
    axes[0, 0].legend(frameon=False, fontsize=6)
    return fig


def over_beta(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """What beta does with the same bytes: PSNR, LPIPS and KID, a line a rate level, with 95 % intervals.

    Args:
        tables: name of a set -> its table; a line of panels each.
    """
    fig, axes = _grid(tables, 3)
    for line, rows in zip(axes, tables.values(), strict=True):
        for ax, measure in zip(line, measures_of(rows), strict=False):
            for number, (level, part) in enumerate(rows.groupby("level")):
                found = {beta: findings.mean(part[f"{measure} {beta:g}"]) for beta in betas_of(rows)}
                ends = [[q.value - q.low for q in found.values()], [q.high - q.value for q in found.values()]]
                at = [beta + 0.02 * number for beta in found]
                style = {"marker": "o", "ms": 3, "lw": 1, "elinewidth": 0.6}
                label = f"level {level}, {part.bpp.mean():.2f} bpp"
                ax.errorbar(at, [q.value for q in found.values()], ends, **style, label=label)
            ax.set(xlabel="beta", ylabel=NAMES[measure])
        beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        line[-1].legend(*line[0].get_legend_handles_labels(), frameon=False, fontsize=6, **beside)
    return fig


def _grid(tables: Mapping[str, pd.DataFrame], columns: int) -> tuple[Figure, np.ndarray]:
    """Axes, (sets, columns), the name of the set at the left where there are several."""
    shape = (len(tables), columns)
    fig, axes = plt.subplots(*shape, figsize=figures.size(2, 0.3 * shape[0]), layout="constrained", squeeze=False)
    for line, (name, rows) in zip(axes, tables.items(), strict=True):
        line[0].set_title(f"{name}, {rows.image.nunique()} photographs", loc="left")
        for ax in line[len(measures_of(rows)) :]:
            ax.set_axis_off()
    return fig, axes
