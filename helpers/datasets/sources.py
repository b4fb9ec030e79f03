"""X, the set of HR images: photographs inside installed libraries, a folder or a manifest; its preflight."""

import csv
import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from helpers import generators
from helpers.datasets import generated
from helpers.images import Picture, crop_to_multiple, from_uint8, read_picture, read_rgb, to_uint8

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pnm"}
LOSSY = {"JPEG", "MPO", "WEBP", "JPEG2000"}
# Colour photographs inside the wheels: package, file, what and who, terms as the packages state them.
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


class Preflight(NamedTuple):
    """What a run may use, and what it has to say about the rest."""

    names: list[str]  # N_X = len(names)
    aside: list[tuple[str, str]]  # image, reason
    notes: list[str]  # conversions, ignored entries, equal pictures


def library(size: int = 256) -> list[str]:
    """Names of square crops of ten colour photographs that come with scikit-image and scikit-learn.

    Each is cut on a centred grid of whole, non-overlapping crops. Crops with less than `DETAIL` are left out
    (night sky, black rim); of the rest the `CROPS` with most detail stay. 27 crops at 256.

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


def names(dataset: str | Path, n_images: int | None = None, *, size: int = 256) -> list[str]:
    """Names of the images of a data set, in a fixed order: the library's, the manifest's, or sorted stems.

    Args:
        dataset: "library"; "generated" or "portrait" (see `embedded_faces`); a folder of images; or a manifest (see
            `read_manifest`).
        n_images: the first so many; None for all.
        size: side of the library's crops.

    Raises:
        ValueError: no such folder, nothing in it, a stem twice, or fewer images than `n_images`.
    """
    found = list(_files(dataset, size)[0])
    if n_images is not None and not 1 <= n_images <= len(found):
        raise ValueError(f"n_images: expected 1 to {len(found)}, all that {dataset} has, got {n_images}")
    return found[:n_images]


def load(dataset: str | Path, name: str, *, size: int = 256, multiple_of: int = 1, **reading) -> Tensor:
    """One HR image.

    Args:
        dataset, size: as in `names`.
        name: one of `names(dataset)`.
        multiple_of: cropped at the bottom and right to this multiple (the scale of the run).
        reading: options of `images.read_picture`.

    Returns:
        Image in [0, 1], shape (1, 3, H, W).

    Raises:
        ValueError: no such image, its file is refused, or it differs from the manifest's hash.
    """
    files = _files(dataset, size)[0]
    if name not in files:
        raise ValueError(f"{dataset}: expected the name of one of its {len(files)} images, got {name!r}")
    picture = _look(name, files[name], size, reading)
    if picture.image is None:
        raise ValueError(f"{files[name][0]}: {picture.problem}")
    return crop_to_multiple(picture.image, multiple_of)


def groups(dataset: str | Path, names: Iterable[str], *, size: int = 256) -> dict[str, str]:
    """The photograph that each image comes from: images of one photograph are one observation.

    Args:
        dataset, size: as in `names`.
        names: names of its images.

    Returns:
        Image -> photograph. A crop of the library belongs to its photograph, an image of a manifest to what the
        manifest's column `group` says (where there is one); every other image is a photograph of its own.

    Raises:
        ValueError: a name that the data set does not have.
    """
    names, files = list(names), _files(dataset, size)[0]
    if unknown := [name for name in names if name not in files]:
        raise ValueError(f"{dataset}: expected names of its {len(files)} images, got {_some(unknown)}")
    if str(dataset) == "library":
        return {name: name.rsplit("_", 2)[0] for name in names}
    if Path(dataset).suffix.lower() == ".csv":
        rows = read_manifest(dataset)
        return {name: rows[name].get("group") or name for name in names}
    return {name: name for name in names}


def read_manifest(path: str | Path) -> dict[str, dict[str, str]]:
    """Rows of a manifest by image name.

    Args:
        path: CSV with a column `file` (relative to the manifest), mostly `sha256`, sometimes `group` (see `groups`),
            and any labels.

    Returns:
        File stem -> its row, in the order of the file.

    Raises:
        ValueError: no such file, no column `file`, or a stem twice.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: expected a manifest, found no such file")
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or "file" not in rows[0]:
        raise ValueError(f"{path}: expected rows with a column 'file', got {list(rows[0]) if rows else 'no rows'}")
    found = {_stem(row["file"]): row for row in rows}
    if twice := _twice([row["file"] for row in rows]):
        raise ValueError(f"{path}: expected each stem once, got {'; '.join(twice)}")
    return found


def preflight(
    dataset: str | Path,
    scale: int,
    *,
    n_images: int | None = None,
    minimum_side: int = 1,
    minimum_lr_side: int = 1,
    scales: tuple[int, ...] | None = None,
    lr_folder: str | Path | None = None,
    allow_lossy_lr: bool = False,
    strict: bool = False,
    size: int = 256,
    **reading,
) -> Preflight:
    """Decode every input in full before any compute, and report all problems at once.

    Args:
        dataset, n_images, size: as in `names`.
        scale: s; HR images count as cropped to its multiple.
        minimum_side: smallest HR side that the distortion takes (`distortions.MINIMUM_SIDE`).
        minimum_lr_side: smallest LR side that the upscaler takes.
        scales: those that have an upscaler; None for any.
        lr_folder: ready LR images, paired by stem.
        allow_lossy_lr: take JPEG and WebP as LR images.
        strict: an image that would be left out stops the run instead.
        reading: options of `images.read_picture`, for HR and LR alike.

    Returns:
        The names to use, the images left out with their reasons, and notes.

    Raises:
        ValueError: whatever concerns the whole set, all of it in one message; or no image is left.
    """
    stop: list[str] = []
    if scale < 1:
        raise ValueError(f"scale: expected at least 1, got {scale}")
    if scales is not None and scale not in scales:
        stop.append(f"scale: expected one with an upscaler, {', '.join(map(str, scales))}, got {scale}")
    files, lr_files, ignored = {}, {}, []
    try:
        files, ignored = _files(dataset, size)
        wanted = names(dataset, n_images, size=size)
        files = {name: files[name] for name in wanted}
    except ValueError as error:
        stop.append(str(error))
    if lr_folder is not None:
        try:
            lr_files, more = _files(lr_folder, size)
            ignored += more
            stop += _unpaired(files, lr_files, extra=n_images is None)
        except ValueError as error:
            stop.append(str(error))
    accepted, aside, notes, pixels = [], [], defaultdict(list), defaultdict(list)
    for name, source in files.items():
        hr = _look(name, source, size, reading)
        lr = _look(name, lr_files[name], size, reading) if name in lr_files else None
        problems, stops = _size_problems(hr, scale, minimum_side, minimum_lr_side)
        if lr is not None:
            more, more_stops = _pair_problems(hr, lr, scale, scales, allow_lossy_lr)
            problems, stops = problems + more, stops + more_stops
        if strict:
            problems, stops = [], stops + problems
        stop += [f"{name}: {reason}" for reason in stops]
        if problems:
            aside.append((name, "; ".join(problems)))
        elif not stops:
            accepted.append(name)
        for note in [*hr.notes, *(f"LR {note}" for note in (lr.notes if lr else ()))]:
            notes[note].append(name)
        if hr.image is not None:
            if any(side % scale for side in hr.image.shape[-2:]):
                notes[f"cropped to a multiple of {scale}"].append(name)
            content = repr(hr.image.shape).encode() + hr.image.numpy().tobytes()
            pixels[hashlib.sha256(content).digest()].append(name)
    if files and not accepted and not stop:
        stop.append(f"no image of {len(files)} is left")
    if stop:
        left_out = [f"(left out) {name}: {reason}" for name, reason in aside]
        title = f"{dataset}: {len(stop)} problem{'s' * (len(stop) > 1)} before the start"
        raise ValueError("\n- ".join([title, *stop, *left_out]))
    lines = [f"{note}: {_some(who)}" for note, who in notes.items()]
    if len(pixels) < sum(map(len, pixels.values())):
        same = "; ".join(" = ".join(who) for who in pixels.values() if len(who) > 1)
        lines.append(f"the same picture twice, {len(pixels)} distinct ones: {same}")
    if ignored:
        lines.append(f"ignored, hidden or no pictures by their name: {_some(ignored)}")
    return Preflight(accepted, aside, lines)


def _look(name: str, source: tuple[Path, str], size: int, reading: dict) -> Picture:
    """The picture of one image, its file compared with the manifest's hash."""
    path, expected = source
    if expected == "generated":
        return Picture(generated.known(name).image)
    if expected == "portrait":
        return Picture(generated.portrait())
    if expected == "library":
        photograph, y, x = name.rsplit("_", 2)
        y, x = int(y[1:]), int(x[1:])
        return Picture(from_uint8(_photograph(photograph)[..., y : y + size, x : x + size]))
    picture = read_picture(path, **reading)
    if picture.image is not None and expected and picture.sha256 != expected.lower():
        problem = f"expected SHA-256 {expected} (manifest), got {picture.sha256}"
        return picture._replace(image=None, problem=problem)
    return picture


def _size_problems(hr: Picture, scale: int, minimum_side: int, minimum_lr_side: int) -> tuple[list, list]:
    """What sets this image aside, and what stops the run."""
    if hr.image is None:
        return ([], [hr.problem]) if hr.stop else ([hr.problem], [])
    height, width = hr.image.shape[-2:]
    least = min(height, width) // scale
    if least * scale >= minimum_side and least >= max(minimum_lr_side, 1):
        return [], []
    needed = f"at least {minimum_side} for the distortion and {minimum_lr_side} after downscaling"
    return [f"{height}x{width} is too small at scale {scale}: expected sides of {needed}"], []


def _pair_problems(hr: Picture, lr: Picture, scale: int, scales, allow_lossy_lr: bool) -> tuple[list, list]:
    """As `_size_problems`, for a ready LR image."""
    if lr.image is None:
        return ([], [f"LR: {lr.problem}"]) if lr.stop else ([f"LR: {lr.problem}"], [])
    stops = []
    if lr.format in LOSSY and not allow_lossy_lr:
        stops.append(f"expected a lossless LR file, got {lr.format} (allow_lossy_lr=True takes it)")
    if hr.image is not None:
        if lr.profile != hr.profile:
            stops.append(f"expected one colour profile, got {hr.profile!r} for HR, {lr.profile!r} for LR")
        (height, width), (rows, columns) = hr.image.shape[-2:], lr.image.shape[-2:]
        if (rows, columns) != (height // scale, width // scale):
            known = f"; scales with an upscaler: {', '.join(map(str, scales))}" if scales else ""
            stops.append(
                f"expected an LR image of {height // scale}x{width // scale} for scale {scale}, got "
                f"{rows}x{columns}, a ratio of {height / rows:.3g} by {width / columns:.3g}{known}"
            )
    return [], stops


def _files(dataset: str | Path, size: int) -> tuple[dict[str, tuple[Path, str]], list[str]]:
    """Name -> file and expected hash, in order; and the entries of a folder that are no images."""
    if str(dataset) == "library":
        return {name: (_path(name.rsplit("_", 2)[0]), "library") for name in library(size)}, []
    if str(dataset) == "generated":
        return {name: (Path(generators.NAME), "generated") for name in generated.generated()}, []
    if str(dataset) == "portrait":
        return {generated.PORTRAIT: (_path(generated.PORTRAIT), "portrait")}, []
    folder, ignored = Path(dataset), []
    if folder.suffix.lower() == ".csv":
        rows = read_manifest(folder)
        return {name: (folder.parent / row["file"], row.get("sha256") or "") for name, row in rows.items()}, []
    kinds = " ".join(sorted(SUFFIXES))
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of images ({kinds}) or a .csv manifest, found no such folder")
    files = []
    for entry in sorted(folder.iterdir()):
        is_picture = entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")
        (files if is_picture and not os.path.isdir(entry) else ignored).append(entry)
    if not files:
        raise ValueError(f"{folder}: expected images ({kinds}), got {len(ignored)} other entries")
    if twice := _twice([file.name for file in files]):
        raise ValueError(f"{folder}: expected each stem once, got {'; '.join(twice)}")
    if bad := [repr(file.name) for file in files if not _is_text(file.name)]:
        raise ValueError(f"{folder}: expected file names in UTF-8, got {', '.join(bad)}")
    return {_stem(file.name): (file, "") for file in files}, [entry.name for entry in ignored]


def _stem(file: str) -> str:
    """Key of an image: its file stem, composed the same way on every system (macOS splits accents off)."""
    return unicodedata.normalize("NFC", Path(file).stem)


def _twice(files: list[str]) -> list[str]:
    """Groups of files with one stem, letter case aside."""
    groups = defaultdict(list)
    for file in files:
        groups[_stem(file).casefold()].append(file)
    return [", ".join(group) for group in groups.values() if len(group) > 1]


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unpaired(hr: dict, lr: dict, *, extra: bool) -> list[str]:
    missing, more = [name for name in hr if name not in lr], [name for name in lr if name not in hr]
    found = [f"no LR image for {len(missing)}: {_some(missing, 20)}"] if missing else []
    return found + ([f"no HR image for {len(more)} LR images: {_some(more, 20)}"] if more and extra else [])


def _some(items: list[str], most: int = 5) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _path(photograph: str) -> Path:
    package, file, *_ = LIBRARY[photograph]
    spec = find_spec(package)  # found, not imported: both packages are slow to import
    path = Path(spec.submodule_search_locations[0]) / file if spec else Path(file)
    if not path.is_file():
        raise ValueError(f"expected {file} inside the installed package {package}, found no {path}")
    return path


@lru_cache(maxsize=len(LIBRARY))
def _photograph(photograph: str) -> Tensor:
    """8-bit levels of a whole photograph, shape (1, 3, H, W)."""
    return to_uint8(read_rgb(_path(photograph)))


@lru_cache(maxsize=64)
def _crops(photograph: str, size: int) -> tuple[str, ...]:
    """Names of the crops of one photograph, top to bottom, left to right."""
    levels = _photograph(photograph)[0].int()
    (height, width), grey = (
        levels.shape[-2:],
        levels.sum(0),
    )  # whole numbers: the choice is the same everywhere
    found = []
    for y in range(height % size // 2, height - size + 1, size):
        for x in range(width % size // 2, width - size + 1, size):
            crop = grey[y : y + size, x : x + size]
            steps = [crop.diff(dim=axis).abs() for axis in (0, 1)]
            detail = sum(step.sum().item() for step in steps)
            if detail >= DETAIL * 765 * max(sum(step.numel() for step in steps), 1):
                found.append((-detail, f"{photograph}_y{y:03d}_x{x:03d}"))
    return tuple(sorted(name for _, name in sorted(found)[:CROPS]))
