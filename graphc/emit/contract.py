"""A contraction as ``templates/contract.c.j2`` takes it: its operands, in place or as C expressions, the tiling, the epilogue.

The loop variables are i, j, k and those of the batch; what the kernel itself says is all in terms of its axes:

    batch axes, i, j, k = 0 .. b - 1, b, b + 1, b + 2        A[batch, i, k] * B[batch, k, j] -> C[batch, i, j]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from graphc.emit.spell import VECTOR_PREFIX, ScalarSpeller, batch_name, spread
from graphc.emit.statements import StatementSpeller
from graphc.lower.index import Index, Pick, Var
from graphc.schedule import tiling
from graphc.schedule.kernels import ContractKernel, Operand, Scalar, Store, reached, roots_of
from graphc.types import DType

__all__ = [
    "Contraction", "Cut", "MicroKernel", "contraction", "cut", "micro_kernels", "transposed_dtypes",
    "upright_dtypes",
]  # fmt: skip

# Comparisons of indices in C, and their opposites.
COMPARED = {"less": ("<", ">="), "less_equal": ("<=", ">"), "greater": (">", "<="), "greater_equal": (">=", "<")}

# Both operands, and how they are cut.
Cut = tuple[tiling.Operand, tiling.Operand, tiling.Tiling]


# --- what the template sees ---------------------------------------------------------------------------
class _OfDType:
    """What computes in one dtype: how C spells that, alone and in the names of what works on vectors of it."""

    dtype: DType

    @property
    def ctype(self) -> str:
        return self.dtype.ctype

    @property
    def prefix(self) -> str:
        return VECTOR_PREFIX[self.dtype]


@dataclass(frozen=True)
class MicroKernel(_OfDType):
    """One register tile to emit; contractions of one file share equal ones."""

    dtype: DType
    rows: int
    vectors: int
    lanes: int
    unit_rows: bool  # rows of A side by side in memory
    masked: bool  # the last vector of B is partial
    resume: bool  # starts from the sums in the tile, not from zero
    ahead: int  # the next panel of B, so many elements on, is fetched meanwhile
    upright: int = 0  # so many columns, each of them a vector of all rows
    turned: bool = False  # the tile is stored by columns
    crowded: bool = False  # the rows of A push each other out of the cache
    inlined: bool = False  # becomes part of its caller, so that what the tile holds need not go through memory

    @property
    def name(self) -> str:
        if self.upright:
            variants = "_turned" * self.turned + "_crowded" * self.crowded + "_resume" * self.resume
            return f"{self.prefix}_tile_{self.rows}x{self.upright}_upright{variants}"
        variants = "_side" * self.unit_rows + "_edge" * self.masked + "_resume" * self.resume
        variants += "_ahead" * bool(self.ahead) + "_inlined" * self.inlined
        return f"{self.prefix}_tile_{self.rows}x{self.vectors * self.lanes}{variants}"


@dataclass(frozen=True)
class Contraction(_OfDType):
    """All that `contract.c.j2` needs to spell one C function."""

    name: str
    comment: str
    parameters: str  # the C parameter list
    dtype: DType
    m: int
    n: int
    k: int
    batch: tuple[tuple[str, int], ...]  # (variable, extent), outermost first
    a: tiling.Operand
    b: tiling.Operand
    value: str  # what the epilogue calls the finished sum
    epilogue: tuple[str, ...]
    tiling: tiling.Tiling
    workspace: str = ""  # C expression: 64-byte aligned, tiling.workspace_bytes long
    threads: str = "1"  # C expression: how many threads may run, at least 1
    flipped: bool = False  # the epilogue stores neighbours along i
    seen: str = ""  # C condition: the epilogue takes any sum of the tile at i0, j0; empty: it always does
    fetched: tuple[str, ...] = ()  # elements in row i, column j0, from which the epilogue reads or writes a row
    flat: tuple[str, ...] = ()  # the epilogue for element e, counted along the columns from j0 on, where it knows no other index

    @property
    def batch_count(self) -> int:
        return prod(extent for _, extent in self.batch)

    @property
    def batch_strides(self) -> list[tuple[str, int, int]]:
        """(variable, extent, how many items one step of it spans)."""
        extents = [extent for _, extent in self.batch]
        return [(name, extent, prod(extents[d + 1 :])) for d, (name, extent) in enumerate(self.batch)]

    @property
    def turns_tiles(self) -> bool:
        """A tile is transposed before an epilogue that stores along its columns."""
        return self.flipped and self.tiling.lanes > 1 and not (self.tiling.plain or self.tiling.resumes)

    @property
    def laps(self) -> bool:
        """The last of its upright tiles begins with rows of the one before, as it has too few of its own."""
        t = self.tiling
        at_hand = not t.pack_a or (t.mc >= self.m and t.parallel != "rows")
        return t.upright and not t.resumes and at_hand and self.m % t.mr != 0

    @property
    def stands_turned(self) -> bool:
        """Its upright tiles are stored by columns, so that none need be transposed."""
        return self.turns_tiles and self.tiling.upright and (self.laps or self.m % self.tiling.mr == 0)

    @property
    def turned_rows(self) -> int:
        """The rows of a tile in whole vectors."""
        return -(-self.tiling.mr // self.tiling.lanes) * self.tiling.lanes

    @property
    def turned_stride(self) -> int:
        """How far apart the columns of a tile lie once it is transposed: for one loop over all elements, side by side."""
        return self.m if self.flat else self.turned_rows

    @property
    def uneven_columns(self) -> bool:
        """The last of several column panels is narrower."""
        return self.tiling.panels > 1 and self.n % self.tiling.width != 0

    @property
    def tile_cases(self) -> list[tuple[MicroKernel, str]]:
        """The register tiles this contraction calls, each with the C condition that selects it."""
        t = self.tiling
        if t.plain:
            return []
        unit_rows = t.a_row == 1
        full_rows, rest_rows = (1, 0) if self.laps else divmod(self.m, t.mr)
        full_columns, rest_columns = divmod(self.n, t.width)
        cases = []
        for rows, row_test in ((t.mr, bool(full_rows)), (rest_rows, bool(rest_rows))):
            for columns, column_test in ((t.width, bool(full_columns)), (rest_columns, bool(rest_columns))):
                if not (row_test and column_test):
                    continue
                vectors = -(-columns // t.lanes)
                masked = bool(columns % t.lanes) and not t.pack_b
                if t.upright and rows == t.mr:
                    kernel = MicroKernel(
                        self.dtype, rows, vectors, t.lanes, False, False, t.resumes, 0,
                        upright=columns, turned=self.stands_turned, crowded=t.crowded,
                    )  # fmt: skip
                else:
                    inlined = t.inlined and not (self.seen or self.flipped)
                    kernel = MicroKernel(
                        self.dtype, rows, vectors, t.lanes, unit_rows, masked, t.resumes, t.ahead, inlined=inlined
                    )
                tests = [f"rows == {rows}"] * bool(full_rows and rest_rows)
                tests += [f"columns == {columns}"] * bool(full_columns and rest_columns)
                cases.append((kernel, " && ".join(tests)))
        last = len(cases) - 1
        return [
            (kernel, "" if last == 0 else ("else " if c else "") + (f"if ({test}) " if c < last else ""))
            for c, (kernel, test) in enumerate(cases)
        ]


def micro_kernels(contractions: Iterable[Contraction]) -> list[MicroKernel]:
    """The register tiles that a file needs, each once, in the order of first use."""
    return list(dict.fromkeys(kernel for c in contractions for kernel, _ in c.tile_cases))


def transposed_dtypes(contractions: Iterable[Contraction]) -> list[DType]:
    """The dtypes for which a file needs the block transpose of the vector prelude."""
    return list(
        dict.fromkeys(
            c.dtype for c in contractions
            if c.tiling.transpose_b or ((c.tiling.upright or c.turns_tiles) and not c.stands_turned)
        )
    )  # fmt: skip


def upright_dtypes(contractions: Iterable[Contraction]) -> list[DType]:
    """The dtypes of which a file has upright tiles."""
    return list(dict.fromkeys(c.dtype for c in contractions if c.tiling.upright))


# --- from a kernel to it --------------------------------------------------------------------------------


def _axes(kernel: ContractKernel) -> dict[int, str]:
    """The loop variables, by axis."""
    first = len(kernel.batch)
    return {**{b: batch_name(b) for b in range(first)}, first: "i", first + 1: "j", first + 2: "k"}


def cut(
    kernel: ContractKernel, speller: ScalarSpeller, model: tiling.TargetModel, *, awake: bool, by_columns: bool
) -> Cut:
    """The operands of a contraction and its tiling. ``awake`` and ``by_columns`` are those of
    :func:`graphc.schedule.tiling.choose_tiling`."""
    i, axes = len(kernel.batch), _axes(kernel)
    left = _operand(kernel, kernel.left, speller.with_axes(axes), (i, i + 2), ("i", "k"))
    right = _operand(kernel, kernel.right, speller.with_axes(axes), (i + 2, i + 1), ("k", "j"))
    chosen = tiling.choose_tiling(
        kernel.m, kernel.n, kernel.k, kernel.dtype, model, left, right, _batch(kernel), awake=awake, by_columns=by_columns,
        flipped=kernel.flipped,
    )
    return left, right, chosen


def contraction(
    kernel: ContractKernel,
    cut: Cut,
    speller: ScalarSpeller,
    model: tiling.TargetModel,
    *,
    name: str,
    comment: Sequence[str],
    parameters: Sequence[str],
) -> Contraction:
    """All that the template needs. ``parameters`` are declarations in C, with ``workspace`` and ``threads`` among them where
    the tiling asks for these."""
    left, right, chosen = cut
    speller = speller.with_axes(_axes(kernel))
    spell = StatementSpeller(speller)
    along = StatementSpeller(speller.with_axes({**_axes(kernel), **_along(kernel, chosen)}))
    return Contraction(
        name=name,
        comment="\n   ".join(comment),
        parameters=spread(f"static void {name}", parameters),
        dtype=kernel.dtype,
        m=kernel.m,
        n=kernel.n,
        k=kernel.k,
        batch=_batch(kernel),
        a=left,
        b=right,
        value=speller.locals[kernel.result],
        epilogue=tuple(spell.line(line) for line in kernel.epilogue),
        tiling=chosen,
        workspace="workspace",
        threads="threads" if chosen.parallel else "1",
        flipped=kernel.flipped,
        fetched=_fetched(kernel, speller, model) if chosen.panels > 1 and not kernel.flipped else (),
        seen=_seen(kernel, chosen, speller) if not (kernel.flipped or chosen.plain or chosen.blocked_k) else "",
        flat=tuple(along.line(line) for line in kernel.epilogue) if _is_flat(kernel, chosen) else (),
    )


def _batch(kernel: ContractKernel) -> tuple[tuple[str, int], ...]:
    """The loops over the batch, outermost first."""
    return tuple((batch_name(axis), extent) for axis, extent in enumerate(kernel.batch))


def _operand(
    kernel: ContractKernel, operand: Operand, speller: ScalarSpeller, axes: tuple[int, int], letters: tuple[str, str]
) -> tiling.Operand:
    """One operand; its rows and columns lie along ``axes``, whose loop variables are ``letters``."""
    (row, column), scalar = axes, operand.scalar
    along = letters[0] if _runs_along(scalar, row, column) else letters[1]
    row_stride, column_stride = scalar.index.factor(row), scalar.index.factor(column)
    if _in_memory(scalar, speller) and not operand.lines and row_stride is not None and column_stride is not None:
        rest = [t for t in scalar.index.terms if not (isinstance(t[0], Var) and t[0].axis in axes)]
        offset = Index(tuple(rest), scalar.index.constant)
        base = speller.address(scalar.tensor, offset)
        one_column = letters == ("k", "j") and kernel.n == 1
        return tiling.Operand("direct", base, row_stride, 1 if one_column else column_stride, along=along)
    statements = tuple(speller.let(let) for let in operand.lines)
    return tiling.Operand("expression", statements=statements, value=speller.value(scalar), along=along)


def _runs_along(scalar: Scalar, row: int, column: int) -> bool:
    """Whether neighbours in memory of what an operand reads are neighbours along ``row``, and not along ``column``."""
    loads = [s for s in reached([scalar]) if s.op == "load" and {row, column} <= s.variables]
    index = loads[0].index if loads else scalar.index
    return index.factor(row) == 1 and index.factor(column) != 1


def _in_memory(scalar: Scalar, speller: ScalarSpeller) -> bool:
    """Whether a scalar is an element of an array, at an index that no other array gives."""
    picked = any(isinstance(atom, Pick) for atom, _ in scalar.index.terms)
    return scalar.op == "load" and scalar.tensor not in speller.by_value and not picked


def _seen(kernel: ContractKernel, chosen: tiling.Tiling, speller: ScalarSpeller) -> str:
    """Where the epilogue takes the sums under a condition on i and j alone, such as a causal mask: whether it can hold in
    the tile at i0, j0, which its corner tells. Else nothing."""
    (line, *more) = kernel.epilogue
    if more or not isinstance(line, Store) or line.scalar.op != "where":
        return ""
    test, kept, other = line.scalar.args
    sums = [any(s.op == "local" and s.name == kernel.result for s in reached([side])) for side in (kept, other)]
    if test.op not in COMPARED or any(side.op != "index" for side in test.args) or all(sums):
        return ""
    sign, opposite = COMPARED[test.op]
    sign = sign if sums[0] else opposite
    left, right = (side.index for side in test.args)
    corner = {}
    i, j = len(kernel.batch), len(kernel.batch) + 1
    for axis, first, extent in ((i, "i0", chosen.mr), (j, "j0" if chosen.panels > 1 else "0", chosen.width)):
        slopes = left.factor(axis), right.factor(axis)
        if slopes[0] is None or slopes[1] is None:
            return ""
        last = (slopes[0] > slopes[1]) == (sign[0] == ">")
        corner[axis] = f"({first} + {extent - 1})" if last else first
    there = speller.with_axes({**_axes(kernel), **corner})
    return f"{there.index(left)} {sign} {there.index(right)}"


def _along(kernel: ContractKernel, chosen: tiling.Tiling) -> dict[int, str]:
    """Row and column of the first element of a panel, plus e, for what steps through memory as elements along the columns do."""
    first = len(kernel.batch)
    return {first: "e", first + 1: "j0" if chosen.panels > 1 else "0"}


def _is_flat(kernel: ContractKernel, chosen: tiling.Tiling) -> bool:
    """Whether the columns of a transposed tile follow one another in all that the epilogue reads and stores, so that one loop
    does for the whole tile; each column alone would leave lanes of its last vector idle."""
    i, j = len(kernel.batch), len(kernel.batch) + 1
    if not kernel.flipped or kernel.m > min(chosen.mr, chosen.lanes):
        return False
    scalars = list(reached(root for line in kernel.epilogue for root in roots_of(line)))
    elements = [line.index for line in kernel.epilogue if isinstance(line, Store)]
    elements += [s.index for s in scalars if s.op == "load" and s.index.variables & {i, j}]
    others = [s.index for s in scalars if s.op != "load"] + [guard.index for s in scalars for guard in s.guards]
    follow = all(index.factor(i) == 1 and index.factor(j) == kernel.m for index in elements)
    return follow and not any(index.variables & {i, j} for index in others)


def _fetched(kernel: ContractKernel, speller: ScalarSpeller, model: tiling.TargetModel) -> tuple[str, ...]:
    """Where the epilogue reads and writes rows of tensors that the first cache does not hold."""
    i, j = len(kernel.batch), len(kernel.batch) + 1
    there = speller.with_axes({**_axes(kernel), j: "j0"})
    places = [(line.tensor, line.index) for line in kernel.epilogue if isinstance(line, Store)]
    roots = [root for line in kernel.epilogue for root in roots_of(line)]
    places += [(s.tensor, s.index) for s in reached(roots) if s.op == "load"]
    found = [
        there.address(tensor, index)
        for tensor, index in places
        if index.factor(j) == 1 and index.factor(i) and speller.shapes[tensor].nbytes > model.l1_bytes
    ]
    return tuple(dict.fromkeys(found))
