"""Cut faces out of photographs, upright and square like the faces that a generator was trained on.

FFHQ images, samples of a generator and the portrait need none of this. With the extra `align`,

    python -m helpers.datasets.alignment SOURCE TARGET --side 64 --crop embedded

turns a folder of photographs into a folder of faces that every notebook takes as its `dataset`.

The landmarks come from dlib's 68-point predictor. Its file is public domain by its author's word, but was trained on
iBUG 300-W, whose licence excludes commercial use: the author asks to treat the file likewise.
"""

import argparse
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from helpers import files
from helpers.images import check_images, from_uint8, read_picture, to_uint8, write_rgb
from helpers.listing import SUFFIXES, composed, list_folder, list_pictures

SIDE = 1024  # of an FFHQ image: every face is cut at this size, then reduced
MINIMUM = 8  # least side of the square in the photograph, in pixels; below it the recipe's borders vanish
CROPS = ("ffhq", "embedded")
# Left eye, right eye (as seen in the picture) and mouth as fractions of the side, mean of 595 of 600 faces drawn from
# the generator's training images (UTKFace crops, 128x128) with this detector; standard deviations 0.014 to 0.023.
EMBEDDED = np.array([[0.2997, 0.3011], [0.6863, 0.3006], [0.4946, 0.6943]])
PACKAGES = ("dlib", "face_recognition_models")
PREDICTOR = "models/shape_predictor_68_face_landmarks.dat"
PREDICTOR_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"


class Face(NamedTuple):
    """What the detector found."""

    landmarks: np.ndarray  # (68, 2), x and y; whole numbers are pixel centres
    score: float  # of the detector; near 0 it is often no face


def package_missing() -> str | None:
    """Why no face can be found here (None: it can)."""
    lacking = [name for name in PACKAGES if not find_spec(name)]
    if not lacking:
        return None
    return f"missing package {' and '.join(lacking)}: pip install -e '.[align]' (landmarks: no commercial use)"


def detect(image: Tensor) -> list[Face]:
    """All faces in a photograph, by dlib's frontal detector with one upsampling level, as in PULSE.

    It finds upright faces from about 40 pixels on. Pixels are rounded to 8-bit levels first.

    Args:
        image: in [0, 1], shape (1, 3, H, W).

    Returns:
        Faces, best score first; none is an empty list.

    Raises:
        ValueError: `image` is no such image, or the extra is not installed.
    """
    levels = np.ascontiguousarray(_levels(image))
    detector, predictor = _dlib()
    boxes, scores, _ = detector.run(levels, 1, 0.0)
    found = []
    for box, score in zip(boxes, scores, strict=True):
        parts = predictor(levels, box).parts()
        found.append(Face(np.array([(part.x, part.y) for part in parts], dtype=np.float64), score))
    return sorted(found, key=lambda face: -face.score)


def landmarks(image: Tensor) -> np.ndarray:
    """The 68 landmarks of all faces in a photograph; see `detect`.

    Args:
        image: in [0, 1], shape (1, 3, H, W).

    Returns:
        x and y in pixels, whole numbers at pixel centres, shape (faces, 68, 2), best score first.

    Raises:
        ValueError: no face in it, `image` is no such image, or the extra is not installed.
    """
    faces = detect(image)
    if not faces:
        raise ValueError(_no_face(image))
    return np.stack([face.landmarks for face in faces])


def align(image: Tensor, landmarks: np.ndarray, side: int = SIDE, *, crop: str = "ffhq") -> Tensor:
    """One face cut out of a photograph, upright and square.

    The recipe of FFHQ (`recreate_aligned_images` of NVlabs/ffhq-dataset, which PULSE uses too): reduce a large
    photograph, reflect and blur beyond its edges, warp to 4096, Lanczos to 1024. Smaller sides by Lanczos from there.

    Args:
        image: photograph in [0, 1], shape (1, 3, H, W); rounded to 8-bit levels.
        landmarks: x and y in pixels, whole numbers at pixel centres: the 68 points, shape (68, 2), or the centres of
            the left eye, right eye (as seen in the picture) and mouth, shape (3, 2).
        side: of the result, at most 1024.
        crop: "ffhq" (with hair and chin), or "embedded": eyes and mouth where the embedded generator's faces have them.

    Returns:
        The face, 8-bit levels, shape (1, 3, side, side).

    Raises:
        ValueError: no such image, landmarks, side or crop; the face is tiny or outside the photograph.
    """
    if not 1 <= side <= SIDE:
        raise ValueError(f"side: expected 1 to {SIDE}, got {side}")
    picture, corners = _surroundings(Image.fromarray(_levels(image)), quad(landmarks, crop))
    transform, sampling = Image.Transform.QUAD, Image.Resampling.BILINEAR
    picture = picture.transform((4 * SIDE, 4 * SIDE), transform, (corners + 0.5).ravel(), sampling)
    picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    if side < SIDE:
        picture = picture.resize((side, side), Image.Resampling.LANCZOS)
    return from_uint8(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]).to(image.device)


def quad(landmarks: np.ndarray, crop: str = "ffhq") -> np.ndarray:
    """The square of the photograph that becomes the picture of a face.

    Args:
        landmarks, crop: as in `align`.

    Returns:
        x and y of its corners in pixels, whole numbers at pixel centres, shape (4, 2): top left, bottom left, bottom
        right, top right of the face.

    Raises:
        ValueError: no such landmarks or crop, or the square is smaller than `MINIMUM`.
    """
    if crop not in CROPS:
        raise ValueError(f"crop: expected one of {', '.join(CROPS)}, got {crop!r}")
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape == (68, 2):
        points = np.stack([points[36:42].mean(0), points[42:48].mean(0), (points[48] + points[54]) / 2])
    if points.shape != (3, 2) or not np.isfinite(points).all():
        raise ValueError(f"landmarks: expected finite (68, 2) or (3, 2), one face, got {points.shape}")
    points = points @ (1, 1j)  # as complex numbers: times 1j is a quarter turn
    if crop == "ffhq":
        eyes = points[:2].mean()
        across, down = points[1] - points[0], points[2] - eyes
        centre, right = eyes + 0.1 * down, across - 1j * down
        right *= max(2.0 * abs(across), 1.8 * abs(down)) / max(abs(right), 1e-12)
    else:  # least squares over turn, scale and shift
        place = EMBEDDED @ (1, 1j)
        from_mean = place - place.mean()
        turn = np.vdot(from_mean, points - points.mean()) / np.vdot(from_mean, from_mean)
        centre, right = points.mean() + turn * (0.5 + 0.5j - place.mean()), turn / 2
    if 2 * abs(right) < MINIMUM:
        raise ValueError(f"landmarks: expected a face of {MINIMUM} pixels or more, got {2 * abs(right):.3g}")
    down = 1j * right
    corners = centre + np.array([-right - down, -right + down, right + down, right - down])
    return np.stack([corners.real, corners.imag], 1)


def align_folder(source: str | Path, target: str | Path, side: int = SIDE, *, crop: str = "ffhq", **reading):
    """All faces of all photographs of a folder, as PNG `<stem>_<k>.png`, k from 0, best score first.

    Args:
        source: folder; entries that begin with a dot are left out.
        target: folder without images, outside `source`; created if missing.
        side, crop: as in `align`.
        reading: options of `images.read_picture`, which turns photographs upright by their EXIF tag.

    Returns:
        A table, one row for each face and for each entry without one: `file`, `face` (k), `quad` (side of the square in
        pixels of the photograph), `score` (of the detector), `note` (why there is no face; what was converted; that a
        face was enlarged, which makes a poor HR image).

    Raises:
        ValueError: the extra is not installed; unsuitable folder, side or crop; two photographs with one stem; no face
            in any photograph.
    """
    if problem := package_missing():
        raise ValueError(problem)
    if not Path(source).is_dir():
        raise ValueError(f"{source}: expected a folder of photographs, found no such folder")
    if crop not in CROPS or not 1 <= side <= SIDE:
        raise ValueError(f"expected a side of 1 to {SIDE} and crop {' or '.join(CROPS)}, got {side} and {crop!r}")
    list_pictures(source)  # refuses a stem twice, a folder without pictures
    target = files.check_output(target, source)
    if old := list_folder(target)[0]:
        raise ValueError(f"{target}: expected a folder without images, got {len(old)}, such as {old[0].name}")
    rows = []
    for path in sorted(Path(source).iterdir(), key=lambda entry: composed(entry.name)):
        if not path.name.startswith("."):
            rows += _align_file(path, target, side, crop, reading)
    table = pd.DataFrame(rows, columns=["file", "face", "quad", "score", "note"]).astype({"face": "Int64"})
    if table.face.isna().all():
        reasons = "; ".join(f"{row.file}: {row.note}" for row in table.head(5).itertuples())
        raise ValueError(f"{source}: expected a face in one of {len(table)} entries, found none: {reasons}")
    return table


def _align_file(path: Path, target: Path, side: int, crop: str, reading: dict) -> list[dict]:
    """Rows of one entry of the folder; its faces are written."""
    if path.suffix.lower() not in SUFFIXES:
        return [{"file": path.name, "note": f"not read: expected {' '.join(SUFFIXES)}"}]
    picture = read_picture(path, **reading)
    if picture.image is None:
        return [{"file": path.name, "note": picture.problem}]
    faces, rows = detect(picture.image), []
    for number, face in enumerate(faces):
        write_rgb(align(picture.image, face.landmarks, side, crop=crop), target / f"{path.stem}_{number}.png")
        corners = quad(face.landmarks, crop)
        length = float(np.hypot(*(corners[3] - corners[0])))
        notes = [*picture.notes, *([f"enlarged {side / length:.2f} times"] if length < side else [])]
        rows.append({"file": path.name, "face": number, "quad": length, "score": face.score, "note": "; ".join(notes)})
    return rows or [{"file": path.name, "note": _no_face(picture.image)}]


def _levels(image: Tensor) -> np.ndarray:
    """8-bit levels of one image, (H, W, 3)."""
    check_images(image, name="image")
    if len(image) != 1:
        raise ValueError(f"image: expected one photograph, (1, 3, H, W), got {tuple(image.shape)}")
    return to_uint8(image)[0].permute(1, 2, 0).cpu().numpy()


def _no_face(image: Tensor) -> str:
    height, width = image.shape[-2:]
    return f"no face found in {width}x{height} pixels: expected a frontal, upright face of at least about 40 pixels"


def _surroundings(picture: Image.Image, corners: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """The part of the photograph around the square, reduced where it is large, continued where it ends; its corners."""
    length = np.hypot(*(corners[3] - corners[0]))
    shrink = int(length / SIDE * 0.5)
    if shrink > 1:
        picture = picture.resize([round(n / shrink) for n in picture.size], Image.Resampling.LANCZOS)
        corners, length = corners / shrink, length / shrink
    border = max(round(length * 0.1), 3)
    low = np.floor(corners.min(0)).astype(int) - border
    high = np.ceil(corners.max(0)).astype(int) + border
    box = [*np.maximum(low, 0).tolist(), *np.minimum(high, picture.size).tolist()]
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(f"landmarks: expected a face in the {picture.width}x{picture.height} pixels, got one outside")
    before, after = np.maximum(-low, 0), np.maximum(high - picture.size, 0)
    picture, corners = picture.crop(box), corners - box[:2]
    if max(*before, *after) > border - 4:
        least = round(length * 0.3)
        before, after = np.maximum(before, least), np.maximum(after, least)
        picture, corners = _extend(picture, before, after, 0.02 * length), corners + before
    return picture, corners


def _extend(picture: Image.Image, before: np.ndarray, after: np.ndarray, sigma: float) -> Image.Image:
    """Extend the picture by its mirror image, (x, y) pixels each way: outwards more blurred, and nearer its median."""
    levels = np.asarray(picture, dtype=np.float32)
    levels = np.pad(levels, [(before[1], after[1]), (before[0], after[0]), (0, 0)], mode="reflect")
    depth = []  # 0 at the outer edge, 1 where the photograph begins
    for n, first, last in zip(levels.shape[1::-1], before, after, strict=True):
        depth.append(np.minimum(np.arange(n) / first, np.arange(n)[::-1] / last))
    outside = 1 - np.minimum(depth[0][None, :], depth[1][:, None])[..., None].astype(np.float32)
    blurred = _blur(levels, sigma)
    levels = levels + (blurred - levels) * np.clip(3 * outside + 1, 0, 1)
    levels = levels + (np.median(levels, axis=(0, 1)) - levels) * np.clip(outside, 0, 1)
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _blur(levels: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian over rows and columns, mirrored at the edges; faster than `scipy.ndimage.gaussian_filter`."""
    from scipy.signal import oaconvolve  # not at the top: half a second, for every run that reads a data set

    reach = int(4 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        longer = np.pad(levels, [(reach * (axis == each),) * 2 for each in range(3)], mode="symmetric")
        levels = oaconvolve(longer, np.expand_dims(taps, [each for each in range(3) if each != axis]), "valid", axis)
    return levels


@lru_cache(maxsize=1)
def _dlib() -> tuple:
    """Detector and predictor."""
    if problem := package_missing():
        raise ValueError(problem)
    import dlib  # not at the top: an extra

    # found, not imported: the package needs one that new versions of setuptools no longer have
    path = Path(find_spec("face_recognition_models").submodule_search_locations[0]) / PREDICTOR
    if not path.is_file() or (found := files.sha256_of(path)) != PREDICTOR_SHA256:
        got = f"SHA-256 {found}" if path.is_file() else "no such file"
        raise ValueError(f"{path}: expected SHA-256 {PREDICTOR_SHA256}, got {got}; install face_recognition_models 0.3")
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(path))


def main(arguments: list[str]) -> int:
    """Align a folder and write its table as CSV; 2 if that is refused, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.datasets.alignment", description="Cut the faces out of photographs."
    )
    parser.add_argument("source", help="folder of photographs")
    parser.add_argument("target", help="folder for the faces, without images")
    parser.add_argument("--side", type=int, default=SIDE, help=f"of the faces in pixels (default {SIDE})")
    parser.add_argument("--crop", choices=CROPS, default="ffhq", help="embedded: as the embedded generator's faces")
    given = parser.parse_args(arguments)
    try:
        table = align_folder(given.source, given.target, given.side, crop=given.crop)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    table.to_csv(sys.stdout, index=False, float_format="%.2f")
    without = table.face.isna().sum()
    sys.stderr.write(f"{len(table) - without} faces in {given.target}, {without} entries without a face\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
