"""How a contraction is cut into register tiles, cache blocks and threads.

Everything is known when the C is written: the extents, the operands, the target. So each choice is made here,
once, from a small description of the target (`TargetModel`), and `templates/contract.c.j2` only spells it.
The chosen numbers change the speed and never the result: every sum is taken in the order of k.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from graphc.types import DType

__all__ = ["Operand", "TargetModel", "Tiling", "choose_tiling", "wakes_threads"]

# What a first-level TLB reaches: 64 pages. A tile that walks down a longer column misses it at every step.
TLB_BYTES = 64 * 4096

# Rows of B so far apart, two to a page, are not fetched ahead by the hardware; a register tile does it for the next
# panel, unless its loop is over before anything could arrive.
FAR_ROW_BYTES = 2048
LATENCY_IN_K = 32

# The first-level cache, by sets of 64-byte lines; a column of A whose rows meet in too few sets is copied in blocks.
SETS, WAYS = 64, 8
CROWDED_DEPTH = 256

# With fewer terms, transposing the tile takes longer than the full lanes save.
UPRIGHT_DEPTH = 24

# Measured (2 cores, AVX-512, gcc 12 and its libgomp): sharing a loop costs about 0.5 us while the other thread still
# spins from the last one, 100 us once it sleeps. A million multiply-adds are 9 us on one core: below this per thread
# the second thread gains little at best and costs much at worst.
MULTIPLY_ADDS_PER_THREAD = 1_000_000

# The same where another kernel of the step has threads anyway, so that they are awake.
MULTIPLY_ADDS_PER_AWAKE_THREAD = 100_000

# Threads that share k wait for the first tile of the one before: with so many tiles for each that waits, that is 8 %.
TILES_PER_WAIT = 12

# Packing fewer elements than this takes less than sharing it.
PACKED_PER_THREAD = 16_384

# Reading and writing an element of the result takes as long as so many multiply-adds.
MULTIPLY_ADDS_PER_RESULT = 24

# Up to so many multiply-adds, packing an operand costs more than three nested loops take.
PLAIN_MULTIPLY_ADDS = 1024

# Where B runs along k, these loops stride through it column by column; from more terms on, packing it pays after all.
PLAIN_STRIDES = 16

# Up to so many terms, what a tile costs beside its multiply-adds shows: 26 cycles to bring 16 vectors of sums to the epilogue
# through memory (counted on a Zen 4).
SHORT_DEPTH = 128

# So few terms a compiler writes out one by one, so that the loops over rows and columns are vector work.
UNROLLED_DEPTH = 8


@dataclass(frozen=True)
class TargetModel:
    """What the tiling needs to know of a CPU."""

    vector_bytes: int  # of one register; 0 = no vectors
    registers: int  # how many of them
    l1_bytes: int
    l2_bytes: int
    cores: int

    @classmethod
    def from_vector_bytes(cls, vector_bytes: int, cores: int = 1) -> TargetModel:
        """A typical CPU with vectors of 64 (AVX-512), 32 (AVX2), 16 (NEON, SSE) or 0 (none) bytes."""
        registers = {64: 32, 32: 16, 16: 32, 0: 16}[vector_bytes]
        return cls(vector_bytes, registers, l1_bytes=32 << 10, l2_bytes=1 << 20, cores=cores)

    def lanes(self, dtype: DType) -> int:
        return max(1, self.vector_bytes // dtype.itemsize)


@dataclass(frozen=True)
class Operand:
    """A(i, k) or B(k, j): memory read in place ("direct"), or a C expression ("expression").

    Direct: the element is `base[row * row_stride + col * col_stride]`, where (row, col) is (i, k) for A and
    (k, j) for B; `base` is a sum of terms. Expression: `value`, after `statements`, in terms of the same two
    variables. `along` names the variable along which memory is contiguous: its loop goes innermost when packing.
    The batch variables may occur anywhere.
    """

    kind: str
    base: str = ""
    row_stride: int = 0
    col_stride: int = 0
    statements: tuple[str, ...] = ()
    value: str = ""
    along: str = ""


@dataclass(frozen=True)
class Tiling:
    """The decisions of `choose_tiling`. Offsets and sizes are in elements, except `workspace_bytes`."""

    lanes: int
    mr: int  # rows of the register tile
    nv: int  # vectors per row of it
    kc: int  # depth of one block of k
    mc: int  # rows of one block of rows, a multiple of mr
    pack_a: str  # "", "rows" (row-major, padded) or "panels" (the rows of a tile side by side)
    pack_b: bool
    parallel: str  # "", "rows", "columns", "depth" or "batch"
    max_parts: int
    panels: int
    blocked_k: bool
    a_row: int  # the strides with which the register tile walks A and B
    a_k: int
    b_k: int
    rows_first: bool  # tile by tile along the rows of the result, all of B in cache; else panel by panel of B
    b_first: bool  # all of B is packed before any row
    share_packing: bool  # by all threads
    transpose_b: bool  # memory of B runs along k, so that packing transposes it
    ahead: int  # how far on the panel of B is that the register tile fetches meanwhile
    plain: bool  # so small that three nested loops do it
    upright: bool  # a vector of sums is a column of the tile, not a row
    crowded: bool  # the rows of A in such a tile lie on the same few sets of the cache
    inlined: bool  # the tile leaves its sums to the epilogue in registers
    panel_depth: int = 0  # rows of a packed panel, with room for whole blocks to transpose; from here on the workspace
    a_shared: bool = False
    a_offset: int = 0
    panel_offset: int = 0
    sums_offset: int = 0
    reached_offset: int = 0
    shared_elements: int = 0
    part_elements: int = 0
    workspace_bytes: int = 0

    @property
    def width(self) -> int:
        return self.nv * self.lanes

    @property
    def resumes(self) -> bool:
        """Whether register tiles take up sums where an earlier block of k left them."""
        return self.blocked_k or self.parallel == "depth"

    @property
    def b_space(self) -> str:
        """The C name of the workspace that holds all of B packed."""
        return "mine" if self.parallel == "batch" else "space"

    @property
    def part_space(self) -> str:
        """The C name of the workspace of the running part."""
        return "mine" if self.parallel else "space"


def choose_tiling(
    m: int,
    n: int,
    k: int,
    dtype: DType,
    model: TargetModel,
    a: Operand,
    b: Operand,
    batch: Sequence[tuple[str, int]] = (),
    *,
    mr: int = 0,
    nv: int = 0,
    kc: int = 0,
    mc: int = 0,
    pack_a: str | None = None,
    pack_b: bool | None = None,
    parallel: str | None = None,
    rows_first: bool | None = None,
    upright: bool | None = None,
    awake: bool = False,
    by_columns: bool = False,
    flipped: bool = False,
) -> Tiling:
    """The tiling for one contraction; ``awake``: threads are at work in this step anyway; ``by_columns``: in another
    contraction they share the columns of A; ``flipped``: neighbours of the result lie along its rows. The other keywords
    overrule the choice (for tests and measurements)."""
    chosen_by_hand = bool(mr or nv or kc or mc) or (pack_a, pack_b, parallel) != (None, None, None)
    size = dtype.itemsize
    lanes = model.lanes(dtype)

    # The register tile.
    if upright is None:
        upright = runs_along_k(a) and not chosen_by_hand and upright_pays(m, n, k, lanes, model, flipped=flipped)
    best_mr, best_nv = (lanes, -(-n // lanes)) if upright else register_tile(m, n, k, dtype, model)
    mr, nv = mr or best_mr, nv or best_nv
    width = nv * lanes
    panels = max(1, -(-n // width))

    # The order of the loops, and which of them threads share.
    if rows_first is None:
        rows_first = panels > 1 and not (mc or kc) and k * n * size <= model.l1_bytes
    if parallel is None:
        items = prod(extent for _, extent in batch)
        again = upright and by_columns and m * k * size > model.l2_bytes
        parallel = parallel_axis(m, n, k, items, mr, panels, model, awake=awake, rows_first=rows_first, again=again)
    if parallel == "depth" and (panels > 1 or a.kind != "direct"):
        parallel = "rows"

    # What is packed, and the blocks that the caches hold.
    if pack_b is None:
        pack_b = packs_b(b, m, n, k, mr, panels, size, model)
    if pack_a is None:
        pack_a = packing_of_a(a, k, panels, size)
    transposed = (b.along or ("k" if b.row_stride == 1 else "j")) == "k"
    small = m * n * k <= PLAIN_MULTIPLY_ADDS and not parallel and not (a.statements and b.statements)
    small = small and not (pack_b and transposed and k > PLAIN_STRIDES)
    plain = small and (bool(pack_a or pack_b) or loops_pay(n, k, lanes, model)) and not chosen_by_hand
    if plain:
        pack_a, pack_b = "", False
    kc = kc or (k if upright or parallel == "depth" else depth_of_block(k, width * size, model))
    kc = max(1, min(kc, k))
    blocked_k = kc < k and not plain
    mc = mc or (mr if rows_first else rows_of_block(k * size, mr, model) if pack_a else m)
    mc = -(-min(mc, m) // mr) * mr

    a_row, a_k = {"rows": (padded(k, size), 1), "panels": (1, mr), "": (a.row_stride, a.col_stride)}[pack_a]
    b_first = pack_b and (parallel in ("rows", "depth") or rows_first)
    far_rows = not pack_b and panels > 1 and b.row_stride * size >= FAR_ROW_BYTES and k > LATENCY_IN_K
    tiling = Tiling(
        lanes=lanes, mr=mr, nv=nv, kc=kc, mc=mc, pack_a=pack_a, pack_b=pack_b, parallel=parallel,
        max_parts=model.cores if parallel else 1, panels=panels, blocked_k=blocked_k,
        a_row=a_row, a_k=a_k, b_k=width if pack_b else b.row_stride, rows_first=rows_first, b_first=b_first,
        share_packing=parallel in ("rows", "depth") and b_first and k * n >= PACKED_PER_THREAD * 2,
        transpose_b=pack_b and lanes > 1 and transposed,
        ahead=width if far_rows else 0, plain=plain, upright=upright and not (plain or blocked_k),
        crowded=k >= CROWDED_DEPTH and lines_on_one_set(a_row * size, lanes) > WAYS // 2,
        inlined=not upright and sums_stay(m, n, k, mr, nv, dtype, model),
    )  # fmt: skip
    return with_workspace(tiling, k, size)


def with_workspace(t: Tiling, k: int, size: int) -> Tiling:
    """The tiling with places for what is packed and for sums that wait: what all parts read, then what each has for itself."""
    shared = Offsets(size)
    own = Offsets(size) if t.parallel else shared
    kc, panel_depth = t.kc, k if t.b_first else t.kc
    if t.transpose_b:
        kc = -(-kc // t.lanes) * t.lanes if t.blocked_k else kc
        panel_depth = -(-panel_depth // t.lanes) * t.lanes
    panel_offset = a_offset = sums_offset = reached_offset = 0
    if t.pack_b:
        together = own if t.parallel == "batch" else shared  # each item of a batch has a B of its own
        panel_offset = together.take(t.panels * t.width * panel_depth) if t.b_first else own.take(panel_depth * t.width)
    a_shared = bool(t.pack_a) and t.parallel == "columns"
    if t.pack_a:
        a_offset = (shared if a_shared else own).take(t.mc * (t.a_row if t.pack_a == "rows" else k))
    if t.blocked_k:
        sums_offset = own.take(t.mc * t.width)
    elif t.parallel == "depth":
        sums_offset = shared.take(t.mc * t.width)
    if t.parallel == "depth":
        reached_offset = shared.take(t.max_parts * shared.granule)
    part_elements = own.total if t.parallel else 0
    return replace(
        t, kc=kc, panel_depth=panel_depth, a_shared=a_shared, a_offset=a_offset, panel_offset=panel_offset,
        sums_offset=sums_offset, reached_offset=reached_offset, shared_elements=shared.total, part_elements=part_elements,
        workspace_bytes=(shared.total + part_elements * t.max_parts) * size,
    )  # fmt: skip


class Offsets:
    """Hands out 64-byte aligned pieces of a workspace, in elements."""

    def __init__(self, element_bytes: int) -> None:
        self.granule = 64 // element_bytes
        self.total = 0

    def take(self, elements: int) -> int:
        offset = self.total
        self.total += -(-elements // self.granule) * self.granule
        return offset


def crowded(stride_bytes: int, count: int) -> bool:
    """Lines so far apart fall on the same few sets of a cache and push each other out."""
    return stride_bytes % 2048 == 0 and count > 32


def lines_on_one_set(stride_bytes: int, count: int) -> int:
    """Of lines so far apart, how many fall on one set of the first-level cache at most."""
    return max(Counter(line * stride_bytes // 64 % SETS for line in range(count)).values())


def padded(k: int, element_bytes: int) -> int:
    """A row length whose rows do not fall on the same cache sets: an odd number of 64-byte lines."""
    line = 64 // element_bytes
    return line * (-(-k // line) | 1)


def register_tile(m: int, n: int, k: int, dtype: DType, model: TargetModel) -> tuple[int, int]:
    """Rows and vectors of the tile that cover m x n in the fewest cycles, by a count of what the CPU does per k."""
    lanes = model.lanes(dtype)
    columns = max(1, -(-n // lanes))
    size = dtype.itemsize
    spare = 1 + (model.registers < 32)

    def cycles(rows: int, vectors: int) -> float:
        # Two multiply-adds and two loads a cycle, a latency of 4 cycles, the loop, and B coming from L2.
        load = 0.15 if k * vectors * lanes * size > model.l1_bytes // 2 else 0.05
        per_k = max(rows * vectors / 2, (rows + vectors) / 2, 4.5) + 0.25 + vectors * load
        return max(1, k) * per_k + rows * vectors * 1.5 + 12

    def cost(rows: int, vectors: int) -> float:
        if sums_stay(m, n, k, rows, vectors, dtype, model):
            return m // rows * columns // vectors * (cycles(rows, vectors) - rows * vectors)
        full_r, rest_r = divmod(m, rows)
        full_c, rest_c = divmod(columns, vectors)
        total = full_r * full_c * cycles(rows, vectors)
        total += full_c * cycles(rest_r, vectors) if rest_r else 0
        total += full_r * cycles(rows, rest_c) if rest_c else 0
        total += cycles(rest_r, rest_c) if rest_r and rest_c else 0
        return total * (1.0 + 0.03 * (bool(rest_r) + bool(rest_c)))

    shapes = [
        (rows, vectors)
        for vectors in (1, 2, 3, 4)
        for rows in range(1, 13 if vectors > 1 else 15)
        if rows * vectors + vectors + spare <= model.registers and rows <= max(1, m) and vectors <= columns
    ]
    return min(shapes, key=lambda shape: (cost(*shape), shape))


def sums_stay(m: int, n: int, k: int, rows: int, vectors: int, dtype: DType, model: TargetModel) -> bool:
    """Whether tiles leave their sums to the epilogue in registers: few terms each, tiles that are all alike and whole, and half
    of the registers left for the operands of both (more sums were spilled within the loop over k)."""
    alike = m % rows == n % (vectors * model.lanes(dtype)) == 0
    return alike and k <= SHORT_DEPTH and 2 * rows * vectors <= model.registers


def runs_along_k(a: Operand) -> bool:
    """Whether neighbours in a row of A are neighbours in memory."""
    return a.col_stride == 1 if a.kind == "direct" else a.along != "i"


def packs_b(b: Operand, m: int, n: int, k: int, mr: int, panels: int, size: int, model: TargetModel) -> bool:
    """Whether B is written out in panels: where its rows are not in memory as they are, or lie far apart and are read often."""
    in_place = b.kind == "direct" and b.col_stride == 1
    far = panels > 1 and (k * n * size > model.l2_bytes or crowded(b.row_stride * size, k))
    return not in_place or (far and m >= 2 * mr)


def packing_of_a(a: Operand, k: int, panels: int, size: int) -> str:
    """How A is written out, if it is: where it is an expression, or its long columns, out of the TLB's reach, are read often."""
    far = a.row_stride == 1 and panels >= 4 and k * a.col_stride * size > TLB_BYTES
    if a.kind == "direct" and not far:
        return ""
    return {"i": "panels", "k": "rows"}[a.along or ("i" if a.row_stride == 1 else "k")]


def depth_of_block(k: int, row_bytes: int, model: TargetModel) -> int:
    """So much of k that a panel of B takes a quarter of the second-level cache; all of it where that is at most half."""
    return k if k * row_bytes <= model.l2_bytes // 2 else model.l2_bytes // (4 * row_bytes)


def rows_of_block(row_bytes: int, mr: int, model: TargetModel) -> int:
    """So many rows of A, in whole tiles, as the second-level cache holds."""
    return max(mr, model.l2_bytes // max(1, row_bytes) // mr * mr)


def loops_pay(n: int, k: int, lanes: int, model: TargetModel) -> bool:
    """Whether so small a product of operands in place is faster in three nested loops than in a tile, which is a call, passes its
    sums through memory, and reads rows shorter than its vectors under a mask: a compiler has vectors of half, a quarter or an
    eighth of 64 bytes. What was just stored in such pieces is there for a load of one of them, but not yet for a wider one."""
    fills_narrower = model.vector_bytes == 64 and 2 <= n < lanes and lanes % n == 0
    return k <= 2 or (fills_narrower and k <= UNROLLED_DEPTH)


def upright_pays(m: int, n: int, k: int, lanes: int, model: TargetModel, *, flipped: bool) -> bool:
    """Whether a tile of upright vectors, of which n are full, beats one whose rows leave lanes idle; making columns of A in
    registers costs a quarter more, and the tile is transposed at its end unless the result is flipped: stored by columns."""
    fits = lanes >= 4 and m >= lanes and n + 8 <= model.registers and (flipped or k >= UPRIGHT_DEPTH)
    return fits and 5 * n <= 4 * lanes * -(-n // lanes)


def work(m: int, n: int, k: int, items: int) -> int:
    """What a contraction takes, in multiply-adds."""
    return m * n * (k + MULTIPLY_ADDS_PER_RESULT) * items


def wakes_threads(m: int, n: int, k: int, items: int, model: TargetModel) -> bool:
    """Whether a contraction alone is worth waking threads for."""
    return model.cores > 1 and work(m, n, k, items) >= 2 * MULTIPLY_ADDS_PER_THREAD


def parallel_axis(
    m: int, n: int, k: int, items: int, mr: int, panels: int, model: TargetModel, *, awake: bool, rows_first: bool, again: bool
) -> str:
    """Which loop the threads share, or none. ``again``: each has some columns of A in another contraction, too, and A outgrows
    the cache of one; where they share k, each finds the columns that it has in its own."""
    least = MULTIPLY_ADDS_PER_AWAKE_THREAD if awake else MULTIPLY_ADDS_PER_THREAD
    if model.cores < 2 or work(m, n, k, items) < 2 * least:
        return ""
    if items >= model.cores:
        return "batch"
    tiles = -(-m // mr)
    if panels % model.cores == 0 or panels >= 4 * model.cores or (tiles < model.cores and panels > 1):
        return "rows" if rows_first else "columns"
    if tiles < model.cores:
        return ""
    return "depth" if again and tiles >= TILES_PER_WAIT * (model.cores - 1) else "rows"
