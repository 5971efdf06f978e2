"""Pointwise functions that are composed of the operations: against NumPy's own, or the formula in higher precision."""

from __future__ import annotations

import math
import operator

import mpmath
import numpy as np
import pytest

import graphc as gx
from graphc.evaluate import evaluate
from graphc.types import DTypeError, GraphError

SPECIAL = np.array([0.0, -0.0, 1, -1, 0.5, -0.5, 2.5, 1.5, -2.5, 3, 100.25, -7.75, 1e-40, 1e30, -1e30, np.inf, -np.inf, np.nan] * 17)


def both(node, feeds):
    """The compiled value, which must be that of the NumPy backend but for a few roundings."""
    inputs = list(feeds)
    values = [np.asarray(feeds[x]).astype(str(x.dtype)) for x in inputs]
    got, want = (np.asarray(gx.compile(inputs, node, backend=b)(*values)) for b in ("native", "numpy"))
    assert got.shape == want.shape == node.shape
    np.testing.assert_allclose(got, want, rtol=1e-12 if node.dtype is gx.types.FLOAT64 else 2e-6, atol=1e-14)
    return got


def bits(a, b):
    """Equal to the bit, where one NaN is like another."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype
    same = (a == b) & (np.signbit(a) == np.signbit(b)) | (a != a) & (b != b) if a.dtype.kind == "f" else a == b
    assert same.all(), (a[~same], b[~same])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@np.errstate(all="ignore")
def test_exact_ones_are_numpys(dtype):
    x = gx.input("x", SPECIAL.shape, dtype)
    values = SPECIAL.astype(dtype)
    for build in (
        np.square, np.reciprocal, np.positive, np.signbit, np.nan_to_num, np.round, lambda a: np.nan_to_num(a, nan=2.0, posinf=7.0, neginf=-7.0),
        lambda a: np.clip(a, -1, 2), lambda a: np.clip(a, None, 2), lambda a: np.clip(a, -1, None), lambda a: np.clip(a, 2, -1), lambda a: np.clip(a, np.nan, 1),
        lambda a: np.clip(a, a, np.nan), lambda a: np.clip(a, a[::-1], a + 1),
    ):  # fmt: skip
        bits(both(build(x), {x: values}), build(values))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@np.errstate(all="ignore")
def test_a_power_of_a_half_is_the_root(dtype):
    x = gx.input("x", SPECIAL.shape, dtype)
    values = SPECIAL.astype(dtype)
    for half in (0.5, np.float32(0.5), np.float64(0.5)):
        bits(both(x**half, {x: values}), values**0.5)
    # As a tensor it stays C's pow in all elements, also where gcc would make a loop of it one of square roots.
    power = both(x ** gx.constant(np.full(values.shape, 0.5), dtype=dtype), {x: values})
    np.testing.assert_array_equal(power[np.isinf(values)], np.inf)
    assert not np.signbit(power[values == 0]).any()


def test_scales():
    x = gx.input("x", (50,), "float64")
    values = np.linspace(-400, 400, 50)
    for function in (np.deg2rad, np.rad2deg, np.radians, np.degrees):
        np.testing.assert_allclose(both(function(x), {x: values}), function(values), rtol=1e-15)
    np.testing.assert_allclose(both(np.logaddexp2(x, 3), {x: values}), np.logaddexp2(values, 3), rtol=1e-14)
    np.testing.assert_allclose(both(gx.rsqrt(gx.abs(x)), {x: values}), 1 / np.sqrt(np.abs(values)), rtol=1e-15)
    assert (gx.deg2rad(gx.input("n", (), "int32"))).dtype is gx.types.FLOAT32


@pytest.mark.parametrize("decimals", [0, 1, 3, -1, -2])
def test_round(decimals):
    rng = np.random.default_rng(0)
    for dtype in ("float64", "float32", "int32", "int64"):
        x = gx.input("x", (300,), dtype)
        values = (rng.integers(-4000, 4000, 300) / 8).astype(dtype)
        bits(both(gx.round(x, decimals), {x: values}), np.round(values, decimals))
    assert round(x).dtype is x.dtype
    assert round(x, 2) is gx.round(x, 2)
    with pytest.raises(GraphError, match=r"round takes a whole number of decimals, got 0\.5"):
        gx.round(x, 0.5)


def test_operators():
    rng = np.random.default_rng(1)
    for dtype in ("float32", "float64", "int32", "int64"):
        a, b = gx.input("a", (400,), dtype), gx.input("b", (400,), dtype)
        feeds = {a: rng.integers(-9, 9, 400).astype(dtype), b: rng.choice([-5, -2, -1, 1, 2, 7], 400).astype(dtype)}
        for op in (operator.mod, operator.floordiv):
            bits(both(op(a, b), feeds), op(feeds[a], feeds[b]))
            bits(both(op(a, 4), {a: feeds[a]}), op(feeds[a], np.dtype(dtype).type(4)))
            bits(both(op(17, b), {b: feeds[b]}), op(np.dtype(dtype).type(17), feeds[b]))
        for mine, theirs in zip(divmod(a, b), divmod(feeds[a], feeds[b]), strict=True):
            bits(both(mine, feeds), theirs)
        if dtype.startswith("int"):
            for op in (operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift):
                bits(both(op(a, b), feeds), op(feeds[a], feeds[b]))
                bits(both(op(12, b), {b: feeds[b]}), op(np.dtype(dtype).type(12), feeds[b]))
            bits(both(~a, {a: feeds[a]}), ~feeds[a])
    p, q = gx.input("p", (4,), "bool"), gx.input("q", (4,), "bool")
    truths = {p: np.array([True, True, False, False]), q: np.array([True, False, True, False])}
    for op in (operator.and_, operator.or_, operator.xor):
        bits(both(op(p, q), truths), op(truths[p], truths[q]))
    bits(both(~p, {p: truths[p]}), ~truths[p])
    with pytest.raises(DTypeError, match="bitwise_and takes ints or bools of one type, got float32"):
        gx.input("x") & gx.input("y")


def test_truth_of_numbers():
    x, n = gx.input("x", (306,)), gx.input("n", (306,), "int32")
    feeds = {x: SPECIAL.astype("float32"), n: np.resize([0, 3, -1], 306).astype("int32")}
    with np.errstate(all="ignore"):
        for function in (np.logical_and, np.logical_or, np.logical_xor):
            bits(both(function(x, n), feeds), function(feeds[x], feeds[n]))
        bits(both(np.logical_not(x), {x: feeds[x]}), np.logical_not(feeds[x]))
        bits(both(x.astype(bool), {x: feeds[x]}), feeds[x].astype(bool))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("to", "low", "high"), [("int32", -(2**31), 2**31 - 1), ("int64", -(2**63), 2**63 - 1)])
@np.errstate(all="ignore")
def test_float_to_int(dtype, to, low, high):
    """Towards zero, at the bounds and beyond; compared with Python's integers."""
    near = [np.nextafter(np.array(edge, dtype), np.array(side, dtype)) for edge in (-(2.0**31), 2.0**31, -(2.0**63), 2.0**63) for side in (-np.inf, np.inf, edge)]
    values = np.concatenate([SPECIAL.astype(dtype), near, np.array([0.999, -0.999, 2.0**31 - 1, 2.0**31 - 0.5, -(2.0**31) - 0.5, 1e9, -1e9], dtype)])
    x = gx.input("x", values.shape, dtype)
    exact = [0 if v != v else min(max(low, int(v) if math.isfinite(v) else (high if v > 0 else low)), high) for v in values.tolist()]
    assert both(x.astype(to), {x: values}).tolist() == exact
    assert evaluate(gx.constant(values, dtype).astype(to)).tolist() == exact


def test_lerp_meets_both_ends():
    a, b, t = (gx.input(name, (40,)) for name in "abt")
    rng = np.random.default_rng(2)
    feeds = {a: rng.normal(size=40) * 1e6, b: rng.normal(size=40), t: np.resize([0, 1, 0.25, 0.75], 40)}
    got = both(gx.lerp(a, b, t), feeds)
    assert (got[::4] == feeds[a].astype("f")[::4]).all()
    assert (got[1::4] == feeds[b].astype("f")[1::4]).all()
    exact = feeds[a] + feeds[t] * (feeds[b] - feeds[a])
    np.testing.assert_allclose(got, exact, rtol=1e-6, atol=0.1)
    assert gx.lerp(1, gx.input("n", (3,), "int32"), 0.5).dtype is gx.types.FLOAT32


def test_xlogy():
    x, y = gx.input("x", (), "float64"), gx.input("y", (), "float64")
    outputs = [gx.xlogy(x, y), *gx.grad(gx.xlogy(x, y), [x, y])]
    f = gx.compile([x, y], outputs)
    assert f(0, 0) == [0, 0, 0]
    assert f(0, -1) == [0, 0, 0]
    assert f(0, math.inf)[0] == 0
    assert f(0, 2) == [0, pytest.approx(math.log(2)), 0]
    assert f(3, 2) == [pytest.approx(3 * math.log(2)), pytest.approx(math.log(2)), 1.5]
    assert math.isnan(f(0, math.nan)[0])
    assert f(1, 0)[0] == -math.inf


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_sinc_and_its_derivatives(order):
    """Near 0, at whole numbers and far away: every derivative to twelve digits of its scale."""
    points = np.array([0, 1e-200, 1e-9, 1e-4, 0.01, 0.1, 0.31, 0.318, 0.319, 0.4, 0.5, 1, 1.5, 2, 7.25, 30.1])
    points = np.concatenate([points, -points])
    x = gx.input("x", points.shape, "float64")
    node = gx.sinc(x)
    for _ in range(order):
        node = gx.grad(gx.sum(node), x)
    with mpmath.workdps(60):
        exact = [float(mpmath.diff(mpmath.sincpi, p, order)) if order else float(mpmath.sincpi(p)) for p in points.tolist()]
    np.testing.assert_allclose(both(node, {x: points}), exact, rtol=0, atol=1e-12 * math.pi**order)


# --- which subgradient, where there are several -----------------------------------------------------------
KINKS = {
    "abs": (gx.abs, [(0, [0])]),
    "sign": (gx.sign, [(0, [0]), (2, [0])]),
    "relu": (gx.relu, [(0, [0])]),
    "square root": (gx.sqrt, [(0, [math.inf])]),
    "clip": (lambda x: gx.clip(x, -1, 2), [(-1, [1]), (2, [1]), (3, [0]), (-2, [0])]),
    "clip from below": (lambda x: gx.clip(x, 0), [(0, [1])]),
    "bounds of clip": (lambda x, a, b: gx.clip(x, a, b), [((1, 1, 2), [1, 0, 0]), ((0, 1, 2), [0, 1, 0]), ((3, 1, 2), [0, 0, 1]), ((0, 3, 2), [0, 0, 1])]),
    "maximum": (gx.maximum, [((1, 1), [0.5, 0.5])]),
    "minimum": (gx.minimum, [((1, 1), [0.5, 0.5])]),
    "fmax": (gx.fmax, [((1, 1), [1, 0]), ((1, math.nan), [1, 0]), ((math.nan, 1), [0, 1])]),
    "fmin": (gx.fmin, [((1, 1), [1, 0]), ((1, math.nan), [1, 0]), ((math.nan, 1), [0, 1])]),
    "copysign": (gx.copysign, [((0, -1), [0, 0]), ((2, -1), [-1, 0]), ((-2, -1), [1, 0]), ((2, -0.0), [-1, 0])]),
    "floor": (gx.floor, [(1, [0])]),
    "round": (gx.round, [(0.5, [0])]),
    "remainder": (gx.remainder, [((6, 3), [1, -2]), ((-1, 3), [1, 1])]),
    "fmod": (gx.fmod, [((6, 3), [1, -2]), ((-1, 3), [1, 0]), ((-7, 3), [1, 2])]),
    "nan_to_num": (gx.nan_to_num, [(math.nan, [0]), (math.inf, [0]), (2, [1])]),
    "sinc": (gx.sinc, [(0, [0])]),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_kinks(name):
    function, points = KINKS[name]
    for point, slopes in points:
        values = point if isinstance(point, tuple) else (point,)
        inputs = [gx.input(f"x{k}", (), "float64") for k in range(len(values))]
        found = gx.compile(inputs, gx.grad(function(*inputs), inputs))(*values)
        assert found == slopes, (point, found)


# --- the gamma function's derivatives ---------------------------------------------------------------------
@pytest.mark.parametrize("n", range(5))
def test_polygamma_of_either_sign(n):
    x = gx.input("x", (60,), "float64")
    values = np.concatenate([np.linspace(-6.3, -0.05, 30), np.geomspace(1e-3, 1e3, 30)])
    want = [float(mpmath.polygamma(n, v)) for v in values.tolist()]
    np.testing.assert_allclose(both(gx.polygamma(n, x), {x: values}), want, rtol=1e-13)
    slope = gx.grad(gx.sum(gx.polygamma(n, x)), x)
    np.testing.assert_allclose(both(slope, {x: values}), [float(mpmath.polygamma(n + 1, v)) for v in values.tolist()], rtol=1e-12)


def test_polygamma_says_what_it_takes():
    for n in (-1, 21, 1.0, True):
        with pytest.raises(GraphError, match="whole number from 0 to 20"):
            gx.polygamma(n, 1.0)


def test_lgamma_far_below_zero_and_at_its_poles():
    x = gx.input("x", (5,), "float64")
    values = np.array([-1e-300, -170.5, -1e10 - 0.5, -3.0, -1e300])
    want = [float(mpmath.loggamma(v).real) if v % 1 or v > -1 else np.inf for v in values.tolist()]
    np.testing.assert_allclose(both(gx.lgamma(x), {x: values}), want, rtol=1e-14)


@pytest.mark.peers
def test_operations_and_their_gradients_against_pytorch():
    import torch

    domains = {
        "exp2": (-3, 3), "log2": (0.1, 4), "log10": (0.1, 4), "tan": (-1.4, 1.4), "arcsin": (-0.9, 0.9), "arccos": (-0.9, 0.9), "arctan": (-4, 4),
        "sinh": (-3, 3), "cosh": (-3, 3), "arcsinh": (-4, 4), "arccosh": (1.1, 5), "arctanh": (-0.9, 0.9), "erf": (-3, 3), "erfc": (-3, 6),
        "lgamma": (0.1, 9), "digamma": (0.1, 9), "sinc": (-3, 3), "arctan2": (-3, 3), "hypot": (-3, 3),
    }  # fmt: skip
    for name, (low, high) in domains.items():
        binary = name in ("arctan2", "hypot")
        values = [np.linspace(low, high, 41), np.linspace(high, low + 0.3, 41)][: 1 + binary]
        inputs = [gx.input(f"x{k}", (41,), "float64") for k in range(len(values))]
        node = getattr(gx, name)(*inputs)
        found = gx.compile(inputs, [node, *gx.grad(gx.sum(node * node), inputs)])(*values)
        tensors = [torch.tensor(v, requires_grad=True) for v in values]
        peer = getattr(torch, name)(*tensors)
        (peer * peer).sum().backward()
        for got, want in zip(found, [peer.detach(), *(t.grad for t in tensors)], strict=True):
            rtol = 1e-8 if name == "digamma" else 1e-11  # PyTorch's trigamma has nine digits
            np.testing.assert_allclose(got, want.numpy(), rtol=rtol, atol=1e-12, err_msg=name)
    for n in range(1, 4):
        x, values = gx.input("x", (30,), "float64"), np.geomspace(0.05, 50, 30)
        want = torch.polygamma(n, torch.tensor(values)).numpy()
        np.testing.assert_allclose(both(gx.polygamma(n, x), {x: values}), want, rtol=1e-8 if n == 1 else 1e-11)
