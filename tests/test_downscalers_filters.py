"""Downscalers: byte for byte with Pillow, golden vectors, definitions written out, properties of all."""

import numpy as np
import PIL
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from helpers.downscalers import DOWNSCALERS, adaptive, resize
from helpers.downscalers import filters as ds
from helpers.images import from_uint8, quantize

PILLOW = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # Image.Resampling
INSTALLED = "pillow" if int(PIL.__version__.split(".")[0]) >= 13 else "pillow12"  # the order of the two passes
GOLDENS = [(image, size) for image in ("astronaut", "chelsea") for size in ("x2", "x4", "x8", "24x40", "23x37")]


def noise(n=1, height=48, width=72, seed=0, dtype=torch.float32):
    levels = torch.randint(0, 256, (n, 3, height, width), generator=torch.Generator().manual_seed(seed))
    return levels.to(dtype) / 255


def waves(n=1, height=64, width=96):  # smooth, with an edge, flat on the right: like a photograph
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    phase = torch.arange(3 * n).view(n, 3, 1, 1) * 0.7
    picture = 0.5 + 0.3 * torch.sin(x / 5 + y / 9 + phase) + 0.15 * (x > y) * torch.cos(y / 2 + phase)
    return quantize(torch.where(x < 0.8 * width, picture, 0.25 + 0.1 * phase.sin()).clamp(0, 1))


def from_file(path):
    return from_uint8(torch.from_numpy(np.array(Image.open(path).convert("RGB")))).permute(2, 0, 1)[None]


def pixels(images):  # 0..255, height x width x 3, as the goldens
    return images[0].permute(1, 2, 0).double().numpy() * 255


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


@pytest.mark.parametrize("filter", ["box", "bicubic", "lanczos"])
@pytest.mark.parametrize("n_out", [7, 16, 100, 130])
def test_integer_pass_needs_no_float64(filter, n_out):
    levels = noise(2, 40, 96, seed=3).flatten(0, 1) * 255
    levels[:3] = (levels[:3] > 127) * 255.0
    blocks = ds._blocks(96, n_out, filter, "pillow", True)
    single = ds._integer_pass(levels.round(), blocks, 2)
    assert single.dtype == torch.float32
    assert torch.equal(single.double(), ds._integer_pass(levels.round().double(), blocks, 2))


def test_official_lr_files(shared):
    folder = shared / "data" / "idard_samples"
    paths = sorted((folder / "lr").rglob("*.png"))
    assert len(paths) == 18
    for path in paths:
        method, size = path.parent.name.lower().split("_")
        lr = DOWNSCALERS[method](from_file(folder / "hr" / path.name), 1024 // int(size))
        assert torch.equal(lr, from_file(path)), path


# --- golden vectors -------------------------------------------------------------------------------


@pytest.fixture(params=GOLDENS, ids="-".join)
def golden(request, shared):
    image, size = request.param
    hr = from_file(shared / "golden" / "classic" / f"{image}_64x96.png")
    arrays = np.load(shared / "golden" / "classic" / f"down_{image}_{size}.npz")
    return hr, arrays, int(size[1:]) if size[0] == "x" else None


def test_golden_filters(golden):
    hr, arrays, _ = golden
    exact = (hr.double() * 255).round() / 255
    size = arrays["pil_box"].shape[:2]
    for filter in PILLOW:
        assert np.array_equal(pixels(resize(hr, size, filter)).round(), arrays[f"pil_{filter}"])
    for filter in ("box", "bilinear", "bicubic", "lanczos"):
        lr = pixels(resize(exact, size, filter, rounded=False))
        np.testing.assert_allclose(lr, arrays[f"pilfloat_{filter}"], rtol=0, atol=1e-4)
    for filter in ("bilinear", "bicubic"):  # torch with antialiasing is the same filter
        lr = pixels(resize(exact, size, filter, rounded=False))
        np.testing.assert_allclose(lr, arrays[f"torch_{filter}_aa"], rtol=0, atol=1e-4)
    for name in ("box", "bilinear", "bicubic", "lanczos2", "lanczos3"):
        filter = name.removesuffix("3")
        lr = pixels(resize(exact, size, filter, convention="matlab", rounded=False))
        np.testing.assert_allclose(lr, arrays[f"matlab_{name}"], rtol=0, atol=1e-4)


def test_golden_variants(golden):
    hr, arrays, scale = golden
    if scale is None:
        size = arrays["pil_box"].shape[:2]
        area = pixels(adaptive.dpid_resize(hr, size, lam=0.0))  # OpenCV's INTER_AREA
        assert np.abs(area.round() - arrays["cv2_area"]).max() <= 1
        return
    for filter in ("bilinear", "bicubic"):
        rounded = pixels(DOWNSCALERS[f"matlab_{filter}"](hr, scale))
        assert np.abs(rounded - arrays[f"matlab8_{filter}"]).max() < 1.01
        plain = DOWNSCALERS[f"torch_{filter}"]((hr.double() * 255).round() / 255, scale)
        np.testing.assert_allclose(pixels(plain), arrays[f"torch_{filter}"], rtol=0, atol=1e-4)
        opencv = arrays["cv2_" + {"bilinear": "linear", "bicubic": "cubic"}[filter]]
        assert np.abs(pixels(quantize(plain)) - opencv).max() < 1.01
    assert np.array_equal(pixels(ds.nearest_topleft(hr, scale)).round(), arrays["cv2_nearest"])
    assert np.abs(pixels(ds.box(hr, scale)) - arrays["cv2_area"]).max() < 1.01


def test_golden_dpid(golden):
    hr, arrays, scale = golden
    size = arrays["pil_box"].shape[:2]
    for lam in (0.5, 1.0):
        for bug, key in ((False, f"dpid_{lam:g}"), (True, f"dpid_matlabbug_{lam:g}")):
            lr = adaptive.dpid_resize(hr, size, lam=lam, matlab_bug=bug)
            np.testing.assert_allclose(pixels(lr), arrays[key], rtol=0, atol=1e-3)
            if scale:
                assert torch.equal(lr, DOWNSCALERS["dpid"](hr, scale, lam=lam, matlab_bug=bug))


def test_golden_perceptual_and_l0(golden):
    hr, arrays, scale = golden
    if scale is None:  # defined for integer factors only
        with pytest.raises(ValueError, match="multiples"):
            DOWNSCALERS["perceptual"](hr, 5)
        return
    for patch, key in ((2, "perceptual"), (3, "perceptual_p3")):
        lr = pixels(DOWNSCALERS["perceptual"](hr, scale, patch=patch))
        np.testing.assert_allclose(lr, arrays[key], rtol=0, atol=1e-2)
    for name, key in (("l0", "l0recon"), ("l0_smooth", "l0smooth")):
        for lam in ("0.0002", "0.002", "0.02"):
            lr = pixels(DOWNSCALERS[name](hr, scale, lam=float(lam)))
            error = np.abs(lr - arrays[f"{key}_{lam}"].clip(0, 255))
            assert error.mean() < 0.1 and error.max() < 0.5, (name, lam)


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


def slow_dpid(image, scale, lam, row_bug=False):  # (H, W, 3) float64
    h, w = image.shape[0] // scale, image.shape[1] // scale
    rows = np.arange(scale, 0, -1.0) if row_bug else np.ones(scale)
    cell = lambda y, x: image[y * scale : (y + 1) * scale, x * scale : (x + 1) * scale]  # noqa: E731
    mean = np.array([[np.average(cell(y, x).mean(1), axis=0, weights=rows) for x in range(w)] for y in range(h)])
    out = np.zeros((h, w, 3))
    for y in range(h):
        for x in range(w):
            near = [
                ((2 - abs(j)) * (2 - abs(i)), mean[y + j, x + i])
                for j in (-1, 0, 1)
                for i in (-1, 0, 1)
                if 0 <= y + j < h and 0 <= x + i < w
            ]
            guide = sum(k * v for k, v in near) / sum(k for k, _ in near)
            weight = np.linalg.norm(cell(y, x) - guide, axis=2) ** lam * rows[:, None]
            total = weight.sum()
            out[y, x] = (cell(y, x) * weight[..., None]).sum((0, 1)) / total if total else guide
    return out


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("bug", [False, True])
def test_dpid_definition(scale, lam, bug):
    hr = waves(1, 24, 36)
    slow = slow_dpid(pixels(hr) / 255, scale, lam, bug)
    np.testing.assert_allclose(pixels(ds.dpid(hr, scale, lam=lam, matlab_bug=bug)) / 255, slow, atol=2e-6)


def test_dpid_limits():
    hr = noise()
    assert torch.allclose(ds.dpid(hr, 4, lam=0.0), F.avg_pool2d(hr, 4), atol=1e-6)
    assert torch.allclose(adaptive.dpid_resize(hr, (48, 72)), hr, atol=1e-6)  # one pixel a cell
    assert ds.dpid(hr, 4, lam=40.0).isfinite().all()  # |d|^40 alone underflows
    ramp = (torch.arange(64.0) / 63).view(1, 1, 64, 1).expand(1, 3, 64, 16)  # brighter downwards
    shift = (ds.dpid(ramp, 8, lam=0.0, matlab_bug=True) - F.avg_pool2d(ramp, 8))[0, 0, 2:-2] * 63
    assert torch.allclose(shift, torch.tensor(-7 / 6), atol=1e-3)  # (s - 1) / 6 pixels


def slow_perceptual(channel, scale, epsilon=1e-6):  # one channel, patches of 2 x 2
    h, w = channel.shape[0] // scale, channel.shape[1] // scale
    total, count = np.zeros((h, w)), np.zeros((h, w))
    low = channel.reshape(h, scale, w, scale).mean((1, 3))
    for y in range(h - 1):
        for x in range(w - 1):
            high = channel[y * scale : (y + 2) * scale, x * scale : (x + 2) * scale]
            patch = low[y : y + 2, x : x + 2]
            gain = high.std() / patch.std() if patch.var() >= epsilon else 0.0
            total[y : y + 2, x : x + 2] += patch.mean() + gain * (patch - patch.mean())
            count[y : y + 2, x : x + 2] += 1
    return total / count


@pytest.mark.parametrize("scale", [2, 4])
def test_perceptual_definition(scale):
    hr = waves()
    slow = [slow_perceptual(channel.double().numpy(), scale) for channel in hr[0]]
    np.testing.assert_allclose(ds.perceptual(hr, scale)[0].numpy(), np.stack(slow), atol=1e-5)


def test_perceptual_limits():
    low = noise(1, 8, 8, dtype=torch.float64)
    blocks = low.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.allclose(ds.perceptual(blocks, 4), low, atol=1e-9)  # nothing inside the cells: R = 1
    sharp = ds.perceptual(waves(), 4)
    assert sharp.std() > F.avg_pool2d(waves(), 4).std() and sharp.max() > 0.8


def upsampling(n, scale):  # U of one axis, (n * scale, n)
    rows = torch.eye(n, dtype=torch.float64)[None]
    return F.interpolate(rows, scale_factor=scale, mode="linear", align_corners=False)[0].T


def difference(n, periodic):
    forward = torch.eye(n, dtype=torch.float64).roll(1, 1) - torch.eye(n, dtype=torch.float64)
    if not periodic:
        forward[-1] = 0
    return forward


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 8])
def test_l0_operators(scale):
    n, dct = 6, adaptive._dct(6)
    matrix = upsampling(n, scale)
    values = torch.randn(2, n * scale, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(adaptive._upsample_adjoint(values, scale), values @ matrix, atol=1e-12)
    assert torch.allclose(dct @ dct.T, torch.eye(n, dtype=torch.float64), atol=1e-12)
    fit, gradient = adaptive._spectra(n, scale)
    assert torch.allclose(dct @ (matrix.T @ matrix / scale) @ dct.T, torch.diag(fit), atol=1e-12)
    step = difference(n, periodic=False)
    assert torch.allclose(dct @ step.T @ step @ dct.T, torch.diag(gradient), atol=1e-12)


@pytest.mark.parametrize("name", ["l0", "l0_smooth"])
def test_l0_definition(name):
    scale, h, w, lam, kappa = 2, 5, 6, 0.02, 3e3  # two steps: beta = 0.04 and 120
    hr = waves(1, 10, 12).double()
    periodic = name == "l0_smooth"
    mean = torch.full((1, scale), 1 / scale, dtype=torch.float64)
    ups = [torch.kron(torch.eye(n, dtype=torch.float64), mean) if periodic else upsampling(n, scale).T for n in (h, w)]
    adjoint = torch.kron(*ups)  # U^T, or the block mean, on flattened images
    data = hr[0].flatten(1) @ adjoint.T / (1 if periodic else scale**2)
    fit = torch.eye(h * w, dtype=torch.float64) if periodic else adjoint @ adjoint.T / scale**2
    steps = [
        torch.kron(difference(h, periodic), torch.eye(w, dtype=torch.float64)),
        torch.kron(torch.eye(h, dtype=torch.float64), difference(w, periodic)),
    ]
    lr = data if periodic else data * scale**2 / adjoint.sum(1)
    for beta in (2 * lam, 2 * lam * kappa):
        gradients = [lr @ step.T for step in steps]
        keep = sum(g.square().sum(0) for g in gradients) >= lam / beta
        right = data + beta * sum((g * keep) @ step for g, step in zip(gradients, steps, strict=True))
        left = fit + beta * sum(step.T @ step for step in steps)
        lr = torch.linalg.solve(left, right.T).T
    result = DOWNSCALERS[name](hr, scale, lam=lam, kappa=kappa)
    assert torch.allclose(result[0].flatten(1), lr.clamp(0, 1), atol=1e-9)


@pytest.mark.parametrize("name", ["l0", "l0_smooth"])
def test_l0_flattens_more_with_lambda(name):
    def gradients(lam):
        lr = DOWNSCALERS[name](waves(), 4, lam=lam)
        return (lr.diff(dim=3).abs().amax(1) > 1 / 255).sum()

    assert gradients(2e-4) > gradients(2e-2) > 0


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_shape_constants_and_input_kept(name):
    for height, width, scale in ((48, 72, 4), (15, 35, 5), (16, 8, 2), (12, 12, 1)):
        grey = torch.full((2, 3, height, width), 77 / 255)
        grey[:, 1] = 1.0
        grey[1, 2] = 0.0
        lr = DOWNSCALERS[name](grey, scale)
        assert lr.shape == (2, 3, height // scale, width // scale) and lr.dtype == torch.float32
        assert torch.allclose(lr, grey[:, :, :1, :1].expand_as(lr), atol=1e-5)
    hr = noise()
    DOWNSCALERS[name](hr, 4)
    assert torch.equal(hr, noise())


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_batch_is_its_images(name):
    hr = torch.cat([waves(2, 48, 72), noise(2)])
    together = DOWNSCALERS[name](hr, 4)
    alone = torch.cat([DOWNSCALERS[name](one[None], 4) for one in hr])
    # hard thresholds may turn the last bit of a matrix product into a visible difference of the L0 methods
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-3 if name.startswith("l0") else 1e-6)
    assert together.isfinite().all()


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_every_device(name, device):
    hr = torch.cat([waves(1, 48, 72), noise()])
    lr = DOWNSCALERS[name](hr.to(device), 4)
    assert lr.device.type == device.type
    if name in PILLOW:
        assert torch.equal(lr.cpu(), DOWNSCALERS[name](hr, 4))
    else:
        assert (lr.cpu() - DOWNSCALERS[name](hr, 4)).abs().mean() < 1e-3


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_each_differs_from_the_others(name):
    for other in DOWNSCALERS.keys() - {name}:
        assert (DOWNSCALERS[name](waves(), 4) - DOWNSCALERS[other](waves(), 4)).abs().max() > 1e-3, other


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_mean_is_kept(name):
    smooth = 0.5 + 0.4 * (waves() - 0.5)
    error = (quantize(DOWNSCALERS[name](smooth, 4)).mean((2, 3)) - smooth.mean((2, 3))).abs().max()
    assert error < 0.02


@pytest.mark.parametrize(
    "name, options",
    [
        ("dpid", {"lam": 0.5}),
        ("dpid", {"matlab_bug": True}),
        ("perceptual", {"patch": 3}),
        ("perceptual", {"epsilon": 1e-3}),
        ("l0", {"lam": 2e-2}),
        ("l0", {"kappa": 8.0}),
        ("l0_smooth", {"lam": 2e-2}),
        ("l0_smooth", {"kappa": 8.0}),
        ("matlab_bicubic", {"rounded": False}),
        ("matlab_bilinear", {"rounded": False}),
    ],
)
def test_every_option_changes_something(name, options):
    assert not torch.equal(DOWNSCALERS[name](waves(), 4, **options), DOWNSCALERS[name](waves(), 4))


def test_bicubic_float_trains():
    hr = waves().requires_grad_()
    ds.bicubic_float(hr, 4).sum().backward()
    assert torch.allclose(hr.grad.sum(), torch.tensor(3 * 16 * 24.0), rtol=1e-4)  # the weights of a pixel sum to 1
    beyond = resize(2 * waves(), (16, 24), rounded=False)  # an unclipped SR image is fine
    assert torch.allclose(beyond, 2 * ds.bicubic_float(waves(), 4), atol=1e-6)


@pytest.mark.parametrize("name", DOWNSCALERS)
@pytest.mark.parametrize(
    "hr, scale, message",
    [
        (noise(), 0, "scale"),
        (noise(), 2.0, "scale"),
        (noise(), True, "scale"),
        (noise(), 5, "multiples of 5"),
        (noise() * 255, 4, "finite values in"),
        (noise() * 2 - 1, 4, "finite values in"),
        (torch.full((1, 3, 8, 8), torch.nan), 4, "finite values in"),
        ((noise() * 255).to(torch.uint8), 4, "floats"),
        (noise()[0], 4, "shape"),
        (noise()[:, :1], 4, "shape"),
        (noise().numpy(), 4, "torch.Tensor"),
    ],
)
def test_bad_input(name, hr, scale, message):
    with pytest.raises(ValueError, match=message):
        DOWNSCALERS[name](hr, scale)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: resize(noise(), (4, 4), "cubic"), "filter"),
        (lambda: resize(noise(), (4, 4), convention="opencv"), "convention"),
        (lambda: resize(noise(), (4, 4), "nearest", convention="matlab"), "convention"),
        (lambda: resize(noise(), (0, 4)), "size"),
        (lambda: adaptive.dpid_resize(noise(), (49, 10)), "size"),
        (lambda: ds.dpid(noise(), 4, lam=-1.0), "lam"),
        (lambda: ds.dpid(noise(), 4, lam=float("nan")), "lam"),
        (lambda: ds.perceptual(noise(), 4, patch=0), "patch"),
        (lambda: ds.perceptual(noise(), 4, epsilon=0.0), "epsilon"),
        (lambda: ds.perceptual(noise()[..., :4], 4), "at least 2x2"),
        (lambda: ds.l0_recon(noise(), 4, lam=0.0), "lam"),
        (lambda: ds.l0_smooth(noise(), 4, kappa=1.0), "kappa"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()
