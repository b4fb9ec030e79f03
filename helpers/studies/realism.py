"""How much answers look like photographs, against how far they are from the photograph: KID beside distortions.

And the Multi-Realism codec, whose receiver chooses between the two: its files and what each beta reads from them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from helpers import distortions
from helpers.images import quantize
from helpers.iqa import kid
from helpers.rescalers.multi_realism import Codec, decode, encode
from helpers.stats import findings
from helpers.studies.rate_axis import WHOLE

SIDE = 64  # of the patches whose features are compared, pixels


def patches(image: Tensor, side: int = SIDE) -> Tensor:
    """Cut an image into patches without overlap, (K, 3, side, side); what is left at the right and below is lost."""
    cut = image.unfold(2, side, side).unfold(3, side, side)
    return cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, side, side)


def kid_table(
    photographs: Mapping[str, Tensor], answers: Mapping[object, Mapping[str, Tensor]], *, embedded: bool = False
) -> pd.DataFrame:
    """KID of several kinds of answers to the photographs, over patches, with jackknife intervals over photographs.

    Patches of one photograph, which are alike, are never compared with one another (`kid.apart`).

    Args:
        photographs: name -> HR image, (1, 3, H, W) in [0, 1]; three at least.
        answers: kind -> the same names -> SR images, (1, 3, H, W).
        embedded: see `kid.features`.

    Returns:
        A line each kind: kind, value, low, high (95 %), n (photographs). 0 is what photographs of the same kind would
        have; below it by chance.
    """
    real = [kid.features(patches(hr), embedded=embedded) for hr in photographs.values()]
    lines = []
    for kind, images in answers.items():
        found = [kid.features(patches(quantize(images[name])), embedded=embedded) for name in photographs]
        own = kid.of_pairs(kid.apart(found, real))[1]
        lines.append({"kind": kind, **findings.mean(pd.Series(own))._asdict()})
    return pd.DataFrame(lines)


def per_photograph(
    photographs: Mapping[str, Tensor], answers: Mapping[object, Mapping[str, Tensor]], names: Sequence[str]
) -> pd.DataFrame:
    """D of every answer: a line a kind and photograph, columns kind, image and each D; see `kid_table`."""
    against = {name: {d: distortions.against(d, hr) for d in names} for name, hr in photographs.items()}
    lines = []
    for kind, images in answers.items():
        for name, sr in images.items():
            found = {d: measure(levels).item() for levels in [quantize(sr)] for d, measure in against[name].items()}
            lines.append({"kind": kind, "image": name} | found)
    return pd.DataFrame(lines)


def distances(
    photographs: Mapping[str, Tensor], answers: Mapping[object, Mapping[str, Tensor]], names: Sequence[str]
) -> pd.DataFrame:
    """Mean D over photographs, a line each kind of answers (index kind), a column each D; see `kid_table`."""
    found = per_photograph(photographs, answers, names)[list(names)].to_numpy()
    means = found.reshape(len(answers), -1, len(names)).mean(1)
    return pd.DataFrame(means, pd.Index(list(answers), name="kind", tupleize_cols=False), list(names))


class Written(NamedTuple):
    """Files of one rate level of the Multi-Realism codec."""

    rates: dict[str, float]  # bits per pixel of the file of each photograph
    read: dict[float, dict[str, Tensor]]  # beta -> photograph -> image, (1, 3, H, W) in 8-bit levels


def written(codec: Codec, photographs: Mapping[str, Tensor], level: float, betas: Sequence[float]) -> Written:
    """Write each photograph once with the Multi-Realism codec, and read it at each beta.

    Args:
        codec: of `rescalers.multi_realism`.
        photographs: name -> HR image, (1, 3, H, W) in [0, 1].
        level, betas: see `multi_realism.encode` and `decode`.
    """
    contents = {name: encode(codec, hr, level) for name, hr in photographs.items()}
    rates = {name: 8 * len(content) / photographs[name][0, 0].numel() for name, content in contents.items()}
    read = {
        beta: {name: quantize(decode(codec, content, beta)) for name, content in contents.items()} for beta in betas
    }
    return Written(rates, read)


def points(
    levels: Mapping[float, Written], photographs: Mapping[str, Tensor], groups: Mapping[str, str], names: Sequence[str]
) -> pd.DataFrame:
    """What the codec costs and loses, in the columns of `rate_axis.points`: no downscaling, codec "beta 0" and so on.

    Args:
        levels: rate level, which is the quality of a point -> its files.
        photographs: as for `written`.
        groups: name -> the photograph that it is a crop of.
        names: of D.
    """
    answers = {(level, beta): images for level, (_, read) in levels.items() for beta, images in read.items()}
    found = per_photograph(photographs, answers, names).melt(["kind", "image"], var_name="distortion")
    found["quality"], betas = zip(*found.kind, strict=True)
    found["rate"] = [levels[level].rates[name] for level, name in zip(found.quality, found.image, strict=True)]
    found["group"] = found.image.map(groups)
    found["codec"] = [f"beta {beta:g}" for beta in betas]
    found = found.groupby(["codec", "quality", "distortion", "group"], as_index=False)[["rate", "value"]].mean()
    return found.assign(reader=WHOLE, downscaler=WHOLE)


def nearest_rate(levels: Mapping[float, Written], rate: float) -> float:
    """The level whose files have nearly so many bits per pixel, in the mean and in the logarithm."""
    return min(levels, key=lambda level: abs(np.log(np.mean(list(levels[level].rates.values())) / rate)))


def between(still: Mapping[str, Tensor], drawn: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Images on the line from the answer at heat 0 (share 0) to a draw (share 1)."""
    return {name: (1 - share) * still[name] + share * drawn[name] for name in still}
