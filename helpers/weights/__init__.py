"""Checkpoints: the embedded ones, and third-party files that are fetched, hashed and opened safely."""

from helpers.weights.store import (
    BY_HAND,
    EMBEDDED,
    SHARED,
    cache_folder,
    cache_folders,
    embedded,
    fetch,
    locate,
    missing,
    needed_by,
    places,
    problem,
)
from helpers.weights.table import WEIGHTS, Entry
from helpers.weights.tensors import is_sound, load_into, load_once, load_state

__all__ = [
    "BY_HAND", "EMBEDDED", "SHARED", "WEIGHTS", "Entry", "cache_folder", "cache_folders", "embedded", "fetch", "is_sound",
    "load_into", "load_once", "load_state", "locate", "missing", "needed_by", "places", "problem",
]  # fmt: skip
