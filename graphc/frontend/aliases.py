"""Second names: NumPy and the array-API standard have more than one for some functions."""

from __future__ import annotations

from graphc.frontend.elementwise import deg2rad, positive, power, rad2deg, round
from graphc.frontend.pieces import concatenate
from graphc.frontend.reductions import max, min
from graphc.ir import operator
from graphc.ops.pointwise import abs, divide, invert, left_shift, right_shift, trunc

__all__ = [
    "absolute",
    "amax",
    "amin",
    "around",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_not",
    "bitwise_right_shift",
    "concat",
    "conj",
    "conjugate",
    "degrees",
    "fix",
    "pow",
    "radians",
    "true_divide",
]

absolute, fix, true_divide, pow = abs, trunc, divide, power
amax, amin, around, concat = max, min, round, concatenate
degrees, radians = rad2deg, deg2rad
bitwise_not = bitwise_invert = invert
bitwise_left_shift, bitwise_right_shift = left_shift, right_shift
conj = conjugate = positive  # of real numbers

for _name in __all__:
    operator(_name)(globals()[_name])
