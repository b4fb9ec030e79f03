import re
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from helpers import distortions
from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize
from helpers.measure import ida_rd, score_image
from helpers.promises import check_downscaler
from helpers.runtime import seeded
from helpers.stats import conditions
from helpers.upscalers import UPSCALERS


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
        for one, generator in zip(sr, generators, strict=True):
            for q, value in ((1, torch.nan), (3, torch.inf)):
                if generator.initial_seed() == seeded(0, "a", q).initial_seed():
                    one[q - 1, q, 5] = value
        return sr

    good = score_image(hr, halve, noisy, mse, key=(0, "a"))
    mixed = score_image(hr, halve, fails_twice, mse, key=(0, "a"))
    assert mixed.isnan().tolist() == [False, True, False, True, False]
    assert torch.equal(mixed[[0, 2, 4]], good[[0, 2, 4]])
    with pytest.warns(
        UserWarning, match=r"^2 of 10 draws are not finite \(2 of 'a'\); the score is the mean of the oth"
    ):
        score, values = ida_rd([("a", hr), ("b", hr)], halve, fails_twice, mse)
    assert torch.equal(values[0, [0, 2, 4]], good[[0, 2, 4]])
    assert score == pytest.approx((good[[0, 2, 4]].mean() + values[1].mean()).item() / 2)


def test_identity_scores_zero(hr):
    quantized = torch.floor(hr * 255 + 0.5) / 255
    same = score_image(quantized, lambda x: x, lambda lr, g: lr.repeat(len(g), 1, 1, 1), mse)
    assert same.abs().max() == 0


def test_lr_is_what_an_8_bit_file_keeps(hr):
    seen = []

    def spy(lr, generators):
        seen.append(lr)
        return noisy(lr, generators)

    with pytest.warns(UserWarning, match="they are clipped"):
        score_image(hr, lambda x: halve(x) * 2 - 0.5, spy, mse, n_samples=1)
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


# --- one validator for both doors ---------------------------------------------------------------


def through_runs(f, hr):
    return check_downscaler(lambda x, scale: f(x), "mine", hr, 2, image="lake")


def through_measure(f, hr):
    def mine(x):
        return f(x)

    return score_image(hr, mine, noisy, mse, n_samples=1, key=(0, "lake"))


def through_ida_rd(f, hr):
    def mine(x):
        return f(x)

    return ida_rd([("lake", hr)], mine, noisy, mse, n_samples=1)


@pytest.fixture(params=[through_runs, through_measure, through_ida_rd])
def door(request):
    return request.param


BAD = {
    "0..255": (lambda x: halve(x) * 255, "looks like 0..255: divide 8-bit levels by 255"),
    "levels that round": (lambda x: (halve(x) * 255).round(), "looks like 0..255"),
    "[-1, 1]": (lambda x: halve(x) * 2 - 1, r"looks like \[-1, 1\]: return \(x \+ 1\) / 2"),
    "[-0.5, 0.5]": (lambda x: halve(x) - 0.5, r"range \[-0.\d+, 0.\d+\]; it looks like \[-0.5, 0.5\]"),
    "normalised": (lambda x: (halve(x) - 0.449) / 0.226, "looks like ImageNet's normalisation"),
    "too bright": (lambda x: halve(x) + 0.4, r"of the values outside, range .*\]; up to 20% are clipped"),
    "uint8": (lambda x: (halve(x) * 255).byte(), "dtype torch.float32, got torch.uint8; .* divided by 255"),
    "double": (lambda x: halve(x).double(), "dtype torch.float32, got torch.float64; return lr.to"),
    "half": (lambda x: halve(x).half(), "dtype torch.float32, got torch.float16"),
    "complex": (lambda x: halve(x).to(torch.complex64), "dtype torch.float32"),
    "inf": (lambda x: halve(x) / (halve(x) > 0.3), "expected finite values"),
    "one NaN": (lambda x: halve(x).index_fill(3, torch.tensor([0]), torch.nan), "18 values that are NaN or infinite"),
    "NumPy": (lambda x: halve(x).numpy(), r"expected a torch.Tensor, got ndarray; return torch.from_numpy\(lr\)"),
    "nothing": (lambda x: None, "expected a torch.Tensor, got NoneType"),
    "no batch": (lambda x: halve(x)[0], r"got \(3, 6, 5\); keep the batch: lr\[None\]"),
    "channels last": (lambda x: halve(x).permute(0, 2, 3, 1), r"got \(1, 6, 5, 3\); .* lr.permute\(0, 3, 1, 2\)"),
    "turned": (lambda x: halve(x).transpose(2, 3), r"got \(1, 3, 5, 6\)"),
    "grey": (lambda x: halve(x)[:, :1], r"got \(1, 1, 6, 5\)"),
    "one side": (lambda x: x[..., ::2], r"got \(1, 3, 12, 5\)"),
    "a pixel less": (lambda x: halve(x)[..., 1:], r"got \(1, 3, 6, 4\)"),
    "no pixel": (lambda x: halve(x)[..., :0], r"got \(1, 3, 6, 0\)"),
    "sparse": (lambda x: halve(x).to_sparse(), "a dense tensor, got torch.sparse_coo; return lr.to_dense"),
    "meta": (lambda x: halve(x).to("meta"), "device cpu, got meta; return lr.to"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_lr_image_is_refused_at_every_door(door, case, hr):
    f, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        door(f, hr)
    assert "downscaler 'mine', image 'lake': expected" in str(error.value)


def test_a_downscaler_that_changes_its_input_scores_like_one_that_does_not(hr):
    def vandal(x):
        lr = halve(x)
        x.copy_(lr.repeat_interleave(2, 2).repeat_interleave(2, 3))  # what the upscaler will answer
        return lr

    before = hr.clone()
    honest = ida_rd([("a", hr)], halve, noisy, mse)[1]
    assert torch.equal(ida_rd([("a", hr)], vandal, noisy, mse)[1], honest) and torch.equal(hr, before)
    assert torch.equal(score_image(hr, vandal, noisy, mse, key=(0, "a")), honest[0]) and torch.equal(hr, before)


def test_an_upscaler_and_a_distortion_work_on_copies_too(hr):
    def greedy(lr, generators):
        sr = noisy(lr, generators)
        lr.fill_(0.5)
        return sr

    def in_place(sr, hr):
        return sr.sub_(hr.mul_(1)).square_().mean((1, 2, 3))

    before, honest = hr.clone(), score_image(hr, halve, noisy, {"a": mse, "b": mse}, n_samples=5, batch=2)
    rude = score_image(hr, halve, greedy, {"a": in_place, "b": mse}, n_samples=5, batch=2)
    assert torch.allclose(rude, honest, rtol=1e-6) and torch.equal(hr, before)


def overshooting(share):
    """A downscaler that leaves [0, 1] by 0.1 in about this share of its values."""

    def mine(x):
        lr = halve(x).clamp(0.05, 0.95).flatten()
        lr[: round(share * lr.numel())] = 1.1
        return lr.view(1, 3, x.shape[2] // 2, x.shape[3] // 2)

    return mine


def test_clipping_is_silent_then_warned_of_then_refused():
    hr = torch.rand(1, 3, 40, 40, generator=seeded("large"))  # 1200 LR values
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score_image(hr, overshooting(0.01), noisy, mse, key=(0, "lake"))
    for share in (0.011, 0.05, 0.2):
        with pytest.warns(UserWarning, match=rf"'mine', image 'lake': .* {share:.1%} of the values .* 1.1\]"):
            score_image(hr, overshooting(share), noisy, mse, key=(0, "lake"))
        assert check_downscaler(overshooting(share), "f", hr).clipped == pytest.approx(share, abs=1 / 1200)
    images = [(f"{k}", hr * (1 - k / 9)) for k in range(5)]
    shares = {hr.sum().item(): share for (_, hr), share in zip(images, (0, 0.02, 0.1, 0.01, 0.05), strict=True)}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ida_rd(images, lambda x: overshooting(shares[x.sum().item()])(x), noisy, mse, n_samples=1)
    assert len(said) == 1 and said[0].filename == __file__
    assert re.search(
        r"image '2': .* 10\.0% of the values .*\(so on 3 images; this one is the worst\)$", str(said[0].message)
    )
    for door in (through_runs, through_measure, through_ida_rd):
        with pytest.raises(ValueError, match=r"20\.1% of the values outside"):
            door(overshooting(0.201), hr)


HIGHER = {
    "psnr": (distortions.psnr, "'psnr'.* more is better"),
    "ssim": (distortions.ssim, "'ssim'.* more is better"),
    "a lambda": (lambda sr, hr: -mse(sr, hr), "'<lambda>'.* more is better"),
    "a partial": (partial(distortions.psnr), "'psnr'.* more is better"),
    "(N, 1)": (lambda sr, hr: mse(sr, hr)[:, None], r"shape \(2,\), got \(2, 1\); try values.flatten\(\)"),
    "(N, 1, 1, 1)": (lambda sr, hr: mse(sr, hr).view(-1, 1, 1, 1), r"got \(2, 1, 1, 1\)"),
    "a scalar": (lambda sr, hr: mse(sr, hr).mean(), r"got \(\); try reduction='none'"),
    "a float": (lambda sr, hr: mse(sr, hr).mean().item(), "got float"),
    "NumPy": (lambda sr, hr: mse(sr, hr).numpy(), r"got ndarray; try torch.as_tensor\(values\)"),
    "a list": (lambda sr, hr: mse(sr, hr).tolist(), r"got list; try torch.as_tensor\(values\)"),
    "wrapped levels": (
        lambda sr, hr: ((255 * sr).byte() - (255 * hr).byte()).float().mean((1, 2, 3)),
        "less for a nearer image, got .* a little darker or brighter image and .* for noise; 8-bit levels that are",
    ),
    "the first HR image": (
        lambda sr, hr, first={}: mse(sr, first.setdefault("hr", hr)),  # noqa: B006
        "a distance to the HR image, got .* whatever that is; it judges an image by itself, or keeps something of",
    ),
    "NaN": (lambda sr, hr: mse(sr, hr) * torch.nan, "expected real numbers for finite images, got"),
    "a constant": (lambda sr, hr: torch.zeros(len(sr)), "got 0 for the image itself, its negative and noise: a const"),
    "its own constant": (lambda sr, hr: hr.mean().repeat(len(sr)), "a constant ranks nothing"),
    "infinity": (lambda sr, hr: mse(sr, hr) + torch.inf, "expected finite numbers, got inf for the image itself and i"),
    "1 / 0": (lambda sr, hr: mse(sr, hr) / 0 * (mse(sr, hr) > 0), "expected (finite|real) numbers"),
    "minus infinity": (lambda sr, hr: mse(sr, hr) - torch.inf, "expected finite numbers, got -inf"),
}


@pytest.mark.parametrize("case", HIGHER)
def test_a_distortion_that_cannot_be_averaged_is_refused(case, hr):
    d, message = HIGHER[case]
    big = torch.rand(1, 3, 22, 24, generator=seeded("big"))
    for distortion in (d, {"mse": mse, "it": d}):
        expected = message if distortion is d else message.replace("'psnr'", "'it'").replace("'ssim'", "'it'")
        with pytest.raises(ValueError, match=expected.replace("'<lambda>'", "'(<lambda>|it)'")):
            score_image(big, halve, noisy, distortion)
    with pytest.raises(ValueError, match=message):
        ida_rd([("a", big)], halve, noisy, d)


def test_distortions_of_which_less_is_better_are_taken():
    big = torch.rand(1, 3, 64, 64, generator=seeded("big"))
    for name in ("mse", "1-ssim", "lpips_embedded"):
        assert score_image(big, halve, noisy, distortions.DISTORTIONS[name], n_samples=2).min() > 0
    assert score_image(big, halve, noisy, lambda sr, hr: -distortions.psnr(sr, hr), n_samples=2).max() < 0
    flat = torch.full((1, 3, 32, 32), 0.5)
    assert score_image(flat, halve, noisy, mse, n_samples=1) > 0


SR = {
    "a list": (lambda sr: list(sr), "expected a torch.Tensor, got list"),
    "uint8": (lambda sr: (sr.clamp(0, 1) * 255).byte(), "8-bit levels divided by 255, got torch.uint8"),
    "0..255": (lambda sr: sr * 255, "looks like 0..255"),
    "0..255 and one wild draw": (lambda sr: torch.cat([sr[:4] * 255, sr[4:] * -40]), "looks like 0..255"),
    "dark 0..255": (lambda sr: sr.clamp(0, 1) * 255, "looks like 0..255", 0.03),
    "0..255 of another picture": (lambda sr: (sr.clamp(0, 1) * 255).flip(2, 3), "looks like 0..255"),
    "flat 0..255": (lambda sr: sr * 255, "looks like 0..255", 0.5, 0),
    "[-1, 1]": (lambda sr: sr * 2 - 1, r"looks like \[-1, 1\]: return \(x \+ 1\) / 2"),
    "bright [-1, 1]": (lambda sr: sr.clamp(0, 1) * 2 - 1, r"looks like \[-1, 1\]", 0.85, 0.3),
    "[-0.5, 0.5]": (lambda sr: sr - 0.5, r"looks like \[-0.5, 0.5\]: return x \+ 0.5"),
    "normalised": (lambda sr: (sr - 0.449) / 0.226, "looks like ImageNet's normalisation"),
    "meta": (lambda sr: sr.to("meta"), "SR images on cpu, where the LR image is, got meta"),
    "one for all": (lambda sr: sr[:1], "one SR image a generator, got"),
}


@pytest.mark.parametrize("case", SR)
def test_what_are_no_sr_images_is_refused(case, hr):
    f, message, *darker = SR[case]
    if darker:  # mean, and contrast
        hr = darker[0] + (darker[1] if darker[1:] else darker[0]) * (hr - 0.5)
    with pytest.raises(ValueError, match=f"upscaler: .*{message}.* from 'mine'"):

        def mine(lr, generators):
            return f(noisy(lr, generators))

        score_image(hr, halve, mine, mse)


def test_unstable_and_dark_sr_images_are_scored(hr):
    factors = {seeded(0, 1).initial_seed(): 1e3, seeded(0, 2).initial_seed(): -40}

    def wild_draws(lr, generators):
        return noisy(lr, generators) * torch.tensor([factors.get(g.initial_seed(), 1) for g in generators]).view(
            -1, 1, 1, 1
        )

    wild = score_image(hr, halve, wild_draws, mse)
    assert wild.isfinite().all() and wild[1] > 0.2 and wild[2] > 0.2
    black = torch.zeros(1, 3, 12, 10)
    assert score_image(black, halve, noisy, mse).isfinite().all()  # half of the values below 0
    rounded = score_image(hr, halve, lambda lr, g: noisy(lr, g).half(), mse)
    assert torch.allclose(rounded, score_image(hr, halve, noisy, mse), rtol=0.02)


def wild():
    """LR images on which the embedded flow draws values far from [0, 1]: grain and checkers of single pixels."""
    grid = torch.arange(16)
    checkers = ((grid[:, None] + grid) % 2).float()
    yield "noise", torch.rand(1, 3, 16, 16, generator=seeded("wild"))
    yield "coin tosses", torch.rand(1, 3, 16, 16, generator=seeded("wild")).round()
    yield "checkers", checkers.expand(1, 3, 16, 16)
    yield "coloured checkers", torch.stack([checkers, 1 - checkers, checkers])[None]


@pytest.mark.parametrize("what, lr", wild(), ids=[what for what, _ in wild()])
@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_wild_draws_of_a_known_flow_are_scored(what, lr, heat):
    upscale = UPSCALERS["embedded_flow_first"](scale=4, heat=heat)  # the later ones stay in [-.25, 1.25]
    drawn = []

    def flow(lr, generators):
        drawn.append(upscale(lr, generators))
        return drawn[-1]

    hr = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
    nearest = partial(DOWNSCALERS["nearest"], scale=4)
    values = score_image(hr, nearest, flow, mse, n_samples=2, key=(0, "a"))
    assert drawn[-1].abs().max() > 5 and torch.equal(values, mse(quantize(drawn[-1]), hr).double())
    score, distortions = ida_rd([("a", hr)], nearest, flow, mse, n_samples=2)
    assert torch.equal(distortions[0], values) and score == pytest.approx(values.mean().item())
    with pytest.raises(ValueError, match="looks like 0..255"):
        score_image(hr, nearest, lambda lr, g: upscale(lr, g).clamp(0, 1) * 255, mse, n_samples=2)


def test_autocast_changes_no_lr_image():
    name, big = "bicubic_float", torch.rand(1, 3, 32, 32, generator=seeded("big"))  # the others multiply in float64
    f = DOWNSCALERS[name]
    plain = f(big, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal(f(big, 4), plain)  # what it is kept from
        low = check_downscaler(f, name, big, 4, overshoots=True).lr
    assert torch.equal(low, plain)


def test_half_precision_images_are_scored_in_float32(hr):
    low = (hr * 255).round().div(255).half()
    seen = []
    score_image(low, lambda x: seen.append(x.dtype) or halve(x), noisy, mse, n_samples=1)
    assert seen == [torch.float32]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"seed": -1}, "seed from 0 to"),
        ({"seed": 2**63}, "seed from 0 to"),
        ({"seed": True}, "seed from 0 to"),
        ({"seed": 0.5}, "seed from 0 to"),
        ({"n_samples": 0}, "n_samples"),
        ({"n_samples": 2.0}, "n_samples: expected an integer"),
        ({"n_samples": True}, "n_samples"),
    ],
)
def test_seeds_and_numbers_of_samples(options, message, hr):
    with pytest.raises(ValueError, match=message):
        ida_rd([("a", hr)], halve, noisy, mse, **options)
    with pytest.raises(ValueError, match="seed from 0 to"):
        score_image(hr, halve, noisy, mse, key=(-1, "a"))
    with pytest.raises(ValueError, match="expected a tuple"):
        score_image(hr, halve, noisy, mse, key="lake")
    with pytest.raises(ValueError, match="'a' twice"):
        ida_rd([("a", hr), ("a", 1 - hr)], halve, noisy, mse)


def test_names_in_place_of_functions(hr):
    for bad in [
        ("bicubic", noisy, mse),
        (halve, "srflow", mse),
        (halve, noisy, "lpips"),
        (halve, noisy, {"a": "lpips"}),
    ]:
        with pytest.raises(ValueError, match="expected a function, got '.*; see DOWNSCALERS, UPSCALERS, DISTORTIONS"):
            score_image(hr, *bad)
    with pytest.raises(ValueError, match="at least one, got none"):
        score_image(hr, halve, noisy, {})


def test_seed_zero_is_a_seed(hr):
    zero, one = (ida_rd([("a", hr)], halve, noisy, mse, seed=seed)[1] for seed in (0, 1))
    assert not torch.equal(zero, one) and torch.equal(zero[0], score_image(hr, halve, noisy, mse, key=(0, "a")))


@pytest.mark.parametrize("seed", range(4))
def test_the_direction_of_a_distortion_is_told_on_dark_images_and_whatever_the_offset(seed):
    """Correlation of pixels and one minus it, on images of which every value is below 0.5."""

    def correlation(sr, hr):
        a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (sr, hr.expand_as(sr)))
        return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))

    def upscale(lr, generators):
        return torch.cat([F.interpolate(lr, scale_factor=4)] * len(generators))

    dark = 0.49 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    options = (partial(F.avg_pool2d, kernel_size=4), upscale)
    assert score_image(dark, *options, lambda sr, hr: 1 - correlation(sr, hr), n_samples=1).isfinite().all()
    with pytest.raises(ValueError, match="more is better"):
        score_image(dark, *options, correlation, n_samples=1)


# --- what f_us, D and the caller must not do ------------------------------------------------------


FICKLE = {
    "global": (lambda lr, g: noisy(lr, [torch.default_generator] * len(g)), "one SR image of one generator, got two"),
    "place": (
        lambda lr, g: noisy(lr, g) + torch.arange(len(g)).view(-1, 1, 1, 1) / 9,
        "the same samples in a batch, got samples that differ by 0.11",
    ),
    "companions": (lambda lr, g: (noisy(lr, g) + noisy(lr, g).mean(0)) / 2, "the same samples in a batch"),
    "NaN": (lambda lr, g: noisy(lr, g) * torch.nan, "finite values, got 360 that are not"),
}


@pytest.mark.parametrize("case", FICKLE)
def test_an_upscaler_with_two_answers_is_refused(case, hr):
    f, message = FICKLE[case]
    for door in (lambda f: score_image(hr, halve, f, mse), lambda f: ida_rd([("a", hr)], halve, f, mse)):
        with pytest.raises(ValueError, match=f"upscaler .*: expected {message}"):
            door(f)


RANDOM = {
    "random": (lambda sr, hr: mse(sr, hr) + torch.rand(len(sr)), "the same value at each call, got"),
    "a batch": (lambda sr, hr: mse(sr, hr) + (sr - sr.mean(0)).abs().mean(), "one value an SR image, whatever stands"),
    "integers": (lambda sr, hr: (255 * mse(sr, hr)).byte(), "floats, got torch.uint8; integers are rounded"),
    "truths": (lambda sr, hr: mse(sr, hr) > 0.01, "floats, got torch.bool"),
}


@pytest.mark.parametrize("case", RANDOM)
def test_a_distortion_with_two_answers_or_integers_is_refused(case, hr):
    f, message = RANDOM[case]
    for door in (lambda f: score_image(hr, halve, noisy, f), lambda f: ida_rd([("a", hr)], halve, noisy, f)):
        with pytest.raises(ValueError, match=f"distortion .*: expected {message}"):
            door(f)


def test_a_downscaler_with_two_answers_is_said_of(hr):
    def fickle(x):
        return (halve(x) + 0.1 * torch.rand(1)).clamp(0, 1)

    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="downscaler 'fickle' is not deterministic: two calls differ on 'a'"):
        ida_rd([("a", hr), ("b", hr)], fickle, noisy, mse, n_samples=1)


@pytest.mark.parametrize("around", ["inference", "dtype"])
def test_an_upscaler_is_built_as_ever_whatever_the_caller_has_switched_on(around, hr):
    big = hr.repeat(1, 1, 2, 2)[..., :16, :16]
    wanted = score_image(big, halve, UPSCALERS["embedded_flow"](scale=2), mse, n_samples=1)
    if around == "dtype":
        torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(around == "inference"):
            built = UPSCALERS["embedded_flow"](scale=2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(score_image(big, halve, built, mse, n_samples=1), wanted)


def test_an_upscaler_is_held_to_its_promises_once(hr):
    calls = []

    def spy(lr, generators):
        calls.append(len(generators))
        return noisy(lr, generators)

    ida_rd([("a", hr), ("b", hr)], halve, spy, mse)
    score_image(hr, halve, spy, mse)
    assert calls == [1, 1, 1, 2, 1, 1, 5, 5, 5]


def test_a_bright_image_does_not_hide_the_range_of_an_upscaler(hr):
    for door in (partial(score_image, 0.7 + 0.3 * hr), lambda *f: ida_rd([("a", 0.7 + 0.3 * hr)], *f)):
        with pytest.raises(ValueError, match=r"upscaler: expected values in .0, 1., got .*\[-1, 1\]: return"):
            door(halve, lambda lr, generators: 2 * noisy(lr, generators) - 1, mse)


def test_an_upscaler_or_a_downscaler_that_keeps_something_of_the_first_image_is_said_of(hr):
    """As a cache does whose key is an address, which the next image has again."""
    images, first = [("a", hr), ("b", hr.flip(3)), ("c", hr / 2), ("d", hr)], {}
    with pytest.warns(UserWarning) as said:
        ida_rd(images, halve, lambda lr, g: noisy(first.setdefault("lr", lr), g), mse, n_samples=1)
        ida_rd(images[:2], lambda x: halve(first.setdefault("hr", x)), noisy, mse, n_samples=1)
    texts = [str(each.message) for each in said]
    assert len(texts) == 2 and {each.filename for each in said} == {__file__}
    assert texts[0].startswith("upscaler '<lambda>': expected another SR image of another LR image, got the same; it ")
    assert texts[1].startswith("downscaler '<lambda>': expected another LR image of another HR image, got one for a, b")


def linear(lr, generators):
    """An upscaler that autocast computes in bfloat16."""
    big = F.conv2d(lr, torch.eye(3).view(3, 3, 1, 1) * 0.987).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return torch.cat([big + 0.01 * torch.randn(big.shape, generator=g) for g in generators])


def blurred(x):
    return F.conv2d(x, torch.eye(3).view(3, 3, 1, 1).expand(3, 3, 2, 2) * 0.247, stride=2)


AROUND = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference": torch.inference_mode,
    "a device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("flow", [linear, UPSCALERS["embedded_flow"](scale=2)], ids=["own", "ours"])
def test_what_the_caller_has_switched_on_changes_no_value(around, flow, hr):
    big = hr.repeat(1, 1, 2, 2)[..., :16, :16]
    wanted = score_image(big, blurred, flow, mse, key=(0, "a"))
    with AROUND[around]():
        got = score_image(big.clone() if around == "inference" else big, blurred, flow, mse, key=(0, "a"))
        assert torch.equal(ida_rd([("a", big)], blurred, flow, mse)[1][0], got)
    assert torch.equal(got, wanted)


def test_a_default_dtype_of_the_caller_changes_no_value(hr):
    wanted = score_image(hr, blurred, linear, mse, key=(0, "a"))
    torch.set_default_dtype(torch.float64)
    try:
        got = [score_image(each, blurred, linear, mse, key=(0, "a")) for each in (hr, hr.double())]
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(got[0], wanted) and torch.equal(got[1], wanted)


@pytest.mark.parametrize("which", range(3))
def test_what_a_function_sets_for_the_process_is_put_back(which, hr):
    functions = [halve, noisy, mse]
    wanted, set_by = score_image(hr, *functions, key=(0, "a")), functions[which]

    def rude(a, *b):
        answer = set_by(a, *b)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(3)
        return answer

    functions[which] = rude
    threads = torch.get_num_threads()
    assert torch.equal(ida_rd([("a", hr)], *functions)[1][0], wanted)
    assert torch.get_default_dtype() == torch.float32 and torch.get_num_threads() == threads


# --- what a newcomer hands over -----------------------------------------------------------------


def test_a_distortion_is_looked_at_once_for_all_images():
    images, seen = [(f"{i}", torch.rand(1, 3, 8, 8, generator=seeded("image", i))) for i in range(4)], []

    def spy(sr, hr):
        seen.append(len(sr))
        return mse(sr, hr)

    values = ida_rd(images, halve, noisy, spy, n_samples=1)[1]
    # the image and noise, again, of another HR image, nearly the image, noise alone; then a draw of each image
    assert seen == [2, 2, 2, 2, 1, 1, 1, 1, 1]
    assert torch.equal(values, ida_rd(images, halve, noisy, mse, n_samples=1)[1])


def test_an_infinite_distance_of_a_draw_is_refused_with_a_way_out(hr):
    def exact(lr, generators):
        return quantize(hr).repeat(len(generators), 1, 1, 1)

    with pytest.raises(ValueError, match="expected real numbers .*-inf.*of equal images PSNR is infinite: hand over m"):
        ida_rd([("a", quantize(hr))], halve, exact, lambda sr, hr: -distortions.psnr(sr, hr))


NO_PAIRS = {
    "a mapping": (lambda hr: {"a": hr}, r"got dict; hand over its items\(\)"),
    "tensors": (lambda hr: [hr, hr], "got Tensor in list"),
    "one tensor": (lambda hr: hr, "got Tensor in Tensor"),
    "nothing": (lambda hr: None, "got NoneType"),
    "a number": (lambda hr: 3, "got int"),
    "a name": (lambda hr: "library", "got str in str"),
    "names": (lambda hr: ["lake", "hill"], "got str in list"),
    "turned pairs": (lambda hr: [(hr, "a")], r"got \(Tensor, str\) in list"),
    "three": (lambda hr: iter([("a", hr, "b")]), r"got \(str, Tensor, str\) in list_iterator"),
    "a loader's": (lambda hr: [[["a"], hr]], r"got \(list, Tensor\) in list"),
    "one pair": (lambda hr: ("a", hr), "got str in tuple"),
}


@pytest.mark.parametrize("case", NO_PAIRS)
def test_images_that_are_no_pairs_say_what_is_expected(case, hr):
    images, message = NO_PAIRS[case]
    with pytest.raises(ValueError, match=rf"images: expected pairs .* such as \[\('lake', hr\)\], {message}"):
        ida_rd(images(hr), halve, noisy, mse)
    assert ida_rd({"a": hr}.items(), halve, noisy, mse, n_samples=1)[1].shape == (1, 1)


@pytest.mark.parametrize("case", [True, -1, (0,), None])
def test_names_that_are_no_part_of_a_key(case, hr):
    with pytest.raises(ValueError, match="key of integers|seed from 0|images: expected pairs"):
        ida_rd([(case, hr)], halve, noisy, mse)


NO_HR = {
    "a list": (lambda hr: hr.tolist(), "expected a torch.Tensor, got list"),
    "NumPy": (lambda hr: hr.numpy(), "expected a torch.Tensor, got ndarray"),
    "a dict": (lambda hr: {"hr": hr}, "expected a torch.Tensor, got dict"),
    "sparse": (lambda hr: hr.to_sparse(), r"expected a dense tensor .* torch.sparse_coo; to_dense\(\) makes one"),
    "meta": (lambda hr: hr.to("meta"), "expected a dense tensor with values, got one on meta"),
    "an empty batch": (lambda hr: hr[:0], r"expected shape \(N, 3, H, W\), got \(0, 3, 12, 10\)"),
    "no pixels": (lambda hr: hr[..., :0], r"got \(1, 3, 12, 0\)"),
    "two": (lambda hr: torch.cat([hr, hr]), "expected one image, got 2"),
    "complex": (lambda hr: hr.to(torch.complex64), "expected floats"),
    "NaN": (lambda hr: hr * torch.nan, "expected finite values"),
}


@pytest.mark.parametrize("case", NO_HR)
def test_what_is_no_hr_image_is_refused(case, hr):
    f, message = NO_HR[case]
    for door in (
        lambda bad: score_image(bad, halve, noisy, mse),
        lambda bad: ida_rd([("a", bad)], halve, noisy, mse),
        lambda bad: check_downscaler(halve, "mine", bad) if case != "two" else score_image(bad, halve, noisy, mse),
    ):
        with pytest.raises(ValueError, match=f"hr: .*{message}"):
            door(f(hr))


def test_an_hr_image_that_wants_a_gradient_is_scored_without_one(hr):
    wanted = score_image(hr, halve, noisy, mse, key=(0, "a"))
    with torch.enable_grad():
        leaf = hr.clone().requires_grad_()
        assert torch.equal(score_image(leaf, halve, noisy, mse, key=(0, "a")), wanted)
        values = ida_rd([("a", leaf * 1.0)], halve, noisy, mse)[1]
    assert torch.equal(values[0], wanted) and not values.requires_grad and leaf.grad is None


def test_functions_of_other_arguments_say_what_is_expected(hr):
    def mine(hr, scale):
        return halve(hr)

    record = UPSCALERS["embedded_flow"]
    for bad, message in (
        (
            (mine, noisy, mse),
            r"downscaler 'mine'.* of \(hr\), got one of \(hr, scale\); hand over lambda hr: mine\(hr, 4\)",
        ),
        ((DOWNSCALERS["bicubic"], noisy, mse), r"downscaler '\w+': expected a function of \(hr\), got one of"),
        (
            (halve, record, mse),
            r"upscale .*of \(lr, generators\), got one of .*; UPSCALERS\['embedded_flow'\]\(scale=4\)",
        ),
        (
            (halve, lambda lr: lr, mse),
            r"upscale '<lambda>': expected a function of \(lr, generators\), got one of \(lr\)",
        ),
        ((halve, noisy, distortions.against("mse", hr)), r"distortion '<lambda>': .* of \(sr, hr\), got one of \(sr\)"),
        ((halve, noisy, {"it": lambda: 0}), r"distortion 'it': expected a function of \(sr, hr\), got one of \(\)"),
    ):
        for door in (lambda *f: score_image(hr, *f), lambda *f: ida_rd([("a", hr)], *f)):
            with pytest.raises(ValueError, match=message):
                door(*bad)
    with pytest.raises(ValueError, match=r"downscaler 'mine': expected a function of \(hr, scale\), got one of \(hr\)"):
        check_downscaler(halve, "mine", hr, 2)
    modules = torch.nn.AvgPool2d(2), noisy, torch.nn.Sequential()  # their arguments are known when they are called
    modules[2].forward = mse
    assert torch.equal(score_image(hr, *modules, n_samples=1), score_image(hr, halve, noisy, mse, n_samples=1))


def test_integers_of_numpy_are_integers(hr):
    plain = ida_rd([("a", hr)], halve, noisy, mse, n_samples=2, seed=3)
    numpy = ida_rd([("a", hr)], halve, noisy, mse, n_samples=np.int64(2), seed=np.uint8(3))
    assert torch.equal(plain[1], numpy[1])
    named = score_image(hr, halve, noisy, mse, key=(np.int32(3), np.str_("a")), n_samples=2, batch=np.int64(1))
    assert torch.allclose(named, plain[1][0], rtol=1e-6)
    with pytest.raises(ValueError, match="seed from 0 to"):
        score_image(hr, halve, noisy, mse, key=(np.int64(-3), "a"))


def test_each_photograph_counts_once_with_the_mean_of_its_images():
    images = [(f"{i}", torch.rand(1, 3, 8, 8, generator=seeded("image", i)) * (i + 1) / 4) for i in range(4)]
    groups = {"0": "P", "1": "Q", "2": "P", "3": ""}
    score, values = ida_rd(images, halve, noisy, mse, n_samples=2, groups=groups)
    rows = pd.DataFrame({"image": list(groups), "group": list(groups.values())})
    means = pd.Series(values.mean(1).tolist(), index=pd.Index(groups, name="image"))
    assert score == pytest.approx(conditions.by_photograph(means, rows).mean())
    plain, same = ida_rd(images, halve, noisy, mse, n_samples=2)
    assert torch.equal(same, values) and plain != pytest.approx(score)
    assert ida_rd(iter(images), halve, noisy, mse, n_samples=2, groups=dict.fromkeys("0123", ""))[0] == plain
    for wrong, message in (
        ({"0": "P"}, "groups: expected the photograph of each image, got None for '1'"),
        (groups | {"2": float("nan")}, "got nan for '2'"),
        (["P", "Q", "P", "R"], "groups: expected name -> photograph, .* got list"),
    ):
        with pytest.raises(ValueError, match=message):
            ida_rd(images, halve, noisy, mse, n_samples=1, groups=wrong)


def test_a_photograph_without_a_finite_draw_is_left_out_of_the_score():
    images = [(f"{i}", torch.rand(1, 3, 8, 8, generator=seeded("image", i))) for i in range(3)]

    def fails(lr, generators):
        return noisy(lr, generators) * (torch.nan if torch.equal(lr, quantize(halve(images[1][1]))) else 1)

    with pytest.warns(UserWarning, match="2 of 6 draws are not finite"):
        score, values = ida_rd(images, halve, fails, mse, n_samples=2, groups={"0": "P", "1": "Q", "2": "P"})
    assert values[1].isnan().all() and score == pytest.approx(values[[0, 2]].mean().item())
