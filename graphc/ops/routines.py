"""Operations that run along an axis in order: the linear recurrence, and the product, whose gradient is one.

    h[0] = first,   h[i + 1] = a[i] * h[i] + b[i]

The cotangent of ``h`` obeys the same recurrence backwards, so that its gradient is a recurrence of flipped operands, to
any order. With a = 1 it is a cumulative sum, with b = -0.0 (which changes no number, not even a zero) a cumulative product.
"""

from __future__ import annotations

import math

import numpy as np

from graphc.ir import Array, Node, Op, Routine, make, register
from graphc.ops.structural import REDUCTIONS, broadcast_to, constant, permute, reshape, slice_
from graphc.types import BOOL, DTypeError, ShapeError, TensorType

__all__ = ["RECURRENCE", "cut", "flipped", "recurrence", "running_product"]

Indices = tuple[int, ...]


# --- pieces of a tensor along one axis ------------------------------------------------------------------
def cut(x: Node, axis: int, start: int, count: int, step: int = 1) -> Node:
    """``count`` neighbours along ``axis`` from ``start`` on."""
    begin, shape, steps = [0] * x.ndim, list(x.shape), [1] * x.ndim
    begin[axis], shape[axis], steps[axis] = start, count, step
    return slice_(x, begin, steps, shape)


def flipped(x: Node, axis: int) -> Node:
    """In reverse order along ``axis``."""
    extent = x.shape[axis]
    return cut(x, axis, extent - 1, extent, -1) if extent > 1 else x


# --- the recurrence ---------------------------------------------------------------------------------
def _infer_recurrence(first: TensorType, a: TensorType, b: TensorType, *, axis: int) -> TensorType:
    if first.dtype is BOOL or not first.dtype is a.dtype is b.dtype:
        raise DTypeError(f"a recurrence takes numbers of one dtype, got {first.dtype}, {a.dtype} and {b.dtype}")
    begin = (*a.shape[:axis], 1, *a.shape[axis + 1 :])
    if a.shape != b.shape or first.shape != begin or a.shape[axis] < 1:
        raise ShapeError(f"a recurrence along axis {axis} does not take shapes {first.shape}, {a.shape} and {b.shape}")
    return TensorType((*a.shape[:axis], a.shape[axis] + 1, *a.shape[axis + 1 :]), a.dtype)


def _reference_recurrence(first: Array, a: Array, b: Array, *, type: TensorType, axis: int) -> Array:
    h = np.empty(type.shape, type.dtype.numpy)
    rows, factors, terms = (np.moveaxis(array, axis, 0) for array in (h, a, b))
    rows[0] = np.moveaxis(first, axis, 0)[0]
    for i in range(len(factors)):
        rows[i + 1] = factors[i] * rows[i] + terms[i]
    return h


def _gradient_recurrence(g: Node, h: Node, first: Node, a: Node, b: Node, *, axis: int) -> list[Node]:
    """r, the cotangent of ``h``: ``r[last] = g[last]``, ``r[i] = a[i] * r[i + 1] + g[i]``."""
    count = a.shape[axis]
    last, rest = cut(g, axis, count, 1), cut(g, axis, 0, count)
    r = flipped(recurrence(last, flipped(a, axis), flipped(rest, axis), axis), axis)
    later = cut(r, axis, 1, count)
    return [cut(r, axis, 0, 1), later * cut(h, axis, 0, count), later]


RECURRENCE = register(Routine("recurrence", _infer_recurrence, _reference_recurrence, _gradient_recurrence))


def recurrence(first: Node, a: Node, b: Node, axis: int) -> Node:
    """``first`` (extent 1 along ``axis``), then ``a[i] * h[i] + b[i]`` for each i; ``first`` alone where there is none.

    In order, the product rounded before it is added to; ints wrap.
    """
    return first if a.shape[axis] == 0 else make(RECURRENCE, first, a, b, axis=axis)


def running_product(first: Node, factors: Node, axis: int) -> Node:
    """``first``, then each element times the next of ``factors``."""
    nothing = constant(-0.0 if factors.dtype.is_float else 0, factors.dtype)
    return recurrence(first, factors, broadcast_to(nothing, factors.shape), axis)


# --- the product ------------------------------------------------------------------------------------
def _infer_product(x: TensorType, *, axes: Indices) -> TensorType:
    if x.dtype is BOOL:
        raise DTypeError("a bool tensor has no product; use astype('int32') first")
    return TensorType(tuple(e for axis, e in enumerate(x.shape) if axis not in axes), x.dtype)


def _gradient_product(g: Node, y: Node, x: Node, *, axes: Indices) -> list[Node]:
    """The product of all other elements, those before times those after: right where some are zero."""
    kept = tuple(axis for axis in range(x.ndim) if axis not in axes)
    shape, count = tuple(x.shape[axis] for axis in kept), math.prod(x.shape[axis] for axis in axes)
    rows = reshape(permute(x, (*kept, *axes)), (*shape, count))
    last = len(shape)
    one = broadcast_to(constant(1, x.dtype), (*shape, 1))
    before = running_product(one, cut(rows, last, 0, max(count - 1, 0)), last)
    after = running_product(one, cut(flipped(rows, last), last, 0, max(count - 1, 0)), last)
    spread = broadcast_to(reshape(g, (*shape, 1)), (*shape, count))
    slope = spread * (before * flipped(after, last)) if count else spread
    back = reshape(slope, (*shape, *(x.shape[axis] for axis in axes)))
    return [permute(back, tuple(int(place) for place in np.argsort((*kept, *axes))))]


def _reference_product(x: Array, *, type: TensorType, axes: Indices) -> Array:
    return np.asarray(np.prod(x, axis=axes, dtype=type.dtype.numpy))


REDUCTIONS["prod"] = register(Op("prod", _infer_product, _reference_product, _gradient_product))
