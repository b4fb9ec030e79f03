"""Distances between sets of images by features of AlexNet (KID, FID), variety of a set, copies of training faces."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import distortions
from helpers.distortions import perceptual
from helpers.runtime import seeded

FEATURES = "AlexNet (torchvision), fifth convolution after ReLU, mean over positions, images enlarged to 128x128"
EMBEDDED = "fifth tap of the embedded LPIPS network, mean over positions, images enlarged to 128x128"  # needs no file


@torch.no_grad()
def features(images: Tensor, *, embedded: bool = False) -> Tensor:
    """Compute one vector per image, see `FEATURES`, or `EMBEDDED`.

    Args:
        images: (N, 3, R, R) in [0, 1].
        embedded: take the network that comes with the package.

    Returns:
        (N, 256), float64 on the CPU.

    Raises:
        ValueError: the weights of AlexNet are not here, see `distortions.available`.
    """
    enlarge = partial(F.interpolate, size=128, mode="bilinear", align_corners=False)
    if embedded:
        network = perceptual.network("lpips_embedded", images.device)
        return (
            torch.cat([network.activations(enlarge(part))[-1].mean((2, 3)) for part in images.split(100)])
            .cpu()
            .double()
        )
    network = distortions.alexnet().to(images.device)
    mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    parts = [network(enlarge((part - mean) / std)).mean((2, 3)) for part in images.split(100)]
    return torch.cat(parts).cpu().double()


def distances(of: Tensor, to: Tensor) -> dict[str, float]:
    """Compute KID and FID of two sets with these features; comparable among themselves, not with Inception's.

    Each feature is first divided by its spread in `to`, so that no few large ones decide.

    Args:
        of, to: features, (N, 256) and (M, 256); the first min(N, M) of both are taken, in a random but fixed order.

    Returns:
        "kid" (polynomial kernel of degree 3, unbiased, about 0 for two halves of one set) and "fid".
    """
    import piq  # slow: it brings torchvision along

    count = min(len(of), len(to))
    scaled = [part / to.std(0).clamp(min=1e-6) for part in (of, to)]
    taken = [part[torch.randperm(len(part), generator=seeded("distances"))[:count]] for part in scaled]
    return {"kid": piq.KID().compute_metric(*taken).item(), "fid": piq.FID().compute_metric(*taken).item()}


def apart(of: Sequence[Tensor], to: Sequence[Tensor]) -> Tensor:
    """KID of two sets of images, photograph by photograph, with the scaling and the kernel of `distances`.

    Args:
        of, to: features of the patches of each photograph, (n, 256) each, of at least two photographs in both sets.

    Returns:
        (K, K), whose mean off the diagonal is the unbiased estimate: patches of one photograph, which are alike, are
        never compared with one another. See `of_pairs`.

    Raises:
        ValueError: fewer than two photographs, or other numbers in the two sets.
    """
    if len(of) != len(to) or len(of) < 2:
        raise ValueError(f"expected features of two photographs or more in both sets, got {len(of)} and {len(to)}")
    unit = torch.cat(list(to)).std(0).clamp(min=1e-6)

    def kernel(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        a, b = (torch.cat([part / unit for part in parts]) for parts in (first, second))
        values = (a @ b.T / a.shape[1] + 1) ** 3
        rows = torch.stack([part.mean(0) for part in values.split([len(part) for part in first])])
        return torch.stack([part.mean(1) for part in rows.split([len(part) for part in second], 1)], 1)

    mixed = kernel(of, to)
    return kernel(of, of) + kernel(to, to) - mixed - mixed.T


def of_pairs(matrix: Tensor) -> tuple[float, np.ndarray]:
    """KID of `apart`, and a number for each photograph: their mean is KID, their spread its own (jackknife).

    Sums and differences of such numbers, photograph by photograph, are those of KIDs: `stats.findings.mean` gives the
    interval.

    Returns:
        KID, and pseudo-values, (K,).

    Raises:
        ValueError: fewer than three photographs.
    """
    count = len(matrix)
    if count < 3:
        raise ValueError(f"expected three photographs or more, got {count}")
    off = matrix - torch.diag(matrix.diagonal())
    total, own = off.sum(), off.sum(0) + off.sum(1)
    value = total / (count * (count - 1))
    without = (total - own) / ((count - 1) * (count - 2))
    return value.item(), (count * value - (count - 1) * without).numpy()


def spread(images: Tensor) -> float:
    """Root-mean-square difference of two images of a set, (N, 3, R, R), mean over all pairs: how varied it is."""
    flat = images.flatten(1)
    return (torch.pdist(flat).mean() / flat.shape[1] ** 0.5).item()


def nearest(images: Tensor, faces: Tensor) -> Tensor:
    """Compute the root-mean-square difference of each image to the face nearest to it, mirrored or not.

    A generator that copies has samples nearer to its training faces than other people's photographs are.

    Args:
        images: (N, 3, R, R) in [0, 1].
        faces: uint8, (M, 3, R, R).

    Returns:
        Differences, (N,), in units of [0, 1].
    """
    flat = images.flatten(1)
    best = torch.full((len(flat),), torch.inf, device=flat.device)
    for part in faces.split(1000):
        for each in (part, part.flip(3)):
            best = torch.minimum(best, torch.cdist(flat, each.flatten(1).to(flat) / 255).amin(1))
    return best / flat.shape[1] ** 0.5
