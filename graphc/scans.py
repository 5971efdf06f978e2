"""Running results along an axis, composed over the recurrence."""

from __future__ import annotations

from typing import Any

from graphc.ir import Node, operator
from graphc.ops import routines
from graphc.ops.pointwise import as_number, meet, spread
from graphc.ops.routines import cut, running_product
from graphc.ops.structural import broadcast_to, constant, reshape
from graphc.types import normalize_axis

__all__ = ["cumprod", "cumsum", "recurrence"]


@operator("recurrence")
def recurrence(a: Any, b: Any, axis: int = -1) -> Node:
    """``h[0] = b[0]``, ``h[i] = a[i] * h[i - 1] + b[i]`` along ``axis``; ``a[0]`` is not used. a and b broadcast.

    In order, the product rounded before it is added to, so that a loop in NumPy gives the same bits; ints wrap.

    >>> import graphc as gx
    >>> gx.evaluate(gx.recurrence(0.5, gx.constant([8.0, 0.0, 0.0, 1.0]))).tolist()
    [8.0, 4.0, 2.0, 2.0]
    """
    factors, terms = spread([as_number(node) for node in meet([a, b])])
    at = normalize_axis(axis, terms.ndim)
    steps = terms.shape[at] - 1
    if steps < 1:
        return terms
    return routines.recurrence(cut(terms, at, 0, 1), cut(factors, at, 1, steps), cut(terms, at, 1, steps), at)


def _running(x: Any, axis: int | None) -> tuple[Node, int]:
    """A tensor and the axis to run along; flat without one."""
    node = as_number(x)
    return (reshape(node, (node.size,)), 0) if axis is None else (node, normalize_axis(axis, node.ndim))


@operator("cumsum")
def cumsum(x: Any, axis: int | None = None) -> Node:
    """The running sum along ``axis`` (of all elements in order without one), added in that order. Ints stay as wide as they are.

    >>> import graphc as gx
    >>> gx.evaluate(gx.cumsum(gx.constant([1, 2, 3]))).tolist()
    [1, 3, 6]
    """
    node, at = _running(x, axis)
    steps = node.shape[at] - 1
    if steps < 1:
        return node
    rest = cut(node, at, 1, steps)
    return routines.recurrence(cut(node, at, 0, 1), broadcast_to(constant(1, node.dtype), rest.shape), rest, at)


@operator("cumprod")
def cumprod(x: Any, axis: int | None = None) -> Node:
    """The running product along ``axis`` (of all elements in order without one). The gradient is right where some are zero."""
    node, at = _running(x, axis)
    steps = node.shape[at] - 1
    return node if steps < 1 else running_product(cut(node, at, 0, 1), cut(node, at, 1, steps), at)
