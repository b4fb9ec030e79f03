"""f_us: stochastic upscalers by name: flows, searches in a latent space, cascades, and a deterministic control."""

from helpers.upscalers.flows import draw_latents, embedded_flow, load_compact_flow, load_srflow
from helpers.upscalers.registry import (
    UPSCALERS,
    Stage,
    Upscaler,
    are_here,
    at_precision,
    build,
    is_search,
    normalise,
    parse,
    stages,
    weights_hash,
)

__all__ = [
    "UPSCALERS", "Stage", "Upscaler", "are_here", "at_precision", "build", "draw_latents", "embedded_flow", "is_search",
    "load_compact_flow", "load_srflow", "normalise", "parse", "stages", "weights_hash",
]  # fmt: skip
