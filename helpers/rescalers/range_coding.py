"""Integers to bits and back by a range coder, of the library `constriction` (Bamler, arXiv 2201.01741).

The distributions are integers that add up to `entropy.COUNTS`, so that no machine's exponential function has a say.
"""

from collections.abc import Sequence
from typing import NamedTuple

import constriction
import numpy as np
from torch import Tensor

from helpers.networks.entropy import COUNTS

FAR = 1 << 23  # the largest distance of an integer from 0
_DIGIT = constriction.stream.model.Uniform(1 << 12)  # what is beyond a table is written as two of them


class Table(NamedTuple):
    """The distribution of integers from `low` to `high`; each end stands for all that is beyond it, too."""

    low: int
    high: int
    symbols: constriction.stream.model.Categorical


def table(low: int, counts: Tensor) -> Table:
    """Make the table of a distribution: `counts`, (K,), of the integers from `low` on, see `entropy.counts_of`.

    Raises:
        ValueError: the counts are fewer than three, below 1, or do not add up to `entropy.COUNTS`.
    """
    numbers = counts.numpy()
    if len(numbers) < 3 or numbers.min() < 1 or numbers.sum() != COUNTS:
        raise ValueError(f"counts: expected three or more of at least 1 and a sum of {COUNTS}, got {numbers.sum()}")
    return Table(
        low, low + len(numbers) - 1, constriction.stream.model.Categorical(numbers / np.float64(COUNTS), perfect=False)
    )


class Writer:
    """Collects integers; `content` is what they became."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()

    def put(self, values: np.ndarray, places: np.ndarray, tables: Sequence[Table]) -> None:
        """Write integers, those of the first table first.

        Args:
            values: any integers up to `FAR` from 0, flat.
            places: which of `tables` each follows, of their shape.
        """
        for place in np.unique(places):
            low, high, symbols = tables[place]
            some = values[places == place]
            self._encoder.encode((some.clip(low, high) - low).astype(np.int32), symbols)
            for value in some[(some <= low) | (some >= high)]:
                beyond = int(low - value if value <= low else value - high)
                self._encoder.encode(np.array(divmod(beyond, 1 << 12), np.int32), _DIGIT)

    def content(self) -> bytes:
        """The bits, in words of four bytes."""
        return self._encoder.get_compressed().astype("<u4").tobytes()


class Reader:
    """Takes integers out of what a `Writer` made, in the same order.

    Raises:
        ValueError: there are not whole words of four bytes.
    """

    def __init__(self, content: bytes) -> None:
        if len(content) % 4:
            raise ValueError(f"expected words of 4 bytes, got {len(content)} bytes")
        self._decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(content, "<u4").astype(np.uint32))

    def take(self, places: np.ndarray, tables: Sequence[Table]) -> np.ndarray:
        """Read as many integers as there are places; see `Writer.put`.

        Raises:
            ValueError: these bits do not come from such integers.
        """
        values = np.zeros(places.shape, np.int64)
        try:
            for place in np.unique(places):
                low, high, symbols = tables[place]
                some = self._decoder.decode(symbols, int((places == place).sum())).astype(np.int64) + low
                for number in np.flatnonzero((some == low) | (some == high)):
                    first, second = self._decoder.decode(_DIGIT, 2).tolist()
                    beyond = (first << 12) + second
                    some[number] += -beyond if some[number] == low else beyond
                values[places == place] = some
        except AssertionError as error:  # of the library: bits that no integers lead to
            raise ValueError(f"expected bits of this model's integers, got others: {error}") from error
        return values
