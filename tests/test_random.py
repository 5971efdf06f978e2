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


@pytest.mark.parametrize(
    ("error", "make"),
    [
        (DTypeError, lambda: gx.random.uniform((3,), dtype="int32")),
        (GraphError, lambda: gx.random.uniform((3,), 1.0, 0.0)),
        (GraphError, lambda: gx.random.uniform((3,), 0.0, np.inf)),
        (GraphError, lambda: gx.random.uniform((3,), seed=-1)),
        (GraphError, lambda: gx.random.uniform((3,), seed=2**63)),
        (GraphError, lambda: gx.random.uniform((3,), seed=1.5)),
        (ShapeError, lambda: gx.random.uniform((-3,))),
        (ShapeError, lambda: gx.random.uniform((3,), gx.input("low", (2,)))),
    ],
)
def test_errors(error, make):
    with pytest.raises(error):
        make()
