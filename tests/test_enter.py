"""The short way of a call: what takes it, what is refused and goes the long way, and that nobody can tell."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import pickle
import weakref

import numpy as np
import pytest

import graphc as gx
from graphc import enter, toolchain
from graphc.runtime import Function
from graphc.types import InputTypeError, InputValueError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def watched(function):
    """The calls of ``function`` that go the long way, as they come."""
    long, call = [], function._caller.call
    function._caller.call = lambda given, out: (long.append(given), call(given, out))[1]
    return long


def scale():
    x, by = gx.input("x", (2, 3)), gx.input("by")
    return gx.compile([x, by], {"y": x * by, "sum": gx.sum(x)}, name="scale")


def test_what_fits_takes_the_short_way():
    f = scale()
    long = watched(f)
    wide = np.zeros((4, 3), np.float32)
    wide[1:3] = X
    frozen = X.copy()
    frozen.flags.writeable = False
    for x in (X, X.copy(), wide[1:3], frozen, np.frombuffer(X.tobytes(), np.float32).reshape(2, 3)):
        for result in (f(x, 2), f(x=x, by=np.float32(2)), f(by=2.0, x=x)):
            np.testing.assert_array_equal(result["y"], 2 * X)
            assert result["sum"] == 15
    assert long == []


@pytest.mark.parametrize(
    "x",
    [
        X.astype(np.float64), X.astype(">f4"), np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], X.view(np.matrix), X.tolist(),
        np.frombuffer(b"\0" + X.tobytes(), np.float32, 6, 1).reshape(2, 3), pickle.loads(pickle.dumps(X)),
    ],
    ids=["float64", "swapped", "fortran", "strided", "matrix", "list", "unaligned", "pickled"],
)  # fmt: skip
def test_what_does_not_is_refused(x):
    """Among them an array that fits but in that its dtype is another object of the same meaning."""
    f = scale()
    long = watched(f)
    np.testing.assert_array_equal(f(x, 2)["y"], 2 * X)
    assert len(long) == 1


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 3, 1), (1, 2, 3), (2, 2)])
def test_other_shapes(shape):
    with pytest.raises(InputValueError, match="shapes are fixed"):
        scale()(np.zeros(shape, np.float32), 2)


def test_memory_that_is_written():
    """What overlaps an updated parameter by one element is copied; what ends where it begins is not."""
    W, x = gx.parameter("W", np.zeros(8)), gx.input("x", (4,))
    f = gx.compile([x], x * 1, {W: W + gx.sum(x)})
    long = watched(f)
    f(W.value[:4])
    f(W.value[4:])
    assert len(long) == 2
    near = np.zeros(16, np.float32)
    V = gx.parameter("V", near[:8])
    f(near[8:12])
    f(V.value[4:])
    assert len(long) == 2


def test_an_array_is_looked_at_anew_in_each_call():
    f, x = scale(), X.copy()
    long = watched(f)
    f(x, 1)
    x.shape = (3, 2)
    with pytest.raises(InputValueError, match=r"got shape \(3, 2\)"):
        f(x, 1)
    x.shape = (2, 3)
    x.dtype = np.int32
    f(x, 1)
    assert len(long) == 2


def test_any_name_will_do():
    names = ["id", "type", "args", "named", "self", "lambda", "_x", "x y", "IndexError", "positional", "é"]
    for name in names:
        x, y = gx.input(name, (2, 3)), gx.input("by")
        f = gx.compile([x, y], [x * y, y])
        for result in (f(X, 2), f(**{name: X, "by": 2}), f(X, by=2)):
            np.testing.assert_array_equal(result[0], 2 * X)
        with pytest.raises(InputTypeError, match="missing input"):
            f(by=2)
        with pytest.raises(InputTypeError, match="given twice"):
            f(X, 2, **{name: X})


def test_hundreds_of_inputs_and_outputs():
    xs = [gx.input(f"x{k}", (2,) if k % 2 else ()) for k in range(300)]
    f = gx.compile(xs, [x * 2 for x in xs])
    values = [np.full(2, k, np.float32) if k % 2 else float(k) for k in range(300)]
    assert [np.max(y) for y in f(*values)] == [2.0 * k for k in range(300)]
    assert [np.max(y) for y in f(**{f"x{k}": v for k, v in enumerate(values)})] == [2.0 * k for k in range(300)]


def test_objects_that_lie_otherwise(monkeypatch, tmp_path):
    """Where the objects of a Python are not laid out as the C expects, all calls go the long way."""
    compiler = toolchain.find_compiler()
    wrong = enter.SOURCE.read_text().replace("    int rank;\n", "    int other, rank;\n")
    assert wrong != enter.SOURCE.read_text()
    monkeypatch.setenv("GRAPHC_BUILD_DIR", str(tmp_path))
    assert enter.load(toolchain.build(wrong, name="wrong", compiler=compiler, target=toolchain.resolve_target(compiler))).enter is None
    program = scale()._caller.program
    program.ways = dataclasses.replace(program.ways, enter=None)
    f = Function(program)
    long = watched(f)
    np.testing.assert_array_equal(f(X, 2)["y"], 2 * X)
    assert len(long) == 1


def test_a_function_is_gone_at_once():
    f = scale()
    f(X, 1)
    f.bind(x=X, by=1)()
    gc.disable()
    try:
        gone = weakref.ref(f)
        del f
        assert gone() is None
    finally:
        gc.enable()


def test_a_bound_function_outlives_its_function():
    bound = [scale().bind(x=X, by=k) for k in range(20)]
    junk = [np.full(64, 9, np.int64) for _ in range(200)]
    assert [b()["y"][1, 2] for b in bound] == [5 * k for k in range(20)]
    del junk


def test_signature():
    assert str(inspect.signature(scale())) == "(*args, out=None, **named)"
    assert callable(scale())


def test_a_large_output_takes_memory_that_nobody_has():
    x = gx.input("x", (600, 600))
    f = gx.compile([x], x * 2)
    ones = np.ones((600, 600), np.float32)

    def place(array):
        return array.__array_interface__["data"][0]

    first = f(ones)
    part, at = first[3:5].T, place(first)
    del first
    second = f(3 * ones)  # a view of the first is left
    assert place(second) != at
    assert (part[0, 0], second[0, 0]) == (2, 6)
    at = place(second)
    del second
    third = f(ones)
    assert place(third) == at
    assert third[0, 0] == 2
    kept = memoryview(third)
    del third
    assert f(4 * ones)[0, 0] == 8
    assert kept[0, 0] == 2
