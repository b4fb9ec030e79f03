"""Names of upscalers: what they mean, which files they need, how they are spelled in the rows."""

import hashlib

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from helpers import files, generators, weights
from helpers.downscalers.filters import bicubic_float, box
from helpers.images import quantize
from helpers.networks.stylegan import Mapping, Synthesis
from helpers.runtime import seeded
from helpers.upscalers import flows, pulse, registry
from helpers.weights import store
from tests.test_stylegan import fill
from tests.test_upscalers_flows import lr_image


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """What a test caches stays out of the reader's cache."""
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))


# ---- cascades


def test_a_cascade_is_its_stages_with_8_bits_between():
    lr, keys = lr_image(4, 6), [seeded(0, "a", q) for q in range(3)]
    sr = registry.build("embedded_flow_x4+embedded_flow_x2", scale=8, heat="1.0+0.5")(lr, keys)
    assert sr.shape == (3, 3, 32, 48)
    for q in range(3):
        generator = seeded(0, "a", q)
        middle = flows.embedded_flow(scale=4, heat=1.0)(lr, generator)
        last = flows.embedded_flow(scale=2, heat=0.5)(quantize(middle), generator)
        assert torch.allclose(sr[q : q + 1], last, atol=1e-4)


def test_a_cascade_passes_a_lost_draw_on_as_nan(monkeypatch):
    def loses_the_second(*, scale, heat, device):
        def upscale(lr, generators):
            sr = lr.expand(len(generators), -1, -1, -1).repeat_interleave(scale, 2).repeat_interleave(scale, 3).clone()
            sr[1, 0, 0, 0] = torch.inf
            return sr

        return upscale

    monkeypatch.setitem(registry.UPSCALERS, "loses", registry.Upscaler(loses_the_second))
    sr = registry.build("loses_x2+bicubic_x2", scale=4, heat=0)(lr_image(4, 4), [seeded(q) for q in range(3)])
    assert sr.isfinite().flatten(1).all(1).tolist() == [True, False, True] and sr[1].isnan().all()


@pytest.mark.parametrize(
    "name, scale, heat, stages",
    [
        ("embedded_flow", 4, 1.0, [("embedded_flow", 4, 1.0)]),
        ("embedded_flow_x8+embedded_flow_x4", 32, "1.0+0.1", [("embedded_flow", 8, 1.0), ("embedded_flow", 4, 0.1)]),
        ("srflow_celeba_8x+srflow_df2k_4x", 32, 0.9, [("srflow_celeba_8x", 8, 0.9), ("srflow_df2k_4x", 4, 0.9)]),
        ("bicubic_x2+embedded_flow_mixed_x4", 8, "0+1", [("bicubic", 2, 0.0), ("embedded_flow_mixed", 4, 1.0)]),
        ("embedded_flow_x4_to_x3", 3, 1.0, [("embedded_flow", 4, 1.0)]),
        ("embedded_flow_x2+embedded_flow_x4_to_x6", 6, 1.0, [("embedded_flow", 2, 1.0), ("embedded_flow", 4, 1.0)]),
    ],
)
def test_what_a_name_means(name, scale, heat, stages):
    assert [each[:3] for each in registry.stages(name, scale, heat)] == stages


@pytest.mark.parametrize(
    "name, scale, heat, message",
    [
        ("srgan", 4, 1.0, "expected one of embedded_flow, .*got 'srgan'"),
        ("embedded_flow+embedded_flow_x4", 32, 1.0, "got 'embedded_flow.embedded_flow_x4'"),
        ("embedded_flow_x8+embedded_flow_x4", 16, 1.0, "expected scale 32, got 16"),
        ("embedded_flow_x8+embedded_flow_x4", 32, "1+1+1", "expected a number, or 2 joined"),
        ("embedded_flow", 4, "warm", "expected a number"),
        ("srflow_df2k_4x", 8, 1.0, "expected scale 4, got 8"),
        ("embedded_flow_mixed_x8", 8, 1.0, "embedded_flow_mixed: expected scale 4, got 8"),
        ("bicubic", 4, 1.0, "bicubic: expected heat 0.0, there are no latents, got 1.0"),
        ("embedded_flow", 3, 1.0, "expected scale 2 or 4 or 8, got 3; embedded_flow_x4_to_x3 upscales by 4 and then"),
        ("embedded_flow", 16, 1.0, "expected scale 2 or 4 or 8, got 16$"),
        ("embedded_flow_x4_to_x3", 4, 1.0, "expected scale 3, got 4"),
        ("embedded_flow_x4_to_x4", 4, 1.0, "expected a resize to a scale from 2 to 3, got 4"),
        ("embedded_flow_x2_to_x1", 1, 1.0, "expected a resize to a scale from 2 to 1, got 1"),
        ("embedded_flow_x4_to_x3+embedded_flow_x2", 6, 1.0, "expected a resize after the last stage"),
        ("embedded_pulse_x8_to_x6", 6, 1.0, "which is no search"),
    ],
)
def test_names_that_mean_nothing_stop(name, scale, heat, message):
    with pytest.raises(ValueError, match=message):
        registry.stages(name, scale, heat)


def test_a_resized_upscaler_makes_hr_size_and_keeps_its_draws():
    name = "embedded_flow_x4_to_x3"
    lr, generators = lr_image(8, 12), [seeded(q) for q in range(2)]
    sr = registry.build(name, scale=3, heat=1.0)(lr, generators)
    assert sr.shape == (2, 3, 24, 36) and not torch.equal(sr[0], sr[1]) and registry.normalise(name) == name
    large = registry.build("embedded_flow", scale=4, heat=1.0)(lr, [seeded(q) for q in range(2)])
    assert (F.adaptive_avg_pool2d(sr, (8, 12)) - F.adaptive_avg_pool2d(large, (8, 12))).abs().mean() < 0.01
    assert registry.weights_hash(name, 3) == registry.weights_hash("embedded_flow", 4)


def test_weights_of_a_cascade_are_those_of_its_stages():
    one, two = (registry.weights_hash("embedded_flow", scale) for scale in (8, 4))
    assert registry.weights_hash("embedded_flow_x8+embedded_flow_x4", 32) == f"{one}+{two}"


def test_every_file_of_a_record_is_known_and_every_scale_has_its_own():
    for key in set(registry.UPSCALERS) - set(registry.RESCALERS):  # those have a test of their own
        record = registry.UPSCALERS[key]
        for file in record.files:
            names = [file.format(scale=scale) for scale in record.scales or (4,)]
            assert all(name in weights.WEIGHTS or weights.embedded(name).is_file() for name in names), key
    flow = registry.UPSCALERS["embedded_flow"]
    here = [path.stem[-1] for path in store.EMBEDDED.glob("compact_flow_x[0-9].safetensors")]
    assert sorted(map(str, flow.scales)) == sorted(here) and flow.stochastic and flow.blind


def test_without_a_heat_each_stage_takes_its_own():
    assert [each.heat for each in registry.stages("bicubic_x2+embedded_flow_x4", 8)] == [0.0, 1.0]
    assert not registry.UPSCALERS["bicubic"].stochastic


# ---- searches


def small_networks():
    """A generator of 16x16 images, weights by rule, and the fit of its own mapping network."""
    mapping, synthesis = fill(Mapping(16, 16, 2)), fill(Synthesis(16, fmap_base=64, fmap_max=16, style_size=16))
    return mapping, synthesis, *generators.gaussian_fit(mapping, [torch.randn(2000, 16, generator=seeded("fit"))])


def embed_small_generator(monkeypatch, folder):
    """Let it stand in for the embedded generator, in the same kind of file."""
    mapping, synthesis, mean, std = small_networks()
    state = {f"mapping.{name}": tensor for name, tensor in mapping.state_dict().items()}
    state |= {f"synthesis.{name}": tensor for name, tensor in synthesis.state_dict().items()}
    path = folder / f"{generators.NAME}.safetensors"
    save_file(state | {"fit.mean": mean, "fit.std": std}, path, {"images": "0"})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {path.name}\n")
    monkeypatch.setattr(store, "EMBEDDED", folder)
    generators.networks.cache_clear()
    return path


@pytest.fixture(name="small")
def small_fixture(monkeypatch, tmp_path):
    yield embed_small_generator(monkeypatch, tmp_path)
    generators.networks.cache_clear()


def face():
    """An LR image 4x4 of an image that the small generator draws."""
    network = generators.embedded_generator()
    sr = pulse.search(torch.full((1, 3, 4, 4), 0.5), network, seeded("face"), steps=1, noise="zero").sr
    return quantize(bicubic_float(sr, 4))


def keys(n):
    return [seeded(0, "face", q) for q in range(n)]


def test_embedded_pulse_is_the_search_with_its_options(small):
    lr, found = face(), []
    upscale = registry.build("embedded_pulse(steps=3, noise=zero)", scale=4)
    sr = upscale(lr, keys(3), on_result=found.append)
    expected = pulse.search(lr, generators.embedded_generator(), keys(3), steps=3, noise="zero")
    assert torch.equal(sr, expected.sr) and torch.equal(found[0].residual, expected.residual)
    assert sr.shape == (3, 3, 16, 16) and not torch.allclose(sr[0], sr[1], atol=1e-2)
    assert registry.weights_hash("embedded_pulse(steps=3)", 4) == files.sha256_of(small)[:12]
    preset = registry.build("embedded_pulse(preset=pulse,steps=3)", scale=4)(lr, keys(2))
    options = pulse.PRESETS["pulse"] | {"steps": 3}
    assert torch.equal(preset, pulse.search(lr, generators.embedded_generator(), keys(2), **options).sr)


def test_what_the_samples_must_agree_through_changes_them(small):
    lr = face()
    built = {f_ds: registry.build(f"embedded_pulse(f_ds={f_ds},steps=4)", scale=4) for f_ds in pulse.F_DS}
    draws = {f_ds: upscale(lr, keys(2), downscale=bicubic_float) for f_ds, upscale in built.items()}
    network = generators.embedded_generator()
    assert torch.equal(draws["bicubic"], pulse.search(lr, network, keys(2), steps=4).sr)
    assert torch.equal(draws["true"], pulse.search(lr, network, keys(2), steps=4, f_ds=bicubic_float).sr)
    assert not torch.equal(draws["true"], draws["straight-through"])
    rounded = built["straight-through"](lr, keys(2), downscale=box)
    assert rounded.isfinite().all() and not torch.equal(rounded, draws["straight-through"])
    for f_ds in ("true", "straight-through"):
        with pytest.raises(ValueError, match=f"f_ds={f_ds} needs the downscaler"):
            built[f_ds](lr, keys(2))
    with pytest.raises(ValueError, match="f_ds, box: .* zero everywhere, as of rounding; .*f_ds=straight-through"):
        built["true"](lr, keys(2), downscale=box)


@pytest.mark.parametrize("mapping", [False, True])
def test_official_pulse_runs_from_its_files(tmp_path, monkeypatch, mapping):
    """Files such as the official ones, of the small size; with `mapping` the fit is computed from that network."""
    network, synthesis, mean, std = small_networks()
    here = {"pulse_synthesis": tmp_path / "synthesis", "pulse_gaussian_fit": tmp_path / "fit"}
    torch.save(synthesis.state_dict(), here["pulse_synthesis"])
    torch.save(network.state_dict() if mapping else {"mean": mean, "std": std}, here["pulse_gaussian_fit"])
    monkeypatch.setattr(weights, "fetch", here.get)
    sr = registry.build("pulse(steps=2)", scale=4)(torch.full((1, 3, 4, 4), 0.5), keys(2))
    assert sr.shape == (2, 3, 16, 16) and sr.isfinite().all()
    assert registry.weights_hash("pulse", 4) == "+".join(files.sha256_of(file)[:12] for file in here.values())
    found = generators.official_generator()
    if mapping:
        torch.testing.assert_close((found.mean, found.std), (mean, std), rtol=0.2, atol=0.05)  # other latents
    else:
        assert torch.equal(found.mean, mean) and torch.equal(found.std, std)


def test_official_pulse_without_its_files_says_which(tmp_path, monkeypatch):
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path))
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")
    with pytest.raises(ValueError, match="is missing: put it into"):
        registry.build("pulse", scale=8)


@pytest.mark.parametrize(
    "name, normalised",
    [
        ("embedded_pulse", "embedded_pulse"),
        ("embedded_pulse()", "embedded_pulse"),
        ("embedded_pulse( steps = 100, f_ds=true )", "embedded_pulse(f_ds=true,steps=100)"),
        ("pulse(eps=2e-3,learning_rate=.40)", "pulse(eps=0.002,learning_rate=0.4)"),
        ("pulse(tile_latent=True,steps=1)", "pulse(steps=1,tile_latent=true)"),
        ("pulse(loss=100*L2 + 0.05*GEOCROSS)", "pulse(loss=100*L2+0.05*GEOCROSS)"),
        ("embedded_flow_x8+embedded_flow_x4", "embedded_flow_x8+embedded_flow_x4"),
        ("embedded_flow(precision=float32)", "embedded_flow"),
        ("embedded_flow( precision=bf16 )", "embedded_flow(precision=bf16)"),
    ],
)
def test_equal_options_are_equal_names(name, normalised):
    assert registry.normalise(name) == normalised == registry.normalise(normalised)
    assert registry.is_search(name) == ("pulse" in name)
    assert registry.normalise(name.partition("(")[0], registry.parse(name)[0].options) == normalised


@pytest.mark.parametrize(
    "name, heat, message",
    [
        ("embedded_pulse(stepz=3)", 1.0, "expected options among .*steps.*, got 'stepz'"),
        ("embedded_pulse(steps=many)", 1.0, "steps: expected an integer, got 'many'"),
        ("embedded_pulse(steps=0)", 1.0, "steps: expected an integer of at least 1, got 0"),
        ("embedded_pulse(steps=3,steps=4)", 1.0, "steps: expected once"),
        ("embedded_pulse(eps=-1)", 1.0, "eps: expected a number of at least 0, got -1.0"),
        ("embedded_pulse(tile_latent=1)", 1.0, "tile_latent: expected true or false, got '1'"),
        ("embedded_pulse(noise=loud)", 1.0, "noise: expected one of fixed, zero, trainable, got 'loud'"),
        ("embedded_pulse(trainable_noise=3)", 1.0, "at least 0 with noise=trainable, got 3, noise=fixed"),
        ("embedded_pulse(noise=trainable,trainable_noise=-1)", 1.0, "at least 0 .*got -1"),
        ("embedded_pulse(loss=2*L3)", 1.0, "loss: expected terms like"),
        ("embedded_pulse(preset=paper)", 1.0, "preset: expected one of ida_rd, pulse, got 'paper'"),
        ("embedded_pulse(f_ds=no)", 1.0, "f_ds: expected one of bicubic, true, straight-through, got 'no'"),
        ("embedded_pulse(steps=3", 1.0, "expected options as in embedded_pulse"),
        ("bicubic(steps=3)", 0.0, r"bicubic has no options, got \(steps=3\)"),
        ("embedded_flow(steps=3)", 1.0, "embedded_flow: expected options among precision, got 'steps'"),
        ("embedded_flow(precision=fp8)", 1.0, "precision: expected one of float32, bf16, got 'fp8'"),
        ("embedded_pulse(steps=3)_x2+bicubic_x2", 1.0, "expected options as in embedded_pulse"),
        ("bicubic_x2+embedded_pulse_x2(steps=3)", 1.0, "expected embedded_pulse alone, not as a stage"),
        ("embedded_pulse", 0.9, "expected heat 1.0, the radius of the sphere of starts, got 0.9"),
        ("embedded_pulse", "1.0+1.0", "heat: expected a number, or 1 joined"),
    ],
)
def test_impossible_searches_stop(name, heat, message):
    with pytest.raises(ValueError, match=message):
        registry.stages(name, 4, heat)


def test_searches_of_the_wrong_size_say_which_is_right(small):
    with pytest.raises(ValueError, match="scale: expected a divisor of 16 from 2 to 8, got 3"):
        registry.build("embedded_pulse", scale=3)
    with pytest.raises(ValueError, match=r"expected HR images of 16x16 pixels, .* got 32x24 \(LR 8x6, x4\)"):
        registry.build("embedded_pulse", scale=4)(lr_image(8, 6), keys(1))
    with pytest.raises(ValueError, match="expected heat 1.0, .*got 0.5"):
        registry.UPSCALERS["embedded_pulse"](scale=4, heat=0.5)


@pytest.mark.parametrize("heat", ["nan", "inf", "-inf", "-1", -1, float("nan"), float("inf"), "1e400", True, "", [1.0]])
def test_a_heat_is_a_finite_number_of_at_least_0_at_every_door(heat):
    for door in (
        lambda: registry.stages("embedded_flow", 4, heat),
        lambda: registry.build("embedded_flow", scale=4, heat=heat),
        lambda: registry.UPSCALERS["embedded_flow"](scale=4, heat=heat),
        lambda: registry.stages("embedded_flow_x2+embedded_flow_x2", 4, f"1.0 + {heat}"),
        lambda: registry.stages("embedded_flow_x2+embedded_flow_x2", 4, f"{heat} + 1.0"),
    ):
        with pytest.raises(ValueError, match="heat.*, got|as heat, got"):
            door()


def test_minus_zero_is_the_heat_0():
    found = registry.stages("embedded_flow_x2+embedded_flow_x2", 4, "-0.0+1e-400")
    assert [str(each.heat) for each in found] == ["0.0", "0.0"]


@pytest.mark.parametrize("name", [None, 4, ["embedded_flow"], b"embedded_flow", registry.UPSCALERS["bicubic"]])
def test_what_is_no_name_of_an_upscaler_says_so(name):
    for door in (registry.parse, registry.normalise, registry.is_search, registry.at_precision):
        with pytest.raises(ValueError, match="upscaler: expected a name such as 'embedded_flow', got"):
            door(name)


@pytest.mark.parametrize("scale", [0, -4, 2.5, "4", None, True])
def test_a_scale_is_an_integer_of_at_least_1(scale):
    for door in (registry.UPSCALERS["bicubic"], lambda scale: registry.stages("bicubic", scale)):
        with pytest.raises(ValueError, match="expected an integer of at least 1 as scale, got"):
            door(scale=scale)
