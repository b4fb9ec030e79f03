"""Adaptive downscalers against golden vectors and against their definitions, written out slowly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.downscalers import DOWNSCALERS, adaptive
from tests.pictures import GOLDENS, noise, pixels, read_golden, waves


@pytest.mark.parametrize("image, size", GOLDENS)
def test_golden_dpid(shared, image, size):
    hr, arrays, scale = read_golden(shared, image, size)
    shape = arrays["pil_box"].shape[:2]
    if not scale:
        area = pixels(adaptive.dpid_resize(hr, shape, lam=0.0))  # OpenCV's INTER_AREA
        assert np.abs(area.round() - arrays["cv2_area"]).max() <= 1
    for lam in (0.5, 1.0):
        for bug, key in ((False, f"dpid_{lam:g}"), (True, f"dpid_matlabbug_{lam:g}")):
            lr = adaptive.dpid_resize(hr, shape, lam=lam, matlab_bug=bug)
            np.testing.assert_allclose(pixels(lr), arrays[key], rtol=0, atol=1e-3)
            if scale:
                assert torch.equal(lr, DOWNSCALERS["dpid"](hr, scale, lam=lam, matlab_bug=bug))


@pytest.mark.parametrize("image, size", GOLDENS)
def test_golden_perceptual_and_l0(shared, image, size):
    hr, arrays, scale = read_golden(shared, image, size)
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
    np.testing.assert_allclose(pixels(adaptive.dpid(hr, scale, lam=lam, matlab_bug=bug)) / 255, slow, atol=2e-6)


def test_dpid_limits():
    hr = noise()
    assert torch.allclose(adaptive.dpid(hr, 4, lam=0.0), F.avg_pool2d(hr, 4), atol=1e-6)
    assert torch.allclose(adaptive.dpid_resize(hr, (48, 72)), hr, atol=1e-6)  # one pixel a cell
    assert adaptive.dpid(hr, 4, lam=40.0).isfinite().all()  # |d|^40 alone underflows
    ramp = (torch.arange(64.0) / 63).view(1, 1, 64, 1).expand(1, 3, 64, 16)  # brighter downwards
    shift = (adaptive.dpid(ramp, 8, lam=0.0, matlab_bug=True) - F.avg_pool2d(ramp, 8))[0, 0, 2:-2] * 63
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
    np.testing.assert_allclose(adaptive.perceptual(hr, scale)[0].numpy(), np.stack(slow), atol=1e-5)


def test_perceptual_limits():
    low = noise(1, 8, 8, dtype=torch.float64)
    blocks = low.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.allclose(adaptive.perceptual(blocks, 4), low, atol=1e-9)  # nothing inside the cells: R = 1
    sharp = adaptive.perceptual(waves(), 4)
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


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: adaptive.dpid_resize(noise(), (49, 10)), "size"),
        (lambda: adaptive.dpid(noise(), 4, lam=-1.0), "lam"),
        (lambda: adaptive.dpid(noise(), 4, lam=float("nan")), "lam"),
        (lambda: adaptive.perceptual(noise(), 4, patch=0), "patch"),
        (lambda: adaptive.perceptual(noise(), 4, epsilon=0.0), "epsilon"),
        (lambda: adaptive.perceptual(noise()[..., :4], 4), "at least 2x2"),
        (lambda: adaptive.l0_recon(noise(), 4, lam=0.0), "lam"),
        (lambda: adaptive.l0_smooth(noise(), 4, kappa=1.0), "kappa"),
    ],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()
