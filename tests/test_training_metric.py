"""The loss and the loop that train the embedded distance."""

import pytest
import torch
from torch import nn

from helpers.images import from_uint8
from helpers.networks.compact_lpips import CompactLPIPS
from helpers.runtime import seeded
from helpers.training import metric, metric_data
from helpers.training.metric import disagreement, pairwise
from tests.test_training_metric_data import photographs, quick_flow

WIDTHS, FEATURES = (4, 6, 5, 4, 4), (8, 12, 10, 8, 8)
FAST = {
    "feature_iterations": 3, "iterations": 3, "pixels": 2 * 32 * 32, "size": 5, "every": 2, "progress": False
}  # fmt: skip


class Teacher(nn.Module):
    """A distance with the parts of LPIPS that the training looks at: taps, heads, a layer that scales the images."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.inner = CompactLPIPS(FEATURES, FEATURES)
        self.scaling_layer = lambda images: images
        self.net = lambda images: self.inner.activations((images + 1) / 2)
        heads = [nn.Conv2d(width, 1, 1, bias=False) for width in FEATURES]
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
    monkeypatch.setattr(metric_data.upscalers, "embedded_flow", quick_flow)
    return metric_data.make_groups(photographs(), 8, 32, 0, "test", batch=4)


def student():
    torch.manual_seed(0)
    return CompactLPIPS(WIDTHS, FEATURES)


def train(data, checkpoint, **options):
    return metric.train_metric(student(), Teacher().eval(), [data], [data[:2]], checkpoint, **FAST | options)


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
    for _ in range(4):  # no time at all: each call stops at its first step, with a checkpoint
        train(data, tmp_path / "cut.pt", seconds=0)
    assert torch.load(tmp_path / "cut.pt", weights_only=True)["iteration"] == 4  # one into the second part
    train(data, tmp_path / "cut.pt")
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "cut.pt"))
    assert one["iteration"] == two["iteration"] == 6
    for part in ("network", "average", "norms"):
        assert all(torch.equal(one[part][key], two[part][key]) for key in one[part]), part
    steps = [line.split(",")[0] for line in (tmp_path / "whole.csv").read_text().splitlines()]
    assert steps == ["iteration", "2", "3", "4", "6"]


def test_both_parts_learn_another_distance(data, tmp_path):
    teacher, images = Teacher().eval(), from_uint8(torch.from_numpy(data.copy()))

    def error(network):
        with torch.no_grad():
            ours = torch.cat([network.distance(network(x[1:]), network(x[:1])) for x in images])
            theirs = torch.cat([teacher(x[1:], x[:1]) for x in images])
        return ((ours + 0.01).log() - (theirs + 0.01).log()).abs().mean().item()

    options = {"feature_iterations": 100, "every": 50, "bfloat16": False, "pair_peak": 0.03, "decay": 0.9}
    features = train(data, tmp_path / "state.pt", iterations=0, **options)
    trained = train(data, tmp_path / "state.pt", iterations=80, **options)
    assert not trained.training
    assert error(trained) < 0.6 * error(features) < 0.6 * error(student())


def test_norms_are_folded_into_the_convolutions(data):
    network = student().to(memory_format=torch.channels_last)
    norms = nn.ModuleList(nn.BatchNorm2d(width) for width in WIDTHS)
    images = from_uint8(torch.from_numpy(data[0, :6].copy()))
    for norm in norms:
        norm.weight.data.uniform_(0.5, 2, generator=seeded("norms"))
        norm.bias.data.normal_(generator=seeded("biases"))
    with torch.no_grad():
        for _ in range(5):
            network.activations(images, norms)
        expected = network.activations(images, norms.eval())
        metric._fold(network, norms)
        for found, wanted in zip(network.activations(images), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_heads_start_at_those_of_the_teacher():
    network, wanted = student(), metric.lpips_weights(Teacher())
    metric._start_heads(network, wanted)
    for found, weight in zip(network.weights(), wanted, strict=True):
        torch.testing.assert_close(found, weight.clamp_min(1e-5))
    with pytest.raises(ValueError, match="features: expected 8 channels of a tap, got 4"):
        metric._start_heads(CompactLPIPS(WIDTHS, WIDTHS), wanted)


def test_without_the_first_part_training_goes_on_from_the_network_as_it_is(data, tmp_path):
    wanted = [head.detach().clone() for head in student().heads]
    same = train(data, tmp_path / "a.pt", feature_iterations=0, iterations=1, pair_peak=1e-9, bfloat16=False)
    for found, head in zip(same.heads, wanted, strict=True):  # not those of the teacher
        torch.testing.assert_close(found, head, atol=1e-5, rtol=0)
    torch.testing.assert_close(same.taps[0].weight, student().taps[0].weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["features", "maps", "taps", "total", "order"])
def test_losses_of_the_second_part_are_weighted(data, tmp_path, name):
    losses = []
    for share in (0.0, 0.5, 1.0):
        options = {"feature_iterations": 0, "iterations": 1, "bfloat16": False, "shares": {name: share}}
        train(data, tmp_path / f"{share}.pt", **options)
        losses.append(float((tmp_path / f"{share}.csv").read_text().splitlines()[1].split(",")[2]))
    assert losses[1] - losses[0] == pytest.approx(losses[2] - losses[1], rel=1e-2) and losses[0] < losses[1]


def test_a_share_of_no_loss_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="shares: expected some of features, .*, got feature"):
        train(data, tmp_path / "state.pt", shares={"feature": 0.5})


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_step_changes_every_weight_or_says_why_not(channels_last):
    network = student()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    if not channels_last:
        with pytest.raises(RuntimeError, match="channels_last"):
            metric._optimizers([network], 0.01)
        return
    network.to(memory_format=torch.channels_last)
    optimizers = metric._optimizers([network], 0.01)
    taps = network(torch.rand(4, 3, 64, 64, generator=seeded("step")))
    loss = network.distance([tap[:2] for tap in taps], [tap[2:] for tap in taps]).sum()
    metric._update([network], optimizers, loss, 0.01)
    assert not any(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_heads_are_fitted_where_that_helps_on_held_out_photographs(data):
    teacher, network = Teacher().eval(), student().eval()
    start = [head.detach().clone() for head in network.heads]
    losses = metric.fit_heads(network, teacher, [data[:6]], [data[6:]], steps=60, rate=0.1)
    assert losses["after"] < losses["before"]
    assert not any(torch.equal(old, new) for old, new in zip(start, network.heads, strict=True))
    with torch.no_grad():
        images = from_uint8(torch.from_numpy(data[6:].copy()))
        ours = torch.stack([network.distance(network(x[1:]), network(x[:1])) for x in images])
        theirs = torch.stack([teacher(x[1:], x[:1]) for x in images])
    parts = metric._apart(ours, theirs).mean() + metric._out_of_order(ours, theirs)
    assert parts.item() == pytest.approx(losses["after"], rel=1e-3)
    kept = [head.detach().clone() for head in network.heads]
    again = metric.fit_heads(network, teacher, [data[:6]], [data[6:]], steps=3, rate=50.0)  # far too much
    assert again["after"] > again["before"]
    assert all(torch.equal(old, new) for old, new in zip(kept, network.heads, strict=True))


def test_a_loss_that_is_not_finite_stops_it(data, tmp_path):
    network = student()
    network.convolutions[0].weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="iteration 0"):
        metric.train_metric(network, Teacher(), [data], [data], tmp_path / "state.pt", **FAST)
