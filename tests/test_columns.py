"""Short rows stored by columns: which are, and that nothing but the speed shows it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphc as gx
from graphc.compile import freeze
from graphc.ir import toposort
from graphc.lower.columns import by_columns
from graphc.pipeline import render, stages


def net(rows, hidden, classes, dtype="float32", inside=4):
    rng = np.random.default_rng(rows + hidden + classes)
    X, labels = gx.input("X", (rows, inside), dtype), gx.input("labels", (rows,), "int32")
    shapes = {"W1": (inside, hidden), "b1": (hidden,), "W2": (hidden, classes), "b2": (classes,)}
    W1, b1, W2, b2 = (gx.parameter(name, rng.normal(size=shape), dtype) for name, shape in shapes.items())
    scores = gx.nn.relu(X @ W1 + b1) @ W2 + b2
    return X, labels, [W1, b1, W2, b2], scores


def turned(*outputs):
    """How many nodes on the way to some outputs are stored by columns."""
    return len(by_columns(toposort(outputs), outputs))


LOSSES = {
    "cross entropy": lambda scores, labels: gx.mean(gx.nn.softmax_cross_entropy(scores, labels)),
    "smoothed": lambda scores, labels: gx.sum(gx.nn.softmax_cross_entropy(scores, labels, label_smoothing=0.1)),
    "hinge": lambda scores, labels: gx.mean(gx.nn.multiclass_hinge(scores, labels)),
    "worst of a row": lambda scores, labels: gx.mean(gx.min(gx.sigmoid(scores), axis=1) * labels),
    "second place": lambda scores, labels: gx.sum(gx.max(gx.where(scores < gx.max(scores, 1, keepdims=True), scores, -9.0), 1)),
}  # fmt: skip
SHAPES = [*itertools.product((8, 9, 16, 48, 70), (5, 24), (2, 10)), (15, 3, 15), (64, 33, 3), (100, 17, 12), (33, 9, 4)]


@pytest.mark.parametrize("kind", LOSSES)
def test_loss_and_gradients(kind):
    """Against NumPy, node by node."""
    for rows, hidden, classes in SHAPES:
        X, labels, parameters, scores = net(rows, hidden, classes, "float64")
        loss = LOSSES[kind](scores, labels)
        wanted = [loss, *gx.grad(loss, parameters)]
        assert turned(*wanted), "the shape does not try what it should"
        rng = np.random.default_rng(0)
        fed = {X: rng.normal(size=X.shape), labels: rng.integers(0, classes, rows, np.int32)}
        function = gx.compile([X, labels], wanted, name="gradients")
        for found, expected in zip(function(*fed.values()), gx.evaluate(wanted, fed), strict=True):
            np.testing.assert_allclose(found, expected, 1e-12, 1e-13, err_msg=f"{rows} x {hidden} x {classes}")


def test_metrics_of_rows():
    for rows in (8, 32, 100):
        X, labels, _, scores = net(rows, 12, 7)
        places = gx.argmax(scores, 1)
        wanted = [gx.sum(gx.equal(places, labels)), gx.sum(gx.argmin(scores, 1)), gx.sum(scores, 0), gx.mean(gx.max(scores, 1))]
        assert turned(*wanted)
        fed = {X: np.random.default_rng(1).normal(size=X.shape).astype("f4"), labels: np.arange(rows, dtype=np.int32) % 7}
        for found, expected in zip(gx.compile([X, labels], wanted)(*fed.values()), gx.evaluate(wanted, fed), strict=True):
            np.testing.assert_allclose(found, expected, 2e-6, 1e-6)


def test_ties_and_nan_in_rows():
    """The first of equals, and the first NaN, as in NumPy: the logarithms are NaN here and there, and elsewhere -inf, 0 or log 2."""
    x, w = gx.input("x", (32, 3)), gx.input("w", (3, 6))
    scores = gx.log(x @ w)
    wanted = [gx.sum(gx.argmax(scores, 1) * gx.arange(32)), gx.sum(gx.argmin(scores, 1) * gx.arange(32)), gx.max(scores, 1)]
    assert turned(*wanted)
    rng = np.random.default_rng(2)
    fed = {x: rng.integers(-1, 2, x.shape).astype("f4"), w: rng.integers(-1, 2, w.shape).astype("f4")}
    fed[x][[3, 7]] = np.nan
    with np.errstate(all="ignore"):
        places = np.argmax(np.log(fed[x] @ fed[w]), 1)
        assert len(set(places)) > 3, "NaN should come first in many places"
        for found, expected in zip(gx.compile([x, w], wanted)(*fed.values()), gx.evaluate(wanted, fed), strict=True):
            np.testing.assert_allclose(found, expected, 2e-7)


def test_what_is_stored_by_columns():
    X, labels, parameters, scores = net(32, 24, 10)
    loss = gx.mean(gx.nn.softmax_cross_entropy(scores, labels))
    d = gx.grad(loss, parameters)
    assert turned(loss, *d)
    assert not turned(loss, *d, scores), "an output is stored as it is"
    assert not turned(loss, *d, gx.transpose(scores)), "and so is what an output shows"
    assert turned(loss, *d, gx.transpose(scores) @ X), "which a product does not mind"
    assert not turned(gx.sum((scores - 1) ** 2)), "nothing is done row by row"
    assert not turned(gx.sum(gx.max(scores * gx.input("weights", (32, 10)), 1))), "what comes with it is stored by rows"
    assert not turned(gx.sum(gx.max(gx.cumsum(scores, 1), 1))), "a routine goes along rows"
    assert turned(gx.sum(gx.max(scores, 1)) + gx.sum(gx.take_along_axis(scores, labels[:, None], 1))), "picked along rows"
    assert not turned(gx.sum(gx.max(scores, 1)) + gx.sum(scores[labels])), "whole rows are picked"
    assert not turned(gx.sum(gx.max(gx.input("s", (32, 10)), 1))), "an input is stored by rows"
    for rows, classes in ((7, 3), (32, 16), (32, 1)):
        *_, scores = net(rows, 24, classes)
        assert not turned(gx.sum(gx.max(scores, 1))), (rows, classes)


def test_one_kernel_makes_the_scores_cotangent():
    _, labels, _, scores = net(32, 24, 10)
    step = gx.train_step(gx.mean(gx.nn.softmax_cross_entropy(scores, labels)), gx.optim.SGD(0.1), name="net")
    assert "equations in one pass over shared rows: total_2 [10, 32], labels [32] -> d_difference [10, 32], loss" in step.c_source
    assert "gx_f32_abreast" not in step.c_source


def test_products_of_short_rows_stand_upright():
    X, labels, _, scores = net(100, 24, 10)
    results = (gx.mean(gx.nn.softmax_cross_entropy(scores, labels)), gx.argmax(scores, 1))
    text = render(freeze([X, labels], results, ("loss", "places"), "list", {}, "f"), 64, 1).c_source
    assert "gx_f32_tile_16x10_upright_turned(" in text
    assert "gx_f32_transpose(" not in text
    assert "if (places" not in text, "rounds that go together select, they do not branch"


def test_few_rows_are_added_up_abreast():
    """The sums of the columns of a few rows: rounds over the columns, which go together."""
    x = gx.input("x", (8, 100))
    function = gx.compile([x], gx.sum(gx.exp(x), 0))
    value = np.random.default_rng(0).normal(size=(8, 100)).astype("f4")
    np.testing.assert_allclose(function(value), np.exp(value).sum(0), 1e-6)
    (kernel,) = stages(freeze([x], (gx.sum(gx.exp(x), 0),), ("y",), "list", {}, "f"))[2].kernels
    assert kernel.abreast
    assert kernel.strip == 16


def random_program(seed):
    """Elementwise operations, reductions and products of short rows, and gradients through all of it."""
    rng = np.random.default_rng(seed)
    rows, terms, columns = int(rng.choice([8, 11, 16, 32, 64, 77, 130])), int(rng.integers(1, 40)), int(rng.integers(2, 16))
    x, w = gx.input("x", (rows, terms), "float64"), gx.input("w", (terms, columns), "float64")
    labels, v = gx.input("labels", (rows,), "int32"), gx.input("v", (terms, columns), "float64")
    tables = [gx.tanh(x @ w)] + [gx.matmul(x, v)] * int(rng.integers(2))
    of_rows, of_columns = [x[:, 0]], [w[0]]

    def one_of(nodes):
        return nodes[int(rng.integers(len(nodes)))]

    for _ in range(int(rng.integers(3, 12))):
        table, other = one_of(tables), one_of(tables)
        match int(rng.integers(9)):
            case 0:
                tables.append(one_of([gx.tanh, gx.sigmoid, gx.nn.relu, gx.square, gx.negative])(table))
            case 1:
                tables.append(one_of([gx.add, gx.subtract, gx.multiply, gx.maximum])(table, other))
            case 2:
                tables.append(table - one_of(of_rows)[:, None])
            case 3:
                tables.append(table * one_of(of_columns))
            case 4:
                tables.append(gx.where(gx.equal(gx.arange(columns), labels[:, None]), table, other))
            case 5 | 6:
                of_rows.append(one_of([gx.max, gx.min, gx.sum, gx.mean])(table, 1))
            case 7:
                of_columns.append(one_of([gx.max, gx.sum, gx.mean])(table, 0))
            case 8:
                of_rows.append(gx.take_along_axis(table, labels[:, None], 1)[:, 0])
    score = gx.mean(gx.tanh(of_rows[-1])) + gx.sum(gx.tanh(of_columns[-1])) + gx.mean(gx.max(gx.tanh(tables[-1]), 1))
    largest = gx.take_along_axis(tables[-1], gx.argmax(tables[-1], 1)[:, None], 1)  # rounding may decide where that is
    results = [score, *gx.grad(score, [x, w]), largest, gx.transpose(x) @ tables[-1], tables[0] @ gx.transpose(w)]
    fed = {node: rng.normal(size=node.shape) for node in (x, w, v)} | {labels: rng.integers(0, columns, rows, np.int32)}
    return fed, results[: int(rng.integers(1, 7))]


@pytest.mark.parametrize("seed", range(30))
def test_random_programs(seed):
    fed, results = random_program(seed)
    for found, expected in zip(gx.compile(list(fed), results)(*fed.values()), gx.evaluate(results, fed), strict=True):
        np.testing.assert_allclose(found, expected, 1e-9, 1e-9)
