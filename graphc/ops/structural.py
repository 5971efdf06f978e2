"""Sources, movement, reductions and contraction: the few operations that know about axes.

Their gradients are each other: broadcast and sum, slice and pad, permute and its inverse, a contraction and
two more. Each stands here once, with its type rule, its NumPy meaning and its gradient. The functions at the
end of each section build them and drop the ones that do nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import NO_GRADIENT, OPERATORS, Array, Constant, Node, Op, make, register
from graphc.types import BOOL, INT32, DType, DTypeError, GraphError, ShapeError, TensorType

__all__ = [
    "CONTRACT",
    "MOVEMENT",
    "PARAMETER",
    "REDUCTIONS",
    "broadcast_to",
    "constant",
    "contract",
    "input_",
    "iota",
    "pad",
    "permute",
    "reduce",
    "reshape",
    "slice_",
    "stop_gradient",
    "unspread",
    "zeros_like",
]


# --- sources ----------------------------------------------------------------------------------------
def _given(*_: Any, type: TensorType, **__: Any) -> Any:
    raise AssertionError("the evaluator feeds sources")


def _infer_constant(*, value: Constant, dtype: DType) -> TensorType:
    return TensorType(value.array.shape, dtype)


INPUT = register(Op("input", lambda *, name, type: type, _given, NO_GRADIENT))
PARAMETER = register(Op("parameter", _given, _given, NO_GRADIENT))
CONSTANT = register(
    Op("constant", _infer_constant, lambda *, type, value, dtype: value.array.astype(dtype.numpy), NO_GRADIENT)
)
IOTA = register(
    Op(
        "iota",
        lambda *, length: TensorType((length,), INT32),
        lambda *, type, length: np.arange(length, dtype=np.int32),
        NO_GRADIENT,
    )
)


def input_(name: str, type: TensorType) -> Node:
    """An input: interned by name and type."""
    return make(INPUT, name=name, type=type)


def constant(value: Any, dtype: DType) -> Node:
    """A constant of ``dtype``; floats keep the digits they came with for a later float64."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and not dtype.is_float):
        raise DTypeError(f"a constant of dtype {array.dtype} cannot become {dtype}")
    return make(CONSTANT, value=Constant(array.astype(np.float64 if dtype.is_float else dtype.numpy)), dtype=dtype)


def iota(length: int) -> Node:
    """0, 1, ..., length - 1 as int32."""
    return make(IOTA, length=length)


def zeros_like(node: Node) -> Node:
    """Zeros of the type of ``node``."""
    return broadcast_to(constant(0, node.dtype), node.shape)


# --- movement: which element, never a new number -----------------------------------------------------------
def _infer_broadcast(x: TensorType, *, shape: tuple[int, ...]) -> TensorType:
    offset = len(shape) - x.rank
    if offset < 0 or any(a not in (1, b) for a, b in zip(x.shape, shape[offset:], strict=True)):
        raise ShapeError(f"shape {x.shape} does not broadcast to {shape}")
    return TensorType(shape, x.dtype)


def _gradient_broadcast(g: Node, y: Node, x: Node, *, shape: tuple[int, ...]) -> list[Node]:
    offset = len(shape) - x.ndim
    axes = tuple(range(offset)) + tuple(
        axis for axis in range(offset, len(shape)) if x.shape[axis - offset] == 1 and shape[axis] != 1
    )
    return [reshape(reduce("sum", g, axes), x.shape)]


def _infer_reshape(x: TensorType, *, shape: tuple[int, ...]) -> TensorType:
    if math.prod(shape) != x.size:
        raise ShapeError(f"cannot reshape {x.shape} ({x.size} elements) to {shape} ({math.prod(shape)} elements)")
    return TensorType(shape, x.dtype)


def _infer_permute(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    if sorted(axes) != list(range(x.rank)):
        raise ShapeError(f"axes {axes} are not a permutation of the {x.rank} axes of shape {x.shape}")
    return TensorType(tuple(x.shape[axis] for axis in axes), x.dtype)


Indices = tuple[int, ...]


def _windows(start: Indices, step: Indices, count: Indices, extent: Indices) -> tuple[slice, ...]:
    """Slices that pick ``start + step * i`` for i < count; checks that they stay within ``extent``."""
    picked = []
    for s, d, n, e in zip(start, step, count, extent, strict=True):
        last = s + d * (n - 1)
        if d == 0 or (n and not (0 <= s < e and 0 <= last < e)):
            raise ShapeError(f"slice from {s} with step {d} and {n} elements leaves an axis of extent {e}")
        picked.append(slice(0, 0) if n == 0 else slice(s, last + 1 if d > 0 else (last - 1 if last > 0 else None), d))
    return tuple(picked)


def _infer_slice(x: TensorType, *, start: Indices, step: Indices, shape: Indices) -> TensorType:
    _windows(start, step, shape, x.shape)
    return TensorType(shape, x.dtype)


def _infer_pad(x: TensorType, *, start: Indices, step: Indices, shape: Indices) -> TensorType:
    _windows(start, step, x.shape, shape)
    return TensorType(shape, x.dtype)


def _reference_pad(x: Array, *, type: TensorType, start: Indices, step: Indices, shape: Indices) -> Array:
    out = np.zeros(shape, x.dtype)
    out[_windows(start, step, x.shape, shape)] = x
    return out


BROADCAST = register(
    Op("broadcast_to", _infer_broadcast, lambda x, *, type, shape: np.broadcast_to(x, shape), _gradient_broadcast)
)
RESHAPE = register(
    Op(
        "reshape",
        _infer_reshape,
        lambda x, *, type, shape: np.reshape(x, shape),
        lambda g, y, x, **_: [reshape(g, x.shape)],
    )
)
PERMUTE = register(
    Op(
        "permute",
        _infer_permute,
        lambda x, *, type, axes: np.transpose(x, axes),
        lambda g, y, x, *, axes: [_moved_back(g, axes)],
    )
)
SLICE = register(
    Op(
        "slice",
        _infer_slice,
        lambda x, *, type, start, step, shape: x[_windows(start, step, shape, x.shape)],
        lambda g, y, x, *, start, step, shape: [pad(g, start, step, x.shape)],
    )
)
PAD = register(
    Op(
        "pad",
        _infer_pad,
        _reference_pad,
        lambda g, y, x, *, start, step, shape: [slice_(g, start, step, x.shape)],
    )
)
MOVEMENT = (BROADCAST, RESHAPE, PERMUTE, SLICE, PAD)


def broadcast_to(x: Node, shape: Sequence[int]) -> Node:
    """NumPy's broadcast: axes are added in front, axes of extent 1 repeat."""
    return x if x.shape == tuple(shape) else make(BROADCAST, x, shape=tuple(shape))


def reshape(x: Node, shape: Sequence[int]) -> Node:
    """The same elements in row-major order under another shape."""
    return x if x.shape == tuple(shape) else make(RESHAPE, x, shape=tuple(shape))


def permute(x: Node, axes: Sequence[int]) -> Node:
    """Axis i of the result is axis ``axes[i]`` of ``x``."""
    return x if list(axes) == list(range(x.ndim)) else make(PERMUTE, x, axes=tuple(axes))


def _moved_back(g: Node, axes: Sequence[int]) -> Node:
    """The cotangent in the order of axes from before. A contraction gives it in that order, rather than to be moved:
    the update of ``W`` in ``x @ W.T`` can then join its store step."""
    back = [int(i) for i in np.argsort(axes)]
    if g.op is not CONTRACT:
        return permute(g, back)
    a_axes, b_axes, out_axes = (g.attrs[name] for name in ("a_axes", "b_axes", "out_axes"))
    left, right = g.operands
    return contract(left, right, a_axes, b_axes, [out_axes[i] for i in back])


def slice_(x: Node, start: Sequence[int], step: Sequence[int], shape: Sequence[int]) -> Node:
    """Element i of the result is ``x[start + step * i]``, per axis."""
    if tuple(shape) == x.shape and all(s == 0 for s in start) and all(d == 1 for d in step):
        return x
    return make(SLICE, x, start=tuple(start), step=tuple(step), shape=tuple(shape))


def pad(x: Node, start: Sequence[int], step: Sequence[int], shape: Sequence[int]) -> Node:
    """The inverse of :func:`slice_`: ``x[i]`` stands at ``start + step * i``, zeros elsewhere."""
    if tuple(shape) == x.shape and all(s == 0 for s in start) and all(d == 1 for d in step):
        return x
    return make(PAD, x, start=tuple(start), step=tuple(step), shape=tuple(shape))


def unspread(node: Node) -> Node:
    """What a node repeats: the operand of its broadcasts and reshapes, as far as they go."""
    while node.op in (BROADCAST, RESHAPE):
        (node,) = node.operands
    return node


# --- reductions -------------------------------------------------------------------------------------
def _infer_reduce(x: TensorType, *, axes: Indices) -> TensorType:
    if x.dtype is BOOL:
        raise DTypeError("a bool tensor has no sum, max or min; use astype('int32') first")
    return TensorType(tuple(e for axis, e in enumerate(x.shape) if axis not in axes), x.dtype)


def _infer_extremum(x: TensorType, *, axes: Indices) -> TensorType:
    if any(x.shape[axis] == 0 for axis in axes):
        raise ShapeError(f"the maximum or minimum over an empty axis of shape {x.shape} does not exist")
    return _infer_reduce(x, axes=axes)


def _infer_arg(x: TensorType, *, axes: Indices) -> TensorType:
    _infer_extremum(x, axes=axes)
    return TensorType(tuple(e for axis, e in enumerate(x.shape) if axis not in axes), INT32)


def _along(y: Node, x: Node, axes: Indices) -> Node:
    """``y``, the result of reducing ``axes`` of ``x``, spread over the shape of ``x`` again."""
    return broadcast_to(reshape(y, tuple(1 if a in axes else e for a, e in enumerate(x.shape))), x.shape)


def _gradient_extremum(g: Node, y: Node, x: Node, *, axes: Indices) -> list[Any]:
    """The cotangent goes to where the extremum is taken, in equal parts where several elements tie."""
    hit = OPERATORS["equal"](x, _along(y, x, axes))
    ties = reduce("sum", OPERATORS["astype"](hit, x.dtype), axes)
    return [OPERATORS["where"](hit, _along(g / ties, x, axes), 0)]


def _reference_arg(function: Any) -> Any:
    def reference(x: Array, *, type: TensorType, axes: Indices) -> Array:
        (axis,) = axes
        return np.asarray(function(x, axis=axis), dtype=np.int32)

    return reference


def _reference_reduce(function: Any) -> Any:
    return lambda x, *, type, axes: np.asarray(function(x, axis=axes), dtype=type.dtype.numpy)


REDUCTIONS = {
    "sum": register(Op("sum", _infer_reduce, _reference_reduce(np.sum), lambda g, y, x, *, axes: [_along(g, x, axes)])),
    "max": register(Op("max", _infer_extremum, _reference_reduce(np.max), _gradient_extremum)),
    "min": register(Op("min", _infer_extremum, _reference_reduce(np.min), _gradient_extremum)),
    "argmax": register(Op("argmax", _infer_arg, _reference_arg(np.argmax), NO_GRADIENT)),
    "argmin": register(Op("argmin", _infer_arg, _reference_arg(np.argmin), NO_GRADIENT)),
}


def reduce(kind: str, x: Node, axes: Sequence[int]) -> Node:
    """``x`` reduced over ``axes``, which vanish from its shape; ``kind`` is a key of :data:`REDUCTIONS`."""
    return x if not axes and kind in ("sum", "prod", "max", "min") else make(REDUCTIONS[kind], x, axes=tuple(axes))


# --- contraction ------------------------------------------------------------------------------------
def _infer_contract(a: TensorType, b: TensorType, *, a_axes: Indices, b_axes: Indices, out_axes: Indices) -> TensorType:
    if a.dtype is not b.dtype or not a.dtype.is_float:
        raise DTypeError(f"a contraction takes two floats of one dtype, got {a.dtype} and {b.dtype}")
    extents: dict[int, int] = {}
    for type, labels in ((a, a_axes), (b, b_axes)):
        if len(labels) != type.rank or len(set(labels)) != type.rank:
            raise ShapeError(f"labels {labels} do not fit the shape {type.shape}")
        for label, extent in zip(labels, type.shape, strict=True):
            if extents.setdefault(label, extent) != extent:
                raise ShapeError(f"shapes {a.shape} and {b.shape} do not contract: {extents[label]} meets {extent}")
    if not set(out_axes) <= set(extents) or (set(a_axes) ^ set(b_axes)) - set(out_axes):
        raise ShapeError(f"a summed axis must be in both operands: {a_axes}, {b_axes} -> {out_axes}")
    return TensorType(tuple(extents[label] for label in out_axes), a.dtype)


def _reference_contract(
    a: Array, b: Array, *, type: TensorType, a_axes: Indices, b_axes: Indices, out_axes: Indices
) -> Array:
    return np.asarray(
        np.einsum(a, list(a_axes), b, list(b_axes), list(out_axes), optimize=True), dtype=type.dtype.numpy
    )


CONTRACT = register(
    Op(
        "contract",
        _infer_contract,
        _reference_contract,
        lambda g, y, a, b, *, a_axes, b_axes, out_axes: [
            contract(g, b, out_axes, b_axes, a_axes),
            contract(a, g, a_axes, out_axes, b_axes),
        ],
    )
)


def contract(a: Node, b: Node, a_axes: Sequence[int], b_axes: Sequence[int], out_axes: Sequence[int]) -> Node:
    """The sum of products over the labels that are not in ``out_axes`` (einsum's rule, each label once an operand)."""
    return make(CONTRACT, a, b, a_axes=tuple(a_axes), b_axes=tuple(b_axes), out_axes=tuple(out_axes))


# --- gradient control -------------------------------------------------------------------------------
STOP = register(Op("stop_gradient", lambda x: x, lambda x, *, type: x, lambda g, y, x: [None]))


def stop_gradient(x: Node) -> Node:
    """``x`` itself, seen as a constant by the gradient."""
    if not isinstance(x, Node):
        raise GraphError(f"stop_gradient takes a node, got {x!r}; a number has no gradient as it is")
    return x if not x.dtype.is_float else make(STOP, x)
