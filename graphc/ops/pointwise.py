"""Pointwise operations. Each is one statement: type rule, NumPy reference, derivative, C and sampling domain.

To add one, write one more statement here; it is then a function of ``graphc``, differentiates, compiles, and
is tested over its domain like all the others. In the C text ``{0}``, ``{1}`` stand for the operands, ``{f}`` for
the suffix of the C dialect of the dtype (``f`` for float32, nothing for float64) and ``{d}`` for its name; names with
``gx_`` are helpers of ``templates/helpers.h.j2`` and ``templates/math/``, emitted only when used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log as _log
from math import pi
from math import sqrt as _sqrt
from typing import Any

import numpy as np

from graphc.ir import Array, Node, Op, make, operator, register
from graphc.ops import special
from graphc.ops.structural import broadcast_to, constant
from graphc.types import (
    BOOL,
    DTYPES,
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    DType,
    DTypeError,
    GraphError,
    ShapeError,
    TensorType,
    dtype_of,
    promote,
)

Domain = tuple[float, float]
FREE = 0  # a select, a sign: hardly anything
CHEAP = 1  # one machine operation
COSTLY = 20  # a division, a root, or a page of polynomial


# --- from whatever a user passes to nodes of one type ----------------------------------------------------
def as_node(value: Any, like: DType | None = None) -> Node:
    """A node from a node, number or array; a number or array takes the dtype ``like`` (a float meeting an
    int gives float32), or its own where there is none."""
    if isinstance(value, Node):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"cannot make a node of {value!r} (dtype {array.dtype}); expected real numbers")
    if like is None or (like is BOOL and array.dtype.kind != "b"):
        own = {"f": FLOAT32 if array.dtype.itemsize <= 4 or not hasattr(value, "dtype") else FLOAT64, "b": BOOL}
        like = own.get(
            array.dtype.kind, INT64 if array.size and (array.max() > 2**31 - 1 or array.min() < -(2**31)) else INT32
        )
    elif array.dtype.kind == "f" and not like.is_float:
        like = FLOAT32
    elif array.dtype.kind != "b" and like.is_int and array.size:
        info = np.iinfo(like.numpy)
        if array.min() < info.min or array.max() > info.max:
            raise DTypeError(f"the constant {value!r} does not fit in {like}")
    return constant(array, like)


def as_float(value: Any) -> Node:
    """A float node: ints and bools become float32."""
    node = as_node(value)
    return node if node.dtype.is_float else cast(node, FLOAT32)


def as_number(value: Any) -> Node:
    """A node of numbers: bools become int32."""
    node = as_node(value)
    return cast(node, INT32) if node.dtype is BOOL else node


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """NumPy's rule; raises :class:`ShapeError` naming the shapes."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"shapes {' and '.join(map(str, shapes))} do not broadcast") from None


def meet(values: Sequence[Any]) -> list[Node]:
    """Nodes of one dtype (nodes promote, everything else adapts), shapes untouched."""
    dtype: DType | None = None
    for value in values:
        if isinstance(value, Node):
            dtype = value.dtype if dtype is None else promote(dtype, value.dtype)
    nodes = [as_node(value, dtype) for value in values]
    for node in nodes:
        dtype = node.dtype if dtype is None else promote(dtype, node.dtype)
    assert dtype is not None
    return [cast(node, dtype) for node in nodes]


def spread(nodes: Sequence[Node]) -> list[Node]:
    """Nodes of one shape, by broadcasting."""
    shape = broadcast_shapes(*(node.shape for node in nodes))
    return [broadcast_to(node, shape) for node in nodes]


# --- the declaration --------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Pointwise(Op):
    """A pointwise operation, callable: converts, promotes and broadcasts its arguments and makes the node."""

    arity: int
    takes: str
    c: str
    c_int: str
    cost: int
    domain: tuple[Domain, ...]

    def __call__(self, *args: Any) -> Node:
        if len(args) != self.arity:
            raise TypeError(f"graphc.{self.name} takes {self.arity} arguments, got {len(args)}")
        if self.takes == "select":
            condition, *rest = args
            rest = meet(rest)
            return make(self, *spread([_condition(condition), *rest]))
        nodes = [cast(as_node(arg), BOOL) for arg in args] if self.takes == "bool" else meet(args)
        if self.takes == "float" and not nodes[0].dtype.is_float:
            nodes = [cast(node, FLOAT32) for node in nodes]
        elif self.takes in ("number", "int") and nodes[0].dtype is BOOL:
            nodes = [cast(node, INT32) for node in nodes]
        return make(self, *spread(nodes))


def _condition(value: Any) -> Node:
    node = as_node(value)
    if node.dtype is not BOOL:
        raise DTypeError(f"expected a bool node such as `x > 0`, got {node!r}")
    return node


# What an operation may ask of its operands: the dtypes that a node of it has, and how an error says that.
_TAKES: dict[str, tuple[Sequence[DType], str]] = {
    "float": ((FLOAT32, FLOAT64), "floats"),
    "number": ((FLOAT32, FLOAT64, INT32, INT64), "numbers"),
    "int": ((INT32, INT64), "ints"),
    "bits": ((INT32, INT64, BOOL), "ints or bools"),
    "bool": ((BOOL,), "bools"),
    "any": (DTYPES, "operands"),
    "select": (DTYPES, "operands"),
}


def _infer(name: str, takes: str, gives: DType | None) -> Callable[..., TensorType]:
    accepted, what = _TAKES[takes]

    def infer(*types: TensorType) -> TensorType:
        if takes == "select":
            if types[0].dtype is not BOOL or types[0].shape != types[1].shape:
                raise DTypeError(f"{name} takes a bool condition of the shape of its operands, got {types[0]}")
            types = types[1:]
        if any(type != types[0] for type in types) or types[0].dtype not in accepted:
            raise DTypeError(f"{name} takes {what} of one type, got {', '.join(map(str, types))}")
        return TensorType(types[0].shape, gives or types[0].dtype)

    return infer


def pointwise(
    name: str,
    *,
    takes: str,
    reference: Callable[..., Any],
    derivative: Callable[..., Sequence[Node | None]],
    c: str,
    domain: tuple[Domain, ...],
    c_int: str = "",
    gives: DType | None = None,
    cost: int = CHEAP,
    doc: str = "",
) -> Pointwise:
    """Declare a pointwise operation.

    takes: "float" (ints and bools become float32), "number" (bools become int32), "int" (the same, no floats), "bits" (ints
    and bools), "bool" (what is not zero is true), "any", or "select" (a bool, then two of any dtype).
    reference: the NumPy function, in the dtype it is given. derivative: ``(g, y, *operands)`` to one cotangent
    per operand (None for zero). c: the scalar C; c_int: the same for ints where it differs. gives: the dtype of the
    result if it is not that of the operands. cost: in machine operations, for the choice between storing and computing again.
    domain: where to sample each operand in tests.
    """

    def evaluate(*arrays: Array, type: TensorType) -> Array:
        return np.asarray(reference(*arrays), dtype=type.dtype.numpy)

    op = Pointwise(
        name, _infer(name, takes, gives), evaluate, derivative, len(domain), takes, c, c_int or c, cost, domain
    )
    object.__setattr__(op, "__doc__", doc or f"{name}, elementwise, as NumPy's; operands promote and broadcast.")
    register(op)
    operator(name)(op)
    return op


def _zero(*operands: Any) -> list[None]:
    return [None] * (len(operands) - 2)


def _wrapping(symbol: str) -> str:
    """Integer arithmetic that wraps as NumPy's does; plain signed overflow has no meaning in C."""
    return f"({{t}})(({{u}}){{0}} {symbol} ({{u}}){{1}})"


def _whole(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """A function that rounds floats; ints are whole already (older NumPys make them floats)."""
    return lambda x: function(x) if x.dtype.kind == "f" else x


ALL, SMALL, POSITIVE, UNIT = (-3.0, 3.0), (-1.5, 1.5), (0.2, 4.0), (-0.9, 0.9)

# One operation in few lines reads as the row of a table.
# fmt: off
# --- arithmetic ---------------------------------------------------------------------------------------
add = pointwise("add", takes="number", reference=np.add, c="{0} + {1}", c_int=_wrapping("+"), domain=(ALL, ALL),
                derivative=lambda g, y, a, b: [g, g])
subtract = pointwise("subtract", takes="number", reference=np.subtract, c="{0} - {1}", c_int=_wrapping("-"), domain=(ALL, ALL),
                     derivative=lambda g, y, a, b: [g, -g])
multiply = pointwise("multiply", takes="number", reference=np.multiply, c="{0} * {1}", c_int=_wrapping("*"), domain=(ALL, ALL),
                     derivative=lambda g, y, a, b: [g * b, g * a])
divide = pointwise("divide", takes="float", reference=np.divide, c="{0} / {1}", cost=4, domain=(ALL, POSITIVE),
                   derivative=lambda g, y, a, b: [g / b, -(g / b) * y])
negative = pointwise("negative", takes="number", reference=np.negative, c="-{0}", c_int="({t})(0u - ({u}){0})", domain=(ALL,),
                     derivative=lambda g, y, x: [-g])
abs = pointwise("abs", takes="number", reference=np.abs, c="fabs{f}({0})", c_int="({0} < 0 ? ({t})(0u - ({u}){0}) : {0})", domain=(ALL,),
                derivative=lambda g, y, x: [g * sign(x)], doc="The absolute value; the gradient at 0 is 0.")
sign: Pointwise = pointwise("sign", takes="number", reference=np.sign, c="gx_sign{f}({0})", c_int="({t})(({0} > 0) - ({0} < 0))", domain=(ALL,),
                 derivative=_zero)
maximum = pointwise("maximum", takes="number", reference=lambda a, b: np.where((a > b) | (a != a), a, b), c="gx_max{f}({0}, {1})", c_int="({0} > {1} ? {0} : {1})",
                    domain=(ALL, ALL), derivative=lambda g, y, a, b: _split(g, a, b, greater),
                    doc="The larger; NaN if either is. The gradient is split evenly where both are equal.")
minimum = pointwise("minimum", takes="number", reference=lambda a, b: np.where((a < b) | (a != a), a, b), c="gx_min{f}({0}, {1})", c_int="({0} < {1} ? {0} : {1})",
                    domain=(ALL, ALL), derivative=lambda g, y, a, b: _split(g, a, b, less),
                    doc="The smaller; NaN if either is. The gradient is split evenly where both are equal.")
fmax = pointwise("fmax", takes="number", reference=lambda a, b: np.where((a >= b) | (b != b), a, b), c="gx_fmax{f}({0}, {1})", c_int="({0} > {1} ? {0} : {1})",
                 domain=(ALL, ALL), derivative=lambda g, y, a, b: _first(g, a, b, greater_equal),
                 doc="The larger; a number rather than NaN. The gradient goes to ``a`` where both are equal.")
fmin = pointwise("fmin", takes="number", reference=lambda a, b: np.where((a <= b) | (b != b), a, b), c="gx_fmin{f}({0}, {1})", c_int="({0} < {1} ? {0} : {1})",
                 domain=(ALL, ALL), derivative=lambda g, y, a, b: _first(g, a, b, less_equal),
                 doc="The smaller; a number rather than NaN. The gradient goes to ``a`` where both are equal.")
# np.power takes the root for a scalar 0.5, which differs for -inf and -0; np.float_power never does.
power_: Pointwise = pointwise("power_", takes="float", reference=np.float_power, c="gx_pow{f}({0}, {1})", cost=60, domain=(POSITIVE, ALL),
                   derivative=lambda g, y, a, b: [g * b * power_(a, b - 1), g * where(equal(a, 0), 0, log(where(equal(a, 0), 1, a))) * y])

# --- exponentials and roots -----------------------------------------------------------------------------
exp = pointwise("exp", takes="float", reference=np.exp, c="gx_exp{f}({0})", cost=COSTLY, domain=(ALL,),
                derivative=lambda g, y, x: [g * y])
exp2 = pointwise("exp2", takes="float", reference=np.exp2, c="gx_exp2{f}({0})", cost=COSTLY, domain=(ALL,),
                 derivative=lambda g, y, x: [g * y * _log(2)])
expm1 = pointwise("expm1", takes="float", reference=np.expm1, c="gx_expm1{f}({0})", cost=COSTLY, domain=(ALL,),
                  derivative=lambda g, y, x: [g * exp(x)])
log: Pointwise = pointwise("log", takes="float", reference=np.log, c="gx_log{f}({0})", cost=COSTLY, domain=(POSITIVE,),
                derivative=lambda g, y, x: [g / x])
log2 = pointwise("log2", takes="float", reference=np.log2, c="gx_log2{f}({0})", cost=COSTLY, domain=(POSITIVE,),
                 derivative=lambda g, y, x: [g / (x * _log(2))])
log10 = pointwise("log10", takes="float", reference=np.log10, c="gx_log10{f}({0})", cost=COSTLY, domain=(POSITIVE,),
                  derivative=lambda g, y, x: [g / (x * _log(10))])
log1p = pointwise("log1p", takes="float", reference=np.log1p, c="gx_log1p{f}({0})", cost=COSTLY, domain=((-0.8, 4.0),),
                  derivative=lambda g, y, x: [g / (x + 1)])
sqrt = pointwise("sqrt", takes="float", reference=np.sqrt, c="sqrt{f}({0})", cost=6, domain=(POSITIVE,),
                 derivative=lambda g, y, x: [g * 0.5 / y])
cbrt = pointwise("cbrt", takes="float", reference=np.cbrt, c="gx_cbrt{f}({0})", cost=COSTLY, domain=(POSITIVE,),
                 derivative=lambda g, y, x: [g / (3 * y * y)], doc="The cube root, of negative numbers too.")
logaddexp = pointwise("logaddexp", takes="float", reference=np.logaddexp, c="gx_logaddexp{f}({0}, {1})", cost=2 * COSTLY,
                      domain=(ALL, ALL), derivative=lambda g, y, a, b: [g * sigmoid(a - b), g * sigmoid(b - a)])
softplus_ = pointwise("softplus_", takes="float", reference=lambda x: np.logaddexp(x, x.dtype.type(0)), c="gx_softplus{f}({0})", cost=2 * COSTLY, domain=(ALL,),
                      derivative=lambda g, y, x: [g * sigmoid(x)], doc="``logaddexp(x, 0)``, whose C has an exponential in common with that of sigmoid.")

# --- nonlinearities -------------------------------------------------------------------------------------
tanh = pointwise("tanh", takes="float", reference=np.tanh, c="gx_tanh{f}({0})", cost=COSTLY, domain=(ALL,),
                 derivative=lambda g, y, x: [g * (1 - y * y)])
sigmoid: Pointwise = pointwise("sigmoid", takes="float", reference=special.sigmoid, c="gx_sigmoid{f}({0})", cost=COSTLY, domain=(ALL,),
                    derivative=lambda g, y, x: [g * y * (1 - y)], doc="1 / (1 + exp(-x)), accurate in both tails.")
relu = pointwise("relu", takes="number", reference=lambda x: np.where((x > 0) | (x != x), x, 0), c="gx_max{f}({0}, 0)", c_int="({0} > 0 ? {0} : 0)", domain=(ALL,),
                 derivative=lambda g, y, x: [where(y <= 0, 0, g)], doc="max(0, x); the gradient at 0 is 0, as everywhere in the field.")
sin = pointwise("sin", takes="float", reference=np.sin, c="gx_sin{f}({0})", cost=COSTLY, domain=(ALL,),
                derivative=lambda g, y, x: [g * cos(x)])
cos: Pointwise = pointwise("cos", takes="float", reference=np.cos, c="gx_cos{f}({0})", cost=COSTLY, domain=(ALL,),
                derivative=lambda g, y, x: [-(g * sin(x))])
cos_turns_: Pointwise = pointwise("cos_turns_", takes="float", reference=lambda x: np.cos(2 * pi * (x - np.rint(x))), c="gx_cos_turns{f}({0})", cost=COSTLY, domain=(ALL,),
                       derivative=lambda g, y, x: [g * (-2 * pi) * cos_turns_(x - 0.25)], doc="cos(2 pi x).")
tan = pointwise("tan", takes="float", reference=np.tan, c="gx_tan{f}({0})", cost=COSTLY, domain=((-1.2, 1.2),),
                derivative=lambda g, y, x: [g * (1 + y * y)])
arcsin = pointwise("arcsin", takes="float", reference=np.arcsin, c="gx_asin{f}({0})", cost=COSTLY, domain=(UNIT,),
                   derivative=lambda g, y, x: [g / sqrt((1 - x) * (1 + x))])
arccos = pointwise("arccos", takes="float", reference=np.arccos, c="gx_acos{f}({0})", cost=COSTLY, domain=(UNIT,),
                   derivative=lambda g, y, x: [-(g / sqrt((1 - x) * (1 + x)))])
arctan = pointwise("arctan", takes="float", reference=np.arctan, c="gx_atan{f}({0})", cost=COSTLY, domain=(ALL,),
                   derivative=lambda g, y, x: [g / (1 + x * x)])
arctan2 = pointwise("arctan2", takes="float", reference=np.arctan2, c="gx_atan2{f}({0}, {1})", cost=COSTLY, domain=(POSITIVE, ALL),
                    derivative=lambda g, y, a, b: [g * (b / (a * a + b * b)), -(g * (a / (a * a + b * b)))],
                    doc="The angle of the point ``(b, a)``, from -pi to pi; the signs of zeros count.")
hypot: Pointwise = pointwise("hypot", takes="float", reference=np.hypot, c="gx_hypot{f}({0}, {1})", cost=COSTLY, domain=(ALL, POSITIVE),
                  derivative=lambda g, y, a, b: [g * (a / where(equal(y, 0), 1, y)), g * (b / where(equal(y, 0), 1, y))],
                  doc="``sqrt(a * a + b * b)`` without overflow; the gradient where both are 0 is 0.")
sinh: Pointwise = pointwise("sinh", takes="float", reference=np.sinh, c="gx_sinh{f}({0})", cost=COSTLY, domain=(ALL,),
                 derivative=lambda g, y, x: [g * cosh(x)])
cosh: Pointwise = pointwise("cosh", takes="float", reference=np.cosh, c="gx_cosh{f}({0})", cost=COSTLY, domain=(ALL,),
                 derivative=lambda g, y, x: [g * sinh(x)])
arcsinh = pointwise("arcsinh", takes="float", reference=np.arcsinh, c="gx_asinh{f}({0})", cost=COSTLY, domain=(ALL,),
                    derivative=lambda g, y, x: [g / hypot(x, 1)])
arccosh = pointwise("arccosh", takes="float", reference=np.arccosh, c="gx_acosh{f}({0})", cost=COSTLY, domain=((1.2, 4.0),),
                    derivative=lambda g, y, x: [g / (sqrt(x - 1) * sqrt(x + 1))])
arctanh = pointwise("arctanh", takes="float", reference=np.arctanh, c="gx_atanh{f}({0})", cost=COSTLY, domain=(UNIT,),
                    derivative=lambda g, y, x: [g / ((1 - x) * (1 + x))])
erf = pointwise("erf", takes="float", reference=special.erf, c="gx_erf{f}({0})", cost=COSTLY, domain=(ALL,),
                derivative=lambda g, y, x: [g * (2 / _sqrt(pi)) * exp(-(x * x))], doc="The error function.")
erfc = pointwise("erfc", takes="float", reference=special.erfc, c="gx_erfc{f}({0})", cost=2 * COSTLY, domain=(ALL,),
                 derivative=lambda g, y, x: [g * (-2 / _sqrt(pi)) * exp(-(x * x))], doc="1 - erf(x), accurate where that is small.")
lgamma = pointwise("lgamma", takes="float", reference=special.lgamma, c="gx_lgamma{f}({0})", cost=4 * COSTLY, domain=(POSITIVE,),
                   derivative=lambda g, y, x: [g * digamma(x)], doc="The logarithm of the absolute value of the gamma function.")
digamma: Pointwise = pointwise("digamma", takes="float", reference=special.digamma, c="gx_digamma{f}({0})", cost=4 * COSTLY, domain=(POSITIVE,),
                    derivative=lambda g, y, x: [g * polygamma(1, x)], doc="The derivative of ``lgamma``.")
polygamma_: Pointwise = pointwise("polygamma_", takes="float", reference=special.polygamma, c="gx_polygamma{f}({0}, {1})", cost=20 * COSTLY, domain=((0.6, 3.4), POSITIVE),
                       derivative=lambda g, y, n, x: [None, g * polygamma_(n + 1, x)], doc="polygamma of the whole number next to ``n``, for positive ``x``.")

# --- to whole numbers, and what is left -------------------------------------------------------------------
floor = pointwise("floor", takes="number", reference=_whole(np.floor), c="floor{f}({0})", c_int="{0}", domain=(ALL,), derivative=_zero)
ceil = pointwise("ceil", takes="number", reference=_whole(np.ceil), c="ceil{f}({0})", c_int="{0}", domain=(ALL,), derivative=_zero)
trunc = pointwise("trunc", takes="number", reference=_whole(np.trunc), c="trunc{f}({0})", c_int="{0}", domain=(ALL,), derivative=_zero)
rint = pointwise("rint", takes="number", reference=_whole(np.rint), c="rint{f}({0})", c_int="{0}", domain=(ALL,), derivative=_zero,
                 doc="The nearest whole number, of two equally near ones the even one.")
floor_divide = pointwise("floor_divide", takes="number", reference=np.floor_divide, c="gx_floor_divide{f}({0}, {1})", c_int="gx_floor_divide_{d}({0}, {1})",
                         cost=COSTLY, domain=(ALL, POSITIVE), derivative=_zero, doc="``floor(a / b)``, exact; an int divided by 0 is 0.")
remainder = pointwise("remainder", takes="number", reference=np.remainder, c="gx_remainder{f}({0}, {1})", c_int="gx_remainder_{d}({0}, {1})",
                      cost=COSTLY, domain=(ALL, POSITIVE), derivative=lambda g, y, a, b: [g, -(g * floor_divide(a, b))],
                      doc="``a - b * floor(a / b)``, exact, with the sign of ``b`` as in Python; of an int and 0 it is 0.")
fmod = pointwise("fmod", takes="number", reference=np.fmod, c="fmod{f}({0}, {1})", c_int="gx_fmod_{d}({0}, {1})",
                 cost=COSTLY, domain=(ALL, POSITIVE), derivative=lambda g, y, a, b: [g, -(g * rint((a - y) / b))],
                 doc="``a - b * trunc(a / b)``, exact, with the sign of ``a`` as in C; of an int and 0 it is 0.")

# --- the parts of a float ---------------------------------------------------------------------------------
copysign: Pointwise = pointwise("copysign", takes="float", reference=np.copysign, c="copysign{f}({0}, {1})", domain=(ALL, ALL),
                     derivative=lambda g, y, a, b: [g * sign(a) * copysign(1, b), None], doc="The size of ``a`` with the sign of ``b``.")
isnan = pointwise("isnan", takes="float", gives=BOOL, reference=np.isnan, c="gx_isnan{f}({0})", domain=(ALL,), derivative=_zero)
isinf = pointwise("isinf", takes="float", gives=BOOL, reference=np.isinf, c="fabs{f}({0}) == INFINITY", domain=(ALL,), derivative=_zero)
isfinite = pointwise("isfinite", takes="float", gives=BOOL, reference=np.isfinite, c="fabs{f}({0}) < INFINITY", domain=(ALL,), derivative=_zero)

# --- comparison, logic, choice ----------------------------------------------------------------------------
less: Pointwise = pointwise("less", takes="any", gives=BOOL, reference=np.less, c="{0} < {1}", domain=(ALL, ALL), derivative=_zero)
less_equal: Pointwise = pointwise("less_equal", takes="any", gives=BOOL, reference=np.less_equal, c="{0} <= {1}", domain=(ALL, ALL), derivative=_zero)
greater: Pointwise = pointwise("greater", takes="any", gives=BOOL, reference=np.greater, c="{0} > {1}", domain=(ALL, ALL), derivative=_zero)
greater_equal: Pointwise = pointwise("greater_equal", takes="any", gives=BOOL, reference=np.greater_equal, c="{0} >= {1}", domain=(ALL, ALL), derivative=_zero)
equal: Pointwise = pointwise("equal", takes="any", gives=BOOL, reference=np.equal, c="{0} == {1}", domain=(ALL, ALL), derivative=_zero)
not_equal = pointwise("not_equal", takes="any", gives=BOOL, reference=np.not_equal, c="{0} != {1}", domain=(ALL, ALL), derivative=_zero)
logical_and = pointwise("logical_and", takes="bool", reference=np.logical_and, c="{0} & {1}", domain=(ALL, ALL), derivative=_zero)
logical_or = pointwise("logical_or", takes="bool", reference=np.logical_or, c="{0} | {1}", domain=(ALL, ALL), derivative=_zero)
logical_xor = pointwise("logical_xor", takes="bool", reference=np.logical_xor, c="{0} ^ {1}", domain=(ALL, ALL), derivative=_zero)
logical_not = pointwise("logical_not", takes="bool", reference=np.logical_not, c="!{0}", domain=(ALL,), derivative=_zero)
bitwise_and = pointwise("bitwise_and", takes="bits", reference=np.bitwise_and, c="{0} & {1}", domain=(ALL, ALL), derivative=_zero)
bitwise_or = pointwise("bitwise_or", takes="bits", reference=np.bitwise_or, c="{0} | {1}", domain=(ALL, ALL), derivative=_zero)
bitwise_xor = pointwise("bitwise_xor", takes="bits", reference=np.bitwise_xor, c="{0} ^ {1}", domain=(ALL, ALL), derivative=_zero)
invert = pointwise("invert", takes="bits", reference=np.invert, c="!{0}", c_int="~{0}", domain=(ALL,), derivative=_zero)
left_shift = pointwise("left_shift", takes="int", reference=np.left_shift, c="gx_left_shift_{d}({0}, {1})", domain=(ALL, POSITIVE), derivative=_zero,
                       doc="``a * 2**b``, wrapping; 0 where ``b`` is negative or not less than the number of bits.")
right_shift = pointwise("right_shift", takes="int", reference=np.right_shift, c="gx_right_shift_{d}({0}, {1})", domain=(ALL, POSITIVE), derivative=_zero,
                        doc="``floor(a / 2**b)``; a negative ``b`` counts as a large one.")
where: Pointwise = pointwise("where", takes="select", reference=np.where, c="{0} ? {1} : {2}", cost=FREE, domain=(ALL, ALL, ALL),
                  derivative=lambda g, y, condition, a, b: [None, where(condition, g, 0), where(condition, 0, g)],
                  doc="``a`` where ``condition`` (a bool node) holds, else ``b``.")


# --- conversion -----------------------------------------------------------------------------------------
# C leaves a float out of the range of an int undefined, and NumPy gives what the processor does; this holds everywhere.
int32_ = pointwise("int32_", takes="float", gives=INT32, reference=lambda x: _saturated(x, INT32), c="gx_to_int32{f}({0})", cost=4, domain=(ALL,), derivative=_zero)
int64_ = pointwise("int64_", takes="float", gives=INT64, reference=lambda x: _saturated(x, INT64), c="gx_to_int64{f}({0})", cost=4, domain=(ALL,), derivative=_zero)


# fmt: on
def _infer_cast(x: TensorType, *, dtype: DType) -> TensorType:
    if (x.dtype.is_float and not dtype.is_float) or dtype is BOOL:
        raise DTypeError(f"{x.dtype} does not simply become {dtype}; graphc.astype says how it does")
    return TensorType(x.shape, dtype)


CAST = register(
    Op(
        "cast",
        _infer_cast,
        lambda x, *, type, dtype: x.astype(dtype.numpy),
        lambda g, y, x, *, dtype: [cast(g, x.dtype) if x.dtype.is_float else None],
    )
)


def cast(x: Node, dtype: DType) -> Node:
    """``x`` converted to ``dtype`` by the rules of :func:`astype`; a constant is converted at once."""
    if x.dtype is dtype:
        return x
    if x.op.name == "constant" and (dtype.is_float or not x.dtype.is_float):
        return constant(x.attrs["value"].array, dtype)
    if dtype is BOOL:
        return not_equal(x, 0)
    if x.dtype.is_float and dtype.is_int:
        return make(int32_ if dtype is INT32 else int64_, x)
    return make(CAST, x, dtype=dtype)


@operator("astype")
def astype(x: Any, dtype: Any) -> Node:
    """``x`` as ``dtype``.

    A float becomes an int by dropping its fraction; outside of the range of the int it becomes the nearest bound, and NaN
    becomes 0. What is not zero is True as a bool, NaN included. int64 wraps to int32.
    """
    return cast(as_node(x), dtype_of(dtype))


# --- what the declarations above lean on ----------------------------------------------------------------
def _split(g: Node, a: Node, b: Node, beats: Pointwise) -> list[Node]:
    """The cotangent to the winner, in halves to both where they tie."""
    half = where(equal(a, b), g * 0.5, 0)
    return [where(beats(a, b), g, half), where(beats(b, a), g, half)]


def _first(g: Node, a: Node, b: Node, holds: Pointwise) -> list[Node]:
    """The cotangent to ``a`` where it holds against ``b`` or ``b`` is NaN, else to ``b``."""
    chosen = logical_or(holds(a, b), not_equal(b, b))
    return [where(chosen, g, 0), where(chosen, 0, g)]


def _saturated(x: Array, dtype: DType) -> Array:
    """A float as an int: without its fraction, within the bounds of the int, 0 for NaN."""
    info, wide = np.iinfo(dtype.numpy), np.asarray(x, np.float64)
    below, above = wide <= info.min, wide >= -float(info.min)
    inside = np.where(below | above | (wide != wide), 0, wide).astype(dtype.numpy)
    return np.asarray(np.where(above, info.max, np.where(below, info.min, inside)), dtype.numpy)


def polygamma(n: int, x: Any) -> Node:
    """The derivative of order ``n`` of ``digamma``, itself for 0.

    Of a negative ``x`` by reflection: it follows from the derivatives of ``pi / tan(pi x)``, a polynomial in that of the cotangent.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 0 <= n <= 20:
        raise GraphError(f"polygamma takes a whole number from 0 to 20 for n, got {n!r}")
    node = as_float(x)
    if n == 0:
        return digamma(node)
    positive = node > 0
    outer = polygamma_(int(n), where(node < 0, 1 - node, node))
    coefficients = [0.0, 1.0]  # in c = 1 / tan(pi x): the derivative of c^k is -pi (1 + c^2) k c^(k - 1)
    for _ in range(n):
        slopes = [k * a for k, a in enumerate(coefficients)][1:]
        coefficients = [-(a + b) for a, b in zip([*slopes, 0.0, 0.0], [0.0, 0.0, *slopes], strict=True)]
    c = 1 / tan(where(positive, 0.25, node - rint(node)) * pi)
    series = as_node(coefficients[-1], node.dtype)
    for a in coefficients[-2::-1]:
        series = series * c + a
    return where(node < 0, outer * (-1) ** n - series * pi ** (n + 1), outer)


# One statement adds an operation, its export included.
__all__ = [name for name, value in list(globals().items()) if isinstance(value, Pointwise) and not name.endswith("_")]
__all__ += ["astype", "polygamma"]
