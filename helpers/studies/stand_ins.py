"""Stand-ins for LR images that no downscaler of ours made, and LR images held against those of a camera (S 6)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch.nn.functional as F
from torch import Tensor

from helpers import datasets, distortions, runs
from helpers.degradations import blur_full
from helpers.images import write_rgb
from helpers.runs import adapters


def unknown(hr: Tensor, scale: int) -> Tensor:
    """What a camera's program may do: lens blur, averaging, colour at a third of the resolution, some sharpening.

    Args:
        hr: HR images in [0, 1], (N, 3, H, W), H and W multiples of `scale`.
        scale: s.

    Returns:
        LR images in [0, 1], (N, 3, H / s, W / s).
    """
    sensor = F.avg_pool2d(blur_full(hr, 0.35 * scale), scale)
    grey = sensor.mean(1, keepdim=True)
    colour = F.avg_pool2d(sensor - grey, 3, stride=1, padding=1, count_include_pad=False)
    sharp = grey + 0.5 * (grey - blur_full(grey.expand(-1, 3, -1, -1).clamp(0, 1), 1.0)[:, :1])
    return (sharp + colour).clamp(0, 1)


def bicubic_shifted(hr: Tensor, scale: int) -> Tensor:
    """Bicubic, after the picture moved to the right by one HR pixel: the alignment error of a camera pair."""
    moved = F.pad(hr, (1, 0, 0, 0), mode="replicate")[..., :-1]
    return adapters.resolve("bicubic")(moved, scale)


STAND_INS = {"unknown": unknown, "bicubic_shifted": bicubic_shifted}


def through_a_file(lr: Tensor, hr: Tensor, name: str, folder: str | Path) -> Tensor:
    """Write an LR image to a PNG file, and read it as the LR image that a folder of the reader's has for `hr`.

    Args:
        lr: in [0, 1], whole 8-bit levels, (1, 3, h, w).
        hr: in [0, 1], (1, 3, s h, s w).
        name: of the image.
        folder: where the file goes; made if it is not there.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_rgb(lr, Path(folder, f"{name}.png"))
    return adapters.resolve(f"folder: {folder}")(hr, hr.shape[-1] // lr.shape[-1], name=name)


def write(
    folders: Mapping[str, str | Path], dataset: str, names: Sequence[str], scale: int, *, size: int = 256
) -> None:
    """Write the LR images of stand-ins as PNG files; those that are there are written again.

    Args:
        folders: name of a stand-in -> its folder, which is made.
        dataset, names, size: the images.
        scale: s.
    """
    for folder in folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        hr = datasets.load(dataset, name, size=size, multiple_of=scale)
        for stand_in, folder in folders.items():
            write_rgb(STAND_INS[stand_in](hr, scale), Path(folder, f"{name}.png"))


def to_camera(experiment: runs.Experiment, camera: str, distortion: str) -> pd.DataFrame:
    """Distance of each LR image to the camera's of the same scene, as if that were the original (S 6).

    Args:
        experiment: names data set, images, downscalers and scale.
        camera: the downscaler, as rows name it, whose LR images stand for the original.
        distortion: D; the LR images must be as large as it needs.

    Returns:
        Rows as `rankings.scores` takes them: dataset, image, group, downscaler, sample 0, distortion, value.

    Raises:
        ValueError: as `runs.pair`; LR images that are too small for D.
    """
    groups, lines = datasets.groups(experiment.source, experiment.images, size=experiment.size), []
    for image in experiment.images:
        hr, target = runs.pair(experiment, image, camera)
        compare = distortions.against(distortion, target.cpu())
        for name in experiment.specs:
            if name != camera:
                lr = runs.pair(experiment, image, name, hr=hr)[1].cpu()
                line = {"dataset": experiment.dataset_name, "image": image, "group": groups[image], "downscaler": name}
                lines.append(line | {"sample": 0, "distortion": distortion, "value": compare(lr).item()})
    return pd.DataFrame(lines)
