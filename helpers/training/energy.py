"""Second stage of the flow's training: draws that look like photographs, by an energy score of their features.

The likelihood punishes a flow that misses a photograph, and hardly one that draws what no photograph shows: speckle.
The energy score E d(x^, x) - 1/2 E d(x^, x^') (Gneiting and Raftery 2007, Sec. 4.3) is least where draws x^ are
distributed as x, for a distance d of negative type; here the Euclidean distance of unit features at each position.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks.compact_flow import CompactFlow

TAPS = (1, 4, 7, 9, 10, 11, 12)  # of SqueezeNet 1.1: after each ReLU and fire module, as LPIPS takes them
IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)  # mean and deviation
Features = Callable[[Tensor], list[Tensor]]  # images in [0, 1] to maps (N, c, h, w), of any number and size


def distance(one: list[Tensor], two: list[Tensor]) -> Tensor:
    """Mean over positions of the Euclidean distance of the features, summed over the maps; (N,)."""
    return sum((a - b).square().sum(1).add(1e-6).sqrt().mean((1, 2)) for a, b in zip(one, two, strict=True))


@dataclass
class Energy:
    """The loss of the second stage: bits per dimension, an energy score, the error at heat 0, and LR consistency.

    Args:
        features: of images, see `unit_features`; its network takes gradients through.
        downscale: f_ds of the LR images, differentiable.
        likelihood, score, middle, consistency: weights of the four terms.
        repulsion: weight of the distance between draws' features; 0.5 is the energy score, which is proper. More lets
            the draws part without limit: at 0.65 they left the LR image (35 dB after 1,700 iterations at x8). Less
            keeps them nearer to one another, and to the photograph, than draws of the true distribution would be.
    """

    features: Features
    downscale: Callable[[Tensor, int], Tensor]
    likelihood: float = 0.25
    score: float = 1.0
    middle: float = 6.0
    consistency: float = 60.0
    repulsion: float = 0.3

    def loss(self, network: CompactFlow, noisy: Tensor, hr: Tensor, lr: Tensor, generator: torch.Generator) -> Tensor:
        """The weighted sum of the terms, a scalar.

        Args:
            network: the flow.
            noisy, hr, lr: dequantized HR, HR and LR patches in [0, 1].
            generator: CPU generator of the latents.
        """
        given = network.encoder(lr)
        bits = network.likelihood(noisy, *given)[1].mean()
        return self.likelihood * bits + sum(self._terms(network, *given, hr, lr, generator).values())

    def _terms(self, network, features, mean, hr, lr, generator) -> dict[str, Tensor]:
        shapes, n = network.latent_shapes(*lr.shape[-2:]), len(hr)
        latents = [torch.randn(2 * n, *shape, generator=generator).to(hr) for shape in shapes]
        latents = [torch.cat((z, torch.zeros_like(z[:n]))) for z in latents]  # two draws of each, and heat 0
        sr = network.draw([f.repeat(3, 1, 1, 1) for f in features], mean.repeat(3, 1, 1, 1), latents, wanted=False)[0]
        draws, middle = sr[: 2 * n].float().clamp(0, 1), sr[2 * n :].float()
        seen = self.features(torch.cat((draws, hr)))
        first, second, true = ([each.split(n)[k] for each in seen] for k in range(3))
        score = 0.5 * (distance(first, true) + distance(second, true)) - self.repulsion * distance(first, second)
        pixels = [[x] for x in (*draws.split(n), hr)]
        score = score + 0.5 * (distance(pixels[0], pixels[2]) + distance(pixels[1], pixels[2]))
        score = score - 0.5 * distance(pixels[0], pixels[1])
        again = self.downscale(sr.float().clamp(0, 1), network.scale) - lr.repeat(3, 1, 1, 1)
        error = again[..., 2:-2, 2:-2].square().mean()  # at its edge a patch is not downscaled like the photograph
        return {
            "score": self.score * score.mean(),
            "middle": self.middle * (middle - hr).square().mean().sqrt(),
            "consistency": self.consistency * error.sqrt(),
        }

    @torch.no_grad()
    def validate(self, network: CompactFlow, hr: Tensor, lr: Tensor, seed: int = 0) -> dict[str, float]:
        """The terms but the likelihood on images never trained on; shapes as `bits_per_dimension`."""
        generator, means = torch.Generator().manual_seed(seed), []
        for high, low in zip(hr.split(4), lr.split(4), strict=True):
            means.append(self._terms(network, *network.encoder(low), high, low, generator))
        return {name: sum(each[name].item() for each in means) / len(means) for name in means[0]}


def unit_features(trunk: nn.Sequential, taps: tuple[int, ...], mean: Tensor, deviation: Tensor) -> Features:
    """Features of an image network, each position of unit length, as LPIPS normalises them.

    Args:
        trunk: layers in order, of images normalised by `mean` and `deviation`, (3, 1, 1).
        taps: numbers of the layers whose outputs are taken.
    """

    def features(images: Tensor) -> list[Tensor]:
        x, out = (images - mean) / deviation, []
        for number, layer in enumerate(trunk[: max(taps) + 1]):
            x = layer(x)
            if number in taps:
                out.append(F.normalize(x.float(), dim=1))
        return out

    return features


def grow(network: CompactFlow, **config) -> CompactFlow:
    """A flow with more residual blocks in its encoder that starts as the same function; or with another `margin`."""
    larger = CompactFlow(**network.config | config)
    state = network.state_dict()
    larger.load_state_dict(larger.state_dict() | state)
    for block in larger.encoder.blocks[network.config["blocks"] :]:
        nn.init.zeros_(block[2].weight)
        nn.init.zeros_(block[2].bias)
    return larger
