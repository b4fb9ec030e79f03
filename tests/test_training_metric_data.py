"""Variants of photographs for the training of the embedded distance."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from helpers.images import from_uint8
from helpers.runtime import seeded
from helpers.training import metric_data, metric_report


def photographs(count=3, side=80):
    """Smooth random pictures as 8-bit levels."""
    coarse = torch.rand(count, 3, 10, 10, generator=seeded("photographs"))
    smooth = nn.functional.interpolate(coarse, size=(side, side + 8), mode="bicubic").clamp(0, 1)
    return list((255 * smooth).round().byte())


def quick_flow(*, scale, heat=1.0, variant=""):
    """Nearest neighbours and noise, in place of a flow."""

    def upscale(lr, generators):
        lr = lr.expand(len(generators), -1, -1, -1)
        sr = lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        noise = torch.stack([torch.randn(sr.shape[1:], generator=g) for g in generators])
        return sr + 0.05 * heat * noise

    return upscale


@pytest.fixture
def data(monkeypatch):
    monkeypatch.setattr(metric_data.upscalers, "embedded_flow", quick_flow)
    return metric_data.make_groups(photographs(), 8, 32, 0, "test", batch=4)


def test_groups_hold_the_patch_and_what_was_made_of_it(data):
    assert data.shape == (8, 1 + metric_data.N_VARIANTS, 3, 32, 32) and data.dtype == np.uint8
    gaps = np.abs(data[:, 1:].astype(float) - data[:, :1]).mean((2, 3, 4))
    assert (gaps > 0).mean() > 0.95 and gaps.max() > 5 * np.quantile(gaps, 0.1) > 0  # faint and strong
    others = np.abs(data[0].astype(float) - data[1]).mean((1, 2, 3))
    assert (gaps[0].mean() < others.mean()) and (others > 0).all()  # each patch has its own variants
    again = metric_data.make_groups(photographs(), 8, 32, 0, "test", batch=4)
    assert np.array_equal(again, data)
    assert not np.array_equal(metric_data.make_groups(photographs(), 8, 32, 1, "test", batch=4), data)


def test_groups_are_kept_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(metric_data.upscalers, "embedded_flow", quick_flow)
    make = partial(metric_data.make_groups, photographs(), 4, 32, 0, batch=4, path=tmp_path / "groups.npy")
    first = np.array(make())
    monkeypatch.setattr(metric_data, "make_variants", None)  # not made a second time
    assert np.array_equal(make(), first) and [path.name for path in tmp_path.iterdir()] == ["groups.npy"]
    with pytest.raises(ValueError, match="expected groups of shape"):
        metric_data.make_groups(photographs(), 8, 32, 0, batch=4, path=tmp_path / "groups.npy")
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        metric_data.make_groups(photographs(), 6, 32, 0, batch=4)


def test_what_is_left_out_is_left_out():
    assert not {"l0", "l0_smooth"} & set(metric_data.SEEN) and "otsu" not in metric_data.LEVELS
    assert metric_data.LEVELS["mixed"][1] == 2  # its third stage is otsu
    used = {kind for kind, _ in metric_report.TEST_LEVELS}
    assert "otsu" in used and "l0" in metric_report.TESTED


def test_every_damage_fits_small_images():
    small = torch.rand(2, 3, 8, 8, generator=seeded("small"))
    for number in range(60):
        out = metric_data.damage(small, seeded(number))
        assert out.shape == small.shape and out.isfinite().all()


def test_moves_and_colours_change_the_image_a_little():
    hr = from_uint8(photographs(1)[0][None, :, :64, :64])
    for change in (metric_data.move, metric_data.recolour):
        gaps = [(change(hr, seeded(n)) - hr).abs().mean().item() for n in range(20)]
        assert min(gaps) > 0 and max(gaps) < 0.3 and len({round(gap, 6) for gap in gaps}) > 15


def test_groups_hold_draws_of_both_generations_and_several_of_one_lr_image(monkeypatch):
    drawn, asked = [], set()

    def flow(*, scale, heat, variant):
        asked.add((scale, variant))
        return scale

    def sample(images, upscale, scale, downscaler, key, generator=None):
        drawn.append((downscaler, key, generator is not None))
        return images + 0.001 * len(drawn)

    monkeypatch.setattr(metric_data, "sample_flow", sample)
    hr = from_uint8(photographs(1)[0][None, :, :32, :32])
    for number in range(30):
        drawn.clear()
        metric_data.make_variants(hr, flow, number)
        assert len(drawn) == 15 and sum(damaged for *_, damaged in drawn) == 1
        first = [name for name, key, _ in drawn if key == (number, 0)]
        again = [name for name, key, _ in drawn if key in ((number, 1), (number, 2))]
        assert len(set(first)) == 6 and sorted(again) == sorted(2 * first[:2])
    assert asked == set(metric_data.FLOWS)


def test_stripes_have_one_period_and_stay_faint():
    grey = torch.full((1, 3, 64, 64), 0.5)
    found = [metric_data.stripe(grey, seeded(n)) - grey for n in range(60)]
    assert all(0.01 < each.abs().max() < 0.31 for each in found)
    for each in found:
        periods = [p for p in range(2, 17) if torch.allclose(each[..., p:, p:], each[..., :-p, :-p], atol=1e-6)]
        assert periods
    along = [tuple(bool((each.diff(dim=d) != 0).any()) for d in (2, 3)) for each in found]
    assert set(along) == {(True, False), (False, True), (True, True)}
    assert {bool(torch.equal(each[:, 0], each[:, 1])) for each in found} == {True, False}  # grey, coloured
