"""What lies on, above and below the diagonals of matrices, under NumPy's names.

Diagonal ``k`` starts k columns to the right of the main one (-k rows below it). In a square of n x n, row-major,
neighbours on the main diagonal lie n + 1 elements apart: taking it is a slice of the flat square, and making a matrix of
it is the inverse of that slice.
"""

from __future__ import annotations

from typing import Any

from graphc.frontend.movement import moveaxis
from graphc.ir import Node, operator
from graphc.ops.pointwise import as_node, cast, less_equal, where
from graphc.ops.routines import cut
from graphc.ops.structural import iota, pad, reduce, reshape
from graphc.types import BOOL, INT32, ShapeError, normalize_axis, whole

__all__ = [
    "diag",
    "diagonal",
    "trace",
    "tril",
    "triu",
]


@operator("diagonal")
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    """Diagonal ``offset`` of the matrices over ``axis1`` and ``axis2``, along a new last axis."""
    node = as_node(x)
    if node.ndim < 2:
        raise ShapeError(f"diagonal needs at least two axes, got shape {node.shape}")
    rows, columns = normalize_axis(axis1, node.ndim), normalize_axis(axis2, node.ndim)
    if rows == columns:
        raise ShapeError(f"diagonal needs two different axes, got {axis1} and {axis2}")
    node = moveaxis(node, (rows, columns), (-2, -1))
    *outer, height, width = node.shape
    top, left = max(-whole(offset, "the diagonal"), 0), max(offset, 0)
    count = max(min(height - top, width - left), 0)
    if not count:
        return reshape(cut(node, node.ndim - 1, 0, 0), (*outer, 0))
    square = cut(cut(node, node.ndim - 2, top, count), node.ndim - 1, left, count)
    return cut(reshape(square, (*outer, count * count)), len(outer), 0, count, count + 1)


@operator("diag")
def diag(x: Any, k: int = 0) -> Node:
    """Diagonal ``k`` of a matrix, or the matrix of zeros that has a vector as its diagonal ``k``."""
    node = as_node(x)
    if node.ndim == 2:
        return diagonal(node, k)
    if node.ndim != 1:
        raise ShapeError(f"diag takes a vector or a matrix, got shape {node.shape}")
    count = node.size
    square = reshape(pad(node, (0,), (count + 1,), (count * count,)), (count, count)) if count else reshape(node, (0, 0))
    side = count + abs(whole(k, "the diagonal"))
    return pad(square, (max(-k, 0), max(k, 0)), (1, 1), (side, side))


@operator("trace")
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Node:
    """The sum of diagonal ``offset`` of the matrices over ``axis1`` and ``axis2``; of bools the count."""
    line = diagonal(x, offset, axis1, axis2)
    return reduce("sum", cast(line, INT32) if line.dtype is BOOL else line, (line.ndim - 1,))


def _below(node: Node, k: int, what: str) -> Node:
    """Whether an element lies on or below diagonal ``k``."""
    if node.ndim < 2:
        raise ShapeError(f"{what} needs at least two axes, got shape {node.shape}")
    height, width = node.shape[-2:]
    return less_equal(reshape(iota(width), (1, width)), reshape(iota(height), (height, 1)) + k)


@operator("tril")
def tril(x: Any, k: int = 0) -> Node:
    """The matrices of the last two axes with zeros above diagonal ``k``."""
    node = as_node(x)
    return where(_below(node, k, "tril"), node, False if node.dtype is BOOL else 0)


@operator("triu")
def triu(x: Any, k: int = 0) -> Node:
    """The matrices of the last two axes with zeros below diagonal ``k``."""
    node = as_node(x)
    return where(_below(node, k - 1, "triu"), False if node.dtype is BOOL else 0, node)
