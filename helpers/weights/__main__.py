"""`python -m helpers.weights`: list the checkpoints, fetch some, verify all, or print the path of one."""

import argparse
import sys
from pathlib import Path

from helpers import files
from helpers.weights import store
from helpers.weights.table import WEIGHTS, Entry


def main(arguments: list[str] | None = None) -> int:
    """`python -m helpers.weights list | fetch NAME ... | verify | path NAME`; returns the exit code.

    Args:
        arguments: those of the command line by default.
    """
    parser = argparse.ArgumentParser("python -m helpers.weights", description="Checkpoints that the project can use.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every file: where it is, its size, which notebooks need it, its licence")
    fetching = commands.add_parser("fetch", help="download what is missing; 1 if anything stays missing")
    fetching.add_argument("names", nargs="+", metavar="NAME")
    commands.add_parser("verify", help="hash every file that is here anew; 1 if one is wrong")
    commands.add_parser("path", help="where one file is; 1 if it is missing").add_argument(
        "names", nargs=1, metavar="NAME"
    )
    given = parser.parse_args(arguments)
    if given.command == "list":
        sys.stdout.write(_table())
        return 0
    if given.command == "verify":
        return _verify()
    found = [_bring(name, fetching=given.command == "fetch") for name in given.names]
    return 0 if all(found) else 1


def _bring(name: str, fetching: bool) -> bool:
    """Write the path of `name`, or to standard error what to do about it; whether it is here."""
    try:
        if name not in WEIGHTS and name in _names():
            path = store.embedded(name)
        elif fetching:
            path = store.fetch(name, patience=30)
        elif (path := store.locate(name)) is None:
            raise ValueError(store.missing(name))
    except ValueError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return False
    sys.stdout.write(f"{path}\n")
    return True


def _table() -> str:
    """What `list` writes; "other file": that of the entry that will do instead. Every hash is compared."""
    rows = [("name", "where", "size", "notebooks", "file", "licence")]
    for name in _names():
        entry = WEIGHTS.get(name) or Entry(f"{name}.safetensors", (), "", None, "see data/weights/README.md")
        where, path = _taken(_found(name)) or ("missing", None)
        if path is None and entry.instead and (other := _taken(_found(entry.instead))) and other[0] != "wrong":
            where = "other file"
        size = path.stat().st_size if path else entry.bytes
        text = "?" if size is None else f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
        notebooks = " ".join(entry.needed) or ("default" if where == "embedded" else "-")
        rows.append((name, where, text, notebooks, entry.file, entry.licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1] + [0]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def _verify() -> int:
    """Write a line for each file that is here, hashed anew; 1 if one is wrong."""
    files.forget_hashes()
    found = [(path, wrong) for name in _names() for _, path, wrong in _found(name)]
    sys.stdout.writelines(f"WRONG  {wrong}\n" if wrong else f"right  {path}\n" for path, wrong in found)
    if (copies := store.cache_folder() / "converted").is_dir():
        sys.stdout.write(
            f"unused {copies}: an earlier version read these copies, this one does not; delete the folder\n"
        )
    return 1 if any(wrong for _, wrong in found) else 0


def _names() -> list[str]:
    return [*sorted(path.stem for path in store.EMBEDDED.glob("*.safetensors")), *WEIGHTS]


def _found(name: str) -> list[tuple[str, Path, str]]:
    """Where each file of `name` is, its path, and what is wrong with it or ""."""
    if name not in WEIGHTS:
        try:
            return [("embedded", store.embedded(name), "")]
        except ValueError as error:
            return [("embedded", store.EMBEDDED / f"{name}.safetensors", str(error))]
    return [(where, path, _wrong(name, path)) for where, path in store.places(name)]


def _taken(found: list[tuple[str, Path, str]]) -> tuple[str, Path] | None:
    """Which file `locate` takes, or would if it were not wrong."""
    right = [(where, path) for where, path, wrong in found if not wrong]
    if found and (not right or (found[0][0] == store.BY_HAND and found[0][2])):
        return "wrong", found[0][1]
    return right[0] if right else None


def _wrong(name: str, path: Path) -> str:
    try:
        return store.problem(path, WEIGHTS[name]) or ""
    except ValueError as error:  # the hash of a first use cannot be recorded
        return str(error)


if __name__ == "__main__":
    sys.exit(main())
