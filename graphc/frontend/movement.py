"""Movement: the same elements in other places, under NumPy's names. Nothing here costs anything by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.ir import Node, operator
from graphc.ops.pointwise import as_node
from graphc.ops.structural import broadcast_to as _broadcast_to
from graphc.ops.structural import permute
from graphc.ops.structural import reshape as _reshape
from graphc.types import ShapeError, normalize_axes, normalize_axis, shape_of

__all__ = [
    "broadcast_to",
    "expand_dims",
    "reshape",
    "squeeze",
    "transpose",
]

Axis = int | Sequence[int] | None


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
