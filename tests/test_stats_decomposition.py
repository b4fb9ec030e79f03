"""Bias and spread against the Gaussian channel of which everything is known; the floor on random images."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import distortions
from helpers.downscalers import DOWNSCALERS
from helpers.downscalers.filters import matlab_bicubic
from helpers.images import quantize
from helpers.runtime import seeded
from helpers.stats import agreement, rankings
from helpers.stats import decomposition as dc


def rows_of(values: dict, **columns) -> pd.DataFrame:
    """Rows from {distortion: {condition: (images, draws)}}."""
    lines = [
        {"image": f"i{i:03d}", "downscaler": name, "seed": 0, "sample": q, "distortion": distortion, "value": value}
        for distortion, conditions in values.items()
        for name, table in conditions.items()
        for i, draws in enumerate(np.asarray(table, dtype=float))
        for q, value in enumerate(draws)
    ]
    return pd.DataFrame(lines).assign(**columns)


def made(x: np.ndarray, draws: np.ndarray) -> dict:
    """ "mse" and "mse_of_mean" of x (images, pixels) and draws (images, N, pixels); NaN draws stay NaN."""
    finite = np.isfinite(draws).all(2)
    running = [
        [np.mean((x[i] - draws[i, : q + 1][finite[i, : q + 1]].mean(0)) ** 2) if finite[i, : q + 1].any() else math.nan
         for q in range(draws.shape[1])] for i in range(len(x))
    ]  # fmt: skip
    return {"mse": ((x[:, None] - draws) ** 2).mean(2), "mse_of_mean": running}


def rows_from(x: np.ndarray, **samplers: np.ndarray) -> pd.DataFrame:
    tables = {name: made(x, draws) for name, draws in samplers.items()}
    return rows_of({d: {name: table[d] for name, table in tables.items()} for d in dc.SPLIT})


def channel(images: int = 400, draws: int = 5, pixels: int = 16, noise: float = 0.8) -> pd.DataFrame:
    """x ~ N(0, 1) seen through y = x + n; the exact posterior, and one that is biased and too sure."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((images, pixels))
    y = x + noise * rng.standard_normal((images, pixels))
    mean, deviation = y / (1 + noise**2), noise / math.sqrt(1 + noise**2)
    unit = rng.standard_normal((images, draws, pixels))
    posterior = mean[:, None] + deviation * unit
    return rows_from(x, posterior=posterior, biased=0.5 + mean[:, None] + 0.5 * deviation * unit)


CHANNEL = channel()


# E0 -------------------------------------------------------------------------------------------------


def test_score_is_bias_plus_spread_exactly_and_the_spread_is_the_variance_of_the_draws():
    rng = np.random.default_rng(0)
    x, draws = rng.random((6, 40)), rng.random((6, 4, 40))
    table = dc.split_per_image(rows_from(x, a=draws))
    np.testing.assert_allclose(table["score"]["a"], table["bias"]["a"] + table["spread"]["a"], rtol=1e-14)
    np.testing.assert_allclose(table["spread"]["a"], draws.var(axis=1, ddof=1).mean(1), rtol=1e-12)
    np.testing.assert_allclose(table["score"]["a"], ((x[:, None] - draws) ** 2).mean((1, 2)), rtol=1e-14)
    assert (table["draws"]["a"] == 4).all()
    means = dc.split(rows_from(x, a=draws)).iloc[0]
    assert means.score == pytest.approx(means.bias + means.spread, rel=1e-14)


@pytest.mark.parametrize("draws", [2, 5])
def test_the_exact_posterior_of_a_gaussian_channel_is_calibrated_and_a_biased_sampler_is_not(draws):
    noise = 0.8
    table = dc.split(channel(draws=draws, noise=noise)).set_index("downscaler")
    least = noise**2 / (1 + noise**2)  # MMSE(x | y)
    exact, biased = table.loc["posterior"], table.loc["biased"]
    assert exact.rho_ideal == pytest.approx(2 * draws / (draws + 1))
    assert exact.rho == pytest.approx(exact.rho_ideal, abs=0.03) and exact.rho_low < exact.rho_ideal < exact.rho_high
    assert exact.bias == pytest.approx(least, rel=0.03) and exact.spread == pytest.approx(least, rel=0.03)
    assert exact.score == pytest.approx(2 * least, rel=0.03)
    assert biased.bias == pytest.approx(least + 0.25, rel=0.03) and biased.spread == pytest.approx(least / 4, rel=0.03)
    assert biased.rho_high < exact.rho_ideal - 0.2


def test_a_calm_sampler_wins_by_score_and_loses_by_bias():
    """The reason for the split: the score prefers a sampler that hides what it does not know."""
    table = dc.split(CHANNEL).set_index("downscaler")
    assert table["rank"]["biased"] == 1 and table.rank_bias["biased"] == 2
    parts = dc.split_per_image(CHANNEL)
    assert agreement.rank_agreement(parts["score"], parts["bias"]).value == -1
    assert rankings.per_image(CHANNEL[CHANNEL.distortion == "mse"])["mean"].equals(parts["score"])
    assert list(dc.split(CHANNEL).downscaler) == ["biased", "posterior"]


def test_intervals_resample_the_same_images_for_all_conditions_and_shrink_with_images():
    twice = pd.concat([CHANNEL, CHANNEL[CHANNEL.downscaler == "posterior"].assign(downscaler="copy")])
    table = dc.split(twice).set_index("downscaler")
    assert (table.loc["copy"] == table.loc["posterior"]).drop(["rank", "rank_bias"]).all()
    few = dc.split(CHANNEL[CHANNEL.image < "i040"]).set_index("downscaler")
    assert (few.rho_high - few.rho_low > 2 * (table.rho_high - table.rho_low)[few.index]).all()
    again = dc.split(CHANNEL.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(again, dc.split(CHANNEL))


def test_several_columns_make_the_conditions_and_other_distortions_are_ignored():
    more = pd.concat([CHANNEL.assign(heat=1.0), CHANNEL.assign(heat=0.5)])
    more = pd.concat([more, more[more.distortion == "mse"].assign(distortion="1-ssim", value=9.0)])
    table = dc.split(more, ["heat", "downscaler"])
    assert list(table.columns[:2]) == ["heat + downscaler", "score"] and len(table) == 4
    with pytest.raises(ValueError, match="expected one heat"):
        dc.split(more)


def test_nan_draws_leave_the_split_exact_and_an_image_without_two_draws_is_left_out_everywhere():
    rng = np.random.default_rng(0)
    x, draws = rng.random((5, 30)), rng.random((5, 4, 30))
    broken = draws.copy()
    broken[0, 3], broken[1, 0], broken[2, 1:] = np.nan, np.nan, np.nan
    rows = rows_from(x, whole=draws, broken=broken)
    table = dc.split_per_image(rows)
    assert table["draws"]["broken"].tolist()[:2] == [3, 3] and math.isnan(table["draws"]["broken"].iloc[2])
    np.testing.assert_allclose(table["spread"]["broken"].iloc[:2], [np.var(draws[0, :3], axis=0, ddof=1).mean(),
                               np.var(draws[1, 1:], axis=0, ddof=1).mean()], rtol=1e-12)  # fmt: skip
    means = dc.split(rows).set_index("downscaler")
    assert (means.n == 4).all() and (means.left_out == 1).all()
    assert means.score["whole"] == pytest.approx(((x[:, None] - draws) ** 2).mean((1, 2))[[0, 1, 3, 4]].mean())
    assert means.rho_ideal["broken"] < means.rho_ideal["whole"] == pytest.approx(1.6)
    # where the store keeps NaN for the mean image of a broken draw, the last finite one counts
    lost = (
        rows.distortion.eq("mse_of_mean") & rows.image.eq("i000") & rows["sample"].eq(3) & rows.downscaler.eq("broken")
    )
    pd.testing.assert_frame_equal(dc.split(rows.assign(value=rows.value.where(~lost))), dc.split(rows))


def test_bad_rows_are_refused_with_what_is_missing():
    with pytest.raises(ValueError, match="as many rows of each of mse, mse_of_mean, got .*'mse_of_mean': 0"):
        dc.split(CHANNEL[CHANNEL.distortion == "mse"])
    with pytest.raises(ValueError, match="expected an image with two finite draws or more, got 1"):
        dc.split(CHANNEL[CHANNEL["sample"] == 0])
    with pytest.raises(ValueError, match="expected an image with two finite draws or more, got 0"):
        dc.split(CHANNEL.assign(value=math.nan))
    with pytest.raises(ValueError, match="got none of \\['sample'\\]"):
        dc.split(CHANNEL.drop(columns="sample"))
    with pytest.raises(ValueError, match="expected one seed"):
        dc.split(pd.concat([CHANNEL, CHANNEL.assign(seed=1)]))
    moved = CHANNEL.assign(sample=CHANNEL["sample"] + (CHANNEL.distortion == "mse"))
    with pytest.raises(ValueError, match="expected the same draws of mse and mse_of_mean"):
        dc.split(moved)
    halves = CHANNEL[(CHANNEL.downscaler == "biased") == (CHANNEL.image < "i200")]
    with pytest.raises(ValueError, match="expected an image that all conditions have"):
        dc.split(halves)


# E1 -------------------------------------------------------------------------------------------------


def floor_rows(hr: torch.Tensor, lr: torch.Tensor, sr: torch.Tensor) -> pd.DataFrame:
    values = {}
    for name in dc.FLOOR:
        options = {} if name == "mse" else {"lr": lr}
        values[name] = {"f": distortions.against(name, hr, **options)(sr).double()[None].numpy()}
    return rows_of(values)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", ["bicubic", "nearest", "box"])
def test_the_floor_holds_on_random_images(scale, name):
    generator = seeded(0, name, scale)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 10, generator=generator), scale_factor=4)
    hr = quantize(0.5 * smooth + 0.5 * torch.rand(1, 3, 48, 40, generator=generator))
    lr = quantize(DOWNSCALERS[name](hr, scale))
    sr = torch.stack(
        [hr[0].roll(1, 1), hr[0], torch.rand(3, 48, 40, generator=generator), 0 * hr[0], 0.3 * hr[0] + 0.4]
    )
    table = dc.floor(floor_rows(hr, lr, sr)).iloc[0]
    assert table.slack > -1e-6 and 0 <= table.floor_share <= 1
    assert table.excess == pytest.approx(table.score - table.floor)


def test_the_floor_is_reached_when_the_error_is_constant():
    hr = quantize(0.2 + 0.5 * torch.rand(1, 3, 48, 40, generator=seeded(0)))
    lr = matlab_bicubic(hr, 4, rounded=False)  # y = Bx, so B(x + c) - y is the constant c
    table = dc.floor(floor_rows(hr, lr, hr + 0.1)).iloc[0]
    assert table.score == pytest.approx(0.01, rel=1e-5) and table.p_lr > 90
    assert table.slack == pytest.approx(0, abs=1e-4) and table.floor_share == pytest.approx(1, abs=1e-2)


def test_floor_by_hand_over_images_and_draws():
    rows = rows_of({"mse": {"f": [[0.25, 0.09], [0.16, 0.16]]}, "lr_mse": {"f": [[0.16, 0.16], [0.01, 0.01]]},
                    "consistency_mse": {"f": [[0.04, 0.16], [0.04, 0.01]]}})  # fmt: skip
    table = dc.floor_per_image(rows)
    assert table["floor"]["f"].tolist() == pytest.approx([(0.2**2 + 0) / 2, 0.1**2 / 2])
    assert table["slack"]["f"].tolist() == pytest.approx([0.3, 0.3])
    line = dc.floor(rows).iloc[0]
    assert line.p_lr == pytest.approx(-10 * math.log10(0.085)) and line.n == 2
    assert line.consistency == pytest.approx(-10 * math.log10(0.0625))
    assert line.floor_share == pytest.approx(0.0125 / line.score) and line.excess == pytest.approx(line.score - 0.0125)
    assert line.floor_low <= line.floor <= line.floor_high


def test_floor_leaves_out_nan_draws_and_refuses_missing_rows():
    rows = rows_of({"mse": {"f": [[0.25, math.nan], [math.nan, math.nan], [0.1, 0.1]]},
                    "lr_mse": {"f": [[0.16, 0.16], [0.01, 0.01], [0.01, 0.01]]},
                    "consistency_mse": {"f": [[0.04, math.nan], [math.nan, math.nan], [0.01, 0.01]]}})  # fmt: skip
    rows = rows.assign(value=rows.value)
    both = pd.concat([rows, rows.assign(downscaler="g", value=0.04)])
    line = dc.floor(both).set_index("downscaler").loc["f"]
    assert line.n == 2 and line.left_out == 1 and line.score == pytest.approx(0.175)
    with pytest.raises(ValueError, match="expected a finite draw, got none"):
        dc.floor(rows.assign(value=math.nan))
    with pytest.raises(ValueError, match="mse, lr_mse, consistency_mse, got .*'lr_mse': 0"):
        dc.floor(rows[rows.distortion != "lr_mse"])


def test_one_image_has_no_interval():
    line = dc.split(CHANNEL[CHANNEL.image == "i000"]).iloc[0]
    assert line.n == 1 and math.isfinite(line.rho) and math.isnan(line.rho_low) and math.isnan(line.score_high)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("n", "known"), [(2, False), (5, False), (6, True)])
def test_a_part_without_spread_has_no_interval_at_few_photographs(n, known):
    """Not one of width 0, which would be certain; the LR image of bicubic is at 0 of itself on all of them."""
    rng = np.random.default_rng(0)
    rows = rows_of({"mse": {"f": rng.random((n, 2))}, "lr_mse": {"f": np.zeros((n, 2))},
                    "consistency_mse": {"f": rng.random((n, 2))}})  # fmt: skip
    line = dc.floor(rows).iloc[0]
    assert line.lr == 0 and math.isnan(line.lr_low) != known and math.isnan(line.lr_high) != known
    assert line.score_low < line.score < line.score_high


def test_the_one_draw_of_a_deterministic_upscaler_has_no_spread():
    rng = np.random.default_rng(2)
    x, answers = rng.standard_normal((6, 8)), rng.standard_normal((6, 1, 8))
    rows = rows_from(x, sharp=answers, soft=answers / 2)
    found = dc.split(rows.assign(heat=0.0)).set_index("downscaler")
    expected = ((x - answers[:, 0] / 2) ** 2).mean()
    assert found.score["soft"] == found.bias["soft"] == pytest.approx(expected)
    assert (found.spread == 0).all() and (found.draws == 1).all() and (found.rho == 1).all()
    for heat in (1.0, "1.0+0.0"):
        with pytest.raises(ValueError, match="expected an image with two finite draws"):
            dc.split(rows.assign(heat=heat))
