"""The Multi-Realism codec as files: what comes back, what a file costs, what binds it, and what is refused."""

import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.networks import entropy
from helpers.rescalers import multi_realism, range_coding
from helpers.rescalers.multi_realism import HEADER, decode, encode, prepare
from helpers.runtime import seeded
from helpers.training import recipes
from tests.pictures import noise, waves
from tests.test_networks_elic import tiny

ROOT = Path(__file__).parents[1]
GOLDEN = (  # of `tiny()` and the picture of 40 x 64, level 1: version 1 of the format
    "49444d52012028004000f9f57928e2cac813c86e8be4901dd53b13268c9ec23a915087197b1f83e091defeffffffb8dbe8f6"
    "0820040024e1015d0012e4ff3300dc3735b5556c86f28b3fcd07b935d34e4b31128c1d7dc30f12b0ab920b436a918a21ac2b"
    "6f91ee05363d103ad86e00000000008901001e000000000000b452e218003fbdf9e73103db98000000b64000000074ff970a"
    "58e4f0f77894ef071276ae623b4bcc8610ded6af2900000068cafdc3488d113ad5027b9bbb7a9bb62032e04e0bad0318"
)
LEVELS = [
    166,
    178,
    141,
    114,
    210,
    98,
    112,
    205,
    101,
    130,
    173,
    141,
    156,
    121,
    164,
    158,
    126,
    150,
    124,
    151,
    193,
    153,
    160,
    152,
    151,
    159,
    149,
]  # of it at beta = 2.56


@pytest.fixture(scope="module")
def codec():
    return prepare(tiny())


def picture(height=50, width=70):
    return waves(1, height, width)


def saved(path, network=None):
    recipes.export(network or tiny(), path)
    return path


# ---- what comes back


@pytest.mark.parametrize("height, width", [(50, 70), (64, 64), (1, 1), (129, 3)])
def test_any_sides_come_back(codec, height, width):
    hr = picture(height, width)
    sr = decode(codec, encode(codec, hr, 1), 0.5)
    assert sr.shape == hr.shape and sr.dtype == torch.float32
    assert sr.min() >= 0 and sr.max() <= 1


@pytest.mark.parametrize("level", [0, 0.75, 2])
def test_the_file_holds_what_the_network_computes(codec, level):
    """Decoded, it is the image that the network gives without a file, but for roundings that the twin does."""
    hr, rate = picture(64, 128), torch.tensor([float(level)])
    y, _ = codec.network.compress(hr, rate)
    expected = codec.network.decode(y, rate, torch.tensor([1.28])).clamp(0, 1)
    found = decode(codec, encode(codec, hr, level), 1.28)
    assert (found - expected).abs().mean() < 2e-3 < (found - found.flip(3)).abs().mean()


def test_the_same_image_is_the_same_bytes(codec):
    assert encode(codec, picture(), 1.5) == encode(codec, picture(), 1.5) == encode(prepare(tiny()), picture(), 1.5)


def test_one_file_and_beta_is_one_image_whatever_the_generator(codec):
    content = encode(codec, picture(), 1)
    first = decode(codec, content, 1.0, seeded(1))
    assert torch.equal(first, decode(codec, content, 1.0, seeded(2)))
    assert torch.equal(first, decode(codec, content, 1.0))
    assert not torch.equal(first, decode(codec, content, 2.0))


def test_levels_and_images_make_other_files(codec):
    files = [encode(codec, hr, level) for hr in (picture(), 1 - picture()) for level in (0, 1, 1 + 1 / 32, 2)]
    assert len(set(files)) == 8
    assert encode(codec, picture(), 1) == encode(codec, picture(), 1.001)  # to the nearest 32nd


def test_integers_beyond_every_table_come_back(codec):
    """A latent that no distribution foresaw costs bits, not the picture."""
    network = tiny()
    with torch.no_grad():
        network.gain.table += 9
        network.gain_of_decoder.table -= 9
    wide, hr = prepare(network), picture(64, 64)
    level = torch.tensor([2.0])
    y, z = network.encode(hr, level)
    assert y.abs().max() > 10_000
    integers = codec.prior.walk(z.double().round(), level.double(), y.shape, lambda n, mean, place: 0 * mean)
    assert integers.shape == y.shape
    back = decode(wide, encode(wide, hr, 2), 0.0)
    direct = network.decode(y, level, torch.zeros(1)).clamp(0, 1)
    assert (back - direct).abs().max() < 1e-3  # so fine a rounding that none is seen


# ---- what it costs


@pytest.mark.parametrize("place", [5, 30, 63])
def test_the_entropy_of_a_known_distribution_is_met(place):
    counts = entropy.gaussian_counts()[place]
    mass = counts.numpy() / entropy.COUNTS
    low = -(len(mass) // 2)
    drawn = np.random.default_rng(place).choice(len(mass), 200_000, p=mass) + low
    tables = [range_coding.table(low, counts)]
    writer = range_coding.Writer()
    writer.put(drawn, np.zeros_like(drawn), tables)
    content = writer.content()
    wanted = -np.log2(mass[drawn - low]).sum()
    assert 8 * len(content) == pytest.approx(wanted, rel=0.01)
    assert wanted / len(drawn) == pytest.approx(-(mass * np.log2(mass)).sum(), rel=0.02)
    assert np.array_equal(range_coding.Reader(content).take(np.zeros_like(drawn), tables), drawn)


@torch.no_grad()
def test_estimated_and_real_bits_agree():
    """A latent that follows the model: drawn from it, slice by slice."""
    network = tiny(latent=16, hidden=16)
    drawn = prepare(network)
    rate, bits, generator = torch.tensor([1.0], dtype=torch.float64), [], np.random.default_rng(0)
    writer = range_coding.Writer()
    z = torch.from_numpy(generator.normal(0, 3, (1, 4, 8, 8)).round())

    def take(number, mean, place):
        scale = entropy.scale_of(place.round())
        whole = torch.from_numpy(generator.normal(0, scale) + generator.uniform(-0.5, 0.5, scale.shape)).round()
        bits.append(-entropy.gaussian_likelihood(whole, scale).log2().sum().item())
        writer.put(whole.long().numpy().ravel(), place.round().long().numpy().ravel(), drawn.normal)
        return whole + mean

    drawn.prior.walk(z, rate, (32, 32), take)
    assert 8 * len(writer.content()) == pytest.approx(sum(bits), rel=0.01)


@pytest.mark.parametrize("values", [[0, 5, -5, 6, -700, 2**23 - 40, 3], []])
def test_integers_outside_a_table_are_escaped(values):
    tables = [
        range_coding.table(-5, entropy.counts_of(torch.full((11,), 1 / 11))),
        range_coding.table(0, entropy.counts_of(torch.ones(3) / 3)),
    ]
    values, places = np.array(values, np.int64), np.arange(len(values)) % 2
    writer = range_coding.Writer()
    writer.put(values, places, tables)
    assert np.array_equal(range_coding.Reader(writer.content()).take(places, tables), values)


def test_a_distribution_has_to_add_up():
    with pytest.raises(ValueError, match="counts: expected"):
        range_coding.table(0, torch.tensor([1, 2, 3]))


# ---- what binds a file


def test_the_golden_file_is_written_and_read_as_ever(codec):
    assert encode(codec, picture(40, 64), 1).hex() == GOLDEN  # no latent is within 0.002 of another rounding
    levels = 255 * decode(codec, bytes.fromhex(GOLDEN), 2.56)[0, :, ::16, ::23]
    assert (levels.flatten() - torch.tensor(LEVELS)).abs().max() < 0.51


def test_threads_do_not_change_a_file_or_what_is_read(codec):
    hr, found = noise(1, 192, 128), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            content = encode(codec, hr, 2)
            found.append((content, decode(codec, content, 1.0)))
    finally:
        torch.set_num_threads(before)
    (one, first), (two, second) = found
    assert one == two
    assert (first - second).abs().max() < 1e-5


def test_a_file_is_read_in_another_process(codec, tmp_path):
    path, content = saved(tmp_path / "codec.safetensors"), encode(codec, picture(), 1)
    (tmp_path / "file").write_bytes(content)
    code = f"""
import pathlib, torch
from helpers.rescalers import multi_realism
torch.set_num_threads(2)
folder = pathlib.Path({str(tmp_path)!r})
content = (folder / "file").read_bytes()
torch.save(multi_realism.decode(multi_realism.load({str(path)!r}), content, 2.0), folder / "sr.pt")
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert (torch.load(tmp_path / "sr.pt") - decode(codec, content, 2.0)).abs().max() < 1e-5


def test_both_halves_of_a_checkpoint(codec, tmp_path):
    write, read = multi_realism.codec(saved(tmp_path / "codec.safetensors"), level=1)
    content = write(picture())
    assert content == encode(codec, picture(), 1)
    assert torch.equal(read(content, 0.5, seeded(0)), decode(codec, content, 0.5))
    assert torch.equal(read(content), decode(codec, content, 0.0))


# ---- what is refused


def test_every_flipped_byte_is_one_error(codec):
    content = encode(codec, picture(), 0)
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match="expected .* found"):
            decode(codec, bytes(broken))


def test_every_cut_is_one_error(codec):
    content = encode(codec, picture(), 0)
    for size in (0, 3, HEADER.size - 1, HEADER.size, len(content) - 4, len(content) - 1):
        with pytest.raises(ValueError, match="expected .* found"):
            decode(codec, content[:size])
    with pytest.raises(ValueError, match="cut or changed"):
        decode(codec, content + b"\0\0\0\0")


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_a_foreign_file_says_what_it_begins_with(codec, content):
    with pytest.raises(ValueError, match=re.escape(f"begins with {multi_realism.MAGIC!r}, found {content[:4]!r}")):
        decode(codec, content)


def test_a_file_of_another_model_says_both(codec):
    network = tiny()
    with torch.no_grad():
        network.synthesis.layers[0].bias[0] += 1e-6
    other = prepare(network)
    content = encode(other, picture(), 0)
    with pytest.raises(
        ValueError, match=f"expected a file of model {codec.digest.hex()}, found one of model {other.digest.hex()}"
    ):
        decode(codec, content)


def test_a_forged_file_is_refused(codec):
    """Checksums made to fit do not make bits of this model."""
    content = encode(codec, picture(), 0)
    fields = list(HEADER.unpack_from(content))

    def forged(words, **changes):
        new = [changes.get(name, value) for name, value in zip("mvshwdi", fields[:7], strict=True)]
        return HEADER.pack(*new, zlib.crc32(words, zlib.crc32(HEADER.pack(*new, 0)))) + words

    words = content[HEADER.size :]
    assert forged(words) == content
    others = [forged(words, **{name: value}) for name, value in (("h", 0), ("s", 255), ("v", 2), ("i", 1), ("h", 300))]
    others += [forged(other) for other in (words[:-3], struct.pack("<40I", *range(40)), b"\xff" * len(words), b"")]
    for broken in others:
        with pytest.raises(ValueError, match="expected"):
            decode(codec, broken)


@pytest.mark.parametrize("beta", [-0.1, 2.57, float("nan"), "1", None])
def test_other_betas_are_refused(codec, beta):
    with pytest.raises(ValueError, match=r"beta: expected a number from 0 to 2.56, got"):
        decode(codec, encode(codec, picture(), 0), beta)


@pytest.mark.parametrize("level", [-0.1, 2.1, float("nan"), "1", None])
def test_other_levels_are_refused(codec, level):
    with pytest.raises(ValueError, match="level: expected a number from 0 to 2, got"):
        encode(codec, picture(), level)


@pytest.mark.parametrize(
    "hr", [waves(2, 64, 64), 2 * waves(1, 64, 64), waves(1, 64, 64)[0], torch.full((1, 3, 8, 8), torch.nan)]
)
def test_other_images_are_refused(codec, hr):
    with pytest.raises(ValueError, match="hr: expected"):
        encode(codec, hr, 0)


def test_checkpoints_of_others_are_refused(tmp_path):
    path = saved(tmp_path / "codec.safetensors")
    from safetensors.torch import load_file, save_file

    state = load_file(path)
    save_file(state, tmp_path / "plain.safetensors")  # no configuration: that of the default, which is another
    with pytest.raises(ValueError, match="plain.safetensors"):
        multi_realism.load(tmp_path / "plain.safetensors")
    save_file(state, tmp_path / "irn.safetensors", metadata={"config": json.dumps({"scale": 2})})
    with pytest.raises(ValueError, match="irn.safetensors: expected the configuration of a Multi-Realism codec"):
        multi_realism.load(tmp_path / "irn.safetensors")
    with pytest.raises(ValueError, match="missing.safetensors"):
        multi_realism.load(tmp_path / "missing.safetensors")
