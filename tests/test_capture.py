"""gx.capture: functions written for arrays give as graphs what they give as functions."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.types import DTypeError, GraphError, NameClashError, ShapeError

rng = np.random.default_rng(0)


# --- functions of NumPy alone -----------------------------------------------------------------------------
def cross_entropy(X, W, b, labels):
    scores = X @ W + b
    scores = scores - scores.max(axis=1, keepdims=True)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return -np.mean(np.take_along_axis(log_p, labels[:, None], axis=1))


def two_layers(X, W1, b1, W2, b2):
    hidden = np.maximum(X @ W1 + b1, 0)
    return {"hidden": hidden, "scores": np.dot(hidden, W2) + b2}


def energies(mass, position, velocity):
    apart = position[:, None] - position[None]
    distance = np.sqrt(np.sum(apart**2, axis=-1) + np.eye(len(mass)))
    kinetic = 0.5 * np.einsum("i,ij,ij", mass, velocity, velocity)
    return kinetic, -np.sum(np.triu(np.outer(mass, mass) / distance, 1))


def standardized(x):
    x = np.asarray(x) if isinstance(x, list) else x
    return (x - np.mean(x, axis=0)) / np.std(x, axis=0, ddof=1)


def smoothed(signal, width=3):
    padded = np.pad(signal, width // 2, mode="reflect")
    return sum(padded[k : k + signal.shape[0]] for k in range(width)) / width


def runge_kutta(state, rate, step=0.1):
    slope = lambda s: np.stack([s[1], -rate * np.sin(s[0])])  # noqa: E731
    states = [state]
    for _ in range(5):
        k1 = slope(state)
        k2 = slope(state + step / 2 * k1)
        k3 = slope(state + step / 2 * k2)
        state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + slope(state + step * k3))
        states.append(state)
    return np.concatenate([s[None] for s in states], axis=0)


def shapes_only(x):
    rows, columns = np.shape(x)
    flat = np.reshape(x, (rows * columns,))
    return np.where(flat > 0, flat, 0).reshape(rows, columns).T.copy(), np.linalg.norm(x, axis=1), np.arange(rows) + x[:, 0]


def arc_length(x, y):
    return np.trapezoid(np.hypot(1.0, np.gradient(y, x)), x)


FUNCTIONS = {
    cross_entropy: [rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=3), np.array([0, 2, 1, 1, 0])],
    two_layers: [rng.normal(size=shape) for shape in [(5, 4), (4, 6), (6,), (6, 2), (2,)]],
    energies: [rng.uniform(1, 2, 4), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))],
    standardized: [rng.normal(size=(6, 3))],
    smoothed: [rng.normal(size=9)],
    runge_kutta: [np.array([1.0, 0.0]), np.array(2.0)],
    shapes_only: [rng.normal(size=(3, 4))],
    arc_length: [np.sort(rng.normal(size=9)), rng.normal(size=9)],
}


def flat(result):
    values = result.values() if isinstance(result, dict) else result if isinstance(result, list | tuple) else [result]
    return [np.asarray(value) for value in values]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_graph_gives_what_the_function_does(function):
    arrays = FUNCTIONS[function]
    captured = gx.capture(function, *arrays)
    want = function(*arrays)
    assert type(captured.outputs) is type(want) or not isinstance(want, list | tuple | dict)
    for backend in ("numpy", "native"):
        got = gx.compile(*captured, backend=backend)(*arrays)
        assert type(got) is type(want) or not isinstance(want, list | tuple | dict)
        for a, b in zip(flat(got), flat(want), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_its_gradients_are_graph_too():
    X, W, b, labels = FUNCTIONS[cross_entropy]
    inputs, loss = gx.capture(cross_entropy, X, W, b, labels)
    slope = gx.compile(inputs, gx.grad(loss, inputs[1]), backend="numpy")(X, W, b, labels)
    direction, h = rng.normal(size=W.shape), 1e-6
    ends = [cross_entropy(X, W + step * direction, b, labels) for step in (h, -h)]
    assert (slope * direction).sum() == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-7)


# --- specs and names --------------------------------------------------------------------------------------
def types(captured):
    return {node.name: str(node.type) for node in captured.inputs}


def test_specs():
    def f(a, b, c, d, e, g, h):
        return a

    u = gx.input("u", (7,), "int32")
    captured = gx.capture(f, (2, 3), ((4,), "float64"), np.zeros((2, 2)), u, (), 5, 2.5)
    assert types(captured) == {"a": "float32[2, 3]", "b": "float64[4]", "c": "float64[2, 2]", "u": "int32[7]", "e": "float32", "g": "float32[5]", "h": "float32"}
    assert captured.outputs is captured.inputs[0]
    for spec in [((3,), int), ((3,), np.int64), ((3,), np.dtype("int64")), ((3,), gx.types.INT64), np.zeros(3, int)]:
        assert types(gx.capture(lambda x: x, spec)) == {"x": "int64[3]"}
    assert types(gx.capture(lambda x: x, [3])) == {"x": "float32[3]"}
    assert types(gx.capture(lambda x: x, np.float64(1))) == {"x": "float64"}
    assert types(gx.capture(lambda x: x, True)) == {"x": "bool"}


def test_names():
    def f(a, *more, scale=2.0, shift):
        return a * scale + shift + sum(more)

    assert list(types(gx.capture(f, 3, 3, 3, shift=3))) == ["a", "more_0", "more_1", "shift"]
    assert list(types(gx.capture(f, 3, shift=3, scale=3))) == ["a", "shift", "scale"]
    (a, shift, scale), y = gx.capture(f, 3, shift=3, scale=3)
    assert y is a * scale + shift + 0
    assert gx.capture(np.exp, (3,)).outputs.op.name == "exp"


def test_nodes_as_specs():
    W = gx.parameter("W", np.ones((3, 2)))
    x = gx.input("x", (4, 3))
    captured = gx.capture(lambda X, W: X @ W, x, W)
    assert captured.inputs == [x]
    assert gx.compile(*captured, backend="numpy")(np.ones((4, 3))).tolist() == [[3, 3]] * 4
    assert gx.capture(lambda a, b: a + b, x, x).inputs == [x]
    assert gx.capture(lambda a: a + 1, x * 2).inputs == [x]


def test_what_it_returns():
    assert [node.op.name for node in gx.capture(lambda x: [x, 3.0, np.zeros(2)], 2).outputs] == ["input", "constant", "constant"]
    assert gx.compile(*gx.capture(lambda x: {"x": x, "two": 2}, ()), backend="numpy")(1) == {"x": 1, "two": 2}


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: gx.capture(lambda x, y: x, (3,)), GraphError, "a spec for each parameter.*missing a required argument: 'y'"),
        (lambda: gx.capture(lambda x: x, 3, 3), GraphError, "too many positional"),
        (lambda: gx.capture(lambda x: x, [0.5, 1.0]), ShapeError, "shape must be integers, got 0.5"),
        (lambda: gx.capture(lambda x: x, "float32"), DTypeError, "not supported"),
        (lambda: gx.capture(lambda x: x, ((3,), "complex64")), DTypeError, "complex64"),
        (lambda: gx.capture(lambda x: x, np.zeros(3, complex)), DTypeError, "complex128"),
        (lambda: gx.capture(lambda x: None, 3), GraphError, "must return a node or array.*got None"),
        (lambda: gx.capture(lambda x: [x, [x]], 3), GraphError, "must return a node or array"),
        (lambda: gx.capture(lambda x: x if x.sum() > 0 else -x, 3), GraphError, "no truth value"),
        (lambda: gx.capture(lambda a, b: a, gx.input("b"), ()), NameClashError, "'b' is the name of a parameter and of a node"),
    ],
)
def test_errors_name_what_was_wrong(build, error, words):
    with pytest.raises(error, match=words):
        build()
