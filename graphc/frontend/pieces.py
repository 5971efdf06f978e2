"""Tensors put together and taken apart, under NumPy's names.

What is put together is selected by position rather than added up, so that every element keeps its bits (-0.0, NaN):

    concatenate([a, b])[i]  =  a[i] if i < len(a) else b[i - len(a)]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from graphc.frontend.movement import Axis, atleast_1d, atleast_2d, atleast_3d, expand_dims, ravel, squeeze
from graphc.ir import Node, operator
from graphc.ops.pointwise import as_node, cast, less, meet, where
from graphc.ops.routines import cut
from graphc.ops.structural import broadcast_to, constant, iota, reshape
from graphc.ops.structural import pad as _pad
from graphc.types import BOOL, GraphError, ShapeError, normalize_axis, shape_of, whole

__all__ = [
    "append",
    "array_split",
    "block",
    "column_stack",
    "concatenate",
    "dsplit",
    "dstack",
    "hsplit",
    "hstack",
    "pad",
    "repeat",
    "roll",
    "split",
    "stack",
    "tile",
    "unstack",
    "vsplit",
    "vstack",
]


# --- together -------------------------------------------------------------------------------------------
def join(parts: Sequence[Node], axis: int) -> Node:
    """Nodes of one dtype, whose shapes agree but along ``axis``, one behind the other."""
    parts = [part for part in parts if part.shape[axis]] or list(parts[:1])
    starts = [0, *accumulate(part.shape[axis] for part in parts)]
    shape = list(parts[0].shape)
    shape[axis] = starts.pop()

    def placed(part: Node, start: int) -> Node:
        return _pad(part, [start if a == axis else 0 for a in range(part.ndim)], [1] * part.ndim, shape)

    position = reshape(iota(shape[axis]), [extent if a == axis else 1 for a, extent in enumerate(shape)])
    runs = [(placed(part, start), start) for part, start in zip(parts, starts, strict=True)]
    while len(runs) > 1:  # neighbours join until one is left: a chain of selects as long as the logarithm of their number
        pairs = zip(runs[::2], runs[1::2], strict=False)
        runs = [
            *((where(less(position, middle), left, right), start) for (left, start), (right, middle) in pairs),
            *(runs[-1:] if len(runs) % 2 else []),
        ]
    return runs[0][0]


def _several(arrays: Any, what: str) -> list[Node]:
    given = list(arrays)
    if not given:
        raise ShapeError(f"{what} needs at least one array")
    return meet(given)


@operator("concatenate")
def concatenate(arrays: Any, axis: int | None = 0) -> Node:
    """One behind the other along ``axis``; flattened first without one. Every element keeps its bits."""
    nodes = _several(arrays, "concatenate")
    if axis is None:
        nodes, axis = [ravel(node) for node in nodes], 0
    shapes = [node.shape for node in nodes]
    if not nodes[0].ndim:
        raise ShapeError("concatenate needs at least one axis, got a scalar; use stack")
    at = normalize_axis(axis, nodes[0].ndim)
    if len({(len(shape), *shape[:at], -1, *shape[at + 1 :]) for shape in shapes}) > 1:
        raise ShapeError(f"concatenate along axis {axis}: the other axes of shapes {shapes} do not agree")
    return join(nodes, at)


@operator("stack")
def stack(arrays: Any, axis: int = 0) -> Node:
    """Arrays of one shape along a new axis at position ``axis`` of the result."""
    nodes = _several(arrays, "stack")
    shapes = [node.shape for node in nodes]
    if len(set(shapes)) > 1:
        raise ShapeError(f"stack needs arrays of one shape, got {shapes}")
    at = normalize_axis(axis, nodes[0].ndim + 1)
    return join([expand_dims(node, at) for node in nodes], at)


@operator("vstack")
def vstack(arrays: Any) -> Node:
    """One below the other: concatenated along the first of at least two axes."""
    return concatenate([atleast_2d(node) for node in _several(arrays, "vstack")], 0)


@operator("hstack")
def hstack(arrays: Any) -> Node:
    """Side by side: concatenated along the second axis, vectors along the first."""
    nodes = [atleast_1d(node) for node in _several(arrays, "hstack")]
    return concatenate(nodes, 0 if nodes[0].ndim == 1 else 1)


@operator("dstack")
def dstack(arrays: Any) -> Node:
    """One behind the other: concatenated along the third of at least three axes."""
    return concatenate([atleast_3d(node) for node in _several(arrays, "dstack")], 2)


@operator("column_stack")
def column_stack(arrays: Any) -> Node:
    """Side by side, vectors as columns."""
    nodes = [atleast_1d(node) for node in _several(arrays, "column_stack")]
    return concatenate([node if node.ndim > 1 else expand_dims(node, 1) for node in nodes], 1)


@operator("append")
def append(x: Any, values: Any, axis: int | None = None) -> Node:
    """``x`` and ``values``, concatenated along ``axis``; flattened first without one."""
    return concatenate([x, values], axis)


@operator("block")
def block(arrays: Any) -> Node:
    """Lists of (lists of) blocks put together: the innermost along the last axis, those around them along the one before."""
    leaves: list[Any] = [arrays]
    depth = 0
    while any(isinstance(leaf, list) for leaf in leaves):
        if not all(isinstance(leaf, list) and leaf for leaf in leaves):
            raise ShapeError("block takes lists of one depth, none of them empty")
        leaves = [leaf for inner in leaves for leaf in inner]
        depth += 1
    grown = meet(leaves)
    rank = max(depth, *(node.ndim for node in grown))
    nodes = iter([reshape(node, (1,) * (rank - node.ndim) + node.shape) for node in grown])

    def built(part: Any, level: int) -> Node:
        return concatenate([built(inner, level - 1) for inner in part], -level) if level else next(nodes)

    return built(arrays, depth)


# --- apart ----------------------------------------------------------------------------------------------
@operator("array_split")
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Node]:
    """Cut along ``axis``, before each position of a sequence or into a number of parts; the first parts are longer by one if the
    extent does not divide evenly."""
    node = as_node(x)
    at = normalize_axis(axis, node.ndim)
    extent = node.shape[at]
    if not isinstance(indices_or_sections, Iterable):
        parts = whole(indices_or_sections, "the number of parts")
        if parts < 1:
            raise ShapeError(f"array_split into {parts} parts: the number must be positive")
        short, longer = divmod(extent, parts)
        bounds = [0, *accumulate(short + (part < longer) for part in range(parts))]
    else:
        bounds = [0, *(whole(position, "where to split") for position in indices_or_sections), extent]
    ranges = [range(*slice(low, high).indices(extent)) for low, high in pairwise(bounds)]
    return [cut(node, at, inside.start if inside else 0, len(inside)) for inside in ranges]


@operator("split")
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Node]:
    """Cut along ``axis``, before each position of a sequence or into a number of equal parts."""
    node = as_node(x)
    if isinstance(indices_or_sections, int | np.integer) and indices_or_sections > 0:
        extent = node.shape[normalize_axis(axis, node.ndim)]
        if extent % indices_or_sections:
            raise ShapeError(f"split: extent {extent} does not divide into {indices_or_sections}; use array_split")
    return array_split(node, indices_or_sections, axis)


@operator("vsplit")
def vsplit(x: Any, indices_or_sections: Any) -> list[Node]:
    """:func:`split` along the first axis."""
    return split(x, indices_or_sections, 0)


@operator("hsplit")
def hsplit(x: Any, indices_or_sections: Any) -> list[Node]:
    """:func:`split` along the second axis, of a vector along the first."""
    node = as_node(x)
    return split(node, indices_or_sections, 0 if node.ndim == 1 else 1)


@operator("dsplit")
def dsplit(x: Any, indices_or_sections: Any) -> list[Node]:
    """:func:`split` along the third axis."""
    return split(x, indices_or_sections, 2)


@operator("unstack")
def unstack(x: Any, axis: int = 0) -> tuple[Node, ...]:
    """The slices along ``axis``, without it: the inverse of :func:`stack`."""
    node = as_node(x)
    at = normalize_axis(axis, node.ndim)
    return tuple(squeeze(cut(node, at, i, 1), at) for i in range(node.shape[at]))


# --- again ----------------------------------------------------------------------------------------------
@operator("tile")
def tile(x: Any, reps: Any) -> Node:
    """The whole tensor again and again: ``reps`` times along each axis."""
    node, times = as_node(x), shape_of(reps, what="reps")
    rank = max(node.ndim, len(times))
    shape, times = (1,) * (rank - node.ndim) + node.shape, (1,) * (rank - len(times)) + times
    pairs = list(zip(times, shape, strict=True))
    single = reshape(node, [n for extent in shape for n in (1, extent)])
    return reshape(broadcast_to(single, [n for pair in pairs for n in pair]), [math.prod(pair) for pair in pairs])


@operator("repeat")
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Node:
    """Each element, or slice along ``axis``, repeated; ``repeats`` is one number for all, or one for each."""
    node = as_node(x)
    if axis is None:
        node, axis = ravel(node), 0
    at = normalize_axis(axis, node.ndim)
    counts = shape_of(repeats, what="repeats")
    extent = node.shape[at]
    if len(counts) not in (1, extent):
        raise ShapeError(f"repeat needs one number or {extent} along axis {axis} of shape {node.shape}, got {len(counts)}")
    if len(set(counts)) > 1:
        return pick(node, at, np.repeat(np.arange(extent), counts))
    before, after = node.shape[: at + 1], node.shape[at + 1 :]
    count = counts[0] if counts else 1
    wide = broadcast_to(reshape(node, (*before, 1, *after)), (*before, count, *after))
    return reshape(wide, (*before[:-1], extent * count, *after))


# --- elsewhere ------------------------------------------------------------------------------------------
def pick(x: Node, axis: int, positions: np.ndarray[Any, Any]) -> Node:
    """The slices at known ``positions`` along ``axis``: runs of even steps, which are slices, put together."""
    runs: list[Node] = []
    at = 0
    while at < len(positions):
        rest = np.diff(positions[at:])
        step = int(rest[0]) if rest.size else 1
        uneven = np.flatnonzero(rest != step)
        count = 1 + (int(uneven[0]) if uneven.size else rest.size)
        start = int(positions[at])
        if step:
            runs.append(cut(x, axis, start, count, step))
        else:
            one = cut(x, axis, start, 1)
            runs.append(broadcast_to(one, [count if a == axis else extent for a, extent in enumerate(x.shape)]))
        at += count
    return join(runs, axis) if runs else cut(x, axis, 0, 0)


@operator("roll")
def roll(x: Any, shift: int | Sequence[int], axis: Axis = None) -> Node:
    """Moved on by ``shift`` positions along ``axis`` (flat without one); what falls off the end comes in at the start."""
    node = as_node(x)
    if axis is None:
        return reshape(roll(ravel(node), shift, 0), node.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    for by, at in zip(shifts.ravel().tolist(), axes.ravel().tolist(), strict=True):
        place = normalize_axis(at, node.ndim)
        extent = node.shape[place]
        first = whole(by, "roll: shift") % extent if extent else 0
        if first:
            node = join([cut(node, place, extent - first, first), cut(node, place, 0, extent - first)], place)
    return node


_REFLECTING = ("edge", "reflect", "symmetric", "wrap")


@operator("pad")
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Node:
    """More elements at the ends of the axes: ``pad_width`` is one number, (before, after), or such a pair for each axis.

    mode: ``"constant"`` (``constant_values``, in the forms of ``pad_width``, or a scalar node), ``"edge"`` (the outermost
    element), ``"reflect"`` (mirrored about it), ``"symmetric"`` (mirrored, itself included), ``"wrap"`` (from the other end).
    """
    node = as_node(x)
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (node.ndim, 2))
    except ValueError:
        raise ShapeError(f"pad_width {pad_width!r} is not a pair for each axis of shape {node.shape}") from None
    if widths.size and (widths.dtype.kind not in "iu" or (widths < 0).any()):
        raise ShapeError(f"pad_width must be whole numbers, not negative, got {pad_width!r}")
    pairs = [(int(before), int(after)) for before, after in widths]
    if mode in _REFLECTING:
        for axis, pair in enumerate(pairs):
            if any(pair):
                if not node.shape[axis]:
                    raise ShapeError(f"pad: an empty axis has nothing to pad with in mode {mode!r} (shape {node.shape})")
                extended = np.pad(np.arange(node.shape[axis]), pair, mode=mode)  # type: ignore[call-overload]
                node = pick(node, axis, extended)
        return node
    if mode != "constant":
        raise GraphError(f"pad: mode must be 'constant' or one of {', '.join(map(repr, _REFLECTING))}, got {mode!r}")
    if isinstance(constant_values, Node) or np.size(constant_values) == 1:
        value = constant_values if isinstance(constant_values, Node) else np.reshape(constant_values, ())
        return _padded(node, pairs, as_node(value, node.dtype))
    fillings = np.broadcast_to(np.asarray(constant_values), (node.ndim, 2))
    for axis, (pair, values) in enumerate(zip(pairs, fillings, strict=True)):
        for width, value in zip(((pair[0], 0), (0, pair[1])), values, strict=True):
            around = [width if a == axis else (0, 0) for a in range(node.ndim)]
            node = _padded(node, around, as_node(value, node.dtype))
    return node


def _padded(node: Node, pairs: Sequence[tuple[int, int]], value: Node) -> Node:
    """``value`` all around; that of a plain zero is the operation itself."""
    if value.shape:
        raise ShapeError(f"pad: a node as constant_values must be a scalar, got shape {value.shape}")
    start, step = [before for before, _ in pairs], [1] * node.ndim
    shape = shape_of([extent + sum(pair) for extent, pair in zip(node.shape, pairs, strict=True)])
    if shape == node.shape:
        return node
    placed = _pad(node, start, step, shape)
    if value is cast(constant(0, value.dtype), value.dtype):
        return placed
    inside = _pad(broadcast_to(constant(True, BOOL), node.shape), start, step, shape)
    return where(inside, placed, cast(value, node.dtype))
