"""Nodes: shared, immutable, and no walk over them recurses."""

from __future__ import annotations

import copy
import gc

import numpy as np
import pytest

import graphc as gx
from graphc.ir import _interned, format_graph, toposort, verify
from graphc.passes.simplify import simplify


def test_common_subexpressions_are_one_node():
    x, y = gx.input("x"), gx.input("y")
    assert x * y + 1 is x * y + 1
    assert gx.input("x") is x
    assert gx.input("x", dtype="float64") is not x
    assert gx.constant(0.0) is not gx.constant(-0.0)
    assert gx.constant(float("nan")) is gx.constant(float("nan"))
    assert gx.parameter("p", 1.0) is not gx.parameter("p", 1.0)


def test_nodes_cannot_be_changed():
    x = gx.input("x")
    with pytest.raises(AttributeError, match="immutable"):
        x.op = None
    assert copy.copy(x) is copy.deepcopy(x) is x


def test_nothing_is_kept_alive():
    gc.collect()
    before = len(_interned)
    y = gx.tanh(gx.input("only_here", (3,)) * 17.25)
    assert len(_interned) > before
    del y
    gc.collect()
    assert len(_interned) == before


def test_a_chain_of_100_000_nodes():
    x = gx.input("x")
    y = x
    for k in range(50_000):
        y = gx.sin(y) if k % 2 else y * 1.0001 + 0.25
    gradient = gx.grad(y, x)
    assert len(toposort([y])) > 75_000
    assert len(toposort([gradient])) > 100_000
    assert format_graph([gradient]).count("\n") > 100_000
    assert copy.deepcopy(gradient) is gradient
    verify([gradient])
    simplify([gradient])
    value = gx.evaluate(y, {"x": 0.5})
    assert np.isfinite(value)
    del y, gradient
    gc.collect()


def test_numpy_functions_build_nodes():
    x = gx.input("x", (2, 3))
    assert np.tanh(x) is gx.tanh(x)
    assert np.sum(x, axis=1) is gx.sum(x, axis=1)
    assert np.float32(2) * x is x.__rmul__(np.float32(2))
    assert (np.ones(3) + x).shape == (2, 3)
    assert np.ones((4, 2)) @ x is gx.matmul(np.ones((4, 2)), x)


def test_promotion():
    f32, f64 = gx.input("a"), gx.input("b", dtype="float64")
    i32, i64 = gx.input("c", dtype="int32"), gx.input("d", dtype="int64")
    kinds = {
        "float64": f32 + f64, "float32": f32 + i64, "int64": i32 + i64, "int32": i32 + 1,
    }  # fmt: skip
    for kind, node in kinds.items():
        assert str(node.dtype) == kind
    assert str((i32 / i32).dtype) == str((i32 + 0.5).dtype) == "float32"
    assert str((f32 * np.float64(2)).dtype) == "float32"
    assert str(gx.argmax(gx.input("v", (3,))).dtype) == "int32"


def test_evaluated_is_kept():
    W = gx.parameter("W", [1.0, 2.0, 3.0])
    flipped = gx.flip(W)
    values = [gx.evaluate(W), *gx.evaluate([W, flipped, gx.broadcast_to(W, (2, 3))])]
    before = [value.copy() for value in values]
    W.value = [7, 8, 9]
    for value, was in zip(values, before, strict=True):
        np.testing.assert_array_equal(value, was)
        value[...] = 0  # their own: neither read-only nor one another's
    np.testing.assert_array_equal(W.value, [7, 8, 9])


@pytest.mark.filterwarnings("error")
def test_a_constant_too_large_for_its_dtype_is_infinite():
    x = gx.input("x", (3,))
    for node, want in (
        (gx.minimum(x, 1e300), [1, 2, 3]), (x * gx.constant(-1e300), [-np.inf] * 3), (x + np.array([1e300, 0, 1]), [np.inf, 2, 4]),
    ):  # fmt: skip
        for backend in ("native", "numpy"):
            np.testing.assert_array_equal(gx.compile([x], node, backend=backend)([1, 2, 3]), want)
