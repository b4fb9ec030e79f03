"""Checkpoints: those that come with the package, and third-party files that are fetched, hashed and opened safely."""

from helpers.weights.store import embedded, fetch, locate, missing
from helpers.weights.table import WEIGHTS, Entry
from helpers.weights.tensors import load_into, load_state

__all__ = [
    "WEIGHTS", "Entry", "embedded", "fetch", "load_into", "load_state", "locate", "missing",
]  # fmt: skip
