"""Check a data set before a run: decode every picture in full, and report all problems in one message."""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from helpers.colour import alike
from helpers.datasets.sources import list_images, look, names, shorten
from helpers.downscalers.pairs import made_from_whole
from helpers.images import LOSSLESS, Picture


class Preflight(NamedTuple):
    """What a run may use, and what it has to say about the rest."""

    names: list[str]  # N_X = len(names)
    aside: list[tuple[str, str]]  # image, reason
    notes: list[str]  # conversions, ignored entries, equal pictures


def preflight(
    dataset: str | Path,
    scale: int,
    *,
    n_images: int | None = None,
    minimum_side: int = 1,
    minimum_lr_side: int = 1,
    scales: tuple[int, ...] | None = None,
    lr_folder: str | Path | None = None,
    allow_lossy_lr: bool = False,
    strict: bool = False,
    size: int = 256,
    **reading,
) -> Preflight:
    """Decode every HR and LR picture in full before anything is computed, and report all problems at once.

    Args:
        dataset, n_images, size: as in `names`.
        scale: s; HR images count as cropped to its multiple.
        minimum_side: smallest HR side that the distortion takes (`distortions.MINIMUM_SIDE`).
        minimum_lr_side: smallest LR side that the upscaler takes.
        scales: those that have an upscaler; None for any.
        lr_folder: ready LR images, paired by stem.
        allow_lossy_lr: take files that are not lossless (`images.LOSSLESS`) as LR images.
        strict: raise for an image that would otherwise be left out.
        reading: options of `images.read_picture`, for HR and LR alike.

    Returns:
        The names to use, the images left out with their reasons, and notes.

    Raises:
        ValueError: a problem of the whole set, or no image is left; lists every problem.
    """
    if scale < 1:
        raise ValueError(f"scale: expected at least 1, got {scale}")
    files, lr_files, ignored, stop = _find(dataset, lr_folder, n_images, size)
    if scales is not None and scale not in scales:
        stop.insert(0, f"scale: expected one with an upscaler, {', '.join(map(str, scales))}, got {scale}")
    accepted, aside, notes, pixels = [], [], defaultdict(list), defaultdict(list)
    for name, source in files.items():
        hr = look(dataset, name, source, size, **reading)
        lr = look(lr_folder, name, lr_files[name], size, **reading) if name in lr_files else None
        problems, stops = _size_problems(hr, scale, minimum_side, minimum_lr_side)
        if lr is not None:
            problems += [f"LR: {lr.problem}"] * (lr.image is None)
            wrong, unsure = pair_problems(hr, lr, scale, scales=scales, allow_lossy_lr=allow_lossy_lr)
            stops += wrong
            for note in unsure:
                notes[note].append(name)
        if strict:
            problems, stops = [], stops + problems
        stop += [f"{name}: {reason}" for reason in stops]
        if problems:
            aside.append((name, "; ".join(problems)))
        elif not stops:
            accepted.append(name)
        for note in [*hr.notes, *(f"LR {note}" for note in (lr.notes if lr else ()))]:
            notes[note].append(name)
        if hr.image is not None:
            if any(side % scale for side in hr.image.shape[-2:]):
                notes[f"cropped to a multiple of {scale}"].append(name)
            content = repr(hr.image.shape).encode() + hr.image.numpy().tobytes()
            pixels[hashlib.sha256(content).digest()].append(name)
    if files and not accepted and not stop:
        stop.append(f"no image of {len(files)} is left")
    if stop:
        left_out = [f"(left out) {name}: {reason}" for name, reason in aside]
        title = f"{dataset}: {len(stop)} problem{'s' * (len(stop) > 1)} before the start"
        raise ValueError("\n- ".join([title, *stop, *left_out]))
    lines = [f"{note}: {shorten(who)}" for note, who in notes.items()]
    if len(pixels) < sum(map(len, pixels.values())):
        same = "; ".join(" = ".join(who) for who in pixels.values() if len(who) > 1)
        lines.append(f"the same picture twice, {len(pixels)} distinct ones: {same}")
    if ignored:
        lines.append(f"ignored, hidden or no pictures by their name: {shorten(ignored)}")
    return Preflight(accepted, aside, lines)


def _find(dataset: str | Path, lr_folder: str | Path | None, n_images: int | None, size: int) -> tuple:
    """HR and LR images by name, entries that are no pictures, and why these do not make pairs."""
    files, lr_files, ignored, stop = {}, {}, [], []
    try:
        listed, ignored = list_images(dataset, size)
        files = {name: listed[name] for name in names(dataset, n_images, size=size)}
    except ValueError as error:
        stop.append(str(error))
    if lr_folder is not None:
        try:
            lr_files, more = list_images(lr_folder, size)
            ignored = [*ignored, *more]
            stop += _unpaired(files, lr_files, extra=n_images is None)
        except ValueError as error:
            stop.append(str(error))
    return files, lr_files, ignored, stop


def _size_problems(hr: Picture, scale: int, minimum_side: int, minimum_lr_side: int) -> tuple[list, list]:
    """What sets this image aside, and what stops the run."""
    if hr.image is None:
        return [hr.problem], []
    height, width = hr.image.shape[-2:]
    least = min(height, width) // scale
    if least * scale >= minimum_side and least >= max(minimum_lr_side, 1):
        return [], []
    needed = f"at least {minimum_side} for the distortion and {minimum_lr_side} after downscaling"
    return [f"{height}x{width} is too small at scale {scale}: expected sides of {needed}"], []


def pair_problems(
    hr: Picture,
    lr: Picture,
    scale: int,
    *,
    scales: tuple[int, ...] | None = None,
    allow_lossy_lr: bool = False,
) -> tuple[list[str], list[str]]:
    """Say why a ready LR image is none of this HR image cropped at the bottom and right to a multiple of `scale`.

    Args:
        hr, lr: as `images.read_picture` finds them, `hr` whole; of one that cannot be used, nothing is said here.
        scale, scales, allow_lossy_lr: as in `preflight`.

    Returns:
        What stops a run: a lossy file, another colour space, another size, or an LR image of floor(H / s) pixels
        that covers the whole HR image and not its crop (see `downscalers.pairs.made_from_whole`), so that its content
        lies elsewhere; and notes of what cannot be told.
    """
    if lr.image is None:
        return [], []
    stops, notes = [], []
    if lr.format not in ("", *LOSSLESS) and not allow_lossy_lr:
        stops.append(
            f"expected a lossless LR file ({', '.join(LOSSLESS)}), got {lr.format}, whose loss would be part of the "
            "score; write it as PNG if that is meant"
        )
    if hr.image is not None:
        if not alike(hr.profile, hr.look, lr.profile, lr.look):
            stops.append(
                f"expected one colour profile, got {hr.profile or 'sRGB'!r} for HR, {lr.profile or 'sRGB'!r} for LR; "
                "convert both to sRGB, or write into one what the other says if its pixels are meant so"
            )
        (height, width), (rows, columns) = hr.image.shape[-2:], lr.image.shape[-2:]
        cropped = f"{height - height % scale}x{width - width % scale}"
        way = f"make it of that crop, helpers.images.crop_to_multiple(hr, {scale})"
        if (rows, columns) == (height // scale, width // scale):
            whole = made_from_whole(hr.image, lr.image, scale) if height % scale or width % scale else False
            if whole is None:
                notes.append("too little detail to tell whether LR was made of the whole HR image or of the crop")
            if whole:
                stops.append(
                    f"expected an LR image of the {cropped} HR pixels at the top left, a multiple of {scale}, got "
                    f"{rows}x{columns} made of all {height}x{width}, so that its content lies elsewhere; {way}"
                )
        else:
            known = f"; scales with an upscaler: {', '.join(map(str, scales))}" if scales else ""
            stops.append(
                f"expected an LR image of {height // scale}x{width // scale} for scale {scale}, got "
                f"{rows}x{columns}, a ratio of {height / rows:.3g} by {width / columns:.3g}{known}"
                + (
                    f"; HR is {height}x{width} and counts as cropped to {cropped}: {way}"
                    if cropped != f"{height}x{width}"
                    else ""
                )
            )
    return stops, notes


def _unpaired(hr: dict, lr: dict, *, extra: bool) -> list[str]:
    missing, more = [name for name in hr if name not in lr], [name for name in lr if name not in hr]
    found = [f"no LR image for {len(missing)}: {shorten(missing, 20)}"] if missing else []
    return found + ([f"no HR image for {len(more)} LR images: {shorten(more, 20)}"] if more and extra else [])
