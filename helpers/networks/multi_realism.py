"""Multi-Realism compression: one latent of an image, and a decoder that is told how real its answer should look.

Agustsson, Minnen, Toderici, Mentzer, "Multi-Realism Image Compression with a Conditional Generator", CVPR 2023, arXiv
2212.13824; there is no official code. Transforms: `elic`. Entropy model: a hyperprior, and a mean and a scale for each
slice of channels from the slices before it (Minnen and Singh, ICIP 2020), without latent residual prediction. Where
the two public re-implementations differ it follows variant A, Nikolai10/MRIC (see `elic`). Narrower than either, with
the rate as a condition: level l from 0 to L - 1 scales the latent before it is rounded.

Encoder and decoder of a file must agree to the last bit about every mean and scale, or the rest of it is noise. So
`Prior.exact` makes a twin in integer arithmetic: weights and activations are multiples of powers of 2 in float64, of
which all sums are exact, in whatever order a machine adds them.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from helpers.networks.elic import OCTAVES, Analysis, FourierCond, Synthesis, TableCond, keep_variance, start_as_wavelets
from helpers.networks.entropy import LEVELS, EntropyBottleneck, Floor, gaussian_likelihood, scale_of, uniform

MULTIPLE = 64  # of the sides: the hyper-latent has a 64th of them
FINE, COARSE = 14, 10  # binary digits after the point of the twin's weights and activations
REACH = 512.0  # of its activations
SLOPE = 0.25  # of the LeakyReLUs, a power of 2


class _Points(nn.Module):
    """Where the twin rounds: to multiples of 2^-10 between -512 and 512; elsewhere the identity."""

    exact = False

    def forward(self, x: Tensor) -> Tensor:
        return ((x * 2**COARSE).round() / 2**COARSE).clamp(-REACH, REACH) if self.exact else x


class _Layers(nn.Module):
    """Convolutions with a LeakyReLU between them; a vector that knows the rate is added after the first."""

    def __init__(self, convolutions: Sequence[nn.Module], levels: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(keep_variance(each) for each in convolutions)
        self.cond = TableCond(levels, convolutions[0].out_channels, (0.0, 0.0))
        self.points = _Points()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        x = self.points(x)
        for number, convolution in enumerate(self.convolutions):
            x = convolution(F.leaky_relu(x, SLOPE) if number else x)
            if number == 0:
                x = x + self.cond(level)[:, :, None, None]
            x = self.points(x)
        return x


class Prior(nn.Module):
    """What the decoder knows about a latent before and while it reads it.

    Args:
        latent, hyper: channels of the latent y and of the hyper-latent z.
        slices: number of parts of y, one after the other; divides `latent`.
        hidden: width of the networks that say a slice's means and scales.
        levels: number of rate levels.
    """

    def __init__(self, latent: int, hyper: int, slices: int, hidden: int, levels: int) -> None:
        super().__init__()
        self.slices = slices
        part = latent // slices
        self.analysis = _Layers(
            [nn.Conv2d(latent, hyper, 3, padding=1), *(nn.Conv2d(hyper, hyper, 5, 2, 2) for _ in range(2))], levels
        )
        self.bottleneck = EntropyBottleneck(hyper)
        self.bottleneck.quantiles.requires_grad_(False)  # the medians stay 0
        self.up = _Layers([nn.Conv2d(hyper, 4 * hyper, 3, padding=1)], levels)
        self.up_more = _Layers([nn.Conv2d(hyper, 4 * hyper, 3, padding=1)], levels)
        self.context = nn.ModuleList(
            _Layers(
                [
                    nn.Conv2d(hyper + number * part, hidden, 3, padding=1),
                    nn.Conv2d(hidden, hidden, 3, padding=1),
                    nn.Conv2d(hidden, 2 * part, 1),
                ],
                levels,
            )
            for number in range(slices)
        )
        for context in self.context:  # means of about 0 and scales of about 1 at the start
            context.convolutions[-1].weight.data.mul_(0.1)
            nn.init.constant_(context.convolutions[-1].bias[part:], 0.34)

    def features(self, z: Tensor, level: Tensor, shape: Sequence[int]) -> Tensor:
        """What the hyper-latent, (N, hyper, h, w), says about a latent of `shape`'s height and width, its last two."""
        x = F.leaky_relu(F.pixel_shuffle(self.up(z, level), 2), SLOPE)
        return F.leaky_relu(F.pixel_shuffle(self.up_more(x, level), 2), SLOPE)[..., : shape[-2], : shape[-1]]

    def walk(self, z: Tensor, level: Tensor, shape: Sequence[int], take: Callable) -> Tensor:
        """Go through the slices, each in the light of those before it.

        Args:
            z: rounded hyper-latent, (N, hyper, h, w).
            level: rate levels, (N,).
            shape: height and width of the latent, as the last two.
            take: given a slice's number, means, and places in the scale table from 0 to 63 (not rounded), both
                (N, latent / slices, h, w), returns the slice, rounded.

        Returns:
            The latent, (N, latent, h, w).
        """
        features, known = self.features(z, level, shape), []
        for number, context in enumerate(self.context):
            mean, place = context(torch.cat([features, *known], 1), level).chunk(2, 1)
            known.append(take(number, mean, _between(place * LEVELS)))
        return torch.cat(known, 1)

    @torch.no_grad()
    def exact(self) -> "Prior":
        """The twin in integer arithmetic, on the CPU; its `features` and `walk` are the same on every machine.

        Raises:
            ValueError: a weight is so large that a sum could lose digits.
        """
        twin = deepcopy(self).cpu().double().eval()
        for name, parameter in twin.named_parameters():
            if not name.startswith(("analysis.", "bottleneck.")):
                parameter.copy_((parameter * 2**FINE).round() / 2**FINE)
                if parameter.ndim > 1 and (most := parameter.abs().flatten(1).sum(1).max() * REACH) >= 2**28:
                    raise ValueError(f"{name}: expected weights whose sums stay below 2^28, got {most:.3g}")
        for module in twin.modules():
            if isinstance(module, _Points):
                module.exact = True
        return twin


def _between(place: Tensor) -> Tensor:
    """Places clipped to the scale table; a gradient that would bring one back passes."""
    zero = torch.zeros((), dtype=place.dtype, device=place.device)
    return LEVELS - 1 - Floor.apply(LEVELS - 1 - Floor.apply(place, zero), zero)


def round_through(x: Tensor) -> Tensor:
    """Round, with the gradient of the identity."""
    return x + (x.round() - x).detach()


class MultiRealism(nn.Module):
    """Encoder, entropy model and conditional decoder.

    Args:
        widths, blocks: of the transforms, see `elic.Analysis`.
        latent, hyper, slices, hidden: see `Prior`.
        condition: length of the vectors that carry rate and beta.
        levels: number L of rate levels; anything from 0 (fewest bits) to L - 1 is a level.
        octaves: see `elic.FourierCond`.

    Raises:
        ValueError: widths or blocks that `elic.Analysis` refuses, or slices that do not divide the latent.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 96),
        blocks: Sequence[int] = (1, 2, 2),
        latent: int = 128,
        hyper: int = 64,
        slices: int = 4,
        hidden: int = 96,
        condition: int = 128,
        levels: int = 4,
        octaves: int = OCTAVES,
    ) -> None:
        super().__init__()
        if slices < 1 or latent % slices:
            raise ValueError(f"slices: expected a divisor of latent {latent}, got {slices}")
        if levels < 2:
            raise ValueError(f"levels: expected at least 2, got {levels}")
        self.config = {
            "widths": list(widths), "blocks": list(blocks), "latent": latent, "hyper": hyper, "slices": slices,
            "hidden": hidden, "condition": condition, "levels": levels, "octaves": octaves,
        }  # fmt: skip
        self.levels = levels
        self.rate, self.rate_of_decoder = TableCond(levels, condition), TableCond(levels, condition)
        self.gain, self.gain_of_decoder = (TableCond(levels, latent, (sign * 0.7, sign * 0.55)) for sign in (1, -1))
        self.realism = FourierCond(condition, octaves)
        self.analysis = Analysis(widths, latent, blocks, condition)
        self.prior = Prior(latent, hyper, slices, hidden, levels)
        self.synthesis = Synthesis(widths, latent, blocks, condition)
        start_as_wavelets(self.analysis.strided(), self.synthesis.strided())

    def encode(self, hr: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Latent and hyper-latent of images before they are rounded.

        Args:
            hr: (N, 3, H, W) in [0, 1], sides multiples of 64.
            level: (N,), from 0 to L - 1.

        Returns:
            y, (N, latent, H / 16, W / 16), in units of its rounding, and z, (N, hyper, H / 64, W / 64).
        """
        y = self.analysis(hr, self.rate(level)) * self.gain(level).exp()[:, :, None, None]
        return y, self.prior.analysis(y, level)

    def decode(self, y: Tensor, level: Tensor, beta: Tensor) -> Tensor:
        """Images of rounded latents: beta = 0 asks for low distortion, 2.56 for high realism.

        Args:
            y: (N, latent, h, w).
            level, beta: (N,).

        Returns:
            (N, 3, 16 h, 16 w), not clipped.
        """
        return self.synthesis(self.scaled(y, level), self.realism(beta, self.rate_of_decoder(level)))

    def scaled(self, y: Tensor, level: Tensor) -> Tensor:
        """Latents of a level in the units that all levels share."""
        return y * self.gain_of_decoder(level).exp()[:, :, None, None]

    def decoder(self) -> list[nn.Parameter]:
        """What `decode` uses and the file does not depend on."""
        parts = (self.synthesis, self.realism, self.rate_of_decoder, self.gain_of_decoder)
        return [parameter for part in parts for parameter in part.parameters()]

    def compress(self, hr: Tensor, level: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Rounded latents and what they cost.

        Args:
            hr, level: as in `encode`.
            generator: with one the cost is that of noisy latents, as in training; without, of rounded ones, with the
                scales of the table, as in a file.

        Returns:
            y, rounded, with the gradient of the identity, (N, latent, H / 16, W / 16); bits per pixel, (N,).
        """
        y, z = self.encode(hr, level)
        parts, bits = y.chunk(self.prior.slices, 1), []

        def count(likelihood: Tensor) -> None:
            bits.append(-likelihood.log2().flatten(1).sum(1))

        def take(number: int, mean: Tensor, place: Tensor) -> Tensor:
            apart = parts[number] - mean
            whole = round_through(apart)
            if generator is None:
                count(gaussian_likelihood(whole, scale_of(place.round())))
            else:
                count(gaussian_likelihood(apart + uniform(apart, generator), scale_of(place)))
            return whole + mean

        count(self.prior.bottleneck.likelihood(z.round() if generator is None else z + uniform(z, generator)))
        rounded = self.prior.walk(round_through(z), level, y.shape, take)
        return rounded, sum(bits) / (hr.shape[2] * hr.shape[3])

    def forward(
        self, hr: Tensor, level: Tensor, beta: Tensor, generator: Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images through the codec, (N, 3, H, W), not clipped, and bits per pixel, (N,); see `compress`, `decode`."""
        y, bpp = self.compress(hr, level, generator)
        return self.decode(y, level, beta), bpp


class Discriminator(nn.Module):
    """Judges patches of an image in the light of its latent, as HiFiC's (variant A).

    The latent goes through a 3x3 convolution to 12 channels, is enlarged by 16 to nearest, and joins the image; 4x4
    convolutions with spectral norm, all but the last two of stride 2, LeakyReLU of 0.2.

    Args:
        latent: channels of the latent.
        widths: of the convolutions but the last, which has one output; HiFiC: 64, 128, 256, 512.
    """

    def __init__(self, latent: int, widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        normed = nn.utils.parametrizations.spectral_norm
        self.config = {"latent": latent, "widths": list(widths)}
        self.from_latent = normed(nn.Conv2d(latent, 12, 3, padding=1))
        channels = [15, *widths, 1]
        self.layers = nn.ModuleList(
            normed(nn.Conv2d(channels[i], channels[i + 1], 4, 2 if i < len(widths) - 1 else 1, 1))
            for i in range(len(channels) - 1)
        )

    def forward(self, images: Tensor, y: Tensor) -> Tensor:
        """Logits of patches, larger for images that look real: (N, 3, 16 h, 16 w) and (N, latent, h, w) to (N, ...)."""
        seen = F.interpolate(F.leaky_relu(self.from_latent(y), 0.2), scale_factor=16, mode="nearest")
        x = torch.cat([images - 0.5, seen], 1)
        for number, layer in enumerate(self.layers):
            x = layer(F.leaky_relu(x, 0.2) if number else x)
        return x.flatten(1)
