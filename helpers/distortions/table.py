"""Distortions D(x, x^) between an SR image and its HR image, images in [0, 1]; all batched, on any device.

Each is computed in float32 at least, whatever the precision of the images, and with autocast off: in half precision
SSIM's variances cancel, and it is wrong in the second digit.

Besides D itself a row may hold `<D>_of_mean`, D of the mean of the draws so far, and two squared errors that look at
the LR image: `lr_mse`, between B(x) and the LR image, and `consistency_mse`, between B(x^) and the LR image, B being
MATLAB's bicubic downscaler without rounding. They split a score into its parts.

LPIPS, SSIM, MS-SSIM and PSNR of image pairs stand beside published values in data/weights/README.md, "The embedded
distance".
"""

import functools
from collections.abc import Callable, Mapping
from importlib import metadata

import torch
from torch import Tensor

from helpers import files, results, weights
from helpers.distortions import perceptual
from helpers.downscalers.filters import matlab_bicubic
from helpers.images import check_images
from helpers.listing import Named
from helpers.runtime import full_precision

# Smallest height and width in pixels; below it an error, not a number. LPIPS and our network of its form: AlexNet's
# pooling runs out of pixels; SSIM: its window; MS-SSIM: that window on the fifth scale; DISTS: 2x2 features in the
# last layer.
_SIDES = {
    "lpips": 31,
    "lpips_embedded": 31,
    "psnr": 1,
    "mse": 1,
    "ssim": 11,
    "ssim_piq_downsampled": 11,
    "ms_ssim": 161,
    "dists": 32,
}


def _in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Call a function of images in float32, or float64 if one of them is, with autocast and TF32 off."""

    @functools.wraps(function)
    def call(*images: Tensor) -> Tensor:
        if not all(isinstance(image, Tensor) and image.is_floating_point() for image in images):
            return function(*images)  # which refuses them
        kind = functools.reduce(torch.promote_types, [image.dtype for image in images], torch.float32)
        with full_precision(images[0].device):
            return function(*(image.to(kind) for image in images))

    return call


def lpips(sr: Tensor, hr: Tensor) -> Tensor:
    """LPIPS v0.1 with the AlexNet trunk, the paper's D: 0 for equal images, lower is better.

    Zhang et al., CVPR 2018, Eq. 1; heads and network of the `lpips` package, trunk file checked by hash.

    Args:
        sr: SR images in [0, 1], shape (N, 3, H, W), H and W at least 31.
        hr: HR images in [0, 1], shape (N, 3, H, W) or (1, 3, H, W).

    Returns:
        Distances, shape (N,), float32.

    Raises:
        ValueError: other shapes, ranges or sizes; or the trunk is missing (the message says where to put it).
    """
    return against("lpips", hr)(sr)


def lpips_embedded(sr: Tensor, hr: Tensor) -> Tensor:
    """Distance of a small network of LPIPS's form, embedded: 0 for equal images, lower is better.

    Trained by us to reproduce `lpips` on what this project compares. It is not LPIPS: how far apart the two are is in
    its card, data/weights/README.md; its recipe is notebooks/training/compact_lpips.ipynb.

    Args:
        sr, hr: as in `lpips`.

    Returns:
        Distances, shape (N,), float32.

    Raises:
        ValueError: other shapes, ranges or sizes; or the file is not the one of the repository.
    """
    return against("lpips_embedded", hr)(sr)


def psnr(sr: Tensor, hr: Tensor) -> Tensor:
    """Peak signal-to-noise ratio -10 log10(mse) in dB over all channels; higher is better.

    Infinite for equal images (piq adds 1e-8 to the mse, so they give 80 dB there).

    Args:
        sr, hr: as in `lpips`, any size.

    Returns:
        Decibels, shape (N,).

    Raises:
        ValueError: other shapes or ranges.
    """
    return -10 * torch.log10(mse(sr, hr))


@_in_float32
def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean squared error over channels and pixels, of intensities in [0, 1]; lower is better.

    Args:
        sr, hr: as in `lpips`, any size.

    Returns:
        Squared errors, shape (N,).

    Raises:
        ValueError: other shapes or ranges.
    """
    _check(sr, hr, "mse")
    return (sr - hr).square().mean((1, 2, 3))


@_in_float32
def ssim(sr: Tensor, hr: Tensor) -> Tensor:
    """SSIM at full resolution: Gaussian window 11x11, sigma 1.5, mean over channels; higher is better.

    Wang et al., IEEE TIP 2004, Eq. 13, by `piq` without downsampling; scikit-image's with Gaussian weights.

    Args:
        sr, hr: as in `lpips`, sides at least 11.

    Returns:
        Similarities, 1 for equal images, shape (N,).

    Raises:
        ValueError: other shapes, ranges or sizes.
    """
    import piq  # slow: it brings torchvision along

    _check(sr, hr, "ssim")
    return piq.ssim(sr, hr.expand_as(sr), data_range=1.0, reduction="none", downsample=False)


@_in_float32
def ssim_piq_downsampled(sr: Tensor, hr: Tensor) -> Tensor:
    """SSIM as the official notebook has it: both images first averaged over f x f, f = round(min side / 256).

    `piq.ssim` with its default `downsample=True`: the same as `ssim` below 384 pixels, another number above.
    Args, Returns and Raises are those of `ssim`.
    """
    import piq  # slow: it brings torchvision along

    _check(sr, hr, "ssim_piq_downsampled")
    return piq.ssim(sr, hr.expand_as(sr), data_range=1.0, reduction="none", downsample=True)


@_in_float32
def ms_ssim(sr: Tensor, hr: Tensor) -> Tensor:
    """Multi-scale SSIM over five scales; higher is better.

    Wang et al., Asilomar 2003, Eq. 7, by `piq`.

    Args:
        sr, hr: as in `lpips`, sides at least 161.

    Returns:
        Similarities in [0, 1], 1 for equal images, shape (N,).

    Raises:
        ValueError: other shapes, ranges or sizes.
    """
    import piq  # slow: it brings torchvision along

    _check(sr, hr, "ms_ssim")
    return piq.multi_scale_ssim(sr, hr.expand_as(sr), data_range=1.0, reduction="none")


def dists(sr: Tensor, hr: Tensor) -> Tensor:
    """DISTS, structure and texture similarity of VGG-16 features: 0 for equal images, lower is better.

    Ding et al., TPAMI 2020, Eq. 6, features of `piq`; images with both sides above 256 are resized to it.

    Args:
        sr, hr: as in `lpips`, sides at least 32.

    Returns:
        Distances, shape (N,), float32.

    Raises:
        ValueError: other shapes, ranges or sizes; or one of the two files is missing.
    """
    return against("dists", hr)(sr)


DISTORTIONS = Named(
    {
        "lpips": lpips,
        "lpips_embedded": lpips_embedded,
        "psnr": psnr,
        "ssim": ssim,
        "ms_ssim": ms_ssim,
        "dists": dists,
        "mse": mse,
        "ssim_piq_downsampled": ssim_piq_downsampled,
        "1-ssim": lambda sr, hr: 1 - ssim(sr, hr),
        "1-ms_ssim": lambda sr, hr: 1 - ms_ssim(sr, hr),
        "1-ssim_piq_downsampled": lambda sr, hr: 1 - ssim_piq_downsampled(sr, hr),
    }
)
MINIMUM_SIDE = {name: _SIDES[name.removeprefix("1-")] for name in DISTORTIONS}
OF_MEAN = "_of_mean"
OF_LR = ("lr_mse", "consistency_mse")
MINIMUM_SIDE |= {name + OF_MEAN: side for name, side in MINIMUM_SIDE.items()} | dict.fromkeys(OF_LR, 1)
LOWER_IS_BETTER = {name: results.lower_is_better(name) for name in MINIMUM_SIDE}


def as_distortion(name: str) -> str:
    """Name the lower-is-better form of a metric, which the measure needs: "ssim" -> "1-ssim".

    "psnr" -> "mse": the mean of dB over samples is not the dB of the mean, so the squared error is averaged.

    Raises:
        ValueError: unknown name.
    """
    _check_name(name)
    if name.endswith(OF_MEAN):
        return as_distortion(name.removesuffix(OF_MEAN)) + OF_MEAN
    return name if LOWER_IS_BETTER[name] else "mse" if name == "psnr" else f"1-{name}"


def against(
    name: str, hr: Tensor, lr: Tensor | None = None, *, plain: Mapping[str, Callable] | None = None
) -> Callable[[Tensor], Tensor]:
    """Prepare D( . , hr): what depends on `hr` alone, the features of networks, is computed once.

    Args:
        name: key of `DISTORTIONS`; with "_of_mean" the draws are handed over in their order, batch by batch, and
            draw q gets D of the mean of the draws up to q; or one of `OF_LR`.
        hr: HR images in [0, 1], shape (1, 3, H, W) or (N, 3, H, W).
        lr: the LR image, (1, 3, H / s, W / s), which the names in `OF_LR` need.
        plain: results of earlier calls for this `hr`, by name, from which an "_of_mean" takes its D.

    Returns:
        f(sr) of shape (N,), equal to `DISTORTIONS[name](sr, hr)`; it computes on the device of `hr`.

    Raises:
        ValueError: unknown name, unfit `hr` or `lr`, or missing weights.
    """
    _check_name(name)
    if name in OF_LR:
        return _of_lr(name, hr, lr)
    if name.endswith(OF_MEAN):
        base = name.removesuffix(OF_MEAN)
        return _of_mean(plain[base] if plain and base in plain else against(base, hr))
    if name not in perceptual.FEATURES:
        return lambda sr: DISTORTIONS[name](sr, hr)
    _check(hr, hr, name)
    network, (features, distance) = perceptual.network(name, hr.device), perceptual.FEATURES[name]
    features = _in_float32(functools.partial(features, network))
    reference = features(hr)

    @_in_float32
    def distortion(sr: Tensor) -> Tensor:
        _check(sr, hr, name)
        return distance(network, features(sr), reference)

    return distortion


def _of_mean(distortion: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Compute D of the mean of all draws so far; the function returned keeps their sum."""
    total, count = 0.0, 0

    @_in_float32
    def of_mean(sr: Tensor) -> Tensor:
        nonlocal total, count
        sums = total + sr.cumsum(0)
        counts = count + torch.arange(1, len(sr) + 1, device=sr.device).view(-1, 1, 1, 1)
        total, count = sums[-1:], count + len(sr)
        return distortion((sums / counts).clamp(0, 1))  # rounding may leave [0, 1]

    return of_mean


def _of_lr(name: str, hr: Tensor, lr: Tensor | None) -> Callable[[Tensor], Tensor]:
    check_images(hr)
    if lr is None or len(lr) != 1 or hr.shape[-1] % lr.shape[-1] or hr.shape[-2] % lr.shape[-2]:
        raise ValueError(
            f"{name}: expected one LR image that divides {tuple(hr.shape)}, got {lr if lr is None else tuple(lr.shape)}"
        )
    scale = hr.shape[-1] // lr.shape[-1]
    lr = lr.to(hr.device, torch.promote_types(hr.dtype, torch.float32))

    @_in_float32
    def error(images: Tensor) -> Tensor:
        return (matlab_bicubic(images, scale, rounded=False) - lr).square().mean((1, 2, 3))

    if name == "consistency_mse":
        return error
    own = error(hr)
    return lambda sr: own.expand(len(sr))


def available(name: str) -> str | None:
    """Say why a distortion cannot be computed on this machine as it is (None: it can); never downloads.

    Raises:
        ValueError: unknown name.
    """
    _check_name(name)
    try:
        absent = [
            group[0]
            for group in perceptual.NEEDS.get(name.removesuffix(OF_MEAN), ())
            if not any(map(weights.locate, group))
        ]
    except ValueError as error:  # a wrong file in the folder that the user named
        return f"{name}: {error}"
    return f"{name}: " + "; ".join(weights.missing(file) for file in absent) if absent else None


def describe(name: str) -> str:
    """Describe a distortion for the column `metric` of a row: variant, package and version, or hash of the weights.

    Raises:
        ValueError: unknown name; or the embedded weights are not those of the repository.
    """
    _check_name(name)
    if name.endswith(OF_MEAN):
        return f"{describe(name.removesuffix(OF_MEAN))} of the mean of the draws so far"
    if name in OF_LR:
        return f"{name} over RGB in [0, 1], MATLAB bicubic (helpers {results.VERSION})"
    kind = name.removeprefix("1-")
    if name == "lpips_embedded":  # with other weights it is another metric
        return f"{name}: compact network of LPIPS's form, {files.sha256_of(weights.embedded(perceptual.EMBEDDED))[:12]}"
    if kind in ("psnr", "mse"):
        return f"{name} over RGB in [0, 1] (helpers {results.VERSION})"
    package = "lpips" if kind == "lpips" else "piq"
    variant = {"lpips": "-alex v0.1", "dists": "-vgg16", "ssim": " downsample=False"}
    variant["ssim_piq_downsampled"] = " downsample=True"
    return f"{name}{variant.get(kind, '')} ({package} {metadata.version(package)})"


def _check_name(name: str) -> None:
    if name.removesuffix(OF_MEAN) not in DISTORTIONS and name not in OF_LR:
        known = ", ".join((*DISTORTIONS, *OF_LR))
        raise ValueError(f"expected a distortion of {known}, or one of these with {OF_MEAN}, got {name!r}")


def _check(sr: Tensor, hr: Tensor, name: str) -> None:
    check_images(hr)
    if sr is not hr:
        check_images(sr, name="sr")
    if sr.shape[1:] != hr.shape[1:] or len(hr) not in (1, len(sr)):
        raise ValueError(
            f"{name}: expected sr and hr of equal size, hr one image or as many; got "
            f"{tuple(sr.shape)} and {tuple(hr.shape)}"
        )
    if sr.device != hr.device:
        raise ValueError(f"{name}: expected sr and hr on one device, got {sr.device} and {hr.device}")
    if min(hr.shape[-2:]) < MINIMUM_SIDE[name]:
        raise ValueError(f"{name}: expected sides of at least {MINIMUM_SIDE[name]} pixels, got {tuple(hr.shape[-2:])}")
