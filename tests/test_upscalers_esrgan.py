"""The deterministic upscalers of the RRDB family: files, borders, one draw."""

import pytest
import torch
import torch.nn.functional as F

from helpers import weights
from helpers.networks.esrgan import ESRGAN
from helpers.runtime import seeded
from helpers.upscalers import esrgan, registry

NAMES = ("esrgan", "rrdb_psnr", "bsrgan", "bsrnet", "real_esrgan_x4", "real_esrgan_x2", "real_esrnet_x4", "rsr")


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")


def put(folder, file: str, network, wrap: str = "") -> None:
    """Write the network as an official file."""
    state = network.state_dict()
    torch.save({wrap: state} if wrap else state, folder / file)


@pytest.mark.parametrize("scale, unshuffle, height, width", [(2, 2, 5, 7), (2, 2, 6, 4), (1, 4, 6, 9), (2, 1, 5, 3)])
def test_border_rule(tmp_path, scale, unshuffle, height, width):
    """Reflected up to the next multiple of what is unshuffled, 2 at x2 and never 4, and cropped."""
    network = ESRGAN(scale, unshuffle, 4, 4, 1)
    put(tmp_path, "mine.pth", network)
    lr = torch.rand(1, 3, height, width)
    sr = esrgan.upscaler(file=tmp_path / "mine.pth", scale=scale)(lr, [seeded(0)])
    more = [-side % unshuffle for side in (width, height)]
    whole = network(F.pad(lr, (0, more[0], 0, more[1]), "reflect"))
    assert torch.equal(sr, whole[..., : scale * height, : scale * width])
    assert sr.shape == (1, 3, scale * height, scale * width)


def test_one_image_for_all_generators_computed_once(tmp_path, monkeypatch):
    put(tmp_path, "BSRGANx2.pth", ESRGAN(2, 1, 4, 4, 1))
    sizes, forward = [], ESRGAN.forward
    monkeypatch.setattr(ESRGAN, "forward", lambda self, lr: sizes.append(len(lr)) or forward(self, lr))
    upscale, lr = registry.build("bsrgan", scale=2), torch.rand(1, 3, 4, 4)
    sr = upscale(lr, [seeded(q) for q in range(3)])
    assert sr.shape == (3, 3, 8, 8) and torch.equal(sr[0], sr[2]) and sizes == [1]
    both = upscale(torch.cat([lr, lr.flip(3)]), [seeded(0), seeded(1)])
    assert torch.allclose(both[0], sr[0], atol=1e-6) and not torch.allclose(both[0], both[1], atol=1e-3)
    assert torch.equal(upscale(lr, seeded(0)), sr[:1])
    with pytest.raises(ValueError, match="one for each of 3 draws, got 2"):
        upscale(torch.cat([lr, lr]), [seeded(q) for q in range(3)])


def test_the_better_tensors_of_a_wrapped_file_count(tmp_path):
    one, two = ESRGAN(4, 1, 4, 4, 1), ESRGAN(4, 1, 4, 4, 1)
    torch.save({"params": one.state_dict(), "params_ema": two.state_dict()}, tmp_path / "RSR.pth")
    lr = torch.rand(1, 3, 4, 4)
    assert torch.equal(registry.build("rsr", scale=4)(lr, [seeded(0)]), two(lr))


def test_each_name_reads_its_file_at_its_scales(tmp_path):
    found = {}
    for name in NAMES:
        record = registry.UPSCALERS[name]
        assert not record.stochastic and record.heat == 0
        for scale in record.scales:
            entry = weights.WEIGHTS[record.files[0].format(scale=scale)]
            network = ESRGAN(scale, 2 if name == "real_esrgan_x2" else 1, 4, 4, 1)
            put(tmp_path, "mine.pth", network)
            found[name, scale] = entry.file
            if not entry.sha256:
                put(tmp_path, entry.file, network)
                lr = torch.rand(1, 3, 4, 4)
                assert torch.equal(registry.build(name, scale=scale)(lr, [seeded(0)]), network(lr))
    assert len(set(found.values())) == len(found) == 9
    assert not registry.UPSCALERS["esrgan"].blind and registry.UPSCALERS["bsrgan"].blind


def test_a_file_of_another_scale_or_network_is_refused(tmp_path):
    put(tmp_path, "BSRGAN.pth", ESRGAN(2, 1, 4, 4, 1))
    with pytest.raises(ValueError, match="BSRGAN.pth: expected scale 4, got scale 2"):
        registry.build("bsrgan", scale=4)
    state = ESRGAN(4, 1, 4, 4, 2).state_dict()
    del state["RRDB_trunk.1.RDB2.conv3.bias"]
    torch.save(state, tmp_path / "BSRNet.pth")
    with pytest.raises(ValueError, match="1 missing .RRDB_trunk.1.RDB2.conv3.bias"):
        registry.build("bsrnet", scale=4)
    with pytest.raises(ValueError, match="RSR.pth is missing"):
        registry.build("rsr", scale=4)
    put(tmp_path, "RealESRGAN_x4plus.pth", ESRGAN(4, 1, 4, 4, 1))
    with pytest.raises(ValueError, match="SHA-256 expected 4fa0d389"):
        registry.build("real_esrgan_x4", scale=4)


def test_x8_is_a_cascade_by_name():
    assert [each[:3] for each in registry.stages("real_esrgan_x4+real_esrgan_x2", 8)] == [
        ("real_esrgan_x4", 4, 0.0), ("real_esrgan_x2", 2, 0.0)
    ]  # fmt: skip
