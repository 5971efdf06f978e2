"""From groups of equations to loop nests: which value is computed at which depth, and where it lives.

A value that depends on no loop variable is computed before the loops, one that depends on the round only once a round,
everything else in the innermost loop of its stage. A value that a later stage reads goes to memory if it is stored
there anyway, else to a row buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from math import prod

from graphc.ir import REGISTRY
from graphc.lower.equations import Equation, Guard, IndexValue, Literal, Load, Program, axis_name, format_equation
from graphc.lower.equations import Operand as EquationOperand
from graphc.lower.index import Index, Var, flatten, unflatten
from graphc.ops.pointwise import COSTLY, Pointwise
from graphc.schedule.fuse import ContractGroup, LoopGroup, Member, live, reduced
from graphc.schedule.kernels import (
    Accumulate,
    Accumulator,
    ContractKernel,
    Let,
    Line,
    LoopKernel,
    Operand,
    Scalar,
    Stage,
    Store,
    reached,
    roots_of,
)
from graphc.types import INT32, DType, TensorType

__all__ = ["Body", "Namer", "apply", "build_contraction", "build_loops", "formula", "load"]


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


# Rounds in a strip where no sum over them has lanes, and what the buffers of a strip may take of a level-one cache.
SHORT_STRIP, STRIP_BYTES = 16, 16384


# --- loop kernels -------------------------------------------------------------------------------------
Axes = tuple[tuple[int, int], ...]


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
        """Take the rounds in strips where a stage does dear things once a round: a strip of them is vector work."""
        kernel = self.kernel
        if len(kernel.outer) != 1 or kernel.outer[0][1] < 4 or not self.has_dear_rounds():
            return
        extent = kernel.outer[0][1]
        lanes = max((a.lanes for a in kernel.accumulators), default=1)  # a round's place in the strip is its lane
        strip = lanes if lanes > 1 else min(extent, SHORT_STRIP)
        if strip * sum(type.nbytes for type in kernel.buffers.values()) > STRIP_BYTES:
            return
        kernel.strip = strip
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
        length: dict[Scalar, int] = {}
        for stage, order in zip(stages, orders, strict=True):
            several = len(stage.body) + len(stage.after) > 1
            inside = {arg for scalar in order if scalar.op == "guard" for arg in scalar.args}
            chosen: set[Scalar] = set()  # what is computed on one branch of a choice only
            for scalar in reversed(order):
                if scalar in chosen and scalar.op != "guard":
                    chosen.update(scalar.args)
                elif scalar.op == "where":
                    chosen.update(scalar.args[1:])
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


# A result with fewer columns than this leaves vector lanes idle; its rows run along the vectors instead, where they can.
NARROW = 16


def _runs_along(operand: EquationOperand, axis: int, program: Program) -> bool:
    """Whether neighbours along ``axis`` are neighbours in memory."""
    if not isinstance(operand, Load):
        return False
    return flatten(operand.index, program.type_of(operand.tensor).shape).factor(axis) == 1


# --- contractions --------------------------------------------------------------------------------------
def build_contraction(
    group: ContractGroup, program: Program, is_stored: Callable[[str], bool], wanted: set[str], volatile: set[str]
) -> ContractKernel:
    """The kernel of a contraction: axes sorted into batch, rows, columns and depth, operands and epilogue as scalars."""
    equation, done = group.equation, len(group.followers)
    operands, (batch, rows, columns), flipped = _sides(equation, program)
    extents = [equation.axes[axis] for axis in batch]
    values = [Index() for _ in equation.axes]
    for place, axis in enumerate(batch):
        values[axis] = Index.of(place, equation.axes[axis])
    for place, merged in enumerate((rows, columns, list(reduced(equation))), len(batch)):
        shape = [equation.axes[axis] for axis in merged]
        extents.append(prod(shape))
        for axis, value in zip(merged, unflatten(Index.of(place, prod(shape)), shape), strict=True):
            values[axis] = value

    body = Body(program, is_stored, frozenset())
    loops = tuple(enumerate(extents))
    left, right = (_packed(body, operand.substitute(values), loops, [program.sources, wanted]) for operand in operands)
    m, n, k = extents[len(batch) :]
    kernel = ContractKernel(
        name=(group.followers or [equation])[-1].name,
        why="matrix product" + (f", {done} equation{'s' * (done > 1)} in its store step" if done else ""),
        dtype=equation.dtype, batch=tuple(extents[: len(batch)]), m=m, n=n, k=k, left=left, right=right,
        result=equation.name, flipped=flipped,
        formulas=[formula(each, program, is_stored) for each in (equation, *group.followers)],
    )  # fmt: skip
    _finish(kernel, group, body, tuple(values[: equation.rank]), loops[:-1], wanted, volatile)
    return kernel


def _sides(equation: Equation, program: Program) -> tuple[tuple[EquationOperand, ...], tuple[list[int], ...], bool]:
    """The operands, left and right; the axes of batch, rows and columns; whether neighbours in the result lie along the rows.

    They lie along the columns, but where those are too few to fill vectors and neighbours along the rows are so in memory.
    """
    left, right = equation.operands
    axes = live(equation)
    batch = [axis for axis in axes if axis in left.variables and axis in right.variables]
    rows = [axis for axis in axes if axis in left.variables and axis not in batch]
    columns = [axis for axis in axes if axis in right.variables and axis not in batch]
    if rows and columns and rows[-1] > columns[-1]:
        left, right, rows, columns = right, left, columns, rows
    narrow = prod(equation.axes[axis] for axis in columns) < NARROW <= prod(equation.axes[axis] for axis in rows)
    if narrow and _runs_along(left, rows[-1], program):
        return (right, left), (batch, columns, rows), True
    return (left, right), (batch, rows, columns), False


def _packed(body: Body, operand: EquationOperand, loops: Axes, arrays: Sequence[Collection[str]]) -> Operand:
    """An operand of a contraction, with names for the values that it uses twice."""
    scalar = body.of(operand)
    packing = Stage(loops, body=[Store("", Index(), scalar)])
    Namer(arrays, set(), frozenset()).finish([packing])
    body.own.clear()
    body.shared.clear()
    return Operand(tuple(line for line in (*packing.before, *packing.body) if isinstance(line, Let)), scalar)


def _finish(
    kernel: ContractKernel, group: ContractGroup, body: Body, own: tuple[Index, ...], loops: Axes, wanted: set[str],
    volatile: set[str],
) -> None:  # fmt: skip
    """The store step: the sum under its name, and what follows from it element by element. ``own``: the index of an element."""
    equation, space = group.equation, frozenset(axis for axis, _ in loops)
    result = named(equation.name, equation.dtype, space)
    namer = Namer([body.program.sources, wanted, {kernel.result}], volatile, frozenset())
    if equation.name in wanted:
        result = named(namer.fresh(equation.name, space), equation.dtype, space)
    kernel.result = result.name
    body.put(Load(equation.name, own), result)
    stores: list[Line] = []
    if equation.name in wanted:
        stores.append(Store(equation.name, flatten(own, equation.shape), result))
    for follower in group.followers:
        element = apply(follower, [body.of(operand.substitute(own)) for operand in follower.operands])
        body.put(Load(follower.name, own), element)
        if follower.name in wanted:
            stores.append(Store(follower.name, flatten(own, follower.shape), element))
    finishing = Stage(loops, body=stores)
    namer.finish([finishing])
    kernel.epilogue = [*finishing.before, *finishing.body]
