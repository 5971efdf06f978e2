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
from graphc.ops.pointwise import (
    as_node,
    bitwise_and,
    cast,
    cos_turns_,
    less,
    less_equal,
    log,
    remainder,
    right_shift,
    sqrt,
)
from graphc.ops.random import philox
from graphc.ops.structural import broadcast_to, constant
from graphc.types import FLOAT32, FLOAT64, INT32, INT64, DType, DTypeError, GraphError, dtype_of, shape_of

__all__ = ["bernoulli", "integers", "normal", "uniform"]

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


def _bits(key: Node, shape: tuple[int, ...], dtype: DType) -> Node:
    """As many random bits as a float of this dtype takes, as ints."""
    return philox(key, shape, INT64 if dtype is FLOAT64 else INT32)


def _part(bits: Node, start: int, count: int) -> Node:
    """So many of the bits, from bit ``start`` on, as an int32: its conversion to a float is vector code everywhere."""
    return cast(bitwise_and(right_shift(bits, start) if start else bits, 2**count - 1), INT32)


def _unit(bits: Node, dtype: DType) -> Node:
    """All multiples of 2**-24 (float64: 2**-53) in 0 <= x < 1, equally likely."""
    if dtype is FLOAT64:
        return (cast(_part(bits, 38, 26), dtype) * 2.0**27 + cast(_part(bits, 11, 27), dtype)) * 2.0**-53
    return cast(_part(bits, 8, 24), dtype) * 2.0**-24


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
    unit = _unit(_bits(_key(seed), extents, wanted), wanted)
    if isinstance(low, Node) or isinstance(high, Node):
        start = _fitting(low, extents, wanted)
        return start + unit * (_fitting(high, extents, wanted) - start)
    least, beyond = float(low), float(high)
    if not (math.isfinite(least) and math.isfinite(beyond) and least <= beyond):
        raise GraphError(f"uniform needs finite bounds with low <= high, got {low!r} and {high!r}")
    return unit if least == 0 and beyond == 1 else unit * (beyond - least) + least


def normal(shape: Any = (), mean: Any = 0.0, std: Any = 1.0, dtype: Any = "float32", *, seed: int | None = None) -> Node:
    """Normal with this mean and standard deviation, which may be nodes that broadcast to ``shape``; gradients go through them.

    By the Box-Muller transform, of which only the cosine is used; float32 reaches 6.7 standard deviations, float64 9.4.

    >>> import graphc as gx
    >>> mean = gx.parameter("mean", [1.0, 2.0])
    >>> gx.evaluate(gx.grad(gx.sum(gx.random.normal((3, 2), mean)), mean)).tolist()
    [3.0, 3.0]
    """
    wanted, extents = _float(dtype), shape_of(shape)
    if not isinstance(std, Node) and not np.all(np.asarray(std) >= 0):
        raise GraphError(f"std must not be negative, got {std!r}")
    key = _key(seed)
    if wanted is FLOAT64:
        radius, angle = (philox(key, extents, INT64, stream) for stream in (0, 1))
    else:
        both = philox(key, extents, INT64)
        radius, angle = cast(both, INT32), cast(right_shift(both, 32), INT32)
    # In (0, 1], with all small values that the bits give, for the tails.
    unit = (cast(_part(radius, 0, 31), wanted) + 0.5) * 2.0**-31
    if wanted is FLOAT64:
        unit = (cast(_part(radius, 32, 31), wanted) + unit) * 2.0**-31
    value = sqrt(log(unit) * -2) * cos_turns_(_unit(angle, wanted))
    if isinstance(std, Node) or not np.all(np.asarray(std) == 1):
        value = value * _fitting(std, extents, wanted)
    if isinstance(mean, Node) or np.any(np.asarray(mean) != 0):
        value = value + _fitting(mean, extents, wanted)
    return value


def bernoulli(p: Any = 0.5, shape: Any = None, *, seed: int | None = None) -> Node:
    """True with probability ``p``, a number or a node that broadcasts to ``shape`` (without one, its own); a bool node.

    Exact to 2**-32, for a float32 node to 2**-24: never true for 0, always for 1. No gradient goes to ``p``.

    >>> import graphc as gx
    >>> gx.evaluate(gx.random.bernoulli(1.0, (3,))).tolist()
    [True, True, True]
    """
    if not isinstance(p, Node) and not np.all((np.asarray(p) >= 0) & (np.asarray(p) <= 1)):
        raise GraphError(f"a probability lies between 0 and 1, got {p!r}")
    chance = as_node(p)
    dtype = chance.dtype if chance.dtype.is_float else FLOAT32
    extents = chance.shape if shape is None else shape_of(shape)
    bits = _bits(_key(seed), extents, dtype)
    if isinstance(p, Node) or chance.shape:
        return less(_unit(bits, dtype), _fitting(chance, extents, dtype))
    below = round(float(p) * 2**32) - 2**31  # of the ints from -2**31 on
    return less_equal(bits, below - 1) if below > -(2**31) else less(bits, below)


def integers(low: int, high: int, shape: Any = (), dtype: Any = "int32", *, seed: int | None = None) -> Node:
    """Whole numbers in ``low <= n < high``, equally likely.

    Their probabilities are equal to one part in 2**32; of more than 2**31 numbers, to ``(high - low) / 2**63``.

    >>> import graphc as gx
    >>> sorted(set(gx.evaluate(gx.random.integers(1, 7, (1000,), seed=0)).tolist()))
    [1, 2, 3, 4, 5, 6]
    """
    wanted, extents = dtype_of(dtype), shape_of(shape)
    if not wanted.is_int:
        raise DTypeError(f"random integers are int32 or int64, got dtype {wanted}")
    if any(isinstance(end, bool) or not isinstance(end, int | np.integer) for end in (low, high)) or not low < high:
        raise GraphError(f"integers needs whole numbers with low < high, got {low!r} and {high!r}")
    info = np.iinfo(wanted.numpy)
    count = int(high) - int(low)
    if low < info.min or high - 1 > info.max or count >= 2**63:
        raise GraphError(f"integers takes less than 2**63 numbers that fit in {wanted}, got {low} to {high - 1}")
    bits = philox(_key(seed), extents, INT64)
    if count > 2**31:
        picked = remainder(bitwise_and(bits, 2**63 - 1), count)
    else:  # the whole part of bits / 2**64 * count, from the two halves of the bits
        halves = bitwise_and(bits, 2**32 - 1), bitwise_and(right_shift(bits, 32), 2**32 - 1)
        picked = right_shift(right_shift(halves[0] * count, 32) + halves[1] * count, 32)
    return cast(picked + low if low else picked, wanted)


def _fitting(value: Any, shape: tuple[int, ...], dtype: DType) -> Node:
    """A parameter of a distribution, spread over the shape of the draw."""
    return broadcast_to(cast(as_node(value, dtype), dtype), shape)
