"""Which intermediate results are stored by columns.

A tensor is stored row by row, but for a few whose rows are short and which are reduced row by row: the scores of a
classifier, [32, 10], and what a softmax makes of them. By columns, each step of that is work on whole vectors of rows, and
the products that make and read such scores have them as they need them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from graphc.ir import Node, consumers
from graphc.ops.pointwise import Pointwise

__all__ = ["SHORT", "by_columns"]

# A row is short that does not fill the largest vector, and whose sum is taken in plain order in either way.
SHORT = 16
# With fewer rows, columns do not fill vectors either.
FEWEST_ROWS = 8

REDUCTIONS = ("sum", "prod", "max", "min", "argmax", "argmin")


def by_columns(order: Sequence[Node], wanted: Collection[Node]) -> frozenset[Node]:
    """The nodes of a graph in ``order`` that are stored by columns, none of them ``wanted`` as it is."""
    readers, as_they_are = consumers(order), set(wanted)
    seen: set[Node] = set()
    found: set[Node] = set()
    for node in order:
        if _starts(node) and node not in seen:
            nodes = _together(node, readers)
            seen |= nodes
            if nodes.isdisjoint(as_they_are) and all(_follows(each, nodes, readers) for each in nodes) and _pays(nodes, readers):
                found |= nodes
    return frozenset(found)


def _starts(node: Node) -> bool:
    """Whether a node is a product with many short rows."""
    if node.op.name != "contract" or node.ndim != 2:
        return False
    rows, columns = node.shape
    a, b, out = (set(node.attrs[key]) for key in ("a_axes", "b_axes", "out_axes"))
    plain = len(a & out) == len(b & out) == 1 and not a & b & out
    return plain and 1 < columns < SHORT and rows >= FEWEST_ROWS


def _together(start: Node, readers: Mapping[Node, Sequence[Node]]) -> set[Node]:
    """``start`` and what is computed element by element from it, or along with it."""
    nodes, stack = {start}, [start]
    while stack:
        node = stack.pop()
        near = [reader for reader in readers[node] if _elementwise(reader)]
        near += [operand for operand in node.operands if not _repeats(operand)] if _elementwise(node) else []
        stack += [other for other in near if other not in nodes]
        nodes.update(near)
    return nodes


def _elementwise(node: Node) -> bool:
    return isinstance(node.op, Pointwise) or node.op.name in ("cast", "stop_gradient")


def _repeats(node: Node) -> bool:
    """Whether a node repeats something smaller, which takes no memory of its own."""
    return node.op.name == "broadcast_to" and node.operands[0].size < node.size


def _follows(node: Node, nodes: Collection[Node], readers: Mapping[Node, Sequence[Node]]) -> bool:
    """Whether a node can be stored by columns, and all that read it lose nothing by that."""
    return (_elementwise(node) or _starts(node)) and all(
        reader in nodes
        or reader.op.name in REDUCTIONS
        or _multiplies(reader, readers)
        or (reader.op.name == "gather" and reader.attrs["axis"] == 1 and node is reader.operands[0])
        for reader in readers[node]
    )


def _multiplies(node: Node, readers: Mapping[Node, Sequence[Node]]) -> bool:
    """Whether a node is a product, or a transposition for products alone."""
    turned = node.op.name == "permute" and bool(readers[node])
    return node.op.name == "contract" or (turned and all(each.op.name == "contract" for each in readers[node]))


def _pays(nodes: Collection[Node], readers: Mapping[Node, Sequence[Node]]) -> bool:
    """Whether a reduction goes along rows."""
    return any(r.op.name in REDUCTIONS and r.attrs["axes"] == (1,) for node in nodes for r in readers[node])
