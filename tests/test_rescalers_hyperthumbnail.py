"""HyperThumbnail as a rescaler: a file that any program opens, its picture, what the upscaler reads; checkpoints."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.images import quantize
from helpers.networks import hyperthumbnail as network_of
from helpers.networks import jpeg
from helpers.rescalers import hyperthumbnail
from helpers.runtime import seeded
from helpers.weights import WEIGHTS
from tests.checkpoints import empty_home
from tests.pictures import noise, waves
from tests.rescaling import differ
from tests.test_networks_hyperthumbnail import small


def calm():
    """A small network whose LR image lies inside the range of 8 bits, about grey."""
    network = small().eval()
    with torch.no_grad():
        network.encoder.conv_last.weight *= 0.3
    return network


# ---- the file


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 72), (52, 132)])
def test_a_viewer_shows_the_lr_image(height, width):
    network, hr = calm(), waves(1, height, width)
    content = hyperthumbnail.compress(network, hr)
    opened = Image.open(io.BytesIO(content))
    assert opened.format == "JPEG" and opened.size == (width // 4, height // 4)
    tables = network.integers(hr)[1]
    for number in (0, 1):
        natural = jpeg.from_zigzag(tables[0, number]).flatten().int().tolist()
        assert list(opened.quantization[number]) == natural
    rgb = network.from_integers(*network.integers(hr))[0][..., : height // 4, : width // 4]
    levels = torch.from_numpy(np.array(opened)).permute(2, 0, 1)[None] / 255
    assert rgb.min() > 0 and rgb.max() < 1 and rgb.std() > 0.02
    assert (levels - rgb).abs().max() * 255 <= 2.0  # integer cosines, YCbCr rounded to 8 bits
    assert torch.equal(hyperthumbnail.shown(content), levels)


@torch.no_grad()
def test_the_upscaler_reads_the_file_as_if_there_were_none():
    network, hr = calm(), waves(1, 64, 128)
    rgb, expected = network.from_integers(*network.integers(hr))
    found = hyperthumbnail.decompress(network, hyperthumbnail.compress(network, hr))
    assert torch.equal(found, expected)
    for bottleneck in network.entropy_bottleneck.bottlenecks:
        bottleneck.quantiles[:, 0, 1] = 0  # without medians the network itself rounds to integers
    assert differ(network(hr)["out"], found) < 1e-5


def test_sides_that_end_inside_a_block():
    network, hr = calm(), waves(1, 52, 76)
    content = hyperthumbnail.compress(network, hr)
    assert hyperthumbnail.shown(content).shape == (1, 3, 13, 19)
    assert hyperthumbnail.decompress(network, content).shape == (1, 3, 52, 76)


def test_coarser_tables_make_smaller_files():
    hr, sizes = waves(1, 64, 128), []
    for factor in (1.0, 4.0, 20.0):
        network = calm()
        network.factor = factor
        sizes.append(len(hyperthumbnail.compress(network, hr)))
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 1.2 * sizes[-1]


# ---- the pair


def test_the_two_halves():
    network, hr = calm(), waves(2, 64, 96)
    downscale, upscale = hyperthumbnail.pair(network)
    lr = downscale(hr)
    assert lr.shape == (2, 3, 16, 24) and torch.equal(lr, quantize(lr))
    assert torch.equal(lr[1:], hyperthumbnail.shown(hyperthumbnail.compress(network, hr[1:])))
    sr = upscale(lr[:1], [seeded(0), seeded(1)])
    assert sr.shape == (2, 3, 64, 96) and torch.equal(*sr) and not sr.requires_grad
    assert differ(upscale(lr, [seeded(0), seeded(1)])[1:], upscale(lr[1:], seeded(0))) < 1e-6


@torch.no_grad()
def test_from_pixels_the_upscaler_takes_nearly_the_coefficients_of_the_file():
    network, hr = calm(), waves(1, 64, 64)
    downscale, upscale = hyperthumbnail.pair(network)
    lr, content = downscale(hr), hyperthumbnail.compress(network, hr)
    coefficients, tables = network.integers(hr)
    streams = network.streams(lr)
    written = (coefficients * tables[:, [0, 1, 1], None, None])[:, 0].flatten(1, 2)
    assert (streams[0] - written).abs().max() < 4 < written.abs().max()  # a level is 8 in the mean of a block
    from_pixels, from_file = upscale(lr, seeded(0)), hyperthumbnail.decompress(network, content)
    other = upscale(downscale(1 - hr), seeded(0))
    assert 0 < differ(from_pixels, from_file) < differ(other, from_file) / 2


def test_lr_images_of_any_size_are_upscaled():
    network = calm()
    assert hyperthumbnail.pair(network)[1](waves(1, 13, 19), seeded(0)).shape == (1, 3, 52, 76)


# ---- checkpoints


@pytest.mark.usefixtures("empty_home")
@pytest.mark.parametrize("kind", ["params", "later", "bare", "coded"])
def test_every_way_in_which_a_file_may_be_saved(tmp_path, kind):
    network = small()
    state = network.state_dict()
    if kind == "later":
        state = {
            name.replace("._matrix", ".matrices.").replace("._bias", ".biases.").replace("._factor", ".factors."): each
            for name, each in state.items()
        }
    if kind == "coded":
        state = {name: torch.ones(64, 9).int() if name.endswith("_cdf") else each for name, each in state.items()}
    torch.save({"params": state} if kind == "params" else state, tmp_path / "x.pth")
    found = hyperthumbnail.load(tmp_path / "x.pth", scale=4)
    assert found.config == network.config and not found.training
    for name, tensor in found.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])
    downscale, upscale = hyperthumbnail.rescaler(tmp_path / "x.pth")
    assert upscale(downscale(waves(1, 64, 64)), seeded(0)).shape == (1, 3, 64, 64)


@pytest.mark.usefixtures("empty_home")
def test_the_official_configuration_follows_from_its_tensors():
    network = network_of.build()
    assert {**hyperthumbnail.configuration(network.state_dict()), "factor": 1.0} == network.config
    assert WEIGHTS[hyperthumbnail.FILE].file == "HyperThumbnail_4x_net_g_latest.pth"
    with pytest.raises(ValueError, match="HyperThumbnail_4x_net_g_latest.pth is missing: put it into"):
        hyperthumbnail.rescaler()


@pytest.mark.usefixtures("empty_home")
def test_files_that_do_not_fit_are_one_clear_error(tmp_path):
    torch.save(small().state_dict(), tmp_path / "four.pth")
    with pytest.raises(ValueError, match="four.pth: expected scale 2, got scale 4"):
        hyperthumbnail.rescaler(tmp_path / "four.pth", scale=2)
    torch.save({"conv.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: expected the tensors of HyperThumbnail, got others, such as conv"):
        hyperthumbnail.rescaler(tmp_path / "other.pth")


# ---- errors


def test_images_that_do_not_fit_are_refused():
    downscale, upscale = hyperthumbnail.pair(calm())
    with pytest.raises(ValueError, match="multiples of 4, got 62x64"):
        downscale(noise(1, 62, 64))
    with pytest.raises(ValueError, match="hr: expected one image, got 2"):
        hyperthumbnail.compress(calm(), noise(2, 64, 64))
    with pytest.raises(ValueError, match="lr: expected one LR image, or one for each of 3 draws, got 2"):
        upscale(noise(2, 16, 16), [seeded(q) for q in range(3)])
    with pytest.raises(ValueError, match="expected a JPEG file"):
        hyperthumbnail.decompress(calm(), b"GIF89a")
