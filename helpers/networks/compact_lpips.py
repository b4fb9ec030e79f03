"""A compact distance of LPIPS's form: features of a few narrow convolutions, normalised, compared, weighted, averaged.

D(x, y) = sum over taps of the mean over positions of sum_c w_c (f_c(x) - f_c(y))^2, where f is the tap's feature
vector at a position divided by its length and w_c >= 0 (Zhang et al., CVPR 2018, Eq. 1). Whatever the weights,
D(x, x) = 0, D(x, y) = D(y, x) and D >= 0. Kernels, strides and pools are those of AlexNet (Krizhevsky et al., NIPS
2012, as torchvision has it), so that positions agree with those of LPIPS-Alex tap by tap. The convolutions are
narrower; a 1x1 map after each widens its channels to as many features as AlexNet has.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNELS, STRIDES, PADDINGS = (11, 5, 3, 3, 3), (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
POOLED = (1, 2)  # convolutions that follow a maximum over 3x3 with stride 2
FLOOR = 1e-8  # under the root of a squared length: a position without features stays without


class CompactLPIPS(nn.Module):
    """Five convolutions, a linear map of each one's channels to a tap, one non-negative weight per channel of a tap.

    Args:
        widths: channels of the five convolutions.
        features: channels of the five taps.

    Raises:
        ValueError: not five widths or features of at least 1.
    """

    def __init__(
        self,
        widths: Sequence[int] = (56, 152, 184, 120, 112),
        features: Sequence[int] = (64, 192, 384, 256, 256),
    ):
        super().__init__()
        self.config = {"widths": list(widths), "features": list(features)}
        for name, given in self.config.items():
            if len(given) != len(KERNELS) or min(given) < 1:
                raise ValueError(f"{name}: expected {len(KERNELS)} integers of at least 1, got {given}")
        channels = [3, *widths]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], KERNELS[i], STRIDES[i], PADDINGS[i]) for i in range(len(KERNELS))
        )
        self.taps = nn.ModuleList(nn.Conv2d(width, n, 1) for width, n in zip(widths, features, strict=True))
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
        self.heads = nn.ParameterList(torch.full((n,), -3.0) for n in features)  # w = softplus of it

    def weights(self) -> list[Tensor]:
        """The weights w_c of each tap, never negative, shapes (features[k],)."""
        return [F.softplus(head) for head in self.heads]

    def activations(self, images: Tensor, norms: Sequence[Callable[[Tensor], Tensor]] = ()) -> list[Tensor]:
        """The five taps before they are normalised.

        Args:
            images: in [0, 1], (N, 3, H, W).
            norms: applied to the output of each convolution, for a training.

        Returns:
            (N, features[k], h_k, w_k) each.
        """
        x, found = (images - 0.5) / 0.25, []
        for number, (convolution, tap) in enumerate(zip(self.convolutions, self.taps, strict=True)):
            x = convolution(F.max_pool2d(x, 3, 2) if number in POOLED else x)
            x = F.relu(norms[number](x) if norms else x)
            found.append(tap(x))
        return found

    def forward(self, images: Tensor) -> list[Tensor]:
        """As `activations`, each position divided by its length."""
        taps = [tap.to(torch.promote_types(tap.dtype, torch.float32)) for tap in self.activations(images)]
        return [tap * (tap.square().sum(1, keepdim=True) + FLOOR).rsqrt() for tap in taps]

    def distance(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """D between images whose taps are given, shape (N,); either may be of one image."""
        layers = zip(self.weights(), first, second, strict=True)
        return sum(((x - y).square() * w.view(-1, 1, 1)).sum(1).mean((1, 2)) for w, x, y in layers)
