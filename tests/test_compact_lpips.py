"""The form of the embedded distance, whose properties hold whatever the weights, and the checkpoint that is shipped."""

import json

import pandas as pd
import pytest
import torch

from helpers import distortions
from helpers.datasets import sources
from helpers.degradations import DEGRADATIONS
from helpers.downscalers.filters import resize
from helpers.images import quantize
from helpers.networks.compact_lpips import CompactLPIPS
from helpers.runtime import seeded
from helpers.training import metric_report
from helpers.weights import store


def network(seed: int, widths=(5, 7, 6, 4, 3), features=(9, 8, 7, 6, 5)) -> CompactLPIPS:
    """Random weights of all sizes and signs, in float64."""
    torch.manual_seed(seed)
    made = CompactLPIPS(widths, features).double()
    for parameter in made.parameters():
        parameter.data = parameter.data * 3 ** torch.randn(()).item() + 0.5 * torch.randn_like(parameter)
    return made.eval()


def images(n: int, side: int = 40) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(side)).double()


@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_it_is_zero_for_equal_images_symmetric_and_never_negative(seed):
    made, x, y = network(seed), images(6), images(6, 40).flip(0)
    a, b = made(x), made(y)
    assert torch.equal(made.distance(a, a), torch.zeros(6).double())
    assert torch.equal(made.distance(a, b), made.distance(b, a))
    assert (made.distance(a, b) > 0).all()
    assert all((head >= 0).all() for head in made.weights())


@torch.no_grad()
def test_weights_cannot_become_negative():
    made = network(0)
    for head in made.heads:
        head.data.fill_(-50.0)
    assert all((head >= 0).all() for head in made.weights())
    assert (made.distance(made(images(2)), made(images(2, 41)[..., :40, :40])) >= 0).all()


@torch.no_grad()
def test_taps_lie_where_those_of_alexnet_lie():
    from torchvision.models import alexnet

    made = CompactLPIPS((6, 5, 4, 3, 2), (2, 3, 4, 5, 6))
    trunk, x, places = alexnet(weights=None).features, torch.rand(1, 3, 95, 64), []
    for layer in trunk[:-1]:  # the last pool is behind the last tap
        x = layer(x)
        places += [tuple(x.shape[-2:])] * isinstance(layer, torch.nn.ReLU)
    assert [tuple(tap.shape[-2:]) for tap in made(torch.rand(1, 3, 95, 64))] == places
    assert [tap.shape[1] for tap in made(torch.rand(1, 3, 95, 64))] == [2, 3, 4, 5, 6]


@torch.no_grad()
def test_features_have_length_one_and_the_distance_is_the_formula():
    made, x, y = network(1), images(3), images(3).flip(0)
    a, b = made(x), made(y)
    for tap in a:
        lengths = tap.square().sum(1)
        assert (((lengths - 1).abs() < 1e-3) | (lengths < 1e-3)).all()  # ReLU may leave a position without features
    expected = torch.zeros(3).double()
    for head, p, q in zip(made.weights(), a, b, strict=True):
        for channel, weight in enumerate(head):
            expected += weight * (p[:, channel] - q[:, channel]).square().mean((1, 2))
    torch.testing.assert_close(made.distance(a, b), expected)


@torch.no_grad()
def test_one_image_against_a_batch():
    made, x, y = network(2), images(1), images(4).flip(0)
    whole = made.distance(made(y), made(x))
    torch.testing.assert_close(whole, torch.cat([made.distance(made(y[i : i + 1]), made(x)) for i in range(4)]))


def test_gradients_stay_finite_where_a_position_has_no_features():
    made, x = network(3), images(2).requires_grad_()
    for convolution in made.convolutions:
        convolution.bias.data.fill_(-100.0)
    made.distance(made(x), made(images(2).flip(0))).sum().backward()
    assert x.grad.isfinite().all()


def test_other_widths_are_refused():
    for five in ((1, 2, 3, 4), (1, 2, 3, 4, 0)):
        with pytest.raises(ValueError, match="widths: expected 5 integers"):
            CompactLPIPS(five)
        with pytest.raises(ValueError, match="features: expected 5 integers"):
            CompactLPIPS(features=five)


# ---- the checkpoint that is shipped


def damaged(name: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A library crop and the damage of the card's pairs."""
    hr = sources.load("library", name)
    return hr, {
        f"{kind} {level:g}": quantize(DEGRADATIONS[kind](hr, level, seeded(0, name, kind)))
        for kind, level in metric_report.TEST_LEVELS
    }


def card() -> tuple[dict, pd.DataFrame]:
    facts = json.loads((store.EMBEDDED / "compact_lpips.json").read_text())
    columns = ["image", "kind", "variant", "lpips_embedded", "lpips"]
    return facts, pd.DataFrame(facts["pairs"], columns=columns)


def test_the_card_is_that_of_this_checkpoint():
    facts, pairs = card()
    assert store.embedded("compact_lpips").stat().st_size <= 2_000_000
    assert facts["weights"] == distortions.describe("lpips_embedded")
    for name in pairs.image.unique()[:2]:
        stated = pairs[(pairs.image == name) & (pairs.kind == "damage")].set_index("variant").lpips_embedded
        hr, variants = damaged(name)
        values = distortions.lpips_embedded(torch.cat(list(variants.values())), hr)
        for variant, value in zip(variants, values.tolist(), strict=True):
            assert value == pytest.approx(stated[variant], abs=2e-3), (name, variant)  # libjpeg builds differ
    assert facts["library"] == metric_report.by_kind(pairs)
    assert facts["summary"]["same_ranking"]
    for name, kinds in ({"library": facts["library"]} | facts["collections"]).items():
        assert kinds["all"]["spearman"] > 0.98, name  # as the README says, and below
        assert kinds["draws x4"]["spearman"] > 0.97 and kinds["draws x8"]["spearman"] > 0.95, name
        assert kinds["draws x4"]["within"] > 0.9 and kinds["draws x8"]["within"] > 0.9, name
        assert kinds["stripes"]["spearman"] > 0.98 and kinds["stripes"]["relative"] < 0.15, name


def test_the_card_states_lpips(shared, monkeypatch):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data" / "weights"))
    _, pairs = card()
    name = pairs.image.iloc[0]
    stated = pairs[(pairs.image == name) & (pairs.kind == "damage")].set_index("variant").lpips
    hr, variants = damaged(name)
    values = distortions.lpips(torch.cat(list(variants.values())), hr)
    assert values.tolist() == pytest.approx(stated[list(variants)].tolist(), abs=2e-3)


def test_it_follows_lpips_on_photographs_that_it_has_not_seen(shared, monkeypatch):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data" / "weights"))
    folder = shared / "data" / "kodak"
    rows = []
    for name in sources.names(folder, 4):
        hr = metric_report.crop_middle(sources.load(folder, name), 192)
        lrs = [resize(hr, (48, 48), kind) for kind in ("nearest", "box", "bicubic", "lanczos")]
        round_trips = [resize(lr, (192, 192), kind) for lr in lrs for kind in ("bicubic", "nearest")]
        damage = [quantize(DEGRADATIONS["noise"](hr, level, seeded(0, name))) for level in (0.03, 0.1, 0.2)]
        damage += [DEGRADATIONS["jpeg"](hr, level) for level in (10, 30, 70)]
        variants = torch.cat(round_trips + damage)
        values = {metric: distortions.against(metric, hr)(variants).tolist() for metric in ("lpips_embedded", "lpips")}
        rows.append(pd.DataFrame(values).assign(image=name))
    found = metric_report.agreement(pd.concat(rows))
    assert found["spearman"] > 0.98 and found["within"] > 0.95
    assert found["relative"] < 0.2
