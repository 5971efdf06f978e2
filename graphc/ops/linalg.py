"""Factorisations and solves of matrices in the last two axes, one for each position of the axes before.

    cholesky(a) = L                         a = L L^T
    triangular_solve(a, b) = x              T x = b for a triangle T of a
    lu(a) = factors                         rows of a, swapped, = L U
    lu_solve(factors, b) = x                a x = b

The gradient of a solution asks for no more than other solutions: it follows from the equation. So lu and lu_solve have none;
``solution(x, a, b)``, which is x, says how x depends on a and b, and determinants say it of themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import OPERATORS, Array, Implicit, Node, Routine, make, register
from graphc.ops.structural import broadcast_to, constant, contract, iota, permute, reshape
from graphc.types import DTypeError, ShapeError, TensorType

__all__ = ["PANEL", "cholesky", "determinant", "inverse", "log_determinant", "lu", "solve", "transposed", "triangular_solve"]


# --- matrices ---------------------------------------------------------------------------------------
def transposed(a: Node) -> Node:
    """The last two axes swapped."""
    return permute(a, (*range(a.ndim - 2), a.ndim - 1, a.ndim - 2))


def product(a: Node, b: Node) -> Node:
    """The product of matrices with the same axes in front."""
    batch = range(3, 3 + a.ndim - 2)
    return contract(a, b, (*batch, 0, 1), (*batch, 1, 2), (*batch, 0, 2))


def _where_row(compare: str, shape: Sequence[int], value: Node, other: Any) -> Node:
    """``value`` where the number of the row compares so to that of the column, ``other`` elsewhere."""
    rows, columns = reshape(iota(shape[-2]), (shape[-2], 1)), reshape(iota(shape[-1]), (1, shape[-1]))
    result: Node = OPERATORS["where"](OPERATORS[compare](rows, columns), value, other)
    return result


def _square(a: TensorType, what: str) -> None:
    if not a.dtype.is_float:
        raise DTypeError(f"{what} takes floats, got {a.dtype}")
    if a.rank < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"{what} takes square matrices in the last two axes, got shape {a.shape}")


# --- Cholesky ---------------------------------------------------------------------------------------
def _infer_cholesky(a: TensorType) -> TensorType:
    _square(a, "cholesky")
    return a


def _reference_cholesky(a: Array, *, type: TensorType) -> Array:
    result = np.zeros_like(a)
    n = a.shape[-1]
    for k in range(n):
        left = result[..., k:, :k]
        column = a[..., k:, k] - np.einsum("...ik,...k->...i", left, left[..., 0, :])
        result[..., k:, k] = column / np.sqrt(column[..., :1])
    good = np.all(np.diagonal(result, axis1=-2, axis2=-1) > 0, axis=-1)[..., None, None]
    return np.where(good | np.triu(np.ones((n, n), bool), 1), result, np.nan).astype(a.dtype)


def _halved(a: Node) -> Node:
    """The lower triangle with half its diagonal."""
    return _where_row("greater_equal", a.shape, _where_row("equal", a.shape, a * 0.5, a), 0)


def _gradient_cholesky(g: Node, y: Node, a: Node) -> list[Node]:
    """From da = dL L^T + L dL^T (I. Murray, Differentiation of the Cholesky decomposition, 2016); of what lies below the diagonal."""
    inner = triangular_solve(y, _halved(product(transposed(y), g)), lower=True, trans=True)
    both = transposed(triangular_solve(y, transposed(inner), lower=True, trans=True))
    return [_halved(both + transposed(both))]


def _c_cholesky(a: TensorType) -> str:
    return f"gx_cholesky_{a.dtype}({{0}}, {{y}}, {{n}}, {a.shape[-1]}, {{w}})"


PANEL = 16  # columns that are factored one after another, before the rest loses their product

CHOLESKY = register(
    Routine(
        "cholesky", _infer_cholesky, _reference_cholesky, _gradient_cholesky, whole=True, axes=2, c=_c_cholesky,
        workspace=lambda a: PANEL * a.shape[-1] * a.dtype.itemsize,
        flops=lambda a: math.prod(a.shape[:-2]) * a.shape[-1] ** 3 // 3,
    )
)  # fmt: skip


def cholesky(a: Node) -> Node:
    """The lower triangular factor, from what lies on and below the diagonal; NaN where there is none."""
    return make(CHOLESKY, a)


# --- triangles --------------------------------------------------------------------------------------
def _infer_columns(a: TensorType, b: TensorType, what: str) -> None:
    if b.dtype is not a.dtype or b.rank != a.rank or b.shape[:-1] != a.shape[:-1]:
        raise ShapeError(f"{what} of {a} does not take a right side of {b}")


def _infer_triangular(a: TensorType, b: TensorType, *, lower: bool, trans: bool, unit: bool) -> TensorType:
    _square(a, "solve_triangular")
    _infer_columns(a, b, "solve_triangular")
    return b


def _reference_triangular(a: Array, b: Array, *, type: TensorType, lower: bool, trans: bool, unit: bool) -> Array:
    t = np.swapaxes(a, -1, -2) if trans else a
    n, x = a.shape[-1], b.copy()
    upwards = lower == trans
    for i in range(n - 1, -1, -1) if upwards else range(n):
        known = slice(i + 1, n) if upwards else slice(0, i)
        x[..., i, :] -= np.einsum("...k,...kj->...j", t[..., i, known], x[..., known, :])
        x[..., i, :] /= 1 if unit else t[..., i, i, None]
    return x


def _gradient_triangular(g: Node, x: Node, a: Node, b: Node, *, lower: bool, trans: bool, unit: bool) -> list[Node]:
    back = triangular_solve(a, g, lower=lower, trans=not trans, unit=unit)
    slope = product(x, transposed(back)) if trans else product(back, transposed(x))
    side = ("greater" if lower else "less") + ("" if unit else "_equal")
    return [_where_row(side, a.shape, -slope, 0), back]


def _c_triangular(a: TensorType, b: TensorType, *, lower: bool, trans: bool, unit: bool) -> str:
    flags = f"{int(lower)}, {int(trans)}, {int(unit)}"
    return f"gx_triangular_solve_{a.dtype}({{0}}, {{1}}, {{y}}, {{n}}, {a.shape[-1]}, {b.shape[-1]}, {flags})"


TRIANGULAR = register(
    Routine(
        "triangular_solve", _infer_triangular, _reference_triangular, _gradient_triangular, whole=True, axes=2, c=_c_triangular,
        flops=lambda a, b, **_: a.size * b.shape[-1],
    )
)  # fmt: skip


def triangular_solve(a: Node, b: Node, *, lower: bool, trans: bool = False, unit: bool = False) -> Node:
    """x in T x = b for the lower or upper triangle T of ``a``; with ``trans`` in T^T x = b, with ``unit`` as if its diagonal were 1."""
    return make(TRIANGULAR, a, b, lower=lower, trans=trans, unit=unit)


# --- any square matrix ------------------------------------------------------------------------------
def _infer_lu(a: TensorType) -> TensorType:
    _square(a, "lu")
    return TensorType((*a.shape[:-2], a.shape[-1] + 1, a.shape[-1]), a.dtype)


def _reference_lu(a: Array, *, type: TensorType) -> Array:
    n = a.shape[-1]
    result = np.zeros(type.shape, a.dtype)
    result[..., :n, :] = a
    for at in np.ndindex(*a.shape[:-2]):
        rows, swapped = result[at][:n], result[at][n]
        for k in range(n):
            best = swapped[k] = k + np.argmax(np.abs(rows[k:, k]))
            rows[[k, int(best)]] = rows[[int(best), k]]
            rows[k + 1 :, k] /= rows[k, k] if rows[k, k] != 0 else 1
            rows[k + 1 :, k + 1 :] -= np.outer(rows[k + 1 :, k], rows[k, k + 1 :])
    return result


def _no_gradient(g: Node, y: Node, *operands: Node, **_: Any) -> list[None]:
    """What reads it says how it depends on the operands."""
    return [None] * len(operands)


LU = register(
    Routine(
        "lu", _infer_lu, _reference_lu, _no_gradient, whole=True, axes=2,
        c=lambda a: f"gx_lu_{a.dtype}({{0}}, {{y}}, {{n}}, {a.shape[-1]})", flops=lambda a: 2 * a.size * a.shape[-1] // 3,
    )
)  # fmt: skip


def lu(a: Node) -> Node:
    """In one array of n + 1 rows: L below the diagonal and U from it on, then the number of the row that each was swapped with.

    The largest element of a column is its pivot. A column without any leaves a zero in the diagonal of U.
    """
    return make(LU, a)


def _infer_lu_solve(factors: TensorType, b: TensorType, *, trans: bool) -> TensorType:
    _infer_columns(TensorType((*factors.shape[:-2], factors.shape[-1], factors.shape[-1]), factors.dtype), b, "solve")
    return b


def _reference_lu_solve(factors: Array, b: Array, *, type: TensorType, trans: bool) -> Array:
    n = b.shape[-2]
    below, swapped = factors[..., :n, :], factors[..., n, :].astype(int)
    x = b.copy()

    def substitute(x: Array, lower: bool) -> Array:
        return _reference_triangular(below, x, type=type, lower=lower, trans=trans, unit=lower)

    x = substitute(substitute(x, False), True) if trans else x
    for at in np.ndindex(*b.shape[:-2]):
        for k in range(n - 1, -1, -1) if trans else range(n):
            other = swapped[at][k]
            x[at][[k, other]] = x[at][[other, k]]
    return x if trans else substitute(substitute(x, True), False)


def _c_lu_solve(factors: TensorType, b: TensorType, *, trans: bool) -> str:
    return f"gx_lu_solve_{b.dtype}({{0}}, {{1}}, {{y}}, {{n}}, {b.shape[-2]}, {b.shape[-1]}, {int(trans)})"


LU_SOLVE = register(
    Routine(
        "lu_solve", _infer_lu_solve, _reference_lu_solve, _no_gradient, whole=True, axes=2, c=_c_lu_solve,
        flops=lambda factors, b, **_: 2 * b.size * b.shape[-2],
    )
)  # fmt: skip


def _infer_known(value: TensorType, *_: TensorType, **__: Any) -> TensorType:
    return value


def _known(value: Array, *_: Array, **__: Any) -> Array:
    return value


def _gradient_solution(g: Node, x: Node, value: Node, a: Node, b: Node, *, trans: bool) -> list[Node | None]:
    """From da x + a dx = db."""
    back = solve(a, g, trans=not trans)
    return [None, -(product(x, transposed(back)) if trans else product(back, transposed(x))), back]


SOLUTION = register(Implicit("solution", _infer_known, _known, _gradient_solution))


def solve(a: Node, b: Node, *, trans: bool = False) -> Node:
    """x in a x = b, or in a^T x = b. All solutions with one ``a`` share its factors."""
    return make(SOLUTION, make(LU_SOLVE, lu(a), b, trans=trans), a, b, trans=trans)


def inverse(a: Node) -> Node:
    """The solution for the columns of the identity."""
    return solve(a, broadcast_to(_where_row("equal", a.shape[-2:], constant(1, a.dtype), 0), a.shape))


def _spread_over(g: Node, a: Node) -> Node:
    """A number for each matrix as matrices."""
    return broadcast_to(reshape(g, (*g.shape, 1, 1)), a.shape)


def _gradient_determinant(g: Node, y: Node, value: Node, a: Node) -> list[Node | None]:
    """Jacobi's formula; infinite or NaN where ``a`` is singular."""
    return [None, _spread_over(g * y, a) * transposed(inverse(a))]


def _gradient_log_determinant(g: Node, y: Node, value: Node, a: Node) -> list[Node | None]:
    return [None, _spread_over(g, a) * transposed(inverse(a))]


DETERMINANT = register(Implicit("determinant", _infer_known, _known, _gradient_determinant))
LOG_DETERMINANT = register(Implicit("log_determinant", _infer_known, _known, _gradient_log_determinant))


def determinant(value: Node, a: Node) -> Node:
    """``value``, known to be the determinant of ``a``."""
    return make(DETERMINANT, value, a)


def log_determinant(value: Node, a: Node) -> Node:
    """``value``, known to be the logarithm of the absolute determinant of ``a``."""
    return make(LOG_DETERMINANT, value, a)
