"""X, the set of HR images: where it comes from, its checks, and how a set of faces is cut, labelled and balanced."""

from helpers.datasets.checks import Preflight, preflight
from helpers.datasets.photographs import SETS
from helpers.datasets.sources import groups, load, names, read_manifest

__all__ = ["SETS", "Preflight", "groups", "load", "names", "preflight", "read_manifest"]
