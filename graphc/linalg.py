"""Linear algebra under NumPy's names (``numpy.linalg``): matrices in the last two axes, one for each position of those before."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.frontend import cross, diagonals, eye, matmul, matrix_transpose, outer, tensordot, vecdot
from graphc.frontend.norms import matrix_norm, norm, vector_norm
from graphc.ir import OPERATORS, Node, operator
from graphc.ops.pointwise import as_node
from graphc.ops.structural import broadcast_to
from graphc.types import GraphError, ShapeError

__all__ = [
    "cross",
    "diagonal",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "norm",
    "outer",
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
    if node.ndim < 2 or node.shape[-1] != node.shape[-2]:
        raise ShapeError(f"linalg.matrix_power takes square matrices in the last two axes, got shape {node.shape}")
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise GraphError(f"linalg.matrix_power takes a whole number as exponent, got {n!r}")
    if n < 0:
        if "linalg.inv" not in OPERATORS:
            raise GraphError(f"linalg.matrix_power with the exponent {n} needs linalg.inv, which graphc does not have yet")
        node = OPERATORS["linalg.inv"](node)
    result: Node | None = None
    factor, left = node, abs(int(n))
    while left:
        if left & 1:
            result = factor if result is None else matmul(result, factor)
        left >>= 1
        factor = matmul(factor, factor) if left else factor
    return broadcast_to(eye(node.shape[-1], dtype=node.dtype), node.shape) if result is None else result
