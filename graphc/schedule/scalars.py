"""The scalars of a kernel: which equations are computed where their values are read, and which values get a name.

:class:`Body` makes scalars of operands, each value once a scope. :class:`Namer` then cuts what the lines of a kernel compute
into named values: what is used twice, what belongs to an outer depth, what is too long for one C expression.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from graphc.lower.equations import Equation, Guard, IndexValue, Literal, Load, Program, axis_name, format_equation
from graphc.lower.equations import Operand as EquationOperand
from graphc.lower.index import Index, flatten
from graphc.schedule.kernels import (
    Let,
    Line,
    Scalar,
    Stage,
    roots_of,
)
from graphc.types import INT32, DType

__all__ = ["Body", "Namer", "apply", "formula", "load", "named"]


class Body:
    """Scalars for one kernel: equations that are not stored are computed where they are loaded, each once a scope.

    What depends on at most the round is shared by all stages; the rest is known in its own stage only. A guard goes
    down to the loads of what it guards: they must not be touched where it fails, and all else may be computed anywhere.
    """

    def __init__(self, program: Program, is_stored: Callable[[str], bool], rounds: frozenset[int]) -> None:
        self.program, self.is_stored, self.rounds = program, is_stored, rounds
        self.shared: dict[EquationOperand, Scalar] = {}
        self.own: dict[EquationOperand, Scalar] = {}
        self.buffers: dict[str, Callable[[Load], Scalar]] = {}

    def get(self, operand: EquationOperand) -> Scalar | None:
        return self.own.get(operand) or self.shared.get(operand)

    def put(self, operand: EquationOperand, scalar: Scalar) -> None:
        (self.shared if scalar.variables <= self.rounds else self.own)[operand] = scalar

    def of(self, operand: EquationOperand) -> Scalar:
        """The scalar for an operand whose index is over the axes of the kernel. Iterative: chains may be long."""
        stack: list[tuple[EquationOperand, bool]] = [(operand, False)]
        while stack:
            item, ready = stack.pop()
            if self.get(item) is not None:
                continue
            bare = replace(item, guards=())
            if self.get(bare) is not None:
                self.put(item, guarded(self.known(bare), item.guards))
                continue
            inner = self.inner(item)
            if inner is None:
                self.put(item, self.leaf(item))
                continue
            equation, parts = inner
            if ready:
                args = [inside(self.known(part), item.guards) for part in parts]
                self.put(item, guarded(apply(equation, args), item.guards))
            else:
                stack.append((item, True))
                stack.extend((part, False) for part in reversed(parts))
        return self.known(operand)

    def known(self, operand: EquationOperand) -> Scalar:
        scalar = self.get(operand)
        assert scalar is not None
        return scalar

    def inner(self, operand: EquationOperand) -> tuple[Equation, list[EquationOperand]] | None:
        """The equation to compute for an operand, with its operands moved to the place; None for a leaf."""
        if not isinstance(operand, Load) or self.is_stored(operand.tensor):
            return None
        equation = self.program.by_name.get(operand.tensor)
        if equation is None:
            return None
        parts = [part.substitute(operand.index) for part in equation.operands]
        return equation, [
            part if isinstance(part, Literal) else replace(part, guards=(*operand.guards, *part.guards))
            for part in parts
        ]

    def leaf(self, operand: EquationOperand) -> Scalar:
        if isinstance(operand, Literal):
            scalar = Scalar("literal", operand.dtype, value=operand.value)
        elif isinstance(operand, IndexValue):
            scalar = Scalar("index", INT32, variables=operand.index.variables, index=operand.index)
        elif operand.tensor in self.buffers:
            scalar = self.buffers[operand.tensor](operand)
        else:
            type = self.program.type_of(operand.tensor)
            scalar = load(operand.tensor, type.dtype, flatten(operand.index, type.shape))
        return guarded(scalar, operand.guards)


def load(tensor: str, dtype: DType, offset: Index) -> Scalar:
    """One element of an array."""
    return Scalar("load", dtype, variables=offset.variables, tensor=tensor, index=offset, label=tensor)


def formula(equation: Equation, program: Program, is_stored: Callable[[str], bool]) -> str:
    """The equation with all that is computed in it written out."""
    return format_equation(equation, lambda name: None if is_stored(name) else program.by_name.get(name))


def apply(equation: Equation, args: Sequence[Scalar]) -> Scalar:
    """The scalar of a map; a copy is its operand."""
    if equation.op == "copy":
        return args[0]
    variables = frozenset().union(*(arg.variables for arg in args))
    return Scalar(equation.op, equation.dtype, tuple(args), variables, label=equation.name)


def guarded(scalar: Scalar, guards: tuple[Guard, ...]) -> Scalar:
    if not guards:
        return scalar
    variables = scalar.variables.union(*(guard.index.variables for guard in guards))
    return Scalar("guard", scalar.dtype, (scalar,), variables, guards=guards, label=scalar.label)


def inside(scalar: Scalar, guards: tuple[Guard, ...]) -> Scalar:
    """The scalar within what these guards decide about: of them only loads still need to ask."""
    known = len(guards)
    if not known or scalar.op != "guard" or scalar.args[0].op == "load" or scalar.guards[:known] != guards:
        return scalar
    return guarded(scalar.args[0], scalar.guards[known:])


def named(name: str, dtype: DType, variables: frozenset[int] = frozenset()) -> Scalar:
    """A value that the kernel has declared under a name."""
    return Scalar("local", dtype, variables=variables, name=name)


# --- names and depths ---------------------------------------------------------------------------------
_PLAIN = ("literal", "local", "index")
_LARGEST_EXPRESSION = 6  # operations in one C expression; what is longer is cut by names


class Namer:
    """Gives names to the values that are used twice or belong to an outer depth; all others are written in place.

    arrays: their names, which no value may have. volatile: parameters that are updated; their old value is read
    into a name before anything is stored. A load that is guarded stays inside of its guard; one that is
    chosen by a ``where`` is read before it, for vectors read it either way and gcc 12 miscompiles a sum in lanes of
    ``c ? a[i] : 0`` (tests/test_schedule.py keeps the case).
    """

    def __init__(self, arrays: Sequence[Collection[str]], volatile: set[str], rounds: frozenset[int]) -> None:
        self.arrays, self.volatile, self.rounds = arrays, volatile, rounds
        self.given: set[str] = set()

    def fresh(self, stem: str, variables: frozenset[int] = frozenset()) -> str:
        """``stem``, or with the loop variables it depends on, or a number, where that is taken."""
        name = stem
        if self.is_taken(name):
            name = f"{stem}_{''.join(axis_name(axis) for axis in sorted(variables)) or 'value'}"
        number = 1
        while self.is_taken(name):
            number += 1
            name = f"{stem}_{number}"
        self.given.add(name)
        return name

    def is_taken(self, name: str) -> bool:
        return name in self.given or any(name in names for names in self.arrays)

    def depth(self, scalar: Scalar) -> int:
        """0: may be computed before the stage; 1: in its innermost loop."""
        return int(not scalar.variables <= self.rounds)

    def finish(self, stages: Sequence[Stage]) -> list[Let]:
        """Declare names in ``stages``, which run one after another: each in the first one that computes it, before its
        loops or in its body. Those that are the same in every round are given back."""
        first: list[Let] = []
        orders, uses, deepest = self.used(stages)
        length: dict[Scalar, int] = {}
        for stage, order in zip(stages, orders, strict=True):
            several = len(stage.body) + len(stage.after) > 1
            inside = {arg for scalar in order if scalar.op == "guard" for arg in scalar.args}
            chosen = _chosen(order)
            before: list[Line] = []
            body: list[Line] = []
            for scalar in order:
                if scalar.op in _PLAIN:
                    continue
                length[scalar] = 1 + sum(length.get(arg, 0) for arg in scalar.args if not arg.name)
                if scalar.op == "load":
                    old = several and scalar.tensor in self.volatile and scalar not in inside
                    wanted = (bool(scalar.variables) and (uses[scalar] > 1 or scalar in chosen)) or old
                else:
                    old = several and scalar.op == "guard" and scalar.args[0].tensor in self.volatile
                    outer = self.depth(scalar) < deepest[scalar]
                    wanted = uses[scalar] > 1 or outer or old or length[scalar] > _LARGEST_EXPRESSION
                if wanted:
                    scalar.name = self.fresh(scalar.label or scalar.op, scalar.variables)
                    always = self.rounds and not scalar.variables
                    (first if always else body if self.depth(scalar) else before).append(Let(scalar.name, scalar))
            stage.before[:0], stage.body[:0] = before, body
        return first

    def used(self, stages: Sequence[Stage]) -> tuple[list[list[Scalar]], dict[Scalar, int], dict[Scalar, int]]:
        """What each stage is the first to compute, operands first; how often each is used, and at which depth at most."""
        orders: list[list[Scalar]] = []
        uses: dict[Scalar, int] = {}
        deepest: dict[Scalar, int] = {}
        seen: set[Scalar] = set()
        for stage in stages:
            roots = [root for line in (*stage.body, *stage.after) for root in roots_of(line)]
            for root in roots:
                uses[root] = uses.get(root, 0) + 1
                deepest[root] = max(deepest.get(root, 0), int(bool(stage.loops)))
            order: list[Scalar] = []
            stack = [(root, False) for root in reversed(roots)]
            while stack:
                scalar, ready = stack.pop()
                if ready:
                    order.append(scalar)
                elif scalar not in seen and not scalar.name:
                    seen.add(scalar)
                    stack.append((scalar, True))
                    for arg in reversed(scalar.args):
                        uses[arg] = uses.get(arg, 0) + 1
                        deepest[arg] = max(deepest.get(arg, 0), self.depth(scalar))
                        stack.append((arg, False))
            orders.append(order)
        return orders, uses, deepest


def _chosen(order: Sequence[Scalar]) -> set[Scalar]:
    """What is computed on one branch of a choice only."""
    found: set[Scalar] = set()
    for scalar in reversed(order):
        if scalar in found and scalar.op != "guard":
            found.update(scalar.args)
        elif scalar.op == "where":
            found.update(scalar.args[1:])
    return found
