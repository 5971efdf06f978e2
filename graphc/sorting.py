"""What an order decides: sort, argsort, and the quantiles, under NumPy's names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.frontend.movement import Axis, moveaxis
from graphc.frontend.pieces import stack
from graphc.ir import Node, operator
from graphc.ops import sorting
from graphc.ops.pointwise import as_float, as_node, cast, isnan, where
from graphc.ops.routines import cut
from graphc.ops.structural import broadcast_to, constant, reshape
from graphc.types import BOOL, INT32, GraphError, ShapeError, normalize_axes, normalize_axis

__all__ = ["argsort", "median", "percentile", "quantile", "sort"]


def _rows(x: Any, axis: int | None, what: str) -> tuple[Node, int]:
    """The tensor with ``axis`` last (flat without one), and where the axis was."""
    node = as_node(x)
    if axis is None:
        return reshape(node, (node.size,)), 0
    if not node.ndim:
        raise ShapeError(f"{what} needs an axis, got a scalar; it is in order")
    at = normalize_axis(axis, node.ndim)
    return moveaxis(node, at, -1), at


def _plain(what: str, kind: Any, order: Any) -> None:
    if kind not in (None, "quicksort", "mergesort", "heapsort", "stable") or order is not None:
        raise GraphError(f"{what} takes NumPy's kinds, all of which are one stable sort here, and no order of fields")


@operator("sort")
def sort(x: Any, axis: int | None = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None) -> Node:
    """The elements in order along ``axis`` (of all, flat, with None); NaN last.

    Always stable: ``kind`` and ``stable`` change nothing. The gradient goes back the way each element came; among equal
    ones, the first in ``x`` is the first in the result.

    >>> import graphc as gx
    >>> gx.evaluate(gx.sort(gx.constant([3.0, 1.0, 2.0]))).tolist()
    [1.0, 2.0, 3.0]
    """
    _plain("sort", kind, order)
    rows, at = _rows(x, axis, "sort")
    if rows.dtype is BOOL:
        return moveaxis(cast(sorting.sort(cast(rows, INT32)), BOOL), -1, at)
    return moveaxis(sorting.sort(rows), -1, at)


@operator("argsort")
def argsort(x: Any, axis: int | None = -1, kind: str | None = None, order: None = None, *, stable: bool | None = None) -> Node:
    """The int32 indices that put ``x`` in order along ``axis`` (flat with None); NaN last, equal elements as they stand."""
    _plain("argsort", kind, order)
    rows, at = _rows(x, axis, "argsort")
    return moveaxis(sorting.argsort(cast(rows, INT32) if rows.dtype is BOOL else rows), -1, at)


def _ordered(x: Any, axis: Axis, what: str) -> tuple[Node, tuple[int, ...], tuple[int, ...]]:
    """Rows in order, floats, of all that ``axis`` names together; the shape without these axes, and with 1 in their place."""
    node = as_float(x)
    axes = normalize_axes(axis, node.ndim)
    kept = [a for a in range(node.ndim) if a not in axes]
    shape = tuple(node.shape[a] for a in kept)
    moved = moveaxis(node, axes, range(node.ndim - len(axes), node.ndim)) if axes else node
    count = math.prod(node.shape[a] for a in axes)
    if not count:
        raise ShapeError(f"the {what} over no elements does not exist (shape {node.shape}, axis {axis})")
    rows = sorting.sort(reshape(moved, (*shape, count)))
    return rows, shape, tuple(1 if a in axes else e for a, e in enumerate(node.shape))


def _at(rows: Node, place: float) -> Node:
    """The element at ``place`` of each row in order, between two where it is no whole number; NaN of a row that has one."""
    last = rows.shape[-1] - 1

    def element(at: int) -> Node:
        return reshape(cut(rows, rows.ndim - 1, at, 1), rows.shape[:-1])

    low = int(place)
    part, value = place - low, element(low)
    if part:
        step = element(low + 1) - value
        value = value + step * part if part < 0.5 else element(low + 1) - step * (1 - part)
    return where(isnan(element(last)), element(last), value)


@operator("median")
def median(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The middle of the sorted elements over ``axis`` (all axes without one); of an even number, the mean of the two middle ones.

    NaN where there is one; of ints and bools a float32.
    """
    rows, shape, kept = _ordered(x, axis, "median")
    low, high = (rows.shape[-1] - 1) // 2, rows.shape[-1] // 2
    middle = _at(rows, low) if low == high else (_at(rows, low) + _at(rows, high)) * 0.5
    return reshape(middle, kept if keepdims else shape)


@operator("quantile")
def quantile(x: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False) -> Node:
    """The value that lies the share ``q`` (0 to 1) of the way through the sorted elements over ``axis``, interpolated linearly.

    ``q`` is a number or array, known when the graph is built; its axes come first in the result. NaN where there is one; of
    ints and bools a float32.

    >>> import graphc as gx
    >>> gx.evaluate(gx.quantile(gx.constant([4.0, 1.0, 3.0]), [0.25, 0.5])).tolist()
    [2.0, 3.0]
    """
    if method != "linear":
        raise GraphError(f"quantile knows the method 'linear' alone, got {method!r}")
    if isinstance(q, Node):
        raise GraphError("the q of quantile must be known while the graph is built: a number or an array, not a node")
    shares = np.asarray(q, np.float64)
    if not np.all((shares >= 0) & (shares <= 1)):
        raise GraphError(f"quantile takes q from 0 to 1 (percentile from 0 to 100), got {q!r}")
    rows, shape, kept = _ordered(x, axis, "quantile")
    ends = kept if keepdims else shape
    found = [reshape(_at(rows, float(share) * (rows.shape[-1] - 1)), ends) for share in shares.reshape(-1)]
    if not found:
        return broadcast_to(constant(0, rows.dtype), (*shares.shape, *ends))
    return reshape(stack(found), (*shares.shape, *ends))


@operator("percentile")
def percentile(x: Any, q: Any, axis: Axis = None, *, method: str = "linear", keepdims: bool = False) -> Node:
    """:func:`quantile` with ``q`` from 0 to 100."""
    if isinstance(q, Node):
        raise GraphError("the q of percentile must be known while the graph is built: a number or an array, not a node")
    return quantile(x, np.asarray(q, np.float64) / 100, axis, method=method, keepdims=keepdims)
