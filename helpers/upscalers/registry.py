"""Upscalers f_us by name: one record each, and the only parser of their names.

A name is a key of `UPSCALERS`, perhaps with options, "embedded_pulse(f_ds=true,steps=100)"; or a cascade of keys, each
with its scale where the key does not fix it, "embedded_flow_x8+embedded_flow_x4": every stage upscales the draws of
the one before. For a scale that none has, "embedded_flow_x4_to_x3" upscales by 4 and then resizes.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from helpers import files, generators, weights
from helpers.images import quantize
from helpers.listing import Named
from helpers.rescalers import registry as rescalers
from helpers.rescalers.registry import RESCALERS
from helpers.runtime import as_generators, is_whole, shielded
from helpers.upscalers import esrgan, flows, pulse, residual_shift, resshift, sr3


class Upscaler(NamedTuple):
    """All that is known of one f_us. Calling it makes the function: `UPSCALERS["embedded_flow"](scale=4)`."""

    make: Callable  # make(scale=, heat=, device=, **options) -> upscale(lr, generators), see `flows.embedded_flow`
    files: tuple[str, ...] = ()  # embedded checkpoints or keys of `weights.WEIGHTS`; "{scale}" stands for s
    scales: tuple[int, ...] = ()  # those it has; (): any
    heat: float | None = None  # the only one that it takes, 0 of a deterministic f_us; None: any
    blind: bool = True  # knows nothing of the downscaler; a rescaler's own decoder does, a search may (f_ds=true)
    search: bool = False  # samples have a residual, and `upscale` takes `downscale` and `on_result` as well
    options: Mapping[str, object] | None = None  # option -> default, whose type reads the value; None: it has none
    check: Callable | None = None  # check(**options) raises ValueError where they are impossible
    usual: float = 1.0  # the heat where none is given and any is taken

    @property
    def stochastic(self) -> bool:
        """Whether two generators give two images."""
        return self.heat != 0

    def __call__(self, *, scale: int, heat: float | None = None, device: str = "cpu", **options) -> Callable:
        """Make `upscale(lr, generators)`; ValueError: a scale, heat or option that it has not, or as `make` says."""
        heat = _fit("upscaler", self, scale, heat)
        if unknown := [name for name in options if name not in (self.options or {})]:
            known = ", ".join(self.options or ["none"])
            raise ValueError(f"upscaler: expected options among {known}, got {unknown[0]!r}")
        with shielded():  # a network in float32, whose tensors any mode can use
            return self.make(scale=scale, heat=heat, device=device, **options)


def _srflow(file: str, scale: int) -> Upscaler:
    return Upscaler(partial(flows.srflow, file=file), (file,), (scale,))


def _flow(name: str, scales: tuple[int, ...], **how) -> Upscaler:
    options = {"precision": "float32"}
    return Upscaler(partial(flows.embedded_flow, **how), (name,), scales, options=options, check=flows.check_precision)


def _rrdb(file: str, *scales: int, blind: bool = True) -> Upscaler:
    return Upscaler(lambda *, scale, **how: esrgan.upscaler(file=file.format(scale=scale), scale=scale, **how),
                    (file,), scales, heat=0.0, blind=blind)  # fmt: skip


def _resshift(file: str, *, blind: bool = True, **schedule) -> Upscaler:
    make = partial(resshift.upscaler, file=file, **schedule)
    return Upscaler(make, (file, resshift.AUTOENCODER), (4,), heat=1.0, blind=blind)


def _shift(file: str, *, blind: bool) -> Upscaler:
    make = partial(residual_shift.upscaler, file=file)
    options, check = {"steps": residual_shift.STEPS}, residual_shift.check_steps
    return Upscaler(make, (file,), (4,), heat=1.0, blind=blind, options=options, check=check)


def _mean(file: str, *, blind: bool) -> Upscaler:
    return Upscaler(partial(residual_shift.mean_upscaler, file=file), (file,), (4,), heat=0.0, blind=blind)


def _sr3(file: str, config: str) -> Upscaler:  # trained on Pillow's bicubic LR images of faces
    return Upscaler(partial(sr3.upscaler, file=file, config=config), (file,), (8,), heat=1.0, blind=False)


def _search(key: str, *names: str) -> Upscaler:
    how = {"heat": 1.0, "blind": False, "search": True, "options": pulse.OPTIONS, "check": pulse.check_options}
    return Upscaler(partial(pulse.upscaler, pulse.GENERATORS[key]), names, **how)


def _decoder(name: str) -> Upscaler:  # of a rescaler: it reads what its downscaler hid in the LR image
    record = RESCALERS[name]
    drawn = "heat" in record.options

    def make(*, scale: int, heat: float, device: str) -> Callable:
        return rescalers.build(name, scale=scale, device=device, **({"heat": heat} if drawn else {}))[1]

    how = {"heat": None, "usual": record.options["heat"]} if drawn else {"heat": 0.0}
    return Upscaler(make, record.files, record.scales, blind=False, **how)


UPSCALERS: dict[str, Upscaler] = Named(
    {
        "embedded_flow": _flow("compact_flow_x{scale}", (2, 4, 8)),
        "embedded_flow_mixed": _flow("compact_flow_x{scale}_mixed", (4,), variant="mixed"),
        "embedded_flow_first": _flow("compact_flow_x{scale}_first", (4, 8), variant="first"),
        "embedded_l1": _mean("residual_shift_x4", blind=False),  # four that differ in nothing else; bicubic LR images
        "embedded_l1_blind": _mean("residual_shift_x4_blind", blind=True),  # those of several downscalers, damaged
        "embedded_resshift": _shift("residual_shift_x4", blind=False),
        "embedded_resshift_blind": _shift("residual_shift_x4_blind", blind=True),
        "srflow_df2k_4x": _srflow("SRFlow_DF2K_4X", 4),
        "srflow_df2k_8x": _srflow("SRFlow_DF2K_8X", 8),
        "srflow_celeba_8x": _srflow("SRFlow_CelebA_8X", 8),
        "bicubic": Upscaler(flows.bicubic, heat=0.0),
        "esrgan": _rrdb("ESRGAN", 4, blind=False),  # trained on MATLAB's bicubic LR images
        "rrdb_psnr": _rrdb("RRDB_PSNR_x4", 4, blind=False),  # the same without GAN
        "bsrgan": _rrdb("BSRGAN_x{scale}", 2, 4),
        "bsrnet": _rrdb("BSRNet", 4),  # the same without GAN
        "real_esrgan_x4": _rrdb("RealESRGAN_x4plus", 4),
        "real_esrgan_x2": _rrdb("RealESRGAN_x2plus", 2),
        "real_esrnet_x4": _rrdb("RealESRNet_x4plus", 4),  # the same without GAN
        "rsr": _rrdb("RSR", 4),  # blind by adversarial training
        "resshift": _resshift("resshift_realsrx4_s15_v1", steps=15, lowest=0.04),
        "resshift_v2": _resshift("resshift_realsrx4_s15_v2", steps=15, lowest=0.04),
        "resshift_v3": _resshift("resshift_realsrx4_s4_v3", steps=4, lowest=0.2),
        "resshift_bicsr": _resshift("resshift_bicsrx4_s4", steps=4, lowest=0.2, blind=False),  # of MATLAB's bicubic LR
        "sr3": _sr3("sr3_16_128", "16_128"),
        "sr3_512": _sr3("sr3_64_512", "64_512"),
        "embedded_pulse": _search("embedded_pulse", generators.NAME),
        "pulse": _search("pulse", *generators.OFFICIAL),
    }
    | {name: _decoder(name) for name in RESCALERS}
)


class Stage(NamedTuple):
    """One upscaler of a cascade, or the only one."""

    key: str  # of `UPSCALERS`
    scale: int | None  # None: the name does not say it
    heat: float | None = None
    options: Mapping[str, object] = {}  # those given, sorted by name
    to: int | None = None  # of the last: the scale of all stages together that their draws are resized to


def parse(name: str) -> tuple[Stage, ...]:
    """Read the name of an upscaler; its stages have the scales and options written there, and no heat yet.

    Raises:
        ValueError: no text, an unknown stage or option, an impossible value, a stage of a cascade without a scale, a
            search as a stage or resized, or a stage before the last one that is resized.
    """
    if not isinstance(name, str):
        raise ValueError(f"upscaler: expected a name such as 'embedded_flow', got {name!r}")
    return _parse(name)


@lru_cache(maxsize=1024)
def _parse(name: str) -> tuple[Stage, ...]:
    parts = re.split(r"\+(?![^(]*\))", "".join(name.split()))  # not inside brackets
    found = []
    for part in parts:
        if not (match := re.fullmatch(r"([^()]*)(?:\(([^()]*)\))?", part)):
            raise ValueError(f"upscaler: expected options as in embedded_pulse(steps=100), got {name!r}")
        key, text, factor, to = match[1], match[2], None, None
        if key not in UPSCALERS and (numbered := re.fullmatch(r"(\w+?)_x(\d+)(?:_to_x(\d+))?", key)):
            key, factor, to = numbered[1], int(numbered[2]), numbered[3] and int(numbered[3])
        if key not in UPSCALERS or (len(parts) > 1 and not factor and len(UPSCALERS[key].scales) != 1):
            known = f"{', '.join(UPSCALERS)}, or several of them as in embedded_flow_x8+embedded_flow_x4"
            raise ValueError(f"upscaler: expected one of {known}, got {name!r}")
        if len(parts) > 1 and UPSCALERS[key].search:
            raise ValueError(f"upscaler: expected {key} alone, not as a stage of a cascade, got {name!r}")
        if to is not None and (UPSCALERS[key].search or len(found) < len(parts) - 1):
            raise ValueError(f"upscaler: expected a resize after the last stage, which is no search, got {name!r}")
        found.append(Stage(key, factor, options=_parse_options(key, text), to=to))
    return tuple(found)


def _parse_options(key: str, text: str | None) -> dict[str, object]:
    """The options in "f_ds=true,steps=100", sorted, each of the type of its default."""
    record, options = UPSCALERS[key], {}
    if text is None:
        return options
    if record.options is None:
        raise ValueError(f"upscaler: {key} has no options, got ({text})")
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in record.options:
            raise ValueError(f"{key}: expected options among {', '.join(sorted(record.options))}, got {name!r}")
        if name in options:
            raise ValueError(f"{name}: expected once, got {text!r}")
        kind = type(record.options[name])
        try:
            options[name] = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            wanted = {bool: "true or false", int: "an integer", float: "a number"}[kind]
            raise ValueError(f"{name}: expected {wanted}, got {value!r}") from None
    if record.check:
        record.check(**options)
    if options.get("precision") == "float32":  # that of rows which do not say it
        del options["precision"]
    return dict(sorted(options.items()))


def _spell_options(options: Mapping[str, object]) -> str:
    """The inverse of `_parse_options`: equal options, equal text."""
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()}
    return f"({','.join(f'{name}={text}' for name, text in texts.items())})" if options else ""


def stages(name: str, scale: int, heat: float | str | None = None) -> list[Stage]:
    """What an upscaler's name means at a scale and heat: every stage with all it needs.

    Args:
        name: see the top of this file.
        scale: s, of all stages together.
        heat: one for all stages, or one each, "1.0+0.1" (the official notebook's for x32), finite and at least 0; None
            is each stage's own: 1, the only one that it takes, or of a rescaler's decoder that of its training.

    Raises:
        ValueError: see `parse`; or scales whose product is not `scale`, another number of heats, or a scale or heat
            that a stage does not have.
    """
    found = parse(name)
    _check_scale(name, scale)
    heats = [None] if heat is None else _heats(heat)
    heats = heats * len(found) if len(heats) == 1 else heats
    if len(heats) != len(found):
        raise ValueError(f"heat: expected a number, or {len(found)} joined by '+' for {name}, got {heat!r}")
    only = [UPSCALERS[each.key].scales for each in found]
    factors = [each.scale or (own[0] if len(own) == 1 else scale) for each, own in zip(found, only, strict=True)]
    whole, to = math.prod(factors), found[-1].to
    if to is not None and not 1 < to < whole:
        raise ValueError(f"{name}: expected a resize to a scale from 2 to {whole - 1}, got {to}")
    if (to or whole) != scale:
        raise ValueError(f"{name}: expected scale {to or whole}, got {scale}")
    fitted = [_fit(s.key, UPSCALERS[s.key], factor, h) for s, factor, h in zip(found, factors, heats, strict=True)]
    return [s._replace(scale=factor, heat=h) for s, factor, h in zip(found, factors, fitted, strict=True)]


def _check_scale(name: str, scale: int) -> None:
    if not is_whole(scale):
        raise ValueError(f"{name}: expected an integer of at least 1 as scale, got {scale!r}")


def _heats(heat: float | str) -> list[float]:
    """The numbers in a heat, [] where it is none; ValueError: one is infinite or below 0, and no standard deviation."""
    text = str(heat)
    try:
        found = [float(text)]
    except ValueError:
        try:
            found = [float(part) for part in text.split("+")]
        except ValueError:
            return []
    if not all(0 <= each < math.inf for each in found):
        raise ValueError(f"heat: expected a standard deviation, finite and at least 0, got {heat!r}")
    return [each + 0.0 for each in found]  # -0.0 is 0.0


def _fit(name: str, record: Upscaler, scale: int, heat: float | str | None) -> float:
    """The heat, None replaced by the upscaler's own; ValueError: it has not this scale or heat."""
    _check_scale(name, scale)
    if record.scales and scale not in record.scales:
        larger = [each for each in record.scales if each > scale > 1 and not record.search]
        way = f"{name}_x{min(larger)}_to_x{scale}" if larger and name in UPSCALERS else ""
        way = f"; {way} upscales by {min(larger)} and then resizes" if way else ""
        raise ValueError(f"{name}: expected scale {' or '.join(map(str, record.scales))}, got {scale}{way}")
    own = record.usual if record.heat is None else record.heat
    heats = [own] if heat is None else _heats(heat)
    if len(heats) != 1:
        raise ValueError(f"{name}: expected a number as heat, got {heat!r}")
    if record.heat not in (None, *heats):
        why = "its noise is part of the chain" if record.stochastic else "there are no latents"
        why = "the radius of the sphere of starts" if record.search else why
        raise ValueError(f"{name}: expected heat {record.heat}, {why}, got {heat}")
    return heats[0]


def normalise(name: str, options: Mapping[str, object] | None = None) -> str:
    """Spell a name as the rows have it: options sorted, without spaces, equal values written alike.

    Args:
        name: see the top of this file.
        options: option -> value, for a name without any.

    Raises:
        ValueError: see `parse`.
    """
    return _spell(parse(name + _spell_options(options) if options else name))


def _spell(found: Sequence[Stage]) -> str:
    sizes = [(f"_x{s.scale}" if s.scale else "") + (f"_to_x{s.to}" if s.to else "") for s in found]
    return "+".join(s.key + size + _spell_options(s.options) for s, size in zip(found, sizes, strict=True))


def at_precision(name: str, precision: str = "") -> tuple[str, str]:
    """Spell a name with the precision of its networks: "embedded_flow(precision=bf16)".

    Args:
        name: see the top of this file.
        precision: of every stage, one of `flows.PRECISIONS`; "" is what the name says, else float32.

    Returns:
        The name as `normalise` spells it, and its precision, "" where the stages differ in it.

    Raises:
        ValueError: see `parse`; a stage has no such precision, or the name says another one.
    """
    found = parse(name)
    if precision:
        flows.check_precision(precision)
    for stage in found if precision else ():
        if precision != "float32" and "precision" not in (UPSCALERS[stage.key].options or {}):
            able = ", ".join(key for key, record in UPSCALERS.items() if "precision" in (record.options or {}))
            raise ValueError(
                f"precision: expected float32 for {stage.key}, got {precision!r}; of {able} there are more"
            )
        if stage.options.get("precision", precision) != precision:
            raise ValueError(f"precision: expected that of the upscaler, {name}, or '', got {precision!r}")
    more = {"precision": precision} if precision not in ("", "float32") else {}
    found = [stage._replace(options=dict(sorted({**stage.options, **more}.items()))) for stage in found]
    own = {stage.options.get("precision", "float32") for stage in found}
    return _spell(found), own.pop() if len(own) == 1 else ""


def is_search(name: str) -> bool:
    """Whether an upscaler searches: its samples have a residual and may have converged. ValueError: see `parse`."""
    return UPSCALERS[parse(name)[0].key].search


def build(name: str, *, scale: int, heat: float | str | None = None, device: str = "cpu") -> Callable:
    """Make any upscaler by its name.

    Between two stages the draws are rounded to 8 bits, as the official notebook does at x32. A draw that is not
    finite goes on as black and comes out as NaN. Draw q takes all its latents from generator q. The resize at the end
    is bicubic with antialiasing, of draws that are not rounded before.

    Args:
        name, scale, heat: see `stages`.
        device: name of a device, see `runtime.pick_device`.

    Returns:
        `upscale(lr, generators)`, see `flows.embedded_flow`, and of a search `pulse.upscaler`.

    Raises:
        ValueError: see `stages`; no such device; or the weights are not there.
    """
    found = stages(name, scale, heat)
    built = [UPSCALERS[s.key](scale=s.scale, heat=s.heat, device=device, **s.options) for s in found]
    upscale = built[0] if len(built) == 1 else partial(_cascade, built)
    return partial(_resized, upscale, scale) if found[-1].to else upscale


def _resized(upscale: Callable, scale: int, lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
    sr, size = upscale(lr, generators), (scale * lr.shape[2], scale * lr.shape[3])
    return F.interpolate(sr, size, mode="bicubic", antialias=True)


def _cascade(built: list[Callable], lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
    generators = as_generators(generators)
    sr, finite = lr, torch.ones(len(generators), dtype=torch.bool, device=lr.device)
    for number, upscale in enumerate(built):
        sr = upscale(sr if number == 0 else quantize(sr.nan_to_num(0, 0, 0)), generators)
        finite = finite.to(sr.device) & sr.isfinite().flatten(1).all(1)
    return torch.where(finite.view(-1, 1, 1, 1), sr, torch.nan)


def weights_hash(name: str, scale: int) -> str:
    """First 12 hex digits of the SHA-256 of each weights file behind an upscaler, joined by "+".

    Raises:
        ValueError: see `stages`; or a file is not there.
    """
    return "+".join(
        "+".join(_hash(file.format(scale=each.scale)) for file in UPSCALERS[each.key].files)
        for each in stages(name, scale)
    )


def are_here(name: str, scale: int) -> bool:
    """Whether all weights of an upscaler are on this machine; nothing is fetched.

    Raises:
        ValueError: see `stages`; or a file that the user put there is another one.
    """
    wanted = [file.format(scale=each.scale) for each in stages(name, scale) for file in UPSCALERS[each.key].files]
    return all(file not in weights.WEIGHTS or weights.locate(file) for file in wanted)


def _hash(file: str) -> str:
    return files.sha256_of(weights.fetch(file) if file in weights.WEIGHTS else weights.embedded(file))[:12]
