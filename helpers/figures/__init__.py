"""Draw figures for papers: one look per method, vector and bitmap files, text readable at column width."""

from helpers.figures.output import save
from helpers.figures.pictures import difference_maps, panels, sheet, to_pixels
from helpers.figures.rankings import (
    degradation_panels,
    interval_arms,
    plot_detection,
    plot_monotonicity,
    plot_paired,
    plot_ranking,
    plot_ranks,
    plot_side_by_side,
)
from helpers.figures.style import WIDTHS, look, size, use_style

__all__ = [
    "WIDTHS", "degradation_panels", "difference_maps", "interval_arms", "look", "panels", "plot_detection",
    "plot_monotonicity", "plot_paired", "plot_ranking", "plot_ranks", "save", "plot_side_by_side", "sheet", "size",
    "to_pixels", "use_style",
]  # fmt: skip
