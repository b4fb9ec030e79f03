"""Write and read the quantised coefficients of a JPEG file; Pillow computes them anew from 8-bit pixels.

Baseline JPEG (ITU-T T.81) with a JFIF header, three components without sub-sampling, so any viewer opens it. The
Huffman codes are those that are shortest for the image (Annex K.2).
"""

import struct
from collections import Counter
from collections.abc import Iterator

import numpy as np

START, END, APP0, QUANTISATION, HUFFMAN, SCAN = 0xD8, 0xD9, 0xE0, 0xDB, 0xC4, 0xDA
BASELINE, EXTENDED, RESTART = 0xC0, 0xC1, 0xDD  # extended: the same with tables of 16 bits
JFIF = b"JFIF\0" + struct.pack(">HBHHBB", 0x102, 0, 1, 1, 0, 0)
SIDE, FREQUENCIES = 8, 64
LARGEST = (2**11 - 1, 2**10 - 1)  # difference of DC coefficients, AC coefficient: what a baseline file can say
ZRL, EOB = 0xF0, 0x00  # sixteen zeros; no more coefficients


def write(coefficients: np.ndarray, tables: np.ndarray, height: int, width: int) -> bytes:
    """Make a JPEG file.

    Args:
        coefficients: integers (3, rows, columns, 64) of Y, Cb, Cr, each block in the zig-zag order of the file.
        tables: integers (2, 64) from 1 to 65535 of luma and chroma, in the same order.
        height, width: of the picture, which the blocks just cover.

    Returns:
        The content of the file.

    Raises:
        ValueError: other shapes, or a value that has no place in such a file.
    """
    coefficients, tables = np.asarray(coefficients), np.asarray(tables)
    covering = (3, -(-height // SIDE), -(-width // SIDE), FREQUENCIES)
    if coefficients.shape != covering or tables.shape != (2, FREQUENCIES) or not 0 < max(height, width) < 1 << 16:
        raise ValueError(
            f"expected coefficients {covering} and tables (2, {FREQUENCIES}) for {height}x{width} pixels, got "
            f"{coefficients.shape} and {tables.shape}"
        )
    for name, given in (("coefficients", coefficients), ("tables", tables)):
        if not np.array_equal(given, np.rint(given)):
            raise ValueError(
                f"{name}: expected integers, got {given.ravel()[given.ravel() != np.rint(given).ravel()][0]}"
            )
    if tables.min() < 1 or tables.max() >= 1 << 16:
        raise ValueError(f"tables: expected integers from 1 to 65535, got [{tables.min()}, {tables.max()}]")
    coefficients, tables = coefficients.astype(np.int64), tables.astype(np.int64)
    symbols = list(_symbols(coefficients))
    codes = []
    for kind in range(4):
        codes.append(_shortest(Counter(symbol for place, symbol, _, _ in symbols if place == kind)))
    words = [_words(*code) for code in codes]
    bits = "".join(words[kind][symbol] + (f"{value:0{size}b}" if size else "") for kind, symbol, value, size in symbols)
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    wide = int(tables.max() > 255)
    parts = [bytes((0xFF, START)), _segment(APP0, JFIF)]
    for number, table in enumerate(tables):
        parts.append(
            _segment(QUANTISATION, bytes([wide << 4 | number]) + table.astype(">u2" if wide else "u1").tobytes())
        )
    components = b"".join(bytes((number, 0x11, min(number - 1, 1))) for number in (1, 2, 3))
    frame = struct.pack(">BHHB", 8, height, width, 3) + components
    parts.append(_segment(EXTENDED if wide else BASELINE, frame))
    for kind, (counts, values) in enumerate(codes):  # DC luma, AC luma, DC chroma, AC chroma
        parts.append(_segment(HUFFMAN, bytes([(kind % 2) << 4 | kind // 2]) + bytes(counts) + bytes(values)))
    chosen = b"".join(bytes((number, 0x11 * min(number - 1, 1))) for number in (1, 2, 3))
    parts += [_segment(SCAN, b"\x03" + chosen + bytes((0, 63, 0))), scan, bytes((0xFF, END))]
    return b"".join(parts)


def read(content: bytes) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Undo `write`, for any baseline JPEG in colour without sub-sampling and restarts.

    Args:
        content: of the file.

    Returns:
        Coefficients (3, rows, columns, 64), tables (2, 64), both int64; height, width.

    Raises:
        ValueError: another kind of file; says what was found.
    """
    try:
        return _read(content)
    except (IndexError, KeyError, struct.error) as error:
        raise ValueError(f"expected a whole JPEG file, got one that is cut or damaged ({error!r})") from error


def _read(content: bytes) -> tuple[np.ndarray, np.ndarray, int, int]:
    if content[:2] != bytes((0xFF, START)):
        raise ValueError(f"expected a JPEG file, got one that begins with {content[:4]!r}")
    at, tables, codes, frame = 2, {}, {}, None
    while True:
        _, marker, length = struct.unpack(">BBH", content[at : at + 4])
        body, at = content[at + 4 : at + 2 + length], at + 2 + length
        if marker == QUANTISATION:
            while body:
                wide, number = body[0] >> 4, body[0] & 15
                size = FREQUENCIES << wide
                tables[number] = np.frombuffer(body[1 : 1 + size], ">u2" if wide else "u1").astype(np.int64)
                body = body[1 + size :]
        elif marker == HUFFMAN:
            while body:
                total = sum(body[1:17])
                codes[body[0]] = _lookup(list(body[1:17]), list(body[17 : 17 + total]))
                body = body[17 + total :]
        elif marker in (BASELINE, EXTENDED):
            precision, height, width, count = struct.unpack(">BHHB", body[:6])
            frame = [tuple(body[6 + 3 * i : 9 + 3 * i]) for i in range(count)]
            if precision != 8 or [sampling for _, sampling, _ in frame] != [0x11] * 3:
                raise ValueError(
                    f"expected 3 components of 8 bits without sub-sampling, got {count} of {precision} bits, sampled "
                    f"{[f'{sampling >> 4}x{sampling & 15}' for _, sampling, _ in frame]}"
                )
        elif 0xC2 <= marker <= 0xCF:
            raise ValueError(f"expected a baseline JPEG, got a frame of kind 0x{marker:02X} (progressive or lossless)")
        elif marker == RESTART and any(body):
            raise ValueError("expected a JPEG file without restarts")
        elif marker == SCAN:
            break
    if frame is None or body[0] != 3:
        raise ValueError(f"expected one scan of three components after a frame, got {body[0]}")
    if not np.array_equal(tables[frame[1][2]], tables[frame[2][2]]):
        raise ValueError("expected one table for both chroma components, got two")
    chosen = [body[2 + 2 * i] for i in range(3)]
    end = content.rfind(bytes((0xFF, END)))
    scan = content[at : end if end > at else len(content)].replace(b"\xff\0", b"\xff")
    pairs = [(codes[number >> 4], codes[0x10 | number & 15]) for number in chosen]
    coefficients = _coefficients(scan, pairs, -(-height // SIDE), -(-width // SIDE))
    return coefficients, np.stack([tables[frame[0][2]], tables[frame[1][2]]]), height, width


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _symbols(coefficients: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """(which code, symbol, following bits, their number) of every coefficient, in the order of the file."""
    dc = coefficients[..., 0]
    differences = np.diff(dc.reshape(3, -1), axis=1, prepend=0)
    for name, values, most in (
        ("DC differences", differences, LARGEST[0]),
        ("AC coefficients", coefficients[..., 1:], LARGEST[1]),
    ):
        if np.abs(values).max() > most:
            raise ValueError(f"{name}: expected at most {most} either way, got {np.abs(values).max()}")
    blocks = coefficients.reshape(3, -1, FREQUENCIES)
    for number in range(blocks.shape[1]):
        for component in range(3):
            kind = 2 * min(component, 1)
            yield (kind, *_amplitude(0, int(differences[component, number])))
            block = blocks[component, number]
            last = 0
            for place in (1 + np.flatnonzero(block[1:])).tolist():
                run = place - last - 1
                for _ in range(run // 16):
                    yield kind + 1, ZRL, 0, 0
                yield (kind + 1, *_amplitude(run % 16, int(block[place])))
                last = place
            if last < FREQUENCIES - 1:
                yield kind + 1, EOB, 0, 0


def _amplitude(run: int, value: int) -> tuple[int, int, int]:
    size = abs(value).bit_length()
    return run << 4 | size, value if value >= 0 else value + (1 << size) - 1, size


def _shortest(counts: Counter) -> tuple[list[int], list[int]]:
    """Number of codes of each length 1..16, and the symbols from the shortest on (Annex K.2)."""
    groups = [(count, [symbol]) for symbol, count in sorted(counts.items())] + [(0, [-1])]  # no code of ones only
    lengths = dict.fromkeys([*counts, -1], 0)
    while len(groups) > 1:
        groups.sort(key=lambda group: (group[0], -group[1][0] if len(group[1]) == 1 else 0))
        (first, some), (second, others) = groups[:2]
        for symbol in some + others:
            lengths[symbol] += 1
        groups = [(first + second, some + others), *groups[2:]]
    numbers = Counter(lengths.values())
    for length in range(max(numbers), 16, -1):  # pairs of codes that are too long take the place of a shorter one
        while numbers[length]:
            shorter = length - 2
            while not numbers[shorter]:
                shorter -= 1
            numbers[length] -= 2
            numbers[length - 1] += 1
            numbers[shorter + 1] += 2
            numbers[shorter] -= 1
    numbers[max(length for length, number in numbers.items() if number)] -= 1  # the code of ones
    ordered = sorted((symbol for symbol in lengths if symbol >= 0), key=lambda symbol: (lengths[symbol], symbol))
    return [numbers[length] for length in range(1, 17)], ordered


def _words(counts: list[int], values: list[int]) -> dict[int, str]:
    """Each symbol's code as a text of 0 and 1."""
    words, code, place = {}, 0, 0
    for length, count in enumerate(counts, 1):
        for symbol in values[place : place + count]:
            words[symbol] = f"{code:0{length}b}"
            code += 1
        code, place = code << 1, place + count
    return words


def _lookup(counts: list[int], values: list[int]) -> list[tuple[int, int] | None]:
    """(symbol, length of its code) for each 16 bits that begin with the code."""
    table = [None] * (1 << 16)
    for symbol, word in _words(counts, values).items():
        free = 16 - len(word)
        first = int(word, 2) << free
        table[first : first + (1 << free)] = [(symbol, len(word))] * (1 << free)
    return table


def _coefficients(scan: bytes, codes: list[tuple[list, list]], rows: int, columns: int) -> np.ndarray:
    padded = np.frombuffer(scan + b"\xff" * 4, np.uint8).astype(np.int64)
    windows = (padded[:-3] << 24 | padded[1:-2] << 16 | padded[2:-1] << 8 | padded[3:]).tolist()
    at, end = 0, 8 * len(scan)

    def take(size: int) -> int:
        nonlocal at
        value = windows[at >> 3] >> (32 - (at & 7) - size) & ((1 << size) - 1)
        at += size
        return value

    def symbol(table: list) -> int:
        nonlocal at
        found = table[windows[at >> 3] >> (16 - (at & 7)) & 0xFFFF]
        if found is None or at >= end:
            raise IndexError(f"no code at bit {at} of {end}")
        at += found[1]
        return found[0]

    def amplitude(size: int) -> int:
        value = take(size)
        return value if not size or value >> (size - 1) else value - (1 << size) + 1

    blocks, before = np.zeros((3, rows * columns, FREQUENCIES), np.int64), [0, 0, 0]
    for number in range(rows * columns):
        for component, (dc, ac) in enumerate(codes):
            before[component] += amplitude(symbol(dc))
            blocks[component, number, 0] = before[component]
            place = 1
            while place < FREQUENCIES and (found := symbol(ac)) != EOB:
                place += found >> 4
                if found & 15:
                    blocks[component, number, place] = amplitude(found & 15)
                place += 1
    return blocks.reshape(3, rows, columns, FREQUENCIES)
