"""Distortions against published values, library values and their own properties."""

import csv
import json
import time
from operator import attrgetter
from types import SimpleNamespace

import numpy as np
import piq
import pytest
import skimage.data
import torch
from PIL import Image, ImageEnhance
from torch.overrides import TorchFunctionMode
from torchvision import models

from helpers import distortions, files
from helpers.distortions import (
    DISTORTIONS,
    LOWER_IS_BETTER,
    MINIMUM_SIDE,
    against,
    as_distortion,
    available,
    perceptual,
)
from helpers.downscalers.filters import matlab_bicubic
from helpers.runtime import full_precision, seeded
from helpers.weights import store

ALL = list(DISTORTIONS)


def read(path):
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)[None].float() / 255


def waves(n=1, side=176, seed=0):
    """Smooth pictures by formula, all different, in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(side) / 16, torch.arange(side) / 16, indexing="ij")
    picture = [torch.sin(x * (1 + i + seed) + y + c).mul(torch.cos(y * (2 + c))) for i in range(n) for c in range(3)]
    return torch.stack(picture).reshape(n, 3, side, side) / 2 + 0.5


def side_for(name):
    return max(MINIMUM_SIDE[name], 48)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Empty caches and no network."""
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)


@pytest.fixture
def unloaded():
    """No network built by another test, and none left for the next one."""
    distortions.network.cache_clear()
    yield
    distortions.network.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Untrained trunks and channel weights by formula: every property of LPIPS and DISTS but their values."""
    folder = tmp_path_factory.mktemp("weights")
    generator = torch.Generator().manual_seed(1)
    states = {}
    for name in ("alexnet", "vgg16"):
        trunk = perceptual._empty(getattr(models, name)).state_dict()
        for value in trunk.values():
            spread = 1.4 / value[0].numel() ** 0.5 if value.ndim == 4 else 0.0
            value.copy_(spread * torch.randn(value.shape, generator=generator))
        states[name] = {f"features.{key}": value for key, value in trunk.items()}
    np.savez(
        folder / "alexnet_features_fp32.npz",
        **{key: value.numpy() for key, value in states["alexnet"].items()},
    )
    torch.save(states["vgg16"], folder / "vgg16-397923af.pth")
    ramp = torch.linspace(0.1, 1, 1475).reshape(1, -1, 1, 1)
    torch.save({"alpha": ramp, "beta": ramp.flip(1)}, folder / "dists_weights.pt")
    return folder


@pytest.fixture
def untrained(folder, monkeypatch):
    for name in ("alexnet_features", "vgg16"):
        entry = store.WEIGHTS[name]
        known = entry._replace(sha256=files.sha256_of(folder / entry.file))
        monkeypatch.setitem(store.WEIGHTS, name, known)
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(folder))


# ---- precision


@pytest.mark.parametrize(
    "name", [*DISTORTIONS, "lr_mse", "consistency_mse", "1-ssim_of_mean", "lpips_embedded_of_mean"]
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_change_no_distance(name, dtype, untrained):
    """Every D is that of float32: of the same numbers under autocast, of the rounded pixels for half precision."""
    side = 164 if "ms_ssim" in name else 64
    hr, sr = waves(1, side), (waves(2, side) + 0.02 * waves(2, side, 5)).clamp(0, 1)
    lr = matlab_bicubic(hr, 4).add(0.01).clamp(0, 1)
    expected = against(name, hr, lr)(sr)
    with torch.autocast("cpu", dtype=dtype):
        under = against(name, hr, lr)(sr)
        if name in DISTORTIONS:
            assert torch.equal(DISTORTIONS[name](sr, hr), expected)
    prepared = against(name, hr, lr)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(prepared(sr), expected)
    assert torch.equal(under, expected) and under.dtype == torch.float32
    low = [image.to(dtype) for image in (hr, lr, sr)]
    hr, lr, sr = (image.float() for image in low)
    assert torch.equal(against(name, *low[:2])(low[2]), against(name, hr, lr)(sr))
    if name in DISTORTIONS:
        assert torch.equal(DISTORTIONS[name](low[2], low[0]), DISTORTIONS[name](sr, hr))
        assert torch.equal(DISTORTIONS[name](low[2], hr), DISTORTIONS[name](sr, hr))


def precisions():
    """What torch would multiply and convolve float32 with, on CUDA and on the CPU; "?" where it does not say."""
    backends, found = torch.backends, [torch.get_float32_matmul_precision]
    found += [lambda: backends.cuda.matmul.allow_tf32, lambda: backends.cudnn.allow_tf32]
    for part in ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv"):
        found.append(lambda part=part: attrgetter(f"{part}.fp32_precision")(backends))
    said = []
    for each in found:
        try:
            said.append(each())
        except (RuntimeError, AttributeError):  # set under its other name; an older torch
            said.append("?")
    return said


def switch_on(how):
    if how == "allow_tf32":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    elif how == "medium":
        torch.set_float32_matmul_precision("medium")
    else:
        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "tf32"


@pytest.fixture(params=["allow_tf32", "medium", "fp32_precision"])
def fast(request):
    """float32 is not what is computed with, as many notebooks on GPUs have it."""
    if request.param == "fp32_precision" and not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("torch before 2.9")
    with full_precision(torch.device("cpu")):  # which puts everything back
        switch_on(request.param)
        yield precisions()


class Listener(TorchFunctionMode):
    """Notes what precision torch has whenever something is called."""

    def __init__(self):
        super().__init__()
        self.heard = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in ("conv2d", "matmul", "__matmul__", "linear", "einsum", "bmm", "mean", "square", "pow"):
            self.heard.setdefault(str(precisions()), set()).add(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [*DISTORTIONS, "lr_mse", "consistency_mse", "1-ssim_of_mean"])
def test_tf32_is_off_while_a_distance_is_computed_and_then_as_it_was(name, untrained, fast):
    side = 164 if "ms_ssim" in name else 64
    hr, sr = waves(1, side), waves(2, side, 5)
    lr = matlab_bicubic(hr, 4)
    with full_precision(torch.device("cpu")):
        off = precisions()
    assert off != fast and {True, "tf32", "bf16", "high", "medium"}.isdisjoint(off)
    with Listener() as listener:
        against(name, hr, lr)(sr)
    assert list(listener.heard) == [str(off)] and precisions() == fast
    if name in DISTORTIONS:
        with Listener() as listener:
            DISTORTIONS[name](sr, hr)
        assert list(listener.heard) == [str(off)] and precisions() == fast
        with pytest.raises(ValueError):
            DISTORTIONS[name](sr, hr[..., 1:])
        assert precisions() == fast


# ---- values


def test_lpips_equals_the_published_values(shared, unloaded, monkeypatch):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data" / "weights"))
    folder = shared / "data" / "metric_calibration"
    rows = {row["metric"]: row for row in csv.DictReader((folder / "reference_scores.csv").open())}
    computed = json.loads((shared / "data" / "weights" / "lpips_expected.json").read_text())["computed"]["alex"]
    for image, exact in computed["metric_calibration ref|dist"].items():
        value = distortions.lpips(read(folder / f"{image}_dist.png"), read(folder / f"{image}_ref.png")).item()
        assert value == pytest.approx(float(rows["lpips"][image]), abs=1e-4)  # published, four digits
        assert value == pytest.approx(exact, abs=1e-6)
    examples = shared / "data" / "weights" / "lpips_examples"
    both = torch.cat([read(examples / f"ex_p{i}.png") for i in (0, 1)])
    expected = [computed["ex_ref|ex_p0"], computed["ex_ref|ex_p1"]]
    assert against("lpips", read(examples / "ex_ref.png"))(both).tolist() == pytest.approx(expected, abs=1e-6)


def test_psnr_equals_the_published_values(shared):
    folder = shared / "data" / "metric_calibration"
    rows = {row["metric"]: row for row in csv.DictReader((folder / "reference_scores.csv").open())}
    for image in ("I03", "I04", "I06", "I08", "I19"):
        value = distortions.psnr(read(folder / f"{image}_dist.png"), read(folder / f"{image}_ref.png")).item()
        assert round(value, 2) == float(rows["psnr"][image])


def recipe(levels, name):
    """The damaged image of a golden pair, by the recipes that its README states."""
    kind, *details = name.split("_")
    image = Image.fromarray(levels)
    if kind == "roundtrip":
        small = [side // int(details[1][1:]) for side in image.size]
        how = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR, "nearest": Image.NEAREST}[details[0]]
        return np.asarray(image.resize(small, how).resize(image.size, Image.BICUBIC))
    if kind == "contrast":
        return np.asarray(ImageEnhance.Contrast(image).enhance(float(details[0])))
    if kind == "noise":
        unit = np.random.default_rng(int(details[1])).standard_normal(levels.shape)
        return np.floor(np.clip(levels / 255 + float(details[0]) * unit, 0, 1) * 255 + 0.5)
    return np.roll(levels, int(details[0]), axis=1) if kind == "shift" else levels


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_golden_metrics(shared, dtype, tolerance):
    golden = json.loads((shared / "golden" / "classic" / "metrics.json").read_text())
    compared = 0
    for case in golden.values():
        levels = getattr(skimage.data, case["image"])()
        y0, y1, x0, x1 = case["box"] or (0, *levels.shape[:1], 0, levels.shape[1])
        levels = np.ascontiguousarray(levels[y0:y1, x0:x1])
        for name, expected in case["pairs"].items():
            if dtype == torch.float64 and case["box"] is None:
                continue  # 512x512: seconds each, for float64 has no fast convolution
            hr, sr = (
                torch.from_numpy(np.array(a, np.float64) / 255).permute(2, 0, 1)[None].to(dtype)
                for a in (levels, recipe(levels, name))
            )
            keys = {"mse": "mse", "ssim": "ssim_piq_nodown"}
            if dtype == torch.float32:  # the same as plain SSIM below 384 pixels
                keys["ssim_piq_downsampled"] = "ssim_piq_default"
            if expected["msssim_piq"] == "ValueError":
                with pytest.raises(ValueError, match="at least 161"):
                    distortions.ms_ssim(sr, hr)
            else:
                keys["ms_ssim"] = "msssim_piq"
            for metric, key in keys.items():
                assert DISTORTIONS[metric](sr, hr).item() == pytest.approx(expected[key], abs=tolerance), (
                    name,
                    metric,
                )
                compared += 1
            decibels = distortions.psnr(sr, hr).item()  # piq: -10 log10(mse + 1e-8)
            ours = np.inf if name == "same" else -10 * np.log10(10 ** (-expected["psnr_piq"] / 10) - 1e-8)
            assert decibels == pytest.approx(ours, abs=1e-3 if dtype == torch.float32 else 1e-6)
    assert compared >= 14


def test_ssim_equals_scikit_image():
    from skimage.metrics import structural_similarity

    hr, sr = waves(side=64).double(), waves(side=64, seed=1).double()
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=0)
    expected = structural_similarity(sr[0].numpy(), hr[0].numpy(), **options)
    assert distortions.ssim(sr, hr).item() == pytest.approx(expected, abs=1e-6)


def test_psnr_by_hand():
    hr = torch.full((2, 3, 4, 4), 0.5)
    sr = torch.stack([hr[0], hr[0] + 0.1])
    assert distortions.psnr(sr, hr).tolist() == [np.inf, pytest.approx(20, abs=1e-4)]
    assert distortions.mse(sr, hr).tolist() == [0, pytest.approx(0.01, abs=1e-7)]


@pytest.mark.weights
def test_dists_equals_the_published_values(shared, unloaded, monkeypatch):
    monkeypatch.delenv("IDA_RD_CACHE")
    monkeypatch.delenv("TORCH_HOME")
    assert available("dists") is None
    folder = shared / "data" / "metric_calibration"
    rows = {row["metric"]: row for row in csv.DictReader((folder / "reference_scores.csv").open())}
    for image in ("I03", "I04", "I06", "I08", "I19"):
        value = distortions.dists(read(folder / f"{image}_dist.png"), read(folder / f"{image}_ref.png")).item()
        assert value == pytest.approx(float(rows["dists"][image]), abs=5e-3)


def test_dists_equals_piq(untrained, unloaded, folder, monkeypatch):
    state = torch.load(folder / "dists_weights.pt")
    total = state["alpha"].sum() + state["beta"].sum()
    trunk = perceptual._trunk(perceptual._empty(models.vgg16), ("vgg16",))
    normalized = {key: value / total for key, value in state.items()}
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *args, **kwargs: normalized)
    monkeypatch.setattr("piq.perceptual.vgg16", lambda **kwargs: SimpleNamespace(features=trunk))
    reference = piq.DISTS(reduction="none")
    for side in (48, 260):  # from 257 on both are resized
        sr, hr = waves(1, side), waves(1, side, seed=1)
        torch.testing.assert_close(distortions.dists(sr, hr), reference(sr, hr), atol=1e-5, rtol=1e-5)


# ---- properties of every metric


@pytest.mark.parametrize("name", ALL)
def test_properties(name, untrained):
    hr = waves(2, side=side_for(name))
    unit = torch.rand(hr.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    damaged = [(hr + level * unit).clamp(0, 1) for level in (0.05, 0.2, 0.5)]
    sign = 1 if LOWER_IS_BETTER[name] else -1
    same, *values = (sign * DISTORTIONS[name](sr, hr) for sr in [hr, *damaged])
    assert same.shape == (2,)
    best = {"psnr": -np.inf, "ssim": -1, "ms_ssim": -1, "ssim_piq_downsampled": -1}.get(name, 0)
    assert same.tolist() == pytest.approx([best] * 2, abs=1e-6)
    for better, worse in zip([same, *values], values, strict=False):
        assert (better < worse).all()  # more noise, worse score
    assert not torch.allclose(values[1][0], values[1][1], atol=1e-6)  # each image has its own


@pytest.mark.parametrize("name", ALL)
def test_batches_and_against(name, untrained, device):
    side = side_for(name)
    hr, sr = waves(1, side).to(device), waves(4, side, seed=1).to(device)
    batch = DISTORTIONS[name](sr, hr)
    assert batch.shape == (4,) and batch.device.type == device.type
    single = torch.cat([DISTORTIONS[name](sr[i : i + 1], hr) for i in range(4)])
    torch.testing.assert_close(batch, single, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(against(name, hr)(sr), batch, atol=1e-6, rtol=1e-6)
    pairs = DISTORTIONS[name](sr, waves(4, side).to(device))
    torch.testing.assert_close(pairs[:1], batch[:1], atol=2e-6, rtol=1e-5)
    assert not torch.allclose(pairs[1:], batch[1:], atol=1e-4)  # the i-th HR image, not always the first
    torch.testing.assert_close(DISTORTIONS[name](sr.cpu(), hr.cpu()), batch.cpu(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_minimum_side(name, untrained):
    least = MINIMUM_SIDE[name]
    assert DISTORTIONS[name](waves(side=least), 1 - waves(side=least)).isfinite().all()
    if least > 1:
        with pytest.raises(ValueError, match=f"at least {least} pixels"):
            DISTORTIONS[name](waves(side=least)[..., :-1], waves(side=least)[..., :-1])


@pytest.mark.parametrize("name", ["lpips", "lpips_embedded", "ssim", "ms_ssim"])
def test_minimum_side_is_not_larger_than_needed(name, untrained, monkeypatch):
    least = MINIMUM_SIDE[name]
    monkeypatch.setitem(distortions.MINIMUM_SIDE, name, 1)
    with pytest.raises((RuntimeError, ValueError)):
        DISTORTIONS[name](waves(side=least - 1), waves(side=least - 1))


@pytest.mark.parametrize("name", ALL)
def test_lower_is_better_forms(name, untrained):
    lower = as_distortion(name)
    assert LOWER_IS_BETTER[lower] and as_distortion(lower) == lower
    assert DISTORTIONS[lower](waves(), waves()).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["lpips", "lpips_embedded", "dists"])
def test_features_of_hr_are_computed_once(name, untrained, monkeypatch):
    counted = []
    features, distance = perceptual.FEATURES[name]
    counting = (lambda network, images: counted.append(len(images)) or features(network, images), distance)
    monkeypatch.setitem(perceptual.FEATURES, name, counting)
    distortion = against(name, waves(side=48))
    for _ in range(3):
        distortion(waves(2, side=48, seed=1))
    assert counted == [1, 2, 2, 2]


def test_global_generator_is_left_alone(untrained, unloaded):
    before = torch.get_rng_state()
    for name in ("lpips", "dists"):
        DISTORTIONS[name](waves(side=48), waves(side=48, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_lpips_lets_gradients_through(untrained):
    sr = waves(side=64, seed=1).requires_grad_()
    distortions.lpips(sr, waves(side=64)).sum().backward()
    assert sr.grad.abs().max() > 0


# ---- what is refused


def test_b23_sizes_differ(untrained):
    for name in ("lpips", "psnr", "ssim"):
        with pytest.raises(ValueError, match="equal size"):
            DISTORTIONS[name](waves(side=64), waves(side=66))
    with pytest.raises(ValueError, match="equal size"):
        distortions.psnr(waves(3), waves(2))


def test_b24_other_ranges():
    for wrong, seen in ((waves() * 255, "254"), (waves() * 2 - 1, "-")):
        with pytest.raises(ValueError, match=f"expected finite values in .0, 1., got .*{seen}"):
            distortions.ssim(wrong, waves())
    with pytest.raises(ValueError, match="sr: expected finite values"):
        distortions.mse(waves() * torch.nan, waves())


def test_unknown_names():
    for call in (available, as_distortion, distortions.describe, lambda name: against(name, waves())):
        with pytest.raises(ValueError, match="'lpips2'"):
            call("lpips2")


def test_describe_names_package_and_variant():
    assert distortions.describe("lpips").startswith("lpips-alex v0.1 (lpips 0.1.")
    assert len({distortions.describe(name) for name in ALL}) == len(ALL)


# ---- missing weights


@pytest.mark.parametrize(("name", "file"), [("lpips", "alexnet-owt-7be5be79.pth"), ("dists", "vgg16-397923af.pth")])
def test_missing_weights_are_an_error_in_the_first_second(name, file, unloaded, monkeypatch):
    monkeypatch.delenv("IDA_RD_OFFLINE")
    unroutable = store.WEIGHTS[weights_of(name)]._replace(urls=("http://192.0.2.1/" + file,))  # RFC 5737
    monkeypatch.setitem(store.WEIGHTS, weights_of(name), unroutable)
    start = time.perf_counter()
    reason = available(name)
    assert time.perf_counter() - start < 0.2
    for expected in (file, "IDA_RD_WEIGHTS", "http://192.0.2.1"):
        assert expected in reason
    if name == "lpips":  # DISTS asks for its other file first
        start = time.perf_counter()
        with pytest.raises(ValueError, match=f"{file} is missing: put it into .*IDA_RD_WEIGHTS"):
            against(name, waves())
        assert time.perf_counter() - start < 1.5


def weights_of(name):
    return {"lpips": "alexnet", "dists": "vgg16"}[name]


def test_available_when_the_files_are_there(untrained):
    assert [available(name) for name in ALL] == [None] * len(ALL)


def test_wrong_file_in_the_named_folder_is_refused(untrained, unloaded, monkeypatch):
    entry = store.WEIGHTS["alexnet_features"]._replace(sha256="0" * 64)
    monkeypatch.setitem(store.WEIGHTS, "alexnet_features", entry)
    assert "SHA-256 expected 0000" in available("lpips")
    with pytest.raises(ValueError, match="SHA-256 expected 0000"):
        distortions.lpips(waves(), waves())


def test_no_library_downloads_by_itself(untrained, unloaded, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a library wanted {args}")

    for module in (
        "socket.create_connection",
        "urllib.request.urlopen",
        "torch.hub.load_state_dict_from_url",
    ):
        monkeypatch.setattr(module, refuse)
    for name in ("lpips", "dists"):
        assert DISTORTIONS[name](waves(side=48), waves(side=48)).shape == (1,)


# ---- beside D itself


def test_embedded_network_is_always_there_and_says_which_weights_it_has(monkeypatch, tmp_path):
    assert available("lpips_embedded") is None and available("lpips") is not None  # no trunk, no network
    digest = files.sha256_of(store.EMBEDDED / "compact_lpips.safetensors")[:12]
    assert distortions.describe("lpips_embedded") == f"lpips_embedded: compact network of LPIPS's form, {digest}"
    assert digest in distortions.describe("lpips_embedded_of_mean")
    other = tmp_path / "compact_lpips.safetensors"
    other.write_bytes(b"other")
    monkeypatch.setattr(store, "EMBEDDED", tmp_path)
    with pytest.raises(ValueError, match="expected SHA-256"):  # not the file that SHA256SUMS lists
        distortions.describe("lpips_embedded")
    (tmp_path / "SHA256SUMS").write_text(f"{files.sha256_of(other)}  {other.name}\n")
    assert digest not in distortions.describe("lpips_embedded")


def test_embedded_distance_of_the_mean_of_draws_and_at_64_pixels():
    hr = waves(side=64)
    sr = (hr + 0.1 * torch.randn(3, 3, 64, 64, generator=seeded("draws"))).clamp(0, 1)
    values, of_mean = distortions.lpips_embedded(sr, hr), against("lpips_embedded_of_mean", hr)(sr)
    expected = distortions.lpips_embedded(sr.mean(0, keepdim=True), hr)
    torch.testing.assert_close(of_mean[-1:], expected)
    torch.testing.assert_close(of_mean[:1], values[:1])
    assert as_distortion("lpips_embedded") == "lpips_embedded" and LOWER_IS_BETTER["lpips_embedded_of_mean"]
    assert of_mean[-1] < values.min()  # noise averages out


def test_of_mean_is_d_of_the_mean_of_the_draws_so_far_in_any_batches():
    hr, sr = waves(side=32), torch.rand(5, 3, 32, 32, generator=seeded("draws"))
    expected = torch.cat([DISTORTIONS["mse"](sr[: q + 1].mean(0, keepdim=True), hr) for q in range(5)])
    torch.testing.assert_close(against("mse_of_mean", hr)(sr), expected)
    in_batches = against("mse_of_mean", hr)
    torch.testing.assert_close(torch.cat([in_batches(sr[:2]), in_batches(sr[2:3]), in_batches(sr[3:])]), expected)


def test_mean_of_squared_errors_is_bias_plus_spread_exactly():
    hr, sr = waves(side=32), torch.rand(4, 3, 32, 32, generator=seeded("draws"))
    of_mean = against("mse_of_mean", hr)(sr)[-1].double()
    spread = (sr - sr.mean(0)).square().mean((1, 2, 3)).sum().double() / 3
    bias = of_mean - spread / 4
    assert against("mse", hr)(sr).double().mean() == pytest.approx((bias + spread).item(), rel=1e-5)


def test_errors_of_the_lr_image():
    hr = waves(side=32)
    lr = matlab_bicubic(hr, 4, rounded=False).clamp(0, 1)
    sr = torch.rand(3, 3, 32, 32, generator=seeded("draws"))
    assert against("lr_mse", hr, lr)(sr).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    expected = (matlab_bicubic(sr, 4, rounded=False) - lr).square().mean((1, 2, 3))
    torch.testing.assert_close(against("consistency_mse", hr, lr)(sr), expected)
    for bad in (None, lr[..., :-1], lr.expand(2, -1, -1, -1)):
        with pytest.raises(ValueError, match="consistency_mse: expected one LR image"):
            against("consistency_mse", hr, bad)


def test_names_beside_d_have_direction_form_and_description():
    assert as_distortion("psnr_of_mean") == "mse_of_mean" and as_distortion("lr_mse") == "lr_mse"
    assert as_distortion("ssim_of_mean") == "1-ssim_of_mean" and LOWER_IS_BETTER["1-ssim_of_mean"]
    assert "of the mean" in distortions.describe("mse_of_mean") and "MATLAB" in distortions.describe("lr_mse")
    assert available("mse_of_mean") is None and available("consistency_mse") is None


@pytest.mark.parametrize("name", [name for name in DISTORTIONS if name not in ("lpips", "dists")])
def test_arrays_are_refused_and_double_precision_is_taken_beside_float32(name):
    hr = torch.rand(1, 3, 170, 170)
    sr = (hr + 0.1 * torch.rand(1, 3, 170, 170)).clamp(0, 1)
    for wrong in ((sr.numpy(), hr.numpy()), (sr.numpy(), hr), (sr, hr.numpy()), (sr.tolist(), hr), (None, hr), (sr, 1)):
        with pytest.raises(ValueError, match="expected a torch.Tensor, got "):
            DISTORTIONS[name](*wrong)
    plain = DISTORTIONS[name](sr, hr)
    for more in ((sr.double(), hr), (sr, hr.double()), (sr.double(), hr.double())):
        assert DISTORTIONS[name](*more).item() == pytest.approx(plain.item(), rel=1e-3)


def test_a_name_that_is_no_distortion_says_which_is_near():
    with pytest.raises(KeyError, match="expected one of lpips, .*, got 'lpips_embeded'; did you mean 'lpips_embedded'"):
        DISTORTIONS["lpips_embeded"]
