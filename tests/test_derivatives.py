"""Jacobians, Hessians and products with them: against differences, closed forms, one another, and JAX on demand."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.ir import NO_GRADIENT, REGISTRY, Op, format_graph, make, register, toposort
from graphc.passes import units
from graphc.passes.derivatives import _columns
from graphc.passes.simplify import simplify
from graphc.types import GradientError

RNG = np.random.default_rng(0)
A, LABELS = RNG.standard_normal((4, 3)), np.array([0, 2, 1, 1])

# From float64 inputs of these shapes to a node, with every operation that knows about axes.
CASES = {
    "elementwise": (lambda x: gx.tanh(x) * x, [(4,)]),
    "of a scalar": (lambda x: gx.exp(x) * np.arange(3.0), [()]),
    "to a scalar": (lambda x: gx.sum(gx.sin(x)), [(3, 2)]),
    "scalar to scalar": (lambda x: x**3, [()]),
    "linear": (lambda x: A @ x, [(3,)]),
    "linear, of rows": (lambda X: X @ A.T, [(2, 3)]),
    "both sides": (lambda X: A @ X @ A, [(3, 4)]),
    "residual": (lambda w: gx.sigmoid(A @ w) - 0.5, [(3,)]),
    "net": (lambda W, v: gx.tanh(A @ W) @ v, [(3, 5), (5, 2)]),
    "quadratic": (lambda x: (x @ gx.constant(A.T @ A, "float64")) @ x, [(3,)]),
    "matrix square": (lambda X: X @ X, [(3, 3)]),
    "batched": (lambda a, b: a @ b, [(2, 1, 3, 2), (2, 2, 3)]),
    "broadcast": (lambda x: gx.broadcast_to(x, (4, 2, 3)) * np.arange(24.0).reshape(4, 2, 3), [(2, 1)]),
    "reshape": (lambda x: gx.reshape(gx.reshape(x, (3, 4)) ** 2, (2, 3, 2)), [(2, 6)]),
    "reshape that keeps an axis": (lambda x: gx.reshape(x, (2, 3, 4)) ** 2, [(6, 4)]),
    "transpose": (lambda x: gx.transpose(x, (2, 0, 1)) ** 2, [(2, 3, 4)]),
    "slices": (lambda x: x[1:, ::-2] * x[:-1, 1::2], [(3, 4)]),
    "slice of whole rows": (lambda x: x[1:] ** 2, [(3, 4)]),
    "differences": (lambda x: x[1:] - x[:-1] ** 2, [(6,)]),
    "sums": (lambda x: gx.sum(x**2, axis=1, keepdims=True) * x, [(3, 4)]),
    "mean of columns": (lambda x: gx.mean(x**3, axis=(0, 2)), [(3, 4, 2)]),
    "max": (lambda x: gx.max(x, axis=1) * x[:, 0], [(4, 5)]),
    "take": (lambda x: gx.take_along_axis(x, np.array([[2], [0], [1]]), 1) ** 2, [(3, 4)]),
    "take several": (lambda x: gx.take_along_axis(x, np.array([[2, 2], [0, 3]]), 1) ** 2, [(2, 4)]),
    "choices": (lambda x: gx.where(x > 0, x**2, -x) + gx.maximum(x, 0.25), [(5,)]),
    "softmax": (lambda x: gx.nn.softmax(x), [(2, 4)]),
    "cross entropy": (lambda x: gx.nn.softmax_cross_entropy(x, LABELS), [(4, 3)]),
    "several": (lambda a, b, c: a * gx.sum(b) + b[:2] * c, [(2,), (3,), ()]),
    "no elements": (lambda x: x[:0] * 2, [(3,)]),
}  # fmt: skip


def case(name):
    build, shapes = CASES[name]
    inputs = [gx.input(f"x{k}", shape, "float64") for k, shape in enumerate(shapes)]
    feeds = {node.name: RNG.uniform(0.5, 2.0, node.shape) * RNG.choice([-1, 1], node.shape) for node in inputs}
    return build(*inputs), inputs, feeds


def differences(y, x, feeds, h=1e-5):
    """The Jacobian by central differences, column by column."""
    columns = []
    for place in np.ndindex(*x.shape):
        ends = []
        for sign in (1, -1):
            moved = np.array(feeds[x.name])
            moved[place] += sign * h
            ends.append(gx.evaluate(y, {**feeds, x.name: moved}))
        columns.append((ends[0] - ends[1]) / (2 * h))
    stacked = np.stack(columns, -1) if columns else np.zeros((*y.shape, 0))
    return np.reshape(stacked, (*y.shape, *x.shape))


def close(got, expected, tolerance=1e-7):
    scale = max(np.abs(expected).max(initial=0), 1e-3)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", CASES)
def test_jacobian(name):
    """By rows and by columns, against differences and against the gradient of each element."""
    y, inputs, feeds = case(name)
    by_rows = gx.jacobian(y, inputs)
    for x, found in zip(inputs, by_rows, strict=True):
        assert found.shape == y.shape + x.shape
        value = gx.evaluate(found, feeds)
        close(value, differences(y, x, feeds))
        rows = [gx.vjp(y, x, np.eye(y.size)[k].reshape(y.shape)) for k in range(y.size)]
        close(value, np.reshape(gx.evaluate(rows, feeds), found.shape), 1e-14)
        forward = _columns(y, x)
        close(gx.evaluate(forward, feeds), value, 1e-14)


@pytest.mark.parametrize("name", CASES)
def test_jvp_is_the_jacobian_times_the_tangent(name):
    y, inputs, feeds = case(name)
    tangents = [RNG.standard_normal(x.shape) for x in inputs]
    expected = sum(
        np.tensordot(gx.evaluate(j, feeds), t, x.ndim)
        for j, t, x in zip(gx.jacobian(y, inputs), tangents, inputs, strict=True)
    )
    close(gx.evaluate(gx.jvp(y, inputs, tangents), feeds), np.asarray(expected), 1e-13)


@pytest.mark.parametrize("name", [name for name in CASES if name != "no elements"])
def test_hessian(name):
    """Against differences of the gradient; symmetric; and its product with a vector."""
    y, inputs, feeds = case(name)
    f = gx.sum(gx.sin(y) * np.linspace(0.5, 1.5, y.size).reshape(y.shape))
    blocks = gx.hessian(f, inputs)
    vectors = [RNG.standard_normal(x.shape) for x in inputs]
    products = gx.evaluate(gx.hvp(f, inputs, vectors), feeds)
    for i, (x, slope) in enumerate(zip(inputs, gx.grad(f, inputs), strict=True)):
        total = 0
        for j, z in enumerate(inputs):
            assert blocks[i][j].shape == x.shape + z.shape
            value = gx.evaluate(blocks[i][j], feeds)
            close(value, differences(slope, z, feeds), 1e-6)
            turned = np.moveaxis(gx.evaluate(blocks[j][i], feeds), range(z.ndim), range(-z.ndim, 0) if z.ndim else ())
            close(value, turned, 1e-12)
            total = total + np.tensordot(value, vectors[j], z.ndim)
        close(products[i], np.asarray(total), 1e-12)
    single = gx.hessian(f, inputs[0])
    close(gx.evaluate(single, feeds), gx.evaluate(blocks[0][0], feeds), 1e-15)


def test_compiled():
    """All of it in one function in C."""
    nodes, feeds, inputs = {}, {}, {}
    for number, name in enumerate(CASES):
        build, shapes = CASES[name]
        own = [gx.input(f"x{number}_{k}", shape, "float64") for k, shape in enumerate(shapes)]
        feeds.update({x.name: RNG.uniform(-2.0, 2.0, x.shape) for x in own})
        inputs.update({x.name: x for x in own})
        y = build(*own)
        nodes.update({f"jacobian {name} {k}": j for k, j in enumerate(gx.jacobian(y, own))})
        nodes[f"hvp {name}"] = gx.hvp(gx.sum(gx.sin(y)), own[0], np.ones(own[0].shape))
        nodes[f"jvp {name}"] = gx.jvp(y, own[0], np.ones(own[0].shape))
    found = gx.compile(list(inputs.values()), nodes, name="derivatives")(**feeds)
    for (name, node), expected in zip(nodes.items(), gx.evaluate(list(nodes.values()), feeds), strict=True):
        close(np.asarray(found[name]).reshape(node.shape), expected, 1e-12)


# --- closed forms ---------------------------------------------------------------------------------------------
def test_rosenbrock():
    x = gx.input("x", (3,), "float64")
    f = gx.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    a, b, c = point = [-1.2, 1.0, 0.7]
    expected = [
        [1200 * a * a - 400 * b + 2, -400 * a, 0],
        [-400 * a, 202 + 1200 * b * b - 400 * c, -400 * b],
        [0, -400 * b, 200],
    ]
    np.testing.assert_allclose(gx.evaluate(gx.hessian(f, x), {"x": point}), expected, rtol=1e-13)


def test_any_order():
    x = gx.input("x", (), "float64")
    y = gx.exp(2 * x)
    for order in range(1, 7):
        y = [gx.grad, lambda f, x: gx.jvp(f, x, 1.0), gx.jacobian][order % 3](y, x)
        assert gx.evaluate(y, {"x": 0.25}).item() == pytest.approx(2**order * np.exp(0.5), rel=1e-13)
    v = gx.input("v", (2,), "float64")
    third = gx.jacobian(gx.hessian(v[0] ** 2 * v[1] ** 2, v), v)
    expected = np.zeros((2, 2, 2))
    for i, j, k in np.ndindex(2, 2, 2):
        expected[i, j, k] = {1: 4 * 5.0, 2: 4 * 3.0}.get(i + j + k, 0)  # d3/dx dx dy = 4 y, d3/dx dy dy = 4 x
    np.testing.assert_allclose(gx.evaluate(third, {"v": [3.0, 5.0]}), expected)


def test_zero_where_not_reached():
    x, y = gx.input("x", (3,)), gx.input("y", (2,))
    steps = gx.astype(x > 0, "float32") * 2
    for output in (y * y, gx.stop_gradient(x), steps, gx.astype(gx.argmax(x), "float32")):
        jacobian = gx.jacobian(output, x)
        assert jacobian.shape == output.shape + x.shape
        assert not gx.evaluate(jacobian, {"x": [1, 2, 3], "y": [4, 5]}).any()
        assert not gx.evaluate(gx.jvp(output, x, np.ones(3)), {"x": [1, 2, 3], "y": [4, 5]}).any()
    assert not gx.evaluate(gx.hessian(gx.sum(x) * gx.sum(y), x), {"x": [1, 2, 3], "y": [4, 5]}).any()
    assert gx.evaluate(gx.hessian(gx.sum(x) * gx.sum(y), [x, y])[0][1]).tolist() == [[1, 1]] * 3


def test_intermediate_nodes_and_several_outputs():
    x = gx.input("x", (2,), "float64")
    h = gx.tanh(x)
    assert gx.evaluate(gx.jacobian(h * h, h), {"x": [0.3, 0.4]}) == pytest.approx(np.diag(2 * np.tanh([0.3, 0.4])))
    first, second = gx.jvp([h, gx.sum(h) * x], x, [1.0, 0.0])
    slope = 1 - np.tanh(0.3) ** 2
    assert gx.evaluate(first, {"x": [0.3, 0.4]}) == pytest.approx([slope, 0])
    total = np.tanh(0.3) + np.tanh(0.4)
    assert gx.evaluate(second, {"x": [0.3, 0.4]}) == pytest.approx([slope * 0.3 + total, slope * 0.4])
    both = gx.vjp([h, h, x * 2], x, [[1.0, 0], [2.0, 0], [0, 1.0]])
    assert gx.evaluate(both, {"x": [0.3, 0.4]}) == pytest.approx([3 * slope, 2])


# --- what the graphs look like ----------------------------------------------------------------------------------
def operations(nodes):
    return [node.op.name for node in toposort(simplify(nodes))]


def test_a_linear_map_is_its_own_jacobian():
    x, matrix = gx.input("x", (30,)), gx.input("matrix", (200, 30))
    assert simplify([gx.jacobian(matrix @ x + 1, x)]) == [matrix]
    assert simplify([gx.hessian(x @ (matrix.T @ matrix) @ x, x)])[0].shape == (30, 30)


def test_a_residual_costs_its_elements():
    """No sum and no product beyond those of the function itself, whichever side is smaller."""
    for rows, columns in ((200, 30), (30, 200)):
        w, X = gx.input("w", (columns,)), gx.input("X", (rows, columns))
        residual = gx.tanh(X @ w) - 0.5
        found = operations([gx.jacobian(residual, w)])
        assert found.count("contract") == 1, format_graph([gx.jacobian(residual, w)])
        assert "sum" not in found
        assert "equal" not in found  # no unit vector is written out either


def test_size_of_the_graph_does_not_depend_on_the_shapes():
    def count(n):
        x = gx.input("x", (n,))
        f = gx.sum((x[1:] - x[:-1] ** 2) ** 2) + gx.sum(gx.nn.softmax(x) ** 2)
        return len(toposort([gx.hessian(f, x)]))

    assert count(7) == count(700)


def test_an_operation_without_a_rule(monkeypatch):
    """It is written once for each row, up to a limit that the error names."""
    swap = register(Op("swap halves", lambda x: x, lambda x, *, type: np.roll(x, x.shape[0] // 2), lambda g, y, x: [make(swap, g)]))
    try:
        x = gx.input("x", (4,), "float64")
        y = make(swap, x**2) * np.arange(1.0, 5)
        close(gx.evaluate(gx.jacobian(y, x), {"x": [1.0, 2, 3, 4]}), differences(y, x, {"x": np.array([1.0, 2, 3, 4])}))
        monkeypatch.setattr(units, "LARGEST_UNROLLED", 3)
        with pytest.raises(GradientError, match=r"swap halves .* 4 elements, of at most 3; take single rows with graphc\.vjp"):
            gx.jacobian(y, x)
    finally:
        del REGISTRY["swap halves"]


def test_refusals():
    x, n = gx.input("x", (3,)), gx.input("n", (3,), "int32")
    rough = register(Op("rough", lambda x: x, lambda x, *, type: np.round(x), NO_GRADIENT))
    try:
        y = make(rough, x) * 2
        for call in (lambda: gx.jacobian(y, x), lambda: gx.jvp(y, x, np.ones(3)), lambda: gx.hessian(gx.sum(y), x)):
            with pytest.raises(GradientError, match="rough has no gradient"):
                call()
    finally:
        del REGISTRY["rough"]
    for call, words in [
        (lambda: gx.jacobian(n, x), "cannot differentiate <n: int32"),
        (lambda: gx.jacobian(x, n), "with respect to <n: int32"),
        (lambda: gx.jacobian([x], x), "jacobian takes a node"),
        (lambda: gx.jvp(x, x, [1.0]), r"the tangent for <x: float32\[3\]> has shape \(1,\), expected \(3,\)"),
        (lambda: gx.hvp(gx.sum(x), [x], [[1.0]]), r"the vector for <x: float32\[3\]> has shape \(1,\), expected \(3,\)"),
        (lambda: gx.jvp(x, [3.0], [1.0]), "cannot differentiate 3.0"),
        (lambda: gx.vjp(x, 3.0, x), "with respect to 3.0"),
        (lambda: gx.jvp(x, [x], []), "1 nodes need as many tangents, got 0"),
        (lambda: gx.jvp(3.0, x, np.ones(3)), "cannot differentiate 3.0"),
        (lambda: gx.vjp([x, x], x, [np.ones(3)]), "2 outputs need as many cotangents, got 1"),
        (lambda: gx.hessian(x, x), "needs a float scalar"),
        (lambda: gx.hvp(x, x, np.ones(3)), "needs a float scalar"),
    ]:
        with pytest.raises(GradientError, match=words):
            call()


def test_a_long_chain():
    x = gx.input("x", (2,))
    y = x
    for _ in range(3000):
        y = gx.sin(y) * 1.0001
    assert np.isfinite(gx.evaluate(gx.jacobian(y, x), {"x": [0.5, 0.25]})).all()
    assert np.isfinite(gx.evaluate(gx.jvp(y, x, [1, 1]), {"x": [0.5, 0.25]})).all()


@pytest.mark.peers
@pytest.mark.parametrize("name", ["net", "softmax", "matrix square", "differences"])
def test_against_jax(name):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    functions = {
        "net": lambda W, v: jnp.tanh(A @ W) @ v,
        "softmax": lambda x: jax.nn.softmax(x),
        "matrix square": lambda X: X @ X,
        "differences": lambda x: x[1:] - x[:-1] ** 2,
    }
    y, inputs, feeds = case(name)
    given = list(feeds.values())
    places = tuple(range(len(inputs)))
    expected = jax.jacobian(functions[name], places)(*given)
    for mine, theirs in zip(gx.jacobian(y, inputs), expected, strict=True):
        close(gx.evaluate(mine, feeds), np.asarray(theirs), 1e-13)
    scalar = jax.hessian(lambda *args: jnp.sum(jnp.sin(functions[name](*args))), places)(*given)
    for mine, theirs in zip(gx.hessian(gx.sum(gx.sin(y)), inputs), scalar, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            close(gx.evaluate(one, feeds), np.asarray(other), 1e-12)
