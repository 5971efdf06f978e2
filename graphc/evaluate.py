"""The meaning of a graph in NumPy: the oracle of the tests, and what runs where there is no compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from graphc.ir import Array, Node, Parameter, inputs_of, toposort
from graphc.types import GraphError, InputTypeError, InputValueError

__all__ = ["evaluate", "evaluate_all", "program"]


@overload
def evaluate(node: Node, feeds: Mapping[Any, Any] | None = None) -> Array: ...
@overload
def evaluate(node: Sequence[Node], feeds: Mapping[Any, Any] | None = None) -> list[Array]: ...
def evaluate(node: Node | Sequence[Node], feeds: Mapping[Any, Any] | None = None) -> Array | list[Array]:
    """The value of a node, or of several (a list), with inputs given by name or node; parameters have their present values.

    Results are arrays of their own. Feeds may name more inputs than the nodes reach. Raises :class:`InputTypeError` for a
    missing input or a wrong dtype, :class:`InputValueError` for a wrong shape or an integer that does not fit.

    >>> import graphc as gx
    >>> x, y = gx.input("x"), gx.input("y")
    >>> evaluate(x + y, {"x": 1, y: 2}).item()
    3.0
    """
    nodes = [node] if isinstance(node, Node) else list(node)
    for one in nodes:
        if not isinstance(one, Node):
            raise GraphError(f"evaluate takes a node or a sequence of nodes, got {one!r} in {node!r}")
    order = toposort(nodes)
    named = {key.name if isinstance(key, Node) else key: value for key, value in (feeds or {}).items()}
    values: dict[Node, Array] = {}
    for source in inputs_of(order):
        if source.name not in named:
            raise InputTypeError(f"input {source.name!r} is missing: expected {source.type}")
        value = np.asarray(named[source.name])
        if value.shape != source.shape:
            raise InputValueError(f"input {source.name!r} has shape {value.shape}, expected {source.type}")
        if not np.can_cast(value.dtype, source.dtype.numpy, "same_kind"):
            raise InputTypeError(f"input {source.name!r} has dtype {value.dtype}, expected {source.type}")
        with np.errstate(all="ignore"):
            values[source] = value.astype(source.dtype.numpy)
        if value.dtype.kind in "iu" and source.dtype.is_int and (values[source] != value).any():
            raise InputValueError(f"input {source.name!r} has an integer that does not fit in {source.dtype}")
    # Movement in NumPy gives views, of a parameter for instance: what changes later must not show in a result.
    results = [np.array(result) for result in evaluate_all(nodes, values)]
    return results[0] if isinstance(node, Node) else results


def evaluate_all(outputs: Sequence[Node], values: Mapping[Node, Array]) -> list[Array]:
    """The values of ``outputs`` given arrays for the inputs (exactly of their types); nothing is checked."""
    return program(outputs)(values)


def program(outputs: Sequence[Node]) -> Callable[[Mapping[Node, Array]], list[Array]]:
    """A function that runs the graph; an intermediate is dropped after its last reader."""
    order = toposort(outputs)
    last: dict[Node, int] = {}
    for place, node in enumerate(order):
        for operand in node.operands:
            last[operand] = place
    kept = set(outputs)
    drops: list[list[Node]] = [[] for _ in order]
    for node, place in last.items():
        if node not in kept:
            drops[place].append(node)

    def run(given: Mapping[Node, Array]) -> list[Array]:
        values: dict[Node, Array] = {}
        with np.errstate(all="ignore"):
            for node, gone in zip(order, drops, strict=True):
                if isinstance(node, Parameter):
                    values[node] = node.value
                elif node.op.name == "input":
                    values[node] = given[node]
                else:
                    operands = (values[operand] for operand in node.operands)
                    values[node] = node.op.reference(*operands, type=node.type, **node.attrs)
                for operand in gone:
                    del values[operand]
        return [values[node] for node in outputs]

    return run
