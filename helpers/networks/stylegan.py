"""StyleGAN (v1): a mapping network from latents to styles, and a synthesis network from styles to images.

The same function as the networks that PULSE loads (Karras et al., CVPR 2019; Menon et al., CVPR 2020;
github.com/adamian98/pulse, commit 40cacb97, whose lines are quoted below), written anew. Names and shapes of
the parameters are those of its `mapping.pt` and `synthesis.pt`, which load strictly. Weights are stored with
unit spread and scaled when they are used (equalised learning rate); `Synthesis.frozen` scales them once.

Some sums are taken in a cheaper order than the official one. In float64 nothing is left of that. In float32 an
activation that rounds to the other side of LeakyReLU's kink moves a gradient by up to 1e-4, as it does between
two machines.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of every LeakyReLU
TRANSPOSED_FROM = 128  # output size from which the official code upsamples by a transposed convolution, stylegan.py:75


class Equalised(nn.Module):
    """A weight of N(0, 1 / rate^2) and a bias, both multiplied by constants when they are used.

    Args:
        shape: of the weight, outputs first.
        gain: the scaled weight has standard deviation gain / sqrt(inputs) at first.
        rate: further factor of weight and bias, their relative learning rate (`lrmul`).
    """

    def __init__(self, shape: tuple[int, ...], gain: float, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape) / rate)
        self.bias = nn.Parameter(torch.zeros(shape[0]))
        self.scale, self.rate = gain * rate / math.sqrt(math.prod(shape[1:])), rate
        self.register_buffer("once", None, persistent=False)

    def scaled(self) -> Tensor:
        """The weight as it is used."""
        return self.weight * self.scale

    def kernel(self) -> Tensor:
        """`scaled`, computed once where the network is frozen."""
        return self.scaled() if self.once is None else self.once


class Dense(Equalised):
    """Fully connected layer, (N, inputs) to (N, outputs)."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0, rate: float = 1.0) -> None:
        super().__init__((outputs, inputs), gain, rate)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias if self.rate == 1 else self.bias * self.rate
        return F.linear(x, self.kernel(), bias)


class Conv(Equalised):
    """Convolution of odd size with bias; zeros around the image."""

    def __init__(self, inputs: int, outputs: int, size: int, gain: float = math.sqrt(2)) -> None:
        super().__init__((outputs, inputs, size, size), gain)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), self.bias, padding=self.weight.shape[-1] // 2)


class Blur(nn.Module):
    """[1, 2, 1] x [1, 2, 1] / 16 on each channel, zeros around the image; the kernel is part of the state."""

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.expand(channels, -1, -1, -1), bias, padding=1, groups=channels)


class UpConv(Equalised):
    """Twice the size by repeating pixels, a 3x3 convolution, blur, then the bias (stylegan.py:69-100).

    The first two are one transposed convolution of stride 2, whose 4x4 kernel is the 3x3 one spread over the
    repeated pixels: 4 products an output pixel instead of 9. The official code does so from 128x128 on; as a
    transposed convolution turns its kernel by 180 degrees, smaller sizes need the stored kernel turned first.
    """

    def __init__(self, inputs: int, outputs: int, resolution: int) -> None:
        super().__init__((outputs, inputs, 3, 3), math.sqrt(2))
        self.intermediate = Blur()
        self.turned = resolution < TRANSPOSED_FROM

    def scaled(self) -> Tensor:
        """The 4x4 kernel, (inputs, outputs, 4, 4)."""
        kernel = super().scaled().transpose(0, 1)
        wide = F.pad(kernel.flip(2, 3) if self.turned else kernel, (1, 1, 1, 1))
        return wide[:, :, 1:, 1:] + wide[:, :, :-1, 1:] + wide[:, :, 1:, :-1] + wide[:, :, :-1, :-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.intermediate(F.conv_transpose2d(x, self.kernel(), stride=2, padding=1), self.bias)


class Noise(nn.Module):
    """Adds one noise map to all channels, each with its own strength."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        return x if noise is None else torch.addcmul(x, self.weight.to(x).view(1, -1, 1, 1), noise.to(x))


class Style(nn.Module):
    """Holds the affine map from a style vector to scale - 1 and shift of each channel."""

    def __init__(self, style_size: int, channels: int) -> None:
        super().__init__()
        self.lin = Dense(style_size, 2 * channels)


class Epilogue(nn.Module):
    """What follows each convolution: noise, LeakyReLU, instance norm, style (stylegan.py:251-282)."""

    def __init__(self, channels: int, style_size: int) -> None:
        super().__init__()
        self.noise = Noise(channels)
        self.style_mod = Style(style_size, channels)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        x = F.leaky_relu(self.noise(x, noise), SLOPE)
        n, channels, height, width = x.shape
        exact = torch.promote_types(x.dtype, torch.float32)  # of mean, spread and style where x is in half precision
        scale, shift = self.style_mod.lin(style).to(exact).view(n, 2, channels).unbind(1)
        # instance norm is the batch norm of one image with N * C channels, which scales and shifts as well;
        # eps is PyTorch's default as in PULSE, NVIDIA's TensorFlow code has 1e-8
        x, scale, shift = x.reshape(1, n * channels, height, width), scale.reshape(-1) + 1, shift.reshape(-1)
        return F.batch_norm(x, None, None, scale, shift, training=True, eps=1e-5).view(n, channels, height, width)


class InputBlock(nn.Module):
    """4x4: a learned constant instead of an input, then two layers (stylegan.py:304-315)."""

    def __init__(self, channels: int, style_size: int) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.ones(1, channels, 4, 4))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.epi1 = Epilogue(channels, style_size)
        self.conv = Conv(channels, channels, 3)
        self.epi2 = Epilogue(channels, style_size)

    def forward(self, styles: tuple[Tensor, Tensor], noise: tuple[Tensor | None, Tensor | None]) -> Tensor:
        x = (self.const + self.bias.view(1, -1, 1, 1)).expand(len(styles[0]), -1, -1, -1)
        return self.epi2(self.conv(self.epi1(x, styles[0], noise[0])), styles[1], noise[1])


class Block(nn.Module):
    """Every later size: up, then two layers (stylegan.py:335-340)."""

    def __init__(self, inputs: int, channels: int, resolution: int, style_size: int) -> None:
        super().__init__()
        self.conv0_up = UpConv(inputs, channels, resolution)
        self.epi1 = Epilogue(channels, style_size)
        self.conv1 = Conv(channels, channels, 3)
        self.epi2 = Epilogue(channels, style_size)

    def forward(self, x: Tensor, styles: tuple[Tensor, Tensor], noise: tuple[Tensor | None, Tensor | None]) -> Tensor:
        x = self.epi1(self.conv0_up(x), styles[0], noise[0])
        return self.epi2(self.conv1(x), styles[1], noise[1])


class Mapping(nn.Module):
    """From latents to styles: pixel norm, then dense layers with LeakyReLU, the last one too (stylegan.py:199-234).

    Args:
        latent_size: D of the latents.
        style_size: D of the styles, and of the layers between.
        layers: number of dense layers.
        rate: their relative learning rate.
    """

    def __init__(self, latent_size: int = 512, style_size: int = 512, layers: int = 8, rate: float = 0.01) -> None:
        super().__init__()
        self.latent_size, self.layers = latent_size, layers
        for number in range(layers):
            inputs = style_size if number else latent_size
            self.add_module(f"dense{number}", Dense(inputs, style_size, math.sqrt(2), rate))

    def forward(self, z: Tensor) -> Tensor:
        """Styles of latents.

        Args:
            z: (N, latent_size), usually N(0, 1).

        Returns:
            (N, style_size): one style for all layers, not repeated.

        Raises:
            ValueError: another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_size:
            raise ValueError(f"z: expected shape (N, {self.latent_size}), got {tuple(z.shape)}")
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for number in range(self.layers):
            x = F.leaky_relu(getattr(self, f"dense{number}")(x), SLOPE)
        return x


class Synthesis(nn.Module):
    """From styles and noise maps to images; the defaults are the official network of 1024x1024 faces.

    Blocks of 4x4 to resolution x resolution, two layers each; the block of 2^r pixels has
    min(fmap_base / 2^(r - 1), fmap_max) channels (stylegan.py:372-385). A smaller resolution keeps the names
    and shapes of the blocks that remain; only `torgb` fits its own last block.

    Args:
        resolution: side of the images, a power of 2 from 8 on.
        fmap_base, fmap_max: widths, as above.
        style_size: D, size of a style vector.

    Raises:
        ValueError: the resolution is no such power, or a block would have no channel.
    """

    def __init__(
        self, resolution: int = 1024, fmap_base: int = 8192, fmap_max: int = 512, style_size: int = 512
    ) -> None:
        super().__init__()
        if resolution < 8 or resolution & (resolution - 1):
            raise ValueError(f"resolution: expected a power of 2 from 8 on, got {resolution}")
        sizes = [2**r for r in range(2, resolution.bit_length())]
        widths = [min(2 * fmap_base // size, fmap_max) for size in sizes]
        if min(widths) < 1 or style_size < 1:
            raise ValueError(f"expected at least 1 channel and style, got channels {widths} and {style_size} styles")
        self.resolution, self.style_size, self.layers = resolution, style_size, 2 * len(sizes)
        self.torgb = Conv(widths[-1], 3, 1, gain=1.0)
        self.blocks = nn.ModuleDict({"4x4": InputBlock(widths[0], style_size)})
        for size, inputs, channels in zip(sizes[1:], widths, widths[1:], strict=False):
            self.blocks[f"{size}x{size}"] = Block(inputs, channels, size, style_size)

    def noise_shapes(self) -> list[tuple[int, int, int]]:
        """Shapes (1, r, r) of one image's noise maps, one per layer: 4, 4, 8, 8, ... pixels."""
        return [(1, 2 ** (layer // 2 + 2), 2 ** (layer // 2 + 2)) for layer in range(self.layers)]

    def forward(self, styles: Tensor, noise: list[Tensor | None]) -> Tensor:
        """Images of styles.

        Args:
            styles: w, one vector per image and layer, (N, layers, style_size).
            noise: one map per layer, (N, 1, r, r) or (1, 1, r, r), r as in `noise_shapes`; None is all zero.

        Returns:
            (N, 3, resolution, resolution), nominally in [-1, 1], not clipped.

        Raises:
            ValueError: wrong shapes.
        """
        if styles.ndim != 3 or styles.shape[1:] != (self.layers, self.style_size):
            expected = f"(N, {self.layers}, {self.style_size})"
            raise ValueError(f"styles: expected shape {expected}, got {tuple(styles.shape)}")
        shapes, got = self.noise_shapes(), [None if each is None else tuple(each.shape) for each in noise]
        fits = [
            g is None or (g[1:] == shape and g[0] in (1, len(styles))) for g, shape in zip(got, shapes, strict=False)
        ]
        if len(got) != len(shapes) or not all(fits):
            raise ValueError(f"noise: expected shapes {[(len(styles), *shape) for shape in shapes]}, got {got}")
        return self.torgb(self.trunk(styles, noise)[-1])

    def trunk(self, styles: Tensor, noise: list[Tensor | None]) -> list[Tensor]:
        """Features of every block, from 4x4 to the last; arguments as `forward`, which checks them."""
        found, each = [], styles.unbind(1)
        for number, block in enumerate(self.blocks.values()):
            pair = slice(2 * number, 2 * number + 2)
            found.append(block(*found[-1:], each[pair], noise[pair]))
        return found

    def frozen(self) -> "Synthesis":
        """A copy for many passes: in eval mode, without gradients of the weights, which are scaled once."""
        network = copy.deepcopy(self).eval().requires_grad_(False)
        for module in network.modules():
            if isinstance(module, Equalised):
                module.once = module.scaled()
        return network


def official_names(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The names that PULSE's files have, from those or from lernapparat's conversion of NVIDIA's network.

    The latter (karras2019stylegan-ffhq-1024x1024.for_g_all.pt) holds both networks, with prefixes and another
    place for the noise strengths.

    Args:
        state: name -> tensor.
        part: "mapping" or "synthesis".

    Returns:
        The tensors of that network alone where the names carry prefixes; else all of them.
    """
    prefix = f"g_{part}."
    if any(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return {name.replace(".top_epi.noise.", ".noise."): tensor for name, tensor in state.items()}


def synthesis_of(state: dict[str, Tensor]) -> Synthesis:
    """A synthesis network of the sizes that a state dict has, loaded strictly, in eval mode.

    Args:
        state: name -> tensor, as `Synthesis.state_dict`.

    Raises:
        ValueError: no such state dict; names what is missing or does not fit.
    """
    sizes = [int(name.split(".")[1].split("x")[0]) for name in state if name.endswith("epi2.style_mod.lin.weight")]
    side, first = max(sizes, default=4), "blocks.4x4.epi2.style_mod.lin.weight"
    if first not in state or len(sizes) < 2:
        raise ValueError(f"expected the state dict of a synthesis network, got {len(state)} tensors without {first}")
    channels, style_size = state[first].shape[0] // 2, state[first].shape[1]
    narrowest = state[f"blocks.{side}x{side}.epi2.style_mod.lin.weight"].shape[0] // 2
    network = Synthesis(side, narrowest * side // 2, channels, style_size)
    return _loaded(network, state, f"a {side}x{side} synthesis network")


def mapping_of(state: dict[str, Tensor], rate: float = 0.01) -> Mapping:
    """A mapping network of the sizes that a state dict has, loaded strictly, in eval mode.

    Args:
        state: name -> tensor, as `Mapping.state_dict`.
        rate: as `Mapping`; it cannot be read from the tensors.

    Raises:
        ValueError: no such state dict; names what is missing or does not fit.
    """
    first, layers = state.get("dense0.weight"), sum(name.endswith(".weight") for name in state)
    if first is None or first.ndim != 2:
        raise ValueError(f"expected the state dict of a mapping network, got {sorted(state)[:4]}")
    network = Mapping(first.shape[1], first.shape[0], layers, rate)
    return _loaded(network, state, f"a mapping of {layers} layers")


def _loaded(network: nn.Module, state: dict[str, Tensor], what: str) -> nn.Module:
    """The network with this state, strictly, in eval mode."""
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:  # its text lists names and shapes
        found = " ".join(str(error).split())
        raise ValueError(f"expected the state dict of {what}, got {found}") from error
    return network.eval()
