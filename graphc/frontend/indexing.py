"""Which elements: what stands between the brackets of ``x[...]``, and picking by arrays of indices.

Known indices are checked and counted from the start when the graph is built; those of a node in each call, before
anything is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from graphc.frontend.movement import ravel
from graphc.frontend.pieces import stack
from graphc.ir import Array, Node, operator, rounded
from graphc.ops.gather import check_indices, gather
from graphc.ops.pointwise import as_node, broadcast_shapes, cast, equal, meet, where
from graphc.ops.routines import cut
from graphc.ops.structural import broadcast_to, constant, iota, permute, reshape, slice_
from graphc.types import BOOL, FLOAT32, INT32, DTypeError, GraphError, ShapeError, dtype_of, normalize_axis, shape_of

__all__ = ["choose", "one_hot", "select", "take", "take_along_axis"]

Index = Node | Array


# --- indices ----------------------------------------------------------------------------------------------
def as_index(value: Any, what: str) -> Index:
    """Integers as an array where they are known, else as a node; raises :class:`DTypeError` for anything else."""
    if isinstance(value, Node) and value.op.name != "constant":
        if value.dtype is BOOL:
            raise GraphError(
                f"{what} is the bool node {value!r}: how many elements it picks is not known while the graph is built; "
                "use graphc.where(mask, x, other)"
            )
        if not value.dtype.is_int:
            raise DTypeError(f"{what} must be integers, got {value!r}; use .astype('int32')")
        return value
    array = rounded(value) if isinstance(value, Node) else np.asarray(value)
    if array.size == 0 and isinstance(value, list | tuple):
        array = array.astype(np.int32)
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{what} must be integers, got dtype {array.dtype}: {value!r}")
    return array


def within(index: Index, extent: int, what: str, *, wrap: bool = True) -> Index:
    """The index, counted from the start where it is known; raises :class:`IndexOutOfRangeError` if that is out of range."""
    if isinstance(index, Node):
        return index
    check_indices(index, extent, what, -extent if wrap else 0)
    return np.where(index < 0, index + extent, index).astype(np.int32)


def picked(x: Node, indices: Sequence[Index], axis: int) -> Node:
    """Axes of ``x`` from ``axis`` on, one for each index, become one with the picked elements. The indices are of one shape."""
    count = indices[0].size
    before, after = x.shape[:axis], x.shape[axis + len(indices) :]
    if len(indices) == 1 and isinstance(indices[0], np.ndarray):
        known = indices[0].ravel()
        steps = np.unique(np.diff(known))
        if count == 1 or (len(steps) == 1 and steps[0]):  # as far apart: a slice
            return cut(x, axis, int(known[0]), count, int(steps[0]) if count > 1 else 1)
    return gather(x, spread_over(indices, before, after), axis, wrap=any(isinstance(index, Node) for index in indices))


def spread_over(indices: Sequence[Index], before: tuple[int, ...], after: tuple[int, ...]) -> list[Node]:
    """Indices of one shape along one axis, the same for all positions ``before`` and ``after`` it."""
    count = indices[0].size
    row = (*(1 for _ in before), count, *(1 for _ in after))
    nodes = [index if isinstance(index, Node) else constant(index, INT32) for index in indices]
    return [broadcast_to(reshape(node, row), (*before, count, *after)) for node in nodes]


# --- between the brackets -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Selection:
    """What a key picks of a tensor: a slice of every axis, then in it the elements at ``indices``.

    order: the axes of the slice as they are picked from, those of the indices side by side at place ``axis``.
    shape: of the result, with the new axes.
    """

    start: tuple[int, ...]
    step: tuple[int, ...]
    sliced: tuple[int, ...]
    order: tuple[int, ...]
    axis: int
    indices: tuple[Index, ...]
    shape: tuple[int, ...]


def selection(x: Node, key: Any) -> Selection:
    """A key in NumPy's sense: integers, slices, ``...``, None, arrays of integers, masks that are known.

    Arrays broadcast; their axes stand where the first of them stood, or in front where something stands between them.
    """
    items = _items(x, key)
    arrays = any(isinstance(item, Node | np.ndarray) for item in items)
    start, step, sliced = [], [], []
    shape: list[int] = []
    picks: dict[int, Index] = {}  # by axis
    kept: list[int] = []
    places: list[tuple[int, int]] = []  # where the axes of arrays would stand, in the result and among the kept ones
    apart = False
    gap = False
    axis = 0
    for item in items:
        if item is None or item is Ellipsis:
            shape += [1] if item is None else []
            gap = True
            continue
        extent = x.shape[axis]
        if isinstance(item, slice):
            taken = range(*item.indices(extent))
            start.append(taken.start if len(taken) else 0)
            step.append(taken.step)
            sliced.append(len(taken))
            shape.append(len(taken))
            kept.append(axis)
            gap = True
        elif arrays:
            what = f"index for axis {axis} of {x!r}"
            picks[axis] = within(np.asarray(item) if isinstance(item, int) else item, extent, what)
            start.append(0)
            step.append(1)
            sliced.append(extent)
            apart = apart or (bool(places) and gap)
            places.append((len(shape), len(kept)))
            gap = False
        else:
            if not -extent <= item < extent:
                raise ShapeError(f"index {item} is out of range for axis {axis} of extent {extent} of {x!r}")
            start.append(item % extent)
            step.append(1)
            sliced.append(1)
            kept.append(axis)
        axis += 1
    at, place = (0, 0) if apart or not places else places[0]
    common = broadcast_shapes(*(index.shape for index in picks.values()))
    shape[at:at] = common
    indices = tuple(_broadcast(index, common) for index in picks.values())
    order = (*kept[:place], *picks, *kept[place:])
    return Selection(tuple(start), tuple(step), tuple(sliced), order, place, indices, tuple(shape))


def _broadcast(index: Index, shape: tuple[int, ...]) -> Index:
    return broadcast_to(index, shape) if isinstance(index, Node) else np.broadcast_to(index, shape)


def _items(x: Node, key: Any) -> list[Any]:
    """One item for each axis of ``x`` (an int, a slice, an array of integers), None and ``...`` between them."""
    given = [_item(x, item) for item in (key if isinstance(key, tuple) else (key,))]
    axes = [0 if item is None or item is Ellipsis else item.ndim if _is_mask(item) else 1 for item in given]
    missing = x.ndim - sum(axes)
    dots = [place for place, item in enumerate(given) if item is Ellipsis]
    if missing < 0 or len(dots) > 1:
        raise ShapeError(f"too many indices for shape {x.shape}: {key!r}")
    place = dots[0] + 1 if dots else len(given)
    given[place:place], axes[place:place] = [slice(None)] * missing, [1] * missing
    items: list[Any] = []
    for item, axis in zip(given, accumulate(axes, initial=0), strict=False):
        if _is_mask(item):
            covered = x.shape[axis : axis + item.ndim]
            if item.shape != covered:
                raise ShapeError(f"a mask of shape {item.shape} does not fit axes of shape {covered} of {x!r}")
            items += np.nonzero(item)
        else:
            items.append(item)
    return items


def _is_mask(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.dtype == bool


def _item(x: Node, item: Any) -> Any:
    """An int, a slice, None, ``...``, an array of integers or bools with axes, or an integer node; raises for all else."""
    if item is None or item is Ellipsis or isinstance(item, slice | Node):
        return as_index(item, f"the index of {x!r}") if isinstance(item, Node) else item
    if isinstance(item, np.ndarray | np.generic | list | tuple | int):
        array = np.asarray(item)
        if array.ndim and array.dtype == bool:
            return array
        if array.dtype != bool:
            index = as_index(array if array.size else item, f"the index of {x!r}")
            return index if isinstance(index, Node) or index.ndim else int(index)
    raise GraphError(
        f"cannot index {x!r} with {item!r}: only integers, slices, `...`, None, arrays of integers, known masks and integer "
        "nodes; graphc.where chooses between elements"
    )


@operator("getitem")
def getitem(x: Node, key: Any) -> Node:
    """NumPy's indexing: integers, slices, ``...``, None, arrays of integers (NumPy's, lists, or nodes), known masks."""
    chosen = selection(x, key)
    part = slice_(x, chosen.start, chosen.step, chosen.sliced)
    if chosen.indices:
        part = picked(permute(part, chosen.order), chosen.indices, chosen.axis)
    return reshape(part, chosen.shape)


# --- by function ------------------------------------------------------------------------------------------
@operator("take")
def take(x: Any, indices: Any, axis: int | None = None, mode: str = "raise") -> Node:
    """The slices of ``x`` at ``indices`` along ``axis`` (elements of the flat tensor without one).

    Negative indices count from the end; one outside of the axis fails the call, before anything is stored. Only
    ``mode="raise"``; clip an index, or take its remainder, to have another.
    """
    if mode != "raise":
        raise GraphError(f"take: mode must be 'raise', got {mode!r}; use graphc.clip(indices, 0, n - 1) or indices % n")
    node = as_node(x)
    if axis is None:
        node, axis = ravel(node), 0
    at = normalize_axis(axis, node.ndim)
    index = within(as_index(indices, "take: indices"), node.shape[at], f"take: index for axis {at} of {node!r}")
    return reshape(picked(node, [index], at), (*node.shape[:at], *index.shape, *node.shape[at + 1 :]))


@operator("take_along_axis")
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Node:
    """``y[..., k, ...] = x[..., indices[..., k, ...], ...]`` along ``axis``; all other axes broadcast. Without an axis, ``x`` is
    flat.

    Negative indices count from the end; one outside of the axis fails the call, before anything is stored.
    """
    node, index = as_node(x), as_index(indices, "take_along_axis: indices")
    if axis is None:
        node, axis = ravel(node), 0
    at = normalize_axis(axis, node.ndim)
    if node.ndim != index.ndim:
        raise ShapeError(
            f"take_along_axis needs indices with {node.ndim} axes, got shape {index.shape} for {node.shape}"
        )
    index = within(index, node.shape[at], f"take_along_axis: index for axis {at} of {node!r}")
    picks = index if isinstance(index, Node) else constant(index, INT32)
    rest = list(broadcast_shapes(*((*t.shape[:at], 1, *t.shape[at + 1 :]) for t in (node, picks))))
    grown = [broadcast_to(t, [t.shape[at] if a == at else e for a, e in enumerate(rest)]) for t in (node, picks)]
    return gather(grown[0], grown[1:], at, wrap=isinstance(index, Node))


@operator("choose")
def choose(a: Any, choices: Any) -> Node:
    """Each element is taken from the tensor ``choices[a]``; ``a`` and all choices broadcast.

    A number outside of ``0 <= a < len(choices)`` fails the call, before anything is stored.
    """
    index = within(as_index(a, "choose: a"), len(choices), "choose: a", wrap=False)
    options = meet(choices)
    shape = broadcast_shapes(index.shape, *(option.shape for option in options))
    table = stack([broadcast_to(option, shape) for option in options])
    picks = index if isinstance(index, Node) else constant(index, INT32)
    return reshape(gather(table, [broadcast_to(picks, (1, *shape))], 0), shape)


@operator("select")
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Node:
    """Each element is taken from the first choice whose condition is true there, else from ``default``."""
    conditions, choices = list(condlist), list(choicelist)
    if len(conditions) != len(choices) or not choices:
        raise ShapeError(f"select needs as many conditions as choices, got {len(conditions)} and {len(choices)}")
    result = default
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = where(condition, choice, result)
    return as_node(result)


@operator("one_hot")
def one_hot(labels: Any, num_classes: int, dtype: Any = FLOAT32) -> Node:
    """Rows of ``num_classes`` elements that are 1 at the label and 0 elsewhere: labels (...), result (..., num_classes).

    A label that is out of range gives zeros, as in JAX.
    """
    index = as_index(labels, "one_hot: labels")
    (classes,) = shape_of(num_classes, what="one_hot: num_classes")
    column = index if isinstance(index, Node) else as_node(index)
    return cast(equal(iota(classes), reshape(column, (*column.shape, 1))), dtype_of(dtype))
