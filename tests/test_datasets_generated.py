"""The embedded face generator: its samples and their latents, the portrait, and that a search inverts it."""

import pytest
import torch
import torch.nn.functional as F

from helpers import generators
from helpers.datasets import alignment, generated, sources
from helpers.images import quantize
from helpers.iqa import kid
from helpers.runtime import seeded
from helpers.training import cards
from helpers.upscalers import pulse, pulse_losses
from helpers.weights import store


def test_the_file_is_small_and_says_how_it_was_made():
    assert store.embedded(generators.NAME).stat().st_size < 12 * 2**20
    assert {"data", "images", "terms"} <= generators.networks().facts.keys()
    assert generators.networks().synthesis.resolution == 64


def test_a_name_means_one_image_and_another_name_another():
    one, again, other = (generated.known(name).image for name in ("generated_003", "generated_003", "generated_004"))
    assert torch.equal(one, again) and (one - other).abs().mean() > 0.02
    assert torch.equal(one, quantize(one)) and one.shape == (1, 3, 64, 64)
    assert torch.equal(sources.load("generated", "generated_003"), one)
    assert sources.names("generated", 2) == ["generated_000", "generated_001"]
    with pytest.raises(ValueError, match="expected generated_000 to generated_255, got 'generated_256'"):
        generated.known("generated_256")


def test_samples_are_varied_and_in_range():
    samples = generated.samples(130, seeded("varied"))
    assert samples.shape == (130, 3, 64, 64) and samples.min() >= 0 and samples.max() <= 1
    assert kid.spread(samples[:64]) > 0.2  # that of the training faces is 0.30
    assert 0.3 < samples.mean() < 0.65


def test_the_search_stays_at_the_truth_when_it_starts_there():
    """On the manifold the score of a perfect answer is known: zero."""
    network = generators.embedded_generator()
    known = generated.known("generated_007")
    latents = (F.leaky_relu(known.style, 1 / network.slope) - network.mean) / network.std
    truth = latents[:, None].expand(-1, len(network.noise_shapes), -1)
    lr = quantize(pulse_losses.bicubic_proxy(known.image, 8))
    state = next(pulse.path(lr, network, truth, known.noise, f_ds=pulse_losses.bicubic_proxy))  # of clipped samples
    assert (state.sr.clamp(0, 1) - known.image).abs().max() < 0.5 / 255 + 1e-4
    assert state.residual.item() < 1e-4  # rounding, and the overshoots of the filter


def test_searches_come_down_to_eps_and_answer_in_different_ways():
    images = [(name, generated.known(name).image) for name in generated.generated()[:2]]
    table = cards.inversion(
        generators.embedded_generator(), [*images, ("portrait", generated.portrait())], 8, n_samples=2, steps=100
    )
    assert list(table.image) == [*generated.generated()[:2], "portrait"]
    assert table.converged.mean() > 0.8 and table.residual.median() <= 2.1e-3
    assert table.spread.min() > 0.02
    assert (table.lr_psnr > 24).all()


def test_the_portrait_has_its_eyes_where_the_training_faces_have_them():
    portrait = generated.portrait()
    assert portrait.shape == (1, 3, 64, 64) and torch.equal(sources.load("portrait", "astronaut"), portrait)
    grey = portrait.mean(1)[0]
    for x, y in alignment.EMBEDDED[:2]:  # an eye is darker than the cheek below it
        column, row = int(x * 64), int(y * 64)
        assert (
            grey[row - 2 : row + 2, column - 3 : column + 4].mean()
            < grey[row + 8 : row + 12, column - 3 : column + 4].mean() - 0.1
        )
