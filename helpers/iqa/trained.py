"""No-reference quality by trained networks, MANIQA and CONTRIQUE, whose third-party files are fetched, not shipped."""

import codecs
import pickle
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from helpers import weights
from helpers.downscalers.filters import resize
from helpers.images import check_images


def package_missing() -> str | None:
    """Say why there is no network for MANIQA on this machine (None: there is)."""
    if find_spec("pyiqa"):
        return None
    return "the package pyiqa is missing: pip install -e '.[iqa]' (its licence is non-commercial)"


def maniqa(images: Tensor) -> Tensor:
    """Score images by MANIQA, trained on KonIQ-10k; higher is better, about 0 to 1.

    Yang et al., CVPRW 2022; network of the `pyiqa` package (extra `iqa`). 20 crops of 224 x 224 on a grid; images with
    a side up to 224 are first enlarged to 225, so that an LR image is judged after bilinear interpolation. A crop takes
    several seconds on one CPU core.

    Args:
        images: in [0, 1], shape (N, 3, H, W).

    Returns:
        Scores, shape (N,), float64 on the CPU.

    Raises:
        ValueError: `images` is no such batch; the package or its checkpoint is not here.
    """
    check_images(images, name="images")
    if problem := package_missing():
        raise ValueError(f"maniqa: {problem}")
    network = _maniqa_network(weights.fetch("maniqa")).to(images.device)
    with torch.no_grad():
        scores = [network(image[None].float()) for image in images]
    return torch.cat(scores)[:, 0].cpu().double()


def contrique(images: Tensor, regressor: str = "clive") -> Tensor:
    """Score images by CONTRIQUE: ridge regression on features of the image and its half; higher is better.

    Madhusudana et al., IEEE TIP 2022. The features are average pools, of L2 norm 1, of a contrastively trained
    ResNet-50; the images are not normalised as ImageNet's.

    Args:
        images: in [0, 1], shape (N, 3, H, W), sides of at least 2.
        regressor: "clive" (the authors' example) or "koniq": whose opinion scores were learnt.

    Returns:
        Scores, shape (N,), float64 on the CPU.

    Raises:
        ValueError: `images` is no such batch; unknown regressor; a file is not here.
    """
    check_images(images, name="images")
    if min(images.shape[2:]) < 2:
        raise ValueError(f"contrique: expected sides of at least 2 pixels, got {tuple(images.shape[2:])}")
    if regressor not in ("clive", "koniq"):
        raise ValueError(f"regressor: expected clive or koniq, got {regressor!r}")
    coefficients, intercept = read_ridge(weights.fetch(f"contrique_{regressor}"))
    network = _contrique_network(weights.fetch("contrique")).to(images.device)
    height, width = images.shape[2:]
    half = resize(images, (height // 2, width // 2), "bicubic")  # Pillow's, as the authors'
    with torch.no_grad():
        pools = [network(x.float()).mean((2, 3)) for x in (images, half)]
    features = torch.cat([nn.functional.normalize(pool, dim=1) for pool in pools], 1).cpu().double()
    return features @ torch.from_numpy(coefficients) + intercept


def read_ridge(path: str | Path) -> tuple[np.ndarray, float]:
    """Read weights (4096,) and intercept of a pickled scikit-learn Ridge; nothing but arrays is unpickled.

    Raises:
        ValueError: the file asks for anything else, or holds no such regressor.
    """
    try:
        with open(path, "rb") as stream:
            found = _Arrays(stream).load()
        coefficients = np.asarray(vars(found)["coef_"], dtype=np.float64).ravel()
        intercept = float(np.asarray(vars(found)["intercept_"]).squeeze())
    except (pickle.UnpicklingError, KeyError, TypeError, EOFError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: expected a pickled Ridge of arrays alone, got {error!r}") from error
    if coefficients.shape != (4096,):
        raise ValueError(f"{path}: expected 4096 weights, got {coefficients.shape}")
    return coefficients, intercept


class _Holder:
    """Stands in for the pickled class: attributes, no behaviour."""


class _Arrays(pickle.Unpickler):
    """Rebuilds NumPy arrays and the attributes of a Ridge; any other name in the pickle is refused."""

    def find_class(self, module: str, name: str) -> object:
        if name == "Ridge" and module.startswith("sklearn.linear_model"):
            return _Holder
        known = {"ndarray": np.ndarray, "dtype": np.dtype, "scalar": np.float64(0).__reduce__()[0]}
        known["_reconstruct"] = np.zeros(1).__reduce__()[0]
        if module.split(".")[0] == "numpy" and name in known:
            return known[name]
        if (module, name) == ("_codecs", "encode"):  # bytes, in old pickles
            return lambda text, encoding: codecs.latin_1_encode(text)[0]
        raise pickle.UnpicklingError(f"the name {module}.{name}")


@lru_cache(maxsize=1)
def _maniqa_network(path: Path) -> nn.Module:
    import timm
    from pyiqa.archs.maniqa_arch import MANIQA

    create = timm.create_model
    timm.create_model = lambda name, pretrained: create(name, pretrained=False)  # it would download its own ViT
    try:
        network = MANIQA(train_dataset="koniq", scale=0.8, pretrained=False)
    finally:
        timm.create_model = create
    return weights.load_into(network, weights.load_state(path), path)


@lru_cache(maxsize=1)
def _contrique_network(path: Path) -> nn.Module:
    from torchvision import models  # slow to import

    with torch.device("meta"):
        network = nn.Sequential(*list(models.resnet50(weights=None).children())[:-2])
    state = weights.load_state(path)
    state = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    return weights.load_into(network.to_empty(device="cpu"), state, path)
