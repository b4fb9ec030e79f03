"""The discriminator that a small StyleGAN is trained against: residual, with the spread of the batch as a feature."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks.stylegan import SLOPE, Conv, Dense, Equalised


class DownConv(Equalised):
    """Convolution of stride 2 whose even-sized kernel is centred on each 2x2 square, so that nothing is shifted."""

    def __init__(self, inputs: int, outputs: int, size: int, gain: float = math.sqrt(2)) -> None:
        super().__init__((outputs, inputs, size, size), gain)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), self.bias, stride=2, padding=self.weight.shape[-1] // 2 - 1)


class DownBlock(nn.Module):
    """Half the size: 3x3, then 4x4 of stride 2, beside a linear 2x2 of stride 2; the sum keeps its variance."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0, self.conv1 = Conv(inputs, inputs, 3), DownConv(inputs, outputs, 4)
        self.skip = DownConv(inputs, outputs, 2, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        deep = F.leaky_relu(self.conv1(F.leaky_relu(self.conv0(x), SLOPE)), SLOPE)
        return (deep + self.skip(x)) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """Images to one number each, large for photographs; the widths mirror those of `stylegan.Synthesis`.

    Args:
        resolution: side of the images, a power of 2 from 8 on.
        fmap_base, fmap_max: widths, as of `Synthesis`.
        fades: whether there is a `before`, the first layer of half the size, to fade the first block in.
        group: images whose spread is taken together (minibatch standard deviation, Karras et al., ICLR 2018).
    """

    def __init__(self, resolution: int, fmap_base: int, fmap_max: int, fades: bool = False, group: int = 4) -> None:
        super().__init__()
        sizes = [resolution >> step for step in range(resolution.bit_length() - 2)]  # down to 4
        widths = [min(2 * fmap_base // size, fmap_max) for size in sizes]
        self.group = group
        self.fromrgb = Conv(3, widths[0], 1)
        self.blocks = nn.ModuleDict(
            {f"{size}x{size}": DownBlock(*pair) for size, *pair in zip(sizes, widths, widths[1:], strict=False)}
        )
        self.conv = Conv(widths[-1] + 1, widths[-1], 3)
        self.dense0 = Dense(widths[-1] * 16, widths[-1], math.sqrt(2))
        self.dense1 = Dense(widths[-1], 1)
        self.before = Conv(3, widths[1], 1) if fades else None

    def forward(self, images: Tensor, share: float = 1.0) -> Tensor:
        """Scores of images.

        Args:
            images: (N, 3, resolution, resolution) in about [-1, 1]; N a multiple of `group`, or below it.
            share: of the first block, in [0, 1]; the rest passes it by through `before`.

        Returns:
            (N,).
        """
        x = F.leaky_relu(self.fromrgb(images), SLOPE)
        for number, block in enumerate(self.blocks.values()):
            x = block(x)
            if number == 0 and share < 1:
                x = torch.lerp(F.leaky_relu(self.before(F.avg_pool2d(images, 2)), SLOPE).to(x), x, share)
        groups = x.float().view(min(self.group, len(x)), -1, *x.shape[1:])
        spread = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        spread = spread.repeat(len(groups)).view(-1, 1, 1, 1).expand(-1, -1, *x.shape[2:])
        x = F.leaky_relu(self.conv(torch.cat([x, spread.to(x)], 1)), SLOPE)
        return self.dense1(F.leaky_relu(self.dense0(x.flatten(1)), SLOPE))[:, 0]
