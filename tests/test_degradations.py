"""Degradations: golden vectors, outside references, exact small cases, and the properties of all of them."""

import io
import itertools
import json
import math

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image, ImageEnhance
from skimage.filters import threshold_multiotsu

from helpers import degradations as dg
from helpers.degradations import DEGRADATIONS
from helpers.images import from_uint8, quantize
from helpers.runtime import seeded

LEVELS = {  # each by growing damage
    "blur": (0.5, 1, 4),
    "blur_full": (0.5, 1, 4),
    "noise": (0.05, 0.1, 0.2),
    "contrast": (0.75, 0.5, 0.25),
    "otsu": (15, 10, 5),
    "jpeg": (90, 50, 10),
    "mixed": (1, 2, 3),
    "bsrgan": (1, 3, 5),
    "jpeg_444": (90, 50, 10),
    "webp": (90, 50, 10),
    "avif": (90, 50, 10),
    "lost_bits": (1, 2, 5),
    "dithered": (7, 5, 2),
    "resized": (0.9, 0.7, 0.5),
    "wide_gamut": (1, 2, 4),
}
GENERATED = ("noise", "mixed", "bsrgan")
LOSSY_ORDER = [(name, level) for name, levels in LEVELS.items() for level in levels]


def picture(n=1, height=40, width=56):
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    phase = torch.arange(3 * n).view(n, 3, 1, 1) * 0.7
    texture = torch.randint(0, 256, (n, 3, height, width), generator=torch.Generator().manual_seed(5)) / 255
    smooth = 0.5 + 0.3 * torch.sin(x / 5 + y / 9 + phase) + 0.15 * (x > y)
    return quantize(0.8 * smooth + 0.2 * texture)


def degrade(name, lr, level, **options):
    generator = seeded(0, name) if name in GENERATED else None
    return DEGRADATIONS[name](lr, level, generator, **options)


def pixels(images):
    return images[0].permute(1, 2, 0).double().numpy()


# --- golden vectors -----------------------------------------------------------------------------


@pytest.fixture(params=["astronaut", "chelsea"])
def golden(request, shared):
    folder = shared / "golden" / "classic"
    levels = torch.from_numpy(np.array(Image.open(folder / f"{request.param}_64x96.png").convert("RGB")))
    arrays = np.load(folder / f"degrade_{request.param}.npz")
    tables = json.loads((folder / "otsu.json").read_text())[request.param]
    return from_uint8(levels).permute(2, 0, 1)[None], arrays, tables


def test_golden_blur_noise_and_contrast(golden):
    lr, arrays, _ = golden
    unit_noise = torch.from_numpy(arrays["unit_noise"]).permute(2, 0, 1)[None]
    close = dict(rtol=0, atol=1e-6)
    for sigma in (1, 2, 4):
        np.testing.assert_allclose(pixels(dg.blur(lr, sigma)), arrays[f"blur3_{sigma}"], **close)
        np.testing.assert_allclose(pixels(dg.blur_full(lr, sigma)), arrays[f"blurfull_{sigma}"], **close)
    for sigma in (0.05, 0.1, 0.2):
        noisy = dg.noise(lr, sigma, unit_noise=unit_noise)
        np.testing.assert_allclose(pixels(noisy), arrays[f"noise_{sigma}"], **close)
    for factor, mode in itertools.product((0.25, 0.5, 0.75, 1.5, 2, 2.5), ("tv", "mid", "scale", "chmean")):
        changed = dg.contrast(lr, factor, mode=mode)
        np.testing.assert_allclose(pixels(changed), arrays[f"contrast_{mode}_{factor}"], **close)
    for factor in (0.25, 0.5, 0.75, 1.5, 2, 2.5):
        levels = pixels(dg.contrast(lr, factor, mode="pil8")) * 255
        assert np.array_equal(levels.round(), arrays[f"contrast_pil8_{factor}"])


def test_golden_otsu(golden):
    lr, arrays, tables = golden
    levels = (lr * 255).round().to(torch.int64)
    for k in (5, 10, 15):
        thresholds = dg.otsu_thresholds(lr, k)
        assert thresholds[0].tolist() == tables[f"otsu_{k}"]["thresholds"]
        labels = torch.searchsorted(thresholds[0], levels.contiguous())
        assert np.array_equal(pixels(labels), arrays[f"quant_labels_{k}"])
        for mode in dg.LEVEL_MODES:
            quantised = pixels(dg.otsu(lr, k, mode=mode)) * 255
            assert np.array_equal(quantised.round(), arrays[f"quant_{mode}_{k}"]), (mode, k)


def test_golden_jpeg_and_mixed(golden):
    lr, arrays, _ = golden
    for quality in (35, 48, 49, 50, 75):
        for codec in ("pil", "cv2"):
            error = pixels(dg.jpeg(lr, quality)) * 255 - arrays[f"jpeg_{codec}_{quality}"]
            assert np.abs(error).max() < 2.01
    unit_noise = torch.from_numpy(arrays["unit_noise"]).permute(2, 0, 1)[None]
    for stages in (1, 2):
        mixed = pixels(dg.mixed(lr, stages, unit_noise=unit_noise))
        np.testing.assert_allclose(mixed, arrays[f"mixed_{stages}"], rtol=0, atol=1e-6)
    mixed = pixels(dg.mixed(lr, 3, unit_noise=unit_noise)) * 255
    assert np.array_equal(mixed.round(), arrays["mixed_3"])


# --- outside references and exact cases ---------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.3, 1, 2.5])
@pytest.mark.parametrize("size", [1, 3, 7, None])
def test_blur_is_torchvisions(sigma, size):
    taps = size or 2 * math.ceil(3 * sigma) + 1
    expected = TF.gaussian_blur(picture(2), [taps, taps], [sigma, sigma])
    assert torch.allclose(dg.blur(picture(2), sigma, kernel_size=size), expected, atol=1e-6)


def test_blur_facts():
    lr = picture()
    for sigma in (0, 1e-300, 0.0001, 0.0005, 0.02):  # the supplement's "minimum" levels change nothing at all
        assert torch.equal(dg.blur(lr, sigma), lr)
    assert torch.equal(quantize(dg.blur(lr, 0.2)), lr)
    assert not torch.equal(quantize(dg.blur(lr, 0.3)), lr)
    near = (dg.blur(lr, 2) - dg.blur(lr, 4)).abs().mean()
    assert near < 0.2 * (dg.blur_full(lr, 2) - dg.blur_full(lr, 4)).abs().mean()


def test_contrast_is_torchvisions_and_pillows():
    lr = picture()
    image = Image.fromarray((pixels(lr) * 255).round().astype(np.uint8))
    for factor in (0.0, 0.1, 0.25, 0.9, 1.0, 1.3, 2.5, 7.0):
        assert torch.allclose(dg.contrast(lr, factor), TF.adjust_contrast(lr, factor), atol=1e-5)
        by_pillow = np.array(ImageEnhance.Contrast(image).enhance(factor))
        assert np.array_equal((pixels(dg.contrast(lr, factor, mode="pil8")) * 255).round(), by_pillow)


def test_contrast_pivots():
    lr = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1) + torch.tensor([-0.1, 0.1]).view(1, 1, 1, 2)
    assert torch.allclose(dg.contrast(lr, 0.5, mode="scale"), lr / 2)
    assert torch.allclose(dg.contrast(lr, 0.5, mode="mid"), lr / 2 + 0.25)
    assert torch.allclose(dg.contrast(lr, 0.0, mode="chmean")[..., 0], torch.tensor([[[0.2], [0.4], [0.6]]]))
    luma = 0.2 * 0.2989 + 0.4 * 0.587 + 0.6 * 0.114
    assert torch.allclose(dg.contrast(lr, 0.0), torch.tensor(luma), atol=1e-4)
    assert dg.contrast(lr, 9.0).unique().tolist() == [0.0, 1.0]


def test_noise_is_paired_across_levels_and_seeded():
    lr = torch.full((1, 3, 64, 64), 0.5)
    once, twice = dg.noise(lr, 0.02, seeded(7)), dg.noise(lr, 0.04, seeded(7))
    assert torch.allclose(2 * (once - lr), twice - lr, atol=1e-6)
    assert abs((once - lr).std().item() - 0.02) < 1e-3 and abs((once - lr).mean().item()) < 1e-3
    assert not torch.equal(once, dg.noise(lr, 0.02, seeded(8)))
    torch.manual_seed(0)
    first = torch.rand(1)
    torch.manual_seed(0)
    dg.noise(lr, 0.1, seeded(7))
    assert torch.equal(torch.rand(1), first)  # the global generator is left alone
    assert dg.noise(lr, 5.0, seeded(7)).aminmax() == (0, 1)


def test_noise_of_a_batch():
    lr = picture(3)
    each = torch.cat([dg.noise(lr[i : i + 1], 0.1, seeded(0, i)) for i in range(3)])
    assert torch.equal(dg.noise(lr, 0.1, [seeded(0, i) for i in range(3)]), each)
    drawn = dg.noise(torch.full((2, 3, 8, 8), 0.5), 0.1, seeded(1))
    assert not torch.equal(drawn[0], drawn[1])
    stream = seeded(1)
    one_by_one = torch.cat([dg.noise(image[None], 0.1, stream) for image in lr])
    assert torch.equal(dg.noise(lr, 0.1, seeded(1)), one_by_one)


def objective(levels, thresholds):
    labels = np.searchsorted(thresholds, levels)  # a value equal to a threshold belongs to the class below
    return sum(levels[labels == j].sum() ** 2 / (labels == j).sum() for j in np.unique(labels))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_otsu_is_the_best_of_all(k):
    rng = np.random.default_rng(k)
    for _ in range(4):
        levels = rng.choice(12, 300, p=rng.dirichlet(np.ones(12))) * 20 + 3
        grey = from_uint8(torch.from_numpy(levels)).view(1, 1, 15, 20).expand(1, 3, 15, 20)
        found = dg.otsu_thresholds(grey, k)[0].numpy()
        best = max(objective(levels, t) for t in itertools.combinations(range(3, 224, 20), k))
        assert math.isclose(objective(levels, found), best, rel_tol=1e-12) and (np.diff(found) > 0).all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_otsu_is_scikit_images(k):
    lr = picture(2)
    for one in lr:
        grey = np.array(Image.fromarray((pixels(one[None]) * 255).round().astype(np.uint8)).convert("L"))
        theirs = threshold_multiotsu(grey, classes=k + 1)
        ours = dg.otsu_thresholds(one[None], k)[0].numpy()
        assert np.array_equal(np.searchsorted(ours, grey), np.searchsorted(theirs, grey))


def test_otsu_value_on_a_threshold_goes_down():
    grey = from_uint8(torch.tensor([10, 10, 20, 200, 210, 210])).view(1, 1, 2, 3).expand(1, 3, 2, 3)
    assert dg.otsu_thresholds(grey, 1).tolist() == [[20]]  # the last level of the dark class
    dark_and_bright = (dg.otsu(grey, 1)[0, 0] * 255).round().flatten().tolist()
    assert dark_and_bright == [13, 13, 13, 207, 207, 207]


def test_otsu_values():
    lr = picture()
    for mode in dg.LEVEL_MODES:
        for k in (1, 4, 255):
            assert len(dg.otsu(lr, k, mode=mode)[0].unique()) <= k + 1
    errors = {mode: (dg.otsu(lr, 5, mode=mode) - lr).square().mean() for mode in dg.LEVEL_MODES}
    assert min(errors, key=errors.get) == "pooled_mean"
    grey = lr[:, :1].expand_as(lr)
    assert torch.equal(dg.otsu(grey, 255), grey)  # a class for every level
    assert torch.equal(dg.otsu(torch.full((1, 3, 4, 4), 100 / 255), 5), torch.full((1, 3, 4, 4), 100 / 255))


def test_jpeg_is_pillows():
    file = io.BytesIO()
    Image.fromarray((pixels(picture()) * 255).round().astype(np.uint8)).save(file, format="JPEG", quality=30)
    assert np.array_equal((pixels(dg.jpeg(picture(), 30)) * 255).round(), np.array(Image.open(file)))


def test_mixed_is_its_stages():
    lr, n = picture(), torch.randn(1, 3, 40, 56, generator=seeded(0))
    one = dg.blur(dg.contrast(lr, 0.75), 1)
    two = dg.noise(one, 0.05, unit_noise=n)
    assert torch.equal(dg.mixed(lr, 1), one)
    assert torch.equal(dg.mixed(lr, 2, unit_noise=n), two)
    assert torch.equal(dg.mixed(lr, 3, unit_noise=n), dg.otsu(quantize(two), 10))


def test_bsrgan_is_its_stages():
    lr, n = picture(), torch.randn(1, 3, 40, 56, generator=seeded(0))
    for level, (position, sigma, quality) in dg.BSRGAN.items():
        blurred = dg.blur(lr, sigma, kernel_size=max(7, 2 * math.ceil(3 * sigma) + 1))
        expected = dg.jpeg(dg.noise(blurred, (2 + 23 * position) / 255, unit_noise=n), quality)
        assert torch.equal(dg.bsrgan(lr, level, unit_noise=n), expected)
    assert torch.equal(dg.blur(lr, 0.026, kernel_size=7), lr)  # R1 has no blur at all


# --- all of them --------------------------------------------------------------------------------


@pytest.mark.parametrize("name, level", LOSSY_ORDER)
def test_range_shape_and_input_kept(name, level, device):
    lr = picture(2).to(device)
    damaged = degrade(name, lr, level)
    assert damaged.shape == lr.shape and damaged.dtype == torch.float32 and damaged.device == lr.device
    assert damaged.min() >= 0 and damaged.max() <= 1
    assert torch.equal(lr.cpu(), picture(2)) and not torch.equal(quantize(damaged), lr)
    assert torch.equal(damaged, degrade(name, lr, level))


@pytest.mark.parametrize("name", LEVELS)
def test_every_degradation_is_tested_and_orders_its_levels(name):
    assert set(LEVELS) == set(DEGRADATIONS)
    errors = [(degrade(name, picture(), level) - picture()).square().mean() for level in LEVELS[name]]
    if name == "wide_gamut":  # what has been rounded once stays as it is
        assert errors[0] == errors[1] == errors[2] > 0
    elif name != "bsrgan":  # R1 to R5 are in no order
        assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("name, level", LOSSY_ORDER)
def test_batch_is_its_images(name, level):
    lr = picture(4)
    keys = [seeded(0, i) for i in range(4)] if name in GENERATED else None
    together = DEGRADATIONS[name](lr, level, keys)
    alone = [DEGRADATIONS[name](lr[i : i + 1], level, seeded(0, i) if name in GENERATED else None) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(LEVELS) - set(GENERATED) - {"dithered", "webp", "avif"}))
def test_constants_stay_constant(name):
    flat = torch.tensor([40, 90, 200]).view(1, 3, 1, 1).expand(2, 3, 24, 32) / 255
    for level in LEVELS[name]:
        damaged = degrade(name, flat, level)
        assert torch.allclose(damaged, damaged[:, :, :1, :1].expand_as(damaged), atol=1e-6)
        if name.startswith("blur"):
            assert torch.allclose(damaged, flat, atol=1e-6)
        if name == "jpeg":
            assert (damaged - flat).abs().max() < 0.1


@pytest.mark.parametrize("name, level", LOSSY_ORDER)
def test_levels_may_come_from_a_table(name, level):
    for same in (np.float64(level), np.array([level])[0]):
        assert torch.equal(degrade(name, picture(), same), degrade(name, picture(), level))


@pytest.mark.parametrize(
    "name, level, options",
    [
        ("blur", 2, {"kernel_size": 5}),
        ("contrast", 2, {"mode": "mid"}),
        ("contrast", 2, {"mode": "chmean"}),
        ("contrast", 2, {"mode": "scale"}),
        ("contrast", 2, {"mode": "pil8"}),
        ("otsu", 5, {"mode": "pooled_mean"}),
        ("otsu", 5, {"mode": "midpoint"}),
        ("otsu", 5, {"mode": "uniform"}),
        ("otsu", 5, {"mode": "matlab_doc"}),
        ("mixed", 3, {"factor": 0.5}),
        ("mixed", 3, {"sigma_blur": 0.5}),
        ("mixed", 3, {"sigma_noise": 0.1}),
        ("mixed", 3, {"n_thresholds": 5}),
    ],
)
def test_every_option_changes_something(name, level, options):
    assert not torch.equal(degrade(name, picture(), level, **options), degrade(name, picture(), level))


BAD_LEVELS = [(name, bad) for name in LEVELS for bad in (-1, math.nan, math.inf, "2", None, True)] + [
    ("otsu", 0),
    ("otsu", 2.5),
    ("otsu", 256),
    ("jpeg", 0),
    ("jpeg", 50.5),
    ("jpeg", 101),
    ("mixed", 0),
    ("mixed", 4),
    ("bsrgan", 0),
    ("bsrgan", 6),
]


@pytest.mark.parametrize("name, level", BAD_LEVELS)
def test_bad_levels(name, level):
    with pytest.raises(ValueError, match="level: expected .* got"):
        degrade(name, picture(), level)


@pytest.mark.parametrize("name", LEVELS)
def test_bad_images(name):
    for bad in (picture() * 255, picture() - 0.5, picture() * math.nan, picture()[0], picture()[:, :1]):
        with pytest.raises(ValueError, match="lr: expected"):
            degrade(name, bad, LEVELS[name][0])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: dg.blur(picture(), 1, kernel_size=4), "odd integer"),
        (lambda: dg.blur(picture(), 1, kernel_size=0), "odd integer"),
        (lambda: dg.blur_full(picture(), 20), "images above 60x60"),
        (lambda: dg.noise(picture(), 0.1), "generator or unit_noise"),
        (lambda: dg.noise(picture(), 0.1, seeded(0), unit_noise=picture()), "generator or unit_noise"),
        (lambda: dg.noise(picture(), 0.1, unit_noise=picture()[0]), "unit_noise: expected shape"),
        (lambda: dg.noise(picture(3), 0.1, [seeded(0)] * 2), "expected one or 3, got 2"),
        (lambda: dg.mixed(picture(), 2), "generator or unit_noise"),
        (lambda: dg.bsrgan(picture(), 2), "generator or unit_noise"),
        (lambda: dg.contrast(picture(), 2, mode="gimp"), "mode: expected one of tv"),
        (lambda: dg.otsu(picture(), 5, mode="mean"), "mode: expected one of gray_mean"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()
