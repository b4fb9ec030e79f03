"""What holds for every notebook as it is committed; each is run by its own tests/test_nb_*.py."""

import ast
import json
import re
from pathlib import Path

import papermill
import pytest

from tests.notebook import NOTEBOOKS, cells, run

ALL = sorted(str(path.relative_to(NOTEBOOKS).with_suffix("")) for path in NOTEBOOKS.rglob("[!.]*.ipynb"))


@pytest.mark.parametrize("name", ALL)
def test_committed_executed_prose_first_and_one_cell_of_parameters(name):
    code = [c for c in cells(name) if "".join(c["source"]).strip()]
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert len(tagged) == 1 and tagged[0] is code[0]
    for statement in ast.parse("".join(tagged[0]["source"])).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
    assigned = [statement.targets[0].id for statement in ast.parse("".join(tagged[0]["source"])).body]
    known = papermill.inspect_notebook(NOTEBOOKS / f"{name}.ipynb")
    assert list(known) == assigned  # papermill overlooks a parameter whose comment it cannot read
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    outputs = [out for c in code for out in c["outputs"]]
    assert outputs and not [out for out in outputs if out["output_type"] == "error"]
    assert not [c for c in code if "\nclass " in "".join(c["source"])]
    trees = [ast.parse("".join(c["source"])) for c in code]
    texts = [n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is str]
    assert not [text for text in texts if re.search("[\t\r\a\b\v\f]", text)]  # "$\tau$" without its backslash
    path = NOTEBOOKS / f"{name}.ipynb"
    whole = json.loads(path.read_text())
    assert "papermill" not in whole["metadata"]
    first = whole["cells"][0]
    assert first["cell_type"] == "markdown" and "".join(first["source"]).startswith("# ")
    assert path.stat().st_size < 2.5e6


@pytest.mark.parametrize("name", ALL)
def test_b38_a_mistyped_parameter_stops_it_before_it_leaves_anything(name, tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="unknown parameter 'n_imagse'"):
        run(name, tmp_path, {}, n_imagse=3)
    assert not (tmp_path / "rows").exists() and not (tmp_path / "figures").exists()


def test_every_notebook_has_its_tiny_run():
    files = sorted(Path(__file__).parent.glob("test_nb_*.py"))
    named = [re.search(r'^NAME = "(.*)"', path.read_text(), re.M).group(1) for path in files]
    assert sorted(named) == ALL
