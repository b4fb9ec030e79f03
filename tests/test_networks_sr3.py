"""SR3: schedule, steps and U-Net of the official files; batches, ends of the chain, errors."""

import numpy as np
import pytest
import torch

from helpers.networks.sr3 import CONFIGS, SR3UNet, strip_prefix
from helpers.upscalers import diffusion
from tests.diffusion import differ, names, read, relative, tiny_sr3

SIZES = {"16_128": (374, 97_807_491), "64_512": (241, 155_334_339)}  # tensors, 12 of the schedule, and parameters


def level(t, n=1):
    return torch.full((n,), diffusion.sr3_level(diffusion.sr3_schedule(), t))


# ---- schedule and steps


def test_official_schedule(shared):
    golden, found = read(shared, "sr3"), diffusion.sr3_schedule()
    index = golden["index"].numpy()
    listed = [name for name in golden if name in found]
    assert len(listed) == 8
    for name in listed:
        assert relative(found[name][index].astype(np.float32), golden[name]) < 2e-7, name
    levels = found["sqrt_alphas_cumprod_prev"]
    assert relative(levels[[*index, 2000]], golden["sqrt_alphas_cumprod_prev_len2001"]) < 1e-12


def test_ends_of_the_schedule():
    schedule = diffusion.sr3_schedule()
    assert schedule["alphas_cumprod"][-1] == pytest.approx(4.39e-5, rel=1e-3)
    assert schedule["betas"][[0, -1]] == pytest.approx([1e-6, 1e-2], rel=1e-12)
    assert schedule["sqrt_alphas_cumprod_prev"][0] == 1 and len(schedule["sqrt_alphas_cumprod_prev"]) == 2001
    assert diffusion.sr3_level(schedule, 0) == pytest.approx(np.sqrt(1 - 1e-6), rel=1e-12)
    assert schedule["posterior_variance"][0] == 0
    assert schedule["posterior_log_variance_clipped"][0] == pytest.approx(np.log(1e-20))


@torch.no_grad()
@pytest.mark.parametrize("t", [0, 500, 1999])
def test_official_unet_and_steps(t, shared):
    golden = read(shared, "sr3")
    predicted = tiny_sr3()(golden["cond"], golden["x_t"], level(t))
    assert differ(predicted, golden[f"eps_t{t}"]) < 1e-4
    step = diffusion.sr3_step(diffusion.sr3_schedule(), golden["x_t"], golden[f"eps_t{t}"], t, golden["noise"])
    assert differ(step, golden[f"p_sample_t{t}"]) < 1e-6


def test_a_network_that_knows_the_noise_finds_the_image():
    """Steps of the posterior with the right noise walk to x_0 whatever they draw."""
    schedule, x0, generator = diffusion.sr3_schedule(50, last=0.2), torch.rand(2, 3, 4, 4) * 2 - 1, torch.Generator()
    drawn = []

    def draw():
        drawn.append(torch.randn(2, 3, 4, 4, generator=generator))
        return drawn[-1]

    def predict(x, sqrt_alphabar):
        return (x - sqrt_alphabar * x0) / np.sqrt(1 - sqrt_alphabar**2)

    assert differ(diffusion.sr3_sample(predict, schedule, draw), x0) < 1e-3
    assert len(drawn) == 50  # the start and every step but the last


def test_mixing_keeps_the_variance():
    x0, noise = torch.randn(2, 4, 3, 64, 64)
    mixed = diffusion.sr3_mix(x0, torch.tensor([0.0, 0.3, 0.9, 1.0]), noise)
    assert mixed.var((1, 2, 3)) == pytest.approx([1.0] * 4, abs=0.06)
    assert torch.equal(mixed[0], noise[0]) and torch.equal(mixed[3], x0[3])


@pytest.mark.parametrize(
    "how, message",
    [
        ({"steps": 0}, "steps: expected a whole number of at least 2, got 0"),
        ({"last": 1.0}, "first, last: expected 0 < first < last < 1, got 1e-06 and 1.0"),
    ],
)
def test_schedules_that_do_not_exist(how, message):
    with pytest.raises(ValueError, match=message):
        diffusion.sr3_schedule(**how)


# ---- network


@pytest.mark.parametrize("name", CONFIGS)
def test_tensors_and_parameters_of_the_official_files(name):
    with torch.device("meta"):
        network = SR3UNet(**CONFIGS[name])
    assert (len(network.state_dict()) + 12, sum(each.numel() for each in network.parameters())) == SIZES[name]


def test_official_names_and_shapes(shared):
    found = [(f"denoise_fn.{key}", list(each.shape)) for key, each in tiny_sr3().state_dict().items()]
    assert found == names(shared, "tiny_sr3")


@torch.no_grad()
def test_a_batch_is_its_images_and_every_input_counts():
    network, (condition, x) = tiny_sr3(), torch.randn(2, 2, 3, 8, 16)
    levels = torch.tensor([0.2, 0.9])
    both = network(condition, x, levels)
    for i in range(2):
        alone = network(condition[i : i + 1], x[i : i + 1], levels[i : i + 1])
        assert torch.allclose(both[i : i + 1], alone, atol=1e-5)
    for other in (
        network(-condition, x, levels),
        network(condition, x + 0.1, levels),
        network(condition, x, levels + 0.05),
    ):
        assert differ(other, both) > 1e-3


def test_only_what_is_trained_attends_but_for_the_middle():
    with torch.device("meta"):
        found = [name for name, _ in SR3UNet(**CONFIGS["64_512"]).named_modules() if name.endswith("attn.qkv")]
    assert found == ["mid.0.attn.qkv"]


def test_names_of_a_file_without_its_schedule():
    assert strip_prefix({"betas": 0, "denoise_fn.final_conv.block.0.bias": 1}) == {"final_conv.block.0.bias": 1}


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"multiples of 4, got \(1, 3, 8, 6\) and \(1, 3, 8, 6\)"):
        tiny_sr3()(torch.zeros(1, 3, 8, 6), torch.zeros(1, 3, 8, 6), level(0))
    with pytest.raises(ValueError, match=r"one shape .*got \(1, 3, 8, 8\) and \(2, 3, 8, 8\)"):
        tiny_sr3()(torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8), level(0))
