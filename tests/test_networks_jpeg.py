"""JPEG as layers: order, cosines, colours, rounding; the surrogate against its official vectors and against Pillow."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from helpers import degradations
from helpers.networks import jpeg
from helpers.networks.jpeg import DiffJPEG
from helpers.runtime import seeded
from tests.pictures import noise, waves
from tests.rescaling import differ, read


def test_frequencies_follow_the_diagonals():
    assert [divmod(place, 8) for place in jpeg.ZIGZAG[:7]] == [(0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (0, 3)]
    assert jpeg.ZIGZAG[-6:] == (61, 54, 47, 55, 62, 63)
    assert sorted(jpeg.ZIGZAG) == list(range(64))
    blocks = torch.rand(2, 3, 8, 8, generator=seeded("blocks"))
    assert torch.equal(jpeg.from_zigzag(jpeg.to_zigzag(blocks)), blocks)
    assert jpeg.to_zigzag(blocks)[1, 2, 3] == blocks[1, 2, 2, 0]  # the fourth is a vertical frequency


def test_tables_are_those_that_pillow_writes_at_quality_50():
    Image.new("RGB", (8, 8)).save(file := io.BytesIO(), format="JPEG", quality=50)
    written = Image.open(file).quantization  # natural order
    for number, table in enumerate((jpeg.LUMINANCE, jpeg.CHROMINANCE)):
        assert list(written[number]) == np.ravel(table).tolist()


def test_the_cosine_transform_is_orthonormal_and_inverted():
    planes = torch.randn(2, 3, 16, 24, generator=seeded("planes"), dtype=torch.float64)
    blocks = jpeg.to_blocks(planes)
    assert blocks.shape == (2, 3, 2, 3, 8, 8)
    expected = dctn(planes[1, 2, 8:, 16:].numpy(), norm="ortho")
    np.testing.assert_allclose(blocks[1, 2, 1, 2].numpy(), expected, atol=1e-12)
    torch.testing.assert_close(jpeg.from_blocks(blocks), planes, rtol=0, atol=1e-12)


def test_colours_are_those_of_pillow():
    rgb = noise(1, 16, 16)
    levels = (rgb[0] * 255).permute(1, 2, 0).byte().numpy()
    expected = np.asarray(Image.fromarray(levels).convert("YCbCr")).astype(float) - [0, 128, 128]
    found = jpeg.to_ycbcr(rgb * 255)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 1.0
    torch.testing.assert_close(jpeg.to_rgb(jpeg.to_ycbcr(rgb * 255)), rgb * 255, rtol=0, atol=1e-3)


def test_smooth_rounding_keeps_integers_and_nears_the_next_one():
    whole = torch.arange(-3.0, 4, dtype=torch.float64)
    torch.testing.assert_close(jpeg.smooth_round(whole), whole, rtol=0, atol=1e-12)
    x = torch.tensor([0.25], dtype=torch.float64)
    odd = sum((-1) ** ((n - 1) // 2) / n for n in (1, 3, 5, 7, 9))  # at a quarter only odd waves are left
    assert jpeg.smooth_round(x).item() == pytest.approx(0.25 - odd / np.pi, abs=1e-12)
    x = torch.linspace(-2.4, 2.4, 97, dtype=torch.float64).requires_grad_()
    far = (x.detach() - x.detach().round()).abs() < 0.4
    assert (jpeg.smooth_round(x) - x.round()).abs()[far].max() < 0.06
    assert jpeg.smooth_round(x).sum().backward() is None and x.grad.abs().max() > 1


@pytest.mark.parametrize(
    ("quality", "factor"), [(1, 50), (25, 2), (49, 50 / 49), (50, 1), (75, 0.5), (90, 0.2), (99, 0.02)]
)
def test_factor_of_the_tables(quality, factor):
    assert jpeg.factor_of(quality) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize("quality", [0, 100, -5, 101, float("nan")])
def test_qualities_without_a_factor_are_refused(quality):
    with pytest.raises(ValueError, match=r"quality: expected a number from 1 to 99, got"):
        DiffJPEG(quality)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("quality", [30, 75, 90])
def test_official_vectors(quality, dtype, shared):
    golden = read(shared, "sain_x2")
    lr = golden["lr_u8"].to(dtype) / 255
    for name, differentiable in (("diff", True), ("hard", False)):
        found = DiffJPEG(quality, differentiable)(lr)
        assert found.dtype == dtype
        assert differ(found, golden[f"diffjpeg_{name}_q{quality}"]) < (1e-5 if dtype == torch.float32 else 2e-6)


def test_a_gradient_passes_the_differentiable_one_alone():
    for differentiable in (True, False):
        lr = waves(1, 32, 48).requires_grad_()
        DiffJPEG(75, differentiable)(lr).square().sum().backward()
        assert (lr.grad.abs().sum() > 0) == differentiable


def test_a_batch_is_its_images():
    lr, codec = waves(3, 32, 48), DiffJPEG(60)
    torch.testing.assert_close(codec(lr), torch.cat([codec(one) for one in lr.split(1)]), rtol=0, atol=1e-6)


def test_better_quality_changes_less():
    lr = waves(1, 64, 96)
    changes = [(DiffJPEG(quality, False)(lr) - lr).abs().mean().item() for quality in (20, 50, 80, 95)]
    assert changes == sorted(changes, reverse=True) and changes[0] > 2 * changes[-1]


def test_grey_pictures_come_out_as_from_pillow():
    """At quality 50 the tables are equal, grey has no chroma: what is left is rounding to 8 bits on the way."""
    grey = waves(1, 64, 96).mean(1, keepdim=True).mul(255).round().div(255).expand(-1, 3, -1, -1).contiguous()
    apart = (DiffJPEG(50, False)(grey) - degradations.jpeg(grey, 50)).abs() * 255
    assert apart.mean() < 0.3 and (apart <= 1.5).double().mean() > 0.98  # a few coefficients round the other way
    assert ((degradations.jpeg(grey, 50) - grey).abs() * 255).mean() > 1.5  # what JPEG itself changes


@pytest.mark.parametrize("quality", [30, 50, 75, 90])
def test_coloured_pictures_come_out_as_from_pillow_but_for_the_chroma(quality):
    """Pillow interpolates chroma and rounds tables: less than 2 levels on average, and 0.6 of what JPEG changes."""
    from skimage import data

    hr = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None] / 255
    real = degradations.jpeg(hr, quality)
    apart = ((DiffJPEG(quality, False)(hr) - real).abs() * 255).mean()
    assert apart < 2.0 and apart < 0.6 * ((real - hr).abs() * 255).mean()


def test_sides_without_whole_chroma_blocks_are_refused():
    for shape in ((1, 3, 24, 32), (1, 3, 32, 40)):
        with pytest.raises(ValueError, match=f"multiples of 16, got {shape[2]}x{shape[3]}"):
            DiffJPEG()(torch.rand(shape))
