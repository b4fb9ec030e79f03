"""Run the paper's setting of notebooks 03, 06 and 08 on what this machine has.

`python -m helpers.paper` (`make paper`) lists what the paper's profiles need and what of it is missing, measures for
ten seconds how fast this machine draws, says how many hours are left, and runs the notebooks. A part whose files are
missing is left out by name, and nothing ever stands in for it; a notebook without an essential file is skipped. All
that it makes lies in `results/paper/`. Stop it any time, the next call goes on. With --dry-run (`make dryrun`) it ends
after the list, which is then that of every notebook with a profile.
"""

import argparse
import os
import sys
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from helpers import files
from helpers.notebook import LEFT_OUT, check, execute
from helpers.paper import profiles
from helpers.paper.hours import estimate
from helpers.paper.profiles import Piece

NOTEBOOKS = ("03_synthetic_degradations", "06_real_downscalers", "08_ablations")
LISTED = ("05_pulse",)  # only its files are: a search is about a hundred times slower than a flow
OUT = Path(__file__).parents[2] / "results" / "paper"
WHOLE, PART, SKIPPED, FAILED = "ran in full", "ran in part", "skipped", "failed"
CODES = """It ends with 0: each notebook ran in full; 1: a notebook failed; 2: none could run, or the call was wrong;
3: some ran, but a part or a whole notebook was left out, the list says which; 130: stopped by Ctrl-C. With --dry-run
0: nothing is missing; 2: something is."""


class Part(NamedTuple):
    """What of a notebook can run here: its parameters, a line about each part left out, the essential files missing."""

    values: dict
    left_out: list[str]
    stops: list[Piece]


def narrow(values: dict) -> Part:
    """Leave out the entries of lists and mappings whose files are not here; a parameter of one value is essential.

    Entry i of `upscaler_of_factor` or `heat_of_factor` belongs to entry i of `factors`, and a key of `upscaler_at` to
    that entry of `scales`: they go together, or a scale would be left with another upscaler than the paper's.

    Args:
        values: all parameters of a notebook, see `profiles.parameters`.
    """
    gone, left_out, stops = defaultdict(set), [], []
    for name, value in values.items():
        if not isinstance(value, dict | list):
            stops += _absent({name: value, "n_images": values.get("n_images")})
            continue
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            if not (absent := _absent({name: entry})):
                continue
            what = f"{name}: {_short(key if name in profiles.IMAGES else entry)}"
            gone[name].add(key)
            if name.endswith("_of_factor"):
                what = f"factor {values['factors'][key]}: {_short(entry)}"
                for other in [each for each in values if each == "factors" or each.endswith("_of_factor")]:
                    gone[other].add(key)
            elif name.endswith("_at"):
                what = f"scale {key}: {_short(entry)}"
                gone["scales"] |= {place for place, scale in enumerate(values["scales"]) if str(scale) == key}
                stops += absent if str(values["scale"]) == key else []
            left_out.append(f"{what} (needs {', '.join(piece.name for piece in absent)})")
    return Part({name: _without(value, gone[name]) for name, value in values.items()}, left_out, _unique(stops))


def _absent(values: dict) -> list[Piece]:
    return [piece for piece in profiles.pieces(values) if piece.missing]


def _without(value: object, keys: set) -> object:
    if isinstance(value, dict):
        return {key: entry for key, entry in value.items() if key not in keys}
    return [entry for place, entry in enumerate(value) if place not in keys] if keys else value


def _short(entry: object) -> str:
    return ", ".join(map(str, entry)) if isinstance(entry, list) else str(entry)


def _unique(pieces: list[Piece]) -> list[Piece]:
    """Keep the first piece of each name: two parameters may name one folder."""
    found = {}
    for piece in pieces:
        found.setdefault(piece.name, piece)
    return list(found.values())


def preflight(needs: dict[str, list[Piece]]) -> str:
    """List every file and folder, here or missing, with the notebooks that need it; then the sources of the missing.

    Args:
        needs: notebook -> its `profiles.pieces`.
    """
    lines = [f"What the paper's setting of notebooks {', '.join(each[:2] for each in needs)} needs"]
    lines[0] += "".join(f"; {each[:2]} is not run here" for each in needs if each not in NOTEBOOKS)
    pieces = _unique([piece for own in needs.values() for piece in own])
    for piece in pieces:
        wanted = (each[:2] if piece.name in {one.name for one in own} else "  " for each, own in needs.items())
        lines.append(f"  {'missing' if piece.missing else 'here':8}{' '.join(wanted)}  {piece.name}")
    wrap = textwrap.TextWrapper(116, initial_indent="- ", subsequent_indent="  ", break_long_words=False)
    wrap.break_on_hyphens = False  # names and addresses stay whole
    lines += [line for piece in pieces if piece.missing for line in wrap.wrap(piece.missing)]
    return "\n".join(lines)


def run(notebook: str, values: dict) -> str:
    """Execute a notebook into `OUT` and show its bars and warnings; returns why it failed, or ""."""
    import nbclient  # here, as papermill: where nothing can run, nobody waits for them
    import papermill

    (OUT / "figures").mkdir(parents=True, exist_ok=True)
    try:
        path = profiles.NOTEBOOKS / f"{notebook}.ipynb"
        execute(path, str(OUT / path.name), values, stderr_file=sys.stderr)
    except papermill.PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except nbclient.exceptions.DeadKernelError as error:
        return f"{error} (perhaps for lack of memory)"
    return ""


def settings(notebook: str, given: dict) -> dict:
    """Set all parameters of a notebook: the paper's setting, folders below `OUT`, and those of `given` that it has.

    Raises:
        ValueError: a parameter of another type.
    """
    values, below = profiles.parameters(notebook), os.path.relpath(OUT, profiles.NOTEBOOKS)
    values |= {"results_dir": f"{below}/{notebook}", "figures_dir": f"{below}/figures"}
    values |= {name: value for name, value in given.items() if name in values}
    check(values, profiles.defaults(notebook))
    return values


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; `CODES` says what it returns."""
    form = argparse.RawDescriptionHelpFormatter
    profiles.check_checkout()
    parser = argparse.ArgumentParser("python -m helpers.paper", description=__doc__, epilog=CODES, formatter_class=form)
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help=f"some of {', '.join(NOTEBOOKS)}")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="parameters",
        help="another value, as YAML, where a notebook has it: -p n_images 100; folders as seen from notebooks/",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what is missing for every notebook, run nothing")
    options = parser.parse_args(arguments)
    possible = profiles.with_profile() if options.dry_run else list(NOTEBOOKS)
    notebooks = options.notebooks or possible
    if unknown := set(notebooks) - set(possible):
        parser.error(f"expected notebooks of {', '.join(possible)}, got {', '.join(sorted(unknown))}")
    given = {name: yaml.safe_load(value) for name, value in options.parameters}
    known = sorted(set().union(*map(profiles.defaults, notebooks)))
    if unknown := set(given) - set(known):
        parser.error(f"-p: expected parameters among {', '.join(known)}; got {', '.join(sorted(unknown))}")
    try:
        asked = {notebook: settings(notebook, given) for notebook in notebooks}
        needs = {notebook: profiles.pieces(values) for notebook, values in asked.items()}
        if options.dry_run:
            _say([preflight(needs)])
            return 2 if any(piece.missing for own in needs.values() for piece in own) else 0
        parts = {notebook: narrow(values) for notebook, values in asked.items()}
        if not options.notebooks:
            needs |= {notebook: profiles.pieces(settings(notebook, given)) for notebook in LISTED}
        lines = [preflight(dict(sorted(needs.items()))), ""]
        for notebook, part in parts.items():
            lines += _plan(notebook, part)
        chosen = {notebook: part.values for notebook, part in parts.items() if not part.stops}
        _say(lines)
        hours = estimate(chosen) if chosen else []
    except ValueError as error:
        parser.error(str(error))
    if not chosen:
        _say(["Nothing can run: every notebook lacks an essential file."])
        return 2
    _say(["", *hours, ""])
    outcomes = dict.fromkeys(notebooks, SKIPPED)
    try:
        for notebook, values in chosen.items():
            _say([f"{notebook}: running; stop it any time, the next call goes on"])
            why = run(notebook, values)
            outcomes[notebook] = FAILED if why else PART if parts[notebook].left_out else WHOLE
            lines.append(f"{notebook}: {outcomes[notebook]}" + (f", {why}" if why else ""))
            left_out = profiles.NOTEBOOKS / values["results_dir"] / LEFT_OUT
            lines[-1] += f"; {left_out.read_text(encoding='utf-8').strip()}" if left_out.is_file() else ""
            _say([lines[-1]])
    except KeyboardInterrupt:
        _say([f"stopped; run again to go on, the rows are in {OUT}"])
        return 130
    files.replace(OUT / "summary.txt", "\n".join([*lines, ""]))
    _say([f"notebooks as executed, with the parameters used; rows, tables, figures and summary.txt: {OUT}"])
    states = set(outcomes.values())
    return 1 if FAILED in states else 0 if states == {WHOLE} else 3


def _plan(notebook: str, part: Part) -> list[str]:
    """Say what of a notebook will be run, and what not."""
    if part.stops:
        return [f"{notebook}: skipped, it cannot do without {', '.join(piece.name for piece in part.stops)}"]
    if not part.left_out:
        return [f"{notebook}: in full"]
    return [f"{notebook}: in part, left out", *(f"  {line}" for line in part.left_out)]


def _say(lines: list[str]) -> None:
    sys.stdout.write("\n".join([*lines, ""]))
    sys.stdout.flush()  # before the bars of a notebook


if __name__ == "__main__":
    sys.exit(main())
