"""Profiles: the same kernels with a clock between them, and nothing else changes."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import graphc as gx
from graphc.compile import freeze
from graphc.pipeline import render
from graphc.profile import limits, report
from graphc.program import KernelReport
from graphc.types import GraphcError, IndexOutOfRangeError, InputTypeError, InputValueError, NameClashError


def net(**options):
    W1, b1 = gx.parameter("W1", gx.init.he_normal((64, 48), seed=0)), gx.parameter("b1", np.zeros(48))
    W2, b2 = gx.parameter("W2", gx.init.he_normal((48, 10), seed=1)), gx.parameter("b2", np.zeros(10))
    X, labels = gx.input("X", (32, 64)), gx.input("labels", (32,), "int32")
    loss = gx.mean(gx.nn.softmax_cross_entropy(gx.nn.relu(X @ W1 + b1) @ W2 + b2, labels))
    return gx.train_step(loss, gx.optim.SGD(0.1, momentum=0.9), name="net", **options)


def batch():
    rng = np.random.default_rng(0)
    return {"X": rng.normal(size=(32, 64)).astype(np.float32), "labels": np.arange(32, dtype=np.int32) % 10}


def test_a_row_for_each_kernel(capsys):
    step = net()
    found = step.profile(**batch())
    assert [row.name for row in found.rows] == [kernel.name for kernel in step.kernels]
    assert [(row.flops, row.bytes) for row in found.rows] == [(kernel.flops, kernel.bytes) for kernel in step.kernels]
    assert found.times.shape[1] == len(step.kernels) + 2
    assert (np.diff(found.times, axis=1) >= 0).all()
    contractions = [row for row in found.rows if row.kernel.kind == "contraction"]
    assert all(row.seconds > 0 and row.gflops > 0 and row.gbytes > 0 for row in contractions)
    # The kernels are what a step consists of. Loose, for the machine may do something else meanwhile.
    assert found.seconds == pytest.approx(found.step_seconds, rel=1)
    assert 0 < found.of_limit < 2
    printed = capsys.readouterr().out
    assert printed == f"{found}\n"
    lines = printed.splitlines()
    assert lines[1].split()[:4] == ["kernel", "kind", "time", "share"]
    assert [line.split()[0] for line in lines[3:-2]] == [kernel.name for kernel in step.kernels]


def test_nothing_changes():
    step, other = net(), net()
    step(**batch())
    other(**batch())
    before = {name: parameter.value.copy() for name, parameter in step.parameters.items()}
    source = step.c_source
    step.profile(**batch(), show=False)
    assert step.c_source == source
    assert set(before) == {"W1", "b1", "W2", "b2", *step.state}
    for name, parameter in step.parameters.items():
        np.testing.assert_array_equal(parameter.value, before[name], err_msg=name)
    np.testing.assert_array_equal(step.run(5, **batch()), other.run(5, **batch()))


def test_scalars_and_positions():
    x, y, z = gx.input("x"), gx.input("y"), gx.input("z")
    product = gx.compile([x, y, z], [(x + y) * z], name="product")
    found = product.profile(-2, 5, z=-4, show=False)
    assert len(found.rows) == len(product.kernels) == 1
    assert product(-2, 5, -4) == [-12.0]
    with pytest.raises(InputTypeError, match="missing input z"):
        product.profile(1, 2)
    empty = gx.compile([x], gx.sum(gx.constant(np.zeros((0, 3)))), name="empty")
    assert len(empty.profile(1, show=False).rows) == len(empty.kernels)


def test_trace(tmp_path):
    step = net()
    found = step.profile(**batch(), show=False, trace=tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    steps = [event for event in events if event["ph"] == "X" and event["cat"] == "step"]
    kernels = [event for event in events if event["ph"] == "X" and event["cat"] != "step"]
    assert len(kernels) == len(steps) * len(step.kernels)
    assert {event["name"] for event in kernels} == {row.name for row in found.rows}
    first = [event for event in kernels if event["ts"] + event["dur"] <= steps[0]["ts"] + steps[0]["dur"] + 1e-6]
    assert [event["name"] for event in first] == [row.name for row in found.rows]
    assert steps[0]["ts"] == 0
    assert kernels[1]["args"]["formulas"] == list(step.kernels[1].formulas)
    assert os.listdir(tmp_path) == ["trace.json"]


def test_refusals():
    step = net(backend="numpy")
    with pytest.raises(GraphcError, match=r'net has no kernels to profile: it was compiled with backend="numpy"'):
        step.profile(**batch())
    step = net()
    before = step.parameters["W1"].value.copy()
    with pytest.raises(InputTypeError, match="takes its inputs by name"):
        step.profile(batch()["X"])
    with pytest.raises(InputValueError, match=r"net.profile: input 'X' expects float32\[32, 64\]"):
        step.profile(**batch() | {"X": np.zeros((3, 3))})
    with pytest.raises(IndexOutOfRangeError, match=r"labels\[3\] is 10"):
        step.profile(**batch() | {"labels": np.where(np.arange(32) == 3, 10, 0)})
    np.testing.assert_array_equal(step.parameters["W1"].value, before)
    x = gx.input("trace")
    with pytest.raises(NameClashError, match="keyword of the call"):
        gx.compile([x], x + 1)


def test_names_of_the_instrumented_c():
    """A kernel and a tensor that are called like what is added for the clock."""
    profile, times = gx.parameter("profile", np.zeros(4)), gx.input("times", (4,))
    step = gx.train_step(gx.sum((profile - times) ** 2), gx.optim.SGD(0.1), name="f")
    step.profile(times=np.ones(4), show=False)
    assert step(times=np.ones(4)) == 4


def test_the_plain_c_has_no_clock():
    x = gx.input("x", (100,))
    graph = freeze([x], (gx.exp(x),), ("y",), "single", {}, "plain")
    plain, timed = (render(graph, 32, 2, timed=flag) for flag in (False, True))
    assert "clock" not in plain.c_source
    assert "time.h" not in plain.c_source
    assert timed.c_source.count("gx_clock()") == 3  # two before the first kernel, one after it
    assert plain.kernels == timed.kernels
    assert plain.c_header == timed.c_header


def test_the_figures():
    """Times that are known: readings at 0, 10 (a clock takes 10 ns), then kernels of 90 and 990 ns; one outlier."""
    kernels = [
        KernelReport("a", "loops", "", (), flops=9_000, bytes=900),
        KernelReport("b", "loops", "", (), flops=0, bytes=9_800, dtype="float64"),
    ]
    times = np.cumsum(np.tile([0, 10, 100, 1000], (16, 1)), axis=1)
    times[7, 2:] += 10**9
    found = report("f", kernels, times, 2e-6, 1)
    assert [row.seconds for row in found.rows] == pytest.approx([90e-9, 990e-9])
    assert found.clock_seconds == pytest.approx(10e-9)
    assert found.rows[0].gflops == pytest.approx(100)
    assert found.rows[1].gbytes == pytest.approx(9800 / 990)
    assert found.rows[1].bound == "bytes"
    assert found.rows[1].limit == pytest.approx(9800 / limits().bandwidth(9800))
    assert found.rows[1].of_limit == pytest.approx(found.rows[1].limit / 990e-9)


def test_limits():
    single, double = limits().peak("float32"), limits().peak("float64")
    assert 1e9 < double < single < 1e13
    assert limits().peak("float32") == single  # measured once
    assert 1e8 < limits().bandwidth(2**26) < 1e13
    assert limits() is limits()
