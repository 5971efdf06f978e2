"""The contraction template against a plain triple loop, bit for bit.

All cases go into one C program per vector width: for each case the emitted function, a reference (three loops,
the sum in the order of k, one fma per term) and a comparison of the bytes. Operands live in blocks of exactly
their size, so that the sanitizer build sees any access outside them. The program prints a hash per case,
and the hashes of all builds with a hardware fma must agree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from graphc.emit.contract import Contraction, micro_kernels, transposed_dtypes, upright_dtypes
from graphc.emit.render import environment
from graphc.schedule.tiling import Operand, TargetModel, choose_tiling
from graphc.types import FLOAT32, FLOAT64, DType

FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off"]


@dataclass(frozen=True)
class Case:
    """One contraction: its extents, how its operands lie in memory, and choices forced on the tiling."""

    name: str
    m: int
    n: int
    k: int
    dtype: DType = FLOAT32
    a: str = "plain"  # "plain", "transposed", "expression", "column expression"
    b: str = "plain"
    batch: tuple[int, ...] = ()
    epilogue: str = "bias"  # "store", "bias", "accumulate"
    threads: int = 1
    flipped: bool = False  # the result is stored by columns
    force: dict[str, object] = field(default_factory=dict, hash=False)


CASES = [
    Case("digits_hidden", 32, 32, 64),
    Case("digits_scores", 32, 10, 32),
    Case("digits_gradient", 64, 32, 32, a="transposed"),
    Case("tiny", 8, 8, 2),
    Case("short_rows", 9, 4, 7, a="transposed"),
    Case("outer", 33, 20, 1),
    Case("batch_shared_each_with_its_panels", 40, 40, 40, b="transposed", batch=(600,), threads=2, force={"mr": 8, "nv": 2, "rows_first": True, "parallel": "batch"}),
    Case("no_terms", 5, 7, 0),
    Case("no_terms_packed", 5, 7, 0, a="expression", b="transposed"),
    Case("one", 1, 1, 1),
    Case("row_times_matrix", 1, 100, 37),
    Case("matrix_times_column", 37, 1, 100),
    Case("transposed_times_column", 37, 1, 100, a="transposed"),
    Case("edges", 37, 53, 29, force={"mr": 8, "nv": 2}),
    Case("edges_packed", 37, 53, 29, force={"mr": 8, "nv": 2, "pack_a": "panels", "pack_b": True}),
    Case("edges_packed_rows", 37, 53, 29, force={"mr": 8, "nv": 2, "pack_a": "rows", "pack_b": True}),
    Case("wide_tile", 5, 70, 40, force={"mr": 3, "nv": 4}),
    Case("tall_tile", 29, 17, 40, force={"mr": 14, "nv": 1}),
    Case("transposed_both", 31, 45, 33, a="transposed", b="transposed"),
    Case("blocks_of_k", 37, 53, 100, force={"kc": 16}),
    Case("blocks_of_k_packed", 37, 53, 100, b="transposed", force={"kc": 33, "pack_a": "panels"}),
    Case("blocks_of_k_transposed", 37, 53, 48, b="transposed", force={"kc": 20}),
    Case("whole_blocks_transposed", 20, 96, 48, b="transposed", force={"kc": 16, "nv": 2}),
    Case("whole_panels_transposed", 20, 96, 48, b="transposed", force={"nv": 2}),
    Case("blocks_of_k_rows", 37, 53, 100, force={"kc": 33, "pack_a": "rows"}),
    Case("blocks_of_rows", 61, 40, 30, force={"mr": 4, "mc": 16, "pack_a": "panels", "pack_b": True, "kc": 7}),
    Case("expression_a", 21, 30, 40, a="expression"),
    Case("expression_a_columns", 21, 30, 40, a="column expression"),
    Case("expression_b", 21, 30, 40, b="expression"),
    Case("expression_b_columns", 21, 30, 40, b="column expression"),
    Case("expression_both", 9, 49, 40, a="expression", b="column expression", force={"kc": 9}),
    Case("batch", 6, 18, 5, batch=(3, 4)),
    Case("batch_packed", 6, 18, 5, batch=(5,), a="expression", b="transposed"),
    Case("accumulate", 19, 23, 12, epilogue="accumulate"),
    Case("store", 19, 23, 12, epilogue="store"),
    Case("in_double", 13, 27, 31, dtype=FLOAT64),
    Case("double_packed", 13, 27, 31, dtype=FLOAT64, a="expression", b="transposed", force={"kc": 8}),
    Case("double_transposed", 40, 16, 31, dtype=FLOAT64, a="transposed"),
    Case("threads_columns", 30, 150, 40, threads=2, force={"parallel": "columns"}),
    Case("threads_columns_packed", 30, 150, 40, a="expression", b="transposed", threads=2,
         force={"parallel": "columns", "kc": 16, "mr": 4, "mc": 12}),
    Case("threads_rows", 67, 10, 40, threads=2, force={"parallel": "rows"}),
    Case("threads_rows_packed", 67, 40, 40, a="expression", b="transposed", threads=2,
         force={"parallel": "rows", "kc": 16, "mr": 4, "mc": 12, "nv": 1}),
    Case("threads_batch", 6, 18, 5, batch=(3, 3), b="transposed", threads=2, force={"parallel": "batch"}),
    Case("threads_at_length", 60, 640, 800, a="expression", b="transposed", threads=2,
         force={"parallel": "columns", "kc": 48}),
    Case("upright", 37, 10, 64),
    Case("upright_odd_depth", 32, 3, 39),
    Case("upright_column", 33, 1, 50),
    Case("upright_two_vectors", 40, 18, 47, b="transposed"),
    Case("upright_packed", 35, 5, 70, a="expression", epilogue="accumulate"),
    Case("upright_crowded", 37, 5, 1026),
    Case("upright_crowded_whole_blocks", 32, 10, 1024, batch=(2,), threads=2, force={"parallel": "batch"}),
    Case("upright_double", 21, 2, 37, dtype=FLOAT64),
    Case("upright_double_crowded", 16, 4, 515, dtype=FLOAT64),
    Case("upright_turned", 48, 10, 33, flipped=True),
    Case("upright_turned_one_row_left", 33, 3, 40, flipped=True, epilogue="accumulate"),
    Case("upright_turned_two_vectors", 40, 18, 47, b="transposed", flipped=True),
    Case("upright_turned_crowded", 37, 5, 1026, flipped=True),
    Case("upright_turned_packed", 35, 5, 70, a="expression", flipped=True, epilogue="accumulate"),
    Case("upright_turned_packed_in_blocks", 53, 5, 70, a="expression", flipped=True, force={"mc": 16}),
    Case("upright_turned_threads", 37, 10, 64, flipped=True, epilogue="accumulate", threads=3, force={"parallel": "rows"}),
    Case("upright_turned_threads_packed", 37, 10, 64, a="expression", flipped=True, threads=3, force={"parallel": "rows"}),
    Case("upright_turned_batch", 19, 4, 20, batch=(3,), flipped=True, threads=2, force={"parallel": "batch"}),
    Case("upright_turned_double", 21, 2, 37, dtype=FLOAT64, flipped=True),
    Case("upright_threads", 37, 10, 64, epilogue="accumulate", threads=3, force={"parallel": "rows"}),
    Case("flipped", 21, 40, 30, b="transposed", flipped=True),
    Case("threads_depth", 67, 10, 200, threads=2, force={"parallel": "depth"}),
    Case("threads_depth_packed", 37, 10, 70, b="transposed", epilogue="accumulate", threads=3, force={"parallel": "depth"}),
    Case("upright_threads_depth", 69, 10, 1026, threads=2, force={"parallel": "depth"}),
    Case("upright_threads_depth_packed", 53, 5, 150, b="transposed", threads=3, force={"parallel": "depth"}),
    Case("upright_threads_depth_double", 21, 4, 515, dtype=FLOAT64, threads=2, force={"parallel": "depth"}),
    Case("three_threads", 67, 40, 9, threads=3, force={"parallel": "rows"}),
]  # fmt: skip


# ---- From a case to C ---------------------------------------------------------------------------


def operand(kind: str, base: str, rows: int, columns: int, row: str, column: str) -> Operand:
    """A matrix of the given shape in one of the layouts; expressions are exact, so any compiler agrees."""
    if kind == "plain":
        return Operand("direct", base=base, row_stride=columns, col_stride=1)
    if kind == "transposed":
        return Operand("direct", base=base, row_stride=1, col_stride=rows)
    along, index = (
        (column, f"{row} * {columns} + {column}") if kind == "expression" else (row, f"{column} * {rows} + {row}")
    )
    line = f"const double x = ({base})[{index}];"
    return Operand("expression", statements=(line,), value=f"2 * (x > 0 ? x : 0) - {row}", along=along)


def contraction(case: Case, model: TargetModel) -> Contraction:
    ctype = case.dtype.ctype
    batch = tuple((f"b{d}", extent) for d, extent in enumerate(case.batch))
    item = "0"
    for name, extent in batch:
        item = f"({item} * {extent} + {name})"
    a = operand(case.a, f"A + {item} * {case.m * case.k}", case.m, case.k, "i", "k")
    b = operand(case.b, f"B + {item} * {case.k * case.n}", case.k, case.n, "k", "j")
    a, b = (replace(o, value=f"({ctype})({o.value})") if o.value else o for o in (a, b))
    cell = f"C[({item} * {case.m} + i) * {case.n} + j]"
    if case.flipped:
        cell = f"C[({item} * {case.n} + j) * {case.m} + i]"
    epilogue = {
        "store": (f"{cell} = matmul;",),
        "bias": (f"const {ctype} biased = matmul + bias[j];", f"{cell} = biased > 0 ? biased : -biased / 2;"),
        "accumulate": (f"{cell} -= matmul * ({ctype})0.25;",),
    }[case.epilogue]
    model = replace(model, cores=case.threads)
    upright = case.name.startswith("upright") and model.lanes(case.dtype) >= 4
    force = {"parallel": "", "upright": upright} | case.force
    tiling = choose_tiling(case.m, case.n, case.k, case.dtype, model, a, b, batch, **force)
    return Contraction(
        name=case.name, comment=f"C[{case.m}, {case.n}] = A @ B, {case.k} terms each.",
        parameters=f"const {ctype} *restrict A, const {ctype} *restrict B, {ctype} *restrict C"
        + f", const {ctype} *restrict bias" * (case.epilogue == "bias")
        + ", int threads" * bool(tiling.parallel) + ", void *scratch" * bool(tiling.workspace_bytes),
        dtype=case.dtype, m=case.m, n=case.n, k=case.k, batch=batch, a=a, b=b, value="matmul",
        epilogue=epilogue, tiling=tiling, workspace="scratch", threads="threads",
        flipped=case.flipped,
    )  # fmt: skip


def check(case: Case, c: Contraction) -> str:
    """A C function that runs the case and its reference and prints a hash and the verdict."""

    def load(o: Operand, variable: str, row: str, column: str) -> str:
        if o.kind == "direct":
            return f"{variable} = ({o.base})[{row} * {o.row_stride} + {column} * {o.col_stride}];"
        return f"{{ {' '.join(o.statements)} {variable} = {o.value}; }}"

    items, t, ctype = c.batch_count, c.tiling, c.ctype
    arguments = (
        "A, B, C"
        + ", bias" * (case.epilogue == "bias")
        + f", {case.threads}" * bool(t.parallel)
        + ", scratch" * bool(t.workspace_bytes)
    )
    loops = "".join(f"for (int {name} = 0; {name} < {extent}; ++{name}) " for name, extent in c.batch)
    fma = "fmaf" if ctype == "float" else "fma"
    return f"""
__attribute__((noinline)) static int check_{c.name}(void)
{{
    {ctype} *A = fresh_{ctype}({items * c.m * c.k}, 1), *B = fresh_{ctype}({items * c.k * c.n}, 2);
    {ctype} *bias = fresh_{ctype}({c.n}, 3), *C = fresh_{ctype}({items * c.m * c.n}, 4);
    {ctype} *R = fresh_{ctype}({items * c.m * c.n}, 4);
    void *scratch = aligned({t.workspace_bytes});
    (void)scratch, (void)bias;
    {c.name}({arguments});
    {ctype} *const emitted = C;
    C = R;
    {loops}for (int i = 0; i < {c.m}; ++i) for (int j = 0; j < {c.n}; ++j) {{
        {ctype} matmul = 0;
        for (int k = 0; k < {c.k}; ++k) {{
            {ctype} left, right;
            {load(c.a, "left", "i", "k")}
            {load(c.b, "right", "k", "j")}
            matmul = GX_HAS_FMA ? {fma}(left, right, matmul) : left * right + matmul;
        }}
        {" ".join(c.epilogue)}
    }}
    return verdict("{c.name}", emitted, R, {items * c.m * c.n} * sizeof({ctype}));
}}
"""


SUPPORT = """
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *aligned(size_t bytes) /* exactly so many bytes are ours, so that the sanitizer sees the end */
{
    unsigned char *block = malloc(bytes + 64);
    block += 64 - (size_t)block % 64;
    memset(block, 0xAB, bytes);
    return block;
}
static int verdict(const char *name, const void *emitted, const void *reference, size_t bytes)
{
    const unsigned char *byte = emitted;
    unsigned hash = 2166136261u;
    for (size_t e = 0; e < bytes; ++e) hash = (hash ^ byte[e]) * 16777619u;
    const int wrong = memcmp(emitted, reference, bytes) != 0;
    printf("%s %08x %s\\n", name, hash, wrong ? "WRONG" : "ok");
    return wrong;
}
"""
FRESH = """
static T *fresh_T(int count, unsigned seed)
{
    T *block = malloc((size_t)count * sizeof(T));
    for (int e = 0; e < count; ++e) {
        seed = seed * 1664525u + 1013904223u;
        block[e] = (T)(int)(seed >> 8) / (1 << 23) - 1;
    }
    return block;
}
"""


def program(vector_bytes: int, cases: list[Case] = CASES) -> str:
    vector = environment().get_template("vector.h.j2").module
    contract = environment().get_template("contract.c.j2").module
    model = TargetModel.from_vector_bytes(vector_bytes)
    contractions = [contraction(case, model) for case in cases]
    return "".join(
        [
            vector.prelude(["float32", "float64"], vector_bytes, transposed_dtypes(contractions), upright_dtypes(contractions)),
            environment().get_template("tiles.c.j2").module.micro_kernels(micro_kernels(contractions)),
        ]
        + [contract.contraction(c) for c in contractions]
        + [SUPPORT, FRESH.replace("T", "float")]
        + [FRESH.replace("T", "double")]
        + [check(case, c) for case, c in zip(cases, contractions, strict=True)]
        + ["int main(void)\n{\n    int wrong = 0;\n"]
        + [f"    wrong += check_{c.name}();\n" for c in contractions]
        + ["    return wrong;\n}\n"]
    )


# ---- Builds -------------------------------------------------------------------------------------


def cpu_has(*features: str) -> bool:
    try:
        return set(features) <= set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False


GCC = shutil.which("gcc") or shutil.which("cc")
CLANG = shutil.which("clang") or shutil.which("clang-14")
SANITIZE = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
AVX512, AVX2 = ["-mavx512f", "-mfma"], ["-mavx2", "-mfma"]

# name: (vector bytes the program is rendered for, compiler, flags, CPU features needed)
BUILDS = {
    "gcc-avx512-threads": (64, GCC, ["-O3", *AVX512, "-fopenmp"], ("avx512f",)),
    "gcc-native-sanitized": (64, GCC, ["-O0", "-march=native", *SANITIZE], ("avx512f",)),
    "gcc-avx2": (32, GCC, ["-O2", *AVX2], ("avx2", "fma")),
    "gcc-avx2-sanitized": (32, GCC, ["-O0", *AVX2, *SANITIZE], ("avx2", "fma")),
    "gcc-avx512-file-on-avx2": (64, GCC, ["-O1", *AVX2], ("avx2", "fma")),
    "gcc-128-bit-fma": (16, GCC, ["-O1", "-mfma"], ("fma",)),
    "gcc-scalar-fma": (0, GCC, ["-O1", "-mfma"], ("fma",)),
    "gcc-plain-128-bit": (16, GCC, ["-O1"], ()),
    "gcc-plain": (0, GCC, ["-O1"], ()),
    "clang-avx512": (64, CLANG, ["-O1", *AVX512], ("avx512f",)),
    "clang-avx2": (32, CLANG, ["-O0", *AVX2], ("avx2", "fma")),
}
WITHOUT_FMA = {"gcc-plain-128-bit", "gcc-plain"}


def build_and_run(build: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Each case's hash and verdict in one build."""
    vector_bytes, compiler, flags, _ = BUILDS[build]
    source, binary = folder / f"{build}.c", folder / build
    source.write_text(program(vector_bytes))
    subprocess.run([compiler, *FLAGS, *flags, str(source), "-o", str(binary), "-lm"], check=True)
    run = subprocess.run([binary], capture_output=True, text=True, env={"ASAN_OPTIONS": "detect_leaks=0"})
    lines = [line.split() for line in run.stdout.splitlines()]
    if len(lines) != len(CASES):
        raise AssertionError(f"stopped after {lines[-1:]}: {run.stderr}")
    return {name: (value, verdict) for name, value, verdict in lines}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The running or finished builds, as many at once as there are cores."""
    folder = tmp_path_factory.mktemp("contract")
    usable = [name for name, (_, compiler, _, features) in BUILDS.items() if compiler and cpu_has(*features)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(build_and_run, name, folder) for name in usable}


@pytest.mark.parametrize("build", BUILDS)
def test_every_case_equals_the_triple_loop_bit_for_bit(build, results):
    if build not in results:
        pytest.skip("no such compiler or CPU here")
    assert [name for name, (_, verdict) in results[build].result().items() if verdict != "ok"] == []


def test_bits_do_not_depend_on_instruction_set_threads_or_compiler(results):
    fused = [build for build in results if build not in WITHOUT_FMA]
    if len(fused) < 2:
        pytest.skip("needs two builds with a hardware fma")
    first, *others = (results[build].result() for build in fused)
    assert all(other == first for other in others)


def test_a_register_tile_is_emitted_once_for_all_contractions_that_share_it():
    model = TargetModel.from_vector_bytes(64)
    same = [contraction(replace(CASES[0], name=name), model) for name in ("first", "second")]
    assert len(micro_kernels(same)) == len(micro_kernels(same[:1])) == 1


def test_a_tile_of_few_terms_is_part_of_its_caller_where_all_tiles_are_alike_and_half_of_the_registers_hold_its_sums():
    model = TargetModel.from_vector_bytes(64)

    def inlined(m: int, n: int, k: int) -> list[bool]:
        return [kernel.inlined for kernel, _ in contraction(Case("product", m, n, k), model).tile_cases]

    assert inlined(32, 32, 10) == inlined(64, 32, 128) == [True]
    assert inlined(64, 32, 129) == [False]
    # Partial last vectors, and rows that no height divides: such a tile is not chosen for being inlined, so it may be uneven.
    assert inlined(32, 20, 10) == inlined(31, 32, 10) == [False, False]


def test_small_contractions_start_no_threads_and_need_no_workspace():
    model = TargetModel.from_vector_bytes(64, cores=8)
    for case in CASES[:4]:
        a, b = operand(case.a, "A", case.m, case.k, "i", "k"), operand(case.b, "B", case.k, case.n, "k", "j")
        tiling = choose_tiling(case.m, case.n, case.k, case.dtype, model, a, b)
        assert (tiling.parallel, tiling.workspace_bytes) == ("", 0)


def test_small_products_are_loops_where_vectors_of_a_tile_would_not_be_full():
    def in_loops(n: int, k: int, vector_bytes: int) -> bool:
        a, b = operand("plain", "A", 8, k, "i", "k"), operand("plain", "B", k, n, "k", "j")
        return choose_tiling(8, n, k, FLOAT32, TargetModel.from_vector_bytes(vector_bytes), a, b).plain

    assert [n for n in range(1, 20) if in_loops(n, 8, 64)] == [2, 4, 8]
    assert [k for k in range(1, 20) if in_loops(8, k, 64)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [k for k in range(1, 20) if in_loops(8, k, 32)] == [1, 2]
    assert not in_loops(64, 3, 64)


def test_threads_that_share_a_batch_pack_each_for_itself():
    along_k = Operand("direct", "b", 1, 40)
    model = TargetModel.from_vector_bytes(32, 2)
    tiling = choose_tiling(40, 40, 40, FLOAT32, model, Operand("direct", "a", 40, 1), along_k, [("item", 512)])
    assert (tiling.parallel, tiling.b_first, tiling.b_space) == ("batch", True, "mine")
    assert tiling.shared_elements == 0
    assert tiling.part_elements >= tiling.panels * tiling.width * tiling.panel_depth


def test_threads_share_the_depth_of_a_product_whose_columns_they_share_in_another():
    x, w = Operand("direct", "X", 3073, 1), Operand("direct", "W", 10, 1)

    def parallel(cores: int, **known: bool) -> str:
        model = TargetModel.from_vector_bytes(64, cores)
        return choose_tiling(200, 10, 3073, FLOAT32, model, x, w, **known).parallel

    assert [parallel(2), parallel(2, by_columns=True), parallel(4, by_columns=True)] == ["rows", "depth", "rows"]
