"""IRN, T-IRN and DLV-style as rescalers: two halves, draws, the second latent, checkpoints, the registry."""

import json

import pytest
import torch
from safetensors.torch import save_file

from helpers import weights
from helpers.networks import invertible
from helpers.networks.invertible_layers import quantize_through
from helpers.rescalers import irn, registry
from helpers.runs import adapters
from helpers.runtime import seeded
from helpers.training.loop import export
from tests import pretend
from tests.checkpoints import empty_home
from tests.fakes import experiment, run, write_images
from tests.pictures import noise, waves
from tests.rescaling import differ, fill

SMALL = {"irn_x2": (2,), "irn_x3": (2,), "irn_x4": (1, 2), "irn_x8": (1, 1, 1), "tirn_x2": (2,), "tirn_x4": (1, 1)}


def small(name="irn_x2", gain=0.2, **config):
    config = {"blocks": SMALL[name], "growth": 4, **config}
    return fill(invertible.build(name, **config), gain).eval().requires_grad_(False)


def saved(path, network, state=None):
    state = network.state_dict() if state is None else state
    if path.suffix == ".safetensors":
        save_file(state, path, metadata={"config": json.dumps(network.config)})
    else:
        torch.save(state, path)
    return path


def embedded(monkeypatch, folder, **networks):
    """Small networks under the names of those that come with the package."""
    for name, network in networks.items():
        saved(folder / f"{name}.safetensors", network)
    monkeypatch.setattr(weights, "embedded", lambda name: folder / f"{name}.safetensors")


# ---- the pair


@pytest.mark.parametrize("name", SMALL)
def test_the_two_halves(name):
    network, hr = small(name), waves(2, 48, 48)
    downscale, upscale = irn.pair(network, heat=0.5)
    lr = downscale(hr)
    assert torch.equal(lr, quantize_through(network.encode(hr)[0]))
    assert torch.equal((lr * 255).round() / 255, lr) and lr.min() >= 0 and lr.max() <= 1
    side = 48 // network.scale
    sr = upscale(lr[:1], [seeded(q) for q in range(3)])
    z = 0.5 * torch.stack([torch.randn(3 * network.scale**2 - 3, side, side, generator=seeded(q)) for q in range(3)])
    expected = network.decode(torch.cat([lr[:1].expand(3, -1, -1, -1), z], 1))
    assert sr.shape == (3, 3, 48, 48) and torch.equal(sr, expected)


def test_a_draw_depends_on_its_own_generator_alone():
    downscale, upscale = irn.pair(small(), heat=1.0)
    lr = downscale(waves(2, 16, 24))
    together = upscale(lr[:1], [seeded(0), seeded(1)])
    assert differ(together[1:], upscale(lr[:1], [seeded(1)])) < 1e-6 and differ(*together) > 1e-3
    assert torch.equal(upscale(lr[:1], seeded(0)), upscale(lr[:1], [seeded(0)]))
    apart = upscale(lr, [seeded(0), seeded(1)])  # an LR image for each
    assert differ(apart[:1], together[:1]) < 1e-6 and differ(apart[1:], together[1:]) > 1e-3


def test_at_heat_0_the_pair_is_deterministic_and_the_default():
    network = small()
    lr = irn.pair(network)[0](waves(1, 16, 24))
    none, some, much = (irn.pair(network, heat=heat)[1](lr, [seeded(0), seeded(1)]) for heat in (0.0, 0.5, 1.0))
    assert differ(*none) == 0 and 0 < differ(*some) < differ(*much)
    assert differ(irn.pair(network)[1](lr, seeded(7)), none[:1]) < 1e-6


@pytest.mark.parametrize("name", ["irn_x4", "tirn_x4"])
def test_a_batch_is_its_images(name):
    downscale, upscale = irn.pair(small(name))
    hr = noise(3, 16, 24)
    lr = downscale(hr)
    assert differ(lr, torch.cat([downscale(one) for one in hr.split(1)])) < 1e-6
    generators = [seeded(q) for q in range(3)]
    assert differ(upscale(lr, generators), torch.cat([upscale(one, seeded(0)) for one in lr.split(1)])) < 1e-5


@pytest.mark.parametrize("kind", pretend.DEVICES)
def test_a_pair_on_a_device_takes_images_from_either_side(kind, monkeypatch):
    network, hr = small("irn_x4", extra=1), waves(1, 16, 24)
    downscale, upscale = irn.pair(network, heat=0.5, v=1.0)
    lr = downscale(hr)
    expected = lr, upscale(lr, [seeded(0), seeded(1)])
    with pretend.pretend(monkeypatch, kind) as there:
        downscale, upscale = irn.pair(network.to(there), heat=0.5, v=1.0)
        here = downscale(hr), upscale(lr, [seeded(0), seeded(1)])
        assert all(each.device.type == "cpu" for each in here)
        found = downscale(hr.to(there)), upscale(lr.to(there), [seeded(0), seeded(1)])
        for one, two, three in zip(found, here, expected, strict=True):
            assert torch.equal(pretend.back(one), three) and torch.equal(two, three)


# ---- the second latent


def test_a_fixed_downscaling_latent_is_a_deterministic_pair_and_another_one_another():
    network, hr = small("irn_x4", 0.5, extra=1), waves(2, 16, 24)
    soft, plain, sharp = (irn.pair(network, v=v)[0](hr) for v in (-1.0, 0.0, 1.0))
    assert torch.equal(soft, irn.pair(network, v=-1.0)[0](hr)) and torch.equal(plain, irn.pair(network)[0](hr))
    assert differ(soft, sharp) > 2 / 255 and differ(soft, plain) > 0


def test_one_hr_image_has_many_lr_images():
    network, hr = small("irn_x4", 0.5, extra=1), waves(1, 16, 24).expand(4, -1, -1, -1)
    downscale, _ = irn.pair(network)
    lrs = downscale(hr, [seeded(n) for n in range(4)])
    assert all(differ(lrs[n], lrs[m]) > 0 for n in range(4) for m in range(n))
    assert torch.equal(downscale(hr, [seeded(n) for n in range(4)]), lrs)
    assert torch.equal(downscale(hr[:1], seeded(2)), lrs[2:3])
    v = torch.randn((), generator=seeded(2)).item()
    assert torch.equal(irn.pair(network, v=v)[0](hr[:1]), lrs[2:3])


# ---- checkpoints


@pytest.mark.usefixtures("empty_home")
@pytest.mark.parametrize("name", ["irn_x4", "tirn_x4"])
@pytest.mark.parametrize("kind", ["bare", "parallel", "params", "params_ema", "half", "cuda", "safetensors"])
def test_every_way_in_which_a_file_may_be_saved(tmp_path, monkeypatch, kind, name):
    network = small(name)
    state = network.state_dict()
    states = {
        "parallel": {f"module.{key}": tensor for key, tensor in state.items()},
        "params": {"params": {f"module.{key}": tensor for key, tensor in state.items()}, "iter": 7},
        "params_ema": {"params": {"other": torch.ones(1)}, "params_ema": state},
        "half": {key: tensor.half() for key, tensor in state.items()},
    }
    with monkeypatch.context() as patch:
        if kind == "cuda":
            patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        path = saved(tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pth"), network, states.get(kind))
    family = name.split("_")[0]
    found = irn.load(path, family=family, scale=4)
    assert found.config == network.config and not found.training
    for key, tensor in found.state_dict().items():
        assert tensor.dtype == torch.float32 and not tensor.requires_grad
        torch.testing.assert_close(tensor, state[key], rtol=1e-3 if kind == "half" else 0, atol=1e-6)
    downscale, upscale = irn.rescaler(path, family=family, scale=4)
    assert upscale(downscale(waves(1, 16, 24)), seeded(0)).shape == (1, 3, 16, 24)


@pytest.mark.parametrize("name", SMALL)
def test_configurations_follow_from_the_tensors(name):
    read = irn.configuration_tirn if name.startswith("tirn") else irn.configuration
    network = small(name)
    assert {**read(network.state_dict()), "clamp": 1.0} == network.config
    official = invertible.build(name)
    assert {**read(official.state_dict()), "clamp": 1.0} == official.config


def test_the_second_latent_follows_from_the_tensors_and_the_clamp_from_the_header(tmp_path):
    network = small("irn_x4", extra=2, clamp=2.0)
    assert irn.configuration(network.state_dict())["extra"] == 2
    assert irn.load(saved(tmp_path / "x.safetensors", network)).config == network.config
    export(network.state_dict(), tmp_path / "y.safetensors", config=json.dumps(network.config), iterations=3)
    assert irn.load(tmp_path / "y.safetensors").config == network.config


@pytest.mark.usefixtures("empty_home")
def test_files_that_do_not_fit_are_one_clear_error(tmp_path):
    four, tri = saved(tmp_path / "four.pth", small("irn_x4")), saved(tmp_path / "tri.pth", small("tirn_x2"))
    with pytest.raises(ValueError, match="four.pth: expected scale 2, got scale 4"):
        irn.rescaler(four, scale=2)
    with pytest.raises(
        ValueError, match=r"four.pth: expected blocks \[8, 8\], growth 32, got blocks \[1, 2\], growth 4"
    ):
        irn.rescaler(four, scale=4, blocks=[8, 8], growth=32)
    with pytest.raises(ValueError, match="tri.pth: expected the tensors of IRN, got others, such as haar_operations"):
        irn.load(tri)
    with pytest.raises(ValueError, match="four.pth: expected the tensors of T-IRN, got others, such as operations.0"):
        irn.load(four, family="tirn")
    state = small("irn_x4").state_dict()
    state["operations.1.G.conv3.weight"] = torch.ones(5, 11, 3, 3)
    with pytest.raises(ValueError, match=r"1 of another shape \(operations.1.G.conv3.weight: .*\[5, 11, 3, 3\].*"):
        irn.load(saved(tmp_path / "odd.pth", small("irn_x4"), state))


# ---- images


def test_images_that_do_not_fit_are_refused():
    downscale, upscale = irn.pair(small("irn_x4"))
    for hr, problem in ((waves(1, 16, 18), "multiples of 4"), (2 * torch.ones(1, 3, 8, 8), r"in \[0, 1\]")):
        with pytest.raises(ValueError, match=f"hr: .*{problem}"):
            downscale(hr)
    with pytest.raises(ValueError, match="lr: expected finite values"):
        upscale(torch.full((1, 3, 4, 4), torch.nan), seeded(0))
    with pytest.raises(ValueError, match="one LR image, or one for each of 3 draws, got 2"):
        upscale(torch.rand(2, 3, 4, 4), [seeded(0)] * 3)
    with pytest.raises(ValueError, match="generators: expected none for a network without"):
        downscale(waves(1, 16, 16), [seeded(0)])
    with pytest.raises(ValueError, match="v: expected 0 for a network without"):
        irn.pair(small(), v=1.0)
    with pytest.raises(ValueError, match="generators: expected 2, one an image, got 1"):
        irn.pair(small("irn_x4", extra=1))[0](waves(2, 16, 16), [seeded(0)])


# ---- the registry


@pytest.mark.usefixtures("empty_home")
def test_every_rescaler_names_its_files():
    for name, record in registry.RESCALERS.items():
        for scale in record.scales:
            files = [file.format(scale=scale) for file in record.files]
            assert all((file in weights.WEIGHTS) == name.endswith("_official") for file in files), name
            if name.endswith("_official"):
                [line] = registry.lacking(name, scale)
                assert f"{weights.WEIGHTS[files[0]].file} is missing: put it into" in line
    with pytest.raises(ValueError, match="rescaler irn_official: IRN_x4.pth is missing: put it into"):
        registry.build("irn_official", scale=4)


def test_a_rescaler_by_name(tmp_path, monkeypatch):
    networks = {"irn_x4": small("irn_x4"), "dlv_style_x4": small("irn_x4", 0.5, extra=1), "tirn_x2": small("tirn_x2")}
    embedded(monkeypatch, tmp_path, **networks)
    hr = waves(1, 16, 24)
    for name, scale, how in (("irn", 4, {}), ("dlv_style", 4, {"v": 1.0}), ("tirn", 2, {}), ("irn", 4, {"heat": 0.5})):
        downscale, upscale = registry.build(name, scale=scale, **how)
        plain = irn.pair(networks[f"{name}_x{scale}"], **how)
        assert torch.equal(downscale(hr), plain[0](hr))
        assert torch.equal(upscale(downscale(hr), seeded(0)), plain[1](downscale(hr), seeded(0)))
        assert registry.lacking(name, scale) == []
    assert not torch.equal(
        registry.build("dlv_style", scale=4)[0](hr), registry.build("dlv_style", scale=4, v=1.0)[0](hr)
    )


@pytest.mark.filterwarnings("ignore:downscaler .irn.")  # random weights change levels
def test_a_rescaler_is_a_downscaler_wherever_one_is_named(tmp_path, monkeypatch):
    registry.made.cache_clear()
    network, hr = small("irn_x4"), waves(1, 16, 24)
    embedded(monkeypatch, tmp_path, irn_x4=network)
    downscale = adapters.resolve("irn")
    assert torch.equal(downscale(hr, 4), irn.pair(network)[0](hr)) and downscale.device
    assert registry.made.cache_info().misses == 1 and downscale(hr, 4) is not None
    assert registry.made.cache_info().hits == 1
    folder = write_images(tmp_path / "images", 1, side=32)
    how = {"downscalers": ["bicubic", "irn"], "scale": 4, "upscaler": "bicubic", "heat": 0.0, "distortion": "mse"}
    rows = run(experiment(folder, **how), tmp_path / "rows")
    assert set(rows.downscaler) == {"bicubic", "irn"} and rows.value.notna().all()
    with pytest.raises(ValueError, match="did you mean 'tirn'"):
        adapters.resolve("t-irn")
    with pytest.raises(ValueError, match="rescaler irn: scale: expected 2 or 4, got 3"):
        downscale(waves(1, 18, 24), 3)
    with pytest.raises(ValueError, match="rescaler: expected one of irn"):
        registry.downscaler("dlv_irn")
    registry.made.cache_clear()


@pytest.mark.usefixtures("empty_home")
def test_an_official_file_of_another_width_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    saved(tmp_path / "IRN_x4.pth", small("irn_x4"))
    saved(tmp_path / "TIRNx2.pth", small("tirn_x2"))
    with pytest.raises(
        ValueError, match=r"IRN_x4.pth: expected blocks \[8, 8\], growth 32, got blocks \[1, 2\], growth 4"
    ):
        registry.build("irn_official", scale=4)
    with pytest.raises(ValueError, match=r"TIRNx2.pth: expected blocks \[3\], growth 32, got blocks \[2\], growth 4"):
        registry.build("tirn_official", scale=2)
    saved(tmp_path / "IRN_x2.pth", small("irn_x4"))  # under another scale's name
    with pytest.raises(ValueError, match="expected scale 2, blocks .*, got scale 4, blocks"):
        registry.build("hcd_official", scale=2)


def test_names_scales_and_options_that_a_rescaler_has_not():
    with pytest.raises(ValueError, match="rescaler: expected one of irn, dlv_style, .*, got 'dlv_irn'"):
        registry.build("dlv_irn", scale=4)
    with pytest.raises(ValueError, match="rescaler: expected one of irn"):
        registry.lacking("dlv_irn", 4)
    with pytest.raises(ValueError, match="rescaler irn: scale: expected 2 or 4, got 3"):
        registry.build("irn", scale=3)
    with pytest.raises(ValueError, match="rescaler tirn: options: expected some of heat, got v"):
        registry.build("tirn", scale=2, v=1.0)
