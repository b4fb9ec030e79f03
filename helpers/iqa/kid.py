"""What a card says about a face generator: distance to real faces, variety, copies, and how the search inverts it."""

from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import distortions, generators
from helpers.downscalers.filters import bicubic
from helpers.images import quantize
from helpers.runtime import seeded
from helpers.upscalers import pulse

FEATURES = "AlexNet (torchvision), fifth convolution after ReLU, mean over positions, images enlarged to 128x128"


@torch.no_grad()
def features(images: Tensor) -> Tensor:
    """One vector per image, see `FEATURES`.

    Args:
        images: (N, 3, R, R) in [0, 1].

    Returns:
        (N, 256), float64.

    Raises:
        ValueError: the weights of AlexNet are not here, see `distortions.available`.
    """
    network = distortions.alexnet()
    mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    enlarge = partial(F.interpolate, size=128, mode="bilinear", align_corners=False)
    parts = [network(enlarge((part - mean) / std)).mean((2, 3)) for part in images.split(100)]
    return torch.cat(parts).double()


def distances(of: Tensor, to: Tensor) -> dict[str, float]:
    """KID and FID with these features in place of Inception's: comparable among themselves alone.

    Each feature is first divided by its spread in `to`, so that no few large ones decide.

    Args:
        of, to: features, (N, 256) and (M, 256); the first min(N, M) of both are taken, in a random but fixed order.

    Returns:
        "kid" (polynomial kernel of degree 3, unbiased, about 0 for two halves of one set) and "fid".
    """
    import piq  # slow to import

    count = min(len(of), len(to))
    scaled = [part / to.std(0).clamp(min=1e-6) for part in (of, to)]
    taken = [part[torch.randperm(len(part), generator=seeded("distances"))[:count]] for part in scaled]
    return {"kid": piq.KID().compute_metric(*taken).item(), "fid": piq.FID().compute_metric(*taken).item()}


def spread(images: Tensor) -> float:
    """Mean root-mean-square difference between any two of the images, (N, 3, R, R): how varied they are."""
    flat = images.flatten(1)
    return (torch.pdist(flat).mean() / flat.shape[1] ** 0.5).item()


def nearest(images: Tensor, faces: Tensor) -> Tensor:
    """Root-mean-square difference of each image to the face nearest to it, mirrored or not.

    A generator that copies has samples nearer to its training faces than other people's photographs are.

    Args:
        images: (N, 3, R, R) in [0, 1].
        faces: uint8, (M, 3, R, R).

    Returns:
        (N,).
    """
    flat = images.flatten(1)
    best = torch.full((len(flat),), torch.inf)
    for part in faces.split(1000):
        for each in (part, part.flip(3)):
            best = torch.minimum(best, torch.cdist(flat, each.flatten(1).to(flat) / 255).amin(1))
    return best / flat.shape[1] ** 0.5


def inversion(
    network: generators.StyleGenerator, images: list[tuple[str, Tensor]], scale: int, *, n_samples: int = 3, seed: int = 0,
    **options,
) -> pd.DataFrame:  # fmt: skip
    """How well the search answers bicubic LR images.

    Args:
        network: the generator.
        images: names and HR images, (1, 3, R, R), none of them trained on.
        scale: s.
        n_samples: N_Q.
        seed: with the name and the sample's number, the key of a start.
        options: of `pulse.search`.

    Returns:
        Per image: residual and lr_psnr (dB; of the samples against the LR image, means over samples), converged
        (share), psnr (dB, to the HR image), spread (between samples), psnr_bicubic (of interpolation).
    """
    rows = []
    for part in [images[at : at + 8] for at in range(0, len(images), 8)]:
        hr = torch.cat([image for _, image in part])
        lr = quantize(bicubic(hr, scale))
        starts = [seeded(seed, name, q) for name, _ in part for q in range(n_samples)]
        found = pulse.search(lr.repeat_interleave(n_samples, 0), network, starts, **options)
        each = zip(part, lr, found.sr.cpu().split(n_samples), found.residual.cpu().split(n_samples),
                   found.converged.cpu().split(n_samples), strict=True)  # fmt: skip
        for (name, image), low, sr, residual, converged in each:
            plain = F.interpolate(low[None], scale_factor=scale, mode="bicubic", align_corners=False).clamp(0, 1)
            rows.append({
                "image": name, "residual": residual.mean().item(), "lr_psnr": (-10 * residual.log10()).mean().item(),
                "converged": converged.double().mean().item(),
                "psnr": distortions.DISTORTIONS["psnr"](sr, image).mean().item(),
                "spread": spread(sr) if n_samples > 1 else float("nan"),
                "psnr_bicubic": distortions.DISTORTIONS["psnr"](plain, image).item(),
            })  # fmt: skip
    return pd.DataFrame(rows)
