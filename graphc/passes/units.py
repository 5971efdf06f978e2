"""A graph that is linear in one node, at every unit vector of that node at once: its matrix, as one more graph.

Gradients are such graphs: ``vjp(y, x, u)`` is linear in ``u``, and at ``u = e_0, e_1, ...`` it gives the rows of the
Jacobian. Instead of one copy of the graph for each row, every node that depends on ``u`` gets axes in front, those of
``u``, along which the unit vectors run. Most of what stands there is zero in a known place, and is not even written down:

    u = units of (3,)           u[b, i] = 1 where b == i                the axis i is *tied* to b, the rest is 1
    g = u * s                   g[b, i] = s[i] where b == i             still tied
    h = contract g[i] W[i, k]   h[b, k] = s[b] W[b, k]                  the tie picks i = b: a product, no sum

A tie is written out (as a choice by ``b == i``) only where it has to be: at the end, or where an operation moves
elements along the tied axis. So the Jacobian of ``f(X @ w)`` by ``w`` costs what ``X`` has elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from graphc.ir import Node, make, toposort
from graphc.ops.gather import gather
from graphc.ops.pointwise import Pointwise, equal, multiply, where
from graphc.ops.structural import (
    broadcast_to,
    constant,
    contract,
    iota,
    pad,
    permute,
    reduce,
    reshape,
    slice_,
    unspread,
    zeros_like,
)
from graphc.types import GradientError

__all__ = ["at_units"]

# Operations that are zero where the operands at these places are: they leave a tie a tie.
_KEEPS_ZEROS = {
    "add": (0, 1), "subtract": (0, 1), "negative": (0,), "multiply": (0, 1), "divide": (0,), "where": (1, 2), "cast": (0,),
    "stop_gradient": (0,), "broadcast_to": (0,), "reshape": (0,), "permute": (0,), "slice": (0,), "pad": (0,), "sum": (0,),
    "gather": (0,), "contract": (0, 1),
}  # fmt: skip

# An operation without a rule here is written once for each unit vector, up to so many.
LARGEST_UNROLLED = 1024


@dataclass(frozen=True)
class _Units:
    """What stands for a node at all unit vectors.

    node: of shape (extents of the axes in ``own``, those of the node itself). own: the axes of the unit vectors, in order,
    that are written out. ties: for each of the others the axis of the node that it is tied to; where the two positions
    differ, the value is zero.
    """

    node: Node
    own: tuple[int, ...]
    ties: tuple[tuple[int, int], ...]

    @property
    def front(self) -> tuple[int, ...]:
        """The extents of the axes in front."""
        return self.node.shape[: len(self.own)]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the node that this stands for."""
        return self.node.shape[len(self.own) :]


def at_units(outputs: Sequence[Node], source: Node) -> list[Node]:
    """``outputs``, each linear in ``source``, at all unit vectors: of shape (*source.shape, *output.shape).

    Raises :class:`GradientError` for an operation that this module does not know and that would have to be written more
    than :data:`LARGEST_UNROLLED` times.
    """
    one = broadcast_to(constant(1, source.dtype), source.shape)
    known = {source: _Units(one, (), tuple((axis, axis) for axis in range(source.ndim)))}
    for node in toposort(outputs):
        if node is not source and any(operand in known for operand in node.operands):
            known[node] = _step(node, [known.get(operand, operand) for operand in node.operands])
    results = []
    for output in outputs:
        if output in known:
            results.append(_written_out(known[output]).node)
        else:
            results.append(broadcast_to(zeros_like(output), (*source.shape, *output.shape)))
    return results


# --- ties ---------------------------------------------------------------------------------------------------
def _written_out(units: _Units, axes: Sequence[int] | None = None) -> _Units:
    """With the ties of these axes of the unit vectors (of all, without any) written as choices."""
    for axis, tied_to in units.ties:
        if axes is not None and axis not in axes:
            continue
        extent, place = units.shape[tied_to], sum(other < axis for other in units.own)
        own = (*units.own[:place], axis, *units.own[place:])
        node = reshape(units.node, (*units.node.shape[:place], 1, *units.node.shape[place:]))
        positions = [
            reshape(iota(extent), tuple(extent if a == along else 1 for a in range(node.ndim)))
            for along in (place, len(own) + tied_to)
        ]
        chosen = where(equal(*positions), node, 0) if extent != 1 else node
        units = _Units(chosen, own, tuple(tie for tie in units.ties if tie[0] != axis))
    return units


def _alike(items: Sequence[_Units]) -> list[_Units]:
    """With the same ties, and so the same axes written out, in all."""
    common = set(items[0].ties).intersection(*(item.ties for item in items[1:]))
    return [_written_out(item, [axis for axis, to in item.ties if (axis, to) not in common]) for item in items]


def _kept(units: _Units, moved: Callable[[int], int | None]) -> tuple[_Units, tuple[tuple[int, int], ...]]:
    """Ties under a movement: ``moved`` says where an axis goes, or None where its elements do not stay in line."""
    lost = [axis for axis, to in units.ties if moved(to) is None]
    ties = []
    for axis, to in units.ties:
        place = moved(to)
        if place is not None:
            ties.append((axis, place))
    return _written_out(units, lost), tuple(ties)


# --- one node -----------------------------------------------------------------------------------------------
def _step(node: Node, operands: Sequence[Node | _Units]) -> _Units:
    """What stands for ``node``, given what stands for its operands (themselves, where they do not depend on the source)."""
    name = node.op.name
    dependent = [place for place, operand in enumerate(operands) if isinstance(operand, _Units)]
    if not set(dependent) <= set(_KEEPS_ZEROS.get(name, ())):
        operands = [_written_out(operand) if isinstance(operand, _Units) else operand for operand in operands]
    if isinstance(node.op, Pointwise) or name in ("cast", "stop_gradient"):
        return _elementwise(node, operands)
    if len(dependent) == 1 and name == "contract":
        return _contract(operands, **node.attrs)
    if name.startswith("scatter_"):
        return _scatter(node, operands, **node.attrs)
    if name in _SOLVES and not set(dependent) & set(_SOLVES[name]):
        return _solves(node, operands)
    rule = _RULES.get(name)
    if len(dependent) == 1 and rule is not None:
        (units,) = [operand for operand in operands if isinstance(operand, _Units)]
        if isinstance(operands[0], _Units):
            moved: _Units = rule(node, units, **node.attrs)
            return moved
    return _unrolled(node, operands)


def _elementwise(node: Node, operands: Sequence[Node | _Units]) -> _Units:
    alike = iter(_alike([operand for operand in operands if isinstance(operand, _Units)]))
    moved = [next(alike) if isinstance(operand, _Units) else operand for operand in operands]
    first = next(operand for operand in moved if isinstance(operand, _Units))
    shape = first.node.shape
    nodes = [operand.node if isinstance(operand, _Units) else broadcast_to(operand, shape) for operand in moved]
    return _Units(make(node.op, *nodes, **node.attrs), first.own, first.ties)


def _broadcast(node: Node, units: _Units, *, shape: tuple[int, ...]) -> _Units:
    new = len(shape) - len(units.shape)
    units, ties = _kept(units, lambda axis: axis + new if units.shape[axis] == shape[axis + new] else None)
    spaced = reshape(units.node, (*units.front, *[1] * new, *units.shape))
    return _Units(broadcast_to(spaced, (*units.front, *shape)), units.own, ties)


def _reshape(node: Node, units: _Units, *, shape: tuple[int, ...]) -> _Units:
    def moved(axis: int) -> int | None:
        """The axis of the same extent with as many elements before it."""
        before, extent = prod(units.shape[:axis]), units.shape[axis]
        found = [a for a, e in enumerate(shape) if e == extent and prod(shape[:a]) == before]
        return found[0] if found and extent > 1 else None

    kept, ties = _kept(units, moved)
    return _Units(reshape(kept.node, (*kept.front, *shape)), kept.own, ties)


def _permute(node: Node, units: _Units, *, axes: tuple[int, ...]) -> _Units:
    units, ties = _kept(units, axes.index)
    front = len(units.own)
    return _Units(permute(units.node, (*range(front), *(axis + front for axis in axes))), units.own, ties)


def _window(build: Callable[..., Node]) -> Callable[..., _Units]:
    """The rule of a slice or a pad: a tie stays along an axis that is taken whole."""

    def rule(
        node: Node, units: _Units, *, start: tuple[int, ...], step: tuple[int, ...], shape: tuple[int, ...]
    ) -> _Units:
        def moved(axis: int) -> int | None:
            whole = start[axis] == 0 and step[axis] == 1 and shape[axis] == units.shape[axis]
            return axis if whole else None

        kept, ties = _kept(units, moved)
        front = kept.front
        zeros, ones = [0] * len(front), [1] * len(front)
        return _Units(build(kept.node, (*zeros, *start), (*ones, *step), (*front, *shape)), kept.own, ties)

    return rule


def _sum(node: Node, units: _Units, *, axes: tuple[int, ...]) -> _Units:
    """Over a tied axis only one element is not zero, that at the position of the unit vector: nothing is to be added."""
    picked = {to: axis for axis, to in units.ties if to in axes}
    rest = [axis for axis in range(len(units.shape)) if axis not in picked]
    own = tuple(sorted((*units.own, *picked.values())))
    place = {axis: at for at, axis in enumerate(units.own)} | {axis: len(units.own) + to for to, axis in picked.items()}
    turned = permute(units.node, (*(place[axis] for axis in own), *(len(units.own) + axis for axis in rest)))
    total = reduce("sum", turned, tuple(len(own) + rest.index(axis) for axis in axes if axis in rest))
    left = [axis for axis in range(len(units.shape)) if axis not in axes]
    return _Units(total, own, tuple((axis, left.index(to)) for axis, to in units.ties if to not in axes))


def _gather(node: Node, units: _Units, *, axis: int, wrap: bool = False) -> _Units:
    indices = node.operands[1:]
    after = axis + len(indices)
    units, ties = _kept(
        units, lambda other: other if other < axis else None if other < after else other - len(indices) + 1
    )
    spread = [broadcast_to(index, (*units.front, *index.shape)) for index in indices]
    return _Units(gather(units.node, spread, axis + len(units.own), wrap=wrap), units.own, ties)


def _scatter(node: Node, operands: Sequence[Node | _Units], *, axis: int, wrap: bool = False) -> _Units:
    """Once for each unit vector, which is one more position before the axis."""
    first = next(operand for operand in operands if isinstance(operand, _Units))
    whole = [
        operand.node if isinstance(operand, _Units) else broadcast_to(operand, (*first.front, *operand.shape))
        for operand in operands
    ]
    attrs = {**node.attrs, "axis": axis + len(first.own)}
    return _Units(make(node.op, *whole, **attrs), first.own, ())


def _contract(
    operands: Sequence[Node | _Units], *, a_axes: Sequence[int], b_axes: Sequence[int], out_axes: Sequence[int]
) -> _Units:
    """A tied axis that would be summed is kept instead, as the axis of the unit vectors."""
    a, b = operands
    swapped = isinstance(b, _Units)
    units, other = (b, a) if swapped else (a, b)
    labels, other_labels = (b_axes, a_axes) if swapped else (a_axes, b_axes)
    assert isinstance(units, _Units)
    assert isinstance(other, Node)
    free = 1 + max((*a_axes, *b_axes), default=0)
    label = {axis: free + axis for axis in units.own}
    given = (*label.values(), *labels)
    label |= {axis: labels[to] for axis, to in units.ties if labels[to] not in out_axes}
    own = tuple(sorted(label))
    wanted = (*(label[axis] for axis in own), *out_axes)
    ties = tuple((axis, out_axes.index(labels[to])) for axis, to in units.ties if axis not in label)
    if set(given) | set(other_labels) == set(wanted):  # nothing is added up: a product
        extents = dict(zip((*given, *other_labels), (*units.node.shape, *other.shape), strict=True))
        shape = [extents[each] for each in wanted]
        product = _spread(other, other_labels, wanted, shape)
        if not _is_one(units.node):
            product = multiply(_spread(units.node, given, wanted, shape), product)
        return _Units(product, own, ties)
    if swapped:
        return _Units(contract(other, units.node, other_labels, given, wanted), own, ties)
    return _Units(contract(units.node, other, given, other_labels, wanted), own, ties)


# Solves of linear equations, and the places of the operands that are the matrix.
_SOLVES = {"triangular_solve": (0,), "lu_solve": (0,), "solution": (1,)}


def _solves(node: Node, operands: Sequence[Node | _Units]) -> _Units:
    """The right sides at all unit vectors as columns beside each other, for the one matrix."""
    first = next(operand for operand in operands if isinstance(operand, _Units))
    front, shape, rank = first.front, first.shape, len(first.front)
    count, last = prod(front), len(first.front) + len(first.shape) - 1
    turned = (*range(rank, last), *range(rank), last)

    def beside(operand: Node | _Units) -> Node:
        if not isinstance(operand, _Units):
            return operand
        return reshape(permute(operand.node, turned), (*shape[:-1], count * shape[-1]))

    found = make(node.op, *map(beside, operands), **node.attrs)
    back = [turned.index(axis) for axis in range(last + 1)]
    return _Units(permute(reshape(found, (*shape[:-1], *front, shape[-1])), back), first.own, ())


def _spread(node: Node, labels: Sequence[int], wanted: Sequence[int], shape: Sequence[int]) -> Node:
    """A node with axes of these labels over the axes of the wanted ones, which have this shape."""
    turned = permute(node, [labels.index(each) for each in wanted if each in labels])
    spaced = reshape(turned, [extent if each in labels else 1 for each, extent in zip(wanted, shape, strict=True)])
    return broadcast_to(spaced, shape)


def _is_one(node: Node) -> bool:
    """Whether every element is the constant one."""
    node = unspread(node)
    return node.op.name == "constant" and node.shape == () and bool(node.attrs["value"].array == 1)


def _unrolled(node: Node, operands: Sequence[Node | _Units]) -> _Units:
    """One node for each unit vector, for an operation without a rule."""
    written = [_written_out(operand) if isinstance(operand, _Units) else operand for operand in operands]
    first = next(operand for operand in written if isinstance(operand, _Units))
    count = prod(first.front)
    if count > LARGEST_UNROLLED:
        raise GradientError(
            f"a Jacobian through {node.op.name} writes it once for each of {count:,} elements, of at most "
            f"{LARGEST_UNROLLED:,}; take single rows with graphc.vjp or columns with graphc.jvp"
        )
    total: Node | None = None
    for number in range(count):
        picked = [_picked(operand, number) if isinstance(operand, _Units) else operand for operand in written]
        result = make(node.op, *picked, **node.attrs)
        start = (number, *[0] * result.ndim)
        placed = pad(reshape(result, (1, *result.shape)), start, [1] * len(start), (count, *result.shape))
        total = placed if total is None else total + placed
    assert total is not None
    return _Units(reshape(total, (*first.front, *node.shape)), first.own, ())


def _picked(units: _Units, number: int) -> Node:
    """The value at one unit vector."""
    flat = reshape(units.node, (prod(units.front), *units.shape))
    start = (number, *[0] * len(units.shape))
    return reshape(slice_(flat, start, [1] * len(start), (1, *units.shape)), units.shape)


_RULES: dict[str, Callable[..., Any]] = {
    "broadcast_to": _broadcast,
    "reshape": _reshape,
    "permute": _permute,
    "slice": _window(slice_),
    "pad": _window(pad),
    "sum": _sum,
    "gather": _gather,
}
