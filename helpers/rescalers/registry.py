"""Rescalers by name: one record each. A rescaler is a pair, the downscaler and the upscaler that reads its LR images.

The plain names are small networks that come with the package, trained here; those that end in "_official" need the
authors' files.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import NamedTuple

from torch import Tensor

from helpers import weights
from helpers.networks.invertible import NETWORKS
from helpers.rescalers import hcd, hyperthumbnail, irn, sain


class Rescaler(NamedTuple):
    """All that is known of one rescaler."""

    make: Callable  # make(file, scale=, device=, **options) -> downscale(hr), upscale(lr, generators)
    files: tuple[str, ...]  # embedded checkpoints or keys of `weights.WEIGHTS`; "{scale}" stands for s
    scales: tuple[int, ...]  # those it has
    options: Mapping[str, object] = {}  # option -> default

    def __call__(self, *, scale: int, device: str = "cpu", **options) -> irn.Pair:
        """Make the pair; ValueError: another scale or option than it has, or a file that is missing or another's."""
        if scale not in self.scales:
            raise ValueError(f"scale: expected {' or '.join(map(str, self.scales))}, got {scale}")
        if unknown := sorted(set(options) - set(self.options)):
            known = ", ".join(self.options) or "none"
            raise ValueError(f"options: expected some of {known}, got {', '.join(unknown)}")
        [file] = self.files
        return self.make(file.format(scale=scale), scale=scale, device=device, **{**self.options, **options})


def _official(name: str, make: Callable) -> Callable:
    """Make from a file that has to be a network of `NETWORKS` in its released width."""

    def rescaler(file: str, *, scale: int, **options) -> irn.Pair:
        released = NETWORKS[f"{name}_x{scale}"].keywords
        return make(file, scale=scale, blocks=list(released["blocks"]), growth=32, **options)

    return rescaler


_LATENT = {"heat": 0.0}
_SEARCH = {"heat": 0.0, "lr_target": "original", "seed": 0, "eps": hcd.EPS, "alpha": hcd.ALPHA, "restarts": 1}
_SEARCH |= {"hr_steps": hcd.STEPS, "lr_steps": hcd.STEPS, "norm": "l2", "window": 0}
_tirn = partial(irn.rescaler, family="tirn")

RESCALERS: dict[str, Rescaler] = {
    "irn": Rescaler(irn.rescaler, ("irn_x{scale}",), (2, 4), _LATENT),
    "dlv_style": Rescaler(partial(irn.rescaler, extra=1), ("dlv_style_x{scale}",), (4,), _LATENT | {"v": 0.0}),
    "tirn": Rescaler(_tirn, ("tirn_x{scale}",), (2,), _LATENT),
    "hcd": Rescaler(hcd.rescaler, ("irn_x{scale}",), (2, 4), _SEARCH),
    "sain": Rescaler(sain.rescaler, ("sain_x{scale}",), (2,), {"codec": "", "quality": 75, "heat": 1.0}),
    "hyperthumbnail": Rescaler(hyperthumbnail.rescaler, ("hyperthumbnail_x{scale}",), (4,)),
    "irn_official": Rescaler(_official("irn", irn.rescaler), ("IRN_x{scale}",), (2, 3, 4, 8), {"heat": 1.0}),
    "tirn_official": Rescaler(_official("tirn", _tirn), ("TIRN_x{scale}",), (2, 4), _LATENT),
    "hcd_official": Rescaler(_official("irn", hcd.rescaler), ("IRN_x{scale}",), (2, 4), _SEARCH | {"heat": 1.0}),
    "sain_official": Rescaler(
        sain.rescaler, ("SAINx{scale}_JPEG",), (2, 4), {"codec": "jpeg", "quality": 75, "heat": 1.0}
    ),
    "hyperthumbnail_official": Rescaler(hyperthumbnail.rescaler, ("HyperThumbnail_{scale}x",), (4,)),
}


def build(name: str, *, scale: int, device: str = "cpu", **options) -> irn.Pair:
    """Make a rescaler by name.

    Args:
        name: a key of `RESCALERS`.
        scale: s.
        device: name of a device, see `runtime.pick_device`.
        options: of its record.

    Returns:
        `downscale(hr)`: (N, 3, H, W) in [0, 1], sides multiples of s, to 8-bit levels (N, 3, H / s, W / s).
        `upscale(lr, generators)`: one LR image, or one for each of Q generators, to (Q, 3, s h, s w), not clipped.

    Raises:
        ValueError: an unknown name, a scale or option that it does not have, or a file that is missing or another's.
    """
    if name not in RESCALERS:
        raise ValueError(f"rescaler: expected one of {', '.join(RESCALERS)}, got {name!r}")
    try:
        return RESCALERS[name](scale=scale, device=device, **options)
    except ValueError as error:
        raise ValueError(f"rescaler {name}: {error}") from error


def downscaler(name: str) -> Callable[[Tensor, int], Tensor]:
    """The first half of a rescaler as any other downscaler: `f(hr, scale)`, with the options of its record.

    The network is loaded at the first call for a scale, to the device of the images.

    Raises:
        ValueError: unknown name; the function itself raises as `build` does.
    """
    if name not in RESCALERS:
        raise ValueError(f"rescaler: expected one of {', '.join(RESCALERS)}, got {name!r}")

    def downscale(hr: Tensor, scale: int) -> Tensor:
        return made(name, scale, str(hr.device))[0](hr)

    downscale.__name__, downscale.device = name, True  # takes images on any device, see `runtime.on_cpu`
    return downscale


@lru_cache(maxsize=4)
def made(name: str, scale: int, device: str) -> irn.Pair:
    """`build` without options, kept."""
    return build(name, scale=scale, device=device)


def at_hand(names: Iterable[str], scale: int) -> list[str]:
    """Those of some rescalers that have a scale and whose files are here.

    Raises:
        ValueError: as `lacking`.
    """
    return [name for name in names if not lacking(name, scale) and scale in RESCALERS[name].scales]


def lacking(name: str, scale: int) -> list[str]:
    """What a rescaler needs and this machine lacks, a line a file; nothing is fetched.

    Raises:
        ValueError: unknown name, or a file that the user put there is another one.
    """
    if name not in RESCALERS:
        raise ValueError(f"rescaler: expected one of {', '.join(RESCALERS)}, got {name!r}")
    lines = []
    for file in (each.format(scale=scale) for each in RESCALERS[name].files):
        if file in weights.WEIGHTS:
            lines += [] if weights.locate(file) else [weights.missing(file)]
        else:
            try:
                weights.embedded(file)
            except ValueError as error:
                lines.append(str(error))
    return lines
