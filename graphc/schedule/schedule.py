"""From equations to a schedule: kernels in an order that is safe, and where each stored tensor lives.

An update is written into its parameter in place when every other reader of the old value can run before, and its own
kernel reads an element only where it writes it. Otherwise the new value gets memory of its own and is copied at
the end: `{a: b, b: a}` swaps. These orders are edges between kernels, like those of the data.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import prod

from graphc.lower.equations import Equation, Literal, Load, Operand, Program
from graphc.lower.index import Index, flatten
from graphc.schedule.fuse import (
    ContractGroup,
    Group,
    Grouping,
    LoopGroup,
    RoutineGroup,
    choose_stored,
    is_whole,
    picked,
)
from graphc.schedule.kernels import (
    CheckKernel,
    ContractKernel,
    CopyKernel,
    Kernel,
    LoopKernel,
    Scalar,
    Schedule,
    Store,
    lines_of,
    picks_of,
    reads_of,
    roots_of,
    scalars_of,
    writes_of,
)
from graphc.schedule.nest import build_contraction, build_loops
from graphc.schedule.routines import build_routine, build_rows

__all__ = ["schedule"]


def schedule(program: Program) -> Schedule:
    """The kernels of a program. Depends on the equations alone, not on the target."""
    stored = choose_stored(program)
    grouping = Grouping(program, stored)
    groups = grouping.run()
    wanted = _wanted(program, grouping)
    volatile = set(program.updates)

    def is_stored(name: str) -> bool:
        return name in stored

    kernels: list[Kernel] = []
    for group in groups:
        if isinstance(group, ContractGroup):
            kernels.append(build_contraction(group, program, is_stored, wanted, volatile))
        elif isinstance(group, RoutineGroup):
            kernels.append(build_routine(group.equation, program, is_stored, volatile))
        else:
            kernels.append(build_loops(group, program, is_stored, wanted, volatile))
    checks = _checks(program)
    order = _Order([*checks, *kernels])
    for check in checks:
        for kernel in kernels:
            if check.check.load.tensor not in writes_of(kernel) and not order.leads(kernel, check):
                order.add(check, kernel)
    aliases: dict[str, str] = {}
    copies: list[Kernel] = []
    for parameter, name in sorted(program.updates.items(), key=lambda item: -program.type_of(item[1]).nbytes):
        writer = order.writer[name]
        readers = [kernel for kernel in order.readers.get(parameter, ()) if kernel is not writer]
        if _elementwise(writer, parameter, name) and not any(order.leads(writer, reader) for reader in readers):
            aliases[name] = parameter
            if _leave_in_place(writer, parameter, name):
                order.look_again(writer)
            for reader in readers:
                order.add(reader, writer)
        else:
            copies.append(CopyKernel(f"set_{parameter}", parameter, name, "the old value is read until the end"))
    for name, parameter in aliases.items():
        update = program.by_name[name]
        scatters = _scatters_behind(update, parameter, program, is_stored)
        apart = [order.writer[scatter.name] for scatter in scatters]
        writer = order.writer[name]
        outputs = any(scatter.name in program.outputs for scatter in scatters)
        if scatters and not outputs and stores_of(writer) == [name] and _read_by_none_but(writer, scatters, apart, order):
            order.merge([*apart, writer], build_rows(scatters, update, program, is_stored, volatile))
    arrays = {name: program.type_of(name) for name in (*program.sources, *program.constants, *sorted(wanted))}
    return Schedule(program.name, [*order.sorted(), *copies], arrays, aliases)


def _leave_in_place(kernel: Kernel, parameter: str, name: str) -> bool:
    """Drop the lines that store an old value over itself: a scatter into a parameter touches what it changes alone.

    Tells whether there were any.
    """
    if not isinstance(kernel, LoopKernel) or len(kernel.stages) < 2:
        return False
    dropped = False
    for stage in kernel.stages:
        if stage.before or stage.after or stage.accumulators:
            continue
        kept = [
            line for line in stage.body
            if not (isinstance(line, Store) and line.tensor == name and line.scalar.op == "load"
                    and line.scalar.tensor == parameter and line.scalar.index == line.index)
        ]  # fmt: skip
        dropped = dropped or len(kept) < len(stage.body)
        stage.body = kept
    kernel.stages = [stage for stage in kernel.stages if stage.before or stage.body or stage.after]
    return dropped


# An update of a table goes through the picked rows alone where all it has are at least so many times as many.
SPARSE = 4


def _scatters_behind(
    update: Equation, parameter: str, program: Program, is_stored: Callable[[str], bool]
) -> list[Equation]:
    """The scatters into zeros of which ``update`` adds a multiple to the old value: where they are zero, the old value stays (as
    long as the factors are finite). None of them where the update is another, or where they reach most of its elements."""
    if update.op not in ("add", "subtract"):
        return []
    old, change = update.operands
    if update.op == "add" and not _is(old, parameter, update):
        old, change = change, old
    if not _is(old, parameter, update):
        return []
    found: dict[str, Equation] = {}
    stack: list[tuple[Equation, Operand]] = [(update, change)]
    while stack:  # all that is on it must vanish with the scatters
        reader, operand = stack.pop()
        equation = program.by_name.get(operand.tensor) if isinstance(operand, Load) and is_whole(operand, reader) else None
        if equation is None:
            return []
        if _is_sparse(equation):
            if any(parameter in picked(operand) for operand in equation.operands):
                return []  # it is indexed by itself
            found[equation.name] = equation
        elif is_stored(equation.name):
            return []
        elif equation.op in ("add", "subtract"):
            stack += [(equation, part) for part in equation.operands]
        elif equation.op in ("multiply", "divide", "negative"):
            factors = equation.operands[: 2 if equation.op == "multiply" else 1]
            stack.append((equation, next((part for part in factors if _varies(part, equation, program, is_stored)), factors[0])))
        else:
            return []
    few = SPARSE * sum(prod(scatter.call.shapes[1]) for scatter in found.values() if scatter.call) <= update.type.size
    return list(found.values()) if few else []


def _is_sparse(equation: Equation) -> bool:
    """Whether it is a scatter into zeros, along its first axes."""
    if equation.op != "scatter_add" or equation.call is None:
        return False
    start, axis = equation.operands[0], dict(equation.call.attrs)["axis"]
    return isinstance(start, Literal) and start.value == 0 and prod(equation.shape[:axis]) == 1


def _varies(operand: Operand, reader: Equation, program: Program, is_stored: Callable[[str], bool]) -> bool:
    """Whether an operand is, or is computed from, a scatter into zeros."""
    stack: list[tuple[Equation, Operand]] = [(reader, operand)]
    while stack:
        reader, operand = stack.pop()
        equation = program.by_name.get(operand.tensor) if isinstance(operand, Load) and is_whole(operand, reader) else None
        if equation is not None and _is_sparse(equation):
            return True
        if equation is not None and not is_stored(equation.name):
            stack += [(equation, part) for part in equation.operands]
    return False


def _is(operand: Operand, tensor: str, reader: Equation) -> bool:
    return isinstance(operand, Load) and operand.tensor == tensor and is_whole(operand, reader)


def _read_by_none_but(writer: Kernel, scatters: list[Equation], apart: list[Kernel], order: _Order) -> bool:
    """Whether ``writer`` alone reads the scatters, and no other kernel must run between them and it."""
    readers = {id(kernel) for scatter in scatters for kernel in order.readers.get(scatter.name, ())}
    return readers - {id(kernel) for kernel in apart} == {id(writer)} and not order.between([*apart, writer])


def stores_of(kernel: Kernel) -> list[str]:
    """The tensors in memory that a kernel writes: what it stores, and running results over its rounds."""
    names = writes_of(kernel)
    if isinstance(kernel, LoopKernel):
        names += [a.name for a in kernel.accumulators if a.size]
        names = [name for name in names if name not in kernel.buffers and name not in kernel.results]
    return names


def _wanted(program: Program, grouping: Grouping) -> set[str]:
    """Stored equations that need memory: those that the user, another kernel, or the end of their own kernel reads."""
    wanted = {*program.outputs, *program.updates.values(), *(check.load.tensor for check in program.checks)}
    for place, group in enumerate(grouping.groups):
        parts = _parts(group)
        if isinstance(group, RoutineGroup):
            wanted.add(group.equation.name)
        for name, part in parts.items():
            for read in {*(load.tensor for load in grouping.loads[name]), *grouping.picks(grouping.stored[name])}:
                elsewhere = grouping.place.get(read, place) != place
                if elsewhere or (part == "after" and parts.get(read) == "row"):
                    wanted.add(read)
    return {name for name in wanted if name in grouping.stored}


def _parts(group: Group) -> dict[str, str]:
    """The part of its kernel that each equation belongs to."""
    if isinstance(group, LoopGroup):
        return {name: member.part for name, member in group.members.items()}
    if isinstance(group, RoutineGroup):
        return {group.equation.name: "row"}
    return {equation.name: "row" for equation in (group.equation, *group.followers)}


def _checks(program: Program) -> list[CheckKernel]:
    checks = []
    for number, check in enumerate(program.checks, 1):
        type = program.type_of(check.load.tensor)
        offset = flatten(check.load.index, type.shape)
        load = Scalar("load", type.dtype, tensor=check.load.tensor, index=offset, variables=offset.variables)
        checks.append(CheckKernel(f"check_{check.load.tensor}", check, number, load))
    return checks


def _elementwise(kernel: Kernel, parameter: str, name: str) -> bool:
    """Whether ``kernel``, which stores the new value ``name``, may store it over the old one.

    A read of the old value is harmless in the line of loops that stores the same element, or in one that is over by then;
    rounds are over for what comes after them, not for the next stage of the same round.
    """
    if parameter not in reads_of(kernel):
        return True
    if any(parameter in _picked(scalar) for scalar in scalars_of(kernel)):
        return False
    if any(parameter in picks_of(line.index) for line in lines_of(kernel) if isinstance(line, Store)):
        return False
    if isinstance(kernel, ContractKernel):
        operands = {s for operand in (kernel.left, kernel.right) for s in _closure(operand.scalar)}
        if any(scalar.tensor == parameter for scalar in operands):
            return False
        places = [(True, kernel.epilogue)]
    elif isinstance(kernel, LoopKernel):
        stages = [(bool(kernel.outer), s) for s in kernel.stages] + [(False, s) for s in kernel.final]
        places = [(repeated, [*s.before, *s.body, *s.after]) for repeated, s in stages]
        places.insert(len(kernel.stages), (False, kernel.after))
    else:
        return False
    seen: list[tuple[bool, Index]] = []  # reads before the store, and whether their rounds go on
    for place, (repeated, lines) in enumerate(places):
        roots = [root for line in lines for root in roots_of(line)]
        reads = [s.index for root in roots for s in _closure(root) if s.op == "load" and s.tensor == parameter]
        stored = next((line.index for line in lines if isinstance(line, Store) and line.tensor == name), None)
        if stored is None:
            seen += [(repeated, index) for index in reads]
            continue
        later = [root for _, rest in places[place + 1 :] for line in rest for root in roots_of(line)]
        if any(s.op == "load" and s.tensor == parameter for root in later for s in _closure(root)):
            return False
        same_rounds = [index for going_on, index in seen if repeated and going_on]
        return all(index == stored for index in (*reads, *same_rounds))
    return False  # a running result over the rounds: it is not complete while the old value is read


def _closure(root: Scalar) -> set[Scalar]:
    found: set[Scalar] = set()
    stack = [root]
    while stack:
        scalar = stack.pop()
        if scalar not in found:
            found.add(scalar)
            stack.extend(scalar.args)
    return found


def _picked(scalar: Scalar) -> set[str]:
    indices = [scalar.index, *(guard.index for guard in scalar.guards)]
    return {name for index in indices for name in picks_of(index)}


class _Order:
    """Kernels, who writes and who reads a tensor, and what must come before what."""

    def __init__(self, kernels: list[Kernel]) -> None:
        self.kernels = kernels
        self.after: dict[int, list[int]] = {id(kernel): [] for kernel in kernels}
        self.writer = {name: kernel for kernel in kernels for name in stores_of(kernel)}
        self.readers: dict[str, list[Kernel]] = {}
        for kernel in kernels:
            for name in reads_of(kernel):
                self.readers.setdefault(name, []).append(kernel)
                if name in self.writer and self.writer[name] is not kernel:
                    self.add(self.writer[name], kernel)

    def look_again(self, kernel: Kernel) -> None:
        """After ``kernel`` has lost lines: it may read less."""
        for readers in self.readers.values():
            readers[:] = [reader for reader in readers if reader is not kernel]
        for name in reads_of(kernel):
            self.readers.setdefault(name, []).append(kernel)

    def add(self, first: Kernel, then: Kernel) -> None:
        self.after[id(first)].append(id(then))

    def leads(self, first: Kernel, then: Kernel) -> bool:
        """Whether ``then`` must come after ``first``, directly or not."""
        stack, seen = [id(first)], {id(first)}
        while stack:
            for other in self.after[stack.pop()]:
                if other == id(then):
                    return True
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        return False

    def between(self, several: list[Kernel]) -> bool:
        """Whether another kernel must come after one of these and before one of these."""
        ids = {id(kernel) for kernel in several}
        after = {other for kernel in several for other in self.after[id(kernel)]} - ids
        others = [kernel for kernel in self.kernels if id(kernel) in after]
        return any(self.leads(other, kernel) for other in others for kernel in several)

    def merge(self, several: list[Kernel], one: Kernel) -> None:
        """Put ``one`` in place of several kernels, the last of which is the last."""
        gone = {id(kernel) for kernel in several}
        kept = [one if kernel is several[-1] else kernel for kernel in self.kernels]
        self.kernels = [kernel for kernel in kept if id(kernel) not in gone]
        self.writer |= dict.fromkeys(stores_of(one), one)
        for readers in self.readers.values():
            readers[:] = [reader for reader in readers if id(reader) not in gone]
        self.look_again(one)
        followers = [other for kernel in several for other in self.after.pop(id(kernel))]
        self.after[id(one)] = [other for other in followers if other not in gone]
        for each in self.after.values():
            each[:] = [id(one) if other in gone else other for other in each]

    def sorted(self) -> list[Kernel]:
        """An order that keeps all of it, as close to the given one as can be."""
        missing = {id(kernel): 0 for kernel in self.kernels}
        for followers in self.after.values():
            for follower in followers:
                missing[follower] += 1
        place = {id(kernel): number for number, kernel in enumerate(self.kernels)}
        ready = [place[key] for key, count in missing.items() if count == 0]
        heapq.heapify(ready)
        order: list[Kernel] = []
        while ready:
            kernel = self.kernels[heapq.heappop(ready)]
            order.append(kernel)
            for follower in self.after[id(kernel)]:
                missing[follower] -= 1
                if missing[follower] == 0:
                    heapq.heappush(ready, place[follower])
        assert len(order) == len(self.kernels), "kernels wait for each other"
        return order
