"""Gradient descent on the Rosenbrock function: a step so small that only overhead is left."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import Array, Workload, everywhere

__all__ = ["rosenbrock"]


def formula(xp: Any, x: Any) -> Any:
    head, tail = x[:-1], x[1:]
    return xp.sum(100 * (tail - head * head) ** 2 + (1 - head) ** 2)


def reference(x: Array) -> tuple[float, dict[str, Array]]:
    valley, gradient = x[1:] - x[:-1] ** 2, np.zeros_like(x)
    gradient[:-1] = -400 * valley * x[:-1] - 2 * (1 - x[:-1])
    gradient[1:] += 200 * valley
    return np.sum(100 * valley**2 + (1 - x[:-1]) ** 2), {"x": gradient}


def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
    x, rate = parameters["x"], workload.learning_rate
    head, tail = x[:-1], x[1:]
    valley, slope = np.empty_like(head), np.empty_like(head)

    def step() -> Any:
        np.multiply(head, head, out=valley)
        np.subtract(tail, valley, out=valley)
        np.subtract(1, head, out=slope)
        loss = 100 * (valley @ valley) + slope @ slope
        np.multiply(valley, 200 * rate, out=valley)
        np.multiply(slope, 2 * rate, out=slope)
        slope_ = np.multiply(valley, head)
        slope_ *= 2
        slope_ += slope
        np.add(head, slope_, out=head)
        np.subtract(tail, valley, out=tail)
        return loss

    return step


def rosenbrock(size: int) -> Workload:
    start = np.resize(np.array([-1.2, 1.0], np.float32), size)
    return Workload(
        key="rosenbrock", what=f"{size}-dimensional Rosenbrock, gradient-descent step",
        inputs={}, parameters={"x": start}, wrt=("x",), formulas=everywhere(formula),
        reference=reference, numpy=numpy, flops=12 * size, bytes=2 * 4 * size, learning_rate=2e-4,
    )  # fmt: skip
