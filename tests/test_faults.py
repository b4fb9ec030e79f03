"""Runs that are killed, starved, stopped or broken (F01-F19): what is left, and how a second run goes on."""

import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from helpers import files, results, upscalers
from helpers.runs import cell, cluster, driver
from tests.fakes import CONTEXT, experiment, fakes_fixture, published, register, run, workers, write_images  # noqa: F401

if sys.platform != "win32":
    import resource

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def drive(one, rows_dir, folder, n_workers, limit):
    """A whole run; how it ended stands in a text file beside the rows."""
    os.setpgrp()
    tempfile.tempdir = folder  # a driver that is killed leaves its scratch folder
    register(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background may have inherited "ignore"
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        with workers(n_workers) as client:
            run(one, rows_dir, client)
    except BaseException as error:
        Path(f"{rows_dir}.txt").write_text(f"{type(error).__name__}: {error}")
        raise


def started(one, rows_dir, n_workers=0, limit=None):
    """A run in a process of its own, to be killed."""
    process = CONTEXT.Process(target=drive, args=(one, rows_dir, os.environ["FAKES"], n_workers, limit))
    process.start()
    return process


def wait_for(condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def lives(process):
    """Whether it can still run; one that waits to be buried cannot."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def n_lines(rows_dir):
    path = Path(rows_dir) / "local.csv"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def traces(fakes, kind):
    return len(list(fakes.glob(f"{kind} *")))


# ---- the driver


def test_f01_killed_three_times_and_resumed_gives_the_bytes_of_an_unbroken_run(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 24), upscaler="fake_slow")
    unbroken = run(one, tmp_path / "unbroken")
    before = 0
    for _ in range(3):
        process = started(one, tmp_path / "rows")
        wait_for(lambda before=before: n_lines(tmp_path / "rows") > before)
        time.sleep(random.random() / 4)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        before = n_lines(tmp_path / "rows")
        assert 1 < before < 1 + len(unbroken)  # some, not all
    with pytest.warns(UserWarning, match=r"process \d+ on .* was killed; the rows it finished are kept"):
        run(one, tmp_path / "rows")
    assert published(tmp_path / "rows") == published(tmp_path / "unbroken")
    assert n_lines(tmp_path / "rows") == 1 + len(unbroken)  # nothing was computed twice


@pytest.mark.parametrize(
    "number, name, code, n_workers",
    [("SIGINT", "KeyboardInterrupt", 1, 0), ("SIGINT", "KeyboardInterrupt", 1, 2), ("SIGTERM", "SystemExit", 143, 0),
     ("SIGTERM", "SystemExit", 143, 2), ("SIGHUP", "SystemExit", 129, 0), ("SIGHUP", "SystemExit", 129, 2)],
)  # fmt: skip
def test_f02_stopped_run_says_how_far_it_got(fakes, tmp_path, number, name, code, n_workers):
    one = experiment(write_images(tmp_path / "images", 24), upscaler="fake_slow")
    process = started(one, tmp_path / "rows", n_workers)
    wait_for(lambda: n_lines(tmp_path / "rows") > 1)
    send = os.killpg if number == "SIGINT" else os.kill  # a terminal and Jupyter interrupt the workers too
    send(process.pid, getattr(signal, number))
    process.join(120)
    assert process.exitcode == code
    done = (n_lines(tmp_path / "rows") - 1) // 6
    said = (tmp_path / "rows.txt").read_text()
    assert 0 < done < 24 and said == f"{name}: {done} of 24 images done; run again to go on"
    assert (tmp_path / "rows" / "local.lock").read_text() == ""  # it signed off
    assert len(run(one, tmp_path / "rows")) == 24 * 6


def test_a_script_that_is_hung_up_says_so_once_and_ends_with_the_code_of_the_signal(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 24)
    script = (
        f"from tests.fakes import *\nregister({str(fakes)!r})\none = experiment({folder!r}, upscaler='fake_slow')\n"
    )
    script += f"driver.run(one, {str(tmp_path / 'rows')!r}, progress=False)"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: n_lines(tmp_path / "rows") > 1)
    process.send_signal(signal.SIGHUP)
    said = process.communicate(timeout=60)[1]
    assert re.fullmatch(r"\d+ of 24 images done; run again to go on\n", said) and process.returncode == 129


def drive_under_nohup(one, rows_dir, folder):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    drive(one, rows_dir, folder, 0, None)


def test_closing_the_terminal_of_a_run_under_nohup_does_not_stop_it(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 12), upscaler="fake_slow")
    process = CONTEXT.Process(target=drive_under_nohup, args=(one, tmp_path / "rows", os.environ["FAKES"]))
    process.start()
    wait_for(lambda: n_lines(tmp_path / "rows") > 1)
    os.kill(process.pid, signal.SIGHUP)
    process.join(120)
    assert process.exitcode == 0 and len(results.read(tmp_path / "rows")) == 12 * 6


def test_f02_interrupt_of_an_image_leaves_the_finished_ones(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 6, black=[3]), upscaler="fake_interrupted")
    with pytest.raises(KeyboardInterrupt, match="3 of 6 images done; run again"):
        run(one, tmp_path / "rows")
    assert len(results.read(tmp_path / "rows")) == 18


def test_no_worker_outlives_its_killed_driver_and_a_second_run_goes_on(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 24), upscaler="fake_slow")
    process = started(one, tmp_path / "rows", 2)
    wait_for(lambda: n_lines(tmp_path / "rows") > 1)
    others = psutil.Process(process.pid).children(recursive=True)
    assert len(others) >= 2
    process.kill()
    process.join()
    wait_for(lambda: not any(map(lives, others)), 30)
    with pytest.warns(UserWarning, match=r"process \d+ on .* was killed; the rows it finished are kept"):
        run(one, tmp_path / "rows")
    run(one, tmp_path / "unbroken")
    assert published(tmp_path / "rows") == published(tmp_path / "unbroken")
    assert n_lines(tmp_path / "rows") == 1 + 24 * 6  # nothing was computed twice


def test_f05_full_disk_names_folder_and_bytes_and_a_later_run_goes_on(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 12))
    run(one, tmp_path / "unbroken")
    process = started(one, tmp_path / "rows", limit=5000)
    process.join(120)
    assert process.exitcode == 1
    said = (tmp_path / "rows.txt").read_text()
    wrote = rf"could not write \d+ bytes to {tmp_path / 'rows'}: File too large"
    assert re.match(rf"OSError: \[Errno 27\] {wrote}", said)
    data = (tmp_path / "rows" / "local.csv").read_bytes()
    assert 0 < len(data) <= 5000 and data.endswith(b"\n")
    assert (data.count(b"\n") - 1) % 6 == 0  # whole images
    run(one, tmp_path / "rows")
    assert published(tmp_path / "rows") == published(tmp_path / "unbroken")


def publish_small(rows_dir, path):
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
    results.publish(rows_dir, path)


def test_f05_full_disk_leaves_the_older_published_file(fakes, tmp_path):
    run(experiment(write_images(tmp_path / "images", 6)), tmp_path / "rows")
    path = tmp_path / "out" / "rows.csv.gz"
    path.parent.mkdir()
    path.write_bytes(b"older")
    process = CONTEXT.Process(target=publish_small, args=(tmp_path / "rows", path))
    process.start()
    process.join(120)
    assert process.exitcode == 1 and path.read_bytes() == b"older"
    assert [file.name for file in path.parent.iterdir()] == ["rows.csv.gz"]  # no half file is left


# ---- files that go while a run writes


def empty(rows_dir):
    os.truncate(rows_dir / "local.csv", 0)


def exchange(rows_dir):
    shutil.copy(rows_dir / "local.csv", rows_dir / "other")
    (rows_dir / "other").replace(rows_dir / "local.csv")


CHANGES = {
    "folder removed": shutil.rmtree,
    "folder moved": lambda rows_dir: rows_dir.rename(rows_dir.with_name("moved")),
    "folder another": lambda rows_dir: (rows_dir.rename(rows_dir.with_name("moved")), rows_dir.mkdir()),
    "file removed": lambda rows_dir: (rows_dir / "local.csv").unlink(),
    "file replaced": exchange,
    "file emptied": empty,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_rows_that_go_while_a_run_writes_stop_it_and_the_next_one_has_them_all(fakes, tmp_path, change):
    one = experiment(write_images(tmp_path / "images", 24), upscaler="fake_slow")
    process = started(one, tmp_path / "rows")
    wait_for(lambda: n_lines(tmp_path / "rows") > 1)
    change(tmp_path / "rows")
    process.join(120)
    assert process.exitcode == 1
    said = (tmp_path / "rows.txt").read_text()
    assert said.startswith(
        f"ValueError: {tmp_path / 'rows' / 'local.csv'}: expected the file as this run left it, found"
    )
    run(one, tmp_path / "rows")
    run(one, tmp_path / "unbroken")
    assert published(tmp_path / "rows") == published(tmp_path / "unbroken")


def test_published_rows_that_go_while_a_run_computes_are_missed(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 6), upscaler="fake_slow")
    run(replace(one, images=one.images[:3]), tmp_path / "before")
    (tmp_path / "rows").mkdir()
    results.publish(tmp_path / "before", tmp_path / "rows" / "before.csv.gz")
    process = started(one, tmp_path / "rows")
    wait_for(lambda: n_lines(tmp_path / "rows") > 1)
    (tmp_path / "rows" / "before.csv.gz").unlink()
    process.join(120)
    assert process.exitcode == 1
    assert "expected 18 rows from before and 18 new ones, found 18" in (tmp_path / "rows.txt").read_text()


# ---- two writers


def hold(rows_dir):
    with results.writer(rows_dir):
        time.sleep(60)


def test_f06_second_writer_is_told_who_writes_and_a_dead_one_blocks_nobody(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 2))
    holder = CONTEXT.Process(target=hold, args=(tmp_path / "rows",))
    holder.start()
    lock = tmp_path / "rows" / "local.lock"
    wait_for(lambda: lock.exists() and lock.stat().st_size)
    with pytest.raises(ValueError, match=rf"process {holder.pid} on .* since \d{{4}}-.* is writing here"):
        run(one, tmp_path / "rows")
    assert len(results.read(tmp_path / "rows")) == 0  # reading needs no lock
    holder.kill()
    holder.join()
    with pytest.warns(UserWarning, match=f"process {holder.pid} on .* was killed"):
        assert len(run(one, tmp_path / "rows")) == 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(replace(one, seed=1), tmp_path / "rows")  # said once


def test_f06_lock_of_another_machine_is_explained(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 2))
    (tmp_path / "rows").mkdir()
    lock = tmp_path / "rows" / "local.lock"
    lock.write_text("process 7 on node99 since 2024-06-17 09:00:00")
    with pytest.raises(ValueError, match=f"process 7 on node99 .* has not signed off.*delete {lock}"):
        run(one, tmp_path / "rows")
    lock.unlink()
    assert len(run(one, tmp_path / "rows")) == 12


def test_lock_that_is_removed_is_taken_anew(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 24), upscaler="fake_slow")
    process = started(one, tmp_path / "rows")
    wait_for(lambda: n_lines(tmp_path / "rows") > 1)
    lock, before = tmp_path / "rows" / "local.lock", n_lines(tmp_path / "rows")
    lock.unlink()
    wait_for(lambda: lock.exists() and lock.stat().st_size)
    with pytest.raises(ValueError, match=rf"process {process.pid} on .* is writing here"):
        run(one, tmp_path / "rows")
    process.join(120)
    assert process.exitcode == 0 and n_lines(tmp_path / "rows") == 1 + 24 * 6 > before
    assert lock.read_text() == ""


def test_of_two_writers_after_the_lock_was_removed_the_first_stops_and_no_row_is_lost(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 24), upscaler="fake_slow")
    process = started(one, tmp_path / "rows")
    wait_for(lambda: n_lines(tmp_path / "rows") > 1)
    (tmp_path / "rows" / "local.lock").unlink()
    second = started(one, tmp_path / "rows")
    for each in (process, second):
        each.join(120)
    assert sorted([process.exitcode, second.exitcode]) == [0, 1]  # whichever came first to the new file
    said = (tmp_path / "rows.txt").read_text()
    assert re.search(r"process \d+ on .* is writing here|expected the file as this run left it", said)
    run(one, tmp_path / "rows")
    run(one, tmp_path / "unbroken")
    assert published(tmp_path / "rows") == published(tmp_path / "unbroken")


def test_lock_that_is_removed_while_a_writer_comes_is_looked_for_again(tmp_path, monkeypatch):
    """The file goes between opening and locking it: a lock on it would keep nobody out."""
    path, locked, plain = tmp_path / "local.lock", [], files.lock

    def late(file, *, wait):
        if not locked:
            path.unlink()
        locked.append(file)
        return plain(file, wait=wait)

    monkeypatch.setattr(files, "lock", late)
    with results.writer(tmp_path) as write:
        assert len(locked) == 2 and files.is_at(locked[1], path)
        write([])


# ---- the workers


@pytest.fixture
def client(fakes):
    """Workers of this test alone, which it may kill."""
    with workers() as client:
        yield client


def test_f09_killed_worker_costs_no_row(fakes, tmp_path, client):
    one = experiment(write_images(tmp_path / "images", 12, black=[5]), upscaler="fake_dies_once")
    rows = run([one, replace(one, seed=1)], tmp_path / "rows", client)
    assert len(rows) == 2 * 12 * 6 and (fakes / "died").exists()
    run([one, replace(one, seed=1)], tmp_path / "serial")  # nothing dies twice
    assert published(tmp_path / "rows") == published(tmp_path / "serial")
    assert n_lines(tmp_path / "rows") == 1 + len(rows)
    assert results.aside(tmp_path / "rows").empty


def test_f10_image_that_kills_its_worker_four_times_is_set_aside(fakes, tmp_path, client):
    folder = write_images(tmp_path / "images", 5, black=[2])
    one = experiment(folder, upscaler="fake_poison", downscalers=["box"])
    rows = run(one, tmp_path / "rows", client)
    assert sorted(set(rows.image)) == ["00", "01", "03", "04"] and len(rows) == 12
    assert traces(fakes, "death") == 4
    (aside,) = results.aside(tmp_path / "rows").to_dict("records")
    assert aside["image"] == "02" and aside["reason"] == "RuntimeError: killed its worker 4 times"
    assert len(run(one, tmp_path / "rows")) == 12  # not tried again unasked
    words = "all 12 rows are there; set aside, 1 of 5 images: 02 (RuntimeError: killed its worker 4 times)"
    assert driver.plan(one, tmp_path / "rows").summary == words
    write_images(tmp_path / "others", 5)
    (tmp_path / "others" / "02.png").replace(Path(folder) / "02.png")
    assert len(run(one, tmp_path / "rows")) == 15 and results.aside(tmp_path / "rows").empty


def test_f11_stopped_worker_is_replaced_after_the_deadline(fakes, tmp_path, client):
    one = experiment(write_images(tmp_path / "images", 8, black=[4]), upscaler="fake_hangs_once")
    start = time.monotonic()
    rows = run(one, tmp_path / "rows", client, deadline=1.5)
    assert len(rows) == 48 and time.monotonic() - start > 1.5
    assert n_lines(tmp_path / "rows") == 1 + 48 and results.aside(tmp_path / "rows").empty
    assert not psutil.pid_exists(int((fakes / "pid").read_text()))  # the stopped one is gone too


def test_f11_image_that_always_hangs_is_set_aside_and_its_worker_replaced(fakes, tmp_path, client, monkeypatch):
    one = experiment(write_images(tmp_path / "images", 3, black=[1]), upscaler="fake_hangs")
    monkeypatch.setattr(cluster, "HANGS", 2)
    rows = run(one, tmp_path / "rows", client, deadline=0.6)
    assert sorted(set(rows.image)) == ["00", "02"]
    assert set(results.aside(tmp_path / "rows").reason) == {"RuntimeError: hung its worker 2 times"}
    hung = [int(path.name.split()[1]) for path in fakes.glob("hung *")]
    assert len(hung) == 2 and not any(map(psutil.pid_exists, hung))


# ---- errors of one image


def test_f12_error_of_input_or_output_gets_a_second_try(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 4, black=[1]), upscaler="fake_flaky")
    assert len(run(one, tmp_path / "rows")) == 24 and (fakes / "failed").exists()
    assert results.aside(tmp_path / "rows").empty


def test_f12_refused_image_is_tried_once_and_set_aside_until_asked_for(fakes, tmp_path, monkeypatch):
    one = experiment(write_images(tmp_path / "images", 4, black=[1]), upscaler="fake_refuses")
    rows = run(one, tmp_path / "rows")
    assert sorted(set(rows.image)) == ["00", "02", "03"] and traces(fakes, "try") == 2  # for each downscaler
    assert results.aside(tmp_path / "rows").reason.tolist() == ["ValueError: nothing to see"] * 2
    run(one, tmp_path / "rows")
    assert traces(fakes, "try") == 2
    with pytest.raises(ValueError, match="nothing to see"):
        run(one, tmp_path / "rows", retry_aside=True, strict=True)
    plan = driver.plan(one, tmp_path / "rows", retry_aside=True)
    assert plan.images == ["01"] and plan.summary.startswith("6 of 24 rows missing")
    healed = upscalers.UPSCALERS["fake"](scale=4, heat=1.0, device="cpu")
    monkeypatch.setitem(upscalers.UPSCALERS, "fake_refuses", upscalers.Upscaler(lambda **how: healed))
    cell._loaded.cache_clear()
    assert len(run(one, tmp_path / "rows", retry_aside=True)) == 24
    assert results.aside(tmp_path / "rows").empty
    other = experiment(tmp_path / "images", upscaler="fake")
    assert len(run(other, tmp_path / "rows")) == 24


def test_an_image_set_aside_for_one_upscaler_is_not_lost_for_another(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 4, black=[1])
    assert len(run(experiment(folder, upscaler="fake_refuses"), tmp_path / "rows")) == 18
    assert len(run(experiment(folder, upscaler="fake"), tmp_path / "rows")) == 24


@pytest.mark.parametrize("n, named", [(8, "00, 01, 02"), (1, "00")])
def test_three_failures_in_a_row_or_nothing_but_failures_stop_the_run(fakes, tmp_path, n, named):
    one = experiment(write_images(tmp_path / "images", n), upscaler="fake_broken")
    with pytest.raises(RuntimeError, match=f"{named} all failed, the last: always"):
        run(one, tmp_path / "rows")
    assert results.aside(tmp_path / "rows").empty  # the images are not to blame
    with pytest.raises(RuntimeError, match="all failed"):
        driver.plan(one, tmp_path / "rows")


def test_plan_passes_over_a_bad_first_image(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 5, black=[0]), upscaler="fake_refuses")
    plan = driver.plan(one, tmp_path / "rows")
    assert plan.images == ["02", "03", "04"] and plan.summary.endswith("1 of 5 images: 00 (ValueError: nothing to see)")


# ---- memory


def test_f15_out_of_memory_halves_the_batch_and_changes_no_row(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 3)
    with pytest.warns(UserWarning) as said:
        run(experiment(folder, upscaler="fake_hungry", n_samples=5), tmp_path / "rows")
    words = "(16x16, x4): out of memory, went on with 2 samples at a time"
    assert [str(each.message) for each in said] == [f"{image} {words}" for image in ("00", "01", "02")]
    rows = results.read(tmp_path / "rows")
    same = run(experiment(folder, n_samples=5), tmp_path / "other")
    assert rows.value.tolist() == same.value.tolist() and len(rows) == 30


def test_f15_image_too_large_even_alone_is_set_aside_with_its_size_after_a_second_try(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 4, black=[1]), upscaler="fake_starved")
    rows = run(one, tmp_path / "rows")
    assert sorted(set(rows.image)) == ["00", "02", "03"]
    (reason,) = set(results.aside(tmp_path / "rows").reason)
    assert reason.startswith("MemoryError: 01 (16x16, x4), one sample at a time: ") and "8 bytes" in reason
    assert traces(fakes, "try") == 2 * 2 * 2  # batches of 3 (of at most 8) and 1, twice, for each downscaler


def test_worker_with_another_version_is_refused(fakes, tmp_path, monkeypatch):
    one = experiment(write_images(tmp_path / "images", 3))
    facts = cell.facts(one)
    monkeypatch.setattr(cell, "facts", lambda *asked: facts | {"version": "0.0.0"})
    with pytest.raises(RuntimeError, match=r"00: expected version '0.0.0' as of the first worker, got .*mixed="):
        run(one, tmp_path / "rows")
    assert len(results.read(tmp_path / "rows")) == 0


def test_workers_of_several_kinds_stop_a_run_or_are_recorded(fakes, tmp_path, monkeypatch):
    """A function of the reader's answers its test image in other floats on a machine of another kind."""
    one, made_by, calls = experiment(write_images(tmp_path / "images", 3)), cell._made_by, itertools.count()
    monkeypatch.setattr(cell, "_made_by", lambda one: made_by(one) | {"weights": f"kind {next(calls) % 2}"})
    said = r"00: expected weights 'kind 0' as of the first worker, got 'kind 1' .*test image.*mixed=\('weights',\)"
    with pytest.raises(RuntimeError, match=said):
        run(one, tmp_path / "rows")
    rows = run(one, tmp_path / "rows", mixed=("weights",))
    assert rows.groupby("image").weights.agg(set).tolist() == [{"kind 1"}, {"kind 0"}, {"kind 1"}]
    with pytest.raises(ValueError, match="column 'weights' holds 'kind 1' .12 rows., 'kind 0' .6 rows.*mixed"):
        results.read(tmp_path / "rows")
    monkeypatch.setattr(cell, "score", None)  # nothing is left to compute
    again = run(one, tmp_path / "rows", mixed=("weights",))
    assert again.checksum.tolist() == rows.checksum.tolist()
