"""Figures for papers: one look for every method, vector and bitmap, readable at column width."""

from helpers.figures.rankings import (
    WIDTHS,
    degradation_panels,
    difference_maps,
    look,
    panels,
    plot_monotonicity,
    plot_paired,
    plot_ranking,
    plot_ranks,
    save,
    size,
    use_style,
)

__all__ = [
    "WIDTHS", "degradation_panels", "difference_maps", "look", "panels", "plot_monotonicity", "plot_paired",
    "plot_ranking", "plot_ranks", "save", "size", "use_style",
]  # fmt: skip
