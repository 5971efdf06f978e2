"""Sums of products: matmul and its relatives, all of them einsum with its labels written out.

    matmul   i k,  k j  ->  i j            outer   i,  j  ->  i j            inner   i k,  j k  ->  i j

A label that two operands share and the result has not is summed by the operation :func:`contract`. What is left of a
general einsum (a label repeated in one operand, or in one operand alone, more than two operands) comes before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count
from types import EllipsisType
from typing import Any

import numpy as np

from graphc.frontend.diagonals import diagonal
from graphc.frontend.movement import moveaxis, ravel, transpose
from graphc.frontend.pieces import stack
from graphc.ir import Node, operator
from graphc.ops.pointwise import broadcast_shapes, cast, meet, multiply
from graphc.ops.routines import cut
from graphc.ops.structural import contract, reduce, reshape, zeros_like
from graphc.types import BOOL, INT32, GraphError, ShapeError, normalize_axis

__all__ = [
    "cross",
    "dot",
    "einsum",
    "inner",
    "kron",
    "matmul",
    "outer",
    "tensordot",
    "vdot",
    "vecdot",
]

Labels = tuple[int, ...]
Term = tuple[Node, Labels]


# --- the sum of products --------------------------------------------------------------------------------
def product(values: Sequence[Any], labels: Sequence[Sequence[int]], out: Sequence[int]) -> Node:
    """The sum of the products of ``values`` over all labels that are not in ``out``. Axes of one label have one extent, or 1,
    which repeats. Ints are multiplied and added as ints; of bools it is whether there is a product that is true.
    """
    nodes = meet(values)
    truth = nodes[0].dtype is BOOL
    extents: dict[int, int] = {}
    for node, own in zip(nodes, labels, strict=True):
        for label, extent in zip(own, node.shape, strict=True):
            if extents.setdefault(label, extent) == 1:
                extents[label] = extent
            elif extent not in (1, extents[label]):
                shapes = " and ".join(str(node.shape) for node in nodes)
                raise ShapeError(f"shapes {shapes} do not fit together: {extents[label]} meets {extent}")
    terms = [
        _plain(cast(node, INT32) if truth else node, tuple(own), extents)
        for node, own in zip(nodes, labels, strict=True)
    ]
    for at, (node, own) in enumerate(terms):  # what no other operand has is summed before it is multiplied
        elsewhere = {*out, *chain.from_iterable(term[1] for term in terms[:at] + terms[at + 1 :])}
        alone = [axis for axis, label in enumerate(own) if label not in elsewhere]
        terms[at] = reduce("sum", node, alone), tuple(label for label in own if label in elsewhere)
    for places in _order(terms, out):
        step = [terms.pop(place) for place in sorted(places, reverse=True)][::-1]
        while len(step) > 1:
            rest = (*terms, *step[2:])
            later = {*out, *chain.from_iterable(own for _, own in rest)}
            kept = tuple(label for label in dict.fromkeys((*step[0][1], *step[1][1])) if label in later)
            step[:2] = [_pair(step[0], step[1], kept if rest else tuple(out))]
        terms.append(step[0])
    ((node, own),) = terms
    result = transpose(node, axes=[own.index(label) for label in out])
    return cast(result, BOOL) if truth else result


def _plain(node: Node, labels: Labels, extents: dict[int, int]) -> Term:
    """Each label once, and none along which this operand only repeats."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            if node.shape[first] != node.shape[second]:
                raise ShapeError(f"a diagonal of shape {node.shape} needs equal extents along axes {first} and {second}")
            node = diagonal(node, 0, first, second)
            labels = (*labels[:first], *labels[first + 1 : second], *labels[second + 1 :], label)
    kept = [axis for axis, label in enumerate(labels) if node.shape[axis] == extents[label]]
    return reshape(node, [node.shape[axis] for axis in kept]), tuple(labels[axis] for axis in kept)


def _order(terms: Sequence[Term], out: Sequence[int]) -> list[tuple[int, ...]]:
    """Which operands to multiply with each other, step by step; a result stands behind those that are left. The cheapest
    order of up to five, a good one of more (NumPy's einsum_path)."""
    if len(terms) < 3:
        return [tuple(range(len(terms)))]
    small = dict(zip(sorted({label for _, own in terms for label in own}), count(), strict=False))
    arguments: list[Any] = []
    for node, own in terms:
        arguments += np.broadcast_to(0.0, node.shape), [small[label] for label in own]
    search = "optimal" if len(terms) <= 5 else "greedy"
    path, _ = np.einsum_path(*arguments, [small[label] for label in out], optimize=(search, 2**62))
    return [places for places in path[1:] if isinstance(places, tuple)]


def _pair(a: Term, b: Term, kept: Labels) -> Term:
    """The product of two operands, summed over the labels that are not in ``kept``; both have these."""
    (left, a_axes), (right, b_axes) = a, b
    summed = tuple(label for label in a_axes if label not in kept)
    if summed and left.dtype.is_float:
        return contract(left, right, a_axes, b_axes, kept), kept
    both = multiply(*(_laid(node, own, (*kept, *summed)) for node, own in (a, b)))
    return reduce("sum", both, range(len(kept), both.ndim)), kept


def _laid(node: Node, labels: Labels, every: Labels) -> Node:
    """Axes in the order of ``every``, with extents of 1 for the labels that the operand has not."""
    order = [labels.index(label) for label in every if label in labels]
    moved = transpose(node, axes=order)
    extents = iter(moved.shape)
    return reshape(moved, [next(extents) if label in labels else 1 for label in every])


# --- matrices and vectors ---------------------------------------------------------------------------------
@operator("matmul")
@operator("linalg.matmul")
def matmul(a: Any, b: Any) -> Node:
    """NumPy's matmul: 1-D operands are vectors, leading axes broadcast."""
    a, b = meet([a, b])
    if not a.shape or not b.shape:
        raise ShapeError(f"matmul needs at least one axis on each side, got shapes {a.shape} and {b.shape}; use `*`")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ShapeError(f"matmul of shapes {a.shape} and {b.shape}: {a.shape[-1]} columns meet {inner} rows")
    k, i, j, first = 0, 1, 2, 3  # labels; batch axes count from `first`
    batch = range(first, first + len(broadcast_shapes(a.shape[:-2], b.shape[:-2])))
    rows, columns = (i,) if a.ndim > 1 else (), (j,) if b.ndim > 1 else ()
    a_axes, b_axes = (*_last(batch, a.ndim - 2), *rows, k), (*_last(batch, b.ndim - 2), k, *columns)
    return product([a, b], [a_axes, b_axes], (*batch, *rows, *columns))


def _last(labels: Sequence[int], number: int) -> Sequence[int]:
    return labels[len(labels) - max(number, 0) :]


@operator("dot")
def dot(a: Any, b: Any) -> Node:
    """The sums of products over the last axis of ``a`` and the last but one of ``b`` (the only one of a vector); all other axes
    of both stay. With a scalar, the product."""
    a, b = meet([a, b])
    if not a.shape or not b.shape:
        return multiply(a, b)
    return tensordot(a, b, (-1, max(b.ndim - 2, 0)))


@operator("vdot")
def vdot(a: Any, b: Any) -> Node:
    """The sum of the products of all elements, taken in row-major order."""
    a, b = meet([a, b])
    if a.size != b.size:
        raise ShapeError(f"vdot needs as many elements on both sides, got shapes {a.shape} and {b.shape}")
    return product([ravel(a), ravel(b)], [(0,), (0,)], ())


@operator("inner")
def inner(a: Any, b: Any) -> Node:
    """The sums of products along the last axes; all other axes of both stay. With a scalar the product."""
    a, b = meet([a, b])
    return tensordot(a, b, (-1, -1)) if a.shape and b.shape else multiply(a, b)


@operator("vecdot")
@operator("linalg.vecdot")
def vecdot(a: Any, b: Any, axis: int = -1) -> Node:
    """The sum of products along ``axis``; the other axes broadcast."""
    a, b = (moveaxis(node, normalize_axis(axis, node.ndim), -1) for node in meet([a, b]))
    if a.shape[-1] != b.shape[-1]:
        raise ShapeError(f"vecdot along axis {axis}: extents {a.shape[-1]} and {b.shape[-1]} differ")
    batch = range(1, max(a.ndim, b.ndim))
    return product([a, b], [(*_last(batch, node.ndim - 1), 0) for node in (a, b)], batch)


@operator("outer")
@operator("linalg.outer")
def outer(a: Any, b: Any) -> Node:
    """``a[i] * b[j]`` for all elements of both, taken in row-major order."""
    a, b = (ravel(node) for node in meet([a, b]))
    return product([a, b], [(0,), (1,)], (0, 1))


@operator("kron")
def kron(a: Any, b: Any) -> Node:
    """The Kronecker product: blocks of ``b``, one for each element of ``a`` and multiplied by it."""
    a, b = meet([a, b])
    rank = max(a.ndim, b.ndim)
    blocks, inside = range(rank), range(rank, 2 * rank)
    places = [place for pair in zip(blocks, inside, strict=True) for place in pair]
    a, b = (reshape(node, (1,) * (rank - node.ndim) + node.shape) for node in (a, b))
    shape = [m * n for m, n in zip(a.shape, b.shape, strict=True)]
    return reshape(product([a, b], [blocks, inside], places), shape)


@operator("cross")
@operator("linalg.cross")
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Node:
    """The cross product of vectors of three (two: the third being 0) along ``axisa`` and ``axisb``; the other axes broadcast.

    It lies along ``axisc``; of two vectors of two it is the third component alone. ``axis`` stands for all three.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = (moveaxis(node, at, -1) for node, at in zip(meet([a, b]), (axisa, axisb), strict=True))
    if any(node.shape[-1] not in (2, 3) for node in (a, b)):
        raise ShapeError(f"cross takes vectors of two or three, got extents {a.shape[-1]} and {b.shape[-1]}")

    def parts(node: Node) -> list[Node]:
        last = node.ndim - 1
        found = [reshape(cut(node, last, k, 1), node.shape[:-1]) for k in range(node.shape[-1])]
        return found if len(found) == 3 else [*found, zeros_like(found[0])]

    (a0, a1, a2), (b0, b1, b2) = parts(a), parts(b)
    third = a0 * b1 - a1 * b0
    if a.shape[-1] == b.shape[-1] == 2:
        return third
    return moveaxis(stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, third], -1), -1, axisc)


@operator("tensordot")
@operator("linalg.tensordot")
def tensordot(a: Any, b: Any, axes: Any = 2) -> Node:
    """The sum of products over ``axes``: the last of ``a`` with the first of ``b`` by their number, or two (sequences of) axes.

    All other axes of ``a`` stay, then those of ``b``.
    """
    a, b = meet([a, b])
    if isinstance(axes, int | np.integer):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ShapeError(f"tensordot over {axes} axes of shapes {a.shape} and {b.shape}")
        given: Any = range(a.ndim - int(axes), a.ndim), range(int(axes))
    else:
        given = [part if isinstance(part, tuple | list) else (part,) for part in axes]
    summed = [[normalize_axis(axis, node.ndim) for axis in part] for node, part in zip((a, b), given, strict=True)]
    if len(summed[0]) != len(summed[1]) or any(len(set(part)) != len(part) for part in summed):
        raise ShapeError(f"tensordot needs as many different axes on both sides, got {axes!r}")
    for p, q in zip(*summed, strict=True):
        if a.shape[p] != b.shape[q]:
            raise ShapeError(f"sums of products of shapes {a.shape} and {b.shape}: axes {p} and {q} differ in extent")
    a_axes = tuple(range(a.ndim))
    pairs = dict(zip(summed[1], summed[0], strict=True))
    b_axes = tuple(pairs.get(axis, a.ndim + axis) for axis in range(b.ndim))
    kept = [label for label in a_axes if label not in summed[0]] + [label for label in b_axes if label >= a.ndim]
    return product([a, b], [a_axes, b_axes], kept)


# --- einsum -----------------------------------------------------------------------------------------------
@operator("einsum")
def einsum(*operands: Any, optimize: Any = True) -> Node:
    """NumPy's einsum: ``einsum("ij,jk->ik", a, b)``, or with lists of whole numbers, ``einsum(a, [0, 1], b, [1, 2], [0, 2])``.

    A label repeated in one operand takes its diagonal, one that is missing from the result is summed over; ``...`` stands for
    axes that broadcast. Without a result, it has what occurs once, in alphabetical order. Several operands are multiplied in
    the order that takes the least arithmetic. ``optimize`` is NumPy's, and means nothing here.
    """
    values, spec, given = _read(operands)
    nodes = meet(values)
    read: list[list[Any]] = []  # labels; the axes of an ellipsis are numbered from its end
    dots = 0
    for node, part in zip(nodes, spec, strict=True):
        own = list(part)
        left = node.ndim - len([label for label in own if label is not ...])
        if left < 0 or (left > 0 and ... not in own):
            raise ShapeError(f"einsum: the labels {_text(own)} do not fit the shape {node.shape}")
        if ... in own:
            at = own.index(...)
            own[at : at + 1] = [(-k,) for k in range(left, 0, -1)]
            dots = max(dots, left)
        read.append(own)
    names = list(chain.from_iterable(read))
    spread = [(-k,) for k in range(dots, 0, -1)]
    if given is None:
        out = [*spread, *sorted(name for name in set(names) if not isinstance(name, tuple) and names.count(name) == 1)]
    else:
        if dots and ... not in given:
            raise GraphError(f"einsum: the result {_text(given)} needs `...` for the axes that broadcast")
        out = [name for label in given for name in (spread if label is ... else [label])]
    unknown = [name for name in out if name not in names]
    if unknown or len(set(out)) != len(out):
        wrong = f"{unknown[0]!r} is in no operand" if unknown else "a label occurs twice"
        raise GraphError(f"einsum: the result {_text(out)} cannot be: {wrong}")
    numbers = dict(zip(dict.fromkeys(names), count(), strict=False))
    return product(nodes, [[numbers[name] for name in own] for own in read], [numbers[name] for name in out])


Spec = list[list[Any]]


def _read(operands: tuple[Any, ...]) -> tuple[list[Any], Spec, list[Any] | None]:
    """Operands, the labels of each, and those of the result if it is said; from either form of the call."""
    if not operands or not isinstance(operands[0], str):
        values, spec = list(operands[: len(operands) // 2 * 2 : 2]), [list(labels) for labels in operands[1::2]]
        given = list(operands[-1]) if len(operands) % 2 else None
    else:
        values = list(operands[1:])
        left, arrow, right = operands[0].replace(" ", "").partition("->")
        spec, given = [_letters(part) for part in left.split(",")], _letters(right) if arrow else None
    if not values or len(values) != len(spec):
        raise GraphError(f"einsum needs operands, and labels for each: got {len(values)}, and labels for {len(spec)}")
    return values, spec, given


def _letters(text: str) -> list[Any]:
    before, dots, after = text.partition("...")
    labels: list[str | EllipsisType] = [*before, ..., *after] if dots else [*before]
    for label in labels:
        if label is not ... and not (label.isascii() and label.isalpha()):
            raise GraphError(f"einsum: {label!r} in {text!r} is no label; expected letters, and `...` once")
    return labels


def _text(labels: Sequence[Any]) -> str:
    plain = "".join("..." if label is ... or isinstance(label, tuple) else str(label) for label in labels)
    return repr(plain)
