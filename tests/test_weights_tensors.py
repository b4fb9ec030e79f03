"""Checkpoints are opened without running code, in no more memory than they have bytes; B36, B37."""

import io
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.files import sha256_of
from helpers.weights import WEIGHTS, Entry, fetch, load_into, load_state, tensors
from tests.checkpoints import CONTENT, STATE, Bomb, cached, empty_home, saved, write_state

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


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_that_lie_in_another_dict_are_found(tmp_path, zipped):
    other = {"x": torch.zeros(2)}
    kinds = {
        "one": {"params": STATE},
        "beside": {"epoch": 3, "params": STATE, "words": ["a"]},
        "average": {"params": other, "params_ema": STATE},
        "lightning": {"state_dict": STATE, "global_step": 7},
    }
    for name, content in kinds.items():
        torch.save(content, tmp_path / f"{name}.pth", _use_new_zipfile_serialization=zipped)
        found = load_state(tmp_path / f"{name}.pth")
        assert found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)
    torch.save({"params": {"deeper": STATE}}, tmp_path / "deep.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="deep.pth: expected tensors"):
        load_state(tmp_path / "deep.pth")


# ---- every kind of file that torch.save writes

MANY = {
    "permuted": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
    "part": torch.arange(24.0).reshape(4, 6)[1::2, 2:],
    "empty": torch.zeros(0, 3),
    "number": torch.tensor(3.5, dtype=torch.float64),
    "repeated": torch.arange(4.0)[:1].expand(3),
    "parameter": nn.Parameter(torch.ones(2)),
    "nan": torch.full((2,), torch.nan),
    **{str(dtype): torch.ones(3).to(dtype) for dtype in tensors.DTYPES.values()},
}
MANY["tied"] = MANY["permuted"]


@pytest.mark.parametrize("zipped", [True, False])
def test_the_tensors_of_torch_load(tmp_path, zipped):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).state_dict()
    for number, state in enumerate((MANY, network)):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(saved(state, _use_new_zipfile_serialization=zipped))
        expected, found = torch.load(path, weights_only=True), load_state(path)
        assert list(expected) == list(found)
        for key, value in expected.items():
            assert value.dtype == found[key].dtype and value.stride() == found[key].stride(), key
            assert (
                np.array_equal(value.detach().numpy(force=True), found[key].numpy(), equal_nan=True)
                if (value.dtype != torch.bfloat16)
                else torch.equal(value, found[key])
            )


def test_files_of_other_versions_of_torch():
    """Those of the package lpips are of 2018: `_rebuild_tensor`, names as bytes of Python 2, large numbers."""
    import lpips

    files = sorted((Path(lpips.__file__).parent / "weights").rglob("*.pth"))
    assert len(files) == 6
    for path in files:
        expected, found = torch.load(path, weights_only=True, map_location="cpu"), load_state(path)
        assert list(expected) == list(found) and all(torch.equal(expected[key], found[key]) for key in expected)


def test_values_in_the_order_of_another_machine_are_refused(tmp_path):
    for zipped, old, new in ((True, b"little", b"big   "), (False, b"endianq\x02\x88", b"endianq\x02\x89")):
        content = saved(_use_new_zipfile_serialization=zipped)
        assert content.count(old) == 1
        (tmp_path / "x.pth").write_bytes(content.replace(old, new))
        with pytest.raises(ValueError, match="values of byte order little"):
            load_state(tmp_path / "x.pth")


# ---- files that ask for more memory than they have bytes


def zipped(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as archive:
        warnings.simplefilter("ignore")  # a name twice
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def resized(content, old, new):
    """Another number in the pickle of a file of torch.save, zipped or not."""
    assert content.count(old) >= 1
    if content[:4] != b"PK\3\4":
        return content.replace(old, new)
    return zipped([(name, part.replace(old, new) if "data.pkl" in name else part) for name, part in members(content)])


MILLION = b"J" + (10**6).to_bytes(4, "little")  # as a pickle writes it
HUGE = b"\x8a\x06" + (4 * 10**12).to_bytes(6, "little")
LINE = torch.zeros(10**6)
PICKLES = {  # what a pickle alone can ask for
    "place of its memory": b"\x80\x02}r\xff\xff\xff\x7f.",
    "bytearray": b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + (1 << 42).to_bytes(6, "little") + b"\x85R.",
    "storage": b"\x80\x02ctorch\nFloatStorage\n\x8a\x06" + (1 << 42).to_bytes(6, "little") + b"\x85R.",
    "tensor": b"\x80\x02ctorch\nFloatTensor\n\x8a\x06" + (1 << 42).to_bytes(6, "little") + b"\x85R.",
    "nested tuples": b"\x80\x02}N" + b"\x85" * 10**6 + b"Ns.",
    "long bytes": b"\x80\x04\x8e" + (1 << 42).to_bytes(8, "little") + b".",
}
BOMBS = {
    "compressed.pth": lambda: zipped(members(saved({"x": LINE})), zipfile.ZIP_DEFLATED),
    "expanded.pth": lambda: saved({"x": torch.zeros(1).expand(10**12)}),
    "expanded_legacy.pth": lambda: saved({"x": torch.zeros(1).expand(10**12)}, _use_new_zipfile_serialization=False),
    "overlapping_rows.pth": lambda: saved({"x": LINE.as_strided((10**6 - 9, 10), (1, 1))}),
    "one_storage_for_all.pth": lambda: saved({str(i): LINE for i in range(1000)}),
    "storage.pth": lambda: resized(saved({"x": LINE}), MILLION, HUGE),
    "storage_legacy.pth": lambda: resized(saved({"x": LINE}, _use_new_zipfile_serialization=False), MILLION, HUGE),
    "twice.pth": lambda: zipped([*members(saved({"x": LINE})), *members(saved({"x": LINE}))]),
    "sparse.pth": lambda: saved({"x": torch.sparse_coo_tensor([[0], [0]], [1.0], (10**6, 10**6))}),
    "meta.pth": lambda: saved({"x": torch.empty(10**12, device="meta")}),
    "quantised.pth": lambda: saved({"x": torch.quantize_per_tensor(LINE, 1.0, 0, torch.qint8)}),
    **{f"{name}.pth": lambda content=content: content for name, content in PICKLES.items()},
    **{
        f"{name} in a zip.pth": lambda content=content: zipped([("a/data.pkl", content), ("a/version", b"3")])
        for name, content in PICKLES.items()
    },
    "compressed.npz": lambda: zipped([("x.npy", npy(np.zeros(10**6)))], zipfile.ZIP_DEFLATED),
    "header.npz": lambda: zipped([("x.npy", npy(np.zeros(4)).replace(b"(4,)", b"(4000000000000,)"))]),
    "bzip2.npz": lambda: zipped([("x.npy", npy(np.zeros(4)))], zipfile.ZIP_BZIP2),
    "long header.safetensors": lambda: (1 << 62).to_bytes(8, "little") + b"{}",
    "shape.safetensors": lambda: framed({"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}),
    "overflow.safetensors": lambda: framed({"dtype": "F32", "shape": [2**62, 16], "data_offsets": [0, 0]}),
    "offsets.safetensors": lambda: framed({"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}),
}


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def framed(entry):
    header = json.dumps({"x": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about kinds of tensors that are refused here
@pytest.mark.parametrize("name", BOMBS)
def test_file_that_asks_for_more_than_it_has_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BOMBS[name]())
    for call in (load_state, lambda path: tensors.check(path, path.name)):
        with pytest.raises(ValueError, match=f"{name}: expected tensors, got a file truncated, no checkpoint, or"):
            call(path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux how much memory was ever asked for")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_refusing_takes_no_memory(tmp_path):
    for name, content in BOMBS.items():
        (tmp_path / name).write_bytes(content())
    script = """
import pathlib, re, sys
from helpers.weights import load_state
import safetensors.torch
def peak(): return int(re.search(r"VmPeak:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
before, refused = peak(), 0
for path in pathlib.Path(sys.argv[1]).iterdir():
    try:
        load_state(path)
    except ValueError as error:
        assert not isinstance(error.__cause__, (MemoryError, RuntimeError)), error
        refused += 1
print(refused, (peak() - before) // 1024)
"""
    run = [sys.executable, "-c", script, str(tmp_path)]
    root = str(Path(tensors.__file__).parents[2])
    done = subprocess.run(run, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": root})
    assert done.returncode == 0, done.stderr
    refused, megabytes = map(int, done.stdout.split())
    assert refused == len(BOMBS) and megabytes < 150


def test_npz_that_is_compressed_as_numbers_are_is_read(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=np.arange(1000.0), y=np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    assert (tmp_path / "x.npz").stat().st_size < 8000
    state = load_state(tmp_path / "x.npz")
    assert torch.equal(state["x"], torch.arange(1000.0).double()) and state["y"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    path = tmp_path / "x.pth"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero")}[kind]()
    with pytest.raises(ValueError, match="found no such file"):
        load_state(path)


# ---- the original is opened


def test_the_file_whose_hash_was_compared_is_the_one_that_is_opened(monkeypatch, tmp_path):
    """Nothing else is kept: copies that an earlier version converted are not looked at, whatever they hold."""
    path = write_state(tmp_path / "x.pth")
    monkeypatch.setitem(WEIGHTS, "x", Entry("x.pth", (), sha256_of(path), None, "ours"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    copy = tmp_path / "cache" / "converted" / f"x-{sha256_of(path)[:16]}.safetensors"
    copy.parent.mkdir(parents=True)
    write_state(copy, {key: value + 1 for key, value in STATE.items()})
    copy.with_name(f"{copy.name}.sha256").write_text(sha256_of(copy))
    state = load_state(fetch("x"))
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)
    assert sorted(each.name for each in copy.parent.iterdir()) == [copy.name, f"{copy.name}.sha256"]


@pytest.mark.parametrize("kind", ["bare", "zip"])
def test_b37_code_in_an_official_file_is_not_run(monkeypatch, tmp_path, kind):
    """A file whose hash is right and whose content is malicious, as when a project publishes one."""
    bomb = {"x": Bomb(tmp_path / "ran")}
    if kind == "zip":
        torch.save(bomb, tmp_path / "x.pth")
    else:
        (tmp_path / "x.pth").write_bytes(pickle.dumps(bomb, 2))
    monkeypatch.setitem(WEIGHTS, "x", Entry("x.pth", (), sha256_of(tmp_path / "x.pth"), None, "ours"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match="x.pth: expected tensors, .*code, which is refused"):
        load_state(fetch("x"))
    assert not (tmp_path / "ran").exists() and cached(tmp_path) == []
    unsafe = torch.load if kind == "zip" else lambda path, weights_only: pickle.loads(path.read_bytes())
    unsafe(tmp_path / "x.pth", weights_only=False)
    assert (tmp_path / "ran").exists()  # the bomb does work
