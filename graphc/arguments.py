"""What a function is called with: named tensors, the numbers and arrays that fit them, and what does not.

One place converts, :func:`convert`; who needs it fast looks first whether there is anything to convert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.frontend.sources import aligned_empty
from graphc.ir import Array, Node
from graphc.types import BOOL, DType, InputTypeError, InputValueError, TensorType

__all__ = ["EXACT", "FORMATS", "Check", "Culprit", "Slot", "allocate", "convert", "given_shape", "numbers_of", "outside"]

EXACT = 0x101  # NumPy's flags C_CONTIGUOUS and ALIGNED
FORMATS = {"float32": "f", "float64": "d", "int32": "i", "int64": "q", "bool": "?"}  # of struct, by dtype


@dataclass(frozen=True, slots=True)
class Slot:
    """A named tensor in the signature."""

    name: str
    type: TensorType

    def __str__(self) -> str:
        return f"{self.name}: {self.type}"


@dataclass(frozen=True, slots=True)
class Check:
    """An index check of the prologue: all of ``input`` (None: computed inside) must lie in ``range(low, extent)``."""

    what: str
    input: str | None
    extent: int
    low: int = 0


@dataclass(frozen=True)
class Culprit:
    """The first index that a failed check met: ``input[where] is value``, and the range it should lie in."""

    check: Check
    where: tuple[int, ...] | None
    value: int = 0

    def message(self, shift: tuple[int, ...] | None = None) -> str:
        """What an error says of it; ``shift`` is where the index stands for the user, if elsewhere."""
        expected = f"expected {self.check.low} <= index < {self.check.extent}"
        where = self.where if shift is None else shift
        if where is None:
            return f"an index ({self.check.what}) is out of range, {expected}"
        place = f"[{', '.join(map(str, where))}]" if where else ""
        return f"{self.check.input}{place} is {self.value}, {expected}"


_BOOLS = frozenset({bool, np.bool_})
_INTS = _BOOLS | {int, *(np.dtype(code).type for code in "bBhHiIlLqQ")}
_FLOATS = _INTS | {float, np.float16, np.float32, np.float64}


def numbers_of(dtype: DType) -> frozenset[type]:
    """The classes whose instances are scalars that an input of ``dtype`` takes."""
    return _FLOATS if dtype.is_float else _INTS if dtype.is_int else _BOOLS


def allocate(what: str, shape: tuple[int, ...], dtype: DType) -> Array:
    """An uninitialised aligned array; raises :class:`InputValueError`, beginning with ``what``, where memory does not suffice."""
    try:
        return aligned_empty(shape, dtype)
    except (MemoryError, ValueError):
        nbytes = TensorType(shape, dtype).nbytes
        raise InputValueError(f"{what}, shape {shape}, needs {nbytes:,} bytes, more than there is memory for") from None


def convert(function: str, slot: Slot, value: Any, also: TensorType | None = None) -> Array:
    """``value`` as a C-contiguous array of exactly the type of ``slot``; itself where it is one.

    Takes what NumPy makes a real array of, where the kind allows: ints and bools to float, bools to int, any int to a
    narrower one if its values fit. Raises :class:`InputTypeError` and :class:`InputValueError`, naming ``function``
    and the input; ``also`` is another type that the message says would have fitted.
    """
    wanted = slot.type.dtype
    if (
        value.__class__ is np.ndarray
        and value.dtype == wanted.numpy
        and value.shape == slot.type.shape
        and value.flags.num & EXACT == EXACT
    ):
        exact: Array = value
        return exact
    where = f"{function}: input {slot.name!r}"
    if isinstance(value, Node):
        raise InputTypeError(f"{where} expects {slot.type}, got the node {value!r}; a call takes numbers, not nodes")
    try:
        array = np.asarray(value)
    except Exception as error:
        raise InputValueError(f"{where} expects {slot.type}, got something NumPy makes no array of: {error}") from error
    if array.dtype.kind not in "fiub":
        hint = "; it does not fit in 64 bits" if isinstance(value, int) else "; expected real numbers"
        kind = type(value).__name__ if array.shape == () and array.dtype.kind in "OUS" else f"dtype {array.dtype}"
        error_type = InputValueError if isinstance(value, int) else InputTypeError
        raise error_type(f"{where} expects {slot.type}, got {kind}{hint}")
    if array.shape != slot.type.shape:
        other = "" if also is None else f" or, one for each step, {also}"
        raise InputValueError(
            f"{where} expects {slot.type}{other}, got shape {array.shape}; "
            "shapes are fixed when a function is compiled: reshape the array, or compile for this shape"
        )
    kind = array.dtype.kind if array.size else wanted.numpy.kind
    if kind == "f" and not wanted.is_float:
        hint = "compare it, such as `a != 0`" if wanted is BOOL else f"round it and use .astype({str(wanted)!r})"
        raise InputTypeError(f"{where} expects {slot.type}, got {array.dtype}; {hint}")
    if kind in "iu" and wanted is BOOL:
        raise InputTypeError(f"{where} expects {slot.type}, got {array.dtype}; compare it, such as `a != 0`")
    if kind in "iu" and wanted.is_int and array.size and not np.can_cast(array.dtype, wanted.numpy):
        info = np.iinfo(wanted.numpy)
        for extreme in (int(array.min()), int(array.max())):
            if not info.min <= extreme <= info.max:
                raise InputValueError(f"{where} expects {slot.type}, got {extreme}, which does not fit in {wanted}")
    with np.errstate(all="ignore"):
        result: Array = np.require(array, wanted.numpy, ("C", "A", "E"))
    return result


def given_shape(value: Any) -> tuple[int, ...] | None:
    """The shape NumPy would give ``value``; None for what it makes no array of."""
    try:
        return None if isinstance(value, Node) else np.shape(value)
    except ValueError:  # a ragged list, which convert explains
        return None


def outside(index: Array, check: Check) -> Array:
    """The flat places of the elements that fail a check."""
    return np.flatnonzero((index < check.low) | (index >= check.extent))
