"""Random draws: the published vectors, the same bits everywhere, fresh ones in every step, and the state that counts them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc.ir import make, rebuild, toposort
from graphc.ops import random as bits
from graphc.types import FLOAT64, INT32, INT64, DTypeError, GraphError, ShapeError

# Counter, key and result of philox4x32-10 in the known answers of Random123, the authors' own library.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
COUNTS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 63, 64, 65, 1001]


def numbers(text, dtype="<u4"):
    return np.array([int(word, 16) for word in text.split()], "<u4").view(dtype)


@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_known_answers(backend):
    """Each word of a block, and pairs of words, from 64-bit ints that hold counter and key."""
    names = ["block", "stream", "step", "key"]
    inputs = [gx.input(name, (len(KNOWN),), "int64") for name in names]
    outputs = {f"word {n}": bits.WORD(*inputs, n) for n in range(4)} | {f"pair {n}": bits.PAIR(*inputs, n) for n in range(2)}
    rows = []
    for counter, key, _ in KNOWN:
        block, stream, low, high = (int(word) for word in numbers(counter))
        rows.append([block, stream, *np.array([low, high], "<u4").view("<i8"), *numbers(key, "<i8")])
    got = gx.compile(inputs, outputs, backend=backend)(*np.array(rows, np.int64).T)
    for n in range(4):
        assert got[f"word {n}"].view("u4").tolist() == [int(numbers(known)[n]) for *_, known in KNOWN]
    for n in range(2):
        assert got[f"pair {n}"].tolist() == [int(numbers(known, "<i8")[n]) for *_, known in KNOWN]


def raw(shape, dtype, key=5, stream=0):
    return bits.philox(gx.constant(key, "int64"), shape, dtype, stream)


def test_a_draw_is_the_words_of_its_blocks():
    """Element e is word e // q of block e % q, in every step, whatever the count; compiled, in NumPy, and by the formula."""
    outputs = {f"{dtype} {n}": raw((n,), dtype, key=n) for n in COUNTS for dtype in (INT32, INT64)}
    native, reference = gx.compile([], outputs), gx.compile([], outputs, backend="numpy")
    for step in range(3):
        got, wanted = native(), reference()
        for n in COUNTS:
            for dtype, parts in (("int32", 4), ("int64", 2)):
                blocks = math.ceil(n / parts)
                words = bits.blocks(np.arange(blocks), 0, step, n)
                if parts == 2:
                    words = [words[0] + (words[1].astype("u8") << np.uint64(32)), words[2] + (words[3].astype("u8") << np.uint64(32))]
                formula = [int(words[e // blocks][e % blocks].astype(dtype)) for e in range(n)]
                assert got[f"{dtype} {n}"].tolist() == wanted[f"{dtype} {n}"].tolist() == formula


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0,), (2, 0, 3), (7, 1, 9), 13])
def test_uniform_is_the_same_compiled_and_in_numpy(dtype, shape):
    outputs = [gx.random.uniform(shape, dtype=dtype), gx.random.uniform(shape, -2.5, 7.0, dtype)]
    native, reference = gx.compile([], outputs), gx.compile([], outputs, backend="numpy")
    first = gx.evaluate(outputs)
    for step in range(2):
        for k, (a, b) in enumerate(zip(native(), reference(), strict=True)):
            assert np.shape(a) == outputs[k].shape
            np.testing.assert_array_equal(a, b)
            if step == 0:
                np.testing.assert_array_equal(a, first[k])


def test_threads_do_not_show():
    node = gx.random.uniform((1001, 1003))
    functions = [gx.compile([], node, threads=n, name="threads_of_draw") for n in (1, 2)]
    assert any(kernel.threaded for kernel in functions[1].kernels)
    one, two = (f() for f in functions)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, gx.evaluate(node))


# --- one draw, many draws ----------------------------------------------------------------------------------
def test_draws_are_never_merged_and_a_node_is_one_draw():
    a, b = gx.random.uniform((50,)), gx.random.uniform((50,))
    assert a is not b
    x = gx.input("x", (50,))
    value = gx.sum(a * x * a)
    got = gx.compile([x], [a, b, gx.grad(value, x), a - a])(np.ones(50))
    assert not np.any(got[0] == got[1])
    np.testing.assert_allclose(got[2], got[0] * got[0], rtol=1e-6)
    assert not np.any(got[3])


def test_a_step_draws_afresh_and_run_is_calls():
    node = gx.random.uniform((3, 4))
    called, run = gx.compile([], node), gx.compile([], node)
    separate = [called() for _ in range(3)]
    np.testing.assert_array_equal(run.run(3), separate)
    np.testing.assert_array_equal(run(), called())
    assert run.parameters["random.step"].value == 4
    assert len(np.unique(separate)) == 36


def test_two_functions_count_apart_and_agree_at_the_same_step():
    node, other = gx.random.uniform((5,)), gx.random.uniform((5,))
    one, two = gx.compile([], node), gx.compile([], [other, node * 1])
    first = one()
    one()
    np.testing.assert_array_equal(two()[1], first)
    assert (int(one.parameters["random.step"].value), int(two.parameters["random.step"].value)) == (2, 1)


def test_a_seed_says_which_numbers():
    a, b, c = (gx.random.uniform((40,), seed=seed) for seed in (3, 3, 4))
    got = gx.compile([], [a, b, c])()
    np.testing.assert_array_equal(got[0], got[1])
    assert not np.any(got[0] == got[2])
    assert not np.any(gx.evaluate(gx.random.uniform((40,), seed=2**63 - 1)) == got[2])


def test_other_seeds_are_the_same_c():
    def build(seed):
        return gx.compile([], [gx.random.uniform((5,), seed=seed), gx.random.uniform((2, 3))], name="seeded")

    one, two = build(1), build(2)
    assert one.c_source == two.c_source
    assert not np.any(one()[0] == two()[0])


def test_every_process_draws_the_same():
    code = """if True:
        import graphc as gx
        u, v = gx.random.uniform((5,)), gx.random.uniform((2, 2), 1, 2, "float64")
        f = gx.compile([], {"u": u, "v": v, "w": gx.random.uniform((5,), seed=9)}, name="process")
        print({key: value.tolist() for key, value in f().items()}, f.c_source)"""
    root = Path(__file__).resolve().parents[1]
    seen = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=root, capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(seen) == 1


# --- state ----------------------------------------------------------------------------------------------------
def noisy_step(name="noisy"):
    w = gx.parameter("w", np.linspace(-1, 1, 6))
    loss = gx.sum(gx.square(w - gx.random.uniform((6,))))
    return w, gx.train_step(loss, gx.optim.SGD(learning_rate=0.1, momentum=0.5), name=name)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_saved_step_goes_on_where_it_was(tmp_path, suffix):
    """In a program that has made other draws before, too: the keys are saved with the step."""
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    w, step = noisy_step()
    step.run(3)
    gx.save(tmp_path / f"state{suffix}", step)
    rest = step.run(4)
    again, resumed = noisy_step()
    gx.load(tmp_path / f"state{suffix}", resumed)
    np.testing.assert_array_equal(resumed.run(4), rest)
    np.testing.assert_array_equal(again.value, w.value)
    assert set(step.state) == {"w.momentum", "random.step", "random.keys"}


def test_draws_in_updates_and_in_both_backends():
    """A parameter that walks at random, and a draw that only an update reads."""
    walks = []
    for backend in ("native", "numpy"):
        w = gx.parameter("w", np.zeros(3))
        f = gx.compile([], gx.sum(w), {w: w + gx.random.uniform((3,), -1, 1, seed=8)}, backend=backend)
        f.run(5)
        walks.append(w.value.copy())
    np.testing.assert_array_equal(*walks)
    words = np.array([bits.blocks(0, 0, step, 8)[:3] for step in range(5)])
    np.testing.assert_allclose(walks[0], np.sum((words >> 8) * 2.0**-23 - 1, axis=0), atol=1e-5)


def test_a_failed_call_draws_nothing():
    index = gx.input("index", (1,), "int32")
    f = gx.compile([index], gx.take_along_axis(gx.random.uniform((4,)), index, 0))
    with pytest.raises(IndexError):
        f([4])
    assert f.parameters["random.step"].value == 0


def test_a_name_that_is_taken():
    taken = gx.parameter("random.step", 1.0)
    with pytest.raises(gx.GraphcError, match=r"random\.step"):
        gx.compile([], taken * gx.random.uniform())


# --- distributions ------------------------------------------------------------------------------------------
def kolmogorov(sample, distribution):
    """sqrt(n) times the largest distance of the sample's distribution from the true one: above 1.95 once in a thousand times."""
    sample = np.sort(np.asarray(sample, np.float64).ravel())
    n, wanted = sample.size, distribution(sample)
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * max(np.max(steps[1:] - wanted), np.max(wanted - steps[:-1]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_is_uniform(dtype):
    f = gx.compile([], [gx.random.uniform((400, 250), dtype=dtype, seed=1), gx.random.uniform((1000,), 2.0, 5.0, dtype, seed=2)])
    for _ in range(3):
        unit, wide = f()
        assert unit.dtype == dtype
        assert 0 <= unit.min() < 1e-4
        assert 1 - 1e-4 < unit.max() < 1
        assert abs(unit.mean(dtype="f8") - 0.5) < 4 / math.sqrt(12 * unit.size)
        assert abs(unit.var(dtype="f8") - 1 / 12) < 4 / math.sqrt(180 * unit.size)
        assert kolmogorov(unit, lambda x: x) < 1.95
        assert kolmogorov(wide, lambda x: (x - 2) / 3) < 1.95
        ulp = 2**24 if dtype == "float32" else 2**53
        assert np.all(np.float64(unit) * ulp == np.round(np.float64(unit) * ulp))


def test_neighbours_and_steps_are_independent():
    """Correlations along rows and columns, across the words of a block, between steps, and between neighbouring seeds."""
    f = gx.compile([], [gx.random.uniform((100, 1000), seed=seed) for seed in (0, 1)])
    (a, b), (c, _) = f(), f()
    pairs = [(a[:, 1:], a[:, :-1]), (a[1:], a[:-1]), (a[:25], a[25:50]), (a[:50], a[50:]), (a, b), (a, c)]
    for x, y in pairs:
        r = np.corrcoef(x.ravel(), y.ravel())[0, 1]
        assert abs(r) < 4 / math.sqrt(x.size)


def test_gradients_through_bounds():
    low, high = gx.parameter("low", np.array([[0.5], [1.0]]), "float64"), gx.parameter("high", np.array([2.0, 3.0, 4.0]), "float64")
    u = gx.random.uniform((2, 3), low, high, "float64")
    value = gx.sum(gx.exp(u) * u)
    assert gx.check_grad(value, show=False).ok
    assert gx.check_grad(gx.sum(gx.grad(value, low)) + gx.sum(gx.grad(value, high)), show=False).ok
    assert (u.dtype, u.shape) == (FLOAT64, (2, 3))


def normal_distribution(x):
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_is_normal(dtype):
    f = gx.compile([], [gx.random.normal((500, 300), dtype=dtype, seed=1), gx.random.normal((1000,), 5.0, 0.25, dtype, seed=2)])
    for _ in range(3):
        plain, moved = f()
        assert plain.dtype == dtype
        n, x = plain.size, plain.astype("f8")
        moments = [(x, 0, 1), (x**2, 1, 2), (x**3, 0, 15), (x**4, 3, 96)]  # value, mean, variance
        for value, mean, variance in moments:
            assert abs(value.mean() - mean) < 4 * math.sqrt(variance / n)
        assert kolmogorov(x, normal_distribution) < 1.95
        assert kolmogorov((moved - 5) / 0.25, normal_distribution) < 1.95
        assert 3.9 < np.abs(x).max() < 6
        r = np.corrcoef(x[:, 1:].ravel(), x[:, :-1].ravel())[0, 1]
        assert abs(r) < 4 / math.sqrt(n)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_tails_of_a_normal(dtype):
    """The words that give the largest value, and the smallest radius: nothing overflows or is NaN."""
    node = gx.random.normal((4,), dtype=dtype)
    raws = [n for n in toposort([node]) if n.op is bits.PHILOX]
    words = np.array([0, -1, 2**63 - 1, -(2**63)], np.int64)
    given = [gx.input(f"bits{k}", (4,), "int64") for k in range(len(raws))]

    def swap(node, operands):
        return given[raws.index(node)] if node in raws else make(node.op, *operands, **node.attrs) if operands else node

    (swapped,) = rebuild([node], swap)
    got = gx.compile(given, swapped)(*[words for _ in raws])
    largest = math.sqrt(2 * math.log(2.0**32 if dtype == "float32" else 2.0**63))
    np.testing.assert_allclose(got[0], largest, rtol=1e-6)
    assert np.all(np.isfinite(got))


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0,), (7, 1, 9)])
def test_distributions_are_the_same_compiled_and_in_numpy(shape):
    exact = [
        gx.random.bernoulli(0.3, shape), gx.random.integers(-3, 9, shape), gx.random.integers(0, 2**31, shape, "int64"),
        gx.random.integers(-(2**62), 2**62 - 1, shape, "int64"), gx.random.integers(-(2**31), 2**31, shape),
    ]  # fmt: skip
    near = [gx.random.normal(shape, dtype=dtype) for dtype in ("float32", "float64")]
    native, reference = (gx.compile([], [*exact, *near], backend=backend) for backend in ("native", "numpy"))
    for _ in range(2):
        got, wanted = native(), reference()
        for node, a, b in zip([*exact, *near], got, wanted, strict=True):
            assert np.shape(a) == node.shape
            np.testing.assert_allclose(a, b, rtol=0, atol={"float32": 2e-6, "float64": 1e-14}.get(str(node.dtype), 0))


def test_bernoulli():
    chances = np.array([0.0, 0.1, 0.5, 0.999, 1.0])
    p = gx.input("p", (5,))
    f = gx.compile([p], [gx.random.bernoulli(p, (20_000, 5), seed=1), gx.random.bernoulli(p), gx.random.bernoulli(0.25, (100_000,), seed=2)])
    many, own, quarter = f(chances)
    assert many.dtype == own.dtype == bool
    assert own.shape == (5,)
    assert not own[0]
    assert own[4]
    error = 4 * np.sqrt(chances * (1 - chances) / len(many))
    assert np.all(np.abs(many.mean(0) - chances) <= error)
    assert abs(quarter.mean() - 0.25) < 4 * math.sqrt(0.1875 / 100_000)


@pytest.mark.parametrize(("low", "high", "dtype"), [(0, 10, "int32"), (-7, 1, "int64"), (5, 6, "int32"), (0, 1000, "int64")])
def test_integers_are_equally_likely(low, high, dtype):
    got = gx.compile([], gx.random.integers(low, high, (100_000,), dtype, seed=1))()
    assert got.dtype == dtype
    counts = np.bincount(got - low, minlength=high - low)
    assert counts.size == high - low
    expected, freedom = got.size / counts.size, counts.size - 1
    chi_square = np.sum((counts - expected) ** 2) / expected
    assert abs(chi_square - freedom) <= 4 * math.sqrt(2 * freedom)


def test_wide_ranges_of_integers():
    cases = [(-(2**31), 2**31, "int32"), (0, 2**31, "int64"), (0, 2**31 + 1, "int64"), (-(2**62), 2**62 - 1, "int64"), (1, 2**63 - 1, "int64")]
    outputs = [gx.random.integers(low, high, (10_000,), dtype, seed=3) for low, high, dtype in cases]
    for (low, high, _), got in zip(cases, gx.compile([], outputs)(), strict=True):
        assert kolmogorov((got.astype("f8") - low) / (high - low), lambda x: x) < 1.95


def test_gradients_through_mean_and_deviation():
    mean, std = gx.parameter("mean", np.array([[0.5], [1.0]]), "float64"), gx.parameter("std", np.array([0.5, 1.5, 2.0]), "float64")
    for dtype in ("float32", "float64"):
        value = gx.mean(gx.sin(gx.random.normal((4, 2, 3), mean, std, dtype)))
        assert gx.check_grad(value, show=False).ok
        assert gx.check_grad(gx.sum(gx.square(gx.grad(value, std))), show=False).ok
    p = gx.parameter("p", np.array([0.5]))
    chosen = gx.sum(gx.where(gx.random.bernoulli(p, (8,)), p, 2 * p))
    slope, hits = gx.evaluate([gx.grad(chosen, p), gx.sum(gx.random.bernoulli(0.5, (8,)))])
    assert 8 <= slope[0] <= 16
    assert 0 <= hits <= 8
    assert gx.evaluate(gx.grad(gx.sum(gx.random.bernoulli(p, (8,)).astype("float32")), p)).tolist() == [0.0]


# --- dropout --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout(p):
    """A fraction p is zero and the rest divided by 1 - p; the gradient goes where the value went."""
    x, g = gx.input("x", (300, 200)), gx.input("g", (300, 200))
    y = gx.nn.dropout(x, p)
    f = gx.compile([x, g], [y, gx.vjp(y, x, g)])
    rng = np.random.default_rng(0)
    xs, gs = (rng.uniform(1, 2, (300, 200)).astype("f") for _ in range(2))
    masks = []
    for _ in range(2):
        value, slope = f(xs, gs)
        kept = value != 0
        scale = np.float32(1 / (1 - p))
        np.testing.assert_allclose(value, np.where(kept, xs * scale, 0), rtol=1e-6)
        np.testing.assert_allclose(slope, np.where(kept, gs * scale, 0), rtol=1e-6)
        assert abs(kept.mean() - (1 - p)) < 4 * math.sqrt(p * (1 - p) / kept.size)
        masks.append(kept)
    assert np.any(masks[0] != masks[1])


def test_dropout_without_anything_to_do():
    x = gx.input("x", (4,))
    assert gx.nn.dropout(x, 0.3, training=False) is x
    assert gx.nn.dropout(x, 0) is x
    nothing = gx.nn.dropout(x, 1)
    f = gx.compile([x], [nothing, gx.grad(gx.sum(nothing), x)])
    assert [out.tolist() for out in f([1, 2, 3, 4])] == [[0.0] * 4] * 2
    assert not f.parameters


def test_dropout_in_a_net_that_learns():
    """The gradient is checked with the masks held, and a step trains with fresh ones."""
    rng = np.random.default_rng(0)
    W1, W2 = gx.parameter("W1", rng.normal(size=(4, 16))), gx.parameter("W2", rng.normal(size=(16, 2)) * 0.3)
    X, labels = gx.input("X", (30, 4)), gx.input("labels", (30,), "int32")

    def loss(training):
        hidden = gx.nn.dropout(gx.nn.relu(gx.nn.dropout(X, 0.2, training) @ W1), 0.5, training)
        return gx.mean(gx.nn.softmax_cross_entropy(hidden @ W2, labels))

    xs = rng.normal(size=(30, 4)).astype("f")
    ys = (xs[:, 0] > xs[:, 1]).astype("i4")
    assert gx.check_grad(loss(True), at={"X": xs, "labels": ys}, show=False).ok
    test = gx.compile([X, labels], loss(False))
    before = test(xs, ys)
    step = gx.train_step(loss(True), gx.optim.Adam(learning_rate=0.01))
    losses = step.run(300, X=xs, labels=ys)
    assert len(np.unique(losses)) > 290
    assert test(xs, ys) < 0.5 * before


def test_dropout_in_attention():
    """Of the weights, which values that are the identity show; the gradient is that of the weights that are left."""
    q, k = gx.parameter("q", np.linspace(-1, 1, 2 * 40 * 8).reshape(2, 40, 8)), gx.input("k", (2, 50, 8))
    ks = np.random.default_rng(0).normal(size=(2, 50, 8))
    attend = gx.nn.scaled_dot_product_attention
    whole, some = (attend(q, k, np.eye(50), dropout_p=p, seed=1) for p in (0.0, 0.25))
    assert attend(q, k, np.eye(50)) is whole
    all_weights, left = gx.compile([k], [whole, some])(ks)
    kept = left != 0
    np.testing.assert_allclose(left, np.where(kept, all_weights / 0.75, 0), rtol=1e-5)
    assert abs(kept.mean() - 0.75) < 4 * math.sqrt(0.1875 / kept.size)
    for options in ({"is_causal": True}, {"attn_mask": np.tri(40, 50, 3, dtype=bool)}):
        value = gx.sum(gx.sin(attend(q, k, np.ones((50, 3)) * [1, 2, 3], dropout_p=0.25, **options)))
        assert gx.check_grad(value, at={"k": ks}, show=False).ok
    with pytest.raises(GraphError, match="between 0 and 1"):
        attend(q, k, k, dropout_p=1.5)


@pytest.mark.parametrize(
    ("error", "build"),
    [
        (DTypeError, lambda: gx.random.uniform((3,), dtype="int32")),
        (GraphError, lambda: gx.random.uniform((3,), 1.0, 0.0)),
        (GraphError, lambda: gx.random.uniform((3,), 0.0, np.inf)),
        (GraphError, lambda: gx.random.uniform((3,), seed=-1)),
        (GraphError, lambda: gx.random.uniform((3,), seed=2**63)),
        (GraphError, lambda: gx.random.uniform((3,), seed=1.5)),
        (ShapeError, lambda: gx.random.uniform((-3,))),
        (GraphError, lambda: gx.random.normal((3,), std=-1.0)),
        (DTypeError, lambda: gx.random.normal((3,), dtype="int64")),
        (GraphError, lambda: gx.random.bernoulli(1.5)),
        (GraphError, lambda: gx.random.bernoulli(float("nan"))),
        (GraphError, lambda: gx.random.integers(3, 3)),
        (GraphError, lambda: gx.random.integers(0, 1.5)),
        (GraphError, lambda: gx.random.integers(0, 2**32)),
        (GraphError, lambda: gx.random.integers(-(2**63), 2**63 - 1, dtype="int64")),
        (DTypeError, lambda: gx.random.integers(0, 3, dtype="float32")),
        (GraphError, lambda: gx.nn.dropout(gx.input("x", (3,)), 1.5)),
        (GraphError, lambda: gx.nn.dropout(gx.input("x", (3,)), gx.input("p"))),
        (ShapeError, lambda: gx.random.uniform((3,), gx.input("low", (2,)))),
    ],
)
def test_errors(error, build):
    with pytest.raises(error):
        build()
