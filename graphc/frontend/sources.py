"""Where values come from: inputs, parameters, constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.ir import Array, Node, Parameter
from graphc.ops.pointwise import as_node
from graphc.ops.structural import PARAMETER, input_
from graphc.types import DType, DTypeError, GraphError, TensorType, dtype_of, shape_of

__all__ = [
    "constant",
    "input",
    "parameter",
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
