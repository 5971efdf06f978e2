"""Where values come from: inputs, parameters, constants and grids of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.ir import Array, Node, Parameter, operator
from graphc.ops.pointwise import as_float, as_node, cast, equal, less_equal, meet, where
from graphc.ops.structural import PARAMETER, broadcast_to, input_, iota, reshape
from graphc.types import FLOAT32, DType, DTypeError, GraphError, ShapeError, TensorType, dtype_of, shape_of, whole

__all__ = [
    "arange",
    "constant",
    "eye",
    "full",
    "full_like",
    "identity",
    "input",
    "linspace",
    "ones",
    "ones_like",
    "parameter",
    "tri",
    "zeros",
    "zeros_like",
]


def _checked_name(name: Any, what: str) -> str:
    if not isinstance(name, str) or not name:
        raise GraphError(f"the name of {what} must be a non-empty string, got {name!r}")
    return name


def input(name: str, shape: Any = (), dtype: Any = "float32") -> Node:
    """A value given at each call. Inputs of one name and one type are the same node.

    >>> input("x", (2, 3))
    <x: float32[2, 3]>
    """
    return input_(_checked_name(name, "an input"), TensorType(shape_of(shape), dtype_of(dtype)))


def parameter(name: str, value: Any, dtype: Any = "float32", trainable: bool = True) -> Parameter:
    """A tensor with storage of its own, initialised with a copy of ``value``; its shape is that of ``value``.

    Every function compiled from it reads and writes that one buffer, seen as ``.value``. A ``trainable`` one is
    updated by :func:`graphc.train_step` and must be float.
    """
    array = np.asarray(value)
    wanted = dtype_of(dtype)
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and not wanted.is_float):
        raise DTypeError(f"parameter {name!r} is {wanted}, got a value of dtype {array.dtype}")
    if trainable and not wanted.is_float:
        raise DTypeError(f"parameter {name!r} is trainable and must be float, got {wanted}; pass trainable=False")
    shape_of(array.shape)
    storage = aligned_empty(array.shape, wanted)
    storage[...] = array
    return Parameter(PARAMETER, _checked_name(name, "a parameter"), storage, bool(trainable))


def aligned_empty(shape: tuple[int, ...], dtype: DType, alignment: int = 64) -> Array:
    """An uninitialised C-contiguous array whose first byte lies on a multiple of ``alignment``."""
    nbytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(nbytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + nbytes].view(dtype.numpy).reshape(shape)


def constant(value: Any, dtype: Any = None) -> Node:
    """A node of a fixed value. Without ``dtype``: float32 for Python floats, else that of the array."""
    return as_node(value, None if dtype is None else dtype_of(dtype))


# --- one value everywhere ------------------------------------------------------------------------------
def full(shape: Any, fill_value: Any, dtype: Any = None) -> Node:
    """``fill_value``, a number, array or node, spread over ``shape``; without ``dtype`` it keeps its own."""
    value = as_node(fill_value) if dtype is None else cast(as_node(fill_value, dtype_of(dtype)), dtype_of(dtype))
    return broadcast_to(value, shape_of(shape))


def zeros(shape: Any, dtype: Any = "float32") -> Node:
    """Zeros."""
    return full(shape, 0, dtype)


def ones(shape: Any, dtype: Any = "float32") -> Node:
    """Ones."""
    return full(shape, 1, dtype)


@operator("full_like")
def full_like(x: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Node:
    """``fill_value`` with the shape and dtype of ``x``, unless they are given."""
    node = as_node(x)
    return full(node.shape if shape is None else shape, fill_value, node.dtype if dtype is None else dtype)


@operator("zeros_like")
def zeros_like(x: Any, dtype: Any = None, shape: Any = None) -> Node:
    """Zeros with the shape and dtype of ``x``, unless they are given."""
    return full_like(x, 0, dtype, shape)


@operator("ones_like")
def ones_like(x: Any, dtype: Any = None, shape: Any = None) -> Node:
    """Ones with the shape and dtype of ``x``, unless they are given."""
    return full_like(x, 1, dtype, shape)


# --- what grows with the position ------------------------------------------------------------------------
def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Node:
    """NumPy's arange over numbers: int32 (int64 where they do not fit) if all are whole, else float32, unless said."""
    if any(isinstance(value, Node) for value in (start, stop, step)):
        raise ShapeError("arange takes numbers: its length must be known; use `start + step * arange(n)` with nodes")
    if step == 0:
        raise GraphError("arange cannot go in steps of 0")
    values = np.arange(0, start, step) if stop is None else np.arange(start, stop, step)
    shape_of(values.shape)
    first, rise = 0 if stop is None else start, step
    far = values.size and max(abs(int(values[0])), abs(int(values[-1]))) >= 2**31
    if values.dtype.kind != "i" or far:
        return constant(values, FLOAT32 if dtype is None and values.dtype.kind == "f" else dtype)
    counted = iota(values.size)
    counted = counted if rise == 1 else counted * int(rise)
    counted = counted if first == 0 else counted + int(first)
    return counted if dtype is None else cast(counted, dtype_of(dtype))


@operator("linspace")
def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Node:
    """``num`` evenly spaced values from ``start`` to ``stop``, which may be nodes; the last is ``stop`` itself with ``endpoint``.

    float32 unless the ends, or ``dtype``, say otherwise. Of ends with axes, the values lie along ``axis`` of the result.
    """
    count = whole(num, "the number of values of linspace")
    if count < 0:
        raise ShapeError(f"the number of values of linspace must not be negative, got {num}")
    if not any(isinstance(end, Node) for end in (start, stop)):
        values = np.linspace(start, stop, count, endpoint=endpoint, axis=axis)
        wide = any(getattr(end, "dtype", None) == np.float64 for end in (start, stop))
        node = constant(values, "float64" if wide else "float32")
        return node if dtype is None else cast(node, dtype_of(dtype))
    low, high = map(as_float, meet([start, stop]))
    rank = max(low.ndim, high.ndim)
    at = axis + rank + 1 if axis < 0 else axis
    if not 0 <= at <= rank:
        raise ShapeError(f"axis {axis} is out of range for a tensor with {rank + 1} axes")

    def grown(end: Node) -> Node:
        shape = (1,) * (rank - end.ndim) + end.shape
        return reshape(end, (*shape[:at], 1, *shape[at:]))

    low, high = grown(low), grown(high)
    place = reshape(iota(count), [count if a == at else 1 for a in range(rank + 1)])
    steps = count - 1 if endpoint else count
    result = low + cast(place, low.dtype) * ((high - low) / max(steps, 1))
    if endpoint and count > 1:
        result = where(equal(place, count - 1), high, result)
    return result if dtype is None else cast(result, dtype_of(dtype))


def _grid(rows: Any, columns: Any) -> tuple[Node, Node]:
    """The row and the column of each element, to be broadcast."""
    n = whole(rows, "the number of rows")
    (height, width) = shape_of((n, n if columns is None else whole(columns, "the number of columns")))
    return reshape(iota(height), (height, 1)), reshape(iota(width), (1, width))


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = "float32") -> Node:  # noqa: N803 (NumPy's names)
    """N x M (N x N without M): ones on diagonal ``k``, counted to the right of the main one, zeros elsewhere."""
    rows, columns = _grid(N, M)
    return cast(equal(rows + k, columns) if k else equal(rows, columns), dtype_of(dtype))


def identity(n: int, dtype: Any = "float32") -> Node:
    """The n x n identity matrix."""
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = "float32") -> Node:  # noqa: N803 (NumPy's names)
    """N x M (N x N without M): ones on and below diagonal ``k``, zeros above."""
    rows, columns = _grid(N, M)
    return cast(less_equal(columns, rows + k), dtype_of(dtype))
