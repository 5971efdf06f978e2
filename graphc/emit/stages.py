"""The stages of a loop kernel in C: lines in loops, and the forms of their own that some take.

In a strip, where several rounds go through each stage together, a round alone would leave vectors idle or wait for itself. So

    dots       products of all rows (or columns) of a strip with a vector are one call of a helper
    row sums   the lanes of all rounds are kept, and added up together
    columns    running results of columns stay in registers while the rounds go by, some columns at a time
    abreast    all rounds take a step of the loop together: they lie side by side in memory, or short rows are put so, to be
               added up or to find their largest or smallest elements
    flat       a dear function of each element of short rows is one loop over the elements of all rounds
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from graphc.emit.spell import LARGEST, VECTOR_PREFIX, ScalarSpeller
from graphc.emit.statements import StatementSpeller
from graphc.ir import REGISTRY
from graphc.lower.equations import axis_name
from graphc.lower.index import Index
from graphc.ops.pointwise import COSTLY, Pointwise
from graphc.schedule.kernels import Accumulate, Accumulator, Line, LoopKernel, Scalar, Stage, Store, reached, roots_of
from graphc.types import DType, TensorType

__all__ = ["StageView", "fetch_ahead", "stage_view"]

# The lanes of so many bytes of rounds are kept, to be added up together.
ROWS_BYTES = 4096
# A loop over a shorter row, whose last vector is not full, leaves its dear function to one loop over all rounds.
SHORT_LOOP = 64
# So many bytes of running results of columns stay in registers while the rounds add to them: the largest vector.
COLUMN_BYTES = 64
# How far ahead of the rounds rows are fetched from memory, at least.
BYTES_AHEAD = 4096


@dataclass
class StageView:
    """A stage as lines of C and loops (name, extent).

    before, body, after: in a round, in the loops, behind the reduced loops. start, finish: what begins and ends running
    results; opened, closed: what does so for a block of them. The rest are the forms at the top of this file.
    """

    before: list[str]
    loops: list[tuple[str, int]]
    reduced: int
    lanes: int
    simd: bool
    block: int
    start: list[str]
    opened: list[str]
    body: list[str]
    closed: list[str]
    finish: list[str]
    after: list[str]
    side_by_side: bool = False  # all rounds of a strip take a step of the loop together
    row_sums: list[str] = field(default_factory=list)
    dots: list[str] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)  # what the results of each round begin with then
    gathered: list[str] = field(default_factory=list)  # what rounds abreast read, put side by side
    flat: str = ""
    flat_extent: int = 0
    columns: list[dict[str, str]] = field(default_factory=list)
    columns_at_once: int = 0
    fetched: list[str] = field(default_factory=list)  # rows of rounds to come, from `line` on
    line: str = ""
    line_elements: int = 0

    @property
    def texts(self) -> list[str]:
        """All of its C, to be searched."""
        lines = self.before + self.start + self.opened + self.body + self.closed + self.finish + self.after
        return [*lines, *self.row_sums, *self.dots, *self.starts, *self.gathered, self.flat]


def stage_view(stage: Stage, spell: StatementSpeller, kernel: LoopKernel, private: list[str]) -> StageView:
    """A stage in C; what it needs for itself is declared in ``private``."""
    helpers = dots(stage, spell, kernel)
    columns = [] if helpers else added_columns(stage, kernel)
    some = {a.name: spell.local(a, "_some") for a in columns}
    rows = [a for a in stage.accumulators if not helpers and added_by_rows(a, kernel, stage)]
    together, apart = (False, {}) if helpers else abreast(stage, kernel, spell.speller)
    sought = stage.accumulators if together else ()
    inner = flat(stage, kernel)
    body: list[Line] = [*stage.body[:-1], inner or stage.body[-1]] if stage.body else []
    speller, gathered = side_by_side(apart, stage, kernel, spell.speller) if apart else (spell.speller, [])
    private += [f"{a.dtype.ctype} {spell.local(a, '_rows')}[{kernel.strip} * {a.lanes}] GX_ALIGNED;" for a in rows]
    best = [a for a in sought if a.kind.startswith("arg")]
    private += [f"{a.value_dtype.ctype} {spell.local(a, '_best')}[{kernel.strip}];" for a in best]
    alone = {a.name: spell.speller.local(a.name) for a in sought}  # where a round keeps what it seeks
    alone |= {f"{a.name}_best": f"{spell.local(a, '_best')}[{spell.speller.place}]" for a in best}
    spell = StatementSpeller(
        speller,
        lane="lane" if stage.lanes > 1 else spell.lane,
        kept={name: f"{array}[lane]" for name, array in some.items()} | alone,
        by_rows=[a.name for a in rows],
    )  # threads do not share its blocks: what a stage reduces is its round's own
    view = StageView(
        side_by_side=together,
        before=[spell.line(line) for line in stage.before],
        loops=[(axis_name(axis), extent) for axis, extent in stage.loops],
        reduced=stage.reduced,
        lanes=stage.lanes,
        simd=stage.vector,
        block=max((a.block for a in stage.accumulators), default=0),
        start=[text for a in stage.accumulators for text in spell.declare(a)],
        opened=[text for a in stage.accumulators for text in spell.open(a)],
        closed=[text for a in stage.accumulators for text in spell.close(a)],
        body=[spell.line(line) for line in body],
        finish=[text for a in stage.accumulators for text in spell.finish(a)],
        after=[spell.line(line) for line in stage.after],
        row_sums=[row_sums(a, spell) for a in rows],
        dots=helpers,
        starts=[f"{alone[name]} = {start};" for a in sought for name, start in spell.starts(a)],
        gathered=gathered,
        columns=[{"ctype": a.dtype.ctype, "some": some[a.name], "all": spell.columns(a)} for a in columns],
        columns_at_once=COLUMN_BYTES // max((a.dtype.itemsize for a in columns), default=COLUMN_BYTES),
    )
    if inner:
        view.flat, view.flat_extent = of_each(stage.body[-1], spell.speller), stage.loops[0][1]
    return view


def abreast(stage: Stage, kernel: LoopKernel, speller: ScalarSpeller) -> tuple[bool, Mapping[Scalar, int]]:
    """Whether all rounds of a strip take a step of a stage's loop together; and what they read then of rows that lie far apart,
    and how far. Alone a round waits for each comparison, or is added up element by element."""
    if kernel.abreast:
        return bool(stage.loops), {}
    plain = len(stage.loops) == stage.reduced == stage.lanes == 1 and not (stage.before or stage.after)
    kinds = {a.kind for a in stage.accumulators if a.name in kernel.handed}
    stores = any(isinstance(line, Store) for line in stage.body)
    if not (kernel.strip and kinds and plain) or stores or any(a.name not in kernel.handed for a in stage.accumulators):
        return False, {}
    loads = [s for s in reached(root for line in stage.body for root in roots_of(line)) if s.op == "load"]
    apart = {s: distance for s in loads if (distance := rows_apart(s, stage, kernel, speller))}
    sums = kinds <= {"sum", "dot"} and len(apart) == len(loads) > 0 and all(a.dtype.is_float for a in stage.accumulators)
    return (True, apart) if kinds <= {"max", "min"} or sums else (False, {})


def rows_apart(load: Scalar, stage: Stage, kernel: LoopKernel, speller: ScalarSpeller) -> int:
    """How far apart the rows lie of which rounds read elements, if so that a compiler finds no vector load for one of each: gcc
    has those of every third, and of strides that are powers of two. Else 0."""
    (rounds, count), (along, extent), row = kernel.outer[0], stage.loops[0], kernel.buffers.get(load.tensor)
    distance = (load.index.factor(rounds) or 0) if row is None else row.size
    place = Index.of(along, extent) + (Index.of(rounds, count) * distance if row is None else 0)
    there = speller.offset(load.tensor, load.index) + place * -1 == Index()
    plain = there and load.dtype in VECTOR_PREFIX and load.tensor not in speller.by_value
    return distance if plain and extent >= 4 and distance & (distance - 1) else 0


def side_by_side(
    loads: Mapping[Scalar, int], stage: Stage, kernel: LoopKernel, speller: ScalarSpeller
) -> tuple[ScalarSpeller, list[str]]:
    """What puts elements of all rounds of a strip side by side, column by column, and a speller that finds them there."""
    (rounds, count), (along, extent), lines = kernel.outer[0], stage.loops[0], []
    elements = {}
    for load, distance in loads.items():
        array, ctype = speller.locals.fresh(f"{load.tensor}_columns"), load.dtype.ctype
        whole = load.tensor in kernel.buffers or kernel.strip == count
        first = speller.names[load.tensor] + ("" if whole else f" + {axis_name(rounds)}_0 * {distance}")
        lines.append(f"{ctype} {array}[{extent} * {kernel.strip}] GX_ALIGNED;")
        lines.append(f"{VECTOR_PREFIX[load.dtype]}_abreast({first}, {distance}, COUNT, {extent}, {array}, {kernel.strip});")
        elements[load.tensor, load.index] = f"{array}[{axis_name(along)} * {kernel.strip} + {speller.place}]"
    return speller.finding(elements), lines


def flat(stage: Stage, kernel: LoopKernel) -> Store | None:
    """What a stage stores instead, where the last thing done to short rows of a buffer is a dear function of one value: that
    is left to one loop over the rows of all rounds of a strip, which fills its vectors."""
    last = stage.body[-1] if stage.body else None
    strip = kernel.strip and not kernel.abreast
    if not strip or len(stage.loops) != 1 or not isinstance(last, Store) or last.tensor not in kernel.buffers:
        return None
    (axis, extent), scalar = stage.loops[0], last.scalar
    op = REGISTRY.get(scalar.op)
    dear = isinstance(op, Pointwise) and op.cost >= COSTLY and len(scalar.args) == 1 and not scalar.name
    whole = kernel.buffers[last.tensor].size == extent and last.index == Index.of(axis, extent)
    alone = not stage.accumulators and not any(isinstance(line, Store | Accumulate) for line in stage.body[:-1])
    if not (dear and whole and alone and extent < SHORT_LOOP and extent % 16 and scalar.args[0].dtype is scalar.dtype):
        return None
    return Store(last.tensor, last.index, scalar.args[0])


def of_each(line: Line, speller: ScalarSpeller) -> str:
    """The function that a line stores, of each element ``e`` of a buffer."""
    assert isinstance(line, Store)
    element = f"{speller.names[line.tensor]}[e]"
    value = replace(line.scalar, args=(speller.spelled(element, line.scalar.args[0].dtype),))
    return f"{element} = {speller.expression(value)};"


def one_sum(a: Accumulator, kernel: LoopKernel, stage: Stage) -> bool:
    """Whether a stage of a strip leaves one sum a round, in lanes, to later stages; not where a round stores it."""
    plain = len(stage.loops) == stage.reduced and a.lanes > 1 and not (a.size or a.block or stage.after)
    return plain and a.kind in ("sum", "dot") and a.dtype.is_float and a.name in kernel.handed


def added_by_rows(a: Accumulator, kernel: LoopKernel, stage: Stage) -> bool:
    """Whether the lanes of the rounds of a strip are kept, and added up for all rounds together."""
    return one_sum(a, kernel, stage) and kernel.strip * a.lanes * a.dtype.itemsize <= ROWS_BYTES


def row_sums(a: Accumulator, spell: StatementSpeller) -> str:
    """The sums of all rounds of a strip; the template knows how many."""
    helper, sums = f"{VECTOR_PREFIX[a.dtype]}_row_sums", spell.speller.handed[a.name]
    return f"{helper}({spell.local(a, '_rows')}, COUNT, {a.lanes}, {sums});"


def added_columns(stage: Stage, kernel: LoopKernel) -> list[Accumulator]:
    """The running results of columns, if a stage of a strip does nothing but add to them."""
    if not kernel.strip or len(stage.loops) != 1 or stage.reduced or stage.after or not stage.vector:
        return []
    (axis, extent), added = stage.loops[0], [line for line in stage.body if isinstance(line, Accumulate)]
    plain = all(
        line.into.size == extent and line.into.kind in ("sum", "dot") and line.index == Index.of(axis, extent)
        for line in added
    )
    return [line.into for line in added] if plain and not any(isinstance(line, Store) for line in stage.body) else []


def dots(stage: Stage, spell: StatementSpeller, kernel: LoopKernel) -> list[str]:
    """What a stage does to all rounds of a strip, if it is nothing but products of the rows of a matrix with a vector
    (one number a row) or of its columns with what the rounds handed over (added to one number a column)."""
    if not kernel.strip or len(stage.loops) != 1 or stage.before or stage.after:
        return []
    lines: list[str] = []
    for line in stage.body:
        if not isinstance(line, Accumulate) or line.into.kind != "dot" or not line.into.dtype.is_float:
            return []
        by_rows = line.into.lanes == 16 and one_sum(line.into, kernel, stage)
        if not by_rows and line.into not in added_columns(stage, kernel):
            return []
        left, right = line.values
        if not (text := dot(line, left, right, spell, kernel, stage) or dot(line, right, left, spell, kernel, stage)):
            return []
        lines.append(text)
    return lines


def dot(line: Accumulate, matrix: Scalar, vector: Scalar, spell: StatementSpeller, kernel: LoopKernel, stage: Stage) -> str:
    """The products of a strip's rows, or columns, of ``matrix`` with ``vector``; empty unless both lie plainly in memory."""
    (rounds, extent), (along, columns), a = kernel.outer[0], stage.loops[0], line.into
    stride = matrix.index.factor(rounds) or 0
    rows = Index.of(rounds, extent) * stride + Index.of(along, columns)
    speller = spell.speller
    if not stride or vector.dtype is not a.dtype or not lies_at(matrix, rows, a.dtype, speller):
        return ""
    begin = "" if kernel.strip == extent else f" + {axis_name(rounds)}_0 * {stride}"
    if a.size:
        name, given, result = "column_dots", speller.handed.get(vector.name, ""), spell.columns(a)
    else:
        once = lies_at(vector, Index.of(along, columns), a.dtype, speller)
        name, given, result = "row_dots", speller.names[vector.tensor] if once else "", speller.handed[a.name]
    helper, first = f"{VECTOR_PREFIX[a.dtype]}_{name}", speller.names[matrix.tensor] + begin
    return f"{helper}({first}, {stride}, {given}, COUNT, {columns}, {result});" if given else ""


def lies_at(scalar: Scalar, index: Index, dtype: DType, speller: ScalarSpeller) -> bool:
    """Whether a scalar is nothing but the element of a tensor at ``index``."""
    elsewhere = {*speller.rows, *speller.by_value}
    plain = scalar.op == "load" and scalar.dtype is dtype and not scalar.name and scalar.tensor not in elsewhere
    return plain and scalar.index + index * -1 == Index()


def fetch_ahead(
    kernel: LoopKernel, views: Sequence[StageView], speller: ScalarSpeller, types: Mapping[str, TensorType], cache_bytes: int
) -> None:
    """Where rounds go over long rows more than once, let the last of the stages that do so in strips fetch, strip by strip,
    what the next rounds read and this one stores: the hardware does not look ahead while a row is computed with."""
    sweeps = [
        (stage, seen) for stage, seen in zip(kernel.stages, views, strict=True)
        if stage.lanes > 1 and len(stage.loops) == 1 and not seen.block
    ]  # fmt: skip
    if len(sweeps) < 2 or not kernel.outer or kernel.strip:
        return
    last, into = sweeps[-1]
    row, (axis, extent) = kernel.outer[-1][0], last.loops[0]
    lines = [line for stage in kernel.stages if stage.loops == last.loops for line in stage.body]
    stored = {line.tensor: line.index for line in lines if isinstance(line, Store)}
    loaded = {s.tensor: s.index for s in reached(root for line in lines for root in roots_of(line)) if s.op == "load"}
    places = [
        (tensor, index, tensor in stored) for tensor, index in {**loaded, **stored}.items()
        if tensor in types and index.factor(axis) == 1 and (index.factor(row) or 0) >= extent
    ]  # fmt: skip
    size = max((types[tensor].dtype.itemsize for tensor, _, _ in places), default=0)
    if not places or 4 * len(places) * extent * size > cache_bytes:
        return
    into.line, into.line_elements = speller.locals.fresh("line"), 64 // size
    there = speller.with_axes({row: axis_name(row) for row, _ in kernel.outer} | {axis: into.line})
    for tensor, index, written in places:
        ahead = index if written else index + (index.factor(row) or 0) * max(1, BYTES_AHEAD // (extent * size))
        if ahead.bounds[1] < LARGEST:
            macro = "GX_PREFETCH_WRITE" if written else "GX_PREFETCH_L2"
            into.fetched.append(f"{macro}(&{there.element(tensor, ahead)});")
