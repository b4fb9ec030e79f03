"""How much answers look like photographs, against how far they are from the photograph: KID beside distortions."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from helpers import distortions
from helpers.images import quantize
from helpers.iqa import kid
from helpers.stats import findings

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


def distances(
    photographs: Mapping[str, Tensor], answers: Mapping[object, Mapping[str, Tensor]], names: Sequence[str]
) -> pd.DataFrame:
    """Mean D over photographs, a line each kind of answers (index kind), a column each D; see `kid_table`."""
    against = {name: {d: distortions.against(d, hr) for d in names} for name, hr in photographs.items()}
    lines = []
    for kind, images in answers.items():
        levels = {name: quantize(sr) for name, sr in images.items()}
        found = {d: [against[name][d](sr).item() for name, sr in levels.items()] for d in names}
        lines.append({"kind": kind} | {d: float(np.mean(values)) for d, values in found.items()})
    return pd.DataFrame(lines).set_index("kind")


def between(still: Mapping[str, Tensor], drawn: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Images on the line from the answer at heat 0 (share 0) to a draw (share 1)."""
    return {name: (1 - share) * still[name] + share * drawn[name] for name in still}
