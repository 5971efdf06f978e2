"""Pointwise functions that are composed of the operations: values, gradients of any order and C follow from theirs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir import Node, operator
from graphc.ops.pointwise import (
    abs,
    as_float,
    as_node,
    cast,
    copysign,
    divide,
    equal,
    floor_divide,
    isfinite,
    isnan,
    less_equal,
    log,
    logaddexp,
    meet,
    multiply,
    power_,
    remainder,
    rint,
    sin,
    sqrt,
    where,
)
from graphc.ops.structural import broadcast_to
from graphc.types import FLOAT64, GraphError, ShapeError

__all__ = [
    "clip",
    "deg2rad",
    "divmod",
    "heaviside",
    "isclose",
    "isneginf",
    "isposinf",
    "lerp",
    "logaddexp2",
    "nan_to_num",
    "polyval",
    "positive",
    "power",
    "rad2deg",
    "reciprocal",
    "round",
    "rsqrt",
    "signbit",
    "sinc",
    "square",
    "xlogy",
]


# --- powers -----------------------------------------------------------------------------------------
@operator("power")
def power(base: Any, exponent: Any) -> Node:
    """``base ** exponent``. A static integer exponent is multiplied out: exact for ints, any base for floats; 0.5 is ``sqrt``."""
    if isinstance(exponent, int | np.integer) and not isinstance(exponent, bool) and -64 <= exponent <= 64:
        node = as_node(base)
        if exponent < 0:
            return divide(1, power(node, -exponent))
        return multiplied(node, int(exponent), multiply) if exponent else broadcast_to(as_node(1, node.dtype), node.shape)
    if isinstance(exponent, float | np.floating) and exponent.is_integer() and -64 <= exponent <= 64:
        return power(as_float(base), int(exponent))
    if isinstance(exponent, float | np.floating) and exponent == 0.5:
        return sqrt(base)
    return power_(base, exponent)


def multiplied(factor: Node, n: int, times: Callable[[Node, Node], Node]) -> Node:
    """The product of ``n >= 1`` equal factors, by repeated squaring."""
    result: Node | None = None
    while n:
        if n & 1:
            result = factor if result is None else times(result, factor)
        n >>= 1
        factor = times(factor, factor) if n else factor
    assert result is not None
    return result


@operator("polyval")
def polyval(p: Any, x: Any) -> Node:
    """``p[0] * x**n + ... + p[n]`` by Horner's rule; ``p`` is a sequence or a vector of coefficients, the highest first."""
    point, *factors = meet([x, *p])
    if any(factor.shape for factor in factors):
        raise ShapeError(f"polyval takes a vector of coefficients, got one of shape {factors[0].shape}")
    total = broadcast_to(as_node(0, point.dtype), point.shape)
    for place, factor in enumerate(factors):
        total = total * point + factor if place else broadcast_to(factor, point.shape)
    return total


@operator("positive")
def positive(x: Any) -> Node:
    """``+x``: x itself."""
    return as_node(x)


@operator("square")
def square(x: Any) -> Node:
    """``x * x``."""
    return multiply(x, x)


@operator("reciprocal")
def reciprocal(x: Any) -> Node:
    """``1 / x``; of an int as a float."""
    return divide(1, x)


def rsqrt(x: Any) -> Node:
    """``1 / sqrt(x)``."""
    return divide(1, sqrt(x))


# --- scales -----------------------------------------------------------------------------------------
@operator("deg2rad")
def deg2rad(x: Any) -> Node:
    """Degrees to radians: ``x * (pi / 180)``."""
    return multiply(as_float(x), math.pi / 180)


@operator("rad2deg")
def rad2deg(x: Any) -> Node:
    """Radians to degrees: ``x * (180 / pi)``."""
    return multiply(as_float(x), 180 / math.pi)


@operator("logaddexp2")
def logaddexp2(a: Any, b: Any) -> Node:
    """``log2(2**a + 2**b)`` without overflow."""
    a, b = map(as_float, meet([a, b]))
    return logaddexp(a * math.log(2), b * math.log(2)) * (1 / math.log(2))


# --- bounds and signs -------------------------------------------------------------------------------
@operator("clip")
def clip(x: Any, min: Any = None, max: Any = None) -> Node:
    """``x`` no smaller than ``min`` and no larger than ``max``, either of which may be missing; ``max`` wins over ``min``.

    NaN stays, in ``x`` and in a bound. The gradient goes to ``x`` where it lies within, the bounds included, else to the
    bound that is taken.
    """
    node, *bounds = meet([x, *(bound for bound in (min, max) if bound is not None)])
    if min is not None:
        low, *bounds = bounds
        node = where(_beyond(node < low, low), low, node)
    if max is not None:
        (high,) = bounds
        node = where(_beyond(node > high, high), high, node)
    return node


def _beyond(condition: Node, bound: Node) -> Node:
    """Whether a bound is taken: where ``condition`` says so or the bound is NaN, which most constants are not."""
    known = bound.attrs["value"].array if bound.op.name == "constant" else np.nan
    return condition | isnan(bound) if bound.dtype.is_float and np.isnan(known).any() else condition


@operator("signbit")
def signbit(x: Any) -> Node:
    """Whether the sign is negative, that of a zero or NaN included."""
    return copysign(1, x) < 0


@operator("heaviside")
def heaviside(x: Any, h: Any) -> Node:
    """0 where ``x`` is negative, ``h`` where it is 0, 1 where it is positive. The gradient goes to ``h`` where it is taken."""
    node, middle = map(as_float, meet([x, h]))
    step = where(node > 0, as_node(1, node.dtype), where(node < 0, 0, node))  # 0 or NaN is left
    return where(equal(node, 0), middle, step)


@operator("isposinf")
def isposinf(x: Any) -> Node:
    """Whether it is infinity."""
    return equal(as_float(x), math.inf)


@operator("isneginf")
def isneginf(x: Any) -> Node:
    """Whether it is minus infinity."""
    return equal(as_float(x), -math.inf)


@operator("isclose")
def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Node:
    """``|a - b| <= atol + rtol * |b|``, or both the same infinity; with ``equal_nan`` or both NaN."""
    a, b = map(as_float, meet([a, b]))
    near = equal(a, b) | (isfinite(b) & (abs(a - b) <= atol + rtol * abs(b)))
    return near | (isnan(a) & isnan(b)) if equal_nan else near


@operator("nan_to_num")
def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Node:
    """``x`` with NaN and the infinities replaced, these by the largest and smallest finite numbers unless said otherwise.

    The gradient is 0 where something was replaced. ``copy`` is NumPy's, and means nothing here.
    """
    node = as_node(x)
    if not node.dtype.is_float:
        return node
    info = np.finfo(node.dtype.numpy)
    largest, smallest = float(info.max) if posinf is None else posinf, float(info.min) if neginf is None else neginf
    node = where(isnan(node), nan, node)
    return where(equal(node, math.inf), largest, where(equal(node, -math.inf), smallest, node))


# --- whole numbers ------------------------------------------------------------------------------------
@operator("round")
def round(x: Any, decimals: int = 0) -> Node:
    """``x`` to so many decimals, of two equally near numbers the one whose last digit is even. Zero gradient."""
    if isinstance(decimals, bool) or not isinstance(decimals, int | np.integer):
        raise GraphError(f"round takes a whole number of decimals, got {decimals!r}")
    node = as_node(x)
    if decimals == 0 or (decimals > 0 and not node.dtype.is_float):
        return rint(node)
    wide = node if node.dtype.is_float else cast(node, FLOAT64)
    scale = 10.0 ** (decimals if decimals > 0 else -decimals)
    return cast(rint(wide * scale) / scale if decimals > 0 else rint(wide / scale) * scale, node.dtype)


@operator("divmod")
def divmod(a: Any, b: Any) -> tuple[Node, Node]:
    """Both of :func:`floor_divide` and :func:`remainder`."""
    return floor_divide(a, b), remainder(a, b)


# --- with care where the plain formula fails ------------------------------------------------------------
def lerp(start: Any, end: Any, weight: Any) -> Node:
    """``start + weight * (end - start)``, and exactly ``end`` where ``weight`` is 1."""
    start, end, weight = map(as_float, meet([start, end, weight]))
    step = end - start
    return where(abs(weight) < 0.5, start + weight * step, end - step * (1 - weight))


def xlogy(x: Any, y: Any) -> Node:
    """``x * log(y)``, and 0 where ``x`` is 0 and ``y`` has no finite logarithm (unless it is NaN)."""
    factor, node = map(as_float, meet([x, y]))
    undefined = equal(factor, 0) & (less_equal(node, 0) | equal(node, math.inf))
    return factor * log(where(undefined, 1, node))


@operator("sinc")
def sinc(x: Any) -> Node:
    """``sin(pi x) / (pi x)``, 1 at 0 and 0 at all other whole numbers.

    Near 0 a series, so that the derivatives hold there too; elsewhere the sine of what ``x`` lies off a whole number.
    """
    node = as_float(x)
    turned = node * math.pi
    near = abs(turned) < 1
    z = where(near, turned * turned, 0)
    series = z * (-1 / math.factorial(19)) + 1 / math.factorial(17)
    for k in range(7, -1, -1):
        series = series * z + (-1.0) ** k / math.factorial(2 * k + 1)
    whole = rint(node)
    odd = whole - 2 * rint(whole * 0.5)  # 0, or 1 or -1
    wave = sin((node - whole) * math.pi) * (1 - 2 * odd * odd)
    return where(near, series, wave / where(near, 1, turned))
