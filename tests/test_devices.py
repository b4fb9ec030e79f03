"""On a device: everything from the downscaler to the distortion, with tensors that claim to be there (`pretend`).

A CPU tensor that meets one of these raises, and "mps" refuses float64 as MPS does. What only a device can show stays
open: whether it has every operation, how it rounds, memory, speed, and pickles of tensors between devices.
"""

from functools import cache, partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision import models

from helpers import distortions, iqa, runs, runtime, upscalers, weights
from helpers.degradations import DEGRADATIONS
from helpers.distortions import DISTORTIONS, perceptual
from helpers.downscalers import DOWNSCALERS, adaptive, spectra
from helpers.images import check_images, quantize
from helpers.iqa import kid, natural, trained
from helpers.measure import check_downscaler, score_image
from helpers.networks import compact_flow, srflow, stylegan
from helpers.networks.esrgan import ESRGAN
from helpers.networks.hyperthumbnail import HyperThumbnail
from helpers.rescalers.registry import RESCALERS
from helpers.runs import cell
from helpers.runtime import WORKER, pick_device, seeded
from helpers.studies import probes
from helpers.training import flow
from helpers.upscalers import flows, pulse
from tests import pretend, test_nb_00, test_nb_08
from tests.fakes import experiment, run, write_images
from tests.notebook import up_to
from tests.pictures import noise, waves
from tests.pretend import back
from tests.rescaling import fill
from tests.test_rescalers_irn import embedded
from tests.test_rescalers_irn import small as irn_small
from tests.test_rescalers_sain import small as sain_small
from tests.test_studies_probes import official
from tests.test_training_flow import FAST, network_of_tests, photographs, validation
from tests.test_upscalers_diffusion import put_small_files
from tests.test_upscalers_esrgan import NAMES as ESRGANS
from tests.test_upscalers_esrgan import put as put_esrgan
from tests.test_upscalers_rescalers import HYPER

LEVELS = {"blur": 1.0, "blur_full": 1.0, "noise": 0.1, "contrast": 0.5, "otsu": 5, "jpeg": 50, "mixed": 3, "bsrgan": 2}
LEVELS |= {"jpeg_444": 50, "webp": 50, "avif": 50, "lost_bits": 2, "dithered": 5, "resized": 0.9, "wide_gamut": 1}


@pytest.fixture(params=pretend.DEVICES, name="there")
def there_fixture(request, monkeypatch):
    with pretend.pretend(monkeypatch, request.param) as device:
        yield device


@pytest.fixture(name="mps")
def mps_fixture(monkeypatch):
    with pretend.pretend(monkeypatch, "mps") as device:
        yield device


@pytest.fixture(name="cuda")
def cuda_fixture(monkeypatch):
    with pretend.pretend(monkeypatch, "cuda") as device:
        yield device


# The instrument


def test_a_pretender_refuses_what_a_device_refuses(there):
    here, image = torch.ones(3), torch.ones(3).to(there)
    assert image.device == there == (2 * image).device == image.clone().device and image.cpu().device.type == "cpu"
    assert torch.zeros(2, device=there).device == there == image.new_zeros(2).device == image.new_tensor([1.0]).device
    for mixture in (lambda: image + here, lambda: torch.cat([here, image]), lambda: here[image.long()], image.numpy):
        with pytest.raises((RuntimeError, TypeError), match="same device|numpy"):
            mixture()
    assert back(image + torch.tensor(1.0)).tolist() == [2.0] * 3 and back(image[torch.tensor([0])]).tolist() == [1.0]
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, generator=seeded(0), device=there)
    if there.type == "mps":
        for wide in (
            image.double,
            lambda: here.double().to(there),
            lambda: torch.zeros(2, dtype=torch.float64).to(there),
        ):
            with pytest.raises(TypeError, match="float64"):
                wide()
    slope = torch.ones(3).requires_grad_()
    (2 * slope.to(there)).sum().cpu().backward()
    assert slope.grad.tolist() == [2.0] * 3


# From the downscaler to the distortion


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_downscalers(there, name):
    hr = waves(2, 64, 96)
    assert torch.equal(back(DOWNSCALERS[name](hr.to(there), 4)), DOWNSCALERS[name](hr, 4))


@pytest.mark.parametrize("name", ["perceptual", "dpid", "l0", "l0_smooth", "bicubic_float", "torch_bicubic"])
def test_downscalers_that_a_search_descends(there, name):
    slopes = []
    for device in ("cpu", there):
        hr = waves(2, 64, 64).to(device).requires_grad_()
        (slope,) = torch.autograd.grad(DOWNSCALERS[name](hr, 4).square().sum(), hr)
        slopes.append(slope)
    torch.testing.assert_close(back(slopes[1]), slopes[0], rtol=0, atol=0, equal_nan=True)  # NaN where it is flat
    assert slopes[0].nan_to_num().any()


def test_sizes_that_do_not_divide_and_every_convention(there):
    hr = noise(1, 50, 70)
    for how in ({}, {"rounded": False}, {"convention": "pillow12"}, {"convention": "matlab"}):
        expected = DOWNSCALERS["bicubic"].__globals__["resize"](hr, (17, 23), "lanczos", **how)
        assert torch.equal(
            back(DOWNSCALERS["bicubic"].__globals__["resize"](hr.to(there), (17, 23), "lanczos", **how)), expected
        )
    assert torch.equal(back(adaptive.dpid_resize(hr.to(there), (17, 23))), adaptive.dpid_resize(hr, (17, 23)))


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_degradations(there, name):
    lr, noises = quantize(waves(2, 32, 48)), lambda: [seeded(name, q) for q in range(2)]
    expected = DEGRADATIONS[name](lr, LEVELS[name], noises())
    assert torch.equal(back(DEGRADATIONS[name](lr.to(there), LEVELS[name], noises())), expected)


FLOWS = [
    ("embedded_flow", 2),
    ("embedded_flow", 4),
    ("embedded_flow", 8),
    ("embedded_flow_mixed", 4),
    ("embedded_flow_first", 8),
    ("bicubic", 4),
    *((f"embedded_{kind}", 4) for kind in ("l1", "l1_blind", "resshift", "resshift_blind")),
    ("embedded_flow_x4_to_x3", 3),
]
FLOWS += [("embedded_flow_x8+embedded_flow_x2", 16), ("srflow_df2k_4x", 4), ("srflow_df2k_4x+embedded_flow_x2", 8)]


def draws(name, scale, device, where, side=8, **options):
    lr = quantize(waves(1, side, side)).to(where)
    return upscalers.build(name, scale=scale, device=str(device))(
        lr, [seeded("devices", q) for q in range(2)], **options
    )


@cache
def draws_of_the_cpu(name, scale, side):
    return draws(name, scale, "cpu", "cpu", side)


@pytest.fixture(name="small_srflow")
def small_srflow_fixture(monkeypatch):
    def load(file, device="cpu"):
        return official().to(device)

    monkeypatch.setattr(flows, "load_srflow", load)
    monkeypatch.setattr(upscalers, "load_srflow", load)


@pytest.mark.parametrize(("name", "scale"), FLOWS)
def test_flows_and_cascades_give_the_draws_of_the_cpu_where_the_lr_image_is(there, small_srflow, name, scale):
    expected = draws_of_the_cpu(name, scale, 4)
    assert torch.equal(back(draws(name, scale, there, there, 4)), expected)
    here = draws(name, scale, there, "cpu", 4)
    assert here.device.type == "cpu" and torch.equal(here, expected)


SEARCHES = ["steps=3", "steps=2,noise=trainable,optimizer=adamax", "steps=2,optimizer=sgdm,noise=zero,tile_latent=true"]
SEARCHES += [
    "steps=2,f_ds=true,loss=100*L2+10*L1",
    "steps=2,f_ds=straight-through,select=best",
    "steps=2,optimizer=sgd",
]


@pytest.mark.parametrize("options", SEARCHES)
def test_searches(there, options):
    found, name = [], f"embedded_pulse({options})"
    how = {"downscale": DOWNSCALERS["perceptual"], "on_result": found.append} if "f_ds" in options else {}
    expected = draws(name, 8, "cpu", "cpu", **how)
    assert torch.equal(back(draws(name, 8, there, there, **how)), expected)
    assert torch.equal(draws(name, 8, there, "cpu", **how), expected)
    assert len({str(each.residual.tolist()) for each in found}) <= 1


DIFFUSIONS = {"resshift_v3": 4, "sr3": 8}


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_diffusions(mps, name, tmp_path, monkeypatch):  # it refuses what "cuda" does, and float64
    put_small_files(tmp_path, monkeypatch)
    expected = draws(name, DIFFUSIONS[name], "cpu", "cpu", 4)
    assert torch.equal(back(draws(name, DIFFUSIONS[name], mps, mps, 4)), expected)
    assert torch.equal(draws(name, DIFFUSIONS[name], mps, "cpu", 4), expected)


def test_the_family_of_esrgan(there, tmp_path, monkeypatch):
    for name, value in (("IDA_RD_CACHE", tmp_path / "cache"), ("IDA_RD_WEIGHTS", tmp_path), ("IDA_RD_OFFLINE", "1")):
        monkeypatch.setenv(name, str(value))
    put_esrgan(tmp_path, "BSRGANx2.pth", ESRGAN(2, 1, 4, 4, 1))
    expected = draws("bsrgan", 2, "cpu", "cpu", 5)
    assert torch.equal(back(draws("bsrgan", 2, there, there, 5)), expected)
    assert torch.equal(draws("bsrgan", 2, there, "cpu", 5), expected)


DECODERS = {"irn": irn_small("irn_x2"), "sain": sain_small("sain_x2"), "hyperthumbnail": fill(HyperThumbnail(**HYPER))}


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_of_rescalers(there, name, tmp_path, monkeypatch):
    scale = 4 if name == "hyperthumbnail" else 2
    embedded(monkeypatch, tmp_path, **{f"{name}_x{scale}": DECODERS[name]})
    expected = draws(name, scale, "cpu", "cpu")
    assert torch.equal(back(draws(name, scale, there, there)), expected)
    assert torch.equal(draws(name, scale, there, "cpu"), expected)


def test_every_upscaler_is_tried_here():
    tried = {name.split("(")[0] for name, _ in FLOWS} | {"embedded_pulse", "pulse"}
    tried |= set(DIFFUSIONS) | {"resshift", "resshift_v2", "resshift_bicsr", "sr3_512"}  # the same functions
    tried |= set(ESRGANS)  # one function as well
    tried |= set(RESCALERS)  # IRN's functions, those of SAIN, those of HyperThumbnail
    assert {name for name in upscalers.UPSCALERS if not name.startswith("srflow")} <= tried


@pytest.mark.parametrize("name", ["df2k_4x", "celeba_8x"])  # df2k_8x has the blocks of one and the taps of the other
def test_srflow_in_full_size(name):
    with FakeTensorMode(), torch.no_grad(), torch.device("cuda"):  # nothing is computed
        network = srflow.build(name).eval()
        lr = torch.rand(1, 3, 6, 6)
        latents = [torch.randn(2, *shape) for shape in network.latent_shapes(6, 6)]
        hr, _ = network.decode(lr.expand(2, -1, -1, -1), latents)
        assert hr.device.type == "cuda" and hr.shape == (2, 3, 6 * network.scale, 6 * network.scale)
        assert network.encode(hr, lr.expand(2, -1, -1, -1))[1].device.type == "cuda"


def test_the_official_generator_in_full_size():
    with FakeTensorMode(), torch.no_grad(), torch.device("cuda"):
        network = stylegan.Synthesis().eval()
        noise_maps = [torch.randn(1, *shape) for shape in network.noise_shapes()]
        image = network(torch.randn(1, network.layers, 512), noise_maps)
        assert image.device.type == "cuda" and image.shape == (1, 3, 1024, 1024)
        assert pulse.bicubic_proxy(image, 32).device.type == "cuda"


def random_trunk(network, names):
    for number, parameter in enumerate(network.parameters()):
        parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=seeded("trunk", number)))
    return network


@pytest.fixture(name="networks")
def networks_fixture(monkeypatch):
    """Random weights where the real ones do not come with the repository."""
    monkeypatch.setattr(perceptual, "_trunk", random_trunk)
    monkeypatch.setattr(weights, "fetch", lambda name: name)
    load = weights.load_state
    state = {key: torch.rand(1, 1475, 1, 1, generator=seeded(key)) for key in ("alpha", "beta")}
    monkeypatch.setattr(weights, "load_state", lambda path: state if path == "dists" else load(path))
    distortions.network.cache_clear()
    yield
    distortions.network.cache_clear()


@pytest.mark.parametrize("name", [*DISTORTIONS, "mse_of_mean", *distortions.OF_LR])
def test_distortions(there, networks, name):
    side = max(32, distortions.MINIMUM_SIDE[name] // 4 * 4 + 4)
    hr, sr = quantize(waves(1, side, side)), quantize(noise(2, side, side))
    lr = DOWNSCALERS["bicubic"](hr, 4)
    expected = distortions.against(name, hr, lr)(sr)
    assert torch.equal(back(distortions.against(name, hr.to(there), lr.to(there))(sr.to(there))), expected)
    if name in DISTORTIONS:
        assert torch.equal(back(DISTORTIONS[name](sr.to(there), hr.to(there))), DISTORTIONS[name](sr, hr))


# The measure and the runs


@pytest.mark.parametrize("images_there", [True, False])
def test_the_measure_takes_images_on_either_side_of_an_upscaler_on_a_device(there, images_there):
    hr, where = quantize(waves(1, 32, 32)), there if images_there else "cpu"
    scores = []
    for device, at in (("cpu", "cpu"), (there, where)):
        f_us = upscalers.build("embedded_flow", scale=4, device=str(device))
        several = {name: DISTORTIONS[name] for name in ("mse", "1-ssim", "lpips_embedded")}
        scores.append(score_image(hr.to(at), lambda x: DOWNSCALERS["l0"](x, 4), f_us, several, n_samples=3, batch=2))
    assert torch.equal(*scores)


@pytest.mark.parametrize("upscaler", ["embedded_flow", "embedded_pulse(steps=2,f_ds=true)"])
def test_runs_give_the_rows_of_the_cpu(there, tmp_path, upscaler):
    folder = write_images(tmp_path / "images", 1, side=64)  # of the search
    how = {"upscaler": upscaler, "scale": 8, "n_samples": 2, "distortion": ["lpips_embedded", "mse"]}
    how |= {"downscalers": ["bicubic_float", "perceptual"], "degradations": [("", None), ("noise", 0.1)]}
    rows = {device: run(experiment(folder, device=device, **how), tmp_path / device) for device in ("cpu", there.type)}
    own = {"cpu": "cpu", "cuda": "Pretender 0", "mps": "mps"}
    for device, found in rows.items():
        assert set(found.device) == {own[device]} and len(found) == 2 * 2 * 2 * 2
    same = [found.drop(columns=["device", "seconds", "checksum"]) for found in rows.values()]
    assert same[0].equals(same[1]) and same[0].value.notna().all()


def test_a_cell_lies_on_the_device(there, tmp_path):
    one = experiment(write_images(tmp_path / "images", 1, side=64), device="auto", upscaler="embedded_flow")
    hr, lr = runs.pair(one, "00", "bicubic", "jpeg", 50)
    assert hr.device == lr.device == there and back(runs.draw(one, "00", "bicubic")).shape == (3, 3, 64, 64)


def halves(hr, scale):
    """A user's downscaler in NumPy."""
    return torch.from_numpy(hr.numpy()[:, :, ::scale, ::scale].copy())


def on_the_device(hr, scale):
    assert hr.device.type != "cpu"
    return hr[:, :, ::scale, ::scale].contiguous()


on_the_device.device = True


def test_a_users_function_gets_cpu_tensors_unless_it_asks_for_the_device(there, tmp_path):
    hr = quantize(waves(1, 64, 64))
    for f, mark in ((halves, ""), (on_the_device, "mine.device = True\n")):
        checked = check_downscaler(f, f.__name__, hr.to(there), 4, twice=True)
        assert torch.equal(back(checked.lr), halves(hr, 4)) and checked.deterministic
        value = score_image(hr.to(there), partial(f, scale=4) if f is halves else lambda x: halves(x, 4),
                            upscalers.build("bicubic", scale=4, device=str(there)), DISTORTIONS["mse"])  # fmt: skip
        assert value.isfinite().all()
        own = tmp_path / f"{f.__name__}.py"
        body = "hr.numpy()[:, :, ::s, ::s].copy()" if f is halves else "hr[:, :, ::s, ::s].contiguous()"
        result = f"torch.from_numpy({body})" if f is halves else body
        own.write_text(f"import torch\n\n\ndef mine(hr, s):\n    return {result}\n\n\n{mark}")
        folder = tmp_path / f"images {f.__name__}"
        how = {"downscalers": [f"{own}:mine"], "device": there.type, "upscaler": "embedded_pulse(steps=1,f_ds=true)"}
        how |= {"scale": 8} if mark else {"scale": 4, "upscaler": "bicubic", "heat": 0.0}
        rows = run(experiment(write_images(folder, 1, side=64), **how), tmp_path / f"rows {f.__name__}")
        assert rows.value.notna().all() and len(rows) == (3 if mark else 1)


# Beside the runs


def test_scores_without_a_reference(there, networks, monkeypatch):
    torch.manual_seed(0)
    network = torch.nn.Sequential(*list(models.resnet50(weights=None).children())[:-2]).eval()
    monkeypatch.setattr(trained, "_contrique_network", lambda path: network)
    monkeypatch.setattr(trained, "read_ridge", lambda path: (torch.linspace(-1, 1, 4096).double().numpy(), 50.0))
    images = quantize(noise(1, 64, 64))
    assert (natural.brisque_features(images.to(there)) == natural.brisque_features(images)).all()
    for name in ("niqe_tiny", "contrique"):
        network.cpu()
        expected = iqa.IQA[name](images)
        found = iqa.IQA[name](images.to(there))
        assert found.device.type == "cpu" and found.dtype == torch.float64 and torch.equal(found, expected), name
    assert torch.equal(kid.features(images.to(there)), kid.features(images))
    assert torch.equal(back(kid.nearest(images.to(there), torch.zeros(1, 3, 64, 64).byte())),
                       kid.nearest(images, torch.zeros(1, 3, 64, 64).byte()))  # fmt: skip


def test_pictures_are_measured(there):
    lr, reference = noise(1, 64, 64), waves(1, 64, 64)
    expected = spectra.transfer(lr, reference, 4).power
    assert (spectra.transfer(lr.to(there), reference.to(there), 4).power == expected).all()
    assert spectra.displacement(lr.to(there), lr.to(there)) == spectra.displacement(lr, lr)
    assert torch.equal(back(spectra.ideal(lr.to(there), 4)), spectra.ideal(lr, 4))


@pytest.mark.parametrize("make", [lambda: upscalers.load_compact_flow(4), official], ids=["compact", "srflow"])
def test_a_flow_is_looked_into(there, make):
    hr, lr, found = quantize(waves(1, 32, 32)), quantize(waves(1, 8, 8)), []
    for device in ("cpu", there):
        network = make().to(device)
        bits = probes.encode(network, hr.to(device), lr.to(device), seeded(0)).bits
        trace = probes.decode_trace(network, lr.to(device), [seeded(1), seeded(2)])
        found.append((bits.tolist(), trace, probes.extremes(network, {"lr": lr.to(device)}, [0.0, 1.0], (3,))))
    assert found[0][0] == found[1][0] and found[0][1].equals(found[1][1]) and found[0][2].equals(found[1][2])


def test_likelihoods_are_computed(there, tmp_path):
    one = experiment(write_images(tmp_path / "images", 1, side=64), device=there.type, upscaler="embedded_flow")
    rows = probes.likelihood(one, tmp_path / "rows")
    assert rows.value.notna().all() and set(rows.device) == {there.type}


def test_a_flow_is_trained(there, tmp_path):
    pairs = photographs()
    network = network_of_tests().to(there)
    trained_one = flow.train_flow(network, pairs, validation(pairs), tmp_path / "run.pt", **FAST)
    assert next(trained_one.parameters()).device == there


@pytest.mark.filterwarnings("ignore:Data has no positive values")  # shares of 0 in a tiny run, on a logarithmic axis
@pytest.mark.parametrize("of, kind", [(test_nb_00, "cuda"), (test_nb_00, "mps"), (test_nb_08, "mps")],
                         ids=lambda each: getattr(each, "NAME", each))  # fmt: skip
def test_notebooks(monkeypatch, tmp_path, of, kind):
    """All cells of those that hand images to an upscaler themselves; "mps" refuses what "cuda" does, and float64."""
    with pretend.pretend(monkeypatch, kind):
        space, _ = up_to(of.NAME, "", tmp_path, of.TINY | {"device": "auto"})
    assert space["device"] == kind
    assert set(space["rows"].device) == {"Pretender 0" if kind == "cuda" else "mps"}


# What a device is told, and which one it is


def test_published_draws_come_from_deterministic_kernels(cuda, monkeypatch):
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "deterministic", False), monkeypatch.setattr(cudnn, "benchmark", True)
    assert pick_device("auto") == torch.device("cuda") and cudnn.deterministic and not cudnn.benchmark


def test_workers_spread_over_the_gpus_and_rows_name_theirs(monkeypatch, tmp_path):
    one = experiment(write_images(tmp_path / "images", 1, side=32), device="cuda", upscaler="embedded_flow")
    with pretend.pretend(monkeypatch, "cuda", count=3):
        assert pick_device("auto") == torch.device("cuda")  # nobody's worker
        names = []
        for number in range(4):
            monkeypatch.setenv(WORKER, str(number))
            assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", number % 3)
            assert pick_device("cuda:1") == torch.device("cuda", 1) and pick_device("cpu").type == "cpu"
            cell._loaded.cache_clear()
            keys = one.keys()[:1]
            names.append(cell.score(one, "00", keys)[0][0]["device"])
        assert names == ["Pretender 0", "Pretender 1", "Pretender 2", "Pretender 0"]
    with pretend.pretend(monkeypatch, "cuda", count=1):
        assert pick_device("auto") == torch.device("cuda")  # one for all
    with pretend.pretend(monkeypatch, "mps"):
        assert pick_device("auto") == torch.device("mps")


# What is not computed or moved again


def test_samples_need_no_log_determinant(monkeypatch):
    asked = []
    slogdet = torch.linalg.slogdet
    monkeypatch.setattr(torch.linalg, "slogdet", lambda matrix: asked.append(1) or slogdet(matrix))
    network, lr = upscalers.load_compact_flow(4), quantize(waves(1, 8, 8))
    latents = upscalers.draw_latents(network.latent_shapes(8, 8), [seeded(0), seeded(1)], 1.0)
    with torch.no_grad():
        whole, logdet = network.decode(lr, latents)
        assert len(asked) == 18 and logdet.isfinite().all()
        assert torch.equal(network.sample(lr, latents), whole) and len(asked) == 18
    upscalers.build("embedded_flow", scale=4)(lr, [seeded(0)])
    assert len(asked) == 18 and isinstance(network, compact_flow.CompactFlow)


@pytest.mark.parametrize("name", ["bicubic", "bicubic_float", "matlab_bicubic", "lanczos", "dpid", "l0", "l0_smooth"])
def test_a_downscaler_moves_its_matrices_to_a_device_once(there, monkeypatch, name):
    hr = noise(1, 48, 72).to(there)
    DOWNSCALERS[name](hr, 4)
    moved, move = [], pretend._moved

    def counted(tensor, device):
        moved.extend([tuple(tensor.shape)] * (tensor.device != device))
        return move(tensor, device)

    monkeypatch.setattr(pretend, "_moved", counted)
    DOWNSCALERS[name](hr, 4)
    whole = there.type == "mps" and name not in ("bicubic_float", "dpid")  # in float64: to the CPU and back
    assert moved == ([(1, 3, 48, 72), (1, 3, 12, 18)] if whole else [])


def test_matrices_made_in_inference_mode_serve_a_search():
    for name in ("bicubic_float", "dpid", "l0", "l0_smooth"):
        with torch.inference_mode():
            DOWNSCALERS[name](noise(1, 44, 52), 4)
        hr = noise(1, 44, 52).requires_grad_()
        DOWNSCALERS[name](hr, 4).sum().backward()
        assert hr.grad.isfinite().all()


def test_a_check_of_images_waits_for_the_device_once(there, monkeypatch):
    waits = []
    for way in ("tolist", "item", "__bool__"):
        original = getattr(pretend.Pretender, way)
        read = lambda self, original=original: waits.append(1) or original(self)  # noqa: E731
        monkeypatch.setattr(pretend.Pretender, way, read, raising=False)
    check_images(noise(1, 8, 8).to(there))
    assert len(waits) == 1


def test_the_record_names_the_gpu(cuda):
    assert runtime.record("cuda:0")["device"] == "Pretender 0"
