"""Many elements to one along some axes, under NumPy's names."""

from __future__ import annotations

import math
from typing import Any

from graphc.frontend.elementwise import isclose
from graphc.frontend.movement import Axis, expand_dims, transpose
from graphc.ir import Node, operator
from graphc.ops.pointwise import (
    as_float,
    as_node,
    as_number,
    cast,
    divide,
    equal,
    exp,
    isfinite,
    isnan,
    log,
    meet,
    sqrt,
    where,
)
from graphc.ops.routines import cut
from graphc.ops.structural import broadcast_to, constant, reduce, reshape, stop_gradient
from graphc.types import BOOL, INT32, GraphError, ShapeError, normalize_axes, normalize_axis

__all__ = [
    "all",
    "allclose",
    "any",
    "argmax",
    "argmin",
    "array_equal",
    "average",
    "count_nonzero",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "ptp",
    "std",
    "sum",
    "var",
]


def _count(node: Node, axis: Axis) -> int:
    """How many elements become one."""
    return math.prod(node.shape[a] for a in normalize_axes(axis, node.ndim))


def _kept(result: Node, node: Node, axis: Axis, keepdims: bool) -> Node:
    """The result of reducing ``axis`` of ``node``, with extents of 1 in its place if they are asked for."""
    if not keepdims:
        return result
    axes = normalize_axes(axis, node.ndim)
    return reshape(result, [1 if a in axes else extent for a, extent in enumerate(node.shape)])


def _reduce(kind: str, node: Node, axis: Axis, keepdims: bool) -> Node:
    return _kept(reduce(kind, node, normalize_axes(axis, node.ndim)), node, axis, keepdims)


# --- sums, products and means -------------------------------------------------------------------------------------
@operator("sum")
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The sum over ``axis`` (all axes without one). Of a bool tensor: the count, int32."""
    return _reduce("sum", as_number(x), axis, keepdims)


@operator("prod")
def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The product over ``axis`` (all axes without one). The gradient is right where some elements are zero."""
    return _reduce("prod", as_number(x), axis, keepdims)


@operator("mean")
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The mean over ``axis``; of ints and bools as float32."""
    node = as_float(x)
    count = _count(node, axis)
    if count == 0:
        raise ShapeError(f"the mean over no elements does not exist (shape {node.shape}, axis {axis})")
    return divide(sum(node, axis, keepdims), count)


@operator("average")
def average(x: Any, axis: Axis = None, weights: Any = None, *, keepdims: bool = False) -> Node:
    """``sum(x * weights) / sum(weights)`` over ``axis``; the mean without weights.

    ``weights`` have the shape of ``x``, or that of its ``axis`` (of several axes, in the order in which they are named).
    """
    if weights is None:
        return mean(x, axis, keepdims)
    node, factors = map(as_float, meet([x, weights]))
    if factors.shape != node.shape:
        named = range(node.ndim) if axis is None else axis if isinstance(axis, tuple | list) else (axis,)
        places = [normalize_axis(a, node.ndim) for a in named]
        if factors.shape != tuple(node.shape[a] for a in places):
            raise ShapeError(f"average: weights of shape {factors.shape} fit neither shape {node.shape} nor axis {axis}")
        factors = transpose(factors, sorted(range(len(places)), key=places.__getitem__))
        along = reshape(factors, [extent if a in places else 1 for a, extent in enumerate(node.shape)])
        factors = broadcast_to(along, node.shape)
    return divide(sum(node * factors, axis, keepdims), sum(factors, axis, keepdims))


@operator("var")
def var(x: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False, *, correction: float | None = None) -> Node:
    """``sum((x - mean(x)) ** 2) / (n - ddof)`` over the n elements along ``axis``; of ints and bools as float32.

    ``correction`` is the array-API's name of ``ddof``: 0 for the variance of what is given, 1 for the unbiased estimate.
    """
    node = as_float(x)
    count = _count(node, axis)
    less = ddof if correction is None else correction
    if correction is not None and ddof:
        raise GraphError(f"var takes ddof or correction, not both: got {ddof!r} and {correction!r}")
    if count <= less:
        raise ShapeError(
            f"the variance of {count} elements with ddof={less} does not exist (shape {node.shape}, axis {axis})"
        )
    off = node - mean(node, axis, keepdims=True)
    return divide(sum(off * off, axis, keepdims), count - less)


@operator("std")
def std(x: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False, *, correction: float | None = None) -> Node:
    """The square root of :func:`var`; exactly 0, with a slope of 0, where all elements are the same."""
    node = as_float(x)
    if _count(node, axis):  # seen from the first element: equal ones are then zeros, whatever their mean is rounded to
        first = node
        for a in normalize_axes(axis, node.ndim):
            first = cut(first, a, 0, 1)
        node = node - stop_gradient(first)
    return root(var(node, axis, ddof, keepdims, correction=correction))


def root(x: Node) -> Node:
    """``sqrt(x)`` with a slope of 0 where ``x`` is 0: for the lengths of vectors, which have a kink there."""
    zero = equal(x, 0)
    return where(zero, 0, sqrt(where(zero, 1, x)))


@operator("logsumexp")
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """``log(sum(exp(x)))`` over ``axis`` without overflow; minus infinity, with a slope of 0, where all ``x`` are."""
    node = as_float(x)
    if not _count(node, axis):
        return log(sum(node, axis, keepdims))
    top = stop_gradient(max(node, axis, keepdims=True))
    top = where(isfinite(top), top, 0)
    total = sum(exp(node - top), axis, keepdims)
    empty = equal(total, 0)
    result = log(where(empty, 1, total)) + (top if keepdims else reshape(top, total.shape))
    return where(empty, -math.inf, result)


# --- extrema --------------------------------------------------------------------------------------------
@operator("max")
def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The largest element over ``axis``; NaN if there is one. The gradient is split evenly among ties."""
    node = as_node(x)
    return any(node, axis, keepdims) if node.dtype is BOOL else _reduce("max", node, axis, keepdims)


@operator("min")
def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The smallest element over ``axis``; NaN if there is one. The gradient is split evenly among ties."""
    node = as_node(x)
    return all(node, axis, keepdims) if node.dtype is BOOL else _reduce("min", node, axis, keepdims)


@operator("ptp")
def ptp(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """``max(x) - min(x)`` over ``axis``."""
    node = as_number(x)
    return max(node, axis, keepdims) - min(node, axis, keepdims)


def _arg(kind: str, x: Any, axis: int | None, keepdims: bool) -> Node:
    node = as_number(x)
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


# --- truth ----------------------------------------------------------------------------------------------
def _truth(kind: str, x: Any, axis: Axis, keepdims: bool) -> Node:
    truths = cast(cast(as_node(x), BOOL), INT32)
    if _count(truths, axis):
        return cast(_reduce(kind, truths, axis, keepdims), BOOL)
    rest = sum(truths, axis, keepdims)
    return broadcast_to(constant(kind == "min", BOOL), rest.shape)


@operator("all")
def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """Whether every element over ``axis`` is true (not zero); of no elements True."""
    return _truth("min", x, axis, keepdims)


@operator("any")
def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """Whether some element over ``axis`` is true (not zero); of no elements False."""
    return _truth("max", x, axis, keepdims)


@operator("count_nonzero")
def count_nonzero(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """How many elements over ``axis`` are not zero, int32."""
    return sum(cast(as_node(x), BOOL), axis, keepdims)


@operator("allclose")
def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Node:
    """Whether :func:`isclose` holds everywhere."""
    return all(isclose(a, b, rtol, atol, equal_nan))


@operator("array_equal")
def array_equal(a: Any, b: Any, equal_nan: bool = False) -> Node:
    """Whether shapes and all elements are equal; with ``equal_nan`` NaN counts as equal to NaN."""
    left, right = meet([a, b])
    if left.shape != right.shape:
        return constant(False, BOOL)
    same = equal(left, right)
    return all(same | (isnan(left) & isnan(right)) if equal_nan else same)
