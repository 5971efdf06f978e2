"""Agreement first, then interleaved rounds: every contender of a row in turn, again and again; the median counts."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.peers import Contender
from benchmarks.workload import Array, Workload

__all__ = ["CHECKED_STEPS", "disagreement", "interleave", "tolerance"]

CHECKED_STEPS = 3


def tolerance(workload: Workload) -> float:
    """Of parameters, the change counts, of which float32 keeps some three digits less than of a gradient."""
    if workload.dtype == np.float64:
        return 1e-10
    return 1e-3 if workload.steps else 1e-5


def disagreement(contender: Contender, workload: Workload, expected: Mapping[str, Array]) -> float:
    """The largest error of the loss and of every gradient (after some steps: of the change of every parameter),
    relative to the largest element."""
    contender.reset()
    contender.run(CHECKED_STEPS)
    found = contender.state()
    worst = 0.0
    for name, wanted in expected.items():
        start = np.asarray(workload.parameters.get(name, 0.0), np.float64)
        change, got = wanted - start, np.asarray(found[name], np.float64) - start
        if change.shape != got.shape:
            raise ValueError(f"{name}: shape {got.shape}, expected {change.shape}")
        error = np.max(np.abs(got - change)) / np.max(np.abs(change))
        worst = max(worst, float(error)) if np.isfinite(error) else np.inf
    return worst


def interleave(contenders: Mapping[Any, Contender], *, rounds: int, seconds: float) -> dict[Any, list[float]]:
    """Seconds per step of each contender in each round; ``seconds`` is what one sample should last."""
    counts = {}
    for key, contender in contenders.items():
        contender.reset()
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
                time.sleep(0.002)  # the threads of the one before have gone to sleep
                contender.run(max(1, counts[key] // 20))
                samples[key].append(_time(contender, counts[key]) / counts[key])
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return samples


def _time(contender: Contender, n: int) -> float:
    start = time.perf_counter()
    contender.run(n)
    return time.perf_counter() - start
