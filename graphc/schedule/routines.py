"""Kernels of the routines. One on whole arrays is the call of a C function. One that goes through its result in order
is loops that read what they have just stored:

    recurrence(first, a, b)      for i < n                   rounds: the axes before that of the recurrence
                                     h[i, 0] = first[i]
                                     for j < m
                                         h[i, j + 1] = a[i, j] * h[i, j] + b[i, j]

Operands are read in place through any index map and formula. Where axes follow that of the recurrence, their elements
are independent and the innermost loop runs in vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import copysign, prod

from graphc.ir import REGISTRY, Routine
from graphc.lower.equations import Equation, IndexValue, Program
from graphc.lower.index import Index, flatten
from graphc.ops.random import per_block
from graphc.schedule.kernels import Axes, CallKernel, Kernel, Line, LoopKernel, Scalar, Stage, Store, reads_of
from graphc.schedule.scalars import Body, Namer, apply, formula, load
from graphc.types import INT32

__all__ = ["build_routine", "build_rows"]

Stored = Callable[[str], bool]


def build_routine(equation: Equation, program: Program, is_stored: Stored, volatile: set[str]) -> Kernel:
    """The kernel of a routine. volatile: parameters that are updated."""
    routine = REGISTRY[equation.op]
    if isinstance(routine, Routine) and routine.c is not None:
        return _call(routine, routine.c, equation, program, is_stored)
    kernel = _BUILDERS[equation.op](equation, program, is_stored)
    kernel.formulas = [formula(equation, program, is_stored)]
    kernel.before += Namer([reads_of(kernel)], volatile, frozenset(axis for axis, _ in kernel.outer)).finish(kernel.stages)
    return kernel


def _axes(shape: Sequence[int], begin: int, end: int) -> Axes:
    """Loops over the axes from ``begin`` to ``end``."""
    return tuple((axis, shape[axis]) for axis in range(begin, end) if shape[axis] != 1)


def _combined(op: str, equation: Equation, a: Scalar, b: Scalar) -> Scalar:
    """``op(a, b)``; what changes nothing (times 1, plus -0.0) is left out."""
    if b.op == "literal":
        value = float(str(b.value))
        if value == 1 if op == "multiply" else value == 0 and (copysign(1, value) < 0 or not equation.dtype.is_float):
            return a
    return Scalar(op, equation.dtype, (a, b), a.variables | b.variables)


def _recurrence(equation: Equation, program: Program, is_stored: Stored) -> LoopKernel:
    assert equation.call is not None
    name, shape, (first, a, b) = equation.name, equation.shape, equation.operands
    axis, steps = dict(equation.call.attrs)["axis"], equation.call.shapes[1]
    outer, inner = _axes(shape, 0, axis), _axes(shape, axis + 1, len(shape))
    body = Body(program, is_stored, frozenset(axis for axis, _ in outer))
    start = [Index() if k == axis else Index.of(k, e) for k, e in enumerate(shape)]
    begin = Stage(inner, body=[Store(name, flatten(start, shape), body.of(first))])
    body.own.clear()
    at = [Index.of(k, e) for k, e in enumerate(steps)]
    before = load(name, equation.dtype, flatten(at, shape))
    at[axis] = at[axis] + 1
    value = _combined("add", equation, _combined("multiply", equation, before, body.of(a)), body.of(b))
    step = Stage(
        (*_axes(steps, axis, axis + 1), *inner), vector=bool(inner), body=[Store(name, flatten(at, shape), value)]
    )
    return LoopKernel(name, f"one after another along axis {axis}", outer, stages=[begin, step])


def _call(routine: Routine, c: Callable[..., str], equation: Equation, program: Program, is_stored: Stored) -> CallKernel:
    assert equation.call is not None
    types, attrs = [program.type_of(load.tensor) for load in equation.loads], dict(equation.call.attrs)
    return CallKernel(
        equation.name, "a routine on whole arrays", equation.name, tuple(load.tensor for load in equation.loads),
        c(*types, **attrs), prod(types[0].shape[: -routine.axes]), routine.workspace(*types, **attrs),
        routine.flops(*types, **attrs), [formula(equation, program, is_stored)],
    )  # fmt: skip


def _philox(equation: Equation, program: Program, is_stored: Stored) -> LoopKernel:
    """Rounds over the blocks, each of which gives an element of every part of the result; the last part may be shorter.

        for i < q                                       q = ceil(n / 4)
            bits[i], bits[i + q], bits[i + 2 q], bits[i + 3 q] = the words of block i
    """
    assert equation.call is not None
    name, count = equation.name, equation.type.size
    parts, op = per_block(equation.dtype)
    known = Body(program, is_stored, frozenset())
    step, key = (known.of(operand) for operand in equation.operands)
    stream = _number(dict(equation.call.attrs)["stream"])
    blocks = -(-count // parts)
    whole = max(count - (parts - 1) * blocks, 0)  # so many rounds have an element in every part

    def element(part: int, block: Index) -> Store:
        at = Scalar("index", INT32, variables=block.variables, index=block)
        value = Scalar(op.name, equation.dtype, (at, stream, step, key, _number(part)), block.variables)
        return Store(name, block + part * blocks, value)

    kernel = LoopKernel(name, "random bits, a block for several elements", ((0, whole),) if whole > 1 else ())
    if whole:
        first = Index.of(0, whole) if whole > 1 else Index()
        kernel.stages.append(Stage(body=[element(part, first) for part in range(parts)]))
    left = [min(blocks, count - part * blocks) - whole for part in range(parts)]
    for rest in dict.fromkeys(rest for rest in left if rest > 0):
        last = (Index.of(0, rest) if rest > 1 else Index()) + whole
        body: list[Line] = [element(part, last) for part in range(parts) if left[part] == rest]
        kernel.final.append(Stage(((0, rest),) if rest > 1 else (), vector=False, body=body))
    return kernel


def _number(value: int) -> Scalar:
    return Scalar("literal", INT32, value=value)


# How an update is combined with the element that it meets.
_COMBINED = {"add": "add", "multiply": "multiply", "max": "maximum", "min": "minimum"}


def _targets(scatter: Equation) -> list[Index]:
    """Where the updates go, along each axis of the result, over the axes of the updates."""
    assert scatter.call is not None
    axis, steps = dict(scatter.call.attrs)["axis"], scatter.call.shapes[1]
    own = [Index.of(k, e) for k, e in enumerate(steps)]
    places = [operand.index for operand in scatter.operands[2:] if isinstance(operand, IndexValue)]
    return [*own[:axis], *places, *own[axis + 1 :]]


def _each(scatter: Equation, lines: list[Line]) -> Stage:
    """A loop over the updates in their order; independent are those that differ in an axis after that of the indices."""
    assert scatter.call is not None
    axis, steps = dict(scatter.call.attrs)["axis"], scatter.call.shapes[1]
    inner = _axes(steps, axis + 1, len(steps))
    return Stage((*_axes(steps, axis, axis + 1), *inner), vector=bool(inner), body=lines)


def _updated(scatter: Equation, body: Body) -> Store:
    """An element combined with one update."""
    name, kind = scatter.name, scatter.op.removeprefix("scatter_")
    at = flatten(_targets(scatter), scatter.shape)
    value = body.of(scatter.operands[1])
    if kind != "set":
        before = load(name, scatter.dtype, at)
        value = Scalar(_COMBINED[kind], scatter.dtype, (before, value), before.variables | value.variables)
    return Store(name, at, value)


def _scatter(equation: Equation, program: Program, is_stored: Stored) -> LoopKernel:
    assert equation.call is not None
    name, shape, axis = equation.name, equation.shape, dict(equation.call.attrs)["axis"]
    outer = _axes(shape, 0, axis)
    body = Body(program, is_stored, frozenset(axis for axis, _ in outer))
    every = [Index.of(k, e) for k, e in enumerate(shape)]
    start = body.of(equation.operands[0])
    begin = Stage(_axes(shape, axis, len(shape)), body=[Store(name, flatten(every, shape), start)])
    body.own.clear()
    each = _each(equation, [_updated(equation, body)])
    return LoopKernel(name, f"elements at indices along axis {axis}, one after another", outer, stages=[begin, each])


def build_rows(
    scatters: Sequence[Equation], update: Equation, program: Program, is_stored: Stored, volatile: set[str]
) -> LoopKernel:
    """The kernel of scatters into zeros and of the update that keeps the old value where they all stay zero:

        for each p    d_W[i[p]] = 0                                only these elements of d_W are ever touched
        for each p    d_W[i[p]] += g[p]
        for each p    W[i[p]] = W[i[p]] - 0.1 * d_W[i[p]]          and so nothing is left to do
                      d_W[i[p]] = 0                                where an index occurs again

    Of several scatters, each is zeroed at the indices of all. The results are to the bit those of the update of all elements.
    """
    body = Body(program, is_stored, frozenset())
    stages: list[Stage] = []

    def zeros(targets: Sequence[Index]) -> list[Line]:
        at = flatten(targets, update.shape)
        return [Store(scatter.name, at, Scalar("literal", scatter.dtype, value=0)) for scatter in scatters]

    stages += [_each(scatter, zeros(_targets(scatter))) for scatter in scatters]
    for scatter in scatters:
        stages.append(_each(scatter, [_updated(scatter, body)]))
        body.own.clear()
    for scatter in scatters:
        targets = _targets(scatter)
        element = apply(update, [body.of(operand.substitute(targets)) for operand in update.operands])
        stages.append(_each(scatter, [Store(update.name, flatten(targets, update.shape), element), *zeros(targets)]))
        body.own.clear()
    kernel = LoopKernel(update.name, "only the elements at the indices, all others stay as they are", (), stages=stages)
    kernel.formulas = [formula(equation, program, is_stored) for equation in (*scatters, update)]
    kernel.before += Namer([reads_of(kernel)], volatile, frozenset()).finish(kernel.stages)
    return kernel


_BUILDERS = {"recurrence": _recurrence, **{f"scatter_{kind}": _scatter for kind in ("set", *_COMBINED)}, "philox": _philox}
