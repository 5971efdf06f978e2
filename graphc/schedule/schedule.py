"""From equations to a schedule: kernels in an order that is safe, and where each stored tensor lives.

An update is written into its parameter in place when every other reader of the old value can run before, and its own
kernel reads an element only where it writes it. Otherwise the new value gets memory of its own and is copied at
the end: `{a: b, b: a}` swaps. These orders are edges between kernels, like those of the data.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
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
    reached,
    reads_of,
    roots_of,
    scalars_of,
    writes_of,
)
from graphc.schedule.nest import build_loops
from graphc.schedule.product import build_contraction
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
    for number in range(len(checks)):
        order.put_early(number)
    writers: dict[int, dict[str, str]] = {}
    for parameter, name in program.updates.items():
        writers.setdefault(order.writer[name], {})[parameter] = name
    elementwise = {p for number, updates in writers.items() for p in _elementwise(order.kernels[number], updates)}
    aliases: dict[str, str] = {}
    copies: list[Kernel] = []
    for parameter, name in sorted(program.updates.items(), key=lambda item: -program.type_of(item[1]).nbytes):
        writer = order.writer[name]
        readers = order.readers.get(parameter, set()) - {writer}
        if parameter in elementwise and not any(order.leads(writer, reader) for reader in readers):
            aliases[name] = parameter
            if _leave_in_place(order.kernels[writer], parameter, name):
                order.look(writer)
            for reader in readers:
                order.add(reader, writer)
        else:
            copies.append(CopyKernel(f"set_{parameter}", parameter, name, "the old value is read until the end"))
    for name, parameter in aliases.items():
        update, writer = program.by_name[name], order.writer[name]
        scatters = _scatters_behind(update, parameter, program, is_stored)
        if not scatters or any(scatter.name in program.outputs for scatter in scatters):
            continue
        apart = [order.writer[scatter.name] for scatter in scatters]
        if stores_of(order.kernels[writer]) == [name] and _read_by_none_but(writer, scatters, apart, order):
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


def _read_by_none_but(writer: int, scatters: list[Equation], apart: list[int], order: _Order) -> bool:
    """Whether ``writer`` alone reads the scatters, and no other kernel must run between them and it."""
    readers = {number for scatter in scatters for number in order.readers.get(scatter.name, ())}
    return readers - set(apart) == {writer} and not order.between([*apart, writer])


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


def _elementwise(kernel: Kernel, updates: Mapping[str, str]) -> set[str]:
    """The parameters whose new value (``updates`` names it), which ``kernel`` stores, it may store over the old one.

    A read of the old value is harmless in the line of loops that stores the same element, or in one that is over by then;
    rounds are over for what comes after them, not for the next stage of the same round.
    """
    harmless = set(updates) - set(reads_of(kernel))
    scalars = list(scalars_of(kernel))
    apart = {name for scalar in scalars for name in _picked(scalar)}
    apart.update(name for line in lines_of(kernel) if isinstance(line, Store) for name in line.index.picks)
    if isinstance(kernel, ContractKernel):
        apart.update(s.tensor for s in reached([kernel.left.scalar, kernel.right.scalar]))
        places = [(True, kernel.epilogue)]
    elif isinstance(kernel, LoopKernel):
        stages = [(bool(kernel.outer), s) for s in kernel.stages] + [(False, s) for s in kernel.final]
        places = [(repeated, [*s.before, *s.body, *s.after]) for repeated, s in stages]
        places.insert(len(kernel.stages), (False, kernel.after))
    else:
        return harmless
    loads: dict[str, list[Scalar]] = {}
    for scalar in scalars:
        if scalar.op == "load":
            loads.setdefault(scalar.tensor, []).append(scalar)
    used = dict.fromkeys(scalars, 0)  # where, a bit for each place
    stores: dict[str, tuple[int, Index]] = {}
    for place, (_, lines) in enumerate(places):
        for line in lines:
            for root in roots_of(line):
                used[root] |= 1 << place
            if isinstance(line, Store):
                stores.setdefault(line.tensor, (place, line.index))

    waiting = Counter(arg for scalar in scalars for arg in scalar.args)
    ready = [scalar for scalar in scalars if scalar not in waiting]
    while ready:  # a scalar after all that use it
        scalar = ready.pop()
        for arg in scalar.args:
            used[arg] |= used[scalar]
            waiting[arg] -= 1
            if not waiting[arg]:
                ready.append(arg)
    repeated = sum(1 << place for place, (again, _) in enumerate(places) if again)

    def spares(load: Scalar, place: int, stored: Index) -> bool:
        """Whether a store in ``place`` leaves alone what ``load`` reads, wherever that is used."""
        together = 1 << place | (repeated if places[place][0] else 0)
        return not used[load] >> (place + 1) and (load.index == stored or not used[load] & together)

    for parameter, name in updates.items():  # a running result is in no place: it is not complete while the old value is read
        if parameter not in apart and name in stores and all(spares(load, *stores[name]) for load in loads.get(parameter, ())):
            harmless.add(parameter)
    return harmless


def _picked(scalar: Scalar) -> set[str]:
    indices = [scalar.index, *(guard.index for guard in scalar.guards)]
    return {name for index in indices for name in index.picks}


class _Order:
    """Kernels by number, who writes and who reads a tensor, and what must come before what.

    ``rank`` is an order that keeps all of it, changed where an edge asks for it (as Pearce and Kelly do): from one kernel to
    another lead only kernels ranked between them.
    """

    def __init__(self, kernels: list[Kernel]) -> None:
        self.kernels = dict(enumerate(kernels))
        self.rank = {number: number for number in self.kernels}
        self.before: dict[int, set[int]] = {number: set() for number in self.kernels}
        self.after: dict[int, set[int]] = {number: set() for number in self.kernels}
        self.writer = {name: number for number, kernel in self.kernels.items() for name in stores_of(kernel)}
        self.reads: dict[int, list[str]] = {}
        self.readers: dict[str, set[int]] = {}
        for number in self.kernels:
            self.look(number)
            for name in self.reads[number]:
                if self.writer.get(name, number) != number:
                    self.add(self.writer[name], number)

    def look(self, number: int) -> None:
        """See what a kernel reads: less, once it has lost lines."""
        for name in self.reads.get(number, ()):
            self.readers[name].discard(number)
        self.reads[number] = reads_of(self.kernels[number])
        for name in self.reads[number]:
            self.readers.setdefault(name, set()).add(number)

    def add(self, first: int, then: int) -> None:
        self.after[first].add(then)
        self.before[then].add(first)
        low, high = self.rank[then], self.rank[first]
        if low < high:
            moved = []
            for end, edges in ((first, self.before), (then, self.after)):
                moved += sorted(self.reach(end, edges, low, high), key=self.rank.__getitem__)
            self.rank.update(zip(moved, sorted(self.rank[number] for number in moved), strict=True))

    def reach(self, number: int, edges: dict[int, set[int]], low: int, high: int) -> set[int]:
        """A kernel and all that edges lead to from it within these ranks."""
        stack, seen = [number], {number}
        while stack:
            for other in edges[stack.pop()]:
                if other not in seen and low <= self.rank[other] <= high:
                    seen.add(other)
                    stack.append(other)
        return seen

    def leads(self, first: int, then: int) -> bool:
        """Whether ``then`` must come after ``first``, directly or not."""
        low, high = self.rank[first], self.rank[then]
        return low < high and then in self.reach(first, self.after, low, high)

    def put_early(self, check: int) -> None:
        """Before every kernel that is not a check and need not come before it."""
        leading = self.reach(check, self.before, 0, self.rank[check])
        kernels = {number for number, kernel in self.kernels.items() if not isinstance(kernel, CheckKernel)} - leading
        for number in sorted(kernels, key=self.rank.__getitem__):
            if kernels.isdisjoint(self.before[number]):
                self.add(check, number)

    def between(self, several: list[int]) -> bool:
        """Whether another kernel must come after one of these and before one of these."""
        after = {other for number in several for other in self.after[number]} - set(several)
        return any(self.leads(other, number) for other in after for number in several)

    def merge(self, several: list[int], one: Kernel) -> None:
        """Put ``one`` in place of several kernels, the last of which is the last."""
        *gone, last = several
        for number in gone:
            for name in self.reads.pop(number):
                self.readers[name].discard(number)
            before, after = self.before.pop(number), self.after.pop(number)
            for other in before:
                self.after[other].discard(number)
            for other in after:
                self.before[other].discard(number)
            for other in before.difference(several):
                self.add(other, last)
            for other in after.difference(several):
                self.add(last, other)
            del self.kernels[number], self.rank[number]
        self.kernels[last] = one
        self.writer |= dict.fromkeys(stores_of(one), last)
        self.look(last)

    def sorted(self) -> list[Kernel]:
        """An order that keeps all of it, as close to the given one as can be."""
        missing = {number: len(before) for number, before in self.before.items()}
        ready = [number for number, count in missing.items() if count == 0]
        heapq.heapify(ready)
        order: list[Kernel] = []
        while ready:
            number = heapq.heappop(ready)
            order.append(self.kernels[number])
            for follower in self.after[number]:
                missing[follower] -= 1
                if missing[follower] == 0:
                    heapq.heappush(ready, follower)
        assert len(order) == len(self.kernels), "kernels wait for each other"
        return order
