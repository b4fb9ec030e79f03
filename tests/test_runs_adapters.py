"""The user's own downscaler: how it is named, what it may return, and what goes wrong outside (B30-B35)."""

import inspect
import os
import re
import sys
import tempfile
import time
import unicodedata
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.utils._device  # else loaded by the first question for the default device
from PIL import Image, PngImagePlugin

from helpers import colour, datasets, runs
from helpers.downscalers import DOWNSCALERS, bicubic
from helpers.downscalers.filters import box
from helpers.images import from_uint8
from helpers.runs import adapters, cell, pairs
from helpers.runs.adapters import card_of, check_downscaler, check_folder, check_pair, resolve
from tests.test_colour import gama, profile
from tests.test_datasets_checks import photograph

TOOL = """
import pathlib, sys, time
from PIL import Image
source, target, flag, scale, behaviour = sys.argv[1:]
image = Image.open(source)
size = (image.width // int(scale), image.height // int(scale))
small = image.resize(size, Image.BICUBIC)
if behaviour == "ok":
    small.save(target)
elif behaviour == "code":
    print("lens cap is on", file=sys.stderr)
    small.save(target)
    sys.exit(3)
elif behaviour == "says":
    print("words on stdout")
elif behaviour == "linear":
    from PIL import PngImagePlugin
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", (100000).to_bytes(4, "big"))
    small.save(target, pnginfo=info)
elif behaviour == "jpeg":
    small.save(target, format="JPEG", quality=95)
elif behaviour == "size":
    image.resize((size[0] + 1, size[1])).save(target)
elif behaviour == "deep":
    Image.fromarray(__import__("numpy").full(size[::-1], 40000, "uint16")).save(target)
elif behaviour == "torn":
    small.save(target)
    whole = pathlib.Path(target).read_bytes()
    pathlib.Path(target).write_bytes(whole[: len(whole) // 2])
elif behaviour == "child":  # a grandchild keeps the output open for a minute
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pathlib.Path(source).parent.parent.joinpath("child.pid").write_text(str(child.pid))
    time.sleep(60)
"""


def picture(n=1, height=24, width=32, seed=0):
    levels = torch.randint(0, 256, (n, 3, height, width), generator=torch.Generator().manual_seed(seed))
    return from_uint8(levels)


def save(images, path, **options):
    Image.fromarray((images[0] * 255).round().byte().permute(1, 2, 0).numpy()).save(path, **options)


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Specification of a command whose own path and temporary folder are full of odd characters."""
    folder = tmp_path / "my tools é {0}"
    folder.mkdir()
    (folder / "shrink it.py").write_text(TOOL)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    script = str(folder / "shrink it.py").replace("{", "{{").replace("}", "}}")
    return lambda behaviour: (
        f'command: "{sys.executable}" "{script}" {{input}} {{output}} --scale {{scale}} {behaviour}'
    )


# --- what a specification may be ----------------------------------------------------------------


def test_names_and_functions():
    assert resolve("bicubic") is DOWNSCALERS["bicubic"]
    assert resolve(bicubic) is bicubic
    assert resolve("helpers.downscalers.filters:box") is box
    assert not hasattr(resolve("bicubic"), "needs_name")


def test_story_1_a_function_in_a_file(tmp_path):
    (tmp_path / "neighbour.py").write_text("FACTOR = 0.5\n")
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "import neighbour\n"
        "@dataclass\n"
        "class Options:\n"
        "    factor: float = neighbour.FACTOR\n"
        "def mine(hr, scale):\n"
        "    return hr[..., ::scale, ::scale] * Options().factor\n"
    )
    path = list(sys.path)
    mine = resolve(f"{tmp_path / 'mine.py'}:mine")
    assert sys.path == path
    assert torch.equal(mine(picture(), 4), picture()[..., ::4, ::4] * 0.5)
    with pytest.raises(ValueError, match="expected a function 'other', found mine"):
        resolve(f"{tmp_path / 'mine.py'}:other")


OWN = """
from helpers import FACTOR, __file__ as whose
import utils
from blocks import block
import numpy

def mine(hr, scale):
    import lazy  # only now
    from lazy import utils as again
    assert again is utils and block.utils is utils
    return hr[..., ::scale, ::scale] * FACTOR * utils.FACTOR * lazy.FACTOR
"""


def test_neighbours_may_have_any_name_and_reach_nobody_else(tmp_path):
    """Two folders have a `helpers.py`, a `utils.py`, a package, and a module that is imported in the call."""
    import helpers

    before, path, loaded = dict(sys.modules), list(sys.path), {}
    for number, folder in ((0.5, tmp_path / "one"), (0.25, tmp_path / "two")):
        (folder / "blocks").mkdir(parents=True)  # a package without __init__.py
        (folder / "blocks" / "block.py").write_text("import utils\n")
        (folder / "helpers.py").write_text(f"FACTOR = {number}\n")
        (folder / "utils.py").write_text("FACTOR = 1.0\nCALLS = []\n" if number == 0.5 else "FACTOR = 0.5\n")
        (folder / "lazy.py").write_text("import utils\nFACTOR = 0.5\n")
        (folder / "mine.py").write_text(OWN)
        loaded[number] = resolve(f"{folder / 'mine.py'}:mine")
    (tmp_path / "one" / "second.py").write_text("import utils\ndef f(hr, scale):\n    return utils.CALLS\n")
    shared = resolve(f"{tmp_path / 'one' / 'second.py'}:f")(picture(), 4)
    hr = picture()
    for _ in range(2):
        assert torch.equal(loaded[0.5](hr, 4), hr[..., ::4, ::4] * 0.25)
        assert torch.equal(loaded[0.25](hr, 4), hr[..., ::4, ::4] * 0.0625)
    first, second = (function.__globals__["utils"] for function in map(inspect.unwrap, loaded.values()))
    assert first is not second and first.CALLS is shared  # files of one folder share their neighbours
    assert loaded[0.5].__module__ != loaded[0.25].__module__ and loaded[0.5].__module__ in sys.modules
    assert sys.modules["helpers"] is helpers and sys.path == path
    assert "utils" not in sys.modules and "lazy" not in sys.modules and "blocks.block" not in sys.modules
    assert all(sys.modules[name] is module for name, module in before.items())
    assert resolve("helpers.downscalers.filters:box") is box


HERE = "import os, sys\nHERE = os.path.dirname(__file__)\n"
LAZY = "class Lazy:\n    @property\n    def N(self):\n        import utils\n        return utils.N\nutils = Lazy()\n"
WAYS = {  # how a file reaches a neighbour of a name that another folder's file uses too; N is the folder's number
    "beside it": {"utils.py": "N = {N}", "mine.py": "import utils\n"},
    "in the call": {"utils.py": "N = {N}", "mine.py": LAZY},
    "a folder put first": {
        "src/utils.py": "N = {N}",
        "mine.py": HERE + "sys.path.insert(0, os.path.join(HERE, 'src'))\nimport utils\n",
    },
    "a folder put last, in the call": {
        "src/utils.py": "N = {N}",
        "mine.py": HERE + "sys.path.append(os.path.join(HERE, 'src'))\n" + LAZY,
    },
    "the folder above": {
        "utils.py": "N = {N}",
        "sub/mine.py": HERE + "sys.path.insert(0, os.path.join(HERE, '..'))\nimport utils\n",
    },
    "relative imports": {
        "pack/__init__.py": "",
        "pack/a.py": "from . import b\nfrom .b import N\n",
        "pack/b.py": "N = {N}",
        "mine.py": "from pack import a as utils\n",
    },
    "a folder without __init__": {"pack/utils.py": "N = {N}", "mine.py": "from pack import utils\n"},
    "import_module": {"utils.py": "N = {N}", "mine.py": "import importlib\nutils = importlib.import_module('utils')\n"},
    "torch.hub": {
        "repo/hubconf.py": "import utils\ndef net():\n    return utils\n",
        "repo/utils.py": "N = {N}",
        "mine.py": HERE + "import torch\nutils = torch.hub.load(os.path.join(HERE, 'repo'), 'net', source='local')\n",
    },
    "a file by its path": {
        "lib/u.py": "N = {N}",
        "mine.py": HERE + "from importlib.util import module_from_spec, spec_from_file_location\n"
        "spec = spec_from_file_location('u', os.path.join(HERE, 'lib', 'u.py'))\n"
        "if 'u' not in sys.modules:\n"
        "    sys.modules['u'] = module_from_spec(spec)\n"
        "    spec.loader.exec_module(sys.modules['u'])\n"
        "import u as utils\n",
    },
    "pickle": {
        "model.py": "class Net:\n    N = {N}\n",
        "mine.py": "import model, pickle\nutils = pickle.loads(pickle.dumps(model.Net()))\n",
    },
    "named random": {"random.py": "N = {N}", "mine.py": "import random as utils\n"},
    "named statistics, in a neighbour": {
        "statistics.py": "N = {N}",
        "other.py": "from statistics import N\n",
        "mine.py": "import other as utils\n",
    },
    "in a package of a folder put last": {
        "src/pack/utils.py": "N = {N}",
        "mine.py": HERE + "sys.path.append(os.path.join(HERE, 'src'))\nfrom pack import utils\n",
    },
    "a neighbour of one named statistics": {
        "statistics.py": "import utils, other\nN = utils.N\nSAME = other.utils is utils\n",
        "utils.py": "N = {N}",
        "other.py": "import utils\n",
        "mine.py": "import statistics as s, utils, other\nassert s.SAME and utils is other.utils is s.utils\n",
    },
    "named numpy": {"numpy.py": "N = {N}", "mine.py": "import numpy as utils\n"},
    "named torch": {"torch/__init__.py": "N = {N}", "mine.py": "import torch as utils\n"},
    "named helpers": {"helpers.py": "N = {N}", "mine.py": "import helpers as utils\n"},
}


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("way", WAYS)
def test_files_of_two_folders_run_their_own_code(tmp_path, way, order):
    for number in order:
        for name, text in WAYS[way].items():
            file = tmp_path / str(number) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            text += "def mine(hr, scale):\n    return hr[..., ::scale, ::scale] * 0 + utils.N\n" * (
                file.name == "mine.py"
            )
            file.write_text(text.replace("{N}", str(number)))
    modules, path, finders = dict(sys.modules), list(sys.path), list(sys.meta_path)
    found = {number: next((tmp_path / str(number)).rglob("mine.py")) for number in order}
    functions = {number: resolve(f"{file}:mine") for number, file in found.items()}
    for _ in range(2):
        for number in order:
            assert functions[number](picture(), 4).unique().tolist() == [number]
    assert resolve(f"{found[order[0]]}:mine")(picture(), 4).unique().tolist() == [order[0]]  # named twice
    assert functions[order[1]](picture(), 4).unique().tolist() == [order[1]]
    assert sys.path == path and sys.meta_path == finders
    assert all(sys.modules[name] is module for name, module in modules.items())
    new = {name: sys.modules[name] for name in sys.modules.keys() - modules.keys() if "downscaler_" not in name}
    assert not [name for name, module in new.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]


def test_a_folder_that_is_put_on_the_path_in_each_call_is_put_there_once(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "utils.py").write_text("N = 0.5\n")
    (tmp_path / "mine.py").write_text(
        f"import sys\ndef mine(hr, scale):\n    sys.path.insert(0, {str(tmp_path / 'src')!r})\n    import utils\n"
        "    return hr[..., ::scale, ::scale] * utils.N + (len(sys.path) > 100)\n"
    )
    mine = resolve(f"{tmp_path / 'mine.py'}:mine")
    for _ in range(100):
        assert torch.equal(mine(picture(), 4), picture()[..., ::4, ::4] * 0.5)


def test_a_library_that_is_imported_first_by_a_users_file_stays(tmp_path, monkeypatch):
    """Also one that widens its own `__path__`, or puts an object of its own in its place."""
    for name, text in (
        ("wide", "__path__.append('elsewhere')\n"),
        ("lazy", "import sys, types\nmodule = types.ModuleType('lazy')\nmodule.__file__ = __file__\n"
                 "sys.modules['lazy'] = module\n"),
    ):  # fmt: skip
        (tmp_path / "installed" / name).mkdir(parents=True)
        (tmp_path / "installed" / name / "__init__.py").write_text(text)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.py").write_text("import wide, lazy\ndef mine(hr, scale):\n    return wide, lazy\n")
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    found = resolve(f"{tmp_path / 'mine' / 'mine.py'}:mine")(picture(), 4)
    assert (sys.modules.get("wide"), sys.modules.get("lazy")) == found
    for name in ("wide", "lazy"):
        monkeypatch.delitem(sys.modules, name)


def test_a_module_that_is_loaded_already_is_not_taken_for_a_neighbour(tmp_path, monkeypatch):
    """The notebook has a `utils` of its own; the file's stands in a folder that it puts on `sys.path` itself."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "utils.py").write_text("N = 0.5\n")
    (tmp_path / "mine.py").write_text(
        f"import sys\nsys.path.append({str(tmp_path / 'src')!r})\nimport utils\n"
        "def mine(hr, scale):\n    return hr[..., ::scale, ::scale] * utils.N\n"
    )
    theirs = ModuleType("utils")
    theirs.N = 0.25
    monkeypatch.setitem(sys.modules, "utils", theirs)
    assert torch.equal(resolve(f"{tmp_path / 'mine.py'}:mine")(picture(), 4), picture()[..., ::4, ::4] * 0.5)
    assert sys.modules["utils"] is theirs


def test_a_library_gets_the_standard_library(tmp_path, monkeypatch):
    """What a library imports for the first time while the user's file runs is not the user's `colorsys.py`."""
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "a_library.py").write_text("import colorsys\nFROM = colorsys.__file__\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "colorsys.py").write_text("N = 0.5\n")
    (tmp_path / "mine" / "mine.py").write_text(
        "import a_library, colorsys\ndef mine(hr, scale):\n    import colorsys\n"
        "    return hr[..., ::scale, ::scale] * colorsys.N\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    for name in ("colorsys", "a_library"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    mine = resolve(f"{tmp_path / 'mine' / 'mine.py'}:mine")
    assert torch.equal(mine(picture(), 4), picture()[..., ::4, ::4] * 0.5)
    assert str(tmp_path) not in sys.modules["a_library"].FROM  # it stays loaded, for everybody
    assert str(tmp_path) not in sys.modules["colorsys"].__file__


def test_an_edited_neighbour_is_read_again_once_it_is_forgotten(tmp_path):
    """Also within the second, of equal length: no cached bytecode."""
    (tmp_path / "mine.py").write_text(
        "import utils\ndef mine(hr, scale):\n    return hr[..., ::scale, ::scale] * utils.N\n"
    )
    for value in ("0.5", "0.1"):
        (tmp_path / "utils.py").write_text(f"N = {value}\n")
        adapters.forget()
        mine = resolve(f"{tmp_path / 'mine.py'}:mine")
        assert torch.equal(mine(picture(), 4), picture()[..., ::4, ::4] * float(value))
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize(
    "line, root, package",
    [("from proj import nbr", "", True), ("from proj import nbr", "", False), ("import proj.nbr as nbr", "", True),
     ("from proj.sub import nbr2 as nbr", "", True), ("import nbr", "proj", False),
     ("import nbr2 as nbr", "proj/sub", False)],
)  # fmt: skip
def test_neighbours_are_read_again_however_they_are_reached(tmp_path, monkeypatch, line, root, package, session):
    """Through the package that contains the file, or with its folder on the path; the session may have them already."""
    (tmp_path / "proj" / "sub").mkdir(parents=True)
    for folder in ("proj", "proj/sub") if package else ():
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "proj" / "mine.py").write_text(
        f"{line}\ndef mine(hr, scale):\n    {line}\n    return hr[..., ::scale, ::scale] * nbr.N\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / root))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for value in ("0.5", "0.1"):
        (tmp_path / "proj" / "nbr.py").write_text(f"N = {value}\n")
        (tmp_path / "proj" / "sub" / "nbr2.py").write_text(f"N = {value}\n")
        if session and value == "0.5":
            theirs = {}
            exec(line, theirs)
        before = dict(sys.modules)
        adapters.forget()
        mine = resolve(f"{tmp_path / 'proj' / 'mine.py'}:mine")
        for _ in range(2):
            assert torch.equal(mine(picture(), 4), picture()[..., ::4, ::4] * float(value))
        changed = {name for name, module in sys.modules.items() if before.get(name) is not module}
        assert all(name.startswith("downscaler_") for name in changed) and before.keys() <= sys.modules.keys()
        if session:
            again = {}
            exec(line, again)
            assert again["nbr"] is theirs["nbr"] and theirs["nbr"].N == 0.5
    for name in [name for name in sys.modules if name.partition(".")[0] in ("proj", "nbr", "nbr2")]:
        del sys.modules[name]


def test_what_is_installed_below_a_users_folder_is_not_loaded_twice(tmp_path, monkeypatch):
    """A virtual environment or compiled package below the folder of the file, as in a home directory."""
    for folder in ("venv/lib/site-packages", "built"):
        (tmp_path / folder).mkdir(parents=True)
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    (tmp_path / "venv" / "lib" / "site-packages" / "installed_there.py").touch()
    (tmp_path / "built" / "built_parts.py").touch()
    (tmp_path / "mine.py").write_text(
        "import installed_there, built_parts\ndef mine(hr, scale):\n    return installed_there, built_parts\n"
    )
    import built_parts
    import installed_there

    monkeypatch.setattr(built_parts, "__file__", "built_parts.abi3.so" if os.name == "posix" else "built_parts.pyd")
    assert resolve(f"{tmp_path / 'mine.py'}:mine")(picture(), 4) == (installed_there, built_parts)
    for name in ("installed_there", "built_parts"):
        del sys.modules[name]


def test_neighbours_that_fail_leave_nothing_behind(tmp_path):
    (tmp_path / "helpers.py").write_text("import no_such_module\n")
    (tmp_path / "mine.py").write_text("import helpers\ndef mine(hr, scale):\n    return hr\n")
    ours = {name: module for name, module in sys.modules.items() if name.startswith("helpers")}
    with pytest.raises(ImportError, match="no_such_module"):
        resolve(f"{tmp_path / 'mine.py'}:mine")
    assert ours == {name: module for name, module in sys.modules.items() if name.startswith("helpers")}


def test_a_file_beside_our_package_uses_the_one_that_runs(tmp_path, monkeypatch):
    """As in a checkout: `helpers` beside the user's file is ours and is not loaded a second time."""
    import helpers

    monkeypatch.setattr(helpers, "__file__", str(tmp_path / "helpers" / "__init__.py"))
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").touch()
    (tmp_path / "mine.py").write_text("from helpers.downscalers import bicubic as mine\n")
    assert inspect.unwrap(resolve(f"{tmp_path / 'mine.py'}:mine")) is bicubic


@pytest.mark.parametrize(
    "spec, message",
    [
        ("bicubix", "did you mean 'bicubic'"),
        ("", "expected one of nearest"),
        (7, "got 7"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("helpers.downscalers:no_such", "expected a function 'no_such'"),
        ("no/such/file.py:f", "found none at"),
        (lambda hr: hr, r"function of \(hr, scale\)"),
        ("helpers.images:check_images", r"function of \(hr, scale\)"),
        ("command: true {input}", "{output}"),
        ("command: true {input} {output} {quality}", "{output}"),
        ("command: true {input} {output} {}", "{output}"),
        ("command:", "{output}"),
        ("command: no-such-program-here {input} {output}", "found no 'no-such-program-here'"),
        ("folder: no/such/folder", "found none at"),
    ],
)
def test_bad_specifications(spec, message):
    with pytest.raises(ValueError, match=message):
        resolve(spec)
    with pytest.raises(ValueError, match="timeout"):
        resolve(f'command: "{sys.executable}" {{input}} {{output}}', timeout=0)


# --- B30 to B33: what a function may return -----------------------------------------------------


@pytest.mark.parametrize("name", DOWNSCALERS)
def test_our_own_pass(name):
    hr = picture(2)
    lr, clipped, deterministic, remark = check_downscaler(DOWNSCALERS[name], name, hr, 4, twice=True)
    assert torch.equal(lr, DOWNSCALERS[name](hr, 4)) and 0 <= clipped < 0.2 and deterministic
    assert bool(remark) == (clipped > 0.01)


def test_our_own_may_overshoot_and_a_users_may_not():
    """On a page of text the perceptual downscaler leaves [0, 1] in a third of its values; its rows say so."""
    page = (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    checked = check_downscaler(DOWNSCALERS["perceptual"], "perceptual", page, 4, overshoots=True)
    assert checked.clipped > 0.2 and checked.remark == ""
    with pytest.raises(ValueError, match="return lr.clamp"):
        check_downscaler(DOWNSCALERS["perceptual"], "mine", page, 4)


@pytest.mark.parametrize(
    "f, expected, got",
    [
        (lambda hr, s: hr, r"shape \(1, 3, 6, 8\)", r"\(1, 3, 24, 32\)"),
        (lambda hr, s: box(hr, s)[0], "shape", r"\(3, 6, 8\)"),
        (lambda hr, s: box(hr, s)[:, :1], "shape", r"\(1, 1, 6, 8\)"),
        (lambda hr, s: box(hr, s).permute(0, 2, 3, 1), "shape", r"\(1, 6, 8, 3\)"),
        (lambda hr, s: box(hr, s).double(), "dtype torch.float32", "torch.float64"),
        (lambda hr, s: (box(hr, s) * 255).byte(), "dtype torch.float32", "torch.uint8"),
        (lambda hr, s: box(hr, s).to("meta"), "device cpu", "meta"),
        (lambda hr, s: box(hr, s).tolist(), "torch.Tensor", "list"),
        (lambda hr, s: box(hr, s).numpy(), "torch.Tensor", "ndarray"),
        (lambda hr, s: None, "torch.Tensor", "NoneType"),
        (lambda hr, s: box(hr, s) * 255, "values in", "divide 8-bit levels by 255"),
    ],
)
def test_b30_wrong_results_name_everything(f, expected, got):
    with pytest.raises(ValueError, match=f"downscaler 'mine', image 'lake': expected .*{expected}.* got .*{got}"):
        check_downscaler(f, "mine", picture(), 4, image="lake")


def test_b31_nan_stops_and_overshoot_is_counted():
    for bad in (torch.nan, torch.inf):
        lr = torch.full((1, 3, 6, 8), 0.5)
        lr[0, 1, 2, 3] = bad
        with pytest.raises(ValueError, match="image 'lake': expected finite values, got 1 values"):
            check_downscaler(lambda hr, s, lr=lr: lr, "mine", picture(), 4, image="lake")
    over = torch.full((1, 3, 6, 8), 0.5)
    over[0, 1, 0, :3] = torch.tensor([-0.2, 1.25, 1 + 0.4 / 255])  # the last is rounded to 255 anyway
    checked = check_downscaler(lambda hr, s: over, "mine", picture(), 4, image="lake")
    assert checked.clipped == 2 / 144 and torch.equal(checked.lr, over)
    for words in ("downscaler 'mine', image 'lake'", "1.4% of the values outside", "[-0.2, 1.25]"):
        assert words in checked.remark
    over[0, 1, 0, 0] = 0.5
    assert check_downscaler(lambda hr, s: over, "mine", picture(), 4).remark == ""  # 0.7 %


def test_b32_the_input_is_a_copy_and_gradients_are_off():
    hr, graded = picture(), []

    def vandal(images, scale):
        graded.append(torch.is_grad_enabled())
        torch.set_grad_enabled(True)
        small = F.avg_pool2d(images, scale) * torch.ones(1, requires_grad=True)
        images.zero_()
        return small

    lr = check_downscaler(vandal, "mine", hr, 4, twice=True).lr
    assert torch.equal(hr, picture()) and torch.equal(lr, F.avg_pool2d(hr, 4))
    assert graded == [False, False] and not lr.requires_grad


def test_b33_a_second_call_tells():
    draws = torch.Generator().manual_seed(0)
    noisy = lambda hr, s: (box(hr, s) + 0.01 * torch.rand(1, generator=draws)).clamp(0, 1)  # noqa: E731
    assert check_downscaler(noisy, "mine", picture(), 4, twice=True).deterministic is False
    assert check_downscaler(box, "box", picture(), 4, twice=True).deterministic is True
    assert check_downscaler(noisy, "mine", picture(), 4).deterministic is None
    buffer = torch.empty(1, 3, 6, 8)  # the same tensor each time, filled anew
    reused = lambda hr, s: buffer.copy_(noisy(hr, s))  # noqa: E731
    assert check_downscaler(reused, "mine", picture(), 4, twice=True).deterministic is False


def test_bad_hr_is_refused_before_the_call():
    with pytest.raises(ValueError, match="multiples of 5"):
        check_downscaler(lambda hr, s: pytest.fail("was called"), "mine", picture(), 5)


# --- B34: a command -----------------------------------------------------------------------------


def test_story_2_a_command(tool):
    hr = picture(2)
    f = resolve(tool("ok"))
    assert torch.equal(f(hr, 4), bicubic(hr, 4))
    assert check_downscaler(f, "mine", hr, 4).clipped == 0
    assert not list(Path(tempfile.gettempdir()).glob("downscaler-*"))  # its folders are gone


@pytest.mark.parametrize(
    "behaviour, message",
    [
        ("code", "got exit code 3; its last words: lens cap is on"),
        ("says", "got no file .*words on stdout"),
        ("jpeg", "expected a lossless file.* got JPEG"),
        ("size", "expected an LR image of 6x8, got 6x9"),
        ("deep", "of 8-bit RGB or grey .* got 16-bit grey"),
        ("torn", "can be decoded"),
    ],
)
def test_b34_a_command_that_fails(tool, behaviour, message):
    with pytest.raises(ValueError, match=message):
        resolve(tool(behaviour))(picture(), 4)
    assert not list(Path(tempfile.gettempdir()).glob("downscaler-*"))


def test_b34_lossy_on_request(tool):
    lr = resolve(tool("jpeg"), allow_lossy=True)(picture(), 4)
    assert lr.shape == (1, 3, 6, 8) and not torch.equal(lr, bicubic(picture(), 4))


def test_b34_a_command_that_hangs(tool):
    start = time.monotonic()
    with pytest.raises(ValueError, match="got no end after 1.5 s"):
        resolve(tool("child"), timeout=1.5)(picture(), 4)
    assert time.monotonic() - start < 20
    if os.name == "posix":  # what it had started is gone too
        child = int(Path(tempfile.gettempdir(), "child.pid").read_text())
        deadline = time.monotonic() + 5
        while running(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not running(child)


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # where nobody buries the dead, a killed process stays as a zombie
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


# --- B35: a folder of LR images -----------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """LR images of three HR images, beside files that any folder has."""
    folder = tmp_path / "LR ü {x}"
    folder.mkdir()
    for seed, name in enumerate(("lake", "a.b c", "{tree}")):
        save(bicubic(picture(seed=seed), 4), folder / f"{name}.png")
    for junk in (".DS_Store", "Thumbs.db", "._lake.png", "notes.txt"):
        (folder / junk).write_bytes(b"\0")
    (folder / "album.png").mkdir()
    if os.name == "posix":  # elsewhere links need a privilege
        (folder / "broken link.png").symlink_to(folder / "gone.png")
    return folder


NAMES = ("lake", "a.b c", "{tree}")


def test_story_3_a_folder(folder):
    f = resolve(f"folder: {folder}", names=NAMES)
    assert f.needs_name
    for seed, name in enumerate(NAMES):
        hr = picture(seed=seed)
        assert torch.equal(f(hr, 4, name=name), bicubic(hr, 4))
        assert torch.equal(check_downscaler(f, "mine", hr, 4, image=name).lr, bicubic(hr, 4))
    assert check_folder(folder, NAMES, lr_sizes=dict.fromkeys(NAMES, (6, 8)))["lake"] == folder / "lake.png"
    with pytest.raises(ValueError, match="expected one file for 'sea', got none"):
        f(picture(), 4, name="sea")
    with pytest.raises(ValueError, match="one image at a time"):
        f(picture(2), 4, name="lake")


def test_b25_missing_extra_and_double_all_at_once(folder):
    save(picture(), folder / "Lake.bmp")
    save(picture(), folder / "extra.png")
    (folder / "{tree}.png").unlink()
    with pytest.raises(ValueError) as error:
        resolve(f"folder: {folder}", names=NAMES)
    assert "no file for '{tree}'" in str(error.value)
    assert "no HR image for 'extra.png'" in str(error.value)
    assert "more than one file: Lake.bmp, lake.png" in str(error.value)
    save(picture(), folder / "lake.jpg")
    with pytest.raises(ValueError, match="expected one file for 'lake', got lake.jpg, lake.png"):
        resolve(f"folder: {folder}")(picture(), 4, name="lake")


def damage(path, kind):
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    whole = path.read_bytes()
    if kind == "16-bit":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    elif kind == "16-bit RGB":  # Pillow writes none: a PNG by hand
        import struct
        import zlib

        chunk = lambda tag, data: (  # noqa: E731
            struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
        )
        header = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)
        rows = b"".join(b"\0" + bytes(48) for _ in range(6))
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        )
    elif kind == "jpeg":
        Image.fromarray(grey).save(path, format="JPEG")
    elif kind == "scale":
        Image.fromarray(grey[:3, :4]).save(path)
    elif kind == "alpha":
        Image.fromarray(np.full((6, 8, 4), 100, np.uint8)).save(path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "web page":
        path.write_bytes(b"<!DOCTYPE html><title>quota exceeded</title>")
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "flipped":
        path.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    elif kind == "animated":
        Image.fromarray(grey).save(path, save_all=True, append_images=[Image.fromarray(grey[::-1])])
    elif kind == "cmyk":
        Image.new("CMYK", (8, 6)).save(path, format="TIFF")


@pytest.mark.parametrize(
    "kind, message",
    [
        ("16-bit", "of 8-bit RGB or grey .* got 16-bit grey"),
        ("16-bit RGB", "of 8-bit RGB or grey .* got 16-bit colour"),
        ("jpeg", "expected a lossless file .PNG, BMP, TIFF, PPM.; written as PNG, .*got JPEG"),
        ("scale", "expected an LR image of 6x8, got 3x4"),
        ("alpha", "expected an opaque image"),
        ("empty", "got empty file"),
        ("web page", "failed download?"),
        ("truncated", "can be decoded"),
        ("flipped", "can be decoded"),
        ("animated", "got 2 frames"),
        ("cmyk", "got CMYK without a profile"),
    ],
)
def test_b35_bad_lr_files(folder, kind, message):
    damage(folder / "lake.png", kind)
    with pytest.raises(ValueError, match=f"1 problems: lake.png: .*{message}"):
        check_folder(folder, NAMES, lr_sizes=dict.fromkeys(NAMES, (6, 8)))
    with pytest.raises(ValueError, match=f"lake.png: .*{message}"):
        resolve(f"folder: {folder}")(picture(), 4, name="lake")


def test_a_tiff_is_lossless_unless_its_compression_is_not(folder):
    levels = np.array(Image.open(folder / "lake.png"))
    f = resolve(f"folder: {folder}")
    for how in ({}, {"compression": "tiff_lzw"}):
        Image.fromarray(levels).save(folder / "lake.png", format="TIFF", **how)
        assert torch.equal(f(picture(), 4, name="lake"), torch.from_numpy(levels).permute(2, 0, 1)[None] / 255)
    Image.fromarray(levels).save(folder / "lake.png", format="TIFF", compression="jpeg")
    with pytest.raises(ValueError, match="expected a lossless file.*got TIFF with jpeg"):
        f(picture(), 4, name="lake")


def test_b35_lossy_on_request(folder):
    damage(folder / "lake.png", "jpeg")
    f = resolve(f"folder: {folder}", names=NAMES, allow_lossy=True)
    assert f(picture(), 4, name="lake").shape == (1, 3, 6, 8)
    damage(folder / "lake.png", "cmyk")
    with pytest.raises(ValueError, match="got CMYK without a profile"):
        f(picture(), 4, name="lake")


def test_grey_palette_and_turned_lr_files(folder):
    levels = (bicubic(picture(), 4)[0, 0] * 255).round().byte().numpy()
    Image.fromarray(levels).save(folder / "lake.png")
    turned = Image.fromarray(np.rot90(levels, 1).copy())  # stored 90 degrees to the left
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "a.b c.png", exif=exif)
    Image.fromarray(levels).convert("P").save(folder / "{tree}.png")
    f = resolve(f"folder: {folder}", names=NAMES)
    expected = from_uint8(torch.from_numpy(levels)).expand(1, 3, 6, 8)
    for name in NAMES:
        assert torch.equal(f(picture(), 4, name=name), expected), name


def test_b01_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="found no picture"):
        resolve(f"folder: {tmp_path}")


# --- an LR folder beside whole HR images --------------------------------------------------------


def photographs(folder, side=127):
    for seed in range(2):
        image = Image.fromarray(photograph(side, side + 3, seed))
        for sub, one in (
            ("hr", image),
            ("all", image.resize(((side + 3) // 4, side // 4), Image.BICUBIC)),
            ("crop", image.crop((0, 0, (side + 3) // 4 * 4, side // 4 * 4)).resize(((side + 3) // 4, side // 4))),
        ):
            (folder / sub).mkdir(exist_ok=True)
            one.save(folder / sub / f"{seed}\u00e9.png")


def test_an_lr_folder_of_whole_pictures_stops_a_run_and_a_single_pair(tmp_path):
    """Sides of 127 and 130 pixels at x4: HR counts as cropped, LR covers all of it."""
    photographs(tmp_path)
    made = resolve(f"folder: {tmp_path / 'crop'}")
    names = datasets.names(tmp_path / "hr")
    check_pair(made, tmp_path / "hr", names[0], 4)
    check_pair(bicubic, tmp_path / "hr", names[0], 4)  # no folder
    with pytest.raises(ValueError, match="0.*made of all 127x130, so that its content lies elsewhere"):
        check_pair(resolve(f"folder: {tmp_path / 'all'}"), tmp_path / "hr", names[0], 4)
    for folder, taken in (("crop", True), ("all", False)):
        experiment = runs.Experiment(
            dataset=str(tmp_path / "hr"), images=[unicodedata.normalize("NFD", name) for name in names], scale=4,
            downscalers=[f"folder: {tmp_path / folder}"], upscaler="embedded_flow", distortion="mse", device="cpu",
            n_samples=1,
        )  # fmt: skip
        assert experiment.images == names  # composed
        if taken:
            assert len(runs.run(experiment, tmp_path / "rows", progress=False)) == 2
        else:
            with pytest.raises(ValueError, match="made of all 127x130"):
                pairs.pair(experiment, names[0], experiment.downscalers[0])
            with (
                pytest.raises(RuntimeError, match="made of all 127x130"),
                pytest.warns(UserWarning, match="the content is stretched by -0.74 -0.50 LR pixels"),
            ):
                runs.run(experiment, tmp_path / "rows", progress=False)


def test_names_as_macos_writes_them_pair_in_a_run(tmp_path):
    """LR names decomposed, HR names composed, only some of the images asked for."""
    photographs(tmp_path)
    for file in (tmp_path / "crop").iterdir():
        file.rename(file.with_name(unicodedata.normalize("NFD", file.name)))
    experiment = runs.Experiment(
        dataset=str(tmp_path / "hr"), images=["0\u00e9"], scale=4, downscalers=[f"folder: {tmp_path / 'crop'}"],
        upscaler="embedded_flow", distortion="mse", device="cpu",
    )  # fmt: skip
    assert cell.facts(experiment)["device"] == "cpu"
    assert pairs.pair(experiment, "0\u00e9", experiment.downscalers[0])[1].shape == (1, 3, 31, 32)
    f = resolve(f"folder: {tmp_path / 'crop'}", names=["0e\u0301", "1\u00e9"])
    assert torch.equal(f(picture(1, 124, 128), 4, name="0e\u0301"), f(picture(1, 124, 128), 4, name="0\u00e9"))


def test_another_colour_space_stops_at_every_door_of_a_run(tmp_path, tool):
    """Adobe RGB against sRGB; of a command, whose input is sRGB, any other space."""
    photographs(tmp_path)
    adobe = profile("a profile", colour.ADOBE[:3], 563 / 256)
    for file in (tmp_path / "crop").iterdir():
        Image.open(file).save(file, icc_profile=adobe)
    made, names = resolve(f"folder: {tmp_path / 'crop'}"), datasets.names(tmp_path / "hr")
    with pytest.raises(ValueError, match="expected one colour profile, got 'sRGB' for HR, 'a profile' for LR"):
        check_pair(made, tmp_path / "hr", names[0], 4)
    for file in (tmp_path / "hr").iterdir():
        Image.open(file).save(file, icc_profile=adobe)
    check_pair(made, tmp_path / "hr", names[0], 4)
    with pytest.raises(ValueError, match="expected an LR image in sRGB.* got colour profile 'PNG gamma 1'"):
        resolve(tool("linear"))(picture(), 4)


@pytest.mark.parametrize("kind", ["a profile", "PNG gamma 1"])
def test_a_run_says_that_hr_images_have_another_colour_space(tmp_path, kind):
    photographs(tmp_path)
    info = PngImagePlugin.PngInfo()
    info.add(*gama(1.0))
    for file in (tmp_path / "hr").iterdir():
        if kind == "a profile":
            Image.open(file).save(file, icc_profile=profile(kind, colour.SRGB[:3], 1))
        else:
            Image.open(file).save(file, pnginfo=info)
    how = {"downscalers": ["box"], "scale": 4, "upscaler": "bicubic", "heat": 0, "distortion": "mse", "device": "cpu"}
    one = runs.Experiment(dataset=str(tmp_path / "hr"), images=datasets.names(tmp_path / "hr"), **how)
    with pytest.warns(UserWarning) as said:
        runs.run(one, tmp_path / "rows", progress=False)
    notes = [str(each.message) for each in said if "colour profile" in str(each.message)]
    assert len(notes) == 1 and f"colour profile {kind!r} not applied, in one image or more" in notes[0]


def test_the_card_of_a_folder_and_of_a_function(tmp_path):
    photographs(tmp_path)
    names = datasets.names(tmp_path / "hr")
    card = card_of(resolve(f"folder: {tmp_path / 'crop'}"), tmp_path / "hr", names, 4)
    assert card.kernel.startswith("cubic a = -0.5, antialiased") and card.warnings == ()
    assert card_of(box, tmp_path / "hr", names, 4).kernel.startswith("box")
    for file in (tmp_path / "hr").iterdir():  # LR images of 20x20 pixels tell nothing
        Image.open(file).crop((0, 0, 80, 80)).save(file)
        Image.open(file).resize((20, 20)).save(tmp_path / "crop" / file.name)
    theirs = f"folder: {tmp_path / 'crop'}"
    assert card_of(resolve(theirs), tmp_path / "hr", names, 4) is None
    one = runs.Experiment(tmp_path / "hr", names, [("theirs", theirs)], 4, "bicubic", heat=0, device="cpu")
    said = "could not be looked at: expected LR files of 24x24 pixels or more that are not flat, got none"
    assert cell.remarks(one, {"theirs"}) == [f"downscaler 'theirs' {said}"]


def test_a_run_warns_of_what_looks_like_a_mistake(tmp_path):
    """Of a function and of a folder of the user; not of ours, and not where all rows are there."""
    photographs(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from helpers.downscalers import bicubic\n"
        "def mirrored(hr, scale):\n    return bicubic(hr, scale).flip(3)\n"
        "def fair(hr, scale):\n    return bicubic(hr, scale)\n"
    )
    for file in (tmp_path / "crop").iterdir():
        Image.fromarray(np.asarray(Image.open(file))[..., ::-1].copy()).save(file)
    experiment = runs.Experiment(
        dataset=str(tmp_path / "hr"), images=datasets.names(tmp_path / "hr"), scale=4, n_samples=1, device="cpu",
        downscalers=["nearest", f"{tmp_path / 'mine.py'}:mirrored", f"{tmp_path / 'mine.py'}:fair",
                     ("theirs", f"folder: {tmp_path / 'crop'}")],
        upscaler="embedded_flow", distortion="mse",
    )  # fmt: skip
    with pytest.warns(UserWarning) as said:
        runs.run(experiment, tmp_path / "rows", progress=False)
    texts = [re.sub("@.*?'", "'", str(each.message)) for each in said]
    assert texts == [
        "downscaler 'mirrored': the LR image is flipped left to right",
        "downscaler 'theirs': the channels come in the order BGR, as OpenCV has them",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs.run(experiment, tmp_path / "rows", progress=False)
