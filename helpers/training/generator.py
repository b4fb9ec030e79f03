"""Training of the embedded generator: a small StyleGAN on a few thousand faces, growing in size, stoppable at any time.

The recipe: non-saturating loss with lazy R1 (Mescheder et al., ICML 2018; Karras et al., CVPR 2020), style mixing,
an exponential moving average of the weights, and augmentations that both real and generated images pass before the
discriminator sees them (Zhao et al., NeurIPS 2020), so that few images last longer.
"""

import io
import math
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers.generators import gaussian_fit
from helpers.networks import stylegan
from helpers.networks.style_discriminator import Discriminator
from helpers.runtime import seeded, write_checkpoint


class Stage(NamedTuple):
    """A part of the training at one size of images."""

    resolution: int
    images: int  # real images shown until the next stage
    gamma: float  # weight of R1


class Widths(NamedTuple):
    """Sizes of both networks."""

    fmap_base: int = 1024
    fmap_max: int = 128
    style_size: int = 128  # also of the latents
    mapping_layers: int = 4


class Generator(nn.Module):
    """Mapping and synthesis.

    Args:
        resolution: side of the images.
        widths: of the networks.
        fades: whether there is a `before`, the layer next to the image of half the size, to fade the last block in.
    """

    def __init__(self, resolution: int, widths: Widths, fades: bool = False) -> None:
        super().__init__()
        self.mapping = stylegan.Mapping(widths.style_size, widths.style_size, widths.mapping_layers)
        self.synthesis = stylegan.Synthesis(resolution, widths.fmap_base, widths.fmap_max, widths.style_size)
        half = min(4 * widths.fmap_base // resolution, widths.fmap_max)
        self.before = stylegan.Conv(half, 3, 1, gain=1.0) if fades else None

    def forward(self, latents: Tensor, cuts: Tensor, noise: list[Tensor], share: float = 1.0) -> Tensor:
        """Images of pairs of latents.

        Args:
            latents: (N, 2, D).
            cuts: the layers from this one on take their style from the second latent, (N,).
            noise: one map per layer.
            share: of the last block, in [0, 1]; the rest is the image of half the size.

        Returns:
            (N, 3, R, R), nominally in [-1, 1].
        """
        with torch.autocast(latents.device.type, enabled=False):
            first, second = self.mapping(latents.flatten(0, 1)).view(latents.shape[0], 2, 1, -1).unbind(1)
        layers = torch.arange(self.synthesis.layers, device=cuts.device)
        *_, half, whole = self.synthesis.trunk(torch.where((layers < cuts[:, None])[..., None], first, second), noise)
        with torch.autocast(latents.device.type, enabled=False):
            images = self.synthesis.torgb(whole.float())
            if share < 1:
                small = F.interpolate(self.before(half.float()), scale_factor=2, mode="nearest")
                images = torch.lerp(small, images, share)
        return images


def grow(network: nn.Module, larger: nn.Module, edge: str) -> nn.Module:
    """Give `larger` the weights of `network` wherever both have them, and its outermost layer as `before`.

    Args:
        network: `Generator` or `Discriminator` of half the size.
        larger: the same kind, untrained, which fades.
        edge: path of the layer next to the image, which belongs to one size: "synthesis.torgb" or "fromrgb".
    """
    state, outermost = network.state_dict(), network.get_submodule(edge).state_dict()
    kept = {name: value for name, value in state.items() if not name.startswith((edge, "before."))}
    kept |= {f"before.{name}": value for name, value in outermost.items()}
    larger.load_state_dict(kept, strict=False)
    return larger


def read_faces(paths: Iterable[str | Path], side: int) -> Tensor:
    """Images of zip archives or folders, in the order of their names, reduced by Pillow's Lanczos to side x side.

    Args:
        paths: archives or folders of square images.
        side: of the result.

    Returns:
        (N, 3, side, side), uint8.

    Raises:
        ValueError: no such path, no images, or one that is not square or is smaller.
    """
    images = []
    for path in map(Path, paths):
        for name, data in _files(path):
            with Image.open(data) as file:
                image = file.convert("RGB")
            if image.width != image.height or image.width < side:
                raise ValueError(f"{path}: {name}: expected a square of at least {side}, got {image.size}")
            image = image if image.width == side else image.resize((side, side), Image.Resampling.LANCZOS)
            images.append(np.asarray(image))
    if not images:
        raise ValueError(f"expected archives or folders with images, found none in {[str(path) for path in paths]}")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _files(path: Path) -> Iterable[tuple[str, io.BytesIO | Path]]:
    endings = (".webp", ".png", ".jpg", ".jpeg")
    if path.is_dir():
        yield from ((file.name, file) for file in sorted(path.iterdir()) if file.suffix.lower() in endings)
    elif path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.lower().endswith(endings):
                    yield name, io.BytesIO(archive.read(name))
    else:
        raise ValueError(f"{path}: expected a zip archive or a folder of images")


def translate(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `share` of its side along both axes, black (zero) where nothing is left.

    Args:
        images: (N, C, H, W).
        share: of the side.
        generator: CPU generator.
    """
    n, _, height, width = images.shape
    moved = []
    for side in (height, width):
        most = int(side * share)
        shift = torch.randint(-most, most + 1, (n, 1), generator=generator)
        moved.append((torch.arange(side) + shift + 1).clamp(0, side + 1).to(images.device))  # 0 and side + 1: border
    rows, columns = moved
    bordered = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    each = torch.arange(n, device=images.device)[:, None, None]
    return bordered[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def draw(
    network: Generator, count: int, generator: torch.Generator, *, mixing: float = 0.0, share: float = 1.0
) -> Tensor:
    """Images of random latents and noise maps from a CPU generator.

    Args:
        network: the generator.
        count: number of images.
        generator: CPU generator.
        mixing: probability of taking the styles from two latents, the second from a random layer on.
        share: of the last block.

    Returns:
        (count, 3, R, R), nominally in [-1, 1].
    """
    synthesis, device = network.synthesis, next(network.parameters()).device
    latents = torch.randn(count, 2, network.mapping.latent_size, generator=generator)
    cuts = torch.randint(1, synthesis.layers, (count,), generator=generator)
    mixed = torch.rand(count, generator=generator) < mixing
    cuts = torch.where(mixed, cuts, synthesis.layers)
    noise = [torch.randn(count, *shape, generator=generator).to(device) for shape in synthesis.noise_shapes()]
    return network(latents.to(device), cuts.to(device), noise, share)


@torch.no_grad()
def samples(network: Generator, count: int, generator: torch.Generator, batch: int = 100) -> Tensor:
    """`draw` without mixing, in [0, 1], (count, 3, R, R), on the CPU."""
    parts = [draw(network, min(batch, count - at), generator) for at in range(0, count, batch)]
    return ((torch.cat(parts) + 1) / 2).clamp(0, 1).cpu()


def train_generator(
    faces: Tensor,
    held_out: Tensor,
    checkpoint: str | Path,
    *,
    stages: Sequence[Stage] = (Stage(16, 50_000, 0.3), Stage(32, 120_000, 0.5), Stage(64, 140_000, 0.5)),
    widths: Widths = Widths(),  # noqa: B008 (immutable)
    judge: Callable[[Tensor], float] | None = None,
    batch: int = 16,
    peak: float = 2e-3,
    cooldown: float = 0.15,
    fade: int = 15_000,
    half_life: int = 10_000,
    mixing: float = 0.9,
    shift: float = 0.125,
    lazy: int = 16,
    seed: int = 0,
    every: int = 10_000,
    seconds: float = math.inf,
    device: str | torch.device = "cpu",
    bfloat16: bool = True,
    progress: bool = True,
) -> Generator:
    """Train a generator; resumes from `checkpoint`.

    Args:
        faces: training images of the last stage's size, uint8, (N, 3, R, R).
        held_out: others, on which the discriminator is watched: it has overfitted where it scores them low.
        checkpoint: file of the resumable state, replaced atomically; its `.csv` neighbour holds the curve.
        stages: sizes, from small to large, each twice the one before.
        widths: of the networks.
        judge: samples in [0, 1], (2000, 3, R, R), to a number; lower is better. Without one the last state wins.
        batch: images a step, a multiple of 4.
        peak: learning rate of Adam (0, 0.99) in both networks.
        cooldown: share of all images over which it falls linearly to a tenth.
        fade: images over which a new size is mixed in.
        half_life: of the moving average, in images; at most a twentieth of those seen.
        mixing: probability of two latents in one image.
        shift: augmentation, the largest translation as a share of the side; flips are always on.
        lazy: steps between two R1 penalties, which count as many times.
        seed: of everything random.
        every: images between checkpoints.
        seconds: stop (resumably) after this time.
        device: where to train.
        bfloat16: convolutions in bfloat16, R1 always in float32.
        progress: show a bar.

    Returns:
        The averaged generator with the lowest `judge` at the full size so far, or the last one before that, in eval
        mode on the CPU.

    Raises:
        FloatingPointError: a loss is not finite.
        ValueError: images of another size than the last stage's, or stages that do not double.
    """
    sizes = [stage.resolution for stage in stages]
    if sizes != [sizes[0] << step for step in range(len(sizes))] or faces.shape[-1] != sizes[-1]:
        raise ValueError(f"stages: expected doubling sizes up to {faces.shape[-1]}, got {sizes}")
    total, ends = sum(stage.images for stage in stages), list(accumulate(stage.images for stage in stages))
    training = _Training(widths, peak, lazy, seed, torch.device(device))
    checkpoint = Path(checkpoint)
    if checkpoint.exists():
        training.load(torch.load(checkpoint, map_location="cpu", weights_only=True))
    began, before, stop = time.perf_counter(), training.seconds, False
    bar = tqdm(total=total, initial=training.shown, unit="img", disable=not progress)
    for number, (stage, end) in enumerate(zip(stages, ends, strict=True)):
        if stop or training.shown >= end:
            continue
        if training.resolution != stage.resolution:
            training.start(stage.resolution, fades=number > 0)
        real, unseen = (_reduced(images, stage.resolution).to(device) for images in (faces, held_out))
        recent = []
        while training.shown < end and not stop:
            share = min(1.0, (training.shown - end + stage.images) / fade) if number else 1.0
            training.rate(min(1.0, 0.1 + 0.9 * (total - training.shown) / (cooldown * total)))
            shown = _signed(real[torch.randint(len(real), (batch,), generator=training.generator)], training.generator)
            recent.append(training.step(shown, share, mixing, shift, bfloat16))
            if training.shown % (batch * lazy) == 0:
                training.penalise(shown, share, shift, stage.gamma * lazy)
            training.shown += batch
            training.follow(0.5 ** (batch / min(half_life, max(batch, training.shown / 20))))
            bar.update(batch)
            stop = time.perf_counter() - began >= seconds
            if training.shown // every == (training.shown - batch) // every and training.shown < end and not stop:
                continue
            entry = dict(zip(("loss_d", "loss_g", "real", "fake"), torch.stack(recent).mean(0).tolist(), strict=True))
            if not all(map(math.isfinite, entry.values())):
                raise FloatingPointError(f"{entry} after {training.shown} images; the last checkpoint is whole")
            recent.clear()
            entry |= {"held_out": training.score(unseen[:512], share), "judge": math.nan}
            if stage is stages[-1] and share == 1:
                average = training.networks["average"]
                entry["judge"] = judge(samples(average, 2000, seeded(seed, "judge"))) if judge else math.nan
                if judge is None or entry["judge"] < training.best["value"]:
                    state = {name: value.cpu().clone() for name, value in average.state_dict().items()}
                    training.best = {"value": entry["judge"], "shown": training.shown, "state": state}
            training.seconds = before + time.perf_counter() - began
            place = {"images": training.shown, "seconds": round(training.seconds), "resolution": stage.resolution}
            training.curve.append(place | entry)
            training.save(checkpoint)
    bar.close()
    state, resolution = training.best["state"], sizes[-1]
    if state is None:
        state, resolution = training.networks["average"].state_dict(), training.resolution
    result = Generator(resolution, widths)
    result.load_state_dict({name: value for name, value in state.items() if not name.startswith("before.")})
    return result.eval()


class _Training:
    """Networks, optimizers, random numbers and progress: all that a checkpoint holds."""

    EDGES = {"maker": "synthesis.torgb", "critic": "fromrgb", "average": "synthesis.torgb"}

    def __init__(self, widths: Widths, peak: float, lazy: int, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)  # of the first weights
        self.widths, self.peak, self.lazy, self.device = widths, peak, lazy, device
        self.generator = torch.Generator().manual_seed(seed)
        self.resolution = self.shown = 0
        self.seconds, self.curve = 0.0, []
        self.best = {"value": math.inf, "shown": 0, "state": None}
        self.networks: dict[str, nn.Module] = {}

    def start(self, resolution: int, fades: bool) -> None:
        """Networks of this size, grown from those of half the size where there are any, and fresh optimizers."""
        maker = Generator(resolution, self.widths, fades)
        critic = Discriminator(resolution, self.widths.fmap_base, self.widths.fmap_max, fades)
        new = {"maker": maker, "critic": critic, "average": deepcopy(maker).eval().requires_grad_(False)}
        for name, network in self.networks.items():
            grow(network, new[name], self.EDGES[name])
        self.networks = {name: each.to(self.device, memory_format=torch.channels_last) for name, each in new.items()}
        self.resolution, self.ratio = resolution, self.lazy / (self.lazy + 1)  # lazy R1: one more step in `lazy`
        self.optimizers = {
            "maker": torch.optim.Adam(maker.parameters(), lr=self.peak, betas=(0.0, 0.99)),
            "critic": torch.optim.Adam(critic.parameters(), lr=self.peak, betas=(0.0, 0.99**self.ratio)),
        }

    def load(self, state: dict) -> None:
        """Go on where `save` left off."""
        if state["widths"] != tuple(self.widths):
            raise ValueError(f"widths: expected those of the checkpoint, {state['widths']}, got {tuple(self.widths)}")
        self.start(state["resolution"], fades=any(name.startswith("before.") for name in state["networks"]["maker"]))
        for mine, its in ((self.networks, state["networks"]), (self.optimizers, state["optimizers"])):
            for name, part in mine.items():
                part.load_state_dict(its[name])
        self.generator.set_state(state["generator"])
        for name in ("shown", "seconds", "curve", "best"):
            setattr(self, name, state[name])

    def save(self, checkpoint: Path) -> None:
        """Replace the checkpoint in one step, and write the curve beside it."""
        state = {name: getattr(self, name) for name in ("resolution", "shown", "seconds", "curve", "best")}
        state |= {"widths": tuple(self.widths), "generator": self.generator.get_state()}
        state["networks"] = {name: network.state_dict() for name, network in self.networks.items()}
        state["optimizers"] = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        write_checkpoint(checkpoint, state, self.curve)

    def rate(self, share: float) -> None:
        """Set the learning rates to this share of their peak."""
        for name, factor in (("maker", 1.0), ("critic", self.ratio)):
            self.optimizers[name].param_groups[0]["lr"] = self.peak * share * factor

    def step(self, real: Tensor, share: float, mixing: float, shift: float, bfloat16: bool) -> Tensor:
        """One update of each network on the same generated images; both losses and the critic's mean scores."""
        maker, critic, _ = self.networks.values()
        cast = torch.autocast(real.device.type, torch.bfloat16, enabled=bfloat16)
        with cast:
            fake = draw(maker, len(real), self.generator, mixing=mixing, share=share)
            seen = [translate(images, shift, self.generator) for images in (real, fake.detach())]
            scores = [critic(images, share).float() for images in seen]
            loss_d = F.softplus(-scores[0]).mean() + F.softplus(scores[1]).mean()
        self._update("critic", loss_d)
        critic.requires_grad_(False)
        with cast:
            loss_g = F.softplus(-critic(translate(fake, shift, self.generator), share).float()).mean()
        self._update("maker", loss_g)
        critic.requires_grad_(True)
        return torch.stack([loss_d, loss_g, scores[0].mean(), scores[1].mean()]).detach()

    def penalise(self, real: Tensor, share: float, shift: float, weight: float) -> None:
        """R1: weight / 2 times the squared norm of the critic's gradient at real images, in float32."""
        real = translate(real, shift, self.generator).requires_grad_()
        slope = torch.autograd.grad(self.networks["critic"](real, share).sum(), real, create_graph=True)[0]
        self._update("critic", weight / 2 * slope.square().sum((1, 2, 3)).mean())

    def _update(self, name: str, loss: Tensor) -> None:
        self.optimizers[name].zero_grad()
        loss.backward()
        self.optimizers[name].step()

    @torch.no_grad()
    def follow(self, keep: float) -> None:
        """Move the average towards the generator."""
        average, maker = (list(self.networks[name].parameters()) for name in ("average", "maker"))
        torch._foreach_lerp_(average, maker, 1 - keep)

    @torch.no_grad()
    def score(self, images: Tensor, share: float) -> float:
        """The critic's mean score of images, uint8."""
        return torch.cat([self.networks["critic"](_signed(part), share) for part in images.split(16)]).mean().item()


def export(network: Generator, path: str | Path, **facts: str | float) -> None:
    """Write a generator as the search loads it: both networks and the Gaussian fit, `facts` in the header.

    Args:
        network: the averaged generator.
        path: of the safetensors file: names `mapping.*`, `synthesis.*`, `fit.mean`, `fit.std`, float32.
        facts: data, recipe and the like.
    """
    tensors = {name: value for name, value in network.state_dict().items() if not name.startswith("before.")}
    tensors["fit.mean"], tensors["fit.std"] = gaussian_fit(network.mapping)
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in tensors.items()}
    save_file(tensors, str(path), metadata={key: str(value) for key, value in facts.items()})


def _reduced(images: Tensor, side: int) -> Tensor:
    """Means over squares of pixels, uint8."""
    factor = images.shape[-1] // side
    if factor == 1:
        return images
    return torch.cat([F.avg_pool2d(part.float(), factor).round().byte() for part in images.split(1000)])


def _signed(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Levels to [-1, 1], every other image mirrored at random where a generator is given."""
    images = images.float() / 127.5 - 1
    if generator is None:
        return images
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)
