"""What a tensor is (dtype, shape), how dtypes meet, and every error graphc raises on purpose."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

__all__ = [
    "BOOL",
    "DTYPES",
    "FLOAT32",
    "FLOAT64",
    "INT32",
    "INT64",
    "CacheError",
    "CompilationError",
    "CompilerNotFoundError",
    "DType",
    "DTypeError",
    "GradientError",
    "GraphError",
    "GraphcError",
    "IndexOutOfRangeError",
    "InputError",
    "InputTypeError",
    "InputValueError",
    "NameClashError",
    "ShapeError",
    "TensorType",
    "UnsupportedError",
    "dtype_of",
    "normalize_axes",
    "normalize_axis",
    "promote",
    "shape_of",
    "whole",
]


# --- errors -----------------------------------------------------------------------------------------
class GraphcError(Exception):
    """Base of every error that graphc raises on purpose."""


class GraphError(GraphcError, ValueError):
    """An expression that cannot be: a wrong attribute, an unknown operation, a node without truth value."""


class ShapeError(GraphError):
    """Shapes that do not fit together, or a shape that cannot be held in memory."""


class DTypeError(GraphcError, TypeError):
    """A dtype that an operation does not take."""


class UnsupportedError(GraphcError, TypeError):
    """What NumPy or Python has and graphc has not: a function, an argument, an assignment to elements."""


class GradientError(GraphcError, ValueError):
    """A gradient that does not exist: of a non-scalar, or through an operation that declares none."""


class NameClashError(GraphcError, ValueError):
    """Two different things under one name in one compiled function."""


class InputError(GraphcError):
    """An argument of a call that does not fit: base of the two below."""


class InputTypeError(InputError, TypeError):
    """A missing, unknown or wrongly typed argument."""


class InputValueError(InputError, ValueError):
    """An argument of the right kind with a wrong shape or value."""


class IndexOutOfRangeError(InputValueError, IndexError):
    """An index (a label) outside of its table. No parameter was changed by the step that met it."""


class CompilerNotFoundError(GraphcError, RuntimeError):
    """No C compiler on this machine."""


class CompilationError(GraphcError, RuntimeError):
    """The C compiler failed."""


class CacheError(GraphcError, OSError):
    """The directory for compiled libraries cannot be used."""


# --- dtypes -----------------------------------------------------------------------------------------
class DType(Enum):
    """One of the five element types.

    ``str(dtype)`` is its NumPy name. It equals whatever names it in NumPy, and NumPy accepts it as a dtype:
    ``x.dtype == "float32"``, ``np.zeros(3, dtype=x.dtype)``.
    """

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    INT32 = "int32"
    INT64 = "int64"
    BOOL = "bool"

    numpy: np.dtype[Any]
    dtype: np.dtype[Any]
    itemsize: int
    ctype: str

    def __init__(self, name: str) -> None:
        self.numpy = self.dtype = np.dtype(name)  # under the second name NumPy finds it
        self.itemsize = self.numpy.itemsize
        self.ctype = {"float32": "float", "float64": "double", "bool": "uint8_t"}.get(name, f"{name}_t")

    @property
    def is_float(self) -> bool:
        return self in (DType.FLOAT32, DType.FLOAT64)

    @property
    def is_int(self) -> bool:
        return self in (DType.INT32, DType.INT64)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DType):
            return self is other
        return isinstance(other, str | type | np.dtype) and self.numpy == other

    __hash__ = Enum.__hash__

    def __str__(self) -> str:
        return str(self.value)

    __repr__ = __str__


FLOAT32, FLOAT64, INT32, INT64, BOOL = DTYPES = tuple(DType)
_BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES}


def dtype_of(value: Any) -> DType:
    """The :class:`DType` of a dtype, a NumPy dtype, a type or a name.

    Raises :class:`DTypeError` for one that graphc does not have.
    """
    if isinstance(value, DType):
        return value
    try:
        return _BY_NUMPY[np.dtype(value)]
    except (KeyError, TypeError):
        names = ", ".join(map(str, DTYPES))
        raise DTypeError(f"dtype {value!r} is not supported; expected one of {names}") from None


def promote(a: DType, b: DType) -> DType:
    """The dtype in which two nodes meet: float over int over bool, int + float that float, else the wider."""
    if a is b:
        return a
    if a.is_float or b.is_float:
        floats = [d for d in (a, b) if d.is_float]
        return FLOAT64 if FLOAT64 in floats else FLOAT32
    return INT64 if INT64 in (a, b) else INT32


# --- shapes -----------------------------------------------------------------------------------------
# Offsets are computed in 64-bit signed integers and NumPy refuses larger arrays, so nothing may pass this.
_LARGEST_BYTES = 2**47


@dataclass(frozen=True)
class TensorType:
    """Shape and dtype of a tensor; both are static."""

    shape: tuple[int, ...]
    dtype: DType

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}" if self.shape else str(self.dtype)

    __repr__ = __str__


def shape_of(shape: Any, *, what: str = "shape") -> tuple[int, ...]:
    """A checked shape: an int or a sequence of non-negative ints, of a size that memory could hold."""
    items: Sequence[Any] = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    for extent in items:
        if isinstance(extent, bool) or not isinstance(extent, int | np.integer):
            raise ShapeError(f"{what} must be integers, got {extent!r} in {shape!r}; shapes are static")
        if extent < 0:
            raise ShapeError(f"{what} must not be negative, got {shape!r}")
    checked = tuple(int(extent) for extent in items)
    if math.prod(extent for extent in checked if extent) * 8 > _LARGEST_BYTES:
        raise ShapeError(f"{what} {checked} is too large: {math.prod(checked):,} elements cannot be held in memory")
    return checked


def whole(value: Any, what: str) -> int:
    """A whole number as an int; raises :class:`ShapeError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ShapeError(f"{what} must be a whole number, got {value!r}; shapes are static")
    return int(value)


def normalize_axis(axis: Any, rank: int) -> int:
    """An axis counted from the front; raises :class:`ShapeError` outside of ``-rank <= axis < rank``."""
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise ShapeError(f"axis must be an integer, got {axis!r}")
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} is out of range for a tensor with {rank} axes")
    return int(axis) % rank


def normalize_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """Sorted axes from None (all), an int or a sequence; raises :class:`ShapeError` for a repeated one."""
    if axis is None:
        return tuple(range(rank))
    items = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    axes = tuple(sorted(normalize_axis(item, rank) for item in items))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"axis {axis!r} names an axis twice")
    return axes
