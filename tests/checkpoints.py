"""What the tests of weights share: an empty cache, a server with bad manners, checkpoints and a malicious one."""

import hashlib
import http.server
import io
import os
import re
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from helpers.weights import WEIGHTS, Entry

CONTENT = bytes(range(256)) * 40  # 10,240 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def empty_home(monkeypatch, tmp_path):
    """A cache that is new, and no folder of weights named by the environment."""
    monkeypatch.setenv("IDA_RD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("IDA_RD_WEIGHTS", "IDA_RD_SHARED_CACHE", "IDA_RD_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


PAGE = b"<!DOCTYPE html><html><head><title>Google Drive -\n Quota &amp; more</title></head></html>"


@pytest.fixture
def server(monkeypatch, empty_home):
    """A server on this machine: `answers` are given one after the other, the last one for ever.

    An answer is a word, see below, or a function of the handler that answers by itself.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        answers, asked, ranges, encodings = [], [], [], []
        content = CONTENT
        wait = None  # called in the middle of the answer "slow"

        def do_GET(self):
            self.asked.append(self.path)
            self.ranges.append(self.headers.get("Range"))
            self.encodings.append(self.headers.get("Accept-Encoding"))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if callable(answer):
                return answer(self)
            if answer == "404":
                return self.send_error(404)
            if answer == "drop":
                return self.connection.close()
            body = {"flip": self.content[:99] + b"?" + self.content[100:], "html": b"<html>quota</html>", "page": PAGE}
            body, start = body.get(answer, self.content), 0
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


def answer(body=b"", status=200, **headers):
    """An answer of the `server` with these headers; Content-Length is the true one unless given, None for none."""

    def respond(handler):
        handler.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            if value is not None:
                handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob("*"))


STATE = {"b.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1, 2])}


def write_state(path, state=STATE):
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in state.items()})
    else:
        torch.save(state, path)
    return path


def saved(state=STATE, **options):
    """The bytes of `torch.save`."""
    file = io.BytesIO()
    torch.save(state, file, **options)
    return file.getvalue()


WHOLE = saved({"x": torch.arange(2500.0)})  # for entries without a hash: a file that can be opened


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
