"""Second names: NumPy, the array-API standard and C have more than one for some functions."""

from __future__ import annotations

from graphc.frontend.elementwise import deg2rad, positive, power, rad2deg, round
from graphc.frontend.pieces import concatenate
from graphc.frontend.reductions import max, min
from graphc.ir import operator
from graphc.ops.pointwise import (
    abs,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    divide,
    invert,
    left_shift,
    remainder,
    right_shift,
    trunc,
)

__all__ = [
    "absolute",
    "acos",
    "acosh",
    "amax",
    "amin",
    "around",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_right_shift",
    "concat",
    "conj",
    "conjugate",
    "degrees",
    "fabs",
    "fix",
    "mod",
    "pow",
    "radians",
    "true_divide",
]

absolute = fabs = abs
fix, true_divide, mod, pow = trunc, divide, remainder, power
acos, asin, atan, atan2 = arccos, arcsin, arctan, arctan2
acosh, asinh, atanh = arccosh, arcsinh, arctanh
amax, amin, around, concat = max, min, round, concatenate
degrees, radians = rad2deg, deg2rad
bitwise_not = bitwise_invert = invert
bitwise_left_shift, bitwise_right_shift = left_shift, right_shift
conj = conjugate = positive  # of real numbers

for _name in __all__:
    operator(_name)(globals()[_name])
