"""Distortions D between an SR image and its HR image: `DISTORTIONS` by name, their directions, sizes and networks."""

from helpers.distortions.perceptual import alexnet, network, squeezenet
from helpers.distortions.table import (
    DISTORTIONS,
    LOWER_IS_BETTER,
    MINIMUM_SIDE,
    OF_LR,
    OF_MEAN,
    against,
    as_distortion,
    available,
    describe,
    dists,
    lpips,
    lpips_embedded,
    ms_ssim,
    mse,
    psnr,
    ssim,
    ssim_piq_downsampled,
)

__all__ = [
    "DISTORTIONS", "LOWER_IS_BETTER", "MINIMUM_SIDE", "OF_LR", "OF_MEAN", "against", "alexnet", "as_distortion",
    "available", "describe", "dists", "lpips", "lpips_embedded", "ms_ssim", "mse", "network", "psnr", "squeezenet",
    "ssim", "ssim_piq_downsampled",
]  # fmt: skip
