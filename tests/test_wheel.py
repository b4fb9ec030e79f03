"""The package without its checkout: the wheel has every module and the data they need, and works from any folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
DATA = ("images/kodak", "manifests", "weights")
USE = """
import torch, helpers
from helpers import datasets
from helpers.datasets import demographics
from helpers.distortions import DISTORTIONS
from helpers.runtime import seeded
from helpers.upscalers import UPSCALERS

assert datasets.load("photographs", "kodim03_y000_x000").shape == (1, 3, 256, 256)
lr = torch.rand(1, 3, 16, 16, generator=seeded("wheel")) / 20 + 0.5
sr = UPSCALERS["embedded_flow"](scale=4)(lr, seeded("wheel", 0)).clamp(0, 1)
print(helpers.__file__, tuple(sr.shape), DISTORTIONS["lpips_embedded"](sr, sr).item())
print(len(demographics.drawn_population([0.3, 0.3, 0.4])))

import runpy, sys
sys.argv = ["paper"]
runpy.run_module("helpers.paper", run_name="__main__")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `pip install .` would put into site-packages."""
    pytest.importorskip("setuptools", "77", reason="no setuptools 77 here: the wheel is not tested")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("helpers", *(f"data/{name}" for name in DATA)):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "data"))
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", build, target], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ZipFile(target / done.stdout.split()[-1]).extractall(target)
    return target


def files_below(folder):
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_every_module_and_every_file_of_data_is_in_the_wheel(installed):
    expected = {name for name in files_below(ROOT / "helpers") if name.endswith(".py")}
    expected |= {f"data/{name}/{file}" for name in DATA for file in files_below(ROOT / "data" / name)}
    assert files_below(installed / "helpers") == expected
    assert len(list((installed / "helpers" / "data" / "weights").glob("*.safetensors"))) >= 7


def test_it_works_from_any_folder_and_the_papers_setting_says_that_it_needs_the_checkout(installed, tmp_path):
    environment = os.environ | {
        "PYTHONPATH": str(installed),
        "IDA_RD_CACHE": str(tmp_path / "cache"),
        "IDA_RD_OFFLINE": "1",
    }
    done = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr  # 2: the paper's setting is refused
    module, rest = done.stdout.split("\n", 1)[0].split(" ", 1), done.stdout.split("\n")[1]
    assert module == [str(installed / "helpers" / "__init__.py"), "(1, 3, 64, 64) 0.0"] and rest == "69471"
    assert "needs the notebooks of a checkout" in done.stderr
