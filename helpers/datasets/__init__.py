"""X, the sets of HR images: photographs, generated faces, folders, manifests; their labels and balance."""

from helpers.datasets.checks import Preflight, preflight
from helpers.datasets.photographs import LIBRARY, library
from helpers.datasets.sources import groups, load, names, read_manifest

__all__ = ["LIBRARY", "Preflight", "groups", "library", "load", "names", "preflight", "read_manifest"]
