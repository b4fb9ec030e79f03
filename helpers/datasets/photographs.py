"""Cut the library, the default data set, from ten photographs that come inside scikit-image and scikit-learn."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from helpers.images import from_uint8, read_rgb, to_uint8

# Photograph -> package, file in it, what and by whom, terms as the package states them.
LIBRARY = {
    "astronaut": ("skimage", "data/astronaut.png", "Eileen Collins, by NASA", "public domain"),
    "chelsea": ("skimage", "data/chelsea.png", "cat, by Stefan van der Walt", "CC0"),
    "coffee": ("skimage", "data/coffee.png", "coffee cup, by Rachel Michetti, Pikolo Espresso Bar", "CC0"),
    "rocket": ("skimage", "data/rocket.jpg", "Falcon 9, by SpaceX", "public domain"),
    "motorcycle": ("skimage", "data/motorcycle_left.png", "Middlebury stereo benchmark 2014", "none stated"),
    "china": ("sklearn", "datasets/images/china.jpg", "pagoda, by danielbuechele (Flickr)", "CC BY 2.0"),
    "flower": ("sklearn", "datasets/images/flower.jpg", "dahlia, by vultilion (Flickr)", "CC BY 2.0"),
    "hubble": ("skimage", "data/hubble_deep_field.jpg", "Hubble eXtreme Deep Field, NASA", "public domain"),
    "retina": ("skimage", "data/retina.jpg", "fundus of an eye, by Mikael Haggstrom", "CC0"),
    "ihc": ("skimage", "data/ihc.png", "stained colon tissue, by CMMI", "no known restrictions"),
}
CROPS = 4  # at most, of one photograph: none may dominate the mean
DETAIL = 0.005  # least mean step between neighbouring grey pixels of a crop: below it there is little to lose


def library(size: int = 256) -> list[str]:
    """Names of the crops: whole, non-overlapping, on a centred grid of each photograph.

    Crops with less than `DETAIL` are left out (night sky, black rim); of the rest the `CROPS` with most detail stay.
    27 crops at 256.

    Args:
        size: side of a crop in pixels.

    Returns:
        Names such as "astronaut_y000_x256" (top left corner), one of each photograph and round again, so that
        the first n show as many photographs as possible.

    Raises:
        ValueError: `size` below 1, or an installed package lacks a photograph.
    """
    if size < 1:
        raise ValueError(f"expected a crop size of at least 1, got {size}")
    crops = [_crops(photograph, size) for photograph in LIBRARY]
    return [own[turn] for turn in range(CROPS) for own in crops if turn < len(own)]


def photograph_of(crop: str) -> str:
    """The photograph of a crop: "astronaut" of "astronaut_y000_x256"."""
    return crop.rsplit("_", 2)[0]


def load_crop(crop: str, size: int = 256) -> Tensor:
    """One of `library(size)`, in [0, 1], shape (1, 3, size, size)."""
    photograph, y, x = crop.rsplit("_", 2)
    y, x = int(y[1:]), int(x[1:])
    return from_uint8(_levels(photograph)[..., y : y + size, x : x + size])


def path_of(photograph: str) -> Path:
    """The file of a photograph inside its installed package, which is found but not imported: both are slow.

    Raises:
        ValueError: the package is not installed, or lacks the file.
    """
    package, file, *_ = LIBRARY[photograph]
    spec = find_spec(package)
    path = Path(spec.submodule_search_locations[0]) / file if spec else Path(file)
    if not path.is_file():
        raise ValueError(f"expected {file} inside the installed package {package}, found no {path}")
    return path


@lru_cache(maxsize=len(LIBRARY))
def _levels(photograph: str) -> Tensor:
    """8-bit levels of a whole photograph, shape (1, 3, H, W)."""
    return to_uint8(read_rgb(path_of(photograph)))


@lru_cache(maxsize=64)
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
