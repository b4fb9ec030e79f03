"""Many SR samples of one LR image with SRFlow: what depends on the LR image alone is computed once.

Exact rewritings of `SRFlow.decode`, equal up to float rounding:

- the encoder runs once, without the layers whose results nothing reads;
- conv(z1 || features) = conv(z1) + conv(features): the second term and the first layer of the injector's
  net see the same map, so they are one convolution per step, shared by all samples; one step's results are
  alive at a time;
- ActNorms and factors are folded into the weights; inverses of the 1x1 convolutions are taken once per set of
  weights, in float64, and multiplied with the pointwise maps beside them;
- 3x3 convolutions of shared maps run on tiles of 4x4 pixels, with 2.25 instead of 9 products per pixel
  (Winograd's method; Lavin and Gray, CVPR 2016); those of a nearest-neighbour enlargement take 9 products per
  LR pixel for any factor (`add_nearest`).

Shared maps are (height, width, channels) here, samples (Q, channels, height, width).
"""

import functools
import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks.rrdb import SLOPE

POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # of the interpolation; half the rounding error of 0, 1, -1, 2, -2


class Conv(NamedTuple):
    """Transformed weights of a 3x3 convolution of a shared map; its last channels may be an enlargement."""

    tile: Tensor  # (36, C_own, C_out)
    nearest: tuple[Tensor, ...]  # for the enlarged channels: (C, C_out) and (C, 2 C_out) twice, (C, 4 C_out)
    bias: Tensor  # (C_out,)


class Step(NamedTuple):
    """Folded flow step in the direction of decoding: coupling, then `matrix` and `offset` at every pixel.

    `shared` is the first layer of the injector's net and the feature part of the coupling net's (None: there
    is no coupling); the next two hold weights and biases of the second and third layers.
    """

    shared: Conv | None
    injector: tuple[Tensor, ...]
    coupling: tuple[Tensor, ...]  # before them, the z part of the first layer
    matrix: Tensor  # (1, C, C)
    offset: Tensor  # (1, C, 1)
    eps: float  # smallest scale


@functools.cache
def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """A (16, 36), G (36, 9), B (36, 36) in float64: the 4x4 results of a tile are A ((G w) * (B x)).

    x are its 6x6 inputs, w the 3x3 weights. Transposed Toom-Cook multiplication of polynomials in each
    direction, evaluated at `POINTS` and at infinity.
    """

    def evaluate(n: int) -> Tensor:
        powers = torch.tensor([[p**k for k in range(n)] for p in POINTS], dtype=torch.float64)
        return torch.cat([powers, torch.eye(n, dtype=torch.float64)[-1:]])

    one_direction = evaluate(4).T, evaluate(3), torch.linalg.inv(evaluate(6)).T
    return tuple(torch.kron(m.contiguous(), m.contiguous()) for m in one_direction)


def add_nearest(out: Tensor, x: Tensor, weights: tuple[Tensor, ...]) -> None:
    """Add the 3x3 convolution of a nearest-neighbour enlargement.

    Within a block of `factor` x `factor` equal pixels the sum of all weights multiplies the pixel; only the
    outer rows and columns of the block see a neighbour, and there its difference to the pixel is what adds.

    Args:
        out: (h, factor, w, factor, C_out), changed in place.
        x: the small map with a border of one pixel, (h + 2, w + 2, C).
        weights: `Conv.nearest`.
    """
    right = x[:, 1:] - x[:, :-1]
    fields = x[1:-1, 1:-1], right[1:-1], x[1:, 1:-1] - x[:-1, 1:-1], right[1:] - right[:-1]
    pixel, across, down, both = (
        (f @ weight).unflatten(-1, (-1, out.shape[-1])) for f, weight in zip(fields, weights, strict=True)
    )
    out += pixel[:, None, :, None, 0]
    out[:, :, :, 0] += across[:, None, :-1, 0]
    out[:, :, :, -1] += across[:, None, 1:, 1]
    out[:, 0] += down[:-1, :, None, 0]
    out[:, -1] += down[1:, :, None, 1]
    out[:, 0, :, 0] += both[:-1, :-1, 0]
    out[:, 0, :, -1] += both[:-1, 1:, 1]
    out[:, -1, :, 0] += both[1:, :-1, 2]
    out[:, -1, :, -1] += both[1:, 1:, 3]


def image(x: Tensor) -> Tensor:
    """A shared map (h, w, C) as a batch of one image (1, C, h, w), channels last in memory."""
    return x.permute(2, 0, 1)[None]


def pointwise(step: Step, x: Tensor) -> Tensor:
    """`matrix` x + `offset` at every pixel, (Q, C, h, w)."""
    return torch.baddbmm(step.offset, step.matrix.expand(len(x), -1, -1), x.flatten(2)).view_as(x)


class Sampler(nn.Module):
    """Draw many SR images of one LR image: `network.decode` to float rounding, several times faster.

    Folded weights are kept until a parameter changes: in place, by loading, by moving. (PyTorch does not see
    writes through `parameter.data`; call `rebuild` after those.) They take three times the network's memory.

    Args:
        network: an `SRFlow`.
        pixels: how many pixels of a level pass the coupling nets at once (one sample at least): bounds the
            memory beside the images themselves. Default: 2**14 on a CPU, for its caches, 2**22 elsewhere.
    """

    def __init__(self, network: nn.Module, pixels: int | None = None) -> None:
        super().__init__()
        self.network, self.pixels = network, pixels
        self.rebuild()

    def rebuild(self) -> None:
        """Fold the weights anew at the next call."""
        self.signature = None

    @torch.no_grad()
    def forward(self, lr: Tensor, latents: list[Tensor]) -> Tensor:
        """SR images of one LR image.

        Args:
            lr: LR image in [0, 1], (1, 3, h, w).
            latents: N(0, heat^2) numbers of `network.latent_shapes(h, w)`, each with Q in front.

        Returns:
            SR images (Q, 3, s h, s w), not clipped, not finite where the flow overflows.

        Raises:
            ValueError: wrong shapes.
        """
        self.network.check(lr, latents, shared=True)
        self.fold()
        *latents, x = latents
        own, stack = self.encode(lr)
        stack = F.pad(stack, (0, 0, 1, 1, 1, 1))
        for level in range(self.network.L, 0, -1):
            split, steps = self.levels[level - 1]
            if split is not None:
                mean, log_std = F.conv2d(x, *split, padding=1).chunk(2, 1)
                x = torch.cat([x, mean + torch.exp(log_std) * latents.pop()], 1)
            factor, features = x.shape[2] // lr.shape[2], [own.pop()]
            if factor < 2:
                features.append(stack[1:-1, 1:-1] if factor else stack[1:-1:2, 1:-1:2])
            tiles = self.tiles(torch.cat(features, 2))
            for step in steps:
                if step.shared is None:
                    x = pointwise(step, x)
                else:
                    x = self.couple(step, x, self.condition(step, x.shape[2:], tiles, stack, factor))
            x = F.pixel_shuffle(x, 2)
        return x

    def condition(
        self, step: Step, size: tuple[int, int], tiles: Tensor, stack: Tensor, factor: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What one step takes from the LR image; arguments as in `conv`.

        Returns:
            Feature part of the coupling net's first layer, (h, w, hidden); the gain and offset that undo the
            injector, each (1, C, h, w).
        """
        shared = self.conv(step.shared, size, tiles, stack, factor)
        hidden, (w2, b2, w3, b3) = shared.shape[2] // 2, step.injector
        net = F.linear(F.relu(shared[..., :hidden]), w2, b2).relu_()
        shift, raw = F.conv2d(image(net), w3, b3, padding=1).chunk(2, 1)
        return shared[..., hidden:], 1 / (raw.sigmoid() + step.eps).contiguous(), shift.neg().contiguous()

    def couple(self, step: Step, x: Tensor, condition: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """One step of all samples, a few at a time; `condition` from the method of that name."""
        (features, gain, offset), (w1, w2, b2, w3, b3) = condition, step.coupling
        out, together = torch.empty_like(x), max(1, self.together // (x.shape[2] * x.shape[3]))
        for z, result in zip(x.split(together), out.split(together), strict=True):
            z1, z2 = z.chunk(2, 1)
            net = F.conv2d(z1.contiguous(memory_format=torch.channels_last), w1, padding=1)
            net = F.linear(net.permute(0, 2, 3, 1).add_(features).relu_(), w2, b2).relu_()
            shift, raw = F.conv2d(net.permute(0, 3, 1, 2), w3, b3, padding=1).contiguous().chunk(2, 1)
            z = torch.cat([z1, z2 / raw.sigmoid().add_(step.eps) - shift], 1)
            result.copy_(pointwise(step, torch.addcmul(offset, z, gain)))
        return out

    def encode(self, lr: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features of the levels without the taps, last level first, and the stack of taps at LR size."""
        h, w = lr.shape[2:]
        right = -(-w // 4)
        grid = -(-h // 4) * 4, right * 4, -1
        x = F.conv2d(lr.contiguous(memory_format=torch.channels_last), *self.conv_first, padding=1)
        x, taps = x[0].permute(1, 2, 0), {}
        for i, block in enumerate(self.blocks):
            skip = x
            for weights, biases in block:
                sums = torch.bmm(self.tiles(x), weights[0])  # of all five convolutions, completed one by one
                for weight, bias in zip(weights[1:], biases, strict=False):
                    new = self.untile(sums[..., : len(bias)], bias, right).reshape(grid)[:h, :w]
                    sums = sums[..., len(bias) :].baddbmm_(self.tiles(F.leaky_relu_(new, SLOPE)), weight)
                x = x + self.untile(sums, biases[-1], right).reshape(grid)[:h, :w]
            x = torch.add(skip, x, alpha=0.2)
            if i in self.network.taps:
                taps[i] = x
        x = x + self.conv(self.trunk_conv, (h, w), self.tiles(x))
        own = [x]
        if self.network.multiple == 2:
            half = F.interpolate(image(x), scale_factor=0.5, mode="bilinear", recompute_scale_factor=True)
            own.insert(0, half[0].permute(1, 2, 0))
        for conv in self.up:
            height, width, _ = x.shape
            x = self.conv(conv, (2 * height, 2 * width), None, F.pad(x, (0, 0, 1, 1, 1, 1)), 2)
            own.append(F.leaky_relu_(x, SLOPE))
        return own[::-1][: self.network.L], torch.cat([taps[i] for i in self.network.taps], 2)

    def tiles(self, x: Tensor) -> Tensor:
        """(h, w, C) to the transformed 6x6 windows around its 4x4 tiles, (36, tiles, C)."""
        h, w, c = x.shape
        down, right = -(-h // 4), -(-w // 4)
        x = F.pad(x, (0, 0, 1, 4 * right - w + 1, 1, 4 * down - h + 1))
        a, b, _ = x.stride()
        windows = x.as_strided((6, 6, down, right, c), (a, b, 4 * a, 4 * b, 1))
        out, rows = x.new_empty(36, down, right * c), max(1, self.slab // (right * c))
        for first in range(0, down, rows):
            part = windows[:, :, first : first + rows].reshape(36, -1)
            torch.mm(self.B, part, out=out[:, first : first + rows].flatten(1))
        return out.view(36, -1, c)

    def untile(self, products: Tensor, bias: Tensor, right: int) -> Tensor:
        """Sums of products of tiles and weights, (36, tiles, C), to pixels (tile rows, 4, right, 4, C)."""
        pixels = (self.A @ products.flatten(1)).view(4, 4, -1, right, len(bias))
        return pixels.add_(bias).permute(2, 0, 3, 1, 4)

    def conv(self, conv: Conv, size, tiles: Tensor | None, stack: Tensor | None = None, factor=1) -> Tensor:
        """3x3 convolution of a shared map, zero outside.

        Args:
            conv: transformed weights.
            size: height and width of the map.
            tiles: its own channels, from `tiles`; or None.
            stack: its other channels, not yet enlarged by `factor`, with a border of one zero; not read below
                factor 2.

        Returns:
            (height, width, C_out).
        """
        h, w = size
        down, right = -(-h // 4), -(-w // 4)
        out = conv.bias.new_empty(4 * down, 4 * right, len(conv.bias))
        rows = max(1, self.slab // (right * len(conv.bias)))  # what these tile rows need stays in the cache
        for first in range(0, down, rows):
            part = out[4 * first : 4 * (first + rows)]
            if tiles is None:
                part.copy_(conv.bias.expand_as(part))
            else:
                products = torch.bmm(tiles[:, first * right : (first + rows) * right], conv.tile)
                part.view(-1, 4, right, 4, len(conv.bias)).copy_(self.untile(products, conv.bias, right))
            if factor > 1:
                part = part[: h - 4 * first, :w].unflatten(1, (-1, factor)).unflatten(0, (-1, factor))
                start = 4 * first // factor
                add_nearest(part, stack[start : start + len(part) + 2], conv.nearest)
        return out[:h, :w]

    def fold(self) -> None:
        """Bring the folded weights up to date."""
        network, flow = self.network, self.network.flowUpsamplerNet
        parameters = list(network.parameters())
        versions = [0 if p.is_inference() else p._version for p in parameters]
        signature = [(p.data_ptr(), p.device, p.dtype) for p in parameters], versions
        if signature == self.signature:
            return
        like, rrdb = parameters[0], network.RRDB
        a, _, b = transforms()
        self.A, self.B = a.to(like), b.to(like)
        # On a CPU what is worked on at once should fit its caches; elsewhere few large operations are better.
        self.slab, self.together = (2**15, 2**14) if like.device.type == "cpu" else (2**22, 2**22)
        self.together = self.pixels or self.together
        self.conv_first = plain(f64(rrdb.conv_first.weight), f64(rrdb.conv_first.bias), like)
        self.blocks = [[dense_block(dense, like) for dense in block.children()] for block in rrdb.RRDB_trunk]
        self.trunk_conv = transformed(f64(rrdb.trunk_conv.weight), f64(rrdb.trunk_conv.bias), like)
        enlargements = network.scale.bit_length() - 2
        self.up = [
            transformed(f64(conv.weight), f64(conv.bias), like, nearest=conv.in_channels)
            for conv in (rrdb.upconv1, rrdb.upconv2)[:enlargements]
        ]
        self.levels = []
        for level in range(1, network.L + 1):
            layers = [layer for layer, of in zip(flow.layers, flow.levels, strict=True) if of == level]
            nearest = len(network.taps) * rrdb.conv_first.out_channels if level <= enlargements else 0
            self.levels.append(flow_level(layers[:0:-1], like, nearest))
        self.signature = signature


# Folding: float64 on the CPU, then the dtype and device of the parameter `like`.


def f64(parameter: Tensor) -> Tensor:
    """In float64 on the CPU, whatever the device (MPS has no float64)."""
    return parameter.detach().cpu().double()


def plain(weight: Tensor, bias: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias for F.conv2d on channels-last maps."""
    return weight.to(like).contiguous(memory_format=torch.channels_last), bias.to(like)


def normed(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a `NormConv`, its ActNorm folded."""
    factor = torch.exp(f64(conv.actnorm.logs)).flatten()
    return f64(conv.weight) * factor[:, None, None, None], f64(conv.actnorm.bias).flatten() * factor


def interleaved(conv: nn.Conv2d, odd: float = 0.0) -> tuple[Tensor, Tensor]:
    """Weight and bias of a `ZeroConv`, factor folded, even channels first; `odd` is added to the odd ones."""
    factor = torch.exp(3 * f64(conv.logs))
    weight, bias = f64(conv.weight) * factor[..., None], f64(conv.bias) * factor.flatten()
    return torch.cat([weight[0::2], weight[1::2]]), torch.cat([bias[0::2], bias[1::2] + odd])


def transformed(weight: Tensor, bias: Tensor, like: Tensor, nearest: int = 0) -> Conv:
    """Transform a 3x3 convolution whose last `nearest` input channels are an enlargement."""
    own = weight.shape[1] - nearest
    tile = torch.tensordot(transforms()[1], weight[:, :own].permute(2, 3, 1, 0).flatten(0, 1), 1)
    edges = torch.tensor([[1, 1, 1], [-1, 0, 0], [0, 0, 1]], dtype=torch.float64)  # all, first, last
    sums = torch.einsum("ia,jb,ocab->cijo", edges, edges, weight[:, own:])
    parts = (sums[:, :1, :1], sums[:, :1, 1:], sums[:, 1:, :1], sums[:, 1:, 1:]) if nearest else ()
    return Conv(tile.to(like), tuple(part.flatten(1).to(like) for part in parts), bias.to(like))


def dense_block(block: nn.Module, like: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Transformed weights from each input of the block (x, then each result) to all later results; biases."""
    factors = zip(block.children(), (1, 1, 1, 1, 0.2), strict=True)
    convs = [transformed(f64(conv.weight) * f, f64(conv.bias) * f, like) for conv, f in factors]
    inputs = itertools.pairwise([0] + [conv.tile.shape[1] for conv in convs])
    weights = [torch.cat([conv.tile[:, a:b] for conv in convs[i:]], 2) for i, (a, b) in enumerate(inputs)]
    return weights, [conv.bias for conv in convs]


def flow_level(layers: list[nn.Module], like: Tensor, nearest: int) -> tuple[tuple[Tensor, ...] | None, list[Step]]:
    """Fold the layers of one level.

    Args:
        layers: of the level, without the squeeze, in the order of decoding.
        nearest: how many channels of its features are an enlargement.

    Returns:
        Weight and bias of the split, or None; steps.
    """
    split = plain(*interleaved(layers[0].conv), like) if hasattr(layers[0], "conv") else None
    steps: list[Step] = []
    for layer in layers[split is not None :]:
        matrix = torch.exp(-f64(layer.actnorm.logs)).view(-1, 1) * torch.linalg.inv(f64(layer.invconv.weight))
        offset, coupling = -f64(layer.actnorm.bias).view(-1, 1), layer.affine
        if coupling is not None:
            (w1, b1), (w2, b2) = normed(coupling.fFeatures[0]), normed(coupling.fAffine[0])
            z_part, features = w2[:, : coupling.half], torch.cat([w1, w2[:, coupling.half :]])
            shared = transformed(features, torch.cat([b1, b2]), like, nearest)
            injector, affine = rest_of_net(coupling.fFeatures, like), rest_of_net(coupling.fAffine, like)
            affine = plain(z_part, b2, like)[:1] + affine
            steps.append(Step(shared, injector, affine, matrix, offset, coupling.eps))
        elif steps:  # pointwise, like the end of the step before
            last = steps.pop()
            steps.append(last._replace(matrix=matrix @ last.matrix, offset=matrix @ last.offset + offset))
        else:
            steps.append(Step(None, (), (), matrix, offset, 0.0))
    return split, [s._replace(matrix=s.matrix[None].to(like), offset=s.offset[None].to(like)) for s in steps]


def rest_of_net(net: nn.Sequential, like: Tensor) -> tuple[Tensor, ...]:
    """Weights and biases of the second and third layer of a net; the 2 inside the sigmoid joins the bias."""
    weight, bias = normed(net[2])
    return weight.flatten(1).to(like), bias.to(like), *plain(*interleaved(net[4], 2.0), like)
