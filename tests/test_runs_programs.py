"""A program as an upscaler: its rows, its seed, its output's names, and programs that misbehave."""

import shlex
import sys

import pytest
import torch

from helpers.parameters import check_upscalers, spelled
from helpers.runs import methods, programs
from helpers.runtime import seeded
from tests.fakes import experiment, fakes_fixture, images_fixture, run  # noqa: F401

TOOL = """import random, sys, time
from pathlib import Path
from PIL import Image

source, target, seed, scale, how = *map(Path, sys.argv[1:3]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
source = next(source.iterdir()) if source.is_dir() else source
if how == "fails":
    print("out of memory\\n" * 50 + "at the end", file=sys.stderr)
    sys.exit(3)
if how == "hangs":
    time.sleep(600)
lr = Image.open(source)
sr = lr.resize((lr.width * scale, lr.height * scale), Image.Resampling.NEAREST)
noise = Image.frombytes("RGB", sr.size, random.Random(seed).randbytes(3 * sr.width * sr.height))
sr = Image.blend(sr, noise, 0.1)
sr = sr.crop((0, 0, sr.width - 1, sr.height)) if how == "size" else sr
names = {"writes nothing": [], "twice": ["000000_0.png", "000000_1.png"], "jpeg": ["000000.jpg"],
         "official": ["000000_0.png"], "deep": ["results/000000_out.png"], "another": ["0000001.png"]}
for name in names.get(how, ["000000.png"]):
    path = target / name if target.is_dir() else target
    path.parent.mkdir(exist_ok=True)
    sr.save(path)
"""


@pytest.fixture
def tool(tmp_path):
    """`tool(how, arguments)`: the specification of a program in a folder whose name has a blank."""
    folder = tmp_path / "my tools"
    folder.mkdir()
    path = folder / "tool.py"
    path.write_text(TOOL)

    def spec(how="works", arguments="{input} {output} {seed} {scale}"):
        return f"command: {shlex.quote(sys.executable)} {shlex.quote(str(path))} {arguments} {shlex.quote(how)}"

    spec.path = path
    return spec


def test_rows_of_a_program_hold_one_draw_for_each_seed(images, tool, tmp_path):
    one = experiment(images, upscaler=tool(), n_samples=2, images=["00"])
    rows = run(one, tmp_path / "rows")
    assert set(rows.upscaler) == {tool()} and set(rows.heat) == {1.0} and rows.weights.nunique() == 1
    values = rows.set_index(["downscaler", "sample"]).value
    assert values["box", 0] != values["box", 1]
    again = run(one, tmp_path / "again")
    assert again.value.tolist() == rows.value.tolist()
    named = run(experiment(images, upscaler=("mine", tool()), n_samples=1, images=["00"]), tmp_path / "named")
    assert named.upscaler.str.fullmatch("mine@[0-9a-f]{8}").all()


def test_an_edited_program_makes_its_rows_stale(images, tool, tmp_path):
    one = experiment(images, upscaler=tool(), n_samples=1, images=["00"], downscalers=["box"])
    before = run(one, tmp_path / "rows")
    tool.path.write_text(TOOL.replace("noise, 0.1)", "noise, 0.9)"))
    with pytest.warns(UserWarning, match="stale"):
        after = run(one, tmp_path / "rows")
    assert after.weights[0] != before.weights[0] and after.value[0] > before.value[0]


def test_without_a_seed_a_program_is_run_once_and_has_heat_0(images, tool, tmp_path):
    spec = tool(arguments="{input} {output} 5 {scale}")
    one = experiment(images, upscaler=spec, n_samples=3, images=["00"], downscalers=["box"])
    assert one.heat == 0 and one.n_samples == 1 and len(run(one, tmp_path / "rows")) == 1
    lr = torch.full((1, 3, 4, 5), 0.5)
    sr = methods.upscaler(spec, scale=4, heat=0)(lr, [seeded(0), seeded(1)])
    assert sr.shape == (2, 3, 16, 20) and torch.equal(sr[0], sr[1])
    with pytest.raises(ValueError, match="heat: expected 0.0 for .command: .* it has no noise, got 1.0"):
        experiment(images, upscaler=spec, heat=1.0)
    with pytest.raises(ValueError, match="heat: expected 1.0 for .command: .* its noise is its own, got 0.5"):
        check_upscalers((tool(), 4, 0.5))


@pytest.mark.parametrize("how", ["works", "official", "deep"])
def test_the_file_may_have_the_names_that_official_programs_give(tool, how):
    places = "{inputs} {outputs} {seed} {scale}" if how != "works" else "{input} {output} {seed} {scale}"
    lr = torch.full((1, 3, 4, 5), 0.5)
    upscale = programs.upscaler(tool(how, places), scale=2)
    sr = upscale(lr, [seeded(0), seeded(1), seeded(0)])
    assert sr.shape == (3, 3, 8, 10) and torch.equal(sr[0], sr[2]) and not torch.equal(sr[0], sr[1])
    assert (sr - 0.5).abs().mean() < 0.1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("fails", r"got exit code 3; its last words: (out of memory\n){19}at the end$"),
        ("hangs", "got no end after 0.5 s"),
        ("writes nothing", "expected exit code 0 and an image, got no file"),
        ("another", "expected exit code 0 and an image, got no file"),
        ("twice", "expected one image of 000000, got 000000_0.png, 000000_1.png"),
        ("jpeg", r"000000.jpg: expected a lossless file \(.*PNG.*\); .*, got JPEG"),
        ("size", "000000.png: expected an SR image of 16x20, got 16x19"),
    ],
)
def test_a_program_that_misbehaves_is_one_error(tool, how, said):
    folders = how in ("another", "twice", "jpeg")
    places = "{inputs} {outputs} {seed} {scale}" if folders else "{input} {output} {seed} {scale}"
    upscale = programs.upscaler(tool(how, places), scale=4, timeout=0.5 if how == "hangs" else 60)
    with pytest.raises(ValueError, match=said):
        upscale(torch.full((1, 3, 4, 5), 0.5), [seeded(0)])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "cat {input}",
            r"expected \{input\} or \{inputs\}, \{output\} or \{outputs\}, maybe \{scale\}, maybe \{seed\}",
        ),
        ("cat {input} {output} {sede}", "expected .*, got cat {input} {output} {sede}"),
        ("no-such-tool {input} {output}", "expected a program that can be run, found no 'no-such-tool'"),
        ("cat 'a {input} {output}", "expected arguments as in a shell, .*No closing quotation"),
        ("", "expected {input}"),
    ],
)
def test_a_command_that_cannot_work_is_refused_at_once(template, said):
    with pytest.raises(ValueError, match=said):
        programs.upscaler(f"command: {template}", scale=4)


def test_a_program_that_ignores_its_seed_is_refused_before_the_first_row(images, tool, tmp_path):
    spec = tool(arguments="{input} {output} 7 {scale}") + " {seed}"
    with pytest.raises(ValueError, match="expected two SR images of two generators, got one twice"):
        run(experiment(images, upscaler=spec, images=["00"]), tmp_path / "rows")


def test_a_program_is_a_parameter_of_a_notebook(tool):
    check_upscalers((tool(), 4, 1.0))
    assert spelled(tool(), 1) == (tool(), 1.0)
