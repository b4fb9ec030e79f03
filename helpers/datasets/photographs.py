"""Cut the offline data sets from photographs that come with the project, scikit-image and scikit-learn."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from helpers import files
from helpers.images import from_uint8, read_rgb, to_uint8
from helpers.runtime import is_whole

# Photograph -> where (an installed package, a folder of the project's data), file in it, what and by whom, terms.
_KODAK = {
    3: "caps", 4: "woman in a red hat", 6: "boat", 8: "houses", 9: "sailing boats", 11: "boat at a pier",
    13: "mountain stream", 16: "island", 18: "woman in a dark dress", 19: "lighthouse", 20: "aeroplane", 23: "parrots",
}  # fmt: skip
KODAK = {
    f"kodim{n:02d}": ("images/kodak", f"kodim{n:02d}.png", f"{what}, Eastman Kodak", "released for unrestricted use")
    for n, what in _KODAK.items()
}
EVERYDAY = {
    "astronaut": ("skimage", "data/astronaut.png", "Eileen Collins, by NASA", "public domain"),
    "chelsea": ("skimage", "data/chelsea.png", "cat, by Stefan van der Walt", "CC0"),
    "coffee": ("skimage", "data/coffee.png", "coffee cup, by Rachel Michetti, Pikolo Espresso Bar", "CC0"),
    "rocket": ("skimage", "data/rocket.jpg", "Falcon 9, by SpaceX", "public domain"),
    "motorcycle": ("skimage", "data/motorcycle_left.png", "Middlebury stereo benchmark 2014", "none stated"),
    "china": ("sklearn", "datasets/images/china.jpg", "pagoda, by danielbuechele (Flickr)", "CC BY 2.0"),
    "flower": ("sklearn", "datasets/images/flower.jpg", "dahlia, by vultilion (Flickr)", "CC BY 2.0"),
}
SCIENTIFIC = {
    "hubble": ("skimage", "data/hubble_deep_field.jpg", "Hubble eXtreme Deep Field, NASA", "public domain"),
    "retina": ("skimage", "data/retina.jpg", "fundus of an eye, by Mikael Haggstrom", "CC0"),
    "ihc": ("skimage", "data/ihc.png", "stained colon tissue, by CMMI", "no known restrictions"),
}
SETS = {  # data set -> its photographs; "library" was the default of rows published before 0.6
    "photographs": EVERYDAY | KODAK,
    "scientific": SCIENTIFIC,
    "library": EVERYDAY | SCIENTIFIC,
}
PHOTOGRAPHS = EVERYDAY | KODAK | SCIENTIFIC
CROPS = 4  # at most, of one photograph: none may dominate the mean
DETAIL = 0.005  # least mean step between neighbouring grey pixels of a crop: below it there is little to lose


def crops(dataset: str, size: int = 256) -> list[str]:
    """Name the crops of a data set: whole, non-overlapping, on a centred grid of each photograph.

    Crops with less than `DETAIL` are left out (night sky, black rim); of the rest the `CROPS` with most detail stay.

    Args:
        dataset: a key of `SETS`.
        size: side of a crop in pixels.

    Returns:
        Names such as "astronaut_y000_x256" (top left corner), one of each photograph and round again, so that
        the first n show as many photographs as possible.

    Raises:
        ValueError: `size` is no integer of at least 1, or no photograph has room and detail for it; or a photograph is
            missing.
    """
    if not is_whole(size):
        raise ValueError(f"expected a crop size of at least 1, got {size!r}")
    found = [_crops(photograph, size) for photograph in SETS[dataset]]
    if not any(found):
        raise ValueError(f"expected a crop size for which a photograph has room and detail, got {size}")
    return [own[turn] for turn in range(CROPS) for own in found if turn < len(own)]


def photograph_of(crop: str) -> str:
    """The photograph of a crop: "astronaut" of "astronaut_y000_x256"."""
    return crop.rsplit("_", 2)[0]


def load_crop(crop: str, size: int = 256) -> Tensor:
    """One of `crops(dataset, size)`, in [0, 1], shape (1, 3, size, size)."""
    photograph, y, x = crop.rsplit("_", 2)
    y, x = int(y[1:]), int(x[1:])
    return from_uint8(_levels(photograph)[..., y : y + size, x : x + size])


def path_of(photograph: str) -> Path:
    """The file of a photograph: one of the project's own, or inside an installed package, which is not imported.

    Raises:
        ValueError: the package is not installed, or the file is missing.
    """
    where, file, *_ = PHOTOGRAPHS[photograph]
    if "/" in where:
        folder, place = files.packaged(where), "the project's data"
    else:
        spec = find_spec(where)
        folder, place = Path(spec.submodule_search_locations[0] if spec else ""), f"the installed package {where}"
    if not (folder / file).is_file():
        raise ValueError(f"expected {file} inside {place}, found no {folder / file}")
    return folder / file


@lru_cache(maxsize=32)
def _levels(photograph: str) -> Tensor:
    """8-bit levels of a whole photograph, shape (1, 3, H, W)."""
    return to_uint8(read_rgb(path_of(photograph)))


@lru_cache(maxsize=128)
def _crops(photograph: str, size: int) -> tuple[str, ...]:
    """Names of the crops of one photograph, top to bottom, left to right."""
    levels = _levels(photograph)[0].int()  # whole numbers: the choice is the same everywhere
    height, width = levels.shape[-2:]
    grey, found = levels.sum(0), []
    for y in range(height % size // 2, height - size + 1, size):
        for x in range(width % size // 2, width - size + 1, size):
            crop = grey[y : y + size, x : x + size]
            steps = [crop.diff(dim=axis).abs() for axis in (0, 1)]
            detail = sum(step.sum().item() for step in steps)
            if detail >= DETAIL * 765 * max(sum(step.numel() for step in steps), 1):
                found.append((-detail, f"{photograph}_y{y:03d}_x{x:03d}"))
    return tuple(sorted(name for _, name in sorted(found)[:CROPS]))
