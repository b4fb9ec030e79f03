"""Checkpoints: found, verified, fetched despite failures, opened without running code; B36, B37, F07, F08."""

import hashlib
import http.server
import os
import pickle
import threading
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from helpers import weights
from helpers.weights import WEIGHTS, Entry, embedded, fetch, load_into, load_state, locate, sha256_of

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def empty_home(monkeypatch, tmp_path):
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)
    monkeypatch.delenv("IDA_RD_OFFLINE", raising=False)


@pytest.fixture
def server(monkeypatch):
    """A server on this machine: `answers` are given one after the other, the last one for ever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        answers, asked = [], []

        def do_GET(self):
            self.asked.append(self.path)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer == "404":
                return self.send_error(404)
            body = {"flip": CONTENT[:99] + b"?" + CONTENT[100:], "html": b"<html>quota</html>"}.get(answer, CONTENT)
            self.send_response(200)
            if answer != "unsized cut":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:5000] if "cut" in answer else body)

        def log_message(self, *args):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{running.server_port}/a.pth"
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (url,), SHA256, len(CONTENT), "ours"))
    yield Handler
    running.shutdown()
    running.server_close()


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob("*"))


# ---- finding and fetching


def test_fetch_downloads_once_and_verifies(server, tmp_path):
    server.answers[:] = ["whole"]
    assert locate("a") is None
    path = fetch("a")
    assert path == tmp_path / "cache" / "a.pth" and path.read_bytes() == CONTENT
    assert fetch("a") == locate("a") == path
    assert server.asked == ["/a.pth"] and cached(tmp_path) == ["a.pth"]


@pytest.mark.parametrize("failure", ["cut", "unsized cut", "flip", "html", "404"])
def test_f08_failed_download_is_tried_again_and_leaves_no_file(server, tmp_path, failure):
    server.answers[:] = [failure, "whole"]
    assert fetch("a").read_bytes() == CONTENT
    assert len(server.asked) == 2 and cached(tmp_path) == ["a.pth"]


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        ("cut", "5000 of 10240 bytes"),
        ("unsized cut", "5000 of 10240 bytes"),
        ("flip", f"SHA-256 expected {SHA256}, found"),
        ("html", "web page: a failed download"),
        ("404", "404"),
    ],
)
def test_f08_lasting_failure_names_file_place_and_reason(server, tmp_path, failure, says):
    server.answers[:] = [failure]
    with pytest.raises(ValueError) as caught:
        fetch("a")
    for expected in (
        "a.pth is missing",
        "IDA_RD_WEIGHTS",
        str(tmp_path / "cache"),
        "http://127.0.0.1",
        SHA256,
        says,
    ):
        assert expected in str(caught.value)
    assert cached(tmp_path) == [] and locate("a") is None


@pytest.mark.parametrize("broken", [CONTENT[:-1], CONTENT[:99] + b"?" + CONTENT[100:], b"", b"<html>"])
def test_f07_broken_cache_is_set_aside_and_fetched_again_once(server, tmp_path, broken):
    server.answers[:] = ["whole"]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.pth").write_bytes(broken)
    assert fetch("a").read_bytes() == CONTENT
    assert cached(tmp_path) == ["a.pth", "a.pth.broken"] and server.asked == ["/a.pth"]
    assert (tmp_path / "cache" / "a.pth.broken").read_bytes() == broken


def test_f07_file_that_changes_under_way_is_hashed_again(server, tmp_path):
    server.answers[:] = ["whole"]
    path = fetch("a")
    path.write_bytes(CONTENT[:99] + b"?" + CONTENT[100:])
    os.utime(path, ns=(1, 1))
    assert locate("a") is None


def test_folder_named_by_the_user_comes_first_and_is_never_written(server, monkeypatch, tmp_path):
    server.answers[:] = ["whole"]
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(folder))
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / "a.pth").write_bytes(CONTENT)
    assert fetch("a") == hub / "a.pth"
    (folder / "a.pth").write_bytes(CONTENT)
    assert fetch("a") == folder / "a.pth"
    (folder / "a.pth").write_bytes(CONTENT[:-1])
    for call in (locate, fetch):
        with pytest.raises(ValueError, match=f"mine/a.pth: SHA-256 expected {SHA256}, found .* 10239 of 10240 bytes"):
            call("a")
    assert server.asked == [] and (folder / "a.pth").exists() and cached(tmp_path) == []


def test_broken_file_in_the_cache_of_torch_is_not_used(server, tmp_path):
    server.answers[:] = ["whole"]
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / "a.pth").write_bytes(CONTENT[:-1])
    assert fetch("a") == tmp_path / "cache" / "a.pth"
    assert (hub / "a.pth").read_bytes() == CONTENT[:-1]  # not ours to rename


def test_offline_asks_nobody(server, monkeypatch):
    server.answers[:] = ["whole"]
    with pytest.raises(ValueError, match="a.pth is missing.*the network is switched off"):
        fetch("a", offline=True)
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")
    with pytest.raises(ValueError, match="the network is switched off"):
        fetch("a")
    assert server.asked == []


@pytest.mark.parametrize("url", ["http://192.0.2.1/a.pth", "http://no-such-host.invalid/a.pth", "http://127.0.0.1:9/a"])
def test_no_network_is_known_within_a_second_or_two(monkeypatch, url):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (url,), SHA256, None, "ours"))
    start = time.perf_counter()
    with pytest.raises(ValueError, match="a.pth is missing"):
        fetch("a", patience=0.5)
    assert time.perf_counter() - start < 1.5


def test_slow_name_server_does_not_hold_up(monkeypatch):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", ("http://example.invalid/a.pth",), SHA256, None, "ours"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **kwargs: time.sleep(2) or [])
    start = time.perf_counter()
    with pytest.raises(ValueError, match="example.invalid did not answer within 0.2 s"):
        fetch("a", patience=0.2)
    assert time.perf_counter() - start < 1


def test_hash_prefix_is_compared_as_far_as_it_goes(server, monkeypatch):
    server.answers[:] = ["flip", "flip", "whole"]
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(sha256=SHA256[:8]))
    with pytest.raises(ValueError, match=f"expected {SHA256[:8]}, found"):
        fetch("a")
    assert fetch("a").read_bytes() == CONTENT


def test_hash_of_first_use_is_recorded_where_none_is_known(monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), "", None, "ours"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    (tmp_path / "a.pth").write_bytes(CONTENT)
    assert fetch("a") == tmp_path / "a.pth"
    assert (tmp_path / "cache" / "a.pth.sha256").read_text() == SHA256
    (tmp_path / "a.pth").write_bytes(CONTENT[1:])
    with pytest.raises(ValueError, match=f"recorded at first use .*a.pth.sha256.* {SHA256}, found"):
        fetch("a")
    (tmp_path / "a.pth").unlink()
    (tmp_path / "cache" / "a.pth").write_bytes(CONTENT[1:])
    with pytest.raises(ValueError, match="recorded at first use"):
        fetch("a")
    assert (tmp_path / "cache" / "a.pth").exists()  # a file put there by hand is not renamed


def test_cut_download_without_a_known_hash_records_nothing(server, monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(sha256=""))
    server.answers[:] = ["cut"]
    with pytest.raises(ValueError, match="cut after 5000 of 10240 bytes"):
        fetch("a")
    assert cached(tmp_path) == []
    server.answers[:] = ["whole"]
    assert fetch("a").read_bytes() == CONTENT and cached(tmp_path) == ["a.pth", "a.pth.sha256"]


def test_cache_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), "", None, "ours"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "a.pth" / "cache"))  # below a file
    (tmp_path / "a.pth").write_bytes(CONTENT)
    with pytest.raises(ValueError, match="expected a writable cache"):
        fetch("a")


def test_official_srflow_weights_say_why_they_cannot_be_fetched(tmp_path):
    for name in ("SRFlow_DF2K_4X", "SRFlow_DF2K_8X", "SRFlow_CelebA_8X"):
        with pytest.raises(ValueError) as caught:
            fetch(name)
        for expected in (f"{name}.pth is missing", "404", "by hand", str(tmp_path / "cache")):
            assert expected in str(caught.value)


def test_unknown_name():
    with pytest.raises(ValueError, match="expected a checkpoint of alexnet, .* got 'alexnett'"):
        fetch("alexnett")


def test_entries_are_complete():
    for entry in WEIGHTS.values():
        assert entry.licence and entry.note and len(entry.sha256) in (0, 8, 64)
        assert all(url.startswith("https://") and url.endswith(entry.file) for url in entry.urls)
        if entry.urls and entry.sha256 and "-" in entry.file:  # torchvision's convention
            assert entry.file.removesuffix(".pth").rsplit("-", 1)[1] == entry.sha256[:8]


def test_known_file_of_the_reference_data(shared, monkeypatch):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data" / "weights"))
    state = load_state(fetch("alexnet_features"))
    assert len(state) == 10 and sum(value.numel() for value in state.values()) == 2_469_696


# ---- opening


STATE = {"b.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1, 2])}


def write_state(path, state=STATE):
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in state.items()})
    else:
        torch.save(state, path)
    return path


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


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


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


# ---- embedded


def test_embedded_checkpoints_are_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "EMBEDDED", tmp_path)
    with pytest.raises(ValueError, match="no embedded checkpoint 'flow': expected one of none"):
        embedded("flow")
    path = write_state(tmp_path / "flow.safetensors")
    with pytest.raises(ValueError, match="SHA256SUMS"):
        embedded("flow")
    (tmp_path / "SHA256SUMS").write_text(f"{sha256_of(path)}  flow.safetensors\n")
    assert embedded("flow") == path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # loads without an error, with another value
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    load_state(path)
    with pytest.raises(ValueError, match="flow.safetensors: expected SHA-256"):
        embedded("flow")


def test_every_embedded_checkpoint_of_the_repository():
    for path in weights.EMBEDDED.glob("*.safetensors"):
        assert embedded(path.stem) == path and load_state(path)
        assert path.stat().st_size <= 8_000_000
