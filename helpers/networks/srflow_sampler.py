"""Many SR samples of one LR image with SRFlow: what depends on the LR image alone is computed once.

Exact rewritings of `SRFlow.decode`, equal up to float rounding:

- the encoder runs once, without the layers whose results nothing reads;
- conv(z1 || features) = conv(z1) + conv(features): the second term and the first layer of the injector's net see
  the same map, so they are one convolution per step, shared by all samples; one step's results are alive at a time;
- ActNorms and factors are folded into the weights; 1x1 inverses are taken once per set of weights, in float64, and
  multiplied with the pointwise maps beside them;
- 3x3 convolutions of shared maps run on 4x4 tiles with 2.25 instead of 9 products per pixel (Winograd; Lavin and
  Gray, CVPR 2016), those of nearest-neighbour enlargements with 9 products per LR pixel whatever the factor.

Shared maps are (height, width, channels), samples (Q, channels, height, width).
"""

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks.rrdb import SLOPE

POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # of the interpolation: half the error of 0, 1, -1, 2, -2


class Conv(NamedTuple):
    """One 3x3 convolution of a shared map, weights transformed: `tile` for the map itself, `nearest` for the
    enlarged stack of taps that follows it on the channel axis."""

    tile: Tensor  # (36, C_in, C_out)
    nearest: tuple[Tensor, ...]  # none, or four: (C, C_out), (C, 2 C_out), (C, 2 C_out), (C, 4 C_out)
    bias: Tensor  # (C_out,)


class Step(NamedTuple):
    """Folded flow step in the direction of decoding. Nets are (weight, bias) of a convolution; None: no coupling."""

    shared: Conv | None  # first layer of the injector's net, and the feature part of the coupling net's
    injector: tuple[Tensor, ...]  # weight, bias of the second and third layer
    coupling: tuple[Tensor, ...]  # z part of the first layer; weight, bias of the second and third
    matrix: Tensor  # (1, C, C), follows the coupling
    offset: Tensor  # (1, C, 1)


def transforms() -> tuple[Tensor, Tensor, Tensor]:
    """A (16, 36), G (36, 9), B (36, 36), float64: the 4x4 outputs of a tile are A ((G w) * (B x)).

    Transposed Toom-Cook multiplication of polynomials in each direction, evaluated at `POINTS` and infinity.
    """

    def evaluate(n: int) -> Tensor:
        powers = torch.tensor([[p**k for k in range(n)] for p in POINTS], dtype=torch.float64)
        return torch.cat([powers, torch.eye(n, dtype=torch.float64)[-1:]])

    one_direction = evaluate(4).T, evaluate(3), torch.linalg.inv(evaluate(6)).T
    return tuple(torch.kron(m.contiguous(), m.contiguous()) for m in one_direction)


def interleaved(conv: nn.Conv2d, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Weight and bias of a ZeroConv, factor folded, even output channels first; `shift` is added to the odd ones."""
    factor = torch.exp(3 * f64(conv.logs))
    weight, bias = f64(conv.weight) * factor[..., None], f64(conv.bias) * factor.flatten()
    bias[1::2] += shift
    return torch.cat([weight[0::2], weight[1::2]]), torch.cat([bias[0::2], bias[1::2]])


def normed(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a NormConv, ActNorm folded."""
    factor = torch.exp(f64(conv.actnorm.logs)).view(-1, 1, 1, 1)
    return f64(conv.weight) * factor, (f64(conv.actnorm.bias).view(-1, 1, 1, 1) * factor).flatten()


def f64(parameter: Tensor) -> Tensor:
    """A float64 copy on the CPU, where weights are folded."""
    return parameter.detach().to("cpu", torch.float64, copy=True)


class Sampler(nn.Module):
    """Draw many SR images of one LR image: the values of `network.decode` to float rounding, several times faster.

    Folded weights are kept until a parameter changes: in place, by loading, by moving. (PyTorch does not see writes
    through `parameter.data`; call `rebuild` after those.) They take about three times the memory of the network.

    Args:
        network: an `SRFlow`.
        pixels: how many pixels of a level go through the coupling nets at once (one sample at least); bounds the
            memory beside the images themselves. Default: 2**14 on a CPU, whose caches it fits, 2**22 elsewhere.
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
        self.network.check(lr, latents, images=1)
        self.fold()
        *latents, x = latents
        sizes, stack = self.encode(lr)
        for level in range(self.network.L, 0, -1):
            split, steps = self.levels[level - 1]
            if split:
                mean, log_std = F.conv2d(x, *split, padding=1).chunk(2, 1)
                x = torch.cat([x, mean + torch.exp(log_std) * latents.pop()], 1)
            own, factor = sizes[level - 1], x.shape[2] // lr.shape[2]
            if factor < 2:
                stack_here = stack if factor else stack[::2, ::2]
                own = torch.cat([own, stack_here], 2)
            tiles, fields = self.tiles(own), differences(stack) if factor > 1 else ()
            for step in steps:
                x = self.step(x, step, tiles, fields, factor)
            x = F.pixel_shuffle(x, 2)
        return x

    def step(self, x: Tensor, step: Step, tiles: Tensor, fields: tuple[Tensor, ...], factor: int) -> Tensor:
        """One flow step for all samples, a few at a time."""
        q, c, h, w = x.shape
        if step.shared is None:
            return torch.baddbmm(step.offset, step.matrix.expand(q, c, c), x.flatten(2)).view_as(x)
        shared = self.conv(step.shared, tiles, fields, factor, (h, w))
        hidden = shared.shape[2] // 2
        w2, b2, w3, b3 = step.injector
        net = F.linear(F.relu(shared[..., :hidden]), w2, b2).relu_()
        shift, raw = F.conv2d(image(net), w3, b3, padding=1).chunk(2, 1)
        minus_shift, gain = shift.neg().contiguous(), 1 / (raw.sigmoid() + self.eps).contiguous()
        condition, (w1, w2, b2, w3, b3) = shared[..., hidden:], step.coupling
        out, together = torch.empty_like(x), max(1, self.together // (h * w))
        for z, result in zip(x.split(together), out.split(together), strict=True):
            z1, z2 = z.chunk(2, 1)
            net = F.conv2d(z1.contiguous(memory_format=torch.channels_last), w1, padding=1).permute(0, 2, 3, 1)
            net = F.linear(net.add_(condition).relu_(), w2, b2).relu_().permute(0, 3, 1, 2)
            shift, raw = F.conv2d(net, w3, b3, padding=1).contiguous().chunk(2, 1)
            z = torch.cat([z1, z2 / raw.sigmoid().add_(self.eps) - shift], 1)
            z = torch.addcmul(minus_shift, z, gain)
            torch.baddbmm(step.offset, step.matrix.expand(len(z), c, c), z.flatten(2), out=result.flatten(2))
        return out

    def encode(self, lr: Tensor) -> tuple[list[Tensor], Tensor]:
        """Shared maps of the levels without the taps, first level first, and the stack of taps at LR size."""
        x = F.conv2d(lr.contiguous(memory_format=torch.channels_last), *self.conv_first, padding=1)
        x, taps, (h, w) = x[0].permute(1, 2, 0), {}, lr.shape[2:]
        right = -(-w // 4)
        grid = -(-h // 4) * 4, right * 4, -1
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
        x = x + self.conv(self.trunk_conv, self.tiles(x), (), 1, (h, w))
        sizes = [x]
        for conv in self.up:
            enlarged = self.conv(conv, None, differences(sizes[-1]), 2, (2 * sizes[-1].shape[0], 2 * sizes[-1].shape[1]))
            sizes.append(F.leaky_relu_(enlarged, SLOPE))
        if self.network.multiple == 2:
            half = F.interpolate(image(x), scale_factor=0.5, mode="bilinear", recompute_scale_factor=True)
            sizes.insert(0, half[0].permute(1, 2, 0).contiguous())
        stack = torch.cat([taps[i] for i in self.network.taps], 2)
        return sizes[::-1][: self.network.L], stack

    def tiles(self, x: Tensor) -> Tensor:
        """(h, w, C) to the transformed 6x6 windows around the 4x4 tiles of the image, (36, tiles, C)."""
        h, w, c = x.shape
        down, right = -(-h // 4), -(-w // 4)
        x = F.pad(x, (0, 0, 1, 4 * right - w + 1, 1, 4 * down - h + 1))
        a, b, _ = x.stride()
        windows = x.as_strided((6, 6, down, right, c), (a, b, 4 * a, 4 * b, 1))
        return (self.B @ windows.reshape(36, -1)).view(36, -1, c)

    def untile(self, products: Tensor, bias: Tensor, right: int) -> Tensor:
        """Sums of products of transformed tiles and weights, (36, tiles, C), to pixels (tile rows, 4, right, 4, C)."""
        return (self.A @ products.flatten(1)).view(4, 4, -1, right, len(bias)).add_(bias).permute(2, 0, 3, 1, 4)

    def conv(self, conv: Conv, tiles: Tensor | None, fields: tuple[Tensor, ...], factor: int, size) -> Tensor:
        """3x3 convolution of a shared map, zero padding.

        Args:
            conv: transformed weights.
            tiles: from `tiles`, or None.
            fields: from `differences`: the part of the input that is an enlargement; or empty.
            factor: of that enlargement.
            size: height and width of the result.
        """
        h, w = size
        down, right, c = -(-h // 4), -(-w // 4), len(conv.bias)
        out = conv.bias.new_empty(4 * down, 4 * right, c)
        rows = max(1, self.slab // (right * c))  # what a slab needs stays in the cache
        for first in range(0, down, rows):
            part = out[4 * first : 4 * (first + rows)]
            if tiles is None:
                part.copy_(conv.bias.expand_as(part))
            else:
                products = torch.bmm(tiles[:, first * right : (first + rows) * right], conv.tile)
                part.view(-1, 4, right, 4, c).copy_(self.untile(products, conv.bias, right))
            if fields:
                part = part[: h - 4 * first, :w].unflatten(1, (-1, factor)).unflatten(0, (-1, factor))
                start = 4 * first // factor
                add_nearest(part, [field[start : start + len(part) + 1] for field in fields], conv.nearest)
        return out[:h, :w]

    def fold(self) -> None:
        """Bring the folded weights up to date."""
        network = self.network
        parameters = list(network.parameters())
        signature = [(p.data_ptr(), p.device, p.dtype, p._version) for p in parameters]
        if signature == self.signature:
            return
        like = parameters[0]
        a, g, b = transforms()
        self.A, self.B = a.to(like), b.to(like)
        self.slab = 2**15 if like.device.type == "cpu" else 2**22
        self.together = self.pixels or (2**14 if like.device.type == "cpu" else 2**22)

        def conv(weight: Tensor, bias: Tensor, nearest: int = 0, factor: float = 1.0) -> Conv:
            """Transform a 3x3 convolution; its last `nearest` input channels are an enlargement."""
            weight, bias = weight * factor, bias * factor
            own = weight.shape[1] - nearest
            tile = (g @ weight[:, :own].flatten(2).permute(2, 1, 0).flatten(1)).view(36, own, len(bias))
            if not nearest:
                return Conv(tile.to(like), (), bias.to(like))
            edges = torch.tensor([[1, 1, 1], [-1, 0, 0], [0, 0, 1]], dtype=torch.float64)
            k = torch.einsum("ia,jb,ocab->cijo", edges, edges, weight[:, own:])
            parts = k[:, :1, :1], k[:, :1, 1:], k[:, 1:, :1], k[:, 1:, 1:]
            return Conv(tile.to(like), tuple(p.flatten(1).contiguous().to(like) for p in parts), bias.to(like))

        def plain(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            return weight.to(like).contiguous(memory_format=torch.channels_last), bias.to(like)

        def pointwise(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            return weight.flatten(1).to(like), bias.to(like)

        def parameters_of(layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
            return f64(layer.weight), f64(layer.bias)

        def dense_block(block: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
            """Per input of the block (x and the four results): transformed weights to all later results; biases."""
            convs = [conv(*parameters_of(layer), factor=f) for layer, f in zip(block.children(), (1, 1, 1, 1, 0.2))]
            starts = [0, *(convs[i].tile.shape[1] for i in range(5))]
            weights = [torch.cat([c.tile[:, a:b] for c in convs[i:]], 2) for i, (a, b) in enumerate(itertools.pairwise(starts))]
            return weights, [c.bias for c in convs]

        rrdb = network.RRDB
        self.conv_first = plain(*parameters_of(rrdb.conv_first))
        self.trunk_conv = conv(*parameters_of(rrdb.trunk_conv))
        ups = [rrdb.upconv1, rrdb.upconv2][: (network.scale // 2).bit_length() - 1]
        self.up = [conv(*parameters_of(layer), nearest=layer.in_channels) for layer in ups]
        self.blocks = [[dense_block(block.get_submodule(f"RDB{i}")) for i in (1, 2, 3)] for block in rrdb.RRDB_trunk]
        flow, width = network.flowUpsamplerNet, rrdb.conv_first.out_channels
        self.levels = []
        for level in range(1, network.L + 1):
            split, steps, matrix = None, [], None
            for layer, of in zip(reversed(flow.layers), reversed(flow.levels), strict=True):
                if of != level:
                    continue
                if hasattr(layer, "conv"):
                    split = plain(*interleaved(layer.conv))
                if not hasattr(layer, "invconv"):
                    continue
                undo = torch.exp(-f64(layer.actnorm.logs)).view(-1, 1)
                inverse = undo * torch.linalg.inv(f64(layer.invconv.weight))
                bias = -f64(layer.actnorm.bias).view(-1, 1)
                coupling = layer.affine
                if coupling is None and steps:  # joins the step before
                    last = steps[-1]
                    steps[-1] = last._replace(matrix=inverse @ last.matrix, offset=inverse @ last.offset + bias)
                    continue
                if coupling is None:
                    steps.append(Step(None, (), (), inverse, bias))
                    continue
                self.eps, half = coupling.eps, coupling.half
                injector, affine = coupling.fFeatures, coupling.fAffine
                (w1, b1), (w2, b2) = normed(injector[0]), normed(affine[0])
                near = len(network.taps) * width if level < network.scale.bit_length() - 1 else 0
                shared = conv(torch.cat([w1, w2[:, half:]]), torch.cat([b1, b2]), near)
                nets = [(*pointwise(*normed(n[2])), *plain(*interleaved(n[4], 2.0))) for n in (injector, affine)]
                z_part = plain(w2[:, :half], b2)[0]
                steps.append(Step(shared, nets[0], (z_part, *nets[1]), inverse, bias))
            steps = [s._replace(matrix=s.matrix[None].to(like), offset=s.offset[None].to(like)) for s in steps]
            self.levels.append((split, steps))
        self.signature = signature


def image(x: Tensor) -> Tensor:
    """A map (h, w, C) as a batch of one image (1, C, h, w), channels last in memory."""
    return x.permute(2, 0, 1)[None]


def differences(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A map with its differences between neighbours (zero outside) across, down and both.

    Shapes (h, w, C), (h, w + 1, C), (h + 1, w, C), (h + 1, w + 1, C).
    """
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    across = padded[:, 1:] - padded[:, :-1]
    return x, across[1:-1], padded[1:, 1:-1] - padded[:-1, 1:-1], across[1:] - across[:-1]


def add_nearest(out: Tensor, fields: list[Tensor], weights: tuple[Tensor, ...]) -> None:
    """Add the 3x3 convolution of a nearest-neighbour enlargement.

    Within a block of `factor` x `factor` equal pixels the sum of all weights multiplies the pixel; only the outer
    rows and columns see neighbours, and there the difference to the neighbour is what they add.

    Args:
        out: (h, factor, w, factor, C_out), changed in place.
        fields: the map and its differences, from `differences`; rows beyond h (+ 1) are ignored.
        weights: `Conv.nearest`.
    """
    h = len(out)
    inner, across, down, both = (
        (field[: h + extra] @ weight).unflatten(-1, (-1, out.shape[-1]))
        for field, weight, extra in zip(fields, weights, (0, 0, 1, 1), strict=True)
    )
    out += inner[:, None, :, None, 0]
    out[:, :, :, 0] += across[:, None, :-1, 0]
    out[:, :, :, -1] += across[:, None, 1:, 1]
    out[:, 0] += down[:-1, :, None, 0]
    out[:, -1] += down[1:, :, None, 1]
    out[:, 0, :, 0] += both[:-1, :-1, 0]
    out[:, 0, :, -1] += both[:-1, 1:, 1]
    out[:, -1, :, 0] += both[1:, :-1, 2]
    out[:, -1, :, -1] += both[1:, 1:, 3]
