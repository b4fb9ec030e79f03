"""ResShift: schedules, steps, U-Net and autoencoder of the official files, the whole chain; batches, ends, errors."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.networks.resshift import Attention, ResShiftUNet, SwinBlock, strip_buffers
from helpers.networks.vq_autoencoder import VQAutoencoder
from helpers.runtime import seeded
from helpers.upscalers import diffusion
from tests.diffusion import differ, fill, names, read, relative, tiny_autoencoder, tiny_unet

SCHEDULES = {"s15": {}, "s4": {"steps": 4, "lowest": 0.2}}
PUBLISHED = {  # sqrt(eta), executed by the authors' code
    "s15": "0.02 0.117165 0.176305 0.233629 0.291574 0.351009 0.412356 0.475858 0.541672 0.60991 0.680658 0.753985 "
    "0.829951 0.908606 0.99",
    "s4": "0.1 0.520096 0.761382 0.99",
}


# ---- schedule and steps


@pytest.mark.parametrize("which", SCHEDULES)
def test_published_schedules(which):
    found = diffusion.residual_schedule(**SCHEDULES[which])
    assert found["sqrt_etas"] == pytest.approx([float(each) for each in PUBLISHED[which].split()], abs=5e-7)
    assert found["sqrt_etas"][-1] == pytest.approx(0.99, abs=1e-14)
    assert found["etas"] == pytest.approx(np.cumsum(found["alpha"]), abs=1e-14)
    assert found["posterior_mean_coef1"] + found["posterior_mean_coef2"] == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("which", SCHEDULES)
def test_official_schedules(which, shared):
    golden, found = read(shared, "resshift_schedule"), diffusion.residual_schedule(**SCHEDULES[which])
    listed = [name for name in golden if name.startswith(which) and golden[name].dtype == torch.float64]
    assert len(listed) == 9
    for name in listed:
        assert relative(found[name.partition("_")[2]], golden[name]) < 1e-12, name


def test_a_small_kappa_does_not_raise_the_first_step():
    assert diffusion.residual_schedule(kappa=1.0)["sqrt_etas"][0] == pytest.approx(0.04, abs=1e-15)
    assert diffusion.residual_schedule(kappa=0.5)["sqrt_etas"][0] == pytest.approx(0.04, abs=1e-15)
    assert diffusion.residual_schedule(kappa=4.0)["sqrt_etas"][0] == pytest.approx(0.01, abs=1e-15)


@pytest.mark.parametrize("t", [0, 7, 14])
def test_official_steps(t, shared):
    golden, schedule = read(shared, "resshift_schedule"), diffusion.residual_schedule()
    noise = golden["noise"]
    assert (
        differ(diffusion.residual_mix(schedule, golden["z0"], golden["zy"], t, noise), golden[f"s15_q_sample_t{t}"])
        < 1e-6
    )
    assert differ(diffusion.residual_input(schedule, golden["x_t"], t), golden[f"s15_net_input_t{t}"]) < 1e-6
    step = diffusion.residual_step(schedule, golden["x_t"], golden["pred_x0"], t, noise)
    assert differ(step, golden[f"s15_p_sample_t{t}"]) < 1e-6


@pytest.mark.parametrize("which", SCHEDULES)
def test_official_start(which, shared):
    golden = read(shared, "resshift_schedule")
    found = diffusion.residual_start(diffusion.residual_schedule(**SCHEDULES[which]), golden["zy"], golden["noise"])
    assert differ(found, golden[f"{which}_prior_sample"]) < 1e-6


def test_steps_of_a_batch_are_those_of_its_samples():
    schedule, (x0, y, noise) = diffusion.residual_schedule(), torch.randn(3, 2, 3, 4, 4)
    both = diffusion.residual_mix(schedule, x0, y, torch.tensor([2, 9]), noise)
    for i, t in enumerate((2, 9)):
        alone = diffusion.residual_mix(schedule, x0[i], y[i], t, noise[i])
        assert torch.allclose(both[i], alone, atol=1e-6)
    assert torch.allclose(
        diffusion.residual_input(schedule, x0, torch.tensor([14, 14]), latent=False), x0 / (3 * 2 * 0.99 + 1)
    )


def test_the_chain_ends_at_what_is_predicted_and_draws_once_more_than_it_has_steps():
    drawn, seen, target = [], [], torch.full((2, 3, 4, 4), 1.5)

    def draw():
        drawn.append(torch.randn(2, 3, 4, 4, generator=seeded(len(drawn))))
        return drawn[-1]

    def predict(x, t):
        seen.append(t)
        return target

    schedule = diffusion.residual_schedule(4, lowest=0.2)
    found = diffusion.residual_sample(predict, torch.zeros(2, 3, 4, 4), schedule, draw)
    assert torch.equal(found, target) and seen == [3, 2, 1, 0] and len(drawn) == 5
    clipped = diffusion.residual_sample(predict, torch.zeros(2, 3, 4, 4), schedule, draw, clip=True)
    assert torch.equal(clipped, torch.ones_like(target))


@pytest.mark.parametrize(
    "how, message",
    [
        ({"steps": 1}, "steps: expected a whole number of at least 2, got 1"),
        ({"steps": 4.0}, "steps: expected a whole number of at least 2, got 4.0"),
        ({"kappa": 0.0}, "kappa, power: expected numbers above 0, got 0.0"),
        ({"highest": 1.0}, "lowest, highest: expected 0 < first < last < 1, got 0.02 and 1.0"),
        ({"lowest": -0.1}, "lowest, highest: expected 0 < first"),
    ],
)
def test_schedules_that_do_not_exist(how, message):
    with pytest.raises(ValueError, match=message):
        diffusion.residual_schedule(**how)


# ---- networks


def test_tensors_and_parameters_of_the_official_files():
    with torch.device("meta"):
        sizes = [
            (len(network.state_dict()), sum(each.numel() for each in network.parameters()))
            for network in (ResShiftUNet(), VQAutoencoder())
        ]
    assert sizes == [(564 - 24, 118_593_583), (205, 55_322_782)]


@pytest.mark.parametrize("name, make", [("tiny_resshift_unet", tiny_unet), ("tiny_resshift_vq", tiny_autoencoder)])
def test_official_names_and_shapes(name, make, shared):
    assert [(key, list(each.shape)) for key, each in make().state_dict().items()] == names(shared, name)


@torch.no_grad()
def test_official_unet(shared):
    golden, network = read(shared, "resshift_nets"), tiny_unet()
    for size in ("", "_tall"):
        x, t, lr, out = (golden[f"unet_{name}{size}"] for name in ("x", "t", "lq", "out"))
        assert differ(network(x, t, lr), out) < 1e-4


@torch.no_grad()
def test_official_autoencoder(shared):
    golden, network = read(shared, "resshift_nets"), tiny_autoencoder()
    z = network.encode(golden["vq_image"])
    assert differ(z, golden["vq_z"]) < 1e-4
    assert differ(network.quantize(z), golden["vq_quantized"]) < 1e-4
    assert differ(network.decode(z), golden["vq_decoded"]) < 1e-4
    assert differ(network.decode(z, quantise=False), golden["vq_decoded_unquantized"]) < 1e-4


@torch.no_grad()
def test_official_chain(shared):
    golden, unet, autoencoder = read(shared, "resshift_nets"), tiny_unet(), tiny_autoencoder()
    lr, schedule, noises = golden["chain_lr"], diffusion.residual_schedule(4, lowest=0.2), iter(golden["chain_noises"])
    up = F.interpolate(lr, scale_factor=4, mode="bicubic")
    assert differ(up, golden["chain_y_up"]) < 1e-5

    def predict(x, t):
        return unet(diffusion.residual_input(schedule, x, t), torch.tensor([t]), lr)

    z = diffusion.residual_sample(predict, autoencoder.encode(up), schedule, lambda: next(noises)[None])
    assert differ(z, golden["chain_z_final"]) < 1e-4
    assert differ(autoencoder.decode(z), golden["chain_sr"]) < 1e-3


@torch.no_grad()
def test_a_batch_is_its_images():
    unet, autoencoder = tiny_unet(), tiny_autoencoder()
    x, lr = torch.randn(2, 2, 3, 16, 32)
    steps = torch.tensor([1, 11])
    both, z = unet(x, steps, lr), autoencoder.encode(lr)
    image = autoencoder.decode(z)
    for i in range(2):
        assert torch.allclose(both[i : i + 1], unet(x[i : i + 1], steps[i : i + 1], lr[i : i + 1]), atol=1e-5)
        assert torch.allclose(z[i : i + 1], autoencoder.encode(lr[i : i + 1]), atol=1e-5)
        assert torch.allclose(image[i : i + 1], autoencoder.decode(z[i : i + 1]), atol=1e-4)


@torch.no_grad()
def test_every_input_of_the_unet_counts():
    unet, (x, lr) = tiny_unet(), torch.randn(2, 1, 3, 16, 16)
    out = unet(x, torch.tensor([3]), lr)
    for other in (
        unet(x + 0.1, torch.tensor([3]), lr),
        unet(x, torch.tensor([4]), lr),
        unet(x, torch.tensor([3]), -lr),
    ):
        assert differ(other, out) > 1e-3


def test_windows_are_taken_apart_and_put_together():
    block, x = SwinBlock(32, 8, 4, 2, 4.0), torch.randn(2, 32, 16, 24)
    assert block.split(x).shape == (2, 6, 64, 32)
    assert torch.equal(block.join(block.split(x), 16, 24), x)


def test_attention_is_even_without_weights_and_stays_in_its_window():
    attention = fill(Attention(8, 4, 2))
    attention.qkv.weight[:16], attention.qkv.bias[:16] = 0, 0
    attention.relative_position_bias_table.zero_()
    x = torch.randn(1, 3, 16, 8)
    mean = attention.proj(F.linear(x, attention.qkv.weight[16:], attention.qkv.bias[16:]).mean(2, keepdim=True))
    assert torch.allclose(attention(x, None), mean.expand(-1, -1, 16, -1), atol=1e-5)


def test_levels_of_one_window_are_not_shifted():
    shifts = [
        m.shift
        for m in ResShiftUNet(width=32, swin_width=32, multipliers=(1, 1, 1, 1)).modules()
        if isinstance(m, SwinBlock)
    ]
    assert shifts == [0, 4] * 3 + [0, 0] * 3 + [0, 4] * 3


def test_codes_are_the_nearest():
    book = fill(VQAutoencoder(32, n_embed=64)).quantize
    z = torch.randn(2, 3, 5, 4)
    apart = (z.movedim(1, -1)[..., None, :] - book.embedding.weight).square().sum(-1)
    assert torch.equal(book(z), book.embedding.weight[apart.argmin(-1)].movedim(-1, 1))
    assert torch.equal(book(book(z)), book(z))


def test_names_of_a_file_without_its_buffers():
    stem = "input_blocks.1.1.blocks.1"
    state = {f"module.{stem}.attn_mask": 0, f"module.{stem}.attn.relative_position_index": 1, "_orig_mod.out.0.bias": 2}
    assert strip_buffers(state) == {"out.0.bias": 2}


def test_sizes_that_do_not_fit():
    unet = tiny_unet()
    with pytest.raises(ValueError, match=r"multiples of 16, got \(1, 3, 8, 16\)"):
        unet(torch.zeros(1, 3, 8, 16), torch.tensor([0]), torch.zeros(1, 3, 8, 16))
    with pytest.raises(ValueError, match=r"one shape .*got \(1, 3, 16, 16\) and \(1, 3, 32, 16\)"):
        unet(torch.zeros(1, 3, 16, 16), torch.tensor([0]), torch.zeros(1, 3, 32, 16))
    with pytest.raises(ValueError, match=r"multiples of 4, got \(1, 3, 16, 18\)"):
        tiny_autoencoder().encode(torch.zeros(1, 3, 16, 18))
