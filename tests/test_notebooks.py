"""What holds for every notebook as it is committed; each is run by its own tests/test_nb_*.py."""

import ast
import importlib
import inspect
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import papermill
import pytest
import yaml

from helpers import notebook, parameters
from tests.notebook import NOTEBOOKS, cells, up_to

ALL = sorted(str(path.relative_to(NOTEBOOKS).with_suffix("")) for path in NOTEBOOKS.rglob("[!.]*.ipynb"))

PUBLISHED = Path(__file__).parents[1] / "data" / "results"
LINES = 15  # of a code cell, its blank ones among them; the cell of parameters has a line for each
LONGER = {"training/style_generator"}  # notebooks that still have longer cells
OF_CARDS = {  # findings of cards, which tests/test_training_*.py hold to their files, or of measured seconds
    "13_time_and_scale", "training/multi_realism", "training/rescalers", "training/twins",
}  # fmt: skip
# What has digits in a text and is no result: code, formulas, links, sources, versions, settings, the level of intervals
NO_RESULT = [
    r"`[^`]*`", r"\$\$.*?\$\$", r"\$[^$]*\$", r"\]\([^)]*\)", r"https?://\S+", r"arXiv[ :]\d+\.\d+",
    r"\b\d+\.\d+\.\d+\b", r"\b[PS](?: Sec\.)? \d+(\.\d+)*", r"\b95 %",
    r"\b(heat|sigma|contrast|noise|blur|NPRportrait) \d+(\.\d+)?",
]  # fmt: skip
RESULT = r"(?<![\w.])[-+\N{MINUS SIGN}]?\d*\.\d+|\d+(\.\d+)? ?(%|per cent|dB)|\b(tau|rho|p) (of|is|=|<|>) ?[-+]?\d"


def sources(name: str) -> list[str]:
    """The code cells that are not empty."""
    return [source for cell in cells(name) if (source := "".join(cell["source"])).strip()]


@pytest.mark.parametrize("name", ALL)
def test_committed_executed_and_prose_first(name):
    path = NOTEBOOKS / f"{name}.ipynb"
    whole = json.loads(path.read_text())
    first = whole["cells"][0]
    assert first["cell_type"] == "markdown" and "".join(first["source"]).startswith("# ")
    assert "papermill" not in whole["metadata"] and path.stat().st_size < 2.5e6
    code = [cell for cell in cells(name) if "".join(cell["source"]).strip()]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [out for cell in code for out in cell["outputs"]]
    assert outputs and not [out for out in outputs if out["output_type"] == "error"]
    assert not [source for source in sources(name) if "\nclass " in source]
    trees = map(ast.parse, sources(name))
    texts = [n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is str]
    assert not [text for text in texts if re.search("[\t\r\a\b\v\f]", text)]  # "$\tau$" without its backslash


def setting_up(name: str) -> int:
    """The number of the code cell that makes the folders: the one of the imports, or the one after it."""
    made = "figures_dir = notebook.outputs(results_dir, figures_dir"
    return next((number for number, cell in enumerate(sources(name)) if made in cell), 2)


@pytest.mark.parametrize("name", ALL)
def test_one_cell_of_parameters_each_with_a_comment_and_the_check_after_it(name):
    code = [cell for cell in cells(name) if "".join(cell["source"]).strip()]
    assert ["parameters" in cell["metadata"].get("tags", []) for cell in code] == [True] + [False] * (len(code) - 1)
    source, check, *rest = sources(name)
    defaults, lines = notebook.literals(source), source.splitlines()
    statements = ast.parse(source).body
    assert list(defaults) == [statement.targets[0].id for statement in statements]  # literals, nothing else
    assert all("  # " in lines[statement.end_lineno - 1] for statement in statements)
    known = papermill.inspect_notebook(NOTEBOOKS / f"{name}.ipynb")
    assert list(known) == list(defaults)  # papermill overlooks a parameter whose comment it cannot read
    assert all(known[each]["help"] for each in known)
    assert check.startswith("from helpers import notebook\n\nnotebook.check(globals()")
    later = {each for cell in rest[setting_up(name) - 1 :] for each in assigned(ast.parse(cell))}
    assert not later & set(defaults)  # so that a reader may run the check again


@pytest.mark.parametrize("name", [name for name in ALL if name not in LONGER])
def test_a_cell_fits_on_a_screen(name):
    """Plots, tables and the values of sentences are functions of `studies`; what they are of stays in the cell."""
    _, *others = sources(name)
    longer = {len(lines): lines[0] for lines in map(str.splitlines, others) if len(lines) > LINES}
    assert not longer, f"{name}: a cell has at most {LINES} lines; these have more: {longer}"


def test_a_notebook_whose_cells_are_short_is_no_exception():
    assert not LONGER - set(ALL)
    for name in LONGER:
        assert max(len(source.splitlines()) for source in sources(name)[1:]) > LINES, f"take {name} out of LONGER"


@pytest.mark.parametrize("name", [name for name in ALL if any("notebook.images(" in cell for cell in sources(name))])
def test_what_was_set_aside_is_named_after_every_run_and_before_the_tables_of_the_others(name):
    cells = [cell for cell in sources(name) if not cell.startswith("from helpers import notebook")]
    runs = [cell for cell in cells if "runs.run(" in cell]
    for cell in runs or ["".join(cells)]:
        assert cell.count("notebook.left_out(") == 1 >= cell.count("runs.run(")
    for cell in cells:
        if "caption=" in cell:
            assert "set_aside" in cell


def assigned(node: ast.AST) -> Iterator[str]:
    """The names that a cell assigns, outside functions and comprehensions."""
    inner = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child.id
        if not isinstance(child, inner):
            yield from assigned(child)


@pytest.mark.parametrize("name", ALL)
def test_what_it_takes_from_helpers_is_there(name):
    """A function that was renamed is found in a second, not by the tiny run."""
    nodes = list(ast.walk(ast.parse("\n".join(sources(name)))))
    taken = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in nodes if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "helpers"
        for alias in node.names
    }  # fmt: skip
    exec("\n".join(f"from {module} import {what} as {own}" for own, (module, what) in taken.items()), space := {})
    used = {
        (node.value.id, node.attr)
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in taken
    }
    assert used and not [f"{own}.{what}" for own, what in used if not hasattr(space[own], what)]


@pytest.mark.parametrize("path", sorted((NOTEBOOKS / "paper").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_papers_setting_names_parameters_and_has_the_papers_numbers(path):
    profile, known = yaml.safe_load(path.read_text()), notebook.literals(sources(path.stem)[0])
    notebook.check(known | profile, known)
    assert profile.keys() <= known.keys()
    paper = {"n_images": 900, "n_samples": 5, "distortion": "lpips", "n_samples_other": 5}
    assert {name: profile[name] for name in paper if name in profile}.items() <= paper.items()
    assert ("distortion" in known) == (profile.get("distortion") == "lpips")


def test_b38_b40_mistyped_parameters_stop_a_run_before_it_leaves_anything(tmp_path):
    with pytest.raises(ValueError) as error:
        up_to("01_dataset_balancing", "", tmp_path, {}, n_imagse=3, n_seeds="2")
    assert "unknown parameter 'n_imagse'; did you mean 'n_images'?" in str(error.value)
    assert "n_seeds: expected int, got str '2'" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_every_notebook_has_its_tiny_run():
    files = sorted(Path(__file__).parent.glob("test_nb_*.py"))
    named = [re.search(r'^NAME = "(.*)"', path.read_text(), re.M).group(1) for path in files]
    assert sorted(named) == ALL


@pytest.mark.parametrize("name", ALL)
def test_an_assertion_says_what_was_expected(name):
    for source in sources(name):
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.Assert) or node.msg, ast.unparse(node)


@pytest.mark.parametrize("name", ALL)
def test_images_of_a_data_set_are_cut_to_what_the_scale_divides(name):
    for source in sources(name):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "datasets.load":
                given, options = ast.unparse(node.args[0]), {each.arg for each in node.keywords}
                whole = given != "dataset" or (name == "07_nr_iqa" and not options)  # whole photographs, resized next
                assert whole or "multiple_of" in options, ast.unparse(node)


@pytest.mark.parametrize("name", ALL)
def test_a_parameter_that_names_files_says_where_relative_paths_start(name):
    source = sources(name)[0]
    comments = {line.split(" = ")[0]: line.partition("  # ")[2] for line in source.splitlines() if " = " in line}
    paths = {
        "results_dir",
        "checkpoint",
        "output",
        "other_rows",
        *parameters.PATHS,
        *parameters.IMAGES,
        *parameters.SETS,
    }
    for each in paths & comments.keys():
        assert "from this folder" in comments[each], f"{name}: {each}"
    for each in {parameters.OWN} & comments.keys():
        assert "from this folder" in comments[each]


@pytest.mark.parametrize("name", ALL)
def test_a_rerun_with_the_defaults_leaves_the_repositorys_files_alone(name):
    """Figures go beside the rows, and every place that is written to lies in `results/`, which git ignores."""
    defaults = notebook.literals(sources(name)[0])
    assert defaults["figures_dir"] == ""
    assert setting_up(name) in (2, 3)
    for each in ("results_dir", "checkpoint"):
        if each in defaults:
            path = ((NOTEBOOKS / name).parent / defaults[each]).resolve()
            assert path.is_relative_to(NOTEBOOKS.parent / "results")
    assert not defaults.get("output") and not defaults.get("write_card")


HINTS = ("allow", "allow_lossy", "allow_lossy_lr", "background", "mixed", "retry_aside", "strict")


def test_a_hint_names_a_parameter_with_the_function_that_has_it():
    """A reader of a notebook has no `allow=` to set: the message says whose parameter it is, and it is there."""
    seen = 0
    for path in sorted(Path(notebook.__file__).parent.rglob("*.py")):
        for text in texts(ast.parse(path.read_text())):
            for hint in re.findall(rf"\b(?:{'|'.join(HINTS)})=", text):
                calls = re.findall(r"helpers\.([\w.]+)\.(\w+)\([^()]*?\b(\w+)=", text)
                assert hint[:-1] in [call[2] for call in calls], f"{path}: {text}"
                for module, function, parameter in calls:
                    found = getattr(importlib.import_module(f"helpers.{module}"), function)
                    known = inspect.signature(found).parameters
                    other = inspect.signature(importlib.import_module("helpers.images").read_picture).parameters
                    assert parameter in known or (function == "read_rgb" and parameter in other)  # handed on
                    seen += 1
    assert seen >= 4


def texts(tree: ast.Module) -> Iterator[str]:
    """The texts of a module that may be shown: all but docstrings, a field as {}."""
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)]
    docs = {id(node.body[0].value) for node in scopes if node.body and isinstance(node.body[0], ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inner:
            yield node.value


def results_in(text: str) -> list[str]:
    """What in a text looks like a result: a decimal, a percentage, decibels, a tau or p that is written out."""
    for allowed in NO_RESULT:
        text = re.sub(allowed, " ", text, flags=re.S)
    return [found.group() for found in re.finditer(RESULT, text)]


def test_what_looks_like_a_result_is_found_and_what_does_not_is_left():
    texts = {
        "tau 0.81 [0.43, 0.90]": 3, "in 37 % of the images": 1, "27 dB": 1, "a p of 0.03": 1, "rho = 1 from two": 1,
        "bilinear loses \N{MINUS SIGN}.02 more": 1, "x4 at heat 1.0, P 4.5 and S 13, arXiv 2403.15139": 0,
        "95 % intervals of 192x192 crops": 0, "$N_X = 900$, $$s^2 \\cdot 0.5$$, `alpha = 0.05`": 0,
        "[rows](../data/x_0.5.csv) of version 0.5.0": 0, "Tables 4 to 9, five draws of 24 photographs": 0,
    }  # fmt: skip
    assert {text: len(results_in(text)) for text in texts} == texts


@pytest.mark.parametrize("name", ALL)
def test_texts_of_a_rewritten_notebook_hold_no_results(name):
    for cell in cells(name, "markdown"):
        text = "".join(cell["source"])
        assert not results_in(text), f"{name}: a result in a text; compute it in a cell, with notebook.finding: {text}"


def findings_of(name: str) -> list[dict]:
    """The findings that a committed notebook shows."""
    outputs = [out for cell in cells(name) for out in cell["outputs"]]
    return [out["metadata"]["finding"] for out in outputs if "finding" in out.get("metadata", {})]


@pytest.fixture(scope="module")
def published() -> dict[tuple, list[tuple[int, int, str]]]:
    """What `notebook.seen` would say of all published rows: settings -> photographs and images in each file, named."""
    columns, found = ["dataset", "distortion", "metric", "upscaler", "heat", "scale", "weights"], {}
    for path in sorted(PUBLISHED.glob("*.csv.gz")):
        rows = pd.read_csv(
            path, dtype=str, keep_default_na=False, usecols=lambda each: each in {*columns, "image", "group"}
        )
        rows["photograph"] = rows.get("group", pd.Series("", rows.index)).where(lambda group: group != "", rows.image)
        for values, part in rows.groupby(columns):
            found.setdefault(values, []).append((part.photograph.nunique(), part.image.nunique(), path.name))
    return found


@pytest.mark.parametrize("name", ALL)
def test_findings_are_of_published_rows_with_their_d_data_set_and_n(name, published):
    """What a committed sentence was taken from is in `data/results`: the same D, data set, weights, and photographs.

    A finding may be of some of the photographs; of each data set one is of all that the notebook's own rows have, or
    where it has none, of all.
    """
    told = [each for each in findings_of(name) if each.get("rows")]
    assert told or (name in OF_CARDS and findings_of(name))
    names, most = ("dataset", "distortion", "metric", "upscaler", "heat", "scale", "weights"), {}
    for finding in told:
        for seen in finding["rows"]:
            keys = itertools.product(*(seen[each] for each in names))
            there = [counts for key in keys for counts in published.get(key, ())]
            assert there, f"{name}: no published rows of {seen}, which decided: {finding['statement']}"
            counts = most.setdefault(tuple(seen["dataset"]), (set(), set()))
            counts[0].add(seen["n"])
            own = [each for each in there if each[2].startswith(name)]
            counts[1].update(n for n, *_ in own or there)
    for dataset, (seen, there) in most.items():
        assert max(seen) == max(there), (
            f"{name}: findings of {max(seen)} photographs of {dataset}, of {max(there)} there"
        )
