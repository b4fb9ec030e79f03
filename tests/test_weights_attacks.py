"""What a server, or somebody who can write into the cache, cannot do: poison, flood, hold up, lead elsewhere."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
import zlib

import pytest

from helpers.files import sha256_of
from helpers.weights import WEIGHTS, Entry, downloads, fetch, locate, store
from tests.checkpoints import CONTENT, WHOLE, answer, cached, empty_home, saved, server, write_state

pytestmark = pytest.mark.usefixtures("empty_home")
posix = pytest.mark.skipif(os.name == "nt", reason="links and signals of POSIX")


@pytest.fixture
def unknown(server, monkeypatch):
    """The server with a file of which neither hash nor size is known."""
    monkeypatch.setattr(server, "content", WHOLE)
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(sha256="", bytes=None))
    return server


def endless(handler, head=b"", pause=0.0, piece=bytes(1 << 16)):
    """Send until the other side hangs up; how much went out is kept in `server.sent`."""
    type(handler).sent = 0
    handler.wfile.write(head)
    while True:
        handler.wfile.write(piece)
        type(handler).sent += len(piece)
        time.sleep(pause)


# ---- poisoning


def test_the_bytes_of_the_file_are_asked_for_as_they_are(server):
    server.answers[:] = ["whole"]
    fetch("a")
    assert server.encodings == ["identity"]


POISON = {
    "gzip": answer(gzip.compress(WHOLE), Content_Encoding="gzip"),
    "x-gzip": answer(gzip.compress(WHOLE), Content_Encoding="x-gzip"),
    "deflate": answer(zlib.compress(WHOLE), Content_Encoding="deflate"),
    "br": answer(WHOLE, Content_Encoding="br"),
    "gzip that is not said": answer(gzip.compress(WHOLE)),
    "gzip in transfer": answer(gzip.compress(WHOLE), Transfer_Encoding="gzip", Content_Length=None),
    "json": answer(json.dumps({"message": "quota exceeded"}).encode(), Content_Type="application/json"),
    "json as a file": answer(json.dumps([1] * 999).encode(), Content_Type="application/octet-stream"),
    "text": answer(b"come back tomorrow\n", Content_Type="text/plain"),
    "pointer": answer(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    "one byte": answer(b"."),
    "empty": answer(b""),
    "no content": answer(status=204, Content_Length=None),
    "zip": answer(zipfile.ZipFile.__name__.encode()),
    "first half": answer(WHOLE[: len(WHOLE) // 2]),
    "all but a byte": answer(WHOLE[:-1]),
    "legacy without its end": answer(saved(_use_new_zipfile_serialization=False)[:-1]),
    "legacy without its values": answer(saved(_use_new_zipfile_serialization=False)[:-40]),
    "part": answer(WHOLE[:99], 206, Content_Range=f"bytes 0-98/{len(WHOLE)}"),
    "part of an unknown whole": answer(WHOLE[:99], 206, Content_Range="bytes 0-98/*"),
    "part that says nothing": answer(WHOLE, 206),
    "another status": answer(WHOLE, 203),
}


@pytest.mark.parametrize("name", POISON)
def test_answer_that_is_no_checkpoint_is_refused_and_no_hash_recorded(unknown, tmp_path, name):
    unknown.answers[:] = [POISON[name]]
    with pytest.raises(ValueError, match="a.pth is missing"):
        fetch("a")
    assert cached(tmp_path) == []
    unknown.answers[:] = ["whole"]
    assert fetch("a").read_bytes() == WHOLE
    assert (tmp_path / "cache" / "a.pth.sha256").read_text() == sha256_of(tmp_path / "cache" / "a.pth")


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_an_encoding_that_is_none_is_taken(unknown, encoding):
    unknown.answers[:] = [answer(WHOLE, Content_Encoding=encoding)]
    assert fetch("a").read_bytes() == WHOLE


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".tar", ".npz", ".safetensors", ".zip", ".save", ".dat"])
def test_every_kind_of_file_is_opened_before_its_hash_is_recorded(unknown, monkeypatch, tmp_path, suffix):
    entry = WEIGHTS["a"]._replace(file=f"a{suffix}")
    monkeypatch.setitem(WEIGHTS, "a", entry)
    for body in (b"{}", b"come back tomorrow", gzip.compress(b"x"), CONTENT):
        unknown.answers[:] = [answer(body)]
        with pytest.raises(ValueError, match=f"a{suffix} is missing"):
            fetch("a")
        assert cached(tmp_path) == []
    if suffix == ".zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("json/00000.json", "[]")
        right = file.getvalue()
    elif suffix == ".save":
        right = b"\x80\x03]q\x00."
    elif suffix == ".dat":
        right = WHOLE  # nothing says how to open one: it is taken for tensors
    else:
        right = write_state(tmp_path / f"right{suffix}").read_bytes()
    unknown.answers[:] = [answer(right)]
    assert fetch("a").read_bytes() == right


def test_what_an_earlier_version_recorded_is_mended(unknown, tmp_path):
    poison = gzip.compress(WHOLE)
    path = tmp_path / "cache" / "a.pth"
    path.parent.mkdir()
    path.write_bytes(poison)
    path.with_name("a.pth.sha256").write_text(sha256_of(path))
    unknown.answers[:] = ["whole"]
    assert fetch("a").read_bytes() == WHOLE and cached(tmp_path) == ["a.pth", "a.pth.broken", "a.pth.sha256"]
    assert path.with_name("a.pth.sha256").read_text() == sha256_of(path)


def test_file_put_there_by_hand_is_opened_before_its_hash_is_recorded(monkeypatch, tmp_path):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), "", None, "ours"))
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    (tmp_path / "a.pth").write_bytes(gzip.compress(WHOLE))
    with pytest.raises(ValueError, match="a.pth: expected tensors"):
        locate("a")
    assert cached(tmp_path) == []


@pytest.mark.parametrize("note", ["", "0" * 64, "no hash at all", f"{sha256_of(__file__)}  b.pth"])
def test_record_of_another_file_is_believed_and_said(monkeypatch, tmp_path, note):
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), "", None, "ours"))
    (tmp_path / "cache").mkdir()
    write_state(tmp_path / "cache" / "a.pth")
    (tmp_path / "cache" / "a.pth.sha256").write_text(note)
    with pytest.raises(ValueError, match="SHA-256 recorded at first use .delete .*a.pth.sha256 if the change is meant"):
        fetch("a")


def test_hash_in_capital_letters_is_the_same(server, monkeypatch):
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(sha256=WEIGHTS["a"].sha256.upper()))
    server.answers[:] = ["whole"]
    assert fetch("a").read_bytes() == CONTENT


@posix
def test_file_that_is_changed_behind_its_size_and_time_is_hashed_again(server, tmp_path):
    server.answers[:] = ["whole"]
    path = fetch("a")
    times = path.stat()
    path.write_bytes(bytes(len(CONTENT)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert locate("a") is None
    other = tmp_path / "other"
    other.write_bytes(CONTENT)
    os.replace(other, path)
    assert locate("a") == path


# ---- too much, too slow, too often


@pytest.mark.parametrize("length", ["", "Content-Length: 3100000000\r\n"])
def test_no_more_than_the_known_size_is_taken(server, tmp_path, length):
    head = f"HTTP/1.1 200 OK\r\n{length}\r\n".encode()
    server.answers[:] = [lambda handler: endless(handler, head)]
    with pytest.raises(ValueError, match="expected at most 10240 bytes, got more"):
        fetch("a")
    assert cached(tmp_path) == [] and server.sent < 20_000_000  # what fits into the buffers of the system


@pytest.mark.parametrize("length", [3_100_000_000, 20_001, None])
def test_no_more_than_the_stated_size_is_taken_where_none_is_known(unknown, monkeypatch, tmp_path, length):
    monkeypatch.setitem(WEIGHTS, "a", WEIGHTS["a"]._replace(most=20_000))
    line = f"Content-Length: {length}\r\n" if length else ""
    unknown.answers[:] = [lambda handler: endless(handler, f"HTTP/1.1 200 OK\r\n{line}\r\n".encode())]
    with pytest.raises(
        ValueError, match=f"expected at most 20000 bytes, got {f'an answer of {length}' if length else 'more'}"
    ):
        fetch("a")
    assert cached(tmp_path) == [] and unknown.sent < 20_000_000


def test_rest_of_a_file_is_no_more_than_the_rest(server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.pth.part").write_bytes(CONTENT[:1234])
    head = b"HTTP/1.1 206 OK\r\nContent-Range: bytes 1234-10239/10240\r\n\r\n"
    server.answers[:] = [lambda handler: endless(handler, head)]
    with pytest.raises(ValueError, match="expected at most 10240 bytes, got more"):
        fetch("a")
    assert cached(tmp_path) == []


def test_every_address_has_a_stated_size():
    for name, entry in WEIGHTS.items():
        assert not entry.urls or (entry.bytes or entry.most) <= 1 << 30, name
        assert entry.bytes or entry.most > 0
    assert WEIGHTS["dists"].most == 1 << 20


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10240\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"",
    ],
    ids=["body", "body of a length", "length of a chunk", "header", "status"],
)
def test_server_that_sends_a_byte_now_and_then_is_left_in_time(server, monkeypatch, head):
    monkeypatch.setattr(downloads, "SILENCE", 1)
    server.answers[:] = [lambda handler: endless(handler, head, pause=0.05, piece=b"0")]
    start = time.perf_counter()
    with pytest.raises(ValueError, match="given up after 1 tries and at most 1 s"):
        fetch("a")
    assert 0.9 < time.perf_counter() - start < 2.5 and len(server.asked) == 1


def test_server_that_cuts_every_answer_is_asked_so_many_times(server, tmp_path):
    def ten(handler):
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        range_ = {"Content_Range": f"bytes {start}-10239/10240"} if start else {}
        answer(CONTENT[start : start + 10], 206 if start else 200, Content_Length=10240 - start, **range_)(handler)

    server.answers[:] = [ten]
    with pytest.raises(ValueError, match="given up after 16 tries"):
        fetch("a")
    assert len(server.asked) == 16 and (tmp_path / "cache" / "a.pth.part").read_bytes() == CONTENT[:160]
    with pytest.raises(ValueError):
        fetch("a")
    assert server.ranges[16] == "bytes=160-"  # the next call goes on


# ---- lies about ranges, other addresses


@pytest.mark.parametrize(
    "given",
    [
        "bytes 0-10239/10240",
        "bytes 1233-10239/10240",
        "bytes 1234-10239/99999",
        "1234-10239/10240",
        "bytes 1234-/*",
        None,
    ],
)
def test_range_that_is_not_the_one_asked_for_is_refused(server, tmp_path, given):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.pth.part").write_bytes(CONTENT[:1234])
    server.answers[:] = [answer(CONTENT[1234:], 206, Content_Range=given)]
    with pytest.raises(ValueError, match="expected the bytes from 1234 on|expected a file of 10240 bytes"):
        fetch("a")
    assert (tmp_path / "cache" / "a.pth.part").read_bytes() == CONTENT[:1234] and locate("a") is None


def test_part_of_another_version_is_thrown_away(server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.pth.part").write_bytes(CONTENT[1:5000])
    server.answers[:] = ["range whole"]
    assert fetch("a").read_bytes() == CONTENT and server.ranges == ["bytes=4999-", None]


@pytest.mark.parametrize("to", ["file:///etc/hostname", "ftp://127.0.0.1/a.pth", "data:,x", "gopher://127.0.0.1/"])
def test_answer_that_leads_to_another_kind_of_address_is_refused(unknown, tmp_path, to):
    unknown.answers[:] = [answer(status=302, Location=to)]
    with pytest.raises(ValueError, match="a.pth is missing.*(leads to|not allowed)"):
        fetch("a")
    assert cached(tmp_path) == []


def test_answer_may_lead_on_but_not_from_https_to_http(server):
    there = WEIGHTS["a"].urls[0].replace("a.pth", "b.pth")
    server.answers[:] = [answer(status=302, Location=there), "whole"]
    assert fetch("a").read_bytes() == CONTENT and server.asked == ["/a.pth", "/b.pth"]
    redirects = downloads._Redirects()
    for first, second, right in (("https", "https", True), ("http", "https", True), ("https", "http", False)):
        request = urllib.request.Request(f"{first}://a.org/x")
        arguments = request, io.BytesIO(), 302, "", {}, f"{second}://b.org/y"
        if right:
            assert redirects.redirect_request(*arguments).full_url == "https://b.org/y"
        else:
            with pytest.raises(ValueError, match="leads to http://b.org/y"):
                redirects.redirect_request(*arguments)


def test_answer_that_leads_in_a_circle_ends(server):
    server.answers[:] = [answer(status=302, Location=WEIGHTS["a"].urls[0])]
    with pytest.raises(ValueError, match="a.pth is missing"):
        fetch("a")
    assert len(server.asked) <= 2 * 11


# ---- links in the cache


@posix
@pytest.mark.parametrize("file", ["a.pth.lock", "a.pth.part", "a.pth.sha256", "a.pth.broken", "a.pth"])
@pytest.mark.parametrize("kind", ["symbolic", "hard", "dangling", "pipe", "device"])
def test_link_in_the_cache_is_not_followed(unknown, monkeypatch, tmp_path, file, kind):
    """Also where a hash is known, so that a cut download would be resumed."""
    folder, victim = tmp_path / "cache", tmp_path / "victim"
    folder.mkdir()
    for known in (False, True):
        victim.write_text("of somebody else")
        path = folder / file
        links = {"symbolic": victim, "dangling": tmp_path / "new", "device": "/dev/zero"}
        if kind == "hard":
            path.hardlink_to(victim)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(links[kind])
        if known:
            entry = WEIGHTS["a"]._replace(sha256=sha256_of(write_state(tmp_path / "a.pth")), bytes=None)
            monkeypatch.setattr(unknown, "content", (tmp_path / "a.pth").read_bytes())
            monkeypatch.setitem(WEIGHTS, "a", entry)
        unknown.answers[:] = ["range whole"]
        if file == "a.pth.lock":
            with pytest.raises(ValueError, match="expected an ordinary file with one name, found a link or no file"):
                fetch("a")
        elif (file, kind, known) in {("a.pth.sha256", "symbolic", False), ("a.pth.sha256", "hard", False)}:
            with pytest.raises(ValueError, match="recorded at first use"):
                fetch("a")
        else:
            assert fetch("a").read_bytes() == unknown.content
        assert victim.read_text() == "of somebody else" and not (tmp_path / "new").exists()
        for each in folder.iterdir():
            each.unlink()


@posix
def test_folder_where_the_file_should_be_is_said_before_anything_is_asked(server, tmp_path):
    (tmp_path / "cache" / "a.pth").mkdir(parents=True)
    with pytest.raises(ValueError, match="a folder where the file should be"):
        fetch("a")
    assert server.asked == []


@posix
def test_next_call_goes_on_after_a_process_is_killed(server, tmp_path):
    script = f"""
from helpers.weights import store
store.WEIGHTS["a"] = store.Entry("a.pth", {WEIGHTS["a"].urls!r}, {WEIGHTS["a"].sha256!r}, {len(CONTENT)}, "ours")
store.fetch("a", patience=10)
"""

    def half(handler):
        answer(CONTENT[:5000], Content_Length=len(CONTENT))(handler)
        handler.wfile.flush()
        time.sleep(30)

    server.answers[:] = [half, "range whole"]
    child = subprocess.Popen([sys.executable, "-c", script], cwd=store.EMBEDDED.parents[1])
    part = tmp_path / "cache" / "a.pth.part"
    for _ in range(1200):
        if server.asked:
            break
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGKILL)
    child.wait()
    held = part.stat().st_size if part.exists() else 0
    assert fetch("a").read_bytes() == CONTENT and cached(tmp_path) == ["a.pth"]
    assert server.ranges == [None, f"bytes={held}-" if held else None]
