"""Run a program of the reader's on one image: as a downscaler, or as an upscaler that draws by its seed.

The program is a list of arguments, never a line for a shell. It gets a fresh folder, a time-out and a PNG file, and
only what it leaves there in this call is read, so nothing stale can be.
"""

import contextlib
import os
import shlex
import shutil
import signal
import string
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from helpers import files
from helpers.images import LOSSLESS, quantize, read_picture, write_rgb
from helpers.runs.experiment import COMMAND, SEED

SEEDS = 2**31  # drawn from each generator
STEM = "000000"  # of an upscaler's input; the official programs add "_0", "_out", "_rlt" or nothing
START = 900.0  # seconds that one draw may take: a diffusion model may need a minute to start
WORDS = 20  # last lines of a program that an error repeats


def arguments(template: str, needed: Sequence[set[str]], allowed: set[str]) -> list[str]:
    """Split a program's arguments and look at its places for values.

    Args:
        template: "mytool {input} {output} --scale {scale}"; braces that mean themselves are doubled.
        needed: groups of names in braces, of each of which one has to be there.
        allowed: further names.

    Returns:
        The arguments, names in braces.

    Raises:
        ValueError: a name is missing or unknown, or there is no such program.
    """
    posix = os.name == "posix"  # elsewhere the backslash is no escape, and quotes are left on the words
    try:
        words = shlex.split(template, posix=posix)
        words = words if posix else [word.strip('"') for word in words]
        fields = {field for word in words for _, field, _, _ in string.Formatter().parse(word) if field is not None}
    except ValueError as error:  # a quote or a brace that is not closed
        raise ValueError(f"command: expected arguments as in a shell, got {template}: {error}") from error
    if not words or not all(group & fields for group in needed) or not fields <= set.union(allowed, *needed):
        wanted = ", ".join(" or ".join(f"{{{name}}}" for name in sorted(group)) for group in needed)
        more = "".join(f", maybe {{{name}}}" for name in sorted(allowed))
        raise ValueError(f"command: expected {wanted}{more}, other braces doubled, got {template}")
    if shutil.which(words[0]) is None:
        raise ValueError(f"command: expected a program that can be run, found no {words[0]!r}")
    return words


def call(words: Sequence[str], values: Mapping[str, object], timeout: float, expect: Callable[[], Path | None]) -> Path:
    """Run a program once and find what it wrote.

    Args:
        words: of `arguments`.
        values: by name.
        timeout: seconds.
        expect: looks for the file after a run without an error; None where there is none.

    Returns:
        The file.

    Raises:
        ValueError: the program failed, took too long or wrote no such file; repeats its last words.
    """
    argv = [word.format(**values) for word in words]
    with tempfile.TemporaryDirectory(prefix="program-") as folder:
        logs = [Path(folder, name) for name in ("stderr", "stdout")]
        # Files, not pipes: a grandchild that keeps a pipe open would make us wait beyond the time-out.
        with logs[0].open("wb") as stderr, logs[1].open("wb") as stdout:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )
            try:
                process.wait(timeout)
                problem = f"exit code {process.returncode}" if process.returncode else ""
            except subprocess.TimeoutExpired:
                problem = f"no end after {timeout:g} s"
            finally:
                if process.poll() is None:
                    kill(process)
        found = None if problem else expect()
        if found is None:
            problem = problem or "no file {output}"
            tail = next((text for log in logs if (text := log.read_text(errors="replace").strip())), "nothing")
            tail = "\n".join(tail.splitlines()[-WORDS:])
            raise ValueError(
                f"command {shlex.join(argv)}: expected exit code 0 and an image, got {problem}; "
                f"its last words: {tail[-1000:]}"
            )
        return found


def downscaler(template: str, timeout: float, allow_lossy: bool) -> Callable[[Tensor, int], Tensor]:
    """`downscale(hr, scale)` by a program that reads {input} and writes {output}, one image at a time."""
    words = arguments(template, [{"input"}, {"output"}], {"scale"})
    _check_seconds(timeout)

    def one(image: Tensor, scale: int) -> Tensor:
        size = (image.shape[1] // scale, image.shape[2] // scale)
        with tempfile.TemporaryDirectory(prefix="downscaler-") as folder:
            output = Path(folder, "output.png")
            values = {"input": f"{folder}/input.png", "output": output, "scale": scale}
            write_rgb(image[None], values["input"])
            call(words, values, timeout, lambda: output if output.is_file() else None)
            return read_levels(output, size, allow_lossy, srgb=True)

    def downscale(hr: Tensor, scale: int) -> Tensor:
        return torch.cat([one(image, scale) for image in hr]).to(hr)

    return downscale


def upscaler(spec: str, *, scale: int, timeout: float = START) -> Callable:
    """f_us by a program that is run once for each draw, with a seed of that draw's generator.

    Args:
        spec: "command: tool {input} {output} --seed {seed} --scale {scale}". {input} and {output} are PNG files;
            {inputs} and {outputs} in their place are folders with one file each, as the official programs of ESRGAN,
            ResShift, StableSR and DiffBIR take them. A program without {seed} is deterministic.
        scale: s.
        timeout: seconds that one draw may take.

    Returns:
        `upscale(lr, generators)`, 8-bit levels in [0, 1].

    Raises:
        ValueError: as `arguments`; when called, as `call`, or what it wrote is no PNG file of the right size.
    """
    words = arguments(
        spec.removeprefix(COMMAND).strip(), [{"input", "inputs"}, {"output", "outputs"}], {"seed", "scale"}
    )
    _check_seconds(timeout)

    def draw(lr: Tensor, seed: int) -> Tensor:
        size = (lr.shape[2] * scale, lr.shape[3] * scale)
        with tempfile.TemporaryDirectory(prefix="upscaler-") as folder:
            inputs, outputs = Path(folder, "input"), Path(folder, "output")
            inputs.mkdir()
            outputs.mkdir()
            values = {"inputs": inputs, "outputs": outputs, "input": inputs / f"{STEM}.png", "seed": seed}
            values |= {"output": outputs / f"{STEM}.png", "scale": scale}
            write_rgb(lr, values["input"])
            found = call(words, values, timeout, lambda: _result(outputs))
            return read_levels(found, size, srgb=True, what="an SR image")

    def upscale(lr: Tensor, generators: Generator | Sequence[Generator]) -> Tensor:
        generators = [generators] if isinstance(generators, Generator) else list(generators)
        seeds = [torch.randint(SEEDS, (), generator=each).item() for each in generators]
        if SEED not in spec:  # one image, whatever the generators are
            return draw(lr, 0).expand(len(seeds), -1, -1, -1).to(lr)
        return torch.cat([draw(lr, seed) for seed in seeds]).to(lr)

    upscale.__name__ = spec
    return upscale


def _check_seconds(timeout: float) -> None:
    if not 0 < timeout < float("inf"):
        raise ValueError(f"timeout: expected seconds above 0, got {timeout!r}")


def _result(folder: Path) -> Path | None:
    """The only file of `STEM`, or of `STEM` and something that is no digit; below the folder at any depth."""
    rest = {path: path.stem.removeprefix(STEM) for path in folder.rglob("*") if path.is_file()}
    found = [p for p, end in rest.items() if p.stem.startswith(STEM) and not end[:1].isdigit()]
    if len(found) > 1:
        raise ValueError(f"command: expected one image of {STEM}, got {', '.join(sorted(p.name for p in found))}")
    return found[0] if found else None


def hash_of(spec: str) -> list[tuple[str, str]]:
    """Name and SHA-256 of each file that a program's arguments name: the program, its script, its checkpoints."""
    words = shlex.split(spec.removeprefix(COMMAND))
    paths = [Path(shutil.which(words[0]) or words[0]), *map(Path, words[1:])]
    return [(path.name, files.sha256_of(path)) for path in paths if path.is_file()]


def kill(process: subprocess.Popen) -> None:
    """End a process that has a session of its own, with all that it started there."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def read_levels(
    path: Path,
    size: tuple[int, int] | None,
    allow_lossy: bool = False,
    *,
    srgb: bool = False,
    what: str = "an LR image",
) -> Tensor:
    """An image of 8-bit levels, (1, 3, h, w), exactly as the file has it; maybe only one that is meant as sRGB.

    Args:
        path: of a picture.
        size: height and width that it must have; None: any.
        allow_lossy: take a file whose format is not in `images.LOSSLESS`.
        srgb: refuse a colour profile.
        what: it is, for errors.

    Raises:
        ValueError: it is another image, or cannot be read.
    """
    picture = read_picture(path)
    if picture.format not in ("", *LOSSLESS) and not allow_lossy:
        expected = f"a lossless file ({', '.join(LOSSLESS)}); written as PNG, its loss becomes part of the score"
        got = picture.format
    elif picture.image is None or not torch.equal(picture.image, quantize(picture.image)):
        expected, got = "an opaque image of 8-bit RGB or grey that can be decoded", picture.problem or "floats"
    elif srgb and picture.profile:
        expected, got = f"{what} in sRGB, as the image it was made of", f"colour profile {picture.profile!r}"
    elif size is not None and picture.image.shape[2:] != torch.Size(size):
        expected, got = "{} of {}x{}".format(what, *size), "{}x{}".format(*picture.image.shape[2:])
    else:
        return picture.image
    raise ValueError(f"{path.name}: expected {expected}, got {got}")
