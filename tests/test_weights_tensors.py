"""Checkpoints are opened without running code, and converted once; B36, B37."""

import os
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from helpers.files import sha256_of
from helpers.weights import WEIGHTS, Entry, fetch, load_into, load_state, tensors
from tests.checkpoints import CONTENT, STATE, Bomb, cached, empty_home, server, write_state

pytestmark = pytest.mark.usefixtures("empty_home")


# ---- opening


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth", ".pt"])
def test_load_state_of_each_kind(tmp_path, suffix):
    state = load_state(write_state(tmp_path / f"x{suffix}"))
    assert state.keys() == STATE.keys()
    for key, value in STATE.items():
        assert torch.equal(state[key], value) and state[key].dtype == value.dtype


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_b36_broken_checkpoints_are_one_clear_error(tmp_path, suffix):
    whole = write_state(tmp_path / f"x{suffix}").read_bytes()
    path = tmp_path / f"y{suffix}"
    with pytest.raises(ValueError, match=f"y{suffix}: expected a checkpoint, found no such file"):
        load_state(path)
    broken = "truncated, no checkpoint"
    contents = {
        b"": "zero bytes",
        b"<!DOCTYPE html>": "web page",
        whole[: len(whole) // 2]: broken,
        CONTENT: broken,
    }
    for content, message in contents.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"y{suffix}: .*{message}"):
            load_state(path)


def test_b36_other_architecture(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(2, 2))
    state = {key: torch.ones_like(value) for key, value in network.state_dict().items()}
    assert load_into(network, state, "x.pth") is network
    assert not network.training and not any(value.requires_grad for value in network.parameters())
    assert all((value == 1).all() for value in network.state_dict().values())
    wrong = {"0.weight": torch.ones(4, 3, 3, 3), "0.bias": state["0.bias"], "2.bias": torch.ones(2)}
    with pytest.raises(ValueError) as caught:
        load_into(network, wrong, "x.pth")
    for expected in (
        "x.pth: expected the 4 tensors of Sequential",
        "2 missing (1.weight",
        "1 unexpected (2.bias",
    ):
        assert expected in str(caught.value)
    assert "1 of another shape (0.weight" in str(caught.value)


def test_b36_saved_on_cuda(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    write_state(tmp_path / "x.pth")
    monkeypatch.undo()
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(tmp_path / "x.pth")  # what most code does
    state = load_state(tmp_path / "x.pth")
    assert torch.equal(state["b.weight"], STATE["b.weight"]) and state["b.weight"].device.type == "cpu"


def test_b37_code_in_a_pickle_is_refused(tmp_path):
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "ran"), 2))
    torch.save({"x": Bomb(tmp_path / "ran")}, tmp_path / "zip.pth")
    np.savez(tmp_path / "object.npz", x=np.array([Bomb(tmp_path / "ran")], dtype=object))
    for name in ("bare.pth", "zip.pth", "object.npz"):
        with pytest.raises(ValueError, match=f"{name}: expected tensors, .*code, which is refused"):
            load_state(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "zip.pth", weights_only=True)
    pickle.loads((tmp_path / "bare.pth").read_bytes())  # the bomb does work
    assert (tmp_path / "ran").exists()


def test_checkpoint_with_more_than_tensors(tmp_path):
    torch.save({"epoch": 3, "state": STATE}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="expected a flat dict of tensors"):
        load_state(tmp_path / "x.pth")


# ---- converted once


@pytest.fixture
def pickled(monkeypatch, tmp_path):
    """An entry with the file of a pickle put there by hand."""
    path = write_state(tmp_path / "x.pth", STATE | {"nan": torch.full((2,), torch.nan), "one": torch.tensor(True)})
    monkeypatch.setitem(WEIGHTS, "x", Entry("x.pth", (), sha256_of(path), None, "ours"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    return path


def load(name):
    return tensors.load_once(fetch(name))


def refuse(*args, **kwargs):
    raise AssertionError("a pickle was opened")


def test_pickle_is_opened_once_and_its_copy_has_the_same_tensors(pickled, monkeypatch, tmp_path):
    first = load("x")
    copies = sorted((tmp_path / "cache" / "converted").iterdir())
    assert [path.name for path in copies] == [name := f"x-{sha256_of(pickled)[:16]}.safetensors", f"{name}.sha256"]
    with safe_open(copies[0], "pt") as file:
        assert set(file.keys()) == set(torch.load(pickled, weights_only=True)) == {"b.weight", "a.bias", "nan", "one"}
        assert file.metadata() == {"sha256": sha256_of(pickled)}
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    second = load("x")
    assert second.keys() == first.keys() and all(first[key].dtype == second[key].dtype for key in first)
    assert all(np.array_equal(first[key].numpy(), second[key].numpy(), equal_nan=key == "nan") for key in first)
    copies[0].unlink()
    with pytest.raises(ValueError, match="AssertionError"):  # the pickle is needed again: `refuse` does work
        load("x")


def test_damaged_copy_is_made_again(pickled, tmp_path):
    load("x")
    copy = next((tmp_path / "cache" / "converted").glob("*.safetensors"))
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(copy, ns=(1, 1))
    assert torch.equal(load("x")["b.weight"], STATE["b.weight"]) and copy.read_bytes() == whole


def test_changed_pickle_is_converted_anew(pickled, monkeypatch, tmp_path):
    load("x")
    write_state(pickled, {"c": torch.ones(3)})
    monkeypatch.setitem(WEIGHTS, "x", WEIGHTS["x"]._replace(sha256=sha256_of(pickled)))
    assert load("x").keys() == {"c"}
    assert len(list((tmp_path / "cache" / "converted").glob("*.safetensors"))) == 2


def test_copy_in_the_shared_folder_serves_a_cache_that_cannot_be_written(pickled, monkeypatch, tmp_path):
    load("x")
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IDA_RD_CACHE", str(pickled / "below a file"))
    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", refuse)
        assert load("x").keys() == {"b.weight", "a.bias", "nan", "one"}
    monkeypatch.delenv("IDA_RD_SHARED_CACHE")
    assert load("x").keys() == {"b.weight", "a.bias", "nan", "one"}  # from the pickle


def test_copy_that_differs_is_an_error(pickled, monkeypatch, tmp_path):
    from safetensors import torch as library

    monkeypatch.setattr(library, "load_file", lambda path: STATE)  # two tensors are lost
    with pytest.raises(ValueError, match="expected the tensors of .*x.pth, got others"):
        load("x")
    assert list((tmp_path / "cache" / "converted").iterdir()) == []


def test_other_formats_are_not_converted(monkeypatch, tmp_path):
    path = write_state(tmp_path / "x.npz")
    monkeypatch.setitem(WEIGHTS, "x", Entry("x.npz", (), sha256_of(path), None, "ours"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    assert load("x").keys() == STATE.keys() and cached(tmp_path) == []
    with pytest.raises(ValueError, match="y.pth: expected a checkpoint, found no such file"):
        tensors.load_once(tmp_path / "y.pth")


@pytest.mark.parametrize("kind", ["bare", "zip"])
def test_b37_code_in_an_official_file_is_not_run_and_not_converted(server, monkeypatch, tmp_path, kind):
    """A file whose hash is right and whose content is malicious, as when a project publishes one."""
    bomb = {"x": Bomb(tmp_path / "ran")}
    if kind == "zip":
        torch.save(bomb, tmp_path / "x.pth")
    else:
        (tmp_path / "x.pth").write_bytes(pickle.dumps(bomb, 2))
    monkeypatch.setitem(WEIGHTS, "x", Entry("x.pth", (), sha256_of(tmp_path / "x.pth"), None, "ours"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="x.pth: expected tensors, .*code, which is refused"):
        load("x")
    assert not (tmp_path / "ran").exists() and cached(tmp_path) == []
    unsafe = torch.load if kind == "zip" else lambda path, weights_only: pickle.loads(path.read_bytes())
    unsafe(tmp_path / "x.pth", weights_only=False)
    assert (tmp_path / "ran").exists()  # the bomb does work
