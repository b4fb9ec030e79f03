"""Full disks: whatever is written is whole or was never there, and the error says what to do."""

import shutil
import subprocess
import sys

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

from helpers import figures, images, notebook, weights
from helpers.training import loop
from tests.checkpoints import CONTENT, cached, empty_home, server  # noqa: F401
from tests.fakes import CONTEXT

if sys.platform != "win32":
    import resource

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
ROOM = 3000  # bytes that a file may have


def figure(folder):
    fig, axes = plt.subplots()
    axes.plot([1, 2])
    figures.save(fig, "plot", folder)


def picture(folder):
    images.write_rgb(torch.rand(1, 3, 64, 64), folder / "picture.png")


def weights_of_ours(folder):
    loop.export({"weight": torch.zeros(2000)}, folder / "network.safetensors")


def checkpoint(folder):
    loop.train(
        lambda iteration: torch.zeros(1), lambda done: ({}, 0.0), {"average": torch.nn.Linear(60, 60)},
        folder / "state.pt", iterations=1, saves=[1], progress=False,
    )  # fmt: skip


def executed(folder):
    cells = [nbformat.v4.new_code_cell(f"a = {'1' * 4000!r}")]
    path = folder.parent / "long.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))
    notebook.execute(path, str(folder / "long.ipynb"), {})


WRITERS = {
    "figure": (figure, ["plot.pdf", "plot.png"]),
    "picture": (picture, ["picture.png"]),
    "weights": (weights_of_ours, ["network.safetensors"]),
    "checkpoint": (checkpoint, []),
    "executed": (executed, ["long.ipynb"]),
}


def starve(write, folder):
    """Write where no file may be large; what was said stands beside the folder."""
    torch.manual_seed(0)
    try:
        if write is not executed:  # which has to write its source first
            resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))
        write(folder)
    except OSError as error:
        (folder.parent / "said.txt").write_text(str(error))


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk_leaves_what_was_there_and_says_what_to_do(tmp_path, name):
    write, older = WRITERS[name]
    folder = tmp_path / "out"
    folder.mkdir()
    for file in older:
        (folder / file).write_bytes(b"older")
    process = CONTEXT.Process(target=starve, args=(write, folder))
    process.start()
    process.join(200)
    assert process.exitcode == 0
    said = (tmp_path / "said.txt").read_text()
    assert (
        "could not write " in said and f" bytes to {folder}: File too large. What was there is kept: make room" in said
    )
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == dict.fromkeys(older, b"older")


TINY = """
import sys, torch
from pathlib import Path
from helpers.training import metric_data
folder = Path(sys.argv[1])
photographs = [torch.zeros(3, 80, 80, dtype=torch.uint8)]
try:
    metric_data.make_groups(photographs, 16, 16, 0, path=folder / "groups.npy")
except OSError as error:
    print(error, [file.name for file in folder.iterdir()])
"""


def test_full_disk_ends_no_process_that_maps_a_file(tmp_path):
    """On a disk of 64 kB, a real one: a mapped page without room there raises SIGBUS."""
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("needs leave to mount")
    command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$0" "$@"', sys.executable, "-c", TINY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    said = f"could not write 307328 bytes to {tmp_path}: No space left on device. What was there is kept: make room and"
    assert done.returncode == 0 and said in done.stdout and done.stdout.endswith(" []\n")


def test_full_disk_ends_a_download_at_once_and_names_the_folder(server, tmp_path):  # noqa: F811
    server.answers[:] = ["whole"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        with pytest.raises(ValueError) as error:
            weights.fetch("a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = f"could not write to {tmp_path / 'cache'}: File too large; make room there; IDA_RD_CACHE may name another"
    assert said in str(error.value) and len(server.asked) == 1
    assert weights.fetch("a").read_bytes() == CONTENT and cached(tmp_path) == ["a.pth"]
