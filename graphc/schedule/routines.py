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
from math import copysign

from graphc.ir import REGISTRY, Routine
from graphc.lower.equations import Equation, Program
from graphc.lower.index import Index, flatten
from graphc.schedule.kernels import CallKernel, Kernel, LoopKernel, Scalar, Stage, Store, reads_of
from graphc.schedule.nest import Body, Namer, formula, load

__all__ = ["build_routine"]

Stored = Callable[[str], bool]


def build_routine(equation: Equation, program: Program, is_stored: Stored, volatile: set[str]) -> Kernel:
    """The kernel of a routine. volatile: parameters that are updated."""
    routine = REGISTRY[equation.op]
    if isinstance(routine, Routine) and routine.c is not None:
        return _call(routine, routine.c, equation, program, is_stored)
    kernel = _BUILDERS[equation.op](equation, program, is_stored)
    kernel.formulas = [formula(equation, program, is_stored)]
    kernel.before += Namer(set(reads_of(kernel)), volatile, frozenset(axis for axis, _ in kernel.outer)).finish(kernel.stages)
    return kernel


def _axes(shape: Sequence[int], begin: int, end: int) -> tuple[tuple[int, int], ...]:
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
        c(*types, **attrs), routine.workspace(*types, **attrs), routine.flops(*types, **attrs),
        [formula(equation, program, is_stored)],
    )  # fmt: skip


_BUILDERS = {"recurrence": _recurrence}
