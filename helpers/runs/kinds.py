"""Read the fields of an experiment: what kind of value each takes, and the value in plain types."""

import math
import numbers
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial

import numpy as np

from helpers.listing import composed
from helpers.runs.user_files import spelled
from helpers.runtime import check_seed, is_whole

# A reader returns the value in plain types, or raises a TypeError


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(value)


def _name(value: object) -> str:
    if not _text(value).strip():
        raise TypeError
    return str(value)


def _path(value: object) -> str:
    return _name(os.fspath(value))


def _named(value: object) -> str | tuple[str, str]:
    if not isinstance(value, list | tuple):
        return _path(value)
    name, path = _two(value)
    return _name(name), _path(path)


def _two(value: object) -> Sequence:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise TypeError
    return value


def _damage(value: object) -> tuple[str, float | None]:
    name, level = _two(value)
    if level is not None and (not _is_number(level) or not math.isfinite(level)):
        raise TypeError
    return _text(name), level.item() if isinstance(level, np.generic) else level


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _heat(value: object) -> object:
    return value if value is None or _is_number(value) else _name(value)


def _whole(least: int, value: object) -> int:
    if not is_whole(value, least):
        raise TypeError
    return int(value)


def _some(read: Callable, values: object) -> list:
    """A list of which each entry is of a kind; a set has no order, a mapping or a text is no list."""
    if isinstance(values, str | bytes | Mapping | Set) or not (found := list(values)):
        raise TypeError
    return [read(each) for each in found]


def _own(value: object) -> str | tuple[str, str]:
    """A name, or a pair (name, specification)."""
    return _name(value) if isinstance(value, str) else tuple(map(_name, _two(value)))


def _one_or_some(values: object) -> str | tuple[str, str] | list[str | tuple[str, str]]:
    return _name(values) if isinstance(values, str) else _some(_own, values)


KINDS = {  # field -> what it takes, in words, and its reader
    "dataset": ("a name, folder or manifest, as text or path, or a pair (name, one of these)", _named),
    "images": ("at least one, in a list, names as texts", partial(_some, _name)),
    "downscalers": (
        "at least one, in a list, each a name, 'file.py:function', 'command: ...', 'folder: ...', or a pair (name, one "
        "of these)",
        partial(_some, _named),
    ),
    "scale": ("an integer >= 1", partial(_whole, 1)),
    "upscaler": (
        "a name such as 'embedded_flow', 'file.py:function' or 'command: ...', as text, or a pair (name, one of these)",
        _own,
    ),
    "heat": ("a number, or a text such as '1.0+0.1'", _heat),
    "n_samples": ("an integer >= 1", partial(_whole, 1)),
    "seed": ("an integer from 0 to 2**63 - 1", check_seed),
    "distortion": (
        "the name of a metric, or at least one, in a list, each a name, 'file.py:function', or a pair of a name and "
        "that",
        _one_or_some,
    ),
    "degradations": ("at least one, in a list, pairs (name, level) such as ('blur', 1.0)", partial(_some, _damage)),
    "where": ("one of after, before", _text),
    "device": ("a name such as 'auto' or 'cpu', as text", _name),
    "size": ("an integer >= 1", partial(_whole, 1)),
    "precision": ("'', 'float32' or 'bf16'", _text),
}


def read(experiment: object) -> tuple[dict[str, object], dict[str, list[str]]]:
    """Read the fields of an experiment.

    Returns:
        Field -> value in plain types, of those of the right kind; and field -> what is wrong, of the others, in order.
    """
    right, problems = {}, defaultdict(list)
    for name, (wanted, reader) in KINDS.items():
        value = getattr(experiment, name)
        try:
            right[name] = reader(value)
        except (TypeError, ValueError):
            problems[name].append(f"expected {wanted}, got {_shown(value)}")
    if "images" in right:
        right["images"] = list(map(composed, right["images"]))
    if "downscalers" in right:
        own = [each if isinstance(each, str) else each[1] for each in right["downscalers"]]
        pairs = zip(right["downscalers"], map(spelled, own), strict=True)
        right["downscalers"] = [spec if isinstance(each, str) else (each[0], spec) for each, spec in pairs]
    return right, problems


def _shown(value: object) -> str:
    """A value for an error, with its type where that is no number."""
    text = " ".join(repr(value).split())
    text = text if len(text) <= 200 else f"{text[:200]} ..."
    return text if type(value) in (int, float) else f"{type(value).__name__} {text}"
