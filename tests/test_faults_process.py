"""Downscalers of a reader that end their process, or never return, in runs without workers."""

import json
import os
import signal
import sys
import time
import warnings

import psutil
import pytest

from helpers import results
from helpers.runs import apart, driver
from tests.fakes import CONTEXT, experiment, fakes_fixture, published, register, run, workers, write_images  # noqa: F401

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

ENDS = {
    "sys.exit": "sys.exit(3)",
    "exit of argparse": "import argparse; argparse.ArgumentParser().parse_args(['--no-such-option'])",
    "its own": "raise Own('mine')",
    "os._exit": "os._exit(0)",
    "abort": "os.abort()",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "hang": "Path(os.environ['FAKES'], f'hangs {os.getpid()}').touch(); time.sleep(1000)",
}
SAID = {
    "sys.exit": "RuntimeError: downscaler '{}' raised SystemExit: 3",
    "exit of argparse": "RuntimeError: downscaler '{}' raised SystemExit: 2",
    "its own": "RuntimeError: downscaler '{}' raised Own: mine",
    "os._exit": "RuntimeError: killed its process (exit code 0)",
    "abort": "RuntimeError: killed its process (SIGABRT)",
    "segfault": "RuntimeError: killed its process (SIGSEGV)",
    "kill": "RuntimeError: killed its process (SIGKILL)",
    "hang": "RuntimeError: hung its process for 5 s",
}


def write_downscaler(folder, end, where="hr.max() == 0"):
    """A file that does `end` on black images, and averages blocks on the others."""
    lines = ["import ctypes, os, signal, sys, time", "from pathlib import Path", "import torch", ""]
    lines += ["class Own(BaseException):", "    pass", "", "def mine(hr, scale):", f"    if {where}:", f"        {end}"]
    lines += ["    print('a word')", "    return torch.nn.functional.avg_pool2d(hr, scale)", ""]
    (folder / "mine.py").write_text("\n".join(lines))
    return f"{folder / 'mine.py'}:mine"


def drive(one, rows_dir, fakes, plan, options):
    register(fakes)
    if plan:
        driver.plan(one, rows_dir)
    run(one, rows_dir, **options)


def ended(one, rows_dir, plan=False, interrupt=None, **options):
    """The exit code of a run in a process of its own; one that hangs is interrupted."""
    process = CONTEXT.Process(target=drive, args=(one, rows_dir, os.environ["FAKES"], plan, options))
    process.start()
    if interrupt:
        while process.is_alive() and not list(interrupt.glob(f"hangs {process.pid}")):
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.parametrize("end", ENDS)
def test_downscaler_that_ends_or_hangs_the_process_stops_no_rerun(fakes, tmp_path, end):
    folder = write_images(tmp_path / "images", 5, black=[2])
    spec = write_downscaler(tmp_path, ENDS[end])
    one, rows_dir = experiment(folder, downscalers=["box", ("mine", spec)]), tmp_path / "rows"
    first = ended(one, rows_dir, interrupt=fakes if end == "hang" else None)
    raises = end in ("sys.exit", "exit of argparse", "its own")
    dies = {"os._exit": 0, "abort": -signal.SIGABRT, "segfault": -signal.SIGSEGV, "kill": -signal.SIGKILL, "hang": 143}
    assert first == (0 if raises else dies[end])
    notes = [json.loads(note.read_text()) for note in rows_dir.glob("at_work.*")]
    assert notes == ([] if raises else [[spec, "02"]])
    if not raises:
        with pytest.warns(
            UserWarning, match="a run ended while downscaler '.*mine' computed image 02; it has a process"
        ):
            run(one, rows_dir, deadline=5 if end == "hang" else None)
    rows = results.read(rows_dir)
    assert len(rows) == 5 * 3 + 4 * 3 and set(rows[rows.downscaler == "mine"].image) == {"00", "01", "03", "04"}
    (line,) = results.aside(rows_dir).to_dict("records")
    assert (line["image"], line["downscaler"], line["reason"]) == ("02", "mine", SAID[end].format(spec))
    assert not list(rows_dir.glob("at_work.*"))
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*set aside, 1 of 5 images: 02 for mine")
        assert len(run(one, rows_dir)) == 27  # neither tried again nor asked for its LR image
    assert driver.plan(one, rows_dir).images == [] and time.monotonic() - start < 60
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text().replace("hr.max() == 0", "False"))
    assert len(run(one, rows_dir, retry_aside=True)) == 30 and results.aside(rows_dir).empty


def test_exit_of_a_readers_function_costs_no_worker(fakes, tmp_path):
    spec = write_downscaler(tmp_path, "sys.exit(3)")
    one = experiment(write_images(tmp_path / "images", 4, black=[1]), downscalers=[("mine", spec)])
    with workers() as client:
        before = set(client.run(os.getpid).values())
        assert len(run(one, tmp_path / "rows", client)) == 9
        assert set(client.run(os.getpid).values()) == before
    assert results.aside(tmp_path / "rows").reason.tolist() == [SAID["sys.exit"].format(spec)]


def test_code_that_changes_is_tried_again(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 4, black=[1])
    spec = write_downscaler(tmp_path, "os.abort()")
    assert ended(experiment(folder, downscalers=[spec]), tmp_path / "rows") == -signal.SIGABRT
    assert ended(experiment(folder, downscalers=[spec]), tmp_path / "rows") == 0
    assert len(results.aside(tmp_path / "rows")) == 1
    write_downscaler(tmp_path, "pass")
    assert len(run(experiment(folder, downscalers=[spec]), tmp_path / "rows")) == 12  # the name of its rows is another


def test_downscaler_that_dies_on_each_image_is_not_tried_on_all(fakes, tmp_path):
    spec = write_downscaler(tmp_path, "os.abort()", "hr.shape[2] == 16")
    one = experiment(write_images(tmp_path / "images", 8), downscalers=["box", ("mine", spec)])
    assert ended(one, tmp_path / "rows", plan=True) == -signal.SIGABRT
    with pytest.warns(UserWarning, match="'mine': not tried after .*: RuntimeError: killed its process"):
        rows = run(one, tmp_path / "rows")
    assert len(rows) == 24 and len(results.aside(tmp_path / "rows")) == 8
    assert driver.plan(one, tmp_path / "rows").images == []
    with pytest.raises(RuntimeError, match="all failed, the last: killed its process"):
        run(experiment(tmp_path / "images", downscalers=[("mine", spec)], seed=1), tmp_path / "rows")


def test_file_that_ends_the_process_when_it_is_loaded_says_so(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 2)
    (tmp_path / "mine.py").write_text("import sys\nsys.exit('usage')\n")
    one = experiment(folder, downscalers=[f"{tmp_path / 'mine.py'}:mine"])
    with pytest.raises(RuntimeError, match="mine.py:mine' raised SystemExit: usage"):
        run(one, tmp_path / "rows")
    (tmp_path / "mine.py").write_text("import os\nos.abort()\n")
    with pytest.raises(apart.Lost, match=r"killed its process \(SIGABRT\)"):
        run(one, tmp_path / "rows", deadline=60)


def test_deadline_keeps_a_readers_function_apart_from_the_start_with_equal_rows(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 4, black=[1])
    spec = write_downscaler(tmp_path, "raise ValueError('dark')")
    one = experiment(folder, downscalers=[spec])
    started = set(psutil.Process().children())
    run(one, tmp_path / "apart", deadline=60)
    assert set(psutil.Process().children()) == started and not list((tmp_path / "apart").glob("at_work.*"))
    run(one, tmp_path / "here")
    assert published(tmp_path / "apart") == published(tmp_path / "here")
    for name in ("apart", "here"):
        assert results.aside(tmp_path / name).reason.tolist() == ["ValueError: dark"]
    write_downscaler(tmp_path, "os.abort()")
    assert len(run(one := experiment(folder, downscalers=[spec]), tmp_path / "rows", deadline=60)) == 9
    assert results.aside(tmp_path / "rows").reason.tolist() == ["RuntimeError: killed its process (SIGABRT)"]
    assert len(run(one, tmp_path / "rows")) == 9


def test_ctrl_c_at_a_readers_function_costs_no_row(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 4, black=[1])
    spec = write_downscaler(tmp_path, "raise KeyboardInterrupt")
    one = experiment(folder, downscalers=[("mine", spec)])
    with pytest.raises(KeyboardInterrupt, match="1 of 4 images done"):
        run(one, tmp_path / "rows")
    write_downscaler(tmp_path, "pass")
    with pytest.warns(UserWarning, match="computed image 01; it has a process of its own"):
        assert len(run(one, tmp_path / "rows")) == 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(one, tmp_path / "rows")
    assert len(results.read(tmp_path / "rows")) == 12


def test_the_other_process_ends_with_the_one_that_started_it(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 2, black=[0])
    end = "Path(os.environ['FAKES'], f'hangs {os.getppid()} {os.getpid()}').touch(); time.sleep(1000)"
    spec = write_downscaler(tmp_path, end)
    options = {"deadline": 600}
    one = experiment(folder, downscalers=[spec])
    process = CONTEXT.Process(target=drive, args=(one, tmp_path / "rows", os.environ["FAKES"], False, options))
    process.start()
    until = time.monotonic() + 120
    while not (found := list(fakes.glob(f"hangs {process.pid} *"))) and time.monotonic() < until:
        time.sleep(0.05)
    other = int(found[0].name.split()[-1])
    assert psutil.pid_exists(other)
    process.kill()
    process.join()
    while psutil.pid_exists(other) and psutil.Process(other).status() != "zombie" and time.monotonic() < until:
        time.sleep(0.1)
    assert not psutil.pid_exists(other) or psutil.Process(other).status() == "zombie"
