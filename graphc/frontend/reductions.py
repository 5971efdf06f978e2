"""Many elements to one along some axes, under NumPy's names."""

from __future__ import annotations

import math
from typing import Any

from graphc.frontend.movement import Axis, expand_dims
from graphc.ir import Node, operator
from graphc.ops.pointwise import as_node, cast, divide
from graphc.ops.structural import reduce, reshape
from graphc.types import BOOL, FLOAT32, ShapeError, dtype_of, normalize_axes, normalize_axis

__all__ = [
    "argmax",
    "argmin",
    "max",
    "mean",
    "min",
    "sum",
]


def _reduce(kind: str, x: Any, axis: Axis, keepdims: bool) -> Node:
    node = as_node(x)
    if node.dtype is BOOL and kind == "sum":
        node = cast(node, dtype_of("int32"))
    axes = normalize_axes(axis, node.ndim)
    result = reduce(kind, node, axes)
    return reshape(result, tuple(1 if a in axes else e for a, e in enumerate(node.shape))) if keepdims else result


@operator("sum")
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The sum over ``axis`` (all axes without one). Of a bool tensor: the count, int32."""
    return _reduce("sum", x, axis, keepdims)


@operator("max")
@operator("amax")
def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The largest element over ``axis``; NaN if there is one. The gradient is split evenly among ties."""
    return _reduce("max", x, axis, keepdims)


@operator("min")
@operator("amin")
def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The smallest element over ``axis``; NaN if there is one. The gradient is split evenly among ties."""
    return _reduce("min", x, axis, keepdims)


@operator("mean")
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The mean over ``axis``; of ints and bools as float32."""
    node = as_node(x)
    node = node if node.dtype.is_float else cast(node, FLOAT32)
    count = math.prod(node.shape[a] for a in normalize_axes(axis, node.ndim))
    if count == 0:
        raise ShapeError(f"the mean over no elements does not exist (shape {node.shape}, axis {axis})")
    return divide(sum(node, axis, keepdims), count)


def _arg(kind: str, x: Any, axis: int | None, keepdims: bool) -> Node:
    node = as_node(x)
    if axis is None:
        flat = reduce(kind, reshape(node, (node.size,)), (0,))
        return reshape(flat, (1,) * node.ndim) if keepdims else flat
    at = normalize_axis(axis, node.ndim)
    result = reduce(kind, node, (at,))
    return expand_dims(result, at) if keepdims else result


@operator("argmax")
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Node:
    """The int32 index of the largest element, the first where several tie (flat without ``axis``)."""
    return _arg("argmax", x, axis, keepdims)


@operator("argmin")
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Node:
    """The int32 index of the smallest element, the first where several tie (flat without ``axis``)."""
    return _arg("argmin", x, axis, keepdims)
