"""Variants, the loss and the loop that train the embedded distance."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from torch import nn

from helpers import metric_training
from helpers.images import from_uint8, write_rgb
from helpers.metric_training import disagreement, pairwise
from helpers.networks.compact_lpips import CompactLPIPS
from helpers.runtime import seeded

WIDTHS = (4, 6, 5, 4, 4)
FAST = {"iterations": 6, "pixels": 2 * 32 * 32, "size": 5, "every": 3, "progress": False}


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


class Teacher(nn.Module):
    """A distance with the parts of LPIPS that the training looks at: taps, heads, a layer that scales the images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.inner = CompactLPIPS(tuple(2 * width for width in WIDTHS))
        self.scaling_layer = lambda images: images
        self.net = lambda images: self.inner.activations((images + 1) / 2)
        heads = [nn.Conv2d(2 * width, 1, 1, bias=False) for width in WIDTHS]
        for head in heads:
            head.weight.data.abs_()
        self.lins = nn.ModuleList(nn.ModuleDict({"model": nn.Sequential(nn.Dropout(), head)}) for head in heads)
        for lin in self.lins:
            lin.model = lin["model"]

    def forward(self, x, y):
        taps = zip(self.lins, self.inner(x), self.inner(y), strict=True)
        return sum(lin.model[-1]((a - b).square()).mean((1, 2, 3)) for lin, a, b in taps)


@pytest.fixture
def data(monkeypatch):
    monkeypatch.setattr(metric_training.upscalers, "embedded_flow", quick_flow)
    return metric_training.groups(photographs(), 8, 32, 0, "test", batch=4)


def student():
    torch.manual_seed(0)
    return CompactLPIPS(WIDTHS)


def train(data, checkpoint, **options):
    return metric_training.train_metric(student(), Teacher().eval(), [data], [data[:2]], checkpoint, **FAST | options)


def test_groups_hold_the_patch_and_what_was_made_of_it(data):
    assert data.shape == (8, 1 + metric_training.N_VARIANTS, 3, 32, 32) and data.dtype == np.uint8
    gaps = np.abs(data[:, 1:].astype(float) - data[:, :1]).mean((2, 3, 4))
    assert (gaps > 0).mean() > 0.95 and gaps.max() > 3 * np.median(gaps) > 0
    others = np.abs(data[0].astype(float) - data[1]).mean((1, 2, 3))
    assert (gaps[0].mean() < others.mean()) and (others > 0).all()  # each patch has its own variants
    again = metric_training.groups(photographs(), 8, 32, 0, "test", batch=4)
    assert np.array_equal(again, data)
    assert not np.array_equal(metric_training.groups(photographs(), 8, 32, 1, "test", batch=4), data)


def test_groups_are_kept_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(metric_training.upscalers, "embedded_flow", quick_flow)
    make = partial(metric_training.groups, photographs(), 4, 32, 0, batch=4, path=tmp_path / "groups.npy")
    first = np.array(make())
    monkeypatch.setattr(metric_training, "variants", None)  # not made a second time
    assert np.array_equal(make(), first) and [path.name for path in tmp_path.iterdir()] == ["groups.npy"]
    with pytest.raises(ValueError, match="expected groups of shape"):
        metric_training.groups(photographs(), 8, 32, 0, batch=4, path=tmp_path / "groups.npy")
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        metric_training.groups(photographs(), 6, 32, 0, batch=4)


def test_what_is_left_out_is_left_out():
    assert not {"l0", "l0_smooth"} & set(metric_training.SEEN) and "otsu" not in metric_training.LEVELS
    assert metric_training.LEVELS["mixed"][1] == 2  # its third stage is otsu
    used = {kind for kind, _ in metric_training.TEST_LEVELS}
    assert "otsu" in used and "l0" in metric_training.TESTED


def test_every_damage_fits_small_images():
    small = torch.rand(2, 3, 8, 8, generator=seeded("small"))
    for number in range(60):
        out = metric_training.damaged(small, metric_training.Draw(number))
        assert out.shape == small.shape and out.isfinite().all()


def test_moves_and_colours_change_the_image_a_little():
    hr = from_uint8(photographs(1)[0][None, :, :64, :64])
    for change in (metric_training.moved, metric_training.recoloured):
        gaps = [(change(hr, metric_training.Draw(n)) - hr).abs().mean().item() for n in range(20)]
        assert min(gaps) > 0 and max(gaps) < 0.3 and len({round(gap, 6) for gap in gaps}) > 15


def test_pairwise_is_the_distance_of_every_pair(data):
    network, images = student(), from_uint8(torch.from_numpy(data[:2, :4])).flatten(0, 1)
    with torch.no_grad():
        maps = pairwise(network.activations(images), network.weights(), 4)
        total = sum(each.mean(1) for each in maps)
        taps = [tap.unflatten(0, (2, 4)) for tap in network(images)]
        for a in range(4):
            for b in range(4):
                expected = network.distance([tap[:, a] for tap in taps], [tap[:, b] for tap in taps])
                torch.testing.assert_close(total[:, a, b], expected, atol=1e-6, rtol=1e-3)
        part = pairwise(network.activations(images), network.weights(), 4, (1, 0))[0]
    grid = maps[0].unflatten(1, (7, 7))
    torch.testing.assert_close(part, grid[:, 1::2, ::2].flatten(1, 2))


def test_disagreement_is_zero_for_equal_maps_and_grows():
    generator = seeded("maps")
    maps = [torch.rand(2, side * side, 5, 5, generator=generator) * 0.1 for side in (6, 3)]
    maps = [each + each.mT for each in maps]
    assert all(value == 0 for value in disagreement(maps, maps).values())
    losses = [disagreement([each * factor for each in maps], maps) for factor in (1.1, 1.5, 3.0)]
    for key in ("maps", "taps", "total", "order"):
        values = [each[key].item() for each in losses]
        assert 0 < values[0] < values[1] < values[2], key
    shifted = [each + 0.05 for each in maps]  # the same gaps, other distances
    assert disagreement(shifted, maps)["order"] < 1e-5 < disagreement(shifted, maps)["total"]


def test_a_stopped_run_resumes_to_the_same_weights(data, tmp_path):
    train(data, tmp_path / "whole.pt")
    for _ in range(2):  # no time at all: each call stops at its first step, with a checkpoint
        train(data, tmp_path / "cut.pt", seconds=0)
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["iteration"] == 2
    train(data, tmp_path / "cut.pt")
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "cut.pt"))
    assert one["iteration"] == two["iteration"] == 6
    for part in ("network", "average", "bridges"):
        assert all(torch.equal(one[part][key], two[part][key]) for key in one[part]), part
    assert (tmp_path / "whole.csv").read_text().count("\n") == 3


def test_it_learns_another_distance(data, tmp_path):
    teacher, images = Teacher().eval(), from_uint8(torch.from_numpy(data.copy()))

    def error(network):
        with torch.no_grad():
            ours = torch.cat([network.distance(network(x[1:]), network(x[:1])) for x in images])
            theirs = torch.cat([teacher(x[1:], x[:1]) for x in images])
        return ((ours + 0.01).log() - (theirs + 0.01).log()).abs().mean().item()

    trained = train(data, tmp_path / "state.pt", iterations=100, every=25, bfloat16=False)
    assert not trained.training
    assert error(trained) < 0.6 * error(student())


def test_heads_are_fitted_where_that_helps_on_held_out_photographs(data):
    teacher, network = Teacher().eval(), student().eval()
    start = [head.detach().clone() for head in network.heads]
    losses = metric_training.fit_heads(network, teacher, [data[:6]], [data[6:]], steps=60, rate=0.1)
    assert losses["after"] < losses["before"]
    assert not any(torch.equal(old, new) for old, new in zip(start, network.heads, strict=True))
    with torch.no_grad():
        images = from_uint8(torch.from_numpy(data[6:].copy()))
        ours = torch.stack([network.distance(network(x[1:]), network(x[:1])) for x in images])
        theirs = torch.stack([teacher(x[1:], x[:1]) for x in images])
    parts = metric_training._apart(ours, theirs).mean() + metric_training._out_of_order(ours, theirs)
    assert parts.item() == pytest.approx(losses["after"], rel=1e-3)
    kept = [head.detach().clone() for head in network.heads]
    again = metric_training.fit_heads(network, teacher, [data[:6]], [data[6:]], steps=3, rate=50.0)  # far too much
    assert again["after"] > again["before"]
    assert all(torch.equal(old, new) for old, new in zip(kept, network.heads, strict=True))


def test_a_loss_that_is_not_finite_stops_it(data, tmp_path):
    network = student()
    network.heads[0].data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="iteration 0"):
        metric_training.train_metric(network, Teacher(), [data], [data], tmp_path / "state.pt", **FAST)


def test_export_keeps_half_precision_and_the_facts(tmp_path):
    network = student()
    metric_training.export(network, tmp_path / "mine.safetensors", photographs=3)
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        assert file.metadata() == {"widths": str(list(WIDTHS)), "photographs": "3"}
        for name, value in network.state_dict().items():
            assert torch.equal(file.get_tensor(name), value.half())


def test_agreement_by_hand():
    table = pd.DataFrame(
        {
            "image": list("aaabbb"),
            "lpips": [0.1, 0.2, 0.3, 0.1, 0.2, 0.4],
            "lpips_embedded": [0.2, 0.3, 0.4, 0.2, 0.1, 0.5],
        }
    )
    found = metric_training.agreement(table)
    assert (found["n"], found["images"]) == (6, 2)
    assert found["within"] == pytest.approx((1 + 0.5) / 2)
    assert found["error"] == pytest.approx(0.1) and found["bias"] == pytest.approx(0.4 / 6)
    assert found["relative"] == pytest.approx((1 + 0.5 + 1 / 3 + 1 + 0.5 + 0.25) / 6)


def test_compared_has_a_row_for_every_variant(monkeypatch):
    monkeypatch.setattr(metric_training.upscalers, "embedded_flow", quick_flow)
    hr = from_uint8(photographs(1)[0][None, :, :64, :64])
    rows = pd.DataFrame(metric_training.compared([("a", hr)], ["mse", "1-ssim"]))
    n = len(metric_training.TESTED)
    assert rows.kind.value_counts().to_dict() == {
        "flow": n, "mixed flow": n, "bicubic": n, "damage": len(metric_training.TEST_LEVELS)
    }  # fmt: skip
    assert (rows.mse > 0).all() and rows.groupby("kind").mse.nunique().min() >= 5


def test_calibrated_puts_published_scores_beside_ours(tmp_path):
    write_rgb(torch.full((1, 3, 40, 40), 100 / 255), tmp_path / "A_ref.png")
    write_rgb(torch.full((1, 3, 40, 40), 125 / 255), tmp_path / "A_dist.png")
    (tmp_path / "reference_scores.csv").write_text(
        "metric,kind,source,A\npsnr,x,published: there,20.17\npsnr,x,computed: here,1\nssim,x,computed: here,1\n"
    )
    rows = metric_training.calibrated(tmp_path, ["psnr", "ssim", "dists"])
    assert [row["metric"] for row in rows] == ["psnr here", "psnr published", "ssim here", "dists here"]
    assert rows[0]["A"] == pytest.approx(20.172, abs=1e-3) and rows[1]["A"] == 20.17


def test_middle_of_an_image():
    image = torch.arange(3 * 6 * 9.0).view(1, 3, 6, 9)
    assert torch.equal(metric_training.middle(image, 4), image[..., 1:5, 2:6])
    assert torch.equal(metric_training.middle(image, 8), image[..., 1:7])
