"""Equations: what each tensor element is. No memory, no loops, no order of evaluation beyond that of a sum.

    h[i, j] = relu(t[i, j])                     a map: one scalar operation on loads
    t[i, j] = sum(k) X[i, k] * W[k, j]          a reduction; its :class:`Reduction` states the order of summation
    c = recurrence(x[i, 0], 1, x[i, j + 1])     a routine fills its result as a whole; its :class:`Call` says how

Axes are numbered; the first ``rank`` of them are those of the result, the rest are reduced. All movement (broadcast,
transpose, slice, pad, reshape, gather) is in the index of a load.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphc.ir import REGISTRY, Array
from graphc.lower.index import Atom, Divide, Index, Modulo, Pick, Var
from graphc.types import DType, GraphError, TensorType, dtype_of

__all__ = [
    "AXIS_NAMES",
    "Call",
    "Check",
    "Equation",
    "Guard",
    "IndexValue",
    "Literal",
    "Load",
    "Operand",
    "Program",
    "Reduction",
    "axis_name",
    "format_equation",
    "format_guards",
    "format_index",
    "format_operand",
    "format_program",
    "interpret",
    "verify",
]


# --- operands ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Guard:
    """Holds where ``low <= index < high`` and ``index`` is a multiple of ``step``; pads are zero elsewhere."""

    index: Index
    low: int
    high: int
    step: int = 1


Values = Mapping[int, Index] | Sequence[Index]


def _moved(parts: tuple[Index, ...], guards: tuple[Guard, ...], values: Values) -> tuple[Any, Any]:
    """Indices and guards for other axes. That an index is a multiple of a step is said without division where the bounds
    allow it: 20 i + k is one of 21 where k is i, and there it is 21 i."""
    parts = tuple(part.substitute(values) for part in parts)
    found: list[Guard] = []
    for guard in guards:
        index = guard.index.substitute(values)
        split = None if guard.step == 1 else index.multiple(guard.step)
        if split is None or not split[1].terms:
            found.append(replace(guard, index=index))
            continue
        times, rest = split
        found.append(Guard(rest, 0, 1))
        low, high = -(-guard.low // guard.step), -(-guard.high // guard.step)
        if not (low <= times.bounds[0] and times.bounds[1] < high):
            found.append(Guard(times, low, high))
        parts = tuple(_divided(part, index, guard.step, times) for part in parts)
    return parts, tuple(found)


def _divided(part: Index, index: Index, by: int, times: Index) -> Index:
    """``part`` where ``index`` is ``by * times``: quotients by ``by`` of what differs from ``index`` by multiples of ``by``."""
    result = Index((), part.constant)
    for atom, factor in part.terms:
        term = Index(((atom, 1),))
        if isinstance(atom, Divide) and atom.by == by:
            left = atom.index + index * -1
            if left.constant % by == 0 and all(f % by == 0 for _, f in left.terms):
                term = times + left.divide(by)
        result = result + term * factor
    return result


def _variables(*parts: Index, guards: tuple[Guard, ...]) -> frozenset[int]:
    return frozenset().union(*(part.variables for part in parts), *(guard.index.variables for guard in guards))


@dataclass(frozen=True)
class Load:
    """One element of a tensor; zero where a guard fails."""

    tensor: str
    index: tuple[Index, ...]
    guards: tuple[Guard, ...] = ()

    def substitute(self, values: Values) -> Load:
        """The same element for other axes: each variable replaced by an index."""
        return Load(self.tensor, *_moved(self.index, self.guards, values))

    @property
    def variables(self) -> frozenset[int]:
        return _variables(*self.index, guards=self.guards)


@dataclass(frozen=True)
class IndexValue:
    """An index as an int32 value (an iota); zero where a guard fails."""

    index: Index
    guards: tuple[Guard, ...] = ()

    def substitute(self, values: Values) -> IndexValue:
        """The same for other axes, as :meth:`Load.substitute`."""
        (index,), guards = _moved((self.index,), self.guards, values)
        return IndexValue(index, guards)

    @property
    def variables(self) -> frozenset[int]:
        return _variables(self.index, guards=self.guards)


@dataclass(frozen=True)
class Literal:
    """A constant, unrounded (``dtype`` says how it is rounded); zero where a guard fails."""

    value: Any
    dtype: DType
    guards: tuple[Guard, ...] = ()

    def substitute(self, values: Values) -> Literal:
        """The same for other axes, as :meth:`Load.substitute`."""
        return Literal(self.value, self.dtype, _moved((), self.guards, values)[1])

    @property
    def variables(self) -> frozenset[int]:
        return _variables(guards=self.guards)

    @property
    def _key(self) -> Any:
        return (type(self.value), np.asarray(self.value).tobytes(), self.dtype, self.guards)  # -0.0 is not 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


Operand = Load | Literal | IndexValue


# --- equations --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Reduction:
    """How the reduced axes are combined, in an order that no later stage may change.

    kind: sum, prod, max, min, argmax, argmin, or dot (the sum of the product of two operands by fused multiply-add).
    lanes: element e along the reduced axis goes to partial result ``e % lanes``, each in order; the partial results are
    then combined as a binary tree (lane l with lane l + lanes / 2, and so on). One lane is plain order.
    block: so many elements at a time are reduced by themselves, and these results added in order; 0 is all at once.
    """

    kind: str
    lanes: int = 1
    block: int = 0


@dataclass(frozen=True)
class Call:
    """How a routine is called. Each operand is over axes of its own, of these ``shapes``; ``attrs`` are the operation's.

    whole: each operand is one whole array in memory, read in any order.
    """

    shapes: tuple[tuple[int, ...], ...]
    attrs: tuple[tuple[str, Any], ...]
    whole: bool


@dataclass(frozen=True)
class Equation:
    """``name[axes of the result] = op(operands)``, or a reduction of its one operand (of the product of two for dot),
    or the call of a routine, which defines all elements together."""

    name: str
    dtype: DType
    axes: tuple[int, ...]
    rank: int
    op: str
    operands: tuple[Operand, ...]
    reduction: Reduction | None = None
    call: Call | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.axes[: self.rank]

    @property
    def type(self) -> TensorType:
        return TensorType(self.shape, self.dtype)

    @property
    def loads(self) -> tuple[Load, ...]:
        return tuple(operand for operand in self.operands if isinstance(operand, Load))

    @property
    def identity(self) -> tuple[Index, ...]:
        """The index at which this equation defines its tensor."""
        return tuple(Index.of(axis, extent) for axis, extent in enumerate(self.shape))


@dataclass(frozen=True)
class Check:
    """Every element of ``load`` over ``axes`` must lie in ``low <= value < extent`` before anything is stored."""

    load: Load
    axes: tuple[int, ...]
    extent: int
    low: int = 0


@dataclass(frozen=True)
class Program:
    """All equations in an order in which each follows what it reads.

    sources: inputs and parameters by tensor name. outputs: the equation of each output, in order. updates: parameter
    to the equation of its new value. checks: what must hold of indices. constants: tables of more than one element.
    """

    name: str
    sources: Mapping[str, TensorType]
    equations: tuple[Equation, ...]
    outputs: tuple[str, ...]
    updates: Mapping[str, str]
    checks: tuple[Check, ...] = ()
    constants: Mapping[str, Array] = field(default_factory=dict)

    def type_of(self, tensor: str) -> TensorType:
        """Shape and dtype of any tensor."""
        if tensor in self.constants:
            return TensorType(self.constants[tensor].shape, dtype_of(self.constants[tensor].dtype))
        return self.sources[tensor] if tensor in self.sources else self.by_name[tensor].type

    @property
    def by_name(self) -> Mapping[str, Equation]:
        """The equations by the tensor that they define."""
        found: dict[str, Equation] | None = self.__dict__.get("_by_name")
        if found is None:
            found = {equation.name: equation for equation in self.equations}
            object.__setattr__(self, "_by_name", found)
        return found


def verify(program: Program) -> None:
    """Every load names something defined before, with one index per axis; raises :class:`GraphError`."""
    known = {name: program.type_of(name) for name in (*program.sources, *program.constants)}
    for equation in program.equations:
        for load in equation.loads:
            if load.tensor not in known:
                raise GraphError(f"{equation.name} reads {load.tensor}, which is not defined before it")
            if len(load.index) != known[load.tensor].rank:
                raise GraphError(f"{equation.name} reads {load.tensor} with {len(load.index)} indices")
            for position, extent in zip(load.index, known[load.tensor].shape, strict=True):
                low, high = position.bounds
                if not load.guards and equation.type.size and (low < 0 or high >= max(extent, 1)):
                    raise GraphError(f"{equation.name} may read outside of {load.tensor}: {low}..{high} of {extent}")
        if equation.name in known:
            raise GraphError(f"{equation.name} is defined twice")
        known[equation.name] = equation.type
    for name in (*program.outputs, *program.updates.values()):
        if name not in known:
            raise GraphError(f"{name} is wanted but not defined")


# --- printer ----------------------------------------------------------------------------------------
AXIS_NAMES = ("i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w")


def axis_name(axis: int) -> str:
    """The letter of an axis, as in the text of equations and in C."""
    return AXIS_NAMES[axis] if axis < len(AXIS_NAMES) else f"i{axis}"


def _format_atom(atom: Atom) -> str:
    if isinstance(atom, Var):
        return axis_name(atom.axis)
    if isinstance(atom, Pick):
        text = f"{atom.tensor}[{', '.join(map(format_index, atom.index))}]"
        return f"mod({text}, {atom.extent})" if atom.wrap else text
    sign = "/" if isinstance(atom, Divide) else "%"
    inner = format_index(atom.index)
    return f"({inner}) {sign} {atom.by}" if " " in inner else f"{inner} {sign} {atom.by}"


def format_index(index: Index) -> str:
    """The index as text: ``32*i + j - 1``."""
    parts: list[str] = []
    for atom, factor in index.terms:
        text = _format_atom(atom)
        text = f"({text})" if isinstance(atom, Divide | Modulo) and (len(index.terms) > 1 or factor != 1) else text
        parts.append(("- " if factor < 0 else "+ ") + (text if abs(factor) == 1 else f"{abs(factor)}*{text}"))
    if index.constant or not parts:
        parts.append(("- " if index.constant < 0 else "+ ") + str(abs(index.constant)))
    text = " ".join(parts)
    return text[2:] if text.startswith("+ ") else "-" + text[2:]


def format_operand(operand: Operand) -> str:
    """The operand as text: ``X[i, k]``, with its guards: ``(X[i - 1] if 0 <= i - 1 < 8 else 0)``."""
    if isinstance(operand, Literal):
        text = str(operand.dtype.numpy.type(operand.value))
    elif isinstance(operand, IndexValue):
        text = format_index(operand.index)
    else:
        text = operand.tensor + (f"[{', '.join(map(format_index, operand.index))}]" if operand.index else "")
    return f"({text} if {format_guards(operand.guards)} else 0)" if operand.guards else text


def format_guards(guards: Iterable[Guard]) -> str:
    """The condition under which all of them hold: ``0 <= i - 1 < 8 and 2 divides i - 1``."""
    texts = []
    for guard in guards:
        index = format_index(guard.index)
        texts.append(f"{index} == {guard.low}" if guard.low == guard.high - 1 else f"{guard.low} <= {index} < {guard.high}")
        if guard.step != 1:
            texts.append(f"{guard.step} divides {index}")
    return " and ".join(texts)


INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "less": "<", "less_equal": "<=",
    "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=", "logical_and": "&", "logical_or": "|",
    "logical_xor": "^", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "left_shift": "<<", "right_shift": ">>",
    "remainder": "%", "floor_divide": "//",
}  # fmt: skip


def format_equation(equation: Equation, inline: Callable[[str], Equation | None] = lambda name: None) -> str:
    """``t[i, j] = sum(k) X[i, k] * W[k, j]``; a tensor for which ``inline`` gives an equation is replaced by its formula."""
    if equation.call is not None:
        return f"{equation.name} = {equation.op}({', '.join(_format_arguments(equation, equation.call, inline))})"
    left = equation.name + (f"[{', '.join(axis_name(a) for a in range(equation.rank))}]" if equation.rank else "")
    right = _format_value(equation, equation.operands, inline, 5)
    if equation.reduction is None:
        return f"{left} = {right}"
    kind = "sum" if equation.reduction.kind == "dot" else equation.reduction.kind
    order = f", {equation.reduction.lanes} lanes" if equation.reduction.lanes > 1 else ""
    over = ", ".join(axis_name(a) for a in range(equation.rank, len(equation.axes)))
    return f"{left} = {kind}({over}{order}) {right}"


def _format_arguments(equation: Equation, call: Call, inline: Callable[[str], Equation | None]) -> list[str]:
    """What a routine is called with: arrays by name, elements by formula, then the attributes."""
    attrs = [f"{name}={value}" for name, value in call.attrs]
    if call.whole:
        return [load.tensor for load in equation.loads] + attrs
    copied = [replace(equation, op="copy", call=None, operands=(operand,)) for operand in equation.operands]
    return [_format_value(each, each.operands, inline, 5) for each in copied] + attrs


def _format_value(
    equation: Equation, operands: Sequence[Operand], inline: Callable[[str], Equation | None], depth: int
) -> str:
    """The right-hand side of an equation for given operands; formulas are nested at most ``depth`` deep."""
    infix = "*" if equation.reduction else INFIX.get(equation.op)
    texts = []
    for operand in operands:
        inner = inline(operand.tensor) if isinstance(operand, Load) and not operand.guards and depth else None
        if inner is None:
            texts.append(format_operand(operand))
            continue
        assert isinstance(operand, Load)
        moved = [part.substitute(operand.index) for part in inner.operands]
        text = _format_value(inner, moved, inline, depth - 1)
        texts.append(f"({text})" if infix and inner.op in INFIX and len(operands) > 1 else text)
    if infix:
        return f" {infix} ".join(texts)
    return ", ".join(texts) if equation.reduction or equation.op == "copy" else f"{equation.op}({', '.join(texts)})"


def format_program(program: Program) -> str:
    """All equations, one a line, with their types."""
    lines = [f"{name}: {type}" for name, type in program.sources.items()]
    rows = [(format_equation(e), str(e.type)) for e in program.equations]
    width = max((len(text) for text, _ in rows), default=0)
    lines += [f"{text:<{width}}   {type}" for text, type in rows]
    lines += [f"output {name}" for name in program.outputs]
    lines += [f"update {parameter} = {name}" for parameter, name in program.updates.items()]
    lines += [f"check {check.low} <= {format_operand(check.load)} < {check.extent}" for check in program.checks]
    return "\n".join(lines)


# --- interpreter ------------------------------------------------------------------------------------
def interpret(program: Program, values: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor, element by element in Python: slow, and independent of all that comes later."""
    known: dict[str, Array] = {**program.constants, **values}
    for equation in program.equations:
        if equation.call is not None:
            known[equation.name] = _called(equation, equation.call, known)
            continue
        result = np.zeros(equation.shape, equation.dtype.numpy)
        for place in itertools.product(*map(range, equation.shape)):
            elements = []
            for rest in itertools.product(*map(range, equation.axes[equation.rank :])):
                variables = (*place, *rest)
                elements.append([_operand(operand, variables, known) for operand in equation.operands])
            result[place] = _combine(equation, elements)
        known[equation.name] = result
    return known


def _called(equation: Equation, call: Call, known: Mapping[str, Array]) -> Array:
    """The result of a routine, from its operands as arrays."""
    arrays = []
    for operand, shape in zip(equation.operands, call.shapes, strict=True):
        array = np.zeros(shape, _dtype(operand, known))
        for place in itertools.product(*map(range, shape)):
            array[place] = _operand(operand, place, known)
        arrays.append(array)
    result: Array = REGISTRY[equation.op].reference(*arrays, type=equation.type, **dict(call.attrs))
    return result


def _at(index: Index, variables: Sequence[int], known: Mapping[str, Array]) -> int:
    total = index.constant
    for atom, factor in index.terms:
        if isinstance(atom, Var):
            value = variables[atom.axis]
        elif isinstance(atom, Pick):
            value = int(known[atom.tensor][tuple(_at(part, variables, known) for part in atom.index)])
            value += atom.extent if atom.wrap and value < 0 else 0
        elif isinstance(atom, Divide):
            value = _at(atom.index, variables, known) // atom.by
        else:
            value = _at(atom.index, variables, known) % atom.by
        total += value * factor
    return total


def _operand(operand: Operand, variables: Sequence[int], known: Mapping[str, Array]) -> Any:
    for guard in operand.guards:
        at = _at(guard.index, variables, known)
        if not guard.low <= at < guard.high or at % guard.step:
            return np.zeros((), _dtype(operand, known))[()]
    if isinstance(operand, Literal):
        return operand.dtype.numpy.type(operand.value)
    if isinstance(operand, IndexValue):
        return np.int32(_at(operand.index, variables, known))
    return known[operand.tensor][tuple(_at(position, variables, known) for position in operand.index)]


def _dtype(operand: Operand, known: Mapping[str, Array]) -> Any:
    if isinstance(operand, Load):
        return known[operand.tensor].dtype
    return operand.dtype.numpy if isinstance(operand, Literal) else np.int32


def _combine(equation: Equation, elements: list[list[Any]]) -> Any:
    if equation.reduction is None:
        if equation.op == "copy":
            return elements[0][0]
        if equation.op == "cast":
            return equation.dtype.numpy.type(elements[0][0])
        return REGISTRY[equation.op].reference(*map(np.asarray, elements[0]), type=TensorType((), equation.dtype))
    kind = equation.reduction.kind
    if kind == "dot":
        return np.asarray(sum((a.astype(np.float64) * b for a, b in elements), np.float64(0))).astype(
            equation.dtype.numpy
        )
    column = np.asarray([element[0] for element in elements], None if elements else equation.dtype.numpy)
    return getattr(np, kind)(column)
