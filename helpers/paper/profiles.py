"""Read the paper's setting of each notebook, `notebooks/paper/*.yaml`, and say what this machine lacks for it.

A setting is a file of papermill parameters. Weights come from the records of the upscalers, images and labels from the
folders that parameters name; nothing is downloaded.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from helpers import datasets, distortions, upscalers, weights
from helpers.notebook import literals

BACKBONES = {"lpips": "AlexNet (for LPIPS)", "dists": "VGG-16 (for DISTS)"}
IMAGES = ("dataset", "sets", "camera")  # parameters that name folders or manifests of images
BUILT_IN = ("photographs", "scientific", "library", "generated", "portrait")  # images that come with the project
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SOURCES = {  # part of a folder's name -> where its images come from
    "ffhq": "FFHQ, 1024x1024 PNG (github.com/NVlabs/ffhq-dataset, images1024x1024; CC BY-NC-SA 4.0)",
    "div2k": "DIV2K validation HR (data.vision.ee.ethz.ch/cvl/DIV2K; academic research)",
    "flickr": "Flickr30k (shannon.cs.illinois.edu/DenotationGraph; research)",
    "realsr": "RealSR v3, HR and LR folders of one scale (github.com/csjcai/RealSR; academic research)",
    "afhq": "AFHQ, cats, 512x512 (github.com/clovaai/stargan-v2; CC BY-NC 4.0)",
    "ethnicity": "DeepFace (github.com/serengil/deepface) over FFHQ, one line an image",
    "npr": "NPRportrait 1.0, 60 images (users.cs.cf.ac.uk/Paul.Rosin/NPRportrait; research)",
}


class Piece(NamedTuple):
    """A file or folder that parameters name: what it is, and why it cannot be used ("": it is here)."""

    name: str
    missing: str


def code(notebook: str) -> list[tuple[list[str], str]]:
    """Read the tags and the source of each code cell of a notebook."""
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    return [(cell["metadata"].get("tags", []), "".join(cell["source"])) for cell in cells]


def defaults(notebook: str) -> dict:
    """Read the parameters of a notebook, name -> value, from its own cell of literals."""
    return literals(next(source for tags, source in code(notebook) if "parameters" in tags))


def with_profile() -> list[str]:
    """The stems of the notebooks that have a paper's setting."""
    return sorted(path.stem for path in (NOTEBOOKS / "paper").glob("*.yaml"))


def read_profile(notebook: str) -> dict:
    """Read the papermill parameters of the paper's setting of a notebook.

    Args:
        notebook: its stem, for example "03_synthetic_degradations".

    Raises:
        ValueError: no such profile, no flat mapping, or names that are no parameters of the notebook.
    """
    path = NOTEBOOKS / "paper" / f"{notebook}.yaml"
    if not path.is_file():
        known = ", ".join(with_profile()) or "none"
        raise ValueError(f"expected a notebook with a profile ({known}), got {notebook!r}")
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(profile, dict):
        raise ValueError(f"{path}: expected lines 'parameter: value', got {type(profile).__name__}")
    known = defaults(notebook)
    if unknown := sorted(set(profile) - set(known)):
        raise ValueError(f"{path}: expected parameters of the notebook ({', '.join(known)}), got {', '.join(unknown)}")
    return profile


def parameters(notebook: str) -> dict:
    """Collect all parameters of a notebook in the paper's setting: its defaults, replaced where the profile says so.

    Raises:
        ValueError: as `read_profile`.
    """
    return defaults(notebook) | read_profile(notebook)


def pieces(values: dict) -> list[Piece]:
    """List every file and folder that parameters name and that does not come with the project, each once.

    Weights are those of every upscaler, rescaler, distortion and no-reference measure that a value names (at the values
    of `scale` and `scales`), and of labels to "download"; images are the values of `IMAGES`, and of other parameters
    those that begin with "../data/local/", a folder that git ignores. Nothing is downloaded. A wrong file counts as
    missing and says why.

    Args:
        values: parameters by name, all of a notebook or some.
    """
    found, n_images = [], values.get("n_images")
    scales = [each for name in ("scale", "scales") if name in values for each in _listed(values[name])]
    if values.get("features") == "download":
        found.append(_file("ffhq_features"))
    for name, value in _texts(values):
        found += map(_file, _files(value, scales))
        if value in BACKBONES and not name.startswith("rows_"):  # rows that are read are computed already
            found.append(Piece(BACKBONES[value], distortions.available(value) or ""))
        if name == "measures":
            from helpers import iqa  # one notebook needs it, and SciPy is half of the start

            found += [Piece(value, iqa.available(value) or "")] if value in iqa.IQA else []
        if value.startswith("../data/local/") or (name in IMAGES and value not in BUILT_IN):
            why = _no_images(name, value, n_images if name == "dataset" else None)
            found.append(Piece(value.removeprefix("../"), why))
    return list(dict.fromkeys(found))


def lacking(values: dict) -> list[str]:
    """List the `pieces` that are not on this machine, a line each, with its source."""
    return [piece.missing for piece in pieces(values) if piece.missing]


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _files(value: str, scales: list[int]) -> list[str]:
    """The third-party files of an upscaler or a rescaler, at all scales asked for that it has; none of other texts."""
    try:
        found = upscalers.parse(value)
    except ValueError:
        return []
    names = []
    for stage in found:
        record = upscalers.UPSCALERS[stage.key]
        wanted = (
            [stage.scale] if stage.scale else [each for each in scales if each in record.scales] or record.scales[:1]
        )
        names += [file.format(scale=each) for file in record.files for each in wanted or [""]]
    return [name for name in dict.fromkeys(names) if name in weights.WEIGHTS]


def _file(name: str) -> Piece:
    try:
        why = "" if weights.locate(name) else weights.missing(name)
    except ValueError as error:  # a wrong file in the folder that the user named
        why = str(error)
    return Piece(weights.WEIGHTS[name].file, why)


def _texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Walk lists and mappings: every text in them, with the parameter it belongs to."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(each, name or str(key))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, name)
    elif isinstance(value, str):
        yield name, value


def _no_images(name: str, given: str, n_images: int | None) -> str:
    """Say why images or labels cannot be used, or ""."""
    path = NOTEBOOKS / given
    source = next((text for part, text in SOURCES.items() if part in given.lower()), "yours to provide")
    if not path.exists():
        return f"{given} is missing ({name}): {source}"
    if name not in IMAGES and not path.is_dir():
        return ""
    try:
        found = len(datasets.names(path))
    except ValueError as error:  # nothing in it, or one stem twice
        return f"{given} cannot be used ({name}): {error}; {source}"
    if n_images is not None and found < n_images:
        return (
            f"{given} has {found} images, {n_images} are asked for ({name}; -p n_images {found} takes those): {source}"
        )
    return ""


def check_checkout() -> None:
    """Leave the program with 2 and one line where only the package is installed."""
    if not NOTEBOOKS.is_dir():
        sys.stderr.write(f"helpers.paper needs the notebooks of a checkout, found none at {NOTEBOOKS}\n")
        sys.exit(2)
