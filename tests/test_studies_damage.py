"""What notebook 03 asks of rows: made-up rows with a known answer, and the same rows turned round."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers import results
from helpers.stats import findings
from helpers.stats.findings import CONTRADICTED, NOT_SHOWN, SUPPORTED
from helpers.studies import damage

KINDS = {"blur, 3x3": ("blur", [0.0005, 1.0, 2.0, 4.0]), "noise": ("noise", [0.05, 0.1, 0.2])}
F_US = {("u", "1.0"): damage.FLOW, ("bicubic", "0.0"): damage.CONTROL}
LOSS = dict(zip(damage.ORDER, (0.9, 0.6, 0.5, 0.4, 0.2, 0.1), strict=True))  # the paper's order


def rows(n: int = 8, *, falls: bool = False, order: dict = LOSS, scale: int = 4) -> pd.DataFrame:
    """One draw a condition; scores rise with the level, by no blur of 0.0005 pixels; with `falls` noise lowers them."""
    rng, lines = np.random.default_rng(0), []
    damages = [("", math.nan, 0.0)] + [
        ("blur", x, 0.0 if x < 0.01 else 0.05 * math.log2(4 * x)) for x in KINDS["blur, 3x3"][1]
    ]
    damages += [("noise", x, (-1 if falls else 1) * x) for x in KINDS["noise"][1]]
    damages += [("mixed", float(k), (0.1, 0.3, 0.2)[k - 1]) for k in (1, 2, 3)]
    damages += [("bsrgan", float(k), 0.05 * k) for k in range(1, 6)]
    for image in range(n):
        for upscaler, heat in F_US:
            base = {"dataset": "d", "image": f"i{image}", "group": f"i{image}", "scale": scale, "seed": 0, "sample": 0}
            base |= {"upscaler": upscaler, "heat": float(heat), "distortion": "mse", "metric": "mse"}
            own = rng.uniform(0, 0.5)
            plain = own + order["bicubic"]
            for name, loss in order.items():
                kind = {"downscaler": name, "degradation": "", "level": math.nan, "where": ""}
                noise = 0.001 * rng.uniform() * (name != "bicubic")
                lines.append(base | kind | {"value": own + loss + noise})
            for degradation, level, loss in damages[1:]:
                for where, share in (("after", 1.0), ("before", 0.5)):
                    kind = {"downscaler": "bicubic", "degradation": degradation, "level": level, "where": where}
                    noise = 0.001 * rng.uniform() if loss else 0.0
                    lines.append(base | kind | {"value": plain + share * loss + noise})
    return damage.named(pd.DataFrame(lines), KINDS, F_US)


def test_names_of_types_and_levels():
    table = rows(2)
    assert {"none", "blur, 3x3 0.0005", "noise 0.1", "mix 1", "R5"} <= set(table.damage)
    assert set(table.f_us) == {damage.FLOW, damage.CONTROL}
    assert damage.of_the_paper(KINDS) == {"blur, 3x3": [1, 2, 4], "noise": [0.05, 0.1, 0.2]}
    assert damage.kinds_in(table) == {title: (kind, levels) for title, (kind, levels) in KINDS.items()}
    assert damage.strongest("otsu", [15, 5, 10], 2) == [10, 5]


def test_a_score_that_follows_the_damage_and_one_that_does_not():
    assert damage.follows(rows(), KINDS).verdict == SUPPORTED
    turned = damage.follows(rows(falls=True), KINDS)
    assert turned.verdict == CONTRADICTED and "not so: noise -1.0" in turned.statement
    assert "(D = MSE, 8 photographs)" in turned.statement and damage.follows(rows(1), KINDS).verdict == NOT_SHOWN


def test_interpolation_that_follows_as_well_speaks_against_the_test():
    found = damage.control(rows(), KINDS)
    assert found.verdict != SUPPORTED and "in 100% of cases with the flow" in found.statement
    table = rows()
    worse = (table.f_us == damage.CONTROL) & (table.type == "noise") & (table.image < "i6")
    table.loc[worse, "value"] *= -1
    assert damage.control(table, KINDS).verdict == SUPPORTED


def test_the_papers_order_pair_by_pair():
    found = damage.ranking(rows())
    assert found.verdict == SUPPORTED and "15 of 15 pairs as stated, 0 the other way round" in found.statement
    assert damage.tau(rows(), damage.FLOW) == 1 and damage.places(rows(), damage.ORDER)[damage.FLOW].tolist() == [
        *range(6, 0, -1)
    ]
    swapped = damage.ranking(rows(order=LOSS | {"l0": 0.6, "perceptual": 0.5}))
    assert swapped.verdict == CONTRADICTED and "l0 loses more than perceptual" in swapped.statement


def test_damage_before_downscaling_is_seen_and_half_as_strong():
    assert damage.before_too(rows(), KINDS).verdict == SUPPORTED
    alike = damage.before_alike(rows(), KINDS)
    assert alike.verdict == CONTRADICTED and "for none of them" in alike.statement
    assert "noise at 0.2 0.5" in alike.statement
    table = rows()
    table["value"] = np.where(table["where"] == "before", 2 * table.value - 1, table.value)
    assert damage.twice(table, KINDS).keys() == damage.twice(rows(), KINDS).keys()


def test_the_last_stage_of_the_mix_takes_back():
    found = damage.stages(rows())
    assert found.verdict == CONTRADICTED and "not so: then quantisation -0.0997" in found.statement
    assert damage.settings(rows()).verdict == SUPPORTED


def test_a_larger_factor_loses_more_or_not():
    both = pd.concat([rows(), rows(scale=8).assign(value=lambda table: table.value + 0.3)])
    both = both[both.damage.isin(["none", "noise 0.1"])]
    assert damage.factors(both).verdict == SUPPORTED and "all 2 steps from x4 to x8" in damage.factors(both).statement
    back = both.assign(value=both.value.where((both.scale == 4) | (both.type == "none"), both.value - 0.6))
    assert (
        damage.factors(back).verdict == CONTRADICTED
        and "not so: noise 0.1, x4 to x8 -0.3" in damage.factors(back).statement
    )


def test_the_identity_and_faint_blur():
    found = damage.identity(rows())
    assert found.verdict == CONTRADICTED and "the change is 0.000 [0.000, 0.000]" in found.statement
    assert damage.faint(rows()).verdict == CONTRADICTED
    table = rows()
    table["value"] -= 0.02 * (table.damage == "blur, 3x3 0.0005")
    assert damage.faint(table).verdict != CONTRADICTED


def test_minima_and_the_questions_at_every_scale():
    table = rows()
    least = damage.minima(damage.rises(table, KINDS))
    assert least.level["blur, 3x3", damage.FLOW] == 1 and least.level["noise", damage.FLOW] == 0.05
    overview = damage.overview(pd.concat([table, rows(scale=8), rows(scale=2).query("type == 'none'")]))
    assert set(overview) == {4, 8} and overview[4].keys() == damage.QUESTIONS.keys()
    assert all(isinstance(each, findings.Finding) for each in overview[8].values())
    assert not damage.overview(table.iloc[:0])


@pytest.fixture(autouse=True)
def known_distortions():
    assert results.lower_is_better("mse")
