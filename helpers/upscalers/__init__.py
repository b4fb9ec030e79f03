"""f_us: blind, stochastic upscalers by name: flows, searches in a latent space, cascades."""

from helpers.upscalers.registry import (
    SEARCHES,
    SRFLOW,
    UPSCALERS,
    build,
    draw_latents,
    embedded_flow,
    load_compact_flow,
    normalised,
    searches,
    split,
    stages,
    weights_hash,
)

__all__ = [
    "SEARCHES", "SRFLOW", "UPSCALERS", "build", "draw_latents", "embedded_flow", "load_compact_flow", "normalised",
    "searches", "split", "stages", "weights_hash",
]  # fmt: skip
