"""What holds for every notebook as it is committed; each is run by its own tests/test_nb_*.py."""

import re
from pathlib import Path

import pytest

from tests.notebook import NOTEBOOKS, check_static

ALL = sorted(str(path.relative_to(NOTEBOOKS).with_suffix("")) for path in NOTEBOOKS.rglob("[!.]*.ipynb"))


@pytest.mark.parametrize("name", ALL)
def test_committed_executed_prose_first_and_one_cell_of_parameters(name):
    check_static(name)


def test_every_notebook_has_its_tiny_run():
    files = sorted(Path(__file__).parent.glob("test_nb_*.py"))
    named = [re.search(r'^NAME = "(.*)"', path.read_text(), re.M).group(1) for path in files]
    assert sorted(named) == ALL
