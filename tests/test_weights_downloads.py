"""Checkpoints are fetched despite failures: cut, broken, renamed and slow downloads; F07, F08."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from helpers.files import sha256_of
from helpers.weights import WEIGHTS, Entry, downloads, fetch, locate, store
from tests.checkpoints import CONTENT, SHA256, WHOLE, answer, cached, empty_home, saved, server, write_state

pytestmark = pytest.mark.usefixtures("empty_home")


@pytest.fixture
def unknown(server, monkeypatch):
    """The server with a file of which neither hash nor size is known."""
    monkeypatch.setattr(server, "content", WHOLE)
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(sha256="", bytes=None))
    return server


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
    write_state(tmp_path / "a.pth")
    sha256 = sha256_of(tmp_path / "a.pth")
    assert fetch("a") == tmp_path / "a.pth"
    assert (tmp_path / "cache" / "a.pth.sha256").read_text() == sha256
    (tmp_path / "a.pth").write_bytes(WHOLE)
    with pytest.raises(ValueError, match=f"recorded at first use .*a.pth.sha256.* {sha256}, found"):
        fetch("a")
    (tmp_path / "a.pth").unlink()
    (tmp_path / "cache" / "a.pth").write_bytes(WHOLE)
    with pytest.raises(ValueError, match="recorded at first use"):
        fetch("a")
    assert (tmp_path / "cache" / "a.pth").exists()  # a file put there by hand is not renamed


def test_cut_download_without_a_known_hash_records_nothing(unknown, tmp_path):
    unknown.answers[:] = ["cut"]
    with pytest.raises(ValueError, match=f"cut after 3000 of {len(WHOLE)} bytes"):
        fetch("a")
    assert cached(tmp_path) == []
    unknown.answers[:] = ["whole"]
    assert fetch("a").read_bytes() == WHOLE and cached(tmp_path) == ["a.pth", "a.pth.sha256"]


def test_cache_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), "", None, "ours"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "a.pth" / "cache"))  # below a file
    (tmp_path / "a.pth").write_bytes(WHOLE)
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


def test_f08_without_a_hash_to_prove_it_nothing_is_put_together(unknown, tmp_path):
    unknown.answers[:] = ["range cut", "range whole"]
    assert fetch("a").read_bytes() == WHOLE
    assert unknown.ranges == [None, None]
    (tmp_path / "cache" / "a.pth").unlink()
    unknown.answers[:] = ["range cut"]
    with pytest.raises(ValueError, match="cut after 3000"):
        fetch("a")
    assert cached(tmp_path) == ["a.pth.sha256"]


def test_f08_more_announced_than_sent_is_whole_when_the_size_is_known(server):
    server.answers[:] = ["long"]
    assert fetch("a").read_bytes() == CONTENT and len(server.asked) == 1


def test_f08_length_that_lies_where_nothing_is_known(unknown):
    unknown.answers[:] = ["long"]
    with pytest.raises(ValueError, match=f"cut after {len(WHOLE)} of {len(WHOLE) + 1000} bytes"):
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
