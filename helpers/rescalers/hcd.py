"""HCD: an LR image searched for a frozen IRN, so that its upscaler comes closer to the HR image.

Xu et al., ICCV 2023, arXiv 2211.10643; xubingna/HCD, b184972, codes/my_train.py:211-330 (whole images) and
my_train_patch.py (windows). First the HR image is moved within a ball so that the round trip agrees better with the
true one, then the LR image of the result. Radius and step are norms of a whole image in [0, 1], so what a search can do
depends on its size; see `Found.changed`. The official code takes one image at a time; here a batch is searched at
once, each image with its own norms.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from helpers.images import check_hr
from helpers.networks.invertible_layers import quantize_through
from helpers.rescalers import irn
from helpers.runtime import pick_device, seeded

EPS, ALPHA, STEPS = 0.3, 20 / 255, 15  # radius, step, steps of each stage (my_train.py:98-103, test_IRN_x*.yml:8-9)
TARGETS = ("original", "perturbed")
Draw = Callable[[str, str, tuple[int, ...]], Tensor]


class Found(NamedTuple):
    """What a search returns."""

    lr: Tensor  # 8-bit levels, (N, 3, h, w)
    searched: Tensor  # the LR image before it is rounded, in [0, 1]
    hr: Tensor  # the HR image after the first stage, (N, 3, H, W)
    changed: Tensor  # share of the entries of `lr` that are not those of the network's own LR image of `hr`, (N,)


def drawing(generators: Sequence[Generator], heat: float = 1.0) -> Draw:
    """Numbers for `search`, those of image n from generator n.

    Args:
        generators: one an image.
        heat: standard deviation of z.

    Returns:
        `draw(stage, what, shape)`, (N, *shape) on the CPU: "delta" from N(0, 1), "r" uniform in [0, 1), "uniform" in
        [-1, 1), "z" from N(0, heat^2).
    """

    def draw(stage: str, what: str, shape: tuple[int, ...]) -> Tensor:
        if what in ("r", "uniform"):
            unit = torch.stack([torch.rand(shape, generator=generator) for generator in generators])
            return unit if what == "r" else 2 * unit - 1
        return irn.normal(shape, generators, len(generators)) * (heat if what == "z" else 1)

    return draw


def search(
    network: nn.Module,
    hr: Tensor,
    draw: Draw,
    *,
    eps: float = EPS,
    alpha: float = ALPHA,
    hr_steps: int = STEPS,
    lr_steps: int = STEPS,
    restarts: int = 1,
    norm: str = "l2",
    lr_target: str = "original",
) -> Found:
    """Search the LR image of each HR image.

    Args:
        network: an IRN, frozen, in eval mode.
        hr: HR images in [0, 1], (N, 3, H, W), sides multiples of s.
        draw: see `drawing`; stages are called "hr" and "lr".
        eps, alpha, restarts, norm: of both stages, see `descend`.
        hr_steps, lr_steps: of the first and the second stage.
        lr_target: what the second stage aims at: the HR image ("original", as the script for windows does), or the one
            that the first stage has moved ("perturbed", as the script for whole images does).

    Raises:
        ValueError: another `lr_target` or `norm`, images that do not fit, or draws for another number of them.
    """
    check_hr(hr, network.scale)
    if lr_target not in TARGETS:
        raise ValueError(f"lr_target: expected one of {', '.join(TARGETS)}, got {lr_target!r}")
    how = {"eps": eps, "alpha": alpha, "restarts": restarts, "norm": norm}
    [shape] = network.latent_shapes(*(side // network.scale for side in hr.shape[-2:]))

    def upscale(lr: Tensor, stage: str) -> Tensor:
        return network.decode(torch.cat([lr, draw(stage, "z", shape).to(lr)], 1))

    def round_trip(moved: Tensor) -> Tensor:
        return _mse(upscale(quantize_through(network.encode(moved)[0]), "hr"), hr)

    moved = descend(hr, round_trip, partial(draw, "hr"), steps=hr_steps, **how)
    with torch.no_grad():
        own = quantize_through(network.encode(moved)[0])
    goal = hr if lr_target == "original" else moved
    searched = descend(own, lambda lr: _mse(upscale(lr, "lr"), goal), partial(draw, "lr"), steps=lr_steps, **how)
    lr = quantize_through(searched)
    return Found(lr, searched, moved, (lr != own).flatten(1).float().mean(1))


def descend(
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    draw: Callable[[str, tuple[int, ...]], Tensor],
    *,
    eps: float = EPS,
    alpha: float = ALPHA,
    steps: int = STEPS,
    restarts: int = 1,
    norm: str = "l2",
) -> Tensor:
    """Move images within a ball around them, and within [0, 1], so that a loss falls: projected gradient descent.

    Args:
        images: (N, C, h, w) in [0, 1].
        loss: of each moved image, (N,); it is called once a step and once after the last.
        draw: numbers of a start: "delta" and "r", or "uniform", of a shape; see `drawing`.
        eps: radius of the ball.
        alpha: length of a step; the gradient is normalised for each image.
        steps, restarts: of each start, and starts, of which the best end is kept for each image.
        norm: "l2": radius and step are Euclidean norms of a whole image, the start is uniform in the radius; "linf":
            they are bounds of each entry, the step goes along the gradient's sign.

    Returns:
        The moved images; where every end has a loss above 100, or none, the images themselves.

    Raises:
        ValueError: another `norm`, less than one restart, or numbers for another batch.
    """
    if norm not in ("l2", "linf") or restarts < 1:
        raise ValueError(f"expected norm 'l2' or 'linf' and at least one restart, got {norm!r} and {restarts}")
    least, found = images.new_full((len(images),), 100.0), torch.zeros_like(images)
    one = tuple(images.shape[1:])
    for _ in range(restarts):
        if norm == "l2":
            direction, radius = _checked(draw("delta", one), images), draw("r", ()).to(images)
            delta = direction * (radius / _length(direction).flatten()).view(-1, 1, 1, 1) * eps
        else:
            delta = eps * _checked(draw("uniform", one), images)
        delta = _inside(delta, images)
        for _ in range(steps):
            delta = delta.detach().requires_grad_()
            with torch.enable_grad():
                [slope] = torch.autograd.grad(loss(images + delta).sum(), delta)
            delta = delta.detach()
            if norm == "l2":
                delta = delta - alpha * slope / (_length(slope) + 1e-10)
                length = _length(delta)
                delta = torch.where(length > eps, delta * (eps / (length + 1e-7)), delta)
            else:
                delta = (delta - alpha * slope.sign()).clamp(-eps, eps)
            delta = _inside(delta, images)
        with torch.no_grad():
            end = loss(images + delta)
        found = torch.where((end <= least).view(-1, 1, 1, 1), delta, found)
        least = torch.minimum(least, end.nan_to_num(nan=torch.inf))
    return images + found


def rescaler(
    file: str | Path,
    *,
    scale: int | None = None,
    heat: float = 0.0,
    lr_target: str = "original",
    seed: int = 0,
    window: int = 0,
    device: str = "cpu",
    blocks: Sequence[int] | None = None,
    growth: int | None = None,
    **options,
) -> irn.Pair:
    """Make the pair of an IRN checkpoint: the LR image is searched, the upscaler is IRN's own.

    Args:
        file, scale, heat, device: see `irn.rescaler`; `heat` is that of the search too (its authors take 1).
        blocks, growth: that the network must have; None takes any.
        lr_target, options: see `search`.
        seed: of the search; each image gets the same numbers, whatever batch it is in.
        window: side of the windows of the LR image that are searched one by one, as the authors' second script does
            with 128; right and bottom of the last whole one IRN's own LR image stays. 0: the whole image.

    Raises:
        ValueError: see `irn.load`, `search`.
    """
    expected = {"scale": scale, "blocks": blocks, "growth": growth}
    expected = {name: value for name, value in expected.items() if value is not None}
    network = irn.load(file, device=pick_device(device), **expected)
    return pair(network, heat=heat, lr_target=lr_target, seed=seed, window=window, **options)


def pair(network: nn.Module, *, heat: float = 0.0, seed: int = 0, window: int = 0, **options) -> irn.Pair:
    """The two halves of a network. Args and Returns: see `rescaler`."""
    plain, upscale = irn.pair(network, heat=heat)
    device = next(network.parameters()).device
    if options.get("lr_target", TARGETS[0]) not in TARGETS:
        raise ValueError(f"lr_target: expected one of {', '.join(TARGETS)}, got {options['lr_target']!r}")

    def searched(hr: Tensor) -> Tensor:
        draw = drawing([seeded(seed, "hcd") for _ in hr], heat)
        return search(network, hr.to(device), draw, **options).lr.to(hr.device)

    def downscale(hr: Tensor) -> Tensor:
        check_hr(hr, network.scale)
        if not window:
            return searched(hr)
        lr, side = plain(hr).clone(), window * network.scale
        for top in range(0, lr.shape[2] - window + 1, window):
            for left in range(0, lr.shape[3] - window + 1, window):
                y, x = top * network.scale, left * network.scale
                part = searched(hr[..., y : y + side, x : x + side])
                lr[..., top : top + window, left : left + window] = part
        return lr

    return downscale, upscale


def _checked(numbers: Tensor, images: Tensor) -> Tensor:
    if numbers.shape != images.shape:
        raise ValueError(f"draw: expected numbers of shape {tuple(images.shape)}, got {tuple(numbers.shape)}")
    return numbers.to(images)


def _mse(found: Tensor, wanted: Tensor) -> Tensor:
    return (found - wanted).square().mean((1, 2, 3))


def _length(images: Tensor) -> Tensor:
    """Euclidean norm of each image, (N, 1, 1, 1)."""
    return torch.linalg.vector_norm(images.flatten(1), dim=1).view(-1, 1, 1, 1)


def _inside(delta: Tensor, images: Tensor) -> Tensor:
    """Clip so that the moved images stay within [0, 1]."""
    return torch.maximum(torch.minimum(delta, 1 - images), -images)
