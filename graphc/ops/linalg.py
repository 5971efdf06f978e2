"""Factorisations and solves of matrices in the last two axes, one for each position of the axes before.

    cholesky(a) = L                         a = L L^T
    triangular_solve(a, b) = x              T x = b for a triangle T of a
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import OPERATORS, Array, Node, Routine, make, register
from graphc.ops.structural import contract, iota, permute, reshape
from graphc.types import DTypeError, ShapeError, TensorType

__all__ = ["cholesky", "transposed", "triangular_solve"]


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


def _sizes(a: TensorType) -> str:
    return f"{math.prod(a.shape[:-2])}, {a.shape[-1]}"


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
    return f"gx_cholesky_{a.dtype}({{0}}, {{y}}, {_sizes(a)}, {{w}})"


PANEL = 16  # columns, as in templates/routines/linalg.h.j2

CHOLESKY = register(
    Routine(
        "cholesky", _infer_cholesky, _reference_cholesky, _gradient_cholesky, whole=True, c=_c_cholesky,
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
    return f"gx_triangular_solve_{a.dtype}({{0}}, {{1}}, {{y}}, {_sizes(a)}, {b.shape[-1]}, {flags})"


TRIANGULAR = register(
    Routine(
        "triangular_solve", _infer_triangular, _reference_triangular, _gradient_triangular, whole=True, c=_c_triangular,
        flops=lambda a, b, **_: a.size * b.shape[-1],
    )
)  # fmt: skip


def triangular_solve(a: Node, b: Node, *, lower: bool, trans: bool = False, unit: bool = False) -> Node:
    """x in T x = b for the lower or upper triangle T of ``a``; with ``trans`` in T^T x = b, with ``unit`` as if its diagonal were 1."""
    return make(TRIANGULAR, a, b, lower=lower, trans=trans, unit=unit)
