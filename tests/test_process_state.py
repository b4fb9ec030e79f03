"""What a user's file sets for the process reaches nobody else, and its own calls find it again."""

import builtins
import locale
import os
import random
import signal
import sys
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import ImageFile

from helpers import images as our_images
from helpers import results
from helpers.downscalers import DOWNSCALERS
from helpers.process_state import PARTS, put_back
from helpers.runs import adapters
from tests.fakes import experiment, fakes_fixture, images_fixture, published, run  # noqa: F401

POSIX = os.name == "posix"


def nesting():
    """How many autocasts are open: with any, weights that were cast once are taken again after they have changed."""
    torch.autocast_increment_nesting()
    return torch.is_autocast_cpu_enabled(), torch.autocast_decrement_nesting()


BAD = {  # what a file sets, and how one sees it
    "threads": ("torch.set_num_threads(3)", torch.get_num_threads),
    "dtype": ("torch.set_default_dtype(torch.float64)", torch.get_default_dtype),
    "device": ("torch.set_default_device('meta')", lambda: torch.empty(1).device),
    "grad": ("torch.set_grad_enabled(not torch.is_grad_enabled())", torch.is_grad_enabled),
    "deterministic": (
        "torch.use_deterministic_algorithms(True)",
        torch.are_deterministic_algorithms_enabled,
    ),
    "denormal": ("torch.set_flush_denormal(True)", lambda: (torch.tensor(1e-42) * 1).item()),
    "matmul": ("torch.set_float32_matmul_precision('medium')", torch.get_float32_matmul_precision),
    "torch random": ("torch.manual_seed(7); torch.rand(3)", lambda: torch.get_rng_state().sum().item()),
    "numpy random": ("np.random.seed(7); np.random.rand()", lambda: np.random.get_state()[1].sum()),
    "random": ("random.seed(7); random.random()", random.getstate),
    "numpy errors": ("np.seterr(all='raise')", np.geterr),
    "warnings": ("warnings.simplefilter('error')", lambda: list(warnings.filters)),
    "locale": ("locale.setlocale(locale.LC_ALL, 'C.UTF-8')", lambda: locale.setlocale(locale.LC_ALL)),
    "environment": ("os.environ['IDA_RD_TEST'] = '1'", lambda: os.environ.get("IDA_RD_TEST")),
    "environment, less": ("os.environ.pop('PATH')", lambda: os.environ.get("PATH")),
    "folder": ("os.chdir('/')", os.getcwd),
    "path": ("sys.path.insert(0, '/nowhere')", lambda: list(sys.path)),
    "stdout": ("sys.stdout = open(os.devnull, 'w')", lambda: sys.stdout),
    "recursion": ("sys.setrecursionlimit(sys.getrecursionlimit() + 1)", sys.getrecursionlimit),
    "garbage": ("gc.disable()", __import__("gc").isenabled),
    "interrupt": ("signal.signal(signal.SIGINT, signal.SIG_IGN)", lambda: signal.getsignal(signal.SIGINT)),
    "a handler": ("signal.signal(signal.SIGUSR1, signal.SIG_IGN)", lambda: signal.getsignal(signal.SIGUSR1)),
    "a timer": ("signal.setitimer(signal.ITIMER_REAL, 1000)", lambda: signal.getitimer(signal.ITIMER_REAL)),
    "a function of torch": ("F.avg_pool2d = None", lambda: F.avg_pool2d),
    "a method of torch": ("torch.Tensor.clamp = None", lambda: torch.Tensor.clamp),
    "a function of NumPy": ("np.mean = None", lambda: np.mean),
    "a builtin": ("import builtins; builtins.sum = None", lambda: builtins.sum),
    "a function of ours": ("from helpers import images; images.quantize = None", lambda: our_images.quantize),
    "an operator of torch": ("torch.Tensor.__add__ = None", lambda: torch.Tensor.__add__),
    "import": ("import builtins; builtins.__import__ = print", lambda: builtins.__import__),
    "a registry": ("from helpers.downscalers import DOWNSCALERS as D; D['box'] = D['mine'] = 0", DOWNSCALERS.copy),
    "a hook": (
        "torch.nn.modules.module.register_module_forward_hook(print)",
        torch.nn.modules.module._global_forward_hooks.copy,
    ),
    "old dtype": ("torch.set_default_tensor_type(torch.DoubleTensor)", torch.get_default_dtype),
    "autocast": ("torch.autocast('cpu').__enter__()", nesting),
    "autocast of another device": (
        "torch.autocast('cuda', torch.bfloat16).__enter__()",
        lambda: (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), nesting()),
    ),
    "autocast's cache": ("torch.set_autocast_cache_enabled(False)", torch.is_autocast_cache_enabled),
    "warn": ("warnings.warn = print", lambda: warnings.warn),
    "show": ("import logging; logging.captureWarnings(True)", lambda: warnings.showwarning),
    "time": ("import time; time.time = None", lambda: time.time),
    "umask": ("os.umask(0o777)", lambda: [os.umask(0o22), os.umask(0o22)]),
    "inference": ("global M; M = torch.inference_mode(); M.__enter__()", torch.is_inference_mode_enabled),
    "attention": ("torch.backends.cuda.enable_flash_sdp(False)", torch.backends.cuda.flash_sdp_enabled),
    "truncated pictures": (
        "from PIL import ImageFile as I; I.LOAD_TRUNCATED_IMAGES = True",
        lambda: ImageFile.LOAD_TRUNCATED_IMAGES,
    ),
    "anomalies": ("torch.autograd.set_detect_anomaly(True)", torch.is_anomaly_enabled),
    "mkldnn": ("torch.backends.mkldnn.enabled = False", lambda: torch.backends.mkldnn.enabled),
    "cudnn": ("torch.backends.cudnn.benchmark = True", lambda: torch.backends.cudnn.benchmark),
    "figures": ("import matplotlib as m; m.rcParams['lines.linewidth'] = 9", lambda: plt.rcParams["lines.linewidth"]),
    "finders": ("sys.meta_path.clear()", lambda: list(sys.meta_path)),
    "a finder": ("sys.meta_path.insert(0, type('F', (), {'find_spec': lambda *a: None})())", lambda: sys.meta_path[0]),
    "modules": (
        "sys.modules.pop('json'); sys.modules['helpers'] = 0",
        lambda: (sys.modules["json"], sys.modules["helpers"]),
    ),
}
HEAD = "import gc, locale, os, random, signal, sys, warnings\nimport numpy as np, torch, torch.nn.functional as F\n"
AWKWARD = (
    "autocast of another device",
    "modules",
    "device",
    "warnings",
    "environment, less",
    "an operator of torch",
    "import",
    "time",
    "finders",
    "a finder",
)
MINE = "def mine(hr, scale):\n    {}\n    return hr[..., ::scale, ::scale]\n"


@pytest.mark.parametrize("when", ["loaded", "called", "raises"])
@pytest.mark.parametrize("bad", BAD)
def test_what_a_file_sets_is_put_back(tmp_path, monkeypatch, bad, when):
    line, look = BAD[bad]
    if not POSIX and "signal" in line:
        pytest.skip("no such signal here")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))  # new finders stay, behind all others
    before = look()
    text = HEAD + (line if when == "loaded" else "") + "\n" + MINE.format("pass" if when == "loaded" else line)
    text = text.replace("    return", "    raise KeyError('mine')\n    return") if when == "raises" else text
    (tmp_path / "mine.py").write_text(text)
    mine = adapters.resolve(f"{tmp_path / 'mine.py'}:mine")
    assert look() == before
    hr = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    if when == "raises":
        with pytest.raises(KeyError, match="mine"):
            mine(hr, 4)
    else:
        assert torch.equal(mine(hr, 4), hr[..., ::4, ::4])
    assert look() == before
    assert set(PARTS) >= {"threads", "names"}


AGAIN = """
import os, random, signal, warnings
import numpy as np
import torch

os.environ["IDA_RD_TEST"] = "1"
os.chdir(os.path.dirname(__file__))
torch.set_default_dtype(torch.float64)
torch.load = "mine"
warnings.filterwarnings("ignore", "of mine")
signal.signal(signal.SIGUSR1, lambda *_: None)
np.seterr(over="raise")
GRAD = torch.is_grad_enabled()
torch.set_grad_enabled(False)
torch.set_num_threads(3)


def mine(hr, scale):
    assert os.environ["IDA_RD_TEST"] == "1" and open("weights.txt").read() == "0.5"
    assert torch.tensor(0.5).dtype == torch.float64 and torch.load == "mine"
    assert callable(signal.getsignal(signal.SIGUSR1)) and np.geterr()["over"] == "raise"
    assert torch.get_num_threads() == 1 and torch.is_grad_enabled() == (hr.requires_grad or not GRAD)
    warnings.warn("of mine")
    return hr[..., ::scale, ::scale] * float(open("weights.txt").read())
"""


@pytest.mark.skipif(not POSIX, reason="SIGUSR1")
def test_a_function_finds_in_each_call_what_its_file_has_set(tmp_path):
    (tmp_path / "weights.txt").write_text("0.5")
    (tmp_path / "mine.py").write_text(AGAIN)
    mine, hr = adapters.resolve(f"{tmp_path / 'mine.py'}:mine"), torch.rand(1, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with torch.no_grad():
                pass
            hr.requires_grad_()
            assert torch.equal(mine(hr, 4), hr[..., ::4, ::4] * 0.5)
    assert torch.get_default_dtype() == torch.float32


def test_two_files_of_one_folder_do_not_meet_each_others_settings(tmp_path):
    """Nor those of a neighbour that both import: it sets them for each."""
    (tmp_path / "settings.py").write_text("import torch\ntorch.set_default_dtype(torch.float64)\n")
    text = "import torch\ndef f(hr, scale):\n    return torch.tensor(0.5).dtype\n"
    for name, first in (("bad", "import settings\n"), ("good", ""), ("worse", "import settings\n")):
        (tmp_path / f"{name}.py").write_text(first + text)
    functions = {name: adapters.resolve(f"{tmp_path / name}.py:f") for name in ("bad", "good", "worse")}
    for _ in range(2):
        found = {name: function(torch.rand(1, 3, 8, 8), 4) for name, function in functions.items()}
        assert found == {"bad": torch.float64, "good": torch.float32, "worse": torch.float64}


def test_random_numbers_are_the_same_for_each_load_and_others_in_each_call(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import random, numpy as np, torch\nFIRST = torch.rand(1).item(), np.random.rand(), random.random()\n"
        "def mine(hr, scale):\n    return FIRST, torch.rand(1).item(), np.random.rand(), random.random()\n"
    )
    mine, again = (adapters.resolve(f"{tmp_path / 'mine.py'}:mine") for _ in range(2))
    answers = [f(torch.rand(1, 3, 8, 8), 4) for f in (mine, mine, again)]
    assert len({first for first, *_ in answers}) == 1
    for k in (1, 2, 3):
        assert len({answer[k] for answer in answers}) == 3


def test_what_is_put_back_is_what_was_there_also_if_the_caller_has_changed_it(tmp_path):
    own = {}
    with put_back(own, loading=True):
        torch.set_default_dtype(torch.float64)
        os.environ["IDA_RD_TEST"] = "1"
    os.environ["IDA_RD_OTHER"] = "2"
    try:
        with put_back(own):
            assert (os.environ["IDA_RD_TEST"], os.environ["IDA_RD_OTHER"]) == ("1", "2")
            assert torch.get_default_dtype() == torch.float64
            os.environ["IDA_RD_OTHER"] = "3"
        assert os.environ["IDA_RD_OTHER"] == "2" and "IDA_RD_TEST" not in os.environ
    finally:
        del os.environ["IDA_RD_OTHER"]


def test_a_bad_file_leaves_the_rows_of_others_byte_for_byte(fakes, images, tmp_path):
    (tmp_path / "good.py").write_text(
        "import torch\nONE = torch.ones(1) * 0.9\ndef good(hr, scale):\n"
        "    return (hr[..., ::scale, ::scale] * ONE.to(hr) + torch.zeros(1).to(hr)).clamp(0, 1)\n"
    )
    lines = [line for name, (line, _) in BAD.items() if name not in AWKWARD]
    lines = [line for line in lines if POSIX or "signal" not in line]
    clean = "np.seterr(all='warn')"  # what would stop the file itself
    text = HEAD + "\n".join(["RETURNED = torch.float32", *lines[:1], clean, *lines[1:]]) + "\n"
    body = "small = hr[..., ::scale, ::scale].clone()\n    " + "\n    ".join(lines)
    text += f"def bad(hr, scale):\n    {body}\n    return small\n"
    (tmp_path / "bad.py").write_text(text)
    others = ["box", "bicubic", f"{tmp_path / 'good.py'}:good"]
    expected = run(experiment(images, downscalers=others), tmp_path / "alone")
    for number, specs in enumerate(([f"{tmp_path / 'bad.py'}:bad", *others], [*others, f"{tmp_path / 'bad.py'}:bad"])):
        one = experiment(images, downscalers=specs)
        assert len(run(one, tmp_path / f"rows {number}")) == len(expected) * 4 // 3
        part = tmp_path / f"part {number}"
        rows = run(experiment(images, downscalers=others), tmp_path / f"rows {number}")
        results.append(rows.drop(columns="checksum").to_dict("records"), part)
        assert published(part) == published(tmp_path / "alone")
