"""PSNR and SSIM of the luma, as tables of super-resolution have them, against scikit-image."""

import math

import pytest
import torch
from skimage import color, metrics

from helpers.distortions.luma import luma, psnr_y, ssim_y
from helpers.images import quantize
from tests.pictures import noise, waves


def of_skimage(images, border):
    planes = [color.rgb2ycbcr(image.permute(1, 2, 0).double().numpy())[..., 0] for image in quantize(images.double())]
    return [plane[border:-border, border:-border] if border else plane for plane in planes]


def test_luma_is_that_of_matlab():
    corners = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0]], dtype=torch.float64).view(3, 3, 1, 1)
    assert (255 * luma(corners)).flatten().tolist() == pytest.approx([16, 235, 81.481], abs=1e-9)


@pytest.mark.parametrize("border", [0, 4])
def test_values_are_those_of_scikit_image(border):
    hr = waves(2, 40, 48)
    sr = hr + 0.05 * (noise(2, 40, 48) - 0.5)  # beyond [0, 1] and between levels
    for n, (one, two) in enumerate(zip(of_skimage(sr, border), of_skimage(hr, border), strict=True)):
        assert psnr_y(sr, hr, border)[n].item() == pytest.approx(
            metrics.peak_signal_noise_ratio(two, one, data_range=255), abs=1e-4
        )
        window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
        whole = metrics.structural_similarity(two, one, full=True, **window)[1]
        assert ssim_y(sr, hr, border)[n].item() == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-4)


def test_a_border_of_errors_does_not_count():
    hr = waves(1, 32, 32)
    sr = hr.clone()
    sr[..., :2, :] = 1 - sr[..., :2, :]
    assert psnr_y(sr, hr, 2).item() == math.inf and psnr_y(sr, hr, 1).item() < 40
    assert ssim_y(sr, hr, 2).item() == pytest.approx(1)


def test_what_cannot_be_compared_is_refused():
    hr = waves(1, 16, 16)
    for sr, border in ((waves(1, 16, 18), 2), (hr, 8), (hr, -1)):
        with pytest.raises(ValueError, match="expected sr of the shape of hr and at least 1 pixels within a border"):
            psnr_y(sr, hr, border)
    with pytest.raises(ValueError, match="at least 11 pixels within a border of 3"):
        ssim_y(hr, hr, 3)
    with pytest.raises(ValueError, match="sr: expected finite"):
        psnr_y(hr * torch.nan, hr, 2)
