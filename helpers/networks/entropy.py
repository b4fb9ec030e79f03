"""Distributions of what is rounded and stored: the factorised prior of Balle et al. (ICLR 2018), and the normal one.

Parameter names are those of CompressAI 1.2.4; its range coder's tables are carried along and read by nothing here. A
range coder takes the distributions as integers (`counts`), which are the same on every machine once they are stored.
"""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

FILTERS = (1, 3, 3, 3, 3, 1)  # of the cumulative distribution
SPREAD = 10.0  # its width at the start: "init_scale"
TAIL = 1e-9  # probability outside the outer quantiles, and the floor of a likelihood
LOWEST, HIGHEST, LEVELS = 0.11, 64.0, 64  # of the scale table: CompressAI's, which ends at 256
STEP = math.log(HIGHEST / LOWEST) / (LEVELS - 1)
COUNTS = 1 << 22  # a distribution as integers that add up to it


def uniform(like: Tensor, generator: Generator) -> Tensor:
    """Noise from -0.5 to 0.5 of the shape, type and device of `like`, drawn on the CPU."""
    return (torch.rand(like.shape, generator=generator) - 0.5).to(like)


class Floor(torch.autograd.Function):
    """The larger of x and the bound; a gradient that would raise x passes below the bound, too."""

    @staticmethod
    def forward(context, x: Tensor, bound: Tensor) -> Tensor:
        context.save_for_backward(x, bound)
        return torch.maximum(x, bound)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        x, bound = context.saved_tensors
        return gradient * ((x >= bound) | (gradient < 0)), None


class _Bound(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([TAIL]))


class EntropyBottleneck(nn.Module):
    """Learned distribution of each channel, from which bits follow (Balle et al., ICLR 2018, appendix 6.1).

    Args:
        channels: each has a distribution of its own.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = SPREAD ** (1 / (len(FILTERS) - 1))
        for i in range(len(FILTERS) - 1):
            start = math.log(math.expm1(1 / width / FILTERS[i + 1]))
            matrix = torch.full((channels, FILTERS[i + 1], FILTERS[i]), start)
            self.register_parameter(f"_matrix{i}", nn.Parameter(matrix))
            bias = torch.empty(channels, FILTERS[i + 1], 1).uniform_(-0.5, 0.5)
            self.register_parameter(f"_bias{i}", nn.Parameter(bias))
            if i < len(FILTERS) - 2:
                factor = torch.zeros(channels, FILTERS[i + 1], 1)
                self.register_parameter(f"_factor{i}", nn.Parameter(factor))
        self.quantiles = nn.Parameter(torch.tensor([-SPREAD, 0, SPREAD]).repeat(channels, 1, 1))
        tail = math.log(2 / TAIL - 1)
        self.register_buffer("target", torch.tensor([-tail, 0, tail]))
        self.likelihood_lower_bound = _Bound()
        for name in (
            "_offset",
            "_quantized_cdf",
            "_cdf_length",
        ):  # of the official range coder; nothing reads them here
            self.register_buffer(name, torch.empty(0, dtype=torch.int32))

    def quantize(self, values: Tensor, generator: Generator | None = None) -> Tensor:
        """Round to the channel's median plus an integer, or with a generator add noise from -0.5 to 0.5 instead.

        Args:
            values: (N, channels, ...).
            generator: CPU generator of the noise.
        """
        if generator is not None:
            return values + uniform(values, generator)
        median = self.quantiles[:, 0, 1].detach().view(-1, *[1] * (values.ndim - 2))
        return (values - median).round() + median

    def likelihood(self, values: Tensor) -> Tensor:
        """Probability of each value, the mass from 0.5 below to 0.5 above it, at least 1e-9; (N, channels, ...)."""
        rows = values.transpose(0, 1).flatten(1).unsqueeze(1)  # (channels, 1, n)
        low, high = self._logits(rows - 0.5), self._logits(rows + 0.5)
        sign = -(low + high).sign().detach()  # both arguments left of 0, where a sigmoid has all its digits
        mass = ((sign * high).sigmoid() - (sign * low).sigmoid()).abs()
        mass = Floor.apply(mass, mass.new_tensor(TAIL))  # the buffer is 0 once it has been float16
        return mass.view(values.shape[1], len(values), *values.shape[2:]).transpose(0, 1)

    @torch.no_grad()
    def counts(self, reach: int = 256) -> list[tuple[int, Tensor]]:
        """The coder's distribution of each channel's integers, medians being 0: the lowest one, and `counts_of` them.

        The outermost two stand for all beyond them, too: a ten-millionth of the mass, unless `reach` cuts it.
        """
        values = torch.arange(-reach, reach + 1, dtype=self._bias0.dtype, device=self._bias0.device)
        found, mass = [], self.likelihood(values.expand(1, len(self._bias0), -1))[0].double()
        for row in mass:
            inside = ((row.cumsum(0) > 1e-7) & (row.flip(0).cumsum(0).flip(0) > 1e-7)).nonzero()
            low, high = max(0, int(inside[0]) - 1), min(2 * reach, int(inside[-1]) + 1)
            found.append((low - reach, counts_of(row[low : high + 1])))
        return found

    def auxiliary(self) -> Tensor:
        """Distance of the three quantiles from where the distribution has them; its gradient reaches nothing else."""
        return (self._logits(self.quantiles, frozen=True) - self.target).abs().sum()

    def _logits(self, rows: Tensor, frozen: bool = False) -> Tensor:
        """Logit of the cumulative distribution, (channels, 1, n) to the same shape."""

        def part(name: str) -> Tensor:
            return getattr(self, name).detach() if frozen else getattr(self, name)

        for i in range(len(FILTERS) - 1):
            rows = F.softplus(part(f"_matrix{i}")) @ rows + part(f"_bias{i}")
            if i < len(FILTERS) - 2:
                rows = rows + part(f"_factor{i}").tanh() * rows.tanh()
        return rows


def scale_of(place: Tensor) -> Tensor:
    """Standard deviation at a place in the scale table, 0 for 0.11 to 63 for 64; between them geometric."""
    return LOWEST * (STEP * place).exp()


def gaussian_likelihood(values: Tensor, scale: Tensor) -> Tensor:
    """Probability of values of a normal distribution around 0 and uniform noise from -0.5 to 0.5, at least 1e-9.

    The mass from 0.5 below a value to 0.5 above it (Balle et al., ICLR 2018, Eq. 7), computed in the tail where the
    difference keeps its digits.

    Args:
        values: distances from the mean.
        scale: standard deviations, of their shape.
    """
    distance = values.abs()
    upper, lower = (torch.special.erfc((end - distance) / scale * -(0.5**0.5)) for end in (0.5, -0.5))
    return Floor.apply((upper - lower) / 2, torch.tensor(TAIL, device=values.device))


def counts_of(mass: Tensor) -> Tensor:
    """Round probabilities to integers of at least 1 that add up to `COUNTS`; the most probable takes the difference.

    Args:
        mass: probabilities of the symbols of one distribution, (K,), K below `COUNTS`; a tail may be missing.
    """
    counts = (mass.double() * COUNTS).round().clamp(min=1).long()
    counts[mass.argmax()] += COUNTS - counts.sum()
    return counts


def gaussian_counts() -> list[Tensor]:
    """The coder's distribution of the integers from -T to T at each place of the scale table; T grows with the scale.

    The outermost two stand for all beyond them, too.
    """
    found = []
    for scale in scale_of(torch.arange(LEVELS, dtype=torch.float64)):
        reach = math.ceil(6 * scale) + 1
        values = torch.arange(-reach, reach + 1, dtype=torch.float64)
        found.append(counts_of(gaussian_likelihood(values, scale.expand_as(values))))
    return found
