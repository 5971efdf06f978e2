"""The reference of the functions that NumPy lacks, elementwise: in float64, from the C library or a series of their own.

They are slow and plain; what is compiled is written independently of them, in ``templates/math/``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc.ir import Array

__all__ = ["digamma", "erf", "erfc", "lgamma", "polygamma", "sigmoid"]

# B_2j / (2j)!, B being the Bernoulli numbers
BERNOULLI = [1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600]
FAR = 16.0  # from here on an asymptotic series has all digits of a float64


def _elementwise(function: Callable[[float], float]) -> Callable[[Array], Array]:
    return lambda x: np.asarray(np.vectorize(function, otypes=[np.float64])(x))


def _lgamma(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):  # a pole, or out of range
        return math.inf


erf, erfc, lgamma = _elementwise(math.erf), _elementwise(math.erfc), _elementwise(_lgamma)


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, in the dtype of x."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


def digamma(x: Array) -> Array:
    """The derivative of ``lgamma``; -inf and inf at 0 and -0, NaN at all other poles."""
    x = np.asarray(x, np.float64)
    positive = np.where(x < 0, 1 - x, x)  # digamma(1 - x) = digamma(x) + pi / tan(pi x)
    up, total = positive, np.zeros_like(positive)
    for _ in range(int(FAR)):
        below = up < FAR
        total = total - np.where(below, 1 / up, 0)
        up = up + below
    total = total + np.log(up) - 0.5 / up
    for j, b in enumerate(BERNOULLI, 1):
        total = total - b * math.factorial(2 * j - 1) * up ** (-2.0 * j)
    fraction = x - np.rint(x)
    reflected = np.where(fraction == 0, np.nan, total - np.pi / np.tan(np.pi * fraction))
    return np.asarray(np.where(x == 0, np.copysign(np.inf, -x), np.where(x < 0, reflected, total)))


def polygamma(order: Array, x: Array) -> Array:
    """The derivative of that order of ``digamma``, 1 to 30, for ``x >= 0``: a sum, and what is left of it by Euler and Maclaurin."""
    n, x = np.rint(np.asarray(order, np.float64)), np.asarray(x, np.float64)
    factorial = np.exp(lgamma(n + 1)).round()
    up, total = np.abs(x), np.zeros(np.broadcast_shapes(n.shape, x.shape))
    for _ in range(int(FAR)):
        below = up < FAR
        total = total + np.where(below, factorial * up ** -(n + 1), 0)
        up = up + below
    rest = factorial / n * up**-n + factorial / 2 * up ** -(n + 1)
    power = factorial * (n + 1) * up ** -(n + 2)
    for j, b in enumerate(BERNOULLI, 1):
        rest = rest + b * power
        power = power * (n + 2 * j) * (n + 2 * j + 1) / up**2
    total = np.where(n % 2 == 1, total + rest, -(total + rest))
    return np.asarray(np.where((x >= 0) & (n >= 1) & (n <= 30), total, np.nan))
