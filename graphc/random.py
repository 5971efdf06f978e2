"""Random numbers as nodes: each call is a draw of its own, and each call of a compiled function draws afresh.

A draw has a seed. In step s of a function (its s-th call, or the s-th of ``run``) it is a function of the seed, s, and the
place of the element: the same on every machine, for any number of threads, compiled or in NumPy. A node is one set of
numbers wherever it is used, in a value as in its gradient. Steps are counted in the function's own parameter
``random.step``, which is saved and loaded with it; :func:`graphc.evaluate` shows step 0.

Without ``seed=`` draws are seeded by the order in which they are made, so that a program gives the same numbers each
time it is run. Two draws with one seed are made of the same bits.
"""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import numpy as np

from graphc.ir import Node
from graphc.ops.pointwise import as_node, bitwise_and, cast, right_shift
from graphc.ops.random import philox
from graphc.ops.structural import broadcast_to, constant
from graphc.types import FLOAT64, INT32, INT64, DType, DTypeError, GraphError, dtype_of, shape_of

__all__ = ["uniform"]

_made = count()


def _key(seed: Any) -> Node:
    """The key of a draw: a seed below 2**63, or, without one, a number of its own above."""
    if seed is None:
        return constant(next(_made) - 2**63, INT64)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise GraphError(f"seed must be a whole number, 0 <= seed < 2**63, or None, got {seed!r}")
    return constant(int(seed), INT64)


def _float(dtype: Any) -> DType:
    wanted = dtype_of(dtype)
    if not wanted.is_float:
        raise DTypeError(f"random numbers of this distribution are floats, got dtype {wanted}")
    return wanted


def _unit(key: Node, shape: tuple[int, ...], dtype: DType, stream: int = 0) -> Node:
    """All multiples of 2**-24 (float64: 2**-53) in 0 <= x < 1, equally likely."""
    bits, kept = (INT64, 53) if dtype is FLOAT64 else (INT32, 24)
    words = philox(key, shape, bits, stream)
    whole = bitwise_and(right_shift(words, bits.itemsize * 8 - kept), 2**kept - 1)
    return cast(whole, dtype) * 2.0**-kept


def uniform(shape: Any = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = "float32", *, seed: int | None = None) -> Node:
    """Uniform in ``low <= x < high``, in steps of 2**-24 (float64: 2**-53) of the way.

    ``low`` and ``high`` may be nodes that broadcast to ``shape``; gradients go through them. The last value may be rounded
    up to ``high`` where the bounds are not 0 and 1.

    >>> import graphc as gx
    >>> noise = gx.random.uniform((2, 3), seed=0)
    >>> gx.evaluate(noise).shape
    (2, 3)
    """
    wanted, extents = _float(dtype), shape_of(shape)
    unit = _unit(_key(seed), extents, wanted)
    if isinstance(low, Node) or isinstance(high, Node):
        start = _fitting(low, extents, wanted)
        return start + unit * (_fitting(high, extents, wanted) - start)
    least, beyond = float(low), float(high)
    if not (math.isfinite(least) and math.isfinite(beyond) and least <= beyond):
        raise GraphError(f"uniform needs finite bounds with low <= high, got {low!r} and {high!r}")
    return unit if least == 0 and beyond == 1 else unit * (beyond - least) + least


def _fitting(value: Any, shape: tuple[int, ...], dtype: DType) -> Node:
    """A parameter of a distribution, spread over the shape of the draw."""
    return broadcast_to(cast(as_node(value, dtype), dtype), shape)
