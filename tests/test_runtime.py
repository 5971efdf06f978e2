"""Calls: arguments, results, buffers, locks, forks, and the C ABI against C written by hand."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc.arguments import Check, Slot
from graphc.concurrency import guarded, thread_count
from graphc.ir import Parameter
from graphc.program import NativeProgram, Signature
from graphc.runtime import Function
from graphc.types import (
    FLOAT32,
    INT32,
    DTypeError,
    GraphcError,
    GraphError,
    IndexOutOfRangeError,
    InputTypeError,
    InputValueError,
    NameClashError,
    ShapeError,
    TensorType,
)
from tests.interrupts import ctrl_c


@pytest.fixture(params=["numpy", "native"])
def backend(request):
    return request.param


def product(backend, **options):
    x, y, z = gx.input("x"), gx.input("y"), gx.input("z")
    f = (x + y) * z
    return gx.compile([x, y, z], [f, *gx.grad(f, [x, y, z])], name="product", backend=backend, **options)


def affine(backend, outputs=lambda h, x: h):
    """h = x * 2 + k on (2, 3), with an int scalar k."""
    x, k = gx.input("x", (2, 3)), gx.input("k", dtype="int32")
    return gx.compile([x, k], outputs(x * 2 + k, x), name="affine", backend=backend)


X = np.arange(6, dtype=np.float32).reshape(2, 3)


# --- calling ------------------------------------------------------------------------------------------
def test_first_example(backend):
    f = product(backend)
    assert f(-2, 5, -4) == [-12.0, -4.0, -4.0, 3.0]
    assert f(-2, z=-4, y=5) == f(x=-2.0, y=np.float32(5), z=np.array(-4)) == [-12.0, -4.0, -4.0, 3.0]
    assert all(type(value) is float for value in f(True, np.int8(2), np.float16(3)))
    assert np.isnan(f(float("nan"), 1, 1)[0])
    assert f(1e300, 0, 1)[0] == np.inf
    assert f(2**62, 0, 1)[0] == 2.0**62


def test_structures(backend):
    single = affine(backend)(X, 1)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, X * 2 + 1)
    assert isinstance(affine(backend, lambda h, x: (h, x))(X, 1), tuple)
    assert isinstance(affine(backend, lambda h, x: [h])(X, 1), list)
    mixed = affine(backend, lambda h, x: {"h": h, "total": gx.sum(x), "biggest": gx.argmax(x), "any": gx.max(x) > 4})
    result = mixed(X, 0)
    assert list(result) == ["h", "total", "biggest", "any"]
    assert (result["total"], result["biggest"], result["any"]) == (15.0, 5, True)
    assert [type(result[key]) for key in ("total", "biggest", "any")] == [float, int, bool]
    assert affine(backend)(X, 1) is not affine(backend)(X, 1)


@pytest.mark.parametrize(
    "value",
    [
        X.tolist(),
        X.astype(np.float64),
        X.astype(np.int16),
        X.astype(">f4"),
        X.astype(np.float16),
        np.asfortranarray(X),
        np.repeat(X, 2, axis=1)[:, ::2],
        np.frombuffer(b"\0" + X.tobytes(), np.float32, 6, 1).reshape(2, 3),
        X.view(np.matrix),
    ],
    ids=["list", "float64", "int16", "swapped", "half", "fortran", "strided", "unaligned-readonly", "matrix"],
)
def test_conversions(backend, value):
    np.testing.assert_array_equal(affine(backend)(value, np.int64(3)), X * 2 + 3)


@pytest.mark.parametrize(
    ("args", "named", "error", "words"),
    [
        ((X,), {}, InputTypeError, "affine: missing input k: int32"),
        ((), {}, InputTypeError, "missing inputs x: float32[2, 3], k: int32"),
        ((X, 1, 2), {}, InputTypeError, "takes 2 inputs (x, k), got 3"),
        ((X, 1), {"x": X}, InputTypeError, "'x' is given twice"),
        ((X,), {"kk": 1}, InputTypeError, "no input 'kk'; did you mean 'k'?"),
        ((X, 1.0), {}, InputTypeError, "affine: input 'k' expects int32, got float64; round it"),
        ((X, 2**40), {}, InputValueError, "got 1099511627776, which does not fit in int32"),
        ((X, 2**80), {}, InputValueError, "'k' expects int32, got int; it does not fit in 64 bits"),
        ((X, "1"), {}, InputTypeError, "'k' expects int32, got str"),
        ((X, None), {}, InputTypeError, "'k' expects int32, got NoneType"),
        ((X, [1]), {}, InputValueError, "expects int32, got shape (1,)"),
        ((X, np.array([1])), {}, InputValueError, "expects int32, got shape (1,)"),
        ((X.T, 1), {}, InputValueError, "'x' expects float32[2, 3], got shape (3, 2); shapes are fixed"),
        ((X[0], 1), {}, InputValueError, "got shape (3,)"),
        ((X * 1j, 1), {}, InputTypeError, "got dtype complex64; expected real numbers"),
        (([[1, 2], [3]], 1), {}, InputValueError, "NumPy makes no array of"),
        ((X.astype(object), 1), {}, InputTypeError, "got dtype object"),
        ((gx.input("x", (2, 3)), 1), {}, InputTypeError, "got the node"),
    ],
)
def test_wrong_arguments(backend, args, named, error, words):
    with pytest.raises(error) as raised:
        affine(backend)(*args, **named)
    assert words in str(raised.value)


@pytest.mark.parametrize("bad", ["1", None, [1.0], np.ones(1), 1j, np.ones((1, 1))])
def test_short_way_checks_too(backend, bad):
    f = product(backend)
    with pytest.raises((InputTypeError, InputValueError), match="product: input 'y' expects float32"):
        f(1, bad, 2)
    for args in [(), (1, 2), (1, 2, 3, 4)]:
        with pytest.raises(InputTypeError):
            f(*args)
    assert f(-2, 5, -4)[0] == -12


def test_dtypes_of_scalars(backend):
    dtypes = {"b": "bool", "i": "int32", "n": "int64", "d": "float64"}
    b, i, n, d = (gx.input(name, dtype=dtype) for name, dtype in dtypes.items())
    f = gx.compile([b, i, n, d], {"d": d, "n": n, "i": i, "b": b}, backend=backend)
    assert f(True, -7, 2**60, 0.1) == {"d": 0.1, "n": 2**60, "i": -7, "b": True}
    assert f(np.bool_(False), True, np.uint8(3), 1) == {"d": 1.0, "n": 3, "i": 1, "b": False}
    wrong = [((1, 1, 1, 1), "compare it"), ((1.0, 1, 1, 1), "compare it"), ((True, 1, 2**63, 1), "does not fit")]
    for args, words in wrong:
        with pytest.raises((InputTypeError, InputValueError), match=words):
            f(*args)
    n32 = gx.compile([gx.input("a", (2,), "int32")], gx.input("a", (2,), "int32"), backend=backend)
    assert n32(np.array([2**31 - 1, -(2**31)], np.int64)).tolist() == [2**31 - 1, -(2**31)]
    with pytest.raises(InputValueError, match="2147483648, which does not fit"):
        n32(np.array([0, 2**31], np.uint64))


def test_empty(backend):
    x = gx.input("x", (0, 3))
    f = gx.compile([x], [gx.sum(x), x], backend=backend)
    total, same = f(np.zeros((0, 3), np.float32))
    assert (total, same.shape) == (0.0, (0, 3))
    assert f.run(4, x=np.zeros((4, 0, 3)))[1].shape == (4, 0, 3)
    assert gx.compile([gx.input("i", (0,), "int32")], gx.input("i", (0,), "int32"), backend=backend)([]).shape == (0,)


# --- out= ---------------------------------------------------------------------------------------------
def test_out(backend):
    f = affine(backend, lambda h, x: {"h": h, "total": gx.sum(h)})
    out = {"total": np.zeros((), np.float32), "h": np.empty((2, 3), np.float32)}
    assert f(X, 1, out=out) is out
    np.testing.assert_array_equal(out["h"], X * 2 + 1)
    assert out["total"] == 36
    f(X, 2)  # later calls do not write there
    assert out["total"] == 36
    both = X.copy()
    affine(backend)(both, 1, out=both)  # the input is copied before the output is written
    np.testing.assert_array_equal(both, X * 2 + 1)


@pytest.mark.parametrize(
    ("out", "error", "words"),
    [
        ([np.empty((2, 3), np.float32)], InputTypeError, "structure of the outputs"),
        ((np.empty((2, 3), np.float32), [0.0]), InputTypeError, "got list"),
        ((np.empty((2, 3)), np.empty((2, 3), np.float32)), InputTypeError, "float32[2, 3], got an array of float64"),
        ((np.empty((3, 2), np.float32), np.empty((2, 3), np.float32)), InputValueError, "got shape (3, 2)"),
        ((np.empty((3, 2), np.float32).T, np.empty((2, 3), np.float32)), InputValueError, "C-contiguous"),
        ((np.broadcast_to(np.float32(1), (2, 3)), X), InputValueError, "writeable"),
        ((X, X), InputValueError, "overlaps that for 'output_0'"),
    ],
)
def test_wrong_out(backend, out, error, words):
    with pytest.raises(error) as raised:
        affine(backend, lambda h, x: (h, x))(X, 1, out=out)
    assert words in str(raised.value)


def test_out_over_a_parameter(backend):
    W = gx.parameter("W", X)
    f = gx.compile([], W * 2, backend=backend)
    with pytest.raises(InputValueError, match="overlaps parameter 'W'"):
        f(out=W.value)


# --- updates ------------------------------------------------------------------------------------------
def test_updates_take_effect_together(backend):
    a, b = gx.parameter("a", [1.0, 2.0]), gx.parameter("b", [3.0, 4.0])
    f = gx.compile([], [a + b, a], {a: b, b: a}, backend=backend)
    before, old = f()
    assert (before.tolist(), old.tolist()) == ([4.0, 6.0], [1.0, 2.0])
    assert (a.value.tolist(), b.value.tolist()) == ([3.0, 4.0], [1.0, 2.0])
    assert f.run(3)[1].tolist() == [[3, 4], [1, 2], [3, 4]]


def test_input_over_a_written_parameter_is_copied(backend):
    W = gx.parameter("W", np.ones((2, 3)))
    x = gx.input("x", (2, 3))
    f = gx.compile([x], x * 1, {W: W + x}, backend=backend)
    for given in (W.value, W.value.reshape(3, 2).reshape(2, 3)):
        old = W.value.copy()
        np.testing.assert_array_equal(f(given), old)
        np.testing.assert_array_equal(W.value, 2 * old)
    with pytest.raises(InputValueError, match="overlaps a parameter"):
        f.bind(x=W.value)


def test_what_c_sees_overlaps_nothing_that_it_writes(backend):
    W, x = gx.parameter("W", X), gx.input("x", (2, 3))
    f = gx.compile([x], x, {W: W + x}, backend=backend)
    seen, place = [], f._caller.place
    f._caller.place = lambda array: (seen.append(array), place(array))[1]
    foreign, wide, out = np.zeros((4, 3), np.float32)[1:3], np.zeros((4, 3), np.float32), np.zeros((2, 3), np.float32)
    f(foreign)
    assert seen == [] if backend == "native" else seen[0] is foreign  # a view of other memory passes as it is
    for given in (W.value, W.value[:], W.value.reshape(6).reshape(2, 3), memoryview(W.value)):
        seen.clear()
        f(given)
        assert not np.shares_memory(seen[0], W.value)
    for given, target in ((out, out), (wide[:2], wide[1:3])):
        seen.clear()
        f(given, out=target)
        assert not np.shares_memory(seen[0], target)


def test_index_out_of_range(backend):
    W, labels = gx.parameter("W", np.ones((4, 10))), gx.input("labels", (4,), "int32")
    loss = gx.sum(gx.nn.softmax_cross_entropy(W * 2, labels))
    f = gx.compile([labels], loss, {W: W - gx.grad(loss, W)}, name="pick", backend=backend)
    before = W.value.copy()
    for wrong in ([0, 1, 12, 3], [0, 1, 2, -1]):
        at, value = (2, 12) if wrong[2] == 12 else (3, -1)
        words = rf"labels\[{at}\] is {value}, expected 0 <= index < 10"
        with pytest.raises(IndexOutOfRangeError, match=words):
            f(wrong)
        with pytest.raises(IndexOutOfRangeError, match=words):
            f.bind(labels=wrong)()
    np.testing.assert_array_equal(W.value, before)
    batches = np.zeros((5, 4), np.int64)
    batches[3, 1] = 10
    with pytest.raises(IndexOutOfRangeError, match=r"step 3: labels\[1\] is 10"):
        f.run(5, labels=batches)
    after = W.value.copy()
    W.value = before
    f.run(3, labels=np.zeros(4, int))
    np.testing.assert_array_equal(W.value, after)


# --- bind and run -----------------------------------------------------------------------------------------
def test_bind(backend):
    x = X.copy()
    f = affine(backend, lambda h, x: {"h": h, "total": gx.sum(h)})
    bound = f.bind(x=x, k=1)
    first = bound()
    assert first is bound.outputs
    np.testing.assert_array_equal(first["h"], X * 2 + 1)
    x += 1
    bound.inputs["k"][...] = 5
    assert bound()["total"] == (2 * (X + 1) + 5).sum()
    assert f(X, 1)["total"] == 36  # the function itself is untouched
    with pytest.raises(InputTypeError, match=r"must be a C-contiguous array of float32\[2, 3\] to be bound"):
        f.bind(x=x.astype(np.float64), k=1)
    with pytest.raises(InputTypeError, match="missing input"):
        f.bind(x=x)


def test_bound_keeps_its_buffers_alive(backend):
    bound = affine(backend).bind(x=X.copy(), k=1)
    gc.collect()
    junk = [np.full((2, 3), 9, np.float32) for _ in range(100)]
    np.testing.assert_array_equal(bound(), X * 2 + 1)
    del junk


def test_run(backend):
    s, x = gx.parameter("s", 0.0, dtype="float64"), gx.input("x", dtype="float64")
    f = gx.compile([x], {"old": s, "twice": 2 * x}, {s: s + x}, name="total", backend=backend)
    result = f.run(4, x=[1, 2, 3, 4])
    assert result["old"].tolist() == [0, 1, 3, 6]
    assert result["twice"].tolist() == [2, 4, 6, 8]
    f.run(3, x=10)
    assert s.value == 40
    assert f.run(0, x=1)["old"].shape == (0,)
    with pytest.raises(InputValueError, match=r"expects float64 or, one for each step, float64\[4\], got shape \(3,\)"):
        f.run(4, x=[1, 2, 3])
    for wrong in (-1, 2.0, True, "3"):
        with pytest.raises(InputTypeError, match="takes a number of steps"):
            f.run(wrong, x=1)
    with pytest.raises(InputValueError, match=r"total: .* output 'old'.* needs .* bytes"):
        f.run(2**56, x=1)
    assert s.value == 40
    assert f(x=1)["old"] == 40  # scalars work as before


def counter(backend):
    s = gx.parameter("s", 0, dtype="int64", trainable=False)
    return s, gx.compile([], s, {s: s + 1}, name="count", backend=backend)


def test_an_error_in_progress_leaves_whole_steps(backend):
    s, f = counter(backend)
    seen = []

    def progress(done, total):
        seen.append((done, total))
        assert s.value == done
        f()  # no lock is held: user code may call the function itself
        s.value = done
        if done > 100:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as raised:
        f.run(10**6, progress=progress)
    assert f"exactly {seen[-1][0]} of 1000000 steps" in raised.value.__notes__[0]
    assert s.value == seen[-1][0]


def test_a_run_goes_on_at_the_pace_of_the_last(backend):
    _, f = counter(backend)
    for first in (True, False):
        seen = []
        f.run(100, progress=lambda done, total, seen=seen: seen.append(done))
        assert (seen[0] == 1) is first
        assert seen[-1] == 100


def test_ctrl_c(backend):
    s = gx.parameter("s", 0, dtype="int64", trainable=False)
    f = gx.compile([], [], {s: s + 1}, name="count", backend=backend)
    for delay in (0.003, 0.02, 0.11):
        s.value = 0
        began = time.perf_counter()
        with pytest.raises(KeyboardInterrupt) as raised, ctrl_c(delay):
            f.run(10**13)
        assert time.perf_counter() - began < delay + 1
        assert raised.value.__notes__ == [f"count.run: exactly {s.value} of {10**13} steps were applied"]


# --- threads ------------------------------------------------------------------------------------------
def in_threads(work, n=4):
    errors = []

    def guarded(k):
        try:
            work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "deadlock"
    if errors:
        raise errors[0]


def test_pure_calls_in_parallel(backend):
    f, g = affine(backend), product(backend)

    def work(k):
        x = np.full((2, 3), k, np.float32)
        for i in range(200):
            assert (f(x, i) == 2 * k + i).all()
            assert g(k, i, 2)[0] == 2 * (k + i)

    in_threads(work)


def test_updates_in_parallel_are_serialised(backend):
    a, b = gx.parameter("a", np.zeros(50)), gx.parameter("b", np.zeros(50))
    both = gx.compile([], a - b, {a: a + 1, b: b + 1}, backend=backend)
    only = gx.compile([], b, {b: b + 0}, backend=backend)
    look = gx.compile([], [a, b], backend=backend)

    def work(k):
        for _ in range(100):
            if k < 2:
                assert not both().any()
            elif k == 2:
                only()
            else:
                left, right = look()
                assert (left == left[0]).all()
                assert (left == right).all()

    in_threads(work)
    assert (a.value == 200).all()


@pytest.mark.parametrize("parameters", ["one guard", "two guards"])
def test_a_writer_waits(backend, parameters):
    """For whoever holds a guard, and for readers of other threads that have not left."""
    a, b = gx.parameter("a", np.zeros(20)), gx.parameter("b", np.zeros(20))
    if parameters == "two guards":
        gx.compile([], [a, b], backend=backend)  # a reader that came first: each parameter has a guard of its own
    f = gx.compile([], [], {a: a + 1, b: b + 1}, backend=backend)
    guards = [guard for guard, _ in f._caller.guards]
    assert len(guards) == (2 if parameters == "two guards" else 1)
    for guard, parameter in zip(guards, (a, b), strict=False):
        for call in (f, lambda: f.run(1), f.bind()):
            before = a.value[0]
            thread = threading.Thread(target=call)
            with guarded([parameter]):
                thread.start()
                thread.join(0.05)
                assert a.value[0] == before
            thread.join(10)
            assert a.value[0] == before + 1
            guard.readers["somebody"] = threading.get_ident()
            thread = threading.Thread(target=call)
            thread.start()
            thread.join(0.05)
            assert a.value[0] == before + 1
            del guard.readers["somebody"]
            thread.join(10)
            assert a.value[0] == before + 2


def test_a_reader_waits_for_who_holds_a_guard(backend):
    a, seen = gx.parameter("a", np.zeros(20)), []
    look = gx.compile([], a * 2, backend=backend)
    for call in (look, lambda: look.run(1)[0], look.bind()):
        thread = threading.Thread(target=lambda call=call: seen.append(call()[0]))
        with guarded([a]):
            thread.start()
            thread.join(0.05)
            a.value[...] += 1
        thread.join(10)
    assert seen == [2, 4, 6]


def test_readers_do_not_wait_for_readers(backend):
    a = gx.parameter("a", np.zeros(20))
    look = gx.compile([], a * 2, backend=backend)
    guard = look._caller.guards[0][0]
    guard.readers["somebody"] = -1
    assert look().shape == (20,)
    assert list(guard.readers) == ["somebody"]


def test_guards_in_any_order_of_compilation(backend):
    """Readers compiled before writers, and functions that each write what the other reads: no deadlock, no tearing."""
    a, b = gx.parameter("a", np.zeros(20)), gx.parameter("b", np.zeros(20))
    look = gx.compile([], [a, b], backend=backend)
    first = gx.compile([], b, {a: a + 1}, backend=backend)
    second = gx.compile([], a, {b: b + 1}, backend=backend)

    def work(k):
        for _ in range(100):
            for array in np.atleast_2d((first, second, look)[k % 3]()):
                assert (array == array[0]).all()

    in_threads(work, 6)
    assert (a.value == 200).all()
    assert (b.value == 200).all()


def test_a_long_run_lets_others_in(backend):
    s = gx.parameter("s", 0, dtype="int64", trainable=False)
    f, look = gx.compile([], [], {s: s + 1}, backend=backend), gx.compile([], s, backend=backend)
    stop = threading.Event()

    def long(done, total):
        if stop.is_set():
            raise RuntimeError

    def train():
        with pytest.raises(RuntimeError):
            f.run(10**13, progress=long)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        time.sleep(0.3)
        began = time.perf_counter()
        seen = [look() for _ in range(3)]
        assert time.perf_counter() - began < 5
        assert seen == sorted(seen)
    finally:
        stop.set()
        thread.join(60)


def test_a_signal_handler_may_call_what_it_interrupts(backend):
    s, f = counter(backend)
    look = gx.compile([], s, backend=backend)
    calls = []

    def handler(*_):
        calls.append((f(), look()))

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        end = time.perf_counter() + 0.2
        own = 0
        while time.perf_counter() < end:
            f()
            look()
            own += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert calls
    # A handler in the middle of a NumPy step reads what that step then overwrites; in C there is no middle.
    if backend == "native":
        assert s.value == own + len(calls)


# --- threads of C, forks ------------------------------------------------------------------------------------
def test_thread_count(monkeypatch):
    available = len(os.sched_getaffinity(0))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert thread_count() == available
    assert thread_count(1) == 1
    assert thread_count(10**6) == available
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")
    assert thread_count(8) == 1
    for junk in ("", "many", "0", "-3"):
        monkeypatch.setenv("OMP_NUM_THREADS", junk)
        assert thread_count() == available


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads: the point of it
def test_fork_while_another_thread_holds_the_lock(backend):
    s, f = counter(backend)
    hold = threading.Event()

    def holder():
        with guarded([s]):
            hold.set()
            time.sleep(0.5)

    thread = threading.Thread(target=holder)
    thread.start()
    hold.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            f.run(3)
            os._exit(0 if f() == 3 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    assert s.value == 0


# --- compile: the front half ----------------------------------------------------------------------------
def test_compile_refuses(backend):
    x, y, W = gx.input("x", (2,)), gx.input("y"), gx.parameter("W", [1.0, 2.0])
    other, i = gx.parameter("W", 1.0), gx.parameter("i", 1, dtype="int32", trainable=False)
    cases = [
        (([x], x * y), {}, GraphError, "input 'y' is needed but not listed"),
        (([x, x], x), {}, GraphError, "'x' is listed twice"),
        (([x * 1], x), {}, GraphError, "is computed, not an input"),
        (([W], W), {}, GraphError, "is a parameter"),
        ((["x"], x), {}, GraphError, "inputs must be nodes, got 'x'"),
        (({"x": x}, x), {}, GraphError, "inputs must be a sequence"),
        (([x], 3.0), {}, GraphError, "outputs must be a node"),
        (([x], [x, None]), {}, GraphError, "outputs must be nodes, got None"),
        (([x], {1: x}), {}, GraphError, "key must be a non-empty string"),
        (([x, gx.input("x", (3,))], x), {}, NameClashError, "'x' occurs with two types"),
        (([], W * other), {}, NameClashError, "'W' names a parameter"),
        (([gx.input("W")], W * gx.input("W")), {}, NameClashError, "and an input"),
        (([gx.input("out")], W), {}, NameClashError, "keyword of the call"),
        (([], []), {}, GraphError, "nothing to compute"),
        (([x], x, {x: x}), {}, GraphError, "only a parameter can be updated"),
        (([x], x, {W: y}), {}, ShapeError, r"the new value of 'W' has shape \(\)"),
        (([x], x, {i: i * 0.5}), {}, DTypeError, r"is float32, the parameter int32; use .astype"),
        (([x], x, {i: gx.input("n", dtype="int64")}), {}, DTypeError, "is int64, the parameter int32"),
        (([x], x), {"name": ""}, GraphError, "non-empty string"),
        (([x], x), {"threads": 0}, GraphError, "threads must be a positive number"),
        (([x], x), {"backend": "cuda"}, GraphError, "backend must be"),
    ]
    for args, options, error, words in cases:
        with pytest.raises(error, match=words):
            gx.compile(*args, **({"backend": backend} | options))


def test_updates_become_the_type_of_the_parameter(backend):
    w, i = gx.parameter("w", [1.0, 2.0]), gx.parameter("i", 1, dtype="int32", trainable=False)
    d = gx.input("d", (2,), "float64")
    f = gx.compile([d], [], {w: w + d, i: 7}, backend=backend)
    assert f([0.5, 0.25]) == []
    assert w.value.tolist() == [1.5, 2.25]
    assert i.value == 7
    gx.compile([], [], {w: 0.5}, backend=backend)()
    assert w.value.tolist() == [0.5, 0.5]


def test_looking_inside(backend):
    f = affine(backend)
    assert repr(f) == "<graphc function affine(x: float32[2, 3], k: int32) -> output: float32[2, 3]>"
    assert [str(slot) for slot in f.inputs] == ["x: float32[2, 3]", "k: int32"]
    assert f.arena_bytes >= 0
    if backend == "numpy":
        assert f.kernels == ()
        for what in ("c_source", "c_header", "library"):
            with pytest.raises(GraphcError, match='compiled with backend="numpy"'):
                getattr(f, what)


def test_an_input_that_nothing_reads(backend):
    f = gx.compile([gx.input("x"), gx.input("y", (2,))], gx.input("x") * 2, backend=backend)
    assert f(3, [1, 2]) == 6


def test_inputs_constants_and_one_node_twice_as_outputs(backend):
    x, unused, empty, truth = gx.input("x", (3,)), gx.input("unused", (2, 2)), gx.input("empty", (0, 3)), gx.input("truth", dtype="bool")
    w = gx.parameter("w", np.arange(2))
    outputs = {
        "x": x, "again": x, "more": x + 1, "once more": x + 1, "whole": gx.constant(np.arange(4)), "number": gx.constant(2.5), "yes": gx.constant(True),
        "nothing": empty * 2, "no rows": empty, "sum": gx.sum(empty, 0), "none": gx.zeros((0,)), "parameter": w, "truth": truth, "unread": unused,
    }  # fmt: skip
    f = gx.compile([unused, x, empty, truth], outputs, backend=backend)
    got = f([[1, 2], [3, 4]], [1, 2, 3], np.zeros((0, 3)), False)
    want = [[1, 2, 3], [1, 2, 3], [2, 3, 4], [2, 3, 4], [0, 1, 2, 3], 2.5, True, np.zeros((0, 3)), np.zeros((0, 3)), [0, 0, 0], [], [0, 1], False, [[1, 2], [3, 4]]]
    for name, value in zip(outputs, want, strict=True):
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    assert got["x"] is not got["again"]
    assert not np.shares_memory(got["x"], got["again"])
    assert not np.shares_memory(got["parameter"], w.value)
    assert gx.compile([x], gx.constant(1.0), backend=backend)([0, 0, 0]) == 1
    assert gx.compile([], gx.constant([1, 2]), backend=backend)().tolist() == [1, 2]


def test_hundreds_of_inputs_outputs_and_updates(backend):
    inputs = [gx.input(f"x{k}", (k % 3,)) for k in range(200)]
    parameters = [gx.parameter(f"p{k}", np.full(k % 3, k)) for k in range(200)]
    everything = gx.concatenate([x * p for x, p in zip(inputs, parameters, strict=True)])
    f = gx.compile(inputs, [*inputs, everything, *inputs], {p: x for x, p in zip(inputs, parameters, strict=True)}, backend=backend)
    values = [np.full(k % 3, 0.5, "float32") for k in range(200)]
    got = f(*values)
    assert len(got) == 401
    assert all(np.array_equal(a, b) for a, b in zip(got[:200], values, strict=True))
    assert got[200].tolist() == [k / 2 for k in range(200) for _ in range(k % 3)]
    assert all(np.array_equal(p.value, value) for p, value in zip(parameters, values, strict=True))
    assert f(*values)[200].tolist() == [0.25] * 199


# --- the C ABI, against C written by hand -------------------------------------------------------------------
HAND = """
#include <stdint.h>
typedef struct { const float *x; const int32_t *at; float *w; float *y; float *t; void *arena; int64_t threads; } args;
int hand(const args *a);
int hand_run(const args *a, const int64_t *strides, int64_t steps, int64_t *done);
int hand(const args *a) {                        /* y = x + w[at]; t = threads; w[at] += x[0] */
    float *scratch = a->arena;
    if (*a->at < 0 || *a->at >= 4) return 1;
    for (int i = 0; i < 3; i++) scratch[i] = a->x[i] + a->w[*a->at];
    for (int i = 0; i < 3; i++) a->y[i] = scratch[i];
    *a->t = (float)a->threads;
    a->w[*a->at] += a->x[0];
    return 0;
}
int hand_run(const args *a, const int64_t *s, int64_t steps, int64_t *done) {
    args now = *a;
    for (*done = 0; *done < steps; ++*done) {
        int status = hand(&now);
        if (status) return status;
        now.x += s[0]; now.at += s[1]; now.y += s[2]; now.t += s[3];
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def hand_library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("hand")
    (folder / "hand.c").write_text(HAND)
    subprocess.run([compiler, "-std=c99", "-O1", "-fPIC", "-shared", "hand.c", "-o", "hand.so"], cwd=folder, check=True)
    return folder / "hand.so"


def hand(library: Path, threads: int | None = None) -> tuple[Parameter, Function]:
    w = gx.parameter("w", np.zeros(4))
    signature = Signature(
        name="hand",
        inputs=(Slot("x", TensorType((3,), FLOAT32)), Slot("at", TensorType((), INT32))),
        parameters=((w, True),),
        outputs=(Slot("y", TensorType((3,), FLOAT32)), Slot("t", TensorType((), FLOAT32))),
        form="dict",
        arena_bytes=12,
        checks=(Check("w", "at", 4),),
        threaded=True,
    )
    program = NativeProgram(library, signature, c_source=library.with_suffix(".c"))
    return w, Function(program, threads=threads)


def test_native_frame(hand_library):
    w, f = hand(hand_library, threads=1)
    assert f.c_source == HAND
    result = f([1, 2, 3], at=2)
    assert (result["y"].tolist(), result["t"]) == ([1, 2, 3], 1)
    assert f(np.ones(3, np.float32), 2)["y"].tolist() == [2, 2, 2]
    assert w.value.tolist() == [0, 0, 2, 0]
    with pytest.raises(IndexOutOfRangeError, match="hand: at is 4, expected 0 <= index < 4"):
        f([1, 2, 3], 4)
    bound = f.bind(x=[1, 1, 1], at=0)
    bound()
    bound.inputs["at"][...] = 3
    assert bound()["y"].tolist() == [1, 1, 1]
    assert w.value.tolist() == [1, 0, 2, 1]
    bound.inputs["at"][...] = -1
    with pytest.raises(IndexOutOfRangeError, match="at is -1"):
        bound()


def test_native_run(hand_library):
    w, f = hand(hand_library)
    result = f.run(1000, x=np.ones(3), at=np.arange(1000) % 4)
    assert w.value.tolist() == [250] * 4
    np.testing.assert_array_equal(result["y"][:, 0], np.arange(1000) // 4 + 1)
    at = np.arange(1000) % 4
    at[700] = 9
    with pytest.raises(IndexOutOfRangeError, match="step 700: at is 9"):
        f.run(1000, x=np.ones(3), at=at)
    assert w.value.sum() == 1700
    assert f([0, 0, 0], 0)["t"] == thread_count()


def test_native_threads_after_fork(hand_library):
    if thread_count() == 1:
        pytest.skip("one processor")
    _, f = hand(hand_library)
    bound = f.bind(x=[0, 0, 0], at=0)
    assert f([0, 0, 0], 0)["t"] == bound()["t"] == thread_count()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            _, fresh = hand(hand_library)
            seen = [f([0, 0, 0], 0)["t"], bound()["t"], fresh([0, 0, 0], 0)["t"], thread_count()]
            os._exit(0 if seen == [1, 1, 1, 1] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert f([0, 0, 0], 0)["t"] == thread_count()


def test_loading_needs_no_parser(hand_library):
    script = f"""
import sys
from pathlib import Path
from graphc.program import NativeProgram, Signature
NativeProgram(Path({str(hand_library)!r}), Signature("hand", (), (), ()))
assert not {{"cffi", "pycparser", "jinja2"}} & set(sys.modules), "imported on the warm path"
"""
    subprocess.run([sys.executable, "-c", script], check=True)
