"""Losses, schedules and the downscaler of PULSE: the official numbers, Pillow's filter, the written formula."""

import numpy as np
import pytest
import torch

from helpers.downscalers import filters
from helpers.runtime import seeded
from helpers.upscalers import pulse_losses
from tests.test_stylegan import differ, styles_of


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_bicubic_golden(shared, scale):
    golden = np.load(shared / "golden" / "pulse" / "bicubic.npz")
    down = pulse_losses.bicubic_proxy(torch.from_numpy(golden["x_64"]), scale)
    np.testing.assert_allclose(down, golden[f"y_64_f{scale}"], rtol=1e-5, atol=1e-6)
    impulse = torch.zeros(1, 1, 8 * scale, 8 * scale)
    taps = pulse_losses._proxy_matrix(8 * scale, scale, torch.float32, impulse.device)[4]
    first = 4 * scale - 3 * scale // 2
    np.testing.assert_allclose(taps[first : first + 4 * scale], golden[f"k_f{scale}"], rtol=1e-5, atol=1e-6)


def test_bicubic_golden_of_other_shapes_and_levels(shared):
    golden = np.load(shared / "golden" / "pulse" / "bicubic.npz")
    down = pulse_losses.bicubic_proxy(torch.from_numpy(golden["rect_x"]), 4)
    np.testing.assert_allclose(down, golden["rect_y_f4"], rtol=1e-5, atol=1e-6)
    levels = pulse_losses.bicubic_proxy(torch.from_numpy(golden["cr_x"]) / 255, 8, rounded=True) * 255
    np.testing.assert_allclose(levels, golden["cr_y_f8"], atol=1e-4)


def test_bicubic_is_pillows_inside():
    hr = torch.rand(2, 3, 64, 64, generator=seeded("hr"))
    difference = (pulse_losses.bicubic_proxy(hr, 4) - filters.bicubic_float(hr, 4)).abs()
    assert difference[..., 2:-2, 2:-2].max() < 1e-6
    assert difference.max() > 1e-3
    assert differ(pulse_losses.bicubic_proxy(torch.full((1, 3, 24, 16), 0.3), 4), torch.tensor(0.3)) < 1e-6


def test_bicubic_gradient():
    hr = torch.rand(1, 2, 8, 8, generator=seeded("hr"), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pulse_losses.bicubic_proxy(x, 2), hr)


@pytest.mark.parametrize("layers", [10, 18])
def test_losses_golden(shared, layers):
    file = np.load(shared / "golden" / "pulse" / "losses.npz")
    golden = {key.removeprefix(f"L{layers}_"): torch.from_numpy(file[key]) for key in file if f"L{layers}_" in key}
    styles = styles_of(golden["latent"])
    assert differ(styles, golden["w"]) < 1e-6
    styles = golden["w"].requires_grad_()
    found = pulse_losses.losses(golden["gen_lr"], golden["ref"], styles, ["L2", "L1", "GEOCROSS"], 2e-3)
    for name in found:
        assert found[name].shape == (2,)
        torch.testing.assert_close(found[name].sum(), golden[name.lower()], rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(found["GEOCROSS"].sum(), styles)
    torch.testing.assert_close(gradient, golden["geocross_grad"], rtol=1e-3, atol=1e-4)
    floored = pulse_losses.losses(golden["gen_lr"], golden["ref"], styles, ["L2"], 0.09)["L2"].sum()
    torch.testing.assert_close(floored, golden["l2_eps0.09"], rtol=1e-5, atol=1e-6)
    tiled = pulse_losses.geocross(styles_of(golden["tile_latent"]).expand(-1, layers, -1)).sum()
    torch.testing.assert_close(tiled, golden["geocross_tiled"], rtol=0, atol=1e-6)


def test_geocross_is_the_written_formula():
    w = torch.randn(2, 6, 8, generator=seeded("w"), dtype=torch.float64)
    apart = ((w[:, :, None] - w[:, None]).square().sum(3) + 1e-9).sqrt()
    across = ((w[:, :, None] + w[:, None]).square().sum(3) + 1e-9).sqrt()
    expected = (8 * (2 * torch.atan2(apart, across)).square()).mean((1, 2)) / 8
    torch.testing.assert_close(pulse_losses.geocross(w), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("steps", [100, 200])
@pytest.mark.parametrize("schedule", pulse_losses.SCHEDULES)
def test_schedules_golden(shared, schedule, steps):
    golden = np.load(shared / "golden" / "pulse" / "schedules.npz")[f"{schedule}_{steps}"]
    np.testing.assert_allclose(
        [pulse_losses.SCHEDULES[schedule](x, steps) for x in range(steps)], golden, rtol=0, atol=1e-12
    )


def test_images_that_cannot_be_downscaled_stop():
    for hr, scale in ((torch.zeros(1, 3, 9, 8), 2), (torch.zeros(1, 3, 4, 4), 4), (torch.zeros(3, 8, 8), 2)):
        with pytest.raises(ValueError, match="hr: expected shape"):
            pulse_losses.bicubic_proxy(hr, scale)
