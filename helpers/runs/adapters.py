"""The user's own downscaler: a function, a command, or a folder of LR images; and the checks of each."""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import shlex
import shutil
import signal
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from helpers.downscalers import DOWNSCALERS
from helpers.images import check_hr, from_uint8, to_uint8

SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
LOSSLESS = ("PNG", "BMP")  # by content, whatever the name says
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # what Pillow calls the 8-bit kinds of picture


class Checked(NamedTuple):
    """One call of a downscaler that passed its checks."""

    lr: Tensor  # as returned, (N, 3, H / s, W / s), neither clipped nor rounded
    clipped: float  # share of its values outside [0, 1], which an 8-bit file would clip
    deterministic: bool | None  # whether a second call gave the same values; None: not asked


def check_downscaler(
    f: Callable, name: str, hr: Tensor, scale: int, *, image: str = "", twice: bool = False
) -> Checked:
    """Call a downscaler on a copy of `hr`, without gradients, and refuse what is no LR image.

    Args:
        f: f_ds, as `resolve` returns it.
        name: what errors and rows call it.
        hr: HR images in [0, 1], shape (N, 3, H, W), H and W multiples of `scale`.
        scale: scaling factor s.
        image: name of the image, for errors and for a folder of LR images.
        twice: call it again and compare.

    Returns:
        The LR images, the share of their values outside [0, 1] (by more than 1e-6, which is rounding), and
        whether the second call agreed.

    Raises:
        ValueError: `hr` is no such batch; or the result is no tensor, or has another shape, dtype or device,
            a value that is not finite, or values beyond [-1, 2], the mark of 0..255.
    """
    check_hr(hr, scale)
    options = {"name": image} if getattr(f, "needs_name", False) else {}

    @torch.no_grad()
    def call() -> object:
        return f(hr.clone(), scale, **options)

    def refuse(expected: object, got: object) -> None:
        raise ValueError(f"downscaler {name!r}, image {image!r}: expected {expected}, got {got}")

    lr = call()
    if not isinstance(lr, Tensor):
        refuse("a torch.Tensor", type(lr).__name__)
    shape = (len(hr), 3, hr.shape[2] // scale, hr.shape[3] // scale)
    if lr.shape != shape:
        refuse(f"shape {shape}", tuple(lr.shape))
    if lr.dtype != hr.dtype:
        refuse(f"dtype {hr.dtype}", lr.dtype)
    if lr.device != hr.device:
        refuse(f"device {hr.device}", lr.device)
    lr = lr.detach().clone()  # it may be a buffer that the next call fills again
    if not lr.isfinite().all():
        refuse("finite values", f"{(~lr.isfinite()).sum().item()} values that are NaN or infinite")
    low, high = (value.item() for value in lr.aminmax())
    if low < -1 or high > 2:
        refuse("values in [0, 1] up to some overshoot", f"[{low:g}, {high:g}]; divide 8-bit levels by 255")
    clipped = ((lr < -1e-6) | (lr > 1 + 1e-6)).double().mean().item()
    if not twice:
        return Checked(lr, clipped, None)
    again = call()
    return Checked(lr, clipped, isinstance(again, Tensor) and torch.equal(lr, again))


def resolve(
    spec: str | Callable,
    *,
    names: Iterable[str] | None = None,
    timeout: float = 120.0,
    allow_lossy: bool = False,
) -> Callable[..., Tensor]:
    """A downscaler from what a user can write in one line.

    Args:
        spec: a name in `DOWNSCALERS`; "module:function"; "path/to/file.py:function";
            "command: mytool {input} {output} --scale {scale}"; "folder: path/to/LR"; or a function itself.
        names: names of all HR images; a folder is then checked at once, see `check_folder`.
        timeout: seconds that a command may take per image.
        allow_lossy: take LR images from a command or folder that are not PNG or BMP.

    Returns:
        f_ds, called as `f(hr, scale)`. If `f.needs_name` (a folder) it is called `f(hr, scale, name=image)`.

    Raises:
        ValueError: says what cannot be found and, for a name, which ones there are.
    """
    if callable(spec):
        return _takes_hr_and_scale(spec, getattr(spec, "__name__", "the function"))
    if not isinstance(spec, str):
        raise ValueError(f"downscaler: expected a name, a specification or a function, got {spec!r}")
    if spec in DOWNSCALERS:
        return DOWNSCALERS[spec]
    kind, colon, rest = spec.partition(":")
    if kind == "command":
        return _command(rest.strip(), timeout, allow_lossy)
    if kind == "folder":
        return _folder(Path(rest.strip()).expanduser(), names, allow_lossy)
    if colon:
        return _function(spec)
    close = difflib.get_close_matches(spec, DOWNSCALERS, 1)
    raise ValueError(
        f"downscaler: expected one of {', '.join(DOWNSCALERS)}; 'module:function', 'file.py:function', "
        f"'command: ...' or 'folder: ...', got {spec!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    )


def _function(spec: str) -> Callable[..., Tensor]:
    where, _, attribute = spec.rpartition(":")  # the last colon: C:\mine.py:f
    if where.endswith(".py"):
        path = Path(where).expanduser().resolve()
        if not path.is_file():
            raise ValueError(f"downscaler {spec!r}: expected a Python file, found none at {path}")
        source = importlib.util.spec_from_file_location(f"downscaler_{path.stem}", path)
        module = importlib.util.module_from_spec(source)
        sys.modules[source.name] = module  # dataclasses look their module up
        sys.path.insert(0, str(path.parent))  # so that it may import its neighbours
        try:
            source.loader.exec_module(module)
        finally:
            sys.path.remove(str(path.parent))
    else:
        try:
            module = importlib.import_module(where)
        except ImportError as error:
            raise ValueError(f"downscaler {spec!r}: expected a module {where!r}, got: {error}") from error
    if not callable(function := getattr(module, attribute, None)):
        own = [name for name, _ in inspect.getmembers(module, inspect.isfunction) if name[0] != "_"]
        found = ", ".join(name for name in own if getattr(module, name).__module__ == module.__name__) or "none"
        raise ValueError(f"downscaler {spec!r}: expected a function {attribute!r}, found {found}")
    return _takes_hr_and_scale(function, spec)


def _takes_hr_and_scale(function: Callable, spec: str) -> Callable[..., Tensor]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function written in C has none; the first call will tell
        return function
    try:
        signature.bind(None, 4)
    except TypeError as error:
        raise ValueError(f"downscaler {spec!r}: expected a function of (hr, scale), got {signature}") from error
    return function


# A command: one image, one fresh folder, one process


def _command(template: str, timeout: float, allow_lossy: bool) -> Callable[[Tensor, int], Tensor]:
    if not 0 < timeout < float("inf"):
        raise ValueError(f"timeout: expected seconds above 0, got {timeout!r}")
    posix = os.name == "posix"  # elsewhere the backslash is no escape, and quotes are left on the words
    words = shlex.split(template, posix=posix)
    words = words if posix else [word.strip('"') for word in words]
    fields = {field for word in words for _, field, _, _ in string.Formatter().parse(word) if field is not None}
    if not {"input", "output"} <= fields <= {"input", "output", "scale"}:
        raise ValueError(
            f"command: expected {{input}}, {{output}}, maybe {{scale}}, other braces doubled, got {template}"
        )
    if shutil.which(words[0]) is None:
        raise ValueError(f"command: expected a program that can be run, found no {words[0]!r}")

    def downscale(hr: Tensor, scale: int) -> Tensor:
        return torch.cat([_run(words, image, scale, timeout, allow_lossy) for image in hr]).to(hr)

    return downscale


def _run(words: list[str], image: Tensor, scale: int, timeout: float, allow_lossy: bool) -> Tensor:
    size = (image.shape[1] // scale, image.shape[2] // scale)
    with tempfile.TemporaryDirectory(prefix="downscaler-") as folder:  # nothing stale can be read
        values = {"input": f"{folder}/input.png", "output": f"{folder}/output.png", "scale": scale}
        Image.fromarray(to_uint8(image).permute(1, 2, 0).cpu().numpy()).save(values["input"])
        argv = [word.format(**values) for word in words]
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
                    _kill(process)
        if not problem and not Path(values["output"]).is_file():
            problem = "no file {output}"
        if problem:
            tail = next((text for log in logs if (text := log.read_text(errors="replace").strip())), "nothing")
            raise ValueError(
                f"command {shlex.join(argv)}: expected exit code 0 and an LR image, got {problem}; "
                f"its last words: {tail[-1000:]}"
            )
        return _read_lr(Path(values["output"]), size, allow_lossy)


def _kill(process: subprocess.Popen) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.killpg(process.pid, signal.SIGKILL)  # with all that it started
    else:
        process.kill()
    process.wait()


# A folder of LR images


def check_folder(
    folder: str | Path,
    names: Iterable[str],
    *,
    lr_sizes: Mapping[str, tuple[int, int]] | None = None,
    allow_lossy: bool = False,
) -> dict[str, Path]:
    """Pair LR files with HR images by stem and decode each before any compute; all problems in one error.

    Args:
        folder: LR images, one per HR image. Hidden files, folders and what is no picture are passed over.
        names: names of all HR images.
        lr_sizes: height and width that each LR image must have; sizes are not looked at without it.
        allow_lossy: take lossy files: their loss is part of the score.

    Returns:
        The file of each name.

    Raises:
        ValueError: lists each stem that is missing, extra or there twice (a.png and a.jpg, or A.png), and
            each file that is no 8-bit lossless picture of the right size.
    """
    files = _pictures(Path(folder))
    names = list(names)
    stems = {file.stem: file for file in files}
    folded: dict[str, list[str]] = {}
    for file in files:
        folded.setdefault(file.stem.casefold(), []).append(file.name)
    problems = [f"no file for {name!r}" for name in names if name not in stems]
    problems += [f"no HR image for {stems[stem].name!r}" for stem in stems if stem not in set(names)]
    problems += [f"more than one file: {', '.join(twice)}" for twice in folded.values() if len(twice) > 1]
    for name in names:
        if name in stems:
            try:
                _read_lr(stems[name], (lr_sizes or {}).get(name), allow_lossy)
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError(f"folder {folder}: {len(problems)} problems: " + "; ".join(problems))
    return {name: stems[name] for name in names}


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"folder: expected a folder of LR images, found none at {str(folder)!r}")
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES and file.is_file()]
    files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise ValueError(f"folder {folder}: expected PNG images, found no picture")
    return files


def _folder(folder: Path, names: Iterable[str] | None, allow_lossy: bool) -> Callable[..., Tensor]:
    files: dict[str, list[Path]] = {}
    for file in _pictures(folder):
        files.setdefault(file.stem, []).append(file)
    if names is not None:
        check_folder(folder, names, allow_lossy=allow_lossy)

    def downscale(hr: Tensor, scale: int, *, name: str) -> Tensor:
        if len(hr) != 1:
            raise ValueError(f"folder {folder}: expected one image at a time, got {len(hr)}")
        if len(found := files.get(name, [])) != 1:
            listed = ", ".join(file.name for file in found) or "none"
            raise ValueError(f"folder {folder}: expected one file for {name!r}, got {listed}")
        return _read_lr(found[0], (hr.shape[2] // scale, hr.shape[3] // scale), allow_lossy).to(hr)

    downscale.needs_name = True
    return downscale


def _read_lr(path: Path, size: tuple[int, int] | None, allow_lossy: bool) -> Tensor:
    """An LR image of 8-bit levels, (1, 3, h, w), exactly as the file has it."""

    def refuse(expected: object, got: object) -> None:
        raise ValueError(f"{path.name}: expected {expected}, got {got}")

    try:
        with path.open("rb") as file:
            head = file.read(64)
        if not head:
            refuse("an image", "an empty file")
        if head.lstrip().startswith(b"<"):
            refuse("an image", "what looks like a web page: failed download?")
        with Image.open(path) as image:
            kind, mode, frames = image.format, image.mode, getattr(image, "n_frames", 1)
            image.load()  # decodes all of it: a truncated file stops here
            image = ImageOps.exif_transpose(image)
            transparent = "A" in mode or "transparency" in image.info
            picture = image.convert("RGBA") if mode in MODES else None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # unknown, truncated or damaged
        raise ValueError(f"{path.name}: expected an image that can be decoded, got: {error}") from error
    if kind not in LOSSLESS and not allow_lossy:
        refuse("a PNG, for a lossy LR image changes the score (allow_lossy=True takes it)", kind)
    if frames > 1:
        refuse("one picture", f"{frames} frames")
    depth = head[24] if kind == "PNG" else 8  # in its header; Pillow opens 16-bit RGB as 8-bit without a word
    if picture is None or depth > 8:
        refuse("8-bit RGB or grey", f"mode {mode}, {depth} bits")
    if transparent and picture.getchannel("A").getextrema()[0] < 255:
        refuse("an opaque image", "transparent pixels")
    pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    if size is not None and pixels.shape[:2] != torch.Size(size):
        refuse(f"an LR image of {size[0]}x{size[1]}", f"{pixels.shape[0]}x{pixels.shape[1]}")
    return from_uint8(pixels).permute(2, 0, 1)[None].contiguous()
