"""Kernels that are alike are one function in C, and only those."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc as gx
from graphc.emit.alike import first_alike


def functions(f: gx.Function) -> list[str]:
    """The names of its kernels in C."""
    return re.findall(rf"static (?:void|int) ({f.name}_(?!once)\w+)\(", f.c_source)


def test_the_layers_of_a_deep_net_are_one_function():
    def step(depth):
        h = gx.input("X", (8, 16))
        for i in range(depth):
            W = gx.parameter(f"W{i}", gx.init.he_normal((16, 16), seed=i))
            h = gx.tanh(h @ W + gx.parameter(f"b{i}", np.zeros(16)))
        return gx.train_step(gx.mean(h * h), gx.optim.SGD(0.1), name="deep")

    deep, deeper = step(12), step(24)
    assert len(functions(deep)) == len(functions(deeper)) < 12
    assert len(deeper.kernels) == len(deep.kernels) + 48
    assert "Called 23 times" in deeper.c_source

    x = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    weights = [p.value.astype(np.float64) for p in deep.parameters.values()]
    loss, h = deep(X=x), x.astype(np.float64)
    for W, b in zip(weights[::2], weights[1::2], strict=True):
        h = np.tanh(h @ W + b)
    np.testing.assert_allclose(loss, np.mean(h * h), rtol=1e-4)


def test_what_differs_by_more_than_names_stays_apart():
    x, y = gx.input("x", (40, 30)), gx.input("y", (40, 30))
    tables = [gx.constant(np.arange(k, k + 30, dtype=np.float32)) for k in (0, 1)]
    rows = {
        "plus": gx.sum(x + y, 0), "minus": gx.sum(x - y, 1), "turned": gx.sum(y - x, 1), "half": gx.sum((x - y) * 0.5, 1),
        "root": gx.sum(gx.sqrt(gx.abs(x)), 1), "exp": gx.sum(gx.exp(gx.abs(x)), 1), "first": gx.sum(x * tables[0], 1),
        "second": gx.sum(y * tables[1], 1),
    }  # fmt: skip
    together = gx.compile([x, y], rows, name="all")
    assert len(together.kernels) == len(rows), "some are fused, so that nothing is compared"
    assert len(functions(together)) == len(rows) - 1, "y - x is x - y of other arrays, and nothing else is alike"
    for name, node in rows.items():  # one by one and all together
        one = gx.compile([x, y], node, name="one")
        given = {n: np.random.default_rng(1).normal(size=(40, 30)).astype(np.float32) for n in "xy"}
        np.testing.assert_array_equal(one(**given), together(**given)[name])


def test_words_that_are_no_variables_count():
    a = "/* one */ static void f(const float *restrict x, float *restrict y) { y[0] = sqrtf(x[0]); }"
    b = "/* two */ static void g(const float *restrict u, float *restrict v)\n{\n    v[0] = sqrtf(u[0]);\n}"
    variables = {"x", "y", "u", "v"}
    assert first_alike([("f", a), ("g", b)], variables) == [0, 0]
    for other in (b.replace("sqrtf", "fabsf"), b.replace("[0]", "[1]", 1), b.replace("u[0]", "v[0]"), b.replace("float", "double")):
        assert first_alike([("f", a), ("g", other)], variables) == [0, 1]
    assert first_alike([("f", a), ("g", b)], variables - {"u"}) == [0, 1]


@pytest.mark.parametrize("target", ["native", "generic"])
def test_a_kernel_is_passed_all_of_the_sums_that_it_opens(target):
    """Even where it reads nothing but the last of them."""
    x = gx.input("x", (7, 5), "float64")
    sums = gx.sum(x, axis=0)
    f = gx.compile([x], [sums, sums[3:] * 2], name="sums", target=target)
    assert len(f.kernels) == 1  # or nothing is tested
    given = np.random.default_rng(0).normal(size=(7, 5))
    for found, expected in zip(f(given), (given.sum(0), 2 * given.sum(0)[3:]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_steps_of_a_recurrence_are_one_function(axis):
    """Each reads its own part of the inputs, of a stacked parameter and of what it looks up."""

    def unrolled(steps):
        xs, ids = gx.input("xs", (steps, 4, 6) if axis == 0 else (4, steps, 6)), gx.input("ids", (steps,), dtype="int32")
        U, W, b = gx.parameter("U", gx.init.he_normal((6, 5), seed=0)), gx.parameter("W", np.eye(5)), gx.parameter("b", np.zeros((steps, 5)))
        table = gx.parameter("table", gx.init.he_normal((9, 5), seed=1))
        h = gx.constant(np.zeros((4, 5)))
        for t in range(steps):
            h = gx.tanh((xs[t] if axis == 0 else xs[:, t]) @ U + h @ W + b[t] + gx.take(table, ids[t], axis=0))
        return gx.compile([xs, ids], gx.sum(h * h), name="unrolled")

    short, long = unrolled(8), unrolled(16)
    assert len(functions(short)) == len(functions(long)) < 8
    assert len(long.kernels) >= len(short.kernels) + 16

    random = np.random.default_rng(0)
    x, ids = random.normal(size=(16, 4, 6)).astype(np.float32), random.integers(0, 9, 16).astype(np.int32)
    U, W, b, table = (long.parameters[name].value.astype(np.float64) for name in ("U", "W", "b", "table"))
    b[:] = long.parameters["b"].value[:] = random.normal(size=b.shape).astype(np.float32)
    h = np.zeros((4, 5))
    for t in range(16):
        h = np.tanh(x[t] @ U + h @ W + b[t] + table[ids[t]])
    found = long(xs=x if axis == 0 else x.swapaxes(0, 1).copy(), ids=ids)
    np.testing.assert_allclose(found, np.sum(h * h), rtol=1e-5)
    with pytest.raises(IndexError, match="ids"):
        long(xs=np.zeros((x if axis == 0 else x.swapaxes(0, 1)).shape, np.float32), ids=np.where(np.arange(16) == 11, 9, ids).astype(np.int32))
