"""What NumPy's own functions mean on a node: ``np.sum(x, axis=0)`` builds what ``graphc.sum(x, axis=0)`` does.

NumPy hands a call over that has a node among its arguments. It goes to the function that is registered under NumPy's name
(:data:`graphc.ir.OPERATORS`), with the arguments under the names that this one has for them. What graphc has not, a function
or an argument, is a :class:`UnsupportedError` that says which.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter as Argument
from typing import Any

from graphc.frontend.differences import trapezoid
from graphc.frontend.elementwise import positive
from graphc.frontend.sources import zeros_like
from graphc.ir import OPERATORS, Node, operator
from graphc.ops.pointwise import as_node, sigmoid
from graphc.types import UnsupportedError, normalize_axis

__all__: list[str] = []

RENAMED = {"a_min": "min", "a_max": "max", "newshape": "shape"}  # NumPy has two names for them


@operator("__array_ufunc__")
def ufunc(node: Node, function: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """A call of one of NumPy's ufuncs, or of one of its methods, which graphc has not."""
    name = function.__name__
    if method != "__call__":
        raise UnsupportedError(
            f"numpy.{name}.{method} is not supported on a node; use functions such as numpy.sum, prod, max, cumsum or outer"
        )
    return _call(name, None, args, kwargs)


@operator("__array_function__")
def array_function(node: Node, function: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A call of one of NumPy's other functions."""
    space = function.__module__.removeprefix("numpy").removeprefix(".")
    name = f"{space}.{function.__name__}" if space else function.__name__
    try:
        signature = inspect.signature(function)
    except ValueError:  # it is written in C, and this NumPy does not tell
        signature = None
    return _call(name, signature, args, kwargs)


def _call(name: str, theirs: inspect.Signature | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    ours = OPERATORS.get(name)
    if ours is None:
        raise UnsupportedError(
            f"numpy.{name} has no counterpart in graphc; write it with the functions that docs/operations.md lists"
        )
    arguments = inspect.signature(ours).parameters
    places, keywords = list(args), dict(kwargs)
    if theirs is not None:
        places, keywords = _translated(theirs, arguments, theirs.bind(*args, **kwargs).arguments)
    for keyword in keywords:
        if keyword not in arguments or arguments[keyword].kind is Argument.VAR_POSITIONAL:
            has = ", ".join(arguments) if "args" not in arguments else "no keywords"
            raise UnsupportedError(f"numpy.{name}({keyword}=...) is not supported on a node: graphc.{name} takes {has}")
    return ours(*places, **keywords)


def _translated(
    theirs: inspect.Signature, ours: Mapping[str, Argument], given: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """NumPy's arguments as ours. One has the same name, or else the same place under a name that NumPy has not."""
    names = list(ours)
    rest = next((name for name in names if ours[name].kind is Argument.VAR_POSITIONAL), None)
    in_order = names[: names.index(rest)] if rest else []  # what must be given by its place
    places: list[Any] = []
    keywords: dict[str, Any] = {}
    for index, (name, argument) in enumerate(theirs.parameters.items()):
        if name not in given:
            continue
        value, own = given[name], RENAMED.get(name, name)
        if own not in ours and index < len(names) and names[index] not in theirs.parameters:
            own = names[index]
        if argument.kind is Argument.VAR_POSITIONAL:
            places += value
        elif argument.kind is Argument.VAR_KEYWORD:
            keywords |= value
        elif own in in_order or own == rest or (rest and argument.kind is Argument.POSITIONAL_ONLY):
            places.append(value)
        elif own in ours or not _is(value, argument.default):
            keywords[own] = value
    return places, keywords


def _is(value: Any, default: Any) -> bool:
    """Whether what was given is the default, and says nothing."""
    return value is default or (isinstance(value, str | int | float) and type(value) is type(default) and value == default)


# --- what is known of a node without a number of it ---------------------------------------------------------
@operator("shape")
def _shape(a: Any) -> tuple[int, ...]:
    return as_node(a).shape


@operator("ndim")
def _ndim(a: Any) -> int:
    return as_node(a).ndim


@operator("size")
def _size(a: Any, axis: int | None = None) -> int:
    node = as_node(a)
    return node.size if axis is None else node.shape[normalize_axis(axis, node.ndim)]


@operator("iscomplexobj")
def _iscomplexobj(x: Any) -> bool:
    return False


@operator("isrealobj")
def _isrealobj(x: Any) -> bool:
    return True


def _under(function: Callable[..., Any], *names: str) -> None:
    for name in names:
        operator(name)(function)


_under(positive, "copy", "real")
_under(zeros_like, "empty_like")
_under(trapezoid, "trapz")  # NumPy's name of it before 2.0
_under(sigmoid, "expit")  # SciPy's
