"""X, the sets of HR images: photographs, generated faces, folders, manifests; their labels and balance."""

from helpers.datasets.sources import LIBRARY, Preflight, groups, library, load, names, preflight, read_manifest

__all__ = ["LIBRARY", "Preflight", "groups", "library", "load", "names", "preflight", "read_manifest"]
