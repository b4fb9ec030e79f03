"""The random keys of before version 0.5, which cards and rows of that time were drawn with: 32 bits of a digest."""

import hashlib

import torch


def seeded(*key: int | str) -> torch.Generator:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
