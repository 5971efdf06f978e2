"""Graph to graph: the same formula in float64.

Every float32 source and constant becomes float64 and all types are inferred again; constants come back with the
digits they were written with. Parameters become inputs, whose values the caller chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from graphc.ir import Node, Parameter, make, rebuild, toposort
from graphc.ops.pointwise import cast
from graphc.ops.structural import constant, input_
from graphc.types import FLOAT32, FLOAT64, DType, TensorType

__all__ = ["to_float64"]


def to_float64(outputs: Sequence[Node]) -> tuple[list[Node], dict[Node, Node]]:
    """The outputs in float64, and what stands for each source: input or parameter to a new input.

    Two parameters of one name stay two; an int input stands for itself.

    >>> import graphc as gx
    >>> x = gx.input("x")
    >>> (f,), sources = to_float64([x * 0.1])
    >>> f, sources[x]
    (<multiply: float64>, <x: float64>)
    """
    order = toposort(outputs)
    taken = {node.name for node in order if node.op.name == "input"}
    sources: dict[Node, Node] = {}

    def rule(node: Node, operands: tuple[Node, ...]) -> Node:
        if isinstance(node, Parameter):
            free = (f"{node.name} {number}" if number else str(node.name) for number in count())
            name = next(name for name in free if name not in taken)
            taken.add(name)
            sources[node] = input_(name, _widened(node.type))
            return sources[node]
        if node.op.name == "input":
            sources[node] = input_(str(node.name), _widened(node.type))
            return sources[node]
        if node.op.name == "constant":
            return constant(node.attrs["value"].array, _wide(node.dtype))
        if node.op.name == "cast":
            return cast(operands[0], _wide(node.dtype))
        return make(node.op, *operands, **node.attrs) if operands else node

    return rebuild(outputs, rule), sources


def _wide(dtype: DType) -> DType:
    return FLOAT64 if dtype is FLOAT32 else dtype


def _widened(type: TensorType) -> TensorType:
    return TensorType(type.shape, _wide(type.dtype))
