"""What the card of the Multi-Realism codec states, on photographs that were not trained on, image by image.

A file is written at each rate level and read at each beta; images are in 8 bits, PSNR is that of RGB. Beside it stand
JPEG and WebP of no fewer bits. KID is that of 64 x 64 patches (`iqa.kid`), never of two patches of one photograph.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from helpers import files
from helpers.distortions import against, available
from helpers.images import from_uint8, quantize, to_uint8
from helpers.iqa import kid
from helpers.rescalers import multi_realism
from helpers.rescalers.multi_realism import Codec, decode, encode

BETAS = (0.0, 0.32, 0.64, 1.28, 2.56)
DISTANCES = ("lpips", "lpips_embedded")  # those of them that are here
RIVALS = {  # Pillow's names and options
    "jpeg": ("JPEG", {"subsampling": "4:2:0", "optimize": True}), "webp": ("WEBP", {"method": 6}),
}  # fmt: skip
LIMIT = 6_000_000  # bytes of the checkpoint that ships
PATCH = 64
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
        stages[stage] = {
            "iterations": int(curve.iteration.iloc[-1]), "chosen": int(curve.iteration[curve.loss.idxmin()]),
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
