"""Imports go down the floors of the house, never up; the dependencies are stated once."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# fmt: off
FLOORS = [
    {"images", "runtime", "weights", "weights_table", "weights_cli", "downloads", "networks"},
    {"downscalers", "adaptive", "adapters", "degradations", "distortions", "datasets", "balancing", "faces", "iqa",
     "iqa_networks", "spectra", "embedded_faces", "alignment"},
    {"upscalers", "training", "metric_groups", "metric_training", "metric_agreement", "pulse", "pulse_losses",
     "pulse_options", "gan", "generator_quality"},
    {"measure"},
    {"results", "runs", "probes"},
    {"statistics", "tables", "figures", "strata", "detection", "decomposition", "agreement", "claims", "flow_figures",
     "profiles", "paper", "paper_hours", "coverage", "search_figures", "face_groups"},
]
# fmt: on
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def imported(path: Path) -> set[str]:
    """Modules of the package that the file imports, by their first name below `helpers`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "helpers":
            names |= {alias.name for alias in node.names if alias.name in FLOOR}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("helpers.")}
    return names


def modules() -> dict[str, set[str]]:
    files = [p for p in (ROOT / "helpers").glob("*.py") if p.stem != "__init__"]
    return {path.stem: imported(path) - {path.stem} for path in files}


def test_every_module_has_a_floor():
    assert set(modules()) <= set(FLOOR)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_down(name):
    up = {other for other in modules()[name] if FLOOR[other] > FLOOR[name]}
    assert not up, f"{name} imports {up} from a higher floor"


def test_no_two_modules_import_each_other():
    graph = modules()
    assert not [(a, b) for a in graph for b in graph[a] if a in graph.get(b, ())]


def test_measure_knows_no_method():
    assert modules()["measure"] <= {"images", "runtime"}


def test_networks_know_only_layers():
    for path in (ROOT / "helpers" / "networks").glob("*.py"):
        assert imported(path) <= {"networks"}, path.name


def test_environment_yml_installs_the_package_at_the_locked_versions():
    text = (ROOT / "environment.yml").read_text()
    python = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text()).group(1)
    assert f"python{python}" in text
    assert "-e .[dev]" in text and "-c requirements.lock" in text


def test_the_lock_pins_every_dependency():
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'^\s+"([a-z0-9-]+)>=', project.split("[project.optional-dependencies]")[0], re.M)
    locked = re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.M)
    assert len(wanted) > 10
    assert set(wanted) <= set(locked)
