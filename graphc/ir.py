"""The graph: immutable, interned nodes, and the walks over them.

A node is an operation applied to nodes. Building the same thing twice gives the same object, so common
subexpressions are shared from the start and equality is identity. No walk here recurses: a chain of
100,000 nodes is as good as one of ten.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from graphc.types import FLOAT64, DType, DTypeError, GraphError, NameClashError, TensorType, UnsupportedError, dtype_of

__all__ = [
    "NO_GRADIENT",
    "OPERATORS",
    "REGISTRY",
    "Array",
    "Constant",
    "Implicit",
    "Node",
    "Op",
    "Parameter",
    "Routine",
    "consumers",
    "format_graph",
    "inputs_of",
    "make",
    "operator",
    "parameters_of",
    "rebuild",
    "register",
    "rounded",
    "toposort",
    "verify",
]

Array = npt.NDArray[Any]


# --- operations -------------------------------------------------------------------------------------
def NO_GRADIENT(*_: Any, **__: Any) -> NoReturn:  # noqa: N802 (a marker that reads like the constant it is)
    """The gradient of an operation that has none; reaching it is an error, unlike a zero gradient."""
    raise AssertionError("passes.grad reports this marker before calling it")


@dataclass(frozen=True, eq=False)
class Op:
    """What one operation means; its whole declaration.

    ``infer(types, **attrs)`` gives the result's type or raises; ``reference(*arrays, type=, **attrs)`` is the
    NumPy meaning; ``gradient(g, y, *operands, **attrs)`` gives one cotangent per operand, where None is zero.
    """

    name: str
    infer: Callable[..., TensorType]
    reference: Callable[..., Any]
    gradient: Callable[..., Sequence[Node | None]]


@dataclass(frozen=True, eq=False)
class Routine(Op):
    """An operation that fills its result as a whole: no formula gives one element alone. It runs in a kernel of its own.

    whole: it needs its operands as arrays in memory. Otherwise it reads each element in its turn, through any index map.

    A whole one may be a C function of templates/routines/. It does one thing to each item, which has the last ``axes`` of all
    operands and of the result. Then, from the types of the operands and the attributes, ``c`` gives the call, where
    {0}, {1}, ... stand for the operands, {y} for the result, {n} for the number of items and {w} for the workspace,
    ``workspace`` its bytes, and ``flops`` what all items take.
    """

    whole: bool = False
    axes: int = 0
    c: Callable[..., str] | None = None
    workspace: Callable[..., int] = lambda *_, **__: 0
    flops: Callable[..., int] = lambda *_, **__: 0


@dataclass(frozen=True, eq=False)
class Implicit(Op):
    """Its value is its first operand, found in some way that has no gradient: the gradient by the others follows from the
    equation that the value solves. Nothing is computed for it."""


REGISTRY: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Enter an operation; a name can be taken once."""
    if op.name in REGISTRY:
        raise GraphError(f"operation {op.name!r} is declared twice")
    REGISTRY[op.name] = op
    return op


# --- operators: what Python's syntax on a node means is said by the frontend -----------------------------
OPERATORS: dict[str, Callable[..., Any]] = {}


Function = TypeVar("Function", bound=Callable[..., Any])


def operator(name: str) -> Callable[[Function], Function]:
    """Register a frontend function as the meaning of the operator or method ``name`` of a node."""

    def enter(function: Function) -> Function:
        OPERATORS[name] = function
        return function

    return enter


def _method(name: str) -> Callable[..., Node]:
    def call(self: Node, *args: Any, **kwargs: Any) -> Node:
        result: Node = OPERATORS[name](self, *args, **kwargs)
        return result

    call.__name__, call.__doc__ = name, f"See :func:`graphc.{name}`."
    return call


def _reflected(name: str) -> Callable[..., Node]:
    def call(self: Node, other: Any) -> Node:
        result: Node = OPERATORS[name](other, self)
        return result

    return call


# --- nodes ------------------------------------------------------------------------------------------
class Constant:
    """A read-only array as an attribute: compared by dtype, shape and bytes (-0.0 is not 0.0, NaN is itself).

    Floats are kept as they were given, unrounded, so that a graph converted to float64 sees 0.1 and not
    the float32 nearest to it.
    """

    __slots__ = ("_key", "array")

    def __init__(self, value: Any) -> None:
        array = np.array(value, order="C")
        array.flags.writeable = False
        self.array: Array = array
        self._key = (array.dtype.str, array.shape, array.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        if self.array.size == 1:
            return repr(self.array.reshape(()).item())
        return f"<{'x'.join(map(str, self.array.shape))} constants>"


class Node:
    """One value of the graph: an operation, its operands, and the type inferred from them.

    Made by :func:`make` (or the functions of the frontend), never directly. Immutable, hashable, compared by
    identity; use ``graphc.equal`` for an elementwise comparison.
    """

    __slots__ = ("__weakref__", "attrs", "op", "operands", "type")

    op: Op
    operands: tuple[Node, ...]
    attrs: Mapping[str, Any]
    type: TensorType

    def __init__(self, op: Op, operands: tuple[Node, ...], attrs: Mapping[str, Any], type: TensorType) -> None:
        for name, value in (("op", op), ("operands", operands), ("attrs", attrs), ("type", type)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a node is immutable: {name!r} cannot be set")

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a graphc node cannot be pickled; save parameters with graphc.save, or build the graph again")

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent of each axis; ``()`` for a scalar."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """The type of the elements."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.type.rank

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.type.size

    @property
    def T(self) -> Node:  # noqa: N802 (NumPy's name)
        """The transpose: all axes in reverse order."""
        return self.transpose()

    @property
    def mT(self) -> Node:  # noqa: N802 (the array-API's name)
        """Each matrix of the last two axes transposed."""
        result: Node = OPERATORS["matrix_transpose"](self)
        return result

    @property
    def at(self) -> Any:
        """``x.at[key].add(value)`` and the like: a new node, with the elements at ``key`` changed."""
        return OPERATORS["at"](self)

    @property
    def name(self) -> str | None:
        """The name of an input or parameter; None for anything computed."""
        return self.attrs.get("name")

    __add__, __radd__ = _method("add"), _reflected("add")
    __sub__, __rsub__ = _method("subtract"), _reflected("subtract")
    __mul__, __rmul__ = _method("multiply"), _reflected("multiply")
    __truediv__, __rtruediv__ = _method("divide"), _reflected("divide")
    __pow__, __rpow__ = _method("power"), _reflected("power")
    __matmul__, __rmatmul__ = _method("matmul"), _reflected("matmul")
    __neg__, __pos__, __abs__ = _method("negative"), _method("positive"), _method("abs")
    __lt__, __le__ = _method("less"), _method("less_equal")
    __gt__, __ge__ = _method("greater"), _method("greater_equal")
    __mod__, __rmod__ = _method("remainder"), _reflected("remainder")
    __floordiv__, __rfloordiv__ = _method("floor_divide"), _reflected("floor_divide")
    __divmod__, __rdivmod__ = _method("divmod"), _reflected("divmod")
    __and__, __rand__ = _method("bitwise_and"), _reflected("bitwise_and")
    __or__, __ror__ = _method("bitwise_or"), _reflected("bitwise_or")
    __xor__, __rxor__ = _method("bitwise_xor"), _reflected("bitwise_xor")
    __lshift__, __rlshift__ = _method("left_shift"), _reflected("left_shift")
    __rshift__, __rrshift__ = _method("right_shift"), _reflected("right_shift")
    __invert__ = _method("invert")
    __getitem__ = _method("getitem")
    sum, mean, max, min, prod = (_method(name) for name in ("sum", "mean", "max", "min", "prod"))
    var, std, all, any = _method("var"), _method("std"), _method("all"), _method("any")
    argmax, argmin, argsort = _method("argmax"), _method("argmin"), _method("argsort")
    cumsum, cumprod, dot, trace = _method("cumsum"), _method("cumprod"), _method("dot"), _method("trace")
    reshape, ravel, flatten = _method("reshape"), _method("ravel"), _method("flatten")
    transpose, swapaxes, squeeze = _method("transpose"), _method("swapaxes"), _method("squeeze")
    diagonal, repeat, take = _method("diagonal"), _method("repeat"), _method("take")
    astype, clip, round = _method("astype"), _method("clip"), _method("round")

    def copy(self) -> Node:
        """The node itself: it cannot be changed."""
        return self

    def __round__(self, digits: int | None = None) -> Node:
        return self.round(digits or 0)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a scalar node has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Node]:
        return (self[index] for index in range(len(self)))

    def __bool__(self) -> NoReturn:
        raise GraphError(
            f"the node {self!r} has no truth value: the graph is built before any number is known. "
            "Use graphc.where(condition, a, b) instead of `if`, `&`, `|` and `~` instead of `and`, `or` and `not`, "
            "and `(0 < x) & (x < 1)` instead of `0 < x < 1`."
        )

    def _no_number(self, *_: Any, **__: Any) -> NoReturn:
        raise GraphError(
            f"the node {self!r} has no number yet. Use graphc.evaluate(node, feeds) for its value, "
            "graphc.compile to compute it, or a function of graphc in place of this one (stack in place of numpy.array)."
        )

    __float__ = __int__ = __index__ = __complex__ = __array__ = item = tolist = _no_number

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise UnsupportedError(
            f"the node {self!r} is immutable: its elements cannot be assigned. Build a new one: "
            "`x = graphc.where(mask, value, x)`, or `x = x.at[index].set(value)`"
        )

    def __contains__(self, item: Any) -> NoReturn:
        raise GraphError(
            "`in` has no meaning on a node: no number is known while the graph is built. "
            "Use graphc.any(graphc.equal(node, item))"
        )

    __array_ufunc__, __array_function__ = _method("__array_ufunc__"), _method("__array_function__")

    def __repr__(self) -> str:
        return f"<{self.name or self.op.name}: {self.type}>"


class Parameter(Node):
    """A node that owns its storage: every function compiled from it reads and writes that one buffer.

    Never merged: two parameters are two even with one name and value.
    """

    __slots__ = ("_storage",)
    _storage: Array

    def __init__(self, op: Op, name: str, storage: Array, trainable: bool) -> None:
        type = TensorType(storage.shape, dtype_of(storage.dtype))
        super().__init__(op, (), {"name": name, "trainable": trainable}, type)
        object.__setattr__(self, "_storage", storage)

    @property
    def trainable(self) -> bool:
        """Whether :func:`graphc.train_step` updates it."""
        return bool(self.attrs["trainable"])

    @property
    def value(self) -> Array:
        """The live value: a NumPy array over the storage itself, not a copy."""
        return self._storage

    @value.setter
    def value(self, value: Any) -> None:
        array = np.asarray(value)
        if array.shape != self.shape:
            raise GraphError(f"parameter {self.name!r} has shape {self.shape}, got a value of shape {array.shape}")
        if not np.can_cast(array.dtype, self._storage.dtype, "same_kind"):
            raise DTypeError(f"parameter {self.name!r} is {self.dtype}, got a value of dtype {array.dtype}")
        self._storage[...] = array

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "value":
            Parameter.value.fset(self, value)  # type: ignore[attr-defined]
        else:
            super().__setattr__(name, value)


_interned: WeakValueDictionary[Any, Node] = WeakValueDictionary()
_intern_lock = threading.Lock()


def make(op: Op, *operands: Node, **attrs: Any) -> Node:
    """The node of ``op`` on ``operands``: inferred, checked and interned. Raises what the type rule raises."""
    key = (op.name, operands, tuple(attrs.items()))
    node = _interned.get(key)
    if node is None:
        type = op.infer(*(operand.type for operand in operands), **attrs)
        with _intern_lock:
            node = _interned.setdefault(key, Node(op, operands, attrs, type))
    return node


# --- walks ------------------------------------------------------------------------------------------
def toposort(outputs: Iterable[Node]) -> list[Node]:
    """Every node that ``outputs`` reach, operands first, in an order that the graph alone decides."""
    order: list[Node] = []
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(list(outputs))]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif node not in done:
            done.add(node)
            stack.append((node, True))
            stack.extend((operand, False) for operand in reversed(node.operands) if operand not in done)
    return order


def consumers(order: Sequence[Node]) -> dict[Node, list[Node]]:
    """For each node of ``order`` those that read it, once each, in order."""
    readers: dict[Node, list[Node]] = {node: [] for node in order}
    for node in order:
        for operand in dict.fromkeys(node.operands):
            readers[operand].append(node)
    return readers


def rebuild(outputs: Sequence[Node], rule: Callable[[Node, tuple[Node, ...]], Node]) -> list[Node]:
    """Rewrite bottom-up: ``rule(node, new_operands)`` gives what stands for ``node``; types are inferred again."""
    new: dict[Node, Node] = {}
    for node in toposort(outputs):
        new[node] = rule(node, tuple(new[operand] for operand in node.operands))
    return [new[node] for node in outputs]


def inputs_of(order: Iterable[Node]) -> list[Node]:
    """The inputs among ``order``; raises :class:`NameClashError` for one name with two types."""
    found: dict[str, Node] = {}
    for node in order:
        if node.op.name == "input":
            name = node.attrs["name"]
            if found.setdefault(name, node) is not node:
                raise NameClashError(
                    f"input {name!r} occurs with two types in one function: {found[name].type} and {node.type}"
                )
    return list(found.values())


def parameters_of(order: Iterable[Node]) -> list[Parameter]:
    """The parameters among ``order``, in order."""
    return [node for node in order if isinstance(node, Parameter)]


def verify(outputs: Iterable[Node]) -> None:
    """Infer every type again and compare; raises :class:`GraphError` at the first node that disagrees."""
    for node in toposort(outputs):
        if isinstance(node, Parameter):
            continue
        if REGISTRY.get(node.op.name) is not node.op:
            raise GraphError(f"{node!r} is of an operation that is not registered")
        inferred = node.op.infer(*(operand.type for operand in node.operands), **node.attrs)
        if inferred != node.type:
            raise GraphError(f"{node!r} says {node.type}, its operands imply {inferred}")


def format_graph(outputs: Iterable[Node]) -> str:
    """The graph as text, one node a line, operands first.

    >>> import graphc as gx
    >>> x = gx.input("x")
    >>> print(format_graph([x * x + 1]))
    x   float32  input
    %0  float32  multiply(x, x)
    %1  float32  1.0
    %2  float32  add(%0, %1)
    """
    outputs = list(outputs)
    names: dict[Node, str] = {}
    rows: list[tuple[str, str, str]] = []
    numbered = 0
    for node in toposort(outputs):
        if node.name is None:
            names[node], numbered = f"%{numbered}", numbered + 1
        else:
            names[node] = node.name
        hidden = ("name", "type", "trainable", "value")
        details = [names[operand] for operand in node.operands]
        details += [f"{key}={value}" for key, value in node.attrs.items() if key not in hidden]
        text = f"{node.op.name}({', '.join(details)})" if details else node.op.name
        rows.append((names[node], str(node.type), repr(node.attrs["value"]) if "value" in node.attrs else text))
    width, type_width = (max((len(row[i]) for row in rows), default=0) for i in (0, 1))
    return "\n".join(f"{name:<{width}}  {type:<{type_width}}  {text}" for name, type, text in rows)


def rounded(node: Node) -> Array:
    """The value of a constant node in its own dtype; infinite where it is too large for that."""
    value: Array = node.attrs["value"].array
    with np.errstate(over="ignore"):
        return value if node.dtype is FLOAT64 and value.dtype == np.float64 else value.astype(node.dtype.numpy)
