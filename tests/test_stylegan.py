"""StyleGAN: the official function (names, shapes, numbers), and what must hold for any weights."""

import json
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.networks import stylegan
from helpers.networks.stylegan import Mapping, Synthesis
from helpers.runtime import seeded

NETS = {"r8": {"resolution": 8}, "r64": {"resolution": 64}, "r256_small": {"resolution": 256, "fmap_max": 32}}
SMALL = {"resolution": 16, "fmap_base": 64, "fmap_max": 8, "style_size": 12}
ATOL = 5e-5


def values(name: str, shape: tuple[int, ...], scale: float = 1.0, offset: float = 0.0) -> torch.Tensor:
    """Numbers from a hash of the name: the rule of the reference vectors."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return torch.from_numpy((noise * scale + offset).astype(np.float32))


def scale_of(name: str) -> float:
    """Standard deviation that the rule gives to a tensor of the state dict."""
    if name.startswith("dense"):
        return 10.0 if name.endswith("bias") else 100.0
    if name == "torgb.weight":
        return 0.25
    return 0.1 if name.endswith(("noise.weight", ".bias")) else 1.0


def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Fill every parameter by the rule, in place; the blur stays."""
    state = network.state_dict()
    for name, tensor in state.items():
        if not name.endswith("intermediate.kernel"):
            tensor.copy_(values(name, tuple(tensor.shape), scale_of(name)))
    network.load_state_dict(state, strict=True)
    return network.eval()


def statistics_of_styles() -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the reference vectors' Gaussian fit."""
    return values("gaussian_fit.mean", (512,), 0.15, -0.27), values("gaussian_fit.std", (512,), 0.07, 0.48).abs()


def styles_of(latent: torch.Tensor) -> torch.Tensor:
    mean, std = statistics_of_styles()
    return F.leaky_relu(latent * std + mean, 0.2)


def noise_of(
    network: Synthesis, n: int, name: str = "noise.{layer}.2", rows: slice = slice(None)
) -> list[torch.Tensor]:
    shapes = network.noise_shapes()
    return [values(name.format(layer=layer), (n, *shape))[rows] for layer, shape in enumerate(shapes)]


def differ(a, b) -> float:
    return (torch.as_tensor(a) - torch.as_tensor(b)).abs().max().item()


@pytest.mark.parametrize("part, network", [("synthesis_1024", Synthesis), ("mapping", Mapping)])
def test_names_and_shapes_are_the_official_ones(shared, part, network):
    listed = json.loads((shared / "golden" / "pulse" / f"state_dict_{part}.json").read_text())
    with torch.device("meta"):  # no 24 million random numbers
        own = {name: list(tensor.shape) for name, tensor in network().state_dict().items()}
    assert own == {entry["name"]: entry["shape"] for entry in listed["entries"]}
    assert len(own) == listed["count"]


def test_fill_rule(shared):
    listed = json.loads((shared / "golden" / "pulse" / "state_dict_synthesis_1024.json").read_text())["entries"]
    entry = next(entry for entry in listed if entry["name"] == "blocks.1024x1024.conv1.weight")
    found = values(entry["name"], tuple(entry["shape"]), scale_of(entry["name"])).flatten()[:4]
    assert found.tolist() == pytest.approx(entry["first4"], abs=0, rel=1e-7)


def test_mapping_golden(shared):
    golden = np.load(shared / "golden" / "pulse" / "mapping.npz")
    network, trace = fill(Mapping()), []
    for layer in range(8):
        network.get_submodule(f"dense{layer}").register_forward_hook(lambda m, x, y: trace.append((x[0], y)))
    with torch.no_grad():
        styles = network(torch.from_numpy(golden["z"]))
    assert differ(styles, golden["w"]) < ATOL
    assert differ(F.leaky_relu(styles, 5.0), golden["w_leaky5"]) < ATOL
    steps = [trace[0][0]] + [F.leaky_relu(output, 0.2) for _, output in trace]
    assert differ(torch.stack([step[:2] for step in steps]), golden["trace"]) < ATOL


@pytest.mark.parametrize("way", ["plain", "frozen"])
@pytest.mark.parametrize("name", NETS)
def test_synthesis_golden(shared, name, way):
    golden, network, outputs = (
        np.load(shared / "golden" / "pulse" / f"synth_{name}.npz"),
        fill(Synthesis(**NETS[name])),
        [],
    )
    network = network if way == "plain" else network.frozen()
    for block in network.blocks.values():
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    noise, latent = noise_of(network, 2), torch.from_numpy(golden["latent"])
    assert torch.equal(latent, values(f"latent.2x{network.layers}", (2, network.layers, 512)))
    styles = styles_of(latent)
    assert differ(styles[:, :1], golden["w_first"]) < 1e-6
    with torch.no_grad():
        image = network(styles, noise)
        silent = network(styles, [torch.zeros(1, *shape) for shape in network.noise_shapes()])
        assert torch.equal(silent, network(styles, [None] * network.layers))
    for number, output in enumerate(outputs[: len(network.blocks)]):
        assert differ(F.adaptive_avg_pool2d(output[:, :8], 4), golden[f"block{number}_pool4"]) < ATOL, number
    assert differ(image[: len(golden["image"])], golden["image"]) < ATOL
    assert differ(F.adaptive_avg_pool2d(silent, 8), golden["image_zero_noise_pool8"]) < ATOL
    assert differ(image.mean((2, 3)), golden["mean"]) < ATOL
    assert differ(image.std((2, 3)), golden["std"]) < ATOL


def test_synthesis_golden_of_the_full_network(shared):
    golden, network = np.load(shared / "golden" / "pulse" / "synth_r1024_stats.npz"), fill(Synthesis()).frozen()
    rows, latent = slice(0, 1), torch.from_numpy(golden["latent"])
    with torch.no_grad():  # the first sample: each takes two seconds
        image = network(styles_of(latent)[rows], noise_of(network, 2, rows=rows))
    assert differ(image.mean((2, 3)), golden["mean"][rows]) < ATOL
    assert differ(image.std((2, 3)), golden["std"][rows]) < ATOL
    assert differ(F.adaptive_avg_pool2d(image, 8), golden["pool8"][rows]) < ATOL
    assert differ(F.adaptive_avg_pool2d(image, 64), golden["pool64"][rows]) < ATOL
    assert differ(image[..., 496:528, 496:528], golden["crop32"][rows]) < ATOL
    assert differ(image[..., :8, :8], golden["corner8"][rows]) < ATOL


@pytest.mark.parametrize("resolution", [32, 128])
def test_upsampling_is_repeat_then_convolve_then_blur(resolution):
    layer = stylegan.UpConv(3, 5, resolution)
    with torch.no_grad():
        layer.bias.normal_(generator=seeded("bias"))
    x = torch.randn(2, 3, 6, 7, generator=seeded("x"))
    kernel = layer.weight * (2 / (3 * 9)) ** 0.5
    kernel = kernel.flip(2, 3) if resolution >= 128 else kernel
    up = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), kernel, padding=1)
    blur = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None].expand(5, 1, 3, 3) / 16
    expected = F.conv2d(up, blur, padding=1, groups=5) + layer.bias.view(1, -1, 1, 1)
    assert differ(layer(x), expected) < 1e-5


def test_epilogue_is_noise_leaky_relu_instance_norm_style():
    layer = stylegan.Epilogue(4, 6)
    with torch.no_grad():
        layer.noise.weight.normal_(generator=seeded("noise"))
    x, noise = torch.randn(3, 4, 8, 8, generator=seeded("x")), torch.randn(3, 1, 8, 8, generator=seeded("n"))
    style = torch.randn(3, 6, generator=seeded("style"))
    active = F.leaky_relu(x + layer.noise.weight.view(1, -1, 1, 1) * noise, 0.2)
    variance, mean = torch.var_mean(active, (2, 3), correction=0, keepdim=True)
    affine = F.linear(style, layer.style_mod.lin.weight / 6**0.5, layer.style_mod.lin.bias)[..., None, None]
    expected = (active - mean) / (variance + 1e-5).sqrt() * (affine[:, :4] + 1) + affine[:, 4:]
    assert differ(layer(x, style, noise), expected) < 1e-5


def test_images_of_a_batch_are_independent(device):
    network = fill(Synthesis(**SMALL)).to(device)
    styles = torch.randn(4, network.layers, 12, generator=seeded("w")).to(device)
    noise = [torch.randn(4, *shape, generator=seeded(*shape)).to(device) for shape in network.noise_shapes()]
    with torch.no_grad():
        together = network(styles, noise)
        each = [network(styles[q : q + 1], [map[q : q + 1] for map in noise]) for q in range(4)]
    assert differ(together, torch.cat(each)) < 1e-5


def test_every_style_and_noise_map_matters():
    network = fill(Synthesis(**SMALL))
    styles = torch.randn(1, network.layers, 12, generator=seeded("w"), requires_grad=True)
    shapes = network.noise_shapes()
    noise = [torch.randn(1, *shape, generator=seeded(*shape), requires_grad=True) for shape in shapes]
    network(styles, noise).square().sum().backward()
    assert (styles.grad.abs().sum(2) > 0).all()
    assert all(map.grad.any() for map in noise)


def test_frozen_is_the_same_function_without_gradients_of_weights():
    network = fill(Synthesis(**SMALL)).double()
    frozen = network.frozen()
    styles = torch.randn(2, network.layers, 12, generator=seeded("w"), dtype=torch.float64)
    noise = [torch.randn(2, *shape, generator=seeded(*shape), dtype=torch.float64) for shape in network.noise_shapes()]
    assert differ(network(styles, noise).detach(), frozen(styles, noise)) < 1e-12
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert frozen.state_dict().keys() == network.state_dict().keys()


def test_fresh_networks_start_with_unit_spread():
    torch.manual_seed(0)
    styles = Mapping(64, 64)(torch.randn(500, 64))
    assert 0.2 < styles.std() < 2
    network = Synthesis(32, 256, 32, 64)
    image = network(styles[: network.layers * 20].view(20, network.layers, 64), [None] * network.layers)
    assert 0.2 < image.std() < 3


def test_sizes_are_read_from_the_state():
    for config in (SMALL, {"resolution": 8, "fmap_base": 4096, "fmap_max": 16, "style_size": 8}, NETS["r8"]):
        network = fill(Synthesis(**config))
        again = stylegan.synthesis_of(network.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_names_of_the_other_conversion():
    names = ["g_synthesis.blocks.4x4.epi1.top_epi.noise.weight", "g_synthesis.torgb.bias", "g_mapping.dense0.bias"]
    state = dict.fromkeys(names, torch.zeros(1))
    found = set(stylegan.official_names(state, "synthesis"))
    assert found == {"blocks.4x4.epi1.noise.weight", "torgb.bias"}
    assert set(stylegan.official_names(state, "mapping")) == {"dense0.bias"}
    own = fill(Synthesis(**SMALL)).state_dict()
    assert stylegan.official_names(own, "synthesis").keys() == own.keys()


def test_strict_loading_names_what_is_wrong():
    state = fill(Synthesis(**SMALL)).state_dict()
    without = {name: tensor for name, tensor in state.items() if name != "blocks.8x8.conv0_up.intermediate.kernel"}
    with pytest.raises(ValueError, match=r"16x16 synthesis.*blocks\.8x8\.conv0_up\.intermediate\.kernel"):
        stylegan.synthesis_of(without)
    with pytest.raises(ValueError, match=r"blocks\.16x16\.conv1\.weight"):
        stylegan.synthesis_of(state | {"blocks.16x16.conv1.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"Unexpected.*extra"):
        stylegan.synthesis_of(state | {"extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="got 16 tensors"):
        stylegan.synthesis_of(Mapping(8, 8).state_dict())


def test_bad_input():
    network, mapping = Synthesis(**SMALL), Mapping(8, 8)
    styles, noise = torch.zeros(2, 6, 12), [None] * 6
    for resolution in (4, 48, 0):
        with pytest.raises(ValueError, match=f"power of 2 from 8 on, got {resolution}"):
            Synthesis(resolution)
    with pytest.raises(ValueError, match="at least 1 channel"):
        Synthesis(64, fmap_base=16)
    with pytest.raises(ValueError, match=r"styles: expected shape \(N, 6, 12\), got \(2, 5, 12\)"):
        network(styles[:, 1:], noise)
    with pytest.raises(ValueError, match="noise: expected shapes"):
        network(styles, noise[1:])
    with pytest.raises(ValueError, match="noise: expected shapes"):
        network(styles, [torch.zeros(3, 1, 4, 4), *noise[1:]])
    with pytest.raises(ValueError, match=r"z: expected shape \(N, 8\), got \(1, 2, 8\)"):
        mapping(torch.zeros(1, 2, 8))
