"""The card of a downscaler: what programs' own filters are called, and what looks like a mistake."""

import functools
import io
import re

import numpy as np
import pytest
import skimage.transform
import torch
import torch.nn.functional as F
from PIL import Image

from helpers.colour import to_linear, to_srgb
from helpers.downscalers import DOWNSCALERS, filters, form, kernels
from helpers.downscalers.chart import chart
from helpers.images import crop_to_multiple, from_uint8, quantize, to_uint8
from tests.test_datasets_checks import photograph

NAMES = {  # downscaler -> kernel, border ("": not looked at), what it filters
    "nearest": ("nearest, pixel {middle} of", "not reached", "sRGB"),
    "nearest_topleft": ("nearest, pixel 0 of", "not reached", "sRGB"),
    "box": ("box", "not reached", "sRGB"),
    "bilinear": ("triangle, antialiased", "renormalised", "sRGB"),
    "hamming": ("Hamming", "renormalised", "sRGB"),
    "bicubic": ("cubic a = -0.5, antialiased", "renormalised", "sRGB"),
    "bicubic_float": ("cubic a = -0.5, antialiased", "renormalised", "sRGB"),
    "lanczos": ("Lanczos 3, antialiased", "renormalised", "sRGB"),
    "matlab_bicubic": ("cubic a = -0.5, antialiased", "mirrored, the edge pixel twice", "sRGB"),
    "matlab_bilinear": ("triangle, antialiased", "mirrored, the edge pixel twice", "sRGB"),
    "torch_bicubic": ("cubic a = -0.75, not antialiased", "", "sRGB"),
    "torch_bilinear": ("triangle, not antialiased", "", "sRGB"),
}
LINEAR = ["box", "bilinear", "hamming", "bicubic", "lanczos"]
NAMES |= {f"{name}_linear": (*NAMES[name][:2], "linear light") for name in LINEAR}
ADAPTIVE = ["dpid", "perceptual", "l0", "l0_smooth"]


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("name", NAMES)
def test_our_filters_are_named_and_warn_of_nothing(name, scale):
    kernel, border, light = NAMES[name]
    card = form.card(DOWNSCALERS[name], scale)
    kernel = kernel.format(middle=scale // 2)
    assert any(each.startswith(kernel) for each in card.kernel.split(" or ")), card.kernel  # equal weights: all names
    assert card.fixed and card.misfit < 0.35 and card.border.startswith(border) and card.light.startswith(light)
    assert card.warnings == () and card.turned == "" and card.channels == "RGB"
    moved = {"nearest": scale // 2 - (scale - 1) / 2, "nearest_topleft": -(scale - 1) / 2}.get(name, 0)
    assert card.shift == pytest.approx((moved, moved), abs=0.06)
    assert card.gain == pytest.approx((1, 1, 1), abs=0.005) and card.offset == pytest.approx((0, 0, 0), abs=0.6)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_what_depends_on_the_picture_is_no_fixed_filter_and_no_mistake(name, scale):
    card = form.card(DOWNSCALERS[name], scale)
    assert not card.fixed and card.warnings == () and "not a fixed filter" in str(card)


def pixels(hr):
    return to_uint8(hr)[0].permute(1, 2, 0).numpy()


def picture(array):
    return from_uint8(torch.from_numpy(np.array(array))).permute(2, 0, 1)[None]


def pillow(filter):
    return lambda hr, s: picture(Image.fromarray(pixels(hr)).resize((hr.shape[3] // s, hr.shape[2] // s), filter))


def torchs(**options):
    return lambda hr, s: F.interpolate(hr, size=(hr.shape[2] // s, hr.shape[3] // s), **options)


def skimages(**options):
    def downscale(hr, s):
        size = hr.shape[2] // s, hr.shape[3] // s
        made = skimage.transform.resize(hr[0].permute(1, 2, 0).numpy(), size, **options)
        return torch.from_numpy(made).permute(2, 0, 1)[None].float()

    return downscale


def blur(sigma, start, mode="reflect"):
    """Blur with a Gaussian, then every s-th pixel."""

    def downscale(hr, s):
        reach = int(4 * sigma)
        taps = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
        taps = (taps / taps.sum()).view(1, 1, -1, 1)
        x = F.pad(hr, (reach,) * 4, mode=mode).transpose(0, 1)
        return F.conv2d(F.conv2d(x, taps), taps.transpose(2, 3)).transpose(0, 1)[..., start::s, start::s]

    return downscale


@pytest.mark.parametrize(
    "downscale, kernel, border",
    [
        (pillow(Image.NEAREST), "nearest, pixel 2 of 0 to 3 (Pillow NEAREST)", "not reached"),
        (pillow(Image.BOX), "box (Pillow BOX, OpenCV INTER_AREA", "not reached"),
        (pillow(Image.BILINEAR), "triangle, antialiased (Pillow BILINEAR", "renormalised"),
        (pillow(Image.HAMMING), "Hamming (Pillow HAMMING)", "renormalised"),
        (pillow(Image.BICUBIC), "cubic a = -0.5, antialiased (Pillow BICUBIC", "renormalised"),
        (pillow(Image.LANCZOS), "Lanczos 3, antialiased (Pillow LANCZOS", "renormalised"),
        (torchs(mode="nearest"), "nearest, pixel 0 of 0 to 3 (torch and OpenCV nearest)", "not reached"),
        (torchs(mode="nearest-exact"), "nearest, pixel 2 of 0 to 3", "not reached"),
        (torchs(mode="area"), "box", "not reached"),
        (torchs(mode="bilinear"), "triangle, not antialiased (torch bilinear, OpenCV INTER_LINEAR)", "not reached"),
        (torchs(mode="bicubic"), "cubic a = -0.75, not antialiased (torch bicubic, OpenCV INTER_CUBIC)", "not reached"),
        (torchs(mode="bilinear", antialias=True), "triangle, antialiased", "renormalised"),
        (torchs(mode="bicubic", antialias=True), "cubic a = -0.5, antialiased", "renormalised"),
        (skimages(order=0, anti_aliasing=False), "nearest, pixel 2 of 0 to 3", "not reached"),
        (skimages(order=1, anti_aliasing=False), "triangle, not antialiased", "not reached"),
        (skimages(order=1, anti_aliasing=True), "Gaussian of sigma 1.6 HR pixels", "mirrored, the edge pixel once"),
    ],
)
def test_filters_of_programs_are_named(downscale, kernel, border):
    card = form.card(downscale, 4)
    assert card.kernel.startswith(kernel), card.kernel
    assert card.border.startswith(border) and card.warnings == () and card.fixed


def bicubic(hr, scale):
    return DOWNSCALERS["bicubic"](hr, scale)


def jpeg(quality):
    def downscale(hr, scale):
        buffer = io.BytesIO()
        Image.fromarray(pixels(bicubic(hr, scale))).save(buffer, format="JPEG", quality=quality)
        return picture(Image.open(buffer).convert("RGB"))

    return downscale


def grey(hr, scale):
    luma = (bicubic(hr, scale) * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    return quantize(luma).expand(-1, 3, -1, -1)


def corner(hr, scale):
    """As if pixels were points at their top left corners: the content lies half an LR pixel up and left."""
    return filters.bicubic_float(hr.roll((-scale // 2, -scale // 2), (2, 3)), scale)


MISTAKES = {
    "flip": (lambda hr, s: bicubic(hr, s).flip(3), "flipped left to right"),
    "upside down": (lambda hr, s: bicubic(hr, s).flip(2), "flipped top to bottom"),
    "half turn": (lambda hr, s: bicubic(hr, s).flip(2, 3), "turned by 180 degrees"),
    "left": (lambda hr, s: bicubic(hr, s).rot90(1, (2, 3)), "turned left by 90 degrees"),
    "right": (lambda hr, s: bicubic(hr, s).rot90(-1, (2, 3)), "turned right by 90 degrees"),
    "transposed": (lambda hr, s: bicubic(hr, s).transpose(2, 3), "is transposed"),
    "BGR": (lambda hr, s: bicubic(hr, s).flip(1), "the order BGR, as OpenCV"),
    "GBR": (lambda hr, s: bicubic(hr, s)[:, [1, 2, 0]], "the order GBR"),
    "grey": (grey, "the LR image is grey"),
    "negative": (lambda hr, s: 1 - bicubic(hr, s), "a negative: bright where the HR image is dark"),
    "limited": (lambda hr, s: quantize((bicubic(hr, s) * 219 + 16) / 255), r"as in video \(16 to 235"),
    "wide": (lambda hr, s: quantize((bicubic(hr, s) * 255 - 16) / 219), "as if 16 to 235 were black to white"),
    "brighter": (lambda hr, s: quantize(bicubic(hr, s) + 0.05), "levels are scaled: gain 1.0"),
    "a pixel": (lambda hr, s: bicubic(hr.roll(1, 3), s), "shifted by [+-]0.00 -1.00 HR"),
    "half": (lambda hr, s: filters.bicubic_float((hr + hr.roll(1, 3)) / 2, s), "shifted by [+-]0.00 -0.50 HR"),
    "corner": (corner, r"shifted by \+2.00 \+2.00 HR"),
    "start": (blur(1.6, 0), "shifted by -1.50 -1.50 HR.*: corners of pixels aligned instead of their centres"),
    "align": (torchs(mode="bilinear", align_corners=True), "align_corners"),
    "align cubic": (torchs(mode="bicubic", align_corners=True), "align_corners"),
    "jpeg75": (jpeg(75), "as JPEG leaves them"),
    "jpeg95": (jpeg(95), "as JPEG leaves them"),
}


def cast(x):
    """To 8 bits as NumPy does it: cut down, around the end of 8 bits."""
    return torch.from_numpy((x.numpy() * 255).astype(np.int64) % 256).float() / 255


def summed(hr, scale):
    """Means of blocks whose sums are 8-bit levels."""
    levels = to_uint8(hr).unfold(2, scale, scale).unfold(3, scale, scale).sum((4, 5), dtype=torch.int64)
    return (levels % 256 // scale**2).float() / 255


RANGES = {  # what becomes of the right LR image -> what is said, gain and offset in levels
    "[-1, 1]": (lambda x: 2 * x - 1, r"those of \[-1, 1\]: return \(x \+ 1\) / 2; gain 2.000", 2, -255),
    "[-1, 1] cut": (lambda x: (2 * x - 1).clamp(0, 1), r"\[-1, 1\]: return .*, before they are cut off$", 2, -255),
    "[-0.5, 0.5]": (lambda x: x - 0.5, r"those of \[-0.5, 0.5\]: return x \+ 0.5; gain 1.000", 1, -127.5),
    "[-0.5, 0.5] cut": (lambda x: (x - 0.5).clamp(0, 1), r"\[-0.5, 0.5\]: return .*, before", 1, -127.5),
    "0..255": (lambda x: 255 * x, "those of 0..255: divide 8-bit levels by 255; gain 255", 255, 0),
    "video": (lambda x: quantize((219 * x + 16) / 255), "as in video", 219 / 255, 16),
    "wide": (lambda x: (255 * x - 16) / 219, "as if 16 to 235 were black to white; gain 1.164", 255 / 219, -18.63),
    "wide cut": (lambda x: quantize((255 * x - 16) / 219), "as if 16 .* to white, and cut off$", 255 / 219, -18.63),
    "negative": (lambda x: 1 - x, "a negative: bright where the HR image is dark; gain -1.00", -1, 255),
    "contrast": (lambda x: (1.5 * x).clamp(0, 1), "scaled: gain 1.500 1.500 1.500, offset .0.0", 1.5, 0),
    "around white": (lambda x: cast(x * 256.1 / 255), "go around the end of 8 bits, white becomes black", 1.005, -0.5),
    "around +50": (lambda x: cast(quantize(x) + 50.1 / 255), "go around the end of 8 bits", 1, 50),
    "around [-1, 1]": (lambda x: cast(2 * quantize(x) - 1), "go around the end of 8 bits", 2, -254),
    "decoded": (lambda x: quantize(to_linear(x)), "light, about x.2.2, that was not encoded", 1, 0),
    "power": (lambda x: quantize(x**2.2), "light, about x.2.2, that was not encoded", 1, 0),
    "twice": (lambda x: quantize(to_srgb(x)), "encoded twice, about", 1, 0),
    "root": (lambda x: quantize(x ** (1 / 2.2)), "encoded twice, about", 1, 0),
    "gamma 1.5": (lambda x: quantize(x**1.5), "as of another gamma: about x.1.5", 1, 0),
}
LOST = {  # nothing leads back
    "0..255 cut": (lambda hr, s: (255 * bicubic(hr, s)).clamp(0, 1), "those of 0..255: .* before they are cut off"),
    "0..255 twice": (lambda hr, s: bicubic(hr, s) / 255, "nearly black, as if they were divided by 255 twice"),
    "black": (lambda hr, s: torch.zeros_like(bicubic(hr, s)), "nearly black"),
    "summed": (summed, "a sum over blocks that went around the end of 8 bits"),
}
LEVELS = {
    "cast": (lambda hr, s: cast(filters.bicubic_float(hr, s).clamp(0, 1)), "cut down to 8 bits .floor"),
    "around": (lambda hr, s: cast(filters.bicubic_float(hr, s) + 0.5 / 255), "go around the end of 8 bits"),
}


@pytest.mark.parametrize("name", RANGES)
def test_a_range_or_curve_is_named_and_is_no_shift(name):
    make, said, gain, offset = RANGES[name]
    card = form.card(lambda hr, s: make(bicubic(hr, s)), 4)
    assert any(re.search(said, warning) for warning in card.warnings), card.warnings
    assert not any("shifted" in warning or "stretched" in warning for warning in card.warnings), card.warnings
    assert len(card.warnings) == 1 or name.startswith("around"), card.warnings
    assert card.shift == pytest.approx((0, 0), abs=0.15) and card.kernel.startswith("cubic a = -0.5, antialiased")
    assert card.gain == pytest.approx((gain,) * 3, rel=0.01) and card.offset == pytest.approx((offset,) * 3, abs=2.5)


@pytest.mark.parametrize(
    "name", ["[-1, 1] cut", "[-0.5, 0.5] cut", "video", "negative", "around [-1, 1]", "power", "root"]
)
def test_a_range_or_curve_of_a_folder_is_named_and_is_no_shift(name):
    make, said, *_ = RANGES[name]
    card = form.card_of_pairs([(hr, quantize(make(bicubic(hr, 4)))) for hr in hrs(4)], 4)
    assert any(re.search(said, warning) for warning in card.warnings), card.warnings
    assert not any("shifted" in warning or "stretched" in warning for warning in card.warnings), card.warnings
    assert card.kernel.startswith("cubic a = -0.5, antialiased") and card.shift == pytest.approx((0, 0), abs=0.15)


@pytest.mark.parametrize("name", LOST)
def test_a_range_from_which_nothing_leads_back_is_named(name):
    downscale, said = LOST[name]
    for card in (form.card(downscale, 4), form.card_of_pairs([(hr, quantize(downscale(hr, 4))) for hr in hrs(4)], 4)):
        assert len(card.warnings) == 1 and re.search(said, card.warnings[0]), card.warnings
        assert str(card).startswith("kernel   none")


@pytest.mark.parametrize("name", LEVELS)
def test_what_a_cast_does_instead_of_rounding_is_named(name):
    downscale, said = LEVELS[name]
    [warning] = form.card(downscale, 4).warnings
    assert re.search(said, warning), warning
    if name != "around":  # pictures without black and white have nothing that overshoots
        [warning] = form.card_of_pairs([(hr, downscale(hr, 4)) for hr in hrs(4)], 4).warnings
        assert re.search(said, warning), warning


def test_a_shift_is_seen_where_values_are_cut_off():
    card = form.card(lambda hr, s: (2 * bicubic(hr.roll(2, 3), s) - 1).clamp(0, 1), 4)
    assert card.shift == pytest.approx((0, -2), abs=0.1) and "shifted" in card.warnings[1]


def tidy(warning):
    """A shift to the nearest twentieth."""
    return re.sub(r"\d\.\d\d(?= )", lambda found: f"{round(float(found[0]) * 20) / 20:.2f}", warning)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_warned_of_on_the_chart(name):
    downscale, said = MISTAKES[name]
    card = form.card(downscale, 4)
    assert any(re.search(said, tidy(warning)) for warning in card.warnings), card.warnings
    first = [warning for warning in card.warnings if "JPEG" not in warning]
    assert len(first) <= 1 or name.startswith("jpeg"), first  # one mistake, one warning
    assert "! " + card.warnings[0] in str(card)


@functools.cache
def hrs(scale):
    made = [from_uint8(torch.from_numpy(photograph(96 * scale + 5, 80 * scale + 3, seed))) for seed in range(3)]
    return [crop_to_multiple(hr.permute(2, 0, 1)[None], scale) for hr in made]


@pytest.mark.parametrize("name", [name for name in MISTAKES if "align" not in name])
def test_a_mistake_is_warned_of_from_pairs_of_pictures(name):
    downscale, said = MISTAKES[name]
    pairs = [(hr, quantize(downscale(hr, 4))) for hr in hrs(4)]
    card = form.card_of_pairs(pairs, 4)
    assert any(re.search(said, tidy(warning)) for warning in card.warnings), card.warnings
    assert card.border == ""


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", [*NAMES, *ADAPTIVE])
def test_pairs_of_pictures_name_our_filters_and_warn_of_nothing(name, scale):
    card = form.card_of_pairs([(hr, quantize(DOWNSCALERS[name](hr, scale))) for hr in hrs(scale)], scale)
    assert card.warnings == (), card
    if name in NAMES:
        kernel = NAMES[name][0].format(middle=scale // 2)
        assert any(each.startswith(kernel) for each in card.kernel.split(" or ")), card.kernel
        assert card.misfit < 1


def test_a_border_of_zeros_and_one_that_wraps_are_told():
    assert "beyond the border the picture counts as black" in str(form.card(blur(1.6, 2, "constant"), 5))
    assert form.card(blur(1.6, 2, "circular"), 5).border == "wrapped around (FFT)"
    assert form.card(blur(1.6, 2, "replicate"), 5).border.startswith("the edge pixel repeated")
    assert form.card(blur(1.6, 2, "reflect"), 5).border.startswith("mirrored, the edge pixel once")


def test_what_has_nothing_to_do_with_the_picture_is_told_so():
    for made in (torch.rand(1, 3, 60, 60, generator=torch.Generator().manual_seed(1)), torch.full((1, 3, 60, 60), 0.3)):
        [said] = (card := form.card(lambda hr, scale, made=made: made, 4)).warnings
        assert str(card).startswith("kernel   none")
        assert said.startswith("the LR image hardly follows the HR image: correlation")


def test_a_gamma_is_a_curve():
    [said] = form.card(lambda hr, s: quantize(bicubic(hr, s) ** 2.2), 4).warnings
    assert said.startswith("levels follow a curve, as of another gamma")


def test_equal_weights_have_all_their_names():
    """At x2 a triangle that is not antialiased is the mean of the block; a Keys cubic is one of the B, C family."""
    card = form.card(DOWNSCALERS["box"], 2)
    assert "box" in card.kernel and " or triangle, not antialiased" in card.kernel
    x = np.linspace(-3, 3, 301)
    for a in (-0.5, -0.75, -1):
        keys = np.where(
            np.abs(x) < 1, ((a + 2) * abs(x) - (a + 3)) * x**2 + 1, (((abs(x) - 5) * abs(x) + 8) * abs(x) - 4) * a
        )
        name = f"cubic a = {a:g}, antialiased"
        np.testing.assert_allclose(kernels.KERNELS[name](x, 1), np.where(np.abs(x) < 2, keys, 0), atol=1e-12)


def test_refusals():
    whole = torch.ones(1, 3, 60, 60)
    for wrong in (lambda hr, s: hr, lambda hr, s: None, lambda hr, s: whole * torch.nan, lambda hr, s: whole.byte()):
        with pytest.raises(ValueError, match="expected a finite LR image of floats"):
            form.card(wrong, 4)
    for wrong in ("bicubic", None, whole):
        with pytest.raises(ValueError, match="downscale: expected a function"):
            form.card(wrong, 4)
    for scale in (0, -4, 2.0, "4", None, True):
        with pytest.raises(ValueError, match="scale: expected an integer of at least 1"):
            form.card(bicubic, scale)
        with pytest.raises(ValueError, match="scale: expected an integer of at least 1"):
            form.card_of_pairs([(torch.rand(1, 3, 96, 96), torch.rand(1, 3, 24, 24))], scale)
    for pairs in (
        [],
        [(torch.rand(1, 3, 96, 96), torch.rand(1, 3, 25, 24))],
        [(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 16, 16))],
        [(torch.rand(1, 3, 96, 96), torch.ones(1, 3, 24, 24).byte())],
        [(torch.rand(1, 3, 96, 96), None)],
        [(torch.rand(1, 3, 96, 96),)],
        [(torch.rand(96, 96), torch.rand(24, 24))],
    ):
        with pytest.raises(ValueError, match="expected"):
            form.card_of_pairs(pairs, 4)
    with pytest.raises(ValueError, match="expected at least one HR image that is not flat, got none of 1"):
        form.card_of_pairs([(torch.full((1, 3, 128, 128), 0.5), torch.full((1, 3, 32, 32), 0.5))], 4)
    with pytest.raises(ValueError, match="height and width exchanged"):
        form.card_of_pairs([(torch.rand(1, 3, 96, 128), torch.rand(1, 3, 32, 24))], 4)


def test_the_chart_is_a_picture_and_asked_for_once():
    asked = []
    form.card(lambda hr, s: asked.append(hr) or bicubic(hr, s), 4)
    [hr] = asked
    assert hr.shape == (1, 3, 240, 240) and hr.dtype == torch.float32 and torch.equal(hr, quantize(hr))
    assert torch.equal(chart(4), hr)
