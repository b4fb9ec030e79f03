"""Checkpoints: found, verified, fetched despite failures, opened without running code; B36, B37, F07, F08."""

import hashlib
import http.server
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from helpers.files import sha256_of
from helpers.paper import profiles
from helpers.weights import WEIGHTS, Entry, downloads, embedded, fetch, load_into, load_state, locate, store, tensors
from helpers.weights import __main__ as weights_cli

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def empty_home(monkeypatch, tmp_path):
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("IDA_RD_WEIGHTS", "IDA_RD_SHARED_CACHE", "IDA_RD_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


PAGE = b"<!DOCTYPE html><html><head><title>Google Drive -\n Quota &amp; more</title></head></html>"


@pytest.fixture
def server(monkeypatch):
    """A server on this machine: `answers` are given one after the other, the last one for ever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        answers, asked, ranges = [], [], []
        wait = None  # called in the middle of the answer "slow"

        def do_GET(self):
            self.asked.append(self.path)
            self.ranges.append(self.headers.get("Range"))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer == "404":
                return self.send_error(404)
            if answer == "drop":
                return self.connection.close()
            body = {"flip": CONTENT[:99] + b"?" + CONTENT[100:], "html": b"<html>quota</html>", "page": PAGE}
            body, start = body.get(answer, CONTENT), 0
            if "range" in answer and self.ranges[-1]:
                start = int(re.fullmatch(r"bytes=(\d+)-", self.ranges[-1])[1])
                if start >= len(body):
                    return self.send_error(416)
            self.send_response(206 if start or answer == "odd range" else 200)
            if start or answer == "odd range":
                first = 7 if answer == "odd range" else start
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            if "unsized" not in answer:
                length = len(body) - start + {"long": 1000, "short": -5000}.get(answer, 0)
                self.send_header("Content-Length", str(length))
            self.end_headers()
            body = body[start : start + 3000] if "cut" in answer else body[start:]
            self.wfile.write(body[:1000])
            if answer in ("hang", "slow"):
                self.wfile.flush()
                type(self).wait()
                body = body if answer == "slow" else b""
            self.wfile.write(body[1000:])

        def log_message(self, *args):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.handle_error = lambda *args: None  # clients that hang up are what is tested
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


@pytest.mark.parametrize("failure", ["cut", "unsized cut", "flip", "html", "404", "drop", "short"])
def test_f08_failed_download_is_tried_again_and_leaves_no_file(server, tmp_path, failure):
    server.answers[:] = [failure, "whole"]
    assert fetch("a").read_bytes() == CONTENT
    assert len(server.asked) == 2 and cached(tmp_path) == ["a.pth"]


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        ("cut", "3000 of 10240 bytes"),
        ("unsized cut", "3000 of 10240 bytes"),
        ("flip", f"SHA-256 expected {SHA256}, found"),
        ("html", "web page: a failed download"),
        ("page", "Its title: Google Drive - Quota & more; open the address in a browser"),
        ("404", "404"),
        ("drop", "Remote end closed connection"),
        ("short", "cut after 5240 of 10240 bytes"),
        ("odd range", "expected the bytes from 0 on, got bytes 7-"),
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
    kept = ["a.pth.part"] if says.startswith("cut after") or "3000" in says else []
    assert cached(tmp_path) == kept and locate("a") is None


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
    with pytest.raises(ValueError, match="cut after 3000 of 10240 bytes"):
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


# ---- a cut download


def test_f08_cut_download_goes_on_where_the_server_knows_ranges(server, tmp_path):
    server.answers[:] = ["range cut"]  # always: 3,000 bytes an answer
    assert fetch("a").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"] and cached(tmp_path) == ["a.pth"]


def test_f08_server_that_ignores_the_range_starts_again(server):
    server.answers[:] = ["cut", "whole"]
    assert fetch("a").read_bytes() == CONTENT  # not 3,000 bytes longer
    assert server.ranges == [None, "bytes=3000-"]


def test_f08_next_call_goes_on_with_the_part_of_a_call_that_was_killed(server, tmp_path):
    server.answers[:] = ["range whole"]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.pth.part").write_bytes(CONTENT[:1234])
    (tmp_path / "cache" / "a.pth.lock").write_bytes(b"")
    assert fetch("a").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1234-"] and cached(tmp_path) == ["a.pth"]


@pytest.mark.parametrize("part", [b"?" * 1234, CONTENT + b"?", CONTENT])
def test_f08_part_that_does_not_fit_is_thrown_away(server, tmp_path, part):
    server.answers[:] = ["range whole"]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.pth.part").write_bytes(part)
    assert fetch("a").read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(part)}-", None] and cached(tmp_path) == ["a.pth"]


def test_f08_without_a_hash_to_prove_it_nothing_is_put_together(server, monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(sha256=""))
    server.answers[:] = ["range cut", "range whole"]
    assert fetch("a").read_bytes() == CONTENT
    assert server.ranges == [None, None]
    (tmp_path / "cache" / "a.pth").unlink()
    server.answers[:] = ["range cut"]
    with pytest.raises(ValueError, match="cut after 3000"):
        fetch("a")
    assert cached(tmp_path) == ["a.pth.sha256"]


def test_f08_more_announced_than_sent_is_whole_when_the_size_is_known(server):
    server.answers[:] = ["long"]
    assert fetch("a").read_bytes() == CONTENT and len(server.asked) == 1


def test_f08_length_that_lies_where_nothing_is_known(server, monkeypatch):
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(sha256="", bytes=None))
    server.answers[:] = ["long"]
    with pytest.raises(ValueError, match="cut after 10240 of 11240 bytes"):
        fetch("a")


def test_f08_server_that_falls_silent(server, monkeypatch, tmp_path):
    monkeypatch.setattr(downloads, "SILENCE", 0.2)
    end = threading.Event()
    server.wait = lambda: end.wait(20)
    server.answers[:] = ["hang", "range whole"]
    start = time.perf_counter()
    assert fetch("a").read_bytes() == CONTENT
    assert time.perf_counter() - start < 5
    end.set()
    assert server.ranges == [None, "bytes=1000-"]


def test_f08_cut_zip_archive_is_no_file_even_without_a_hash(server, monkeypatch, tmp_path):
    whole = write_state(tmp_path / "x.pth").read_bytes()
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), "", None, "ours"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    (tmp_path / "a.pth").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="a.pth: truncated, .* zip archive without its end"):
        locate("a")
    assert cached(tmp_path) == []
    (tmp_path / "a.pth").write_bytes(whole)
    assert locate("a") == tmp_path / "a.pth"


@pytest.mark.parametrize("failure", ["cut", "flip", "html", "404", "drop"])
def test_second_address_serves_when_the_first_fails(server, monkeypatch, failure):
    first, second = WEIGHTS["a"].urls[0], WEIGHTS["a"].urls[0].replace("a.pth", "b.pth")
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(urls=(first, second)))
    server.answers[:] = [failure] * (2 if failure == "cut" else 1) + ["whole"]
    assert fetch("a").read_bytes() == CONTENT
    assert server.asked[0] == "/a.pth" and server.asked[-1] == "/b.pth"


@pytest.mark.parametrize("dead", ["http://127.0.0.1:9/a.pth", "http://192.0.2.1/a.pth", "http://no-host.invalid/a"])
def test_second_address_serves_when_the_first_is_not_there(server, monkeypatch, dead):
    server.answers[:] = ["whole"]
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(urls=(dead, *WEIGHTS["a"].urls)))
    assert fetch("a", patience=0.3).read_bytes() == CONTENT


def test_second_address_serves_when_the_name_of_the_first_is_never_found(server, monkeypatch):
    look_up, asked = socket.getaddrinfo, []

    def slow(host, *rest, **more):
        asked.append(host)
        time.sleep(2 * (host == "slow.invalid"))
        return look_up(host, *rest, **more)

    monkeypatch.setattr("socket.getaddrinfo", slow)
    server.answers[:] = ["404", "whole"]
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(urls=("http://slow.invalid/a", *WEIGHTS["a"].urls)))
    assert fetch("a", patience=0.3).read_bytes() == CONTENT and len(server.asked) == 2
    assert asked.count("slow.invalid") == 1  # not in the second round


def test_two_processes_download_once(server, tmp_path):
    """The answer is held back until the second process has had half a second to ask as well."""
    script = f"""
import pathlib, sys
from helpers.weights import store
store.WEIGHTS["a"] = store.Entry("a.pth", {WEIGHTS["a"].urls!r}, {SHA256!r}, {len(CONTENT)}, "ours")
pathlib.Path({str(tmp_path)!r}, "ready" + sys.argv[1]).touch()
print(store.fetch("a", patience=10))
"""

    def wait():
        for _ in range(1200):
            if len(list(tmp_path.glob("ready*"))) == 2:
                return time.sleep(0.5)
            time.sleep(0.05)

    server.wait, server.answers[:] = wait, ["slow"]
    run = [sys.executable, "-c", script]
    children = [
        subprocess.Popen([*run, number], stdout=subprocess.PIPE, text=True, cwd=store.EMBEDDED.parents[1])
        for number in "12"
    ]
    answers = {child.communicate(timeout=120)[0].strip() for child in children}
    assert answers == {str(tmp_path / "cache" / "a.pth")}
    assert server.asked == ["/a.pth"] and cached(tmp_path) == ["a.pth"]


def test_threads_download_once(server):
    server.wait, server.answers[:] = lambda: time.sleep(0.2), ["slow"]
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch("a").read_bytes())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 3 and server.asked == ["/a.pth"]


# ---- where a file may lie


def test_shared_folder_is_taken_first_and_never_written(server, monkeypatch, tmp_path):
    server.answers[:] = ["whole"]
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(folder))
    assert fetch("a") == tmp_path / "cache" / "a.pth" and list(folder.iterdir()) == []
    (folder / "a.pth").write_bytes(CONTENT)
    assert fetch("a") == locate("a") == folder / "a.pth"
    (folder / "a.pth").write_bytes(CONTENT[:-1])  # wrong: as if it were not there, and not ours to rename
    assert fetch("a") == tmp_path / "cache" / "a.pth"
    (tmp_path / "cache" / "a.pth").unlink()
    with pytest.raises(
        ValueError, match="a.pth is missing: put it into .*shared, .*; .*shared/a.pth: SHA-256 expected"
    ):
        fetch("a", offline=True)
    assert [path.name for path in folder.iterdir()] == ["a.pth"] and len(server.asked) == 1


def test_hash_recorded_in_the_shared_folder_needs_no_cache_that_can_be_written(monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), "", None, "ours"))
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(tmp_path))
    (tmp_path / "a.pth").write_bytes(CONTENT)
    (tmp_path / "a.pth.sha256").write_text(SHA256 + "\n")
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "a.pth" / "cache"))  # below a file
    assert fetch("a") == tmp_path / "a.pth"
    (tmp_path / "a.pth").write_bytes(CONTENT[1:])
    assert locate("a") is None


def test_cache_that_cannot_be_written_is_said_before_anything_is_asked(server, monkeypatch, tmp_path):
    server.answers[:] = ["whole"]
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ValueError, match="a.pth is missing.*expected a cache that can be written, .*IDA_RD_CACHE"):
        fetch("a")
    assert server.asked == []
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(tmp_path))
    (tmp_path / "a.pth").write_bytes(CONTENT)
    assert fetch("a") == tmp_path / "a.pth"  # a known hash needs no record


@pytest.mark.parametrize("variable", ["IDA_RD_WEIGHTS", "IDA_RD_SHARED_CACHE", "IDA_RD_CACHE"])
def test_file_under_the_name_of_another_programs_cache(monkeypatch, tmp_path, variable):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), SHA256, None, "ours", also=("0123_a.pth",)))
    monkeypatch.setenv(variable, str(tmp_path))
    assert locate("a") is None
    (tmp_path / "0123_a.pth").write_bytes(CONTENT)
    assert fetch("a") == tmp_path / "0123_a.pth"
    (tmp_path / "a.pth").write_bytes(CONTENT)
    assert fetch("a") == tmp_path / "a.pth"


def test_git_hash_proves_a_file(monkeypatch, tmp_path):
    git = "6f9af6b4a4a3b1b1a1b1a1b1a1b1a1b1a1b1a1b1"
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), "", None, "ours", git=git))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    (tmp_path / "a.pth").write_bytes(b"hello\n")
    with pytest.raises(ValueError, match=f"git hash expected {git}, found ce013625030ba8dba906f756967f9e9ca394464a"):
        locate("a")  # what `echo hello | git hash-object --stdin` prints
    entry = WEIGHTS["a"]._replace(git="ce013625030ba8dba906f756967f9e9ca394464a", sha256="0" * 64)
    monkeypatch.setitem(WEIGHTS, "a", entry)
    assert locate("a") == tmp_path / "a.pth" and cached(tmp_path) == []
    (tmp_path / "a.pth").write_bytes(b"hello!\n")
    with pytest.raises(ValueError, match="SHA-256 expected 0000"):
        locate("a")


def test_another_entry_does_instead(server, monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "b", Entry("b.pth", ("http://127.0.0.1:9/b",), "0" * 8, None, "ours", instead="a"))
    with pytest.raises(ValueError, match="b.pth is missing.*127.0.0.1:9.*nor is what would do instead: a.pth is miss"):
        server.answers[:] = ["404"]
        fetch("b")
    server.answers[:] = ["whole"]
    assert locate("b") is None
    assert fetch("b") == locate("b") == tmp_path / "cache" / "a.pth"
    (tmp_path / "cache" / "b.pth").write_bytes(CONTENT)
    monkeypatch.setitem(WEIGHTS, "b", WEIGHTS["b"]._replace(sha256=SHA256))
    assert fetch("b") == tmp_path / "cache" / "b.pth"  # its own file is preferred


def test_files_of_pulse():
    for name, number in (
        ("pulse_synthesis", "1TCViX1YpQyRsklTVYEJwdbmK91vklCo8"),
        ("pulse_mapping", "14R6iHGf5iuVx3DMNsACAl7eBr7Vdpd0k"),
        ("face_landmarks", "1huhv8PYpNNKbGCLOaYUjOgR1pY5pmbJx"),
    ):
        entry, url = WEIGHTS[name], f"https://drive.google.com/uc?id={number}"
        assert entry.also == (f"{hashlib.md5(url.encode()).hexdigest()}_{entry.file}",)  # drive.py:36-43
        assert f"{url}#{entry.file}" in entry.urls and all(number in each for each in entry.urls[:2])
        assert "never seen" in entry.note and "commercial" in entry.licence
    assert {WEIGHTS[name].instead for name in ("pulse_synthesis", "pulse_mapping")} == {"stylegan_ffhq_for_g_all"}


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


# ---- embedded


def test_embedded_checkpoints_are_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "EMBEDDED", tmp_path)
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
    for path in store.EMBEDDED.glob("*.safetensors"):
        assert embedded(path.stem) == path and load_state(path)
        assert path.stat().st_size <= 8_000_000


def test_safetensors_that_begin_like_a_web_page_are_opened(tmp_path):
    """The file begins with the length of its header: 15,392 bytes are written as a space and "<"."""
    path = tmp_path / "x.safetensors"
    save_file(STATE, path, {"pad": ""})
    missing = 15_392 - int.from_bytes(path.read_bytes()[:8], "little")
    save_file(STATE, path, {"pad": "x" * missing})
    assert path.read_bytes()[:8] == b" <" + bytes(6)
    assert load_state(path).keys() == STATE.keys()


# ---- python -m helpers.weights


def test_list_says_where_everything_is(server, monkeypatch, tmp_path, capsys):
    server.answers[:] = ["whole"]
    assert weights_cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert rows.keys() == {"name", *WEIGHTS, *(path.stem for path in store.EMBEDDED.glob("*.safetensors"))}
    assert rows["name"].split() == ["name", "where", "size", "notebooks", "file", "licence"]
    assert re.search(
        r"missing +244.4 MB +03 04 05 06 07 08 +alexnet-owt-7be5be79.pth +torchvision BSD", rows["alexnet"]
    )
    assert re.search(r"embedded +5.0 MB +default +compact_flow_x4.safetensors", rows["compact_flow_x4"])
    assert re.search(r"missing +\? +05 +synthesis.pt +CC BY-NC 4.0", rows["pulse_synthesis"])
    start = rows["name"].index("where")
    assert all(line[start - 1] == " " and line[start] != " " for line in lines) and server.asked == []
    fetch("a")
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(tmp_path))
    for content, where in ((None, "cache"), (CONTENT, "shared folder"), (CONTENT[1:], "cache")):
        if content:
            (tmp_path / "a.pth").write_bytes(content)
        weights_cli.main(["list"])
        row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("a  "))
        assert re.match(f"a +{where} +10.2 kB +- +a.pth +ours", row)
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    weights_cli.main(["list"])
    assert re.search("\na +wrong ", capsys.readouterr().out)
    monkeypatch.setitem(WEIGHTS, "b", Entry("b.pth", (), "0" * 8, None, "ours", instead="c"))
    monkeypatch.setitem(WEIGHTS, "c", Entry("c.pth", (), SHA256, None, "ours"))
    for content, where in ((CONTENT, "other file"), (CONTENT[1:], "missing")):
        (tmp_path / "c.pth").write_bytes(content)
        weights_cli.main(["list"])
        assert re.search(f"\nb +{where} ", capsys.readouterr().out)


def test_fetch_goes_on_after_a_failure_and_ends_with_1(server, tmp_path, capsys):
    server.answers[:] = ["whole"]
    assert weights_cli.main(["fetch", "SRFlow_DF2K_4X", "a", "compact_flow_x4"]) == 1
    out, err = capsys.readouterr()
    assert out.split() == [str(tmp_path / "cache" / "a.pth"), str(embedded("compact_flow_x4"))]
    for expected in ("SRFlow_DF2K_4X.pth is missing: put it into", "IDA_RD_WEIGHTS", "by hand", "404"):
        assert expected in err
    assert weights_cli.main(["fetch", "a"]) == 0 and len(server.asked) == 1


def test_path(server, tmp_path, capsys):
    server.answers[:] = ["whole"]
    assert weights_cli.main(["path", "a"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "a.pth is missing" in err and server.asked == []
    fetch("a")
    assert weights_cli.main(["path", "a"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cache' / 'a.pth'}\n"
    assert weights_cli.main(["path", "b"]) == 1
    assert "expected a checkpoint of alexnet, " in capsys.readouterr().err


def test_verify_hashes_everything_anew(server, monkeypatch, tmp_path, capsys):
    server.answers[:] = ["whole"]
    path = fetch("a")
    assert weights_cli.main(["verify"]) == 0
    out = capsys.readouterr().out
    assert f"right  {path}\n" in out and f"right  {embedded('compact_flow_x4')}\n" in out and "WRONG" not in out
    stat = path.stat()
    path.write_bytes(CONTENT[:99] + b"?" + CONTENT[100:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # neither size nor time tells
    assert weights_cli.main(["verify"]) == 1
    assert f"WRONG  {path}: SHA-256 expected {SHA256}, found" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["embedded", "converted", "shared", "torch.hub"])
def test_verify_looks_everywhere(monkeypatch, tmp_path, capsys, what):
    monkeypatch.setattr(store, "EMBEDDED", tmp_path / "embedded")
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(tmp_path / "shared"))
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), SHA256, None, "ours"))
    assert weights_cli.main(["verify"]) == 0
    file = {
        "embedded": "embedded/x.safetensors",
        "converted": "cache/converted/x-0.safetensors",
        "shared": "shared/a.pth",
        "torch.hub": "torch/hub/checkpoints/a.pth",
    }[what]
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_bytes(CONTENT[1:])
    assert weights_cli.main(["verify"]) == 1
    assert re.search(f"WRONG  .*{file}", capsys.readouterr().out)


def test_command_line_as_a_program():
    run = [sys.executable, "-m", "helpers.weights", "path", "compact_flow_x4"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=store.EMBEDDED.parents[1])
    assert (done.returncode, done.stdout.strip()) == (0, str(embedded("compact_flow_x4"))), done.stderr


@pytest.mark.parametrize("arguments", [[], ["fetch"], ["path"], ["path", "a", "b"], ["remove", "a"]])
def test_command_line_that_is_none_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        weights_cli.main(arguments)
    assert caught.value.code == 2 and "usage: python -m helpers.weights" in capsys.readouterr().err


# ---- which notebook needs what


@pytest.mark.parametrize("notebook", sorted(path.stem for path in (profiles.NOTEBOOKS / "paper").glob("*.yaml")))
def test_needed_has_every_file_that_a_profile_lacks(notebook, monkeypatch):
    monkeypatch.setattr(store, "locate", lambda name: None)
    lacking = " ".join(profiles.lacking(profiles.parameters(notebook)))
    named = {name for name, entry in WEIGHTS.items() if f"{entry.file} is missing" in lacking}
    needed = {name for name, entry in WEIGHTS.items() if notebook[:2] in entry.needed}
    assert named == needed, f"see `needed` in weights.table, {notebook[:2]}"


def test_needed_names_notebooks_that_exist():
    numbers = {number for entry in WEIGHTS.values() for number in entry.needed}
    assert numbers <= {path.stem[:2] for path in profiles.NOTEBOOKS.glob("[0-9]*.ipynb")}
    assert "00" not in numbers and "05" in WEIGHTS["pulse_synthesis"].needed
