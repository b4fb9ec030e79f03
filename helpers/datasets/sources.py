"""Read X, the set of HR images, from photographs that come along, generated faces, a folder or a manifest."""

import csv
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from torch import Tensor

from helpers.datasets import generated, photographs
from helpers.files import cache_by_stat
from helpers.images import Picture, crop_to_multiple, read_picture
from helpers.listing import SUFFIXES, composed, did_you_mean, list_pictures, on_disk, same_stems, stem_of
from helpers.runtime import is_whole


def names(dataset: str | Path, n_images: int | None = None, *, size: int = 256) -> list[str]:
    """List the images of a data set in a fixed order, the same on every system.

    It is that of `photographs.crops`, the manifest's, or that of a folder's stems by code points (see `listing`).

    Args:
        dataset: "photographs", "scientific" or "library" (see `photographs`); "generated" or "portrait" (see
            `generated`); a folder of images; or a manifest (see `read_manifest`).
        n_images: the first so many; None for all.
        size: side of the crops of photographs.

    Raises:
        ValueError: no such folder, nothing in it, a stem twice, or fewer images than `n_images`.
    """
    found = list(list_images(dataset, size)[0])
    if n_images is not None and not (is_whole(n_images) and n_images <= len(found)):
        raise ValueError(f"n_images: expected 1 to {len(found)}, all that {dataset} has, got {n_images!r}")
    return found[:n_images]


def load(dataset: str | Path, name: str, *, size: int = 256, multiple_of: int = 1, **reading) -> Tensor:
    """Load one HR image.

    Args:
        dataset, size: as in `names`.
        name: one of `names(dataset)`, its accents composed or not.
        multiple_of: cropped at the bottom and right to this multiple (the scale of the run).
        reading: options of `images.read_picture`.

    Returns:
        Image in [0, 1], shape (1, 3, H, W).

    Raises:
        ValueError: no such image, its file is refused, or it differs from the manifest's hash.
    """
    files, given = list_images(dataset, size)[0], name
    name = composed(name) if isinstance(name, str) else ""
    if name not in files:
        raise ValueError(
            f"{dataset}: expected the name of one of its {len(files)} images, got {given!r}{did_you_mean(name, files)}"
        )
    picture = look(dataset, name, files[name], size, **reading)
    if picture.image is None:
        raise ValueError(f"{files[name][0]}: {picture.problem}")
    return crop_to_multiple(picture.image, multiple_of)


def groups(dataset: str | Path, names: Iterable[str], *, size: int = 256) -> dict[str, str]:
    """Name the photograph that each image comes from: images of one photograph are one observation.

    Args:
        dataset, size: as in `names`.
        names: names of its images.

    Returns:
        Image -> photograph. A crop belongs to its photograph, an image of a manifest to what the
        manifest's column `group` says (where it says anything); every other image is a photograph of its own.

    Raises:
        ValueError: a name that the data set does not have.
    """
    files = list_images(dataset, size)[0]
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise ValueError(f"names: expected several in a list, got {names!r}")
    names = [composed(name) if isinstance(name, str) else repr(name) for name in names]
    if unknown := [name for name in names if name not in files]:
        raise ValueError(f"{dataset}: expected names of its {len(files)} images, got {shorten(unknown)}")
    if str(dataset) in photographs.SETS:
        return {name: photographs.photograph_of(name) for name in names}
    if Path(dataset).suffix.lower() == ".csv":
        rows = _manifest(Path(dataset))
        return {name: rows[name].get("group") or name for name in names}
    return {name: name for name in names}


def read_manifest(path: str | Path) -> dict[str, dict[str, str]]:
    """Read the rows of a manifest by image name.

    Args:
        path: CSV with a column `file` (relative to the manifest), mostly `sha256`, sometimes `group` (see `groups`),
            and any labels; commas between them, UTF-8, names with commas in quotes. Blank lines are passed over, and
            so are blanks around a group or hash.

    Returns:
        File stem -> its row, in the order of the file.

    Raises:
        ValueError: no such file, no column `file`, a line with too few or too many values (its number is in the
            message) or without a file, a stem twice, a column "Group", or a group called as an image without one.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: expected a manifest, found no such file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(_rows(path, csv.reader(stream, strict=True)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a table in UTF-8 with commas between its columns, got: {error}") from error
    if not rows:
        raise ValueError(f"{path}: expected rows with a column 'file', got no rows")
    if twice := same_stems([row["file"] for row in rows]):
        raise ValueError(f"{path}: expected each stem once, got {'; '.join(twice)}")
    named = {row.get("group") for row in rows}
    if alone := [name for row in rows if not row.get("group") and (name := stem_of(row["file"])) in named]:
        raise ValueError(
            f"{path}: expected other names of groups than of images without a group, got {shorten(alone)} for both; "
            "give these images their group too, or the group another name"
        )
    return {stem_of(row["file"]): row for row in rows}


def _rows(path: Path, reader) -> Iterator[dict[str, str]]:
    """The lines of a manifest as dicts, every value text as it stands there."""
    columns = [name.strip() for name in next(reader, [])]
    while columns and not columns[-1]:
        columns.pop()  # what a spreadsheet leaves at the end of each line
    if "file" not in columns or len(set(columns)) < len(columns):
        raise ValueError(f"{path}: expected a first line of different names with a column 'file', got {columns}")
    if other := [name for name in columns if name != "group" and name.casefold() == "group"]:
        raise ValueError(f"{path}: expected 'group' in small letters for the column of photographs, got {other[0]!r}")
    for values in reader:
        if not any(value.strip() for value in values):
            continue
        if len(values) < len(columns) or any(values[len(columns) :]):
            got = f"{len(values)}: {shorten(values)}"
            raise ValueError(f"{path}, line {reader.line_num}: expected {len(columns)} values, {columns}, got {got}")
        row = dict(zip(columns, values, strict=False))
        if not stem_of(row["file"]) or "\0" in row["file"]:
            raise ValueError(f"{path}, line {reader.line_num}: expected the name of a file, got {row['file']!r}")
        yield row | {name: composed(row[name].strip()) for name in ("sha256", "group") if name in row}


def list_images(dataset: str | Path, size: int = 256) -> tuple[dict[str, tuple[Path | None, str]], tuple[str, ...]]:
    """List a data set; a folder or manifest that has not changed is not read again.

    Args:
        dataset, size: as in `names`.

    Returns:
        Name -> its file (None: there is none) and the SHA-256 that a manifest expects or "", in order, not to be
        changed; and the names of those entries of a folder that are no pictures.

    Raises:
        ValueError: as `names`.
    """
    if not isinstance(dataset, str | os.PathLike) or not str(dataset).strip():
        raise ValueError(f"dataset: expected {', '.join(MADE)}, a folder or a manifest, got {dataset!r}")
    if str(dataset) in MADE:
        return dict.fromkeys(MADE[str(dataset)](size), (None, "")), ()
    return _listed(Path(dataset))


def look(dataset: str | Path, name: str, source: tuple[Path | None, str], size: int = 256, **reading) -> Picture:
    """Read one image, or say why it cannot be used; its file is compared with the manifest's hash.

    Args:
        dataset, size: as in `names`.
        name, source: an item of what `list_images` returns.
        reading: options of `images.read_picture`.
    """
    if str(dataset) in photographs.SETS:
        return Picture(photographs.load_crop(name, size))
    if str(dataset) in MADE:
        return Picture(generated.portrait() if name == generated.PORTRAIT else generated.known(name).image)
    path, expected = source
    picture = read_picture(path, **reading)
    if picture.image is not None and expected and picture.sha256 != expected.lower():
        problem = f"expected SHA-256 {expected} (manifest), got {picture.sha256}"
        return picture._replace(image=None, problem=problem)
    return picture


def shorten(items: list[str], most: int = 5) -> str:
    """Join the first few items of a long list, and say how many more there are."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


MADE = {  # data sets without files of their own: name -> names of the images, by size
    **{name: partial(photographs.crops, name) for name in photographs.SETS},
    "generated": lambda size: generated.generated(),
    "portrait": lambda size: [generated.PORTRAIT],
}


_manifest = cache_by_stat(read_manifest)  # asked for each image; its rows are not to be changed


@cache_by_stat
def _listed(path: Path) -> tuple[dict[str, tuple[Path, str]], tuple[str, ...]]:
    if path.suffix.lower() == ".csv":
        rows = _manifest(path)
        return {name: (on_disk(path.parent / row["file"]), row.get("sha256", "")) for name, row in rows.items()}, ()
    if not path.is_dir():
        kinds = " ".join(SUFFIXES)
        meant = did_you_mean(str(path), MADE)
        raise ValueError(
            f"{path}: expected a folder of images ({kinds}) or a .csv manifest, found no such folder{meant}"
        )
    files, ignored = list_pictures(path)
    return {name: (file, "") for name, file in files.items()}, tuple(ignored)
