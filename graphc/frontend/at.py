"""Some elements changed: ``x.at[key].add(v)`` is ``x`` with ``v`` added where NumPy's ``x[key] += v`` would, as a new node.

Known places are a choice between old and new, which fuses; places that come with a call are a scatter:

    x.at[2:4].set(v)     y[i] = v[i - 2] if 2 <= i < 4 else x[i]
    x.at[i].add(v)       y = x;  for p in order:  y[i[p]] += v[p]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.frontend.indexing import Index, Selection, as_index, getitem, picked, selection, spread_over, within
from graphc.frontend.movement import ravel
from graphc.ir import Array, Node, operator
from graphc.ops.gather import is_wide, scatter
from graphc.ops.pointwise import add, as_node, broadcast_shapes, cast, maximum, minimum, multiply, where
from graphc.ops.structural import broadcast_to, constant, pad, permute, reshape, slice_
from graphc.types import BOOL, INT32, DTypeError, ShapeError, normalize_axis, promote

__all__ = ["put_along_axis"]

_COMBINED: dict[str, Callable[[Node, Node], Node]] = {
    "set": lambda old, new: new, "add": add, "multiply": multiply, "max": maximum, "min": minimum
}  # fmt: skip


class Places:
    """``x.at``: give it the places in brackets, in any form that indexing takes."""

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        self.node = node

    def __getitem__(self, key: Any) -> At:
        return At(self.node, key)


class At:
    """``x.at[key]``. Each method gives a new node; ``value`` broadcasts to the shape of ``x[key]`` and takes the dtype of ``x``.

    Where a place occurs several times, all its updates take effect, one after another in the order of the key. So the last of
    several values that are set stays, and sums have the same bits every time. A place outside of ``x`` fails the call before
    anything is stored (a known one, when the graph is built). Gradients of any order; what a ``set`` overwrites gets none.
    """

    __slots__ = ("key", "node")

    def __init__(self, node: Node, key: Any) -> None:
        self.node, self.key = node, key

    def get(self) -> Node:
        """``x[key]``."""
        return getitem(self.node, self.key)

    def set(self, value: Any) -> Node:
        """With these elements replaced by ``value``."""
        return _changed("set", self.node, self.key, value)

    def add(self, value: Any) -> Node:
        """With ``value`` added to these elements."""
        return _changed("add", self.node, self.key, value)

    def subtract(self, value: Any) -> Node:
        """With ``value`` subtracted from these elements."""
        return _changed("add", self.node, self.key, -_value(self.node, value, "x.at[...].subtract"))

    def multiply(self, value: Any) -> Node:
        """With these elements multiplied by ``value``."""
        return _changed("multiply", self.node, self.key, value)

    def max(self, value: Any) -> Node:
        """With these elements replaced by ``value`` where that is larger; NaN if either is. Ties share the gradient evenly."""
        return _changed("max", self.node, self.key, value)

    def min(self, value: Any) -> Node:
        """With these elements replaced by ``value`` where that is smaller; NaN if either is. Ties share the gradient evenly."""
        return _changed("min", self.node, self.key, value)

    def __repr__(self) -> str:
        return f"<at {self.key!r} of {self.node!r}>"


operator("at")(Places)


def _value(x: Node, value: Any, what: str) -> Node:
    """A value of the dtype of ``x``."""
    node = as_node(value, x.dtype)
    floats = node.dtype.is_float and x.dtype.is_float
    if not floats and promote(x.dtype, node.dtype) is not x.dtype:
        raise DTypeError(f"{what}: a value of dtype {node.dtype} does not fit into {x!r}; use .astype({str(x.dtype)!r})")
    return cast(node, x.dtype)


def _changed(kind: str, x: Node, key: Any, value: Any) -> Node:
    if x.dtype is BOOL and kind != "set":
        raise DTypeError(f"x.at[...].{kind}: {x!r} has no numbers; only set, or use .astype('int32')")
    chosen = selection(x, key)
    node = _value(x, value, f"x.at[...].{kind}")
    new = _spread(node, chosen.shape, f"x.at[...].{kind}", "x[key]")
    whole = chosen.sliced == x.shape and all(step == 1 for step in chosen.step)
    inside = _placed(broadcast_to(constant(True, BOOL), chosen.sliced), chosen, x)
    if not chosen.indices:
        changed = _COMBINED[kind](x, _placed(reshape(new, chosen.sliced), chosen, x))
        return changed if whole else where(inside, changed, x)
    moved, count = permute(slice_(x, chosen.start, chosen.step, chosen.sliced), chosen.order), len(chosen.indices)
    shape = (*moved.shape[: chosen.axis], chosen.indices[0].size, *moved.shape[chosen.axis + count :])
    changed = _scattered(kind, moved, reshape(new, shape), chosen.indices, chosen.axis)
    back = permute(changed, tuple(int(place) for place in np.argsort(chosen.order)))
    return back if whole else where(inside, _placed(back, chosen, x), x)


def _spread(node: Node, shape: tuple[int, ...], what: str, where_to: str) -> Node:
    try:
        return broadcast_to(node, shape)
    except ShapeError:
        raise ShapeError(f"{what}: a value of shape {node.shape} does not fit into {where_to} of shape {shape}") from None


def _placed(node: Node, chosen: Selection, x: Node) -> Node:
    """What belongs to the slice, at its place in ``x``."""
    return pad(node, chosen.start, chosen.step, x.shape)


def _scattered(kind: str, x: Node, updates: Node, indices: tuple[Index, ...], axis: int) -> Node:
    """``x`` (b, elements, r) with the updates (b, p, r) at the indices of its axes from ``axis`` on."""
    before, after = x.shape[:axis], x.shape[axis + len(indices) :]
    known = [index for index in indices if isinstance(index, np.ndarray)]
    table = _last(kind, known, x.shape[axis : axis + len(indices)]) if len(known) == len(indices) else None
    if table is None:
        wrap = any(isinstance(index, Node) for index in indices)
        return scatter(kind, x, updates, spread_over(indices, before, after), axis, wrap=wrap)
    found = reshape(picked(updates, [np.maximum(table, 0)], axis), x.shape)
    row = (*(1 for _ in before), *x.shape[axis : axis + len(indices)], *(1 for _ in after))
    here = broadcast_to(reshape(constant(table >= 0, BOOL), row), x.shape)
    return where(here, _COMBINED[kind](x, found), x)


def _last(kind: str, indices: list[Array], extents: tuple[int, ...]) -> Array | None:
    """For each element the place of its last update, and -1; None where several would count, or the table would be much larger
    than what is updated."""
    flat = np.ravel_multi_index([index.ravel() for index in indices], extents)
    elements = math.prod(extents)
    if not flat.size or is_wide(elements, flat.size):
        return None
    if kind != "set" and np.unique(flat).size < flat.size:
        return None
    table = np.full(elements, -1, np.int32)
    np.maximum.at(table, flat, np.arange(flat.size, dtype=np.int32))
    return table


@operator("put_along_axis")
def put_along_axis(x: Any, indices: Any, values: Any, axis: int | None) -> Node:
    """``x`` with ``values`` at ``indices`` along ``axis`` (flat without one): a new node, where NumPy changes its argument.

    Indices and values broadcast against all other axes. Negative indices count from the end; of equal ones the last stays.
    """
    node = as_node(x)
    if axis is None:
        return reshape(put_along_axis(ravel(node), indices, values, 0), node.shape)
    at = normalize_axis(axis, node.ndim)
    index = within(as_index(indices, "put_along_axis: indices"), node.shape[at], f"put_along_axis: index for axis {at}")
    if index.ndim != node.ndim:
        raise ShapeError(f"put_along_axis needs indices with {node.ndim} axes, got shape {index.shape} for {node.shape}")
    picks = index if isinstance(index, Node) else constant(index, INT32)
    shape = tuple(index.shape[at] if a == at else e for a, e in enumerate(node.shape))
    if broadcast_shapes(index.shape, shape) != shape:
        raise ShapeError(f"put_along_axis: indices of shape {index.shape} do not fit a tensor of shape {node.shape}")
    updates = _spread(_value(node, values, "put_along_axis"), shape, "put_along_axis", "the indices")
    return scatter("set", node, updates, [broadcast_to(picks, shape)], at, wrap=isinstance(index, Node))
