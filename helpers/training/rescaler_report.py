"""What the cards of the small rescalers state, on photographs that were not trained on, image by image.

PSNR and SSIM are those of the rescaling papers: luma, a border of s pixels left out, both images in 8 bits; sides are
cropped to multiples of s. LR images are held against MATLAB's bicubic ones in RGB, the whole image.
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from helpers import datasets, files
from helpers.distortions.luma import psnr_y, ssim_y
from helpers.downscalers import DOWNSCALERS, resize
from helpers.images import from_uint8, to_uint8
from helpers.networks.hyperthumbnail import HyperThumbnail
from helpers.rescalers import checkpoints, hyperthumbnail
from helpers.rescalers.codecs import codec
from helpers.rescalers.registry import RESCALERS
from helpers.runtime import seeded
from helpers.training.recipes import RECIPES, TWINS
from helpers.weights.store import EMBEDDED

QUALITIES = (90, 75, 50, 30)  # of JPEG 4:2:0
SUBSAMPLINGS = ("4:2:0", "4:4:4")
LIMIT = 3_000_000  # bytes of a checkpoint that ships
SETS = ("set5", "set14", "bsd100", "urban100")
_TABLES = {  # PSNR and SSIM on `SETS`; IRN's README, means of five draws; bicubic: MATLAB's, both ways
    ("bicubic", 2): ((33.66, 0.9299), (30.24, 0.8688), (29.56, 0.8431), (26.88, 0.8403)),
    ("irn_official", 2): ((43.99, 0.9871), (40.79, 0.9778), (41.32, 0.9876), (39.92, 0.9865)),
    ("bicubic", 4): ((28.42, 0.8104), (26.00, 0.7027), (25.96, 0.6675), (23.14, 0.6577)),
    ("irn_official", 4): ((36.19, 0.9451), (32.67, 0.9015), (31.64, 0.8826), (31.41, 0.9157)),
}
PUBLISHED = {key: dict(zip(SETS, values, strict=True)) for key, values in _TABLES.items()}
Pair = tuple[Callable[[Tensor], Tensor], Callable[..., Tensor]]


@torch.no_grad()
def round_trip(pair: Pair, hr: Tensor, scale: int, *key: str) -> dict[str, float]:
    """What the owner of a decoder gets back from an LR image, and what a stranger does.

    Args:
        pair: downscaler and upscaler.
        hr: one HR image in [0, 1], (1, 3, H, W), sides multiples of s.
        scale: s.
        key: of the latents, where they are drawn.

    Returns:
        psnr_y and ssim_y of the upscaler's image; lr_psnr of the LR image to MATLAB's bicubic one; stranger: psnr_y of
        the LR image enlarged by MATLAB's bicubic; bicubic and bicubic_ssim: of MATLAB's bicubic both ways.
    """
    downscale, upscale = pair
    lr, reference = downscale(hr), DOWNSCALERS["matlab_bicubic"](hr, scale)
    sr, stranger, plain = upscale(lr, seeded("report", *key)), enlarged(lr, hr), enlarged(reference, hr)
    values = {
        "psnr_y": psnr_y(sr, hr, scale), "ssim_y": ssim_y(sr, hr, scale),
        "lr_psnr": -10 * (lr - reference).square().mean().log10().view(1),
        "stranger": psnr_y(stranger, hr, scale), "bicubic": psnr_y(plain, hr, scale),
        "bicubic_ssim": ssim_y(plain, hr, scale),
    }  # fmt: skip
    return {name: value.item() for name, value in values.items()}


@torch.no_grad()
def through_codec(pairs: Mapping[str, Pair], hr: Tensor, scale: int, *key: str) -> dict[str, float]:
    """psnr_y of pairs, and of bicubic both ways, after JPEG 4:2:0 of the LR image, as "sain q75".

    Args: see `round_trip`.
    """
    found, lrs = {}, {name: downscale(hr) for name, (downscale, _) in pairs.items()}
    for quality in QUALITIES:
        compress = codec("jpeg", quality)
        for name, (_, upscale) in pairs.items():
            sr = upscale(compress(lrs[name]), seeded("report", *key))
            found[f"{name} q{quality}"] = psnr_y(sr, hr, scale).item()
        plain = enlarged(compress(DOWNSCALERS["matlab_bicubic"](hr, scale)), hr)
        found[f"bicubic q{quality}"] = psnr_y(plain, hr, scale).item()
    return found


@torch.no_grad()
def at_equal_bits(network: HyperThumbnail, hr: Tensor) -> dict[str, float]:
    """The HR image from a thumbnail's file, beside bicubic enlargement of a JPEG of MATLAB's bicubic LR image.

    That file is of the lowest quality at which it is not smaller than the thumbnail, of 4:2:0 and 4:4:4 the one with
    the higher PSNR, with optimised Huffman tables as the thumbnail's: it may spend more bits, never fewer (unless
    quality 100 is still smaller).

    Args:
        network: in eval mode.
        hr: one HR image in [0, 1], (1, 3, H, W), sides multiples of s.

    Returns:
        psnr_y (border s) and bpp (of the whole file, per HR pixel) of the thumbnail; lr_psnr of what a viewer shows to
        the bicubic LR image; jpeg and jpeg_bpp, the same of the other file.
    """
    scale, pixels = network.scale, hr.shape[2] * hr.shape[3]
    content, reference = hyperthumbnail.compress(network, hr), DOWNSCALERS["matlab_bicubic"](hr, scale)
    own = psnr_y(hyperthumbnail.decompress(network, content), hr, scale).item()
    lr_psnr = -10 * (hyperthumbnail.shown(content) - reference).square().mean().log10().item()
    others = []
    for subsampling in SUBSAMPLINGS:
        low, high = 1, 100
        while low < high:  # sizes hardly ever fall with the quality
            middle = (low + high) // 2
            low, high = (
                (low, middle) if len(_jpeg(reference, middle, subsampling)) >= len(content) else (middle + 1, high)
            )
        file = _jpeg(reference, low, subsampling)
        shown = from_uint8(torch.from_numpy(np.array(Image.open(io.BytesIO(file)))).permute(2, 0, 1)[None])
        others.append((psnr_y(enlarged(shown, hr), hr, scale).item(), 8 * len(file) / pixels))
    jpeg, jpeg_bpp = max(others)
    return {"psnr_y": own, "bpp": 8 * len(content) / pixels, "lr_psnr": lr_psnr, "jpeg": jpeg, "jpeg_bpp": jpeg_bpp}


def enlarged(lr: Tensor, hr: Tensor) -> Tensor:
    """An LR image at the size of an HR image, by MATLAB's bicubic, to 8-bit levels."""
    return resize(lr, tuple(hr.shape[-2:]), "bicubic", convention="matlab")


def table(name: str, images: Sequence[tuple[str, Tensor]], file: str | Path = "") -> pd.DataFrame:
    """All numbers of one rescaler on images: a line an image.

    Args:
        name: a key of `RESCALERS` with its scale, "irn_x2", "irn_official_x4".
        images: names and HR images in [0, 1], (1, 3, H, W), sides multiples of s.
        file: its checkpoint; "": that of its record.

    Returns:
        `round_trip`; of SAIN `through_codec` besides, with the embedded IRN of its scale; of HyperThumbnail
        `at_equal_bits`, whose columns are called "file psnr_y" and so on.

    Raises:
        KeyError: no such rescaler.
        ValueError: a checkpoint is missing, or is another's.
    """
    family, _, text = name.rpartition("_x")
    scale, record = int(text), RESCALERS[family]
    options = {"scale": scale, "device": "cpu", **record.options}
    file = file or record.files[0].format(scale=scale)
    pair, rows = record.make(file, **options), {}
    others = {family: pair, "irn": RESCALERS["irn"](scale=scale)} if family == "sain" else {}
    network = hyperthumbnail.load(file, scale=scale) if family == "hyperthumbnail" else None
    for image, hr in images:
        rows[image] = round_trip(pair, hr, scale, image)
        if others:
            rows[image] |= through_codec(others, hr, scale, image)
        if network is not None:
            rows[image] |= {f"file {key}": value for key, value in at_equal_bits(network, hr).items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("image")


def write_card(
    name: str,
    sets: Mapping[str, Sequence[tuple[str, Tensor]]],
    file: str | Path,
    measure: Callable[..., pd.DataFrame] = table,
    more: Callable[[], Mapping[str, object]] = dict,
) -> dict:
    """Measure a rescaler, or another network that `recipes` has, on sets of images; write its card beside its file.

    Args:
        name: of the checkpoint, see `table`.
        sets: name -> images.
        file: the checkpoint (.safetensors) of `recipes.export`, with its curve (.csv) beside it.
        measure: makes the lines of a set, as `table` does.
        more: called at the end, further facts of the card.

    Returns:
        The card: what the header of the checkpoint says, parameters, bytes, the chosen iteration, minutes, recipe, and
        the tables.
    """
    path = Path(file)
    config = checkpoints.read(path)[1]
    recipe = (TWINS if name in TWINS else RECIPES)[name]
    network = recipe.make(**config)
    with safe_open(path, "pt") as opened:
        facts = {key: int(value) for key, value in opened.metadata().items() if value.isdigit()}
    curve = pd.read_csv(path.with_suffix(".csv"))
    lowest = next((column for column in ("loss", "validation") if column in curve), None)
    best = curve.loc[curve[lowest].idxmin() if lowest else curve.psnr_y.idxmax()]
    found = {
        "name": name, "config": config, "parameters": sum(each.numel() for each in network.parameters()),
        "bytes": path.stat().st_size, **facts, "recipe": dict(recipe.how), "chosen": int(best.iteration),
        "minutes": round(float(curve.seconds.iloc[-1]) / 60, 1),
        "images": {each: measure(name, images, path).round(4).to_dict("index") for each, images in sets.items()},
    }  # fmt: skip
    found |= more()
    files.replace(path.with_suffix(".json"), json.dumps(found).replace("}, ", "},\n") + "\n")
    return found


def read_card(path: str | Path) -> tuple[dict, dict[str, pd.DataFrame]]:
    """The facts of a card, and its tables by the name of the set, a line an image."""
    facts = json.loads(Path(path).read_text())
    return facts, {name: pd.DataFrame.from_dict(rows, orient="index") for name, rows in facts.pop("images").items()}


def read_cards(names: Iterable[str]) -> dict[str, tuple[dict, dict[str, pd.DataFrame]]]:
    """`read_card` of each shipped checkpoint that has one, by its name."""
    return {name: read_card(path) for name in names if (path := EMBEDDED / f"{name}.json").is_file()}


def anew(name: str, sets: Mapping[str, str], *, write: bool = False) -> tuple[dict, dict[str, pd.DataFrame]]:
    """Measure a shipped rescaler on folders of photographs.

    Args:
        name: of the checkpoint, see `table`.
        sets: name -> folder; sides are cropped to multiples of s.
        write: rewrite its card with the result.

    Returns:
        As `read_card`: the facts of its card and the new tables.

    Raises:
        ValueError: as `datasets.names`.
    """
    scale, path = RECIPES[name].config["scale"], EMBEDDED / f"{name}.json"
    images = {
        each: [(image, datasets.load(folder, image, multiple_of=scale)) for image in datasets.names(folder)]
        for each, folder in sets.items()
    }
    if write:
        write_card(name, images, path.with_suffix(".safetensors"))
        return read_card(path)
    return read_card(path)[0], {each: table(name, found) for each, found in images.items()}


def curve(name: str) -> pd.DataFrame:
    """The curve of the training of a shipped checkpoint: a line a validation."""
    return pd.read_csv((EMBEDDED / name).with_suffix(".csv"))


def _jpeg(lr: Tensor, quality: int, subsampling: str) -> bytes:
    levels = to_uint8(lr)[0].permute(1, 2, 0).numpy()
    options = {"quality": quality, "subsampling": subsampling, "optimize": True}
    Image.fromarray(levels).save(file := io.BytesIO(), format="JPEG", **options)
    return file.getvalue()
