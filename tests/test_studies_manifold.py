"""The budget of a search's score where its answer is known: parts that add up, the noise, pairs that are told apart."""

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import runs
from helpers.datasets import generated
from helpers.studies import manifold
from helpers.upscalers import pulse

NAMES = ["generated_000", "generated_001"]


def rows(name: str, values: dict[str, list[float]], residual: float = 1e-6) -> pd.DataFrame:
    lines = [
        {"image": f"i{k}", "downscaler": f, "upscaler": name, "sample": 0, "distortion": "lpips", "value": value}
        for f, each in values.items() for k, value in enumerate(each)
    ]  # fmt: skip
    return pd.DataFrame(lines).assign(residual=residual)


def test_the_truth_is_where_the_search_would_have_to_end_and_other_noise_is_not():
    network = pulse.GENERATORS["embedded_pulse"]("cpu")
    latents, noise, images = manifold.truths(network, NAMES)
    there = manifold.drawn(network, latents, noise)
    assert (there - images).abs().max() < 0.003  # 8-bit levels
    other = manifold.drawn(network, latents, [torch.randn_like(each) for each in noise])
    assert (other - images).abs().max() > 0.01
    torch.testing.assert_close(images[:1], generated.known(NAMES[0]).image)


def test_rows_of_other_noise_are_kept_and_read_again(tmp_path, monkeypatch):
    asked = runs.Experiment("generated", NAMES, ["bicubic", "dpid"], 8, "embedded_pulse", n_samples=1,
                            distortion=["1-ssim", "mse"], device="cpu", size=64)  # fmt: skip
    found = manifold.other_noise(asked, str(tmp_path))
    assert (
        len(found) == 2 * 2 and set(found.upscaler) == {manifold.OTHER_NOISE} and set(found.downscaler) == {"bicubic"}
    )
    assert found.value.gt(0).all() and found.residual.gt(0).all()
    monkeypatch.setattr(manifold, "drawn", lambda *_: 1 / 0)
    assert manifold.other_noise(asked, str(tmp_path)).equals(found)


def test_the_first_three_parts_add_up_to_the_score_of_bicubic():
    noise, tight = rows("noise", {"bicubic": [0.1, 0.2, 0.1]}), rows("tight", {"bicubic": [0.3, 0.3, 0.3]})
    search = rows("search", {"bicubic": [0.4, 0.5, 0.6], "nearest": [0.6, 0.6, 0.9], "bilinear": [0.5, 0.4, 0.5]})
    table = manifold.budget(noise, tight, search, "nearest", "bilinear")
    np.testing.assert_allclose(table[list(manifold.PARTS[:3])].sum(axis=1), [0.4, 0.5, 0.6])
    np.testing.assert_allclose(table["frozen noise"], [0.1, 0.2, 0.1])
    np.testing.assert_allclose(table["downscaler"], [0.1, 0.2, 0.4])


def test_images_whose_tight_answer_agrees_too_little_are_left_out():
    noise, tight = rows("noise", {"bicubic": [0.1, 0.2, 0.1]}), rows("tight", {"bicubic": [0.3, 0.3, 0.3]})
    search = rows("search", {"bicubic": [0.4, 0.5, 0.6], "nearest": [0.6, 0.6, 0.9]})
    tight["residual"] = [1e-6, 1e-3, 1e-6]
    assert list(manifold.budget(noise, tight, search, "nearest", "bicubic").index) == ["i0", "i2"]
    assert manifold.budget(noise, tight.assign(residual=[1e-3, 1e-3, 1e-6]), search, "nearest", "bicubic") is None


@pytest.mark.parametrize("within, near, told", [(0.5, 1, 1), (2.0, 2, 1), (0.01, 0, 0)])
def test_pairs_within_the_tolerance_are_counted_and_those_told_apart(within, near, told):
    a = np.linspace(0.1, 0.2, 12)
    table = rows("search", {"x": list(a), "y": list(a + 0.1 + 0.001 * np.arange(12) % 2), "z": list(a[::-1])})
    away = {frozenset("xy"): 0.1, frozenset("xz"): 1.0, frozenset("yz"): 5.0}
    pairs, apart = manifold.told_apart(table, away, within)
    assert (len(pairs), len(apart)) == (near, told)


def test_a_budget_is_of_every_d_that_is_whole_and_says_its_parts():
    noise, tight = rows("noise", {"bicubic": [0.1, 0.2, 0.1]}), rows("tight", {"bicubic": [0.3, 0.31, 0.3]})
    search = rows("search", {"bicubic": [0.4, 0.45, 0.41], "nearest": [0.6, 0.6, 0.6], "bilinear": [0.5, 0.4, 0.5]})
    both = pd.concat([noise, noise[:2].assign(distortion="mse")])
    by_d = [{d: part.assign(distortion=d) for d in ("lpips", "mse")} for part in (tight, search)]
    found = manifold.budgets(both, *by_d, "nearest", "bilinear", ["i0", "i1", "i2"])
    assert list(found) == ["lpips"]
    pd.testing.assert_frame_equal(found["lpips"], manifold.budget(noise, tight, search, "nearest", "bilinear"))
    facts = manifold.each_part_is_there(found["lpips"], "nearest", "bilinear")
    assert len(facts["verdict"]) == 4 and facts["n"] == 3 and facts["said"].startswith("frozen noise 0.13")
    own = manifold.half_is_its_own(found["lpips"])
    assert own["own"].value == pytest.approx((0.4 + 0.35) / 1.26) and own["verdict"] == "not shown"


def test_lr_images_of_two_downscalers_are_so_far_apart():
    asked = runs.Experiment("generated", NAMES, ["bicubic", "box"], 8, "bicubic", heat=0.0, device="cpu", size=64)
    away = manifold.lr_distances(asked)
    assert list(away) == [frozenset({"bicubic", "box"})]
    lrs = [torch.cat([runs.pair(asked, name, f)[1] for name in NAMES]) for f in ("bicubic", "box")]
    assert away[frozenset({"bicubic", "box"})] == pytest.approx((lrs[0] - lrs[1]).square().mean().item())
