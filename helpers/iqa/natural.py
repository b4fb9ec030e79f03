"""No-reference quality by statistics of natural scenes: NIQE and BRISQUE, their features, fits and files."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from scipy.ndimage import correlate1d
from scipy.special import gamma
from torch import Tensor

from helpers import weights
from helpers.downscalers.filters import FILTERS
from helpers.images import check_images, to_uint8

BLOCK = 96  # NIQE's block side in pixels
NIQES = ("niqe", "niqe_small", "niqe_tiny", "niqe_official")
SOURCES = {  # what stands behind a name that has published parameters
    "niqe_official": "official parameters (University of Texas at Austin)",
    "brisque": "released regressor (University of Texas at Austin)",
    "brisque_opencv": "regressor of OpenCV, trained on LIVE with OpenCV's own features",
}
SMALL_BLOCKS = {"niqe_small": 32, "niqe_tiny": 16}  # ours, for LR images: not the measure of the literature
SHARPNESS = 0.75  # a block is fitted if its sharpness is above this share of the image's sharpest
BRISQUE_SIDE = 64  # below it the shape of the second scale runs into the end of its grid
GREY = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])  # MATLAB's rgb2gray
ALPHA = np.arange(0.2, 10.0005, 0.001)  # shapes of the generalised Gaussians
RATIO = gamma(2 / ALPHA) ** 2 / (gamma(1 / ALPHA) * gamma(3 / ALPHA))  # rises with ALPHA
WINDOW = np.exp(-0.5 * (np.arange(-3, 4) * 6 / 7) ** 2)  # 7 taps, sigma 7/6
WINDOW /= WINDOW.sum()
SHIFTS = ((0, 1), (1, 0), (1, 1))  # and a fourth, of which NIQE and BRISQUE take opposite ones


class NiqeModel(NamedTuple):
    """Pristine model: mean (36,) and covariance (36, 36) of block features; block side; where it comes from."""

    mean: np.ndarray
    covariance: np.ndarray
    block: int
    source: str


class BrisqueModel(NamedTuple):
    """Support vectors (S, 36), their coefficients (S,), feature ranges (36,) each, RBF gamma, rho, source."""

    vectors: np.ndarray
    coefficients: np.ndarray
    low: np.ndarray
    high: np.ndarray
    gamma: float
    rho: float
    source: str


# ---- NIQE


def niqe(images: Tensor, model: NiqeModel | str = "niqe") -> Tensor:
    """Score images by NIQE: distance of their block statistics to those of pristine photographs; lower is better.

    Mittal, Soundararajan, Bovik, IEEE SPL 2013, Eq. 10; agrees with the released MATLAB code (utlive/niqe) given
    its parameters. That code also scores a single block, which has no covariance; this function refuses.

    Args:
        images: in [0, 1], shape (N, 3, H, W), H and W at least two blocks (192); rounded to 8-bit levels.
        model: pristine model, or one of `NIQES`; "niqe" is the embedded one with blocks of 96.

    Returns:
        Scores of at least 0, shape (N,), float64 on the CPU; NaN where fewer than two blocks have features
        (flat images).

    Raises:
        ValueError: `images` is no such batch or too small.
    """
    block = SMALL_BLOCKS.get(model, BLOCK) if isinstance(model, str) else model.block
    _check(images, 2 * block, f"niqe with blocks of {block}", "two blocks each way: one block has no covariance")
    model = niqe_model(model) if isinstance(model, str) else model
    scores = []
    for features in niqe_features(images, block):
        features = features[np.isfinite(features).all(1)]
        if len(features) < 2:
            scores.append(np.nan)
            continue
        difference = features.mean(0) - model.mean
        inverse = np.linalg.pinv((np.cov(features, rowvar=False) + model.covariance) / 2)
        scores.append(np.sqrt(difference @ inverse @ difference))
    return torch.tensor(scores, dtype=torch.float64)


def niqe_features(images: Tensor, block: int = BLOCK) -> np.ndarray:
    """Compute 36 features of every whole block, 18 at full and 18 at half resolution; NaN without texture.

    Args:
        images: in [0, 1], shape (N, 3, H, W), at least one block; rounded to 8-bit levels.
        block: side in pixels, even.

    Returns:
        Features, (N, blocks, 36), float64.
    """
    return _niqe_blocks(images, block)[0]


def fit_niqe(
    images: Iterable[Tensor], *, block: int = BLOCK, sharpness: float = SHARPNESS, source: str = "fitted here"
) -> NiqeModel:
    """Fit a pristine model of NIQE: mean and covariance of the features of the sharp blocks of all images.

    A block counts if its mean local deviation is above `sharpness` times the largest of its image, as in
    `estimatemodelparam.m` of the release.

    Args:
        images: batches in [0, 1], (N, 3, H, W) each, at least one block in size; sizes may differ.
        block: side in pixels, even; 96 in the release.
        sharpness: from 0 to below 1; 0.75 in the release.
        source: what `describe` says about the result.

    Returns:
        The model; its source ends in the counts of images and blocks.

    Raises:
        ValueError: an image is no such image or has no whole block; fewer than 37 blocks are left.
    """
    if not 0 <= sharpness < 1 or block % 2 or block < 8:
        raise ValueError(f"expected an even block of 8 or more and sharpness in [0, 1), got {block}, {sharpness}")
    parts = []
    for batch in images:
        for features, sharp in zip(*_niqe_blocks(batch, block), strict=True):
            parts.append(features[sharp > sharpness * sharp.max()])
    kept = np.concatenate(parts) if parts else np.empty((0, 36))
    kept = kept[np.isfinite(kept).all(1)]
    if len(kept) < 37:
        raise ValueError(f"expected at least 37 sharp blocks for 36 features, got {len(kept)} of {len(parts)} images")
    source = f"{source}, {len(parts)} images, {len(kept)} blocks of {block}"
    return NiqeModel(kept.mean(0), np.cov(kept, rowvar=False), block, source)


def niqe_model(name: str = "niqe") -> NiqeModel:
    """Load the pristine model of "niqe", "niqe_small", "niqe_tiny" (embedded, fitted by us) or "niqe_official".

    Raises:
        ValueError: unknown name; "niqe_official" is not here and cannot be fetched.
    """
    if name not in NIQES:
        raise ValueError(f"expected one of {', '.join(NIQES)}, got {name!r}")
    if name == "niqe_official":
        return read_niqe(weights.fetch(name), SOURCES[name])
    return _embedded_niqe(SMALL_BLOCKS.get(name, BLOCK))


def read_niqe(path: str | Path, source: str = "official parameters") -> NiqeModel:
    """Read released parameters: arrays mu_pris_param and cov_pris_param (BasicSR), or mu and cov; blocks of 96.

    Raises:
        ValueError: no such arrays.
    """
    arrays = {key: value.numpy() for key, value in weights.load_state(path).items()}
    mean, covariance = (arrays.get(f"{key}_pris_param", arrays.get(key, np.empty(0))) for key in ("mu", "cov"))
    if mean.size != 36 or covariance.shape != (36, 36):
        raise ValueError(f"{path}: expected a mean of 36 and a covariance of 36x36, got {_shapes(arrays)}")
    return NiqeModel(mean.ravel().astype(float), covariance.astype(float), BLOCK, source)


@lru_cache(maxsize=4)
def _embedded_niqe(block: int) -> NiqeModel:
    with safe_open(weights.embedded("niqe_pristine"), "np") as file:
        mean, covariance = file.get_tensor(f"mean_{block}"), file.get_tensor(f"covariance_{block}")
        return NiqeModel(mean, covariance, block, file.metadata()[f"source_{block}"])


def _niqe_blocks(images: Tensor, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, blocks, 36) and sharpness (N, blocks): the mean local deviation at full resolution."""
    _check(images, block, f"niqe with blocks of {block}", "one whole block")
    x = _grey(images)
    rows, columns = x.shape[1] // block, x.shape[2] // block
    x = x[:, : rows * block, : columns * block]
    parts, sharp = [], None
    for side in (block, block // 2):
        tiles = (array.reshape(len(x), rows, side, columns, side) for array in _normalised(x, "nearest"))
        z, deviation = (array.swapaxes(2, 3).reshape(len(x), -1, side, side) for array in tiles)
        alpha, _, left, right = _asymmetric(z)
        features = [alpha, (left + right) / 2]
        for product in _products(z, (1, -1)):
            features += _asymmetric(product)
        parts.append(np.stack(features, -1))
        sharp = deviation.mean((2, 3)) if sharp is None else sharp
        x = _half(x)
    return np.concatenate(parts, -1), sharp


# ---- BRISQUE


def brisque(images: Tensor, model: BrisqueModel | str = "brisque", *, minimum_side: int = BRISQUE_SIDE) -> Tensor:
    """Score images by BRISQUE: opinion predicted from 36 statistics; lower is better, about 0 to 100.

    Mittal, Moorthy, Bovik, IEEE TIP 2012; agrees with the released MATLAB code (utlive/BRISQUE) to six digits.

    Args:
        images: in [0, 1], shape (N, 3, H, W); rounded to 8-bit levels.
        model: support vector regression, or "brisque" or "brisque_opencv", which look for a file.
        minimum_side: refused below; on smaller images the fits fail and the score is a number about nothing.

    Returns:
        Scores, shape (N,), float64 on the CPU; NaN for flat images.

    Raises:
        ValueError: `images` is no such batch or too small; the regressor is not here.
    """
    _check(images, minimum_side, "brisque", "the statistics of the half-size image need that many")
    model = brisque_model(model) if isinstance(model, str) else model
    features = -1 + 2 * (brisque_features(images) - model.low) / (model.high - model.low)
    squares = ((features[:, None] - model.vectors) ** 2).sum(2)
    return torch.from_numpy(np.exp(-model.gamma * squares) @ model.coefficients - model.rho)


def brisque_features(images: Tensor) -> np.ndarray:
    """Compute 36 features of an image, 18 at full and 18 at half resolution, not yet scaled; NaN for flat images.

    Args:
        images: in [0, 1], shape (N, 3, H, W), sides of at least 8; rounded to 8-bit levels.

    Returns:
        Features, (N, 36), float64.
    """
    _check(images, 8, "brisque", "the window")
    x, features = _grey(images), []
    for _ in range(2):
        z, _ = _normalised(x, "constant")
        mean, square = np.abs(z).mean((1, 2)), (z**2).mean((1, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            place = _nearest((1 / RATIO)[::-1], square / mean**2)
        features += [np.where(mean > 0, ALPHA[::-1][place], np.nan), square]
        for product in _products(z, (-1, 1)):
            alpha, skew, left, right = _asymmetric(product)
            width = gamma(3 / alpha) / gamma(1 / alpha)
            features += [alpha, skew, left**2 * width, right**2 * width]
        x = _half(x)
    return np.stack(features, -1)


def brisque_model(name: str = "brisque") -> BrisqueModel:
    """Load the regressor of "brisque" (University of Texas) or "brisque_opencv" (trained anew for OpenCV).

    Raises:
        ValueError: unknown name, or its file is not here.
    """
    if name not in ("brisque", "brisque_opencv"):
        raise ValueError(f"expected brisque or brisque_opencv, got {name!r}")
    return read_brisque(weights.fetch(name), SOURCES[name])


def read_brisque(path: str | Path, source: str = "") -> BrisqueModel:
    """Read a regressor: arrays sv, coef, range (36, 2), gamma, rho; or support_vectors, alpha, range_min, range_max.

    From the released text files: `np.savez("brisque_svr.npz", **parse_libsvm(allmodel_text, allrange_text))`.

    Raises:
        ValueError: no such arrays.
    """
    arrays = {key: value.double().numpy() for key, value in weights.load_state(path).items()}
    names = {"support_vectors": "sv", "alpha": "coef"}
    found = {names.get(key, key): value.squeeze() for key, value in arrays.items()}
    if {"range_min", "range_max"} <= set(found):
        found["range"] = np.stack([found["range_min"], found["range_max"]], 1)
    shapes = {"coef": found.get("coef", np.empty(0)).shape, "range": (36, 2), "gamma": (), "rho": ()}
    shapes["sv"] = (*shapes["coef"], 36)
    if any(key not in found or found[key].shape != shape for key, shape in shapes.items()):
        raise ValueError(f"{path}: expected the arrays of a regressor on 36 features, got {_shapes(arrays)}")
    scalars = float(found["gamma"]), float(found["rho"])
    return BrisqueModel(found["sv"], found["coef"], *found["range"].T, *scalars, source or Path(path).name)


def parse_libsvm(model: str, ranges: str) -> dict[str, np.ndarray]:
    """Parse LIBSVM's two text files, an epsilon-SVR with RBF kernel and the ranges of 36 features, into arrays."""
    head, _, body = model.partition("\nSV\n")
    facts = dict(line.split(maxsplit=1) for line in head.strip().splitlines())
    if facts.get("svm_type") != "epsilon_svr" or facts.get("kernel_type") != "rbf":
        raise ValueError(f"expected an epsilon_svr with an rbf kernel, got {facts}")
    lines = [line.split() for line in body.strip().splitlines()]
    vectors = np.zeros((len(lines), 36))  # LIBSVM leaves zeros out
    for vector, (_, *entries) in zip(vectors, lines, strict=True):
        for place, value in (entry.split(":") for entry in entries):
            vector[int(place) - 1] = float(value)
    limits = np.array([line.split()[1:] for line in ranges.strip().splitlines()[2:]], dtype=np.float64)
    if limits.shape != (36, 2):
        raise ValueError(f"expected ranges of 36 features, got {limits.shape}")
    numbers = {"gamma": np.array(float(facts["gamma"])), "rho": np.array(float(facts["rho"]))}
    return {"sv": vectors, "coef": np.array([float(line[0]) for line in lines]), "range": limits, **numbers}


# ---- statistics of natural scenes, which both share


def _grey(images: Tensor) -> np.ndarray:
    """MATLAB's rgb2gray of the 8-bit image: whole levels 0..255, (N, H, W), float64."""
    levels = to_uint8(images).cpu().numpy().astype(np.float64)
    return np.floor(np.einsum("nchw,c->nhw", levels, GREY) + 0.5)


def _normalised(x: np.ndarray, border: str) -> tuple[np.ndarray, np.ndarray]:
    """(I - mean) / (deviation + 1) and the deviation, over a Gaussian window; borders repeated or zero."""

    def smooth(array: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(array, WINDOW, axis=1, mode=border), WINDOW, axis=2, mode=border)

    mean = smooth(x)
    deviation = np.sqrt(np.abs(smooth(x * x) - mean * mean))
    return (x - mean) / (deviation + 1), deviation


def _half(x: np.ndarray) -> np.ndarray:
    """MATLAB's imresize(x, 0.5): `downscalers.resize` without rounding, for odd sides as well; (N, H, W)."""
    taps = FILTERS["bicubic"][0]((np.arange(8) - 3.5) / 2)
    taps = taps / taps.sum()
    for axis in (1, 2):
        n = -(-x.shape[axis] // 2)
        padded = np.moveaxis(np.pad(x, [(4, 4) if a == axis else (0, 0) for a in range(3)], mode="symmetric"), axis, 0)
        x = np.moveaxis(sum(tap * padded[1 + k : 2 * n + k : 2] for k, tap in enumerate(taps)), 0, axis)
    return x


def _products(z: np.ndarray, fourth: tuple[int, int]) -> Iterable[np.ndarray]:
    """Products of neighbours, circular in the last two axes."""
    return (z * np.roll(z, shift, (-2, -1)) for shift in (*SHIFTS, fourth))


def _asymmetric(z: np.ndarray) -> tuple[np.ndarray, ...]:
    """Asymmetric generalised Gaussian over the last two axes: shape, skew, left and right scale; NaN if flat."""
    square = z * z
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.sqrt(np.where(z < 0, square, 0).sum((-2, -1)) / (z < 0).sum((-2, -1)))
        right = np.sqrt(np.where(z > 0, square, 0).sum((-2, -1)) / (z > 0).sum((-2, -1)))
        g = left / right
        flatness = np.abs(z).mean((-2, -1)) ** 2 / square.mean((-2, -1))
        wanted = flatness * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    alpha = np.where(np.isfinite(wanted), ALPHA[_nearest(RATIO, wanted)], np.nan)
    scale = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    left, right = left * scale, right * scale
    return alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right


def _nearest(grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Places of the nearest entries of a rising grid."""
    place = np.clip(np.searchsorted(grid, values), 1, len(grid) - 1)
    return place - (values - grid[place - 1] <= grid[place] - values)


def _check(images: Tensor, side: int, name: str, why: str) -> None:
    check_images(images, name="images")
    if min(images.shape[2:]) < side:
        raise ValueError(f"{name}: expected sides of at least {side} pixels ({why}), got {tuple(images.shape[2:])}")


def _shapes(arrays: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{key} {value.shape}" for key, value in arrays.items()) or "nothing"
