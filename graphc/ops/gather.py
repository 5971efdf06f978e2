"""Gather and scatter: elements at places that tensors of indices give. Their gradients are each other.

    gather        y[b, p, r] = x[b, i[b, p, r], j[b, p, r], r]
    scatter_add   y = x;  for p in order:  y[b, i[b, p, r], j[b, p, r], r] += u[b, p, r]

Axes from ``axis`` on, one for each index, become one of ``p``; those before and after stay. Every index is checked, before
anything is stored; a negative one counts from the end with ``wrap``, else it is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import OPERATORS, Array, Node, Op, Routine, make, register, rounded
from graphc.ops.pointwise import cast, equal, less, where
from graphc.ops.routines import cut, flipped, recurrence
from graphc.ops.structural import broadcast_to, constant, iota, reduce, reshape, unspread, zeros_like
from graphc.types import BOOL, INT32, DTypeError, IndexOutOfRangeError, ShapeError, TensorType

__all__ = ["GATHER", "SCATTER", "check_indices", "gather", "inverse", "is_wide", "scatter"]


# --- indices ----------------------------------------------------------------------------------------------
def _picked(x: TensorType, indices: Sequence[TensorType], axis: int) -> tuple[int, ...]:
    """The shape of what the indices pick."""
    for index in indices:
        if not index.dtype.is_int:
            raise DTypeError(f"indices must be int32 or int64, got {index.dtype}")
    after, shape = axis + len(indices), indices[0].shape
    kept = (*x.shape[:axis], *x.shape[after:])
    if any(index.shape != shape for index in indices) or len(shape) != len(kept) + 1 or (*shape[:axis], *shape[axis + 1 :]) != kept:
        raise ShapeError(
            f"indices of shapes {', '.join(str(index.shape) for index in indices)} do not fit axes {axis} to {after - 1} "
            f"of a tensor of shape {x.shape}: all other axes must be the same"
        )
    return shape


def check_indices(index: Array, extent: int, what: str, low: int = 0) -> None:
    """Raise :class:`IndexOutOfRangeError` unless every index lies in ``low <= index < extent``."""
    wrong = np.flatnonzero((index < low) | (index >= extent))
    if wrong.size:
        where = ", ".join(str(int(i)) for i in np.unravel_index(wrong[0], index.shape))
        raise IndexOutOfRangeError(
            f"{what}[{where}] is {index.flat[wrong[0]]}, expected {low} <= index < {extent}"
            + (f" ({wrong.size} such elements)" if wrong.size > 1 else "")
        )


def _places(x: Array, indices: Sequence[Array], axis: int, wrap: bool) -> tuple[Array, ...]:
    """The index of each picked element along every axis of ``x``, as NumPy takes it."""
    every = np.ogrid[tuple(slice(extent) for extent in indices[0].shape)]
    along = []
    for place, index in enumerate(indices):
        extent = x.shape[axis + place]
        check_indices(index, extent, "indices", -extent if wrap else 0)
        along.append(np.where(index < 0, index + extent, index))
    return (*every[:axis], *along, *every[axis + 1 :])


def _known(node: Node) -> Array | None:
    """The value of a constant that is reshaped and repeated (as a view that repeats); None for anything else."""
    moves = []
    while node.op.name in ("broadcast_to", "reshape"):
        moves.append(node)
        (node,) = node.operands
    if node.op.name != "constant":
        return None
    value = rounded(node)
    for move in reversed(moves):
        value = move.op.reference(value, type=move.type, **move.attrs)
    return value


# --- gather -----------------------------------------------------------------------------------------------
def _infer_gather(x: TensorType, *indices: TensorType, axis: int, wrap: bool = False) -> TensorType:
    return TensorType(_picked(x, indices, axis), x.dtype)


def _reference_gather(x: Array, *indices: Array, type: TensorType, axis: int, wrap: bool = False) -> Array:
    return np.asarray(x[_places(x, indices, axis, wrap)])


def _gradient_gather(g: Node, y: Node, x: Node, *indices: Node, axis: int, wrap: bool = False) -> list[Any]:
    """A scatter. Of one index for each row (a label) a comparison instead, and of known indices a gather through the inverse
    table: as selects, these fuse with what reads them."""
    nothing = [None] * len(indices)
    if not y.size:
        return [None, *nothing]
    if len(indices) == 1 and y.shape[axis] == 1 and unspread(indices[0]).size * x.shape[axis] == x.size:
        (index,) = indices
        extent = x.shape[axis]
        steps = reshape(iota(extent), tuple(extent if i == axis else 1 for i in range(x.ndim)))
        return [where(equal(steps, _from_start(index, extent) if wrap else index), g, 0), *nothing]
    known = [_known(index) for index in indices]
    if all(index is not None for index in known):
        table = inverse([index for index in known if index is not None], x.shape, axis)
        if table is not None:
            return [_collected(g, table, x.shape, axis, len(indices)), *nothing]
    return [scatter("add", zeros_like(x), g, indices, axis, wrap=wrap), *nothing]


def _from_start(index: Node, extent: int) -> Node:
    return where(less(index, 0), index + extent, index)


GATHER = register(Op("gather", _infer_gather, _reference_gather, _gradient_gather))


def gather(x: Node, indices: Sequence[Node], axis: int, *, wrap: bool = False) -> Node:
    """The elements of ``x`` at the indices, which take the place of its axes from ``axis`` on. With one index this is NumPy's
    take_along_axis."""
    return make(GATHER, x, *indices, axis=axis, **({"wrap": True} if wrap else {}))


# --- known indices, inverted --------------------------------------------------------------------------------
# A table that is this small, or not much larger than what is picked, is gone through as a whole.
SMALL_TABLE, WIDE_TABLE = 4096, 8


def is_wide(elements: int, picked: int) -> bool:
    """Whether a table of so many elements is too large to go through for the sake of those that are picked."""
    return elements > max(SMALL_TABLE, WIDE_TABLE * picked)


def inverse(indices: Sequence[Array], shape: Sequence[int], axis: int) -> Array | None:
    """For each element of the picked axes, flat, the places p from which it is picked, in order, and -1: (b, elements, m, r),
    with 1 for b and r where all of them have the same indices. None where that would be much larger than what is picked."""
    extents = tuple(shape[axis : axis + len(indices)])
    flat = np.ravel_multi_index([np.where(i < 0, i + e, i) for i, e in zip(indices, extents, strict=True)], extents)
    for other in range(flat.ndim):
        if other != axis and all(index.strides[other] == 0 for index in indices):
            flat = flat.take([0], other)
    before, count, after = flat.shape[:axis], flat.shape[axis], flat.shape[axis + 1 :]
    elements, rows = math.prod(extents), math.prod((*before, *after))
    if flat.size == 0 or is_wide(elements, count):
        return None
    lines = np.moveaxis(flat, axis, -1).reshape(rows, count)  # one for each position before and after
    keys = (lines + elements * np.arange(rows)[:, None]).ravel()
    order = np.argsort(keys, kind="stable")
    first = np.searchsorted(keys[order], keys[order])
    rank = np.arange(keys.size) - first
    most = int(rank.max()) + 1
    if most > 1 and elements * most > 2 * (elements + count):
        return None
    table = np.full((rows * elements, most), -1, np.int32)
    table[keys[order], rank] = order % count
    return np.moveaxis(table.reshape(*before, *after, elements, most), (-2, -1), (axis, axis + 1))


def _collected(g: Node, table: Array, shape: tuple[int, ...], axis: int, picked: int) -> Node:
    """The sums of what was picked from each element: ``g`` (b, p, r) through an inverse table (b, elements, m, r)."""
    before, after = shape[:axis], shape[axis + picked :]
    elements, most = table.shape[axis : axis + 2]
    rows = (*table.shape[:axis], elements * most, *table.shape[axis + 2 :])
    whole = (*before, elements * most, *after)
    places = broadcast_to(reshape(constant(np.maximum(table, 0), INT32), rows), whole)
    found = gather(g, [places], axis)
    if (table < 0).any():
        found = where(broadcast_to(reshape(constant(table >= 0, BOOL), rows), whole), found, 0)
    total = reduce("sum", reshape(found, (*before, elements, most, *after)), (axis + 1,)) if most > 1 else found
    return reshape(total, shape)


# --- scatter ----------------------------------------------------------------------------------------------
def _infer_scatter(kind: str) -> Any:
    def infer(x: TensorType, updates: TensorType, *indices: TensorType, axis: int, wrap: bool = False) -> TensorType:
        shape = _picked(x, indices, axis)
        if updates.dtype is not x.dtype or (x.dtype is BOOL and kind != "set"):
            raise DTypeError(f"scatter_{kind} takes two numbers of one dtype, got {x.dtype} and {updates.dtype}")
        if updates.shape != shape:
            raise ShapeError(f"updates of shape {updates.shape} do not fit indices of shape {shape}")
        return x

    return infer


_AT = {"add": np.add, "multiply": np.multiply, "max": np.maximum, "min": np.minimum}


def _reference_scatter(kind: str) -> Any:
    def reference(x: Array, updates: Array, *indices: Array, type: TensorType, axis: int, wrap: bool = False) -> Array:
        y, places = np.array(x), _places(x, indices, axis, wrap)
        if kind == "set":
            for p in range(updates.shape[axis]):  # one after another, so that the last one stays
                here = (slice(None),) * axis + (slice(p, p + 1),)
                y[tuple(i[here] if i.shape[axis] > 1 else i for i in places)] = updates[here]
        else:
            _AT[kind].at(y, places, updates)
        return y

    return reference


def _gradient_add(g: Node, y: Node, x: Node, u: Node, *indices: Node, axis: int, wrap: bool = False) -> list[Any]:
    return [g, gather(g, indices, axis, wrap=wrap), *[None] * len(indices)]


def _gradient_set(g: Node, y: Node, x: Node, u: Node, *indices: Node, axis: int, wrap: bool = False) -> list[Any]:
    """What is overwritten has no influence, neither of ``x`` nor of all updates of one element but the last."""
    step = reshape(iota(u.shape[axis]), tuple(e if i == axis else 1 for i, e in enumerate(u.shape)))
    number = broadcast_to(step, u.shape)
    last = scatter("set", broadcast_to(constant(0, INT32), x.shape), number, indices, axis, wrap=wrap)
    stays = equal(gather(last, indices, axis, wrap=wrap), number)
    return [
        scatter("set", g, zeros_like(u), indices, axis, wrap=wrap),
        where(stays, gather(g, indices, axis, wrap=wrap), 0),
        *[None] * len(indices),
    ]


def _gradient_extremum(g: Node, y: Node, x: Node, u: Node, *indices: Node, axis: int, wrap: bool = False) -> list[Any]:
    """In equal parts to all that tie."""

    def there(node: Node) -> Node:
        return gather(node, indices, axis, wrap=wrap)

    kept, taken = equal(x, y), equal(u, there(y))
    ties = scatter("add", cast(kept, x.dtype), cast(taken, x.dtype), indices, axis, wrap=wrap)
    share = g / ties
    return [where(kept, share, 0), where(taken, there(share), 0), *[None] * len(indices)]


def _gradient_multiply(g: Node, y: Node, x: Node, u: Node, *indices: Node, axis: int, wrap: bool = False) -> list[Any]:
    """The slope of a factor is the product of all others of its element: those before times those after it, in order of the
    elements. No division, so it is right where factors are zero."""
    starts = [_from_start(index, e) if wrap else index for index, e in zip(indices, x.shape[axis:], strict=False)]
    key = starts[0]
    for place, index in enumerate(starts[1:], 1):
        key = key * x.shape[axis + place] + index
    order = OPERATORS["argsort"](key, axis=axis)
    line, factors = gather(key, [order], axis), gather(u, [order], axis)
    before = _product_before(line, factors, axis)
    after = flipped(_product_before(flipped(line, axis), flipped(factors, axis), axis), axis)
    others = gather(before * after, [OPERATORS["argsort"](order, axis=axis)], axis)
    slope = gather(g * x, indices, axis, wrap=wrap) * others
    return [scatter("multiply", g, u, indices, axis, wrap=wrap), slope, *[None] * len(indices)]


def _product_before(line: Node, factors: Node, axis: int) -> Node:
    """The product of the factors before each, as far as they stand in one run of equal elements of ``line``."""
    count = line.shape[axis] - 1
    same = equal(cut(line, axis, 1, count), cut(line, axis, 0, count))
    one = broadcast_to(constant(1, factors.dtype), cut(factors, axis, 0, 1).shape)
    return recurrence(one, where(same, cut(factors, axis, 0, count), 0), where(same, constant(0, factors.dtype), 1), axis)


_GRADIENTS = {
    "add": _gradient_add, "set": _gradient_set, "multiply": _gradient_multiply, "max": _gradient_extremum, "min": _gradient_extremum
}  # fmt: skip
SCATTER = {
    kind: register(Routine(f"scatter_{kind}", _infer_scatter(kind), _reference_scatter(kind), gradient))
    for kind, gradient in _GRADIENTS.items()
}


def scatter(kind: str, x: Node, updates: Node, indices: Sequence[Node], axis: int, *, wrap: bool = False) -> Node:
    """``x`` with its elements at the indices combined with ``updates``, one after another along ``axis``; ``kind`` is a key of
    :data:`SCATTER`. Always in this order, so that the bits are the same every time; of several that are set the last stays."""
    return make(SCATTER[kind], x, updates, *indices, axis=axis, **({"wrap": True} if wrap else {}))
