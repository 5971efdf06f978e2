"""Symbolic gradients against central differences in float64, along one random direction, and again for the second order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import graphc as gx
from graphc.evaluate import evaluate
from graphc.ir import REGISTRY
from graphc.ops.pointwise import Pointwise
from graphc.types import GradientError, GraphError

DIFFERENTIABLE = [
    op for op in REGISTRY.values() if isinstance(op, Pointwise) and op.takes in ("float", "number", "select")
]


def directional(f, inputs, values, direction, h=1e-5):
    """The derivative of the scalar ``f`` along ``direction``, numerically."""
    ends = []
    for sign in (1, -1):
        moved = [v + sign * h * d for v, d in zip(values, direction, strict=True)]
        ends.append(float(evaluate(f, dict(zip(inputs, moved, strict=True)))))
    return (ends[0] - ends[1]) / (2 * h)


def check(build, shapes, domains=None, order=2, seed=0):
    """``build`` maps float64 inputs of ``shapes`` to a node; its weighted sum is differentiated ``order`` times."""
    rng = np.random.default_rng(seed)
    domains = domains or [(-2.0, 2.0)] * len(shapes)
    inputs = [gx.input(f"x{k}", shape, dtype="float64") for k, shape in enumerate(shapes)]
    values = [rng.uniform(low, high, shape) for shape, (low, high) in zip(shapes, domains, strict=True)]
    y = build(*inputs)
    f = gx.sum(y * rng.standard_normal(y.shape))
    for _ in range(order):
        direction = [rng.standard_normal(shape) for shape in shapes]
        feeds = dict(zip(inputs, values, strict=True))
        slopes = gx.grad(f, inputs)
        symbolic = sum(float((evaluate(g, feeds) * d).sum()) for g, d in zip(slopes, direction, strict=True))
        numeric = directional(f, inputs, values, direction)
        scale = max(abs(numeric), sum(float(np.abs(evaluate(g, feeds) * d).sum()) for g, d in zip(slopes, direction, strict=True)), 1e-3)
        assert abs(symbolic - numeric) <= 1e-6 * scale, (symbolic, numeric)
        f = sum((gx.sum(g * d) for g, d in zip(slopes, direction, strict=True)), start=gx.constant(0.0, "float64"))


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_pointwise(op):
    if op.takes == "select":
        check(lambda c, a, b: op(c > 0, a, b), [(5,)] * 3, list(op.domain))
    else:
        check(op, [(7,)] * op.arity, list(op.domain))


STRUCTURAL = {
    "broadcast": (lambda x: gx.broadcast_to(x, (4, 3, 2)) * np.arange(24.0).reshape(4, 3, 2), [(3, 1)]),
    "reshape": (lambda x: gx.reshape(x, (3, 4)) ** 2, [(2, 6)]),
    "transpose": (lambda x: gx.transpose(x, (2, 0, 1)) ** 2, [(2, 3, 4)]),
    "slices": (lambda x: x[1:, ::-2] * x[:-1, 1::2], [(4, 6)]),
    "overlapping slices": (lambda x: (x[1:] - x[:-1]) ** 2, [(7,)]),
    "sum": (lambda x: gx.sum(x**3, axis=1, keepdims=True) * x, [(3, 4)]),
    "mean": (lambda x: gx.mean(x**3, axis=(0, 2)), [(3, 4, 2)]),
    "max": (lambda x: gx.max(x, axis=1) ** 2, [(5, 6)]),
    "min": (lambda x: gx.min(x, axis=(0, 1)) ** 2, [(5, 6)]),
    "take": (lambda x: gx.take_along_axis(x, np.array([[2], [0], [1]]), 1) ** 2, [(3, 4)]),
    "take several": (lambda x: gx.take_along_axis(x, np.array([[2, 2], [0, 3]]), 1) ** 2, [(2, 4)]),
    "matmul": (lambda a, b: (a @ b) ** 2, [(3, 4), (4, 2)]),
    "matmul of vectors": (lambda a, b: (a @ b) ** 2, [(4,), (4,)]),
    "matmul, batched": (lambda a, b: (a @ b) ** 2, [(2, 1, 3, 4), (5, 4, 2)]),
    "matmul with itself": (lambda a: a @ a @ a, [(3, 3)]),
    "power": (lambda a: a**-2 + a**0.5 + a**3, [(4,)], [(0.5, 2.0)]),
    "sigmoid net": (lambda X, W, v: gx.nn.sigmoid(X @ W) @ v, [(3, 4), (4, 5), (5,)]),
}


@pytest.mark.parametrize("name", STRUCTURAL)
def test_structural(name):
    check(*STRUCTURAL[name])


LABELS = np.array([0, 3, 1, 3, 2], np.int32)
NN = {
    "softmax": lambda x: gx.nn.softmax(x),
    "log_softmax": lambda x: gx.nn.log_softmax(x),
    "log of softmax": lambda x: gx.log(gx.nn.softmax(x, axis=0)),
    "softmax_cross_entropy": lambda x: gx.nn.softmax_cross_entropy(x, LABELS),
    "smoothed": lambda x: gx.nn.softmax_cross_entropy(x, LABELS, label_smoothing=0.2),
    "multiclass_hinge": lambda x: gx.nn.multiclass_hinge(x, LABELS),
    "squared_error": lambda x: gx.nn.squared_error(x, 0.5),
    "prelu": lambda x: gx.nn.prelu(x, [0.1, 0.2, 0.3, 0.4]),
    "gelu, tanh": lambda x: gx.nn.gelu(x, approximate="tanh"),
    "softplus": lambda x: gx.nn.softplus(x, beta=2, threshold=3),
    "leaky_relu": lambda x: gx.nn.leaky_relu(x, 0.1),
    "celu": lambda x: gx.nn.celu(x, alpha=0.3),
    "glu": lambda x: gx.nn.glu(x),
    "maxout": lambda x: gx.nn.maxout(x, 2),
    **{name: getattr(gx.nn, name) for name in
       "relu relu6 elu selu gelu silu mish softsign log_sigmoid hard_sigmoid hard_tanh hard_swish sigmoid tanh".split()},
    "nll": lambda x: gx.nn.nll(x, LABELS),
    "rms_norm": lambda x: gx.nn.rms_norm(x, 4),
    "batch_norm": lambda x: gx.nn.batch_norm(x, None, None, training=True)[0],
}  # fmt: skip
NN_OF_SEVERAL = {
    "absolute_error": (gx.nn.absolute_error, [(5, 4), (5, 4)]),
    "huber": (lambda x, y: gx.nn.huber(x, y, delta=0.7), [(5, 4), (5, 4)]),
    "smooth_l1": (lambda x, y: gx.nn.smooth_l1(x, y, beta=0.7), [(5, 4), (5, 4)]),
    "sigmoid_binary_cross_entropy": (gx.nn.sigmoid_binary_cross_entropy, [(5, 4), (5, 4)]),
    "hinge": (gx.nn.hinge, [(9,), (9,)]),
    "poisson_nll": (lambda x, y: gx.nn.poisson_nll(x, y, full=True), [(5, 4), (5, 4)]),
    "poisson_nll of rates": (lambda x, y: gx.nn.poisson_nll(x * x, y, log_input=False), [(5, 4), (5, 4)]),
    "gaussian_nll": (lambda x, y, v: gx.nn.gaussian_nll(x, y, v * v), [(5, 4), (5, 4), (5, 1)]),
    "distributions": (lambda x, p: gx.nn.softmax_cross_entropy(x, gx.nn.softmax(p), label_smoothing=0.1), [(5, 4), (5, 4)]),
    "kl_divergence": (lambda x, p: gx.nn.kl_divergence(gx.nn.log_softmax(x), gx.nn.softmax(p)), [(5, 4), (5, 4)]),
    "cosine_similarity": (gx.nn.cosine_similarity, [(5, 4), (5, 4)]),
    "linear": (gx.nn.linear, [(2, 5, 4), (3, 4), (3,)]),
    "embedding": (lambda table: gx.nn.embedding(np.array([[0, 2], [2, 1]]), table) ** 2, [(3, 4)]),
    "layer_norm": (lambda x, w, b: gx.nn.layer_norm(x, 4, w, b), [(5, 4), (4,), (4,)]),
    "layer_norm of two axes": (lambda x, w, b: gx.nn.layer_norm(x, (3, 2), w, b), [(4, 3, 2), (3, 2), (3, 2)]),
    "rms_norm": (lambda x, w: gx.nn.rms_norm(x, (4,), w), [(5, 4), (4,)]),
    "batch_norm": (lambda x, w, b: gx.nn.batch_norm(x, None, None, w, b, training=True)[0], [(3, 2, 4), (2,), (2,)]),
    "batch_norm, running": (lambda x, m, v: gx.nn.batch_norm(x, m, v * v)[0], [(3, 2, 4), (2,), (2,)]),
    "attention": (gx.nn.scaled_dot_product_attention, [(2, 3, 4), (2, 5, 4), (2, 5, 3)]),
    "attention, causal": (lambda q, k, v: gx.nn.scaled_dot_product_attention(q, k, v, is_causal=True), [(4, 2), (4, 2), (4, 3)]),
    "attention, bool mask": (lambda q, k, v: gx.nn.scaled_dot_product_attention(q, k, v, MASK), [(4, 2), (5, 2), (5, 3)]),
    "attention, added mask": (gx.nn.scaled_dot_product_attention, [(4, 2), (5, 2), (5, 3), (4, 5)]),
}
MASK = np.array([[1, 0, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], bool)  # one query has no key


@pytest.mark.parametrize("name", NN)
def test_nn(name):
    check(NN[name], [(5, 4)])


@pytest.mark.parametrize("name", NN_OF_SEVERAL)
def test_nn_of_several(name):
    check(*NN_OF_SEVERAL[name])


ACTIVATIONS = ["relu", "leaky_relu", "elu", "tanh", "sigmoid"]


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "maxout"])
@pytest.mark.parametrize("layers", [(6, 8, 4), (6, 8, 6, 4)])
def test_nets(activation, layers):
    X = np.random.default_rng(1).standard_normal((5, layers[0]))
    act = (lambda h: gx.nn.maxout(h, 2)) if activation == "maxout" else getattr(gx.nn, activation)
    widths = [(n, 2 * m if activation == "maxout" and m != layers[-1] else m) for n, m in pairwise(layers)]

    def net(*parameters):
        h = gx.constant(X, "float64")
        for W, b in zip(parameters[::2], parameters[1::2], strict=True):
            h = h @ W + b
            h = act(h) if W is not parameters[-2] else h
        return gx.nn.softmax_cross_entropy(h, LABELS)

    check(net, [shape for n, m in widths for shape in ((n, m), (m,))], order=1)


def test_linear_classifiers():
    X = np.random.default_rng(1).standard_normal((5, 6))
    for loss in (gx.nn.softmax_cross_entropy, gx.nn.multiclass_hinge):
        check(lambda W, b, loss=loss: loss(gx.constant(X, "float64") @ W + b, LABELS), [(6, 4), (4,)], order=1)


# --- what gradients mean -----------------------------------------------------------------------------------
def test_circuit_of_the_lecture():
    for dtype in ("float32", "float64"):
        x, y, z = (gx.input(name, dtype=dtype) for name in "xyz")
        f = (x + y) * z
        first = gx.grad(f, [x, y, z])
        second = [gx.grad(g, [x, y, z]) for g in first]
        feeds = {"x": -2, "y": 5, "z": -4}
        assert [evaluate(node, feeds).item() for node in (f, *first)] == [-12, -4, -4, 3]
        hessian = [[evaluate(node, feeds).item() for node in row] for row in second]
        assert hessian == [[0, 0, 1], [0, 0, 1], [1, 1, 0]]


def test_ties_share():
    x = gx.input("x", (4,))
    feeds = {"x": np.array([1, 3, 3, 2])}
    assert evaluate(gx.grad(gx.max(x), x), feeds).tolist() == [0, 0.5, 0.5, 0]
    assert evaluate(gx.grad(gx.sum(gx.maximum(x, 3)), x), feeds).tolist() == [0, 0.5, 0.5, 0]
    assert evaluate(gx.grad(gx.sum(gx.nn.relu(x - 1)), x), feeds).tolist() == [0, 1, 1, 1]


def test_not_reached_is_zero():
    x, y = gx.input("x", (2, 3)), gx.input("y")
    zero = gx.grad(y * y, x)
    assert zero.shape == (2, 3)
    assert not evaluate(zero).any()
    assert not evaluate(gx.grad(gx.sum(gx.stop_gradient(x) * 2), x)).any()


def test_vjp_takes_a_cotangent():
    x = gx.input("x", (3,))
    g = gx.vjp(x * x, x, [1, 10, 100])
    assert evaluate(g, {"x": [1, 2, 3]}).tolist() == [2, 40, 600]


@pytest.mark.parametrize("what", ["vector", "int", "not a node"])
def test_what_has_no_gradient(what):
    x = gx.input("x", (3,))
    output = {"vector": x, "int": gx.argmax(x), "not a node": 3.0}[what]
    with pytest.raises(GradientError, match="grad"):
        gx.grad(output, x)


def test_stop_gradient_takes_a_node():
    with pytest.raises(GraphError, match=r"takes a node, got \[1\]"):
        gx.stop_gradient([1])


def test_gradient_with_respect_to_an_intermediate():
    x = gx.input("x")
    h = gx.tanh(x)
    assert evaluate(gx.grad(h * h * x, h), {"x": 0.3}).item() == pytest.approx(2 * np.tanh(0.3) * 0.3)
