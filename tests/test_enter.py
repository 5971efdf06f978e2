"""The short way of a call: what takes it, what is refused and goes the long way, and that nobody can tell."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import pickle
import signal
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import graphc as gx
from graphc import enter, libraries, toolchain
from graphc.call import SHORT
from graphc.program import NativeProgram, Signature
from graphc.runtime import Function
from graphc.types import CacheError, InputTypeError, InputValueError

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
    x.resize((3, 2), refcheck=False)
    with pytest.raises(InputValueError, match=r"got shape \(3, 2\)"):
        f(x, 1)
    x.resize((2, 3), refcheck=False)
    f(x, 1)
    assert len(long) == 1


NUMBERS = [
    ("float32", [1, 0.1, -0.0, np.inf, np.float32(0.1), np.float64(0.1), np.int8(-3), True, 2**62], [2**70, 1e39, -1e300, "1", None, 10**400]),
    ("float64", [0.1, np.float32(0.1), 2**60 + 1, np.bool_(True)], ["1", 10**400]),
    ("int32", [5, -(2**31), True, np.uint8(7), np.int64(-1)], [2**31, 2**64, np.int64(2**40), 1.0, np.bool_(True)]),
    ("int64", [5, -(2**63), np.uint64(7)], [2**63, np.uint64(2**63), 0.5]),
    ("bool", [True, False, np.bool_(True)], [1, 0.0, "x"]),
]


@pytest.mark.parametrize(("dtype", "short", "long"), NUMBERS, ids=[dtype for dtype, *_ in NUMBERS])
def test_numbers(dtype, short, long):
    """Each as the reference takes it: with the same value, or with the same error, and no error left behind."""
    x = gx.input("x", dtype=dtype)
    compiled, reference = (gx.compile([x], x, backend=backend) for backend in (None, "numpy"))
    went = watched(compiled)
    for value in (*short, *long):
        try:
            expected = reference(value)
        except (InputTypeError, InputValueError) as error:
            with pytest.raises(type(error)):
                compiled(value)
        else:
            result = compiled(value)
            assert type(result) is type(expected)
            np.testing.assert_array_equal(result, expected)
            assert np.signbit(result) == np.signbit(expected)
    assert [value for (value,) in went] == long


def test_every_form_of_result():
    x = gx.input("x", (3,))
    y, n = x * 2, gx.sum(x)
    given = np.arange(3, dtype=np.float32)
    for outputs in (y, n, [y, n], (n, y), {"n": n, "y": y}, {"y": y}, [n], (y,)):
        f, reference = (gx.compile([x], outputs, backend=backend) for backend in (None, "numpy"))
        went = watched(f)
        result, expected = f(given), reference(given)
        assert repr(result) == repr(expected)
        assert went == []


def test_calls_leave_no_reference():
    f = scale()
    value, by = X.copy(), 2.5e10
    bound = f.bind(x=value, by=by)
    watch = [value, by, bound.outputs, None, f, "x", (2, 3), np.dtype(np.float32), np.empty]

    def calls():
        for _ in range(1000):
            f(value, by)
            f(x=value, by=by)
            bound()
            with pytest.raises(InputTypeError):
                f(value)

    calls()
    before = [sys.getrefcount(each) for each in watch]
    tracemalloc.start()
    calls()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [abs(sys.getrefcount(each) - n) < 50 for each, n in zip(watch, before, strict=True)] == [True] * len(watch)
    assert grown < 50_000


def test_calls_that_overlap():
    """While a call is on its way, others of the same function find other lanes, and the first is taken again afterwards."""
    x = gx.input("x", (400, 400))
    f = gx.compile([x], gx.sum(x @ x))
    assert sum(kernel.flops for kernel in f.kernels) > SHORT
    ones = np.ones((400, 400), np.float32)
    results = []

    def work(k):
        results.extend((k, f(k * ones)) for _ in range(20))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(total == k * k * 400**3 for k, total in results)
    assert len(results) == 80
    went = watched(f)
    f(ones)
    assert went == []


def test_a_call_in_the_signal_handler_of_a_call():
    x = gx.input("x", (300, 300))
    W = gx.parameter("W", np.zeros((300, 300)))
    f = gx.compile([x], gx.sum(x @ x), {W: W + x})
    ones = np.ones((300, 300), np.float32)
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(f(ones)))
    try:
        calls = 0
        while len(seen) < 20:
            signal.setitimer(signal.ITIMER_REAL, 0.0002)
            assert f(ones) == 300**3
            calls += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert set(seen) == {300.0**3}
    assert (W.value == calls + len(seen)).all()


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


def test_a_library_that_the_system_refuses(tmp_path):
    """A directory stands for a file system mounted with noexec: neither can be loaded."""
    with pytest.raises(CacheError, match=rf"{tmp_path}.*noexec.*GRAPHC_BUILD_DIR"):
        enter.load(tmp_path)
    with pytest.raises(CacheError, match=rf"{tmp_path}.*noexec.*GRAPHC_BUILD_DIR"):
        NativeProgram(tmp_path, Signature("f", (), (), ()))


def test_objects_that_lie_otherwise(monkeypatch, tmp_path):
    """Where the objects of a Python are not laid out as the C expects, all calls go the long way."""
    compiler = toolchain.find_compiler()
    wrong = enter.source().replace("    int rank;\n", "    int other, rank;\n")
    assert wrong != enter.source()
    monkeypatch.setenv("GRAPHC_BUILD_DIR", str(tmp_path))
    assert enter.load(libraries.build(wrong, name="wrong", compiler=compiler, target=toolchain.resolve_target(compiler))).function is None
    program = scale()._caller.program
    program.ways = dataclasses.replace(program.ways, function=None)
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
