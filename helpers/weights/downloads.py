"""Download one file from one address: wait for slow servers, resume after a cut, refuse a web page."""

import html
import http.client
import re
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit
from zipfile import is_zipfile

from helpers.runtime import tqdm

CHUNK = 1 << 20
SILENCE = 60  # seconds without a byte after which a transfer counts as cut


class Cut(ValueError):
    """The transfer ended early; what arrived is kept."""


def download(url: str, part: Path, *, resume: bool, size: int | None, patience: float, label: str) -> None:
    """Download `url` into `part`, or only the rest where `part` already holds the beginning.

    A server without ranges sends the whole file, which replaces the beginning. The bytes are not verified here: resume
    only where a hash is compared afterwards.

    Args:
        url: http or https.
        part: file to write; nobody else may write to it meanwhile (see `files.alone`).
        resume: ask only for the bytes that `part` lacks.
        size: bytes of the whole file, where known; trusted more than what the server announces.
        patience: seconds within which the server has to accept the connection.
        label: of the progress bar.

    Raises:
        TimeoutError: the server did not accept the connection in time.
        Cut: fewer bytes than `size`, or than announced.
        ValueError: a web page, which is removed, or another range than the one asked for.
        OSError: any other failure of the network or the disk.
    """
    knock(url, patience)
    start = part.stat().st_size if resume and part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=SILENCE)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            part.unlink()
            raise ValueError(f"has no byte after {start}: what was here is thrown away") from error
        raise
    except http.client.HTTPException as error:
        raise OSError(f"expected an answer in HTTP, got {type(error).__name__} {error}") from error
    with answer:
        if getattr(answer, "status", None) != 206:
            start = 0
        elif not (answer.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            raise ValueError(f"expected the bytes from {start} on, got {answer.headers.get('Content-Range')}")
        announced = int(answer.headers.get("Content-Length") or 0)
        total = size or (start + announced if announced else None)
        broken = _copy(answer, part, start, total, label)
    if problem := web_page(part):
        part.unlink()
        advice = "open the address in a browser and put the file itself there by hand, or try again another day"
        raise ValueError(f"expected a checkpoint, got {problem}; {advice}")
    got = part.stat().st_size
    if (total and got < total) or (broken and not total):
        raise Cut(f"cut after {got} of {total or 'an unknown number of'} bytes{f' ({broken})' if broken else ''}")


def _copy(answer, part: Path, start: int, total: int | None, label: str) -> Exception | None:
    """Write what arrives from byte `start` on; return the error that ended it early, or None."""
    bar = tqdm(total=total, initial=start, desc=label, unit="B", unit_scale=True, leave=False)
    with open(part, "ab" if start else "wb") as stream, bar:
        while True:
            try:
                chunk = answer.read1(CHUNK)
            except (OSError, http.client.HTTPException) as error:  # not of the disk: those are raised
                return error
            if not chunk:
                return None
            bar.update(stream.write(chunk))


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
