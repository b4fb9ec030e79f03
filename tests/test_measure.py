import pytest
import torch

from helpers.measure import ida_rd, score_image
from helpers.runtime import seeded


def halve(hr):
    return torch.nn.functional.avg_pool2d(hr, 2)


def noisy(lr, generators):
    """A stochastic upscaler that is easy to follow: nearest enlargement plus the generator's noise."""
    big = lr.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return torch.cat([big + 0.1 * torch.randn(big.shape, generator=g) for g in generators])


def mse(sr, hr):
    return (sr - hr).square().mean((1, 2, 3))


@pytest.fixture
def hr():
    return torch.rand(1, 3, 12, 10, generator=seeded("hr"))


def test_first_two_of_five_samples_are_the_two_samples(hr):
    five = score_image(hr, halve, noisy, mse, n_samples=5, key=(0, "a"))
    two = score_image(hr, halve, noisy, mse, n_samples=2, key=(0, "a"))
    assert five.shape == (5,) and five.unique().numel() == 5
    assert torch.equal(five[:2], two)


def test_batch_changes_no_sample(hr):
    one = score_image(hr, halve, noisy, mse, n_samples=5, key=(0, "a"), batch=1)
    assert torch.allclose(one, score_image(hr, halve, noisy, mse, n_samples=5, key=(0, "a"), batch=4), atol=1e-8)


def test_key_changes_the_draw(hr):
    assert not torch.equal(
        score_image(hr, halve, noisy, mse, key=(0, "a")), score_image(hr, halve, noisy, mse, key=(1, "a"))
    )


def test_f17_non_finite_samples_are_nan_and_the_others_untouched(hr):
    def fails_twice(lr, generators):
        sr = noisy(lr, generators)
        sr[1, 0, 0, 0] = torch.nan
        sr[3, 2, 5, 5] = torch.inf
        return sr

    good = score_image(hr, halve, noisy, mse, key=(0, "a"))
    mixed = score_image(hr, halve, fails_twice, mse, key=(0, "a"))
    assert mixed.isnan().tolist() == [False, True, False, True, False]
    assert torch.equal(mixed[[0, 2, 4]], good[[0, 2, 4]])


def test_identity_scores_zero(hr):
    quantized = torch.floor(hr * 255 + 0.5) / 255
    same = score_image(quantized, lambda x: x, lambda lr, g: lr.repeat(len(g), 1, 1, 1), mse)
    assert same.abs().max() == 0


def test_lr_is_what_an_8_bit_file_keeps(hr):
    seen = []

    def spy(lr, generators):
        seen.append(lr)
        return noisy(lr, generators)

    score_image(hr, lambda x: halve(x) * 3 - 1, spy, mse, n_samples=1)
    levels = seen[0] * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert seen[0].min() == 0 and seen[0].max() == 1


def test_wrong_shape_of_sr_is_refused_before_any_distortion(hr):
    with pytest.raises(ValueError, match="upscaler: expected shape"):
        score_image(hr, halve, lambda lr, g: noisy(lr, g)[..., 1:], mse)


@pytest.mark.parametrize("bad", [torch.rand(2, 3, 8, 8), torch.rand(3, 8, 8), 255 * torch.rand(1, 3, 8, 8)])
def test_bad_hr_is_refused(bad):
    with pytest.raises(ValueError):
        score_image(bad, halve, noisy, mse)


def test_ida_rd_is_the_mean_over_images_of_the_means_over_samples():
    images = [(str(i), torch.rand(1, 3, 8, 8, generator=seeded("image", i))) for i in range(3)]
    score, distortions = ida_rd(images, halve, noisy, mse, n_samples=4)
    assert distortions.shape == (3, 4)
    assert score == pytest.approx(distortions.mean(1).mean().item())
    again = ida_rd(images[::-1], halve, noisy, mse, n_samples=4)[1]
    assert torch.equal(again.flip(0), distortions)  # the order of the images changes no draw
    with pytest.raises(ValueError, match="at least one image"):
        ida_rd([], halve, noisy, mse)
    with pytest.raises(ValueError, match="n_samples"):
        ida_rd(images, halve, noisy, mse, n_samples=0)


def test_several_distortions_see_the_same_draws(hr):
    both = score_image(hr, halve, noisy, {"mse": mse, "twice": lambda sr, hr: 2 * mse(sr, hr)}, n_samples=3)
    assert both.shape == (3, 2) and torch.allclose(both[:, 1], 2 * both[:, 0])
    assert torch.equal(both[:, 0], score_image(hr, halve, noisy, mse, n_samples=3))
