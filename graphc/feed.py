"""Steps of a program over the rows of a data set, which ``templates/feed.c`` takes by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import _cffi_backend  # type: ignore[import-untyped]
import numpy as np

from graphc.enter import Ways, address
from graphc.frontend.sources import aligned_empty
from graphc.ir import Array
from graphc.types import BOOL

__all__ = ["Feed"]

_ffi = _cffi_backend.FFI()


class Feed:
    """Steps of a program over the rows of data sets, which :meth:`run` takes by number.

    ``rows`` pairs data sets with words of the frame, ``outputs`` bytes of a step with words: step k writes the k-th part.
    """

    def __init__(
        self, ways: Ways, call: Any, frame: Any, rows: Sequence[tuple[Array, int]], outputs: Sequence[tuple[int, int]], batch: int
    ) -> None:
        self._run, self._rows = ways.run_rows, rows
        self._batches = [aligned_empty((batch * _row_bytes(array),), BOOL) for array, _ in rows]
        inputs = [
            (address(array), _row_bytes(array), address(room), word)
            for (array, word), room in zip(rows, self._batches, strict=True)
        ]
        self._inputs = np.array(inputs, np.int64).reshape(-1, 4)
        self._outputs = np.array(outputs, np.int64).reshape(-1, 2)
        head = [address(call), address(frame), batch, len(self._inputs), len(self._outputs)]
        self._feed = np.array([*head, address(self._inputs), address(self._outputs)], np.int64)

    def run(self, order: Array, steps: int, done: Array) -> int:
        """A step for each row of ``order`` (int64, at least ``steps`` by batch); status, and whole steps in ``done[0]``."""
        buffer = _ffi.from_buffer
        return int(self._run(buffer(self._feed), buffer("int64_t[]", order), steps, buffer("int64_t[]", done)))


def _row_bytes(array: Array) -> int:
    return array.nbytes // len(array)
