"""Options of a search as plain text: how they are written in the name of an upscaler, and so in the rows."""

import inspect
from collections.abc import Callable

from helpers.upscalers import pulse
from helpers.upscalers.pulse_losses import parse_loss, straight_through

F_DS: dict[str, Callable] = {  # the downscaler under test -> f_ds of the search
    "bicubic": lambda f_ds: None,
    "true": lambda f_ds: f_ds,
    "straight-through": straight_through,
}
OURS = {"preset": pulse.PRESETS, "f_ds": F_DS}  # options that `pulse.search` does not have in this form
DEFAULTS = {  # plain options of `pulse.search`
    name: each.default
    for name, each in inspect.signature(pulse.search).parameters.items()
    if isinstance(each.default, bool | int | float | str)
}


def parse_options(text: str) -> dict[str, bool | int | float | str]:
    """Options of a search from the name of an upscaler, such as "f_ds=true, steps=100".

    Args:
        text: `option=value`, separated by commas; options are the plain ones of `search`, `preset` (of `PRESETS`, what
            the other options are measured from) and `f_ds` (of `F_DS`).

    Returns:
        Option -> value, sorted by name, what is not mentioned left out.

    Raises:
        ValueError: an unknown option, one given twice, or an impossible value.
    """
    options = {}
    for part in filter(None, "".join(text.split()).split(",")):
        name, _, value = part.partition("=")
        if name not in DEFAULTS and name not in OURS:
            raise ValueError(f"expected options among {', '.join(sorted({*DEFAULTS, *OURS}))}, got {name!r}")
        if name in options:
            raise ValueError(f"{name}: expected once, got {text!r}")
        options[name] = _parse(name, value)
    for name, known in OURS.items():
        if options.get(name) not in (None, *known):
            raise ValueError(f"{name}: expected one of {', '.join(known)}, got {options[name]!r}")
    checked = ("learning_rate", "steps", "eps", *pulse.CHOICES)
    pulse.check_options(**{name: value for name, value in options.items() if name in checked})
    parse_loss(options.get("loss", DEFAULTS["loss"]))
    if "trainable_noise" in options:
        number, noise = options["trainable_noise"], (DEFAULTS | settings(options))["noise"]
        if number < 0 or noise != "trainable":
            raise ValueError(f"trainable_noise: expected at least 0 with noise=trainable, got {number}, noise={noise}")
    return dict(sorted(options.items()))


def format_options(options: dict[str, bool | int | float | str]) -> str:
    """The inverse of `parse_options`: equal options, equal text."""
    return ",".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in options.items()
    )


def settings(options: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
    """Options of `pulse.search` that they stand for: the preset, then what is given besides; without `f_ds`."""
    return pulse.PRESETS.get(options.get("preset"), {}) | {k: v for k, v in options.items() if k not in OURS}


def _parse(name: str, text: str) -> bool | int | float | str:
    """A value, of the type of the option's default."""
    kind = type(DEFAULTS.get(name, ""))
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        wanted = {bool: "true or false", int: "an integer", float: "a number"}[kind]
        raise ValueError(f"{name}: expected {wanted}, got {text!r}") from None
