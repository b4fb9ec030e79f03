"""RRDB: the network of residual-in-residual dense blocks that encodes the LR image for SRFlow."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of every LeakyReLU


def conv3(channels_in: int, channels_out: int) -> nn.Conv2d:
    """3x3 convolution with bias that keeps the size (zero padding)."""
    return nn.Conv2d(channels_in, channels_out, 3, padding=1)


class DenseBlock(nn.Module):
    """Five convolutions, each fed with the input and all earlier results; adds 0.2 of the last to the input.

    Args:
        width: channels of input and output.
        growth: channels that each of the first four convolutions adds.
    """

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for i in range(1, 6):
            conv = conv3(width + (i - 1) * growth, growth if i < 5 else width)
            nn.init.kaiming_normal_(conv.weight)
            with torch.no_grad():
                conv.weight *= 0.1  # so the network starts near the identity (SRFlow module_util.py)
                conv.bias.zero_()
            self.add_module(f"conv{i}", conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, h, w) to the same shape."""
        stack = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            stack = torch.cat([stack, F.leaky_relu(conv(stack), SLOPE)], 1)
        return 0.2 * self.conv5(stack) + x


class RRDB(nn.Module):
    """Three dense blocks in a row; 0.2 of the result is added to the input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = (DenseBlock(width, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, h, w) to the same shape."""
        return 0.2 * self.RDB3(self.RDB2(self.RDB1(x))) + x


class RRDBNet(nn.Module):
    """ESRGAN's generator, as SRFlow uses it; names and order of the parameters as in the official files.

    Args:
        scale: scaling factor s, 4 or 8.
        nf: width.
        gc: growth of the dense blocks.
        nb: number of RRDBs.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, scale: int = 4, nf: int = 64, gc: int = 32, nb: int = 23) -> None:
        super().__init__()
        if scale not in (4, 8):
            raise ValueError(f"expected scale 4 or 8, got {scale!r}")
        self.conv_first = conv3(3, nf)
        self.RRDB_trunk = nn.Sequential(*(RRDB(nf, gc) for _ in range(nb)))
        self.trunk_conv = conv3(nf, nf)
        self.upconv1 = conv3(nf, nf)
        self.upconv2 = conv3(nf, nf)
        if scale == 8:
            self.upconv3 = conv3(nf, nf)
        self.HRconv = conv3(nf, nf)
        self.conv_last = conv3(nf, 3)
        self.scale = scale

    def trunk(self, lr: Tensor, taps: tuple[int, ...] = ()) -> tuple[Tensor, list[Tensor]]:
        """Features at LR size.

        Args:
            lr: (N, 3, h, w).
            taps: indices of the RRDBs whose outputs are wanted.

        Returns:
            Features of the whole trunk, (N, nf, h, w), and those after each tap, in the order of `taps`. The
            long skip starts at the last RRDB, not at the first convolution: so it does in SRFlow.
        """
        features, kept = self.conv_first(lr), {}
        for i, block in enumerate(self.RRDB_trunk):
            features = block(features)
            if i in taps:
                kept[i] = features
        return features + self.trunk_conv(features), [kept[i] for i in taps]

    def up(self, features: Tensor, factor: int) -> list[Tensor]:
        """Features enlarged by 2, 4, ... up to `factor`, each from the one before; activated.

        Args:
            features: (N, nf, h, w).
            factor: 1 (empty list), 2, 4 or 8, at most the scale.
        """
        enlarged = []
        for conv in (self.upconv1, self.upconv2, getattr(self, "upconv3", None))[: factor.bit_length() - 1]:
            features = F.leaky_relu(conv(F.interpolate(features, scale_factor=2)), SLOPE)
            enlarged.append(features)
        return enlarged

    def forward(self, lr: Tensor) -> Tensor:
        """The encoder's own SR image, (N, 3, s h, s w): for its pretraining; the flow does without."""
        features = self.up(self.trunk(lr)[0], self.scale)[-1]
        return self.conv_last(F.leaky_relu(self.HRconv(features), SLOPE))
