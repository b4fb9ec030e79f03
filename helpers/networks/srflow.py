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

from helpers.networks.rrdb import RRDBNet
from helpers.networks.srflow_layers import FlowUpsampler, log_normal
from helpers.networks.srflow_sampler import Sampler

__all__ = ["CONFIGURATIONS", "SRFlow", "Sampler", "build", "pad_to_multiple", "strip_prefix"]

CONFIGURATIONS = {
    "df2k_4x": {"scale": 4, "nb": 23, "taps": (1, 8, 15, 22), "L": 3},
    "df2k_8x": {"scale": 8, "nb": 23, "taps": (1, 3, 5, 7), "L": 4},
    "celeba_8x": {"scale": 8, "nb": 8, "taps": (1, 3, 5, 7), "L": 4},
}


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
