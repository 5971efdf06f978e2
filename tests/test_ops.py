"""Every pointwise operation, reduction, movement and contraction: what the C computes against NumPy.

Pointwise operations come from the registry, so that a new one is covered by its declaration. Hundreds of outputs share
one compile.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphc as gx
from graphc.evaluate import evaluate_all
from graphc.ir import REGISTRY
from graphc.ops import structural as st
from graphc.ops.pointwise import Pointwise
from graphc.types import DTYPES, DTypeError, IndexOutOfRangeError

POINTWISE = [op for op in REGISTRY.values() if isinstance(op, Pointwise)]
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.5, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 5e-324, 1e30, -1e30, 88.0, -104.0]


def check(cases, feeds, exact=False):
    """Compile all cases ({name: node}) at once and compare each with NumPy's value."""
    inputs = list({node.name: node for node in feeds}.values())
    function = gx.compile(inputs, cases)
    found = function(**{node.name: value for node, value in feeds.items()})
    expected = evaluate_all(list(cases.values()), feeds)
    wrong = [text for (name, node), want in zip(cases.items(), expected, strict=True) for text in [compare(name, node, found[name], want, exact)] if text]
    assert not wrong, "\n".join(wrong[:20])


def compare(name, node, got, want, exact):
    got, want = np.asarray(got, dtype=want.dtype), np.asarray(want)
    if got.shape != want.shape:
        return f"{name}: shape {got.shape}, expected {want.shape}"
    if exact or not node.dtype.is_float:
        same = (got == want) | ((got != got) & (want != want))
        same &= np.signbit(got) == np.signbit(want) if node.dtype.is_float and exact == "sign" else True
        return None if np.all(same | (got != got)) and np.array_equal(got != got, want != want) else f"{name}: {got!r} is not {want!r}"
    tolerance = TOLERANCE[str(node.dtype)] * np.max(np.abs(want), initial=1e-30, where=np.isfinite(want))
    close = np.allclose(got, want, rtol=tolerance and TOLERANCE[str(node.dtype)], atol=tolerance, equal_nan=True)
    return None if close else f"{name}: {got!r} is not {want!r}"


def sample(rng, domain, dtype, shape):
    if dtype == "bool":
        return rng.random(shape) < 0.5
    low, high = domain
    if dtype.startswith("int"):
        return rng.integers(int(np.ceil(low)), int(np.floor(high)) + 1, shape).astype(dtype)
    return rng.uniform(low, high, shape).astype(dtype)


# --- pointwise ----------------------------------------------------------------------------------------
def operands_of(op, dtype, shapes, tag):
    """Inputs for one operation, or None if it does not take the dtype."""
    dtypes = ["bool", dtype, dtype] if op.takes == "select" else [dtype] * op.arity
    nodes = [gx.input(f"{tag}_{dt}_{place}", shape, dt) for place, (dt, shape) in enumerate(zip(dtypes, itertools.cycle(shapes), strict=False))]
    try:
        return nodes, op(*nodes)
    except DTypeError:
        return None


@pytest.mark.parametrize("shapes", [[(67,)] * 3, [(3, 1), (1, 5), (4, 1, 1)], [()] * 3])
def test_pointwise_over_the_domain(shapes):
    rng = np.random.default_rng(0)
    cases, feeds = {}, {}
    for op, dtype in itertools.product(POINTWISE, map(str, DTYPES)):
        made = operands_of(op, dtype, shapes, op.name)
        if made is None:
            continue
        nodes, cases[f"{op.name} of {dtype}"] = made
        feeds.update({node: sample(rng, domain, str(node.dtype), node.shape) for node, domain in zip(nodes, op.domain, strict=True)})
    assert {name.split()[0] for name in cases} == {op.name for op in POINTWISE}
    check(cases, feeds)


EXACT = "add subtract multiply divide negative abs sqrt where less less_equal greater greater_equal equal not_equal maximum minimum fmax fmin relu sign floor ceil trunc rint copysign isnan isinf isfinite remainder floor_divide fmod".split()


@pytest.mark.parametrize("target", ["native", "generic"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@np.errstate(all="ignore")
def test_pointwise_at_special_values(dtype, target):
    """NaN, infinities, zeros with their signs, denormals and the largest numbers, as NumPy has them; in loops that are longer than
    a vector and leave a rest."""
    info = np.finfo(dtype)
    edges = [info.max, info.min, info.tiny, info.smallest_subnormal, -info.smallest_subnormal, info.eps, 1 + info.eps]
    values = np.array([*SPECIAL, *edges]).astype(dtype)
    long = np.resize(values, 4 * values.size + 3)
    a, b, c = gx.input("a", (values.size, 1), dtype), gx.input("b", (1, values.size), dtype), gx.input("c", long.shape, dtype)
    floats = [op for op in POINTWISE if op.takes not in ("bool", "int", "bits")]
    cases = {op.name: op(*{1: [c], 2: [a, b], 3: [a > b, a, b]}[op.arity]) for op in floats}
    feeds = {a: values[:, None], b: values[None], c: long}
    found = gx.compile([a, b, c], cases, target=target)(*feeds.values())
    wrong = []
    for (name, node), want in zip(cases.items(), evaluate_all(list(cases.values()), feeds), strict=True):
        got, want = np.asarray(found[name], want.dtype), np.asarray(want)
        same = (got == want) & (np.signbit(got) == np.signbit(want)) if node.dtype.is_float else got == want
        if name not in EXACT and node.dtype.is_float:
            slack = 1e-15 if name == "lgamma" else 0  # the reference is the C library's, which is no nearer than that to its zeros
            near = np.abs(got - want) <= {"float32": 2e-6, "float64": 4e-15}[dtype] * np.abs(want) + 4 * info.smallest_subnormal + slack
            same |= near & np.isfinite(got) & np.isfinite(want) & (want != 0)
        same |= (got != got) & (want != want)
        wrong += [f"{name}: {got[~same][:3]} instead of {want[~same][:3]}"] if not same.all() else []
    assert not wrong, "\n".join(wrong)


def test_integers_wrap_as_in_numpy():
    cases, feeds = {}, {}
    for dtype in ("int32", "int64"):
        info = np.iinfo(dtype)
        x, y = gx.input(f"x_{dtype}", (7, 1), dtype), gx.input(f"y_{dtype}", (1, 7), dtype)
        values = np.array([info.min, info.min + 1, -1, 0, 1, info.max - 1, info.max], dtype)
        feeds.update({x: values[:, None], y: values[None]})
        for op in POINTWISE:
            if op.takes == "number":
                cases[f"{op.name} {dtype}"] = op(*[x, y][: op.arity])
        for kind, axis in itertools.product((gx.sum, gx.max, gx.min), (0, None)):
            cases[f"{kind.__name__} {dtype} {axis}"] = kind(x + y, axis)
        cases[f"square {dtype}"], cases[f"cube {dtype}"] = x**2, x**3
    check(cases, feeds)


def test_promotion_and_constants():
    nodes = {str(dtype): gx.input(str(dtype), (3,), str(dtype)) for dtype in DTYPES}
    rng = np.random.default_rng(1)
    cases = {}
    for (a, x), (b, y) in itertools.product(nodes.items(), nodes.items()):
        cases[f"{a} + {b}"], cases[f"{a} < {b}"], cases[f"{a} / {b}"] = x + y, x < y, x / gx.where(gx.equal(y, 0), 1, y)
    for a, x in nodes.items():
        for value in (2, 2.5, True, np.float64(0.1), np.arange(3), np.array([0.5, 1.5, 2.5])):
            cases[f"{a} * {value}"] = x * value
            cases[f"{value} - {a}"] = value - x
        for b in nodes:
            if not (nodes[a].dtype.is_float and not nodes[b].dtype.is_float) and (b != "bool" or a == "bool"):
                cases[f"{a} as {b}"] = x.astype(b)
    check(cases, {x: sample(rng, (-4, 4), a, (3,)) for a, x in nodes.items()})
    assert (nodes["int32"] + 1.5).dtype.value == "float32"
    assert (nodes["float32"] * np.float64(2)).dtype.value == "float32"
    assert (nodes["float32"] * nodes["float64"]).dtype.value == "float64"
    assert (nodes["int64"] / nodes["int32"]).dtype.value == "float32"


# --- reductions ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_reductions_over_every_choice_of_axes(dtype):
    rng = np.random.default_rng(2)
    cases, feeds = {}, {}
    for shape in [(2, 3, 4), (5, 1, 33), (33, 2), (3, 40, 17), (1, 1), (7,)]:
        x = gx.input(f"x{'_'.join(map(str, shape))}", shape, dtype)
        feeds[x] = rng.permutation(x.size).reshape(shape).astype(dtype)  # all different: an argmax is unique
        for size in range(len(shape) + 1):
            for axes in itertools.combinations(range(len(shape)), size):
                for kind, keep in itertools.product((gx.sum, gx.mean, gx.max, gx.min), (False, True)):
                    cases[f"{kind.__name__} {shape} {axes} {keep}"] = kind(x, axes, keepdims=keep)
        for axis, kind in itertools.product((None, *range(len(shape))), (gx.argmax, gx.argmin)):
            cases[f"{kind.__name__} {shape} {axis}"] = kind(x, axis)
        cases[f"transposed {shape}"] = gx.sum(gx.transpose(x) * 2, 0)
        cases[f"turned argmax {shape}"] = gx.argmax(gx.transpose(x), 0)
    check(cases, feeds)


def test_reductions_around_the_lane_counts():
    """Whole strips, and every kind of rest."""
    rng = np.random.default_rng(3)
    cases, feeds = {}, {}
    for length in (1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 511, 512, 513, 575, 576, 577, 600):
        x, y = gx.input(f"x{length}", (3, length)), gx.input(f"y{length}", (length,), "float64")
        feeds[x], feeds[y] = rng.normal(size=(3, length)).astype("f"), rng.normal(size=length)
        for kind in (gx.sum, gx.max, gx.min, gx.argmax, gx.argmin):
            cases[f"{kind.__name__} rows {length}"] = kind(x, 1)
            cases[f"{kind.__name__} columns {length}"] = kind(x.T, 0)
            cases[f"{kind.__name__} all {length}"] = kind(y, 0)
        cases[f"dot {length}"] = y @ y
        cases[f"matrix-vector {length}"] = x @ gx.input(f"x{length}", (3, length))[0]
        cases[f"vector-matrix {length}"] = gx.constant(np.arange(3.0)) @ x
        cases[f"norm of difference {length}"] = gx.sum(gx.square(x - gx.mean(x, 1, keepdims=True)), 1)
    check(cases, feeds)


def test_extrema_of_nan_infinity_and_ties():
    rows = np.array([[1, np.nan, 3], [np.nan, np.nan, 1], [-np.inf, -np.inf, -np.inf], [np.inf, np.inf, 0], [2, 2, 2], [0, 5, 5]])
    wide = np.tile(rows, (1, 20))
    cases, feeds = {}, {}
    for dtype in ("float32", "float64"):
        for name, value in (("few", rows), ("many", wide)):
            x = gx.input(f"{name}_{dtype}", value.shape, dtype)
            feeds[x] = value.astype(dtype)
            for kind in (gx.max, gx.min, gx.argmax, gx.argmin):
                cases[f"{kind.__name__} {name} {dtype}"] = kind(x, 1)
                cases[f"{kind.__name__} {name} {dtype} columns"] = kind(x.T, 0)
    for value in (np.iinfo("int32").min, np.iinfo("int32").max):
        x = gx.input(f"n{value}", (40,), "int32")
        feeds[x] = np.full(40, value, "int32")
        cases[f"max {value}"], cases[f"min {value}"], cases[f"argmin {value}"] = gx.max(x), gx.min(x), gx.argmin(x)
    check(cases, feeds)


# --- empty --------------------------------------------------------------------------------------------
def test_axes_of_no_elements():
    cases, feeds = {}, {}
    x, y, z = gx.input("x", (0, 3)), gx.input("y", (3, 0)), gx.input("z", (2, 0, 3))
    feeds = {x: np.zeros((0, 3), "f"), y: np.zeros((3, 0), "f"), z: np.zeros((2, 0, 3), "f")}
    cases = {
        "sum": gx.sum(x), "columns": gx.sum(x, 0), "rows": gx.sum(x, 1), "inner": y @ x, "outer": x @ y, "turned": x.T,
        "reshaped": gx.reshape(x, (3, 0, 5)), "max": gx.max(x, 1), "added": gx.exp(x) + 1, "cut": gx.exp(y)[:, 0:0],
        "argmax": gx.argmax(z, 2), "mean": gx.mean(z, 2), "gradient": gx.grad(gx.sum(y @ x) + gx.sum(x), x),
        "wider": gx.broadcast_to(gx.sum(z, 1), (4, 2, 3)), "itself": x, "batch": z @ gx.transpose(z, (0, 2, 1)),
    }  # fmt: skip
    check(cases, feeds)


# --- movement -----------------------------------------------------------------------------------------
def movements():
    """Functions that only move elements of a (4, 6, 5) tensor, by name."""
    yield from {f"transpose {axes}": lambda x, axes=axes: gx.transpose(x, axes) for axes in itertools.permutations(range(3))}.items()
    for shape in [(24, 5), (4, 30), (120,), (2, 2, 6, 5), (4, 2, 3, 5), (2, 12, 5), (8, 15), (5, 6, 4), (3, 40), (1, 4, 6, 1, 5), (10, 12), (60, 2)]:
        yield f"reshape {shape}", lambda x, shape=shape: gx.reshape(x, shape)
    keys = {
        "a row": np.s_[1], "last": np.s_[..., -1], "steps": np.s_[::2, 1::3, ::-1], "reversed": np.s_[::-1, ::-2, 3:0:-1], "new axes": np.s_[None, 2, :, None, 1:4],
        "empty": np.s_[:, 3:3], "one": np.s_[3:4, 5:2:-1],
    }  # fmt: skip
    yield from {name: lambda x, key=key: x[key] for name, key in keys.items()}.items()
    yield "pad", lambda x: st.pad(x, (1, 0, 2), (1, 1, 1), (6, 6, 8))
    yield "pad with steps", lambda x: st.pad(x, (3, 10, 0), (-1, -2, 3), (5, 12, 13))
    yield "broadcast", lambda x: gx.broadcast_to(x, (2, 4, 6, 5))
    yield "flat and turned", lambda x: gx.reshape(gx.transpose(x, (2, 0, 1)), (10, 12))
    yield "squeezed", lambda x: gx.squeeze(gx.expand_dims(x[:1], 2))


def test_movements_and_pairs_of_them():
    x = gx.input("x", (4, 6, 5), "float64")
    cases = {}
    for (first, f), (second, g) in itertools.product(movements(), movements()):
        moved = f(x)
        cases[first] = moved
        if moved.shape == (4, 6, 5):
            cases[f"{first}, {second}"] = g(moved)
        else:
            back = gx.broadcast_to(gx.reshape(gx.reshape(moved, (moved.size,)), (moved.size,))[:1], (4, 6, 5)) if moved.size else x
            cases[f"{first}, {second}"] = g(back + x)
    check(cases, {x: np.arange(120.0).reshape(4, 6, 5) - 40}, exact=True)


def test_movements_inside_of_sums_and_products():
    x = gx.input("x", (4, 6, 5), "float64")
    cases = {}
    for name, f in movements():
        y = f(gx.square(x) - 3)
        if y.size:
            cases[f"sum {name}"] = gx.sum(y, -1)
            cases[f"max {name}"] = gx.max(gx.relu(y), 0)
            cases[f"argmin {name}"] = gx.argmin(y, 0)
        if y.ndim >= 2:
            cases[f"gram {name}"] = y @ gx.transpose(y, (*range(y.ndim - 2), y.ndim - 1, y.ndim - 2))
    rng = np.random.default_rng(4)
    check(cases, {x: rng.permutation(120.0 / np.arange(1, 121)).reshape(4, 6, 5)})


def test_take_along_axis():
    rng = np.random.default_rng(5)
    x, column = gx.input("x", (5, 7)), gx.input("column", (5, 1), "int32")
    wide, rows = gx.input("wide", (5, 3), "int64"), gx.input("rows", (4, 7), "int32")
    feeds = {
        x: rng.normal(size=(5, 7)).astype("f"), column: rng.integers(0, 7, (5, 1)).astype("int32"),
        wide: rng.integers(0, 7, (5, 3)), rows: rng.integers(0, 5, (4, 7)).astype("int32"),
    }  # fmt: skip
    cases = {
        "column": gx.take_along_axis(x, column, 1), "several": gx.take_along_axis(gx.tanh(x), wide, -1), "rows": gx.take_along_axis(x, rows, 0),
        "constant": gx.take_along_axis(x, np.array([[6, 0, 0]] * 5), 1), "of a transpose": gx.take_along_axis(x.T, rows.T, 1),
        "by argmax": gx.take_along_axis(x, gx.argmax(x, 1, keepdims=True), 1), "of a gather": gx.take_along_axis(gx.take_along_axis(x, wide, 1), gx.minimum(column, 2), 1),
        "spread": gx.take_along_axis(x, gx.reshape(gx.minimum(column[:1], 4), (1, 1)), 0), "computed": gx.take_along_axis(x, gx.minimum(wide * 2, 6), 1),
        "in a sum": gx.sum(x - gx.take_along_axis(x, column, 1), 1), "in a product": gx.take_along_axis(x, wide, 1).T @ gx.take_along_axis(x, column, 1),
    }  # fmt: skip
    check(cases, feeds)
    for name, value in (("column", 7), ("column", -8)):
        wrong = {node.name: array.copy() for node, array in feeds.items() if node in (x, column)}
        wrong[name][2, 0] = value
        function = gx.compile([x, column], cases["column"])
        with pytest.raises(IndexOutOfRangeError, match=str(value)):
            function(**wrong)


# --- contractions -------------------------------------------------------------------------------------
def test_matmul_of_all_ranks():
    rng = np.random.default_rng(6)
    shapes = [
        ((3,), (3,)), ((4, 3), (3,)), ((3,), (3, 5)), ((4, 3), (3, 5)), ((2, 4, 3), (2, 3, 5)), ((2, 4, 3), (3, 5)), ((4, 3), (2, 3, 5)), ((2, 1, 4, 3), (6, 3, 5)),
        ((1, 4, 3), (2, 3, 5)), ((1, 3), (3, 1)), ((4, 1), (1, 5)), ((1, 1), (1, 1)), ((17, 33), (33, 1)), ((1, 40), (40, 35)), ((64, 65), (65, 66)), ((33, 100), (100, 10)),
        ((2, 4, 3), (3,)), ((3,), (2, 3, 5)), ((5, 1, 3), (1, 3, 4)), ((4, 0), (0, 5)), ((0, 3), (3, 2)), ((130, 7), (7, 129)), ((3, 600), (600, 2)),
    ]  # fmt: skip
    cases, feeds = {}, {}
    for dtype, (a, b) in itertools.product(("float32", "float64"), shapes):
        left, right = gx.input(f"a{a}{dtype}", a, dtype), gx.input(f"b{b}{dtype}", b, dtype)
        for node in (left, right):
            feeds.setdefault(node, rng.normal(size=node.shape).astype(dtype))
        cases[f"{a} @ {b} {dtype}"] = left @ right
        if len(a) > 1 and len(b) > 1:
            turned = gx.transpose(left, (*range(len(a) - 2), len(a) - 1, len(a) - 2))
            other = gx.input(f"c{a}{dtype}", (*a[:-2], a[-2], 6), dtype)
            feeds[other] = rng.normal(size=other.shape).astype(dtype)
            cases[f"{a}.T @ c {dtype}"] = turned @ other
            cases[f"gram {a} {dtype}"] = gx.tanh(left) @ turned + 1
    check(cases, feeds)


def test_einsum_like_contractions():
    rng = np.random.default_rng(7)
    cases, feeds = {}, {}
    for number, (left, right, out) in enumerate(
        [("ijk", "kl", "ijl"), ("ijk", "jkl", "il"), ("ijk", "ijk", ""), ("ijk", "ijk", "j"), ("bij", "bjk", "bik"), ("bij", "bjk", "kib"), ("i", "j", "ij"), ("i", "j", "ji"), ("ij", "kj", "ik"),
         ("ij", "ki", "kj"), ("ij", "ik", "kj"), ("bhqd", "bhkd", "bhqk"), ("ijkl", "lk", "ji"), ("ab", "ab", "ab"), ("ab", "b", "a"), ("ab", "a", "ab"), ("", "ab", "ba"), ("abc", "bd", "acd"), ("abc", "cd", "dab")]
    ):  # fmt: skip
        extents = {letter: 2 + (7 * number + ord(letter)) % 6 for letter in left + right}
        a, b = (gx.input(f"{side}{number}", [extents[x] for x in letters], "float64") for side, letters in (("a", left), ("b", right)))
        feeds.update({node: rng.normal(size=node.shape) for node in (a, b)})
        labels = [[ord(letter) - 97 for letter in letters] for letters in (left, right, out)]
        cases[f"{left},{right}->{out}"] = y = st.contract(a, b, *labels)
        cases[f"gradient of {left},{right}->{out}"] = gx.grad(gx.sum(gx.square(y)), a)
    check(cases, feeds)


def test_chains_of_contractions():
    rng = np.random.default_rng(8)
    x, w, v = gx.input("x", (9, 12)), gx.input("w", (12, 12)), gx.input("v", (12,))
    h = gx.nn.relu(x @ w + v)
    cases = {
        "chain": ((x @ w) @ w.T) @ w, "quadratic form": v @ w @ v, "gram of gram": (x.T @ x) @ (x.T @ x), "outer": v[:, None] @ v[None], "softmax": gx.nn.softmax(x @ w) @ w,
        "shared": h @ w + h @ w.T, "attention": gx.nn.softmax((x @ w) @ (x @ w.T).T) @ x, "both sides": (x * v) @ (w + v[:, None]), "sliced": x[::2, ::-1] @ w[:, 1:4],
        "gradient": gx.grad(gx.sum(gx.tanh(h @ w)), w), "column sums": gx.sum(h, 0) @ w, "of a repeated row": gx.broadcast_to(v, (9, 12)) @ w, "columns that repeat": w @ gx.broadcast_to(v[:, None], (12, 5)),
        "both repeat": st.contract(gx.broadcast_to(v, (4, 12)), gx.broadcast_to(v, (3, 12)), (0, 1), (2, 1), (0, 2)),
    }  # fmt: skip
    check(cases, {node: rng.normal(size=node.shape).astype("f") / 2 for node in (x, w, v)})
