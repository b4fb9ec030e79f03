"""PULSE: the official numbers (steps, paths), and what must hold of any search."""

import json
from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import generators
from helpers.downscalers import DOWNSCALERS, filters
from helpers.images import quantize
from helpers.networks.stylegan import Mapping, Synthesis
from helpers.runtime import seeded
from helpers.upscalers import pulse, pulse_losses
from tests.test_stylegan import differ, fill, noise_of, statistics_of_styles, values

STEPS = 30


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """What a test caches stays out of the reader's cache."""
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))


@cache
def reference(resolution: int, kind: torch.dtype = torch.float32) -> generators.StyleGenerator:
    """The generator of the reference paths."""
    return generators.style_generator(
        fill(Synthesis(resolution)).to(kind), *(each.to(kind) for each in statistics_of_styles())
    )


@cache
def small(kind: torch.dtype = torch.float32, device: str = "cpu") -> generators.StyleGenerator:
    """A generator of 16x16 images, weights by rule; its fit is that of its own mapping network."""
    network = fill(Synthesis(16, fmap_base=64, fmap_max=16, style_size=16))
    fit = generators.gaussian_fit(fill(Mapping(16, 16)), [torch.randn(2000, 16, generator=seeded("fit"))])
    return generators.style_generator(network.to(kind), *(each.to(kind) for each in fit), device=device)


def answerable(n: int = 1, kind: torch.dtype = torch.float32, key: str = "truth") -> torch.Tensor:
    """LR images 4x4 of images that the small generator can draw."""
    network = small(kind)
    latents, noise = pulse.draw_starts(network, [seeded(key, q) for q in range(n)], noise="zero")
    styles = F.leaky_relu(latents * network.std + network.mean, 0.2)
    with torch.no_grad():
        hr = (network.synthesis(styles, noise) + 1) / 2
    return pulse_losses.bicubic_proxy(hr.clamp(0, 1), 4).clamp(0, 1)


def keys(n: int, first: int = 0) -> list[torch.Generator]:
    return [seeded(0, q) for q in range(first, first + n)]


@pytest.mark.parametrize("name", pulse.OPTIMIZERS)
def test_spherical_steps_golden(shared, name):
    golden = np.load(shared / "golden" / "pulse" / "spherical.npz")
    variables = [torch.from_numpy(golden[key]).requires_grad_() for key in ("p0", "q0")]
    optimizer = pulse.OPTIMIZERS[name](variables, lr=0.4)
    radii = [pulse.norms(variable).detach() for variable in variables]
    for step in range(5):
        for variable, key in zip(variables, ("gp", "gq"), strict=True):
            variable.grad = torch.from_numpy(golden[key][step])
        pulse.spherical_step(optimizer, variables, radii)
        for variable, key in zip(variables, ("p", "q"), strict=True):
            assert differ(variable.detach(), golden[f"{name}_{key}"][step]) < 1e-6


def test_gaussian_fit_golden(shared):
    golden = np.load(shared / "golden" / "pulse" / "mapping.npz")
    latents = values("gfit.z.2000", (2000, 512))
    np.testing.assert_array_equal(latents[:2], golden["z_gfit_first"])
    mean, std = generators.gaussian_fit(fill(Mapping()), latents.split(300))
    assert differ(mean, golden["gfit_mean_2000"]) < 5e-5
    assert differ(std, golden["gfit_std_2000"]) < 5e-5


def reference_path(folder, case: str, network: generators.StyleGenerator) -> tuple:
    """The file of a reference path, its configuration, and as many of our states as it has losses."""
    told = json.loads((folder / "traj_r64.json").read_text())[case]
    golden, config = np.load(folder / f"traj_r64_{case}.npz"), told["cfg"]
    layers = len(network.noise_shapes)
    assert config["bad_noise_layers"] == str(layers - 1)
    noise = noise_of(network.synthesis, told["batch"], name=f"traj.{case}.noise.{{layer}}")[:-1] + [None]
    states = pulse.path(
        torch.from_numpy(golden["ref_lr"]).to(network.mean.dtype),
        network,
        torch.from_numpy(golden["latent0"]),
        [None] * layers if config["noise_type"] == "zero" else noise,
        loss=config["loss_str"],
        learning_rate=config["learning_rate"],
        steps=config["steps"],
        schedule=config["lr_schedule"],
        optimizer=config["opt_name"],
        trainable_noise=config["num_trainable_noise_layers"] if config["noise_type"] == "trainable" else 0,
        eps=config["eps"],
    )
    return golden, config, list(islice(states, len(golden["loss_TOTAL"])))


CASES = ["ida_rd", "pulse_default", "tile_sgd", "batch2_adamax", "finish_b1", "finish_b2"]
# In float32 an activation at LeakyReLU's kink, or a gradient near zero under Adam, may move a path by more than the
# stated tolerances, and does in the reference (pulse_default against its own float64 run). So all cases run in
# float64, where the reference has its losses too, and in float32 those that no such accident has met.
RUNS = [(case, torch.float64) for case in CASES] + [(case, torch.float32) for case in ("ida_rd", "finish_b1")]


@pytest.mark.parametrize("case, kind", RUNS, ids=[f"{case}-{kind}".replace("torch.", "") for case, kind in RUNS])
def test_path_golden(shared, case, kind):
    golden, config, states = reference_path(shared / "golden" / "pulse", case, reference(64, kind))
    trained = config["num_trainable_noise_layers"] if config["noise_type"] == "trainable" else 0
    rates = [state.learning_rate for state in states[: len(golden["lr"])]]
    np.testing.assert_allclose(rates, golden["lr"][: len(rates)], rtol=0, atol=1e-12)
    for name in states[0].terms:
        found = [state.terms[name].sum().item() for state in states]
        if kind == torch.float64:
            np.testing.assert_allclose(found, golden[f"f64_loss_{name}"], rtol=1e-6)
        else:
            np.testing.assert_allclose(found, golden[f"loss_{name}"], rtol=1e-3)
    totals = [state.total.sum().item() for state in states]
    np.testing.assert_allclose(totals, golden["loss_TOTAL"], rtol=1e-3)
    np.testing.assert_allclose(states[0].gradient[0], golden["grad0"], rtol=1e-3, atol=1e-4)
    for layer in range(min(trained, 3)):
        np.testing.assert_allclose(states[0].gradient[1 + layer], golden[f"noise_grad0_{layer}"], rtol=1e-3, atol=1e-4)
    distance = np.abs(states[-1].latents - golden["latents"][len(states) - 1])
    assert distance.mean() < 5e-3 and (distance < 2e-2).float().mean() > 0.995
    for state in states:
        torch.testing.assert_close(state.latents.norm(dim=2), states[0].latents.norm(dim=2), rtol=1e-5, atol=0)
        for layer in range(trained):
            norm = state.noise[layer].norm().item()
            assert norm == pytest.approx(states[0].noise[layer].norm().item(), rel=1e-5)
    assert differ(states[0].sr, golden["first_image"]) < 5e-5
    if "out_hr" in golden:
        best = min(states, key=lambda state: state.total.item())
        assert differ(states[-1].sr.clamp(0, 1), golden["out_hr"]) < 5e-3
        assert differ(best.lr.clamp(0, 1), golden["out_lr"]) < 5e-3


def test_path_golden_of_the_full_network(shared):
    folder = shared / "golden" / "pulse"
    golden, network = np.load(folder / "traj_r1024_ida_rd.npz"), reference(1024)
    noise = noise_of(network.synthesis, 1, name="traj1024.noise.{layer}")[:-1] + [None]
    lr, latents = torch.from_numpy(golden["ref_lr"]), torch.from_numpy(golden["latent0"])
    state, after = islice(pulse.path(lr, network, latents, noise), 2)
    assert (state.learning_rate, after.learning_rate) == pytest.approx(golden["lr"][:2].tolist(), abs=1e-12)
    for name, step in ((name, step) for name in state.terms for step in (0, 1)):
        found = (state, after)[step].terms[name].item()
        assert found == pytest.approx(golden[f"loss_{name}"][step], rel=1e-3)
    assert differ(F.adaptive_avg_pool2d(state.sr, 64), golden["first_pool64"]) < 5e-5
    np.testing.assert_allclose(state.gradient[0], golden["grad0"], rtol=1e-3, atol=2e-4)  # float32: see RUNS
    distance = np.abs(after.latents - golden["latents"][1])
    assert distance.mean() < 5e-3 and (distance < 2e-2).float().mean() > 0.995


def test_presets_are_the_defaults_and_pulses_own():
    import inspect

    defaults = {name: each.default for name, each in inspect.signature(pulse.search).parameters.items()}
    assert pulse.PRESETS["ida_rd"].items() <= defaults.items()
    assert (defaults["learning_rate"], defaults["steps"], defaults["noise"]) == (0.4, 200, "fixed")
    assert pulse.PRESETS["pulse"].keys() <= defaults.keys()
    assert pulse.PRESETS["pulse"]["steps"] == 100


def test_residual_falls_and_a_drawable_image_is_found(device):
    network = small(device=str(device))
    result = pulse.search(answerable(), network, keys(3), loss="100*L2", noise="zero", steps=100, eps=1e-3)
    start = pulse.search(answerable(), network, keys(3), loss="100*L2", noise="zero", steps=1, eps=1e-3)
    assert (result.residual < 0.3 * start.residual).all()
    assert result.converged.any() and not start.converged.any()
    assert result.sr.shape == (3, 3, 16, 16) and result.sr.min() >= 0 and result.sr.max() <= 1
    assert result.steps.tolist() == [99] * 3


@pytest.mark.parametrize("preset", pulse.PRESETS)
def test_a_batch_is_its_samples(preset):
    network, lr = small(torch.float64), answerable(4, torch.float64)
    options = pulse.PRESETS[preset] | {"steps": STEPS}
    together = pulse.search(lr, network, keys(4), **options)
    for q in range(4):
        alone = pulse.search(lr[q : q + 1], network, seeded(0, q), **options)
        for name in ("sr", "residual", "latents"):
            assert differ(getattr(together, name)[q], getattr(alone, name)[0]) < 1e-6, name
        assert together.converged[q] == alone.converged[0]


def test_same_key_same_sample_in_any_order():
    lr, network = answerable(), small(torch.float64)
    one = pulse.search(lr, network, [seeded(0, 0), seeded(0, 1)], steps=5)
    other = pulse.search(lr, network, [seeded(0, 1), seeded(0, 2), seeded(0, 0)], steps=5)
    assert differ(one.sr[0], other.sr[2]) < 1e-9 and differ(one.sr[1], other.sr[0]) < 1e-9
    assert differ(one.sr[0], one.sr[1]) > 1e-2


def test_a_broken_sample_leaves_the_others_alone():
    network, lr = small(), answerable()
    latents, noise = pulse.draw_starts(network, keys(2))
    latents[1, 0, 0] = torch.nan
    *_, state = pulse.path(lr.expand(2, -1, -1, -1), network, latents, noise, steps=3)
    *_, alone = pulse.path(lr, network, latents[:1], [m if m is None else m[:1] for m in noise], steps=3)
    assert state.residual[1].isnan() and state.sr[1].isnan().any()
    assert differ(state.sr[0], alone.sr[0]) < 1e-3


def test_latents_and_noise_stay_on_their_spheres():
    network, lr = small(), answerable(2)
    latents, noise = pulse.draw_starts(network, keys(2), noise="trainable")
    states = list(pulse.path(lr, network, latents, noise, steps=10, trainable_noise=3))
    assert torch.equal(states[0].latents, latents)
    for state in states[1:]:
        torch.testing.assert_close(state.latents.norm(dim=2), latents.norm(dim=2), rtol=1e-5, atol=0)
        for layer, (now, first) in enumerate(zip(state.noise[:-1], noise[:-1], strict=True)):
            torch.testing.assert_close(now.flatten(1).norm(dim=1), first.flatten(1).norm(dim=1), rtol=1e-5, atol=0)
            assert torch.equal(now, first) == (layer >= 3)
    assert noise[-1] is None


def test_tiled_latents_are_one_style_for_all_layers():
    network = small()
    result = pulse.search(answerable(), network, keys(2), tile_latent=True, steps=3)
    assert result.latents.shape == (2, 1, 16)
    latents, noise = pulse.draw_starts(network, keys(2), tile_latent=True)
    (tiled,) = pulse.path(answerable(2), network, latents, noise, steps=1)
    (same,) = pulse.path(answerable(2), network, latents.expand(-1, 6, -1), noise, steps=1)
    assert torch.equal(tiled.sr, same.sr)


def test_every_option_changes_the_sample():
    network, lr = small(), answerable()
    base = pulse.search(lr, network, keys(1), steps=8)
    for change in (
        {"f_ds": filters.bicubic_float},
        {"loss": "100*L2"},
        {"loss": "10*L1+0.05*GEOCROSS"},
        {"learning_rate": 0.2},
        {"steps": 9},
        {"schedule": "fixed"},
        {"schedule": "linear1cycle"},
        {"optimizer": "sgd"},
        {"optimizer": "sgdm"},
        {"optimizer": "adamax"},
        {"noise": "zero"},
        {"noise": "trainable"},
        {"tile_latent": True},
        {"eps": 0.5},
    ):
        other = pulse.search(lr, network, keys(1), **{"steps": 8} | change)
        assert differ(base.sr, other.sr) > 1e-5, change


def test_best_is_the_state_of_the_lowest_loss():
    network, lr = small(), answerable(3)
    options = {"steps": 12, "schedule": "fixed", "learning_rate": 2.0, "loss": "100*L2", "eps": 0.0}
    latents, noise = pulse.draw_starts(network, keys(3))
    states = list(pulse.path(lr, network, latents, noise, **options))
    best, last = (pulse.search(lr, network, keys(3), select=select, **options) for select in ("best", "last"))
    losses = torch.stack([state.total for state in states])
    assert torch.equal(best.steps, losses.argmin(0))
    torch.testing.assert_close(best.residual, losses.min(0).values / 100)
    torch.testing.assert_close(last.residual, states[-1].residual)
    for q, step in enumerate(best.steps.tolist()):
        assert differ(best.sr[q], states[step].sr[q].clamp(0, 1)) < 1e-6
        assert differ(best.latents[q], states[step].latents[q]) < 1e-6


def test_convergence_is_tested_for_each_sample():
    network, lr = small(), answerable(3)
    residual = pulse.search(lr, network, keys(3), steps=1).residual
    middle = residual.sort().values[1].item()
    result = pulse.search(lr, network, keys(3), steps=1, eps=middle)
    assert torch.equal(result.converged, residual <= middle) and result.converged.sum() == 2
    assert result.sr.isfinite().all()


@pytest.mark.parametrize("select", pulse.CHOICES["select"])
def test_the_state_that_is_returned_decides_whether_it_converged(select):
    """Paths of long steps come near and leave again: only the sample that is handed back counts."""
    network, lr, left = small(), answerable(4), 0
    for learning_rate, eps in ((1.0, 0.01), (2.0, 0.005), (5.0, 0.01), (10.0, 0.005)):
        options = {"steps": 12, "schedule": "fixed", "learning_rate": learning_rate, "eps": eps, "loss": "100*L2"}
        latents, noise = pulse.draw_starts(network, keys(4))
        residuals = torch.stack([state.residual for state in pulse.path(lr, network, latents, noise, **options)])
        result = pulse.search(lr, network, keys(4), select=select, **options)
        assert torch.equal(result.converged, result.residual <= eps)
        left += ((residuals <= eps).any(0) & ~result.converged).sum().item()
    assert select == "best" or left > 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_last_sample_that_is_no_number_has_not_converged(bad):
    """Its path was below eps before; the others of the batch keep their answers."""
    network, calls = small(), []

    def breaks(styles, noise):
        calls.append(1)
        images = network.synthesis(styles, noise)
        return images if len(calls) < 5 else images + torch.tensor([0.0, bad, 0.0]).view(3, 1, 1, 1)

    result = pulse.search(answerable(), network._replace(synthesis=breaks), keys(3), steps=5, eps=1.0)
    assert result.converged.tolist() == [True, False, True]
    assert result.sr.isnan().flatten(1).all(1).tolist() == [False, True, False]
    assert result.sr[[0, 2]].isfinite().all()


def test_true_downscaler_sees_what_a_file_would_keep():
    network, lr, seen = small(), answerable(), []

    def f_ds(hr, scale):
        seen.append((hr.min().item(), hr.max().item()))
        return filters.bicubic_float(hr, scale)

    pulse.search(lr, network, keys(2), f_ds=f_ds, steps=3)
    assert len(seen) == 3 and all(low >= 0 and high <= 1 for low, high in seen)


@pytest.mark.parametrize("name", ["dpid", "perceptual"])
def test_a_flat_cell_has_no_derivative_and_spoils_nothing(name):
    """Both divide by the spread of a cell: on a flat one their derivative is no number."""
    bright = small()._replace(synthesis=lambda styles, noise: 3 * small().synthesis(styles, noise))  # mostly clipped
    f_ds = DOWNSCALERS[name]
    flat = torch.ones(1, 3, 16, 16, requires_grad=True)
    assert torch.autograd.grad(f_ds(flat, 4).sum(), flat)[0].isnan().any()
    result = pulse.search(answerable(), bright, keys(3), f_ds=f_ds, steps=10, eps=0.0)
    assert result.sr.isfinite().all() and result.residual.isfinite().all()


def test_a_broken_sample_leaves_the_others_to_the_true_downscaler():
    network, lr = small(), answerable(2)
    latents, noise = pulse.draw_starts(network, keys(2))
    latents[1, 0, 0] = torch.nan
    true = filters.bicubic_float  # refuses what is no image
    *_, state = pulse.path(lr[:1].expand(2, -1, -1, -1), network, latents, noise, steps=3, f_ds=true)
    first = [each if each is None else each[:1] for each in noise]
    *_, alone = pulse.path(lr[:1], network, latents[:1], first, steps=3, f_ds=true)
    assert state.residual[1].isnan() and state.lr[1].isnan().all()
    assert differ(state.sr[0], alone.sr[0]) < 1e-3


@pytest.mark.parametrize("name", sorted(DOWNSCALERS))
def test_which_downscalers_have_a_gradient(name):
    rounding = {"nearest", "bilinear", "bicubic", "lanczos", "box", "hamming", "matlab_bicubic", "matlab_bilinear"}
    f_ds, lr = DOWNSCALERS[name], answerable()
    if name in rounding:
        with pytest.raises(ValueError, match=f"f_ds, {name}: .* zero everywhere, as of rounding; straight_through"):
            pulse.search(lr, small(), keys(2), f_ds=f_ds, steps=2)
    found = pulse.search(lr, small(), keys(2), steps=8, eps=0.0, loss="100*L2", select="best",
                         f_ds=pulse_losses.straight_through(f_ds) if name in rounding else f_ds)  # fmt: skip
    start = pulse.search(lr, small(), keys(2), steps=1, f_ds=pulse_losses.straight_through(f_ds))
    assert (found.residual < start.residual).all()


def test_straight_through_has_the_values_of_one_and_the_gradient_of_the_other():
    hr = torch.rand(1, 3, 16, 16, generator=seeded("hr"), requires_grad=True)
    down = pulse_losses.straight_through(lambda x, s: quantize(filters.box(x, s)))(hr, 4)
    assert torch.equal(down, quantize(filters.box(hr, 4)))
    direction = torch.randn(down.shape, generator=seeded("direction"))
    (found,) = torch.autograd.grad((down * direction).sum(), hr)
    (expected,) = torch.autograd.grad((pulse_losses.bicubic_proxy(hr, 4) * direction).sum(), hr)
    assert torch.equal(found, expected)
    result = pulse.search(
        answerable(),
        small(),
        keys(1),
        f_ds=pulse_losses.straight_through(filters.nearest),
        noise="zero",
        steps=STEPS,
    )
    assert result.residual.isfinite().all()


def test_a_contrast_decrease_is_undone_by_the_true_downscaler_alone():
    def dull(hr, scale):
        return 0.5 + 0.5 * (pulse_losses.bicubic_proxy(hr, scale) - 0.5)

    lr = 0.5 + 0.5 * (answerable() - 0.5)
    options = {"loss": "100*L2", "noise": "zero", "steps": 100, "eps": 0.0}
    blind = pulse.search(lr, small(), keys(2), **options)
    true = pulse.search(lr, small(), keys(2), f_ds=dull, **options)
    assert true.residual.mean() < blind.residual.mean()


def test_search_leaves_grad_mode_network_and_global_generator_alone():
    network, state = small(), torch.get_rng_state()
    before = [parameter.clone() for parameter in network.synthesis.parameters()]
    with torch.no_grad():
        result = pulse.search(answerable(), network, keys(1), steps=3)
        assert not torch.is_grad_enabled()
    assert not any(tensor.requires_grad for tensor in result)
    assert all(torch.equal(a, b) for a, b in zip(before, network.synthesis.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in network.synthesis.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_any_function_may_be_the_generator():
    base = torch.randn(3, 8 * 8, 5, generator=seeded("plain"))

    def synthesis(styles, noise):
        return (
            (styles.mean(1) @ base.transpose(1, 2).reshape(3 * 5, 64)[:5] / 3).view(-1, 1, 8, 8).expand(-1, 3, -1, -1)
        )

    network = generators.StyleGenerator(synthesis, [(1, 4, 4), (1, 8, 8)], torch.zeros(5), torch.ones(5), slope=1.0)
    result = pulse.search(torch.full((1, 3, 4, 4), 0.5), network, keys(2), steps=20)
    assert result.sr.shape == (2, 3, 8, 8) and result.converged.shape == (2,)


def test_upscaler_has_the_signature_of_the_others():
    found = []
    upscale = pulse.upscaler(lambda device: small(), scale=4, steps=3)
    sr = upscale(answerable(), keys(3), on_result=found.append)
    assert sr.shape == (3, 3, 16, 16) and sr.isfinite().all()
    assert torch.equal(found[0].sr, sr) and not found[0].converged.all()
    assert torch.equal(upscale(answerable(), seeded(0, 0)), pulse.search(answerable(), small(), keys(1), steps=3).sr)
    with pytest.raises(ValueError, match="expected a divisor of 16 from 2 to 8, got 3"):
        pulse.upscaler(lambda device: small(), scale=3)
    with pytest.raises(ValueError, match=r"expected HR images of 16x16 pixels, .* got 32x32 \(LR 8x8, x4\)"):
        upscale(torch.zeros(1, 3, 8, 8), keys(1))


def test_generators_are_loaded_from_files(tmp_path):
    network = fill(Synthesis(16, fmap_base=64, fmap_max=16, style_size=16))
    torch.save(network.state_dict(), tmp_path / "synthesis.pt")
    torch.save({"mean": torch.zeros(16), "std": torch.ones(16)}, tmp_path / "gaussian_fit.pt")
    loaded = generators.load_style_generator(tmp_path / "synthesis.pt", tmp_path / "gaussian_fit.pt")
    assert loaded.noise_shapes == network.noise_shapes() and loaded.slope == 0.2
    styles = torch.randn(1, 6, 16, generator=seeded("w"))
    assert torch.allclose(loaded.synthesis(styles, [None] * 6), network(styles, [None] * 6).detach(), atol=1e-5)
    torch.save({"mean": torch.zeros(16)}, tmp_path / "gaussian_fit.pt")
    with pytest.raises(ValueError, match="expected mean and std, got mean"):
        generators.load_style_generator(tmp_path / "synthesis.pt", tmp_path / "gaussian_fit.pt")
    torch.save({"mean": torch.zeros(8), "std": torch.ones(8)}, tmp_path / "gaussian_fit.pt")
    with pytest.raises(ValueError, match=r"expected shape \(16,\), got \(8,\)"):
        generators.load_style_generator(tmp_path / "synthesis.pt", tmp_path / "gaussian_fit.pt")


def test_gaussian_fit_by_default_and_of_too_little():
    mapping = fill(Mapping(4, 4))
    mean, std = generators.gaussian_fit(mapping)
    again = generators.gaussian_fit(mapping)
    assert torch.equal(mean, again[0]) and (std > 0).all()
    with pytest.raises(ValueError, match="at least 2, got 1"):
        generators.gaussian_fit(mapping, [torch.zeros(1, 4)])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lr": torch.zeros(1, 3, 5, 5)}, "square images whose side divides 16, 2 to 8, got 5x5"),
        ({"lr": torch.zeros(1, 3, 4, 8)}, "got 4x8"),
        ({"lr": torch.zeros(1, 3, 16, 16)}, "got 16x16"),
        ({"lr": torch.zeros(1, 3, 1, 1)}, "got 1x1"),
        ({"lr": torch.zeros(1, 1, 4, 4)}, r"expected shape \(N, 3, H, W\), got \(1, 1, 4, 4\)"),
        ({"lr": torch.full((1, 3, 4, 4), 2.0)}, r"expected finite values in \[0, 1\]"),
        ({"lr": torch.full((1, 3, 4, 4), torch.nan)}, "expected finite values"),
        ({"lr": torch.zeros(3, 3, 4, 4)}, "one for each of 2 draws, got 3"),
        ({"generators": []}, "one for each of 0 draws"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0, got 0.0"),
        ({"learning_rate": -1.0}, "got -1.0"),
        ({"learning_rate": float("nan")}, "got nan"),
        ({"steps": 0}, "steps: expected an integer of at least 1, got 0"),
        ({"steps": 2.5}, "got 2.5"),
        ({"eps": -1e-3}, "eps: expected a number of at least 0"),
        ({"schedule": "cosine"}, "schedule: expected one of fixed, linear1cycle, linear1cycledrop, got 'cosine'"),
        ({"optimizer": "lbfgs"}, "optimizer: expected one of adam, .* got 'lbfgs'"),
        ({"noise": "loud"}, "noise: expected one of fixed, zero, trainable, got 'loud'"),
        ({"noise": "trainable", "trainable_noise": 6}, "expected 0 to 5, the number of noise maps, got 6"),
        ({"noise": "trainable", "trainable_noise": -1}, "got -1"),
        ({"select": "first"}, "select: expected one of last, best, got 'first'"),
        ({"loss": "L2"}, "loss: expected terms like .* got 'L2'"),
        ({"loss": "1*L3"}, "got '1[*]L3'"),
        ({"loss": "x*L2"}, "got 'x[*]L2'"),
        ({"loss": "1*L2+2*L2"}, "each once"),
        ({"loss": "nan*L2"}, "got 'nan[*]L2'"),
        ({"loss": "1*GEOCROSS"}, "expected L2 or L1 among the terms"),
        ({"f_ds": lambda hr, scale: filters.bicubic_float(hr.detach(), scale)}, "without gradient"),
        ({"f_ds": lambda hr, scale: hr}, r"f_ds, .*: expected \(2, 3, 4, 4\).*got \(2, 3, 16, 16\)"),
        ({"f_ds": lambda hr, scale: hr[..., ::4, ::4] * 0 + 0.5}, "got one that is zero everywhere"),
    ],
)
def test_bad_input(change, message):
    given = {"lr": torch.zeros(1, 3, 4, 4), "network": small(), "generators": keys(2), "steps": 2} | change
    with pytest.raises(ValueError, match=message):
        pulse.search(**given)


def test_bad_starts():
    network, lr = small(), torch.zeros(2, 3, 4, 4)
    latents, noise = pulse.draw_starts(network, keys(2))
    with pytest.raises(ValueError, match=r"latents: expected shape \(2, 6 or 1, D\), got \(1, 6, 16\)"):
        next(pulse.path(lr, network, latents[:1], noise))
