"""Gratings through known filters, the band-limited LR image, spectra against it, displacement."""

import math

import numpy as np
import pytest
import torch

from helpers.downscalers import DOWNSCALERS, resize, spectra
from helpers.downscalers.adaptive import dpid

FREQUENCIES = (np.arange(24) + 0.5) / 48  # cycles per HR pixel, 0 to 0.5


def noise(height=64, width=96, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def real(filter):  # without rounding
    return lambda hr, s: resize(hr.double(), (hr.shape[2] // s, hr.shape[3] // s), filter, rounded=False)


def plaid(down=0.0, right=0.0, side=64):  # smooth in both directions, moved by any part of a pixel
    v = torch.arange(side, dtype=torch.float64)[:, None] - down
    u = torch.arange(side, dtype=torch.float64) - right
    value = 0.5 + 0.2 * torch.cos(0.31 * v + 0.12 * u) + 0.2 * torch.sin(0.23 * u - 0.08 * v)
    return value.expand(1, 3, side, side)


# --- test pictures --------------------------------------------------------------------------------


def test_grating():
    wave = spectra.grating(4, 9, 0.25, amplitude=0.3)
    assert wave.shape == (1, 3, 4, 9) and wave.dtype == torch.float32
    expected = torch.tensor([0.8, 0.5, 0.2, 0.5, 0.8, 0.5, 0.2, 0.5, 0.8])
    assert torch.allclose(wave, expected.expand(1, 3, 4, 9), atol=1e-6)
    assert torch.allclose(spectra.grating(9, 4, 0.25, amplitude=0.3, axis="y"), wave.transpose(2, 3))
    turned = spectra.grating(4, 9, 0.25, amplitude=0.3, phase=math.pi)
    assert torch.allclose(turned + wave, torch.ones(1), atol=1e-6)
    assert torch.allclose(spectra.grating(2, 2, 0.0, amplitude=0.5), torch.ones(1))


# --- response -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_the_block_mean_has_a_dirichlet_kernel(scale):
    exact = np.sin(np.pi * FREQUENCIES * scale) / (scale * np.sin(np.pi * FREQUENCIES))
    for axis in ("x", "y"):
        measured = spectra.response(real("box"), scale, FREQUENCIES, axis=axis)
        assert np.abs(measured - exact).max() < 1e-5
    in_bytes = spectra.response(DOWNSCALERS["box"], scale, FREQUENCIES, amplitude=0.45)
    assert np.abs(in_bytes - exact).max() < 4e-3  # 8-bit levels


@pytest.mark.parametrize("filter", ["bicubic", "bilinear", "lanczos"])
def test_any_filter_has_the_transform_of_its_weights(filter):
    impulse = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    weights = []
    for column in range(64):  # the answer of LR pixel 8 to each HR column
        impulse.zero_()[..., column] = 1
        weights.append(real(filter)(impulse, 4)[0, 0, 8, 8].item())
    away = np.arange(64) - (8 * 4 + 1.5)
    exact = np.exp(2j * np.pi * FREQUENCIES[:, None] * away) @ np.array(weights)
    assert np.abs(exact.imag).max() < 1e-9
    assert np.abs(spectra.response(real(filter), 4, FREQUENCIES) - exact).max() < 1e-5
    in_bytes = spectra.response(DOWNSCALERS[filter], 4, FREQUENCIES, amplitude=0.4)
    assert np.abs(in_bytes - exact).max() < 4e-3


@pytest.mark.parametrize("name, shift", [("nearest", -0.5), ("nearest_topleft", 1.5)])
def test_single_pixels_pass_everything_and_shift(name, shift):
    for axis in ("x", "y"):
        measured = spectra.response(DOWNSCALERS[name], 4, FREQUENCIES, axis=axis)
        assert np.abs(np.abs(measured) - 1).max() < 4e-3  # below and above Nyquist
        assert -np.angle(measured[0]) / (2 * np.pi * FREQUENCIES[0]) == pytest.approx(shift, abs=0.02)


def test_response_scales_with_a_linear_filter_only():
    for amplitude in (0.1, 0.4):
        h = spectra.response(real("bicubic"), 4, FREQUENCIES[:6], amplitude=amplitude, phases=5, length=40)
        assert np.abs(h - spectra.response(real("bicubic"), 4, FREQUENCIES[:6])).max() < 1e-5
    clipped = spectra.response(lambda hr, s: real("box")(hr, s).clamp(0.4, 0.6), 4, FREQUENCIES[:2], amplitude=0.4)
    assert np.abs(clipped).max() < 0.5


def test_the_matlab_row_weights_shift_by_a_sixth_of_s_minus_1():
    for scale in (2, 4, 8):
        box = lambda hr, s: dpid(hr, s, lam=0.0, matlab_bug=True)  # noqa: E731
        h = spectra.response(box, scale, [0.002], axis="y")
        assert -np.angle(h[0]) / (2 * np.pi * 0.002) == pytest.approx((scale - 1) / 6, abs=1e-3)
        assert abs(np.angle(spectra.response(box, scale, [0.002], axis="x")[0])) < 1e-4


# --- the ideal LR image ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 4])
def test_ideal_keeps_below_and_removes_above_nyquist(scale):
    rows, columns = 64 // scale, 96 // scale

    def wave(k, m, step):  # one cosine of the DCT, sampled every `step` pixels
        v, u = (torch.arange(n // step, dtype=torch.float64) + 0.5 for n in (64, 96))
        return 0.5 + 0.4 * torch.cos(math.pi * k * v * step / 64)[:, None] * torch.cos(math.pi * m * u * step / 96)

    for k, m in ((3, 5), (rows - 1, columns - 1), (rows, 2), (1, columns + 3)):
        hr, small = wave(k, m, 1), wave(k, m, scale)
        inside = k < rows and m < columns
        expected = small if inside else torch.full_like(small, 0.5)
        assert torch.allclose(spectra.ideal(hr.expand(1, 3, 64, 96), scale)[0, 0], expected, atol=1e-9)


def test_ideal_has_no_alias():
    h = spectra.response(spectra.ideal, 4, FREQUENCIES, length=128)
    assert np.abs(h[FREQUENCIES > 1.2 / 8]).max() < 0.02
    assert np.abs(h[FREQUENCIES < 0.8 / 8] - 1).max() < 0.02
    assert spectra.ideal(noise().float(), 4).dtype == torch.float32
    assert torch.allclose(spectra.ideal(noise(), 1), noise(), atol=1e-9)


# --- spectra --------------------------------------------------------------------------------------


def test_transfer_of_the_ideal_itself_and_of_less_contrast():
    ideal = spectra.ideal(noise(192, 192), 4)
    same = spectra.transfer(ideal, ideal, 8)
    assert same.frequency == pytest.approx((np.arange(8) + 0.5) / 16)
    assert same.gain == pytest.approx(1) and same.ratio == pytest.approx(1) and same.foreign == pytest.approx(0)
    half = spectra.transfer(0.5 * ideal + 0.1, ideal, 8)
    assert half.gain == pytest.approx(0.5) and half.ratio == pytest.approx(0.25)
    assert half.foreign == pytest.approx(0, abs=1e-9) and half.power == pytest.approx(same.power / 4)


def test_transfer_counts_what_is_foreign():
    ideal = noise(64, 64) - 0.5
    other = noise(64, 64, seed=1) - 0.5
    mixed = spectra.transfer(ideal + 0.5 * other, ideal, 4)
    assert mixed.foreign == pytest.approx(0.2, abs=0.04) and mixed.gain == pytest.approx(1, abs=0.05)
    assert spectra.transfer(other, ideal, 4).foreign.min() > 0.9
    with pytest.raises(ValueError, match="bands"):
        spectra.transfer(ideal, ideal, 17)


def test_transfer_finds_the_response_of_a_filter():
    hr = noise(384, 384)
    result = spectra.transfer(real("box")(hr, 4), spectra.ideal(hr, 4), 8)
    # the block mean is separable: its mean over a ring lies between its values on the axis and on the diagonal
    f = result.frequency / 4
    axis = np.sin(np.pi * f * 4) / (4 * np.sin(np.pi * f))
    g = f / math.sqrt(2)
    diagonal = (np.sin(np.pi * g * 4) / (4 * np.sin(np.pi * g))) ** 2
    assert (result.gain > np.minimum(axis, diagonal) - 0.02).all()
    assert (result.gain < np.maximum(axis, diagonal) + 0.02).all()
    assert np.all(np.diff(result.foreign) > 0)  # aliases grow towards Nyquist
    nearest = spectra.transfer(DOWNSCALERS["nearest"](hr, 4), spectra.ideal(hr, 4), 4)
    assert nearest.ratio == pytest.approx(16, rel=0.15)  # white noise: all of 4 x 4 bands folded into one
    assert nearest.foreign.min() > 0.9


# --- displacement ---------------------------------------------------------------------------------


@pytest.mark.parametrize("down, right", [(0.0, 0.0), (0.2, -0.1), (-0.3, 0.25)])
def test_displacement(down, right):
    assert spectra.displacement(plaid(down, right), plaid()) == pytest.approx((down, right), abs=0.01)


def test_displacement_of_the_matlab_script():
    hr = resize(noise(64, 64).float(), (256, 256), "bicubic", rounded=False).clamp(0, 1)  # detail of four pixels
    for scale in (2, 4):
        moved, fixed = (dpid(hr, scale, lam=0.0, matlab_bug=bug) for bug in (True, False))
        down, right = (scale * x for x in spectra.displacement(moved, fixed))
        assert down == pytest.approx((scale - 1) / 6, abs=0.05) and right == pytest.approx(0, abs=0.02)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: spectra.grating(4, 4, 0.6), "frequency"),
        (lambda: spectra.grating(4, 4, math.nan), "frequency"),
        (lambda: spectra.grating(0, 4, 0.1), "pixels"),
        (lambda: spectra.grating(4, 4, 0.1, amplitude=0.6), "amplitude"),
        (lambda: spectra.grating(4, 4, 0.1, axis="z"), "axis"),
        (lambda: spectra.response(real("box"), 4, []), "frequencies"),
        (lambda: spectra.response(real("box"), 4, [0.0]), "frequencies"),
        (lambda: spectra.response(real("box"), 4, [0.1], phases=2), "phases"),
        (lambda: spectra.response(real("box"), 4, [0.1], length=8), "length"),
        (lambda: spectra.ideal(noise(), 5), "multiples of 5"),
        (lambda: spectra.ideal(noise() + 1, 4), "finite values in"),
        (lambda: spectra.transfer(noise(), noise(64, 64)), "two LR images"),
        (lambda: spectra.transfer(noise(), noise(), 0), "bands"),
        (lambda: spectra.displacement(noise(), noise(64, 64)), "two images"),
        (lambda: spectra.displacement(noise(8, 8), noise(8, 8)), "16x16"),
        (lambda: spectra.displacement(plaid() * 0 + 0.5, plaid() * 0 + 0.5), "gradients"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
