"""The test chart that a downscaler is shown: noise of two grains and contrasts, and plain patches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.images import quantize

NOISE, STRIP = 48, 12  # LR pixels of the chart: a square of noise, beside and below it patches of one colour
WEAK = 0.1  # contrast of a third of the noise: some downscalers leave out weak detail
GREYS = (0.0, 0.25, 0.5, 0.75, 1.0)
PATCHES = [*((grey,) * 3 for grey in GREYS), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.25,) * 3]


def chart(scale: int) -> Tensor:
    """The test chart, (1, 3, 60 s, 60 s) in 8-bit levels: two grains of noise, in two contrasts; plain patches."""
    random = torch.Generator().manual_seed(0)
    fine = torch.rand(1, 3, NOISE * scale, NOISE * scale, generator=random) - 0.5
    coarse = torch.rand(1, 3, NOISE // 3, NOISE // 3, generator=random) - 0.5
    noise = 0.3 * fine + 0.4 * F.interpolate(coarse, scale_factor=3 * scale, mode="bilinear")
    noise[..., NOISE * scale * 2 // 3 :] *= WEAK
    hr = torch.zeros(1, 3, (NOISE + STRIP) * scale, (NOISE + STRIP) * scale)
    hr[..., : NOISE * scale, : NOISE * scale] = 0.5 + noise
    for (top, left), patch in zip(places(), PATCHES, strict=True):
        hr[..., top * scale : (top + STRIP) * scale, left * scale : (left + STRIP) * scale] = torch.tensor(patch).view(
            3, 1, 1
        )
    return quantize(hr)


def places() -> list[tuple[int, int]]:
    """Top left corners of the patches, LR pixels."""
    return [(at, NOISE) for at in range(0, NOISE + 1, STRIP)] + [(NOISE, at) for at in range(0, NOISE, STRIP)]


def patch_levels(hr: Tensor, lr: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Levels of the patches of the chart in the middle of each, (patches, 3), HR and LR."""
    middle = slice(STRIP // 2 - 2, STRIP // 2 + 2)
    return tuple(
        torch.stack([
            image[0, :, top * k : (top + STRIP) * k, left * k : (left + STRIP) * k][:, m, m].mean((1, 2))
            for top, left in places()
        ])
        for image, k, m in ((hr, scale, slice(None)), (lr, 1, middle))
    )  # fmt: skip
