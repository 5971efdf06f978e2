"""Slopes and integrals of sampled functions, under NumPy's names."""

from __future__ import annotations

from typing import Any

from graphc.frontend.movement import Axis
from graphc.frontend.pieces import join
from graphc.frontend.reductions import sum
from graphc.ir import Node, operator
from graphc.ops.pointwise import as_float, as_node, meet, not_equal
from graphc.ops.routines import cut
from graphc.ops.structural import broadcast_to, reshape
from graphc.types import BOOL, GraphError, ShapeError, normalize_axes, normalize_axis, whole

__all__ = [
    "diff",
    "gradient",
    "trapezoid",
]


@operator("diff")
def diff(x: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Node:
    """``x[i + 1] - x[i]`` along ``axis``, n times; of bools whether they differ.

    ``prepend`` and ``append`` stand before and behind ``x`` first: a scalar, or arrays that differ from it along ``axis`` only.
    """
    if whole(n, "diff: n") < 0:
        raise GraphError(f"diff: n must not be negative, got {n}")
    node = as_node(x)
    if n == 0:
        return node
    at = normalize_axis(axis, node.ndim)
    parts = meet([part for part in (prepend, node, append) if part is not None])
    edge = [1 if a == at else extent for a, extent in enumerate(node.shape)]
    node = join([part if part.ndim else broadcast_to(part, edge) for part in parts], at)
    for _ in range(min(n, node.shape[at])):
        count = max(node.shape[at] - 1, 0)
        later, earlier = cut(node, at, 1 if count else 0, count), cut(node, at, 0, count)
        node = not_equal(later, earlier) if node.dtype is BOOL else later - earlier
    return node


@operator("gradient")
def gradient(f: Any, *varargs: Any, axis: Axis = None, edge_order: int = 1) -> Any:
    """The slope of samples along ``axis``, by central differences, of second order also where the spacing is uneven.

    ``varargs``: nothing (distance 1), one spacing for all axes, or for each axis a scalar or the vector of coordinates.
    One tensor for one axis, a tuple for several (all without ``axis``).
    At the ends one-sided differences of ``edge_order`` 1 or 2.
    """
    node = as_float(f)
    axes = normalize_axes(axis, node.ndim) if axis is None else [normalize_axis(a, node.ndim) for a in _listed(axis)]
    spacings = list(varargs) or [1.0]
    spacings = spacings * len(axes) if len(spacings) == 1 and as_node(spacings[0]).ndim == 0 else spacings
    if len(spacings) != len(axes):
        raise GraphError(f"gradient needs one spacing, or one for each of {len(axes)} axes, got {len(spacings)}")
    if edge_order not in (1, 2):
        raise GraphError(f"gradient: edge_order must be 1 or 2, got {edge_order!r}")
    slopes = tuple(_slope(node, at, spacing, edge_order) for at, spacing in zip(axes, spacings, strict=True))
    return slopes[0] if len(axes) == 1 else slopes


def _listed(axis: Axis) -> list[int]:
    return list(axis) if isinstance(axis, tuple | list) else [axis]  # type: ignore[list-item]


def _slope(f: Node, at: int, spacing: Any, edge_order: int) -> Node:
    """Along one axis. With distances a before and b behind: ``(a/b (f+ - f) + b/a (f - f-)) / (a + b)``."""
    extent = f.shape[at]
    if extent <= edge_order:
        raise ShapeError(f"gradient along axis {at} of shape {f.shape} needs at least {edge_order + 1} elements")
    step = as_node(spacing, f.dtype)
    if step.ndim:
        if step.shape != (extent,):
            raise ShapeError(f"gradient: coordinates of shape {step.shape} do not fit the extent {extent} of axis {at}")
        step = reshape(diff(step), [extent - 1 if a == at else 1 for a in range(f.ndim)])
    rise = diff(f, axis=at)

    def of(node: Node, start: int, count: int) -> Node:
        """A part of the steps; all of them are one where the spacing is even."""
        return cut(node, at, start, count) if node.ndim else node

    first, last = (of(rise, i, 1) / of(step, i, 1) for i in (0, extent - 2))
    if extent == 2:
        return join([first, last], at)
    before, behind = (of(rise, i, extent - 2) for i in (0, 1))
    if not step.ndim:
        inner = (cut(f, at, 2, extent - 2) - cut(f, at, 0, extent - 2)) / (2 * step)
    else:
        a, b = of(step, 0, extent - 2), of(step, 1, extent - 2)
        inner = (a / b * behind + b / a * before) / (a + b)
    if edge_order == 2:  # the parabola through three samples
        near, far = of(step, 0, 1), of(step, 1, 1)
        first = first + (first - of(rise, 1, 1) / far) * (near / (near + far))
        near, far = of(step, extent - 2, 1), of(step, extent - 3, 1)
        last = last + (last - of(rise, extent - 3, 1) / far) * (near / (near + far))
    return join([first, inner, last], at)


@operator("trapezoid")
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Node:
    """The integral of samples along ``axis`` by the trapezoidal rule, at coordinates ``x`` or a distance ``dx`` apart.

    ``x`` is a vector along ``axis`` or broadcasts against ``y``. Ints become float32.
    """
    node = as_float(y)
    at = normalize_axis(axis, node.ndim)
    step = as_node(dx, node.dtype)
    if x is not None:
        places = as_node(x, node.dtype)
        step = diff(places, axis=0 if places.ndim == 1 else axis)
        if places.ndim == 1:
            step = reshape(step, [step.size if a == at else 1 for a in range(node.ndim)])
    count = max(node.shape[at] - 1, 0)
    later, earlier = cut(node, at, 1 if count else 0, count), cut(node, at, 0, count)
    return sum(step * (later + earlier) * 0.5, axis)
