"""The emitted C as C: no warning from any compiler, nothing for a sanitizer to find, nothing global, always the same text.

Each program is rendered for a vector width and compiled outside of graphc, with a small ``main`` that calls it on
buffers of exactly their size, one element off any alignment; its results are compared with NumPy's.
``pytest --update-golden`` rewrites the golden files.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import enter
from graphc.compile import Graph, freeze, with_tables
from graphc.emit.emit import Emitted
from graphc.pipeline import render

GOLDEN = Path(__file__).parent / "golden"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
COMPILERS = {
    kind: path
    for kind, names in {"gcc": ["gcc"], "clang": ["clang", "clang-14"]}.items()
    if (path := next(filter(None, map(shutil.which, names)), None))
}
CPU = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
NATIVE = 64 if " avx512f " in CPU else 32 if " avx2 " in CPU and " fma " in CPU else 0
QEMU = shutil.which("qemu-aarch64")
ZIG = [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else []

needs_compiler = pytest.mark.skipif(not COMPILERS, reason="neither gcc nor clang")


# --- programs -------------------------------------------------------------------------------------------
class Feeds:
    """Inputs and parameters with random values that are always the same."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.values: dict[Any, Any] = {}

    def input(self, name, shape=(), dtype="float32", below=None, value=None):
        node = gx.input(name, shape, dtype)
        if value is None:
            value = self.rng.normal(size=shape) if below is None else self.rng.integers(0, below, shape)
        self.values[node] = np.asarray(value).astype(dtype)
        return node

    def parameter(self, name, shape=(), dtype="float32"):
        return gx.parameter(name, self.rng.normal(size=shape) / 4, dtype)

    @property
    def inputs(self):
        return list(self.values)


def dense(feeds, name, rows, columns, dtype="float32"):
    return feeds.parameter(f"{name}.W", (rows, columns), dtype), feeds.parameter(f"{name}.b", (columns,), dtype)


def trained(loss, parameters, **options):
    gradients = gx.grad(loss, parameters)
    return gx.optim.SGD(learning_rate=0.1, **options)(dict(zip(parameters, gradients, strict=True)))


def product(f):
    x, y, z = f.input("x", value=-2), f.input("y", value=5), f.input("z", value=-4)
    value = (x + y) * z
    return [value, *gx.grad(value, [x, y, z])], {}


def net(f, batch, inside, hidden, classes, **options):
    X, labels = f.input("X", (batch, inside)), f.input("labels", (batch,), "int32", below=classes)
    (W1, b1), (W2, b2) = dense(f, "hidden", inside, hidden), dense(f, "out", hidden, classes)
    scores = gx.nn.relu(X @ W1 + b1) @ W2 + b2
    loss = gx.mean(gx.nn.softmax_cross_entropy(scores, labels)) + 1e-4 * gx.sum(W1 * W1)
    hits = gx.mean(gx.equal(gx.argmax(scores, -1), labels))
    return {"loss": loss, "hits": hits}, trained(loss, [W1, b1, W2, b2], **options)


def digits(f):
    return net(f, 32, 64, 100, 10, momentum=0.9)


def large_net(f):
    """Large enough for threads and for packed panels."""
    return net(f, 192, 700, 130, 10, momentum=0.9, nesterov=True)


def adaptive(f):
    """Adam in the store steps: scalars in float64, a counter, a schedule, clipping, a weight used transposed."""
    X, labels = f.input("X", (9, 13)), f.input("labels", (9,), "int32", below=5)
    W, V, b = f.parameter("W", (13, 22)), f.parameter("V", (5, 22)), f.parameter("b", (5,))
    loss = gx.mean(gx.nn.softmax_cross_entropy(gx.nn.linear(gx.tanh(X @ W), V, b), labels))
    rate = gx.optim.linear_warmup(gx.optim.one_cycle(0.1, 100), 10, start_factor=0.5)
    recipe = gx.optim.clip_by_global_norm(gx.optim.NAdam(rate, weight_decay=0.1, decoupled_weight_decay=True), 0.1)
    return {"loss": loss}, recipe(dict(zip([W, V, b], gx.grad(loss, [W, V, b]), strict=True)))


def activations(f):
    """A deep float64 net with each activation and loss."""
    X, labels = f.input("X", (9, 13), "float64"), f.input("labels", (9,), "int64", below=5)
    signs = f.input("signs", (9,), "float64", value=np.sign(f.rng.normal(size=9)))
    layers = [dense(f, f"layer{n}", a, b, "float64") for n, (a, b) in enumerate([(13, 22), (22, 12), (12, 7), (7, 5)])]
    h = X
    for (W, b), act in zip(layers, [lambda h: gx.nn.maxout(h, 2), gx.nn.elu, gx.nn.leaky_relu, gx.tanh], strict=False):
        h = act(h @ W + b) if act is not gx.nn.maxout else act(h)
        if h.shape[-1] == 11:
            h = gx.concatenate([h, h], -1) if hasattr(gx, "concatenate") else h @ gx.constant(np.eye(11, 22))
    hinge = gx.mean(gx.nn.multiclass_hinge(h, labels))
    logistic = gx.mean(gx.logaddexp(0, -signs * gx.sum(h, -1)))
    fit = gx.mean(gx.nn.squared_error(gx.nn.sigmoid(h[:, 0]), signs))
    parameters = [p for pair in layers for p in pair]
    return {"hinge": hinge, "logistic": logistic}, trained(hinge + logistic + fit, parameters, weight_decay=0.01)


def wide_softmax(f):
    """Rows that do not fit the stack."""
    x, labels = f.input("x", (5, 3001)), f.input("labels", (5,), "int32", below=3001)
    loss = gx.sum(gx.nn.softmax_cross_entropy(x * 3, labels))
    return [gx.nn.softmax(x), gx.nn.log_softmax(x), loss, gx.grad(loss, x), gx.argmax(x, -1), gx.max(x, -1)], {}


def movement(f):
    """Slices, pads, strides, transposes, reshapes, gathers and their gradients; swapped and shifted parameters."""
    x, k = f.input("x", (6, 35)), f.input("k", (6, 4), "int64", below=35)
    a, b, c = (f.parameter(name, (17,)) for name in "abc")
    parts = [x[::-1, 3:30:4], x.T[2:9], gx.reshape(x, (7, 30))[:, ::-3], gx.take_along_axis(x, k, 1)]
    rolled = gx.sum(x[1:, :-1] * x[:-1, 1:] + x[2, 5])
    inner = gx.take_along_axis(x, gx.broadcast_to(gx.reshape(gx.argmax(x, 1), (6, 1)), (6, 2)), 1)
    total = rolled + gx.sum(parts[3] ** 2) + gx.sum(gx.reshape(x, (5, 42)) @ gx.reshape(x, (42, 5)))
    return [*parts, inner, gx.grad(total, x), a[::2] + 1], {a: b, b: a, c: c[::-1] * 2}


def whole_numbers(f):
    """Integers at their limits (they wrap, as NumPy's do), truth values, and casts."""
    low, high = -(2**31), 2**31 - 1
    i = f.input("i", (7,), "int32", value=[low, low + 1, -1, 0, 1, high - 1, high])
    n = f.input("n", (7,), "int64", value=[-(2**63), -(2**40), -1, 0, 1, 2**40, 2**63 - 1])
    t = f.input("t", (7,), "bool", value=[1, 0, 1, 1, 0, 0, 1])
    count = gx.parameter("count", 0, "int32", trainable=False)
    special = gx.constant([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38, 0.1])
    outputs = [
        i + i, i * i, -i, gx.abs(i), i - 1, gx.maximum(i, 0), gx.minimum(i, n), n * n + i, -n, gx.abs(n), gx.sign(n),
        gx.sum(i), gx.sum(n), gx.max(i), gx.min(n), gx.argmax(n), gx.argmin(i), gx.mean(i), i.astype("float64") / 3,
        (i > 0) & t, ~t | (n <= i), gx.where(t, i, -1), gx.sum(t), gx.equal(t, i < 0), i.astype("int64") - 2**31, special * 1,
        gx.where(t, special, 0), i ** 3,
    ]  # fmt: skip
    return outputs, {count: count + 1}


def reductions(f):
    """Long sums (in blocks), columns, strips with a rest, all kinds and both dtypes."""
    x, y = f.input("x", (3, 5003)), f.input("y", (70001,), "float64")
    tall, cube = f.input("tall", (4100, 7)), f.input("cube", (5, 18, 33))
    outputs = [gx.sum(x), gx.sum(x, 1), gx.sum(x, 0), gx.sum(y), y @ y, gx.max(y), gx.min(x, 1), gx.argmin(x, 1), gx.mean(y * y)]
    outputs += [gx.sum(tall, 0), gx.max(tall, 0), gx.sum(tall * tall, 1), gx.argmax(tall, 0), gx.sum(tall)]
    for dtype, columns in (("float32", 10), ("float64", 7), ("float32", 5)):  # short rows, added up side by side
        rows = f.input(f"rows_{dtype}_{columns}", (203, columns), dtype)
        outputs += [gx.sum(rows * rows), gx.sum(gx.logsumexp(rows, 1)), gx.sum(gx.max(gx.relu(rows), 1) * gx.sum(rows * rows[0], 1))]
    outputs += [gx.sum(cube, 1), gx.sum(cube, (0, 2)), gx.max(cube, (0, 1)), gx.argmax(cube, 1), gx.mean(cube, 0, keepdims=True)]
    return outputs, {}


def products(f):
    """Contractions of every kind: batches, vectors, transposed operands, expressions as operands, no terms at all."""
    a, b = f.input("a", (3, 19, 37)), f.input("b", (37, 21))
    c, v = f.input("c", (2, 1, 37, 5), "float64"), f.input("v", (37,))
    none, whole = f.input("none", (4, 0)), f.input("whole", (80, 40))  # whole vectors, but not whole panels
    outputs = [a @ b, a @ v, v @ b, v @ v, a @ c, gx.exp(-a[0] * a[0]) @ b, (b.T @ b) @ b.T, a[1] @ a[2].T, none @ none.T]
    for dtype, classes in (("float32", 10), ("float64", 3)):  # narrow: the tiles are transposed, and stored element by element or by rows
        wide, few = f.input(f"wide_{dtype}", (50, 90), dtype), f.input(f"few_{dtype}", (50, classes), dtype)
        slim = f.input(f"slim_{dtype}", (90, classes), dtype)
        outputs += [slim - 0.1 * (wide.T @ few[::-1] + slim) * v[3], few.T @ wide * gx.sum(few), wide.T @ few * few[7], wide[:, :20].T @ few - slim[:20]]
        outputs += [gx.where(gx.arange(classes) > 1, wide.T @ few, slim), slim[::-1] + wide.T @ few, slim[3] + gx.reshape(wide, (5, 10, 90)).mT @ few[:10]]
    outputs += [gx.reshape(v, (37, 1)) @ gx.reshape(v, (1, 37)), a[:, ::2, 1:] @ b[:-1], gx.relu(a @ b) * gx.sum(v), whole @ whole.T]
    return outputs, {}


def sorting(f):
    """Short rows and long ones, all dtypes, a formula as operand, gradients; enough rows for threads."""
    many = f.input("many", (701, 81))
    outputs = [gx.sort(many), gx.argsort(many)]
    for dtype in ("float32", "float64", "int32", "int64"):
        x, y = f.input(f"x_{dtype}", (3, 7), dtype, below=9), f.input(f"y_{dtype}", (2, 301), dtype, below=70000)
        outputs += [gx.sort(x), gx.argsort(x, 0), gx.sort(y), gx.argsort(y), gx.sort(-x.T)]
    z = f.input("z", (4, 9))
    return [*outputs, gx.median(z), gx.grad(gx.sum(gx.sort(z) ** 2 * gx.quantile(z, 0.3, 1)[:, None]), z)], {}


def linear_algebra(f):
    """Factors and solutions with and without a rest of rows, columns and panels, and their gradients; enough matrices for threads."""
    many = f.input("many", (301, 11, 11))
    outputs = [gx.linalg.cholesky(many @ many.mT + 11 * gx.eye(11)), gx.linalg.inv(many + 11 * gx.eye(11))]
    for dtype, n in (("float32", 5), ("float64", 19), ("float64", 34)):
        x, b = f.input(f"x_{n}", (2, n, n), dtype), f.input(f"b_{n}", (2, n, 9), dtype)
        a = x @ gx.swapaxes(x, -1, -2) + n * gx.eye(n, dtype=dtype)
        factor = gx.linalg.cholesky(a)
        solutions = [gx.linalg.solve_triangular(a, b, trans, lower=lower) for trans in (0, 1) for lower in (0, 1)]
        total = gx.sum(gx.linalg.solve_triangular(factor, b, lower=True) ** 2) + gx.sum(gx.log(gx.diagonal(factor, 0, -2, -1)))
        total += gx.sum(gx.linalg.slogdet(x).logabsdet)
        swapped = gx.linalg.solve(x[:, ::-1], b)
        outputs += [factor, *solutions, swapped, gx.linalg.inv(a), gx.linalg.det(x), *gx.grad(total, [x, b])]
    return outputs, {}


def pointwise(f):
    """Every function, on floats of both widths and far out."""
    wild = [-np.inf, -1e30, -50, -1, -1e-30, -0.0, 0, 1e-30, 0.3, 1, 50, 1e30, np.inf, np.nan]
    outputs = []
    for dtype in ("float32", "float64"):
        x, p = f.input(f"x_{dtype}", (14,), dtype, value=wild), f.input(f"p_{dtype}", (14,), dtype, value=np.linspace(0.1, 3, 14))
        near = f.input(f"near_{dtype}", (14,), dtype)
        outputs += [g(x) for g in (gx.exp, gx.expm1, gx.tanh, gx.sigmoid, gx.erf, gx.relu, gx.abs, gx.sign)]
        outputs += [g(p) for g in (gx.log, gx.log1p, gx.sqrt, gx.sin, gx.cos)]
        outputs += [gx.logaddexp(x, p), p**near, x**2, p**-3, gx.maximum(x, near), gx.minimum(x, near), near / p, near - x > 1]
    return outputs, {}


def draws(f):
    """Draws of all kinds and of few and many elements; a net with dropout; a parameter that walks at random."""
    draw, outputs = gx.random, []
    for shape in ((), (1,), (6,), (3, 5), (70, 301)):
        outputs += [draw.uniform(shape), draw.uniform(shape, -1, 3, "float64"), draw.normal(shape), draw.normal(shape, 2, 3, "float64")]
        outputs += [draw.bernoulli(0.3, shape), draw.integers(-3, 9, shape), draw.integers(0, 2**40, shape, "int64")]
    x, (W, b), (V, c) = f.input("x", (9, 20)), dense(f, "hidden", 20, 30), dense(f, "out", 30, 4)
    drop = gx.nn.dropout
    loss = gx.mean(gx.square(drop(gx.nn.relu(drop(x, 0.2) @ W + b)) @ V + c))
    walk = f.parameter("walk", (5,))
    return [*outputs, loss], {walk: walk + draw.normal((5,)), **trained(loss, [W, b, V, c])}


def names(f):
    """What a user may call things, and C may not."""
    strange = """int restrict args i arena exp NAN x y x_y gx_ ä 1x __x int32_t class linux sqrtf memcpy INT32_MAX
    GX_SIMD sum output_0 odd_args odd_run ODD_H lane tile row now */ /* // ??/ \\ 日本 output_1 e float_t""".split()
    strange += ["x y", " ", "a\nb", "%s", "{{x}}", "'", "\u202e", "new_W", "A" * 90]
    nodes = [f.input(name, (3,)) for name in strange]
    W = gx.parameter("while", np.ones(3))
    total = sum(gx.exp(node) * (k + 1) for k, node in enumerate(nodes)) * W
    return {"int": total, "x y": gx.sum(total), "double": W * 2}, {W: W + 1}


def indexing(f):
    """Indices of both dtypes, pairs of them, from the end, in tables large and small; scatters of all kinds, in place and of few rows."""
    x, i, j = f.input("x", (40, 7)), f.input("i", (9,), "int32", below=40), f.input("j", (9,), "int64", value=np.arange(9) - 7)
    v, n = f.input("v", (9, 7)), f.input("n", (12,), "int32", below=12)
    table, counts, rows = f.parameter("table", (40, 7)), f.parameter("counts", (40, 7), "float64"), f.parameter("rows", (200, 3))
    known, many = np.array([5, -1, 5, 0]), np.random.default_rng(1).integers(-40, 40, 300)
    outputs = [x[i], x[i, j], x[:, j[:2], None], x[known, ::2], x[many] @ x.T[:, known], x[i][j] * 2, gx.take(x[None], i), gx.one_hot(n, 5)]
    outputs += [getattr(x.at[i], kind)(v) for kind in ("set", "add", "multiply", "max", "min")]
    outputs += [x.at[i, j].add(v[:, 0]), x.at[1:, known[:3]].set(1), n.at[n].add(n), x.at[:, ::-2].multiply(x[:, :4]), x.at[many].add(1)]
    total = gx.sum(gx.sin(x[i, j]) * v[:, 1]) + gx.sum(x.at[i].set(v) ** 2) + gx.sum(x[many] ** 3) + gx.sum(x.at[i].multiply(v) * x[::-1])
    outputs += [*gx.grad(total, [x, v]), gx.grad(gx.sum(x[i] ** 2 * v), x)]
    learnt = gx.grad(gx.sum(gx.square(rows[i] - v[:, :3])), rows)
    return outputs, {table: table.at[i].add(v), counts: (counts * 0.5).at[j, 0].min(x[0, 0]), rows: rows - 0.1 * learnt}


PROGRAMS = (
    product, digits, large_net, adaptive, activations, wide_softmax, movement, whole_numbers, reductions, products, sorting, indexing, linear_algebra, pointwise, draws, names
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A program as a graph, and what it is called with."""

    graph: Graph
    feeds: Mapping[Any, Any]

    @classmethod
    def of(cls, program):
        feeds = Feeds()
        outputs, updates = program(feeds)
        keys = tuple(outputs) if isinstance(outputs, dict) else tuple(f"output_{k}" for k in range(len(outputs)))
        nodes = tuple(outputs.values() if isinstance(outputs, dict) else outputs)
        name = "odd" if program is names else program.__name__
        return cls(with_tables(freeze(feeds.inputs, nodes, keys, "dict", updates, name)), feeds.values)

    def emitted(self, vector_bytes: int) -> Emitted:
        return render(self.graph, vector_bytes, 2)

    def given(self):
        """Inputs, then parameters: what the struct begins with."""
        return [*(self.feeds[node] for node in self.graph.inputs), *(p.value for p in self.graph.parameters)]

    def expected(self):
        """Parameters afterwards, then outputs."""
        with np.errstate(all="ignore"):
            results = dict(zip(self.graph.results, gx.evaluate(list(self.graph.results), dict(self.feeds)), strict=True))
        new = dict(self.graph.updates)
        after = [results[new[p]] if p in new else p.value for p in self.graph.parameters]
        return [np.asarray(value) for value in (*after, *(results[node] for node in self.graph.outputs))]


@pytest.fixture(scope="module")
def cases():
    return {program.__name__: Case.of(program) for program in PROGRAMS}


def run(command, folder):
    ran = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    return "" if ran.returncode == 0 else f"{' '.join(map(str, command))}\n(exit {ran.returncode})\n{(ran.stderr + ran.stdout)[:3000]}"


def run_all(commands):
    """Commands, each with its folder, two at a time; asserts that all succeed."""
    with ThreadPoolExecutor(2) as pool:
        failures = [text for text in pool.map(lambda item: run(*item), commands) if text]
    assert not failures, "\n\n".join(failures)


def written(emitted, folder):
    folder.mkdir(exist_ok=True)
    (folder / f"{emitted.name}.c").write_text(emitted.c_source, encoding="utf-8")
    (folder / f"{emitted.name}.h").write_text(emitted.c_header, encoding="utf-8")
    return folder / f"{emitted.name}.c"


# --- warnings ---------------------------------------------------------------------------------------------
@needs_compiler
def test_no_warnings(cases, tmp_path):
    builds = [(64, ["-O1", "-march=native"]), (64, ["-mavx2", "-mfma", "-fopenmp"]), (32, ["-O1", "-mavx2", "-mfma"]), (0, ["-O1"])]
    builds += [(32, ["-O3", "-mavx2", "-mfma"])]  # functions made for one set of arguments are looked at apart
    commands = []
    for width, flags in builds:
        if any("-m" in flag for flag in flags) and not NATIVE:
            continue
        for name, case in cases.items():
            if "-O3" in flags and name not in ("digits", "large_net", "reductions", "products"):
                continue
            file = written(case.emitted(width), tmp_path / f"{name}{width}")
            for compiler in COMPILERS.values():
                commands.append(([compiler, *STRICT, *flags, "-S", "-o", os.devnull, file], file.parent))
    run_all(commands)


@needs_compiler
def test_blocks_of_blocks(tmp_path):
    """Sums over so much that threads share blocks of rows, each itself summed by blocks: too large to run here."""
    y = gx.input("y", (20_000, 20_000))
    outputs = (gx.sum(y * y), gx.sum(y, 0), gx.sum(y, 1), gx.max(y))
    emitted = render(freeze([y], outputs, tuple("abcd"), "list", {}, "large"), 32, 2)
    file = written(emitted, tmp_path)
    run_all([([compiler, *STRICT, "-fopenmp", "-fsyntax-only", file], tmp_path) for compiler in COMPILERS.values()])


@needs_compiler
def test_the_way_from_python(tmp_path):
    (tmp_path / "enter.c").write_text(enter.source())
    run_all([([compiler, *STRICT, "-fsyntax-only", "enter.c"], tmp_path) for compiler in COMPILERS.values()])


@needs_compiler
def test_header_alone(cases, tmp_path):
    """The header is C and C++ by itself, also with names that C++ keeps for itself."""
    commands = []
    for name, case in cases.items():
        file = written(case.emitted(0), tmp_path / name).with_suffix(".h")
        (file.parent / "twice.c").write_text(f'#include "{file.name}"\n#include "{file.name}"\n')
        for compiler in COMPILERS.values():
            commands.append(([compiler, *STRICT, "-fsyntax-only", "twice.c"], file.parent))
        for compiler in filter(None, map(shutil.which, ("g++", "clang++", "clang++-14"))):
            commands.append(([compiler, *STRICT[1:], "-fsyntax-only", "-x", "c++", "twice.c"], file.parent))
    run_all(commands)


# --- running it -------------------------------------------------------------------------------------------
DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "@.h"

/* nbytes of the file, up to the very end of a block, and aligned to nothing but their own size. */
static void *block(FILE *file, size_t nbytes, size_t item)
{
    char *p = malloc(nbytes + item);
    if (!p) exit(3);
    memset(p, 0xff, nbytes + item);
    if (file && nbytes && fread(p + item, 1, nbytes, file) != nbytes) exit(4);
    return p + item;
}

int main(void)
{
    @_args args;
    @_strides strides;
    int64_t done = 0;
    FILE *in = fopen("in", "rb"), *out = fopen("out", "wb");
    if (!in || !out) return 5;
    memset(&strides, 0, sizeof strides);
ASSIGN
    args.arena = @_ARENA_BYTES ? aligned_alloc(64, @_ARENA_BYTES) : NULL;
    if (args.arena) memset(args.arena, 0xff, @_ARENA_BYTES);
    args.threads = 2;
    if (@_run(&args, &strides, 1, &done) != 0 || done != 1) return 6;
WRITE
    return fclose(out);
}
"""


def driver(case, emitted):
    """A ``main`` that reads ``in``, calls once, and writes what it finds afterwards to ``out``."""
    fields = re.findall(r"^    (?:const )?\w+ \*(\w+);", emitted.c_header, re.MULTILINE)[:-1]  # the last is the arena
    slots = [*case.graph.inputs, *case.graph.parameters, *case.graph.outputs]
    given, inputs = len(slots) - len(case.graph.outputs), len(case.graph.inputs)
    types = [slot.type for slot in slots]
    assert len(fields) == len(slots)
    assign = [
        f"    args.{field} = block({'in' if k < given else 'NULL'}, {type.nbytes}, {type.dtype.itemsize});"
        for k, (field, type) in enumerate(zip(fields, types, strict=True))
    ]
    write = [
        f"    if (fwrite(args.{field}, 1, {type.nbytes}, out) != {type.nbytes}) return 7;"
        for field, type in list(zip(fields, types, strict=True))[inputs:]
    ]
    return DRIVER.replace("@", emitted.name).replace("ASSIGN", "\n".join(assign)).replace("WRITE", "\n".join(write))


def compare(case, folder):
    raw = (folder / "out").read_bytes()
    for slot, expected in zip([*case.graph.parameters, *case.graph.outputs], case.expected(), strict=True):
        got = np.frombuffer(raw[: expected.nbytes], expected.dtype).reshape(expected.shape)
        raw = raw[expected.nbytes :]
        if expected.dtype.kind == "f":
            finite = np.abs(expected[np.isfinite(expected)])
            scale = 0 if case.graph.name == "pointwise" else float(finite.max(initial=0))
            exact = expected.dtype == np.float64
            np.testing.assert_allclose(got, expected, rtol=1e-12 if exact else 1e-5, atol=scale * (1e-12 if exact else 1e-5), err_msg=repr(slot))
        else:
            np.testing.assert_array_equal(got, expected, err_msg=repr(slot))
    assert not raw


def prepared(case, emitted, folder):
    """The folder of a program: its C, a ``main``, what that reads."""
    written(emitted, folder)
    (folder / "main.c").write_text(driver(case, emitted))
    (folder / "in").write_bytes(b"".join(np.ascontiguousarray(value).tobytes() for value in case.given()))
    return folder


@needs_compiler
@pytest.mark.parametrize("kind", sorted(COMPILERS))
def test_sanitizers_and_numbers(cases, tmp_path, kind):
    """gcc builds the plain C, clang (or gcc, where it is alone) the vectors of each width that this machine has."""
    sanitize = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    (tmp_path / "probe.c").write_text("int main(void) { return 0; }\n")
    if run([COMPILERS[kind], *sanitize, "-o", "probe", "probe.c"], tmp_path) or run(["./probe"], tmp_path):
        pytest.skip(f"{kind} has no sanitizers here")
    builds, runs, folders = [], [], []
    vectors = {width for width in (16, 32, 64) if width <= NATIVE}
    widths = {0} if kind == "gcc" and len(COMPILERS) > 1 else vectors if kind == "clang" else {0} | vectors
    for width in sorted(widths):
        for name, case in cases.items():
            emitted = case.emitted(width)
            folder = prepared(case, emitted, tmp_path / f"{name}{width}")
            flags = ["-O0" if kind == "clang" else "-O1", "-ffp-contract=off", *(["-march=native"] if width else []), *(["-fopenmp"] if emitted.threaded and kind == "gcc" else [])]
            program = [COMPILERS[kind], *sanitize, *flags, "-o", "main", "main.c", f"{emitted.name}.c", "-lm"]
            builds.append((program, folder))
            runs.append((["env", "ASAN_OPTIONS=detect_leaks=0", "./main"], folder))
            folders.append((case, folder))
    run_all(builds)
    run_all(runs)
    for case, folder in folders:
        compare(case, folder)


@pytest.mark.skipif(not (QEMU and ZIG and NATIVE), reason="needs qemu-user, the package ziglang, and a CPU with fused multiply-add")
def test_another_machine(cases, tmp_path):
    """64-bit ARM with NEON, emulated: the right numbers, and the bits that this machine finds."""
    flags = ["-O2", "-ffp-contract=off", "-fno-math-errno", "-Werror", "main.c"]
    machines = {
        "here": (NATIVE, [next(iter(COMPILERS.values())), "-march=native"], []),
        "arm": (16, [*ZIG, "-target", "aarch64-linux-musl", "-static"], [QEMU]),
    }
    builds, runs = [], []
    for name, case in cases.items():
        for machine, (width, compiler, runner) in machines.items():
            emitted = case.emitted(width)
            folder = prepared(case, emitted, tmp_path / f"{name}.{machine}")
            builds.append(([*compiler, *flags, f"{emitted.name}.c", "-lm", "-o", "main"], folder))
            runs.append(([*runner, "./main"], folder))
    run_all(builds)
    run_all(runs)
    for name, case in cases.items():
        compare(case, tmp_path / f"{name}.arm")
        here, arm = ((tmp_path / f"{name}.{machine}" / "out").read_bytes() for machine in machines)
        assert here == arm, f"{name}: other bits on ARM"


@needs_compiler
def test_nothing_global_and_nothing_needed(cases, tmp_path):
    """No written data (so calls may overlap), no undefined symbol but of libm and memcpy, memset."""
    if not shutil.which("nm"):
        pytest.skip("no nm")
    allowed = {"memcpy", "memset", "pow", "sqrt", "sqrtf", "sin", "sinf", "cos", "cosf", "_GLOBAL_OFFSET_TABLE_"}
    for name, case in cases.items():
        emitted = case.emitted(NATIVE)
        file = written(emitted, tmp_path / name)
        native = ["-march=native"] if NATIVE else []
        command = [next(iter(COMPILERS.values())), *STRICT, "-O1", "-fno-math-errno", *native, "-c", "-o", "it.o", file]
        assert not run(command, file.parent)
        listed = subprocess.run(["nm", "it.o"], cwd=file.parent, capture_output=True, text=True, check=True).stdout
        symbols = [line.split()[-2:] for line in listed.splitlines()]
        assert not [symbol for symbol in symbols if symbol[0] in "DdBbCSsGg"], name
        assert {symbol for kind, symbol in symbols if kind == "U"} <= allowed, name
        assert {symbol for kind, symbol in symbols if kind == "T"} == {emitted.name, f"{emitted.name}_run"}, name


# --- the text ---------------------------------------------------------------------------------------------
def test_text_is_tidy(cases):
    """No tabs, no blanks at the end of a line, no runs of empty lines, no long lines, no names that only count."""
    for name, case in cases.items():
        for text in (case.emitted(64).c_source, case.emitted(64).c_header):
            lines = text.split("\n")
            assert text.endswith(("}\n", "#endif\n")), name
            assert not [line for line in lines if "\t" in line or line != line.rstrip()], name
            assert "\n\n\n" not in text, name
            if name in ("product", "digits", "large_net"):
                assert not [line for line in lines if len(line) > 140], name
            assert not re.findall(r"\b(?:v|tmp|t|alu|n|node)\d+\b", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)), name


def test_users_names_are_kept(cases):
    source = cases["digits"].emitted(32).c_source
    for words in ("const float *X;", "float *hidden_W;", "float *hidden_b_momentum;", "hidden.W"):
        assert words in source


HASHES = """
import hashlib, sys
sys.path.insert(0, {tests!r})
import numpy as np, graphc as gx, test_c
if {before}:  # other graphs, and the same in another order
    x = gx.input("x", (8, 8)); kept = [gx.exp(x) @ x.T for _ in range(50)]
    others = [test_c.Case.of(p) for p in reversed(test_c.PROGRAMS)]
    texts = [c.emitted(32).c_source for c in others[:4]]
for program in test_c.PROGRAMS:
    emitted = test_c.Case.of(program).emitted(64)
    print(program.__name__, hashlib.sha256((emitted.c_source + emitted.c_header).encode("utf-8")).hexdigest())
"""


def test_same_text_in_every_process():
    def hashes(seed, before):
        script = HASHES.format(tests=str(Path(__file__).parent), before=before)
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(gx.__file__).parents[1])}
        ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(hashes, ("1", "4242"), (False, True))
    assert first == second


@needs_compiler
def test_golden(cases, tmp_path, request):
    """What (x + y) * z looks like, and that it says what it should."""
    emitted = cases["product"].emitted(0)
    file = GOLDEN / "product.c"
    if request.config.getoption("--update-golden"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(emitted.c_source)
    assert emitted.c_source == file.read_text(), "look at the difference; pytest --update-golden accepts it"
    assert emitted.c_source == cases["product"].emitted(64).c_source
    (tmp_path / "golden.c").write_text(
        file.read_text()
        + "#include <stdio.h>\nint main(void)\n{\n    float x = -2, y = 5, z = -4, f[4];\n"
        + "    product_args args = {&x, &y, &z, f, f + 1, f + 2, f + 3, 0, 1};\n"
        + '    return product(&args) || printf("%g %g %g %g", f[0], f[1], f[2], f[3]) < 0;\n}\n'
    )
    assert not run([next(iter(COMPILERS.values())), *STRICT, "-o", "golden", "golden.c"], tmp_path)
    assert subprocess.run(["./golden"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "-12 -4 -4 3"
