"""What notebooks share: the check of their parameters, D, images, published rows, photographs, the record of a run."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from helpers import distortions, notebook, results, runs, upscalers
from helpers.images import write_rgb

CELL = """seed = 0  # first part of every random key
heat = 1.0
flag = False
names = ["a"]  # = "text"
options = {"steps": 100}
"""


def kernel(*cells, **changes):
    """The globals of a kernel that ran these cells."""
    space = {"In": ["", *cells]}
    for cell in cells:
        exec(cell, space)
    return space | changes


def test_the_parameters_cell_says_names_and_types():
    notebook.check(kernel(CELL))
    notebook.check(kernel(CELL, "# Parameters\nseed = 3\nheat = 2\nnames = []\n"))  # an int is a float, too
    notebook.check(kernel("scratch = 1", CELL, "print", "seed = 4"))  # in any order: the cell with most literals


def test_b38_unknown_names_stop_it_with_the_name_that_was_meant():
    with pytest.raises(ValueError, match="unknown parameter 'sede'; did you mean 'seed'") as error:
        notebook.check(kernel(CELL, "# Parameters\nsede = 1\nxyz = 2\n"))
    assert "unknown parameter 'xyz'; known: seed, heat, flag, names, options" in str(error.value)
    notebook.check(kernel(CELL, "# Parameters\nsede = 1\n", "# Parameters\nseed = 1\n"))  # corrected and run again


def test_b40_types_are_strict_and_all_problems_come_at_once():
    wrong = {"seed": True, "heat": "1.0", "flag": 1, "names": "a", "options": []}
    with pytest.raises(ValueError) as error:
        notebook.check(kernel(CELL, **wrong))
    for name, kind, got in (
        ("seed", "int", "bool True"), ("heat", "float or '1.0+0.1'", "str '1.0'"), ("flag", "bool", "int 1"),
        ("names", "list", "str 'a'"), ("options", "dict", "list []"),
    ):  # fmt: skip
        assert f"{name}: expected {kind}, got {got}" in str(error.value)
    assert "names: expected list, got str 'a'; papermill takes it by -y 'names: ...'" in str(error.value)
    with pytest.raises(ValueError, match="seed: expected int, got float 0.5"):
        notebook.check(kernel(CELL, CELL.replace("seed = 0", "seed = 0.5")))  # an edit in the session
    with pytest.raises(ValueError, match="heat: expected float or .1.0.0.1., got NoneType None"):
        notebook.check({"seed": 1}, {"seed": 0, "heat": 1.0})


def test_without_a_kernel_defaults_are_needed():
    space = {"seed": 1}
    with pytest.raises(ValueError, match="expected a cell of literals.* or `defaults`"):
        notebook.check(space)
    with pytest.raises(ValueError, match="expected a cell of literals"):
        notebook.check(kernel("import math", "n = math.floor(2.5)"))
    notebook.check(space, {"seed": 0})
    notebook.check(space | {"In": [CELL]}, {"seed": 0})


def test_literals_are_read_and_nothing_is_run():
    assert notebook.literals("a = 1  # one\nb = [\n    2,\n    -3.0,\n]\n") == {"a": 1, "b": [2, -3.0]}
    for source in ("%matplotlib inline", "a = f()", "a += 1", "a.b = 1", "print(1)", ""):
        assert notebook.literals(source) == {}


@pytest.mark.parametrize(
    "name, missing, offline, chosen, why",
    [
        ("auto", None, {}, "lpips", "the paper's, its backbone"),
        ("auto", "no AlexNet", {}, "lpips_embedded", "not the paper's, no AlexNet"),
        ("auto", "no AlexNet", {"offline": "1-ms_ssim"}, "1-ms_ssim", "not the paper's, no AlexNet"),
        ("mse", "no AlexNet", {}, "mse", "asked for"),
    ],
)
def test_d_is_the_papers_where_it_can_be(monkeypatch, capsys, name, missing, offline, chosen, why):
    monkeypatch.setattr(distortions, "available", lambda name: missing)
    assert notebook.distortion(name, **offline) == chosen
    said = capsys.readouterr().out
    assert said.startswith(f"D = {chosen} [{distortions.describe(chosen)}]: ") and why in said


def test_images_are_large_enough_for_every_d_and_the_others_are_named(tmp_path, capsys, picture):
    for name, side in (("a", 200), ("b", 100), ("c", 8)):
        write_rgb(picture(side), tmp_path / f"{name}.png")
    assert notebook.images(str(tmp_path), 4, ["1-ms_ssim", "mse"]) == ["a"]
    assert "set aside: b, 100x100 is too small" in capsys.readouterr().out
    assert notebook.images(str(tmp_path), 4, "1-ssim") == ["a", "b"]
    assert notebook.images(str(tmp_path), 4, "1-ssim", minimum_side=150, n_images=1) == ["a"]
    assert notebook.images(str(tmp_path), 3) == ["a", "b", "c"]
    assert "cropped to a multiple of 3: a, b, c" in capsys.readouterr().out


@pytest.fixture
def picture():
    import torch

    return lambda side: torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(side))


def row(**changes) -> dict:
    line = dict.fromkeys(results.COLUMNS[:-1], "") | {"image": "a", "downscaler": "bicubic", "scale": 4, "seed": 0}
    line |= {"sample": 0, "heat": 1.0, "distortion": "mse", "value": 0.5, "height": 8, "width": 8, "weights": "w1"}
    return line | {"metric": line["distortion"], "version": "1"} | changes


def test_published_rows_are_those_of_the_runs_draws_and_networks(tmp_path, capsys):
    draws = [row(), row(sample=1), row(degradation="noise", level=0.1, where="after"), row(heat="1.0+0.1", scale=16)]
    lpips = [one | {"distortion": "lpips", "metric": "LPIPS"} for one in draws]
    lpips += [lpips[0] | change for change in ({"image": "b"}, {"sample": 2}, {"seed": 1}, {"degradation": "blur"})]
    for name, lines in (("own", draws), ("other", lpips), ("retrained", [one | {"weights": "w2"} for one in lpips])):
        results.append(lines, tmp_path / name)
        results.publish(tmp_path / name, tmp_path / f"{name}.csv.gz")
    rows = results.read(tmp_path / "own")
    found = notebook.published(str(tmp_path / "other.csv.gz"), rows)
    assert len(found) == 4 and set(found.distortion) == {"lpips"}
    assert capsys.readouterr().out == "other.csv.gz: 4 of 4 draws of this run; LPIPS\n"
    assert notebook.published(str(tmp_path / "retrained.csv.gz"), rows).empty
    assert "retrained.csv.gz: 0 of 4 draws of this run\n" in capsys.readouterr().out
    for change in ({"hr": "1"}, {"lr": "2"}, {"version": "2"}):  # other pictures, or the draws of another version
        assert notebook.published(str(tmp_path / "other.csv.gz"), rows.assign(**change)).empty
    assert len(notebook.published(str(tmp_path / "other.csv.gz"), rows.assign(lr=results.TRUSTED))) == 4
    capsys.readouterr()
    nothing = notebook.published("", rows)
    assert nothing.empty and list(nothing) == list(rows) and not capsys.readouterr().out
    with pytest.raises(ValueError, match="expected a file of published rows or ''"):
        notebook.published(str(tmp_path / "nowhere.csv.gz"), rows)


def test_published_rows_decide_only_where_they_cover_every_draw(capsys):
    own = pd.DataFrame([row(), row(sample=1)])
    stored = own.assign(distortion="lpips", metric="LPIPS")
    both, metrics = notebook.with_published(own, stored, ["mse"])
    assert metrics == ["lpips", "mse"] and len(both) == 4 and not capsys.readouterr().out
    both, metrics = notebook.with_published(own, stored[:1], ["mse"])
    assert metrics == ["mse"] and len(both) == 2
    assert "left out: 1 draws of this run have none" in capsys.readouterr().out
    assert notebook.with_published(own, stored[:0], ["mse"])[1] == ["mse"] and not capsys.readouterr().out


def test_a_run_is_signed_with_what_made_it_and_how_long_it_took():
    signed = notebook.this_run("cpu", weights="w1", **{"D of the rows": "LPIPS"})["this run"]
    assert signed["device"] == "cpu" and signed["torch"] and signed["weights"] == "w1"
    assert signed["D of the rows"] == "LPIPS" and signed.index[-1] == "seconds" and signed["seconds"][:6] == "about "


# values ----------------------------------------------------------------------------------------------------------


def refused(cell: str, **changes) -> str:
    """The message with which a notebook stops whose kernel ran this parameters cell."""
    with pytest.raises(ValueError) as error:
        notebook.check(kernel(cell, **changes))
    return str(error.value)


def test_a_heat_is_a_number_or_one_for_each_stage_of_a_cascade():
    for heat in (0, 1.1, "1.0+0.1", "1+0.5+0"):
        notebook.check(kernel(CELL, heat=heat))
    for heat in ("1.0", "a+b", "1+", "nan+1", None, [1.0], True):
        assert f"heat: expected float or '1.0+0.1', got {type(heat).__name__} {heat!r}" in refused(CELL, heat=heat)
    assert "heat: expected 0 or more" in refused(CELL, heat=-0.5) and "0 or more" in refused(CELL, heat="1.0+-0.1")


def test_nan_and_infinity_are_no_numbers_wherever_they_stand():
    cell = "heat = 1.0\nlevels = [0.5]\npairs = [['noise', 0.1]]\noptions = {'a': 1.0}\n"
    for wrong in (float("nan"), float("inf"), -float("inf")):
        for name, value in (("heat", wrong), ("levels", [0.5, wrong]), ("pairs", [["noise", wrong]]),
                            ("options", {"a": wrong})):  # fmt: skip
            assert f"{name}: expected finite numbers, got {value!r}" in refused(cell, **{name: value})


def test_entries_of_a_list_are_of_the_kinds_of_its_default():
    cell = (
        "scales = [2, 4]\nnames = ['a']\nmixed = [1.0, '1.0+0.1']\npairs = [['noise', 0.05]]\nmore = [{}]\nnone = []\n"
    )
    fine = {"scales": [], "mixed": ["2", 3], "pairs": [["blur", 1], ["flow", "1.0+0.1"]], "none": [{}, 1, "x"]}
    notebook.check(kernel(cell, **fine))
    for name, value, what in (
        ("scales", [2, "4"], "list of int, got '4' in it"), ("scales", [2.5], "list of int, got 2.5"),
        ("scales", [True], "list of int, got True"), ("names", [1], "list of str, got 1"),
        ("mixed", [None], "list of float or str, got None"),
        ("pairs", ["noise", 0.05], "list of [str, float], got 'noise'"),
        ("pairs", [["noise"]], "list of [str, float], got ['noise']"), ("more", ["a"], "list of dict, got 'a'"),
    ):  # fmt: skip
        assert f"{name}: expected a {what}" in refused(cell, **{name: value})


def test_own_downscalers_are_a_text_a_list_or_a_mapping_and_must_be_there(tmp_path):
    (mine := tmp_path / "my own.py").write_text("def f(hr, scale):\n    return hr\n")
    cell = 'downscaler = ""\ndownscalers = ["bicubic"]\n'
    for value, specs in (
        ("", []), (f"{mine}:f", [f"{mine}:f"]), ([f"{mine}:f", "box"], [f"{mine}:f", "box"]), ({}, []),
        ({"ours": f"{mine}:f", "theirs": "box"}, [("ours", f"{mine}:f"), ("theirs", "box")]),
    ):  # fmt: skip
        notebook.check(kernel(cell, downscaler=value))
        assert notebook.own(value) == specs
    for value in ({"ours": 1}, [""], 3, [["a"]], {1: "box"}):
        message = refused(cell, downscaler=value)
        assert "downscaler: expected str, a list of texts, or a mapping of names to texts, got " in message
    message = refused(cell, downscaler={"a": "nowhere.py:f", "b": "folder: nowhere"}, downscalers=["bicubci"])
    assert f"found none at {Path.cwd() / 'nowhere.py'}" in message and "did you mean 'bicubic'?" in message
    assert f"(a relative path starts in {Path.cwd()}: {Path.cwd() / 'nowhere'})" in message


def test_values_that_no_notebook_can_work_with_stop_it_at_once():
    cell = 'n_samples = 5\nworkers = 2\nn_faces = 0\nscales = [2]\ndistortion = "auto"\nalso = ["mse"]\nmargin = 0.02\n'
    notebook.check(kernel(cell, workers=0, distortion="psnr", also=[]))
    message = refused(
        cell, n_samples=0, workers=-1, n_faces=-1, scales=[4, 0], distortion="lpisp", also=["auto"], margin=-1.0
    )
    for part in ("n_samples: expected at least 1, got 0", "workers: expected at least 0, got -1",
                 "n_faces: expected at least 0, got -1", "scales: expected integers above 0, got 0",
                 "distortion: expected auto, lpips", "got 'lpisp'", "also: expected lpips", "got 'auto'",
                 "margin: expected 1e-09 to 1, got -1.0"):  # fmt: skip
        assert part in message
    cell = "n_samples = 5\nscales = [2, 4]\n"
    with pytest.raises(ValueError, match="n_samples: expected at least 2, got 1; scales: .*at least 1, got .]"):
        notebook.check(kernel(cell, n_samples=1, scales=[]), n_samples=2, scales=1)
    notebook.check(kernel(cell, n_samples=2, scales=[2]), n_samples=2, scales=1)
    assert "seed: expected a seed from 0 to 2**63 - 1" in refused("seed = 0\n", seed=2**63)


def test_images_and_files_must_be_there_and_the_message_says_where_it_looked():
    cell = 'dataset = "library"\nn_images = 2\nsize = 256\nlpips_rows = ""\nphotographs = "library"\n'
    notebook.check(kernel(cell, photographs=f"{Path(__file__).parent}:{Path(__file__)}"))
    message = refused(cell, dataset="my photos", lpips_rows="rows.csv.gz", photographs="library:nowhere")
    for name in ("my photos", "rows.csv.gz", "nowhere"):
        assert f"(a relative path starts in {Path.cwd()}: {Path.cwd() / name})" in message
    assert "dataset: my photos: expected a folder of images" in message and "lpips_rows: expected a file" in message
    sets = refused("sets = {}\n", sets={"a": "nowhere", "b": str(Path(__file__).parent)})
    assert "sets: nowhere: expected a folder of images" in sets and str(Path.cwd() / "nowhere") in sets
    assert "n_images: expected 1 to 27" in refused(cell, n_images=900) and "relative" not in refused(cell, n_images=900)


def test_the_parameters_cell_is_the_one_with_the_names_that_were_injected():
    scratch = "\n".join(f"x{k} = {k}" for k in range(9))
    notebook.check(kernel(scratch, CELL, "# Parameters\nseed = 3\n"))
    with pytest.raises(ValueError, match="seed: expected int, got str '3'"):
        notebook.check(kernel(scratch, CELL, "# Parameters\nseed = '3'\n"))
    with pytest.raises(ValueError, match="unknown parameter 'sede'; did you mean 'seed'"):
        notebook.check(kernel(scratch, CELL, "# Parameters\nsede = 1\nheat = 2.0\n"))


def test_upscalers_scales_and_heats_are_checked_together():
    notebook.check_upscalers(("embedded_flow", 4, 1.0), ("embedded_flow_x8+embedded_flow_x2", 16, "1.0+0.1"))
    with pytest.raises(ValueError) as error:
        notebook.check_upscalers(("embedded_flwo", 4, 1.0), ("embedded_flow", 3, 1.0), ("embedded_flow", 4, "1+1"))
    assert (
        "got 'embedded_flwo'; embedded_flow: expected scale 2 or 4 or 8, got 3; embedded_flow_x4_to_x3 upscales"
        in str(error.value)
    )
    assert notebook.spelled("embedded_flow", 1) == ("embedded_flow", 1.0)
    assert notebook.spelled("bicubic_x2 + embedded_flow_x2", "1+0.50") == ("bicubic_x2+embedded_flow_x2", "1.0+0.5")


def test_figures_go_beside_the_rows_and_no_output_into_a_data_set(tmp_path, monkeypatch):
    (photos := tmp_path / "photos").mkdir()
    rows = str(tmp_path / "rows")
    assert notebook.outputs(rows, "", str(photos), "library") == str(tmp_path / "rows" / "figures")
    assert notebook.outputs(rows, str(tmp_path / "f"), str(photos)) == str(tmp_path / "f")
    assert (tmp_path / "f").is_dir()
    for results_dir, figures_dir in ((rows, str(photos / "f")), (str(photos), ""), (rows, str(photos))):
        with pytest.raises(ValueError, match="expected an output folder outside the input folder"):
            notebook.outputs(results_dir, figures_dir, str(photos))
    monkeypatch.chdir(photos)  # as a notebook runs in its own folder, which "" names
    with pytest.raises(ValueError, match="results_dir: expected a folder, got ''"):
        notebook.outputs("", "")
    assert not list(photos.iterdir())


def test_a_metric_of_which_more_is_better_is_taken_in_its_lower_is_better_form(capsys):
    assert notebook.distortion("psnr") == "mse" and notebook.distortion("ssim") == "1-ssim"
    assert "D = mse [mse over RGB" in (said := capsys.readouterr().out) and "the lower-is-better form of psnr" in said


def test_every_folder_of_lr_images_is_decoded_and_images_without_one_are_left_out(tmp_path, capsys, picture):
    for folder, side in (("hr", 32), ("one", 8), ("two", 8)):
        for name in "abc":
            write_rgb(picture(side), tmp_path / folder / f"{name}.png")
    own = [f"folder: {tmp_path / 'one'}", ("theirs", f"folder:{tmp_path / 'two'}"), "bicubic"]
    assert notebook.images(str(tmp_path / "hr"), 4, own=own) == ["a", "b", "c"]
    (tmp_path / "one" / "a.png").write_bytes(b"")
    (tmp_path / "two" / "b.png").write_bytes(b"")
    assert notebook.images(str(tmp_path / "hr"), 4, own=own) == ["c"]
    said = capsys.readouterr().out
    assert "set aside: a, LR: empty file" in said and "set aside: b, LR: empty file" in said
    (tmp_path / "two" / "c.png").unlink()
    with pytest.raises(ValueError, match="no LR image for 1: c"):
        notebook.images(str(tmp_path / "hr"), 4, own=own)


def test_what_was_set_aside_stands_below_every_table_that_is_shown(tmp_path, capsys, monkeypatch):
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    monkeypatch.setattr(notebook, "_aside", {})
    monkeypatch.setattr(notebook, "_in_runs", {})
    monkeypatch.setattr(notebook.runs, "left_out", lambda experiments, folder: experiments)
    table, empty = pd.DataFrame({"mean": [0.25]}, index=["bicubic"]), pd.DataFrame()

    def shown(what):
        return shell.display_formatter.format(what)[0]

    plain = [shown(table), shown(table["mean"]), shown(empty), shown(3)]
    assert notebook.left_out("", str(tmp_path)) == ""
    assert [shown(table), shown(table["mean"]), shown(empty), shown(3)] == plain
    write_rgb(torch.full((1, 3, 8, 8), 0.5), tmp_path / "a.png")
    (tmp_path / "b & c.png").write_bytes(b"")
    assert notebook.images(str(tmp_path), 2) == ["a"]
    words = "Set aside before the run: b & c (empty file (zero bytes))"
    notebook.left_out("set aside, 1 of 2 images: a for mine (dark)", str(tmp_path / "one"))
    notebook.left_out("set aside, 1 of 9 images: z for mine (dim)", str(tmp_path / "two"))
    words += "; set aside, 1 of 2 images: a for mine (dark); set aside, 1 of 9 images: z for mine (dim)."
    assert shown(table)["text/plain"] == plain[0]["text/plain"] + "\n" + words
    assert shown(table)["text/html"] == plain[0]["text/html"] + f"<p>{words.replace('&', '&amp;')}</p>"
    assert shown(table["mean"])["text/plain"].endswith("\n" + words) and shown(empty)["text/plain"].endswith(words)
    assert shown(3) == plain[3] and words in shown(notebook.this_run())["text/html"].replace("&amp;", "&")
    notebook._aside.clear()
    for folder in ("one", "two"):
        notebook.left_out("", str(tmp_path / folder))
    assert shown(table) == plain[0]


def test_what_was_set_aside_before_and_in_the_run_is_named_and_left_beside_the_rows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notebook, "_aside", {})
    monkeypatch.setattr(notebook.runs, "left_out", lambda experiments, folder: experiments)
    assert notebook.left_out("", str(tmp_path)) == "" and not list(tmp_path.iterdir())
    said = notebook.left_out("set aside, 1 of 2 images: a for mine (dark)", str(tmp_path))
    assert said == " Set aside, 1 of 2 images: a for mine (dark)."
    notebook._aside["b"] = "too small"
    words = "set aside before the run: b (too small); set aside, 1 of 2 images: a for mine (dark)"
    assert notebook.left_out("set aside, 1 of 2 images: a for mine (dark)", str(tmp_path)) == f" S{words[1:]}."
    assert capsys.readouterr().out.splitlines()[-1] == words
    assert (tmp_path / notebook.LEFT_OUT).read_text() == f"{words}\n"
    notebook._aside.clear()
    assert notebook.left_out("", str(tmp_path)) == "" and not list(tmp_path.iterdir())


def test_an_own_upscaler_and_distortion_as_parameters(tmp_path, capsys, monkeypatch):
    """Relative paths start in the folder where the notebook runs."""
    monkeypatch.chdir(tmp_path)
    lines = ["def still(lr, generators):"]
    lines += ["    return lr.repeat_interleave(4, 2).repeat_interleave(4, 3).repeat(len(generators), 1, 1, 1)"]
    lines += ["def distance(sr, hr):", "    return (sr - hr).abs().mean((1, 2, 3))"]
    (tmp_path / "mine.py").write_text("\n".join(lines))
    defaults = {"distortion": "auto", "upscaler": "embedded_flow", "heat": 1.0}
    given = {"distortion": "mine.py:distance", "upscaler": "mine.py:still(stochastic=false)", "heat": 0.0}
    notebook.check(given, defaults)
    kernel = {"In": [f"{name} = {value!r}" for name, value in defaults.items()][:1]}
    with pytest.raises(ValueError, match="distortion '.*mine.py:nobody': expected a function 'nobody'"):
        notebook.check({"distortion": "mine.py:nobody"} | kernel)
    notebook.check_upscalers((given["upscaler"], 4, 0.0))
    for name, heat, message in (
        (given["upscaler"], 1.0, "heat: expected 0.0 for 'mine.py:still.stochastic=false.', it has no noise, got 1.0"),
        ("mine.py:still", 0.5, "heat: expected 1.0 for 'mine.py:still', its noise is its own, got 0.5"),
        ("mine.py:nobody", 1.0, "upscaler 'mine.py:nobody': expected a function 'nobody', found distance, still"),
        ("none.py:still", 1.0, "upscaler 'none.py:still': expected a Python file, found none at none.py"),
    ):
        with pytest.raises(ValueError, match=message):
            notebook.check_upscalers((name, 4, heat))
    distance, (still, heat) = notebook.distortion(given["distortion"]), notebook.spelled(given["upscaler"], 0)
    assert f"D = {distance} [{distance}: a function of the reader's, " in capsys.readouterr().out
    one = runs.Experiment("library", ["a"], ["box"], 4, still, heat, distortion=["mse", distance])
    assert (one.upscaler_name, one.metrics) == (still, ["mse", distance]) and one.n_samples == 1
    assert one.upscaler == f"{tmp_path / 'mine.py'}:still(stochastic=false)"
    hr, lr = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 2, 2)
    sr = upscalers.build(still, scale=4, heat=heat)(lr, [torch.Generator()])
    assert distortions.against(distance, hr)(sr).item() == pytest.approx((sr - hr).abs().mean().item())
    with pytest.raises(ValueError, match="distortion: expected auto, .*got 'nothing'"):
        notebook.check({"distortion": "nothing"}, {"distortion": "auto"})


def test_an_executed_notebook_is_saved_in_one_place(tmp_path, monkeypatch):
    """Papermill saves it on the way too, while it is in the notebook's folder."""
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("papermill.execute_notebook", lambda path, output, *_, **how: asked.append((path, output)))
    for output in ("results/a.ipynb", None):
        notebook.execute(Path("notebooks/a.ipynb"), output, {})
    assert asked == [("notebooks/a.ipynb", str(tmp_path / "results" / "a.ipynb")), ("notebooks/a.ipynb", None)]
