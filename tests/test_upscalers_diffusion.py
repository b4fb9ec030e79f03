"""ResShift and SR3 as upscalers, small networks in files of the official names: draws, sizes, tiles, files refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.images import from_uint8, quantize, to_uint8
from helpers.networks.resshift import SwinBlock
from helpers.runtime import seeded
from helpers.upscalers import diffusion, registry, resshift, sr3
from tests.diffusion import differ, read, tiny_autoencoder, tiny_sr3, tiny_unet
from tests.pictures import waves

SMALL = {"resshift": 4, "resshift_bicsr": 4, "sr3": 8}  # name -> scale
FILES = {
    "resshift": "resshift_realsrx4_s15_v1.pth",
    "resshift_v2": "resshift_realsrx4_s15_v2.pth",
    "resshift_v3": "resshift_realsrx4_s4_v3.pth",
    "resshift_bicsr": "resshift_bicsrx4_s4.pth",
    "sr3": "I640000_E37_gen.pth",
    "sr3_512": "I830000_E32_gen.pth",
}


def resshift_file(unet):
    """Its tensors with the buffers that the official files hold."""
    state = dict(unet.state_dict())
    for name, block in unet.named_modules():
        if isinstance(block, SwinBlock):
            state[f"{name}.attn.relative_position_index"] = block.attn.relative_position_index
            if block.shift:
                state[f"{name}.attn_mask"] = torch.zeros(4, 64, 64)
    return state


def sr3_file(network):
    betas = torch.from_numpy(diffusion.sr3_schedule()["betas"]).float()
    state = {f"denoise_fn.{name}": each for name, each in network.state_dict().items()}
    return {name: betas for name in sr3.BUFFERS} | state


def put_small_files(folder, patch, names=tuple(FILES)):
    """Small networks stand in for the official ones, and SR3 walks 6 steps."""
    patch.setenv("IDA_RD_WEIGHTS", str(folder))
    patch.setenv("IDA_RD_CACHE", str(folder / "cache"))
    schedule = diffusion.sr3_schedule(6, last=0.3)
    patch.setattr(diffusion, "sr3_schedule", lambda: schedule)
    patch.setattr(resshift.resshift, "ResShiftUNet", tiny_unet)
    patch.setattr(resshift.vq_autoencoder, "VQAutoencoder", tiny_autoencoder)
    patch.setattr(sr3.sr3, "SR3UNet", lambda **config: tiny_sr3())
    for name in names:
        content = sr3_file(tiny_sr3()) if name.startswith("sr3") else resshift_file(tiny_unet())
        torch.save(content, folder / FILES[name])
    torch.save({"state_dict": tiny_autoencoder().state_dict()}, folder / "autoencoder_vq_f4.pth")


@pytest.fixture
def small(tmp_path, monkeypatch):
    put_small_files(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def upscale(tmp_path, monkeypatch, request):
    name = request.param
    put_small_files(tmp_path, monkeypatch, [name])
    return registry.build(name, scale=SMALL[name])


def keys(*samples):
    return [seeded("diffusion", 0, q) for q in samples]


lr_image = quantize(waves(1, 6, 8))
each_small = pytest.mark.parametrize("upscale", SMALL, indirect=True)


# ---- draws


@each_small
def test_a_batch_of_draws_is_its_draws(upscale):
    sr, scale = upscale(lr_image, keys(0, 1)), 4 if upscale.func is resshift._upscale else 8
    assert sr.shape == (2, 3, 6 * scale, 8 * scale) and sr.isfinite().all()
    for q in range(2):
        assert torch.allclose(upscale(lr_image, keys(q)), sr[q : q + 1], atol=1e-4)


@each_small
def test_same_key_same_draw_and_two_keys_two_draws(upscale):
    first, again, other = (upscale(lr_image, keys(q)[0]) for q in (0, 0, 1))
    assert torch.equal(first, again) and differ(first, other) > 0.05


@each_small
def test_one_lr_image_for_each_draw(upscale):
    two = torch.cat([lr_image, 1 - lr_image])
    sr = upscale(two, keys(0, 1))
    for q in range(2):
        assert torch.allclose(sr[q : q + 1], upscale(two[q : q + 1], keys(q)), atol=1e-4)
    assert differ(upscale(two[1:], keys(0)), sr[:1]) > 0.01  # the LR image counts


@pytest.mark.parametrize("upscale", ["resshift"], indirect=True)
def test_the_lr_image_is_encoded_once(upscale, monkeypatch):
    encoder, seen = upscale.args[1].encoder, []
    encoder.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    upscale(lr_image, keys(0, 1, 2))
    assert seen == [1]


@pytest.mark.parametrize("name, draws", [("resshift", 16), ("resshift_v3", 5), ("sr3", 6)])
def test_order_and_number_of_draws(name, draws, small):
    """A generator gives one tensor after the other, at the padded size, the start first."""
    upscale, drawn = registry.build(name, scale=SMALL.get(name, 4)), seeded("diffusion", 0, 0)
    shape = (3, 48, 64) if name == "sr3" else (3, 16, 16)
    for _ in range(draws):
        torch.randn(shape, generator=drawn)
    [key] = keys(0)
    upscale(lr_image, key)
    assert torch.equal(torch.randn(4, generator=key), torch.randn(4, generator=drawn))


def test_official_chain(shared, small, monkeypatch):
    golden = read(shared, "resshift_nets")
    noises = iter(golden["chain_noises"])
    monkeypatch.setattr(diffusion, "noise_source", lambda *_: lambda: next(noises)[None])
    sr = registry.build("resshift_v3", scale=4)((golden["chain_lr"] + 1) / 2, keys(0))
    assert differ(2 * sr - 1, golden["chain_sr"]) < 1e-3


@torch.no_grad()
def test_sr3_walks_as_its_parts_say(small):
    upscale, schedule, network = registry.build("sr3", scale=8), diffusion.sr3_schedule(), tiny_sr3()
    [generator] = keys(3)
    condition = 2 * sr3.enlarge(lr_image, 8) - 1
    x = torch.randn(3, 48, 64, generator=generator)[None]
    for t in reversed(range(6)):
        predicted = network(condition, x, torch.tensor([np.sqrt(schedule["alphas_cumprod"][t])]).float())
        noise = torch.randn(3, 48, 64, generator=generator)[None] if t else None
        x = diffusion.sr3_step(schedule, x, predicted, t, noise)
    assert torch.allclose(upscale(lr_image, keys(3)), (x + 1) / 2, atol=1e-4)


# ---- sizes


def test_reflection_goes_on_where_the_image_is_too_small():
    images = torch.arange(6.0).view(1, 1, 2, 3)
    padded = diffusion.pad_to_multiple(images, 8)
    assert padded.shape == (1, 1, 8, 8)
    assert padded[0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert padded[0, 0, :, 0].tolist() == [0, 3, 0, 3, 0, 3, 0, 3]
    assert torch.equal(diffusion.pad_to_multiple(images[..., :1, :1], 4), torch.zeros(1, 1, 4, 4))
    large = torch.rand(1, 3, 5, 8)
    assert torch.equal(diffusion.pad_to_multiple(large, 4), torch.nn.functional.pad(large, (0, 0, 0, 3), "reflect"))


@pytest.mark.parametrize(
    "length, expected", [(8, [0]), (512, [0]), (513, [0, 1]), (960, [0, 448]), (1100, [0, 448, 588])]
)
def test_where_tiles_begin(length, expected):
    assert resshift.starts(length) == expected


def test_tiles_are_drawn_one_after_the_other_and_averaged(small, monkeypatch):
    monkeypatch.setattr(resshift, "TILE", 16)
    monkeypatch.setattr(resshift, "STRIDE", 12)
    upscale, lr, [key] = registry.build("resshift_v3", scale=4), quantize(waves(1, 8, 24)), keys(0)
    left, right = (upscale(part, [key]) for part in (lr[..., :16], lr[..., 8:]))
    sr = upscale(lr, keys(0))
    assert torch.allclose(sr[..., :32], left[..., :32], atol=1e-4)
    assert torch.allclose(sr[..., 64:], right[..., 32:], atol=1e-4)
    assert torch.allclose(sr[..., 32:64], (left[..., 32:] + right[..., :32]) / 2, atol=1e-4)


def test_sr3_is_given_what_pillow_enlarges():
    found = sr3.enlarge(torch.cat([lr_image, 1 - lr_image]), 8)
    levels = to_uint8(lr_image)[0].permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(levels).resize((64, 48), Image.Resampling.BICUBIC))
    assert torch.equal(found[:1], from_uint8(torch.tensor(expected).permute(2, 0, 1)[None]))
    assert found.shape == (2, 3, 48, 64)


# ---- names and files


def test_records():
    assert {name for name in registry.UPSCALERS if name.startswith(("resshift", "sr3"))} == set(FILES)
    blind = {name for name in FILES if registry.UPSCALERS[name].blind}
    assert blind == {"resshift", "resshift_v2", "resshift_v3"}
    assert all(registry.UPSCALERS[name].stochastic for name in FILES)
    steps = {name: registry.UPSCALERS[name].make.keywords.get("steps") for name in FILES}
    assert [steps[name] for name in FILES] == [15, 15, 4, 4, None, None]


@pytest.mark.parametrize("name", FILES)
def test_weights_are_those_of_the_name(name, small):
    scale = 8 if name.startswith("sr3") else 4
    assert registry.are_here(name, scale)
    assert len(registry.weights_hash(name, scale).split("+")) == (1 if scale == 8 else 2)
    (small / FILES[name]).unlink()
    with pytest.raises(ValueError, match=f"{FILES[name]} is missing: put it into"):
        registry.build(name, scale=scale)


@pytest.mark.parametrize(
    "name, scale, heat, message",
    [
        ("resshift", 2, None, "resshift: expected scale 4, got 2"),
        ("sr3", 4, None, "sr3: expected scale 8, got 4"),
        ("resshift", 4, 0.5, "resshift: expected heat 1.0, its noise is part of the chain, got 0.5"),
        ("resshift(steps=4)", 4, None, "resshift has no options"),
    ],
)
def test_what_they_do_not_have(name, scale, heat, message):
    with pytest.raises(ValueError, match=message):
        registry.build(name, scale=scale, heat=heat)


@each_small
def test_lr_images_that_do_not_fit(upscale):
    with pytest.raises(ValueError, match="lr: expected one LR image, or one for each of 3 draws, got 2"):
        upscale(lr_image.expand(2, -1, -1, -1), keys(0, 1, 2))
    with pytest.raises(ValueError, match="lr: expected finite values in"):
        upscale(lr_image - 1, keys(0))


@pytest.mark.parametrize("name", SMALL)
def test_files_of_another_network_are_refused(name, small):
    state = torch.load(small / FILES[name])
    first = next(key for key in state if key not in sr3.BUFFERS)
    torch.save({key: each for key, each in state.items() if key != first}, small / FILES[name])
    with pytest.raises(ValueError, match=rf"{FILES[name]}: expected the \d+ tensors of .*1 missing"):
        registry.build(name, scale=SMALL[name])


def test_files_of_another_schedule_are_refused(small):
    state = sr3_file(tiny_sr3())
    torch.save(state | {"betas": 2 * state["betas"]}, small / FILES["sr3"])
    with pytest.raises(ValueError, match="expected the 6 betas of its schedule, from 1e-06 to 0.3, got .*0.6"):
        registry.build("sr3", scale=8)
    del state["posterior_variance"]
    torch.save(state, small / FILES["sr3_512"])
    with pytest.raises(ValueError, match="expected the schedule's betas, alphas_cumprod, .*got alphas_cumprod, "):
        registry.build("sr3_512", scale=8)
