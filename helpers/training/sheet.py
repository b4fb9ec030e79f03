"""Draws of the same crops while a flow is trained: what the curve does not show."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from helpers.images import read_rgb, write_rgb
from helpers.networks.compact_flow import CompactFlow


@dataclass
class Sheet:
    """Draws a few crops at checkpoints of a training, each time from the same latents, into `folder`.

    A checkpoint's draws are one PNG file named by its iteration, the crops side by side. What is not finite is black.

    Args:
        folder: gets the files.
        lr: LR crops in [0, 1] that are not trained on, (N, 3, h, w).
        pace: least seconds between two checkpoints that are drawn; the first of each call of the training is.
        heat: standard deviation of the latents.
        seed: of the latents.
    """

    folder: str | Path
    lr: Tensor
    pace: float = 3600.0
    heat: float = 1.0
    seed: int = 0
    _last: float = field(default=-float("inf"), init=False, repr=False)

    @torch.no_grad()
    def draw(self, network: CompactFlow) -> list[Tensor]:
        """A draw of each crop, (1, 3, H, W) in [0, 1] each, on the CPU."""
        generator, weight = torch.Generator().manual_seed(self.seed), next(network.parameters())
        shapes = network.latent_shapes(*self.lr.shape[-2:])
        latents = [self.heat * torch.randn(len(self.lr), *shape, generator=generator) for shape in shapes]
        drawn = network.sample(self.lr.to(weight), [z.to(weight) for z in latents])
        return list(drawn.cpu().nan_to_num(0).clamp(0, 1).split(1))

    def add(self, network: CompactFlow, iteration: int) -> None:
        """Write the draws of a checkpoint, unless the last ones are younger than `pace`."""
        if time.perf_counter() - self._last < self.pace:
            return
        self._last = time.perf_counter()
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        write_rgb(torch.cat(self.draw(network), 3), Path(self.folder, f"{iteration:07d}.png"))

    def read(self) -> dict[int, list[Tensor]]:
        """The draws in the folder: iteration -> crops, (1, 3, H, W) in [0, 1] each, oldest first; empty before any."""
        paths = sorted(Path(self.folder).glob("[0-9]*.png"))
        return {int(path.stem): list(read_rgb(path).chunk(len(self.lr), 3)) for path in paths}
