"""What the schedule decides: what is fused, what is written in place, and a case that a compiler got wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc as gx
from graphc.compile import freeze
from graphc.pipeline import stages
from graphc.schedule.kernels import CheckKernel, ContractKernel, CopyKernel, LoopKernel


def schedule(outputs, updates, inputs=()):
    return stages(freeze(list(inputs), tuple(outputs), tuple(f"o{k}" for k in range(len(outputs))), "list", updates, "f"))[2]


def test_a_net_is_a_few_kernels():
    W1, b1 = gx.parameter("W1", gx.init.he_normal((64, 32), seed=0)), gx.parameter("b1", np.zeros(32))
    W2, b2 = gx.parameter("W2", gx.init.he_normal((32, 10), seed=1)), gx.parameter("b2", np.zeros(10))
    X, labels = gx.input("X", (16, 64)), gx.input("labels", (16,), dtype="int32")
    loss = gx.mean(gx.nn.softmax_cross_entropy(gx.nn.relu(X @ W1 + b1) @ W2 + b2, labels))
    step = gx.train_step(loss, gx.optim.SGD(0.1, momentum=0.9), name="net")
    kinds = [kernel.kind for kernel in step.kernels]
    assert kinds.count("contraction") == 5  # two forward, three backward; bias, mask and update are in their store steps
    assert kinds.count("loops") == 3  # softmax with its gradient, and the two biases
    assert "copy" not in kinds


def test_dropout_is_the_bits_and_no_other_pass():
    """The bits of a mask are drawn once, and applied in the kernels that there are anyway, forward and backward."""
    W, V = gx.parameter("W", np.ones((64, 32))), gx.parameter("V", np.ones((32, 10)))
    X, labels = gx.input("X", (16, 64)), gx.input("labels", (16,), dtype="int32")

    def kernels(p):
        hidden = gx.nn.dropout(gx.nn.relu(gx.nn.dropout(X, p) @ W), p)
        loss = gx.mean(gx.nn.softmax_cross_entropy(hidden @ V, labels))
        return gx.train_step(loss, gx.optim.SGD(0.1), name="net").kernels

    without, masked = kernels(0), kernels(0.5)
    assert [kernel.kind for kernel in masked].count("contraction") == [kernel.kind for kernel in without].count("contraction") == 5
    assert sorted({k.name for k in masked} - {k.name for k in without}) == ["bits", "bits_2", "new_random.step"]
    x, g = gx.input("x", (50, 60)), gx.input("g", (50, 60))
    y = gx.nn.dropout(gx.tanh(x), 0.3)
    assert [k.name for k in gx.compile([x, g], [y, gx.vjp(y, x, g)]).kernels] == ["bits", "new_random.step", "output_1"]


def test_an_element_of_a_row_buffer_is_read_in_each_round():
    """At a fixed place of the row, twice: not a value that is the same in every round."""
    x = gx.input("x", (40, 2))
    row = gx.exp(x) * x + 1
    area = row[:, 0] * row[:, 1]
    total = gx.sum(gx.square(row), 1)
    outputs = [gx.where((total > area)[:, None], row, x), gx.log(total) + area * area]
    value = np.random.default_rng(0).normal(size=(40, 2)).astype("f")
    native, reference = (gx.compile([x], outputs, backend=backend) for backend in ("native", "numpy"))
    assert len(native.kernels) == 1
    for got, wanted in zip(native(value), reference(value), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_in_place_where_the_old_value_is_not_needed():
    W, V = gx.parameter("W", np.ones((3, 3))), gx.parameter("V", np.ones((3, 3)))
    assert set(schedule([], {W: W - 0.1 * W}).aliases.values()) == {"W"}
    assert set(schedule([gx.sum(W)], {W: W * 2}).aliases.values()) == {"W"}
    for updates in ({W: W.T * 2}, {W: W @ W}, {W: gx.sum(W) + W[::-1]}):
        made = schedule([], updates)
        assert not made.aliases
        assert any(isinstance(kernel, CopyKernel) for kernel in made.kernels)
    swapped = schedule([], {W: V, V: W})
    assert sum(isinstance(kernel, CopyKernel) for kernel in swapped.kernels) >= 1


def test_readers_come_before_the_writer():
    W = gx.parameter("W", np.ones((8, 8)))
    X = gx.input("X", (4, 8))
    made = schedule([X @ W], {W: W - X.T @ X}, [X])
    writer = next(k for k in made.kernels if isinstance(k, ContractKernel) and k.name == "new_W")
    assert made.kernels.index(writer) == len(made.kernels) - 1


def test_a_softmax_is_one_pass():
    x = gx.input("x", (40, 100))
    (kernel,) = schedule([gx.nn.softmax(x)], {}, [x]).kernels
    assert isinstance(kernel, LoopKernel)
    assert kernel.outer == ((0, 40),)


@pytest.mark.parametrize("length", [33, 100, 600, 9000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_what_is_chosen(length, dtype):
    """gcc 12 miscompiles a sum in lanes of ``c ? a[i] : 0`` where the load stands inside of the choice."""
    rng = np.random.default_rng(0)
    a, b = gx.input("a", (5, length), dtype=dtype), gx.input("b", (5, length), dtype=dtype)
    outputs = [
        gx.sum(gx.where(b > 0, a, 0), axis=1),
        gx.sum(gx.where(b > 0, a * 2, b)),
        gx.sum(gx.where(b > 0, gx.where(a > 0, a, 0), -b), axis=0),
    ]
    given = [rng.standard_normal((5, length)).astype(dtype) for _ in range(2)]
    native = gx.compile([a, b], outputs, name="chosen")(*given)
    reference = gx.compile([a, b], outputs, name="chosen", backend="numpy")(*given)
    for got, expected in zip(native, reference, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("shape", [(1000, 30), (37, 16), (75, 49), (64, 201)])
def test_rows_of_a_strip_are_added_up_together_and_their_columns_in_registers(shape, plain, dtype):
    """A linear model reads each row once: many sums by one fold of vectors, the gradient some columns at a time. Where the
    matrix lies in memory as it is, helpers do both; where it is computed, loops over lanes."""
    M, y, w = gx.input("M", shape, dtype), gx.input("y", shape[:1], dtype), gx.input("w", shape[1:], dtype)
    X = M if plain else M * abs(M)
    loss = gx.sum(gx.logaddexp(0, X @ w) - y * (X @ w))
    both = gx.compile([M, y, w], [loss, gx.grad(loss, w)], name="both")
    assert [kernel.kind for kernel in both.kernels] == ["loops"]
    for text in ("_row_dots(M", "_column_dots(M"):
        assert (text in both.c_source) == plain
    assert ("_some[lane] = GX_FMA" in both.c_source) != plain
    if dtype == "float32":  # 16 lanes of 64 rows take too much in float64
        assert ("_row_sums(matmul_rows" in both.c_source) != plain
    rng = np.random.default_rng(0)
    feeds = {"M": rng.normal(size=shape), "y": rng.integers(0, 2, shape[0]), "w": rng.normal(size=shape[1]) / shape[1]}
    feeds = {name: value.astype(dtype) for name, value in feeds.items()}
    for got, want in zip(both(**feeds), gx.evaluate([loss, gx.grad(loss, w)], feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5 if dtype == "float32" else 1e-13, atol=2e-4 if dtype == "float32" else 1e-12)


def test_products_of_rows_have_the_bits_of_their_loops():
    """Also where all underflow to -0 (with a fused multiply-add): lanes past the end of a row add 0 * -0, not 0."""
    M, w = gx.input("M", (96, 45)), gx.input("w", (45,))

    def compiled(X):
        rows = X @ w
        return gx.compile([M, w], [gx.sum(gx.exp(rows) * rows), gx.sum(1 / rows)], name="rows")

    helper, loops = compiled(M), compiled(M * abs(M))
    assert "_row_dots(M" in helper.c_source
    assert "_row_dots(" not in loops.c_source
    draw = np.random.default_rng(0).uniform(0.5, 2, (96, 45)).astype(np.float32)
    for matrix, vector in ((draw, draw[0] - 1), (np.full_like(draw, 1e-15), np.full_like(draw[0], -1e-30))):
        assert helper(matrix * matrix, vector) == loops(matrix, vector)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(8, 2), (37, 10), (100, 15)])
def test_short_rows_go_side_by_side(shape, dtype):
    """The maxima and sums of short rows are taken in all rows of a strip at once; exp runs through their elements as one loop."""
    x, labels = gx.input("x", shape, dtype), gx.input("labels", shape[:1], "int32")
    loss = gx.mean(gx.nn.softmax_cross_entropy(x, labels))
    f = gx.compile([x, labels], [loss, gx.grad(loss, x)], name="short")
    together, added = ("x", "exp") if shape[1] == 2 else ("x_columns", "exp_columns")  # rows of 2 are a stride that compilers load with vectors
    assert re.search(rf"max\[i.*\] = gx_maxf?\({together}\[", f.c_source)
    assert re.search(rf"sum.* \+= {added}\[", f.c_source)
    assert re.search(r"exp\[e\] = gx_expf?\(exp\[e\]\)", f.c_source)
    given = np.random.default_rng(0).normal(scale=9, size=shape).astype(dtype), np.arange(shape[0], dtype=np.int32) % shape[1]
    for got, want in zip(f(*given), gx.evaluate([loss, gx.grad(loss, x)], {"x": given[0], "labels": given[1]}), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-7 if dtype == "float32" else 1e-16)
    given[0][3, 1] = np.nan
    value, gradient = f(*given)
    assert np.isnan(value)
    assert np.isnan(gradient).all(1).tolist() == [i == 3 for i in range(shape[0])]


def test_a_matrix_is_updated_along_its_rows_and_in_place_even_for_a_batch_of_one():
    """The gradient of an example is a column here and a row there: no kernel goes down the columns of a weight, none copies one."""
    X, weights = gx.input("X", (1, 40)), [gx.parameter(f"W{k}", gx.init.he_normal((40, 40), seed=k)) for k in range(3)]
    h = X
    for k, W in enumerate(weights):
        h = gx.nn.relu(h @ W + gx.parameter(f"b{k}", np.zeros(40)))
    loss = gx.mean(h * h)
    step = gx.train_step(loss, gx.optim.SGD(0.1), name="one")
    assert "W0[i * 40 + j]" in step.c_source
    assert not re.search(r"W\d\[j \* 40 \+ i\]|_set_W", step.c_source)
    x, values = np.random.default_rng(0).normal(size=(1, 40)).astype("f"), [W.value.copy() for W in weights]
    gradients = gx.evaluate(gx.grad(loss, weights), {"X": x})
    step(X=x)
    for W, old, gradient in zip(weights, values, gradients, strict=True):
        np.testing.assert_allclose(W.value, old - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_diagonals_are_found_without_division():
    """What stands on a diagonal, as a result and in the gradient of taking it: a comparison of row and column."""
    x, v = gx.input("x", (20, 20)), gx.input("v", (20,))
    for node in (gx.diag(v), gx.grad(gx.sum(gx.diagonal(gx.tanh(x), 1) * v[1:]), x), gx.grad(gx.trace(x * x.T), x)):
        source = gx.compile([x, v], node, name="line").c_source
        kernel = source[source.index("static void line_") : source.index("static int line_once(")]
        body = kernel[kernel.index("{") :]
        assert "==" in body
        assert not {"%", "/"} & set(body)


def test_sums_of_rows_that_are_results_too():
    """A sum that is stored is not left to the fold over the rows of a strip, which comes after the store."""
    x, q = gx.input("x", (40, 31), "float64"), gx.input("q", (40,), "float64")
    sums = gx.sum(x, 1)
    outputs = [sums, gx.sum(gx.exp(sums) * q)]
    given = {x: np.random.default_rng(0).normal(size=(40, 31)), q: np.arange(40.0)}
    for got, want in zip(gx.compile([x, q], outputs, name="rows")(*given.values()), gx.evaluate(outputs, given), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_what_the_end_of_a_kernel_keeps_has_no_place_in_a_strip():
    """The sum of q runs in lanes, a round of a strip each; what follows from it, after the rounds, does not."""
    x, q = gx.input("x", (7, 17), "float64"), gx.input("q", (17,), "float64")
    node = gx.outer(gx.tanh(x @ q + gx.sum(q)), q)
    rng = np.random.default_rng(0)
    given = {x: rng.normal(size=(7, 17)), q: rng.normal(size=17)}
    np.testing.assert_allclose(gx.compile([x, q], node, name="end")(*given.values()), gx.evaluate(node, given), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_from_memory_are_fetched_ahead(dtype):
    far, near = 5000, 50
    x, c = (gx.input(name, (far, 1000), dtype) for name in "xc")
    outputs = [gx.sum(gx.nn.softmax(x) * c)]
    outputs += gx.grad(outputs[0], [x])
    f = gx.compile([x, c], outputs, name="rows")
    assert "GX_PREFETCH_L2(&x[i * 1000 + line + " in f.c_source
    assert "GX_PREFETCH_WRITE(&" in f.c_source
    values = {name: np.random.default_rng(0).normal(size=(far, 1000)).astype(dtype) for name in "xc"}
    value, gradient = f(**values)

    part = [gx.input(name, (near, 1000), dtype) for name in "xc"]
    loss = gx.sum(gx.nn.softmax(part[0]) * part[1])
    g = gx.compile(part, gx.grad(loss, [part[0]]), name="rows")
    assert "GX_PREFETCH_L2(&" not in g.c_source
    np.testing.assert_array_equal(gradient[-near:], g(**{name: v[-near:] for name, v in values.items()})[0])
    e = np.exp(values["x"].astype(np.float64))
    expected = np.sum(e / e.sum(1, keepdims=True) * values["c"])
    np.testing.assert_allclose(value, expected, rtol=1e-5 if dtype == "float32" else 1e-12)


# --- fusion holds: the number of passes -------------------------------------------------------------------
def test_layer_norm_is_one_pass_forward_and_backward():
    x, c, w, b = gx.input("x", (64, 512)), gx.input("c", (64, 512)), gx.input("w", (512,)), gx.input("b", (512,))
    y = gx.nn.layer_norm(x, 512, w, b)
    assert len(schedule([y], {}, [x, w, b]).kernels) == 1
    loss = gx.sum(y * c)
    assert len(schedule([loss, *gx.grad(loss, [x, w, b])], {}, [x, w, b, c]).kernels) == 1


@pytest.mark.parametrize("function", [gx.var, gx.std, gx.logsumexp], ids=lambda f: f.__name__)
def test_statistics_of_rows_are_one_pass_forward_and_backward(function):
    x, c = gx.input("x", (64, 300)), gx.input("c", (64,))
    y = function(x, axis=1)
    assert len(schedule([y, gx.grad(gx.sum(y * c), x)], {}, [x, c]).kernels) == 1


def test_softmax_cross_entropy_is_one_pass_forward_and_backward():
    scores, labels = gx.input("scores", (64, 1000)), gx.input("labels", (64,), dtype="int32")
    loss = gx.mean(gx.nn.softmax_cross_entropy(scores, labels))
    check, kernel = schedule([loss, gx.grad(loss, scores)], {}, [scores, labels]).kernels
    assert isinstance(check, CheckKernel)
    assert isinstance(kernel, LoopKernel)


@pytest.mark.parametrize("recipe", [gx.optim.Adam(), gx.optim.AdamW(gx.optim.cosine(0.1, 100)), gx.optim.NAdam(), gx.optim.RAdam()], ids=lambda r: type(r).__name__)
def test_adam_is_in_the_store_steps_of_the_gradients(recipe):
    W1, b1 = gx.parameter("W1", np.ones((64, 32))), gx.parameter("b1", np.zeros(32))
    W2, b2 = gx.parameter("W2", np.ones((10, 32))), gx.parameter("b2", np.zeros(10))
    X, labels = gx.input("X", (16, 64)), gx.input("labels", (16,), dtype="int32")
    loss = gx.mean(gx.nn.softmax_cross_entropy(gx.nn.linear(gx.nn.relu(X @ W1 + b1), W2, b2), labels))
    step = gx.train_step(loss, recipe, name="net")
    kinds = [kernel.kind for kernel in step.kernels]
    assert kinds.count("contraction") == 5  # two forward, three backward; W2 is used transposed
    assert kinds.count("loops") == 4  # the scalars of the step, softmax with its gradient, the two biases
    assert "copy" not in kinds


def test_an_adam_step_is_one_pass_over_a_parameter():
    p, g = gx.parameter("p", np.ones(1000)), gx.input("g", (1000,))
    step = gx.train_step(gx.sum(p * g), gx.optim.Adam(), name="adam")
    assert [kernel.kind for kernel in step.kernels] == ["loops"] * 3


@pytest.mark.parametrize("rows", [16, 33])
def test_what_follows_the_rounds_is_kept_whole(rows):
    """Rounds go in strips here; what stages after them leave to each other has a place for each row all the same."""
    x = gx.input("x", (rows, 32))
    total = gx.sum(gx.max(x, 1))
    values = np.random.default_rng(0).integers(-3, 4, (rows, 32)).astype(np.float32)
    gradient = gx.grad(total * total, x)
    np.testing.assert_allclose(gx.compile([x], gradient)(values), gx.evaluate(gradient, {x: values}), rtol=1e-6)


def test_empty_parameters_are_swapped():
    a, b = gx.parameter("a", np.zeros((17, 0))), gx.parameter("b", np.zeros((17, 0)))
    assert gx.compile([], gx.sum(a), {a: b, b: a})() == 0


def test_attention_is_its_six_products_and_a_pass_between_them():
    """Forward and backward: the mask and the scale are in store steps; softmax, its gradient and the loss are a pass each."""
    q, k, v, c = (gx.input(name, (2, 24, 16)) for name in "qkvc")
    loss = gx.sum(gx.nn.scaled_dot_product_attention(q, k, v, is_causal=True) * c)
    kinds = [type(kernel).__name__ for kernel in schedule([loss, *gx.grad(loss, [q, k, v])], {}, [q, k, v, c]).kernels]
    assert kinds.count("ContractKernel") == 6
    assert kinds.count("LoopKernel") == 3
    assert len(kinds) == 9


@pytest.mark.parametrize("shape", [(64, 64), (37, 53), (90, 8), (40, 200)])
@pytest.mark.parametrize(
    "mask", [lambda i, j, s: gx.where(i >= j, s / 2, -np.inf), lambda i, j, s: gx.where(j < i, 7.0, s)]
)  # fmt: skip
def test_tiles_hidden_by_a_mask_are_not_multiplied(shape, mask):
    rows, columns = shape
    a, b = gx.input("a", (3, rows, 20)), gx.input("b", (3, 20, columns))
    i, j = gx.reshape(gx.arange(rows), (rows, 1)), gx.reshape(gx.arange(columns), (1, columns))
    product = a @ b
    masked = gx.compile([a, b], mask(i, j, product))
    assert "takes none of its sums" in masked.c_source
    rng = np.random.default_rng(0)
    feeds = rng.normal(size=a.shape).astype(np.float32), rng.normal(size=b.shape).astype(np.float32)
    whole = gx.compile([a, b], [mask(i, j, product), product])  # stores every sum, so it needs them all
    assert "takes none of its sums" not in whole.c_source
    np.testing.assert_array_equal(masked(*feeds), whole(*feeds)[0])
