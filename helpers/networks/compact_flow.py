"""A compact conditional flow in SRFlow's manner, small enough to be embedded: an encoder, a mean image, a flow.

p(x | lr) is the density of gain * (x - mean(lr)) pushed through squeeze, actnorm, invertible 1x1 convolutions,
feature-conditional injectors and affine couplings (SRFlow, Lugmayr et al., ECCV 2020, Sec. 3). It differs from
SRFlow where smallness and stability ask for it: the flow models a residual to a predicted mean image; coupling nets
add the LR features instead of concatenating them; every log-scale is bounded by `clamp * tanh`, so that no LR image,
however unlike the training data, makes a sample overflow.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAIN = 8.0  # the residual x - mean has a standard deviation of about 1 / GAIN
EDGE = 1 / 64  # images with their dequantization noise lie within [-EDGE, 1 + EDGE]


def bounded(raw: Tensor, limit: float) -> Tensor:
    """Log-scale in (-limit, limit), the identity near 0."""
    return limit * torch.tanh(raw.to(torch.promote_types(raw.dtype, torch.float32)) / limit)


def into_range(x: Tensor, margin: float) -> Tensor:
    """Press what lies beyond [-EDGE, 1 + EDGE] into [-margin, 1 + margin], smoothly and invertibly; keep the rest."""
    room = margin - EDGE
    beyond = (x - 0.5).abs() - 0.5 - EDGE
    pressed = 0.5 + EDGE + room * -torch.expm1(-beyond.clamp(min=0) / room)
    return torch.where(beyond > 0, 0.5 + torch.sign(x - 0.5) * pressed, x)


class ZeroConv(nn.Conv2d):
    """3x3 convolution that starts at zero, with a learned gain per output channel."""

    def __init__(self, channels: int, out: int):
        super().__init__(channels, out, 3, padding=1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.gain = nn.Parameter(torch.zeros(out, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, h, w) to (N, out, h, w)."""
        return super().forward(x) * torch.exp(3 * self.gain)


class Conditioned(nn.Module):
    """Net of a coupling or a split: z (Q, c, h, w) and features (1 or Q, f, h, w) to a shift and a log-scale."""

    def __init__(self, channels: int, features: int, hidden: int, out: int):
        super().__init__()
        self.from_z = nn.Conv2d(channels, hidden, 3, padding=1)
        self.from_features = nn.Conv2d(features, hidden, 1, bias=False)
        self.middle = nn.Conv2d(hidden, hidden, 1)
        self.last = ZeroConv(hidden, 2 * out)

    def forward(self, z: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and unbounded log-scale, each (Q, out, h, w). One set of features serves a batch of samples."""
        hidden = F.relu(self.from_z(z) + self.from_features(features))
        return self.last(F.relu(self.middle(hidden))).chunk(2, 1)


class Mix(nn.Module):
    """Actnorm followed by an invertible 1x1 convolution, applied as one affine map of the channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.logs = nn.Parameter(torch.zeros(channels))
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])
        self.register_buffer("initialized", torch.tensor(False))
        self._inverse: tuple = (None, None)

    @torch.no_grad()
    def initialize(self, z: Tensor) -> None:
        """Set bias and scale so that the first training batch leaves with mean 0 and deviation 1."""
        self.bias.copy_(-z.mean((0, 2, 3)))
        self.logs.copy_(-torch.log(z.std((0, 2, 3)) + 1e-6))
        self.initialized.fill_(True)

    def logdet(self, pixels: int) -> Tensor:
        """Log-determinant of the map on `pixels` pixels, a scalar."""
        return pixels * (self.logs.sum() + torch.linalg.slogdet(self.weight)[1])

    def encode(self, z: Tensor) -> Tensor:
        """Shape (Q, c, h, w) kept."""
        if self.training and not self.initialized:
            self.initialize(z)
        with torch.autocast(z.device.type, enabled=False):  # the map must stay invertible under mixed precision
            matrix = self.weight * self.logs.exp()
            return F.conv2d(z, matrix[:, :, None, None], matrix @ self.bias)

    def decode(self, z: Tensor) -> Tensor:
        """Inverse of `encode`; the matrix is inverted in float64, once per state of the weights."""
        state = (self.weight._version, self.logs._version, self.weight.data_ptr(), self.weight.dtype)
        kept, inverse = self._inverse
        if kept != state or torch.is_grad_enabled():
            inverse = torch.linalg.inv((self.weight * self.logs.exp()).cpu().double())  # MPS has no float64
            inverse = inverse.to(self.weight)[:, :, None, None]
            self._inverse = (None, None) if torch.is_grad_enabled() else (state, inverse)
        with torch.autocast(z.device.type, enabled=False):
            return F.conv2d(z.to(inverse), inverse, -self.bias)


class Step(nn.Module):
    """One flow step: mix the channels, inject the features, couple one half to the other."""

    def __init__(self, channels: int, features: int, hidden: int, clamp: float):
        super().__init__()
        self.clamp = clamp
        self.mix = Mix(channels)
        self.injector = nn.Sequential(nn.Conv2d(features, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, 2 * channels, 1))
        nn.init.zeros_(self.injector[2].weight)
        nn.init.zeros_(self.injector[2].bias)
        self.coupling = Conditioned(channels // 2, features, hidden, channels - channels // 2)

    def encode(self, z: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """z' and the log-determinant, shape (Q,)."""
        z = self.mix.encode(z)
        shift, logs = self.injector(features).chunk(2, 1)
        logs = bounded(logs, self.clamp)
        kept, moved = ((z + shift) * logs.exp()).tensor_split((z.shape[1] // 2,), 1)
        shift, more = self.coupling(kept, features)
        more = bounded(more, self.clamp)
        logdet = logs.sum((1, 2, 3)) + more.sum((1, 2, 3)) + self.mix.logdet(z[0, 0].numel())
        return torch.cat((kept, (moved + shift) * more.exp()), 1), logdet

    def decode(self, z: Tensor, features: Tensor, logdet: bool = True) -> tuple[Tensor, Tensor | float]:
        """Inverse of `encode`; the log-determinant is that of the inverse, 0 where nobody asks for it."""
        kept, moved = z.tensor_split((z.shape[1] // 2,), 1)
        shift, more = self.coupling(kept, features)
        more = bounded(more, self.clamp)
        z = torch.cat((kept, moved * (-more).exp() - shift), 1)
        shift, logs = self.injector(features).chunk(2, 1)
        logs = bounded(logs, self.clamp)
        z = self.mix.decode(z * (-logs).exp() - shift)
        if not logdet:
            return z, 0.0
        return z, -logs.sum((1, 2, 3)) - more.sum((1, 2, 3)) - self.mix.logdet(z[0, 0].numel())


class Encoder(nn.Module):
    """LR image to features at LR size and at every doubling up to half the HR size, and to the mean HR image."""

    def __init__(self, scale: int, width: int, blocks: int, head: int):
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(blocks)
        )
        for block in self.blocks:
            block[2].weight.data.mul_(0.1)
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        doublings = int(math.log2(scale)) - 1
        self.ups = nn.ModuleList(nn.Conv2d(width if i == 0 else head, 4 * head, 3, padding=1) for i in range(doublings))
        self.last = nn.Conv2d(head if doublings else width, 12, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, lr: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features from the finest to the coarsest level, and the mean image (N, 3, s h, s w)."""
        first = self.first(lr - 0.5)
        x = first
        for block in self.blocks:
            x = x + block(x)
        features = [first + self.trunk(x)]
        for up in self.ups:
            features.append(F.relu(F.pixel_shuffle(up(features[-1]), 2)))
        base = F.interpolate(lr, scale_factor=self.scale, mode="bicubic", align_corners=False)
        mean = base + F.pixel_shuffle(self.last(features[-1]), 2)
        features[-1] = torch.cat((features[-1], F.pixel_unshuffle(mean, 2)), 1)
        return features[::-1], mean


class CompactFlow(nn.Module):
    """Conditional flow for x2, x4 or x8 super-resolution.

    Args:
        scale: s, a power of two from 2 on; the flow has log2(s) levels.
        width, blocks: channels and residual blocks of the LR encoder.
        head: channels of the features above LR size.
        steps: flow steps of each level, from the finest (half the HR size) to the coarsest (LR size).
        hidden: width of the coupling nets of each level.
        clamp: bound on the log-scale of each injector and coupling; splits get twice that.
        noise: width of the uniform noise that dequantizes the training images.
        margin: samples are pressed into [-margin, 1 + margin], see `into_range`; 0 leaves them as they are.

    Raises:
        ValueError: `scale` is no power of two, or `steps` and `hidden` do not name log2(s) levels.
    """

    CONFIG = ("scale", "width", "blocks", "head", "steps", "hidden", "clamp", "noise", "margin")

    def __init__(
        self, *, scale=4, width=64, blocks=8, head=48, steps=(8, 8), hidden=(64, 64), clamp=0.8, noise=1 / 64, margin=0
    ):
        super().__init__()
        levels = scale.bit_length() - 1
        if scale < 2 or scale != 2**levels or len(steps) != levels or len(hidden) != levels:
            raise ValueError(
                f"expected a power of two and log2(scale) levels, got scale={scale}, steps={steps}, hidden={hidden}"
            )
        self.config = {
            "scale": scale, "width": width, "blocks": blocks, "head": head,
            "steps": list(steps), "hidden": list(hidden), "clamp": clamp, "noise": noise, "margin": margin,
        }  # fmt: skip
        self.scale, self.clamp, self.noise, self.margin = scale, clamp, noise, margin
        self.encoder = Encoder(scale, width, blocks, head)
        self.levels, self.transitions, self.splits = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels = 3
        for level in range(levels):
            channels *= 4
            features = (width if level == levels - 1 else head) + (12 if level == 0 else 0)
            self.transitions.append(Mix(channels))
            self.levels.append(
                nn.ModuleList(Step(channels, features, hidden[level], clamp) for _ in range(steps[level]))
            )
            if level < levels - 1:
                channels //= 2
                self.splits.append(Conditioned(channels, features, hidden[level], channels))

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Shapes (c, h, w) of the latents of an LR image of `height` x `width`: splits first, then z."""
        shapes, channels = [], 3
        for level in range(len(self.levels)):
            channels = channels * 4 if level == 0 else channels * 2
            size = 2 ** (len(self.levels) - 1 - level)
            last = level == len(self.levels) - 1
            shapes.append((channels if last else channels // 2, height * size, width * size))
        return shapes

    def encode(self, hr: Tensor, lr: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Image to latents.

        Args:
            hr: HR images (dequantization noise already added by the caller where wanted), (N, 3, H, W).
            lr: LR images in [0, 1], (N, 3, H / s, W / s).

        Returns:
            Latents as `latent_shapes`; the negative log-likelihood in bits per dimension, (N,): -log2 p(hr | lr) /
            (3 H W) - log2(noise), the density on the scale of the noise; and the log-determinant in nats, (N,).
        """
        return self.likelihood(hr, *self.encoder(lr))

    def likelihood(self, hr: Tensor, features: list[Tensor], mean: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """`encode` from what the encoder returned for the LR images."""
        z, latents = GAIN * (hr - mean), []
        dims = hr[0].numel()
        logdet = torch.full((len(hr),), dims * math.log(GAIN), dtype=hr.dtype, device=hr.device)
        for level, steps in enumerate(self.levels):
            z = self.transitions[level].encode(F.pixel_unshuffle(z, 2))
            logdet = logdet + self.transitions[level].logdet(z[0, 0].numel())
            for step in steps:
                z, change = step.encode(z, features[level])
                logdet = logdet + change
            if level < len(self.splits):
                z, out = z.chunk(2, 1)
                shift, logs = self.splits[level](z, features[level])
                logs = bounded(logs, 2 * self.clamp)
                latents.append((out - shift) * (-logs).exp())
                logdet = logdet - logs.sum((1, 2, 3))
        latents.append(z)
        prior = sum(-0.5 * (e.square() + math.log(2 * math.pi)).sum((1, 2, 3)) for e in latents)
        nll = -(prior + logdet) / (dims * math.log(2)) - math.log2(self.noise)
        return latents, nll, logdet

    def sample(self, lr: Tensor, latents: list[Tensor]) -> Tensor:
        """The SR images of `decode` without the log-determinant, whose 18 `slogdet` at x4 no sample needs."""
        return self.draw(*self.encoder(lr), latents, wanted=False)[0]

    def decode(self, lr: Tensor, latents: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Latents to images: the encoder and all that depends on LR alone is computed once for all samples.

        Args:
            lr: one LR image, (1, 3, h, w), shared by all samples; or one per sample, (Q, 3, h, w).
            latents: as `latent_shapes`, each (Q, c, h', w').

        Returns:
            SR images, not clipped, (Q, 3, s h, s w), and the log-determinant of this direction in nats, (Q,), that of
            `into_range` left out: it is the identity on images, so `encode` inverts `decode` there.
        """
        return self.draw(*self.encoder(lr), latents)

    def draw(
        self, features: list[Tensor], mean: Tensor, latents: list[Tensor], wanted: bool = True
    ) -> tuple[Tensor, Tensor]:
        """`decode` from what the encoder returned for the LR images; the log-determinant only if it is wanted."""
        z = latents[-1]
        logdet = z.new_full((len(z),), -mean[0].numel() * math.log(GAIN))
        for level in reversed(range(len(self.levels))):
            if level < len(self.splits):
                shift, logs = self.splits[level](z, features[level])
                logs = bounded(logs, 2 * self.clamp)
                z = torch.cat((z, latents[level] * logs.exp() + shift), 1)
                logdet = logdet + (logs.sum((1, 2, 3)) if wanted else 0.0)
            for step in reversed(self.levels[level]):
                z, change = step.decode(z, features[level], wanted)
                logdet = logdet + change
            logdet = logdet - (self.transitions[level].logdet(z[0, 0].numel()) if wanted else 0.0)
            z = F.pixel_shuffle(self.transitions[level].decode(z), 2)
        sr = mean + z / GAIN
        return (into_range(sr, self.margin) if self.margin else sr), logdet
