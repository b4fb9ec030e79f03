"""A user's file is read anew at every door, has one spelling, and may be anything that Python can run."""

import os
import py_compile
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers import runs
from helpers.runs import Experiment, adapters, cell, checks, driver, pairs, user_files
from helpers.runs.experiment import row_name
from tests.fakes import experiment, fakes_fixture, images_fixture, run, workers  # noqa: F401

HR = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
MINE = "def mine(hr, scale):\n    return hr[..., ::scale, ::scale] * {}\n"


def write(folder, **texts):
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.py" if not name.startswith("__") else folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return f"{folder / 'mine.py'}:mine"


def gain(function, factor):
    return torch.equal(function(HR, 4), HR[..., ::4, ::4] * factor)


# ---- read anew


def own(folder, edited, factor):
    """A user's file with a neighbour; the factor stands in the one or in the other."""
    here, there = (factor, 1.0) if edited == "file" else (1.0, factor)
    return write(folder, mine="from utils import N\n" + MINE.format(f"{here} * N"), utils=f"N = {there}\n")


@pytest.mark.parametrize("edited", ["file", "neighbour"])
def test_every_door_reads_an_edited_file_and_an_edited_neighbour(fakes, images, tmp_path, edited):
    doors = {
        "resolve": lambda one: adapters.resolve(one.specs["mine"])(pairs.load(one, "00"), 4),
        "pair": lambda one: runs.pair(one, "00", "mine")[1],
        "draw": lambda one: runs.draw(replace(one, upscaler="bicubic", heat=0.0), "00", "mine"),
        "card": lambda one: adapters.card_of(adapters.resolve(one.specs["mine"]), one.source, one.images, 4).warnings,
        "remarks": lambda one: cell.remarks(one, ["mine"]),
        "facts and remarks": lambda one: (cell.facts(one, "a")["version"], cell.remarks(one, ["mine"], "b")),
        "look": lambda one: checks.look(one, "00", [("mine", "", None)])[1],
        "plan": lambda one: driver.plan(one, tmp_path / "rows").summary,
        "run": lambda one: run(one, tmp_path / "rows").lr.tolist(),
        "strict": lambda one: run(one, tmp_path / f"{own(tmp_path, edited, factor)[-9:-5]} {factor}", strict=True).lr,
    }
    found = {}
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        for factor in (1.0, 0.5, 0.25):
            one = experiment(images, downscalers=[("mine", own(tmp_path, edited, factor))])
            for name, door in doors.items():
                found.setdefault(name, []).append(door(one))
    lr = pairs.load(one, "00")[..., ::4, ::4]
    for factor, resolved, paired in zip((1.0, 0.5, 0.25), found["resolve"], found["pair"], strict=True):
        assert torch.equal(resolved, lr * factor) and torch.equal(paired, pairs.quantize(lr * factor))
    for name in ("draw", "card", "remarks", "facts and remarks", "look", "run", "strict"):
        assert len({repr(each) for each in found[name]}) == 3, name
    assert ["stale" in each for each in found["plan"]] == [False, True, True]
    assert found["card"][0] == () and "gain 0.500" in found["card"][1][0]


def test_the_card_in_a_fresh_folder_of_rows_is_of_the_code_of_now(fakes, images, tmp_path):
    said = []
    for flip in ("", ".flip(3)", "", ".flip(2)"):
        spec = write(
            tmp_path,
            mine="from utils import turn\nfrom helpers.downscalers import bicubic\n"
            "def mine(hr, scale):\n    return turn(bicubic(hr, scale))\n",
            utils=f"def turn(lr):\n    return lr{flip}\n",
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(experiment(images, downscalers=[("mine", spec)]), tmp_path / f"rows {len(said)}")
        said.append([str(each.message).partition(": ")[2] for each in caught])
    left, top = (["the LR image is flipped " + how] for how in ("left to right", "top to bottom"))
    assert said == [[], left, [], top]


def test_workers_read_an_edited_neighbour_before_they_say_what_a_downscaler_is(fakes, images, tmp_path):
    with workers(1) as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for factor in (1.0, 0.5):
            one = experiment(images, downscalers=[("mine", own(tmp_path, "neighbour", factor))])
            run(one, tmp_path / f"rows {factor}", client)
    assert ["gain 0.500" in str(each.message) for each in caught if "levels are scaled" in str(each.message)] == [True]


@pytest.mark.parametrize("change", ["removed", "comes", "becomes a package", "compiled"])
def test_neighbours_that_come_and_go_are_seen(tmp_path, change):
    first = "try:\n    import utils\n    N = utils.N\nexcept ImportError:\n    N = 0.5\n"
    spec = write(tmp_path, mine="from between import N\n" + MINE.format("N"), between=first)
    if change != "comes":
        write(tmp_path, utils="N = 0.25\n")
    assert gain(adapters.resolve(spec), 0.5 if change == "comes" else 0.25)
    if change == "removed":
        (tmp_path / "utils.py").unlink()
    elif change == "comes":
        write(tmp_path, utils="N = 0.125\n")
    elif change == "becomes a package":
        (tmp_path / "utils.py").unlink()
        write(tmp_path / "utils", __init__="N = 0.125\n")
    else:
        write(tmp_path, utils="N = 0.125\n")
        py_compile.compile(str(tmp_path / "utils.py"), str(tmp_path / "utils.pyc"))
        (tmp_path / "utils.py").unlink()
    assert gain(adapters.resolve(spec), 0.5 if change == "removed" else 0.125)


def test_a_function_in_hand_keeps_the_neighbours_that_it_was_loaded_with(tmp_path):
    text = "import utils\ndef mine(hr, scale):\n    import utils\n    return hr[..., ::scale, ::scale] * utils.N\n"
    spec = write(tmp_path, mine=text, utils="N = 0.5\n")
    before = adapters.resolve(spec)
    write(tmp_path, utils="N = 0.25\n")
    after = adapters.resolve(spec)
    for _ in range(2):
        assert gain(before, 0.5) and gain(after, 0.25)


def test_a_module_of_the_users_own_is_read_anew_like_a_file(fakes, images, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for factor in (0.5, 0.25):
        write(tmp_path, my_own_module=MINE.format(factor), my_package__sub="from .n import N\n" + MINE.format("N"))
        write(tmp_path, my_package__n=f"N = {factor}\n", my_package____init__="")
        for spec in ("my_own_module:mine", "my_package.sub:mine"):
            assert gain(adapters.resolve(spec), factor)
            one = experiment(images, downscalers=[("mine", spec)])
            lr = pairs.load(one, "00")[..., ::4, ::4]
            assert torch.equal(runs.pair(one, "00", "mine")[1], pairs.quantize(lr * factor))
    assert not {"my_own_module", "my_package"} & set(sys.modules)
    assert row_name("my_own_module:mine") == row_name(f"{tmp_path / 'my_own_module.py'}:mine")


# ---- one spelling


def spellings(folder):
    """One file, spelt in every way; the working folder is `folder`."""
    (folder / "sub").mkdir(exist_ok=True)
    os.symlink(folder / "mine.py", folder / "link.py")
    os.symlink(folder, folder / "sub" / "up")
    home = Path("~") / (folder / "mine.py").relative_to(Path.home())
    texts = ["mine.py", "./mine.py", "sub/../mine.py", folder / "mine.py", f"/{folder}/mine.py", f"{folder}//mine.py"]
    texts += ["link.py", "sub/up/mine.py", home, folder / "sub" / "up" / "link.py"]
    return [f"{text}:mine" for text in texts] + ["mine:mine", Path("mine.py:mine"), folder / "mine.py:mine"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_one_file_has_one_spelling(fakes, images, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = write(tmp_path, mine=MINE.format(0.5))
    every = spellings(tmp_path)
    assert {user_files.spelled(each) for each in every} == {spec}
    assert {row_name(str(each)) for each in every} == {row_name(spec)}
    expected = experiment(images, downscalers=[spec])
    for each in every:
        assert gain(adapters.resolve(each), 0.5)
        assert experiment(images, downscalers=[each]) == expected
        assert experiment(images, downscalers=[("a", each)]).specs == {"a": spec}
    rows = run([experiment(images, downscalers=["box", each]) for each in every[::3]], tmp_path / "rows")
    assert len(rows) == 4 * 2 * 3
    with pytest.raises(ValueError, match="downscalers: expected each once, got more of .*/mine.py:mine"):
        experiment(images, downscalers=every[:2])


def test_an_experiment_keeps_the_file_that_it_named(fakes, images, tmp_path, monkeypatch):
    """Also once the working folder is another, as it is on a worker."""
    for name, factor in (("one", 0.5), ("two", 0.25)):
        write(tmp_path / name, mine=MINE.format(factor))
    monkeypatch.chdir(tmp_path / "one")
    one = experiment(images, downscalers=["mine.py:mine"])
    monkeypatch.chdir(tmp_path / "two")
    lr = pairs.load(one, "00")[..., ::4, ::4]
    assert torch.equal(runs.pair(one, "00", next(iter(one.specs)))[1], pairs.quantize(lr * 0.5))


@pytest.mark.parametrize(
    "spec",
    ["bicubic", "folder: lr", "command: mine.py:f {input} {output}", "", "json:dumps", "numpy.linalg:norm",
     "helpers.downscalers.filters:box", "__main__:f", "no_such_module:f", "a b:f"],
)  # fmt: skip
def test_what_is_no_users_file_is_spelled_as_it_is(spec):
    assert user_files.spelled(spec) == spec


def test_a_function_in_an_experiment_is_named(images, fakes):
    with pytest.raises(
        ValueError, match="downscalers: expected at least one, in a list, each a name, .* got .*function gain"
    ):
        experiment(images, downscalers=[gain])
    assert Experiment(downscalers=["box"], dataset="library", images=["a"], scale=4, upscaler="bicubic", heat=0.0)


# ---- threads


THREADS = """
import concurrent.futures, threading

found = []


def work(n=0):
    import queue, utils, statistics
    from queue import N
    found.append(queue.N * utils.N + statistics.N - 0.5 * N)


def thread(target):
    one = threading.Thread(target=target, daemon=True)
    one.start()
    one.join(20)
    assert not one.is_alive(), "it waits for ever"


def of_thread(hr, scale):
    found.clear()
    thread(work)
    return hr[..., ::scale, ::scale] * found[0]


def of_thread_in_thread(hr, scale):
    found.clear()
    thread(lambda: thread(work))
    return hr[..., ::scale, ::scale] * found[0]


def of_pool(hr, scale):
    found.clear()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert len(found) == 8 and len(set(found)) == 1
    return hr[..., ::scale, ::scale] * found[0]
"""


@pytest.mark.parametrize("when", ["called", "loaded"])
@pytest.mark.parametrize("how", ["of_thread", "of_thread_in_thread", "of_pool"])
def test_threads_of_a_downscaler_import_neighbours(tmp_path, how, when):
    """Those named like the standard library among them, of which one starts a thread of its own."""
    text = THREADS
    if when == "loaded":
        text += f"import torch\nonce = {how}(torch.ones(1, 3, 8, 8), 4)[0, 0, 0, 0].item()\n"
        text += f"def {how}(hr, scale):\n    return hr[..., ::scale, ::scale] * once\n"
    write(tmp_path, mine=text, utils="import queue\nN = 0.5 * queue.N\n", statistics="import utils\nN = utils.N\n")
    (tmp_path / "queue.py").write_text(
        "import threading\nN = 0.5\ndef inner():\n    import colorsys\n    global N\n    N = colorsys.N\n"
        "one = threading.Thread(target=inner, daemon=True)\none.start()\none.join(20)\nassert not one.is_alive()\n"
    )
    (tmp_path / "colorsys.py").write_text("N = 1.0\n")
    assert gain(adapters.resolve(f"{tmp_path / 'mine.py'}:{how}"), 0.5)
    for name in ("queue", "statistics", "colorsys"):
        assert str(tmp_path) not in str(getattr(sys.modules.get(name), "__file__", ""))


def test_a_thread_that_loads_another_users_file_says_so_while_its_function_waits(tmp_path):
    write(tmp_path, other=MINE.replace("mine", "f").format(0.5))
    write(
        tmp_path,
        mine="from concurrent.futures import ThreadPoolExecutor\nfrom pathlib import Path\n"
        "from helpers.runs import adapters\nother = str(Path(__file__).with_name('other.py')) + ':f'\n"
        "def mine(hr, scale):\n    with ThreadPoolExecutor(1) as pool:\n"
        "        return pool.submit(lambda: adapters.resolve(other)(hr, scale)).result(60)\n"
        "def right(hr, scale):\n    return adapters.resolve(other)(hr, scale)\n",
    )
    with pytest.raises(RuntimeError, match="waits for a thread of its own, which loads or calls another user's file"):
        adapters.resolve(f"{tmp_path / 'mine.py'}:mine")(HR, 4)
    assert gain(adapters.resolve(f"{tmp_path / 'mine.py'}:right"), 0.5)


def test_two_threads_of_the_caller_wait_for_each_other(tmp_path):
    write(tmp_path, mine="import threading\ndef mine(hr, scale):\n    threading.Event().wait(3)\n    return hr * 0.5\n")
    mine, start = adapters.resolve(f"{tmp_path / 'mine.py'}:mine"), threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(lambda: (start.wait(), mine(HR, 4))[1]) for _ in range(2)]
        assert all(torch.equal(each.result(), HR * 0.5) for each in found)


# ---- what a file may be


FORMS = {
    "decorator": "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def g(*a):\n        return f(*a)\n"
    "    return g\n@twice\ndef mine(hr, scale):\n    return hr[..., ::scale, ::scale] * 0.5\n",
    "partial": "import functools\ndef f(hr, scale, factor):\n    return hr[..., ::scale, ::scale] * factor\n"
    "mine = functools.partial(f, factor=0.5)\n",
    "lambda": "mine = lambda hr, scale: hr[..., ::scale, ::scale] * 0.5\n",
    "instance": "class Mine:\n    def __init__(self):\n        self.device, self.needs_what = 'cpu', 1\n"
    "    def __call__(self, hr, scale):\n        return hr[..., ::scale, ::scale] * 0.5\nmine = Mine()\n",
    "method": "class Mine:\n    factor = 0.5\n    def f(self, hr, scale):\n"
    "        return hr[..., ::scale, ::scale] * self.factor\nmine = Mine().f\n",
    "module": "import torch\nclass Mine(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    "        self.factor = torch.nn.Parameter(torch.tensor(0.5))\n    def forward(self, hr, scale):\n"
    "        return hr[..., ::scale, ::scale] * self.factor.detach()\nmine = Mine()\n",
    "module getattr": "def __getattr__(name):\n    if name == 'mine':\n"
    "        return lambda hr, scale: hr[..., ::scale, ::scale] * 0.5\n    raise AttributeError(name)\n",
    "lru_cache": "import functools\n@functools.lru_cache\ndef factor():\n    return 0.5\n"
    "def mine(hr, scale):\n    return hr[..., ::scale, ::scale] * factor()\n",
    "compiled by jit": "import torch\n@torch.jit.script\ndef mine(hr: torch.Tensor, scale: int) -> torch.Tensor:\n"
    "    return hr[..., ::scale, ::scale] * 0.5\n",
    "names itself main": "if __name__ == '__main__':\n    raise SystemExit\n" + MINE.format(0.5),
    "utf-8 with a mark": "\ufeff# é\n" + MINE.format(0.5),
    "dataclass": "import dataclasses\n@dataclasses.dataclass\nclass Mine:\n    factor: float = 0.5\n"
    "    def __call__(self, hr, scale):\n        return hr[..., ::scale, ::scale] * self.factor\nmine = Mine()\n",
    "answers for any name": "class Mine:\n    def __getattr__(self, name):\n        return Mine()\n"
    "    def __call__(self, hr, scale):\n        return hr[..., ::scale, ::scale] * 0.5\nmine = Mine()\n",
    "pickles": "import pickle, n\nclass A:\n    N = n.N\ndef mine(hr, scale):\n"
    "    return hr[..., ::scale, ::scale] * pickle.loads(pickle.dumps(A())).N\n",
    "forks": "import multiprocessing\ndef half(n):\n    from n import N\n    return n * N\ndef mine(hr, scale):\n"
    "    with multiprocessing.get_context('fork').Pool(1) as pool:\n"
    "        return hr[..., ::scale, ::scale] * pool.map(half, [1])[0]\n",
    "takes the interpreter's tables": "import sys\ndef mine(hr, scale):\n    sys.modules = {}\n    sys.path = []\n"
    "    sys.meta_path = []\n    return hr[..., ::scale, ::scale] * 0.5\n",
    "imports itself": "def mine(hr, scale):\n    import mine as me\n    return hr[..., ::scale, ::scale] * me.F\n"
    "F = 0.5\n",
    "relative import": "from . import n\nfrom .n import N\ndef mine(hr, scale):\n    from .n import N as M\n"
    "    return hr[..., ::scale, ::scale] * N * M / n.N\n",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_function(tmp_path, form):
    if form == "forks" and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    tables = sys.modules, sys.path, sys.meta_path
    spec = write(tmp_path / "a folder", mine=FORMS[form], n="N = 0.5\n")
    mine = adapters.resolve(spec)
    with torch.no_grad():
        assert gain(mine, 0.5)
        lr, _, same, _ = adapters.check_downscaler(mine, "mine", HR, 4, twice=True)
    assert same and torch.equal(lr, HR[..., ::4, ::4] * 0.5)
    assert all(one is other for one, other in zip(tables, (sys.modules, sys.path, sys.meta_path), strict=True))


def test_a_file_in_another_encoding(tmp_path):
    (tmp_path / "mine.py").write_bytes("# -*- coding: latin-1 -*-\n# é\n".encode("latin-1") + MINE.format(0.5).encode())
    assert gain(adapters.resolve(f"{tmp_path / 'mine.py'}:mine"), 0.5)


def test_a_file_that_is_there_as_bytecode_only(fakes, images, tmp_path):
    """As a neighbour, and by itself; another one of the same name is another downscaler."""
    names = []
    for factor in (0.5, 0.25):
        write(tmp_path, source=MINE.format(factor), n=f"N = {factor}\n")
        py_compile.compile(str(tmp_path / "source.py"), str(tmp_path / "bare.pyc"))
        py_compile.compile(str(tmp_path / "n.py"), str(tmp_path / "n.pyc"))
        (tmp_path / "n.py").unlink()
        assert gain(adapters.resolve(f"{tmp_path / 'bare.pyc'}:mine"), factor)
        assert gain(adapters.resolve(write(tmp_path, mine="from n import N\n" + MINE.format("N"))), factor)
        one = experiment(images, downscalers=[f"{tmp_path / 'bare.pyc'}:mine"])
        names += one.specs
        assert set(run(one, tmp_path / "rows").downscaler) == {names[-1]}
    assert names[0] != names[1]


@pytest.mark.parametrize("how", ["{}", "{}/", "{}/__init__.py", "{}/../pack"])
def test_a_package(fakes, images, tmp_path, how, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for factor in (0.5, 0.25):
        write(tmp_path / "pack", __init__="from .core import mine\nfrom pack import n\n", n="")
        write(tmp_path / "pack", core="from .sub.n import N\n" + MINE.format("N"), sub__n=f"N = {factor}\n")
        spec = f"{how.format(tmp_path / 'pack')}:mine"
        assert (
            user_files.spelled(spec) == f"{tmp_path / 'pack' / '__init__.py'}:mine" == user_files.spelled("pack:mine")
        )
        assert gain(adapters.resolve(spec), factor) and gain(adapters.resolve("pack:mine"), factor)
    one = experiment(images, downscalers=["pack:mine"])
    assert len(run(one, tmp_path / "rows")) == 12
    inner = write(tmp_path / "pack" / "sub", mine="from ..core import N\nfrom .n import N as M\n" + MINE.format("N"))
    write(tmp_path / "pack" / "sub", __init__="")
    assert gain(adapters.resolve(inner), 0.25) and gain(adapters.resolve("pack.sub.mine:mine"), 0.25)
    assert not [name for name in sys.modules if name.partition(".")[0] in ("pack", "mine", "core")]


BROKEN = {
    "syntax": (b"def mine(hr, scale)\n    return hr\n", ValueError, "mine.py cannot be loaded: SyntaxError: .*line 1"),
    "indent": (b"def mine(hr, scale):\nreturn hr\n", ValueError, "cannot be loaded: IndentationError: .*line 2"),
    "encoding": (b"X = '\xe9'\n", ValueError, "mine.py cannot be loaded: SyntaxError: .*utf-8"),
    "unknown encoding": (b"# coding: no-such\nx = 1\n", ValueError, "SyntaxError: .*no-such"),
    "utf-16": ("def mine(hr, scale):\n    return hr\n".encode("utf-16"), ValueError, "cannot be loaded: SyntaxError"),
    "null bytes": (b"def mine(hr, scale):\n    return hr\n\0", ValueError, "null bytes"),
    "its own error": (b"1 / 0\n", ValueError, "mine.py:mine': mine.py cannot be loaded: ZeroDivisionError"),
    "its own ValueError": (b"raise ValueError('weights')\n", ValueError, "cannot be loaded: ValueError: weights"),
    "no name": (b"minr = 1\ndef other(hr, scale):\n    return hr\n", ValueError, "a function 'mine', found other"),
    "a number": (b"mine = 0\n", ValueError, "expected a function 'mine', got 0"),
    "a class": (b"class mine:\n    pass\n", ValueError, "expected a function 'mine', got a class; call it in the file"),
    "empty": (b"", ValueError, "expected a function 'mine', found none"),
    "one argument": (b"def mine(hr):\n    return hr\n", ValueError, r"a function of \(hr, scale\), got one of \(hr\)"),
    "no neighbour": (b"import no_such_neighbour\n", ImportError, "no_such_neighbour"),
    "no relative neighbour": (b"from . import no_such\n", ImportError, "no_such"),
    "beyond the top": (b"from ... import x\n", ImportError, "beyond top-level package"),
    "no weights": (b"open('no_such_weights')\n", OSError, "no_such_weights"),
    "ends": (b"import sys\nsys.exit(2)\n", RuntimeError, "mine.py:mine' raised SystemExit: 2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_file_says_so_in_one_error(tmp_path, fault):
    text, kind, words = BROKEN[fault]
    good = write(tmp_path / "good", mine=MINE.format(0.5))
    assert gain(adapters.resolve(good), 0.5)  # loads what torch and we load late
    (tmp_path / "mine.py").write_bytes(text)
    before = dict(sys.modules)
    for _ in range(2):
        with pytest.raises(kind, match=words):
            adapters.resolve(f"{tmp_path / 'mine.py'}:mine")
    assert {name for name in sys.modules if sys.modules[name] is not before.get(name)} <= {
        name for name in sys.modules if name.startswith("downscaler_") or name == "cProfile"
    }
    (tmp_path / "mine.py").write_text(MINE.format(0.5))
    assert gain(adapters.resolve(f"{tmp_path / 'mine.py'}:mine"), 0.5)


@pytest.mark.parametrize(
    "spec, words",
    [
        ("{}/no_such.py:mine", "expected a Python file, found none at"),
        ("{}/folder:mine", "expected a file ending in .py, a package or a module, got a folder without __init__.py"),
        ("{}/mine:mine", r"got '.*/mine'; is mine.py meant"),
        ("{}/mine.ipynb:mine", "expected a file ending in .py, a package or a module, got '.*mine.ipynb'"),
        ("{}/mine.py", "expected 'mine.py:function', which of its functions"),
        ("{}/old.pyc:mine", "bad magic number.* of another Python; name the source"),
        ("{}/folder.py:mine", "expected a Python file, found none at"),
    ],
)
def test_a_specification_that_names_no_file(tmp_path, spec, words):
    write(tmp_path, mine=MINE.format(0.5))
    (tmp_path / "old.pyc").write_bytes(b"1234" * 10)
    for name in ("folder", "folder.py"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine.ipynb").write_text("{}")
    with pytest.raises(ValueError, match=words):
        adapters.resolve(spec.format(tmp_path))
