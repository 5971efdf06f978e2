"""The statements of a kernel in C: values, running results and stores, in the expressions of ``spell.py``.

What a running result needs (lanes, blocks that threads share, columns kept in registers) is spelled here, line by line;
``emit.py`` says which of it applies to a stage, the templates where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.lower.equations import axis_name
from graphc.lower.index import Index
from graphc.schedule.kernels import Accumulate, Accumulator, Let, Line, LoopKernel, Scalar, Stage, Store
from graphc.spell import VECTOR_PREFIX, ScalarSpeller, enclosed, literal
from graphc.types import FLOAT32, INT64, DType

__all__ = ["StatementSpeller"]


class StatementSpeller:
    """C statements for the lines of a kernel. strip: whether they stand in a strip of lanes; lane: the lane of a
    round, where that is plain; shared: the number of the block, where threads share the blocks."""

    def __init__(self, speller: ScalarSpeller) -> None:
        self.speller, self.strip, self.lane, self.shared = speller, False, "", ""
        self.some_columns: dict[str, str] = {}  # running results of columns that a stage keeps in registers
        self.by_rows: set[str] = set()  # sums whose lanes are kept for all rounds of a strip
        self.abreast: set[str] = set()  # results that all rounds of a strip look for side by side

    def local(self, a: Accumulator, suffix: str = "") -> str:
        return self.speller.locals[a.name + suffix]

    def line(self, line: Line) -> str:
        if isinstance(line, Let):
            return self.speller.let(line)
        if isinstance(line, Store):
            target = self.speller.names[line.tensor]
            scalar = self.speller.shapes[line.tensor].size == 1
            target = f"*{target}" if scalar else self.speller.element(line.tensor, line.index)
            return f"{target} = {self.speller.value(line.scalar)};"
        return self.accumulate(line)

    def block(self, a: Accumulator, at: str) -> str:
        """Where the result of a block is kept until all are added up."""
        return f"{self.local(a, '_blocks')}[{at}]"

    def declare(self, a: Accumulator) -> list[str]:
        """The result before anything is reduced, with its lanes where these are not opened block by block."""
        start = self.start(a)
        if a.size:
            return [f"for (int e = 0; e < {a.size}; ++e) {self.speller.names[a.name]}[e] = {start};"]
        if a.kind.startswith("arg"):
            best = f"{a.value_dtype.ctype} {self.local(a, '_best')} = {start};"
            return [f"int {self.local(a)} = 0;", best]
        if a.lanes == 1 or a.block:
            return [f"{a.dtype.ctype} {self.local(a)} = {start};"]
        return self.lanes(a)

    def lanes(self, a: Accumulator) -> list[str]:
        array = self.local(a, "_lanes")
        every = f"for (int lane = 0; lane < {a.lanes}; ++lane) {array}[lane] = {self.start(a)};"
        if a.name in self.by_rows:
            place = enclosed(self.speller.handed[a.name].partition("[")[2][:-1])
            return [f"{a.dtype.ctype} *const {array} = {self.local(a, '_rows')} + {place} * {a.lanes};", every]
        return [f"{a.dtype.ctype} {array}[{a.lanes}];", every]

    def flat(self, line: Line) -> str:
        """The function that a line stores, of each element ``e`` of a buffer."""
        assert isinstance(line, Store)
        element = f"{self.speller.names[line.tensor]}[e]"
        self.speller.handed[element] = element
        value = replace(line.scalar, args=(Scalar("local", line.scalar.args[0].dtype, name=element),))
        return f"{element} = {self.speller.expression(value)};"

    def row_sums(self, a: Accumulator) -> str:
        """The sums of all rounds of a strip; the template knows how many."""
        sums = self.speller.handed[a.name].partition("[")[0]
        return f"{VECTOR_PREFIX[a.dtype]}_row_sums({self.local(a, '_rows')}, COUNT, {a.lanes}, {sums});"

    def dot(self, line: Accumulate, matrix: Scalar, vector: Scalar, kernel: LoopKernel, stage: Stage) -> str:
        """The products of a strip's rows, or columns, of ``matrix`` with ``vector``; empty unless both lie plainly in memory."""
        (rounds, extent), (along, columns), a = kernel.outer[0], stage.loops[0], line.into
        stride = matrix.index.factor(rounds) or 0
        rows = Index.of(rounds, extent) * stride + Index.of(along, columns)
        if not stride or vector.dtype is not a.dtype or not self.lies_at(matrix, rows, a.dtype):
            return ""
        begin = "" if kernel.strip == extent else f" + {axis_name(rounds)}_0 * {stride}"
        if a.size:
            name, given, result = "column_dots", self.speller.handed.get(vector.name, "").partition("[")[0], self.columns(a)
        else:
            once = self.lies_at(vector, Index.of(along, columns), a.dtype)
            name, given = "row_dots", self.speller.names[vector.tensor] if once else ""
            result = self.speller.handed[a.name].partition("[")[0]
        helper = f"{VECTOR_PREFIX[a.dtype]}_{name}"
        first = self.speller.names[matrix.tensor] + begin
        return f"{helper}({first}, {stride}, {given}, COUNT, {columns}, {result});" if given else ""

    def lies_at(self, scalar: Scalar, index: Index, dtype: DType) -> bool:
        """Whether a scalar is nothing but the element of a tensor at ``index``."""
        elsewhere = {*self.speller.rows, *self.speller.by_value}
        plain = scalar.op == "load" and scalar.dtype is dtype and not scalar.name and scalar.tensor not in elsewhere
        return plain and scalar.index + index * -1 == Index()

    def columns(self, a: Accumulator) -> str:
        """The array of running results that a round adds to."""
        return self.speller.names[a.name + ("_part" if a.block else "")]

    def open(self, a: Accumulator) -> list[str]:
        """The partial results of a block."""
        if not a.block:
            return []
        if a.size:
            part = self.speller.names[a.name + "_part"]
            zero = f"for (int e = 0; e < {a.size}; ++e) {part}[e] = 0;"
            if self.shared:
                return [f"{a.dtype.ctype} *const {part} = {self.local(a, '_blocks')} + {self.shared} * {a.size};", zero]
            return [zero]
        return self.lanes(a) if a.lanes > 1 else [f"{a.dtype.ctype} {self.local(a, '_part')} = 0;"]

    def close(self, a: Accumulator) -> list[str]:
        """A block added to the result."""
        if not a.block:
            return []
        part = self.tree(a) if a.lanes > 1 else self.local(a, "_part")
        if self.shared:
            return [] if a.size else [f"{self.block(a, self.shared)} = {part};"]
        if a.size:
            total, part = self.speller.names[a.name], self.speller.names[a.name + "_part"]
            return [f"for (int e = 0; e < {a.size}; ++e) {fold(a, total + '[e]', [part + '[e]'], 'sum')}"]
        return [fold(a, self.local(a), [part], "sum")]

    def gather(self, a: Accumulator) -> list[str]:
        """The results of all blocks added up in order, after threads have shared them."""
        if not a.size:
            return [fold(a, self.local(a), [self.block(a, "block")], "sum")]
        total, part = self.speller.names[a.name] + "[e]", self.block(a, f"block * {a.size} + e")
        return [f"for (int e = 0; e < {a.size}; ++e) {fold(a, total, [part], 'sum')}"]

    def tree(self, a: Accumulator) -> str:
        kind = "sum" if a.kind == "dot" else a.kind
        return f"gx_tree_{kind}_{a.dtype}({self.local(a, '_lanes')}, {a.lanes})"

    def finish(self, a: Accumulator) -> list[str]:
        """The result of the lanes, where it was not added up block by block."""
        if a.size:
            return []
        handed = self.speller.handed.get(a.name)
        if a.name in self.by_rows:
            return []
        if a.lanes == 1 or a.block:
            return [f"{handed} = {self.local(a)};"] if handed else []
        declared = f"{handed}" if handed else f"const {a.dtype.ctype} {self.local(a)}"
        return [f"{declared} = {self.tree(a)};"]

    @staticmethod
    def start(a: Accumulator) -> str:
        kind, dtype = a.kind.removeprefix("arg"), a.value_dtype
        if kind in ("sum", "dot"):
            return "0"
        if kind == "prod":
            return "1"
        if dtype.is_float:
            return "-INFINITY" if kind == "max" else "INFINITY"
        bits = dtype.itemsize * 8
        return literal(-(2 ** (bits - 1)) if kind == "max" else 2 ** (bits - 1) - 1, dtype)

    def accumulate(self, line: Accumulate) -> str:
        a = line.into
        values = [self.speller.value(value) for value in line.values]
        if a.kind.startswith("arg"):
            sign = ">" if a.kind == "argmax" else "<"
            value, best = self.local(a, "_candidate"), self.local(a, "_best")
            nan = f" || ({value} != {value} && {best} == {best})" if a.value_dtype.is_float else ""
            return "\n".join((
                f"const {a.value_dtype.ctype} {value} = {values[0]};",
                f"if ({value} {sign} {best}{nan}) {{",
                f"    {best} = {value};",
                f"    {self.local(a)} = {values[1]};",
                "}",
            ))  # fmt: skip
        part = "_part" if a.block else ""
        if a.name in self.abreast:
            target = self.speller.local(a.name)
        elif a.name in self.some_columns:
            target = f"{self.some_columns[a.name]}[lane]"
        elif a.size:
            target = f"{self.columns(a)}[{self.speller.index(line.index)}]"
        elif a.lanes > 1:
            target = (
                f"{self.local(a, '_lanes')}[{'lane' if self.strip else self.lane or self.speller.index(line.index)}]"
            )
        else:
            target = self.local(a, part)
        return fold(a, target, values, a.kind)


def fold(a: Accumulator, target: str, values: Sequence[str], kind: str) -> str:
    """``target`` combined with one more value."""
    f = "f" if a.dtype is FLOAT32 else ""
    if kind in ("sum", "prod"):
        sign = "+" if kind == "sum" else "*"
        if a.dtype.is_int:
            unsigned = "uint64_t" if a.dtype is INT64 else "uint32_t"
            return f"{target} = ({a.dtype.ctype})(({unsigned}){target} {sign} ({unsigned}){enclosed(values[0])});"
        return f"{target} {sign}= {values[0]};"
    if kind == "dot":
        return f"{target} = GX_FMA{f.upper()}({values[0]}, {values[1]}, {target});"
    if a.dtype.is_int:
        value = enclosed(values[0])
        return f"{target} = {value} {'>' if kind == 'max' else '<'} {target} ? {value} : {target};"
    return f"{target} = gx_{kind}{f}({values[0]}, {target});"
