"""Resample photographs, and compute rank correlations on all resamples at once.

A resample of n photographs is written as n counts, how often each was drawn. Every function that resamples takes its
counts from here; only the seed differs, and each function keeps its own so that published intervals stay as they are.
"""

import numpy as np
import pandas as pd
from scipy import stats

from helpers.runtime import seeded


def generator(*key: int | str) -> np.random.Generator:
    """A NumPy generator for a key of integers and words; equal keys give equal numbers."""
    return np.random.default_rng(seeded(*key).initial_seed())


def draw_counts(rng: np.random.Generator, n: int, n_resamples: int) -> np.ndarray:
    """How often each of `n` photographs is drawn in each resample, shape (n_resamples, n), float64; rows sum to n."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(np.float64)


def resample_means(values: np.ndarray | pd.DataFrame, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means over resampled photographs, shape (n_resamples, columns).

    Args:
        values: one row per photograph, shape (photographs, columns); all columns see the same resamples.
        n_resamples: number of resamples.
        rng: generator of the counts; it is advanced.
    """
    counts = draw_counts(rng, len(values), n_resamples)
    # column by column: one matrix product gives equal columns different last bits, and ties would break
    return np.stack([counts @ np.array(column) for column in np.asarray(values).T], axis=1) / len(values)


def tau(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each line, from the differences of all pairs.

    Args:
        a, b: differences f - g (or sums of them), shape (lines, pairs); only their signs count.

    Returns:
        Shape (lines,); NaN where one side has ties only.
    """
    return _cosines(np.sign(a), np.sign(b))


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rho of each line of two tables of shape (lines, conditions); NaN where one has ties only."""
    centred = (stats.rankdata(x, axis=1) - (x.shape[1] + 1) / 2 for x in (a, b))
    return _cosines(*centred)


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    length = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), length, out=np.full(len(length), np.nan), where=length > 0)
