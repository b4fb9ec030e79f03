"""Rows that would not come out again are computed anew: pictures, programs and modules changed under equal names."""

import os
import re
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import results
from helpers.runs import cell, checks, driver, left_out, pairs
from helpers.runtime import seeded
from helpers.stats import rankings, tables
from tests.fakes import experiment, fakes_fixture, images_fixture, run, workers, write_images  # noqa: F401


def fresh(one, tmp_path):
    """The values that an empty folder of rows would get."""
    return run(one, tmp_path / f"fresh {time.monotonic_ns()}").value.tolist()


def again(one, tmp_path, stale):
    """Run in a folder that has rows, and compare with an empty folder; `stale` is what the run must say."""
    assert stale in driver.plan(one, tmp_path / "rows").summary
    with pytest.warns(UserWarning, match=re.escape(f"rows: {stale}; they are computed anew")):
        rows = run(one, tmp_path / "rows")
    assert rows.value.tolist() == fresh(one, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(one, tmp_path / "rows").value.tolist() == rows.value.tolist()
    assert driver.plan(one, tmp_path / "rows").summary == f"all {len(rows)} rows are there"
    assert results.read(tmp_path / "rows", keys=one.keys()).value.tolist() == rows.value.tolist()
    return rows


def picture(path, key):
    levels = torch.randint(256, (16, 16, 3), generator=seeded("other", key), dtype=torch.uint8)
    Image.fromarray(levels.numpy()).save(path)


def test_another_folder_of_the_same_last_name_and_stems(fakes, tmp_path):
    one, other = tmp_path / "a" / "set", tmp_path / "b" / "set"
    for folder in (one, other):
        folder.parent.mkdir()
        write_images(folder, 2)
    picture(other / "00.png", 0)
    first = run(experiment(one), tmp_path / "rows")
    second = again(experiment(other), tmp_path, "6 rows stale: 6 HR pixels changed (1 images)")
    assert (
        first.value[:6].tolist() != second.value[:6].tolist() and first.value[6:].tolist() == second.value[6:].tolist()
    )
    with pytest.raises(ValueError, match=f"data set 'set': expected one thing .* got '{one}' and '{other}'; .*a pair"):
        run([experiment(one), experiment(other)], tmp_path / "rows")
    both = run([experiment(one), experiment(other, dataset=("other", str(other)))], tmp_path / "both")
    assert both.value.tolist() == [*first.value, *second.value]


def test_an_hr_file_replaced(fakes, images, tmp_path):
    run(experiment(images), tmp_path / "rows")
    path = Path(images, "01.png")
    stat = path.stat()
    picture(path, 1)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as `cp -p` and rsync do
    again(experiment(images), tmp_path, "6 rows stale: 6 HR pixels changed (1 images)")


def test_an_hr_file_written_anew_with_the_same_pixels_is_no_other(fakes, images, tmp_path):
    first = run(experiment(images), tmp_path / "rows")
    Image.open(Path(images, "01.png")).save(Path(images, "01.png"), compress_level=1)
    assert driver.plan(experiment(images), tmp_path / "rows").summary == f"all {len(first)} rows are there"


def test_a_folder_of_lr_images_rewritten(fakes, images, tmp_path):
    lr = tmp_path / "lr"
    lr.mkdir()

    def write(how):
        for path in Path(images).glob("*.png"):
            Image.open(path).resize((4, 4), how).save(lr / path.name)

    write(Image.Resampling.BOX)
    one = experiment(images, downscalers=["box", ("mine", f"folder: {lr}")])
    run(one, tmp_path / "rows")
    write(Image.Resampling.NEAREST)
    again(one, tmp_path, "12 rows stale: 12 LR pixels changed (mine on 4 images)")


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_a_program_rebuilt(fakes, images, tmp_path):
    program = tmp_path / "tool"

    def build(how):
        text = "from PIL import Image; import sys; x = Image.open(sys.argv[1]); "
        text += f"x.resize((x.width // 4, x.height // 4), {how}).save(sys.argv[2])"
        program.write_text(f'#!/bin/sh\nexec {os.sys.executable} -c \'{text}\' "$1" "$2"\n')
        program.chmod(0o755)

    build(4)
    one = experiment(images, downscalers=[("mine", f"command: {program} {{input}} {{output}}")])
    run(one, tmp_path / "rows")
    build(0)
    again(one, tmp_path, "12 rows stale: 12 LR pixels changed (mine on 4 images)")


MINE = """
import numpy as np
import torch
from pathlib import Path
from neighbour import offset

WEIGHTS = np.load(Path(__file__).with_name("weights.npy"))


def mine(hr, scale):
    return (hr[..., offset::scale, offset::scale] * float(WEIGHTS[0])).clamp(0, 1)
"""


def own_file(folder, offset=0, weight=1.0):
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(MINE)
    (folder / "neighbour.py").write_text(f"offset = {offset}\n")
    np.save(folder / "weights.npy", np.array([weight]))
    return f"{folder / 'mine.py'}:mine"


@pytest.mark.parametrize("change", [{"offset": 1}, {"weight": 0.98}])  # no more: a run remarks on another gain
def test_a_module_or_a_checkpoint_that_the_readers_file_loads_replaced(fakes, images, tmp_path, change):
    one = experiment(images, downscalers=["box", own_file(tmp_path / "own")])
    name = list(one.specs)[1]
    run(one, tmp_path / "rows")
    own_file(tmp_path / "own", **change)
    again(one, tmp_path, f"12 rows stale: 12 LR pixels changed ({name} on 4 images)")


def test_equal_text_with_other_neighbours_under_one_name(fakes, images, tmp_path):
    one, other = own_file(tmp_path / "a"), own_file(tmp_path / "b", offset=1)
    run(experiment(images, downscalers=[one]), tmp_path / "rows")
    with pytest.raises(ValueError, match=r"rows would call '.*/a/mine.py:mine', '.*/b/mine.py:mine' all 'mine@\w{8}'"):
        experiment(images, downscalers=[one, other])
    with pytest.raises(ValueError, match=r"downscaler 'mine@\w{8}': expected one thing of this name in the rows"):
        run([experiment(images, downscalers=[one]), experiment(images, downscalers=[other])], tmp_path / "rows")
    name = next(iter(experiment(images, downscalers=[other]).specs))
    again(
        experiment(images, downscalers=[other]), tmp_path, f"12 rows stale: 12 LR pixels changed ({name} on 4 images)"
    )
    named = run(experiment(images, downscalers=[one, ("second", other)]), tmp_path / "named")
    assert len(named) == 24


def test_a_name_of_ours_is_not_for_others(fakes, images, tmp_path):
    with pytest.raises(ValueError, match="expected another name than 'box', which is ours, for 'nearest'"):
        experiment(images, downscalers=[("box", "nearest")])
    assert list(experiment(images, downscalers=[("box", "box")]).specs) == ["box"]


def test_degraded_lr_images_are_compared_too(fakes, images, tmp_path, monkeypatch):
    one = experiment(images, degradations=[("", None), ("noise", 0.1)])
    run(one, tmp_path / "rows")
    before = pairs.degradations.DEGRADATIONS["noise"]
    monkeypatch.setitem(
        pairs.degradations.DEGRADATIONS, "noise", lambda x, level, generator: before(x, level / 2, generator=generator)
    )
    again(one, tmp_path, "24 rows stale: 24 LR pixels changed (box on 4 images, nearest on 4 images)")


def test_rows_say_which_photograph_and_which_pixels(fakes, images, tmp_path):
    rows = run(experiment(images), tmp_path / "rows")
    assert (rows.group == rows.image).all() and rows.groupby("image").hr.nunique().eq(1).all()
    assert rows.hr.nunique() == 4 and rows.lr.nunique() == 8 and rows.hr.str.fullmatch(r"[0-9a-f]{12}").all()
    one = rows[(rows.image == "02") & (rows.downscaler == "box")].iloc[0]
    hr, lr = pairs.pair(experiment(images), "02", "box")
    assert (one.hr, one.lr) == (pairs.hash_of(hr), pairs.hash_of(lr))
    assert pairs.hash_of(lr) != pairs.hash_of(lr.reshape(1, 3, 2, 8))
    library = experiment(images, dataset="library", images=["astronaut_y000_x000"])
    assert set(run(library, tmp_path / "rows").group) == {"astronaut"}


def test_rows_of_another_photograph_are_corrected_without_being_computed(fakes, images, tmp_path, monkeypatch):
    manifest, files = Path(images, "m.csv"), [f"0{i}.png" for i in range(4)]
    manifest.write_text("\n".join(["file", *files]))
    one = experiment(manifest, images=["00", "01", "02", "03"])
    first = run(one, tmp_path / "rows")
    manifest.write_text("\n".join(["file,group", *(f"{file},P" for file in files)]))
    with monkeypatch.context() as patch:
        patch.setattr(cell, "score", None)
        summary = driver.plan(one, tmp_path / "rows").summary
        with pytest.warns(UserWarning, match=r"photograph \(column group\) changed for 24 rows \(4 images\)"):
            rows = run(one, tmp_path / "rows")
    assert summary == "all 24 rows are there" and rows.value.tolist() == first.value.tolist()
    stored = results.read(tmp_path / "rows")
    assert set(rows.group) == set(stored.group) == {"P"} and len(stored) == 24
    manifest.write_text("\n".join(["file,group", *(f"{file},P" for file in files[:3]), "03.png,"]))
    more = run(replace(one, n_samples=4), tmp_path / "rows")
    assert set(more[more.image != "03"].group) == {"P"} and set(more[more.image == "03"].group) == {"03"}
    assert len(more) == 32 and results.read(tmp_path / "rows").group.tolist() == more.group.tolist()


def test_a_trusted_downscaler_is_not_called_and_its_rows_say_so(fakes, images, tmp_path):
    spec = own_file(tmp_path / "own")
    one = experiment(images, downscalers=["box", ("mine", spec)])
    first = run(one, tmp_path / "rows")
    own_file(tmp_path / "own", offset=1)
    rows = run(one, tmp_path / "rows", trust=["mine"])
    assert rows.value.tolist() == first.value.tolist()
    assert (rows.lr.str.endswith(" trusted") == (rows.downscaler == "mine")).all()
    assert driver.plan(one, tmp_path / "rows", trust=["mine"]).summary == "all 24 rows are there"
    again(one, tmp_path, "12 rows stale: 12 LR pixels changed (mine on 4 images)")
    more = run(experiment(images, downscalers=[("mine", spec)], n_samples=4), tmp_path / "rows", trust=["mine"])
    assert more.lr.str.endswith(" trusted").all()
    stored = results.read(tmp_path / "rows", keys=[tuple(key) for key in more[list(results.KEY)].to_numpy()])
    assert list(stored.lr.str.endswith(" trusted")) == list(stored["sample"] == 3)  # written by the run that trusts
    assert not run(one, tmp_path / "rows").lr.str.endswith(" trusted").any()
    with pytest.raises(ValueError, match="trust: expected names among box, mine, got other"):
        run(one, tmp_path / "rows", trust=["other"])


def test_rows_of_a_trusted_cell_are_of_one_lr_image(fakes, images, tmp_path):
    one = experiment(images, downscalers=[("mine", own_file(tmp_path / "own"))])
    run(one, tmp_path / "rows", trust=["mine"])
    own_file(tmp_path / "own", offset=1)
    four = replace(one, n_samples=4)
    with pytest.warns(UserWarning, match=r"16 rows stale: 16 LR pixels differ between rows of one cell \(mine on 4 im"):
        rows = run(four, tmp_path / "rows", trust=["mine"])
    assert rows.value.tolist() == fresh(four, tmp_path) and rows.groupby("image").lr.nunique().eq(1).all()
    assert driver.plan(four, tmp_path / "rows", trust=["mine"]).summary == "all 16 rows are there"
    assert run(four, tmp_path / "rows", trust=["mine"]).equals(rows)


def test_what_failed_for_a_trusted_downscaler_is_tried_again_once_it_works(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 4, black=[1]), downscalers=["box", picky(tmp_path)])
    assert len(run(one, tmp_path / "rows", trust=["picky"])) == 21
    assert len(run(one, tmp_path / "rows", trust=["picky"])) == 21
    (tmp_path / "cured").touch()
    rows = run(one, tmp_path / "rows", trust=["picky"])
    assert len(rows) == 24 and left_out(one, tmp_path / "rows") == ""


def test_checks_run_on_workers(fakes, images, tmp_path):
    one = experiment(images, downscalers=["box", own_file(tmp_path / "own")])
    with workers() as client:
        run(one, tmp_path / "rows", client)
        own_file(tmp_path / "own", offset=1)
        assert "12 rows stale: 12 LR pixels changed" in driver.plan(one, tmp_path / "rows", client).summary
        with pytest.warns(UserWarning, match="12 rows stale"):
            rows = run(one, tmp_path / "rows", client)
        assert rows.value.tolist() == fresh(one, tmp_path)
        assert driver.plan(one, tmp_path / "rows", client).summary == "all 24 rows are there"


def test_a_stale_row_that_cannot_be_computed_anew_is_not_returned(fakes, images, tmp_path):
    lr = tmp_path / "lr"
    lr.mkdir()
    for path in Path(images).glob("*.png"):
        Image.open(path).resize((4, 4)).save(lr / path.name)
    one = experiment(images, downscalers=["box", ("mine", f"folder: {lr}")])
    run(one, tmp_path / "rows")
    Image.new("RGB", (5, 5)).save(lr / "02.png")
    with (
        pytest.warns(UserWarning, match="3 rows stale: 3 no LR image: ValueError: .*5x5"),
        pytest.warns(UserWarning, match="could not be looked at: ValueError: 02.png: .*got 5x5"),
    ):
        rows = run(one, tmp_path / "rows")
    assert len(rows) == 21 and set(rows[rows.image == "02"].downscaler) == {"box"}
    assert left_out(one, tmp_path / "rows").startswith("set aside, 1 of 4 images: 02 for mine (ValueError: ")


def test_memory_of_hashes_notices_a_file_that_keeps_its_size_and_date(fakes, images, tmp_path):
    """The inode's own date moves, which no tool sets back."""
    path = Path(images, "01.png")
    for each in Path(images).iterdir():
        os.utime(each, ns=(10**18, 10**18))
    time.sleep(2.1)
    one = experiment(images)
    run(one, tmp_path / "rows")
    run(one, tmp_path / "rows")
    assert checks._stamp(one, "01") in checks._hashes
    data = path.read_bytes()
    picture(path, 1)
    path.write_bytes(path.read_bytes()[: len(data)].ljust(len(data), b"\0"))
    os.utime(path, ns=(10**18, 10**18))
    assert driver.plan(one, tmp_path / "rows").summary.startswith("6 of 24 rows missing")


# ---- what is set aside

PICKY = """
from pathlib import Path


def picky(hr, scale):
    if hr.max() == 0 and not Path(__file__).with_name("cured").exists():
        raise ValueError("too dark")
    return hr[..., ::scale, ::scale]
"""


def picky(tmp_path, text=PICKY):
    path = tmp_path / "picky.py"
    path.write_text(text)
    return "picky", f"{path}:picky"


def said(one, rows_dir):
    return left_out(one, rows_dir), driver.plan(one, rows_dir).summary.partition("; ")[2]


def test_an_image_that_fails_for_one_downscaler_keeps_the_rows_of_the_others(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 4, black=[1]), downscalers=["box", picky(tmp_path)])
    rows = run(one, tmp_path / "rows")
    assert len(rows) == 4 * 3 + 3 * 3 and set(rows[rows.image == "01"].downscaler) == {"box"}
    words = "set aside, 1 of 4 images: 01 for picky (ValueError: too dark)"
    assert said(one, tmp_path / "rows") == (words, words)
    assert tables.caption(rows).startswith("4 photographs, 3 images scored everywhere; ")
    pair = rankings.paired(rows).iloc[0]
    assert pair.n == 3  # those that both have
    before = (tmp_path / "rows" / "aside.csv").read_bytes()
    assert run(one, tmp_path / "rows").equals(rows) and (tmp_path / "rows" / "aside.csv").read_bytes() == before
    (tmp_path / "cured").touch()  # the fix is in no file that a name tells of
    assert len(run(one, tmp_path / "rows")) == 24 and said(one, tmp_path / "rows") == ("", "")
    assert results.aside(tmp_path / "rows").empty


def test_a_cell_that_works_again_is_no_longer_set_aside(fakes, tmp_path):
    one = experiment(write_images(tmp_path / "images", 4, black=[1]), downscalers=["box", picky(tmp_path)])
    cured = tmp_path / "cured"
    cured.touch()
    rows = run(one, tmp_path / "rows")
    cured.unlink()
    assert len(run(one, tmp_path / "rows")) == 21 and "01 for picky" in left_out(one, tmp_path / "rows")
    cured.touch()  # its older rows count again, and nothing is left to compute
    assert driver.plan(one, tmp_path / "rows").summary == "all 24 rows are there"
    assert run(one, tmp_path / "rows").equals(rows) and said(one, tmp_path / "rows") == ("", "")
    assert results.aside(tmp_path / "rows").empty


def test_what_failed_is_tried_again_once_its_pixels_change(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 4, black=[1])
    one = experiment(folder, upscaler="fake_refuses")
    assert len(run(one, tmp_path / "rows")) == 18
    entry = results.aside(tmp_path / "rows").iloc[0]
    assert (entry.hr, entry.lr) == tuple(map(pairs.hash_of, pairs.pair(one, "01", "box")))
    tries = len(list(fakes.glob("try *")))
    run(one, tmp_path / "rows")
    assert len(list(fakes.glob("try *"))) == tries == 2  # not again: nothing has changed
    picture(Path(folder, "01.png"), 1)
    assert len(run(one, tmp_path / "rows")) == 24 and results.aside(tmp_path / "rows").empty


def test_an_unreadable_image_is_tried_again_once_it_can_be_read(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 4)
    good = Path(folder, "01.png").read_bytes()
    Path(folder, "01.png").write_bytes(good[:60])
    one = experiment(folder)
    assert len(run(one, tmp_path / "rows")) == 18
    assert left_out(one, tmp_path / "rows").startswith("set aside, 1 of 4 images: 01 (ValueError: ")
    assert len(run(one, tmp_path / "rows")) == 18
    Path(folder, "01.png").write_bytes(good)
    assert len(run(one, tmp_path / "rows")) == 24 and left_out(one, tmp_path / "rows") == ""


def test_what_failed_under_one_distortion_or_degradation_is_not_lost_for_another(fakes, tmp_path, monkeypatch):
    folder = write_images(tmp_path / "images", 4)
    with pytest.raises(RuntimeError, match="all failed"):  # 16 pixels are too few for MS-SSIM
        run(experiment(folder, distortion="ms_ssim"), tmp_path / "rows")
    assert len(run(experiment(folder, distortion="mse"), tmp_path / "rows")) == 24

    def bad(images, level, generator):
        raise ValueError("no")

    monkeypatch.setitem(pairs.degradations.DEGRADATIONS, "blur", bad)
    one = experiment(folder, degradations=[("", None), ("blur", 1.0), ("noise", 0.1)])
    assert len(run(one, tmp_path / "rows")) == 48
    words = "00, 01, 02, 03 for box after blur 1.0, nearest after blur 1.0 (ValueError: no)"
    assert left_out(one, tmp_path / "rows") == f"set aside, 4 of 4 images: {words}"


def test_a_downscaler_that_fails_everywhere_stops_no_other_and_is_given_up_after_three_images(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 6)
    broken = picky(tmp_path, PICKY.replace("hr.max() == 0", "open(__file__ + '.calls', 'a').write('x')"))
    one = experiment(folder, downscalers=["box", broken])
    with (
        pytest.warns(UserWarning, match="downscaler 'picky': not tried after 00, 01, 02: ValueError: too dark"),
        pytest.warns(UserWarning, match="downscaler 'picky' could not be looked at: ValueError: too dark"),
    ):
        rows = run(one, tmp_path / "rows")
    calls = tmp_path / "picky.py.calls"
    assert len(rows) == 18 and set(rows.downscaler) == {"box"} and calls.read_text() == "xxxx"  # once the chart
    aside = results.aside(tmp_path / "rows")
    assert aside.image.tolist() == one.images and aside.reason.str.contains("too dark").all()
    assert "6 of 6 images: 00, 01, 02 for picky (ValueError: too dark); 03" in left_out(one, tmp_path / "rows")
    run(one, tmp_path / "rows")
    assert calls.read_text() == "xxxx" + "xxx"  # each run asks three times, not of every image
    (tmp_path / "cured").touch()
    assert len(run(one, tmp_path / "rows")) == 36 and left_out(one, tmp_path / "rows") == ""
    alone = experiment(folder, downscalers=[picky(tmp_path, PICKY.replace("if hr.max() == 0 and", "if True or"))])
    with pytest.raises(RuntimeError, match="00, 01, 02 all failed, the last: too dark"):
        run(alone, tmp_path / "alone")
    assert results.aside(tmp_path / "alone").empty


@pytest.mark.parametrize("how", ["together", "added"])
def test_a_downscaler_that_fails_on_its_first_images_has_its_others_scored_by_the_next_run(fakes, tmp_path, how):
    folder = write_images(tmp_path / "images", 6, black=[0, 1, 2])
    one = experiment(folder, downscalers=["box", picky(tmp_path)])
    if how == "added":
        run(replace(one, downscalers=["box"]), tmp_path / "rows")
    with pytest.warns(UserWarning, match="'picky': not tried after 00, 01, 02: ValueError: too dark; once it works"):
        rows = run(one, tmp_path / "rows")
    assert len(rows) == 18 and left_out(one, tmp_path / "rows").startswith("set aside, 6 of 6 images: ")
    for _ in range(2):
        assert len(run(one, tmp_path / "rows")) == 27
        assert left_out(one, tmp_path / "rows").startswith("set aside, 3 of 6 images: 00, 01, 02 for picky (Val")
    assert len(run(one, tmp_path / "rows", retry_aside=True)) == 27


def six_of_which_three_fail_now(tmp_path):
    """An experiment whose rows are all there, of a downscaler that by now fails on the first three images."""
    one = experiment(
        write_images(tmp_path / "images", 6, black=[0, 1, 2]), downscalers=["box", picky(tmp_path)], n_samples=1
    )
    (tmp_path / "cured").touch()
    run(one, tmp_path / "rows")
    (tmp_path / "cured").unlink()
    return one


def test_rows_behind_three_failures_are_looked_at_and_hold(fakes, tmp_path, monkeypatch):
    one = six_of_which_three_fail_now(tmp_path)
    score, scored = cell.score, []
    monkeypatch.setattr(cell, "score", lambda *args: scored.append(args[1]) or score(*args))
    with pytest.warns(UserWarning, match=r"rows: 3 rows stale: 3 no LR image: .*dark \(picky on 3 images\); they are"):
        rows = run(one, tmp_path / "rows")
    assert scored == ["00", "01", "02"] and len(rows) == 6 + 3
    assert left_out(one, tmp_path / "rows").startswith("set aside, 3 of 6 images: 00, 01, 02 for picky (Val")


def test_rows_that_nobody_has_looked_at_are_not_called_stale_and_hold_in_the_next_run(fakes, tmp_path, monkeypatch):
    one = six_of_which_three_fail_now(tmp_path)
    unseen = r"3 rows stale: 3 no LR image: .*, 3 rows not looked at: ValueError: too dark \(picky on 3 images\)"
    with monkeypatch.context() as patch:
        patch.setattr(checks, "PATIENCE", -1)
        assert re.search(unseen, driver.plan(one, tmp_path / "rows").summary)
        with pytest.warns(UserWarning, match=unseen):
            rows = run(one, tmp_path / "rows")
        assert len(rows) == 6 and "6 of 6 images: 00, 01, 02 for picky" in left_out(one, tmp_path / "rows")
        before = (tmp_path / "rows" / "local.csv").read_bytes()
        assert len(run(one, tmp_path / "rows")) == 6 + 3
    assert (tmp_path / "rows" / "local.csv").read_bytes() == before  # nothing was computed anew


# ---- rows from before there were hashes


@pytest.fixture(name="older")
def older_fixture(fakes, images, tmp_path):
    """An experiment, and a folder with its rows as a version before 0.5.0 published them."""
    one = experiment(images)
    rows = (
        run(one, tmp_path / "new").drop(columns="checksum").assign(value=0.25, version="0.1.0", group="", hr="", lr="")
    )
    results.append(rows.to_dict("records"), tmp_path / "old")
    results.publish(tmp_path / "old", tmp_path / "rows" / "rows.csv.gz")
    return one


def test_published_rows_without_hashes_are_returned_with_a_warning_where_all_are_there(older, tmp_path):
    words = "published before rows had hashes and not held against the pictures"
    assert driver.plan(older, tmp_path / "rows").summary == f"all 24 rows are there; {words}"
    with pytest.warns(UserWarning, match="24 rows were published before rows had hashes .* nothing was held against"):
        rows = run(older, tmp_path / "rows")
    assert (rows.value == 0.25).all() and not (tmp_path / "rows" / "local.csv").exists()
    part = replace(older, images=["01"])
    with pytest.warns(UserWarning, match="6 rows were published"):
        assert (run(part, tmp_path / "rows").value == 0.25).all()


@pytest.mark.parametrize("many", [False, True])
def test_they_are_never_mixed_with_new_ones(older, tmp_path, many):
    more = replace(older, downscalers=["box", "nearest", "bicubic"])
    both = [older, replace(older, downscalers=["bicubic"])] if many else more
    summary = driver.plan(both, tmp_path / "rows", calibrate=False).summary
    assert "24 rows stale: 24 made before rows had hashes (4 images)" in summary
    with pytest.warns(UserWarning, match="24 rows stale: 24 made before rows had hashes"):
        rows = run(both, tmp_path / "rows")
    assert len(rows) == 36 and not (rows.value == 0.25).any() and (rows.hr != "").all()
    assert set(rows.version) == {results.VERSION}


def test_local_rows_without_hashes_are_stale(older, tmp_path):
    with pytest.warns(UserWarning, match="24 rows stale: 24 made before rows had hashes"):
        rows = run(older, tmp_path / "old")
    assert not (rows.value == 0.25).any() and len(results.read(tmp_path / "old")) == 24


def test_rows_in_bf16_are_other_rows_and_say_so(images, tmp_path):
    rows_dir = tmp_path / "rows"
    plain = experiment(images, upscaler="embedded_flow", n_samples=1, downscalers=["box"])
    before = run(plain, rows_dir)
    fast = replace(plain, precision="bf16")
    assert (plain.precision, fast.precision, fast.upscaler) == ("float32", "bf16", "embedded_flow(precision=bf16)")
    assert replace(fast, images=["00"]).keys() == fast.keys()[:1]
    assert replace(plain, upscaler="embedded_flow(precision=bf16)", precision="") == fast
    assert len(driver.plan(fast, rows_dir, calibrate=False).missing) == len(before)
    after = run(fast, rows_dir)
    assert set(after.upscaler) == {"embedded_flow(precision=bf16)"} and set(before.upscaler) == {"embedded_flow"}
    assert 0 < (after.value - before.value).abs().max() < 2e-3
    assert driver.plan([plain, fast], rows_dir).missing == [] and run(plain, rows_dir).equals(before)
    for other in ("bicubic", "embedded_pulse"):
        with pytest.raises(ValueError, match=f"precision: expected float32 for {other}"):
            replace(plain, upscaler=other, precision="bf16")
