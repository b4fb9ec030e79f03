"""Upscalers that are easy to follow, or that fail; the images, experiments and workers of the tests of `runs`."""

import contextlib
import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path

import dask
import pytest
import torch
from distributed import WorkerPlugin
from PIL import Image

from helpers import results
from helpers.runs import Experiment, cell, driver, local
from helpers.runtime import seeded
from helpers.upscalers import registry

# Processes that start at once: forked from a server that has imported torch, not from the test's own process.
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["helpers.runs", "distributed"])


def noisy(lr, generators, heat=1.0):
    big = lr.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return torch.cat([big + 0.1 * heat * torch.randn(big.shape, generator=g) for g in generators])


def first_time(name):
    """True once per folder FAKES and name, in whatever process."""
    path = Path(os.environ["FAKES"], name)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def is_black(lr):
    return lr.max() == 0


def slow(lr, generators):
    time.sleep(0.03)
    return noisy(lr, generators)


def non_finite(lr, generators):
    sr = noisy(lr, generators)
    for sample, generator in zip(sr, generators, strict=True):
        if torch.rand(1, generator=generator) < 0.3:
            sample[0, 0, 0] = torch.nan
    return sr


def poison(lr, generators):
    """Kills its worker on a black image, if it can while a neighbour is at work in the same pool."""
    folder, end = Path(os.environ["FAKES"]), time.monotonic() + 0.5
    if is_black(lr):
        while not list(folder.glob("at work *")) and time.monotonic() < end:
            time.sleep(0.005)
        (folder / f"death {time.monotonic_ns()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    trace = folder / f"at work {time.monotonic_ns()}"
    trace.touch()
    time.sleep(0.4)
    trace.unlink()
    return noisy(lr, generators)


def dies_once(lr, generators):
    if is_black(lr) and first_time("died"):
        os.kill(os.getpid(), signal.SIGKILL)
    return slow(lr, generators)


def hangs_once(lr, generators):
    if is_black(lr) and first_time("hung"):
        Path(os.environ["FAKES"], "pid").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    return slow(lr, generators)


def hangs(lr, generators):
    if is_black(lr):
        Path(os.environ["FAKES"], f"hung {os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    return slow(lr, generators)


def hungry(lr, generators):
    if len(generators) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return noisy(lr, generators)


def starved(lr, generators):
    if is_black(lr):
        Path(os.environ["FAKES"], f"try {time.monotonic_ns()}").touch()
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
    return noisy(lr, generators)


def flaky(lr, generators):
    if is_black(lr) and first_time("failed"):
        raise OSError(5, "Input/output error")
    return noisy(lr, generators)


def refuses(lr, generators):
    if is_black(lr):
        Path(os.environ["FAKES"], f"try {time.monotonic_ns()}").touch()
        raise ValueError("nothing to see")
    return noisy(lr, generators)


def broken(lr, generators):
    raise ValueError("always")


def interrupted(lr, generators):
    if is_black(lr):
        raise KeyboardInterrupt
    return noisy(lr, generators)


FAKES = [slow, non_finite, poison, dies_once, hangs_once, hangs, hungry, starved]
FAKES += [flaky, refuses, broken, interrupted]
FACTORIES = {f"fake_{f.__name__}": lambda *, scale, heat, device, f=f: f for f in FAKES}
FACTORIES["fake"] = lambda *, scale, heat, device: lambda lr, generators: noisy(lr, generators, heat)
FACTORIES = {name: registry.Upscaler(make) for name, make in FACTORIES.items()}


def register(folder):
    """Make this process know the fakes, and where they leave traces."""
    os.environ["FAKES"] = str(folder)
    registry.UPSCALERS.update(FACTORIES)


@pytest.fixture(name="fakes")
def fakes_fixture(monkeypatch, tmp_path):
    """The fakes are there, with an empty folder to leave traces in."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    monkeypatch.setenv("FAKES", str(folder))
    for name, factory in FACTORIES.items():
        monkeypatch.setitem(registry.UPSCALERS, name, factory)
    cell._loaded.cache_clear()
    yield folder
    cell._loaded.cache_clear()


def write_images(folder, n, black=(), side=16):
    """n noise images 00, 01, ... of 16 x 16 pixels, some of them black instead."""
    folder.mkdir()
    for i in range(n):
        levels = torch.randint(256, (side, side, 3), generator=seeded("picture", i), dtype=torch.uint8)
        Image.fromarray((levels * (i not in black)).numpy()).save(folder / f"{i:02d}.png")
    return str(folder)


def experiment(folder, **other):
    settings = {"downscalers": ["box", "nearest"], "scale": 4, "upscaler": "fake", "n_samples": 3}
    settings |= {"distortion": "mse", "device": "cpu", "dataset": str(folder)}
    settings |= {"images": sorted(path.stem for path in Path(folder).glob("*.png"))}
    return Experiment(**settings | other)


def published(rows_dir):
    """The bytes that `publish` makes of a folder."""
    path = Path(rows_dir).with_suffix(".csv.gz")
    results.publish(rows_dir, path)
    return path.read_bytes()


def run(*args, **options):
    return driver.run(*args, progress=False, **options)


@pytest.fixture(name="images")
def images_fixture(tmp_path):
    return write_images(tmp_path / "images", 4)


class Fakes(WorkerPlugin):
    """Makes every worker know the fakes, one that Dask started anew too."""

    def __init__(self, folder):
        self.folder = str(folder)

    def setup(self, worker):
        register(self.folder)


@contextlib.contextmanager
def workers(n_workers=2, folder=None):
    """`runs.local` with workers that start at once and know the fakes."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}), local(n_workers) as client:
        if client:
            client.register_plugin(Fakes(folder or os.environ["FAKES"]))
        yield client
