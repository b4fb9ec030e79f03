"""Downscale by the content of the image: DPID, Perceptual, and two L0-regularised methods of our own."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.images import check_hr, in_float64


def _coverage(n_in: int, n_out: int, matlab_bug: bool = False) -> tuple[Tensor, Tensor]:
    """Input pixels that the cell of each output pixel touches and how much of each, both (n_out, taps)."""
    edges = torch.arange(n_out + 1, dtype=torch.float64) * n_in / n_out
    low, high = edges[:-1, None], edges[1:, None]
    index = low.floor() + torch.arange(math.ceil(n_in / n_out) + (n_in % n_out > 0))
    covered = (torch.minimum(index + 1, high) - torch.maximum(index, low)).clamp_min(0)
    if matlab_bug:  # the script's row weight: what the cell still has below the pixel's top edge
        covered = torch.where(index < low, index + 1 - low, 1.0) * (high - index).clamp_min(0)
    return index.long().clamp_max(n_in - 1), covered


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _cells(height, width, h, w, matlab_bug, dtype, device) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (h, s) and columns (w, s) of the cells, and how much of each pixel they cover, (h, s, w, s)."""
    (rows, row_weight), (columns, column_weight) = _coverage(height, h, matlab_bug), _coverage(width, w)
    area = row_weight[:, :, None, None] * column_weight
    return rows.to(device), columns.to(device), area.to(device, dtype)


def dpid_resize(hr: Tensor, size: tuple[int, int], *, lam: float = 1.0, matlab_bug: bool = False) -> Tensor:
    """DPID to any smaller size; see `dpid`.

    Args:
        hr: HR images in [0, 1], shape (N, 3, H, W).
        size: height and width of the output, at most those of `hr`.
        lam, matlab_bug: as in `dpid`.

    Returns:
        LR images in [0, 1], shape (N, 3, *size), not rounded.

    Raises:
        ValueError: `hr`, `size` or `lam` is not as described.
    """
    check_hr(hr, 1)
    if len(size) != 2 or not (1 <= size[0] <= hr.shape[2] and 1 <= size[1] <= hr.shape[3]):
        raise ValueError(f"size: expected at least 1x1 and at most {tuple(hr.shape[2:])}, got {size}")
    if not 0 <= lam < math.inf:
        raise ValueError(f"lam: expected a finite exponent of at least 0, got {lam}")
    rows, columns, area = _cells(*hr.shape[2:], *size, matlab_bug, hr.dtype, hr.device)
    if rows.numel() == hr.shape[2] and columns.numel() == hr.shape[3]:  # integer factors: cells do not overlap
        cells = hr.unflatten(3, columns.shape).unflatten(2, rows.shape)  # (N, 3, h, s, w, s)
    else:
        cells = hr[:, :, rows][..., columns]

    mean = (cells * area).sum((3, 5)) / area.sum((1, 3))
    guidance, norm = mean, torch.ones_like(mean[:1, :1])
    for dim in (2, 3):  # [1 2 1] along each axis, over the neighbours that exist
        guidance, norm = _smooth(guidance, dim), _smooth(norm, dim)
    guidance = (guidance / norm)[:, :, :, None, :, None]

    distance = (cells - guidance).square().sum(1, keepdim=True).sqrt()
    largest = distance.amax((3, 5), keepdim=True)
    weight = area * torch.where(largest > 0, distance / largest, 0.0) ** lam  # the scale cancels; no underflow
    total = weight.sum((3, 5))
    lr = (cells * weight).sum((3, 5)) / torch.where(total > 0, total, 1.0)
    return torch.where(total > 0, lr, guidance[:, :, :, 0, :, 0])


def _smooth(x: Tensor, dim: int) -> Tensor:
    last = x.shape[dim] - 1
    smoothed = 2 * x
    smoothed.narrow(dim, 1, last).add_(x.narrow(dim, 0, last))
    smoothed.narrow(dim, 0, last).add_(x.narrow(dim, 1, last))
    return smoothed


def dpid(hr: Tensor, scale: int, *, lam: float = 1.0, matlab_bug: bool = False) -> Tensor:
    """Detail-preserving image downscaling: pixels that differ from their neighbourhood weigh more.

    Weber et al., "Rapid, Detail-Preserving Image Downscaling", SIGGRAPH Asia 2016: O(p) is the mean of the
    cell of p with weights |I(q) - G(p)|^lam, G the 3x3 binomial smoothing of the box-filtered image.

    Args:
        hr: HR images in [0, 1], shape (N, 3, H, W), H and W multiples of `scale`.
        scale: scaling factor s, at least 1.
        lam: lambda, at least 0; 0 is the box filter. 1.0 is the default of the authors' program, 0.5 their
            example; the IDA-RD paper does not state its own.
        matlab_bug: weigh the rows of a cell s, s - 1, ..., 1 as the authors' `dpid.m` does (lines 73 and 142
            test `sy` where `ey` is meant). It moves the picture by (s - 1) / 6 HR pixels: for study only.

    Returns:
        LR images in [0, 1], shape (N, 3, H / s, W / s), not rounded; a flat cell is G(p).

    Raises:
        ValueError: `hr`, `scale` or `lam` is not as described.
    """
    check_hr(hr, scale)
    return dpid_resize(hr, (hr.shape[2] // scale, hr.shape[3] // scale), lam=lam, matlab_bug=matlab_bug)


def perceptual(hr: Tensor, scale: int, *, patch: int = 2, epsilon: float = 1e-6) -> Tensor:
    """Perceptually based downscaling: the LR image of greatest SSIM with the HR image, in closed form.

    Oeztireli and Gross, "Perceptually Based Downscaling of Images", SIGGRAPH 2015. Each channel by itself; an
    LR patch keeps its mean and gets the standard deviation of the HR pixels under it; patches are averaged.

    Args:
        hr: HR images in [0, 1], shape (N, 3, H, W), H and W multiples of `scale`.
        scale: scaling factor s, at least 1.
        patch: side of the LR patch; the paper's n_p = 4 elements is 2.
        epsilon: LR variance below which a patch is flat and contributes its mean.

    Returns:
        LR images, shape (N, 3, H / s, W / s), not rounded; edges may leave [0, 1].

    Raises:
        ValueError: an argument is not as described, or the LR image is smaller than a patch.
    """
    check_hr(hr, scale)
    if isinstance(patch, bool) or not isinstance(patch, int) or patch < 1 or not 0 < epsilon < math.inf:
        raise ValueError(f"expected patch >= 1 and a finite epsilon > 0, got patch={patch!r}, epsilon={epsilon!r}")
    if min(hr.shape[2:]) < patch * scale:
        raise ValueError(f"expected an LR image of at least {patch}x{patch}, got {tuple(hr.shape)} / {scale}")
    x = in_float64(hr)
    low = F.avg_pool2d(x, scale)  # L
    mean = F.avg_pool2d(low, patch, 1)  # M
    patches = low.unfold(2, patch, 1).unfold(3, patch, 1)
    variance = (patches - mean[..., None, None]).square().mean((-1, -2))  # S_l
    inside = F.avg_pool2d(F.avg_pool2d(x.square(), scale) - low.square(), patch, 1).clamp_min(0)  # S_h - S_l
    gain = torch.where(variance < epsilon, 0.0, ((variance + inside) / variance.clamp_min(epsilon)).sqrt())  # R

    def spread(values: Tensor) -> Tensor:  # sum over the patches that contain each LR pixel
        return F.avg_pool2d(F.pad(values, [patch - 1] * 4), patch, 1)

    lr = spread(mean - gain * mean) + spread(gain) * low
    return (lr / spread(torch.ones_like(mean[:1, :1]))).to(hr)


def _dct(n: int) -> Tensor:
    """Orthonormal DCT-II matrix, (n, n), float64: row k is the k-th cosine."""
    k = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi / n * k[:, None] * (k + 0.5)) * math.sqrt(2 / n)
    matrix[0] *= math.sqrt(0.5)
    return matrix


def _spectra(n: int, scale: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues of (n / N) U^T U and of grad^T grad along one axis, in the order of the DCT-II."""
    cosine = torch.cos(math.pi / n * torch.arange(n, dtype=torch.float64))
    side = (1 + 1 / (2 * scale**2) if scale % 2 == 0 else 1 - 1 / scale**2) / 6  # the off-diagonal of U^T U
    return 1 - 2 * side + 2 * side * cosine, 2 - 2 * cosine


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _tent(scale: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weights of bilinear upsampling, (2, s)."""
    offset = torch.arange(2 * scale, dtype=torch.float64) - scale // 2 + 0.5 - 0.5 * scale  # pixels from the LR centre
    return (1 - offset.abs() / scale).clamp_min(0).view(2, scale).to(device, dtype)


def _upsample_adjoint(x: Tensor, scale: int) -> Tensor:
    """U^T along the last axis, U = bilinear upsampling with half-pixel centres and clamped coordinates."""
    half = scale // 2
    blocks = F.pad(x, (scale + half, 2 * scale - half)).unflatten(-1, (-1, scale))  # (..., n + 3, s)
    parts = blocks @ _tent(scale, x.dtype, x.device).T
    sums = parts[..., :-1, 0] + parts[..., 1:, 1]  # LR pixels -1 .. n
    sums[..., 1] += sums[..., 0]  # what would fall outside belongs to the border pixel
    sums[..., -2] += sums[..., -1]
    return sums[..., 1:-1]


def _shrinkage(gx: Tensor, gy: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Gradients kept where their square, summed over the channels, reaches the threshold."""
    keep = (gx.square() + gy.square()).sum(1, keepdim=True) >= threshold
    return gx * keep, gy * keep


def _betas(lam: float, kappa: float) -> list[float]:
    """The penalties of half-quadratic splitting: 2 lambda, then times kappa while below 1e5."""
    if not (0 < lam < math.inf and 1 < kappa < math.inf):
        raise ValueError(f"expected a finite lam > 0 and kappa > 1, got lam={lam!r}, kappa={kappa!r}")
    betas, beta = [], 2 * lam
    while beta < 1e5:
        betas.append(beta)
        beta *= kappa
    return betas


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _operators(height, width, scale, dtype, device) -> tuple[Tensor, ...]:
    """`_dct` of both axes, then the eigenvalues of `_spectra` in two dimensions."""
    (fit_h, gradient_h), (fit_w, gradient_w) = _spectra(height, scale), _spectra(width, scale)
    made = _dct(height), _dct(width), fit_h[:, None] * fit_w, gradient_h[:, None] + gradient_w
    return tuple(each.to(device, dtype) for each in made)


def l0_recon(hr: Tensor, scale: int, *, lam: float = 2e-4, kappa: float = 2.0) -> Tensor:
    """This project's own L0-regularised downscaler: few gradients, and the HR image back by interpolation.

    Minimises (hw / HW) |U S - I|^2 + lam #{p : grad S(p) != 0} by half-quadratic splitting (Xu et al., "Image
    Smoothing via L0 Gradient Minimization", SIGGRAPH Asia 2011), U bilinear upsampling, a gradient counted
    once for all channels. It is *our definition* in the spirit of Liu, He and Lau, "L0-Regularized Image
    Downscaling", IEEE TIP 27(3), 2018. Their solver is not public: never report this as the authors' method.

    Args:
        hr: HR images in [0, 1], shape (N, 3, H, W), H and W multiples of `scale`.
        scale: scaling factor s, at least 1.
        lam: weight of the gradient count; the authors' demo takes values from 2e-4 to 2e-2.
        kappa: growth of the penalty per iteration, above 1; the demo takes values from 2 to 8.

    Returns:
        LR images in [0, 1], shape (N, 3, H / s, W / s), not rounded. Gradients are kept or not, so a tiny
        change of the input may change single pixels.

    Raises:
        ValueError: `hr`, `scale`, `lam` or `kappa` is not as described.
    """
    check_hr(hr, scale)
    betas = _betas(lam, kappa)
    data = in_float64(hr)
    norm = torch.ones_like(data[:1, :1])
    for _ in range(2):  # one axis at a time
        data = _upsample_adjoint(data, scale).transpose(2, 3)
        norm = _upsample_adjoint(norm, scale).transpose(2, 3)
    lr = data / norm  # start: (U^T I) / (U^T 1)
    height, width = lr.shape[2:]
    # For integer s both operators are diagonal in the DCT-II, so each step is solved exactly.
    dct_h, dct_w, fit, gradient = _operators(height, width, scale, lr.dtype, lr.device)
    data = dct_h @ (data / scale**2) @ dct_w.T
    for beta in betas:
        gx = F.pad(lr.diff(dim=3), (0, 1))
        gy = F.pad(lr.diff(dim=2), (0, 0, 0, 1))
        gx, gy = _shrinkage(gx, gy, lam / beta)
        adjoint = F.pad(gx, (1, 0))[..., :-1] - gx + F.pad(gy, (0, 0, 1, 0))[..., :-1, :] - gy
        lr = dct_h.T @ ((data + beta * (dct_h @ adjoint @ dct_w.T)) / (fit + beta * gradient)) @ dct_w
    return lr.clamp(0, 1).to(hr)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _slopes(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """|F_x|^2 + |F_y|^2 of the gradients with periodic borders, (height, width / 2 + 1)."""
    waves = [torch.arange(n, dtype=torch.float64) * (2 * math.pi / n) for n in (height, width)]
    gradient = (2 - 2 * torch.cos(waves[0]))[:, None] + (2 - 2 * torch.cos(waves[1]))
    return gradient[:, : width // 2 + 1].to(device, dtype)


def l0_smooth(hr: Tensor, scale: int, *, lam: float = 2e-4, kappa: float = 2.0) -> Tensor:
    """The cheap variant of `l0_recon`, ours as well: block means, then L0 gradient smoothing of the LR image.

    Xu et al., "Image Smoothing via L0 Gradient Minimization", SIGGRAPH Asia 2011, with periodic borders.

    Args:
        hr, scale, lam, kappa: as in `l0_recon`.

    Returns:
        LR images in [0, 1], shape (N, 3, H / s, W / s), not rounded.

    Raises:
        ValueError: `hr`, `scale`, `lam` or `kappa` is not as described.
    """
    check_hr(hr, scale)
    betas = _betas(lam, kappa)
    lr = F.avg_pool2d(in_float64(hr), scale)
    height, width = lr.shape[2:]
    data = torch.fft.rfft2(lr)
    gradient = _slopes(height, width, lr.dtype, lr.device)
    for beta in betas:
        gx, gy = _shrinkage(lr.roll(-1, 3) - lr, lr.roll(-1, 2) - lr, lam / beta)
        adjoint = gx.roll(1, 3) - gx + gy.roll(1, 2) - gy
        lr = torch.fft.irfft2((data + beta * torch.fft.rfft2(adjoint)) / (1 + beta * gradient), s=(height, width))
    return lr.clamp(0, 1).to(hr)
