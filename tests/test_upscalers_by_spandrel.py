"""Checkpoints through spandrel: rows, and clear errors without it. The network itself needs the extra `upscalers`."""

import sys

import pytest
import torch

from helpers.networks.esrgan import ESRGAN
from helpers.runtime import seeded
from helpers.upscalers import by_spandrel
from tests.fakes import experiment, fakes_fixture, images_fixture, run  # noqa: F401


@pytest.fixture(name="net")
def net_fixture(tmp_path):
    """A file of ESRGAN's network, and the network; spandrel takes its growth for 32."""
    network = ESRGAN(4, 1, 8, 32, 1)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    return tmp_path / "net.pth", network


def test_without_spandrel_the_error_says_what_to_install(net, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ValueError, match=r"net.pth: expected spandrel, got .*pip install -e '.\[upscalers\]'"):
        by_spandrel.upscaler(net[0], scale=4)


def test_an_experiment_draws_it_once_and_names_it_by_its_hash(fakes, images, net, monkeypatch):
    one = experiment(images, upscaler=f"spandrel:{net[0]}", heat=0, n_samples=3)
    assert one.n_samples == 1 and one.upscaler == f"spandrel: {net[0].resolve()}"
    before = one.upscaler_name
    assert before.startswith("net@") and "missing" not in before
    torch.save(ESRGAN(4, 1, 8, 32, 1).state_dict(), net[0])
    assert one.upscaler_name != before
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ValueError, match="pip install"):
        run(one, net[0].parent / "rows")
    with pytest.raises(ValueError, match="heat: expected 0.0"):
        experiment(images, upscaler=f"spandrel:{net[0]}", heat=1.0)


def test_it_is_our_network_clipped(fakes, images, net, tmp_path):
    pytest.importorskip("spandrel", reason="needs the extra `upscalers`")
    path, network = net
    lr = torch.rand(1, 3, 6, 5)
    sr = by_spandrel.upscaler(path, scale=4)(lr, [seeded(0), seeded(1)])
    assert sr.shape == (2, 3, 24, 20) and torch.allclose(sr[:1], network(lr).clamp(0, 1), atol=1e-5)
    rows = run(experiment(images, upscaler=f"spandrel: {path}", heat=0), tmp_path / "rows")
    assert set(rows["sample"]) == {0} and (rows.weights == rows.upscaler.str[-8:]).all()
    with pytest.raises(ValueError, match=r"of \(2, 3, 3\), got \(4, 3, 3\)"):
        by_spandrel.upscaler(path, scale=2)
    torch.save({"net.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="expected a network that spandrel knows"):
        by_spandrel.upscaler(tmp_path / "other.pth", scale=4)
