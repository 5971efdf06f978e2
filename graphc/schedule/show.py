"""A schedule as text: each kernel with its loops, in the notation of the equations.

relu   matrix product, 1 equation in its store step
    for i < 32, j < 100
        matmul = sum(k < 64) X[i, k] * W1[k, j]
        relu[i, j] = relu(matmul + b1[j])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphc.lower.equations import INFIX, axis_name, format_guards, format_index, format_operand
from graphc.lower.index import Index, unflatten
from graphc.schedule.kernels import (
    Accumulate,
    Accumulator,
    CallKernel,
    CheckKernel,
    ContractKernel,
    CopyKernel,
    Kernel,
    Let,
    Line,
    LoopKernel,
    Scalar,
    Schedule,
    Stage,
)
from graphc.types import TensorType

__all__ = ["format_schedule"]

_INDENT = "    "


def format_schedule(schedule: Schedule) -> str:
    """Every kernel in order: its name and reason, its loops, what each round computes and stores."""
    count = len(schedule.kernels)
    blocks = [f"{schedule.name}: {count} kernel{'s' * (count != 1)}"]
    blocks += ["\n".join(_kernel(kernel, _Printer(schedule, kernel))) for kernel in schedule.kernels]
    return "\n\n".join(blocks)


class _Printer:
    """Scalars, lines and elements as text; a new value that is stored in its parameter goes by that name."""

    def __init__(self, schedule: Schedule, kernel: Kernel) -> None:
        self.aliases = schedule.aliases
        arrays = {**kernel.buffers, **kernel.results} if isinstance(kernel, LoopKernel) else {}
        self.types: dict[str, TensorType] = {**schedule.types, **arrays}

    def element(self, tensor: str, index: Index) -> str:
        name = self.aliases.get(tensor, tensor)
        type = self.types.get(tensor)
        positions: Sequence[Index] = unflatten(index, type.shape) if type is not None and type.size else (index,)
        return f"{name}[{', '.join(map(format_index, positions))}]" if positions else name

    def value(self, scalar: Scalar) -> str:
        """A scalar where it is used: its name if it has one."""
        return scalar.name or self.expression(scalar)

    def expression(self, scalar: Scalar) -> str:
        """How a scalar is computed."""
        if scalar.op == "literal":
            return str(scalar.value)
        if scalar.op == "index":
            return format_index(scalar.index)
        if scalar.op == "load":
            return self.element(scalar.tensor, scalar.index)
        if scalar.op == "guard":
            return f"({self.value(scalar.args[0])} if {format_guards(scalar.guards)} else 0)"
        if scalar.op == "cast":
            return f"{scalar.dtype}({self.value(scalar.args[0])})"
        if scalar.op in INFIX:
            return f" {INFIX[scalar.op]} ".join(self.operand(arg) for arg in scalar.args)
        return f"{scalar.op}({', '.join(map(self.value, scalar.args))})"

    def operand(self, scalar: Scalar) -> str:
        text = self.value(scalar)
        return f"({text})" if not scalar.name and scalar.op in INFIX else text

    def line(self, line: Line) -> str:
        if isinstance(line, Let):
            return f"{line.name} = {self.expression(line.scalar)}"
        if isinstance(line, Accumulate):
            return self.accumulate(line)
        return f"{self.element(line.tensor, line.index)} = {self.value(line.scalar)}"

    def accumulate(self, line: Accumulate) -> str:
        into = self.running(line.into, line.index)
        if line.into.kind in ("sum", "dot"):
            return f"{into} += {' * '.join(map(self.operand, line.values)) if line.values[1:] else self.value(line.values[0])}"
        if line.into.kind == "prod":
            return f"{into} *= {self.operand(line.values[0])}"
        values = [self.value(value) for value in line.values]
        return f"{into} = {line.into.kind}({into}, {' at '.join(values)})"

    def running(self, into: Accumulator, index: Index) -> str:
        return self.element(into.name, index) if into.size else into.name


def _kernel(kernel: Kernel, printer: _Printer) -> list[str]:
    lines = [f"{kernel.name}   {kernel.why}"]
    if isinstance(kernel, CheckKernel):
        body = [f"require {kernel.check.low} <= {format_operand(kernel.check.load)} < {kernel.check.extent}"]
        lines += _nest(enumerate(kernel.check.axes), body)
    elif isinstance(kernel, CallKernel):
        lines += kernel.formulas
    elif isinstance(kernel, CopyKernel):
        lines.append(f"{kernel.target} = {kernel.source}")
    elif isinstance(kernel, ContractKernel):
        lines += _contraction(kernel, printer)
    else:
        lines += _loops(kernel, printer)
    return [lines[0], *(_INDENT + line for line in lines[1:])]


def _contraction(kernel: ContractKernel, printer: _Printer) -> list[str]:
    extents = (*kernel.batch, kernel.m, kernel.n)
    packing = [printer.line(let) for let in (*kernel.left.lines, *kernel.right.lines)]
    left, right = (printer.operand(operand.scalar) for operand in (kernel.left, kernel.right))
    product = f"{kernel.result} = sum({axis_name(len(extents))} < {kernel.k}) {left} * {right}"
    where = [f"{_INDENT}where {text}" for text in packing]
    return _nest(enumerate(extents), [product, *where, *map(printer.line, kernel.epilogue)])


def _loops(kernel: LoopKernel, printer: _Printer) -> list[str]:
    lines = [f"buffer {name}: {type}" for name, type in kernel.buffers.items()]
    lines += [_start(accumulator) for accumulator in kernel.accumulators]
    lines += _nest(kernel.outer, [line for stage in kernel.stages for line in _stage(stage, printer)])
    lines += map(printer.line, kernel.after)
    return lines + [line for stage in kernel.final for line in _stage(stage, printer)]


def _stage(stage: Stage, printer: _Printer) -> list[str]:
    kept = len(stage.loops) - stage.reduced if stage.accumulators else 0
    lanes = f" in {stage.lanes} lanes" if stage.lanes > 1 else ""
    inner = _nest(stage.loops[kept:], list(map(printer.line, stage.body)), lanes)
    lines = [*map(_start, stage.accumulators), *inner, *map(printer.line, stage.after)]
    return [*map(printer.line, stage.before), *_nest(stage.loops[:kept], lines)]


def _start(accumulator: Accumulator) -> str:
    start = {"sum": "0", "dot": "0", "prod": "1", "max": "-inf", "min": "inf"}.get(
        accumulator.kind, f"{accumulator.kind} of nothing"
    )
    return f"{accumulator.name}{'[:]' if accumulator.size else ''} = {start}"


def _nest(loops: Iterable[tuple[int, int]], body: Sequence[str], note: str = "") -> list[str]:
    """The lines under a heading that names the loops; no heading where there is one round."""
    loops = [(axis, extent) for axis, extent in loops if extent != 1]
    if not body or not loops:
        return list(body)
    heading = "for " + ", ".join(f"{axis_name(axis)} < {extent}" for axis, extent in loops)
    return [heading + note, *(_INDENT + line for line in body)]
