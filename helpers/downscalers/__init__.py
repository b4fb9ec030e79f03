"""Downscalers f_ds by name."""

from collections.abc import Callable

from torch import Tensor

from helpers.downscalers import adaptive, filters
from helpers.downscalers.filters import FILTERS, bicubic, lanczos, resize
from helpers.listing import Named

__all__ = ["DOWNSCALERS", "FILTERS", "bicubic", "lanczos", "resize"]

DOWNSCALERS: dict[str, Callable[..., Tensor]] = Named(
    {
        "nearest": filters.nearest,
        "bilinear": filters.bilinear,
        "bicubic": filters.bicubic,
        "lanczos": filters.lanczos,
        "box": filters.box,
        "hamming": filters.hamming,
        "dpid": adaptive.dpid,
        "perceptual": adaptive.perceptual,
        "l0": adaptive.l0_recon,
        "l0_smooth": adaptive.l0_smooth,
        "bicubic_float": filters.bicubic_float,
        "matlab_bicubic": filters.matlab_bicubic,
        "matlab_bilinear": filters.matlab_bilinear,
        "torch_bicubic": filters.torch_bicubic,
        "torch_bilinear": filters.torch_bilinear,
        "nearest_topleft": filters.nearest_topleft,
        "box_linear": filters.box_linear,
        "bilinear_linear": filters.bilinear_linear,
        "hamming_linear": filters.hamming_linear,
        "bicubic_linear": filters.bicubic_linear,
        "lanczos_linear": filters.lanczos_linear,
    }
)
for _downscale in DOWNSCALERS.values():
    _downscale.device = True  # takes images on any device, see `runtime.on_cpu`
