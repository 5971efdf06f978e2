"""A function written with NumPy becomes a graph: it is called once, with nodes for its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphc.frontend import input
from graphc.ir import Node, inputs_of, toposort
from graphc.ops.pointwise import as_node
from graphc.types import DType, GraphError, NameClashError

__all__ = ["Captured", "capture"]


class Captured(NamedTuple):
    """The inputs and the outputs of a captured function: what :func:`graphc.compile` takes."""

    inputs: list[Node]
    outputs: Any


def capture(function: Callable[..., Any], *specs: Any, **named_specs: Any) -> Captured:
    """The graph of a function of arrays: its inputs, named as its parameters, and what it returns, in that structure.

    Each parameter without a default needs a spec: a shape (float32), a pair ``(shape, dtype)``, an array or number as an
    example of shape and dtype, or a node to be used itself. The function is called once with the nodes; what it
    does with them (operators, methods, functions of NumPy and graphc) is the graph. So an ``if`` on their values raises, a
    loop is unrolled, and a ``print`` happens once. It returns a node, a number or array, or a list, tuple or dict of them.

    Pass the result to :func:`graphc.compile` (``gx.compile(*captured)``), or build more graph from it, such as gradients.

    >>> import numpy as np
    >>> import graphc as gx
    >>> def distance(a, b):
    ...     return np.sqrt(np.sum((a - b) ** 2, axis=-1))
    >>> inputs, outputs = gx.capture(distance, (3,), ((4, 3), "float32"))
    >>> inputs, outputs
    ([<a: float32[3]>, <b: float32[4, 3]>], <sqrt: float32[4]>)
    >>> gx.compile(inputs, outputs, backend="numpy")([0, 0, 0], np.eye(4, 3)).tolist()
    [1.0, 1.0, 1.0, 0.0]
    """
    arguments = _arguments(function, specs, named_specs)
    given = {spec.name for spec in arguments.values() if isinstance(spec, Node)}
    for name, spec in arguments.items():
        if name in given and not isinstance(spec, Node):
            raise NameClashError(f"capture: {name!r} is the name of a parameter and of a node that is given for another")
    nodes = [spec if isinstance(spec, Node) else _input(name, spec) for name, spec in arguments.items()]
    by_name = dict(zip(named_specs, nodes[len(specs) :], strict=True))
    result = function(*nodes[: len(specs)], **by_name)
    return Captured(inputs_of(toposort(nodes)), _outputs(result, getattr(function, "__name__", "the function")))


def _arguments(function: Callable[..., Any], specs: tuple[Any, ...], named_specs: Mapping[str, Any]) -> dict[str, Any]:
    """The specs by the names of the parameters that they are for, those given by place first."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # a ufunc, in older NumPys
        return {**{f"x{place}": spec for place, spec in enumerate(specs)}, **named_specs}
    try:
        signature.bind(*specs, **named_specs)
    except TypeError as error:
        raise GraphError(f"capture needs a spec for each parameter of {function!r}: {error}") from None
    by_place: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        left = specs[len(by_place) :]
        if parameter.kind is parameter.VAR_POSITIONAL:
            by_place |= {f"{parameter.name}_{place}": spec for place, spec in enumerate(left)}
        elif left and parameter.kind is not parameter.KEYWORD_ONLY:
            by_place[parameter.name] = left[0]
    return {**by_place, **named_specs}


def _input(name: str, spec: Any) -> Node:
    if isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], str | type | np.dtype | DType):
        return input(name, *spec)
    if isinstance(spec, tuple | list | int) and not isinstance(spec, bool):
        return input(name, spec)
    example = np.asarray(spec)
    return input(name, example.shape, example.dtype if hasattr(spec, "dtype") or example.dtype.kind != "f" else "float32")


def _outputs(result: Any, function: str) -> Any:
    if isinstance(result, Mapping):
        return {key: _output(value, function) for key, value in result.items()}
    if isinstance(result, list | tuple):
        outputs = [_output(value, function) for value in result]
        return outputs if isinstance(result, list) else tuple(outputs)
    return _output(result, function)


def _output(value: Any, function: str) -> Node:
    if value is None or isinstance(value, list | tuple | Mapping):
        raise GraphError(
            f"capture: {function} must return a node or array, or a list, tuple or dict of them, got {value!r}"
        )
    return as_node(value)
