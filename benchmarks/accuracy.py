"""The largest errors of graphc's vector math, and the table of them in docs/accuracy.md.

``python -m benchmarks.accuracy`` takes every float32 there is through each function (some seconds each) and ten million
float64; ``--floats N --doubles N`` takes a sample, ``--write`` makes the page. The loops are compiled as generated code is.

The error of a float32 result is taken against graphc's own float64 function, which is 2^29 times finer and itself measured
against the C library's long double here; that of a float64 result against long double.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc import toolchain
from graphc.emit import vecmath
from graphc.emit.render import environment

__all__ = ["FUNCTIONS", "Build", "measure", "page"]

Array = npt.NDArray[Any]
PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"


@dataclass(frozen=True)
class Function:
    """name: without gx_. long: its long double in C. low, high: where float64 is sampled evenly, besides all magnitudes; beyond
    low32 and high32 float32 is passed over. note: what the table says beside."""

    name: str
    operation: str
    long: str
    low: float
    high: float
    bounds: tuple[float, float] = (-np.inf, np.inf)
    note: str = ""


CIRCLE = (-1e6, 1e6)
LIBM = "for abs(x) up to 1e6; beyond, the C library's"
FUNCTIONS = [
    Function("exp", "exp", "expl(x)", -745, 710),
    Function("exp2", "exp2", "exp2l(x)", -1074, 1024),
    Function("expm1", "expm1", "expm1l(x)", -40, 710),
    Function("log", "log", "logl(x)", 0, 8),
    Function("log2", "log2", "log2l(x)", 0, 8),
    Function("log10", "log10", "log10l(x)", 0, 8),
    Function("log1p", "log1p", "log1pl(x)", -1, 8),
    Function("tanh", "tanh", "tanhl(x)", -20, 20),
    Function("sigmoid", "sigmoid", "x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x))", -745, 40),
    Function("softplus", "softplus", "(x > 0 ? x : 0) + log1pl(expl(-fabsl(x)))", -745, 40),
    Function("erf", "erf", "erfl(x)", -6, 6),
    Function("erfc", "erfc", "erfcl(x)", -6, 27),
    Function("sin", "sin", "sinl(x)", -1000, 1000, CIRCLE, LIBM),
    Function("cos", "cos", "cosl(x)", -1000, 1000, CIRCLE, LIBM),
    Function("tan", "tan", "tanl(x)", -1000, 1000, CIRCLE, LIBM),
    Function("asin", "arcsin", "asinl(x)", -1, 1),
    Function("acos", "arccos", "acosl(x)", -1, 1),
    Function("atan", "arctan", "atanl(x)", -8, 8),
    Function("sinh", "sinh", "sinhl(x)", -710, 710),
    Function("cosh", "cosh", "coshl(x)", -710, 710),
    Function("asinh", "arcsinh", "asinhl(x)", -8, 8),
    Function("acosh", "arccosh", "acoshl(x)", 1, 8),
    Function("atanh", "arctanh", "atanhl(x)", -1, 1),
    Function("cbrt", "cbrt", "cbrtl(x)", -8, 8),
    Function("lgamma", "lgamma", "lgammal(x)", 0, 30, (0, np.inf), "for x > 0; below, 2 ULP of the terms, which cancel"),
]

LOOPS = """
{{ math }}
#include <float.h>
/* How far y is from z in units in the last place of a float; what overflows may be the largest number. */
static inline double distance(float y, double z)
{
    double unit = gx_from_bits(gx_bits(z) & 0x7ff0000000000000u) * 0x1p-23;
    unit = unit > 0x1p-149 ? unit : 0x1p-149;
    double d = fabs((double)y - z) / unit;
    d = fabs(z) > (double)FLT_MAX ? (fabsf(y) >= FLT_MAX && (y < 0) == (z < 0) ? 0.0 : (double)INFINITY) : d;
    d = y != y || z != z ? (y != y && z != z ? 0.0 : (double)INFINITY) : d;
    return d;
}
{% for f in functions %}
void f32_{{ f.name }}(const float *restrict x, float *restrict y, long n);
void f32_{{ f.name }}(const float *restrict x, float *restrict y, long n)
{
    for (long i = 0; i < n; i++) y[i] = gx_{{ f.name }}f(x[i]);
}
void f64_{{ f.name }}(const double *restrict x, double *restrict y, long n);
void f64_{{ f.name }}(const double *restrict x, double *restrict y, long n)
{
    for (long i = 0; i < n; i++) y[i] = gx_{{ f.name }}(x[i]);
}
/* The worst of the floats whose bits are first, first + step, ...; those out of bounds are taken for 1/2. */
double scan_{{ f.name }}(uint32_t first, uint32_t step, long count, float low, float high, float *at);
double scan_{{ f.name }}(uint32_t first, uint32_t step, long count, float low, float high, float *at)
{
    enum { BLOCK = 2048 };
    static float x[BLOCK], y[BLOCK];
    static double wide[BLOCK], z[BLOCK];
    double worst = -1;
    for (long start = 0; start < count; start += BLOCK) {
        long n = count - start < BLOCK ? count - start : BLOCK;
        for (int i = 0; i < n; i++) {
            float v = gx_from_bitsf(first + (uint32_t)(start + i) * step);
            x[i] = v < low || v > high ? 0.5f : v;
            wide[i] = (double)x[i];
        }
        f32_{{ f.name }}(x, y, n);
        f64_{{ f.name }}(wide, z, n);
        double most = -1;
        for (int i = 0; i < n; i++) {
            double d = distance(y[i], z[i]);
            most = d > most ? d : most;
        }
        if (most > worst) {
            worst = most;
            for (int i = 0; i < n; i++)
                if (distance(y[i], z[i]) == most) *at = x[i];
        }
    }
    return worst;
}
{% endfor %}
"""
LONG = """
#include <math.h>
{% for f in functions %}
void long_{{ f.name }}(const double *restrict given, long double *restrict y, long n)
{
    for (long i = 0; i < n; i++) {
        long double x = given[i];
        y[i] = {{ f.long }};
    }
}
{% endfor %}
"""


class Build:
    """The loops, compiled for one target; of the target "long", the references."""

    def __init__(self, target: str, functions: Sequence[Function] = FUNCTIONS) -> None:
        compiler = toolchain.find_compiler()
        flags = [] if target == "long" else toolchain.resolve_target(compiler, target).flags
        names = ["gx_bits", "gx_bitsf", *(f"gx_{f.name}{suffix}" for f in functions for suffix in ("f", ""))]
        used = vecmath.closure(names)
        math = environment().get_template("math.c.j2").render(used=used, files=vecmath.files(used))
        with tempfile.TemporaryDirectory() as folder:
            text = environment().from_string(LONG if target == "long" else LOOPS).render(math=math, functions=functions)
            (Path(folder) / "all.c").write_text(text)
            command = [*compiler.argv, *compiler.flags, *flags, "all.c", "-o", "all.so", "-lm"]
            subprocess.run(command, cwd=folder, check=True)
            self.library = ctypes.CDLL(os.fspath(Path(folder) / "all.so"))

    def call(self, name: str, x: Array, dtype: Any = None) -> Array:
        y = np.empty(x.shape, dtype or x.dtype)
        getattr(self.library, name)(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), ctypes.c_long(x.size))
        return y

    def scan(self, function: Function, floats: int) -> tuple[float, float]:
        """The largest error of float32 over so many floats, evenly among all, and where it is."""
        at = ctypes.c_float()
        scan = getattr(self.library, f"scan_{function.name}")
        scan.restype = ctypes.c_double
        step = 2**32 // floats | 1  # odd: every low bit comes by
        low, high = map(ctypes.c_float, function.bounds)
        worst = scan(ctypes.c_uint32(0), ctypes.c_uint32(step), ctypes.c_long(floats), low, high, ctypes.byref(at))
        return worst, at.value


@np.errstate(all="ignore")
def samples(function: Function, count: int) -> Array:
    """Half evenly in the function's range, half of all magnitudes and both signs."""
    rng = np.random.default_rng(7)
    half = count // 2
    spread = rng.choice([-1.0, 1.0], half) * 2.0 ** rng.uniform(-1074, 1024, half)
    x = np.concatenate([rng.uniform(function.low, function.high, count - half), spread])
    low, high = function.bounds
    return np.where((x < low) | (x > high), 0.5, x)


@np.errstate(all="ignore")
def double_error(function: Function, build: Build, exact: Build, count: int) -> tuple[float, float]:
    """The largest error of float64 over so many samples, and where it is."""
    worst, where = -1.0, 0.0
    for x in np.array_split(samples(function, count), max(1, count // 1_000_000)):
        got, want = build.call(f"f64_{function.name}", x), exact.call(f"long_{function.name}", x, np.longdouble)
        rounded = want.astype(np.float64)
        finite = np.isfinite(got) & np.isfinite(rounded)
        unit = np.ldexp(np.longdouble(1), np.maximum(np.frexp(np.where(finite, want, 1))[1] - 1, -1022) - 52)
        distance = np.where(finite, abs(got - want) / unit, np.inf)
        distance[(got == rounded) & ~finite | np.isnan(got) & np.isnan(rounded)] = 0
        distance[np.isfinite(want) & ~np.isfinite(rounded) & (abs(got) >= np.finfo(np.float64).max)] = 0
        worst, where = max((worst, where), (float(distance.max()), float(x[distance.argmax()])))
    return worst, where


def same_bits(function: Function, builds: Sequence[Build]) -> bool:
    """Whether builds agree to the bit, over a million samples of each precision."""
    wide = samples(function, 1_000_000)
    with np.errstate(all="ignore"):
        narrow = wide.astype(np.float32)
    for name, x in (("f64", wide), ("f32", narrow)):
        first, *others = (build.call(f"{name}_{function.name}", x) for build in builds)
        bits = f"u{x.itemsize}"
        if not all(np.all((first.view(bits) == y.view(bits)) | ((first != first) & (y != y))) for y in others):
            return False
    return True


def measure(
    function: Function, build: Build, exact: Build, floats: int, doubles: int
) -> tuple[float, float, float, float]:
    """float32: largest error and where; float64: the same."""
    return (*build.scan(function, floats), *double_error(function, build, exact, doubles))


HEAD = """# Accuracy

graphc's exp, log, tanh and the rest are its own C (`templates/math/`). They have no branches or tables, so that any compiler
makes vector code of a loop over them. They are made of operations that IEEE 754 defines to the last bit, so that the result
does not depend on the vector width. This page says how far they are from the exact results, in units in the last place (ULP)
of the result; correct rounding would be 0.5.

Made by `python -m benchmarks.accuracy --write` in a build for {target}: every float32 there is, but where the notes say how
many, and {doubles} float64, half of them evenly over the range where the function is not trivial, half of all magnitudes.
The error of a float32 is taken against graphc's float64 function, which is 2^29 times finer, that of a float64 against
the C library's long double.

| operation | float32, ULP | at | float64, ULP | at | notes |
|---|---|---|---|---|---|
"""
TAIL = """
**Same bits.** {bits}

**Without fused multiply-add** (target `generic`) `a * b + c` rounds twice, so the bits are others. There the errors are
held below 2 ULP too by `tests/test_math.py`, but for digamma (3).

**Beside the table.** logaddexp: 2 ULP of the result or, where both operands are negative and the two terms cancel, of the
larger term. arctan2: 1.6; hypot: 0.5 in float32, 1.2 in float64. digamma: float32 0.5; float64 1.7 above 0, its zero at
1.46 included, and 3 of the larger term below. power: float32 0.6; float64 is the C library's `pow`. polygamma: a few, and a
loop rather than vector code. sin, cos and tan beyond 1e6 are the C library's, and scalar code everywhere.
NumPy's special cases (NaN, infinities, zeros with their signs, denormals) hold for every operation: `tests/test_ops.py`.
"""


def page(rows: Sequence[str], target: str, doubles: int, bits: str) -> str:
    return HEAD.format(target=target, doubles=f"{doubles:,}") + "".join(rows) + TAIL.format(bits=bits)


def row(function: Function, measured: tuple[float, float, float, float], floats: int) -> str:
    narrow, at32, wide, at64 = measured
    share = [] if floats == 2**32 else [f"one float32 in {2**32 // floats | 1}"]
    notes = "; ".join([*([function.note] if function.note else []), *share])
    return f"| {function.operation} | {narrow:.2f} | {at32:.9g} | {wide:.2f} | {at64:.17g} | {notes} |\n"


def known_rows() -> dict[str, str]:
    """The rows of the page as it is, by operation."""
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    names = {f.operation for f in FUNCTIONS}
    return {line.split()[1]: line + "\n" for line in lines if line.startswith("| ") and line.split()[1] in names}


def main() -> None:
    parser = argparse.ArgumentParser(description="The largest errors of graphc's vector math, in units in the last place.")
    parser.add_argument("--floats", type=int, default=2**32)
    parser.add_argument("--doubles", type=int, default=10_000_000)
    parser.add_argument("--write", action="store_true", help="put the rows measured into docs/accuracy.md")
    parser.add_argument("functions", nargs="*", help="by default all")
    given = parser.parse_args()
    functions = [f for f in FUNCTIONS if not given.functions or f.operation in given.functions]
    build, avx2, exact = Build("native", functions), Build("x86-64-v3", functions), Build("long", functions)
    rows, differ = known_rows(), []
    for f in functions:
        rows[f.operation] = row(f, measure(f, build, exact, given.floats, given.doubles), given.floats)
        print(rows[f.operation], end="", flush=True)
        if not same_bits(f, [build, avx2]):
            differ.append(f.operation)
    beside = f" but for {', '.join(differ)}" if differ else ""
    bits = f"The builds for AVX2 and AVX-512 agree in every bit on a million samples of each row{beside}."
    print(bits)
    if given.write:
        ordered = [rows[f.operation] for f in FUNCTIONS if f.operation in rows]
        PAGE.write_text(page(ordered, "AVX-512", given.doubles, bits), encoding="utf-8")


if __name__ == "__main__":
    main()
