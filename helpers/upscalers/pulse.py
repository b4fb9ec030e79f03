"""PULSE: search the latent sphere of a generator for HR images that downscale to the given LR image.

f_us(I_LR, i) = G(z_i*), z_i* = argmin || I_LR - f_ds(G(z_i)) || over the sphere, from the random start z_i
(Liang et al., CVPR 2024, Eq. 4; Menon et al., CVPR 2020; github.com/adamian98/pulse, commit 40cacb97, whose
lines are quoted below). The search runs all starts of all images as one batch: it sums losses over samples and does
everything else to each sample alone, so its companions reach a sample through float rounding only. It drops none: each
sample carries its residual and whether it converged.

Rounding grows on the way. Of 48 draws of the embedded generator (x8, `PRESETS["pulse"]`, one CPU thread), taken eight
at a time instead of one by one, D changed after 10 steps by up to 1 %; after 100 by 0.05 to 0.2 % in the median, by 2
to 4 % in every tenth draw, by up to 16 % in the worst (lpips_embedded; mse 13 %, 1-ssim 7 %), and the mean of the eight
of an image by up to 4 %. All are answers of one search; the same bytes come from the same batch on one kind of machine,
so `runs` takes samples one by one.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import generators
from helpers.images import check_images
from helpers.upscalers.pulse_losses import SCHEDULES, bicubic_proxy, losses, parse_loss, straight_through, through_file

GENERATORS: dict[str, Callable] = {  # key of `UPSCALERS` -> device -> the generator that it searches
    "embedded_pulse": generators.embedded_generator,
    "pulse": generators.official_generator,
}
_SHARED = {
    "loss": "100*L2+0.05*GEOCROSS",
    "learning_rate": 0.4,
    "schedule": "linear1cycledrop",
    "optimizer": "adam",
    "tile_latent": False,
    "eps": 2e-3,
}
PRESETS = {  # options of `search`
    "ida_rd": _SHARED | {"steps": 200, "noise": "fixed"},  # the paper, section 4.1; what it does not state is PULSE's
    "pulse": _SHARED | {"steps": 100, "noise": "trainable", "trainable_noise": 5},  # run.py:30-48
}


class State(NamedTuple):
    """One point of the path, before step `step` changes the latents."""

    step: int
    learning_rate: float
    latents: Tensor  # on the sphere, (N, L, D), or (N, 1, D) if tiled
    noise: list[Tensor | None]  # a map per layer
    sr: Tensor  # (N, 3, R, R), not clipped
    lr: Tensor  # f_ds of it
    residual: Tensor  # mean squared difference to the LR image, (N,)
    terms: dict[str, Tensor]  # the losses by name, without weights, (N,) each
    total: Tensor  # their weighted sum, (N,)
    gradient: list[Tensor]  # of the sum of `total`: with respect to `latents`, then to the trainable noise maps


class Result(NamedTuple):
    """Samples, and how near each comes to the LR image once it is downscaled."""

    sr: Tensor  # (N, 3, R, R) in [0, 1]; NaN only where the generator gave no number
    residual: Tensor  # of these samples, as in `State`: PULSE's proxy looks at them before they are clipped, (N,)
    converged: Tensor  # whether this residual is eps or less, (N,); to PULSE, whether any on the path was
    latents: Tensor  # of these samples, on the sphere, (N, L, D) or (N, 1, D)
    steps: Tensor  # steps from the start to these samples, (N,)


OPTIMIZERS: dict[str, Callable] = {  # PULSE.py:107-112
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "sgd": torch.optim.SGD,
    "sgdm": partial(torch.optim.SGD, momentum=0.9),
}
F_DS: dict[str, Callable] = {  # the downscaler under test -> f_ds of the search
    "bicubic": lambda f_ds: None,  # PULSE's proxy, whatever made the LR image
    "true": lambda f_ds: f_ds,  # needs a gradient
    "straight-through": straight_through,  # its values, with the gradient of the proxy
}
CHOICES = {
    "preset": PRESETS,
    "f_ds": F_DS,
    "schedule": SCHEDULES,
    "optimizer": OPTIMIZERS,
    "noise": ("fixed", "zero", "trainable"),
    "select": ("last", "best"),
}


def norms(points: Tensor) -> Tensor:
    """Measure the radii of the spheres of a variable (N, L, ...): one a sample and layer, (N, L, 1, ...)."""
    return (points.square().sum(tuple(range(2, points.ndim)), keepdim=True) + 1e-9).sqrt()


def spherical_step(optimizer: torch.optim.Optimizer, variables: list[Tensor], radii: list[Tensor]) -> None:
    """Take a step of the optimizer off the spheres, then project back onto them (SphericalOptimizer.py:12-26).

    Args:
        optimizer: over `variables`, whose gradients are set.
        variables: changed in place, (N, L, ...).
        radii: their `norms` at the start.
    """
    optimizer.step()
    with torch.no_grad():
        for variable, radius in zip(variables, radii, strict=True):
            variable.div_(norms(variable)).mul_(radius)


def draw_starts(
    network: generators.StyleGenerator,
    generators: Sequence[torch.Generator],
    *,
    noise: str = "fixed",
    tile_latent: bool = False,
) -> tuple[Tensor, list[Tensor | None]]:
    """Draw latents and noise maps, each sample's from its own CPU generator, in PULSE's order (PULSE.py:64-95).

    Args:
        network: the generator.
        generators: one a sample; sample q depends on generator q alone.
        noise: "fixed" or "trainable" draws a map for each layer but the last; "zero" draws none.
        tile_latent: one latent for all layers instead of one each.

    Returns:
        Latents (N, L, D), or (N, 1, D) if tiled, N(0, 1); and per layer a map (N, 1, r, r), or None for zeros.

    Raises:
        ValueError: unknown noise.
    """
    check_options(noise=noise)
    layers = len(network.noise_shapes)
    shapes = [(1 if tile_latent else layers, len(network.mean))]
    shapes += [] if noise == "zero" else network.noise_shapes[:-1]  # bad_noise_layers of run.py: the last
    samples = [[torch.randn(shape, generator=generator) for shape in shapes] for generator in generators]
    latents, *maps = [torch.stack(drawn).to(network.mean) for drawn in zip(*samples, strict=True)]
    return latents, [*maps, *[None] * (layers - len(maps))]


def path(
    lr: Tensor,
    network: generators.StyleGenerator,
    latents: Tensor,
    noise: list[Tensor | None],
    *,
    f_ds: Callable[[Tensor, int], Tensor] | None = None,
    loss: str = "100*L2+0.05*GEOCROSS",
    learning_rate: float = 0.4,
    steps: int = 200,
    schedule: str = "linear1cycledrop",
    optimizer: str = "adam",
    trainable_noise: int = 0,
    eps: float = 2e-3,
) -> Iterator[State]:
    """Search from given starts and yield every state on the way (PULSE.py:97-176).

    It never stops early, nor does PULSE. The caller may plot or keep what it likes between two states.

    Args:
        lr: LR images in [0, 1], (N, 3, h, h).
        network: the generator.
        latents: starts; the norm of each is the radius of its sphere, (N, L, D) or (N, 1, D) for all layers.
        noise: one map or None a layer, see `draw_starts`.
        f_ds: the differentiable f_ds of Eq. 4, `f_ds(hr, scale)`. It gets the sample clipped to [0, 1]; the gradient
            passes the clip unchanged, and pixels without a derivative get none. None, PULSE itself, takes
            `bicubic_proxy` of the sample before clipping, whatever made `lr`.
        loss: weighted terms, see `parse_loss`.
        learning_rate, steps, schedule, optimizer: of the search; keys of `SCHEDULES` and `OPTIMIZERS`.
        trainable_noise: the maps of that many layers, from the first on, are optimised as well, each on its sphere.
        eps: floor of the LR terms of the loss, and the residual that counts as converged.

    Yields:
        `steps` states; tensors of a state are not changed later.

    Raises:
        ValueError: an option is not as described, sizes that do not fit, or f_ds without a gradient.
    """
    how = {"learning_rate": learning_rate, "steps": steps, "schedule": schedule, "optimizer": optimizer, "eps": eps}
    weight_of, side = parse_loss(loss), _check_search(lr, network, **how)
    scale, layers = side // lr.shape[2], len(network.noise_shapes)
    if latents.ndim != 3 or latents.shape[1] not in (1, layers) or len(latents) != len(lr):
        raise ValueError(f"latents: expected shape ({len(lr)}, {layers} or 1, D), got {tuple(latents.shape)}")
    if not 0 <= trainable_noise <= layers or (trainable_noise and any(map is None for map in noise[:trainable_noise])):
        maps = sum(map is not None for map in noise)
        raise ValueError(f"trainable_noise: expected 0 to {maps}, the number of noise maps, got {trainable_noise}")
    lr, latents = lr.to(network.mean), latents.to(network.mean).clone()
    noise = [map if map is None else map.to(network.mean) for map in noise]
    noise[:trainable_noise] = [map.clone() for map in noise[:trainable_noise]]
    variables = [variable.requires_grad_() for variable in (latents, *noise[:trainable_noise])]
    radii = [norms(variable).detach() for variable in variables]
    walker = OPTIMIZERS[optimizer](variables, lr=learning_rate)
    for step in range(steps):
        rate = walker.param_groups[0]["lr"] = learning_rate * SCHEDULES[schedule](step, steps)
        with torch.enable_grad():
            styles = F.leaky_relu(latents * network.std + network.mean, network.slope).expand(-1, layers, -1)
            sr = (network.synthesis(styles, noise) + 1) / 2
            down = bicubic_proxy(sr, scale) if f_ds is None else through_file(sr, f_ds, scale, lr.shape, step == 0)
            terms = losses(down, lr, styles, weight_of, eps)
            total = sum(weight * terms[term] for term, weight in weight_of.items())
            gradient = torch.autograd.grad(total.sum(), variables)
        kept = [map if map is None else map.detach().clone() if map.requires_grad else map for map in noise]
        residual = (down.detach() - lr).square().mean((1, 2, 3))
        yield State(
            step,
            rate,
            latents.detach().clone(),
            kept,
            sr.detach(),
            down.detach(),
            residual,
            {term: value.detach() for term, value in terms.items()},
            total.detach(),
            list(gradient),
        )
        for variable, slope in zip(variables, gradient, strict=True):
            variable.grad = slope
        spherical_step(walker, variables, radii)


def _check_search(lr: Tensor, network: generators.StyleGenerator, **options) -> int:
    """Raise ValueError unless the search can be done; returns the side of the HR images."""
    check_images(lr, name="lr")
    side, (height, width) = network.noise_shapes[-1][-1], lr.shape[2:]
    if height != width or side % height or not 1 < height < side:
        wanted = f"square images whose side divides {side}, 2 to {side // 2}"
        raise ValueError(f"lr: expected {wanted}, got {height}x{width}")
    check_options(**options)
    return side


def settings(options: dict) -> dict:
    """Options of `search` that those in an upscaler's name stand for: the preset, then what is given besides."""
    given = {name: value for name, value in options.items() if name not in ("preset", "f_ds")}
    return PRESETS.get(options.get("preset"), {}) | given


def check_options(**options) -> None:
    """Raise ValueError unless these options of `search`, or of `OPTIONS`, are possible together."""
    for option, known in CHOICES.items():
        if option in options and options[option] not in known:
            raise ValueError(f"{option}: expected one of {', '.join(known)}, got {options[option]!r}")
    steps, learning_rate, eps = (options.get(name, 1) for name in ("steps", "learning_rate", "eps"))
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps: expected an integer of at least 1, got {steps!r}")
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate: expected a number above 0, got {learning_rate!r}")
    if not 0 <= eps < float("inf"):
        raise ValueError(f"eps: expected a number of at least 0, got {eps!r}")
    if "loss" in options:
        parse_loss(options["loss"])
    number, noise = options.get("trainable_noise"), settings(options).get("noise", "fixed")
    if number is not None and (number < 0 or noise != "trainable"):
        raise ValueError(f"trainable_noise: expected at least 0 with noise=trainable, got {number}, noise={noise}")


def search(
    lr: Tensor,
    network: generators.StyleGenerator,
    generators: torch.Generator | Sequence[torch.Generator],
    *,
    f_ds: Callable[[Tensor, int], Tensor] | None = None,
    loss: str = "100*L2+0.05*GEOCROSS",
    learning_rate: float = 0.4,
    steps: int = 200,
    schedule: str = "linear1cycledrop",
    optimizer: str = "adam",
    noise: str = "fixed",
    trainable_noise: int = 5,
    tile_latent: bool = False,
    eps: float = 2e-3,
    select: str = "last",
) -> Result:
    """Draw HR samples that downscale to the LR images: PULSE from random starts, all in one batch.

    The defaults are `PRESETS["ida_rd"]`; `search(..., **PRESETS["pulse"])` is PULSE's own command line.

    Args:
        lr: LR images in [0, 1], (N, 3, h, h), h a divisor of the side R of HR images; or one for all generators.
        network: the generator.
        generators: CPU generators, one a sample; sample q depends on LR image q and generator q alone, to rounding.
        f_ds, loss, learning_rate, steps, schedule, optimizer, eps: see `path`.
        noise: "fixed" (drawn once), "zero", or "trainable" (drawn, then optimised as well).
        trainable_noise: how many layers' maps are optimised if `noise` is "trainable".
        tile_latent: one latent for all layers, so that the sample stays among the images of one style.
        select: "last" state of the path, as PULSE returns, or the "best": the one of the lowest loss.

    Returns:
        All samples, those that did not converge too.

    Raises:
        ValueError: an option is not as described, or sizes that do not fit.
    """
    check_options(select=select)
    generators = [generators] if isinstance(generators, torch.Generator) else list(generators)
    how = {"learning_rate": learning_rate, "steps": steps, "schedule": schedule, "optimizer": optimizer, "eps": eps}
    _check_search(lr, network, **how)
    if not generators or len(lr) not in (1, len(generators)):
        raise ValueError(f"lr: expected one LR image, or one for each of {len(generators)} draws, got {len(lr)}")
    latents, maps = draw_starts(network, generators, noise=noise, tile_latent=tile_latent)
    how |= {"f_ds": f_ds, "loss": loss, "trainable_noise": trainable_noise if noise == "trainable" else 0}
    chosen = None
    for state in path(lr.expand(len(generators), -1, -1, -1), network, latents, maps, **how):
        if select == "best":
            chosen = state if chosen is None else _better(chosen, state)
        elif state.step == steps - 1:
            chosen = state
    sr = chosen.sr.masked_fill(chosen.sr.isinf(), torch.nan).clamp(0, 1)
    residual = chosen.residual
    taken = torch.as_tensor(chosen.step, device=residual.device).expand(len(residual))
    return Result(sr, residual, residual <= eps, chosen.latents, taken)


def _better(one: State, other: State) -> State:
    """Pick for each sample the state of lower loss; `step` becomes a tensor (N,)."""
    lower = (other.total < one.total) | one.total.isnan()
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in ("sr", "residual", "latents", "total")}
    steps = [torch.as_tensor(step, device=lower.device).expand(len(lower)) for step in (one.step, other.step)]
    pairs["step"] = tuple(steps)
    picked = {name: torch.where(lower.view(-1, *[1] * (a.ndim - 1)), b, a) for name, (a, b) in pairs.items()}
    return one._replace(**picked)


OPTIONS = {"preset": "ida_rd", "f_ds": "bicubic"} | {  # in the name of an upscaler: option -> default
    name: each.default
    for name, each in inspect.signature(search).parameters.items()
    if isinstance(each.default, bool | int | float | str)
}


def upscaler(
    load: Callable, *, scale: int, heat: float = 1.0, device: str = "cpu", f_ds: str = "bicubic", **options
) -> Callable:
    """f_us: `search`, with the signature of the other upscalers; images of one side R, the generator's.

    Args:
        load: `load(device)` gives the generator.
        scale: s.
        heat: 1, since the starts lie on a sphere of fixed radius.
        device: name of a device, see `runtime.pick_device`.
        f_ds: the downscaler inside the search, whose output is compared with the LR image; a key of `F_DS`.
        options: of `OPTIONS`.

    Returns:
        `upscale(lr, generators, downscale=None, on_result=None)`: lr (1, 3, h, h) in [0, 1], or one LR image per
        generator, (Q, 3, h, h), and Q generators to (Q, 3, R, R) in [0, 1], on the device of `lr`; samples that did
        not converge are kept.
        `downscale(hr, scale)` made the LR image; `on_result` is called with the `Result`, the only place to read
        residuals and what converged.

    Raises:
        ValueError: the scale does not divide R, or the generator cannot be loaded; and `upscale`: images of another
            size, or no `downscale` where f_ds needs it.
    """
    network, how = load(device), settings(options)
    side = network.noise_shapes[-1][-1]
    if not 1 < scale < side or side % scale:
        raise ValueError(f"scale: expected a divisor of {side} from 2 to {side // 2}, got {scale}")

    def upscale(
        lr: Tensor,
        generators: torch.Generator | Sequence[torch.Generator],
        *,
        downscale: Callable | None = None,
        on_result: Callable[[Result], None] | None = None,
    ) -> Tensor:
        if f_ds != "bicubic" and downscale is None:
            raise ValueError(f"f_ds={f_ds} needs the downscaler: upscale(lr, generators, downscale=f)")
        if lr.ndim == 4 and (lr.shape[2] * scale, lr.shape[3] * scale) != (side, side):
            got = f"{lr.shape[2] * scale}x{lr.shape[3] * scale} (LR {lr.shape[2]}x{lr.shape[3]}, x{scale})"
            raise ValueError(f"expected HR images of {side}x{side} pixels, what the generator draws, got {got}")
        result = search(lr, network, generators, f_ds=F_DS[f_ds](downscale), **how)
        if on_result is not None:
            on_result(result)
        return result.sr.to(lr.device)

    return upscale
