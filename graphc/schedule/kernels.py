"""What a schedule is made of: kernels, as data that a template can spell without deciding anything.

A :class:`LoopKernel` runs over its outer axes; in each round it goes through its stages, small loop nests over inner
axes whose values live in registers or in a row buffer. A :class:`ContractKernel` is one matrix product with a
pointwise epilogue. Both compute with :class:`Scalar` values, a graph of single numbers inside of one round.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from graphc.lower.equations import Check, Guard
from graphc.lower.index import Index, Pick, flatten
from graphc.types import DType, TensorType

__all__ = [
    "Accumulate",
    "Accumulator",
    "Axes",
    "CallKernel",
    "CheckKernel",
    "ContractKernel",
    "CopyKernel",
    "Kernel",
    "Let",
    "Line",
    "LoopKernel",
    "Operand",
    "Scalar",
    "Schedule",
    "Stage",
    "Store",
]

Axes = tuple[tuple[int, int], ...]
"""Loops, outermost first: the axis of each, and its extent."""


@dataclass(eq=False)
class Scalar:
    """One number inside of a loop body.

    op: a pointwise operation, or load, literal, index, guard (its argument where the guards hold, else zero) or local
    (``name``, declared before). Only the fields that the op needs are set. label: what a name would be made of;
    name: set when the value is declared under it.
    """

    op: str
    dtype: DType
    args: tuple[Scalar, ...] = ()
    variables: frozenset[int] = frozenset()
    tensor: str = ""
    index: Index = field(default_factory=Index)
    value: object = None
    guards: tuple[Guard, ...] = ()
    label: str = ""
    name: str = ""


@dataclass(frozen=True)
class Let:
    """``const dtype name = value``."""

    name: str
    scalar: Scalar


@dataclass(frozen=True)
class Store:
    """``tensor[index] = value``."""

    tensor: str
    index: Index
    scalar: Scalar


@dataclass(frozen=True)
class Accumulator:
    """Running result of the reduction that defines ``tensor``: one in ``lanes`` parts, or an array of ``size``.

    dtype is that of the result, value_dtype that of what is reduced (they differ for argmax). block: after so many
    elements the partial results are added to the result and start again; 0 is never.
    """

    name: str
    tensor: str
    dtype: DType
    value_dtype: DType
    kind: str
    size: int
    lanes: int
    block: int


@dataclass(frozen=True)
class Accumulate:
    """Fold a value (for dot: the product of two; for argmax: a value and its position) into ``into[index]``."""

    into: Accumulator
    index: Index
    values: tuple[Scalar, ...]


Line = Let | Store | Accumulate


@dataclass
class Stage:
    """One loop nest inside of a round.

    loops: (axis variable, extent), outermost first; the last ``reduced`` of them belong to the reduction of
    ``accumulators``, which start afresh in each round of the loops before; ``after`` follows the reduced loops.
    lanes: the last loop is split in strips of so many elements, one for each partial result.
    vector: whether the rounds of the last loop are independent but for lanes, so that a compiler may run them side by side.
    """

    loops: Axes = ()
    reduced: int = 0
    lanes: int = 1
    vector: bool = True
    before: list[Line] = field(default_factory=list)
    accumulators: list[Accumulator] = field(default_factory=list)
    body: list[Line] = field(default_factory=list)
    after: list[Line] = field(default_factory=list)


@dataclass
class LoopKernel:
    """Loops over ``outer``; in each round all ``stages``. Accumulators outlive the rounds; ``final`` runs once at the end.

    before: values that do not depend on the round. buffers: arrays that hold what one stage of a round leaves to the
    next; results: arrays of running results, and those that one stage of ``final`` leaves to the next.
    strip: so many rounds go through each stage together, so that what happens once a round can run side by side; then
    buffers, and the values in ``handed``, which one stage leaves to another, have a place for each of these rounds.
    abreast: these rounds lie side by side in memory. All of them take a step of a stage's loop before the next step, and
    buffers are stored by columns.
    """

    name: str
    why: str
    outer: Axes
    strip: int = 0
    abreast: bool = False
    handed: dict[str, DType] = field(default_factory=dict)
    before: list[Line] = field(default_factory=list)
    accumulators: list[Accumulator] = field(default_factory=list)
    results: dict[str, TensorType] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    after: list[Line] = field(default_factory=list)
    final: list[Stage] = field(default_factory=list)
    buffers: dict[str, TensorType] = field(default_factory=dict)
    formulas: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Operand:
    """A virtual operand of a contraction over variables (batch..., row or k, k or column): loads, or any expression."""

    lines: tuple[Let, ...]
    scalar: Scalar


@dataclass
class ContractKernel:
    """``result[b, i, j] = sum over k, in order, of left(b, i, k) * right(b, k, j)``, then the epilogue.

    Variables: the batch axes are 0 .. len(batch) - 1, then i, j, k. flipped: neighbours of the stored result lie along i.
    """

    name: str
    why: str
    dtype: DType
    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    left: Operand
    right: Operand
    result: str
    flipped: bool = False
    epilogue: list[Line] = field(default_factory=list)
    formulas: list[str] = field(default_factory=list)


@dataclass
class CheckKernel:
    """Range checks of indices; ``number`` is the status that the function returns if this one fails."""

    name: str
    check: Check
    number: int
    load: Scalar
    why: str = "indices are checked before anything is stored"


@dataclass
class CopyKernel:
    """``target = source``, whole: the new value of a parameter that could not be written in place."""

    name: str
    target: str
    source: str
    why: str


@dataclass
class CallKernel:
    """One call of a C function of templates/routines/ on whole arrays.

    call: as :class:`~graphc.ir.Routine` gives it; result and operands: the tensors that stand for {y} and {0}, {1}, ... in it.
    items: how many there are, each as large a part of every tensor.
    """

    name: str
    why: str
    result: str
    operands: tuple[str, ...]
    call: str
    items: int
    workspace: int
    flops: int
    formulas: list[str] = field(default_factory=list)


Kernel = LoopKernel | ContractKernel | CheckKernel | CopyKernel | CallKernel


@dataclass
class Schedule:
    """Kernels in order, and where each tensor that is stored lives.

    types: of every stored tensor. aliases: an equation whose result is stored in a parameter, in place.
    """

    name: str
    kernels: list[Kernel]
    types: dict[str, TensorType]
    aliases: dict[str, str]


def roots_of(line: Line) -> tuple[Scalar, ...]:
    """The scalars that a line uses."""
    return line.values if isinstance(line, Accumulate) else (line.scalar,)


def lines_of(kernel: Kernel) -> Iterator[Line]:
    """Every line of a kernel."""
    if isinstance(kernel, LoopKernel):
        yield from kernel.before
        yield from kernel.after
        for stage in (*kernel.stages, *kernel.final):
            yield from stage.before
            yield from stage.body
            yield from stage.after
    elif isinstance(kernel, ContractKernel):
        yield from kernel.left.lines
        yield from kernel.right.lines
        yield from kernel.epilogue


def scalars_of(kernel: Kernel) -> Iterator[Scalar]:
    """Every scalar that a kernel uses, each once."""
    roots: list[Scalar] = []
    if isinstance(kernel, ContractKernel):
        roots += [kernel.left.scalar, kernel.right.scalar]
    for line in lines_of(kernel):
        roots.extend(roots_of(line))
    if isinstance(kernel, CheckKernel):
        roots.append(kernel.load)
    return reached(roots)


def reached(roots: Iterable[Scalar]) -> Iterator[Scalar]:
    """Some scalars and all that they are computed from, each once, a scalar before its arguments."""
    stack, seen = list(roots)[::-1], set()
    while stack:
        scalar = stack.pop()
        if scalar not in seen:
            seen.add(scalar)
            stack.extend(reversed(scalar.args))
            yield scalar


def reads_of(kernel: Kernel) -> list[str]:
    """The tensors that a kernel reads, in order, each once."""
    if isinstance(kernel, CopyKernel):
        return [kernel.source]
    if isinstance(kernel, CallKernel):
        return list(dict.fromkeys(kernel.operands))
    found: dict[str, None] = {}
    for scalar in scalars_of(kernel):
        if scalar.op == "load":
            found[scalar.tensor] = None
        for index in (scalar.index, *(guard.index for guard in scalar.guards)):
            found.update(dict.fromkeys(index.picks))
    for line in lines_of(kernel):
        if isinstance(line, Store):
            found.update(dict.fromkeys(line.index.picks))
    return list(found)


def places_of(kernel: Kernel, types: Mapping[str, TensorType]) -> Iterator[tuple[str, Index]]:
    """Each tensor of ``types`` that a kernel reads, stores or sums up, with the offset of the element."""
    indices: list[Index] = []
    for scalar in scalars_of(kernel):
        indices += [scalar.index, *(guard.index for guard in scalar.guards)]
        if scalar.op == "load" and scalar.tensor in types:
            yield scalar.tensor, scalar.index
    for line in lines_of(kernel):
        if isinstance(line, Store):
            indices.append(line.index)
            if line.tensor in types:
                yield line.tensor, line.index
        elif isinstance(line, Accumulate) and line.into.size and line.into.name in types:
            yield line.into.name, Index()  # all of it is opened
    for index in indices:
        for atom in index.atoms():
            if isinstance(atom, Pick):
                yield atom.tensor, flatten(atom.index, types[atom.tensor].shape)


def writes_of(kernel: Kernel) -> list[str]:
    """The tensors that a kernel stores, in order, each once."""
    if isinstance(kernel, CopyKernel):
        return [kernel.target]
    if isinstance(kernel, CallKernel):
        return [kernel.result]
    return list(dict.fromkeys(line.tensor for line in lines_of(kernel) if isinstance(line, Store)))
