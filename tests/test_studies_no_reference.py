"""Tables of scores without a reference: the units of every mean are photographs."""

import math

import pandas as pd
import pytest

from helpers.stats import inference
from helpers.studies import no_reference

CROPS = pd.DataFrame(
    [("a1", "a", 32, 1.0), ("a1", "a", 64, 2.0), ("a2", "a", 32, 3.0), ("a2", "a", 64, 8.0), ("b", "", 32, 5.0),
     ("b", "", 64, 6.0), ("c", "", 32, 7.0)],
    columns=["image", "group", "size", "value"],
)  # fmt: skip


@pytest.mark.parametrize("none", ["", None, math.nan])
def test_crops_count_as_their_photograph_and_an_image_without_one_as_itself(none):
    rows = CROPS.assign(group=CROPS.group.replace("", none))
    found = no_reference.change(rows, "size", 32, 64)  # (1 + 5) / 2 of a and 1 of b; c has no 64
    assert (found.value, found.n) == (2.0, 2) and (found.low, found.high) == inference.interval([3.0, 1.0])[:2]
    table = no_reference.summary(rows, "size")
    assert table["mean"].to_dict() == {32: (2 + 5 + 7) / 3, 64: (5 + 6) / 2}
    assert table.loc[32, ["low", "high"]].tolist() == list(inference.interval([2.0, 5.0, 7.0])[:2])
    whole = no_reference.change(rows.drop(columns="group"), "size", 32, 64)
    assert (whole.value, whole.n) == (pytest.approx(7 / 3), 3)


def test_a_crop_with_one_of_both_values_does_not_move_its_photograph():
    more = pd.concat([CROPS, pd.DataFrame([("a3", "a", 64, 100.0)], columns=CROPS.columns)])
    assert no_reference.change(more, "size", 32, 64).value == 2.0
    with pytest.raises(ValueError, match="one photograph .column group. for each image, got several for 'b'"):
        no_reference.change(CROPS.assign(group=list("aaaaxyc")), "size", 32, 64)
