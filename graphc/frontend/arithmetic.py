"""Arithmetic that is composed from the pointwise operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir import Node, operator
from graphc.ops.pointwise import as_node, cast, divide, multiply, power_
from graphc.ops.structural import broadcast_to
from graphc.types import FLOAT32

__all__ = [
    "positive",
    "power",
    "square",
]


@operator("power")
def power(base: Any, exponent: Any) -> Node:
    """``base ** exponent``. A static integer exponent is multiplied out: exact for ints, any base for floats."""
    if isinstance(exponent, int | np.integer) and not isinstance(exponent, bool) and -64 <= exponent <= 64:
        node = as_node(base)
        if exponent < 0:
            return divide(1, power(node, -exponent))
        result: Node | None = None
        factor, left = node, int(exponent)
        while left:
            if left & 1:
                result = factor if result is None else multiply(result, factor)
            left >>= 1
            factor = multiply(factor, factor) if left else factor
        return broadcast_to(as_node(1, node.dtype), node.shape) if result is None else result
    if isinstance(exponent, float) and exponent.is_integer() and -64 <= exponent <= 64:
        node = as_node(base)
        return power(node if node.dtype.is_float else cast(node, FLOAT32), int(exponent))
    return power_(base, exponent)


@operator("positive")
def positive(x: Any) -> Node:
    """``+x``: x itself."""
    return as_node(x)


@operator("square")
def square(x: Any) -> Node:
    """``x * x``."""
    return multiply(x, x)
