"""Indexing by arrays against NumPy: known indices and such that come with each call, values, gradients, errors."""

from __future__ import annotations

import os
import re
from random import Random

import hypothesis
import numpy as np
import pytest

import graphc as gx
from graphc.evaluate import evaluate_all
from graphc.ir import Node
from graphc.types import DTypeError, GraphError, IndexOutOfRangeError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6, 5))
A, B, C = np.array([3, 0, -1, 0]), np.array([[2, -6], [5, 0], [-1, 2]]), np.array([-2, 4, 1, 1])
MASK = RNG.random((4, 6)) < 0.5


class Arrays:
    """Makes the arrays of a key: themselves, or inputs of two dtypes by turns."""

    def __init__(self, known):
        self.known, self.feeds = known, {}

    def __call__(self, array):
        array = np.asarray(array)
        if self.known:
            return array
        dtype = "int64" if len(self.feeds) % 2 else "int32"
        node = gx.input(f"i{len(self.feeds)}", array.shape, dtype)
        self.feeds[node] = array.astype(dtype)
        return node


KEYS = {
    "rows": lambda a: a(A),
    "rows of a matrix of indices": lambda a: a(B % 4),
    "one": lambda a: a(-2),
    "one row": lambda a: a([2]),
    "columns": lambda a: (slice(None), a(B)),
    "last": lambda a: (..., a(C)),
    "last of one": lambda a: (..., a(-1)),
    "pairs": lambda a: (a(A), a([1, -2, 3, 0])),
    "pairs that broadcast": lambda a: (a(A[:, None]), a(B[:, 0])),
    "pairs apart": lambda a: (a(A), slice(None), a(C)),
    "pairs at the end": lambda a: (slice(1, None, 2), a(A), a(C)),
    "pairs around a new axis": lambda a: (a(A), None, a(A)),
    "pairs around dots": lambda a: (a(A), ..., a(C)),
    "three": lambda a: (a(A), a(-A), a(C)),
    "three around empty dots": lambda a: (a(A), ..., a(A), a(C)),
    "an int beside": lambda a: (1, a(A)),
    "an int apart": lambda a: (1, slice(None), a(C)),
    "an int behind": lambda a: (slice(None), a(A), -1),
    "an int and new axes": lambda a: (None, 2, None, a(A), slice(3, 0, -1), None),
    "one and slices": lambda a: (slice(None), a(3), slice(None, None, 2)),
    "steps": lambda a: (slice(None, None, -1), slice(4, 0, -2), a(A)),
    "none of them": lambda a: a(np.zeros((0, 2), int)),
    "of an empty slice": lambda a: (slice(2, 2), a(A)),
    "a mask beside": lambda a: (MASK[:, 0], a(np.arange(MASK[:, 0].sum()))),
    "a mask apart": lambda a: (a([1]), slice(None), np.array([True, False, False, True, False])),
}
KNOWN = {
    "a list": lambda a: [1, 2, -1],
    "lists": lambda a: ([[1], [2]], [0, 4]),
    "an empty list": lambda a: [],
    "a mask": lambda a: MASK,
    "a mask of all": lambda a: X > 0,
    "a mask of rows": lambda a: [True, False, True, True],
    "a mask behind dots": lambda a: (..., np.arange(5) % 2 == 0),
    "a mask behind a slice": lambda a: (slice(None), np.arange(30).reshape(6, 5) % 4 == 0),
    "an empty mask": lambda a: np.zeros(4, bool),
    "as far apart, one the same": lambda a: (np.array([3, 2, 1]), [2, 2, 2]),
    "a range": lambda a: (slice(None), np.arange(5, -1, -2)),
    "a constant node": lambda a: gx.constant(A),
    "uint8": lambda a: np.array([1, 3], np.uint8),
}  # fmt: skip


def plain(key, feeds):
    """The key with the arrays in place of the nodes."""
    if isinstance(key, tuple):
        return tuple(plain(item, feeds) for item in key)
    if isinstance(key, Node):
        return feeds[key] if key in feeds else gx.evaluate(key)
    return key


def cases(known):
    arrays = Arrays(known)
    for name, key in {**KEYS, **(KNOWN if known else {})}.items():
        yield name, key(arrays), arrays.feeds


@pytest.mark.parametrize("known", [True, False])
def test_keys_pick_what_numpys_pick(known):
    x = gx.input("x", X.shape, "float64")
    nodes, wanted, feeds = {}, {}, {x: X}
    for name, key, given in cases(known):
        wanted[name] = X[plain(key, given)]
        nodes[name], nodes[f"{name}, of a formula"] = x[key], (gx.transpose(x) * 2).T[key]
        wanted[f"{name}, of a formula"] = wanted[name] * 2
        feeds.update(given)
    got = gx.compile(list(feeds), nodes)(**{node.name: value for node, value in feeds.items()})
    for (name, value), evaluated in zip(wanted.items(), evaluate_all(list(nodes.values()), feeds), strict=True):
        np.testing.assert_array_equal(evaluated, value, err_msg=name)
        np.testing.assert_array_equal(np.asarray(got[name]), value, err_msg=name)
        assert np.shape(got[name]) == value.shape == nodes[name].shape, name


@pytest.mark.parametrize("known", [True, False])
def test_gradients_of_first_and_second_order(known):
    """Of the sum of the squares of what is picked: each element counts as often as it is picked."""
    x = gx.input("x", X.shape, "float64")
    nodes, wanted, feeds = {}, {}, {x: X}
    for name, key, given in cases(known):
        picks, times = plain(key, given), np.zeros(X.shape)
        np.add.at(times, picks, 1)
        first = gx.grad(gx.sum(x[key] ** 3), x)
        nodes[name], nodes[f"{name}, second order"] = first, gx.grad(gx.sum(first * first), x)
        wanted[name], wanted[f"{name}, second order"] = 3 * times * X**2, 36 * times**2 * X**3
        feeds.update(given)
    got = gx.compile(list(feeds), nodes)(**{node.name: value for node, value in feeds.items()})
    for (name, value), evaluated in zip(wanted.items(), evaluate_all(list(nodes.values()), feeds), strict=True):
        np.testing.assert_allclose(evaluated, value, rtol=1e-12, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(np.asarray(got[name]), value, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "bool"])
def test_functions_pick_what_numpys_pick(dtype):
    values = (X * 4).astype(dtype)
    x, i, j = gx.input("x", X.shape, dtype), gx.input("i", B.shape, "int32"), gx.input("j", (4, 2, 5), "int64")
    along, flat = RNG.integers(-6, 6, (4, 2, 5)), B * 7
    feeds = {x: values, i: B, j: along}
    numbers = [values[0], values[1] if dtype == "bool" else values[1] + 1, values[2]]
    nodes = {
        "take": gx.take(x, i, axis=1), "take flat": gx.take(x, i), "take known": x.take(flat), "take one": gx.take(x, -3, 2), "take a list": np.take(x, [2, -1], 0),
        "take none": gx.take(x, [], 1), "along": gx.take_along_axis(x, j, 1), "along known": gx.take_along_axis(x, along, 1), "along, spread": gx.take_along_axis(x, along[:1], 1),
        "along flat": gx.take_along_axis(x, flat.ravel(), None), "along a row": gx.take_along_axis(x[:1], j, 1),
        "choose": gx.choose(i % 3, [numbers[0][:3, :2], numbers[1][:3, :2], x[2, :3, :2]]), "choose known": gx.choose(B % 2, [x[0, 0, 0], True]),
        "select": gx.select([x[0] > 1, x[1] > 0], [x[0], x[1]], x[2]), "select default": gx.select([x > 0], [x], values.dtype.type(0).item()),
        "one hot": gx.nn.one_hot(i, 3, dtype), "one hot known": gx.one_hot(B, 3, dtype),
    }  # fmt: skip
    hot = (B[..., None] == np.arange(3)).astype(dtype)
    wanted = {
        "take": np.take(values, B, axis=1), "take flat": np.take(values, B), "take known": np.take(values, flat), "take one": np.take(values, -3, 2), "take a list": np.take(values, [2, -1], 0),
        "take none": values[:, []], "along": np.take_along_axis(values, along, 1), "along known": np.take_along_axis(values, along, 1), "along, spread": np.take_along_axis(values, along[:1], 1),
        "along flat": np.take_along_axis(values, flat.ravel(), None), "along a row": np.take_along_axis(values[:1], along, 1),
        "choose": np.choose(B % 3, [v[:3, :2] for v in numbers]), "choose known": np.choose(B % 2, [values[0, 0, 0], np.array(True).astype(dtype)]),
        "select": np.select([values[0] > 1, values[1] > 0], [values[0], values[1]], values[2]), "select default": np.where(values > 0, values, np.zeros((), dtype)),
        "one hot": hot, "one hot known": hot,
    }  # fmt: skip
    got = gx.compile([x, i, j], nodes)(values, B, along)
    for name, value in wanted.items():
        np.testing.assert_array_equal(np.asarray(got[name]), value, err_msg=name)
        assert nodes[name].dtype.value == str(value.dtype), name
        np.testing.assert_array_equal(gx.evaluate(nodes[name], feeds), value, err_msg=name)


# --- what is wrong ------------------------------------------------------------------------------------------
ERRORS = {
    "too many": (lambda x: x[[0], 0, 0, [1]], ShapeError, "too many indices for shape"),
    "two dots": (lambda x: x[..., [0], ...], ShapeError, "too many indices for shape"),
    "out of range": (lambda x: x[:, [0, 6]], IndexOutOfRangeError, r"index for axis 1 of <x.*>\[1\] is 6, expected -6 <= index < 6"),
    "below": (lambda x: x[[[0], [-5]]], IndexOutOfRangeError, r"\[1, 0\] is -5, expected -4 <= index < 4"),
    "an int beside": (lambda x: x[4, [0]], IndexOutOfRangeError, "axis 0"),
    "of nothing": (lambda x: x[:, :0, [0]][:, [0]], IndexOutOfRangeError, "axis 1"),
    "floats": (lambda x: x[[0.0, 1.0]], DTypeError, "must be integers, got dtype float64"),
    "a float": (lambda x: x[1.0], GraphError, "only integers"),
    "a float node": (lambda x: x[x[0, 0, 0]], DTypeError, "must be integers, got <.*astype"),
    "a mask node": (lambda x: x[x > 0], GraphError, "graphc.where"),
    "a mask that does not fit": (lambda x: x[:, np.ones(4, bool)], ShapeError, r"mask of shape \(4,\) does not fit axes of shape \(6,\)"),
    "True": (lambda x: x[True], GraphError, "graphc.where"),
    "text": (lambda x: x["a"], GraphError, "cannot index"),
    "shapes that do not broadcast": (lambda x: x[[0, 1], [0, 1, 2]], ShapeError, "do not broadcast"),
    "take, mode": (lambda x: gx.take(x, [0], 0, mode="clip"), GraphError, "graphc.clip"),
    "take, out of range": (lambda x: gx.take(x, [4], 0), IndexOutOfRangeError, "take: index for axis 0"),
    "take, floats": (lambda x: gx.take(x, [0.5], 0), DTypeError, "take: indices must be integers"),
    "take_along_axis, rank": (lambda x: gx.take_along_axis(x, [0], 0), ShapeError, "needs indices with 3 axes"),
    "choose, negative": (lambda x: gx.choose([0, -1], [x[0, 0, 0], 1]), IndexOutOfRangeError, "expected 0 <= index < 2"),
    "select, number": (lambda x: gx.select([x > 0], [x, x]), ShapeError, "as many conditions as choices"),
    "one_hot, floats": (lambda x: gx.one_hot(x, 3), DTypeError, "one_hot: labels must be integers"),
    "labels of a loss": (lambda x: gx.nn.nll(x, np.full((4, 6), 5)), IndexOutOfRangeError, "nll: labels.* is 5, expected 0 <= index < 5"),
    "rows of a table": (lambda x: gx.nn.embedding([0, -1], x), IndexOutOfRangeError, "embedding: indices.* is -1, expected 0 <= index < 4"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_wrong_is_said_when_the_graph_is_built(name):
    build, error, match = ERRORS[name]
    with pytest.raises(error, match=match):
        build(gx.input("x", X.shape))


@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_an_index_out_of_range_fails_the_call_and_changes_nothing(backend):
    w = gx.parameter("w", X, "float64")
    i, j = gx.input("i", (3,), "int32"), gx.input("j", (3,), "int64")
    f = gx.compile([i, j], [w[i, :, j], w[0, j % 9]], {w: w + 1}, backend=backend)
    f([0, -4, 3], [-5, 4, 2])
    before = w.value.copy()
    for given, match in [(([0, 4, 0], [0, 0, 0]), r"i\[1\] is 4, expected -4 <= index < 4"), (([0, 0, 0], [0, 0, -6]), r"j\[2\] is -6, expected -5 <= index < 5"), (([0, 0, 0], [0, 0, 7]), "expected -")]:
        with pytest.raises(IndexOutOfRangeError, match=match):
            f(*given)
    np.testing.assert_array_equal(w.value, before)
    g = gx.compile([j], w[0, j % 9], {w: w + 1}, backend=backend)
    with pytest.raises(IndexOutOfRangeError, match="an index .* is out of range, expected -6 <= index < 6"):
        g([8, 0, 0])
    np.testing.assert_array_equal(w.value, before)


# --- what the gradient costs ---------------------------------------------------------------------------------
def test_the_gradient_of_a_table_costs_what_is_picked():
    """4096 of 50,000 rows: a comparison of each row with each index would take 13 billion operations."""
    w, i = gx.parameter("w", np.ones((50_000, 64))), gx.input("i", (4096,), "int32")
    step = gx.train_step(gx.sum(gx.square(gx.nn.embedding(i, w))), gx.optim.SGD(learning_rate=0.25), name="rows")
    assert sum(kernel.flops for kernel in step.kernels) < 20e6
    picks = np.random.default_rng(1).integers(0, 50_000, 4096).astype("int32")
    step(i=picks)
    np.testing.assert_array_equal(w.value[:, 0], 1 - 0.5 * np.bincount(picks, minlength=50_000).astype("f"))


def test_the_gradient_of_known_indices_fuses():
    """Through the inverse table it is a choice, with no memory and no kernel of its own."""
    x = gx.input("x", (6, 50))
    g = gx.grad(gx.sum(gx.exp(x[[4, 0, 1, 2]])), x)
    f = gx.compile([x], gx.tanh(g) * 2, name="fused")
    assert [kernel.kind for kernel in f.kernels] == ["loops"]
    v = RNG.normal(size=(6, 50))
    np.testing.assert_allclose(f(v), np.tanh(np.exp(v) * np.isin(np.arange(6), [4, 0, 1, 2])[:, None]) * 2, rtol=1e-5)


def test_jacobians_go_through_gather_and_scatter():
    x, i = gx.input("x", (40, 3), "float64"), gx.input("i", (7,), "int32")
    picks, values = np.array([3, -1, 3, 0, 39, 7, 8]), RNG.normal(size=(40, 3))
    y = gx.sum(x[i] ** 3)
    rows = gx.compile([x, i], [gx.hessian(y, x), gx.jacobian(x[i] ** 2, x)])
    hessian, jacobian = rows(values, picks)
    times = np.bincount(picks % 40, minlength=40)[:, None]
    np.testing.assert_allclose(hessian.reshape(120, 120), np.diag((6 * times * values).ravel()), rtol=1e-12)
    wanted = np.zeros((7, 3, 40, 3))
    for p, k in np.ndindex(7, 3):
        wanted[p, k, picks[p], k] = 2 * values[picks[p], k]
    np.testing.assert_allclose(jacobian, wanted, rtol=1e-12)


def test_same_bits_for_every_target_and_every_time():
    x, i = gx.input("x", (50, 33)), gx.input("i", (4000,), "int32")
    g = gx.grad(gx.sum(gx.sin(x[i]) * gx.cos(x[i[::-1]])), x)
    values, picks = RNG.normal(size=(50, 33)).astype("f"), RNG.integers(-50, 50, 4000)
    f = gx.compile([x, i], g)
    one = f(values, picks)
    np.testing.assert_array_equal(one, f(values, picks))
    np.testing.assert_array_equal(one, gx.compile([x, i], g, target="generic")(values, picks))


# --- some elements changed ------------------------------------------------------------------------------------
SLICES = {
    "an int": lambda a: 1,
    "ints": lambda a: (1, -2, 3),
    "a slice": lambda a: (slice(None), slice(1, 4)),
    "steps back": lambda a: (slice(None, None, -2), ..., slice(4, 0, -3)),
    "everything": lambda a: ...,
    "everything backwards": lambda a: (..., slice(None, None, -1)),
    "new axes": lambda a: (None, 2, ..., None),
    "an empty slice": lambda a: slice(2, 2),
}
METHODS = {
    "set": lambda y, key, v: y.__setitem__(key, v),
    "add": lambda y, key, v: np.add.at(y, key, v),
    "subtract": lambda y, key, v: np.subtract.at(y, key, v),
    "multiply": lambda y, key, v: np.multiply.at(y, key, v),
    "max": lambda y, key, v: np.maximum.at(y, key, v),
    "min": lambda y, key, v: np.minimum.at(y, key, v),
}


def changes(known):
    arrays = Arrays(known)
    for name, key in {**SLICES, **KEYS, **(KNOWN if known else {})}.items():
        yield name, key(arrays), arrays.feeds


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("known", [True, False])
def test_at_changes_what_numpy_changes(known, method, dtype):
    """To the bit, also where several updates meet: they take effect in order."""
    x, v = gx.input("x", X.shape, dtype), gx.input("v", (400,), dtype)
    old, new = (X * 10).astype(dtype), (RNG.normal(size=400) * 10).astype(dtype)
    nodes, wanted, feeds = {}, {}, {x: old, v: new}
    for name, key, given in changes(known):
        picks = plain(key, given)
        shape = old[picks].shape
        values = {name: slice(0, int(np.prod(shape)))}
        for case, part in {**values, f"{name}, one value": slice(7, 8)}.items():
            fitting = new[part].reshape(shape if case == name else ())
            wanted[case] = old.copy()
            METHODS[method](wanted[case], picks, fitting)
            nodes[case] = getattr(x.at[key], method)(gx.reshape(v[part], fitting.shape))
        feeds.update(given)
    got = gx.compile(list(feeds), nodes)(**{node.name: value for node, value in feeds.items()})
    for (name, value), evaluated in zip(wanted.items(), evaluate_all(list(nodes.values()), feeds), strict=True):
        np.testing.assert_array_equal(evaluated, value, err_msg=name)
        np.testing.assert_array_equal(np.asarray(got[name]), value, err_msg=name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("known", [True, False])
def test_gradients_of_at(known, method):
    """First and second order by central differences, in float64, with a zero among the factors."""
    x, v, u = gx.input("x", (5, 3), "float64"), gx.input("v", (6, 3), "float64"), gx.input("u", (8, 3), "float64")
    picks = np.array([4, 0, -1, 2, 0, 0])
    i = gx.input("i", (6,), "int32")
    values = {x: RNG.normal(size=(5, 3)), v: RNG.normal(size=(6, 3))}
    values[v][4, 1] = values[v][0, 2] = values[x][2, 0] = 0
    y = getattr(x.at[picks if known else i], method)(v)
    z = getattr(x.at[1:, 1].set(gx.sum(y)).at[0, [2, 0]], method)(y[1, :2])
    loss = gx.sum(gx.sin(y) * gx.sin(y + 1)) + gx.sum(gx.cos(z) * z)
    first = gx.grad(loss, [x, v])
    slope = gx.sum(gx.sin(first[0] + 1) ** 2) + gx.sum(gx.sin(first[1]) ** 2)
    second = gx.grad(slope, [x, v])
    f = gx.compile([x, v, i, u], [loss, slope, *first, *second])
    base = f(values[x], values[v], picks, np.zeros((8, 3)))
    for place, found in ((0, base[2:4]), (1, base[4:6])):
        for node, gradient in zip((x, v), found, strict=True):
            direction, h = RNG.normal(size=node.shape), 1e-6
            ends = []
            for sign in (1, -1):
                moved = {**values, node: values[node] + sign * h * direction}
                ends.append(f(moved[x], moved[v], picks, np.zeros((8, 3)))[place])
            assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(np.sum(gradient * direction), rel=2e-6, abs=2e-7), (place, node)


def test_ties_share_the_gradient():
    x, v, i = gx.input("x", (3,), "float64"), gx.input("v", (4,), "float64"), gx.input("i", (4,), "int32")
    y = x.at[i].max(v)
    dx, dv = gx.compile([x, v, i], gx.grad(gx.sum(y), [x, v]))([1, 5, 2], [1, 1, 5, 7], [0, 0, 1, 2])
    np.testing.assert_allclose(dx, [1 / 3, 1 / 2, 0])
    np.testing.assert_allclose(dv, [1 / 3, 1 / 3, 1 / 2, 1])


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_put_along_axis(dtype):
    values = (X * 4).astype(dtype)
    x, j = gx.input("x", X.shape, dtype), gx.input("j", (4, 2, 5), "int64")
    along, new = np.array([1, -1])[None, :, None] + np.zeros((4, 2, 5), int), (RNG.normal(size=(4, 2, 5)) * 4).astype(dtype)
    nodes, wanted = {}, {}
    for name, picks, given, axis in [("node", j, new, 1), ("known", along, new, 1), ("one", along[:1, :, :1], new[:, :1], 1), ("flat", np.array([7, -3]), new[0, 0, :2], None)]:
        nodes[name], wanted[name] = gx.put_along_axis(x, picks, given, axis), values.copy()
        np.put_along_axis(wanted[name], along if picks is j else picks, given, axis)
    got = gx.compile([x, j], nodes)(values, along)
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_a_parameter_is_changed_in_place(backend):
    """Only the rows that change are touched, unless old values are read meanwhile."""
    w = gx.parameter("w", np.arange(12.0).reshape(4, 3), "float64")
    i, v = gx.input("i", (3,), "int32"), gx.input("v", (3, 3), "float64")
    rows, new = np.array([2, 0, 2]), RNG.normal(size=(3, 3))
    cases = {
        "add": (w.at[i].add(v), lambda y: np.add.at(y, rows, new), 1),
        "set": (w.at[i, 1].set(v[:, 0]), lambda y: y.__setitem__((rows, 1), new[:, 0]), 1),
        "decay": ((w * 0.5).at[i].add(v), lambda y: [y.__imul__(0.5), np.add.at(y, rows, new)], 1),
        "of itself": (w.at[i].add(w[i] * v), lambda y: np.add.at(y, rows, y[rows] * new), 1),
        "from elsewhere": (w.at[i].set(w[::-1][1:]), lambda y: y.__setitem__(rows, y[::-1][1:].copy()), 1),
        "reversed": (w[::-1].at[i].add(v), lambda y: [y.__setitem__(..., y[::-1].copy()), np.add.at(y, rows, new)], 2),
        "known": (w.at[[1, 3]].multiply(v[:2]), lambda y: y.__setitem__([1, 3], y[[1, 3]] * new[:2]), 1),
        "slice": (w.at[1:3, ::2].min(v[:2, :2]), lambda y: y.__setitem__(np.s_[1:3, ::2], np.minimum(y[1:3, ::2], new[:2, :2])), 1),
    }  # fmt: skip
    for name, (node, change, kernels) in cases.items():
        expected = w.value.copy()
        change(expected)
        f = gx.compile([i, v], w[1] * 2, {w: node}, backend=backend)
        before = w.value[1].copy()
        np.testing.assert_array_equal(f(rows, new), before * 2, err_msg=name)
        np.testing.assert_array_equal(w.value, expected, err_msg=name)
        if backend == "native":
            assert len([k for k in f.kernels if k.kind == "copy"]) == kernels - 1, name


def test_an_int_parameter_indexed_by_itself_is_not_changed_in_place():
    n = gx.parameter("n", np.array([1, 2, 0, 2]), "int32", trainable=False)
    gx.compile([], [], {n: n.at[n].add(np.array([1, 1, 1, 1]))})()
    expected = np.array([1, 2, 0, 2])
    np.add.at(expected, expected.copy(), 1)
    np.testing.assert_array_equal(n.value, expected)
    n = gx.parameter("n", np.arange(40) % 4, "int32", trainable=False)
    gx.compile([], [], {n: n - gx.zeros((40,), "int32").at[n[:5]].add(1)})()
    np.testing.assert_array_equal(n.value, np.arange(40) % 4 - np.array([2, 1, 1, 1] + [0] * 36))


def test_what_does_not_fit_at_is_said():
    x, flags = gx.input("x", (4, 3), "int32"), gx.input("flags", (4,), "bool")
    with pytest.raises(DTypeError, match="a value of dtype float32 does not fit into <x"):
        x.at[0].set(0.5)
    with pytest.raises(DTypeError, match="only set"):
        flags.at[0].add(1)
    with pytest.raises(ShapeError, match=r"a value of shape \(4,\) does not fit into x\[key\] of shape \(2, 3\)"):
        x.at[[0, 1]].set(np.arange(4))
    with pytest.raises(IndexOutOfRangeError, match="expected -4 <= index < 4"):
        x.at[[4]].add(1)
    with pytest.raises(GraphError, match="graphc.where"):
        x.at[x > 0].set(0)
    assert flags.at[[0, 1]].set(True).dtype.value == "bool"
    assert gx.evaluate(x.at[::2].get(), {x: np.arange(12).reshape(4, 3)}).tolist() == [[0, 1, 2], [6, 7, 8]]


# --- updates of few rows ---------------------------------------------------------------------------------------
def sgd_on_rows(name, rate, extra=lambda w, g: [], shape=(60, 3), picks=(5,), **kwargs):
    w, i = gx.parameter("w", np.arange(np.prod(shape)).reshape(shape) % 13 - 6), gx.input("i", picks, "int32")
    v = gx.input("v", (*picks, *shape[1:]))
    g = gx.grad(gx.sum(gx.square(w[i]) * v), w)
    return w, gx.compile([i, v], extra(w, g), {w: w - rate * g}, name=name, **kwargs)


def test_an_update_of_few_rows_touches_only_them():
    """To the bit what the update of all rows gives, also where a row occurs again."""
    picks, v = np.array([7, -1, 7, 0, 7]), RNG.normal(size=(5, 3)).astype("f")
    few, f = sgd_on_rows("few", 0.1)
    all_of_them, g = sgd_on_rows("all", 0.1, lambda w, g: [gx.sum(g)])  # the gradient is read by something else, too
    numpys, h = sgd_on_rows("numpys", 0.1, backend="numpy")
    for _ in range(3):
        for function in (f, g, h):
            function(picks, v)
    np.testing.assert_array_equal(few.value, all_of_them.value)
    np.testing.assert_array_equal(few.value, numpys.value)
    kernel = f.kernels[-1]
    assert "only the elements at the indices" in kernel.why
    assert kernel.bytes < 700
    assert [k.kind for k in g.kernels].count("loops") > 1
    assert not re.search(r"< (60|180); \+\+", f.c_source)  # no loop over the table


@pytest.mark.parametrize(
    ("rate", "shape", "picks", "few"),
    [
        (lambda w: gx.constant(np.arange(60, dtype="f")[:, None] / 4), (60, 3), (5,), True),
        (lambda w: gx.parameter("rate", 0.25) / 2, (60, 3), (5,), True),
        (lambda w: -1, (60,), (2, 3), True),
        (lambda w: 0.5, (60, 3), (20,), False),  # many rows
        (lambda w: gx.sum(w), (60, 3), (5,), True),
        (lambda w: w * w, (60, 3), (5,), True),
        (lambda w: w[::-1] * 2, (60, 3), (5,), False),
    ],
)
def test_what_is_an_update_of_few_rows(rate, shape, picks, few):
    values = {}
    chosen, v = RNG.integers(-60, 60, picks), RNG.integers(-2, 3, (*picks, *shape[1:])).astype("f")
    for backend in ("native", "numpy"):
        w, i = gx.parameter("w", np.arange(np.prod(shape)).reshape(shape) % 5 - 2), gx.input("i", picks, "int32")
        node = gx.input("v", v.shape)
        g = gx.grad(gx.sum(gx.square(w[i]) * node), w)
        f = gx.compile([i, node], [], {w: w - rate(w) * g}, backend=backend)
        f(chosen, v)
        values[backend] = w.value
        if backend == "native":
            assert any("only the elements" in kernel.why for kernel in f.kernels) is few
    np.testing.assert_array_equal(values["native"], values["numpy"])


def test_rows_that_are_looked_up_twice():
    """Two scatters into one table, as of words and those beside them: each is zeroed at the indices of both."""
    results = {}
    for backend in ("native", "numpy"):
        r = np.random.default_rng(3)
        words, beside = (gx.parameter(name, r.integers(-3, 4, (90, 2))) for name in ("words", "beside"))
        i, j, k = gx.input("i", (3,), "int32"), gx.input("j", (3,), "int32"), gx.input("k", (3, 2), "int64")
        near, far = gx.sum(words[i] * beside[j]), gx.sum(words[i][:, None] * beside[k])
        step = gx.train_step(near * 2 - far, gx.optim.SGD(learning_rate=0.5), backend=backend)
        for _ in range(4):
            step(i=r.integers(0, 5, 3), j=r.integers(0, 5, 3), k=r.integers(-90, -80, (3, 2)))
        results[backend] = words.value, beside.value
        if backend == "native":
            assert [kernel.name for kernel in step.kernels if "only the elements" in kernel.why] == ["new_words", "new_beside"]
    for mine, wanted in zip(*results.values(), strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_two_tables_that_learn_from_each_other_keep_their_old_values():
    """The gradient of each reads the other."""
    tables = {}
    for backend in ("native", "numpy"):
        a, b = (gx.parameter(name, np.arange(80).reshape(40, 2) % 7 - 3) for name in "ab")
        i = gx.input("i", (4,), "int32")
        loss = gx.sum(a[i] * b[(i + 1) % 40])
        step = gx.train_step(loss, gx.optim.SGD(learning_rate=0.5), backend=backend)
        for picks in ([3, 4, 3, 39], [0, 39, 38, 1]):
            step(i=np.array(picks))
        tables[backend] = a.value, b.value
    for mine, wanted in zip(*tables.values(), strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_known_indices_are_not_checked_again():
    """Not those of a large table either, which is data and not C text."""
    x = gx.input("x", (500, 3))
    picks = RNG.integers(-500, 500, 2000)
    f = gx.compile([x], [x[picks], gx.grad(gx.sum(x[picks] ** 2), x)])
    assert not [kernel for kernel in f.kernels if kernel.kind == "check"]
    assert "gx_from_end" not in f.c_source
    values = RNG.normal(size=(500, 3)).astype("f")
    rows, gradient = f(values)
    np.testing.assert_array_equal(rows, values[picks])
    np.testing.assert_allclose(gradient, 2 * values * np.bincount(picks % 500, minlength=500)[:, None], rtol=1e-5)


# --- strange programs --------------------------------------------------------------------------------------------
class Strange:
    """A random program of indexing and movement, built and computed in NumPy side by side; all numbers are small integers.

    ``node`` and ``value`` are affine in ``x``; ``function`` is the same in NumPy.
    """

    def __init__(self, random, number):
        self.random, self.number = random, number
        shape = self.shape()
        self.x = gx.input(f"x{number}", shape, "float64")
        self.inputs = {self.x: self.numbers(shape)}
        self.node, self.moves, self.text = self.x, [], [f"x{shape}"]
        for _ in range(random.randint(1, 5)):
            getattr(self, random.choice(["key", "key", "key", "at", "at", "along", "turned", "repeated", "product", "added"]))()
        self.scale = self.numbers(self.node.shape)

    def numbers(self, shape, low=-3, high=3):
        return np.array([self.random.randint(low, high) for _ in range(int(np.prod(shape)))], "float64").reshape(shape)

    def shape(self):
        return tuple(self.random.choice([1, 2, 3, 4, 5, 7]) for _ in range(self.random.randint(1, 4)))

    def given(self, array, dtype=None):
        """An array as it is, or an input."""
        if self.random.random() < 0.4:
            return array
        node = gx.input(f"i{self.number}_{len(self.inputs)}", array.shape, dtype or self.random.choice(["int32", "int64"]))
        self.inputs[node] = array
        return node

    def indices(self, shape, extent):
        return self.numbers(shape, -extent, extent - 1).astype(int)

    def random_key(self):
        """A key with some arrays, and the same in NumPy's arrays."""
        shape = self.node.shape
        common = self.random.choice([(), (1,), (2,), (3,), (2, 3), (0,)])
        mine, numpys = [], []
        axes = self.random.randint(0, len(shape))
        dots = self.random.choice([None, self.random.randint(0, axes)])
        used = list(range(axes)) if dots is None else [*range(dots), *range(len(shape) - axes + dots, len(shape))]
        for place, axis in enumerate(used):
            if place == dots:
                mine.append(...)
                numpys.append(...)
            kind, extent = self.random.random(), shape[axis]
            if kind < 0.5 and extent:
                array = self.indices(self.random.choice([common, common[-1:], ()]), extent)
                mine.append(self.given(array))
                numpys.append(array)
            elif kind < 0.6 and extent:
                mine.append(int(self.indices((), extent)))
                numpys.append(mine[-1])
            else:
                step = self.random.choice([None, 1, 2, -1, -2])
                ends = [self.random.choice([None, self.random.randint(-extent, extent)]) for _ in range(2)]
                mine.append(slice(*ends, step))
                numpys.append(mine[-1])
            if self.random.random() < 0.15:
                mine.append(None)
                numpys.append(None)
        return tuple(mine), tuple(numpys)

    def become(self, node, move, text):
        if node.size <= 3000 and node.ndim <= 6:
            self.node = node
            self.moves.append(move)
            self.text.append(text)

    def key(self):
        key, same = self.random_key()
        self.become(self.node[key], lambda y: y[same], f"[{same}]")

    def at(self):
        key, same = self.random_key()
        kind = self.random.choice(["set", "add"])
        v = self.numbers(self.node[key].shape)

        def move(y):
            y = np.array(y)
            METHODS[kind](y, same, v)
            return y

        self.become(getattr(self.node.at[key], kind)(self.given(v, "float64")), move, f".at[{same}].{kind}({v.tolist()})")

    def along(self):
        if self.node.ndim and self.node.size:
            axis = self.random.randrange(self.node.ndim)
            shape = list(self.node.shape)
            shape[axis] = self.random.randint(1, 4)
            array = self.indices(shape, self.node.shape[axis])
            self.become(gx.take_along_axis(self.node, self.given(array), axis), lambda y: np.take_along_axis(y, array, axis), f"along {axis} {array.tolist()}")

    def turned(self):
        order = self.random.sample(range(self.node.ndim), self.node.ndim)
        self.become(gx.transpose(self.node, order), lambda y: np.transpose(y, order), f"transposed {order}")

    def repeated(self):
        shape = (self.random.randint(1, 3), *self.node.shape)
        self.become(gx.broadcast_to(self.node, shape), lambda y: np.broadcast_to(y, shape), f"broadcast {shape}")

    def product(self):
        if self.node.ndim:
            other = self.numbers((self.node.shape[-1], self.random.randint(1, 4)), -1, 1)
            self.become(self.node @ self.given(other, "float64"), lambda y: y @ other, f"@ {other.tolist()}")

    def added(self):
        self.become(self.node + self.node[..., ::-1] if self.node.ndim else self.node * 2, lambda y: y + y[..., ::-1] if y.ndim else y * 2, "with itself reversed")

    def function(self, x):
        for move in self.moves:
            x = move(x)
        return np.asarray(x)

    def __repr__(self):
        return " ".join(self.text)


@hypothesis.settings(max_examples=int(os.environ.get("GRAPHC_STRANGE", "10")), derandomize=True, deadline=None)
@hypothesis.given(hypothesis.strategies.integers(0, 2**32 - 1))
def test_strange_programs(seed):
    """Values are NumPy's, and the gradient is the transpose of the function: <u, A d> = <A' u, d>, exactly."""
    random = Random(seed)
    programs = [Strange(random, number) for number in range(8)]
    outputs = {}
    for program in programs:
        outputs[f"y{program.number}"] = program.node
        outputs[f"g{program.number}"] = gx.grad(gx.sum(program.node * program.scale), program.x)
    feeds = {node: value for program in programs for node, value in program.inputs.items()}
    got = gx.compile(list(feeds), outputs)(**{node.name: value for node, value in feeds.items()})
    for program in programs:
        x = program.inputs[program.x]
        np.testing.assert_array_equal(got[f"y{program.number}"], program.function(x), err_msg=repr(program))
        d = program.numbers(x.shape)
        slope = np.sum(program.scale * (program.function(x + d) - program.function(x)))
        assert np.sum(got[f"g{program.number}"] * d) == slope, program


# --- peers ---------------------------------------------------------------------------------------------------------
@pytest.mark.peers
@pytest.mark.parametrize("method", ["set", "add", "multiply", "max", "min"])
def test_values_and_gradients_are_those_of_jax(method):
    """Each index once: of others JAX does not say what the gradient of a set is, and has none of a product."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    x, i, v = gx.input("x", (5, 4), "float64"), gx.input("i", (3,), "int32"), gx.input("v", (3, 4), "float64")
    old, picks, new = RNG.normal(size=(5, 4)), np.array([4, -4, 0]), RNG.normal(size=(3, 4))

    first, columns, again = np.arange(3), np.array([3, 0, 3]), np.array([0, 1, 1])

    def total(x, i, v, np, **options):
        y = getattr(x.at[i], method)(v, **options)
        z = getattr(x.at[1:4, ::-2], method)(v[:, :2], **options)
        return np.sum(np.sin(y[i, first])) + np.sum(y * y * y) + np.sum(np.cos(z[:, columns]) * z[i[0]][again])

    mine = total(x, i, v, gx)
    got = gx.compile([x, i, v], [mine, *gx.grad(mine, [x, v])])(old, picks, new)
    wanted = jax.value_and_grad(lambda x, v: total(x, jax.numpy.asarray(picks), v, jax.numpy, unique_indices=True), (0, 1))
    value, gradients = wanted(jax.numpy.asarray(old), jax.numpy.asarray(new))
    for mine, theirs in zip(got, (value, *gradients), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.peers
def test_sgd_on_a_table_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    table, picks = RNG.normal(size=(30, 4)), RNG.integers(0, 30, (5, 3))
    w, i = gx.parameter("w", table, "float64"), gx.input("i", (5, 3), "int32")
    step = gx.train_step(gx.mean(gx.tanh(gx.nn.embedding(i, w)) ** 2), gx.optim.SGD(learning_rate=2.0))
    other = torch.tensor(table, requires_grad=True)
    optimizer = torch.optim.SGD([other], lr=2.0)
    for _ in range(4):
        step(i=picks)
        optimizer.zero_grad()
        torch.mean(torch.tanh(torch.nn.functional.embedding(torch.tensor(picks), other)) ** 2).backward()
        optimizer.step()
    np.testing.assert_allclose(w.value, other.detach().numpy(), rtol=1e-12)
