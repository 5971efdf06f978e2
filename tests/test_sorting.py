"""Sort, argsort and the quantiles: values against NumPy, stability, what comes last, gradients of any order."""

from __future__ import annotations

import os

import numpy as np
import pytest

import graphc as gx
from graphc.toolchain import find_compiler
from tests.oracles import assert_slopes

DTYPES = ["float32", "float64", "int32", "int64"]
SHAPES = [(1,), (2,), (64,), (65,), (300,), (3, 7), (5, 1), (2, 70, 3), (0,), (3, 0), (0, 4), (2, 3, 1, 2, 3)]


def sample(shape, dtype, seed=0):
    """Few values, so that many are equal; for floats both zeros, both infinities and NaN of both signs among them."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-300, 300, shape)
    if dtype.startswith("int"):
        info = np.iinfo(dtype)
        return np.where(rng.random(shape) < 0.1, rng.choice([info.min, info.max], shape), values).astype(dtype)
    special = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-40, -1e-40], shape)
    return np.where(rng.random(shape) < 0.3, special, values / 8).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_order_is_numpys_and_stable(dtype):
    inputs, outputs, given = [], {}, {}
    for number, shape in enumerate(SHAPES):
        x = gx.input(f"x{number}", shape, dtype)
        inputs.append(x)
        given[x.name] = sample(shape, dtype, number)
        for axis in (None, *range(-1, len(shape))):
            outputs[f"sort {x.name} {axis}"] = gx.sort(x, axis)
            outputs[f"argsort {x.name} {axis}"] = gx.argsort(x, axis)
    got = gx.compile(inputs, outputs)(**given)
    for key, node in outputs.items():
        name, source, axis = key.split()
        axis = None if axis == "None" else int(axis)
        order = np.argsort(given[source], axis, kind="stable")
        if name == "argsort":
            np.testing.assert_array_equal(got[key], order, err_msg=key)
            assert got[key].dtype == np.int32
        else:
            flat = given[source].reshape(-1) if axis is None else given[source]
            wanted = np.take_along_axis(flat, order, 0 if axis is None else axis)
            np.testing.assert_array_equal(got[key], np.sort(given[source], axis), err_msg=key)
            assert got[key].tobytes() == wanted.tobytes(), f"{key}: equal elements must stay in order, to the sign of a zero"
        np.testing.assert_array_equal(gx.evaluate(node, {source: given[source]}), got[key], err_msg=key)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_long_rows(dtype):
    """Every digit takes part, and the number of passes is odd and even."""
    rng = np.random.default_rng(1)
    wide = rng.normal(size=5000) * 10.0 ** rng.integers(-30, 18, 5000)
    cases = [wide, rng.integers(0, 256, 5000), rng.integers(0, 70000, 5000), np.full(5000, 3), np.arange(5000)[::-1] * 3]
    x = gx.input("x", (len(cases), 5000), dtype)
    values = np.stack([np.asarray(case).astype(dtype) for case in cases])
    got, order = gx.compile([x], [gx.sort(x), gx.argsort(x)])(values)
    np.testing.assert_array_equal(got, np.sort(values))
    np.testing.assert_array_equal(order, np.argsort(values, kind="stable"))


def test_threads_share_the_rows():
    x = gx.input("x", (1001, 90))
    values = sample((1001, 90), "float32")
    one, two = (gx.compile([x], [gx.sort(x), gx.argsort(x)], threads=threads) for threads in (1, 2))
    for found, other in zip(one(values), two(values), strict=True):
        assert found.tobytes() == other.tobytes()
    np.testing.assert_array_equal(two(values)[0], np.sort(values))
    if find_compiler().openmp is not None and (os.cpu_count() or 1) > 1:
        assert all(kernel.threaded for kernel in two.kernels)


def test_truth_values_and_formulas():
    """What is no array in memory is made one; an index from argsort is known to be in range."""
    t, x = gx.input("t", (9,), "bool"), gx.input("x", (4, 60))
    tv, xv = np.arange(9) % 3 == 1, sample((4, 60), "float64", 3).astype("float32").clip(-9, 9)
    outputs = [gx.sort(t), gx.argsort(t), gx.sort(gx.exp(-x).T, axis=0)[::-1], gx.take_along_axis(x * 2, gx.argsort(x), -1)]
    function = gx.compile([t, x], outputs)
    got = function(tv, xv)
    np.testing.assert_array_equal(got[0], np.sort(tv))
    np.testing.assert_array_equal(got[1], np.argsort(tv, kind="stable"))
    np.testing.assert_allclose(got[2], np.sort(np.exp(-xv).T, axis=0)[::-1], rtol=1e-5)
    np.testing.assert_array_equal(got[3], np.sort(xv) * 2)
    assert not [kernel for kernel in function.kernels if kernel.kind == "check"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_quantiles(dtype):
    inputs, outputs, wanted, given = [], {}, {}, {}
    for number, shape in enumerate([(1,), (2,), (7,), (60,), (4, 5), (3, 4, 6)]):
        x = gx.input(f"x{number}", shape, dtype)
        inputs.append(x)
        rng = np.random.default_rng(number)
        given[x.name] = v = (rng.normal(size=shape) * 100).astype(dtype)
        for axis in (None, *range(len(shape)), *([(0, -1)] if len(shape) > 1 else [])):
            for keepdims in (False, True):
                key = f"{shape} {axis} {keepdims}"
                outputs["median " + key] = gx.median(x, axis, keepdims=keepdims)
                wanted["median " + key] = np.median(v, axis, keepdims=keepdims)
                for q in (0, 1, 0.3, [0.9, 0.5], [[0.2], [0.75]], []):
                    outputs[f"quantile {key} {q}"] = gx.quantile(x, q, axis, keepdims=keepdims)
                    wanted[f"quantile {key} {q}"] = np.quantile(v, q, axis, keepdims=keepdims)
        outputs[f"percentile {shape}"] = gx.percentile(x, [5, 50])
        wanted[f"percentile {shape}"] = np.percentile(v, [5, 50])
    got = gx.compile(inputs, outputs)(**given)
    for key, value in wanted.items():
        assert np.shape(got[key]) == np.shape(value), key
        np.testing.assert_allclose(got[key], value, rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-5, err_msg=key)


def test_a_quantile_of_nan_is_nan():
    x = gx.input("x", (3, 4))
    v = np.array([[1, np.nan, 2, 3], [np.inf, np.inf, 0, 1], [np.inf, np.inf, np.inf, -np.inf]], np.float32)
    got = gx.compile([x], [gx.median(x, 1), gx.quantile(x, 0.0, 1)])(v)
    np.testing.assert_array_equal(got[0], np.median(v, 1))
    np.testing.assert_array_equal(got[1], [np.nan, 0, -np.inf])


FUNCTIONS = {
    "sort": lambda x: gx.sort(x),
    "sort of a formula, along rows": lambda x: gx.sort(gx.sin(x) * x, axis=0),
    "sort of all": lambda x: gx.sort(x, None),
    "median": lambda x: gx.median(x, 1),
    "quantile": lambda x: gx.quantile(gx.exp(x), [0.2, 0.9], 0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_first_and_second_order(name):
    rng = np.random.default_rng(2)
    assert_slopes(FUNCTIONS[name], *(rng.uniform(-1.5, 1.5, (3, 5)) for _ in range(3)))


def test_among_equals_the_first_in_x_is_the_first_in_the_result():
    x = gx.input("x", (5,))
    slope = gx.grad(gx.sum(gx.sort(x) * gx.constant([1.0, 2, 3, 4, 5])), x)
    assert gx.compile([x], slope)(np.array([7, 1, 7, 1, 7], np.float32)).tolist() == [3, 1, 4, 2, 5]


def test_numpys_functions_build_nodes():
    x = gx.input("x", (3, 4))
    assert np.sort(x, axis=0) is gx.sort(x, 0)
    assert np.argsort(x) is x.argsort() is gx.argsort(x)
    assert np.median(x, axis=1) is gx.median(x, 1)
    assert np.quantile(x, 0.5) is gx.quantile(x, 0.5)


def test_what_does_not_fit_is_said():
    x = gx.input("x", (3, 4))
    with pytest.raises(gx.GraphcError, match="axis 2 is out of range"):
        gx.sort(x, 2)
    with pytest.raises(gx.GraphcError, match="a scalar"):
        gx.sort(gx.input("s"))
    with pytest.raises(gx.GraphcError, match="0 to 1"):
        gx.quantile(x, 50)
    with pytest.raises(gx.GraphcError, match="'linear' alone"):
        gx.quantile(x, 0.5, method="nearest")
    with pytest.raises(gx.GraphcError, match="known while the graph is built"):
        gx.quantile(x, gx.input("q"))
    with pytest.raises(gx.GraphcError, match="no order of fields"):
        gx.sort(x, order="name")
    with pytest.raises(gx.GraphcError, match="no elements"):
        gx.median(gx.input("none", (3, 0)), 1)


@pytest.mark.peers
def test_peers():
    """Values and gradients of torch, over rows without equal elements."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    values = rng.permutation(4 * 61).reshape(4, 61).astype("float64") / 7
    weights = rng.normal(size=(4, 61))
    x = gx.input("x", (4, 61), "float64")
    y = gx.sort(x)
    tx = torch.tensor(values, requires_grad=True)
    ty, torder = torch.sort(tx, stable=True)
    (ty * torch.tensor(weights)).sum().backward()
    got = gx.compile([x], [y, gx.argsort(x), gx.grad(gx.sum(y * weights), x)])(values)
    for mine, theirs in zip(got, (ty.detach(), torder, tx.grad), strict=True):
        np.testing.assert_array_equal(mine, theirs.numpy())
