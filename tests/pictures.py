"""Pictures that several tests of downscalers look at: noise, waves, and golden vectors."""

import numpy as np
import torch
from PIL import Image

from helpers.images import from_uint8, quantize

GOLDENS = [(image, size) for image in ("astronaut", "chelsea") for size in ("x2", "x4", "x8", "24x40", "23x37")]


def noise(n=1, height=48, width=72, seed=0, dtype=torch.float32):
    levels = torch.randint(0, 256, (n, 3, height, width), generator=torch.Generator().manual_seed(seed))
    return levels.to(dtype) / 255


def waves(n=1, height=64, width=96):  # smooth, with an edge, flat on the right: like a photograph
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    phase = torch.arange(3 * n).view(n, 3, 1, 1) * 0.7
    picture = 0.5 + 0.3 * torch.sin(x / 5 + y / 9 + phase) + 0.15 * (x > y) * torch.cos(y / 2 + phase)
    return quantize(torch.where(x < 0.8 * width, picture, 0.25 + 0.1 * phase.sin()).clamp(0, 1))


def from_file(path):
    return from_uint8(torch.from_numpy(np.array(Image.open(path).convert("RGB")))).permute(2, 0, 1)[None]


def pixels(images):  # 0..255, height x width x 3, as the goldens
    return images[0].permute(1, 2, 0).double().numpy() * 255


def read_golden(shared, image, size):
    """The HR image, the LR images of other programs by name, and the factor (None: the size is no whole share)."""
    hr = from_file(shared / "golden" / "classic" / f"{image}_64x96.png")
    arrays = np.load(shared / "golden" / "classic" / f"down_{image}_{size}.npz")
    return hr, arrays, int(size[1:]) if size[0] == "x" else None
