"""What users write graphs with: sources, operators, and NumPy's names for arrays, composed from the operations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import Array, Node, Parameter, operator
from graphc.ops.pointwise import (
    as_node,
    broadcast_shapes,
    cast,
    divide,
    meet,
)
from graphc.ops.structural import PARAMETER, contract, gather, input_, permute, reduce, slice_, stop_gradient
from graphc.ops.structural import broadcast_to as _broadcast_to
from graphc.ops.structural import reshape as _reshape
from graphc.types import (
    BOOL,
    FLOAT32,
    DType,
    DTypeError,
    GraphError,
    ShapeError,
    TensorType,
    dtype_of,
    normalize_axes,
    normalize_axis,
    shape_of,
)

__all__ = [
    "argmax",
    "argmin",
    "broadcast_to",
    "constant",
    "expand_dims",
    "input",
    "matmul",
    "max",
    "mean",
    "min",
    "parameter",
    "reshape",
    "squeeze",
    "stop_gradient",
    "sum",
    "take_along_axis",
    "transpose",
]

Axis = int | Sequence[int] | None


# --- sources ----------------------------------------------------------------------------------------
def _checked_name(name: Any, what: str) -> str:
    if not isinstance(name, str) or not name:
        raise GraphError(f"the name of {what} must be a non-empty string, got {name!r}")
    return name


def input(name: str, shape: Any = (), dtype: Any = "float32") -> Node:
    """A value given at each call. Inputs of one name and one type are the same node.

    >>> input("x", (2, 3))
    <x: float32[2, 3]>
    """
    return input_(_checked_name(name, "an input"), TensorType(shape_of(shape), dtype_of(dtype)))


def parameter(name: str, value: Any, dtype: Any = "float32", trainable: bool = True) -> Parameter:
    """A tensor with storage of its own, initialised with a copy of ``value``; its shape is that of ``value``.

    Every function compiled from it reads and writes that one buffer, seen as ``.value``. A ``trainable`` one is
    updated by :func:`graphc.train_step` and must be float.
    """
    array = np.asarray(value)
    wanted = dtype_of(dtype)
    if array.dtype.kind not in "fiub" or (array.dtype.kind == "f" and not wanted.is_float):
        raise DTypeError(f"parameter {name!r} is {wanted}, got a value of dtype {array.dtype}")
    if trainable and not wanted.is_float:
        raise DTypeError(f"parameter {name!r} is trainable and must be float, got {wanted}; pass trainable=False")
    shape_of(array.shape)
    storage = aligned_empty(array.shape, wanted)
    storage[...] = array
    return Parameter(PARAMETER, _checked_name(name, "a parameter"), storage, bool(trainable))


def aligned_empty(shape: tuple[int, ...], dtype: DType, alignment: int = 64) -> Array:
    """An uninitialised C-contiguous array whose first byte lies on a multiple of ``alignment``."""
    nbytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(nbytes + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + nbytes].view(dtype.numpy).reshape(shape)


def constant(value: Any, dtype: Any = None) -> Node:
    """A node of a fixed value. Without ``dtype``: float32 for Python floats, else that of the array."""
    return as_node(value, None if dtype is None else dtype_of(dtype))


# --- shape ------------------------------------------------------------------------------------------
@operator("reshape")
def reshape(x: Any, *shape: Any) -> Node:
    """The same elements, row-major, under another shape; one extent may be -1."""
    node = as_node(x)
    items = shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
    wanted = [int(extent) for extent in items]
    if wanted.count(-1) == 1:
        known = -math.prod(wanted)
        if known == 0 or node.size % known:
            raise ShapeError(f"cannot reshape {node.shape} ({node.size} elements) to {tuple(wanted)}")
        wanted[wanted.index(-1)] = node.size // known
    return _reshape(node, shape_of(wanted))


@operator("transpose")
def transpose(x: Any, axes: Any = None) -> Node:
    """Axes in the given order; without one, reversed."""
    node = as_node(x)
    order = range(node.ndim)[::-1] if axes is None else [normalize_axis(axis, node.ndim) for axis in axes]
    return permute(node, tuple(order))


@operator("broadcast_to")
def broadcast_to(x: Any, shape: Any) -> Node:
    """NumPy's broadcast_to."""
    return _broadcast_to(as_node(x), shape_of(shape))


@operator("expand_dims")
def expand_dims(x: Any, axis: int) -> Node:
    """A new axis of extent 1 at position ``axis`` of the result."""
    node = as_node(x)
    at = normalize_axis(axis, node.ndim + 1)
    return _reshape(node, (*node.shape[:at], 1, *node.shape[at:]))


@operator("squeeze")
def squeeze(x: Any, axis: Axis = None) -> Node:
    """Without the axes of extent 1 (all of them, or those named)."""
    node = as_node(x)
    gone = (
        tuple(a for a, extent in enumerate(node.shape) if extent == 1)
        if axis is None
        else normalize_axes(axis, node.ndim)
    )
    if any(node.shape[a] != 1 for a in gone):
        raise ShapeError(f"cannot squeeze axis {axis} of shape {node.shape}: its extent is not 1")
    return _reshape(node, tuple(extent for a, extent in enumerate(node.shape) if a not in gone))


@operator("getitem")
def getitem(x: Node, key: Any) -> Node:
    """Basic slicing: integers, slices, ``...`` and ``None``. Arrays of indices: use :func:`take_along_axis`."""
    items = list(key) if isinstance(key, tuple) else [key]
    for item in items:
        static = item is None or item is Ellipsis or isinstance(item, slice)
        if not static and (isinstance(item, bool) or not isinstance(item, int | np.integer)):
            raise GraphError(
                f"cannot index {x!r} with {item!r}: only integers, slices, `...` and None; "
                "use graphc.take_along_axis for indices known at run time"
            )
    used = len([item for item in items if item is not None and item is not Ellipsis])
    if used > x.ndim or items.count(Ellipsis) > 1:
        raise ShapeError(f"too many indices for shape {x.shape}: {key!r}")
    dots = items.index(Ellipsis) if Ellipsis in items else len(items)
    items[dots : dots + 1] = [slice(None)] * (x.ndim - used)
    start, step, count, shape = [], [], [], []
    axis = 0
    for item in items:
        if item is None:
            shape.append(1)
            continue
        extent = x.shape[axis]
        if isinstance(item, slice):
            picked = range(*item.indices(extent))
            start.append(picked.start if len(picked) else 0)
            step.append(picked.step)
            shape.append(len(picked))
            count.append(len(picked))
        else:
            if not -extent <= item < extent:
                raise ShapeError(f"index {item} is out of range for axis {axis} of extent {extent} of {x!r}")
            start.append(int(item) % extent)
            step.append(1)
            count.append(1)
        axis += 1
    return _reshape(slice_(x, start, step, count), shape)


@operator("take_along_axis")
def take_along_axis(x: Any, indices: Any, axis: int) -> Node:
    """NumPy's take_along_axis. Indices must lie in ``0 <= index < extent``; others fail the call, before anything is stored."""
    node, picks = as_node(x), as_node(indices)
    at = normalize_axis(axis, node.ndim)
    if node.ndim != picks.ndim:
        raise ShapeError(
            f"take_along_axis needs indices with {node.ndim} axes, got shape {picks.shape} for {node.shape}"
        )
    if not picks.dtype.is_int:
        raise DTypeError(f"indices must be int32 or int64, got {picks.dtype}")
    rest = list(broadcast_shapes(*((*t.shape[:at], 1, *t.shape[at + 1 :]) for t in (node, picks))))
    grown = [_broadcast_to(t, [t.shape[at] if a == at else e for a, e in enumerate(rest)]) for t in (node, picks)]
    return gather(grown[0], grown[1], at)


# --- reductions -------------------------------------------------------------------------------------
def _reduce(kind: str, x: Any, axis: Axis, keepdims: bool) -> Node:
    node = as_node(x)
    if node.dtype is BOOL and kind == "sum":
        node = cast(node, dtype_of("int32"))
    axes = normalize_axes(axis, node.ndim)
    result = reduce(kind, node, axes)
    return _reshape(result, tuple(1 if a in axes else e for a, e in enumerate(node.shape))) if keepdims else result


@operator("sum")
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The sum over ``axis`` (all axes without one). Of a bool tensor: the count, int32."""
    return _reduce("sum", x, axis, keepdims)


@operator("max")
@operator("amax")
def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The largest element over ``axis``; NaN if there is one. The gradient is split evenly among ties."""
    return _reduce("max", x, axis, keepdims)


@operator("min")
@operator("amin")
def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The smallest element over ``axis``; NaN if there is one. The gradient is split evenly among ties."""
    return _reduce("min", x, axis, keepdims)


@operator("mean")
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Node:
    """The mean over ``axis``; of ints and bools as float32."""
    node = as_node(x)
    node = node if node.dtype.is_float else cast(node, FLOAT32)
    count = math.prod(node.shape[a] for a in normalize_axes(axis, node.ndim))
    if count == 0:
        raise ShapeError(f"the mean over no elements does not exist (shape {node.shape}, axis {axis})")
    return divide(sum(node, axis, keepdims), count)


def _arg(kind: str, x: Any, axis: int | None, keepdims: bool) -> Node:
    node = as_node(x)
    if axis is None:
        flat = reduce(kind, _reshape(node, (node.size,)), (0,))
        return _reshape(flat, (1,) * node.ndim) if keepdims else flat
    at = normalize_axis(axis, node.ndim)
    result = reduce(kind, node, (at,))
    return expand_dims(result, at) if keepdims else result


@operator("argmax")
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Node:
    """The int32 index of the largest element, the first where several tie (flat without ``axis``)."""
    return _arg("argmax", x, axis, keepdims)


@operator("argmin")
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Node:
    """The int32 index of the smallest element, the first where several tie (flat without ``axis``)."""
    return _arg("argmin", x, axis, keepdims)


# --- contraction ------------------------------------------------------------------------------------
@operator("matmul")
@operator("dot")
def matmul(a: Any, b: Any) -> Node:
    """NumPy's matmul: 1-D operands are vectors, leading axes broadcast. Ints become float32."""
    a, b = meet([a, b])
    if not a.dtype.is_float:
        a, b = cast(a, FLOAT32), cast(b, FLOAT32)
    if not a.shape or not b.shape:
        raise ShapeError(f"matmul needs at least one axis on each side, got shapes {a.shape} and {b.shape}; use `*`")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ShapeError(f"matmul of shapes {a.shape} and {b.shape}: {a.shape[-1]} columns meet {inner} rows")
    k, i, j, first = 0, 1, 2, 3  # labels; batch axes count from `first`
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])

    def labelled(node: Node, own: tuple[int, ...]) -> tuple[Node, tuple[int, ...]]:
        """The operand without the batch axes along which it repeats, and the labels of the others."""
        outer = node.shape[:-2]
        places = range(len(batch) - len(outer), len(batch))
        kept = [place for place, extent in zip(places, outer, strict=True) if extent == batch[place]]
        shape = (*(batch[place] for place in kept), *node.shape[len(outer) :])
        return _reshape(node, shape), (*(first + place for place in kept), *own)

    left, a_axes = labelled(a, (i, k) if a.ndim > 1 else (k,))
    right, b_axes = labelled(b, (k, j) if b.ndim > 1 else (k,))
    rows, columns = (i,) if a.ndim > 1 else (), (j,) if b.ndim > 1 else ()
    return contract(left, right, a_axes, b_axes, (*range(first, first + len(batch)), *rows, *columns))
