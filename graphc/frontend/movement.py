"""Movement: the same elements in other places, under NumPy's names. Nothing here costs anything by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir import Node, operator
from graphc.ops.pointwise import as_node, spread
from graphc.ops.structural import broadcast_to as _broadcast_to
from graphc.ops.structural import permute, slice_
from graphc.ops.structural import reshape as _reshape
from graphc.types import GraphError, ShapeError, normalize_axes, normalize_axis, shape_of, whole

__all__ = [
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_arrays",
    "broadcast_to",
    "expand_dims",
    "flip",
    "fliplr",
    "flipud",
    "matrix_transpose",
    "meshgrid",
    "moveaxis",
    "permute_dims",
    "ravel",
    "reshape",
    "rollaxis",
    "rot90",
    "squeeze",
    "swapaxes",
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


@operator("ravel")
@operator("flatten")
def ravel(x: Any) -> Node:
    """All elements in row-major order along one axis."""
    node = as_node(x)
    return _reshape(node, (node.size,))


# --- the order of the axes ------------------------------------------------------------------------------
@operator("transpose")
def transpose(x: Any, *order: Any, axes: Any = None) -> Node:
    """Axes in the given order, as one sequence or one by one; without any, reversed."""
    node = as_node(x)
    if order:
        axes = order[0] if len(order) == 1 and not isinstance(order[0], int | np.integer) else order
    wanted = range(node.ndim)[::-1] if axes is None else [normalize_axis(axis, node.ndim) for axis in axes]
    return permute(node, tuple(wanted))


@operator("permute_dims")
def permute_dims(x: Any, axes: Sequence[int]) -> Node:
    """The array-API's name of :func:`transpose`, which must be told the order."""
    return transpose(x, axes=axes)


@operator("matrix_transpose")
@operator("linalg.matrix_transpose")
def matrix_transpose(x: Any) -> Node:
    """The last two axes exchanged; also ``x.mT``."""
    node = as_node(x)
    if node.ndim < 2:
        raise ShapeError(f"matrix_transpose needs at least two axes, got shape {node.shape}")
    return swapaxes(node, -1, -2)


@operator("swapaxes")
def swapaxes(x: Any, axis1: int, axis2: int) -> Node:
    """Two axes exchanged."""
    node = as_node(x)
    order = list(range(node.ndim))
    a, b = normalize_axis(axis1, node.ndim), normalize_axis(axis2, node.ndim)
    order[a], order[b] = b, a
    return permute(node, order)


@operator("moveaxis")
def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Node:
    """The axes of ``source`` at the places of ``destination``; the others stay in order."""
    node = as_node(x)
    start, end = (
        [normalize_axis(axis, node.ndim) for axis in ((given,) if isinstance(given, int | np.integer) else given)]
        for given in (source, destination)
    )
    if len(start) != len(end) or len(set(start)) != len(start) or len(set(end)) != len(end):
        raise ShapeError(f"moveaxis needs as many different places as axes, got {source!r} and {destination!r}")
    order = [axis for axis in range(node.ndim) if axis not in start]
    for place, axis in sorted(zip(end, start, strict=True)):
        order.insert(place, axis)
    return permute(node, order)


@operator("rollaxis")
def rollaxis(x: Any, axis: int, start: int = 0) -> Node:
    """``axis`` moved back until it stands before the axis that is now at ``start``; :func:`moveaxis` is easier to read."""
    node = as_node(x)
    at = normalize_axis(axis, node.ndim)
    place = node.ndim if start == node.ndim else normalize_axis(start, node.ndim)
    return moveaxis(node, at, place - 1 if at < place else place)


# --- axes that come, go and repeat ------------------------------------------------------------------------
@operator("broadcast_to")
def broadcast_to(x: Any, shape: Any) -> Node:
    """NumPy's broadcast_to."""
    return _broadcast_to(as_node(x), shape_of(shape))


@operator("broadcast_arrays")
def broadcast_arrays(*arrays: Any) -> tuple[Node, ...]:
    """All of them with the shape to which they broadcast; each keeps its dtype."""
    return tuple(spread([as_node(array) for array in arrays]))


@operator("meshgrid")
def meshgrid(*axes: Any, indexing: str = "xy", sparse: bool = False) -> tuple[Node, ...]:
    """The coordinates of a grid from those along its axes: one tensor for each, extent 1 along the others if ``sparse``.

    The first two axes of the results are exchanged with ``indexing="xy"``, kept with ``"ij"``.
    """
    if indexing not in ("xy", "ij"):
        raise GraphError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    nodes = [ravel(axis) for axis in axes]
    places = list(range(len(nodes)))
    if indexing == "xy" and len(nodes) > 1:
        places[:2] = 1, 0
    grids = [
        _reshape(node, [node.size if a == place else 1 for a in range(len(nodes))])
        for node, place in zip(nodes, places, strict=True)
    ]
    return tuple(grids) if sparse or not grids else broadcast_arrays(*grids)


@operator("expand_dims")
def expand_dims(x: Any, axis: int | Sequence[int]) -> Node:
    """New axes of extent 1 at these positions of the result."""
    node = as_node(x)
    rank = node.ndim + (len(axis) if isinstance(axis, tuple | list) else 1)
    extents = iter(node.shape)
    added = normalize_axes(axis, rank)
    return _reshape(node, [1 if a in added else next(extents) for a in range(rank)])


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


def _each(function: Callable[[Node], Node], arrays: Sequence[Any]) -> Any:
    """The result for one, a tuple of them for several."""
    results = tuple(function(as_node(array)) for array in arrays)
    return results[0] if len(results) == 1 else results


@operator("atleast_1d")
def atleast_1d(*arrays: Any) -> Any:
    """A scalar gets one axis; of several arrays a tuple."""
    return _each(lambda x: x if x.ndim else _reshape(x, (1,)), arrays)


@operator("atleast_2d")
def atleast_2d(*arrays: Any) -> Any:
    """New axes in front until there are two; of several arrays a tuple."""
    return _each(lambda x: _reshape(x, (1,) * (2 - x.ndim) + x.shape), arrays)


@operator("atleast_3d")
def atleast_3d(*arrays: Any) -> Any:
    """New axes until there are three: a vector of n becomes (1, n, 1), a matrix gets one behind; of several arrays a tuple."""

    def grown(x: Node) -> Node:
        shape = {0: (1, 1, 1), 1: (1, *x.shape, 1), 2: (*x.shape, 1)}.get(x.ndim, x.shape)
        return _reshape(x, shape)

    return _each(grown, arrays)


# --- the other way round --------------------------------------------------------------------------------
@operator("flip")
def flip(x: Any, axis: Axis = None) -> Node:
    """In reverse order along ``axis`` (all axes without one)."""
    node = as_node(x)
    axes = [a for a in normalize_axes(axis, node.ndim) if node.shape[a] > 1]
    start = [extent - 1 if a in axes else 0 for a, extent in enumerate(node.shape)]
    return slice_(node, start, [-1 if a in axes else 1 for a in range(node.ndim)], node.shape)


@operator("flipud")
def flipud(x: Any) -> Node:
    """Upside down: reversed along the first axis."""
    return flip(x, 0)


@operator("fliplr")
def fliplr(x: Any) -> Node:
    """Left to right: reversed along the second axis."""
    return flip(x, 1)


@operator("rot90")
def rot90(x: Any, k: int = 1, axes: Sequence[int] = (0, 1)) -> Node:
    """Turned ``k`` times by 90 degrees, from the first of ``axes`` towards the second."""
    node = as_node(x)
    a, b = (normalize_axis(axis, node.ndim) for axis in axes)
    if a == b:
        raise ShapeError(f"rot90 needs two different axes, got {axes!r}")
    if whole(k, "rot90: k") % 4 == 2:
        return flip(node, (a, b))
    if k % 4 == 0:
        return node
    return swapaxes(flip(node, b), a, b) if k % 4 == 1 else flip(swapaxes(node, a, b), b)
