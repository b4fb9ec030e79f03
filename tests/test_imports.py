"""The house: imports go down its floors, in no circle, and nobody reaches for what another room keeps to itself."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {  # room (folder or file of `helpers`) -> floor; a room imports rooms of its own floor or below
    "studies": 6,
    "paper": 6,
    "figures": 5,
    "runs": 5,
    "training": 5,
    "notebook": 5,
    "parameters": 5,
    "stats": 4,
    "upscalers": 4,
    "iqa": 4,
    "datasets": 4,
    "rescalers": 3,
    "distortions": 3,
    "generators": 3,
    "downscalers": 2,
    "degradations": 2,
    "transmission": 2,
    "measure": 2,
    "promises": 2,
    "results": 2,
    "columns": 1,
    "weights": 2,
    "networks": 1,
    "images": 1,
    "colour": 1,
    "listing": 1,
    "tables": 1,
    "process_state": 1,
    "runtime": 1,
    "files": 1,
}
HEAVY = ("torchvision", "piq", "lpips", "matplotlib", "helpers.networks", "helpers.distortions", "helpers.figures")


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below `helpers`; a folder's `__init__` has the folder's name."""
    found = {}
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        parts = path.relative_to(ROOT / "helpers").with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if parts:
            found[".".join(parts)] = path
    return found


MODULES = modules()


@cache
def imports(path: Path) -> list[tuple[str, str]]:
    """(module below `helpers`, name taken from it or "") of every import of the file, those in functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found += [(name.partition(".")[2], "") for name in names if name.startswith("helpers.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "helpers":
            module = node.module.partition(".")[2]
            for alias in node.names:
                whole = f"{module}.{alias.name}".lstrip(".")
                found.append((whole, "") if whole in MODULES else (module, alias.name))
    return [(module, name) for module, name in found if module]


@cache
def graph() -> dict[str, set[str]]:
    return {name: {module for module, _ in imports(path)} - {name} for name, path in MODULES.items()}


def test_every_room_has_a_floor():
    assert {name.split(".")[0] for name in MODULES} <= set(FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name):
    floor = FLOORS[name.split(".")[0]]
    up = {other for other in graph()[name] if FLOORS[other.split(".")[0]] > floor}
    assert not up, f"{name} imports {up} from a higher floor"


def test_no_circle_of_modules():
    """Of any length; a face imports its own modules, so those of one room import each other and not their face."""
    try:
        list(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def test_no_circle_of_rooms():
    rooms = {}
    for name, others in graph().items():
        room = name.split(".")[0]
        rooms.setdefault(room, set()).update({other.split(".")[0] for other in others} - {room})
    try:
        list(TopologicalSorter(rooms).static_order())
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("name", MODULES)
def test_private_names_stay_in_their_room(name):
    """Neither `from helpers.x import _y` nor `x._y` of an imported module of another room."""
    tree, room = ast.parse(MODULES[name].read_text()), name.split(".")[0]
    taken = [
        f"{module}.{what}" for module, what in imports(MODULES[name]) if what.startswith("_") and what != "__version__"
    ]
    foreign = {module.split(".")[-1]: module for module, _ in imports(MODULES[name]) if module.split(".")[0] != room}
    reached = [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.attr.startswith("_") and not node.attr.startswith("__") and node.value.id in foreign
    ]
    assert not [each for each in taken if each.split(".")[0] != room] + reached


def test_statistics_and_rows_load_no_network():
    names = [name for name in MODULES if name.split(".")[0] in ("stats", "results")]
    code = f"import sys, importlib\nfor name in {names}: importlib.import_module('helpers.' + name)\n"
    code += f"print([name for name in sys.modules if name.startswith({HEAVY})])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"


def test_measure_knows_no_method():
    assert graph()["measure"] <= {"images", "promises", "runtime"}
    assert graph()["promises"] <= {"images", "process_state", "runtime"}


def test_networks_know_only_layers():
    for name, others in graph().items():
        if name.split(".")[0] == "networks":
            assert {other.split(".")[0] for other in others} <= {"networks"}, name


def test_environment_yml_installs_the_package_at_the_locked_versions():
    text = (ROOT / "environment.yml").read_text()
    python = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text()).group(1)
    assert f"python{python}" in text
    assert "-e .[dev]" in text and "-c requirements.lock" in text


def test_the_lock_pins_every_dependency():
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(
        r'^\s+"([a-z0-9-]+)(?:\[[a-z]+\])?>=', project.split("[project.optional-dependencies]")[0], re.M
    )
    locked = re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.M)
    assert len(wanted) > 10
    assert set(wanted) <= set(locked)


def test_to_import_runs_takes_little_beyond_torch_and_loads_nothing_that_only_some_need():
    """CPU seconds, which load disturbs little: here torch and pandas take 1.8 and the package 0.35."""
    slow = ("scipy", "matplotlib", "seaborn", "statsmodels", "sklearn", "skimage", "distributed", "dask", "IPython",
            "torchvision", "piq", "lpips", "papermill", "jupyterlab")  # fmt: skip
    code = "import sys, time, torch, pandas\nstart = time.process_time()\nimport helpers.runs\n"
    code += "print(time.process_time() - start, *{name.split('.')[0] for name in sys.modules})"
    seconds, *loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert float(seconds) < 1 and not set(loaded) & set(slow)
