"""Device, randomness, and the record of a run."""

import contextlib
import functools
import hashlib
import numbers
import os
import platform
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from helpers import __version__

with warnings.catch_warnings():  # a notebook without ipywidgets draws its bar as text: no reason to warn the reader
    warnings.filterwarnings("ignore", "IProgress not found")
    from tqdm.auto import tqdm  # noqa: F401


class Stopped(SystemExit):
    """A signal asked this process to end; what a reader's code raises by `sys.exit` is another thing."""

    def __init__(self, number: int, message: str = ""):
        super().__init__(message or f"stopped by {signal.Signals(number).name}; run again to go on")
        self.number = number

    def end(self) -> SystemExit:
        """Say why, and return what ends Python with the code that shells give to the signal, 128 and its number."""
        with contextlib.suppress(OSError):  # of a terminal that is gone; Python says nothing beside a number
            sys.stderr.write(f"{self}\n")
        ended = SystemExit(str(self))
        ended.code = 128 + self.number
        return ended


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """SIGTERM, the warning before a walltime ends, and SIGHUP, of a terminal that closes, raise `Stopped` here."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return

    def stop(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    numbers = [number for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)) if number]
    before = {each: signal.getsignal(each) for each in numbers}
    before = {each: handler for each, handler in before.items() if handler != signal.SIG_IGN}  # nohup asks for that
    try:
        for each in before:
            signal.signal(each, stop)
        yield
    except Stopped as stopped:
        raise stopped.end() from None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler or signal.SIG_DFL)


WORKER = "IDA_RD_WORKER"  # in the environment of a worker of `runs.local`: its number, from 0


def pick_device(name: str = "auto") -> torch.device:
    """The device to compute on; on CUDA, TF32 is switched off, so that samples agree with a CPU's to float noise.

    Args:
        name: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps". The workers of `runs.local` spread
            over the visible GPUs: "auto" and "cuda" are another one for each, as far as there are any.

    Raises:
        ValueError: the named device does not exist here; there is no silent fall to the CPU.
    """
    if name in ("auto", "cuda") and (worker := os.environ.get(WORKER)) and torch.cuda.device_count() > 1:
        name = f"cuda:{int(worker) % torch.cuda.device_count()}"
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"expected device 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use 'cpu'")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {name!r}: MPS is not available here; use 'cpu'")
    return device


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute in the precision of the tensors on `device`, whatever the caller has switched on.

    Autocast is off, and float32 is multiplied and convolved as float32, not as TF32 (10 bits of mantissa) or bfloat16;
    afterwards all is as it was.
    """
    cuda, cudnn, mkldnn = torch.backends.cuda.matmul, torch.backends.cudnn, torch.backends.mkldnn
    parts = (cuda, *(getattr(of, name, None) for of in (cudnn, mkldnn) for name in ("conv", "rnn", "matmul")))
    newer = [(part, part.fp32_precision) for part in parts if hasattr(part, "fp32_precision")]  # from torch 2.9 on
    matmul, tf32 = None, None
    with contextlib.suppress(RuntimeError):  # set under its newer name, the older cannot be read
        matmul = torch.get_float32_matmul_precision()
    with contextlib.suppress(RuntimeError):
        tf32 = cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = False
    for part, _ in newer:
        part.fp32_precision = "ieee"
    known = torch.amp.is_autocast_available(device.type)
    try:
        with torch.autocast(device.type, enabled=False) if known else contextlib.nullcontext():
            yield
    finally:
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        if tf32 is not None:
            cudnn.allow_tf32 = tf32
        for part, before in newer:
            part.fp32_precision = before


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Compute without gradients and as if the caller had set nothing.

    That is: floats are float32 by default, on the CPU; no autocast, no inference mode, whose tensors no search can use.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for kind in filter(torch.amp.is_autocast_available, ("cpu", "cuda", "mps")):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.no_grad())
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, the rule for rows: sums split among threads round otherwise, in the sixth digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on_cpu(function: Callable) -> Callable:
    """Let a user's downscaler compute on the CPU, and put what it returns where the images are.

    Args:
        function: called with images first; its attribute `device`, if it is True, asks for the images where they are.
    """
    if getattr(function, "device", False) is True:
        return function

    @functools.wraps(function)
    def call(images: torch.Tensor, *args, **options) -> object:
        with full_precision(torch.device("cpu")):
            out = function(images.cpu(), *args, **options)
        return out.to(images.device) if isinstance(out, torch.Tensor) and out.device.type == "cpu" else out

    call.device = True
    return call


def is_whole(value: object, least: int = 1) -> bool:
    """Whether a value is an integer of at least `least`; those of NumPy are integers, a bool is none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= least


def check_seed(seed: int) -> int:
    """Return `seed` as an int if it is an integer from 0 to 2**63 - 1 (0 is a seed like any other).

    Raises:
        ValueError: anything else, a bool included.
    """
    if not is_whole(seed, 0) or seed >= 2**63:
        raise ValueError(f"expected a seed from 0 to 2**63 - 1, got {seed!r}")
    return int(seed)


def as_generators(generators: torch.Generator | Sequence[torch.Generator]) -> list[torch.Generator]:
    """One generator, or several, as a list of at least one; ValueError: anything else."""
    found = [generators] if isinstance(generators, torch.Generator) else generators
    if not isinstance(found, Sequence) or not found or not all(isinstance(each, torch.Generator) for each in found):
        raise ValueError(
            "generators: expected one torch.Generator for each draw, such as helpers.runtime.seeded(0, 'lake', 0), "
            f"got {generators!r}"
        )
    return list(found)


def seeded(*key: int | str) -> torch.Generator:
    """A CPU generator that depends on `key` alone, so a draw never depends on batch, order or device.

    All 624 words of its Mersenne Twister are SHAKE-256 of the key: `manual_seed` would take 32 bits, of which two
    among 1e5 draws are likely to share all. `initial_seed()` is another 63 bits, for what takes an integer.

    Args:
        key: integers and names that identify one draw, for example (seed, image, sample).

    Raises:
        ValueError: empty key, or a part that is neither int nor str.
        RuntimeError: this torch keeps the state of a generator in another form.
    """
    if not key or any(not isinstance(part, str | numbers.Integral) or isinstance(part, bool) for part in key):
        raise ValueError(f"expected a key of integers and names, got {key!r}")
    plain = tuple(str(part) if isinstance(part, str) else int(part) for part in key)  # no np.str_, no IntEnum
    code = ascii(plain).encode()  # one text a key, on every version of Python
    words = np.frombuffer(hashlib.shake_256(code).digest(4 * _WORDS), "<u4")
    state = _fresh_state().copy()
    state[0] = int.from_bytes(hashlib.blake2b(code, digest_size=8).digest(), "little") >> 1
    state[_FIRST : _FIRST + _WORDS] = words
    generator = torch.Generator()
    generator.set_state(torch.from_numpy(state.view(np.uint8)))
    return generator


_FIRST, _WORDS = 3, 624  # in a state seen as uint64: the seed, two counters, then a word of 32 bits each


@cache
def _fresh_state() -> np.ndarray:
    """State of a CPU generator that has drawn nothing; its words must stand where NumPy's for the same seed say."""
    state = torch.Generator().manual_seed(1).get_state().numpy()
    fits = state.size % 8 == 0 and state.size >= 8 * (_FIRST + _WORDS)
    state = state.view(np.uint64) if fits else state
    if not fits or not np.array_equal(state[_FIRST : _FIRST + _WORDS], np.random.RandomState(1).get_state()[1]):
        raise RuntimeError(
            f"torch {torch.__version__}: expected a CPU generator whose state holds the {_WORDS} words of MT19937 from "
            f"byte {8 * _FIRST} on, got another form of {state.nbytes} bytes; draws would not be those of the rows"
        )
    return state


def record(device: torch.device | str = "cpu") -> dict[str, str]:
    """Versions, device and source revision: what a reader needs to repeat a run."""
    device = torch.device(device)
    names = ("torch", "torchvision", "lpips", "piq", "numpy", "scipy", "scikit-image", "pillow")
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        revision = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "not a git checkout"
    return {
        "helpers": __version__,
        "revision": revision,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": str(torch.get_num_threads()),
    }
