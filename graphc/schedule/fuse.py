"""What is stored, and what is computed together.

Two questions, each with one rule.

*Stored or computed again?* (:func:`choose_stored`) Results of reductions and whatever the user wants are stored. A
pointwise value is computed where it is read, unless that would be several times and is dear, or it finishes a
contraction. What only its own kernel reads is dropped again later and lives in a register or a row buffer.

*Which kernel?* (:class:`Grouping`) Stored equations are taken in order; each joins the kernel of the latest tensor
that it reads, if it can run in the same rounds, else it opens a kernel of its own:

    softmax:  max[i] -- exp[i, j] -- sum[i] -- gradient[i, j]      one kernel over rows i
    X @ W     matmul[i, j] -- relu[i, j] -- new_W[i, j]            one contraction with an epilogue

A routine (:class:`~graphc.lower.equations.Call`) is stored and alone in its kernel.

All decisions follow from the equations alone, never from the target: they decide the bits of the result.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

from graphc.ir import REGISTRY
from graphc.lower.columns import SHORT
from graphc.lower.equations import Equation, IndexValue, Load, Operand, Program
from graphc.lower.index import flatten
from graphc.ops.pointwise import Pointwise

__all__ = ["ContractGroup", "Group", "Grouping", "LoopGroup", "Member", "RoutineGroup", "choose_stored", "live"]

# A pointwise value that several kernels read is stored when computing it again takes more than so many
# operations: a store and a load cost about as much.
DEAR = 2
# A value spread over a larger space (a row scalar over a row) is stored when it is dearer than a division.
DEAR_WHEN_SPREAD = 4
# After its rounds a kernel may finish small results (a bias update, a mean) on the spot.
SMALL = 65536


def is_contraction(equation: Equation) -> bool:
    """Whether the equation is a matrix product: a dot with axes of its own on either side."""
    if equation.reduction is None or equation.reduction.kind != "dot":
        return False
    left, right = (operand.variables for operand in equation.operands)
    kept = {axis for axis in range(equation.rank) if equation.axes[axis] != 1}
    return bool(kept & (left - right)) and bool(kept & (right - left))


def live(equation: Equation) -> tuple[int, ...]:
    """The axes of the result with more than one position."""
    return tuple(axis for axis in range(equation.rank) if equation.axes[axis] != 1)


def reduced(equation: Equation) -> tuple[int, ...]:
    """The reduced axes with more than one position."""
    return tuple(axis for axis in range(equation.rank, len(equation.axes)) if equation.axes[axis] != 1)


def has_short_rounds(equation: Equation, rounds: Sequence[int]) -> bool:
    """Whether these are many rounds, over one axis, with but a few elements each. Such as lie side by side go abreast."""
    if len(rounds) != 1:
        return False
    count = equation.axes[rounds[0]]
    return prod(equation.axes) // count < min(SHORT, count)


def runs_along(operand: Operand, axis: int, program: Program) -> bool:
    """Whether an operand is memory, and neighbours along ``axis`` are neighbours there."""
    return isinstance(operand, Load) and flatten(operand.index, program.type_of(operand.tensor).shape).factor(axis) == 1


def is_whole(load: Load, equation: Equation) -> bool:
    """Whether ``equation`` reads, at each of its elements, just the same element."""
    return not load.guards and load.index == equation.identity and equation.call is None


# --- stored or computed again -------------------------------------------------------------------------
def picked(operand: Operand) -> Iterator[str]:
    """Tensors whose elements serve as indices in an operand."""
    own = operand.index if isinstance(operand, Load) else (operand.index,) if isinstance(operand, IndexValue) else ()
    for index in (*own, *(guard.index for guard in operand.guards)):
        yield from index.picks


def choose_stored(program: Program) -> dict[str, Equation]:
    """The equations whose result is kept, in order; all others are computed where they are read."""
    equations = program.by_name
    readers: dict[str, list[tuple[Equation, Load]]] = {name: [] for name in equations}
    stored: set[str] = {*program.outputs, *program.updates.values()}
    for equation in program.equations:
        for operand in equation.operands:
            if isinstance(operand, Load) and operand.tensor in readers:
                readers[operand.tensor].append((equation, operand))
            stored.update(name for name in picked(operand) if name in equations)
        if equation.call is not None and equation.call.whole:
            stored.update(load.tensor for load in equation.loads if load.tensor in equations)
        if equation.op.startswith("scatter_"):  # few as a rule, and then no parameter is read while one is written
            new = equation.operands[1]
            stored.update([new.tensor] if isinstance(new, Load) and new.tensor in equations else [])
    stored.update(check.load.tensor for check in program.checks if check.load.tensor in equations)

    needed = _reached(program, stored)
    cost: dict[str, float] = {}
    finishes: set[str] = set()  # values on the way from a contraction to its first branching
    for equation in program.equations:
        if equation.name not in needed:
            continue
        uses = [(reader, load) for reader, load in readers[equation.name] if reader.name in needed]
        if equation.reduction is not None or equation.call is not None:
            stored.add(equation.name)
        cost[equation.name] = _own_cost(equation) + sum(
            cost[load.tensor] for load in equation.loads if load.tensor in cost and load.tensor not in stored
        )
        straight = len(uses) == 1 and uses[0][0].reduction is None and is_whole(uses[0][1], uses[0][0])
        if equation.reduction is not None:
            if is_contraction(equation):
                finishes.add(equation.name)
        elif any(load.tensor in finishes and is_whole(load, equation) for load in equation.loads):
            if straight:
                finishes.add(equation.name)
            else:
                stored.add(equation.name)
        else:
            spread = any(_spreads(reader, load) for reader, load in uses)
            if (len(uses) > 1 and cost[equation.name] > DEAR) or (spread and cost[equation.name] > DEAR_WHEN_SPREAD):
                stored.add(equation.name)
        if equation.name in stored:
            cost[equation.name] = 0
    kept = stored & needed
    return {equation.name: equation for equation in program.equations if equation.name in kept}


def _reached(program: Program, wanted: set[str]) -> set[str]:
    """Everything that the wanted equations read, directly or not."""
    found: set[str] = set()
    stack = [name for name in wanted if name in program.by_name]
    while stack:
        name = stack.pop()
        if name in found:
            continue
        found.add(name)
        for operand in program.by_name[name].operands:
            names = [*picked(operand), *([operand.tensor] if isinstance(operand, Load) else [])]
            stack.extend(other for other in names if other in program.by_name)
    return found


def _own_cost(equation: Equation) -> float:
    op = REGISTRY.get(equation.op)
    return op.cost if isinstance(op, Pointwise) else 0.5 if equation.op == "cast" else 0


def _row(load: Load, axis: int) -> tuple[str, int] | None:
    """The tensor, and its one axis that ``axis`` runs along alone; None where there is no such axis."""
    along = [place for place, index in enumerate(load.index) if index.axis == axis]
    return (load.tensor, along[0]) if len(along) == 1 and len(load.index) > 1 and not load.guards else None


def _spreads(reader: Equation, load: Load) -> bool:
    """Whether the reader asks for the same element again and again."""
    shape = reader.axes if reader.call is None else reader.call.shapes[reader.operands.index(load)]
    space = {axis for axis, extent in enumerate(shape) if extent != 1}
    return not space <= load.variables


# --- kernels ----------------------------------------------------------------------------------------
@dataclass
class Member:
    """An equation in a loop kernel.

    align: the axis of the equation that each outer axis of the kernel runs over. part: "row" (computed in each round),
    "cross" (reduced over the rounds) or "after" (computed when the rounds are over).
    """

    equation: Equation
    align: tuple[int, ...]
    part: str
    loads: tuple[Load, ...]


@dataclass
class LoopGroup:
    """Equations that run in the same rounds over ``extents``.

    pure: only maps, each with all its axes outside, so that the rank may still shrink at no cost. crossed: something is
    reduced over the rounds. spaces: the extents that members run over. offers: what :func:`asks` may find here.
    """

    extents: tuple[int, ...]
    members: dict[str, Member] = field(default_factory=dict)
    pure: bool = True
    crossed: bool = False
    spaces: set[tuple[int, ...]] = field(default_factory=set)
    offers: set[object] = field(default_factory=set)

    @property
    def rank(self) -> int:
        return len(self.extents)

    def add(self, equation: Equation, align: Sequence[int], part: str, loads: tuple[Load, ...]) -> set[object]:
        """Take a member; the rank shrinks to the axes that it shares. What it offers that was not offered before."""
        before = (self.rank, self.pure)
        if part != "after" and len(align) < self.rank:
            self.pure = False
            self.extents = self.extents[: len(align)]
            for member in self.members.values():
                member.align = member.align[: len(align)]
        new = self.members[equation.name] = Member(equation, tuple(align), part, loads)
        self.pure = self.pure and part == "row" and equation.reduction is None and len(live(equation)) == self.rank
        self.crossed = self.crossed or part == "cross"
        self.spaces.add(tuple(extent for extent in equation.axes if extent != 1))
        if (self.rank, self.pure) != before:
            self.offers = set().union(*map(self.offered, self.members.values()))
            return self.offers
        offers = self.offered(new) - self.offers
        self.offers |= offers
        return offers

    def offered(self, member: Member) -> set[object]:
        """What equations that read nothing computed here may share with a member."""
        found: set[object] = set()
        if self.rank == 0:
            found.update(((), *(load.tensor for load in member.loads)))
        if self.rank == 1 and member.align:
            found.update((self.extents[0], row) for load in member.loads if (row := _row(load, member.align[0])))
        if self.pure:
            found.update((self.extents, load) for load in member.loads)
        return found


def asks(equation: Equation, loads: Sequence[Load]) -> set[object]:
    """What a kernel that hands ``equation`` nothing must offer, any of it, to take it.

    It takes a scalar beside scalars; a map over the same space that reads something that it reads too; a sum of rows that it
    reads in its rounds anyway: that of a layer's bias beside its weight.
    """
    kept, gone, order = live(equation), reduced(equation), equation.reduction
    if order is None and not kept:
        return {load.tensor for load in loads} if equation.axes else {()}
    if order is None:
        extents = tuple(equation.axes[axis] for axis in kept)
        return {(extents, load) for load in loads}
    if not kept or len(gone) != 1 or order.lanes > 1 or order.kind.startswith("arg"):
        return set()
    return {(equation.axes[gone[0]], row) for load in loads if (row := _row(load, gone[0]))}


@dataclass
class ContractGroup:
    """A contraction, and the maps that finish its elements."""

    equation: Equation
    followers: list[Equation] = field(default_factory=list)


@dataclass
class RoutineGroup:
    """The call of a routine, alone."""

    equation: Equation


Group = LoopGroup | ContractGroup | RoutineGroup


@dataclass
class Grouping:
    """Puts each stored equation into a kernel. ``groups`` is in an order in which each follows what it reads.

    loads: what each equation reads from memory. waits: by the new value of a parameter, the equations that read the old one.
    offers: the kernels that offer something, the last one first (those that no longer do are dropped when they come up).
    """

    program: Program
    stored: dict[str, Equation]
    groups: list[Group] = field(default_factory=list)
    place: dict[str, int] = field(default_factory=dict)
    loads: dict[str, tuple[Load, ...]] = field(default_factory=dict)
    waits: dict[str, list[str]] = field(default_factory=dict)
    offers: dict[object, list[int]] = field(default_factory=dict)

    def run(self) -> list[Group]:
        early = self._early()
        equations = sorted(self.stored.values(), key=lambda equation: equation.name not in early)
        updates = self.program.updates
        for equation in equations:
            self.loads[equation.name] = self.leaves(equation)
            for parameter in {load.tensor: None for load in self.loads[equation.name] if load.tensor in updates}:
                self.waits.setdefault(updates[parameter], []).append(equation.name)
        for equation in equations:
            self.enter(equation)
        return self.groups

    def _early(self) -> set[str]:
        """Scalars that follow from scalars alone, such as the learning rate of a step: they come first, in one kernel.

        Then whatever reads them can join the kernel of what else it reads; an update the store step of its gradient.
        """
        sources = (*self.program.sources, *self.program.constants)
        known = {name for name in sources if self.program.type_of(name).shape == ()}
        early: set[str] = set()
        for equation in self.program.equations:
            if equation.axes or equation.reduction is not None or equation.call is not None:
                continue
            picks = any(True for operand in equation.operands for _ in picked(operand))
            if not picks and all(load.tensor in known for load in equation.loads):
                known.add(equation.name)
                early.add(equation.name)
        return early

    def leaves(self, equation: Equation) -> tuple[Load, ...]:
        """What an equation reads from memory once all that is not stored is computed in it, in its own axes."""
        found: dict[Load, None] = {}
        seen: set[Load] = set()
        stack: list[Load] = list(reversed(equation.loads))
        while stack:
            load = stack.pop()
            if load in seen:
                continue
            seen.add(load)
            inner = self.program.by_name.get(load.tensor)
            if inner is None or load.tensor in self.stored:
                found[load] = None
            else:
                stack.extend(other.substitute(load.index) for other in reversed(inner.loads))
        return tuple(found)

    def enter(self, equation: Equation) -> None:
        loads = self.loads[equation.name]
        latest = max((self.place[load.tensor] for load in loads if load.tensor in self.place), default=-1)
        latest = max([latest, *(self.place[name] + 1 for name in self.picks(equation) if name in self.place)])
        joined = (place for place in self._candidates(equation, loads, latest) if self.join(equation, loads, place))
        place = next(joined, len(self.groups))
        if place == len(self.groups):
            self.open(equation, loads)
        self.place[equation.name] = place

    def _candidates(self, equation: Equation, loads: tuple[Load, ...], latest: int) -> Iterator[int]:
        """The latest kernel that computes what is read; the last one behind it that offers what the equation asks."""
        if equation.call is not None or is_contraction(equation):
            return
        if 0 <= latest < len(self.groups):
            yield latest
        last = latest
        for key in asks(equation, loads):
            places = self.offers.get(key, [])
            while places and not self._offers(-places[0], key):
                heapq.heappop(places)
            last = max([last, *(-place for place in places[:1])])
        if last > latest:
            yield last

    def _offers(self, place: int, key: object) -> bool:
        group = self.groups[place]
        return isinstance(group, LoopGroup) and key in group.offers

    def add(self, place: int, equation: Equation, align: Sequence[int], part: str, loads: tuple[Load, ...]) -> bool:
        """Take an equation into the loop kernel of this place."""
        group = self.groups[place]
        assert isinstance(group, LoopGroup)
        for key in group.add(equation, align, part, loads):
            heapq.heappush(self.offers.setdefault(key, []), -place)
        return True

    def picks(self, equation: Equation) -> list[str]:
        """The tensors whose elements serve as indices in an equation and all that is computed in it."""
        return [name for operand in self.operands_of(equation) for name in picked(operand)]

    def operands_of(self, equation: Equation) -> Iterator[Operand]:
        """The operands of an equation and of all that is computed in it."""
        stack, seen = [equation], {equation.name}
        while stack:
            for operand in stack.pop().operands:
                yield operand
                if isinstance(operand, Load) and operand.tensor not in seen:
                    seen.add(operand.tensor)
                    inner = self.program.by_name.get(operand.tensor)
                    if inner is not None and operand.tensor not in self.stored:
                        stack.append(inner)

    def open(self, equation: Equation, loads: tuple[Load, ...]) -> None:
        """A kernel of its own: rounds over the axes of the result, or, for the sums of columns, over what is reduced."""
        if equation.call is not None:
            self.groups.append(RoutineGroup(equation))
            return
        if is_contraction(equation):
            self.groups.append(ContractGroup(equation))
            return
        kept, gone = live(equation), reduced(equation)
        order = equation.reduction
        rows = order is None or order.kind.startswith("arg") or (order.lanes > 1 and kept)
        rows = rows or (kept and (has_short_rounds(equation, kept) or self._rows_are_reduced(equation, loads)))
        axes, part = (kept, "row") if rows or not gone else (gone, "cross")
        self.groups.append(LoopGroup(tuple(equation.axes[a] for a in axes)))
        self.add(len(self.groups) - 1, equation, axes, part, loads)

    def _rows_are_reduced(self, equation: Equation, loads: tuple[Load, ...]) -> bool:
        """Whether neighbours in memory are reduced together, as far as the largest operand says."""

        def size(load: Load) -> int:
            return self.program.type_of(load.tensor).size

        for load in sorted(loads, key=size, reverse=True)[:1]:
            return not any(runs_along(load, axis, self.program) for axis in live(equation))
        return True

    def join(self, equation: Equation, loads: tuple[Load, ...], place: int) -> bool:
        """Add ``equation`` to the kernel of this place if it can run in its rounds."""
        group = self.groups[place]
        if isinstance(group, RoutineGroup):
            return False
        local = [load for load in loads if self.place.get(load.tensor) == place]
        if isinstance(group, ContractGroup):
            return self._join_contraction(equation, local, group)
        parts = group.members
        if any(parts[load.tensor].part != "row" for load in local):
            late = equation.reduction is None and equation.type.size <= SMALL and not self._is_too_early(equation, place)
            return late and self.add(place, equation, (), "after", loads)
        if not local:
            return self._join_beside(equation, loads, place, group)
        align: list[int] = []
        for number in range(group.rank):
            axes = set()
            for load in local:
                producer = parts[load.tensor]
                axes.add(load.index[producer.align[number]].axis if not load.guards else None)
            axis = axes.pop() if len(axes) == 1 else None
            if axis is None or axis in align or equation.axes[axis] != group.extents[number]:
                break
            align.append(axis)
        kept = list(itertools.takewhile(lambda axis: axis < equation.rank, align))
        gone = list(itertools.takewhile(lambda axis: axis >= equation.rank, align))
        part = "row"
        if equation.reduction is None or kept:
            rank = len(kept)
            if rank == 0 and group.rank > 0:
                return False
            if equation.reduction is None and self._strides(equation, kept, loads):
                return False
        elif gone and not equation.reduction.kind.startswith("arg"):
            rank, part = len(gone), "cross"
            side_by_side = any(len(load.index) > 1 and runs_along(load, gone[0], self.program) for load in loads)
            if live(equation) and (side_by_side or equation.reduction.lanes > 1):  # neighbours in memory are reduced: rows
                return False
        elif group.rank == 0:
            rank = 0
        else:
            return False
        if rank == 0 and group.rank == 0 and not self._fits_single_round(equation, group):
            return False
        if rank < group.rank and group.crossed:
            return False
        return self.add(place, equation, align[:rank], part, loads)

    def _is_too_early(self, equation: Equation, place: int) -> bool:
        """Whether the old value of what ``equation`` updates is read in a later kernel: one of its own can wait for that."""
        readers = (reader for reader in self.waits.get(equation.name, ()) if reader != equation.name)
        return any(self.place.get(reader, place + 1) > place for reader in readers)

    def _strides(self, equation: Equation, rounds: Sequence[int], loads: tuple[Load, ...]) -> bool:
        """Whether rounds over these axes would take what lies side by side one after another, and leave to the loop inside of a
        round nothing but strides: each column of a matrix that is stored by rows."""
        inner = [axis for axis in live(equation) if axis not in rounds]
        if not inner or inner[-1] == live(equation)[-1] or has_short_rounds(equation, rounds):
            return False
        whole = [load for load in loads if set(live(equation)) <= load.variables]
        return not any(runs_along(load, inner[-1], self.program) for load in whole)

    @staticmethod
    def _fits_single_round(equation: Equation, group: LoopGroup) -> bool:
        """A kernel of one round takes scalars, small results, and what runs over a space that it runs over anyway."""
        space = tuple(extent for extent in equation.axes if extent != 1)
        return space == () or space in group.spaces or equation.type.size <= 64

    def _join_beside(self, equation: Equation, loads: tuple[Load, ...], place: int, group: LoopGroup) -> bool:
        """Where nothing is handed over: by what the kernel offers, or a scalar beside scalars in any case."""
        scalar = equation.reduction is None and not live(equation) and group.rank == 0
        if not scalar and group.offers.isdisjoint(asks(equation, loads)):
            return False
        if equation.reduction is not None:
            return self.add(place, equation, reduced(equation), "cross", loads)
        return self.add(place, equation, live(equation), "row", loads)

    @staticmethod
    def _join_contraction(equation: Equation, local: list[Load], group: ContractGroup) -> bool:
        if equation.reduction is not None or equation.shape != group.equation.shape:
            return False
        if not local or not all(is_whole(load, equation) for load in local):
            return False
        group.followers.append(equation)
        return True
