"""Rows that have moved from the log to columns: read as before, whatever kills, spoils or does not know them."""

import gzip
import os
import signal
import warnings

import numpy as np
import pytest

from helpers import columns, files, results
from helpers.results import finished
from tests.fakes import CONTEXT
from tests.test_results import key, row

ODD = ["a,b", 'say "x"', "a\nb", "a\\nb", "a\\", "\r", "é\u2028", "b\udc80", "a\0b", "nan", "007", ""]


def rows(n=40):
    found = [row(f"{k // 4:02d}", k % 4, value=1 / (k + 3), hr="1", lr=str(k // 4), seconds=k / 7) for k in range(n)]
    return found[::-1] + [row(name, 9, heat="1.0+0.1") for name in ODD]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(finished, "ROWS", 16)
    results.append(rows(), tmp_path)
    return tmp_path


def test_rows_are_read_as_before_and_published_as_the_same_bytes(folder):
    before, number = results.read(folder), len(rows())
    results.publish(folder, folder.parent / "before.csv.gz")
    assert results.finish(folder) == number and results.finish(folder) == 0
    assert len(list(folder.glob("finished-*.npz"))) == -(-number // 16)
    assert (folder / "local.csv").read_text() == ",".join(results.COLUMNS) + "\n"
    assert results.read(folder).equals(before) and results.read(folder).dtypes.equals(before.dtypes)
    results.publish(folder, folder.parent / "after.csv.gz")
    assert (folder.parent / "after.csv.gz").read_bytes() == (folder.parent / "before.csv.gz").read_bytes()
    few = [key(each) for each in rows()[::5]]
    asked = {(each[1], each[10]) for each in few}
    kept = [pair in asked for pair in zip(before.image, before["sample"], strict=True)]
    found = results.read(folder, keys=few)
    assert len(found) == len(few) and found.assign(heat=found.heat.astype(object)).equals(
        before[kept].reset_index(drop=True)
    )
    assert list(results.read(folder, names=("image", "value"))) == ["image", "value"]
    with pytest.raises(ValueError, match="names: expected columns among dataset, .*, got colour"):
        results.read(folder, names=("colour",))


def test_newer_rows_count_and_twins_that_differ_are_refused(folder):
    results.finish(folder)
    results.append([row("00", 0, value=0.5, hr="1", lr="new")], folder)
    read = results.read(folder)
    assert len(read) == len(rows()) and read.value[(read.image == "00") & (read["sample"] == 0)].tolist() == [0.5]
    results.finish(folder)
    assert results.read(folder).equals(read)
    results.append([row("00", 0, value=0.6, hr="1", lr="new")], folder)
    with pytest.raises(ValueError, match=r"local\.csv: two rows of one key differ, 0\.5 and 0\.6 for .*'image': '00'"):
        results.read(folder)


def test_a_log_that_grows_moves_by_itself_and_its_writer_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "LOG", 2000)
    with results.writer(tmp_path) as write:
        for k in range(40):
            write([row(f"{k:02d}", value=float(k))])
    assert len(finished.listed(tmp_path)) == 2 and (tmp_path / "local.csv").stat().st_size < 4000
    assert results.read(tmp_path).value.tolist() == list(range(40))


def test_only_files_with_an_image_that_is_asked_for_are_read(folder, monkeypatch):
    results.finish(folder)
    seen, real = [], finished.read
    monkeypatch.setattr(finished, "read", lambda where, part, names: seen.append(part.name) or real(where, part, names))
    assert len(results.read(folder, keys=[key(each) for each in rows() if each["image"] == "03"])) == 4
    assert 1 <= len(seen) < len(finished.listed(folder))


def die(folder, at):
    """Finish, and be killed just before file number `at` takes its place."""
    real, count = os.replace, [0]

    def replace(*paths):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*paths)

    finished.ROWS, os.replace = 16, replace
    results.finish(folder)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
@pytest.mark.parametrize("at", [1, 3, 5, 6, 99])  # 4 files, their list, the log
def test_killed_at_any_step_all_rows_are_there_and_the_next_one_goes_on(folder, at):
    before = results.read(folder)
    process = CONTEXT.Process(target=die, args=(folder, at))
    process.start()
    process.join(120)
    assert process.exitcode == (-signal.SIGKILL if at < 99 else 0)
    assert results.read(folder).equals(before)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*was killed; the rows it finished are kept")
        results.finish(folder)
        results.append([row("later")], folder)
    assert len(results.read(folder)) == len(before) + 1
    assert {path.name for path in folder.glob("finished-*.npz")} == {part.name for part in finished.listed(folder)}
    assert not list(folder.glob(".*.part*")) or at < 99


def test_a_full_disk_leaves_the_folder_as_it_was(folder, monkeypatch):
    before, real = results.read(folder), files.append

    def full(file, data):
        if "finished" in str(file.name) or ".npz" in str(file.name):
            raise OSError(28, "No space left on device")
        real(file, data)

    monkeypatch.setattr(files, "append", full)
    with pytest.raises(OSError, match="could not write .* bytes .*make room and run again"):
        results.finish(folder)
    assert results.read(folder).equals(before) and not (folder / finished.LIST).exists()


def test_any_flipped_bit_is_one_error_that_names_the_file_and_the_remedy(folder):
    results.finish(folder)
    path = folder / finished.listed(folder)[1].name
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 23):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 7
        path.write_bytes(damaged)
        files.forget_hashes()
        with pytest.raises(ValueError, match=rf"{path.name}: damaged or replaced .*restore it from a copy, or delete"):
            results.read(folder)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{path.name}: damaged or replaced"):
        results.read(folder)
    path.unlink()
    with pytest.warns(UserWarning, match=rf"{path.name}: not there, .* its 16 rows count as missing"):
        there = results.read(folder)
    assert len(there) == len(rows()) - 16
    with pytest.warns(UserWarning, match="not there"):
        results.append([each for each in rows() if not len(results.read(folder, keys=[key(each)]))], folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results.finish(folder)  # the list no longer has it
        assert len(results.read(folder)) == len(rows())


def test_a_list_that_is_damaged_is_one_error(folder):
    results.finish(folder)
    path = folder / finished.LIST
    others = [gzip.compress(text.encode()) for text in ("something else\n", f"{finished.NOTE}\n[1]\n")]
    for data in (path.read_bytes()[:40], *others):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"finished\.csv\.gz: damaged .*restore it from a copy, or delete it"):
            results.read(folder)


def test_an_older_version_refuses_the_folder(folder):
    """What it does with each `*.csv.gz` of a folder: `tables.intact_lines` as it was before files of finished rows."""
    from helpers import tables
    from helpers.results.row import HEADER, OLDER

    results.finish(folder)
    with pytest.raises(ValueError, match=r"finished\.csv\.gz: expected the columns .*finished rows lie in the files"):
        tables.intact_lines(folder / finished.LIST, (HEADER, OLDER), "their rows count as missing")


def test_equal_rows_are_equal_bytes_and_numpy_reads_them_without_us(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    results.append(rows()[::-1], other)
    for each in (folder, other):
        results.finish(each)
    names = [part.name for part in finished.listed(folder)]
    assert all((folder / name).read_bytes() == (other / name).read_bytes() for name in names)
    with np.load(folder / names[-1], allow_pickle=False) as found:
        texts = found["image.texts"].tobytes().decode("utf-8", "surrogateescape").split("\0")
        assert len(found["value"]) == len(found["image.codes"]) and "nan" in texts


def test_columns_of_mixed_kinds_are_joined_by_value():
    one, two = columns.coded([1, "1", 1.5]), columns.coded(["1", "", 1])
    both = columns.join([{"a": one, "b": np.arange(3)}, {"a": two, "b": np.arange(3)}])
    assert [both["a"].values[code] for code in both["a"].codes] == [1, "1", 1.5, "1", "", 1]
    assert both["a"].codes.dtype == np.int8 and columns.length(both) == 6
    many = columns.coded([str(k) for k in range(300)])
    assert many.codes.dtype == np.int16 and columns.dense(columns.Coded(many.codes[:2], many.values)).values == [
        "0",
        "1",
    ]
    assert columns.runs_of([np.array([np.nan, np.nan, 1.0, 1.0, np.nan])]).tolist() == [0, 2, 4]
    assert columns.repeated(["x", "y"], 2, 2).codes.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
