"""The statements of a kernel in C: values, running results and stores, in the expressions of ``spell.py``.

What a running result needs (lanes, blocks that threads share) is spelled here, line by line; ``stages.py`` says what a stage
does in a form of its own, the templates where it all stands.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.emit.spell import ScalarSpeller, enclosed, literal
from graphc.lower.index import Index
from graphc.schedule.kernels import Accumulate, Accumulator, Let, Line, Store
from graphc.types import FLOAT32, INT64

__all__ = ["StatementSpeller"]


@dataclass(frozen=True)
class StatementSpeller:
    """C statements for the lines of a kernel, or of one of its stages, where that keeps running results in places of its own."""

    speller: ScalarSpeller
    lane: str = ""  # of the partial result that the next value goes to; empty: its index is that
    shared: str = ""  # the number of the block, where threads share the blocks
    kept: Mapping[str, str] = field(default_factory=dict)  # running results that are somewhere else, and where
    by_rows: Collection[str] = ()  # sums whose lanes are kept for all rounds of a strip

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
            row = f"{self.local(a, '_rows')} + {enclosed(self.speller.place)} * {a.lanes}"
            return [f"{a.dtype.ctype} *const {array} = {row};", every]
        return [f"{a.dtype.ctype} {array}[{a.lanes}];", every]

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
        if a.size or a.name in self.by_rows:
            return []
        handed = self.speller.local(a.name) if a.name in self.speller.handed else ""
        if a.lanes == 1 or a.block:
            return [f"{handed} = {self.local(a)};"] if handed else []
        return [f"{handed or f'const {a.dtype.ctype} {self.local(a)}'} = {self.tree(a)};"]

    def starts(self, a: Accumulator) -> list[tuple[str, str]]:
        """What a result begins with, and what it was found by."""
        return [(a.name, "0"), (f"{a.name}_best", self.start(a))] if a.kind.startswith("arg") else [(a.name, self.start(a))]

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
            value, best, place = self.local(a, "_candidate"), self.local(a, "_best"), self.local(a)
            declared = f"const {a.value_dtype.ctype} {value} = {values[0]};"
            if a.name in self.kept:  # of one of many rounds that go side by side, for which a branch is in the way
                place, best, better = self.kept[a.name], self.kept[f"{a.name}_best"], self.local(a, "_better")
                nan = f"\n    | (({value} != {value}) & ({best} == {best}))" if a.value_dtype.is_float else ""
                return "\n".join((
                    declared,
                    f"const int {better} = ({value} {sign} {best}){nan};",
                    f"{best} = {better} ? {value} : {best};",
                    f"{place} = {better} ? {values[1]} : {place};",
                ))  # fmt: skip
            nan = f" || ({value} != {value} && {best} == {best})" if a.value_dtype.is_float else ""
            return "\n".join((
                declared, f"if ({value} {sign} {best}{nan}) {{", f"    {best} = {value};", f"    {place} = {values[1]};", "}"
            ))  # fmt: skip
        return fold(a, self.target(a, line.index), values, a.kind)

    def target(self, a: Accumulator, index: Index) -> str:
        """What a value at ``index`` is added to."""
        if a.name in self.kept:
            return self.kept[a.name]
        if a.size:
            return f"{self.columns(a)}[{self.speller.index(index)}]"
        if a.lanes > 1:
            return f"{self.local(a, '_lanes')}[{self.lane or self.speller.index(index)}]"
        return self.local(a, "_part" if a.block else "")


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
