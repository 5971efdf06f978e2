"""Sums of products: matmul and its relatives, all of them one operation, the contraction."""

from __future__ import annotations

from typing import Any

from graphc.ir import Node, operator
from graphc.ops.pointwise import broadcast_shapes, cast, meet
from graphc.ops.structural import contract, reshape
from graphc.types import FLOAT32, ShapeError

__all__ = [
    "matmul",
]


@operator("matmul")
@operator("dot")
def matmul(a: Any, b: Any) -> Node:
    """NumPy's matmul: 1-D operands are vectors, leading axes broadcast. Ints become float32."""
    a, b = meet([a, b])
    if not a.dtype.is_float:
        a, b = cast(a, FLOAT32), cast(b, FLOAT32)
    if not a.shape or not b.shape:
        raise ShapeError(f"matmul needs at least one axis on each side, got shapes {a.shape} and {b.shape}; use `*`")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ShapeError(f"matmul of shapes {a.shape} and {b.shape}: {a.shape[-1]} columns meet {inner} rows")
    k, i, j, first = 0, 1, 2, 3  # labels; batch axes count from `first`
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])

    def labelled(node: Node, own: tuple[int, ...]) -> tuple[Node, tuple[int, ...]]:
        """The operand without the batch axes along which it repeats, and the labels of the others."""
        outer = node.shape[:-2]
        places = range(len(batch) - len(outer), len(batch))
        kept = [place for place, extent in zip(places, outer, strict=True) if extent == batch[place]]
        shape = (*(batch[place] for place in kept), *node.shape[len(outer) :])
        return reshape(node, shape), (*(first + place for place in kept), *own)

    left, a_axes = labelled(a, (i, k) if a.ndim > 1 else (k,))
    right, b_axes = labelled(b, (k, j) if b.ndim > 1 else (k,))
    rows, columns = (i,) if a.ndim > 1 else (), (j,) if b.ndim > 1 else ()
    return contract(left, right, a_axes, b_axes, (*range(first, first + len(batch)), *rows, *columns))
