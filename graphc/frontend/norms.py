"""Lengths of vectors and sizes of matrices, under NumPy's names; users find them in ``graphc.linalg``.

A norm has a kink where it is 0; its slope there is 0, as in PyTorch.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.frontend.elementwise import power
from graphc.frontend.movement import Axis
from graphc.frontend.reductions import count_nonzero, root
from graphc.frontend.reductions import max as _max
from graphc.frontend.reductions import min as _min
from graphc.frontend.reductions import sum as _sum
from graphc.ir import Node, operator
from graphc.ops.pointwise import abs as _abs
from graphc.ops.pointwise import as_float, cast, equal, where
from graphc.ops.structural import reshape
from graphc.types import GraphError, ShapeError, normalize_axes, normalize_axis

__all__ = ["matrix_norm", "norm", "vector_norm"]


@operator("linalg.norm")
def norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Node:
    """A vector norm along one ``axis``, a matrix norm over two. Without ``axis`` that of a vector or a matrix, or, if ``ord``
    is not given either, the root of the sum of all squares.

    ``ord``: see :func:`graphc.linalg.vector_norm` and :func:`graphc.linalg.matrix_norm`. Ints become float32.
    """
    node = as_float(x)
    axes = None if axis is None else axis if isinstance(axis, tuple | list) else (axis,)
    if ord is None and (axes is None or len(axes) <= 2):
        return vector_norm(node, 2, axis, keepdims)
    axes = tuple(range(node.ndim)) if axes is None else axes
    if len(axes) == 1:
        return vector_norm(node, ord, axes, keepdims)
    if len(axes) == 2:
        return _of_matrices(node, ord, axes[0], axes[1], keepdims)
    raise ShapeError(f"linalg.norm takes one axis or two, got shape {node.shape} and axis {axis}; use linalg.vector_norm")


@operator("linalg.vector_norm")
def vector_norm(x: Any, ord: Any = 2, axis: Axis = None, keepdims: bool = False) -> Node:
    """``sum(|x| ** ord) ** (1 / ord)`` over ``axis``, all together as one vector.

    ``ord`` is a number: 2 (the length), 1, 0 (how many are not zero), ``inf`` (the largest size), ``-inf`` (the smallest) or any
    other.
    """
    node = as_float(x)
    if isinstance(ord, bool) or not isinstance(ord, int | float):
        raise GraphError(f"the norm of a vector has a number as its order, got {ord!r}")
    if ord == 2:
        return root(_sum(node * node, axis, keepdims))
    if ord == 0:
        return cast(count_nonzero(node, axis, keepdims), node.dtype)
    size = _abs(node)
    if math.isinf(ord):
        return _max(size, axis, keepdims) if ord > 0 else _min(size, axis, keepdims)
    if ord == 1:
        return _sum(size, axis, keepdims)
    return _raised(_sum(_raised(size, ord), axis, keepdims), 1 / ord)


def _raised(x: Node, exponent: float) -> Node:
    """``x ** exponent`` of what is not negative, with a slope of 0 where ``x`` is 0."""
    zero = equal(x, 0)
    return where(zero, 0 if exponent > 0 else math.inf, power(where(zero, 1, x), exponent))


@operator("linalg.matrix_norm")
def matrix_norm(x: Any, ord: Any = "fro", keepdims: bool = False) -> Node:
    """A norm of the matrices in the last two axes. ``ord``: ``"fro"`` (the root of the sum of all squares), ``1`` or ``inf``
    (the largest sum of sizes of a column, of a row), ``-1`` or ``-inf`` (the smallest).
    """
    return _of_matrices(as_float(x), ord, -2, -1, keepdims)


def _of_matrices(node: Node, ord: Any, row: int, column: int, keepdims: bool) -> Node:
    if node.ndim < 2:
        raise ShapeError(f"the norm of a matrix needs two axes, got shape {node.shape}")
    axes = normalize_axes((row, column), node.ndim)
    if ord in ("fro", None):
        return vector_norm(node, 2, axes, keepdims)
    if isinstance(ord, str) or ord not in (1, -1, math.inf, -math.inf):
        raise GraphError(f"the norm of a matrix has the order 'fro', 1, -1, inf or -inf, got {ord!r}")
    inner, outer = (normalize_axis(a, node.ndim) for a in ((row, column) if abs(ord) == 1 else (column, row)))
    sums = _sum(_abs(node), inner, keepdims=True)
    result = (_max if ord > 0 else _min)(sums, outer, keepdims=True)
    return result if keepdims else reshape(result, [e for a, e in enumerate(node.shape) if a not in axes])
