"""Execute the quickstart and print its ranking: `make quickstart DOWNSCALER=... PARAMETERS=...`.

Run from the repository root as `python -m tools.quickstart [-p NAME VALUE] [-y YAML] [-f FILE]`, options as papermill
has them. The reader's own downscaler comes from the environment variable IDA_RD_DOWNSCALER, where no shell touches its
blanks and quotes: one text, or several as a YAML list or mapping, "{mine: a.py:f, theirs: b.py:g}". Its paths are seen
from here, as are those of DOWNSCALER; paths in other parameters from `notebooks/`.
"""

import argparse
import os
import re
import shlex
import sys
from pathlib import Path

import nbclient
import papermill
import yaml

from helpers import notebook
from helpers.runs.user_files import spelled

NOTEBOOK = Path("notebooks/00_quickstart.ipynb")
OUT = Path("results/quickstart")


def own(text: str) -> str | list | dict:
    """Read DOWNSCALER, and make the paths in it absolute.

    Raises:
        ValueError: looks like a list or a mapping, and is none.
    """
    text = text.strip()
    if text[:1] not in ("[", "{"):
        return absolute(text)
    try:
        several = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"DOWNSCALER: expected a list or mapping as YAML, got {text!r}: {error}") from error
    if isinstance(several, dict):
        return {name: absolute(str(spec)) for name, spec in several.items()}
    return [absolute(str(spec)) for spec in several]


def absolute(spec: str) -> str:
    """Make the files and folders that a specification names absolute; the notebook runs in its own folder."""
    kind, _, rest = spec.partition(":")
    if kind == "folder":
        return f"folder: {Path(rest.strip()).expanduser().absolute()}"
    if kind == "command":
        words = shlex.split(rest)
        here = [Path(word).is_file() and (number > 0 or os.sep in word) for number, word in enumerate(words)]
        words = [str(Path(word).absolute()) if is_file else word for word, is_file in zip(words, here, strict=True)]
        plain = re.compile(r"[\w@%+=:,./{}-]+")
        return f"command: {' '.join(word if plain.fullmatch(word) else shlex.quote(word) for word in words)}"
    return spelled(spec)


def parameters(arguments: list[str]) -> dict[str, object]:
    """Read papermill's options; of the same name the last one counts."""
    parser = argparse.ArgumentParser("make quickstart PARAMETERS=...")
    parser.add_argument("-p", "--parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("-r", "--parameters_raw", nargs=2, action="append", default=[], metavar=("NAME", "TEXT"))
    parser.add_argument("-y", "--parameters_yaml", action="append", default=[], metavar="YAML")
    parser.add_argument("-f", "--parameters_file", action="append", default=[], metavar="FILE")
    given, found = parser.parse_args(arguments), {}
    for text in [*(Path(file).read_text(encoding="utf-8") for file in given.parameters_file), *given.parameters_yaml]:
        found |= yaml.safe_load(text) or {}
    return found | {name: value(text) for name, text in given.parameters} | dict(given.parameters_raw)


def value(text: str) -> object:
    """Read a value as papermill does: True, False, None, a number, or else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"True": True, "False": False, "None": None}.get(text, text)


def main(arguments: list[str]) -> int:
    """Execute the notebook, showing what it prints and its bar; 1 where one of its cells raised an error."""
    OUT.mkdir(parents=True, exist_ok=True)
    given = {"results_dir": os.path.relpath(OUT, NOTEBOOK.parent)} | parameters(arguments)
    try:
        if text := os.environ.get("IDA_RD_DOWNSCALER", ""):
            given["downscaler"] = own(text)
        shown = {"stdout_file": sys.stdout, "stderr_file": sys.stderr}
        notebook.execute(NOTEBOOK, str(OUT / NOTEBOOK.name), given, **shown)
    except papermill.PapermillExecutionError as error:
        print(f"{error.ename}: {error.evalue}", file=sys.stderr)
        print(
            f"the notebook as far as it came, with the traceback: {(OUT / NOTEBOOK.name).absolute()}", file=sys.stderr
        )
        return 1
    except nbclient.exceptions.DeadKernelError:
        print("the process that computed was ended, by a downscaler or by the system; run again:", file=sys.stderr)
        print("finished images are kept, and a downscaler at which it ended gets its own process", file=sys.stderr)
        return 1
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    rows = (NOTEBOOK.parent / given["results_dir"]).resolve()
    print(f"\n{(rows / 'ranking.txt').read_text()}")
    print(f"executed notebook: {(OUT / NOTEBOOK.name).absolute()}; rows, tables (txt, csv, tex), figures: {rows}")
    if (left_out := rows / notebook.LEFT_OUT).is_file():
        print(left_out.read_text(encoding="utf-8").strip())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
