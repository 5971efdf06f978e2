"""Activations, layers and losses: values against formulas written out in NumPy, slopes at the kinks, extreme arguments.

Their gradients are checked against differences in test_grad.py; values and gradients against PyTorch on demand (-m peers).
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.evaluate import evaluate_all
from graphc.types import DTypeError, GraphcError, GraphError, ShapeError
from tests.oracles import assert_values_and_gradients_are_pytorchs

RNG = np.random.default_rng(0)
POINTS = np.concatenate([[-40.0, -7, -3, -1, -0.25, -0.0, 0.0, 0.5, 1, 3, 6, 7, 30], RNG.normal(0, 3, 20)])
X, Y, P, Q = RNG.normal(0, 2, (4, 6, 5))
Y[0], Y[1] = X[0], X[1] + 1  # no difference, and one at the kink
P, Q = (np.exp(a) / np.exp(a).sum(-1, keepdims=True) for a in (P, Q))
LABELS = np.array([0, 4, 2, 2, 1, 3], np.int32)
SIGNS = np.sign(Y)
ERF = np.vectorize(math.erf)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def normal(x, axes, eps):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


ACTIVATIONS = {
    "relu": (nn.relu, lambda x: np.maximum(x, 0)),
    "relu6": (nn.relu6, lambda x: np.clip(x, 0, 6)),
    "leaky_relu": (nn.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
    "leaky_relu, slope": (lambda x: nn.leaky_relu(x, negative_slope=-2), lambda x: np.where(x > 0, x, -2 * x)),
    "elu": (nn.elu, lambda x: np.where(x > 0, x, np.exp(x) - 1)),
    "elu, alpha": (lambda x: nn.elu(x, alpha=0.5), lambda x: np.where(x > 0, x, 0.5 * (np.exp(x) - 1))),
    "celu": (lambda x: nn.celu(x, alpha=2), lambda x: np.where(x > 0, x, 2 * (np.exp(x / 2) - 1))),
    "selu": (nn.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1))),
    "gelu": (nn.gelu, lambda x: x * (1 + ERF(x / np.sqrt(2))) / 2),
    "gelu, tanh": (
        lambda x: nn.gelu(x, approximate="tanh"),
        lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    ),
    "silu": (nn.silu, lambda x: x * sigmoid(x)),
    "mish": (nn.mish, lambda x: x * np.tanh(softplus(x))),
    "softplus": (nn.softplus, softplus),
    "softplus, beta": (
        lambda x: nn.softplus(x, beta=3, threshold=9),
        lambda x: np.where(3 * x > 9, x, softplus(3 * x) / 3),
    ),
    "softsign": (nn.softsign, lambda x: x / (1 + np.abs(x))),
    "log_sigmoid": (nn.log_sigmoid, lambda x: np.log(sigmoid(x))),
    "hard_sigmoid": (nn.hard_sigmoid, lambda x: np.clip((x + 3) / 6, 0, 1)),
    "hard_tanh": (nn.hard_tanh, lambda x: np.clip(x, -1, 1)),
    "hard_tanh, bounds": (lambda x: nn.hard_tanh(x, -2, 0.5), lambda x: np.clip(x, -2, 0.5)),
    "hard_swish": (nn.hard_swish, lambda x: x * np.clip((x + 3) / 6, 0, 1)),
    "sigmoid": (nn.sigmoid, sigmoid),
    "tanh": (nn.tanh, np.tanh),
}

WEIGHT, BIAS = RNG.normal(size=(2, 5))
MATRIX = RNG.normal(size=(3, 5))
BLOCK = RNG.normal(size=(2, 4, 3, 5))
QUERIES, KEYS, VALUES = RNG.normal(size=(2, 3, 4, 2)), RNG.normal(size=(2, 3, 6, 2)), RNG.normal(size=(2, 3, 6, 5))
MASK = RNG.random((3, 4, 6)) < 0.6
MASK[1, 2] = False  # a query without a key


def attention(mask, scale):
    scores = np.where(mask, QUERIES @ KEYS.swapaxes(-1, -2) * scale, -1e300)
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * mask
    return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300) @ VALUES


def smoothed(p, share):
    return p * (1 - share) + share / p.shape[-1]


ONE_HOT = np.eye(5)[LABELS]
D = X - Y
Q_OF_SOME = Q * [1, 1, 0, 1, 1]  # a probability of zero

# What is built of float64 inputs, the inputs, and what must come out.
CASES = {
    "prelu": (nn.prelu, [X, WEIGHT], np.where(X > 0, X, WEIGHT * X)),
    "prelu of channels": (nn.prelu, [BLOCK, WEIGHT[:4]], np.where(BLOCK > 0, BLOCK, WEIGHT[:4, None, None] * BLOCK)),
    "prelu of one": (nn.prelu, [X, WEIGHT[:1]], np.where(X > 0, X, WEIGHT[0] * X)),
    "glu": (nn.glu, [X[:, :4]], X[:, :2] * sigmoid(X[:, 2:4])),
    "glu of rows": (lambda x: nn.glu(x, axis=0), [X], X[:3] * sigmoid(X[3:])),
    "maxout": (lambda x: nn.maxout(x, 3, axis=0), [X], X.reshape(2, 3, 5).max(1)),
    "softmax": (nn.softmax, [X], np.exp(log_softmax(X))),
    "softmax of columns": (lambda x: nn.softmax(x, axis=0), [X], np.exp(log_softmax(X.T).T)),
    "log_softmax": (nn.log_softmax, [X], log_softmax(X)),
    # losses
    "squared_error": (nn.squared_error, [X, Y], D**2),
    "absolute_error": (nn.absolute_error, [X, Y], np.abs(D)),
    "huber": (nn.huber, [X, Y], np.where(np.abs(D) <= 1, D * D / 2, np.abs(D) - 0.5)),
    "huber, delta": (
        lambda x, y: nn.huber(x, y, delta=0.3), [X, Y], np.where(np.abs(D) <= 0.3, D * D / 2, 0.3 * (np.abs(D) - 0.15)),
    ),
    "smooth_l1": (lambda x, y: nn.smooth_l1(x, y, beta=0.3), [X, Y], np.where(np.abs(D) < 0.3, D * D / 0.6, np.abs(D) - 0.15)),
    "smooth_l1, beta=0": (lambda x, y: nn.smooth_l1(x, y, beta=0), [X, Y], np.abs(D)),
    "sigmoid_binary_cross_entropy": (
        nn.sigmoid_binary_cross_entropy, [X, P], -P * np.log(sigmoid(X)) - (1 - P) * np.log(1 - sigmoid(X)),
    ),
    "poisson_nll": (nn.poisson_nll, [X, Y * Y], np.exp(X) - Y * Y * X),
    "poisson_nll, full": (
        lambda x, y: nn.poisson_nll(x, y, log_input=False, full=True, eps=1e-3), [P, 9 * Q],
        P - 9 * Q * np.log(P + 1e-3) + np.where(9 * Q > 1, 9 * Q * np.log(9 * Q) - 9 * Q + np.log(18 * np.pi * Q) / 2, 0),
    ),
    "gaussian_nll": (nn.gaussian_nll, [X, Y, P], (np.log(P) + D * D / P) / 2),
    "gaussian_nll, full": (
        lambda x, y, v: nn.gaussian_nll(x, y, v, full=True, eps=0.1), [X, Y, P[:, :1]],
        (np.log(2 * np.pi * np.maximum(P[:, :1], 0.1)) + D * D / np.maximum(P[:, :1], 0.1)) / 2,
    ),
    "hinge": (nn.hinge, [X, SIGNS], np.maximum(0, 1 - SIGNS * X)),
    "softmax_cross_entropy": (lambda x: nn.softmax_cross_entropy(x, LABELS), [X], -(ONE_HOT * log_softmax(X)).sum(-1)),
    "softmax_cross_entropy, smoothed": (
        lambda x: nn.softmax_cross_entropy(x, LABELS, label_smoothing=0.3), [X],
        -(smoothed(ONE_HOT, 0.3) * log_softmax(X)).sum(-1),
    ),
    "softmax_cross_entropy of distributions": (nn.softmax_cross_entropy, [X, P], -(P * log_softmax(X)).sum(-1)),
    "softmax_cross_entropy of distributions, smoothed": (
        lambda x, p: nn.softmax_cross_entropy(x, p, label_smoothing=0.3), [X, P], -(smoothed(P, 0.3) * log_softmax(X)).sum(-1),
    ),
    "nll": (lambda x: nn.nll(x, LABELS), [X], -(ONE_HOT * X).sum(-1)),
    "multiclass_hinge": (
        lambda x: nn.multiclass_hinge(x, LABELS, margin=0.5), [X],
        (np.maximum(0, X - (ONE_HOT * X).sum(-1, keepdims=True) + 0.5) * (1 - ONE_HOT)).sum(-1),
    ),
    "kl_divergence": (nn.kl_divergence, [np.log(P), Q_OF_SOME], (Q_OF_SOME * (np.log(np.where(Q_OF_SOME > 0, Q_OF_SOME, 1)) - np.log(P))).sum(-1)),
    "cosine_similarity": (
        nn.cosine_similarity, [X, Y], (X * Y).sum(-1) / np.linalg.norm(X, axis=-1) / np.linalg.norm(Y, axis=-1),
    ),
    "cosine_similarity, eps": (
        lambda x, y: nn.cosine_similarity(x, y, axis=0, eps=100), [X, Y], (X * Y).sum(0) / 1e4,
    ),
    # layers
    "linear": (nn.linear, [X, MATRIX, WEIGHT[:3]], X @ MATRIX.T + WEIGHT[:3]),
    "linear of a block": (nn.linear, [BLOCK, MATRIX], BLOCK @ MATRIX.T),
    "linear to a scalar": (nn.linear, [X, WEIGHT], X @ WEIGHT),
    "embedding": (lambda t: nn.embedding(np.array([[0, 5], [5, 1]]), t), [X], X[[[0, 5], [5, 1]]]),
    "embedding of blocks": (lambda t: nn.embedding(np.array([1, 0, 1]), t), [BLOCK], BLOCK[[1, 0, 1]]),
    "layer_norm, plain": (lambda x: nn.layer_norm(x, 5), [X], normal(X, -1, 1e-5)),
    "layer_norm, scaled": (
        lambda x, w, b: nn.layer_norm(x, (5,), w, b, eps=0.1), [X, WEIGHT, BIAS], normal(X, -1, 0.1) * WEIGHT + BIAS,
    ),
    "layer_norm of two axes": (
        lambda x, w: nn.layer_norm(x, (3, 5), w), [BLOCK, X[:3]], normal(BLOCK, (-1, -2), 1e-5) * X[:3],
    ),
    "rms_norm": (lambda x: nn.rms_norm(x, 5), [X], X / np.sqrt((X * X).mean(-1, keepdims=True) + np.finfo(float).eps)),
    "rms_norm, scaled": (
        lambda x, w: nn.rms_norm(x, (5,), w, eps=0.1), [X, WEIGHT], X / np.sqrt((X * X).mean(-1, keepdims=True) + 0.1) * WEIGHT,
    ),
    "batch_norm": (lambda x: nn.batch_norm(x, None, None, training=True)[0], [BLOCK], normal(BLOCK, (0, 2, 3), 1e-5)),
    "batch_norm, scaled": (
        lambda x, w, b: nn.batch_norm(x, None, None, w, b, training=True, eps=0.1)[0], [X, WEIGHT, BIAS],
        normal(X, 0, 0.1) * WEIGHT + BIAS,
    ),
    "batch_norm, running": (
        lambda x, m, v: nn.batch_norm(x, m, v)[0], [X, WEIGHT, P[0]], (X - WEIGHT) / np.sqrt(P[0] + 1e-5),
    ),
    "attention": (nn.scaled_dot_product_attention, [QUERIES, KEYS, VALUES], attention(True, 2**-0.5)),
    "attention, causal": (
        lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3), [QUERIES, KEYS, VALUES],
        attention(np.tri(4, 6, dtype=bool), 0.3),
    ),
    "attention, masked": (
        lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, attn_mask=MASK), [QUERIES, KEYS, VALUES], attention(MASK, 2**-0.5),
    ),
    "attention, added mask": (
        nn.scaled_dot_product_attention, [QUERIES, KEYS, VALUES, np.where(MASK, 0.0, -np.inf)], attention(MASK, 2**-0.5),
    ),
}  # fmt: skip
CASES.update({name: (build, [POINTS], formula(POINTS)) for name, (build, formula) in ACTIVATIONS.items()})


def test_every_public_name_has_a_case():
    elsewhere = {"scaled_dot_product_attention", "dropout", "one_hot"}  # below, and in test_random.py and test_indexing.py
    assert set(nn.__all__) - elsewhere <= {name.split(",")[0].split()[0] for name in CASES}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 2e-5)])
def test_values_and_gradients_in_c(dtype, tolerance):
    """Values against the formulas; the gradients in C against NumPy's evaluation, which test_grad.py checks."""
    nodes, feeds, expected = {}, {}, {}
    for number, (name, (build, arrays, want)) in enumerate(CASES.items()):
        inputs = [gx.input(f"x{number}_{k}", array.shape, dtype) for k, array in enumerate(arrays)]
        feeds.update({node: array.astype(dtype) for node, array in zip(inputs, arrays, strict=True)})
        nodes[name] = value = build(*inputs)
        assert value.dtype.value == dtype, name
        expected[name] = want
        if name != "attention, added mask":  # (a mask of -inf in float64 only)
            weights = np.cos(np.arange(value.size)).reshape(value.shape)  # of equal weights, a norm's square is constant
            for k, slope in enumerate(gx.grad(gx.sum(value * value * weights), inputs)):
                nodes[f"{name}: d{k}"] = slope
    compiled = gx.compile(list(feeds), nodes, name=f"nn_{dtype}")(**{node.name: array for node, array in feeds.items()})
    for name, evaluated in zip(nodes, evaluate_all(list(nodes.values()), feeds), strict=True):
        for found in (evaluated, compiled[name]):
            want = expected.get(name, evaluated)
            np.testing.assert_allclose(found, want, rtol=tolerance, atol=tolerance * np.abs(want).max(), err_msg=name)


# --- kinks and ends -----------------------------------------------------------------------------------
KINKS = {
    "relu": {0: 0}, "relu6": {0: 0, 6: 0}, "leaky_relu": {0: 0.01}, "elu": {0: 1}, "celu": {0: 1}, "softsign": {0: 1},
    "selu": {0: 1.0507009873554805 * 1.6732632423543772}, "hard_sigmoid": {-3: 0, 3: 0, 0: 1 / 6}, "hard_tanh": {-1: 0, 1: 0},
    "hard_swish": {-3: 0, 3: 1, 0: 0.5}, "softplus": {0: 0.5, 30: 1}, "silu": {0: 0.5}, "gelu": {0: 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_slopes_at_kinks(name):
    x = gx.input("x", dtype="float64")
    slope = gx.grad(getattr(nn, name)(x), x)
    for point, want in KINKS[name].items():
        assert gx.evaluate(slope, {x: point}) == pytest.approx(want, rel=1e-14, abs=1e-14)


def test_slopes_of_losses_at_kinks():
    a, b = gx.input("a", dtype="float64"), gx.input("b", dtype="float64")

    def slope(loss, at, target, **options):
        return float(gx.evaluate(gx.grad(loss(a, b, **options), a), {a: at, b: target}))

    assert slope(nn.absolute_error, 2, 2) == 0
    assert slope(nn.smooth_l1, 2, 2, beta=0) == 0
    assert [slope(nn.huber, d, 0, delta=0.5) for d in (-9, -0.5, 0, 0.25, 0.5)] == [-0.5, -0.5, 0, 0.25, 0.5]
    assert [slope(nn.smooth_l1, d, 0, beta=0.5) for d in (-9, -0.5, 0, 0.25, 0.5)] == [-1, -1, 0, 0.5, 1]
    assert slope(nn.hinge, 1, 1) == 0
    assert slope(nn.hinge, 0.5, 1) == -1
    assert slope(nn.sigmoid_binary_cross_entropy, 0, 1) == -0.5
    assert slope(nn.sigmoid_binary_cross_entropy, 0, 0) == 0.5


def test_a_zero_vector_has_a_cosine_and_a_gradient():
    a = gx.input("a", (2, 3), "float64")
    similarity = nn.cosine_similarity(a, np.array([3.0, 0, 4]))
    feeds = {a: [[0, 0, 0], [3, 0, 4]]}
    np.testing.assert_allclose(gx.evaluate(similarity, feeds), [0, 1])
    slopes = gx.evaluate(gx.grad(gx.sum(similarity), a), feeds)
    np.testing.assert_allclose(slopes, [[0.6e8, 0, 0.8e8], [0, 0, 0]], atol=1e-15)


def test_the_bound_of_a_variance_is_not_seen_by_the_gradient():
    v = gx.input("v", dtype="float64")
    loss = nn.gaussian_nll(0.0, 0.0, v, eps=0.5)
    assert gx.evaluate([loss, gx.grad(loss, v)], {v: 0.25}) == [pytest.approx(math.log(0.5) / 2), pytest.approx(1.0)]


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits_give_finite_losses_and_gradients(backend, dtype):
    rows = np.array([[1e4, 0, -1e4], [1e30, -1e30, 0], [-1e30, -1e30, -1e30], [88, 800, -800], [0, 0, 0]])
    x, labels, shares = gx.input("x", (5, 3), dtype), gx.input("labels", (5,), "int32"), np.full((5, 3), 1 / 3)
    losses = {
        "softmax_cross_entropy": nn.softmax_cross_entropy(x, labels),
        "smoothed": nn.softmax_cross_entropy(x, labels, label_smoothing=0.1),
        "distributions": nn.softmax_cross_entropy(x, shares),
        "log_softmax": nn.log_softmax(x),
        "softmax": nn.softmax(x),
        "multiclass_hinge": nn.multiclass_hinge(x, labels),
        "zeros": nn.sigmoid_binary_cross_entropy(x, 0.0),
        "ones": nn.sigmoid_binary_cross_entropy(x, 1.0),
        "huber": nn.huber(x, 0.0), "smooth_l1": nn.smooth_l1(x, 0.0, beta=1e-3), "softplus": nn.softplus(x),
        "log_sigmoid": nn.log_sigmoid(x), "elu": nn.elu(x), "selu": nn.selu(x), "silu": nn.silu(x), "mish": nn.mish(x), "gelu": nn.gelu(x),
    }  # fmt: skip
    nodes = {**losses, **{f"{name}: slope": gx.grad(gx.sum(loss), x) for name, loss in losses.items()}}
    found = gx.compile([x, labels], nodes, name="extreme", backend=backend)(rows, [0, 1, 2, 1, 0])
    for name, value in found.items():
        assert np.isfinite(value).all(), (name, value)
    np.testing.assert_allclose(found["softmax_cross_entropy"], [0, 2e30, math.log(3), 0, math.log(3)], rtol=1e-6)
    np.testing.assert_allclose(found["zeros"][1], [1e30, 0, math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(found["huber: slope"][1], [1, -1, 0])


def test_sure_and_right_logits_keep_their_accuracy():
    x, y = gx.input("x", (4,), "float64"), gx.input("y", (4,), "float64")
    loss = nn.sigmoid_binary_cross_entropy(x, y)
    value, slope = gx.evaluate([loss, gx.grad(gx.sum(loss), x)], {x: [100, 700, -100, -700], y: [1, 1, 0, 0]})
    small = np.exp([-100, -700, -100, -700])
    np.testing.assert_allclose(value, small, rtol=1e-12)
    np.testing.assert_allclose(slope, small * [-1, -1, 1, 1], rtol=1e-12)


# --- what comes with it -----------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_batch_norm_moves_its_running_statistics(backend):
    mean, var = gx.parameter("mean", np.zeros(5), "float64", trainable=False), gx.parameter("var", np.ones(5), "float64", trainable=False)
    w = gx.parameter("w", np.ones(5), "float64")
    x = gx.input("x", (6, 5), "float64")
    y, updates = nn.batch_norm(x, mean, var, w, training=True, momentum=0.3)
    step = gx.train_step(gx.sum(y * y), gx.optim.SGD(learning_rate=0.0), updates=updates, backend=backend)
    expected_mean, expected_var = np.zeros(5), np.ones(5)
    for batch in (X, Y, P):
        step(x=batch)
        expected_mean = 0.7 * expected_mean + 0.3 * batch.mean(0)
        expected_var = 0.7 * expected_var + 0.3 * batch.var(0, ddof=1)
        np.testing.assert_allclose(mean.value, expected_mean, rtol=1e-12)
        np.testing.assert_allclose(var.value, expected_var, rtol=1e-12)
    z, nothing = nn.batch_norm(x, mean, var)
    assert nothing == {}
    np.testing.assert_allclose(gx.evaluate(z, {x: X}), (X - expected_mean) / np.sqrt(expected_var + 1e-5), rtol=1e-12)


def test_embedding_checks_its_indices():
    table, picks = gx.parameter("table", X), gx.input("picks", (2,), "int32")
    rows = gx.compile([picks], nn.embedding(picks, table))
    np.testing.assert_array_equal(rows([5, 0]), X[[5, 0]].astype("f"))
    with pytest.raises(GraphcError, match=r"picks\[1\] is 6, expected 0 <= index < 6"):
        rows([0, 6])


def test_ints_become_float32():
    n = gx.input("n", (3, 4), "int32")
    for build in (nn.softmax, nn.gelu, nn.hard_tanh, lambda x: nn.layer_norm(x, 4), lambda x: nn.huber(x, 1)):
        assert build(n).dtype.value == "float32"


WRONG = {
    "labels are floats": (lambda x: nn.nll(x, np.zeros(6)), DTypeError, "nll: labels must be integers"),
    "labels do not fit": (lambda x: nn.softmax_cross_entropy(x, np.zeros((5,), int)), ShapeError, "labels of shape .5,. do not fit scores"),
    "distributions do not fit": (lambda x: nn.softmax_cross_entropy(x, np.zeros(6)), ShapeError, "distributions of shape"),
    "smoothing": (lambda x: nn.softmax_cross_entropy(x, LABELS, label_smoothing=2), GraphError, "label_smoothing must be from 0 to 1"),
    "gelu": (lambda x: nn.gelu(x, approximate="erf"), GraphError, 'must be "none" or "tanh", got \'erf\''),
    "prelu": (lambda x: nn.prelu(x, np.ones(6)), ShapeError, "one for each channel"),
    "glu": (nn.glu, ShapeError, "glu halves axis -1"),
    "maxout": (lambda x: nn.maxout(x, 2), ShapeError, "maxout of 2 pieces"),
    "hard_tanh": (lambda x: nn.hard_tanh(x, 1, 1), GraphError, "min_val < max_val"),
    "huber": (lambda x: nn.huber(x, x, delta=0), GraphError, "huber: delta must be positive, got 0"),
    "linear": (lambda x: nn.linear(x, np.ones((5, 4))), ShapeError, "linear: weight of shape"),
    "bias": (lambda x: nn.linear(x, np.ones((4, 5)), np.ones(5)), ShapeError, r"bias has shape \(5,\), expected \(4,\)"),
    "embedding": (lambda x: nn.embedding(x, x), DTypeError, "embedding: indices must be integers"),
    "normalized_shape": (lambda x: nn.layer_norm(x, 6), ShapeError, "does not end with normalized_shape"),
    "weight": (lambda x: nn.rms_norm(x, 5, np.ones(4)), ShapeError, "rms_norm: weight has shape"),
    "one value": (lambda x: nn.batch_norm(x[:1], None, None, training=True), ShapeError, "more than one value"),
    "no statistics": (lambda x: nn.batch_norm(x, None, None), GraphError, "running_mean and running_var are needed"),
    "not a parameter": (lambda x: nn.batch_norm(x, x[0], x[0], training=True), GraphError, "running_mean must be a parameter"),
    "attention": (lambda x: nn.scaled_dot_product_attention(x, x, x[:2]), ShapeError, "do not fit"),
    "both masks": (lambda x: nn.scaled_dot_product_attention(x, x, x, np.ones((6, 6), bool), is_causal=True), GraphError, "not both"),
    "int mask": (lambda x: nn.scaled_dot_product_attention(x, x, x, np.ones((6, 6), int)), DTypeError, "bool or float"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_says_so(what):
    build, error, words = WRONG[what]
    with pytest.raises(error, match=words):
        build(gx.input("x", (6, 5)))


# --- PyTorch ------------------------------------------------------------------------------------------
def torch_cases(torch):
    F = torch.nn.functional
    labels = torch.tensor(LABELS.astype(np.int64))
    raw = {"reduction": "none"}
    same = "relu relu6 leaky_relu elu selu gelu silu mish softplus softsign"
    yield from ((name, getattr(nn, name), getattr(F, name), [POINTS]) for name in same.split())
    yield "log_sigmoid", nn.log_sigmoid, F.logsigmoid, [POINTS]
    yield "hard_sigmoid", nn.hard_sigmoid, F.hardsigmoid, [POINTS]
    yield "hard_swish", nn.hard_swish, F.hardswish, [POINTS]
    yield "hard_tanh", nn.hard_tanh, F.hardtanh, [POINTS]
    yield "celu", lambda x: nn.celu(x, alpha=0.5), lambda x: F.celu(x, alpha=0.5), [POINTS]
    yield "gelu, tanh", lambda x: nn.gelu(x, approximate="tanh"), lambda x: F.gelu(x, approximate="tanh"), [POINTS]
    yield "softplus, beta", lambda x: nn.softplus(x, beta=2, threshold=3), lambda x: F.softplus(x, 2, 3), [POINTS]
    yield "prelu", nn.prelu, F.prelu, [BLOCK, WEIGHT[:4]]
    yield "glu", lambda x: nn.glu(x, axis=1), lambda x: F.glu(x, 1), [BLOCK]
    yield "softmax", lambda x: nn.softmax(x, axis=0), lambda x: F.softmax(x, 0), [X]
    yield "log_softmax", nn.log_softmax, lambda x: F.log_softmax(x, -1), [X]
    yield "squared_error", nn.squared_error, lambda x, y: F.mse_loss(x, y, **raw), [X, Y]
    yield "absolute_error", nn.absolute_error, lambda x, y: F.l1_loss(x, y, **raw), [X, Y]
    yield "huber", nn.huber, lambda x, y: F.huber_loss(x, y, **raw), [X, Y]
    yield "huber, delta", lambda x, y: nn.huber(x, y, delta=2), lambda x, y: F.huber_loss(x, y, delta=2, **raw), [X, Y]
    yield "smooth_l1", lambda x, y: nn.smooth_l1(x, y, beta=2), lambda x, y: F.smooth_l1_loss(x, y, beta=2, **raw), [X, Y]
    yield "smooth_l1, beta=0", lambda x, y: nn.smooth_l1(x, y, beta=0), lambda x, y: F.smooth_l1_loss(x, y, beta=0, **raw), [X, Y]
    yield "bce", nn.sigmoid_binary_cross_entropy, lambda x, y: F.binary_cross_entropy_with_logits(x, y, **raw), [X * 9, P]
    yield "poisson_nll", nn.poisson_nll, lambda x, y: F.poisson_nll_loss(x, y, **raw), [X, 9 * P]
    yield "poisson_nll, full", lambda x, y: nn.poisson_nll(x, y, full=True), lambda x, y: F.poisson_nll_loss(x, y, full=True, **raw), [X, 9 * P]
    yield "poisson_nll of rates", lambda x, y: nn.poisson_nll(x, y, log_input=False), lambda x, y: F.poisson_nll_loss(x, y, log_input=False, **raw), [P, 9 * Q]
    yield "gaussian_nll", lambda x, y, v: nn.gaussian_nll(x, y, v, full=True, eps=0.2), lambda x, y, v: F.gaussian_nll_loss(x, y, v, full=True, eps=0.2, **raw), [X, Y, P]
    yield "hinge", nn.hinge, lambda x, y: torch.relu(1 - x * y), [X, SIGNS]
    yield "cross entropy", lambda x: nn.softmax_cross_entropy(x, LABELS, 0.2), lambda x: F.cross_entropy(x, labels, label_smoothing=0.2, **raw), [X]
    yield "cross entropy of distributions", lambda x, p: nn.softmax_cross_entropy(x, p, 0.2), lambda x, p: F.cross_entropy(x, p, label_smoothing=0.2, **raw), [X, P]
    yield "nll", lambda x: nn.nll(x, LABELS), lambda x: F.nll_loss(x, labels, **raw), [X]
    yield "multiclass_hinge", lambda x: nn.multiclass_hinge(x, LABELS, margin=2), lambda x: 5 * F.multi_margin_loss(x, labels, margin=2, **raw), [X]
    yield "kl_divergence", nn.kl_divergence, lambda x, y: F.kl_div(x, y, **raw).sum(-1), [np.log(P), Q]
    yield "cosine_similarity", nn.cosine_similarity, lambda x, y: F.cosine_similarity(x, y, dim=-1), [X * [[0], [1], [1], [1], [1], [1]], Y]
    yield "linear", nn.linear, F.linear, [BLOCK, MATRIX, WEIGHT[:3]]
    yield "embedding", lambda t: nn.embedding(LABELS, t), lambda t: F.embedding(labels, t), [X]
    yield "layer_norm", lambda x, w, b: nn.layer_norm(x, 5, w, b), lambda x, w, b: F.layer_norm(x, (5,), w, b), [BLOCK, WEIGHT, BIAS]
    yield "layer_norm of two axes", lambda x, w: nn.layer_norm(x, (3, 5), w), lambda x, w: F.layer_norm(x, (3, 5), w), [BLOCK, X[:3]]
    yield "rms_norm", lambda x, w: nn.rms_norm(x, 5, w), lambda x, w: F.rms_norm(x, (5,), w), [BLOCK, WEIGHT]
    yield "batch_norm", lambda x, w, b: nn.batch_norm(x, None, None, w, b, training=True)[0], lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [BLOCK, WEIGHT[:4], BIAS[:4]]
    attend, theirs, qkv = nn.scaled_dot_product_attention, F.scaled_dot_product_attention, [QUERIES, KEYS, VALUES]
    yield "attention", attend, theirs, qkv
    yield "attention, causal", lambda *a: attend(*a, is_causal=True, scale=0.4), lambda *a: theirs(*a, is_causal=True, scale=0.4), qkv
    yield "attention, masked", lambda *a: attend(*a, attn_mask=MASK), lambda *a: theirs(*a, attn_mask=torch.tensor(MASK)), qkv
    yield "attention, added mask", attend, theirs, [*qkv, np.where(MASK, 0.3, -np.inf)]


SINGLE = {"hard_sigmoid": 1e-7}  # its slope of 1/6 is a float32 in PyTorch


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_values_and_gradients_are_pytorchs():
    torch = pytest.importorskip("torch")
    assert_values_and_gradients_are_pytorchs(torch, torch_cases(torch), SINGLE)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_running_statistics_are_pytorchs():
    torch = pytest.importorskip("torch")
    mean, var = gx.parameter("mean", np.zeros(4), "float64", trainable=False), gx.parameter("var", np.ones(4), "float64", trainable=False)
    x = gx.input("x", BLOCK.shape, "float64")
    y, updates = nn.batch_norm(x, mean, var, training=True)
    f = gx.compile([x], y, updates, backend="numpy")
    theirs = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    for shift in range(3):
        f(BLOCK + shift)
        torch.nn.functional.batch_norm(torch.tensor(BLOCK + shift), *theirs, training=True)
    np.testing.assert_allclose(mean.value, theirs[0], rtol=1e-12)
    np.testing.assert_allclose(var.value, theirs[1], rtol=1e-12)
