"""The benchmarks compute what they say: on small versions of every row, and with no clock."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from benchmarks import limits
from benchmarks.peers import PEERS
from benchmarks.peers.graphc import graph
from benchmarks.timing import Disagreement, check, expectations, tolerance
from benchmarks.workloads import ROWS

KEYS = list(ROWS)


@pytest.mark.parametrize("key", KEYS)
def test_numpy_agrees(key):
    workload = ROWS[key].small()
    check(PEERS["numpy"].load().build(workload, "call"), workload, expectations(workload))


@pytest.mark.parametrize("key", KEYS)
def test_the_reference_is_the_gradient_of_the_graphc_formula(key):
    workload = ROWS[key].small()
    loss, inputs, parameters = graph(workload)
    batch = workload.batches()[0] if inputs else {}
    values = batch | dict(workload.parameters)
    exact = {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in values.items()}
    value, gradients = workload.reference(**exact)
    symbolic = gx.grad(loss, [(inputs | parameters)[name] for name in workload.wrt])
    for wanted, node in ((value, loss), *zip((gradients[name] for name in workload.wrt), symbolic, strict=True)):
        np.testing.assert_allclose(gx.evaluate(node, batch), wanted, rtol=0, atol=1e-5 * np.max(np.abs(wanted)))


CASES = [("product", "call"), ("fit", "bind"), ("rosenbrock", "loop"), ("tiny-mlp", "call"), ("deep-mlp", "loop"), ("layer-norm", "call"), ("attention", "bind"), ("adam", "call")]


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize(("key", "mode"), CASES)
def test_graphc_agrees(key, mode, backend):
    workload = ROWS[key].small()
    check(PEERS["graphc"].load().build(workload, mode, backend), workload, expectations(workload))


def test_a_wrong_gradient_is_noticed():
    workload = ROWS["digits-mlp"].small()
    expected = expectations(workload)
    expected[1]["W1"] = (
        expected[1]["W1"] + 2 * tolerance(workload) * np.abs(expected[1]["W1"] - workload.parameters["W1"]).max()
    )
    with pytest.raises(Disagreement, match="W1 is off"):
        check(PEERS["numpy"].load().build(workload, "call"), workload, expected)


def test_the_limit_of_a_row_is_what_bounds_it():
    machine = limits.measure()
    seconds, *bound = machine.limit(ROWS["wide-mlp"].build())
    assert bound == [machine.cores, "flops"]
    assert 1e-5 < seconds < 1
    seconds, *bound = machine.limit(ROWS["adam"].small())
    assert bound == [1, "bytes"]
    assert 0 < seconds < 1e-5
    trip = machine.round_trip()
    assert trip is None or 5 < trip < 1e9  # 50 ns on idle cores; where they are busy, slices of the scheduler: 8 ms


def test_growth() -> None:
    from benchmarks import growth

    small, large = growth.compile_growth([1, 3])
    assert 0 < small["nodes"] < large["nodes"]
    assert min(small.values()) >= 0
    (arena,) = growth.arena_growth([(4, 8, 8)])
    assert 0 < arena["alive"] <= arena["arena"]
    (step,) = growth.step_growth([(8, 4)])
    assert step["step"] > 0
