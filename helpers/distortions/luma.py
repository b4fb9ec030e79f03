"""PSNR and SSIM as papers on super-resolution and rescaling report them: of the luma, without a border."""

import torch
from torch import Tensor

from helpers.images import check_images, quantize


def luma(images: Tensor) -> Tensor:
    """Y of ITU-R BT.601 as MATLAB's rgb2ycbcr has it, from 16 / 255 to 235 / 255, not rounded.

    RGB in [0, 1], (N, 3, H, W), to (N, 1, H, W); bgr2ycbcr of floats in IRN's codes/data/util.py.
    """
    weights = images.new_tensor([65.481, 128.553, 24.966]).view(3, 1, 1) / 255
    return (images * weights).sum(1, keepdim=True) + 16 / 255


def psnr_y(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """PSNR of the luma in dB, of images rounded to 8 bits and cropped by `border` pixels on each side.

    Args:
        sr, hr: (N, 3, H, W), hr in [0, 1]; `sr` is clipped.
        border: s in the tables of IRN (codes/test.py:103-141).

    Returns:
        Decibels, (N,), infinite for equal images.

    Raises:
        ValueError: another shape or range, or nothing left within the border.
    """
    one, two = _prepare(sr, hr, border, least=1)
    return -10 * (one - two).square().mean((1, 2, 3)).log10()


def ssim_y(sr: Tensor, hr: Tensor, border: int) -> Tensor:
    """SSIM of the luma: Gaussian window 11x11 of sigma 1.5 wherever it fits, on what `psnr_y` compares.

    Args:
        sr, hr, border: as in `psnr_y`, at least 11 pixels within the border.

    Returns:
        Similarities, (N,).

    Raises:
        ValueError: as `psnr_y`.
    """
    import piq  # slow: it brings torchvision along

    one, two = _prepare(sr, hr, border, least=11)
    return piq.ssim(one, two, downsample=False, reduction="none")


def _prepare(sr: Tensor, hr: Tensor, border: int, least: int) -> tuple[Tensor, Tensor]:
    """Luma within the border, float64 (float32 where the device has no more)."""
    check_images(hr)
    check_images(sr.clamp(0, 1), name="sr")
    if sr.shape != hr.shape or min(hr.shape[-2:]) < 2 * border + least or border < 0:
        raise ValueError(
            f"expected sr of the shape of hr and at least {least} pixels within a border of {border}, got "
            f"{tuple(sr.shape)} and {tuple(hr.shape)}"
        )
    height, width = hr.shape[-2:]
    wide = torch.float32 if hr.device.type == "mps" else torch.float64
    inside = (..., slice(border, height - border), slice(border, width - border))
    return luma(quantize(sr.to(wide)))[inside], luma(quantize(hr.to(wide)))[inside]
