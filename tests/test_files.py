"""Files: writes that are whole or never happen, locks that die with their holder, hashes, and what is kept in memory.

Where it matters the other side is a process that is killed, starved of space, or writes at the same time.
"""

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers import files

posix = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")


def start(code, *arguments):
    """A process that runs `code`; its arguments are in `sys.argv`, `files` is there, and `ready()` makes a line."""
    head = "import os, sys, time\nfrom helpers import files\ndef ready(): print('ready', flush=True)\n"
    run = [sys.executable, "-c", head + code, *map(str, arguments)]
    root = str(Path(files.__file__).parents[1])
    return subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- output folders


def test_b44_output_folder(tmp_path, monkeypatch):
    hr = tmp_path / "hr"
    hr.mkdir()
    assert files.check_output(tmp_path / "new" / "rows", hr).is_dir()
    assert names(tmp_path / "new" / "rows") == []  # the probe is gone
    for inside in (hr, hr / "rows", hr / ".." / "hr" / "rows"):
        with pytest.raises(ValueError, match="outside the input folder"):
            files.check_output(inside, hr)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="expected a folder to write into"):
        files.check_output(tmp_path / "file")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(ValueError, match="No space left"):
        files.check_output(tmp_path / "new")


def test_b44_read_only_folder(tmp_path):
    path = tmp_path / "locked"
    path.mkdir()
    path.chmod(0o500)
    if os.access(path, os.W_OK):  # root may write anywhere but here
        path = "/proc/ida-rd"
    with pytest.raises(ValueError, match="expected a folder to write into"):
        files.check_output(path)


# ---- whole or not at all


def test_a_block_that_raises_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    files.replace(path, b"older")
    with pytest.raises(RuntimeError), files.replacing(path) as part:
        assert part.parent == path.parent and part.suffix == ".csv" and part != path
        part.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"older" and names(path.parent) == ["rows.csv"]
    with pytest.raises(FileNotFoundError), files.replacing(path):  # nothing was written
        pass
    assert path.read_bytes() == b"older"


def test_a_name_of_full_length_can_be_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".png")
    files.replace(path, b"whole")
    assert path.read_bytes() == b"whole" and names(tmp_path) == [path.name]


@posix
def test_a_writer_that_is_killed_leaves_the_older_file(tmp_path):
    path = tmp_path / "rows.csv"
    files.replace(path, b"older")
    code = "with files.replacing(sys.argv[1]) as part:\n part.write_bytes(b'half')\n ready()\n time.sleep(60)"
    writer = start(code, path)
    assert writer.stdout.readline() == "ready\n"
    writer.kill()
    writer.communicate()
    assert path.read_bytes() == b"older" and len(names(tmp_path)) == 2
    files.replace(path, b"newer")
    assert path.read_bytes() == b"newer"
    [left] = set(names(tmp_path)) - {"rows.csv"}
    assert left.startswith(".")  # hidden, so that no folder of images or rows takes it for one


@posix
def test_no_space_keeps_what_was_there(tmp_path):
    """Of 3000 bytes 2000 fit: the file has its 500 again, and the message says what to do."""
    (tmp_path / "log").write_bytes(b"o" * 500)
    (tmp_path / "rows").write_bytes(b"older")
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
log = open("log", "ab", buffering=0)
for write, target in ((files.append, log), (files.replace, "rows")):
    try:
        write(target, b"n" * 3000)
    except OSError as error:
        print(error.errno, error)
"""
    out = start(f"os.chdir({str(tmp_path)!r})\n{code}").communicate()[0].splitlines()
    assert len(out) == 2 and all("could not write 3000 bytes to" in line and "make room" in line for line in out)
    assert (tmp_path / "log").read_bytes() == b"o" * 500 and (tmp_path / "rows").read_bytes() == b"older"
    assert names(tmp_path) == ["log", "rows"]


def test_ctrl_c_in_the_middle_takes_back_what_was_written(tmp_path, monkeypatch):
    with open(tmp_path / "log", "wb", buffering=0) as file:
        files.append(file, b"line\n")

        class Slow:
            fileno, truncate, name = file.fileno, file.truncate, file.name

            def write(self, view):
                if len(view) < 10:
                    raise KeyboardInterrupt
                return file.write(view[:7])

        with pytest.raises(KeyboardInterrupt):
            files.append(Slow(), b"0123456789 and more")
    assert (tmp_path / "log").read_bytes() == b"line\n"


def test_parallel_writers_of_one_file_leave_one_whole_content(tmp_path):
    path, contents = tmp_path / "rows", [bytes([number]) * 50_000 for number in range(4)]
    code = "for _ in range(40): files.replace(sys.argv[1], bytes([int(sys.argv[2])]) * 50_000)"
    processes = [start(code, path, number) for number in (0, 1)]
    threads = [
        threading.Thread(target=lambda own=own: [files.replace(path, own) for _ in range(40)]) for own in contents[2:]
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or any(process.poll() is None for process in processes):
        assert not path.exists() or path.read_bytes() in contents
    assert [process.wait() for process in processes] == [0, 0]
    assert names(tmp_path) == ["rows"] and path.read_bytes() in contents


# ---- locks


def test_a_lock_is_freed_by_closing_and_by_dying(tmp_path):
    path = tmp_path / "lock"
    code = "file = open(sys.argv[1], 'ab')\nassert files.lock(file, wait=True)\nready()\ntime.sleep(60)"
    first, second = start(code, path), None
    try:
        assert first.stdout.readline() == "ready\n"
        with open(path, "ab") as file:
            assert not files.lock(file, wait=False)
        second = start(code, path)
        time.sleep(0.2)
        first.kill()
        first.communicate()
        assert second.stdout.readline() == "ready\n"  # it waited, and nobody signed off
        with open(path, "ab") as file:
            assert not files.lock(file, wait=False)
        second.kill()
        second.communicate()
        for _ in range(2):
            with open(path, "ab") as file:
                assert files.lock(file, wait=False)
    finally:
        for process in filter(None, (first, second)):
            process.kill()


def test_only_one_thread_or_process_is_inside(tmp_path):
    """Each adds 1 to a number in a file, with a pause between reading and writing."""
    (tmp_path / "number").write_text("0")
    code = """
from pathlib import Path
def add(folder):
    for _ in range(10):
        with files.alone(folder / "lock"):
            before = int((folder / "number").read_text())
            time.sleep(0.002)
            (folder / "number").write_text(str(before + 1))
"""
    processes = [start(f"{code}\nadd(Path(sys.argv[1]))", tmp_path) for _ in range(2)]
    here = {"files": files, "time": time}
    exec(code, here)
    threads = [threading.Thread(target=here["add"], args=(tmp_path,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    assert (tmp_path / "number").read_text() == "40" and names(tmp_path) == ["number"]


@posix
@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard", "pipe", "folder"])
def test_lock_that_is_a_link_is_not_followed(tmp_path, kind):
    victim, lock = tmp_path / "victim", tmp_path / "lock"
    victim.write_text("of somebody else")
    {
        "symbolic": lambda: lock.symlink_to(victim),
        "dangling": lambda: lock.symlink_to(tmp_path / "new"),
        "hard": lambda: lock.hardlink_to(victim),
        "pipe": lambda: os.mkfifo(lock),
        "folder": lambda: lock.mkdir(),
    }[kind]()
    message = "expected an ordinary file with one name, found a link or no file: .*lock"
    with pytest.raises(OSError, match=message), files.alone(lock):
        pass
    assert victim.read_text() == "of somebody else" and not (tmp_path / "new").exists() and os.path.lexists(lock)


@posix
def test_new_file_takes_the_place_of_a_link(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "path"
    victim.write_text("of somebody else")
    for link in (path.symlink_to, path.hardlink_to):
        path.unlink(missing_ok=True)
        link(victim)
        with files.open_own(path, new=True) as file:
            file.write(b"ours")
        assert path.read_text() == "ours" and not path.is_symlink() and victim.read_text() == "of somebody else"
    with files.open_own(path) as file:
        assert file.read() == b"ours"


# ---- hashes, and what is kept in memory


def test_hashes_are_of_the_content_and_follow_size_and_time(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert files.sha256_of(path) == hashlib.sha256(b"hello\n").hexdigest()
    assert files.git_hash_of(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    stat = path.stat()
    path.write_bytes(b"HELLO\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # size and time of change are those of before
    if os.name != "nt":  # what the system notes by itself still tells
        assert files.sha256_of(path) == hashlib.sha256(b"HELLO\n").hexdigest()
    files.forget_hashes()
    assert files.sha256_of(path) == hashlib.sha256(b"HELLO\n").hexdigest()
    os.utime(path, ns=(1, 1))
    path.write_bytes(b"hello, you\n")
    assert files.sha256_of(path) == hashlib.sha256(b"hello, you\n").hexdigest()


def test_answers_are_kept_while_the_file_does_not_change(tmp_path, monkeypatch):
    asked = []
    read = files.cache_by_stat(lambda path: asked.append(path) or path.read_text())
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        read(path)
    path.write_text("one")
    assert [read(path), read(path)] == ["one"] * 2 and len(asked) == 3  # young: the clock may not show a change
    clock = time.time_ns() + 3_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: clock)
    assert [read(path), read(path), read(path)] == ["one"] * 3 and len(asked) == 4
    path.write_text("two")
    os.utime(path, ns=(1, 1))  # as a copying program sets it
    assert [read(path), read(path)] == ["two"] * 2 and len(asked) == 5


def test_data_is_found_in_the_package_or_beside_it(tmp_path, monkeypatch):
    assert list(files.packaged("weights").glob("*.safetensors")) and (files.packaged("manifests")).is_dir()
    for folder in ("data/weights", "helpers/data/manifests"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(files, "__file__", str(tmp_path / "helpers" / "files.py"))
    assert files.packaged("weights") == tmp_path / "data" / "weights"
    assert files.packaged("manifests") == tmp_path / "helpers" / "data" / "manifests"
