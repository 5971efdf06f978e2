"""Dropout: each element is left out at random while a net is trained."""

from __future__ import annotations

from typing import Any

from graphc.ir import Node
from graphc.ops.pointwise import as_node, where
from graphc.random import bernoulli
from graphc.types import GraphError

__all__ = ["dropout"]


def dropout(x: Any, p: float = 0.5, training: bool = True, *, seed: int | None = None) -> Node:
    """``x`` with each element zero with probability ``p`` and the others divided by ``1 - p``; ``x`` itself if not ``training``.

    Every call is a draw of its own (:mod:`graphc.random`), and every step of a compiled function draws afresh; the gradient
    goes where the value went. Srivastava et al., *Dropout*, 2014.

    >>> import graphc as gx
    >>> x = gx.input("x", (4,))
    >>> gx.evaluate(gx.nn.dropout(x, 0.5, seed=3), {"x": [1.0, 2.0, 3.0, 4.0]}).tolist()
    [2.0, 0.0, 6.0, 8.0]
    """
    if isinstance(p, Node) or not 0 <= p <= 1:
        raise GraphError(f"dropout: p is a number between 0 and 1, got {p!r}")
    node = as_node(x)
    if not training or p == 0:
        return node
    if p == 1:
        return node * 0.0
    return where(bernoulli(1 - p, node.shape, seed=seed), node * (1 / (1 - p)), 0)
