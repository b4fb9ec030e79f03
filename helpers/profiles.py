"""The paper's setting of each notebook: a file of papermill parameters, and what this machine lacks for it.

`python -m helpers.profiles` (`make dryrun`) reads `notebooks/paper/*.yaml`, computes nothing, and says for each
notebook which weights, images and labels are missing and where they come from.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import papermill
import yaml

from helpers import datasets, distortions, iqa, upscalers, weights

OFFICIAL_PULSE = ("pulse_synthesis", "pulse_gaussian_fit")
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SOURCES = {  # part of a folder's name -> where its images come from
    "ffhq": "FFHQ, 1024x1024 PNG (github.com/NVlabs/ffhq-dataset, images1024x1024; CC BY-NC-SA 4.0)",
    "div2k": "DIV2K validation HR (data.vision.ee.ethz.ch/cvl/DIV2K; academic research)",
    "flickr": "Flickr30k (shannon.cs.illinois.edu/DenotationGraph; research)",
    "realsr": "RealSR v3, HR and LR folders of one scale (github.com/csjcai/RealSR; academic research)",
    "afhq": "AFHQ, cats, 512x512 (github.com/clovaai/stargan-v2; CC BY-NC 4.0)",
    "ethnicity": "DeepFace (github.com/serengil/deepface) over FFHQ, one line an image",
    "npr": "NPRportrait 1.0, 60 images (users.cs.cf.ac.uk/Paul.Rosin/NPRportrait; research)",
}


def read_profile(notebook: str) -> dict:
    """The papermill parameters of the paper's setting of a notebook.

    Args:
        notebook: its stem, for example "03_synthetic_degradations".

    Raises:
        ValueError: no such profile, no flat mapping, or names that are no parameters of the notebook.
    """
    path = NOTEBOOKS / "paper" / f"{notebook}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.yaml"))) or "none"
        raise ValueError(f"expected a notebook with a profile ({known}), got {notebook!r}")
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(profile, dict):
        raise ValueError(f"{path}: expected lines 'parameter: value', got {type(profile).__name__}")
    known = papermill.inspect_notebook(NOTEBOOKS / f"{notebook}.ipynb")
    if unknown := sorted(set(profile) - set(known)):
        raise ValueError(f"{path}: expected parameters of the notebook ({', '.join(known)}), got {', '.join(unknown)}")
    return profile


def parameters(notebook: str) -> dict:
    """All parameters of a notebook in the paper's setting: its defaults, replaced where the profile says so.

    Raises:
        ValueError: as `read_profile`.
    """
    inspected = papermill.inspect_notebook(NOTEBOOKS / f"{notebook}.ipynb")
    profile = read_profile(notebook)
    return {name: ast.literal_eval(each["default"]) for name, each in inspected.items()} | profile


def lacking(values: dict) -> list[str]:
    """What parameters name that is not on this machine, one line each, with its source.

    Weights are those of every upscaler, distortion and no-reference measure that a value names, and of labels to
    "download"; images are values that begin with "../data/local/", a folder that git ignores. Nothing is downloaded.

    Args:
        values: as `parameters` returns them.
    """
    found, n_images = [], values.get("n_images")
    if values.get("features") == "download" and weights.locate("ffhq_features") is None:
        found.append(weights.missing("ffhq_features"))
    for name, value in _texts(values):
        files = [upscalers.SRFLOW[stage][2] for stage in value.split("+") if stage in upscalers.SRFLOW]
        files += OFFICIAL_PULSE if value.partition("(")[0].strip() == "pulse" else ()
        here = {file for file in files if weights.locate(file) is not None}
        if "pulse_gaussian_fit" in files and weights.locate("pulse_mapping") is not None:
            here.add("pulse_gaussian_fit")  # it can be computed
        found += [weights.missing(file) for file in files if file not in here]
        if value in distortions.DISTORTIONS and (why := distortions.available(value)):
            found.append(why)
        if name == "measures" and value in iqa.IQA and (why := iqa.available(value)):
            found.append(why)
        if value.startswith("../data/local/"):
            found += _no_images(name, value, n_images if name == "dataset" else None)
    return list(dict.fromkeys(found))


def _texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a nest of lists and mappings, with the parameter it belongs to."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _texts(each, name or str(key))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, name)
    elif isinstance(value, str):
        yield name, value


def _no_images(name: str, given: str, n_images: int | None) -> list[str]:
    path = NOTEBOOKS / given
    source = next((text for part, text in SOURCES.items() if part in given.lower()), "yours to provide")
    if not path.exists():
        return [f"{given} is missing ({name}): {source}"]
    if path.is_dir() and n_images is not None and len(datasets.names(path)) < n_images:
        return [f"{given} has {len(datasets.names(path))} images, {n_images} are asked for ({name}): {source}"]
    return []


def main(notebooks: list[str]) -> int:
    """Write what is missing for each notebook (all with a profile if none is named); 2 if anything is, else 0."""
    notebooks = notebooks or sorted(path.stem for path in (NOTEBOOKS / "paper").glob("*.yaml"))
    ready = True
    for notebook in notebooks:
        missing = lacking(parameters(notebook))
        ready &= not missing
        sys.stdout.write(f"{notebook}: {'ready' if not missing else f'{len(missing)} missing'}\n")
        sys.stdout.writelines(f"  - {line}\n" for line in missing)
        command = f"papermill {notebook}.ipynb out.ipynb -f paper/{notebook}.yaml"
        sys.stdout.write(f"  in notebooks/: {command}\n")
    return 0 if ready else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
