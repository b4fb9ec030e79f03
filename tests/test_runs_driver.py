"""Plans and runs: what is missing, what is refused, what is written, on workers as without."""

import errno
import math
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers import datasets, distortions, files, results, upscalers
from helpers.runs import Experiment, cell, driver, left_out
from helpers.runtime import seeded
from tests.fakes import experiment, fakes_fixture, images_fixture, published, run, workers, write_images  # noqa: F401


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with workers(folder=tmp_path_factory.mktemp("fakes")) as client:
        yield client


def test_a_second_run_computes_only_what_is_missing(fakes, images, tmp_path, monkeypatch):
    two = run(experiment(images, n_samples=2), tmp_path / "rows")
    five = run(experiment(images, n_samples=5, downscalers=["box", "nearest", "bicubic"]), tmp_path / "rows")
    assert len(five) == 4 * 3 * 5
    assert len((tmp_path / "rows" / "local.csv").read_text().splitlines()) == 1 + len(five)  # nothing twice
    again = five[(five["sample"] < 2) & (five.downscaler != "bicubic")]
    assert again.value.tolist() == two.value.tolist()
    monkeypatch.setattr(cell, "score", None)  # nothing is left to compute
    results.publish(tmp_path / "rows", tmp_path / "rows.csv.gz")
    same = run(experiment(images, n_samples=5), tmp_path / "rows.csv.gz")
    assert len(same) == 4 * 2 * 5
    other = experiment(images, seed=1)
    assert driver.plan(other, tmp_path / "rows", calibrate=False).missing == other.keys()


def test_order_batch_and_workers_change_no_row(fakes, images, tmp_path, client):
    one = experiment(images, upscaler="fake_slow")
    run(one, tmp_path / "serial", batch=1)
    run(replace(one, images=one.images[::-1], downscalers=["nearest", "box"]), tmp_path / "back", batch=4)
    run(one, tmp_path / "workers", client)
    assert published(tmp_path / "serial") == published(tmp_path / "back") == published(tmp_path / "workers")


def test_rows_are_the_same_bytes_on_workers_as_in_a_driver_of_two_threads(tmp_path, client):
    names = datasets.names("library", 2, size=96)
    one = Experiment("library", names, ["bicubic"], 4, "embedded_flow", distortion="mse", device="cpu", size=96)
    torch.set_num_threads(2)
    try:
        run(one, tmp_path / "serial")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    run(one, tmp_path / "workers", client)
    assert published(tmp_path / "serial") == published(tmp_path / "workers")


def test_an_image_on_which_a_known_flow_draws_wild_values_is_not_set_aside(tmp_path):
    folder = tmp_path / "wild"
    folder.mkdir()
    grain = torch.randint(256, (12, 12, 3), generator=seeded("wild"), dtype=torch.uint8)
    checkers = ((torch.arange(12)[:, None] + torch.arange(12)) % 2 * 255).byte()[..., None].expand(12, 12, 3)
    for name, levels in (("checkers", checkers), ("grain", grain), ("plain", torch.full_like(grain, 128))):
        levels = levels.repeat_interleave(4, 0).repeat_interleave(4, 1)
        Image.fromarray(levels.numpy()).save(folder / f"{name}.png")
    names = ["checkers", "grain", "plain"]
    one = Experiment(str(folder), names, ["nearest"], 4, "embedded_flow", n_samples=2, distortion="mse")
    rows = run(one, tmp_path / "rows")
    assert rows.image.tolist() == sorted(2 * names) and results.aside(tmp_path / "rows").empty
    assert rows.value[:4].min() > 0.1 > rows.value[4:].max()


def test_f17_nan_draws_are_rows_and_are_not_drawn_again(fakes, images, tmp_path):
    one = experiment(images, upscaler="fake_non_finite", n_samples=10)
    rows = run(one, tmp_path / "rows")
    lost = rows.value.isna()
    assert len(rows) == 80 and 8 <= lost.sum() <= 40
    assert lost[rows.downscaler == "box"].tolist() == lost[rows.downscaler == "nearest"].tolist()  # shared draws
    assert driver.plan(one, tmp_path / "rows").missing == []
    assert ",nan," in (tmp_path / "rows" / "local.csv").read_text()


def test_unknown_names_stop_before_any_image(fakes, images, tmp_path, monkeypatch):
    monkeypatch.setattr(cell, "score", None)
    for bad, named in (
        ({"images": ["00", "77"]}, "images: expected names among the 4 of .*images.: 00, 01, 02, 03; got 77"),
        ({"downscalers": ["bicubik"]}, "did you mean 'bicubic'"),
        ({"downscalers": ["no.such:mine"]}, "expected a module 'no.such'"),
        ({"downscalers": ["nowhere.py:mine"]}, "found none at"),
        ({"upscaler": "bicubic", "heat": 1.0}, "expected heat 0"),
        ({"device": "cuda:99"}, "device"),
        ({"device": "gpu"}, "device"),
    ):
        with pytest.raises(ValueError, match=named):
            run(experiment(images, **bad), tmp_path / "rows")
    assert len(results.read(tmp_path / "rows")) == 0


def test_b44_rows_inside_the_input_folder_are_refused(fakes, images):
    with pytest.raises(ValueError, match="outside the input folder"):
        run(experiment(images), Path(images) / "rows")
    assert sorted(path.name for path in Path(images).iterdir()) == ["00.png", "01.png", "02.png", "03.png"]


def test_seed_zero_is_a_seed(fakes, images, tmp_path):
    zero, one = (run(experiment(images, seed=seed), tmp_path / "rows").value.tolist() for seed in (0, 1))
    assert zero != one and zero == run(experiment(images, seed=0), tmp_path / "other").value.tolist()


def change(column, monkeypatch):
    cell._loaded.cache_clear()
    if column in ("version", "device"):
        made_by = cell._made_by
        monkeypatch.setattr(cell, "_made_by", lambda one: made_by(one) | {column: "another"})
    elif column == "weights":
        monkeypatch.setattr(upscalers, "weights_hash", lambda name, scale: "ba9876543210")
    else:
        monkeypatch.setattr(distortions, "describe", lambda name: "mse 99")


@pytest.mark.parametrize("column", ["version", "device"])
def test_f19_new_rows_do_not_join_rows_made_otherwise(fakes, images, tmp_path, monkeypatch, column):
    run(experiment(images, images=["00", "01"]), tmp_path / "rows")
    change(column, monkeypatch)
    assert len(run(experiment(images, images=["00", "01"]), tmp_path / "rows")) == 12  # nothing new, nothing mixed
    with pytest.raises(ValueError, match=rf"{column} of the rows there is .*, of new rows .*mixed"):
        run(experiment(images), tmp_path / "rows")
    assert len(results.read(tmp_path / "rows")) == 12
    assert len(run(experiment(images), tmp_path / "rows", mixed=(column,))) == 24
    with pytest.raises(ValueError, match=f"column '{column}' holds"):
        run(experiment(images), tmp_path / "rows")


@pytest.mark.parametrize("column", ["weights", "metric"])
def test_f19_rows_of_other_weights_or_of_another_metric_are_computed_anew(fakes, images, tmp_path, monkeypatch, column):
    run(experiment(images, images=["00", "01"]), tmp_path / "rows")
    before = results.read(tmp_path / "rows")[column].iloc[0]
    change(column, monkeypatch)
    mixed = run(experiment(images), tmp_path / "rows", mixed=(column,))
    assert mixed[column].eq(before).sum() == 12
    assert (
        f"12 rows stale: 12 {column} changed (2 images)" in driver.plan(experiment(images), tmp_path / "rows").summary
    )
    with pytest.warns(UserWarning, match=f"12 rows stale: 12 {column} changed"):
        rows = run(experiment(images), tmp_path / "rows")
    assert len(rows) == 24 and rows[column].nunique() == 1 and before not in set(rows[column])


def test_heats_spelt_in_other_ways_are_one_key(fakes, images):
    for spellings in ((1, 1.0, "1", "1.0", " 1.00"), ("1+0.1", "1.0+0.1", "1.0 + .1"), ("1+1", 1, "1.0+1.0")):
        name = "fake" if "+" not in str(spellings[0]) else "embedded_flow_x2+embedded_flow_x2"
        keys = [experiment(images, upscaler=name, heat=heat).keys() for heat in spellings]
        assert all(each == keys[0] for each in keys)
    assert experiment(images, heat=1).heat == 1.0


def test_plan_says_what_is_missing_and_how_long_it_takes(fakes, images, tmp_path, client):
    one = experiment(images, upscaler="fake_slow", images=["00", "01"], downscalers=["box"], n_samples=2)
    rows = run(one, tmp_path / "rows")
    more = experiment(images, upscaler="fake_slow", n_samples=2)
    plan = driver.plan(more, tmp_path / "rows")
    assert len(plan.missing) == 16 - 4 and plan.images == ["00", "01", "02", "03"]
    medians = rows.groupby("downscaler").seconds.median()
    other = rows.seconds.median()  # of the one without rows
    assert plan.seconds == pytest.approx(4 * medians["box"] + 8 * other) and medians["box"] >= 0.015
    assert plan.summary.startswith("12 of 16 rows missing, about ") and plan.summary.endswith(" seconds on cpu")
    halved = driver.plan(more, tmp_path / "rows", client)
    assert halved.seconds == pytest.approx(plan.seconds / 2) and halved.summary.endswith("with 2 workers")
    assert driver.plan(one, tmp_path / "rows").summary == "all 4 rows are there"


def test_plan_without_earlier_rows_computes_one_image_and_keeps_it(fakes, images, tmp_path):
    one = experiment(images, upscaler="fake_slow")
    blind = driver.plan(one, tmp_path / "rows", calibrate=False)
    assert math.isnan(blind.seconds) and blind.summary == "24 of 24 rows missing, time unknown on cpu"
    assert not (tmp_path / "rows").exists()
    plan = driver.plan(one, tmp_path / "rows")
    assert plan.summary.startswith("18 of 24 rows missing, about ") and plan.images == ["01", "02", "03"]
    assert plan.seconds >= 18 * 0.01
    assert len(run(one, tmp_path / "rows")) == 24


@pytest.mark.parametrize(
    "seconds, words", [(0.2, "1 seconds"), (89, "89 seconds"), (200, "3 minutes"), (3e4, "8 hours")]
)
def test_seconds_in_words(seconds, words):
    assert driver._about(seconds) == f"about {words}"


def test_progress_in_a_log_is_a_few_whole_lines(fakes, images, tmp_path, capsys):
    driver.run(experiment(images), tmp_path / "rows")
    out, err = capsys.readouterr()
    lines = [line for line in err.replace("\r", "").split("\n") if line.strip()]
    assert out == "" and 1 <= len(lines) <= 3
    assert "100 % 4/4 images" in lines[-1]


def test_one_more_distortion_computes_its_rows_only(fakes, images, tmp_path):
    run(experiment(images, distortion="mse"), tmp_path)
    before = (tmp_path / "local.csv").read_text()
    rows = run(experiment(images, distortion=["mse", "mse_of_mean"]), tmp_path)
    after = (tmp_path / "local.csv").read_text()
    assert after.startswith(before) and len(rows) == 2 * (before.count("\n") - 1)
    whole = run(experiment(images, distortion=["mse", "mse_of_mean"]), tmp_path.with_name("whole"))
    assert rows.value.tolist() == whole.value.tolist()


def test_several_experiments_are_planned_and_run_together(fakes, images, tmp_path):
    several = [experiment(images, seed=seed, distortion="mse") for seed in (0, 1, 1)]
    planned = driver.plan(several, tmp_path, calibrate=False)
    assert len(planned.missing) == 2 * len(several[0].keys()) and len(planned.images) == 4
    rows = run(several, tmp_path)
    assert len(rows) == 2 * len(several[0].keys()) and set(rows.seed) == {0, 1}
    assert driver.plan(several, tmp_path).summary == f"all {len(rows)} rows are there"


@pytest.mark.parametrize("times", [1, 2])
def test_a_run_names_what_it_sets_aside_in_one_warning_at_its_end(fakes, tmp_path, times):
    folder = write_images(tmp_path / "images", 4, black=[1])
    one = experiment(folder, upscaler="fake_refuses")
    for _ in range(times):  # also a run that has nothing left to compute
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            rows = driver.run([one, replace(one, seed=1)], tmp_path / "rows", progress=False)
    assert len(rows) == 2 * 18
    line = f"{tmp_path / 'rows'}: set aside, 1 of 4 images: 01 (ValueError: nothing to see)"
    assert [str(each.message) for each in said] == [line] and said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(run(replace(one, images=["00", "02"]), tmp_path / "rows")) == 12  # nothing of these


def test_a_run_says_nothing_of_cells_whose_rows_it_returns(fakes, tmp_path):
    folder = write_images(tmp_path / "images", 4)
    one = experiment(folder)
    run(one, tmp_path / "rows")
    line = dict(zip(results.KEY, one.keys()[0], strict=True)) | {"tried": "mse", "hr": "?", "lr": "?"}
    line |= {"weights": "", "version": "", "reason": "ValueError: no"}
    results.set_aside(tmp_path / "rows", [{name: line[name] for name in results.ASIDE}])
    with results.writer(tmp_path / "rows"), warnings.catch_warnings():  # somebody else writes there
        warnings.simplefilter("error")
        assert len(run(one, tmp_path / "rows")) == 24 and len(results.aside(tmp_path / "rows")) == 1
    assert len(run(one, tmp_path / "rows")) == 24 and results.aside(tmp_path / "rows").empty


def test_errors_of_a_correction_are_seen(fakes, images, tmp_path, monkeypatch):
    manifest = Path(images, "m.csv")
    manifest.write_text("\n".join(["file", *(f"0{i}.png" for i in range(4))]))
    one = experiment(manifest, images=["00", "01", "02", "03"])
    run(one, tmp_path / "rows")
    manifest.write_text("\n".join(["file,group", *(f"0{i}.png,P" for i in range(4))]))

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(files, "append", full)
        run(one, tmp_path / "rows")
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="a mistake of ours"):
        patch.setattr(results, "set_aside", lambda *args: (_ for _ in ()).throw(ValueError("a mistake of ours")))
        run(one, tmp_path / "rows")
    results.publish(tmp_path / "rows", tmp_path / "rows.csv.gz")
    rows = run(one, tmp_path / "rows.csv.gz")  # nobody writes there
    assert len(rows) == 24 and set(rows.group) == {"P"}
    assert set(run(one, tmp_path / "rows").group) == set(results.read(tmp_path / "rows").group) == {"P"}


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"experiment": None}, "experiment: expected an Experiment, or several in a list, got None"),
        ({"experiment": []}, r"experiment: expected an Experiment, or several in a list, got \[\]"),
        ({"experiment": "library"}, "experiment: expected an Experiment, .* got 'library'"),
        ({"experiment": {"dataset": "library"}}, "experiment: expected an Experiment"),
        ({"rows_dir": None}, "rows_dir: expected a folder as text or path, got None"),
        ({"rows_dir": ""}, "rows_dir: expected a folder as text or path, got ''"),
        ({"rows_dir": b"rows"}, "rows_dir: expected a folder as text or path, got b'rows'"),
        ({"client": 2}, r"client: expected None or a Client of Dask, as runs.local\(2\) makes one, got 2"),
        ({"mixed": "weights"}, "mixed: expected names in a list, got 'weights'"),
        ({"mixed": None}, "mixed: expected names in a list, got None"),
        ({"trust": "box"}, "trust: expected names in a list, got 'box'"),
        ({"batch": 0}, "batch: expected an integer of at least 1, got 0"),
        ({"batch": "8"}, "batch: expected an integer of at least 1, got '8'"),
        ({"batch": True}, "batch: expected an integer of at least 1, got True"),
        ({"limit": 0}, "limit: expected an integer of at least 1, got 0"),
        ({"limit": -1}, "limit: expected an integer of at least 1, got -1"),
        ({"deadline": 0}, "deadline: expected None or seconds above 0, got 0"),
        ({"deadline": "60"}, "deadline: expected None or seconds above 0, got '60'"),
        ({"deadline": math.nan}, "deadline: expected None or seconds above 0, got nan"),
        ({"batch": 0, "limit": 0, "trust": "box"}, "batch: .*; limit: .*; trust: "),
    ],
)
def test_arguments_of_the_wrong_kind_are_named_before_anything_is_done(
    fakes, images, tmp_path, monkeypatch, wrong, message
):
    monkeypatch.setattr(cell, "score", None)
    given = {"experiment": experiment(images), "rows_dir": tmp_path / "rows"} | wrong
    with pytest.raises(ValueError, match=message):
        driver.run(**given, progress=False)
    if not wrong.keys() & {"batch", "limit", "deadline"}:
        with pytest.raises(ValueError, match=message):
            driver.plan(**given)
    if wrong.keys() & {"experiment", "rows_dir"} and wrong not in ({"experiment": []}, {"rows_dir": ""}):
        with pytest.raises(ValueError, match="expected an Experiment, or several in a list, and a folder of rows, got"):
            left_out(given["experiment"], given["rows_dir"])
    assert not (tmp_path / "rows").exists()
