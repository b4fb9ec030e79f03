"""Distances between sets of images, on sets whose answer is known."""

import pytest
import torch

from helpers.iqa import kid
from helpers.runtime import seeded


def normal(count: int, shift: float = 0.0, key: str = "a") -> torch.Tensor:
    return torch.randn(count, 20, generator=seeded(key)).double() + shift


def test_two_halves_of_one_set_are_near_and_another_set_is_far():
    same = kid.distances(normal(400), normal(400, key="b"))
    near, far = (kid.distances(normal(400, shift), normal(400, key="b")) for shift in (0.3, 1.0))
    assert abs(same["kid"]) < 0.05 < near["kid"] < far["kid"]
    assert same["fid"] < near["fid"] < far["fid"]


def test_no_unit_of_a_feature_decides():
    units = 10.0 ** torch.arange(-10, 10).double()
    plain = kid.distances(normal(300, 0.4), normal(300, key="b"))
    scaled = kid.distances(normal(300, 0.4)[:, 9:] * units[9:], normal(300, key="b")[:, 9:] * units[9:])
    same = kid.distances(normal(300, 0.4)[:, 9:], normal(300, key="b")[:, 9:])
    assert scaled["kid"] == pytest.approx(same["kid"], rel=1e-6) and plain["kid"] > 0


def test_kid_photograph_by_photograph():
    """With one patch a photograph it is KID without its bias; intervals come from the photographs."""
    of, to = normal(300, 0.2), normal(300, key="b")
    scaled = [part / to.std(0) for part in (of, to)]
    kernels = [(a @ b.T / 20 + 1) ** 3 for a, b in ((scaled[0],) * 2, (scaled[1],) * 2, scaled)]
    off = 300 * 299
    by_hand = sum(
        ((k.sum() - k.diagonal().sum()) / off).item() * sign for k, sign in zip(kernels, (1, 1, -2), strict=True)
    )
    value, parts = kid.of_pairs(kid.apart(of.split(1), to.split(1)))
    assert value == pytest.approx(by_hand, rel=1e-9) and parts.mean() == pytest.approx(value, abs=1e-9)
    assert value == pytest.approx(kid.distances(of, to)["kid"], rel=0.2)
    same, spread = kid.of_pairs(kid.apart(normal(60).split(3), normal(60, key="b").split(3)))
    assert abs(same) < 3 * spread.std() / 20**0.5


def test_patches_of_one_photograph_are_not_compared():
    """Each photograph is one patch many times: inside a photograph all are equal, which says nothing of the sets."""
    of, to = normal(30, 0.5), normal(30, key="b")
    once = kid.apart(of.split(1), to.split(1))
    often = kid.apart([part.expand(4, -1) for part in of.split(1)], [part.expand(4, -1) for part in to.split(1)])
    unit = torch.cat([to] * 4).std(0) / to.std(0)
    assert kid.of_pairs(often)[0] == pytest.approx(kid.of_pairs(once)[0], rel=6 * (1 - unit.min().item()) + 0.05)


def test_too_few_photographs_for_kid():
    with pytest.raises(ValueError, match="two photographs or more in both sets, got 1 and 1"):
        kid.apart([normal(5)], [normal(5)])
    with pytest.raises(ValueError, match="three photographs or more, got 2"):
        kid.of_pairs(torch.zeros(2, 2))


def test_spread_by_hand():
    images = torch.stack([torch.full((3, 4, 4), value) for value in (0.0, 0.3, 0.9)])
    assert kid.spread(images) == pytest.approx((0.3 + 0.9 + 0.6) / 3)


def test_a_mirrored_copy_is_found():
    faces = torch.randint(0, 256, (1500, 3, 8, 8), generator=seeded("faces")).byte()
    images = torch.stack([faces[1203].flip(2) / 255, faces[4] / 255, torch.zeros(3, 8, 8)])
    found = kid.nearest(images, faces)
    assert found[:2].max() < 1e-3 and found[2] > 0.4


def test_features_tell_blur_and_need_alexnet(shared, monkeypatch):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data" / "weights"))
    images = torch.rand(6, 3, 64, 64, generator=seeded("images"))
    found = kid.features(images)
    assert found.shape == (6, 256) and found.dtype == torch.float64 and found.min() >= 0
    torch.testing.assert_close(kid.features(images[2:3])[0], found[2], rtol=1e-4, atol=1e-5)
    blurred = kid.features(torch.nn.functional.avg_pool2d(images, 5, 1, 2))
    assert (blurred - found).abs().mean() > 0.1 * found.std()


def test_features_without_alexnet_say_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)
    with pytest.raises(ValueError, match="alexnet"):
        kid.features(torch.rand(1, 3, 64, 64))
