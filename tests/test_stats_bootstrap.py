"""Resampled means against a resample by hand, rank correlations against SciPy."""

import itertools
import math

import numpy as np
from scipy import stats

from helpers.stats import bootstrap


def test_resampled_means_are_those_of_the_images_drawn_and_equal_columns_stay_equal():
    rng = np.random.default_rng(0)
    for n, columns in rng.integers(2, 60, (40, 2)):
        values = rng.standard_normal((n, columns))
        values[:, -1] = values[:, 0]
        means = bootstrap.resample_means(values, 200, bootstrap.generator(0, "images"))
        assert means.shape == (200, columns) and (means[:, 0] == means[:, -1]).all()
        counts = bootstrap.draw_counts(bootstrap.generator(0, "images"), n, 1)[0].astype(int)
        assert counts.sum() == n
        np.testing.assert_allclose(means[0], np.repeat(values, counts, axis=0).mean(axis=0), atol=1e-12)


def test_a_key_gives_its_own_numbers():
    draws = [bootstrap.generator(*key).random() for key in ((0, "images"), (0, "images"), (1, "images"), (0, "x"))]
    assert draws[0] == draws[1] and len(set(draws)) == 3


def test_rank_correlations_are_scipys_with_ties():
    a, b = np.random.default_rng(1).integers(0, 4, (2, 50, 6)).astype(float)
    f, g = np.array(list(itertools.combinations(range(6), 2))).T
    taus, rhos = bootstrap.tau(a[:, f] - a[:, g], b[:, f] - b[:, g]), bootstrap.spearman(a, b)
    for k in range(50):
        np.testing.assert_allclose(taus[k], stats.kendalltau(a[k], b[k]).statistic, atol=1e-12)
        np.testing.assert_allclose(rhos[k], stats.spearmanr(a[k], b[k]).statistic, atol=1e-12)
    assert math.isnan(bootstrap.spearman(np.ones((1, 4)), a[:1, :4])[0])
    assert math.isnan(bootstrap.tau(np.zeros((1, 3)), np.ones((1, 3)))[0])
