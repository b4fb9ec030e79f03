"""Download one file from one address: wait for slow servers, resume after a cut, refuse a web page."""

import contextlib
import html
import http.client
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import is_zipfile

from helpers import files
from helpers.runtime import tqdm

CHUNK = 1 << 20
SILENCE = 60  # seconds without a byte after which a transfer counts as cut
SLOWEST = 1 << 16  # bytes a second; a file has `SILENCE` and the time it takes at this speed, all tries together


class Unwritten(OSError):
    """The disk has no room: another address will not help."""


class Cut(ValueError):
    """The transfer ended early; what arrived is kept."""


def download(
    url: str, part: Path, *, resume: bool, size: int | None, most: int, until: float, patience: float, label: str
) -> None:
    """Download `url` into `part`, or only the rest where `part` already holds the beginning.

    A server without ranges sends the whole file, which replaces the beginning. The bytes are not verified here: resume
    only where a hash is compared afterwards. A link or anything but an ordinary file at `part` is replaced by a file.

    Args:
        url: http or https; an answer may lead to another address, but not from https to http.
        part: file to write; nobody else may write to it meanwhile (see `files.alone`).
        resume: ask only for the bytes that `part` lacks.
        size: bytes of the whole file, where known; trusted more than what the server announces, and no more are taken.
        most: bytes of the largest file to be taken where `size` is not known.
        until: value of `time.monotonic()` at which the connection is closed.
        patience: seconds within which the server has to accept the connection.
        label: of the progress bar.

    Raises:
        TimeoutError: the server did not accept the connection in time.
        Cut: fewer bytes than `size`, or than announced; also at `until`.
        ValueError: a web page or too many bytes, which are removed; packed; another range than the one asked for.
        Unwritten: the disk is full; what is there is kept.
        OSError: any other failure of the network or the disk.
    """
    knock(url, patience)
    start = part.lstat().st_size if resume and os.path.lexists(part) and files.is_own(part.lstat()) else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with _closing_at(until) as opener:
        try:
            answer = opener.open(urllib.request.Request(url, headers=headers), timeout=SILENCE)
        except urllib.error.HTTPError as error:
            if error.code == 416 and start:
                part.unlink()
                raise ValueError(f"has no byte after {start}: what was here is thrown away") from error
            raise
        except http.client.HTTPException as error:
            raise OSError(f"expected an answer in HTTP, got {type(error).__name__} {error}") from error
        with answer:
            start, total = _announced(answer, start, size)
            if not size and total and total > most:
                raise ValueError(f"expected at most {most} bytes, got an answer of {total}")
            try:
                broken = _copy(answer, part, start, total, size or most, label)
            except OSError as error:  # of the disk
                if error.errno not in files.FULL:
                    raise
                said = f"could not write to {part.parent}: {error.strerror}; make room there"
                raise Unwritten(error.errno, said) from error
    got = part.stat().st_size
    if got > (size or most):
        part.unlink()
        raise ValueError(f"expected at most {size or most} bytes, got more")
    if problem := web_page(part):
        part.unlink()
        advice = "open the address in a browser and put the file itself there by hand, or try again another day"
        raise ValueError(f"expected a checkpoint, got {problem}; {advice}")
    if (total and got < total) or (broken and not total):
        late = f"slower than {SLOWEST} bytes a second" if time.monotonic() > until else broken
        raise Cut(f"cut after {got} of {total or 'an unknown number of'} bytes{f' ({late})' if late else ''}")


def _announced(answer: http.client.HTTPResponse, start: int, size: int | None) -> tuple[int, int | None]:
    """From which byte on the answer goes, and how many bytes the whole file has, where that is known.

    Raises:
        ValueError: no plain bytes, or not those from `start` on.
    """
    packed, given = answer.headers.get("Content-Encoding") or "identity", answer.headers.get("Content-Range")
    if packed.strip().lower() != "identity":
        raise ValueError(f"expected the bytes of the file, got them packed (Content-Encoding: {packed})")
    if answer.status == 200:
        return 0, size or answer.length or None
    found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", given or "") if answer.status == 206 else None
    if not found or int(found[1]) != start:
        raise ValueError(f"expected the bytes from {start} on, got {given} (status {answer.status})")
    total = None if found[3] == "*" else int(found[3])
    if size and total not in (None, size):
        raise ValueError(f"expected a file of {size} bytes, got a part of one of {total}")
    return start, size or total or int(found[2]) + 1


def _copy(answer, part: Path, start: int, total: int | None, most: int, label: str) -> Exception | None:
    """Write what arrives from byte `start` on, at most one byte too many; return the error that ended it, or None."""
    bar = tqdm(total=total, initial=start, desc=label, unit="B", unit_scale=True, leave=False)
    with files.open_own(part, new=not start) as stream, bar:
        stream.seek(start)
        while (room := most + 1 - stream.tell()) > 0:
            try:
                chunk = answer.read1(min(CHUNK, room))
            except (OSError, http.client.HTTPException) as error:  # not of the disk: those are raised
                return error
            if not chunk:
                return None
            bar.update(stream.write(chunk))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to http and https, never from https to http."""

    def redirect_request(self, request, answer, code, message, headers, url):
        if urlsplit(url).scheme not in {"https", urlsplit(request.full_url).scheme}:
            raise ValueError(f"expected an address of the same kind, got one that leads to {url}")
        return super().redirect_request(request, answer, code, message, headers, url)


@contextlib.contextmanager
def _closing_at(until: float) -> Iterator[urllib.request.OpenerDirector]:
    """Give an opener whose connections are shut down at `until`, even in the middle of a line that never ends."""
    sockets = []

    class Noted:
        def do_open(self, make: Callable, *arguments, **options):
            def connection(*given, **more):
                made = make(*given, **more)
                connect = made.connect

                def noted() -> None:
                    connect()
                    if time.monotonic() > until:
                        raise TimeoutError(f"no answer in time from {made.host}")
                    sockets.append(made.sock)

                made.connect = noted
                return made

            return super().do_open(connection, *arguments, **options)

    class Http(Noted, urllib.request.HTTPHandler):
        pass

    class Https(Noted, urllib.request.HTTPSHandler):
        pass

    def shut() -> None:
        for each in sockets:
            with contextlib.suppress(OSError):  # closed already
                each.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(until - time.monotonic(), 0), shut)
    timer.daemon = True
    timer.start()
    try:
        yield urllib.request.build_opener(_Redirects, Http, Https)
    finally:
        timer.cancel()


def web_page(path: Path) -> str | None:
    """Describe a file that is a web page (a quota, a confirmation, a login) by its title; None for any other file."""
    with open(path, "rb") as stream:
        head = stream.read(1 << 16)
    # a whole word: a safetensors file begins with the length of its header, which may read " <"
    if not re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|!--)", head, re.I):
        return None
    found = re.search(rb"<title[^>]*>(.*?)</title>", head, re.S | re.I)
    title = " ".join(html.unescape(found[1].decode(errors="replace")).split()) if found else ""
    return "a web page: a failed download?" + (f" Its title: {title[:80]}" if title else "")


def not_a_checkpoint(path: Path) -> str | None:
    """Why a file cannot be a checkpoint: empty, a web page, or a zip archive cut short; None where it may be one."""
    if path.stat().st_size == 0:
        return "expected a checkpoint, got an empty file (zero bytes)"
    if page := web_page(path):
        return f"expected a checkpoint, got {page}"
    with open(path, "rb") as stream:
        packed = stream.read(4) == b"PK\3\4"
    return "truncated, no checkpoint: a zip archive without its end" if packed and not is_zipfile(path) else None


def knock(url: str, patience: float) -> None:
    """Connect to the server of `url` (or the proxy) within `patience` seconds, name look-up included.

    Raises:
        TimeoutError: it took longer.
        OSError: refused, or no such name.
    """
    parts, proxies = urlsplit(url), urllib.request.getproxies()
    if parts.scheme in proxies and not urllib.request.proxy_bypass(parts.hostname or ""):
        proxy = proxies[parts.scheme]
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    failure: list[OSError | None] = [
        TimeoutError(f"{parts.hostname} did not answer within {patience:g} s; fetch(..., patience=30) waits longer")
    ]

    def connect() -> None:
        try:
            socket.create_connection((parts.hostname, port), timeout=patience).close()
            failure[0] = None
        except OSError as error:
            failure[0] = error

    thread = threading.Thread(target=connect, daemon=True)  # a look-up has no time limit of its own
    thread.start()
    thread.join(patience)
    if failure[0] is not None:
        raise failure[0]
