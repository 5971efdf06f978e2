"""The vector math of templates/math.h.j2 against references of higher precision, with every compiler at hand.

The array loops are compiled as generated code is. The reference is the C library's long double; where that is no
wider than double, and in a sample everywhere, mpmath is.
"""

import ctypes
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from graphc.emit import vecmath
from graphc.emit.render import environment

Array = npt.NDArray[np.floating]

UNARY = ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "softplus", "erf", "sin", "cos", "tan", "asin", "acos", "atan"]
UNARY += ["sinh", "cosh", "asinh", "acosh", "atanh", "cbrt", "cos_turns", "erfc", "lgamma", "digamma"]
BINARY = ["logaddexp", "pow", "atan2", "hypot"]
PUBLIC = [f"gx_{name}{suffix}" for name in UNARY + BINARY for suffix in ("f", "")]
CALLS_LIBM = {"gx_pow", "gx_sinf", "gx_sin", "gx_cosf", "gx_cos", "gx_tanf", "gx_tan"}  # these loops are not vector code

ULP = 2.0
ULP_OF = {"gx_digamma": 3.0}  # below 0; above, less than 1.7 with fused multiply-add and 2.6 without
FLAGS = ["-std=c99", "-O3", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno"]
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]

# Where the interesting things happen, and a little beyond: (low, high) in float32 and float64.
DOMAIN = {
    "exp": ((-106, 90), (-750, 712)),
    "expm1": ((-20, 90), (-40, 712)),
    "exp2": ((-151, 129), (-1077, 1025)),
    "log": ((0, 8), (0, 8)),
    "log2": ((0, 8), (0, 8)),
    "log10": ((0, 8), (0, 8)),
    "log1p": ((-1, 8), (-1, 8)),
    "tanh": ((-12, 12), (-22, 22)),
    "sigmoid": ((-106, 20), (-750, 40)),
    "softplus": ((-106, 20), (-750, 40)),
    "erf": ((-4.5, 4.5), (-6.5, 6.5)),
    "sin": ((-1000, 1000), (-1000, 1000)),
    "cos": ((-1000, 1000), (-1000, 1000)),
    "cos_turns": ((-2, 2), (-2, 2)),
    "tan": ((-1000, 1000), (-1000, 1000)),
    "asin": ((-1, 1), (-1, 1)),
    "acos": ((-1, 1), (-1, 1)),
    "atan": ((-4, 4), (-4, 4)),
    "sinh": ((-91, 91), (-712, 712)),
    "cosh": ((-91, 91), (-712, 712)),
    "asinh": ((-8, 8), (-8, 8)),
    "acosh": ((1, 8), (1, 8)),
    "atanh": ((-1, 1), (-1, 1)),
    "cbrt": ((-9, 9), (-9, 9)),
    "erfc": ((-5, 10.3), (-6.5, 27.5)),
    "lgamma": ((-6, 12), (0, 12)),
    "digamma": ((-6, 12), (0, 12)),
}

HARNESS = """
{{ math }}
{% for name in names %}
{% set real = 'float' if name.endswith('f') and name != 'gx_erf' else 'double' %}
{% if name in binary %}
void array_{{ name }}(const {{ real }} *restrict x, const {{ real }} *restrict y, {{ real }} *restrict z, long n);
void array_{{ name }}(const {{ real }} *restrict x, const {{ real }} *restrict y, {{ real }} *restrict z, long n)
{
    for (long i = 0; i < n; i++) /* {{ name }} */
        z[i] = {{ name }}(x[i], y[i]);
}
{% else %}
void array_{{ name }}(const {{ real }} *restrict x, {{ real }} *restrict z, long n);
void array_{{ name }}(const {{ real }} *restrict x, {{ real }} *restrict z, long n)
{
    for (long i = 0; i < n; i++) /* {{ name }} */
        z[i] = {{ name }}(x[i]);
}
{% endif %}
{% endfor %}
"""
REFERENCE = """
#include <math.h>
static long double sigmoidl(long double x) { return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x)); }
static long double softplusl(long double x) { return (x > 0 ? x : 0) + log1pl(expl(-fabsl(x))); }
static long double cos_turnsl(long double x)
{
    return sinl(6.283185307179586476925286766559L * (0.25L - fabsl(x - rintl(x))));
}
static long double logaddexpl(long double x, long double y)
{
    return x == y ? x + logl(2.0L) : (x > y ? x : y) + log1pl(expl(-fabsl(x - y)));
}
static long double digammal(long double x)
{
    const long double pi = 3.141592653589793238462643383279503L, fraction = x - rintl(x);
    if (x == 0) return copysignl(INFINITY, -x);
    if (x < 0) return fraction == 0 ? NAN : digammal(1 - x) - pi / tanl(pi * fraction);
    long double sum = 0, term = 1;
    for (; x < 32; x += 1) sum -= 1 / x;
    static const long double b[] = {-1 / 12.0L, 1 / 120.0L, -1 / 252.0L, 1 / 240.0L, -1 / 132.0L, 691 / 32760.0L, -1 / 12.0L};
    for (int j = 0; j < 7; j++) sum += b[j] * (term /= x * x);
    return sum + logl(x) - 0.5L / x;
}
{% for name in unary %}
void exact_{{ name }}(const long double *x, long double *z, long n)
{
    for (long i = 0; i < n; i++)
        z[i] = {{ name }}l(x[i]);
}
{% endfor %}
{% for name in binary %}
void exact_{{ name }}(const long double *x, const long double *y, long double *z, long n)
{
    for (long i = 0; i < n; i++)
        z[i] = {{ name }}l(x[i], y[i]);
}
{% endfor %}
"""


def harness(names: list[str]) -> str:
    env = environment()
    used = vecmath.closure(names)
    math = env.get_template("math.c.j2").render(used=used, files=vecmath.files(used))
    binary = [f"gx_{name}{suffix}" for name in BINARY for suffix in ("f", "")]
    return env.from_string(HARNESS).render(math=math, names=names, binary=binary)


def cpu_flags() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def find_compilers() -> dict[str, list[str]]:
    names = {"gcc": ["gcc"], "clang": ["clang", "clang-14", "clang-16", "clang-18"]}
    found = {kind: [name for name in names[kind] if shutil.which(name)][:1] for kind in names}
    found = {kind: command for kind, command in found.items() if command}
    if importlib.util.find_spec("ziglang"):
        found["zig"] = [sys.executable, "-m", "ziglang", "cc"]
    return found


COMPILERS = find_compilers()
FIRST = next(iter(COMPILERS), "none")
HAS_FMA = {"fma", "avx2"} <= cpu_flags()
WIDE = ["-mprefer-vector-width=512"] if "avx512f" in cpu_flags() else []
BUILDS: dict[str, tuple[str, list[str]]] = {f"{FIRST}-generic": (FIRST, [])}
if HAS_FMA:
    BUILDS |= {f"{name}-native": (name, ["-march=native", *WIDE]) for name in COMPILERS}
    BUILDS |= {f"{name}-avx2": (name, ["-mavx2", "-mfma"]) for name in COMPILERS if name != "zig"}
    BUILDS |= {f"{FIRST}-scalar": (FIRST, ["-mfma", "-fno-tree-vectorize"])}
FMA_BUILDS = [name for name in BUILDS if not name.endswith("generic")]

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ctypes.CDLL]:
    """Compiles the loops over all functions, once for each entry of BUILDS asked for."""

    @functools.cache
    def compiled(name: str) -> ctypes.CDLL:
        folder = tmp_path_factory.mktemp(name)
        compiler, flags = BUILDS[name]
        (folder / "all.c").write_text(harness(PUBLIC))
        command = [*COMPILERS[compiler], *FLAGS, *STRICT, *flags, "-shared", "-fPIC", "all.c", "-o", "all.so", "-lm"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return ctypes.CDLL(os.fspath(folder / "all.so"))

    return compiled


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long double is no wider than double")
    folder = tmp_path_factory.mktemp("reference")
    (folder / "exact.c").write_text(environment().from_string(REFERENCE).render(unary=UNARY, binary=BINARY))
    command = [*COMPILERS[FIRST], "-std=c99", "-O2", "-shared", "-fPIC", "exact.c", "-o", "exact.so", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(os.fspath(folder / "exact.so"))


def call(library: ctypes.CDLL, name: str, *operands: Array) -> Array:
    """The loop `name` over arrays of one dtype."""
    out = np.empty_like(operands[0])
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*operands, out)]
    getattr(library, name)(*pointers, ctypes.c_long(out.size))
    return out


def dtype_of(name: str) -> type[np.floating]:
    return np.float32 if name.removeprefix("gx_") not in UNARY + BINARY else np.float64


def base_of(name: str) -> str:
    base = name.removeprefix("gx_")
    return base if base in UNARY + BINARY else base.removesuffix("f")


@np.errstate(all="ignore")
def edges(dtype: type[np.floating]) -> Array:
    info = np.finfo(dtype)
    limits = [info.tiny, info.smallest_subnormal, info.max, info.eps, np.inf, np.nan]
    positive = np.array([0, 1, 2, 3, 0.5, 1e-30, 40, 88.72, 709.78, *limits], dtype)
    positive = np.concatenate([positive, np.nextafter(positive, dtype(np.inf)), np.nextafter(positive, dtype(0))])
    return np.concatenate([positive, -positive])


def bit_patterns(dtype: type[np.floating], n: int, rng: np.random.Generator) -> Array:
    return np.frombuffer(rng.bytes(n * np.dtype(dtype).itemsize), dtype)


@np.errstate(all="ignore")
def samples(name: str, n: int = 100_000) -> tuple[Array, ...]:
    """Operands for a function: its domain densely, all magnitudes, random bits and the edge cases."""
    rng = np.random.default_rng(seed=5)
    dtype, base = dtype_of(name), base_of(name)
    special = edges(dtype)
    if base in UNARY:
        low, high = DOMAIN[base][dtype is np.float64]
        magnitudes = rng.choice([-1, 1], n) * 2.0 ** rng.uniform(-40, 6, n)
        parts = [np.linspace(low, high, n), rng.uniform(low, high, n), magnitudes]
        return (np.concatenate([special, bit_patterns(dtype, n, rng), *(part.astype(dtype) for part in parts)]),)
    x, y = (a.ravel() for a in np.meshgrid(special, special))
    a = rng.uniform(-20, 20, n)
    pairs = [
        (a, a + rng.uniform(-4, 4, n)),
        (abs(a), np.zeros(n)),
        (-abs(a), np.zeros(n)),
        (2.0 ** rng.uniform(-60, 3, n), -rng.uniform(0, 40, n)),
        (2.0 ** rng.uniform(-3, 3, n), rng.uniform(-60, 60, n)),
        (np.round(a), np.round(rng.uniform(-20, 20, n))),
        (bit_patterns(dtype, n, rng), bit_patterns(dtype, n, rng)),
    ]
    return tuple(np.concatenate([s, *(p[i].astype(dtype) for p in pairs)]) for i, s in enumerate((x, y)))


@np.errstate(all="ignore")
def ulps(got: Array, exact: Array, scale: Array | None = None) -> Array:
    """The distance in units in the last place of `scale`, by default the exact value.

    It is inf where only one of the two is NaN or infinite, or the sign of a zero differs.
    """
    info = np.finfo(got.dtype)
    rounded = exact.astype(got.dtype)
    finite = np.isfinite(rounded) & np.isfinite(got)
    _, exponent = np.frexp(np.where(finite, exact if scale is None else scale, 1))
    unit = np.ldexp(np.longdouble(1), np.maximum(exponent - 1, info.minexp) - info.nmant)
    distance = np.where(finite, abs(got - exact) / unit, np.inf).astype(np.float64)
    # the largest finite number and inf are neighbours
    distance[np.isfinite(exact) & (abs(exact) > info.max) & (abs(got) >= info.max)] = 0
    distance[(rounded == got) & ~finite | np.isnan(rounded) & np.isnan(got)] = 0
    zero = (exact == 0) & ((got != 0) | (np.signbit(got) != np.signbit(exact)))
    distance[zero] = np.inf
    return distance


@np.errstate(all="ignore")
@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "gx_pow"])
@pytest.mark.parametrize("variant", [FIRST + "-generic", *FMA_BUILDS[:1]])
def test_within_two_ulp(name: str, variant: str, build: Callable[[str], ctypes.CDLL], reference: ctypes.CDLL) -> None:
    operands = samples(name)
    got = call(build(variant), f"array_{name}", *operands)
    wide = [a.astype(np.longdouble) for a in operands]
    exact = call(reference, f"exact_{base_of(name)}", *wide)
    scale = None
    if base_of(name) == "logaddexp":  # a difference of two terms where both operands are negative
        larger = np.maximum(*wide)
        scale = np.where(larger < 0, np.maximum(-larger, exact - larger), exact)
    if base_of(name) == "lgamma":  # below 0 a difference too
        terms = np.maximum(abs(wide[0]) * np.log1p(abs(wide[0])), 2)
        scale = np.where(wide[0] < 0, np.maximum(abs(exact), terms), exact)
    if base_of(name) == "digamma":  # likewise; and long double cannot tell it near its zero, which mpmath can
        terms = np.log1p(abs(wide[0])) + abs(np.pi / np.tan(np.pi * (wide[0] - np.rint(wide[0]))))
        scale = np.where(wide[0] < 0, np.fmax(abs(exact), 1 + terms), np.maximum(abs(exact), 1))
    distance = ulps(got, exact, scale)
    worst = int(np.argmax(distance))
    at = ", ".join(repr(a[worst]) for a in operands)
    assert distance[worst] <= ULP_OF.get(name, ULP), f"{name}({at}) = {got[worst]!r}, not {exact[worst]!r}: {distance[worst]:.3f} ULP"


@pytest.mark.parametrize("name", UNARY)
def test_double_against_mpmath(name: str, build: Callable[[str], ctypes.CDLL]) -> None:
    mpmath = pytest.importorskip("mpmath")
    low, high = DOMAIN[name][1]
    x = np.random.default_rng(3).uniform(low, high, 400)
    got = call(build(list(BUILDS)[-1]), f"array_gx_{name}", x)
    others = {
        "exp2": lambda v: mpmath.power(2, v),
        "log2": lambda v: mpmath.log(v, 2),
        "cos_turns": lambda v: mpmath.cospi(2 * v),
        "lgamma": lambda v: mpmath.loggamma(v).real,
        "cbrt": lambda v: mpmath.sign(v) * mpmath.cbrt(abs(v)),
        "sigmoid": lambda v: 1 / (1 + mpmath.exp(-v)),
        "softplus": lambda v: mpmath.log1p(mpmath.exp(v)),
    }
    exact_of = others.get(name) or getattr(mpmath, name)
    with mpmath.workdps(40):
        for v, y in zip(x.tolist(), got.tolist(), strict=True):
            exact = exact_of(mpmath.mpf(v))
            rounded = float(exact)
            if np.isinf(rounded):
                assert y == rounded, (v, y)
            else:
                assert abs(mpmath.mpf(y) - exact) <= ULP * mpmath.mpf(float(np.spacing(abs(rounded)))), (v, y)


EDGE_CASES = """
exp:        0 = 1; -0 = 1; inf = inf; -inf = 0; nan = nan; 1e6 = inf; -1e6 = 0
exp2:       0 = 1; -0 = 1; inf = inf; -inf = 0; nan = nan; 1e6 = inf; -1e6 = 0; 10 = 1024; -1 = 0.5; -126 = 1.1754943508222875e-38
expm1:      0 = 0; -0 = -0; inf = inf; -inf = -1; nan = nan
log:        0 = -inf; -0 = -inf; 1 = 0; -1 = nan; -1e-40 = nan; -inf = nan; inf = inf; nan = nan
log2:       0 = -inf; -0 = -inf; 1 = 0; -1 = nan; -inf = nan; inf = inf; nan = nan; 0.125 = -3; 1048576 = 20
log10:      0 = -inf; -0 = -inf; 1 = 0; -1 = nan; -inf = nan; inf = inf; nan = nan; 10 = 1; 1000 = 3; 1e10 = 10
log1p:      0 = 0; -0 = -0; -1 = -inf; -2 = nan; -inf = nan; inf = inf; nan = nan
tanh:       0 = 0; -0 = -0; inf = 1; -inf = -1; nan = nan
sigmoid:    0 = 0.5; -0 = 0.5; inf = 1; -inf = 0; nan = nan
softplus:   0 = 0.6931471805599453; -0 = 0.6931471805599453; inf = inf; -inf = 0; nan = nan; 1e6 = 1e6; -1e6 = 0
erf:        0 = 0; -0 = -0; inf = 1; -inf = -1; nan = nan
sin:        0 = 0; -0 = -0; inf = nan; nan = nan
cos:        0 = 1; -0 = 1; -inf = nan; nan = nan
cos_turns:  0 = 1; -0 = 1; 0.25 = 0; -0.75 = 0; 0.5 = -1; 1e30 = 1; 4194304.5 = -1; 8388609 = 1; inf = nan; -inf = nan; nan = nan
tan:        0 = 0; -0 = -0; inf = nan; -inf = nan; nan = nan
asin:       0 = 0; -0 = -0; 1 = 1.5707963267948966; -1 = -1.5707963267948966; 1.5 = nan; -inf = nan; nan = nan
acos:       1 = 0; -1 = 3.141592653589793; 0 = 1.5707963267948966; -0 = 1.5707963267948966; -1.5 = nan; inf = nan
atan:       0 = 0; -0 = -0; 1 = 0.7853981633974483; inf = 1.5707963267948966; -inf = -1.5707963267948966; nan = nan
atan2:      0, 0 = 0; -0, 0 = -0; 0, -0 = 3.141592653589793; -0, -0 = -3.141592653589793; 0, 1 = 0; -0, 1 = -0
atan2:      0, -1 = 3.141592653589793; -0, -1 = -3.141592653589793; 1, 0 = 1.5707963267948966; 1, -0 = 1.5707963267948966
atan2:      -1, 0 = -1.5707963267948966; 1, inf = 0; -1, inf = -0; 1, -inf = 3.141592653589793; nan, 1 = nan; 1, nan = nan
atan2:      inf, 1 = 1.5707963267948966; -inf, -1 = -1.5707963267948966; inf, inf = 0.7853981633974483; nan, nan = nan
atan2:      inf, -inf = 2.356194490192345; -inf, inf = -0.7853981633974483; -inf, -inf = -2.356194490192345; -inf, nan = nan
hypot:      0, 0 = 0; -0, -0 = 0; 3, -4 = 5; inf, nan = inf; nan, -inf = inf; nan, 1 = nan; -inf, 2 = inf; 0, -2 = 2
sinh:       0 = 0; -0 = -0; inf = inf; -inf = -inf; nan = nan; 1e6 = inf; -1e6 = -inf
cosh:       0 = 1; -0 = 1; inf = inf; -inf = inf; nan = nan; 1e6 = inf; -1e6 = inf
asinh:      0 = 0; -0 = -0; inf = inf; -inf = -inf; nan = nan
acosh:      1 = 0; 0.5 = nan; 0 = nan; -1 = nan; -3 = nan; -inf = nan; inf = inf; nan = nan
atanh:      0 = 0; -0 = -0; 1 = inf; -1 = -inf; 1.5 = nan; -2 = nan; inf = nan; nan = nan
cbrt:       0 = 0; -0 = -0; inf = inf; -inf = -inf; nan = nan; 8 = 2; -27 = -3; 1 = 1; 1e6 = 100; 0.125 = 0.5
erfc:       0 = 1; -0 = 1; inf = 0; -inf = 2; nan = nan; 30 = 0; -30 = 2
lgamma:     1 = 0; 2 = 0; 0 = inf; -0 = inf; -1 = inf; -2 = inf; inf = inf; -inf = inf; nan = nan
digamma:    0 = -inf; -0 = inf; -1 = nan; -2 = nan; inf = inf; -inf = nan; nan = nan
logaddexp:  -inf, -inf = -inf; inf, inf = inf; inf, -inf = inf; -inf, 3 = 3; 5, inf = inf
logaddexp:  nan, 1 = nan; 1, nan = nan; nan, inf = nan; -inf, nan = nan
pow:        nan, 0 = 1; 1, nan = 1; -1, nan = nan; -1, inf = 1; -1, -inf = 1; 0, 0 = 1; inf, -0 = 1
pow:        0, -1 = inf; -0, -1 = -inf; -0, -2 = inf; -0, 3 = -0; 0, inf = 0; -0, -inf = inf; -0, 0.5 = 0
pow:        -2, 3 = -8; -2, 2 = 4; -2, 0.5 = nan; -2, inf = inf; 2, 127 = 170141183460469231731687303715884105728
pow:        -inf, 0.5 = inf; -inf, -3 = -0; -inf, 3 = -inf; 0.5, inf = 0; 0.5, -inf = inf; 2, -inf = 0
"""


@pytest.mark.parametrize("suffix", ["f", ""])
@pytest.mark.parametrize("line", EDGE_CASES.strip().splitlines())
def test_edge_cases(line: str, suffix: str, build: Callable[[str], ctypes.CDLL]) -> None:
    base, cases = line.split(":")
    name = f"gx_{base}{suffix}"
    for case in cases.split(";"):
        arguments, expected = case.split("=")
        # long enough that the vector code is met as well as the scalar remainder
        operands = [np.full(67, float(a), dtype_of(name)) for a in arguments.split(",")]
        exact = np.full(67, float(expected), dtype_of(name))
        for variant in (FIRST + "-generic", *FMA_BUILDS[:1]):
            got = call(build(variant), f"array_{name}", *operands)
            np.testing.assert_array_equal(got, exact, err_msg=f"{name}: {case}")
            np.testing.assert_array_equal(
                np.signbit(got) & ~np.isnan(got), np.signbit(exact), err_msg=f"{name}: {case}"
            )


@pytest.mark.parametrize("variant", [FIRST + "-generic", *FMA_BUILDS[:1]])
def test_softplus_is_logaddexp_of_zero(variant: str, build: Callable[[str], ctypes.CDLL]) -> None:
    """The simplifier puts one in the place of the other."""
    for suffix in ("f", ""):
        (x,) = samples(f"gx_softplus{suffix}")
        for operands in ((x, 0 * np.ones_like(x)), (0 * np.ones_like(x), x)):
            both = call(build(variant), f"array_gx_softplus{suffix}", x), call(build(variant), f"array_gx_logaddexp{suffix}", *operands)
            np.testing.assert_array_equal(*both)


@pytest.mark.skipif("gcc" not in COMPILERS or not HAS_FMA, reason="reads the machine code of gcc on x86")
@pytest.mark.parametrize("suffix", ["f", ""])
@pytest.mark.parametrize(("other", "twice"), [("softplus", ""), ("tanh", "2 * ")])
def test_sigmoid_shares_its_exponential(other: str, twice: str, suffix: str, tmp_path: Path) -> None:
    """Both in one loop take fewer multiply-adds than each in its own, by those of an exponential."""

    def fused(names: list[str], body: str) -> int:
        loop = f"void f(const T *restrict x, T *restrict y, T *restrict z) {{ for (int i = 0; i < 1024; i++) {{ {body} }} }}"
        text = harness([f"gx_{name}{suffix}" for name in names]).replace("void array", "static inline void array")
        (tmp_path / "f.c").write_text(text + loop.replace("T *", "float *" if suffix else "double *"))
        subprocess.run(["gcc", *FLAGS, "-mavx2", "-mfma", "-w", "-S", "f.c"], cwd=tmp_path, check=True)
        return (tmp_path / "f.s").read_text().count("fmadd")

    sigmoid, second = f"y[i] = gx_sigmoid{suffix}({twice}x[i]);", f"z[i] = gx_{other}{suffix}(x[i]);"
    apart = fused(["sigmoid"], sigmoid) + fused([other], second)
    assert fused(["sigmoid", other], sigmoid + second) <= apart - 7


@pytest.mark.skipif(len(FMA_BUILDS) < 2, reason="needs fused multiply-add and two ways to compile")
@pytest.mark.parametrize("variant", FMA_BUILDS[1:])
def test_same_bits_from_every_compiler(variant: str, build: Callable[[str], ctypes.CDLL]) -> None:
    for name in PUBLIC:
        if name == "gx_pow":
            continue  # the C library's, and zig brings its own
        operands = samples(name, 20_000)
        if base_of(name) in ("sin", "cos", "tan"):
            operands = tuple(np.clip(a, -1e6, 1e6) for a in operands)  # beyond, the C library's
        ours, theirs = (call(build(v), f"array_{name}", *operands) for v in (FMA_BUILDS[0], variant))
        bits = f"u{ours.itemsize}"
        same = (ours.view(bits) == theirs.view(bits)) | (np.isnan(ours) & np.isnan(theirs))
        assert same.all(), f"{name}: {np.count_nonzero(~same)} differ"


@pytest.mark.parametrize("compiler", [name for name in COMPILERS if name != "zig"])
def test_each_function_stands_alone(compiler: str, tmp_path: Path) -> None:
    """Only what is used is emitted, and that compiles without a warning."""
    for name in PUBLIC:
        (tmp_path / f"{name}.c").write_text(harness([name]))
    command = [*COMPILERS[compiler], "-std=c99", "-fsyntax-only", *STRICT, *(f"{name}.c" for name in PUBLIC)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif("gcc" not in COMPILERS or not HAS_FMA, reason="reads the vectoriser's report of gcc on x86")
def test_loops_become_vector_code(tmp_path: Path) -> None:
    source = tmp_path / "all.c"
    source.write_text(harness(PUBLIC))
    command = ["gcc", *FLAGS, "-march=native", *WIDE, "-fopt-info-vec-optimized", "-c", "all.c", "-o", "all.o"]
    report = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    width = "64 byte" if WIDE else "32 byte"
    vectorised = {int(line.split(":")[1]) for line in report.splitlines() if f"vectorized using {width}" in line}
    loops = [i for i, line in enumerate(source.read_text().splitlines(), 1) if "i++) /* gx_" in line]
    assert {name for name, i in zip(PUBLIC, loops, strict=True) if i not in vectorised} == CALLS_LIBM


def test_closure_lists_callees_first() -> None:
    assert vecmath.closure(["gx_logf", "gx_expf"]) == ["gx_bitsf", "gx_expf", "gx_log_sumf", "gx_logf"]
    everything = vecmath.closure([*PUBLIC, "gx_polygammaf", "gx_polygamma"])  # these are loops: tests/test_elementwise.py
    assert everything == list(vecmath.DEPENDS)
    for name in everything:
        assert all(everything.index(callee) < everything.index(name) for callee in vecmath.DEPENDS[name])
    with pytest.raises(KeyError):
        vecmath.closure(["gx_gamma"])
