"""Agreement first, then interleaved rounds: every contender of a row in turn, again and again; the median counts."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.peers import Contender
from benchmarks.workload import Array, Workload

__all__ = ["Disagreement", "check", "expectations", "interleave", "settle", "tolerance"]

CHECKED_STEPS = 3


class Disagreement(Exception):  # noqa: N818  (a finding, more than an error)
    """A contender computes something else; the message says what."""


def tolerance(workload: Workload) -> float:
    """Of parameters, the change counts, of which float32 keeps some three digits less than of a gradient."""
    if workload.dtype == np.float64:
        return 1e-10
    return 1e-3 if workload.steps else 1e-5


def check(contender: Contender, workload: Workload, expected: Mapping[int, Mapping[str, Array]]) -> float:
    """The largest error after one step; raises :class:`Disagreement` beyond the tolerance.

    Of the loss and of every gradient, or of the change of every parameter; relative to the largest element. A few more
    steps show that batches rotate, parameters and velocities go on: there 0.1 is enough, for a relu at its kink turns.
    """
    error = 0.0
    for steps, bound in ((CHECKED_STEPS, 0.1 if workload.steps else tolerance(workload)), (1, tolerance(workload))):
        contender.reset()
        contender.run(steps)
        found, error = contender.state(), 0.0
        for name, wanted in expected[steps].items():
            start = np.asarray(workload.parameters.get(name, 0.0), np.float64)
            change, got = wanted - start, np.asarray(found[name], np.float64) - start
            if change.shape != got.shape:
                raise Disagreement(f"{name} has shape {got.shape}, expected {change.shape}")
            worst = float(np.max(np.abs(got - change)) / np.max(np.abs(change)))
            if not worst <= bound:
                raise Disagreement(
                    f"{name} is off by {worst:.1e} of its largest element after {steps} step(s), bound {bound:.0e}"
                )
            error = max(error, worst)
    return error


def expectations(workload: Workload) -> dict[int, dict[str, Array]]:
    return {steps: workload.expected(steps) for steps in (1, CHECKED_STEPS)}


def interleave(contenders: Mapping[Any, Contender], *, rounds: int, seconds: float) -> dict[Any, list[float]]:
    """Seconds per step of each contender in each round; ``seconds`` is what one sample should last."""
    counts = {}
    for key, contender in contenders.items():
        contender.reset()
        settle()
        n, took = 1, _time(contender, 1)
        took = min(took, _time(contender, 1))  # the first one may have been cold
        while took < seconds / 4:
            n *= int(np.clip(seconds / 4 / max(took, 1e-9), 2, 64))
            took = _time(contender, n)
        counts[key] = max(1, round(n * seconds / took))
    samples: dict[Any, list[float]] = {key: [] for key in contenders}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for key, contender in contenders.items():
                contender.reset()
                settle()
                contender.run(max(1, counts[key] // 20))
                samples[key].append(_time(contender, counts[key]) / counts[key])
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return samples


def settle() -> None:
    """Wait until no thread of the contender before spins any more, which would take a core from the next one: OpenMP's threads
    wait for work some 10 ms before they sleep, OpenBLAS's 105 ms. Told to wait actively (OMP_WAIT_POLICY) they never sleep;
    after a second there is nothing to wait for."""
    busy, end = True, time.perf_counter() + 1
    while busy and time.perf_counter() < end:
        used = time.process_time()
        time.sleep(0.01)
        busy = time.process_time() - used > 0.001


def _time(contender: Contender, n: int) -> float:
    start = time.perf_counter()
    contender.run(n)
    return time.perf_counter() - start
