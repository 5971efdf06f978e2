"""The two ways from Python into a program that C finds for itself, in ``templates/enter.c``.

A call takes its arrays straight from Python's memory (:class:`Entry`), ``fit`` its batches from a data set (:class:`Feed`).

To ask an array in Python for its class, dtype, shape, flags and address takes half a microsecond, which is what a small
train step takes. In C it takes five nanoseconds, and what Python still does is to note where the array objects are:

    lane:  program | frame | id(x) | id(y) | ...     --gx_enter-->  frame[k] = data of x, ...; the program runs

The fields of an array object are part of NumPy's C interface, those of its header of Python's. That they lie where the C
looks is tried out when the library is loaded; where they do not, calls take the long way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import _cffi_backend  # type: ignore[import-untyped]
import numpy as np

from graphc.frontend.sources import aligned_empty
from graphc.ir import Array
from graphc.types import BOOL, FLOAT32, TensorType

__all__ = ["SOURCE", "Entry", "Feed", "Ways", "address", "load"]

_ffi = _cffi_backend.FFI()
_ENTER = _ffi.typeof("int(*)(void *)")
_RUN_ROWS = _ffi.typeof("int(*)(void *, int64_t *, int64_t, int64_t *)")

_beside, _inside = (folder / "templates" / "enter.c" for folder in (Path(__file__).parents[1], Path(__file__).parent))
SOURCE = _inside if _inside.exists() else _beside  # in a checkout the templates stand beside the package


def address(thing: Any) -> int:
    """Where an array's data, or what a pointer of cffi's points to, lies."""
    return int(_ffi.cast("intptr_t", _ffi.from_buffer(thing) if isinstance(thing, np.ndarray) else thing))


class Entry:
    """How one program is entered: its arrays, in the order in which a lane has them, and the memory that it writes.

    ``arrays`` pairs types with words of the frame; ``call`` is a C function of a frame.
    """

    def __init__(
        self, enter: Callable[[Any], int], call: Any, arrays: Sequence[tuple[TensorType, int]], written: Sequence[Array]
    ) -> None:
        self.enter = enter
        self._shapes = [np.array(type.shape, np.int64) for type, _ in arrays]
        described = [
            (id(type.dtype.numpy), len(type.shape), address(shape), type.nbytes, word)
            for (type, word), shape in zip(arrays, self._shapes, strict=True)
        ]
        self._arrays = np.array(described, np.int64).reshape(-1, 5)
        self._spans = np.array([(address(a), address(a) + a.nbytes) for a in written], np.int64).reshape(-1, 2)
        head = [address(call), id(np.ndarray), object.__basicsize__, len(self._arrays), len(self._spans)]
        self._program = np.array([*head, address(self._arrays), address(self._spans)], np.int64)

    def lane(self, frame: Any) -> tuple[Any, Any]:
        """For calls on one frame: where the ids of the arrays are written, and what :attr:`enter` takes."""
        words = np.zeros(2 + len(self._arrays), np.int64)
        words[:2] = address(self._program), address(frame)
        return words.data[2:], _ffi.cast("void *", _ffi.from_buffer(words))


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


@dataclass(frozen=True)
class Ways:
    """The functions of a library made from :data:`SOURCE`.

    ``enter`` (gx_enter) is None where objects do not lie in memory as it expects; ``run_rows`` is gx_run_rows.
    """

    library: Any  # which its functions do not keep
    enter: Callable[[Any], int] | None
    run_rows: Callable[[Any, Any, int, Any], int]


@cache
def load(library: Path) -> Ways:
    loaded = _cffi_backend.load_library(os.path.abspath(library), _ffi.RTLD_NOW)
    enter: Callable[[Any], int] = loaded.load_function(_ENTER, "gx_enter")
    works = _reads_arrays(enter, loaded.load_function(_ENTER, "gx_nothing"))
    return Ways(loaded, enter if works else None, loaded.load_function(_RUN_ROWS, "gx_run_rows"))


def _reads_arrays(enter: Callable[[Any], int], nothing: Any) -> bool:
    """Whether ``enter`` takes an array whose data we know, and refuses those that differ in one thing each."""
    frame, good = np.zeros(1, np.int64), np.zeros((2, 3), np.float32)
    if object.__basicsize__ < 16 or np.ndarray.__basicsize__ < object.__basicsize__ + 56 or frame.itemsize * 8 != 64:
        return False
    entry = Entry(enter, nothing, [(TensorType((2, 3), FLOAT32), 0)], [written := np.zeros((4, 3), np.float32)])
    ids, argument = entry.lane(_ffi.cast("void *", _ffi.from_buffer(frame)))

    def takes(value: Any) -> bool:
        ids[0] = id(value)
        return enter(argument) == 0

    if not takes(good) or frame[0] != address(good) or not takes(part := np.zeros((4, 3), np.float32)[1:3]):
        return False
    unaligned = np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3)
    others = [written[1:3], np.zeros((3, 2), np.float32), np.zeros((2, 3, 1), np.float32), np.zeros((2, 3), np.int32)]
    others += [good.astype(">f4"), np.asfortranarray(good), np.zeros((2, 6), np.float32)[:, ::2], unaligned]
    return frame[0] == address(part) and not any(map(takes, [*others, good.view(np.matrix), good.tolist()]))
