"""Read the experiments of a notebook from the notebook itself, without drawing, decoding or planning anything.

Of the code before `runs.plan(experiments, ...)` only the statements that the experiments are made of are run: from
`experiments` back to the parameters, name by name. Figures, checks and draws stand beside that way and are left out,
so a notebook whose weights are not here can be read too.
"""

import ast
import contextlib
import io
import os
from collections.abc import Iterator

from helpers import datasets, runs
from helpers.paper import profiles

CHANGES = ("add", "append", "extend", "insert", "setdefault", "update")  # methods that change what they belong to


def experiments(notebook: str, values: dict) -> list[runs.Experiment]:
    """Read what a notebook will compute with these parameters.

    Args:
        notebook: its stem, for example "03_synthetic_degradations".
        values: all its parameters; folders are seen from `notebooks/`.

    Raises:
        ValueError: the notebook plans nothing; or whatever its own cells raise, such as a folder without images.
    """
    name, statements = _before_plan(notebook)
    namespace = dict(values)
    code = compile(ast.Module(_needed(name, statements), []), f"{notebook}.ipynb", "exec")
    with inside(), _names_alone(), contextlib.redirect_stdout(io.StringIO()):
        exec(code, namespace)  # the project's own notebook
    found = namespace[name]
    return [found] if isinstance(found, runs.Experiment) else list(found)


@contextlib.contextmanager
def _names_alone() -> Iterator[None]:
    """Let `datasets.preflight` list images without decoding them: that takes minutes, and the run itself does it."""

    def preflight(dataset: str, scale: int, *, n_images: int | None = None, size: int = 256, **how):
        return datasets.Preflight(datasets.names(dataset, n_images, size=size), [], [])

    before, datasets.preflight = datasets.preflight, preflight
    try:
        yield
    finally:
        datasets.preflight = before


@contextlib.contextmanager
def inside() -> Iterator[None]:
    """Work in the folder of the notebooks, as a kernel does, and come back."""
    before = os.getcwd()
    os.chdir(profiles.NOTEBOOKS)
    try:
        yield
    finally:
        os.chdir(before)


def _before_plan(notebook: str) -> tuple[str, list[ast.stmt]]:
    """The name that is handed to `runs.plan`, and all statements between the parameters and that call."""
    statements = []
    for tags, source in profiles.code(notebook):
        for statement in ast.parse(source).body if "parameters" not in tags else ():
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "runs.plan":
                    return node.args[0].id, statements
            statements.append(statement)
    raise ValueError(f"{notebook}: expected a cell with runs.plan(experiments, ...), found none")


def _needed(name: str, statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements that `name` is made of, in their order; of imports only the names among them."""
    names, needed, before = [_Names(each) for each in statements], {name}, set()
    while needed != before:
        before = set(needed)
        for each in names:
            needed |= each.takes if needed & (each.binds | each.changes) else set()
    kept = [s for s, each in zip(statements, names, strict=True) if needed & (each.binds | each.changes)]
    for statement in kept:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            statement.names = [alias for alias in statement.names if _Names(alias).binds & needed]
    return kept


class _Names(ast.NodeVisitor):
    """Names that code binds, names whose values it changes, and names that it takes from outside itself."""

    def __init__(self, node: ast.AST):
        self.binds, self.changes, self.takes = set(), set(), set()
        self.visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        (self.takes if isinstance(node.ctx, ast.Load) else self.binds).add(node.id)

    def visit_alias(self, node: ast.alias) -> None:
        self.binds.add((node.asname or node.name).split(".")[0])

    def visit_arg(self, node: ast.arg) -> None:
        self.binds.add(node.arg)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._change(node.target)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript | ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._change(node.value)
        self.generic_visit(node)

    visit_Attribute = visit_Subscript

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            self._change(node.func.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._inner(node, keep=True)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.binds.add(node.name)
        self._inner(node)

    def visit_ListComp(self, node: ast.expr) -> None:
        self._inner(node)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_Lambda = visit_ListComp

    def _change(self, node: ast.expr) -> None:
        self.changes |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}

    def _inner(self, node: ast.AST, keep: bool = False) -> None:
        """A loop, whose names stay (`keep`), or a function or comprehension with names of its own."""
        own = _Names(ast.Module([], []))
        own.generic_visit(node)
        self.takes |= own.takes - (own.binds - own.changes)
        if keep:
            self.binds, self.changes = self.binds | own.binds, self.changes | own.changes
