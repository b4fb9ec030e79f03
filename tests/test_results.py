import gzip
import math
import time
import warnings
import zlib

import numpy as np
import pandas as pd
import pytest

from helpers import results


def row(image="a", sample=0, **other):
    row = dict.fromkeys(results.COLUMNS[:-1], "") | {"dataset": "x", "downscaler": "box", "upscaler": "flow"}
    row |= {"image": image, "sample": sample, "scale": 4, "heat": 1.0, "seed": 0, "distortion": "mse"}
    row |= {"value": 0.1 + sample / 7, "height": 16, "width": 24, "clipped": 0.0, "seconds": 0.25}
    return row | {"weights": "0123456789ab", "metric": "mse 1", "device": "cpu", "version": "0.1.0"} | other


def key(row):
    return tuple(row[name] for name in results.KEY)


def test_rows_come_back_bit_for_bit(tmp_path):
    values = [0.1 + 0.2, 1 / 3, 5e-324, -0.0, math.inf, math.nan, float(np.float32(0.1)), 1e300]
    rows = [row(sample=q, value=value, level=value, clipped=1 / (q + 3)) for q, value in enumerate(values)]
    results.append(rows[:3], tmp_path)
    results.append(rows[3:], tmp_path)
    read = results.read(tmp_path)
    assert tuple(read.columns) == results.COLUMNS
    by_sample = read.sort_values("sample")
    for name in ("value", "clipped"):
        assert [repr(v) for v in by_sample[name]] == [repr(float(r[name])) for r in rows]
    assert read["sample"].dtype == read.height.dtype == np.int64
    assert read.lr_bits.isna().all() and (read.degradation == "").all()
    assert read.value.isna().sum() == 1  # a NaN draw is a row


@pytest.mark.parametrize(
    "name",
    [
        "a,b",
        'say "x"',
        "a\nb",
        "a\\nb",
        "a\\",
        "\r",
        " {x} ",
        "é\u2028\x0b",
        "b\udc80",
        "a\0b",
        "NA",
        "nan",
        "007",
        "\t",
        "#",
    ],
)
def test_b28_odd_names_survive(tmp_path, name):
    results.append([row("plain"), row(name), row("plain", 1)], tmp_path)
    results.publish(tmp_path, tmp_path / "rows.csv.gz")
    read = results.read(tmp_path / "rows.csv.gz")
    assert sorted(read.image) == sorted(["plain", name, "plain"])
    assert not results.missing([key(row(name))], read)


def test_heat_is_a_number_or_the_text_of_a_cascade(tmp_path):
    results.append([row(heat=1), row(heat="1.0", sample=1)], tmp_path)
    assert results.read(tmp_path).heat.tolist() == [1.0, 1.0]
    results.append([row(heat="1.0+0.1"), row(heat="1+.1"), row(heat=" 1.00 + 0.1")], tmp_path)  # one key
    assert sorted(map(str, results.read(tmp_path).heat)) == ["1.0", "1.0", "1.0+0.1"]
    assert results.read(tmp_path, keys=[key(row())]).heat.dtype == np.float64


def test_f06_a_second_writer_in_the_same_process_is_refused(tmp_path):
    with results.writer(tmp_path) as write:
        write([row()])
        with pytest.raises(ValueError, match="this process is already writing here"):
            results.append([row(sample=1)], tmp_path)
        write([row(sample=2)])
    results.append([row(sample=1)], tmp_path)
    assert results.read(tmp_path)["sample"].tolist() == [0, 1, 2]


def test_missing_counts_nan_rows_as_there_and_compares_numbers_as_numbers(tmp_path):
    results.append([row(value=math.nan), row(sample=1, level=2, degradation="blur", where="after")], tmp_path)
    read = results.read(tmp_path)
    wanted = [row(), row(sample=1, level=2.0, degradation="blur", where="after"), row("b"), row(seed=1)]
    assert results.missing(map(key, wanted), read) == [key(wanted[2]), key(wanted[3])]
    assert results.missing([key(row())], results.read(tmp_path / "nothing here")) == [key(row())]


def test_publish_gives_the_same_bytes_for_the_same_rows(tmp_path):
    rows = [row(image, q) for image in "ba" for q in range(12)]
    for folder, order in (("one", rows), ("two", rows[::-1])):
        for r in order:
            results.append([r | {"seconds": len(folder) + r["sample"]}], tmp_path / folder)
        assert results.publish(tmp_path / folder, tmp_path / f"{folder}.csv.gz") == 24
    data = (tmp_path / "one.csv.gz").read_bytes()
    assert data == (tmp_path / "two.csv.gz").read_bytes()
    assert data[4:8] == bytes(4)  # gzip's date
    read = results.read(tmp_path / "one.csv.gz")
    assert list(zip(read.image, read["sample"], strict=True)) == [(i, q) for i in "ab" for q in range(12)]
    assert read.seconds.isna().all()
    assert results.publish(tmp_path / "one", tmp_path / "b.csv.gz", keys=map(key, rows[:12])) == 12
    assert set(results.read(tmp_path / "b.csv.gz").image) == {"b"}
    exact = pd.read_csv(tmp_path / "b.csv.gz", float_precision="round_trip")
    assert exact.value.tolist() == sorted(r["value"] for r in rows[:12])
    with pytest.raises(ValueError, match=r"\.csv\.gz"):
        results.publish(tmp_path / "one", tmp_path / "one.csv")


def test_published_and_local_rows_are_read_together_and_equal_duplicates_once(tmp_path):
    results.append([row(), row(sample=1)], tmp_path)
    results.publish(tmp_path, tmp_path / "rows.csv.gz")
    results.append([row(sample=2), row(sample=1, seconds=9.0), row(sample=3, value=math.nan)], tmp_path)
    results.append([row(sample=3, value=math.nan)], tmp_path)
    assert results.read(tmp_path)["sample"].tolist() == [0, 1, 2, 3]
    results.append([row(value=0.5)], tmp_path)
    with pytest.raises(ValueError, match=r"two rows of one key differ, 0\.1 and 0\.5 .*'image': 'a'"):
        results.read(tmp_path)


def test_f03_torn_last_line_is_dropped_and_cut_before_appending(tmp_path):
    rows = [row(sample=q) for q in range(3)]
    results.append(rows, tmp_path)
    path = tmp_path / "local.csv"
    whole = path.read_bytes()
    header, *lines = whole.splitlines(keepends=True)
    start = len(whole) - len(lines[-1])
    for cut in (*range(start, len(whole), 9), len(whole) - 1, 0, 5, len(header) - 1):
        path.write_bytes(whole[:cut])
        there = 2 if cut >= start else 0
        assert len(results.read(tmp_path)) == there
        results.append(rows[there:], tmp_path)
        assert path.read_bytes() == whole


def test_f04_any_flipped_byte_is_reported_with_its_line_and_its_row_is_missing(tmp_path):
    rows = [row("na,me", q) for q in range(3)]
    results.append(rows, tmp_path)
    path = tmp_path / "local.csv"
    whole = path.read_bytes()
    newlines = [at for at in range(len(whole) - 1) if whole[at : at + 1] == b"\n"]
    for at in [*range(0, len(whole) - 1, 3), *newlines]:  # the last newline makes a torn line of the last row
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 7
        path.write_bytes(damaged)
        line = whole[:at].count(b"\n") + 1
        with pytest.warns(UserWarning, match=rf"local\.csv: . damaged lines \(.*{line}.*\); their rows"):
            read = results.read(tmp_path)
        lost = {line - 2, line - 1} if whole[at : at + 1] == b"\n" else {line - 2}
        assert set(range(3)) - set(read["sample"]) <= lost
        assert read.value.tolist() == [rows[q]["value"] for q in read["sample"]]  # never a wrong number
    with pytest.warns(UserWarning, match="damaged"):
        results.append(rows, tmp_path)  # recomputed beside the damaged line
        assert results.publish(tmp_path, tmp_path / "rows.csv.gz") == 3


def test_f05_damaged_published_file_is_refused_by_name(tmp_path):
    results.append([row()], tmp_path)
    results.publish(tmp_path, tmp_path / "rows.csv.gz")
    data = bytearray((tmp_path / "rows.csv.gz").read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "rows.csv.gz").write_bytes(data)
    with pytest.raises(ValueError, match=r"rows\.csv\.gz: damaged"):
        results.read(tmp_path)
    (tmp_path / "rows.csv.gz").write_bytes(bytes(data[:30]))
    with pytest.raises(ValueError, match=r"rows\.csv\.gz: damaged"):
        results.read(tmp_path)


@pytest.mark.parametrize("end", [b"\r\n", b"\r\r\n"], ids=["once", "twice"])
def test_rows_with_the_line_ends_of_windows_are_read_and_new_ones_are_added(tmp_path, end):
    rows = [row("na,me\r", q) for q in range(3)]
    results.append(rows, tmp_path)
    path = tmp_path / "local.csv"
    whole = path.read_bytes()
    windows = whole.replace(b"\n", end)
    path.write_bytes(windows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert results.read(tmp_path).value.tolist() == [each["value"] for each in rows]
        results.append([row(sample=3)], tmp_path)
    assert path.read_bytes().startswith(whole) and b"\r" not in path.read_bytes()
    assert results.read(tmp_path)["sample"].tolist() == [3, 0, 1, 2]
    half = whole.partition(b"\n")[0] + b"\n" + windows.partition(b"\n")[2]  # rows alone, as a merge leaves them
    for data, there in ((windows[:-1], 2), (windows[: -len(end)], 2), (half, 3)):
        path.write_bytes(data)
        assert len(results.read(tmp_path)) == there
    path.write_bytes(windows.replace(rows[1]["dataset"].encode() + b",", b"y,", 1))
    with pytest.warns(UserWarning, match=r"local\.csv: 1 damaged lines \(2\)"):
        assert results.read(tmp_path)["sample"].tolist() == [1, 2]
    path.write_bytes(layout(OLDER, [row(sample=q) for q in range(3)]).replace(b"\n", end))
    assert len(results.read(tmp_path)) == 3


def test_what_was_set_aside_is_read_with_the_line_ends_of_windows(tmp_path):
    results.set_aside(tmp_path, [cell_aside(image="a"), cell_aside(image="b")])
    path = tmp_path / "aside.csv"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert results.aside(tmp_path).image.tolist() == ["a", "b"]
        results.set_aside(tmp_path, [cell_aside(image="c")])
        assert results.aside(tmp_path).image.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("change", [lambda c: c[1:], lambda c: [*c, "gpu"], lambda c: ["dataset", "face", *c[2:]]])
def test_b45_other_columns_are_refused_by_name(tmp_path, change):
    columns = list(results.COLUMNS)
    changed = change(columns)
    lines = [",".join(changed), ",".join("0" for _ in changed)]
    (tmp_path / "local.csv").write_text("\n".join(lines) + "\n")
    named = (set(columns) ^ set(changed)).pop()
    for attempt in (results.read, lambda folder: results.append([row()], folder)):
        with pytest.raises(ValueError, match=rf"local\.csv: expected the columns .*'{named}'"):
            attempt(tmp_path)
    (tmp_path / "old.csv.gz").write_bytes(gzip.compress((tmp_path / "local.csv").read_bytes()))
    (tmp_path / "local.csv").unlink()
    with pytest.raises(ValueError, match=r"old\.csv\.gz"):
        results.read(tmp_path)


def layout(columns, rows):
    """The bytes of a file with these columns, as the version that had them wrote it."""
    header, lines = ",".join(columns), []
    for each in rows:
        line = ",".join("" if each[name] is None else str(each[name]) for name in columns)
        lines.append(f"{line},{zlib.crc32(line.encode(), zlib.crc32(f'{header},checksum'.encode())):08x}\n")
    return f"{header},checksum\n{''.join(lines)}".encode()


OLDER = [name for name in results.COLUMNS[:-1] if name not in results.PROOF]  # of versions before 0.5.0


def test_rows_from_before_the_columns_of_searches_are_refused_with_what_to_do(tmp_path):
    oldest = [name for name in OLDER if name not in results.SEARCH]
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(layout(oldest, [row()])))
    with pytest.raises(
        ValueError, match=r"rows\.csv\.gz: .*missing \['residual', 'converged', .* older version"
    ) as error:
        results.read(tmp_path)
    assert "delete the file, or use another rows_dir" in str(error.value)


def test_rows_from_before_the_hashes_are_read_with_empty_ones_and_new_rows_are_added_to_them(tmp_path):
    older = layout(OLDER, [row(sample=q) for q in range(3)])
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(older))
    read = results.read(tmp_path)
    assert list(read["sample"]) == [0, 1, 2] and list(read.value) == [row(sample=q)["value"] for q in range(3)]
    assert (read[list(results.PROOF)] == "").all(axis=None) and (read.weights == "0123456789ab").all()
    crop = [row("lake_y000_x256", dataset="library256"), row("lake_y000_x000", dataset="lake256")]
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(layout(OLDER, crop)))
    assert set(zip(results.read(tmp_path).dataset, results.read(tmp_path).group, strict=True)) == {
        ("library256", "lake"),
        ("lake256", ""),
    }  # only the library's names tell the photograph
    (tmp_path / "rows.csv.gz").unlink()
    (tmp_path / "local.csv").write_bytes(older + b"torn")
    results.append([row("b", group="g", hr="11", lr="22")], tmp_path)
    assert list(results.read(tmp_path).group) == ["", "", "", "g"] and list(results.read(tmp_path).lr)[3] == "22"
    assert (tmp_path / "local.csv").read_text().splitlines()[0] == ",".join(results.COLUMNS)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "local.csv").write_bytes(layout(OLDER, []))
    results.append([row()], empty)
    assert len(results.read(empty)) == 1


def test_a_flipped_bit_in_rows_from_before_the_hashes_is_reported(tmp_path):
    whole = layout(OLDER, [row("na me", q) for q in range(3)])
    for at in range(0, len(whole) - 1, 7):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 7
        (tmp_path / "local.csv").write_bytes(damaged)
        with pytest.warns(UserWarning, match="damaged lines"):
            read = results.read(tmp_path)
        assert len(read) >= 1 and list(read.value) == [row(sample=q)["value"] for q in read["sample"]]


def test_residual_and_converged_are_numbers_or_empty(tmp_path):
    made = [(0.1 + 0.2, 1.0), (math.nan, 0.0), (None, None)]
    rows = [row(sample=q, residual=r, converged=c) for q, (r, c) in enumerate(made)]
    results.append(rows, tmp_path)
    read = results.read(tmp_path)
    assert read.residual.dtype == read.converged.dtype == np.float64
    assert read.residual[0] == 0.1 + 0.2 and read.converged[:2].tolist() == [1, 0]
    assert read.residual.isna().tolist() == [False, True, True] and read.converged.isna().tolist() == [
        False,
        False,
        True,
    ]
    results.append([row(sample=0, residual=0.5, converged=0.0)], tmp_path)  # the key and the value decide
    assert results.read(tmp_path).residual[0] == 0.1 + 0.2


def test_b45_row_with_other_columns_or_kinds_is_not_written(tmp_path):
    bad = [
        row() | {"gpu": 1},
        {k: v for k, v in row().items() if k != "heat"},
        row(sample=1.5),
        row(seed=True),
    ]
    for wrong, named in zip(bad, ["gpu", "heat", "sample", "seed"], strict=True):
        with pytest.raises(ValueError, match=named):
            results.append([row(), wrong], tmp_path)
    assert len(results.read(tmp_path)) == 0


@pytest.mark.parametrize(
    "column, other",
    [("version", {}), ("device", {}), ("weights", {"heat": 0.5}), ("metric", {"upscaler": "gan"})],
)
def test_f19_mixed_rows_need_an_explicit_yes(tmp_path, column, other):
    results.append([row(), row(sample=1, **{column: "new"}, **other)], tmp_path)
    with pytest.raises(ValueError, match=f"column '{column}' holds .*'new' \\(1 rows\\).*mixed"):
        results.read(tmp_path)
    assert len(results.read(tmp_path, mixed=(column,))) == 2
    assert len(results.read(tmp_path, keys=[key(row())])) == 1  # not mixed in what is asked for
    with pytest.raises(ValueError, match="expected names of weights"):
        results.read(tmp_path, mixed=("value",))


def test_weights_of_another_upscaler_and_metric_of_another_distortion_are_no_mixture(tmp_path):
    others = [
        row(upscaler="gan", weights="b"),
        row(scale=2, weights="c"),
        row(distortion="lpips", metric="l"),
    ]
    results.append([row(), *others], tmp_path)
    assert len(results.read(tmp_path)) == 4


def test_b44_missing_folder_is_made_and_a_file_in_its_place_is_refused(tmp_path):
    results.append([row()], tmp_path / "new" / "rows")
    assert len(results.read(tmp_path / "new" / "rows")) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="expected a folder to write into"):
        results.append([row()], tmp_path / "file")


def cell_aside(**other):
    cell = {
        "dataset": "x",
        "image": 'a,"b"\n\u2028c',
        "downscaler": "box",
        "scale": 4,
        "degradation": "",
        "level": None,
    }
    cell |= {"where": "", "upscaler": "flow", "heat": 1.0, "seed": 0, "distortion": "mse", "tried": "mse"}
    return cell | {"hr": "1", "lr": "", "weights": "", "version": "1", "reason": "bad\nluck, twice"} | other


def test_cells_set_aside_are_listed_with_the_newest_reason_until_taken_back(tmp_path):
    odd, other = cell_aside(), cell_aside(downscaler="mine", degradation="noise", level=0.1, where="after")
    assert results.aside(tmp_path).empty and list(results.aside(tmp_path)) == list(results.ASIDE)
    results.set_aside(tmp_path, [odd | {"image": "z"}, odd | {"reason": "first"}, other])
    results.set_aside(tmp_path, [odd])
    found = results.aside(tmp_path)
    assert found.assign(level=None).to_dict("records") == [odd, other | {"level": None}, odd | {"image": "z"}]
    assert found.level[1] == 0.1
    path = tmp_path / "aside.csv"
    before = path.read_bytes()
    results.set_aside(tmp_path, [odd])
    assert path.read_bytes()[: len(before)] == before  # added to, not written anew: n images cost n lines
    path.write_bytes(path.read_bytes() + b"torn")
    results.set_aside(tmp_path, [odd])
    assert len(results.aside(tmp_path)) == 3  # without a warning
    before = path.stat().st_mtime_ns
    results.set_aside(tmp_path, [])
    assert (tmp_path / "aside.csv").stat().st_mtime_ns == before
    results.set_aside(tmp_path, [odd | {"reason": ""}])
    assert results.aside(tmp_path).image.tolist() == [odd["image"], "z"]
    (tmp_path / "aside.csv").write_text("image,why\na,b\n")
    with pytest.raises(ValueError, match="expected the columns dataset,image"):
        results.aside(tmp_path)


def test_any_flipped_bit_of_what_was_set_aside_is_reported_and_its_cell_is_tried_again(tmp_path):
    cells = [cell_aside(image=f"image {k}", reason="ValueError: too dark") for k in range(4)]
    results.set_aside(tmp_path, cells)
    path = tmp_path / "aside.csv"
    whole = path.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 7
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"aside\.csv: . damaged lines \(.*\); what they set aside is tried again"):
            found = results.aside(tmp_path)
        assert 2 <= len(found) <= 4 and set(found.image) <= {cell["image"] for cell in cells}
        assert set(found.reason) == {"ValueError: too dark"}


def test_what_an_older_version_set_aside_is_tried_again(tmp_path):
    (tmp_path / "aside.csv").write_text("dataset,image,scale,upscaler,reason\nx,a,4,flow,bad luck\n")
    with pytest.warns(UserWarning, match="an older version wrote it; what it set aside is tried again"):
        assert results.aside(tmp_path).empty
    results.set_aside(tmp_path, [cell_aside()])
    assert len(results.aside(tmp_path)) == 1


def test_the_newest_row_of_a_key_counts_and_one_with_hashes_before_one_without(tmp_path):
    results.append([row(), row(sample=1, hr="1", lr="2")], tmp_path)
    results.publish(tmp_path, tmp_path / "rows.csv.gz")
    (tmp_path / "local.csv").unlink()
    newer = [row(value=0.2, hr="1", lr="3"), row(sample=1, value=0.3)]
    results.append(newer, tmp_path)
    assert results.read(tmp_path).value.tolist() == [0.2, row(sample=1)["value"]]
    for changed, value in (
        ({"hr": "4"}, 0.4),
        ({"hr": "4", "lr": "5"}, 0.5),
        ({"weights": "w"}, 0.6),
        ({"metric": "m"}, 0.7),
    ):
        results.append([row(**{"hr": "1", "lr": "3", "value": value} | changed)], tmp_path)
        assert results.read(tmp_path, mixed=("weights", "metric")).value[0] == value
    results.append([row(hr="1", lr="3 trusted", value=0.8)], tmp_path)
    assert results.read(tmp_path).value[0] == 0.8
    results.append([row(hr="1", lr="3", value=0.9)], tmp_path)
    with pytest.raises(ValueError, match=r"two rows of one key differ, 0\.8 and 0\.9"):
        results.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "lower"),
    [("lpips", True), ("1-ssim_of_mean", True), ("lr_mse", True), ("psnr_of_mean", False), ("ms_ssim", False),
     ("1-psnr", None), ("mine", None)],
)  # fmt: skip
def test_direction_of_a_distortion_from_its_name(name, lower):
    assert results.lower_is_better(name) is lower


def test_many_rows_are_read_at_once_bit_for_bit_in_the_order_of_their_keys(tmp_path):
    """Row by row this took 9 s for 210,000 rows; a second of this test is several times what it takes."""
    random = np.random.default_rng(0)
    values = np.concatenate([random.random(5000), random.integers(1, 2**63 - 2**53, 5000).view("f8")]).tolist()
    rows = [
        row(f"{k % 100:02d}", k // 100, value=value, hr="1", seconds=abs(value) / 3, metric='lpips, "alex"')
        for k, value in enumerate(values)
    ]
    results.append([rows[k] for k in random.permutation(len(rows))], tmp_path)
    start = time.process_time()
    read = results.read(tmp_path)
    assert time.process_time() - start < 1
    rows.sort(key=lambda each: (each["image"], each["sample"]))
    assert list(map(repr, read.value)) == [repr(each["value"]) for each in rows]
    assert list(map(repr, read.seconds)) == [repr(each["seconds"]) for each in rows]
    assert list(zip(read.image, read["sample"], strict=True)) == [(each["image"], each["sample"]) for each in rows]
    assert set(read.metric) == {'lpips, "alex"'} and read.checksum.is_unique
    keys = [key(each) for each in rows[::7]] + [key(row("other"))]
    found = results.read(tmp_path, keys=keys)
    assert len(found) == len(keys) - 1 and results.missing(keys, found) == keys[-1:]
    assert results.missing(iter(keys[:2]), found.iloc[:0]) == keys[:2] and results.missing([], found) == []
    assert len(results.read(tmp_path, keys=[])) == 0
    with pytest.raises(ValueError, match="sample: expected an integer, got True"):
        results.read(tmp_path, keys=[key(row(sample=True))])


def test_many_kinds_of_keys_do_not_run_into_each_other(tmp_path):
    """Twelve columns of 64 values each have more combinations than an int64."""
    rows = [
        row(
            f"i{k}",
            k,
            dataset=f"d{k}",
            downscaler=f"f{k}",
            scale=k + 1,
            degradation=f"g{k}",
            level=k / 3,
            where=f"w{k}",
        )
        | {"upscaler": f"u{k}", "heat": k / 7, "seed": k, "distortion": f"m{k}", "value": float(k)}
        for k in range(64)
    ]
    results.append(rows, tmp_path)
    read = results.read(tmp_path, keys=[key(each) for each in rows[::-2]])
    assert sorted(read.value) == [float(k) for k in range(1, 64, 2)]
    assert results.missing([key(rows[3] | {"seed": 4}), key(rows[5])], read) == [key(rows[3] | {"seed": 4})]
