"""Training of the embedded generator: a small StyleGAN on a few thousand faces, growing in size.

The recipe: non-saturating loss with lazy R1 (Mescheder et al., ICML 2018; Karras et al., CVPR 2020), style mixing,
an exponential moving average of the weights, and augmentations that both real and generated images pass before the
discriminator sees them (Zhao et al., NeurIPS 2020), so that few images last longer.
"""

import io
import math
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
from torch import Tensor, nn

from helpers.generators import gaussian_fit
from helpers.networks import stylegan
from helpers.networks.style_discriminator import Discriminator
from helpers.runtime import seeded
from helpers.training.loop import follow, train

EDGES = {"maker": "synthesis.torgb", "critic": "fromrgb", "average": "synthesis.torgb"}  # layers next to the image


class Stage(NamedTuple):
    """A part of the training at one size of images."""

    resolution: int
    images: int  # real images shown until the next stage
    gamma: float  # weight of R1


class Widths(NamedTuple):
    """Sizes of the generator and the discriminator."""

    fmap_base: int = 1024
    fmap_max: int = 128
    style_size: int = 128  # also of the latents
    mapping_layers: int = 4


class Generator(nn.Module):
    """Mapping and synthesis network.

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
        """Draw images from pairs of latents.

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
    """Read images of zip archives or folders, in the order of their names, reduced by Pillow's Lanczos to side x side.

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
    """Shift each image by up to `share` of its side along both axes; zero where nothing is left.

    Args:
        images: (N, C, H, W).
        share: of the side.
        generator: CPU generator.
    """
    n, _, height, width = images.shape
    places = []
    for side in (height, width):
        most = int(side * share)
        shift = torch.randint(-most, most + 1, (n, 1), generator=generator)
        places.append((torch.arange(side) + shift + 1).clamp(0, side + 1).to(images.device))  # 0 and side + 1: border
    rows, columns = places
    bordered = F.pad(images, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    each = torch.arange(n, device=images.device)[:, None, None]
    return bordered[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def draw(
    network: Generator, count: int, generator: torch.Generator, *, mixing: float = 0.0, share: float = 1.0
) -> Tensor:
    """Draw images from random latents and noise maps.

    Args:
        network: the generator.
        count: number of images.
        generator: CPU generator.
        mixing: probability of taking the styles from two latents, the second from a random layer on.
        share: of the last block, see `Generator`.

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
    """Draw images without mixing: (count, 3, R, R), in [0, 1], on the CPU."""
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
    """Train a generator of faces; resume from `checkpoint`.

    Args:
        faces: training images of the last stage's size, uint8, (N, 3, R, R).
        held_out: other faces, (M, 3, R, R); where the discriminator scores them low, it has overfitted.
        checkpoint, every, seconds, progress: file and pace of `loop.train`; it validates every so many images.
        stages: sizes, from small to large, each twice the one before.
        widths: of the networks.
        judge: scores samples in [0, 1], (2000, 3, R, R); lower is better. Without one the last state is the best.
        batch: images a step, a multiple of 4.
        peak: learning rate of Adam (0, 0.99) in both networks.
        cooldown: share of all images over which it falls linearly to a tenth.
        fade: images over which a new size is mixed in.
        half_life: of the moving average, in images; at most a twentieth of those seen.
        mixing: probability of two latents in one image.
        shift: augmentation, the largest translation as a share of the side; flips are always on.
        lazy: steps between two R1 penalties, which count as many times.
        seed: of everything random.
        device: where to train.
        bfloat16: convolutions in bfloat16, R1 always in float32.

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
    generator, first_weights = (torch.Generator().manual_seed(seed) for _ in range(2))
    state, pictures, ratio = {"generator": generator, "first_weights": first_weights}, {}, lazy / (lazy + 1)
    device, cast = torch.device(device), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bfloat16)

    def place(iteration: int) -> tuple[int, float]:
        """Number of the stage, and share of the last block."""
        shown = iteration * batch
        number = next((n for n, end in enumerate(ends) if shown < end), len(ends) - 1)
        return number, min(1.0, (shown - ends[number] + stages[number].images) / fade) if number else 1.0

    def prepare(iteration: int) -> None:
        number, _ = place(iteration)
        if pictures.get("side") == sizes[number]:
            return
        networks = start(sizes[number], widths, first_weights, fades=number > 0)
        for name, network in networks.items():
            if name in state:
                grow(state[name], network, EDGES[name])
            state[name] = network.to(device, memory_format=torch.channels_last)
        # lazy R1 is one more step of the critic in `lazy`
        for name, factor in (("maker", 1.0), ("critic", ratio)):
            state[f"{name}_optimizer"] = torch.optim.Adam(
                networks[name].parameters(), lr=peak * factor, betas=(0.0, 0.99**factor)
            )
        real, unseen = (_reduce(images, sizes[number]).to(device) for images in (faces, held_out))
        pictures.update(side=sizes[number], real=real, unseen=unseen)

    def update(name: str, loss: Tensor, fall: float) -> None:
        optimizer = state[f"{name}_optimizer"]
        optimizer.param_groups[0]["lr"] = peak * fall * (ratio if name == "critic" else 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def step(iteration: int) -> Tensor:
        number, share = place(iteration)
        maker, critic, real = state["maker"], state["critic"], pictures["real"]
        fall = min(1.0, 0.1 + 0.9 * (total - iteration * batch) / (cooldown * total))
        real = _to_signed(real[torch.randint(len(real), (batch,), generator=generator)], generator)
        with cast:  # both networks learn from the same generated images
            fake = draw(maker, batch, generator, mixing=mixing, share=share)
            seen = [translate(images, shift, generator) for images in (real, fake.detach())]
            scores = [critic(images, share).float() for images in seen]
            loss_critic = F.softplus(-scores[0]).mean() + F.softplus(scores[1]).mean()
        update("critic", loss_critic, fall)
        critic.requires_grad_(False)
        with cast:
            loss_maker = F.softplus(-critic(translate(fake, shift, generator), share).float()).mean()
        update("maker", loss_maker, fall)
        critic.requires_grad_(True)
        if iteration % lazy == 0:
            weight = stages[number].gamma * lazy
            update("critic", penalty(critic, translate(real, shift, generator), share, weight), fall)
        shown = (iteration + 1) * batch
        follow(state["average"], maker, 1 - 0.5 ** (batch / min(half_life, max(batch, shown / 20))))
        return torch.stack([loss_critic, loss_maker, scores[0].mean(), scores[1].mean()]).detach()

    @torch.no_grad()
    def validate(done: int) -> tuple[dict[str, float], float]:
        number, share = place(done - 1)
        parts = pictures["unseen"][:512].split(16)
        score = torch.cat([state["critic"](_to_signed(part), share) for part in parts]).mean()
        row = {"images": done * batch, "resolution": sizes[number], "held_out": score.item(), "judge": math.nan}
        if number < len(stages) - 1 or share < 1:
            return row, math.nan
        if judge is None:
            return row, -done
        row["judge"] = judge(samples(state["average"], 2000, seeded(seed, "judge")))
        return row, row["judge"]

    best = train(
        step, validate, state, checkpoint, iterations=-(-total // batch), prepare=prepare,
        saves={-(-images // batch) for images in (*range(every, total, every), *ends)},
        facts={"widths": tuple(widths), "batch": batch}, losses=("loss_d", "loss_g", "real", "fake"),
        seconds=seconds, progress=progress,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # its first weights are thrown away
        result = Generator(pictures["side"] if best is None else sizes[-1], widths)
    weights = state["average"].state_dict() if best is None else best
    result.load_state_dict({name: value for name, value in weights.items() if not name.startswith("before.")})
    return result.eval()


def start(resolution: int, widths: Widths, first_weights: torch.Generator, *, fades: bool) -> dict[str, nn.Module]:
    """Untrained networks of one size.

    Args:
        resolution, widths, fades: as `Generator`.
        first_weights: CPU generator of the weights.

    Returns:
        The generator ("maker"), the discriminator ("critic") and a copy of the generator for the moving average.
    """
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(first_weights.get_state())
        maker = Generator(resolution, widths, fades)
        critic = Discriminator(resolution, widths.fmap_base, widths.fmap_max, fades)
        first_weights.set_state(torch.get_rng_state())
    return {"maker": maker, "critic": critic, "average": deepcopy(maker).eval().requires_grad_(False)}


def penalty(critic: Discriminator, real: Tensor, share: float, weight: float) -> Tensor:
    """Compute R1: weight / 2 times the squared norm of the critic's gradient at real images, in float32."""
    real = real.requires_grad_()
    slope = torch.autograd.grad(critic(real, share).sum(), real, create_graph=True)[0]
    return weight / 2 * slope.square().sum((1, 2, 3)).mean()


def tensors(network: Generator) -> dict[str, Tensor]:
    """Collect what a generator file holds: `mapping.*`, `synthesis.*`, the Gaussian fit (`fit.mean`, `fit.std`)."""
    mean, std = gaussian_fit(network.mapping)
    return network.state_dict() | {"fit.mean": mean, "fit.std": std}


def _reduce(images: Tensor, side: int) -> Tensor:
    """Average squares of pixels down to `side`; uint8 to uint8."""
    factor = images.shape[-1] // side
    if factor == 1:
        return images
    return torch.cat([F.avg_pool2d(part.float(), factor).round().byte() for part in images.split(1000)])


def _to_signed(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Map levels to [-1, 1]; mirror each image with probability 1/2 where a generator is given."""
    images = images.float() / 127.5 - 1
    if generator is None:
        return images
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator).to(images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)
