"""Running sums and products, the recurrence behind them, and the product: values, bits, gradients of any order."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from tests.oracles import assert_slopes

SHAPES = [(1,), (2,), (7,), (70,), (3, 5), (5, 1), (4, 3, 17), (2, 3, 4, 2, 3)]
DTYPES = ["float32", "float64", "int32", "int64"]


def sample(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype.startswith("int"):
        return rng.integers(-5, 6, shape).astype(dtype)
    return rng.uniform(-1.5, 1.5, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_numpys(dtype):
    """All shapes and axes share one function; sums and products in order give NumPy's bits."""
    inputs, outputs, wanted, given = [], {}, {}, {}
    for number, shape in enumerate(SHAPES):
        x = gx.input(f"x{number}", shape, dtype)
        inputs.append(x)
        given[x.name] = sample(shape, dtype, number)
        for axis in (None, *range(-1, len(shape))):
            for name in ("cumsum", "cumprod"):
                key = f"{name} {shape} {axis}"
                outputs[key] = getattr(gx, name)(x, axis)
                wanted[key] = getattr(np, name)(given[x.name], axis, dtype=dtype)
    got = gx.compile(inputs, outputs)(**given)
    for key, value in wanted.items():
        np.testing.assert_array_equal(np.asarray(got[key]), value, err_msg=key)
        assert np.asarray(got[key]).dtype == dtype
        evaluated = gx.evaluate(outputs[key], {x.name: given[x.name] for x in inputs if x.name in given})
        np.testing.assert_array_equal(evaluated, value, err_msg=key)


@pytest.mark.parametrize("dtype", DTYPES)
def test_prod(dtype):
    inputs, outputs, wanted, given = [], {}, {}, {}
    for number, shape in enumerate([*SHAPES, (), (0,), (3, 0)]):
        x = gx.input(f"x{number}", shape, dtype)
        inputs.append(x)
        given[x.name] = sample(shape, dtype, number)
        axes = [None, *range(len(shape)), *([(0, -1)] if len(shape) > 1 else [])]
        for axis in axes:
            for keepdims in (False, True):
                key = f"{shape} {axis} {keepdims}"
                outputs[key] = gx.prod(x, axis, keepdims=keepdims)
                wanted[key] = np.prod(given[x.name], axis, dtype=dtype, keepdims=keepdims)
    got = gx.compile(inputs, outputs)(**given)
    for key, value in wanted.items():
        tolerance = {"float32": 2e-5, "float64": 1e-13}.get(dtype, 0)
        np.testing.assert_allclose(np.asarray(got[key]), value, rtol=tolerance, err_msg=key)
        assert np.shape(got[key]) == value.shape


def test_zeros_of_either_sign_survive():
    x = gx.input("x", (4,))
    values = np.array([-0.0, 1.0, 2.0, -1.0], np.float32)
    got = gx.compile([x], gx.cumprod(x))(values)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(np.cumprod(values)))


@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_a_recurrence_is_a_loop(backend):
    a, b = gx.input("a", (3, 6, 2)), gx.input("b", (3, 6, 2))
    av, bv = sample((3, 6, 2), "float32", 1), sample((3, 6, 2), "float32", 2)
    wanted = bv.copy()
    for i in range(1, 6):
        wanted[:, i] = av[:, i] * wanted[:, i - 1] + bv[:, i]
    got = gx.compile([a, b], gx.recurrence(a, b, axis=1), backend=backend)(av, bv)
    np.testing.assert_array_equal(got, wanted)


FUNCTIONS = {
    "cumsum": lambda x: gx.cumsum(x, axis=1),
    "cumsum of a formula, turned": lambda x: gx.cumsum(gx.exp(x).T, axis=0),
    "cumprod": lambda x: gx.cumprod(x, axis=1),
    "cumprod along rows": lambda x: gx.cumprod(x, axis=0),
    "prod": lambda x: gx.prod(x, axis=1),
    "prod of all": lambda x: gx.prod(x),
    "recurrence": lambda x: gx.recurrence(gx.sin(x), x * x, axis=-1),
}


@pytest.mark.parametrize("zeros", [0, 1, 2])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_first_and_second_order(name, zeros):
    """Directional central differences in float64, compiled; zeros among the factors are where rules by division fail."""
    at, du, dv = (sample((3, 4), "float64", seed) for seed in (3, 4, 5))
    at[1, :zeros] = 0
    assert_slopes(FUNCTIONS[name], at, du, dv)


def test_same_bits_for_every_target():
    x = gx.input("x", (40, 33))
    values = sample((40, 33), "float32", 9)
    outputs = [gx.cumsum(x, axis=0), gx.cumprod(x * 0.5 + 1, axis=1), gx.prod(x + 1.2, axis=1), gx.prod(x + 1.2, axis=0)]
    results = [gx.compile([x], outputs, target=target)(values) for target in ("native", "generic")]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_does_not_fit_is_said():
    x = gx.input("x", (3, 4))
    with pytest.raises(gx.GraphcError, match="axis 2 is out of range"):
        gx.cumsum(x, axis=2)
    flags = gx.input("flags", (3,), "bool")
    assert gx.evaluate(gx.cumsum(flags), {"flags": [True, False, True]}).tolist() == [1, 1, 2]
