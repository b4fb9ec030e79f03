"""The parameters of a notebook: read from its first cell, checked against it, before anything is computed for them.

The parameters cell holds literals, one a line; it says which names there are and of which type each is.
"""

import ast
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from helpers import datasets, distortions, files, upscalers
from helpers.runs import adapters, methods
from helpers.runs.experiment import is_function, own_upscaler
from helpers.runs.user_files import spelled as spelled_file
from helpers.runtime import check_seed

INJECTED = "# Parameters"  # first line of the cell that papermill adds after the parameters cell
# Parameters that take more than the type of their default, or fewer values, wherever a notebook has them
HEATS = ("heat", "flow_heat")  # also "1.0+0.1", one for each stage of a cascade
OWN = "downscaler"  # also a list of texts, or name -> text
METHODS = (OWN, "downscalers", "lr_downscalers", "ladder", "with_gradient")  # what `runs.adapters.resolve` takes
DISTORTIONS = ("distortion", "also", "more_distortions")
ZERO = (
    "seed",
    "workers",
    "n_images_large",
    "n_small",
    "n_tuned",
    "mean_iterations",
    "second_iterations",
    "large",
)  # integers that may be 0; the others at least 1
RANGES = {"margin": (1e-9, 1.0), "alpha": (1e-9, 0.5), "image_cost": (0.0, 1e9)}
COUNTS = ("scales", "factors", "lr_sizes", "timed", "threads")  # lists of integers above 0
IMAGES = ("dataset", "portrait")  # what `datasets.names` takes
SETS = ("sets", "camera")  # name -> what `datasets.names` takes, or several
PATHS = (  # files and folders that must be there; "" is none, some take a word instead
    "features", "ethnicity", "evidence", "images", "labels", "rows_file", "scores", "lpips_rows", "faces",
    "face_labels", "face_rows", "photographs", "evaluation", "calibration", "unseen",
)  # fmt: skip
WORDS = ("photographs", "scientific", "library", "generated", "portrait", "download")


def literals(source: str) -> dict[str, object]:
    """Read a cell that holds assignments of literals and nothing else: name -> value; {} for any other cell."""
    try:
        body = ast.parse(source).body
        return {line.targets[0].id: ast.literal_eval(line.value) for line in body}
    except (SyntaxError, ValueError, AttributeError):  # a magic, a call, no assignment to a name
        return {}


def check(namespace: Mapping[str, object], defaults: Mapping[str, object] | None = None, **least: int) -> None:
    """Stop a notebook whose parameters cannot work, with all problems in one message: `notebook.check(globals())`.

    The parameters cell says which names there are and of which type each is. Papermill only warns about a name that
    this cell does not have, and hands on `-p flag true` as the text "true". A kernel keeps the text of its cells in
    `In`: the parameters cell is the one with most of the names in papermill's, of equals the one with the most
    literals, of these the first, so an edit in the session is held against the cell as it was; papermill's cell is the
    last that begins with "# Parameters". In a kernel, files, folders and downscalers must be there, too.

    Args:
        namespace: the notebook's `globals()`, or parameters by name.
        defaults: what the parameters cell assigns; needed where `namespace` has no `In`, that is outside a kernel.
        least: smallest value of an integer, where it is not 1 (0 of those in `ZERO`), or fewest entries of a list.

    Raises:
        ValueError: an unknown name in papermill's cell; a parameter that is missing or of another type than its
            default (an int passes for a float, a bool for no number, a heat may be "1.0+0.1", `downscaler` a list or
            a mapping); NaN or infinity; a value that no notebook can work with; or no parameters cell was found.
    """
    cells = list(namespace.get("In", ()))
    injected = [source for source in cells if source.startswith(INJECTED)]
    given, here = _assigned(injected[-1]) if injected else [], defaults is None
    if here:
        found = [literals(source) for source in cells if source not in injected]
        defaults = max(found, key=lambda each: (len(each.keys() & set(given)), len(each)), default={})
    if not defaults:
        raise ValueError("parameters: expected a cell of literals, run before this one, or `defaults`; found neither")
    problems = []
    for name in given:
        if name not in defaults:
            near = get_close_matches(name, defaults, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(defaults)}"
            problems.append(f"unknown parameter {name!r}; {hint}")
    values = {name: namespace.get(name) for name in defaults}
    wrong = {name: _mistyped(name, value, defaults[name]) for name, value in values.items()}
    right = {name: value for name, value in values.items() if not wrong[name]}
    problems += [*filter(None, wrong.values()), *_impossible(right, defaults, least)]
    _stop([*problems, *(_not_here(right) if here else [])])


def _stop(problems: Iterable[str]) -> None:
    if problems := list(filter(None, problems)):
        raise ValueError("parameters: " + "; ".join(problems))


def _assigned(source: str) -> list[str]:
    nodes = ast.walk(ast.parse(source))
    return [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def _mistyped(name: str, value: object, default: object) -> str:
    """Say how the type of a parameter differs from that of its default, or ""."""
    if (name in HEATS and _is_heats(value)) or (name == OWN and _is_own(value)):
        return ""
    got, kind = f"got {type(value).__name__} {value!r}", type(default).__name__
    if not _alike(value, default):
        more = {OWN: ", a list of texts, or a mapping of names to texts"} | dict.fromkeys(HEATS, " or '1.0+0.1'")
        hint = f"; papermill takes it by -y '{name}: ...'" * (isinstance(value, str) and isinstance(default, list))
        return f"{name}: expected {kind}{more.get(name, '')}, {got}{hint}"
    if isinstance(default, list) and default and isinstance(value, list):
        for each in value:
            if not any(_alike(each, one, inside=True) for one in default):
                kinds = " or ".join(dict.fromkeys(_kind(one) for one in default))
                return f"{name}: expected a list of {kinds}, got {each!r} in it"
    return "" if _finite(value) else f"{name}: expected finite numbers, got {value!r}"


def _alike(value: object, default: object, inside: bool = False) -> bool:
    """Whether a value is of the type of a default; a list inside a list, one of its entries, has their length too."""
    accepted = (int, float) if type(default) is float else type(default)
    if not isinstance(value, accepted) or (isinstance(value, bool) and not isinstance(default, bool)):
        return False
    if not inside or not isinstance(default, list):
        return True
    return len(value) == len(default) and all(
        _alike(each, one) or (type(one) is float and _is_heats(each)) for each, one in zip(value, default, strict=True)
    )


def _kind(value: object) -> str:
    return f"[{', '.join(map(_kind, value))}]" if isinstance(value, list) else type(value).__name__


def _finite(value: object) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    return all(map(_finite, value)) if isinstance(value, list) else not isinstance(value, float) or math.isfinite(value)


def _is_heats(value: object) -> bool:
    """Whether it is a text such as "1.0+0.1"."""
    try:
        return isinstance(value, str) and "+" in value and all(math.isfinite(float(part)) for part in value.split("+"))
    except ValueError:
        return False


def _is_own(value: object) -> bool:
    texts = list(value.values()) if isinstance(value, Mapping) else value
    return isinstance(texts, list) and all(isinstance(text, str) and text for text in [*texts, *value])


def _impossible(values: Mapping[str, object], defaults: Mapping[str, object], least: Mapping[str, int]) -> list[str]:
    """Values that are impossible on every machine."""
    problems = []
    for name, value in values.items():
        low = least.get(name, 0 if name in ZERO or defaults[name] == 0 else 1)
        if isinstance(value, list) and len(value) < least.get(name, 0):
            problems.append(f"{name}: expected a list of at least {low}, got {value}")
        if type(value) is int and type(defaults[name]) is int and value < low:
            problems.append(f"{name}: expected at least {low}, got {value}")
        if name in COUNTS and (bad := [each for each in value if each < 1]):
            problems.append(f"{name}: expected integers above 0, got {bad[0]}")
        if name in HEATS and min(float(part) for part in str(value).split("+")) < 0:
            problems.append(f"{name}: expected 0 or more, a standard deviation, got {value!r}")
        if name in DISTORTIONS:
            known = ["auto", *distortions.DISTORTIONS] if name == "distortion" else list(distortions.DISTORTIONS)
            given = [value] if isinstance(value, str) else value
            wrong = [each for each in given if each not in known and not (name == "distortion" and is_function(each))]
            problems += [f"{name}: expected {', '.join(known)}, got {each!r}" for each in wrong]
        if name in RANGES and not RANGES[name][0] <= value <= RANGES[name][1]:
            problems.append(f"{name}: expected {' to '.join(map('{:g}'.format, RANGES[name]))}, got {value!r}")
    return [*problems, _reason("seed", check_seed, values["seed"]) if values.get("seed", 0) > 0 else ""]


def _not_here(values: Mapping[str, object]) -> list[str]:
    """Files, folders, images and downscalers that are not on this machine."""
    problems, size = [], values.get("size", 256)
    for name in (each for each in IMAGES if each in values):
        n_images = values.get("n_images") if name == "dataset" else None
        reason = _reason(name, lambda x, n=n_images: datasets.names(x, n, size=size), values[name])
        problems.append(reason + start_of(values[name], reason))
    for name in (each for each in SETS if each in values):
        for path in _texts(values[name]):
            reason = _reason(name, datasets.names, path)
            problems.append(reason + start_of(path, reason))
    for name in (each for each in PATHS if isinstance(values.get(each), str)):
        parts = [values[name]] if Path(values[name]).exists() else values[name].split(":")  # several, in `training/`
        gone = [part for part in parts if part and part not in WORDS and not Path(part).exists()]
        problems += [f"{name}: expected a file or folder, found none at {part!r}{start_of(part)}" for part in gone]
    if is_function(spec := values.get("distortion", "")):
        problems.append(_reason("distortion", lambda spec: adapters.load(spelled_file(spec), "distortion"), spec))
    for name in METHODS:
        given = own(values.get(name) or []) if name == OWN else values.get(name, [])
        for spec in (each if isinstance(each, str) else each[1] for each in given):
            reason = _reason(name, adapters.resolve, spec)
            problems.append(reason + (start_of(spec[7:].strip(), reason) if spec.startswith("folder:") else ""))
    return problems


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for each in inner for text in _texts(each)]


def _reason(name: str, function: Callable, value: object) -> str:
    """What `function(value)` complains of, under the name of the parameter; "" if it does not."""
    try:
        function(value)
    except ValueError as error:
        return str(error) if str(error).startswith(f"{name}: ") else f"{name}: {error}"
    return ""


def start_of(path: str, reason: str = " ") -> str:
    """Say where a relative path starts, which nobody sees: a notebook runs in its own folder.

    Args:
        path: as it was given; "" is the answer for an absolute one.
        reason: "" is the answer, too, where nothing is wrong with the path.
    """
    if not reason or path in WORDS or Path(path).expanduser().is_absolute():
        return ""
    return f" (a relative path starts in {Path.cwd()}: {(Path.cwd() / path).resolve()})"


def check_upscalers(*cases: tuple[str, int, float | str]) -> None:
    """Stop a notebook that asks an upscaler for a scale or heat that it has not; of ours nothing is loaded.

    Args:
        cases: (upscaler, scale, heat), as `upscalers.stages` takes them; or the reader's own, as `runs.Experiment`.

    Raises:
        ValueError: lists every problem.
    """
    problems = []
    for name, scale, heat in cases:
        try:
            if own := own_upscaler(name):
                methods.upscaler(name, scale=scale, heat=heat)
                if heat != (wanted := 1.0 if own[1] else 0.0):
                    why = "its noise is its own" if own[1] else "it has no noise"
                    problems.append(f"heat: expected {wanted} for {name!r}, {why}, got {heat!r}")
            else:
                upscalers.stages(name, scale, heat)
        except ValueError as error:
            problems.append(str(error))
    _stop(dict.fromkeys(problems))


def spelled(upscaler: str, heat: float | str) -> tuple[str, float | str]:
    """Spell an upscaler and its heat as rows have them: 1 is 1.0, "a + b" is "a+b".

    Args:
        upscaler, heat: as `upscalers.stages` takes them; of the reader's own see `runs.methods.adopt`.
    """
    if own_upscaler(upscaler):
        return methods.adopt(upscaler, "upscaler"), float(heat)
    heats = [float(part) for part in str(heat).split("+")]
    return upscalers.normalise(upscaler), "+".join(map(str, heats)) if len(heats) > 1 else heats[0]


def own(downscaler: str | Sequence[str] | Mapping[str, str]) -> list[str | tuple[str, str]]:
    """List the reader's own downscalers, as `runs.Experiment` takes them.

    Args:
        downscaler: the parameter: "" for none, one text, a list of texts, or the name in the tables -> text.
    """
    if isinstance(downscaler, Mapping):
        return list(downscaler.items())
    return [downscaler] if isinstance(downscaler, str) and downscaler else list(downscaler)


def outputs(results_dir: str, figures_dir: str, *inputs: str) -> str:
    """Make the folders that a notebook writes to, before it computes anything for them.

    Args:
        results_dir: of rows and tables.
        figures_dir: of figures; "" puts them beside the rows, so that a rerun changes no file of the repository.
        inputs: data sets, which must not hold results.

    Returns:
        The folder of figures.

    Raises:
        ValueError: no folder of rows is named, or as `files.check_output`.
    """
    if not results_dir.strip():
        raise ValueError(f"results_dir: expected a folder, got {results_dir!r}")
    figures_dir = figures_dir or str(Path(results_dir, "figures"))
    for folder in (results_dir, figures_dir):
        files.check_output(folder, *inputs)
    return figures_dir
