"""SRFlow: a conditional normalizing flow between HR images and Gaussian latents, given the LR image.

The same function as the official code (Lugmayr et al., ECCV 2020; github.com/andreas128/SRFlow, commit
5a007ad5, whose lines are quoted below), written anew. Names, order and shapes of the parameters are the
official ones, so the released files load strictly. `encode` maps HR to latents, `decode` latents to SR.
Log-determinants are in nats, shape (N,).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks.rrdb import RRDBNet, conv3
from helpers.networks.srflow_sampler import Sampler

__all__ = ["CONFIGURATIONS", "SRFlow", "Sampler", "build", "pad_to_multiple", "strip_prefix"]

CONFIGURATIONS = {
    "df2k_4x": {"scale": 4, "nb": 23, "taps": (1, 8, 15, 22), "L": 3},
    "df2k_8x": {"scale": 8, "nb": 23, "taps": (1, 3, 5, 7), "L": 4},
    "celeba_8x": {"scale": 8, "nb": 8, "taps": (1, 3, 5, 7), "L": 4},
}


def log_normal(x: Tensor, mean: Tensor | float = 0.0, log_std: Tensor | float = 0.0) -> Tensor:
    """Sum of log N(x; mean, exp(log_std)^2) over each image, (N,)."""
    log_std = torch.as_tensor(log_std, dtype=x.dtype, device=x.device)
    density = -0.5 * (2 * log_std + (x - mean) ** 2 / torch.exp(2 * log_std) + math.log(2 * math.pi))
    return density.sum((1, 2, 3))


class Squeeze(nn.Module):
    """Each 2x2 block of pixels becomes four channels; volume is kept."""

    def encode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor | float]:
        """(N, C, H, W) to (N, 4 C, H / 2, W / 2)."""
        return F.pixel_unshuffle(x, 2), 0.0

    def decode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor | float]:
        """(N, 4 C, H / 2, W / 2) to (N, C, H, W)."""
        return F.pixel_shuffle(x, 2), 0.0


class ActNorm(nn.Module):
    """Shift and scale per channel; the first training batch sets them to zero mean and unit variance.

    A bias that is not all zero counts as set (a loaded checkpoint), as in FlowActNorms.py:45-59.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.logs = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.initialised = False

    def forward(self, x: Tensor) -> Tensor:
        """(x + bias) * exp(logs); in train mode the first call initialises."""
        if self.training and not self.initialised:
            self.initialised = True
            if not self.bias.any():
                with torch.no_grad():
                    self.bias.copy_(-x.mean((0, 2, 3), keepdim=True))
                    std = ((x + self.bias) ** 2).mean((0, 2, 3), keepdim=True).sqrt()
                    self.logs.copy_(-torch.log(std + 1e-6))
        return (x + self.bias) * torch.exp(self.logs)

    def inverse(self, x: Tensor) -> Tensor:
        """x * exp(-logs) - bias."""
        return x * torch.exp(-self.logs) - self.bias


class InvertibleConv(nn.Module):
    """1x1 convolution with a square matrix; its inverse is taken in float64."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])

    def forward(self, x: Tensor) -> Tensor:
        """W x at each pixel."""
        return F.conv2d(x, self.weight[:, :, None, None])

    def inverse(self, x: Tensor) -> Tensor:
        """W^-1 x at each pixel."""
        where = "cpu" if self.weight.device.type == "mps" else self.weight.device  # MPS has no float64
        inverse = torch.linalg.inv(self.weight.to(where).double()).to(self.weight)
        return F.conv2d(x, inverse[:, :, None, None])

    def logdet(self) -> Tensor:
        """log |det W| of one pixel, a scalar."""
        return torch.linalg.slogdet(self.weight)[1]


class NormConv(nn.Conv2d):
    """Convolution without bias, then ActNorm."""

    def __init__(self, channels_in: int, channels_out: int, size: int) -> None:
        super().__init__(channels_in, channels_out, size, padding=size // 2, bias=False)
        nn.init.normal_(self.weight, 0, 0.05)
        self.actnorm = ActNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.actnorm(super().forward(x))


class ZeroConv(nn.Conv2d):
    """3x3 convolution times exp(3 logs) per channel; starts as zero."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)
        self.logs = nn.Parameter(torch.zeros(channels_out, 1, 1))
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.exp(3 * self.logs)


class Coupling(nn.Module):
    """Affine injector, which depends on the features alone; affine coupling, which also depends on half of x.

    Args:
        channels: of x.
        condition: channels of the features.
        hidden: width of the two nets.
    """

    eps = 1e-4  # smallest scale; decoding divides by it

    def __init__(self, channels: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.half = channels // 2

        def net(channels_in: int, channels_out: int) -> nn.Sequential:
            first, second = NormConv(channels_in, hidden, 3), NormConv(hidden, hidden, 1)
            return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), ZeroConv(hidden, channels_out))

        self.fAffine = net(self.half + condition, 2 * (channels - self.half))
        self.fFeatures = net(condition, 2 * channels)

    def shift_scale(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Even channels of a net's output shift, odd ones scale, in (eps, 1 + eps)."""
        return h[:, 0::2], torch.sigmoid(h[:, 1::2] + 2) + self.eps

    def encode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Shift is added before the scale multiplies, in both parts."""
        shift, scale = self.shift_scale(self.fFeatures(features))
        x = (x + shift) * scale
        x1, x2 = x[:, : self.half], x[:, self.half :]
        shift2, scale2 = self.shift_scale(self.fAffine(torch.cat([x1, features], 1)))
        logdet = scale.log().sum((1, 2, 3)) + scale2.log().sum((1, 2, 3))
        return torch.cat([x1, (x2 + shift2) * scale2], 1), logdet

    def decode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of `encode`."""
        x1, x2 = x[:, : self.half], x[:, self.half :]
        shift2, scale2 = self.shift_scale(self.fAffine(torch.cat([x1, features], 1)))
        x = torch.cat([x1, x2 / scale2 - shift2], 1)
        shift, scale = self.shift_scale(self.fFeatures(features))
        return x / scale - shift, -scale2.log().sum((1, 2, 3)) - scale.log().sum((1, 2, 3))


class FlowStep(nn.Module):
    """ActNorm, invertible 1x1 convolution and, unless `condition` is 0, a conditional coupling."""

    def __init__(self, channels: int, condition: int = 0, hidden: int = 64) -> None:
        super().__init__()
        self.actnorm = ActNorm(channels)
        self.invconv = InvertibleConv(channels)
        self.affine = Coupling(channels, condition, hidden) if condition else None

    def logdet(self, x: Tensor) -> Tensor:
        """Of ActNorm and 1x1 convolution, which act alike on every pixel; a scalar."""
        return x.shape[2] * x.shape[3] * (self.actnorm.logs.sum() + self.invconv.logdet())

    def encode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to the same shape."""
        x = self.invconv(self.actnorm(x))
        logdet = self.logdet(x)  # after ActNorm has set itself
        if self.affine is None:
            return x, logdet
        x, more = self.affine.encode(x, features)
        return x, logdet + more

    def decode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of `encode`."""
        logdet = -self.logdet(x)
        if self.affine is not None:
            x, more = self.affine.decode(x, features)
            logdet = logdet + more
        return self.actnorm.inverse(self.invconv.inverse(x)), logdet


class Split(nn.Module):
    """Half of the channels leaves as a latent, standardised by what the other half predicts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.conv = ZeroConv(channels - self.half, 2 * self.half)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What goes on, the latent, and the log-density of the half that left (not a log-determinant)."""
        x1, x2 = x[:, : -self.half], x[:, -self.half :]
        h = self.conv(x1)
        mean, log_std = h[:, 0::2], h[:, 1::2]
        return x1, (x2 - mean) * torch.exp(-log_std), log_normal(x2, mean, log_std)

    def decode(self, x1: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Inverse of `encode`, and minus the same log-density."""
        h = self.conv(x1)
        mean, log_std = h[:, 0::2], h[:, 1::2]
        x2 = mean + torch.exp(log_std) * latent
        return torch.cat([x1, x2], 1), -log_normal(x2, mean, log_std)


class FlowUpsampler(nn.Module):
    """The layers in the direction of `encode`: per level squeeze, plain steps, conditional steps, split.

    Args:
        condition: channels of the features that every level receives.
        K, L, plain_steps, hidden: as in `SRFlow`.
    """

    def __init__(self, condition: int, K: int, L: int, plain_steps: int, hidden: int) -> None:
        super().__init__()
        self.layers, self.levels = nn.ModuleList(), []
        channels = 3
        for level in range(1, L + 1):
            channels *= 4
            layers = [Squeeze(), *(FlowStep(channels) for _ in range(plain_steps))]
            layers += [FlowStep(channels, condition, hidden) for _ in range(K)]
            if level < L - 1:  # so one split with 3 levels, two with 4 (FlowUpsamplerNet.py:149-152)
                layers.append(Split(channels))
                channels //= 2
            self.layers.extend(layers)
            self.levels += [level] * len(layers)
        self.f = nn.Sequential(conv3(condition, 96))  # nothing reads it, but the released files hold it

    def encode(self, x: Tensor, features: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """HR to latents (first split first, z last) and log-determinant, with the splits' log-densities."""
        latents, logdet = [], x.new_zeros(len(x))
        for level, layer in zip(self.levels, self.layers, strict=True):
            if isinstance(layer, Split):
                x, latent, more = layer.encode(x)
                latents.append(latent)
            else:
                x, more = layer.encode(x, features[level - 1])
            logdet = logdet + more
        return [*latents, x], logdet

    def decode(self, latents: list[Tensor], features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Inverse of `encode`."""
        *latents, x = latents
        logdet = x.new_zeros(len(x))
        for level, layer in zip(reversed(self.levels), reversed(self.layers), strict=True):
            if isinstance(layer, Split):
                x, more = layer.decode(x, latents.pop())
            else:
                x, more = layer.decode(x, features[level - 1])
            logdet = logdet + more
        return x, logdet


class SRFlow(nn.Module):
    """Conditional flow p(HR | LR); the defaults are the released SRFlow_DF2K_4X.

    Args:
        scale: scaling factor s, 4 or 8.
        nf, gc, nb: width, growth and number of blocks of the RRDB encoder.
        taps: indices of the RRDBs whose outputs every level receives, resized, after its own features:
            nf * (len(taps) + 1) channels.
        K, L: conditional steps of each level, and levels. Level l works at 1 / 2^l of the HR size.
        plain_steps: steps without coupling at the start of each level.
        hidden: width of the coupling nets.
        quant: the noise of `encode` is uniform, of width 1 / quant.

    Raises:
        ValueError: scale not 4 or 8; taps outside the encoder; a last level below half the LR size.
    """

    def __init__(
        self,
        scale: int = 4,
        nf: int = 64,
        gc: int = 32,
        nb: int = 23,
        taps: tuple[int, ...] = (1, 8, 15, 22),
        K: int = 16,
        L: int = 3,
        *,
        plain_steps: int = 2,
        hidden: int = 64,
        quant: float = 32,
    ) -> None:
        super().__init__()
        if not all(0 <= tap < nb for tap in taps):
            raise ValueError(f"expected taps from 0 to nb - 1 = {nb - 1}, got {tuple(taps)}")
        if not 1 <= L <= scale.bit_length():
            raise ValueError(f"expected L from 1 to {scale.bit_length()} at scale {scale}, got {L}")
        self.RRDB = RRDBNet(scale, nf, gc, nb)
        self.flowUpsamplerNet = FlowUpsampler(nf * (len(taps) + 1), K, L, plain_steps, hidden)
        self.scale, self.taps, self.L, self.quant = scale, tuple(taps), L, quant
        self.multiple = max(1, 2**L // scale)  # of the LR size: 2 for the released networks

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """As `nn.Module.load_state_dict`; names may carry the `module.` of a parallel wrapper."""
        return super().load_state_dict(strip_prefix(state_dict), strict=strict, assign=assign)

    def latent_shapes(self, h: int, w: int) -> list[tuple[int, int, int]]:
        """Shapes (C, h_l, w_l) of one image's latents, in the order of `encode`: first split, ..., z.

        Args:
            h, w: size of the LR image.

        Raises:
            ValueError: h or w does not divide.
        """
        if h < 1 or w < 1 or h % self.multiple or w % self.multiple:
            raise ValueError(
                f"expected LR height and width to be multiples of {self.multiple}, got {h}x{w}; enlarge with "
                f"srflow.pad_to_multiple(lr, {self.multiple}) and crop SR to {self.scale} times {h}x{w}"
            )
        shapes, channels = [], 3
        for level in range(1, self.L + 1):
            channels *= 4
            size = (h * self.scale >> level, w * self.scale >> level)
            if level < self.L - 1:
                channels //= 2
                shapes.append((channels, *size))
        return [*shapes, (channels, *size)]

    def check(self, lr: Tensor, latents: list[Tensor] | None = None, *, shared: bool = False) -> None:
        """Raise ValueError unless `lr` is a batch that divides (`shared`: of one) and `latents` fits it."""
        if lr.ndim != 4 or lr.shape[1] != 3 or len(lr) == 0 or (shared and len(lr) > 1):
            raise ValueError(f"lr: expected shape ({1 if shared else 'N'}, 3, h, w), got {tuple(lr.shape)}")
        shapes = self.latent_shapes(*lr.shape[2:])
        if latents is not None:
            n = max(1, len(latents[0]) if shared and latents else len(lr))
            expected, got = [(n, *shape) for shape in shapes], [tuple(latent.shape) for latent in latents]
            if got != expected:
                raise ValueError(f"latents: expected shapes {expected}, got {got}")

    def features(self, lr: Tensor) -> list[Tensor]:
        """Conditional features of each level, first level first, (N, nf * (taps + 1), s h / 2^l, s w / 2^l).

        Args:
            lr: LR images in [0, 1], (N, 3, h, w).

        Raises:
            ValueError: wrong shape.
        """
        self.check(lr)
        trunk, taps = self.RRDB.trunk(lr, self.taps)
        sizes = [trunk, *self.RRDB.up(trunk, self.scale // 2)]  # fea_up1, fea_up2, ...
        if self.multiple == 2:  # fea_up0: at even sizes the mean of each 2x2 block
            half = F.interpolate(trunk, scale_factor=0.5, mode="bilinear", recompute_scale_factor=True)
            sizes.insert(0, half)
        stack = torch.cat(taps, 1)
        return [torch.cat([f, F.interpolate(stack, f.shape[2:])], 1) for f in sizes[::-1][: self.L]]

    def encode(self, hr: Tensor, lr: Tensor, noise: Tensor | None = None) -> tuple[list[Tensor], Tensor, Tensor]:
        """HR images to latents, and their negative log-likelihood given the LR images.

        In train mode the first call sets the ActNorms from this batch.

        Args:
            hr: HR images in [0, 1], (N, 3, s h, s w).
            lr: LR images in [0, 1], (N, 3, h, w).
            noise: None, as in the official training; or uniform numbers in [0, 1) of the shape of `hr`: the
                image is then dequantized, hr + (noise - 0.5) / quant, at the price of log(quant) per pixel.

        Returns:
            Latents, first split first, z last (`latent_shapes`); nll, (N,), in bits per PIXEL, the official
            unit: three colour values together, so divide by 3 for bits per dimension; logdet, (N,), in nats,
            including the log-densities of the splits and the price of the noise.

        Raises:
            ValueError: sizes do not belong together.
        """
        self.check(lr)
        h, w = lr.shape[2] * self.scale, lr.shape[3] * self.scale
        if hr.shape != (len(lr), 3, h, w):
            raise ValueError(f"hr: expected shape {(len(lr), 3, h, w)}, got {tuple(hr.shape)}")
        if noise is not None and noise.shape != hr.shape:
            raise ValueError(f"noise: expected the shape of hr {tuple(hr.shape)}, got {tuple(noise.shape)}")
        x = hr if noise is None else hr + (noise - 0.5) / self.quant
        latents, logdet = self.flowUpsamplerNet.encode(x, self.features(lr))
        if noise is not None:
            logdet = logdet - math.log(self.quant) * h * w
        nll = -(logdet + log_normal(latents[-1])) / (math.log(2) * h * w)
        return latents, nll, logdet

    def decode(self, lr: Tensor, latents: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Latents to SR images, the inverse of `encode`. For many samples of one image use `Sampler`.

        Args:
            lr: LR images in [0, 1], (N, 3, h, w).
            latents: N(0, heat^2) numbers of `latent_shapes(h, w)`, each with N in front; zeros for heat 0.

        Returns:
            SR images (N, 3, s h, s w), not clipped, not finite where the flow overflows; and logdet (N,):
            minus that of `encode` without noise.

        Raises:
            ValueError: wrong shapes.
        """
        self.check(lr, latents)
        return self.flowUpsamplerNet.decode(latents, self.features(lr))


def strip_prefix(state: dict[str, Tensor], prefix: str = "module.") -> dict[str, Tensor]:
    """The state dict with `prefix` taken off the names that carry it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def pad_to_multiple(lr: Tensor, multiple: int = 2) -> Tensor:
    """Pad at the bottom and right by reflection, edge not repeated, as the official test.py:122-133 does.

    Crop the SR image to `sr[..., : s * h, : s * w]` afterwards.

    Args:
        lr: (N, 3, h, w).
        multiple: height and width become multiples of it.

    Raises:
        ValueError: an image too small to reflect.
    """
    h, w = lr.shape[-2:]
    down, right = -h % multiple, -w % multiple
    if down >= h or right >= w:
        raise ValueError(f"expected an LR image of which {down} rows, {right} columns reflect, got {h}x{w}")
    return F.pad(lr, (0, right, 0, down), mode="reflect")


def build(name: str) -> SRFlow:
    """A released configuration with fresh weights: "df2k_4x", "df2k_8x" or "celeba_8x".

    Raises:
        ValueError: unknown name.
    """
    if name not in CONFIGURATIONS:
        raise ValueError(f"expected one of {', '.join(CONFIGURATIONS)}, got {name!r}")
    return SRFlow(**CONFIGURATIONS[name])
