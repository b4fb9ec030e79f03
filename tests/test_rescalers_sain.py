"""SAIN as a rescaler: its two halves, its codec, its draws, and checkpoints that do not fit."""

import json

import pytest
import torch
from PIL import features
from safetensors.torch import save_file

from helpers import degradations
from helpers.images import quantize
from helpers.networks import invertible
from helpers.rescalers import checkpoints, codecs, sain
from helpers.runtime import seeded
from helpers.weights import WEIGHTS
from tests.checkpoints import empty_home
from tests.pictures import noise, waves
from tests.rescaling import differ, fill

SMALL = {"e_blocks": 2, "v_blocks": 1, "growth": 4}


def small(name="sain_x2", gain=0.2, **config):
    return fill(invertible.build(name, **{**SMALL, **config}), gain).eval()


def saved(path, network, state=None):
    state = network.state_dict() if state is None else state
    if path.suffix == ".safetensors":
        save_file(state, path, metadata={"config": json.dumps(network.config)})
    else:
        torch.save(state, path)
    return path


# ---- the pair


@pytest.mark.parametrize("name", ["sain_x2", "sain_x4"])
def test_the_two_halves(name):
    network, hr = small(name), waves(2, 32, 48)
    downscale, upscale = sain.pair(network)
    lr = downscale(hr)
    assert torch.equal(lr, quantize(network.encode(hr)[0].detach())) and lr.shape[2] == 32 // network.scale
    generators = [seeded(q) for q in range(3)]
    sr = upscale(lr[:1], generators)
    z = network.gmm.draw((3 * network.scale**2 - 3, *lr.shape[-2:]), [seeded(q) for q in range(3)])
    expected = network.decode(torch.cat([lr[:1].expand(3, -1, -1, -1), z], 1)).detach()
    assert sr.shape == (3, 3, 32, 48) and torch.equal(sr, expected) and not sr.requires_grad


def test_a_draw_depends_on_its_own_generator_alone():
    downscale, upscale = sain.pair(small())
    lr = downscale(waves(2, 16, 24))
    together = upscale(lr[:1], [seeded(0), seeded(1)])
    assert differ(together[1:], upscale(lr[:1], [seeded(1)])) < 1e-6 and differ(*together) > 1e-3
    assert torch.equal(upscale(lr[:1], seeded(0)), upscale(lr[:1], [seeded(0)]))
    apart = upscale(lr, [seeded(0), seeded(1)])  # an LR image for each
    assert differ(apart[:1], together[:1]) < 1e-6 and differ(apart[1:], together[1:]) > 1e-3


def test_at_heat_0_nothing_is_drawn_and_a_larger_one_spreads():
    network = small()
    lr = sain.pair(network)[0](waves(1, 16, 24))
    none, some, much = (sain.pair(network, heat=heat)[1](lr, [seeded(0), seeded(1)]) for heat in (0.0, 0.5, 1.0))
    assert differ(*none) == 0 and 0 < differ(*some) < differ(*much)


def test_the_lr_image_of_a_user_is_that_of_the_codec():
    network, hr = small(), waves(2, 32, 48)
    plain = sain.pair(network)[0](hr)
    through = sain.pair(network, compress=codecs.codec("jpeg", 30))[0](hr)
    assert torch.equal(through, degradations.jpeg(plain, 30)) and not torch.equal(through, plain)


def test_a_batch_is_its_images():
    downscale, _ = sain.pair(small())
    hr = waves(3, 16, 24)
    assert differ(downscale(hr), torch.cat([downscale(one) for one in hr.split(1)])) < 1e-6


# ---- checkpoints


@pytest.mark.usefixtures("empty_home")
@pytest.mark.parametrize("kind", ["bare", "parallel", "params", "params_ema", "half", "safetensors"])
def test_every_way_in_which_a_file_may_be_saved(tmp_path, kind):
    network = small("sain_x4", components=3)
    state = network.state_dict()
    states = {
        "bare": state,
        "parallel": {f"module.{name}": tensor for name, tensor in state.items()},
        "params": {"params": state, "iter": 7},
        "params_ema": {"params": {"other": torch.ones(1)}, "params_ema": state},
        "half": {name: tensor.half() for name, tensor in state.items()},
    }
    path = saved(tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pth"), network, states.get(kind))
    found = sain.load(path, scale=4)
    assert found.config == network.config and not found.training
    assert {tensor.dtype for tensor in found.state_dict().values()} == {torch.float32}
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=1e-3 if kind == "half" else 0, atol=1e-6)
    downscale, upscale = sain.rescaler(path)
    assert upscale(downscale(waves(1, 16, 24)), seeded(0)).shape == (1, 3, 16, 24)


@pytest.mark.usefixtures("empty_home")
def test_the_official_configurations_follow_from_their_tensors():
    for name in ("sain_x2", "sain_x4"):
        network = invertible.build(name)
        assert {**sain.configuration(network.state_dict()), "clamp": 1.0} == network.config
    for file, scale in sain.FILES.items():
        assert WEIGHTS[file].file == f"{file}.pth" and f"x{scale}" in file and WEIGHTS[file].urls
    with pytest.raises(ValueError, match="SAINx4_JPEG.pth is missing: put it into"):
        sain.rescaler("SAINx4_JPEG", scale=4)


@pytest.mark.usefixtures("empty_home")
def test_the_clamp_of_a_small_one_is_in_its_header(tmp_path):
    network = small(clamp=2.0)
    assert sain.load(saved(tmp_path / "x.safetensors", network)).config["clamp"] == 2.0


@pytest.mark.usefixtures("empty_home")
def test_files_that_do_not_fit_are_one_clear_error(tmp_path):
    four = saved(tmp_path / "four.pth", small("sain_x4"))
    with pytest.raises(ValueError, match="four.pth: expected scale 2, got scale 4"):
        sain.rescaler(four, scale=2)
    irn = saved(tmp_path / "irn.pth", invertible.build("irn_x2", blocks=(1,), growth=4))
    with pytest.raises(ValueError, match="irn.pth: expected the tensors of SAIN, got others, such as operations.0"):
        sain.rescaler(irn)
    state = small().state_dict()
    state["comp_operations.0.F.conv3.weight"] = torch.ones(5, 17, 3, 3)
    wide = saved(tmp_path / "wide.pth", small(), state)
    with pytest.raises(ValueError, match=r"1 of another shape \(comp_operations.0.F.conv3.weight: .*\[5, 17, 3, 3\].*"):
        sain.rescaler(wide)
    with pytest.raises(ValueError, match="no embedded checkpoint 'nothing'"):
        checkpoints.read("nothing")


# ---- errors


def test_a_missing_codec_is_said_before_the_checkpoint_is_looked_for(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(ValueError, match="codec: expected webp in Pillow"):
        sain.rescaler("nothing", codec="webp")


def test_images_that_do_not_fit_are_refused():
    downscale, upscale = sain.pair(small("sain_x4"))
    with pytest.raises(ValueError, match="multiples of 4, got 30x48"):
        downscale(noise(1, 30, 48))
    with pytest.raises(ValueError, match="lr: expected one LR image, or one for each of 3 draws, got 2"):
        upscale(noise(2, 8, 8), [seeded(q) for q in range(3)])
    with pytest.raises(ValueError, match="lr: expected finite values"):
        upscale(2 * torch.ones(1, 3, 8, 8), seeded(0))
