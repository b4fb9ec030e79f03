"""Compute IDA-RD (Eq. 2 of the paper) from a downscaler, an upscaler and a distortion, given as functions."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from helpers.images import check_images, quantize
from helpers.runtime import seeded


@torch.no_grad()  # not inference_mode: optimizing downscalers and PULSE need enable_grad inside
def score_image(
    hr: Tensor,
    downscale: Callable[[Tensor], Tensor],
    upscale: Callable,
    distortion: Callable[[Tensor, Tensor], Tensor] | Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    *,
    n_samples: int = 5,
    key: tuple[int | str, ...] = (0,),
    batch: int = 8,
) -> Tensor:
    """Distortions D(x, x^) of one HR image: the inner expectation of IDA-RD.

    S(f_ds) = E_x E_{x^|x}[ D(x, x^) ]  (Liang et al., CVPR 2024, Eq. 2).

    Args:
        hr: one HR image x in [0, 1], shape (1, 3, H, W).
        downscale: f_ds, maps `hr` to the LR image (any degradation included).
        upscale: f_us; `upscale(lr, generators)` draws one SR image per generator, shape (Q, 3, H, W).
        distortion: D; `distortion(sr, hr)` of shape (Q,), `hr` broadcast over the samples; or several, by name, of
            the same draws, which are handed over in their order.
        n_samples: N_Q, number of SR images.
        key: seed and image name; sample q draws from `seeded(*key, q)`, so the first two of five samples
            are the two samples, and all downscalers share the same latents.
        batch: samples drawn together; bounds the memory, changes no sample.

    Returns:
        Distortions, shape (n_samples,), float64 on the CPU, or (n_samples, K) for K of them; NaN where the SR image
        is not finite. It is looked at in float, before any clipping: the official code casts such samples to pixels.

    Raises:
        ValueError: `hr` is no such image, `n_samples` is below 1, or f_us returns another shape.
    """
    check_images(hr)
    if len(hr) != 1 or n_samples < 1:
        raise ValueError(f"expected one image and n_samples >= 1, got {len(hr)} images, n_samples={n_samples}")
    lr = quantize(downscale(hr))  # what an 8-bit file would keep
    several = list(distortion.values()) if isinstance(distortion, Mapping) else [distortion]
    distortions = torch.full((n_samples, len(several)), torch.nan, dtype=torch.float64)
    for first in range(0, n_samples, batch):
        samples = range(first, min(first + batch, n_samples))
        sr = upscale(lr, [seeded(*key, q) for q in samples])
        if sr.shape != (len(samples), *hr.shape[1:]):
            raise ValueError(f"upscaler: expected shape {(len(samples), *hr.shape[1:])}, got {tuple(sr.shape)}")
        finite = sr.isfinite().flatten(1).all(1)
        if finite.any():
            sr = quantize(sr[finite])
            values = torch.stack([each(sr, hr).double().cpu() for each in several], 1)
            distortions[first : first + len(samples)][finite.cpu()] = values
    return distortions if isinstance(distortion, Mapping) else distortions[:, 0]


def ida_rd(
    images: Iterable[tuple[str, Tensor]],
    downscale: Callable[[Tensor], Tensor],
    upscale: Callable,
    distortion: Callable[[Tensor, Tensor], Tensor],
    *,
    n_samples: int = 5,
    seed: int = 0,
) -> tuple[float, Tensor]:
    """The score S(f_ds) of one downscaler over a set of images (Eq. 2).

    Args:
        images: pairs of name and HR image, each (1, 3, H, W) in [0, 1]; the name is part of the random key.
        downscale, upscale, distortion, n_samples: as in `score_image`.
        seed: first part of every random key.

    Returns:
        The score, the mean over images of the mean over an image's finite samples (NaN if no image has any),
        and all distortions, shape (n_images, n_samples).

    Raises:
        ValueError: as `score_image`; or no image was given.
    """
    rows = [
        score_image(hr, downscale, upscale, distortion, n_samples=n_samples, key=(seed, name)) for name, hr in images
    ]
    if not rows:
        raise ValueError("expected at least one image, got none")
    distortions = torch.stack(rows)
    return distortions.nanmean(1).nanmean().item(), distortions
