"""Which elements: what stands between the brackets of ``x[...]``, and indices known at run time."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir import Node, operator
from graphc.ops.pointwise import as_node, broadcast_shapes
from graphc.ops.structural import broadcast_to, gather, reshape, slice_
from graphc.types import DTypeError, GraphError, ShapeError, normalize_axis

__all__ = [
    "take_along_axis",
]


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
    return reshape(slice_(x, start, step, count), shape)


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
    grown = [broadcast_to(t, [t.shape[at] if a == at else e for a, e in enumerate(rest)]) for t in (node, picks)]
    return gather(grown[0], grown[1], at)
