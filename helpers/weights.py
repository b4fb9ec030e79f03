"""Checkpoints: where each is found, that it is the right file, and how it is opened without running code."""

import hashlib
import os
import socket
import threading
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

CHUNK = 1 << 20
EMBEDDED = Path(__file__).parent.parent / "data" / "weights"


class Entry(NamedTuple):
    """One file: `sha256` may be a prefix (then only that much is checked) or "" (first use is recorded)."""

    file: str
    urls: tuple[str, ...]
    sha256: str
    bytes: int | None
    licence: str
    note: str = ""


TORCHVISION = "torchvision BSD-3-Clause; ImageNet-trained, no separate licence stated for the weights"
SRFLOW = "CC BY-NC-SA 4.0 (non-commercial, Huawei Technologies 2020)"
SRFLOW_NOTE = (
    "the official address (data.vision.ee.ethz.ch/alugmayr/SRFlow/pretrained_models.zip) has answered 404 "
    "since 2024 (andreas128/SRFlow issue 64) and no hash is known, so this file has to be put there by hand; "
    "its hash is recorded at first use, so only later changes are noticed"
)
UTEXAS = "free to use, copy, modify and distribute with its notice (University of Texas at Austin 2011)"
CONTRIQUE = "no licence stated (pavancm/CONTRIQUE)"
CONTRIQUE_REVISION = "f73233cd89a66bd4a0cc145fa911c8813a09a42b"
# torchvision's file names end in the first 8 hex digits of the SHA-256; several public projects pin all 64.
WEIGHTS = {
    "alexnet": Entry(
        "alexnet-owt-7be5be79.pth",
        ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        244_408_911,
        TORCHVISION,
        "trunk of LPIPS (its convolutions alone, alexnet_features_fp32.npz, will do as well)",
    ),
    "alexnet_features": Entry(
        "alexnet_features_fp32.npz",
        (),
        "ca6339de1d4a1de17ac058eebb8dd3fb388fd15051f9bd36119143bba644b8fc",
        None,
        TORCHVISION,
        "the five convolutions of the file above, float32: all that LPIPS needs of it",
    ),
    "vgg16": Entry(
        "vgg16-397923af.pth",
        ("https://download.pytorch.org/models/vgg16-397923af.pth",),
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553_433_881,
        TORCHVISION,
        "trunk of DISTS",
    ),
    "dists": Entry(
        "dists_weights.pt",
        ("https://github.com/photosynthesis-team/piq/releases/download/v0.4.1/dists_weights.pt",),
        "",
        None,
        "MIT (Ding et al. 2020), as released by piq (Apache-2.0)",
        "channel weights of DISTS; no hash was published, so the one of the first use is recorded",
    ),
    **{
        name: Entry(f"{name}.pth", (), "", None, SRFLOW, SRFLOW_NOTE)
        for name in ("SRFlow_DF2K_4X", "SRFlow_DF2K_8X", "SRFlow_CelebA_8X")
    },
    "niqe_official": Entry(
        "niqe_pris_params.npz",
        ("https://raw.githubusercontent.com/XPixelGroup/BasicSR/master/basicsr/metrics/niqe_pris_params.npz",),
        "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
        11_850,
        UTEXAS,
        "pristine model of NIQE; the same file is inside the package basicsr 1.4.2 on PyPI",
    ),
    "brisque": Entry(
        "brisque_svr.npz",
        (),
        "",
        None,
        UTEXAS,
        "regressor of BRISQUE, converted from allmodel and allrange of the MATLAB release (utlive/BRISQUE) as "
        "helpers.iqa.read_brisque says; its hash depends on who converts and is recorded at first use",
    ),
    "brisque_opencv": Entry(
        "brisque_live_svr.npz",
        (),
        "a6b33b78946fbafe4840b7bc077a408ccce15eecafc0e67492f9675646e3bf0e",
        99_630,
        "Apache-2.0 (OpenCV contrib)",
        "another regressor for BRISQUE's features, converted from brisque_model_live.yml and "
        "brisque_range_live.yml of opencv_contrib, modules/quality/samples",
    ),
    "maniqa": Entry(
        "ckpt_koniq10k.pt",
        (
            "https://github.com/IIGROUP/MANIQA/releases/download/Koniq10k/ckpt_koniq10k.pt",
            "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/ckpt_koniq10k.pt",
        ),
        "",
        None,
        "terms of IIGROUP/MANIQA; pyiqa: PolyForm Noncommercial",
        "MANIQA trained on KonIQ-10k, its ViT included; needs the package pyiqa (extra iqa)",
    ),
    "contrique": Entry(
        "CONTRIQUE_checkpoint25.tar",
        # the address has another name for the file; what follows # is never sent
        ("https://utexas.box.com/shared/static/rhpa8nkcfzpvdguo97n2d5dbn4qb03z8.tar#CONTRIQUE_checkpoint25.tar",),
        "",
        None,
        CONTRIQUE,
        "ResNet-50 of CONTRIQUE; the score also needs one of the two regressors below",
    ),
    **{
        f"contrique_{data.lower()}": Entry(
            f"{data}.save",
            (f"https://raw.githubusercontent.com/pavancm/CONTRIQUE/{CONTRIQUE_REVISION}/models/{data}.save",),
            "",
            None,
            CONTRIQUE,
            f"ridge regression of CONTRIQUE's features to the opinion scores of {data}; a pickle, of which only "
            "arrays are rebuilt",
        )
        for data in ("CLIVE", "Koniq")
    },
    "ffhq_features": Entry(
        "ffhq-features-dataset-9c4c7ef5132d.zip",
        # as above: the address has another name for the file
        (
            "https://github.com/DCGM/ffhq-features-dataset/archive/9c4c7ef5132d.zip#ffhq-features-dataset-9c4c7ef5132d.zip",
        ),
        "",
        None,
        "CC BY-NC-SA 4.0",
        "ages and genders of FFHQ by Microsoft's Face API, one JSON file an image; no hash was published",
    ),
}


def cache_folder() -> Path:
    """Where downloads are kept: `IDA_RD_CACHE`, else ~/.cache/ida-rd."""
    return Path(os.environ.get("IDA_RD_CACHE") or Path.home() / ".cache" / "ida-rd")


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, 64 hex digits; hashed once a process for each size and time of change."""
    stat = os.stat(path)
    return _sha256(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: str, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def locate(name: str) -> Path | None:
    """The verified file of `name` on this machine, or None; never downloads.

    Looked for in the folder `IDA_RD_WEIGHTS` (put there by hand, never written to), then in `cache_folder()`,
    then in the cache of torch.hub.

    Raises:
        ValueError: unknown name, or the file in `IDA_RD_WEIGHTS` is not the right one. A wrong file in a
            cache counts as missing: `fetch` replaces it.
    """
    entry = _entry(name)
    folder = os.environ.get("IDA_RD_WEIGHTS")
    if folder and (path := Path(folder) / entry.file).is_file():
        if problem := _problem(path, entry):
            raise ValueError(problem)
        return path
    paths = (cache_folder() / entry.file, _hub_folder() / entry.file)
    return next((path for path in paths if path.is_file() and _problem(path, entry) is None), None)


def fetch(name: str, *, offline: bool = False, patience: float = 0.9) -> Path:
    """Path of the verified file of `name`; downloads it into `cache_folder()` when it is nowhere here.

    A wrong file in the cache is renamed to *.broken and fetched again. A download goes to a temporary name,
    is checked, and only then takes the final name, so a cut never leaves a file that looks whole.

    Args:
        name: a key of `WEIGHTS`.
        offline: never use the network; so does a non-empty `IDA_RD_OFFLINE`.
        patience: seconds within which a server has to accept the connection, so that a machine without
            network says so at once.

    Returns:
        Path to a file whose hash was compared in this process.

    Raises:
        ValueError: names the file, where it may be put, its address, and what went wrong.
    """
    if (path := locate(name)) is not None:
        return path
    entry, problems = _entry(name), []
    target = cache_folder() / entry.file
    if target.is_file() and entry.urls:
        problems.append(f"{_problem(target, entry)} (renamed to {target.name}.broken)")
        os.replace(target, target.with_name(target.name + ".broken"))
    elif target.is_file():  # put there by hand and nowhere to be had again: not touched
        problems.append(str(_problem(target, entry)))
    if offline or os.environ.get("IDA_RD_OFFLINE"):
        problems.append("the network is switched off")
    else:
        for url in entry.urls * 2:  # once more from the start after a cut
            try:
                _download(url, target, entry, patience)
                return target
            except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
                problems.append(f"{url}: {error}")
                if isinstance(error, TimeoutError):
                    break
    raise ValueError("; ".join([missing(name), *dict.fromkeys(problems)]))


def missing(name: str) -> str:
    """One line for the reader: which file is missing, where it may be put, where it comes from."""
    entry = _entry(name)
    places = f"the folder named by IDA_RD_WEIGHTS, {cache_folder()}, or {_hub_folder()}"
    places = places.replace(str(Path.home()), "~")  # committed notebooks print this
    source = " or ".join(entry.urls) or "no address"
    known = f"SHA-256 {entry.sha256}" if entry.sha256 else "no published hash"
    return f"{entry.file} is missing: put it into {places} (source: {source}; {known}); {entry.note}"


def load_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint, on the CPU wherever they were saved; code in a pickle is never run.

    Args:
        path: .safetensors, .npz (without pickles), or .pth / .pt of tensors alone.

    Returns:
        name -> tensor, in the order of the file.

    Raises:
        ValueError: missing, empty, a web page, truncated, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: expected a checkpoint, found no such file")
    if problem := _not_a_checkpoint(path):
        raise ValueError(f"{path}: {problem}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # only here: .pth users need no safetensors

            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each library and version raises its own; the cause stays attached
        what = "truncated, no checkpoint, or holding code, which is refused"
        raise ValueError(f"{path}: expected tensors, got a file {what} ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a flat dict of tensors, got {type(state).__name__} with other values")
    return dict(state)


def load_into(network: nn.Module, state: dict[str, Tensor], source: str | Path) -> nn.Module:
    """Copy `state` into `network`, every name and shape matching; returns `network` in eval mode, frozen.

    Raises:
        ValueError: another architecture; says how many names are missing, unexpected or of another shape.
    """
    own = network.state_dict()
    missing_names, unexpected = [k for k in own if k not in state], [k for k in state if k not in own]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing_names or unexpected or shapes:
        found = [
            f"{len(names)} {what} ({names[0]}, ...)"
            for what, names in (
                ("missing", missing_names),
                ("unexpected", unexpected),
                ("of another shape", shapes),
            )
            if names
        ]
        raise ValueError(
            f"{source}: expected the {len(own)} tensors of {type(network).__name__}, got {', '.join(found)}"
        )
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def embedded(name: str) -> Path:
    """A checkpoint that comes with this repository, `data/weights/<name>.safetensors`, hash compared.

    Raises:
        ValueError: no such file; or it is not the one that `data/weights/SHA256SUMS` lists (written with
            `sha256sum *.safetensors > SHA256SUMS` in that folder).
    """
    path = EMBEDDED / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in EMBEDDED.glob("*.safetensors"))) or "none"
        raise ValueError(f"no embedded checkpoint {name!r}: expected one of {known} in {EMBEDDED}")
    sums = EMBEDDED / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.is_file() else []
    listed = {file.lstrip("*"): digest for digest, file in (line.split(maxsplit=1) for line in lines if line.strip())}
    if listed.get(path.name) != sha256_of(path):
        raise ValueError(f"{path}: expected SHA-256 {listed.get(path.name, 'in ' + str(sums))}, got {sha256_of(path)}")
    return path


def _entry(name: str) -> Entry:
    if name not in WEIGHTS:
        raise ValueError(f"expected a checkpoint of {', '.join(WEIGHTS)}, got {name!r}")
    return WEIGHTS[name]


def _hub_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _problem(path: Path, entry: Entry) -> str | None:
    """Why `path` is not the file of `entry`; records the hash where none is known yet."""
    if problem := _not_a_checkpoint(path):
        return f"{path}: {problem}"
    expected, source = entry.sha256, "expected"
    found = sha256_of(path)
    if not expected:
        note = cache_folder() / f"{entry.file}.sha256"
        if not note.is_file():
            try:
                part = _part(note)
                part.write_text(found)
                os.replace(part, note)
            except OSError as error:
                raise ValueError(f"{note}: expected a writable cache to record the hash of {path}") from error
        expected = note.read_text().strip()
        source = f"recorded at first use (delete {note} if the change is meant)"
    if not found.startswith(expected):
        size = f", {path.stat().st_size} of {entry.bytes} bytes" if entry.bytes else ""
        return f"{path}: SHA-256 {source} {expected}, found {found}{size}"
    return None


def _not_a_checkpoint(path: Path) -> str | None:
    with open(path, "rb") as stream:
        head = stream.read(512).lstrip().lower()
    if path.stat().st_size == 0:
        return "expected a checkpoint, got an empty file (zero bytes)"
    return "expected a checkpoint, got a web page: a failed download?" if head.startswith(b"<") else None


def _part(path: Path) -> Path:
    """A name beside `path` that no other process or thread writes to; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")


def _download(url: str, target: Path, entry: Entry, patience: float) -> None:
    """Stream `url` to a temporary file beside `target`, check it, and put it in place."""
    _knock(url, patience)
    part = _part(target)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, open(part, "wb") as stream:
            length = int(answer.headers.get("Content-Length") or 0)
            with tqdm(total=length or None, desc=entry.file, unit="B", unit_scale=True, leave=False) as bar:
                while chunk := answer.read(CHUNK):
                    bar.update(stream.write(chunk))
        if length and part.stat().st_size != length:
            raise ValueError(f"cut after {part.stat().st_size} of {length} bytes")
        if problem := _problem(part, entry):
            raise ValueError(problem.replace(str(part), "the answer"))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _knock(url: str, patience: float) -> None:
    """Connect to the server of `url` (or the proxy) within `patience` seconds, name look-up included."""
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
