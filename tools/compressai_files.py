"""Compress a folder of PNGs with pretrained models of CompressAI, for `other_codecs` of notebook 12.

CompressAI needs a NumPy before 2, so it has an environment of its own, and this script needs nothing else of ours:
`pip install compressai` there, then
`python tools/compressai_files.py --images FOLDER --models mbt2018 --qualities 1 3 6 --output coded`. It fetches the
weights at their first use. Each picture goes to coded/MODEL/QUALITY/NAME.png; coded/bits.csv names the bits of the real
streams. A later call goes on.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

MULTIPLE = 64  # of the sides that the models take
COLUMNS = ("codec", "quality", "image", "bits")


@torch.no_grad()
def code(network: torch.nn.Module, levels: np.ndarray) -> tuple[np.ndarray, int]:
    """One picture to streams and back.

    Args:
        network: one of CompressAI's, in eval mode, its tables updated.
        levels: 8-bit levels, (H, W, 3).

    Returns:
        Those of the answer, and the bits of all streams.
    """
    height, width = levels.shape[:2]
    image = torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 255
    padded = F.pad(image, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
    coded = network.compress(padded)
    decoded = network.decompress(coded["strings"], coded["shape"])["x_hat"][0, :, :height, :width]
    answer = (decoded.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return answer, 8 * sum(len(stream) for streams in coded["strings"] for stream in streams)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compress what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of PNGs, as notebook 12 crops them")
    parser.add_argument(
        "--models", nargs="+", default=["mbt2018", "cheng2020-anchor"], help="names of CompressAI's zoo"
    )
    parser.add_argument("--qualities", nargs="+", type=int, default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    pictures = sorted(given.images.glob("*.png"))
    if not pictures:
        parser.error(f"--images: expected a folder with PNGs, found none in {given.images}")
    from compressai.zoo import image_models  # its own environment

    given.output.mkdir(parents=True, exist_ok=True)
    table = given.output / "bits.csv"
    done = set()
    if table.exists():
        with open(table, newline="") as file:
            done = {tuple(line[:3]) for line in csv.reader(file)}
    with open(table, "a", newline="") as file:
        writer = csv.writer(file)
        if not done:
            writer.writerow(COLUMNS)
        for model in given.models:
            for quality in given.qualities:
                todo = [path for path in pictures if (model, str(quality), path.stem) not in done]
                if not todo:
                    continue
                network = image_models[model](quality=quality, pretrained=True).eval()
                network.update()
                folder = given.output / model / str(quality)
                folder.mkdir(parents=True, exist_ok=True)
                for path in todo:
                    answer, bits = code(network, np.array(Image.open(path).convert("RGB")))
                    Image.fromarray(answer).save(folder / path.name)
                    writer.writerow((model, quality, path.stem, bits))
                    file.flush()
                print(f"{model}, quality {quality}: {len(todo)} pictures")


if __name__ == "__main__":
    main()
