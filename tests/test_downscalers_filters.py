"""Filters: byte for byte with Pillow, golden vectors of other programs, MATLAB's borders."""

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from helpers.downscalers import DOWNSCALERS, resize
from helpers.downscalers import filters as ds
from helpers.images import from_uint8, quantize
from tests.pictures import GOLDENS, from_file, noise, pixels, read_golden, waves

PILLOW = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # Image.Resampling
INSTALLED = "pillow" if int(PIL.__version__.split(".")[0]) >= 13 else "pillow12"  # the order of the two passes


def by_pillow(images, size, filter):
    array = pixels(images).round().astype(np.uint8)
    resized = np.array(Image.fromarray(array).resize((size[1], size[0]), PILLOW[filter]))
    return from_uint8(torch.from_numpy(resized)).permute(2, 0, 1)[None]


# --- Pillow, exactly ------------------------------------------------------------------------------


@pytest.mark.parametrize("filter", PILLOW)
def test_resize_is_pillow_at_any_size(filter):
    rng = np.random.default_rng(1)
    for case in range(40):
        height, width, *size = (int(n) for n in rng.integers(1, 90, 4))
        images = noise(1, height, width, seed=case)
        if case % 2:
            images = images.round()  # black and white: every overshoot is clipped
        assert torch.equal(resize(images, size, filter, convention=INSTALLED), by_pillow(images, size, filter))


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("name", PILLOW)
def test_downscalers_are_pillow(name, scale):
    for images in (noise(), waves(1, 48, 72), noise().round()):
        expected = by_pillow(images, (48 // scale, 72 // scale), name)
        assert torch.equal(DOWNSCALERS[name](images, scale), expected)
        between = (images + 0.3 / 255 * (torch.arange(72) % 3 - 1)).clamp(0, 1)  # rounds to the same levels
        assert torch.equal(DOWNSCALERS[name](between, scale), expected)


@pytest.mark.parametrize("width, n_out", [(64, 23), (90, 37)])
def test_the_last_bit_of_the_weights(width, n_out):
    images = noise(1, 20000, width)  # one weight off by 2^-22 shows in a few of a million pixels
    assert torch.equal(resize(images, (20000, n_out), "hamming"), by_pillow(images, (20000, n_out), "hamming"))


def test_tall_pictures_follow_the_version_of_pillow():
    images = noise(1, 176, 32).round()
    by_version = {c: resize(images, (44, 8), "lanczos", convention=c) for c in ("pillow", "pillow12")}
    assert not torch.equal(*by_version.values())
    assert torch.equal(by_version[INSTALLED], by_pillow(images, (44, 8), "lanczos"))
    limit = images[:, :, :64]  # twice as tall as wide, not more: all versions agree
    assert torch.equal(resize(limit, (16, 8)), resize(limit, (16, 8), convention="pillow12"))


def test_official_lr_files(shared):
    folder = shared / "data" / "idard_samples"
    paths = sorted((folder / "lr").rglob("*.png"))
    assert len(paths) == 18
    for path in paths:
        method, size = path.parent.name.lower().split("_")
        lr = DOWNSCALERS[method](from_file(folder / "hr" / path.name), 1024 // int(size))
        assert torch.equal(lr, from_file(path)), path


# --- golden vectors -------------------------------------------------------------------------------


@pytest.mark.parametrize("image, size", GOLDENS)
def test_golden_filters(shared, image, size):
    hr, arrays, _ = read_golden(shared, image, size)
    exact = (hr.double() * 255).round() / 255
    shape = arrays["pil_box"].shape[:2]
    for filter in PILLOW:
        assert np.array_equal(pixels(resize(hr, shape, filter)).round(), arrays[f"pil_{filter}"])
    for filter in ("box", "bilinear", "bicubic", "lanczos"):
        lr = pixels(resize(exact, shape, filter, rounded=False))
        np.testing.assert_allclose(lr, arrays[f"pilfloat_{filter}"], rtol=0, atol=1e-4)
    for filter in ("bilinear", "bicubic"):  # torch with antialiasing is the same filter
        lr = pixels(resize(exact, shape, filter, rounded=False))
        np.testing.assert_allclose(lr, arrays[f"torch_{filter}_aa"], rtol=0, atol=1e-4)
    for name in ("box", "bilinear", "bicubic", "lanczos2", "lanczos3"):
        filter = name.removesuffix("3")
        lr = pixels(resize(exact, shape, filter, convention="matlab", rounded=False))
        np.testing.assert_allclose(lr, arrays[f"matlab_{name}"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("image, size", [case for case in GOLDENS if case[1].startswith("x")])
def test_golden_variants(shared, image, size):
    hr, arrays, scale = read_golden(shared, image, size)
    for filter in ("bilinear", "bicubic"):
        rounded = pixels(DOWNSCALERS[f"matlab_{filter}"](hr, scale))
        assert np.abs(rounded - arrays[f"matlab8_{filter}"]).max() < 1.01
        plain = DOWNSCALERS[f"torch_{filter}"]((hr.double() * 255).round() / 255, scale)
        np.testing.assert_allclose(pixels(plain), arrays[f"torch_{filter}"], rtol=0, atol=1e-4)
        opencv = arrays["cv2_" + {"bilinear": "linear", "bicubic": "cubic"}[filter]]
        assert np.abs(pixels(quantize(plain)) - opencv).max() < 1.01
    assert np.array_equal(pixels(ds.nearest_topleft(hr, scale)).round(), arrays["cv2_nearest"])
    assert np.abs(pixels(ds.box(hr, scale)) - arrays["cv2_area"]).max() < 1.01


# --- definitions, written out slowly --------------------------------------------------------------


def test_matlab_is_pillow_inside_and_mirrors_outside():
    hr = noise(1, 32, 32, dtype=torch.float64)
    matlab = ds.matlab_bicubic(hr, 4, rounded=False)
    assert torch.allclose(matlab[..., 2:-2, 2:-2], ds.bicubic_float(hr, 4)[..., 2:-2, 2:-2], atol=1e-12)
    assert not torch.allclose(matlab, ds.bicubic_float(hr, 4), atol=1e-3)
    mirrored = torch.cat([hr.flip(3), hr, hr.flip(3)], 3)
    mirrored = torch.cat([mirrored.flip(2), mirrored, mirrored.flip(2)], 2)
    assert torch.allclose(matlab, ds.bicubic_float(mirrored, 4)[..., 8:16, 8:16], atol=1e-12)
    assert (ds.matlab_bicubic(hr, 4) - matlab.clamp(0, 1)).abs().max() < 1.5 / 255  # two roundings


def test_bicubic_float_trains():
    hr = waves().requires_grad_()
    ds.bicubic_float(hr, 4).sum().backward()
    assert torch.allclose(hr.grad.sum(), torch.tensor(3 * 16 * 24.0), rtol=1e-4)  # the weights of a pixel sum to 1
    beyond = resize(2 * waves(), (16, 24), rounded=False)  # an unclipped SR image is fine
    assert torch.allclose(beyond, 2 * ds.bicubic_float(waves(), 4), atol=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: resize(noise(), (4, 4), "cubic"), "filter"),
        (lambda: resize(noise(), (4, 4), convention="opencv"), "convention"),
        (lambda: resize(noise(), (4, 4), "nearest", convention="matlab"), "convention"),
        (lambda: resize(noise(), (0, 4)), "size"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()


LINEAR = ["box", "bilinear", "hamming", "bicubic", "lanczos"]


def test_a_checkerboard_seen_from_afar_is_grey_188_and_not_128():
    """Half of the light is 0.735 in sRGB (IEC 61966-2-1), level 187.5."""
    board = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2).float().expand(1, 3, 64, 64)
    for filter in LINEAR:
        for scale in (2, 4, 8):
            middle = (Ellipsis, slice(8 // scale * 3, -8 // scale * 3), slice(8 // scale * 3, -8 // scale * 3))
            light = DOWNSCALERS[f"{filter}_linear"](board, scale)[middle] * 255
            assert (light - 187.516).abs().max() < (0.01 if filter == "box" else 1.5), filter
            assert (DOWNSCALERS[filter](board, scale)[middle] * 255 - 127.5).abs().max() < 2
    assert set(quantize(DOWNSCALERS["box_linear"](board, 4)).mul(255).round().unique().tolist()) == {188}


@pytest.mark.parametrize("filter", LINEAR)
def test_linear_light_is_decode_filter_encode(filter):
    """Against the curve of IEC 61966-2-1 in NumPy and Pillow's own filter on floats; grey levels stay."""
    hr = waves(1, 48, 72)
    levels = pixels(hr) / 255
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4).astype(np.float32)
    planes = [Image.fromarray(light[..., c]).resize((18, 12), Image.Resampling[filter.upper()]) for c in range(3)]
    small = np.stack([np.asarray(plane, np.float64) for plane in planes], axis=-1)
    expected = np.where(small <= 0.0031308, 12.92 * small, 1.055 * np.maximum(small, 0) ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(pixels(DOWNSCALERS[f"{filter}_linear"](hr, 4)) / 255, expected, atol=2e-5)
    ramp = (torch.arange(256) / 255).view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
    assert torch.equal(quantize(DOWNSCALERS[f"{filter}_linear"](ramp, 4)), quantize(ramp[..., :2, :2]))


@pytest.mark.parametrize("filter", LINEAR)
def test_gradients_through_linear_light_are_finite_on_black(filter):
    hr = torch.zeros(1, 3, 16, 16)
    hr[..., 5:9, 5:9] = 1
    hr.requires_grad_()
    DOWNSCALERS[f"{filter}_linear"](hr, 4).sum().backward()
    assert hr.grad.isfinite().all() and hr.grad.abs().max() > 0
