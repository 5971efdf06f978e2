"""From a group of equations to a loop nest: which value is computed at which depth, and where it lives.

A value that depends on no loop variable is computed before the loops, one that depends on the round only once a round,
everything else in the innermost loop of its stage. A value that a later stage reads goes to memory if it is stored
there anyway, else to a row buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from graphc.ir import REGISTRY
from graphc.lower.equations import Equation, IndexValue, Load, Program
from graphc.lower.index import Index, Var, flatten, unflatten
from graphc.ops.pointwise import COSTLY, Pointwise
from graphc.schedule.fuse import LoopGroup, Member, live, reduced
from graphc.schedule.kernels import (
    Accumulate,
    Accumulator,
    Axes,
    Let,
    LoopKernel,
    Scalar,
    Stage,
    Store,
    reached,
    roots_of,
)
from graphc.schedule.scalars import Body, Namer, apply, formula, load, named
from graphc.types import INT32, TensorType

__all__ = ["build_loops"]

# Rounds in a strip where no sum over them has lanes, and what the buffers of a strip may take of a level-one cache.
SHORT_STRIP, STRIP_BYTES = 16, 16384


@dataclass(frozen=True)
class _Placed:
    """A member with kernel indices for its axes, its inner loops (the last ``gone`` of them reduced) and its stage."""

    member: Member
    values: tuple[Index, ...]
    loops: Axes
    gone: int
    stage: int

    @property
    def own(self) -> tuple[Index, ...]:
        """Where in its tensor the element lies."""
        return self.values[: self.member.equation.rank]


def build_loops(
    group: LoopGroup, program: Program, is_stored: Callable[[str], bool], wanted: set[str], volatile: set[str]
) -> LoopKernel:
    """The loop nest of a group. wanted: what needs memory of its own; volatile: parameters that are updated."""
    return _Loops(group, program, is_stored, wanted, volatile).build()


class _Loops:
    def __init__(
        self, group: LoopGroup, program: Program, is_stored: Callable[[str], bool], wanted: set[str], volatile: set[str]
    ) -> None:
        self.group, self.program, self.is_stored = group, program, is_stored
        self.wanted, self.volatile = wanted, volatile
        self.members = group.members
        self.ordered = list(group.members.values())
        self.placed: dict[str, _Placed] = {}
        self.readers: dict[str, list[tuple[_Placed, Load]]] = {}
        self.rounds: Sequence[Index] = [Index.of(place, extent) for place, extent in enumerate(group.extents)]
        self.kernel = LoopKernel(self.ordered[-1].equation.name, "", tuple(enumerate(group.extents)))

    def build(self) -> LoopKernel:
        self.flatten_rounds()
        kernel = self.kernel
        kernel.formulas = [formula(member.equation, self.program, self.is_stored) for member in self.ordered]
        for member in self.ordered:
            item = self.placed[member.equation.name] = self.place(member)
            for read in member.loads:
                self.readers.setdefault(read.tensor, []).append((item, read))
        self.body = Body(self.program, self.is_stored, frozenset(axis for axis, _ in kernel.outer))
        arrays = {
            name for member in self.ordered for name in (member.equation.name, *(r.tensor for r in member.loads))
        }
        in_registers = {name for name in self.members if name not in self.wanted and not self.needs_buffer(name)}
        self.namer = Namer([arrays - in_registers], self.volatile, self.body.rounds)
        for part, stages in (("row", kernel.stages), ("after", kernel.final)):
            for number, stage in enumerate(stages):
                self.body.own.clear()
                for item in self.placed.values():
                    if item.stage == number and (item.member.part == "after") == (part == "after"):
                        self.emit(item, stage)
            kernel.before += self.namer.finish(stages)
            stages[:] = [stage for stage in stages if stage.before or stage.body or stage.after]
            if part == "row":
                self.cut_strips()
                self.close_rounds()
        kernel.why = self.explain()
        return kernel

    def explain(self) -> str:
        count = len(self.group.members)
        text = f"{count} equation{'s' * (count > 1)} in one pass"
        return text + (" over shared rows" if self.group.rank and not self.group.pure and count > 1 else "")

    def flatten_rounds(self) -> None:
        """One loop instead of several, where every access allows it."""
        group = self.group
        if group.rank < 2 or not group.pure:
            return
        size = prod(group.extents)
        flat = unflatten(Index.of(0, size), group.extents)
        for member in self.ordered:
            equation = member.equation
            values = [Index() for _ in equation.axes]
            for place, axis in enumerate(member.align):
                values[axis] = flat[place]
            offsets = [flatten(values[: equation.rank], equation.shape)]
            for item in member.loads:
                moved = item.substitute(values)
                offsets.append(flatten(moved.index, self.program.type_of(item.tensor).shape))
            if any(not isinstance(atom, Var) for offset in offsets for atom, _ in offset.terms):
                return
            if self.uses_positions(equation):
                return
        self.rounds, self.kernel.outer = flat, ((0, size),)

    def uses_positions(self, equation: Equation) -> bool:
        """Whether an axis variable is itself a value, or decides a guard."""
        stack = [equation]
        while stack:
            for operand in stack.pop().operands:
                if isinstance(operand, IndexValue) or operand.guards:
                    return True
                if (
                    isinstance(operand, Load)
                    and not self.is_stored(operand.tensor)
                    and operand.tensor in self.program.by_name
                ):
                    stack.append(self.program.by_name[operand.tensor])
        return False

    # --- where a member runs -----------------------------------------------------------------------------
    def place(self, member: Member) -> _Placed:
        """Its loops, and the first stage in which all that it reads is known; a new one if there is none."""
        equation, after = member.equation, member.part == "after"
        first = 0 if after else len(self.kernel.outer)
        inner = [axis for axis in (*live(equation), *reduced(equation)) if axis not in member.align]
        values = [Index() for _ in equation.axes]
        for place, axis in enumerate(member.align):
            values[axis] = self.rounds[place]
        for place, axis in enumerate(inner):
            values[axis] = Index.of(first + place, equation.axes[axis])
        loops = tuple((first + place, equation.axes[axis]) for place, axis in enumerate(inner))
        gone = sum(axis >= equation.rank for axis in inner)
        item = _Placed(member, tuple(values), loops, gone, -1)

        least = 0
        for read in member.loads:
            producer = self.placed.get(read.tensor)
            if producer is None or (producer.member.part == "after") != after:
                continue
            beside = producer.member.equation.reduction is None and producer.loops == loops
            beside = beside and not read.guards and read.substitute(values).index == producer.own
            least = max(least, producer.stage + (not beside))
        stages = self.kernel.final if after else self.kernel.stages
        lanes, vector = self.manner(item)
        exclusive = 0 < gone < len(loops)
        for at in range(least, len(stages)):
            if stages[at].loops == loops and not exclusive and self.can_share(stages[at], lanes, vector):
                break
        else:
            at = len(stages)
            stages.append(Stage(loops, vector=vector))
        stage = stages[at]
        stage.lanes, stage.reduced = max(stage.lanes, lanes), max(stage.reduced, gone)
        return replace(item, stage=at)

    @staticmethod
    def manner(item: _Placed) -> tuple[int, bool]:
        """Lanes, and whether neighbours along the innermost loop are independent but for these."""
        reduction = item.member.equation.reduction
        if reduction is None or (not item.gone and live(item.member.equation)):
            return 1, True
        if not item.gone:
            return 1, reduction.lanes > 1 or item.member.part != "cross"
        return reduction.lanes, reduction.lanes > 1

    @staticmethod
    def can_share(stage: Stage, lanes: int, vector: bool) -> bool:
        if not stage.loops:
            return stage.vector == vector
        if 0 < stage.reduced < len(stage.loops) or stage.vector != vector:
            return False
        return 1 in (lanes, stage.lanes) or lanes == stage.lanes

    # --- lines -----------------------------------------------------------------------------------------
    def emit(self, item: _Placed, stage: Stage) -> None:
        equation = item.member.equation
        operands = [self.body.of(operand.substitute(item.values)) for operand in equation.operands]
        if equation.reduction is None:
            self.keep(item, apply(equation, operands), stage)
            return
        if equation.reduction.kind.startswith("arg"):
            position = next((item.values[a] for a in reduced(equation)), Index())
            operands.append(Scalar("index", INT32, variables=position.variables, index=position))
        if item.member.part == "cross":
            self.cross(item, tuple(operands), stage)
        else:
            self.reduce(item, tuple(operands), stage)

    def keep(self, item: _Placed, value: Scalar, stage: Stage) -> None:
        """A map's value: known to the rest of its stage, stored if others want it, buffered if a later stage does."""
        equation = item.member.equation
        self.body.put(Load(equation.name, item.own), value)
        if equation.name in self.wanted:
            stage.body.append(Store(equation.name, flatten(item.own, equation.shape), value))
        elif item.loops and self.read_later(item):
            self.buffer(item)
            stage.body.append(Store(equation.name, self.buffer_offset(item, item.own), value))

    def read_later(self, item: _Placed) -> bool:
        """Whether a later stage of the same part reads the member, or its own stage another element of it."""
        for other, read in self.readers.get(item.member.equation.name, ()):
            same_part = (other.member.part == "after") == (item.member.part == "after")
            if same_part and (other.stage > item.stage or read.substitute(other.values).index != item.own):
                return True
        return False

    def needs_buffer(self, name: str) -> bool:
        item = self.placed[name]
        if item.member.part == "cross" or item.gone:
            return len(item.loops) > item.gone
        return bool(item.loops) and self.read_later(item)

    def buffer(self, item: _Placed) -> None:
        """A row buffer for the elements of one round; after the rounds there is one for all."""
        name, equation = item.member.equation.name, item.member.equation
        shape = tuple(equation.axes[axis] for axis in live(equation) if axis not in item.member.align)
        arrays = self.kernel.results if item.member.part == "after" else self.kernel.buffers
        arrays[name] = TensorType(shape, equation.dtype)
        rounds = self.body.rounds  # an element is another one in each round, wherever in the row it lies

        def element(read: Load) -> Scalar:
            value = load(name, equation.dtype, self.buffer_offset(item, read.index))
            return replace(value, variables=value.variables | rounds)

        self.body.buffers[name] = element

    @staticmethod
    def buffer_offset(item: _Placed, index: Sequence[Index]) -> Index:
        equation = item.member.equation
        axes = [axis for axis in live(equation) if axis not in item.member.align]
        return flatten([index[axis] for axis in axes], [equation.axes[axis] for axis in axes])

    def reduce(self, item: _Placed, operands: tuple[Scalar, ...], stage: Stage) -> None:
        """A reduction inside of a round."""
        equation = item.member.equation
        assert equation.reduction is not None
        into = self.accumulator(self.namer.fresh(equation.name), equation, operands, 0)
        stage.accumulators.append(into)
        stage.body.append(Accumulate(into, Index(), operands))
        kept = frozenset(axis for axis, _ in item.loops[: len(item.loops) - item.gone])
        result = named(into.name, equation.dtype, self.body.rounds | kept)
        if equation.name in self.wanted:
            stage.after.append(Store(equation.name, flatten(item.own, equation.shape), result))
        elif kept:
            self.buffer(item)
            stage.after.append(Store(equation.name, self.buffer_offset(item, item.own), result))
        if not kept:
            self.body.shared[Load(equation.name, item.own)] = result

    @staticmethod
    def accumulator(name: str, equation: Equation, operands: tuple[Scalar, ...], size: int) -> Accumulator:
        order = equation.reduction
        assert order is not None
        return Accumulator(
            name, equation.name, equation.dtype, operands[0].dtype, order.kind, size, order.lanes, order.block
        )

    def cross(self, item: _Placed, operands: tuple[Scalar, ...], stage: Stage) -> None:
        """A reduction over the rounds: one running result, or one for each element of an array."""
        equation = item.member.equation
        assert equation.reduction is not None
        lanes, block = equation.reduction.lanes, equation.reduction.block
        if live(equation):
            into = self.accumulator(equation.name, equation, operands, equation.type.size)
            if equation.name not in self.wanted:
                self.kernel.results[equation.name] = TensorType(equation.shape, equation.dtype)
            if block:
                self.kernel.results[f"{equation.name}_part"] = TensorType(equation.shape, equation.dtype)
            index = flatten(item.own, equation.shape)
        else:
            into = self.accumulator(self.namer.fresh(equation.name), equation, operands, 0)
            index = Index() if item.gone or lanes == 1 else self.rounds[-1].modulo(lanes)
        self.kernel.accumulators.append(into)
        stage.body.append(Accumulate(into, index, operands))

    def cut_strips(self) -> None:
        """Take the rounds in strips where a stage does dear things once a round, or where they lie side by side: a strip of them
        is vector work."""
        kernel = self.kernel
        if len(kernel.outer) != 1 or kernel.outer[0][1] < 4:
            return
        abreast = self.go_abreast()
        if not (abreast or self.has_dear_rounds()):
            return
        extent = kernel.outer[0][1]
        lanes = max((a.lanes for a in kernel.accumulators), default=1)  # a round's place in the strip is its lane
        strip = lanes if lanes > 1 else min(extent, SHORT_STRIP)
        if strip * sum(type.nbytes for type in kernel.buffers.values()) > STRIP_BYTES:
            return
        kernel.strip, kernel.abreast = strip, abreast
        if abreast:
            kernel.handed.update({a.name: a.dtype for stage in kernel.stages for a in stage.accumulators})
        self.part_rounds()
        known = {line.name for line in kernel.before if isinstance(line, Let)}
        for stage in kernel.stages:
            own = {line.name for line in (*stage.before, *stage.body) if isinstance(line, Let)}
            own |= {accumulator.name for accumulator in stage.accumulators}
            roots = [root for line in (*stage.before, *stage.body, *stage.after) for root in roots_of(line)]
            stack, seen = list(roots), set()
            while stack:
                scalar = stack.pop()
                if scalar in seen:
                    continue
                seen.add(scalar)
                if scalar.name and scalar.name not in own:
                    if scalar.name not in known:
                        kernel.handed[scalar.name] = scalar.dtype
                else:
                    stack.extend(scalar.args)

    def go_abreast(self) -> bool:
        """Whether the rounds lie side by side in memory, and what a stage loops over does not."""
        rounds, _ = self.kernel.outer[0]
        found = False
        for stage in self.kernel.stages:
            added = [line.into for line in stage.body if isinstance(line, Accumulate)]
            if not stage.loops:
                continue
            if len(stage.loops) > 1 or stage.lanes > 1 or added != stage.accumulators or any(a.block for a in added):
                return False
            axis, _ = stage.loops[0]
            places = [(line.tensor, line.index) for line in stage.body if isinstance(line, Store)]
            scalars = reached(root for line in stage.body for root in roots_of(line))
            places += [(scalar.tensor, scalar.index) for scalar in scalars if scalar.op == "load"]
            for tensor, index in places:
                if tensor not in self.kernel.buffers and {axis, rounds} <= index.variables:
                    if index.factor(rounds) == 1:
                        found = True
                    elif index.factor(rounds) is not None or index.factor(axis) == 1:
                        return False
        return found

    def part_rounds(self) -> None:
        """What a stage of a strip computes once a round, before its loops, goes to a stage without loops: the one before it,
        or one of its own."""
        stages: list[Stage] = []
        for stage in self.kernel.stages:
            if stage.loops and stage.before:
                if not (stages and not stages[-1].loops and stages[-1].vector):
                    stages.append(Stage())
                stages[-1].body += stage.before
                stage.before = []
            stages.append(stage)
        self.kernel.stages[:] = stages

    def has_dear_rounds(self) -> bool:
        """Whether a stage without loops computes something dear, or adds to lanes."""
        if all(not stage.loops for stage in self.kernel.stages) and not self.kernel.accumulators:
            return False
        for stage in self.kernel.stages:
            lines = stage.before if stage.loops else [*stage.before, *stage.body]
            if any(isinstance(line, Accumulate) and line.into.lanes > 1 for line in lines if not stage.loops):
                return True
            ops = [REGISTRY.get(scalar.op) for scalar in reached(root for line in lines for root in roots_of(line))]
            if any(isinstance(op, Pointwise) and op.cost >= COSTLY for op in ops):
                return True
        return False

    def close_rounds(self) -> None:
        """Results of the reductions over the rounds, as the equations after the rounds see them."""
        self.body.shared.clear()
        self.body.own.clear()
        self.body.rounds = self.namer.rounds = frozenset()
        for item in self.placed.values():
            equation = item.member.equation
            if item.member.part != "cross" or live(equation):
                continue
            into = next(a for a in self.kernel.accumulators if a.tensor == equation.name)
            result = named(into.name, equation.dtype)
            self.body.shared[Load(equation.name, item.own)] = result
            if equation.name in self.wanted:
                self.kernel.after.append(Store(equation.name, Index(), result))
