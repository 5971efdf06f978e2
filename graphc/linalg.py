"""Linear algebra under NumPy's names (``numpy.linalg``) and SciPy's: matrices in the last two axes, one for each position of
the axes before.

Factorisations are plain C, meant for small and medium matrices; they work in the arena and give the same bits on every target.
Gradients of any order are solutions with the same factors. Nothing raises while C runs: where NumPy raises for a matrix that is
singular or not positive definite, the result has infinities or NaN.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphc.frontend import cross, diagonals, eye, matmul, matrix_transpose, outer, tensordot, vecdot
from graphc.frontend.elementwise import multiplied
from graphc.frontend.norms import matrix_norm, norm, vector_norm
from graphc.ir import Node, operator
from graphc.ops import linalg as ops
from graphc.ops.pointwise import abs as magnitude
from graphc.ops.pointwise import as_float, as_node, broadcast_shapes, cast, log, meet, not_equal, sign, where
from graphc.ops.routines import cut
from graphc.ops.structural import broadcast_to, iota, reduce, reshape, stop_gradient
from graphc.types import GraphError, ShapeError

__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "norm",
    "outer",
    "slogdet",
    "solve",
    "solve_triangular",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


@operator("linalg.diagonal")
def diagonal(x: Any, *, offset: int = 0) -> Node:
    """Diagonal ``offset`` of the matrices, along the last axis."""
    return diagonals.diagonal(x, offset, -2, -1)


@operator("linalg.trace")
def trace(x: Any, *, offset: int = 0) -> Node:
    """The sum of diagonal ``offset`` of the matrices."""
    return diagonals.trace(x, offset, -2, -1)


@operator("linalg.matrix_power")
def matrix_power(x: Any, n: int) -> Node:
    """Square matrices multiplied with themselves ``n`` times, by repeated squaring; a negative ``n`` takes the inverse."""
    node = as_node(x)
    _square(node, "matrix_power")
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise GraphError(f"linalg.matrix_power takes a whole number as exponent, got {n!r}")
    if n == 0:
        return broadcast_to(eye(node.shape[-1], dtype=node.dtype), node.shape)
    return multiplied(inv(node) if n < 0 else node, abs(int(n)), matmul)


# --- factorisations and what they solve ------------------------------------------------------------------
def _floats(*given: Any) -> list[Node]:
    nodes = meet(given) if len(given) > 1 else [as_node(given[0])]
    return [as_float(node) for node in nodes]


def _square(a: Node, what: str) -> None:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"linalg.{what} takes square matrices in the last two axes, got shape {a.shape}")


def _with_columns(given: tuple[Any, Any], what: str) -> tuple[Node, Node, bool]:
    """Matrices and as many right sides with columns; whether the right side was one vector."""
    a, b = _floats(*given)
    _square(a, what)
    vector = b.ndim == 1
    columns = reshape(b, (b.size, 1)) if vector else b
    if not b.ndim or columns.shape[-2] != a.shape[-1]:
        raise ShapeError(f"linalg.{what}: matrices {a.shape} need {a.shape[-1]} rows on the right side, got shape {b.shape}")
    batch = broadcast_shapes(a.shape[:-2], columns.shape[:-2])
    return broadcast_to(a, (*batch, *a.shape[-2:])), broadcast_to(columns, (*batch, *columns.shape[-2:])), vector


def _as_given(x: Node, vector: bool) -> Node:
    return reshape(x, x.shape[:-1]) if vector else x


@operator("linalg.cholesky")
def cholesky(a: Any, *, upper: bool = False) -> Node:
    """The lower triangular ``L`` with ``L @ L.mT`` equal to ``a`` (its transpose with ``upper``).

    As in JAX, ``(a + a.mT) / 2`` is factored, so that the gradient is symmetric, and all of the triangle is NaN where it is not
    positive definite.

    >>> import graphc as gx
    >>> gx.evaluate(gx.linalg.cholesky(gx.constant([[4.0, 2.0], [2.0, 5.0]]))).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    (node,) = _floats(a)
    _square(node, "cholesky")
    lower = ops.cholesky((node + ops.transposed(node)) * 0.5)
    return ops.transposed(lower) if upper else lower


@operator("linalg.solve_triangular")
def solve_triangular(a: Any, b: Any, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False) -> Node:
    """``x`` in ``T @ x == b`` for the upper (or ``lower``) triangle ``T`` of ``a``; SciPy's, with axes of matrices in front.

    ``b`` is a vector or has columns. ``trans`` 1 (or "T") solves with the transpose of ``T``; with ``unit_diagonal`` the diagonal
    is taken to be 1 and not read. A zero on the diagonal gives infinities or NaN. What is not read has gradient zero.

    >>> import graphc as gx
    >>> gx.evaluate(gx.linalg.solve_triangular(gx.constant([[2.0, 1.0], [0.0, 4.0]]), gx.constant([4.0, 8.0]))).tolist()
    [1.0, 2.0]
    """
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise GraphError(f"linalg.solve_triangular: trans is 0 (or 'N') or 1 (or 'T'), got {trans!r}")
    left, right, vector = _with_columns((a, b), "solve_triangular")
    x = ops.triangular_solve(left, right, lower=bool(lower), trans=trans not in (0, "N"), unit=bool(unit_diagonal))
    return _as_given(x, vector)


@operator("linalg.solve")
def solve(a: Any, b: Any) -> Node:
    """``x`` in ``a @ x == b``; ``b`` is a vector or has columns. Not finite where ``a`` is singular.

    By LU factors with partial pivoting, which all solutions with the same ``a`` share, those of gradients too.

    >>> import graphc as gx
    >>> gx.evaluate(gx.linalg.solve(gx.constant([[0.0, 2.0], [1.0, 1.0]]), gx.constant([4.0, 3.0]))).tolist()
    [1.0, 2.0]
    """
    left, right, vector = _with_columns((a, b), "solve")
    return _as_given(ops.solve(left, right), vector)


@operator("linalg.inv")
def inv(a: Any) -> Node:
    """The inverse of each matrix; not finite where it is singular.

    ``solve(a, b)`` is faster than ``inv(a) @ b``, and closer.
    """
    (node,) = _floats(a)
    _square(node, "inv")
    return ops.inverse(node)


def _pivots(a: Any, what: str) -> tuple[Node, Node, Node]:
    """The matrices, the diagonal of U, and the sign that the swaps of rows give."""
    (node,) = _floats(a)
    _square(node, what)
    factors, n, rows = ops.lu(node), node.shape[-1], node.ndim - 2
    swapped = reshape(cut(factors, rows, n, 1), (*node.shape[:-2], n))
    parity = reduce("prod", cast(where(not_equal(swapped, cast(iota(n), node.dtype)), -1, 1), node.dtype), (rows,))
    return node, diagonals.diagonal(cut(factors, rows, 0, n), 0, -2, -1), parity


@operator("linalg.det")
def det(a: Any) -> Node:
    """The determinant of each matrix. That of a singular one is 0 up to rounding, and its gradient is not finite."""
    node, pivots, parity = _pivots(a, "det")
    return ops.determinant(parity * reduce("prod", pivots, (pivots.ndim - 1,)), node)


class SlogdetResult(NamedTuple):
    """What :func:`slogdet` gives."""

    sign: Node
    logabsdet: Node


@operator("linalg.slogdet")
def slogdet(a: Any) -> SlogdetResult:
    """The sign of the determinant (with slope zero) and the logarithm of its absolute value; 0 and -inf of a singular matrix.

    >>> import graphc as gx
    >>> sign, logabsdet = gx.linalg.slogdet(gx.constant([[0.0, 1.0], [2.0, 0.0]]))
    >>> gx.evaluate(sign).item(), round(gx.evaluate(logabsdet).item(), 6)
    (-1.0, 0.693147)
    """
    node, pivots, parity = _pivots(a, "slogdet")
    last = (pivots.ndim - 1,)
    total = reduce("sum", log(magnitude(pivots)), last)
    return SlogdetResult(stop_gradient(parity * reduce("prod", sign(pivots), last)), ops.log_determinant(total, node))
